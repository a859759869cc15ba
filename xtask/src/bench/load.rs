//! The load generator `mqload`: a program of its own, beside this repository.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::peer::{Kind, Peer};
use super::scenario::Cell;
use super::server::{Server, free_port};
use crate::command;
use crate::repository::Repository;

/// Where the sources are when the variable does not say.
const SIBLING: &str = "../shared/mqload";
const VARIABLE: &str = "LAPWING_MQLOAD";

/// What one scenario measured, by the names that the generator gives.
pub(super) type Values = Map<String, Value>;

/// The load generator, built.
pub(super) struct Load {
    program: PathBuf,
    version: String,
}

impl Load {
    /// Builds it from a copy of its sources, so that nothing is written into somebody else's folder.
    pub(super) fn build(repository: &Repository) -> Result<Self> {
        let sources = sources(&repository.root)?;
        let folder = repository.target.join("bench/mqload");
        copy(&sources, &folder.join("source"))?;
        let manifest = folder.join("source/Cargo.toml");
        let mut cargo = command::cargo("build");
        cargo.args(["--release", "--manifest-path"]).arg(&manifest).arg("--target-dir").arg(&folder);
        command::run_checked(&mut cargo)?;
        let text = fs::read_to_string(&manifest)?;
        let manifest: toml::Table = toml::from_str(&text).context("mqload's Cargo.toml")?;
        let version = manifest.get("package").and_then(|package| package.get("version"));
        let version = version.and_then(toml::Value::as_str).unwrap_or("without a version");
        Ok(Self { program: folder.join("release/mqload"), version: format!("mqload {version}") })
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Runs `cell` against `server`, or with the generator's own relay where there is none.
    pub(super) fn run(&self, cell: &Cell, peer: &Peer, server: Option<&Server>) -> Result<Values> {
        let Some(server) = server else {
            if peer.kind != Kind::Relay {
                bail!("{} is not running", peer.kind);
            }
            let mut command = Command::new(&self.program);
            command.args(["limit", "--mode"]).args(&cell.arguments);
            return measure(command.args(["--port", &free_port()?.to_string()]), cell.limit);
        };
        let port = server.port.to_string();
        let bystander = cell.bystander_s.map(|seconds| {
            let mut command = Command::new(&self.program);
            let seconds = seconds.to_string();
            command.args(["pingpong", "--secs", &seconds, "--topic-prefix", "bystander", "--port", &port]);
            let limit = cell.limit;
            std::thread::spawn(move || measure(&mut command, limit))
        });
        let mut command = Command::new(&self.program);
        command.args(&cell.arguments).args(["--port", &port, "--broker-pid", &server.pid().to_string()]);
        let result = measure(&mut command, cell.limit);
        let Some(bystander) = bystander else { return result };
        let seen = bystander.join().ok().context("the bystander's thread ended badly")?;
        let mut values = result?;
        let seen = seen.context("the bystander")?;
        values.extend(of_bystander(seen, cell.bystander_s.unwrap_or_default()));
        Ok(values)
    }
}

/// The bystander's values under names of their own. One that was never answered has waited all its time.
fn of_bystander(mut values: Values, seconds: f64) -> impl Iterator<Item = (String, Value)> {
    if values.get("received").and_then(Value::as_u64) == Some(0) {
        for name in ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
            values.insert(name.to_owned(), (seconds * 1e6).into());
        }
    }
    values.into_iter().map(|(name, value)| (format!("bystander_{name}"), value))
}

/// Runs the generator, and ends it with all that it started when it takes longer than `limit`.
fn measure(command: &mut Command, limit: Duration) -> Result<Values> {
    // A group of its own: the relay is a child of the generator, and must not outlive it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().context("cannot start mqload")?;
    let group = child.id();
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = match receiver.recv_timeout(limit) {
        Ok(output) => output?,
        Err(RecvTimeoutError::Timeout) => {
            command::succeeds(Command::new("kill").args(["-KILL", "--", &format!("-{group}")]));
            let _ = receiver.recv();
            bail!("not done after {} s", limit.as_secs());
        }
        Err(RecvTimeoutError::Disconnected) => bail!("the thread that waits for mqload ended"),
    };
    let complaint = first_characters(&String::from_utf8_lossy(&output.stderr));
    let mut values = parse(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("mqload ended with {}: {complaint}", output.status))?;
    if !complaint.is_empty() {
        values.insert("complaint".to_owned(), complaint.into());
    }
    Ok(values)
}

/// The one line that the generator prints.
fn parse(text: &str) -> Result<Values> {
    match serde_json::from_str(text.trim()) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => bail!("it printed no object: {}", first_characters(text)),
        Err(error) => bail!("it printed no JSON ({error}): {}", first_characters(text)),
    }
}

fn first_characters(text: &str) -> String {
    text.trim().chars().take(300).collect()
}

fn sources(root: &Path) -> Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root.join(SIBLING));
    if !folder.join("Cargo.toml").is_file() {
        bail!(
            "the load generator is missing: {} holds no Cargo.toml; put its sources there, or name their folder in \
             the environment variable {VARIABLE}",
            folder.display()
        );
    }
    Ok(folder)
}

/// Copies the package in `from`. A file that is the same already stays as it is, so that Cargo need not build it anew.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("src")).with_context(|| format!("cannot make {}", to.display()))?;
    let mut names = vec![PathBuf::from("Cargo.toml")];
    for entry in fs::read_dir(from.join("src")).context("the load generator has no src")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(Path::new("src").join(entry.file_name()));
        }
    }
    for name in names {
        let text = fs::read(from.join(&name)).with_context(|| format!("cannot read {}", name.display()))?;
        if fs::read(to.join(&name)).ok().as_ref() != Some(&text) {
            fs::write(to.join(&name), text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::shell;

    #[test]
    fn the_line_is_read() {
        let values =
            measure(&mut shell("echo '{\"lost\":0,\"p50_us\":1.5}'"), Duration::from_secs(60)).unwrap();
        assert_eq!(values["p50_us"], 1.5);
    }

    #[test]
    fn what_it_complains_about_is_told() {
        let error =
            measure(&mut shell("echo no such option >&2; exit 2"), Duration::from_secs(60)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("no such option") && error.contains("exit status: 2"), "{error}");
        assert!(parse("[1]").is_err() && parse("{\"a\":inf}").is_err());
    }

    #[test]
    fn a_run_that_hangs_is_ended_with_its_children() {
        // The grandchild holds the pipe: without the end of the whole group, reading would not end.
        let error = measure(&mut shell("tail -f /dev/null & wait"), Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().starts_with("not done after"), "{error}");
    }

    #[test]
    fn a_bystander_that_is_not_served_has_waited() {
        let worst = |text: &str| {
            let values: Values = of_bystander(parse(text).unwrap(), 2.0).collect();
            values["bystander_max_us"].as_f64()
        };
        assert_eq!(worst(r#"{"received":0,"max_us":0.0}"#), Some(2e6));
        assert_eq!(worst(r#"{"received":1,"max_us":50.5}"#), Some(50.5));
    }

    #[test]
    fn only_what_has_changed_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::write(from.join("Cargo.toml"), "[package]").unwrap();
        fs::write(from.join("src/main.rs"), "fn main() {}").unwrap();
        copy(&from, &to).unwrap();
        let changed = || fs::metadata(to.join("src/main.rs")).unwrap().modified().unwrap();
        let first = changed();
        fs::write(from.join("Cargo.toml"), "[package] # changed").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(changed(), first);
        assert_eq!(fs::read_to_string(to.join("Cargo.toml")).unwrap(), "[package] # changed");
    }
}
