//! Keys and values are what was written, whatever it was; other bytes are none of them and no reason to fail.

use proptest::prelude::*;

use crate::key;
use crate::record::{
    FlowKey, FlowState, KeyRecord, PublisherRecord, QueueTarget, Sequence, SessionNumber, SessionRecord,
    SubscriptionRecord, WallTime, WillRecord,
};
use crate::value::{self, QueueEntry};

fn publisher() -> impl Strategy<Value = PublisherRecord> {
    let peer = any::<(u32, u16)>().prop_map(|(ip, port)| (std::net::Ipv4Addr::from(ip), port).into());
    (any::<String>(), any::<Option<String>>(), any::<Option<String>>(), peer).prop_map(
        |(client_id, user_name, session_key, peer)| PublisherRecord {
            client_id,
            user_name,
            session_key,
            peer,
        },
    )
}

fn will() -> impl Strategy<Value = WillRecord> {
    (any::<(Vec<u8>, bool, u32, Option<u64>)>(), publisher()).prop_map(
        |((message, retain, delay_s, due), publisher)| WillRecord {
            message,
            retain,
            delay_s,
            due: due.map(WallTime),
            publisher,
        },
    )
}

fn session_record() -> impl Strategy<Value = SessionRecord> {
    let key = prop_oneof![
        any::<String>().prop_map(KeyRecord::ClientId),
        any::<String>().prop_map(KeyRecord::Identity)
    ];
    (key, any::<(u32, Option<u64>, u64)>(), proptest::option::of(will())).prop_map(
        |(key, (expiry_interval_s, expires, cursor), will)| SessionRecord {
            key,
            expiry_interval_s,
            expires: expires.map(WallTime),
            will,
            cursor: Sequence(cursor),
        },
    )
}

fn bytes_of(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    value::write(value, &[], &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn keys_are_in_the_order_of_what_they_name(
        one in any::<(u64, u64)>(),
        other in any::<(u64, u64)>(),
        filter in any::<String>(),
        packet_id in any::<u16>(),
    ) {
        let key = |(session, sequence)| key::queue(SessionNumber(session), Sequence(sequence));
        prop_assert_eq!(key(one).cmp(&key(other)), one.cmp(&other));
        let session = SessionNumber(one.0);
        let subscription = key::subscription(session, &filter);
        prop_assert_eq!(key::parse_subscription(&subscription), Some((session, &*filter)));
        for flow in [FlowKey::Inbound(packet_id), FlowKey::Outbound(packet_id)] {
            prop_assert_eq!(key::parse_flow(&key::flow(session, flow)), Some((session, flow)));
        }
        prop_assert_eq!(key::parse_ended(&key::ended(session)), Some(session));
        prop_assert_eq!(key::parse_closed(&key::closed(session)), Some(session));
        prop_assert_eq!(key::parse_ended(&key::closed(session)), None);
    }

    #[test]
    fn values_are_read_as_they_were_written(
        record in session_record(),
        options in any::<u8>(),
        identifier in any::<Option<u32>>(),
        order in any::<u64>(),
        place in any::<u64>(),
    ) {
        prop_assert_eq!(value::read_all(&bytes_of(&record)), Some(record));
        let subscription = SubscriptionRecord { options, identifier };
        prop_assert_eq!(value::read_all(&bytes_of(&subscription)), Some(subscription));
        let place = Sequence(place);
        for state in [FlowState::Received, FlowState::Sent(place), FlowState::Released(order, place)] {
            prop_assert_eq!(value::read_all(&bytes_of(&state)), Some(state));
        }
    }

    #[test]
    fn an_entry_of_a_queue_is_that_of_its_target(
        qos in (0..3_u8, 0..3_u8),
        retain in any::<(bool, bool)>(),
        identifiers in any::<Vec<u32>>(),
        share in any::<Option<String>>(),
        message in any::<Vec<u8>>(),
        is_shared in any::<bool>(),
    ) {
        let target = QueueTarget {
            session: SessionNumber(1),
            qos: qos.0,
            retain_as_published: retain.0,
            identifiers: identifiers.clone().into(),
            share: share.as_deref().map(Into::into),
        };
        let mut bytes = Vec::new();
        value::write_queue_entry(&target, (qos.1, retain.1, &message, is_shared), &mut bytes);
        let (entry, rest) = value::read::<QueueEntry>(&bytes).unwrap();
        prop_assert_eq!((entry.qos, entry.retain), (qos.0.min(qos.1), retain.0 && retain.1));
        prop_assert_eq!((entry.is_shared, entry.size as usize), (is_shared, message.len()));
        prop_assert_eq!(&*entry.identifiers, &identifiers[..]);
        prop_assert_eq!(entry.share.as_deref(), share.as_deref());
        prop_assert_eq!(rest, if is_shared { &[][..] } else { &message[..] });
    }

    #[test]
    fn other_bytes_are_no_reason_to_fail(bytes in any::<Vec<u8>>()) {
        let _ = value::read_all::<SessionRecord>(&bytes);
        let _ = value::read::<QueueEntry>(&bytes);
        let _ = value::read_all::<FlowState>(&bytes);
        let _ = crate::message::split(&bytes).map(|(holders, message)| (holders.count(), message.len()));
        let _ = (key::parse_queue(&bytes), key::parse_flow(&bytes), key::parse_subscription(&bytes));
    }
}
