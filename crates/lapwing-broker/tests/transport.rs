//! The same clients over whatever carries MQTT: TLS, WebSocket, both, a Unix socket, behind a proxy.

mod certificate;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certificate::{Authority, Pair};
use lapwing_broker::hook::{Authenticator, Credentials, Hooks, Identity, Later, Verdict};
use lapwing_broker::{Address, Broker, Config, ListenerConfig};
use lapwing_net::{
    BlockingStream, ClientCertificate, ClientTls, DialError, ListenError, Scheme, TlsConfig, TlsVersion,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Lets everybody in, and tells what it has been shown.
struct Door(Sender<Shown>);

#[derive(Debug, PartialEq, Eq)]
struct Shown {
    peer: String,
    is_local: bool,
    certificate: Option<Vec<u8>>,
}

impl Authenticator for Door {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        let certificate = credentials.certificate.map(<[u8]>::to_vec);
        let peer = credentials.peer.to_string();
        // Who does not look at what is shown has no end to take it.
        let _ = self.0.send(Shown { peer, is_local: credentials.is_local, certificate });
        Some(Verdict::Accept(Identity::default()))
    }
}

fn start(listener: ListenerConfig) -> (Broker, Receiver<Shown>) {
    let (sender, shown) = channel();
    let hooks = Hooks { authenticator: Arc::new(Door(sender)), ..Hooks::default() };
    let config = Config { listeners: vec![listener], hooks, ..Config::default() };
    (Broker::start(config).expect("a broker"), shown)
}

fn listener(scheme: Scheme) -> ListenerConfig {
    ListenerConfig::new("test", Address::with_scheme(scheme, "127.0.0.1", 0))
}

fn secure(scheme: Scheme, pair: &Pair) -> ListenerConfig {
    let tls = Some(TlsConfig::new(&pair.certificate, &pair.key));
    ListenerConfig { tls, ..listener(scheme) }
}

/// A client of 3.1.1.
struct Client(BlockingStream);

impl Client {
    fn connect(broker: &Broker, tls: &ClientTls) -> Result<Self, DialError> {
        BlockingStream::dial_with(&broker.listening()[0], TIMEOUT, tls).map(Self)
    }

    /// With a session that ends with the connection.
    fn enter(broker: &Broker, tls: &ClientTls, client_id: u8) -> Self {
        let mut client = Self::connect(broker, tls).expect("a connection");
        client.greet(client_id).expect("a CONNACK");
        client
    }

    fn greet(&mut self, client_id: u8) -> io::Result<()> {
        self.send(&[b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01".as_slice(), &[client_id]].concat())?;
        let answer = self.take(4)?;
        assert_eq!(answer, [0x20, 2, 0, 0]);
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            match self.0.read_within(&mut bytes[at..], Some(TIMEOUT))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => at += count,
                None => {}
            }
        }
        Ok(bytes)
    }

    fn ping(&mut self) {
        self.send(b"\xc0\0").expect("a connection");
        assert_eq!(self.take(2).expect("a PINGRESP"), b"\xd0\0");
    }

    /// Publishes to itself, whatever the size.
    fn echo(&mut self, payload: &[u8]) {
        self.send(b"\x82\x06\0\x01\0\x01t\0").expect("a connection");
        assert_eq!(self.take(5).expect("a SUBACK"), b"\x90\x03\0\x01\0");
        let mut remaining = payload.len() + 3;
        let mut packet = vec![0x30];
        while remaining > 0 {
            packet.push((remaining & 0x7f) as u8 | if remaining > 0x7f { 0x80 } else { 0 });
            remaining >>= 7;
        }
        packet.extend([0, 1, b't']);
        packet.extend_from_slice(payload);
        self.send(&packet).expect("a connection");
        assert!(self.take(packet.len()).expect("the message") == packet, "the message is another one");
    }

    /// Says that it goes, and sees that the broker ends the connection.
    fn leave(mut self) {
        self.send(b"\xe0\0").expect("a connection");
        assert_eq!(self.take(1).map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls { ca: Some(authority.file()), ..ClientTls::default() }
}

fn showing(authority: &Authority, pair: &Pair) -> ClientTls {
    ClientTls { certificate: Some((pair.certificate.clone(), pair.key.clone())), ..trusting(authority) }
}

#[test]
fn messages_of_any_size_cross_whatever_carries_them() {
    let authority = Authority::new();
    let server = authority.certify("server", &["127.0.0.1"], 1);
    let unix = Address::unix(authority.folder().join("broker.sock"));
    let old =
        TlsConfig { minimum_version: TlsVersion::V13, ..TlsConfig::new(&server.certificate, &server.key) };
    for listener in [
        listener(Scheme::Tcp),
        secure(Scheme::Tls, &server),
        ListenerConfig { tls: Some(old), ..secure(Scheme::Tls, &server) },
        listener(Scheme::WebSocket),
        secure(Scheme::SecureWebSocket, &server),
        ListenerConfig::new("test", unix.clone()),
    ] {
        let scheme = listener.address.scheme();
        let (broker, shown) = start(listener);
        let tls = trusting(&authority);
        let mut client = Client::enter(&broker, &tls, b'a');
        let shown = shown.recv_timeout(TIMEOUT).expect("a client");
        assert!(shown.is_local && shown.certificate.is_none(), "{scheme}: {shown:?}");
        for length in [0, 1, 125, 126, 16_384, 65_533, 100_000, 5_000_000] {
            client.echo(&vec![length as u8; length]);
        }
        client.leave();
        // A second one, so that what the first has left behind is not all there is.
        Client::enter(&broker, &tls, b'a').ping();
        broker.shut_down().expect("a good end");
    }
    assert!(!unix.file().expect("a path").exists(), "nobody listens there any more");
}

/// Much more than sockets take, to a client that reads late: nothing is lost or out of order.
#[test]
fn a_slow_reader_gets_everything_in_order() {
    let authority = Authority::new();
    let server = authority.certify("server", &["127.0.0.1"], 1);
    for listener in
        [secure(Scheme::Tls, &server), listener(Scheme::WebSocket), secure(Scheme::SecureWebSocket, &server)]
    {
        let (broker, _shown) = start(listener);
        let tls = trusting(&authority);
        let mut reader = Client::enter(&broker, &tls, b'r');
        reader.send(b"\x82\x06\0\x01\0\x01t\x01").expect("a connection");
        assert_eq!(reader.take(5).expect("a SUBACK"), b"\x90\x03\0\x01\x01");
        let mut writer = Client::enter(&broker, &tls, b'w');
        const LENGTH: usize = 200_000;
        for count in 1..=100_u8 {
            // QoS 1, of which nothing may be dropped: a header of three bytes of length, topic and identifier.
            let remaining = LENGTH + 5;
            let mut packet = vec![0x32];
            packet.extend([remaining as u8 | 0x80, (remaining >> 7) as u8 | 0x80, (remaining >> 14) as u8]);
            packet.extend([0, 1, b't', 0, count]);
            packet.extend(vec![count; LENGTH]);
            writer.send(&packet).expect("a connection");
            assert_eq!(writer.take(4).expect("a PUBACK"), [0x40, 2, 0, count]);
        }
        for count in 1..=100_u8 {
            let packet = reader.take(4 + LENGTH + 5).expect("a message");
            let (payload, identifier) = (&packet[9..], &packet[7..9]);
            assert!(payload.iter().all(|&byte| byte == count), "message {count} has other bytes");
            reader.send(&[0x40, 2, identifier[0], identifier[1]]).expect("a connection");
        }
        reader.ping();
        broker.shut_down().expect("a good end");
    }
}

// [attack: tls-server-certificate]
#[test]
fn a_client_trusts_only_who_is_certified_for_the_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let expired = authority.certify_until("expired", &["127.0.0.1"], 2, 2001);
    for (server, reason) in [
        (authority.certify("elsewhere", &["other.example"], 1), "another host"),
        (expired, "expired"),
        (other.certify("other", &["127.0.0.1"], 1), "no authority"),
    ] {
        let (broker, _shown) = start(secure(Scheme::Tls, &server));
        let error = Client::connect(&broker, &trusting(&authority)).map(drop).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        let insecure = ClientTls { is_insecure: true, ..ClientTls::default() };
        Client::enter(&broker, &insecure, b'a').ping();
        broker.shut_down().expect("a good end");
    }
}

/// What comes of a client with this certificate: what the broker was shown, or why there is no connection.
fn come(broker: &Broker, shown: &Receiver<Shown>, tls: &ClientTls) -> Option<Shown> {
    let mut client = Client::connect(broker, tls).ok()?;
    // With TLS 1.3 a client that is refused learns of it after its handshake.
    client.greet(b'a').ok()?;
    shown.recv_timeout(TIMEOUT).ok()
}

// [attack: tls-client-certificate]
#[test]
fn mutual_tls_lets_in_who_has_a_certificate_that_holds() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.certify("server", &["127.0.0.1"], 1);
    let good = authority.certify("good", &[], 2);
    let revoked = authority.certify("revoked", &[], 3);
    let expired = authority.certify_until("expired", &[], 4, 2001);
    let stranger = other.certify("stranger", &[], 5);
    for client_certificate in [ClientCertificate::Required, ClientCertificate::Optional] {
        let tls = TlsConfig {
            client_ca: Some(authority.file()),
            client_certificate,
            crl: Some(authority.revoke(&[3])),
            ..TlsConfig::new(&server.certificate, &server.key)
        };
        let (broker, shown) = start(ListenerConfig { tls: Some(tls), ..listener(Scheme::Tls) });
        let seen = come(&broker, &shown, &showing(&authority, &good)).expect("it is let in");
        assert_eq!(seen.certificate.as_ref(), Some(&good.der));
        for refused in [&revoked, &expired, &stranger] {
            assert_eq!(come(&broker, &shown, &showing(&authority, refused)), None, "{refused:?}");
        }
        let without = come(&broker, &shown, &trusting(&authority));
        match client_certificate {
            ClientCertificate::Required => assert_eq!(without, None),
            ClientCertificate::Optional => assert_eq!(without.expect("it is let in").certificate, None),
        }
        assert_eq!(shown.try_recv().ok(), None, "nobody else has come as far as a CONNECT");
        broker.shut_down().expect("a good end");
    }
}

// [attack: tls-broken-files]
#[test]
fn new_certificates_are_for_new_connections_and_broken_ones_for_nobody() {
    let (authority, next) = (Authority::new(), Authority::new());
    let server = authority.certify("server", &["127.0.0.1"], 1);
    let (broker, _shown) = start(secure(Scheme::Tls, &server));
    let mut old = Client::enter(&broker, &trusting(&authority), b'o');
    let replace = |pair: &Pair| {
        std::fs::copy(&pair.certificate, &server.certificate).expect("a file");
        std::fs::copy(&pair.key, &server.key).expect("a file");
    };
    // Half of a change: the key is that of another certificate.
    let renewed = next.certify("server", &["127.0.0.1"], 1);
    std::fs::copy(&renewed.certificate, &server.certificate).expect("a file");
    broker.control().refresh_certificates(true);
    Client::enter(&broker, &trusting(&authority), b'a').ping();
    assert!(Client::connect(&broker, &trusting(&next)).is_err());
    replace(&renewed);
    broker.control().refresh_certificates(false);
    Client::enter(&broker, &trusting(&next), b'b').ping();
    assert!(Client::connect(&broker, &trusting(&authority)).is_err());
    std::fs::write(&server.certificate, "-----BEGIN CERTIFICATE-----\nnothing").expect("a file");
    broker.control().refresh_certificates(false);
    Client::enter(&broker, &trusting(&next), b'c').ping();
    old.ping();
    old.echo(b"as before");
    broker.shut_down().expect("a good end");
}

// [attack: tls-broken-files]
#[test]
fn a_listener_without_what_it_needs_does_not_start() {
    let authority = Authority::new();
    let (server, other) = (authority.certify("a", &["x"], 1), authority.certify("b", &["x"], 2));
    let with = |change: &dyn Fn(&mut TlsConfig)| {
        let mut tls = TlsConfig::new(&server.certificate, &server.key);
        change(&mut tls);
        Some(tls)
    };
    let (empty, nothing) = (authority.folder().join("empty"), authority.folder().join("nothing"));
    std::fs::write(&empty, "").expect("a file");
    for (tls, key, reason) in [
        (None, "listeners.test", "needs tls.certificate"),
        (with(&|it| it.certificate.clone_from(&nothing)), "listeners.test.tls.certificate", "nothing"),
        (
            with(&|it| it.certificate.clone_from(&empty)),
            "listeners.test.tls.certificate",
            "no certificate in it",
        ),
        (with(&|it| it.key.clone_from(&empty)), "listeners.test.tls.key", "no private key in it"),
        (with(&|it| it.key.clone_from(&other.key)), "listeners.test.tls.key", "does not belong"),
        (
            with(&|it| it.client_ca = Some(empty.clone())),
            "listeners.test.tls.client_ca",
            "no certificate in it",
        ),
        (with(&|it| it.crl = Some(empty.clone())), "listeners.test.tls.crl", "need tls.client_ca"),
        (
            with(&|it| (it.client_ca, it.crl) = (Some(authority.file()), Some(empty.clone()))),
            "listeners.test.tls.crl",
            "no revocation list in it",
        ),
    ] {
        let listeners = vec![ListenerConfig { tls, ..listener(Scheme::Tls) }];
        let error =
            Broker::start(Config { listeners, ..Config::default() }).map(drop).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(reason), "{error}");
    }
}

// [attack: unix-socket-flood]
#[test]
fn a_unix_socket_takes_the_place_of_one_that_nobody_listens_on() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "it has been left behind");
    let listener = ListenerConfig { unix_mode: 0o600, ..ListenerConfig::new("test", Address::unix(&path)) };
    let (broker, _shown) = start(listener.clone());
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let second = lapwing_net::Listener::bind(&listener);
    assert!(matches!(second, Err(ListenError::InUse(_))), "{second:?}");
    Client::enter(&broker, &ClientTls::default(), b'a').ping();
    broker.shut_down().expect("a good end");
    std::fs::write(&path, "somebody's letters").expect("a file");
    let third = lapwing_net::Listener::bind(&listener);
    assert!(matches!(third, Err(ListenError::NoSocket(_))), "{third:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "somebody's letters");
}

/// The CONNACK to a client that begins with these bytes, if there is one.
fn connack_behind(port: u16, header: &[u8]) -> Option<[u8; 4]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.write_all(&[header, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a"].concat()).expect("a connection");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

// [attack: proxy-lie]
#[test]
fn a_proxy_says_for_whom_it_connects() {
    let proxies = |network: &str| {
        let proxies = vec![network.parse().expect("a network")];
        start(ListenerConfig { proxies, ..listener(Scheme::Tcp) })
    };
    let (broker, shown) = proxies("127.0.0.0/8");
    let port = broker.listening()[0].port();
    let accepted = Some([0x20, 2, 0, 0]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, peer) in [
        (&b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 1883\r\n"[..], Some("203.0.113.7:4660")),
        // Whoever connects to the proxy from its own machine is on another one for all that can be known.
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 1883\r\n", Some("127.0.0.1:4660")),
        (b"PROXY UNKNOWN\r\n", None),
        (local, None),
    ] {
        assert_eq!(connack_behind(port, header), accepted, "{header:?}");
        let shown = shown.recv_timeout(TIMEOUT).expect("a client");
        assert_eq!(shown.is_local, peer.is_none());
        assert!(peer.is_none_or(|peer| shown.peer == peer), "{shown:?}");
    }
    for header in [&b""[..], b"PROXY TCP4 nobody\r\n"] {
        assert_eq!(connack_behind(port, header), None, "{header:?}");
    }
    broker.shut_down().expect("a good end");
    let (broker, _shown) = proxies("203.0.113.0/24");
    let header = b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 1883\r\n";
    assert_eq!(connack_behind(broker.listening()[0].port(), header), None, "it is not one of the proxies");
    broker.shut_down().expect("a good end");
}

#[test]
fn tls_may_be_behind_a_proxy() {
    let authority = Authority::new();
    let server = authority.certify("server", &["127.0.0.1"], 1);
    let client = authority.certify("client", &[], 2);
    let mut config = secure(Scheme::SecureWebSocket, &server);
    config.proxies = vec!["127.0.0.1".parse().expect("a network")];
    config.tls.as_mut().expect("TLS").client_ca = Some(authority.file());
    let (broker, shown) = start(config);
    // A proxy of our own: it says the word, and passes on what comes.
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = proxy.local_addr().expect("a port").port();
    let broker_port = broker.listening()[0].port();
    let relay = std::thread::spawn(move || {
        let (near, _) = proxy.accept().expect("a client");
        let mut far = TcpStream::connect(("127.0.0.1", broker_port)).expect("a broker");
        for piece in b"PROXY TCP6 2001:db8::7 ::1 4660 1883\r\n".chunks(5) {
            far.write_all(piece).expect("a connection");
        }
        let (mut near_reader, mut far_writer) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let up = std::thread::spawn(move || {
            let _ = io::copy(&mut near_reader, &mut far_writer);
            let _ = far_writer.shutdown(std::net::Shutdown::Write);
        });
        let mut near_writer = near;
        let _ = io::copy(&mut far, &mut near_writer);
        let _ = near_writer.shutdown(std::net::Shutdown::Write);
        up.join().expect("a thread");
    });
    let address = Address::with_scheme(Scheme::SecureWebSocket, "127.0.0.1", port);
    let stream = BlockingStream::dial_with(&address, TIMEOUT, &showing(&authority, &client));
    let mut through = Client(stream.expect("a connection"));
    through.greet(b'a').expect("a CONNACK");
    through.echo(&[7; 100_000]);
    let seen = shown.recv_timeout(TIMEOUT).expect("a client");
    assert_eq!(
        seen,
        Shown { peer: "[2001:db8::7]:4660".into(), is_local: false, certificate: Some(client.der) }
    );
    through.leave();
    relay.join().expect("a thread");
    broker.shut_down().expect("a good end");
}

/// A client with nothing but a socket.
fn raw(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", broker.listening()[0].port())).expect("a listener");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// All that the broker still says until it ends the connection.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// An open WebSocket.
fn websocket(broker: &Broker) -> TcpStream {
    let mut stream = raw(broker);
    let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A frame with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

// [MQTT-6.0.0-2]
// 3.1.1 [MQTT-6.0.0-2]
// [attack: websocket-short-frame]
#[test]
fn packets_may_be_in_several_frames_and_several_in_one() {
    let (broker, _shown) = start(listener(Scheme::WebSocket));
    let mut stream = websocket(&broker);
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";
    // A CONNECT in fragments with a ping between them, and three PINGREQs: two in its last frame, one behind it.
    let bytes = [
        frame(0x02, &connect[..3]),
        frame(0x89, b"there?"),
        frame(0x00, &connect[3..9]),
        frame(0x80, &[&connect[9..], b"\xc0\0\xc0"].concat()),
        frame(0x82, b"\0\xc0\0"),
    ];
    stream.write_all(&bytes.concat()).expect("a connection");
    let expected = [&b"\x8a\x06there?"[..], b"\x82\x0a\x20\x02\0\0\xd0\0\xd0\0\xd0\0"].concat();
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, expected);
    stream.write_all(&frame(0x88, &[3, 232])).expect("a connection");
    assert_eq!(rest(&mut stream), b"\x88\x02\x03\xe8");
    broker.shut_down().expect("a good end");
}

/// Holds up the thread that asks it until it may go on.
struct Held {
    is_asked: Sender<()>,
    may_go_on: Mutex<Receiver<()>>,
}

impl Authenticator for Held {
    fn authenticate(&self, _: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        self.is_asked.send(()).expect("the test waits");
        self.may_go_on.lock().expect("nobody panics").recv().expect("the test lets it go on");
        Some(Verdict::Accept(Identity::default()))
    }
}

/// What a peer says last may be no more than a beginning, of which nothing can be made: its end is noticed all the same, when
/// both come at once as well.
// [attack: half-dead-connection]
#[test]
fn the_end_behind_the_beginning_of_a_frame_is_noticed() {
    let (is_asked, asked) = channel();
    let (go_on, may_go_on) = channel();
    let authenticator = Arc::new(Held { is_asked, may_go_on: Mutex::new(may_go_on) });
    let hooks = Hooks { authenticator, ..Hooks::default() };
    // So that it is not the limit that ends the connection.
    let limits = lapwing_broker::Limits { connect_timeout_s: 600, ..Default::default() };
    let listeners = vec![listener(Scheme::WebSocket)];
    let broker = Broker::start(Config { listeners, hooks, limits, ..Config::default() }).expect("a broker");
    let (mut holding, mut ending) = (websocket(&broker), websocket(&broker));
    holding.write_all(&frame(0x82, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a")).expect("a connection");
    asked.recv_timeout(TIMEOUT).expect("it is asked");
    ending.write_all(&[0x82]).expect("a connection");
    ending.shutdown(std::net::Shutdown::Write).expect("a connection");
    go_on.send(()).expect("it waits");
    assert_eq!(ending.read(&mut [0; 16]).expect("an end within the time"), 0);
    broker.shut_down().expect("a good end");
}

// [MQTT-6.0.0-1]
// 3.1.1 [MQTT-6.0.0-1]
// [attack: websocket-frame]
#[test]
fn a_text_frame_ends_the_connection_with_a_code() {
    let (broker, shown) = start(listener(Scheme::WebSocket));
    let mut stream = websocket(&broker);
    stream.write_all(&frame(0x81, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a")).expect("a connection");
    assert_eq!(rest(&mut stream), b"\x88\x02\x03\xeb");
    assert!(shown.try_recv().is_err(), "it was no CONNECT");
    broker.shut_down().expect("a good end");
}

// [attack: tls-half-open], [attack: websocket-slow-request]
#[test]
fn a_handshake_has_a_deadline() {
    let authority = Authority::new();
    let server = authority.certify("server", &["127.0.0.1"], 1);
    let limits = lapwing_broker::Limits { connect_timeout_s: 1, ..Default::default() };
    for (listener, bytes) in [
        (secure(Scheme::Tls, &server), &b"\x16\x03\x01\x02\0"[..]),
        (secure(Scheme::Tls, &server), b""),
        (listener(Scheme::WebSocket), b"GET /mqtt HTTP/1.1\r\n"),
    ] {
        let config = Config { listeners: vec![listener], limits: limits.clone(), ..Config::default() };
        let broker = Broker::start(config).expect("a broker");
        let mut stream = raw(&broker);
        stream.write_all(bytes).expect("a connection");
        assert_eq!(rest(&mut stream), b"", "{bytes:?}");
        broker.shut_down().expect("a good end");
    }
}

// [attack: tls-garbage]
#[test]
fn what_does_not_belong_to_a_listener_gets_an_answer_where_there_is_one() {
    let authority = Authority::new();
    let server = authority.certify("server", &["127.0.0.1"], 1);
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";
    for (listener, bytes, answer) in [
        (secure(Scheme::Tls, &server), &connect[..], &b""[..]),
        (secure(Scheme::Tls, &server), b"GET / HTTP/1.1\r\n\r\n", b""),
        (secure(Scheme::Tls, &server), &[0xff; 5000], b""),
        // An alert: a message that cannot be decoded.
        (
            secure(Scheme::Tls, &server),
            &[&b"\x16\x03\x01\0\x20\x01\0\0\x1c"[..], &[0xff; 28]].concat(),
            b"\x15\x03",
        ),
        (listener(Scheme::WebSocket), connect, b""),
        (listener(Scheme::WebSocket), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
        (listener(Scheme::WebSocket), &[b'x'; 10_000], b"HTTP/1.1 431 "),
        (listener(Scheme::Tcp), b"GET / HTTP/1.1\r\n\r\n", b""),
        (listener(Scheme::Tcp), b"\x16\x03\x01\x02\0", b""),
    ] {
        let (broker, shown) = start(listener);
        let mut stream = raw(&broker);
        stream.write_all(bytes).expect("a connection");
        let said = rest(&mut stream);
        assert!(said.starts_with(answer) && said.is_empty() == answer.is_empty(), "{bytes:?}: {said:?}");
        assert!(shown.try_recv().is_err());
        broker.shut_down().expect("a good end");
    }
}
