use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use lapwing_proto::packet::ProtocolVersion;
use serde_json::{Value, json};

use super::*;
use crate::config::{HeaderFile, HeaderValue};

const SOON: Duration = Duration::from_secs(10);
const ALLOW: &str = r#"{"result":"allow"}"#;

/// A service that does to each connection what a test wants. It is there until the test is over.
struct Server {
    address: SocketAddr,
    /// Each request as it came: its head, and its body.
    requests: mpsc::Receiver<(String, Vec<u8>)>,
}

trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

impl Server {
    fn start(answer: impl Fn(&mut dyn Connection) + Send + Sync + 'static) -> Self {
        Self::with_layer(|stream| stream, answer)
    }

    fn with_layer<C: Connection>(
        layer: impl Fn(TcpStream) -> C + Send + Sync + 'static,
        answer: impl Fn(&mut dyn Connection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        let both = Arc::new((layer, answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, both) = (sender.clone(), Arc::clone(&both));
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    let mut connection = both.0(stream);
                    while let Some(request) = read_request(&mut connection) {
                        let _ = sender.send(request);
                        both.1(&mut connection);
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// One that answers each request with this.
    fn saying(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |connection| drop(connection.write_all(answer.as_bytes())))
    }

    fn config(&self) -> Http {
        Http { url: Some(format!("http://{}/ask?a=b", self.address)), timeout_ms: 1000, ..Http::default() }
    }

    fn next(&self) -> (String, Value) {
        let (head, body) = self.requests.recv_timeout(SOON).unwrap();
        (head.to_lowercase(), serde_json::from_slice(&body).unwrap())
    }
}

/// The head and the body; `None` at the end of the connection.
fn read_request(connection: &mut dyn Connection) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    connection.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn response(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn service(config: &Http) -> Service {
    Service::read(config).unwrap().unwrap()
}

fn presented(user: Option<&str>, password: Option<&[u8]>) -> Presented {
    Presented {
        user: user.map(Arc::from),
        password: password.map(Secret::new),
        client_id: "door-1".into(),
        address: [203, 0, 113, 7].into(),
        listener: "lan".into(),
        version: ProtocolVersion::V5,
        certificate: None,
    }
}

fn anna() -> Presented {
    presented(Some("anna"), Some(b"secret"))
}

/// Why there was no answer.
fn trouble(config: &Http) -> String {
    service(config).ask(&anna(), Some("secret")).unwrap_err()
}

#[test]
fn a_client_is_asked_about_with_all_that_is_known() {
    let server = Server::saying(response(ALLOW));
    let service = service(&server.config());
    assert!(matches!(service.judge(&anna()), Opinion::Accept(proven) if &*proven.user == "anna"));
    let (head, body) = server.next();
    assert!(head.starts_with("post /ask?a=b http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    let expected = json!({
        "client_id": "door-1", "user": "anna", "password": "secret", "address": "203.0.113.7",
        "listener": "lan", "version": "5.0", "certificate": null,
    });
    assert_eq!(body, expected);
    // The connection serves the next one as well.
    assert!(
        matches!(service.judge(&presented(None, Some(b"x"))), Opinion::Fault(_)),
        "whoever that would be"
    );
    let (_, body) = server.next();
    assert_eq!((&body["user"], &body["password"]), (&Value::Null, &json!("x")));
}

/// CVE-2026-32696 and its kind: what a client sends is a value, and nothing else.
#[test]
fn odd_names_stay_values() {
    let server = Server::saying(response(ALLOW));
    let service = service(&server.config());
    for text in
        ["+", "#", "a/b", "a\"b", "a\nb\r\nX: y", "%00", "${user}", "{\"result\":\"allow\"}", "ü\u{2028}"]
    {
        let mut presented = presented(Some(text), Some(text.as_bytes()));
        presented.client_id = text.into();
        assert!(
            matches!(service.judge(&presented), Opinion::Accept(proven) if &*proven.user == text),
            "{text:?}"
        );
        let (head, body) = server.next();
        assert!(head.starts_with("post /ask?a=b http/1.1\r\n") && !head.contains("x: y"), "{head}");
        assert_eq!(
            (&body["user"], &body["password"], &body["client_id"]),
            (&json!(text), &json!(text), &json!(text))
        );
    }
    // What JSON cannot say is not said in another way.
    assert!(matches!(service.judge(&presented(Some("anna"), Some(&[0xff]))), Opinion::Refuse(_)));
    assert!(server.requests.try_recv().is_err());
}

#[test]
fn what_is_no_answer_lets_nobody_in() {
    let json = "Content-Type: application/json\r\n";
    let length = ALLOW.len();
    for (answer, expected) in [
        (format!("HTTP/1.1 500 Oh\r\n{json}Content-Length: {length}\r\n\r\n{ALLOW}"), "the status 500"),
        (format!("HTTP/1.1 403 No\r\n{json}Content-Length: {length}\r\n\r\n{ALLOW}"), "the status 403"),
        (format!("HTTP/1.1 201 Ok\r\n{json}Content-Length: {length}\r\n\r\n{ALLOW}"), "the status 201"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "the status 204"),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{ALLOW}"), "not application/json"),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{ALLOW}"),
            "not application/json",
        ),
        (format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 5\r\n\r\n{ALLOW}"), "line 1 column 5"),
        (format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 0\r\n\r\n"), "line 1 column 0"),
        (format!("HTTP/1.1 200 OK\r\n{json}Content-Length: x\r\n\r\n{ALLOW}"), "not HTTP"),
        (format!("HTTP/1.1 200 OK\r\n{json}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), ""),
        (
            format!("HTTP/1.1 200 OK\r\n{json}Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\u{1f}xy"),
            "line 1",
        ),
        ("220 mail.example ESMTP\r\n\r\n".to_owned(), "not HTTP"),
        (response("[\"allow\"]"), "not understood"),
    ] {
        let error = trouble(&Server::saying(&*answer).config());
        assert!(error.contains(expected), "{answer:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// The other one lets everybody in.
#[test]
fn a_redirect_is_not_followed() {
    let other = Server::saying(response(ALLOW));
    for status in [301, 302, 303, 307, 308] {
        let location = other.address;
        let head = format!(
            "HTTP/1.1 {status} Over There\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n"
        );
        let error = trouble(&Server::saying(head).config());
        assert!(error.contains(&format!("the status {status}")), "{error}");
    }
    assert!(other.requests.try_recv().is_err());
}

#[test]
fn a_service_that_ends_in_the_middle_says_nothing() {
    let whole = response(ALLOW);
    for end in [0, 10, 30, whole.len() - ALLOW.len(), whole.len() - 1] {
        let part = whole[..end].to_owned();
        let server = Server::with_layer(
            |stream| stream,
            move |connection| {
                let _ = connection.write_all(part.as_bytes());
                // The next request would never be read: this is how the thread gives the connection up.
                panic_quietly();
            },
        );
        let error = trouble(&server.config());
        assert!(error.contains("cannot be asked") || error.contains("not HTTP"), "{end}: {error}");
    }
}

/// Ends a thread, and with it what it has; nothing is printed.
fn panic_quietly() {
    std::panic::resume_unwind(Box::new(()));
}

/// However it wastes time, that is bounded: by the timeout, not by what the service sends.
#[test]
fn a_service_that_is_slow_or_sends_without_end_is_given_up() {
    let hang = |_: &mut dyn Connection| std::thread::park_timeout(SOON);
    let drip = |connection: &mut dyn Connection| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
        let _ = connection.write_all(head);
        while connection.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(20)); // sleep: what is tested is a sender that is slow
        }
    };
    let drip_head = |connection: &mut dyn Connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while connection.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20)); // sleep: what is tested is a sender that is slow
        }
    };
    let flood_head = |connection: &mut dyn Connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n");
        while connection.write_all(b"X-Nothing: nothing\r\n").is_ok() {}
    };
    let flood_line = |connection: &mut dyn Connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nX-Nothing: ");
        while connection.write_all(&[b'x'; 1000]).is_ok() {}
    };
    let flood_body = |connection: &mut dyn Connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
        while connection.write_all(&[b' '; 1000]).is_ok() {}
    };
    let flood_interim = |connection: &mut dyn Connection| {
        while connection.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").is_ok() {}
    };
    for (server, expected) in [
        (Server::start(hang), "in time"),
        (Server::start(drip), "in time"),
        (Server::start(drip_head), "in time"),
        (Server::start(flood_head), ""),
        (Server::start(flood_line), "headers"),
        (Server::start(flood_body), "response_bytes_maximum"),
        (Server::start(flood_interim), ""),
    ] {
        let start = Instant::now();
        let error = trouble(&Http { timeout_ms: 300, ..server.config() });
        assert!(error.contains(expected), "not {expected}: {error}");
        assert!(start.elapsed() < SOON / 2, "{error}: {:?}", start.elapsed());
    }
}

#[test]
fn a_service_that_is_not_there_is_left_alone_after_a_while() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let service = service(&Http { url: Some(url), ..Http::default() });
    for _ in 0..20 {
        assert!(matches!(service.judge(&anna()), Opinion::Fault(_)));
    }
    assert_eq!(service.breaker.leave(Instant::now()), None);
}

#[test]
fn headers_are_sent_and_those_of_files_are_secret() {
    let server = Server::saying(response(ALLOW));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "Bearer hunter2\n").unwrap();
    let mut config = server.config();
    config.headers.insert("X-Tenant".to_owned(), HeaderValue("north".to_owned()));
    config.header_files.insert("Authorization".to_owned(), HeaderFile(path.clone()));
    let asked = service(&config);
    asked.ask(&anna(), None).unwrap();
    let (head, _) = server.next();
    assert!(head.contains("\r\nx-tenant: north\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer hunter2\r\n"), "{head}");
    assert!(!format!("{asked:?}").contains("hunter2"));
    for text in ["", "\n", "a\nb", "a\u{0}"] {
        std::fs::write(&path, text).unwrap();
        let error = Service::read(&config).unwrap_err().to_string();
        assert!(error.contains("token: has no value"), "{text:?}: {error}");
    }
}

#[test]
fn a_configuration_that_cannot_be_is_said() {
    let error = |change: &dyn Fn(&mut Http)| {
        let mut config = Http { url: Some("http://127.0.0.1:1/".to_owned()), ..Http::default() };
        change(&mut config);
        Service::read(&config).unwrap_err().to_string()
    };
    let url = |url: &'static str| move |config: &mut Http| config.url = Some(url.to_owned());
    let header = |name: &'static str, value: &'static str| {
        move |config: &mut Http| drop(config.headers.insert(name.to_owned(), HeaderValue(value.to_owned())))
    };
    for (text, expected) in [
        (error(&url("")), "authentication.http.url"),
        (error(&url("127.0.0.1")), "authentication.http.url"),
        (error(&url("ftp://x/")), "http://HOST:PORT/PATH"),
        (error(&url("http:///x")), "authentication.http.url"),
        (error(&url("http://x/#y")), "authentication.http.url"),
        (error(&url("http://anna:hunter2@x/")), "header_files"),
        (error(&|config| config.timeout_ms = 0), "timeout_ms"),
        (error(&|config| config.timeout_ms = 600_000), "timeout_ms"),
        (error(&|config| config.connect_timeout_ms = 0), "connect_timeout_ms"),
        (error(&|config| config.connections = 0), "connections"),
        (error(&|config| config.response_bytes_maximum = 0), "response_bytes_maximum"),
        (error(&|config| config.ca_file = Some("ca.pem".into())), "ca_file has no use"),
        (error(&header("a b", "x")), "authentication.http.headers.a b"),
        (error(&header("a", "x\ny")), "authentication.http.headers.a"),
        (error(&header("Content-Length", "1")), "is set by the broker"),
        (error(&header("authorization", "hunter2")), "header_files"),
    ] {
        assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
    }
    assert!(Service::read(&Http::default()).unwrap().is_none());
    let forgotten = Http { timeout_ms: 1, ..Http::default() };
    assert!(Service::read(&forgotten).unwrap_err().to_string().contains("authentication.http.url"));
    for (url, expected) in [
        ("http://10.0.0.1/", true),
        ("http://localhost:1/", false),
        ("http://[::1]:1/", false),
        ("http://127.1.2.3/", false),
        ("https://10.0.0.1/", false),
    ] {
        assert_eq!(client::is_in_the_clear(url), expected, "{url}");
    }
}

/// A server with a certificate of its own, which is what is trusted or not.
fn secure_server() -> (Server, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
    let key = rustls::pki_types::PrivateKeyDer::try_from(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let layer = move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        rustls::StreamOwned::new(connection, stream)
    };
    let answer = |connection: &mut dyn Connection| drop(connection.write_all(response(ALLOW).as_bytes()));
    (Server::with_layer(layer, answer), made.cert.pem())
}

#[test]
fn a_service_with_tls_is_the_one_that_is_meant_or_is_not_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let (server, ca) = secure_server();
    let (other, _) = secure_server();
    std::fs::write(&path, ca).unwrap();
    let config = |server: &Server, host: &str| Http {
        url: Some(format!("https://{host}:{}/", server.address.port())),
        ca_file: Some(path.clone()),
        ..server.config()
    };
    assert!(matches!(service(&config(&server, "localhost")).judge(&anna()), Opinion::Accept(_)));
    server.next();
    let error = trouble(&config(&other, "localhost"));
    assert!(error.contains("by TLS"), "another key: {error}");
    let error = trouble(&config(&server, "127.0.0.1"));
    assert!(error.contains("by TLS"), "another name: {error}");
    // A system without authorities of its own trusts nobody either, and says so earlier.
    if let Ok(Some(service)) = Service::read(&Http { ca_file: None, ..config(&server, "localhost") }) {
        let error = service.ask(&anna(), None).unwrap_err();
        assert!(error.contains("by TLS"), "not the system's: {error}");
    }
    // A server without TLS gets nothing to see.
    let plain = Server::saying(response(ALLOW));
    let error = trouble(&Http { timeout_ms: 300, ..config(&plain, "localhost") });
    assert!(
        error.contains("TLS") || error.contains("in time") || error.contains("cannot be asked"),
        "{error}"
    );
    for server in [&server, &other, &plain] {
        assert!(server.requests.try_recv().is_err(), "nobody was told a password");
    }
    std::fs::write(&path, "nothing").unwrap();
    let error = Service::read(&config(&server, "localhost")).unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
}
