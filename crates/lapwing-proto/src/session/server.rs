use super::{Inbound, Link, Outbound, Receipt, SessionError};
use crate::packet::{Ack, PacketId, Publish, QoS, ReasonCode};
use crate::topic::TopicName;

/// A server's side of a session: the flows of messages both ways.
///
/// What else belongs to a session (subscriptions, queued messages, the will) depends on how a server is
/// built, and is kept there.
#[derive(Debug, Clone)]
pub struct ServerSession<M> {
    /// Messages from the client.
    pub inbound: Inbound,
    /// Messages to the client.
    pub outbound: Outbound<M>,
}

impl<M> Default for ServerSession<M> {
    fn default() -> Self {
        Self { inbound: Inbound::default(), outbound: Outbound::default() }
    }
}

impl<M> ServerSession<M> {
    /// The session goes on, or begins, on a new connection. What is in flight is then to be sent again, see
    /// [`Outbound::resend`].
    pub fn begin(&mut self, link: &Link) {
        self.inbound.begin(link.own.receive_maximum);
        self.outbound.begin(link.peer.receive_maximum);
    }

    /// A PUBLISH has arrived: gives its topic name, with any alias resolved, and whether it is new.
    pub fn receive_publish<'a>(
        &mut self,
        link: &'a mut Link,
        publish: &Publish<'a>,
    ) -> Result<(TopicName<'a>, Receipt), SessionError> {
        let topic = link.inbound_aliases.resolve(publish.topic, publish.properties.topic_alias)?;
        let receipt = match publish.packet_id {
            Some(packet_id) if publish.qos > QoS::AtMostOnce => {
                self.inbound.receive(publish.qos, packet_id)?
            }
            _ => Receipt::New,
        };
        Ok((topic, receipt))
    }

    /// The PUBACK or PUBREC for a PUBLISH, with `reason_code` as its result, is about to be sent.
    pub fn acknowledge(&mut self, qos: QoS, packet_id: PacketId, reason_code: ReasonCode) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.inbound.acknowledged(),
            QoS::ExactlyOnce if reason_code.is_error() => self.inbound.refused(packet_id),
            QoS::ExactlyOnce => {} // open until the PUBREL
        }
    }

    /// A PUBREL has arrived: gives the PUBCOMP that answers it.
    pub fn receive_pubrel(&mut self, packet_id: PacketId) -> Ack<'static> {
        let known = self.inbound.completed(packet_id);
        let reason_code = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        Ack::new(packet_id, reason_code)
    }

    /// A PUBREC has arrived: gives the message, which the client now has or has refused, and the PUBREL that
    /// answers it, if one does.
    #[inline(always)]
    pub fn receive_pubrec(
        &mut self,
        ack: &Ack<'_>,
    ) -> Result<(Option<M>, Option<Ack<'static>>), SessionError> {
        let accepted = !ack.reason_code.is_error();
        let message = self.outbound.pubrec(ack.packet_id, accepted)?;
        let known = message.is_some() || self.outbound.awaits_pubcomp(ack.packet_id);
        let answer = match (accepted, known) {
            (true, true) => Some(ReasonCode::Success),
            (true, false) => Some(ReasonCode::PacketIdentifierNotFound),
            (false, _) => None,
        };
        Ok((message, answer.map(|reason_code| Ack::new(ack.packet_id, reason_code))))
    }

    /// A PUBACK has arrived: gives the message that waited for it, if one did.
    #[inline]
    pub fn receive_puback(&mut self, packet_id: PacketId) -> Result<Option<M>, SessionError> {
        self.outbound.puback(packet_id)
    }

    /// A PUBCOMP has arrived: whether a message waited for it.
    #[inline(always)]
    pub fn receive_pubcomp(&mut self, packet_id: PacketId) -> Result<bool, SessionError> {
        self.outbound.pubcomp(packet_id)
    }
}
