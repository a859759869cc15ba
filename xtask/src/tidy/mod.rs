//! The project's own rules about its sources, each in a file of its own.

mod absence;
mod dependency;
mod file_length;
mod file_name;
mod layering;
mod leftover;
mod licence;
mod link;
mod machine_path;
mod sleep;

use anyhow::{Result, bail};

use crate::conformance;
use crate::report::Report;
use crate::repository::Repository;

/// A rule looks at the repository and returns a sentence for each place that breaks it.
type Rule = fn(&Repository) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("layering", layering::check),
    ("invariants of absence", absence::check),
    ("file length", file_length::check),
    ("file names", file_name::check),
    ("leftovers", leftover::check),
    ("sleeping tests", sleep::check),
    ("machine paths", machine_path::check),
    ("links", link::check),
    ("licences", licence::check),
    ("table of dependencies", dependency::check),
    ("conformance", conformance::check),
];

pub(crate) fn run(repository: &Repository, report: &mut Report) {
    for (name, rule) in RULES {
        report.check(&format!("tidy: {name}"), || settle(&rule(repository)));
    }
}

fn settle(violations: &[String]) -> Result<()> {
    for violation in violations {
        println!("   {violation}");
    }
    match violations {
        [] => Ok(()),
        [only] => bail!("{only}"),
        [first, rest @ ..] => bail!("{first} (and {} more, listed above)", rest.len()),
    }
}
