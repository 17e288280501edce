//! The process's end without the guard's: `std::process::exit`, or `main` returning while the guard is leaked or in a static.

// `atexit` is a C function; nothing in the standard library runs code when the process exits.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use crate::lock;
use crate::pipeline::Pipeline;
use crate::threads::Threads;

/// Sends what was recorded when the process exits, for at most `timeout`. Without effect once the guard has ended the export.
pub(crate) fn flush_at_exit(pipeline: Arc<Pipeline>, threads: Threads, timeout: Duration) {
    static REGISTERED: Once = Once::new();
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

extern "C" fn at_exit() {
    let Some((pipeline, threads, timeout)) = lock(&ENDING).take() else { return };
    pipeline.restraint.tell(&pipeline);
    pipeline.restraint.close();
    threads.shut_down(timeout, Duration::ZERO);
}
