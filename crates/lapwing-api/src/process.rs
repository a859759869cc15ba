//! What the system says about this process.

use rustix::time::{ClockId, clock_gettime};

/// What the process takes of the machine. What the system does not say is `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) cpu_seconds: f64,
    pub(crate) open_descriptors: Option<u64>,
}

impl Process {
    pub(crate) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: std::fs::read_to_string("/proc/self/status").ok().and_then(|it| resident(&it)),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            // One of them is that of the folder itself.
            open_descriptors: std::fs::read_dir("/proc/self/fd").ok().map(|it| it.count() as u64 - 1),
        }
    }
}

/// From the lines of `/proc/self/status`, which count in KiB.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_found_among_the_lines() {
        assert_eq!(resident("VmPeak:\t  20 kB\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
        assert_eq!(resident("Name: lapwing\n"), None);
        assert!(Process::now().cpu_seconds >= 0.0);
    }
}
