//! What the payloads say, so that every message can be recognised.

use std::io::Write;

use lapwing_proto::packet::QoS;

/// A message of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells this run from others against the same broker.
    pub(super) run: u32,
    pub(super) publisher: usize,
    /// Counts a publisher's messages from 0.
    pub(super) sequence: u64,
    pub(super) qos: QoS,
}

impl Stamp {
    /// Writes the payload into `out`: the fields as text, then letters that follow from them up to `size` bytes.
    pub(super) fn write(self, size: usize, out: &mut Vec<u8>) {
        out.clear();
        let Self { run, publisher, sequence, qos } = self;
        // Writing into a vector does not fail.
        let _ = write!(out, "{run:08x} {publisher} {sequence} {} ", qos as u8);
        let length = out.len();
        out.extend((length..size).map(|at| filler(sequence, at)));
    }

    /// `None` where not every byte is as it was written.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let mut fields = payload.splitn(5, |&byte| byte == b' ');
        let mut field = || std::str::from_utf8(fields.next()?).ok();
        let run = u32::from_str_radix(field()?, 16).ok()?;
        let publisher = field()?.parse().ok()?;
        let sequence = field()?.parse().ok()?;
        let qos = QoS::from_bits(field()?.parse().ok()?)?;
        let rest = fields.next()?;
        let start = payload.len() - rest.len();
        let is_whole = rest.iter().enumerate().all(|(at, &byte)| byte == filler(sequence, start + at));
        is_whole.then_some(Self { run, publisher, sequence, qos })
    }
}

fn filler(sequence: u64, at: usize) -> u8 {
    b'a' + (sequence.wrapping_add(at as u64) % 26) as u8
}

/// The payload of a retained message: which of the changes of its topic it is.
pub(super) fn write_version(run: u32, topic: usize, version: usize) -> Vec<u8> {
    format!("{run:08x} {topic} {version}").into_bytes()
}

/// The topic and the version that a payload names, if it is of this run.
pub(super) fn read_version(run: u32, payload: &[u8]) -> Option<(usize, usize)> {
    let mut fields = std::str::from_utf8(payload).ok()?.split(' ');
    let is_own = u32::from_str_radix(fields.next()?, 16) == Ok(run);
    let version = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (is_own && fields.next().is_none()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 0x1f, publisher: 12, sequence: 345, qos: QoS::ExactlyOnce };

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let mut payload = Vec::new();
        for size in [0, 18, 64, 5000] {
            STAMP.write(size, &mut payload);
            assert_eq!(payload.len(), size.max(18));
            assert_eq!(Stamp::read(&payload), Some(STAMP));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut payload = Vec::new();
        STAMP.write(64, &mut payload);
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert_ne!(Stamp::read(&changed), Some(STAMP), "byte {at}");
        }
        assert_eq!(Stamp::read(b""), None);
    }

    #[test]
    fn versions_of_another_run_are_none() {
        let payload = write_version(5, 3, 99);
        assert_eq!(read_version(5, &payload), Some((3, 99)));
        assert_eq!(read_version(6, &payload), None);
        assert_eq!(read_version(5, b""), None);
    }
}
