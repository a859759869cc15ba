use super::{DecodeError, PacketId};

/// Takes values off the front of a packet's bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: DecodeError = DecodeError::malformed("the packet ends in the middle of a field");

pub(super) const PADDED: DecodeError =
    DecodeError::malformed("a variable byte integer has more bytes than it needs");

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes a single zero off the front, if there is one.
    pub(super) fn take_zero(&mut self) -> bool {
        match self.rest {
            [0, rest @ ..] => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing must be left.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes are left behind the last field"))
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A variable byte integer: at most four bytes, and no more than it needs `[MQTT-1.5.5-1]`.
    pub(super) fn variable(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(PADDED) } else { Ok(value) };
            }
        }
        Err(DecodeError::malformed("a variable byte integer has more than four bytes"))
    }

    /// Binary data behind a length of 16 bits.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A string: valid UTF-8, so without surrogates `[MQTT-1.5.4-1]`, and without U+0000 `[MQTT-1.5.4-2]`.
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = self.string_with_null()?;
        if memchr::memchr(0, text.as_bytes()).is_some() {
            return Err(DecodeError::malformed("a string contains U+0000"));
        }
        Ok(text)
    }

    /// A string in which the caller looks for U+0000 together with what else it must not contain.
    pub(super) fn string_with_null(&mut self) -> Result<&'a str, DecodeError> {
        utf8(self.binary()?)
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("packet identifier 0"))
    }
}

/// Text, which on the wire is UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("a string is not UTF-8"))
}
