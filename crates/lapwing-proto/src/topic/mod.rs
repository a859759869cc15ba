//! Topic names, topic filters, and the trees that match one against many of the other.

mod arena;
mod exact_map;
mod filter;
mod filter_tree;
mod name;
mod name_tree;
mod pattern_trie;
mod subscriber;

pub use filter::{ShareName, TopicFilter, TopicFilterBuf};
pub use filter_tree::FilterTree;
pub use name::{TopicName, TopicNameBuf};
pub use name_tree::NameTree;

/// Why a string is no topic name or no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// At least one character is needed `[MQTT-4.7.3-1]`.
    #[error("a topic must not be empty")]
    Empty,
    /// The length prefix on the wire has 16 bits `[MQTT-4.7.3-3]`.
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// U+0000 is not allowed `[MQTT-4.7.3-2]`.
    #[error("a topic must not contain U+0000")]
    Null,
    /// Wildcards belong in filters `[MQTT-3.3.2-2]`.
    #[error("a topic name must not contain the wildcards '+' and '#'")]
    WildcardInName,
    /// `#` stands alone in the last level `[MQTT-4.7.1-1]`.
    #[error("'#' must be a whole level, and the last one")]
    MisplacedHash,
    /// `+` stands alone in its level `[MQTT-4.7.1-2]`.
    #[error("'+' must be a whole level")]
    MisplacedPlus,
    /// `$share/NAME/FILTER`: the name has at least one character and no wildcard, and a filter follows
    /// `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
    #[error("a shared subscription is written $share/NAME/FILTER, with no wildcard in NAME")]
    InvalidShare,
}
