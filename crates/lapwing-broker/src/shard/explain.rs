//! Looking through what a shard remembers of the last messages and clients, some of it in each turn.

use lapwing_proto::session::Instant;
use lapwing_proto::topic::{TopicFilter, TopicName, TopicNameBuf};

use super::trail::{Clockwork, DIRECT, Entry, NAME_KEPT, RETAIN, What, is_cut};
use super::{SessionId, Shard};
use crate::excerpt::excerpt;
use crate::explanation::{
    Cursor, Finding, Found, IncidentPage, IncidentSearch, Match, Search, TrailPage, Watched,
};
use crate::shared::pattern;

/// Records that are looked at in a turn.
const STEP: usize = 4096;
/// What is found in a turn.
const FOUND_MAXIMUM: usize = 1024;
/// Filters of a session that are looked at.
const FILTERS_MAXIMUM: usize = 10_000;

impl Shard {
    /// Looks through some of the records, from the newest to the oldest.
    pub(super) fn search_trail(&self, search: &Search, from: Option<Cursor>) -> TrailPage {
        let start = from.unwrap_or(Cursor { place: self.trail.newest(), last: self.now });
        let mut time = Clockwork::new(start.last);
        let mut page = TrailPage::default();
        let (mut place, mut last) = (start.place, start.last);
        for _ in 0..STEP {
            let Some((before, entry)) = self.trail.before(place).filter(|_| page.found.len() < FOUND_MAXIMUM)
            else {
                break;
            };
            last = time.instant(entry.ms);
            place = before;
            if last < search.since {
                return self.name_all(page);
            }
            page.found.extend(find(search, last, &entry));
        }
        if self.trail.before(place).is_some() {
            page.next = Some(Cursor { place, last });
        }
        self.name_all(page)
    }

    /// Adds whose the sessions are that were found.
    fn name_all(&self, mut page: TrailPage) -> TrailPage {
        let mut sessions = Vec::new();
        for Finding { session, found, .. } in &page.found {
            sessions.extend(*session);
            if let Found::Lone { receiver, .. } = found {
                sessions.push(*receiver);
            }
        }
        sessions.sort_unstable();
        sessions.dedup();
        let name = |session| Some((session, self.session_name(session)?));
        page.clients = sessions.into_iter().filter_map(name).collect();
        page
    }

    /// The client identifier of a session, or its key; also of one that has ended a while ago.
    fn session_name(&self, id: SessionId) -> Option<String> {
        if let Some(session) = self.sessions.get(id.index()).filter(|session| session.id == id) {
            let open = session.connection.and_then(|id| self.connection(id)?.open());
            return Some(open.map_or(session.key.text(), |open| &open.client.client_id).to_owned());
        }
        let of_session = self.incidents.newest().find(|kept| kept.session == Some(id))?;
        Some((*of_session.client_id).to_owned())
    }

    /// What has happened to clients, and the sessions that a client has had.
    pub(super) fn search_incidents(&self, search: &IncidentSearch) -> IncidentPage {
        let mut page = IncidentPage {
            is_on: self.trail.is_on(),
            reach: self.incidents.reach(),
            messages_reach: self.trail.reach(self.now),
            ..IncidentPage::default()
        };
        let client = search.client.as_deref().map(excerpt);
        for kept in self.incidents.newest() {
            let is_of_client = client.as_deref().is_none_or(|client| *kept.client_id == *client);
            if is_of_client && client.is_some() {
                page.sessions.extend(kept.session);
            }
            let is_wanted = is_of_client && kept.last >= search.since;
            let matches =
                |filter: TopicFilter<'_>| kept.happening.subject().is_some_and(|it| concerns(filter, it));
            if !is_wanted || search.topic.as_ref().is_some_and(|topic| !matches(topic.as_filter())) {
                continue;
            }
            if page.incidents.len() == search.maximum {
                page.is_more = true;
                continue;
            }
            page.incidents.push(Match {
                at: kept.at,
                last: kept.last,
                count: kept.count,
                client_id: (*kept.client_id).to_owned(),
                happening: kept.happening.clone(),
                rule: kept.rule.as_deref().map(str::to_owned),
            });
        }
        page
    }

    /// By which filters sessions of this shard have a topic, and whose these are.
    pub(super) fn watched_by(&self, name: &TopicNameBuf, sessions: &[SessionId]) -> Vec<Watched> {
        let mut watched = Vec::new();
        for &id in sessions {
            let Some(session) = self.sessions.get(id.index()).filter(|session| session.id == id) else {
                continue;
            };
            let filters = session.filters.iter().take(FILTERS_MAXIMUM);
            let matching = filters.filter(|filter| {
                let filter = filter.as_filter();
                filter.share_name().is_none() && pattern(filter).matches(name.as_name())
            });
            let filters = matching.cloned().collect();
            watched.push(Watched { session: id, client_id: self.session_name(id), filters });
        }
        watched
    }
}

/// Whether a topic or filter, or what an incident shows of a long one, is what is asked for.
fn concerns(filter: TopicFilter<'_>, subject: &str) -> bool {
    let is_matching = TopicName::new(subject).is_ok_and(|name| filter.matches(name));
    is_matching || subject == filter.as_str() || subject == excerpt(filter.as_str())
}

/// A record, if it is asked for.
fn find(search: &Search, at: Instant, entry: &Entry<'_>) -> Option<Finding> {
    let is_of_trace = entry.trace.is_known() && search.traces.contains(&entry.trace);
    let is_of_client = is_asked(search, entry.session);
    // Of what became of a message, the topic is elsewhere.
    let is_delivery = is_of_trace || (search.sessions.is_some() && is_of_client);
    let (is_wanted, found) = match &entry.what {
        What::Published { name, flags, passage, receivers, messages } => {
            let (topic, is_cut) = (text(*name), is_cut(*flags));
            let is_wanted = is_of_trace || (is_of_client && has_topic(search, topic.as_deref(), is_cut));
            let (retain, is_direct) = (flags & RETAIN != 0, flags & DIRECT != 0);
            let (passage, receivers, messages) = (*passage, *receivers, *messages);
            let qos = flags & 0b11;
            (
                is_wanted,
                Found::Published { topic, is_cut, qos, retain, is_direct, passage, receivers, messages },
            )
        }
        What::Delivery { sent, settled, delivery } => {
            let (sent, settled) = (Clockwork::behind(at, *sent), Clockwork::behind(at, *settled));
            (is_delivery, Found::Delivery { sent, settled, delivery: *delivery })
        }
        What::Late { name, settled, delivery } => {
            let topic = text(*name);
            let is_wanted = is_of_client && has_topic(search, topic.as_deref(), true);
            let settled = Clockwork::behind(at, *settled);
            (is_wanted, Found::Late { topic, settled, delivery: *delivery })
        }
        What::Run { count, state } => (is_delivery, Found::Run { count: *count, state: *state }),
        What::Lone { name, flags, receiver, state, count } => {
            let (topic, is_cut) = (text(*name), is_cut(*flags));
            let is_theirs = is_of_client || is_asked(search, Some(*receiver));
            let is_wanted = is_theirs && has_topic(search, topic.as_deref(), is_cut);
            let (receiver, state, count) = (*receiver, *state, u32::from(*count));
            (is_wanted, Found::Lone { topic, is_cut, receiver, state, count })
        }
        What::Nothing => return None,
    };
    is_wanted.then_some(Finding { at, trace: entry.trace, session: entry.session, found })
}

/// Whether what has to do with a session is asked for.
fn is_asked(search: &Search, session: Option<SessionId>) -> bool {
    let Some(sessions) = &search.sessions else { return true };
    session.is_some_and(|session| sessions.contains(&session))
}

/// Whether a topic is asked for, of which only the beginning may be there.
fn has_topic(search: &Search, name: Option<&str>, is_cut: bool) -> bool {
    let Some(topic) = &search.topic else { return true };
    let Some(name) = name else { return false };
    let filter = topic.as_filter();
    let is_match = TopicName::new(name).is_ok_and(|name| filter.matches(name));
    is_match || (is_cut && name.len() + 4 > NAME_KEPT && filter.as_str().starts_with(name))
}

/// A name that is still there.
fn text(name: Option<&[u8]>) -> Option<String> {
    let name = std::str::from_utf8(valid(name?)).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// A name without the beginning of a character at its end, where it was cut.
fn valid(name: &[u8]) -> &[u8] {
    match std::str::from_utf8(name) {
        Err(error) => &name[..error.valid_up_to()],
        Ok(_) => name,
    }
}
