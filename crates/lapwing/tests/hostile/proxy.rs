//! Attacks by way of the PROXY protocol: headers that drip, that are too long, and that lie.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lapwing_proto::packet::{Connect, Packet, ReasonCode};

use super::broker::peer::{Peer, encoded};
use super::broker::{Broker, lapwing};
use super::{V5, attack_on};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Attacks a broker that listens for a proxy in `proxies` as well.
fn attack(proxies: &str, settings: &[&str], attack: impl FnOnce(&Broker, SocketAddr)) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("lapwing.toml");
    let text = format!(
        "[admin]\nlisten = ''\n[listeners.a]\nbind = 'tcp://127.0.0.1:0'\n[listeners.b]\n\
         bind = 'ws://127.0.0.1:0'\nproxy_protocol = ['{proxies}']\n"
    );
    std::fs::write(&config, text).expect("a file");
    let mut command = lapwing();
    command.arg("serve").arg("--config").arg(&config);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    attack_on(Broker::spawn(command), 32, |broker| attack(broker, broker.address_of("ws")));
}

// [attack: proxy-header]
#[test]
fn headers_that_are_none_or_too_long_or_never_end() {
    attack("127.0.0.0/8", &["limits.connect_timeout_s=1"], |broker, address| {
        let v2 = |length: u16| [SIGNATURE, &[0x21, 0x11], &length.to_be_bytes()].concat();
        for bytes in [
            b"GET /mqtt HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n".to_vec(),
            [&b"PROXY TCP4 "[..], &[b'1'; 1000]].concat(),
            // More than a proxy has to say, and addresses that are not all there.
            [v2(u16::MAX), vec![0; 65_535]].concat(),
            [v2(4), vec![0; 4]].concat(),
            [SIGNATURE, &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
        ] {
            let start = Instant::now();
            let mut peer = Peer::raw_to(address);
            // The broker may have closed the connection already.
            let _ = peer.try_send_bytes(&bytes);
            peer.wait_for_close();
            assert!(start.elapsed() < Duration::from_millis(900), "{bytes:?}");
        }
        // What is no more than the beginning has as long as a CONNECT.
        let mut peers: Vec<_> = (0..300)
            .map(|index| {
                let mut peer = Peer::raw_to(address);
                let bytes = if index % 2 == 0 { b"PROXY TCP4 1.2".to_vec() } else { v2(4000) };
                peer.try_send_bytes(&bytes).unwrap();
                peer
            })
            .collect();
        for peer in &mut peers {
            peer.wait_for_close();
        }
        broker.wait_for_line("in time");
    });
}

/// Whoever is not a proxy of the list can say nothing about where it comes from; not even that it comes as itself.
// [attack: proxy-lie]
#[test]
fn a_stranger_that_claims_to_be_a_proxy() {
    attack("203.0.113.0/24", &["limits.connect_timeout_s=1"], |broker, address| {
        for index in 0..20 {
            let mut peer = Peer::raw_to(address);
            let _ = peer.try_send_bytes(b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 1883\r\n");
            assert_eq!(peer.read_until(|_| false), b"", "{index}");
        }
        broker.wait_for_line("takes connections from the proxies in proxy_protocol only");
        // On a listener without proxies the header is no MQTT.
        let mut peer = Peer::raw(broker);
        let connect = encoded(&Packet::Connect(Connect::new(V5, "liar")), V5);
        let _ = peer.try_send_bytes(&[&b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"[..], &connect].concat());
        peer.wait_for_close();
        assert_eq!(Peer::raw(broker).present(&Connect::new(V5, "liar")), Some(ReasonCode::Success));
    });
}
