//! The users there are, from a file.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use hashbrown::HashMap;
use serde::Deserialize;
use toml::Spanned;

use super::hash::{HashError, PasswordHash, Workspace};
use super::scram::Verifier;
use crate::fault::{self, FileError, Source};
use crate::many::Many;
use crate::permission::{GROUP, Glob};

/// Bytes that a user name may have, as everything with a length in front of it in MQTT.
const NAME_BYTES_MAXIMUM: usize = 65_535;

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user name.
    pub name: Arc<str>,
    /// What is kept of its password; `None` for one that shows in another way who it is.
    pub password: Option<PasswordHash>,
    /// What is kept of its password for SCRAM-SHA-256.
    pub scram: Option<Verifier>,
    /// Groups, as attributes with the name `group`, and other attributes.
    pub attributes: Arc<[(Arc<str>, Arc<str>)]>,
    /// Patterns of the client identifiers that it may use; any, where there are none.
    pub client_ids: Arc<[Glob]>,
}

/// The users of a file.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<Arc<str>, Arc<User>>,
    /// Compared with the passwords of users that there are not, so that they take as long.
    stand_in: PasswordHash,
    /// Of verifiers for SCRAM: how many iterations most have, and bytes of salt.
    scram_shape: Option<(NonZeroU32, usize)>,
    /// What users that there are not are made of. It changes with each reading.
    process_key: [u8; 32],
}

/// What came of a user name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// It is the password of this user.
    Correct(Arc<User>),
    /// It is another password than that of the user.
    Wrong,
    /// There is no such user, or none with a password. It took as long to find out.
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    users: BTreeMap<String, Spanned<RawUser>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    password: Option<Spanned<String>>,
    scram_sha_256: Option<Spanned<String>>,
    #[serde(default)]
    no_password: bool,
    groups: Option<Many>,
    attributes: Option<BTreeMap<String, Many>>,
    client_ids: Option<Spanned<Many>>,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or the first thing in it that is wrong.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(path, &fault::read(path)?)
    }

    /// Reads the text of a file. `path` is for what is said of it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let source = Source::new(path, text);
        let raw: RawFile = toml::from_str(text).map_err(|error| source.toml_with_secrets(&error))?;
        let users = raw.users.into_iter().map(|(name, raw)| user(name, raw, &source).map(Arc::new));
        let by_name = users.map(|user| user.map(|user| (Arc::clone(&user.name), user)));
        let by_name = by_name.collect::<Result<HashMap<_, _>, _>>()?;
        let stand_in = stand_in(by_name.values()).map_err(|error| FileError::new(path, error))?;
        let scram_shape = scram_shape(by_name.values());
        let mut process_key = [0; 32];
        let random = aws_lc_rs::rand::SystemRandom::new();
        random.fill(&mut process_key).map_err(|_| FileError::new(path, HashError::Random))?;
        Ok(Self { by_name, stand_in, scram_shape, process_key })
    }

    /// The user with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// All users, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether any user can authenticate by SCRAM-SHA-256.
    pub(crate) fn has_scram(&self) -> bool {
        self.scram_shape.is_some()
    }

    /// How the verifiers of most users look: iterations, and bytes of salt.
    pub(crate) fn scram_shape(&self) -> (NonZeroU32, usize) {
        self.scram_shape.unwrap_or(Verifier::SHAPE)
    }

    /// A key that nobody knows.
    pub(crate) fn process_key(&self) -> &[u8; 32] {
        &self.process_key
    }

    /// Whether a password is that of a user. It takes the time that the hash was made to take.
    pub fn verify(&self, name: &str, password: &[u8], workspace: &mut Workspace) -> Verification {
        let user = self.by_name.get(name);
        let hash = user.and_then(|user| user.password.as_ref());
        let is_correct = hash.unwrap_or(&self.stand_in).verify(password, workspace);
        match (user, hash) {
            (Some(user), Some(_)) if is_correct => Verification::Correct(Arc::clone(user)),
            (Some(_), Some(_)) => Verification::Wrong,
            _ => Verification::Unknown,
        }
    }
}

fn user(name: String, raw: Spanned<RawUser>, source: &Source<'_>) -> Result<User, FileError> {
    let place = Some(raw.span());
    let raw = raw.into_inner();
    let wrong = |span, error: &dyn fmt::Display| source.error(span, format_args!("user {name:?}: {error}"));
    if name.is_empty() || name.contains('\0') || name.len() > NAME_BYTES_MAXIMUM {
        return Err(wrong(place, &"a name has at least one character, at most 65,535 bytes, and no U+0000"));
    }
    let password = raw.password.map(|text| {
        PasswordHash::parse(text.get_ref())
            .map_err(|error| wrong(Some(text.span()), &format_args!("`password` {error}")))
    });
    let scram = raw.scram_sha_256.map(|text| {
        Verifier::parse(text.get_ref())
            .map_err(|error| wrong(Some(text.span()), &format_args!("`scram_sha_256` {error}")))
    });
    let (password, scram) = (password.transpose()?, scram.transpose()?);
    match (password.is_some() || scram.is_some(), raw.no_password) {
        (false, false) => {
            let message = "has neither `password` nor `scram_sha_256`; `no_password = true` is for users that show by a \
                           certificate who they are";
            return Err(wrong(place, &message));
        }
        (true, true) => return Err(wrong(place, &"has a password, and `no_password = true`")),
        _ => {}
    }
    let groups = raw.groups.map(|groups| (GROUP.to_owned(), groups));
    let lists = groups.into_iter().chain(raw.attributes.into_iter().flatten());
    let attributes = lists.flat_map(|(name, Many(values))| {
        let name: Arc<str> = name.into();
        values.into_iter().map(move |value| (Arc::clone(&name), value.into()))
    });
    let attributes = attributes.collect();
    let client_ids = match raw.client_ids {
        Some(ids) if ids.get_ref().0.is_empty() => {
            return Err(wrong(Some(ids.span()), &"the list of `client_ids` is empty"));
        }
        Some(ids) => ids.into_inner().0.iter().map(|text| Glob::new(text)).collect(),
        None => Arc::default(),
    };
    Ok(User { name: name.into(), password, scram, attributes, client_ids })
}

/// A hash of the kind and cost that most users have, of which nobody knows the password.
fn stand_in<'a>(users: impl Iterator<Item = &'a Arc<User>>) -> Result<PasswordHash, HashError> {
    let mut counts: Vec<(&PasswordHash, usize)> = Vec::new();
    for hash in users.filter_map(|user| user.password.as_ref()) {
        match counts.iter_mut().find(|(other, _)| other.is_alike(hash)) {
            Some((_, count)) => *count += 1,
            None => counts.push((hash, 1)),
        }
    }
    let most = counts.into_iter().max_by_key(|&(_, count)| count).map(|(hash, _)| hash);
    PasswordHash::of_nothing(most)
}

fn scram_shape<'a>(users: impl Iterator<Item = &'a Arc<User>>) -> Option<(NonZeroU32, usize)> {
    let mut counts: HashMap<(NonZeroU32, usize), usize> = HashMap::new();
    for scram in users.filter_map(|user| user.scram.as_ref()) {
        *counts.entry((scram.iterations, scram.salt.len())).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(shape, _)| shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn parse(text: &str) -> Result<Users, String> {
        Users::parse(Path::new("users.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_is_what_its_table_says() {
        let text = format!(
            "[users.anna]\npassword = '{HASH}'\ngroups = ['a', 'b']\nclient_ids = 'anna-*'\n\
             attributes = {{ site = 'north', room = ['1', '2'] }}\n\n[users.\"bert b\"]\nno_password = true\n"
        );
        let users = parse(&text).unwrap();
        assert_eq!(users.len(), 2);
        let anna = users.get("anna").unwrap();
        let attributes: Vec<_> =
            anna.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(attributes, ["group=a", "group=b", "room=1", "room=2", "site=north"]);
        assert!(anna.client_ids[0].matches("anna-1"));
        assert_eq!(users.get("bert b").unwrap().password, None);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_password_is_that_of_its_user() {
        let mut workspace = Workspace::default();
        let cost = super::super::Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let hash = PasswordHash::new(b"secret", cost, &mut workspace).unwrap().to_text();
        let users =
            parse(&format!("[users.anna]\npassword = '{hash}'\n[users.bert]\nno_password = true")).unwrap();
        let mut verify = |name, password: &str| users.verify(name, password.as_bytes(), &mut workspace);
        let anna = Arc::clone(users.get("anna").unwrap());
        assert_eq!(verify("anna", "secret"), Verification::Correct(anna));
        assert_eq!(verify("anna", ""), Verification::Wrong);
        assert_eq!(verify("anna", "Secret"), Verification::Wrong);
        for name in ["bert", "", "Anna", "nobody"] {
            assert_eq!(verify(name, "secret"), Verification::Unknown, "{name}");
            assert_eq!(verify(name, ""), Verification::Unknown, "{name}");
        }
    }

    /// The password of somebody who is not there is compared with a hash of the same cost.
    // [attack: user-probing]
    #[test]
    fn the_stand_in_costs_what_most_hashes_cost() {
        let long = format!("$7$101$MTIz${}==", "A".repeat(86));
        let text = format!(
            "[users.a]\npassword = '{HASH}'\n[users.b]\npassword = '{long}'\n[users.c]\npassword = '{long}'\n"
        );
        assert_eq!(parse(&text).unwrap().stand_in.kind(), "pbkdf2-sha512");
        assert_eq!(parse("").unwrap().stand_in.cost(), Some(super::super::Cost::default()));
        let cheap = parse(&format!("[users.a]\npassword = '{HASH}'")).unwrap().stand_in;
        assert_eq!(cheap.cost().unwrap().memory_kib, 8);
    }

    /// No line becomes a user without a password (CVE-2018-12551), and no error shows what stands in the file.
    // [attack: faulty-password-file], [attack: secret-in-log]
    #[test]
    fn what_is_wrong_has_a_line_and_shows_no_secret() {
        for (text, line, expected) in [
            ("[users.anna]\n", 1, "neither `password` nor"),
            ("[users.anna]\ngroups = 'a'\n", 1, "neither `password` nor"),
            ("[users.anna]\npassword = ''\n", 2, "no hash of a password"),
            ("[users.anna]\npassword = 'SECRET'\n", 2, "no hash of a password"),
            ("[users.anna]\npassword = '$argon2id$v=19$SECRET'\n", 2, "not a whole hash"),
            ("[users.anna]\nscram_sha_256 = 'SECRET'\n", 2, "`scram_sha_256`"),
            ("[users]\nanna = 'SECRET'\n", 2, "another kind"),
            ("[users.anna]\npassword = ['SECRET']\n", 2, "another kind"),
            ("[users.anna]\npassword = 1234\n", 2, "another kind"),
            ("[users.anna]\nno_password = true\npasword = 'SECRET'\n", 3, "unknown key `pasword`"),
            ("[users.anna]\npassword = SECRET\n", 2, ""),
            ("anna:SECRET\n", 1, ""),
            ("[users.\"\"]\nno_password = true\n", 1, "at least one character"),
            ("[users.\"a\\u0000\"]\nno_password = true\n", 1, "no U+0000"),
            ("[users.anna]\nno_password = true\nclient_ids = []\n", 3, "`client_ids` is empty"),
            ("[users.anna]\nno_password = true\n[users.anna]\nno_password = true\n", 3, ""),
            ("[user.anna]\nno_password = true\n", 1, "unknown key `user`"),
        ] {
            let error = parse(text).map(|_| ()).expect_err(text);
            assert!(error.starts_with(&format!("users.toml line {line}: ")), "{text:?}: {error}");
            assert!(error.contains(expected) && !error.contains("SECRET"), "{text:?}: {error}");
            assert!(!error.contains("1234"), "{error}");
        }
        let both = format!("[users.anna]\npassword = '{HASH}'\nno_password = true\n");
        assert!(parse(&both).map(|_| ()).unwrap_err().contains("and `no_password = true`"));
    }
}
