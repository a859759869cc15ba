//! SUBSCRIBE and UNSUBSCRIBE.

use lapwing_proto::packet::{
    Packet, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, Subscription,
    SubscriptionIdentifier, Unsubscribe,
};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf};

use super::retained::Replay;
use super::route::{Subscribed, Target};
use super::{ConnectionId, SessionId, Shard};
use crate::excerpt::excerpt;
use crate::limit::Limits;

impl Shard {
    pub(super) fn handle_subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe<'_>) {
        let Some((session, version)) = self.open_mut(id).map(|open| (open.session, open.link.version)) else {
            return;
        };
        if self.has_too_many(id, subscribe.subscriptions.iter()) {
            return;
        }
        let identifier = subscribe.properties.subscription_identifier;
        let mut reason_codes = Vec::new();
        let mut replays = Vec::new();
        for subscription in subscribe.subscriptions.iter() {
            reason_codes.push(match self.subscribe(id, session, &subscription, identifier) {
                // 3.1 has no answer that says no.
                Err(_) if version == ProtocolVersion::V31 => granted(subscription.options.qos),
                Err(reason_code) => reason_code,
                Ok(replay) => {
                    replays.extend(replay);
                    granted(subscription.options.qos)
                }
            });
        }
        self.send(id, &Packet::SubAck(SubAck::new(subscribe.packet_id, &reason_codes)));
        for (filter, replay) in replays {
            self.replay(id, filter, replay);
        }
        self.continue_replays();
    }

    /// Whether a packet has more filters than are allowed; then its connection is ended.
    fn has_too_many<T>(&mut self, id: ConnectionId, mut filters: impl Iterator<Item = T>) -> bool {
        let maximum = self.shared.limits.packet_filters_maximum;
        let has_too_many = filters.nth(maximum).is_some();
        if has_too_many {
            let fault = format!("more than {maximum} filters in one packet");
            self.fault(id, ReasonCode::QuotaExceeded, &fault);
        }
        has_too_many
    }

    /// Adds or replaces one subscription `[MQTT-3.8.4-3]`; gives the replay of retained messages that it
    /// asks for.
    fn subscribe(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        subscription: &Subscription<'_>,
        identifier: Option<SubscriptionIdentifier>,
    ) -> Result<Option<(TopicFilterBuf, Replay)>, ReasonCode> {
        let Subscription { filter, options } = *subscription;
        if !self.is_allowed_depth(filter.pattern()) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let client = self.connection(id).and_then(|connection| connection.open()).map(|open| &open.client);
        let is_allowed = client.is_some_and(|client| self.shared.authorizer.may_subscribe(client, filter));
        if !is_allowed {
            if let Some(suppressed) = self.faults.allow(self.now) {
                let client_id = self.client_id(id);
                tracing::warn!(
                    client_id,
                    filter = &*excerpt(filter.as_str()),
                    suppressed,
                    "not authorized to subscribe"
                );
            }
            return Err(ReasonCode::NotAuthorized);
        }
        let Limits { subscriptions_maximum, subscription_bytes_maximum, .. } = self.shared.limits;
        let session = self.session_mut(session_id).ok_or(ReasonCode::UnspecifiedError)?;
        if !session.filters.contains(&filter.to_buf()) {
            let bytes = session.filter_bytes + size(filter);
            if session.filters.len() >= subscriptions_maximum || bytes > subscription_bytes_maximum {
                return Err(ReasonCode::QuotaExceeded);
            }
            session.filters.insert(filter.to_buf());
            session.filter_bytes = bytes;
        }
        let subscribed = Subscribed { options, identifier };
        let existed = self.routes.subscribe(session_id, filter, subscribed);
        let is_wanted = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !existed,
            RetainHandling::DoNotSend => false,
        };
        // A shared subscription gets no retained messages upon subscribing.
        let is_wanted = is_wanted && filter.share_name().is_none();
        let target = Target::new(session_id, &subscribed);
        Ok(is_wanted.then(|| (filter.to_buf(), Replay { target, after: None })))
    }

    pub(super) fn handle_unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe<'_>) {
        let Some(session) = self.open_mut(id).map(|open| open.session) else { return };
        if self.has_too_many(id, unsubscribe.filters.iter()) {
            return;
        }
        let reason_codes: Vec<_> =
            unsubscribe.filters.iter().map(|filter| self.unsubscribe(session, filter)).collect();
        self.send(id, &Packet::UnsubAck(SubAck::new(unsubscribe.packet_id, &reason_codes)));
    }

    fn unsubscribe(&mut self, session_id: SessionId, filter: TopicFilter<'_>) -> ReasonCode {
        let Some(session) = self.session_mut(session_id) else { return ReasonCode::UnspecifiedError };
        let owned = filter.to_buf();
        if session.filters.remove(&owned) {
            session.filter_bytes -= size(filter);
        }
        session.replays.remove(&owned);
        if self.routes.unsubscribe(session_id, filter) {
            ReasonCode::Success
        } else {
            ReasonCode::NoSubscriptionExisted
        }
    }
}

/// About how many bytes a subscription takes. Each level of a filter with a wildcard can be a node of a tree.
fn size(filter: TopicFilter<'_>) -> usize {
    let levels = if filter.has_wildcard() { filter.levels().count() } else { 0 };
    200 + 3 * filter.as_str().len() + 60 * levels
}

fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
