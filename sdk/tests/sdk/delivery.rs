//! Records reach collectors, whatever these answer.

use std::time::{Duration, Instant};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::receiver::{Absent, Receiver, Scripted};
use super::{builder, builder_with, pipeline, pipeline_of};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn by_http_and_by_grpc() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        let (dispatch, guard) = pipeline(&receiver);
        tracing::dispatcher::with_default(&dispatch, || {
            let _span = tracing::info_span!("place_order").entered();
            tracing::info!(order_id = 17, "order placed");
        });
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.delivered, ledger.logs.in_flight), (1, 0), "{ledger}");
        assert_eq!((ledger.traces.delivered, ledger.traces.in_flight), (1, 0), "{ledger}");
        assert_eq!(receiver.log("order placed").record.span_id, receiver.span("place_order").span_id);
    }
}

/// As a service does that ends at once, or that is frozen between two requests.
#[test]
fn what_opentelemetrys_own_providers_flush_is_sent() {
    let receiver = Receiver::http();
    let delays = ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL"].map(|name| (name, "3600000"));
    let (dispatch, guard) = pipeline_of(builder_with(&receiver, &delays));
    tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("place_order").in_scope(|| {}));
    guard.tracer_provider().unwrap().force_flush().unwrap();
    receiver.span("place_order");
    let meters = guard.meter_provider().unwrap();
    meters.meter("shop").u64_counter("orders").build().add(1, &[]);
    meters.force_flush().unwrap();
    receiver.metric("orders");
}

#[test]
#[cfg(feature = "http-json")]
fn by_json() {
    for compression in [watchbell::Compression::None, watchbell::Compression::Gzip] {
        let receiver = Receiver::http();
        receiver.script([Scripted::Unavailable, Scripted::Partial(1)]);
        let builder = builder(&receiver).protocol(watchbell::Protocol::HttpJson).compression(compression);
        let (dispatch, guard) = pipeline_of(builder);
        tracing::dispatcher::with_default(&dispatch, || {
            let _span = tracing::info_span!("place_order").entered();
            tracing::info!(order_id = 17, ratio = f64::NAN, bytes = &b"\x00"[..], "order placed");
        });
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.delivered, ledger.logs.refused), (0, 1), "the receiver says so: {ledger}");
        assert_eq!((ledger.traces.delivered, ledger.metrics.delivered > 0), (1, true), "{ledger}");
        let log = receiver.log("order placed");
        assert_eq!((&log.record.span_id, log.record.attributes.len()), (&receiver.span("place_order").span_id, 5));
        assert!(receiver.headers().iter().all(|headers| headers["content-type"] == "application/json"));
    }
}

#[test]
fn compressed() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        let (dispatch, guard) = pipeline_of(builder(&receiver).compression(watchbell::Compression::Gzip));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("{}", "long ".repeat(1000)));
        assert_eq!(guard.shutdown(LONG).logs.delivered, 1);
        assert_eq!(receiver.logs()[0].body(), "long ".repeat(1000));
    }
}

#[test]
fn a_busy_collector_is_asked_again() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        receiver.script([Scripted::Busy(0), Scripted::Unavailable, Scripted::Busy(0)]);
        let (dispatch, guard) = pipeline(&receiver);
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("kept"));
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (1, 0), "{ledger}");
        assert_eq!(receiver.requests(), 4);
        receiver.log("kept");
    }
}

#[test]
fn a_flush_does_not_ask_a_collector_that_wants_time() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        receiver.script([Scripted::Busy(60)]);
        let others = ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"].map(|name| (name, "none"));
        let (dispatch, guard) = pipeline_of(builder_with(&receiver, &others));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("kept"));
        let flush = || assert!(guard.flush(Duration::from_millis(100)).is_err());
        let is_asked = (0..200).any(|_| {
            flush();
            receiver.requests() > 0
        });
        (0..2).for_each(|_| flush());
        assert_eq!((is_asked, receiver.requests()), (true, 1));
        let ledger = guard.shutdown(LONG); // the last chance that there is
        assert_eq!((ledger.logs.delivered, receiver.requests()), (1, 2), "{ledger}");
    }
}

#[test]
fn what_a_collector_refuses_is_counted_and_not_sent_again() {
    let refusals = [Scripted::Invalid, Scripted::InvalidAtLength]
        .map(|refusal| [(Receiver::http(), refusal.clone()), (Receiver::grpc(), refusal)]);
    for (receiver, refusal) in refusals.into_iter().flatten() {
        receiver.script([refusal]);
        let (dispatch, guard) = pipeline(&receiver);
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("malformed"));
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.emitted, ledger.logs.refused, ledger.logs.delivered), (1, 1, 0), "{ledger}");
        assert_eq!(receiver.requests(), 1);
    }
}

#[test]
fn a_partial_success_is_counted() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        receiver.script([Scripted::Partial(2)]);
        let (dispatch, guard) = pipeline(&receiver);
        tracing::dispatcher::with_default(&dispatch, || (0..5).for_each(|i| tracing::info!(i)));
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.emitted, ledger.logs.refused, ledger.logs.delivered), (5, 2, 3), "{ledger}");
    }
}

#[test]
fn headers_are_sent() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        let (dispatch, guard) = pipeline_of(builder(&receiver).header("Authorization", "Bearer secret"));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("let in"));
        drop(guard);
        assert_eq!(receiver.headers()[0]["authorization"], "Bearer secret");
    }
}

#[test]
fn a_collector_that_comes_later_gets_it_all() {
    for is_grpc in [false, true] {
        let absent = Absent::new();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", if is_grpc { "grpc" } else { "http/protobuf" }.to_owned()),
        ];
        let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables));
        tracing::dispatcher::with_default(&dispatch, || (0..100).for_each(|i| tracing::error!("failure {i}")));
        assert!(guard.flush(Duration::from_millis(50)).is_err());
        assert_eq!(guard.ledger().logs.in_flight, 100);

        let receiver = absent.come(is_grpc);
        receiver.wait_for_logs(100);
        let ledger = guard.shutdown(LONG);
        assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (100, 0), "{ledger}");
    }
}

#[test]
fn an_error_does_not_wait_for_the_schedule() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).schedule_delay(Duration::from_secs(3600)));
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("before");
        tracing::error!("a page may wait for this");
    });
    receiver.wait_for_logs(2);
    drop(guard);
}

#[test]
fn a_record_waits_for_the_schedule_and_no_longer() {
    let long = Duration::from_millis(1500); // more than the default
    assert!(way_to_the_collector(long) >= long);
    let short = || way_to_the_collector(Duration::from_millis(20)) < Duration::from_millis(500);
    assert!((0..10).any(|_| short()), "less than the default");
}

fn way_to_the_collector(schedule_delay: Duration) -> Duration {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).schedule_delay(schedule_delay));
    let logged = Instant::now();
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("soon"));
    receiver.wait_for_logs(1);
    let way = logged.elapsed();
    drop(guard);
    way
}

#[test]
fn many_threads_lose_nothing() {
    const THREADS: usize = 8;
    const EACH: usize = 5_000;
    let receiver = Receiver::grpc();
    let (dispatch, guard) = pipeline(&receiver);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let dispatch = &dispatch;
            scope.spawn(move || {
                tracing::dispatcher::with_default(dispatch, || {
                    (0..EACH).for_each(|i| tracing::info!(thread, i, "load"))
                });
            });
        }
    });
    let ledger = guard.shutdown(LONG);
    assert_eq!(ledger.logs.delivered, (THREADS * EACH) as u64, "{ledger}");
    let mut seen: Vec<_> = receiver.logs().iter().map(|log| format!("{:?}", log.record.attributes)).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), THREADS * EACH);
}

#[test]
fn a_thousand_threads_that_logged_once_hold_no_thousand_chunks() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let (all_logged, may_end) = (std::sync::Barrier::new(1001), std::sync::Barrier::new(1001));
    std::thread::scope(|scope| {
        for i in 0..1000 {
            let (dispatch, all_logged, may_end) = (&dispatch, &all_logged, &may_end);
            scope.spawn(move || {
                tracing::dispatcher::with_default(dispatch, || tracing::info!(i, "once"));
                all_logged.wait();
                may_end.wait();
            });
        }
        all_logged.wait();
        guard.flush(LONG).expect("a receiver that answers");
        // A thousand chunks would fill the buffer, so that these four megabytes would find no room.
        let text = "x".repeat(4_000);
        tracing::dispatcher::with_default(&dispatch, || (0..1000).for_each(|_| tracing::info!("{text}")));
        may_end.wait();
    });
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (2000, 0), "{ledger}");
}

/// Each has a chunk for its one line, which is more than the buffer holds: it has to be collected long before the schedule says so.
#[test]
fn threads_that_log_one_line_do_not_fill_the_buffer() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).schedule_delay(Duration::from_secs(3600)));
    log_in_threads(&dispatch, 3000);
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (3000, 0), "{ledger}");
    assert_eq!((ledger.traces.delivered, ledger.traces.lost()), (3000, 0), "{ledger}");
}

#[test]
fn nor_while_the_collector_is_away() {
    let absent = Absent::new();
    let (dispatch, guard) =
        pipeline_of(watchbell::builder().variables([("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint())]));
    for _ in 0..10 {
        tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("s").in_scope(|| tracing::info!("m")));
        assert!(guard.flush(Duration::from_millis(1)).is_err(), "so that all requests are under way");
    }
    log_in_threads(&dispatch, 3000);
    let receiver = absent.come(false);
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (3010, 0), "{ledger}");
    assert_eq!((ledger.traces.delivered, ledger.traces.lost()), (3010, 0), "{ledger}");
    drop(receiver);
}

#[test]
fn five_hundred_threads_at_once_lose_nothing() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).schedule_delay(Duration::from_secs(3600)));
    let all_there = std::sync::Barrier::new(513);
    std::thread::scope(|scope| {
        for _ in 0..513 {
            scope.spawn(|| {
                all_there.wait();
                log_in_a_span(&dispatch);
            });
        }
    });
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (513, 0), "{ledger}");
    assert_eq!((ledger.traces.delivered, ledger.traces.lost()), (513, 0), "{ledger}");
}

fn log_in_threads(dispatch: &tracing::Dispatch, count: usize) {
    std::thread::scope(|scope| (0..count).for_each(|_| scope.spawn(|| log_in_a_span(dispatch)).join().unwrap()));
}

fn log_in_a_span(dispatch: &tracing::Dispatch) {
    tracing::dispatcher::with_default(dispatch, || tracing::info_span!("s").in_scope(|| tracing::info!("m")));
}

#[test]
fn at_the_cap_the_newest_records_are_dropped_and_counted() {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let builder = watchbell::builder().variables(variables).buffer_bytes_max(64 * 1024);
    let (dispatch, guard) = pipeline_of(builder);
    tracing::dispatcher::with_default(&dispatch, || (0..10_000).for_each(|i| tracing::info!(i, "nobody listens")));
    let ledger = guard.shutdown(Duration::from_millis(50));
    assert_eq!(
        ledger.logs.emitted,
        10_000 + u64::from(ledger.logs.emitted > 10_000),
        "the report of the loss may count"
    );
    assert!(ledger.logs.dropped_buffer_full > 9_000, "{ledger}");
    assert_eq!(ledger.logs.in_flight, 0);
    assert_eq!(ledger.logs.emitted, ledger.logs.lost(), "{ledger}");
}

#[test]
fn losses_are_told_to_the_collector() {
    let receiver = Receiver::http();
    receiver.script([Scripted::Partial(2)]);
    let (dispatch, guard) = pipeline_of(builder_with(&receiver, &[("OTEL_BLRP_MAX_QUEUE_SIZE", "30")]));
    let log = |count: i32| tracing::dispatcher::with_default(&dispatch, || (0..count).for_each(|i| tracing::info!(i)));
    log(100);
    guard.flush(LONG).expect("a receiver that answers");
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.dropped_buffer_full, ledger.logs.refused), (70, 2), "{ledger}");
    let told = receiver.logs().into_iter().filter(|log| log.scope == "watchbell");
    let told = told.map(|log| {
        let attributes = ["lost.records", "lost.signal", "lost.reason"].map(|key| log.attribute(key).expect("told"));
        (log.body(), attributes)
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let text = |text: &str| Value::StringValue(text.to_owned());
    let loss = |records, reason| [Value::IntValue(records), text("logs"), text(reason)];
    let expected = [
        ("2 log records lost: the collector did not take them".to_owned(), loss(2, "refused")),
        ("70 log records lost: the buffer was full".to_owned(), loss(70, "buffer_full")),
    ];
    assert_eq!(told, expected);
}

/// Its refusal of the report would be the next loss to tell.
#[test]
fn a_collector_that_refuses_all_is_not_told_so() {
    let receiver = Receiver::http();
    receiver.script((0..100).map(|_| Scripted::Invalid));
    let (dispatch, guard) = pipeline(&receiver);
    for _ in 0..5 {
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("malformed"));
        guard.flush(LONG).expect("a receiver that answers");
    }
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.emitted, ledger.logs.refused), (5, 5), "{ledger}");
}

#[test]
fn a_request_has_no_more_records_than_it_may() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder_with(&receiver, &[("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10")]));
    tracing::dispatcher::with_default(&dispatch, || (0..35).for_each(|i| tracing::info!(i)));
    assert_eq!(guard.shutdown(LONG).logs.delivered, 35);
    assert_eq!(receiver.requests(), 4);
}

#[test]
fn a_queue_of_so_many_records_takes_no_more() {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_BLRP_MAX_QUEUE_SIZE", "30")];
    let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables));
    tracing::dispatcher::with_default(&dispatch, || (0..100).for_each(|i| tracing::info!(i, "nobody listens")));
    let ledger = guard.shutdown(Duration::from_millis(50));
    assert_eq!(ledger.logs.dropped_at_deadline, 30, "{ledger}");
    assert!(ledger.logs.dropped_buffer_full >= 70, "the report of the loss may count, too: {ledger}");
}

#[test]
fn a_queue_has_room_again_for_what_was_delivered() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder_with(&receiver, &[("OTEL_BLRP_MAX_QUEUE_SIZE", "30")]));
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..4 {
            (0..30).for_each(|i| tracing::info!(i));
            guard.flush(LONG).expect("a receiver that answers");
        }
    });
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.delivered, ledger.logs.lost()), (120, 0), "{ledger}");
}

#[test]
fn an_export_that_takes_too_long_is_dropped_and_counted() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let variables = [endpoint, ("OTEL_BLRP_EXPORT_TIMEOUT", "20"), ("OTEL_METRICS_EXPORTER", "none")];
    let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables));
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("nobody listens"));
    guard.flush(LONG).expect("an end of the export");
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.dropped_at_export_timeout, ledger.logs.dropped()), (1, 1), "{ledger}");
}

/// With a spool and without: as many as are under way at a time.
#[test]
fn requests_that_are_answered_503_again_and_again_hold_up_no_others() {
    let folder = tempfile::tempdir().unwrap();
    for spool in [None, Some(watchbell::spool::Spool::in_dir(folder.path()))] {
        let receiver = Receiver::http();
        receiver.never_take("poison");
        let variables = [
            ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ];
        let mut builder = builder_with(&receiver, &variables);
        let has_spool = spool.is_some();
        builder = spool.into_iter().fold(builder, watchbell::Builder::spool);
        let (dispatch, guard) = pipeline_of(builder);
        let log = |text: &str| tracing::dispatcher::with_default(&dispatch, || tracing::info!("{text}"));
        (0..4).for_each(|_| log("poison"));
        assert!(guard.flush(Duration::from_millis(50)).is_err());
        log("fine");
        let started = Instant::now();
        while guard.ledger().logs.delivered < 1 {
            assert!(started.elapsed() < Duration::from_secs(120), "{}", guard.ledger().logs);
            assert!(guard.flush(Duration::from_millis(50)).is_err()); // each has those tried again that wait for it
        }
        let account = guard.shutdown(Duration::from_secs(3)).logs;
        assert_eq!(
            (account.delivered, account.spooled, account.in_flight),
            (1, if has_spool { 4 } else { 0 }, 0),
            "{account}"
        );
    }
}

#[test]
fn the_timeout_of_a_request_that_gives_way_goes_on() {
    let receiver = Receiver::http();
    receiver.never_take("poison");
    let variables = [
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "3000"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let (dispatch, guard) = pipeline_of(builder_with(&receiver, &variables));
    tracing::dispatcher::with_default(&dispatch, || (0..8).for_each(|_| tracing::info!("poison")));
    let started = Instant::now();
    while guard.flush(Duration::from_millis(20)).is_err() {
        assert!(started.elapsed() < Duration::from_secs(120), "{}", guard.ledger().logs); // each flush has them tried again, and so give way
    }
    let account = guard.ledger().logs;
    assert_eq!((account.delivered, account.lost(), account.in_flight), (0, 8, 0), "{account}");
}

#[test]
fn a_timeout_of_zero_delivers() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        let (dispatch, guard) = pipeline_of(builder_with(&receiver, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "0")]));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!("in its own time"));
        assert_eq!(guard.shutdown(LONG).logs.delivered, 1);
    }
}
