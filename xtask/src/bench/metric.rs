//! Which numbers of the load generator are shown, and how.

use super::scenario::Set;

/// A number of a run, as a column or a table of its own.
pub(super) struct Metric {
    pub(super) field: &'static str,
    pub(super) title: &'static str,
    pub(super) decimals: usize,
}

const fn metric(field: &'static str, title: &'static str, decimals: usize) -> Metric {
    Metric { field, title, decimals }
}

/// What the tables of a set show. The first is what it is about.
pub(super) fn metrics(set: Set) -> &'static [Metric] {
    match set {
        Set::Core => CORE,
        Set::Latency => LATENCY,
        Set::Idle => IDLE,
        Set::Connect => CONNECT,
        Set::Wild => WILD,
        Set::Retained => RETAINED,
        Set::Offline => OFFLINE,
        Set::Blast => BLAST,
    }
}

const CORE: &[Metric] = &[
    metric("broker_cpu_us_per_msg", "CPU µs per delivered message", 3),
    metric("msgs_per_s", "messages delivered per second", 0),
    metric("broker_cores", "busy cores of the peer", 2),
];

const LATENCY: &[Metric] = &[
    metric("p50_us", "p50 µs", 1),
    metric("p99_us", "p99 µs", 0),
    metric("max_us", "worst µs", 0),
    metric("broker_cpu_us_per_msg", "CPU µs per message", 2),
];

const IDLE: &[Metric] = &[
    metric("conns_per_s", "connects/s", 0),
    metric("broker_cpu_us_per_conn", "CPU µs/connect", 1),
    metric("bytes_per_conn", "bytes/connection", 0),
    metric("idle_cpu_ms_per_s", "idle CPU ms/s", 2),
];

const WILD: &[Metric] = &[
    metric("subs_per_s", "subscribed/s", 0),
    metric("bytes_per_sub", "bytes/filter", 0),
    metric("msgs_per_s", "messages/s", 0),
    metric("broker_cpu_us_per_msg", "CPU µs/message", 2),
    metric("single_p50_us", "alone p50 µs", 1),
    metric("lost", "lost", 0),
];

const RETAINED: &[Metric] = &[
    metric("publish_per_s", "stored/s", 0),
    metric("bytes_per_retained", "bytes/message", 0),
    metric("receive_per_s", "delivered/s", 0),
    metric("receive_cpu_us", "CPU µs/delivery", 2),
    metric("first_ms", "first after ms", 1),
    metric("bystander_p99_us", "bystander p99 µs", 0),
    metric("bystander_max_us", "bystander worst µs", 0),
];

const OFFLINE: &[Metric] = &[
    metric("store_per_s", "published/s", 0),
    metric("store_cpu_us_per_queued", "CPU µs/queued", 2),
    metric("bytes_per_queued", "bytes/queued", 0),
    metric("drain_per_s", "drained/s", 0),
    metric("drain_cpu_us", "CPU µs/drained", 2),
    metric("lost", "lost", 0),
];

const BLAST: &[Metric] = &[
    metric("msgs_per_s", "messages/s", 0),
    metric("loss_pct", "dropped %", 2),
    metric("elapsed_s", "seconds", 2),
    metric("broker_rss_kb", "resident KiB", 0),
    metric("bystander_p50_us", "bystander p50 µs", 0),
    metric("bystander_p99_us", "bystander p99 µs", 0),
    metric("bystander_max_us", "bystander worst µs", 0),
    metric("bystander_n", "bystander round trips", 0),
];

const CONNECT: &[Metric] =
    &[metric("conns_per_s", "connects/s", 0), metric("broker_cpu_us_per_conn", "CPU µs/connect", 1)];
