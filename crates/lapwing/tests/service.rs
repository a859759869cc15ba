//! A service over HTTP that says who a client is and what it may do, with the real program.

mod broker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use broker::peer::Peer;
use broker::service::{Reply, Service};
use broker::{Broker, SOON, lapwing};
use lapwing_proto::packet::{Connect, Packet, ProtocolVersion, QoS, ReasonCode};
use serde_json::{Value, json};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;
const OK: Option<ReasonCode> = Some(ReasonCode::Success);
const WRONG: Option<ReasonCode> = Some(ReasonCode::BadUserNameOrPassword);
const UNAVAILABLE: Option<ReasonCode> = Some(ReasonCode::ServerUnavailable);

/// A broker that asks a service, with further settings.
fn broker(service: &Service, settings: &[&str]) -> Broker {
    let url = format!("authentication.http.url={}", service.url());
    let all = [&[&*url, "authentication.delay_maximum_ms=0"], settings].concat();
    Broker::with_settings(&all)
}

fn connect<'a>(client_id: &'a str, user: Option<&'a str>, password: Option<&'a str>) -> Connect<'a> {
    let mut connect = Connect::new(V5, client_id);
    (connect.user_name, connect.password) = (user, password.map(str::as_bytes));
    connect
}

fn present(broker: &Broker, connect: &Connect<'_>) -> (Peer, Option<ReasonCode>) {
    let mut peer = Peer::raw(broker);
    let reason_code = peer.present(connect);
    (peer, reason_code)
}

/// A folder with a file of one user, `anna`, and one of rules.
struct Files(tempfile::TempDir);

impl Files {
    fn new(rules: &str) -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(files.path("password"), "word").expect("it can be written");
        std::fs::write(files.path("acl.toml"), rules).expect("it can be written");
        let (users, password) = (files.path("users.toml"), files.path("password"));
        let mut command = lapwing();
        command.args(["passwd", "add"]).arg(users).arg("anna").arg("--password-file").arg(password);
        let output = command.args(["--memory-kib", "64", "--passes", "1"]).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn users(&self) -> String {
        format!("authentication.password.file={}", self.path("users.toml").display())
    }

    fn rules(&self) -> String {
        format!("permissions.file={}", self.path("acl.toml").display())
    }
}

fn decide(question: &Value) -> Reply {
    Reply::Json(match question["password"].as_str() {
        Some("hunter2") => {
            json!({ "result": "allow", "groups": ["doors"], "attributes": { "site": "north" } })
        }
        Some("own rules") => {
            json!({ "result": "allow", "user": "bert", "permissions": { "publish": ["own/%u"] } })
        }
        Some("one second") => json!({ "result": "allow", "valid_for_s": 1 }),
        _ => json!({ "result": "deny" }),
    })
}

#[test]
fn it_says_who_is_let_in_and_what_they_may_do() {
    let files = Files::new(
        "[[rule]]\nallow = 'publish'\ntopics = 'door/%{site}/%u'\ngroup = 'doors'\n\
         [[rule]]\nallow = 'subscribe'\ntopics = 'own/#'\n",
    );
    let service = Service::start(decide);
    let secret = files.path("secret");
    std::fs::write(&secret, "Bearer swordfish\n").expect("it can be written");
    let header = format!("authentication.http.header_files.Authorization={}", secret.display());
    // The finest level: nothing of what is sent may be in it.
    let broker = broker(&service, &["log.level=trace", &files.rules(), &header]);
    broker.wait_for_line("clients are let in whom the service at http://127.0.0.1:");

    let (mut door, reason_code) = present(&broker, &connect("door", Some("carl"), Some("hunter2")));
    assert_eq!(reason_code, OK);
    assert_eq!(door.publish_acknowledged("door/north/carl"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(door.publish_acknowledged("door/south/carl"), ReasonCode::NotAuthorized);
    let question = service.next();
    assert!(question.head.contains("authorization: bearer swordfish\r\n"), "{}", question.head);
    let listener = broker.address().to_string();
    let body = &question.body;
    assert_eq!((&body["client_id"], &body["user"]), (&json!("door"), &json!("carl")));
    assert_eq!((&body["address"], &body["version"]), (&json!("127.0.0.1"), &json!("5.0")));
    assert_eq!(body["listener"], "tcp://127.0.0.1:0", "it listens on {listener}");

    // Who has permissions of its own has no others, whatever the user name that it came with.
    let (mut bert, reason_code) = present(&broker, &connect("own", Some("whoever"), Some("own rules")));
    assert_eq!(reason_code, OK);
    assert_eq!(bert.publish_acknowledged("own/bert"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(bert.publish_acknowledged("own/whoever"), ReasonCode::NotAuthorized);
    assert_eq!(bert.subscribe(&["own/#"], QoS::AtMostOnce), [ReasonCode::NotAuthorized]);

    let (_, reason_code) = present(&broker, &connect("door", Some("carl"), Some("guess")));
    assert_eq!(reason_code, WRONG);
    let mut old = connect("door", Some("carl"), Some("guess again"));
    old.version = V311;
    assert_eq!(present(&broker, &old).1, WRONG);
    for line in broker.lines() {
        for secret in ["hunter2", "own rules", "guess", "swordfish"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

/// CVE-2026-32696: what a client leaves out, or calls itself, breaks nothing.
#[test]
fn a_client_without_a_user_name_and_ones_with_odd_names_are_clients_like_others() {
    let service = Service::start(|question| {
        Reply::Json(match question["user"].as_str() {
            Some(_) => json!({ "result": "allow" }),
            None => json!({ "result": "allow", "user": "nobody in particular" }),
        })
    });
    let broker = broker(&service, &["authentication.http.cache_s=0"]);
    for (client_id, user, password) in [
        ("a", None, Some("x")),
        ("a", Some("carl"), None),
        ("a", Some(""), Some("x")),
        ("+", Some("#"), Some("x")),
        ("a/b#", Some("a\"b"), Some("'); --")),
        ("a\u{7f}b", Some("${client_id}"), Some("%u%c\r\nX: y")),
    ] {
        let expected = if user == Some("") { UNAVAILABLE } else { OK };
        let (_, reason_code) = present(&broker, &connect(client_id, user, password));
        assert_eq!(reason_code, expected, "{client_id:?} {user:?} {password:?}");
        let body = service.next().body;
        assert_eq!(
            (&body["client_id"], &body["user"], &body["password"]),
            (&json!(client_id), &json!(user), &json!(password))
        );
    }
    // Who presents nothing at all is nobody to ask about.
    assert_eq!(present(&broker, &connect("a", None, None)).1, OK);
    assert!(service.is_quiet());
}

#[test]
fn whom_it_does_not_know_another_method_may_know() {
    let files = Files::new("");
    let service = Service::start(|question| match question["user"].as_str() {
        Some("anna") => Reply::Json(json!({ "result": "ignore" })),
        Some("broken") => Reply::Raw("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
        _ => Reply::Json(json!({ "result": "deny" })),
    });
    let config = files.path("lapwing.toml");
    let lan = "[listeners.lan]\nbind = \"tcp://127.0.0.1:0\"\nauthentication = [\"http\", \"password\"]\n";
    std::fs::write(&config, lan).expect("it can be written");
    let url = format!("authentication.http.url={}", service.url());
    let mut command = lapwing();
    command.args(["serve", "--config"]).arg(config);
    for setting in ["admin.listen=", &url, &files.users()] {
        command.args(["--set", setting]);
    }
    let broker = Broker::spawn(command);
    assert_eq!(present(&broker, &connect("a", Some("anna"), Some("word"))).1, OK);
    assert_eq!(service.next().body["listener"], "lan");
    assert_eq!(present(&broker, &connect("a", Some("anna"), Some("sword"))).1, WRONG);
    assert_eq!(present(&broker, &connect("a", Some("bert"), Some("word"))).1, WRONG);
    // Nobody is let in by one method since another one cannot be asked.
    assert_eq!(present(&broker, &connect("a", Some("broken"), Some("word"))).1, UNAVAILABLE);
    broker.wait_for_line("answers with the status 500");
}

/// A storm of clients that come again costs the service one question for each.
#[test]
fn an_answer_is_remembered_for_who_comes_again_in_the_same_way() {
    let service = Service::start(decide);
    let broker = broker(&service, &[]);
    for _ in 0..50 {
        assert_eq!(present(&broker, &connect("a", Some("carl"), Some("hunter2"))).1, OK);
        assert_eq!(present(&broker, &connect("a", Some("carl"), Some("guess"))).1, WRONG);
    }
    assert_eq!(present(&broker, &connect("another", Some("carl"), Some("hunter2"))).1, OK);
    let asked: Vec<_> = (0..3).map(|_| service.next().body["client_id"].clone()).collect();
    assert_eq!(asked, ["a", "a", "another"]);
    assert!(service.is_quiet());
}

#[test]
fn a_connection_ends_when_the_answer_holds_no_longer() {
    let service = Service::start(decide);
    let broker = broker(&service, &[]);
    let (mut peer, reason_code) = present(&broker, &connect("a", Some("carl"), Some("one second")));
    assert_eq!(reason_code, OK);
    assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::MaximumConnectTime));
    // What was remembered of it is over as well: the service is asked again.
    assert_eq!(present(&broker, &connect("a", Some("carl"), Some("one second"))).1, OK);
    service.next();
    service.next();
}

/// Those whom others know are let in meanwhile, and those for whom there is no room are told at once.
#[test]
fn a_service_that_hangs_holds_up_those_alone_who_wait_for_it() {
    let files = Files::new("");
    let service = Service::start(|_| Reply::Hang);
    let settings = [
        "authentication.http.connections=2",
        "authentication.http.timeout_ms=1500",
        "authentication.queue_maximum=4",
        &files.users(),
    ];
    let broker = broker(&service, &settings);
    let canary = broker::canary::Canary::start(&broker);
    let mut waiting = Vec::new();
    let mut ask = |n: usize| {
        let mut peer = Peer::raw(&broker);
        peer.send(&Packet::Connect(connect(&format!("c{n}"), Some("carl"), Some("hunter2"))));
        waiting.push(peer);
    };
    (0..2).for_each(&mut ask);
    service.next();
    service.next();
    (2..20).for_each(&mut ask);
    let start = Instant::now();
    // The others are looked for in the file of users first, which takes a moment.
    while present(&broker, &connect("a", Some("anna"), Some("word"))).1 != OK {
        assert!(start.elapsed() < SOON);
    }
    assert!(
        start.elapsed() < Duration::from_millis(1400),
        "before anybody was given up: {:?}",
        start.elapsed()
    );
    let (mut busy, mut unavailable) = (0, 0);
    for peer in &mut waiting {
        match peer.receive().expect("an answer").packet() {
            Packet::ConnAck(connack) if connack.reason_code == ReasonCode::ServerBusy => busy += 1,
            Packet::ConnAck(connack) if Some(connack.reason_code) == UNAVAILABLE => unavailable += 1,
            packet => panic!("{packet:?}"),
        }
    }
    assert!(busy >= 5 && unavailable >= 6, "{busy} busy, {unavailable} unavailable");
    assert!(canary.worst_round_trip() < Duration::from_secs(1));
    broker.wait_for_line("does not answer in time");
}

/// After some faults in a row clients are refused at once, and let in again when the service is there again.
#[test]
fn a_service_that_comes_back_is_asked_again() {
    let is_there = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&is_there);
    let service = Service::start(move |question| match seen.load(std::sync::atomic::Ordering::SeqCst) {
        true => decide(question),
        false => Reply::Raw("no HTTP\r\n\r\n"),
    });
    let broker = broker(&service, &[]);
    for n in 0..8 {
        let (_, reason_code) = present(&broker, &connect(&format!("c{n}"), Some("carl"), Some("hunter2")));
        assert_eq!(reason_code, UNAVAILABLE);
    }
    broker.wait_for_line("for 1 s it is not asked, and clients are refused");
    (0..5).for_each(|_| drop(service.next()));
    assert!(service.is_quiet(), "the last ones were not asked about");
    is_there.store(true, std::sync::atomic::Ordering::SeqCst);
    let start = Instant::now();
    while present(&broker, &connect("a", Some("carl"), Some("hunter2"))).1 != OK {
        assert!(start.elapsed() < SOON);
    }
    broker.wait_for_line("answers again");
}
