//! Cases: what rules are meant to say, to be tried before they are in force.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use lapwing_proto::packet::QoS;
use lapwing_proto::topic::{TopicFilter, TopicName};
use serde::Deserialize;
use toml::Spanned;

use super::explain::{Action, Answer, Explanation};
use super::ruleset::Ruleset;
use super::subject::{GROUP, Subject};
use crate::fault::{FileError, Source};
use crate::many::Many;
use crate::password::Users;

/// One case: who does what, and what must come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The line in which it begins.
    pub line: usize,
    client_id: String,
    user: Option<String>,
    attributes: Vec<(Arc<str>, Arc<str>)>,
    listener: String,
    address: IpAddr,
    action: Kind,
    topic: String,
    qos: QoS,
    retain: bool,
    /// What must come of it.
    pub expected: Answer,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Publish,
    Subscribe,
    Receive,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    client: Spanned<String>,
    user: Option<String>,
    group: Option<Many>,
    attribute: Option<BTreeMap<String, Many>>,
    listener: Option<String>,
    address: Option<IpAddr>,
    action: Kind,
    topic: Spanned<String>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    expect: Answer,
}

impl Case {
    /// Reads the text of a file of cases.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line. A file without cases is wrong too: it would show nothing.
    pub fn parse(path: &Path, text: &str) -> Result<Vec<Self>, FileError> {
        let source = Source::new(path, text);
        let raw: RawFile = toml::from_str(text).map_err(|error| source.toml(&error))?;
        if raw.case.is_empty() {
            return Err(FileError::new(path, "has no [[case]]"));
        }
        raw.case.into_iter().map(|case| read(case, &source)).collect()
    }

    /// What the rules say. Groups and attributes of a user that is among `users` need not be in the case.
    pub fn run(&self, rules: &Arc<Ruleset>, users: Option<&Users>) -> Explanation {
        let user = self.user.as_deref();
        let known = user.and_then(|user| users?.get(user));
        let attributes = match known {
            Some(known) if self.attributes.is_empty() => &known.attributes[..],
            _ => &self.attributes[..],
        };
        let subject = Subject {
            client_id: &self.client_id,
            user,
            attributes,
            listener: &self.listener,
            address: self.address,
        };
        // They were checked when the file was read.
        let name = TopicName::new(&self.topic);
        let action = match (self.action, name, TopicFilter::new(&self.topic)) {
            (Kind::Publish, Ok(name), _) => Action::Publish(name, self.qos, self.retain),
            (Kind::Receive, Ok(name), _) => Action::Receive(name),
            (Kind::Subscribe, _, Ok(filter)) => Action::Subscribe(filter),
            _ => return Explanation { answer: Answer::Deny, rule: None, near_misses: Vec::new() },
        };
        rules.explain(&subject, action)
    }
}

fn read(raw: RawCase, source: &Source<'_>) -> Result<Case, FileError> {
    let topic_error = match raw.action {
        Kind::Subscribe => TopicFilter::new(raw.topic.get_ref()).err(),
        Kind::Publish | Kind::Receive => TopicName::new(raw.topic.get_ref()).err(),
    };
    if let Some(error) = topic_error {
        return Err(source.error(Some(raw.topic.span()), error));
    }
    let line = source.line(raw.client.span().start);
    let wrong_qos = || source.error(Some(raw.client.span()), "a quality of service is 0, 1 or 2");
    let qos = QoS::from_bits(raw.qos).ok_or_else(wrong_qos)?;
    let group = raw.group.map(|values| (GROUP.to_owned(), values));
    let lists = group.into_iter().chain(raw.attribute.into_iter().flatten());
    let attributes = lists.flat_map(|(name, Many(values))| {
        let name: Arc<str> = name.into();
        values.into_iter().map(move |value| (Arc::clone(&name), value.into()))
    });
    Ok(Case {
        line,
        client_id: raw.client.into_inner(),
        user: raw.user,
        attributes: attributes.collect(),
        listener: raw.listener.unwrap_or_default(),
        address: raw.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        action: raw.action,
        topic: raw.topic.into_inner(),
        qos,
        retain: raw.retain,
        expected: raw.expect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::RuleFile;

    const RULES: &str = "[[rule]]\ndeny = 'publish'\ntopics = 'a/secret'\n[[rule]]\nallow = 'publish'\ntopics = 'a/#'\n\
                         group = 'staff'\nqos_maximum = 1\n[[rule]]\nallow = 'subscribe'\ntopics = 'b/%u/#'\n\
                         [[rule]]\nallow = 'publish'\ntopics = 'a/secret'\n";

    fn explain(case: &str) -> Explanation {
        let path = Path::new("acl.toml");
        let rules = Arc::new(Ruleset::new(path, RuleFile::parse(path, RULES).unwrap()));
        let text = format!("[[case]]\nclient = 'c'\nexpect = 'deny'\n{case}\n");
        Case::parse(Path::new("cases.toml"), &text).unwrap()[0].run(&rules, None)
    }

    #[test]
    fn an_answer_has_its_rule_and_those_that_nearly_were() {
        let publish = explain("action = 'publish'\ntopic = 'a/b'\ngroup = 'staff'");
        assert_eq!(publish.answer, Answer::Allow);
        assert!(publish.rule.unwrap().starts_with("acl.toml line 5: allow publish a/#"));
        for (case, answer, near) in [
            ("action = 'publish'\ntopic = 'a/b'", Answer::Deny, "another value of 'group'"),
            (
                "action = 'publish'\ntopic = 'a/b'\ngroup = 'staff'\nqos = 2",
                Answer::Deny,
                "not for messages of this QoS",
            ),
            ("action = 'publish'\ntopic = 'a/secret'", Answer::Deny, "the other rule comes first"),
            (
                "action = 'subscribe'\ntopic = 'b/#'\nuser = 'anna'",
                Answer::Deny,
                "not for all topics that b/#",
            ),
            (
                "action = 'subscribe'\ntopic = 'b/x'\nuser = 'a+'",
                Answer::Deny,
                "a placeholder of it has no value",
            ),
        ] {
            let explanation = explain(case);
            assert_eq!(explanation.answer, answer, "{case}");
            assert!(explanation.near_misses.iter().any(|miss| miss.contains(near)), "{case}: {explanation}");
        }
        let none = explain("action = 'receive'\ntopic = 'c'");
        assert_eq!((none.rule, none.near_misses.len()), (None, 0));
    }

    #[test]
    fn a_file_that_shows_nothing_is_wrong() {
        for (text, expected) in [
            ("", "has no [[case]]"),
            ("[[case]]\nclient = 'c'\naction = 'publish'\ntopic = '+'\nexpect = 'deny'", "line 4: "),
            ("[[case]]\nclient = 'c'\naction = 'read'\ntopic = 'a'\nexpect = 'deny'", "line 3: "),
            ("[[case]]\nclient = 'c'\naction = 'publish'\ntopic = 'a'\nexpect = 'no'", "line 5: "),
            ("[[case]]\nclient = 'c'\naction = 'publish'\ntopic = 'a'", "missing key `expect`"),
            (
                "[[case]]\nclient = 'c'\naction = 'publish'\ntopic = 'a'\nexpect = 'deny'\nqos = 3",
                "0, 1 or 2",
            ),
        ] {
            let error = Case::parse(Path::new("cases.toml"), text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
