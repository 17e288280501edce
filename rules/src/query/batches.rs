//! Queries over the batches of a log: OTLP requests, in whatever order they came in.

use watchbell_proto::otlp::common::KeyValue;
use watchbell_proto::otlp::logs::{LogRecord, LogsRequest, ResourceLogs};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::records::otlp_time;
use super::{Origin, Query, QueryError};
use crate::entry::LogEntry;
use crate::otlp_labels::{LabelConfig, OtlpEntry, ResourceLabels, ScopeLabels};
use crate::time::Timestamp;

/// A batch as the log has it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// A checked OTLP logs request.
    pub request: LogsRequest<'a>,
    /// When it was taken in.
    pub received: Timestamp,
    /// Where it stands: batches that came later have greater ones, by more than their lengths in bytes.
    pub position: u64,
}

/// How many records a query looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Records of the streams and times that were asked for.
    pub lines: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Records that the stages let pass.
    pub passed: u64,
}

impl Query {
    /// Takes the records of a batch; before each `is_stopped` is asked whether to give up.
    pub fn add_batch(
        &mut self,
        batch: &Batch<'_>,
        labels: &LabelConfig,
        scanned: &mut Scanned,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), QueryError> {
        for resource_logs in batch.request.resource_logs() {
            let resource = ResourceLabels::of(&resource_logs, labels);
            if self.selects(&resource) {
                self.add_resource(batch, &resource_logs, &resource, scanned, is_stopped)?;
            }
        }
        Ok(())
    }

    fn add_resource(
        &mut self,
        batch: &Batch<'_>,
        resource_logs: &ResourceLogs<'_>,
        resource: &ResourceLabels,
        scanned: &mut Scanned,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), QueryError> {
        let resource_hash =
            xxh3_64_with_seed(resource_logs.schema_url().as_bytes(), xxh3_64(resource_logs.resource().raw));
        let mut attributes: Vec<KeyValue<'_>> = Vec::new();
        for scope_logs in resource_logs.scope_logs() {
            let mut scope = None;
            let scope_hash = xxh3_64_with_seed(scope_logs.scope().raw, resource_hash);
            for record in scope_logs.log_records() {
                let time = record_time(&record, batch.received);
                if !self.wants(time, time) {
                    continue;
                }
                if is_stopped() {
                    return Err(QueryError::stopped());
                }
                attributes.clear();
                attributes.extend(record.attributes());
                let scope = scope.get_or_insert_with(|| ScopeLabels::new(scope_logs.scope()));
                let entry = OtlpEntry { resource, scope, record, attributes: &attributes };
                let order = batch.position + batch.request.range_of(record.raw).start as u64;
                let origin = Origin { order, identity: xxh3_64_with_seed(record.raw, scope_hash) };
                scanned.lines += 1;
                scanned.bytes += entry.line().len() as u64;
                scanned.passed += u64::from(self.add_from(time, origin, &entry)?);
            }
        }
        Ok(())
    }
}

/// When a record happened: its own time, else when it was observed, else when it was received. As Loki's OTLP ingestion takes it.
pub fn record_time(record: &LogRecord<'_>, received: Timestamp) -> Timestamp {
    otlp_time(record).unwrap_or(received)
}
