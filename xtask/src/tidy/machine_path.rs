//! No file knows on which machine it was written.

use crate::repository::Repository;

/// Folders of one person's machine. Put together here so that this file does not break its own rule.
const FOLDERS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

pub(super) fn check(repository: &Repository) -> Vec<String> {
    repository.files.iter().flat_map(|file| violations(&file.path, &file.text)).collect()
}

fn violations(path: &str, text: &str) -> Vec<String> {
    let found = text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, machine_folder(line)?)));
    found
        .map(|(line, folder)| {
            format!("{path}:{line}: the absolute path {folder}… exists on one machine only")
        })
        .collect()
}

fn machine_folder(line: &str) -> Option<&'static str> {
    let starts_there = |folder: &str| {
        line.match_indices(folder).any(|(at, _)| {
            // `a/work/b` is a relative path, and `/home/$USER` is nobody's.
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}*)".contains(c))
                && line[at + folder.len()..].starts_with(|c: char| c.is_alphanumeric() || "._".contains(c))
        })
    };
    FOLDERS.iter().copied().find(|folder| starts_there(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_a_machine() {
        for folder in FOLDERS {
            assert_eq!(machine_folder(&format!("open(\"{folder}a/b\")")), Some(*folder));
            assert_eq!(machine_folder(&format!("{folder}.cargo")), Some(*folder));
            assert_eq!(machine_folder(&format!("https://example.org{folder}a")), None);
            assert_eq!(machine_folder(&format!("{folder}$USER/a")), None);
        }
        assert_eq!(machine_folder("/etc/lapwing.toml"), None);
    }
}
