//! Format 1, as bytes. What is here was written by a release, and every later one must read it: a value that has to
//! look different gets another version in its first byte, and a reader for both.

use std::net::SocketAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::engine::{Engine, MemoryEngine, WriteBatch};
use crate::value::{self, Counters, QueueEntry};
use crate::{
    DelayedRecord, PublisherRecord, RetainedRecord, SubscriptionRecord, WallTime, WillRecord, key, message,
};

fn publisher() -> PublisherRecord {
    PublisherRecord {
        client_id: "door".into(),
        user_name: Some("gate".into()),
        session_key: None,
        peer: SocketAddr::from(([127, 0, 0, 1], 40_000)),
    }
}

fn session_record() -> SessionRecord {
    SessionRecord {
        key: KeyRecord::ClientId("door".into()),
        expiry_interval_s: 3600,
        expires: Some(WallTime(1_700_000_000_000)),
        will: Some(WillRecord {
            message: b"will".to_vec(),
            retain: true,
            delay_s: 30,
            due: None,
            publisher: publisher(),
        }),
        cursor: Sequence(300),
    }
}

fn queue_entry(is_shared: bool) -> QueueEntry {
    QueueEntry {
        qos: 1,
        retain: false,
        is_shared,
        size: 5,
        identifiers: [7, 300].into(),
        share: Some("$share/g/t".into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value is written as these bytes, and read from them, with what stands behind it.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    value: &T,
    rest: &[u8],
    expected: &str,
) {
    let mut bytes = Vec::new();
    value::write(value, rest, &mut bytes);
    assert_eq!(hex(&bytes), expected, "{value:?}");
    let (read, behind) = value::read::<T>(&bytes).unwrap();
    assert_eq!((&read, behind), (value, rest));
}

#[test]
fn values_have_the_bytes_of_format_1() {
    check(&Counters { sequence: 300, session: 5 }, &[], "01ac0205");
    check(
        &session_record(),
        &[],
        "010004646f6f72901c0180d095ffbc31010477696c6c011e0004646f6f7201046761746500007f000001c0b802ac02",
    );
    let identity = SessionRecord {
        key: KeyRecord::Identity("key".into()),
        expiry_interval_s: u32::MAX,
        expires: None,
        will: None,
        cursor: Sequence(0),
    };
    check(&identity, &[], "0101036b6579ffffffff0f000000");
    check(&SubscriptionRecord { options: 0b0010_1110, identifier: Some(300) }, &[], "012e01ac02");
    check(&queue_entry(false), b"hello", "01010000050207ac02010a2473686172652f672f7468656c6c6f");
    check(&queue_entry(true), &[], "01010001050207ac02010a2473686172652f672f74");
    check(&FlowState::Received, &[], "0100");
    check(&FlowState::Sent(Sequence(300)), &[], "0101ac02");
    check(&FlowState::Released(2, Sequence(300)), &[], "010202ac02");
    check(
        &RetainedRecord { message: b"kept".to_vec(), publisher: Some(publisher()) },
        &[],
        "01046b6570740104646f6f7201046761746500007f000001c0b802",
    );
    let delayed = DelayedRecord {
        message: b"later".to_vec(),
        retain: true,
        due: WallTime(1_700_000_000_000),
        publisher: None,
    };
    check(&delayed, &[], "01056c617465720180d095ffbc3100");
}

#[test]
fn keys_have_the_bytes_of_format_1() {
    let session = SessionNumber(258);
    assert_eq!(key::COUNTERS, b"counters");
    assert_eq!(hex(&key::ended(session)), "656e6465642f0000000000000102");
    assert_eq!(hex(&key::closed(session)), "636c6f7365642f0000000000000102");
    assert_eq!(hex(&key::session(session)), "0000000000000102");
    assert_eq!(hex(&key::subscription(session, "a/+")), "0000000000000102612f2b");
    assert_eq!(hex(&key::queue(session, Sequence(3))), "00000000000001020000000000000003");
    assert_eq!(hex(&key::flow(session, FlowKey::Inbound(258))), "0000000000000102000102");
    assert_eq!(hex(&key::flow(session, FlowKey::Outbound(258))), "0000000000000102010102");
    assert_eq!(hex(&key::delayed(3)), "0000000000000003");
}

#[test]
fn a_shared_message_has_the_bytes_of_format_1() {
    let mut bench = Bench::new(1);
    let sequence = bench.make([queued("hello", &[1, 2])]);
    let engine = bench.disk.open();
    let value = engine.get(Space::Message, &key::sequence(sequence)).unwrap().unwrap();
    assert_eq!(hex(&value), "020000000100000000000000020000000000000068656c6c6f");
    let (holders, message) = message::split(&value).unwrap();
    assert_eq!((holders.count(), message), (2, &b"hello"[..]));
}

/// A store of format 1 can be opened and used, whatever was left in it.
#[test]
fn a_store_of_format_1_goes_on() {
    let mut engine = MemoryEngine::default();
    let mut batch = WriteBatch::default();
    for (space, key, value) in STORE {
        batch.insert(*space, &unhex(key), |out| out.extend(unhex(value)));
    }
    engine.write(&batch).unwrap();
    let (store, mut writer) = Writer::open(Box::new(engine), Options::default(), || ()).unwrap();
    assert_eq!(store.next_session(), SessionNumber(5));
    let recovered = writer.recovered();
    assert_eq!(recovered.next_sequence(), Sequence(300));
    let (mut sessions, mut filters) = (Vec::new(), Vec::new());
    recovered.sessions(|number, record| sessions.push((number.0, record))).unwrap();
    assert_eq!(sessions, [(1, session_record())]);
    recovered
        .subscriptions(|number, filter, record| filters.push((number.0, filter.to_owned(), record)))
        .unwrap();
    assert_eq!(filters, [(1, "a/+".to_owned(), SubscriptionRecord { options: 0x2e, identifier: Some(300) })]);
    let (texts, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
    let (reading, telling) = (Arc::clone(&texts), Arc::clone(&told));
    let request = QueueRequest { session: SessionNumber(1), after: Sequence(0), messages: 9, bytes: 1 << 20 };
    store.read(request, move |read| {
        reading.lock().unwrap().extend(read.deliveries.into_iter().map(|it| it.message.to_vec()));
    });
    store.read_flows(SessionNumber(1), move |flows| *telling.lock().unwrap() = Some(flows));
    writer.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(*texts.lock().unwrap(), [b"hello".to_vec(), b"hello".to_vec()]);
    let flows = told.lock().unwrap().take().unwrap();
    assert_eq!((flows.received, flows.sent), (vec![258], vec![(259, FlowState::Sent(Sequence(3)))]));
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(crate) const STORE: &[(Space, &str, &str)] = &[
    (Space::Meta, "636f756e74657273", "01ac0205"),
    (
        Space::Session,
        "0000000000000001",
        "010004646f6f72901c0180d095ffbc31010477696c6c011e0004646f6f7201046761746500007f000001c0b802ac02",
    ),
    (Space::Subscription, "0000000000000001612f2b", "012e01ac02"),
    (
        Space::Queue,
        "00000000000000010000000000000003",
        "01010000050207ac02010a2473686172652f672f7468656c6c6f",
    ),
    (Space::Queue, "00000000000000010000000000000004", "01010001050207ac02010a2473686172652f672f74"),
    (Space::Message, "0000000000000004", "020000000100000000000000020000000000000068656c6c6f"),
    (Space::Flow, "0000000000000001000102", "0100"),
    (Space::Flow, "0000000000000001010103", "010103"),
    (Space::Retained, "72", "01046b6570740104646f6f7201046761746500007f000001c0b802"),
    (Space::Delayed, "0000000000000003", "01056c617465720180d095ffbc3100"),
];
