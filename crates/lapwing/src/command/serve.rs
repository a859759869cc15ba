use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use lapwing_broker::hook::{Anonymous, Hooks};
use lapwing_broker::{Address, Broker, ListenerConfig, StoreConfig};
use lapwing_net::DEFAULT_PORT;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::admin;
use crate::config::{Config, Durability, LogLevel, variable};
use crate::store;

/// Run the broker.
///
/// Without any option it listens on port 1883 of this machine's loopback addresses. Ctrl-C or SIGTERM tells
/// every client and ends it; a second one ends it at once.
///
/// A key of the configuration, such as log.level, can be set in a file (--config), then in the environment
/// (LAPWING_LOG__LEVEL=debug: two underscores for each dot), then with --set log.level=debug; the later ones go
/// over the earlier ones. `lapwing config show` prints what holds.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen, instead of what the configuration says: tcp://HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Address>,
    /// The directory for what outlives the process; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Set a key of the configuration, as in limits.receive_maximum=100
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Fewer descriptors than these are worth a word at the start.
const FEW_DESCRIPTORS: u64 = 1024;

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(self.config.as_deref(), &self.set)?;
        log(config.log.level);
        for sentence in variable::unknown() {
            tracing::warn!("{sentence}");
        }
        raise_descriptors();
        let data = self.data.as_deref().or(config.data.as_deref());
        let store = store::open(&config.store, data)?;
        // Before the listeners, so that no signal finds the broker without a handler.
        let signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle signals")?;
        let listeners = listeners(&config, self.listen)?;
        let admin = admin::open(&config, data)?;
        let broker = start(&config, listeners, store)?;
        announce(&broker, &config);
        let admin = admin.map(|admin| admin.start(&broker, config.admin.metrics_public)).transpose()?;
        let signal = wait(&broker, signals)?;
        tracing::info!("shutting down on {}: clients are told", signal_name(signal).unwrap_or("a signal"));
        // First, so that nobody asks a broker that is stopping.
        drop(admin);
        broker.shut_down().context("the broker did not stop properly")?;
        tracing::info!("stopped");
        Ok(())
    }
}

fn log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // What libraries say by way of `log`: as a rule only what is wrong.
    log::set_max_level(match level {
        tracing::Level::TRACE => log::LevelFilter::Trace,
        tracing::Level::DEBUG => log::LevelFilter::Debug,
        tracing::Level::ERROR => log::LevelFilter::Error,
        _ => log::LevelFilter::Warn,
    });
}

/// Every connection takes a descriptor: as many as the system gives.
fn raise_descriptors() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < FEW_DESCRIPTORS => {
            tracing::warn!(
                limit,
                "few file descriptors: about that many clients can connect; raise the limit with `ulimit -n`"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of file descriptors cannot be raised"),
    }
}

fn start(
    config: &Config,
    listeners: Vec<ListenerConfig>,
    store: Option<StoreConfig>,
) -> anyhow::Result<Broker> {
    Ok(Broker::start(lapwing_broker::Config {
        listeners,
        sharding: config.sharding.clone(),
        limits: config.limits.clone(),
        rules: config.rules.clone(),
        explain: config.explain.clone(),
        hooks: Hooks { authenticator: Arc::new(config.authentication.anonymous), ..Hooks::default() },
        store,
    })?)
}

/// Where to listen: what the command line says, or else the configuration, or else the loopback addresses of this machine,
/// which may have no IPv6.
fn listeners(config: &Config, listen: Vec<Address>) -> anyhow::Result<Vec<ListenerConfig>> {
    if !listen.is_empty() {
        // Whatever needs to call them by a name has the address.
        return Ok(listen.into_iter().map(|it| ListenerConfig::new(it.to_string(), it)).collect());
    }
    let configured = config.listeners()?;
    if !configured.is_empty() {
        return Ok(configured);
    }
    let hosts = if lapwing_net::has_ipv6() { &["127.0.0.1", "::1"][..] } else { &["127.0.0.1"] };
    let listener = |host: &&str| ListenerConfig::new("default", Address::new(*host, DEFAULT_PORT));
    Ok(hosts.iter().map(listener).collect())
}

fn announce(broker: &Broker, config: &Config) {
    tracing::info!("Lapwing {}", env!("CARGO_PKG_VERSION"));
    for address in broker.listening() {
        tracing::info!("listening on {address}");
    }
    match config.authentication.anonymous {
        Anonymous::None => tracing::info!("no client is let in: authentication.anonymous is \"none\""),
        Anonymous::Loopback => tracing::info!(
            "clients on this machine are let in, whatever user name and password they present; all others are refused"
        ),
        Anonymous::All => tracing::warn!(
            "everybody who can reach these addresses is let in: authentication.anonymous is \"all\""
        ),
    }
    match config.store.durability {
        Durability::Fsync => {}
        Durability::Os => tracing::warn!(
            "acknowledged messages survive the end of this process, but not of the system: store.durability is \"os\""
        ),
        Durability::Memory => {
            tracing::warn!("sessions and messages end with this process: store.durability is \"memory\"");
        }
    }
}

/// Returns when the broker is to stop: with the signal that says so.
fn wait(broker: &Broker, mut signals: Signals) -> anyhow::Result<i32> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 || sender.send(signal).is_err() {
                // As a shell reports a process that the signal has ended.
                std::process::exit(128 + signal);
            }
        }
    })?;
    loop {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) if broker.is_running() => {}
            Err(RecvTimeoutError::Timeout) => bail!("the broker has stopped by itself; the log says why"),
            Err(RecvTimeoutError::Disconnected) => bail!("signals are not heard any more"),
            Ok(signal) => return Ok(signal),
        }
    }
}
