//! Publishing without being a client.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapwing_proto::packet::{Publish, QoS};
use lapwing_proto::topic::TopicNameBuf;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::Deed;
use crate::problem::Problem;
use crate::router::Api;

/// A message to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishRequest {
    /// The topic name, without wildcards.
    #[schema(example = "gate/door_1/command")]
    topic: String,
    /// The payload.
    #[serde(default)]
    payload: String,
    /// How the payload is written.
    #[serde(default)]
    encoding: Encoding,
    /// The quality of service: 0, 1 or 2.
    #[serde(default)]
    #[schema(maximum = 2)]
    qos: u8,
    /// Whether the broker keeps the message for later subscribers. With an empty payload it forgets the one it keeps.
    #[serde(default)]
    retain: bool,
}

/// How a payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// As text.
    #[default]
    Utf8,
    /// In base64, for bytes that are no text.
    Base64,
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishAnswer {
    /// Whether anybody had subscribed to the topic.
    matched: bool,
}

/// Publishes a message as the broker's own, under the very name of its topic: no rule changes it, and no permission is
/// asked for. The answer comes when it is on its way to its receivers, not when it is on the disk.
#[utoipa::path(post, path = "/api/v1/publish", tag = "messages", request_body = PublishRequest,
    responses(
        (status = 200, description = "The message is on its way.", body = PublishAnswer),
        (status = 400, description = "It is no message: `topic_invalid`, `qos_invalid`, `payload_invalid`, `message_invalid` or `request_invalid`.", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no room to keep it: `message_refused`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn publish(
    State(api): State<Api>,
    Extension(deed): Extension<Deed>,
    request: Result<Json<PublishRequest>, JsonRejection>,
) -> Result<Json<PublishAnswer>, Problem> {
    let Json(request) = request?;
    deed.is(format!("publish to {}", request.topic));
    let topic = TopicNameBuf::new(request.topic)
        .map_err(|error| Problem::invalid("topic_invalid", format!("`topic`: {error}")))?;
    let qos = QoS::from_bits(request.qos)
        .ok_or_else(|| Problem::invalid("qos_invalid", "a quality of service is 0, 1 or 2"))?;
    let payload = match request.encoding {
        Encoding::Utf8 => request.payload.into_bytes(),
        Encoding::Base64 => BASE64_STANDARD.decode(request.payload).map_err(|error| {
            Problem::invalid("payload_invalid", format!("`payload` is not base64: {error}"))
        })?,
    };
    let retain = request.retain;
    let matched = api
        .ask(move |control| {
            control.publish(&Publish { qos, retain, ..Publish::new(topic.as_name(), &payload) })
        })
        .await??;
    Ok(Json(PublishAnswer { matched }))
}
