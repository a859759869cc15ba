//! When a service that does not answer is left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Faults in a row after which nobody asks for a while.
const FAULTS: u32 = 5;
/// For how long at first. Then one request finds out how it is, and each that fails doubles the time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keeps clients from waiting for a service that has not answered others.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Faults in a row.
    faults: u32,
    /// When the next request may be made, once there are too many of them.
    next: Option<Instant>,
    pause: Duration,
}

/// Leave to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// As always.
    Usual,
    /// To find out whether the service answers again.
    Trial,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { faults: 0, next: None, pause: FIRST_PAUSE }) }
    }

    /// Whether the service may be asked now.
    pub(super) fn leave(&self, now: Instant) -> Option<Leave> {
        let mut state = self.lock();
        match state.next {
            None => Some(Leave::Usual),
            Some(next) if now < next => None,
            Some(_) => {
                // The others wait for what comes of it; and should nothing come of it, for as long again.
                state.next = Some(now + state.pause);
                Some(Leave::Trial)
            }
        }
    }

    /// The service has answered. Whether it was left alone before.
    pub(super) fn succeed(&self) -> bool {
        let mut state = self.lock();
        let was_open = state.next.is_some();
        *state = State { faults: 0, next: None, pause: FIRST_PAUSE };
        was_open
    }

    /// It has not. For how long it is left alone now, if this is what decided it.
    pub(super) fn fail(&self, leave: Leave, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        match leave {
            Leave::Trial => state.pause = (state.pause * 2).min(LONGEST_PAUSE),
            Leave::Usual => {
                state.faults += 1;
                // Others that were under way say nothing new.
                if state.faults < FAULTS || state.next.is_some() {
                    return None;
                }
            }
        }
        state.next = Some(now + state.pause);
        Some(state.pause)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn after_some_faults_one_request_finds_out_how_it_is() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        for _ in 1..FAULTS {
            assert_eq!(breaker.leave(start), Some(Leave::Usual));
            assert_eq!(breaker.fail(Leave::Usual, start), None);
        }
        assert_eq!(breaker.fail(Leave::Usual, start), Some(SECOND));
        assert_eq!(breaker.fail(Leave::Usual, start), None, "one that was under way");
        assert_eq!(breaker.leave(start), None);
        assert_eq!(breaker.leave(start + SECOND / 2), None);
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.leave(now + seconds * SECOND - SECOND / 8), None, "{seconds}");
            now += seconds * SECOND;
            assert_eq!(breaker.leave(now), Some(Leave::Trial), "{seconds}");
            assert_eq!(breaker.leave(now), None, "the others wait");
            let longer = (2 * seconds).min(30) * SECOND;
            assert_eq!(breaker.fail(Leave::Trial, now), Some(longer));
        }
        now += 30 * SECOND;
        assert_eq!(breaker.leave(now), Some(Leave::Trial));
        assert!(breaker.succeed());
        assert_eq!(breaker.leave(now), Some(Leave::Usual));
        assert!(!breaker.succeed());
    }

    #[test]
    fn faults_that_are_not_in_a_row_are_nothing_and_a_trial_that_is_lost_is_not_the_last() {
        let (breaker, start) = (Breaker::new(), Instant::now());
        for _ in 0..3 * FAULTS {
            assert_eq!(breaker.fail(Leave::Usual, start), None);
            breaker.succeed();
        }
        for _ in 0..FAULTS {
            breaker.fail(Leave::Usual, start);
        }
        assert_eq!(breaker.leave(start + SECOND), Some(Leave::Trial));
        assert_eq!(breaker.leave(start + SECOND), None);
        assert_eq!(breaker.leave(start + 2 * SECOND), Some(Leave::Trial));
    }
}
