//! Three doors, one ring: what comes by OpenTelemetry's logs API is as what `tracing` logs.

use std::time::{Duration, SystemTime};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLoggerProvider};
use tracing_subscriber::layer::SubscriberExt;
use watchbell::opentelemetry::InstrumentationScope;
use watchbell::opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use watchbell::opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::receiver::Receiver;
use super::{builder_with, pipeline, pipeline_of};

const LONG: Duration = Duration::from_secs(20);

fn string(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.to_owned()))
}

fn emit(logger: &impl Logger, body: &'static str, change: impl FnOnce(&mut dyn FnMut(&'static str, AnyValue))) {
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Info);
    record.set_body(body.into());
    change(&mut |key, value| record.add_attribute(key, value));
    logger.emit(record);
}

#[test]
fn of_an_attribute_that_is_given_twice_the_last_value_counts() {
    let receiver = Receiver::grpc();
    let (_dispatch, guard) = pipeline(&receiver);
    let logger = guard.logger_provider().expect("logs are exported").logger("legacy");
    let _context = watchbell::context!(order_id = 17, user_id = 3).enter();
    emit(&logger, "twice", |add| {
        add("order_id", 18.into());
        add("between", "x".repeat(300).into());
        add("order_id", 19.into());
    });
    guard.shutdown(LONG);
    let record = receiver.log("twice").record;
    let mut keys: Vec<_> = record.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["between", "order_id", "user_id"]);
    assert_eq!(receiver.log("twice").attribute("order_id"), Some(Value::IntValue(19)));
}

#[test]
fn what_a_logger_takes_arrives() {
    let receiver = Receiver::grpc();
    let (_dispatch, guard) = pipeline(&receiver);
    let scope = InstrumentationScope::builder("legacy").with_version("1.2").build();
    let logger = guard.logger_provider().expect("logs are exported").logger_with_scope(scope);
    let mut record = logger.create_log_record();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    record.set_timestamp(time);
    record.set_severity_number(Severity::Warn2);
    record.set_severity_text("WARN2");
    record.set_event_name("order.placed");
    record.set_body("order placed".into());
    record.add_attributes([("int", AnyValue::from(3)), ("yes", true.into()), ("ratio", 0.5.into())]);
    record.add_attribute("bytes", AnyValue::Bytes(Box::new(vec![0, 255])));
    record.add_attribute("list", [1, 2].into_iter().collect::<AnyValue>());
    record.add_attribute("map", [("inner", "value")].into_iter().collect::<AnyValue>());
    record.set_trace_context(TraceId::from(7), SpanId::from(8), Some(TraceFlags::SAMPLED));
    logger.emit(record);
    emit(&logger, "without a time", |_| {});
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.emitted, ledger.logs.delivered), (2, 2), "{ledger}");

    let placed = receiver.log("order placed");
    assert_eq!((placed.scope.as_str(), placed.record.event_name.as_str()), ("legacy", "order.placed"));
    assert_eq!((placed.record.severity_number, placed.record.severity_text.as_str()), (14, "WARN2"));
    assert_eq!(placed.record.time_unix_nano, 7_000_000_000);
    assert!(placed.record.observed_time_unix_nano > placed.record.time_unix_nano);
    assert_eq!(
        (placed.record.trace_id.last(), placed.record.span_id.last(), placed.record.flags),
        (Some(&7), Some(&8), 1)
    );
    assert_eq!(placed.attribute("int"), Some(Value::IntValue(3)));
    assert_eq!(placed.attribute("yes"), Some(Value::BoolValue(true)));
    assert_eq!(placed.attribute("ratio"), Some(Value::DoubleValue(0.5)));
    assert_eq!(placed.attribute("bytes"), Some(Value::BytesValue(vec![0, 255])));
    let Some(Value::ArrayValue(list)) = placed.attribute("list") else { panic!("a list") };
    assert_eq!(
        list.values.iter().map(|item| item.value.clone().unwrap()).collect::<Vec<_>>(),
        [Value::IntValue(1), Value::IntValue(2)]
    );
    let Some(Value::KvlistValue(map)) = placed.attribute("map") else { panic!("a map") };
    assert_eq!(super::receiver::attributes(&map.values).remove("inner"), string("value"));
    let without = receiver.log("without a time").record;
    assert!(without.time_unix_nano > 0 && without.time_unix_nano == without.observed_time_unix_nano);
}

#[test]
fn a_record_has_the_current_span_whoever_made_it() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let logger = guard.logger_provider().unwrap().logger("legacy");
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("request").in_scope(|| emit(&logger, "in a span of tracing", |_| {}));
    });
    emit(&logger, "outside", |_| {});
    guard.shutdown(LONG);
    assert_eq!(receiver.log("in a span of tracing").record.span_id, receiver.span("request").span_id);
    assert!(receiver.log("outside").record.trace_id.is_empty());
}

#[test]
fn limits_hold_for_every_door() {
    let receiver = Receiver::http();
    let variables = [("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "2"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")];
    let (_dispatch, guard) = pipeline_of(builder_with(&receiver, &variables));
    let logger = guard.logger_provider().unwrap().logger("legacy");
    emit(&logger, "too many", |add| ["a", "b", "c"].into_iter().for_each(|key| add(key, "äöüß".into())));
    let huge: AnyValue = (0..9).map(|_| "x".repeat(60_000)).collect();
    emit(&logger, "large", |add| (0..2).for_each(|_| add("huge", huge.clone())));
    let mut deep = AnyValue::from(1);
    (0..100).for_each(|_| deep = AnyValue::ListAny(Box::new(vec![std::mem::replace(&mut deep, 0.into())])));
    let mut record = logger.create_log_record();
    record.set_body((0..9).map(|_| "x".repeat(60_000)).collect());
    logger.emit(record);
    emit(&logger, "deep", |add| add("deep", deep.clone()));
    guard.shutdown(LONG);
    let many = receiver.log("too many");
    assert_eq!(
        (many.attribute("b"), many.attribute("c"), many.record.dropped_attributes_count),
        (string("äöü"), None, 1)
    );
    assert!(receiver.logs().iter().all(|log| log.record.attributes.len() <= 2));
    receiver.log("(a body larger than a record may be)");
    receiver.log("deep");
}

/// An appender of another crate, as it is.
#[test]
fn the_stock_bridge_of_tracing_takes_our_provider() {
    let receiver = Receiver::http();
    let (_dispatch, guard) = pipeline(&receiver);
    let bridge = OpenTelemetryTracingBridge::new(&guard.logger_provider().unwrap());
    let subscriber = tracing_subscriber::registry().with(bridge);
    tracing::subscriber::with_default(subscriber, || tracing::warn!(target: "legacy", order_id = 17, "by the bridge"));
    guard.shutdown(LONG);
    let log = receiver.log("by the bridge");
    assert_eq!((log.scope.as_str(), log.record.severity_number), ("legacy", 13));
    assert_eq!(log.attribute("order_id"), Some(Value::IntValue(17)));
}

#[derive(Debug)]
struct Stamp;

impl LogProcessor for Stamp {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        record.add_attribute("stamped", true);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
}

#[test]
fn a_stock_provider_keeps_its_processors_and_exports_our_way() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(Stamp)
        .with_log_processor(guard.log_processor().expect("logs are exported"))
        .build();
    let logger = provider.logger("legacy");
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("request").in_scope(|| emit(&logger, "by the processor", |_| {}));
    });
    provider.force_flush().expect("a receiver that answers");
    let log = receiver.log("by the processor");
    assert_eq!(log.attribute("stamped"), Some(Value::BoolValue(true)));
    assert_eq!((log.scope.as_str(), log.record.severity_number), ("legacy", 9));
    assert!(log.record.time_unix_nano > 0);
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.emitted, ledger.logs.delivered), (1, 1), "{ledger}");
    assert_eq!(log.record.span_id, receiver.span("request").span_id);
}

/// What an appender asks before it makes a record.
#[test]
fn a_record_that_goes_nowhere_need_not_be_made() {
    let receiver = Receiver::http();
    let (_dispatch, guard) = pipeline_of(builder_with(&receiver, &[]).levels("info,legacy::db=debug,noisy=off"));
    let own = guard.logger_provider().expect("logs are exported").logger("legacy::db");
    let stock = SdkLoggerProvider::builder().with_log_processor(guard.log_processor().unwrap()).build().logger("stock");
    for (severity, target, is_wanted) in [
        (Severity::Info, "legacy", true),
        (Severity::Debug, "legacy", false),
        (Severity::Debug4, "legacy::db", true),
        (Severity::Trace, "legacy::db", false),
        (Severity::Fatal, "noisy", false),
    ] {
        let answers = [own.event_enabled(severity, target, None), stock.event_enabled(severity, target, None)];
        assert_eq!(answers, [is_wanted; 2], "{severity:?} of {target}");
    }
    assert!(own.event_enabled(Severity::Debug, "", None) && !own.event_enabled(Severity::Trace, "", None));
    guard.levels().set("off,stock=trace").unwrap();
    assert!(stock.event_enabled(Severity::Trace, "", None), "only the logger's name says");
    guard.levels().set("trace").unwrap();
    assert!(own.event_enabled(Severity::Trace, "noisy", None));
}

#[test]
fn all_doors_share_one_account() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let logger = guard.logger_provider().unwrap().logger("own");
    let stock = SdkLoggerProvider::builder().with_log_processor(guard.log_processor().unwrap()).build().logger("stock");
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("by tracing"));
    emit(&logger, "by the logger", |_| {});
    emit(&stock, "by the processor", |_| {});
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.emitted, ledger.logs.delivered), (3, 3), "{ledger}");
    emit(&logger, "too late", |_| {});
    assert_eq!(receiver.logs().len(), 3);
}

#[test]
fn a_processor_says_that_it_flushes_no_more() {
    let receiver = Receiver::http();
    let (_dispatch, guard) = pipeline(&receiver);
    let processor = guard.log_processor().unwrap();
    processor.force_flush().expect("a receiver that answers");
    guard.shutdown(LONG);
    assert!(matches!(processor.force_flush(), Err(OTelSdkError::AlreadyShutdown)));
}
