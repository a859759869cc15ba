//! Attacks on the admin channel: it may be held up, what it is there for may not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::attack_on;
use super::broker::{Broker, SOON};

/// Where the log says that the admin channel is.
pub(super) fn address(broker: &Broker) -> SocketAddr {
    let line = broker.wait_for_line("admin channel on http://");
    let (_, rest) = line.split_once("http://").expect("an address");
    rest.split(';').next().and_then(|address| address.trim().parse().ok()).expect("an address")
}

/// Sends a request after which the connection ends; its answer.
pub(super) fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = connect(address);
    // It may answer before it has read all.
    let _ = stream.write_all(bytes.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, SOON).expect("it accepts");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.set_write_timeout(Some(SOON)).expect("a timeout");
    stream
}

/// Attacks a broker with an admin channel: where it is, and its token.
fn attack(growth: u64, attack: impl FnOnce(SocketAddr, &str)) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let arguments = ["--data", data.to_str().expect("a plain path"), "--set", "admin.listen=127.0.0.1:0"];
    attack_on(Broker::start(&arguments), growth, |broker| {
        let token = std::fs::read_to_string(Path::new(&data).join("admin-token")).expect("a file");
        attack(address(broker), token.trim());
    });
}

// [attack: admin-token-in-url]
// [attack: cross-site-request]
#[test]
fn a_token_in_the_address_is_none() {
    attack(32, |address, token| {
        let ask = |target: &str, header: &str| {
            exchange(
                address,
                &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n"),
            )
        };
        for target in [
            format!("/api/v1/status?token={token}"),
            format!("/api/v1/status?access_token={token}"),
            format!("/api/v1/status/{token}"),
            format!("http://{token}@localhost/api/v1/status"),
        ] {
            let answer = ask(&target, "");
            assert!(answer.starts_with("HTTP/1.1 401 "), "{target}: {answer}");
            assert!(!answer.contains(token), "{answer}");
        }
        let cookie = format!("Cookie: token={token}\r\n");
        assert!(ask("/api/v1/status", &cookie).starts_with("HTTP/1.1 401 "));
        let right = format!("Authorization: Bearer {token}\r\n");
        assert!(ask("/api/v1/status", &right).starts_with("HTTP/1.1 200 "));
    });
}

// [attack: admin-body]
#[test]
fn bodies_and_headers_of_any_size_are_refused() {
    attack(48, |address, token| {
        let post = |token: &str, rest: &str| {
            format!(
                "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\n{rest}"
            )
        };
        let body = "x".repeat(20_000_000);
        let sent = post(token, &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let chunks = format!("ffff\r\n{}\r\n", "x".repeat(0xffff)).repeat(100);
        let chunked = post(token, &format!("Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"));
        let headers = post(token, &format!("X: {}\r\n\r\n", "y".repeat(100_000)));
        let many = post(token, &("A: b\r\n".repeat(1000) + "\r\n"));
        // Without the token nothing of a body is looked at.
        let nobody = post("wrong", "Content-Length: 99999999999\r\n\r\nx");
        for (request, statuses) in [
            (&sent, &["413"][..]),
            (&chunked, &["413"]),
            (&headers, &["431", "400"]),
            (&many, &["431", "400"]),
            (&nobody, &["401"]),
        ] {
            // Where a connection is closed with bytes unread, the answer may be lost.
            let mut answered = 0;
            for _ in 0..5 {
                let answer = exchange(address, request);
                let is_refused = statuses.iter().any(|it| answer.starts_with(&format!("HTTP/1.1 {it} ")));
                assert!(answer.is_empty() || is_refused, "{answer}");
                answered += usize::from(is_refused);
            }
            assert!(answered > 0, "nobody is told why");
        }
        let ok = exchange(address, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert!(ok.starts_with("HTTP/1.1 200 "), "{ok}");
    });
}

/// A connection that never finishes its header holds a place of the channel until a limit; all of them together hold up
/// neither the clients of the broker nor, once they are gone, the administrator.
// [attack: admin-slow-headers], [attack: admin-connections]
#[test]
fn more_connections_than_there_are_places_and_none_finishes_a_header() {
    attack(48, |address, _| {
        let connect = |_| {
            // Where the channel has no place, the system keeps some waiting, and the others have no answer.
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
            stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: loc").ok()?;
            Some(stream)
        };
        let slow: Vec<_> = (0..1000).map_while(connect).collect();
        assert!(slow.len() >= 64, "{}", slow.len());
        drop(slow);
        let ok = exchange(address, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert!(ok.starts_with("HTTP/1.1 200 "), "{ok}");
    });
}

// [attack: dns-rebinding]
#[test]
fn pages_of_other_hosts_get_nothing() {
    attack(32, |address, token| {
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:18830", ""] {
            for path in ["/api/v1/status", "/api/v1/clients", "/metrics"] {
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
                );
                let answer = exchange(address, &request);
                assert!(
                    answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "),
                    "{answer}"
                );
                assert!(!answer.contains("access-control-allow-origin"), "{answer}");
            }
        }
    });
}
