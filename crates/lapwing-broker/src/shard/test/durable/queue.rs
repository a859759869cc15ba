//! Queues that are longer than what fits into memory, and those that are full.

use lapwing_proto::packet::{PacketType, ReasonCode};

use super::super::broker::{Broker, lasting};
use super::super::message::Message;
use super::*;
use crate::limit::{Limits, QueueOverflow};

/// Memory for a few messages.
const LITTLE: usize = 2000;

fn broker(overflow: QueueOverflow, maximum: usize) -> Broker {
    Broker::durable_with(|limits| {
        limits.queue_memory_bytes = LITTLE;
        limits.queue_messages_maximum = maximum;
        limits.queue_overflow = overflow;
    })
}

/// A session whose client is away.
fn absent(broker: &Broker, qos: u8) {
    let s = broker.resume(V5, "s");
    s.subscribe("t", qos);
    s.disconnect();
}

fn publish(broker: &Broker, numbers: std::ops::Range<usize>, qos: u8) {
    let p = broker.connect(V5, "p");
    numbers.for_each(|number| p.publish("t", &number.to_string(), qos));
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn window_bytes(broker: &Broker) -> usize {
    broker.world().shards.iter().map(|shard| shard.ledger.window_bytes).sum()
}

#[test]
fn a_queue_that_does_not_fit_into_memory_comes_in_order() {
    for qos in 1..=2 {
        for cut in [None, Some(Cut::Process), Some(Cut::Power)] {
            let broker = broker(QueueOverflow::DropNewest, 10_000);
            absent(&broker, qos);
            publish(&broker, 0..300, qos);
            assert!(window_bytes(&broker) <= LITTLE + 200);
            if let Some(cut) = cut {
                broker.restart(cut);
                publish(&broker, 300..310, qos);
            }
            let s = broker.resume(V5, "s");
            let count = if cut.is_some() { 310 } else { 300 };
            assert_eq!(payloads(&s), numbers(0..count));
            publish(&broker, count..count + 5, qos);
            assert_eq!(payloads(&s), numbers(count..count + 5));
            broker.connect(V5, "s").disconnect();
            assert_eq!(window_bytes(&broker), 0);
            broker.expect_no_remains();
        }
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_in_order_while_more_comes() {
    for qos in 1..=2 {
        let broker = broker(QueueOverflow::DropNewest, 10_000);
        let mut connect = lasting(V5, "s");
        connect.properties.receive_maximum = std::num::NonZero::new(3);
        let s = broker.join(&connect);
        s.subscribe("t", qos);
        let (mut got, mut published) = (Vec::new(), 0);
        while got.len() < 400 {
            if published < 400 {
                publish(&broker, published..published + 8, qos);
                published += 8;
            }
            let message = s.hold();
            s.acknowledge(&message);
            got.push(message.payload);
        }
        assert_eq!(got, numbers(0..400));
        s.expect_nothing();
    }
}

#[test]
fn the_newest_are_dropped_from_a_full_queue_wherever_it_is() {
    for is_restarted in [false, true] {
        let broker = broker(QueueOverflow::DropNewest, 100);
        absent(&broker, 1);
        publish(&broker, 0..90, 1);
        if is_restarted {
            broker.restart(Cut::Power);
        }
        publish(&broker, 90..150, 1);
        let payloads = payloads(&broker.resume(V5, "s"));
        // How much waits is not known at the first message after a start.
        let surplus = usize::from(is_restarted);
        assert!((100..=100 + surplus).contains(&payloads.len()), "{}", payloads.len());
        assert_eq!(payloads, numbers(0..payloads.len()));
        broker.connect(V5, "s").disconnect();
        broker.expect_no_remains();
    }
}

#[test]
fn the_oldest_are_dropped_from_a_full_queue_wherever_it_is() {
    for qos in 1..=2 {
        for is_restarted in [false, true] {
            let broker = broker(QueueOverflow::DropOldest, 100);
            absent(&broker, qos);
            publish(&broker, 0..90, qos);
            if is_restarted {
                broker.restart(Cut::Power);
            }
            publish(&broker, 90..250, qos);
            assert!(window_bytes(&broker) <= LITTLE + 200, "{}", window_bytes(&broker));
            let payloads = payloads(&broker.resume(V5, "s"));
            assert!((99..=101).contains(&payloads.len()), "{}", payloads.len());
            assert_eq!(payloads, numbers(250 - payloads.len()..250));
            broker.connect(V5, "s").disconnect();
            broker.expect_no_remains();
        }
    }
}

#[test]
fn what_is_in_flight_is_not_dropped_from_the_queue_of_a_session_that_is_not_restored() {
    let broker = broker(QueueOverflow::DropOldest, 20);
    let mut connect = lasting(V5, "s");
    connect.properties.receive_maximum = std::num::NonZero::new(2);
    let s = broker.join(&connect);
    s.subscribe("t", 2);
    publish(&broker, 0..20, 2);
    let key = |message: &Message| (message.packet_id, message.payload.clone());
    let begun: Vec<_> = s.hold_all().iter().map(key).collect();
    broker.restart(Cut::Power);
    publish(&broker, 20..60, 2);
    let s = broker.join(&connect);
    let again = s.hold_all();
    assert_eq!(again.iter().map(key).collect::<Vec<_>>(), begun);
    again.iter().for_each(|message| s.acknowledge(message));
    let rest = payloads(&s);
    assert_eq!(rest, numbers(60 - rest.len()..60));
    assert!((19..=21).contains(&rest.len()), "{}", rest.len());
}

#[test]
fn a_full_queue_with_an_expired_front_keeps_its_order() {
    let broker = broker(QueueOverflow::DropNewest, 100);
    absent(&broker, 2);
    let p = broker.connect(V5, "p");
    p.publish_message(message("t", "short").qos(2).expiry(10));
    publish(&broker, 0..99, 2);
    broker.advance_s(20);
    publish(&broker, 99..110, 2);
    assert_eq!(payloads(&broker.resume(V5, "s")), numbers(0..100));
    broker.connect(V5, "s").disconnect();
    assert_eq!(window_bytes(&broker), 0);
    broker.expect_no_remains();
}

#[test]
fn a_message_that_the_client_does_not_take_is_done() {
    let broker = Broker::durable();
    let mut connect = lasting(V5, "s");
    connect.properties.maximum_packet_size = std::num::NonZero::new(100);
    let s = broker.join(&connect);
    s.subscribe("#", 2);
    let p = broker.connect(V5, "p");
    for (number, bits) in [(1, 2), (2, 1)] {
        // Behind something that is written after it was left out.
        s.block();
        p.publish("t", "small", 0);
        p.publish("t", &"x".repeat(200), bits);
        s.unblock();
        p.publish("t", &number.to_string(), 2);
    }
    s.receive("t", "small", 0);
    s.receive("t", "1", 2);
    s.receive("t", "small", 0);
    s.receive("t", "2", 2);
    s.disconnect();
    broker.connect(V5, "s").disconnect();
    broker.expect_no_remains();
}

#[test]
fn publishers_to_a_full_queue_are_refused_until_it_has_room() {
    for qos in 1..=2 {
        for is_restarted in [false, true] {
            let broker = broker(QueueOverflow::Refuse, 20);
            absent(&broker, qos);
            let mut other = broker.resume(V5, "other");
            other.subscribe("+", 2);
            publish(&broker, 0..20, qos);
            assert_eq!(payloads(&other), numbers(0..20));
            if is_restarted {
                broker.restart(Cut::Power);
                other = broker.resume(V5, "other");
                // The first message after a start has the queue looked at.
                publish(&broker, 20..21, qos);
            }
            let count = 20 + usize::from(is_restarted);
            let p = broker.connect(V5, "p");
            for bits in 1..=2 {
                let refused = p.publish_message(message("t", "refused").qos(bits).retained());
                assert_eq!(refused, ReasonCode::QuotaExceeded);
            }
            p.publish("u", "elsewhere", qos);
            assert_eq!(broker.stat().messages_dropped.queue_refused, 2);
            assert_eq!(broker.stat().messages_dropped.queue_full, 0);
            assert_eq!(payloads(&broker.resume(V5, "s")), numbers(0..count));
            publish(&broker, count..count + 5, qos);
            let mut rest = numbers(20..count);
            rest.push("elsewhere".into());
            rest.extend(numbers(count..count + 5));
            // What the client acknowledged last before the cut may come again.
            assert!(payloads(&other).ends_with(&rest));
            broker.connect(V5, "s").disconnect();
            broker.connect(V5, "other").disconnect();
            assert!(broker.world().shards[0].shared.full_queues.is_empty());
            broker.expect_no_remains();
        }
    }
}

#[test]
fn an_older_publisher_to_a_full_queue_is_disconnected_and_sends_again() {
    for is_durable in [false, true] {
        let limits = |limits: &mut Limits| {
            limits.queue_messages_maximum = 3;
            limits.queue_overflow = QueueOverflow::Refuse;
        };
        let broker = if is_durable { Broker::durable_with(limits) } else { Broker::with_limits(limits) };
        for version in [V31, V311] {
            for qos in 1..=2 {
                absent(&broker, qos);
                publish(&broker, 0..3, qos);
                let p = broker.resume(version, "p");
                p.send_message(&message("t", "again").qos(qos).id(7));
                p.expect_closed();
                let s = broker.resume(V5, "s");
                assert_eq!(payloads(&s), numbers(0..3));
                let p = broker.resume(version, "p");
                p.send_message(&message("t", "again").qos(qos).id(7).dup());
                p.take_first(if qos == 1 { PacketType::PubAck } else { PacketType::PubRec });
                assert_eq!(payloads(&s), ["again"]);
                broker.connect(V5, "s").disconnect();
                broker.connect(version, "p").disconnect();
            }
        }
    }
}

#[test]
fn what_has_expired_makes_room_in_a_queue_that_refuses() {
    let broker = Broker::durable_with(|limits| {
        limits.queue_messages_maximum = 2;
        limits.queue_overflow = QueueOverflow::Refuse;
    });
    absent(&broker, 1);
    let p = broker.connect(V5, "p");
    p.publish_message(message("t", "short").qos(1).expiry(10));
    p.publish("t", "1", 1);
    assert_eq!(p.publish_message(message("t", "2").qos(1)), ReasonCode::QuotaExceeded);
    broker.advance_s(20);
    // The refusal has the queue looked at.
    assert_eq!(p.publish_message(message("t", "2").qos(1)), ReasonCode::QuotaExceeded);
    p.publish("t", "3", 1);
    assert_eq!(payloads(&broker.resume(V5, "s")), ["1", "3"]);
}

#[test]
fn a_shared_subscription_refuses_when_all_who_could_get_the_message_are_full() {
    let broker = broker(QueueOverflow::Refuse, 4);
    for client in ["a", "b"] {
        let member = broker.resume(V5, client);
        member.subscribe("$share/g/t", 1);
        member.disconnect();
    }
    publish(&broker, 0..8, 1);
    let p = broker.connect(V5, "p");
    assert_eq!(p.publish_message(message("t", "9").qos(1)), ReasonCode::QuotaExceeded);
    let a = broker.resume(V5, "a");
    assert!(payloads(&a).len() >= 4);
    p.publish("t", "10", 1);
    assert_eq!(payloads(&a), ["10"]);
}
