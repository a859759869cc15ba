//! Random operations of a few clients, held against what a simple model expects.

use std::collections::{BTreeMap, BTreeSet};

use lapwing_proto::packet::{Packet, ProtocolVersion, ReasonCode, RetainHandling, SubscriptionOptions};

use super::broker::{Broker, clean, lasting};
use super::client::{Client, ack};
use super::expectation::{Expectation, Session};
use super::message::{Message, message, qos};
use super::random::{Random, Seed};
use super::{V5, V31, V311};

const TOPICS: [&str; 7] = ["a", "a/b", "a/b/c", "a/c", "b", "b/", "$d/b"];
const FILTERS: [&str; 9] = ["a", "a/b", "#", "+/b", "a/#", "a/+", "b/+", "$d/+", "+"];
const NAMES: [&str; 5] = ["0", "1", "2", "3", "4"];
const VERSIONS: [ProtocolVersion; 5] = [V5, V311, V31, V5, V5];

/// Seconds that a session of 5.0 outlives its connection.
const EXPIRY_S: u64 = 100;

/// A client, and what it remembers of its session.
#[derive(Default)]
struct Actor {
    client: Option<Client>,
    is_blocked: bool,
    /// Whether the session outlives the connection.
    is_lasting: bool,
    expires_ms: Option<u64>,
    receive_maximum: usize,
    /// Messages that have not been acknowledged, by their identifiers.
    unacknowledged: BTreeMap<u16, Message>,
    /// Identifiers for which a PUBREC was sent and no PUBCOMP.
    received: BTreeSet<u16>,
    /// Those of them for which a PUBREL has come on this connection.
    released: BTreeSet<u16>,
    /// Identifiers under way on this connection.
    open: BTreeSet<u16>,
    fleeting: Vec<Message>,
    sure: Vec<Message>,
}

struct World {
    broker: Broker,
    actors: Vec<Actor>,
    expectation: Expectation,
    random: Random,
    now_ms: u64,
    last_payload: u32,
    last_id: u16,
}

/// Without what belongs to one delivery, and with the identifiers in order.
fn content(mut message: Message) -> Message {
    message.packet_id = None;
    message.dup = false;
    message.identifiers.sort_unstable();
    message
}

impl Actor {
    fn take_all(&mut self) {
        let Some(client) = &self.client else { return };
        let mut releases = Vec::new();
        for received in client.take_all() {
            match received.packet() {
                Packet::Publish(publish) => {
                    let message = Message::from(&publish);
                    self.take_message(message);
                }
                Packet::PubRel(pubrel) => {
                    let packet_id = pubrel.packet_id.get();
                    assert!(self.received.contains(&packet_id), "a PUBREL for no PUBREC");
                    self.released.insert(packet_id);
                    self.open.insert(packet_id);
                }
                Packet::PubRec(pubrec) => releases.push(pubrec.packet_id.get()),
                Packet::PubAck(_) | Packet::PubComp(_) | Packet::SubAck(_) | Packet::UnsubAck(_) => {}
                other => panic!("{other:?}"),
            }
            assert!(self.open.len() <= self.receive_maximum, "more than the receive maximum");
        }
        let Some(client) = &self.client else { return };
        for packet_id in releases {
            client.send(&Packet::PubRel(ack(packet_id, ReasonCode::Success)));
        }
    }

    fn take_message(&mut self, message: Message) {
        let Some(packet_id) = message.packet_id else { return self.fleeting.push(content(message)) };
        assert!(!self.received.contains(&packet_id), "a message behind its PUBREC");
        assert!(self.open.insert(packet_id), "a message twice on one connection");
        let is_dup = message.dup;
        let message = content(message);
        match self.unacknowledged.insert(packet_id, message.clone()) {
            Some(known) => assert!(is_dup && known == message, "not the message that is sent again"),
            // One with DUP may have been lost with the network the first time.
            None => self.sure.push(message),
        }
    }

    /// Acknowledges some messages, in whatever order, and releases what can be.
    fn acknowledge(&mut self, random: &mut Random, at_most: usize) {
        let Some(client) = &self.client else { return };
        for _ in 0..at_most {
            let open: Vec<_> =
                self.unacknowledged.keys().copied().filter(|id| self.open.contains(id)).collect();
            if open.is_empty() {
                break;
            }
            let packet_id = if random.once_in(3) { random.pick(&open) } else { open[0] };
            let success = ack(packet_id, ReasonCode::Success);
            if self.unacknowledged.remove(&packet_id).is_some_and(|it| it.qos == 1) {
                self.open.remove(&packet_id);
                client.send(&Packet::PubAck(success));
            } else {
                self.received.insert(packet_id);
                client.send(&Packet::PubRec(success));
            }
        }
        if random.once_in(2) {
            for packet_id in std::mem::take(&mut self.released) {
                self.received.remove(&packet_id);
                self.open.remove(&packet_id);
                client.send(&Packet::PubComp(ack(packet_id, ReasonCode::Success)));
            }
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let broker = Broker::with_limits(|limits| limits.client_receive_maximum = 20);
        let mut random = Random::new(seed);
        broker.split(random.pick(&[usize::MAX, usize::MAX, 1, 5]));
        let actors = NAMES.iter().map(|_| Actor::default()).collect();
        let expectation = Expectation::default();
        Self { broker, actors, expectation, random, now_ms: 0, last_payload: 0, last_id: 0 }
    }

    fn step(&mut self) {
        let number = self.random.below(NAMES.len());
        match self.random.below(40) {
            0..3 => self.connect(number),
            3 => self.lose(number),
            4 => self.disconnect(number),
            5 => self.advance(),
            6 => self.break_rules(number),
            7..9 => self.block(number),
            9..14 => self.subscribe(number),
            14..16 => self.unsubscribe(number),
            16..20 => {
                let count = self.random.below(5);
                self.take(number);
                self.actors[number].acknowledge(&mut self.random, count);
            }
            _ => self.publish(number),
        }
        self.take(number);
    }

    fn take(&mut self, number: usize) {
        self.actors[number].take_all();
        self.check(number);
    }

    /// What has come is what was to come, as far as it has come.
    fn check(&self, number: usize) {
        let (actor, empty) = (&self.actors[number], Session::default());
        let session = self.expectation.sessions.get(&number).unwrap_or(&empty);
        let is_whole = actor.client.is_some() && !actor.is_blocked;
        let count = if is_whole { session.fleeting.len() } else { actor.fleeting.len() };
        assert_eq!(actor.fleeting[..], session.fleeting[..count]);
        assert_eq!(actor.sure[..], session.sure[..actor.sure.len()]);
    }

    fn connect(&mut self, number: usize) {
        let version = VERSIONS[number];
        let (is_clean, is_lasting) = (self.random.once_in(4), !self.random.once_in(4));
        let mut connect =
            if is_lasting { lasting(version, NAMES[number]) } else { clean(version, NAMES[number]) };
        let mut receive_maximum = 20;
        if version == V5 {
            connect.clean_start = is_clean;
            connect.properties.session_expiry_interval = is_lasting.then_some(EXPIRY_S as u32);
            receive_maximum = 1 + self.random.below(25);
            connect.properties.receive_maximum = std::num::NonZero::new(receive_maximum as u16);
        }
        if self.actors[number].client.is_some() {
            self.take(number);
            self.end_connection(number);
        }
        if connect.clean_start {
            self.end_session(number);
        }
        let existed = self.expectation.sessions.contains_key(&number);
        let client = self.broker.join(&connect);
        assert_eq!(client.session_present.get(), existed && version != V31);
        self.expectation.sessions.entry(number).or_default().is_connected = true;
        let actor = &mut self.actors[number];
        actor.client = Some(client);
        actor.is_lasting = is_lasting;
        actor.expires_ms = None;
        actor.receive_maximum = receive_maximum.min(20);
    }

    fn lose(&mut self, number: usize) {
        self.take(number);
        if let Some(client) = &self.actors[number].client {
            client.lose();
        }
        self.end_connection(number);
    }

    fn disconnect(&mut self, number: usize) {
        self.unblock(number);
        self.take(number);
        if let Some(client) = &self.actors[number].client {
            client.take_all(); // answers to what the client has just sent
            client.disconnect();
        }
        self.end_connection(number);
    }

    /// Something that no client may send.
    fn break_rules(&mut self, number: usize) {
        self.unblock(number);
        self.take(number);
        let hex = self.random.pick(&["00 00", "36 05 0001 61 0001", "d0 00", "30 ff ff ff ff", "82 02 0000"]);
        if let Some(client) = &self.actors[number].client {
            client.send_hex(hex);
            assert!(client.is_closed());
        }
        self.end_connection(number);
    }

    /// The connection has ended: what has not come of QoS 0 is lost, and the session waits or ends.
    fn end_connection(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        if actor.client.take().is_none() {
            return;
        }
        actor.is_blocked = false;
        actor.open.clear();
        actor.released.clear();
        actor.expires_ms = (VERSIONS[number] == V5).then_some(self.now_ms + EXPIRY_S * 1000);
        let session = self.expectation.sessions.get_mut(&number).unwrap();
        session.is_connected = false;
        session.fleeting.truncate(actor.fleeting.len());
        if !actor.is_lasting {
            self.end_session(number);
        }
    }

    fn end_session(&mut self, number: usize) {
        self.expectation.sessions.remove(&number);
        self.actors[number] = Actor::default();
    }

    fn advance(&mut self) {
        let ms = 1000 * (1 + self.random.below(80) as u64);
        self.broker.advance_ms(ms);
        self.now_ms += ms;
        for number in 0..NAMES.len() {
            if self.actors[number].expires_ms.is_some_and(|at| at <= self.now_ms) {
                self.end_session(number);
            }
        }
    }

    fn block(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        match &actor.client {
            Some(client) if !actor.is_blocked => {
                client.block();
                actor.is_blocked = true;
            }
            _ => self.unblock(number),
        }
    }

    fn unblock(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        actor.is_blocked = false;
        if let Some(client) = &actor.client {
            client.unblock();
        }
    }

    fn subscribe(&mut self, number: usize) {
        self.unblock(number);
        let Some(client) = &self.actors[number].client else { return };
        let random = &mut self.random;
        let mut options = SubscriptionOptions::new(qos(random.below(3) as u8));
        let mut identifier = None;
        if VERSIONS[number] == V5 {
            options.no_local = random.once_in(4);
            options.retain_as_published = random.once_in(3);
            options.retain_handling =
                random.pick(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
            identifier = random.once_in(2).then_some(1 + random.below(300) as u32);
        }
        let text = random.pick(&FILTERS);
        assert_eq!(client.subscribe_with(text, options, identifier).value(), options.qos.bits());
        self.expectation.subscribe(number, text, options, identifier);
    }

    fn unsubscribe(&mut self, number: usize) {
        self.unblock(number);
        let Some(client) = &self.actors[number].client else { return };
        let text = self.random.pick(&FILTERS);
        let existed = self.expectation.unsubscribe(number, text);
        let wanted = if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
        let codes = client.unsubscribe(&[text]);
        assert!(codes.is_empty() || codes == [wanted]);
    }

    fn publish(&mut self, number: usize) {
        let Some(client) = &self.actors[number].client else { return };
        let random = &mut self.random;
        self.last_payload += 1;
        let payload = if random.once_in(8) { String::new() } else { self.last_payload.to_string() };
        let mut sent = message(random.pick(&TOPICS), &payload).qos(random.below(3) as u8);
        sent.retain = random.once_in(4);
        self.expectation.publish(number, &sent);
        if sent.qos > 0 {
            self.last_id += 1;
            sent.packet_id = Some(self.last_id);
        }
        client.send_message(&sent);
    }

    /// Every client comes back and takes all that there is for it.
    fn finish(&mut self) {
        for number in 0..NAMES.len() {
            let is_kept = self.expectation.sessions.contains_key(&number);
            if is_kept && self.actors[number].client.is_none() {
                let connect = lasting(VERSIONS[number], NAMES[number]);
                let actor = &mut self.actors[number];
                actor.client = Some(self.broker.join(&connect));
                actor.receive_maximum = 20;
                self.expectation.sessions.get_mut(&number).unwrap().is_connected = true;
            }
            self.unblock(number);
            for _ in 0..1000 {
                self.actors[number].take_all();
                self.actors[number].acknowledge(&mut self.random, 10);
            }
            self.take(number);
            let Some(session) = self.expectation.sessions.get(&number) else { continue };
            let actor = &self.actors[number];
            assert_eq!(actor.sure, session.sure);
            assert!(actor.unacknowledged.is_empty() && actor.received.is_empty());
        }
        let stat = self.broker.stat();
        assert_eq!(stat.sessions, self.expectation.sessions.len() as u64);
        assert_eq!(stat.messages_dropped.queue_full + stat.messages_dropped.outbox_full, 0);
    }
}

#[test]
fn random_operations_have_the_outcome_of_a_simple_model() {
    let mut delivered = 0;
    for seed in 0..6000 {
        let seed = Seed(seed);
        let mut world = World::new(seed.0);
        for number in 0..NAMES.len() {
            world.connect(number);
        }
        for _ in 0..120 {
            world.step();
        }
        world.finish();
        delivered += world.actors.iter().map(|it| it.sure.len() + it.fleeting.len()).sum::<usize>();
    }
    assert!(delivered > 100_000, "hardly anything was delivered: {delivered}");
}
