use serde::{Deserialize, Serialize};

/// How the clients are shared out among threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sharding {
    /// Shards: threads, each with its share of the clients. 0 for as many as the system lets the program use
    /// processors; at most 256.
    pub count: usize,
    /// Sessions that a shard gets before the next one gets its first. Clients of one shard reach one another faster
    /// than those of two, and so few keep no thread busy; a thread that is busy all the same gets no new ones.
    /// Beyond it, the shard with the fewest gets the next one. 0 shares out from the first session on.
    pub neighbours: usize,
}

impl Default for Sharding {
    fn default() -> Self {
        Self { count: 0, neighbours: 128 }
    }
}

const MAXIMUM: usize = 256;

impl Sharding {
    /// Whether each value can be.
    ///
    /// # Errors
    /// A sentence that names the value which cannot, and what it must be.
    pub fn check(&self) -> Result<(), String> {
        if self.count > MAXIMUM {
            return Err(format!("sharding.count must be at most {MAXIMUM}"));
        }
        Ok(())
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        match self.count {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAXIMUM),
            count => count,
        }
    }
}
