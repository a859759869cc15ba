use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{Config, reference, schema};

/// Look at the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what holds: the defaults, and over them the file, the environment and the settings
    Show {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Set a key of the configuration, as in limits.receive_maximum=100
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print what holds without any configuration
    Default,
    /// Say what is wrong with a file; the exit code is 0 if it is fine, and 1 if not
    Check {
        /// Configuration file (TOML)
        file: PathBuf,
    },
    /// Print what a configuration file can have, as JSON Schema for editors
    Schema,
    /// Print the reference page
    #[command(hide = true)]
    Reference,
    /// Print the description of the admin channel
    #[command(hide = true)]
    Openapi,
}

impl ConfigCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Show { config, set } => {
                print(&toml::to_string(&Config::load(config.as_deref(), &set)?)?)
            }
            Command::Default => print(&toml::to_string(&Config::default())?),
            Command::Check { file } => {
                Config::from_file(&file)?.check()?;
                print(&format!("{} is fine\n", file.display()))
            }
            Command::Schema => print(&schema::document()?),
            Command::Reference => print(&reference::page()?),
            Command::Openapi => print(&lapwing_api::document()?),
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
