//! Invariants of absence: what a part of the code must never name. `ARCHITECTURE.md` lists them.

use crate::repository::Repository;
use crate::rust_source::{NamedPath, code_only, named_paths, unit_tests_start};

struct Invariant {
    /// The start of the paths of the sources it holds for.
    within: &'static str,
    /// The crates among them that are free.
    except: &'static [&'static str],
    /// Paths or single identifiers.
    never: &'static [&'static str],
    /// Words that no identifier may have in it, whatever its case.
    never_part: &'static [&'static str],
    reason: &'static str,
}

/// It has a listener of its own: HTTP is served by an async runtime, which has its own kind of sockets, and a browser or a
/// scraper is no MQTT client. So it may name those of TCP.
const API: &str = "crates/lapwing-api/src/";

/// It asks a service over HTTP by a library that waits, with sockets of its own. The library has to be told which algorithms of TLS there are
/// and whom it may trust.
const HTTP_CLIENT: &str = "crates/lapwing-auth/src/authentication/http/client.rs";

/// What a file is called that has nothing but the unit tests of a module.
const UNIT_TESTS: &str = "/tests.rs";

const INVARIANTS: &[Invariant] = &[
    Invariant {
        within: "crates/lapwing-proto/src/",
        except: &[],
        never: &[
            "std::net",
            "std::fs",
            "std::thread",
            "std::os",
            // The protocol has an `Instant` of its own: a number that the caller passes in.
            "time::Instant",
            "Instant::now",
            "SystemTime",
            "tokio",
            "mio",
            "async",
            "await",
        ],
        never_part: &[],
        reason: "the protocol is values and transitions, without sockets, files, threads or a clock",
    },
    Invariant {
        within: "crates/",
        except: &["crates/lapwing-net/", API, HTTP_CLIENT],
        never: &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "UnixDatagram",
            "mio::net",
            "socket2",
            "rustls",
        ],
        never_part: &[],
        reason: "only lapwing-net names sockets and TLS",
    },
    Invariant {
        within: API,
        except: &[],
        never: &[
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "UnixDatagram",
            "mio",
            "socket2",
            "rustls",
            "Shard",
            "Shared",
        ],
        never_part: &["device"],
        reason: "the admin channel is HTTP over TCP, and knows a handle of the broker",
    },
    Invariant {
        within: "crates/",
        // The protocol has a rule of its own, with the same names in it.
        except: &[API, "crates/lapwing-proto/"],
        never: &["tokio", "hyper", "axum"],
        never_part: &[],
        reason: "only lapwing-api has HTTP and an async runtime",
    },
    Invariant {
        within: "crates/",
        except: &[HTTP_CLIENT],
        never: &["ureq"],
        never_part: &[],
        reason: "one file asks services over HTTP, and keeps all limits of it",
    },
    Invariant {
        within: "crates/lapwing-broker/src/",
        except: &[],
        never: &[],
        never_part: &["device"],
        reason: "the broker knows identities; devices belong to the platform above it",
    },
];

pub(super) fn check(repository: &Repository) -> Vec<String> {
    repository.sources(&["rs"]).flat_map(|file| violations(&file.path, &file.text)).collect()
}

fn violations(path: &str, text: &str) -> Vec<String> {
    let holds = |invariant: &&Invariant| {
        path.starts_with(invariant.within)
            && path.contains("/src/")
            && !path.ends_with(UNIT_TESTS)
            && !invariant.except.iter().any(|free| path.starts_with(free))
    };
    let invariants: Vec<&Invariant> = INVARIANTS.iter().filter(holds).collect();
    if invariants.is_empty() {
        return Vec::new();
    }
    let code = code_only(text);
    // Unit tests are free, and they stand at the end of a file, or in one of their own.
    let end = unit_tests_start(&code).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for named in named_paths(&code).iter().filter(|named| named.line < end) {
        for invariant in &invariants {
            if let Some(name) = broken(invariant, named) {
                found.push(format!("{path}:{}: names `{name}`: {}", named.line, invariant.reason));
            }
        }
    }
    found
}

/// The forbidden name in `named`, as the source spells it.
fn broken(invariant: &Invariant, named: &NamedPath) -> Option<String> {
    let name = invariant.never.iter().find(|name| named.contains(name)).map(|&name| name.to_owned());
    name.or_else(|| {
        let has_part = |segment: &&String| {
            let lower = segment.to_lowercase();
            invariant.never_part.iter().any(|part| lower.contains(part))
        };
        named.segments.iter().find(has_part).cloned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        violations(path, text).len()
    }

    #[test]
    fn the_protocol_has_no_input_output_and_no_clock() {
        let path = "crates/lapwing-proto/src/packet/publish.rs";
        assert_eq!(count(path, "use std::{fmt, fs};\nuse std::time::{Duration, Instant};"), 2);
        assert_eq!(count(path, "pub async fn read() { tokio::spawn(x).await }"), 3);
        assert_eq!(count(path, "// tokio and Instant\nuse std::time::Duration;\nlet a = \"std::fs\";"), 0);
        assert_eq!(count(path, "use std::time;\nlet now = time::Instant::now();"), 1);
        assert_eq!(count(path, "use super::Instant;\nfn due(now: Instant) {}"), 0);
        assert_eq!(count("crates/lapwing-proto/tests/split.rs", "use std::fs;"), 0);
    }

    #[test]
    fn only_the_network_crate_names_sockets() {
        let text = "use std::net::{SocketAddr, TcpStream};\nuse mio::{Poll, Waker, net as sockets};";
        assert_eq!(count("crates/lapwing-broker/src/event_loop.rs", text), 2);
        assert_eq!(count("crates/lapwing-net/src/stream.rs", text), 0);
        assert_eq!(count("crates/lapwing-broker/tests/tcp.rs", text), 0);
        assert_eq!(count("crates/lapwing-broker/src/event_loop.rs", "use mio::{Poll, Waker};"), 0);
    }

    #[test]
    fn only_the_admin_channel_speaks_http() {
        let text = "use tokio::net::TcpListener;\nuse hyper::Request;";
        assert_eq!(count("crates/lapwing-api/src/server.rs", text), 0);
        assert!(count("crates/lapwing-broker/src/control.rs", text) >= 2);
        assert_eq!(
            count("crates/lapwing-api/src/server.rs", "use lapwing_broker::Shard; fn a(b: UnixStream) {}"),
            2
        );
    }

    #[test]
    fn one_file_asks_over_http() {
        let text = "use ureq::Agent;\nuse rustls::RootCertStore;";
        assert_eq!(count(HTTP_CLIENT, text), 0);
        assert_eq!(count("crates/lapwing-auth/src/authentication/http/mod.rs", text), 2);
        assert_eq!(count("crates/lapwing-api/src/server.rs", text), 2);
    }

    #[test]
    fn unit_tests_are_free() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use std::net::TcpStream;\n}\n";
        assert_eq!(count("crates/lapwing-client/src/lib.rs", text), 0);
        assert_eq!(count("crates/lapwing-client/src/option/tests.rs", "use std::net::TcpStream;"), 0);
        assert_eq!(count("crates/lapwing-client/src/tests_of.rs", "use std::net::TcpStream;"), 1);
    }

    #[test]
    fn the_broker_knows_no_devices() {
        let path = "crates/lapwing-broker/src/session.rs";
        assert_eq!(count(path, "struct DeviceId; fn a(per_device: u8) {} // a device"), 2);
        assert_eq!(count("crates/lapwing-platform/src/device.rs", "struct DeviceId;"), 0);
    }
}
