//! Records to query: from the bodies of Loki's push API, from OTLP requests in JSON, or from plain lines.
//!
//! - **Loki push**: `{"streams": [{"stream": {"app": "shop"}, "values": [["1764000000000000000", "line", {"trace_id": "ab"}]]}]}`, one
//!   body or several behind one another. A stream's labels are index labels, the third member of a value is structured metadata; no label
//!   is added.
//! - **OTLP**: `{"resourceLogs": [...]}`, one request or several behind one another; labels as Loki's OTLP ingestion gives them (see
//!   [`otlp_labels`](crate::otlp_labels)), `service_name` and `detected_level` among them.
//! - **Lines**: each line is a record with the labels that the caller gives. Its time is the first date with a time in its first
//!   [`STAMP_BYTES_MAX`] bytes (RFC 3339, a space in place of the `T`, a comma before the fraction, and no zone, which means UTC, are
//!   allowed). A line without one has the time of the line before it, or of the first that has one. Where no line of a text has a time, the
//!   last came in a nanosecond before the query's end, the one before it a nanosecond earlier, and so on.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use watchbell_proto::otlp::logs::{LogRecord, LogsRequest};
use watchbell_proto::otlp::{Signal, json};

use super::batches::record_time;
pub use super::stamp::STAMP_BYTES_MAX;
use super::stamp::stamp;
use crate::entry::{LabelValue, LogEntry};
use crate::labels::Labels;
use crate::otlp_labels::{LabelConfig, OtlpEntry, ResourceLabels, ScopeLabels, label_name};
use crate::time::Timestamp;

/// A record that owns what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedEntry {
    /// When it happened.
    pub time: Timestamp,
    /// Its line.
    pub line: String,
    /// Index labels.
    pub stream: Labels,
    /// Structured metadata; no name is one of the index labels.
    pub metadata: Labels,
    /// A plain line does, a record that was pushed twice counts once.
    repeats: bool,
}

impl OwnedEntry {
    /// A record of a stream. Names of metadata are made labels of as Loki does; one that is an index label, too, becomes
    /// `name_extracted`.
    pub fn new<N: AsRef<str>>(
        time: Timestamp,
        line: String,
        stream: &Labels,
        metadata: impl IntoIterator<Item = (N, String)>,
    ) -> Self {
        let named = metadata.into_iter().map(|(name, value)| {
            let name = label_name(name.as_ref());
            let taken = stream.get(&name).is_some();
            (if taken { format!("{name}_extracted") } else { name }, value)
        });
        Self { time, line, metadata: Labels::new(named), stream: stream.clone(), repeats: false }
    }

    /// The same; it counts as often as it is there, though its stream has another with the same time and line.
    pub fn repeating(self) -> Self {
        Self { repeats: true, ..self }
    }
}

impl LogEntry for OwnedEntry {
    fn line(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.line)
    }

    fn index_label(&self, name: &str) -> Option<&str> {
        self.stream.get(name)
    }

    fn metadata(&self, name: &str) -> Option<LabelValue<'_>> {
        self.metadata.get(name).map(|value| LabelValue::Text(Cow::Borrowed(value)))
    }

    fn for_each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.stream.iter().chain(self.metadata.iter()).for_each(|(name, value)| visit(name, value));
    }

    fn repeats(&self) -> bool {
        self.repeats
    }
}

/// What the bytes of records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bodies of Loki's push API, in JSON.
    LokiPush,
    /// OTLP requests, in JSON.
    Otlp,
    /// A record a line.
    Lines,
}

impl Format {
    /// What the bytes are by the look of their first value: an object with a list of objects under `streams` or `resourceLogs`, or else
    /// lines.
    pub fn detect(bytes: &[u8]) -> Self {
        let mut rest = without_mark(bytes).trim_ascii_start();
        let (mut depth, mut text) = (0, &b""[..]);
        if !rest.starts_with(b"{") {
            return Self::Lines;
        }
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            match first {
                b'"' => {
                    let len = string_len(behind);
                    text = &behind[..len];
                    rest = behind.get(len + 1..).unwrap_or_default();
                }
                // What stands before a list in the outermost object is its key.
                b'[' if depth == 1 && matches!(behind.trim_ascii_start().first(), None | Some(b'{' | b']')) => {
                    match text {
                        b"streams" => return Self::LokiPush,
                        b"resourceLogs" | b"resource_logs" => return Self::Otlp,
                        _ => depth += 1,
                    }
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth <= 1 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Self::Lines
    }
}

/// Of a JSON string, up to its closing quote or to the end.
fn string_len(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let is_end = |byte: &u8| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    };
    text.iter().position(is_end).unwrap_or(text.len())
}

/// What plain lines do not tell of themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineLabels {
    /// Their index labels.
    pub stream: Labels,
    /// Lines that bear no time came in right before this.
    pub end: Timestamp,
}

/// Records that are not in their format, and where the mistake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1; 0 where the mistake is at the end of the line before.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl RecordsError {
    /// The same of a larger text: so many lines, and so many bytes of the line that it goes on in, stand before.
    pub fn behind(self, lines: usize, bytes: usize) -> Self {
        let column = if self.line == 1 { self.column + bytes } else { self.column };
        Self { line: self.line + lines, column, ..self }
    }
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for RecordsError {}

/// Reads records, in the order in which they stand there.
pub fn parse(bytes: &[u8], format: Format, lines: &LineLabels) -> Result<Vec<OwnedEntry>, RecordsError> {
    let bytes = without_mark(bytes);
    let mut entries = Vec::new();
    match format {
        Format::LokiPush => pushes(bytes, false, |entry| entries.push(entry))?,
        Format::Otlp => otlp_requests(bytes, false, |request| {
            entries.extend(from_otlp(request, &LabelConfig::default(), lines.end));
        })?,
        Format::Lines => return Ok(parse_lines(&String::from_utf8_lossy(bytes), lines)),
    };
    Ok(entries)
}

/// The records in the order of their times, those of one time as they came. A record that a stream has twice, with the same time, line
/// and metadata, is there once, as in Loki.
pub fn sorted(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
    entries.sort_by_key(|entry| entry.time);
    let is_new: Vec<bool> = entries
        .chunk_by(|a, b| a.time == b.time)
        .flat_map(|entries| {
            let mut seen = BTreeSet::new();
            let mut is_new = |entry| seen.insert(entry);
            entries
                .iter()
                .map(|entry| is_new((&entry.stream, &entry.line, &entry.metadata)) || entry.repeats)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut is_new = is_new.into_iter();
    entries.retain(|_| is_new.next().unwrap_or(true));
    entries
}

/// Some editors put a byte-order mark first.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

/// Shows the JSON texts that stand behind one another, and tells where the last whole one ends. A part of one behind that is a mistake only
/// if nothing follows these bytes.
fn documents(
    bytes: &[u8],
    more_follow: bool,
    mut read: impl FnMut(Range<usize>) -> Result<(), RecordsError>,
) -> Result<usize, RecordsError> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    let mut start = 0;
    while let Some(document) = documents.next() {
        match document {
            Err(error) if error.is_eof() && more_follow => return Ok(start),
            document => document.map_err(json_error)?,
        };
        let end = documents.byte_offset();
        read(start..end).map_err(|error| moved(error, &bytes[..start]))?;
        start = end;
    }
    Ok(start)
}

/// The mistake of a text, told by its place in the whole, of which `before` stands before it.
fn moved(error: RecordsError, before: &[u8]) -> RecordsError {
    let last_line = before.len() - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    error.behind(before.iter().filter(|byte| **byte == b'\n').count(), last_line)
}

pub(crate) fn json_error(error: serde_json::Error) -> RecordsError {
    let json::JsonError { line, column, message, .. } = error.into();
    RecordsError { line, column, message }
}

/// A body of Loki's push API.
#[derive(serde::Deserialize)]
pub(crate) struct Push {
    pub(crate) streams: Vec<PushStream>,
}

#[derive(serde::Deserialize)]
pub(crate) struct PushStream {
    pub(crate) stream: BTreeMap<String, String>,
    pub(crate) values: Vec<PushValue>,
}

pub(crate) struct PushValue {
    pub(crate) time: Timestamp,
    pub(crate) line: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for PushValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PushValueVisitor)
    }
}

struct PushValueVisitor;

impl<'de> Visitor<'de> for PushValueVisitor {
    type Value = PushValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`[\"nanoseconds since 1970\", \"line\"]`, with `{\"name\": \"value\"}` behind it if there is structured metadata")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<PushValue, A::Error> {
        let Nanos(time) = values.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let line = values.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        let metadata = values.next_element()?.unwrap_or_default();
        match values.next_element::<IgnoredAny>()? {
            None => Ok(PushValue { time, line, metadata }),
            Some(_) => Err(A::Error::invalid_length(4, &self)),
        }
    }
}

/// Nanoseconds in a string, as Loki wants them, or as a number.
struct Nanos(Timestamp);

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NanosVisitor)
    }
}

struct NanosVisitor;

impl Visitor<'_> for NanosVisitor {
    type Value = Nanos;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nanoseconds since 1970 in a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Nanos, E> {
        let nanos = text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Ok(Nanos(Timestamp(nanos)))
    }

    fn visit_u64<E: Error>(self, nanos: u64) -> Result<Nanos, E> {
        let nanos =
            i64::try_from(nanos).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(nanos), &self))?;
        Ok(Nanos(Timestamp(nanos)))
    }
}

/// Shows the records of bodies of Loki's push API that stand behind one another, and tells where the last whole one ends.
pub(crate) fn pushes(
    bytes: &[u8],
    more_follow: bool,
    mut visit: impl FnMut(OwnedEntry),
) -> Result<usize, RecordsError> {
    documents(bytes, more_follow, |document| {
        let push: Push = serde_json::from_slice(&bytes[document]).map_err(json_error)?;
        for PushStream { stream, values } in push.streams {
            let stream = Labels::new(stream);
            values
                .into_iter()
                .for_each(|value| visit(OwnedEntry::new(value.time, value.line, &stream, value.metadata)));
        }
        Ok(())
    })
}

/// Shows each of the OTLP requests in JSON that stand behind one another, as protobuf, and tells where the last whole one ends.
pub(crate) fn otlp_requests(
    bytes: &[u8],
    more_follow: bool,
    mut visit: impl FnMut(&[u8]),
) -> Result<usize, RecordsError> {
    documents(bytes, more_follow, |document| {
        let request = json::to_protobuf(Signal::Logs, &bytes[document], usize::MAX)
            .map_err(|json::JsonError { line, column, message, .. }| RecordsError { line, column, message })?;
        visit(&request);
        Ok(())
    })
}

/// The records of an OTLP request; those that bear no time happened right before `end`.
pub fn from_otlp(request: &[u8], config: &LabelConfig, end: Timestamp) -> Vec<OwnedEntry> {
    let mut entries = Vec::new();
    for resource_logs in LogsRequest::new(request).resource_logs() {
        let resource = ResourceLabels::of(&resource_logs, config);
        for scope_logs in resource_logs.scope_logs() {
            let scope = ScopeLabels::new(scope_logs.scope());
            for record in scope_logs.log_records() {
                let attributes: Vec<_> = record.attributes().collect();
                let time = record_time(&record, Timestamp(end.0.saturating_sub(1)));
                entries.push(owned(
                    &OtlpEntry { resource: &resource, scope: &scope, record, attributes: &attributes },
                    time,
                ));
            }
        }
    }
    entries
}

/// Its own time, else when it was observed.
pub(crate) fn otlp_time(record: &LogRecord<'_>) -> Option<Timestamp> {
    let stamps = [record.time_unix_nano, record.observed_time_unix_nano];
    stamps.into_iter().find(|stamp| *stamp != 0).map(|stamp| Timestamp(i64::try_from(stamp).unwrap_or(i64::MAX)))
}

/// A copy of any record.
fn owned<E: LogEntry>(entry: &E, time: Timestamp) -> OwnedEntry {
    let (mut stream, mut metadata) = (Vec::new(), Vec::new());
    entry.for_each_label(&mut |name, value| {
        let into = if entry.index_label(name).is_some() { &mut stream } else { &mut metadata };
        into.push((name.to_owned(), value.to_owned()));
    });
    let line = entry.line().into_owned();
    OwnedEntry { time, line, stream: Labels::new(stream), metadata: Labels::new(metadata), repeats: false }
}

/// The first time that a line bears.
pub fn first_stamp(text: &str) -> Option<Timestamp> {
    text.lines().find_map(|line| stamp(line.as_bytes()))
}

pub(crate) fn parse_lines(text: &str, labels: &LineLabels) -> Vec<OwnedEntry> {
    let lines: Vec<&str> = text.lines().collect();
    let stamps: Vec<Option<Timestamp>> = lines.iter().map(|line| stamp(line.as_bytes())).collect();
    let mut last = stamps.iter().flatten().next().copied();
    let mut entries = Vec::with_capacity(lines.len());
    for (index, (line, stamp)) in lines.iter().zip(stamps).enumerate() {
        last = stamp.or(last);
        let behind = (lines.len() - index) as i64;
        let time = last.unwrap_or(Timestamp(labels.end.0.saturating_sub(behind)));
        entries.push(OwnedEntry {
            time,
            line: (*line).to_owned(),
            stream: labels.stream.clone(),
            metadata: Labels::default(),
            repeats: true,
        });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<i64> {
        let labels = LineLabels { stream: Labels::new([("filename", "a.log")]), end: Timestamp(1000) };
        parse(text.as_bytes(), Format::detect(text.as_bytes()), &labels)
            .unwrap()
            .iter()
            .map(|entry| entry.time.0)
            .collect()
    }

    #[test]
    fn lines_bear_their_time_or_take_that_of_a_neighbour() {
        let second = 1_764_000_000_000_000_000;
        let text = "Caused by: nothing\n2025-11-24T16:00:00.5Z a\n\tat main\nts=2025-11-24T17:00:01+01:00 b\n{\"t\":\"2025-11-24 16:00:02,25\"}\n";
        assert_eq!(
            lines(text),
            [500_000_000, 500_000_000, 500_000_000, 1_000_000_000, 2_250_000_000].map(|after| second + after)
        );
        assert_eq!(lines("a\nb\nc\n"), [997, 998, 999], "no line bears a time");
        assert_eq!(lines(&format!("{}2025-11-24T16:00:00Z", "x".repeat(128))), [999], "too far from the beginning");
        assert_eq!(lines("2025-13-45T99:00:00Z a"), [999], "no such day");
        assert_eq!(lines(""), [0_i64; 0]);
    }

    #[test]
    fn formats_are_told_by_their_beginning() {
        let detect = |text: &str| Format::detect(text.as_bytes());
        assert_eq!(detect("\u{feff} {\n \"streams\" : []}"), Format::LokiPush);
        assert_eq!(detect("{\"resourceLogs\":[]}"), Format::Otlp);
        assert_eq!(detect("{\"resource_logs\":[]}"), Format::Otlp);
        assert_eq!(detect(r#"{"tenant":"}\"", "ids":[{}], "streams":[]}"#), Format::LokiPush);
        assert_eq!(detect(r#"{"a":{"streams":[]},"resourceLogs":["#), Format::Otlp);
        assert_eq!(detect(r#"{"msg":"a","streams":["b"]}"#), Format::Lines);
        assert_eq!(detect(r#"{"msg":{"streams":[]}}{"streams":[]}"#), Format::Lines);
        assert_eq!(detect("{\"streams_of\":[]}"), Format::Lines);
        assert_eq!(detect("{\"msg\":\"streams\"}"), Format::Lines);
        assert_eq!(detect(""), Format::Lines);
    }

    #[test]
    fn mistakes_are_told_by_their_place() {
        let error =
            |text: &str| parse(text.as_bytes(), Format::LokiPush, &LineLabels::default()).unwrap_err().to_string();
        assert_eq!(error("{\"streams\":[]}\n{\"streams\":[{]}"), "line 2, column 14: key must be a string");
        assert_eq!(
            error("{\"streams\":[]} {\"streams\":\n[{\"stream\":{},\"values\":[[\"x\",\"y\"]]}]}"),
            "line 2, column 28: invalid value: string \"x\", expected nanoseconds since 1970 in a string"
        );
        assert_eq!(
            error("{\"streams\":[{\"stream\":{},\"values\":[[\"1\"]]}]}"),
            "line 1, column 40: invalid length 1, expected `[\"nanoseconds since 1970\", \"line\"]`, with `{\"name\": \"value\"}` behind it if there is structured metadata"
        );
        let otlp = parse(b"{\"resourceLogs\":[]}\n{\"resourceLogs\":7}", Format::Otlp, &LineLabels::default());
        assert_eq!(otlp.unwrap_err().line, 2);
    }

    #[test]
    fn what_is_pushed_twice_is_there_once() {
        let push = r#"{"streams":[{"stream":{"a":"1"},"values":[["2","x"],["1","y"],["2","z"],["2","x"],["2","x",{"m-n":"1","a":"2"}]]}]}"#;
        let entries = parse(push.as_bytes(), Format::LokiPush, &LineLabels::default()).unwrap();
        let told: Vec<_> =
            sorted(entries).iter().map(|entry| format!("{} {} {}", entry.time.0, entry.line, entry.metadata)).collect();
        assert_eq!(told, ["1 y {}", "2 x {}", "2 z {}", r#"2 x {a_extracted="2", m_n="1"}"#]);
        assert_eq!(sorted(parse(b"same\nsame", Format::Lines, &LineLabels::default()).unwrap()).len(), 2);
    }

    #[test]
    fn otlp_requests_have_the_labels_of_lokis_ingestion() {
        let json = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","severityNumber":17,"severityText":"ERROR","body":{"stringValue":"refused"}},{"body":{"stringValue":"no time"}}]}]}]}"#;
        let entries =
            parse(json.as_bytes(), Format::Otlp, &LineLabels { end: Timestamp(9), ..LineLabels::default() }).unwrap();
        assert_eq!(entries[0].stream.to_string(), r#"{service_name="shop"}"#);
        assert_eq!(
            entries[0].metadata.to_string(),
            r#"{detected_level="error", severity_number="17", severity_text="ERROR"}"#
        );
        assert_eq!((entries[0].time, entries[0].line.as_str()), (Timestamp(5), "refused"));
        assert_eq!(entries[1].time, Timestamp(8));
    }
}
