//! Which of our crates may depend on which. `ARCHITECTURE.md` gives the reasons.

use crate::repository::{Package, Repository};

/// The crates in the order of their layers, and what each may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("lapwing-proto", &[]),
    ("lapwing-net", &["lapwing-proto"]),
    ("lapwing-store", &["lapwing-proto"]),
    ("lapwing-auth", &["lapwing-proto", "lapwing-broker"]),
    ("lapwing-client", &["lapwing-proto", "lapwing-net"]),
    ("lapwing-broker", &["lapwing-proto", "lapwing-net", "lapwing-store"]),
    ("lapwing-platform", &["lapwing-proto", "lapwing-store", "lapwing-auth", "lapwing-broker"]),
    ("lapwing-api", &["lapwing-proto", "lapwing-platform", "lapwing-broker"]),
    (
        "lapwing",
        &[
            "lapwing-proto",
            "lapwing-net",
            "lapwing-store",
            "lapwing-auth",
            "lapwing-client",
            "lapwing-broker",
            "lapwing-platform",
            "lapwing-api",
        ],
    ),
    ("interop-rust", &[]),
    ("xtask", &[]),
];

/// `lapwing-proto` stands alone in its tests too: nothing of ours may be needed to test the protocol.
const ALONE: &str = "lapwing-proto";

pub(super) fn check(repository: &Repository) -> Vec<String> {
    let members: Vec<&Package> = repository.packages.iter().filter(|package| package.member).collect();
    violations(&members)
}

fn violations(members: &[&Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in members {
        let name = &package.name;
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
            found.push(format!(
                "the crate `{name}` has no layer yet: that is a design decision, to be written into ARCHITECTURE.md \
                 and xtask/src/tidy/layering.rs"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let other = &dependency.name;
            let ours = members.iter().any(|member| &member.name == other);
            let free = dependency.development && name != ALONE;
            if ours && !free && !allowed.contains(&other.as_str()) {
                found.push(format!(
                    "`{name}` depends on `{other}`: a new arrow is a design decision, to be written into \
                     ARCHITECTURE.md and xtask/src/tidy/layering.rs"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Dependency;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|&(name, development)| Dependency { name: name.to_owned(), development })
            .collect();
        Package { name: name.to_owned(), licence: None, member: true, dependencies }
    }

    fn count(packages: &[Package]) -> usize {
        violations(&packages.iter().collect::<Vec<_>>()).len()
    }

    #[test]
    fn arrows_point_down() {
        let proto = || package("lapwing-proto", &[("bytes", false)]);
        let net = |development| package("lapwing-net", &[("lapwing-broker", development)]);
        let broker = || package("lapwing-broker", &[("lapwing-proto", false), ("lapwing-net", false)]);
        assert_eq!(count(&[proto(), net(true), broker()]), 0);
        assert_eq!(count(&[proto(), net(false), broker()]), 1);
    }

    #[test]
    fn the_protocol_stands_alone_in_its_tests_too() {
        let proto = package("lapwing-proto", &[("lapwing-net", true), ("proptest", true)]);
        assert_eq!(count(&[proto, package("lapwing-net", &[])]), 1);
    }

    #[test]
    fn an_unknown_crate_needs_a_layer() {
        assert_eq!(count(&[package("lapwing-new", &[])]), 1);
    }
}
