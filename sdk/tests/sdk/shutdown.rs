//! The guard works everywhere and keeps its deadline.

use std::time::{Duration, Instant};

use super::receiver::{Absent, Receiver};
use super::{pipeline, pipeline_of};

const LONG: Duration = Duration::from_secs(20);

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn workers(count: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

fn log_and_shut_down(receiver: &Receiver, by_drop: bool) {
    let (dispatch, guard) = pipeline(receiver);
    tracing::dispatcher::with_default(&dispatch, || (0..10).for_each(|i| tracing::info!(i, "last words")));
    if by_drop {
        drop(guard);
    } else {
        guard.flush(LONG).expect("a receiver that answers");
        assert_eq!(guard.ledger().logs.in_flight, 0);
        assert_eq!(guard.shutdown(LONG).logs.delivered, 10);
    }
    assert_eq!(receiver.logs().len(), 10);
}

#[test]
fn without_a_runtime() {
    for by_drop in [true, false] {
        log_and_shut_down(&Receiver::http(), by_drop);
    }
}

#[test]
fn on_a_current_thread_runtime() {
    for by_drop in [true, false] {
        current_thread().block_on(async { log_and_shut_down(&Receiver::grpc(), by_drop) });
    }
}

#[test]
fn within_a_task_of_a_one_worker_runtime() {
    for by_drop in [true, false] {
        let task = async move { log_and_shut_down(&Receiver::http(), by_drop) };
        workers(1).block_on(async { tokio::spawn(task).await.unwrap() });
    }
}

#[test]
fn within_a_task_of_a_many_worker_runtime_and_a_local_set() {
    for by_drop in [true, false] {
        workers(4).block_on(async {
            tokio::spawn(async move { log_and_shut_down(&Receiver::grpc(), by_drop) }).await.unwrap()
        });
        let local = tokio::task::LocalSet::new();
        let task = async move { log_and_shut_down(&Receiver::http(), by_drop) };
        current_thread().block_on(local.run_until(async { tokio::task::spawn_local(task).await.unwrap() }));
    }
}

#[test]
fn a_collector_that_never_answers_costs_no_more_than_the_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap(); // connections are made, and nobody reads
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    log_into_the_void(&endpoint);
    current_thread().block_on(async { log_into_the_void(&endpoint) });
    workers(1).block_on(async { tokio::spawn(async move { log_into_the_void(&endpoint) }).await.unwrap() });
}

fn log_into_the_void(endpoint: &str) {
    for protocol in ["grpc", "http/protobuf"] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("into the void"));
        let started = Instant::now();
        assert!(guard.flush(Duration::from_millis(50)).is_err());
        let ledger = guard.shutdown(Duration::from_millis(100));
        assert!(started.elapsed() < Duration::from_secs(3), "the deadline is far exceeded");
        assert_eq!((ledger.logs.dropped_at_deadline, ledger.logs.in_flight), (1, 0), "{ledger}");
    }
}

/// One that has answered before is waited for: it is being restarted.
#[test]
fn nobody_is_waited_for_who_was_never_there() {
    let absent = Absent::new();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint())];
    let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables));
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("into the void"));
    let started = Instant::now();
    let ledger = guard.shutdown(Duration::from_secs(600));
    assert!(started.elapsed() < Duration::from_secs(300));
    assert_eq!((ledger.logs.dropped_at_deadline, ledger.logs.in_flight), (1, 0), "{ledger}");
}

#[test]
fn a_deadline_may_be_never() {
    for by_drop in [true, false] {
        let receiver = Receiver::http();
        let endless = super::builder(&receiver).shutdown_timeout(Duration::MAX).schedule_delay(Duration::MAX);
        let (dispatch, guard) = pipeline_of(endless.timeout(Duration::MAX));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("last words"));
        guard.flush(Duration::MAX).expect("a receiver that answers");
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("very last words"));
        if by_drop {
            drop(guard);
        } else {
            assert_eq!(guard.shutdown(Duration::MAX).logs.delivered, 2);
        }
        assert_eq!(receiver.logs().len(), 2);
    }
}

#[test]
fn what_is_logged_after_the_shutdown_is_neither_sent_nor_waited_for() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("in time");
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.emitted, ledger.logs.delivered), (1, 1));
        tracing::error!("too late");
    });
    assert_eq!(receiver.requests(), 1);
}

#[test]
fn a_flush_in_a_busy_service_waits_for_what_came_before_it_only() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tracing::dispatcher::with_default(&dispatch, || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    tracing::error!("on and on");
                    std::thread::yield_now();
                }
            });
        });
        let flushed = (0..5).try_for_each(|_| guard.flush(LONG));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flushed.expect("a flush that ends");
    });
    drop(guard);
}
