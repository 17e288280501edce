//! What a service with our SDK could not deliver: it brings it when the collector is back, a spool even later, and of what is lost the collector hears.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use watchbell::spool::Spool;
use watchbell::{Builder, Guard};

use crate::support::watchbell::Watchbell;
use crate::support::{free_port, http, root, until};

const LONG: Duration = Duration::from_secs(120);

fn service(port: u16, variables: &[(&str, &str)], set: impl FnOnce(Builder) -> Builder) -> (tracing::Dispatch, Guard) {
    let endpoint = format!("http://127.0.0.1:{port}");
    let of_all = [
        ("OTEL_SERVICE_NAME", "checkout"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let builder = watchbell::builder().variables(of_all.into_iter().chain(variables.iter().copied()));
    let (layer, guard) = set(builder).layer().expect("an export thread");
    (tracing::Dispatch::new(tracing_subscriber::registry().with(layer)), guard)
}

fn log(dispatch: &tracing::Dispatch, count: u64) {
    tracing::dispatcher::with_default(dispatch, || (0..count).for_each(|i| tracing::info!(i, "order placed")));
}

#[test]
fn what_a_service_lost_is_counted_and_alerted_on() {
    let rules = fs::read_to_string(root().join("examples/rules/losses.yaml")).expect("the example");
    let watchbell = Watchbell::start("", &rules);
    let variables = [("OTEL_BLRP_MAX_QUEUE_SIZE", "30"), ("OTEL_BLRP_SCHEDULE_DELAY", "3600000")];
    let (dispatch, guard) = service(watchbell.http, &variables, |builder| builder);
    log(&dispatch, 100);
    guard.flush(LONG).expect("a collector that answers");
    let lost = guard.shutdown(LONG).logs.dropped_buffer_full;
    assert_eq!(lost, 70);
    until("the collector's count of it", || {
        let labels = ["checkout", "\"logs\"", "buffer_full"];
        watchbell.metric("watchbell_evaluator_sdk_lost_records_total", &labels).filter(|told| *told == lost as f64)
    });
    let alert = watchbell.wait_alert("TelemetryLost", "firing");
    assert_eq!(alert["labels"]["lost_reason"], "buffer_full", "{alert}");
    assert_eq!(alert["annotations"]["summary"], "checkout lost 70 logs: buffer_full", "{alert}");
}

#[test]
fn what_a_service_spooled_a_later_process_of_it_delivers() {
    let folder = tempfile::tempdir().expect("a folder");
    let with_spool = |builder: Builder| builder.spool(Spool::in_dir(folder.path()));
    let (dispatch, guard) = service(free_port(), &[], with_spool); // nobody listens there
    log(&dispatch, 5000);
    assert_eq!(guard.shutdown(LONG).logs.spooled, 5000);

    let watchbell = Watchbell::start("", "groups: []");
    let (dispatch, guard) = service(watchbell.http, &[], with_spool);
    log(&dispatch, 1);
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.emitted, account.delivered, account.taken_over.delivered), (1, 1, 5000), "{account}");
    let accepted = watchbell.metric("watchbell_receiver_records_total", &["logs", "accepted"]);
    assert_eq!(accepted, Some(5001.0));
}

/// Twice, with and without a spool: what the service calls delivered is what the collector holds, each record once.
#[test]
fn a_collector_that_is_killed_while_a_service_logs_holds_all_of_it() {
    for has_spool in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let watchbell = Watchbell::start("", "groups: []");
        let with_spool = |builder: Builder| {
            let builder = builder.buffer_bytes_max(256 << 20); // a collector may take long to start on a busy machine
            if has_spool { builder.spool(Spool::in_dir(folder.path())) } else { builder }
        };
        let quick = [("OTEL_BLRP_SCHEDULE_DELAY", "10")];
        let (dispatch, guard) = service(watchbell.http, &quick, with_spool);
        let (is_over, logged) = (AtomicBool::new(false), AtomicU64::new(0));
        let watchbell = std::thread::scope(|scope| {
            let _at_end = Raise(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    log(&dispatch, 20);
                    logged.fetch_add(20, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            kill_and_start(kill_and_start(watchbell, &logged), &logged)
        });
        let logged = logged.into_inner();
        let account = guard.shutdown(LONG).logs;
        assert_eq!((account.emitted, account.delivered), (logged, logged), "{account}");
        assert_eq!(records_of(&watchbell), logged, "{account}");
    }
}

/// Raises a flag at its end, be that a panic's.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills the collector once it has taken some records and some more are logged, and starts it again when the service has gone without it.
fn kill_and_start(watchbell: Watchbell, logged: &AtomicU64) -> Watchbell {
    let has_logged = |more: u64| {
        let before = logged.load(Ordering::Relaxed);
        until("more records", || (logged.load(Ordering::Relaxed) > before + more).then_some(()));
    };
    until("records that were taken", || {
        watchbell.metric("watchbell_receiver_records_total", &["logs", "accepted"]).filter(|taken| *taken > 500.0)
    });
    has_logged(100);
    let ports = watchbell.ports();
    let left = watchbell.server.kill();
    has_logged(500);
    Watchbell::start_in(left, ports)
}

/// How many different records the collector's log holds.
fn records_of(watchbell: &Watchbell) -> u64 {
    let query = http::encode(r#"sum(count_over_time({service_name="checkout"}[1h]))"#);
    let found = http::get_json(&watchbell.api_url(&format!("/loki/api/v1/query?query={query}")));
    found["data"]["result"][0]["value"][1].as_str().and_then(|count| count.parse().ok()).expect("a count")
}
