//! Appending values to a packet's bytes, and how many bytes they take.

use super::{EncodeError, PacketType};

/// Appends the fixed header and what `body` writes, which is `remaining` bytes.
pub(super) fn packet(
    out: &mut Vec<u8>,
    packet_type: PacketType,
    flags: u8,
    remaining: Result<usize, EncodeError>,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), EncodeError> {
    let remaining = remaining?;
    let total = total_size(remaining)?;
    out.reserve(total);
    let start = out.len();
    out.push(first_byte(packet_type, flags));
    variable(out, remaining as u32);
    body(out);
    debug_assert_eq!(out.len() - start, total, "{packet_type} is not as long as its size says");
    Ok(())
}

/// The first byte of the fixed header.
pub(super) fn first_byte(packet_type: PacketType, flags: u8) -> u8 {
    (packet_type as u8) << 4 | flags
}

/// Bytes in all of a packet with `remaining` bytes behind its fixed header.
pub(super) fn total_size(remaining: usize) -> Result<usize, EncodeError> {
    if remaining > 268_435_455 {
        return Err(EncodeError::PacketTooLong(remaining));
    }
    Ok(1 + variable_size(remaining as u32) + remaining)
}

pub(super) fn variable_size(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Bytes of a string or binary field with its length.
pub(super) fn field_size(length: usize) -> Result<usize, EncodeError> {
    if length > usize::from(u16::MAX) { Err(EncodeError::FieldTooLong(length)) } else { Ok(2 + length) }
}

/// Bytes of a string with its length. Strings come from applications, so that they may contain what no
/// packet may.
pub(super) fn string_size(text: &str) -> Result<usize, EncodeError> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(EncodeError::Null);
    }
    field_size(text.len())
}

pub(super) fn variable(out: &mut Vec<u8>, mut value: u32) {
    while value > 127 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A field whose length [`field_size`] has checked.
pub(super) fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}
