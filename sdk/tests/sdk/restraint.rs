//! What is held back does not leave, and how much that was does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tracing_subscriber::layer::SubscriberExt;
use watchbell::{Guard, Ledger, Sampler};

use super::receiver::{Received, Receiver};
use super::{builder, builder_with, pipeline_of};

/// What comes of logging by `f` under these rules, and what the guard says in the end.
fn logged(rules: &str, f: impl FnOnce()) -> (Vec<Received>, watchbell::restraint::Withheld, Ledger) {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).restrain(rules));
    tracing::dispatcher::with_default(&dispatch, f);
    guard.flush(Duration::from_secs(20)).expect("a flush");
    let withheld = guard.withheld();
    let ledger = guard.shutdown(Duration::from_secs(20));
    assert_eq!(ledger.logs.delivered, ledger.logs.emitted, "{ledger}");
    (receiver.logs(), withheld, ledger)
}

fn told(log: &Received) -> i64 {
    match log.attribute("watchbell.withheld") {
        Some(Value::IntValue(count)) => count,
        _ => 0,
    }
}

fn bodies(logs: &[Received]) -> BTreeMap<String, usize> {
    let mut bodies = BTreeMap::new();
    logs.iter().for_each(|log| *bodies.entry(log.body()).or_default() += 1);
    bodies
}

#[test]
fn a_rate_is_of_each_place() {
    let (logs, withheld, ledger) = logged("restrained=3/h,restrained::loud=1/h", || {
        for _ in 0..10 {
            tracing::info!(target: "restrained", "first");
            tracing::error!(target: "restrained::db", "second");
            tracing::error!(target: "restrained::loud", "third");
            tracing::info!(target: "restrainedly", "free");
        }
    });
    let bodies = bodies(&logs);
    assert_eq!((bodies["first"], bodies["second"], bodies["third"], bodies["free"]), (3, 3, 1, 10));
    assert_eq!((withheld.limit, withheld.total()), (7 + 7 + 9, 23));
    assert_eq!(ledger.logs.emitted, 17 + 3, "and a record for each place");
    let telling =
        logs.iter().find(|log| log.body() == "9 withheld (9 limit) of the records of this place").expect("told");
    assert_eq!((telling.scope.as_str(), telling.record.severity_number, told(telling)), ("restrained::loud", 17, 9));
    assert_eq!(telling.attribute("code.file.path"), Some(Value::StringValue(file!().to_owned())));
    assert_eq!(logs.iter().map(told).sum::<i64>(), 23);
}

#[test]
fn a_place_sets_its_own_rate() {
    let (logs, withheld, _) = logged("", || {
        for n in 0..9 {
            tracing::info!(watchbell.limit = "2/h", n, "limited");
            tracing::info!(watchbell.limit = "two", n, "misspelt");
        }
    });
    let bodies = bodies(&logs);
    assert_eq!((bodies["limited"], bodies["misspelt"], withheld.limit), (2, 9, 7));
    assert!(logs.iter().all(|log| log.attribute("watchbell.limit").is_none()));
}

#[test]
fn the_next_record_tells_what_was_withheld() {
    let (logs, ..) = logged("restrained=1/30ms", || {
        let log = || tracing::info!(target: "restrained", "often");
        (0..5).for_each(|_| log());
        let until = Instant::now() + Duration::from_millis(31); // the wall clock, which may be a little behind
        while Instant::now() < until + Duration::from_millis(20) {
            std::thread::yield_now();
        }
        log();
    });
    let often: Vec<_> = logs.iter().filter(|log| log.body() == "often").map(told).collect();
    assert_eq!(often[0], 0);
    assert!(often.len() > 1, "the last one comes through");
    assert_eq!(often.iter().sum::<i64>() as usize + often.len(), 6);
}

#[test]
fn repeats_are_withheld_until_another_record_comes() {
    let (logs, withheld, _) = logged("once/1h", || {
        for order_id in [1, 1, 1, 2, 1] {
            tracing::info_span!("request").in_scope(|| tracing::info!(order_id, "order placed"));
        }
    });
    let seen: Vec<_> = logs.iter().map(|log| (log.attribute("order_id"), told(log))).collect();
    let order = |id| Some(Value::IntValue(id));
    assert_eq!(seen, [(order(1), 0), (order(2), 2), (order(1), 0)]);
    assert_eq!(withheld.repeat, 2);
}

#[test]
fn whole_traces_are_taken() {
    let receiver = Receiver::http();
    let sampler = Sampler::TraceIdRatioBased(0.3);
    let (dispatch, guard) =
        pipeline_of(builder(&receiver).sampler(sampler).restrain("30%,all=100%,traces=info:sampled"));
    tracing::dispatcher::with_default(&dispatch, || {
        for request in 0..300 {
            let _span = tracing::info_span!("request").entered();
            tracing::info!(request, "share");
            tracing::debug!(request, "share of debug");
            tracing::warn!(request, "warning");
            tracing::info!(target: "traces", request, "sampled");
            tracing::info!(target: "all", request, "all");
        }
        for _ in 0..300 {
            tracing::info!("without a trace");
        }
    });
    let withheld = guard.withheld();
    guard.shutdown(Duration::from_secs(20));
    let logs = receiver.logs();
    let traces =
        |body| logs.iter().filter(|log| log.body() == body).map(|log| log.record.trace_id.clone()).collect::<Vec<_>>();
    let share = traces("share");
    assert_eq!((traces("share of debug"), traces("sampled")), (share.clone(), share.clone()), "the same traces");
    assert_eq!(share.len(), receiver.spans().len(), "those that are sampled");
    assert_eq!((traces("warning").len(), traces("all").len()), (300, 300));
    for taken in [share.len(), traces("without a trace").len()] {
        assert!((40..150).contains(&taken), "30 % of 300, far off by less than one in a million runs: {taken}");
    }
    let made = logs.iter().filter(|log| !log.body().ends_with("of this place")).count() as u64;
    assert_eq!(withheld.sample, 1800 - made);
}

#[test]
fn under_pressure_the_less_severe_give_way() {
    let nobody = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let builder = watchbell::builder().variables(nobody).restrain("adaptive").buffer_bytes_max(256 * 1024);
    let (dispatch, guard) = pipeline_of(builder);
    let text = "x".repeat(1000);
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..200 {
            tracing::debug!(text, "debug");
            tracing::info!(text, "info");
            tracing::warn!(text, "warn");
        }
        let pressure = guard.withheld().pressure;
        assert!(pressure > 300, "{pressure}");
        let dropped = guard.ledger().logs.dropped();
        (0..10).for_each(|_| tracing::error!("there is room for it"));
        assert_eq!(guard.ledger().logs.dropped(), dropped);
    });
    guard.shutdown(Duration::ZERO);
}

#[test]
fn each_door_is_held_back() {
    use watchbell::opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
    let receiver = Receiver::http();
    let (dispatch, guard) =
        pipeline_of(builder_with(&receiver, &[("WATCHBELL_RESTRAIN", "5/h,legacy=2/h,api=once/1h,wrong")]));
    let _logger = watchbell::test::capture(); // a logger that makes events of the `log` crate's records
    tracing::dispatcher::with_default(&dispatch, || {
        for n in 0..5 {
            log::info!(target: "legacy", "first {n}");
            log::info!(target: "legacy::db", "second {n}");
            log::info!(target: "other", "free {n}");
            let logger = guard.logger_provider().expect("logs").logger("api");
            let mut record = logger.create_log_record();
            record.set_severity_number(Severity::Info);
            record.set_body("third".into());
            logger.emit(record);
        }
    });
    let withheld = guard.withheld();
    assert_eq!((withheld.limit, withheld.repeat), (6, 4), "{withheld}");
    guard.shutdown(Duration::from_secs(20));
    let made: Vec<_> = receiver.logs().into_iter().filter(|log| !log.body().ends_with("of this place")).collect();
    assert_eq!(made.len(), 2 + 2 + 5 + 1);
    assert_eq!(receiver.logs().iter().map(told).sum::<i64>(), 10);
}

#[test]
fn what_nobody_asks_for_is_told_in_time() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).restrain("1/h"));
    tracing::dispatcher::with_default(&dispatch, || (0..3).for_each(|_| tracing::info!("often")));
    receiver.wait_for_logs(2);
    assert_eq!(told(&receiver.log("2 withheld (2 limit) of the records of this place")), 2);
    drop(guard);
}

#[test]
fn the_numbers_are_metrics() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).restrain("1/h"));
    tracing::dispatcher::with_default(&dispatch, || (0..3).for_each(|_| tracing::info!("often")));
    end(guard);
    let told = format!("{:?}", receiver.metric("watchbell.log.withheld"));
    assert!(told.contains("watchbell.reason") && told.contains("\"limit\"") && told.contains("AsInt(2)"), "{told}");
}

fn end(guard: Guard) {
    let ledger = guard.shutdown(Duration::from_secs(20));
    assert_eq!(ledger.logs.lost(), 0, "{ledger}");
}

#[test]
fn no_sink_has_what_is_withheld() {
    let (layer, guard) = watchbell::builder()
        .variables([("OTEL_SDK_DISABLED", "true")])
        .restrain("2/h")
        .sink(watchbell::sink::Sink::callback("counting", |_| ()))
        .layer()
        .expect("a pipeline");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        (0..9).for_each(|_| tracing::info!("often"));
    });
    guard.flush(Duration::from_secs(20)).expect("a flush");
    assert_eq!(guard.sinks()[0].written, 3, "two, and the one that tells");
}
