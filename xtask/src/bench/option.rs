//! The command line of `cargo xtask bench`.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::peer::Kind;
use super::scenario::Set;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(super) sets: Vec<Set>,
    /// Without a choice, every peer there is.
    pub(super) peers: Option<Vec<Kind>>,
    pub(super) rounds: u64,
    /// How long publishers publish in a run whose length is a matter of choice.
    pub(super) seconds: f64,
    /// Only cells with this text in their name.
    pub(super) filter: Option<String>,
    /// The name of the files that are written; without one, the date and the sets.
    pub(super) name: Option<String>,
    /// Measures nothing: writes the table of an earlier run anew.
    pub(super) report: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            sets: Set::ALL.to_vec(),
            peers: None,
            rounds: 5,
            seconds: 1.0,
            filter: None,
            name: None,
            report: None,
        };
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
            match argument {
                "--set" => options.sets = list(value()?, "set", &Set::ALL)?,
                "--peer" => options.peers = Some(list(value()?, "peer", &Kind::ALL)?),
                "--rounds" => options.rounds = number(argument, value()?)?,
                "--seconds" => options.seconds = number(argument, value()?)?,
                "--filter" => options.filter = Some((*value()?).to_owned()),
                "--name" => options.name = Some(file_name(value()?)?),
                "--report" => options.report = Some(file_name(value()?)?),
                _ => bail!("`bench` has no option `{argument}`"),
            }
        }
        if options.rounds == 0 || !(0.1..=600.0).contains(&options.seconds) {
            bail!("`--rounds` must be at least 1, and `--seconds` between 0.1 and 600");
        }
        Ok(options)
    }
}

/// The members of `all` that `text` names, in the order of `all`, each once.
pub(crate) fn list<T: Copy + PartialEq + Display>(text: &str, what: &str, all: &[T]) -> Result<Vec<T>> {
    let mut chosen = Vec::new();
    for name in text.split(',') {
        let Some(member) = all.iter().find(|member| member.to_string() == name) else {
            let known: Vec<String> = all.iter().map(ToString::to_string).collect();
            bail!("there is no {what} `{name}`; there are: {}", known.join(", "));
        };
        chosen.push(*member);
    }
    Ok(all.iter().copied().filter(|member| chosen.contains(member)).collect())
}

pub(crate) fn number<T: FromStr>(option: &str, value: &str) -> Result<T> {
    value.parse().ok().with_context(|| format!("`{option} {value}`: this is not a number that fits"))
}

pub(crate) fn file_name(value: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if value.is_empty() || value.starts_with('.') || !value.chars().all(fits) {
        bail!("`{value}`: a name has letters, digits, `-`, `_` and `.`, and no folder");
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_unless_less_is_asked_for() {
        let options = Options::parse(&[]).unwrap();
        assert_eq!((options.sets.len(), options.rounds, options.peers), (Set::ALL.len(), 5, None));
        let options = Options::parse(&["--set", "latency,core", "--peer", "bare,lapwing", "--rounds", "2"]);
        let options = options.unwrap();
        assert_eq!(options.sets, [Set::Core, Set::Latency]);
        assert_eq!(options.peers, Some(vec![Kind::Lapwing, Kind::Bare]));
        assert_eq!(options.rounds, 2);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong: [&[&str]; 9] = [
            &["--set"],
            &["--set", "cor"],
            &["--peer", "lapwing,"],
            &["--rounds", "0"],
            &["--rounds", "1.5"],
            &["--seconds", "0"],
            &["--seconds", "NaN"],
            &["--name", "../a"],
            &["core"],
        ];
        for arguments in wrong {
            assert!(Options::parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
