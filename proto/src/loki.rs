//! Loki's push API: `logproto.PushRequest`, written by appending and read through views. The body is a Snappy block
//! (see [`snappy`](crate::snappy)) of type `application/x-protobuf`.
//!
//! ```text
//! PushRequest    1 repeated Stream streams
//! Stream         1 string labels            {service_name="checkout"}
//!                2 repeated Entry entries   in order of time
//!                3 uint64 hash              Loki computes it anew: not written
//! Entry          1 google.protobuf.Timestamp timestamp
//!                2 string line
//!                3 repeated LabelPair structuredMetadata
//! LabelPair      1 string name   2 string value
//! ```

use crate::otlp::common::{last_text, message, messages};
use crate::otlp::schema::{Kind, Message, many, one};
use crate::otlp::validate::check;
use crate::wire::*;

/// Appends a stream: its labels (see [`labels_text`]) and the entries that `entries` appends, oldest first.
pub fn put_stream(out: &mut Vec<u8>, labels: &str, entries: impl FnOnce(&mut Vec<u8>)) {
    put_message_field(out, 1, |out| {
        put_bytes_field(out, 1, labels.as_bytes());
        entries(out);
    });
}

/// Appends one entry of a stream.
pub fn put_entry<'a>(
    out: &mut Vec<u8>,
    time_unix_nano: i64,
    line: &str,
    structured_metadata: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    put_message_field(out, 2, |out| {
        put_message_field(out, 1, |out| put_timestamp(out, time_unix_nano));
        put_bytes_field(out, 2, line.as_bytes());
        for (name, value) in structured_metadata {
            put_message_field(out, 3, |out| {
                put_bytes_field(out, 1, name.as_bytes());
                put_bytes_field(out, 2, value.as_bytes());
            });
        }
    });
}

fn put_timestamp(out: &mut Vec<u8>, time_unix_nano: i64) {
    put_varint_field(out, 1, time_unix_nano.div_euclid(NANOS_PER_SECOND) as u64);
    put_varint_field(out, 2, time_unix_nano.rem_euclid(NANOS_PER_SECOND) as u64);
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A stream's labels as Loki reads them: `{a="1", b="2"}`. Names must be Prometheus's; values are quoted as in Go.
pub fn labels_text<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (name, value) in labels {
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(name);
        text.push('=');
        quote(&mut text, value);
    }
    text.push('}');
    text
}

/// Appends a string literal of Go.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            char if char.is_ascii_control() => text.push_str(&format!("\\x{:02x}", u32::from(char))),
            char => text.push(char),
        }
    }
    text.push('"');
}

/// A push request that was checked.
#[derive(Clone, Copy, Debug)]
pub struct PushRequest<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> PushRequest<'a> {
    /// Checks a request's structure and its strings for UTF-8; the labels are not parsed.
    pub fn validate(raw: &'a [u8]) -> Result<Self, DecodeError> {
        check(&PUSH_REQUEST, raw)?;
        Ok(Self { raw })
    }

    /// The streams, in the order they came.
    pub fn streams(&self) -> impl Iterator<Item = Stream<'a>> + use<'a> {
        messages(self.raw, 1).map(|raw| Stream { raw })
    }
}

/// Entries that have the same labels.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> Stream<'a> {
    /// The labels as text.
    pub fn labels(&self) -> &'a str {
        last_text(self.raw, 1)
    }

    /// The entries, in the order they came.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        messages(self.raw, 2).map(|raw| Entry { raw })
    }
}

/// A line and when it was written.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Nanoseconds of Unix time; what 64 bits do not hold is the nearest that they do.
    pub fn time_unix_nano(&self) -> i64 {
        let (mut seconds, mut nanos) = (0, 0);
        for field in Fields::new(message(self.raw, 1).unwrap_or_default()) {
            match field {
                (1, Value::Varint(value)) => seconds = value as i64,
                (2, Value::Varint(value)) => nanos = value as i32,
                _ => {}
            }
        }
        seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(i64::from(nanos))
    }

    /// The line.
    pub fn line(&self) -> &'a str {
        last_text(self.raw, 2)
    }

    /// Names and values beside the labels.
    pub fn structured_metadata(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        messages(self.raw, 3).map(|pair| (last_text(pair, 1), last_text(pair, 2)))
    }
}

static PUSH_REQUEST: Message = Message::new("PushRequest", &[many(1, "streams", Kind::Message(&STREAM))]);

static STREAM: Message = Message::new(
    "StreamAdapter",
    &[one(1, "labels", Kind::String), many(2, "entries", Kind::Message(&ENTRY)), one(3, "hash", Kind::Uint64)],
);

static ENTRY: Message = Message::new(
    "EntryAdapter",
    &[
        one(1, "timestamp", Kind::Message(&TIMESTAMP)),
        one(2, "line", Kind::String),
        many(3, "structuredMetadata", Kind::Message(&LABEL_PAIR)),
    ],
);

static TIMESTAMP: Message = Message::new("Timestamp", &[one(1, "seconds", Kind::Int64), one(2, "nanos", Kind::Int32)]);

static LABEL_PAIR: Message =
    Message::new("LabelPairAdapter", &[one(1, "name", Kind::String), one(2, "value", Kind::String)]);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    /// The messages as prost has them.
    mod pb {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct PushRequest {
            #[prost(message, repeated, tag = "1")]
            pub(super) streams: Vec<Stream>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Stream {
            #[prost(string, tag = "1")]
            pub(super) labels: String,
            #[prost(message, repeated, tag = "2")]
            pub(super) entries: Vec<Entry>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Entry {
            #[prost(message, optional, tag = "1")]
            pub(super) timestamp: Option<Timestamp>,
            #[prost(string, tag = "2")]
            pub(super) line: String,
            #[prost(message, repeated, tag = "3")]
            pub(super) structured_metadata: Vec<LabelPair>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Timestamp {
            #[prost(int64, tag = "1")]
            pub(super) seconds: i64,
            #[prost(int32, tag = "2")]
            pub(super) nanos: i32,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct LabelPair {
            #[prost(string, tag = "1")]
            pub(super) name: String,
            #[prost(string, tag = "2")]
            pub(super) value: String,
        }
    }

    type Entries = Vec<(i64, String, Vec<(String, String)>)>;

    proptest! {
        #[test]
        fn what_is_written_is_read_by_prost_and_by_the_views(streams in streams()) {
            let mut bytes = Vec::new();
            for (labels, entries) in &streams {
                put_stream(&mut bytes, labels, |out| {
                    for (time, line, metadata) in entries {
                        put_entry(out, *time, line, metadata.iter().map(|(name, value)| (&**name, &**value)));
                    }
                });
            }
            let by_prost = pb::PushRequest::decode(&bytes[..]).unwrap().streams.into_iter();
            let by_prost: Vec<(String, Entries)> = by_prost.map(|stream| (stream.labels, stream.entries.into_iter().map(owned).collect())).collect();
            prop_assert_eq!(&by_prost, &streams);
            let by_views = PushRequest::validate(&bytes).unwrap().streams();
            let by_views: Vec<(String, Entries)> = by_views.map(|stream| (stream.labels().to_string(), stream.entries().map(viewed).collect())).collect();
            prop_assert_eq!(&by_views, &streams);
        }
    }

    fn streams() -> impl Strategy<Value = Vec<(String, Entries)>> {
        let metadata = proptest::collection::vec((".{0,9}", ".{0,9}"), 0..4);
        let entries = proptest::collection::vec((any::<i64>(), ".{0,200}", metadata), 0..4);
        proptest::collection::vec((".{0,9}", entries), 0..4)
    }

    fn owned(entry: pb::Entry) -> (i64, String, Vec<(String, String)>) {
        let time = entry.timestamp.unwrap();
        assert!((0..1_000_000_000).contains(&time.nanos));
        let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let metadata = entry.structured_metadata.into_iter().map(|pair| (pair.name, pair.value)).collect();
        (nanos.try_into().unwrap(), entry.line, metadata)
    }

    fn viewed(entry: Entry<'_>) -> (i64, String, Vec<(String, String)>) {
        let metadata = entry.structured_metadata().map(|(name, value)| (name.to_string(), value.to_string()));
        (entry.time_unix_nano(), entry.line().to_string(), metadata.collect())
    }

    #[test]
    fn garbage_is_refused() {
        assert!(PushRequest::validate(b"\x0A\x04\x0A\x02ab").is_ok());
        assert_eq!(PushRequest::validate(b"\x0A\x03\x0A\x01\xFF").unwrap_err().kind, DecodeErrorKind::Utf8);
        assert_eq!(PushRequest::validate(b"\x0A\x04\x0A\x02").unwrap_err().kind, DecodeErrorKind::Truncated);
    }

    #[test]
    fn labels_are_quoted_as_in_go() {
        assert_eq!(labels_text([]), "{}");
        assert_eq!(labels_text([("a", "1"), ("b", "ü \"\\\n\t\r\0\u{7f}")]), r#"{a="1", b="ü \"\\\n\t\r\x00\x7f"}"#);
    }
}
