//! What fuzz targets and property tests do with arbitrary bytes. Not for use by programs.

use std::path::Path;
use std::sync::Arc;

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};

use crate::password::{Users, read_mosquitto};
use crate::permission::{Acceptance, Case, MosquittoFile, Permission, RuleFile, Ruleset, Subject};

/// Reads the bytes as every kind of file that people write. What is one is used: rules are compiled for some clients, and what they say of
/// topics must agree with what they say of filters.
pub fn security_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("file");
    let _ = Users::parse(path, text);
    let _ = read_mosquitto(path, text);
    let _ = Case::parse(path, text);
    if let Ok(file) = RuleFile::parse(path, text) {
        try_rules(file, text);
    }
    if let Ok(file) = MosquittoFile::parse(path, text) {
        let again = RuleFile::parse(path, &file.to_toml()).expect("what is written can be read");
        assert_eq!(again.rules.len(), file.rules.rules.len());
        for (one, other) in again.rules.iter().zip(&file.rules.rules) {
            assert_eq!(one.to_string(), other.to_string());
        }
        try_rules(file.rules, text);
    }
}

fn try_rules(file: RuleFile, text: &str) {
    let rules = Arc::new(Ruleset::new(Path::new("file"), file));
    let attributes = [("group".into(), "a".into()), ("group".into(), "b/c".into())];
    for (client_id, user) in [("a", None), ("b", Some("a")), ("+", Some("$SYS")), ("a/b", Some("#"))] {
        let subject = Subject {
            client_id,
            user,
            attributes: &attributes,
            listener: "lan",
            address: [127, 0, 0, 1].into(),
        };
        let permission = rules.compile(&subject);
        // Words of the file are the topics that its rules speak of.
        for word in text.split(['"', '\'', ' ', '\n', '\r']).take(64) {
            if let Ok(topic) = TopicName::new(word) {
                permission.publish(topic, QoS::AtMostOnce, false);
                permission.receive(topic);
                check(&permission, topic, word);
            }
            if let Ok(filter) = TopicFilter::new(word) {
                permission.subscribe(filter);
            }
        }
    }
}

/// A filter without wildcards is its topic.
fn check(permission: &Permission, topic: TopicName<'_>, word: &str) {
    let Ok(filter) = TopicFilter::new(word) else { return };
    if filter.share_name().is_none() {
        let is_granted = matches!(permission.subscribe(filter), Acceptance::Granted(_));
        assert_eq!(is_granted, permission.receive(topic).is_allowed, "{word}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn any_bytes_are_read_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
            security_file(&data);
        }

        #[test]
        fn anything_like_a_file_is_read_without_a_panic(
            lines in prop::collection::vec(prop::sample::select(vec![
                "[[rule]]", "allow = 'publish'", "deny = ['pubsub', 'receive']", "topics = 'a/%u/#'", "topics = ['+/%c', '#']",
                "user = 'a'", "group = ['a', 'b']", "client_id = '*'", "address = '10.0.0.0/8'", "anonymous = true",
                "qos_maximum = 1", "retain = false", "attribute = { a = 'b' }", "subscriptions = 'any'", "[[case]]", "client = 'a'",
                "action = 'publish'", "topic = 'a'", "expect = 'deny'", "[users.a]", "no_password = true", "password = '$7$1$YQ==$YQ=='",
                "topic read a/#", "topic deny a", "topic", "pattern write %c/%u/%", "user a", "a:$6$YQ==$YQ==", "\u{0}", "#", "é = '\\u0000'",
            ]), 0..12),
        ) {
            security_file(lines.join("\n").as_bytes());
        }
    }
}
