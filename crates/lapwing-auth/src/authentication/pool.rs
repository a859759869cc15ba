//! The threads that do what takes long: hashes of passwords and signatures of tokens.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lapwing_broker::Network;

use super::address::Delays;
use super::queue::{Full, Next, Queue, QueueLimits};
use crate::password::Workspace;

/// Work for a thread: whether what was presented turned out to be wrong.
pub(super) type Work = Box<dyn FnOnce(&mut Workspace) -> Outcome + Send>;

/// What came of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Somebody presented something wrong: the next one from there waits longer.
    Wrong,
    /// Everything else.
    Other,
}

/// Some threads and what waits for them. They end with it, and what waits is dropped.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: Queue<(Instant, Work)>,
    delays: Delays,
    is_over: bool,
}

/// After so long nobody waits for the work any more: the broker has ended the connection.
const WAIT_MAXIMUM: Duration = Duration::from_secs(30);
/// How much less of a processor these threads get than those that serve clients, where there is not enough for all.
const NICE: i32 = 10;

impl Pool {
    /// Starts so many threads.
    pub(super) fn start(
        threads: usize,
        limits: QueueLimits,
        longest_delay: Duration,
    ) -> std::io::Result<Self> {
        let queue = Queue::new(limits);
        let state = State { queue, delays: Delays::new(longest_delay), is_over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut pool = Self { shared, threads: Vec::new() };
        for index in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("auth-{index}"));
            pool.threads.push(builder.spawn(move || shared.run())?);
        }
        Ok(pool)
    }

    /// Lets a thread do this, when it is the turn of whoever is at `address`. The work is asked for if there is room for it.
    pub(super) fn submit(&self, address: IpAddr, work: impl FnOnce() -> Work) -> Result<(), Full> {
        self.shared.lock().queue.push(Network::household(address), || (Instant::now(), work()))?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Somebody there has presented something wrong.
    pub(super) fn fail(&self, address: IpAddr) {
        self.shared.lock().delays.fail(Network::household(address), Instant::now());
    }

    /// Whether whoever is there must wait before presenting something again.
    pub(super) fn must_wait(&self, address: IpAddr) -> bool {
        self.shared.lock().delays.not_before(Network::household(address), Instant::now()).is_some()
    }

    /// How much waits.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that has panicked is over as well.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        // Where the system does not let us, the threads that serve clients share with these.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut workspace = Workspace::default();
        while let Some((place, (since, work))) = self.next() {
            if since.elapsed() > WAIT_MAXIMUM {
                continue;
            }
            // No work is meant to panic; if one does, the others are still done.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut workspace)));
            if outcome.unwrap_or(Outcome::Other) == Outcome::Wrong {
                self.lock().delays.fail(place, Instant::now());
            }
        }
    }

    /// The next work, when there is some; `None` if it is over.
    fn next(&self) -> Option<(Network, (Instant, Work))> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            let State { queue, delays, .. } = &mut *state;
            state = match queue.next(delays, Instant::now()) {
                Next::Work(place, work) => return Some((place, work)),
                Next::Idle => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Next::Wait(duration) => {
                    self.changed.wait_timeout(state, duration).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMITS: QueueLimits = QueueLimits { all: 3, per_place: 3 };
    const SOON: Duration = Duration::from_secs(10);

    fn home() -> IpAddr {
        [10, 0, 0, 1].into()
    }

    // [attack: password-storm]
    #[test]
    fn work_is_done_in_its_order_and_too_much_of_it_is_refused() {
        let pool = Pool::start(1, LIMITS, Duration::ZERO).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let hold = Box::new(move |_: &mut Workspace| {
            begun.send(()).unwrap();
            let _ = may_go.recv_timeout(SOON);
            Outcome::Other
        });
        pool.submit(home(), || hold).unwrap();
        has_begun.recv_timeout(SOON).unwrap();
        let (sender, receiver) = mpsc::channel();
        for n in 0..4 {
            let sender = sender.clone();
            let work = Box::new(move |_: &mut Workspace| {
                sender.send(n).unwrap();
                Outcome::Other
            });
            assert_eq!(pool.submit(home(), || work).is_ok(), n < 3);
        }
        assert_eq!(pool.waiting(), 3);
        go.send(()).unwrap();
        let done: Vec<_> = (0..3).map(|_| receiver.recv_timeout(SOON).unwrap()).collect();
        assert_eq!(done, [0, 1, 2]);
    }

    #[test]
    fn a_panic_ends_neither_the_thread_nor_the_pool() {
        let pool = Pool::start(1, LIMITS, Duration::ZERO).unwrap();
        pool.submit(home(), || Box::new(|_| panic!("a test wants it"))).unwrap();
        let (sender, receiver) = mpsc::channel();
        let work = Box::new(move |_: &mut Workspace| {
            sender.send(()).unwrap();
            Outcome::Other
        });
        pool.submit(home(), || work).unwrap();
        receiver.recv_timeout(SOON).unwrap();
    }

    // [attack: password-guessing]
    #[test]
    fn what_is_wrong_makes_the_next_one_wait_and_nobody_else() {
        let delay = Duration::from_millis(300);
        let pool = Pool::start(1, QueueLimits { all: 100, per_place: 100 }, delay).unwrap();
        let (sender, receiver) = mpsc::channel();
        let work = |name: &'static str, outcome| -> Work {
            let sender = sender.clone();
            Box::new(move |_| {
                sender.send((name, Instant::now())).unwrap();
                outcome
            })
        };
        for _ in 0..8 {
            pool.submit(home(), || work("wrong", Outcome::Wrong)).unwrap();
        }
        // 0, 0, 0, 0, 0, 0, 100, 200 ms: the last one comes after the other's.
        let first = receiver.recv_timeout(SOON).unwrap().1;
        pool.submit([10, 0, 0, 2].into(), || work("other", Outcome::Other)).unwrap();
        let rest: Vec<_> = (0..8).map(|_| receiver.recv_timeout(SOON).unwrap()).collect();
        let (last, at) = rest[7];
        assert_eq!(last, "wrong");
        assert!(at - first >= Duration::from_millis(300), "{:?}", at - first);
        let other = rest.iter().find(|(name, _)| *name == "other").unwrap().1;
        assert!(other < at);
    }
}
