//! Views of a log request: request, resource, scope, record.

use std::ops::Range;

use super::common::{AnyValue, KeyValues, Scope, last_text, message, messages, text};
use super::resource::Resource;
use super::{Limits, Signal, validate};
use crate::wire::{DecodeError, Fields, Value};

/// `ExportLogsServiceRequest`, or `LogsData`, which is the same on the wire.
#[derive(Clone, Copy, Debug)]
pub struct LogsRequest<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> LogsRequest<'a> {
    /// A request that was checked before.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// A request of unknown origin: checks all of it.
    pub fn validate(raw: &'a [u8]) -> Result<Self, DecodeError> {
        validate(Signal::Logs, raw, &Limits::NONE)?;
        Ok(Self { raw })
    }

    /// `resource_logs`
    #[inline]
    pub fn resource_logs(&self) -> impl Iterator<Item = ResourceLogs<'a>> + Clone + use<'a> {
        messages(self.raw, 1).map(|raw| ResourceLogs { raw })
    }

    /// Every record with its resource and scope, in the order of the bytes.
    #[inline]
    pub fn records(&self) -> impl Iterator<Item = (Resource<'a>, Scope<'a>, LogRecord<'a>)> + use<'a> {
        self.resource_logs().flat_map(|resource_logs| {
            let resource = resource_logs.resource();
            resource_logs.scope_logs().flat_map(move |scope_logs| {
                let scope = scope_logs.scope();
                scope_logs.log_records().map(move |record| (resource, scope, record))
            })
        })
    }

    /// Where in the request the bytes of one of its parts are (`raw` of a view).
    pub fn range_of(&self, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize).wrapping_sub(self.raw.as_ptr() as usize);
        assert!(start <= self.raw.len() && part.len() <= self.raw.len() - start, "a part of another request");
        start..start + part.len()
    }
}

/// The records of one resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceLogs<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> ResourceLogs<'a> {
    /// `resource`; one without attributes where there is none.
    pub fn resource(&self) -> Resource<'a> {
        Resource { raw: message(self.raw, 1).unwrap_or_default() }
    }

    /// `scope_logs`
    #[inline]
    pub fn scope_logs(&self) -> impl Iterator<Item = ScopeLogs<'a>> + Clone + use<'a> {
        messages(self.raw, 2).map(|raw| ScopeLogs { raw })
    }

    /// `schema_url`
    pub fn schema_url(&self) -> &'a str {
        last_text(self.raw, 3)
    }
}

/// The records of one scope.
#[derive(Clone, Copy, Debug)]
pub struct ScopeLogs<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> ScopeLogs<'a> {
    /// `scope`; one without name where there is none.
    pub fn scope(&self) -> Scope<'a> {
        Scope { raw: message(self.raw, 1).unwrap_or_default() }
    }

    /// `log_records`
    #[inline]
    pub fn log_records(&self) -> impl Iterator<Item = LogRecord<'a>> + Clone + use<'a> {
        messages(self.raw, 2).map(LogRecord::new)
    }

    /// `schema_url`
    pub fn schema_url(&self) -> &'a str {
        last_text(self.raw, 3)
    }
}

/// One log record. Reading it looks at each of its fields once and into none.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRecord<'a> {
    /// The encoded message: what evidence keeps.
    pub raw: &'a [u8],
    /// When it happened, in nanoseconds of Unix time; 0 where unknown.
    pub time_unix_nano: u64,
    /// When it was first seen, in nanoseconds of Unix time; 0 where unknown.
    pub observed_time_unix_nano: u64,
    /// 1 to 24; 0 where unset.
    pub severity_number: i32,
    /// The bytes of `severity_text`.
    pub severity_text_bytes: &'a [u8],
    /// The encoded `AnyValue` of the body, if there is one.
    pub body_bytes: Option<&'a [u8]>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Trace flags in the low byte.
    pub flags: u32,
    /// 16 bytes, or none; the length is not checked.
    pub trace_id: &'a [u8],
    /// 8 bytes, or none; the length is not checked.
    pub span_id: &'a [u8],
    /// The bytes of `event_name`.
    pub event_name_bytes: &'a [u8],
    /// From the first attribute to the end of the last one.
    attributes: &'a [u8],
}

impl<'a> LogRecord<'a> {
    /// Reads a `LogRecord` message.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        let mut this = Self { raw, ..Self::default() };
        let mut fields = Fields::new(raw);
        let (mut first_attribute, mut last_attribute) = (raw.len(), raw.len());
        loop {
            let start = raw.len() - fields.rest().len();
            let Some(field) = fields.next() else { break };
            match field {
                (1, Value::Fixed64(time)) => this.time_unix_nano = time,
                (2, Value::Varint(number)) => this.severity_number = number as i32,
                (3, Value::Bytes(text)) => this.severity_text_bytes = text,
                (5, Value::Bytes(body)) => this.body_bytes = Some(body),
                (6, Value::Bytes(_)) => {
                    first_attribute = first_attribute.min(start);
                    last_attribute = raw.len() - fields.rest().len();
                }
                (7, Value::Varint(count)) => this.dropped_attributes_count = count as u32,
                (8, Value::Fixed32(flags)) => this.flags = flags,
                (9, Value::Bytes(id)) => this.trace_id = id,
                (10, Value::Bytes(id)) => this.span_id = id,
                (11, Value::Fixed64(time)) => this.observed_time_unix_nano = time,
                (12, Value::Bytes(name)) => this.event_name_bytes = name,
                _ => {}
            }
        }
        this.attributes = &raw[first_attribute..last_attribute];
        this
    }

    /// `severity_text`
    #[inline]
    pub fn severity_text(&self) -> &'a str {
        text(self.severity_text_bytes)
    }

    /// `body`
    #[inline]
    pub fn body(&self) -> Option<AnyValue<'a>> {
        self.body_bytes.map(AnyValue::new)
    }

    /// `attributes`
    #[inline]
    pub fn attributes(&self) -> KeyValues<'a> {
        KeyValues::new(self.attributes, 6)
    }

    /// `event_name`
    #[inline]
    pub fn event_name(&self) -> &'a str {
        text(self.event_name_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::generate;
    use crate::otlp::merge_repeated;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1 as pb_common;
    use opentelemetry_proto::tonic::logs::v1 as pb;
    use opentelemetry_proto::tonic::resource::v1 as pb_resource;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn views_read_what_prost_reads(bytes in generate::request(Signal::Logs)) {
            let expected = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
            let merged = merge_repeated(Signal::Logs, &bytes).unwrap();
            let read = owned_request(&LogsRequest::validate(&merged).unwrap());
            prop_assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        }

        #[test]
        fn views_of_unchecked_bytes_end_somewhere(bytes in generate::broken_request(Signal::Logs)) {
            let request = LogsRequest::new(&bytes);
            let _ = owned_request(&request);
            for (_, _, record) in request.records() {
                prop_assert_eq!(&bytes[request.range_of(record.raw)], record.raw);
            }
        }
    }

    fn owned_request(request: &LogsRequest<'_>) -> ExportLogsServiceRequest {
        let resource_logs = request.resource_logs().map(|resource_logs| pb::ResourceLogs {
            resource: message(resource_logs.raw, 1).map(|_| owned_resource(&resource_logs.resource())),
            scope_logs: resource_logs.scope_logs().map(|scope_logs| owned_scope_logs(&scope_logs)).collect(),
            schema_url: resource_logs.schema_url().into(),
        });
        ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
    }

    fn owned_resource(resource: &Resource<'_>) -> pb_resource::Resource {
        let entity_refs = messages(resource.raw, 3).map(|raw| pb_common::EntityRef::decode(raw).unwrap_or_default());
        pb_resource::Resource {
            attributes: owned_key_values(resource.attributes()),
            dropped_attributes_count: resource.dropped_attributes_count(),
            entity_refs: entity_refs.collect(),
        }
    }

    fn owned_scope_logs(scope_logs: &ScopeLogs<'_>) -> pb::ScopeLogs {
        let scope = scope_logs.scope();
        pb::ScopeLogs {
            scope: message(scope_logs.raw, 1).map(|_| pb_common::InstrumentationScope {
                name: scope.name().into(),
                version: scope.version().into(),
                attributes: owned_key_values(scope.attributes()),
                dropped_attributes_count: scope.dropped_attributes_count(),
            }),
            log_records: scope_logs.log_records().map(|record| owned_record(&record)).collect(),
            schema_url: scope_logs.schema_url().into(),
        }
    }

    fn owned_record(record: &LogRecord<'_>) -> pb::LogRecord {
        pb::LogRecord {
            time_unix_nano: record.time_unix_nano,
            observed_time_unix_nano: record.observed_time_unix_nano,
            severity_number: record.severity_number,
            severity_text: record.severity_text().into(),
            body: record.body().map(owned_value),
            attributes: owned_key_values(record.attributes()),
            dropped_attributes_count: record.dropped_attributes_count,
            flags: record.flags,
            trace_id: record.trace_id.into(),
            span_id: record.span_id.into(),
            event_name: record.event_name().into(),
        }
    }

    fn owned_key_values(key_values: KeyValues<'_>) -> Vec<pb_common::KeyValue> {
        let owned = key_values.map(|entry| pb_common::KeyValue {
            key: entry.key().into(),
            value: entry.value_bytes.map(|_| owned_value(entry.value())),
            key_strindex: entry.key_strindex(),
        });
        owned.collect()
    }

    fn owned_value(value: AnyValue<'_>) -> pb_common::AnyValue {
        use pb_common::any_value::Value;
        let value = match value {
            AnyValue::Empty => None,
            AnyValue::String(text) => Some(Value::StringValue(text.into())),
            AnyValue::Bool(value) => Some(Value::BoolValue(value)),
            AnyValue::Int(value) => Some(Value::IntValue(value)),
            AnyValue::Double(value) => Some(Value::DoubleValue(value)),
            AnyValue::Array(values) => {
                Some(Value::ArrayValue(pb_common::ArrayValue { values: values.map(owned_value).collect() }))
            }
            AnyValue::KeyValueList(entries) => {
                Some(Value::KvlistValue(pb_common::KeyValueList { values: owned_key_values(entries) }))
            }
            AnyValue::Bytes(bytes) => Some(Value::BytesValue(bytes.into())),
            AnyValue::StringIndex(index) => Some(Value::StringValueStrindex(index)),
        };
        pb_common::AnyValue { value }
    }
}
