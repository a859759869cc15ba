//! What durable sessions cost when there are very many of them, or very much waits for them. `bench/README.md` says what is
//! measured.

mod broker;
mod client;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use self::broker::{Broker, Setup};
use self::client::Client;
use crate::bench::machine::{self, Machine};
use crate::bench::option::{file_name, number};
use crate::bench::peer;
use crate::command;
use crate::repository::{self, Repository};

const FOLDER: &str = "bench/scale";
const PAYLOAD: [u8; 64] = [b'm'; 64];
/// Clients at a time that begin sessions: one sync is for all of them.
const CLIENTS: usize = 256;
/// Messages that a publisher sends before it waits for the first acknowledgement.
const WINDOW: usize = 100;

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    sessions: usize,
    /// Sessions that all get the same messages, and how many.
    queues: usize,
    queued: usize,
    name: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { sessions: 1_000_000, queues: 1000, queued: 10_000, name: None };
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("`{argument}` needs a value"))?;
            match argument {
                "--sessions" => options.sessions = number(argument, value)?,
                "--queues" => options.queues = number(argument, value)?,
                "--queued" => options.queued = number(argument, value)?,
                "--name" => options.name = Some(file_name(value)?),
                _ => bail!("`scale` has no option `{argument}`"),
            }
        }
        if options.sessions < 2000 || options.queues == 0 || options.queued == 0 {
            bail!("`--sessions` must be at least 2000, `--queues` and `--queued` at least 1");
        }
        Ok(options)
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = repository::root()?.join(FOLDER);
    let repository = Repository::load()?;
    let program = peer::lapwing(&repository)?;
    let scratch = repository.target.join("scale");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let date = machine::today()?;
    let name = options.name.clone().unwrap_or_else(|| date.clone());
    let results = json!({
        "date": date,
        "machine": Machine::this()?.to_json(),
        "throughput": throughput(&program, &scratch)?,
        "sessions": sessions(&program, &scratch, options.sessions)?,
        "queue": backlog(&program, &scratch, 1, options.queues * options.queued / 10)?,
        "queues": backlog(&program, &scratch, options.queues, options.queued)?,
    });
    fs::remove_dir_all(&scratch)?;
    fs::create_dir_all(&folder)?;
    let write = |path: PathBuf, text: String| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&results)? + "\n")?;
    write(folder.join(format!("{name}.md")), page::page(&results))?;
    println!("{FOLDER}/{name}.md is written");
    Ok(ExitCode::SUCCESS)
}

/// Durable messages per second from 100 publishers, beside what the engine takes by itself.
fn throughput(program: &Path, scratch: &Path) -> Result<Value> {
    const PUBLISHERS: usize = 100;
    const EACH: usize = 10_000;
    let mut store = command::cargo("run");
    store
        .args(["--quiet", "--release", "--package", "lapwing-store", "--example", "store_bench", "--"])
        .arg(scratch);
    let engine = command::output(&mut store)?;
    let alone = engine.lines().find(|line| line.trim_start().starts_with("1024 per batch"));
    let alone = alone.and_then(|line| line.split_once(':')?.1.split_whitespace().next()?.parse::<f64>().ok());
    let alone = alone.context("the store's benchmark prints no figure for 1024 messages per batch")?;
    let setup = Setup::empty(program, scratch)?;
    let (broker, _) = setup.start()?;
    leave_sessions(broker.port, 0..PUBLISHERS)?;
    let payload = [b'm'; 256];
    let (start, before) = (Instant::now(), broker.processor_time()?);
    in_parallel(PUBLISHERS, PUBLISHERS, |index| {
        let topics = [format!("d/{index}")];
        publish(broker.port, index, EACH, &payload, |_| &topics[0])
    })?;
    let (took, used) = (start.elapsed(), broker.processor_time()? - before);
    let per_s = (PUBLISHERS * EACH) as f64 / took.as_secs_f64();
    println!("throughput: {per_s:.0} durable messages/s; the engine alone, 1024 a batch: {alone:.0}");
    Ok(json!({
        "publishers": PUBLISHERS, "window": WINDOW, "messages": PUBLISHERS * EACH, "payload_bytes": payload.len(),
        "messages_per_s": per_s, "engine_messages_per_s": alone, "ratio": per_s / alone,
        "cpu_us_per_message": micros(used, PUBLISHERS * EACH),
    }))
}

/// Very many sessions that are away, with a subscription each.
fn sessions(program: &Path, scratch: &Path, count: usize) -> Result<Value> {
    const FEW: usize = 1000;
    let setup = Setup::empty(program, scratch)?;
    let (broker, _) = setup.start()?;
    leave_sessions(broker.port, 0..FEW)?;
    let with_few = cost_of_publish(&broker, FEW)?;
    let before = broker.memory()?.0;
    let start = Instant::now();
    leave_sessions(broker.port, FEW..count)?;
    let begun_per_s = (count - FEW) as f64 / start.elapsed().as_secs_f64();
    let each = (broker.memory()?.0.saturating_sub(before)) as f64 / (count - FEW) as f64;
    let with_all = cost_of_publish(&broker, count)?;
    println!(
        "sessions: {count}, {each:.0} bytes each; a publish {with_few:.1} µs with {FEW}, {with_all:.1} µs with all"
    );
    broker.kill()?;
    let (broker, restart) = setup.start()?;
    let (resident, peak) = broker.memory()?;
    let again = cost_of_publish(&broker, count)?;
    println!("sessions: {:.2} s from the start to the first CONNACK", restart.as_secs_f64());
    Ok(json!({
        "sessions": count, "begun_per_s": begun_per_s, "bytes_per_session": each,
        "cpu_us_per_publish_few": with_few, "few": FEW, "cpu_us_per_publish": with_all, "ratio": with_all / with_few,
        "restart_s": restart.as_secs_f64(), "resident_after_restart": resident, "peak_after_restart": peak,
        "bytes_per_session_after_restart": resident as f64 / count as f64,
        "cpu_us_per_publish_after_restart": again,
    }))
}

/// Messages that wait for `queues` sessions, `queued` for each; then a crash, and all of them are fetched.
fn backlog(program: &Path, scratch: &Path, queues: usize, queued: usize) -> Result<Value> {
    let setup = Setup::empty(program, scratch)?;
    let (broker, _) = setup.start()?;
    in_parallel(queues, CLIENTS, |index| {
        Client::leave_session(broker.port, &format!("q{index}"), index, "backlog")
    })?;
    let start = Instant::now();
    publish(broker.port, 0, queued, &PAYLOAD, |_| "backlog")?;
    let filled = start.elapsed();
    let peak_filling = broker.memory()?.1;
    broker.kill()?;
    let (broker, restart) = setup.start()?;
    let port = broker.port;
    let resident = broker.memory()?.0;
    let (start, before) = (Instant::now(), broker.processor_time()?);
    let client = Client::connect(port, "q0", 0)?;
    let first_connack = start.elapsed();
    drop(client);
    in_parallel(queues, 8, |index| fetch(port, index, queued))?;
    let (drained, used) = (start.elapsed(), broker.processor_time()? - before);
    let peak = broker.memory()?.1;
    let all = queues * queued;
    println!(
        "backlog {queues} × {queued}: restart {:.2} s, CONNACK of a queue {:.3} s, {:.0} messages/s fetched, at most {} MiB",
        restart.as_secs_f64(),
        first_connack.as_secs_f64(),
        all as f64 / drained.as_secs_f64(),
        peak >> 20,
    );
    Ok(json!({
        "queues": queues, "queued": queued, "fill_s": filled.as_secs_f64(), "peak_filling": peak_filling,
        "restart_s": restart.as_secs_f64(), "queue_connack_s": first_connack.as_secs_f64(),
        "resident_after_restart": resident, "peak_draining": peak,
        "drained_per_s": all as f64 / drained.as_secs_f64(), "cpu_us_per_message": micros(used, all),
    }))
}

/// Processor time of a publish that one session among `count` gets, in microseconds.
fn cost_of_publish(broker: &Broker, count: usize) -> Result<f64> {
    const MESSAGES: usize = 50_000;
    // The first ones are for what happens only once.
    let topics: Vec<_> = (0..1000).map(|index| format!("d/{}", index * (count / 1000))).collect();
    let topic = |index: usize| &*topics[index % topics.len()];
    publish(broker.port, 0, 5000, &PAYLOAD, topic)?;
    let before = broker.processor_time()?;
    publish(broker.port, 0, MESSAGES, &PAYLOAD, topic)?;
    Ok(micros(broker.processor_time()? - before, MESSAGES))
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

fn leave_sessions(port: u16, numbers: std::ops::Range<usize>) -> Result<()> {
    let first = numbers.start;
    in_parallel(numbers.len(), CLIENTS, |index| {
        let number = first + index;
        Client::leave_session(port, &format!("s{number}"), number, &format!("d/{number}"))
    })
}

/// Publishes at QoS 1, and waits until all is acknowledged.
fn publish<'a>(
    port: u16,
    number: usize,
    count: usize,
    payload: &[u8],
    topic: impl Fn(usize) -> &'a str,
) -> Result<()> {
    let mut client = Client::connect(port, &format!("publisher-{number}"), number)?;
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count {
        while sent < count && sent - acknowledged < WINDOW {
            client.put_publish(topic(sent), payload);
            sent += 1;
        }
        client.flush()?;
        loop {
            client.take_puback()?;
            acknowledged += 1;
            if !client.has_more() {
                break;
            }
        }
    }
    Ok(())
}

/// Takes what waits for a session, and acknowledges it.
fn fetch(port: u16, number: usize, count: usize) -> Result<()> {
    let mut client = Client::connect(port, &format!("q{number}"), number)?;
    for index in 1..=count {
        let publish = client.take_publish().with_context(|| format!("message {index} of q{number}"))?;
        client.put_puback(&publish)?;
        if !client.has_more() {
            client.flush()?;
        }
    }
    client.flush()
}

/// Does something for each number below `count`, `threads` of them at a time.
fn in_parallel(count: usize, threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let one = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return Ok(());
        }
        work(index)?;
    };
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(one)).collect();
        handles.into_iter().try_for_each(|handle| handle.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Options::parse(&[]).unwrap().sessions, 1_000_000);
        assert_eq!(Options::parse(&["--queued", "5"]).unwrap().queued, 5);
        for wrong in [&["--sessions", "10"][..], &["--queues", "0"], &["--queued"], &["--rounds", "1"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_number_has_its_turn_and_an_error_is_told() {
        let sum = AtomicUsize::new(0);
        let add = |index| {
            sum.fetch_add(index, Ordering::Relaxed);
            Ok(())
        };
        in_parallel(100, 7, add).unwrap();
        assert_eq!(sum.into_inner(), 4950);
        assert!(in_parallel(10, 3, |index| if index == 9 { bail!("nine") } else { Ok(()) }).is_err());
    }
}
