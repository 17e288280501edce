//! Maps the evaluator to a thread of its own: reads the log, matches in parallel, folds in order, sends what is due.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::engine::RuleStatus;
use watchbell_rules::matcher::Matched;
use watchbell_rules::plan::Plan;
use watchbell_rules::transition::Sample;

use super::filling::FillJob;
use super::fullness::Fullness;
use super::losses::Losses;
use super::rule_set::Prepared;
use super::skew::Skew;
use super::snapshot::{Frozen, SnapshotStore};
use super::{Evaluator, Output, frame_of};
use crate::clock::SharedClock;
use crate::notify::alertmanager::Feed;
use crate::notify::{CurrentNotifiers, DeliveryError, DeliveryResult, Notifier};
use crate::outbox::Outbox;
use crate::priority::give_way;
use crate::wal::{AppendError, BoxFuture, Cursor, Frame, FrameKind, Log, Position, Progress};

/// What the evaluator's thread works with.
pub struct Parts {
    /// The log of log records.
    pub log: Arc<dyn Log>,
    /// Where snapshots are.
    pub store: Arc<SnapshotStore>,
    /// Makes an empty outbox.
    pub outbox: Box<dyn Fn() -> Outbox + Send>,
    /// The rules that were checked last.
    pub prepared: Prepared,
    /// The time.
    pub clock: SharedClock,
    /// Sends messages.
    pub notifiers: CurrentNotifiers,
    /// Where sends run.
    pub runtime: tokio::runtime::Handle,
    /// Takes the points of computed series.
    pub samples: Box<dyn Fn(Position, Sample) + Send>,
    /// Take the changes of alerts.
    pub feeds: Vec<Arc<Feed>>,
    /// Questions and the order to stop; when all senders are gone it stops too.
    pub requests: mpsc::Receiver<Request>,
    /// What it counts.
    pub metrics: Metrics,
    /// Time between two snapshots; less where the log fills up sooner.
    pub snapshot_interval: Duration,
}

/// What the evaluator's thread is asked.
#[derive(Debug)]
pub enum Request {
    /// The rules as they stand.
    Status(oneshot::Sender<Vec<RuleStatus>>),
    /// The receivers are closed: fold what is in the log, wait for the sends under way, store a snapshot, end.
    Stop,
}

/// What the evaluator counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    frames: Counter,
    records: Counter,
    snapshots: Counter,
    snapshot_bytes: Gauge,
    refolds: Counter,
    faulty: Counter,
    caught_up: Gauge,
    fullness: Fullness,
    skew: Skew,
    losses: Losses,
}

impl Metrics {
    /// Registers all.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("watchbell_evaluator");
        let (fullness, skew, losses) =
            (Fullness::register(registry), Skew::register(registry), Losses::register(registry));
        let metrics = Self { fullness, skew, losses, ..Self::default() };
        registry.register("frames", "Frames folded", metrics.frames.clone());
        registry.register("records", "Log records judged", metrics.records.clone());
        registry.register("snapshots", "Snapshots stored", metrics.snapshots.clone());
        registry.register("snapshot_bytes", "Size of the last snapshot", metrics.snapshot_bytes.clone());
        let help = "Times the state was folded again from a snapshot because the disk failed";
        registry.register("refolds", help, metrics.refolds.clone());
        let help = "Batches that no rule saw, for a fault of the collector's own";
        registry.register("faulty_batches", help, metrics.faulty.clone());
        let help = "Whether all that the log holds has been judged (1) or not (0)";
        registry.register("caught_up", help, metrics.caught_up.clone());
        metrics
    }
}

/// Restores the evaluator from the newest snapshot, says in the log that a collector has started, and starts the thread.
///
/// # Errors
/// The cursor cannot be opened, the snapshots not be read, or the thread not started.
pub fn start(parts: Parts) -> io::Result<thread::JoinHandle<()>> {
    let mut cursor = parts.log.cursor(CURSOR)?;
    cursor.hold();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let evaluator = restore(&parts)?;
    // Before anything else of this life, as the queue is in order.
    let started = parts.log.append(frame_of(FrameKind::Started, Vec::new()));
    parts.runtime.spawn(say_started(Arc::clone(&parts.log), started));
    thread::Builder::new().name("evaluator".to_owned()).spawn(move || {
        let _guard = AbortOnPanic;
        runtime.block_on(Runner::new(parts, cursor, evaluator).run());
    })
}

/// Sees to it that the log says that a collector has started, also where the disk fails at first: else the time before were silence.
pub(super) async fn say_started(log: Arc<dyn Log>, mut appended: BoxFuture<Result<Position, AppendError>>) {
    while let Err(AppendError::Failed(_)) = appended.await {
        tokio::time::sleep(READ_PAUSE).await;
        appended = log.append(frame_of(FrameKind::Started, Vec::new()));
    }
}

/// A collector that takes records and judges none would break its word in silence: when the evaluator panics, the process ends, and the next
/// start judges what the log holds.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the evaluator has panicked");
            std::process::abort();
        }
    }
}

struct Runner {
    parts: Parts,
    cursor: Box<dyn Cursor>,
    evaluator: Evaluator,
    progress: watch::Receiver<Progress>,
    failures: u64,
    results: mpsc::UnboundedReceiver<(String, DeliveryResult)>,
    /// Unbounded, but never holds more than the outbox has under way.
    report: mpsc::UnboundedSender<(String, DeliveryResult)>,
    sending: usize,
    /// Jobs that have filled new rules, and where threads put them.
    filled: mpsc::UnboundedReceiver<Box<FillJob>>,
    done: mpsc::UnboundedSender<Box<FillJob>>,
    /// A snapshot that waits until the log is durable up to its position.
    pending_snapshot: Option<Frozen>,
    /// Tells how writing a snapshot ended, which is done aside: no page waits for it.
    storing: Option<oneshot::Receiver<Stored>>,
    last_snapshot: (Position, Duration),
}

/// How writing a snapshot ended: up to where the log is not needed any more, and the snapshot's bytes.
type Stored = io::Result<(Position, usize)>;

/// All that can happen while there is nothing to fold.
enum Event {
    Progress,
    Result(String, DeliveryResult),
    Request(Option<Request>),
    Filled(Box<FillJob>),
    Timer,
}

impl Runner {
    fn new(parts: Parts, cursor: Box<dyn Cursor>, evaluator: Evaluator) -> Self {
        let progress = parts.log.progress();
        let (report, results) = mpsc::unbounded_channel();
        let (done, filled) = mpsc::unbounded_channel();
        let last_snapshot = (evaluator.position(), parts.clock.monotonic());
        let failures = progress.borrow().failures;
        let mut runner = Self {
            parts,
            cursor,
            evaluator,
            progress,
            failures,
            results,
            report,
            sending: 0,
            filled,
            done,
            pending_snapshot: None,
            storing: None,
            last_snapshot,
        };
        runner.take_up_replay();
        runner
    }

    async fn run(mut self) {
        let mut stopping = false;
        loop {
            let folded = match self.fold() {
                Ok(folded) => folded,
                Err(error) => {
                    tracing::error!(%error, "the log or a snapshot cannot be read, which is tried again");
                    tokio::time::sleep(READ_PAUSE).await;
                    false
                }
            };
            self.act(stopping);
            self.take_snapshot();
            let Parts { metrics, requests, clock, .. } = &mut self.parts;
            metrics.fullness.look_at(&self.evaluator, requests.len(), clock.monotonic());
            if folded {
                tokio::task::yield_now().await;
                while let Ok((key, result)) = self.results.try_recv() {
                    self.handle_result(&key, result);
                }
                while let Ok(job) = self.filled.try_recv() {
                    self.evaluator.handle_fill(job);
                }
                if let Ok(request) = self.parts.requests.try_recv() {
                    stopping |= self.handle_request(Some(request));
                }
                continue;
            }
            if stopping && self.sending == 0 {
                return self.finish().await;
            }
            match self.next_event(stopping).await {
                Event::Progress | Event::Timer => {}
                Event::Result(key, result) => self.handle_result(&key, result),
                Event::Request(request) => stopping |= self.handle_request(request),
                Event::Filled(job) => self.evaluator.handle_fill(job),
            }
        }
    }

    async fn next_event(&mut self, stopping: bool) -> Event {
        let wait = self.until_timeout().map_or(IDLE, |wait| wait.min(IDLE));
        tokio::select! {
            biased;
            Some((key, result)) = self.results.recv() => Event::Result(key, result),
            Some(job) = self.filled.recv() => Event::Filled(job),
            request = self.parts.requests.recv(), if !stopping => Event::Request(request),
            _ = self.progress.changed() => Event::Progress,
            () = tokio::time::sleep(wait) => Event::Timer,
        }
    }

    /// The log's clock may run more slowly than the monotonic one: then this is less than it takes.
    fn until_timeout(&self) -> Option<Duration> {
        let Parts { clock, log, .. } = &self.parts;
        let frame = self.evaluator.poll_clock_timeout().map(|due| due.since(log.now()));
        let send = self.evaluator.poll_send_timeout().map(|due| due.saturating_sub(clock.monotonic()));
        frame.into_iter().chain(send).min()
    }

    /// Folds what the log has got since; tells whether that was anything.
    fn fold(&mut self) -> io::Result<bool> {
        let progress = *self.progress.borrow_and_update();
        if progress.failures != self.failures {
            self.fold_again(progress)?;
        }
        let mut frames = Vec::new();
        if self.evaluator.position() < progress.appended {
            frames = self.parts.log.read(self.evaluator.position(), READ_BYTES_MAX)?;
        }
        let folded = !frames.is_empty();
        self.parts.metrics.caught_up.set(i64::from(!folded));
        for run in frames.chunk_by(|a, b| a.kind == FrameKind::Batch && b.kind == FrameKind::Batch) {
            self.fold_run(run);
        }
        self.evaluator.handle_durable(progress.durable);
        Ok(folded)
    }

    /// Folds frames of which either all are batches, or there is one.
    fn fold_run(&mut self, frames: &[Frame]) {
        if frames[0].kind == FrameKind::Batch {
            let matched = match_all(self.evaluator.plan(), frames);
            for (frame, matched) in frames.iter().zip(matched) {
                self.parts.metrics.skew.count(&matched);
                self.parts.metrics.losses.count(&frame.payload);
                if matched.is_faulty {
                    self.parts.metrics.faulty.inc();
                    let (position, records) = (frame.position.0, frame.records);
                    tracing::error!(position, records, "no rule saw a batch, for a fault of ours; please report it");
                }
                self.evaluator.handle_batch(frame, matched);
            }
        } else {
            self.evaluator.handle_frame(&frames[0]);
        }
        self.parts.metrics.frames.inc_by(frames.len() as u64);
        self.parts.metrics.records.inc_by(frames.iter().map(|frame| u64::from(frame.records)).sum());
    }

    /// The disk failed: what was folded beyond the durable position never happened, nor was a clock frame or an outcome written that
    /// were under way. Where that was cannot be told any more when the log has gone on meanwhile.
    fn fold_again(&mut self, progress: Progress) -> io::Result<()> {
        tracing::error!("the disk failed under what may be judged already; folding again from the last snapshot");
        let mut restored = restore(&self.parts)?;
        self.failures = progress.failures;
        self.pending_snapshot = None;
        restored.handle_told(&self.evaluator);
        self.evaluator = restored;
        self.take_up_replay();
        self.parts.metrics.refolds.inc();
        Ok(())
    }

    fn take_up_replay(&mut self) {
        let progress = *self.progress.borrow();
        self.evaluator.replay_until(progress.appended);
        self.evaluator.handle_durable(progress.durable);
        self.parts.feeds.iter().for_each(|feed| feed.hold());
    }

    /// Does what the evaluator wants done.
    fn act(&mut self, stopping: bool) {
        let monotonic = self.parts.clock.monotonic();
        while let Some(output) = self.evaluator.poll_output(monotonic) {
            match output {
                Output::Send(notification) => self.send(notification),
                Output::Transition(transition) => {
                    self.parts.feeds.iter().for_each(|feed| feed.handle_transition(&transition));
                }
                Output::Replayed => self.parts.feeds.iter().for_each(|feed| feed.release()),
                Output::Sample(position, sample) => (self.parts.samples)(position, sample),
                Output::Append(frame) => drop(self.parts.log.append(frame)),
                Output::Fill(job) => self.start_fill(job),
            }
        }
        let caught_up = self.evaluator.position() >= self.progress.borrow().appended;
        if let Some(frame) =
            (caught_up && !stopping).then(|| self.evaluator.clock_frame(self.parts.log.now())).flatten()
        {
            drop(self.parts.log.append(frame));
        }
    }

    /// Fills new rules on a thread of its own, which gives way to all others. Where that dies the evaluator sees that the job is gone.
    fn start_fill(&mut self, mut job: Box<FillJob>) {
        let (log, progress, done) = (Arc::clone(&self.parts.log), self.progress.clone(), self.done.clone());
        let thread = thread::Builder::new().name("fill".to_owned()).spawn(move || {
            give_way();
            while job.is_wanted() {
                let durable = progress.borrow().durable;
                match job.step(&*log, durable) {
                    // The receiver is gone only when the evaluator has ended.
                    Ok(true) => return drop(done.send(job)),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(%error, "the log cannot be read to fill new rules, which is tried again");
                        thread::sleep(READ_PAUSE);
                    }
                }
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread can be started to fill new rules, which is tried again");
        }
    }

    fn send(&mut self, notification: Arc<Notification>) {
        let notifiers = self.parts.notifiers.under(&self.evaluator.rule_set().policy);
        let report = self.report.clone();
        self.sending += 1;
        self.parts.runtime.spawn(async move {
            let key = notification.key.clone();
            // In a task of its own, so that one that panics is reported, too, also where it makes the message.
            let sent = tokio::spawn(async move { notifiers.send(notification).await }).await;
            let result = sent.unwrap_or_else(|error| {
                Err(DeliveryError::Retryable { reason: format!("sending failed: {error}"), after: None })
            });
            // The receiver is gone only when the evaluator has ended.
            let _ = report.send((key, result));
        });
    }

    fn handle_result(&mut self, key: &str, result: DeliveryResult) {
        self.sending -= 1;
        self.evaluator.handle_result(key, result, self.parts.clock.monotonic());
    }

    /// Answers; tells whether it was the order to stop.
    fn handle_request(&mut self, request: Option<Request>) -> bool {
        match request {
            Some(Request::Status(answer)) => {
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(self.evaluator.status());
                false
            }
            Some(Request::Stop) | None => {
                // Up to now somebody has listened, though nothing may have come for long; from now on nobody does.
                drop(self.parts.log.append(frame_of(FrameKind::Clock, Vec::new())));
                true
            }
        }
    }

    /// Takes a snapshot when one is due, by time or because the log waits to drop what the older one still needs; stores it when the
    /// log is durable up to it.
    fn take_snapshot(&mut self) {
        let (position, at) = self.last_snapshot;
        let now = self.parts.clock.monotonic();
        let since = now.saturating_sub(at);
        let has_filled = self.evaluator.filled_at() > position;
        let due =
            since >= self.parts.snapshot_interval || (since >= IDLE && (has_filled || self.cursor.is_far_behind()));
        self.take_stored();
        let idle = self.pending_snapshot.is_none() && self.storing.is_none();
        if due && idle && self.evaluator.position() != position {
            self.pending_snapshot = Some(self.evaluator.freeze());
            self.last_snapshot = (self.evaluator.position(), now);
        }
        let durable = self.durable();
        if let Some(snapshot) = self.pending_snapshot.take_if(|snapshot| snapshot.position() <= durable) {
            self.store(snapshot);
        }
    }

    /// How far the log is durable; nowhere while it has failed under frames that may have been folded.
    fn durable(&self) -> Position {
        let progress = *self.progress.borrow();
        if progress.failures == self.failures { progress.durable } else { Position::default() }
    }

    fn store(&mut self, snapshot: Frozen) {
        let store = Arc::clone(&self.parts.store);
        let (done, stored) = oneshot::channel();
        self.storing = Some(stored);
        self.parts.runtime.spawn_blocking(move || {
            let bytes = snapshot.to_bytes();
            let stored = store.store(snapshot.position(), &bytes).map(|oldest| (oldest, bytes.len()));
            // The receiver is gone only when the evaluator has ended.
            let _ = done.send(stored);
        });
    }

    fn take_stored(&mut self) {
        let stored = match self.storing.as_mut().map(oneshot::Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(stored)) => stored,
            Some(Err(TryRecvError::Closed)) => Err(unfinished()),
        };
        self.storing = None;
        self.handle_stored(stored);
    }

    fn handle_stored(&mut self, stored: Stored) {
        match stored.and_then(|(oldest, bytes)| self.cursor.commit(oldest).map(|()| bytes)) {
            Ok(bytes) => {
                self.parts.metrics.snapshots.inc();
                self.parts.metrics.snapshot_bytes.set(bytes as i64);
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be stored; another is tried, and the log is held until then");
                self.last_snapshot.0 = Position::default();
            }
        }
    }

    async fn finish(mut self) {
        self.wait_stored().await;
        if self.evaluator.position() <= self.durable() {
            self.store(self.evaluator.freeze());
            self.wait_stored().await;
        }
    }

    async fn wait_stored(&mut self) {
        if let Some(stored) = self.storing.take() {
            self.handle_stored(stored.await.unwrap_or_else(|_| Err(unfinished())));
        }
    }
}

fn unfinished() -> io::Error {
    io::Error::other("it was not written to its end")
}

fn restore(parts: &Parts) -> io::Result<Evaluator> {
    let log = || Arc::clone(&parts.log);
    let restored = parts.store.load(parts.log.end(), |bytes| Evaluator::restore(bytes, log(), (parts.outbox)()))?;
    let evaluator = restored.unwrap_or_else(|| Evaluator::new(parts.log.oldest(), log(), (parts.outbox)()));
    Ok(evaluator.with_prepared(parts.prepared.clone()))
}

/// Matches batches, on as many threads as there are cores where it pays.
fn match_all(plan: &Arc<Plan>, frames: &[Frame]) -> Vec<Matched> {
    let match_one = |frame: &Frame| plan.match_batch(&frame.payload, frame.receipt());
    let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if threads == 1 || frames.len() == 1 || bytes < PARALLEL_BYTES_MIN {
        return frames.iter().map(match_one).collect();
    }
    thread::scope(|scope| {
        let chunks: Vec<_> = frames
            .chunks(frames.len().div_ceil(threads))
            .map(|chunk| scope.spawn(move || chunk.iter().map(match_one).collect::<Vec<_>>()))
            .collect();
        chunks
            .into_iter()
            .flat_map(|chunk| chunk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Name of the evaluator's cursor.
pub const CURSOR: &str = "evaluator";
/// Payload that is read from the log at once.
const READ_BYTES_MAX: usize = 4 << 20;
/// Below this, starting threads costs more than they save.
const PARALLEL_BYTES_MIN: usize = 1 << 20;
/// How long a log that could not be read, or not be written at the start, is left alone.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// The longest sleep when nothing is due: it bounds how long a pending snapshot is not looked at.
const IDLE: Duration = Duration::from_secs(1);
