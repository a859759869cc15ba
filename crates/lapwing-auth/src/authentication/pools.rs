//! The threads that there are: some that compute, and some that wait for a service.

use std::io;
use std::num::NonZero;
use std::time::Duration;

use super::chain::Station;
use super::gate::Gate;
use super::pool::{Pool, PoolSize};
use super::queue::QueueLimits;
use crate::config::Authentication;

/// One pool for each kind of work, so that a service that is slow holds up nobody whose password is looked at here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pools {
    pub(super) hashing: Option<Pool>,
    pub(super) asking: Option<Pool>,
}

impl Pools {
    /// Those that are needed with this configuration: the same ones with other sizes, and those that there were not. One that is needed
    /// no more stays, since something may still wait for it.
    ///
    /// # Errors
    ///
    /// If the system gives no more threads.
    pub(crate) fn fit(&self, config: &Authentication, gate: &Gate) -> io::Result<Self> {
        let limits = QueueLimits { all: config.queue_maximum, per_place: config.queue_address_maximum };
        let longest_delay = Duration::from_millis(config.delay_maximum_ms.into());
        let size = |threads| PoolSize { threads, limits, longest_delay };
        let fit = |pool: &Option<Pool>, is_needed: bool, name, threads| match pool {
            Some(pool) => pool.resize(size(threads)).map(|()| Some(pool.clone())),
            None if is_needed => Pool::start(name, size(threads)).map(Some),
            None => Ok(None),
        };
        let asking =
            fit(&self.asking, gate.has_station(Station::Asking), "auth-http", config.http.connections)?;
        let hashing =
            fit(&self.hashing, gate.has_station(Station::Hashing), "auth", hashing_threads(config))?;
        Ok(Self { hashing, asking })
    }

    pub(super) fn get(&self, station: Station) -> Option<&Pool> {
        match station {
            Station::Hashing => self.hashing.as_ref(),
            Station::Asking => self.asking.as_ref(),
        }
    }

    /// Clients that wait.
    pub(crate) fn waiting(&self) -> usize {
        [&self.hashing, &self.asking].into_iter().flatten().map(Pool::waiting).sum()
    }

    /// Ends all of them.
    pub(crate) fn close(&self) {
        [&self.hashing, &self.asking].into_iter().flatten().for_each(Pool::close);
    }
}

fn hashing_threads(config: &Authentication) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    match config.threads {
        0 => processors.saturating_sub(1).max(1),
        threads => threads,
    }
}
