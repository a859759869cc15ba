use std::io::{self, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BLOCK, ENTRY_HEAD, FOOTER, FORMAT, MAGIC, Summary};
use crate::engine::Space;
use crate::record::WallTime;

/// A block that has so many bytes is written.
const BLOCK_SIZE: usize = 256 * 1024;

/// Writes an archive.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
    block: Vec<u8>,
    summary: Summary,
    check: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive that is made at this time.
    ///
    /// # Errors
    /// An [`io::Error`] of `out`.
    pub fn new(out: W, made: WallTime) -> io::Result<Self> {
        let mut writer = Self { out, block: Vec::new(), summary: Summary::new(made), check: 0 };
        let head = [&MAGIC[..], &FORMAT.to_le_bytes(), &made.0.to_le_bytes()].concat();
        writer.write_checked(&head)?;
        writer.begin(BLOCK);
        Ok(writer)
    }

    /// Adds an entry, behind those of earlier spaces and keys.
    ///
    /// # Errors
    /// An [`io::Error`] of `out`, or of an entry larger than any that a store takes.
    pub fn add(&mut self, space: Space, key: &[u8], value: &[u8]) -> io::Result<()> {
        let size = ENTRY_HEAD + key.len() + value.len();
        let is_large = || io::Error::new(io::ErrorKind::InvalidInput, "an entry is too large for an archive");
        let key_size = u16::try_from(key.len()).map_err(|_| is_large())?;
        if self.block.len() + size > BLOCK_SIZE {
            self.end_block()?;
        }
        let value_size = u32::try_from(value.len()).map_err(|_| is_large())?;
        self.block.push(space as u8);
        self.block.extend_from_slice(&key_size.to_le_bytes());
        self.block.extend_from_slice(&value_size.to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.summary.count(space, key.len() + value.len());
        Ok(())
    }

    /// Writes the rest, and gives `out` back.
    ///
    /// # Errors
    /// An [`io::Error`] of `out`.
    pub fn finish(mut self) -> io::Result<(W, Summary)> {
        self.end_block()?;
        self.block.clear();
        self.begin(FOOTER);
        for (entries, bytes) in self.summary.spaces {
            self.block.extend_from_slice(&entries.to_le_bytes());
            self.block.extend_from_slice(&bytes.to_le_bytes());
        }
        self.write_block()?;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }

    /// A block of this kind, with room for its size.
    fn begin(&mut self, kind: u8) {
        self.block.push(kind);
        self.block.extend_from_slice(&[0; 4]);
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.len() > 5 {
            self.write_block()?;
            self.begin(BLOCK);
        }
        Ok(())
    }

    fn write_block(&mut self) -> io::Result<()> {
        let size = u32::try_from(self.block.len() - 5).map_err(io::Error::other)?;
        self.block[1..5].copy_from_slice(&size.to_le_bytes());
        let mut block = std::mem::take(&mut self.block);
        self.write_checked(&block)?;
        block.clear();
        block.shrink_to(2 * BLOCK_SIZE);
        self.block = block;
        Ok(())
    }

    fn write_checked(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check = xxh3_64_with_seed(bytes, self.check);
        self.out.write_all(bytes)?;
        self.out.write_all(&self.check.to_le_bytes())
    }
}
