//! A whole store as a release of format 1 has left it: every later one must open it.
//!
//! It has the entries of `test::format::STORE`, the first half of them in tables and the others in the journal, and was not
//! closed. `fixture/` beside the tests has it, without the zeros behind the journal.

use std::path::{Path, PathBuf};

use super::super::super::{Space, View};
use super::super::{ALL, entries};
use super::{Disk, Options, copy, open};
use crate::check;
use crate::test::format::{STORE, unhex};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/test/fixture/store-1")
}

fn expected(space: Space) -> Vec<(Vec<u8>, Vec<u8>)> {
    let of_space = STORE.iter().filter(|(of, ..)| *of == space);
    of_space.map(|(_, key, value)| (unhex(key), unhex(value))).collect()
}

#[test]
fn a_folder_of_format_1_is_opened() {
    let disk = Disk::new();
    copy(&fixture(), &disk.path());
    let view = View::open(&disk.path(), Options { memory: 0 }).unwrap();
    let mut found: Vec<String> = Vec::new();
    check::check(view.engine(), &|_| Some(String::new()), &mut |finding| found.push(finding.to_string()))
        .unwrap();
    assert!(found.is_empty(), "{found:?}");
    drop(view);
    // Opened twice: what the first opening makes of it can be opened as well.
    for _ in 0..2 {
        let engine = open(&disk.path()).unwrap();
        for space in Space::ALL {
            assert_eq!(entries(&engine, space, ALL), expected(space), "{}", space.name());
        }
    }
}
