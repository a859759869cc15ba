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
    /// By alias, from 1 on. Boxed, since most connections have none.
    names: Option<Box<Names>>,
}

type Names = Vec<Option<TopicNameBuf>>;

impl InboundAliases {
    /// No aliases yet, and none above `maximum`.
    pub fn new(maximum: u16) -> Self {
        Self { maximum, names: None }
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
        let at = usize::from(alias) - 1; // a `TopicAlias` is not 0
        match topic {
            Some(name) => {
                let names = self.names.get_or_insert_default();
                if names.len() <= at {
                    names.resize(at + 1, None);
                }
                // A peer that sends name and alias each time costs no allocation each time.
                if names[at].as_ref().is_none_or(|known| known.as_str() != name.as_str()) {
                    names[at] = Some(name.to_buf());
                }
                Ok(name)
            }
            None => {
                let known = self.names.as_ref().and_then(|names| names.get(at)?.as_ref());
                known.map(TopicNameBuf::as_name).ok_or(SessionError::TopicAliasUnknown(alias))
            }
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
    /// Boxed, since most connections have none.
    aliases: Option<Box<Aliases>>,
}

type Aliases = HashMap<Box<str>, TopicAlias>;

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
        Self { maximum, aliases: None }
    }

    /// Whether the peer takes any alias at all.
    pub fn is_enabled(&self) -> bool {
        self.maximum > 0
    }

    /// The packet that was to introduce the alias of `topic`, the last one chosen, is not sent.
    pub fn forget(&mut self, topic: TopicName<'_>) {
        if let Some(aliases) = &mut self.aliases {
            aliases.remove(topic.as_str());
        }
    }

    /// How the next message to `topic` is to be sent. The caller then does send it so.
    pub fn choose(&mut self, topic: TopicName<'_>) -> AliasChoice {
        if self.maximum == 0 {
            return AliasChoice::Name;
        }
        let aliases = self.aliases.get_or_insert_default();
        if let Some(&alias) = aliases.get(topic.as_str()) {
            return AliasChoice::Alias(alias);
        }
        if aliases.len() >= usize::from(self.maximum) {
            return AliasChoice::Name;
        }
        match TopicAlias::new((aliases.len() + 1) as u16) {
            Some(alias) => {
                aliases.insert(topic.as_str().into(), alias);
                AliasChoice::NameAndAlias(alias)
            }
            None => AliasChoice::Name,
        }
    }
}
