//! `lapwing torture`: whether a broker, any broker, keeps its word.

mod breach;
mod cast;
mod connection;
mod course;
mod history;
mod inspector;
mod payload;
mod probe;
mod process;
mod progress;
mod publisher;
mod random;
mod report;
mod retained;
mod retainer;
mod subscriber;
mod turn;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, ValueEnum};
use lapwing_client::{Address, ProtocolVersion};
use lapwing_net::BlockingStream;
use mio::Poll;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::cast::Casting;
use self::connection::{Login, Network};
use self::course::{Course, Plan};
use self::process::{Folder, Process};
use self::progress::progress;
use self::publisher::{Pace, QoSChoice};
use self::report::Report;
use crate::exit;

/// Judge whether a broker keeps its word.
///
/// Clients publish, and subscribers with durable sessions count what they get, while the broker is killed (with
/// COMMAND) or connections are cut (with --target), again and again. In the end nothing that the broker has acknowledged
/// may be missing, come twice at QoS 2 or out of order, and no session, subscription or retained message may be lost.
///
/// In COMMAND, {port} stands for the port to listen on, on 127.0.0.1, {data} for a folder that survives the kills,
/// and {config} for a copy of the file given with --config. COMMAND has to be the broker itself, or to `exec` it.
///
/// Exit codes: 0 if the broker has kept its word, 1 if not, 2 if that could not be found out.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("broker").required(true).args(["target", "command"])))]
pub(crate) struct Torture {
    /// Address of a broker that somebody else runs: its connections are cut, nothing is killed
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<Address>,
    /// What starts the broker, as in -- lapwing serve --listen 127.0.0.1:{port} --data {data}
    #[arg(last = true)]
    command: Vec<String>,
    /// The broker's configuration file: {port} and {data} in it are filled in
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    config: Option<PathBuf>,
    /// Version of the protocol
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5")]
    mqtt_version: Version,
    /// How often the broker is killed, or all connections are cut
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// The longest time of load in a round; the moment of its end is random
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// What the schedule is derived from; random without it, and printed first
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Publishers
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    publishers: u16,
    /// Flapping subscribers, beside one that is online and one that is offline
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=100))]
    flapping: u16,
    /// Messages of each publisher that may be unacknowledged at a time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Messages a second of each publisher; 0: as fast as the window allows
    #[arg(long, value_name = "N", default_value_t = 100)]
    rate: u32,
    /// Bytes of a payload; those that identify a message are there in any case
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    payload: u32,
    /// Quality of service of the messages
    #[arg(long, default_value = "mixed")]
    qos: QoSChoice,
    /// Single connections cut in a round, half-way through a packet perhaps [default: 20 with --target, else 0]
    #[arg(long, value_name = "N")]
    cuts: Option<u16>,
    /// Nothing more is expected when nothing new has come for that many seconds
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    quiet: f64,
    /// How long the broker may take from its start to its first CONNACK, in seconds
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    start_timeout: f64,
    /// Keep the broker's folder, its log included, and say where it is
    #[arg(long, conflicts_with = "target")]
    keep_data: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// Password; visible in the process list, and safer in the environment variable LAPWING_PASSWORD
    #[arg(short = 'P', long, value_name = "PASSWORD", env = "LAPWING_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Version {
    #[value(name = "3.1.1", alias = "311")]
    V311,
    #[value(name = "5", alias = "5.0")]
    V5,
}

/// The broker broke its word.
const BROKEN: u8 = 1;
/// It cannot be judged.
const NOT_JUDGED: u8 = 2;
/// How long each address of the target may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Cuts in a round against a broker that is not killed.
const CUTS: u16 = 20;

/// A time that is worth waiting for and does not overflow.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds is between 0.1 and 86400".to_owned())
}

impl Torture {
    pub(crate) fn run(self) -> ExitCode {
        match self.judge() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(BROKEN),
            Err(error) => exit::fail(&error, NOT_JUDGED),
        }
    }

    /// Whether the broker has kept its word.
    fn judge(self) -> anyhow::Result<bool> {
        let seed = self.seed.unwrap_or_else(random::fresh);
        progress(&format!("seed {seed}"));
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot handle signals")?;
        }
        let run = random::fresh() as u32;
        let process = match &self.target {
            Some(_) => None,
            None => {
                let folder = Folder::new(run, self.keep_data)?;
                Some(Process::prepare(&self.command, self.config.as_deref(), folder)?)
            }
        };
        let address = match (&process, &self.target) {
            (Some(process), _) => SocketAddr::from(([127, 0, 0, 1], process.port)),
            (None, Some(target)) => reachable(target)?,
            (None, None) => bail!("there is no broker to judge"),
        };
        if let Some(folder) = process.as_ref().and_then(Process::kept_folder) {
            progress(&format!("the broker's folder is {}", folder.display()));
        }
        let poll = Poll::new().context("cannot wait for sockets")?;
        let registry = poll.registry().try_clone().context("cannot wait for sockets")?;
        let buffer = vec![0; 64 * 1024].into();
        let network = Network { registry, address, origin: Instant::now(), buffer, is_up: false };
        let casting = self.casting(run, seed);
        let mut course = Course::new(self.plan(), casting, (poll, network), process, stop)?;
        course.run()?;
        self.tell(&self.report(seed, course))
    }

    fn plan(&self) -> Plan {
        let default = if self.target.is_some() { CUTS } else { 0 };
        Plan {
            rounds: self.rounds,
            length: Duration::from_secs_f64(self.seconds),
            cuts: self.cuts.unwrap_or(default).into(),
            quiet: Duration::from_secs_f64(self.quiet),
            start_timeout: Duration::from_secs_f64(self.start_timeout),
        }
    }

    fn casting(&self, run: u32, seed: u64) -> Casting {
        let version = match self.mqtt_version {
            Version::V311 => ProtocolVersion::V311,
            Version::V5 => ProtocolVersion::V5,
        };
        Casting {
            run,
            seed,
            publishers: self.publishers.into(),
            flapping: self.flapping.into(),
            pace: Pace {
                window: self.window.into(),
                interval: (self.rate > 0).then(|| Duration::from_secs(1) / self.rate),
                payload: self.payload as usize,
                qos: self.qos,
            },
            login: Login { version, user: self.user.clone(), password: self.password.clone() },
        }
    }

    fn report(&self, seed: u64, course: Course) -> Report {
        Report {
            seed,
            mqtt_version: if matches!(self.mqtt_version, Version::V311) { "3.1.1" } else { "5" },
            is_killed: course.process.is_some(),
            rounds: self.rounds,
            publishers: self.publishers.into(),
            window: self.window.into(),
            published: course.history.published(),
            acknowledged: course.history.acknowledged(),
            refused: course.history.refused(),
            loaded: course.loaded,
            restarts: course.restarts,
            probes: course.probes,
            retained_checks: course.retained.checks(),
            breaches: course.breaches,
        }
    }

    fn tell(&self, report: &Report) -> anyhow::Result<bool> {
        let text =
            if self.json { format!("{:#}\n", report.to_json()) } else { format!("\n{}", report.to_table()) };
        std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
        if report.acknowledged == 0 {
            bail!("the broker has acknowledged nothing: there is nothing to judge");
        }
        Ok(report.has_kept_word())
    }
}

/// The first of the target's addresses that answers.
fn reachable(target: &Address) -> anyhow::Result<SocketAddr> {
    let addresses = target.resolve().with_context(|| format!("{target}: the host name is not known"))?;
    let mut last = None;
    for address in addresses {
        match BlockingStream::dial(&Address::from(address), DIAL_TIMEOUT) {
            Ok(_) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("{target} stands for no address"), Into::into))
}
