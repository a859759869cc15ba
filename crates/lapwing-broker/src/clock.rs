use std::time::SystemTime;

use lapwing_proto::session::Instant;
use lapwing_store::WallTime;

/// The clock of all event loops: milliseconds since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn nanos(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How far the clock of the machine is ahead of the broker's, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WallClock {
    pub(crate) ahead_ms: u64,
}

impl WallClock {
    /// By the machine's clock at this moment.
    pub(crate) fn read(clock: Clock) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { ahead_ms: wall_ms.saturating_sub(clock.now().as_millis()) }
    }

    pub(crate) fn wall(self, at: Instant) -> WallTime {
        WallTime(at.as_millis().saturating_add(self.ahead_ms))
    }

    /// What was before the broker's clock began is at its beginning.
    pub(crate) fn instant(self, at: WallTime) -> Instant {
        Instant::from_millis(at.0.saturating_sub(self.ahead_ms))
    }
}

/// Measures how much of its time a thread is at work.
#[derive(Debug)]
pub(crate) struct LoadMeter {
    clock: Clock,
    /// When the window began, and the last work, in nanoseconds.
    window: u64,
    working: u64,
    worked: u64,
}

/// How long a window is at least, in nanoseconds.
const WINDOW: u64 = 250_000_000;

impl LoadMeter {
    pub(crate) fn new(clock: Clock) -> Self {
        let now = clock.nanos();
        Self { clock, window: now, working: now, worked: 0 }
    }

    /// Work is done for now.
    pub(crate) fn rest(&mut self) {
        self.worked += self.clock.nanos() - self.working;
    }

    /// Work begins. At the end of a window: thousandths of it that were work.
    pub(crate) fn work(&mut self) -> Option<u32> {
        self.working = self.clock.nanos();
        let elapsed = self.working - self.window;
        if elapsed < WINDOW {
            return None;
        }
        let busy = (self.worked * 1000 / elapsed) as u32;
        self.window = self.working;
        self.worked = 0;
        Some(busy)
    }
}
