//! The tests that attack: those which are marked with a class of `conformance/attack`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::conformance::{self, Proof};
use crate::report::Report;
use crate::repository::Repository;
use crate::test;

/// The tests of the attack with the name, or of all attacks; found before anything is compiled.
pub(crate) fn tests(repository: &Repository, options: &[&str]) -> Result<Vec<Proof>> {
    match options {
        [] => conformance::attack_tests(repository, None),
        [name] => {
            let tests = conformance::attack_tests(repository, Some(name))?;
            if tests.is_empty() {
                bail!("no test in Rust makes the attack `{name}`");
            }
            Ok(tests)
        }
        _ => bail!("`attack` takes one name of docs/reference/attacks.md, or none"),
    }
}

/// Runs them.
pub(crate) fn run(repository: &Repository, report: &mut Report, tests: &[Proof]) {
    let packages = by_package(tests);
    let names: BTreeSet<&str> = packages.values().flatten().copied().collect();
    let chosen: Vec<String> = packages.keys().map(|package| format!("--package={package}")).collect();
    let expression = expression(&packages);
    let (chosen, names): (Vec<&str>, Vec<&str>) =
        (chosen.iter().map(String::as_str).collect(), names.into_iter().collect());
    let nextest = [&["run"], &chosen[..], &["-E", &expression]].concat();
    // Where there is no nextest, a name that is a part of another one runs that as well.
    let cargo_test = [&chosen[..], &["--lib", "--bins", "--tests", "--no-fail-fast", "--"], &names].concat();
    let (mut cargo, read) = test::runner(&nextest, &cargo_test);
    report.tests("attacks", cargo.current_dir(&repository.root), read);
}

/// Which tests are meant, for nextest.
fn expression(packages: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let of_package = |(package, names): (&&str, &BTreeSet<&str>)| {
        let names: Vec<&str> = names.iter().copied().collect();
        format!("(package({package}) & test(/(^|::)({})$/))", names.join("|"))
    };
    packages.iter().map(of_package).collect::<Vec<_>>().join(" | ")
}

/// The names of the tests of each package: its folder is called as the package.
fn by_package(tests: &[Proof]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut packages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for test in tests {
        let package = test.path.split('/').nth(1).unwrap_or_default();
        packages.entry(package).or_default().insert(&test.name);
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_chosen_by_package_and_whole_name() {
        let proof = |path: &str, name: &str| Proof { path: path.to_owned(), name: name.to_owned() };
        let tests =
            [proof("crates/a/src/x.rs", "d"), proof("crates/b/tests/y.rs", "e"), proof("crates/a/z.rs", "c")];
        assert_eq!(
            expression(&by_package(&tests)),
            "(package(a) & test(/(^|::)(c|d)$/)) | (package(b) & test(/(^|::)(e)$/))"
        );
    }
}
