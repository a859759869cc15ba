//! Whether a store makes sense, and what is left of one that does not.

use super::*;
use crate::check::{Fault, Finding, Report, check, repair, subject};
use crate::engine::{Engine, MemoryEngine, WriteBatch};
use crate::stat::Stat;
use crate::{DelayedRecord, RetainedRecord, SubscriptionRecord, WallTime, key, value};

/// Messages that begin with a question mark are none; the others have what is before the colon for their topic.
fn topic(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok().filter(|text| !text.starts_with('?'))?;
    Some(text.split(':').next().unwrap_or_default().to_owned())
}

/// A store with something of everything.
fn engine() -> MemoryEngine {
    let engine = MemoryEngine::default();
    let (store, mut writer) = Writer::open(Box::new(engine), Options::default(), || ()).unwrap();
    // Two sessions, and one that is over.
    for number in 1..=3 {
        assert_eq!(store.next_session(), SessionNumber(number));
    }
    let subscription = SubscriptionRecord { options: 1, identifier: None };
    let changes = [
        session(1),
        session(2),
        session(3),
        Change::Subscribed(SessionNumber(1), "gate/#".into(), subscription),
        Change::Subscribed(SessionNumber(2), "gate/+".into(), subscription),
        queued("gate/a:shared", &[1, 2]),
        queued("gate/b:own", &[1]),
        flow(1, FlowKey::Inbound(5), Some(FlowState::Received)),
        flow(1, FlowKey::Outbound(1), Some(FlowState::Sent(Sequence(2)))),
        flow(2, FlowKey::Outbound(1), Some(FlowState::Released(1, Sequence(1)))),
        Change::Retained(
            "state".into(),
            Box::new(RetainedRecord { message: b"state:on".to_vec(), publisher: None }),
        ),
        Change::Delayed(
            1,
            Box::new(DelayedRecord {
                message: b"late:x".to_vec(),
                retain: false,
                due: WallTime(9),
                publisher: None,
            }),
        ),
        Change::SessionClosed(SessionNumber(3)),
    ];
    store.submit(transaction(changes, true), |_| ());
    store.stop();
    let engine = writer_end(&mut writer);
    drop(writer);
    engine
}

/// What the writer's engine has, in one of our own.
fn writer_end(writer: &mut Writer) -> MemoryEngine {
    writer.turn(Some(Duration::ZERO)).unwrap();
    let mut engine = MemoryEngine::default();
    let mut batch = WriteBatch::default();
    writer
        .snapshot()
        .unwrap()
        .scan(&mut |space, key, value| {
            batch.insert(space, key, |out| out.extend_from_slice(value));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    engine.write(&batch).unwrap();
    engine
}

fn findings(engine: &dyn Engine) -> (Report, Vec<Finding>) {
    let mut found = Vec::new();
    let report = check(engine, &topic, &mut |finding| found.push(finding.clone())).unwrap();
    (report, found)
}

fn insert(engine: &mut MemoryEngine, space: Space, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.insert(space, key, |out| out.extend_from_slice(value));
    engine.write(&batch).unwrap();
}

fn remove(engine: &mut MemoryEngine, space: Space, key: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.remove(space, key);
    engine.write(&batch).unwrap();
}

#[test]
fn what_the_writer_makes_is_sound() {
    let (report, found) = findings(&engine());
    assert_eq!(found, []);
    assert_eq!(report, Report { entries: 15, faults: 0, left_over: 0 });
    let (report, found) = findings(&MemoryEngine::default());
    assert_eq!((report, found), (Report::default(), vec![]));
}

type Plant = fn(&mut MemoryEngine);

/// What is planted, and what must be found: the lines, of which the first so many are faults.
const CASES: &[(Plant, &[&str], u64)] = &[
    (|it| insert(it, Space::Meta, b"other", b""), &["meta: other: there is no such key"], 1),
    (
        |it| remove(it, Space::Meta, b"counters"),
        &["meta: counters: the next message must be 3 and the next session 4"],
        1,
    ),
    (
        |it| insert(it, Space::Meta, b"counters", &[1, 1, 1]),
        &["meta: counters: the next message must be 3 and the next session 4"],
        1,
    ),
    (
        |it| remove(it, Space::Session, &key::session(SessionNumber(2))),
        &[
            "subscription: session 2, filter gate/+: its session does not exist",
            "flow: session 2, packet 1 to it: its session does not exist",
            "queue: session 2, message 1 on gate/a: its session does not exist",
        ],
        2,
    ),
    (
        |it| insert(it, Space::Session, &key::session(SessionNumber(1)), b"?"),
        &["session: session 1: the value cannot be read"],
        1,
    ),
    (
        |it| insert(it, Space::Subscription, &key::subscription(SessionNumber(1), "a/#/b"), &[1, 1, 0]),
        &["subscription: client client_1 (session 1), filter a/#/b: the topic is not valid"],
        1,
    ),
    (
        |it| insert(it, Space::Subscription, &key::subscription(SessionNumber(1), "a"), &[1, 0xFF, 0]),
        &["subscription: client client_1 (session 1), filter a: the value cannot be read"],
        1,
    ),
    (
        |it| remove(it, Space::Message, &key::sequence(Sequence(1))),
        &[
            "queue: client client_1 (session 1), message 1: its message is not there",
            "queue: client client_2 (session 2), message 1: its message is not there",
        ],
        2,
    ),
    (
        |it| remove(it, Space::Queue, &key::queue(SessionNumber(1), Sequence(2))),
        &["flow: client client_1 (session 1), packet 1 to it: nobody waits for it any more"],
        0,
    ),
    (
        // It waits for a session that its message does not know of.
        |it| {
            insert(it, Space::Session, &key::session(SessionNumber(4)), &session_value());
            insert(it, Space::Queue, &key::queue(SessionNumber(4), Sequence(1)), &shared_entry(13));
            insert(it, Space::Meta, b"counters", &[1, 3, 5]);
        },
        &["queue: client d (session 4), message 1 on gate/a: its message is not for this session"],
        1,
    ),
    (
        |it| insert(it, Space::Queue, &key::queue(SessionNumber(2), Sequence(1)), &shared_entry(99)),
        &["queue: client client_2 (session 2), message 1 on gate/a: its message has another size"],
        1,
    ),
    (|it| insert(it, Space::Queue, b"short", b""), &["queue: short: there is no such key"], 1),
    (
        |it| {
            remove(it, Space::Queue, &key::queue(SessionNumber(1), Sequence(1)));
            remove(it, Space::Queue, &key::queue(SessionNumber(2), Sequence(1)));
        },
        &["message: message 1 on gate/a: nobody waits for it any more"],
        0,
    ),
    (
        |it| insert(it, Space::Flow, &key::flow(SessionNumber(1), FlowKey::Inbound(9)), &[1, 1, 3]),
        &["flow: client client_1 (session 1), packet 9 from it: the value cannot be read"],
        1,
    ),
    (|it| insert(it, Space::Retained, b"a/+", b"x"), &["retained: a/+: the topic is not valid"], 1),
    (
        |it| insert(it, Space::Retained, b"lamp\n", &[1, 2, b'?', b'?', 0]),
        &["retained: lamp\\n: the message cannot be read"],
        1,
    ),
    (|it| insert(it, Space::Delayed, &[0; 8], b"x"), &["delayed: message 0: the value cannot be read"], 1),
];

fn session_value() -> Vec<u8> {
    vec![1, 0, 1, b'd', 0, 0, 0, 0]
}

fn shared_entry(size: u8) -> Vec<u8> {
    vec![1, 1, 0, 1, size, 0, 0]
}

#[test]
fn each_fault_is_found_and_removed() {
    for (plant, expected, faults) in CASES {
        let mut engine = engine();
        plant(&mut engine);
        let (report, found) = findings(&engine);
        let mut lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        let mut expected = expected.to_vec();
        lines.sort();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        assert_eq!((report.faults, report.left_over), (*faults, found.len() as u64 - faults), "{expected:?}");
        let mut count = 0;
        let repaired = repair(&mut engine, &topic, &mut |_| count += 1).unwrap();
        assert!(repaired.faults >= *faults && repaired.faults + repaired.left_over == count, "{expected:?}");
        assert_eq!(findings(&engine).0, Report { entries: repaired.entries, ..Report::default() });
        // What is left can be used.
        drop(Writer::open(Box::new(engine), Options::default(), || ()).unwrap());
    }
}

#[test]
fn a_session_that_is_removed_takes_what_it_had_along() {
    let mut engine = engine();
    insert(&mut engine, Space::Session, &key::session(SessionNumber(1)), b"?");
    let mut found = Vec::new();
    repair(&mut engine, &topic, &mut |finding| found.push((finding.space, finding.fault))).unwrap();
    assert_eq!(found[0], (Space::Session, Fault::Value));
    assert!(
        found.contains(&(Space::Queue, Fault::NoSession)) && found.contains(&(Space::Flow, Fault::NoSession))
    );
    let stat = Stat::read(&engine, 10).unwrap();
    assert_eq!((stat.sessions, stat.subscriptions, stat.queued.messages), (1, 1, 1));
}

#[test]
fn numbers_are_not_given_again_after_a_repair() {
    let mut engine = engine();
    remove(&mut engine, Space::Meta, b"counters");
    repair(&mut engine, &topic, &mut |_| ()).unwrap();
    let counters: value::Counters =
        value::read_all(&engine.get(Space::Meta, key::COUNTERS).unwrap().unwrap()).unwrap();
    assert_eq!((counters.sequence, counters.session), (3, 4));
}

#[test]
fn keys_are_shown_with_what_is_known_of_them() {
    let engine = engine();
    let shown = |space, key: &[u8]| subject(&engine, &topic, space, key);
    let place = key::queue(SessionNumber(1), Sequence(2));
    assert_eq!(shown(Space::Queue, &place), "client client_1 (session 1), message 2 on gate/b");
    assert_eq!(shown(Space::Queue, &key::queue(SessionNumber(9), Sequence(9))), "session 9, message 9");
    assert_eq!(shown(Space::Message, &key::sequence(Sequence(1))), "message 1 on gate/a");
    assert_eq!(shown(Space::Retained, b"state"), "state");
    assert_eq!(shown(Space::Delayed, &key::delayed(1)), "message 1 on late");
}

#[test]
fn it_is_counted_what_there_is() {
    let mut engine = engine();
    let stat = Stat::read(&engine, 1).unwrap();
    let count = |messages, bytes| QueueCount { messages, bytes };
    assert_eq!((stat.sessions, stat.sessions_over, stat.subscriptions), (2, 1, 2));
    assert_eq!((stat.queued, stat.shared), (count(3, 36), count(1, 13)));
    assert_eq!((stat.retained, stat.delayed), (count(1, 8), count(1, 6)));
    assert_eq!((stat.flows_inbound, stat.flows_outbound, stat.unreadable), (1, 2, 0));
    let [top] = &stat.top[..] else { panic!("{:?}", stat.top) };
    assert_eq!((top.name.as_deref(), top.messages, top.bytes), (Some("client_1"), 2, 23));
    insert(&mut engine, Space::Queue, b"short", b"");
    let stat = Stat::read(&engine, 10).unwrap();
    assert_eq!((stat.unreadable, stat.top.len()), (1, 2));
    assert_eq!(Stat::read(&engine, 0).unwrap().top, []);
}
