//! A peer while it runs.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::peer::Peer;

/// How long a peer may take until it accepts connections.
const START: Duration = Duration::from_secs(10);

/// What a peer does after it has opened its port is no part of a measurement.
const SETTLE: Duration = Duration::from_millis(200);

/// The process of a peer. It ends when this is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    /// Resident memory before the first client, in KiB.
    pub(super) start_rss_kib: Option<u64>,
}

impl Server {
    /// Starts `peer` in an empty folder and waits until it accepts connections. `None` for the relay, which needs a
    /// free port only.
    pub(super) fn start(peer: &Peer, folder: &Scratch) -> Result<Option<Self>> {
        folder.empty()?;
        let port = free_port()?;
        let Some(mut command) = peer.command(port, &folder.path)? else { return Ok(None) };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", peer.kind))?;
        let mut server = Self { child, port, start_rss_kib: None };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status} before it accepted a connection", peer.kind);
            }
            if started.elapsed() > START {
                bail!("{} accepted no connection within {} s", peer.kind, START.as_secs());
            }
            sleep(Duration::from_millis(20));
        }
        sleep(SETTLE);
        server.start_rss_kib = resident_kib(server.child.id());
        Ok(Some(server))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_died(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is kept, so it need not end in good order. An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?.port())
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A folder for the files of peers, in memory where there is a RAM disk. It goes when this is dropped.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Self { path: parent.join(format!("lapwing-bench-{}", std::process::id())) }
    }

    fn empty(&self) -> Result<()> {
        if self.path.exists() {
            fs::remove_dir_all(&self.path)
                .with_context(|| format!("cannot empty {}", self.path.display()))?;
        }
        fs::create_dir(&self.path).with_context(|| format!("cannot make {}", self.path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_of_a_process() {
        assert!(resident_kib(std::process::id()).unwrap() > 100);
        assert_eq!(resident_kib(u32::MAX), None);
    }
}
