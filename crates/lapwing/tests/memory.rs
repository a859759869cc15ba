//! The memory that the configuration allows is all that the program takes, whatever clients do.

mod broker;

use broker::Broker;
use broker::canary::Canary;
use broker::peer::{Peer, encoded, name};
use lapwing_proto::packet::{Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;
const MIB: u64 = 1024 * 1024;

/// Runs an attack on a broker that may take 64 MiB, beside a client that behaves well.
fn within_64_mib(settings: &[&str], attack: impl FnOnce(&Broker)) {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut broker = Broker::with_settings(&[&["memory=64MiB"], settings].concat());
    let canary = Canary::start(&broker);
    attack(&broker);
    canary.worst_round_trip();
    broker.assert_alive();
    let peak = broker.peak_memory();
    assert!(peak <= 64 * MIB, "{} MiB", peak / MIB);
    // It was not for want of trying.
    broker.wait_for_line("memory is short");
}

// [attack: all-memory]
#[test]
fn packets_that_are_gathered_by_many() {
    within_64_mib(&[], |broker| {
        let mut begun = vec![0x30, 0x80, 0x80, 0x80, 0x02, 0, 1, b't', 0];
        begun.resize(300_000, b'x');
        let mut streams = Vec::new();
        for index in 0..400 {
            let mut peer = Peer::raw(broker);
            if peer.present(&Connect::new(V5, &format!("gathering-{index}"))) == Some(ReasonCode::Success) {
                // The broker may end it in the middle.
                let _ = peer.try_send_bytes(&begun);
                streams.push(peer);
            }
        }
        assert!(streams.len() > 50, "{}", streams.len());
    });
}

// [attack: all-memory]
#[test]
fn messages_for_many_that_do_not_read() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        within_64_mib(&[], |broker| {
            let mut deaf: Vec<_> =
                (0..100).map(|index| Peer::connect(broker, V5, &format!("deaf-{index}"))).collect();
            for peer in &mut deaf {
                assert!(!peer.subscribe(&["flood"], qos)[0].is_error());
            }
            let mut publisher = Peer::connect(broker, V311, "publisher");
            let mut publish = Publish::new(name("flood"), &[7; 10_000]);
            publish.qos = qos;
            publish.packet_id = (qos > QoS::AtMostOnce).then_some(lapwing_proto::packet::PacketId::FIRST);
            let bytes = encoded(&Packet::Publish(publish), V311);
            for _ in 0..1000 {
                publisher.try_send_bytes(&bytes).unwrap();
                if qos > QoS::AtMostOnce {
                    publisher.receive().unwrap();
                }
            }
            publisher.ping();
        });
    }
}

// [attack: all-memory]
#[test]
fn queues_of_many_that_are_away() {
    within_64_mib(&["store.durability=memory"], |broker| {
        for index in 0..100 {
            let client_id = format!("away-{index}");
            let mut connect = Connect::new(V5, &client_id);
            connect.properties.session_expiry_interval = Some(1000);
            let mut peer = Peer::connect_with(broker, &connect);
            peer.subscribe(&["flood/+"], QoS::AtLeastOnce);
        }
        let mut publisher = Peer::connect(broker, V5, "publisher");
        for index in 0..3000 {
            let topic = format!("flood/{index}");
            let mut publish = Publish::new(name(&topic), &[7; 30_000]);
            publish.qos = QoS::AtLeastOnce;
            publish.packet_id = Some(lapwing_proto::packet::PacketId::FIRST);
            publisher.send(&Packet::Publish(publish));
            publisher.receive().unwrap();
        }
    });
}

// [attack: all-memory]
#[test]
fn retained_messages_without_end() {
    within_64_mib(&["store.durability=memory"], |broker| {
        let mut publisher = Peer::connect(broker, V5, "publisher");
        for index in 0..60_000 {
            let topic = format!("retained/{index}");
            let mut publish = Publish::new(name(&topic), &[7; 1000]);
            publish.retain = true;
            publisher.send(&Packet::Publish(publish));
        }
        publisher.ping();
    });
}

// [attack: all-memory]
#[test]
fn who_is_there_is_served_and_who_comes_is_told_why() {
    within_64_mib(&[], |broker| {
        let mut old = Peer::connect(broker, V5, "old");
        old.subscribe(&["here"], QoS::AtMostOnce);
        let mut begun = vec![0x30, 0x80, 0x80, 0x80, 0x02, 0, 1, b't', 0];
        begun.resize(500_000, b'x');
        // Before CONNACK nobody gathers more than a CONNECT may have; so these are clients.
        let mut streams = Vec::<Peer>::new();
        let refused = (0..1000).find_map(|index| {
            let mut peer = Peer::raw(broker);
            let code = peer.present(&Connect::new(V5, &format!("new-{index}")));
            let _ = peer.try_send_bytes(&begun);
            streams.push(peer);
            code.filter(|code| code.is_error())
        });
        assert_eq!(refused, Some(ReasonCode::QuotaExceeded));
        old.publish("here", b"still served");
        let received = old.receive().unwrap();
        assert!(matches!(received.packet(), Packet::Publish(publish) if publish.payload == b"still served"));
        assert_eq!(old.subscribe(&["more"], QoS::AtMostOnce), [ReasonCode::QuotaExceeded]);
        drop(streams);
        // When they have gone, everybody is welcome again.
        let deadline = std::time::Instant::now() + broker::SOON;
        let is_welcome =
            || Peer::raw(broker).present(&Connect::new(V5, "later")) == Some(ReasonCode::Success);
        while !is_welcome() {
            assert!(std::time::Instant::now() < deadline, "{:#?}", broker.lines());
        }
    });
}
