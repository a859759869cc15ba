//! The `lapwing` binary against clients of other projects: Python's, Node's and Mosquitto's.
//!
//! The tests live in the top folder `interop/`. What they need is installed below `target/` and kept for the next run.
//! They find the binary through the environment variable `LAPWING_BIN`.

pub(crate) mod debian;
mod node;
pub(crate) mod python;

use std::path::Path;

use crate::report::Report;
use crate::repository::Repository;

/// Runs every suite there is against `binary`, an absolute path.
pub(crate) fn run(repository: &Repository, report: &mut Report, binary: &Path) {
    let folder = repository.root.join("interop");
    if folder.join("python").is_dir() {
        // The suite written in Python also drives Mosquitto's command line clients.
        report.prepare("Mosquitto and its clients", || {
            debian::ensure(&["mosquitto_pub", "mosquitto_sub"], "mosquitto-clients")?;
            // Its rules and passwords are compared with ours.
            debian::ensure(&["mosquitto", "mosquitto_passwd"], "mosquitto")
        });
        python::run(&folder.join("python"), &repository.target.join("interop"), report, binary);
    } else {
        report.nothing("Python clients", "there is no interop/python");
    }
    if folder.join("node").is_dir() {
        node::run(&folder.join("node"), report, binary);
    } else {
        report.nothing("Node clients", "there is no interop/node");
    }
}
