//! `lapwing acl`: rules of permission, before a broker has them.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use lapwing_auth::Format;
use lapwing_auth::password::Users;
use lapwing_auth::permission::{Action as Wish, Answer, Case, GROUP, MosquittoFile, Ruleset, Subject};
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};

use super::client::qos;
use crate::config::Config;

/// Try rules of permission, and bring them from Mosquitto.
#[derive(Debug, Args)]
pub(crate) struct Acl {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with a file of rules; the exit code is 0 if it is fine, and 1 if not
    Check {
        #[command(flatten)]
        rules: Rules,
    },
    /// Try cases: who does what, and what must come of it; the exit code is 0 if all of it does, and 1 if not
    Test {
        /// The file of cases (TOML)
        cases: PathBuf,
        #[command(flatten)]
        rules: Rules,
    },
    Explain(Explain),
    /// Print the rules of an access control file of Mosquitto as rules of Lapwing, and on standard error what is different
    Import {
        /// The access control file of Mosquitto
        file: PathBuf,
    },
}

/// Say what a client may do, by which rule, and which rules nearly were the one
#[derive(Debug, Args)]
struct Explain {
    /// The client identifier
    client: String,
    /// What it wants to do
    action: Action,
    /// The topic name, or the filter to subscribe with
    topic: String,
    /// The user name, that the client has proved
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A group that the user is in; further ones with further options
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// An attribute of the user
    #[arg(long, value_name = "NAME=VALUE")]
    attribute: Vec<String>,
    /// The name of the listener
    #[arg(long, value_name = "NAME", default_value = "")]
    listener: String,
    /// The address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    address: IpAddr,
    /// Quality of service of the message: 0, 1 or 2
    #[arg(long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Whether the message is to be retained
    #[arg(long)]
    retain: bool,
    #[command(flatten)]
    rules: Rules,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    Publish,
    Subscribe,
    Receive,
}

/// Which rules, and which users.
#[derive(Debug, Args)]
struct Rules {
    /// The file of rules
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    acl: Option<PathBuf>,
    /// The file is one of Mosquitto
    #[arg(long, requires = "acl")]
    mosquitto: bool,
    /// The file of users, for their groups and attributes
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Configuration file of the broker, which names both
    #[arg(long, value_name = "FILE", conflicts_with = "acl")]
    config: Option<PathBuf>,
}

impl Acl {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Check { rules } => {
                let (path, rules, _) = rules.read()?;
                print(&format!("{} is fine: {} rules\n", path.display(), rules.rules().len()))
            }
            Command::Test { cases, rules } => test(&cases, &rules),
            Command::Explain(explain) => explain.run(),
            Command::Import { file } => import(&file),
        }
    }
}

impl Rules {
    fn read(&self) -> anyhow::Result<(PathBuf, Arc<Ruleset>, Option<Users>)> {
        let config = self.config.as_deref().map(Config::from_file).transpose()?;
        let permissions = config.as_ref().map(|config| &config.permissions);
        let (path, format) = match (&self.acl, permissions) {
            (Some(path), _) => {
                (path.clone(), if self.mosquitto { Format::Mosquitto } else { Format::Lapwing })
            }
            (None, Some(permissions)) => {
                let path = permissions.file.clone();
                (path.context("permissions.file is not set in this configuration")?, permissions.format)
            }
            (None, None) => bail!("write --acl FILE or --config FILE"),
        };
        let users = self.users.as_ref().or_else(|| config.as_ref()?.authentication.password.file.as_ref());
        let users = users.map(|path| Users::read(path)).transpose()?;
        let rules = Ruleset::read(&path, format)?;
        Ok((path, Arc::new(rules), users))
    }
}

fn test(path: &Path, rules: &Rules) -> anyhow::Result<()> {
    let (_, rules, users) = rules.read()?;
    let cases = Case::parse(path, &read(path)?)?;
    let mut failed = 0;
    for case in &cases {
        let explanation = case.run(&rules, users.as_ref());
        if explanation.answer != case.expected {
            failed += 1;
            let (line, expected) = (case.line, case.expected);
            print(&format!(
                "{} line {line}: expected {expected}, but it is {explanation}\n",
                path.display()
            ))?;
        }
    }
    print(&format!("{} cases passed, {failed} failed\n", cases.len() - failed))?;
    match failed {
        0 => Ok(()),
        failed => bail!("the rules say something else in {failed} of {} cases", cases.len()),
    }
}

impl Explain {
    fn run(self) -> anyhow::Result<()> {
        let (_, rules, users) = self.rules.read()?;
        let mut attributes: Vec<(Arc<str>, Arc<str>)> =
            self.group.iter().map(|group| (GROUP.into(), group.as_str().into())).collect();
        for text in &self.attribute {
            let (name, value) =
                text.split_once('=').ok_or_else(|| anyhow!("--attribute {text}: write NAME=VALUE"))?;
            attributes.push((name.into(), value.into()));
        }
        let known = self.user.as_deref().and_then(|user| users.as_ref()?.get(user));
        attributes.extend(known.iter().flat_map(|user| user.attributes.iter().cloned()));
        let subject = Subject {
            client_id: &self.client,
            user: self.user.as_deref(),
            attributes: &attributes,
            listener: &self.listener,
            address: self.address,
        };
        let name = || TopicName::new(&self.topic).with_context(|| format!("'{}'", self.topic));
        let wish = match self.action {
            Action::Publish => Wish::Publish(name()?, self.qos, self.retain),
            Action::Receive => Wish::Receive(name()?),
            Action::Subscribe => {
                Wish::Subscribe(TopicFilter::new(&self.topic).with_context(|| format!("'{}'", self.topic))?)
            }
        };
        let explanation = rules.explain(&subject, wish);
        print(&format!("{explanation}\n"))?;
        match explanation.answer {
            Answer::Deny => bail!("it is denied"),
            Answer::Allow | Answer::Checked => Ok(()),
        }
    }
}

fn import(path: &Path) -> anyhow::Result<()> {
    let file = MosquittoFile::parse(path, &read(path)?)?;
    print(&file.to_toml())?;
    let mut report = String::new();
    for (line, remark) in &file.remarks {
        report.push_str(&format!("{} line {line}: {remark}\n", path.display()));
    }
    report.push_str(&format!("{} rules\n", file.rules.rules.len()));
    Ok(std::io::stderr().write_all(report.as_bytes())?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
