//! Several listeners: each client is known by the one that it came to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use lapwing_broker::hook::{Authenticator, Credentials, Hooks, Identity, Later, Verdict};
use lapwing_broker::{Address, Broker, Config, ListenerConfig};
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
