use lapwing_proto::packet::{
    Packet, PacketType, ReasonCode, RetainHandling, SubAck, Subscribe, Subscription, SubscriptionOptions,
    Unsubscribe,
};

use super::broker::Broker;
use super::client::{filter, id};
use super::message::qos;
use super::{V5, V311, VERSIONS};

fn at(bits: u8) -> SubscriptionOptions {
    SubscriptionOptions::new(qos(bits))
}

fn no_local(bits: u8) -> SubscriptionOptions {
    SubscriptionOptions { no_local: true, ..at(bits) }
}

fn as_published(bits: u8) -> SubscriptionOptions {
    SubscriptionOptions { retain_as_published: true, ..at(bits) }
}

// [MQTT-2.2.1-6]
// [MQTT-3.8.4-1]
// [MQTT-3.8.4-2]
// [MQTT-3.8.4-5]
// [MQTT-3.8.4-6]
// [MQTT-3.8.4-7]
// [MQTT-3.9.3-1]
// 3.1.1 [MQTT-2.3.1-7]
// 3.1.1 [MQTT-3.8.4-1]
// 3.1.1 [MQTT-3.8.4-2]
// 3.1.1 [MQTT-3.8.4-4]
// 3.1.1 [MQTT-3.8.4-5]
// 3.1.1 [MQTT-3.9.3-1]
#[test]
fn a_suback_has_the_identifier_and_a_result_for_each_filter_in_order() {
    use ReasonCode::{GrantedQoS1, GrantedQoS2, Success};
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        let wanted = [("a", 2), ("b", 0), ("c/#", 1), ("+", 0)];
        let subscriptions =
            wanted.map(|(text, bits)| Subscription { filter: filter(text), options: at(bits) });
        client.send(&Packet::Subscribe(Subscribe::new(id(777), &subscriptions)));
        client.expect(&Packet::SubAck(SubAck::new(id(777), &[GrantedQoS2, Success, GrantedQoS1, Success])));
        client.publish("a", "x", 2);
        client.receive("a", "x", 2);
        client.publish("c/d", "x", 2);
        client.receive("c/d", "x", 1);
        client.expect_nothing();
    }
}

// [MQTT-3.8.4-3]
// 3.1.1 [MQTT-3.8.4-3]
#[test]
fn the_same_filter_again_replaces_the_subscription() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.retain("t", "old", 2);
        for bits in [2, 0, 1] {
            client.subscribe("t", bits);
            client.receive("t", "old", bits);
            client.publish("t", "x", 2);
            client.receive("t", "x", bits);
            client.expect_nothing();
        }
        client.unsubscribe(&["t"]);
        client.publish("t", "x", 2);
        client.expect_nothing();
    }
}

// [MQTT-3.8.4-3]
#[test]
fn a_replaced_subscription_has_the_new_options_and_the_new_identifier() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe_with("t", no_local(1), Some(5));
    client.publish("t", "x", 1);
    client.expect_nothing();
    client.subscribe_with("t", at(1), Some(6));
    client.publish("t", "x", 1);
    assert_eq!(client.receive("t", "x", 1).identifiers, [6]);
    client.subscribe_with("t", at(0), None);
    client.publish("t", "x", 1);
    assert_eq!(client.receive("t", "x", 0).identifiers, [0; 0]);
}

// [MQTT-3.8.4-4]
#[test]
fn replacing_a_subscription_loses_no_message() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "a");
    client.subscribe("t", 1);
    client.lose();
    for number in 0..5 {
        publisher.publish("t", &number.to_string(), 1);
    }
    let client = broker.resume(V5, "a");
    client.subscribe("t", 0);
    let got: Vec<_> = client.receive_all().into_iter().map(|it| it.payload).collect();
    assert_eq!(got, ["0", "1", "2", "3", "4"]);
}

// [MQTT-3.3.4-2]
// 3.1.1 [MQTT-3.3.5-1]
// [attack: overlapping-subscriptions]
#[test]
fn overlapping_subscriptions_deliver_one_copy_at_the_highest_qos() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        for (text, bits) in [("t/a", 0), ("t/#", 2), ("+/a", 1), ("#", 0)] {
            client.subscribe(text, bits);
        }
        client.publish("t/a", "x", 2);
        client.receive("t/a", "x", 2);
        client.expect_nothing();
        client.unsubscribe(&["t/#"]);
        client.publish("t/a", "x", 2);
        client.receive("t/a", "x", 1);
        client.expect_nothing();
    }
}

// [MQTT-3.3.4-3]
// [MQTT-3.3.4-4]
#[test]
fn a_copy_has_the_identifiers_of_all_its_subscriptions() {
    let broker = Broker::new();
    let client = broker.resume(V5, "a");
    client.subscribe_with("t/a", at(0), Some(1));
    client.subscribe_with("t/#", at(1), Some(268_435_455));
    client.subscribe_with("+/a", at(1), None);
    client.subscribe_with("#", at(2), Some(1));
    client.subscribe_with("other", at(2), Some(9));
    let sorted = |mut identifiers: Vec<u32>| {
        identifiers.sort_unstable();
        identifiers
    };
    for qos in 0..3 {
        client.publish("t/a", "x", qos);
        assert_eq!(sorted(client.receive("t/a", "x", qos).identifiers), [1, 1, 268_435_455]);
    }
    // Also of those that wait in the queue.
    client.lose();
    broker.connect(V5, "p").publish("t/a", "x", 1);
    let client = broker.resume(V5, "a");
    assert_eq!(sorted(client.receive("t/a", "x", 1).identifiers), [1, 1, 268_435_455]);
}

#[test]
fn identifiers_of_one_client_do_not_reach_another() {
    let broker = Broker::new();
    let (one, two) = (broker.connect(V5, "1"), broker.connect(V5, "2"));
    let old = broker.connect(V311, "3");
    one.subscribe_with("t", at(1), Some(11));
    two.subscribe_with("t", at(1), None);
    old.subscribe("t", 1);
    for qos in 0..2 {
        one.publish("t", "x", qos);
        assert_eq!(one.receive("t", "x", qos).identifiers, [11]);
        assert_eq!(two.receive("t", "x", qos).identifiers, [0; 0]);
        old.receive("t", "x", qos);
    }
}

// [MQTT-3.8.3-3]
#[test]
fn no_local_keeps_own_messages_away() {
    for qos in 0..3 {
        let broker = Broker::new();
        let (client, other) = (broker.connect(V5, "a"), broker.connect(V5, "b"));
        client.subscribe_with("t", no_local(2), None);
        other.subscribe_with("t", no_local(2), None);
        client.publish("t", "x", qos);
        client.expect_nothing();
        other.receive("t", "x", qos);
        other.publish("t", "y", qos);
        client.receive("t", "y", qos);
        other.expect_nothing();
    }
}

// [MQTT-3.8.3-3]
#[test]
fn no_local_holds_for_one_subscription_not_for_an_overlapping_one() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe_with("t", no_local(1), None);
    client.subscribe_with("+", at(1), None);
    client.publish("t", "x", 1);
    client.receive("t", "x", 1);
    client.expect_nothing();
    client.subscribe_with("+", no_local(1), None);
    client.publish("t", "x", 1);
    client.expect_nothing();
}

// [MQTT-3.8.3-3]
#[test]
fn no_local_means_the_session_not_the_connection() {
    let broker = Broker::new();
    let client = broker.resume(V5, "a");
    client.subscribe_with("t", no_local(1), None);
    client.lose();
    let client = broker.resume(V5, "a");
    client.publish("t", "x", 1);
    client.expect_nothing();
}

// [MQTT-3.3.1-12]
// [MQTT-3.3.1-13]
// 3.1.1 [MQTT-3.3.1-9]
#[test]
fn the_retain_flag_is_forwarded_where_it_was_asked_for() {
    for qos in 0..3 {
        let broker = Broker::new();
        let (plain, raw) = (broker.connect(V5, "a"), broker.connect(V5, "b"));
        let old = broker.connect(V311, "c");
        plain.subscribe("t", 2);
        old.subscribe("t", 2);
        raw.subscribe_with("t", as_published(2), None);
        plain.retain("t", "x", qos);
        assert!(!plain.receive("t", "x", qos).retain);
        assert!(!old.receive("t", "x", qos).retain);
        assert!(raw.receive("t", "x", qos).retain);
        plain.publish("t", "y", qos);
        plain.receive("t", "y", qos);
        assert!(!raw.receive("t", "y", qos).retain);
    }
}

// [MQTT-3.3.1-13]
#[test]
fn the_retain_flag_waits_in_the_queue_with_its_message() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "a");
    client.subscribe_with("t", as_published(1), None);
    client.subscribe("u", 1);
    client.lose();
    publisher.retain("t", "x", 1);
    publisher.retain("u", "x", 1);
    let client = broker.resume(V5, "a");
    assert!(client.receive("t", "x", 1).retain);
    assert!(!client.receive("u", "x", 1).retain);
}

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..at(1) }
}

// [MQTT-3.3.1-9]
#[test]
fn retain_handling_0_sends_each_time() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.retain("t", "x", 1);
    for _ in 0..3 {
        client.subscribe_with("t", handling(RetainHandling::Send), None);
        assert!(client.receive("t", "x", 1).retain);
        client.expect_nothing();
    }
}

// [MQTT-3.3.1-10]
#[test]
fn retain_handling_1_sends_to_a_new_subscription() {
    let broker = Broker::new();
    let client = broker.resume(V5, "a");
    client.retain("t", "x", 1);
    for _ in 0..2 {
        client.subscribe_with("t", handling(RetainHandling::SendIfNew), None);
        client.receive("t", "x", 1);
        client.subscribe_with("t", handling(RetainHandling::SendIfNew), None);
        client.expect_nothing();
        client.unsubscribe(&["t"]);
    }
    // The subscription of a session that goes on is no new one.
    client.subscribe_with("t", handling(RetainHandling::DoNotSend), None);
    client.lose();
    let client = broker.resume(V5, "a");
    client.subscribe_with("t", handling(RetainHandling::SendIfNew), None);
    client.expect_nothing();
}

// [MQTT-3.3.1-11]
#[test]
fn retain_handling_2_sends_never() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.retain("t", "x", 1);
    for _ in 0..2 {
        client.subscribe_with("t", handling(RetainHandling::DoNotSend), None);
        client.expect_nothing();
    }
    client.publish("t", "y", 1);
    client.receive("t", "y", 1);
}

// [MQTT-3.10.4-1]
// [MQTT-3.10.4-2]
// [MQTT-3.10.4-4]
// [MQTT-3.10.4-5]
// [MQTT-3.10.4-6]
// [MQTT-3.11.3-1]
// [MQTT-3.11.3-2]
// 3.1.1 [MQTT-3.10.4-1]
// 3.1.1 [MQTT-3.10.4-2]
// 3.1.1 [MQTT-3.10.4-4]
// 3.1.1 [MQTT-3.10.4-5]
// 3.1.1 [MQTT-3.10.4-6]
#[test]
fn an_unsubscribe_ends_the_very_same_filters_and_is_always_answered() {
    use ReasonCode::{NoSubscriptionExisted, Success};
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        for text in ["t/a", "t/+", "u"] {
            client.subscribe(text, 1);
        }
        let filters = ["t/#", "t/+", "u", "t/", "u"].map(filter);
        client.send(&Packet::Unsubscribe(Unsubscribe::new(id(999), &filters)));
        let received = client.take_first(PacketType::UnsubAck);
        let Packet::UnsubAck(unsuback) = received.packet() else { unreachable!() };
        assert_eq!(unsuback.packet_id, id(999));
        let codes: Vec<_> = unsuback.reason_codes.iter().collect();
        let wanted = [NoSubscriptionExisted, Success, Success, NoSubscriptionExisted, NoSubscriptionExisted];
        assert_eq!(codes, if version == V5 { &wanted[..] } else { &[] });
        client.publish("t/b", "x", 1);
        client.publish("u", "x", 1);
        client.expect_nothing();
        client.publish("t/a", "x", 1);
        client.receive("t/a", "x", 1);
    }
}

// [MQTT-3.10.4-2]
// 3.1.1 [MQTT-3.10.4-2]
#[test]
fn subscriptions_of_others_stay() {
    for version in VERSIONS {
        let broker = Broker::new();
        let clients: Vec<_> = (0..30).map(|number| broker.connect(version, &format!("c{number}"))).collect();
        for client in &clients {
            client.subscribe("t/+", 0);
        }
        for client in clients.iter().step_by(2) {
            client.unsubscribe(&["t/+"]);
        }
        clients[28].disconnect();
        clients[29].disconnect();
        clients[0].publish("t/a", "x", 0);
        for (number, client) in clients[..28].iter().enumerate() {
            if number % 2 == 1 {
                client.receive("t/a", "x", 0);
            }
            client.expect_nothing();
        }
    }
}

#[test]
fn a_subscription_made_between_two_messages_gets_the_second() {
    // The route of the first is remembered, and must not be the route of the second.
    let broker = Broker::new();
    let (first, second) = (broker.connect(V5, "1"), broker.connect(V5, "2"));
    first.subscribe("t", 0);
    first.publish("t", "x", 0);
    second.subscribe("+", 0);
    first.publish("t", "y", 0);
    second.receive("t", "y", 0);
    second.subscribe("+", 1);
    first.publish("t", "z", 1);
    second.receive("t", "z", 1);
    second.unsubscribe(&["+"]);
    first.publish("t", "z", 1);
    second.expect_nothing();
}

#[test]
fn more_topics_than_are_remembered_find_their_way() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("t/+", 0);
    let long = "x".repeat(2000);
    for round in 0..2 {
        for number in (0..5000).step_by(1 + round * 7) {
            let topic = format!("t/{number}");
            client.publish(&topic, "x", 0);
            client.receive(&topic, "x", 0);
        }
        let topic = format!("t/{long}");
        client.publish(&topic, "x", 0);
        client.receive(&topic, "x", 0);
    }
}

// [MQTT-3.8.3-3]
#[test]
fn own_messages_come_as_the_subscriptions_without_no_local_say() {
    let broker = Broker::new();
    let (client, other) = (broker.connect(V5, "a"), broker.connect(V5, "b"));
    let forwarding = SubscriptionOptions { retain_as_published: true, ..no_local(2) };
    client.subscribe_with("t", forwarding, Some(1));
    client.subscribe_with("+", at(1), Some(2));
    client.subscribe_with("#", at(0), Some(3));
    client.retain("t", "own", 2);
    let sorted = |mut message: super::message::Message| {
        message.identifiers.sort_unstable();
        message
    };
    let own = sorted(client.receive("t", "own", 1));
    assert_eq!((own.identifiers, own.retain), (vec![2, 3], false));
    other.retain("t", "other", 2);
    let others = sorted(client.receive("t", "other", 2));
    assert_eq!((others.identifiers, others.retain), (vec![1, 2, 3], true));
    client.expect_nothing();
}
