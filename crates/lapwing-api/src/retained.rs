//! Retained messages.
#![allow(unused_qualifications, reason = "the macros of utoipa write them")]

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapwing_broker::RetainedInfo;
use lapwing_proto::packet::Publish;
use lapwing_proto::topic::{TopicFilterBuf, TopicNameBuf};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clients::page_size;
use crate::problem::Problem;
use crate::publish::Encoding;
use crate::role::Role;
use crate::router::Api;
use crate::tokens::Actor;

/// Bytes of a payload that are shown.
const PAYLOAD_SHOWN: usize = 4096;

/// A retained message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetainedMessage {
    /// Its topic.
    pub topic: String,
    /// Its quality of service.
    pub qos: u8,
    /// The payload, or its first 4096 bytes: as text if it is text. Absent for a viewer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payload: Option<String>,
    /// How `payload` is written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, example = "utf8")]
    pub(crate) encoding: Option<Encoding>,
    /// Bytes of the whole payload.
    pub payload_bytes: u64,
    /// Seconds until it expires; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in_s: Option<u32>,
}

/// Some of the retained messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetainedPage {
    /// In the order of their topics.
    pub messages: Vec<RetainedMessage>,
    /// What to send as `after` for those that follow; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetainedQuery {
    /// The topic filter, as in `gate/+/state`; `#` if absent, which does not match topics that begin with `$`.
    filter: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Entries on the page, from 1 to 1000; 100 if absent.
    limit: Option<usize>,
}

/// Retained messages that match a filter, page by page. Payloads are shown to operators and administrators only.
#[utoipa::path(get, path = "/api/v1/retained", tag = "messages", params(RetainedQuery),
    responses(
        (status = 200, description = "A page of them.", body = RetainedPage),
        (status = 400, description = "`filter_invalid`, `after_invalid` or `limit_invalid`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn list(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    query: Result<Query<RetainedQuery>, QueryRejection>,
) -> Result<Json<RetainedPage>, Problem> {
    let Query(query) = query?;
    let filter = TopicFilterBuf::new(query.filter.unwrap_or_else(|| "#".to_owned()))
        .map_err(|error| Problem::invalid("filter_invalid", format!("`filter`: {error}")))?;
    let after = query.after.map(TopicNameBuf::new).transpose();
    let after = after.map_err(|error| Problem::invalid("after_invalid", format!("`after`: {error}")))?;
    let limit = page_size(query.limit)?;
    let find = move |control: &lapwing_broker::Control| {
        let after = after.as_ref().map(TopicNameBuf::as_name);
        control.retained(filter.as_filter(), after, limit, PAYLOAD_SHOWN)
    };
    let (messages, next) = api.ask(find).await?;
    let show = |info| match RetainedMessage::from(info) {
        message if actor.role >= Role::Operator => message,
        message => RetainedMessage { payload: None, encoding: None, ..message },
    };
    let messages = messages.into_iter().map(show).collect();
    Ok(Json(RetainedPage { messages, next: next.map(|topic| topic.as_str().to_owned()) }))
}

/// Deletes the retained message of a topic, as a client does that publishes an empty one with RETAIN: subscribers get
/// that one.
#[utoipa::path(delete, path = "/api/v1/retained/{topic}", tag = "messages",
    params(("topic" = String, Path, description = "The topic name; slashes in it may stand as they are")),
    responses(
        (status = 204, description = "It is deleted."),
        (status = 404, description = "The topic has none: `retained_not_found`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn delete(
    State(api): State<Api>,
    topic: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path(topic) = topic?;
    let topic = TopicNameBuf::new(topic)
        .map_err(|error| Problem::invalid("topic_invalid", format!("the topic: {error}")))?;
    let delete = move |control: &lapwing_broker::Control| {
        let name = topic.as_name();
        if !control.has_retained(name) {
            return Err(Problem::not_found("retained_not_found", "the topic has no retained message"));
        }
        control.publish(&Publish { retain: true, ..Publish::new(name, b"") })?;
        Ok(StatusCode::NO_CONTENT)
    };
    api.ask(delete).await?
}

impl RetainedMessage {
    /// Whether the payload is text, and `payload` the text.
    pub fn is_text(&self) -> bool {
        self.encoding == Some(Encoding::Utf8)
    }
}

impl From<RetainedInfo> for RetainedMessage {
    fn from(info: RetainedInfo) -> Self {
        let RetainedInfo { topic, qos, mut payload, payload_bytes, expires_in_s } = info;
        // A character at the end of which only the first bytes are here is left out.
        if let Err(error) = std::str::from_utf8(&payload)
            && error.error_len().is_none()
            && payload.len() < payload_bytes
        {
            payload.truncate(error.valid_up_to());
        }
        let (payload, encoding) = match String::from_utf8(payload) {
            Ok(text) => (text, Encoding::Utf8),
            Err(error) => (BASE64_STANDARD.encode(error.as_bytes()), Encoding::Base64),
        };
        let payload_bytes = payload_bytes as u64;
        let topic = topic.as_str().to_owned();
        let (payload, encoding) = (Some(payload), Some(encoding));
        Self { topic, qos: qos.bits(), payload, encoding, payload_bytes, expires_in_s }
    }
}

#[cfg(test)]
mod tests {
    use lapwing_proto::packet::QoS;

    use super::*;

    fn shown(payload: &[u8]) -> RetainedMessage {
        let topic = TopicNameBuf::new("t").unwrap();
        let payload_bytes = payload.len();
        let payload = payload[..payload_bytes.min(PAYLOAD_SHOWN)].to_vec();
        RetainedInfo { topic, qos: QoS::AtMostOnce, payload, payload_bytes, expires_in_s: None }.into()
    }

    #[test]
    fn text_is_text_and_other_bytes_are_base64() {
        let text = shown("grün".as_bytes());
        assert_eq!(
            (text.payload.as_deref(), text.encoding, text.payload_bytes),
            (Some("grün"), Some(Encoding::Utf8), 5)
        );
        let bytes = shown(b"\xff\0");
        assert_eq!((bytes.payload.as_deref(), bytes.encoding), (Some("/wA="), Some(Encoding::Base64)));
        // The beginning of a character is no text where nothing was cut off.
        assert_eq!(shown(b"a\xc3").encoding, Some(Encoding::Base64));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = shown(format!("x{}", "ü".repeat(3000)).as_bytes());
        assert_eq!((long.encoding, long.payload_bytes), (Some(Encoding::Utf8), 6001));
        assert_eq!(long.payload.map(|payload| payload.len()), Some(4095));
    }
}
