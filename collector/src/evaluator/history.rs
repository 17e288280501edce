//! What the log still holds of the time before a change of rules: it fills the windows of the rules that are new.

use std::io;

use watchbell_rules::time::Timestamp;

use crate::wal::{Frame, FrameKind, Log, Position};

/// Shows the batches received at or after `since` that stand before `until`, oldest first. Tells since when those are all there were:
/// `since`, or later where the log does not reach back so far; `None` where it holds nothing before `until`.
///
/// # Errors
/// The log cannot be read.
pub(super) fn batches(
    log: &dyn Log,
    since: Timestamp,
    until: Position,
    visit: &mut dyn FnMut(&Frame),
) -> io::Result<Option<Timestamp>> {
    let start = log.seek(since);
    let (mut from, mut reaches) = (start, (start > log.oldest()).then_some(since));
    while from < until {
        let frames = log.read(from, READ_BYTES_MAX)?;
        let Some(last) = frames.last() else { break };
        from = last.next;
        for frame in frames.iter().take_while(|frame| frame.position < until) {
            reaches.get_or_insert(frame.received.max(since));
            if frame.kind == FrameKind::Batch && frame.received >= since {
                visit(frame);
            }
        }
    }
    // What the size cap took meanwhile may be missing from what was shown.
    Ok(reaches.filter(|_| log.oldest() <= start))
}

/// Payload that is read at once.
const READ_BYTES_MAX: usize = 4 << 20;
