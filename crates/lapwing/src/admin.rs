//! The admin channel of a running broker: where it listens, and the token that opens it.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use lapwing_api::{BindError, EventStream, Listener, MetricSource, Options, Reload, Server, Token, Tokens};
use lapwing_broker::{Ban, Broker};

use crate::config::{Config, Durability};
use crate::store;

/// What is needed for the admin channel, before there is a broker.
pub(crate) struct Admin {
    listener: Listener,
    token: Token,
    /// That token, and those that have names.
    tokens: Tokens,
    /// Where the token is, if it is in a file.
    path: Option<PathBuf>,
    /// The data directory, if there is one.
    directory: Option<PathBuf>,
}

/// Binds the address and has the token ready. `None` where there is to be no admin channel, or the address that nobody
/// asked for is taken.
pub(crate) fn open(config: &Config, data: Option<&Path>) -> anyhow::Result<Option<Admin>> {
    let Some((address, is_chosen)) = config.admin.address()? else { return Ok(None) };
    let listener = match Listener::bind(address) {
        Ok(listener) => listener,
        Err(error) if is_chosen => bail!("admin.listen: {}", advice(&error)),
        Err(error) => {
            tracing::warn!("there is no admin channel: {}", advice(&error));
            return Ok(None);
        }
    };
    let directory = directory(config, data)?;
    let (token, path) = match &directory {
        Some(directory) => {
            store::prepare(directory)?;
            let path = Token::path(directory);
            (Token::read_or_create(&path)?, Some(path))
        }
        None => (Token::generate()?, None),
    };
    let tokens = Tokens::open(&token, directory.as_deref())?;
    Ok(Some(Admin { listener, token, tokens, path, directory }))
}

fn advice(error: &BindError) -> String {
    format!("{error}; set admin.listen to another address, or to \"\" for no admin channel")
}

/// Where the token is kept: where everything is kept, or where nothing is, in a directory that was named.
fn directory(config: &Config, data: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    match (data, config.store.durability) {
        (Some(data), _) => Ok(Some(data.to_owned())),
        (None, Durability::Memory) => Ok(None),
        (None, _) => store::default_directory().map(Some),
    }
}

impl Admin {
    /// The bans that an earlier process has kept.
    pub(crate) fn bans(&self) -> anyhow::Result<Vec<Ban>> {
        let bans = self.directory.as_deref().map(lapwing_api::kept_bans).transpose()?;
        Ok(bans.unwrap_or_default())
    }

    /// Answers from now on.
    pub(crate) fn start(
        self,
        broker: &Broker,
        metrics_public: bool,
        metrics: MetricSource,
        reload: Arc<dyn Reload>,
        events: Arc<EventStream>,
    ) -> anyhow::Result<Server> {
        let local = self.listener.local();
        match &self.path {
            Some(path) => {
                tracing::info!("admin channel on http://{local}; its token is in {}", path.display());
            }
            None => {
                tracing::info!("admin channel on http://{local}; its token ends with this process");
                show(&self.token);
            }
        }
        if !local.ip().is_loopback() {
            tracing::warn!(
                "the admin channel is open to other machines, and whoever sees its traffic sees its token: there is no TLS"
            );
        }
        let options = Options {
            tokens: self.tokens,
            metrics_public,
            data: self.directory,
            metrics: Some(metrics),
            events,
            reload: Some(reload),
        };
        Server::start(self.listener, broker.control(), options).context("cannot start the admin channel")
    }
}

/// A token that is in no file is for the person who looks at the terminal, and never for a log.
fn show(token: &Token) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Nothing can be done where standard error is closed.
        let _ = writeln!(stderr, "admin token of this run: {}", token.reveal());
    } else {
        tracing::info!("nobody is shown the admin token: --data DIR keeps it in a file there");
    }
}
