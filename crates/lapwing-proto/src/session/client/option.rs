//! What a client asks for.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::packet::{
    Connect, ConnectProperties, EncodeError, MAXIMUM_PACKET_SIZE, PayloadFormat, ProtocolVersion, QoS,
    UserProperty, Will, WillProperties,
};
use crate::topic::TopicNameBuf;

/// Everything that a client says in CONNECT, and how its [`ClientSession`](super::ClientSession) behaves.
///
/// What a version does not have (properties before 5.0) is left out of its CONNECT.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The version of the protocol. It stays the same for the whole life of a client session.
    pub version: ProtocolVersion,
    /// The client identifier. Empty: the server assigns one, which is then kept for later connections
    /// (5.0), or the client stays nameless and needs [`CleanStart::Always`] (3.1.1). 3.1 needs one.
    pub client_id: String,
    /// When an earlier session is to be discarded.
    pub clean_start: CleanStart,
    /// The longest pause between two packets from the client, in seconds; 0 for no limit. A 5.0 server may
    /// replace it `[MQTT-3.1.2-21]`.
    pub keep_alive: u16,
    /// User name.
    pub user_name: Option<String>,
    /// Password. Before 5.0 only together with a user name.
    pub password: Option<Vec<u8>>,
    /// Published by the server when the connection ends without a DISCONNECT.
    pub will: Option<WillMessage>,
    /// Seconds for which the session outlives the connection; `u32::MAX`: for ever. 5.0 only.
    pub session_expiry_interval: u32,
    /// How many QoS 1 and 2 messages the server may have open at a time. Before 5.0 it cannot be said, and
    /// is not enforced.
    pub receive_maximum: NonZeroU16,
    /// The largest packet that the client takes, in bytes. It holds in every version; only a 5.0 server is
    /// told.
    pub maximum_packet_size: NonZeroU32,
    /// The highest topic alias that the client takes. It keeps up to that many topic names of up to
    /// 65,535 bytes.
    pub topic_alias_maximum: u16,
    /// Whether the server may send Response Information.
    pub request_response_information: bool,
    /// Whether the server may explain failures in words.
    pub request_problem_information: bool,
    /// The method of an extended authentication, 5.0 only.
    pub authentication_method: Option<String>,
    /// What the method begins with.
    pub authentication_data: Option<Vec<u8>>,
    /// Names and values for the server.
    pub user_properties: Vec<(String, String)>,
    /// Who acknowledges QoS 1 and 2 messages.
    pub acknowledgement: Acknowledgement,
    /// Whether a session that the server has kept is gone on with although this client session knows nothing
    /// of it, as after a restart of the process. It is what lets a restarted client receive the messages
    /// that were queued for it. The price: a QoS 2 message that was half received may be received twice, and
    /// one of this end's first QoS 2 messages may be taken for one from before. `false` closes such a
    /// connection instead, as `[MQTT-3.2.2-4]` has it.
    pub resume_unknown_session: bool,
    /// How long the server may take from CONNECT, or from the last AUTH, to CONNACK.
    pub connack_timeout: Duration,
    /// How long the server may stay silent after a PINGREQ.
    pub ping_timeout: Duration,
    /// What bounds the client's memory.
    pub limits: ClientLimits,
}

/// When an earlier session is to be discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CleanStart {
    /// On every connection. Before 5.0 the session then also ends with the connection.
    #[default]
    Always,
    /// On connections up to the first one that the server accepts; later ones go on with that session. In
    /// 5.0 it takes a session expiry interval. Before 5.0 the server keeps no session over the end of the
    /// first connection, and one from the second on.
    First,
    /// Never.
    Never,
}

/// Who acknowledges received QoS 1 and 2 messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acknowledgement {
    /// The session, when [`poll_event`](super::ClientSession::poll_event) gives the message. So a client that
    /// does not take its messages is not sent more than the receive maximum.
    #[default]
    Automatic,
    /// The application, with [`acknowledge`](super::ClientSession::acknowledge).
    Manual,
}

/// What bounds a client's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// How many QoS 1 and 2 messages are in flight at a time, where the server would take more. Before
    /// 5.0 a server cannot say how many it takes.
    pub send_maximum: NonZeroU16,
    /// QoS 1 and 2 messages to be sent, in flight or waiting.
    pub stored_messages: usize,
    /// Bytes of those messages.
    pub stored_bytes: usize,
    /// Bytes of output from which on nothing but answers is added to it.
    pub output_bytes: usize,
    /// Events from which on [`wants_input`](super::ClientSession::wants_input) is false.
    pub events: usize,
    /// Bytes of messages in events from which on [`wants_input`](super::ClientSession::wants_input) is
    /// false.
    pub event_bytes: usize,
    /// How many topics get an alias when sending, where the server takes more; 0: none.
    pub topic_aliases: u16,
}

/// A Will Message, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WillMessage {
    /// Where it is published.
    pub topic: TopicNameBuf,
    /// What is published: at most 65,535 bytes.
    pub payload: Vec<u8>,
    /// Its quality of service.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds between the end of the connection and the publication.
    pub delay_interval: Option<u32>,
    /// Whether the payload is text.
    pub payload_format_indicator: Option<PayloadFormat>,
    /// Seconds after which the message is of no use.
    pub message_expiry_interval: Option<u32>,
    /// What the payload is, as in a MIME type.
    pub content_type: Option<String>,
    /// Where a response is to be published.
    pub response_topic: Option<TopicNameBuf>,
    /// Returned with the response.
    pub correlation_data: Option<Vec<u8>>,
    /// Forwarded with the message.
    pub user_properties: Vec<(String, String)>,
}

/// Why options make no CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A field is too long, or a password lacks its user name.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A string contains U+0000 `[MQTT-1.5.4-2]`.
    #[error("a string contains U+0000")]
    Null,
    /// The version needs a client identifier: 3.1 always, 3.1.1 unless the session is clean
    /// `[MQTT-3.1.3-7]` of 3.1.1.
    #[error("MQTT {0} needs a client identifier here")]
    NoClientId(ProtocolVersion),
    /// Authentication data belongs to an authentication method.
    #[error("authentication data without an authentication method")]
    NoAuthenticationMethod,
    /// A client session keeps its version.
    #[error("the version cannot change from {0} to {1}")]
    VersionChanged(ProtocolVersion, ProtocolVersion),
}

impl Default for ClientLimits {
    /// 100 messages in flight, 10,000 messages and 64 MiB to be sent, 1 MiB of output, 4,096 events, 4 MiB of
    /// messages in events, no aliases.
    fn default() -> Self {
        Self {
            send_maximum: NonZeroU16::new(100).unwrap_or(NonZeroU16::MIN),
            stored_messages: 10_000,
            stored_bytes: 64 << 20,
            output_bytes: 1 << 20,
            events: 4096,
            event_bytes: 4 << 20,
            topic_aliases: 0,
        }
    }
}

impl ConnectOptions {
    /// Clean start, keep alive 60 s, every packet size, 30 s for CONNACK, 20 s for PINGRESP, automatic
    /// acknowledgement, and nothing else.
    pub fn new(version: ProtocolVersion, client_id: impl Into<String>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean_start: CleanStart::Always,
            keep_alive: 60,
            user_name: None,
            password: None,
            will: None,
            session_expiry_interval: 0,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: NonZeroU32::new(MAXIMUM_PACKET_SIZE).unwrap_or(NonZeroU32::MAX),
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: Vec::new(),
            acknowledgement: Acknowledgement::Automatic,
            resume_unknown_session: true,
            connack_timeout: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            limits: ClientLimits::default(),
        }
    }

    /// Whether a CONNECT can be made of these.
    pub fn check(&self) -> Result<(), OptionError> {
        if self.client_id.is_empty() {
            let needed = match self.version {
                ProtocolVersion::V31 => true,
                ProtocolVersion::V311 => self.clean_start != CleanStart::Always,
                ProtocolVersion::V5 => false,
            };
            if needed {
                return Err(OptionError::NoClientId(self.version));
            }
        }
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(OptionError::NoAuthenticationMethod);
        }
        let texts = [Some(&self.client_id), self.user_name.as_ref(), self.authentication_method.as_ref()];
        let will_content = self.will.as_ref().and_then(|will| will.content_type.as_ref());
        let will_pairs = self.will.iter().flat_map(|will| &will.user_properties);
        let pairs = self.user_properties.iter().chain(will_pairs).flat_map(|(name, value)| [name, value]);
        if texts.into_iter().flatten().chain(will_content).chain(pairs).any(|text| text.contains('\0')) {
            return Err(OptionError::Null);
        }
        let mut scratch = Vec::new();
        Ok(self.encode(&self.client_id, true, &mut scratch)?)
    }

    /// Appends the CONNECT.
    pub(super) fn encode(
        &self,
        client_id: &str,
        clean_start: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let user_properties = borrow_pairs(&self.user_properties);
        let will_pairs = borrow_pairs(self.will.as_ref().map_or(&[], |will| &will.user_properties));
        let properties = ConnectProperties {
            session_expiry_interval: Some(self.session_expiry_interval).filter(|&seconds| seconds > 0),
            receive_maximum: Some(self.receive_maximum).filter(|&maximum| maximum < NonZeroU16::MAX),
            maximum_packet_size: Some(self.maximum_packet_size)
                .filter(|maximum| maximum.get() < MAXIMUM_PACKET_SIZE),
            topic_alias_maximum: Some(self.topic_alias_maximum).filter(|&maximum| maximum > 0),
            request_response_information: self.request_response_information.then_some(true),
            request_problem_information: (!self.request_problem_information).then_some(false),
            authentication_method: self.authentication_method.as_deref(),
            authentication_data: self.authentication_data.as_deref(),
            user_properties: user_properties[..].into(),
        };
        Connect {
            version: self.version,
            clean_start,
            keep_alive: self.keep_alive,
            client_id,
            will: self.will.as_ref().map(|will| will.borrow(&will_pairs)),
            user_name: self.user_name.as_deref(),
            password: self.password.as_deref(),
            properties,
        }
        .encode(out)
    }
}

impl fmt::Debug for ConnectOptions {
    /// Without the password and the authentication data, so that they do not end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("user_name", &self.user_name)
            .field("will", &self.will)
            .field("session_expiry_interval", &self.session_expiry_interval)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("authentication_method", &self.authentication_method)
            .field("acknowledgement", &self.acknowledgement)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl WillMessage {
    /// A will at QoS 0, not retained, without properties.
    pub fn new(topic: TopicNameBuf, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            delay_interval: None,
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }
    }

    fn borrow<'a>(&'a self, user_properties: &'a [UserProperty<'a>]) -> Will<'a> {
        Will {
            topic: self.topic.as_name(),
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: WillProperties {
                will_delay_interval: self.delay_interval,
                payload_format_indicator: self.payload_format_indicator,
                message_expiry_interval: self.message_expiry_interval,
                content_type: self.content_type.as_deref(),
                response_topic: self.response_topic.as_ref().map(TopicNameBuf::as_name),
                correlation_data: self.correlation_data.as_deref(),
                user_properties: user_properties.into(),
            },
        }
    }
}

fn borrow_pairs(pairs: &[(String, String)]) -> Vec<UserProperty<'_>> {
    pairs.iter().map(|(name, value)| UserProperty { name, value }).collect()
}
