//! Requests of Loki's push API as OTLP requests: so they are kept in the log, and so everything behind it reads them.
//!
//! A stream becomes a resource whose attributes are the stream's labels, sorted by name; its `schema_url` is [`SCHEMA_URL`], by which
//! [`ResourceLabels`](crate::otlp_labels::ResourceLabels) knows that each of them is an index label under its own name. An entry becomes a
//! log record: its line the body, its structured metadata the attributes. A `trace_id` of 32 and a `span_id` of 16 lower-case hexadecimal
//! digits become the record's own, so that a page links to the trace; they are the same labels as before.
//!
//! ```
//! use watchbell_rules::loki_push;
//!
//! let json = br#"{"streams": [{"stream": {"app": "shop"}, "values": [["1764000000000000000", "refused", {"user": "7"}]]}]}"#;
//! let pushed = loki_push::from_json(json)?;
//! let (_, _, record) = watchbell_proto::otlp::logs::LogsRequest::new(&pushed.request).records().next().unwrap();
//! assert_eq!(record.body().unwrap().as_str(), Some("refused"));
//! assert_eq!(record.time_unix_nano, 1764000000000000000);
//! # Ok::<(), loki_push::PushError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;

use watchbell_proto::loki::PushRequest;
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode::{self, LogRecordWriter};
use watchbell_proto::wire::{put_bytes_field, put_message_field};

use crate::logql::stream_labels;
use crate::query::records::{Push, json_error};

/// Marks the resources that are streams of Loki's push API, as their `schema_url`. A client that sends it by OTLP gets the same labels.
pub const SCHEMA_URL: &str = "https://github.com/watchbell/watchbell/schemas/loki-push/1.0.0";

/// A push request as an OTLP request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The bytes of an OTLP logs request.
    pub request: Vec<u8>,
    /// Entries that are not in it, because their times are none.
    pub refused: u64,
    /// Why not, of the first of them.
    pub reason: Option<String>,
}

/// A body that is no push request: nothing of it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushError(pub String);

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PushError {}

/// Reads a body of type `application/json`.
pub fn from_json(json: &[u8]) -> Result<Pushed, PushError> {
    let push: Push = serde_json::from_slice(json).map_err(|error| PushError(json_error(error).to_string()))?;
    let mut pushed = Pushed::default();
    for stream in &push.streams {
        if let Some(name) = stream.stream.keys().find(|name| !is_label_name(name)) {
            return Err(PushError(format!(
                "`{name}` is no name of a label: a name has letters, digits and underscores, and no digit first"
            )));
        }
        let entries = stream.values.iter().map(|value| Entry {
            time: value.time.0,
            line: &value.line,
            metadata: value.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        });
        pushed.add(&stream.stream, entries);
    }
    Ok(pushed)
}

/// Reads a body of type `application/x-protobuf`, decompressed.
pub fn from_protobuf(bytes: &[u8]) -> Result<Pushed, PushError> {
    let push =
        PushRequest::validate(bytes).map_err(|error| PushError(format!("the body is no push request: {error}")))?;
    let mut pushed = Pushed::default();
    for stream in push.streams() {
        let labels = stream_labels::parse(stream.labels())
            .map_err(|why| PushError(format!("the labels `{}` cannot be read: {why}", stream.labels())))?;
        let entries = stream.entries().map(|entry| Entry {
            time: entry.time_unix_nano(),
            line: entry.line(),
            metadata: entry.structured_metadata().collect(),
        });
        pushed.add(&labels, entries);
    }
    Ok(pushed)
}

struct Entry<'a> {
    /// Nanoseconds since 1970.
    time: i64,
    line: &'a str,
    metadata: Vec<(&'a str, &'a str)>,
}

impl Pushed {
    fn add<'a>(&mut self, labels: &BTreeMap<String, String>, entries: impl Iterator<Item = Entry<'a>>) {
        let mut records = Vec::new();
        for entry in entries {
            match time(entry.time) {
                Ok(time) => encode::put_log_record(&mut records, |record| put(record, time, &entry)),
                Err(reason) => {
                    self.refused += 1;
                    self.reason.get_or_insert(reason);
                }
            }
        }
        if records.is_empty() {
            return;
        }
        // An empty label is none.
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let resource = encode::resource(labels.map(|(name, value)| (name.as_str(), AnyValue::String(value))));
        encode::put_resource_logs(&mut self.request, &resource, |out| {
            put_message_field(out, 2, |out| out.extend_from_slice(&records));
            put_bytes_field(out, 3, SCHEMA_URL.as_bytes());
        });
    }
}

/// Nanoseconds since 1970, unless they cannot be, or are plainly something else: read as seconds, milliseconds or microseconds they are of this
/// century, read as nanoseconds of a day in 1970. Loki refuses these, too, as too old.
fn time(stamp: i64) -> Result<u64, String> {
    let Some(time) = u64::try_from(stamp).ok().filter(|time| *time > 0) else {
        return Err("an entry's time must be after 1970".to_owned());
    };
    let units = [("seconds", 1_000_000_000), ("milliseconds", 1_000_000), ("microseconds", 1_000)];
    let of_this_century = CENTURY_SECONDS.start * 1_000_000_000..CENTURY_SECONDS.end * 1_000_000_000;
    let is_of = |factor: &u64| {
        // Whole seconds as nanoseconds are hardly ever something else: those who count from 1970 in a test mean them.
        time % 1_000_000_000 != 0 && time.checked_mul(*factor).is_some_and(|nanos| of_this_century.contains(&nanos))
    };
    match units.iter().find(|(_, factor)| is_of(factor)) {
        None => Ok(time),
        Some((unit, factor)) => Err(format!(
            "an entry's time is in nanoseconds since 1970, and `{time}` is in {unit}: write `{}`",
            time * factor
        )),
    }
}

/// From 2001 to 2100.
const CENTURY_SECONDS: std::ops::Range<u64> = 978_307_200..4_102_444_800;

fn put(record: &mut LogRecordWriter<'_>, time: u64, entry: &Entry<'_>) {
    record.time_unix_nano(time);
    record.body(&AnyValue::String(entry.line));
    let (trace_id, span_id) = (own_id(entry, "trace_id"), own_id(entry, "span_id"));
    for (name, value) in &entry.metadata {
        let is_own = (*name == "trace_id" && trace_id.is_some()) || (*name == "span_id" && span_id.is_some());
        if !is_own {
            record.attribute(name, &AnyValue::String(value));
        }
    }
    if trace_id.is_some() || span_id.is_some() {
        record.trace_context(&trace_id.unwrap_or_default(), &span_id.unwrap_or_default());
    }
}

/// The bytes of an id that the metadata has once and as a log record would show it.
fn own_id<const BYTES: usize>(entry: &Entry<'_>, name: &str) -> Option<[u8; BYTES]> {
    let mut found = entry.metadata.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
    let (value, None) = (found.next()?, found.next()) else { return None };
    let digits = value.len() == 2 * BYTES && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !digits || value.bytes().all(|byte| byte == b'0') {
        return None;
    }
    let mut id = [0; BYTES];
    for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&value[at..at + 2], 16).ok()?;
    }
    Some(id)
}

fn is_label_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use watchbell_proto::loki::{put_entry, put_stream};
    use watchbell_proto::otlp::logs::LogsRequest;

    use super::*;
    use crate::entry::LogEntry;
    use crate::otlp_labels::{LabelConfig, OtlpEntry, ResourceLabels, ScopeLabels};

    /// Each record as its index labels, its time, its line and its metadata.
    fn show(pushed: &Pushed) -> Vec<String> {
        let mut shown = Vec::new();
        for resource_logs in LogsRequest::validate(&pushed.request).unwrap().resource_logs() {
            let resource = ResourceLabels::of(&resource_logs, &LabelConfig::default());
            for record in resource_logs.scope_logs().flat_map(|scope_logs| scope_logs.log_records()) {
                let attributes: Vec<_> = record.attributes().collect();
                let scope = ScopeLabels::default();
                let entry = OtlpEntry { resource: &resource, scope: &scope, record, attributes: &attributes };
                let (mut index, mut metadata) = (Vec::new(), Vec::new());
                entry.for_each_label(&mut |name, value| {
                    let into = if entry.index_label(name).is_some() { &mut index } else { &mut metadata };
                    into.push(format!("{name}={value}"));
                });
                let (time, line) = (record.time_unix_nano, entry.line());
                shown.push(format!("{} {time} {line} {}", index.join(","), metadata.join(",")));
            }
        }
        shown
    }

    #[test]
    fn a_push_keeps_its_labels() {
        let json = br#"{"streams":[{"stream":{"z__a":"1","app":"shop","none":""},"values":[["5","x",{"trace_id":"000102030405060708090a0b0c0d0e0f","a.b":"7","app":"y"}],["6","level=warn"]]}]}"#;
        let expected = [
            "app=shop,service_name=shop,z__a=1 5 x a_b=7,detected_level=unknown,trace_id=000102030405060708090a0b0c0d0e0f,app_extracted=y",
            "app=shop,service_name=shop,z__a=1 6 level=warn detected_level=warn",
        ];
        let by_json = from_json(json).unwrap();
        let mut shown = show(&by_json);
        shown.iter_mut().for_each(|record| *record = sorted_metadata(&record));
        assert_eq!(shown, expected.map(sorted_metadata));
        let mut protobuf = Vec::new();
        put_stream(&mut protobuf, r#"{app="shop", none="", z__a="1"}"#, |out| {
            let metadata = [("a.b", "7"), ("app", "y"), ("trace_id", "000102030405060708090a0b0c0d0e0f")];
            put_entry(out, 5, "x", metadata);
            put_entry(out, 6, "level=warn", []);
        });
        assert_eq!(from_protobuf(&protobuf).unwrap(), by_json, "both forms become the same bytes");
    }

    fn sorted_metadata(record: impl AsRef<str>) -> String {
        let (before, metadata) = record.as_ref().rsplit_once(' ').unwrap();
        let mut metadata: Vec<&str> = metadata.split(',').collect();
        metadata.sort_unstable();
        format!("{before} {}", metadata.join(","))
    }

    #[test]
    fn an_id_that_is_none_stays_metadata() {
        let ids = ["00", "000102030405060708090A0B0C0D0E0F", "00000000000000000000000000000000"];
        for id in ids {
            let json =
                format!(r#"{{"streams":[{{"stream":{{"a":"1"}},"values":[["5","x",{{"trace_id":"{id}"}}]]}}]}}"#);
            assert!(show(&from_json(json.as_bytes()).unwrap())[0].ends_with(&format!("trace_id={id}")), "{id}");
        }
    }

    #[test]
    fn stamps_that_are_no_nanoseconds_are_told() {
        let reason = |stamp: &str| {
            let json = format!(r#"{{"streams":[{{"stream":{{"a":"1"}},"values":[["{stamp}","x"]]}}]}}"#);
            let pushed = from_json(json.as_bytes()).unwrap();
            assert_eq!(pushed.refused > 0, pushed.reason.is_some());
            pushed.reason.unwrap_or_default()
        };
        for (stamp, unit) in
            [("1764000000", "seconds"), ("1764000000123", "milliseconds"), ("1764000000123456", "microseconds")]
        {
            let nanos = format!("{stamp:0<19}");
            let told =
                format!("an entry's time is in nanoseconds since 1970, and `{stamp}` is in {unit}: write `{nanos}`");
            assert_eq!(reason(stamp), told);
        }
        assert_eq!(reason("1764000000000000000"), "");
        for stamp in ["5", "1000000000", "1500000000000"] {
            assert_eq!(reason(stamp), "", "{stamp} is of 1970");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_told() {
        let json = br#"{"streams":[{"stream":{"a":""},"values":[["5","x"]]},{"stream":{"a":"1"},"values":[["0","y"],["-1","z"],["5","kept"]]}]}"#;
        let pushed = from_json(json).unwrap();
        let expected = [
            "service_name=unknown_service 5 x detected_level=unknown",
            "a=1,service_name=unknown_service 5 kept detected_level=unknown",
        ];
        assert_eq!((show(&pushed), pushed.refused), (expected.map(str::to_owned).to_vec(), 2));
        let error = |json: &str| from_json(json.as_bytes()).unwrap_err().0;
        assert_eq!(error("{\"streams\":[{]}"), "line 1, column 14: key must be a string");
        assert!(
            error(r#"{"streams":[{"stream":{"a-b":"1"},"values":[]}]}"#).starts_with("`a-b` is no name of a label")
        );
        let mut protobuf = Vec::new();
        put_stream(&mut protobuf, "{a=1}", |out| put_entry(out, 5, "x", []));
        assert!(from_protobuf(&protobuf).unwrap_err().0.starts_with("the labels `{a=1}` cannot be read: "));
        assert!(from_protobuf(b"\xFF").unwrap_err().0.starts_with("the body is no push request: "));
    }
}
