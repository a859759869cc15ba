//! Runs one scenario, for a counter of instructions: `instructions SCENARIO DELIVERIES`. Without arguments it lists the
//! scenarios.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::process::ExitCode;

use lapwing_broker::bench::{PARTS, SCENARIOS};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name, deliveries] = &arguments[..] else {
        PARTS.iter().for_each(|(name, _)| println!("{name}"));
        SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        return ExitCode::SUCCESS;
    };
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let part = PARTS.iter().find(|(known, _)| known == name);
    match (scenario, part, deliveries.parse()) {
        (Some(scenario), _, Ok(deliveries)) => scenario.run(deliveries),
        (None, Some((_, part)), Ok(deliveries)) => part(deliveries),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}
