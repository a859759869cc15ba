//! What somebody is told who asks what has become of a message or a client.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lapwing_proto::packet::{Packet, QoS, ReasonCode};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf, TopicName};
use lapwing_store::engine::Cut;

use super::broker::{Broker, clean, expiring};
use super::client::{Client, ack};
use super::message::message;
use super::{V5, V311};
use crate::explanation::{
    Delivery, DeliveryState, Explain, Explanation, Happening, Inquest, Message, Passage, Publisher, Question,
    Wait,
};
use crate::hook::{self, Authorizer, Decision, Grant, Permit, RuleId};
use crate::limit::QueueOverflow;

impl Broker {
    fn ask(&self, question: &Question) -> Explanation {
        let (shared, now) = {
            let world = self.world();
            (Arc::clone(&world.shared), world.now)
        };
        Inquest { shared: &shared, now, meanwhile: &|| self.settle() }.answer(question).unwrap()
    }

    fn ask_topic(&self, filter: &str) -> Explanation {
        self.ask(&question(Some(filter), None))
    }

    fn ask_client(&self, client: &str) -> Explanation {
        self.ask(&question(None, Some(client)))
    }

    /// The only message that there was to matching topics.
    #[track_caller]
    fn only(&self, filter: &str) -> Message {
        let mut messages = self.ask_topic(filter).messages;
        assert_eq!(messages.len(), 1, "{messages:#?}");
        messages.remove(0)
    }

    fn wall(&self) -> SystemTime {
        let world = self.world();
        SystemTime::UNIX_EPOCH + Duration::from_millis(world.clock.wall(world.now).0)
    }
}

fn question(topic: Option<&str>, client: Option<&str>) -> Question {
    Question {
        topic: topic.map(|topic| TopicFilterBuf::new(topic.to_owned()).unwrap()),
        client: client.map(str::to_owned),
        since: Duration::from_secs(3600),
        maximum: 100,
    }
}

fn client(id: &str) -> Publisher {
    Publisher::Client(id.to_owned())
}

/// What became of a message for a client.
#[track_caller]
fn of<'a>(message: &'a Message, client_id: &str) -> &'a Delivery {
    let found = message.deliveries.iter().find(|it| it.client_id.as_deref() == Some(client_id));
    found.unwrap_or_else(|| panic!("nothing of {client_id}: {message:#?}"))
}

#[test]
fn a_message_is_followed_from_its_publisher_to_its_acknowledgement() {
    for version in [V311, V5] {
        for qos in [1, 2] {
            let broker = Broker::new();
            let (one, other) = (broker.connect(version, "one"), broker.connect(V5, "other"));
            one.subscribe("gate/+", qos);
            other.subscribe("gate/#", qos);
            let publisher = broker.connect(V5, "p");
            let published = broker.wall();
            publisher.publish("gate/1", "m", qos);
            broker.advance_ms(70);
            let got = one.hold();
            let told = broker.only("gate/1");
            assert_eq!((told.at, told.publisher.clone()), (published, client("p")));
            assert_eq!((told.topic.as_deref(), told.qos.bits(), told.count), (Some("gate/1"), qos, 1));
            assert_eq!((told.passage, told.receivers), (Some(Passage::PassedOn), 2));
            let sent = of(&told, "one");
            assert_eq!((sent.state, sent.qos.bits(), sent.settled_at), (DeliveryState::Sent, qos, None));
            assert_eq!(sent.packet_id, got.packet_id);
            assert_eq!(sent.sent_at, Some(published));
            one.acknowledge(&got);
            let told = broker.only("gate/1");
            let acknowledged = of(&told, "one");
            assert_eq!(acknowledged.state, DeliveryState::Acknowledged);
            assert_eq!(acknowledged.settled_at, Some(published + Duration::from_millis(70)));
            assert_eq!(of(&told, "other").state, DeliveryState::Sent);
        }
    }
}

#[test]
fn nobody_who_subscribed_is_told_apart_from_nothing_found() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    publisher.publish_message(message("gate/1", "m").qos(1));
    let told = broker.only("gate/1");
    assert_eq!((told.passage, told.receivers), (Some(Passage::NoSubscriber), 0));
    let told = broker.ask_topic("gate/2");
    assert_eq!((told.messages.len(), told.is_more), (0, false));
    assert!(told.reaches.iter().all(|reach| reach.is_on && reach.messages.is_none()), "{:?}", told.reaches);
}

#[test]
fn what_waits_says_why() {
    let broker = Broker::with_limits(|limits| limits.client_receive_maximum = 2);
    let away = broker.resume(V5, "away");
    away.subscribe("t/#", 1);
    away.lose();
    let slow = broker.connect(V5, "slow");
    slow.subscribe("t/#", 1);
    let publisher = broker.connect(V5, "p");
    for number in 1..=4 {
        publisher.publish(&format!("t/{number}"), "m", 1);
    }
    let state = |topic: &str, client_id: &str| {
        let told = broker.only(topic);
        let delivery = of(&told, client_id);
        (delivery.state, delivery.wait)
    };
    assert_eq!(state("t/1", "away"), (DeliveryState::Queued, Wait::Away));
    assert_eq!(state("t/2", "slow"), (DeliveryState::Sent, Wait::None));
    assert_eq!(state("t/3", "slow"), (DeliveryState::Queued, Wait::ReceiveMaximum));
    assert_eq!(state("t/4", "slow"), (DeliveryState::Queued, Wait::Line));
    broker.advance_s(5);
    let back = broker.resume(V5, "away");
    back.receive("t/1", "m", 1);
    let told = broker.only("t/1");
    let late = of(&told, "away");
    assert_eq!((late.state, late.wait), (DeliveryState::Acknowledged, Wait::Away));
    assert_eq!(late.sent_at, Some(late.at + Duration::from_secs(5)));
    slow.receive_all();
    assert_eq!(state("t/4", "slow"), (DeliveryState::Acknowledged, Wait::Line));
}

#[test]
fn what_is_dropped_says_why() {
    let broker = Broker::with_limits(|limits| {
        limits.queue_messages_maximum = 2;
        limits.queue_overflow = QueueOverflow::DropNewest;
    });
    let away = broker.resume(V5, "away");
    away.subscribe("t/#", 1);
    away.lose();
    let mut small = clean(V5, "small");
    small.properties.maximum_packet_size = NonZeroU32::new(100);
    let small = broker.join(&small);
    small.subscribe("large", 1);
    small.subscribe("large0", 0);
    let publisher = broker.connect(V5, "p");
    for number in 1..=3 {
        publisher.publish(&format!("t/{number}"), "m", 1);
    }
    publisher.publish("t/0", "m", 0);
    publisher.publish("large", &"x".repeat(200), 1);
    publisher.publish("large0", &"x".repeat(200), 0);
    let state = |topic: &str, client_id: &str| of(&broker.only(topic), client_id).state;
    assert_eq!(state("t/2", "away"), DeliveryState::Queued);
    assert_eq!(state("t/3", "away"), DeliveryState::QueueFull);
    assert_eq!(state("t/0", "away"), DeliveryState::NotConnected);
    assert_eq!(state("large", "small"), DeliveryState::TooLarge);
    assert_eq!(state("large0", "small"), DeliveryState::TooLarge);
    broker.connect(V5, "away"); // a clean start
    assert_eq!(state("t/2", "away"), DeliveryState::SessionEnded);
}

#[test]
fn what_expires_while_it_waits_says_so() {
    let broker = Broker::new();
    let away = broker.resume(V5, "away");
    away.subscribe("t", 1);
    away.lose();
    broker.connect(V5, "p").publish_message(message("t", "m").qos(1).expiry(2));
    broker.advance_s(3);
    broker.resume(V5, "away").expect_nothing();
    assert_eq!(of(&broker.only("t"), "away").state, DeliveryState::Expired);
}

#[test]
fn a_client_that_does_not_read_loses_qos_0_and_that_is_said() {
    let broker = Broker::with_limits(|limits| limits.outbox_bytes_maximum = 1000);
    let slow = broker.connect(V5, "slow");
    slow.subscribe("t/#", 1);
    slow.block();
    let publisher = broker.connect(V5, "p");
    publisher.publish("t/fill", &"x".repeat(2000), 0);
    publisher.publish("t/lost", "m", 0);
    publisher.publish("t/kept", "m", 1);
    assert_eq!(of(&broker.only("t/lost"), "slow").state, DeliveryState::OutboxFull);
    let kept = broker.only("t/kept");
    assert_eq!((of(&kept, "slow").state, of(&kept, "slow").wait), (DeliveryState::Queued, Wait::Behind));
}

#[test]
fn an_answer_that_is_an_error_is_told() {
    let broker = Broker::new();
    let picky = broker.connect(V5, "picky");
    picky.subscribe("t", 2);
    let publisher = broker.connect(V5, "p");
    publisher.publish("t", "m", 1);
    let got = picky.hold();
    picky.send(&Packet::PubAck(ack(got.packet_id.unwrap(), ReasonCode::QuotaExceeded)));
    let told = broker.only("t");
    let rejected = of(&told, "picky");
    assert_eq!(rejected.state, DeliveryState::Rejected);
    assert_eq!(rejected.reason_code, Some(ReasonCode::QuotaExceeded));
}

#[test]
fn what_is_sent_again_says_so() {
    let broker = Broker::new();
    let client = broker.resume(V5, "c");
    client.subscribe("t", 1);
    broker.connect(V5, "p").publish("t", "m", 1);
    client.hold();
    client.lose();
    let back = broker.resume(V5, "c");
    let again = back.hold();
    assert!(of(&broker.only("t"), "c").is_resent);
    back.acknowledge(&again);
    assert_eq!(of(&broker.only("t"), "c").state, DeliveryState::Acknowledged);
}

#[test]
fn a_member_of_a_share_that_ends_gives_its_message_to_another() {
    let broker = Broker::new();
    let one = broker.join(&expiring("one", 1));
    one.subscribe("$share/g/t", 1);
    let publisher = broker.connect(V5, "p");
    publisher.publish("t", "m", 1);
    let other = broker.connect(V5, "other");
    other.subscribe("$share/g/t", 1);
    one.hold();
    one.disconnect();
    broker.advance_s(2);
    let message = other.hold();
    other.acknowledge(&message);
    let told = broker.only("t");
    assert_eq!(of(&told, "one").state, DeliveryState::GivenToOther);
    assert_eq!(of(&told, "other").state, DeliveryState::Acknowledged);
    let shared = broker.ask_topic("t").subscriptions;
    let shared: Vec<_> =
        shared.iter().map(|it| (it.filter.as_str(), it.client_id.clone(), it.members)).collect();
    assert_eq!(shared, [("$share/g/t", None, 1)]);
}

/// Many small messages of one read: one record for all of them.
#[test]
fn a_run_is_told_as_one() {
    let broker = Broker::new();
    let (one, other) = (broker.connect(V5, "one"), broker.connect(V5, "other"));
    one.subscribe("run", 0);
    other.subscribe("run/two", 0);
    one.subscribe("run/two", 0);
    let away = broker.resume(V5, "away");
    away.subscribe("run/two", 0);
    away.lose();
    let publisher = broker.connect(V5, "p");
    for topic in ["run", "run/two"] {
        for _ in 0..4 {
            // The topic becomes known.
            publisher.publish(topic, "m", 0);
        }
        publisher.send_bytes(&message(topic, "m").encode(V5).repeat(5));
    }
    let told = broker.ask_topic("run").messages;
    let run = told.last().unwrap();
    assert_eq!((run.count, run.receivers, run.publisher.clone()), (5, 1, client("p")), "{told:#?}");
    let got = of(run, "one");
    assert_eq!((got.state, got.count), (DeliveryState::Sent, 5));
    let told = broker.ask_topic("run/two").messages;
    let run = told.last().unwrap();
    assert_eq!((run.count, run.receivers), (5, 3));
    let lost = of(run, "away");
    assert_eq!((lost.state, lost.count), (DeliveryState::NotConnected, 5));
}

/// Denies by rules with numbers.
struct Rules;

impl Authorizer for Rules {
    fn permit(&self, client: &hook::Client) -> Arc<dyn Permit> {
        Arc::new(Limited(client.client_id.starts_with('c')))
    }

    fn rule(&self, rule: RuleId) -> Option<String> {
        Some(format!("rule {}", rule.0))
    }
}

struct Limited(bool);

fn rule(number: u32) -> Option<RuleId> {
    NonZeroU32::new(number).map(RuleId)
}

impl Permit for Limited {
    fn may_publish(&self, topic: TopicName<'_>, _: QoS, _: bool) -> Decision {
        let is_allowed = !self.0 || !topic.as_str().starts_with("secret");
        Decision { is_allowed, rule: rule(7) }
    }

    fn may_subscribe(&self, filter: TopicFilter<'_>) -> Grant {
        match filter.pattern() {
            "secret" if self.0 => Grant::Denied(rule(8)),
            "#" if self.0 => Grant::Checked(rule(9)),
            _ => Grant::Granted(None),
        }
    }

    fn may_receive(&self, topic: TopicName<'_>) -> Decision {
        let is_allowed = !self.0 || !topic.as_str().starts_with("secret");
        Decision { is_allowed, rule: rule(10) }
    }
}

fn happened(told: &Explanation, code: &str) -> Vec<(String, Option<String>, u32)> {
    let of_code = told.incidents.iter().filter(|it| it.happening.code() == code);
    of_code.map(|it| (it.client_id.clone(), it.rule.clone(), it.count)).collect()
}

#[test]
fn a_refusal_names_its_rule() {
    let broker = Broker::with(|setup| setup.authorizer = Arc::new(Rules));
    let c = broker.connect(V5, "c1");
    for _ in 0..3 {
        assert_eq!(c.publish_message(message("secret/1", "m").qos(1)), ReasonCode::NotAuthorized);
    }
    assert_eq!(c.subscribe_with("secret", Default::default(), None), ReasonCode::NotAuthorized);
    let publish = [("c1".to_owned(), Some("rule 7".to_owned()), 3)];
    assert_eq!(happened(&broker.ask_topic("secret/+"), "publish_denied"), publish);
    let told = broker.ask_client("c1");
    assert_eq!(happened(&told, "publish_denied"), publish);
    assert_eq!(happened(&told, "subscribe_denied"), [("c1".to_owned(), Some("rule 8".to_owned()), 1)]);
    assert_eq!(happened(&told, "connected"), [("c1".to_owned(), None, 1)]);
    assert_eq!(broker.ask_client("c2").incidents, []);
}

#[test]
fn a_subscription_that_matches_and_may_not_is_shown() {
    let broker = Broker::with(|setup| setup.authorizer = Arc::new(Rules));
    let (c, d) = (broker.connect(V5, "c1"), broker.connect(V5, "d"));
    c.subscribe("#", 0);
    d.subscribe("secret/#", 1);
    d.publish("secret/1", "m", 1);
    let told = broker.ask_topic("secret/1");
    assert_eq!(told.messages[0].receivers, 1);
    let mut shown: Vec<_> = told
        .subscriptions
        .iter()
        .map(|it| (it.client_id.clone().unwrap(), it.filter.as_str(), it.is_withheld, it.rule.as_deref()))
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [("c1".to_owned(), "#", true, Some("rule 10")), ("d".to_owned(), "secret/#", false, None)]
    );
}

#[test]
fn a_client_that_is_not_let_in_is_told_why() {
    let broker = Broker::with_limits(|limits| limits.qos_maximum = 1);
    let mut connect = clean(V5, "eager");
    connect.will = Some(super::broker::will("gone", "m", 2));
    broker.send_connect(&connect).expect_refusal(ReasonCode::QoSNotSupported);
    let told = broker.ask_client("eager");
    let [incident] = &told.incidents[..] else { panic!("{told:#?}") };
    let Happening::Refused { reason_code, reason, .. } = &incident.happening else { panic!("{incident:?}") };
    assert_eq!(*reason_code, ReasonCode::QoSNotSupported);
    assert!(reason.contains("will"), "{reason}");
    assert_eq!(incident.at, broker.wall());
}

#[test]
fn how_a_client_came_and_went_is_told_in_order() {
    let broker = Broker::new();
    let client = broker.join(&expiring("c", 5));
    client.send_hex("c0 00 d0 00"); // PINGREQ, and a PINGRESP that has no place here
    client.take_all();
    broker.advance_s(6);
    let told = broker.ask_client("c");
    let codes: Vec<_> = told.incidents.iter().map(|it| it.happening.code()).collect();
    assert_eq!(codes, ["connected", "closed", "disconnected", "session_ended"]);
}

#[test]
fn what_a_client_did_and_got_is_told_without_the_others() {
    let broker = Broker::new();
    let clients: Vec<Client> = ["a", "b"].map(|id| broker.connect(V5, id)).into();
    clients.iter().for_each(|client| client.subscribe("t/#", 1));
    clients[0].publish("t/1", "m", 1);
    let told = broker.ask_client("b").messages;
    let [message] = &told[..] else { panic!("{told:#?}") };
    assert_eq!((message.topic.as_deref(), message.publisher.clone()), (Some("t/1"), client("a")));
    let whose: Vec<_> = message.deliveries.iter().map(|it| it.client_id.clone().unwrap()).collect();
    assert_eq!((whose, message.left_out), (vec!["b".to_owned()], 1));
    // Who published it sees all.
    assert_eq!(broker.ask_client("a").messages[0].deliveries.len(), 2);
    let both = broker.ask(&question(Some("t/2"), Some("a")));
    assert_eq!(both.messages, []);
}

#[test]
fn what_happened_before_the_time_in_question_is_not_told() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    publisher.publish_message(message("t", "m").qos(1));
    broker.advance_s(100);
    publisher.publish_message(message("t", "m").qos(1));
    let since = |seconds| {
        let question = Question { since: Duration::from_secs(seconds), ..question(Some("t"), None) };
        broker.ask(&question).messages.len()
    };
    assert_eq!([since(50), since(150)], [1, 2]);
}

#[test]
fn the_newest_are_told_first_and_that_there_is_more() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    for number in 0..20 {
        publisher.publish_message(message(&format!("t/{number}"), "m").qos(1));
        broker.advance_ms(1);
    }
    let told = broker.ask(&Question { maximum: 5, ..question(Some("t/+"), None) });
    let topics: Vec<_> = told.messages.iter().map(|message| message.topic.clone().unwrap()).collect();
    assert_eq!(topics, ["t/15", "t/16", "t/17", "t/18", "t/19"]);
    assert!(told.is_more);
}

/// The ring goes round many times: what is told is still right, and how far back it reaches.
#[test]
fn what_is_forgotten_is_said_and_the_rest_is_right() {
    let broker = Broker::with(|setup| setup.explain = Explain { memory_bytes: 8 * 1024 });
    let subscriber = broker.connect(V5, "s");
    subscriber.subscribe("t/#", 1);
    let publisher = broker.connect(V5, "p");
    let long = "x".repeat(900);
    for number in 0..3000_u32 {
        let topic = format!("t/{number}/{}", &long[..number as usize % 900]);
        publisher.publish(&topic, "m", 1);
        subscriber.receive(&topic, "m", 1);
        broker.advance_ms(1);
    }
    let told = broker.ask(&Question { maximum: 1000, ..question(Some("t/#"), None) });
    let count = told.messages.len();
    assert!((2..200).contains(&count), "{count}");
    for (message, number) in told.messages.iter().zip(3000 - count..) {
        assert!(message.topic.as_ref().unwrap().starts_with(&format!("t/{number}/")), "{message:?}");
        assert_eq!(of(message, "s").state, DeliveryState::Acknowledged);
    }
    assert!(told.reaches.iter().any(|reach| reach.messages.is_some()));
    assert_eq!(broker.ask_topic("t/1/x").messages, []);
}

#[test]
fn nothing_is_remembered_where_nobody_wants_it() {
    let broker = Broker::with(|setup| setup.explain = Explain { memory_bytes: 0 });
    let subscriber = broker.resume(V5, "s");
    subscriber.subscribe("t", 1);
    let publisher = broker.connect(V5, "p");
    publisher.publish("t", "m", 1);
    subscriber.receive("t", "m", 1);
    subscriber.lose();
    publisher.publish("t", "m", 1);
    broker.resume(V5, "s").receive("t", "m", 1);
    let told = broker.ask_topic("t");
    assert_eq!((told.messages.len(), told.incidents.len()), (0, 0));
    assert!(told.reaches.iter().all(|reach| !reach.is_on));
}

/// What an earlier process has stored is told as that.
#[test]
fn what_was_published_before_a_start_is_told_so() {
    let broker = Broker::durable();
    let subscriber = broker.resume(V5, "s");
    subscriber.subscribe("t", 1);
    subscriber.lose();
    broker.connect(V5, "p").publish("t", "m", 1);
    broker.restart(Cut::Power);
    broker.resume(V5, "s").receive("t", "m", 1);
    let told = broker.only("t");
    assert_eq!((told.publisher.clone(), told.passage), (Publisher::Unknown, None));
    assert_eq!(of(&told, "s").state, DeliveryState::Acknowledged);
    assert_eq!(broker.ask_client("s").messages.len(), 1);
}

#[test]
fn a_message_that_is_delayed_is_told_twice() {
    let broker = Broker::new();
    broker.connect(V5, "p").publish_message(message("$delayed/5/t", "m").qos(1));
    assert_eq!(broker.only("t").passage, Some(Passage::Delayed));
    broker.advance_s(6);
    let passages: Vec<_> = broker.ask_topic("t").messages.iter().map(|it| it.passage).collect();
    assert_eq!(passages, [Some(Passage::Delayed), Some(Passage::NoSubscriber)]);
}

#[test]
fn a_message_that_cannot_be_retained_is_told_so() {
    let broker = Broker::with_limits(|limits| limits.retained_messages_maximum = 1);
    let publisher = broker.connect(V5, "p");
    publisher.retain("a", "m", 0);
    assert_eq!(publisher.publish_message(message("b", "m").qos(1).retained()), ReasonCode::QuotaExceeded);
    publisher.retain("c", "m", 0);
    let told = |topic: &str| (broker.only(topic).retain, broker.only(topic).passage);
    assert_eq!(told("b"), (true, Some(Passage::NoRoomToRetain)));
    assert_eq!(told("a"), (true, Some(Passage::NoSubscriber)));
    let subscriber = broker.connect(V5, "s");
    subscriber.subscribe("c", 0);
    publisher.retain("c", "m", 0);
    let last = broker.ask_topic("c").messages.pop().unwrap();
    assert_eq!(last.passage, Some(Passage::PassedOnUnretained));
}
