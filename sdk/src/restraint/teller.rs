//! The thread that tells what was withheld where no further record does. It comes with the first withheld record, and sleeps while there are none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::pipeline::Pipeline;

/// Least time between two records that tell of the same place.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Teller {
    state: Arc<State>,
    thread: OnceLock<Option<Thread>>,
}

#[derive(Default)]
struct State {
    /// Whether something was withheld since the last telling.
    is_wanted: AtomicBool,
    is_ended: AtomicBool,
}

impl Teller {
    /// Has it told within the interval.
    pub(super) fn wake(&self, pipeline: &Pipeline) {
        if self.state.is_wanted.load(Ordering::SeqCst) || self.state.is_wanted.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(thread) = self.thread.get_or_init(|| start(&self.state, pipeline.itself())) {
            thread.unpark();
        }
    }

    pub(super) fn end(&self) {
        self.state.is_ended.store(true, Ordering::Relaxed);
        if let Some(Some(thread)) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for the interval, or for the end.
fn wait(state: &State) {
    let until = Instant::now() + INTERVAL;
    while !state.is_ended.load(Ordering::Relaxed)
        && let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// Without a thread (there are too many) it is told at a flush and at the end.
fn start(state: &Arc<State>, pipeline: Weak<Pipeline>) -> Option<Thread> {
    let state = Arc::clone(state);
    let run = move || {
        while !state.is_ended.load(Ordering::Relaxed) {
            if !state.is_wanted.load(Ordering::Relaxed) {
                thread::park();
                continue;
            }
            wait(&state);
            state.is_wanted.swap(false, Ordering::SeqCst); // before the counts are read: what comes later wakes again
            match pipeline.upgrade() {
                Some(pipeline) if !state.is_ended.load(Ordering::Relaxed) => pipeline.restraint.tell(&pipeline),
                _ => return,
            }
        }
    };
    let spawned = thread::Builder::new().name("watchbell-withheld".to_owned()).spawn(run);
    spawned.ok().map(|handle| handle.thread().clone())
}
