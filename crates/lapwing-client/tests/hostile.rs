//! Servers that do wrong, and what a client makes of them: an error within a moment, and no memory for what is only announced.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use lapwing_client::{Address, Client, ConnectOptions, Error, ProtocolVersion, QoS};
use lapwing_proto::packet::{ConnAck, Packet, Publish, ReasonCode, UserProperty};
use lapwing_proto::topic::TopicName;

const V5: ProtocolVersion = ProtocolVersion::V5;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts one client, and does with its connection what `play` says behind its CONNECT. Where it listens.
fn serve(play: impl FnOnce(&mut TcpStream) + Send + 'static) -> (Address, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("an address").into();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
        read_packet(&mut stream);
        play(&mut stream);
        // What the client still says is read, so that nothing that it should read is lost.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (address, thread)
}

/// Reads a packet of a client, none of which is long here.
fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a packet");
    assert!(header[1] < 0x80);
    let mut body = vec![0; usize::from(header[1])];
    stream.read_exact(&mut body).expect("a whole packet");
    body
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes).expect("a packet");
    bytes
}

fn connack() -> Vec<u8> {
    encoded(&Packet::ConnAck(ConnAck::new(false, ReasonCode::Success)))
}

fn options() -> ConnectOptions {
    ConnectOptions::new(V5, "c")
}

// [attack: server-announces-length]
#[test]
fn a_length_that_no_packet_may_have_is_refused() {
    // Five bytes of length; and 256 MiB, where the client has said what it takes.
    for header in [&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01][..], &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]] {
        let header = header.to_vec();
        let (address, server) = serve(move |stream| {
            stream.write_all(&[connack(), header].concat()).expect("a client");
        });
        let mut options = options();
        options.maximum_packet_size = 1000.try_into().expect("not 0");
        let mut client = Client::connect(&address, options).expect("it is let in");
        let error = client.receive().unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error}");
        drop(client);
        server.join().expect("a server");
    }
}

// [attack: server-properties]
#[test]
fn a_connack_of_many_megabytes_is_refused() {
    let (address, server) = serve(|stream| {
        let mut connack = ConnAck::new(false, ReasonCode::Success);
        let properties = vec![UserProperty { name: "n", value: "v" }; 1_000_000];
        connack.properties.user_properties = properties.as_slice().into();
        // The client does not read all of it.
        let _ = stream.write_all(&encoded(&Packet::ConnAck(connack)));
    });
    let mut options = options();
    options.maximum_packet_size = 100_000.try_into().expect("not 0");
    let error = Client::connect(&address, options).map(drop).unwrap_err();
    assert!(matches!(error, Error::NotMqtt { .. } | Error::Protocol(_)), "{error}");
    server.join().expect("a server");
}

// [attack: suback-without-codes]
#[test]
fn a_suback_without_codes_is_an_error() {
    for codes in [&[][..], &[0], &[0, 0, 0], &[0, 0x7F]] {
        let (address, server) = serve(move |stream| {
            stream.write_all(&connack()).expect("a client");
            let body = read_packet(stream);
            let head = [0x90, 3 + codes.len() as u8, body[0], body[1], 0];
            stream.write_all(&[&head, codes].concat()).expect("a client");
        });
        let mut client = Client::connect(&address, options()).expect("it is let in");
        let error = client.subscribe(&["a", "b"], QoS::AtMostOnce).unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{codes:?}: {error}");
        drop(client);
        server.join().expect("a server");
    }
}

// [attack: server-floods]
#[test]
fn messages_without_end_are_not_kept_without_end() {
    let (address, server) = serve(|stream| {
        stream.write_all(&connack()).expect("a client");
        let topic = TopicName::new("flood").expect("a topic");
        let flood = encoded(&Packet::Publish(Publish::new(topic, b"x"))).repeat(1000);
        // Instead of the SUBACK. It ends when the client does.
        while stream.write_all(&flood).is_ok() {}
    });
    let mut client = Client::connect(&address, options()).expect("it is let in");
    let error = client.subscribe(&["flood"], QoS::AtMostOnce).unwrap_err();
    assert!(matches!(error, Error::TooManyMessages), "{error}");
    drop(client);
    server.join().expect("a server");
}
