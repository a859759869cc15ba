//! Users, rules and the commands about them, with the real program.

mod broker;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use broker::peer::{Peer, name};
use broker::{Broker, failure, lapwing, run};
use lapwing_proto::packet::{Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;
/// A hash that costs little, since many are made here.
const CHEAP: [&str; 4] = ["--memory-kib", "64", "--passes", "1"];

/// A folder with files of users and rules.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
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

    fn add_user(&self, user: &str, password: &str, more: &[&str]) {
        let file = self.text("users.toml");
        let cost = if more.contains(&"--memory-kib") { &[][..] } else { &CHEAP };
        let arguments = [&["passwd", "add", &file, user, "--stdin"], cost, more].concat();
        let output = with_input(&arguments, password);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A broker with these users and rules, where they are there.
    fn broker(&self, settings: &[&str]) -> Broker {
        let mut all: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        for (key, file) in [("authentication.password.file", "users.toml"), ("permissions.file", "acl.toml")]
        {
            if self.path(file).exists() {
                all.push(format!("{key}={}", self.text(file)));
            }
        }
        Broker::with_settings(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn with_input(arguments: &[&str], input: &str) -> Output {
    let mut command = lapwing();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // One that reads nothing may have ended before.
    let _ = child.stdin.take().expect("it is a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn connect<'a>(
    version: ProtocolVersion,
    client_id: &'a str,
    user: &'a str,
    password: &'a str,
) -> Connect<'a> {
    let mut connect = Connect::new(version, client_id);
    connect.user_name = Some(user);
    connect.password = Some(password.as_bytes());
    connect
}

fn present(broker: &Broker, connect: &Connect<'_>) -> (Peer, Option<ReasonCode>) {
    let mut peer = Peer::raw(broker);
    let reason_code = peer.present(connect);
    (peer, reason_code)
}

#[test]
fn a_user_is_let_in_with_its_password_and_nobody_else() {
    let files = Files::new();
    files.add_user("anna", "secret\n", &[]);
    files.add_user("bert", "pass word ü", &["--client-id", "bert-*"]);
    assert_eq!(std::fs::metadata(files.path("users.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    let broker = files.broker(&["authentication.delay_maximum_ms=0"]);
    broker.wait_for_line("2 users with passwords are let in");
    let (ok, wrong) = (Some(ReasonCode::Success), Some(ReasonCode::BadUserNameOrPassword));
    for version in [V5, V311] {
        for (client_id, user, password, expected) in [
            ("a", "anna", "secret", ok),
            ("a", "anna", "secret", ok),
            ("a", "anna", "Secret", wrong),
            ("a", "anna", "", wrong),
            ("a", "nobody", "secret", wrong),
            ("bert-1", "bert", "pass word ü", ok),
            ("a", "bert", "pass word ü", Some(ReasonCode::ClientIdentifierNotValid)),
        ] {
            let (_, reason_code) = present(&broker, &connect(version, client_id, user, password));
            assert_eq!(reason_code, expected, "{user} {password}");
        }
        // This machine may come without a name, but not with one that is not its own.
        let mut nameless = Connect::new(version, "b");
        assert_eq!(present(&broker, &nameless).1, ok);
        nameless.user_name = Some("anna");
        assert_eq!(present(&broker, &nameless).1, wrong);
    }
    assert!(!broker.lines().iter().any(|line| line.contains("ecret") && !line.contains("secrets")));
}

// [attack: session-hijack]
#[test]
fn a_session_is_its_users_own() {
    let files = Files::new();
    files.add_user("anna", "one", &[]);
    files.add_user("bert", "two", &[]);
    let broker = files.broker(&[]);
    let (mut anna, reason_code) = present(&broker, &connect(V5, "door", "anna", "one"));
    assert_eq!(reason_code, Some(ReasonCode::Success));
    let (_, reason_code) = present(&broker, &connect(V5, "door", "bert", "two"));
    assert_ne!(reason_code, Some(ReasonCode::Success));
    let (_, reason_code) = present(&broker, &Connect::new(V5, "door"));
    assert_ne!(reason_code, Some(ReasonCode::Success));
    anna.ping();
    let (_, reason_code) = present(&broker, &connect(V5, "door", "anna", "one"));
    assert_eq!(reason_code, Some(ReasonCode::Success));
    assert_eq!(anna.wait_for_disconnect(), Some(ReasonCode::SessionTakenOver));
}

// [attack: listener-without-rules]
#[test]
fn a_client_may_do_what_the_rules_allow() {
    let files = Files::new();
    files.add_user("anna", "secret", &["--group", "staff"]);
    files.write(
        "acl.toml",
        "[[rule]]\nallow = 'pubsub'\ntopics = 'home/%u/#'\n\n[[rule]]\nallow = 'publish'\ntopics = 'news'\ngroup = 'staff'\n",
    );
    let broker = files.broker(&[]);
    broker.wait_for_line("what clients may do is said by 2 rules");
    let (mut anna, _) = present(&broker, &connect(V5, "a", "anna", "secret"));
    assert_eq!(anna.publish_acknowledged("news"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(anna.publish_acknowledged("home/anna/door"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(anna.publish_acknowledged("home/bert/door"), ReasonCode::NotAuthorized);
    let granted =
        anna.subscribe(&["home/anna/#", "home/+/door", "#", "$share/g/home/anna/x"], QoS::AtMostOnce);
    let (ok, no) = (ReasonCode::Success, ReasonCode::NotAuthorized);
    assert_eq!(granted, [ok, no, no, ok]);
    let (mut nobody, _) = present(&broker, &Connect::new(V5, "anna"));
    assert_eq!(nobody.publish_acknowledged("news"), no);
    assert_eq!(nobody.subscribe(&["home/anna/#"], QoS::AtMostOnce), [no]);
}

/// Whoever is let in without proof has no name, whatever it says.
// [attack: unproved-name]
#[test]
fn a_name_that_nobody_proved_gives_no_rights() {
    let files = Files::new();
    files.write("acl.toml", "[[rule]]\nallow = 'pubsub'\ntopics = 'admin/#'\nuser = 'admin'\n");
    let broker = files.broker(&[]);
    let (mut admin, reason_code) = present(&broker, &connect(V5, "a", "admin", "x"));
    assert_eq!(reason_code, Some(ReasonCode::Success));
    assert_eq!(admin.publish_acknowledged("admin/x"), ReasonCode::NotAuthorized);
}

/// CVE-2018-12550: an empty file of rules is no open door, nor is one that is not there.
// [attack: empty-rules]
#[test]
fn no_rules_allow_nothing() {
    for is_there in [true, false] {
        let files = Files::new();
        if is_there {
            files.write("acl.toml", "");
        }
        let broker = Broker::with_settings(&[&format!("permissions.file={}", files.text("acl.toml"))]);
        broker.wait_for_line("nobody may publish or subscribe to anything");
        let (mut peer, _) = present(&broker, &Connect::new(V5, "a"));
        assert_eq!(peer.publish_acknowledged("a"), ReasonCode::NotAuthorized);
        assert_eq!(peer.subscribe(&["a"], QoS::AtMostOnce), [ReasonCode::NotAuthorized]);
    }
}

#[test]
fn rules_that_are_not_in_force_are_heard_of() {
    let files = Files::new();
    files.write("acl.toml", "[[rule]]\nallow = 'publish'\ntopics = 'a'\n");
    files.write("new.toml", "[[rule]]\nallow = 'publish'\ntopics = 'b'\n");
    let broker = files.broker(&[&format!("permissions.report_only={}", files.text("new.toml"))]);
    let (mut peer, _) = present(&broker, &Connect::new(V5, "c"));
    assert_eq!(peer.publish_acknowledged("a"), ReasonCode::NoMatchingSubscribers);
    broker.wait_for_line("would deny what those in force do not: no rule allows it");
    assert_eq!(peer.publish_acknowledged("b"), ReasonCode::NotAuthorized);
    broker.wait_for_line("would allow what those in force do not: new.toml line 2: allow publish b");
}

// [attack: faulty-rules], [attack: faulty-password-file]
#[test]
fn a_file_that_is_wrong_is_no_start() {
    let files = Files::new();
    for (key, text, expected) in [
        ("authentication.password.file", "[users.anna]\n", "users.toml line 1: user \"anna\": has neither"),
        (
            "permissions.file",
            "[[rule]]\nallow = 'all'\ntopics = '#'\n",
            "users.toml line 2: 'all' is no action",
        ),
    ] {
        files.write("users.toml", text);
        let setting = format!("{key}={}", files.text("users.toml"));
        let output = run(&["serve", "--listen", "127.0.0.1:0", "--set", "admin.listen=", "--set", &setting]);
        let error = failure(&output, 1);
        assert!(error.contains(expected), "{error}");
    }
    let missing = format!("authentication.password.file={}", files.text("nothing.toml"));
    let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--set", &missing]), 1);
    assert!(error.contains("nothing.toml") && error.contains("lapwing passwd add"), "{error}");
    files.write("lapwing.toml", "[listeners.lan]\nbind = '127.0.0.1:0'\nauthentication = ['password']\n");
    let error = failure(&run(&["config", "check", &files.text("lapwing.toml")]), 1);
    assert!(
        error.contains("listeners.lan.authentication") && error.contains("authentication.password.file"),
        "{error}"
    );
}

// [attack: readable-data]
#[test]
fn a_file_that_others_can_read_is_said() {
    let files = Files::new();
    files.add_user("anna", "secret", &[]);
    std::fs::set_permissions(files.path("users.toml"), PermissionsExt::from_mode(0o644)).unwrap();
    let broker = files.broker(&[]);
    assert!(broker.wait_for_line("can be read by others than its owner").contains("WARN"));
}

// [attack: listener-without-rules]
#[test]
fn listeners_have_methods_of_their_own() {
    let files = Files::new();
    files.add_user("anna", "secret", &[]);
    files.write(
        "lapwing.toml",
        &format!(
            "[admin]\nlisten = ''\n[listeners.lan]\nbind = 'tcp://127.0.0.1:0'\nauthentication = ['password']\n\
             [authentication]\nanonymous = 'all'\n[authentication.password]\nfile = {:?}\n",
            files.text("users.toml")
        ),
    );
    let mut command = lapwing();
    command.args(["serve", "--config", &files.text("lapwing.toml")]);
    let broker = Broker::spawn(command);
    broker.wait_for_line("on the listener lan instead: password");
    assert_eq!(present(&broker, &Connect::new(V5, "a")).1, Some(ReasonCode::NotAuthorized));
    assert_eq!(present(&broker, &connect(V5, "a", "anna", "secret")).1, Some(ReasonCode::Success));
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

// [attack: secret-in-process-list]
#[test]
fn passwords_come_from_anywhere_but_the_command_line() {
    let files = Files::new();
    let file = files.text("users.toml");
    for arguments in [&["-P", "secret"][..], &["--password", "secret"], &["--password=secret"]] {
        let error = failure(&run(&[&["passwd", "add", &file, "anna"], arguments].concat()), 1);
        assert!(error.contains("everybody on this machine can read it"), "{error}");
    }
    let error = failure(&run(&["passwd", "add", &file, "anna", "secret"]), 2);
    assert!(error.contains("unexpected argument"), "{error}");
    assert!(!Path::new(&file).exists());
    files.write("password", "secret\n");
    let from_file = ["passwd", "add", &file, "anna", "--password-file", &files.text("password")];
    assert!(stdout(&run(&[&from_file[..], &CHEAP].concat())).contains("was added"));
    assert!(stdout(&run(&[&from_file[..], &CHEAP].concat())).contains("another password"));
    assert!(stdout(&with_input(&["passwd", "verify", &file, "anna", "--stdin"], "secret")).contains("right"));
    for (user, password, expected) in [
        ("anna", "wrong", "the password is wrong"),
        ("bert", "secret", "no user \"bert\""),
        ("anna", "", "empty"),
    ] {
        let error = failure(&with_input(&["passwd", "verify", &file, user, "--stdin"], password), 1);
        assert!(error.contains(expected), "{error}");
    }
    files.add_user("bert", "x", &["--scram", "--group", "a"]);
    let list = stdout(&run(&["passwd", "list", &file]));
    assert_eq!(list, "anna  argon2id\nbert  argon2id, scram-sha-256  group=a\n");
    assert!(stdout(&run(&["passwd", "remove", &file, "anna"])).is_empty());
    assert!(failure(&run(&["passwd", "remove", &file, "anna"]), 1).contains("no user \"anna\""));
}

#[test]
fn users_of_mosquitto_keep_their_passwords() {
    let files = Files::new();
    files.write(
        "passwd",
        "anna:$7$101$JyfWoE6bBiZvYufn$KC4ZcBP68Gzy+Kqi1dPp5NBZ39zxz5sFhV+RiCHjZlcLoyDjGMZeVgvYL93ruz76nfU2wUcQf5Tb4xj+p1p9\
         Mg==\n",
    );
    let file = files.text("users.toml");
    assert!(stdout(&run(&["passwd", "import", &files.text("passwd"), &file])).contains("1 users were added"));
    let error = failure(&run(&["passwd", "import", &files.text("passwd"), &file]), 1);
    assert!(error.contains("\"anna\" already"), "{error}");
    let broker = files.broker(&[]);
    assert_eq!(present(&broker, &connect(V311, "a", "anna", "password")).1, Some(ReasonCode::Success));
}

#[test]
fn rules_are_tried_before_they_are_in_force() {
    let files = Files::new();
    files.write("acl.toml", "[[rule]]\nallow = 'publish'\ntopics = 'door/%c/#'\ngroup = 'doors'\n");
    files.write(
        "cases.toml",
        "[[case]]\nclient = 'd1'\ngroup = 'doors'\naction = 'publish'\ntopic = 'door/d1/x'\nexpect = 'allow'\n\n\
         [[case]]\nclient = 'd1'\naction = 'publish'\ntopic = 'door/d1/x'\nexpect = 'allow'\n",
    );
    let (acl, cases) = (files.text("acl.toml"), files.text("cases.toml"));
    assert!(stdout(&run(&["acl", "check", "--acl", &acl])).contains("1 rules"));
    let output = run(&["acl", "test", &cases, "--acl", &acl]);
    failure(&output, 1);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("cases.toml line 9: expected allowed, but it is denied"), "{text}");
    assert!(text.contains("near: acl.toml line 2") && text.contains("another value of 'group'"), "{text}");
    assert!(text.contains("1 cases passed, 1 failed"), "{text}");
    let explain = ["acl", "explain", "d1", "publish", "door/d1/x", "--acl", &acl];
    failure(&run(&explain), 1);
    let text = stdout(&run(&[&explain[..], &["--group", "doors"]].concat()));
    assert!(text.contains("allowed\n  by: acl.toml line 2: allow publish door/%c/#"), "{text}");
}

#[test]
fn rules_of_mosquitto_are_brought_along_or_used_as_they_are() {
    let files = Files::new();
    files.write(
        "acl.txt",
        "topic read public/#\nuser anna\ntopic a/#\ntopic deny a/secret\npattern write c/%c\n",
    );
    let text = stdout(&run(&["acl", "import", &files.text("acl.txt")]));
    files.write("acl.toml", &text);
    files.add_user("anna", "secret", &[]);
    let mosquitto =
        [format!("permissions.file={}", files.text("acl.txt")), "permissions.format=mosquitto".to_owned()];
    let users = format!("authentication.password.file={}", files.text("users.toml"));
    let direct = Broker::with_settings(&[&users, &mosquitto[0], &mosquitto[1]]);
    let converted = files.broker(&[]);
    let error = failure(&run(&["acl", "check", "--acl", &files.text("acl.txt")]), 1);
    assert!(error.contains("acl.txt line 1"), "{error}");
    for broker in [&direct, &converted] {
        let (mut anna, _) = present(broker, &connect(V5, "x", "anna", "secret"));
        let (ok, no) = (ReasonCode::Success, ReasonCode::NotAuthorized);
        assert_eq!(anna.subscribe(&["#"], QoS::AtMostOnce), [ok], "each message is checked");
        assert_eq!(anna.publish_acknowledged("a/secret"), no);
        assert_eq!(anna.publish_acknowledged("c/y"), no);
        anna.send(&Packet::Publish(Publish::new(name("c/x"), b"not received")));
        anna.send(&Packet::Publish(Publish::new(name("a/b"), b"received")));
        match anna.receive().expect("a message").packet() {
            Packet::Publish(message) => assert_eq!(message.payload, b"received"),
            packet => panic!("{packet:?}"),
        };
    }
}

/// The token was made with `openssl`; tokens of a library are in `interop/python`.
// [attack: forged-token]
#[test]
fn a_token_lets_in_whom_it_names_until_it_ends() {
    let files = Files::new();
    files.write("key.pem", PUBLIC_KEY);
    files.write("acl.toml", "[[rule]]\nallow = 'publish'\ntopics = 'home/%u/#'\n");
    let settings = [
        format!("authentication.jwt.key_file={}", files.text("key.pem")),
        "authentication.jwt.algorithms=[\"RS256\"]".to_owned(),
    ];
    let broker = files.broker(&[&settings[0], &settings[1]]);
    broker.wait_for_line("clients with a JSON Web Token of any issuer, of any audience, are let in");
    let (mut anna, reason_code) = present(&broker, &connect(V5, "a", "whatever", TOKEN));
    assert_eq!(reason_code, Some(ReasonCode::Success));
    assert_eq!(anna.publish_acknowledged("home/anna/x"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(anna.publish_acknowledged("home/whatever/x"), ReasonCode::NotAuthorized);
    for wrong in [EXPIRED, &TOKEN.replacen('.', ".e", 1), "secret"] {
        let (_, reason_code) = present(&broker, &connect(V311, "b", "anna", wrong));
        assert_eq!(reason_code, Some(ReasonCode::BadUserNameOrPassword), "{wrong}");
    }
    assert!(!broker.lines().iter().any(|line| line.contains("eyJ")), "no token is in the log");
}

/// An extended authentication is over when the server has proved itself as well; who has the password may do so anew.
#[test]
fn scram_lets_in_who_has_the_password() {
    let files = Files::new();
    files.add_user("anna", "pencil", &["--scram"]);
    let broker = files.broker(&[]);
    let mut peer = Peer::raw(&broker);
    let mut connect = Connect::new(V5, "a");
    connect.properties.authentication_method = Some("SCRAM-SHA-256");
    connect.properties.authentication_data = Some(b"n,,n=anna,r=abc");
    peer.send(&Packet::Connect(connect));
    let challenge = peer.receive().expect("a challenge");
    let Packet::Auth(auth) = challenge.packet() else { panic!("no AUTH") };
    let text = String::from_utf8_lossy(auth.properties.authentication_data.expect("data")).into_owned();
    assert!(text.starts_with("r=abc") && text.contains(",i=15000"), "{text}");
    let nonce = text[2..].split(',').next().expect("a nonce");
    let wrong = format!("c=biws,r={nonce},p={}=", "A".repeat(43));
    let mut answer = lapwing_proto::packet::Auth::new(
        ReasonCode::ContinueAuthentication,
        "SCRAM-SHA-256",
        wrong.as_bytes(),
    );
    answer.reason_code = ReasonCode::ContinueAuthentication;
    peer.send(&Packet::Auth(answer));
    match peer.receive().expect("an answer").packet() {
        Packet::ConnAck(connack) => assert_eq!(connack.reason_code, ReasonCode::NotAuthorized),
        packet => panic!("{packet:?}"),
    }
    let mut unknown = Connect::new(V5, "a");
    unknown.properties.authentication_method = Some("SCRAM-SHA-1");
    assert_eq!(present(&broker, &unknown).1, Some(ReasonCode::BadAuthenticationMethod));
}

/// A storm of wrong passwords from one address, and a client that is connected meanwhile.
// [attack: password-storm]
#[test]
fn a_storm_of_passwords_holds_nobody_up() {
    let files = Files::new();
    files.add_user("anna", "secret", &["--memory-kib", "19456", "--passes", "2"]);
    let broker =
        files.broker(&["authentication.queue_address_maximum=16", "authentication.delay_maximum_ms=0"]);
    let canary = broker::canary::Canary::start(&broker);
    let mut waiting = Vec::new();
    for n in 0..200 {
        let mut peer = Peer::raw(&broker);
        peer.send(&Packet::Connect(connect(V5, &format!("c{n}"), "anna", &format!("wrong {n}"))));
        waiting.push(peer);
    }
    let worst = canary.worst_round_trip();
    assert!(worst < std::time::Duration::from_secs(1), "{worst:?}");
    // More than may wait are refused, and the others are told when it was their turn.
    let (mut busy, mut wrong) = (0, 0);
    for peer in &mut waiting {
        match peer.receive().expect("an answer").packet() {
            Packet::ConnAck(connack) if connack.reason_code == ReasonCode::ServerBusy => busy += 1,
            Packet::ConnAck(connack) if connack.reason_code == ReasonCode::BadUserNameOrPassword => {
                wrong += 1;
            }
            packet => panic!("{packet:?}"),
        }
    }
    assert!(busy > 100 && wrong >= 16, "{busy} busy, {wrong} wrong");
}

/// Of a key that was made for this test, and thrown away.
const PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqvoyazpfsyf5iIS8IWqB\n\
iOvrKQ4ASuV60z5chxKCEe0rBihPFoM71TRsTndsjkXBvv3M6u/H1vaO0WOP/b8r\n\
hFFv26MZ6T8XVosZT1+StMty4HO9B14c5kncb4KvEvJw8SmySTcX7Zf20wE9Z4au\n\
RgAPfsqKM0k+iaD6YT3sG9RTaipO/jMcl/Ycmk1jAL04V/ozuXsPNGLe5NY9iepG\n\
GKfNKpcCjLV7+WQbaDklxBr1IDmOzmke5dEkDy7Vs51CDhpiPik1Q5Cp1JOrLm5Q\n\
tHt6FfrQojQBiJkz1mqTFp48kA15n8rWCvjyQWm1xRSH9kv1MmZXHtFu/HudtE4V\n\
OQIDAQAB\n\
-----END PUBLIC KEY-----\n";
/// Of `anna`, until the year 2096.
const TOKEN: &str = "\
    eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwfQ.nf2xKIo0TQJ4mdleM0ZVMsLBdetnPKqpN7YQ\
    Ut6eK2HniyJkZUX-_C2umjTWXF-reR3A-R7EM5bro9IyGBdnABZQbRjSm_ZCQ-bLZavkG0O1-qDEEtIPj7CeA_Zx4_emEFddEZ-4\
    IShUMEG2TWqsEdHHIx806fliQBn_DvKm0zwpjfX1cDhxymte4TLBsSNeU-U0gfcxtRlpJtcCVbq6a5ej4vOcJSr9yKJzYX6Vuf3u\
    l4O6d0Gs0FI4SrWDiEa_QhgyLapNP0wdbVxjMbFAEgsURQLZ9ECfTt-LgD6g65d1d-frK8766ZsOCS5VF-B0PY7G49X8cq0taYEo\
    25jpKw";
/// Of `anna`, until the year 2001.
const EXPIRED: &str = "\
    eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIiwiZXhwIjoxMDAwMDAwMDAwfQ.AaZXntPfTubXTRjOUC0LncI0MthErobihoZu\
    Q8hQH0SROYRiRW6hHb2I7waMXY467dR3yjagNXKjq2ReKMkBdteRhufACT3KQ_BVeSk1CbImoMPc6ndmSBIq0WeD9krIAi9qW-VR\
    OCsz0YYj9K679eI-n92ijeX0ovgkX3z9v2KwayokpDidoxKNLRQOBPGc6gkHw8dIConDazCQGNgqXZk41Q-vS-iQQNk1CC0oLd-F\
    fvJC4bf-GswXv3zFd05ZeEkLUzmZxPHyys3vLUwk_7YYkmqG9RSzMIup5B4tk7U6ZfCOHWk-qyP3BSXlWylQyOu8m8mbQhhAEOMI\
    gEGdrQ";
