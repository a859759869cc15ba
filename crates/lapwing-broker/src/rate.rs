use lapwing_proto::session::Instant;

/// Lets a number of log lines through per second and counts the rest, so that no client can flood the log.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u32,
    second: u64,
    used: u32,
    suppressed: u64,
}

impl Rate {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, second: 0, used: 0, suppressed: 0 }
    }

    /// Whether a line may be written now; if so, how many were not since the last one, which is nothing where there
    /// was none: a log line leaves out a field without a value.
    pub(crate) fn allow(&mut self, now: Instant) -> Option<Option<u64>> {
        let second = now.as_millis() / 1000;
        if second != self.second {
            self.second = second;
            self.used = 0;
        }
        if self.used >= self.per_second {
            self.suppressed += 1;
            return None;
        }
        self.used += 1;
        let suppressed = std::mem::take(&mut self.suppressed);
        Some((suppressed > 0).then_some(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_counted_and_reported_with_the_next_one() {
        let mut rate = Rate::new(2);
        let at = Instant::from_millis;
        assert_eq!(rate.allow(at(5000)), Some(None));
        assert_eq!(rate.allow(at(5100)), Some(None));
        assert_eq!(rate.allow(at(5200)), None);
        assert_eq!(rate.allow(at(5999)), None);
        assert_eq!(rate.allow(at(6000)), Some(Some(2)));
        assert_eq!(rate.allow(at(6001)), Some(None));
    }
}
