//! The course of a run: load, the end of the broker or of its connections, what it has afterwards, and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lapwing_client::Address;
use lapwing_net::BlockingStream;
use mio::{Events, Poll, Token};

use super::breach::{Breach, Breaches};
use super::cast::{Cast, Casting, RETAINED_TOPICS};
use super::connection::{Connection, Network};
use super::history::History;
use super::inspector::Inspector;
use super::process::Process;
use super::progress::progress;
use super::publisher::Publisher;
use super::random::Random;
use super::retained::RetainedTopics;
use super::subscriber::Subscriber;
use super::turn::Turn;

/// The longest that the loop waits for sockets: publishers with a rate look at the clock that often.
const TICK: Duration = Duration::from_millis(1);
/// After that long without a retained message more are not expected.
const RETAINED_QUIET: Duration = Duration::from_millis(300);
/// The same where one is missing.
const MISSING_QUIET: Duration = Duration::from_secs(2);
/// What comes again though nothing is missing is waited for that long.
const DUPLICATE_QUIET: Duration = Duration::from_millis(500);
/// The probe's subscription is that old at most when the end comes.
const PROBE_AGE: Duration = Duration::from_millis(20);
/// How long to wait for connections whose other end is gone.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// How long a port that nobody should listen on is tried.
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a broker that ends by itself is started again in the end.
const REVIVALS: usize = 3;
/// Of the purposes for which there is chance.
const COURSE: u64 = 4 << 32;

/// How it goes.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) rounds: u64,
    /// The longest that a round has load before its end.
    pub(super) length: Duration,
    /// Connections that are cut in a round.
    pub(super) cuts: usize,
    /// Without anything new for that long, nothing more is expected.
    pub(super) quiet: Duration,
    /// How long the broker may take from its start to CONNACK.
    pub(super) start_timeout: Duration,
}

pub(super) struct Course {
    plan: Plan,
    poll: Poll,
    events: Events,
    network: Network,
    /// `None` where somebody else runs the broker.
    pub(super) process: Option<Process>,
    /// Whether the broker has ended by itself and not been started since.
    is_dead: bool,
    stop: Arc<AtomicBool>,
    random: Random,
    cast: Cast,
    round: u64,
    is_load_on: bool,
    /// When connections are cut in this round, the last one first.
    cuts: Vec<Instant>,
    pub(super) history: History,
    pub(super) retained: RetainedTopics,
    pub(super) breaches: Breaches,
    /// From each start after a kill to CONNACK.
    pub(super) restarts: Vec<Duration>,
    /// Probes whose fate was judged.
    pub(super) probes: u64,
    /// How long there was load.
    pub(super) loaded: Duration,
}

impl Course {
    pub(super) fn new(
        plan: Plan,
        casting: Casting,
        network: (Poll, Network),
        process: Option<Process>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let mut history = History::new(casting.run, casting.publishers);
        let random = Random::new(casting.seed, COURSE);
        let cast = Cast::new(casting, &mut history)?;
        let (poll, network) = network;
        Ok(Self {
            plan,
            poll,
            events: Events::with_capacity(1024),
            network,
            process,
            is_dead: false,
            stop,
            random,
            cast,
            round: 0,
            is_load_on: false,
            cuts: Vec::new(),
            history,
            retained: RetainedTopics::new(RETAINED_TOPICS),
            breaches: Breaches::default(),
            restarts: Vec::new(),
            probes: 0,
            loaded: Duration::ZERO,
        })
    }

    /// All of it, up to the last judgement.
    ///
    /// # Errors
    /// Nothing can be judged: the broker cannot be started or lets nobody in, or somebody has interrupted it.
    pub(super) fn run(&mut self) -> Result<()> {
        self.start()?;
        self.gather()?;
        let began = Instant::now();
        self.is_load_on = true;
        let mut is_there = true;
        for round in 1..=self.plan.rounds {
            self.round = round;
            is_there = self.round()?;
            self.loaded = began.elapsed();
            if !is_there {
                break;
            }
        }
        self.is_load_on = false;
        if is_there && self.drain()? {
            self.history.judge_losses(&mut self.breaches);
        }
        if self.process.is_none() {
            self.clean_up()?;
        }
        Ok(())
    }

    /// Starts the broker for the first time, or sees that it is there.
    fn start(&mut self) -> Result<()> {
        let began = Instant::now();
        if let Some(process) = &mut self.process {
            process.start()?;
        }
        if self.await_connack(began)?.is_some() {
            return Ok(());
        }
        let refusal = self.cast.herald.as_ref().and_then(|herald| herald.refusal);
        let said = self.process.as_ref().map(Process::last_words).unwrap_or_default();
        match refusal {
            Some(code) => bail!("the broker lets no client in: {code}"),
            None if self.is_dead => bail!("the broker ended before it answered CONNECT: {said}"),
            None => bail!("the broker did not answer CONNECT within {:?} {said}", self.plan.start_timeout),
        }
    }

    /// All clients connect, and the subscribers subscribe; then one of them leaves.
    fn gather(&mut self) -> Result<()> {
        let limit = self.plan.start_timeout;
        let is_ready = |course: &mut Self| {
            let is_refused = course.cast.subscribers.iter().any(|subscriber| subscriber.is_refused);
            let are_subscribed = course.cast.subscribers.iter().all(Subscriber::is_subscribed);
            is_refused || are_subscribed && course.cast.durable().all(|one| one.session.is_connected())
        };
        let is_ready = self.turns_until(limit, is_ready)?;
        if self.cast.subscribers.iter().any(|subscriber| subscriber.is_refused) {
            bail!("the broker does not grant the subscriptions their QoS; `--qos 1` does without QoS 2");
        }
        if !is_ready {
            let missing = self.cast.durable().find(|connection| !connection.session.is_connected());
            let refusal = missing.and_then(|connection| connection.refusal);
            let why = refusal.map_or(String::new(), |code| format!(": {code}"));
            bail!("not all clients could connect and subscribe within {limit:?}{why}");
        }
        for subscriber in self.cast.subscribers.iter_mut().filter(|subscriber| subscriber.is_offline()) {
            subscriber.connection.leave();
        }
        self.turns_until(LAST_BYTES, |course| {
            let mut offline = course.cast.subscribers.iter().filter(|subscriber| subscriber.is_offline());
            offline.all(|subscriber| subscriber.connection.is_closed())
        })?;
        Ok(())
    }

    /// `false` if the broker did not come back.
    fn round(&mut self) -> Result<bool> {
        self.history.begin_round();
        let acknowledged = self.history.acknowledged();
        let began = Instant::now();
        self.load(began)?;
        let loaded = began.elapsed();
        self.end()?;
        let Some(back) = self.come_back()? else { return Ok(false) };
        self.inspect()?;
        let acknowledged = self.history.acknowledged() - acknowledged;
        let (round, rounds) = (self.round, self.plan.rounds);
        let what = if self.process.is_some() { "killed" } else { "cut off" };
        progress(&format!(
            "round {round} of {rounds}: {what} after {:.2} s, back after {} ms, {acknowledged} acknowledged",
            loaded.as_secs_f64(),
            back.as_millis()
        ));
        Ok(true)
    }

    /// Load, and a probe at its end.
    fn load(&mut self, began: Instant) -> Result<()> {
        let length = self.random.duration(self.plan.length / 4, self.plan.length);
        let cuts = (0..self.plan.cuts).map(|_| began + self.random.duration(Duration::ZERO, length));
        self.cuts = cuts.collect();
        self.cuts.sort_unstable_by(|one, other| other.cmp(one));
        self.turns_until(length, |_| false)?;
        self.cast.send_probe(self.round)?;
        self.turns_until(self.plan.quiet, |course| {
            course.cast.probe.as_ref().is_some_and(|probe| probe.is_subscribed)
        })?;
        let age = self.random.duration(Duration::ZERO, PROBE_AGE);
        self.turns_until(age, |_| false)?;
        Ok(())
    }

    /// Kills the broker, or cuts all connections at once. What the broker had sent before is still heard.
    fn end(&mut self) -> Result<()> {
        self.cast.retainer.connection.is_wanted = false;
        self.cuts.clear();
        match &mut self.process {
            Some(process) => {
                process.kill();
                self.network.is_up = false;
                self.turns_until(LAST_BYTES, |course| course.cast.all().all(|one| one.is_closed()))?;
                let address = Address::from(self.network.address);
                if BlockingStream::dial(&address, DIAL_TIMEOUT).is_ok() {
                    bail!(
                        "somebody still listens on {address} after COMMAND was killed, and has to be ended by hand: COMMAND \
                         must be the broker itself; a script has to `exec` it"
                    );
                }
            }
            None => {
                let now = Instant::now();
                self.cast.all().for_each(|connection| connection.abort(now));
            }
        }
        Ok(())
    }

    /// Starts the broker again. From its start to CONNACK, or `None` if it does not get there.
    fn come_back(&mut self) -> Result<Option<Duration>> {
        let began = Instant::now();
        if let Some(process) = &mut self.process {
            process.start()?;
        }
        self.is_dead = false;
        let back = self.await_connack(began)?;
        match back {
            Some(back) if self.process.is_some() => self.restarts.push(back),
            Some(_) => {}
            None => {
                let (round, limit) = (self.round, self.plan.start_timeout);
                let said = self.process.as_ref().map(Process::last_words).unwrap_or_default();
                self.breaches.add(Breach::NotBack, || {
                    format!("no CONNACK within {limit:?} after the end of round {round} {said}")
                        .trim_end()
                        .to_owned()
                });
            }
        }
        Ok(back)
    }

    /// Everybody else waits until the broker, started at `began`, has answered one CONNECT; how long that took.
    fn await_connack(&mut self, began: Instant) -> Result<Option<Duration>> {
        self.network.is_up = false;
        self.cast.send_herald()?;
        let is_there = |course: &mut Self| {
            course.cast.herald.as_ref().is_some_and(|herald| herald.session.is_connected())
        };
        if !self.turns_until(self.plan.start_timeout, is_there)? {
            return Ok(None);
        }
        self.network.is_up = true;
        let back = began.elapsed();
        if let Some(herald) = &mut self.cast.herald {
            herald.leave();
        }
        self.turn()?;
        self.cast.herald = None;
        Ok(Some(back))
    }

    /// Looks at the retained messages, which nobody changes meanwhile, and at the probe.
    fn inspect(&mut self) -> Result<()> {
        self.cast.send_inspector(self.round)?;
        let is_subscribed = |course: &mut Self| {
            let probe = course.cast.probe.as_ref();
            course.cast.inspector.as_ref().is_some_and(Inspector::is_subscribed)
                && probe.is_none_or(|probe| !probe.is_subscribed || probe.resumed.is_some())
        };
        if self.turns_until(self.plan.quiet, is_subscribed)? {
            let probe = self.cast.probe.as_ref().filter(|probe| probe.resumed == Some(true));
            if let (Some(probe), Some(inspector)) = (probe, &mut self.cast.inspector) {
                inspector.call(&probe.topic);
            }
            self.turns_until(self.plan.quiet, Self::has_seen_all)?;
            self.judge_retained();
        }
        self.judge_probe();
        for connection in [
            self.cast.inspector.as_mut().map(|inspector| &mut inspector.connection),
            self.cast.probe.as_mut().map(|probe| &mut probe.connection),
        ] {
            connection.into_iter().for_each(Connection::leave);
        }
        self.turn()?;
        (self.cast.inspector, self.cast.probe) = (None, None);
        self.cast.retainer.connection.is_wanted = true;
        Ok(())
    }

    fn has_seen_all(&mut self) -> bool {
        let Some(inspector) = &self.cast.inspector else { return true };
        let quiet = inspector.heard_at.elapsed();
        let is_there = |topic| inspector.versions.contains_key(&topic) || !self.retained.is_due(topic);
        let is_whole = || (0..self.retained.len()).all(is_there);
        let probe = self.cast.probe.as_ref().filter(|probe| probe.resumed == Some(true));
        probe.is_none_or(|probe| probe.has_heard)
            && (quiet >= MISSING_QUIET || quiet >= RETAINED_QUIET && is_whole())
    }

    fn judge_retained(&mut self) {
        let Some(inspector) = &self.cast.inspector else { return };
        for topic in 0..self.retained.len() {
            let state = inspector.versions.get(&topic).copied();
            if let Some((breach, example)) = self.retained.check(topic, state) {
                self.breaches.add(breach, || format!("{example}, in round {}", self.round));
            }
        }
    }

    fn judge_probe(&mut self) {
        let Some(probe) = self.cast.probe.as_ref().filter(|probe| probe.is_subscribed) else { return };
        self.probes += 1;
        let example = || format!("{}, made in round {}", probe.connection.client_id(), self.round);
        if probe.resumed != Some(true) {
            self.breaches.add(Breach::ProbeSessionLost, example);
        }
        if !probe.has_heard {
            self.breaches.add(Breach::ProbeSubscriptionLost, example);
        }
    }

    /// Nobody publishes any more, and everybody is there until nothing is missing, or nothing comes. `false` if the
    /// broker is not there for it.
    fn drain(&mut self) -> Result<bool> {
        for subscriber in &mut self.cast.subscribers {
            subscriber.connection.is_wanted = true;
        }
        let mut last = (self.history.progress(), Instant::now());
        let mut revivals = 0;
        while !self.is_drained() && last.1.elapsed() < self.plan.quiet {
            self.turn()?;
            let progress = self.history.progress();
            if self.is_dead {
                revivals += 1;
                if revivals > REVIVALS || self.come_back()?.is_none() {
                    return Ok(false);
                }
                last.1 = Instant::now();
            } else if progress != last.0 {
                last = (progress, Instant::now());
            }
        }
        let mut last = (self.history.deliveries(), Instant::now());
        self.turns_until(self.plan.quiet, |course| {
            let deliveries = course.history.deliveries();
            if deliveries != last.0 {
                last = (deliveries, Instant::now());
            }
            last.1.elapsed() >= DUPLICATE_QUIET
        })?;
        Ok(true)
    }

    fn is_drained(&mut self) -> bool {
        self.history.is_complete()
            && self.cast.publishers.iter().all(Publisher::is_done)
            && self.cast.durable().all(|connection| connection.session.is_connected())
    }

    /// Leaves nothing in a broker that others use: no session, no retained message.
    fn clean_up(&mut self) -> Result<()> {
        let now = Instant::now();
        for connection in self.cast.all() {
            connection.is_wanted = false;
            connection.abort(now);
        }
        let mut successors = self.cast.successors()?;
        let topics = self.cast.retained_topics().to_vec();
        if let Some(first) = successors.first_mut() {
            for topic in &topics {
                let mut deletion = lapwing_client::Publish::new(topic.as_name(), b"");
                (deletion.qos, deletion.retain) = (lapwing_client::QoS::AtLeastOnce, true);
                // Without it the message stays there, which is no breach.
                let _ = first.session.publish(&deletion);
            }
        }
        while now.elapsed() < self.plan.quiet {
            self.wait(&mut successors)?;
            let time = Instant::now();
            for connection in &mut successors {
                connection.advance(&mut self.network, time);
                while connection.poll_event().is_some() {}
                let is_done = connection.session.is_connected() && connection.session.stored_messages() == 0;
                if is_done {
                    connection.leave();
                }
                connection.flush(&self.network, time);
            }
            successors.retain(|connection| connection.is_wanted || !connection.is_closed());
            if successors.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Goes on until `is_met`, the broker has ended by itself, or `limit` is over; whether it is met.
    fn turns_until(&mut self, limit: Duration, mut is_met: impl FnMut(&mut Self) -> bool) -> Result<bool> {
        let began = Instant::now();
        loop {
            if is_met(self) {
                return Ok(true);
            }
            if self.is_dead || began.elapsed() >= limit {
                return Ok(false);
            }
            self.turn()?;
        }
    }

    fn turn(&mut self) -> Result<()> {
        self.watch();
        self.wait(&mut [])?;
        let now = Instant::now();
        while self.cuts.last().is_some_and(|&at| at <= now) {
            self.cuts.pop();
            self.cast.cut_one(&mut self.random, now);
        }
        let mut turn = Turn {
            now,
            round: self.round,
            is_load_on: self.is_load_on,
            history: &mut self.history,
            retained: &mut self.retained,
            breaches: &mut self.breaches,
        };
        self.cast.turn(&mut self.network, &mut turn);
        Ok(())
    }

    /// Waits for sockets, those of `others` as well.
    fn wait(&mut self, others: &mut [Connection]) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let is_busy =
            self.cast.all().any(|connection| connection.is_busy()) || others.iter().any(Connection::is_busy);
        let timeout = if is_busy { Duration::ZERO } else { TICK };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            result => result.context("cannot wait for sockets")?,
        }
        let ready: BTreeSet<Token> = self.events.iter().map(mio::event::Event::token).collect();
        let all = self.cast.all().chain(others.iter_mut());
        all.filter(|connection| ready.contains(&connection.token())).for_each(Connection::ready);
        Ok(())
    }

    /// Notices when the broker ends by itself.
    fn watch(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Some(status) = process.ended() else { return };
        (self.is_dead, self.network.is_up) = (true, false);
        let (said, round) = (process.last_words(), self.round);
        self.breaches
            .add(Breach::Died, || format!("with {status}, in round {round} {said}").trim_end().to_owned());
    }
}
