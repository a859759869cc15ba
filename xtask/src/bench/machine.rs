//! The machine that the figures belong to, and how busy it is.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command;

/// The clock ticks per second in which the kernel tells processor time to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// What figures without it would mean little.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    pub(super) processor: String,
    pub(super) cores: u64,
    pub(super) memory_kib: u64,
    pub(super) kernel: String,
}

impl Machine {
    /// The one that this program runs on.
    pub(crate) fn this() -> Result<Self> {
        let read = |path: &str| {
            fs::read_to_string(path).with_context(|| format!("cannot read {path}; benchmarks need Linux"))
        };
        let processors = read("/proc/cpuinfo")?;
        Ok(Self {
            processor: field(&processors, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get().try_into()?,
            memory_kib: kibibytes(&read("/proc/meminfo")?).context("/proc/meminfo names no total")?,
            // What stands behind the version is the distributor's.
            kernel: format!(
                "Linux {}",
                read("/proc/sys/kernel/osrelease")?.trim().split('-').next().unwrap_or_default()
            ),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "cores": self.cores,
            "memory_kib": self.memory_kib,
            "kernel": self.kernel,
        })
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            processor: text("processor")?,
            cores: value["cores"].as_u64()?,
            memory_kib: value["memory_kib"].as_u64()?,
            kernel: text("kernel")?,
        })
    }
}

/// Today in UTC, as in 2026-01-31.
pub(crate) fn today() -> Result<String> {
    Ok(command::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned())
}

/// Seconds of processor time that the whole machine has spent, idling and waiting left out.
pub(super) fn busy_s() -> Option<f64> {
    busy_ticks(&fs::read_to_string("/proc/stat").ok()?).map(|ticks| ticks / TICKS_PER_SECOND)
}

fn busy_ticks(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, waiting, interrupt, soft interrupt, stolen; guests are in user already.
    let busy = [0, 1, 2, 5, 6, 7];
    busy.iter().map(|&at| ticks.get(at).copied()).sum()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn kibibytes(memory: &str) -> Option<u64> {
    field(memory, "MemTotal")?.strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_survives_its_json() {
        let machine = Machine::this().unwrap();
        assert!(machine.cores > 0 && machine.memory_kib > 10_000, "{machine:?}");
        assert_eq!(Machine::from_json(&machine.to_json()), Some(machine));
        assert_eq!(Machine::from_json(&json!({})), None);
    }

    #[test]
    fn what_the_kernel_tells() {
        assert_eq!(field("a\t: b\nmodel name\t: An X: fast\n", "model name"), Some("An X: fast"));
        assert_eq!(kibibytes("MemTotal:       25165824 kB\nMemFree: 1 kB\n"), Some(25_165_824));
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 32 99 0\ncpu0 9 9 9 9 9 9 9 9\n"), Some(63.0));
        assert_eq!(busy_ticks("cpu 1 2"), None);
    }
}
