//! `lapwing store` on what the real broker has stored.

mod broker;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use broker::peer::{Peer, name, packet_id};
use broker::{Broker, SOON, failure, run};
use lapwing_proto::packet::{Ack, Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode};
use lapwing_store::engine::{Durability, Engine, FjallEngine, Options, Space, WriteBatch};
use serde_json::Value;

const MESSAGES: usize = 100;

/// A data directory, with what is made beside it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    /// Runs `lapwing store` on the data directory `data`.
    fn store(&self, arguments: &[&str]) -> Output {
        self.store_in("data", arguments)
    }

    fn store_in(&self, data: &str, arguments: &[&str]) -> Output {
        run(&[&["store"][..], arguments, &["--data", &self.text(data)]].concat())
    }

    fn serve(&self, data: &str) -> Broker {
        Broker::start(&["--data", &self.text(data)])
    }

    /// The names in the data directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("data")).expect("a folder");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("a name").file_name();
        let mut names: Vec<_> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// All files below the data directory with what is in them.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found: Vec<_> = files(&self.path("data"))
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).expect("a file")))
            .collect();
        found.sort();
        found
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Standard output of a run that must have ended with `code`.
fn output(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}{errors}");
    text
}

fn durable<'a>(client_id: &'a str) -> Connect<'a> {
    let mut connect = Connect::new(ProtocolVersion::V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(u32::MAX);
    connect
}

fn subscriber(broker: &Broker, client_id: &str) {
    let mut peer = Peer::connect_with(broker, &durable(client_id));
    peer.subscribe(&["gate/#"], QoS::AtLeastOnce);
}

fn publish(peer: &mut Peer, topic: &str, payload: &str, retain: bool) {
    let mut publish = Publish::new(name(topic), payload.as_bytes());
    publish.qos = QoS::AtLeastOnce;
    publish.retain = retain;
    publish.packet_id = Some(packet_id(1));
    peer.send(&Packet::Publish(publish));
    while !matches!(peer.receive().expect("a PUBACK").packet(), Packet::PubAck(_)) {}
}

/// The payloads that wait for a client, as they come.
fn received(broker: &Broker, client_id: &str, count: usize) -> Vec<String> {
    let mut peer = Peer::connect_with(broker, &durable(client_id));
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let received = peer.receive().expect("a message");
        let Packet::Publish(publish) = received.packet() else { continue };
        payloads.push(String::from_utf8_lossy(publish.payload).into_owned());
        let packet_id = publish.packet_id.expect("QoS 1");
        peer.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }
    payloads
}

/// Two sessions that wait for the same messages, one that waits for some of its own, and a retained message.
fn fill(folder: &Folder) {
    let mut broker = folder.serve("data");
    subscriber(&broker, "door_1");
    subscriber(&broker, "door_2");
    Peer::connect_with(&broker, &durable("bell")).subscribe(&["bell"], QoS::AtLeastOnce);
    let mut publisher = Peer::connect(&broker, ProtocolVersion::V5, "publisher");
    for number in 0..MESSAGES {
        publish(&mut publisher, "gate/event", &number.to_string(), false);
    }
    publish(&mut publisher, "bell", "ring", false);
    publish(&mut publisher, "state", "open", true);
    broker.signal("TERM");
    broker.wait_for_exit(SOON);
}

fn expected() -> Vec<String> {
    (0..MESSAGES).map(|number| number.to_string()).collect()
}

/// Puts entries into the store of a data directory, whatever they are.
fn plant(folder: &Folder, entries: &[(Space, &[u8], &[u8])]) {
    let mut engine = FjallEngine::open(&folder.path("data/store"), Options::default()).expect("it opens");
    let mut batch = WriteBatch::default();
    for (space, key, value) in entries {
        batch.insert(*space, key, |out| out.extend_from_slice(value));
    }
    engine.write(&batch).and_then(|()| engine.sync(Durability::Fsync)).expect("it is written");
}

#[test]
fn a_store_is_looked_at_saved_and_restored() {
    let folder = Folder::new();
    fill(&folder);
    let before = folder.content();
    let text = output(&folder.store(&["check"]), 0);
    assert!(text.contains("is sound"), "{text}");
    let stats: Value = serde_json::from_str(&output(&folder.store(&["stats", "--json"]), 0)).expect("JSON");
    assert_eq!((&stats["sessions"], &stats["subscriptions"]), (&3.into(), &3.into()), "{stats:#}");
    assert_eq!(stats["queued"]["messages"], 2 * MESSAGES + 1);
    assert_eq!((&stats["shared"]["messages"], &stats["retained"]["messages"]), (&MESSAGES.into(), &1.into()));
    let top = stats["top"].as_array().expect("an array");
    let names: Vec<_> = top.iter().map(|of| of["client_id"].as_str().expect("a name")).collect();
    assert_eq!((names.len(), names[2], &top[2]["messages"]), (3, "bell", &1.into()));
    let text = output(&folder.store(&["stats", "--top", "1"]), 0);
    assert!(text.contains("queued messages") && text.contains("door_") && !text.contains("bell"), "{text}");

    let file = folder.text("saved");
    let text = output(&folder.store(&["backup", &file]), 0);
    assert!(text.contains("3 sessions, 3 subscriptions, 201 queued messages, 1 retained message"), "{text}");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let error = failure(&folder.store(&["backup", &file]), 1);
    assert!(error.contains("--force replaces it"), "{error}");
    output(&folder.store(&["backup", &file, "--force"]), 0);
    let piped = folder.store(&["backup", "-"]);
    // But for when it was made, and the checks that cover that.
    assert_eq!(piped.stdout.len(), fs::read(&file).expect("a file").len());
    // All this has changed nothing, and left nothing behind.
    assert!(folder.content() == before, "the store has changed");

    let text = output(&folder.store_in("other", &["restore", &file]), 0);
    assert!(text.contains("201 queued messages"), "{text}");
    let error = failure(&folder.store_in("other", &["restore", &file]), 1);
    assert!(error.contains("is there already; --force moves it aside"), "{error}");
    output(&folder.store_in("other", &["check"]), 0);
    let broker = folder.serve("other");
    for client in ["door_1", "door_2"] {
        assert_eq!(received(&broker, client, MESSAGES), expected());
    }
    assert_eq!(received(&broker, "bell", 1), ["ring"]);
    let mut peer = Peer::connect(&broker, ProtocolVersion::V5, "peer");
    peer.subscribe(&["state"], QoS::AtLeastOnce);
    let retained = peer.receive().expect("the retained message");
    let Packet::Publish(publish) = retained.packet() else { panic!("{:?}", retained.packet()) };
    assert_eq!((publish.payload, publish.retain), (&b"open"[..], true));
    drop(broker);

    // With --force the store that has been used meanwhile stands aside, and has what it had.
    let text = output(&folder.store_in("other", &["restore", &file, "--force"]), 0);
    assert!(text.contains("store.old"), "{text}");
    assert!(folder.path("other/store.old/LAPWING").is_file());
    let broker = folder.serve("other");
    assert_eq!(received(&broker, "door_1", MESSAGES), expected());
}

// [attack: damaged-store]
#[test]
fn a_damaged_archive_is_refused_and_nothing_is_put_in_place() {
    let folder = Folder::new();
    fill(&folder);
    let file = folder.text("saved");
    output(&folder.store(&["backup", &file]), 0);
    let bytes = fs::read(&file).expect("a file");
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).expect("it can be written");
        let error = failure(&folder.store_in("other", &["restore", &file]), 1);
        assert!(!folder.path("other").exists(), "something was put in place: {error}");
        assert!(error.contains(what), "{error}");
    };
    for size in [0, 10, 20, 36, 50, bytes.len() / 2, bytes.len() - 1] {
        refused(&bytes[..size], if size < 16 { "not an archive" } else { "damaged" });
    }
    for at in [16 + 6, 40, bytes.len() / 2, bytes.len() - 1] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        refused(&bytes, "damaged");
    }
    refused(&[&bytes[..], b"x"].concat(), "more follows its end");
    let mut future = bytes.clone();
    future[16] = 2;
    refused(&future, "the archive has format 2; this version of Lapwing reads up to 1");
    let error = failure(&folder.store_in("other", &["restore", &folder.text("nothing")]), 1);
    assert!(error.contains("cannot open"), "{error}");
}

// [attack: freed-message]
#[test]
fn what_belongs_to_nothing_is_found_and_removed() {
    let folder = Folder::new();
    fill(&folder);
    let orphan = [&0_u64.to_be_bytes()[..], b"yard/#"].concat();
    plant(&folder, &[(Space::Subscription, &orphan, &[1, 1, 0]), (Space::Retained, b"lamp", b"?")]);
    let text = output(&folder.store(&["check"]), 1);
    assert!(text.contains("subscription: session 0, filter yard/#: its session does not exist"), "{text}");
    assert!(text.contains("retained: lamp: the value cannot be read"), "{text}");
    assert!(text.contains("is not sound: 2 faults"), "{text}");

    // An archive of it is refused too, unless what is wrong may be left out.
    let file = folder.text("saved");
    output(&folder.store(&["backup", &file]), 0);
    let restored = folder.store_in("other", &["restore", &file]);
    let error = failure(&restored, 1);
    assert!(error.contains("2 entries of the archive cannot be used; --repair leaves them out"), "{error}");
    assert!(!folder.path("other/store").exists());
    output(&folder.store_in("other", &["restore", &file, "--repair"]), 0);
    output(&folder.store_in("other", &["check"]), 0);

    let before = folder.content();
    let text = output(&folder.store(&["repair", "--dry-run"]), 0);
    assert!(text.contains("nothing has been changed") && folder.content() == before, "{text}");
    let text = output(&folder.store(&["repair"]), 0);
    assert!(text.contains("removed: retained: lamp"), "{text}");
    assert!(text.contains("removed in all: subscriptions: 1, retained messages: 1"), "{text}");
    assert_eq!(folder.names(), ["store", "store.old"]);
    output(&folder.store(&["check"]), 0);
    let text = output(&folder.store(&["repair"]), 0);
    assert!(text.contains("there is nothing to repair"), "{text}");
    let broker = folder.serve("data");
    assert_eq!(received(&broker, "door_1", MESSAGES), expected());
}

// [attack: damaged-store]
#[test]
fn a_damaged_journal_loses_what_was_in_the_damage_and_nothing_else() {
    let folder = Folder::new();
    fill(&folder);
    let journal = folder.path("data/store/0.jnl");
    let mut bytes = fs::read(&journal).expect("a journal");
    // In the payload of a message in the middle.
    let at = bytes.windows(13).position(|window| window == b"gate/event\x0050").expect("the message");
    bytes[at] ^= 0xFF;
    fs::write(&journal, bytes).expect("it can be written");
    let text = output(&folder.store(&["check"]), 1);
    assert!(text.contains("0.jnl is corrupt at byte") && text.contains("is damaged"), "{text}");
    let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--data", &folder.text("data")]), 1);
    assert!(error.contains("is corrupt at byte"), "{error}");
    let error = failure(&folder.store(&["backup", &folder.text("saved")]), 1);
    assert!(error.contains("lapwing store repair"), "{error}");
    let text = output(&folder.store(&["repair", "--no-copy"]), 0);
    assert!(text.contains("damaged: ") && text.contains("lost: what "), "{text}");
    assert_eq!(folder.names(), ["store"]);
    output(&folder.store(&["check"]), 0);
    let broker = folder.serve("data");
    let mut left = expected();
    left.remove(50);
    assert_eq!(received(&broker, "door_1", MESSAGES - 1), left);
    assert_eq!(received(&broker, "bell", 1), ["ring"]);
}

#[test]
fn lost_tables_of_one_space_leave_the_others() {
    let folder = Folder::new();
    fill(&folder);
    // The space of the retained messages: the eighth keyspace.
    fs::remove_file(folder.path("data/store/keyspaces/8/current")).expect("it is there");
    let text = output(&folder.store(&["check"]), 1);
    assert!(text.contains("the file is missing"), "{text}");
    let text = output(&folder.store(&["repair"]), 0);
    assert!(text.contains("lost: retained messages, but for those that the journals have"), "{text}");
    output(&folder.store(&["check"]), 0);
    let broker = folder.serve("data");
    assert_eq!(received(&broker, "door_2", MESSAGES), expected());
}

// [attack: damaged-store]
#[test]
fn what_cannot_be_repaired_is_said_and_left_as_it_is() {
    let folder = Folder::new();
    fill(&folder);
    fs::write(folder.path("data/store/LAPWING"), "format = 1\n").expect("it can be written");
    let before = folder.content();
    let error = failure(&folder.store(&["repair"]), 1);
    assert!(error.contains("names no identity"), "{error}");
    failure(&folder.store(&["check"]), 2);
    assert!(folder.content() == before);
    let error = failure(&folder.store_in("none", &["check"]), 2);
    assert!(error.contains("there is no store in") && error.contains("--data"), "{error}");
}

#[test]
fn a_running_broker_keeps_its_store() {
    let folder = Folder::new();
    fill(&folder);
    let file = folder.text("saved");
    output(&folder.store(&["backup", &file]), 0);
    let broker = folder.serve("data");
    for (arguments, code) in
        [(&["check"][..], 2), (&["stats"], 1), (&["repair"], 1), (&["restore", &file, "--force"], 1)]
    {
        let error = failure(&folder.store(arguments), code);
        assert!(error.contains("is in use, by a running broker or another command"), "{error}");
    }
    // This one has no admin channel, by which it could be asked.
    let error = failure(&folder.store(&["backup", &folder.text("other")]), 1);
    assert!(error.contains("is in use; a running broker makes a backup when"), "{error}");
    assert_eq!(folder.names(), ["store"]);
    assert!(!folder.path("other").exists());
    assert_eq!(received(&broker, "door_1", MESSAGES), expected());
}

#[test]
fn a_broker_that_was_killed_leaves_a_sound_store() {
    let folder = Folder::new();
    fill(&folder);
    let broker = folder.serve("data");
    assert_eq!(received(&broker, "door_1", MESSAGES), expected());
    broker.signal("KILL");
    drop(broker);
    let before = folder.content();
    output(&folder.store(&["check"]), 0);
    assert!(folder.content() == before, "the store has changed");
}
