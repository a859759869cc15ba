//! A well-behaved client that notices when the broker is held up.

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
    thread: JoinHandle<Duration>,
}

const PAUSE: Duration = Duration::from_millis(5);

impl Canary {
    pub(crate) fn start(broker: &Broker) -> Self {
        let mut peer = Peer::connect(broker, ProtocolVersion::V5, "canary");
        peer.subscribe(&["canary/song"], QoS::AtMostOnce);
        let is_done = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let is_done = Arc::clone(&is_done);
            move || {
                let mut worst = Duration::ZERO;
                while !is_done.load(Ordering::Relaxed) {
                    worst = worst.max(peer.round_trip("canary/song"));
                    std::thread::sleep(PAUSE); // sleep: leaves the processor to those whom it watches
                }
                worst.max(peer.round_trip("canary/song"))
            }
        });
        Self { is_done, thread }
    }

    /// One message more, and the longest that any has taken.
    pub(crate) fn worst_round_trip(self) -> Duration {
        self.is_done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the canary lives")
    }
}
