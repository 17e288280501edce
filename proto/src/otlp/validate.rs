//! The check at the door: every byte of a request is looked at once, by the schema, strings for UTF-8 too.
//!
//! It accepts what `prost` decodes, with one difference: a group, which proto3 does not have, is refused.

use super::Signal;
use super::schema::{Field, Kind, Label, Message, Record};
use crate::wire::{DecodeError, DecodeErrorKind, NESTING_DEPTH_MAX, Reader, Value};

/// What a single record, a resource and a scope may be. A record over a limit is cut out of its request, and so are the records of a
/// resource or a scope that is; the client is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Greatest size of an encoded log record, span or data point, and of a resource or a scope.
    pub record_bytes_max: usize,
    /// Greatest number of attributes of a log record, span or data point, not counting those of a span's events and links.
    pub attributes_per_record_max: usize,
    /// Greatest number of attributes of a resource, and of a scope.
    pub attributes_per_resource_max: usize,
}

impl Limits {
    /// No limit.
    pub const NONE: Self = Self {
        record_bytes_max: usize::MAX,
        attributes_per_record_max: usize::MAX,
        attributes_per_resource_max: usize::MAX,
    };

    /// Whether a record of that many bytes and attributes is to be cut out.
    pub(super) fn exceeded_by(&self, bytes: usize, attributes: usize) -> bool {
        bytes > self.record_bytes_max || attributes > self.attributes_per_record_max
    }

    /// Whether the records of a resource or a scope of that many bytes and attributes are to be cut out.
    pub(super) fn exceeded_by_shared(&self, bytes: usize, attributes: usize) -> bool {
        bytes > self.record_bytes_max || attributes > self.attributes_per_resource_max
    }
}

/// 1 MiB and 1,024 attributes.
impl Default for Limits {
    fn default() -> Self {
        Self { record_bytes_max: 1 << 20, attributes_per_record_max: 1024, attributes_per_resource_max: 1024 }
    }
}

/// What the walk through a request found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Log records, spans or data points.
    pub records: u64,
    /// Least and greatest event time in nanoseconds of Unix time: a log record's `time_unix_nano`, or where that is 0 its
    /// `observed_time_unix_nano`; a span's start; a data point's time. `None` where no record has one.
    pub event_span: Option<(u64, u64)>,
    /// Whether every record has a time of its own: only then are two equal requests surely the same one sent twice.
    pub every_record_timed: bool,
    /// Records over a limit, for [`cut`](super::cut) to take out.
    pub records_over_limit: u64,
    /// Whether a resource or a scope is over a limit, for [`cut`](super::cut) to take its records out.
    pub shared_over_limit: bool,
    /// Whether a message that a field holds once is there in several pieces, for [`merge_repeated`](super::merge_repeated) to
    /// join: legal, but no encoder writes it, and the views do not read it.
    pub repeated_messages: bool,
}

/// Checks a request and counts what is in it.
pub fn validate(signal: Signal, request: &[u8], limits: &Limits) -> Result<Walked, DecodeError> {
    walk(Message::request(signal), request, limits)
}

/// Checks any message of which there is a table.
pub(crate) fn check(message: &'static Message, bytes: &[u8]) -> Result<(), DecodeError> {
    walk(message, bytes, &Limits::NONE).map(|_| ())
}

/// How many records are in a checked message.
pub(super) fn records(message: &'static Message, bytes: &[u8]) -> u64 {
    walk(message, bytes, &Limits::NONE).map_or(0, |walked| walked.records)
}

fn walk(message: &'static Message, bytes: &[u8], limits: &Limits) -> Result<Walked, DecodeError> {
    let walked = Walked {
        records: 0,
        event_span: None,
        every_record_timed: true,
        records_over_limit: 0,
        shared_over_limit: false,
        repeated_messages: false,
    };
    let mut walk = Walk { limits, walked };
    walk.message(message, bytes, NESTING_DEPTH_MAX)?;
    Ok(walk.walked)
}

struct Walk<'l> {
    limits: &'l Limits,
    walked: Walked,
}

impl Walk<'_> {
    /// `depth` is how many more levels of messages may come.
    fn message(&mut self, message: &'static Message, bytes: &[u8], depth: u32) -> Result<(), DecodeError> {
        match (message.record, message.shared_attributes) {
            (Some(record), _) => self.record(message, record, bytes, depth),
            (None, Some(attributes)) => self.shared(message, attributes, bytes, depth),
            (None, None) => self.fields(message, bytes, depth, |_, _| {}),
        }
    }

    /// A resource or a scope.
    fn shared(
        &mut self,
        message: &'static Message,
        attributes: u32,
        bytes: &[u8],
        depth: u32,
    ) -> Result<(), DecodeError> {
        let mut count = 0;
        self.fields(message, bytes, depth, |number, _| count += usize::from(number == attributes))?;
        self.walked.shared_over_limit |= self.limits.exceeded_by_shared(bytes.len(), count);
        Ok(())
    }

    fn record(
        &mut self,
        message: &'static Message,
        record: Record,
        bytes: &[u8],
        depth: u32,
    ) -> Result<(), DecodeError> {
        let (mut time, mut fallback_time, mut attributes) = (0, 0, 0);
        self.fields(message, bytes, depth, |number, value| match value {
            Value::Bytes(_) if number == record.attributes => attributes += 1,
            Value::Fixed64(value) if number == record.time => time = value,
            Value::Fixed64(value) if number == record.fallback_time => fallback_time = value,
            _ => {}
        })?;
        self.count(bytes.len(), attributes, time, fallback_time);
        Ok(())
    }

    fn count(&mut self, bytes: usize, attributes: usize, time: u64, fallback_time: u64) {
        self.walked.records += 1;
        self.walked.records_over_limit += u64::from(self.limits.exceeded_by(bytes, attributes));
        self.walked.every_record_timed &= time != 0;
        let time = if time == 0 { fallback_time } else { time };
        if time != 0 {
            let (min, max) = self.walked.event_span.unwrap_or((time, time));
            self.walked.event_span = Some((min.min(time), max.max(time)));
        }
    }

    /// Checks each field, then shows it to `seen`.
    #[inline]
    fn fields(
        &mut self,
        message: &'static Message,
        bytes: &[u8],
        depth: u32,
        mut seen: impl FnMut(u32, Value<'_>),
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut single_messages = 0u32;
        loop {
            let start = reader.offset();
            let Some((number, value)) = reader.field()? else { return Ok(()) };
            let Some(field) = message.field(number) else {
                if depth == 0 {
                    return Err(DecodeErrorKind::TooDeep.at(start));
                }
                continue;
            };
            if let (Kind::Message(child), Value::Bytes(content)) = (field.kind, value) {
                if depth == 0 {
                    return Err(DecodeErrorKind::TooDeep.at(start));
                }
                let content_start = reader.offset() - content.len();
                self.message(child, content, depth - 1).map_err(|error| error.within(content_start))?;
                if field.label != Label::Many {
                    self.walked.repeated_messages |= single_messages & 1 << number != 0;
                    single_messages |= 1 << number;
                }
            } else {
                check_scalar(field, value).map_err(|kind| kind.at(start))?;
            }
            seen(number, value);
        }
    }
}

#[inline]
fn check_scalar(field: &Field, value: Value<'_>) -> Result<(), DecodeErrorKind> {
    match (field.kind, value) {
        (Kind::String, Value::Bytes(text)) if is_utf8(text) => Ok(()),
        (Kind::String, Value::Bytes(_)) => Err(DecodeErrorKind::Utf8),
        (Kind::Bytes | Kind::Id, Value::Bytes(_))
        | (Kind::Double | Kind::Fixed64 | Kind::Sfixed64, Value::Fixed64(_))
        | (Kind::Fixed32, Value::Fixed32(_)) => Ok(()),
        (kind, Value::Varint(_)) if is_varint(kind) => Ok(()),
        (kind, Value::Bytes(packed)) if field.label == Label::Many => check_packed(kind, packed),
        _ => Err(DecodeErrorKind::UnexpectedWireType),
    }
}

/// Almost every string of a request is short and ASCII, which is told without a call.
#[inline]
fn is_utf8(text: &[u8]) -> bool {
    text.is_ascii() || simdutf8::basic::from_utf8(text).is_ok()
}

/// Numbers one after the other.
fn check_packed(kind: Kind, packed: &[u8]) -> Result<(), DecodeErrorKind> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 if packed.len().is_multiple_of(8) => Ok(()),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Err(DecodeErrorKind::Truncated),
        kind if is_varint(kind) => {
            let mut reader = Reader::new(packed);
            while !reader.rest().is_empty() {
                reader.varint().map_err(|error| error.kind)?;
            }
            Ok(())
        }
        _ => Err(DecodeErrorKind::UnexpectedWireType),
    }
}

#[inline]
fn is_varint(kind: Kind) -> bool {
    matches!(kind, Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Bool | Kind::Enum(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::generate;
    use crate::wire::{put_bytes_field, put_message_field};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use proptest::prelude::*;
    use prost::Message as _;

    fn prost_error(signal: Signal, bytes: &[u8]) -> Option<String> {
        let error = match signal {
            Signal::Logs => ExportLogsServiceRequest::decode(bytes).err(),
            Signal::Traces => ExportTraceServiceRequest::decode(bytes).err(),
            Signal::Metrics => ExportMetricsServiceRequest::decode(bytes).err(),
        };
        error.map(|error| error.to_string())
    }

    /// A group, or the end of one, in a field that is there to be skipped.
    fn is_group(error: DecodeError) -> bool {
        error.kind == DecodeErrorKind::WireType
    }

    fn compare(signal: Signal, bytes: &[u8]) {
        let ours = validate(signal, bytes, &Limits::NONE).err();
        let prosts = prost_error(signal, bytes);
        let agrees = ours.is_some() == prosts.is_some() || ours.is_some_and(is_group);
        assert!(agrees, "ours {ours:?}, prost's {prosts:?}, {bytes:x?}");
        assert!(ours.is_none_or(|error| error.offset <= bytes.len()), "{ours:?}, {bytes:x?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn takes_what_prost_takes((signal, bytes) in generate::signal().prop_flat_map(|s| (Just(s), generate::request(s)))) {
            compare(signal, &bytes);
            prop_assert!(prost_error(signal, &bytes).is_none());
        }

        #[test]
        fn refuses_what_prost_refuses((signal, bytes) in generate::signal().prop_flat_map(|s| (Just(s), generate::broken_request(s)))) {
            compare(signal, &bytes);
        }

        #[test]
        fn survives_anything(signal in generate::signal(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            compare(signal, &bytes);
        }
    }

    #[test]
    fn nesting_goes_as_deep_as_prosts() {
        let record = |arrays: usize, innermost: &[u8]| {
            let body = (0..arrays).fold(innermost.to_vec(), |inner, _| nested(5, &nested(1, &inner)));
            nested(1, &nested(2, &nested(2, &nested(5, &body))))
        };
        for arrays in 40..60 {
            for innermost in [&b""[..], &[0x10, 1], &[0x2A, 0], &[0x2A, 2, 0x0A, 0], &[0x78, 1]] {
                compare(Signal::Logs, &record(arrays, innermost));
            }
        }
        assert!(validate(Signal::Logs, &record(48, b""), &Limits::NONE).is_ok());
        let error = validate(Signal::Logs, &record(49, b""), &Limits::NONE).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::TooDeep);
    }

    fn nested(number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, number, content);
        out
    }

    #[test]
    fn the_place_of_a_mistake_is_that_in_the_request() {
        let mut bytes = nested(1, b"");
        put_message_field(&mut bytes, 1, |out| put_message_field(out, 2, |out| put_bytes_field(out, 3, b"\xFF")));
        let error = validate(Signal::Logs, &bytes, &Limits::NONE).unwrap_err();
        assert_eq!(error.to_string(), "invalid protobuf at byte 6: a string is not UTF-8");
    }

    #[test]
    fn counts_records_and_their_times() {
        let request = |records: &[(u64, u64)]| {
            let log_records = records.iter().map(|(time, observed)| LogRecord {
                time_unix_nano: *time,
                observed_time_unix_nano: *observed,
                ..Default::default()
            });
            let scope_logs = vec![ScopeLogs { log_records: log_records.collect(), ..Default::default() }];
            let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        };
        let walk = |records: &[(u64, u64)]| {
            let walked = validate(Signal::Logs, &request(records), &Limits::NONE).unwrap();
            (walked.records, walked.event_span, walked.every_record_timed)
        };
        assert_eq!(walk(&[]), (0, None, true));
        assert_eq!(walk(&[(5, 0), (3, 9)]), (2, Some((3, 5)), true));
        assert_eq!(walk(&[(5, 0), (0, 9)]), (2, Some((5, 9)), false));
        assert_eq!(walk(&[(0, 0)]), (1, None, false));
    }
}
