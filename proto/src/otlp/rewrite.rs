//! The two changes that the door makes to a request's bytes: cutting out records over a limit, and joining messages that came in
//! pieces. Almost every request needs neither and stays the bytes it came as.

use std::borrow::Cow;

use bytes::Bytes;

use super::Signal;
use super::schema::{Kind, Label, Message};
use super::validate::{Limits, Walked, records, validate};
use crate::wire::{DecodeError, DecodeErrorKind, Fields, Value, put_bytes_field, put_message_field};
use crate::wire::{put_fixed32_field, put_fixed64_field, put_varint_field};

/// A request as it goes into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The request, without the records that were cut out: the very bytes that came where there were none.
    pub bytes: Bytes,
    /// What is in these bytes.
    pub walked: Walked,
    /// What was cut out.
    pub cut: Cut,
}

/// Records that were cut out of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Records larger than `record_bytes_max`.
    pub too_large: u64,
    /// Other records with more attributes than `attributes_per_record_max`.
    pub too_many_attributes: u64,
    /// Records of a resource or a scope over a limit.
    pub of_large_resources: u64,
}

impl Cut {
    /// How many records were cut out.
    pub fn records(&self) -> u64 {
        self.too_large + self.too_many_attributes + self.of_large_resources
    }

    /// The reason for the client, as `partial_success.error_message`.
    pub fn reason(&self, signal: Signal, limits: &Limits) -> String {
        let name = signal.records_name();
        let mut reasons = Vec::new();
        if self.too_large > 0 {
            let (count, max) = (self.too_large, limits.record_bytes_max);
            reasons.push(format!("{count} {name} larger than `record_bytes_max` ({max} bytes)"));
        }
        if self.too_many_attributes > 0 {
            let (count, max) = (self.too_many_attributes, limits.attributes_per_record_max);
            reasons.push(format!("{count} {name} with more attributes than `attributes_per_record_max` ({max})"));
        }
        if self.of_large_resources > 0 {
            let (count, max, bytes_max) =
                (self.of_large_resources, limits.attributes_per_resource_max, limits.record_bytes_max);
            reasons.push(format!(
                "{count} {name} of a resource or scope with more attributes than `attributes_per_resource_max` ({max}) or larger \
                 than `record_bytes_max` ({bytes_max} bytes)"
            ));
        }
        reasons.join(", ")
    }
}

/// All that is done to a protobuf request at the door: it is checked, records over a limit are cut out, and what is left is in the
/// form that the views read.
pub fn admit(signal: Signal, request: Bytes, limits: &Limits) -> Result<Admitted, DecodeError> {
    let mut admitted = Admitted { walked: validate(signal, &request, limits)?, bytes: request, cut: Cut::default() };
    if admitted.walked.repeated_messages {
        admitted.bytes = merge_repeated(signal, &admitted.bytes)?.into();
        admitted.walked = validate(signal, &admitted.bytes, limits)?;
    }
    if admitted.walked.records_over_limit > 0 || admitted.walked.shared_over_limit {
        let (bytes, cut) = cut(signal, &admitted.bytes, limits);
        admitted.walked = validate(signal, &bytes, limits)?;
        (admitted.bytes, admitted.cut) = (bytes.into(), cut);
    }
    Ok(admitted)
}

/// A checked request without the records that are over a limit, and those of resources and scopes that are.
pub fn cut(signal: Signal, request: &[u8], limits: &Limits) -> (Vec<u8>, Cut) {
    let mut cut = Cut::default();
    let out = keep_records(signal, request, &mut |message, content| within_limits(message, content, limits, &mut cut));
    (out, cut)
}

/// A checked request as two: its first `records` records, and the rest.
pub fn split_at(signal: Signal, request: &[u8], records: u64) -> [Vec<u8>; 2] {
    [true, false].map(|first| {
        let mut seen = 0;
        keep_records(signal, request, &mut |message, _| {
            seen += u64::from(message.record.is_some());
            message.record.is_none() || (seen <= records) == first
        })
    })
}

/// A request with those of its records, and of the messages that hold them, that `keep` says yes to.
fn keep_records(signal: Signal, request: &[u8], keep: &mut dyn FnMut(&'static Message, &[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len());
    copy_records(Message::request(signal), request, &mut out, keep);
    out
}

fn copy_records(
    message: &Message,
    bytes: &[u8],
    out: &mut Vec<u8>,
    keep: &mut dyn FnMut(&'static Message, &[u8]) -> bool,
) {
    for (number, value) in Fields::new(bytes) {
        match (message.field(number).map(|field| field.kind), value) {
            (Some(Kind::Message(child)), Value::Bytes(content)) if child.holds_records => {
                if keep(child, content) {
                    put_message_field(out, number, |out| copy_records(child, content, out, keep));
                }
            }
            (Some(Kind::Message(child)), Value::Bytes(content)) if child.record.is_some() && !keep(child, content) => {}
            _ => put_field(out, number, value),
        }
    }
}

/// Whether a message may stay; counts its records if not.
fn within_limits(message: &'static Message, content: &[u8], limits: &Limits, cut: &mut Cut) -> bool {
    let Some(record) = message.record else {
        let within = !has_large_resource(message, content, limits);
        cut.of_large_resources += if within { 0 } else { records(message, content) };
        return within;
    };
    if content.len() > limits.record_bytes_max {
        cut.too_large += 1;
        return false;
    }
    let attributes = Fields::new(content).filter(|(number, _)| *number == record.attributes).count();
    let within = !limits.exceeded_by(content.len(), attributes);
    cut.too_many_attributes += u64::from(!within);
    within
}

/// Whether the resource or the scope that the message holds beside its records is over a limit.
fn has_large_resource(message: &Message, content: &[u8], limits: &Limits) -> bool {
    Fields::new(content).any(|(number, value)| {
        let Some(Kind::Message(child)) = message.field(number).map(|field| field.kind) else { return false };
        let (Some(attributes), Value::Bytes(shared)) = (child.shared_attributes, value) else { return false };
        let attributes = Fields::new(shared).filter(|(number, _)| *number == attributes).count();
        limits.exceeded_by_shared(shared.len(), attributes)
    })
}

/// A checked request in which each message that a field holds once is there in one piece: protobuf lets a message come in pieces,
/// whose fields then count as if they had come in one; of a `oneof` only the pieces since another of its fields count.
///
/// # Errors
/// Pieces within pieces would be copied again and again: all copies together may be as large as the request, and [`COPIED_BYTES_FREE`]
/// in any case.
pub fn merge_repeated(signal: Signal, request: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(request.len());
    let mut budget = Budget(request.len().max(COPIED_BYTES_FREE));
    merge_fields(Message::request(signal), request, &mut out, &mut budget)?;
    Ok(out)
}

/// What may be copied of any request.
const COPIED_BYTES_FREE: usize = 64 << 10;

/// Bytes that may still be copied.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.0 = self.0.checked_sub(bytes).ok_or(DecodeErrorKind::TooManyPieces.at(0))?;
        Ok(())
    }
}

fn merge_fields(message: &Message, bytes: &[u8], out: &mut Vec<u8>, budget: &mut Budget) -> Result<(), DecodeError> {
    let merged = single_messages(message, bytes, budget)?;
    for (index, (number, value)) in Fields::new(bytes).enumerate() {
        match (message.field(number).map(|field| (field.label, field.kind)), value) {
            (Some((Label::Many, Kind::Message(child))), Value::Bytes(content)) => {
                put_message_field(out, number, |out| merge_fields(child, content, out, budget))?;
            }
            (Some((_, Kind::Message(child))), _) => {
                if let Some(whole) = merged.iter().find(|whole| whole.last == index) {
                    put_message_field(out, number, |out| merge_fields(child, &whole.content, out, budget))?;
                }
            }
            _ => put_field(out, number, value),
        }
    }
    Ok(())
}

/// A message of which a field holds one, from all its pieces.
struct Whole<'a> {
    number: u32,
    content: Cow<'a, [u8]>,
    /// Index of the last piece among all fields.
    last: usize,
}

fn single_messages<'a>(message: &Message, bytes: &'a [u8], budget: &mut Budget) -> Result<Vec<Whole<'a>>, DecodeError> {
    let mut wholes: Vec<Whole<'a>> = Vec::new();
    let is_oneof = |number| message.field(number).is_some_and(|field| field.label == Label::Oneof);
    for (last, (number, value)) in Fields::new(bytes).enumerate() {
        let Some(field) = message.field(number) else { continue };
        if field.label == Label::Oneof {
            wholes.retain(|whole| whole.number == number || !is_oneof(whole.number));
        }
        if let (Kind::Message(_), Value::Bytes(piece), true) = (field.kind, value, field.label != Label::Many) {
            match wholes.iter_mut().find(|whole| whole.number == number) {
                None => wholes.push(Whole { number, content: Cow::Borrowed(piece), last }),
                Some(whole) => {
                    let first = if matches!(whole.content, Cow::Borrowed(_)) { whole.content.len() } else { 0 };
                    budget.take(first + piece.len())?;
                    whole.content.to_mut().extend_from_slice(piece);
                    whole.last = last;
                }
            }
        }
    }
    Ok(wholes)
}

fn put_field(out: &mut Vec<u8>, number: u32, value: Value<'_>) {
    match value {
        Value::Varint(value) => put_varint_field(out, number, value),
        Value::Fixed64(value) => put_fixed64_field(out, number, value),
        Value::Bytes(bytes) => put_bytes_field(out, number, bytes),
        Value::Fixed32(value) => put_fixed32_field(out, number, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::generate;
    use crate::otlp::logs::LogsRequest;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message as _;

    /// The bytes as prost writes them after it has read them.
    fn by_prost(signal: Signal, bytes: &[u8]) -> Vec<u8> {
        match signal {
            Signal::Logs => ExportLogsServiceRequest::decode(bytes).unwrap().encode_to_vec(),
            Signal::Traces => ExportTraceServiceRequest::decode(bytes).unwrap().encode_to_vec(),
            Signal::Metrics => ExportMetricsServiceRequest::decode(bytes).unwrap().encode_to_vec(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn merging_changes_no_meaning((signal, bytes) in generate::signal().prop_flat_map(|s| (Just(s), generate::request(s)))) {
            let merged = merge_repeated(signal, &bytes).unwrap();
            prop_assert_eq!(by_prost(signal, &merged), by_prost(signal, &bytes));
            let walked = validate(signal, &merged, &Limits::NONE).unwrap();
            prop_assert!(!walked.repeated_messages);
            prop_assert_eq!(merge_repeated(signal, &merged), Ok(merged));
        }

        #[test]
        fn what_is_cut_is_what_is_over_a_limit(
            (signal, bytes) in generate::signal().prop_flat_map(|s| (Just(s), generate::request(s))),
            record_bytes_max in 0..60usize,
            attributes_per_record_max in 0..3usize,
            attributes_per_resource_max in 0..3usize,
        ) {
            let limits = Limits { record_bytes_max, attributes_per_record_max, attributes_per_resource_max };
            let before = validate(signal, &bytes, &limits).unwrap();
            let (left, cut) = cut(signal, &bytes, &limits);
            let after = validate(signal, &left, &limits).unwrap();
            prop_assert!(cut.records() >= before.records_over_limit);
            prop_assert!(before.shared_over_limit || cut.records() == before.records_over_limit);
            prop_assert_eq!(after.records, before.records - cut.records());
            prop_assert_eq!((after.records_over_limit, after.shared_over_limit), (0, false));
        }

        #[test]
        fn the_two_parts_hold_all_records(
            (signal, bytes) in generate::signal().prop_flat_map(|s| (Just(s), generate::request(s))),
            at in 0..9u64,
        ) {
            let bytes = merge_repeated(signal, &bytes).unwrap();
            let records = |bytes: &[u8]| validate(signal, bytes, &Limits::NONE).unwrap().records;
            let [first, rest] = split_at(signal, &bytes, at);
            prop_assert_eq!([records(&first), records(&rest)], [at.min(records(&bytes)), records(&bytes).saturating_sub(at)]);
            if signal == Signal::Logs {
                let raw = |bytes: &[u8]| -> Vec<_> { LogsRequest::new(bytes).records().map(|(.., record)| record.raw.to_vec()).collect() };
                prop_assert_eq!([raw(&first), raw(&rest)].concat(), raw(&bytes));
            }
        }

        #[test]
        fn a_request_without_fault_is_admitted_as_it_came(bytes in generate::request(Signal::Logs)) {
            let request = Bytes::from(merge_repeated(Signal::Logs, &bytes).unwrap());
            let admitted = admit(Signal::Logs, request.clone(), &Limits::default()).unwrap();
            prop_assert_eq!(admitted.bytes.as_ptr(), request.as_ptr());
            prop_assert_eq!(admitted.cut, Cut::default());
        }

        #[test]
        fn joined_bytes_are_joined_requests(one in generate::request(Signal::Logs), two in generate::request(Signal::Logs)) {
            let mut expected = ExportLogsServiceRequest::decode(&one[..]).unwrap();
            expected.resource_logs.extend(ExportLogsServiceRequest::decode(&two[..]).unwrap().resource_logs);
            let joined = ExportLogsServiceRequest::decode(&[one, two].concat()[..]).unwrap();
            prop_assert_eq!(joined.encode_to_vec(), expected.encode_to_vec());
        }
    }

    /// A body that is a list in a list in a list, each in two pieces, would be copied as often as it is deep.
    #[test]
    fn pieces_within_pieces_are_not_copied_without_end() {
        let request = |body_bytes: usize, depth: usize| {
            let mut value = Vec::new();
            put_bytes_field(&mut value, 1, &vec![b'x'; body_bytes]);
            for _ in 0..depth {
                let mut list = Vec::new();
                put_bytes_field(&mut list, 1, &value);
                value.clear();
                put_bytes_field(&mut value, 5, b"");
                put_bytes_field(&mut value, 5, &list);
            }
            let mut record = Vec::new();
            put_bytes_field(&mut record, 5, &value);
            let in_all = |bytes: Vec<u8>, number| {
                let mut out = Vec::new();
                put_bytes_field(&mut out, number, &bytes);
                out
            };
            Bytes::from(in_all(in_all(in_all(record, 2), 2), 1))
        };
        let admit = |request: Bytes| admit(Signal::Logs, request, &Limits::NONE);
        assert!(admit(request(1000, 20)).is_ok(), "small");
        assert!(admit(request(1 << 20, 1)).is_ok(), "large, on one level");
        assert_eq!(admit(request(1 << 20, 20)).unwrap_err().kind, DecodeErrorKind::TooManyPieces);
    }

    #[test]
    fn what_a_large_resource_or_scope_says_goes_with_its_records_alone() {
        let attributes =
            |count: usize| (0..count).map(|n| KeyValue { key: n.to_string(), ..Default::default() }).collect();
        let scope_logs = |in_scope, records: usize| ScopeLogs {
            scope: Some(InstrumentationScope { attributes: attributes(in_scope), ..Default::default() }),
            log_records: vec![LogRecord::default(); records],
            ..Default::default()
        };
        let resource_logs = |in_resource, scope_logs| ResourceLogs {
            resource: Some(Resource { attributes: attributes(in_resource), ..Default::default() }),
            scope_logs,
            ..Default::default()
        };
        let request = |resource_logs| Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
        let whole = request(vec![
            resource_logs(3, vec![scope_logs(0, 5)]),
            resource_logs(2, vec![scope_logs(3, 1), scope_logs(2, 7)]),
        ]);
        let limits = Limits { attributes_per_resource_max: 2, ..Limits::default() };
        let admitted = admit(Signal::Logs, whole.clone(), &limits).unwrap();
        assert_eq!(admitted.bytes, request(vec![resource_logs(2, vec![scope_logs(2, 7)])]));
        assert_eq!((admitted.walked.records, admitted.cut), (7, Cut { of_large_resources: 6, ..Cut::default() }));
        let larger = Limits { record_bytes_max: 5, ..Limits::default() };
        assert_eq!(admit(Signal::Logs, whole, &larger).unwrap().cut.of_large_resources, 13);
    }

    #[test]
    fn the_reason_names_the_limits() {
        let limits = Limits { record_bytes_max: 10, attributes_per_record_max: 2, attributes_per_resource_max: 3 };
        let cut = Cut { too_large: 3, too_many_attributes: 1, of_large_resources: 4 };
        assert_eq!(
            cut.reason(Signal::Logs, &limits),
            "3 log records larger than `record_bytes_max` (10 bytes), \
             1 log records with more attributes than `attributes_per_record_max` (2), \
             4 log records of a resource or scope with more attributes than `attributes_per_resource_max` (3) \
             or larger than `record_bytes_max` (10 bytes)"
        );
        assert_eq!(Cut::default().reason(Signal::Logs, &limits), "");
    }
}
