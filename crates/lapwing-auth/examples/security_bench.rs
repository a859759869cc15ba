//! What a permission costs, and a verdict: `cargo run --release -p lapwing-auth --example security_bench`.
//!
//! The fastest of some rounds counts: what else the machine does only makes it slower.
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lapwing_auth::password::{Cost, PasswordHash, Users, Workspace};
use lapwing_auth::permission::{RuleFile, Ruleset, Subject};
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};

const ROUNDS: usize = 20;

fn main() {
    println!("ns for each call, of rules that are compiled for a client");
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "rules", "first", "last", "none", "compile", "subscribe"
    );
    for count in [1, 5, 10, 20, 100, 1000, 10_000] {
        permissions(count);
    }
    hashes();
}

fn permissions(count: usize) {
    let rule = |n| {
        let topics = match n % 4 {
            0 => format!("plant/line-{n}/+/temperature"),
            1 => format!("plant/line-{n}/#"),
            2 => format!("plant/%c/{n}/state"),
            _ => format!("plant/line-{n}/state"),
        };
        format!("[[rule]]\nallow = 'pubsub'\ntopics = '{topics}'\n")
    };
    let text: String = (0..count).map(rule).collect();
    let path = Path::new("acl.toml");
    let rules = Arc::new(Ruleset::new(path, RuleFile::parse(path, &text).expect("rules")));
    let subject = Subject {
        client_id: "client-7",
        user: Some("anna"),
        attributes: &[],
        listener: "lan",
        address: [10, 0, 0, 1].into(),
    };
    let permission = rules.compile(&subject);
    let last = count - 1;
    let last = match last % 4 {
        0 => format!("plant/line-{last}/oven/temperature"),
        1 => format!("plant/line-{last}/oven/door/state"),
        2 => format!("plant/client-7/{last}/state"),
        _ => format!("plant/line-{last}/state"),
    };
    let publish = |name: &str| {
        let name = TopicName::new(name).expect("a name");
        nanoseconds(|| {
            black_box(permission.publish(black_box(name), QoS::AtMostOnce, false));
        })
    };
    let (first, last, none) =
        (publish("plant/line-0/oven/temperature"), publish(&last), publish("plant/line-x/oven/state"));
    let compile = nanoseconds(|| {
        black_box(rules.compile(black_box(&subject)));
    });
    let filter = TopicFilter::new("plant/line-0/+/temperature").expect("a filter");
    let subscribe = nanoseconds(|| {
        black_box(permission.subscribe(black_box(filter)));
    });
    println!("{count:>8} {first:>10.1} {last:>10.1} {none:>10.1} {compile:>10.0} {subscribe:>12.0}");
}

fn hashes() {
    let mut workspace = Workspace::default();
    let hash = PasswordHash::new(b"secret", Cost::default(), &mut workspace).expect("a hash");
    let text = format!("[users.anna]\npassword = '{}'\n", hash.to_text());
    let users = Users::parse(Path::new("users.toml"), &text).expect("users");
    let mut milliseconds = |name: &str, password: &[u8]| {
        let time = (0..5).map(|_| {
            let start = Instant::now();
            black_box(users.verify(name, password, &mut workspace));
            start.elapsed().as_secs_f64() * 1000.0
        });
        time.fold(f64::INFINITY, f64::min)
    };
    println!("\nms for a password, argon2id with 19 MiB and 2 passes");
    println!("right {:.1}, wrong {:.1}, ", milliseconds("anna", b"secret"), milliseconds("anna", b"x"));
    println!("of nobody {:.1}", milliseconds("nobody", b"x"));
}

/// For each call, of the fastest round.
fn nanoseconds(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..10).for_each(|_| call());
    let calls = (2_000_000 / (start.elapsed().as_nanos() / 10).max(1)).clamp(1, 100_000) as u32;
    let time = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    });
    time.fold(f64::INFINITY, f64::min)
}
