use hashbrown::HashMap;

use super::SessionError;
use crate::packet::TopicAlias;
use crate::topic::{TopicName, TopicNameBuf};

/// The topic aliases that the peer has given on one connection.
///
/// Holds at most `maximum` names of at most 65,535 bytes.
#[derive(Debug, Clone, Default)]
pub struct InboundAliases {
    maximum: u16,
    names: HashMap<u16, TopicNameBuf>,
}

impl InboundAliases {
    /// No aliases yet, and none above `maximum`.
    pub fn new(maximum: u16) -> Self {
        Self { maximum, names: HashMap::new() }
    }

    /// Gives the topic name of a PUBLISH, and remembers it where the packet has both a name and an alias.
    pub fn resolve<'a>(
        &'a mut self,
        topic: Option<TopicName<'a>>,
        alias: Option<TopicAlias>,
    ) -> Result<TopicName<'a>, SessionError> {
        let Some(alias) = alias.map(TopicAlias::get) else {
            return topic.ok_or(SessionError::TopicAliasUnknown(0));
        };
        if alias > self.maximum {
            return Err(SessionError::TopicAliasTooHigh { alias, maximum: self.maximum });
        }
        match topic {
            Some(name) => {
                // A peer that sends name and alias each time costs no allocation each time.
                if self.names.get(&alias).is_none_or(|known| known.as_str() != name.as_str()) {
                    self.names.insert(alias, name.to_buf());
                }
                Ok(name)
            }
            None => self
                .names
                .get(&alias)
                .map(TopicNameBuf::as_name)
                .ok_or(SessionError::TopicAliasUnknown(alias)),
        }
    }
}

/// The topic aliases that this end gives on one connection: the first topics that are sent get one each.
///
/// Holds at most `maximum` names of at most 65,535 bytes. Since the peer chooses how many it takes, this end
/// passes the lower of the peer's maximum and its own.
#[derive(Debug, Clone, Default)]
pub struct OutboundAliases {
    maximum: u16,
    aliases: HashMap<Box<str>, TopicAlias>,
}

/// How a topic name is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasChoice {
    /// With the name alone.
    Name,
    /// With the name and an alias, which stands for it from now on.
    NameAndAlias(TopicAlias),
    /// With the alias alone.
    Alias(TopicAlias),
}

impl OutboundAliases {
    /// No aliases yet, and none above `maximum`.
    pub fn new(maximum: u16) -> Self {
        Self { maximum, aliases: HashMap::new() }
    }

    /// Whether the peer takes any alias at all.
    pub fn is_enabled(&self) -> bool {
        self.maximum > 0
    }

    /// The packet that was to introduce the alias of `topic`, the last one chosen, is not sent.
    pub fn forget(&mut self, topic: TopicName<'_>) {
        self.aliases.remove(topic.as_str());
    }

    /// How the next message to `topic` is to be sent. The caller then does send it so.
    pub fn choose(&mut self, topic: TopicName<'_>) -> AliasChoice {
        if let Some(&alias) = self.aliases.get(topic.as_str()) {
            return AliasChoice::Alias(alias);
        }
        if self.aliases.len() >= usize::from(self.maximum) {
            return AliasChoice::Name;
        }
        match TopicAlias::new((self.aliases.len() + 1) as u16) {
            Some(alias) => {
                self.aliases.insert(topic.as_str().into(), alias);
                AliasChoice::NameAndAlias(alias)
            }
            None => AliasChoice::Name,
        }
    }
}
