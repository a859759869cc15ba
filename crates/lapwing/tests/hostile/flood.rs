//! Attacks with more of everything: messages that stay, messages that many get, wills, and packets that take for ever.

use std::time::{Duration, Instant};

use lapwing_proto::packet::{Connect, Packet, PacketId, Publish, QoS, ReasonCode, Will};

use super::broker::Broker;
use super::broker::peer::{Peer, encoded, name};
use super::{V5, V311, attack};

/// Counts what `peer` gets until nothing more comes before the answer to a PINGREQ.
fn messages(peer: &mut Peer) -> usize {
    peer.send(&Packet::PingReq);
    let mut count = 0;
    loop {
        match peer.receive().expect("a packet").packet() {
            Packet::PingResp => return count,
            Packet::Publish(_) => count += 1,
            _ => {}
        }
    }
}

fn retain(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut publish = Publish::new(name(topic), payload);
    publish.retain = true;
    encoded(&Packet::Publish(publish), V5)
}

// [attack: retained-flood]
#[test]
fn retained_messages_without_end() {
    let limits = ["limits.retained_messages_maximum=1000", "limits.retained_bytes_maximum=4000000"];
    attack(&limits, 32, |broker| {
        let mut publisher = Peer::connect(broker, V5, "publisher");
        let mut flood = Vec::new();
        for index in 0..20_000 {
            flood.extend(retain(&format!("flood/{index}"), b"x"));
        }
        publisher.try_send_bytes(&flood).unwrap();
        publisher.ping();
        // Whoever can be told is told.
        let mut publish = Publish::new(name("one/more"), b"x");
        (publish.retain, publish.qos, publish.packet_id) = (true, QoS::AtLeastOnce, Some(PacketId::FIRST));
        publisher.send(&Packet::Publish(publish));
        match publisher.receive().unwrap().packet() {
            Packet::PubAck(ack) => assert_eq!(ack.reason_code, ReasonCode::QuotaExceeded),
            packet => panic!("{packet:?}"),
        };
        // Few and large ones fill it as well: they replace those that are there.
        for index in 0..1000 {
            publisher.try_send_bytes(&retain(&format!("flood/{index}"), &[7; 100_000])).unwrap();
        }
        publisher.ping();
        let mut late = Peer::connect(broker, V5, "late");
        late.subscribe(&["flood/#"], QoS::AtMostOnce);
        let mut count = 0;
        // They come as they are read.
        while let more @ 1.. = messages(&mut late) {
            count += more;
        }
        assert!((30..=1000).contains(&count), "{count}");
    });
}

// [attack: retained-replay]
#[test]
fn a_storm_of_subscriptions_to_all_that_is_retained() {
    attack(&["limits.outbox_bytes_maximum=200000"], 64, |broker| {
        const COUNT: usize = 5000;
        let mut publisher = Peer::connect(broker, V5, "publisher");
        for index in 0..COUNT {
            publisher.try_send_bytes(&retain(&format!("kept/{index}"), &[7; 200])).unwrap();
        }
        publisher.ping();
        // Nobody reads, and each of them asks for all of it several times.
        let mut deaf: Vec<_> = (0..50)
            .map(|index| {
                let mut peer = Peer::connect(broker, V311, &format!("deaf-{index}"));
                for filter in ["#", "kept/#", "+/+", "kept/+", "#"] {
                    peer.subscribe(&[filter], QoS::AtMostOnce);
                }
                peer
            })
            .collect();
        // Who reads gets everything meanwhile.
        let mut reader = Peer::connect(broker, V5, "reader");
        reader.subscribe(&["kept/#"], QoS::AtMostOnce);
        for index in 0..COUNT {
            assert!(matches!(reader.receive().expect("a message").packet(), Packet::Publish(_)), "{index}");
        }
        deaf.iter_mut().for_each(Peer::finish);
    });
}

// [attack: overlapping-subscriptions]
#[test]
fn a_thousand_subscriptions_of_one_client_to_one_message() {
    attack(&[], 48, |broker| {
        let mut peer = Peer::connect(broker, V311, "overlapping");
        let texts: Vec<_> = (0..1 << 10)
            .map(|bits| (0..10).map(|bit| if bits >> bit & 1 == 1 { "/+" } else { "/a" }).collect::<String>())
            .collect();
        peer.subscribe(&texts.iter().map(String::as_str).collect::<Vec<_>>(), QoS::AtMostOnce);
        let mut publisher = Peer::connect(broker, V311, "publisher");
        for _ in 0..200 {
            publisher.publish(&"/a".repeat(10), b"one copy");
        }
        publisher.ping();
        // What is on its way to another shard may come behind the answer to the PINGREQ.
        let mut count = 0;
        let start = Instant::now();
        while count < 200 && start.elapsed() < Duration::from_secs(10) {
            count += messages(&mut peer);
        }
        assert_eq!((count, messages(&mut peer)), (200, 0));
    });
}

// [attack: will-storm]
#[test]
fn a_thousand_wills_at_once() {
    attack(&[], 64, |broker| {
        let mut watch = Peer::connect(broker, V311, "watch");
        watch.subscribe(&["will/#"], QoS::AtMostOnce);
        let dying: Vec<_> = (0..1000)
            .map(|index| {
                let client_id = format!("dying-{index}");
                let topic = format!("will/{index}");
                let mut connect = Connect::new(V5, &client_id);
                let mut will = Will::new(name(&topic), &[7; 5000]);
                (will.retain, will.qos) = (true, QoS::AtLeastOnce);
                connect.will = Some(will);
                Peer::connect_with(broker, &connect)
            })
            .collect();
        drop(dying);
        for index in 0..1000 {
            assert!(matches!(watch.receive().expect("a will").packet(), Packet::Publish(_)), "{index}");
        }
    });
}

// [attack: publish-flood]
#[test]
fn messages_for_nobody_as_fast_as_they_go() {
    attack(&[], 32, |broker| {
        let mut publishers: Vec<_> =
            (0..4).map(|index| Peer::connect(broker, V311, &format!("publisher-{index}"))).collect();
        let bytes = encoded(&Packet::Publish(Publish::new(name("nobody/reads/this"), &[7; 50])), V311);
        let bytes = bytes.repeat(5000);
        for _ in 0..10 {
            for publisher in &mut publishers {
                publisher.try_send_bytes(&bytes).unwrap();
            }
        }
        publishers.iter_mut().for_each(Peer::ping);
    });
}

/// Each is let in with a keep alive of a second; the beginning of a packet is no sign of life.
// [attack: dripping-packet]
#[test]
fn packets_that_come_byte_by_byte_for_ever() {
    attack(&[], 32, |broker| {
        let mut connect = Connect::new(V5, "");
        connect.keep_alive = 1;
        let mut peers: Vec<_> = (0..100).map(|_| Peer::connect_with(broker, &connect)).collect();
        for peer in &mut peers {
            peer.try_send_bytes(&[0x30, 0x80, 0x80, 0x40, 0, 1, b't']).unwrap();
        }
        let mut clock = Peer::connect(broker, V5, "clock");
        let start = Instant::now();
        while !peers.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(8), "{} are still connected", peers.len());
            peers.retain_mut(|peer| peer.try_send_bytes(b"x").is_ok());
            clock.ping();
        }
        assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
        broker.wait_for_line("eep alive");
    });
}

/// 65,535 QoS 2 messages may be open where the limit allows it: then there is no identifier left, and no more memory
/// for another round of them.
// [attack: qos-2-identifiers]
#[test]
fn every_qos_2_identifier_at_once() {
    attack(&["limits.receive_maximum=65535"], 48, |broker| {
        let mut peers: Vec<_> =
            (0..4).map(|index| Peer::connect(broker, V5, &format!("hoarder-{index}"))).collect();
        for _ in 0..2 {
            for peer in &mut peers {
                take_all_identifiers(peer);
            }
        }
    });
}

/// Sends a QoS 2 message with each identifier, and never a PUBREL.
fn take_all_identifiers(peer: &mut Peer) {
    let mut publish = Publish::new(name("kept"), b"");
    publish.qos = QoS::ExactlyOnce;
    let ids: Vec<_> = (1..=u16::MAX).filter_map(PacketId::new).collect();
    for part in ids.chunks(5000) {
        let mut bytes = Vec::new();
        for &packet_id in part {
            publish.packet_id = Some(packet_id);
            bytes.extend(encoded(&Packet::Publish(publish), V5));
        }
        peer.try_send_bytes(&bytes).expect("the broker reads");
        for _ in part {
            assert!(matches!(peer.receive().expect("a PUBREC").packet(), Packet::PubRec(_)));
        }
    }
}

/// A broker that listens on a Unix socket as well, to which anybody on the machine may connect.
// [attack: unix-socket-flood]
#[test]
fn a_flood_over_the_unix_socket() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let address = format!("unix:{}", path.display());
    let arguments = ["--listen", &address, "--set", "limits.connect_timeout_s=1"];
    super::attack_on(Broker::start(&arguments), 32, |broker| {
        let mut streams: Vec<_> = (0..1500)
            .map(|index| {
                let mut stream = UnixStream::connect(&path).expect("it accepts");
                let _ = stream.write_all(&[[0x10, 0x0D], [0xFF, 0xFF], [0xC0, 0]][index % 3]);
                stream
            })
            .collect();
        for stream in &mut streams {
            stream.set_read_timeout(Some(super::broker::SOON)).unwrap();
            // A reset is an end as well; only that nothing happens is none.
            match stream.read(&mut [0; 100]) {
                Ok(0) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                other => panic!("{other:?}"),
            }
        }
        broker.wait_for_line("the first packet is not a CONNECT");
    });
}
