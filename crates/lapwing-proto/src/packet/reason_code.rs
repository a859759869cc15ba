use std::fmt;

use super::PacketType;

/// Makes [`ReasonCode`] and what follows from it out of one table.
macro_rules! reason_codes {
    ($( $code:ident = $value:literal, $name:literal; )*) => {
        /// The result of an operation. 3.1 and 3.1.1 know a few of them under other numbers; see
        /// [`ConnAck`](super::ConnAck).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[expect(missing_docs, reason = "the specification's names say it")]
        #[repr(u8)]
        pub enum ReasonCode { #[default] $( $code = $value, )* }

        impl ReasonCode {
            /// All of them, in the order of their values.
            pub const ALL: &[Self] = &[$( Self::$code, )*];

            /// The code with this value, if there is one.
            pub fn from_value(value: u8) -> Option<Self> {
                match value { $( $value => Some(Self::$code), )* _ => None }
            }

            /// The specification's name in lower case. Value 0 is also called "normal disconnection" and
            /// "granted QoS 0".
            pub fn name(self) -> &'static str {
                match self { $( Self::$code => $name, )* }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "success";
    GrantedQoS1 = 0x01, "granted QoS 1";
    GrantedQoS2 = 0x02, "granted QoS 2";
    DisconnectWithWillMessage = 0x04, "disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    NoSubscriptionExisted = 0x11, "no subscription existed";
    ContinueAuthentication = 0x18, "continue authentication";
    ReAuthenticate = 0x19, "re-authenticate";
    UnspecifiedError = 0x80, "unspecified error";
    MalformedPacket = 0x81, "malformed packet";
    ProtocolError = 0x82, "protocol error";
    ImplementationSpecificError = 0x83, "implementation specific error";
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    ClientIdentifierNotValid = 0x85, "client identifier not valid";
    BadUserNameOrPassword = 0x86, "bad user name or password";
    NotAuthorized = 0x87, "not authorized";
    ServerUnavailable = 0x88, "server unavailable";
    ServerBusy = 0x89, "server busy";
    Banned = 0x8a, "banned";
    ServerShuttingDown = 0x8b, "server shutting down";
    BadAuthenticationMethod = 0x8c, "bad authentication method";
    KeepAliveTimeout = 0x8d, "keep alive timeout";
    SessionTakenOver = 0x8e, "session taken over";
    TopicFilterInvalid = 0x8f, "topic filter invalid";
    TopicNameInvalid = 0x90, "topic name invalid";
    PacketIdentifierInUse = 0x91, "packet identifier in use";
    PacketIdentifierNotFound = 0x92, "packet identifier not found";
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    TopicAliasInvalid = 0x94, "topic alias invalid";
    PacketTooLarge = 0x95, "packet too large";
    MessageRateTooHigh = 0x96, "message rate too high";
    QuotaExceeded = 0x97, "quota exceeded";
    AdministrativeAction = 0x98, "administrative action";
    PayloadFormatInvalid = 0x99, "payload format invalid";
    RetainNotSupported = 0x9a, "retain not supported";
    QoSNotSupported = 0x9b, "QoS not supported";
    UseAnotherServer = 0x9c, "use another server";
    ServerMoved = 0x9d, "server moved";
    SharedSubscriptionsNotSupported = 0x9e, "shared subscriptions not supported";
    ConnectionRateExceeded = 0x9f, "connection rate exceeded";
    MaximumConnectTime = 0xa0, "maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xa1, "subscription identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xa2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// The value on the wire in 5.0.
    pub fn value(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed: values from 0x80.
    pub fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// Whether a packet of this type may carry the code.
    pub fn is_valid_in(self, packet_type: PacketType) -> bool {
        let value = self.value();
        match packet_type {
            PacketType::ConnAck => {
                matches!(value, 0x00 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99..=0x9d | 0x9f)
            }
            PacketType::PubAck | PacketType::PubRec => {
                matches!(value, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90..=0x91 | 0x97 | 0x99)
            }
            PacketType::PubRel | PacketType::PubComp => matches!(value, 0x00 | 0x92),
            PacketType::SubAck => {
                matches!(value, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1..=0xa2)
            }
            PacketType::UnsubAck => matches!(value, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91),
            // The list of all codes has "bad authentication method" (0x8C) for DISCONNECT, the one in the
            // section on DISCONNECT does not. It is of use when a client authenticates anew.
            PacketType::Disconnect => {
                matches!(value, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2)
            }
            PacketType::Auth => matches!(value, 0x00 | 0x18..=0x19),
            _ => false,
        }
    }
}

impl fmt::Display for ReasonCode {
    /// As in `not authorized (0x87)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_shows_its_name_and_value() {
        assert_eq!(ReasonCode::Success.to_string(), "success (0x00)");
        assert_eq!(ReasonCode::GrantedQoS1.to_string(), "granted QoS 1 (0x01)");
        assert_eq!(ReasonCode::NotAuthorized.to_string(), "not authorized (0x87)");
        assert_eq!(ReasonCode::BadUserNameOrPassword.to_string(), "bad user name or password (0x86)");
    }

    #[test]
    fn all_codes_are_found_by_their_values() {
        let found: Vec<_> = (0..=u8::MAX).filter_map(ReasonCode::from_value).collect();
        assert_eq!(found, ReasonCode::ALL);
        assert_eq!(found.len(), 43);
        assert!(found.iter().all(|code| code.is_error() == (code.value() >= 0x80)));
    }

    #[test]
    fn every_code_belongs_to_some_packet() {
        use PacketType::{Auth, ConnAck, Disconnect, PubAck, PubRec, PubRel, SubAck, UnsubAck};
        let types = [ConnAck, PubAck, PubRec, PubRel, SubAck, UnsubAck, Disconnect, Auth];
        for code in ReasonCode::ALL {
            assert!(types.iter().any(|&packet_type| code.is_valid_in(packet_type)), "{code}");
        }
        assert!(!ReasonCode::Success.is_valid_in(PacketType::Publish), "a PUBLISH has no code");
    }
}
