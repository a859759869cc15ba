//! Reading the configuration and its files anew, and what the program says to whoever runs it.

mod broker;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use std::io::Write;

use broker::peer::Peer;
use broker::service::{Reply, Service};
use broker::{Broker, SOON, failure, lapwing, run};
use lapwing_proto::packet::{Connect, Packet, ProtocolVersion, QoS, ReasonCode};
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
        // Something that needs a restart, beside what does not.
        let explain = if receive_maximum == 1024 { 8_388_608 } else { 1_000_000 };
        self.write(
            "lapwing.toml",
            &format!(
                "[authentication.password]\nfile = {users:?}\n[permissions]\nfile = {rules:?}\n\
                 [log]\nlevel = {level:?}\n[limits]\nreceive_maximum = {receive_maximum}\n\
                 [explain]\nmemory_bytes = {explain}\n"
            ),
        );
    }

    fn broker(&self) -> Broker {
        let (config, data) = (self.text("lapwing.toml"), self.text("data"));
        Broker::start(&["--config", &config, "--data", &data, "--set", "admin.listen=127.0.0.1:0"])
    }

    /// One that listens where the configuration says.
    fn broker_with_listeners(&self) -> Broker {
        let mut command = lapwing();
        command.args(["serve", "--config", &self.text("lapwing.toml"), "--data", &self.text("data")]);
        command.args(["--set", "admin.listen=127.0.0.1:0"]);
        Broker::spawn(command)
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
        "limits.receive_maximum: 1024 → 100\n",
        "needs a restart: explain.memory_bytes: 8388608 → 1000000\n",
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
    let Packet::Publish(publish) = received.packet() else { panic!("no message") };
    assert_eq!(publish.payload, b"yes");
    // What needs a restart is said until then.
    let json: Value = serde_json::from_str(&printed(&files.reload(&broker, &["--json"]))).expect("JSON");
    assert_eq!(json["changed"], Value::Array(Vec::new()));
    assert_eq!(json["needs_restart"][0], "explain.memory_bytes: 8388608 → 1000000");
}

// [attack: faulty-rules]
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

/// The methods, the service, the file of rules and the sizes: nothing of who is let in needs a restart.
#[test]
fn who_is_let_in_and_what_they_may_do_is_said_anew_without_a_restart() {
    let files = Files::new();
    let service = Service::start(|question| {
        let result = if question["password"] == "hunter2" { "allow" } else { "deny" };
        Reply::Json(serde_json::json!({ "result": result }))
    });
    let present = |broker: &Broker, user: Option<(&str, &str)>| {
        let mut connect = Connect::new(V5, user.map_or("nobody", |(user, _)| user));
        connect.user_name = user.map(|(user, _)| user);
        connect.password = user.map(|(_, password)| password.as_bytes());
        let mut peer = Peer::raw(broker);
        let reason_code = peer.present(&connect);
        (peer, reason_code)
    };
    let (ok, wrong) = (Some(ReasonCode::Success), Some(ReasonCode::BadUserNameOrPassword));
    // Nobody has to show anything: there are no threads for it.
    let lan = "[listeners.lan]\nbind = \"tcp://127.0.0.1:0\"\n";
    files.write("lapwing.toml", lan);
    let broker = files.broker_with_listeners();
    let (mut nobody, reason_code) = present(&broker, None);
    assert_eq!(reason_code, ok);
    nobody.ping();
    let (mut claimant, reason_code) = present(&broker, Some(("anna", "whatever")));
    assert_eq!(reason_code, ok);

    // Users, and nobody else.
    let (users, rules) = (files.text("users.toml"), files.text("acl.toml"));
    let by_password = format!(
        "[authentication]\nanonymous = \"none\"\n[authentication.password]\nfile = {users:?}\n[permissions]\nfile = {rules:?}\n"
    );
    files.write("lapwing.toml", &format!("{lan}{by_password}"));
    let text = printed(&files.reload(&broker, &[]));
    for expected in [
        "authentication.anonymous: \"loopback\" → \"none\"\n",
        "authentication.password.file: none → ",
        "permissions.file: none → ",
        "2 clients looked at, 2 disconnected",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!text.contains("restart"), "{text}");
    broker.wait_for_line("clients that do not show who they are, are refused");
    assert_eq!(nobody.wait_for_disconnect(), Some(ReasonCode::NotAuthorized));
    assert_eq!(claimant.wait_for_disconnect(), Some(ReasonCode::NotAuthorized), "it has proved nothing");
    assert_eq!(present(&broker, None).1, Some(ReasonCode::NotAuthorized));
    assert_eq!(present(&broker, Some(("anna", "whatever"))).1, wrong);
    let (mut anna, reason_code) = present(&broker, Some(("anna", "word")));
    assert_eq!(reason_code, ok);
    assert_eq!(
        anna.subscribe(&["open/#", "other"], QoS::AtMostOnce),
        [ReasonCode::Success, ReasonCode::NotAuthorized]
    );

    // The listener has a service instead, and other sizes.
    let url = service.url();
    let by_service = format!(
        "{lan}authentication = [\"http\"]\n{by_password}[authentication.http]\nurl = {url:?}\nconnections = 2\n"
    );
    files.write("lapwing.toml", &by_service.replace("anonymous", "threads = 3\nanonymous"));
    let text = printed(&files.reload(&broker, &[]));
    for expected in [
        "listeners.lan.authentication: none → [\"http\"]\n",
        "authentication.threads: 0 → 3\n",
        "1 disconnected",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!text.contains("restart"), "{text}");
    assert_eq!(anna.wait_for_disconnect(), Some(ReasonCode::NotAuthorized));
    assert_eq!(present(&broker, Some(("anna", "word"))).1, wrong);
    let (mut carl, reason_code) = present(&broker, Some(("carl", "hunter2")));
    assert_eq!(reason_code, ok);

    // With something wrong, also far behind, everything stays.
    files.write("lapwing.toml", &format!("{lan}{by_password}report_only = \"/nothing/there.toml\"\n"));
    let error = failure(&files.reload(&broker, &[]), 1);
    assert!(error.contains("/nothing/there.toml"), "{error}");
    assert_eq!(present(&broker, Some(("anna", "word"))).1, wrong);
    carl.ping();

    // A listener that is in the file no more is there until a restart, with its methods.
    files.write("lapwing.toml", &by_service.replace(lan, "[listeners.wan]\nbind = \"tcp://127.0.0.1:0\"\n"));
    let text = printed(&files.reload(&broker, &[]));
    for expected in
        ["needs a restart: listeners.lan.bind: ", "needs a restart: listeners.wan.authentication: "]
    {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert_eq!(present(&broker, Some(("anna", "word"))).1, wrong);
    carl.ping();
}

/// What a service says of a client came too late, if another configuration holds by then.
#[test]
fn who_is_waiting_when_the_configuration_changes_has_to_come_again() {
    let files = Files::new();
    let is_changed = Arc::new((Mutex::new(false), Condvar::new()));
    let seen = Arc::clone(&is_changed);
    let service = Service::start(move |_| {
        let changed = seen.0.lock().expect("nobody panics");
        drop(seen.1.wait_timeout_while(changed, SOON, |is_changed| !*is_changed));
        Reply::Json(serde_json::json!({ "result": "allow" }))
    });
    let lan = "[listeners.lan]\nbind = \"tcp://127.0.0.1:0\"\n";
    let url = format!("[authentication.http]\nurl = {:?}\ntimeout_ms = 9000\n", service.url());
    files.write("lapwing.toml", &format!("{lan}{url}"));
    let broker = files.broker_with_listeners();
    let mut connect = Connect::new(V5, "a");
    (connect.user_name, connect.password) = (Some("anna"), Some(b"word".as_slice()));
    let mut peer = Peer::raw(&broker);
    peer.send(&Packet::Connect(connect));
    service.next();
    files.write("lapwing.toml", lan);
    printed(&files.reload(&broker, &[]));
    *is_changed.0.lock().expect("nobody panics") = true;
    is_changed.1.notify_all();
    match peer.receive().expect("an answer").packet() {
        Packet::ConnAck(connack) => assert_eq!(connack.reason_code, ReasonCode::ServerUnavailable),
        packet => panic!("{packet:?}"),
    }
    assert_eq!(user(&broker, "a", "anna").1, Some(ReasonCode::Success), "nothing is asked for any more");
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
