//! What has become of a message, or of a client.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use lapwing_broker as broker;
use lapwing_broker::Publisher;
use lapwing_proto::topic::TopicFilterBuf;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clients::page_size;
use crate::problem::Problem;
use crate::router::Api;
use crate::timestamp::rfc3339_ms;

/// How far back where the request does not say, in seconds.
const SINCE_S: u64 = 3600;

/// What is known. There are no payloads in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Messages, from the oldest to the newest.
    pub messages: Vec<ExplainedMessage>,
    /// What happened to clients, and what they were refused; from the oldest to the newest.
    pub incidents: Vec<ExplainedIncident>,
    /// The subscriptions that match the topics now. They may have been others when the messages were published.
    pub subscriptions_now: Vec<MatchingSubscription>,
    /// Whether there is more than the `limit` lets through.
    pub more: bool,
    /// How far back each shard remembers.
    pub remembered: Vec<Remembered>,
}

/// A message, or several of one client to one topic that came together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedMessage {
    /// When it was published; where that is not known, when it was first seen.
    #[schema(example = "2026-11-28T05:45:00.123Z")]
    pub at: String,
    /// The topic; absent where it was published longer ago than is remembered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Whether only the beginning of the topic is remembered.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub topic_cut: bool,
    /// Who published it: `client`, `forgotten` (a client whose session has ended), `broker`, `direct` (for one session only:
    /// a retained message for a new subscription) or `unknown` (longer ago than is remembered).
    pub origin: String,
    /// Which client published it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub publisher: Option<String>,
    /// The QoS at which it was published.
    pub qos: u8,
    /// Whether it was to be retained.
    pub retain: bool,
    /// How many messages these are.
    pub count: u32,
    /// What the broker did with it: `passed_on`, `no_subscriber`, `delayed`, `not_delayed`, `disk_full`, `queue_full`,
    /// `no_room_to_retain` or `passed_on_unretained`; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<String>,
    /// The same for people, with what to do.
    pub text: String,
    /// To how many sessions it went.
    pub receivers: u32,
    /// What became of it for those of whom there is a record: everybody at QoS 1 and 2; at QoS 0 those that did not get it,
    /// and where it was one session alone that got several messages.
    pub deliveries: Vec<ExplainedDelivery>,
    /// How many of these are left out.
    pub deliveries_left_out: u64,
}

/// What became of a message for one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedDelivery {
    /// The client identifier, or the key of the session; absent where it has ended and is forgotten.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<String>,
    /// At which it is delivered.
    pub qos: u8,
    /// How many messages, where several came together.
    pub count: u32,
    /// `queued`, `sent`, `one_by_one`, `acknowledged`, `rejected`, `expired`, `queue_full`, `outbox_full`, `not_connected`,
    /// `too_large`, `session_ended`, `not_permitted` or `given_to_other`.
    pub state: String,
    /// Why it waited: `away`, `receive_maximum`, `line`, `behind` or `disk`; absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waited: Option<String>,
    /// When the session got it, to send or to keep.
    pub at: String,
    /// When it was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sent_at: Option<String>,
    /// When the client acknowledged it, or it was dropped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub settled_at: Option<String>,
    /// The packet identifier with which it was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub packet_id: Option<u16>,
    /// The Reason Code of the client's answer, where it is an error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason_code: Option<u8>,
    /// Whether it was sent again on another connection.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub resent: bool,
    /// The same for people, with what to do.
    pub text: String,
}

/// Something that happened to a client, or was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedIncident {
    /// When; for several that are the same, the first time.
    pub at: String,
    /// For several that are the same, the last time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_at: Option<String>,
    /// How often.
    pub count: u32,
    /// The client identifier; empty before a CONNECT. A long one is cut.
    pub client_id: String,
    /// `connected`, `refused`, `closed`, `disconnected`, `session_ended`, `publish_denied`, `filtered`, `misnamed`,
    /// `subscribe_denied` or `subscription_revoked`.
    pub what: String,
    /// The topic or filter, where it is about one. A long one is cut.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// The rule that says so, where one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
    /// The same for people.
    pub text: String,
}

/// A subscription that matches a topic now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MatchingSubscription {
    /// The topic.
    pub topic: String,
    /// The filter.
    pub filter: String,
    /// Whose it is; absent for a shared one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<String>,
    /// The highest quality of service that it gives; absent for a shared one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos: Option<u8>,
    /// How many members a shared one has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub members: Option<u64>,
    /// Whether the rules do not let the client have this topic, though the filter matches.
    pub withheld: bool,
    /// The rule that says so, where one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
}

/// How far back a shard remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Remembered {
    /// Whether it remembers anything: `explain.memory_bytes`.
    pub on: bool,
    /// Messages from then on; absent where none has been forgotten since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub messages_since: Option<String>,
    /// Incidents from then on; absent where none has been forgotten since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incidents_since: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// A topic, or a filter as in `gate/+/state`.
    topic: Option<String>,
    /// A client identifier, or else the key of a session: what it published and was to get, and how it came and went.
    client: Option<String>,
    /// How many seconds back; 3600 if absent.
    since_s: Option<u64>,
    /// Up to so many messages and as many incidents, the newest, from 1 to 1000; 100 if absent.
    limit: Option<usize>,
}

/// What has become of the last messages to a topic, or of a client: who published, what the broker did, who got it, and who
/// did not and why. `topic` or `client` must be there; with both, what a client has to do with a topic.
#[utoipa::path(get, path = "/api/v1/explain", tag = "messages", params(ExplainQuery),
    responses(
        (status = 200, description = "What is known.", body = Explanation),
        (status = 400, description = "`question_missing`, `topic_invalid` or `limit_invalid`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn explain(
    State(api): State<Api>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Query(ExplainQuery { topic, client, since_s, limit }) = query?;
    if topic.is_none() && client.is_none() {
        return Err(Problem::invalid("question_missing", "`topic` or `client` says what to explain"));
    }
    let topic = topic.map(TopicFilterBuf::new).transpose();
    let topic = topic.map_err(|error| Problem::invalid("topic_invalid", format!("`topic`: {error}")))?;
    let since = Duration::from_secs(since_s.unwrap_or(SINCE_S));
    let question = broker::Question { topic, client, since, maximum: page_size(limit)? };
    Ok(Json(api.ask(move |control| control.explain(&question)).await??.into()))
}

fn time(at: Option<SystemTime>) -> Option<String> {
    at.map(rfc3339_ms)
}

impl From<broker::Explanation> for Explanation {
    fn from(it: broker::Explanation) -> Self {
        Self {
            messages: it.messages.into_iter().map(ExplainedMessage::from).collect(),
            incidents: it.incidents.into_iter().map(ExplainedIncident::from).collect(),
            subscriptions_now: it.subscriptions.into_iter().map(MatchingSubscription::from).collect(),
            more: it.is_more,
            remembered: it.reaches.into_iter().map(Remembered::from).collect(),
        }
    }
}

impl From<broker::Message> for ExplainedMessage {
    fn from(it: broker::Message) -> Self {
        let (origin, publisher) = match it.publisher {
            Publisher::Client(client_id) => ("client", Some(client_id)),
            Publisher::Forgotten => ("forgotten", None),
            Publisher::Broker => ("broker", None),
            Publisher::Direct => ("direct", None),
            Publisher::Unknown => ("unknown", None),
        };
        let text = it.passage.map_or("published longer ago than is remembered", broker::Passage::sentence);
        Self {
            at: rfc3339_ms(it.at),
            topic: it.topic,
            topic_cut: it.is_topic_cut,
            origin: origin.to_owned(),
            publisher,
            qos: it.qos.bits(),
            retain: it.retain,
            count: it.count,
            verdict: it.passage.map(|passage| passage.code().to_owned()),
            text: text.to_owned(),
            receivers: it.receivers,
            deliveries: it.deliveries.into_iter().map(ExplainedDelivery::from).collect(),
            deliveries_left_out: it.left_out as u64,
        }
    }
}

impl From<broker::Delivery> for ExplainedDelivery {
    fn from(it: broker::Delivery) -> Self {
        Self {
            text: it.sentence(),
            client_id: it.client_id,
            qos: it.qos.bits(),
            count: it.count,
            state: it.state.code().to_owned(),
            waited: it.wait.code().map(str::to_owned),
            at: rfc3339_ms(it.at),
            sent_at: time(it.sent_at),
            settled_at: time(it.settled_at),
            packet_id: it.packet_id,
            reason_code: it.reason_code.map(lapwing_proto::packet::ReasonCode::value),
            resent: it.is_resent,
        }
    }
}

impl From<broker::Incident> for ExplainedIncident {
    fn from(it: broker::Incident) -> Self {
        Self {
            at: rfc3339_ms(it.at),
            last_at: (it.count > 1).then(|| rfc3339_ms(it.last_at)),
            count: it.count,
            client_id: it.client_id,
            what: it.happening.code().to_owned(),
            subject: it.happening.subject().map(str::to_owned),
            rule: it.rule,
            text: it.happening.sentence(),
        }
    }
}

impl From<broker::Subscription> for MatchingSubscription {
    fn from(it: broker::Subscription) -> Self {
        let is_shared = it.client_id.is_none();
        Self {
            topic: it.topic,
            filter: it.filter,
            client_id: it.client_id,
            qos: it.qos.map(lapwing_proto::packet::QoS::bits),
            members: is_shared.then_some(it.members as u64),
            withheld: it.is_withheld,
            rule: it.rule,
        }
    }
}

impl From<broker::Reach> for Remembered {
    fn from(it: broker::Reach) -> Self {
        Self { on: it.is_on, messages_since: time(it.messages), incidents_since: time(it.incidents) }
    }
}
