//! Attacks with connections and sessions: that hold places, that never end, that are somebody else's.

use lapwing_proto::packet::{Connect, ReasonCode};

use super::broker::peer::{Peer, encoded};
use super::broker::{Broker, SOON};
use super::{V5, attack, attack_on};
use lapwing_proto::packet::Packet;

fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = Connect::new(V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(u32::MAX);
    connect
}

/// SlowITe: the longest keep alive, and packets that never end, so that places are held for a day.
// [attack: slow-connections]
#[test]
fn slow_connections_take_the_places_of_their_address_only() {
    attack(&["limits.connections_per_address_maximum=50"], 32, |broker| {
        let attacker = "127.0.0.2:0".parse().unwrap();
        let mut let_in = Vec::new();
        for index in 0..200 {
            let mut peer = Peer::from_address(broker, attacker);
            let client_id = format!("slow-{index}");
            let mut connect = Connect::new(V5, &client_id);
            connect.keep_alive = u16::MAX;
            if peer.present(&connect) == Some(ReasonCode::Success) {
                peer.try_send_bytes(&[0x30, 0x80, 0x80, 0x40, 0]).unwrap();
                let_in.push(peer);
            }
        }
        assert_eq!(let_in.len(), 50);
        Peer::connect(broker, V5, "somebody else").ping();
        // Who goes makes room for the next one.
        let mut gone = let_in.pop().unwrap();
        gone.finish();
        gone.wait_for_close();
        let start = std::time::Instant::now();
        while Peer::from_address(broker, attacker).present(&Connect::new(V5, "next")).is_none() {
            assert!(start.elapsed() < SOON, "there is no room");
        }
    });
}

// [attack: long-keep-alive]
#[test]
fn a_keep_alive_of_a_day_is_cut() {
    attack(&["limits.keep_alive_maximum_s=1"], 32, |broker| {
        let mut peers: Vec<_> = (0..200)
            .map(|index| {
                let client_id = format!("silent-{index}");
                let mut connect = Connect::new(V5, &client_id);
                connect.keep_alive = if index % 2 == 0 { u16::MAX } else { 0 };
                Peer::connect_with(broker, &connect)
            })
            .collect();
        for peer in &mut peers {
            assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::KeepAliveTimeout));
        }
    });
}

// [attack: endless-sessions]
#[test]
fn sessions_that_never_end() {
    attack(&["limits.sessions_maximum=301"], 32, |broker| {
        let mut refused = 0;
        for index in 0..500 {
            let client_id = format!("lasting-{index}");
            match Peer::raw(broker).present(&lasting(&client_id)) {
                Some(ReasonCode::Success) => assert!(index < 300, "{index}"),
                Some(ReasonCode::QuotaExceeded) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 200);
        // Who has one may come back.
        Peer::connect_with(broker, &lasting("lasting-7")).ping();
    });
}

// [attack: takeover-war]
#[test]
fn clients_that_take_each_others_session_without_end_are_kept_out() {
    let limits = ["limits.flapping_connects_maximum=20", "limits.flapping_window_s=600"];
    attack(&limits, 32, |broker| {
        let mut codes = Vec::new();
        let mut last = None;
        for _ in 0..200 {
            let mut peer = Peer::raw(broker);
            codes.push(peer.present(&lasting("wanted")));
            if codes.last() == Some(&Some(ReasonCode::Success)) {
                last = Some(peer);
            }
        }
        assert!(codes[..20].iter().all(|&code| code == Some(ReasonCode::Success)), "{codes:?}");
        assert_eq!(codes[20], Some(ReasonCode::ConnectionRateExceeded));
        assert!(codes[21..].iter().all(|&code| code == Some(ReasonCode::Banned)), "{codes:?}");
        last.expect("the last one that was let in").ping();
        Peer::connect(broker, V5, "somebody else").ping();
    });
}

/// Another user's attempts are refused before they count: so nobody can have a client kept out by using its identifier.
// [attack: session-hijack], [attack: takeover-war]
#[test]
fn a_stranger_neither_gets_a_session_nor_has_its_client_banned() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.toml");
    let users = users.to_str().unwrap();
    for user in ["anna", "mallory"] {
        super::operation::add_user(users, user, "word");
    }
    let limits = [
        &format!("authentication.password.file={users}"),
        "limits.flapping_connects_maximum=10",
        "authentication.delay_maximum_ms=0",
    ];
    attack(&limits, 64, |broker| {
        let as_user = |user, password: &'static [u8]| {
            let mut connect = lasting("door");
            (connect.user_name, connect.password) = (Some(user), Some(password));
            connect
        };
        let mut anna = Peer::connect_with(broker, &as_user("anna", b"word"));
        for _ in 0..40 {
            for (user, password) in [("mallory", &b"word"[..]), ("anna", b"wrong")] {
                let code = Peer::raw(broker).present(&as_user(user, password));
                assert!(code.is_some_and(ReasonCode::is_error), "{user}: {code:?}");
            }
        }
        anna.ping();
        drop(anna);
        let code = Peer::raw(broker).present(&as_user("mallory", b"word"));
        assert_eq!(code, Some(ReasonCode::NotAuthorized));
        Peer::connect_with(broker, &as_user("anna", b"word")).ping();
    });
}

/// All come back at once, as they do after a restart: none is lost, and who is there already is served meanwhile.
// [attack: reconnect-storm]
#[test]
fn a_thousand_clients_come_back_at_once_after_a_restart() {
    const COUNT: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["--data", data.to_str().unwrap()];
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let names: Vec<_> = (0..COUNT).map(|index| format!("client-{index}")).collect();
    let mut broker = Broker::start(&arguments);
    let mut peers: Vec<_> =
        names.iter().map(|client_id| Peer::connect_with(&broker, &lasting(client_id))).collect();
    for (peer, client_id) in peers.iter_mut().zip(&names) {
        peer.subscribe(&[client_id], lapwing_proto::packet::QoS::AtLeastOnce);
    }
    broker.signal("TERM");
    broker.wait_for_exit(SOON);
    drop((peers, broker));
    attack_on(Broker::start(&arguments), 96, |broker| {
        let mut peers: Vec<_> = names
            .iter()
            .map(|client_id| {
                let mut peer = Peer::raw(broker);
                peer.try_send_bytes(&encoded(&Packet::Connect(lasting(client_id)), V5)).unwrap();
                peer
            })
            .collect();
        for (peer, client_id) in peers.iter_mut().zip(&names) {
            match peer.receive().expect("a CONNACK").packet() {
                Packet::ConnAck(connack) => {
                    assert_eq!(connack.reason_code, ReasonCode::Success);
                    assert!(connack.session_present, "{client_id}");
                }
                packet => panic!("{packet:?}"),
            };
        }
        peers[COUNT - 1].round_trip(&names[COUNT - 1]);
    });
}
