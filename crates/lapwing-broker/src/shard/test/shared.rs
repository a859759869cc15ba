use lapwing_proto::packet::{Packet, PacketType, ReasonCode, SubscriptionOptions};

use super::broker::{Broker, lasting};
use super::client::{Client, ack};
use super::message::qos;
use super::{V5, V311, VERSIONS};

/// How many messages each client has got; they are acknowledged.
fn counts(clients: &[Client]) -> Vec<usize> {
    clients.iter().map(|client| client.receive_all().len()).collect()
}

fn members(broker: &Broker, version: lapwing_proto::packet::ProtocolVersion, bits: u8) -> Vec<Client> {
    let clients: Vec<_> = (0..3).map(|number| broker.resume(version, &format!("m{number}"))).collect();
    for client in &clients {
        client.subscribe("$share/g/t/#", bits);
    }
    clients
}

// [MQTT-4.8.2-1]
// [MQTT-4.8.2-2]
#[test]
fn each_message_goes_to_one_member_in_turn() {
    for version in VERSIONS {
        for qos in 0..3 {
            let broker = Broker::new();
            let members = members(&broker, version, 2);
            let publisher = broker.connect(version, "p");
            for _ in 0..9 {
                publisher.publish("t/a", "x", qos);
            }
            assert_eq!(counts(&members), [3, 3, 3]);
        }
    }
}

// [MQTT-4.8.2-3]
#[test]
fn each_member_has_its_own_qos_and_identifier() {
    let broker = Broker::new();
    let clients: Vec<_> = (0..3).map(|number| broker.connect(V5, &format!("m{number}"))).collect();
    for (number, client) in (0..).zip(&clients) {
        client.subscribe_with(
            "$share/g/t",
            SubscriptionOptions::new(qos(number)),
            Some(u32::from(number) + 1),
        );
    }
    for _ in 0..3 {
        clients[0].send_message(&super::message::message("t", "x").qos(2).id(clients[0].next_id()));
    }
    for (number, client) in (0..).zip(&clients) {
        let got = client.take_first(PacketType::Publish).message();
        assert_eq!((got.qos, got.identifiers), (number, vec![u32::from(number) + 1]));
    }
}

#[test]
fn groups_and_ordinary_subscriptions_do_not_know_of_each_other() {
    let broker = Broker::new();
    let members = members(&broker, V5, 1);
    let (other_group, plain) = (broker.connect(V5, "o"), broker.connect(V5, "q"));
    other_group.subscribe("$share/h/t/#", 1);
    plain.subscribe("t/#", 1);
    // Another filter under the same name is another group.
    let other_filter = broker.connect(V5, "f");
    other_filter.subscribe("$share/g/t/+", 1);
    members[0].subscribe("t/a", 1);
    for _ in 0..6 {
        plain.publish("t/a", "x", 1);
    }
    assert_eq!(counts(&members), [2 + 6, 2, 2]);
    assert_eq!(counts(&[other_group, plain, other_filter]), [6, 6, 6]);
}

#[test]
fn members_that_are_away_are_passed_over() {
    for version in VERSIONS {
        let broker = Broker::new();
        let members = members(&broker, version, 1);
        let publisher = broker.connect(version, "p");
        members[0].lose();
        for _ in 0..10 {
            publisher.publish("t/a", "x", 1);
        }
        assert_eq!(counts(&members), [0, 5, 5]);
        members[2].lose();
        for _ in 0..3 {
            publisher.publish("t/a", "x", 1);
        }
        assert_eq!(counts(&members), [0, 3, 0]);
    }
}

#[test]
fn where_all_are_away_messages_wait_for_them_in_turn() {
    for version in VERSIONS {
        let broker = Broker::new();
        let publisher = broker.connect(version, "p");
        for member in members(&broker, version, 1) {
            member.lose();
        }
        for qos in [1, 0, 1, 1, 1, 1, 1] {
            publisher.publish("t/a", "x", qos);
        }
        let back: Vec<_> = (0..3).map(|number| broker.resume(version, &format!("m{number}"))).collect();
        let mut counts = counts(&back);
        counts.sort_unstable();
        // Six at QoS 1; the one at QoS 0 took a turn and is lost.
        assert_eq!(counts.iter().sum::<usize>(), 6);
        assert_eq!(counts, [1, 2, 3]);
    }
}

// [MQTT-4.8.2-4]
#[test]
fn a_member_that_comes_back_gets_what_it_had_not_acknowledged() {
    for qos in [1, 2] {
        let broker = Broker::new();
        let members = members(&broker, V5, 2);
        broker.connect(V5, "p").publish("t/a", "x", qos);
        let sent = members[0].hold();
        members[0].lose();
        assert_eq!(counts(&members), [0, 0, 0]);
        assert_eq!(broker.resume(V5, "m0").hold(), sent.dup());
    }
}

// [MQTT-4.8.2-5]
#[test]
fn what_a_member_had_not_acknowledged_ends_with_its_session() {
    let broker = Broker::new();
    let members = members(&broker, V5, 2);
    broker.connect(V5, "p").publish("t/a", "x", 2);
    members[0].hold();
    members[0].lose();
    broker.connect(V5, "m0").expect_nothing();
    assert_eq!(counts(&members), [0, 0, 0]);
    assert_eq!(broker.stat().messages_dropped.session_ended, 1);
}

// [MQTT-4.8.2-6]
#[test]
fn a_message_that_a_member_refuses_goes_to_no_other() {
    for (qos, refusal) in [
        (1, Packet::PubAck(ack(1, ReasonCode::UnspecifiedError))),
        (2, Packet::PubRec(ack(1, ReasonCode::UnspecifiedError))),
    ] {
        let broker = Broker::new();
        let members = members(&broker, V5, 2);
        broker.connect(V5, "p").publish("t/a", "x", qos);
        assert_eq!(members[0].hold().packet_id, Some(1));
        members[0].send(&refusal);
        assert_eq!(counts(&members), [0, 0, 0]);
    }
}

#[test]
fn members_come_and_go() {
    let broker = Broker::new();
    let members = members(&broker, V5, 1);
    let publisher = broker.connect(V5, "p");
    assert_eq!(members[1].unsubscribe(&["$share/g/t/#"]), [ReasonCode::Success]);
    assert_eq!(members[1].unsubscribe(&["$share/g/t/#"]), [ReasonCode::NoSubscriptionExisted]);
    for _ in 0..4 {
        publisher.publish("t/a", "x", 1);
    }
    assert_eq!(counts(&members), [2, 0, 2]);
    members[1].subscribe("$share/g/t/#", 1);
    // Subscribed again, a member is there once.
    members[1].subscribe("$share/g/t/#", 0);
    for _ in 0..6 {
        publisher.publish("t/a", "x", 1);
    }
    assert_eq!(counts(&members), [2, 2, 2]);
    for (number, member) in members.iter().enumerate() {
        member.unsubscribe(&["$share/g/t/#"]);
        // The session ends; its memberships with it.
        broker.connect(V5, &format!("m{number}"));
    }
    let reason_code = publisher.publish_message(super::message::message("t/a", "x").qos(1));
    assert_eq!(reason_code, ReasonCode::NoMatchingSubscribers);
    let late = broker.connect(V311, "late");
    late.subscribe("$share/g/t/#", 1);
    publisher.publish("t/a", "x", 1);
    late.receive("t/a", "x", 1);
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    for version in VERSIONS {
        let broker = Broker::new();
        let client = broker.connect(version, "a");
        client.retain("t/a", "x", 1);
        client.subscribe("$share/g/t/#", 1);
        client.expect_nothing();
    }
}

#[test]
fn a_member_with_a_full_receive_maximum_still_has_its_turn() {
    let broker = Broker::new();
    let mut connect = lasting(V5, "slow");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let (slow, fast) = (broker.join(&connect), broker.resume(V5, "fast"));
    slow.subscribe("$share/g/t", 1);
    fast.subscribe("$share/g/t", 1);
    let publisher = broker.connect(V5, "p");
    for number in 0..6 {
        publisher.publish("t", &number.to_string(), 1);
    }
    let payloads =
        |client: &Client| client.receive_all().into_iter().map(|it| it.payload).collect::<Vec<_>>();
    assert_eq!(payloads(&fast), ["1", "3", "5"]);
    assert_eq!(payloads(&slow), ["0", "2", "4"]);
}

#[test]
fn what_a_member_had_not_acknowledged_at_qos_1_goes_to_another_when_its_session_ends() {
    for version in VERSIONS {
        let broker = Broker::new();
        let members = members(&broker, version, 1);
        let publisher = broker.connect(version, "p");
        members[1].lose();
        members[2].lose();
        for payload in ["1", "2", "3"] {
            publisher.publish("t/a", payload, 1);
        }
        let held = members[0].hold_all();
        assert_eq!(held.len(), 3);
        members[0].send(&Packet::PubAck(ack(held[1].packet_id.unwrap(), ReasonCode::Success)));
        let heir = broker.resume(version, "m1");
        heir.expect_nothing();
        members[0].lose();
        heir.expect_nothing();
        broker.connect(version, "m0").expect_nothing();
        let got: Vec<_> = heir.receive_all().into_iter().map(|it| (it.payload, it.dup)).collect();
        assert_eq!(got, [("1".to_owned(), false), ("3".to_owned(), false)]);
        assert_eq!(broker.stat().messages_dropped.session_ended, 0);
    }
}

#[test]
fn what_waits_for_a_member_goes_to_another_when_its_session_ends() {
    let broker = Broker::new();
    let mut connect = lasting(V5, "slow");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let slow = broker.join(&connect);
    slow.subscribe("$share/g/t", 2);
    slow.subscribe("own", 1);
    let publisher = broker.connect(V5, "p");
    for (topic, qos) in [("t", 2), ("t", 2), ("own", 1), ("t", 1)] {
        publisher.publish(topic, &format!("{topic} at {qos}"), qos);
    }
    slow.hold();
    let heir = broker.resume(V5, "heir");
    heir.subscribe_with("$share/g/t", SubscriptionOptions::new(qos(2)), Some(9));
    slow.lose();
    broker.connect(V5, "slow").expect_nothing();
    // The first had begun, and what was for its own subscription was for no one else.
    assert_eq!(heir.receive("t", "t at 2", 2).identifiers, [9]);
    assert_eq!(heir.receive("t", "t at 1", 1).identifiers, [9]);
    heir.expect_nothing();
    assert_eq!(broker.stat().messages_dropped.session_ended, 2);
}

// [MQTT-4.8.2-3]
#[test]
fn an_heir_gets_messages_at_the_qos_that_it_was_granted() {
    let broker = Broker::new();
    let first = broker.resume(V5, "first");
    first.subscribe("$share/g/t", 2);
    let publisher = broker.connect(V5, "p");
    first.lose();
    publisher.publish("t", "x", 2);
    let heir = broker.connect(V5, "heir");
    heir.subscribe("$share/g/t", 0);
    broker.connect(V5, "first");
    heir.receive("t", "x", 0);
}

#[test]
fn heirs_take_turns_and_what_has_expired_is_inherited_by_none() {
    let broker = Broker::new();
    let members = members(&broker, V5, 1);
    let publisher = broker.connect(V5, "p");
    for member in &members[1..] {
        member.lose();
    }
    for seconds in [100, 5, 100, 100, 100] {
        publisher.publish_message(super::message::message("t/a", "x").qos(1).expiry(seconds));
    }
    assert_eq!(members[0].hold_all().len(), 5);
    members[0].lose();
    broker.advance_s(5);
    let heirs = [broker.resume(V5, "m1"), broker.resume(V5, "m2")];
    broker.connect(V5, "m0");
    assert_eq!(counts(&heirs), [2, 2]);
    assert_eq!(broker.stat().messages_dropped.expired, 1);
}

#[test]
fn heirs_that_are_away_keep_what_they_inherit() {
    let broker = Broker::new();
    let mut connect = super::broker::expiring("brief", 5);
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let brief = broker.join(&connect);
    brief.subscribe("$share/g/t", 1);
    let publisher = broker.connect(V5, "p");
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 1);
    brief.lose();
    let heir = broker.resume(V5, "heir");
    heir.subscribe("$share/g/t", 1);
    heir.lose();
    broker.advance_s(5);
    let got: Vec<_> = broker.resume(V5, "heir").receive_all().into_iter().map(|it| it.payload).collect();
    assert_eq!(got, ["1", "2"]);
}
