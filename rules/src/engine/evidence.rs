//! The last records behind a group, as bytes; they are read when somebody is told of them.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watchbell_proto::otlp::logs::LogRecord;

use crate::matcher::{RecordRef, Run};
use crate::otlp_labels::{attribute_text, body_line, severity_name};
use crate::plan::{EngineConfig, Plan};
use crate::record::EvidenceRecord;
use crate::time::{Received, Timestamp};

/// Runs by their groups' keys.
type Runs = BTreeMap<Box<[u8]>, Run>;

/// The batch that is taken in.
pub(super) struct Batch<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) received: Received,
    pub(super) services: &'a [String],
    /// By feed and group: its records, none merged and all kept.
    exact: BTreeMap<usize, Rc<Runs>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(bytes: &'a [u8], received: Received, services: &'a [String]) -> Self {
        Self { bytes, received, services, exact: BTreeMap::new() }
    }

    /// A feed's records, found once more: once a batch, however many groups ask.
    pub(super) fn exact(&mut self, plan: &Plan, feed: usize) -> Rc<Runs> {
        let (bytes, received) = (self.bytes, self.received);
        let runs = || plan.rematch(bytes, received, feed).map(|run| (run.key.clone(), run)).collect();
        self.exact.entry(feed).or_insert_with(|| Rc::new(runs())).clone()
    }
}

/// The last records of one group, oldest first. Their buffers are used again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    records: VecDeque<Kept>,
}

/// A record's bytes, or, where they are many, what a page shows of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) at: Timestamp,
    /// By how much its own time is later than when it was received.
    ahead: Duration,
    service: String,
    record: Vec<u8>,
    read: Option<Box<EvidenceRecord>>,
}

impl Evidence {
    /// Keeps the last `samples` of the records.
    pub(super) fn keep<'r>(
        &mut self,
        records: impl Iterator<Item = &'r RecordRef> + Clone,
        batch: &Batch<'_>,
        samples: usize,
        config: &EngineConfig,
    ) {
        let skipped = records.clone().count().saturating_sub(samples);
        for record in records.skip(skipped) {
            let is_full = self.records.len() >= samples;
            let mut kept = if is_full { self.records.pop_front() } else { None }.unwrap_or_default();
            kept.take(record, batch, config);
            self.records.push_back(kept);
        }
    }

    /// Forgets the records up to `until`.
    pub(super) fn forget(&mut self, until: Timestamp) {
        self.retain(|at| at > until);
    }

    /// Keeps the records of these times alone.
    pub(super) fn retain(&mut self, is_kept: impl Fn(Timestamp) -> bool) {
        self.records.retain(|kept| is_kept(kept.at));
    }

    /// The bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |kept: &Kept| {
            size_of::<Kept>() + kept.service.len() + kept.record.len() + kept.read.as_ref().map_or(0, |_| RAW_BYTES_MAX)
        };
        self.records.iter().map(bytes).sum()
    }

    /// The records, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.records.iter()
    }
}

impl Kept {
    /// By time; among records of one time any order will do that is always the same.
    pub(super) fn order(&self) -> (Timestamp, &str, &[u8]) {
        (self.at, &self.service, &self.record)
    }

    /// The service whose clock it shows to be ahead by more than `max_skew`, and by how much.
    pub(super) fn skew(&self, config: &EngineConfig) -> Option<(&str, Duration)> {
        (self.ahead > config.max_skew).then_some((&*self.service, self.ahead))
    }

    /// The record as a page shows it.
    pub(super) fn show(&self, config: &EngineConfig) -> EvidenceRecord {
        let read = || self.read(&self.record, config.evidence_body_bytes_max);
        self.read.as_deref().cloned().unwrap_or_else(read)
    }

    fn take(&mut self, record: &RecordRef, batch: &Batch<'_>, config: &EngineConfig) {
        let raw = &batch.bytes[record.start as usize..][..record.len as usize];
        self.at = record.at;
        self.ahead = ahead(record, raw, batch.received.at);
        self.service.clear();
        self.service.push_str(&batch.services[record.service as usize]);
        self.record.clear();
        self.read = None;
        if raw.len() <= RAW_BYTES_MAX {
            self.record.extend_from_slice(raw);
        } else {
            self.read = Some(Box::new(self.read(raw, config.evidence_body_bytes_max)));
        }
    }

    fn read(&self, raw: &[u8], bytes_max: usize) -> EvidenceRecord {
        let record = LogRecord::new(raw);
        let service = (!self.service.is_empty()).then(|| ("service.name".to_owned(), self.service.clone()));
        let own = record.attributes().take(ATTRIBUTES_MAX);
        let own =
            own.map(|attribute| (attribute.key().to_owned(), cut(&attribute_text(attribute), ATTRIBUTE_BYTES_MAX)));
        EvidenceRecord {
            time: self.at,
            severity_number: record.severity_number,
            severity: match record.severity_text() {
                "" => severity_name(record.severity_number).to_owned(),
                text => text.to_owned(),
            },
            body: cut(&body_line(&record), bytes_max),
            attributes: own.chain(service).collect(),
            trace_id: hex(record.trace_id),
            span_id: hex(record.span_id),
        }
    }
}

/// Only a record that is judged at its receive time can be later.
fn ahead(record: &RecordRef, raw: &[u8], received: Timestamp) -> Duration {
    if record.at < received {
        return Duration::ZERO;
    }
    let stamp = i64::try_from(LogRecord::new(raw).time_unix_nano).unwrap_or(i64::MAX);
    Timestamp(stamp).since(received)
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

fn hex(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) {
        return String::new();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records up to this size are kept as they came.
const RAW_BYTES_MAX: usize = 8 * 1024;

/// Attributes of a record that are shown; further ones are not.
const ATTRIBUTES_MAX: usize = 64;

/// Bytes of an attribute's value that are shown; a longer one is cut and ends in `…`.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
