//! The configuration of another broker, brought along by the command line, and a broker that runs with it.

mod broker;

use std::process::Output;

use broker::peer::Peer;
use broker::{Broker, failure, lapwing};
use lapwing_proto::packet::{Connect, Packet, ProtocolVersion, QoS, ReasonCode};

const V311: ProtocolVersion = ProtocolVersion::V311;

/// `anna` with the password `word`, as `mosquitto_passwd` of Mosquitto 2 writes it.
const PASSWORDS: &str = "anna:$7$101$zafrLRD/Klpb4EUp$mAVqRqFhs3S18biM3a5Xl/CeLpJPJGP6oBH8xumAuRF45FPPfNJka+nskvdB4c1z\
    KPpSI3r1pkDcvKvNTv+Ozw==\n";

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_broker_runs_with_what_mosquitto_had() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("passwords"), PASSWORDS).unwrap();
    std::fs::write(path("acl"), "user anna\ntopic readwrite house/#\ntopic deny house/safe\n").unwrap();
    std::fs::create_dir(path("conf.d")).unwrap();
    std::fs::write(path("conf.d/limits.conf"), "max_queued_messages 10\nmount_point x/\n").unwrap();
    let text = format!(
        "# a comment\nlistener 0 {}\n\npassword_file {}\nacl_file {}\npersistence true\nuser mosquitto\ninclude_dir {}\n",
        path("mqtt.sock"),
        path("passwords"),
        path("acl"),
        path("conf.d"),
    );
    std::fs::write(path("mosquitto.conf"), text).unwrap();
    let import =
        || lapwing().args(["import", "mosquitto", &path("mosquitto.conf"), "--to", &path("new")]).output();
    let report = printed(&import().unwrap());
    for expected in
        ["mosquitto.conf:7: left out: user", "limits.conf:2: left out: mount_point", "1 users", "is made"]
    {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    let again = import().unwrap();
    assert!(failure(&again, 1).contains("is there already"), "{again:?}");
    let configuration = path("new/lapwing.toml");
    printed(&lapwing().args(["config", "check", &configuration]).output().unwrap());
    // On a port in place of the socket, where the peers of these tests can come.
    let broker = Broker::start(&["--config", &configuration, "--listen", "tcp://127.0.0.1:0"]);
    let mut connect = Connect::new(V311, "door");
    connect.user_name = Some("anna");
    connect.password = Some(b"wrong");
    assert_eq!(Peer::raw(&broker).present(&connect), Some(ReasonCode::BadUserNameOrPassword));
    connect.password = Some(b"word");
    let mut door = Peer::connect_with(&broker, &connect);
    door.subscribe(&["#"], QoS::AtMostOnce);
    for topic in ["house/safe", "else", "house/door"] {
        door.publish(topic, b"x");
    }
    let received = door.receive().unwrap();
    let Packet::Publish(publish) = received.packet() else { panic!("no PUBLISH") };
    assert_eq!(publish.topic.unwrap().as_str(), "house/door", "the rules of Mosquitto hold");
}

#[test]
fn without_a_folder_everything_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mosquitto.conf");
    std::fs::write(&path, "listener 1999 127.0.0.1\nallow_anonymous true\npid_file /run/m.pid\n").unwrap();
    let output = lapwing().args(["import", "mosquitto"]).arg(&path).output().unwrap();
    let text = printed(&output);
    assert!(
        text.contains("bind = \"tcp://127.0.0.1:1999\"") && text.contains("anonymous = \"all\""),
        "{text}"
    );
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(report.contains(":3: left out: pid_file") && report.contains("2 carried over"), "{report}");
    let missing = lapwing().args(["import", "mosquitto", "/none/mosquitto.conf"]).output().unwrap();
    assert!(failure(&missing, 1).contains("cannot read /none/mosquitto.conf"));
}
