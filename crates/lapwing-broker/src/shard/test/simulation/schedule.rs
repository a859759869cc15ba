//! Threads of which one runs at a time. Wherever one touches what all share, another may go on in its place: which
//! one, the seed says, so that a run can be repeated.

use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::super::random::Random;
use crate::sync::{Scheduler, run_under};

/// Names a thread.
pub(super) type Number = usize;

/// More points than any run has that comes to an end.
const POINTS_MAXIMUM: usize = 2_000_000;

pub(super) struct Schedule {
    state: Mutex<State>,
    /// For each thread: it may be its turn.
    turns: Vec<Condvar>,
}

struct State {
    current: Number,
    stages: Vec<Stage>,
    /// Threads that are not to sleep the next time.
    woken: Vec<bool>,
    random: Random,
    /// A thread goes on at a point but once in so many times.
    patience: usize,
    points: usize,
    /// Whether one has panicked, so that all must end.
    is_broken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ready,
    Asleep,
    /// It goes on when nobody else can.
    Last,
    Done,
}

impl Schedule {
    /// For so many threads, of which the first begins.
    pub(super) fn new(threads: usize, seed: u64) -> Arc<Self> {
        let mut random = Random::new(seed);
        let patience = random.pick(&[1, 2, 6, 30]);
        let state = State {
            current: 0,
            stages: vec![Stage::Ready; threads],
            woken: vec![false; threads],
            random,
            patience,
            points: 0,
            is_broken: false,
        };
        Arc::new(Self { state: Mutex::new(state), turns: (0..threads).map(|_| Condvar::new()).collect() })
    }

    /// What a thread does, when it is its turn, until it is done.
    pub(super) fn run(self: &Arc<Self>, number: Number, run: impl FnOnce()) {
        let end = End { schedule: self, number };
        self.await_turn(self.state(), number);
        run_under(Rc::new(Place { schedule: Arc::clone(self), number }), run);
        drop(end);
    }

    /// A thread sleeps until it is woken, or not at all if it has been since it last slept.
    pub(super) fn sleep(&self, number: Number) {
        let mut state = self.state();
        if !std::mem::take(&mut state.woken[number]) {
            self.rest(state, number, Stage::Asleep);
            self.state().woken[number] = false;
        }
    }

    pub(super) fn wake(&self, number: Number) {
        let mut state = self.state();
        state.woken[number] = true;
        if state.stages[number] == Stage::Asleep {
            state.stages[number] = Stage::Ready;
        }
    }

    /// A thread goes on when all others sleep.
    pub(super) fn await_silence(&self, number: Number) {
        self.rest(self.state(), number, Stage::Last);
        self.state().stages[number] = Stage::Ready;
    }

    /// How many points there were.
    pub(super) fn points(&self) -> usize {
        self.state().points
    }

    /// Whether a thread has ended.
    pub(super) fn is_done(&self, number: Number) -> bool {
        self.state().stages[number] == Stage::Done
    }

    /// Lets others go on, if any can.
    pub(super) fn give_way(&self, number: Number) {
        let state = self.state();
        if !state.candidates(|other| other != number).is_empty() {
            self.pass_on(state, number, |other| other != number);
        }
    }

    fn rest(&self, mut state: MutexGuard<'_, State>, number: Number, stage: Stage) {
        state.stages[number] = stage;
        self.pass_on(state, number, |_| true);
    }

    /// Lets one of those go on that can and may.
    fn pass_on(&self, mut state: MutexGuard<'_, State>, number: Number, may: impl Fn(Number) -> bool) {
        let candidates = state.candidates(may);
        assert!(!candidates.is_empty(), "the threads wait for one another");
        let next = state.random.pick(&candidates);
        if next != number {
            state.current = next;
            self.turns[next].notify_one();
            self.await_turn(state, number);
        }
    }

    fn await_turn(&self, mut state: MutexGuard<'_, State>, number: Number) {
        while state.current != number && !state.is_broken {
            state = self.turns[number].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_broken {
            drop(state);
            // Without a message: that of the thread which panicked first is the one to read.
            std::panic::resume_unwind(Box::new("another thread has panicked"));
        }
    }

    fn finish(&self, number: Number) {
        let mut state = self.state();
        state.stages[number] = Stage::Done;
        // Whoever sleeps sees that it is over.
        state
            .stages
            .iter_mut()
            .filter(|stage| **stage == Stage::Asleep)
            .for_each(|stage| *stage = Stage::Ready);
        state.is_broken |= std::thread::panicking();
        if state.is_broken {
            self.turns.iter().for_each(Condvar::notify_all);
            return;
        }
        let candidates = state.candidates(|_| true);
        if !candidates.is_empty() {
            let next = state.random.pick(&candidates);
            state.current = next;
            self.turns[next].notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those that can go on.
    fn candidates(&self, may: impl Fn(Number) -> bool) -> Vec<Number> {
        let in_stage = |stage| (0..self.stages.len()).filter(move |&number| self.stages[number] == stage);
        let ready: Vec<_> = in_stage(Stage::Ready).filter(|&number| may(number)).collect();
        if ready.is_empty() { in_stage(Stage::Last).filter(|&number| may(number)).collect() } else { ready }
    }
}

/// A thread's place in the schedule.
struct Place {
    schedule: Arc<Schedule>,
    number: Number,
}

impl Scheduler for Place {
    fn pass(&self) {
        if std::thread::panicking() {
            return;
        }
        let mut state = self.schedule.state();
        state.points += 1;
        assert!(state.points < POINTS_MAXIMUM, "it never becomes quiet");
        let patience = state.patience;
        if state.random.once_in(patience) {
            self.schedule.pass_on(state, self.number, |_| true);
        }
    }

    fn wait(&self) {
        self.schedule.pass_on(self.schedule.state(), self.number, |other| other != self.number);
    }
}

/// Marks a thread as done, whatever has ended it.
struct End<'a> {
    schedule: &'a Schedule,
    number: Number,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.schedule.finish(self.number);
    }
}
