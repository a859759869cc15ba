//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use lapwing_proto::packet::{
    Packet, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, Subscription,
    SubscriptionIdentifier, SubscriptionOptions, Unsubscribe,
};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf};
use lapwing_store::{Change, FILTER_MAXIMUM, SubscriptionRecord};

use super::permission::is_checked;
use super::retained::{Found, Replay};
use super::{ConnectionId, SessionId, Shard};
use crate::excerpt::excerpt;
use crate::explanation::Happening;
use crate::hook::Event;
use crate::limit::Limits;
use crate::rule::AppliesTo;
use crate::shared::{Added, EXCLUSIVE, Subscribed, Target, pattern};

/// A subscription that is to be added.
struct Wanted {
    filter: TopicFilterBuf,
    subscribed: Subscribed,
}

/// A subscription that has been added.
struct NewSubscription {
    filter: TopicFilterBuf,
    options: SubscriptionOptions,
    /// If it is to get what is retained.
    replay: Option<(Replay, Option<Found>)>,
}

impl Shard {
    pub(super) fn handle_subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe<'_>) {
        let Some((session, version)) = self.open_mut(id).map(|open| (open.session, open.link.version)) else {
            return;
        };
        if self.has_too_many(id, subscribe.subscriptions.iter()) {
            return;
        }
        if self.has_too_many_properties(subscribe.properties.user_properties.iter()) {
            return self.fault(id, ReasonCode::QuotaExceeded, &"a SUBSCRIBE with too many user properties");
        }
        if version == ProtocolVersion::V5 && self.is_beyond_capability(id, subscribe) {
            return;
        }
        let identifier = subscribe.properties.subscription_identifier;
        let qos_maximum = self.limits.qos();
        let subscriptions = subscribe.subscriptions.iter();
        let wanted =
            subscriptions.map(|subscription| self.permit(id, &subscription, identifier)).collect::<Vec<_>>();
        let added = self.add_subscriptions(session, wanted, true);
        let answer = |(subscription, added): (Subscription<'_>, &Result<_, _>)| match *added {
            // 3.1 has no answer that says no.
            Err(reason_code) if version != ProtocolVersion::V31 => reason_code,
            _ => granted(subscription.options.qos.min(qos_maximum)),
        };
        let reason_codes: Vec<_> = subscribe.subscriptions.iter().zip(&added).map(answer).collect();
        for added in added.iter().flatten() {
            let (filter, options) = (added.filter.as_filter(), added.options);
            self.observe(id, |client| Event::Subscribed { client, filter, options });
        }
        if session.is_stored() {
            self.close_gate(id);
        }
        self.send(id, &Packet::SubAck(SubAck::new(subscribe.packet_id, &reason_codes)));
        self.replay_all(id, added);
    }

    /// Whether a packet has more filters than are allowed; then its connection is ended.
    fn has_too_many<T>(&mut self, id: ConnectionId, mut filters: impl Iterator<Item = T>) -> bool {
        let maximum = self.limits.packet_filters_maximum;
        let has_too_many = filters.nth(maximum).is_some();
        if has_too_many {
            let fault = format!("more than {maximum} filters in one packet");
            self.fault(id, ReasonCode::QuotaExceeded, &fault);
        }
        has_too_many
    }

    /// Whether a SUBSCRIBE uses what CONNACK said is not available; then its connection is ended. Clients
    /// before 5.0 could not know: each of their subscriptions is judged by itself.
    fn is_beyond_capability(&mut self, id: ConnectionId, subscribe: &Subscribe<'_>) -> bool {
        let has_identifier = subscribe.properties.subscription_identifier.is_some();
        let mut subscriptions = subscribe.subscriptions.iter();
        let found = subscriptions.find_map(|one| self.unavailable(one.filter, has_identifier));
        if let Some(reason_code) = found {
            self.fault(id, reason_code, &"a SUBSCRIBE that uses what CONNACK said is not available");
        }
        found.is_some()
    }

    /// What a subscription is refused with that uses what is not available.
    fn unavailable(&self, filter: TopicFilter<'_>, has_identifier: bool) -> Option<ReasonCode> {
        let limits = &self.limits;
        if has_identifier && !limits.subscription_identifier_available {
            Some(ReasonCode::SubscriptionIdentifiersNotSupported)
        } else if !limits.wildcard_subscription_available && filter.has_wildcard() {
            Some(ReasonCode::WildcardSubscriptionsNotSupported)
        } else if !limits.shared_subscription_available && filter.share_name().is_some() {
            Some(ReasonCode::SharedSubscriptionsNotSupported)
        } else {
            None
        }
    }

    /// A subscription that a client asks for, as the rules make it, if the client may have it.
    fn permit(
        &mut self,
        id: ConnectionId,
        subscription: &Subscription<'_>,
        identifier: Option<SubscriptionIdentifier>,
    ) -> Result<Wanted, ReasonCode> {
        let Subscription { filter, options } = *subscription;
        let rewritten = self.rewrite_filter(filter)?;
        let filter = rewritten.as_ref().map_or(filter, TopicFilterBuf::as_filter);
        if let Some(reason_code) = self.unavailable(filter, identifier.is_some()) {
            return Err(reason_code);
        }
        let pattern = pattern(filter);
        if !self.is_allowed_depth(pattern.pattern()) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let open = self.connection(id).and_then(|connection| connection.open());
        let Some(is_checked) = open.and_then(|open| is_checked(&*open.permit, pattern)) else {
            let rule = open.and_then(|open| open.permit.may_subscribe(pattern).rule());
            let denied = Happening::SubscribeDenied { filter: excerpt(filter.as_str()).into_owned(), rule };
            let client_id = self.client_id(id);
            self.note(&client_id, denied);
            if let Some(suppressed) = self.faults.allow(self.now) {
                tracing::warn!(
                    client_id,
                    filter = &*excerpt(filter.as_str()),
                    suppressed,
                    "not authorized to subscribe"
                );
            }
            return Err(ReasonCode::NotAuthorized);
        };
        Ok(Wanted { filter: filter.to_buf(), subscribed: Subscribed { options, identifier, is_checked } })
    }

    /// Adds or replaces subscriptions `[MQTT-3.8.4-3]`, whoever asks for them, and finds what is retained for them.
    ///
    /// That is one step for those who publish with RETAIN, on whatever shard: what was retained before it is found,
    /// and what is retained behind it comes by the subscription. What other shards sent before is delivered first. So
    /// a retained message comes to the new subscription behind what is older, and before what is newer.
    fn add_subscriptions(
        &mut self,
        session_id: SessionId,
        wanted: Vec<Result<Wanted, ReasonCode>>,
        is_limited: bool,
    ) -> Vec<Result<NewSubscription, ReasonCode>> {
        let shared = Arc::clone(&self.shared);
        let retained = shared.retained.lock();
        self.collect_mail();
        let add = |wanted: Result<Wanted, ReasonCode>| {
            let Wanted { filter, subscribed } = wanted?;
            let replay = self.add_subscription(session_id, &filter, subscribed, is_limited)?;
            let replay = replay.map(|replay| {
                let found = self.find_first(&retained, &filter, &replay);
                (replay, found)
            });
            Ok(NewSubscription { filter, options: subscribed.options, replay })
        };
        let added = wanted.into_iter().map(add).collect();
        drop(retained);
        self.catch_up();
        added
    }

    /// Adds or replaces one subscription; gives the replay of retained messages that it asks for.
    fn add_subscription(
        &mut self,
        session_id: SessionId,
        filter: &TopicFilterBuf,
        mut subscribed: Subscribed,
        is_limited: bool,
    ) -> Result<Option<Replay>, ReasonCode> {
        let Limits { subscriptions_maximum, subscription_bytes_maximum, .. } = *self.limits;
        let session = self.session_mut(session_id).ok_or(ReasonCode::UnspecifiedError)?;
        let is_full = session.filters.len() >= subscriptions_maximum
            || session.filter_bytes + size(filter.as_filter()) > subscription_bytes_maximum;
        if is_limited && is_full && !session.filters.contains(filter) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let name = filter.as_filter();
        subscribed.options.qos = subscribed.options.qos.min(self.limits.qos());
        if session_id.is_stored() && (self.ledger.is_full() || name.as_str().len() > FILTER_MAXIMUM) {
            return Err(ReasonCode::QuotaExceeded);
        }
        if subscribed.is_checked {
            self.begin_checking(session_id);
        }
        let added = self.shared.subscriptions.subscribe(session_id, name, subscribed);
        if added == Added::Occupied {
            return Err(ReasonCode::QuotaExceeded);
        }
        self.record_subscription(session_id, name, &subscribed);
        let session = self.session_mut(session_id).ok_or(ReasonCode::UnspecifiedError)?;
        if session.filters.insert(filter.clone()) {
            session.filter_bytes += size(name);
            session.memberships += u32::from(name.share_name().is_some());
        }
        let is_wanted = match subscribed.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => added == Added::New,
            RetainHandling::DoNotSend => false,
        };
        // A shared subscription gets no retained messages upon subscribing.
        let is_wanted = is_wanted && name.share_name().is_none();
        let target = Target::new(session_id, &subscribed);
        Ok(is_wanted.then_some(Replay { target, after: None }))
    }

    /// Begins to send new subscriptions what is retained.
    fn replay_all(&mut self, id: ConnectionId, added: Vec<Result<NewSubscription, ReasonCode>>) {
        for NewSubscription { filter, replay, .. } in added.into_iter().flatten() {
            if let Some((replay, found)) = replay {
                self.replay(id, filter, replay, found);
            }
        }
    }

    fn record_subscription(&mut self, id: SessionId, filter: TopicFilter<'_>, subscribed: &Subscribed) {
        if let Some(number) = self.session_mut(id).and_then(|session| session.number()) {
            let record = SubscriptionRecord {
                options: subscribed.options.to_byte(),
                identifier: subscribed.identifier.map(SubscriptionIdentifier::get),
            };
            self.ledger.record(Change::Subscribed(number, filter.as_str().into(), record));
            // What is retained for it may go to the store before SUBACK is there to wait for this.
            self.await_recorded();
        }
    }

    /// Gives a client the subscriptions that it has without asking for them.
    pub(super) fn give_subscriptions(&mut self, id: ConnectionId) {
        let Some(open) = self.connection(id).and_then(|connection| connection.open()) else { return };
        let session_id = open.session;
        let own = open.client.identity.subscriptions.iter().cloned();
        let given: Vec<_> = own.chain(self.shared.rules.auto_subscribe(&open.client)).collect();
        let mut wanted = Vec::new();
        for (filter, options) in given {
            let subscribed = Subscribed::new(options, None);
            let is_given = wanted.iter().flatten().any(|wanted: &Wanted| wanted.filter == filter);
            let session = self.session_mut(session_id);
            if !is_given && !session.is_some_and(|session| session.filters.contains(&filter)) {
                wanted.push(Ok(Wanted { filter, subscribed }));
                continue;
            }
            // From before, or as the client wants it: the subscription stays as it is.
            let is_wanted = options.retain_handling == RetainHandling::Send;
            if is_wanted && filter.as_filter().share_name().is_none() {
                let replay = Replay { target: Target::new(session_id, &subscribed), after: None };
                self.replay(id, filter, replay, None);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let added = self.add_subscriptions(session_id, wanted, false);
        for added in added.iter().flatten() {
            let (filter, options) = (added.filter.as_filter(), added.options);
            self.observe(id, |client| Event::Subscribed { client, filter, options });
        }
        self.replay_all(id, added);
    }

    /// What a filter becomes by the rules, which look at what is behind `$share/NAME/` and `$exclusive/`; `None`
    /// if it stays as it is. A rule may make what is no filter.
    fn rewrite_filter(&self, filter: TopicFilter<'_>) -> Result<Option<TopicFilterBuf>, ReasonCode> {
        let pattern = filter.pattern();
        let pattern = pattern.strip_prefix(EXCLUSIVE).unwrap_or(pattern);
        let prefix = &filter.as_str()[..filter.as_str().len() - pattern.len()];
        let rewritten = self.shared.rules.rewrite(pattern, AppliesTo::Subscribe);
        let rewritten = rewritten.map(|pattern| format!("{prefix}{pattern}"));
        rewritten.map(TopicFilterBuf::new).transpose().map_err(|_| ReasonCode::TopicFilterInvalid)
    }

    pub(super) fn handle_unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe<'_>) {
        let Some(session) = self.open_mut(id).map(|open| open.session) else { return };
        if self.has_too_many(id, unsubscribe.filters.iter()) {
            return;
        }
        if self.has_too_many_properties(unsubscribe.properties.user_properties.iter()) {
            return self.fault(
                id,
                ReasonCode::QuotaExceeded,
                &"an UNSUBSCRIBE with too many user properties",
            );
        }
        let reason_codes: Vec<_> =
            unsubscribe.filters.iter().map(|filter| self.unsubscribe(id, session, filter)).collect();
        if session.is_stored() {
            self.close_gate(id);
        }
        self.send(id, &Packet::UnsubAck(SubAck::new(unsubscribe.packet_id, &reason_codes)));
    }

    fn unsubscribe(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        filter: TopicFilter<'_>,
    ) -> ReasonCode {
        let Ok(rewritten) = self.rewrite_filter(filter) else { return ReasonCode::TopicFilterInvalid };
        let filter = rewritten.as_ref().map_or(filter, TopicFilterBuf::as_filter);
        if self.remove_subscription(session_id, filter) {
            self.observe(id, |client| Event::Unsubscribed { client, filter });
            ReasonCode::Success
        } else {
            ReasonCode::NoSubscriptionExisted
        }
    }

    /// Removes a subscription; whether it existed.
    pub(super) fn remove_subscription(&mut self, session_id: SessionId, filter: TopicFilter<'_>) -> bool {
        let found = self.sessions.get_mut(session_id.index());
        let Some(session) = found.filter(|session| session.id == session_id) else { return false };
        let owned = filter.to_buf();
        if session.filters.remove(&owned) {
            session.filter_bytes -= size(filter);
            session.memberships -= u32::from(filter.share_name().is_some());
            if let Some(number) = session.number() {
                self.ledger.record(Change::Unsubscribed(number, filter.as_str().into()));
            }
        }
        session.replays.remove(&owned);
        self.shared.subscriptions.unsubscribe(session_id, filter)
    }
}

/// About how many bytes a subscription takes. Each level of a filter with a wildcard can be a node of a tree.
pub(super) fn size(filter: TopicFilter<'_>) -> usize {
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
