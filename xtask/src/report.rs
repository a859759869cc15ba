//! Steps, their durations, and the one line at the end.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::command;
use crate::tally::{Reader, Tally};

/// Collects what the steps found. A failed step does not stop the others.
#[derive(Default)]
pub(crate) struct Report {
    tally: Tally,
    failures: Vec<String>,
}

impl Report {
    /// A step that counts as one test.
    pub(crate) fn check(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        let (result, duration) = timed(name, step);
        match result {
            Ok(()) => {
                self.tally.passed += 1;
                passed(name, "", duration);
            }
            Err(error) => self.fail(name, &error, 1, duration),
        }
    }

    /// A step that only prepares others: it counts when it fails.
    pub(crate) fn prepare<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Option<T> {
        let (result, duration) = timed(name, step);
        match result {
            Ok(value) => {
                passed(name, "", duration);
                Some(value)
            }
            Err(error) => {
                self.fail(name, &error, 1, duration);
                None
            }
        }
    }

    /// A step that runs tests, counted with `read`.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command, read: Reader) {
        let (result, duration) = timed(name, || command::run(command));
        let finished = match result {
            Ok(finished) => finished,
            Err(error) => return self.fail(name, &error, 1, duration),
        };
        let Some(tally) = read(&finished.text) else {
            let error = anyhow!("no summary of tests in its output; it ended with {}", finished.status);
            return self.fail(name, &error, 1, duration);
        };
        self.tally.passed += tally.passed;
        self.tally.skipped += tally.skipped;
        let run = tally.passed + tally.failed;
        if tally.failed > 0 {
            let error = anyhow!("{} of {run} tests failed", tally.failed);
            self.fail(name, &error, tally.failed, duration);
        } else if !finished.status.success() {
            let error = anyhow!("it ended with {} although no test of {run} failed", finished.status);
            self.fail(name, &error, 1, duration);
        } else if tally.skipped > 0 {
            passed(name, &format!(": {run} tests, {} skipped", tally.skipped), duration);
        } else {
            passed(name, &format!(": {run} tests"), duration);
        }
    }

    /// Says that there is nothing to do for a step.
    pub(crate) fn nothing(&mut self, name: &str, reason: &str) {
        println!("-- {name}: nothing to run, {reason}");
    }

    /// Lists the failures and prints the closing line.
    pub(crate) fn finish(self) -> ExitCode {
        println!();
        for failure in &self.failures {
            println!("{failure}");
        }
        println!("{} passed, {} failed", self.tally.passed, self.tally.failed);
        if self.tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn fail(&mut self, name: &str, error: &anyhow::Error, count: u64, duration: Duration) {
        self.tally.failed += count;
        let failure = format!("FAILED {name}: {error:#}");
        println!("{failure} ({:.1} s)", duration.as_secs_f64());
        self.failures.push(failure);
    }
}

fn timed<T>(name: &str, step: impl FnOnce() -> T) -> (T, Duration) {
    println!("-- {name}");
    let started = Instant::now();
    let value = step();
    (value, started.elapsed())
}

fn passed(name: &str, detail: &str, duration: Duration) {
    println!("ok {name}{detail} ({:.1} s)", duration.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::command::tests::shell;
    use crate::tally;

    #[test]
    fn steps_are_counted() {
        let mut report = Report::default();
        report.check("good", || Ok(()));
        report.check("bad", || bail!("broken"));
        assert_eq!(report.prepare("prepared", || Ok(7)), Some(7));
        assert_eq!(report.prepare("not prepared", || -> Result<u8> { bail!("missing") }), None);
        report.tests("tests", &mut shell("echo '3 passed, 2 failed in 1s'; exit 1"), tally::pytest);
        assert_eq!(report.tally, Tally { passed: 4, failed: 4, skipped: 0 });
        assert_eq!(report.failures[2], "FAILED tests: 2 of 5 tests failed");
        assert_eq!(report.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn a_runner_that_breaks_is_a_failure() {
        let mut report = Report::default();
        report.tests("silent", &mut shell("exit 0"), tally::pytest);
        report.tests("crashed", &mut shell("echo '3 passed in 1s'; exit 2"), tally::pytest);
        report.tests("missing", &mut Command::new("no-such-program"), tally::pytest);
        assert_eq!(report.tally, Tally { passed: 3, failed: 3, skipped: 0 });
    }
}
