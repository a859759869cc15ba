//! Which folders are taken for a store, and which are not.

use std::fs;
use std::path::Path;

use super::super::super::{Durability, Engine, EngineError, KEY_LIMIT, Space};
use super::super::{ALL, keys, one};
use super::{Disk, copy, open};

/// The paths below a folder with their sizes.
fn listing(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.push((path.display().to_string(), path.metadata().unwrap().len()));
    }
    found.sort();
    found
}

/// The error of opening, which changes nothing.
fn refusal(path: &Path) -> EngineError {
    let before = listing(path);
    let error = open(path).map(drop).unwrap_err();
    assert_eq!(listing(path), before);
    error
}

#[test]
fn a_store_that_another_has_open() {
    let disk = Disk::new();
    let engine = open(&disk.path()).unwrap();
    let error = open(&disk.path()).map(drop).unwrap_err();
    assert!(matches!(&error, EngineError::Locked { path } if *path == disk.path()), "{error}");
    drop(engine);
    open(&disk.path()).unwrap();
}

#[test]
fn a_folder_with_something_else() {
    let disk = Disk::new();
    fs::create_dir_all(disk.path()).unwrap();
    fs::write(disk.path().join("holiday.jpg"), "sea").unwrap();
    let error = refusal(&disk.path());
    assert!(matches!(error, EngineError::Foreign { .. }), "{error}");
    for text in ["", "format = many", "format = 1", "format = 1\nidentity = xyz"] {
        fs::write(disk.path().join("LAPWING"), text).unwrap();
        let error = refusal(&disk.path());
        assert!(matches!(error, EngineError::Foreign { .. }), "{text}: {error}");
    }
}

#[test]
fn a_store_of_the_future() {
    let disk = Disk::new();
    drop(open(&disk.path()).unwrap());
    let name = disk.path().join("LAPWING");
    let text = fs::read_to_string(&name).unwrap();
    fs::write(&name, text.replace("format = 1", "format = 2")).unwrap();
    let error = refusal(&disk.path());
    assert!(matches!(error, EngineError::Future { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn a_store_of_which_a_part_is_missing() {
    let disk = Disk::new();
    let mut engine = open(&disk.path()).unwrap();
    engine.write(&one(Space::Queue, b"a", b"b")).unwrap();
    drop(engine);
    for part in ["version", "lock", "0.jnl", "keyspaces/0", "keyspaces/5/current", "keyspaces/9"] {
        let copied = disk.path().with_file_name(part.replace('/', "-"));
        copy(&disk.path(), &copied);
        let missing = copied.join(part);
        if missing.is_dir() { fs::remove_dir_all(&missing) } else { fs::remove_file(&missing) }.unwrap();
        let error = refusal(&copied);
        let names = matches!(&error, EngineError::Corrupt { file, .. } if file.starts_with(&missing));
        assert!(names, "{part}: {error}");
    }
}

#[test]
fn what_a_creation_that_was_cut_short_has_left() {
    let disk = Disk::new();
    let new = disk.path().with_file_name("store.new");
    fs::create_dir_all(new.join("keyspaces")).unwrap();
    fs::write(new.join("LAPWING"), "format").unwrap();
    drop(open(&disk.path()).unwrap());
    assert!(!new.exists());
}

#[test]
fn an_empty_folder_becomes_a_store() {
    let disk = Disk::new();
    fs::create_dir_all(disk.path()).unwrap();
    let mut engine = open(&disk.path()).unwrap();
    engine.sync(Durability::Fsync).unwrap();
    assert!(disk.path().join("LAPWING").exists());
}

#[test]
fn after_an_error_everything_fails() {
    let disk = Disk::new();
    let mut engine = open(&disk.path()).unwrap();
    engine.write(&one(Space::Flow, b"kept", b"")).unwrap();
    let error = engine.write(&one(Space::Flow, &[0; KEY_LIMIT + 1], b"")).unwrap_err();
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
    assert!(matches!(engine.write(&one(Space::Flow, b"a", b"")), Err(EngineError::Failed)));
    assert!(matches!(engine.sync(Durability::Fsync), Err(EngineError::Failed)));
    assert!(matches!(engine.get(Space::Flow, b"kept"), Err(EngineError::Failed)));
    assert!(matches!(engine.last_key(Space::Flow), Err(EngineError::Failed)));
    drop(engine);
    assert_eq!(keys(&open(&disk.path()).unwrap(), Space::Flow, ALL), [b"kept"]);
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_look_into_it() {
    use std::os::unix::fs::PermissionsExt;

    let disk = Disk::new();
    drop(open(&disk.path()).unwrap());
    assert_eq!(disk.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[cfg(unix)]
#[test]
fn a_folder_that_can_only_be_read() {
    use std::os::unix::fs::PermissionsExt;

    let disk = Disk::new();
    drop(open(&disk.path()).unwrap());
    let name = disk.path().join("LAPWING");
    fs::set_permissions(&name, fs::Permissions::from_mode(0o400)).unwrap();
    // The superuser may write all the same.
    if fs::OpenOptions::new().write(true).open(&name).is_err() {
        let error = refusal(&disk.path());
        assert!(matches!(error, EngineError::Io { .. }), "{error}");
    }
}
