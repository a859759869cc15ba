//! What a client says of a server that is none.

use std::net::TcpListener;
use std::time::Duration;

use lapwing_client::{Client, ConnectOptions, Error, ProtocolVersion};

// [attack: server-says-nothing]
#[test]
fn a_server_that_says_nothing_is_perhaps_no_broker() {
    // It is connected to without ever being accepted.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().into();
    let mut options = ConnectOptions::new(ProtocolVersion::V5, "");
    options.connack_timeout = Duration::from_millis(20);
    let error = Client::connect(&address, options).unwrap_err();
    assert!(matches!(error, Error::NoAnswer(..)), "{error}");
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("within 20ms"), "{text}");
    assert!(text.contains("is this an MQTT broker?"), "{text}");
}
