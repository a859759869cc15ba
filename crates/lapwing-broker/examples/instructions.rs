//! Runs one scenario, for a counter of instructions: `instructions SCENARIO DELIVERIES`. Without arguments it lists the
//! scenarios.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::process::ExitCode;

use lapwing_broker::bench::SCENARIOS;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name, deliveries] = &arguments[..] else {
        SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        return ExitCode::SUCCESS;
    };
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    match (scenario, deliveries.parse()) {
        (Some(scenario), Ok(deliveries)) => scenario.run(deliveries),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}
