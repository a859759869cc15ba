//! Properties: which there are, how each value is read and written, and the macro that makes a packet's
//! property struct from a list of its fields.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use super::reader::Reader;
use super::sequence::Element;
use super::writer;
use super::{
    DecodeError, EncodeError, PayloadFormat, ProtocolVersion, QoS, ReasonCode, SubscriptionIdentifier,
    TopicAlias, UserProperty,
};
use crate::topic::TopicName;

/// How long a value is on the wire.
enum Length {
    Bytes(usize),
    Variable,
    Field,
    TwoFields,
}

/// Makes [`PropertyId`] and what follows from it out of one table.
macro_rules! property_ids {
    ($( $id:ident = $number:literal, $name:literal, $length:expr; )*) => {
        /// A property's identifier.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the specification's names say it")]
        #[repr(u8)]
        pub enum PropertyId { $( $id = $number, )* }

        impl PropertyId {
            fn from_number(number: u32) -> Option<Self> {
                match number { $( $number => Some(Self::$id), )* _ => None }
            }

            fn length(self) -> Length {
                match self { $( Self::$id => $length, )* }
            }
        }

        impl fmt::Display for PropertyId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( Self::$id => $name, )* })
            }
        }
    };
}

property_ids! {
    PayloadFormatIndicator = 1, "Payload Format Indicator", Length::Bytes(1);
    MessageExpiryInterval = 2, "Message Expiry Interval", Length::Bytes(4);
    ContentType = 3, "Content Type", Length::Field;
    ResponseTopic = 8, "Response Topic", Length::Field;
    CorrelationData = 9, "Correlation Data", Length::Field;
    SubscriptionIdentifier = 11, "Subscription Identifier", Length::Variable;
    SessionExpiryInterval = 17, "Session Expiry Interval", Length::Bytes(4);
    AssignedClientIdentifier = 18, "Assigned Client Identifier", Length::Field;
    ServerKeepAlive = 19, "Server Keep Alive", Length::Bytes(2);
    AuthenticationMethod = 21, "Authentication Method", Length::Field;
    AuthenticationData = 22, "Authentication Data", Length::Field;
    RequestProblemInformation = 23, "Request Problem Information", Length::Bytes(1);
    WillDelayInterval = 24, "Will Delay Interval", Length::Bytes(4);
    RequestResponseInformation = 25, "Request Response Information", Length::Bytes(1);
    ResponseInformation = 26, "Response Information", Length::Field;
    ServerReference = 28, "Server Reference", Length::Field;
    ReasonString = 31, "Reason String", Length::Field;
    ReceiveMaximum = 33, "Receive Maximum", Length::Bytes(2);
    TopicAliasMaximum = 34, "Topic Alias Maximum", Length::Bytes(2);
    TopicAlias = 35, "Topic Alias", Length::Bytes(2);
    MaximumQoS = 36, "Maximum QoS", Length::Bytes(1);
    RetainAvailable = 37, "Retain Available", Length::Bytes(1);
    UserProperty = 38, "User Property", Length::TwoFields;
    MaximumPacketSize = 39, "Maximum Packet Size", Length::Bytes(4);
    WildcardSubscriptionAvailable = 40, "Wildcard Subscription Available", Length::Bytes(1);
    SubscriptionIdentifierAvailable = 41, "Subscription Identifier Available", Length::Bytes(1);
    SharedSubscriptionAvailable = 42, "Shared Subscription Available", Length::Bytes(1);
}

impl PropertyId {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_number(reader.variable()?).ok_or(DecodeError::malformed("there is no such property"))
    }

    /// Passes over a value that has been checked before.
    fn skip(self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match self.length() {
            Length::Bytes(count) => reader.take(count).map(drop),
            Length::Variable => reader.variable().map(drop),
            Length::Field => reader.binary().map(drop),
            Length::TwoFields => reader.binary().and_then(|_| reader.binary()).map(drop),
        }
    }
}

/// A property's value: how it is read and written.
pub(super) trait Value<'a>: Copy {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn size(&self) -> Result<usize, EncodeError>;
    fn write(&self, out: &mut Vec<u8>);
}

impl Value<'_> for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u16()
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(2)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::u16(out, *self);
    }
}

impl Value<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u32()
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(4)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::u32(out, *self);
    }
}

impl Value<'_> for NonZeroU16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(reader.u16()?).ok_or(DecodeError::protocol("a property must not be 0"))
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(2)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::u16(out, self.get());
    }
}

impl Value<'_> for NonZeroU32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(reader.u32()?).ok_or(DecodeError::protocol("a property must not be 0"))
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(4)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::u32(out, self.get());
    }
}

impl Value<'_> for TopicAlias {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // [MQTT-3.3.2-8]. The specification names no code for it; this one says what is wrong.
        let zero = DecodeError::new(ReasonCode::TopicAliasInvalid, "topic alias 0");
        Self::new(reader.u16()?).ok_or(zero)
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(2)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::u16(out, self.get());
    }
}

impl Value<'_> for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol("a property must be 0 or 1")),
        }
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(1)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Value<'_> for PayloadFormat {
    /// For values that do not exist the specification names no error here. As for the other bytes that can be
    /// 0 or 1, it is a Protocol Error.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::read(reader)? { Self::Utf8 } else { Self::Bytes })
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(1)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

/// Maximum QoS: absent it is 2, so that only 0 and 1 may be said. A CONNACK leaves out 2 when it is written.
impl Value<'_> for QoS {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::read(reader)? { Self::AtLeastOnce } else { Self::AtMostOnce })
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(1)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.bits().min(1));
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.string()
    }
    fn size(&self) -> Result<usize, EncodeError> {
        writer::string_size(self)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::field(out, self.as_bytes());
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.binary()
    }
    fn size(&self) -> Result<usize, EncodeError> {
        writer::field_size(self.len())
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::field(out, self);
    }
}

impl<'a> Value<'a> for TopicName<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        TopicName::new(reader.string_with_null()?).map_err(Into::into)
    }
    fn size(&self) -> Result<usize, EncodeError> {
        writer::field_size(self.as_str().len())
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::field(out, self.as_str().as_bytes());
    }
}

impl<'a> Value<'a> for UserProperty<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { name: reader.string()?, value: reader.string()? })
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(writer::string_size(self.name)? + writer::string_size(self.value)?)
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::field(out, self.name.as_bytes());
        writer::field(out, self.value.as_bytes());
    }
}

impl Value<'_> for SubscriptionIdentifier {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(reader.variable()?).ok_or(DecodeError::protocol("a property must not be 0"))
    }
    fn size(&self) -> Result<usize, EncodeError> {
        Ok(writer::variable_size(self.get()))
    }
    fn write(&self, out: &mut Vec<u8>) {
        writer::variable(out, self.get());
    }
}

/// Properties that may appear more than once are elements: their identifier goes with each value.
macro_rules! repeated_property {
    ($type:ty, $id:ident) => {
        impl<'a> Element<'a> for $type {
            fn read_next(reader: &mut Reader<'a>, _: ProtocolVersion) -> Result<Option<Self>, DecodeError> {
                seek(PropertyId::$id, reader)
            }
            fn size(&self) -> Result<usize, EncodeError> {
                Ok(1 + Value::size(self)?)
            }
            fn write(&self, out: &mut Vec<u8>) {
                out.push(PropertyId::$id as u8);
                Value::write(self, out);
            }
        }
    };
}
repeated_property!(UserProperty<'a>, UserProperty);
repeated_property!(SubscriptionIdentifier, SubscriptionIdentifier);

/// The next property `wanted` in a block of properties that has been checked before.
fn seek<'a, T: Value<'a>>(wanted: PropertyId, reader: &mut Reader<'a>) -> Result<Option<T>, DecodeError> {
    while !reader.is_empty() {
        let id = PropertyId::read(reader)?;
        if id == wanted {
            return T::read(reader).map(Some);
        }
        id.skip(reader)?;
    }
    Ok(None)
}

/// Sets a property that must not appear twice.
pub(super) fn set_once<T>(field: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    if field.replace(value).is_some() {
        return Err(DecodeError::protocol("a property appears twice"));
    }
    Ok(())
}

/// Makes a packet's property struct. A field `name: Type = Property` may appear once, a field
/// `many name: Type = Property` any number of times.
macro_rules! properties {
    (
        $(#[$doc:meta])*
        $name:ident {
            $( $(#[$once_doc:meta])* $once:ident: $once_type:ty = $once_id:ident, )*
            $( ; $( $(#[$many_doc:meta])* $many:ident: $many_type:ty = $many_id:ident, )* )?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct $name<'a> {
            $( $(#[$once_doc])* pub $once: Option<$once_type>, )*
            $( $( $(#[$many_doc])* pub $many: $crate::packet::Sequence<'a, $many_type>, )* )?
        }

        impl<'a> $name<'a> {
            /// Reads the properties' length and the properties. Before 5.0 there is neither.
            pub(super) fn decode(
                reader: &mut $crate::packet::reader::Reader<'a>,
                version: $crate::packet::ProtocolVersion,
            ) -> Result<Self, $crate::packet::DecodeError> {
                #[allow(unused_imports, reason = "one macro for all packets")]
                use $crate::packet::property::{PropertyId, Value, set_once};
                let mut properties = Self::default();
                if !version.has_properties() {
                    return Ok(properties);
                }
                let length = reader.variable()?;
                if length == 0 {
                    return Ok(properties);
                }
                let block = reader.take(length as usize)?;
                let mut reader = $crate::packet::reader::Reader::new(block);
                while !reader.is_empty() {
                    let id = PropertyId::read(&mut reader)?;
                    match id {
                        $( PropertyId::$once_id => <$once_type as Value>::read(&mut reader)
                            .and_then(|value| set_once(&mut properties.$once, value)), )*
                        $( $( PropertyId::$many_id => <$many_type as Value>::read(&mut reader)
                            .map(|_| {
                                properties.$many = $crate::packet::Sequence::checked(block, version);
                            }), )* )?
                        #[allow(unreachable_patterns, reason = "one macro for all packets")]
                        _ => Err($crate::packet::DecodeError::malformed("a property that this packet cannot have")),
                    }
                    .map_err(|error| error.at(id))?;
                }
                Ok(properties)
            }

            /// Whether there is none. It may say `false` though there is none.
            #[inline]
            fn is_surely_empty(&self) -> bool {
                true $( && self.$once.is_none() )* $( $( && self.$many.is_surely_empty() )* )?
            }

            /// Bytes of the properties without their length.
            fn block_size(&self) -> Result<usize, $crate::packet::EncodeError> {
                #[allow(unused_imports, reason = "one macro for all packets")]
                use $crate::packet::property::Value;
                let mut size = 0;
                $( if let Some(value) = &self.$once { size += 1 + Value::size(value)?; } )*
                $( $( size += self.$many.size()?; )* )?
                Ok(size)
            }

            /// Bytes of the properties with their length.
            #[inline]
            pub(super) fn size(
                &self,
                version: $crate::packet::ProtocolVersion,
            ) -> Result<usize, $crate::packet::EncodeError> {
                if !version.has_properties() {
                    return Ok(0);
                }
                if self.is_surely_empty() {
                    return Ok(1);
                }
                let size = self.block_size()?;
                Ok($crate::packet::writer::variable_size(size as u32) + size)
            }

            /// Appends the properties' length and the properties.
            #[allow(dead_code, reason = "one macro for all packets")]
            pub(super) fn write(&self, version: $crate::packet::ProtocolVersion, out: &mut Vec<u8>) {
                if !version.has_properties() {
                    return;
                }
                if self.is_surely_empty() {
                    return out.push(0);
                }
                self.write_some(out);
            }

            /// As `write`, in 5.0, where there are some.
            #[inline(never)]
            pub(super) fn write_some(&self, out: &mut Vec<u8>) {
                #[allow(unused_imports, reason = "one macro for all packets")]
                use $crate::packet::property::{PropertyId, Value};
                // The caller has asked for the size before, so that it is known to be none too large.
                let size = self.block_size().unwrap_or(0);
                $crate::packet::writer::variable(out, size as u32);
                $( if let Some(value) = &self.$once {
                    out.push(PropertyId::$once_id as u8);
                    Value::write(value, out);
                } )*
                $( $( self.$many.write(out); )* )?
            }
        }
    };
}
pub(super) use properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_show_the_names_of_the_specification() {
        assert_eq!(PropertyId::MaximumQoS.to_string(), "Maximum QoS");
        assert_eq!(PropertyId::SharedSubscriptionAvailable.to_string(), "Shared Subscription Available");
    }

    #[test]
    fn there_are_27_properties() {
        let found: Vec<_> = (0..1000).filter_map(PropertyId::from_number).collect();
        assert_eq!(found.len(), 27);
        assert!(found.iter().all(|&id| PropertyId::from_number(id as u32) == Some(id)));
    }
}
