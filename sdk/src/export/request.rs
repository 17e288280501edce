//! Makes requests of chunks: the records' bytes are copied, grouped by scope; nothing is decoded.

use std::collections::HashMap;

use bytes::Bytes;
use opentelemetry::KeyValue;
use watchbell_proto::wire::{put_bytes_field, put_bytes_header, put_message_field, varint_len};

use crate::callsite::ScopeId;
use crate::chunk::Chunk;
use crate::encode::put_resource;
use crate::redact::Redaction;

/// How much goes into a request.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Bytes of records after which it is full; it has one record in any case.
    pub(crate) bytes: usize,
    /// Most records.
    pub(crate) records: u64,
}

/// An encoded `ExportLogsServiceRequest`, or that of traces or metrics: these are alike in all field numbers used here.
pub(crate) struct Request {
    pub(crate) records: u64,
    pub(crate) body: Bytes,
}

/// The field `resource` of `ResourceLogs`, `ResourceSpans` and `ResourceMetrics`.
pub(crate) fn resource(attributes: &[KeyValue]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| put_resource(out, attributes));
    out
}

/// Requests with all records of the chunks.
pub(crate) fn requests(resource: &[u8], chunks: &[Chunk], size: Size, redaction: Option<&Redaction>) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut group = Group::default();
    let scrubbed: Vec<_> = match redaction {
        Some(redaction) => entries(chunks).map(|(_, _, record)| redaction.scrubbed_record(record)).collect(),
        None => Vec::new(),
    };
    for (i, (scope, records, record)) in entries(chunks).enumerate() {
        let record = scrubbed.get(i).and_then(Option::as_deref).unwrap_or(record);
        let is_full = group.bytes + record.len() > size.bytes || group.records >= size.records;
        if group.records > 0 && is_full {
            requests.push(std::mem::take(&mut group).request(resource));
        }
        group.add(scope, records, record);
    }
    if group.records > 0 {
        requests.push(group.request(resource));
    }
    requests
}

fn entries(chunks: &[Chunk]) -> impl Iterator<Item = (ScopeId, u64, &[u8])> {
    chunks.iter().flat_map(Chunk::entries)
}

/// Records of one request, by scope in order of appearance.
#[derive(Default)]
struct Group<'a> {
    scopes: Vec<(ScopeId, Vec<&'a [u8]>)>,
    index: HashMap<ScopeId, usize>,
    bytes: usize,
    records: u64,
}

impl<'a> Group<'a> {
    fn add(&mut self, scope: ScopeId, records: u64, record: &'a [u8]) {
        let i = *self.index.entry(scope).or_insert_with(|| {
            self.scopes.push((scope, Vec::new()));
            self.scopes.len() - 1
        });
        self.scopes[i].1.push(record);
        self.bytes += record.len();
        self.records += records;
    }

    fn request(self, resource: &[u8]) -> Request {
        let scopes: Vec<_> = self.scopes.iter().map(|(scope, records)| ScopeRecords::new(*scope, records)).collect();
        let content_bytes = resource.len() + scopes.iter().map(|scope| field_bytes(scope.bytes())).sum::<usize>();
        let mut body = Vec::with_capacity(field_bytes(content_bytes));
        put_bytes_header(&mut body, 1, content_bytes); // resource_logs
        body.extend_from_slice(resource);
        for scope in &scopes {
            put_bytes_header(&mut body, 2, scope.bytes()); // scope_logs
            scope.put(&mut body);
        }
        Request { records: self.records, body: body.into() }
    }
}

/// The content of a `ScopeLogs`, `ScopeSpans` or `ScopeMetrics`.
struct ScopeRecords<'a> {
    head: Vec<u8>,
    records: &'a [&'a [u8]],
    records_bytes: usize,
    tail: Vec<u8>,
}

impl<'a> ScopeRecords<'a> {
    fn new(scope: ScopeId, records: &'a [&'a [u8]]) -> Self {
        let scope = scope.scope();
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        put_bytes_field(&mut head, 1, &scope.message);
        if !scope.schema_url.is_empty() {
            put_bytes_field(&mut tail, 3, scope.schema_url.as_bytes());
        }
        Self { head, records, records_bytes: records.iter().map(|record| field_bytes(record.len())).sum(), tail }
    }

    fn bytes(&self) -> usize {
        self.head.len() + self.records_bytes + self.tail.len()
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        self.records.iter().for_each(|record| put_bytes_field(out, 2, record));
        out.extend_from_slice(&self.tail);
    }
}

/// Bytes of a field with a content of `len` bytes, for field numbers below 16.
fn field_bytes(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Pool;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use proptest::prelude::*;
    use prost::Message;

    fn record(event_name: String) -> LogRecord {
        LogRecord { event_name, ..LogRecord::default() }
    }

    /// Chunks as threads fill them: a new one when a record does not fit.
    fn chunks(records: &[(String, LogRecord)]) -> Vec<Chunk> {
        let pool = Pool::new(usize::MAX / 2);
        let mut chunks: Vec<Chunk> = Vec::new();
        for (target, record) in records {
            let (scope, bytes) = (ScopeId::of_target(target), record.encode_to_vec());
            if !chunks.last_mut().is_some_and(|chunk| chunk.push(scope, 1, &bytes)) {
                let mut chunk = pool.acquire(bytes.len(), u64::MAX, None).expect("a pool without a cap");
                assert!(chunk.push(scope, 1, &bytes));
                chunks.push(chunk);
            }
        }
        chunks
    }

    proptest! {
        #[test]
        fn requests_hold_each_record_once_under_its_scope(
            records in prop::collection::vec(("[ab]{1,2}", 0..40_000usize), 1..120),
            bytes in 1..300_000usize,
            records_max in 1..200u64,
        ) {
            let records: Vec<_> = records.into_iter().enumerate().map(|(i, (target, len))| {
                (target, record(format!("{i}{}", "x".repeat(len))))
            }).collect();
            let resource = resource(&[KeyValue::new("service.name", "checkout")]);
            let requests = requests(&resource, &chunks(&records), Size { bytes, records: records_max }, None);
            prop_assert_eq!(requests.iter().map(|request| request.records).sum::<u64>(), records.len() as u64);
            let mut seen = Vec::new();
            for request in requests {
                prop_assert!(request.body.len() < bytes + 64 * 1024);
                prop_assert!(request.records <= records_max);
                let [decoded] = &ExportLogsServiceRequest::decode(request.body).unwrap().resource_logs[..] else {
                    panic!("one resource");
                };
                prop_assert_eq!(&decoded.resource.as_ref().unwrap().attributes[0].key, "service.name");
                for scope in &decoded.scope_logs {
                    let name = &scope.scope.as_ref().unwrap().name;
                    seen.extend(scope.log_records.iter().map(|record| (name.clone(), record.clone())));
                }
            }
            seen.sort_by(|a, b| a.1.event_name.cmp(&b.1.event_name));
            let mut expected = records;
            expected.sort_by(|a, b| a.1.event_name.cmp(&b.1.event_name));
            prop_assert_eq!(seen, expected);
        }
    }
}
