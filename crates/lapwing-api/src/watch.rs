//! The stream of events over HTTP, as Server-Sent Events.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, MissedTickBehavior};
use utoipa::IntoParams;

use crate::events::{Event, EventKind, Watch, cut};
use crate::problem::Problem;
use crate::router::Api;
use crate::tokens::{Actor, Tokens};

/// How often something is sent where nothing happens, so that whoever is between the two ends leaves the connection alone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream lasts. Whoever wants more asks again.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How often is looked whether the token of whoever reads a stream still holds.
const TOKEN_INTERVAL: Duration = Duration::from_secs(1);
/// Events on their way to the connection. What does not fit waits in the ring.
const UNDER_WAY: usize = 16;

/// Streams of a connection: while it has one, it may be older than others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<AtomicUsize>);

impl Streams {
    pub(crate) fn are_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn begin(&self) -> StreamGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        StreamGuard(Arc::clone(&self.0))
    }
}

/// One of these streams.
pub(crate) struct StreamGuard(Arc<AtomicUsize>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Which events are wanted, with commas between them: `connected,disconnected`; all if absent. `lagged` is always sent.
    kind: Option<String>,
    /// Whose events are wanted: a client identifier; all if absent.
    client_id: Option<String>,
}

/// Which events somebody wants.
struct Filter {
    kinds: Vec<EventKind>,
    client_id: Option<String>,
}

impl Filter {
    fn new(query: EventQuery) -> Result<Self, Problem> {
        let kind = |name: &str| {
            EventKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                let names = EventKind::ALL.map(EventKind::name).join(", ");
                Problem::invalid(
                    "kind_invalid",
                    format!("there is no kind of event '{}': {names}", cut(name)),
                )
            })
        };
        let names: Vec<&str> =
            query.kind.as_deref().map(|kinds| kinds.split(',').collect()).unwrap_or_default();
        let kinds = names.into_iter().map(kind).collect::<Result<_, _>>()?;
        Ok(Self { kinds, client_id: query.client_id.as_deref().map(cut) })
    }

    fn wants(&self, event: &Event) -> bool {
        let is_kind = self.kinds.is_empty() || self.kinds.contains(&event.kind);
        is_kind && (self.client_id.is_none() || self.client_id == event.client_id)
    }
}

/// What happens, as it happens, as Server-Sent Events: `event` is the kind, and `data` an `Event` in JSON. Who reads too slowly
/// loses events, and gets a `lagged` with their number. A stream ends after an hour, with its token, or with the broker.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventQuery),
    responses(
        (status = 200, description = "The stream.", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`kind_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "There are 16 streams already: `too_many_streams`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn events(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Extension(streams): Extension<Streams>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let filter = Filter::new(query)?;
    let watch = api
        .events
        .watch()
        .ok_or_else(|| Problem::unavailable("too_many_streams", "there are 16 streams of events already"))?;
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let guard = streams.begin();
    let mut stopping = api.stopping.clone();
    tokio::spawn(async move {
        let _guard = guard;
        tokio::select! {
            () = pass_on(watch, filter, &sender) => {}
            () = sender.closed() => {}
            () = tokio::time::sleep(LIFETIME) => {}
            () = removed(&api.tokens, &actor) => {}
            // It fails where the other end is gone, which is as good a reason.
            _ = stopping.wait_for(|&is_stopping| is_stopping) => {}
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::new(Lines(receiver))).into_response())
}

/// Returns when a token does not hold any more: when it was removed, or has ended.
async fn removed(tokens: &Tokens, actor: &Actor) {
    while tokens.holds(actor) {
        tokio::time::sleep(TOKEN_INTERVAL).await;
    }
}

/// Writes down what happens, until nobody reads it any more.
async fn pass_on(mut watch: Watch, filter: Filter, to: &Sender<Bytes>) {
    // So that whoever waits for it knows that from here on nothing is missed.
    let mut next = Bytes::from_static(b": these are the events from now on\n\n");
    let mut ticks = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while to.send(next).await.is_ok() {
        next = loop {
            tokio::select! {
                event = watch.receiver.recv() => match event {
                    Ok(event) if filter.wants(&event) => break lines(&event),
                    Ok(_) => {}
                    Err(RecvError::Lagged(count)) => {
                        break lines(&Event { count: Some(count), ..Event::new(EventKind::Lagged) });
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => break Bytes::from_static(b":\n\n"),
            }
        };
    }
}

/// An event on the wire. JSON has no line ends in it.
fn lines(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("event: {}\ndata: {data}\n\n", event.kind.name()).into()
}

/// The stream on its way to the client.
struct Lines(Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventStream;

    fn filter(kind: Option<&str>, client_id: Option<&str>) -> Result<Filter, Problem> {
        Filter::new(EventQuery { kind: kind.map(str::to_owned), client_id: client_id.map(str::to_owned) })
    }

    fn event(kind: EventKind, client_id: &str) -> Event {
        Event { client_id: Some(client_id.to_owned()), ..Event::new(kind) }
    }

    #[test]
    fn a_filter_is_of_kinds_and_of_a_client() {
        use EventKind::{Connected, Disconnected, Subscribed};
        let wants = |filter: &Filter, kind, client_id| filter.wants(&event(kind, client_id));
        assert!(wants(&filter(None, None).unwrap(), Subscribed, "a"));
        let kinds = filter(Some("connected,disconnected"), None).unwrap();
        assert!(wants(&kinds, Connected, "a") && wants(&kinds, Disconnected, "b"));
        assert!(!wants(&kinds, Subscribed, "a"));
        let client = filter(Some("connected"), Some("a")).unwrap();
        assert!(wants(&client, Connected, "a") && !wants(&client, Connected, "b"));
        assert!(!client.wants(&Event::new(Connected)));
        for wrong in ["", "connected,", "Connected", "gone"] {
            assert_eq!(
                filter(Some(wrong), None).err().map(|problem| problem.code).as_deref(),
                Some("kind_invalid")
            );
        }
    }

    /// By a clock that is moved by hand.
    #[tokio::test(start_paused = true)]
    async fn who_is_too_slow_is_told_how_much_is_lost_and_silence_is_filled() {
        let stream = Arc::new(EventStream::default());
        let (sender, mut receiver) = mpsc::channel(1);
        let watch = stream.watch().unwrap();
        tokio::spawn(async move { pass_on(watch, filter(None, None).unwrap(), &sender).await });
        assert!(receiver.recv().await.unwrap().starts_with(b": these are"));
        let start = Instant::now();
        assert_eq!(receiver.recv().await.unwrap(), &b":\n\n"[..]);
        assert_eq!(start.elapsed(), KEEP_ALIVE);
        for _ in 0..2000 {
            stream.tell(|| event(EventKind::Connected, "a"));
        }
        // Events that were lost, and those that were not, are all there were.
        let (mut lost, mut seen) = (0, 0);
        while lost + seen < 2000 {
            let bytes = receiver.recv().await.unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
            let event: Event = serde_json::from_str(data).unwrap();
            assert!(text.starts_with(&format!("event: {}\n", event.kind.name())));
            match event.kind {
                EventKind::Lagged => lost += event.count.unwrap(),
                _ => seen += 1,
            }
        }
        assert!(lost >= 900 && seen >= 1024, "{lost} {seen}");
    }
}
