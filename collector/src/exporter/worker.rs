//! Runs a [`Queue`] in the world: frames from a log, requests to an endpoint, time from a clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use watchbell_rules::time::Timestamp;

use super::Sender;
use super::metrics::WorkerMetrics;
use super::queue::{Event, Queue, Request, SendResult};
use crate::clock::SharedClock;
use crate::wal::{Cursor, Log, Progress};

/// One exporter's reader of one log.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) log: Arc<dyn Log>,
    pub(super) cursor: Box<dyn Cursor>,
    pub(super) queue: Queue,
    pub(super) sender: Arc<dyn Sender>,
    pub(super) clock: SharedClock,
    pub(super) metrics: WorkerMetrics,
}

impl Worker {
    /// Sends what comes until told to stop, then what is there.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut progress = self.log.progress();
        let mut under_way = JoinSet::new();
        let mut told = Told::default();
        let mut closed = false;
        loop {
            let now = self.now();
            self.queue.handle_timeout(now);
            let all_read = self.read(&mut progress);
            while let Some(request) = self.queue.poll_send(now) {
                under_way.spawn(self.send(request));
            }
            self.settle(&mut told, now);
            let stopping = *stop.borrow();
            if (stopping || closed) && self.is_done(all_read, under_way.is_empty()) {
                return;
            }
            let pause = self.queue.poll_timeout().map(|until| until.since(now));
            tokio::select! {
                Some(Ok((id, result))) = under_way.join_next() => {
                    self.queue.handle_result(id, result, self.now());
                }
                // Where there is no room, a result makes some.
                changed = progress.changed(), if all_read && !closed => closed = changed.is_err(),
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                () = tokio::time::sleep(READ_PAUSE), if !all_read && under_way.is_empty() => {}
                _ = stop.changed(), if !stopping => {}
            }
        }
    }

    /// Whether nothing is left to do before the end: all is sent, or the endpoint is down and the log keeps it for the next start.
    fn is_done(&self, all_read: bool, none_under_way: bool) -> bool {
        (all_read && self.queue.is_idle()) || (none_under_way && self.queue.is_failing())
    }

    /// Reads as much as there is room for, up to the durable position: what a power cut takes back is never passed on. Tells whether
    /// that was all there is.
    fn read(&mut self, progress: &mut watch::Receiver<Progress>) -> bool {
        let durable = progress.borrow_and_update().durable;
        while let Some((from, bytes_max)) = self.queue.poll_read() {
            if from >= durable {
                return true;
            }
            let mut frames = match off_the_event_loop(|| self.log.read(from, bytes_max)) {
                Ok(frames) => frames,
                Err(error) => {
                    tracing::warn!("{}: cannot read the log: {error}", self.name);
                    return false;
                }
            };
            frames.retain(|frame| frame.next <= durable);
            if frames.is_empty() {
                return true;
            }
            self.queue.handle_frames(frames);
        }
        false
    }

    fn send(&self, request: Request) -> impl Future<Output = (u64, SendResult)> + use<> {
        let (sender, clock, metrics) = (self.sender.clone(), self.clock.clone(), self.metrics.clone());
        async move {
            let (id, started) = (request.id, clock.monotonic());
            // A task of its own, so that a batch at which the code fails costs that batch alone.
            let result = tokio::spawn(sender.send(request))
                .await
                .unwrap_or_else(|error| SendResult::Permanent { reason: format!("the exporter failed: {error}") });
            metrics.duration.observe(clock.monotonic().saturating_sub(started).as_secs_f64());
            metrics.count_request(match &result {
                SendResult::Delivered { .. } => "delivered",
                SendResult::Retryable { .. } => "retryable",
                SendResult::PartlyRefused { .. } => "partly_refused",
                SendResult::Replayed => "replayed",
                SendResult::Permanent { .. } => "permanent",
                SendResult::Split { .. } => "split",
            });
            (id, result)
        }
    }

    /// Counts and tells what happened, and moves the cursor on.
    fn settle(&mut self, told: &mut Told, now: Timestamp) {
        while let Some(event) = self.queue.poll_event() {
            match event {
                Event::Sent { records } => {
                    self.metrics.sent.inc_by(records);
                }
                Event::Dropped { records, reason } => {
                    self.metrics.dropped.inc_by(records);
                    told.tell(now, || tracing::warn!("{}: {records} records are lost: {reason}", self.name));
                }
                Event::PartlyRefused { records, reason } => {
                    self.metrics.partly_refused.inc_by(records);
                    told.tell(now, || tracing::warn!("{}: some of {records} records are lost: {reason}", self.name));
                }
                Event::Replayed { records } => {
                    self.metrics.replayed.inc_by(records);
                }
                Event::Retrying { reason } => {
                    self.metrics.retries.inc();
                    told.tell(now, || tracing::warn!("{}: will be sent again: {reason}", self.name));
                }
            }
        }
        self.metrics.queue_bytes.set(self.queue.bytes() as i64);
        if let Some(position) = self.queue.poll_commit()
            && let Err(error) = self.cursor.commit(position)
        {
            tracing::warn!("{}: cannot move its cursor: {error}", self.name);
        }
    }

    /// Time that never goes back: waits are all that depends on it.
    fn now(&self) -> Timestamp {
        Timestamp(0) + self.clock.monotonic()
    }
}

/// Keeps an endpoint that fails all the time from filling our own log.
#[derive(Default)]
struct Told(Option<Timestamp>);

impl Told {
    fn tell(&mut self, now: Timestamp, tell: impl FnOnce()) {
        if self.0.is_none_or(|last| now.since(last) >= TELL_INTERVAL) {
            self.0 = Some(now);
            tell();
        }
    }
}

/// Reads files, which may take a moment, without holding up the event loop's other tasks.
fn off_the_event_loop<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// How long a log that could not be read is left alone.
const READ_PAUSE: Duration = Duration::from_secs(1);
