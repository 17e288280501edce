//! Records of every format, as the OTLP requests that the engine reads.
//!
//! What came by OTLP stays as it is. The labels of a Loki stream, or those that lines are given, become attributes of the resource
//! under their own names, and [`Records::label_config`] makes index labels of these, so that a selector finds them. Structured
//! metadata becomes attributes of the record, `severity_number`, `severity_text`, `trace_id` and `span_id` the fields of their names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode::{self, LogRecordWriter, put_resource_logs, put_scope_logs};
use watchbell_proto::otlp::logs::LogsRequest;
use watchbell_proto::wire::{put_bytes_field, put_bytes_header, put_fixed64_field, varint_len};

use crate::labels::Labels;
use crate::otlp_labels::LabelConfig;
use crate::query::records::{self as query_records, Format, LineLabels, OwnedEntry, RecordsError};
use crate::query::stamp::stamp;
use crate::time::Timestamp;

/// Records, one behind another in memory.
#[derive(Clone, Debug, Default)]
pub struct Records {
    sources: Vec<Source>,
    by_source: BTreeMap<Source, usize>,
    by_stream: BTreeMap<Labels, usize>,
    /// Index labels that no default of OTLP makes.
    index_labels: BTreeSet<String>,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

/// What many records share, encoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    time: Timestamp,
    received: Timestamp,
    source: usize,
    start: usize,
    end: usize,
    content: Content,
}

/// What the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// All of it, encoded.
    Whole,
    /// The same, but the time is another, or is not in it.
    Timeless,
    /// Its line, as text.
    Line,
}

impl Records {
    /// Appends what the bytes hold, in their order; each record is received when it happens.
    ///
    /// # Errors
    /// The bytes are not in that format.
    pub fn read(&mut self, bytes: &[u8], format: Format, lines: &LineLabels) -> Result<(), RecordsError> {
        let bytes = query_records::without_mark(bytes);
        if format != Format::Lines {
            return self.read_documents(bytes, format, false, lines.end).map(drop);
        }
        let text = String::from_utf8_lossy(bytes);
        match query_records::first_stamp(&text) {
            Some(mut last) => self.read_lines(&text, &lines.stream, &mut last),
            None => query_records::parse_lines(&text, lines).iter().for_each(|entry| self.push(entry, entry.time)),
        }
        Ok(())
    }

    /// Appends what JSON documents that stand behind one another hold, and tells where the last whole one ends. If more of them follow these
    /// bytes, a part of one at their end is none yet. OTLP records that bear no time happen at `end`.
    ///
    /// # Errors
    /// The bytes are not in that format.
    pub fn read_documents(
        &mut self,
        bytes: &[u8],
        format: Format,
        more_follow: bool,
        end: Timestamp,
    ) -> Result<usize, RecordsError> {
        match format {
            Format::Otlp => query_records::otlp_requests(bytes, more_follow, |request| self.push_request(request, end)),
            _ => query_records::pushes(bytes, more_follow, |entry| self.push(&entry, entry.time)),
        }
    }

    /// Appends lines, each of them a record. One without a time has that of the line before it, at first `last`, which is then the last one's.
    pub fn read_lines(&mut self, text: &str, stream: &Labels, last: &mut Timestamp) {
        let source = self.source_of_stream(stream);
        let mut start = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        let mut behind = text.as_bytes();
        while !behind.is_empty() {
            let end = memchr::memchr(b'\n', behind);
            let (line, rest) = behind.split_at(end.unwrap_or(behind.len()));
            behind = rest.get(1..).unwrap_or_default();
            let len = line.len() - usize::from(end.is_some() && line.ends_with(b"\r"));
            let time = stamp(line).unwrap_or(*last);
            *last = time;
            let (content, end) = (Content::Line, start + len);
            self.records.push(Record { time, received: time, source, start, end, content });
            start += line.len() + 1;
        }
    }

    /// Appends one record that is received at that time.
    pub fn push(&mut self, entry: &OwnedEntry, received: Timestamp) {
        let source = self.source_of_stream(&entry.stream);
        let start = self.bytes.len();
        put_entry(&mut self.bytes, entry);
        let (end, time) = (self.bytes.len(), entry.time);
        self.records.push(Record { time, received, source, start, end, content: Content::Timeless });
    }

    /// Appends the records of an OTLP request; those that bear no time happen at `end`.
    pub fn push_request(&mut self, request: &[u8], end: Timestamp) {
        for resource_logs in LogsRequest::new(request).resource_logs() {
            for scope_logs in resource_logs.scope_logs() {
                let (resource, scope) = (resource_logs.resource().raw.to_vec(), scope_logs.scope().raw.to_vec());
                let source = self.source(Source { resource, scope });
                for record in scope_logs.log_records() {
                    let start = self.bytes.len();
                    self.bytes.extend_from_slice(record.raw);
                    let time = query_records::otlp_time(&record).unwrap_or(end);
                    let (content, end) = (Content::Whole, self.bytes.len());
                    self.records.push(Record { time, received: time, source, start, end, content });
                }
            }
        }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When a record happened.
    pub fn time(&self, at: usize) -> Timestamp {
        self.records[at].time
    }

    /// When a record was received.
    pub fn received(&self, at: usize) -> Timestamp {
        self.records[at].received
    }

    /// Moves records so that the earliest of them happens at `time`; they keep their distances.
    pub fn move_to(&mut self, records: Range<usize>, time: Timestamp) {
        let Some(first) = self.records[records.clone()].iter().map(|record| record.time).min() else { return };
        let moved = |at: Timestamp| Timestamp(at.0.saturating_sub(first.0).saturating_add(time.0));
        for record in &mut self.records[records] {
            (record.time, record.received) = (moved(record.time), moved(record.received));
            record.content = if record.content == Content::Line { Content::Line } else { Content::Timeless };
        }
    }

    /// Leaves those that happen when they should.
    pub fn retain(&mut self, is_wanted: impl Fn(Timestamp) -> bool) {
        self.records.retain(|record| is_wanted(record.time));
    }

    /// Puts them in the order in which they are received; those of one moment stay as they are.
    pub fn sort(&mut self) {
        if !self.records.is_sorted_by_key(|record| record.received) {
            self.records.sort_by_key(|record| record.received);
        }
    }

    /// Records as one OTLP request.
    pub fn batch(&self, records: Range<usize>) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_batch(records, &mut out);
        out
    }

    /// The same, appended to a buffer.
    pub fn put_batch(&self, records: Range<usize>, out: &mut Vec<u8>) {
        for run in self.records[records].chunk_by(|a, b| a.source == b.source) {
            let Source { resource, scope } = &self.sources[run[0].source];
            put_resource_logs(out, resource, |out| {
                put_scope_logs(out, scope, |out| run.iter().for_each(|record| self.put_record(record, out)));
            });
        }
    }

    /// The records as queries read them, under the labels that the config makes.
    pub fn entries(&self, records: Range<usize>, config: &LabelConfig) -> Vec<OwnedEntry> {
        let times = self.records[records.clone()].iter().map(|record| record.time);
        let entries = query_records::from_otlp(&self.batch(records), config, Timestamp::default());
        let mut entries: Vec<OwnedEntry> = entries.into_iter().map(OwnedEntry::repeating).collect();
        entries.iter_mut().zip(times).for_each(|(entry, time)| entry.time = time);
        entries
    }

    /// The names of the labels that their streams have.
    pub fn index_labels(&self) -> &BTreeSet<String> {
        &self.index_labels
    }

    /// `config` with what the records' streams have as index labels.
    pub fn label_config(&self, config: &LabelConfig) -> LabelConfig {
        with_index_labels(config, &self.index_labels)
    }

    /// Its length goes first, so that nothing is moved to make room for it.
    fn put_record(&self, record: &Record, out: &mut Vec<u8>) {
        let bytes = &self.bytes[record.start..record.end];
        let time_len = if record.content == Content::Whole { 0 } else { TIME_FIELD_BYTES };
        if record.content == Content::Line {
            let body_len = field_len(bytes.len());
            put_bytes_header(out, 2, field_len(body_len) + time_len);
            put_bytes_header(out, 5, body_len);
            put_bytes_field(out, 1, bytes);
        } else {
            put_bytes_header(out, 2, bytes.len() + time_len);
            out.extend_from_slice(bytes);
        }
        if record.content != Content::Whole {
            put_fixed64_field(out, 1, u64::try_from(record.time.0).unwrap_or_default()); // the last one counts
        }
    }

    fn source_of_stream(&mut self, stream: &Labels) -> usize {
        if let Some(source) = self.by_stream.get(stream) {
            return *source;
        }
        self.index_labels.extend(stream.iter().map(|(name, _)| name.to_owned()));
        let resource = encode::resource(stream.iter().map(|(name, value)| (name, AnyValue::String(value))));
        let source = self.source(Source { resource, scope: Vec::new() });
        self.by_stream.insert(stream.clone(), source);
        source
    }

    fn source(&mut self, source: Source) -> usize {
        if let Some(at) = self.by_source.get(&source) {
            return *at;
        }
        self.sources.push(source.clone());
        self.by_source.insert(source, self.sources.len() - 1);
        self.sources.len() - 1
    }
}

/// `config` with these names as index labels.
pub fn with_index_labels(config: &LabelConfig, names: &BTreeSet<String>) -> LabelConfig {
    let mut config = config.clone();
    let known: BTreeSet<&String> = config.index_resource_attributes.iter().collect();
    let more: Vec<String> = names.iter().filter(|name| !known.contains(name)).cloned().collect();
    config.index_resource_attributes.extend(more);
    config
}

/// What a field with a short number and so many bytes takes.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

const TIME_FIELD_BYTES: usize = 9;

/// All of a record but its time and its stream.
fn put_entry(out: &mut Vec<u8>, entry: &OwnedEntry) {
    let mut trace = ([0; 16], [0; 8]);
    let mut fields = LogRecordWriter::new(out);
    fields.body(&AnyValue::String(&entry.line));
    for (name, value) in entry.metadata.iter() {
        match (name, value.parse()) {
            ("severity_number", Ok(number @ 1..=24)) => fields.severity_number(number),
            ("severity_text", _) => fields.severity_text(value),
            ("trace_id", _) if hex(value, &mut trace.0) => {}
            ("span_id", _) if hex(value, &mut trace.1) => {}
            _ => fields.attribute(name, &AnyValue::String(value)),
        }
    }
    if trace.0 != [0; 16] {
        put_bytes_field(out, 9, &trace.0);
    }
    if trace.1 != [0; 8] {
        put_bytes_field(out, 10, &trace.1);
    }
}

/// Reads an id; only what is written as we would write it, so that its label stays the same.
fn hex(text: &str, id: &mut [u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let pairs: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8)).collect();
    let Some(bytes) = pairs.filter(|bytes| bytes.len() == id.len()) else { return false };
    id.copy_from_slice(&bytes);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stream and metadata of each record as the engine sees it.
    fn told(records: &Records) -> Vec<String> {
        let config = records.label_config(&LabelConfig::default());
        let entries = records.entries(0..records.len(), &config);
        entries.iter().map(|e| format!("{} {} {} {}", e.time.0, e.line, e.stream, e.metadata)).collect()
    }

    #[test]
    fn every_format_has_its_labels() {
        let mut records = Records::default();
        let push = r#"{"streams":[{"stream":{"app":"shop"},"values":[["5","a",{"severity_number":"17","trace_id":"0123456789abcdef0123456789abcdef","k":"v"}]]}]}"#;
        records.read(push.as_bytes(), Format::LokiPush, &LineLabels::default()).unwrap();
        let otlp = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"till"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"4","body":{"stringValue":"b"}}]}]}]}"#;
        records.read(otlp.as_bytes(), Format::Otlp, &LineLabels::default()).unwrap();
        let lines = LineLabels { stream: Labels::new([("filename", "x.log")]), end: Timestamp(7) };
        records.read(b"error c", Format::Lines, &lines).unwrap();
        records.sort();
        assert_eq!(
            told(&records),
            [
                r#"4 b {service_name="till"} {detected_level="unknown"}"#,
                r#"5 a {app="shop", service_name="shop"} {detected_level="error", k="v", severity_number="17", trace_id="0123456789abcdef0123456789abcdef"}"#,
                r#"6 error c {filename="x.log", service_name="unknown_service"} {detected_level="error"}"#,
            ]
        );
    }

    #[test]
    fn what_is_moved_keeps_its_distances() {
        let mut records = Records::default();
        let otlp = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"40"},{"timeUnixNano":"43"}]}]}]}"#;
        records.read(otlp.as_bytes(), Format::Otlp, &LineLabels::default()).unwrap();
        records.move_to(0..2, Timestamp(1000));
        let request = records.batch(0..2);
        let stamps: Vec<u64> =
            LogsRequest::new(&request).records().map(|(_, _, record)| record.time_unix_nano).collect();
        assert_eq!(stamps, [1000, 1003]);
        assert_eq!((records.time(1), records.received(1)), (Timestamp(1003), Timestamp(1003)));
    }

    #[test]
    fn only_ids_become_ids() {
        let mut id = [0; 2];
        assert!(hex("0aff", &mut id) && id == [0x0a, 0xff]);
        for text in ["0AFF", "0aff0", "0a", "zzzz", "é"] {
            assert!(!hex(text, &mut id), "{text}");
        }
    }
}
