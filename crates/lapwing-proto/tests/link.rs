//! A client session and a server session over a link that delays, splits and breaks, in virtual time.
//!
//! Each seed is one run: both ends publish, connections are cut at any byte with the loss of all that is on its
//! way, with and without either end noticing, and in the end everything must have arrived as its quality of
//! service promises.
#![allow(clippy::unwrap_used, reason = "both ends are ours: whatever fails is a fault to be found")]

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Duration;

use lapwing_proto::packet::{
    Ack, ConnAck, Connect, Frame, MAXIMUM_PACKET_SIZE, Packet, ProtocolVersion, Publish, QoS, ReasonCode,
    SubAck, SubscribeProperties, Subscription, SubscriptionOptions,
};
use lapwing_proto::session::{
    Acknowledgement, AliasChoice, Cause, CleanStart, ClientError, ClientSession, ConnectOptions, Event,
    Instant, KeepAlive, Link, LinkLimits, MessageReceipt, Receipt, Resend, ServerSession, Token,
};
use lapwing_proto::topic::{TopicFilter, TopicName};

/// Numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.below(3) as u8).unwrap()
    }
}

/// A message: the `number`th that its end publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sent {
    qos: QoS,
    number: u32,
}

impl Sent {
    fn topic(self) -> String {
        format!("topic/{}", self.number % 5)
    }

    fn payload(self) -> Vec<u8> {
        let mut payload = format!("{} {} ", self.qos, self.number).into_bytes();
        payload.resize(payload.len() + self.number as usize % 40, b'.');
        payload
    }

    /// What was received, with a topic that must be the one it was sent to.
    fn read(topic: &str, payload: &[u8]) -> Self {
        let text = std::str::from_utf8(payload).unwrap();
        let mut words = text.split(' ');
        let qos = QoS::from_bits(words.next().unwrap().parse().unwrap()).unwrap();
        let sent = Self { qos, number: words.next().unwrap().parse().unwrap() };
        assert_eq!((topic, payload), (&sent.topic()[..], &sent.payload()[..]));
        sent
    }
}

/// One direction of a connection: pieces that arrive in order, each at its time.
#[derive(Default)]
struct Pipe(VecDeque<(Instant, Vec<u8>)>);

impl Pipe {
    fn send(&mut self, bytes: &[u8], now: Instant, random: &mut Random) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = if random.one_in(3) { 1 + random.below(4) } else { 1 + random.below(200) };
            let (piece, later) = rest.split_at(rest.len().min(size as usize));
            let earliest = self.0.back().map_or(now, |&(at, _)| at);
            let at = earliest.max(now + Duration::from_millis(random.below(60)));
            self.0.push_back((at, piece.to_vec()));
            rest = later;
        }
    }

    fn arrive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (at, _) = self.0.front()?;
        if *at > now { None } else { self.0.pop_front().map(|(_, piece)| piece) }
    }
}

/// A server for one client, which publishes and is published to.
struct Server {
    session: ServerSession<Sent>,
    /// Whether the client knows of the session. If the CONNACK that tells of a new one is lost and the next one
    /// says "session present", no client can know that it is not the old one, and a QoS 2 message under an
    /// identifier that it has not released is taken for a duplicate. So a server that forgets tells it again.
    is_known: bool,
    has_session: bool,
    link: Option<Link>,
    input: Vec<u8>,
    output: Vec<u8>,
    queue: VecDeque<Sent>,
    received: Vec<Sent>,
    /// PUBACKs and PUBRECs that are to be sent.
    due: VecDeque<Ack<'static>>,
    due_qos: VecDeque<QoS>,
    receive_maximum: u16,
    forgets: bool,
}

impl Server {
    fn cut(&mut self) {
        self.link = None;
        self.input.clear();
        self.output.clear();
        self.due.clear();
        self.due_qos.clear();
    }

    fn receive(&mut self, bytes: &[u8], version: ProtocolVersion, random: &mut Random) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(frame) = Frame::split(&mut rest, MAXIMUM_PACKET_SIZE).unwrap() {
            let packet = Packet::decode(frame, version).unwrap();
            self.handle(packet, random);
        }
        self.input = rest.to_vec();
        self.flush();
    }

    fn handle(&mut self, packet: Packet<'_>, random: &mut Random) {
        self.is_known |= !matches!(packet, Packet::Connect(_));
        let answer = match packet {
            Packet::Connect(connect) => return self.connect(&connect, random),
            Packet::Publish(publish) => {
                let link = self.link.as_mut().unwrap();
                // Also finds out whether the client exceeds the receive maximum.
                let (topic, receipt) = self.session.receive_publish(link, &publish).unwrap();
                if receipt == Receipt::New {
                    self.received.push(Sent::read(topic.as_str(), publish.payload));
                }
                if let Some(packet_id) = publish.packet_id {
                    self.due.push_back(Ack::new(packet_id, ReasonCode::Success));
                    self.due_qos.push_back(publish.qos);
                }
                return;
            }
            Packet::PubAck(ack) => {
                self.session.receive_puback(ack.packet_id).unwrap();
                return;
            }
            Packet::PubComp(ack) => {
                self.session.receive_pubcomp(ack.packet_id).unwrap();
                return;
            }
            Packet::PubRec(ack) => match self.session.receive_pubrec(&ack).unwrap().1 {
                Some(pubrel) => Packet::PubRel(pubrel),
                None => return,
            },
            Packet::PubRel(ack) => Packet::PubComp(self.session.receive_pubrel(ack.packet_id)),
            Packet::Subscribe(subscribe) => {
                Packet::SubAck(SubAck::new(subscribe.packet_id, &[ReasonCode::Success]))
            }
            Packet::PingReq => Packet::PingResp,
            packet => panic!("a client sent {packet:?}"),
        };
        self.send(answer);
    }

    fn connect(&mut self, connect: &Connect<'_>, random: &mut Random) {
        assert!(self.link.is_none(), "a second CONNECT");
        let forgets = connect.clean_start || self.forgets && (!self.is_known || random.one_in(3));
        let session_present = self.has_session && !forgets;
        if !session_present {
            let unreceived: Vec<Sent> = self.session.outbound.take().map(|(_, sent)| sent).collect();
            unreceived.into_iter().rev().for_each(|sent| self.queue.push_front(sent));
            self.session = ServerSession::default();
        }
        self.is_known = session_present;
        self.has_session = true;
        let mut connack = ConnAck::new(session_present, ReasonCode::Success);
        connack.properties.receive_maximum = NonZeroU16::new(self.receive_maximum);
        connack.properties.topic_alias_maximum = Some(2);
        let own = LinkLimits {
            receive_maximum: self.receive_maximum,
            topic_alias_maximum: 2,
            ..LinkLimits::default()
        };
        let peer = LinkLimits {
            receive_maximum: connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            topic_alias_maximum: connect.properties.topic_alias_maximum.unwrap_or(0),
            ..LinkLimits::default()
        };
        let link = Link::new(connect.version, KeepAlive::new(connect.keep_alive), own, peer);
        self.session.begin(&link);
        self.link = Some(link);
        self.send(Packet::ConnAck(connack));
    }

    fn send(&mut self, packet: Packet<'_>) {
        let version = self.link.as_ref().unwrap().version;
        packet.encode(version, &mut self.output).unwrap();
    }

    fn answer(&mut self) {
        if let (Some(ack), Some(qos)) = (self.due.pop_front(), self.due_qos.pop_front()) {
            self.session.acknowledge(qos, ack.packet_id, ack.reason_code);
            self.send(if qos == QoS::ExactlyOnce { Packet::PubRec(ack) } else { Packet::PubAck(ack) });
        }
    }

    fn flush(&mut self) {
        let Some(link) = &mut self.link else { return };
        while let Some(resend) = self.session.outbound.resend() {
            match resend {
                Resend::PubRel(packet_id) => {
                    let pubrel = Packet::PubRel(Ack::new(packet_id, ReasonCode::Success));
                    pubrel.encode(link.version, &mut self.output).unwrap();
                }
                Resend::Publish(packet_id, qos, sent) => {
                    let (topic, payload) = (sent.topic(), sent.payload());
                    let mut publish = Publish::new(TopicName::new(&topic).unwrap(), &payload);
                    (publish.dup, publish.qos, publish.packet_id) = (true, qos, Some(packet_id));
                    publish.encode(link.version, &mut self.output).unwrap();
                }
            }
        }
        while let Some(&sent) = self.queue.front() {
            let mut packet_id = None;
            if sent.qos > QoS::AtMostOnce {
                let Ok(given) = self.session.outbound.send(sent.qos, sent) else { break };
                packet_id = Some(given);
            }
            self.queue.pop_front();
            let (topic, payload) = (sent.topic(), sent.payload());
            let topic = TopicName::new(&topic).unwrap();
            let mut publish = Publish::new(topic, &payload);
            (publish.qos, publish.packet_id) = (sent.qos, packet_id);
            match link.outbound_aliases.choose(topic) {
                AliasChoice::Name => {}
                AliasChoice::NameAndAlias(alias) => publish.properties.topic_alias = Some(alias),
                AliasChoice::Alias(alias) => {
                    (publish.topic, publish.properties.topic_alias) = (None, Some(alias));
                }
            }
            publish.encode(link.version, &mut self.output).unwrap();
        }
    }
}

/// One run.
struct Run {
    random: Random,
    version: ProtocolVersion,
    now: Instant,
    client: ClientSession,
    server: Server,
    up: Pipe,
    down: Pipe,
    /// Whether there is a transport, and whether anything still passes through it.
    is_up: bool,
    is_dead: bool,
    cuts: u64,
    to_publish: [u32; 2],
    published: Vec<(Token, Sent)>,
    done: HashSet<Token>,
    /// What the server has published.
    offered: Vec<Sent>,
    received: Vec<Sent>,
    receipts: Vec<MessageReceipt>,
}

impl Run {
    fn new(seed: u64, version: ProtocolVersion, forgets: bool) -> Self {
        let mut random = Random::new(seed);
        let receive_maximum = 1 + random.below(6) as u16;
        let mut options = ConnectOptions::new(version, "client");
        options.clean_start = match random.below(3) {
            0 if version == ProtocolVersion::V5 => CleanStart::First,
            1 if forgets => CleanStart::Always,
            _ => CleanStart::Never,
        };
        options.session_expiry_interval = 1000;
        options.keep_alive = 2;
        options.ping_timeout = Duration::from_secs(1);
        options.receive_maximum = NonZeroU16::new(1 + random.below(6) as u16).unwrap();
        options.topic_alias_maximum = 3;
        options.limits.topic_aliases = random.below(4) as u16;
        // Before 5.0 the server cannot say it, and the client must know.
        options.limits.send_maximum = NonZeroU16::new(receive_maximum).unwrap();
        options.limits.output_bytes = 1 + random.below(300) as usize;
        options.limits.events = 1 + random.below(10) as usize;
        if random.one_in(3) {
            options.acknowledgement = Acknowledgement::Manual;
        }
        let server = Server {
            session: ServerSession::default(),
            is_known: false,
            has_session: false,
            link: None,
            input: Vec::new(),
            output: Vec::new(),
            queue: VecDeque::new(),
            received: Vec::new(),
            due: VecDeque::new(),
            due_qos: VecDeque::new(),
            receive_maximum,
            forgets,
        };
        Self {
            cuts: random.below(8),
            to_publish: [random.below(40) as u32, random.below(40) as u32],
            random,
            version,
            now: Instant::from_millis(0),
            client: ClientSession::new(options).unwrap(),
            server,
            up: Pipe::default(),
            down: Pipe::default(),
            is_up: false,
            is_dead: false,
            published: Vec::new(),
            done: HashSet::new(),
            offered: Vec::new(),
            received: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(self.random.below(20));
        if self.is_dead
            && let Some(deadline) = self.client.poll_timeout()
        {
            self.now = self.now.max(deadline);
        }
        self.transport();
        self.applications();
        let pieces = 1 + self.random.below(4);
        for _ in 0..pieces {
            if self.client.wants_input()
                && let Some(piece) = self.down.arrive(self.now)
            {
                self.client.receive(&piece, self.now).unwrap();
            }
            if let Some(piece) = self.up.arrive(self.now) {
                self.server.receive(&piece, self.version, &mut self.random);
            }
        }
        match self.client.handle_timeout(self.now) {
            Ok(()) => {}
            Err(ClientError::PingTimeout | ClientError::ConnAckTimeout) => assert!(self.is_dead),
            Err(error) => panic!("{error}"),
        }
        let count = 1 + self.random.below(3);
        for _ in 0..count {
            self.event();
        }
    }

    /// Connects, sends, cuts.
    fn transport(&mut self) {
        if self.client.is_closing() || self.is_up && !self.is_dead && self.cuts > 0 && self.random.one_in(60)
        {
            let silently = !self.client.is_closing() && self.random.one_in(3);
            self.cuts = self.cuts.saturating_sub(1);
            (self.up, self.down) = (Pipe::default(), Pipe::default());
            self.server.cut();
            self.is_dead = silently;
            if !silently {
                self.is_up = false;
                self.client.disconnected();
            }
        }
        if !self.is_up {
            self.is_up = true;
            self.client.connected(self.now);
        }
        let output = self.client.output();
        if !output.is_empty() {
            let taken = 1 + self.random.below(output.len() as u64) as usize;
            if !self.is_dead {
                self.up.send(&output[..taken], self.now, &mut self.random);
            }
            self.client.consume(taken, self.now);
        }
        if self.server.link.is_some() {
            while self.random.one_in(2) {
                self.server.answer();
            }
            let output = std::mem::take(&mut self.server.output);
            self.down.send(&output, self.now, &mut self.random);
        }
    }

    /// Publish, subscribe, acknowledge.
    fn applications(&mut self) {
        if self.to_publish[0] > 0 && self.random.one_in(3) {
            let sent = Sent { qos: self.random.qos(), number: self.to_publish[0] };
            let (topic, payload) = (sent.topic(), sent.payload());
            let mut publish = Publish::new(TopicName::new(&topic).unwrap(), &payload);
            publish.qos = sent.qos;
            match self.client.publish(&publish) {
                Ok(token) => {
                    self.published.push((token, sent));
                    self.to_publish[0] -= 1;
                }
                Err(error) => assert_eq!(sent.qos, QoS::AtMostOnce, "{error}"),
            }
        }
        if self.to_publish[1] > 0 && self.random.one_in(3) {
            let sent = Sent { qos: self.random.qos(), number: self.to_publish[1] };
            self.to_publish[1] -= 1;
            self.offered.push(sent);
            self.server.queue.push_back(sent);
            self.server.flush();
        }
        if self.client.is_connected() && self.random.one_in(40) {
            let filter = TopicFilter::new("topic/#").unwrap();
            let subscription = Subscription { filter, options: SubscriptionOptions::default() };
            // When the output is full, there is another time.
            let _ = self.client.subscribe(&[subscription], SubscribeProperties::default());
        }
        if !self.receipts.is_empty() && self.random.one_in(2) {
            let index = self.random.below(self.receipts.len() as u64) as usize;
            // One of QoS 1 from an earlier connection is of no use, and sent again.
            let _ = self.client.acknowledge(self.receipts.swap_remove(index), ReasonCode::Success);
        }
    }

    fn event(&mut self) {
        match self.client.poll_event() {
            None => {}
            Some(Event::Message(message)) => {
                let sent = Sent::read(message.topic(), message.payload());
                assert_eq!(sent.qos, message.qos());
                self.received.push(sent);
                if self.client.options().acknowledgement == Acknowledgement::Manual {
                    self.receipts.extend(message.receipt());
                }
            }
            Some(Event::Published { token, reason_code, .. }) => {
                assert_eq!(reason_code, ReasonCode::Success);
                assert!(self.done.insert(token), "a publish was done twice");
            }
            Some(Event::Disconnected(cause)) => {
                let expected = matches!(
                    cause,
                    Cause::Transport | Cause::Error(ClientError::PingTimeout | ClientError::ConnAckTimeout)
                );
                assert!(expected, "{cause:?}");
            }
            Some(Event::Connected(_) | Event::Subscribed { .. } | Event::Abandoned { .. }) => {}
            Some(event) => panic!("{event:?}"),
        }
    }

    fn is_done(&self) -> bool {
        self.to_publish == [0, 0]
            && self.is_up
            && !self.is_dead
            && self.client.is_connected()
            && self.client.stored_messages() == 0
            && self.client.in_flight() == 0
            && self.server.session.outbound.is_empty()
            && self.server.session.inbound.unreleased() == 0
            && self.server.queue.is_empty()
            && self.server.output.is_empty()
            && self.up.0.is_empty()
            && self.down.0.is_empty()
            && self.client.output().is_empty()
    }

    fn check(&mut self, forgets: bool) {
        let mut steps = 0;
        while !self.is_done() {
            self.step();
            steps += 1;
            assert!(steps < 50_000, "nothing moves any more");
        }
        while !self.client.wants_input() || self.client.stored_messages() > 0 {
            self.event();
        }
        for _ in 0..self.client.options().limits.events + 100 {
            self.event();
        }
        assert_eq!(self.client.stored_bytes(), 0);
        for &(token, sent) in &self.published {
            assert_eq!(self.done.contains(&token), sent.qos > QoS::AtMostOnce);
        }
        let sent: Vec<Sent> = self.published.iter().map(|&(_, sent)| sent).collect();
        check_delivery(&sent, &self.server.received, forgets);
        check_delivery(&self.offered, &self.received, forgets);
    }
}

/// `received` is what each quality of service promises of `sent`.
fn check_delivery(sent: &[Sent], received: &[Sent], forgets: bool) {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let sent: Vec<Sent> = sent.iter().copied().filter(|sent| sent.qos == qos).collect();
        let received: Vec<Sent> = received.iter().copied().filter(|sent| sent.qos == qos).collect();
        let mut seen = HashSet::new();
        let first: Vec<Sent> = received.iter().copied().filter(|&sent| seen.insert(sent)).collect();
        match qos {
            QoS::AtMostOnce => {
                assert_eq!(first, received, "QoS 0 came twice");
                let mut rest = sent.iter();
                assert!(first.iter().all(|wanted| rest.any(|sent| sent == wanted)), "QoS 0 out of order");
            }
            QoS::AtLeastOnce => assert_eq!(first, sent, "QoS 1"),
            QoS::ExactlyOnce if forgets => assert_eq!(first, sent, "QoS 2 with forgotten sessions"),
            QoS::ExactlyOnce => assert_eq!(received, sent, "QoS 2"),
        }
    }
}

fn check(version: ProtocolVersion, forgets: bool) {
    for seed in 1..=3000 {
        let run = std::panic::catch_unwind(|| Run::new(seed, version, forgets).check(forgets));
        assert!(run.is_ok(), "seed {seed} of MQTT {version}");
    }
}

// 3.1.1 [MQTT-3.1.2-4], [MQTT-4.3.2-1], [MQTT-4.3.2-2], [MQTT-4.3.3-1], [MQTT-4.3.3-2], [MQTT-4.4.0-1]
// 3.1.1 [MQTT-4.1.0-1], [MQTT-4.1.0-2]
#[test]
fn keeps_its_promises_in_3_1_1() {
    check(ProtocolVersion::V311, false);
}

// [MQTT-3.1.2-23], [MQTT-4.1.0-1], [MQTT-4.3.2-3], [MQTT-4.3.3-10], [MQTT-4.4.0-1]
#[test]
fn keeps_its_promises_in_5_0() {
    check(ProtocolVersion::V5, false);
}

#[test]
fn loses_nothing_when_the_server_forgets_in_3_1_1() {
    check(ProtocolVersion::V311, true);
}

// [attack: server-forgets]
#[test]
fn loses_nothing_when_the_server_forgets_in_5_0() {
    check(ProtocolVersion::V5, true);
}
