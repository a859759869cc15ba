use super::ack::read_reason_code;
use super::property::properties;
use super::writer;
use super::{DecodeError, EncodeError, Frame, PacketType, ProtocolVersion, ReasonCode, UserProperty};

/// AUTH: a step of an extended authentication, 5.0 only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue authentication, or re-authenticate.
    pub reason_code: ReasonCode,
    /// Properties.
    pub properties: AuthProperties<'a>,
}

properties! {
    /// The properties of an AUTH.
    AuthProperties {
        /// The same in every step.
        authentication_method: &'a str = AuthenticationMethod,
        /// What the method needs.
        authentication_data: &'a [u8] = AuthenticationData,
        /// For people.
        reason_string: &'a str = ReasonString,
        ;
        /// For whatever the two ends agree on.
        user_properties: UserProperty<'a> = UserProperty,
    }
}

impl<'a> Auth<'a> {
    /// An AUTH with a method and data.
    pub fn new(reason_code: ReasonCode, method: &'a str, data: &'a [u8]) -> Self {
        let properties = AuthProperties {
            authentication_method: Some(method),
            authentication_data: Some(data),
            ..AuthProperties::default()
        };
        Self { reason_code, properties }
    }

    /// Decodes the packet in `frame`.
    pub fn decode(frame: Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        if !version.has_properties() {
            return Err(DecodeError::malformed("packet type 15 is reserved before 5.0"));
        }
        frame.check_header(version)?; // [MQTT-3.15.1-1]
        let mut reader = frame.reader();
        if reader.is_empty() {
            return Ok(Self { reason_code: ReasonCode::Success, properties: AuthProperties::default() });
        }
        let reason_code = read_reason_code(&mut reader, PacketType::Auth)?;
        let properties = AuthProperties::decode(&mut reader, version)?;
        reader.finish()?;
        let auth = Self { reason_code, properties };
        if auth.lacks_method() {
            return Err(DecodeError::protocol("AUTH without an authentication method"));
        }
        Ok(auth)
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining_length(version);
        writer::packet(out, PacketType::Auth, 0, remaining, |out| {
            if remaining.is_ok_and(|length| length > 0) {
                out.push(self.reason_code.value());
                self.properties.write(version, out);
            }
        })
    }

    /// The specification wants the method in every AUTH, but also lets a success without properties be
    /// empty. So the method is missing only where something else is there.
    fn lacks_method(&self) -> bool {
        self.properties.authentication_method.is_none()
            && (self.reason_code != ReasonCode::Success || self.properties != AuthProperties::default())
    }

    pub(super) fn remaining_length(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if !version.has_properties() {
            return Err(EncodeError::NotInVersion(PacketType::Auth, version));
        }
        if self.lacks_method() {
            return Err(EncodeError::NoAuthenticationMethod);
        }
        Ok(match self.properties.size(version)? {
            1 if self.reason_code == ReasonCode::Success => 0,
            properties => 1 + properties,
        })
    }
}
