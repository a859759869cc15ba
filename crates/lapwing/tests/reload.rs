//! Reading the configuration and its files anew, and what the program says to whoever runs it.

mod broker;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use std::io::Write;

use broker::peer::Peer;
use broker::{Broker, SOON, failure, lapwing, run};
use lapwing_proto::packet::{Connect, ProtocolVersion, QoS, ReasonCode};
use serde_json::Value;

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A folder with a configuration and the files that it names.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        files.user("add", "anna");
        files.user("add", "bert");
        files.rules("[[rule]]\nallow = \"pubsub\"\ntopics = [\"open/#\", \"secret/#\"]\n");
        files.configuration("info", 1024);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("it can be written");
    }

    fn user(&self, act: &str, user: &str) {
        let file = self.text("users.toml");
        let mut arguments = vec!["passwd", act, &file, user];
        if act == "add" {
            arguments.extend(["--stdin", "--memory-kib", "64", "--passes", "1"]);
        }
        let mut child = lapwing().args(&arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        // One that reads nothing may have ended before.
        let _ = child.stdin.take().expect("it is a pipe").write_all(b"word");
        assert!(child.wait().expect("it ends").success());
    }

    fn rules(&self, text: &str) {
        self.write("acl.toml", text);
    }

    fn configuration(&self, level: &str, receive_maximum: u32) {
        let (users, rules) = (self.text("users.toml"), self.text("acl.toml"));
        self.write(
            "lapwing.toml",
            &format!(
                "[authentication.password]\nfile = {users:?}\n[permissions]\nfile = {rules:?}\n\
                 [log]\nlevel = {level:?}\n[limits]\nreceive_maximum = {receive_maximum}\n"
            ),
        );
    }

    fn broker(&self) -> Broker {
        let (config, data) = (self.text("lapwing.toml"), self.text("data"));
        Broker::start(&["--config", &config, "--data", &data, "--set", "admin.listen=127.0.0.1:0"])
    }

    /// `lapwing reload`, from the outside.
    fn reload(&self, broker: &Broker, more: &[&str]) -> Output {
        let line = broker.wait_for_line("admin channel on http://");
        let (_, rest) = line.split_once("http://").expect("an address");
        let address = rest.split(';').next().expect("an address");
        let data = self.text("data");
        run(&[&["reload", "--admin", address, "--data", &data], more].concat())
    }
}

fn user(broker: &Broker, client_id: &str, user: &str) -> (Peer, Option<ReasonCode>) {
    let mut connect = Connect::new(V5, client_id);
    (connect.user_name, connect.password) = (Some(user), Some(b"word".as_slice()));
    let mut peer = Peer::raw(broker);
    let reason_code = peer.present(&connect);
    (peer, reason_code)
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_different_holds_from_now_on_and_what_needs_a_restart_is_said() {
    let files = Files::new();
    let broker = files.broker();
    let (mut anna, _) = user(&broker, "a", "anna");
    let (mut bert, _) = user(&broker, "b", "bert");
    anna.subscribe(&["secret/a", "open/a"], QoS::AtMostOnce);
    assert!(printed(&files.reload(&broker, &[])).starts_with("nothing is different\n2 clients looked at"));
    files.user("remove", "bert");
    files.user("add", "carl");
    files.rules("[[rule]]\nallow = \"pubsub\"\ntopics = \"open/#\"\n");
    files.configuration("debug", 100);
    let text = printed(&files.reload(&broker, &[]));
    for expected in [
        "log.level: \"info\" → \"debug\"\n",
        "+ user \"carl\"\n",
        "- user \"bert\"\n",
        "needs a restart: limits.receive_maximum: 1024 → 100\n",
        "2 clients looked at, 1 disconnected, 1 subscriptions removed\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert_eq!(bert.wait_for_disconnect(), Some(ReasonCode::NotAuthorized));
    assert_eq!(user(&broker, "b", "bert").1, Some(ReasonCode::BadUserNameOrPassword));
    let (mut carl, reason_code) = user(&broker, "c", "carl");
    assert_eq!(reason_code, Some(ReasonCode::Success));
    carl.publish("secret/a", b"no");
    carl.publish("open/a", b"yes");
    let received = anna.receive().expect("a message");
    let lapwing_proto::packet::Packet::Publish(publish) = received.packet() else { panic!("no message") };
    assert_eq!(publish.payload, b"yes");
    // What needs a restart is said until then.
    let json: Value = serde_json::from_str(&printed(&files.reload(&broker, &["--json"]))).expect("JSON");
    assert_eq!(json["changed"], Value::Array(Vec::new()));
    assert_eq!(json["needs_restart"][0], "limits.receive_maximum: 1024 → 100");
}

#[test]
fn with_one_thing_wrong_nothing_changes() {
    let files = Files::new();
    let broker = files.broker();
    let (mut anna, _) = user(&broker, "a", "anna");
    files.user("add", "carl");
    for (name, text, expected) in [
        ("acl.toml", "[[rule]]\nallow = \"pubsub\"\ntopic = \"open/#\"\n", "acl.toml"),
        ("lapwing.toml", "[limits]\nreceive_maximun = 1\n", "receive_maximum"),
        ("lapwing.toml", "[limits]\nreceive_maximum = 0\n", "limits.receive_maximum"),
    ] {
        let before = std::fs::read_to_string(files.path(name)).expect("it is there");
        files.write(name, text);
        let error = failure(&files.reload(&broker, &[]), 1);
        assert!(error.contains(expected), "{error}");
        broker.wait_for_line("not reloaded, and nothing has changed");
        assert_eq!(user(&broker, "c", "carl").1, Some(ReasonCode::BadUserNameOrPassword), "{name}");
        files.write(name, &before);
    }
    anna.subscribe(&["secret/a"], QoS::AtMostOnce);
    printed(&files.reload(&broker, &[]));
    assert_eq!(user(&broker, "c", "carl").1, Some(ReasonCode::Success));
    anna.ping();
}

#[test]
fn files_that_are_watched_are_read_anew_by_themselves_and_what_is_wrong_is_said_once() {
    let files = Files::new();
    let (config, data) = (files.text("lapwing.toml"), files.text("data"));
    let more = ["--set", "reload.watch=true", "--set", "admin.listen="];
    let broker = Broker::start(&[&["--config", &*config, "--data", &*data], &more[..]].concat());
    files.user("add", "carl");
    broker.wait_for_line("reloaded: + user \"carl\"");
    assert_eq!(user(&broker, "c", "carl").1, Some(ReasonCode::Success));
    files.rules("[[rule]]\nallow = \"everything\"\n");
    broker.wait_for_line("not reloaded, and nothing has changed");
    files.configuration("debug", 1024);
    files.rules("[[rule]]\nallow = \"pubsub\"\ntopics = \"open/#\"\n");
    broker.wait_for_line("reloaded: log.level: \"info\" → \"debug\"");
    let faults = broker.lines().iter().filter(|line| line.contains("not reloaded")).count();
    assert_eq!(faults, 1);
}

#[test]
fn sighup_reloads_and_says_so_in_the_log() {
    let files = Files::new();
    let broker = files.broker();
    files.user("add", "carl");
    broker.signal("HUP");
    broker.wait_for_line("reloaded: + user \"carl\"");
    assert_eq!(user(&broker, "c", "carl").1, Some(ReasonCode::Success));
}

#[test]
fn the_log_can_be_json() {
    let mut broker = Broker::with_settings(&["log.format=json"]);
    Peer::connect(&broker, V5, "steers \u{1b}[2J \"quoted\"").publish("t", b"x");
    broker.signal("TERM");
    broker.wait_for_exit(SOON);
    let lines = broker.lines();
    assert!(lines.len() > 3, "{lines:?}");
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let lines: Vec<Value> = lines.iter().map(parse).collect();
    let connected = lines.iter().find(|line| line["message"] == "client connected").expect("a line");
    assert_eq!((&connected["level"], &connected["version"]), (&Value::from("INFO"), &Value::from("5.0")));
    assert!(connected["client_id"].as_str().is_some_and(|id| id.contains("quoted")), "{connected}");
}

#[test]
fn a_service_manager_is_told_when_the_broker_is_ready_and_when_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut broker = managed(&path);
    assert_eq!(next(&manager), "READY=1");
    Peer::connect(&broker, V5, "a").ping();
    broker.signal("TERM");
    assert_eq!(next(&manager), "STOPPING=1");
    assert!(broker.wait_for_exit(SOON).0.success());
    // One that is not there holds nothing up.
    std::fs::remove_file(&path).expect("it was there");
    managed(&path).wait_for_line("NOTIFY_SOCKET");
}

fn managed(socket: &Path) -> Broker {
    let mut command = lapwing();
    command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--set", "admin.listen="]);
    command.env("NOTIFY_SOCKET", socket);
    Broker::spawn(command)
}

fn next(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 64];
    let count = manager.recv(&mut buffer).expect("it is told");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}
