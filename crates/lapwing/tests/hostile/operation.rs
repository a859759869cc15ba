//! Attacks on what is around the broker: its descriptors, its files, its log, what others on the machine can see.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use lapwing_proto::packet::{Auth, Connect, Packet, QoS, ReasonCode};

use super::broker::peer::Peer;
use super::broker::{Broker, SOON, lapwing};
use super::{V5, V311, attack_on};

/// Adds a user with a hash that costs little.
pub(super) fn add_user(file: &str, user: &str, password: &str) {
    let mut command = lapwing();
    command.args(["passwd", "add", file, user, "--stdin", "--scram", "--memory-kib", "64", "--passes", "1"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("it is a pipe").write_all(password.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

/// CVE-2017-7652: a reload for which no descriptor is left must not open what the rules close.
// [attack: reload-without-descriptors]
#[test]
fn a_reload_without_a_descriptor_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl.toml");
    let write = |text: &str| {
        let canary = "[[rule]]\nallow = 'pubsub'\ntopics = 'canary/#'\n";
        std::fs::write(&rules, format!("{canary}[[rule]]\n{text}")).unwrap();
    };
    write("allow = 'publish'\ntopics = 'open'\n");
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_lapwing");
    let script = format!(
        "ulimit -n 64 && exec {program} serve --listen tcp://127.0.0.1:0 --set admin.listen= --set permissions.file={}",
        rules.display()
    );
    command.args(["-c", &script]);
    attack_on(Broker::spawn(command), 32, |broker| {
        let mut early = Peer::connect(broker, V5, "early");
        let mut connected: Vec<_> = Vec::new();
        for index in 0..200 {
            let mut peer = Peer::raw(broker);
            if peer.present(&Connect::new(V311, &format!("client-{index}"))).is_some() {
                connected.push(peer);
            }
        }
        let reload = |expected: &str| {
            let seen = broker.lines().len();
            broker.signal("HUP");
            wait_for_line(broker, seen, expected);
        };
        write("allow = 'publish'\ntopics = 'closed'\n");
        reload("not reloaded, and nothing has changed");
        assert_eq!(early.publish_acknowledged("open"), ReasonCode::NoMatchingSubscribers);
        assert_eq!(early.publish_acknowledged("closed"), ReasonCode::NotAuthorized);
        // Others go, and there are descriptors again.
        for peer in &mut connected {
            peer.finish();
            peer.wait_for_close();
        }
        reload("reloaded");
        assert_eq!(early.publish_acknowledged("open"), ReasonCode::NotAuthorized);
        assert_eq!(early.publish_acknowledged("closed"), ReasonCode::NoMatchingSubscribers);
        // A file that is wrong changes nothing either.
        write("allow = 'all'\ntopics = '#'\n");
        reload("acl.toml line 5");
        assert_eq!(early.publish_acknowledged("open"), ReasonCode::NotAuthorized);
    });
}

/// Waits for a line with `text` that was not among the first `seen`.
fn wait_for_line(broker: &Broker, seen: usize, text: &str) {
    let start = std::time::Instant::now();
    while !broker.lines()[seen..].iter().any(|line| line.contains(text)) {
        assert!(start.elapsed() < SOON, "no line with {text:?}: {:#?}", broker.lines());
        std::thread::yield_now();
    }
}

/// Whatever goes right or wrong, and however much is logged.
// [attack: secret-in-log], [attack: secret-in-process-list]
#[test]
fn secrets_are_nowhere_to_be_seen() {
    const PASSWORD: &str = "swordfish-right";
    const WRONG: &str = "swordfish-wrong";
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzd29yZGZpc2gifQ.c3dvcmRmaXNo";
    const SECRET: &str = "swordfish-0123456789-0123456789-0123456789";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    add_user(&path("users.toml"), "anna", PASSWORD);
    std::fs::write(path("secret"), SECRET).unwrap();
    let settings = [
        format!("authentication.password.file={}", path("users.toml")),
        format!("authentication.jwt.secret_file={}", path("secret")),
        "authentication.delay_maximum_ms=0".to_owned(),
        "admin.listen=127.0.0.1:0".to_owned(),
        "log.level=trace".to_owned(),
    ];
    let data = path("data");
    let mut arguments = vec!["--data", &data];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let broker = Broker::start(&arguments);
    let admin = super::admin::address(&broker);
    let admin_token = std::fs::read_to_string(Path::new(&data).join("admin-token")).unwrap();
    let admin_token = admin_token.trim();
    for version in [V5, V311] {
        for password in [PASSWORD, WRONG, TOKEN] {
            let mut connect = Connect::new(version, "c");
            (connect.user_name, connect.password) = (Some("anna"), Some(password.as_bytes()));
            assert!(Peer::raw(&broker).present(&connect).is_some());
        }
    }
    // An extended authentication with a proof that is none, and a CONNECT that is malformed behind its password.
    let mut peer = Peer::raw(&broker);
    let mut connect = Connect::new(V5, "a");
    connect.properties.authentication_method = Some("SCRAM-SHA-256");
    connect.properties.authentication_data = Some(b"n,,n=anna,r=abc");
    peer.send(&Packet::Connect(connect));
    drop(peer.receive());
    peer.send(&Packet::Auth(Auth::new(
        ReasonCode::ContinueAuthentication,
        "SCRAM-SHA-256",
        b"c=biws,r=abc,p=swordfish",
    )));
    peer.wait_for_close();
    let mut malformed = Peer::raw(&broker);
    malformed.try_send_bytes(b"\x10\x1c\0\x04MQTT\x04\xc2\0\0\0\x01a\0\x01b\0\x09swordfish").unwrap();
    malformed.try_send_bytes(b"\x00\x00\xF0").unwrap();
    malformed.finish();
    malformed.wait_for_close();
    // The admin channel, with the right token and with wrong ones, and a reload.
    for header in
        [format!("Authorization: Bearer {admin_token}\r\n"), format!("Authorization: Basic {SECRET}\r\n")]
    {
        super::admin::exchange(
            admin,
            &format!("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n"),
        );
    }
    std::fs::write(path("users.toml"), format!("[users.anna]\npassword = \"{SECRET}\"\n")).unwrap();
    broker.signal("HUP");
    broker.wait_for_line("users.toml line");
    let command_line = std::fs::read(format!("/proc/{}/cmdline", broker.process())).unwrap();
    let mut seen = broker.lines();
    seen.push(String::from_utf8_lossy(&command_line).into_owned());
    assert!(seen.iter().any(|line| line.contains("client refused")), "{seen:#?}");
    for line in seen {
        for secret in ["swordfish", "eyJ", "c3dvcmRmaXNo", admin_token] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

/// Every file in the data directory is for its owner alone, whatever the umask of whoever starts the broker.
// [attack: readable-data]
#[test]
fn nothing_in_the_data_directory_can_be_read_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_lapwing");
    let script = format!(
        "umask 000 && exec {program} serve --listen tcp://127.0.0.1:0 --set admin.listen=127.0.0.1:0 --data {}",
        data.display()
    );
    command.args(["-c", &script]);
    let broker = Broker::spawn(command);
    let mut connect = Connect::new(V5, "kept");
    connect.properties.session_expiry_interval = Some(1000);
    let mut peer = Peer::connect_with(&broker, &connect);
    peer.subscribe(&["a"], QoS::AtLeastOnce);
    peer.publish_acknowledged("a");
    let mut folders = vec![data];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        let is_inner = folder.components().any(|part| part.as_os_str() == "store");
        // What is below a directory that nobody else may enter is out of reach, whatever its own mode.
        assert!(mode == 0o700 || is_inner, "{}: {mode:o}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert!(mode == 0o600 || is_inner, "{}: {mode:o}", entry.path().display());
        }
    }
    assert!(files > 1);
}
