//! The pattern of a record: that of its exception, where it has one, else that of its line.

use super::exception;
use super::mask::{cut, mask};
use crate::entry::{LabelValue, LogEntry};
use crate::pipeline::{Extracted, Record};

/// Appends the pattern.
pub(crate) fn write<E: LogEntry>(record: &Record<'_, E>, extracted: &Extracted, out: &mut Vec<u8>) {
    let start = out.len();
    let label = |name| extracted.label(record, name).map(LabelValue::into_text);
    if let Some(kind) = label(EXCEPTION_TYPE) {
        let is_told = label(OWN_FUNCTIONS).is_some_and(|own| exception::of_own_functions(&kind, &own, out))
            || label(EXCEPTION_STACKTRACE).is_some_and(|trace| exception::of_stacktrace(&kind, &trace, out))
            || label(FINGERPRINT).is_some_and(|fingerprint| exception::of_fingerprint(&kind, &fingerprint, out));
        if is_told {
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

/// And the SDK's `watchbell.exception.frames` and `watchbell.exception.fingerprint`.
const OWN_FUNCTIONS: &str = "watchbell_exception_frames";
const FINGERPRINT: &str = "watchbell_exception_fingerprint";
