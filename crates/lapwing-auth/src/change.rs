//! What is different after files were read anew.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::password::Users;
use crate::permission::Ruleset;

/// What is different from before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Users that were not there.
    pub users_added: Vec<Arc<str>>,
    /// Users that are not there any more.
    pub users_removed: Vec<Arc<str>>,
    /// Users of whom something else is known, or who have another password.
    pub users_changed: Vec<Arc<str>>,
    /// Rules that were not there, in words.
    pub rules_added: Vec<String>,
    /// Rules that are not there any more, in words.
    pub rules_removed: Vec<String>,
    /// Whether the same rules stand in another order.
    pub rules_moved: bool,
}

/// Names and rules that are shown of each kind: the files themselves have all of them.
const SHOWN: usize = 20;

type Files<'a> = (Option<&'a Users>, Option<&'a Ruleset>);

impl Changes {
    pub(crate) fn between((users, rules): Files<'_>, (new_users, new_rules): Files<'_>) -> Self {
        let mut changes = Self::default();
        for user in new_users.iter().flat_map(|users| users.iter()) {
            match users.and_then(|users| users.get(&user.name)) {
                None => changes.users_added.push(Arc::clone(&user.name)),
                Some(before) if before != user => changes.users_changed.push(Arc::clone(&user.name)),
                Some(_) => {}
            }
        }
        for user in users.iter().flat_map(|users| users.iter()) {
            if new_users.is_none_or(|users| users.get(&user.name).is_none()) {
                changes.users_removed.push(Arc::clone(&user.name));
            }
        }
        for names in [&mut changes.users_added, &mut changes.users_removed, &mut changes.users_changed] {
            names.sort_unstable();
        }
        let texts = |rules: Option<&Ruleset>| {
            rules
                .map(|rules| rules.rules().iter().map(ToString::to_string).collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let (before, after) = (texts(rules), texts(new_rules));
        changes.rules_added = missing(&before, &after);
        changes.rules_removed = missing(&after, &before);
        let is_same_set = changes.rules_added.is_empty() && changes.rules_removed.is_empty();
        changes.rules_moved = is_same_set && before != after;
        changes
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Those of `texts` that are not among `known`, as often as they are not.
fn missing(known: &[String], texts: &[String]) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    known.iter().for_each(|text| *counts.entry(text).or_default() += 1);
    let is_missing = |text: &&String| match counts.get_mut(text.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    texts.iter().filter(is_missing).cloned().collect()
}

impl fmt::Display for Changes {
    /// A line for each difference, with `+`, `-` and `~`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing has changed");
        }
        let users =
            |names: &[Arc<str>]| names.iter().map(|name| format!("user {name:?}")).collect::<Vec<_>>();
        let rules = |texts: &[String]| texts.iter().map(|text| format!("rule: {text}")).collect::<Vec<_>>();
        let kinds = [
            ('+', users(&self.users_added)),
            ('-', users(&self.users_removed)),
            ('~', users(&self.users_changed)),
            ('+', rules(&self.rules_added)),
            ('-', rules(&self.rules_removed)),
        ];
        let mut lines = Vec::new();
        for (sign, texts) in kinds {
            lines.extend(texts.iter().take(SHOWN).map(|text| format!("{sign} {text}")));
            if texts.len() > SHOWN {
                lines.push(format!("{sign} {} more", texts.len() - SHOWN));
            }
        }
        if self.rules_moved {
            lines.push("~ the rules stand in another order".to_owned());
        }
        f.write_str(&lines.join("\n"))
    }
}
