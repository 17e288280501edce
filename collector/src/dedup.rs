//! The door's check for copies: a batch that a client sends again, because the answer got lost, counts once.
//!
//! A batch is known by the hash of its bytes. That is decided before the append, and only for batches that have a hash: those whose every
//! record has a time of its own, so that two batches that look alike are one. A copy that arrives while the first is on its way to
//! the disk waits for it and gets its answer; only what is durable counts. After a restart the hashes come back from the log's frame headers.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::oneshot;
use watchbell_rules::time::Timestamp;

use crate::clock::SharedClock;
use crate::config::duration;
use crate::wal::{AppendError, BoxFuture, FrameKind, Log, NewFrame, Position};

/// `dedup` in the config file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DedupConfig {
    /// For how long a batch is known, 10 minutes; OTLP clients give up after 5. 0 takes every copy as a batch of its own.
    #[serde(deserialize_with = "duration::deserialize")]
    pub dedup_horizon: Duration,
    /// How many batches are known, 65536 (some 4 MiB): beyond it the oldest is forgotten first, and its copy would count again.
    pub dedup_entries_max: usize,
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self { dedup_horizon: Duration::from_secs(600), dedup_entries_max: 65536 }
    }
}

/// What the doors tell of themselves.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    batches: Family<Vec<(&'static str, &'static str)>, Gauge>,
}

impl Metrics {
    /// Registers it.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Batches whose copies would be told; the limit is dedup_entries_max";
        registry.register("watchbell_dedup_batches", help, metrics.batches.clone());
        metrics
    }
}

/// A batch that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where it stands in the log.
    pub position: Position,
    /// Whether it was there already: a copy, which was not appended.
    pub duplicate: bool,
}

/// A log with the check before it. Clones are the same door.
#[derive(Clone)]
pub struct Door {
    log: Arc<dyn Log>,
    clock: SharedClock,
    seen: Arc<Mutex<Seen>>,
}

impl Door {
    /// Puts the check before a log; reads back from it what was seen within the horizon.
    pub fn open(log: Arc<dyn Log>, config: DedupConfig, clock: SharedClock) -> io::Result<Self> {
        let mut seen = Seen { config, batches: HashMap::new(), order: VecDeque::new(), known: Gauge::default() };
        let since = clock.now() - seen.config.dedup_horizon;
        if !seen.config.dedup_horizon.is_zero() {
            log.headers(since, &mut |frame| {
                if frame.kind == FrameKind::Batch && frame.hash != 0 {
                    seen.insert(frame.hash, frame.position, frame.received);
                }
            })?;
        }
        Ok(Self { log, clock, seen: Arc::new(Mutex::new(seen)) })
    }

    /// Tells of itself as the door of that signal.
    #[must_use]
    pub fn counted(self, metrics: &Metrics, signal: &'static str) -> Self {
        let mut seen = self.seen();
        seen.known = metrics.batches.get_or_create_owned(&vec![("signal", signal)]);
        seen.known.set(seen.order.len() as i64);
        drop(seen);
        self
    }

    /// Appends a frame, unless it is a copy of a batch that is durable or about to be; a hash of 0 is never a copy. The future
    /// is ready when the batch is durable; dropping it does not take the batch back. The errors are the log's.
    pub fn append(&self, frame: NewFrame) -> BoxFuture<Result<Appended, AppendError>> {
        let mut seen = self.seen();
        if frame.hash == 0 || seen.config.dedup_horizon.is_zero() {
            drop(seen);
            let append = self.log.append(frame);
            return Box::pin(async { append.await.map(|position| Appended { position, duplicate: false }) });
        }
        seen.expire(self.clock.now());
        match seen.batches.get_mut(&frame.hash) {
            Some(Batch::Durable { position }) => {
                let position = *position;
                Box::pin(std::future::ready(Ok(Appended { position, duplicate: true })))
            }
            Some(Batch::OnItsWay { copies }) => {
                let (answer, waiting) = oneshot::channel();
                copies.push(answer);
                Box::pin(async { waiting.await.unwrap_or(Err(AppendError::Closed)) })
            }
            None => {
                seen.batches.insert(frame.hash, Batch::OnItsWay { copies: Vec::new() });
                drop(seen);
                let hash = frame.hash;
                Box::pin(First { door: self.clone(), hash, append: Some(self.log.append(frame)), alone: false })
            }
        }
    }

    /// Batches that are known.
    pub fn entries(&self) -> usize {
        self.seen().batches.len()
    }

    /// The log behind it.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    fn handle_appended(&self, hash: u64, result: &Result<Position, AppendError>) {
        let mut seen = self.seen();
        let Some(Batch::OnItsWay { copies }) = seen.batches.remove(&hash) else { return };
        if let Ok(position) = result {
            seen.insert(hash, *position, self.clock.now());
        }
        drop(seen);
        for copy in copies {
            let _ = copy.send(result.clone().map(|position| Appended { position, duplicate: true }));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Seen {
    config: DedupConfig,
    batches: HashMap<u64, Batch>,
    /// The durable ones, oldest first.
    order: VecDeque<(Timestamp, u64)>,
    known: Gauge,
}

enum Batch {
    OnItsWay { copies: Vec<oneshot::Sender<Result<Appended, AppendError>>> },
    Durable { position: Position },
}

impl Seen {
    fn insert(&mut self, hash: u64, position: Position, now: Timestamp) {
        if self.batches.insert(hash, Batch::Durable { position }).is_none() {
            self.order.push_back((now, hash));
        }
        while self.order.len() > self.config.dedup_entries_max {
            self.forget_oldest();
        }
        self.known.set(self.order.len() as i64);
    }

    fn expire(&mut self, now: Timestamp) {
        let since = now - self.config.dedup_horizon;
        while self.order.front().is_some_and(|(seen, _)| *seen < since) {
            self.forget_oldest();
        }
        self.known.set(self.order.len() as i64);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, hash)) = self.order.pop_front() {
            self.batches.remove(&hash);
        }
    }
}

/// The append of a batch that was not seen before. If the client goes away, it is seen through all the same.
struct First {
    door: Door,
    hash: u64,
    append: Option<BoxFuture<Result<Position, AppendError>>>,
    /// Whether it runs in a task of its own, its client having gone.
    alone: bool,
}

impl Future for First {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(append) = self.append.as_mut() else { return Poll::Pending };
        let Poll::Ready(result) = append.as_mut().poll(context) else { return Poll::Pending };
        self.append = None;
        self.door.handle_appended(self.hash, &result);
        Poll::Ready(result.map(|position| Appended { position, duplicate: false }))
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let Some(append) = self.append.take() else { return };
        let (door, hash) = (self.door.clone(), self.hash);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !self.alone => drop(runtime.spawn(First { door, hash, append: Some(append), alone: true })),
            // The runtime, and with it the process, is ending: what became durable is known again at the next start.
            _ => door.handle_appended(hash, &Err(AppendError::Closed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::ManualClock;
    use crate::memory_log::MemoryLog;

    struct House {
        log: MemoryLog,
        clock: Arc<ManualClock>,
        door: Door,
    }

    fn house(config: DedupConfig) -> House {
        let (log, clock) = (MemoryLog::new(), ManualClock::at(Timestamp(1_000_000_000_000)));
        let door = Door::open(Arc::new(log.clone()), config, clock.clone()).unwrap();
        House { log, clock, door }
    }

    fn frame(hash: u64) -> NewFrame {
        NewFrame { kind: FrameKind::Batch, hash, event_span: None, records: 1, payload: Bytes::from_static(b"batch") }
    }

    fn appended(position: u64, duplicate: bool) -> Result<Appended, AppendError> {
        Ok(Appended { position: Position(position), duplicate })
    }

    #[tokio::test]
    async fn a_copy_is_answered_and_not_appended() {
        let House { log, door, .. } = house(DedupConfig::default());
        assert_eq!(door.append(frame(7)).await, appended(0, false));
        assert_eq!(door.append(frame(8)).await, appended(1, false));
        assert_eq!(door.append(frame(7)).await, appended(0, true));
        assert_eq!(log.frames().len(), 2);
    }

    #[tokio::test]
    async fn batches_without_a_hash_and_with_no_horizon_all_count() {
        let House { log, door, .. } = house(DedupConfig::default());
        assert_eq!(door.append(frame(0)).await, appended(0, false));
        assert_eq!(door.append(frame(0)).await, appended(1, false));
        let off = DedupConfig { dedup_horizon: Duration::ZERO, ..DedupConfig::default() };
        let door = Door::open(Arc::new(log.clone()), off, ManualClock::at(Timestamp(0))).unwrap();
        assert_eq!(door.append(frame(7)).await, appended(2, false));
        assert_eq!(door.append(frame(7)).await, appended(3, false));
    }

    #[tokio::test]
    async fn a_copy_waits_for_the_first_and_gets_its_answer() {
        let House { log, door, .. } = house(DedupConfig::default());
        log.hold(true);
        let first = tokio::spawn(door.append(frame(7)));
        let mut copy = tokio::spawn(door.append(frame(7)));
        tokio::task::yield_now().await;
        assert!(futures_pending(&mut copy).await);
        log.hold(false);
        assert_eq!(first.await.unwrap(), appended(0, false));
        assert_eq!(copy.await.unwrap(), appended(0, true));
        assert_eq!(log.frames().len(), 1);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_leaves_its_batch_known() {
        let House { log, door, .. } = house(DedupConfig::default());
        log.hold(true);
        drop(door.append(frame(7)));
        let copy = tokio::spawn(door.append(frame(7)));
        log.hold(false);
        assert_eq!(copy.await.unwrap(), appended(0, true));
        assert_eq!(log.frames().len(), 1);
    }

    #[tokio::test]
    async fn what_was_refused_is_not_known() {
        let House { log, door, .. } = house(DedupConfig::default());
        log.refuse(Some(AppendError::Full));
        assert_eq!(door.append(frame(7)).await, Err(AppendError::Full));
        log.refuse(None);
        assert_eq!(door.append(frame(7)).await, appended(0, false));
    }

    #[tokio::test]
    async fn batches_are_forgotten_after_the_horizon_and_over_the_limit() {
        let House { clock, door, .. } = house(DedupConfig { dedup_entries_max: 2, ..DedupConfig::default() });
        for hash in [1, 2, 3] {
            assert!(!door.append(frame(hash)).await.unwrap().duplicate);
        }
        assert_eq!(door.entries(), 2);
        assert!(!door.append(frame(1)).await.unwrap().duplicate);
        clock.advance(Duration::from_secs(600));
        assert!(door.append(frame(1)).await.unwrap().duplicate);
        clock.advance(Duration::from_nanos(1));
        assert!(!door.append(frame(1)).await.unwrap().duplicate);
        assert_eq!(door.entries(), 1);
    }

    #[tokio::test]
    async fn a_restart_reads_the_hashes_back() {
        let House { log, door, .. } = house(DedupConfig::default());
        door.append(frame(7)).await.unwrap();
        let door = Door::open(Arc::new(log), DedupConfig::default(), ManualClock::at(Timestamp(0))).unwrap();
        assert_eq!(door.append(frame(7)).await, appended(0, true));
    }

    async fn futures_pending(task: &mut tokio::task::JoinHandle<Result<Appended, AppendError>>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *task).poll(context).is_pending())).await
    }
}
