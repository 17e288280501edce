//! The ways of logging that are compared, each set up as its documentation recommends, and the same event by each.

use std::fmt::{self, Write};
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use opentelemetry::logs::{LogRecord, Logger, Severity};
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Field;
use tracing::{Dispatch, Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use watchbell::sink::{Format, Sink};
use watchbell::spool::Spool;

/// The event by `tracing`: two numbers, a text, and a message that is formatted.
pub(crate) fn call(order_id: u64) {
    tracing::info!(order_id, amount = 9.75, upstream = "payment", "order {} placed", order_id);
}

/// The same by `emit`.
pub(crate) fn call_of_emit(order_id: u64) {
    emit::info!("order {order_id} placed", order_id, amount: 9.75, upstream: "payment");
}

/// The same by OpenTelemetry's logs API, as an appender makes it.
pub(crate) fn call_of_the_api(logger: &impl Logger, target: Option<&'static str>, order_id: u64) {
    let mut record = logger.create_log_record();
    if let Some(target) = target {
        record.set_target(target);
    }
    record.set_severity_number(Severity::Info);
    record.set_severity_text("INFO");
    record.add_attribute("order_id", order_id as i64);
    record.add_attribute("amount", 9.75);
    record.add_attribute("upstream", "payment");
    record.set_body(format!("order {order_id} placed").into());
    logger.emit(record);
}

/// As many as the targets of a large service.
pub(crate) const TARGETS: [&str; 40] = {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut targets = [LETTERS; 40];
    let mut i = 0;
    while i < targets.len() {
        targets[i] = LETTERS.split_at(i).1.split_at(8).0;
        i += 1;
    }
    targets
};

/// Ours over HTTP, or by gRPC.
pub(crate) fn ours(endpoint: &str, protocol: &str) -> (Dispatch, watchbell::Guard) {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
    let (layer, guard) = watchbell::builder().variables(variables).layer().expect("an export thread");
    (Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(layer)), guard)
}

/// Ours, where every record goes into a file, too.
pub(crate) fn ours_with_a_file(endpoint: &str, folder: &Path) -> (Dispatch, watchbell::Guard) {
    let builder = watchbell::builder().variables([("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
    let file = Sink::file(folder.join("bench.jsonl")).format(Format::Json);
    let (layer, guard) = builder.sink(file).layer().expect("an export thread");
    (Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(layer)), guard)
}

/// Ours, with chunks that outlive `kill -9`.
pub(crate) fn ours_mapped(endpoint: &str, protocol: &str, folder: &Path) -> (Dispatch, watchbell::Guard) {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
    let builder = watchbell::builder().variables(variables).spool(Spool::in_dir(folder).mapped());
    let (layer, guard) = builder.layer().expect("an export thread");
    (Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(layer)), guard)
}

/// OpenTelemetry's appender, batch processor and exporter.
pub(crate) fn stock(exporter: impl LogExporter + 'static, queue: usize) -> (Dispatch, SdkLoggerProvider) {
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(config).build();
    let logs = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let tracer = SdkTracerProvider::builder().build().tracer("bench");
    let spans =
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(|metadata| metadata.is_span()));
    let bridge = OpenTelemetryTracingBridge::new(&logs);
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(spans).with(bridge);
    (Dispatch::new(subscriber), logs)
}

/// Its exporter over gRPC; wants tokio around.
pub(crate) fn stock_exporter(endpoint: &str) -> opentelemetry_otlp::LogExporter {
    let builder = opentelemetry_otlp::LogExporter::builder().with_tonic();
    builder.with_endpoint(endpoint).build().expect("an exporter")
}

/// An exporter that throws records away.
#[derive(Debug)]
pub(crate) struct Discard;

impl LogExporter for Discard {
    async fn export(&self, batch: LogBatch<'_>) -> opentelemetry_sdk::error::OTelSdkResult {
        std::hint::black_box(batch.iter().count());
        Ok(())
    }
}

/// `tracing-subscriber`'s lines of JSON, written by a thread of their own.
pub(crate) fn json(file: impl io::Write + Send + 'static) -> (Dispatch, WorkerGuard, ErrorCounter) {
    let (writer, guard): (NonBlocking, _) = tracing_appender::non_blocking(file);
    let dropped = writer.error_counter();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(LevelFilter::INFO).with_writer(writer).finish();
    (Dispatch::new(subscriber), guard, dropped)
}

/// `emit` over gRPC; once a process. The function waits until all is exported.
pub(crate) fn emit(endpoint: &str) -> impl Fn() + Sync + use<> {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.set(()).expect("one start a process");
    let logs = emit_otlp::logs_grpc_proto(endpoint);
    let resource = emit::props! { #[emit::key("service.name")] service_name: "bench" };
    let emitter = emit_otlp::new().resource(resource).logs(logs).spawn();
    let started = emit::setup().emit_to(emitter).emit_when(emit::level::min_filter(emit::Level::Info)).init();
    move || assert!(started.blocking_flush(Duration::from_secs(30)), "emit exports within half a minute")
}

/// Runs something in a span of `emit`.
#[emit::span("checkout")]
pub(crate) fn in_a_span_of_emit<T>(run: impl FnOnce() -> T) -> T {
    run()
}

/// What no logging by `tracing` can do without: each field written as text.
pub(crate) fn visited() -> Dispatch {
    Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(Visited::default()))
}

#[derive(Default)]
struct Visited(Mutex<String>);

impl<S: Subscriber> Layer<S> for Visited {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = self.0.lock().expect("no panic");
        line.clear();
        event.record(&mut |_: &Field, value: &dyn fmt::Debug| write!(line, "{value:?}").expect("a growing string"));
    }
}
