//! The command line of `cargo xtask torture`.

use anyhow::{Context, Result, bail};

use super::participant::Kind;
use crate::bench::option::{file_name, list, number};

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(super) peers: Vec<Kind>,
    pub(super) rounds: u64,
    /// The longest time of load before each kill.
    pub(super) seconds: f64,
    pub(super) publishers: u64,
    /// Messages a second of each publisher; 0: as fast as the window allows.
    pub(super) rate: u64,
    pub(super) mqtt_version: String,
    pub(super) seed: u64,
    /// The name of the files that are written; without one, the date.
    pub(super) name: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            peers: Kind::ALL.to_vec(),
            rounds: 200,
            seconds: 3.0,
            publishers: 50,
            rate: 20,
            mqtt_version: "3.1.1".to_owned(),
            seed: 1,
            name: None,
        };
        let mut arguments = arguments.iter();
        while let Some(&argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
            match argument {
                "--peer" => options.peers = list(value()?, "peer", &Kind::ALL)?,
                "--rounds" => options.rounds = number(argument, value()?)?,
                "--seconds" => options.seconds = number(argument, value()?)?,
                "--publishers" => options.publishers = number(argument, value()?)?,
                "--rate" => options.rate = number(argument, value()?)?,
                "--mqtt-version" => options.mqtt_version = (*value()?).to_owned(),
                "--seed" => options.seed = number(argument, value()?)?,
                "--name" => options.name = Some(file_name(value()?)?),
                _ => bail!("`torture` has no option `{argument}`"),
            }
        }
        if !["3.1.1", "5"].contains(&options.mqtt_version.as_str()) {
            bail!("`--mqtt-version` is 3.1.1 or 5");
        }
        if options.rounds == 0 || options.publishers == 0 || !(0.1..=600.0).contains(&options.seconds) {
            bail!("`--rounds` and `--publishers` must be at least 1, and `--seconds` between 0.1 and 600");
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_run_is_the_default() {
        let options = Options::parse(&[]).unwrap();
        assert_eq!((options.rounds, options.publishers, options.peers), (200, 50, Kind::ALL.to_vec()));
        let options =
            Options::parse(&["--peer", "mosquitto", "--rounds", "3", "--mqtt-version", "5"]).unwrap();
        assert_eq!((options.rounds, options.peers), (3, vec![Kind::Mosquitto]));
        assert_eq!(options.mqtt_version, "5");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong: [&[&str]; 6] = [
            &["--peer", "nats"],
            &["--rounds", "0"],
            &["--seconds", "0"],
            &["--mqtt-version", "4"],
            &["--name", "../a"],
            &["--seed"],
        ];
        for arguments in wrong {
            assert!(Options::parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
