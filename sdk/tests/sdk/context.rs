//! Fields for a scope.

use opentelemetry::logs::{LogRecord, Logger, LoggerProvider};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use std::time::Duration;
use tracing::dispatcher::with_default;
use watchbell::context::Context;

use crate::receiver::Receiver;
use crate::{builder_with, pipeline};

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn fields_are_on_every_record_of_the_scope() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    with_default(&dispatch, || {
        let outer = watchbell::context!(tenant = "acme", n = 1u64, ratio = 0.5, yes = true);
        let _outer = outer.enter();
        tracing::info!("outer");
        watchbell::context!(tenant = "other").in_scope(|| tracing::info!(n = 2, "inner"));
        tracing::info!("outer again");
        let logger = guard.logger_provider().unwrap().logger("appender");
        let mut record = logger.create_log_record();
        record.set_body("by the API".into());
        record.add_attribute("n", 3);
        logger.emit(record);
    });
    with_default(&dispatch, || tracing::info!("outside"));
    guard.flush(DEADLINE).unwrap();
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    for (body, tenant, n) in
        [("outer", "acme", 1), ("inner", "other", 2), ("outer again", "acme", 1), ("by the API", "acme", 3)]
    {
        let record = receiver.log(body);
        assert_eq!(record.attribute("tenant"), text(tenant), "{body}");
        assert_eq!(record.attribute("n"), Some(Value::IntValue(n)), "{body}");
        assert_eq!(record.attribute("ratio"), Some(Value::DoubleValue(0.5)));
        let mut keys: Vec<_> = record.record.attributes.iter().map(|attribute| attribute.key.clone()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), record.record.attributes.len(), "a key is there once");
    }
    assert_eq!(receiver.log("outside").attribute("tenant"), None);
}

#[test]
fn tasks_that_take_turns_have_their_own() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let steps = |task: i64| async move {
        for step in 0..3 {
            tracing::info!(step, "task {task}");
            tokio::task::yield_now().await;
        }
        watchbell::task::spawn(async move { tracing::info!("spawned by {task}") }).await.unwrap();
        watchbell::task::spawn_blocking(move || tracing::info!("blocking of {task}")).await.unwrap();
    };
    with_default(&dispatch, || {
        runtime.block_on(async {
            let [one, two] = [1i64, 2].map(|task| watchbell::context!(task).scope(steps(task)));
            tokio::join!(one, two);
            tracing::info!("after them");
        });
    });
    guard.flush(DEADLINE).unwrap();
    let logs = receiver.logs();
    assert_eq!(logs.len(), 2 * 5 + 1);
    for record in logs {
        let expected = record.body().chars().last().and_then(|last| last.to_digit(10));
        assert_eq!(
            record.attribute("task"),
            expected.map(|task| Value::IntValue(i64::from(task))),
            "{}",
            record.body()
        );
    }
}

#[test]
fn a_field_that_fits_no_context_is_counted() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let alone = Context::default().with("a", "x".repeat(64 * 1024));
    with_default(&dispatch, || {
        alone.in_scope(|| {
            tracing::info!("by tracing");
            let mut record = guard.logger_provider().unwrap().logger("appender").create_log_record();
            record.set_body("by the API".into());
            guard.logger_provider().unwrap().logger("appender").emit(record);
        });
    });
    guard.flush(DEADLINE).unwrap();
    for body in ["by tracing", "by the API"] {
        let record = receiver.log(body);
        assert_eq!((record.attribute("a"), record.record.dropped_attributes_count), (None, 1), "{body}");
    }
}

#[test]
fn limits_hold_for_a_context_too() {
    let receiver = Receiver::http();
    let limits = [("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "4"), ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")];
    let (dispatch, guard) = crate::pipeline_of(builder_with(&receiver, &limits));
    let large = Context::current().with("a", "abcdef").with("b", "x".repeat(40_000)).with("c", "y".repeat(40_000));
    with_default(&dispatch, || large.in_scope(|| tracing::info!(own = 1, "limited")));
    guard.flush(DEADLINE).unwrap();
    let record = receiver.log("limited");
    assert_eq!(record.attribute("a"), Some(Value::StringValue("abc".to_owned())));
    assert_eq!(record.record.attributes.len(), 4);
    assert_eq!(record.record.dropped_attributes_count, 2, "`b` for the count, `c` for the context's size");
}
