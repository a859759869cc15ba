//! What the broker counts, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lapwing_broker::{
    Condition, Control, Dropped, MemoryStat, PerQoS, PerReasonCode, Pressure, Readiness, ShardStat, Stat,
};
use lapwing_proto::packet::{PacketType, QoS};

use crate::exposition::{Exposition, MEDIA_TYPE};
use crate::process::Process;
use crate::router::Api;
use crate::status::{condition_name, pressure_name};

/// What the broker counts, in Prometheus's text format. Needs no token if `admin.metrics_public` is set.
#[utoipa::path(get, path = "/metrics", tag = "metrics",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text(&api.control, api.metrics.as_ref())).into_response()
}

/// Something that is counted beside the broker, by the program that has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As in `lapwing_authentication_accepted_total`.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// How much it is.
    pub value: u64,
}

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It does. Its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// What is counted beside the broker. It is asked at each request, so it must be quick.
pub type MetricSource = Arc<dyn Fn() -> Vec<Metric> + Send + Sync>;

fn text(control: &Control, others: Option<&MetricSource>) -> String {
    let mut out = Exposition::default();
    let shards = control.shards();
    broker(&mut out, control);
    counts(&mut out, control.stat());
    queues(&mut out, &shards);
    each_shard(&mut out, &shards);
    for Metric { name, help, kind, value } in others.map(|others| others()).into_iter().flatten() {
        match kind {
            MetricKind::Counter => out.counter(name, help, value),
            MetricKind::Gauge => out.gauge(name, help, value),
        }
    }
    process(&mut out);
    out.into_text()
}

fn broker(out: &mut Exposition, control: &Control) {
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    out.gauges("lapwing_build_info", "The version of Lapwing.", [(version, 1)]);
    let uptime = control.uptime().as_millis() as f64 / 1000.0;
    out.gauge("lapwing_uptime_seconds", "Time since the start.", uptime);
    let is_ready = u8::from(control.readiness() == Readiness::Ready);
    out.gauge("lapwing_ready", "Whether clients are served.", is_ready);
    let count = control.subscriptions();
    out.gauge("lapwing_subscriptions", "Subscriptions.", count.total);
    out.gauge("lapwing_subscriptions_shared", "Subscriptions that are shared.", count.shared);
    if let Some(condition) = control.store_condition() {
        let all = [Condition::Ready, Condition::Full, Condition::Failed];
        let values =
            all.map(|it| (format!("condition=\"{}\"", condition_name(it)), u8::from(it == condition)));
        let help = "Whether the store takes what is new (ready), only what makes it less (full), or nothing (failed).";
        out.gauges("lapwing_store_condition", help, values);
    }
    if let Some(MemoryStat { used, maximum, pressure }) = control.memory() {
        out.gauge("lapwing_memory_used_bytes", "Memory that counts against the maximum.", used);
        out.gauge("lapwing_memory_maximum_bytes", "Memory that the broker may take.", maximum);
        let all = [Pressure::None, Pressure::Tight, Pressure::Short, Pressure::Exceeded];
        let values = all.map(|it| (format!("pressure=\"{}\"", pressure_name(it)), u8::from(it == pressure)));
        out.gauges("lapwing_memory_pressure", "How short memory is.", values);
    }
}

/// Every count there is: one that is added to `Stat` must be added here, or this does not compile.
fn counts(out: &mut Exposition, stat: Stat) {
    let Stat {
        bytes_received,
        bytes_sent,
        packets_received,
        packets_sent,
        messages_received,
        duplicates_received,
        messages_sent,
        messages_resent,
        messages_dropped,
        connections_accepted,
        connections_turned_away,
        pauses,
        clients_connected,
        sessions_resumed,
        clients_refused,
        disconnected_by_client,
        connections_lost,
        disconnected_by_broker,
        sessions_expired,
        sessions_ended,
        connections,
        clients,
        sessions,
        held_back,
        retained_messages,
        retained_bytes,
    } = stat;
    for (name, help, value) in [
        ("lapwing_received_bytes_total", "Bytes read from connections.", bytes_received),
        ("lapwing_sent_bytes_total", "Bytes written to connections.", bytes_sent),
        ("lapwing_packets_received_total", "Packets of all types from clients.", packets_received),
        ("lapwing_packets_sent_total", "Packets of all types to clients.", packets_sent),
        (
            "lapwing_duplicates_received_total",
            "QoS 2 messages from clients that had been received before, and were only acknowledged again.",
            duplicates_received,
        ),
        (
            "lapwing_messages_resent_total",
            "QoS 1 and 2 messages that were sent again when a session was resumed.",
            messages_resent,
        ),
        (
            "lapwing_connections_accepted_total",
            "Network connections that were accepted.",
            connections_accepted,
        ),
        (
            "lapwing_connections_turned_away_total",
            "Network connections that were closed before anything was read, by a ban or since there were too many.",
            connections_turned_away,
        ),
        (
            "lapwing_pauses_total",
            "Times that a connection was not read from, since its client had sent more than its rate allows.",
            pauses,
        ),
        ("lapwing_clients_connected_total", "Clients that were let in.", clients_connected),
        ("lapwing_sessions_resumed_total", "Clients that went on with an earlier session.", sessions_resumed),
        (
            "lapwing_disconnected_by_client_total",
            "Connections that ended with a DISCONNECT from the client.",
            disconnected_by_client,
        ),
        ("lapwing_connections_lost_total", "Connections that ended without a word.", connections_lost),
        (
            "lapwing_sessions_expired_total",
            "Sessions that ended because their expiry interval had passed.",
            sessions_expired,
        ),
        ("lapwing_sessions_ended_total", "Sessions that have ended.", sessions_ended),
        (
            "lapwing_held_back_total",
            "Times that a connection was not read from, since another shard could not keep up.",
            held_back,
        ),
    ] {
        out.counter(name, help, value);
    }
    for (name, help, value) in [
        ("lapwing_connections", "Connections, with those that have not sent a CONNECT yet.", connections),
        ("lapwing_clients", "Connected clients.", clients),
        ("lapwing_sessions", "Sessions, connected or not.", sessions),
        ("lapwing_retained_messages", "Retained messages.", retained_messages),
        ("lapwing_retained_bytes", "Bytes that retained messages take.", retained_bytes),
    ] {
        out.gauge(name, help, value);
    }
    let help = "Messages from clients.";
    out.counters("lapwing_messages_received_total", help, by_qos(&messages_received));
    let help = "Messages to clients: one for each receiver.";
    out.counters("lapwing_messages_sent_total", help, by_qos(&messages_sent));
    let help = "Messages that did not reach a client, or nobody at all.";
    out.counters("lapwing_messages_dropped_total", help, by_reason(messages_dropped));
    let help = "Clients whose CONNECT was refused.";
    let refused = by_code(&clients_refused, PacketType::ConnAck);
    out.counters("lapwing_clients_refused_total", help, refused);
    let help = "Connections that the broker ended.";
    let disconnected = by_code(&disconnected_by_broker, PacketType::Disconnect);
    out.counters("lapwing_disconnected_by_broker_total", help, disconnected);
}

fn by_qos(count: &PerQoS) -> [(String, u64); 3] {
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    levels.map(|qos| (format!("qos=\"{}\"", qos.bits()), count.get(qos)))
}

fn by_reason(dropped: Dropped) -> [(String, u64); 13] {
    let Dropped {
        outbox_full,
        not_connected,
        queue_full,
        queue_refused,
        disk_full,
        expired,
        too_large,
        session_ended,
        not_authorized,
        filtered,
        not_permitted,
        not_retained,
        no_subscriber,
    } = dropped;
    [
        ("outbox_full", outbox_full),
        ("not_connected", not_connected),
        ("queue_full", queue_full),
        ("queue_refused", queue_refused),
        ("disk_full", disk_full),
        ("expired", expired),
        ("too_large", too_large),
        ("session_ended", session_ended),
        ("not_authorized", not_authorized),
        ("filtered", filtered),
        ("not_permitted", not_permitted),
        ("not_retained", not_retained),
        ("no_subscriber", no_subscriber),
    ]
    .map(|(reason, count)| (format!("reason=\"{reason}\""), count))
}

/// The codes that such a packet may carry, so that each is there from the start, and whatever else was counted.
fn by_code(counts: &PerReasonCode, packet_type: PacketType) -> impl Iterator<Item = (String, u64)> + '_ {
    let counts = counts.iter();
    let shown =
        counts.filter(move |(code, count)| *count > 0 || (code.is_error() && code.is_valid_in(packet_type)));
    shown.map(|(code, count)| {
        (format!("reason_code=\"0x{:02x}\",reason=\"{}\"", code.value(), code.name()), count)
    })
}

fn queues(out: &mut Exposition, shards: &[ShardStat]) {
    let messages: u64 = shards.iter().map(|shard| shard.queued_messages).sum();
    let bytes: u64 = shards.iter().map(|shard| shard.queued_bytes).sum();
    let help = "Messages in queues and in flight, as of the last interval of the $SYS topics.";
    out.gauge("lapwing_queued_messages", help, messages);
    let help = "Bytes of the messages in queues and in flight, as of the last interval of the $SYS topics.";
    out.gauge("lapwing_queued_bytes", help, bytes);
}

fn each_shard(out: &mut Exposition, shards: &[ShardStat]) {
    let by_shard = |value: fn(&ShardStat) -> f64| {
        let values = shards.iter().enumerate();
        values.map(move |(id, shard)| (format!("shard=\"{id}\""), value(shard)))
    };
    let help = "How much of its time a shard's thread was at work lately: 0 to 1.";
    out.gauges("lapwing_shard_busy_ratio", help, by_shard(|shard| shard.busy));
    let help = "Connected clients of a shard.";
    out.gauges("lapwing_shard_clients", help, by_shard(|shard| shard.stat.clients as f64));
    let help = "Sessions of a shard.";
    out.gauges("lapwing_shard_sessions", help, by_shard(|shard| shard.stat.sessions as f64));
    let help = "Bytes of mail from other threads that a shard has not handled.";
    out.gauges("lapwing_shard_mailbox_bytes", help, by_shard(|shard| shard.mailbox_bytes as f64));
}

fn process(out: &mut Exposition) {
    let process = Process::now();
    out.counter("process_cpu_seconds_total", "Processor time of the process.", process.cpu_seconds);
    if let Some(bytes) = process.resident_bytes {
        out.gauge("process_resident_memory_bytes", "Resident memory of the process.", bytes);
    }
    if let Some(descriptors) = process.open_descriptors {
        out.gauge("process_open_fds", "Open file descriptors of the process.", descriptors);
    }
}
