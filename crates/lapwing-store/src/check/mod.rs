//! Whether what a store has makes sense: every entry can be read, and those that belong together are there.

mod finding;
mod repair;

use std::ops::{Bound, ControlFlow};

use hashbrown::{HashMap, HashSet};
use lapwing_proto::packet::SubscriptionOptions;
use lapwing_proto::topic::{TopicFilter, TopicName};

pub(crate) use self::finding::shown;
pub use self::finding::{Fault, Finding};
pub use self::repair::repair;
use crate::engine::{Engine, EngineError, KeyRange, Space};
use crate::record::{
    DelayedRecord, FlowKey, FlowState, KeyRecord, RetainedRecord, Sequence, SessionNumber, SessionRecord,
    SubscriptionRecord,
};
use crate::value::{self, Counters, QueueEntry};
use crate::{key, message};

/// The topic of a message as it is kept; `None` where the bytes are none. The store does not know the form of messages.
pub type TopicOf<'a> = dyn Fn(&[u8]) -> Option<String> + 'a;

/// What a check has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries that were looked at.
    pub entries: u64,
    /// Entries that are not as they should be.
    pub faults: u64,
    /// Entries that the broker will remove by itself.
    pub left_over: u64,
}

const EVERYTHING: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

/// Looks at every entry, and shows what is not as it should be.
///
/// # Errors
/// An [`EngineError`] where an entry cannot be read at all.
pub fn check(
    engine: &dyn Engine,
    topic: &TopicOf<'_>,
    found: &mut dyn FnMut(&Finding),
) -> Result<Report, EngineError> {
    let mut check = Check::new(engine, topic, found);
    check.space(Space::Meta, Check::meta)?;
    check.space(Space::Session, Check::session)?;
    check.space(Space::Subscription, Check::subscription)?;
    check.space(Space::Message, Check::message)?;
    check.space(Space::Queue, Check::queue)?;
    check.holders()?;
    check.space(Space::Flow, Check::flow)?;
    check.space(Space::Retained, Check::retained)?;
    check.space(Space::Delayed, Check::delayed)?;
    check.numbers();
    Ok(check.report)
}

/// What a key is about, for people.
pub fn subject(engine: &dyn Engine, topic: &TopicOf<'_>, space: Space, key: &[u8]) -> String {
    let mut unheard = |_: &Finding| ();
    let mut check = Check::new(engine, topic, &mut unheard);
    let has_session = matches!(space, Space::Session | Space::Subscription | Space::Queue | Space::Flow);
    let session = key::parse_session(key).filter(|_| has_session).map(key::session);
    if let Some(session) = session
        && let Ok(Some(record)) = engine.get(Space::Session, &session)
    {
        // What is wrong with the record is of no interest here.
        let _ = check.session(&session, &record);
    }
    let value = engine.get(space, key).ok().flatten().unwrap_or_default();
    check.subject(space, key, &value)
}

/// A session to which entries can belong.
enum Owner {
    /// Under this client identifier, or key of the authenticator; or its record cannot be read.
    Session(Option<Box<str>>),
    /// It is over, and its messages go to others.
    Closed,
    /// It is over, and what it had is being removed.
    Ended,
}

/// A message that several sessions wait for.
struct Shared {
    size: usize,
    /// For how many of those that it is for an entry is there.
    waiting: u32,
    /// How many entries refer to it.
    entries: u32,
}

struct Check<'a> {
    engine: &'a dyn Engine,
    topic: &'a TopicOf<'a>,
    found: &'a mut dyn FnMut(&Finding),
    report: Report,
    owners: HashMap<SessionNumber, Owner>,
    messages: HashMap<Sequence, Shared>,
    counters: Option<Counters>,
    /// The numbers behind all that were seen.
    next: Counters,
}

type Look<'a> = fn(&mut Check<'a>, &[u8], &[u8]) -> Result<Option<Fault>, EngineError>;

impl<'a> Check<'a> {
    fn new(engine: &'a dyn Engine, topic: &'a TopicOf<'a>, found: &'a mut dyn FnMut(&Finding)) -> Self {
        Self {
            engine,
            topic,
            found,
            report: Report::default(),
            owners: HashMap::new(),
            messages: HashMap::new(),
            counters: None,
            next: Counters { sequence: 1, session: 1 },
        }
    }

    fn space(&mut self, space: Space, look: Look<'a>) -> Result<(), EngineError> {
        try_scan(self.engine, space, |key, value| {
            self.report.entries += 1;
            if let Some(fault) = look(self, key, value)? {
                self.tell(space, key, value, fault);
            }
            Ok(())
        })
    }

    fn tell(&mut self, space: Space, key: &[u8], value: &[u8], fault: Fault) {
        let subject = self.subject(space, key, value);
        let finding = Finding { space, key: key.to_vec(), subject, fault };
        match finding.is_left_over() {
            true => self.report.left_over += 1,
            false => self.report.faults += 1,
        }
        (self.found)(&finding);
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        if key == key::COUNTERS {
            self.counters = value::read_all(value);
            // It is told with the others, when it is known what it must be.
            return Ok(None);
        }
        let (session, owner) = match (key::parse_ended(key), key::parse_closed(key)) {
            (Some(session), _) => (session, Owner::Ended),
            (_, Some(session)) => (session, Owner::Closed),
            _ => return Ok(Some(Fault::Key)),
        };
        self.see(session);
        self.owners.insert(session, owner);
        Ok(None)
    }

    fn session(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        let Some(session) = key::parse_session(key).filter(|_| key.len() == 8) else {
            return Ok(Some(Fault::Key));
        };
        self.see(session);
        let record = value::read_all::<SessionRecord>(value);
        let name = record.as_ref().map(|record| match &record.key {
            KeyRecord::ClientId(name)
            | KeyRecord::Identity(name)
            | KeyRecord::Owned { client_id: name, .. } => shown(name).into_boxed_str(),
        });
        self.owners.insert(session, Owner::Session(name));
        let Some(record) = record else { return Ok(Some(Fault::Value)) };
        let will = record.will.as_ref().map(|will| (self.topic)(&will.message));
        Ok((will == Some(None)).then_some(Fault::Message))
    }

    fn subscription(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        let Some((session, filter)) = key::parse_subscription(key) else { return Ok(Some(Fault::Key)) };
        self.see(session);
        let options = value::read_all::<SubscriptionRecord>(value).map(|record| record.options);
        Ok(match self.owners.get(&session) {
            Some(Owner::Ended | Owner::Closed) => None,
            None => Some(Fault::NoSession),
            Some(Owner::Session(_)) if TopicFilter::new(filter).is_err() => Some(Fault::Topic),
            Some(Owner::Session(_)) => {
                options.and_then(SubscriptionOptions::from_byte).is_none().then_some(Fault::Value)
            }
        })
    }

    fn message(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        let Some(sequence) = key::parse_sequence(key) else { return Ok(Some(Fault::Key)) };
        self.next.sequence = self.next.sequence.max(sequence.0.saturating_add(1));
        let Some((holders, message)) = message::split(value) else { return Ok(Some(Fault::Value)) };
        let mut waiting = 0;
        for holder in holders {
            let entry = self.engine.get(Space::Queue, &key::queue(holder, sequence))?;
            waiting += u32::from(entry.is_some());
        }
        if (self.topic)(message).is_none() {
            return Ok(Some(Fault::Message));
        }
        self.messages.insert(sequence, Shared { size: message.len(), waiting, entries: 0 });
        Ok((waiting == 0).then_some(Fault::NoWaiting))
    }

    fn queue(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        let Some((session, sequence)) = key::parse_queue(key) else { return Ok(Some(Fault::Key)) };
        self.see(session);
        self.next.sequence = self.next.sequence.max(sequence.0.saturating_add(1));
        let entry = value::read::<QueueEntry>(value);
        let Some((entry, own)) =
            entry.filter(|(entry, own)| entry.qos <= 2 && (!entry.is_shared || own.is_empty()))
        else {
            return Ok(Some(Fault::Value));
        };
        let shared = self.messages.get_mut(&sequence).filter(|_| entry.is_shared);
        let size = match shared {
            Some(shared) => {
                shared.entries += 1;
                Some(shared.size)
            }
            None => (!entry.is_shared).then_some(own.len()),
        };
        Ok(match (self.owners.get(&session), size) {
            (Some(Owner::Ended), _) => None,
            (None, _) => Some(Fault::NoSession),
            (_, None) => Some(Fault::NoMessage),
            (_, Some(size)) if size != entry.size as usize => Some(Fault::Size),
            (_, Some(_)) => {
                let is_message = entry.is_shared || (self.topic)(own).is_some();
                (!is_message).then_some(Fault::Message)
            }
        })
    }

    /// Looks for entries that refer to messages which are not for their sessions. That there are some is seen by the counts.
    fn holders(&mut self) -> Result<(), EngineError> {
        let strays = self.messages.iter().filter(|(_, shared)| shared.entries > shared.waiting);
        let strays: HashSet<Sequence> = strays.map(|(sequence, _)| *sequence).collect();
        if strays.is_empty() {
            return Ok(());
        }
        let engine = self.engine;
        try_scan(engine, Space::Queue, |key, value| {
            let place = key::parse_queue(key).filter(|(_, sequence)| strays.contains(sequence));
            let Some((session, sequence)) = place else { return Ok(()) };
            let stored = engine.get(Space::Message, &key::sequence(sequence))?;
            let holders = stored.as_deref().and_then(message::split);
            if !holders.is_some_and(|(mut holders, _)| holders.any(|holder| holder == session)) {
                self.tell(Space::Queue, key, value, Fault::NotForSession);
            }
            Ok(())
        })
    }

    fn flow(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        let Some((session, flow)) = key::parse_flow(key) else { return Ok(Some(Fault::Key)) };
        self.see(session);
        let sent = match (flow, value::read_all::<FlowState>(value)) {
            (FlowKey::Inbound(_), Some(FlowState::Received))
            | (FlowKey::Outbound(_), Some(FlowState::Released(..))) => None,
            (FlowKey::Outbound(_), Some(FlowState::Sent(sequence))) => Some(sequence),
            _ => return Ok(Some(Fault::Value)),
        };
        Ok(match (self.owners.get(&session), sent) {
            (Some(Owner::Ended | Owner::Closed), _) => None,
            (None, _) => Some(Fault::NoSession),
            (Some(Owner::Session(_)), Some(sequence)) => {
                let entry = self.engine.get(Space::Queue, &key::queue(session, sequence))?;
                entry.is_none().then_some(Fault::NoWaiting)
            }
            (Some(Owner::Session(_)), None) => None,
        })
    }

    fn retained(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        let Ok(topic) = std::str::from_utf8(key) else { return Ok(Some(Fault::Key)) };
        if TopicName::new(topic).is_err() {
            return Ok(Some(Fault::Topic));
        }
        let Some(record) = value::read_all::<RetainedRecord>(value) else { return Ok(Some(Fault::Value)) };
        Ok((self.topic)(&record.message).is_none().then_some(Fault::Message))
    }

    fn delayed(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Fault>, EngineError> {
        if key::parse_delayed(key).is_none() {
            return Ok(Some(Fault::Key));
        }
        let Some(record) = value::read_all::<DelayedRecord>(value) else { return Ok(Some(Fault::Value)) };
        Ok((self.topic)(&record.message).is_none().then_some(Fault::Message))
    }

    /// New messages must not take the places of those there are.
    fn numbers(&mut self) {
        let next = self.next;
        let is_first = next.sequence == 1 && next.session == 1;
        let is_enough = match self.counters {
            Some(counters) => counters.sequence >= next.sequence && counters.session >= next.session,
            // Nothing has been given yet.
            None => is_first && self.report.entries == 0,
        };
        if !is_enough {
            let given = self.counters.unwrap_or(next);
            let next = Counters {
                sequence: next.sequence.max(given.sequence),
                session: next.session.max(given.session),
            };
            self.tell(Space::Meta, key::COUNTERS, &[], Fault::numbers(next));
        }
    }

    /// A session was given this number.
    fn see(&mut self, session: SessionNumber) {
        self.next.session = self.next.session.max(session.0.saturating_add(1));
    }

    /// What an entry is about.
    fn subject(&self, space: Space, key: &[u8], value: &[u8]) -> String {
        let bytes = || key.escape_ascii().to_string();
        let of = |session: Option<SessionNumber>, what: String| match session {
            Some(session) => format!("{}{what}", self.name(session)),
            None => bytes(),
        };
        let on = |message: &[u8]| match (self.topic)(message) {
            Some(topic) => format!(" on {}", shown(&topic)),
            None => String::new(),
        };
        match space {
            Space::Meta => bytes(),
            Space::Session => of(key::parse_session(key), String::new()),
            Space::Subscription => match key::parse_subscription(key) {
                Some((session, filter)) => of(Some(session), format!(", filter {}", shown(filter))),
                None => bytes(),
            },
            Space::Queue => match key::parse_queue(key) {
                Some((session, sequence)) => {
                    let own = value::read::<QueueEntry>(value).filter(|(entry, _)| !entry.is_shared);
                    let on = own.map_or_else(|| self.shared_topic(sequence), |(_, message)| on(message));
                    of(Some(session), format!(", message {}{on}", sequence.0))
                }
                None => bytes(),
            },
            Space::Message => match key::parse_sequence(key) {
                Some(sequence) => {
                    let message = message::split(value).map_or(&[][..], |(_, message)| message);
                    format!("message {}{}", sequence.0, on(message))
                }
                None => bytes(),
            },
            Space::Flow => match key::parse_flow(key) {
                Some((session, FlowKey::Inbound(id))) => of(Some(session), format!(", packet {id} from it")),
                Some((session, FlowKey::Outbound(id))) => of(Some(session), format!(", packet {id} to it")),
                None => bytes(),
            },
            Space::Retained => std::str::from_utf8(key).map_or_else(|_| bytes(), shown),
            Space::Delayed => match (key::parse_delayed(key), value::read_all::<DelayedRecord>(value)) {
                (Some(number), Some(record)) => format!("message {number}{}", on(&record.message)),
                (Some(number), None) => format!("message {number}"),
                (None, _) => bytes(),
            },
        }
    }

    fn shared_topic(&self, sequence: Sequence) -> String {
        let stored = self.engine.get(Space::Message, &key::sequence(sequence)).ok().flatten();
        let message = stored.as_deref().and_then(message::split).map(|(_, message)| message);
        message.and_then(self.topic).map_or_else(String::new, |topic| format!(" on {}", shown(&topic)))
    }

    fn name(&self, session: SessionNumber) -> String {
        match self.owners.get(&session) {
            Some(Owner::Session(Some(name))) => format!("client {name} (session {})", session.0),
            _ => format!("session {}", session.0),
        }
    }
}

/// Shows all entries of a space until there is an error.
fn try_scan(
    engine: &dyn Engine,
    space: Space,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut result = Ok(());
    engine.scan(space, EVERYTHING, &mut |key, value| {
        result = visit(key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result
}
