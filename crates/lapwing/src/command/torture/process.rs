//! The broker as a process of this program: started, killed, and started again on the same port and folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use lapwing_client::Address;
use lapwing_net::{Listener, ListenerConfig};

/// How much of the broker's own log is shown when it has ended by itself.
const LAST_LINES: usize = 5;

/// A folder of this run. It goes with this value, unless it is to be kept.
pub(super) struct Folder {
    path: PathBuf,
    is_kept: bool,
}

/// It is killed when this is dropped, whatever the reason.
pub(super) struct Process {
    program: String,
    arguments: Vec<String>,
    pub(super) port: u16,
    child: Option<Child>,
    folder: Folder,
}

impl Process {
    /// Prepares the folder and the command: `{port}`, `{data}` and `{config}` are replaced in it, and the first two in
    /// the configuration file as well.
    pub(super) fn prepare(command: &[String], config: Option<&Path>, folder: Folder) -> Result<Self> {
        let port = free_port()?;
        let data = folder.path.join("data");
        make(&data)?;
        let data = text(&data)?;
        let replace = |text: &str| text.replace("{port}", &port.to_string()).replace("{data}", &data);
        let mut config_path = String::new();
        if let Some(template) = config {
            let content = fs::read_to_string(template)
                .with_context(|| format!("cannot read the configuration {}", template.display()))?;
            // Some programs tell the format by the name.
            let name = template.file_name().unwrap_or(template.as_os_str());
            let path = folder.path.join(name);
            fs::write(&path, replace(&content))
                .with_context(|| format!("cannot write {}", path.display()))?;
            config_path = text(&path)?;
        }
        let mut words = command.iter().map(|word| replace(word).replace("{config}", &config_path));
        let program = words.next().context("the broker's command is empty")?;
        Ok(Self { program, arguments: words.collect(), port, child: None, folder })
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let log = || -> Result<File> {
            let path = self.log_path();
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        let child = command.spawn().with_context(|| format!("cannot start `{}`", self.program))?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends it with SIGKILL; nothing happens where it has ended.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How it has ended, if nobody has killed it.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// The last lines that it has written.
    pub(super) fn last_words(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// The folder, if it stays.
    pub(super) fn kept_folder(&self) -> Option<&Path> {
        self.folder.is_kept.then_some(&self.folder.path)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path.join("broker.log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Folder {
    pub(super) fn new(run: u32, is_kept: bool) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lapwing-torture-{run:08x}"));
        make(&path)?;
        Ok(Self { path, is_kept })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make {}", path.display()))
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// A port of the loopback address that nobody listens on.
fn free_port() -> Result<u16> {
    let listeners = Listener::bind(&ListenerConfig::new("free", Address::new("127.0.0.1", 0)))
        .context("there is no free port")?;
    Ok(listeners.first().context("there is no loopback address")?.local().port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(words: &[&str], config: Option<&Path>) -> Process {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let folder = Folder::new(super::super::random::fresh() as u32, false).unwrap();
        Process::prepare(&words, config, folder).unwrap()
    }

    #[test]
    fn the_places_in_the_command_and_the_configuration_are_filled() {
        let outside = tempfile::tempdir().unwrap();
        let template = outside.path().join("broker.conf");
        fs::write(&template, "listener {port}\nlocation {data}/\n").unwrap();
        let process = process(&["serve", "127.0.0.1:{port}", "--data={data}", "{config}"], Some(&template));
        let data = process.folder.path.join("data");
        let config = process.folder.path.join("broker.conf");
        assert!(data.is_dir());
        let arguments = [
            format!("127.0.0.1:{}", process.port),
            format!("--data={}", data.display()),
            config.display().to_string(),
        ];
        assert_eq!(process.arguments, arguments);
        let content = fs::read_to_string(&config).unwrap();
        assert_eq!(content, format!("listener {}\nlocation {}/\n", process.port, data.display()));
        let path = process.folder.path.clone();
        drop(process);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_ends_by_itself_is_noticed_with_its_last_words() {
        let mut process = process(&["sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; done; exit 3"], None);
        process.start().unwrap();
        let status = loop {
            if let Some(status) = process.ended() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.last_words(), "2\n3\n4\n5\n6");
        assert!(process.child.is_none());
    }

    #[test]
    fn a_program_that_was_killed_has_not_ended_by_itself() {
        let mut process = process(&["tail", "-f", "/dev/null"], None);
        process.start().unwrap();
        assert!(process.child.is_some() && process.ended().is_none());
        process.kill();
        assert!(process.child.is_none() && process.ended().is_none());
    }
}
