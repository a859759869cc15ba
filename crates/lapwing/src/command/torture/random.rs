//! Chance that a seed decides.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Numbers that look random, the same ones for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// `stream` keeps apart what is decided for different purposes: how often one of them asks has no influence on the
    /// others.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self { state: seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93) };
        random.next();
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The remainder favours small numbers a little, which does not matter here.
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or_default()
    }

    /// One in `count` times true.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn duration(&mut self, from: Duration, to: Duration) -> Duration {
        const PARTS: u32 = 1 << 20;
        let part = self.below(PARTS as usize) as u32;
        from + to.saturating_sub(from) * part / PARTS
    }
}

/// A number that nobody has chosen: a seed where none is given, and what keeps two runs against one broker apart.
pub(super) fn fresh() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let numbers = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(numbers(7, 1), numbers(7, 1));
        assert_ne!(numbers(7, 1), numbers(7, 2));
        assert_ne!(numbers(7, 1), numbers(8, 1));
        assert_ne!(fresh(), fresh());
    }

    #[test]
    fn durations_stay_between_their_ends() {
        let mut random = Random::new(1, 1);
        let (from, to) = (Duration::from_millis(10), Duration::from_secs(200));
        let all: Vec<_> = (0..1000).map(|_| random.duration(from, to)).collect();
        assert!(all.iter().all(|&duration| from <= duration && duration < to));
        assert!(all.iter().any(|&duration| duration < to / 4));
        assert!(all.iter().any(|&duration| duration > to / 4 * 3));
        assert_eq!(random.duration(to, from), to);
    }
}
