//! What clients may do: rules, and what they are for each client.

mod case;
mod coverage;
mod explain;
mod mosquitto;
mod pattern;
mod rule;
mod rule_file;
mod ruleset;
mod subject;
mod table;
mod template;
#[cfg(test)]
mod test;

pub use case::Case;
pub use explain::{Action, Answer, Explanation};
pub use mosquitto::MosquittoFile;
pub use rule::{Actions, Effect, Messages, Rule};
pub use rule_file::RuleFile;
pub use ruleset::{Acceptance, Permission, Ruleset, Ruling, Subscriptions};
pub use subject::{Condition, GROUP, Glob, Mismatch, Subject};
pub use template::{Placeholder, Template, TemplateError};
