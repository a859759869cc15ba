use std::num::{NonZeroU16, NonZeroU32};

use super::property::properties;
use super::reader::Reader;
use super::{DecodeError, EncodeError, Frame, PacketType, PayloadFormat, ProtocolVersion, QoS};
use super::{ReasonCode, UserProperty, writer};
use crate::topic::TopicName;

/// CONNECT: the first packet on a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connect<'a> {
    /// The version that the client speaks from here on.
    pub version: ProtocolVersion,
    /// Begin without what an earlier session may have left. Before 5.0: Clean Session.
    pub clean_start: bool,
    /// The longest pause between two packets from the client, in seconds; 0 for no limit.
    pub keep_alive: u16,
    /// May be empty, so that the server assigns one.
    pub client_id: &'a str,
    /// Published for the client when the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Properties.
    pub properties: ConnectProperties<'a>,
}

properties! {
    /// The properties of a CONNECT.
    ConnectProperties {
        /// Seconds for which the session outlives the connection; absent: 0; `u32::MAX`: for ever.
        session_expiry_interval: u32 = SessionExpiryInterval,
        /// How many QoS 1 and 2 messages the client takes at a time; absent: 65,535.
        receive_maximum: NonZeroU16 = ReceiveMaximum,
        /// The largest packet that the client takes, in bytes; absent: no limit.
        maximum_packet_size: NonZeroU32 = MaximumPacketSize,
        /// The highest topic alias that the client takes; absent: 0, none.
        topic_alias_maximum: u16 = TopicAliasMaximum,
        /// Whether the server may return Response Information; absent: no.
        request_response_information: bool = RequestResponseInformation,
        /// Whether the server may explain failures in words; absent: yes.
        request_problem_information: bool = RequestProblemInformation,
        /// Begins an extended authentication.
        authentication_method: &'a str = AuthenticationMethod,
        /// What the method needs.
        authentication_data: &'a [u8] = AuthenticationData,
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

/// A Will Message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: TopicName<'a>,
    /// What is published.
    pub payload: &'a [u8],
    /// Its quality of service.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties.
    pub properties: WillProperties<'a>,
}

properties! {
    /// The properties of a Will Message.
    WillProperties {
        /// Seconds between the end of the connection and the publication; absent: 0.
        will_delay_interval: u32 = WillDelayInterval,
        /// Whether the payload is text.
        payload_format_indicator: PayloadFormat = PayloadFormatIndicator,
        /// Seconds after which the message is of no use; absent: it does not expire.
        message_expiry_interval: u32 = MessageExpiryInterval,
        /// What the payload is, as in a MIME type.
        content_type: &'a str = ContentType,
        /// Where a response is to be published.
        response_topic: TopicName<'a> = ResponseTopic,
        /// Returned with the response.
        correlation_data: &'a [u8] = CorrelationData,
        ;
        /// Forwarded with the message.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

impl<'a> Connect<'a> {
    /// A CONNECT with clean start, keep alive 60 s, and nothing else.
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive: 60,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Decodes the packet in `frame`, in the version that it says itself.
    ///
    /// # Errors
    /// [`ReasonCode::UnsupportedProtocolVersion`] for a protocol name or level that there is not;
    /// otherwise what is malformed.
    pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = frame.reader();
        let version = read_version(&mut reader)?;
        frame.check_header(version)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = ConnectProperties::decode(&mut reader, version)?;
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("authentication data without an authentication method"));
        }
        let client_id = reader.string()?;
        let will = if flags & WILL != 0 { Some(Will::decode(&mut reader, flags, version)?) } else { None };
        // In 3.1 the remaining length takes precedence over the two flags.
        let may_lack = version == ProtocolVersion::V31;
        let has = |flag, reader: &Reader<'_>| flags & flag != 0 && !(may_lack && reader.is_empty());
        let user_name = if has(USER_NAME, &reader) { Some(reader.string()?) } else { None };
        let password = if has(PASSWORD, &reader) { Some(reader.binary()?) } else { None };
        reader.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self { version, clean_start, keep_alive, client_id, will, user_name, password, properties })
    }

    /// The protocol level in a CONNECT that could not be decoded, as far as it has one: a server chooses by it
    /// the version in which it answers.
    pub fn declared_level(frame: Frame<'_>) -> Option<u8> {
        let mut reader = frame.reader();
        let name = reader.binary().ok()?;
        if name == b"MQTT" || name == b"MQIsdp" { reader.u8().ok() } else { None }
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::packet(out, PacketType::Connect, 0, self.remaining_length(), |out| {
            let (name, level) = match self.version {
                ProtocolVersion::V31 => ("MQIsdp", 3),
                ProtocolVersion::V311 => ("MQTT", 4),
                ProtocolVersion::V5 => ("MQTT", 5),
            };
            writer::field(out, name.as_bytes());
            out.push(level);
            out.push(self.flags());
            writer::u16(out, self.keep_alive);
            self.properties.write(self.version, out);
            writer::field(out, self.client_id.as_bytes());
            if let Some(will) = &self.will {
                will.properties.write(self.version, out);
                writer::field(out, will.topic.as_str().as_bytes());
                writer::field(out, will.payload);
            }
            if let Some(user_name) = self.user_name {
                writer::field(out, user_name.as_bytes());
            }
            if let Some(password) = self.password {
                writer::field(out, password);
            }
        })
    }

    pub(super) fn remaining_length(&self) -> Result<usize, EncodeError> {
        if self.password.is_some() && self.user_name.is_none() && self.version != ProtocolVersion::V5 {
            return Err(EncodeError::PasswordWithoutUserName);
        }
        let properties = &self.properties;
        let lacks_method = properties.authentication_method.is_none();
        if properties.authentication_data.is_some() && lacks_method && self.version.has_properties() {
            return Err(EncodeError::NoAuthenticationMethod);
        }
        let name = if self.version == ProtocolVersion::V31 { 8 } else { 6 };
        let mut size = name + 4 + self.properties.size(self.version)?;
        size += writer::string_size(self.client_id)?;
        if let Some(will) = &self.will {
            size += will.properties.size(self.version)?;
            size += writer::field_size(will.topic.as_str().len())? + writer::field_size(will.payload.len())?;
        }
        size += self.user_name.map_or(Ok(0), writer::string_size)?;
        size += self.password.map_or(Ok(0), |password| writer::field_size(password.len()))?;
        Ok(size)
    }

    fn flags(&self) -> u8 {
        let will = match &self.will {
            Some(will) => WILL | will.qos.bits() << 3 | if will.retain { WILL_RETAIN } else { 0 },
            None => 0,
        };
        let flag = |set, flag| if set { flag } else { 0 };
        will | flag(self.user_name.is_some(), USER_NAME)
            | flag(self.password.is_some(), PASSWORD)
            | flag(self.clean_start, CLEAN_START)
    }
}

/// The protocol's name and level `[MQTT-3.1.2-1]`, `[MQTT-3.1.2-2]`.
fn read_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    const UNSUPPORTED: ReasonCode = ReasonCode::UnsupportedProtocolVersion;
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::new(UNSUPPORTED, "the protocol's name is neither MQTT nor MQIsdp"));
    }
    match (name, reader.u8()?) {
        (b"MQIsdp", 3) => Ok(ProtocolVersion::V31),
        (b"MQTT", 4) => Ok(ProtocolVersion::V311),
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        _ => Err(DecodeError::new(UNSUPPORTED, "a protocol level other than 3.1, 3.1.1 and 5.0")),
    }
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 && version != ProtocolVersion::V31 {
        return Err(DecodeError::malformed("the reserved connect flag is set")); // [MQTT-3.1.2-3]
    }
    if flags & WILL == 0 && flags & (WILL_RETAIN | 0b11 << 3) != 0 && version != ProtocolVersion::V31 {
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]. In 3.1 the bits are disregarded.
        return Err(DecodeError::malformed("a will's QoS or retain flag without a will"));
    }
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 && version != ProtocolVersion::V5 {
        return Err(DecodeError::malformed("a password without a user name")); // [MQTT-3.1.2-22] of 3.1.1
    }
    Ok(())
}

impl<'a> Will<'a> {
    /// A will at QoS 0, not retained.
    pub fn new(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Self { topic, payload, qos: QoS::AtMostOnce, retain: false, properties: WillProperties::default() }
    }

    fn decode(reader: &mut Reader<'a>, flags: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let qos = QoS::from_bits(flags >> 3 & 0b11); // [MQTT-3.1.2-12]
        let qos = qos.ok_or(DecodeError::malformed("QoS 3 does not exist"))?;
        let properties = WillProperties::decode(reader, version)?;
        let topic = TopicName::new(reader.string_with_null()?)?;
        let payload = reader.binary()?;
        Ok(Self { topic, payload, qos, retain: flags & WILL_RETAIN != 0, properties })
    }
}
