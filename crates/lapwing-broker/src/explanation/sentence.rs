//! What is explained, in sentences for people and in words for programs that stay the same.

use super::{Delivery, DeliveryState, Happening, Passage, Wait};

/// What stands for a value, from its number in a record.
macro_rules! from_byte {
    ($kind:ident: $first:ident $(, $variant:ident)*) => {
        impl $kind {
            /// By its number in a record.
            pub(crate) fn from_byte(byte: u8) -> Self {
                const ALL: &[$kind] = &[$kind::$first $(, $kind::$variant)*];
                ALL.iter().copied().find(|it| *it as u8 == byte).unwrap_or($kind::$first)
            }
        }
    };
}

from_byte!(Passage: PassedOn, NoSubscriber, Delayed, NotDelayed, DiskFull, QueueFull, NoRoomToRetain, PassedOnUnretained);
from_byte!(DeliveryState: Queued, Sent, OneByOne, Acknowledged, Rejected, Expired, QueueFull, OutboxFull, NotConnected, TooLarge, SessionEnded, NotPermitted, GivenToOther);
from_byte!(Wait: None, Away, ReceiveMaximum, Line, Behind, Disk);

impl Passage {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::PassedOn => "passed_on",
            Self::NoSubscriber => "no_subscriber",
            Self::Delayed => "delayed",
            Self::NotDelayed => "not_delayed",
            Self::DiskFull => "disk_full",
            Self::QueueFull => "queue_full",
            Self::NoRoomToRetain => "no_room_to_retain",
            Self::PassedOnUnretained => "passed_on_unretained",
        }
    }

    /// What happened, with what to do where something can be done.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::PassedOn => "passed on",
            Self::NoSubscriber => {
                "nobody had subscribed to it; compare the topic and the filter letter by letter, and subscribe before publishing, or retain the message"
            }
            Self::Delayed => {
                "kept until its delay has passed; it is published then, which is another message here"
            }
            Self::NotDelayed => {
                "refused: it cannot be kept until its delay has passed; see limits.delayed_messages_maximum, delayed_bytes_maximum and delay_maximum_s"
            }
            Self::DiskFull => {
                "refused: there is too little room on the disk; free some, or see store.free_bytes_minimum"
            }
            Self::QueueFull => {
                "refused: the queue of a session that would have got it is full, and limits.queue_overflow is \"refuse\"; see which client does not keep up"
            }
            Self::NoRoomToRetain => {
                "refused: there is no room for another retained message: delete some, or raise limits.retained_messages_maximum or retained_bytes_maximum; or memory was short (`lapwing status`)"
            }
            Self::PassedOnUnretained => {
                "passed on and not retained: there is no room for another retained message: delete some, or raise limits.retained_messages_maximum or retained_bytes_maximum; or memory was short (`lapwing status`)"
            }
        }
    }
}

impl DeliveryState {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::OneByOne => "one_by_one",
            Self::Acknowledged => "acknowledged",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::QueueFull => "queue_full",
            Self::OutboxFull => "outbox_full",
            Self::NotConnected => "not_connected",
            Self::TooLarge => "too_large",
            Self::SessionEnded => "session_ended",
            Self::NotPermitted => "not_permitted",
            Self::GivenToOther => "given_to_other",
        }
    }
}

impl Wait {
    /// A word for programs; `None` where it did not wait.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Away => Some("away"),
            Self::ReceiveMaximum => Some("receive_maximum"),
            Self::Line => Some("line"),
            Self::Behind => Some("behind"),
            Self::Disk => Some("disk"),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Away => "the client was not connected",
            Self::ReceiveMaximum => "the client had as many messages to acknowledge as it takes at a time",
            Self::Line => "others were waiting before it",
            Self::Behind => "the client does not read as fast as it is sent to",
            Self::Disk => {
                "it is on the disk until there is room in memory; when it is read and sent, that is shown as a message from before"
            }
        }
    }
}

impl Delivery {
    /// What happened, with what to do where something can be done.
    pub fn sentence(&self) -> String {
        let what = match self.state {
            DeliveryState::Queued => {
                let advice = match self.wait {
                    Wait::Away => "; it is sent when the client comes back to its session",
                    Wait::ReceiveMaximum => "; does it send PUBACK or PUBREC for what it gets?",
                    _ => "",
                };
                return format!("waits: {}{advice}", self.wait.reason());
            }
            DeliveryState::Sent if self.sent_at.is_none() || self.packet_id.is_none() => "sent",
            DeliveryState::Sent => "sent, and not acknowledged",
            DeliveryState::OneByOne => "looked at one by one: what is dropped of these is said for each",
            DeliveryState::Acknowledged => "sent and acknowledged",
            DeliveryState::Rejected => "sent, and the client answered that it does not take it",
            DeliveryState::Expired => "dropped: its expiry interval passed while it waited",
            DeliveryState::QueueFull => {
                "dropped: the queue of the session is full: the client does not keep up, or has been away for too long (limits.queue_messages_maximum, queue_bytes_maximum), or memory was short"
            }
            DeliveryState::OutboxFull => {
                "dropped: the client does not read as fast as it is sent to, and at QoS 0 nothing waits; subscribe with QoS 1"
            }
            DeliveryState::NotConnected => {
                "dropped: the client was not connected, and at QoS 0 nothing waits; publish and subscribe with QoS 1, and keep the session"
            }
            DeliveryState::TooLarge => {
                "dropped: it is larger than the client takes (its Maximum Packet Size)"
            }
            DeliveryState::SessionEnded => {
                "dropped: the session ended before the client had it; a longer Session Expiry Interval keeps it"
            }
            DeliveryState::NotPermitted => {
                "dropped: the rules do not let the client read this topic any more"
            }
            DeliveryState::GivenToOther => "given to another member of the shared subscription",
        };
        let mut sentence = what.to_owned();
        if let Some(reason_code) = self.reason_code {
            sentence.push_str(&format!(" ({reason_code})"));
        }
        if self.is_resent {
            sentence.push_str("; it was sent again on another connection");
        }
        if self.wait != Wait::None {
            sentence.push_str(&format!("; it waited before: {}", self.wait.reason()));
        }
        sentence
    }
}

impl Happening {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Refused { .. } => "refused",
            Self::Closed { .. } => "closed",
            Self::Disconnected { .. } => "disconnected",
            Self::SessionEnded => "session_ended",
            Self::PublishDenied { .. } => "publish_denied",
            Self::Filtered { .. } => "filtered",
            Self::Misnamed { .. } => "misnamed",
            Self::SubscribeDenied { .. } => "subscribe_denied",
            Self::SubscriptionRevoked { .. } => "subscription_revoked",
        }
    }

    /// What happened. Texts of a client's are as it sent them.
    pub fn sentence(&self) -> String {
        match self {
            Self::Connected { version, session_present, peer } => {
                let session = if *session_present { "goes on with its session" } else { "has a new session" };
                format!("connected from {peer} with MQTT {version}, and {session}")
            }
            Self::Refused { reason_code, reason, peer } => {
                format!("refused, coming from {peer}: {reason} ({reason_code})")
            }
            Self::Closed { reason_code, reason, peer } => {
                format!("the broker closed its connection from {peer}: {reason} ({reason_code})")
            }
            Self::Disconnected { reason_code: None } => {
                "its connection was lost without a DISCONNECT".to_owned()
            }
            Self::Disconnected { reason_code: Some(reason_code) } => format!("disconnected ({reason_code})"),
            Self::SessionEnded => {
                "its session ended, with its subscriptions and what waited for it".to_owned()
            }
            Self::PublishDenied { topic, .. } => format!("may not publish to {topic}"),
            Self::Filtered { topic, .. } => {
                format!("its message to {topic} was dropped by the program around the broker")
            }
            Self::Misnamed { topic } => format!("published to {topic}, which is no topic after the rules"),
            Self::SubscribeDenied { filter, .. } => format!("may not subscribe to {filter}"),
            Self::SubscriptionRevoked { filter } => {
                format!("its subscription to {filter} was removed: the rules do not allow it any more")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_in_a_record_is_what_was_written() {
        for byte in 0..=12 {
            assert_eq!(DeliveryState::from_byte(byte) as u8, byte);
        }
        for byte in 0..=7 {
            assert_eq!(Passage::from_byte(byte) as u8, byte);
        }
        for byte in 0..=5 {
            assert_eq!(Wait::from_byte(byte) as u8, byte);
        }
        assert_eq!(DeliveryState::from_byte(200), DeliveryState::Queued);
        let acknowledged = DeliveryState::Sent as u8 | DeliveryState::Acknowledged as u8;
        assert_eq!(acknowledged, DeliveryState::Acknowledged as u8, "it is made by setting a bit");
    }
}
