//! A well-behaved client that notices when the broker is held up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lapwing_proto::packet::{ProtocolVersion, QoS};

use super::Broker;
use super::peer::Peer;

/// Sends itself messages, one after the other, until it is asked for the result.
pub(crate) struct Canary {
    is_done: Arc<AtomicBool>,
    thread: JoinHandle<RoundTrips>,
}

/// How long its messages took, from the shortest on.
pub(crate) struct RoundTrips(Vec<Duration>);

const PAUSE: Duration = Duration::from_millis(5);

impl Canary {
    pub(crate) fn start(broker: &Broker) -> Self {
        let mut peer = Peer::connect(broker, ProtocolVersion::V5, "canary");
        peer.subscribe(&["canary/song"], QoS::AtMostOnce);
        let is_done = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let is_done = Arc::clone(&is_done);
            move || {
                let mut all = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    all.push(peer.round_trip("canary/song"));
                    std::thread::sleep(PAUSE); // sleep: leaves the processor to those whom it watches
                }
                all.push(peer.round_trip("canary/song"));
                all.sort_unstable();
                RoundTrips(all)
            }
        });
        Self { is_done, thread }
    }

    /// One message more, and how long all have taken.
    pub(crate) fn round_trips(self) -> RoundTrips {
        self.is_done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the canary lives")
    }

    /// One message more, and the longest that any has taken.
    pub(crate) fn worst_round_trip(self) -> Duration {
        self.round_trips().worst()
    }
}

impl RoundTrips {
    pub(crate) fn worst(&self) -> Duration {
        self.0.last().copied().expect("there is one at least")
    }
}

impl fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let late = self.0[(count * 99 / 100).min(count - 1)];
        write!(f, "{count} messages, 99 % within {late:?}, the longest {:?}", self.worst())
    }
}
