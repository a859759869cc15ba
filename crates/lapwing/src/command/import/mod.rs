//! `lapwing import`: the configuration of another broker.

mod mosquitto;
mod report;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use self::mosquitto::Translation;
use super::passwd::import_users;
use crate::config::Config;

/// Bring the configuration of another broker along.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mosquitto(Mosquitto),
}

/// Make a configuration of Lapwing from one of Mosquitto, and say what becomes of each line
///
/// Listeners, TLS, users, rules and limits are carried over, with the files of the configuration's include_dir. Sessions and
/// retained messages are not.
#[derive(Debug, Args)]
struct Mosquitto {
    /// The configuration of Mosquitto, usually /etc/mosquitto/mosquitto.conf
    file: PathBuf,
    /// The directory for lapwing.toml, and for users.toml if there is a file of passwords; made if it is not there. Without it, the
    /// configuration is printed, and what becomes of the lines on standard error
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

const CONFIGURATION: &str = "lapwing.toml";
const USERS: &str = "users.toml";

impl Import {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Mosquitto(mosquitto) => mosquitto.run(),
        }
    }
}

impl Mosquitto {
    fn run(self) -> anyhow::Result<()> {
        let users = match &self.to {
            Some(folder) => std::path::absolute(folder)?.join(USERS),
            None => PathBuf::from(USERS),
        };
        let translation = Translation::read(&self.file, &users)?;
        let text = translation.configuration(&self.file)?;
        // What is written here must be what the broker takes, whatever stood there.
        toml::from_str::<Config>(&text).context("the configuration that was made is not valid")?;
        let report = report::text(&translation);
        let Some(folder) = &self.to else {
            eprint(&report)?;
            return print(&text);
        };
        let configuration = folder.join(CONFIGURATION);
        for path in [&configuration, &users] {
            if path.exists() {
                bail!("{} is there already, and is not replaced", path.display());
            }
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let count = translation.passwords.as_deref().map(|from| import_users(from, &users)).transpose()?;
        write_new(&configuration, &text)?;
        print(&report)?;
        if let Some(count) = count {
            print(&format!("{} has {count} users, with their passwords\n", users.display()))?;
        }
        let shown = configuration.display();
        print(&format!("{shown} is made; start with `lapwing serve --config {shown}`\n"))?;
        if let Err(error) = Config::from_file(&configuration).and_then(|config| config.check()) {
            print(&format!("before that, something is to be mended: {error:#}\n"))?;
        }
        Ok(())
    }
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o640).open(path).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn eprint(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stderr().write_all(text.as_bytes())?)
}
