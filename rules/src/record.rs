//! A log record as evidence: what a page shows of it.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// One of the last records behind an alert, copied out of its batch so that it outlives the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// When it happened: the time it was judged at.
    pub time: Timestamp,
    /// OTLP's `severity_number`: 1 to 24, 0 where unset.
    pub severity_number: i32,
    /// OTLP's `severity_text`, or the short name of the number where the text is empty (`ERROR`).
    pub severity: String,
    /// The body as a line; truncated to the engine's `evidence_body_bytes_max`, then ends in `…`.
    pub body: String,
    /// The record's own attributes and `service.name`, in the order they came, values printed as Loki would.
    pub attributes: Vec<(String, String)>,
    /// Lower-case hex of 16 bytes, empty where the record has none.
    pub trace_id: String,
    /// Lower-case hex of 8 bytes, empty where the record has none.
    pub span_id: String,
}
