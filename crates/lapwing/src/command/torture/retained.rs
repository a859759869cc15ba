//! The judge of retained messages.

use super::breach::Breach;

/// The topics that have retained messages set, replaced and deleted. On each of them one change is under way at a time,
/// so that what the broker should have is known up to that one.
#[derive(Debug)]
pub(super) struct RetainedTopics {
    topics: Vec<Topic>,
    checks: u64,
}

#[derive(Debug, Clone, Default)]
struct Topic {
    /// Whether each change is one to a message; otherwise it is a deletion. Versions count them from 1.
    changes: Vec<bool>,
    /// The last version that was acknowledged; 0 for none.
    acknowledged: usize,
    /// A wrong state that was told of already: it is told of once.
    excused: Option<State>,
}

/// What a topic has: the version of its message, or `None` without one.
pub(super) type State = Option<usize>;

impl RetainedTopics {
    pub(super) fn new(count: usize) -> Self {
        Self { topics: vec![Topic::default(); count], checks: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no change of `topic` waits for its acknowledgement.
    pub(super) fn is_settled(&self, topic: usize) -> bool {
        self.topics[topic].acknowledged == self.topics[topic].changes.len()
    }

    /// The topic is about to be given a message, or to lose it; the version of the change.
    pub(super) fn change(&mut self, topic: usize, is_message: bool) -> usize {
        let changes = &mut self.topics[topic].changes;
        changes.push(is_message);
        changes.len()
    }

    pub(super) fn acknowledge(&mut self, topic: usize, version: usize) {
        let topic = &mut self.topics[topic];
        topic.acknowledged = topic.acknowledged.max(version);
        topic.excused = None;
    }

    /// Whether a topic must have a message, whatever has come of the change under way.
    pub(super) fn is_due(&self, topic: usize) -> bool {
        let topic = &self.topics[topic];
        topic.excused.is_none() && topic.possible().all(|version| topic.has_message(version))
    }

    /// Judges what a new subscriber has got for `topic`.
    pub(super) fn check(&mut self, topic: usize, state: State) -> Option<(Breach, String)> {
        let number = topic;
        let topic = &mut self.topics[topic];
        self.checks += u64::from(topic.acknowledged > 0);
        let breach = topic.judge(state).filter(|_| topic.excused != Some(state))?;
        topic.excused = Some(state);
        let expected = topic.acknowledged;
        let what = if topic.has_message(expected) { "message" } else { "deletion" };
        let found = state.map_or("nothing".to_owned(), |version| format!("version {version}"));
        let example = format!(
            "retained topic {number} has {found}; acknowledged last was version {expected}, a {what}"
        );
        Some((breach, example))
    }

    /// How many topics with something acknowledged were looked at.
    pub(super) fn checks(&self) -> u64 {
        self.checks
    }
}

impl Topic {
    fn possible(&self) -> std::ops::RangeInclusive<usize> {
        self.acknowledged..=self.changes.len()
    }

    fn has_message(&self, version: usize) -> bool {
        version > 0 && self.changes.get(version - 1).is_some_and(|&is_message| is_message)
    }

    fn judge(&self, state: State) -> Option<Breach> {
        match state {
            None if self.possible().any(|version| !self.has_message(version)) => None,
            None => Some(Breach::RetainedLost),
            Some(version) if !self.has_message(version) => Some(Breach::Altered),
            Some(version) if self.possible().contains(&version) => None,
            Some(_) if self.has_message(self.acknowledged) => Some(Breach::RetainedOld),
            Some(_) => Some(Breach::RetainedBack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A topic with these changes (a message, or its deletion), of which so many are acknowledged.
    fn topic(changes: &[bool], acknowledged: usize) -> RetainedTopics {
        let mut topics = RetainedTopics::new(1);
        for &change in changes {
            topics.change(0, change);
        }
        if acknowledged > 0 {
            topics.acknowledge(0, acknowledged);
        }
        topics
    }

    fn breach(changes: &[bool], acknowledged: usize, state: State) -> Option<Breach> {
        topic(changes, acknowledged).check(0, state).map(|(breach, _)| breach)
    }

    #[test]
    fn what_was_acknowledged_last_or_is_under_way_is_right() {
        for (changes, acknowledged, states) in [
            (&[][..], 0, &[None][..]),
            (&[true], 0, &[None, Some(1)]),
            (&[true], 1, &[Some(1)]),
            (&[true, true], 1, &[Some(1), Some(2)]),
            (&[true, false], 1, &[Some(1), None]),
            (&[true, false], 2, &[None]),
            (&[true, false, true], 2, &[None, Some(3)]),
        ] {
            for &state in states {
                assert_eq!(
                    breach(changes, acknowledged, state),
                    None,
                    "{changes:?} {acknowledged} {state:?}"
                );
            }
        }
    }

    #[test]
    fn lost_old_and_back_are_told_apart() {
        assert_eq!(breach(&[true], 1, None), Some(Breach::RetainedLost));
        assert_eq!(breach(&[true, true], 2, None), Some(Breach::RetainedLost));
        assert_eq!(breach(&[true, true], 2, Some(1)), Some(Breach::RetainedOld));
        assert_eq!(breach(&[true, true, false], 2, Some(1)), Some(Breach::RetainedOld));
        assert_eq!(breach(&[true, false], 2, Some(1)), Some(Breach::RetainedBack));
        assert_eq!(breach(&[true, false, true], 2, Some(1)), Some(Breach::RetainedBack));
        assert_eq!(breach(&[true], 1, Some(7)), Some(Breach::Altered));
    }

    #[test]
    fn a_wrong_state_is_told_once() {
        let mut topics = topic(&[true], 1);
        assert!(topics.is_due(0));
        let (_, example) = topics.check(0, None).unwrap();
        assert_eq!(example, "retained topic 0 has nothing; acknowledged last was version 1, a message");
        assert!(!topics.is_due(0));
        assert_eq!(topics.check(0, None), None);
        topics.change(0, true);
        assert!(!topics.is_settled(0));
        topics.acknowledge(0, 2);
        assert!(topics.is_settled(0) && topics.is_due(0));
        assert!(topics.check(0, None).is_some());
        assert_eq!(topics.checks(), 3);
    }
}
