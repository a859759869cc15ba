use std::fmt;
use std::sync::Arc;

use lapwing_proto::packet::{Connect, Frame, MAXIMUM_PACKET_SIZE, ProtocolVersion};
use lapwing_proto::session::{InboundAliases, Instant, KeepAlive, Link, LinkLimits, OutboundAliases};

use super::admission::Meter;
use super::outbox::Outbox;
use super::route::RoutePlace;
use super::session::SessionKey;
use super::timer::Timer;
use super::{ConnectionId, SessionId};
use crate::hook::{Client, Exchange, Identity, Permit};
use crate::origin::Origin;
use crate::shared::ShardId;

/// A time that never comes.
pub(super) const FOR_EVER: Instant = Instant::from_millis(u64::MAX);
/// A packet's type and its remaining length.
const FIXED_HEADER_MAXIMUM: usize = 5;

/// A network connection, from its acceptance to the last byte written to it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) origin: Origin,
    pub(super) phase: Phase,
    /// What has arrived and is not yet handled: the beginning of a packet, or all that waits for a verdict.
    pub(super) tail: Vec<u8>,
    pub(super) outbox: Outbox,
    /// Whether the connection is in the shard's list of those that have something to write.
    pub(super) is_dirty: bool,
    /// When the last packet arrived; before the first one, when the connection was accepted.
    pub(super) heard: Instant,
    /// When its timer fires.
    pub(super) timer: Instant,
    /// How much of it may be read, where there is a limit on that.
    pub(super) meter: Option<Box<Meter>>,
    /// Whether some of its whole packets wait for the next turn.
    pub(super) is_unfinished: bool,
    /// Whether the connection is in the shard's list of those that go on with retained messages.
    pub(super) is_replaying: bool,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// The first packet has not come yet.
    AwaitingConnect,
    /// The CONNECT waits for a verdict.
    Authenticating(Box<Pending>),
    /// An extended authentication is under way.
    Exchanging(Box<Exchanging>),
    /// The client is let in, and on its way to the shard that has its session.
    Departing(Box<Departing>),
    /// The client is let in, and it is not known yet how far the messages of its session are.
    Restoring(Box<Departing>),
    /// The client is connected.
    Open(Open),
    /// What is in the outbox is the last.
    Closing,
}

/// A client that has been let in, and waits to go on with its session.
#[derive(Debug)]
pub(super) struct Departing {
    pub(super) shard: ShardId,
    pub(super) key: SessionKey,
    pub(super) pending: Pending,
    pub(super) identity: Identity,
    /// The last of an extended authentication.
    pub(super) authentication_data: Option<Vec<u8>>,
}

/// A CONNECT that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The packet, encoded.
    pub(super) connect: Vec<u8>,
    /// The client identifier, also where the packet has none.
    pub(super) client_id: String,
}

impl Pending {
    pub(super) fn new(connect: &Connect<'_>, client_id: String) -> Self {
        let mut bytes = Vec::new();
        // What was decoded can be encoded again.
        let is_kept = connect.encode(&mut bytes).is_ok();
        debug_assert!(is_kept);
        Self { connect: bytes, client_id }
    }

    pub(super) fn connect(&self) -> Option<Connect<'_>> {
        let mut input = &self.connect[..];
        let frame = Frame::split(&mut input, MAXIMUM_PACKET_SIZE).ok().flatten()?;
        Connect::decode(frame).ok()
    }
}

/// An extended authentication that waits for the client's answer.
pub(super) struct Exchanging {
    pub(super) pending: Pending,
    pub(super) exchange: Box<dyn Exchange>,
    /// Answers that the client may still give.
    pub(super) steps_left: u8,
}

impl fmt::Debug for Exchanging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanging").field("client_id", &self.pending.client_id).finish_non_exhaustive()
    }
}

/// How a connected client authenticates anew.
pub(super) struct Reauthentication {
    /// The method that the client named in CONNECT: the only one that it may use `[MQTT-4.12.1-1]`.
    pub(super) method: Box<str>,
    /// Waits for the client's answer.
    pub(super) exchange: Option<Box<dyn Exchange>>,
}

impl fmt::Debug for Reauthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reauthentication").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What a connection has once its client is connected.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: SessionId,
    /// Where the route of the topic is remembered that the client published to last.
    pub(super) route: RoutePlace,
    pub(super) link: Agreement,
    pub(super) client: Client,
    /// What it may do.
    pub(super) permit: Arc<dyn Permit>,
    /// When it was let in.
    pub(super) connected: Instant,
    /// Until when it may stay; [`FOR_EVER`] where that has no end.
    pub(super) valid_until: Instant,
    /// Present where the client authenticated with a method.
    pub(super) reauthentication: Option<Box<Reauthentication>>,
}

/// What holds for a connection: what of a [`Link`] is needed after CONNACK, without room for aliases that most
/// clients never use.
#[derive(Debug)]
pub(super) struct Agreement {
    pub(super) version: ProtocolVersion,
    pub(super) problem_information: bool,
    pub(super) keep_alive: KeepAlive,
    /// The highest alias that the client may give.
    own_topic_alias_maximum: u16,
    /// What the client takes.
    pub(super) peer: LinkLimits,
    /// Made when the first one is needed.
    aliases: Option<Box<Aliases>>,
}

#[derive(Debug)]
struct Aliases {
    inbound: InboundAliases,
    outbound: OutboundAliases,
}

impl Agreement {
    /// Whether the client takes any alias at all.
    pub(super) fn takes_aliases(&self) -> bool {
        self.peer.topic_alias_maximum > 0
    }

    /// Aliases that the client has given.
    pub(super) fn inbound_aliases(&mut self) -> &mut InboundAliases {
        &mut self.aliases().inbound
    }

    /// Aliases that the client was given.
    pub(super) fn outbound_aliases(&mut self) -> &mut OutboundAliases {
        &mut self.aliases().outbound
    }

    fn aliases(&mut self) -> &mut Aliases {
        self.aliases.get_or_insert_with(|| {
            Box::new(Aliases {
                inbound: InboundAliases::new(self.own_topic_alias_maximum),
                outbound: OutboundAliases::new(self.peer.topic_alias_maximum),
            })
        })
    }
}

impl From<Link> for Agreement {
    fn from(link: Link) -> Self {
        // Before 5.0 there are no aliases.
        let has_aliases = link.version == ProtocolVersion::V5;
        let aliases = |limits: LinkLimits| if has_aliases { limits.topic_alias_maximum } else { 0 };
        Self {
            version: link.version,
            problem_information: link.problem_information,
            keep_alive: link.keep_alive,
            own_topic_alias_maximum: aliases(link.own),
            peer: LinkLimits { topic_alias_maximum: aliases(link.peer), ..link.peer },
            aliases: None,
        }
    }
}

impl Connection {
    pub(super) fn new(id: ConnectionId, origin: Origin, now: Instant) -> Self {
        Self {
            id,
            origin,
            phase: Phase::AwaitingConnect,
            tail: Vec::new(),
            outbox: Outbox::default(),
            is_dirty: false,
            heard: now,
            meter: None,
            timer: now,
            is_unfinished: false,
            is_replaying: false,
        }
    }

    /// Moves bytes from the front of `input` to the tail until the packet there is whole: no more, since what is
    /// behind it need not be copied.
    pub(super) fn complete_tail(&mut self, input: &mut &[u8]) {
        let is_header =
            |tail: &[u8]| tail.len() < FIXED_HEADER_MAXIMUM && Frame::declared_size(tail).is_none();
        while is_header(&self.tail)
            && let Some((&byte, rest)) = input.split_first()
        {
            self.tail.push(byte);
            *input = rest;
        }
        let size = Frame::declared_size(&self.tail).unwrap_or(0);
        let (missing, rest) = input.split_at(size.saturating_sub(self.tail.len()).min(input.len()));
        self.tail.extend_from_slice(missing);
        *input = rest;
    }

    /// All timers that it needs, with the times at which they fire.
    pub(super) fn timers(&self) -> impl Iterator<Item = (Instant, Timer)> {
        let meter = self.meter.as_deref();
        let paused_until = meter.and_then(Meter::paused_until);
        let held_until = meter.and_then(Meter::held_until);
        let valid_until = self.open().map(|open| open.valid_until).filter(|&until| until != FOR_EVER);
        let timers = [
            Some((self.timer, Timer::Connection(self.id))),
            paused_until.map(|until| (until, Timer::Meter(self.id))),
            held_until.map(|until| (until, Timer::Meter(self.id))),
            valid_until.map(|until| (until, Timer::Identity(self.id))),
        ];
        timers.into_iter().flatten()
    }

    /// Whether its client has sent so much lately that it is not read from for a while.
    pub(super) fn is_paused(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.paused_until().is_some())
    }

    pub(super) fn open(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The version that the client speaks, once it has said so.
    pub(super) fn version(&self) -> Option<ProtocolVersion> {
        self.open().map(|open| open.link.version)
    }
}
