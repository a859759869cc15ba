//! A running broker tells what it has done.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lapwing_broker::{Address, Broker, Config, ListenerConfig};
use lapwing_proto::packet::{QoS, ReasonCode};

/// Sends `bytes`, and waits for the answer.
fn ask(stream: &mut TcpStream, bytes: &[u8], answer: &[u8]) {
    stream.write_all(bytes).expect("a connection");
    let mut buffer = vec![0; answer.len()];
    stream.read_exact(&mut buffer).expect("an answer");
    assert_eq!(buffer, answer);
}

#[test]
fn a_running_broker_counts() {
    let config = Config {
        listeners: vec![ListenerConfig::new("test", Address::new("127.0.0.1", 0))],
        ..Config::default()
    };
    let broker = Broker::start(config).unwrap();
    let port = broker.listening()[0].port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ask(&mut stream, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a", b"\x20\x02\0\0");
    ask(&mut stream, b"\x32\x06\0\x01t\0\x01x", b"\x40\x02\0\x01");
    // When this is answered, the turn of the others is over.
    ask(&mut stream, b"\xc0\0", b"\xd0\0");
    let stat = broker.stat();
    assert_eq!((stat.connections, stat.sessions), (1, 1));
    assert_eq!((stat.connections_accepted, stat.clients_connected), (1, 1));
    assert_eq!(stat.messages_received.get(QoS::AtLeastOnce), 1);
    assert_eq!(stat.messages_dropped.no_subscriber, 1);
    assert!(stat.bytes_received >= 23 && stat.bytes_sent >= 8);
    assert_eq!(stat.disconnected_by_broker.get(ReasonCode::ServerShuttingDown), 0);
    drop(stream);
    broker.shut_down().unwrap();
}
