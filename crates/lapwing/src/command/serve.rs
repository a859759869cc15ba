use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use lapwing_api::{EventStream, Reload};
use lapwing_auth::Security;
use lapwing_broker::hook::Hooks;
use lapwing_broker::{Address, Ban, Broker, ListenerConfig, StoreConfig};
use lapwing_net::{DEFAULT_PORT, ServiceState, notify_service_manager};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::admin::{self, Admin};
use crate::config::{Config, Durability, variable};
use crate::reload::{Reloader, Source};
use crate::watch::Watch;
use crate::{log, memory, security, store};

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
    /// Where to listen, instead of what the configuration says: tcp://HOST:PORT,
    /// ws://HOST:PORT/PATH or unix:PATH; port 0 takes a free one. TLS needs the configuration
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
/// How often the files of certificates are looked at.
const CERTIFICATE_INTERVAL_S: u64 = 5;

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let source = Source { file: self.config, settings: self.set };
        let mut watch = Watch::new(source.file.as_deref());
        let config = source.load()?;
        memory::check(&config)?;
        watch.add(&config);
        let log = log::start(&config.log);
        for sentence in variable::unknown() {
            tracing::warn!("{sentence}");
        }
        raise_descriptors();
        let security = Security::open(security::config(&config))?;
        let data = self.data.as_deref().or(config.data.as_deref());
        let store = store::open(&config.store, data)?;
        // Before the listeners, so that no signal finds the broker without a handler.
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
        let listeners = listeners(&config, self.listen)?;
        let admin = admin::open(&config, data)?;
        let bans = admin.as_ref().map(Admin::bans).transpose()?.unwrap_or_default();
        let events = Arc::new(EventStream::default());
        let broker = start(&config, listeners, bans, &security, store, &events)?;
        announce(&broker, &config, &security);
        let metrics_public = config.admin.metrics_public;
        let metrics = security::metrics(&security);
        let watch = config.reload.watch.then_some(watch);
        let reloader = Arc::new(Reloader::new(source, config, security, broker.control(), log));
        let reload = events.of_reload(reloader);
        let start = |admin: Admin| admin.start(&broker, metrics_public, metrics, Arc::clone(&reload), events);
        let admin = admin.map(start).transpose()?;
        tell_service_manager(ServiceState::Ready);
        let signal = wait(&broker, signals, &*reload, watch)?;
        tell_service_manager(ServiceState::Stopping);
        tracing::info!("shutting down on {}: clients are told", signal_name(signal).unwrap_or("a signal"));
        // First, so that nobody asks a broker that is stopping.
        drop(admin);
        broker.shut_down().context("the broker did not stop properly")?;
        tracing::info!("stopped");
        Ok(())
    }
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
    bans: Vec<Ban>,
    security: &Security,
    store: Option<StoreConfig>,
    events: &Arc<EventStream>,
) -> anyhow::Result<Broker> {
    Ok(Broker::start(lapwing_broker::Config {
        listeners,
        sharding: config.sharding.clone(),
        limits: config.limits.clone(),
        listener_limits: config.listener_limits(),
        bans,
        rules: config.rules.clone(),
        explain: config.explain.clone(),
        hooks: Hooks {
            authenticator: Arc::new(security.clone()),
            authorizer: Arc::new(security.clone()),
            observer: Some(Arc::<EventStream>::clone(events)),
            ..Hooks::default()
        },
        memory: memory::budget(config),
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

fn announce(broker: &Broker, config: &Config, security: &Security) {
    tracing::info!("Lapwing {}", env!("CARGO_PKG_VERSION"));
    for address in broker.listening() {
        tracing::info!("listening on {address}");
    }
    security::announce(security);
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

/// Tells whoever has started the process, if it wants to be told.
fn tell_service_manager(state: ServiceState) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = notify_service_manager(&socket, state) {
        tracing::warn!(%error, "the service manager cannot be told at NOTIFY_SOCKET");
    }
}

/// Returns when the broker is to stop: with the signal that says so. SIGHUP lets it read its configuration anew, and so
/// does a change of its files where they are watched.
fn wait(
    broker: &Broker,
    mut signals: Signals,
    reload: &dyn Reload,
    mut watch: Option<Watch>,
) -> anyhow::Result<i32> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            let is_reload = signal == SIGHUP;
            if is_stopping && is_reload {
                continue;
            }
            if is_stopping || sender.send(signal).is_err() {
                // As a shell reports a process that the signal has ended.
                std::process::exit(128 + signal);
            }
            is_stopping = !is_reload;
        }
    })?;
    let control = broker.control();
    for second in 1_u64.. {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Timeout) if broker.is_running() => {
                memory::observe();
                if second.is_multiple_of(CERTIFICATE_INTERVAL_S) {
                    control.refresh_certificates(false);
                }
                if watch.as_mut().is_some_and(Watch::look) {
                    tracing::info!("the configuration or a file that it names has changed");
                    drop(reload.reload());
                }
            }
            Err(RecvTimeoutError::Timeout) => bail!("the broker has stopped by itself; the log says why"),
            Err(RecvTimeoutError::Disconnected) => bail!("signals are not heard any more"),
            // What is wrong is in the log.
            Ok(SIGHUP) => {
                // Before: what changes meanwhile is not missed.
                watch.iter_mut().for_each(Watch::note_read);
                drop(reload.reload());
            }
            Ok(signal) => return Ok(signal),
        }
    }
    bail!("signals are not heard any more")
}
