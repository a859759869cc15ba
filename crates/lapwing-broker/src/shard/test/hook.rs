use std::sync::{Arc, Mutex};

use lapwing_proto::packet::{Publish, ReasonCode, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilterBuf, TopicName};

use super::broker::{Broker, clean, lasting, will};
use super::message::{message, qos};
use super::{V5, V31, V311, VERSIONS};
use crate::hook::{
    Anonymous, Authenticator, Client, Credentials, Event, Filtered, Identity, Later, Observer, PublishFilter,
    Verdict,
};
use crate::mail::Mail;
use crate::message::Message;
use crate::rule::{AppliesTo, Rewrite};
use crate::shard::SessionKey;

/// Does with a message what its topic says, behind what the rules may have put before it.
struct ByTopic;

impl PublishFilter for ByTopic {
    fn filter(&self, client: &Client, publish: &Publish<'_>) -> Filtered {
        let topic = publish.topic.unwrap().as_str();
        assert!(publish.properties.topic_alias.is_none());
        match topic {
            "drop" => Filtered::Drop,
            "refuse" => Filtered::Refuse(ReasonCode::QuotaExceeded),
            "refuse oddly" => Filtered::Refuse(ReasonCode::SessionTakenOver),
            "succeed oddly" => Filtered::Refuse(ReasonCode::Success),
            _ if topic == &*client.client_id => Filtered::Drop,
            _ => Filtered::Pass,
        }
    }
}

fn filtering() -> Broker {
    Broker::with(|setup| setup.publish_filter = Some(Arc::new(ByTopic)))
}

/// Writes down what it is told.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        let line = match event {
            Event::Connected { client, session_present } => {
                format!("{} connected, {session_present}", client.client_id)
            }
            Event::Refused { reason_code, .. } => format!("refused {:#x}", reason_code.value()),
            Event::Disconnected { client, reason_code } => {
                format!("{} disconnected {:?}", client.client_id, reason_code.map(ReasonCode::value))
            }
            Event::Subscribed { client, filter, options } => {
                format!("{} subscribed {} {}", client.client_id, filter.as_str(), options.qos.bits())
            }
            Event::Unsubscribed { client, filter } => {
                format!("{} unsubscribed {}", client.client_id, filter.as_str())
            }
            Event::SessionEnded { .. } | Event::QueueFull { .. } | Event::Banned { .. } => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Log {
    #[track_caller]
    fn expect(&self, lines: &[&str]) {
        assert_eq!(std::mem::take(&mut *self.0.lock().unwrap()), lines);
    }
}

/// Writes down what becomes of sessions, and who is kept out.
#[derive(Default)]
struct Ends(Log);

impl Observer for Ends {
    fn observe(&self, event: &Event<'_>) {
        let line = match event {
            Event::SessionEnded { session_key } => format!("{session_key} ended"),
            Event::QueueFull { session_key, count } => format!("{session_key} full {count}"),
            Event::Banned { client_id, reason } => format!("{client_id} banned: {reason}"),
            Event::Refused { client_id, .. } => format!("{client_id} refused"),
            _ => return,
        };
        self.0.0.lock().unwrap().push(line);
    }
}

#[test]
fn the_observer_is_told_of_ends_of_full_queues_and_of_bans() {
    let ends = Arc::new(Ends::default());
    let broker = Broker::with(|setup| {
        setup.observer = Some(ends.clone());
        setup.limits.queue_messages_maximum = 2;
        setup.limits.flapping_connects_maximum = 3;
    });
    let away = broker.join(&lasting(V5, "away"));
    away.subscribe("t", 1);
    away.disconnect();
    let publisher = broker.connect(V5, "p");
    for _ in 0..3 {
        publisher.publish("t", "x", 1);
    }
    ends.0.expect(&["away full 1"]);
    publisher.disconnect();
    ends.0.expect(&["p ended"]);
    broker.connect(V5, "away").disconnect();
    ends.0.expect(&["away ended", "away ended"]);
    for _ in 0..3 {
        broker.connect(V5, "flaps").disconnect();
    }
    broker.send_connect(&clean(V5, "flaps"));
    let seconds = broker.world().shared.limits().flapping_window_s;
    let told = std::mem::take(&mut *ends.0.0.lock().unwrap());
    assert_eq!(told[..4], ["flaps ended", "flaps ended", "flaps ended", told[3].as_str()]);
    assert!(told[3].starts_with(&format!("flaps banned: the client connected 4 times within {seconds} s")));
    assert_eq!(told[4..], ["flaps refused"]);
}

fn observed() -> (Broker, Arc<Log>) {
    let log = Arc::new(Log::default());
    let broker = Broker::with(|setup| setup.observer = Some(log.clone()));
    (broker, log)
}

/// Gives each client subscriptions, and users a session key.
struct Giving;

impl Authenticator for Giving {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        let own = TopicFilterBuf::new(format!("to/{}", credentials.client_id)).unwrap();
        let all = TopicFilterBuf::new("$share/all/work".to_owned()).unwrap();
        let at = |bits| SubscriptionOptions::new(qos(bits));
        let session_key = credentials.user_name.map(Arc::from);
        let subscriptions = vec![(own, at(1)), (all, at(0))];
        Some(Verdict::Accept(Identity { session_key, subscriptions, ..Identity::default() }))
    }
}

fn mail(broker: &Broker, mail: Mail) {
    broker.send(mail);
}

fn own_message(payload: &str) -> Message {
    let mut publish = Publish::new(TopicName::new("own/topic").unwrap(), payload.as_bytes());
    publish.qos = qos(2);
    publish.properties.message_expiry_interval = Some(10);
    Message::unpublished(&publish)
}

#[test]
fn a_filtered_message_reaches_nobody() {
    for version in VERSIONS {
        let broker = filtering();
        let (publisher, subscriber) = (broker.connect(version, "p"), broker.connect(V5, "s"));
        subscriber.subscribe("#", 2);
        for bits in 0..3 {
            for (topic, reason_code) in [
                ("drop", ReasonCode::Success),
                ("p", ReasonCode::Success),
                ("refuse", ReasonCode::QuotaExceeded),
                ("refuse oddly", ReasonCode::UnspecifiedError),
                ("succeed oddly", ReasonCode::UnspecifiedError),
            ] {
                let told = publisher.publish_message(message(topic, "x").qos(bits).retained());
                let is_told = version == V5 && bits > 0;
                assert_eq!(told, if is_told { reason_code } else { ReasonCode::Success }, "{topic}");
            }
            publisher.publish("pass", "x", bits);
            subscriber.receive("pass", "x", bits);
        }
        subscriber.expect_nothing();
        assert_eq!(broker.stat().retained_messages, 0);
        assert_eq!(broker.stat().messages_dropped.filtered, 15);
    }
}

#[test]
fn the_filter_sees_the_topic_that_the_message_is_published_to() {
    let broker = Broker::with(|setup| {
        setup.publish_filter = Some(Arc::new(ByTopic));
        let (pattern, replacement) = ("old".to_owned(), "refuse".to_owned());
        setup.rules.rewrite = vec![Rewrite { applies_to: AppliesTo::All, pattern, replacement }];
    });
    let client = broker.connect(V5, "a");
    assert_eq!(client.publish_message(message("old", "x").qos(1)), ReasonCode::QuotaExceeded);
    assert_eq!(client.publish_message(message("$delayed/1/refuse", "x").qos(1)), ReasonCode::QuotaExceeded);
    client.send_message(&message("refuse", "x").alias(1));
    assert_eq!(client.publish_message(message("", "x").alias(1).qos(1)), ReasonCode::QuotaExceeded);
}

#[test]
fn a_will_is_filtered_as_other_messages_are() {
    let broker = filtering();
    let watch = broker.connect(V5, "watch");
    watch.subscribe("#", 0);
    for (topic, is_passed) in [("drop", false), ("refuse", false), ("will", true)] {
        let mut connect = clean(V311, "a");
        connect.will = Some(will(topic, "gone", 0));
        broker.join(&connect).lose();
        if is_passed {
            watch.receive(topic, "gone", 0);
        }
        watch.expect_nothing();
    }
}

#[test]
fn what_happens_to_clients_is_told_in_order() {
    for version in VERSIONS {
        let (broker, log) = observed();
        let client = broker.resume(version, "a");
        log.expect(&["a connected, false"]);
        client.subscribe("t/#", 1);
        client.subscribe("$share/g/t", 2);
        log.expect(&["a subscribed t/# 1", "a subscribed $share/g/t 2"]);
        client.unsubscribe(&["t/#", "unknown"]);
        log.expect(&["a unsubscribed t/#"]);
        client.lose();
        log.expect(&["a disconnected None"]);
        let client = broker.resume(version, "a");
        log.expect(&["a connected, true"]);
        let other = broker.resume(version, "a");
        log.expect(&["a disconnected Some(142)", "a connected, true"]);
        client.take_all();
        other.disconnect();
        log.expect(&["a disconnected Some(0)"]);
        let client = broker.connect(version, "b");
        client.send_hex("00 00");
        log.expect(&["b connected, false", "b disconnected Some(129)"]);
        // The end of a session is no subscription given up.
        broker.connect(version, "c").subscribe("t", 0);
        broker.connect(version, "c").lose();
        log.expect(&[
            "c connected, false",
            "c subscribed t 0",
            "c disconnected Some(142)",
            "c connected, false",
            "c disconnected None",
        ]);
    }
}

#[test]
fn who_is_refused_is_told_as_well() {
    let log = Arc::new(Log::default());
    let broker = Broker::with(|setup| {
        setup.observer = Some(log.clone());
        setup.authenticator = Arc::new(Anonymous::None);
    });
    broker.send_connect(&clean(V5, "a")).expect_refusal(ReasonCode::NotAuthorized);
    broker.send_connect(&clean(V31, "")).expect_refusal(ReasonCode::ClientIdentifierNotValid);
    log.expect(&["refused 0x87", "refused 0x85"]);
    // Nobody has said yet who it is.
    broker.open(V5).lose();
    broker.open(V5).send_hex("c0 00");
    log.expect(&[]);
}

#[test]
fn a_refused_subscription_is_none() {
    let log = Arc::new(Log::default());
    let broker = Broker::with(|setup| {
        setup.observer = Some(log.clone());
        setup.limits.subscriptions_maximum = 1;
    });
    let client = broker.connect(V5, "a");
    client.subscribe_all(
        &[("a", SubscriptionOptions::new(qos(0))), ("b", SubscriptionOptions::new(qos(0)))],
        None,
    );
    log.expect(&["a connected, false", "a subscribed a 0"]);
}

#[test]
fn an_identity_brings_subscriptions() {
    for version in VERSIONS {
        let log = Arc::new(Log::default());
        let broker = Broker::with(|setup| {
            setup.authenticator = Arc::new(Giving);
            setup.observer = Some(log.clone());
            setup.limits.subscriptions_maximum = 0;
        });
        let (client, publisher) = (broker.connect(version, "a"), broker.connect(version, "p"));
        log.expect(&[
            "a connected, false",
            "a subscribed to/a 1",
            "a subscribed $share/all/work 0",
            "p connected, false",
            "p subscribed to/p 1",
            "p subscribed $share/all/work 0",
        ]);
        publisher.publish("to/a", "x", 2);
        client.receive("to/a", "x", 1);
        for number in ["1", "2"] {
            publisher.publish("work", number, 0);
        }
        assert_eq!((client.receive_all().len(), publisher.receive_all().len()), (1, 1));
    }
}

#[test]
fn the_program_publishes_to_all_who_subscribed() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.subscribe("own/#", 2);
        mail(&broker, Mail::Publish(own_message("x"), false));
        assert!(!client.receive("own/topic", "x", 2).retain);
        mail(&broker, Mail::Publish(own_message("kept"), true));
        client.receive("own/topic", "kept", 2);
        broker.advance_s(9);
        let late = broker.connect(version, "late");
        late.subscribe("own/+", 1);
        assert!(late.receive("own/topic", "kept", 1).retain);
        // The expiry interval began when it was published.
        broker.advance_s(1);
        late.subscribe("own/+", 1);
        late.expect_nothing();
    }
}

#[test]
fn the_program_sends_to_one_session_whatever_it_subscribed_to() {
    for version in VERSIONS {
        let broker = Broker::with(|setup| setup.authenticator = Arc::new(Giving));
        let named = clean(version, "random-1");
        let named = broker.join(&lapwing_proto::packet::Connect { user_name: Some("me"), ..named });
        let (client, other) = (broker.resume(version, "a"), broker.connect(version, "b"));
        let by_id = |key: &str| SessionKey::ClientId(key.into());
        let by_key = |key: &str| SessionKey::Identity(key.into());
        for bits in 0..3 {
            mail(&broker, Mail::Send(by_id("a"), own_message("x"), qos(bits)));
            client.receive("own/topic", "x", bits);
            mail(&broker, Mail::Send(by_key("me"), own_message("y"), qos(bits)));
            named.receive("own/topic", "y", bits);
        }
        let nobody = broker.stat().messages_dropped.no_subscriber;
        for key in [by_id("me"), by_id("random-1"), by_key("a"), by_id("nobody")] {
            mail(&broker, Mail::Send(key, own_message("x"), qos(1)));
        }
        assert_eq!(broker.stat().messages_dropped.no_subscriber, nobody + 4);
        for client in [&named, &client, &other] {
            client.expect_nothing();
        }
    }
}

#[test]
fn what_the_program_sends_waits_for_a_session_without_a_connection() {
    let broker = Broker::new();
    broker.join(&lasting(V5, "a")).lose();
    let send = |payload: &str, bits| {
        mail(&broker, Mail::Send(SessionKey::ClientId("a".into()), own_message(payload), qos(bits)));
    };
    for (payload, bits) in [("0", 0), ("1", 1), ("2", 2)] {
        send(payload, bits);
    }
    broker.advance_s(4);
    let client = broker.join(&lasting(V5, "a"));
    assert_eq!(client.receive("own/topic", "1", 1).expiry_s, Some(6));
    client.receive("own/topic", "2", 2);
    client.expect_nothing();
    client.lose();
    send("expired", 1);
    broker.advance_s(10);
    broker.join(&lasting(V5, "a")).expect_nothing();
}

#[test]
fn a_client_that_has_sent_disconnect_is_told_with_its_reason() {
    let (broker, log) = observed();
    let client = broker.connect(V5, "a");
    client.disconnect_with(ReasonCode::DisconnectWithWillMessage);
    log.expect(&["a connected, false", "a disconnected Some(4)"]);
    let client = broker.join(&lapwing_proto::packet::Connect { keep_alive: 10, ..clean(V5, "a") });
    broker.advance_s(15);
    client.expect_end(ReasonCode::KeepAliveTimeout);
    log.expect(&["a connected, false", "a disconnected Some(141)"]);
    let client = broker.connect(V5, "a");
    broker.shut_down();
    client.expect_end(ReasonCode::ServerShuttingDown);
    log.expect(&["a connected, false", "a disconnected Some(139)"]);
}
