//! The threads that do what takes long: hashes of passwords and signatures of tokens; and others that wait for a service.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// Some threads and what waits for them. Copies are the same; what waits may have one, so that it can wait for others.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// How many threads there are, and how much may wait for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolSize {
    pub(super) threads: usize,
    pub(super) limits: QueueLimits,
    pub(super) longest_delay: Duration,
}

#[derive(Debug)]
struct Shared {
    /// What the threads are called.
    name: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: Queue<(Instant, Work)>,
    delays: Delays,
    /// Threads that there are.
    threads: usize,
    /// Threads that there are to be: where they are more, whichever is idle ends.
    wanted: usize,
    is_over: bool,
}

/// After so long nobody waits for the work any more: the broker has ended the connection.
const WAIT_MAXIMUM: Duration = Duration::from_secs(30);
/// How much less of a processor these threads get than those that serve clients, where there is not enough for all.
const NICE: i32 = 10;

impl Pool {
    /// Starts so many threads, with this name and a number each.
    pub(super) fn start(name: &'static str, size: PoolSize) -> std::io::Result<Self> {
        let (queue, delays) = (Queue::new(size.limits), Delays::new(size.longest_delay));
        let state = State { queue, delays, threads: 0, wanted: 0, is_over: false };
        let shared = Arc::new(Shared { name, state: Mutex::new(state), changed: Condvar::new() });
        let pool = Self { shared };
        match pool.resize(size) {
            Ok(()) => Ok(pool),
            Err(error) => {
                pool.close();
                Err(error)
            }
        }
    }

    /// Has so many threads from now on. Those that are too many end when they have done what they are doing; what waits goes on waiting.
    ///
    /// # Errors
    ///
    /// If the system gives no more threads. Then there are as many as before.
    pub(super) fn resize(&self, size: PoolSize) -> std::io::Result<()> {
        let mut state = self.shared.lock();
        while state.threads < size.threads {
            let shared = Arc::clone(&self.shared);
            let builder = std::thread::Builder::new().name(format!("{}-{}", shared.name, state.threads));
            // If this fails, those that are too many end as soon as the lock is free.
            builder.spawn(move || shared.run())?;
            state.threads += 1;
        }
        state.wanted = size.threads;
        state.queue.limit(size.limits);
        state.delays.limit(size.longest_delay);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Lets a thread do this, when it is the turn of whoever is at `address`. The work is asked for if there is room for it.
    pub(super) fn submit(&self, address: IpAddr, work: impl FnOnce() -> Work) -> Result<(), Full> {
        let mut state = self.shared.lock();
        if state.is_over {
            return Err(Full);
        }
        state.queue.push(Network::household(address), || (Instant::now(), work()))?;
        drop(state);
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

    /// Ends the threads, each when it has done what it is doing. What waits is dropped, and nothing more is taken.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.shared.lock();
            state.is_over = true;
            state.queue.take()
        };
        self.shared.changed.notify_all();
        // Without the lock: what waits has a copy of this.
        drop(waiting);
    }
}

impl Shared {
    fn run(&self) {
        // Where the system does not let us, the threads that serve clients share with these.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut workspace = Workspace::default();
        while let Some((network, (since, work))) = self.next() {
            if since.elapsed() > WAIT_MAXIMUM {
                continue;
            }
            // No work is meant to panic; if one does, the others are still done.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut workspace)));
            if outcome.unwrap_or(Outcome::Other) == Outcome::Wrong {
                self.lock().delays.fail(network, Instant::now());
            }
        }
    }

    /// The next work, when there is some; `None` if it is over for the thread that asks.
    fn next(&self) -> Option<(Network, (Instant, Work))> {
        let mut state = self.lock();
        loop {
            if state.is_over || state.threads > state.wanted {
                state.threads -= 1;
                return None;
            }
            let State { queue, delays, .. } = &mut *state;
            state = match queue.next(delays, Instant::now()) {
                Next::Work(network, work) => return Some((network, work)),
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

    fn start(limits: QueueLimits, longest_delay: Duration) -> Pool {
        Pool::start("test", PoolSize { threads: 1, limits, longest_delay }).unwrap()
    }

    fn home() -> IpAddr {
        [10, 0, 0, 1].into()
    }

    // [attack: password-storm]
    #[test]
    fn work_is_done_in_its_order_and_too_much_of_it_is_refused() {
        let pool = start(LIMITS, Duration::ZERO);
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
        let pool = start(LIMITS, Duration::ZERO);
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
        let pool = start(QueueLimits { all: 100, per_place: 100 }, delay);
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
    /// Work that says where it runs, and then waits.
    struct Held {
        begun: mpsc::Receiver<String>,
        go: mpsc::Sender<()>,
    }

    fn hold(pool: &Pool) -> Held {
        let (sender, begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let work = Box::new(move |_: &mut Workspace| {
            sender.send(std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
            let _ = may_go.recv_timeout(SOON);
            Outcome::Other
        });
        pool.submit(home(), || work).unwrap();
        Held { begun, go }
    }

    #[test]
    fn it_grows_and_shrinks_while_there_is_work() {
        let size = |threads, all| PoolSize {
            threads,
            limits: QueueLimits { all, per_place: all },
            longest_delay: Duration::ZERO,
        };
        let pool = Pool::start("test", size(1, 1)).unwrap();
        let first = hold(&pool);
        assert_eq!(first.begun.recv_timeout(SOON).unwrap(), "test-0");
        let second = hold(&pool);
        let refused = pool.submit(home(), || Box::new(|_| Outcome::Other));
        assert_eq!((refused, pool.waiting()), (Err(Full), 1));
        pool.resize(size(2, 2)).unwrap();
        assert_eq!(second.begun.recv_timeout(SOON).unwrap(), "test-1", "what waited has the new thread");
        let (third, fourth) = (hold(&pool), hold(&pool));
        assert_eq!(pool.waiting(), 2, "and as much may wait as the new limit says");
        pool.resize(size(1, 2)).unwrap();
        second.go.send(()).unwrap();
        first.go.send(()).unwrap();
        let by = third.begun.recv_timeout(SOON).unwrap();
        third.go.send(()).unwrap();
        assert_eq!(fourth.begun.recv_timeout(SOON).unwrap(), by, "one of the threads is no more");
    }

    #[test]
    fn what_waits_is_dropped_when_it_is_over() {
        let pool = start(LIMITS, Duration::ZERO);
        let held = hold(&pool);
        held.begun.recv_timeout(SOON).unwrap();
        let waiting = hold(&pool);
        pool.close();
        // Its end of the channel is gone, and nothing was sent.
        assert!(
            waiting
                .begun
                .recv_timeout(SOON)
                .is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected)
        );
        assert_eq!(pool.submit(home(), || Box::new(|_| Outcome::Other)), Err(Full));
        drop(held);
    }
}
