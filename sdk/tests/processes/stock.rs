//! What OpenTelemetry's own SDK and appender do where ours has a test of its own: should one of these fail, they have got better.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, SdkLoggerProvider};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use watchbell::opentelemetry::logs::AnyValue;

use super::child;

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
        "stock shutdown" => log().shutdown().expect("an exporter that takes all"),
        _ => return false,
    }
    true
}

fn log() -> SdkLoggerProvider {
    let config = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_secs(3600)).build();
    let processor = BatchLogProcessor::builder(ToFile).with_batch_config(config).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    tracing_subscriber::registry().with(OpenTelemetryTracingBridge::new(&provider)).init();
    tracing::info!("last words");
    provider
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
