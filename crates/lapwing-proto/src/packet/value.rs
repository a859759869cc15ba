use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1, protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1, protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5.0, protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// Whether packets carry properties and reason codes.
    pub fn has_properties(self) -> bool {
        self == Self::V5
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// The quality of service of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QoS {
    /// Not acknowledged.
    #[default]
    AtMostOnce,
    /// Acknowledged; may arrive more than once after a lost connection.
    AtLeastOnce,
    /// Acknowledged in two steps; arrives once.
    ExactlyOnce,
}

impl QoS {
    /// The level 0, 1 or 2 that `bits` stand for; 3 is none `[MQTT-3.3.1-4]`.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub fn bits(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bits())
    }
}

/// A packet identifier: 1 to 65,535 `[MQTT-2.2.1-3]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The first identifier.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// `None` for 0.
    pub fn new(id: u16) -> Option<Self> {
        NonZeroU16::new(id).map(Self)
    }

    /// The identifier as a number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// The one after it; after 65,535 comes 1.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(NonZeroU16::MIN))
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that stands for a topic name on one connection: 1 to 65,535 `[MQTT-3.3.2-8]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicAlias(NonZeroU16);

impl TopicAlias {
    /// `None` for 0.
    pub fn new(alias: u16) -> Option<Self> {
        NonZeroU16::new(alias).map(Self)
    }

    /// The alias as a number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// A number by which a client recognises its subscription: 1 to 268,435,455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionIdentifier(NonZeroU32);

impl SubscriptionIdentifier {
    /// `None` for 0 and above 268,435,455.
    pub fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id).filter(|id| id.get() <= 268_435_455).map(Self)
    }

    /// The identifier as a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// Whether a payload is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Unspecified bytes.
    Bytes,
    /// UTF-8 encoded characters.
    Utf8,
}

/// A name and a value, meaning whatever the application wants. A name may appear more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserProperty<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: &'a str,
}
