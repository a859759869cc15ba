//! The standard library's synchronization, with a point before each access at which a scheduler may let another
//! thread go on. Threads without a scheduler notice nothing.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{
    LockResult, MutexGuard, RwLockReadGuard, RwLockWriteGuard, TryLockError, TryLockResult, atomic,
};
use std::{fmt, io};

/// Says which thread goes on.
pub(crate) trait Scheduler {
    /// The thread is about to touch what others touch as well.
    fn pass(&self);
    /// The thread can go on only when another one has.
    fn wait(&self);
}

thread_local! {
    static SCHEDULER: RefCell<Option<Rc<dyn Scheduler>>> = const { RefCell::new(None) };
}

/// Does something on this thread, under a scheduler.
pub(crate) fn run_under<T>(scheduler: Rc<dyn Scheduler>, run: impl FnOnce() -> T) -> T {
    SCHEDULER.with_borrow_mut(|place| *place = Some(scheduler));
    let result = run();
    SCHEDULER.with_borrow_mut(Option::take);
    result
}

fn scheduler() -> Option<Rc<dyn Scheduler>> {
    SCHEDULER.with_borrow(Option::clone)
}

fn pass() {
    if let Some(scheduler) = scheduler() {
        scheduler.pass();
    }
}

/// An atomic number or truth value.
#[derive(Debug, Default)]
pub(crate) struct Atomic<T>(T);

pub(crate) type AtomicBool = Atomic<atomic::AtomicBool>;
pub(crate) type AtomicU32 = Atomic<atomic::AtomicU32>;
pub(crate) type AtomicU64 = Atomic<atomic::AtomicU64>;
pub(crate) type AtomicUsize = Atomic<atomic::AtomicUsize>;

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(atomic::AtomicBool::new(value))
    }
}

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self(atomic::AtomicU32::new(value))
    }
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }
}

impl AtomicUsize {
    pub(crate) fn new(value: usize) -> Self {
        Self(atomic::AtomicUsize::new(value))
    }
}

/// Whatever is done with it goes through here.
impl<T> Deref for Atomic<T> {
    type Target = T;

    fn deref(&self) -> &T {
        pass();
        &self.0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        lock(|| self.0.try_lock(), || self.0.lock())
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        lock(|| self.0.try_read(), || self.0.read())
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        lock(|| self.0.try_write(), || self.0.write())
    }
}

/// Takes a lock. Under a scheduler nobody blocks, so that the one who has it can go on.
fn lock<G>(attempt: impl Fn() -> TryLockResult<G>, block: impl FnOnce() -> LockResult<G>) -> LockResult<G> {
    let Some(scheduler) = scheduler() else { return block() };
    scheduler.pass();
    loop {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => scheduler.wait(),
        }
    }
}

/// Wakes a thread: out of its poll, or as a scheduler does.
pub(crate) enum Waker {
    Poll(mio::Waker),
    Scheduled(Box<dyn Fn() + Send + Sync>),
}

impl Waker {
    pub(crate) fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Self> {
        mio::Waker::new(registry, token).map(Self::Poll)
    }

    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Self::Poll(waker) => waker.wake(),
            Self::Scheduled(wake) => {
                pass();
                wake();
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
