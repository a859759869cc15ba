use std::time::Duration;

use lapwing_net::{Address, DialError};
use lapwing_proto::packet::ReasonCode;
use lapwing_proto::session::{Cause, ClientError, OptionError, PublishError, RequestError};
use lapwing_proto::topic::TopicError;

/// Why a client could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Something listens there, but does not say a word.
    #[error("{0} takes connections, but did not answer CONNECT within {1:?}; is this an MQTT broker?")]
    NoAnswer(Address, Duration),
    /// What answers there does not speak MQTT, or closes the connection before it says whether the client is let in.
    #[error("{address} did not answer CONNECT{}; is this an MQTT broker?", not_mqtt(.error))]
    NotMqtt {
        /// Where.
        address: Address,
        /// What is wrong with the answer, if there was any.
        error: Option<ClientError>,
    },
    /// The options contradict each other.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The server refused the connection.
    #[error("the server refused the connection: {reason_code}{}", suffix(.reason_string))]
    Refused {
        /// Why.
        reason_code: ReasonCode,
        /// Why, in the server's words.
        reason_string: Option<String>,
    },
    /// The server ended the connection with a DISCONNECT.
    #[error("the server ended the connection: {reason_code}{}", suffix(.reason_string))]
    Disconnected {
        /// Why.
        reason_code: ReasonCode,
        /// Why, in the server's words.
        reason_string: Option<String>,
    },
    /// The server refused a message.
    #[error("the server refused the message: {0}")]
    PublishRefused(ReasonCode),
    /// The server refused a subscription.
    #[error("the server refused the subscription '{0}': {1}")]
    SubscribeRefused(String, ReasonCode),
    /// The connection was closed without a word.
    #[error("the connection was lost{}", .0.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Lost(Option<std::io::Error>),
    /// More messages came, while something else was waited for, than are kept.
    #[error("messages come faster than they are received")]
    TooManyMessages,
    /// The server broke the protocol or was silent for too long.
    #[error(transparent)]
    Protocol(#[from] ClientError),
    /// The message cannot be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The request cannot be sent.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A topic or filter is none.
    #[error("'{0}' is not valid: {1}")]
    Topic(String, TopicError),
}

fn not_mqtt(error: &Option<ClientError>) -> String {
    match error {
        Some(error) => format!(" with CONNACK: {error}"),
        None => " but closed the connection".to_owned(),
    }
}

fn suffix(reason_string: &Option<String>) -> String {
    reason_string.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Transport | Cause::Requested => Self::Lost(None),
            Cause::Refused(reason_code) => Self::Refused { reason_code, reason_string: None },
            Cause::Error(error) => Self::Protocol(error),
            Cause::Server(packet) => match packet.disconnect() {
                Some(disconnect) => Self::Disconnected {
                    reason_code: disconnect.reason_code,
                    reason_string: disconnect.properties.reason_string.map(str::to_owned),
                },
                None => Self::Lost(None),
            },
        }
    }
}
