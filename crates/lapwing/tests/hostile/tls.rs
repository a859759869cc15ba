//! Attacks by way of TLS, before and within its handshake.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use lapwing_net::{Address, BlockingStream, ClientTls, Scheme};

use super::attack_on;
use super::broker::peer::Peer;
use super::broker::{Broker, SOON};
use super::certificate::{Authority, Pair};

/// A broker that listens for TLS as well, with files of an authority.
struct Server {
    authority: Authority,
    pair: Pair,
}

impl Server {
    fn new() -> Self {
        let authority = Authority::new();
        let pair = authority.certify("server", &["127.0.0.1"], 1);
        Self { authority, pair }
    }

    /// Attacks it; `more` is about the listener.
    fn attack(&self, settings: &[&str], more: &str, growth: u64, attack: impl FnOnce(&Broker, SocketAddr)) {
        let config = self.authority.folder().join("lapwing.toml");
        let text = format!(
            "[admin]\nlisten = ''\n[listeners.plain]\nbind = 'tcp://127.0.0.1:0'\n[listeners.secure]\n\
             bind = 'tls://127.0.0.1:0'\n[listeners.secure.tls]\ncertificate = {:?}\nkey = {:?}\n{more}",
            self.pair.certificate, self.pair.key
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = super::broker::lapwing();
        command.arg("serve").arg("--config").arg(&config);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let broker = Broker::spawn(command);
        attack_on(broker, growth, |broker| attack(broker, broker.address_of("tls")));
    }

    fn trusting(&self) -> ClientTls {
        ClientTls { ca: Some(self.authority.file()), ..ClientTls::default() }
    }
}

/// What comes of a client of 3.1.1: whether it is let in.
fn is_let_in(address: SocketAddr, tls: &ClientTls) -> bool {
    let address = Address::with_scheme(Scheme::Tls, "127.0.0.1", address.port());
    let Ok(mut stream) = BlockingStream::dial_with(&address, SOON, tls) else { return false };
    if stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a").is_err() {
        return false;
    }
    let mut answer = [0; 4];
    matches!(stream.read_within(&mut answer, Some(SOON)), Ok(Some(4))) && answer == [0x20, 2, 0, 0]
}

/// The first message of a handshake, as a client of TLS writes it.
fn client_hello(tls: ClientTls) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address =
        Address::with_scheme(Scheme::Tls, "127.0.0.1", listener.local_addr().expect("an address").port());
    let client = std::thread::spawn(move || BlockingStream::dial_with(&address, SOON, &tls).map(drop));
    let (mut stream, _) = listener.accept().expect("a client");
    let mut header = [0; 5];
    stream.read_exact(&mut header).expect("a handshake");
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body).expect("a handshake");
    drop(stream);
    assert!(client.join().expect("nobody panics").is_err());
    [&header[..], &body].concat()
}

// [attack: tls-garbage]
#[test]
fn what_is_no_tls_is_closed() {
    let server = Server::new();
    let hello = client_hello(server.trusting());
    server.attack(&[], "", 32, |_, address| {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize
        };
        let attack = |round: usize| {
            let mut bytes = hello.clone();
            match round % 3 {
                0 => bytes = (0..200).map(|_| next() as u8).collect(),
                1 => {
                    let (place, value) = (next() % bytes.len(), next() as u8);
                    bytes[place] ^= value | 1;
                }
                _ => bytes.truncate(next() % bytes.len()),
            }
            let mut peer = Peer::raw_to(address);
            // The broker may have closed the connection already.
            let _ = peer.try_send_bytes(&bytes);
            peer.finish();
            peer
        };
        let mut peers: Vec<_> = (0..300).map(attack).collect();
        peers.iter_mut().for_each(Peer::wait_for_close);
        assert!(is_let_in(address, &server.trusting()));
    });
}

// [attack: tls-half-open]
#[test]
fn a_thousand_handshakes_that_stop_half_way() {
    let server = Server::new();
    let hello = client_hello(server.trusting());
    server.attack(&["limits.connect_timeout_s=3"], "", 64, |broker, address| {
        let start = Instant::now();
        let mut peers: Vec<_> = (0..1000)
            .map(|index| {
                let mut peer = Peer::raw_to(address);
                // Some say nothing, some begin, and some have the answer of the broker, and keys made.
                let count = [0, 5, hello.len(), hello.len()][index % 4];
                peer.try_send_bytes(&hello[..count]).unwrap();
                peer
            })
            .collect();
        assert!(is_let_in(address, &server.trusting()), "others still get in");
        for peer in &mut peers {
            peer.wait_for_close();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        broker.wait_for_line("in time");
    });
}

/// A handshake message may say that it has 16 MiB: nothing is kept for it beyond what a handshake needs.
// [attack: tls-oversize-handshake]
#[test]
fn handshake_messages_of_many_megabytes_are_refused_early() {
    let server = Server::new();
    server.attack(&["limits.connect_timeout_s=5"], "", 48, |_, address| {
        let record = [&[0x16, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
        let mut first = record.clone();
        first[5..9].copy_from_slice(&[1, 0xFF, 0xFF, 0xFF]);
        let mut peers: Vec<_> = (0..100).map(|_| Peer::raw_to(address)).collect();
        for peer in &mut peers {
            let mut is_refused = peer.try_send_bytes(&first).is_err();
            for _ in 0..64 {
                is_refused |= peer.try_send_bytes(&record).is_err();
            }
            // A megabyte may be on its way before this end learns of it.
            let start = Instant::now();
            peer.wait_for_close();
            assert!(is_refused || start.elapsed() < Duration::from_secs(4), "it waits for more");
        }
    });
}

// [attack: tls-client-certificate]
#[test]
fn certificates_that_do_not_hold_let_nobody_in() {
    let server = Server::new();
    let authority = &server.authority;
    let other = Authority::new();
    let crl = authority.revoke(&[3]);
    let more = format!("client_ca = {:?}\ncrl = {crl:?}\n", authority.file());
    let showing = |pair: &Pair| ClientTls {
        certificate: Some((pair.certificate.clone(), pair.key.clone())),
        ..server.trusting()
    };
    let good = authority.certify("good", &[], 2);
    let wrong = [
        ("revoked", authority.certify("revoked", &[], 3)),
        ("expired", authority.certify_until("expired", &[], 4, 2001)),
        ("of another authority", other.certify("stranger", &[], 5)),
    ];
    server.attack(&[], &more, 32, |_, address| {
        for round in 0..10 {
            assert!(is_let_in(address, &showing(&good)), "{round}");
            for (what, pair) in &wrong {
                assert!(!is_let_in(address, &showing(pair)), "{what}");
            }
            assert!(!is_let_in(address, &server.trusting()), "without a certificate");
        }
    });
}
