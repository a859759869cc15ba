//! A disk that takes no more, under the real program: nothing that was acknowledged is lost.

mod broker;

use std::path::Path;
use std::process::Command;

use broker::peer::{Peer, name, packet_id};
use broker::{Broker, SOON, failure, lapwing};
use lapwing_proto::packet::{Ack, Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode};

const V311: ProtocolVersion = ProtocolVersion::V311;
/// Bytes of each message, so that a few hundred fill what there is.
const SIZE: usize = 100_000;

/// A client whose session is kept.
fn lasting(client_id: &str) -> Connect<'_> {
    Connect { clean_start: false, ..Connect::new(V311, client_id) }
}

fn payload(number: usize) -> Vec<u8> {
    let mut payload = number.to_string().into_bytes();
    // Nothing that a file system could make smaller.
    let mut seed = number as u64 + 1;
    payload.push(b' ');
    payload.resize_with(SIZE, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    });
    payload
}

fn number(payload: &[u8]) -> usize {
    let text = payload.split(|&byte| byte == b' ').next().expect("a number");
    std::str::from_utf8(text).expect("text").parse().expect("a number")
}

/// Publishes at QoS 1, a message after the other, until the broker ends the connection. How many it acknowledged.
fn publish_until_the_end(broker: &Broker) -> usize {
    let mut subscriber = Peer::connect_with(broker, &lasting("s"));
    subscriber.subscribe(&["t"], QoS::AtLeastOnce);
    drop(subscriber);
    let mut publisher = Peer::connect(broker, V311, "p");
    for index in 0..10_000 {
        let payload = payload(index);
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            packet_id: Some(packet_id(1)),
            ..Publish::new(name("t"), &payload)
        };
        if publisher.try_send(&Packet::Publish(publish)).is_err() {
            return index;
        }
        match publisher.receive() {
            Some(received) => assert!(matches!(received.packet(), Packet::PubAck(_))),
            None => return index,
        }
    }
    panic!("the disk is never full");
}

/// The first messages that wait for the subscriber in `data`, by their numbers.
fn messages(data: &Path, count: usize) -> Vec<usize> {
    let broker = Broker::start(&["--data", &data.display().to_string()]);
    let mut subscriber = Peer::connect_with(&broker, &lasting("s"));
    let mut next = || {
        let received = subscriber.receive().expect("the connection holds");
        let Packet::Publish(publish) = received.packet() else { panic!("{:?}", received.packet()) };
        let ack = Ack::new(publish.packet_id.expect("an identifier"), ReasonCode::Success);
        subscriber.send(&Packet::PubAck(ack));
        number(publish.payload)
    };
    (0..count).map(|_| next()).collect()
}

/// Runs the program until the disk is full, in the surroundings that `script` makes: it gets the program as `$0` and the
/// folder as `$1`. All that was acknowledged must be in `$1/lapwing` then.
fn fill(script: &str, shell: &[&str], folder: &Path) {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script]);
    command.arg(lapwing().get_program()).arg(folder);
    let mut broker = Broker::spawn(command);
    let acknowledged = publish_until_the_end(&broker);
    assert!(acknowledged > 10, "{acknowledged}");
    let (status, _) = broker.wait_for_exit(SOON);
    assert!(!status.success(), "{status}");
    let lines = broker.lines();
    assert!(lines.iter().any(|line| line.contains("writing")), "{lines:#?}");
    let kept = messages(&folder.join("lapwing"), acknowledged);
    assert_eq!(kept, (0..acknowledged).collect::<Vec<_>>());
}

const SERVE: &str =
    "serve --listen tcp://127.0.0.1:0 --set store.free_bytes_minimum=0 --set store.memory_bytes=8388608";

#[test]
fn a_disk_without_room_for_a_store_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    // Files may have 16 MiB (in units of 512 bytes), and writing more is an error instead of a signal.
    let script = format!("trap '' XFSZ; ulimit -f 32768; exec \"$0\" {SERVE} --data \"$1/lapwing\"");
    let output =
        Command::new("sh").args(["-c", &script]).arg(lapwing().get_program()).arg(folder.path()).output();
    let text = failure(&output.unwrap(), 1);
    assert!(text.contains("cannot be used") && text.contains("File too large"), "{text}");
    assert!(!folder.path().join("lapwing/store").exists());
    // With room it is as if nothing had been.
    Broker::start(&["--data", &folder.path().join("lapwing").display().to_string()]);
}

/// A file system that is really full, where the system lets us have one of our own.
// [attack: full-disk]
#[test]
fn a_full_file_system_ends_the_broker_and_loses_nothing() {
    let is_possible =
        Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    if !is_possible {
        eprintln!("not shown: this system does not let us mount a file system of our own");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir \"$1/small\" && mount -t tmpfs -o size=96m tmpfs \"$1/small\" || exit 9
        \"$0\" {SERVE} --data \"$1/small/lapwing\"; code=$?
        cp -r \"$1/small/lapwing\" \"$1/lapwing\"; exit $code"
    );
    fill(&script, &["unshare", "-rm", "sh"], folder.path());
}
