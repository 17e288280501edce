//! What a user writes in words is understood or told, by whatever way it comes; the environment never keeps a service from starting.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell::fuzzing::{configured, pattern, scrubbed};
use watchbell::redact::Redaction;
use watchbell::sink::Sink;

// The first byte chooses whose words they are.
fuzz_target!(|input: (u8, &str)| {
    let (choice, text) = input;
    match choice {
        0..=31 => drop(pattern(text)),
        32..=79 => drop(text.parse::<Sink>()),
        80..=95 => drop(configured(none().levels(text).collector_levels(text))),
        96..=111 => drop(configured(none().restrain(text))),
        112..=119 => drop(configured(none().endpoint(text).header("x", text).header(text, "x"))),
        120..=127 => drop(scrubbed(&Redaction::new().key(text), text)),
        _ => {
            let name = VARIABLES[usize::from(choice - 128) % VARIABLES.len()];
            configured(watchbell::builder().variables([(name, text)])).expect("a service that starts");
        }
    }
});

/// A builder that reads no environment.
fn none() -> watchbell::Builder {
    watchbell::builder().variables([("", "")])
}

const VARIABLES: [&str; 40] = [
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BLRP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_LOGS_EXPORTER",
    "OTEL_LOG_LEVEL",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_PROPAGATORS",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "RUST_LOG",
    "WATCHBELL_BAGGAGE_ATTRIBUTES",
    "WATCHBELL_BLOCK_TIMEOUT",
    "WATCHBELL_BUFFER_BYTES_MAX",
    "WATCHBELL_LEVELS_URL",
    "WATCHBELL_PANICS",
    "WATCHBELL_REDACT",
    "WATCHBELL_RESTRAIN",
    "WATCHBELL_SHUTDOWN_TIMEOUT",
    "WATCHBELL_SINKS",
    "WATCHBELL_SPOOL_WHEN_FULL",
    "WATCHBELL_WHEN_FULL",
];
