//! Records for tests, and the OTLP bytes that they arrive as.

use std::time::Duration;

use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::time::Timestamp;

/// 2026-01-01T00:00:00Z: where the cases' times count from.
pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// A record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TestRecord {
    /// Its `time_unix_nano`.
    pub time: Timestamp,
    /// Its `service.name`; none where empty.
    pub service: String,
    /// Its `severity_number`.
    pub severity: i32,
    /// Its body.
    pub body: String,
    /// Its attributes; `trace_id` and `span_id` (hexadecimal digits, filled up with zeros) become the record's own.
    pub attributes: Vec<(String, String)>,
}

/// The records as one request, neighbours of one service under one resource.
pub(crate) fn batch(records: &[TestRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    for records in records.chunk_by(|a, b| a.service == b.service) {
        let service = &*records[0].service;
        let attributes = (!service.is_empty()).then_some(("service.name", AnyValue::String(service)));
        let resource = encode::resource(attributes);
        encode::put_resource_logs(&mut out, &resource, |out| {
            encode::put_scope_logs(out, &encode::scope("test", "1"), |out| {
                records.iter().for_each(|record| put(out, record))
            });
        });
    }
    out
}

fn put(out: &mut Vec<u8>, record: &TestRecord) {
    encode::put_log_record(out, |out| {
        out.time_unix_nano(record.time.0 as u64);
        out.severity_number(record.severity);
        out.body(&AnyValue::String(&record.body));
        let id = |name: &str| record.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        for (key, value) in record.attributes.iter().filter(|(key, _)| key != "trace_id" && key != "span_id") {
            match value.parse() {
                Ok(number) => out.attribute(key, &AnyValue::Int(number)),
                Err(_) => out.attribute(key, &AnyValue::String(value)),
            }
        }
        out.trace_context(&bytes(id("trace_id")), &bytes(id("span_id")));
    });
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    bytes
}

/// So long after the start.
pub(crate) fn after(duration: Duration) -> Timestamp {
    START + duration
}
