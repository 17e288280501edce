//! What a log call costs the thread that makes it: nanoseconds and allocations, beside the stock OpenTelemetry appender.
//!
//! An event with a `u64`, an `f64` and a string attribute and a formatted message, inside an active span. Both stacks hand their records to a
//! receiver in the same process that throws them away. Each figure is the best of many batches, in nanoseconds of the calling
//! thread's own processor time; between batches everything is flushed. Run: `cargo bench -p watchbell --bench log_call`, and for some rows
//! alone `-- PART_OF_THE_NAME`.

#![allow(unsafe_code)] // an allocator that counts, and the thread's clock

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Field;
use tracing::{Dispatch, Event, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use watchbell::sink::{Format, Sink};
use watchbell::spool::Spool;

const CALLS_PER_BATCH: u32 = 2_000;
const BATCHES: u32 = 400;

struct Figures {
    best: f64,
    median: f64,
    allocations: f64,
}

fn main() {
    let (ours, guard) = ours();
    let (stock, logger_provider) = stock();
    let flush_ours = || guard.flush(Duration::from_secs(10)).expect("a receiver that answers");
    let flush_stock = || logger_provider.force_flush().expect("an exporter that always succeeds");
    let mut out = String::from("| path | CPU ns a call, best | median | allocations a call |\n|---|---|---|---|\n");
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut row = |name: &str, dispatch: &Dispatch, flush: &dyn Fn(), call: fn(u64)| {
        if name.contains(&filter) {
            let Figures { best, median, allocations } = measure(dispatch, flush, call);
            out += &format!("| {name} | {best:.0} | {median:.0} | {allocations:.2} |\n");
        }
    };
    row("watchbell, in a span", &ours, &flush_ours, call);
    row("stock appender and batch processor, in a span", &stock, &flush_stock, call);
    let (json, _writer) = json();
    row("tracing-subscriber's JSON, non-blocking, in a span", &json, &|| {}, call);
    let folder = tempfile::tempdir().expect("a folder");
    let (with_file, file_guard) = with_file(folder.path());
    let flush_file = || file_guard.flush(Duration::from_secs(10)).expect("a receiver that answers");
    row("watchbell with a JSON file besides, in a span", &with_file, &flush_file, call);
    let (mapped, mapped_guard) = mapped(folder.path());
    let flush_mapped = || mapped_guard.flush(Duration::from_secs(10)).expect("a receiver that answers");
    row("watchbell with mapped chunks, in a span", &mapped, &flush_mapped, call);
    LOGGER.get_or_init(|| guard.logger_provider().expect("logs are exported").logger("bench"));
    row("watchbell by OpenTelemetry's logs API, in a span", &ours, &flush_ours, call_of_the_api);
    row("watchbell, without attributes", &ours, &flush_ours, |_| tracing::info!("order placed"));
    row("watchbell, disabled level", &ours, &flush_ours, |i| tracing::debug!(i, "order {}", i));
    row("watchbell, withheld by a rate", &ours, &flush_ours, |i| {
        tracing::info!(watchbell.limit = "1/h", i, "order {}", i)
    });
    row("tracing alone, fields visited and formatted", &visited(), &|| {}, call);
    row("a look at the clock", &ours, &flush_ours, |_| {
        std::hint::black_box(std::time::SystemTime::now());
    });
    let ledger = guard.shutdown(Duration::from_secs(10));
    print(&format!("{out}\n{ledger}\n"));
    assert_eq!(ledger.logs.lost(), 0);
}

fn call(order_id: u64) {
    tracing::info!(order_id, amount = 9.75, upstream = "payment", "order {} placed", order_id);
}

static LOGGER: OnceLock<watchbell::logs::Logger> = OnceLock::new();

/// The same record, as an appender makes it.
fn call_of_the_api(order_id: u64) {
    let logger = LOGGER.get().expect("set at the start");
    let mut record = logger.create_log_record();
    record.set_severity_number(Severity::Info);
    record.set_severity_text("INFO");
    record.add_attribute("order_id", order_id as i64);
    record.add_attribute("amount", 9.75);
    record.add_attribute("upstream", "payment");
    record.set_body(format!("order {order_id} placed").into());
    logger.emit(record);
}

fn measure(dispatch: &Dispatch, flush: &dyn Fn(), call: fn(u64)) -> Figures {
    tracing::dispatcher::with_default(dispatch, || {
        let _span = tracing::info_span!("checkout").entered();
        let mut nanos = Vec::new();
        let mut allocations = 0;
        for batch in 0..BATCHES {
            let (clock, allocated) = (thread_cpu_nanos(), ALLOCATIONS.get());
            (0..u64::from(CALLS_PER_BATCH)).for_each(|i| call(std::hint::black_box(i)));
            nanos.push((thread_cpu_nanos() - clock) as f64 / f64::from(CALLS_PER_BATCH));
            let is_warm = batch > BATCHES / 4;
            allocations += if is_warm { ALLOCATIONS.get() - allocated } else { 0 };
            flush();
        }
        nanos.sort_by(f64::total_cmp);
        let warm_calls = f64::from((BATCHES - BATCHES / 4 - 1) * CALLS_PER_BATCH);
        Figures { best: nanos[0], median: nanos[nanos.len() / 2], allocations: allocations as f64 / warm_calls }
    })
}

fn ours() -> (Dispatch, watchbell::Guard) {
    let builder = watchbell::builder().variables([("OTEL_EXPORTER_OTLP_ENDPOINT", sink())]);
    let (layer, guard) = builder.layer().expect("an export thread");
    (Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(layer)), guard)
}

/// Every record goes into a file, too.
fn with_file(folder: &Path) -> (Dispatch, watchbell::Guard) {
    let builder = watchbell::builder().variables([("OTEL_EXPORTER_OTLP_ENDPOINT", sink())]);
    let file = Sink::file(folder.join("bench.jsonl")).format(Format::Json);
    let (layer, guard) = builder.sink(file).layer().expect("an export thread");
    (Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(layer)), guard)
}

/// Chunks outlive `kill -9`.
fn mapped(folder: &Path) -> (Dispatch, watchbell::Guard) {
    let builder = watchbell::builder().variables([("OTEL_EXPORTER_OTLP_ENDPOINT", sink())]);
    let (layer, guard) = builder.spool(Spool::in_dir(folder).mapped()).layer().expect("an export thread");
    (Dispatch::new(tracing_subscriber::registry().with(LevelFilter::INFO).with(layer)), guard)
}

/// Lines of JSON, handed to a thread that throws them away.
fn json() -> (Dispatch, WorkerGuard) {
    let (writer, guard) = tracing_appender::non_blocking(std::io::sink());
    let subscriber = tracing_subscriber::fmt().json().with_max_level(LevelFilter::INFO).with_writer(writer).finish();
    (Dispatch::new(subscriber), guard)
}

/// As its documentation recommends, with a queue that loses nothing here.
fn stock() -> (Dispatch, SdkLoggerProvider) {
    let config = BatchConfigBuilder::default().with_max_queue_size(65_536).build();
    let processor = BatchLogProcessor::builder(Discard).with_batch_config(config).build();
    let logs = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let tracer = SdkTracerProvider::builder().build().tracer("bench");
    let spans =
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(|metadata| metadata.is_span()));
    let bridge = OpenTelemetryTracingBridge::new(&logs);
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(spans).with(bridge);
    (Dispatch::new(subscriber), logs)
}

/// What no logging by `tracing` can do without.
fn visited() -> Dispatch {
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

#[derive(Debug)]
struct Discard;

impl LogExporter for Discard {
    async fn export(&self, batch: LogBatch<'_>) -> opentelemetry_sdk::error::OTelSdkResult {
        std::hint::black_box(batch.iter().count());
        Ok(())
    }
}

/// An HTTP server in a thread of its own that reads each request and answers 200.
fn sink() -> String {
    let (address, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            address.send(listener.local_addr().expect("an address")).expect("a waiting thread");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let service = hyper::service::service_fn(discard);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
    });
    format!("http://{}", receiver.recv().expect("an address"))
}

async fn discard(request: hyper::Request<Incoming>) -> Result<hyper::Response<Empty<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await; // a broken request is no concern of this server
    Ok(hyper::Response::new(Empty::new()))
}

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

struct Counting;

// SAFETY: all is left to the system's allocator; the count is a thread-local number without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn thread_cpu_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call, which writes one `timespec`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the thread's clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[allow(clippy::print_stdout)] // the benchmark's result
fn print(text: &str) {
    println!("{text}");
}
