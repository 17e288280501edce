//! Views of any bytes end somewhere; views of an admitted request read what prost reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use watchbell_proto::otlp::common::{AnyValue, KeyValues};
use watchbell_proto::otlp::logs::LogsRequest;
use watchbell_proto::otlp::{Limits, Signal, admit};

fuzz_target!(|bytes: &[u8]| {
    walk(bytes);
    let Ok(admitted) = admit(Signal::Logs, bytes.to_vec().into(), &Limits::NONE) else { return };
    let expected = ExportLogsServiceRequest::decode(bytes).expect("what we admit, prost reads");
    let scopes = expected.resource_logs.iter().flat_map(|resource_logs| &resource_logs.scope_logs);
    let mut expected = scopes.flat_map(|scope_logs| &scope_logs.log_records);
    for (_, _, record) in LogsRequest::new(&admitted.bytes).records() {
        let expected = expected.next().expect("as many records");
        assert_eq!(record.time_unix_nano, expected.time_unix_nano);
        assert_eq!(record.severity_number, expected.severity_number);
        assert_eq!(record.severity_text(), expected.severity_text);
        assert_eq!(record.trace_id, expected.trace_id);
        assert_eq!(record.body().is_some(), expected.body.is_some());
        assert!(record.attributes().map(|entry| entry.key()).eq(expected.attributes.iter().map(|entry| &*entry.key)));
    }
    assert!(expected.next().is_none());
    walk(&admitted.bytes);
});

fn walk(bytes: &[u8]) {
    let request = LogsRequest::new(bytes);
    for (resource, scope, record) in request.records() {
        assert_eq!(&bytes[request.range_of(record.raw)], record.raw);
        walk_attributes(resource.attributes());
        walk_attributes(scope.attributes());
        walk_attributes(record.attributes());
        record.body().into_iter().for_each(walk_value);
        let _ = (scope.name(), record.event_name());
    }
}

fn walk_attributes(attributes: KeyValues<'_>) {
    for attribute in attributes {
        let _ = attribute.key();
        walk_value(attribute.value());
    }
}

fn walk_value(value: AnyValue<'_>) {
    match value {
        AnyValue::Array(values) => values.for_each(walk_value),
        AnyValue::KeyValueList(entries) => walk_attributes(entries),
        _ => {}
    }
}
