//! A record that belongs to a span says so.

use std::time::Duration;

use tracing::Instrument;
use tracing::instrument::WithSubscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

use super::receiver::{Received, Receiver};
use super::{builder, pipeline, pipeline_of};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn nested_and_explicit_spans() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("outside");
        let outer = tracing::info_span!("outer");
        let elsewhere = tracing::info_span!(parent: None, "elsewhere");
        let _entered = outer.enter();
        tracing::info!("in outer");
        tracing::info_span!("inner").in_scope(|| {
            tracing::info!("in inner");
            tracing::info!(parent: &elsewhere, "by parent");
            tracing::info!(parent: None, "by no parent");
        });
        tracing::info!("in outer again");
    });
    guard.shutdown(LONG);
    assert_eq!(receiver.log("outside").record.trace_id, b"");
    assert_eq!(receiver.log("by no parent").record.trace_id, b"");
    assert_in(&receiver, "in outer", "outer");
    assert_in(&receiver, "in inner", "inner");
    assert_in(&receiver, "by parent", "elsewhere");
    assert_in(&receiver, "in outer again", "outer");
    assert_eq!(receiver.span("inner").parent_span_id, receiver.span("outer").span_id);
    assert_ne!(receiver.span("elsewhere").trace_id, receiver.span("outer").trace_id);
}

fn assert_in(receiver: &Receiver, body: &str, span: &str) {
    let (Received { record, .. }, span) = (receiver.log(body), receiver.span(span));
    assert_eq!((&record.trace_id, &record.span_id), (&span.trace_id, &span.span_id), "{body}");
    assert_eq!(record.flags, 1);
}

#[test]
fn spawned_tasks() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let request = async {
        let tasks = (0..20).map(|i| {
            let task = async move {
                tokio::task::yield_now().await;
                tracing::info!("task {i}");
            };
            tokio::spawn(task.in_current_span().with_current_subscriber())
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    };
    runtime.block_on(async { request.instrument(tracing::info_span!("request")).await }.with_subscriber(dispatch));
    guard.shutdown(LONG);
    (0..20).for_each(|i| assert_in(&receiver, &format!("task {i}"), "request"));
}

#[test]
fn unsampled_spans() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).sampler(watchbell::Sampler::AlwaysOff));
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("unsampled").in_scope(|| {
            tracing::info!("first");
            tracing::info!("second");
        });
    });
    let ledger = guard.shutdown(LONG);
    let (first, second) = (receiver.log("first").record, receiver.log("second").record);
    assert_eq!((first.trace_id.len(), first.span_id.len(), first.flags), (16, 8, 0));
    assert_eq!((first.trace_id, first.span_id), (second.trace_id, second.span_id));
    assert_eq!((ledger.traces.emitted, receiver.spans().len()), (0, 0));
}

#[test]
fn without_an_exporter_for_traces() {
    let receiver = Receiver::http();
    let (dispatch, guard) =
        pipeline_of(watchbell::builder().variables([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint().as_str()),
            ("OTEL_TRACES_EXPORTER", "none"),
        ]));
    tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("s").in_scope(|| tracing::info!("m")));
    guard.shutdown(LONG);
    assert_eq!(receiver.log("m").record.trace_id.len(), 16);
}

/// Other layers' filters decide what these see, not what we see.
#[test]
fn spans_that_another_layers_filter_leaves_out() {
    let receiver = Receiver::http();
    let (layer, guard) = builder(&receiver).layer().unwrap();
    let other = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(tracing_subscriber::filter::filter_fn(|metadata| metadata.is_event()));
    let subscriber = tracing_subscriber::registry().with(other).with(layer);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("request").in_scope(|| tracing::info!("in it"));
    });
    guard.shutdown(LONG);
    assert_in(&receiver, "in it", "request");
}

/// Our own filter may leave a record out of a span that is made by OpenTelemetry's API, not by `tracing`.
#[test]
fn spans_of_opentelemetrys_own_api() {
    use watchbell::opentelemetry::Context;
    use watchbell::opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let span = SpanContext::new(TraceId::from(7), SpanId::from(8), TraceFlags::SAMPLED, true, TraceState::default());
    let _attached = Context::new().with_remote_span_context(span).attach();
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("in a foreign span"));
    guard.shutdown(LONG);
    let record = receiver.log("in a foreign span").record;
    assert_eq!(
        (record.trace_id, record.span_id, record.flags),
        (7_u128.to_be_bytes().to_vec(), 8_u64.to_be_bytes().to_vec(), 1)
    );
}

/// A thread pool, a thread of one's own, a channel and a stream: what is handed over is the span.
#[test]
fn other_threads_channels_and_streams() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline(&receiver);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let request = async {
        watchbell::task::spawn(async { tracing::info!("a task") }).await.unwrap();
        watchbell::task::spawn_blocking(|| tracing::info!("the blocking pool")).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        watchbell::task::spawn_in(&mut tasks, async { tracing::info!("a task of a set") });
        tasks.join_all().await;
        let locals = tokio::task::LocalSet::new();
        locals
            .run_until(async { watchbell::task::spawn_local(async { tracing::info!("a local task") }).await })
            .await
            .unwrap();
        std::thread::spawn(watchbell::task::carried(|| tracing::info!("a thread"))).join().unwrap();
        let (jobs, mut queue) = tokio::sync::mpsc::channel(1);
        let worker = tokio::spawn(
            async move {
                let (job, span): (u8, tracing::Span) = queue.recv().await.unwrap();
                span.in_scope(|| tracing::info!("job {job}"));
            }
            .with_current_subscriber(),
        );
        jobs.send((7, tracing::Span::current())).await.unwrap();
        worker.await.unwrap();
        let mut polls = 0;
        std::future::poll_fn(|context| {
            polls += 1;
            tracing::info!("poll {polls}");
            context.waker().wake_by_ref();
            if polls < 3 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
    };
    runtime.block_on(async { request.instrument(tracing::info_span!("request")).await }.with_subscriber(dispatch));
    guard.shutdown(LONG);
    for body in [
        "a task",
        "a task of a set",
        "a local task",
        "the blocking pool",
        "a thread",
        "job 7",
        "poll 1",
        "poll 2",
        "poll 3",
    ] {
        assert_in(&receiver, body, "request");
    }
}

#[test]
fn baggage_becomes_attributes_by_a_list() {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use watchbell::opentelemetry::baggage::BaggageExt;
    use watchbell::opentelemetry::logs::{LogRecord, Logger, LoggerProvider};
    use watchbell::opentelemetry::{Context, KeyValue};
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).baggage_attributes(["tenant.id", "absent"]));
    let baggage = [KeyValue::new("tenant.id", "acme"), KeyValue::new("password", "s3cret")];
    let _attached = Context::current().with_baggage(baggage).attach();
    let logger = guard.logger_provider().unwrap().logger("legacy");
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("without a span");
        tracing::info_span!("request").in_scope(|| {
            tracing::info!("in a span");
            tracing::info!(tenant.id = "own", "with one of its own");
            let mut record = logger.create_log_record();
            record.set_body("by the logger".into());
            logger.emit(record);
        });
    });
    guard.shutdown(LONG);
    let acme = Some(Value::StringValue("acme".to_owned()));
    for body in ["without a span", "in a span", "by the logger"] {
        let log = receiver.log(body);
        assert_eq!(
            (log.attribute("tenant.id"), log.attribute("password"), log.attribute("absent")),
            (acme.clone(), None, None)
        );
    }
    let own = receiver.log("with one of its own").record.attributes;
    let own: Vec<_> = own.iter().filter(|attribute| attribute.key == "tenant.id").collect();
    assert_eq!(own.len(), 1, "each key once: {own:?}");
    let span = super::receiver::attributes(&receiver.span("request").attributes);
    assert_eq!((span.get("tenant.id"), span.get("password")), (acme.as_ref(), None));
}
