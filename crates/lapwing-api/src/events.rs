//! What happens, as it happens: a stream of events for those who watch.
//!
//! Shards tell it to [`EventStream`], which costs a look at one number while nobody watches. What is told goes into a ring. Who
//! is too slow to read it loses the oldest, and is told how many; a shard waits for nobody.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use lapwing_broker::hook;
use lapwing_broker::hook::Observer;
use lapwing_proto::packet::ReasonCode;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::reload::{Reload, Reloaded};
use crate::timestamp::rfc3339_ms;

/// Events that are kept for those who read slowly.
const KEPT: usize = 1024;
/// Streams at a time: fewer than there may be connections, so that there is always one for something else.
const STREAMS: usize = 16;
/// Bytes of a text that a client has chosen: what is longer is cut.
const TEXT_MAXIMUM: usize = 1024;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A client was let in.
    Connected,
    /// A client was not let in.
    Refused,
    /// A connection has ended.
    Disconnected,
    /// A session has begun, with the client that was let in at the same time.
    SessionStarted,
    /// A session has ended.
    SessionEnded,
    /// A client has subscribed, or was subscribed by the broker.
    Subscribed,
    /// A client has unsubscribed.
    Unsubscribed,
    /// Messages for a session were dropped, since its queue is full. Told a few times in a second at the most.
    QueueFull,
    /// Somebody is kept out from now on.
    Banned,
    /// Somebody is not kept out any more; not where a ban ends by itself.
    Unbanned,
    /// The configuration was read anew, and holds.
    Reloaded,
    /// The configuration was read anew, and is refused.
    ReloadRefused,
    /// Whoever reads this was too slow, and has lost so many events.
    Lagged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Connected,
        Self::Refused,
        Self::Disconnected,
        Self::SessionStarted,
        Self::SessionEnded,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::QueueFull,
        Self::Banned,
        Self::Unbanned,
        Self::Reloaded,
        Self::ReloadRefused,
        Self::Lagged,
    ];

    /// As in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::Disconnected => "disconnected",
            Self::SessionStarted => "session_started",
            Self::SessionEnded => "session_ended",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::QueueFull => "queue_full",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
            Self::Reloaded => "reloaded",
            Self::ReloadRefused => "reload_refused",
            Self::Lagged => "lagged",
        }
    }
}

/// Something that has happened. What does not belong to its kind is absent. Texts of clients are cut after 1024 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When.
    #[schema(example = "2026-11-28T05:45:00.123Z")]
    pub at: String,
    /// What.
    pub kind: EventKind,
    /// Whom it concerns: the client identifier. Where a session ends or its queue is full, the key of the session, if the
    /// authenticator gave one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<String>,
    /// The user name, as far as it means anything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_name: Option<String>,
    /// The other end of the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "127.0.0.1:50123")]
    pub peer: Option<String>,
    /// The Reason Code of a refusal or of a DISCONNECT, whoever sent it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason_code: Option<u8>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The topic filter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filter: Option<String>,
    /// The highest quality of service that the subscription gives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos: Option<u8>,
    /// How many messages were dropped, or how many events were lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// Who is kept out, or is not any more: `address 10.0.0.0/8`, `client_id door_1`, `user ada`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
}

impl Event {
    pub(crate) fn new(kind: EventKind) -> Self {
        Self {
            at: rfc3339_ms(SystemTime::now()),
            kind,
            client_id: None,
            user_name: None,
            peer: None,
            reason_code: None,
            reason: None,
            filter: None,
            qos: None,
            count: None,
            target: None,
        }
    }

    fn of(kind: EventKind, client: &hook::Client) -> Self {
        Self {
            client_id: Some(cut(&client.client_id)),
            user_name: client.identity.user_name.as_deref().map(cut),
            peer: Some(client.peer.to_string()),
            ..Self::new(kind)
        }
    }

    fn because(self, reason_code: ReasonCode) -> Self {
        let reason = self.reason.clone().or_else(|| Some(reason_code.to_string()));
        Self { reason_code: Some(reason_code.value()), reason, ..self }
    }
}

/// What happens, on its way to those who watch.
#[derive(Debug)]
pub struct EventStream {
    ring: Sender<Arc<Event>>,
    /// Those who watch.
    listeners: AtomicUsize,
    places: Arc<Semaphore>,
}

impl Default for EventStream {
    fn default() -> Self {
        Self::with_room(KEPT)
    }
}

impl EventStream {
    fn with_room(kept: usize) -> Self {
        let (ring, _) = broadcast::channel(kept);
        Self { ring, listeners: AtomicUsize::new(0), places: Arc::new(Semaphore::new(STREAMS)) }
    }

    /// Tells those who watch; `event` is made only if there is somebody.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.listeners.load(Ordering::Relaxed) > 0 {
            // It fails where the last one has just gone.
            let _ = self.ring.send(Arc::new(event()));
        }
    }

    /// Begins to watch; `None` where too many do.
    pub(crate) fn watch(self: &Arc<Self>) -> Option<Watch> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let receiver = self.ring.subscribe();
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Some(Watch { receiver, stream: Arc::clone(self), _place: place })
    }

    /// `reload`, of which those who watch are told.
    pub fn of_reload(self: &Arc<Self>, reload: Arc<dyn Reload>) -> Arc<dyn Reload> {
        Arc::new(ToldReload { reload, events: Arc::clone(self) })
    }
}

/// Somebody who watches.
pub(crate) struct Watch {
    pub(crate) receiver: Receiver<Arc<Event>>,
    stream: Arc<EventStream>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stream.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Observer for EventStream {
    fn observe(&self, event: &hook::Event<'_>) {
        match *event {
            hook::Event::Connected { client, session_present } => {
                if !session_present {
                    self.tell(|| Event::of(EventKind::SessionStarted, client));
                }
                self.tell(|| Event::of(EventKind::Connected, client));
            }
            hook::Event::Refused { peer, client_id, reason_code, reason } => self.tell(|| {
                let event = Event {
                    client_id: (!client_id.is_empty()).then(|| cut(client_id)),
                    peer: Some(peer.to_string()),
                    reason: Some(cut(reason)),
                    ..Event::new(EventKind::Refused)
                };
                event.because(reason_code)
            }),
            hook::Event::Disconnected { client, reason_code } => self.tell(|| {
                let event = Event::of(EventKind::Disconnected, client);
                match reason_code {
                    Some(reason_code) => event.because(reason_code),
                    None => Event { reason: Some("the connection was lost".to_owned()), ..event },
                }
            }),
            hook::Event::Subscribed { client, filter, options } => self.tell(|| Event {
                filter: Some(cut(filter.as_str())),
                qos: Some(options.qos.bits()),
                ..Event::of(EventKind::Subscribed, client)
            }),
            hook::Event::Unsubscribed { client, filter } => self.tell(|| Event {
                filter: Some(cut(filter.as_str())),
                ..Event::of(EventKind::Unsubscribed, client)
            }),
            hook::Event::SessionEnded { session_key } => self
                .tell(|| Event { client_id: Some(cut(session_key)), ..Event::new(EventKind::SessionEnded) }),
            hook::Event::QueueFull { session_key, count } => self.tell(|| Event {
                client_id: Some(cut(session_key)),
                count: Some(count),
                ..Event::new(EventKind::QueueFull)
            }),
            hook::Event::Banned { client_id, reason } => self.tell(|| Event {
                client_id: Some(cut(client_id)),
                reason: Some(cut(reason)),
                target: Some(format!("client_id {}", cut(client_id))),
                ..Event::new(EventKind::Banned)
            }),
        }
    }
}

/// Reads the configuration anew, and tells those who watch.
struct ToldReload {
    reload: Arc<dyn Reload>,
    events: Arc<EventStream>,
}

impl Reload for ToldReload {
    fn reload(&self) -> Result<Reloaded, String> {
        let result = self.reload.reload();
        self.events.tell(|| match &result {
            Ok(_) => Event::new(EventKind::Reloaded),
            Err(error) => Event { reason: Some(cut(error)), ..Event::new(EventKind::ReloadRefused) },
        });
        result
    }
}

/// The text, or its beginning.
pub(crate) fn cut(text: &str) -> String {
    if text.len() <= TEXT_MAXIMUM {
        return text.to_owned();
    }
    let end = (0..=TEXT_MAXIMUM).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn nothing_is_made_while_nobody_watches_and_the_slow_lose_the_oldest() {
        let stream = Arc::new(EventStream::with_room(4));
        stream.tell(|| panic!("nobody watches"));
        let mut slow = stream.watch().unwrap();
        for count in 0..10 {
            stream.tell(|| Event { count: Some(count), ..Event::new(EventKind::QueueFull) });
        }
        assert_eq!(slow.receiver.try_recv().unwrap_err(), TryRecvError::Lagged(6));
        let next = || slow.receiver.try_recv().map(|event| event.count);
        assert_eq!(
            std::iter::from_fn({
                let mut next = next;
                move || next().ok()
            })
            .count(),
            4
        );
        drop(slow);
        stream.tell(|| panic!("nobody watches any more"));
    }

    #[test]
    fn so_many_may_watch_and_no_more() {
        let stream = Arc::new(EventStream::default());
        let mut watches: Vec<_> = (0..STREAMS).map(|_| stream.watch().unwrap()).collect();
        assert!(stream.watch().is_none());
        watches.pop();
        assert!(stream.watch().is_some());
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_each_kind_has_the_name_of_its_json() {
        assert_eq!(cut(&"x".repeat(TEXT_MAXIMUM)).len(), TEXT_MAXIMUM);
        let long = cut(&format!("x{}", "ü".repeat(TEXT_MAXIMUM)));
        assert!(long.ends_with("ü…") && long.len() <= TEXT_MAXIMUM + 3, "{}", long.len());
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
