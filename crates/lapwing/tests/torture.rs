//! `lapwing torture` as a process, against brokers that keep their word and others.

mod broker;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use broker::liar::{self, Lie};
use broker::peer::{Peer, name};
use broker::{Broker, SOON, failure, lapwing};
use lapwing_proto::packet::{Packet, ProtocolVersion, QoS};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lapwing");

/// `lapwing torture` with a small load.
fn torture(arguments: &[&str]) -> Command {
    let mut command = lapwing();
    command.args(["torture", "--json", "--seed", "7", "--publishers", "4", "--quiet", "1"]).args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    torture(arguments).output().expect("the program starts")
}

/// What a run that could judge has found.
fn verdict(output: &Output, kept_word: bool) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(!kept_word)), "{errors}");
    assert!(errors.starts_with("seed 7\n"), "{errors}");
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verdict["kept_word"], kept_word);
    assert!(verdict["acknowledged"].as_u64().expect("a number") > 100, "{verdict:#}");
    verdict
}

fn count(verdict: &Value, breach: &str) -> u64 {
    verdict["breaches"][breach].as_u64().unwrap_or_else(|| panic!("no {breach}: {verdict:#}"))
}

/// All that is broken, and nothing else.
fn broken(verdict: &Value) -> Vec<&str> {
    let breaches = verdict["breaches"].as_object().expect("an object");
    breaches.iter().filter(|&(_, count)| count != 0).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn lapwing_keeps_its_word_when_connections_are_cut() {
    let broker = Broker::with_settings(&["limits.sys_interval_s=1"]);
    let target = broker.address().to_string();
    for version in ["5", "3.1.1"] {
        let arguments = ["--target", &target, "-V", version, "--rounds", "2", "--seconds", "0.8"];
        let verdict = verdict(&output(&arguments), true);
        assert_eq!((&verdict["mqtt_version"], &verdict["fault"]), (&version.into(), &"cut".into()));
        assert_eq!(verdict["probes"], 2);
        assert_eq!(verdict["published"], verdict["acknowledged"]);
    }
    // Neither sessions nor retained messages are left behind.
    let mut peer = Peer::connect(&broker, ProtocolVersion::V5, "peer");
    peer.subscribe(&["torture/#", "$SYS/broker/clients/total"], QoS::AtMostOnce);
    loop {
        let received = peer.receive().expect("a message");
        let Packet::Publish(publish) = received.packet() else { continue };
        assert_eq!(publish.topic, Some(name("$SYS/broker/clients/total")));
        if publish.payload == b"1" {
            break;
        }
    }
}

/// As it comes, the broker loses nothing when it is killed.
#[test]
fn lapwing_keeps_its_word_when_it_is_killed() {
    for version in ["5", "3.1.1"] {
        let command = [
            "--",
            PROGRAM,
            "serve",
            "--listen",
            "127.0.0.1:{port}",
            "--data",
            "{data}",
            "--set",
            "admin.listen=",
        ];
        let options = ["-V", version, "--rounds", "3", "--seconds", "1"];
        let verdict = verdict(&output(&[&options[..], &command[..]].concat()), true);
        assert_eq!(verdict["fault"], "kill");
        assert_eq!((&verdict["probes"], &verdict["published"]), (&3.into(), &verdict["acknowledged"]));
    }
}

/// Sessions in memory end with the process.
#[test]
fn a_broker_with_everything_in_memory_is_seen_to_lose_it() {
    let command = ["--", PROGRAM, "serve", "--listen", "127.0.0.1:{port}", "--set", "admin.listen="];
    let options = ["--rounds", "2", "--seconds", "0.5"];
    let in_memory = ["--set", "store.durability=memory"];
    let verdict = verdict(&output(&[&options[..], &command[..], &in_memory[..]].concat()), false);
    assert_eq!(verdict["fault"], "kill");
    // The offline subscriber's session is gone with all that waited in it.
    assert_eq!(verdict["breaches"]["lost_offline"], verdict["acknowledged"]);
    assert_eq!((count(&verdict, "probe_sessions_lost"), count(&verdict, "probe_subscriptions_lost")), (2, 2));
    assert!(count(&verdict, "retained_lost") > 0 && count(&verdict, "sessions_lost") > 0, "{verdict:#}");
    for other in ["qos2_twice", "reordered", "altered", "died", "not_back"] {
        assert_eq!(count(&verdict, other), 0, "{other}: {verdict:#}");
    }
    let example = verdict["examples"]["lost_offline"][0].as_str().expect("a sentence");
    assert_eq!(example.split_once(" (").expect("more").0, "offline never got publisher 0, sequence 0");
    assert!(verdict["restart_max_ms"].as_u64().is_some_and(|ms| ms < 10_000), "{verdict:#}");
}

#[test]
fn each_lie_is_called_by_its_name() {
    let broker = Broker::start(&[]);
    for (lie, breach) in [(Lie::Lose, "lost"), (Lie::Repeat, "qos2_twice"), (Lie::Swap, "reordered")] {
        let target = liar::start(&broker, lie).to_string();
        // Without cuts, so that nothing else happens; the end of the round is one cut of all.
        let options = ["--rounds", "1", "--seconds", "1", "--cuts", "0", "--flapping", "0", "--rate", "500"];
        let verdict = verdict(&output(&[&["--target", &target][..], &options[..]].concat()), false);
        let found = broken(&verdict);
        assert!(
            !found.is_empty() && found.iter().all(|name| name.starts_with(breach)),
            "{lie:?}: {verdict:#}"
        );
        assert!(verdict["examples"][found[0]][0].as_str().is_some_and(|text| text.contains("round 1")));
    }
}

/// A run whose broker writes its process identifier to `file`.
fn running(file: &Path, options: &[&str]) -> Child {
    let script = format!("echo $$ > {}; exec {PROGRAM} serve --listen 127.0.0.1:$0", file.display());
    let command = ["--", "sh", "-c", &script, "{port}"];
    let mut torture = torture(&[options, &command[..]].concat());
    torture.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Reads standard error up to a line with `text`.
fn wait_for(child: &mut Child, text: &str) {
    let lines = BufReader::new(child.stderr.as_mut().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(text)), "no line with {text:?}");
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), pid]).status().expect("kill starts");
    assert!(status.success());
}

#[test]
fn a_broker_that_ends_by_itself_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let mut child = running(&file, &["--rounds", "2", "--seconds", "4"]);
    wait_for(&mut child, "round 1 of 2");
    signal("KILL", std::fs::read_to_string(&file).expect("it is written").trim());
    let mut json = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut json).expect("text");
    assert_eq!(child.wait().expect("its status").code(), Some(1));
    let verdict: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(count(&verdict, "died"), 1, "{verdict:#}");
    let example = verdict["examples"]["died"][0].as_str().expect("a sentence");
    assert!(example.contains("signal: 9") && example.contains("in round 2"), "{example}");
}

#[test]
fn who_interrupts_it_ends_the_broker_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let mut child = running(&file, &["--rounds", "100", "--seconds", "1"]);
    wait_for(&mut child, "round 1 of 100");
    signal("TERM", &child.id().to_string());
    assert_eq!(child.wait().expect("its status").code(), Some(2));
    let pid = std::fs::read_to_string(&file).expect("it is written");
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn what_cannot_be_judged_is_said() {
    assert!(failure(&output(&[]), 2).contains("--target"));
    assert!(
        failure(&output(&["--target", "127.0.0.1:1", "--", "broker"]), 2).contains("cannot be used with")
    );
    assert!(failure(&output(&["--target", "127.0.0.1:1"]), 2).contains("is a broker running there?"));
    let error = failure(&output(&["--", "no-such-broker"]), 2);
    assert!(error.contains("cannot start `no-such-broker`"), "{error}");
    let error = failure(&output(&["--", "sh", "-c", "echo a reason; exit 3"]), 2);
    assert!(error.contains("ended before it answered CONNECT: a reason"), "{error}");
    let error = failure(&output(&["--config", "no-such-file", "--", "broker", "{config}"]), 2);
    assert!(error.contains("cannot read the configuration no-such-file"), "{error}");
    assert!(failure(&output(&["--seconds", "0", "--", "broker"]), 2).contains("between 0.1 and 86400"));
    let start = Instant::now();
    let error = failure(&output(&["--start-timeout", "0.3", "--", "tail", "-f", "/dev/null"]), 2);
    assert!(error.contains("did not answer CONNECT within 300ms"), "{error}");
    assert!(start.elapsed() < SOON + Duration::from_secs(1));
}

#[test]
fn a_broker_that_refuses_is_no_verdict() {
    let broker = Broker::with_settings(&["limits.qos_maximum=1"]);
    let target = broker.address().to_string();
    let error = failure(&output(&["--target", &target]), 2);
    assert!(error.contains("`--qos 1` does without QoS 2"), "{error}");
    let options = ["--target", &target, "--qos", "1", "--rounds", "1", "--seconds", "0.5"];
    verdict(&output(&options), true);
    let broker = Broker::with_settings(&["authentication.anonymous=none"]);
    let options = ["--target", &broker.address().to_string(), "--start-timeout", "1"];
    let error = failure(&output(&options), 2);
    assert!(error.contains("lets no client in: not authorized (0x87)"), "{error}");
}
