//! Who is measured: Lapwing, other brokers, and two yardsticks. How to get each, and how to start it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::load::Load;
use super::scenario::{Cell, Set};
use crate::command;
use crate::interop::{debian, python};
use crate::repository::Repository;

/// Compiled from crates.io with the newest dependencies that fit: those of its own lock file do not build any more.
const RUMQTTD: &str = "0.20.0";

/// A participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With the configuration it has by default.
    Lapwing,
    /// With one shard.
    LapwingOneShard,
    /// With two shards that sessions are shared out to from the first on: where the load generator connects publishers
    /// and subscribers in turn, each message goes from one shard to the other.
    LapwingTwoShards,
    Mosquitto,
    Rumqttd,
    Nats,
    /// The load generator's toy: it parses and forwards, and nothing else.
    Bare,
    /// The load generator's relay: it moves the bytes, and looks at nothing.
    Relay,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Lapwing,
        Self::LapwingOneShard,
        Self::LapwingTwoShards,
        Self::Mosquitto,
        Self::Rumqttd,
        Self::Nats,
        Self::Bare,
        Self::Relay,
    ];

    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Lapwing => "lapwing",
            Self::LapwingOneShard => "lapwing-1-shard",
            Self::LapwingTwoShards => "lapwing-2-shards",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Nats => "nats",
            Self::Bare => "bare",
            Self::Relay => "relay",
        }
    }

    /// What is set differently from the defaults, for the reader of the results.
    pub(super) fn settings(self) -> &'static str {
        match self {
            Self::Lapwing => "defaults; logs errors only",
            Self::LapwingOneShard => "`sharding.count = 1`; logs errors only",
            Self::LapwingTwoShards => "`sharding.count = 2`, `sharding.neighbours = 0`; logs errors only",
            Self::Mosquitto => {
                "`max_inflight_messages 1000`, `max_queued_messages 0` (no limit), `set_tcp_nodelay true`; no \
                 persistence, no log"
            }
            Self::Rumqttd => {
                "`max_outgoing_packet_count` and `max_inflight_count` 1000, `next_connection_delay_ms` 0, segments \
                 as in its example"
            }
            Self::Nats => "`max_ack_pending 10000`; JetStream's store on a RAM disk where there is one",
            Self::Bare => "a toy that parses and forwards, and nothing else",
            Self::Relay => "moves the bytes and looks at nothing: the physical limit",
        }
    }

    /// Why there is nothing to measure of it in `cell`, if so.
    pub(super) fn absence(self, cell: &Cell) -> Option<&'static str> {
        let is_flow = matches!(cell.set, Set::Core | Set::Latency);
        match self {
            Self::LapwingTwoShards if cell.set != Set::Core => Some("it is there for what passing on costs"),
            Self::Bare if !is_flow => Some("it has no sessions, retained messages or limits"),
            Self::Bare if cell.qos() == Some("2") => Some("it knows QoS 0 and 1 only"),
            Self::Relay if !is_flow => Some("it is no broker"),
            Self::Relay if cell.qos() != Some("0") => Some("it acknowledges nothing"),
            Self::Rumqttd if cell.set == Set::Wild => {
                Some("it does not get through the filters within the limit")
            }
            Self::Rumqttd if cell.set == Set::Retained => Some("it delivers the first 100 of them only"),
            Self::Nats if cell.set == Set::Retained => Some("it does not store them within the limit"),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.id())
    }
}

/// A participant that is ready to be started.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) version: String,
    program: PathBuf,
    /// The size of its program without debug symbols, where that is a file of its own.
    pub(super) binary_bytes: Option<u64>,
}

impl Peer {
    /// Builds, installs or fetches it.
    pub(super) fn prepare(kind: Kind, repository: &Repository, load: &Load, lapwing: &Path) -> Result<Self> {
        let folder = repository.target.join("bench");
        let program = match kind {
            Kind::Lapwing | Kind::LapwingOneShard | Kind::LapwingTwoShards => lapwing.to_owned(),
            Kind::Mosquitto => mosquitto()?,
            Kind::Rumqttd => rumqttd(&folder)?,
            Kind::Nats => nats(repository, &folder)?,
            Kind::Bare | Kind::Relay => load.program().to_owned(),
        };
        let (version, binary_bytes) = match kind {
            Kind::Bare | Kind::Relay => (load.version().to_owned(), None),
            // Its exit status is not success when it is asked for help, the only way to learn its version.
            Kind::Mosquitto => (version(Command::new(&program).arg("-h"))?, stripped_size(&program, &folder)),
            _ => (version(Command::new(&program).arg("--version"))?, stripped_size(&program, &folder)),
        };
        Ok(Self { kind, version, program, binary_bytes })
    }

    /// What starts it on `port` of the loopback address, with `folder` for its files: none for the relay, which the
    /// load generator starts itself.
    pub(super) fn command(&self, port: u16, folder: &Path) -> Result<Option<Command>> {
        let mut command = unlimited(&self.program);
        command.current_dir(folder);
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        match self.kind {
            Kind::Lapwing | Kind::LapwingOneShard | Kind::LapwingTwoShards => {
                let listen = format!("tcp://127.0.0.1:{port}");
                command.args(["serve", "--listen", &listen, "--set", "log.level=error"]);
                // As it comes, but never in the way of another broker.
                command.args(["--set", "admin.listen=127.0.0.1:0", "--data"]);
                command.arg(folder.join("data"));
                let settings: &[&str] = match self.kind {
                    Kind::LapwingOneShard => &["sharding.count=1"],
                    Kind::LapwingTwoShards => &["sharding.count=2", "sharding.neighbours=0"],
                    _ => &[],
                };
                for setting in settings {
                    command.args(["--set", setting]);
                }
            }
            Kind::Mosquitto => drop(command.arg("-c").arg(write("mosquitto.conf", mosquitto_file(port))?)),
            Kind::Rumqttd => {
                command.args(["--quiet", "--config"]).arg(write("rumqttd.toml", rumqttd_file(port))?);
            }
            Kind::Nats => drop(command.arg("--config").arg(write("nats.conf", nats_file(port, folder))?)),
            Kind::Bare => drop(command.args(["bare", "--port", &port.to_string()])),
            Kind::Relay => return Ok(None),
        }
        Ok(Some(command))
    }
}

/// Builds the release binary of Lapwing.
pub(crate) fn lapwing(repository: &Repository) -> Result<PathBuf> {
    let mut cargo = command::cargo("build");
    cargo.args(["--release", "--package", "lapwing", "--bins"]).current_dir(&repository.root);
    command::run_checked(&mut cargo)?;
    let binary = repository.target.join("release").join("lapwing");
    if !binary.is_file() {
        bail!("the build left no {}", binary.display());
    }
    Ok(binary)
}

/// Debian's broker stands in a folder that only administrators have in their search path.
pub(crate) fn mosquitto() -> Result<PathBuf> {
    let find = || {
        let elsewhere = Some(PathBuf::from("/usr/sbin/mosquitto")).filter(|path| path.is_file());
        command::find_program("mosquitto").or(elsewhere)
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    debian::install("mosquitto").context("Mosquitto is missing")?;
    find().context("Mosquitto is missing although its package is installed")
}

pub(crate) fn rumqttd(folder: &Path) -> Result<PathBuf> {
    let root = folder.join(format!("rumqttd-{RUMQTTD}"));
    let program = root.join("bin/rumqttd");
    if !program.is_file() {
        let mut cargo = command::cargo("install");
        cargo.args(["rumqttd", "--version", RUMQTTD, "--no-default-features", "--root"]).arg(&root);
        command::run_checked(cargo.arg("--target-dir").arg(folder.join("rumqttd-build")))?;
    }
    Ok(program)
}

fn nats(repository: &Repository, folder: &Path) -> Result<PathBuf> {
    let environment = folder.join("nats");
    python::prepare(&repository.root.join("bench/requirements.txt"), &environment)?;
    Ok(environment.join("bin/nats-server"))
}

/// The first line with a digit that the program prints when it is asked for its version.
pub(crate) fn version(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()));
    Ok(line.context("it does not tell its version")?.trim().replace(':', ""))
}

/// Most distributions ship programs without debug symbols, so that is how they are compared.
fn stripped_size(program: &Path, folder: &Path) -> Option<u64> {
    let copy = folder.join("stripped");
    if !command::succeeds(Command::new("strip").arg("-o").arg(&copy).arg(program)) {
        return None;
    }
    let size = fs::metadata(&copy).ok()?.len();
    fs::remove_file(&copy).ok()?;
    Some(size)
}

/// `program`, with as many open files as the system lets it have. The shell gives its process to it.
fn unlimited(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n \"$(ulimit -H -n)\" && exec \"$0\" \"$@\""]).arg(program);
    command
}

fn mosquitto_file(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n\
         max_inflight_messages 1000\nmax_queued_messages 0\nset_tcp_nodelay true\n"
    )
}

/// `port` may be what stands for one.
pub(crate) fn rumqttd_file(port: impl fmt::Display) -> String {
    format!(
        "id = 0\n\n\
         [router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 1000\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\n\
         [v4.1]\nname = \"v4\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n\n\
         [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 1048576\n\
         max_inflight_count = 1000\ndynamic_filters = true\n"
    )
}

fn nats_file(port: u16, folder: &Path) -> String {
    let store = folder.join("jetstream");
    format!(
        "server_name: bench\nlisten: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\" }}\n\
         mqtt {{ listen: \"127.0.0.1:{port}\", max_ack_pending: 10000 }}\n",
        store.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yardsticks_are_measured_only_where_they_do_the_same_work() {
        let participants = |cell: &Cell| {
            let present = Kind::ALL.into_iter().filter(|kind| kind.absence(cell).is_none());
            present.map(Kind::id).collect::<Vec<_>>().join(" ")
        };
        let core = Set::Core.cells(1.0);
        let ours = "lapwing lapwing-1-shard lapwing-2-shards";
        let brokers = "mosquitto rumqttd nats";
        assert_eq!(participants(&core[0]), format!("{ours} {brokers} bare relay"));
        assert_eq!(participants(&core[3]), format!("{ours} {brokers} bare"));
        assert_eq!(participants(&core[6]), format!("{ours} {brokers}"));
        assert_eq!(participants(&Set::Wild.cells(1.0)[0]), "lapwing lapwing-1-shard mosquitto nats");
        assert_eq!(participants(&Set::Blast.cells(1.0)[0]), format!("lapwing lapwing-1-shard {brokers}"));
    }

    #[test]
    fn a_version_may_come_with_a_failure() {
        let print = |script: &str| version(Command::new("sh").args(["-c", script]));
        assert_eq!(print("echo; echo a broker; echo nats-server: v2.1; exit 3").unwrap(), "nats-server v2.1");
        assert!(print("true").is_err());
    }

    #[test]
    fn a_started_program_keeps_the_arguments_and_the_process() {
        let output = unlimited(Path::new("sh")).args(["-c", "echo $$ $1", "sh", "a b"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.trim_end().ends_with(" a b"), "{text}");
    }
}
