//! What the broker does with topics and subscriptions beyond the protocol, from its configuration.

use lapwing_proto::packet::{QoS, RetainHandling, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::hook::Client;

/// Rules for topics and subscriptions. None by default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rules {
    /// Change the topics that clients publish and subscribe to, and those of wills. The first rule whose pattern
    /// fits is applied. What then is no topic any more is refused.
    pub rewrite: Vec<Rewrite>,
    /// Subscriptions that each client gets when it connects.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// What clients of 5.0 that ask for Response Information are told, to make their response topics from. `%c` and
    /// `%u` stand for the client identifier and the user name, as in `auto_subscribe`.
    pub response_information: Option<String>,
}

/// Changes a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rewrite {
    /// Which topics: those of messages, those of subscriptions, or both.
    #[serde(default)]
    pub applies_to: AppliesTo,
    /// A regular expression that the whole topic name or filter must fit.
    pub pattern: String,
    /// What the topic becomes: `$1`, `$2` and so on stand for the pattern's groups, `${1}` where a letter or
    /// digit follows.
    pub replacement: String,
}

/// What a rewrite rule applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AppliesTo {
    /// Topic names of messages.
    Publish,
    /// Topic filters of subscriptions.
    Subscribe,
    /// Both.
    #[default]
    All,
}

/// A subscription that each client gets when it connects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AutoSubscribe {
    /// A topic filter, in which `%c` stands for the client identifier and `%u` for the user name. A client
    /// whose identifier or user name has one of `+`, `#` and `/`, or begins with `$`, does not get a subscription that
    /// names it.
    pub filter: String,
    /// Highest quality of service: 0, 1 or 2.
    #[serde(default)]
    pub qos: u8,
    /// Do not return what the client has published itself.
    #[serde(default)]
    pub no_local: bool,
    /// Forward the publisher's RETAIN flag.
    #[serde(default)]
    pub retain_as_published: bool,
    /// Retained messages: 0 sends them at each connection, 1 where the subscription is new, 2 never.
    #[serde(default)]
    pub retain_handling: u8,
}

/// Rules that have been checked and can be applied.
#[derive(Debug, Default)]
pub(crate) struct CompiledRules {
    rewrites: Vec<(AppliesTo, Regex, String)>,
    auto_subscribe: Vec<(String, SubscriptionOptions)>,
    response_information: Option<String>,
}

impl Rules {
    /// Whether each rule can be applied.
    ///
    /// # Errors
    /// A sentence that names the rule which cannot, and why.
    pub fn check(&self) -> Result<(), String> {
        self.compile().map(drop)
    }

    /// Compiles the rules, or says which one is wrong and why.
    pub(crate) fn compile(&self) -> Result<CompiledRules, String> {
        let mut rewrites = Vec::new();
        for (index, rule) in self.rewrite.iter().enumerate() {
            let place = |error| format!("rules.rewrite[{index}].pattern: {error}");
            // By itself first, so that an error shows what was written.
            Regex::new(&rule.pattern).map_err(place)?;
            let regex = Regex::new(&format!("^(?s:{})$", rule.pattern)).map_err(place)?;
            rewrites.push((rule.applies_to, regex, rule.replacement.clone()));
        }
        let mut auto_subscribe = Vec::new();
        for (index, rule) in self.auto_subscribe.iter().enumerate() {
            let place = format!("rules.auto_subscribe[{index}]");
            let options = rule.options().map_err(|error| format!("{place}: {error}"))?;
            TopicFilter::new(&rule.filter).map_err(|error| format!("{place}.filter: {error}"))?;
            auto_subscribe.push((rule.filter.clone(), options));
        }
        let response_information = self.response_information.clone();
        if response_information.as_ref().is_some_and(|text| text.contains('\0') || text.len() > 1024) {
            return Err("rules.response_information: at most 1,024 bytes, and no U+0000".to_owned());
        }
        Ok(CompiledRules { rewrites, auto_subscribe, response_information })
    }
}

impl AutoSubscribe {
    fn options(&self) -> Result<SubscriptionOptions, &'static str> {
        let retain_handling = match self.retain_handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err("retain_handling must be 0, 1 or 2"),
        };
        Ok(SubscriptionOptions {
            qos: QoS::from_bits(self.qos).ok_or("qos must be 0, 1 or 2")?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling,
        })
    }
}

impl CompiledRules {
    /// What `topic` becomes, if a rule fits. It may be no valid topic.
    pub(crate) fn rewrite(&self, topic: &str, by: AppliesTo) -> Option<String> {
        let mut rules =
            self.rewrites.iter().filter(|(applies_to, ..)| [by, AppliesTo::All].contains(applies_to));
        rules.find_map(|(_, regex, replacement)| {
            let captures = regex.captures(topic)?;
            let mut rewritten = String::new();
            captures.expand(replacement, &mut rewritten);
            Some(rewritten)
        })
    }

    /// What `client` is told to make its response topics from.
    pub(crate) fn response_information(&self, client: &Client) -> Option<String> {
        let user_name = client.identity.user_name.as_deref();
        expand(self.response_information.as_deref()?, &client.client_id, user_name)
    }

    /// The subscriptions that `client` gets.
    pub(crate) fn auto_subscribe(
        &self,
        client: &Client,
    ) -> impl Iterator<Item = (TopicFilterBuf, SubscriptionOptions)> {
        self.auto_subscribe.iter().filter_map(|(filter, options)| {
            let user_name = client.identity.user_name.as_deref();
            let filter = expand(filter, &client.client_id, user_name)?;
            Some((TopicFilterBuf::new(filter).ok()?, *options))
        })
    }
}

/// Puts in what `%c` and `%u` stand for; `None` if that is missing, or could change what the filter selects: by
/// further levels, wildcards, or a `$` that gives the filter another meaning.
fn expand(filter: &str, client_id: &str, user_name: Option<&str>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = filter;
    while let Some(at) = rest.find("%c").into_iter().chain(rest.find("%u")).min() {
        let (before, placeholder) = rest.split_at(at);
        let value = if placeholder.starts_with("%c") { Some(client_id) } else { user_name };
        let is_plain = |value: &&str| {
            !value.is_empty() && !value.starts_with('$') && !value.contains(['+', '#', '/', '\0'])
        };
        expanded.push_str(before);
        expanded.push_str(value.filter(is_plain)?);
        rest = &placeholder[2..];
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(applies_to: AppliesTo, pattern: &str, replacement: &str) -> Rewrite {
        Rewrite { applies_to, pattern: pattern.into(), replacement: replacement.into() }
    }

    #[test]
    fn the_first_rule_that_fits_the_whole_topic_rewrites_it() {
        let rules = Rules {
            rewrite: vec![
                rewrite(AppliesTo::Publish, "old/([^/]+)/(.+)", "new/$2/$1"),
                rewrite(AppliesTo::All, "old/.*", "rest"),
            ],
            ..Rules::default()
        };
        let rules = rules.compile().unwrap();
        assert_eq!(rules.rewrite("old/a/b/c", AppliesTo::Publish).as_deref(), Some("new/b/c/a"));
        assert_eq!(rules.rewrite("old/a/b/c", AppliesTo::Subscribe).as_deref(), Some("rest"));
        assert_eq!(rules.rewrite("very/old/a", AppliesTo::Publish), None);
    }

    #[test]
    fn a_wrong_rule_is_named() {
        let rules = Rules { rewrite: vec![rewrite(AppliesTo::All, "(", "")], ..Rules::default() };
        assert!(rules.compile().unwrap_err().starts_with("rules.rewrite[0].pattern"));
        let subscription = |filter: &str, qos| AutoSubscribe {
            filter: filter.into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        for (filter, qos, place) in [("a/#/b", 0, "[1].filter"), ("a", 3, "[1]: qos")] {
            let auto_subscribe = vec![subscription("fine", 2), subscription(filter, qos)];
            let error = Rules { auto_subscribe, ..Rules::default() }.compile().unwrap_err();
            assert!(error.contains(place), "{error}");
        }
    }

    // [attack: wildcard-in-name]
    #[test]
    fn names_with_wildcards_do_not_widen_a_subscription() {
        assert_eq!(expand("c/%c/%u", "door", Some("anna")).as_deref(), Some("c/door/anna"));
        assert_eq!(expand("all", "#", None).as_deref(), Some("all"));
        for bad in ["", "+", "a/#", "a/b", "$share", "$exclusive", "$SYS"] {
            assert_eq!(expand("c/%c", bad, None), None);
        }
        assert_eq!(expand("u/%u", "door", None), None);
        // What is put in is not looked at again.
        assert_eq!(expand("%c/%u", "%u", Some("%c")).as_deref(), Some("%u/%c"));
    }
}
