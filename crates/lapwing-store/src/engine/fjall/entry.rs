//! The entries of fjall's journals, format 3, as far as they must be known to check them.
//!
//! ```text
//! batch    start entry{count} end
//! start    1 count:u32 number:u64
//! entry    2 kind:u8 compression:u8 keyspace:u64 key_size:u16 value_size:u32 stored_size:u32 key value
//!          4 keyspace:u64
//! end      3 xxh3(entries):u64 "FJL" 3
//! ```
//!
//! Integers have their lowest byte first.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use memchr::memmem;
use xxhash_rust::xxh3::Xxh3;

use super::mark::Mark;

/// fjall's number of the keyspace that the marks are in: it is created first.
pub(super) const MARK_KEYSPACE: u64 = 1;

const START: u8 = 1;
const ENTRY: u8 = 2;
const END: u8 = 3;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// Bytes of a start.
const START_SIZE: usize = 13;
/// Bytes of an entry before its key.
const ENTRY_HEAD: usize = 21;
/// A position that no file has.
const NOWHERE: u64 = u64::MAX;
const CHUNK: usize = 256 * 1024;

/// A whole batch with a mark.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) mark: Mark,
    /// fjall's number for it.
    pub(super) number: u64,
    /// The offset of the first byte behind it.
    pub(super) end: u64,
}

/// Why there is no batch.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// There are other bytes, or too few.
    Nonsense,
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Nonsense } else { Self::Io(error) }
    }
}

/// A journal to read from.
#[derive(Debug)]
pub(super) struct Journal {
    file: BufReader<File>,
    position: u64,
    size: u64,
    /// How the entry with the mark begins, which is the first of each batch.
    mark_head: [u8; ENTRY_HEAD + 8],
}

impl Journal {
    pub(super) fn new(file: File, identity: [u8; 8]) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut mark_head = [0; ENTRY_HEAD + 8];
        mark_head[0] = ENTRY;
        mark_head[3..11].copy_from_slice(&MARK_KEYSPACE.to_le_bytes());
        mark_head[11..13].copy_from_slice(&8_u16.to_le_bytes());
        mark_head[13..17].copy_from_slice(&(Mark::SIZE as u32).to_le_bytes());
        mark_head[17..21].copy_from_slice(&(Mark::SIZE as u32).to_le_bytes());
        mark_head[21..].copy_from_slice(&identity);
        Ok(Self { file: BufReader::with_capacity(CHUNK, file), position: 0, size, mark_head })
    }

    /// The batch that begins at `start`.
    pub(super) fn batch(&mut self, start: u64) -> Result<Batch, Unreadable> {
        self.seek(start)?;
        let [tag, count @ .., n0, n1, n2, n3, n4, n5, n6, n7] = self.array::<START_SIZE>()?;
        let number = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        let count = u32::from_le_bytes(count);
        if tag != START || count == 0 {
            return Err(Unreadable::Nonsense);
        }
        let mut hash = Xxh3::new();
        let head: [u8; ENTRY_HEAD + 8] = self.array()?;
        let value: [u8; Mark::SIZE] = self.array()?;
        let mark = Mark::from_bytes(&value).filter(|_| head == self.mark_head);
        let mark = mark.ok_or(Unreadable::Nonsense)?;
        hash.update(&head);
        hash.update(&value);
        for _ in 1..count {
            self.entry(&mut hash)?;
        }
        let end: [u8; 13] = self.array()?;
        let hash = hash.digest().to_le_bytes();
        if end[0] != END || end[1..9] != hash || end[9..] != TRAILER {
            return Err(Unreadable::Nonsense);
        }
        Ok(Batch { mark, number, end: self.position })
    }

    /// Reads an entry into the hash. An entry that clears a keyspace is never written, and compression is off.
    fn entry(&mut self, hash: &mut Xxh3) -> Result<(), Unreadable> {
        let head: [u8; ENTRY_HEAD] = self.array()?;
        let [tag, kind, compression, .., k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = head;
        let key_size = u16::from_le_bytes([k0, k1]);
        let value_size = u32::from_le_bytes([v0, v1, v2, v3]);
        let stored_size = u32::from_le_bytes([s0, s1, s2, s3]);
        if tag != ENTRY || kind > 2 || compression != 0 || key_size == 0 || value_size != stored_size {
            return Err(Unreadable::Nonsense);
        }
        hash.update(&head);
        self.hash(u64::from(key_size) + u64::from(value_size), hash)
    }

    fn hash(&mut self, size: u64, hash: &mut Xxh3) -> Result<(), Unreadable> {
        if size > self.size - self.position {
            return Err(Unreadable::Nonsense);
        }
        let mut chunk = [0; 4096];
        let mut left = size;
        while left > 0 {
            let part = &mut chunk[..left.min(4096) as usize];
            if let Err(error) = self.file.read_exact(part) {
                self.position = NOWHERE;
                return Err(error.into());
            }
            hash.update(part);
            left -= part.len() as u64;
        }
        self.position += size;
        Ok(())
    }

    /// Bytes from `end` to the last that is not zero. fjall makes a new journal large and fills it then.
    pub(super) fn rest(&mut self, end: u64) -> io::Result<u64> {
        let mut rest = 0;
        self.chunks(end, 0, &mut |at, chunk| {
            if let Some(last) = chunk.iter().rposition(|&byte| byte != 0) {
                rest = at + last as u64 + 1 - end;
            }
        })?;
        Ok(rest)
    }

    /// The marks of all whole batches that begin behind `end`.
    pub(super) fn later_marks(&mut self, end: u64) -> io::Result<Vec<Mark>> {
        let mut marks = Vec::new();
        for start in self.later_starts(end)? {
            match self.batch(start) {
                Ok(batch) => marks.push(batch.mark),
                Err(Unreadable::Nonsense) => {}
                Err(Unreadable::Io(error)) => return Err(error),
            }
        }
        Ok(marks)
    }

    /// Where batches may begin behind `end`.
    pub(super) fn later_starts(&mut self, end: u64) -> io::Result<Vec<u64>> {
        let finder = memmem::Finder::new(&self.mark_head).into_owned();
        let mut starts = Vec::new();
        self.chunks(end, self.mark_head.len() - 1, &mut |at, chunk| {
            starts.extend(finder.find_iter(chunk).map(|found| at + found as u64));
        })?;
        let start_size = START_SIZE as u64;
        Ok(starts
            .into_iter()
            .filter(|start| *start > end + start_size)
            .map(|start| start - start_size)
            .collect())
    }

    /// Shows all bytes from `start` on in pieces, of which each has the last `overlap` bytes of the one before.
    fn chunks(&mut self, start: u64, overlap: usize, show: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
        self.seek(start)?;
        let mut chunk = Vec::with_capacity(CHUNK + overlap);
        let mut at = start;
        // Wherever this ends, the next one to read has to say where.
        self.position = NOWHERE;
        loop {
            let kept = chunk.len();
            let read = self.file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            show(at, &chunk);
            let keep = overlap.min(kept + read);
            at += (chunk.len() - keep) as u64;
            chunk.drain(..chunk.len() - keep);
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        if let Err(error) = self.file.read_exact(&mut bytes) {
            self.position = NOWHERE;
            return Err(error);
        }
        self.position += N as u64;
        Ok(bytes)
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        if to != self.position {
            self.file.seek(SeekFrom::Start(to))?;
            self.position = to;
        }
        Ok(())
    }
}
