//! Attacks by way of WebSocket: its request, its frames, and MQTT that does not fit them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lapwing_proto::packet::{Connect, Packet};

use super::broker::Broker;
use super::broker::peer::{Peer, encoded};
use super::{V311, attack_on};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const FIN: u8 = 0x80;
const BINARY: u8 = 2;
const PING: u8 = 9;

/// Attacks a broker that listens for WebSocket as well.
fn attack(settings: &[&str], growth: u64, attack: impl FnOnce(&Broker, SocketAddr)) {
    let mut arguments = vec!["--listen", "ws://127.0.0.1:0/mqtt"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    attack_on(Broker::start(&arguments), growth, |broker| attack(broker, broker.address_of("ws")));
}

/// An open WebSocket, on which nothing of MQTT has come yet.
fn open(address: SocketAddr) -> Peer {
    let mut peer = Peer::raw_to(address);
    peer.try_send_bytes(format!("{REQUEST}Sec-WebSocket-Protocol: mqtt\r\n\r\n").as_bytes())
        .expect("the broker reads");
    let answer = peer.read_until(|bytes| bytes.ends_with(b"\r\n\r\n"));
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    peer
}

/// A frame with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// A client that is let in.
fn connected(address: SocketAddr, client_id: &str) -> Peer {
    let mut peer = open(address);
    let connect = encoded(&Packet::Connect(Connect::new(V311, client_id)), V311);
    peer.try_send_bytes(&frame(FIN | BINARY, &connect)).expect("the broker reads");
    assert_eq!(peer.read_until(|bytes| bytes.len() >= 6), [0x82, 4, 0x20, 2, 0, 0]);
    peer
}

// [attack: websocket-frame]
#[test]
fn frames_that_there_are_not() {
    attack(&[], 32, |_, address| {
        let endless = [&[FIN | BINARY, 0xFF][..], &(1_u64 << 63).to_be_bytes(), &[0; 4]].concat();
        let padded = [&[FIN | BINARY, 0xFF][..], &5_u64.to_be_bytes(), &[0; 4]].concat();
        let unfinished = [frame(BINARY, b""), frame(FIN | BINARY, b"")].concat();
        let long_ping = [&[FIN | PING, 0xFE, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat();
        for (what, bytes, code) in [
            ("text", frame(FIN | 1, b"\x10\x0d"), 1003_u16),
            ("no mask", vec![FIN | BINARY, 1, 0x10], 1002),
            ("a length of 2^63", endless, 1002),
            ("a length with zeros before it", padded, 1002),
            ("a ping in pieces", frame(PING, b""), 1002),
            ("a ping that is too long", long_ping, 1002),
            ("a piece of nothing", frame(FIN, b""), 1002),
            ("a message within a message", unfinished, 1002),
            ("an opcode that there is not", frame(FIN | 7, b""), 1002),
            ("a reserved bit", frame(FIN | 0x40 | BINARY, b""), 1002),
            ("half a code", frame(FIN | 8, &[3]), 1002),
        ] {
            for is_connected in [false, true] {
                let mut peer = if is_connected { connected(address, "wrong") } else { open(address) };
                // A part of it may make the broker close the connection.
                let _ = peer.try_send_bytes(&bytes);
                let answer = peer.read_until(|_| false);
                let close = [&[0x88, 2][..], &code.to_be_bytes()].concat();
                assert_eq!(answer, close, "{what}, connected: {is_connected}");
            }
        }
    });
}

/// MQTT in a WebSocket is a stream of bytes: what a packet says of its length is true or not, whatever the frames say.
// [attack: websocket-short-frame]
#[test]
fn packets_that_are_longer_than_their_frames() {
    attack(&["limits.connect_timeout_s=1"], 32, |broker, address| {
        // A frame with a PUBLISH of which the length says more: the rest is awaited, not read beyond the frame.
        let mut peer = connected(address, "short");
        peer.try_send_bytes(&frame(FIN | BINARY, b"\x30\x64\0\x01t")).unwrap();
        peer.try_send_bytes(&frame(FIN | BINARY, &[b'x'; 97])).unwrap();
        peer.try_send_bytes(&frame(FIN | BINARY, b"\xc0\0")).unwrap();
        assert_eq!(peer.read_until(|bytes| bytes.len() >= 4), [0x82, 2, 0xD0, 0]);
        // Each byte of a CONNECT in a frame of its own, and frames of nothing between them.
        let mut peer = open(address);
        let connect = encoded(&Packet::Connect(Connect::new(V311, "bytes")), V311);
        for byte in connect {
            peer.try_send_bytes(&[frame(FIN | BINARY, &[byte]), frame(FIN | BINARY, b"")].concat()).unwrap();
        }
        assert_eq!(peer.read_until(|bytes| bytes.len() >= 6), [0x82, 4, 0x20, 2, 0, 0]);
        // A frame that ends in the middle of a string, and the end of the connection.
        let mut peer = open(address);
        peer.try_send_bytes(&frame(FIN | BINARY, b"\x10\x0d\0\x04MQ")).unwrap();
        peer.finish();
        peer.wait_for_close();
        // And one that never goes on.
        let mut peer = open(address);
        peer.try_send_bytes(&frame(FIN | BINARY, b"\x10\x0d\0\x04MQ")).unwrap();
        peer.wait_for_close();
        broker.wait_for_line("no CONNECT in time");
    });
}

// [attack: websocket-announced-length]
#[test]
fn frames_that_are_announced_and_never_come() {
    attack(&[], 32, |_, address| {
        let announced =
            [&[FIN | BINARY, 0xFF][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4], &[0x30]].concat();
        let mut peers: Vec<_> = (0..500).map(|index| connected(address, &format!("{index}"))).collect();
        for peer in &mut peers {
            peer.try_send_bytes(&announced).unwrap();
        }
        // What comes in such a frame is read as it comes: a PINGREQ behind the rest of a PUBLISH to `t`.
        for peer in &mut peers {
            peer.try_send_bytes(b"\x03\0\x01t\xc0\0").unwrap();
            assert_eq!(peer.read_until(|bytes| bytes.len() >= 4), [0x82, 2, 0xD0, 0]);
        }
    });
}

// [attack: websocket-ping-flood]
#[test]
fn pings_without_end_whose_answers_nobody_reads() {
    attack(&["limits.outbox_bytes_maximum=1000000"], 32, |_, address| {
        let mut peer = connected(address, "deaf");
        let pings = frame(FIN | PING, &[7; 125]).repeat(1000);
        peer.flood(&pings, Duration::from_millis(300), 50_000_000);
        // Of those that came together the last one is answered, however many there were.
        let mut polite = connected(address, "polite");
        polite.try_send_bytes(&frame(FIN | PING, b"there?")).unwrap();
        assert_eq!(polite.read_until(|bytes| bytes.len() >= 8), b"\x8a\x06there?");
    });
}

// [attack: websocket-slow-request]
#[test]
fn requests_that_drip_end_at_the_connect_timeout() {
    attack(&["limits.connect_timeout_s=1"], 32, |broker, address| {
        let mut peers: Vec<_> = (0..300).map(|_| Peer::raw_to(address)).collect();
        let start = Instant::now();
        // A byte now and then gains no time.
        for byte in REQUEST.bytes().take(20) {
            for peer in &mut peers {
                let _ = peer.try_send_bytes(&[byte]);
            }
        }
        for peer in &mut peers {
            peer.wait_for_close();
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(6), "{waited:?}");
        broker.wait_for_line("in time");
    });
}

// [attack: websocket-header-flood]
#[test]
fn requests_without_end_are_refused() {
    attack(&["limits.connect_timeout_s=1"], 32, |_, address| {
        let line = "X-Filler: 0123456789012345678901234567890123456789\r\n";
        let long = format!("GET /mqtt HTTP/1.1\r\nHost: x\r\nCookie: {}", "c".repeat(100_000));
        for (request, status) in [
            (format!("{REQUEST}{}", line.repeat(10_000)), "431"),
            (long, "431"),
            (format!("{REQUEST}{}\r\n", "A: b\r\n".repeat(100)), "4"),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(5000)), "4"),
        ] {
            // Where a connection is closed with bytes unread, the answer may be lost.
            let mut answered = 0;
            for _ in 0..10 {
                let mut peer = Peer::raw_to(address);
                // The answer may come before all is written.
                let _ = peer.try_send_bytes(request.as_bytes());
                let answer = String::from_utf8(peer.read_until(|_| false)).unwrap();
                assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
                answered += usize::from(!answer.is_empty());
            }
            assert!(answered > 0, "nobody is told why");
        }
    });
}

// [attack: websocket-subprotocol]
#[test]
fn other_subprotocols_and_other_requests_are_refused() {
    attack(&[], 32, |_, address| {
        for (request, status) in [
            (format!("{REQUEST}\r\n"), "400"),
            (format!("{REQUEST}Sec-WebSocket-Protocol: wamp, chat\r\n\r\n"), "400"),
            (format!("{REQUEST}Sec-WebSocket-Protocol: mqttv9\r\n\r\n"), "400"),
            (REQUEST.replace("/mqtt", "/../mqtt") + "\r\n", "404"),
            (REQUEST.replace("13\r\n", "8\r\n") + "\r\n", "426"),
            (REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "AA==") + "\r\n", "400"),
            (REQUEST.replace("GET", "POST") + "\r\n", "426"),
            (REQUEST.replace("Host: x\r\n", "") + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", "400"),
        ] {
            let mut peer = Peer::raw_to(address);
            peer.try_send_bytes(request.as_bytes()).unwrap();
            let answer = String::from_utf8(peer.read_until(|_| false)).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
    });
}
