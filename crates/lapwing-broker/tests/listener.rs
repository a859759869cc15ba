//! Several listeners: each client is known by the one that it came to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapwing_broker::hook::{Authenticator, Credentials, Hooks, Identity, Later, Verdict};
use lapwing_broker::{Address, Broker, Config, ListenerConfig, ListenerLimits};
use lapwing_proto::packet::ReasonCode;

/// Lets in who comes to one listener.
struct Door(&'static str);

impl Authenticator for Door {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        assert!(credentials.certificate.is_none());
        Some(if credentials.listener == self.0 {
            Verdict::Accept(Identity::default())
        } else {
            Verdict::Refuse(ReasonCode::NotAuthorized, "the wrong door".into())
        })
    }
}

/// The code of the CONNACK for a client of 3.1.1.
fn connack(port: u16) -> u8 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a").expect("a connection");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!(answer[..3], [0x20, 2, 0]);
    answer[3]
}

#[test]
fn an_authenticator_knows_the_listener() {
    let listener = |name: &str| ListenerConfig::new(name, Address::new("127.0.0.1", 0));
    let hooks = Hooks { authenticator: Arc::new(Door("back")), ..Hooks::default() };
    let listeners = vec![listener("front"), listener("back")];
    let broker = Broker::start(Config { listeners, hooks, ..Config::default() }).expect("a broker");
    let ports: Vec<_> = broker.listening().iter().map(Address::port).collect();
    assert_eq!(ports.iter().map(|&port| connack(port)).collect::<Vec<_>>(), [5, 0]);
    broker.shut_down().expect("a good end");
}

// [attack: connection-storm]
#[test]
fn a_listener_accepts_only_so_many_in_a_second() {
    let listener = |name: &str| ListenerConfig::new(name, Address::new("127.0.0.1", 0));
    let slow = ListenerLimits { connect_rate_maximum: Some(10), ..ListenerLimits::default() };
    let config = Config {
        listeners: vec![listener("slow"), listener("quick")],
        listener_limits: [("slow".into(), slow)].into(),
        ..Config::default()
    };
    let broker = Broker::start(config).expect("a broker");
    let ports: Vec<_> = broker.listening().iter().map(Address::port).collect();
    let begin = Instant::now();
    // The first burst, and ten more that wait to be accepted.
    for _ in 0..20 {
        assert_eq!(connack(ports[0]), 0);
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    let begin = Instant::now();
    let waits = TcpStream::connect(("127.0.0.1", ports[0])).expect("the system accepts it");
    assert_eq!(connack(ports[1]), 0, "the other listener is not held up");
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(waits);
    broker.shut_down().expect("a good end");
}

// [attack: connection-storm]
#[test]
fn a_listener_has_only_so_many_connections() {
    let small = ListenerLimits { connections_maximum: Some(1), ..ListenerLimits::default() };
    let config = Config {
        listeners: vec![ListenerConfig::new("small", Address::new("127.0.0.1", 0))],
        listener_limits: [("small".into(), small)].into(),
        ..Config::default()
    };
    let broker = Broker::start(config).expect("a broker");
    let port = broker.listening()[0].port();
    let dial = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the system accepts it");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    };
    let mut first = dial();
    first.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a").expect("a connection");
    first.read_exact(&mut [0; 4]).expect("a CONNACK");
    // Closed, or reset since it was not read.
    let answer = dial().read(&mut [0]);
    assert!(!matches!(answer, Ok(1..)), "{answer:?}");
    first.write_all(b"\xe0\0").expect("a connection");
    assert_eq!(first.read(&mut [0]).expect("an end"), 0);
    drop(first);
    let is_let_in = || {
        let mut stream = dial();
        let connect = stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a");
        connect.is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
    };
    let begin = Instant::now();
    while !is_let_in() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the place is never free");
    }
    broker.shut_down().expect("a good end");
}
