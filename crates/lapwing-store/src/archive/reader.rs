use std::io::{self, Read};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{ArchiveError, BLOCK, ENTRY_HEAD, FOOTER, FORMAT, HEAD_SIZE, MAGIC, SPACES, Summary};
use crate::engine::Space;
use crate::record::WallTime;

/// Reads an archive to its end, and shows each entry. What is shown is as it was written, but whether that was all is known at the
/// end only.
///
/// # Errors
/// An [`ArchiveError`] that says what is wrong with it, or the one of `visit`.
pub fn read<E: From<ArchiveError>>(
    input: impl Read,
    mut visit: impl FnMut(Space, &[u8], &[u8]) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut input = Input { input, at: 0, check: 0 };
    let mut found = Summary::new(input.head()?);
    let (mut block, mut last) = (Vec::new(), None);
    loop {
        let begin = input.at;
        let damaged = |what| ArchiveError::Damaged { offset: begin, what };
        match input.block(&mut block)? {
            BLOCK => {
                let mut rest = &block[5..];
                while !rest.is_empty() {
                    let entry = split(&mut rest).ok_or(damaged("a block ends within an entry"))?;
                    let (space, key, value) = entry;
                    let is_later = last.as_ref().is_none_or(|(last_space, last_key): &(Space, Vec<u8>)| {
                        (*last_space, &last_key[..]) < (space, key)
                    });
                    if !is_later || key.is_empty() {
                        return Err(damaged("entries are out of order").into());
                    }
                    found.count(space, key.len() + value.len());
                    visit(space, key, value)?;
                    keep(&mut last, space, key);
                }
            }
            FOOTER => {
                if footer(&block[5..]) != Some(found.spaces) {
                    return Err(damaged("the counts in its footer are others").into());
                }
                input.end()?;
                return Ok(found);
            }
            _ => return Err(damaged("there is no block of this kind").into()),
        }
    }
}

/// When an archive was made, from its first bytes.
///
/// # Errors
/// An [`ArchiveError`] where it is none.
pub fn read_head(input: impl Read) -> Result<WallTime, ArchiveError> {
    Input { input, at: 0, check: 0 }.head()
}

fn keep(last: &mut Option<(Space, Vec<u8>)>, space: Space, key: &[u8]) {
    let (last_space, last_key) = last.get_or_insert_with(|| (space, Vec::new()));
    *last_space = space;
    last_key.clear();
    last_key.extend_from_slice(key);
}

fn split<'a>(rest: &mut &'a [u8]) -> Option<(Space, &'a [u8], &'a [u8])> {
    let (&[space, k0, k1, v0, v1, v2, v3], behind) = rest.split_first_chunk::<ENTRY_HEAD>()?;
    let space = *Space::ALL.get(usize::from(space))?;
    let (key, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes([k0, k1])))?;
    let (value, behind) = behind.split_at_checked(u32::from_le_bytes([v0, v1, v2, v3]) as usize)?;
    *rest = behind;
    Some((space, key, value))
}

fn footer(bytes: &[u8]) -> Option<[(u64, u64); SPACES]> {
    if bytes.len() != SPACES * 16 {
        return None;
    }
    let mut numbers = bytes.chunks_exact(8).map(|number| number.try_into().map_or(0, u64::from_le_bytes));
    let mut next = || numbers.next().unwrap_or_default();
    Some(std::array::from_fn(|_| (next(), next())))
}

struct Input<R> {
    input: R,
    at: u64,
    check: u64,
}

impl<R: Read> Input<R> {
    fn head(&mut self) -> Result<WallTime, ArchiveError> {
        let mut head = Vec::new();
        self.take(HEAD_SIZE as u64, &mut head)?;
        let Some((magic, rest)) = head.split_first_chunk().filter(|(magic, _)| **magic == MAGIC) else {
            return Err(ArchiveError::Foreign);
        };
        debug_assert_eq!(*magic, MAGIC);
        let (Some((format, made)), true) = (rest.split_first_chunk(), head.len() == HEAD_SIZE) else {
            return Err(self.short());
        };
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            // The rest of the head may be another one there.
            return Err(ArchiveError::Future { found: format, known: FORMAT });
        }
        let made = made.try_into().map_or(0, u64::from_le_bytes);
        self.check(&head)?;
        Ok(WallTime(made))
    }

    /// Reads a block with the bytes before its content, and returns its kind.
    fn block(&mut self, block: &mut Vec<u8>) -> Result<u8, ArchiveError> {
        block.clear();
        self.take(5, block)?;
        let &[kind, s0, s1, s2, s3] = &block[..] else { return Err(self.short()) };
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        self.take(size.into(), block)?;
        if block.len() != 5 + size as usize {
            return Err(self.short());
        }
        self.check(block)?;
        Ok(kind)
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut stored = Vec::new();
        let offset = self.at - bytes.len() as u64;
        self.take(8, &mut stored)?;
        let stored: [u8; 8] = stored.try_into().map_err(|_| self.short())?;
        self.check = xxh3_64_with_seed(bytes, self.check);
        if u64::from_le_bytes(stored) != self.check {
            return Err(ArchiveError::Damaged { offset, what: "a checksum does not fit" });
        }
        Ok(())
    }

    /// Reads so many bytes, or as many as there are: a size may be wrong, so no room is made before.
    fn take(&mut self, size: u64, to: &mut Vec<u8>) -> Result<(), ArchiveError> {
        let read = self.input.by_ref().take(size).read_to_end(to);
        self.at += read.map_err(reading)? as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        match self.input.read(&mut [0]).map_err(reading)? {
            0 => Ok(()),
            _ => Err(ArchiveError::Damaged { offset: self.at, what: "more follows its end" }),
        }
    }

    fn short(&self) -> ArchiveError {
        ArchiveError::Damaged { offset: self.at, what: "it ends too early" }
    }
}

fn reading(source: io::Error) -> ArchiveError {
    ArchiveError::Io { what: "reading the archive".to_owned(), source }
}
