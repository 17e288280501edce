//! The pattern of a record: that of its exception, where it has one, else that of its line.

use super::exception;
use super::mask::{cut, mask};
use crate::entry::LogEntry;
use crate::pipeline::{Extracted, Record};

/// Appends the pattern.
pub(crate) fn write<E: LogEntry>(record: &Record<'_, E>, extracted: &Extracted, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(kind) = extracted.label(record, EXCEPTION_TYPE) {
        let kind = kind.into_text();
        let stacktrace = extracted.label(record, EXCEPTION_STACKTRACE);
        if stacktrace.is_some_and(|trace| exception::pattern(&kind, &trace.into_text(), out)) {
            return;
        }
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b": ");
    }
    mask(extracted.line(record), out);
    cut(start, out);
}

/// What OpenTelemetry's attributes `exception.type` and `exception.stacktrace` are called as labels.
const EXCEPTION_TYPE: &str = "exception_type";
const EXCEPTION_STACKTRACE: &str = "exception_stacktrace";
