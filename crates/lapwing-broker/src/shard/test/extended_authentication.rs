use std::sync::Arc;

use lapwing_proto::packet::{Auth, Connect, Disconnect, Packet, QoS, ReasonCode};
use lapwing_proto::topic::TopicName;

use super::broker::{Broker, clean, lasting, will};
use super::client::{Client, Received};
use super::judge::{Judge, judged};
use super::message::message;
use super::{V5, V31, V311, VERSIONS};
use crate::hook::{self, Authenticator, Credentials, Exchange, Identity, Later, Step, Verdict};

/// Has the method `echo`, and another one that only begins: whoever has not asked for it is let in.
struct Echo;

/// Challenges with what the client said last, until it says what the verdict is.
struct Echoing {
    client_id: String,
}

impl Authenticator for Echo {
    fn authenticate(&self, _: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        Some(Verdict::Accept(Identity::default()))
    }

    fn begin_exchange(&self, method: &str, credentials: &Credentials<'_>) -> Option<Box<dyn Exchange>> {
        let client_id = credentials.client_id.to_owned();
        (method == "echo" || method == "other").then(|| Box::new(Echoing { client_id }) as Box<dyn Exchange>)
    }
}

impl Exchange for Echoing {
    fn respond(&mut self, data: Option<&[u8]>) -> Step {
        let identity = |user_name: &str, session_key: Option<&str>| Identity {
            user_name: Some(user_name.into()),
            session_key: session_key.map(Arc::from),
            ..Identity::default()
        };
        match data {
            Some(b"let me in") => Step::Accept(identity(&self.client_id, None), Some(b"welcome".to_vec())),
            Some(b"somebody else") => Step::Accept(identity("else", Some("else")), None),
            Some(b"as nobody") => Step::Accept(identity("nobody", None), None),
            Some(b"wrong") => Step::Refuse(ReasonCode::BadUserNameOrPassword, "a wrong answer".into()),
            Some(b"banned") => Step::Refuse(ReasonCode::Banned, "banned".into()),
            Some(b"a lot") => Step::Challenge(vec![0; 200]),
            Some(b"too much") => Step::Challenge(vec![0; 70_000]),
            other => Step::Challenge(other.unwrap_or(b"nothing").to_vec()),
        }
    }
}

/// Allows `nobody` nothing.
struct NotNobody;

impl Judge for NotNobody {
    fn may_publish(&self, client: &hook::Client, _: TopicName<'_>, _: QoS, _: bool) -> bool {
        client.identity.user_name.as_deref() != Some("nobody")
    }
}

fn echo() -> Broker {
    Broker::with(|setup| setup.authenticator = Arc::new(Echo))
}

fn with_method<'a>(mut connect: Connect<'a>, data: &'a str) -> Connect<'a> {
    connect.properties.authentication_method = Some("echo");
    connect.properties.authentication_data = Some(data.as_bytes());
    connect
}

fn auth(reason_code: ReasonCode, method: &'static str, data: &'static str) -> Packet<'static> {
    Packet::Auth(Auth::new(reason_code, method, data.as_bytes()))
}

fn answer(client: &Client, data: &'static str) {
    client.send(&auth(ReasonCode::ContinueAuthentication, "echo", data));
}

fn again(client: &Client, data: &'static str) {
    client.send(&auth(ReasonCode::ReAuthenticate, "echo", data));
}

fn expect_challenge(client: &Client, data: &'static str) {
    client.expect(&auth(ReasonCode::ContinueAuthentication, "echo", data));
    client.expect_nothing();
}

/// The CONNACK that lets the client in, with the method and the last data.
fn expect_welcome(client: &Client) {
    let received = client.next();
    let connack = received.connack();
    assert_eq!(connack.reason_code, ReasonCode::Success);
    assert_eq!(connack.properties.authentication_method, Some("echo"));
    assert_eq!(connack.properties.authentication_data, Some(&b"welcome"[..]));
}

fn join(broker: &Broker, connect: Connect<'_>) -> Client {
    let client = broker.send_connect(&with_method(connect, "let me in"));
    expect_welcome(&client);
    client
}

// [MQTT-4.12.0-2]
// [MQTT-4.12.0-5]
#[test]
fn a_client_answers_challenges_until_it_is_let_in() {
    for chunk in [usize::MAX, 1] {
        let broker = echo();
        broker.split(chunk);
        let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
        expect_challenge(&client, "one");
        answer(&client, "two");
        expect_challenge(&client, "two");
        assert_eq!(broker.stat().clients, 0);
        answer(&client, "let me in");
        expect_welcome(&client);
        client.ping();
        assert_eq!(broker.stat().clients, 1);
    }
}

// [MQTT-4.12.0-5]
#[test]
fn an_exchange_may_need_no_challenge_or_no_data() {
    let broker = echo();
    join(&broker, clean(V5, "a")).ping();
    let mut connect = with_method(clean(V5, "b"), "");
    connect.properties.authentication_data = None;
    let client = broker.send_connect(&connect);
    expect_challenge(&client, "nothing");
}

#[test]
fn packets_behind_the_last_answer_are_handled_in_order() {
    let broker = echo();
    let watch = broker.connect(V311, "watch");
    watch.subscribe("t", 0);
    let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
    expect_challenge(&client, "one");
    let mut bytes = Vec::new();
    let last = auth(ReasonCode::ContinueAuthentication, "echo", "let me in");
    last.encode(V5, &mut bytes).unwrap();
    bytes.extend(message("t", "x").encode(V5));
    bytes.extend([0xc0, 0]);
    client.send_bytes(&bytes);
    expect_welcome(&client);
    client.expect(&Packet::PingResp);
    watch.receive("t", "x", 0);
}

#[test]
fn the_connect_waits_with_all_that_it_has() {
    let broker = echo();
    let watch = broker.connect(V5, "watch");
    watch.subscribe("will", 1);
    let mut connect = with_method(lasting(V5, ""), "one");
    connect.will = Some(will("will", "gone", 1));
    let client = broker.send_connect(&connect);
    expect_challenge(&client, "one");
    answer(&client, "let me in");
    let received = client.next();
    let assigned = received.connack().properties.assigned_client_identifier.unwrap().to_owned();
    client.lose();
    watch.receive("will", "gone", 1);
    assert!(broker.resume(V5, &assigned).session_present.get());
}

// [MQTT-4.12.0-4]
#[test]
fn a_refusal_at_any_step_ends_the_connection() {
    let broker = echo();
    let other = broker.resume(V5, "a");
    for (data, reason_code) in [("wrong", ReasonCode::BadUserNameOrPassword), ("banned", ReasonCode::Banned)]
    {
        let client = broker.send_connect(&with_method(lasting(V5, "a"), data));
        client.expect_refusal(reason_code);
        let client = broker.send_connect(&with_method(lasting(V5, "a"), "one"));
        expect_challenge(&client, "one");
        answer(&client, data);
        client.expect_refusal(reason_code);
    }
    // The session is taken over only by who is let in.
    other.ping();
}

// [MQTT-4.12.0-1]
#[test]
fn a_method_that_is_not_offered_is_refused() {
    let broker = echo();
    let mut connect = with_method(clean(V5, "a"), "let me in");
    connect.properties.authentication_method = Some("Echo");
    broker.send_connect(&connect).expect_refusal(ReasonCode::BadAuthenticationMethod);
}

// [MQTT-4.12.0-3]
// [MQTT-4.12.0-5]
#[test]
fn an_answer_has_the_method_and_the_reason_code_that_it_must_have() {
    let broker = echo();
    for wrong in [
        auth(ReasonCode::ContinueAuthentication, "other", "let me in"),
        auth(ReasonCode::ReAuthenticate, "echo", "let me in"),
        auth(ReasonCode::Success, "echo", "let me in"),
        Packet::Auth(Auth { reason_code: ReasonCode::Success, properties: Default::default() }),
    ] {
        let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
        expect_challenge(&client, "one");
        client.send(&wrong);
        client.expect_refusal(ReasonCode::ProtocolError);
    }
    // Without a method, and with a reason code that AUTH cannot have.
    for (hex, reason_code) in
        [("f0 02 18 00", ReasonCode::ProtocolError), ("f0 02 80 00", ReasonCode::ProtocolError)]
    {
        let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
        expect_challenge(&client, "one");
        client.send_hex(hex);
        client.expect_refusal(reason_code);
    }
}

// [MQTT-3.1.0-2]
#[test]
fn before_connack_there_is_nothing_but_auth_and_disconnect() {
    let broker = echo();
    let watch = broker.connect(V5, "watch");
    watch.subscribe("#", 0);
    let publish = message("t", "x").retained().encode(V5);
    let mut connect = Vec::new();
    with_method(clean(V5, "a"), "let me in").encode(&mut connect).unwrap();
    for bytes in [&publish[..], &connect, &[0xc0, 0]] {
        let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
        expect_challenge(&client, "one");
        client.send_bytes(bytes);
        client.expect_refusal(ReasonCode::ProtocolError);
    }
    watch.expect_nothing();
    let mut connect = with_method(clean(V5, "a"), "one");
    connect.will = Some(will("t", "gone", 0));
    let client = broker.send_connect(&connect);
    expect_challenge(&client, "one");
    client.send(&Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWillMessage)));
    client.expect_closed();
    // Who was not let in has no will.
    watch.expect_nothing();
    assert_eq!((broker.stat().clients, broker.stat().sessions), (1, 1));
}

// [attack: authentication-loop]
#[test]
fn a_client_that_does_not_answer_is_let_go_in_time() {
    let broker = echo();
    let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
    expect_challenge(&client, "one");
    broker.advance_ms(8_000);
    answer(&client, "two");
    expect_challenge(&client, "two");
    broker.advance_ms(9_999);
    client.expect_nothing();
    broker.advance_ms(1);
    client.expect_closed();
}

// [attack: authentication-loop]
#[test]
fn an_exchange_has_an_end() {
    let broker = echo();
    let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
    for _ in 0..16 {
        expect_challenge(&client, "one");
        answer(&client, "one");
    }
    expect_challenge(&client, "one");
    answer(&client, "let me in");
    client.expect_refusal(ReasonCode::ProtocolError);
}

// [MQTT-3.1.2-24]
// [MQTT-3.15.2-2]
// [MQTT-3.15.2-3]
#[test]
fn a_challenge_is_no_larger_than_the_client_takes() {
    let broker = echo();
    let mut connect = with_method(clean(V5, "a"), "a lot");
    connect.properties.maximum_packet_size = std::num::NonZero::new(100);
    broker.send_connect(&connect).expect_refusal(ReasonCode::PacketTooLarge);
    // No packet can carry it.
    let client = broker.send_connect(&with_method(clean(V5, "a"), "too much"));
    client.expect_refusal(ReasonCode::PacketTooLarge);
    // Type and length, reason code, properties' length, method, and data: nothing has room beside them.
    connect = with_method(clean(V5, "a"), "one");
    connect.properties.maximum_packet_size = std::num::NonZero::new(2 + 1 + 1 + 7 + 6);
    let client = broker.send_connect(&connect);
    expect_challenge(&client, "one");
}

// [MQTT-4.12.0-6]
#[test]
fn a_client_without_a_method_is_sent_no_auth() {
    let broker = echo();
    for version in VERSIONS {
        let client = broker.send_connect(&clean(version, "a"));
        let received = client.next();
        let connack = received.connack();
        assert_eq!(connack.reason_code, ReasonCode::Success);
        assert_eq!(connack.properties.authentication_method, None);
        client.ping();
    }
}

// [MQTT-4.12.0-7]
#[test]
fn an_auth_from_a_client_without_a_method_ends_the_connection() {
    let broker = echo();
    for reason_code in [ReasonCode::ReAuthenticate, ReasonCode::ContinueAuthentication] {
        let client = broker.connect(V5, "a");
        client.send(&auth(reason_code, "echo", "let me in"));
        client.expect_end(ReasonCode::ProtocolError);
    }
    for version in [V31, V311] {
        let client = broker.connect(version, "a");
        client.send_hex("f0 00");
        client.expect_closed();
    }
    // Nor may it be the first packet.
    let client = broker.open(V5);
    client.send(&auth(ReasonCode::ContinueAuthentication, "echo", "let me in"));
    client.expect_closed();
}

// [MQTT-4.12.0-2]
// [MQTT-4.12.0-5]
#[test]
fn a_connected_client_authenticates_anew() {
    let broker = echo();
    let client = join(&broker, clean(V5, "a"));
    for _ in 0..2 {
        again(&client, "one");
        expect_challenge(&client, "one");
        answer(&client, "two");
        expect_challenge(&client, "two");
        answer(&client, "let me in");
        client.expect(&auth(ReasonCode::Success, "echo", "welcome"));
        client.ping();
    }
}

#[test]
fn messages_go_on_while_a_client_authenticates_anew() {
    let broker = echo();
    let (client, other) = (join(&broker, clean(V5, "a")), broker.connect(V5, "b"));
    client.subscribe("t", 2);
    again(&client, "one");
    expect_challenge(&client, "one");
    other.publish("t", "x", 2);
    client.receive("t", "x", 2);
    client.publish("t", "y", 1);
    client.receive("t", "y", 1);
    client.ping();
    answer(&client, "let me in");
    client.expect(&auth(ReasonCode::Success, "echo", "welcome"));
}

// [MQTT-4.12.1-1]
#[test]
fn a_client_authenticates_anew_with_the_method_that_it_began_with() {
    let broker = echo();
    let client = join(&broker, clean(V5, "a"));
    client.send(&auth(ReasonCode::ReAuthenticate, "other", "let me in"));
    client.expect_end(ReasonCode::ProtocolError);
    let client = join(&broker, clean(V5, "a"));
    again(&client, "one");
    expect_challenge(&client, "one");
    client.send(&auth(ReasonCode::ContinueAuthentication, "other", "let me in"));
    client.expect_end(ReasonCode::ProtocolError);
}

// [MQTT-4.12.1-2]
#[test]
fn a_refusal_of_a_connected_client_ends_the_connection() {
    let broker = echo();
    let watch = broker.connect(V5, "watch");
    watch.subscribe("will", 0);
    // DISCONNECT does not know the other codes.
    for data in ["wrong", "banned", "somebody else"] {
        let mut connect = clean(V5, "a");
        connect.will = Some(will("will", "gone", 0));
        let client = join(&broker, connect);
        again(&client, "one");
        expect_challenge(&client, "one");
        answer(&client, data);
        client.expect_end(ReasonCode::NotAuthorized);
        watch.receive("will", "gone", 0);
    }
}

// [attack: authentication-loop]
#[test]
fn an_auth_that_nothing_waits_for_ends_the_connection() {
    let broker = echo();
    for wrong in [
        auth(ReasonCode::ContinueAuthentication, "echo", "let me in"),
        auth(ReasonCode::Success, "echo", "let me in"),
        Packet::Auth(Auth { reason_code: ReasonCode::Success, properties: Default::default() }),
    ] {
        let client = join(&broker, clean(V5, "a"));
        client.send(&wrong);
        client.expect_end(ReasonCode::ProtocolError);
    }
}

#[test]
fn who_begins_anew_gives_the_challenge_before_up() {
    let broker = echo();
    let client = join(&broker, clean(V5, "a"));
    again(&client, "one");
    expect_challenge(&client, "one");
    again(&client, "let me in");
    client.expect(&auth(ReasonCode::Success, "echo", "welcome"));
    answer(&client, "let me in");
    client.expect_end(ReasonCode::ProtocolError);
}

#[test]
fn an_exchange_ends_with_the_broker() {
    let broker = echo();
    let client = broker.send_connect(&with_method(clean(V5, "a"), "one"));
    expect_challenge(&client, "one");
    broker.shut_down();
    client.expect_closed();
    let is_auth = |received: &Received| matches!(received.packet(), Packet::Auth(_));
    assert!(!client.take_all().iter().any(is_auth));
    assert!(broker.is_finished());
}

#[test]
fn who_has_authenticated_anew_has_the_rights_that_it_has_now() {
    let broker = Broker::with(|setup| {
        setup.authenticator = Arc::new(Echo);
        setup.authorizer = judged(NotNobody);
    });
    let watch = broker.connect(V5, "watch");
    watch.subscribe("#", 0);
    for data in ["let me in", "as nobody"] {
        let mut connect = clean(V5, "a");
        connect.will = Some(will("will", "gone", 0));
        let client = join(&broker, connect);
        client.publish("t", "x", 1);
        watch.receive("t", "x", 0);
        again(&client, data);
        client.next();
        let is_allowed = data == "let me in";
        let reason_code = client.publish_message(message("t", "x").qos(1));
        assert_eq!(reason_code, if is_allowed { ReasonCode::Success } else { ReasonCode::NotAuthorized });
        client.lose();
        if is_allowed {
            watch.receive("t", "x", 0);
            watch.receive("will", "gone", 0);
        }
        watch.expect_nothing();
    }
}
