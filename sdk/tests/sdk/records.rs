//! What a record looks like at the collector.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use proptest::prelude::*;
use watchbell::opentelemetry::Context;
use watchbell::opentelemetry::logs::LoggerProvider;
use watchbell::opentelemetry::trace::{Status, TraceContextExt, Tracer, TracerProvider};
use watchbell::redact::Redaction;

use super::model::{self, Input, Limits};
use super::receiver::{Received, Receiver};
use super::{builder, builder_with, pipeline, pipeline_of};

/// What comes of logging by `f`.
fn logged(f: impl FnOnce()) -> Vec<Received> {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    tracing::dispatcher::with_default(&dispatch, f);
    let ledger = guard.shutdown(Duration::from_secs(20));
    assert_eq!(ledger.logs.delivered, ledger.logs.emitted, "{ledger}");
    receiver.logs()
}

fn string(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.to_owned()))
}

#[test]
fn severity_time_scope_and_place() {
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let before = nanos(SystemTime::now());
    let line = line!() + 2;
    let logs = logged(|| {
        tracing::warn!(target: "checkout::payment", "slow");
        tracing::trace!("all");
        tracing::debug!("levels");
        tracing::info!("are");
        tracing::error!("told");
    });
    let after = nanos(SystemTime::now());
    let Received { resource, scope, record } = &logs[0];
    assert_eq!(resource["service.name"], Value::StringValue("checkout".to_owned()));
    assert_eq!(resource["telemetry.sdk.language"], Value::StringValue("rust".to_owned()));
    assert_eq!(scope, "checkout::payment");
    assert_eq!((record.severity_number, record.severity_text.as_str()), (13, "WARN"));
    assert!((before..=after).contains(&record.time_unix_nano));
    assert_eq!(record.observed_time_unix_nano, record.time_unix_nano);
    assert_eq!(record.event_name, "");
    assert_eq!(logs[0].attribute("code.file.path"), string(file!()));
    assert_eq!(logs[0].attribute("code.line.number"), Some(Value::IntValue(i64::from(line))));
    let mut numbers: Vec<_> = logs.iter().map(|log| log.record.severity_number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 5, 9, 13, 17]);
}

#[test]
fn an_event_has_a_name_only_if_it_was_given_one() {
    let logs = logged(|| tracing::info!(name: "order.placed", "ok"));
    assert_eq!(logs[0].record.event_name, "order.placed");
}

#[test]
fn attributes_keep_their_types() {
    #[derive(Debug)]
    #[expect(dead_code)]
    struct Cart {
        items: u8,
    }
    let error = Failure("cannot charge", Some(Box::new(Failure("connection refused", None))));
    let logs = logged(|| {
        tracing::info!(
            int = -3_i64,
            unsigned = 7_u64,
            huge = u64::MAX,
            wide = 1_i128 << 100,
            small = 5_i128,
            float = 2.5,
            yes = true,
            text = "a \"b\"",
            debug = ?Cart { items: 2 },
            display = %"as it is",
            bytes = &b"\x00\xff"[..],
            error = &error as &(dyn std::error::Error + 'static),
            r#type = "raw",
            absent = None::<i64>,
            "message {}", 1
        );
    });
    let log = &logs[0];
    assert_eq!(log.body(), "message 1");
    assert_eq!(log.attribute("int"), Some(Value::IntValue(-3)));
    assert_eq!(log.attribute("unsigned"), Some(Value::IntValue(7)));
    assert_eq!(log.attribute("huge"), string("18446744073709551615"));
    assert_eq!(log.attribute("wide"), string("1267650600228229401496703205376"));
    assert_eq!(log.attribute("small"), Some(Value::IntValue(5)));
    assert_eq!(log.attribute("float"), Some(Value::DoubleValue(2.5)));
    assert_eq!(log.attribute("yes"), Some(Value::BoolValue(true)));
    assert_eq!(log.attribute("text"), string("a \"b\""));
    assert_eq!(log.attribute("debug"), string("Cart { items: 2 }"));
    assert_eq!(log.attribute("display"), string("as it is"));
    assert_eq!(log.attribute("bytes"), Some(Value::BytesValue(vec![0, 255])));
    assert_eq!(log.attribute("error"), string("cannot charge: connection refused"));
    assert_eq!(log.attribute("type"), string("raw"));
    assert_eq!(log.attribute("absent"), None);
}

#[test]
fn an_error_is_an_exception() {
    let (root, lone) = (Failure("connection refused", None), std::io::Error::other("disk full"));
    let error = Failure("cannot charge", Some(Box::new(root)));
    let logs = logged(|| {
        tracing::error!(err = &error as &dyn Error, second = &lone as &dyn Error, "first");
        tracing::error!(err = &lone as &dyn Error, "second");
        tracing::error!(err = &lone as &dyn Error, exception.message = "own", "third");
        tracing::error!(error = %error, debug = ?error, "text");
    });
    let [first, second, third, text] = &logs[..] else { panic!("{logs:?}") };
    assert_eq!(first.attribute("err"), string("cannot charge: connection refused"));
    assert_eq!(first.attribute("second"), string("disk full"));
    assert_eq!(first.attribute("exception.message"), string("cannot charge"));
    assert_eq!(first.attribute("exception.type"), string("Failure"));
    let causes = "Failure: cannot charge\nCaused by: Failure: connection refused";
    assert_eq!(first.attribute("exception.stacktrace"), string(causes));
    assert_eq!(second.attribute("exception.type"), string("std::io::Error"));
    assert_eq!(second.attribute("exception.stacktrace"), None);
    assert_eq!(third.attribute("exception.message"), string("own"));
    assert_eq!(third.attribute("exception.type"), None);
    assert_eq!(text.attribute("error"), string("cannot charge"));
    assert_eq!(text.attribute("exception.message"), None);
}

#[test]
fn only_a_name_is_an_exceptions_type() {
    let type_of = |debug: &'static str| {
        let error = Told(debug);
        let logs = logged(|| tracing::error!(error = &error as &dyn Error, "told"));
        logs[0].attribute("exception.type")
    };
    for debug in ["Refused", "Refused(7)", "Refused { after: 7 }"] {
        assert_eq!(type_of(debug), string("Refused"), "{debug}");
    }
    assert_eq!(type_of("reqwest::Error { kind: Request }"), string("reqwest::Error"));
    for debug in ["cannot charge", "Cannot charge: refused", "failed", "", "Refused by them", "\"Refused\""] {
        assert_eq!(type_of(debug), None, "{debug}");
    }
}

/// An error with a `Debug` of its own, as `anyhow`'s.
struct Told(&'static str);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("told")
    }
}

impl Error for Told {}

#[test]
fn long_values_are_cut_at_a_character() {
    let (text, exact) = ("é".repeat(100_000), "é".repeat(32 * 1024));
    let odd = format!("x{text}");
    let logs = logged(|| {
        tracing::info!(exact, odd, "{text}");
        tracing::info!("after it");
    });
    let log = &logs[0];
    assert_eq!(log.body(), exact);
    assert_eq!(log.attribute("exact"), string(&exact));
    assert_eq!(log.attribute("odd"), string(&odd[..64 * 1024 - 1]));
    assert_eq!(logs[1].body(), "after it");
}

#[test]
fn the_limits_of_the_environment() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(watchbell::builder().variables([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint().as_str()),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "2"),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "5"), // two are the code's file and line
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3"),
    ]));
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("limited", a = "ééééé", b = 1, c = 2, d = 3);
        span.in_scope(|| tracing::info!(a = "ééééé", b = ?"ééééé", c = %12345, d = 4, e = 5, "a body is no attribute"));
    });
    guard.shutdown(Duration::from_secs(20));
    let log = receiver.log("a body is no attribute");
    let texts = ["a", "b", "c", "d"].map(|key| log.attribute(key));
    assert_eq!(texts, [string("ééé"), string("\"éé"), string("123"), None]);
    assert_eq!(log.record.dropped_attributes_count, 2);
    let span = receiver.span("limited");
    let kept = super::receiver::attributes(&span.attributes);
    assert_eq!((kept.len(), span.attributes.len()), (2, 2));
    assert!(
        kept.values().all(|value| !matches!(value, Value::StringValue(text) if text.chars().count() > 3)),
        "{kept:?}"
    );
    assert!(span.dropped_attributes_count > 0);
}

#[test]
fn a_record_beyond_its_limit_drops_attributes_and_counts_them() {
    let text = "x".repeat(100_000);
    let logs = logged(|| tracing::info!(a = text, b = text, c = text, d = text, e = text, last = 1, "big"));
    let record = &logs[0].record;
    assert_eq!(logs[0].attribute("a"), string(&text[..64 * 1024]));
    assert_eq!(logs[0].attribute("last"), None);
    assert_eq!(record.dropped_attributes_count, 3);
    assert_eq!(logs[0].body(), "big");
}

#[test]
fn no_record_is_beyond_the_limits() {
    let long = "x".repeat(100_000);
    let error = Failure("cannot charge", Some(Box::new(Failure(Box::leak(long.clone().into_boxed_str()), None))));
    let error: &(dyn Error + 'static) = &error;
    for limit in 0..=8 {
        let receiver = Receiver::http();
        let (dispatch, guard) = pipeline_of(watchbell::builder().variables([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
            ("OTEL_ATTRIBUTE_COUNT_LIMIT", limit.to_string()),
        ]));
        tracing::dispatcher::with_default(&dispatch, || tracing::info!(error, last = 1, "limited"));
        guard.shutdown(Duration::from_secs(20));
        let record = receiver.log("limited").record;
        let all = 8; // code.file.path, code.line.number, error, exception.{message, type, stacktrace}, its fingerprint, last
        assert_eq!(record.attributes.len(), all.min(limit));
        assert_eq!(record.dropped_attributes_count as usize, all - all.min(limit));
    }
    let logs = logged(|| {
        tracing::info!(a = long, b = long, c = long, error, "{long}");
        tracing::info!(a = long, b = long, error, message = long);
        tracing::info!(error, a = long, b = long, "{long}");
    });
    assert_eq!(logs.len(), 3);
    for Received { record, .. } in logs {
        let bytes = prost::Message::encoded_len(&record);
        assert!(bytes <= 256 * 1024 && record.dropped_attributes_count > 0, "{bytes} {record:?}");
        assert!(record.body.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_record_is_what_a_naive_model_makes_of_the_call(limits in 0..Limits::INTERESTING.len(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let (receiver, limits) = (Receiver::http(), Limits::INTERESTING[limits]);
        let variables = limits.variables();
        let (dispatch, guard) = pipeline_of(builder_with(&receiver, &variables.each_ref().map(|(name, value)| (*name, value.as_str()))));
        let logger = guard.logger_provider().unwrap().logger("model");
        let expected = tracing::dispatcher::with_default(&dispatch, || model::log(&mut Input(&bytes), limits, &logger, false));
        let ledger = guard.shutdown(Duration::from_secs(20));
        prop_assert_eq!(ledger.logs.delivered, expected.len() as u64, "{}", ledger);
        let mut found = receiver.logs();
        found.sort_by_key(|log| log.record.time_unix_nano);
        expected.into_iter().zip(found).for_each(|(expected, found)| expected.check(found.record, limits));
    }
}

#[test]
fn a_debug_that_logs_does_not_disturb_its_record() {
    struct Chatty;
    impl fmt::Debug for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            tracing::info!("inner");
            f.write_str("chatty")
        }
    }
    // A scoped dispatcher hears no event within an event; the process's does: see `init.rs`.
    let logs = logged(|| tracing::info!(value = ?Chatty, "outer"));
    let outer = logs.iter().find(|log| log.body() == "outer").expect("the outer record");
    assert_eq!(outer.attribute("value"), string("chatty"));
}

#[test]
fn a_debug_that_panics_leaves_the_thread_able_to_log() {
    struct Faulty;
    impl fmt::Debug for Faulty {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("a faulty Debug")
        }
    }
    let logs = logged(|| {
        let caught = std::panic::catch_unwind(|| tracing::info!(value = ?Faulty, "lost"));
        assert!(caught.is_err());
        tracing::info!("still there");
    });
    assert_eq!(logs.iter().map(Received::body).collect::<Vec<_>>(), ["still there"]);
}

#[test]
fn spans_carry_what_was_set_on_them() {
    let receiver = Receiver::grpc();
    let (dispatch, guard) = pipeline_of(builder(&receiver));
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("GET /cart", otel.kind = "server", items = 3, late = tracing::field::Empty);
        span.record("late", "set later");
        span.record("otel.status_code", "ERROR");
        span.in_scope(|| tracing::error!("an event is a record, not a part of the span"));
    });
    drop(guard);
    let span = receiver.span("GET /cart");
    let attributes = super::receiver::attributes(&span.attributes);
    assert_eq!(attributes["items"], Value::IntValue(3));
    assert_eq!(attributes["late"], Value::StringValue("set later".to_owned()));
    assert_eq!(span.kind, 2);
    assert!(span.events.is_empty());
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    assert_eq!(span.flags & 0xFF, 1);
}

#[test]
fn an_error_is_the_failure_of_its_span() {
    const FAILED: i32 = 2;
    for is_on in [true, false] {
        let receiver = Receiver::http();
        let (dispatch, guard) =
            pipeline_of(builder(&receiver).error_events_to_status(is_on).redact(Redaction::usual()));
        tracing::dispatcher::with_default(&dispatch, || {
            let told = || tracing::error!(err = &std::io::Error::other("disk full") as &dyn Error, "cannot write");
            tracing::info_span!("told").in_scope(told);
            tracing::info_span!("in words").in_scope(|| tracing::error!("cannot write"));
            tracing::info_span!("warned").in_scope(|| tracing::warn!(error = "slow", "late"));
            tracing::info_span!("fine", otel.status_code = "OK").in_scope(told);
            tracing::info_span!("secret").in_scope(|| tracing::error!(error = %"paid by 4111111111111111", "no"));
            let _ = failing();
            let parent = tracing::info_span!("named");
            tracing::info_span!("current").in_scope(|| tracing::error!(parent: &parent, error = "refused", "no"));
            tracing::info_span!("no parent").in_scope(|| tracing::error!(parent: None, "no"));
        });
        guard.shutdown(Duration::from_secs(20));
        let status = |name: &str| receiver.span(name).status.map(|status| (status.code, status.message));
        let failed = |message: &str| Some(if is_on { (FAILED, message.to_owned()) } else { (0, String::new()) });
        assert_eq!(status("told"), failed("disk full"));
        assert_eq!(status("in words"), failed(""));
        assert_eq!(status("failing"), failed("refused"));
        assert_eq!(status("named"), failed("refused"));
        assert_eq!(status("fine").unwrap().0, 1);
        for untouched in ["warned", "current", "no parent"] {
            assert_eq!(status(untouched), Some((0, String::new())), "{untouched}");
        }
        assert!(!is_on || !status("secret").unwrap().1.contains("4111"));
    }
}

/// Whose exporter takes nothing out.
#[test]
fn a_span_of_another_provider_is_not_shown_the_secret_in_an_error() {
    let (receiver, theirs) = (Receiver::http(), Ended::default());
    let (dispatch, guard) = pipeline_of(builder(&receiver).redact(Redaction::usual()));
    let provider = SdkTracerProvider::builder().with_span_processor(theirs.clone()).build();
    let span = provider.tracer("theirs").start("charge");
    let in_span = Context::current_with_span(span).attach();
    tracing::dispatcher::with_default(&dispatch, || tracing::error!(error = "paid by 4111111111111111", "no"));
    drop(in_span);
    guard.shutdown(Duration::from_secs(20));
    assert_eq!(*theirs.0.lock().unwrap(), [Status::error("paid by [redacted]")]);
}

/// The status of each span that has ended.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<Status>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span.status);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[tracing::instrument(err)]
fn failing() -> Result<(), &'static str> {
    Err("refused")
}

#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}
