//! `lapwing serve` as a process: how it starts, what it says, and how it ends.

mod broker;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use broker::peer::{Peer, encoded, name};
use broker::{Broker, SOON, failure, lapwing, run};
use lapwing_proto::packet::{Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V311;

#[test]
fn a_taken_port_is_said_with_what_to_do() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", other.local_addr().unwrap());
    let error = failure(&run(&["serve", "--listen", &address]), 1);
    assert!(error.contains(&format!("cannot listen on {address}: the port is taken")), "{error}");
    assert!(error.contains("ss -ltnp") && error.contains("--listen"), "{error}");
}

#[test]
fn an_address_of_another_machine_and_an_unknown_name_are_said() {
    let error = failure(&run(&["serve", "--listen", "tcp://203.0.113.77:0"]), 1);
    assert!(error.contains("tcp://203.0.113.77:0: this machine has no such address"), "{error}");
    // A name that cannot be, so that nobody is asked.
    let error = failure(&run(&["serve", "--listen", "tcp://no..such..host:0"]), 1);
    assert!(error.contains("tcp://no..such..host:0: the host name is not known"), "{error}");
}

#[test]
fn a_port_for_the_administrator_is_said() {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let first: u16 = std::fs::read_to_string(path).map_or(1024, |text| text.trim().parse().unwrap());
    if first < 2 {
        return eprintln!("not tested: this system has no such ports");
    }
    // Whoever runs the test, without the right; a user who has it not needs no `setpriv`.
    let program = env!("CARGO_BIN_EXE_lapwing");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", program]);
    let output = match command.args(["serve", "--listen", "127.0.0.1:1"]).output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).starts_with("setpriv") => output,
        _ => run(&["serve", "--listen", "127.0.0.1:1"]),
    };
    let error = failure(&output, 1);
    assert!(error.contains("tcp://127.0.0.1:1: not permitted; ports below 1024"), "{error}");
}

#[test]
fn several_addresses_are_listened_on() {
    let broker = Broker::start(&["--listen", "127.0.0.1:0"]);
    broker.wait_for_line("clients on this machine are let in");
    let lines = broker.lines();
    let addresses: Vec<SocketAddr> =
        lines.iter().filter_map(|line| line.split_once("tcp://")?.1.trim().parse().ok()).collect();
    assert_eq!(addresses.len(), 2, "{lines:#?}");
    assert!(addresses.iter().all(|address| address.port() > 0 && address.ip().is_loopback()));
    Peer::connect(&broker, V5, "client").ping();
}

#[test]
fn a_machine_without_ipv6_is_no_reason_not_to_start() {
    // The default port may be taken here; a network of its own has it free, and can be without IPv6.
    let program = env!("CARGO_BIN_EXE_lapwing");
    let script = format!(
        "ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec {program} serve"
    );
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount-proc",
            "--fork",
            "--kill-child",
            "--pid",
            "sh",
            "-c",
            script,
        ]);
        command
    };
    let is_possible =
        unshare("ip link set lo up && test -w /proc/sys/net/ipv6/conf/all/disable_ipv6").output();
    if !is_possible.is_ok_and(|output| output.status.success()) {
        return eprintln!("not tested: no network namespace can be made here");
    }
    let broker = Broker::spawn(unshare(&script));
    broker.wait_for_line("clients on this machine are let in");
    let lines = broker.lines();
    assert!(lines.iter().any(|line| line.contains("tcp://127.0.0.1:1883")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("[::1]")), "{lines:#?}");
}

// [attack: readable-data]
#[test]
fn the_data_directory_is_made_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("deep/data");
    let arguments = ["--data", data.to_str().unwrap()];
    let broker = Broker::start(&arguments);
    let line = broker.wait_for_line("what outlives this process is kept in");
    assert!(line.contains(data.to_str().unwrap()), "{line}");
    // One process at a time has it.
    let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]), 1);
    assert!(error.contains("is in use by another process") && error.contains("--data"), "{error}");
    drop(broker);
    for directory in [&data, &data.join("store")] {
        let mode = std::fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    // It is there now, and holds nothing but the store.
    drop(Broker::start(&arguments));
    let names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store"]);
}

#[test]
fn nothing_is_stored_where_that_is_not_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = ["--data", data.to_str().unwrap(), "--set", "store.durability=memory"];
    Broker::start(&arguments).wait_for_line("WARN sessions and messages end with this process");
    assert!(!data.exists());
}

#[test]
fn a_folder_that_is_no_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let store = directory.path().join("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("letter"), "dear").unwrap();
    let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--data", data]), 1);
    assert!(error.contains("is not a Lapwing store") && error.contains("--data"), "{error}");
    let names: Vec<_> = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["letter"]);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("data");
    // Nobody can write to /proc, the administrator included.
    for (data, expected) in [
        (file.to_str().unwrap(), "is no directory"),
        (below.to_str().unwrap(), "cannot be made"),
        ("/proc/lapwing", "cannot be made"),
        ("/proc", "cannot be written"),
    ] {
        let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--data", data]), 1);
        assert!(error.contains(expected) && error.contains(data), "{data}: {error}");
        assert!(error.contains("--data"), "{data}: {error}");
    }
    let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--set", "data=\"\""]), 1);
    assert!(error.contains("the data directory has no name"), "{error}");
}

#[test]
fn it_says_who_is_let_in_and_does_as_it_says() {
    for (setting, sentence, is_let_in) in [
        (None, "clients on this machine are let in", true),
        (Some("authentication.anonymous=none"), "no client is let in", false),
        (
            Some("authentication.anonymous=all"),
            "WARN everybody who can reach these addresses is let in",
            true,
        ),
    ] {
        let broker = Broker::with_settings(setting.as_slice());
        broker.wait_for_line(sentence);
        let expected = if is_let_in { ReasonCode::Success } else { ReasonCode::NotAuthorized };
        for version in [V5, V311] {
            let mut peer = Peer::raw(&broker);
            assert_eq!(peer.present(&Connect::new(version, "somebody")), Some(expected));
            if !is_let_in {
                peer.wait_for_close();
                let line = broker.wait_for_line("client refused");
                assert!(line.contains("client_id=\"somebody\""), "{line}");
            }
        }
    }
}

#[test]
fn a_client_from_elsewhere_is_refused_unless_all_are_let_in() {
    let Some(own) = own_address() else {
        return eprintln!(
            "not tested here but by the authenticator's own test: this machine has only its loopback address"
        );
    };
    // From an address that is neither the broker's nor of the loopback.
    for (setting, expected) in [("loopback", ReasonCode::NotAuthorized), ("all", ReasonCode::Success)] {
        let broker = Broker::with_settings(&[&format!("authentication.anonymous={setting}")]);
        let mut peer = Peer::from_address(&broker, own);
        assert_eq!(peer.present(&Connect::new(V5, "stranger")), Some(expected), "{:#?}", broker.lines());
    }
}

/// An address of this machine that is not of the loopback. Nothing is sent to find it.
fn own_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let mut address = socket.local_addr().ok()?;
    address.set_port(0);
    Some(address)
}

#[test]
fn a_signal_ends_it_in_good_order() {
    for signal in ["TERM", "INT"] {
        let mut broker = Broker::start(&[]);
        let mut new = Peer::connect(&broker, V5, "new");
        let mut old = Peer::connect(&broker, V311, "old");
        broker.signal(signal);
        assert_eq!(new.wait_for_disconnect(), Some(ReasonCode::ServerShuttingDown));
        assert_eq!(old.wait_for_disconnect(), None);
        drop((new, old));
        let (status, _) = broker.wait_for_exit(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{:#?}", broker.lines());
        broker.wait_for_line("stopped");
        broker.wait_for_line(&format!("shutting down on SIG{signal}"));
    }
}

#[test]
fn a_variable_that_has_no_effect_is_said_with_the_right_form() {
    let mut command = lapwing();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--set", "admin.listen="])
        .env("LAPWING_LOG_LEVEL", "debug");
    command.env("LAPWING_LIMITS__RECEIVE_MAXIMUM", "7").env("LAPWING_URL", "tcp://127.0.0.1:1");
    let broker = Broker::spawn(command);
    broker.wait_for_line("clients on this machine are let in");
    let lines = broker.lines();
    let said: Vec<_> = lines.iter().filter(|line| line.contains("LAPWING_")).collect();
    assert_eq!(said.len(), 1, "{lines:#?}");
    assert!(said[0].contains("WARN the environment variable LAPWING_LOG_LEVEL has no effect"), "{said:?}");
    assert!(said[0].contains("did you mean LAPWING_LOG__LEVEL?"), "{said:?}");
}

#[test]
fn tls_on_a_plain_port_is_called_by_its_name() {
    let broker = Broker::start(&[]);
    let mut peer = Peer::raw(&broker);
    peer.try_send_bytes(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).unwrap();
    peer.wait_for_close();
    broker.wait_for_line("connection closed: this looks like TLS, which this listener does not speak");
}

#[test]
fn log_lines_leave_out_what_there_is_not() {
    let broker = Broker::with_settings(&["authentication.anonymous=none"]);
    assert_eq!(Peer::raw(&broker).present(&Connect::new(V5, "nameless")), Some(ReasonCode::NotAuthorized));
    let line = broker.wait_for_line("client refused");
    assert!(line.contains("client_id=\"nameless\""), "{line}");
    assert!(!line.contains("suppressed") && !line.contains("user_name"), "{line}");
    let mut connect = Connect::new(V5, "named");
    connect.user_name = Some("gate");
    assert_eq!(Peer::raw(&broker).present(&connect), Some(ReasonCode::NotAuthorized));
    broker.wait_for_line("user_name=\"gate\"");
}

/// A client whose socket is full of messages that it does not read.
fn deaf(broker: &Broker) -> Peer {
    let mut deaf = Peer::connect(broker, V5, "deaf");
    deaf.subscribe(&["flood"], QoS::AtMostOnce);
    let mut publisher = Peer::connect(broker, V5, "publisher");
    let bytes = encoded(&Packet::Publish(Publish::new(name("flood"), &[0; 100_000])), V5);
    for _ in 0..200 {
        publisher.try_send_bytes(&bytes).expect("the broker reads");
    }
    publisher.ping();
    deaf
}

#[test]
fn clients_that_do_not_read_or_never_connect_do_not_hold_up_the_end() {
    let mut broker = Broker::start(&[]);
    let _deaf = deaf(&broker);
    let mut half = Peer::raw(&broker);
    half.try_send_bytes(&[0x10, 20, 0, 4]).unwrap();
    let silent = Peer::raw(&broker);
    broker.signal("TERM");
    let (status, _) = broker.wait_for_exit(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{:#?}", broker.lines());
    drop((half, silent));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut broker = Broker::start(&[]);
    let _deaf = deaf(&broker);
    broker.signal("TERM");
    broker.wait_for_line("shutting down");
    broker.signal("INT");
    let (status, waited) = broker.wait_for_exit(SOON);
    assert_eq!(status.code(), Some(128 + 2), "{:#?}", broker.lines());
    assert!(waited < Duration::from_millis(900), "{waited:?}");
}

// [attack: no-descriptors]
#[test]
fn without_descriptors_connected_clients_are_served_and_new_ones_closed() {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_lapwing");
    let script = format!("ulimit -n 64 && exec {program} serve --listen 127.0.0.1:0");
    command.args(["-c", &script]);
    let mut broker = Broker::spawn(command);
    broker.wait_for_line("few file descriptors");
    let mut connected = Vec::new();
    let mut closed = 0;
    for index in 0..200 {
        let client_id = format!("client-{index}");
        let start = Instant::now();
        let mut peer = Peer::raw(&broker);
        let answer = peer.present(&Connect::new(V5, &client_id));
        assert!(start.elapsed() < Duration::from_secs(1), "{client_id}: {:?}", start.elapsed());
        match answer {
            Some(code) => {
                assert_eq!(code, ReasonCode::Success);
                connected.push((client_id, peer));
            }
            None => closed += 1,
        }
    }
    assert!(connected.len() >= 40 && connected.len() < 64, "{} are connected", connected.len());
    assert_eq!(closed, 200 - connected.len());
    for (client_id, peer) in &mut connected {
        peer.subscribe(&[client_id], QoS::AtMostOnce);
        let time = peer.round_trip(client_id);
        assert!(time < Duration::from_secs(1), "{client_id}: {time:?}");
    }
    let before = broker.processor_time();
    std::thread::sleep(Duration::from_secs(1)); // sleep: shows that it does nothing meanwhile
    let used = broker.processor_time() - before;
    assert!(used < Duration::from_millis(200), "{used:?} of processor time in a second of nothing to do");
    let shortage = "too few file descriptors";
    broker.wait_for_line(shortage);
    let lines = broker.lines().iter().filter(|line| line.contains(shortage)).count();
    assert!(lines < 10, "{lines} lines for {closed} connections");
    connected.truncate(30);
    let start = Instant::now();
    while Peer::raw(&broker).present(&Connect::new(V5, "afterwards")).is_none() {
        assert!(start.elapsed() < SOON, "nobody gets in after others have gone");
    }
    broker.assert_alive();
}

#[test]
fn nothing_is_written_to_standard_output() {
    let mut command = lapwing();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--set", "admin.listen="])
        .stdout(std::process::Stdio::piped());
    let mut broker = Broker::spawn(command);
    Peer::connect(&broker, V5, "client").ping();
    broker.signal("TERM");
    assert_eq!(broker.output(), "");
}
