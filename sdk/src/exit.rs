//! The process's end without the guard's: `std::process::exit`, or `main` returning while the guard is leaked or in a static. And its copies: forked
//! children, which have none of our threads, and whose locks may be held for ever by threads that they have not.

// `atexit` and `pthread_atfork` are C functions; nothing in the standard library runs code when the process exits, or forks.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use crate::lock;
use crate::pipeline::Pipeline;
use crate::threads::Threads;

/// Sends what was recorded when the process exits, for at most `timeout`. Without effect once the guard has ended the export.
pub(crate) fn flush_at_exit(pipeline: Arc<Pipeline>, threads: Threads, timeout: Duration) {
    static REGISTERED: Once = Once::new();
    FORKS_OF_ENDING.store(forks(), Ordering::Relaxed);
    *lock(&ENDING) = Some((pipeline, threads, timeout));
    REGISTERED.call_once(|| {
        // SAFETY: the handler is a plain function that lives as long as the process and never unwinds: it sends and waits,
        // and a panic of what the service has set to run meanwhile, a patch or a callback, is caught.
        let _ = unsafe { libc::atexit(at_exit) }; // a full table of handlers is no reason not to run
    });
}

/// The guard has done it: whom it has not waited for to the end need not be waited for again.
pub(crate) fn has_flushed(pipeline: &Arc<Pipeline>) {
    lock(&ENDING).take_if(|(ending, ..)| Arc::ptr_eq(ending, pipeline));
}

static ENDING: Mutex<Option<(Arc<Pipeline>, Threads, Duration)>> = Mutex::new(None);

/// The process that is to do so.
static FORKS_OF_ENDING: AtomicU32 = AtomicU32::new(0);

extern "C" fn at_exit() {
    if FORKS_OF_ENDING.load(Ordering::Relaxed) != forks() {
        return; // a forked child, in which that may be locked for ever
    }
    let Some((pipeline, threads, timeout)) = lock(&ENDING).take() else { return };
    pipeline.restraint.tell(&pipeline);
    pipeline.restraint.close();
    threads.shut_down(timeout, Duration::ZERO);
}

/// How many forks there are between this process and that which was started: another number in a child than in its parent. It costs no system call, as the
/// process's id does, and is asked for with each record. Children by a bare `clone`, or by `vfork`, are not told from their parents.
#[inline]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Has forks counted from here on.
pub(crate) fn count_forks() {
    #[cfg(unix)]
    {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| {
            // SAFETY: the handler is a plain function that lives as long as the process and does nothing but add to a number.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(has_forked)) }; // without memory for it forks are not known
        });
    }
}

#[cfg(unix)]
extern "C" fn has_forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
