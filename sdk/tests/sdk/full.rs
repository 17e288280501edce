//! What gives way where the buffer is full, each with an account that is exact.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use watchbell::{Account, Builder, Guard, WhenFull};

use super::pipeline_of;
use super::receiver::{Absent, Received, Receiver};

const LONG: Duration = Duration::from_secs(120);

fn builder(endpoint: &str, when_full: WhenFull) -> Builder {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    watchbell::builder().variables(variables).buffer_bytes_max(256 * 1024).when_full(when_full)
}

fn log(dispatch: &tracing::Dispatch, numbers: std::ops::Range<usize>) {
    tracing::dispatcher::with_default(dispatch, || numbers.for_each(|i| tracing::info!("record {i}")));
}

/// The numbers that came, in order.
fn came(receiver: &Receiver) -> Vec<usize> {
    let bodies = receiver.logs();
    let bodies = bodies.iter().map(Received::body);
    let mut numbers: Vec<_> = bodies.filter_map(|body| body.strip_prefix("record ")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn assert_exact(account: &Account) {
    let ended = account.delivered + account.refused + account.dropped() + account.spooled;
    assert_eq!((account.emitted, account.in_flight), (ended, 0), "{account}");
}

const COUNT: usize = 10_000;

#[test]
fn the_newest() {
    let (came, account) = overflow(WhenFull::DropNewest);
    assert_eq!(came[..100], (0..100).collect::<Vec<_>>(), "{account}");
    assert_ne!(came.last(), Some(&(COUNT - 1)), "{account}");
}

#[test]
fn the_oldest() {
    let (came, account) = overflow(WhenFull::DropOldest);
    let newest = (0..COUNT).rev().zip(came.iter().rev()).take_while(|(expected, came)| expected == *came).count();
    assert!(newest > 100, "only the last {newest} are there: {account}");
    let others = came.len() - newest;
    assert!(others < came.len() / 2, "{others} older ones are there, too, and not only what is under way: {account}");
}

/// What comes of far more than the buffer holds, once a collector is there.
fn overflow(when_full: WhenFull) -> (Vec<usize>, Account) {
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), when_full));
    log(&dispatch, 0..COUNT);
    let receiver = absent.come(false);
    let account = guard.shutdown(LONG).logs;
    assert_exact(&account);
    assert!(account.dropped_buffer_full > 1000 && account.lost() == account.dropped_buffer_full, "{account}");
    (came(&receiver), account)
}

#[test]
fn a_flush_does_not_wait_for_what_gave_way() {
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), WhenFull::DropOldest));
    for i in 0..20 {
        log(&dispatch, i * COUNT..(i + 1) * COUNT);
        assert!(guard.flush(Duration::from_millis(1)).is_err());
    }
    let receiver = absent.come(false);
    guard.flush(LONG).expect("a receiver that answers");
    assert_eq!(came(&receiver).last(), Some(&(20 * COUNT - 1)));
    assert_exact(&guard.shutdown(LONG).logs);
}

#[test]
fn nothing_while_calls_wait_for_room() {
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), WhenFull::Block(LONG)));
    let receiver = std::thread::scope(|threads| {
        let dispatch = &dispatch;
        let logging: Vec<_> =
            (0..8).map(|i| threads.spawn(move || log(dispatch, i * COUNT..(i + 1) * COUNT))).collect();
        wait_until_full(&guard);
        assert!(logging.iter().all(|thread| !thread.is_finished()));
        absent.come(false)
    });
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.delivered, account.lost()), (8 * COUNT as u64, 0), "{account}");
    assert_eq!(came(&receiver), (0..8 * COUNT).collect::<Vec<_>>());
}

/// Until nothing more is taken.
fn wait_until_full(guard: &Guard) {
    let started = Instant::now();
    let (mut last, mut same) = (0, 0);
    while same < 50 {
        assert!(started.elapsed() < LONG, "the buffer never filled");
        std::thread::sleep(Duration::from_millis(4));
        let emitted = guard.ledger().logs.emitted;
        same = if emitted == last && emitted > 0 { same + 1 } else { 0 };
        last = emitted;
    }
}

#[test]
fn a_call_waits_no_longer_than_it_may() {
    let absent = Absent::new();
    let patience = Duration::from_millis(20);
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), WhenFull::Block(patience)));
    let mut number = 0;
    while guard.ledger().logs.dropped_buffer_full == 0 {
        log(&dispatch, number..number + 1);
        number += 1;
    }
    let started = Instant::now();
    log(&dispatch, 0..5);
    assert!(started.elapsed() < LONG);
    let account = guard.shutdown(Duration::ZERO).logs;
    assert_exact(&account);
    assert!(account.dropped_buffer_full >= 1 && account.emitted >= number as u64 + 5, "{account}");
}

/// A value that logs when it is dropped.
struct Logs<'a>(&'a tracing::Dispatch);

impl Drop for Logs<'_> {
    fn drop(&mut self) {
        log(self.0, 0..10);
    }
}

#[test]
fn nobody_waits_in_a_panic_nor_after_the_shutdown() {
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), WhenFull::Block(LONG * 10)));
    std::thread::scope(|threads| {
        threads.spawn(|| log(&dispatch, 0..COUNT)); // waits until the shutdown
        wait_until_full(&guard);
        let started = Instant::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _logs = Logs(&dispatch);
            std::panic::resume_unwind(Box::new("out of stock"));
        }));
        assert!(panicked.is_err() && started.elapsed() < LONG);
        assert_eq!(guard.ledger().logs.dropped_buffer_full, 10);
        let account = guard.shutdown(Duration::ZERO).logs;
        assert_exact(&account);
    });
}

#[test]
fn by_the_environment() {
    let absent = Absent::new();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()),
        ("WATCHBELL_WHEN_FULL", "block".to_owned()),
        ("WATCHBELL_BLOCK_TIMEOUT", "30".to_owned()),
    ];
    let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables).buffer_bytes_max(1));
    let started = Instant::now();
    log(&dispatch, 0..3);
    assert!(started.elapsed() >= Duration::from_millis(90));
    let dropped = guard.shutdown(Duration::ZERO).logs.dropped_buffer_full;
    assert!(dropped >= 3, "{dropped}"); // reports of the loss find no room either
}
