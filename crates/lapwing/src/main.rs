//! Lapwing, an MQTT platform: broker and command line.
#![forbid(unsafe_code)]

mod command;
mod config;
mod exit;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Config(command::config::ConfigCommand),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Pub(publish) => publish.run(),
        Command::Sub(subscribe) => subscribe.run(),
        Command::Config(config) => config.run(),
    };
    exit::report(result)
}
