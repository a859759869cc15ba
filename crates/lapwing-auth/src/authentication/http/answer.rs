//! What the service answers: strictly what it may, or nothing at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::super::claim;
use super::super::proof::{Opinion, Proof, Proven};
use crate::many::Many;
use crate::permission::GROUP;

/// Bytes that a user name may have, as everything with a length in front of it in MQTT.
const NAME_BYTES_MAXIMUM: usize = 65_535;
/// Characters that are shown of what was not understood.
const SHOWN: usize = 120;
/// What a client is told that the service does not let in.
const DENIED: &str = "the user name or the password is wrong";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    result: Outcome,
    user: Option<String>,
    groups: Option<Many>,
    attributes: Option<BTreeMap<String, Many>>,
    permissions: Option<Value>,
    valid_for_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Allow,
    Deny,
    Ignore,
}

/// What an answer says about a client that has presented this user name.
///
/// # Errors
///
/// If the answer is none: a sentence that says why, and shows no value.
pub(super) fn read(
    body: &[u8],
    user: Option<&str>,
    url: &Arc<str>,
    now: SystemTime,
) -> Result<Opinion, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| fault(&error))?;
    match answer.result {
        Outcome::Deny => return Ok(Opinion::Refuse(DENIED)),
        Outcome::Ignore => return Ok(Opinion::Unknown),
        Outcome::Allow => {}
    }
    let user =
        answer.user.as_deref().or(user).ok_or("allows a client without a user name and gives it none")?;
    if user.is_empty() || user.contains('\0') || user.len() > NAME_BYTES_MAXIMUM {
        return Err("names a user as no user can be called".to_owned());
    }
    let mut proven = Proven::of_name(user.into(), Proof::Http { url: Arc::clone(url) });
    proven.attributes = attributes(answer.groups, answer.attributes)?;
    if let Some(permissions) = &answer.permissions {
        let rules = claim::rules(permissions, Path::new("permissions"));
        proven.rules =
            Some(rules.map_err(|error| format!("has permissions that cannot be read: {}", short(&error)))?);
    }
    proven.expires = match answer.valid_for_s {
        Some(0) => return Err("allows a client for no time at all".to_owned()),
        Some(seconds) => now.checked_add(Duration::from_secs(seconds.into())),
        None => None,
    };
    Ok(Opinion::Accept(proven))
}

type Attributes = Arc<[(Arc<str>, Arc<str>)]>;

fn attributes(groups: Option<Many>, others: Option<BTreeMap<String, Many>>) -> Result<Attributes, String> {
    let others = others.unwrap_or_default();
    if others.contains_key(GROUP) {
        return Err(format!("has an attribute {GROUP:?}; groups are in \"groups\""));
    }
    let groups = groups.map(|groups| (GROUP.to_owned(), groups));
    let values = groups.into_iter().chain(others).flat_map(|(name, Many(values))| {
        let name: Arc<str> = name.into();
        values.into_iter().map(move |value| (Arc::clone(&name), Arc::from(value)))
    });
    Ok(values.collect())
}

/// What is wrong with the JSON. Only names of keys are shown: a value may be a secret.
fn fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_of_keys =
        ["unknown field", "missing field", "duplicate field"].iter().any(|start| text.starts_with(start));
    match is_of_keys {
        true => format!("is not understood: {}", short(&text)),
        false => format!("is not understood at line {} column {}", error.line(), error.column()),
    }
}

/// The beginning of a text that is not ours, without what does something to a terminal.
fn short(text: &str) -> String {
    let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    plain.take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::permission::{Ruleset, Subject};

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1000)
    }

    fn of(body: &str, user: Option<&str>) -> Result<Opinion, String> {
        read(body.as_bytes(), user, &"http://x/".into(), now())
    }

    fn accepted(body: &str, user: Option<&str>) -> Proven {
        match of(body, user) {
            Ok(Opinion::Accept(proven)) => proven,
            other => panic!("{other:?} of {body}"),
        }
    }

    #[test]
    fn an_answer_is_one_of_three() {
        assert!(matches!(of(r#"{"result":"deny"}"#, Some("anna")), Ok(Opinion::Refuse(_))));
        assert!(matches!(of(r#"{"result":"ignore"}"#, None), Ok(Opinion::Unknown)));
        let proven = accepted(r#" { "result" : "allow" } "#, Some("anna"));
        assert_eq!((&*proven.user, proven.expires, proven.rules.is_none()), ("anna", None, true));
        let proven = accepted(r#"{"result":"allow","user":"bert"}"#, Some("anna"));
        assert_eq!(&*proven.user, "bert");
    }

    #[test]
    fn what_it_says_of_a_client_is_kept() {
        let proven = accepted(
            r#"{"result":"allow","groups":["doors","staff"],"attributes":{"site":"north","floor":["1","2"]},
                "valid_for_s":60,"permissions":{"publish":["home/%u/#"],"subscribe":[]}}"#,
            Some("anna"),
        );
        let attributes: Vec<_> = proven.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected =
            [("group", "doors"), ("group", "staff"), ("floor", "1"), ("floor", "2"), ("site", "north")];
        assert_eq!(attributes, expected);
        assert_eq!(proven.expires, Some(now() + Duration::from_secs(60)));
        let rules: Arc<Ruleset> = proven.rules.unwrap();
        let subject = Subject {
            client_id: "c",
            user: Some("anna"),
            attributes: &[],
            listener: "",
            address: [127, 0, 0, 1].into(),
        };
        let permission = rules.compile(&subject);
        let may = |topic: &str| {
            let topic = lapwing_proto::topic::TopicName::new(topic).unwrap();
            permission.publish(topic, lapwing_proto::packet::QoS::AtMostOnce, false).is_allowed
        };
        assert!(may("home/anna/x") && !may("home/bert/x"));
        let nothing = accepted(r#"{"result":"allow","permissions":[]}"#, Some("anna")).rules.unwrap();
        assert_eq!(nothing.rules().len(), 0, "no rules are not no answer");
    }

    #[test]
    fn what_is_not_clear_is_no_answer() {
        for (body, user, expected) in [
            ("", Some("anna"), "line 1 column 0"),
            ("allow", Some("anna"), "line 1"),
            ("[]", Some("anna"), "line 1"),
            ("true", Some("anna"), "line 1"),
            (r#""allow""#, Some("anna"), "line 1"),
            ("{}", Some("anna"), "missing field `result`"),
            (r#"{"result":"Allow"}"#, Some("anna"), "line 1"),
            (r#"{"result":true}"#, Some("anna"), "line 1"),
            (r#"{"result":null}"#, Some("anna"), "line 1"),
            (r#"{"result":"deny","result":"allow"}"#, Some("anna"), "duplicate field"),
            (r#"{"result":"allow"} x"#, Some("anna"), "line 1"),
            (r#"{"result":"allow""#, Some("anna"), "line 1"),
            (r#"{"result":"allow","is_superuser":true}"#, Some("anna"), "unknown field `is_superuser`"),
            (r#"{"result":"allow"}"#, None, "without a user name"),
            (r#"{"result":"allow"}"#, Some(""), "names a user"),
            (r#"{"result":"allow","user":""}"#, Some("anna"), "names a user"),
            (r#"{"result":"allow","user":"a\u0000"}"#, Some("anna"), "names a user"),
            (r#"{"result":"allow","groups":[1]}"#, Some("anna"), "line 1"),
            (r#"{"result":"allow","attributes":{"group":"staff"}}"#, Some("anna"), "groups are in"),
            (r#"{"result":"allow","valid_for_s":0}"#, Some("anna"), "no time"),
            (r#"{"result":"allow","valid_for_s":-1}"#, Some("anna"), "line 1"),
            (r#"{"result":"allow","valid_for_s":1.5}"#, Some("anna"), "line 1"),
            (r#"{"result":"allow","permissions":true}"#, Some("anna"), "permissions that cannot be read"),
            (
                r#"{"result":"allow","permissions":[{"allow":"fly","topics":"x"}]}"#,
                Some("anna"),
                "permissions",
            ),
            (r#"{"result":"allow","permissions":{"publish":["a/#/b"]}}"#, Some("anna"), "permissions"),
        ] {
            match of(body, user) {
                Err(error) => assert!(error.contains(expected), "{body}: {error}"),
                other => panic!("{other:?} of {body}"),
            }
        }
    }

    #[test]
    fn a_value_is_not_shown() {
        for body in
            [r#"{"result":"hunter2"}"#, r#"{"result":"allow","user":["hunter2"]}"#, r#"{"result":hunter2}"#]
        {
            let error = of(body, Some("anna")).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let long = format!(r#"{{"result":"allow","{}\n":1}}"#, "x".repeat(1000));
        let error = of(&long, Some("anna")).unwrap_err();
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }
}
