//! What the clients of a run share for one turn of its loop.

use std::time::Instant;

use super::breach::Breaches;
use super::history::History;
use super::retained::RetainedTopics;

pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) round: u64,
    /// Whether publishers publish and subscribers come and go.
    pub(super) is_load_on: bool,
    pub(super) history: &'a mut History,
    pub(super) retained: &'a mut RetainedTopics,
    pub(super) breaches: &'a mut Breaches,
}
