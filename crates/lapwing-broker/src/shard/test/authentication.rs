use std::sync::{Arc, Mutex};

use lapwing_proto::packet::{Connect, Packet, PacketType, ProtocolVersion, ReasonCode};

use super::broker::{Broker, clean, expiring, lasting};
use super::client::Client;
use super::message::message;
use super::{V5, V31, V311, VERSIONS};
use crate::hook::{Anonymous, Authenticator, Credentials, Identity, Later, Reply, Verdict};

/// Keeps each client waiting until the test has the verdict.
#[derive(Default)]
struct Slow {
    replies: Mutex<Vec<Reply>>,
}

impl Authenticator for Slow {
    fn authenticate(&self, _: &Credentials<'_>, later: &Later<'_>) -> Option<Verdict> {
        self.replies.lock().unwrap().push(later.reply());
        None
    }
}

/// Gives its verdict at once, and keeps a way to give another.
#[derive(Default)]
struct Hasty(Slow);

impl Authenticator for Hasty {
    fn authenticate(&self, credentials: &Credentials<'_>, later: &Later<'_>) -> Option<Verdict> {
        self.0.authenticate(credentials, later);
        Some(Verdict::Accept(Identity::default()))
    }
}

/// Takes the user name for the session's key, and the password for the verdict.
struct ByUserName;

impl Authenticator for ByUserName {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        assert!(credentials.is_local);
        if credentials.password == Some(b"wrong") {
            return Some(Verdict::Refuse(ReasonCode::BadUserNameOrPassword, "wrong".into()));
        }
        let session_key = credentials.user_name.map(Arc::from);
        Some(Verdict::Accept(Identity { user_name: session_key.clone(), session_key, ..Identity::default() }))
    }
}

fn slow() -> (Broker, Arc<Slow>) {
    let slow = Arc::new(Slow::default());
    let broker = Broker::with(|setup| setup.authenticator = slow.clone());
    (broker, slow)
}

fn accept(broker: &Broker, slow: &Slow) {
    slow.replies.lock().unwrap().remove(0).send(Verdict::Accept(Identity::default()));
    broker.settle();
}

fn as_user<'a>(connect: Connect<'a>, user_name: &'a str) -> Connect<'a> {
    Connect { user_name: Some(user_name), ..connect }
}

fn expect_welcome(client: &Client) {
    assert_eq!(client.take_first(PacketType::ConnAck).connack().reason_code, ReasonCode::Success);
}

// [MQTT-3.1.4-2]
// [MQTT-3.2.0-1]
#[test]
fn packets_behind_a_connect_wait_for_its_verdict_and_are_handled_in_order() {
    for version in VERSIONS {
        for chunk in [usize::MAX, 1, 5] {
            let (broker, slow) = slow();
            let watch = broker.send_connect(&clean(V311, "watch"));
            accept(&broker, &slow);
            expect_welcome(&watch);
            watch.subscribe("#", 1);
            broker.split(chunk);
            let mut bytes = Vec::new();
            clean(version, "a").encode(&mut bytes).unwrap();
            for payload in ["1", "2", "3"] {
                bytes.extend(message("t", payload).qos(1).id(7).encode(version));
            }
            bytes.extend([0xc0, 0]);
            let client = broker.open(version);
            client.send_bytes(&bytes[..40]);
            client.send_bytes(&bytes[40..]);
            client.expect_nothing();
            watch.expect_nothing();
            accept(&broker, &slow);
            client.send(&Packet::PingReq);
            let mut types = Vec::new();
            for _ in 0..6 {
                types.push(match client.next().packet() {
                    Packet::ConnAck(_) => 'c',
                    Packet::PubAck(_) => 'a',
                    Packet::PingResp => 'p',
                    other => panic!("{other:?}"),
                });
            }
            assert_eq!(types, ['c', 'a', 'a', 'a', 'p', 'p']);
            for payload in ["1", "2", "3"] {
                watch.receive("t", payload, 1);
            }
        }
    }
}

#[test]
fn while_a_verdict_is_awaited_nothing_is_read() {
    let (broker, slow) = slow();
    let client = broker.send_connect(&clean(V5, "a"));
    let id = *broker.world().wires.keys().next().unwrap();
    assert!(!broker.world().wants_bytes(id));
    accept(&broker, &slow);
    expect_welcome(&client);
    assert!(broker.world().wants_bytes(id));
}

// [MQTT-3.1.4-2]
// [attack: slow-verdict]
#[test]
fn a_verdict_that_never_comes_is_a_refusal() {
    for version in VERSIONS {
        let (broker, slow) = slow();
        let client = broker.send_connect(&clean(version, "a"));
        broker.advance_s(1_000);
        client.expect_nothing();
        slow.replies.lock().unwrap().clear();
        broker.settle();
        client.expect_refusal(ReasonCode::ServerUnavailable);
    }
}

// [MQTT-3.1.4-6]
#[test]
fn a_late_refusal_throws_away_what_waits() {
    let (broker, slow) = slow();
    let mut bytes = Vec::new();
    clean(V311, "a").encode(&mut bytes).unwrap();
    bytes.extend(message("t", "x").retained().encode(V311));
    let client = broker.open(V311);
    client.send_bytes(&bytes);
    let reply = slow.replies.lock().unwrap().remove(0);
    reply.send(Verdict::Refuse(ReasonCode::NotAuthorized, "no".into()));
    broker.settle();
    client.expect_refusal(ReasonCode::NotAuthorized);
    assert_eq!(broker.stat().retained_messages, 0);
}

// [attack: slow-verdict], [attack: early-disconnect]
#[test]
fn a_verdict_for_a_connection_that_is_gone_changes_nothing() {
    let (broker, slow) = slow();
    let first = broker.send_connect(&clean(V5, "a"));
    first.lose();
    // It takes the place of the first.
    let second = broker.open(V5);
    accept(&broker, &slow);
    second.expect_nothing();
    assert_eq!(broker.stat().sessions, 0);
    second.send(&Packet::Connect(clean(V5, "b")));
    accept(&broker, &slow);
    expect_welcome(&second);
}

#[test]
fn a_verdict_counts_once() {
    let hasty = Arc::new(Hasty::default());
    let broker = Broker::with(|setup| setup.authenticator = hasty.clone());
    let client = broker.connect(V5, "a");
    hasty.0.replies.lock().unwrap().clear();
    broker.settle();
    client.expect_nothing();
    client.ping();
}

#[test]
fn waiting_for_the_verdict_does_not_count_as_silence() {
    let (broker, slow) = slow();
    let client = broker.send_connect(&Connect { keep_alive: 2, ..clean(V5, "a") });
    broker.advance_s(60);
    accept(&broker, &slow);
    expect_welcome(&client);
    broker.advance_ms(2999);
    client.expect_nothing();
    broker.advance_ms(1);
    client.expect_end(ReasonCode::KeepAliveTimeout);
}

#[test]
fn a_connect_waits_with_all_that_it_has() {
    let (broker, slow) = slow();
    let watch = broker.send_connect(&clean(V5, "watch"));
    accept(&broker, &slow);
    expect_welcome(&watch);
    watch.subscribe("will", 1);
    let mut connect = as_user(expiring("", 100), "me");
    connect.password = Some(b"secret");
    connect.will = Some(super::broker::will("will", "gone", 1));
    let client = broker.send_connect(&connect);
    accept(&broker, &slow);
    let answer = client.next();
    let assigned = answer.connack().properties.assigned_client_identifier.unwrap().to_owned();
    client.lose();
    watch.receive("will", "gone", 1);
    let client = broker.send_connect(&expiring(&assigned, 100));
    accept(&broker, &slow);
    assert!(client.next().connack().session_present);
}

#[test]
fn two_connects_that_wait_for_one_session_take_over_in_the_order_of_their_verdicts() {
    let (broker, slow) = slow();
    let first = broker.send_connect(&lasting(V5, "a"));
    let second = broker.send_connect(&lasting(V5, "a"));
    let last = slow.replies.lock().unwrap().pop().unwrap();
    last.send(Verdict::Accept(Identity::default()));
    broker.settle();
    expect_welcome(&second);
    accept(&broker, &slow);
    assert!(first.next().connack().session_present);
    second.expect_end(ReasonCode::SessionTakenOver);
}

// [MQTT-3.2.2-7]
// [MQTT-3.2.2-8]
// [MQTT-4.13.2-1]
// 3.1.1 [MQTT-3.2.2-4]
// 3.1.1 [MQTT-3.2.2-5]
#[test]
fn each_version_is_refused_with_what_it_knows() {
    let codes = |version: ProtocolVersion, of_5_0, before| if version == V5 { of_5_0 } else { before };
    for version in VERSIONS {
        for (reason_code, before) in [
            (ReasonCode::BadUserNameOrPassword, ReasonCode::BadUserNameOrPassword),
            (ReasonCode::NotAuthorized, ReasonCode::NotAuthorized),
            (ReasonCode::Banned, ReasonCode::NotAuthorized),
            (ReasonCode::ServerBusy, ReasonCode::ServerUnavailable),
            (ReasonCode::QuotaExceeded, ReasonCode::ServerUnavailable),
        ] {
            let (broker, slow) = slow();
            let client = broker.send_connect(&clean(version, "a"));
            let reply = slow.replies.lock().unwrap().remove(0);
            reply.send(Verdict::Refuse(reason_code, "why".into()));
            broker.settle();
            client.expect_refusal(codes(version, reason_code, before));
            assert_eq!(broker.stat().clients_refused.get(reason_code), 1);
            assert_eq!(broker.stat().disconnected_by_broker.total(), 0);
        }
    }
}

#[test]
fn a_refusal_with_a_code_that_connack_cannot_have_is_an_unspecified_error() {
    for reason_code in [ReasonCode::Success, ReasonCode::SessionTakenOver, ReasonCode::GrantedQoS1] {
        let (broker, slow) = slow();
        let client = broker.send_connect(&clean(V5, "a"));
        let reply = slow.replies.lock().unwrap().remove(0);
        reply.send(Verdict::Refuse(reason_code, "why".into()));
        broker.settle();
        client.expect_refusal(ReasonCode::UnspecifiedError);
    }
}

#[test]
fn a_reason_that_no_packet_can_carry_does_not_keep_the_refusal_back() {
    let (broker, slow) = slow();
    for reason in ["nul\0".to_owned(), "x".repeat(70_000)] {
        let client = broker.send_connect(&clean(V5, "a"));
        let reply = slow.replies.lock().unwrap().remove(0);
        reply.send(Verdict::Refuse(ReasonCode::NotAuthorized, reason));
        broker.settle();
        client.expect_refusal(ReasonCode::NotAuthorized);
    }
}

// [MQTT-3.1.2-16]
// [MQTT-3.1.2-17]
// [MQTT-3.1.2-18]
// [MQTT-3.1.2-19]
// 3.1.1 [MQTT-3.1.2-18]
// 3.1.1 [MQTT-3.1.2-19]
// 3.1.1 [MQTT-3.1.2-20]
// 3.1.1 [MQTT-3.1.2-21]
#[test]
fn user_name_and_password_reach_the_authenticator() {
    for version in VERSIONS {
        let broker = Broker::with(|setup| setup.authenticator = Arc::new(ByUserName));
        let mut connect = as_user(clean(version, "a"), "me");
        connect.password = Some(b"wrong");
        broker.send_connect(&connect).expect_refusal(ReasonCode::BadUserNameOrPassword);
        connect.password = Some(b"right");
        broker.join(&connect).ping();
    }
    // Only 5.0 has a password without a user name.
    let broker = Broker::with(|setup| setup.authenticator = Arc::new(ByUserName));
    let connect = Connect { password: Some(b"wrong"), ..clean(V5, "a") };
    broker.send_connect(&connect).expect_refusal(ReasonCode::BadUserNameOrPassword);
}

// 3.1.1 [MQTT-3.1.2-22]
// [attack: missing-user-name]
#[test]
fn a_password_without_a_user_name_is_malformed_before_5_0() {
    let broker = Broker::new();
    let client = broker.open(V311);
    client.send_hex("10 10 0004 4d515454 04 42 0000 0001 61 0001 62");
    client.expect_closed();
}

#[test]
fn clients_of_one_session_key_share_a_session_whatever_they_call_themselves() {
    for version in VERSIONS {
        let broker = Broker::with(|setup| setup.authenticator = Arc::new(ByUserName));
        let publisher = broker.connect(version, "p");
        let first = broker.join(&as_user(lasting(version, "random-1"), "me"));
        first.subscribe("t", 1);
        first.lose();
        publisher.publish("t", "x", 1);
        let second = broker.join(&as_user(lasting(version, "random-2"), "me"));
        assert_eq!(second.session_present.get(), version != V31);
        second.receive("t", "x", 1);
        let third = broker.join(&as_user(lasting(version, "random-3"), "me"));
        second.expect_end(ReasonCode::SessionTakenOver);
        third.ping();
        assert_eq!(broker.stat().sessions, 2);
    }
}

// [attack: session-hijack]
#[test]
fn a_client_identifier_is_never_taken_for_a_session_key() {
    let broker = Broker::with(|setup| setup.authenticator = Arc::new(ByUserName));
    let owner = broker.join(&as_user(lasting(V5, "a"), "secret-key"));
    let stranger = broker.join(&lasting(V5, "secret-key"));
    assert!(!stranger.session_present.get());
    owner.ping();
    stranger.ping();
}

// [MQTT-4.12.0-1]
#[test]
fn an_authentication_method_is_refused() {
    let broker = Broker::new();
    let mut connect = clean(V5, "a");
    connect.properties.authentication_method = Some("SCRAM-SHA-1");
    connect.properties.authentication_data = Some(b"data");
    broker.send_connect(&connect).expect_refusal(ReasonCode::BadAuthenticationMethod);
}

// [attack: missing-user-name]
#[test]
fn nobody_is_let_in_where_nobody_is() {
    for version in VERSIONS {
        let broker = Broker::with(|setup| setup.authenticator = Arc::new(Anonymous::None));
        broker.send_connect(&clean(version, "a")).expect_refusal(ReasonCode::NotAuthorized);
        let broker = Broker::with(|setup| setup.authenticator = Arc::new(Anonymous::Loopback));
        broker.connect(version, "a").ping();
    }
}
