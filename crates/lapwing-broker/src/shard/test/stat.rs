use lapwing_proto::packet::{QoS, ReasonCode};

use super::broker::{Broker, lasting};
use super::message::message;
use super::{V5, V31, V311};

#[test]
fn messages_are_counted_by_qos() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V311, "a");
    client.subscribe("t", 1);
    for (qos, count) in [(0, 3), (1, 4), (2, 5)] {
        for _ in 0..count {
            publisher.publish("t", "x", qos);
        }
    }
    publisher.publish("nowhere", "x", 0);
    let stat = broker.stat();
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    assert_eq!(levels.map(|qos| stat.messages_received.get(qos)), [4, 4, 5]);
    assert_eq!(levels.map(|qos| stat.messages_sent.get(qos)), [3, 9, 0]);
    assert_eq!(stat.messages_dropped.no_subscriber, 1);
    client.lose();
    broker.resume(V311, "a");
    assert_eq!(broker.stat().messages_resent, 9);
    assert_eq!(broker.stat().messages_sent, stat.messages_sent);
}

#[test]
fn duplicates_are_no_messages() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    for _ in 0..3 {
        publisher.send_message(&message("t", "x").qos(2).id(1));
    }
    let stat = broker.stat();
    assert_eq!((stat.messages_received.total(), stat.duplicates_received), (1, 2));
}

#[test]
fn connections_and_sessions_are_counted_by_how_they_end() {
    let broker = Broker::with_limits(|limits| limits.connect_timeout_s = 5);
    broker.connect(V5, "a").disconnect();
    broker.connect(V311, "b").lose();
    broker.resume(V31, "c").lose();
    let kept = broker.resume(V5, "c");
    broker.open(V5);
    broker.open(V5).lose();
    broker.send_connect(&lasting(V311, "")).expect_refusal(ReasonCode::ClientIdentifierNotValid);
    broker.advance_s(5);
    kept.send_hex("00 00");
    let stat = broker.stat();
    assert_eq!(stat.connections_accepted, 7);
    assert_eq!((stat.clients_connected, stat.sessions_resumed), (4, 1));
    assert_eq!(stat.disconnected_by_client, 1);
    assert_eq!(stat.connections_lost, 3);
    assert_eq!(stat.clients_refused.get(ReasonCode::ClientIdentifierNotValid), 1);
    assert_eq!(stat.clients_refused.total(), 1);
    assert_eq!(stat.disconnected_by_broker.get(ReasonCode::MaximumConnectTime), 1);
    assert_eq!(stat.disconnected_by_broker.get(ReasonCode::MalformedPacket), 1);
    assert_eq!(stat.disconnected_by_broker.total(), 2);
    assert_eq!((stat.connections, stat.sessions, stat.sessions_ended), (0, 1, 2));
}

#[test]
fn bytes_are_counted() {
    let broker = Broker::new();
    let client = broker.connect(V311, "a");
    let before = broker.stat();
    client.ping();
    client.ping();
    let stat = broker.stat();
    assert_eq!((stat.bytes_received - before.bytes_received, stat.bytes_sent - before.bytes_sent), (4, 4));
}

#[test]
fn what_a_session_still_had_is_dropped_with_it() {
    let broker = Broker::new();
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "a");
    client.subscribe("t", 2);
    publisher.publish("t", "in flight", 2);
    client.lose();
    publisher.publish("t", "queued", 1);
    broker.connect(V5, "a");
    assert_eq!(broker.stat().messages_dropped.session_ended, 2);
}

#[test]
fn retained_messages_are_counted_as_they_are() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.retain("t/1", "x", 0);
    client.retain("t/2", "x", 0);
    client.retain("t/2", "xx", 0);
    let stat = broker.stat();
    assert_eq!(stat.retained_messages, 2);
    client.retain("t/2", "x", 0);
    assert_eq!(broker.stat().retained_bytes, stat.retained_bytes - 1);
    client.retain("t/1", "", 0);
    client.retain("t/2", "", 0);
    assert_eq!((broker.stat().retained_messages, broker.stat().retained_bytes), (0, 0));
}
