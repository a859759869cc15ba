//! The broker that is measured, as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Client;
use crate::bench::server::free_port;

/// How long a broker may take to start.
const START: Duration = Duration::from_secs(120);

pub(super) struct Broker {
    child: Child,
    pub(super) port: u16,
}

/// A data directory, and the program that uses it.
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) data: PathBuf,
}

impl Setup {
    /// Without anything stored.
    pub(super) fn empty(program: &Path, folder: &Path) -> Result<Self> {
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        Ok(Self { program: program.to_owned(), data })
    }

    /// Starts the broker, and has a client connect as soon as it can: how long that took.
    pub(super) fn start(&self) -> Result<(Broker, Duration)> {
        let port = free_port()?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", &format!("tcp://0.0.0.0:{port}"), "--data"]).arg(&self.data);
        command.args(["--set", "log.level=error", "--set", "limits.sessions_maximum=2000000"]);
        // As it comes, but never in the way of another broker.
        command.args(["--set", "admin.listen=127.0.0.1:0"]);
        let start = Instant::now();
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("it does not start")?;
        let mut broker = Broker { child, port };
        loop {
            if Client::connect(port, "probe", 0).is_ok() {
                return Ok((broker, start.elapsed()));
            }
            if let Some(status) = broker.child.try_wait()? {
                bail!("the broker has ended with {status}");
            }
            if start.elapsed() > START {
                bail!("the broker lets nobody in after {} s", START.as_secs());
            }
            sleep(Duration::from_millis(5));
        }
    }
}

impl Broker {
    /// Ends it at once, as a crash would.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Resident memory now, and the most it has been, in bytes.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).with_context(|| format!("no {name}"))
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Processor time that it has used.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').context("no name in /proc/…/stat")?.1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
