//! What others than clients ask a shard.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use lapwing_proto::packet::{Publish, QoS, ReasonCode};
use lapwing_proto::topic::TopicName;

use super::broker::{Broker, clean, expiring, will};
use super::{V5, V311};
use crate::control::{ControlError, Inquiry, Pick, SessionInfo};
use crate::mail::Mail;
use crate::message::Message;
use crate::shard::SessionKey;

/// One shard, which is the one that is asked.
fn alone() -> Broker {
    Broker::with(|setup| setup.shards = 1)
}

fn key(client_id: &str) -> SessionKey {
    SessionKey::ClientId(client_id.into())
}

fn ask<T>(broker: &Broker, inquiry: impl FnOnce(SyncSender<T>) -> Inquiry) -> T {
    let (sender, receiver): (_, Receiver<T>) = sync_channel(1);
    broker.send(Mail::Inquiry(Box::new(inquiry(sender))));
    receiver.try_recv().expect("an answer at once")
}

fn sessions(broker: &Broker, from: usize, maximum: usize) -> (Vec<SessionInfo>, Option<usize>) {
    pick(broker, Pick::All, from, maximum)
}

fn pick(broker: &Broker, pick: Pick, from: usize, maximum: usize) -> (Vec<SessionInfo>, Option<usize>) {
    let sessions = ask(broker, |reply| Inquiry::Sessions { from, pick, maximum, reply });
    (sessions.shown, sessions.next)
}

#[test]
fn every_session_is_shown_once_whatever_the_pages() {
    let broker = alone();
    let names: Vec<String> = (0..9).map(|number| format!("c{number}")).collect();
    let clients: Vec<_> = names.iter().map(|name| broker.connect(V5, name)).collect();
    // A place that is free is nobody.
    clients[4].disconnect();
    for maximum in 1..10 {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let (page, next) = sessions(&broker, start, maximum);
            assert!(page.len() <= maximum);
            found.extend(page.into_iter().map(|session| session.client_id));
            from = next;
        }
        found.sort();
        let expected = names.iter().filter(|&name| name != "c4");
        assert!(found.iter().eq(expected), "{maximum}: {found:?}");
    }
    assert_eq!(sessions(&broker, 100_000, 5), (Vec::new(), None));
}

#[test]
fn a_session_is_shown_as_it_is() {
    let broker = alone();
    let mut connect = expiring("a", 60);
    connect.user_name = Some("ada");
    connect.keep_alive = 30;
    let client = broker.join(&connect);
    client.subscribe("x/+", 2);
    client.subscribe("$share/g/y", 1);
    let show = || ask(&broker, |reply| Inquiry::Session { key: key("a"), skip: 0, maximum: 9, reply });
    let (session, mut subscriptions) = show().unwrap();
    subscriptions.sort_by_key(|subscription| subscription.qos);
    let subscriptions: Vec<_> = subscriptions.iter().map(|it| (it.filter.as_str(), it.qos)).collect();
    assert_eq!(subscriptions, [("$share/g/y", QoS::AtLeastOnce), ("x/+", QoS::ExactlyOnce)]);
    assert_eq!((session.session_expiry_interval_s, session.subscriptions), (60, 2));
    let connection = session.connection.unwrap();
    assert_eq!((connection.version, connection.keep_alive_s), (V5, 30));
    client.lose();
    broker.connect(V311, "p").publish("x/1", "m", 1);
    let (session, _) = show().unwrap();
    assert_eq!((session.connection, session.queued_messages), (None, 1));
    let few = ask(&broker, |reply| Inquiry::Session { key: key("a"), skip: 1, maximum: 1, reply }).unwrap().1;
    assert_eq!(few.len(), 1);
    assert_eq!(ask(&broker, |reply| Inquiry::Session { key: key("b"), skip: 0, maximum: 9, reply }), None);
}

#[test]
fn sessions_are_picked_by_their_connection_or_their_weight() {
    let broker = alone();
    let here = broker.join(&expiring("here", 60));
    for (name, length) in [("light", 10), ("heavy", 1000), ("empty", 0)] {
        let client = broker.join(&expiring(name, 60));
        client.subscribe(name, 1);
        client.lose();
        if length > 0 {
            here.publish(name, &"x".repeat(length), 1);
        }
    }
    let names = |wanted: Pick| {
        let (mut names, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let (page, next) = pick(&broker, wanted, start, 2);
            names.extend(page.into_iter().map(|session| session.client_id));
            from = next;
        }
        names.sort();
        names
    };
    assert_eq!(names(Pick::Connected(true)), ["here"]);
    assert_eq!(names(Pick::Connected(false)), ["empty", "heavy", "light"]);
    let all = sessions(&broker, 0, 9).0;
    let weight = |name: &str| all.iter().find(|it| it.client_id == name).expect("it is there").weight;
    assert_eq!(weight("here").total(), 0);
    assert!(weight("heavy").queued_bytes > 1000 && weight("empty").queued_bytes == 0);
    assert!(weight("empty").subscription_bytes > 0);
    assert_eq!(names(Pick::Heavier(weight("light").total())), ["heavy"]);
    let found = ask(&broker, |reply| Inquiry::Sessions { from: 0, pick: Pick::All, maximum: 9, reply });
    let total: usize = all.iter().map(|session| session.weight.total()).sum();
    assert_eq!(found.weight.total(), total);
    assert!(all.iter().all(|session| session.expires.is_some() == session.connection.is_none()));
}

#[test]
fn an_administrator_ends_a_session_with_all_that_it_has() {
    let broker = alone();
    let (watcher, publisher) = (broker.connect(V5, "w"), broker.connect(V5, "p"));
    watcher.subscribe("gone", 0);
    let end = || ask(&broker, |reply| Inquiry::EndSession { key: key("a"), reply });
    for is_connected in [true, false] {
        let mut connect = expiring("a", 60);
        connect.will = Some(will("gone", "a", 0));
        let client = broker.join(&connect);
        client.subscribe("t", 1);
        if is_connected {
            assert_eq!(end(), Ok(()));
            client.expect_end(ReasonCode::AdministrativeAction);
        } else {
            client.disconnect();
            publisher.publish("t", "m", 1);
            assert_eq!(end(), Ok(()));
        }
        assert_eq!((broker.stat().sessions, end()), (2, Err(ControlError::NoSession)));
        if is_connected {
            watcher.receive("gone", "a", 0);
        }
        // Who comes back begins anew, and nothing waits.
        let back = broker.resume(V5, "a");
        back.expect_nothing();
        publisher.publish("t", "m", 1);
        back.expect_nothing();
        assert_eq!(end(), Ok(()));
    }
    watcher.expect_nothing();
}

#[test]
fn an_administrator_ends_a_connection_with_its_will_and_not_its_session() {
    let broker = alone();
    let watcher = broker.connect(V5, "w");
    watcher.subscribe("gone", 0);
    let mut connect = expiring("a", 60);
    connect.will = Some(will("gone", "a", 0));
    let client = broker.join(&connect);
    let disconnect = || ask(&broker, |reply| Inquiry::Disconnect { key: key("a"), reply });
    assert_eq!(disconnect(), Ok(()));
    client.expect_end(ReasonCode::AdministrativeAction);
    watcher.receive("gone", "a", 0);
    assert_eq!(broker.stat().disconnected_by_broker.get(ReasonCode::AdministrativeAction), 1);
    assert_eq!(disconnect(), Err(ControlError::NotConnected));
    assert_eq!(broker.stat().sessions, 2);
    // Before 5.0 there is no DISCONNECT from a server.
    let old = broker.join(&clean(V311, "b"));
    assert_eq!(ask(&broker, |reply| Inquiry::Disconnect { key: key("b"), reply }), Ok(()));
    old.expect_closed();
    let nobody = ask(&broker, |reply| Inquiry::Disconnect { key: key("b"), reply });
    assert_eq!(nobody, Err(ControlError::NoSession));
}

#[test]
fn who_publishes_learns_whether_anybody_gets_it() {
    let broker = Broker::with(|setup| {
        setup.shards = 1;
        setup.limits.retained_messages_maximum = 1;
    });
    let publish = |topic, retain| {
        let message = Message::unpublished(&Publish::new(TopicName::new(topic).unwrap(), b"x"));
        ask(&broker, |reply| Inquiry::Publish { message, retain, reply })
    };
    assert_eq!(publish("a", false), ReasonCode::NoMatchingSubscribers);
    let client = broker.connect(V5, "c");
    client.subscribe("a", 0);
    assert_eq!(publish("a", true), ReasonCode::Success);
    client.receive("a", "x", 0);
    assert_eq!(publish("b", true), ReasonCode::QuotaExceeded);
}

/// Nobody waits for the answer any more: the shard goes on.
#[test]
fn an_answer_that_nobody_waits_for_is_dropped() {
    let broker = alone();
    let (reply, receiver) = sync_channel(1);
    drop(receiver);
    broker.send(Mail::Inquiry(Box::new(Inquiry::Sessions { from: 0, pick: Pick::All, maximum: 1, reply })));
    broker.connect(V5, "a").ping();
}
