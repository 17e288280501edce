//! What OpenTelemetry's own crates say of themselves, by `tracing`, where they are built with their feature `internal-logs`: that a provider is set, that a
//! batch was dropped. A pipeline that took it would hear of itself. So none of it is a record unless a directive names the target; what is a warning or an
//! error is told on stderr, as our own troubles are.

use std::fmt::{self, Write};

use tracing_core::field::{Field, Visit};
use tracing_core::{Event, Level};

use crate::tell;

/// They log under their package's name, which may have dashes, or under the module's.
const CRATES: [&str; 13] = [
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
    "opentelemetry_http",
    "opentelemetry_proto",
    "opentelemetry_stdout",
    "opentelemetry_prometheus",
    "opentelemetry_zipkin",
    "opentelemetry_jaeger_propagator",
    "opentelemetry_appender_log",
    "opentelemetry_appender_tracing",
    "opentelemetry_semantic_conventions",
    "tracing_opentelemetry",
];

/// Whether a target is of one of these crates.
pub(crate) fn is_stock(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    let is_named = |known: &&str| name.bytes().map(|byte| if byte == b'-' { b'_' } else { byte }).eq(known.bytes());
    name.contains("opentelemetry") && CRATES.iter().any(is_named)
}

/// Whether what such a crate says at this level is told.
pub(crate) fn is_told(level: Level) -> bool {
    level <= Level::WARN
}

/// Tells what one says: the event's name, its message, its fields.
pub(crate) fn tell(event: &Event<'_>) {
    let mut text = event.metadata().target().to_owned();
    event.record(&mut Told(&mut text));
    match *event.metadata().level() {
        Level::ERROR => tell::error(format_args!("{text}")),
        _ => tell::warn(format_args!("{text}")),
    }
}

struct Told<'a>(&'a mut String);

impl Visit for Told<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "name" | "message" => write!(self.0, ": {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
