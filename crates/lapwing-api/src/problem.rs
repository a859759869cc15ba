//! What went wrong with a request, for programs and for people.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lapwing_broker::ControlError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The same in words.
    pub(crate) title: String,
    /// What it is, for programs. It stays the same from version to version.
    #[schema(example = "client_not_found")]
    pub(crate) code: String,
    /// What it is, for people, with what to do.
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        Self { status: status.as_u16(), title, code: code.to_owned(), detail: detail.into() }
    }

    pub(crate) fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub(crate) fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lapwing\""));
        }
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let detail = error.to_string();
        match error {
            ControlError::NoSession => Self::not_found("client_not_found", detail),
            ControlError::NotConnected => Self::new(StatusCode::CONFLICT, "client_not_connected", detail),
            ControlError::Busy => Self::unavailable("busy", detail),
            ControlError::Stopped => Self::unavailable("stopped", detail),
            ControlError::Limits(_) => Self::invalid("limits_invalid", detail),
            ControlError::NotStored => Self::unavailable("not_stored", detail),
            ControlError::TooManyBans => Self::new(StatusCode::CONFLICT, "too_many_bans", detail),
            ControlError::NothingStored => Self::new(StatusCode::CONFLICT, "nothing_stored", detail),
            ControlError::BackupRunning => Self::new(StatusCode::CONFLICT, "backup_running", detail),
            ControlError::Backup(_) => Self::unavailable("backup_failed", detail),
            ControlError::Message(_) => Self::invalid("message_invalid", detail),
            ControlError::Refused(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "message_refused", detail)
            }
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid("request_invalid", rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid("request_invalid", rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type_unsupported",
            _ => "request_invalid",
        };
        Self::new(status, code, rejection.body_text())
    }
}
