//! `$SYS` topics, as users of Mosquitto know them: what the broker counts, published and retained at an
//! interval.

use std::time::Duration;

use lapwing_proto::packet::Publish;
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicName;

use super::deliver::Source;
use super::retained::NoRoom;
use super::session::Session;
use super::stat::{Report, Stat};
use super::timer::Timer;
use super::{Shard, Trace};
use crate::shared::ShardId;

/// What the `$SYS` topics need to remember from one interval to the next.
#[derive(Debug, Default)]
pub(super) struct Sys {
    started: Option<Instant>,
    due: Option<Instant>,
    last: Option<(Instant, Counters)>,
    /// Per minute, averaged over 1, 5 and 15 minutes.
    loads: [[f64; WINDOWS.len()]; LOADS.len()],
    maximum_clients: u64,
    /// Messages in queues and in flight on this shard, as of the last interval, and their bytes.
    queued_messages: u64,
    queued_bytes: u64,
    /// Thousandths of the last moments that the thread was at work.
    busy: u32,
    /// What was published last, so that only changes are published.
    published: hashbrown::HashMap<String, String>,
}

const WINDOWS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];
const LOADS: [&str; 8] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "connections",
];

/// Those of the counters that have a load, in the order of [`LOADS`].
type Counters = [u64; LOADS.len()];

fn counters(stat: &Stat) -> Counters {
    [
        stat.packets_received,
        stat.packets_sent,
        stat.messages_received.total(),
        stat.messages_sent.total(),
        stat.messages_dropped.total(),
        stat.bytes_received,
        stat.bytes_sent,
        stat.connections_accepted,
    ]
}

impl Shard {
    /// Publishes the `$SYS` topics at `now` for the first time, if they are wanted, and then at their interval.
    pub(crate) fn start_sys(&mut self, now: Instant) {
        self.now = now;
        self.sys.started = Some(now);
        self.publish_sys();
    }

    /// The interval may be another one.
    pub(super) fn restart_sys(&mut self) {
        self.sys.due = None;
        self.publish_sys();
    }

    /// The interval is over.
    pub(super) fn publish_sys(&mut self) {
        let interval_s = self.limits.sys_interval_s;
        // A timer may be left over from one that was set anew.
        if interval_s == 0 || self.sys.due.is_some_and(|due| due > self.now) {
            return;
        }
        let interval = Duration::from_secs(interval_s.into());
        // The first shard publishes for all, what the others have counted not long ago.
        let is_publisher = self.id == ShardId(0);
        let next = self.now + if is_publisher { interval } else { interval / 2 };
        self.sys.due = Some(next);
        self.set_timer(next, Timer::Sys);
        (self.sys.queued_messages, self.sys.queued_bytes) = self.queued();
        self.leave_report();
        if !is_publisher {
            return;
        }
        let (stat, store) = (self.shared.stat(), self.store());
        self.sys.update_loads(&stat, self.now);
        self.sys.maximum_clients = self.sys.maximum_clients.max(stat.clients);
        for (topic, value) in self.sys.topics(&stat, &store, self.now) {
            if self.sys.published.get(&topic) == Some(&value) {
                continue;
            }
            let Ok(name) = TopicName::new(&topic) else { continue };
            let mut publish = Publish::new(name, value.as_bytes());
            publish.retain = true;
            match self.publish_retained(&publish, None, Trace::default()) {
                Ok(_) => {
                    self.sys.published.insert(topic, value);
                }
                Err(NoRoom) => {
                    self.distribute(&publish, Source::default(), None, Trace::default());
                }
            }
        }
    }
}

/// What is counted only when it is published, since it takes a look at every session.
struct Store {
    queued_messages: u64,
    queued_bytes: u64,
    subscriptions: usize,
    shared_subscriptions: usize,
    shards: Vec<Report>,
}

impl Shard {
    fn store(&self) -> Store {
        let (subscriptions, shared_subscriptions) = self.shared.subscriptions.count();
        let shards: Vec<_> = self.shared.reports().collect();
        let queued_messages = shards.iter().map(|shard| shard.queued_messages).sum();
        let queued_bytes = shards.iter().map(|shard| shard.queued_bytes).sum();
        Store { queued_messages, queued_bytes, subscriptions, shared_subscriptions, shards }
    }

    /// Messages in the queues of this shard's sessions and in flight, and their bytes.
    fn queued(&self) -> (u64, u64) {
        let count = |session: &Session| session.queue_len() + session.in_flight_len();
        let bytes = |session: &Session| session.queue_bytes() + session.in_flight_bytes();
        let messages = self.sessions.iter().map(|(_, session)| count(session) as u64).sum();
        (messages, self.sessions.iter().map(|(_, session)| bytes(session) as u64).sum())
    }

    /// Leaves what this shard has counted for others to see.
    pub(crate) fn leave_report(&self) {
        let Sys { queued_messages, queued_bytes, busy, .. } = self.sys;
        self.shared.report(self.id, Report { stat: self.stat(), busy, queued_messages, queued_bytes });
    }

    /// The thread was at work for so many thousandths of the last moments.
    pub(crate) fn note_load(&mut self, busy: u32, now: Instant) {
        self.sys.busy = busy;
        self.shared.report_load(self.id, busy, now);
    }
}

impl Sys {
    /// When they are published next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Moves each average towards what the last interval had, the more the longer it was.
    fn update_loads(&mut self, stat: &Stat, now: Instant) {
        let current = counters(stat);
        if let Some((then, last)) = self.last {
            let seconds = now.since(then).as_secs_f64();
            if seconds <= 0.0 {
                return;
            }
            for (load, (current, last)) in self.loads.iter_mut().zip(current.iter().zip(last)) {
                let per_minute = (current - last) as f64 * 60.0 / seconds;
                for (average, (_, window)) in load.iter_mut().zip(WINDOWS) {
                    *average = per_minute + (-seconds / window).exp() * (*average - per_minute);
                }
            }
        }
        self.last = Some((now, current));
    }

    fn topics(&self, stat: &Stat, store: &Store, now: Instant) -> Vec<(String, String)> {
        let uptime = now.since(self.started.unwrap_or(now)).as_secs();
        let stored_messages = store.queued_messages + stat.retained_messages;
        let stored_bytes = store.queued_bytes + stat.retained_bytes;
        let offline = stat.sessions - stat.clients.min(stat.sessions);
        let mut topics = vec![
            ("version".to_owned(), concat!("lapwing version ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("uptime".to_owned(), format!("{uptime} seconds")),
        ];
        for (topic, value) in [
            ("clients/total", stat.sessions),
            ("clients/connected", stat.clients),
            ("clients/active", stat.clients),
            ("clients/disconnected", offline),
            ("clients/inactive", offline),
            ("clients/maximum", self.maximum_clients),
            ("clients/expired", stat.sessions_expired),
            ("messages/received", stat.packets_received),
            ("messages/sent", stat.packets_sent),
            ("messages/stored", stored_messages),
            ("store/messages/count", stored_messages),
            ("store/messages/bytes", stored_bytes),
            ("retained messages/count", stat.retained_messages),
            ("subscriptions/count", store.subscriptions as u64),
            ("shared_subscriptions/count", store.shared_subscriptions as u64),
            ("publish/messages/received", stat.messages_received.total()),
            ("publish/messages/sent", stat.messages_sent.total()),
            ("publish/messages/dropped", stat.messages_dropped.total()),
            ("bytes/received", stat.bytes_received),
            ("bytes/sent", stat.bytes_sent),
        ] {
            topics.push((topic.to_owned(), value.to_string()));
        }
        for (shard, Report { stat, busy, .. }) in store.shards.iter().enumerate() {
            topics.push((format!("shard/{shard}/clients"), stat.clients.to_string()));
            topics.push((format!("shard/{shard}/busy"), format!("{:.1}", f64::from(*busy) / 10.0)));
        }
        for (load, averages) in LOADS.iter().zip(self.loads) {
            for ((window, _), average) in WINDOWS.iter().zip(averages) {
                topics.push((format!("load/{load}/{window}"), format!("{average:.2}")));
            }
        }
        topics.into_iter().map(|(topic, value)| (format!("$SYS/broker/{topic}"), value)).collect()
    }
}
