//! Lets work on threads that may block through while the run itself has nothing to do, one piece after the other, so
//! that what it wakes is woken in the same order each time.
//!
//! Not here: the work (`tally-projector` reads its store on such threads).

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// A thread that gives up waiting has found no order, and goes on: then a seed may not repeat, but nothing hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells whether the run's own thread rests.
#[derive(Debug)]
pub(crate) struct Gate {
    main: ThreadId,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    resting: bool,
    /// Counts rests.
    rests: u64,
    /// The rest in which a piece of work was let through last, and which.
    used: Option<(u64, Option<tokio::task::Id>)>,
}

impl Gate {
    /// For the run on this thread.
    pub(crate) fn new() -> Self {
        Self { main: std::thread::current().id(), state: Mutex::default(), moved: Condvar::new() }
    }

    /// The run's thread has nothing to do.
    pub(crate) fn rest(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.resting = true;
        state.rests += 1;
        self.moved.notify_all();
    }

    /// The run's thread goes on.
    pub(crate) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).resting = false;
    }

    /// Waits for a rest that no other piece of work was let through in.
    pub(crate) fn pass(&self) {
        if std::thread::current().id() == self.main {
            return;
        }
        let work = tokio::task::try_id();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |state: &mut State| match state.used {
            Some((_, used)) if used == work => false,
            Some((rest, _)) => !state.resting || rest == state.rests,
            None => !state.resting,
        };
        let waited = self.moved.wait_timeout_while(state, PATIENCE, busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.used = Some((state.rests, work));
    }
}
