//! Lapwing, an MQTT platform: broker and command line.
#![forbid(unsafe_code)]

mod admin;
mod command;
mod config;
mod exit;
mod log;
mod memory;
mod prompt;
mod reload;
mod security;
mod store;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// An MQTT broker and its tools.
#[derive(Debug, Parser)]
#[command(name = "lapwing", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(command::serve::Serve),
    Pub(command::publish::Publish),
    Sub(command::subscribe::Subscribe),
    Status(command::admin::Status),
    Client(command::admin::ClientCommand),
    Session(command::admin::SessionCommand),
    Usage(command::admin::UsageCommand),
    Ban(command::admin::BanCommand),
    Retained(command::admin::RetainedCommand),
    Explain(command::admin::ExplainCommand),
    Events(command::admin::EventsCommand),
    Reload(command::admin::ReloadCommand),
    Token(command::admin::TokenCommand),
    Passwd(command::passwd::Passwd),
    Acl(command::acl::Acl),
    Config(command::config::ConfigCommand),
    Import(command::import::Import),
    Store(command::store::StoreCommand),
    Torture(command::torture::Torture),
}

fn main() -> ExitCode {
    let result = match parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Pub(publish) => publish.run(),
        Command::Sub(subscribe) => subscribe.run(),
        Command::Status(status) => status.run(),
        Command::Client(client) => client.run(),
        Command::Session(session) => session.run(),
        Command::Usage(usage) => usage.run(),
        Command::Ban(ban) => ban.run(),
        Command::Retained(retained) => retained.run(),
        Command::Explain(explain) => explain.run(),
        Command::Events(events) => events.run(),
        Command::Reload(reload) => reload.run(),
        Command::Token(token) => token.run(),
        Command::Passwd(passwd) => passwd.run(),
        Command::Acl(acl) => acl.run(),
        Command::Config(config) => config.run(),
        Command::Import(import) => import.run(),
        Command::Store(store) => return store.run(),
        Command::Torture(torture) => return torture.run(),
    };
    exit::report(result)
}

/// Reads the command line. A variable of the environment that is empty is as good as none.
fn parse() -> Cli {
    let command = Cli::command().mut_subcommands(ignore_empty);
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn ignore_empty(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| match argument.get_env() {
        Some(variable) if std::env::var_os(variable).is_some_and(|value| value.is_empty()) => {
            argument.env(None)
        }
        _ => argument,
    });
    command.mut_subcommands(ignore_empty)
}
