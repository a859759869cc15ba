//! `lapwing explain` against the real program, as the guide shows it.

mod broker;

use std::process::Output;

use broker::peer::Peer;
use broker::{Broker, lapwing};
use lapwing_proto::packet::{
    Ack, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
};
use serde_json::Value;

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A broker whose admin channel is asked by the program.
struct Asked {
    broker: Broker,
    address: String,
    data: tempfile::TempDir,
}

impl Asked {
    fn start(settings: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().to_str().expect("a plain path").to_owned();
        let mut arguments = vec!["--data", &path, "--set", "admin.listen=127.0.0.1:0"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let broker = Broker::start(&arguments);
        let line = broker.wait_for_line("admin channel on http://");
        let (_, rest) = line.split_once("http://").expect("an address");
        let address = rest.split(';').next().expect("an address").trim().to_owned();
        Self { broker, address, data }
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = lapwing();
        command.arg("explain").args(arguments).arg("--data").arg(self.data.path());
        command.env("LAPWING_ADMIN", &self.address);
        command.output().expect("the program starts")
    }

    #[track_caller]
    fn printed(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.printed(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Publishes at QoS 1 and waits for the answer.
fn publish(peer: &mut Peer, topic: &str) -> ReasonCode {
    let mut publish = Publish::new(broker::peer::name(topic), b"top secret");
    (publish.qos, publish.packet_id) = (QoS::AtLeastOnce, Some(PacketId::FIRST));
    peer.send(&Packet::Publish(publish));
    match peer.receive().expect("an answer").packet() {
        Packet::PubAck(ack) => ack.reason_code,
        packet => panic!("{packet:?}"),
    }
}

#[test]
fn a_person_sees_what_happened_to_a_message() {
    let asked = Asked::start(&["sharding.count=2", "sharding.neighbours=0"]);
    let mut desk = Peer::connect(&asked.broker, V5, "desk");
    desk.subscribe(&["gate/#"], QoS::AtLeastOnce);
    let mut display = Connect::new(V5, "display");
    display.properties.session_expiry_interval = Some(600);
    let mut display = Peer::connect_with(&asked.broker, &display);
    display.subscribe(&["gate/+/state"], QoS::AtLeastOnce);
    display.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    display.wait_for_close();
    let mut door = Peer::connect(&asked.broker, V5, "door_1");
    assert_eq!(publish(&mut door, "gate/door_1/state"), ReasonCode::Success);
    let got = desk.receive().expect("the message");
    let Packet::Publish(message) = got.packet() else { panic!("{:?}", got.packet()) };
    desk.send(&Packet::PubAck(Ack::new(message.packet_id.expect("an identifier"), ReasonCode::Success)));
    desk.ping();

    let text = asked.printed(&["topic", "gate/door_1/state"]);
    for line in [
        "gate/door_1/state  message at QoS 1, from door_1",
        "├─ passed on to 2 subscribers",
        "desk (QoS 1): sent and acknowledged",
        "display (QoS 1): waits: the client was not connected; it is sent when the client comes back",
        "gate/door_1/state  gate/#  desk (QoS 1)",
        "gate/door_1/state  gate/+/state  display (QoS 1)",
        "everything since the start of the broker is remembered",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let text = asked.printed(&["client", "display", "--since", "10m"]);
    for line in [
        "display  connected from 127.0.0.1:",
        "and has a new session",
        "display  disconnected",
        "gate/door_1/state  message at QoS 1, from door_1",
        "└─ and 1 others",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert!(!text.contains("desk"), "{text}");
    let json = asked.json(&["topic", "gate/+/state"]);
    let message = &json["messages"][0];
    assert_eq!((&message["verdict"], &message["publisher"]), (&"passed_on".into(), &"door_1".into()));
    assert_eq!(message["deliveries"].as_array().expect("a list").len(), 2);
    assert!(!json.to_string().contains("secret"), "{json}");
    let nothing = asked.printed(&["topic", "gate/door_2/state", "--client", "desk"]);
    assert!(nothing.starts_with("nothing is remembered of gate/door_2/state\n"), "{nothing}");
}

#[test]
fn a_refusal_and_a_message_for_nobody_say_why() {
    let asked = Asked::start(&["limits.qos_maximum=1"]);
    let mut door = Peer::connect(&asked.broker, V5, "door\u{7f}1");
    assert_eq!(publish(&mut door, "gate/Door_1"), ReasonCode::NoMatchingSubscribers);
    let text = asked.printed(&["topic", "gate/Door_1"]);
    assert!(text.contains("nobody had subscribed to it; compare the topic and the filter"), "{text}");
    // What a client is called does not steer the terminal.
    assert!(text.contains("from door\\x7f1") && !text.contains('\u{7f}'), "{text}");
    assert!(text.contains("no subscription matches now"), "{text}");
    let mut eager = Connect::new(V5, "eager");
    let will = lapwing_proto::packet::Will {
        qos: QoS::ExactlyOnce,
        ..lapwing_proto::packet::Will::new(broker::peer::name("gone"), b"")
    };
    eager.will = Some(will);
    let refused = Peer::raw(&asked.broker).present(&eager);
    assert_eq!(refused, Some(ReasonCode::QoSNotSupported));
    let text = asked.printed(&["client", "eager"]);
    assert!(text.contains("eager  refused, coming from 127.0.0.1:"), "{text}");
    assert!(text.contains("the will has a QoS above the maximum"), "{text}");
}

#[test]
fn what_cannot_be_asked_is_said() {
    let asked = Asked::start(&["explain.memory_bytes=0"]);
    let off = asked.printed(&["client", "anybody"]);
    assert!(off.contains("explain.memory_bytes is 0"), "{off}");
    let wrong = asked.command(&["topic", "gate/#/state"]);
    assert!(!wrong.status.success());
    let error = String::from_utf8_lossy(&wrong.stderr);
    assert!(error.contains("`topic`"), "{error}");
}
