//! Our layer within a user's own subscriber: filtered, optional, boxed, twice.

use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Dispatch;
use tracing::dispatcher::with_default;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};
use watchbell::{Guard, WatchbellLayer};

use super::builder;
use super::receiver::Receiver;

const LONG: Duration = Duration::from_secs(20);

type Composed = Box<dyn Layer<Registry> + Send + Sync>;
type Compose = fn(WatchbellLayer<Registry>) -> Composed;

#[test]
fn however_it_is_composed() {
    let ways: [(&str, Compose); 5] = [
        ("bare", |layer| Box::new(layer)),
        ("filtered", |layer| layer.with_filter(LevelFilter::INFO).boxed()),
        ("optional", |layer| Some(layer).boxed()),
        ("boxed twice", |layer| layer.boxed().boxed()),
        ("in a row", |layer| vec![layer.boxed()].boxed()),
    ];
    for (way, compose) in ways {
        let receiver = Receiver::http();
        let (layer, guard) = builder(&receiver).layer().unwrap();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(compose(layer)));
        with_default(&dispatch, log_in_a_trace_of_another);
        shut_down(guard, 1);
        assert_of_the_trace(&receiver, way);
    }
}

/// What a filter leaves out has cost nothing and is of no account; the spans within which it was said are.
#[test]
fn what_a_filter_leaves_out() {
    let receiver = Receiver::http();
    let (layer, guard) = builder(&receiver).layer().unwrap();
    let filter = FilterFn::new(|metadata| metadata.is_span() || metadata.target() != "chatty");
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer.with_filter(filter)));
    with_default(&dispatch, || {
        tracing::info_span!("checkout").in_scope(|| {
            tracing::info!(target: "chatty", "left out");
            tracing::info!("order placed");
        });
    });
    shut_down(guard, 1);
    assert_eq!(receiver.logs().len(), 1);
    assert_eq!(receiver.log("order placed").record.span_id, receiver.span("checkout").span_id);
}

/// One for each of two collectors: both have the record with its ids, the first alone the span.
#[test]
fn two_of_them_in_one_subscriber() {
    let (first, second) = (Receiver::http(), Receiver::http());
    let (one, one_guard) = builder(&first).layer().unwrap();
    let (two, two_guard) = builder(&second).layer().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(one).with(two));
    with_default(&dispatch, log_in_a_trace_of_another);
    shut_down(one_guard, 1);
    shut_down(two_guard, 1);
    assert_of_the_trace(&first, "the first");
    let (ours, theirs) = (first.log("order placed").record, second.log("order placed").record);
    assert_eq!((ours.trace_id, ours.span_id), (theirs.trace_id, theirs.span_id));
    assert_eq!(second.spans().len(), 0);
}

fn log_in_a_trace_of_another() {
    let span = tracing::info_span!("checkout", order = 17);
    let remote = SpanContext::new(trace(), SpanId::from(9), TraceFlags::SAMPLED, true, TraceState::default());
    span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote)).unwrap();
    span.in_scope(|| tracing::info!("order placed"));
}

fn trace() -> TraceId {
    TraceId::from(0x17)
}

fn shut_down(guard: Guard, records: u64) {
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.emitted, account.delivered), (records, records), "{account:?}");
}

fn assert_of_the_trace(receiver: &Receiver, way: &str) {
    let (record, span) = (receiver.log("order placed").record, receiver.span("checkout"));
    assert_eq!(record.trace_id, trace().to_bytes(), "{way}");
    assert_eq!(record.span_id, span.span_id, "{way}");
    assert_eq!(
        (span.trace_id, span.parent_span_id),
        (trace().to_bytes().to_vec(), 9_u64.to_be_bytes().to_vec()),
        "{way}"
    );
}
