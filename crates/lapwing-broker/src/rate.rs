use std::collections::VecDeque;

use lapwing_proto::session::Instant;

/// Lets a number of log lines through within any second and counts the rest, so that no client can flood the log.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: usize,
    /// When the last lines were written, the oldest first: never more than `per_second`.
    written: VecDeque<Instant>,
    suppressed: u64,
}

impl Rate {
    /// A part of `per_second` for each of `shards`, so that all of them together write no more; but at least one.
    pub(crate) fn shared(per_second: usize, shards: usize) -> Self {
        let per_second = per_second.div_ceil(shards);
        Self { per_second, written: VecDeque::with_capacity(per_second), suppressed: 0 }
    }

    /// Whether a line may be written now; if so, how many were not since the last one, which is nothing where there
    /// was none: a log line leaves out a field without a value.
    pub(crate) fn allow(&mut self, now: Instant) -> Option<Option<u64>> {
        let is_past = |written: &Instant| now.as_millis() >= written.as_millis() + 1000;
        while self.written.front().is_some_and(is_past) {
            self.written.pop_front();
        }
        if self.written.len() >= self.per_second {
            self.suppressed += 1;
            return None;
        }
        self.written.push_back(now);
        let suppressed = std::mem::take(&mut self.suppressed);
        Some((suppressed > 0).then_some(suppressed))
    }
}

/// So much of something in a second, after a first burst of as much. Who has had too much waits for it afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    per_second: u32,
    /// What is left, in thousandths; below zero what has been had in advance.
    left: i64,
    /// As of when.
    at: Instant,
}

impl Allowance {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: 1000 * i64::from(per_second), at: now }
    }

    /// Takes some; until when nothing more is to be taken, if it was too much.
    pub(crate) fn take(&mut self, count: u64, now: Instant) -> Option<Instant> {
        let rate = i64::from(self.per_second);
        let elapsed_ms = i64::try_from(now.since(self.at).as_millis()).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(rate.saturating_mul(elapsed_ms)).min(1000 * rate);
        self.at = now;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(count.saturating_mul(1000));
        if self.left >= 0 {
            return None;
        }
        let wait_ms = self.left.unsigned_abs().div_ceil(rate.max(1).unsigned_abs());
        Some(now + std::time::Duration::from_millis(wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [attack: log-flood]
    #[test]
    fn lines_beyond_the_rate_are_counted_and_reported_with_the_next_one() {
        let mut rate = Rate::shared(4, 2);
        let at = Instant::from_millis;
        assert_eq!(rate.allow(at(5000)), Some(None));
        assert_eq!(rate.allow(at(5900)), Some(None));
        assert_eq!(rate.allow(at(5950)), None);
        assert_eq!(rate.allow(at(5999)), None);
        assert_eq!(rate.allow(at(6000)), Some(Some(2)));
        assert_eq!(rate.allow(at(6001)), None, "5900 and 6000 are within a second");
        assert_eq!(rate.allow(at(6900)), Some(Some(1)));
    }

    #[test]
    fn each_of_many_shards_has_a_line() {
        let mut rate = Rate::shared(10, 64);
        assert_eq!(rate.allow(Instant::from_millis(0)), Some(None));
        assert_eq!(rate.allow(Instant::from_millis(999)), None);
    }

    #[test]
    fn who_has_had_too_much_waits_for_it() {
        let at = Instant::from_millis;
        let mut allowance = Allowance::new(10, at(0));
        assert_eq!(allowance.take(10, at(0)), None, "the burst");
        assert_eq!(allowance.take(1, at(0)), Some(at(100)));
        assert_eq!(allowance.take(1, at(100)), Some(at(200)));
        assert_eq!(allowance.take(0, at(200)), None);
        assert_eq!(allowance.take(10, at(100_000)), None, "no more than one burst is saved");
        assert_eq!(allowance.take(5, at(100_000)), Some(at(100_500)));
        assert_eq!(
            allowance.take(u64::MAX, at(100_500)).map(|at| at.as_millis() > 1_000_000_000),
            Some(true)
        );
    }
}
