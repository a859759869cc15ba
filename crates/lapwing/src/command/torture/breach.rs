//! In which ways a broker can break its word, and how often it has.

/// A way of breaking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Breach {
    LostOnline,
    LostOffline,
    LostFlapping,
    Twice,
    Reordered,
    OtherQoS,
    Altered,
    SessionLost,
    ProbeSessionLost,
    ProbeSubscriptionLost,
    RetainedLost,
    RetainedOld,
    RetainedBack,
    Died,
    NotBack,
}

impl Breach {
    pub(super) const ALL: [Self; 15] = [
        Self::LostOnline,
        Self::LostOffline,
        Self::LostFlapping,
        Self::Twice,
        Self::Reordered,
        Self::OtherQoS,
        Self::Altered,
        Self::SessionLost,
        Self::ProbeSessionLost,
        Self::ProbeSubscriptionLost,
        Self::RetainedLost,
        Self::RetainedOld,
        Self::RetainedBack,
        Self::Died,
        Self::NotBack,
    ];

    /// Its name in JSON.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::LostOnline => "lost_online",
            Self::LostOffline => "lost_offline",
            Self::LostFlapping => "lost_flapping",
            Self::Twice => "qos2_twice",
            Self::Reordered => "reordered",
            Self::OtherQoS => "other_qos",
            Self::Altered => "altered",
            Self::SessionLost => "sessions_lost",
            Self::ProbeSessionLost => "probe_sessions_lost",
            Self::ProbeSubscriptionLost => "probe_subscriptions_lost",
            Self::RetainedLost => "retained_lost",
            Self::RetainedOld => "retained_old",
            Self::RetainedBack => "retained_back",
            Self::Died => "died",
            Self::NotBack => "not_back",
        }
    }

    /// What a person reads in the table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::LostOnline => "acknowledged but lost: online subscriber",
            Self::LostOffline => "acknowledged but lost: offline subscriber",
            Self::LostFlapping => "acknowledged but lost: flapping subscribers",
            Self::Twice => "delivered twice at QoS 2",
            Self::Reordered => "delivered out of order",
            Self::OtherQoS => "delivered at another QoS",
            Self::Altered => "altered, or never published",
            Self::SessionLost => "sessions lost",
            Self::ProbeSessionLost => "sessions lost: made just before the end",
            Self::ProbeSubscriptionLost => "subscriptions lost: made just before the end",
            Self::RetainedLost => "retained message lost",
            Self::RetainedOld => "retained message older than acknowledged",
            Self::RetainedBack => "retained message back after its deletion",
            Self::Died => "broker ended by itself",
            Self::NotBack => "broker did not come back",
        }
    }
}

/// Examples that are kept of each.
const EXAMPLES: usize = 5;

/// How often each has happened, and the first of them in words.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaches {
    entries: [Entry; Breach::ALL.len()],
}

#[derive(Debug, Clone, Default)]
struct Entry {
    count: u64,
    examples: Vec<String>,
}

impl Breaches {
    pub(super) fn add(&mut self, breach: Breach, example: impl FnOnce() -> String) {
        let entry = &mut self.entries[breach as usize];
        entry.count += 1;
        if entry.examples.len() < EXAMPLES {
            entry.examples.push(example());
        }
    }

    pub(super) fn count(&self, breach: Breach) -> u64 {
        self.entries[breach as usize].count
    }

    pub(super) fn examples(&self, breach: Breach) -> &[String] {
        &self.entries[breach as usize].examples
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_breach_has_its_own_place_and_the_first_examples() {
        let mut breaches = Breaches::default();
        assert!(breaches.is_empty());
        for (index, breach) in Breach::ALL.into_iter().enumerate() {
            for count in 0..=index {
                breaches.add(breach, || format!("{count}"));
            }
        }
        for (index, breach) in Breach::ALL.into_iter().enumerate() {
            assert_eq!(breaches.count(breach), index as u64 + 1, "{breach:?}");
            assert_eq!(breaches.examples(breach).len(), (index + 1).min(EXAMPLES));
            assert_eq!(breaches.examples(breach)[0], "0");
        }
    }
}
