//! Writes spans and what else OpenTelemetry's own types hold as OTLP. Field numbers are those of `opentelemetry/proto/{common,logs,trace}/v1`.

use std::error::Error;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, Link, SpanContext, SpanKind, Status};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use watchbell_proto::wire::{
    put_bytes_field, put_fixed32_field, put_fixed64_field, put_message_field, put_varint_field,
};

use crate::callsite::put_attribute;
use crate::limits::{VALUE_BYTES_MAX, cut, cut_to};
use crate::record::put_time_fields;

/// The time as OTLP has it: nanoseconds since 1970, 0 for times before.
pub(crate) fn unix_nano(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Appends a log record of severity WARN that tells a loss, in words and in attributes.
pub(crate) fn put_loss(out: &mut Vec<u8>, now: u64, text: &str, records: u64, signal: &str, reason: &str) {
    put_warning(out, now, text);
    put_attribute(out, "lost.records", |out| put_varint_field(out, 3, records));
    put_attribute(out, "lost.signal", |out| put_bytes_field(out, 1, signal.as_bytes()));
    put_attribute(out, "lost.reason", |out| put_bytes_field(out, 1, reason.as_bytes()));
}

/// The same of records that a sink has lost since that was told before.
pub(crate) fn put_loss_of_sink(out: &mut Vec<u8>, now: u64, text: &str, records: u64, sink: &str) {
    put_warning(out, now, text);
    put_attribute(out, "lost.sink.records", |out| put_varint_field(out, 3, records));
    put_attribute(out, "lost.sink.name", |out| put_bytes_field(out, 1, sink.as_bytes()));
}

fn put_warning(out: &mut Vec<u8>, now: u64, text: &str) {
    put_time_fields(out, now);
    put_varint_field(out, 2, 13);
    put_bytes_field(out, 3, b"WARN");
    put_message_field(out, 5, |out| put_bytes_field(out, 1, text.as_bytes()));
}

/// An error, then each of its sources: `cannot charge: connection refused`.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Appends a span; its attributes' strings have at most `chars_max` characters.
pub(crate) fn put_span(out: &mut Vec<u8>, span: &SpanData, chars_max: usize) {
    let context = &span.span_context;
    put_bytes_field(out, 1, &context.trace_id().to_bytes());
    put_bytes_field(out, 2, &context.span_id().to_bytes());
    put_trace_state(out, 3, context);
    if span.parent_span_id != opentelemetry::trace::SpanId::INVALID {
        put_bytes_field(out, 4, &span.parent_span_id.to_bytes());
    }
    put_bytes_field(out, 5, cut(&span.name).as_bytes());
    put_varint_field(out, 6, span_kind(&span.span_kind));
    put_fixed64_field(out, 7, unix_nano(span.start_time));
    put_fixed64_field(out, 8, unix_nano(span.end_time));
    put_attributes(out, 9, &span.attributes, chars_max);
    put_count(out, 10, span.dropped_attributes_count);
    span.events.iter().for_each(|event| put_message_field(out, 11, |out| put_event(out, event, chars_max)));
    put_count(out, 12, span.events.dropped_count);
    span.links.iter().for_each(|link| put_message_field(out, 13, |out| put_link(out, link, chars_max)));
    put_count(out, 14, span.links.dropped_count);
    put_message_field(out, 15, |out| put_status(out, &span.status));
    put_fixed32_field(out, 16, flags(context, span.parent_span_is_remote));
}

fn put_event(out: &mut Vec<u8>, event: &Event, chars_max: usize) {
    put_fixed64_field(out, 1, unix_nano(event.timestamp));
    put_bytes_field(out, 2, cut(&event.name).as_bytes());
    put_attributes(out, 3, &event.attributes, chars_max);
    put_count(out, 4, event.dropped_attributes_count);
}

fn put_link(out: &mut Vec<u8>, link: &Link, chars_max: usize) {
    let context = &link.span_context;
    put_bytes_field(out, 1, &context.trace_id().to_bytes());
    put_bytes_field(out, 2, &context.span_id().to_bytes());
    put_trace_state(out, 3, context);
    put_attributes(out, 4, &link.attributes, chars_max);
    put_count(out, 5, link.dropped_attributes_count);
    put_fixed32_field(out, 6, flags(context, context.is_remote()));
}

fn put_status(out: &mut Vec<u8>, status: &Status) {
    match status {
        Status::Unset => {}
        Status::Ok => put_varint_field(out, 3, 1),
        Status::Error { description } => {
            put_bytes_field(out, 2, cut(description).as_bytes());
            put_varint_field(out, 3, 2);
        }
    }
}

fn put_trace_state(out: &mut Vec<u8>, number: u32, context: &SpanContext) {
    let state = context.trace_state().header();
    if !state.is_empty() {
        put_bytes_field(out, number, state.as_bytes());
    }
}

fn put_count(out: &mut Vec<u8>, number: u32, count: u32) {
    if count > 0 {
        put_varint_field(out, number, u64::from(count));
    }
}

fn span_kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// The W3C flags, then whether the parent (of a link: its target) came from another process, which is always known here.
fn flags(context: &SpanContext, is_remote: bool) -> u32 {
    const HAS_IS_REMOTE: u32 = 0x100;
    const IS_REMOTE: u32 = 0x200;
    u32::from(context.trace_flags().to_u8()) | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

/// Appends a `Resource` message's content.
pub(crate) fn put_resource(out: &mut Vec<u8>, attributes: &[KeyValue]) {
    put_attributes(out, 1, attributes, usize::MAX);
}

/// Appends an `InstrumentationScope` message's content.
pub(crate) fn put_scope(out: &mut Vec<u8>, scope: &InstrumentationScope) {
    put_bytes_field(out, 1, scope.name().as_bytes());
    if let Some(version) = scope.version() {
        put_bytes_field(out, 2, version.as_bytes());
    }
    scope.attributes().for_each(|attribute| put_key_value(out, 3, attribute, usize::MAX));
}

pub(crate) fn put_attributes<'a>(
    out: &mut Vec<u8>,
    number: u32,
    attributes: impl IntoIterator<Item = &'a KeyValue>,
    chars_max: usize,
) {
    attributes.into_iter().for_each(|attribute| put_key_value(out, number, attribute, chars_max));
}

fn put_key_value(out: &mut Vec<u8>, number: u32, attribute: &KeyValue, chars_max: usize) {
    put_message_field(out, number, |out| {
        put_bytes_field(out, 1, attribute.key.as_str().as_bytes());
        put_message_field(out, 2, |out| put_value(out, &attribute.value, chars_max));
    });
}

pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value, chars_max: usize) {
    let mut put_text = |text: &str| put_bytes_field(out, 1, cut_to(text, VALUE_BYTES_MAX, chars_max).as_bytes());
    match value {
        Value::Bool(value) => put_varint_field(out, 2, u64::from(*value)),
        Value::I64(value) => put_varint_field(out, 3, *value as u64),
        Value::F64(value) => put_fixed64_field(out, 4, value.to_bits()),
        Value::String(value) => put_text(value.as_str()),
        Value::Array(array) => put_message_field(out, 5, |out| put_array(out, array, chars_max)),
        other => put_text(&other.as_str()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array, chars_max: usize) {
    let mut put = |value: Value| put_message_field(out, 1, |out| put_value(out, &value, chars_max));
    match array {
        Array::Bool(values) => values.iter().for_each(|value| put(Value::Bool(*value))),
        Array::I64(values) => values.iter().for_each(|value| put(Value::I64(*value))),
        Array::F64(values) => values.iter().for_each(|value| put(Value::F64(*value))),
        Array::String(values) => values.iter().for_each(|value| put(Value::String(value.clone()))),
        _ => {}
    }
}
