//! Writers of log requests, which append to a buffer and allocate only where it must grow.
//!
//! ```
//! use watchbell_proto::otlp::common::AnyValue;
//! use watchbell_proto::otlp::encode;
//! use watchbell_proto::otlp::logs::LogsRequest;
//!
//! let resource = encode::resource([("service.name", AnyValue::String("checkout"))]);
//! let scope = encode::scope("checkout::payment", "");
//! let mut request = Vec::new();
//! encode::put_resource_logs(&mut request, &resource, |out| {
//!     encode::put_scope_logs(out, &scope, |out| {
//!         encode::put_log_record(out, |record| {
//!             record.time_unix_nano(1_700_000_000_000_000_000);
//!             record.severity_number(17);
//!             record.body(&AnyValue::String("payment refused"));
//!             record.attribute("amount", &AnyValue::Int(4200));
//!         });
//!     });
//! });
//! let (_, _, record) = LogsRequest::new(&request).records().next().unwrap();
//! assert_eq!(record.body().unwrap().as_str(), Some("payment refused"));
//! ```

use std::fmt;

use super::common::{AnyValue, KeyValues};
use crate::wire::*;

/// Appends `ExportLogsServiceRequest.resource_logs`: an encoded resource (see [`resource`]), then what `scope_logs` appends.
pub fn put_resource_logs(out: &mut Vec<u8>, resource: &[u8], scope_logs: impl FnOnce(&mut Vec<u8>)) {
    put_message_field(out, 1, |out| {
        put_bytes_field(out, 1, resource);
        scope_logs(out);
    });
}

/// Appends `ResourceLogs.scope_logs`: an encoded scope (see [`scope`]), then what `log_records` appends.
pub fn put_scope_logs(out: &mut Vec<u8>, scope: &[u8], log_records: impl FnOnce(&mut Vec<u8>)) {
    put_message_field(out, 2, |out| {
        put_bytes_field(out, 1, scope);
        log_records(out);
    });
}

/// Appends `ScopeLogs.log_records`: the fields that `write` sets.
#[inline]
pub fn put_log_record(out: &mut Vec<u8>, write: impl FnOnce(&mut LogRecordWriter<'_>)) {
    put_message_field(out, 2, |out| write(&mut LogRecordWriter { out }));
}

/// An encoded `Resource`.
pub fn resource<'a>(attributes: impl IntoIterator<Item = (&'a str, AnyValue<'a>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attributes {
        put_key_value_field(&mut out, 1, key, &value);
    }
    out
}

/// An encoded `InstrumentationScope`.
pub fn scope(name: &str, version: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text_field(&mut out, 1, name);
    put_text_field(&mut out, 2, version);
    out
}

/// Appends the fields of a `LogRecord`, in any order, each at most once but for attributes. Defaults are left out.
#[derive(Debug)]
pub struct LogRecordWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> LogRecordWriter<'o> {
    /// A writer of the content of a `LogRecord`, without its head.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// `time_unix_nano`
    #[inline]
    pub fn time_unix_nano(&mut self, time: u64) {
        if time != 0 {
            put_fixed64_field(self.out, 1, time);
        }
    }

    /// `observed_time_unix_nano`
    #[inline]
    pub fn observed_time_unix_nano(&mut self, time: u64) {
        if time != 0 {
            put_fixed64_field(self.out, 11, time);
        }
    }

    /// `severity_number`
    #[inline]
    pub fn severity_number(&mut self, number: i32) {
        if number != 0 {
            put_varint_field(self.out, 2, i64::from(number) as u64);
        }
    }

    /// `severity_text`
    #[inline]
    pub fn severity_text(&mut self, text: &str) {
        put_text_field(self.out, 3, text);
    }

    /// `body`
    #[inline]
    pub fn body(&mut self, body: &AnyValue<'_>) {
        put_any_value_field(self.out, 5, body);
    }

    /// `body`, a string that is formatted in place.
    #[inline]
    pub fn body_fmt(&mut self, body: fmt::Arguments<'_>) {
        put_message_field(self.out, 5, |out| put_fmt_field(out, 1, body));
    }

    /// One of `attributes`.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: &AnyValue<'_>) {
        put_key_value_field(self.out, 6, key, value);
    }

    /// One of `attributes`, a string that is formatted in place.
    #[inline]
    pub fn attribute_fmt(&mut self, key: &str, value: fmt::Arguments<'_>) {
        put_message_field(self.out, 6, |out| {
            put_bytes_field(out, 1, key.as_bytes());
            put_message_field(out, 2, |out| put_fmt_field(out, 1, value));
        });
    }

    /// `dropped_attributes_count`
    #[inline]
    pub fn dropped_attributes_count(&mut self, count: u32) {
        if count != 0 {
            put_varint_field(self.out, 7, u64::from(count));
        }
    }

    /// `flags`
    #[inline]
    pub fn flags(&mut self, flags: u32) {
        if flags != 0 {
            put_fixed32_field(self.out, 8, flags);
        }
    }

    /// `trace_id` and `span_id`
    #[inline]
    pub fn trace_context(&mut self, trace_id: &[u8; 16], span_id: &[u8; 8]) {
        put_bytes_field(self.out, 9, trace_id);
        put_bytes_field(self.out, 10, span_id);
    }

    /// `event_name`
    #[inline]
    pub fn event_name(&mut self, name: &str) {
        put_text_field(self.out, 12, name);
    }

    /// Fields that were encoded before, by another `LogRecordWriter`: what is the same in all records of a callsite.
    #[inline]
    pub fn encoded(&mut self, fields: &[u8]) {
        self.out.extend_from_slice(fields);
    }
}

/// Appends a `KeyValue` as the field with that number: 6 in a log record, 1 in a resource or a `KeyValueList`, 3 in a scope.
#[inline]
pub fn put_key_value_field(out: &mut Vec<u8>, number: u32, key: &str, value: &AnyValue<'_>) {
    let key_len = bytes_field_len(key.len());
    put_bytes_header(out, number, key_len + bytes_field_len(any_value_len(value)));
    put_bytes_field(out, 1, key.as_bytes());
    put_any_value_field(out, 2, value);
}

/// Appends an `AnyValue` as the field with that number: 5 for a log record's body, 2 in a `KeyValue`, 1 in an `ArrayValue`.
#[inline]
pub fn put_any_value_field(out: &mut Vec<u8>, number: u32, value: &AnyValue<'_>) {
    put_bytes_header(out, number, any_value_len(value));
    match value {
        AnyValue::Empty => {}
        AnyValue::String(text) => put_bytes_field(out, 1, text.as_bytes()),
        AnyValue::Bool(value) => put_varint_field(out, 2, u64::from(*value)),
        AnyValue::Int(value) => put_varint_field(out, 3, *value as u64),
        AnyValue::Double(value) => put_fixed64_field(out, 4, value.to_bits()),
        AnyValue::Array(values) => put_bytes_field(out, 5, values.rest()),
        AnyValue::KeyValueList(entries) => {
            put_bytes_header(out, 6, list_len(entries));
            for entry in entries.clone() {
                put_bytes_field(out, 1, entry.raw);
            }
        }
        AnyValue::Bytes(bytes) => put_bytes_field(out, 7, bytes),
        AnyValue::StringIndex(index) => put_varint_field(out, 8, i64::from(*index) as u64),
    }
}

/// Size of an encoded `AnyValue`.
#[inline]
fn any_value_len(value: &AnyValue<'_>) -> usize {
    match value {
        AnyValue::Empty => 0,
        AnyValue::String(text) => bytes_field_len(text.len()),
        AnyValue::Bool(_) => 2,
        AnyValue::Int(value) => 1 + varint_len(*value as u64),
        AnyValue::Double(_) => 9,
        AnyValue::Array(values) => bytes_field_len(values.rest().len()),
        AnyValue::KeyValueList(entries) => bytes_field_len(list_len(entries)),
        AnyValue::Bytes(bytes) => bytes_field_len(bytes.len()),
        AnyValue::StringIndex(index) => 1 + varint_len(i64::from(*index) as u64),
    }
}

/// Size of an encoded `KeyValueList`; attributes have another field number, so it is not the size of what was read.
fn list_len(entries: &KeyValues<'_>) -> usize {
    entries.clone().map(|entry| bytes_field_len(entry.raw.len())).sum()
}

/// Size of a length-delimited field with a number up to 15.
#[inline]
fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[inline]
fn put_text_field(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes_field(out, number, text.as_bytes());
    }
}

#[inline]
fn put_fmt_field(out: &mut Vec<u8>, number: u32, text: fmt::Arguments<'_>) {
    put_message_field(out, number, |out| match text.as_str() {
        Some(text) => out.extend_from_slice(text.as_bytes()),
        // A `Display` that fails leaves what it wrote so far: a log call has nobody to tell.
        None => drop(fmt::write(&mut Text(out), text)),
    });
}

struct Text<'o>(&'o mut Vec<u8>);

impl fmt::Write for Text<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::logs::LogsRequest;
    use crate::otlp::{Signal, generate, merge_repeated};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn what_is_read_is_written_again(bytes in generate::request(Signal::Logs)) {
            let bytes = merge_repeated(Signal::Logs, &bytes).unwrap();
            let mut expected = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
            let mut written = Vec::new();
            for resource_logs in LogsRequest::new(&bytes).resource_logs() {
                put_resource_logs(&mut written, resource_logs.resource().raw, |out| {
                    for scope_logs in resource_logs.scope_logs() {
                        put_scope_logs(out, scope_logs.scope().raw, |out| {
                            scope_logs.log_records().for_each(|record| write_again(out, &record));
                        });
                    }
                });
            }
            for resource_logs in &mut expected.resource_logs {
                resource_logs.schema_url.clear();
                resource_logs.resource.get_or_insert_default();
                for scope_logs in &mut resource_logs.scope_logs {
                    scope_logs.schema_url.clear();
                    scope_logs.scope.get_or_insert_default();
                    scope_logs.log_records.iter_mut().for_each(forget_what_is_not_written);
                }
            }
            let written = ExportLogsServiceRequest::decode(&written[..]).unwrap();
            prop_assert_eq!(format!("{written:?}"), format!("{expected:?}"));
        }
    }

    fn write_again(out: &mut Vec<u8>, record: &crate::otlp::logs::LogRecord<'_>) {
        put_log_record(out, |writer| {
            writer.time_unix_nano(record.time_unix_nano);
            writer.observed_time_unix_nano(record.observed_time_unix_nano);
            writer.severity_number(record.severity_number);
            writer.severity_text(record.severity_text());
            if let Some(body) = record.body() {
                writer.body(&body);
            }
            for attribute in record.attributes() {
                writer.attribute(attribute.key(), &attribute.value());
            }
            writer.dropped_attributes_count(record.dropped_attributes_count);
            writer.flags(record.flags);
            writer.event_name(record.event_name());
        });
    }

    fn forget_what_is_not_written(record: &mut opentelemetry_proto::tonic::logs::v1::LogRecord) {
        record.trace_id.clear();
        record.span_id.clear();
        for attribute in &mut record.attributes {
            attribute.key_strindex = 0;
            attribute.value.get_or_insert_default();
        }
    }

    #[test]
    fn text_is_formatted_in_place() {
        let mut out = Vec::new();
        LogRecordWriter::new(&mut out).body_fmt(format_args!("{} of {:?}", 1, "x".repeat(200)));
        LogRecordWriter::new(&mut out).attribute_fmt("k", format_args!("plain"));
        LogRecordWriter::new(&mut out).trace_context(&[1; 16], &[2; 8]);
        let record = crate::otlp::logs::LogRecord::new(&out);
        assert_eq!(record.body().unwrap().as_str().unwrap(), format!("1 of {:?}", "x".repeat(200)));
        assert_eq!(record.attributes().get("k").unwrap().as_str(), Some("plain"));
        assert_eq!((record.trace_id, record.span_id), (&[1; 16][..], &[2; 8][..]));
    }
}
