//! Work that waits for a thread, in turn for each place that it comes from.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use lapwing_broker::Network;

use super::address::Delays;

/// Work by the place that it comes from. Places take turns, so that one that sends very much waits for itself alone.
#[derive(Debug)]
pub(super) struct Queue<T> {
    by_place: HashMap<Network, VecDeque<T>>,
    /// Each place that has work, once.
    turns: VecDeque<Network>,
    len: usize,
    limits: QueueLimits,
}

/// How much work may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    pub(super) all: usize,
    pub(super) per_place: usize,
}

/// Too much work waits already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// This, which comes from there.
    Work(Network, T),
    /// Nothing for so long.
    Wait(Duration),
    /// Nothing.
    Idle,
}

impl<T> Queue<T> {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { by_place: HashMap::new(), turns: VecDeque::new(), len: 0, limits }
    }

    /// As much may wait from now on. What waits already stays.
    pub(super) fn limit(&mut self, limits: QueueLimits) {
        self.limits = limits;
    }

    /// Takes out all that waits.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.limits))
    }

    /// Asks for the work if there is room for it.
    pub(super) fn push(&mut self, place: Network, work: impl FnOnce() -> T) -> Result<(), Full> {
        let waiting = self.by_place.get(&place).map_or(0, VecDeque::len);
        if self.len >= self.limits.all || waiting >= self.limits.per_place {
            return Err(Full);
        }
        if waiting == 0 {
            self.turns.push_back(place);
        }
        self.by_place.entry(place).or_default().push_back(work());
        self.len += 1;
        Ok(())
    }

    /// The next work of the next place that need not wait.
    pub(super) fn next(&mut self, delays: &Delays, now: Instant) -> Next<T> {
        let mut shortest: Option<Duration> = None;
        for _ in 0..self.turns.len() {
            let Some(place) = self.turns.pop_front() else { break };
            if let Some(until) = delays.not_before(place, now) {
                let wait = until - now;
                shortest = Some(shortest.map_or(wait, |other| other.min(wait)));
                self.turns.push_back(place);
                continue;
            }
            let Some(waiting) = self.by_place.get_mut(&place) else { continue };
            let Some(work) = waiting.pop_front() else { continue };
            self.len -= 1;
            if waiting.is_empty() {
                self.by_place.remove(&place);
            } else {
                self.turns.push_back(place);
            }
            return Next::Work(place, work);
        }
        shortest.map_or(Next::Idle, Next::Wait)
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u8) -> Network {
        std::net::IpAddr::from([10, 0, 0, n]).into()
    }

    fn queue(all: usize, per_place: usize) -> Queue<u32> {
        Queue::new(QueueLimits { all, per_place })
    }

    #[test]
    fn places_take_turns() {
        let (now, delays) = (Instant::now(), Delays::new(Duration::ZERO));
        let mut queue = queue(100, 50);
        (0..50).for_each(|n| queue.push(place(1), || n).unwrap());
        queue.push(place(2), || 100).unwrap();
        queue.push(place(2), || 101).unwrap();
        queue.push(place(3), || 200).unwrap();
        let mut next = || match queue.next(&delays, now) {
            Next::Work(_, work) => work,
            other => panic!("{other:?}"),
        };
        assert_eq!([next(), next(), next(), next(), next(), next()], [0, 100, 200, 1, 101, 2]);
    }

    #[test]
    fn who_must_wait_keeps_nobody_from_the_turn() {
        let now = Instant::now();
        let mut delays = Delays::new(Duration::from_secs(10));
        (0..7).for_each(|_| delays.fail(place(1), now));
        let mut queue = queue(100, 50);
        queue.push(place(1), || 1).unwrap();
        queue.push(place(2), || 2).unwrap();
        assert_eq!(queue.next(&delays, now), Next::Work(place(2), 2));
        assert_eq!(queue.next(&delays, now), Next::Wait(Duration::from_millis(200)));
        let later = now + Duration::from_millis(200);
        assert_eq!(queue.next(&delays, later), Next::Work(place(1), 1));
        assert_eq!(queue.next(&delays, later), Next::Idle);
    }

    // [attack: password-storm]
    #[test]
    fn a_full_queue_takes_no_more_and_a_full_place_leaves_room_for_others() {
        let (now, delays) = (Instant::now(), Delays::new(Duration::ZERO));
        let mut queue = queue(5, 3);
        (0..3).for_each(|n| queue.push(place(1), || n).unwrap());
        assert_eq!(queue.push(place(1), || 3), Err(Full));
        queue.push(place(2), || 10).unwrap();
        queue.push(place(3), || 20).unwrap();
        assert_eq!((queue.push(place(4), || 30), queue.len()), (Err(Full), 5));
        assert_eq!(queue.next(&delays, now), Next::Work(place(1), 0));
        queue.push(place(4), || 30).unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| match queue.next(&delays, now) {
            Next::Work(_, work) => Some(work),
            _ => None,
        })
        .collect();
        assert_eq!((rest, queue.len()), (vec![10, 20, 1, 30, 2], 0));
        assert!(queue.by_place.is_empty() && queue.turns.is_empty());
    }
}
