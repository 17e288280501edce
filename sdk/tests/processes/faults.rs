//! Panics within panics, and forks of a service with many threads.

use std::panic::AssertUnwindSafe;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use watchbell::sink::{Record, Sink};
use watchbell::{Builder, Guard};

use super::receiver::{Received, Receiver};
use super::{command, run as run_case};

/// Whatever another thread was doing at that moment, and held locked.
#[test]
fn a_child_forked_by_a_busy_service_never_hangs() {
    let receiver = Receiver::http();
    let mut command = command("forks", &receiver);
    command.env("OTEL_BLRP_SCHEDULE_DELAY", "1").env("OTEL_BSP_SCHEDULE_DELAY", "1");
    let output = command.output().expect("this program");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(receiver.logs().iter().all(|log| log.body() == "of the parent"), "{:?}", receiver.logs());
}

/// What is called in the panic's hook would abort the process.
#[test]
fn callbacks_filters_and_finders_may_panic_over_a_panic() {
    let receiver = Receiver::http();
    let output = command("all panic", &receiver).output().expect("this program");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let record = receiver.log("out of stock");
    assert_eq!(record.attribute("exception.type"), Some(Value::StringValue("[redacted]".to_owned())));
    assert!(receiver.logs().iter().any(|log| log.body() == "not shown to a callback"), "{:?}", receiver.logs());
    assert_eq!(told.matches("a finder of secrets panics").count(), 1, "{told}");
}

#[test]
#[cfg(unix)]
fn what_a_panic_that_ends_the_process_leaves_is_sent() {
    use std::os::unix::process::ExitStatusExt;
    for (case, last) in [
        ("while unwinding", "panic in a destructor during cleanup"),
        ("cannot unwind", "panic in a function that cannot unwind"),
    ] {
        let receiver = Receiver::http();
        assert_eq!(run_case(case, &receiver).signal(), Some(libc::SIGABRT), "{case}");
        let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
        assert!(
            ["before", "out of stock", last].iter().all(|body| bodies.iter().any(|found| found == body)),
            "{bodies:?}"
        );
    }
}

/// What the process of a case does.
pub(crate) fn run(case: &str, guard: Guard) {
    match case {
        "forks" => fork_again_and_again(guard),
        "all panic" => panic_over_a_panic(guard),
        "while unwinding" => panic_while_unwinding(),
        _ => panic_that_cannot_unwind(),
    }
}

/// A sink of each kind.
pub(crate) fn with_sinks(builder: Builder) -> Builder {
    builder.sink(Sink::callback("in call", |_| {}).in_call()).sink(Sink::callback("queued", |_| {}))
}

/// Two sinks, and a finder of secrets, that panic with a panic's record.
pub(crate) fn with_panicking_functions(builder: Builder) -> Builder {
    let is_of_panic = |record: &Record<'_>| record.attribute("exception.type").is_some();
    let callback = Sink::callback("callback", move |record| assert!(!is_of_panic(record), "not shown to a callback"));
    let filter = move |record: &Record<'_>| {
        assert!(!is_of_panic(record), "not shown to a filter");
        true
    };
    let finder = |text: &str| {
        assert_ne!(text, "panic", "not shown to a finder");
        None
    };
    let builder = builder.redact(watchbell::redact::Redaction::new().found_by(finder));
    builder.sink(callback.in_call()).sink(Sink::callback("filter", |_| {}).filter(filter).in_call())
}

fn panic_over_a_panic(guard: watchbell::Guard) {
    tracing::info!("before");
    assert!(std::panic::catch_unwind(|| panic!("out of stock")).is_err());
    tracing::info!("after");
    for sink in guard.sinks() {
        assert_eq!((sink.written, sink.failed), (2, 1), "{sink}");
    }
    drop(guard);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("out of stock");
    }
}

fn panic_while_unwinding() {
    tracing::info!("before");
    let _panics = PanicsWhenDropped;
    panic!("the first");
}

fn panic_that_cannot_unwind() {
    extern "C" fn panic() {
        panic!("out of stock");
    }
    tracing::info!("before");
    panic();
}

/// Forks while threads log by all doors.
fn fork_again_and_again(guard: Guard) {
    let (guard, is_over) = (&guard, &AtomicBool::new(false));
    let log = || {
        tracing::info_span!("request").in_scope(|| tracing::error!("of the parent"));
        log::info!("of the parent");
    };
    // Where a callsite is reached for the first time `tracing` takes a lock of its own, which a fork would leave locked.
    let known = &Barrier::new(5);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(move || {
                log();
                known.wait();
                while !is_over.load(Ordering::Relaxed) {
                    log()
                }
            });
        }
        known.wait();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (0..200).for_each(|_| fork_once(guard))));
        is_over.store(true, Ordering::Relaxed);
        assert!(outcome.is_ok(), "a child hung, or counted wrong");
    });
}

#[expect(unsafe_code)] // the standard library does not fork
fn fork_once(guard: &Guard) {
    // SAFETY: the child logs and ends, as a service's child would; the parent waits for it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let logger =
            opentelemetry::logs::LoggerProvider::logger(&guard.logger_provider().expect("logs are exported"), "child");
        tracing::info_span!("of the child").in_scope(|| tracing::info!("of the child"));
        log::warn!("of the child");
        opentelemetry::logs::Logger::emit(&logger, opentelemetry::logs::Logger::create_log_record(&logger));
        let (account, is_refused) = (guard.ledger().logs, guard.flush(Duration::from_secs(60)).is_err());
        let counts = (account.emitted, account.dropped_forked, account.in_flight, account.delivered);
        let is_right = counts == (3, 3, 0, 0) && is_refused && guard.sinks().iter().all(|sink| sink.dropped == 3);
        // SAFETY: ends the process and does nothing else.
        unsafe { libc::_exit(i32::from(!is_right)) };
    }
    let (started, mut status) = (Instant::now(), -1);
    // SAFETY: looks whether the child has ended, and writes its status.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if started.elapsed() > Duration::from_secs(60) {
            // SAFETY: ends the child.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(status, 0);
}
