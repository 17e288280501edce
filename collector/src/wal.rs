//! The write-ahead log: what was taken in, in order, on disk before anyone is told that it was.
//!
//! This page is the format's specification.
//!
//! # Constraints
//!
//! - One log a signal, in `<data_dir>/wal/<signal>/`; one process a data directory ([`DataDir`] holds an `flock`).
//! - An append is answered when its frame is durable. After `kill -9` or a power cut every answered frame is there.
//! - The log always opens. What is damaged is skipped and counted; a damaged byte costs the frame it is in and no other. A sector that the
//!   disk cannot read costs the frames of its page of 4 KiB.
//! - Disk use stays under `bytes_max` and memory under `pending_bytes_max` (queued) + as much (being written) + `tail_cache_bytes_max`.
//! - An fsync that failed is never tried again: the kernel may have dropped the pages and would report success.
//!
//! # Files
//!
//! | file | content |
//! |---|---|
//! | `<number>.segment` | a segment; the number says nothing, the header does. Preallocated, used again when its frames are old |
//! | `cursors.0`, `cursors.1` | the named readers' positions, written by turns: `{crc32:08x} {json}`, the greater `generation` counts |
//!
//! # Segment
//!
//! Little-endian. Two copies of the header, at bytes 0 and 4096, so that no single damage takes both; frames from byte 8192 on.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `WBWALSEG` |
//! | 8 | 4 | CRC-32 of bytes 12 to 88 |
//! | 12 | 4 | version, 1 |
//! | 16 | 8 | sequence number: each new segment's is greater than all before |
//! | 24 | 8 | salt: random, the seed of its frames' checksums |
//! | 32 | 8 | records in the log before this segment |
//! | 40 | 8 | the log's clock when it began |
//! | 48 | 8 | sequence number of the segment before, 0 where there is none |
//! | 56 | 8 | where that one's last frame ends: bytes behind it are void |
//! | 64 | 8 | frames in it |
//! | 72 | 16 | least and greatest event time in it (`i64::MAX` and `i64::MIN` where there is none) |
//!
//! A [`Position`] is `sequence << 32 | offset in the segment`. The salt is also what tells this log from another that has a segment of the
//! same number: who keeps a position elsewhere keeps its segment's salt with it ([`Log::identity`]).
//!
//! # Frame
//!
//! At an offset divisible by 64: a header of 64 bytes, the payload, zeros up to the next such offset.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `WBF1` |
//! | 4 | 4 | CRC-32 of the segment's salt, the frame's position and bytes 8 to 64 |
//! | 8 | 4 | CRC-32 of the payload |
//! | 12 | 4 | length of the payload |
//! | 16 | 4 | records |
//! | 20 | 1 | [`FrameKind`] |
//! | 21 | 3 | by how many whole seconds its receive time, which never goes back, is ahead of the wall clock; the greatest number where it is more |
//! | 24 | 8 | records in the log before this frame |
//! | 32 | 8 | receive time |
//! | 40 | 8 | hash |
//! | 48 | 16 | least and greatest event time (`i64::MAX` and `i64::MIN` where there is none) |
//!
//! The salt in the checksum means that neither a frame of the segment's former life nor one that a client put into a payload
//! is ever taken for a frame. A frame of a kind that this version does not know is damage to it, and passed over. The header has a checksum of its own, so that headers can be walked without reading payloads.
//!
//! # Write
//!
//! One thread a log (group commit): it takes all that is queued and fits the segment, writes it with one call, tells the readers,
//! syncs once, tells the readers and the waiting appends, and begins again; what came in meanwhile is the next group.
//! When a frame does not fit, the next segment begins, in a file that was made aside in time; its header goes out with its first group. Segments are written in
//! order, and the next one begins only when the one before is synced. When the log would grow over `bytes_max`, the oldest
//! segment is used again instead; what a cursor had not read of it is counted as lost for that cursor, unless the cursor
//! [holds](Cursor::hold) the log: then appends get [`AppendError::Full`].
//!
//! When a write or a sync fails, the segment is sealed at the durable position: the frames behind it get [`AppendError::Failed`]
//! and are void, also if they should be on the disk: the next segment's header, durable with its first group, says where this one
//! ends. (A crash before that may bring them back, in their old place, with nothing answered behind them.)
//! Readers that ran ahead of the durable position learn of it by [`Progress::failures`].
//!
//! # Read
//!
//! From the tail cache where it reaches back far enough, else from the file, a batch with one call. Where no good frame stands, the
//! search goes on at the next offset divisible by 64: a damaged length leads nowhere.
//!
//! # Recover
//!
//! The headers tell the order, and each the end of the segment before it: closed segments are not read. The last segment
//! is gone through frame by frame to the last good one, rid of the headers of torn frames, and written on behind the last good one. What is
//! not known to be durable is written once more and synced: a killed process may have left it in the page cache alone, and after a failed
//! fsync another one would report success without storing it. If the end is before a place that was known to be durable, a new segment is begun, so that positions never come twice.
//! A cursor beyond the end is set to the end.

mod cursor;
pub mod disk;
mod frame;
mod lock;
mod log;
pub(crate) mod log_clock;
mod metrics;
mod reader;
mod recovery;
mod segment;
pub mod simulated_disk;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use watchbell_rules::time::{Received, Timestamp};

pub use cursor::WalCursor;
pub(crate) use disk::make_folder;
pub use lock::{DataDir, DataDirError};
pub use log::{Wal, WalConfig};
pub use metrics::Metrics;
pub use writer::WalWriter;

/// A place in a log. Positions order frames; the distance between two of them means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position(pub u64);

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// An OTLP export request of the log's signal, uncompressed protobuf.
    Batch = 1,
    /// Nothing: it moves the log's clock on when a timer is due and no batch arrives.
    Clock = 2,
    /// The rule files from here on, as text.
    Rules = 3,
    /// How sending a notification ended.
    Outcome = 4,
    /// Nothing: a collector has started, and since the frame before nobody listened.
    Started = 5,
    /// How rules were filled with the past that come into force now.
    Filled = 6,
}

/// A frame to append. The log gives it its position and its receive time.
#[derive(Clone, Debug)]
pub struct NewFrame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Stable hash of the payload (XXH3), 0 for other kinds than batches or where copies are not looked for.
    pub hash: u64,
    /// Least and greatest event time in the batch; `None` where no record has one.
    pub event_span: Option<(Timestamp, Timestamp)>,
    /// Number of records, spans or data points.
    pub records: u32,
    /// The bytes.
    pub payload: Bytes,
}

/// A frame as a reader gets it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where it stands.
    pub position: Position,
    /// Where the next one stands.
    pub next: Position,
    /// What the payload is.
    pub kind: FrameKind,
    /// When it was taken in, by the log's clock; never before that of an earlier frame.
    pub received: Timestamp,
    /// By how many whole seconds the log's clock was ahead of the wall clock, which had been set back.
    pub ahead: Duration,
    /// As in [`NewFrame`].
    pub hash: u64,
    /// As in [`NewFrame`].
    pub event_span: Option<(Timestamp, Timestamp)>,
    /// As in [`NewFrame`].
    pub records: u32,
    /// As in [`NewFrame`].
    pub payload: Bytes,
}

impl Frame {
    /// When its records were received, and what their stamps are behind.
    pub fn receipt(&self) -> Received {
        Received { at: self.received, ahead: self.ahead }
    }

    /// The least and the greatest time that a record in it may have: its own or, where records may have none, when it was received.
    pub fn times(&self) -> (Timestamp, Timestamp) {
        match self.event_span {
            // Only of batches whose every record has a time there is a hash.
            Some(span) if self.hash != 0 => span,
            Some((least, greatest)) => (least.min(self.received), greatest.max(self.received)),
            None => (self.received, self.received),
        }
    }
}

/// A part of a log that is there or gone as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where its first frame stands.
    pub start: Position,
    /// Where its last frame ends.
    pub end: Position,
    /// The least and the greatest time that a record in it may have.
    pub times: (Timestamp, Timestamp),
}

/// How far a log has got. `durable <= appended` always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// End of what readers can see.
    pub appended: Position,
    /// End of what survives a power cut.
    pub durable: Position,
    /// How often the disk failed. Each time `appended` went back to `durable`, and frames that a reader may have seen became void:
    /// one that runs ahead of `durable` folds again, from a state at or before it, whenever this has changed.
    pub failures: u64,
}

/// Why a frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// More bytes wait to be written than `wal.pending_bytes_max` allows, or the log is at `wal.bytes_max` and a cursor holds it:
    /// try again later.
    Full,
    /// The log is draining and takes no more.
    Closed,
    /// The disk failed: what the frame's fate is cannot be known. The segment is sealed; later appends go to a new one.
    Failed(Arc<str>),
    /// The payload is larger than the log could keep: than half of `wal.bytes_max`, or 2 GiB.
    TooLarge {
        /// The largest that it takes.
        bytes_max: usize,
    },
}

impl std::error::Error for AppendError {}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("it is as far behind as it may be"),
            Self::Closed => f.write_str("the collector is going down"),
            Self::Failed(why) => write!(f, "the disk failed: {why}"),
            Self::TooLarge { bytes_max } => write!(f, "they are over {bytes_max} bytes, half of `wal.bytes_max`"),
        }
    }
}

/// A future that can be kept.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the collector needs of a log: append in order, read from anywhere, know how far it is safe.
pub trait Log: Send + Sync + 'static {
    /// Appends a frame. The future is ready when the frame is durable; dropping it does not take the frame back.
    /// `Closed` and `TooLarge` come at once, `Full` mostly, and for batches only: other frames wait until there is room.
    fn append(&self, frame: NewFrame) -> BoxFuture<Result<Position, AppendError>>;

    /// The log's clock: what a frame that is appended now is received at. It is the wall clock while that goes forward; it never goes
    /// back, and when the wall clock has been set back it runs on at half the speed until that has come up with it.
    fn now(&self) -> Timestamp;

    /// How far the log has got; the receiver is told of each change.
    fn progress(&self) -> tokio::sync::watch::Receiver<Progress>;

    /// No frame that is appended from now on stands before this, and none is known to have stood behind it.
    fn end(&self) -> Position {
        self.progress().borrow().appended
    }

    /// Where the oldest frame stands that can still be read.
    fn oldest(&self) -> Position;

    /// The frames from `from` on, at least one if there is one, at most about `bytes_max` of payload.
    /// Damaged frames are skipped and counted; `from` before [`oldest`](Self::oldest) reads from the oldest.
    fn read(&self, from: Position, bytes_max: usize) -> std::io::Result<Vec<Frame>>;

    /// Opens the durable cursor of that name, at its last committed position (a new one: at the oldest frame).
    fn cursor(&self, name: &str) -> std::io::Result<Box<dyn Cursor>>;

    /// A random number that tells the log from others that have this position, too; `None` where it has nothing there.
    fn identity(&self, position: Position) -> Option<u64> {
        let _ = position;
        None
    }

    /// A position that no frame received at or after `since` stands before; as late as the log can tell without reading.
    fn seek(&self, since: Timestamp) -> Position {
        let _ = since;
        self.oldest()
    }

    /// The parts that the log has now, oldest first. A part may go while it is read: then reading goes on with the oldest that is left.
    fn parts(&self) -> Vec<Part> {
        vec![Part { start: self.oldest(), end: self.end(), times: (Timestamp::MIN, Timestamp::MAX) }]
    }

    /// Shows the headers of a part's frames, oldest first, until `visit` says `false`. Where it can, it neither reads nor checks the
    /// payloads, and shows none.
    fn part_headers(&self, part: &Part, visit: &mut dyn FnMut(Frame) -> bool) -> std::io::Result<()> {
        let mut from = part.start;
        while from < part.end {
            let frames = self.read(from, 1 << 20)?;
            let Some(last) = frames.last() else { break };
            from = last.next;
            for frame in frames {
                if frame.position >= part.end || !visit(frame) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Shows the frames received at or after `since`, oldest first. Where it can, it neither reads nor checks the payloads, and shows none.
    fn headers(&self, since: Timestamp, visit: &mut dyn FnMut(Frame)) -> std::io::Result<()> {
        let mut from = self.seek(since);
        loop {
            let frames = self.read(from, 1 << 20)?;
            let Some(last) = frames.last() else { return Ok(()) };
            from = last.next;
            frames.into_iter().filter(|frame| frame.received >= since).for_each(&mut *visit);
        }
    }
}

/// A named reader's durable position. What the size cap takes before the reader came by is counted as lost for it by name.
pub trait Cursor: Send {
    /// Where it stands.
    fn position(&self) -> Position;

    /// Moves it on; durable within a second, and never ahead of the log's durable position.
    fn commit(&mut self, position: Position) -> std::io::Result<()>;

    /// Records lost to it because the cap took them before it came by.
    fn lost(&self) -> u64;

    /// From now on the cap takes nothing that this cursor has not passed: appends get [`AppendError::Full`] instead. For the reader that
    /// must be able to go back to its snapshot.
    fn hold(&mut self) {}

    /// Whether the segments that it has not passed take more than half of the cap: one that holds the log does well to move on.
    fn is_far_behind(&self) -> bool {
        false
    }
}
