use std::fmt;

use super::reader::Reader;
use super::{DecodeError, EncodeError, ProtocolVersion};

/// Something that a packet holds many of.
pub trait Element<'a>: Copy + PartialEq + fmt::Debug {
    /// Takes the next one off `reader`, passing over what is not of this kind; `None` at the end.
    #[doc(hidden)]
    fn read_next(reader: &mut Reader<'a>, version: ProtocolVersion) -> Result<Option<Self>, DecodeError>;
    /// How many bytes it takes.
    #[doc(hidden)]
    fn size(&self) -> Result<usize, EncodeError>;
    /// Appends it.
    #[doc(hidden)]
    fn write(&self, out: &mut Vec<u8>);
}

/// Many elements of a packet: borrowed from its bytes when it was decoded, so that a list of any length
/// costs no allocation, or from a slice when it is to be encoded.
#[derive(Clone, Copy)]
pub struct Sequence<'a, T> {
    source: Source<'a, T>,
}

#[derive(Clone, Copy)]
enum Source<'a, T> {
    /// Bytes that have been read through once without an error.
    Encoded(&'a [u8], ProtocolVersion),
    Items(&'a [T]),
}

impl<'a, T: Element<'a>> Sequence<'a, T> {
    /// Reads `bytes` through and keeps them.
    pub(super) fn decode(bytes: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        while T::read_next(&mut reader, version)?.is_some() {}
        Ok(Self::checked(bytes, version))
    }

    /// Keeps `bytes`, which the caller has read through.
    pub(super) fn checked(bytes: &'a [u8], version: ProtocolVersion) -> Self {
        Self { source: Source::Encoded(bytes, version) }
    }

    /// The elements in their order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let (items, mut reader, version) = match self.source {
            Source::Items(items) => (items, Reader::new(&[]), ProtocolVersion::V5),
            Source::Encoded(bytes, version) => (&[][..], Reader::new(bytes), version),
        };
        let encoded = std::iter::from_fn(move || T::read_next(&mut reader, version).ok().flatten());
        items.iter().copied().chain(encoded)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        if let Source::Items(items) = self.source {
            return items.is_empty();
        }
        self.iter().next().is_none()
    }

    /// Whether there is none, as far as can be seen without looking for one.
    #[inline]
    pub(super) fn is_surely_empty(&self) -> bool {
        matches!(self.source, Source::Items([]))
    }

    pub(super) fn size(&self) -> Result<usize, EncodeError> {
        self.iter().try_fold(0, |sum, item| Ok(sum + item.size()?))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for item in self.iter() {
            item.write(out);
        }
    }
}

impl<T> Default for Sequence<'_, T> {
    fn default() -> Self {
        Self { source: Source::Items(&[]) }
    }
}

impl<'a, T> From<&'a [T]> for Sequence<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self { source: Source::Items(items) }
    }
}

impl<'a, T: Element<'a>> PartialEq for Sequence<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Element<'a>> fmt::Debug for Sequence<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
