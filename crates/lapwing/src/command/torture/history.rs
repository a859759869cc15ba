//! The judge of the load: who published what, what was acknowledged, and who got it.
//!
//! It knows nothing of packet identifiers. What counts are the sequence numbers in the payloads.

use lapwing_proto::packet::QoS;

use super::breach::{Breach, Breaches};
use super::payload::Stamp;

/// When a subscriber is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attendance {
    /// All the time.
    Online,
    /// At the beginning and at the end.
    Offline,
    /// Now and then.
    Flapping,
}

/// All that was published and delivered.
#[derive(Debug, Default)]
pub(super) struct History {
    run: u32,
    publishers: Vec<Published>,
    subscribers: Vec<Delivered>,
    published: u64,
    acknowledged: u64,
    refused: u64,
    deliveries: u64,
    first_deliveries: u64,
}

/// What a publisher has published, by sequence number.
#[derive(Debug, Default)]
struct Published {
    messages: Vec<Mark>,
    /// The first sequence number of each round.
    rounds: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    qos: QoS,
    is_acknowledged: bool,
    /// Sent again as a new message, since the broker had forgotten the session: the broker cannot know it.
    is_renewed: bool,
}

#[derive(Debug)]
struct Delivered {
    name: String,
    attendance: Attendance,
    /// Of each publisher.
    from: Vec<Arrivals>,
    /// Acknowledged messages that have arrived.
    acknowledged: u64,
}

#[derive(Debug, Clone, Default)]
struct Arrivals {
    /// How often each sequence number has arrived; no more than 255 are told apart.
    counts: Vec<u8>,
    /// The highest sequence number so far, at QoS 1 and at QoS 2.
    highest: [Option<u64>; 2],
}

impl History {
    pub(super) fn new(run: u32, publishers: usize) -> Self {
        let publishers = (0..publishers).map(|_| Published::default()).collect();
        Self { run, publishers, ..Self::default() }
    }

    /// A subscriber to everything; its index.
    pub(super) fn subscribe(&mut self, name: &str, attendance: Attendance) -> usize {
        let from = vec![Arrivals::default(); self.publishers.len()];
        self.subscribers.push(Delivered { name: name.to_owned(), attendance, from, acknowledged: 0 });
        self.subscribers.len() - 1
    }

    pub(super) fn begin_round(&mut self) {
        for publisher in &mut self.publishers {
            publisher.rounds.push(publisher.messages.len() as u64);
        }
    }

    /// A message is about to be sent.
    pub(super) fn publish(&mut self, publisher: usize, qos: QoS) -> Stamp {
        let messages = &mut self.publishers[publisher].messages;
        messages.push(Mark { qos, is_acknowledged: false, is_renewed: false });
        self.published += 1;
        Stamp { run: self.run, publisher, sequence: messages.len() as u64 - 1, qos }
    }

    /// The broker has taken it.
    pub(super) fn acknowledge(&mut self, publisher: usize, sequence: u64) {
        let at = sequence as usize;
        let Some(mark) = self.publishers[publisher].messages.get_mut(at) else { return };
        if std::mem::replace(&mut mark.is_acknowledged, true) {
            return;
        }
        self.acknowledged += 1;
        for subscriber in &mut self.subscribers {
            let has_it = subscriber.from[publisher].counts.get(at).is_some_and(|&count| count > 0);
            subscriber.acknowledged += u64::from(has_it);
        }
    }

    /// The broker has said that it does not take it.
    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// It is sent again, as a new message.
    pub(super) fn renew(&mut self, publisher: usize, sequence: u64) {
        if let Some(mark) = self.publishers[publisher].messages.get_mut(sequence as usize) {
            mark.is_renewed = true;
        }
    }

    /// `subscriber` has got a message that is new to it by the rules of packet identifiers.
    pub(super) fn deliver(
        &mut self,
        subscriber: usize,
        payload: &[u8],
        qos: QoS,
        publisher: Option<usize>,
        breaches: &mut Breaches,
    ) {
        self.deliveries += 1;
        let to = &mut self.subscribers[subscriber];
        let own = Stamp::read(payload)
            .filter(|stamp| stamp.run == self.run && Some(stamp.publisher) == publisher)
            .and_then(|stamp| {
                let published = self.publishers.get(stamp.publisher)?;
                let mark = *published.messages.get(stamp.sequence as usize)?;
                (mark.qos == stamp.qos).then_some((stamp, published, mark))
            });
        let Some((stamp, published, mark)) = own else {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(40)]);
            breaches.add(Breach::Altered, || format!("{}: {text:?} at QoS {}", to.name, qos as u8));
            return;
        };
        if qos != stamp.qos {
            breaches.add(Breach::OtherQoS, || {
                format!("{} got {} at QoS {}", to.name, published.describe(stamp), qos as u8)
            });
        }
        let from = &mut to.from[stamp.publisher];
        let at = stamp.sequence as usize;
        if from.counts.len() <= at {
            from.counts.resize(at + 1, 0);
        }
        from.counts[at] = from.counts[at].saturating_add(1);
        if from.counts[at] > 1 {
            if [qos, stamp.qos] == [QoS::ExactlyOnce; 2] && !mark.is_renewed {
                breaches.add(Breach::Twice, || format!("{} got {}", to.name, published.describe(stamp)));
            }
            return;
        }
        self.first_deliveries += 1;
        to.acknowledged += u64::from(mark.is_acknowledged);
        // The order is promised for one topic and QoS; each publisher has one topic [MQTT-4.6.0-5].
        let highest = &mut from.highest[usize::from(stamp.qos == QoS::ExactlyOnce)];
        match *highest {
            Some(later) if later > stamp.sequence => breaches.add(Breach::Reordered, || {
                format!("{} got {} after sequence {later}", to.name, published.describe(stamp))
            }),
            _ => *highest = Some(stamp.sequence),
        }
    }

    /// Whether every subscriber has all that was acknowledged.
    pub(super) fn is_complete(&self) -> bool {
        self.subscribers.iter().all(|subscriber| subscriber.acknowledged == self.acknowledged)
    }

    /// What was acknowledged and has not arrived: the last judgement, when nothing more is to come.
    pub(super) fn judge_losses(&self, breaches: &mut Breaches) {
        for subscriber in &self.subscribers {
            let breach = match subscriber.attendance {
                Attendance::Online => Breach::LostOnline,
                Attendance::Offline => Breach::LostOffline,
                Attendance::Flapping => Breach::LostFlapping,
            };
            for (number, (published, from)) in self.publishers.iter().zip(&subscriber.from).enumerate() {
                for (at, mark) in published.messages.iter().enumerate() {
                    if !mark.is_acknowledged || from.counts.get(at).is_some_and(|&count| count > 0) {
                        continue;
                    }
                    let stamp =
                        Stamp { run: self.run, publisher: number, sequence: at as u64, qos: mark.qos };
                    breaches.add(breach, || {
                        format!("{} never got {}", subscriber.name, published.describe(stamp))
                    });
                }
            }
        }
    }

    pub(super) fn published(&self) -> u64 {
        self.published
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// All of them, those that are none for the first time as well.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Grows with everything that brings the end nearer.
    pub(super) fn progress(&self) -> u64 {
        self.first_deliveries + self.acknowledged + self.refused
    }
}

impl Published {
    fn describe(&self, stamp: Stamp) -> String {
        let round = self.rounds.iter().filter(|&&first| first <= stamp.sequence).count();
        let Stamp { publisher, sequence, qos, .. } = stamp;
        format!("publisher {publisher}, sequence {sequence} (QoS {}, round {round})", qos as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q1: QoS = QoS::AtLeastOnce;
    const Q2: QoS = QoS::ExactlyOnce;

    /// One publisher, whose messages have these QoS and are all acknowledged.
    fn history(messages: &[QoS]) -> (History, Vec<Stamp>) {
        let mut history = History::new(9, 1);
        history.subscribe("online", Attendance::Online);
        history.begin_round();
        let stamps: Vec<_> = messages.iter().map(|&qos| history.publish(0, qos)).collect();
        for stamp in &stamps {
            history.acknowledge(0, stamp.sequence);
        }
        (history, stamps)
    }

    fn deliver(history: &mut History, stamp: Stamp, breaches: &mut Breaches) {
        let mut payload = Vec::new();
        stamp.write(40, &mut payload);
        history.deliver(0, &payload, stamp.qos, Some(stamp.publisher), breaches);
    }

    /// Delivers messages by their index, and judges.
    fn judge(messages: &[QoS], order: &[usize]) -> Breaches {
        let (mut history, stamps) = history(messages);
        let mut breaches = Breaches::default();
        for &index in order {
            deliver(&mut history, stamps[index], &mut breaches);
        }
        assert_eq!(history.is_complete(), (0..messages.len()).all(|index| order.contains(&index)));
        history.judge_losses(&mut breaches);
        breaches
    }

    #[test]
    fn what_was_kept_is_no_breach() {
        assert!(judge(&[Q1, Q2, Q1, Q2], &[0, 1, 2, 3]).is_empty());
        // Between one QoS and another there is no order.
        assert!(judge(&[Q1, Q2, Q1, Q2], &[1, 3, 0, 2]).is_empty());
        // At QoS 1 a message may come again, also after later ones.
        assert!(judge(&[Q1, Q1, Q1], &[0, 1, 0, 1, 2, 0]).is_empty());
    }

    #[test]
    fn a_lost_message_is_found() {
        let breaches = judge(&[Q1, Q2, Q1], &[0, 2]);
        assert_eq!(breaches.count(Breach::LostOnline), 1);
        let example = &breaches.examples(Breach::LostOnline)[0];
        assert_eq!(example, "online never got publisher 0, sequence 1 (QoS 2, round 1)");
    }

    #[test]
    fn losses_are_counted_for_each_kind_of_subscriber() {
        let (mut history, stamps) = history(&[Q1]);
        history.subscribe("offline", Attendance::Offline);
        history.subscribe("flapping-1", Attendance::Flapping);
        history.subscribe("flapping-2", Attendance::Flapping);
        let mut breaches = Breaches::default();
        deliver(&mut history, stamps[0], &mut breaches);
        history.judge_losses(&mut breaches);
        let counts = [Breach::LostOnline, Breach::LostOffline, Breach::LostFlapping];
        assert_eq!(counts.map(|breach| breaches.count(breach)), [0, 1, 2]);
    }

    #[test]
    fn what_was_not_acknowledged_may_be_lost() {
        let (mut history, _) = history(&[]);
        history.publish(0, Q1);
        let mut breaches = Breaches::default();
        assert!(history.is_complete());
        history.judge_losses(&mut breaches);
        assert!(breaches.is_empty());
        assert_eq!((history.published(), history.acknowledged()), (1, 0));
    }

    #[test]
    fn what_arrives_before_its_acknowledgement_is_not_missing_after_it() {
        let (mut history, _) = history(&[]);
        let stamp = history.publish(0, Q2);
        let mut breaches = Breaches::default();
        deliver(&mut history, stamp, &mut breaches);
        history.acknowledge(0, stamp.sequence);
        history.acknowledge(0, stamp.sequence);
        assert!(history.is_complete() && breaches.is_empty());
        assert_eq!(history.acknowledged(), 1);
    }

    #[test]
    fn qos_2_twice_is_found() {
        let breaches = judge(&[Q2, Q2, Q1], &[0, 1, 0, 2, 2, 0]);
        assert_eq!(breaches.count(Breach::Twice), 2);
        let example = &breaches.examples(Breach::Twice)[0];
        assert_eq!(example, "online got publisher 0, sequence 0 (QoS 2, round 1)");
        // A duplicate is no inversion.
        assert_eq!(breaches.count(Breach::Reordered), 0);
    }

    #[test]
    fn a_message_sent_anew_may_arrive_twice() {
        let (mut history, stamps) = history(&[Q2]);
        history.renew(0, stamps[0].sequence);
        let mut breaches = Breaches::default();
        deliver(&mut history, stamps[0], &mut breaches);
        deliver(&mut history, stamps[0], &mut breaches);
        assert!(breaches.is_empty());
    }

    #[test]
    fn a_first_delivery_after_a_later_one_is_out_of_order() {
        for qos in [Q1, Q2] {
            let breaches = judge(&[qos, qos, qos, qos], &[0, 2, 1, 3]);
            assert_eq!(breaches.count(Breach::Reordered), 1);
            let bits = qos as u8;
            let expected =
                format!("online got publisher 0, sequence 1 (QoS {bits}, round 1) after sequence 2");
            assert_eq!(breaches.examples(Breach::Reordered), [expected]);
        }
    }

    #[test]
    fn what_nobody_published_is_found() {
        let (mut history, stamps) = history(&[Q1, Q2]);
        let mut breaches = Breaches::default();
        for stamp in [
            Stamp { sequence: 2, ..stamps[0] },
            Stamp { publisher: 1, ..stamps[0] },
            Stamp { run: 8, ..stamps[0] },
            Stamp { qos: Q2, ..stamps[0] },
        ] {
            deliver(&mut history, stamp, &mut breaches);
        }
        // On another topic, and cut off.
        let mut payload = Vec::new();
        stamps[1].write(40, &mut payload);
        history.deliver(0, &payload, Q2, None, &mut breaches);
        history.deliver(0, &payload[..5], Q2, Some(0), &mut breaches);
        assert_eq!(breaches.count(Breach::Altered), 6);
    }

    #[test]
    fn another_qos_is_found_and_is_no_loss() {
        let (mut history, stamps) = history(&[Q1, Q2]);
        let mut breaches = Breaches::default();
        let mut payload = Vec::new();
        for (stamp, qos) in [(stamps[0], Q2), (stamps[1], Q1), (stamps[0], Q2), (stamps[1], Q1)] {
            stamp.write(40, &mut payload);
            history.deliver(0, &payload, qos, Some(0), &mut breaches);
        }
        assert!(history.is_complete());
        assert_eq!(breaches.count(Breach::OtherQoS), 4);
        // Only what was QoS 2 from one end to the other must not come twice.
        assert_eq!(breaches.count(Breach::Twice), 0);
        let example = &breaches.examples(Breach::OtherQoS)[0];
        assert_eq!(example, "online got publisher 0, sequence 0 (QoS 1, round 1) at QoS 2");
    }
}
