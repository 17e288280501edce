//! The process's end without the guard's: `std::process::exit`, or `main` returning while the guard is leaked or in a static.

// `atexit` is a C function; nothing in the standard library runs code when the process exits.
#![allow(unsafe_code)]

use std::sync::mpsc;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::export::{Command, ExportThread};
use crate::lock;

/// Sends what was recorded when the process exits, for at most `timeout`. Without effect once the guard has ended the export.
pub(crate) fn flush_at_exit(thread: ExportThread, timeout: Duration) {
    static REGISTERED: Once = Once::new();
    *lock(&ENDING) = Some((thread, timeout));
    REGISTERED.call_once(|| {
        // SAFETY: the handler is a plain function that lives as long as the process and never unwinds: it only sends and waits.
        let _ = unsafe { libc::atexit(at_exit) }; // a full table of handlers is no reason not to run
    });
}

static ENDING: Mutex<Option<(ExportThread, Duration)>> = Mutex::new(None);

extern "C" fn at_exit() {
    let Some((thread, timeout)) = lock(&ENDING).take() else { return };
    let (reply, done) = mpsc::channel();
    let _ =
        thread.ask(Command::Shutdown(Instant::now().checked_add(timeout), reply)) && done.recv_timeout(timeout).is_ok();
}
