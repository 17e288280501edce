//! The write-ahead log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use watchbell_rules::time::Timestamp;

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
    /// When it was taken in; never before that of an earlier frame.
    pub received: Timestamp,
    /// As in [`NewFrame`].
    pub hash: u64,
    /// As in [`NewFrame`].
    pub event_span: Option<(Timestamp, Timestamp)>,
    /// As in [`NewFrame`].
    pub records: u32,
    /// As in [`NewFrame`].
    pub payload: Bytes,
}

/// How far a log has got. `durable <= appended` always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// End of what readers can see.
    pub appended: Position,
    /// End of what survives a power cut.
    pub durable: Position,
}

/// Why a frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// More bytes wait to be written than `wal.pending_bytes_max` allows: try again later.
    Full,
    /// The log is draining and takes no more.
    Closed,
    /// The disk failed: what the frame's fate is cannot be known. The segment is sealed; later appends go to a new one.
    Failed(Arc<str>),
    /// The payload is larger than a segment.
    TooLarge,
}

/// A future that can be kept.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the collector needs of a log: append in order, read from anywhere, know how far it is safe.
pub trait Log: Send + Sync + 'static {
    /// Appends a frame. The future is ready when the frame is durable; dropping it does not take the frame back.
    /// `Full`, `Closed` and `TooLarge` come at once.
    fn append(&self, frame: NewFrame) -> BoxFuture<Result<Position, AppendError>>;

    /// How far the log has got; the receiver is told of each change.
    fn progress(&self) -> tokio::sync::watch::Receiver<Progress>;

    /// Where the oldest frame stands that can still be read.
    fn oldest(&self) -> Position;

    /// The frames from `from` on, at least one if there is one, at most about `bytes_max` of payload.
    /// Damaged frames are skipped and counted; `from` before [`oldest`](Self::oldest) reads from the oldest.
    fn read(&self, from: Position, bytes_max: usize) -> std::io::Result<Vec<Frame>>;

    /// Opens the durable cursor of that name, at its last committed position (a new one: at the oldest frame).
    fn cursor(&self, name: &str) -> std::io::Result<Box<dyn Cursor>>;
}

/// A named reader's durable position. Segments that a cursor has not passed are kept while the log is under its cap; what the cap
/// takes away from a cursor is counted as lost for it by name.
pub trait Cursor: Send {
    /// Where it stands.
    fn position(&self) -> Position;

    /// Moves it on; durable with the log's next sync or within a second.
    fn commit(&mut self, position: Position) -> std::io::Result<()>;

    /// Records lost to it because the cap took them before it came by.
    fn lost(&self) -> u64;
}
