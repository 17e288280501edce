//! JSON, with the names of OpenTelemetry, of Elastic's schema, of Graylog, and OTLP's own.

use std::fmt::Write;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId};
use watchbell_proto::otlp::Signal;
use watchbell_proto::otlp::to_json::{put_base64, put_text, to_json};
use watchbell_proto::wire::{put_bytes_field, put_message_field};

use super::text::Utc;
use super::{of_resource, syslog_severity};
use crate::encode::put_resource;
use crate::view::{Record, Value};

/// An object that is being written.
struct Object<'o> {
    out: &'o mut String,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, is_empty: true }
    }

    fn key(&mut self, key: &str) -> &mut String {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
        put_text(self.out, key);
        self.out.push(':');
        self.out
    }

    fn text(&mut self, key: &str, value: &str) {
        put_text(self.key(key), value);
    }

    fn shown(&mut self, key: &str, value: impl std::fmt::Display) {
        put_shown(self.key(key), value);
    }

    fn number(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = write!(self.key(key), "{value}"); // a string takes all that is written
    }

    fn value(&mut self, key: &str, value: Value<'_>) {
        put_value(self.key(key), value);
    }

    fn end(self) {
        self.out.push('}');
    }
}

pub(super) fn put_json(out: &mut String, record: &Record<'_>, resource: &[KeyValue]) {
    let mut line = Object::begin(out);
    line.shown("timestamp", Utc { nanos: record.time_unix_nano(), digits: 9 });
    line.number("severity_number", record.severity_number());
    line.text("severity_text", record.severity_text());
    line.text("scope", record.target());
    if let Some(name) = record.event_name() {
        line.text("event_name", name);
    }
    line.text("body", &record.message());
    if record.attributes().next().is_some() {
        let mut attributes = Object::begin(line.key("attributes"));
        record.attributes().for_each(|(key, value)| attributes.value(key, value));
        attributes.end();
    }
    put_ids(&mut line, record, ["trace_id", "span_id"]);
    let mut of_service = resource.iter().filter(|attribute| is_of_service(attribute)).peekable();
    if of_service.peek().is_some() {
        let mut resource = Object::begin(line.key("resource"));
        of_service.for_each(|attribute| resource.text(attribute.key.as_str(), &attribute.value.as_str()));
        resource.end();
    }
    line.end();
}

fn is_of_service(attribute: &KeyValue) -> bool {
    ["service.", "deployment."].iter().any(|prefix| attribute.key.as_str().starts_with(prefix))
}

pub(super) fn put_ecs(out: &mut String, record: &Record<'_>, resource: &[KeyValue]) {
    let mut line = Object::begin(out);
    line.shown("@timestamp", Utc { nanos: record.time_unix_nano(), digits: 3 });
    line.text("log.level", &record.severity_text().to_ascii_lowercase());
    line.text("message", &record.message());
    line.text("ecs.version", "8.11.0");
    line.text("log.logger", record.target());
    if let Some(name) = record.event_name() {
        line.text("event.action", name);
    }
    for key in ["service.name", "service.version", "service.environment"] {
        let known = if key == "service.environment" { "deployment.environment.name" } else { key };
        if let Some(value) = of_resource(resource, known) {
            line.text(key, &value);
        }
    }
    put_ids(&mut line, record, ["trace.id", "span.id"]);
    for (key, value) in record.attributes() {
        match key {
            "exception.type" => line.value("error.type", value),
            "exception.message" => line.value("error.message", value),
            "exception.stacktrace" => line.value("error.stack_trace", value),
            "code.file.path" => line.value("log.origin.file.name", value),
            "code.line.number" => line.value("log.origin.file.line", value),
            _ if ECS_TAKEN.contains(&key) => line.value(&format!("labels.{key}"), value),
            _ => line.value(key, value),
        }
    }
    line.end();
}

/// Fields that are written of the record itself, and names that are objects in the schema.
const ECS_TAKEN: [&str; 24] = [
    "@timestamp",
    "log.level",
    "message",
    "ecs.version",
    "log.logger",
    "event.action",
    "service.name",
    "service.version",
    "service.environment",
    "trace.id",
    "span.id",
    "error.type",
    "error.message",
    "error.stack_trace",
    "log.origin.file.name",
    "log.origin.file.line",
    "error",
    "service",
    "log",
    "trace",
    "labels",
    "ecs",
    "event",
    "span",
];

pub(super) fn put_gelf(out: &mut String, record: &Record<'_>, resource: &[KeyValue]) {
    let mut line = Object::begin(out);
    line.text("version", "1.1");
    let host = of_resource(resource, "host.name").or_else(|| of_resource(resource, "service.name"));
    line.text("host", host.as_deref().unwrap_or("unknown"));
    line.text("short_message", gelf_message(record, &record.message()));
    if let Some(Value::String(trace)) = record.attribute("exception.stacktrace") {
        line.text("full_message", trace);
    }
    let millis = record.time_unix_nano() / 1_000_000;
    line.number("timestamp", format_args!("{}.{:03}", millis / 1000, millis % 1000));
    line.number("level", syslog_severity(record));
    line.text("_target", record.target());
    if let Some(service) = of_resource(resource, "service.name") {
        line.text("_service.name", &service);
    }
    put_ids(&mut line, record, ["_trace_id", "_span_id"]);
    for (key, value) in record.attributes() {
        let key = gelf_key(key);
        match value {
            Value::Int(_) | Value::String(_) | Value::Double(_) => line.value(&key, value),
            other => line.shown(&key, other), // texts and numbers alone are allowed
        }
    }
    line.end();
}

/// Graylog refuses a record without a message, and some have a name and fields alone.
fn gelf_message<'m>(record: &'m Record<'_>, message: &'m str) -> &'m str {
    let mut known = [Some(message), record.event_name(), Some(record.target())].into_iter().flatten();
    known.find(|text| !text.trim().is_empty()).unwrap_or("-")
}

/// Letters, digits, `_`, `.` and `-`; `_id` is Graylog's own, and so is what was written already.
fn gelf_key(key: &str) -> String {
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let key: String = key.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    match key.as_str() {
        "id" | "target" | "service.name" | "trace_id" | "span_id" => format!("_{key}_"),
        _ => format!("_{key}"),
    }
}

pub(super) fn put_otlp(out: &mut String, record: &Record<'_>, resource: &[KeyValue]) {
    let (scope, raw) = record.raw();
    let mut request = Vec::with_capacity(raw.len() + 256);
    put_message_field(&mut request, 1, |out| {
        put_message_field(out, 1, |out| put_resource(out, resource));
        put_message_field(out, 2, |out| {
            put_bytes_field(out, 1, scope);
            put_bytes_field(out, 2, raw);
        });
    });
    out.push_str(&to_json(Signal::Logs, &request));
}

fn put_ids(line: &mut Object<'_>, record: &Record<'_>, [trace_id, span_id]: [&str; 2]) {
    if record.trace_id() != TraceId::INVALID {
        line.shown(trace_id, record.trace_id());
    }
    if record.span_id() != SpanId::INVALID {
        line.shown(span_id, record.span_id());
    }
}

fn put_value(out: &mut String, value: Value<'_>) {
    match value {
        Value::Empty => out.push_str("null"),
        Value::String(text) => put_text(out, text),
        Value::Bytes(bytes) => put_base64(out, bytes),
        Value::Double(number) if !number.is_finite() => put_shown(out, number),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => drop(write!(out, "{value}")), // a string takes all that is written
        Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                put_value(out, value);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let mut object = Object::begin(out);
            entries.iter().for_each(|(key, value)| object.value(key, value));
            object.end();
        }
    }
}

fn put_shown(out: &mut String, value: impl std::fmt::Display) {
    put_text(out, &value.to_string());
}
