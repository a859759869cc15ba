//! Archives: what was written is read, or it is refused.

use std::io::{self, Write};

use super::format::{STORE, unhex};
use super::*;
use crate::WallTime;
use crate::archive::{ArchiveError, ArchiveWriter, Summary, read, read_head};

const MADE: WallTime = WallTime(1_700_000_000_000);
/// An archive of a store of format 1, which every later release must read.
const FIXTURE: &[u8] = include_bytes!("fixture/archive-1");

type Entry = (Space, Vec<u8>, Vec<u8>);

fn store() -> Vec<Entry> {
    STORE.iter().map(|(space, key, value)| (*space, unhex(key), unhex(value))).collect()
}

fn write(entries: &[Entry]) -> (Vec<u8>, Summary) {
    let mut writer = ArchiveWriter::new(Vec::new(), MADE).unwrap();
    entries.iter().for_each(|(space, key, value)| writer.add(*space, key, value).unwrap());
    writer.finish().unwrap()
}

fn entries(archive: &[u8]) -> Result<(Vec<Entry>, Summary), ArchiveError> {
    let mut found = Vec::new();
    let summary = read(archive, |space, key, value| {
        found.push((space, key.to_vec(), value.to_vec()));
        Ok::<_, ArchiveError>(())
    })?;
    Ok((found, summary))
}

#[test]
fn what_was_written_is_read() {
    let large = |number: u8| (Space::Retained, vec![b's', number], vec![number; 200_000]);
    for more in [0, 1, 5] {
        let mut expected = store();
        let at = expected.len() - 1;
        expected.splice(at..at, (0..more).map(large));
        let (archive, summary) = write(&expected);
        assert_eq!(entries(&archive).unwrap(), (expected.clone(), summary));
        assert_eq!((summary.total(), summary.made), (expected.len() as u64, MADE));
        assert_eq!((summary.entries(Space::Queue), summary.entries(Space::Flow)), (2, 2));
        assert_eq!(read_head(&archive[..]).unwrap(), MADE);
    }
    let (archive, _) = write(&[]);
    assert_eq!(entries(&archive).unwrap().0, []);
}

#[test]
fn an_archive_of_format_1_is_read_and_still_written() {
    assert_eq!(entries(FIXTURE).unwrap().0, store());
    assert!(write(&store()).0 == FIXTURE);
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let (archive, _) = write(&store());
    for size in 0..archive.len() {
        let error = entries(&archive[..size]).unwrap_err();
        let is_known = matches!(error, ArchiveError::Foreign | ArchiveError::Damaged { .. });
        assert!(is_known, "cut at {size}: {error}");
    }
    let longer = [&archive[..], b"x"].concat();
    assert!(matches!(entries(&longer), Err(ArchiveError::Damaged { what: "more follows its end", .. })));
}

#[test]
fn no_byte_of_an_archive_changes_unnoticed() {
    let (archive, _) = write(&store());
    for at in 0..archive.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut archive = archive.clone();
            archive[at] ^= flip;
            assert!(entries(&archive).is_err(), "byte {at} ^ {flip:02x}");
        }
    }
}

#[test]
fn blocks_that_are_left_out_or_exchanged_are_noticed() {
    let large = |number: u8| (Space::Retained, vec![number], vec![number; 200_000]);
    let (archive, _) = write(&(1..=3).map(large).collect::<Vec<_>>());
    // Each of these entries has a block of its own.
    let (head, block) = (36, 5 + 7 + 1 + 200_000 + 8);
    let without = [&archive[..head], &archive[head + block..]].concat();
    let (first, second) = archive[head..head + 2 * block].split_at(block);
    let exchanged = [&archive[..head], second, first, &archive[head + 2 * block..]].concat();
    let twice = [&archive[..head + block], first, &archive[head + block..]].concat();
    for other in [without, exchanged, twice] {
        let error = entries(&other).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    }
    assert_eq!(entries(&archive).unwrap().0.len(), 3);
}

#[test]
fn a_size_that_is_wrong_takes_no_memory() {
    let (mut archive, _) = write(&store());
    archive[37..41].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(entries(&archive), Err(ArchiveError::Damaged { what: "it ends too early", .. })));
}

#[test]
fn an_archive_of_the_future_is_refused() {
    let (mut archive, _) = write(&store());
    archive[16] = 2;
    let error = entries(&archive).unwrap_err();
    assert!(matches!(error, ArchiveError::Future { found: 2, known: 1 }), "{error}");
    assert!(matches!(entries(b"PK and more"), Err(ArchiveError::Foreign)));
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    #[derive(Debug)]
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = ArchiveWriter::new(Full, MADE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
