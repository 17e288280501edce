//! A signal's handler that logs, and interrupts its thread wherever that is.

#![expect(unsafe_code)] // the standard library handles no signals

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::child;
use super::receiver::Absent;

#[test]
fn a_handler_that_logs_while_its_thread_logs_does_not_wait_for_it() {
    let absent = Absent::new();
    let mut service = child("handler");
    service.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint());
    service.env("OTEL_TRACES_EXPORTER", "none").env("OTEL_METRICS_EXPORTER", "none");
    let output = service.output().expect("this program");
    assert_eq!(output.status.code(), Some(7), "{} {}", output.status, String::from_utf8_lossy(&output.stderr));
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn log_from_a_handler(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    tracing::info!("from the handler");
}

/// So that no thread of the SDK's is interrupted: they are made with this mask.
pub(crate) fn block_signals() {
    mask(libc::SIG_BLOCK);
}

/// The buffer is full all the while, so that the thread allocates nothing, in the midst of which its handler could not.
pub(crate) fn run(guard: watchbell::Guard) {
    let mut logged = 0;
    let mut log = |calls: u64| {
        (0..calls).for_each(|i| tracing::info!(i, "from the thread"));
        logged += calls;
    };
    log(10_000);
    log_from_a_handler(0);
    assert!(guard.flush(Duration::from_millis(300)).is_err());
    // SAFETY: the handler is a function of the right type; the alarm ends the process if it hangs.
    unsafe {
        libc::alarm(60);
        libc::signal(libc::SIGPROF, log_from_a_handler as *const () as libc::sighandler_t);
    }
    set_timer(Duration::from_micros(500));
    while guard.ledger().logs.dropped_reentrant == 0 {
        mask(libc::SIG_UNBLOCK);
        log(10_000);
        mask(libc::SIG_BLOCK); // the ledger takes locks
    }
    set_timer(Duration::ZERO);
    let account = guard.shutdown(Duration::ZERO).logs;
    let made = logged + HANDLED.load(Ordering::Relaxed);
    let is_right = account.emitted == made && account.dropped() == made;
    std::process::exit(if is_right { 7 } else { 1 });
}

fn mask(how: libc::c_int) {
    // SAFETY: the set is made before it is read.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGPROF);
        assert_eq!(libc::pthread_sigmask(how, &raw const signals, std::ptr::null_mut()), 0);
    }
}

/// SIGPROF each time this process has worked for so long.
fn set_timer(interval: Duration) {
    let every = libc::timeval { tv_sec: 0, tv_usec: interval.as_micros() as libc::suseconds_t };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: reads the value alone.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) }, 0);
}
