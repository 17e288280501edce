use super::*;
use crate::otlp::{Limits, generate, validate};
use proptest::prelude::*;

/// Each case is a comment line, `logs`, `traces` or `metrics` with the JSON, `----`, and what comes of it. `UPDATE=1` writes that.
#[test]
fn cases() {
    for file in ["ids", "numbers", "nulls", "values", "names", "traces", "metrics", "mistakes"] {
        let path = format!("{}/testdata/json/{file}.test", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let actual: Vec<String> = text.split("\n\n").map(|case| run(case.trim_end())).collect();
        let actual = actual.join("\n\n") + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &actual).unwrap();
            continue;
        }
        assert!(text == actual, "{path} differs from\n{actual}");
    }
}

fn run(case: &str) -> String {
    let input = case.split("\n----").next().unwrap();
    let (comment, request) = input.split_once('\n').unwrap();
    let (signal, json) = request.split_once(' ').unwrap();
    let signal = Signal::ALL.into_iter().find(|other| other.name() == signal).unwrap();
    let output = match to_protobuf(signal, json.as_bytes(), usize::MAX) {
        Ok(bytes) if bytes.is_empty() => "an empty request".to_string(),
        Ok(bytes) => {
            validate(signal, &bytes, &Limits::NONE).unwrap();
            dump(Message::request(signal), &bytes)
        }
        Err(error) => format!("error: {error}"),
    };
    format!("{comment}\n{request}\n----\n{output}")
}

/// The bytes as text, field by field.
fn dump(message: &Message, bytes: &[u8]) -> String {
    let fields = Fields::new(bytes).map(|(number, value)| {
        let field = message.field(number).unwrap();
        format!("{}{}", field.name, dump_value(field.kind, value))
    });
    fields.collect::<Vec<_>>().join(" ")
}

fn dump_value(kind: Kind, value: Value<'_>) -> String {
    match (kind, value) {
        (Kind::Message(child), Value::Bytes(content)) => {
            format!(" {{ {} }}", dump(child, content)).replace("{  }", "{}")
        }
        (Kind::String, Value::Bytes(text)) => format!(": {:?}", std::str::from_utf8(text).unwrap()),
        (_, Value::Bytes(bytes)) => format!(": {bytes:02x?}"),
        (Kind::Double, Value::Fixed64(bits)) => format!(": {:?}", f64::from_bits(bits)),
        (Kind::Sfixed64, Value::Fixed64(value)) => format!(": {}", value as i64),
        (Kind::Int32 | Kind::Int64 | Kind::Enum(_), Value::Varint(value)) => format!(": {}", value as i64),
        (Kind::Sint32, Value::Varint(value)) => format!(": {}", (value >> 1) as i32 ^ -(value as i32 & 1)),
        (_, Value::Varint(value) | Value::Fixed64(value)) => format!(": {value}"),
        (_, Value::Fixed32(value)) => format!(": {value}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What another implementation writes as JSON is read as what it writes as protobuf.
    #[test]
    fn reads_what_others_write((signal, bytes) in generate::signal().prop_flat_map(|s| (Just(s), generate::request(s)))) {
        use opentelemetry_proto::tonic::collector as pb;
        match signal {
            Signal::Logs => same::<pb::logs::v1::ExportLogsServiceRequest>(signal, &bytes),
            Signal::Traces => same::<pb::trace::v1::ExportTraceServiceRequest>(signal, &bytes),
            Signal::Metrics => same::<pb::metrics::v1::ExportMetricsServiceRequest>(signal, &bytes),
        }
    }

    #[test]
    fn survives_anything(signal in generate::signal(), json in r#"[{\[]("(resourceLogs|scope_spans|body|intValue)":|[{}\[\]":,0-9a-z\\ ]){0,12}"#) {
        if let Ok(bytes) = to_protobuf(signal, json.as_bytes(), usize::MAX) {
            prop_assert!(validate(signal, &bytes, &Limits::NONE).is_ok());
        }
    }
}

fn same<M: prost::Message + Default + serde::Serialize + std::fmt::Debug>(signal: Signal, bytes: &[u8]) {
    let message = M::decode(bytes).unwrap();
    let expected = format!("{message:?}");
    if expected.contains("NaN") || expected.contains("inf") {
        return; // serde_json writes `null`
    }
    let json = serde_json::to_string(&message).unwrap();
    let read = to_protobuf(signal, json.as_bytes(), usize::MAX).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(format!("{:?}", M::decode(&read[..]).unwrap()), expected, "{json}");
}

#[test]
fn names_are_camel_case_or_as_they_are() {
    assert!(is_lower_camel_case("timeUnixNano", "time_unix_nano"));
    assert!(is_lower_camel_case("key", "key"));
    for key in ["timeUnixNan", "timeUnixNanos", "timeunixnano", "TimeUnixNano", ""] {
        assert!(!is_lower_camel_case(key, "time_unix_nano"), "{key}");
    }
}

#[test]
fn a_request_that_grows_is_refused_at_its_limit() {
    let bounds = vec!["0"; 1000].join(",");
    let point = format!(r#"{{"explicitBounds":[{bounds}]}}"#);
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
    );
    let read = |bytes_max| to_protobuf(Signal::Metrics, json.as_bytes(), bytes_max);
    let bytes = read(usize::MAX).unwrap().len();
    assert!(bytes > 8000 && json.len() < 2200);
    assert!(read(bytes).is_ok());
    for bytes_max in [bytes - 1, 3000, 0] {
        let error = read(bytes_max).unwrap_err();
        let expected = format!("the request is larger than {bytes_max} bytes in protobuf");
        assert_eq!((error.message, error.is_too_large), (expected, true));
    }
}

#[test]
fn a_mistake_shows_a_part_of_a_long_value() {
    let long = "ä".repeat(1 << 20);
    for json in [
        format!(r#"{{"resourceLogs":"{long}"}}"#),
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"traceId":"{long}"}}]}}]}}]}}"#),
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{long}"}}]}}]}}]}}"#),
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{{"bytesValue":"{long}"}}}}]}}]}}]}}"#),
    ] {
        let error = to_protobuf(Signal::Logs, json.as_bytes(), usize::MAX).unwrap_err();
        assert!(error.message.len() < 400 && error.message.contains('…'), "{error}");
        assert!(!error.is_too_large);
    }
}
