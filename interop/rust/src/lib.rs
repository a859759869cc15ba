//! Runs other people's Rust clients against the real Lapwing binary: see `tests/`.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The address that every broker of these tests listens on.
pub const HOST: &str = "127.0.0.1";

const START_TIMEOUT: Duration = Duration::from_secs(10);
const LISTENING: &str = "listening on ";
const AT: &str = "://127.0.0.1:";

/// A running broker, killed when it is dropped: Lapwing, or the one that `INTEROP_BROKER_COMMAND` names.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    port: u16,
    /// Removed together with the broker.
    _data: TempDir,
}

impl Broker {
    /// Starts a broker of its own for one test and waits until it listens.
    ///
    /// # Panics
    ///
    /// When `LAPWING_BIN` is missing, or when the broker does not listen within ten seconds.
    #[must_use]
    pub fn start() -> Self {
        let data = TempDir::new().expect("make a directory for the broker's data");
        match env::var("INTEROP_BROKER_COMMAND") {
            Ok(command) => Self::start_reference(&command, data),
            Err(_) => Self::start_lapwing(data),
        }
    }

    /// The TCP port on [`HOST`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts Lapwing with this configuration, which has one listener; `{data}` in it is a directory of its own.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_configured(configuration: &str, data: TempDir) -> Self {
        let file = data.path().join("lapwing.toml");
        let text = configuration.replace("{data}", &data.path().display().to_string());
        std::fs::write(&file, text).expect("write the configuration");
        let file = file.to_str().expect("a plain path").to_owned();
        Self::start_lapwing_with(&["--config", &file], data)
    }

    fn start_lapwing(data: TempDir) -> Self {
        Self::start_lapwing_with(&["--listen", "tcp://127.0.0.1:0"], data)
    }

    fn start_lapwing_with(arguments: &[&str], data: TempDir) -> Self {
        let binary = env::var_os("LAPWING_BIN")
            .expect("LAPWING_BIN is not set: run through cargo xtask test, or set LAPWING_BIN");
        let mut process = Command::new(binary)
            .arg("serve")
            .args(arguments)
            .args(["--set", "admin.listen=", "--data"])
            .arg(data.path().join("store"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary that LAPWING_BIN names");
        let stderr = process.stderr.take().expect("stderr was asked for");
        let (send, ports) = mpsc::channel();
        // Reads to the end, so that the broker never waits for somebody to read its log.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(port) = port_in(&line) {
                    let _ = send.send(port);
                }
            }
        });
        let mut broker = Self { process, port: 0, _data: data };
        broker.port = ports.recv_timeout(START_TIMEOUT).expect("the broker names the address it listens on");
        broker
    }

    fn start_reference(command: &str, data: TempDir) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|probe| probe.local_addr())
            .expect("find a free port")
            .port();
        let command = command.replace("{port}", &port.to_string());
        let mut words = command.split_whitespace();
        let process = Command::new(words.next().expect("INTEROP_BROKER_COMMAND names a program"))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the program that INTEROP_BROKER_COMMAND names");
        let broker = Self { process, port, _data: data };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((HOST, port)).is_err() {
            assert!(Instant::now() < deadline, "the reference broker did not start");
            // There is no event to wait for: a foreign broker's log is not ours to rely on.
            thread::sleep(Duration::from_millis(10)); // sleep: between two attempts to connect
        }
        broker
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once(LISTENING)?.1.split_once(AT)?;
    let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::port_in;

    #[test]
    fn the_port_is_found_in_a_log_line() {
        assert_eq!(port_in("INFO listening on tcp://127.0.0.1:40123 clients=local"), Some(40123));
        assert_eq!(port_in("INFO listening on tcp://127.0.0.1:1"), Some(1));
        assert_eq!(port_in("INFO listening on tls://127.0.0.1:8"), Some(8));
        assert_eq!(port_in("INFO listening on tcp://[::1]:40123"), None);
        assert_eq!(port_in("INFO listening on tcp://127.0.0.1:"), None);
    }
}
