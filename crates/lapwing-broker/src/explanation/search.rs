//! Asking all shards what they remember, and putting it together.
//!
//! First who published what, and for a client, what it was to get; then what became of these messages on every shard.
//! Each question is answered within a turn: a shard looks through some thousand records, and says where to go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use hashbrown::{HashMap, HashSet};
use lapwing_proto::packet::{QoS, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilterBuf, TopicName, TopicNameBuf};

use super::{
    Delivery, DeliveryState, Explanation, Happening, Incident, Message, Passage, Publisher, Question, Reach,
    Subscription, Wait,
};
use crate::control::{self, ControlError, Inquiry};
use crate::hook::RuleId;
use crate::shard::{DeliveryEntry, SessionId, SessionKey, Trace};
use crate::shared::{ShardId, Shared};

/// What became of a message is shown for so many sessions.
const DELIVERIES_SHOWN: usize = 100;
/// Records that are gathered for one answer.
const FOUND_MAXIMUM: usize = 20_000;
/// Topics of which the subscriptions are shown, and sessions for each of them.
const TOPICS_SHOWN: usize = 8;
const SESSIONS_SHOWN: usize = 100;
/// By how much a record of one shard may seem older than what it followed on another one: a turn has one time.
const SKEW: Duration = Duration::from_secs(2);

/// Which records are asked for: those of some messages, and those of a topic or of sessions.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) topic: Option<TopicFilterBuf>,
    /// `None` for anybody's.
    pub(crate) sessions: Option<HashSet<SessionId>>,
    pub(crate) traces: HashSet<Trace>,
    pub(crate) since: Instant,
}

/// Where to go on in a shard's records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) place: u32,
    /// The time of the record there.
    pub(crate) last: Instant,
}

/// What was found in a turn.
#[derive(Debug, Default)]
pub(crate) struct TrailPage {
    pub(crate) found: Vec<Finding>,
    pub(crate) clients: Vec<(SessionId, String)>,
    pub(crate) next: Option<Cursor>,
}

/// A record.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) at: Instant,
    pub(crate) trace: Trace,
    pub(crate) session: Option<SessionId>,
    pub(crate) found: Found,
}

#[derive(Debug)]
pub(crate) enum Found {
    Published {
        topic: Option<String>,
        is_cut: bool,
        qos: u8,
        retain: bool,
        is_direct: bool,
        passage: Passage,
        receivers: u32,
        messages: u16,
    },
    /// Times mean something where the state says so.
    Delivery {
        sent: Instant,
        settled: Instant,
        delivery: DeliveryEntry,
    },
    Late {
        topic: Option<String>,
        settled: Instant,
        delivery: DeliveryEntry,
    },
    Run {
        count: u32,
        state: DeliveryState,
    },
    /// A run that one session of the same shard got.
    Lone {
        topic: Option<String>,
        is_cut: bool,
        receiver: SessionId,
        state: DeliveryState,
        count: u32,
    },
}

/// Which incidents are asked for.
#[derive(Debug)]
pub(crate) struct IncidentSearch {
    pub(crate) topic: Option<TopicFilterBuf>,
    pub(crate) client: Option<String>,
    pub(crate) since: Instant,
    pub(crate) maximum: usize,
}

#[derive(Debug, Default)]
pub(crate) struct IncidentPage {
    pub(crate) is_on: bool,
    pub(crate) incidents: Vec<Match>,
    pub(crate) is_more: bool,
    /// That the client has had.
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) reach: Option<Instant>,
    pub(crate) messages_reach: Option<Instant>,
}

/// An incident.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) at: Instant,
    pub(crate) last: Instant,
    pub(crate) count: u32,
    pub(crate) client_id: String,
    pub(crate) happening: Happening,
    pub(crate) rule: Option<String>,
}

/// By which filters a session has a topic.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) session: SessionId,
    pub(crate) client_id: Option<String>,
    pub(crate) filters: Vec<TopicFilterBuf>,
}

/// Asks the shards.
pub(crate) struct Inquest<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) now: Instant,
    /// Called while a shard is to answer.
    pub(crate) meanwhile: &'a dyn Fn(),
}

impl Inquest<'_> {
    /// What is known.
    pub(crate) fn answer(&self, question: &Question) -> Result<Explanation, ControlError> {
        let now = self.now;
        let since_ms = u64::try_from(question.since.as_millis()).unwrap_or(u64::MAX);
        let since = Instant::from_millis(now.as_millis().saturating_sub(since_ms));
        let mut answer = Explanation::default();
        let sessions = self.ask_incidents(question, since, &mut answer)?;
        let mut gathered = Gathered::default();
        let search = Search { topic: question.topic.clone(), sessions, since, ..Search::default() };
        self.search(search, &mut gathered, question.maximum)?;
        answer.is_more |= gathered.keep_newest(question.maximum);
        self.follow(&mut gathered)?;
        answer.is_more |= gathered.is_cut;
        answer.messages = self.messages(gathered, question);
        answer.subscriptions = self.subscriptions_of(question, &answer.messages)?;
        Ok(answer)
    }

    /// Incidents and reaches; and where a client is asked for, which sessions it has and had.
    fn ask_incidents(
        &self,
        question: &Question,
        since: Instant,
        answer: &mut Explanation,
    ) -> Result<Option<HashSet<SessionId>>, ControlError> {
        let search = Arc::new(IncidentSearch {
            topic: question.topic.clone(),
            client: question.client.clone(),
            since,
            maximum: question.maximum,
        });
        let (mut sessions, mut matches) = (HashSet::new(), Vec::new());
        for shard in self.shared.shards() {
            let page = self.ask(shard, |reply| Inquiry::Incidents { search: Arc::clone(&search), reply })?;
            let (messages, incidents) =
                (page.messages_reach.map(|at| self.wall(at)), page.reach.map(|at| self.wall(at)));
            answer.reaches.push(Reach { is_on: page.is_on, messages, incidents });
            sessions.extend(page.sessions);
            // From the oldest to the newest, also where several have one time.
            matches.extend(page.incidents.into_iter().rev());
            answer.is_more |= page.is_more;
        }
        matches.sort_by_key(|it| it.last);
        let surplus = matches.len().saturating_sub(question.maximum);
        answer.is_more |= surplus > 0;
        answer.incidents = matches.drain(surplus..).map(|it| self.incident(it)).collect();
        let Some(client) = &question.client else { return Ok(None) };
        let keys =
            [SessionKey::ClientId(client.as_str().into()), SessionKey::Identity(client.as_str().into())];
        sessions.extend(keys.iter().filter_map(|key| self.shared.registry.session(key)));
        Ok(Some(sessions))
    }

    fn incident(&self, found: Match) -> Incident {
        Incident {
            at: self.wall(found.at),
            last_at: self.wall(found.last),
            count: found.count,
            client_id: found.client_id,
            rule: found.rule,
            happening: found.happening,
        }
    }

    fn rule(&self, rule: RuleId) -> Option<String> {
        self.shared.hooks.authorizer.rule(rule)
    }

    /// Looks through the records of all shards, in each until there is enough.
    fn search(&self, search: Search, gathered: &mut Gathered, maximum: usize) -> Result<(), ControlError> {
        let search = Arc::new(search);
        for shard in self.shared.shards() {
            let (mut from, mut count) = (None, 0);
            loop {
                let ask = |reply| Inquiry::Trail { search: Arc::clone(&search), from, reply };
                let page: TrailPage = self.ask(shard, ask)?;
                count += page.found.len();
                from = page.next;
                gathered.add(page);
                if from.is_none() {
                    break;
                }
                if count >= maximum || gathered.len() >= FOUND_MAXIMUM {
                    gathered.is_cut = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Looks for what else there is of the messages that were found.
    fn follow(&self, gathered: &mut Gathered) -> Result<(), ControlError> {
        let traces: HashSet<_> = gathered.stories.keys().copied().collect();
        if traces.is_empty() {
            return Ok(());
        }
        let earliest = gathered.stories.values().map(Story::earliest).min().unwrap_or_default();
        let is_whole = gathered.stories.values().all(|story| story.published.is_some());
        let before = Instant::from_millis(earliest.as_millis().saturating_sub(SKEW.as_millis() as u64));
        let since = if is_whole { before } else { Instant::default() };
        let search = Search { traces, sessions: Some(HashSet::new()), since, topic: None };
        let is_cut = std::mem::take(&mut gathered.is_cut);
        for story in gathered.stories.values_mut() {
            *story = Story::default();
        }
        self.search(search, gathered, FOUND_MAXIMUM)?;
        gathered.is_cut |= is_cut;
        Ok(())
    }

    /// What was found, as it is shown.
    fn messages(&self, gathered: Gathered, question: &Question) -> Vec<Message> {
        let Gathered { stories, alone, clients, .. } = gathered;
        let mut messages = Vec::new();
        for story in stories.into_values() {
            let ordinal = story.ordinal;
            messages.extend(self.message(story, &clients, question).map(|message| (ordinal, message)));
        }
        for (ordinal, finding) in alone {
            messages.push((ordinal, self.message_alone(finding, &clients)));
        }
        // What was found first is the newest, also where several have one time.
        messages.sort_by_key(|(ordinal, message)| (message.at, std::cmp::Reverse(*ordinal)));
        let mut messages: Vec<_> = messages.into_iter().map(|(_, message)| message).collect();
        if let Some(topic) = &question.topic {
            messages.retain(|message| {
                let topic_of = message.topic.as_deref();
                message.is_topic_cut || topic_of.is_some_and(|it| is_match(topic, it))
            });
        }
        let surplus = messages.len().saturating_sub(question.maximum);
        messages.drain(..surplus);
        messages
    }

    fn message(
        &self,
        story: Story,
        clients: &HashMap<SessionId, String>,
        question: &Question,
    ) -> Option<Message> {
        let start = story.earliest();
        let Story { published, mut deliveries, .. } = story;
        let mut message = Message {
            at: self.wall(start),
            topic: None,
            is_topic_cut: false,
            publisher: Publisher::Unknown,
            qos: QoS::AtMostOnce,
            retain: false,
            count: 1,
            passage: None,
            receivers: 0,
            deliveries: Vec::new(),
            left_out: 0,
        };
        if let Some(Finding { at, session, found, .. }) = &published
            && let Found::Published { topic, is_cut, qos, retain, is_direct, passage, receivers, messages } =
                found
        {
            message.at = self.wall(*at);
            (message.topic, message.is_topic_cut) = (topic.clone(), *is_cut);
            (message.retain, message.passage, message.receivers) = (*retain, Some(*passage), *receivers);
            message.qos = QoS::from_bits(*qos).unwrap_or(QoS::AtMostOnce);
            message.count = u32::from(*messages);
            message.publisher = publisher(*session, clients, *is_direct);
            // A number comes again: what is older belongs to another message.
            deliveries.retain(|delivery| delivery.at + SKEW >= *at);
        }
        // Of a message that a client was to get, what became of it for the others is not what it asks.
        let is_publisher =
            matches!(&message.publisher, Publisher::Client(id) if question.client.as_ref() == Some(id));
        if let Some(client) = &question.client
            && !is_publisher
        {
            let is_its = |finding: &Finding| finding.session.and_then(|it| clients.get(&it)) == Some(client);
            let others = deliveries.len();
            deliveries.retain(is_its);
            message.left_out = others - deliveries.len();
            if deliveries.is_empty() {
                return None;
            }
        }
        deliveries.sort_by_key(|delivery| delivery.at);
        message.left_out += deliveries.len().saturating_sub(DELIVERIES_SHOWN);
        deliveries.truncate(DELIVERIES_SHOWN);
        message.deliveries = deliveries.into_iter().map(|it| self.delivery(it, clients)).collect();
        Some(message)
    }

    /// A message of which there is one record: of one delivery, or of all that is to be said.
    fn message_alone(&self, finding: Finding, clients: &HashMap<SessionId, String>) -> Message {
        let mut message = Message {
            at: self.wall(finding.at),
            topic: None,
            is_topic_cut: false,
            publisher: Publisher::Unknown,
            qos: QoS::AtMostOnce,
            retain: false,
            count: 1,
            passage: None,
            receivers: 1,
            deliveries: Vec::new(),
            left_out: 0,
        };
        let mut delivery = finding;
        match &delivery.found {
            Found::Late { topic, delivery, .. } => {
                (message.topic, message.qos) = (topic.clone(), delivery.qos);
            }
            &Found::Lone { ref topic, is_cut, receiver, state, count } => {
                (message.topic, message.is_topic_cut, message.count) = (topic.clone(), is_cut, count);
                message.passage = Some(Passage::PassedOn);
                message.publisher = publisher(delivery.session, clients, false);
                (delivery.session, delivery.found) = (Some(receiver), Found::Run { count, state });
            }
            _ => {}
        }
        message.deliveries.push(self.delivery(delivery, clients));
        message
    }

    fn delivery(&self, finding: Finding, clients: &HashMap<SessionId, String>) -> Delivery {
        let Finding { at, session, found, .. } = finding;
        let mut shown = Delivery {
            client_id: session.and_then(|session| clients.get(&session).cloned()),
            qos: QoS::AtMostOnce,
            count: 1,
            state: DeliveryState::Queued,
            wait: Wait::None,
            at: self.wall(at),
            sent_at: None,
            settled_at: None,
            packet_id: None,
            reason_code: None,
            is_resent: false,
        };
        let (sent, settled, entry) = match found {
            Found::Run { count, state } => {
                (shown.count, shown.state) = (count, state);
                return shown;
            }
            Found::Delivery { sent, settled, delivery } => (sent, settled, delivery),
            Found::Late { settled, delivery, .. } => (at, settled, delivery),
            Found::Published { .. } | Found::Lone { .. } => return shown,
        };
        (shown.qos, shown.state, shown.wait, shown.is_resent) =
            (entry.qos, entry.state, entry.wait, entry.is_resent);
        if entry.packet_id != 0 {
            shown.packet_id = Some(entry.packet_id);
            shown.sent_at = Some(self.wall(sent));
        }
        if !matches!(entry.state, DeliveryState::Queued | DeliveryState::Sent) {
            shown.settled_at = Some(self.wall(settled));
        }
        if entry.state == DeliveryState::Rejected {
            shown.reason_code = ReasonCode::ALL.iter().copied().find(|code| code.value() == entry.code);
        }
        shown
    }

    /// Which subscriptions match now.
    fn subscriptions_of(
        &self,
        question: &Question,
        messages: &[Message],
    ) -> Result<Vec<Subscription>, ControlError> {
        let asked = question.topic.as_ref().filter(|filter| !filter.as_filter().has_wildcard());
        let asked = asked.map(|filter| filter.as_filter().pattern().to_owned());
        let seen = messages.iter().rev().filter(|message| !message.is_topic_cut);
        let mut topics: Vec<String> = Vec::new();
        for topic in asked.into_iter().chain(seen.filter_map(|message| message.topic.clone())) {
            if !topics.contains(&topic) && topics.len() < TOPICS_SHOWN {
                topics.push(topic);
            }
        }
        // What a client asks for is its own.
        let is_wanted = |one: &Subscription| match (&question.client, &one.client_id) {
            (Some(client), Some(whose)) => client == whose || question.topic.is_some(),
            _ => true,
        };
        let mut subscriptions = Vec::new();
        for topic in topics.into_iter().filter_map(|topic| TopicNameBuf::new(topic).ok()) {
            self.subscriptions_to(&topic, &mut subscriptions)?;
        }
        subscriptions.retain(is_wanted);
        Ok(subscriptions)
    }

    fn subscriptions_to(
        &self,
        topic: &TopicNameBuf,
        out: &mut Vec<Subscription>,
    ) -> Result<(), ControlError> {
        let watchers = self.shared.subscriptions.read().watchers(topic.as_name(), SESSIONS_SHOWN);
        let text = topic.as_name().as_str();
        let mut by_shard: BTreeMap<ShardId, Vec<SessionId>> = BTreeMap::new();
        for watcher in &watchers.sessions {
            by_shard.entry(watcher.session.shard()).or_default().push(watcher.session);
        }
        for (shard, mut sessions) in by_shard {
            sessions.sort_unstable();
            sessions.dedup();
            let name = topic.clone();
            let watched: Vec<Watched> =
                self.ask(shard, |reply| Inquiry::Watched { name, sessions, reply })?;
            for Watched { session, client_id, filters } in watched {
                for filter in filters {
                    let qos = self.shared.subscriptions.qos(session, filter.as_filter());
                    let denied = watchers.sessions.iter().find(|it| it.session == session && it.is_withheld);
                    let is_withheld = denied.is_some()
                        && self.shared.subscriptions.read().is_checked(session, filter.as_filter());
                    out.push(Subscription {
                        topic: text.to_owned(),
                        filter: filter.as_str().to_owned(),
                        client_id: client_id.clone().or_else(|| Some(String::new())),
                        qos,
                        members: 0,
                        is_withheld,
                        rule: denied.filter(|_| is_withheld).and_then(|it| self.rule(it.rule?)),
                    });
                }
            }
        }
        for group in &watchers.groups {
            out.push(Subscription {
                topic: text.to_owned(),
                filter: group.filter.to_string(),
                client_id: None,
                qos: None,
                members: group.len(),
                is_withheld: false,
                rule: None,
            });
        }
        Ok(())
    }

    fn ask<T>(
        &self,
        shard: ShardId,
        inquiry: impl FnOnce(SyncSender<T>) -> Inquiry,
    ) -> Result<T, ControlError> {
        control::ask(self.shared, shard, inquiry, self.meanwhile)
    }

    fn wall(&self, at: Instant) -> SystemTime {
        let wall = self.shared.stored.wall_clock().wall(at);
        SystemTime::UNIX_EPOCH + Duration::from_millis(wall.0)
    }
}

fn publisher(session: Option<SessionId>, clients: &HashMap<SessionId, String>, is_direct: bool) -> Publisher {
    match session.map(|session| clients.get(&session)) {
        Some(Some(client_id)) => Publisher::Client(client_id.clone()),
        Some(None) => Publisher::Forgotten,
        None if is_direct => Publisher::Direct,
        None => Publisher::Broker,
    }
}

fn is_match(filter: &TopicFilterBuf, topic: &str) -> bool {
    TopicName::new(topic).is_ok_and(|name| filter.as_filter().matches(name))
}

/// What was found so far.
#[derive(Default)]
struct Gathered {
    stories: HashMap<Trace, Story>,
    /// What is known of a message by one record.
    alone: Vec<(usize, Finding)>,
    clients: HashMap<SessionId, String>,
    count: usize,
    is_cut: bool,
}

/// What was found of one message.
#[derive(Default)]
struct Story {
    /// When it was found.
    ordinal: usize,
    published: Option<Finding>,
    deliveries: Vec<Finding>,
}

impl Gathered {
    fn add(&mut self, page: TrailPage) {
        self.clients.extend(page.clients);
        for finding in page.found {
            self.count += 1;
            match finding.found {
                Found::Late { .. } | Found::Lone { .. } => self.alone.push((self.count, finding)),
                Found::Published { .. } => {
                    let story = self.stories.entry(finding.trace).or_default();
                    // The newest one: a number comes again.
                    if story.published.is_none() {
                        (story.ordinal, story.published) = (self.count, Some(finding));
                    }
                }
                Found::Delivery { .. } | Found::Run { .. } => {
                    self.stories.entry(finding.trace).or_default().deliveries.push(finding);
                }
            }
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    /// Forgets what is older than so many messages; whether there was more.
    fn keep_newest(&mut self, maximum: usize) -> bool {
        let mut times: Vec<_> = self.stories.values().map(Story::earliest).collect();
        if times.len() <= maximum {
            return false;
        }
        times.sort_unstable_by(|one, other| other.cmp(one));
        let Some(&oldest) = times.get(maximum.saturating_sub(1)) else { return false };
        self.stories.retain(|_, story| story.earliest() >= oldest);
        true
    }
}

impl Story {
    fn earliest(&self) -> Instant {
        let deliveries = self.deliveries.iter().map(|delivery| delivery.at);
        self.published.iter().map(|published| published.at).chain(deliveries).min().unwrap_or_default()
    }
}
