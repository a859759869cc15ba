//! What can be wrong with an entry.

use std::fmt;

use crate::engine::Space;
use crate::value::Counters;

/// An entry that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it is.
    pub space: Space,
    /// Its key.
    pub key: Vec<u8>,
    /// What it is about, for people: client identifier and topic where they are known.
    pub subject: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Finding {
    /// Whether this is what a crash or an end leaves behind: the broker removes it by itself, and nothing is missing.
    pub fn is_left_over(&self) -> bool {
        match self.fault {
            Fault::NoSession => self.space == Space::Queue,
            Fault::NoWaiting => true,
            _ => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.space.name(), self.subject, self.fault)
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There is no such key in this space.
    Key,
    /// The value cannot be read.
    Value,
    /// It has a message that cannot be read.
    Message,
    /// It has a topic or filter that is none.
    Topic,
    /// Its session does not exist.
    NoSession,
    /// The message that it refers to is not there.
    NoMessage,
    /// The message has another size.
    Size,
    /// The message that it refers to is not for this session, and would be removed too early.
    NotForSession,
    /// Nobody waits for it any more.
    NoWaiting,
    /// The next numbers to give are not there, or have been given already.
    Numbers {
        /// The next place of a message.
        sequence: u64,
        /// The next session.
        session: u64,
    },
}

impl Fault {
    pub(super) fn numbers(next: Counters) -> Self {
        Self::Numbers { sequence: next.sequence, session: next.session }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Key => "there is no such key",
            Self::Value => "the value cannot be read",
            Self::Message => "the message cannot be read",
            Self::Topic => "the topic is not valid",
            Self::NoSession => "its session does not exist",
            Self::NoMessage => "its message is not there",
            Self::Size => "its message has another size",
            Self::NotForSession => "its message is not for this session",
            Self::NoWaiting => "nobody waits for it any more",
            Self::Numbers { sequence, session } => {
                return write!(f, "the next message must be {sequence} and the next session {session}");
            }
        };
        f.write_str(text)
    }
}

/// A text of a client, on one line and without anything that steers a terminal.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
