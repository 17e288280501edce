//! Writes the values of OpenTelemetry's logs API as OTLP's `AnyValue`.

use opentelemetry::logs::AnyValue;
use watchbell_proto::wire::{put_bytes_field, put_fixed64_field, put_message_field, put_varint_field};

use crate::limits::{VALUE_BYTES_MAX, cut_bytes, cut_to};

/// Deepest nesting of a value (32); what is deeper is left out.
const VALUE_DEPTH_MAX: u32 = 32;

/// Appends the content of an `AnyValue`; its strings have at most `chars_max` characters, its byte arrays as many bytes.
pub(crate) fn put(out: &mut Vec<u8>, value: &AnyValue, chars_max: usize) {
    put_within(out, value, chars_max, VALUE_DEPTH_MAX);
}

fn put_within(out: &mut Vec<u8>, value: &AnyValue, chars_max: usize, depth_left: u32) {
    match value {
        AnyValue::Int(value) => put_varint_field(out, 3, *value as u64),
        AnyValue::Double(value) => put_fixed64_field(out, 4, value.to_bits()),
        AnyValue::String(text) => {
            put_bytes_field(out, 1, cut_to(text.as_str(), VALUE_BYTES_MAX, chars_max).as_bytes());
        }
        AnyValue::Boolean(value) => put_varint_field(out, 2, u64::from(*value)),
        AnyValue::Bytes(bytes) => put_bytes_field(out, 7, cut_bytes(bytes, chars_max)),
        AnyValue::ListAny(items) => put_message_field(out, 5, |out| {
            for item in items.iter().filter(|_| depth_left > 0) {
                put_message_field(out, 1, |out| put_within(out, item, chars_max, depth_left - 1));
            }
        }),
        AnyValue::Map(entries) => put_message_field(out, 6, |out| {
            for (key, value) in entries.iter().filter(|_| depth_left > 0) {
                put_message_field(out, 1, |out| {
                    put_bytes_field(out, 1, key.as_str().as_bytes());
                    put_message_field(out, 2, |out| put_within(out, value, chars_max, depth_left - 1));
                });
            }
        }),
        _ => {} // a kind of value that this version does not know
    }
}
