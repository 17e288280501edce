//! Calls of the service's own functions, which may panic: on whatever thread they run, that lives on.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// What `f` returns; `None` if it panics. A panic within a panic's hook aborts the process, caught or not, but for one in another thread: `f` has one of its own then.
pub(crate) fn caught<R: Send>(f: impl FnOnce() -> R + Send) -> Option<R> {
    if !thread::panicking() {
        return catch_unwind(AssertUnwindSafe(f)).ok();
    }
    let is_within = IS_WITHIN_A_SINK.get();
    let run = || {
        IS_WITHIN_A_SINK.set(is_within); // who waits for this thread may have a sink locked
        f()
    };
    thread::scope(|threads| thread::Builder::new().spawn_scoped(threads, run).ok()?.join().ok())
}

thread_local!(static IS_WITHIN_A_SINK: Cell<bool> = const { Cell::new(false) }); // always there: it has no destructor

/// Calls `f` unless this thread is in it already: a callback that logs would wait for itself.
pub(crate) fn within_a_sink(f: impl FnOnce()) {
    if !IS_WITHIN_A_SINK.replace(true) {
        f();
        IS_WITHIN_A_SINK.set(false);
    }
}
