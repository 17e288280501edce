//! The log that the collector uses: the state that the writer, the readers and the cursors share, and the writer's thread.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use watchbell_rules::time::Timestamp;

use super::cursor::{Cursors, WalCursor};
use super::disk::{Disk, RealDisk};
use super::frame::{ahead_to_wire, payload_bytes_max};
use super::lock::DataDir;
use super::log_clock::LogClock;
use super::metrics::{CursorReport, LogMetrics, Metrics, Report, Reports};
use super::reader::{Tail, frame};
use super::segment::{DATA_START, Segment};
use super::writer::WalWriter;
use super::{AppendError, BoxFuture, Cursor, Frame, FrameKind, Log, NewFrame, Part, Position, Progress};
use crate::clock::SharedClock;

/// `wal` in the config file: the limits of each log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WalConfig {
    /// Size of a segment file, 64 MiB; a larger frame gets a larger one. Rounded up to 4 KiB; at most 2 GiB.
    #[serde(deserialize_with = "crate::config::range::segment_bytes")]
    pub segment_bytes: u64,
    /// Size of all files of one log, 2 GiB: over it the oldest segment goes, read or not. At least two segments.
    pub bytes_max: u64,
    /// Payload bytes that wait to be written, 16 MiB: over it appends are refused until the disk has caught up. One frame is always taken.
    pub pending_bytes_max: usize,
    /// Bytes of the last frames that are kept in memory for readers that keep up, 2 MiB; others read from the disk.
    pub tail_cache_bytes_max: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, bytes_max: 2 << 30, pending_bytes_max: 16 << 20, tail_cache_bytes_max: 2 << 20 }
    }
}

impl WalConfig {
    pub(super) fn segment_bytes(&self, frame_bytes: u64) -> u64 {
        self.segment_bytes.max(DATA_START + frame_bytes).next_multiple_of(4096)
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max.max(2 * self.segment_bytes(0))
    }
}

/// A write-ahead log on a disk. Dropping it writes what is queued and ends its thread.
pub struct Wal<D: Disk = RealDisk> {
    shared: Arc<Shared<D>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log of a signal (`logs`, `traces`, `metrics`), whatever state a crash left it in, and starts its thread.
    pub fn open(
        data_dir: &DataDir,
        signal: &str,
        config: WalConfig,
        clock: SharedClock,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let disk = RealDisk::open(&data_dir.path().join("wal").join(signal))?;
        let (wal, writer) = Self::open_on(disk, signal, config, clock, metrics)?;
        wal.start(writer)?;
        Ok(wal)
    }
}

impl<D: Disk> Wal<D> {
    /// Opens a log on a disk. It has no thread yet: either [`start`](Self::start) one, or drive the writer, as a simulation does.
    pub fn open_on(
        disk: D,
        signal: &str,
        config: WalConfig,
        clock: SharedClock,
        metrics: &Metrics,
    ) -> io::Result<(Self, WalWriter<D>)> {
        let (shared, writer) = super::recovery::open(disk, signal, config, clock, metrics.of(signal))?;
        metrics.add(Arc::downgrade(&shared) as _);
        Ok((Self { shared, thread: Mutex::new(None) }, writer))
    }

    /// Starts the thread that drives the writer.
    pub fn start(&self, writer: WalWriter<D>) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(format!("wal-{}", self.shared.signal));
        let handle = thread.spawn(move || writer.run())?;
        *lock(&self.thread) = Some(handle);
        Ok(())
    }

    /// Takes no more appends, writes what is queued, saves the cursors and ends the thread. Reading goes on.
    pub fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    /// How it stands.
    pub fn report(&self) -> Report {
        self.shared.report()
    }
}

impl<D: Disk> Drop for Wal<D> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<D: Disk> Log for Wal<D> {
    fn append(&self, frame: NewFrame) -> BoxFuture<Result<Position, AppendError>> {
        match self.shared.append(frame) {
            Ok(done) => Box::pin(async { done.await.unwrap_or(Err(AppendError::Closed)) }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn now(&self) -> Timestamp {
        let clock = &self.shared.clock;
        self.shared.queue().clock.now(clock.now(), clock.monotonic())
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    fn end(&self) -> Position {
        self.shared.progress.borrow().appended.max(self.shared.opened_at)
    }

    fn oldest(&self) -> Position {
        self.shared.oldest()
    }

    fn read(&self, from: Position, bytes_max: usize) -> io::Result<Vec<Frame>> {
        self.shared.read(from, bytes_max)
    }

    fn cursor(&self, name: &str) -> io::Result<Box<dyn Cursor>> {
        Ok(Box::new(WalCursor::open(Arc::clone(&self.shared), name)))
    }

    fn identity(&self, position: Position) -> Option<u64> {
        self.shared.segments().get(&position.sequence()).map(|segment| segment.header.salt)
    }

    fn seek(&self, since: Timestamp) -> Position {
        self.shared.seek(since)
    }

    fn parts(&self) -> Vec<Part> {
        self.shared.parts()
    }

    fn part_headers(&self, part: &Part, visit: &mut dyn FnMut(Frame) -> bool) -> io::Result<()> {
        self.shared.walk(part.start, &mut |position, header| {
            position < part.end && visit(frame(position, &header, bytes::Bytes::new()))
        })
    }

    fn headers(&self, since: Timestamp, visit: &mut dyn FnMut(Frame)) -> io::Result<()> {
        self.shared.walk(self.shared.seek(since), &mut |position, header| {
            if header.received >= since {
                visit(frame(position, &header, bytes::Bytes::new()));
            }
            true
        })
    }
}

/// What the writer, the readers and the cursors share.
pub(super) struct Shared<D: Disk> {
    pub(super) signal: String,
    pub(super) disk: D,
    pub(super) config: WalConfig,
    pub(super) clock: SharedClock,
    pub(super) metrics: LogMetrics,
    pub(super) progress: watch::Sender<Progress>,
    /// No frame of before stood behind this, and none of this life stands before it.
    pub(super) opened_at: Position,
    /// Wakes the writer.
    pub(super) wake: Condvar,
    pub(super) queue: Mutex<Queue>,
    pub(super) segments: RwLock<Segments<D>>,
    pub(super) tail: Mutex<Tail>,
    pub(super) cursors: Mutex<Cursors>,
    /// Records in the log up to its appended position, ever.
    pub(super) records: AtomicU64,
    /// Size of all segment files.
    pub(super) disk_bytes: AtomicU64,
    /// Damage that was counted, so that the next reader does not count it again.
    pub(super) damaged: Mutex<VecDeque<Position>>,
}

/// The segments by their sequence number.
pub(super) type Segments<D> = BTreeMap<u32, Arc<Segment<<D as Disk>::File>>>;

/// Frames that wait to be written.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) frames: VecDeque<Queued>,
    pub(super) bytes: usize,
    pub(super) clock: LogClock,
    pub(super) closed: bool,
    /// Whether the writer has something to do beside the frames.
    pub(super) woken: bool,
    /// Whether there is no segment for the frames, as far as is known: the log is held or the disk is full.
    pub(super) blocked: bool,
}

impl Queue {
    /// Takes the batches out. What the collector itself has to say waits until it can be written: its timers and outcomes go by that.
    pub(super) fn take_batches(&mut self) -> VecDeque<Queued> {
        let (batches, others): (VecDeque<_>, _) =
            self.frames.drain(..).partition(|queued| queued.frame.kind == FrameKind::Batch);
        self.frames = others;
        self.bytes = self.frames.iter().map(|queued| queued.frame.payload.len()).sum();
        self.blocked = true;
        batches
    }
}

/// A frame that waits, and the one who waits for it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) frame: NewFrame,
    pub(super) payload_crc: u32,
    pub(super) received: Timestamp,
    pub(super) ahead: Duration,
    pub(super) done: oneshot::Sender<Result<Position, AppendError>>,
}

impl<D: Disk> Shared<D> {
    fn payload_bytes_max(&self) -> usize {
        let frame_bytes_max = (self.config.bytes_max() / 2 - DATA_START).min(u64::from(u32::MAX) / 2);
        payload_bytes_max(frame_bytes_max)
    }

    fn append(&self, frame: NewFrame) -> Result<oneshot::Receiver<Result<Position, AppendError>>, AppendError> {
        let bytes = frame.payload.len();
        let bytes_max = self.payload_bytes_max();
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes_max });
        }
        let payload_crc = crc32fast::hash(&frame.payload);
        let (done, waiting) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(AppendError::Closed);
        }
        let is_batch = frame.kind == FrameKind::Batch;
        if is_batch && queue.bytes > 0 && queue.bytes + bytes > self.config.pending_bytes_max {
            self.metrics.refused.inc();
            return Err(AppendError::Full);
        }
        let wall = self.clock.now();
        let received = queue.clock.show(wall, self.clock.monotonic());
        let ahead = ahead_to_wire(received.since(wall));
        self.metrics.handle_ahead(&self.signal, ahead);
        queue.bytes += bytes;
        queue.blocked = false;
        queue.frames.push_back(Queued { frame, payload_crc, received, ahead, done });
        drop(queue);
        self.wake.notify_one();
        Ok(waiting)
    }

    pub(super) fn oldest(&self) -> Position {
        self.segments().values().next().map_or(Position::default(), |segment| segment.position(DATA_START))
    }

    pub(super) fn wake_writer(&self) {
        self.queue().woken = true;
        self.wake.notify_one();
    }

    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }

    pub(super) fn count_damaged(&self, damaged: &[Position]) {
        let mut known = lock(&self.damaged);
        for position in damaged {
            if !known.contains(position) {
                self.metrics.damaged.inc();
                known.push_back(*position);
                if known.len() > DAMAGED_POSITIONS_MAX {
                    known.pop_front();
                }
            }
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        lock(&self.tail)
    }

    pub(super) fn cursors(&self) -> MutexGuard<'_, Cursors> {
        lock(&self.cursors)
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, Segments<D>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segments_mut(&self) -> RwLockWriteGuard<'_, Segments<D>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places of damage that are remembered; the oldest is forgotten first, and counted once more if it is read again.
const DAMAGED_POSITIONS_MAX: usize = 1024;

impl<D: Disk> Reports for Shared<D> {
    fn report(&self) -> Report {
        let cursors = self.cursors().cursors.clone();
        let open = cursors.into_iter().filter(|(_, state)| state.open);
        let cursors = open.map(|(name, state)| CursorReport {
            name,
            lag_records: self.records().saturating_sub(self.records_before(state.position).unwrap_or(0)),
            lag_bytes: self.bytes_from(state.position),
            lost_records: state.lost,
        });
        Report {
            signal: self.signal.clone(),
            pending_bytes: self.queue().bytes as u64,
            tail_cache_bytes: self.tail().bytes() as u64,
            segments: self.segments().len() as u64,
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            cursors: cursors.collect(),
        }
    }
}

impl<D: Disk> WalWriter<D> {
    /// Writes and syncs until the log is closed and all that was queued is written.
    fn run(mut self) {
        let shared = Arc::clone(self.shared());
        let mut save_at = None;
        loop {
            while self.write() {
                self.sync();
                self.prepare_next();
                self.save_cursors_when_due(&mut save_at);
            }
            let until_save = self.save_cursors_when_due(&mut save_at);
            if !shared.wait(until_save) {
                break;
            }
        }
        self.finish_preparing();
        self.save_cursors();
    }

    /// Saves the cursors when the first move since the last time is [`SAVE_INTERVAL`] old; tells how long it is until then.
    fn save_cursors_when_due(&mut self, save_at: &mut Option<Duration>) -> Option<Duration> {
        if !self.shared().cursors().dirty {
            return None;
        }
        let now = self.shared().clock.monotonic();
        let at = *save_at.get_or_insert(now + SAVE_INTERVAL);
        if at <= now {
            *save_at = None;
            self.save_cursors();
        }
        Some(at.saturating_sub(now)).filter(|until| !until.is_zero())
    }
}

/// How long a cursor's move may wait to be made durable.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

impl<D: Disk> Shared<D> {
    /// Waits for something to do or the timeout; `false` when the log is closed and nothing more can be written.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut queue = self.queue();
        let timeout =
            if queue.blocked { Some(timeout.unwrap_or(BLOCKED_INTERVAL).min(BLOCKED_INTERVAL)) } else { timeout };
        let has_frames = |queue: &Queue| !queue.frames.is_empty() && !queue.blocked;
        let idle = |queue: &mut Queue| !has_frames(queue) && !queue.closed && !queue.woken;
        queue = match timeout {
            Some(timeout) => {
                self.wake.wait_timeout_while(queue, timeout, idle).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wake.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner),
        };
        let ends = queue.closed && !has_frames(&queue);
        (queue.woken, queue.blocked) = (false, false);
        !ends
    }
}

/// How long frames that found no segment wait before they are tried again, unless something happens before.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
