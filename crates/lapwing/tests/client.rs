//! `lapwing pub` and `lapwing sub` as processes.

mod broker;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use broker::peer::Peer;
use broker::{Broker, failure, lapwing, run};
use lapwing_proto::packet::{ProtocolVersion, QoS};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A command of the program that talks to `broker`.
fn command(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = lapwing();
    command.args(arguments).env("LAPWING_URL", format!("tcp://{}", broker.address()));
    command
}

fn output(broker: &Broker, arguments: &[&str]) -> Output {
    command(broker, arguments).output().expect("the program starts")
}

fn stdout(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Publishes what is given to it on standard input.
fn publish(broker: &Broker, arguments: &[&str], payload: &[u8]) -> Output {
    let mut child = piped(broker, arguments);
    child.stdin.take().expect("a pipe").write_all(payload).expect("the program reads");
    child.wait_with_output().expect("its output")
}

fn piped(broker: &Broker, arguments: &[&str]) -> Child {
    let mut command = command(broker, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

// 3.1.1 [MQTT-7.1.2-1]
#[test]
fn a_payload_comes_as_it_is_where_no_terminal_is() {
    let broker = Broker::start(&[]);
    let payload = b"\x1b[2J\x00\xff\r";
    stdout(publish(&broker, &["pub", "state", "-", "-r", "-q", "1"], payload));
    let sub =
        |arguments: &[&str]| stdout(output(&broker, &[&["sub", "state", "-n", "1"], arguments].concat()));
    assert_eq!(sub(&[]), [&payload[..], b"\n"].concat());
    assert_eq!(sub(&["-v"]), [b"state ", &payload[..], b"\n"].concat());
    assert_eq!(sub(&["-N"]), payload);
    assert_eq!(sub(&["--no-newline", "--verbose"]), [b"state ", &payload[..]].concat());
}

// [attack: log-injection]
#[test]
fn on_a_terminal_nothing_steers_it() {
    let broker = Broker::start(&[]);
    stdout(publish(&broker, &["pub", "state", "-", "-r", "-q", "1"], b"\x1b[2J\tred"));
    // `script` runs a command on a terminal of its own.
    let mut script = Command::new("script");
    let line = format!("{} sub state -n 1", env!("CARGO_BIN_EXE_lapwing"));
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    script.env("LAPWING_URL", format!("tcp://{}", broker.address()));
    let Ok(output) = script.output() else { return eprintln!("not tested: there is no `script` here") };
    assert_eq!(String::from_utf8_lossy(&stdout(output)).trim_end(), "\\x1b[2J\tred");
}

#[test]
fn sub_ends_when_the_broker_ends() {
    let broker = Broker::start(&[]);
    let mut child = piped(&broker, &["sub", "#", "-N"]);
    let mut peer = Peer::connect(&broker, V5, "publisher");
    // Its subscription is there once something comes.
    let mut first = [0; 1];
    std::thread::scope(|scope| {
        let out = child.stdout.as_mut().expect("a pipe");
        let reader = scope.spawn(move || out.read_exact(&mut first).map(|()| first));
        while !reader.is_finished() {
            peer.publish("tick", b".");
            peer.ping();
        }
        assert_eq!(reader.join().expect("no panic").expect("a message"), *b".");
    });
    broker.signal("TERM");
    let output = child.wait_with_output().expect("its output");
    let error = failure(&output, 1);
    assert!(error.contains("the server ended the connection: server shutting down"), "{error}");
}

#[test]
fn a_wrong_command_line_is_found_before_connecting() {
    // Nobody listens on port 1.
    let sub = |arguments: &[&str]| run(&[&["sub", "--url", "127.0.0.1:1"], arguments].concat());
    let error = failure(&sub(&["fine/#", "a/#/b"]), 1);
    assert!(error.contains("'a/#/b' is no topic filter"), "{error}");
    let error = failure(&sub(&["#", "-n", "0"]), 2);
    assert!(error.contains("'0'") && error.contains("--count"), "{error}");
    let error = failure(&run(&["pub", "--url", "127.0.0.1:1", "a/+", "x"]), 1);
    assert!(error.contains("'a/+' is no topic name"), "{error}");
    assert!(failure(&sub(&["#"]), 1).contains("is a broker running there?"));
}

#[test]
fn an_empty_variable_is_none() {
    let with = |url: &str| {
        let mut command = lapwing();
        command.args(["pub", "a/+", "x"]).env("LAPWING_URL", url).env("LAPWING_PASSWORD", "");
        command.output().expect("the program starts")
    };
    assert!(failure(&with(""), 1).contains("is no topic name"));
    assert!(failure(&with("ftp://x"), 2).contains("scheme 'ftp'"));
}

#[test]
fn another_protocol_at_the_other_end_is_said() {
    for greeting in [&b""[..], b"SSH-2.0-Other\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connect = [0; 2];
            stream.read_exact(&mut connect).unwrap();
            stream.write_all(greeting).unwrap();
        });
        let error = failure(&run(&["pub", "a", "x", "--url", &address]), 1);
        assert!(error.contains("is this an MQTT broker?") && error.contains(&address), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn a_large_message_is_published_or_refused_with_the_limit() {
    let large = vec![b'x'; 65 << 20];
    let broker = Broker::with_settings(&["limits.packet_size_maximum=100000000"]);
    let mut peer = Peer::connect(&broker, V5, "subscriber");
    peer.subscribe(&["large"], QoS::AtMostOnce);
    for qos in ["0", "1"] {
        stdout(publish(&broker, &["pub", "large", "-", "-q", qos], &large));
    }
    let broker = Broker::start(&[]);
    for qos in ["0", "1"] {
        let error = failure(&publish(&broker, &["pub", "large", "-", "-q", qos], &large), 1);
        assert!(error.contains("the server takes at most 8388608"), "{error}");
    }
}

#[test]
fn help_shows_no_empty_default() {
    for command in ["pub", "sub"] {
        let help = String::from_utf8(stdout(run(&[command, "--help"]))).unwrap();
        assert!(!help.contains("[default: ]") && !help.contains("[default: \"\"]"), "{help}");
        assert!(help.contains("LAPWING_URL") && help.contains("visible in the process list"), "{help}");
    }
}
