//! Rules against models that are too simple to be wrong.

use std::path::Path;
use std::sync::Arc;

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};
use proptest::prelude::*;

use super::mosquitto::MosquittoFile;
use super::*;

fn ruleset(text: &str) -> Arc<Ruleset> {
    let path = Path::new("etc/acl.toml");
    Arc::new(Ruleset::new(path, RuleFile::parse(path, text).unwrap()))
}

fn subject<'a>(client_id: &'a str, user: Option<&'a str>) -> Subject<'a> {
    Subject { client_id, user, attributes: &[], listener: "", address: [127, 0, 0, 1].into() }
}

fn topic(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

fn subscribe(permission: &Permission, filter: &str) -> Acceptance {
    permission.subscribe(TopicFilter::new(filter).unwrap())
}

#[test]
fn the_first_rule_that_fits_decides_and_is_named() {
    let rules = ruleset(
        "[[rule]]\ndeny = 'publish'\ntopics = 'a/secret'\n\n[[rule]]\nallow = 'publish'\ntopics = 'a/#'\nqos_maximum = 1\n\
         retain = false\n\n[[rule]]\nallow = 'publish'\ntopics = 'a/%u'\nuser = ['anna', 'anna']\n",
    );
    let anna = rules.compile(&subject("c", Some("anna")));
    let nobody = rules.compile(&subject("c", None));
    let (secret, plain, own) = (topic("a/secret"), topic("a/b"), topic("a/anna"));
    for (permission, name, qos, retain, expected) in [
        (&anna, secret, QoS::AtMostOnce, false, (false, Some(0))),
        (&anna, plain, QoS::AtLeastOnce, false, (true, Some(1))),
        (&anna, plain, QoS::ExactlyOnce, false, (false, None)),
        (&anna, plain, QoS::AtMostOnce, true, (false, None)),
        (&anna, own, QoS::ExactlyOnce, true, (true, Some(2))),
        (&nobody, topic("a/anna"), QoS::ExactlyOnce, true, (false, None)),
        (&nobody, plain, QoS::AtMostOnce, false, (true, Some(1))),
    ] {
        let ruling = permission.publish(name, qos, retain);
        assert_eq!((ruling.is_allowed, ruling.rule), expected, "{name} {qos} {retain}");
    }
    let text = rules.describe(1).unwrap();
    assert_eq!(text, "acl.toml line 6: allow publish a/# up to QoS 1 without RETAIN for everybody");
    assert_eq!(rules.describe(3), None);
}

// [attack: empty-rules]
#[test]
fn without_rules_everything_is_denied() {
    let nobody = ruleset("").compile(&subject("c", Some("anna")));
    let denied = Ruling { is_allowed: false, rule: None };
    assert_eq!(nobody.publish(topic("a"), QoS::AtMostOnce, false), denied);
    assert_eq!(nobody.receive(topic("a")), denied);
    assert_eq!(subscribe(&nobody, "#"), Acceptance::Denied(None));
}

/// A right to some topics is none to a filter that matches others as well (CVE-2026-49186).
// [attack: filter-wider-than-rules]
#[test]
fn a_subscription_is_granted_for_all_of_its_topics_or_not_at_all() {
    let rules = ruleset(
        "[[rule]]\ndeny = 'subscribe'\ntopics = 'a/secret/#'\n[[rule]]\nallow = 'subscribe'\ntopics = ['a/#', '$SYS/#']\n",
    );
    let permission = rules.compile(&subject("c", None));
    for (filter, expected) in [
        ("a/b", Acceptance::Granted(Some(1))),
        ("a/b/#", Acceptance::Granted(Some(1))),
        ("$share/g/a/b", Acceptance::Granted(Some(1))),
        ("$SYS/broker/+", Acceptance::Granted(Some(1))),
        ("a/secret", Acceptance::Denied(Some(0))),
        ("a/#", Acceptance::Denied(Some(0))),
        ("a/+", Acceptance::Denied(Some(0))),
        ("#", Acceptance::Denied(None)),
        ("+/b", Acceptance::Denied(None)),
        ("$share/g/#", Acceptance::Denied(None)),
        ("b", Acceptance::Denied(None)),
    ] {
        assert_eq!(subscribe(&permission, filter), expected, "{filter}");
    }
    assert!(permission.receive(topic("a/b")).is_allowed);
    assert!(!permission.receive(topic("a/secret")).is_allowed);
}

// [attack: filter-wider-than-rules]
#[test]
fn where_receiving_is_allowed_a_wider_filter_is_checked() {
    let rules = ruleset(
        "[[rule]]\ndeny = 'receive'\ntopics = 'a/secret'\n[[rule]]\nallow = 'receive'\ntopics = 'a/#'\n\
         [[rule]]\nallow = 'subscribe'\ntopics = 'b/#'\n",
    );
    let permission = rules.compile(&subject("c", None));
    for (filter, expected) in [
        ("#", Acceptance::Checked(Some(1))),
        ("a/+", Acceptance::Checked(Some(1))),
        ("+/x", Acceptance::Checked(Some(1))),
        ("a/b", Acceptance::Granted(Some(1))),
        ("b/#", Acceptance::Granted(Some(2))),
        ("a/secret", Acceptance::Denied(Some(0))),
        ("c/#", Acceptance::Denied(None)),
    ] {
        assert_eq!(subscribe(&permission, filter), expected, "{filter}");
    }
    let any = ruleset("subscriptions = 'any'\n[[rule]]\nallow = 'receive'\ntopics = 'a/%c'\n");
    let any = any.compile(&subject("c", None));
    assert_eq!(subscribe(&any, "b"), Acceptance::Checked(None));
    assert_eq!(subscribe(&any, "a/c"), Acceptance::Granted(Some(0)));
}

#[test]
fn clients_with_the_same_fixed_rules_share_them() {
    let rules = ruleset(
        "[[rule]]\nallow = 'publish'\ntopics = 'a'\n[[rule]]\nallow = 'publish'\ntopics = 'b'\nuser = 'anna'\n\
         [[rule]]\nallow = 'publish'\ntopics = 'c/%c'\n",
    );
    let publish =
        |permission: &Permission, name| permission.publish(topic(name), QoS::AtMostOnce, false).rule;
    let (one, other) = (rules.compile(&subject("1", None)), rules.compile(&subject("2", None)));
    assert!(Arc::ptr_eq(one.fixed_tables(), other.fixed_tables()));
    assert_eq!((publish(&one, "c/1"), publish(&one, "c/2")), (Some(2), None));
    let anna = rules.compile(&subject("1", Some("anna")));
    assert!(!Arc::ptr_eq(one.fixed_tables(), anna.fixed_tables()));
    assert_eq!((publish(&anna, "b"), publish(&one, "b")), (Some(1), None));
}

const LEVELS: &str = "([ab$+]|)(/([ab$+]|)){0,3}|#|([ab$+]|)(/([ab$+]|)){0,2}/#";

prop_compose! {
    fn any_rule()(
        is_allow in any::<bool>(),
        action in 0..4_usize,
        topics in prop::collection::vec(prop::sample::select(
            vec!["a", "b", "a/b", "a/#", "#", "+", "+/b", "a/+", "$a/#", "%c", "a/%u/#", "b/%c/%u", "x%c"]), 1..3),
        user in prop::option::of(prop::sample::select(vec!["a", "b"])),
        client_id in prop::option::of(prop::sample::select(vec!["a", "b", "*"])),
        qos in prop::option::of(0..2_u8),
        retain in prop::option::of(any::<bool>()),
    ) -> String {
        let mut rule = format!(
            "[[rule]]\n{} = '{}'\ntopics = {topics:?}\n",
            if is_allow { "allow" } else { "deny" },
            ["publish", "subscribe", "receive", "pubsub"][action],
        );
        let mut condition = |name: &str, value: Option<&str>| {
            rule.extend(value.map(|value| format!("{name} = '{value}'\n")));
        };
        condition("user", user);
        condition("client_id", client_id);
        if action == 0 {
            rule.extend(qos.filter(|_| is_allow).map(|qos| format!("qos_maximum = {qos}\n")));
            rule.extend(retain.map(|retain| format!("retain = {retain}\n")));
        }
        rule
    }
}

/// Rule by rule, with the matching of the protocol.
fn model(
    rules: &[Rule],
    subject: &Subject<'_>,
    name: TopicName<'_>,
    is_of: impl Fn(&Rule) -> bool,
) -> Option<u32> {
    let fits = |rule: &Rule| {
        let mut patterns = rule.topics.iter().flat_map(|topic| topic.expand(subject, rule.unusable()));
        is_of(rule)
            && rule.condition.is_met(subject)
            && patterns.any(|pattern| TopicFilter::new(&pattern).unwrap().matches(name))
    };
    rules.iter().position(fits).map(|place| u32::try_from(place).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn what_is_compiled_says_what_the_rules_say(
        rules in prop::collection::vec(any_rule(), 0..40),
        client_id in "a|b|\\+|a/b|\\$a",
        user in prop::option::of("a|b|#"),
        names in prop::collection::vec("([ab]|x[ab]|\\$a|)(/([ab]|)){0,3}", 1..8),
        qos in 0..3_u8,
        retain in any::<bool>(),
    ) {
        let rules = ruleset(&rules.concat());
        let subject = subject(&client_id, user.as_deref());
        let permission = rules.compile(&subject);
        let qos = QoS::from_bits(qos).unwrap();
        for name in names.iter().filter(|name| !name.is_empty()) {
            let name = topic(name);
            let published = model(rules.rules(), &subject, name, |rule| {
                rule.actions.publish && rule.messages.fit(qos, retain)
            });
            prop_assert_eq!(permission.publish(name, qos, retain).rule, published);
            let received = model(rules.rules(), &subject, name, |rule| rule.actions.is_of_reception());
            let ruling = permission.receive(name);
            prop_assert_eq!(ruling.rule, received);
            // The filter that is this very topic.
            let is_whole = received.is_some_and(|place| {
                rules.rules()[place as usize].effect == Effect::Allow
            });
            prop_assert_eq!(ruling.is_allowed, is_whole);
            let accepted = subscribe(&permission, name.as_str());
            let expected = if is_whole { Acceptance::Granted(received) } else { Acceptance::Denied(received) };
            prop_assert_eq!(accepted, expected);
        }
    }

    /// What is granted is allowed for every topic, and what is denied or checked is not.
    #[test]
    fn a_subscription_gets_what_its_topics_get(
        rules in prop::collection::vec(any_rule(), 0..8), filter in LEVELS, is_any in any::<bool>(),
    ) {
        let head = if is_any { "subscriptions = 'any'\n" } else { "" };
        let rules = ruleset(&format!("{head}{}", rules.concat()));
        let subject = subject("a", Some("b"));
        let permission = rules.compile(&subject);
        if let Ok(filter) = TopicFilter::new(&filter) {
            let levels = ["a", "b", "", "xa", "$a", "$", "other"];
            let mut names: Vec<String> = levels.map(str::to_owned).to_vec();
            let mut last = names.clone();
            for _ in 1..4 {
                last = last.iter().flat_map(|name| levels.map(|level| format!("{name}/{level}"))).collect();
                names.extend(last.iter().cloned());
            }
            let (mut is_allowed, mut is_denied, mut is_wide) = (false, false, false);
            for name in names.iter().filter(|name| !name.is_empty()) {
                let name = topic(name);
                if filter.matches(name) {
                    let ruling = permission.receive(name);
                    let rule = ruling.rule.map(|place| &rules.rules()[place as usize]);
                    is_allowed |= ruling.is_allowed;
                    is_denied |= !ruling.is_allowed;
                    is_wide |= ruling.is_allowed && rule.is_some_and(|rule| !rule.actions.subscribe);
                }
            }
            let accepted = permission.subscribe(filter);
            match accepted {
                Acceptance::Granted(_) => prop_assert!(is_allowed && !is_denied, "{filter}"),
                Acceptance::Checked(_) => prop_assert!(is_denied && (is_wide || is_any), "{filter}"),
                Acceptance::Denied(_) => prop_assert!(is_denied && !is_wide && !is_any, "{filter}"),
            }
        }
    }
}

fn mosquitto(text: &str) -> Result<MosquittoFile, String> {
    MosquittoFile::parse(Path::new("acl.txt"), text).map_err(|error| error.to_string())
}

#[test]
fn a_file_of_mosquitto_holds_in_its_order() {
    let text = "# doors\n\ntopic read public/#\r\nuser anna\ntopic readwrite a/#\ntopic deny a/secret/#\ntopic both\n\
                pattern write c/%c/%\npattern deny c/+/private\nuser  bert b \ntopic write  with blank \n";
    let file = mosquitto(text).unwrap();
    let rules: Vec<_> = file.rules.rules.iter().map(|rule| format!("{} {rule}", rule.line)).collect();
    let expected = [
        "6 deny publish, receive a/secret/# for user anna",
        "3 allow receive public/# for who is anonymous",
        "5 allow publish, receive a/# for user anna",
        "7 allow publish, receive both for user anna",
        "11 allow publish with blank for user bert b",
        "9 deny publish, receive c/+/private for everybody",
        "8 allow publish c/%c/%% for everybody",
    ];
    assert_eq!(rules, expected);
    assert_eq!(file.rules.subscriptions, Subscriptions::Any);
    assert_eq!(file.remarks.len(), 1);
    let again = RuleFile::parse(Path::new("acl.toml"), &file.to_toml()).unwrap();
    let texts = |file: &RuleFile| file.rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((texts(&again), again.subscriptions), (texts(&file.rules), Subscriptions::Any));
}

#[test]
fn a_line_that_mosquitto_would_not_take_is_named() {
    for (text, line, expected) in [
        ("topic a\ntopics b", 2, "'topics' is none of"),
        ("user", 1, "no name"),
        ("user  ", 1, "no name"),
        ("topic", 1, "no topic"),
        ("\ntopic write", 2, ""),
        ("topic wrote a", 1, "'wrote' is none of"),
        ("topic read a/#/b", 1, "no topic filter"),
        (" topic a", 1, "'' is none of"),
    ] {
        match mosquitto(text) {
            // A word alone is a topic.
            Ok(file) => assert_eq!((file.rules.rules[0].line, expected), (line, "")),
            Err(error) => {
                assert!(error.starts_with(&format!("acl.txt line {line}: ")), "{text:?}: {error}");
                assert!(!expected.is_empty() && error.contains(expected), "{text:?}: {error}");
            }
        }
    }
}
