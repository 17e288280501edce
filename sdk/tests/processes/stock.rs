//! What OpenTelemetry's own SDK and appender do where ours has a test of its own: should one of these fail, they have got better.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Instrument;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use watchbell::opentelemetry::logs::{AnyValue, Logger, LoggerProvider};
use watchbell::opentelemetry::trace::TracerProvider;

use super::receiver::{Absent, Received, Receiver};
use super::{child, run as run_case};

/// What a process ends with whose shutdown hung for the five seconds that the stock SDK gives it.
const HUNG: i32 = 5;

/// Ours: `exit_sends_what_was_recorded`.
#[test]
fn its_exit_loses_what_was_recorded() {
    assert_eq!(exported("stock exit"), (Some(7), String::new()));
}

/// Its subscriber has the provider, too. Ours: `so_does_a_leaked_guard`, and `shutdown` of the other tests.
#[test]
fn so_does_dropping_its_provider() {
    assert_eq!(exported("stock drop"), (Some(0), String::new()));
}

/// Nor is the panic a record. Ours: `a_panic_is_a_record_in_its_trace`.
#[test]
fn so_does_a_panic() {
    assert_eq!(exported("stock panic"), (Some(101), String::new()));
}

/// Ours: `on_a_current_thread_runtime`.
#[test]
fn its_shutdown_on_a_current_thread_runtime_hangs_and_delivers_nothing() {
    let receiver = Receiver::grpc();
    assert_eq!((run_case("stock current thread", &receiver).code(), receiver.logs().len()), (Some(HUNG), 0));
}

/// Ours: `within_a_task_of_a_one_worker_runtime`.
#[test]
fn so_it_does_in_a_task_of_a_one_worker_runtime() {
    let receiver = Receiver::grpc();
    assert_eq!((run_case("stock task", &receiver).code(), receiver.logs().len()), (Some(HUNG), 0));
}

/// Ours: `a_forked_child_ends_at_once_and_sends_nothing`.
#[test]
fn a_forked_childs_shutdown_hangs() {
    let receiver = Receiver::grpc();
    assert_eq!(run_case("stock fork", &receiver).code(), Some(HUNG));
    assert_eq!(receiver.logs().iter().map(Received::body).collect::<Vec<_>>(), ["of the parent"]);
}

/// Ours: `its_own_stack_stays_silent_at_its_loudest`.
#[test]
fn its_own_exports_are_exported_for_ever() {
    let receiver = Receiver::grpc();
    assert_eq!(run_case("stock loop", &receiver).code(), Some(0));
    let logs = receiver.logs();
    let of_the_service = logs.iter().filter(|log| log.body() == "the only record of the service").count();
    assert_eq!(of_the_service, 1);
    assert!(logs.len() > 100, "{} records beside it", logs.len() - 1);
}

/// Ours: `a_collector_that_comes_later_gets_it_all`.
#[test]
fn while_the_collector_is_away_records_go_and_the_shutdown_says_ok() {
    let absent = Absent::new();
    let mut child = child("stock collector away");
    let status = child.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()).status().expect("this program");
    assert_eq!(status.code(), Some(0));
    assert!(absent.come(true).logs().is_empty());
}

/// Ours: `at_the_cap_the_newest_records_are_dropped_and_counted`, `losses_are_told_to_the_collector`.
#[test]
fn its_drops_are_told_once_as_they_begin_and_counted_at_the_shutdown() {
    let (warnings, may_export) = (Warnings::default(), Arc::new(Mutex::new(())));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(warnings.clone()), || {
        let exporting = may_export.lock().unwrap();
        let config = BatchConfigBuilder::default().with_max_queue_size(10).with_max_export_batch_size(10).build();
        let processor = BatchLogProcessor::builder(Waiting(Arc::clone(&may_export))).with_batch_config(config).build();
        let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
        let logger = provider.logger("stock");
        (0..100).for_each(|_| logger.emit(logger.create_log_record()));
        assert_eq!(*warnings.0.lock().unwrap(), ["BatchLogProcessor.LogDroppingStarted"]);
        drop(exporting);
        provider.shutdown().expect("an exporter that takes all");
        let told = ["BatchLogProcessor.LogDroppingStarted", "BatchLogProcessor.LogsDropped"];
        assert_eq!(*warnings.0.lock().unwrap(), told);
    });
}

/// Ours: the tests of `correlation`.
#[test]
fn a_record_has_no_trace_by_its_parent_nor_in_a_spawned_task() {
    let traced = Traced::default();
    let logs = SdkLoggerProvider::builder().with_simple_exporter(traced.clone()).build();
    let tracer = SdkTracerProvider::builder().build().tracer("stock");
    let spans = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(|it| it.is_span()));
    let subscriber = tracing_subscriber::registry().with(spans).with(OpenTelemetryTracingBridge::new(&logs));
    let _default = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let span = tracing::info_span!("request");
    tracing::info!(parent: &span, "by its parent");
    let request = async {
        tracing::info!("in the span");
        tokio::spawn(async { tracing::info!("in a spawned task") }).await.expect("no panic");
    };
    runtime.block_on(request.instrument(span));
    let expected = [("by its parent", false), ("in the span", true), ("in a spawned task", false)];
    assert_eq!(*traced.0.lock().unwrap(), expected.map(|(body, is_traced)| (body.to_owned(), is_traced)));
}

/// Ours: `correlation` and `records` of the other tests, where a record has its time and no name.
#[test]
fn its_records_have_no_time_and_a_name_that_is_none() {
    let (code, exported) = exported("stock shutdown");
    assert_eq!(
        (code, exported.as_str()),
        (Some(0), "last words, made at None, named event sdk/tests/processes/stock.rs\n")
    );
}

/// Ours: `a_thread_that_ends_may_log_and_leave_its_span_and_make_another`.
#[test]
fn a_span_that_a_thread_makes_while_it_ends_aborts_it() {
    let output = child("stock thread ends").output().expect("this program");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_none() && told.contains("abort"), "{:?} {told}", output.status);
}

/// How the process ended, and what its exporter was given.
fn exported(case: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let status = child(case).env("EXPORTED", file.path()).status().expect("this program");
    (status.code(), std::fs::read_to_string(file.path()).expect("text"))
}

/// Runs a case in its process; false if it is none of these.
pub(crate) fn run(case: &str) -> bool {
    match case {
        "stock thread ends" => end_a_thread(),
        "stock exit" => {
            let _provider = log();
            std::process::exit(7);
        }
        "stock drop" => drop(log()),
        "stock panic" => {
            let _provider = log();
            panic!("out of stock");
        }
        "stock current thread" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { end(log_by_grpc("last words")) });
        }
        "stock task" => {
            let runtime = one_worker();
            let task = runtime.spawn(async { end(log_by_grpc("last words")) });
            runtime.block_on(task).expect("no panic");
        }
        "stock fork" => {
            let runtime = one_worker();
            let _entered = runtime.enter();
            fork(log_by_grpc("of the parent"));
        }
        "stock loop" => {
            let runtime = one_worker();
            let _entered = runtime.enter();
            let provider = log_by_grpc_with("the only record of the service", |_| true);
            std::thread::sleep(Duration::from_secs(2));
            end(provider);
        }
        "stock collector away" => {
            let runtime = one_worker();
            let _entered = runtime.enter();
            let provider = log_by_grpc("last words");
            let _ = provider.force_flush(); // until the batch has been tried
            end(provider);
        }
        "stock shutdown" => log().shutdown().expect("an exporter that takes all"),
        _ => return false,
    }
    true
}

fn log() -> SdkLoggerProvider {
    let config = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_secs(3600)).build();
    let processor = BatchLogProcessor::builder(ToFile).with_batch_config(config).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let is_ours = filter_fn(|metadata| metadata.target() == module_path!()); // not what the SDK says of itself
    tracing_subscriber::registry().with(OpenTelemetryTracingBridge::new(&provider).with_filter(is_ours)).init();
    tracing::info!("last words");
    provider
}

/// As [`log`], with the exporter over gRPC to where the environment tells, and a filter against its own records.
fn log_by_grpc(message: &str) -> SdkLoggerProvider {
    log_by_grpc_with(message, |metadata| metadata.target() == module_path!())
}

fn log_by_grpc_with(message: &str, filter: fn(&tracing::Metadata<'_>) -> bool) -> SdkLoggerProvider {
    let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").expect("an endpoint");
    let exporter = opentelemetry_otlp::LogExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let config = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_millis(100)).build();
    let processor = BatchLogProcessor::builder(exporter.expect("an exporter")).with_batch_config(config).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let bridge = OpenTelemetryTracingBridge::new(&provider).with_filter(filter_fn(filter));
    tracing_subscriber::registry().with(bridge).init();
    tracing::info!("{message}");
    provider
}

fn one_worker() -> tokio::runtime::Runtime {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

/// Shuts the provider down and ends the process, by 0 if that went well, by [`HUNG`] if it took the time that it has.
fn end(provider: SdkLoggerProvider) {
    let started = Instant::now();
    let is_shut_down = provider.shutdown().is_ok();
    let has_hung = !is_shut_down && started.elapsed() >= Duration::from_secs(5);
    std::process::exit(if is_shut_down {
        0
    } else if has_hung {
        HUNG
    } else {
        1
    });
}

/// The child logs and shuts down; the parent delivers its record and ends as the child did.
#[expect(unsafe_code)] // the standard library does not fork
fn fork(provider: SdkLoggerProvider) {
    // SAFETY: as in the test of ours: the child ends soon, and its parent waits for it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        tracing::info!("of the child");
        end(provider);
        return;
    }
    let mut status = -1;
    // SAFETY: waits for the child, and writes its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    provider.force_flush().expect("a receiver that answers");
    std::process::exit(libc::WEXITSTATUS(status));
}

/// The text of each record, and whether it has a trace.
#[derive(Clone, Debug, Default)]
struct Traced(Arc<Mutex<Vec<(String, bool)>>>);

impl LogExporter for Traced {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        for (record, _) in batch.iter() {
            let Some(AnyValue::String(body)) = record.body() else { continue };
            self.0.lock().expect("no panic").push((body.as_str().to_owned(), record.trace_context().is_some()));
        }
        Ok(())
    }
}

/// Exports nothing, and waits for that until it may.
#[derive(Debug)]
struct Waiting(Arc<Mutex<()>>);

impl LogExporter for Waiting {
    async fn export(&self, _: LogBatch<'_>) -> OTelSdkResult {
        drop(self.0.lock().expect("no panic"));
        Ok(())
    }
}

/// The names of what the SDK warns of.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<&'static str>>>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == "opentelemetry_sdk" && *metadata.level() <= tracing::Level::WARN {
            self.0.lock().expect("no panic").push(metadata.name());
        }
    }
}

/// Exports to the file that `EXPORTED` names.
#[derive(Debug)]
struct ToFile;

impl LogExporter for ToFile {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let path = std::env::var("EXPORTED").expect("a path");
        let mut file = OpenOptions::new().append(true).open(path).expect("a file");
        for (record, _) in batch.iter() {
            let Some(AnyValue::String(body)) = record.body() else { continue };
            let name = record.event_name().unwrap_or_default().rsplit_once(':').unwrap_or_default().0;
            writeln!(file, "{body}, made at {:?}, named {name}", record.timestamp()).expect("a file");
        }
        Ok(())
    }
}

/// As ours, with a layer of spans alone.
fn end_a_thread() {
    struct Ending;
    impl Drop for Ending {
        fn drop(&mut self) {
            tracing::info_span!("made while the thread ends").in_scope(|| {});
        }
    }
    thread_local!(static ENDING: Ending = const { Ending });
    tracing_subscriber::registry().with(tracing_opentelemetry::layer()).init();
    let thread = std::thread::spawn(|| {
        ENDING.with(|_| {});
        tracing::info_span!("made before").in_scope(|| {});
    });
    thread.join().expect("no panic");
}
