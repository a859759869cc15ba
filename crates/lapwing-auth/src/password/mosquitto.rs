//! Password files of Mosquitto.

use std::path::Path;

use super::hash::PasswordHash;
use crate::fault::FileError;

/// The users of a password file of Mosquitto's, in their order. `path` is for what is said of it.
///
/// # Errors
///
/// The first line that is no user with a hash. Mosquitto itself skips some of these.
pub fn read(path: &Path, text: &str) -> Result<Vec<(String, PasswordHash)>, FileError> {
    let mut users: Vec<(String, PasswordHash)> = Vec::new();
    let mut known = hashbrown::HashSet::new();
    for (line, number) in text.split('\n').zip(1..) {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |message: &dyn std::fmt::Display| FileError::at(path, number, message);
        let (name, hash) = line.split_once(':').ok_or_else(|| wrong(&"is not written NAME:HASH"))?;
        if name.is_empty() || name.contains('\0') {
            return Err(wrong(&"has no user name"));
        }
        let hash = PasswordHash::parse(hash.trim_end()).map_err(|error| {
            wrong(&format_args!(
                "what follows the name {error}; `mosquitto_passwd -U` makes hashes of passwords"
            ))
        })?;
        if !known.insert(name.to_owned()) {
            return Err(wrong(&format_args!("the user {name:?} is there already")));
        }
        users.push((name.to_owned(), hash));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    // [attack: faulty-password-file]
    #[test]
    fn each_line_is_a_user_or_an_error_with_its_number() {
        let long = format!("{}==", "A".repeat(86));
        let read = |text: &str| read(Path::new("passwd"), text).map_err(|error| error.to_string());
        let users = read(&format!("# people\nanna:$7$101$MTIz${long}\r\n\nbert b:$6$MTIz${long}\n")).unwrap();
        let kinds: Vec<_> = users.iter().map(|(name, hash)| (name.as_str(), hash.kind())).collect();
        assert_eq!(kinds, [("anna", "pbkdf2-sha512"), ("bert b", "sha512")]);
        for (text, line, expected) in [
            ("anna".to_owned(), 1, "NAME:HASH"),
            ("anna:".into(), 1, "no hash"),
            ("\nanna:SECRET".into(), 2, "mosquitto_passwd -U"),
            (format!(":$6$MTIz${long}"), 1, "no user name"),
            (format!("a:$6$MTIz${long}\na:$6$MTIz${long}"), 2, "there already"),
            (format!("anna:$7$101$MTIz${long}:x"), 1, "not a whole hash"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(&format!("passwd line {line}: ")), "{text:?}: {error}");
            assert!(error.contains(expected) && !error.contains("SECRET"), "{text:?}: {error}");
        }
    }
}
