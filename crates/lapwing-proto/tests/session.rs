//! The parts of a session: what is in flight, what is received, aliases, keep alive.
#![allow(clippy::unwrap_used, reason = "the tests play with packets that they make themselves")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use lapwing_proto::fuzzing;
use lapwing_proto::packet::{
    Ack, PacketId, PacketType, ProtocolVersion, Publish, QoS, ReasonCode, TopicAlias,
};
use lapwing_proto::session::{
    AliasChoice, Inbound, InboundAliases, Instant, KeepAlive, Link, LinkLimits, Outbound, OutboundAliases,
    Receipt, Resend, ServerSession, SessionError,
};
use lapwing_proto::topic::TopicName;
use proptest::prelude::*;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Send(QoS),
    /// Acknowledgements for the message in flight with this index, or for a random identifier.
    PubAck(usize),
    PubRec(usize, bool),
    PubComp(usize),
    Stray(u16),
    Reserve,
    Release(usize),
    Resend,
    Reconnect(u16),
    EndSession,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let qos = prop_oneof![Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    let index = 0..40usize;
    let step = prop_oneof![
        8 => qos.prop_map(Step::Send),
        4 => index.clone().prop_map(Step::PubAck),
        4 => (index.clone(), prop::bool::weighted(0.8)).prop_map(|(index, ok)| Step::PubRec(index, ok)),
        4 => index.clone().prop_map(Step::PubComp),
        1 => (1..=u16::MAX).prop_map(Step::Stray),
        2 => Just(Step::Reserve),
        2 => index.prop_map(Step::Release),
        4 => Just(Step::Resend),
        1 => (1..12u16).prop_map(Step::Reconnect),
        1 => Just(Step::EndSession),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Sent1,
    Sent2,
    Released(u32),
}

/// What the specification says of messages in flight, without any thought of speed.
#[derive(Default)]
struct Model {
    /// In the order in which they were first sent: identifier, message, state.
    in_flight: Vec<(u16, u32, State)>,
    /// Sent on this connection.
    open: HashSet<u16>,
    to_resend: VecDeque<u16>,
    reserved: Vec<u16>,
    receive_maximum: usize,
    received: u32,
}

impl Model {
    fn is_used(&self, id: u16) -> bool {
        self.reserved.contains(&id) || self.in_flight.iter().any(|&(used, ..)| used == id)
    }

    fn at(&self, index: usize) -> Option<(usize, u16, u32, State)> {
        let index = index.checked_rem(self.in_flight.len())?;
        let (id, message, state) = self.in_flight[index];
        Some((index, id, message, state))
    }

    fn close(&mut self, index: usize) {
        let (id, ..) = self.in_flight.remove(index);
        self.open.remove(&id);
        self.to_resend.retain(|&waiting| waiting != id);
    }

    fn reconnect(&mut self, receive_maximum: u16) {
        self.receive_maximum = usize::from(receive_maximum);
        self.open.clear();
        self.reserved.clear();
        let mut releases: Vec<(u32, u16)> = Vec::new();
        let mut publishes = Vec::new();
        for &(id, _, state) in &self.in_flight {
            match state {
                State::Released(order) => releases.push((order, id)),
                _ => publishes.push(id),
            }
        }
        releases.sort_unstable();
        self.to_resend = releases.into_iter().map(|(_, id)| id).chain(publishes).collect();
    }
}

/// What is sent again: the oldest that waits, if the receive maximum allows one.
fn check_resend(outbound: &mut Outbound<u32>, model: &mut Model) -> bool {
    let next = model.to_resend.front().copied().filter(|_| model.open.len() < model.receive_maximum);
    let flight = next.and_then(|id| model.in_flight.iter().find(|&&(used, ..)| used == id).copied());
    let sent = outbound.resend();
    match (sent, flight) {
        (None, None) => return false,
        (Some(Resend::Publish(sent, QoS::AtLeastOnce, &message)), Some((id, wanted, State::Sent1)))
        | (Some(Resend::Publish(sent, QoS::ExactlyOnce, &message)), Some((id, wanted, State::Sent2))) => {
            assert_eq!((sent.get(), message), (id, wanted));
        }
        (Some(Resend::PubRel(sent)), Some((id, _, State::Released(_)))) => assert_eq!(sent.get(), id),
        (sent, wanted) => panic!("{sent:?} was sent again instead of {wanted:?}"),
    }
    model.open.extend(model.to_resend.pop_front());
    true
}

fn step(outbound: &mut Outbound<u32>, model: &mut Model, next: &mut u32, step: Step) {
    match step {
        Step::Send(qos) => {
            let is_free = model.open.len() < model.receive_maximum;
            let message = *next;
            *next += 1;
            match outbound.send(qos, message) {
                Ok(id) => {
                    assert!(is_free && model.to_resend.is_empty());
                    assert!(!model.is_used(id.get()), "identifier {id} was given twice");
                    let at_least_once = qos == QoS::AtLeastOnce;
                    let state = if at_least_once { State::Sent1 } else { State::Sent2 };
                    model.in_flight.push((id.get(), message, state));
                    model.open.insert(id.get());
                }
                Err(back) => {
                    assert_eq!(back, message);
                    // What was acknowledged before it was sent again is passed over by `resend` only.
                    if is_free && model.to_resend.is_empty() {
                        assert_eq!(outbound.resend(), None);
                        assert!(outbound.is_open());
                    }
                }
            }
        }
        Step::PubAck(index) => {
            let Some((index, number, message, state)) = model.at(index) else { return };
            match state {
                State::Sent1 => {
                    assert_eq!(outbound.puback(id(number)), Ok(Some(message)));
                    model.close(index);
                }
                _ => {
                    let wrong = SessionError::WrongAcknowledgement(PacketType::PubAck, id(number));
                    assert_eq!(outbound.puback(id(number)), Err(wrong));
                }
            }
        }
        Step::PubRec(index, accepted) => {
            let Some((index, number, message, state)) = model.at(index) else { return };
            let result = outbound.pubrec(id(number), accepted);
            match state {
                State::Sent2 => {
                    assert_eq!(result, Ok(Some(message)));
                    if accepted {
                        model.in_flight[index].2 = State::Released(model.received);
                        model.received += 1;
                        model.open.insert(number);
                        model.to_resend.retain(|&waiting| waiting != number);
                        assert!(outbound.awaits_pubcomp(id(number)));
                    } else {
                        model.close(index);
                    }
                }
                State::Released(_) => assert_eq!(result, Ok(None)),
                State::Sent1 => assert!(result.is_err()),
            }
        }
        Step::PubComp(index) => {
            let Some((index, number, _, state)) = model.at(index) else { return };
            match state {
                State::Released(_) => {
                    assert_eq!(outbound.pubcomp(id(number)), Ok(true));
                    model.close(index);
                }
                _ => assert!(outbound.pubcomp(id(number)).is_err()),
            }
        }
        Step::Stray(number) => {
            if model.in_flight.iter().all(|&(used, ..)| used != number) {
                assert_eq!(outbound.puback(id(number)), Ok(None));
                assert_eq!(outbound.pubrec(id(number), true), Ok(None));
                assert_eq!(outbound.pubcomp(id(number)), Ok(false));
                assert!(!outbound.awaits_pubcomp(id(number)));
            }
        }
        Step::Reserve => {
            let reserved = outbound.reserve().unwrap();
            assert!(!model.is_used(reserved.get()), "identifier {reserved} was given twice");
            model.reserved.push(reserved.get());
        }
        Step::Release(index) => {
            if let Some(index) = index.checked_rem(model.reserved.len()) {
                let number = model.reserved.remove(index);
                assert!(outbound.release(id(number)));
                assert!(!outbound.release(id(number)));
            }
        }
        Step::Resend => while check_resend(outbound, model) {},
        Step::Reconnect(receive_maximum) => {
            outbound.begin(receive_maximum);
            model.reconnect(receive_maximum);
        }
        Step::EndSession => {
            let taken: Vec<_> = outbound.take().collect();
            let unreceived = model.in_flight.iter().filter_map(|&(_, message, state)| match state {
                State::Sent1 => Some((QoS::AtLeastOnce, message)),
                State::Sent2 => Some((QoS::ExactlyOnce, message)),
                State::Released(_) => None,
            });
            assert!(taken.into_iter().eq(unreceived));
            model.in_flight.clear();
            let receive_maximum = model.receive_maximum as u16;
            outbound.begin(receive_maximum);
            model.reconnect(receive_maximum);
        }
    }
}

proptest! {
    // [MQTT-2.2.1-3], [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.2-3], [MQTT-4.3.3-1], [MQTT-4.3.3-3]
    // [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-4.4.0-1], [MQTT-4.4.0-2], [MQTT-4.9.0-1], [MQTT-4.9.0-2]
    // 3.1.1 [MQTT-2.3.1-2], [MQTT-2.3.1-3], [MQTT-2.3.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1], [MQTT-4.4.0-1]
    #[test]
    fn outbound_is_as_the_model(
        steps in steps(),
        before in prop_oneof![Just(0..1u32), Just(65_400..65_535u32)].prop_flat_map(|range| range),
    ) {
        let (mut outbound, mut model, mut next) = (Outbound::default(), Model::default(), 0);
        outbound.begin(5);
        model.reconnect(5);
        for message in 0..before {
            let sent = outbound.send(QoS::AtLeastOnce, message).unwrap();
            outbound.puback(sent).unwrap();
        }
        for next_step in steps {
            step(&mut outbound, &mut model, &mut next, next_step);
            prop_assert_eq!(outbound.len(), model.in_flight.len());
            prop_assert_eq!(outbound.is_empty(), model.in_flight.is_empty());
            if outbound.is_open() {
                prop_assert!(model.open.len() < model.receive_maximum && model.to_resend.is_empty());
            }
        }
        // A peer that answers everything is sent everything.
        while let Some((_, _, _, state)) = model.at(0) {
            check_resend(&mut outbound, &mut model);
            match state {
                State::Sent1 => step(&mut outbound, &mut model, &mut next, Step::PubAck(0)),
                State::Sent2 => step(&mut outbound, &mut model, &mut next, Step::PubRec(0, true)),
                State::Released(_) => step(&mut outbound, &mut model, &mut next, Step::PubComp(0)),
            }
        }
        prop_assert!(outbound.resend().is_none());
        prop_assert!(outbound.is_open() && outbound.is_empty());
    }
}

fn small_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![7 => 0..16u8, 1 => any::<u8>()], 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    // [attack: unexpected-acknowledgement]
    #[test]
    fn sessions_withstand_any_peer(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::session(&data);
    }

    /// Mostly small bytes: rarely any bytes from the peer, more often what follows upon each other.
    // [attack: unexpected-acknowledgement]
    #[test]
    fn sessions_withstand_any_packets(data in small_bytes(), flags in any::<u8>()) {
        // Connected, with a CONNACK that accepts: versions, clean start and the like are in the flags.
        let accepted = [1, flags, 2, 2, 0, 3, 0, 0, 0, 2, 2, 0, 0];
        fuzzing::session(&[&accepted[..], &data].concat());
    }
}

// [attack: never-acknowledged]
#[test]
fn a_straggler_holds_up_the_others_at_the_end_of_the_identifiers() {
    let mut outbound = Outbound::default();
    outbound.begin(u16::MAX);
    let straggler = outbound.send(QoS::ExactlyOnce, 0).unwrap();
    for message in 1..65_535 {
        let sent = outbound.send(QoS::AtLeastOnce, message).unwrap();
        assert_ne!(sent, straggler);
        assert_eq!(outbound.puback(sent), Ok(Some(message)));
    }
    assert!(!outbound.is_open());
    assert_eq!(outbound.send(QoS::AtLeastOnce, 7), Err(7));
    assert_eq!(outbound.reserve(), None);
    assert_eq!(outbound.len(), 1);
    outbound.pubrec(straggler, true).unwrap();
    assert!(!outbound.is_open());
    outbound.pubcomp(straggler).unwrap();
    assert_eq!(outbound.send(QoS::AtLeastOnce, 8), Ok(id(1)));
}

// [MQTT-4.3.2-5], [MQTT-4.3.3-9], [MQTT-4.3.3-10], [MQTT-4.3.3-12]
// 3.1.1 [MQTT-4.3.2-2], [MQTT-4.3.3-2]
#[test]
fn inbound_knows_what_it_has_received() {
    let mut inbound = Inbound::default();
    inbound.begin(2);
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(1)), Ok(Receipt::New));
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(1)), Ok(Receipt::Duplicate));
    assert_eq!(inbound.receive(QoS::AtLeastOnce, id(2)), Ok(Receipt::New));
    let exceeded = Err(SessionError::ReceiveMaximumExceeded(2));
    assert_eq!(inbound.receive(QoS::AtLeastOnce, id(3)), exceeded);
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(1)), Ok(Receipt::Duplicate));
    inbound.acknowledged();
    assert_eq!(inbound.receive(QoS::AtLeastOnce, id(2)), Ok(Receipt::New));
    // The identifiers of QoS 2 outlive the connection, the count does not.
    inbound.begin(1);
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(1)), Ok(Receipt::Duplicate));
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(4)), Ok(Receipt::New));
    inbound.refused(id(4));
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(4)), Ok(Receipt::New));
    assert_eq!(inbound.unreleased(), 2);
    assert!(inbound.completed(id(1)));
    assert!(!inbound.completed(id(1)));
    assert!(inbound.completed(id(4)));
    assert_eq!(inbound.unreleased(), 0);
    assert_eq!(inbound.receive(QoS::ExactlyOnce, id(4)), Ok(Receipt::New));
}

#[test]
fn inbound_aliases() {
    let alias = TopicAlias::new;
    let mut aliases = InboundAliases::new(2);
    let too_high = SessionError::TopicAliasTooHigh { alias: 3, maximum: 2 };
    assert_eq!(aliases.resolve(Some(name("a")), alias(3)), Err(too_high));
    assert_eq!(aliases.resolve(None, alias(2)), Err(SessionError::TopicAliasUnknown(2)));
    assert_eq!(aliases.resolve(Some(name("a")), alias(2)), Ok(name("a")));
    assert_eq!(aliases.resolve(None, alias(2)), Ok(name("a")));
    assert_eq!(aliases.resolve(Some(name("b")), alias(2)), Ok(name("b")));
    assert_eq!(aliases.resolve(None, alias(2)), Ok(name("b")));
    assert_eq!(aliases.resolve(Some(name("c")), None), Ok(name("c")));
    assert_eq!(too_high.reason_code(), ReasonCode::TopicAliasInvalid);
    assert_eq!(SessionError::TopicAliasUnknown(2).reason_code(), ReasonCode::ProtocolError);
}

// [MQTT-3.2.2-17], [MQTT-3.2.2-18], [MQTT-3.3.2-9], [MQTT-3.3.2-10]
#[test]
fn outbound_aliases_are_understood_by_inbound_aliases() {
    for maximum in [0, 1, 3, u16::MAX] {
        let (mut outbound, mut inbound) = (OutboundAliases::new(maximum), InboundAliases::new(maximum));
        assert_eq!(outbound.is_enabled(), maximum > 0);
        let mut counts: HashMap<u8, usize> = HashMap::new();
        for number in (0..66_000).chain(0..10) {
            let text = number.to_string();
            let (topic, alias) = match outbound.choose(name(&text)) {
                AliasChoice::Name => (Some(name(&text)), None),
                AliasChoice::NameAndAlias(alias) => (Some(name(&text)), Some(alias)),
                AliasChoice::Alias(alias) => (None, Some(alias)),
            };
            *counts.entry(u8::from(topic.is_some()) + 2 * u8::from(alias.is_some())).or_default() += 1;
            assert_eq!(inbound.resolve(topic, alias), Ok(name(&text)));
        }
        let given = usize::from(maximum);
        assert_eq!(counts.get(&3).copied().unwrap_or(0), given);
        assert_eq!(counts.get(&2).copied().unwrap_or(0), given.min(10));
    }
}

#[test]
fn keep_alive_deadlines() {
    let now = Instant::from_millis(10_000);
    let keep_alive = KeepAlive::new(3);
    assert_eq!(keep_alive.server_deadline(now), Some(Instant::from_millis(14_500))); // [MQTT-3.1.2-22]
    assert_eq!(keep_alive.client_deadline(now), Some(Instant::from_millis(13_000)));
    let never = KeepAlive::new(0);
    assert_eq!((never.server_deadline(now), never.client_deadline(now)), (None, None));
    let longest = KeepAlive::new(u16::MAX).server_deadline(Instant::from_millis(u64::MAX - 1));
    assert_eq!(longest, Some(Instant::from_millis(u64::MAX)));
    assert_eq!(now.since(now + Duration::from_secs(1)), Duration::ZERO);
    assert_eq!((now + Duration::from_secs(1)).since(now), Duration::from_secs(1));
}

// [MQTT-4.3.3-4], [MQTT-4.3.3-11]
#[test]
fn a_server_session_answers() {
    let limits = LinkLimits { receive_maximum: 1, topic_alias_maximum: 1, ..LinkLimits::default() };
    let mut link = Link::new(ProtocolVersion::V5, KeepAlive::new(0), limits, limits);
    let mut session: ServerSession<u32> = ServerSession::default();
    session.begin(&link);
    let mut publish = Publish::new(name("t"), b"");
    publish.qos = QoS::ExactlyOnce;
    publish.packet_id = Some(id(9));
    assert_eq!(session.receive_publish(&mut link, &publish), Ok((name("t"), Receipt::New)));
    assert_eq!(session.receive_publish(&mut link, &publish), Ok((name("t"), Receipt::Duplicate)));
    session.acknowledge(QoS::ExactlyOnce, id(9), ReasonCode::Success);
    publish.packet_id = Some(id(10));
    let exceeded = SessionError::ReceiveMaximumExceeded(1);
    assert_eq!(session.receive_publish(&mut link, &publish), Err(exceeded));
    assert_eq!(session.receive_pubrel(id(9)), Ack::new(id(9), ReasonCode::Success));
    assert_eq!(session.receive_pubrel(id(9)).reason_code, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(session.receive_publish(&mut link, &publish), Ok((name("t"), Receipt::New)));
    session.acknowledge(QoS::ExactlyOnce, id(10), ReasonCode::NotAuthorized);
    assert_eq!(session.inbound.unreleased(), 0);

    let sent = session.outbound.send(QoS::ExactlyOnce, 5).unwrap();
    assert!(session.receive_puback(sent).is_err());
    let pubrec = Ack::new(sent, ReasonCode::Success);
    assert_eq!(session.receive_pubrec(&pubrec), Ok((Some(5), Some(pubrec))));
    assert_eq!(session.receive_pubrec(&pubrec), Ok((None, Some(pubrec))));
    assert_eq!(session.receive_pubcomp(sent), Ok(true));
    assert_eq!(session.receive_pubcomp(sent), Ok(false));
    let not_found = Ack::new(sent, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(session.receive_pubrec(&pubrec), Ok((None, Some(not_found))));
    let refused = session.outbound.send(QoS::ExactlyOnce, 6).unwrap();
    let pubrec = Ack::new(refused, ReasonCode::QuotaExceeded);
    assert_eq!(session.receive_pubrec(&pubrec), Ok((Some(6), None)));
    assert!(session.outbound.is_empty());
}
