//! The real program as a process of its own, for tests.
#![allow(dead_code, reason = "each file of tests uses a part of it")]

pub(crate) mod admin;
pub(crate) mod canary;
pub(crate) mod liar;
pub(crate) mod peer;
pub(crate) mod service;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take that ought to happen at once. The machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A running `lapwing serve`. It is killed when it is dropped.
pub(crate) struct Broker {
    child: Child,
    log: Arc<Log>,
    address: SocketAddr,
    /// Where its data directory is, if none was named.
    _data: tempfile::TempDir,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<(Instant, String)>,
    is_closed: bool,
}

/// The program, with no configuration of its surroundings.
pub(crate) fn lapwing() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapwing"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LAPWING_")) {
        command.env_remove(name);
    }
    // Never where the person who runs the tests has data.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let data = format!("{}/data-{}-{count}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    command.env("XDG_DATA_HOME", data);
    command.stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    lapwing().args(arguments).output().expect("the program starts")
}

/// Standard error of a run that must have failed with `code`.
pub(crate) fn failure(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

impl Broker {
    /// Starts `lapwing serve` on a free port, with further arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = lapwing();
        // Tests run side by side, and there is only one default address of the admin channel.
        command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--set", "admin.listen="]).args(arguments);
        Self::spawn(command)
    }

    /// Starts with keys of the configuration set.
    pub(crate) fn with_settings(settings: &[&str]) -> Self {
        let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        Self::start(&arguments)
    }

    /// Starts a command that becomes the program, and waits until it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        command.env("XDG_DATA_HOME", data.path());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("standard error is a pipe");
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    log.lock().lines.push((Instant::now(), String::from_utf8_lossy(&line).into_owned()));
                    log.changed.notify_all();
                }
                log.lock().is_closed = true;
                log.changed.notify_all();
            }
        });
        let address = SocketAddr::from(([0; 4], 0));
        let mut broker = Self { child, log, address, _data: data };
        let line = broker.wait_for_line("listening on tcp://127.0.0.1:");
        let (_, port) = line.split_once("listening on tcp://127.0.0.1:").expect("it is in the line");
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        broker.address.set_ip([127, 0, 0, 1].into());
        broker.address.set_port(port.parse().expect("the port"));
        broker
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for another scheme: `ws`.
    pub(crate) fn address_of(&self, scheme: &str) -> SocketAddr {
        let line = self.wait_for_line(&format!("listening on {scheme}://"));
        let (_, address) = line.split_once("://").expect("it is in the line");
        address.split('/').next().and_then(|address| address.trim().parse().ok()).expect("an address")
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The first line of the log with `text` in it, when it comes.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let find =
            |state: &LogState| state.lines.iter().map(|(_, line)| line).find(|l| l.contains(text)).cloned();
        let state = self.log.wait_until(SOON, |state| find(state).is_some() || state.is_closed);
        find(&state).unwrap_or_else(|| panic!("no line with {text:?} in the log: {:#?}", state.lines))
    }

    /// The lines of the log until now.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// The most lines that were written within any second.
    pub(crate) fn lines_per_second(&self) -> usize {
        let state = self.log.lock();
        let times: Vec<_> = state.lines.iter().map(|&(at, _)| at).collect();
        let within = |first: usize| {
            times[first..].iter().take_while(|&&at| at - times[first] < Duration::from_secs(1)).count()
        };
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    /// Sends a signal: `TERM`, `INT`, ...
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("sh starts");
        assert!(status.success(), "{command}");
    }

    /// How it ended, which must happen within `limit`; and how long that took.
    pub(crate) fn wait_for_exit(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let is_closed = self.log.wait_until(limit, |state| state.is_closed).is_closed;
        assert!(is_closed, "it still runs after {limit:?}; its log: {:#?}", self.lines());
        (self.child.wait().expect("its status"), start.elapsed())
    }

    /// All that it writes to standard output, which must be a pipe, until it ends.
    pub(crate) fn output(&mut self) -> String {
        let mut stdout = self.child.stdout.take().expect("standard output is a pipe");
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("text");
        text
    }

    /// Fails if the process has ended.
    pub(crate) fn assert_alive(&mut self) {
        let status = self.child.try_wait().expect("its status");
        assert!(status.is_none(), "it has ended: {status:?}; its log: {:#?}", self.lines());
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status_field("VmRSS:") * 1024
    }

    /// The most that resident memory has been, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status_field("VmHWM:") * 1024
    }

    /// Processor time that it has used. The system counts it in hundredths of a second.
    pub(crate) fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("the process is there");
        let fields = stat.rsplit_once(')').expect("the name in brackets").1;
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    fn status_field(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the field is there");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, limit: Duration, is_met: impl Fn(&LogState) -> bool) -> MutexGuard<'_, LogState> {
        let waiting = self.changed.wait_timeout_while(self.lock(), limit, |state| !is_met(state));
        waiting.unwrap_or_else(PoisonError::into_inner).0
    }
}
