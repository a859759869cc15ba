//! Access control files of Mosquitto.
//!
//! Mosquitto looks at the lines of a user, or those before the first `user` where there is no user name, and then at the lines
//! with `pattern`, of which each kind has its denials first. The first that fits decides. So do ours, in this order. It accepts
//! every subscription and checks each message instead.

use std::fmt::Write;
use std::path::Path;

use super::rule::{Actions, Effect, Messages, Rule};
use super::rule_file::RuleFile;
use super::ruleset::Subscriptions;
use super::subject::Condition;
use super::template::Template;
use crate::fault::FileError;

/// What a file of Mosquitto's says, as rules of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MosquittoFile {
    /// The rules, in the order in which they hold.
    pub rules: RuleFile,
    /// What is not quite the same with us, by line.
    pub remarks: Vec<(usize, String)>,
}

/// Where a rule belongs among all: Mosquitto's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Denied,
    Allowed,
    PatternDenied,
    PatternAllowed,
}

/// Whose lines follow.
#[derive(Debug, Clone)]
enum Section {
    Anonymous,
    User(String),
}

impl MosquittoFile {
    /// Reads the text of a file. `path` is for what is said of it.
    ///
    /// # Errors
    ///
    /// The first line that Mosquitto would not take either.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let (mut ranked, mut remarks) = (Vec::new(), Vec::new());
        let mut section = Section::Anonymous;
        for (line, number) in text.split('\n').zip(1..) {
            let line = line.trim_end_matches([' ', '\t', '\r', '\u{b}', '\u{c}']);
            let wrong = |message: String| FileError::at(path, number, message);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = split(line);
            match word {
                "user" if rest.is_empty() => return Err(wrong("there is no name behind `user`".into())),
                "user" => section = Section::User(rest.to_owned()),
                "topic" | "pattern" => {
                    let is_pattern = word == "pattern";
                    let (rank, rule) = read(rest, is_pattern, &section, number).map_err(wrong)?;
                    if is_pattern && rule.topics[0].is_fixed() {
                        remarks
                            .push((number, "has neither %c nor %u, and so holds for everybody".to_owned()));
                    }
                    ranked.push((rank, rule));
                }
                _ => return Err(wrong(format!("'{word}' is none of user, topic and pattern"))),
            }
        }
        // Stable, so that lines of one rank stay in their order.
        ranked.sort_by_key(|&(rank, _)| rank);
        let rules = ranked.into_iter().map(|(_, rule)| rule).collect();
        Ok(Self { rules: RuleFile { rules, subscriptions: Subscriptions::Any }, remarks })
    }

    /// The same rules as a file of ours.
    pub fn to_toml(&self) -> String {
        let mut text =
            "# Made from an access control file of Mosquitto. The first rule that fits decides.\n\n\
                        # As Mosquitto does: every subscription is accepted, and each message is checked.\n\
                        subscriptions = \"any\"\n"
                .to_owned();
        for rule in &self.rules.rules {
            // Writing to a text does not fail.
            let _ = write_rule(&mut text, rule);
        }
        text
    }
}

/// The first word and what follows it, without blanks around.
fn split(line: &str) -> (&str, &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    (word, rest.trim_matches([' ', '\t']))
}

fn read(rest: &str, is_pattern: bool, section: &Section, line: usize) -> Result<(Rank, Rule), String> {
    let (word, behind) = split(rest);
    // A single word is the topic, whatever it is.
    let (access, topic) = if behind.is_empty() { ("readwrite", word) } else { (word, behind) };
    let (effect, publish, receive) = match access {
        "read" => (Effect::Allow, false, true),
        "write" => (Effect::Allow, true, false),
        "readwrite" => (Effect::Allow, true, true),
        "deny" => (Effect::Deny, true, true),
        _ => return Err(format!("'{access}' is none of read, write, readwrite and deny")),
    };
    if topic.is_empty() {
        return Err("there is no topic".to_owned());
    }
    let template = match is_pattern {
        true => Template::new(&escaped(topic)),
        false => Template::verbatim(topic),
    };
    let topics = vec![template.map_err(|error| error.to_string())?];
    let condition = match section {
        _ if is_pattern => Condition::default(),
        Section::Anonymous => Condition { anonymous: Some(true), ..Condition::default() },
        Section::User(user) => Condition { users: vec![user.as_str().into()], ..Condition::default() },
    };
    let rank = match (is_pattern, effect) {
        (false, Effect::Deny) => Rank::Denied,
        (false, Effect::Allow) => Rank::Allowed,
        (true, Effect::Deny) => Rank::PatternDenied,
        (true, Effect::Allow) => Rank::PatternAllowed,
    };
    let actions = Actions { publish, subscribe: false, receive };
    Ok((rank, Rule { line, effect, actions, topics, condition, messages: Messages::default() }))
}

/// Mosquitto knows `%c` and `%u` alone; every other `%` is one.
fn escaped(pattern: &str) -> String {
    let mut pieces = pattern.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push_str(if piece.starts_with(['c', 'u']) { "%" } else { "%%" });
        text.push_str(piece);
    }
    text
}

fn write_rule(text: &mut String, rule: &Rule) -> std::fmt::Result {
    let actions = match (rule.actions.publish, rule.actions.receive) {
        (true, true) => "[\"publish\", \"receive\"]",
        (true, false) => "\"publish\"",
        _ => "\"receive\"",
    };
    writeln!(text, "\n# line {}\n[[rule]]\n{} = {actions}", rule.line, rule.effect)?;
    for topic in &rule.topics {
        writeln!(text, "topics = {}", quoted(topic.as_str()))?;
    }
    for user in &rule.condition.users {
        writeln!(text, "user = {}", quoted(user))?;
    }
    if rule.condition.anonymous == Some(true) {
        writeln!(text, "anonymous = true")?;
    }
    Ok(())
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
