//! OTLP's messages as tables, which the check at the door, JSON and the rewriting of requests share.
//! A test compares them with the `.proto` files, field by field.

use super::Signal;

/// A message type.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its full name without `opentelemetry.proto.`.
    pub(crate) name: &'static str,
    /// Its fields, by ascending number.
    pub(crate) fields: &'static [Field],
    /// What a record of it is judged by, where its messages are what a signal counts.
    pub(crate) record: Option<Record>,
    /// Whether records are somewhere inside it.
    pub(crate) holds_records: bool,
    /// The field of the attributes that records beside it share: of a resource or a scope.
    pub(crate) shared_attributes: Option<u32>,
    /// Index into `fields` by number, `NO_FIELD` where there is none.
    by_number: [u8; FIELD_NUMBER_MAX as usize + 1],
}

/// The greatest field number in OTLP.
const FIELD_NUMBER_MAX: u32 = 16;
const NO_FIELD: u8 = u8::MAX;

/// The field numbers that matter in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// The time of the event, `fixed64`.
    pub(crate) time: u32,
    /// What stands in where that is 0; 0 where there is no such field.
    pub(crate) fallback_time: u32,
    /// The attributes.
    pub(crate) attributes: u32,
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) label: Label,
}

/// How often a field may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// Once; absent means the default. Also `optional`: nothing here needs to tell the two apart.
    One,
    /// Any number of times; numbers are packed.
    Many,
    /// Once, and no other of the message's `oneof` with it. No message has two of them.
    Oneof,
}

/// A field's type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Double,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Bool,
    String,
    Bytes,
    /// Bytes that are hex digits in JSON: trace and span ids.
    Id,
    Enum(&'static Enum),
    Message(&'static Message),
}

/// An enum: its values are the index of their names.
#[derive(Debug)]
pub(crate) struct Enum {
    pub(crate) names: &'static [&'static str],
}

impl Message {
    /// The field with that number.
    #[inline]
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        let index = *self.by_number.get(number as usize)?;
        self.fields.get(usize::from(index))
    }

    /// The message of a signal's request.
    pub(crate) fn request(signal: Signal) -> &'static Self {
        match signal {
            Signal::Logs => &LOGS_REQUEST,
            Signal::Traces => &TRACE_REQUEST,
            Signal::Metrics => &METRICS_REQUEST,
        }
    }

    /// A message without records in it.
    pub(crate) const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        let mut by_number = [NO_FIELD; FIELD_NUMBER_MAX as usize + 1];
        let mut i = 0;
        while i < fields.len() {
            by_number[fields[i].number as usize] = i as u8;
            i += 1;
        }
        Self { name, fields, record: None, holds_records: false, shared_attributes: None, by_number }
    }

    const fn holding_records(name: &'static str, fields: &'static [Field]) -> Self {
        Self { holds_records: true, ..Self::new(name, fields) }
    }

    const fn sharing(attributes: u32, name: &'static str, fields: &'static [Field]) -> Self {
        Self { shared_attributes: Some(attributes), ..Self::new(name, fields) }
    }

    const fn of_record(record: Record, name: &'static str, fields: &'static [Field]) -> Self {
        Self { record: Some(record), ..Self::new(name, fields) }
    }
}

/// A field that is there once.
pub(crate) const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::One }
}

/// A field that is there any number of times.
pub(crate) const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::Many }
}

const fn oneof(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::Oneof }
}

const fn attributes(number: u32) -> Field {
    many(number, "attributes", Kind::Message(&KEY_VALUE))
}

// common, resource

static ANY_VALUE: Message = Message::new(
    "common.v1.AnyValue",
    &[
        oneof(1, "string_value", Kind::String),
        oneof(2, "bool_value", Kind::Bool),
        oneof(3, "int_value", Kind::Int64),
        oneof(4, "double_value", Kind::Double),
        oneof(5, "array_value", Kind::Message(&ARRAY_VALUE)),
        oneof(6, "kvlist_value", Kind::Message(&KEY_VALUE_LIST)),
        oneof(7, "bytes_value", Kind::Bytes),
        oneof(8, "string_value_strindex", Kind::Int32),
    ],
);

static ARRAY_VALUE: Message = Message::new("common.v1.ArrayValue", &[many(1, "values", Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message =
    Message::new("common.v1.KeyValueList", &[many(1, "values", Kind::Message(&KEY_VALUE))]);

static KEY_VALUE: Message = Message::new(
    "common.v1.KeyValue",
    &[one(1, "key", Kind::String), one(2, "value", Kind::Message(&ANY_VALUE)), one(3, "key_strindex", Kind::Int32)],
);

static SCOPE: Message = Message::sharing(
    3,
    "common.v1.InstrumentationScope",
    &[
        one(1, "name", Kind::String),
        one(2, "version", Kind::String),
        attributes(3),
        one(4, "dropped_attributes_count", Kind::Uint32),
    ],
);

static ENTITY_REF: Message = Message::new(
    "common.v1.EntityRef",
    &[
        one(1, "schema_url", Kind::String),
        one(2, "type", Kind::String),
        many(3, "id_keys", Kind::String),
        many(4, "description_keys", Kind::String),
    ],
);

static RESOURCE: Message = Message::sharing(
    1,
    "resource.v1.Resource",
    &[
        attributes(1),
        one(2, "dropped_attributes_count", Kind::Uint32),
        many(3, "entity_refs", Kind::Message(&ENTITY_REF)),
    ],
);

// logs

static LOGS_REQUEST: Message = Message::holding_records(
    "collector.logs.v1.ExportLogsServiceRequest",
    &[many(1, "resource_logs", Kind::Message(&RESOURCE_LOGS))],
);

static RESOURCE_LOGS: Message = Message::holding_records(
    "logs.v1.ResourceLogs",
    &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scope_logs", Kind::Message(&SCOPE_LOGS)),
        one(3, "schema_url", Kind::String),
    ],
);

static SCOPE_LOGS: Message = Message::holding_records(
    "logs.v1.ScopeLogs",
    &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "log_records", Kind::Message(&LOG_RECORD)),
        one(3, "schema_url", Kind::String),
    ],
);

static LOG_RECORD: Message = Message::of_record(
    Record { time: 1, fallback_time: 11, attributes: 6 },
    "logs.v1.LogRecord",
    &[
        one(1, "time_unix_nano", Kind::Fixed64),
        one(2, "severity_number", Kind::Enum(&SEVERITY_NUMBER)),
        one(3, "severity_text", Kind::String),
        one(5, "body", Kind::Message(&ANY_VALUE)),
        attributes(6),
        one(7, "dropped_attributes_count", Kind::Uint32),
        one(8, "flags", Kind::Fixed32),
        one(9, "trace_id", Kind::Id),
        one(10, "span_id", Kind::Id),
        one(11, "observed_time_unix_nano", Kind::Fixed64),
        one(12, "event_name", Kind::String),
    ],
);

static SEVERITY_NUMBER: Enum = Enum {
    names: &[
        "SEVERITY_NUMBER_UNSPECIFIED",
        "SEVERITY_NUMBER_TRACE",
        "SEVERITY_NUMBER_TRACE2",
        "SEVERITY_NUMBER_TRACE3",
        "SEVERITY_NUMBER_TRACE4",
        "SEVERITY_NUMBER_DEBUG",
        "SEVERITY_NUMBER_DEBUG2",
        "SEVERITY_NUMBER_DEBUG3",
        "SEVERITY_NUMBER_DEBUG4",
        "SEVERITY_NUMBER_INFO",
        "SEVERITY_NUMBER_INFO2",
        "SEVERITY_NUMBER_INFO3",
        "SEVERITY_NUMBER_INFO4",
        "SEVERITY_NUMBER_WARN",
        "SEVERITY_NUMBER_WARN2",
        "SEVERITY_NUMBER_WARN3",
        "SEVERITY_NUMBER_WARN4",
        "SEVERITY_NUMBER_ERROR",
        "SEVERITY_NUMBER_ERROR2",
        "SEVERITY_NUMBER_ERROR3",
        "SEVERITY_NUMBER_ERROR4",
        "SEVERITY_NUMBER_FATAL",
        "SEVERITY_NUMBER_FATAL2",
        "SEVERITY_NUMBER_FATAL3",
        "SEVERITY_NUMBER_FATAL4",
    ],
};

// traces

static TRACE_REQUEST: Message = Message::holding_records(
    "collector.trace.v1.ExportTraceServiceRequest",
    &[many(1, "resource_spans", Kind::Message(&RESOURCE_SPANS))],
);

static RESOURCE_SPANS: Message = Message::holding_records(
    "trace.v1.ResourceSpans",
    &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scope_spans", Kind::Message(&SCOPE_SPANS)),
        one(3, "schema_url", Kind::String),
    ],
);

static SCOPE_SPANS: Message = Message::holding_records(
    "trace.v1.ScopeSpans",
    &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "spans", Kind::Message(&SPAN)),
        one(3, "schema_url", Kind::String),
    ],
);

static SPAN: Message = Message::of_record(
    Record { time: 7, fallback_time: 8, attributes: 9 },
    "trace.v1.Span",
    &[
        one(1, "trace_id", Kind::Id),
        one(2, "span_id", Kind::Id),
        one(3, "trace_state", Kind::String),
        one(4, "parent_span_id", Kind::Id),
        one(5, "name", Kind::String),
        one(6, "kind", Kind::Enum(&SPAN_KIND)),
        one(7, "start_time_unix_nano", Kind::Fixed64),
        one(8, "end_time_unix_nano", Kind::Fixed64),
        attributes(9),
        one(10, "dropped_attributes_count", Kind::Uint32),
        many(11, "events", Kind::Message(&SPAN_EVENT)),
        one(12, "dropped_events_count", Kind::Uint32),
        many(13, "links", Kind::Message(&SPAN_LINK)),
        one(14, "dropped_links_count", Kind::Uint32),
        one(15, "status", Kind::Message(&STATUS)),
        one(16, "flags", Kind::Fixed32),
    ],
);

static SPAN_KIND: Enum = Enum {
    names: &[
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ],
};

static SPAN_EVENT: Message = Message::new(
    "trace.v1.Span.Event",
    &[
        one(1, "time_unix_nano", Kind::Fixed64),
        one(2, "name", Kind::String),
        attributes(3),
        one(4, "dropped_attributes_count", Kind::Uint32),
    ],
);

static SPAN_LINK: Message = Message::new(
    "trace.v1.Span.Link",
    &[
        one(1, "trace_id", Kind::Id),
        one(2, "span_id", Kind::Id),
        one(3, "trace_state", Kind::String),
        attributes(4),
        one(5, "dropped_attributes_count", Kind::Uint32),
        one(6, "flags", Kind::Fixed32),
    ],
);

static STATUS: Message =
    Message::new("trace.v1.Status", &[one(2, "message", Kind::String), one(3, "code", Kind::Enum(&STATUS_CODE))]);

static STATUS_CODE: Enum = Enum { names: &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"] };

// metrics

static METRICS_REQUEST: Message = Message::holding_records(
    "collector.metrics.v1.ExportMetricsServiceRequest",
    &[many(1, "resource_metrics", Kind::Message(&RESOURCE_METRICS))],
);

static RESOURCE_METRICS: Message = Message::holding_records(
    "metrics.v1.ResourceMetrics",
    &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scope_metrics", Kind::Message(&SCOPE_METRICS)),
        one(3, "schema_url", Kind::String),
    ],
);

static SCOPE_METRICS: Message = Message::holding_records(
    "metrics.v1.ScopeMetrics",
    &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "metrics", Kind::Message(&METRIC)),
        one(3, "schema_url", Kind::String),
    ],
);

static METRIC: Message = Message::holding_records(
    "metrics.v1.Metric",
    &[
        one(1, "name", Kind::String),
        one(2, "description", Kind::String),
        one(3, "unit", Kind::String),
        oneof(5, "gauge", Kind::Message(&GAUGE)),
        oneof(7, "sum", Kind::Message(&SUM)),
        oneof(9, "histogram", Kind::Message(&HISTOGRAM)),
        oneof(10, "exponential_histogram", Kind::Message(&EXPONENTIAL_HISTOGRAM)),
        oneof(11, "summary", Kind::Message(&SUMMARY)),
        many(12, "metadata", Kind::Message(&KEY_VALUE)),
    ],
);

static GAUGE: Message =
    Message::holding_records("metrics.v1.Gauge", &[many(1, "data_points", Kind::Message(&NUMBER_DATA_POINT))]);

static SUM: Message = Message::holding_records(
    "metrics.v1.Sum",
    &[
        many(1, "data_points", Kind::Message(&NUMBER_DATA_POINT)),
        one(2, "aggregation_temporality", Kind::Enum(&AGGREGATION_TEMPORALITY)),
        one(3, "is_monotonic", Kind::Bool),
    ],
);

static HISTOGRAM: Message = Message::holding_records(
    "metrics.v1.Histogram",
    &[
        many(1, "data_points", Kind::Message(&HISTOGRAM_DATA_POINT)),
        one(2, "aggregation_temporality", Kind::Enum(&AGGREGATION_TEMPORALITY)),
    ],
);

static EXPONENTIAL_HISTOGRAM: Message = Message::holding_records(
    "metrics.v1.ExponentialHistogram",
    &[
        many(1, "data_points", Kind::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
        one(2, "aggregation_temporality", Kind::Enum(&AGGREGATION_TEMPORALITY)),
    ],
);

static SUMMARY: Message =
    Message::holding_records("metrics.v1.Summary", &[many(1, "data_points", Kind::Message(&SUMMARY_DATA_POINT))]);

static AGGREGATION_TEMPORALITY: Enum = Enum {
    names: &[
        "AGGREGATION_TEMPORALITY_UNSPECIFIED",
        "AGGREGATION_TEMPORALITY_DELTA",
        "AGGREGATION_TEMPORALITY_CUMULATIVE",
    ],
};

static NUMBER_DATA_POINT: Message = Message::of_record(
    Record { time: 3, fallback_time: 0, attributes: 7 },
    "metrics.v1.NumberDataPoint",
    &[
        one(2, "start_time_unix_nano", Kind::Fixed64),
        one(3, "time_unix_nano", Kind::Fixed64),
        oneof(4, "as_double", Kind::Double),
        many(5, "exemplars", Kind::Message(&EXEMPLAR)),
        oneof(6, "as_int", Kind::Sfixed64),
        attributes(7),
        one(8, "flags", Kind::Uint32),
    ],
);

static HISTOGRAM_DATA_POINT: Message = Message::of_record(
    Record { time: 3, fallback_time: 0, attributes: 9 },
    "metrics.v1.HistogramDataPoint",
    &[
        one(2, "start_time_unix_nano", Kind::Fixed64),
        one(3, "time_unix_nano", Kind::Fixed64),
        one(4, "count", Kind::Fixed64),
        one(5, "sum", Kind::Double),
        many(6, "bucket_counts", Kind::Fixed64),
        many(7, "explicit_bounds", Kind::Double),
        many(8, "exemplars", Kind::Message(&EXEMPLAR)),
        attributes(9),
        one(10, "flags", Kind::Uint32),
        one(11, "min", Kind::Double),
        one(12, "max", Kind::Double),
    ],
);

static EXPONENTIAL_HISTOGRAM_DATA_POINT: Message = Message::of_record(
    Record { time: 3, fallback_time: 0, attributes: 1 },
    "metrics.v1.ExponentialHistogramDataPoint",
    &[
        attributes(1),
        one(2, "start_time_unix_nano", Kind::Fixed64),
        one(3, "time_unix_nano", Kind::Fixed64),
        one(4, "count", Kind::Fixed64),
        one(5, "sum", Kind::Double),
        one(6, "scale", Kind::Sint32),
        one(7, "zero_count", Kind::Fixed64),
        one(8, "positive", Kind::Message(&BUCKETS)),
        one(9, "negative", Kind::Message(&BUCKETS)),
        one(10, "flags", Kind::Uint32),
        many(11, "exemplars", Kind::Message(&EXEMPLAR)),
        one(12, "min", Kind::Double),
        one(13, "max", Kind::Double),
        one(14, "zero_threshold", Kind::Double),
    ],
);

static BUCKETS: Message = Message::new(
    "metrics.v1.ExponentialHistogramDataPoint.Buckets",
    &[one(1, "offset", Kind::Sint32), many(2, "bucket_counts", Kind::Uint64)],
);

static SUMMARY_DATA_POINT: Message = Message::of_record(
    Record { time: 3, fallback_time: 0, attributes: 7 },
    "metrics.v1.SummaryDataPoint",
    &[
        one(2, "start_time_unix_nano", Kind::Fixed64),
        one(3, "time_unix_nano", Kind::Fixed64),
        one(4, "count", Kind::Fixed64),
        one(5, "sum", Kind::Double),
        many(6, "quantile_values", Kind::Message(&VALUE_AT_QUANTILE)),
        attributes(7),
        one(8, "flags", Kind::Uint32),
    ],
);

static VALUE_AT_QUANTILE: Message = Message::new(
    "metrics.v1.SummaryDataPoint.ValueAtQuantile",
    &[one(1, "quantile", Kind::Double), one(2, "value", Kind::Double)],
);

static EXEMPLAR: Message = Message::new(
    "metrics.v1.Exemplar",
    &[
        one(2, "time_unix_nano", Kind::Fixed64),
        oneof(3, "as_double", Kind::Double),
        one(4, "span_id", Kind::Id),
        one(5, "trace_id", Kind::Id),
        oneof(6, "as_int", Kind::Sfixed64),
        many(7, "filtered_attributes", Kind::Message(&KEY_VALUE)),
    ],
);

#[cfg(test)]
mod tests {
    use super::*;
    use protox::prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};
    use std::collections::BTreeSet;

    /// The tables say what the `.proto` files say, of every message that a request can hold.
    #[test]
    fn agrees_with_the_proto_files() {
        let pool = pool();
        let mut seen = BTreeSet::new();
        for signal in Signal::ALL {
            compare(&pool, Message::request(signal), &mut seen);
        }
        assert_eq!(seen.len(), 34, "{seen:?}");
    }

    fn pool() -> DescriptorPool {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/protos");
        let services = ["logs", "trace", "metrics"]
            .map(|signal| format!("{root}/opentelemetry/proto/collector/{signal}/v1/{signal}_service.proto"));
        let files = protox::compile(services, [root]).unwrap();
        DescriptorPool::from_file_descriptor_set(files).unwrap()
    }

    fn compare(pool: &DescriptorPool, message: &'static Message, seen: &mut BTreeSet<&'static str>) {
        if !seen.insert(message.name) {
            return;
        }
        let name = format!("opentelemetry.proto.{}", message.name);
        let descriptor = pool.get_message_by_name(&name).unwrap_or_else(|| panic!("no message {name}"));
        let expected: Vec<String> = descriptor.fields().map(|field| describe_proto(&field)).collect();
        let actual: Vec<String> = message.fields.iter().map(describe).collect();
        assert_eq!(actual, expected, "{name}");
        assert_eq!(message.holds_records, holds_records(&descriptor), "{name}");
        for field in message.fields {
            assert_eq!(message.field(field.number).map(|found| found.name), Some(field.name));
            match field.kind {
                Kind::Message(child) => compare(pool, child, seen),
                Kind::Enum(names) => compare_enum(&descriptor, field, names),
                _ => {}
            }
        }
    }

    fn describe(field: &Field) -> String {
        let kind = match field.kind {
            Kind::Message(child) => format!("opentelemetry.proto.{}", child.name),
            Kind::Enum(_) => "enum".to_string(),
            Kind::Id => "Bytes".to_string(),
            kind => format!("{kind:?}"),
        };
        format!("{} {} {kind} {:?}", field.number, field.name, field.label)
    }

    fn describe_proto(field: &FieldDescriptor) -> String {
        let kind = match field.kind() {
            ProtoKind::Message(child) => child.full_name().to_string(),
            ProtoKind::Enum(_) => "enum".to_string(),
            kind => {
                let name = format!("{kind:?}");
                name[..1].to_uppercase() + &name[1..]
            }
        };
        let real_oneof = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
        let label = match (field.cardinality(), real_oneof) {
            (Cardinality::Repeated, _) => Label::Many,
            (_, true) => Label::Oneof,
            _ => Label::One,
        };
        format!("{} {} {kind} {label:?}", field.number(), field.name())
    }

    fn compare_enum(message: &MessageDescriptor, field: &Field, names: &Enum) {
        let ProtoKind::Enum(proto) = message.get_field(field.number).unwrap().kind() else { panic!("{}", field.name) };
        let proto: Vec<(i32, String)> =
            proto.values().map(|value| (value.number(), value.name().to_string())).collect();
        let ours: Vec<(i32, String)> = (0..).zip(names.names.iter().map(|name| name.to_string())).collect();
        assert_eq!(ours, proto, "{}", field.name);
    }

    /// Records are what a `time_unix_nano` of their own and a place in a list make them: log records, spans, data points.
    fn holds_records(message: &MessageDescriptor) -> bool {
        message.fields().any(|field| match field.kind() {
            ProtoKind::Message(child) => {
                is_record(&child) || (field.is_list() || is_data(&field)) && holds_records(&child)
            }
            _ => false,
        })
    }

    fn is_data(field: &FieldDescriptor) -> bool {
        field.containing_oneof().is_some_and(|oneof| oneof.name() == "data")
    }

    fn is_record(message: &MessageDescriptor) -> bool {
        message.name() == "LogRecord" || message.name() == "Span" || message.name().ends_with("DataPoint")
    }

    #[test]
    fn what_a_record_is_judged_by_is_in_it() {
        for message in [
            &LOG_RECORD,
            &SPAN,
            &NUMBER_DATA_POINT,
            &HISTOGRAM_DATA_POINT,
            &EXPONENTIAL_HISTOGRAM_DATA_POINT,
            &SUMMARY_DATA_POINT,
        ] {
            let record = message.record.unwrap();
            let name = |number| message.field(number).map_or("", |field| field.name);
            assert!(name(record.time).ends_with("time_unix_nano"), "{}", message.name);
            assert!(
                record.fallback_time == 0 || name(record.fallback_time).ends_with("time_unix_nano"),
                "{}",
                message.name
            );
            assert_eq!(name(record.attributes), "attributes", "{}", message.name);
        }
        for message in [&RESOURCE, &SCOPE] {
            let shared = message.shared_attributes.and_then(|number| message.field(number));
            assert_eq!(shared.map(|field| field.name), Some("attributes"), "{}", message.name);
        }
    }
}
