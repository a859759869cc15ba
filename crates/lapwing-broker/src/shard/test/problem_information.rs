use std::num::NonZero;
use std::sync::Arc;

use lapwing_proto::packet::{Connect, Packet, PacketType, Publish, ReasonCode, SubscriptionOptions};

use super::V5;
use super::broker::{Broker, clean, will};
use super::client::{Client, Received, ack};
use super::message::{message, qos};
use crate::hook::{Client as Publisher, Filtered, PublishFilter};

/// Refuses what is published to `refused`.
struct Refusing;

impl PublishFilter for Refusing {
    fn filter(&self, _: &Publisher, publish: &Publish<'_>) -> Filtered {
        let is_refused = publish.topic.is_some_and(|name| name.as_str() == "refused");
        if is_refused { Filtered::Refuse(ReasonCode::QuotaExceeded) } else { Filtered::Pass }
    }
}

/// With this little room there is a CONNACK, but nothing more in it than what must be there.
const MAXIMUM: u32 = 13;

fn small() -> Broker {
    Broker::with(|setup| {
        setup.limits.topic_alias_maximum = 0;
        setup.limits.subscriptions_maximum = 1;
        setup.publish_filter = Some(Arc::new(Refusing));
    })
}

/// Whether a packet has a reason string or user properties, and its type.
fn information(received: &Received) -> (PacketType, bool) {
    let (packet_type, reason_string, user_properties) = match received.packet() {
        Packet::ConnAck(it) => {
            (PacketType::ConnAck, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::PubAck(it) => {
            (PacketType::PubAck, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::PubRec(it) => {
            (PacketType::PubRec, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::PubRel(it) => {
            (PacketType::PubRel, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::PubComp(it) => {
            (PacketType::PubComp, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::SubAck(it) => {
            (PacketType::SubAck, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::UnsubAck(it) => {
            (PacketType::UnsubAck, it.properties.reason_string, it.properties.user_properties)
        }
        Packet::Disconnect(it) => {
            (PacketType::Disconnect, it.properties.reason_string, it.properties.user_properties)
        }
        other => panic!("{other:?}"),
    };
    (packet_type, reason_string.is_some() || !user_properties.is_empty())
}

/// Does what each kind of acknowledgement refuses, and gives the answers.
fn provoke(client: &Client) -> Vec<Received> {
    client.send_message(&message("refused", "x").qos(1).id(1));
    client.send_message(&message("refused", "x").qos(2).id(2));
    client.send(&Packet::PubRec(ack(3, ReasonCode::Success)));
    client.send(&Packet::PubRel(ack(4, ReasonCode::Success)));
    let filter = super::client::filter;
    let options = SubscriptionOptions::new(qos(0));
    let subscriptions =
        ["a", "b"].map(|text| lapwing_proto::packet::Subscription { filter: filter(text), options });
    client.send(&Packet::Subscribe(lapwing_proto::packet::Subscribe::new(
        super::client::id(5),
        &subscriptions,
    )));
    let filters = [filter("unknown")];
    client
        .send(&Packet::Unsubscribe(lapwing_proto::packet::Unsubscribe::new(super::client::id(6), &filters)));
    client.take_all()
}

fn expect_plain(answers: &[Received]) {
    let kinds: Vec<_> = answers.iter().map(information).collect();
    let plain = |packet_type| (packet_type, false);
    assert_eq!(
        kinds,
        [
            PacketType::PubAck,
            PacketType::PubRec,
            PacketType::PubRel,
            PacketType::PubComp,
            PacketType::SubAck,
            PacketType::UnsubAck
        ]
        .map(plain)
    );
}

// [MQTT-3.1.2-29]
#[test]
fn who_wants_no_problem_information_gets_none_in_acknowledgements() {
    let broker = small();
    let mut connect = clean(V5, "a");
    connect.properties.request_problem_information = Some(false);
    let client = broker.join(&connect);
    expect_plain(&provoke(&client));
    // DISCONNECT may have it all the same.
    client.send_hex("00 00");
    client.expect_end(ReasonCode::MalformedPacket);
}

// [MQTT-3.4.2-2]
// [MQTT-3.4.2-3]
// [MQTT-3.5.2-2]
// [MQTT-3.5.2-3]
// [MQTT-3.6.2-2]
// [MQTT-3.6.2-3]
// [MQTT-3.7.2-2]
// [MQTT-3.7.2-3]
// [MQTT-3.9.2-1]
// [MQTT-3.9.2-2]
// [MQTT-3.11.2-1]
// [MQTT-3.11.2-2]
#[test]
fn an_acknowledgement_comes_without_what_makes_it_too_large() {
    let broker = small();
    let mut connect = clean(V5, "a");
    connect.properties.maximum_packet_size = NonZero::new(MAXIMUM);
    let answers = provoke(&broker.join(&connect));
    expect_plain(&answers);
    assert!(answers.iter().all(|received| received.size() <= MAXIMUM as usize));
}

fn refused(broker: &Broker, connect: &Connect<'_>) -> (usize, bool) {
    let client = broker.send_connect(connect);
    let received = client.next();
    assert_eq!(received.connack().reason_code, ReasonCode::QoSNotSupported);
    client.expect_closed();
    (received.size(), information(&received).1)
}

// [MQTT-3.2.2-19]
// [MQTT-3.2.2-20]
#[test]
fn a_connack_comes_without_what_makes_it_too_large() {
    let broker = Broker::with_limits(|limits| limits.qos_maximum = 0);
    let mut connect = clean(V5, "a");
    connect.will = Some(will("will", "gone", 1));
    let (whole, has_information) = refused(&broker, &connect);
    assert!(has_information);
    connect.properties.maximum_packet_size = u32::try_from(whole).ok().and_then(NonZero::new);
    assert_eq!(refused(&broker, &connect), (whole, true));
    connect.properties.maximum_packet_size = u32::try_from(whole - 1).ok().and_then(NonZero::new);
    assert_eq!(refused(&broker, &connect), (5, false));
}

// [MQTT-3.14.2-3]
// [MQTT-3.14.2-4]
#[test]
fn a_disconnect_comes_without_what_makes_it_too_large() {
    let broker = small();
    let end = |maximum: Option<u32>| {
        let mut connect = clean(V5, "a");
        connect.properties.maximum_packet_size = maximum.and_then(NonZero::new);
        let client = broker.join(&connect);
        client.send_hex("30 0b 0001 61 02 0b 05 74 65 78 74 78");
        let received = client.next();
        let Packet::Disconnect(disconnect) = received.packet() else { panic!("{:?}", received.packet()) };
        assert_eq!(disconnect.reason_code, ReasonCode::ProtocolError);
        client.expect_closed();
        (received.size(), information(&received).1)
    };
    let (whole, has_information) = end(None);
    assert!(has_information);
    assert_eq!(end(u32::try_from(whole).ok()), (whole, true));
    let (size, has_information) = end(u32::try_from(whole - 1).ok());
    assert!(size < whole && !has_information);
}
