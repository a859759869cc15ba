//! The values of entries. Each begins with the version of its form, so that later ones can differ.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::record::QueueTarget;

const VERSION: u8 = 1;

/// Appends a value, and what is behind it as it is.
pub(crate) fn write(value: &impl Serialize, rest: &[u8], out: &mut Vec<u8>) {
    out.push(VERSION);
    // It fails only where the writer does, and a vector does not.
    if postcard::to_extend(value, Appended(out)).is_ok() {
        out.extend_from_slice(rest);
    }
}

/// A value, and what is behind it. `None` where it is none that this version knows.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    postcard::take_from_bytes(rest).ok()
}

/// As [`read`], for a value with nothing behind it.
pub(crate) fn read_all<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    read(bytes).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

struct Appended<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Appended<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// The next numbers to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) sequence: u64,
    pub(crate) session: u64,
}

/// A message that waits for a session. If it waits for this one alone it stands behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueEntry {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Whether it stands elsewhere, once for several sessions.
    pub(crate) is_shared: bool,
    /// Bytes of the message.
    pub(crate) size: u32,
    pub(crate) identifiers: Box<[u32]>,
    pub(crate) share: Option<Box<str>>,
}

/// Appends the entry of a target, with the message where it is for that one alone.
pub(crate) fn write_queue_entry(
    target: &QueueTarget,
    (qos, retain, message, is_shared): (u8, bool, &[u8], bool),
    out: &mut Vec<u8>,
) {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        qos: u8,
        retain: bool,
        is_shared: bool,
        size: u32,
        identifiers: &'a [u32],
        share: Option<&'a str>,
    }
    let entry = Borrowed {
        qos: qos.min(target.qos),
        retain: retain && target.retain_as_published,
        is_shared,
        size: message.len() as u32,
        identifiers: &target.identifiers,
        share: target.share.as_deref(),
    };
    write(&entry, if is_shared { &[] } else { message }, out);
}
