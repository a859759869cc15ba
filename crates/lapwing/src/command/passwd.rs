//! `lapwing passwd`: the file of users.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use lapwing_auth::password::{
    Cost, PasswordHash, UserFile, Users, Verification, Verifier, Workspace, read_mosquitto,
};

use crate::prompt;

/// Change the file of users, which authentication.password.file names.
///
/// A broker that runs reads the file anew when it is told to.
#[derive(Debug, Args)]
pub(crate) struct Passwd {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    /// Remove a user
    Remove {
        /// The file of users
        file: PathBuf,
        /// The user name
        user: String,
    },
    Verify(Verify),
    /// Print the users and what is known of them, but nothing of their passwords
    List {
        /// The file of users
        file: PathBuf,
    },
    /// Add the users of a password file of Mosquitto; their passwords stay what they are
    Import {
        /// The password file of Mosquitto
        from: PathBuf,
        /// The file of users; made if it is not there
        file: PathBuf,
    },
}

/// Add a user, or give one another password
///
/// The password is asked for on the terminal.
#[derive(Debug, Args)]
struct Add {
    /// The file of users; made if it is not there
    file: PathBuf,
    /// The user name
    user: String,
    #[command(flatten)]
    source: Source,
    /// A group that the user is in; further ones with further options
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A client identifier that the user may have, * standing for anything; any, without this option
    #[arg(long, value_name = "PATTERN")]
    client_id: Vec<String>,
    /// Let the user authenticate by SCRAM-SHA-256 as well
    #[arg(long)]
    scram: bool,
    /// Memory in KiB that the hash takes, for whoever guesses and for the broker
    #[arg(long, value_name = "KIB", default_value_t = Cost::default().memory_kib)]
    memory_kib: u32,
    /// Passes over that memory
    #[arg(long, value_name = "N", default_value_t = Cost::default().passes)]
    passes: u32,
}

/// Say whether a password is that of a user; the exit code is 0 if it is, and 1 if not
#[derive(Debug, Args)]
struct Verify {
    /// The file of users
    file: PathBuf,
    /// The user name
    user: String,
    #[command(flatten)]
    source: Source,
}

/// Where a password comes from: never from the command line.
#[derive(Debug, Args)]
struct Source {
    /// Read the password from standard input, up to the end of the first line
    #[arg(long, conflicts_with = "password_file")]
    stdin: bool,
    /// Read the password from a file, up to the end of the first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Not possible, and said so: everybody on the machine can read the command line of a process.
    #[arg(long, short = 'P', hide = true, num_args = 0..=1)]
    password: Option<Option<String>>,
}

impl Passwd {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Add(add) => add.run(),
            Command::Verify(verify) => verify.run(),
            Command::Remove { file, user } => {
                let mut users = open(&file)?;
                users.remove(&user)?;
                Ok(users.save()?)
            }
            Command::List { file } => list(&file),
            Command::Import { from, file } => import(&from, &file),
        }
    }
}

impl Add {
    fn run(self) -> anyhow::Result<()> {
        let mut users = UserFile::open(&self.file)?;
        let password = self.source.password(true)?;
        let cost = Cost { memory_kib: self.memory_kib, passes: self.passes, ..Cost::default() };
        let hash = PasswordHash::new(password.as_bytes(), cost, &mut Workspace::default())?;
        let scram = self.scram.then(|| Verifier::new(&password)).transpose()?;
        let what = if users.contains(&self.user) { "has another password now" } else { "was added" };
        users.set_password(&self.user, &hash, scram.as_ref());
        if !self.group.is_empty() {
            users.set_groups(&self.user, &self.group);
        }
        if !self.client_id.is_empty() {
            users.set_client_ids(&self.user, &self.client_id);
        }
        users.save()?;
        print(&format!("the user {:?} {what}: {}\n", self.user, self.file.display()))
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<()> {
        let users = Users::read(&self.file)?;
        let password = self.source.password(false)?;
        match users.verify(&self.user, password.as_bytes(), &mut Workspace::default()) {
            Verification::Correct(_) => print("the password is right\n"),
            Verification::Wrong => bail!("the password is wrong"),
            Verification::Unknown => {
                bail!("there is no user {:?} with a password in {}", self.user, self.file.display())
            }
        }
    }
}

impl Source {
    fn password(&self, is_new: bool) -> anyhow::Result<String> {
        if self.password.is_some() {
            bail!(
                "a password is not taken from the command line, where everybody on this machine can read it: it is asked for, \
                 or read with --stdin or --password-file FILE"
            );
        }
        let text = match &self.password_file {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            None if self.stdin => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
                text
            }
            None => return ask(is_new),
        };
        let line = text.split(['\r', '\n']).next().unwrap_or_default();
        if line.is_empty() {
            bail!("the password is empty");
        }
        Ok(line.to_owned())
    }
}

fn ask(is_new: bool) -> anyhow::Result<String> {
    let password = prompt::password("Password")?;
    if password.is_empty() {
        bail!("the password is empty");
    }
    if is_new && prompt::password("Once more")? != password {
        bail!("these are two passwords; nothing was changed");
    }
    Ok(password)
}

/// One that is there: nothing is removed from a file that there is not.
fn open(file: &Path) -> anyhow::Result<UserFile> {
    if !file.exists() {
        return Err(anyhow!("{} is not there", file.display()));
    }
    Ok(UserFile::open(file)?)
}

fn list(file: &Path) -> anyhow::Result<()> {
    let users = Users::read(file)?;
    let mut users: Vec<_> = users.iter().collect();
    users.sort_by(|one, other| one.name.cmp(&other.name));
    let mut text = String::new();
    for user in users {
        let mut kinds: Vec<&str> = user.password.iter().map(PasswordHash::kind).collect();
        kinds.extend(user.scram.iter().map(|_| "scram-sha-256"));
        let kinds = if kinds.is_empty() { "no password".to_owned() } else { kinds.join(", ") };
        let attributes = user.attributes.iter().map(|(name, value)| format!("  {name}={value}"));
        let ids = user.client_ids.iter().map(|glob| format!("  client_id={}", glob.as_str()));
        text.extend([format!("{}  {kinds}", user.name)].into_iter().chain(attributes).chain(ids));
        text.push('\n');
    }
    print(&text)
}

fn import(from: &Path, file: &Path) -> anyhow::Result<()> {
    let count = import_users(from, file)?;
    print(&format!("{count} users were added: {}\n", file.display()))
}

/// Adds the users of a password file of Mosquitto to a file of users, all or none; how many there are.
pub(super) fn import_users(from: &Path, file: &Path) -> anyhow::Result<usize> {
    let text = std::fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let imported = read_mosquitto(from, &text)?;
    let mut users = UserFile::open(file)?;
    if let Some((name, _)) = imported.iter().find(|(name, _)| users.contains(name)) {
        bail!("{} has a user {name:?} already; nothing was changed", file.display());
    }
    for (name, hash) in &imported {
        users.set_password(name, hash, None);
    }
    users.save()?;
    Ok(imported.len())
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
