//! Will Messages: kept from CONNECT on, published when a connection ends without a proper DISCONNECT.

use std::time::Duration;

use super::deliver::Source;
use super::session::Will;
use super::timer::Timer;
use super::{SessionId, Shard};
use crate::excerpt::excerpt;

impl Shard {
    /// The connection of a session has ended in a way that calls for the will. It is published after its
    /// delay, or with the end of the session if that comes first `[MQTT-3.1.3-9]`.
    pub(super) fn schedule_will(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else { return };
        let expiry_s = session.expiry_interval_s;
        let Some(will) = &mut session.will else { return };
        let delay_s = will.delay_s.min(expiry_s);
        if delay_s == 0 {
            return self.publish_will(id);
        }
        let due = now + Duration::from_secs(delay_s.into());
        will.due = Some(due);
        self.set_timer(due, Timer::Will(id));
    }

    /// A will's timer has fired.
    pub(super) fn check_will(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else { return };
        let is_due = session.will.as_ref().and_then(|will| will.due).is_some_and(|due| due <= now);
        if is_due {
            self.publish_will(id);
        }
    }

    /// Publishes a session's will, if there is one and its client may.
    pub(super) fn publish_will(&mut self, id: SessionId) {
        let Some(will) = self.session_mut(id).and_then(|session| session.will.take()) else { return };
        // Together with the message, so that it is not published twice.
        self.record_session(id);
        let Will { message, retain, client, .. } = *will;
        let mut publish = message.publish(self.now);
        publish.qos = message.qos();
        publish.retain = retain;
        let Some(name) = publish.topic else { return };
        // By the rules as they are now.
        let permit = self.shared.hooks.authorizer.permit(&client);
        match self.admit(&client, &*permit, name, &publish) {
            Ok(admitted) => {
                let source = Source { is_kept: true, ..Source::default() };
                self.pass_on(&publish, &admitted, source, id, false);
            }
            Err(withheld) => {
                self.withhold(withheld, &excerpt(&client.client_id), name);
            }
        }
    }
}
