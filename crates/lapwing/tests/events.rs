//! What happens, as it happens, through the admin channel.

mod broker;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::mpsc;

use broker::admin::Admin;
use broker::peer::Peer;
use broker::{SOON, lapwing};
use lapwing_proto::packet::{Connect, ProtocolVersion, QoS};
use serde_json::{Value, json};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A stream of events that is being read.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Returns when nothing is missed any more.
    fn open(admin: &Admin, query: &str) -> Self {
        let mut stream = TcpStream::connect_timeout(&admin.address, SOON).expect("it accepts");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let (address, token) = (admin.address, &admin.token);
        let request = format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut events = Self(BufReader::new(stream));
        let head = events.until(str::is_empty);
        assert!(head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
        events.until(|line| line.starts_with(": these are the events"));
        events
    }

    /// The lines up to one.
    fn until(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).expect("a line in time"), 0, "it has ended: {lines:?}");
            let line = line.trim_end().to_owned();
            lines.push(line.clone());
            if is_last(&line) {
                return lines;
            }
        }
    }

    /// The next event, without when and from where.
    fn next(&mut self) -> Value {
        let lines = self.until(|line| line.starts_with("data: "));
        let data = lines.last().and_then(|line| line.strip_prefix("data: ")).expect("data");
        let mut event: Value = serde_json::from_str(data).expect("JSON");
        assert!(
            lines.iter().any(|line| *line == format!("event: {}", event["kind"].as_str().expect("text")))
        );
        let object = event.as_object_mut().expect("an object");
        assert!(object.remove("at").is_some_and(|at| at.as_str().is_some_and(|at| at.ends_with('Z'))));
        object.remove("peer");
        event
    }
}

#[test]
fn what_clients_do_is_told_in_its_order() {
    let admin = Admin::start(&["limits.queue_messages_maximum=1"]);
    let mut events = Events::open(&admin, "");
    let mut connect = Connect::new(V5, "a");
    connect.properties.session_expiry_interval = Some(100);
    let mut peer = Peer::connect_with(&admin.broker, &connect);
    assert_eq!(events.next(), json!({ "kind": "session_started", "client_id": "a" }));
    assert_eq!(events.next(), json!({ "kind": "connected", "client_id": "a" }));
    peer.subscribe(&["t"], QoS::AtLeastOnce);
    assert_eq!(events.next(), json!({ "kind": "subscribed", "client_id": "a", "filter": "t", "qos": 1 }));
    assert_eq!(admin.request("DELETE", "/api/v1/clients/a", "").status, 204);
    let reason = "administrative action (0x98)";
    assert_eq!(
        events.next(),
        json!({ "kind": "disconnected", "client_id": "a", "reason_code": 0x98, "reason": reason })
    );
    for _ in 0..2 {
        admin.publish(&json!({ "topic": "t", "qos": 1 }));
    }
    assert_eq!(events.next(), json!({ "kind": "queue_full", "client_id": "a", "count": 1 }));
    assert_eq!(admin.request("DELETE", "/api/v1/sessions/a", "").status, 204);
    assert_eq!(events.next(), json!({ "kind": "session_ended", "client_id": "a" }));
}

#[test]
fn bans_refusals_and_reloads_are_told() {
    let admin = Admin::start(&[]);
    let mut events = Events::open(&admin, "?kind=banned,unbanned,refused,reloaded");
    let ban = json!({ "kind": "client_id", "value": "a", "reason": "too loud" });
    assert_eq!(admin.request("POST", "/api/v1/bans", &ban.to_string()).status, 200);
    assert_eq!(events.next(), json!({ "kind": "banned", "target": "client_id a", "reason": "too loud" }));
    Peer::raw(&admin.broker).present(&Connect::new(V5, "a"));
    assert_eq!(
        events.next(),
        json!({ "kind": "refused", "client_id": "a", "reason_code": 0x8a, "reason": "banned: too loud" })
    );
    assert_eq!(admin.request("DELETE", "/api/v1/bans/client_id/a", "").status, 204);
    assert_eq!(events.next(), json!({ "kind": "unbanned", "target": "client_id a" }));
    admin.broker.signal("HUP");
    assert_eq!(events.next(), json!({ "kind": "reloaded" }));
}

#[test]
fn a_stream_of_one_client_tells_nothing_of_others_and_ends_with_the_broker() {
    let mut admin = Admin::start(&[]);
    let mut events = Events::open(&admin, "?client_id=b&kind=connected");
    let _others = ["a", "b", "c"].map(|name| Peer::connect(&admin.broker, V5, name));
    assert_eq!(events.next(), json!({ "kind": "connected", "client_id": "b" }));
    for (query, code) in [("kind=gone", "kind_invalid"), ("kinds=connected", "request_invalid")] {
        assert_eq!(admin.request("GET", &format!("/api/v1/events?{query}"), "").problem(400), code);
    }
    admin.broker.signal("TERM");
    let mut rest = Vec::new();
    events.0.read_to_end(&mut rest).expect("an end");
    assert!(!String::from_utf8_lossy(&rest).contains("data:"));
    assert!(admin.broker.wait_for_exit(SOON).0.success());
}

#[test]
fn a_stream_ends_with_its_token() {
    let mut admin = Admin::start(&[]);
    let request = json!({ "name": "t", "role": "viewer" }).to_string();
    let made = admin.request("POST", "/api/v1/tokens", &request).json();
    let owner = std::mem::replace(&mut admin.token, made["token"].as_str().expect("a token").to_owned());
    let mut events = Events::open(&admin, "");
    admin.token = owner;
    assert_eq!(admin.request("DELETE", "/api/v1/tokens/t", "").status, 204);
    // The last chunk. The connection is there for the next request.
    events.until(|line| line == "0");
}

#[test]
fn there_are_so_many_streams_and_room_for_something_else() {
    let admin = Admin::start(&[]);
    let mut streams: Vec<Events> = (0..16).map(|_| Events::open(&admin, "")).collect();
    assert_eq!(admin.request("GET", "/api/v1/events", "").problem(503), "too_many_streams");
    admin.get("/api/v1/status");
    streams.pop();
    let is_free = || admin.request("GET", "/api/v1/events?kind=nothing", "").status == 400;
    assert!(is_free(), "a request that is none is refused as such");
}

#[test]
fn the_command_prints_a_line_for_each() {
    let admin = Admin::start(&[]);
    let data = admin.data.path().to_str().expect("a plain path");
    for (format, expected) in
        [("--json", "\"client_id\":\"steers \\u001b\""), ("--kind=connected", "connected       steers \\x1b")]
    {
        let mut command = lapwing();
        command.args(["events", "--client", "steers \x1b", format, "--data", data]);
        command.env("LAPWING_ADMIN", admin.address.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        // Until it listens, nobody is told.
        let mut line = None;
        broker::admin::eventually("it prints what happens", || {
            Peer::connect(&admin.broker, V5, "steers \x1b").ping();
            line = lines.try_recv().ok();
            line.is_some()
        });
        assert!(line.as_ref().is_some_and(|line| line.contains(expected)), "{line:?}");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
