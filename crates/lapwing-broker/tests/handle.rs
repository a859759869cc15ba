//! The program around a running broker publishes, and sends to single sessions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lapwing_broker::{Address, Broker, Config, ListenerConfig, Recipient};
use lapwing_proto::packet::{EncodeError, PayloadFormat, Publish, QoS, TopicAlias};
use lapwing_proto::topic::TopicName;

/// A client of 3.1.1.
struct Client {
    stream: TcpStream,
}

impl Client {
    /// With a session that stays, of which `has_session` says whether it is there.
    fn connect(broker: &Broker, client_id: u8, has_session: bool) -> Self {
        let port = broker.listening()[0].port();
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut client = Self { stream };
        client.send(&[b"\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01".as_slice(), &[client_id]].concat());
        client.expect(&[0x20, 2, has_session.into(), 0]);
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a connection");
    }

    fn expect(&mut self, bytes: &[u8]) {
        let mut buffer = vec![0; bytes.len()];
        self.stream.read_exact(&mut buffer).expect("bytes");
        assert_eq!(buffer, bytes);
    }

    /// Until this is answered, nothing else has come.
    fn ping(&mut self) {
        self.send(b"\xc0\0");
        self.expect(b"\xd0\0");
    }

    fn disconnect(mut self) {
        self.send(b"\xe0\0");
        assert_eq!(self.stream.read(&mut [0]).expect("an end"), 0);
    }
}

fn broker() -> Broker {
    let config = Config {
        listeners: vec![ListenerConfig::new("test", Address::new("127.0.0.1", 0))],
        ..Config::default()
    };
    Broker::start(config).expect("a broker")
}

fn publish<'a>(payload: &'a str, qos: QoS) -> Publish<'a> {
    Publish { qos, ..Publish::new(TopicName::new("t").expect("a name"), payload.as_bytes()) }
}

#[test]
fn what_the_program_publishes_reaches_who_has_subscribed() {
    let broker = broker();
    let mut client = Client::connect(&broker, b'a', false);
    client.send(b"\x82\x06\0\x01\0\x01t\x02");
    client.expect(b"\x90\x03\0\x01\x02");
    broker.publish(&publish("x", QoS::AtMostOnce)).unwrap();
    client.expect(b"\x30\x04\0\x01tx");
    broker.publish(&publish("y", QoS::AtLeastOnce)).unwrap();
    client.expect(b"\x32\x06\0\x01t\0\x01y");
    client.send(b"\x40\x02\0\x01");
    broker.publish(&Publish { retain: true, ..publish("kept", QoS::AtMostOnce) }).unwrap();
    client.expect(b"\x30\x07\0\x01tkept");
    client.send(b"\x82\x06\0\x02\0\x01t\x02");
    client.expect(b"\x90\x03\0\x02\x02\x31\x07\0\x01tkept");
    client.ping();
    broker.shut_down().unwrap();
}

#[test]
fn what_the_program_sends_reaches_the_one_session() {
    let broker = broker();
    let (mut client, mut other) =
        (Client::connect(&broker, b'a', false), Client::connect(&broker, b'b', false));
    let to = |recipient, payload, qos| broker.send(recipient, &publish(payload, qos)).unwrap();
    to(Recipient::ClientId("a"), "x", QoS::AtMostOnce);
    client.expect(b"\x30\x04\0\x01tx");
    to(Recipient::ClientId("nobody"), "x", QoS::AtLeastOnce);
    to(Recipient::SessionKey("a"), "x", QoS::AtLeastOnce);
    client.ping();
    other.ping();
    client.disconnect();
    to(Recipient::ClientId("a"), "lost", QoS::AtMostOnce);
    to(Recipient::ClientId("a"), "waits", QoS::AtLeastOnce);
    let mut client = Client::connect(&broker, b'a', true);
    client.expect(b"\x32\x0a\0\x01t\0\x01waits");
    assert_eq!(broker.stat().messages_dropped.no_subscriber, 2);
    broker.shut_down().unwrap();
}

#[test]
fn what_no_packet_can_carry_is_refused() {
    let broker = broker();
    let alias = TopicAlias::new(1);
    let mut without_topic = publish("x", QoS::AtMostOnce);
    without_topic.topic = None;
    without_topic.properties.topic_alias = alias;
    assert!(matches!(broker.publish(&without_topic), Err(EncodeError::NoTopic)));
    let long = "x".repeat(70_000);
    let mut with_long = publish("x", QoS::AtMostOnce);
    with_long.properties.content_type = Some(&long);
    assert!(broker.publish(&with_long).is_err());
    assert!(broker.send(Recipient::ClientId("a"), &with_long).is_err());
    // A text that is none goes as it is: nobody has promised.
    let mut format = publish("x", QoS::AtMostOnce);
    format.properties.payload_format_indicator = Some(PayloadFormat::Utf8);
    broker.publish(&format).unwrap();
    Client::connect(&broker, b'a', false).ping();
    broker.shut_down().unwrap();
}
