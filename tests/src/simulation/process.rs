//! A collector's process: its state machines, put together as `pipeline` does it, without threads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use watchbell_collector::clock::{Clock, ManualClock};
use watchbell_collector::dedup::{Appended, DedupConfig, Door};
use watchbell_collector::evaluator::filling::{FillJob, FillLimits};
use watchbell_collector::evaluator::rule_set::{RuleFileText, RuleSet};
use watchbell_collector::evaluator::{Evaluator, Output, frame_of};
use watchbell_collector::exporter::queue::{self, Queue, Request, RetryConfig, SendResult};
use watchbell_collector::notify::DeliveryResult;
use watchbell_collector::outbox::{self, Outbox, OutboxConfig, Outcome};
use watchbell_collector::wal::simulated_disk::SimulatedDisk;
use watchbell_collector::wal::{
    AppendError, BoxFuture, Cursor, Frame, FrameKind, Log, Metrics, NewFrame, Position, Progress, Wal, WalConfig,
    WalWriter,
};
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::time::Timestamp;

use super::series::AllSeries;

/// The newest snapshots, oldest first: storing one is atomic.
#[derive(Default)]
pub(super) struct Snapshots(Vec<(Position, Vec<u8>)>);

const SNAPSHOTS_KEPT: usize = 2;

/// What is lost when the process ends.
pub(super) struct Process {
    clock: Arc<ManualClock>,
    seed: u64,
    log: Arc<Wal<SimulatedDisk>>,
    writer: WalWriter<SimulatedDisk>,
    door: Door,
    /// Appends of clients, by the batch's number.
    answers: Vec<(usize, BoxFuture<Result<Appended, AppendError>>)>,
    evaluator: Evaluator,
    evaluated: Box<dyn Cursor>,
    failures: u64,
    pending_snapshot: Option<(Position, Vec<u8>)>,
    queue: Queue,
    exported: Box<dyn Cursor>,
    under_way: usize,
    /// Keys of the messages of which this process has learnt that they arrived.
    delivered: BTreeSet<String>,
    /// New rules that are being filled.
    fill: Option<Box<FillJob>>,
}

impl Process {
    pub(super) fn start(disk: &SimulatedDisk, clock: &Arc<ManualClock>, snapshots: &Snapshots, seed: u64) -> Self {
        let config = WalConfig { segment_bytes: 16 << 10, tail_cache_bytes_max: 2 << 10, ..WalConfig::default() };
        let (log, writer) =
            Wal::open_on(disk.clone(), "logs", config, clock.clone(), &Metrics::default()).expect("it opens");
        let log = Arc::new(log);
        let door = Door::open(log.clone(), DedupConfig::default(), clock.clone()).expect("memory does not fail");
        let mut evaluated = log.cursor("evaluator").expect("memory does not fail");
        evaluated.hold();
        let exported = log.cursor("otlp").expect("memory does not fail");
        let mut process = Self {
            clock: clock.clone(),
            seed,
            evaluator: restore(&log, snapshots, seed),
            evaluated,
            failures: 0,
            pending_snapshot: None,
            queue: Queue::new(queue::Config::default(), RetryConfig::default(), exported.position(), seed),
            exported,
            log,
            writer,
            door,
            answers: Vec::new(),
            under_way: 0,
            delivered: BTreeSet::new(),
            fill: None,
        };
        process.take_up_replay();
        drop(process.log.append(frame_of(FrameKind::Started, Vec::new())));
        process
    }

    /// Puts the rules into the log; a crash may lose them.
    pub(super) fn load_rules(&mut self, text: &str) {
        let files = vec![RuleFileText { path: "rules.yaml".to_owned(), text: text.to_owned() }];
        let rules = RuleSet { files, ..RuleSet::default() };
        rules.compile().expect("good rules");
        drop(self.log.append(frame_of(FrameKind::Rules, rules.to_bytes())));
    }

    pub(super) fn append(&mut self, number: usize, frame: NewFrame) {
        self.answers.push((number, self.door.append(frame)));
    }

    /// The batches that are answered, and whether they were taken.
    pub(super) fn take_answers(&mut self) -> Vec<(usize, bool)> {
        let mut taken = Vec::new();
        self.answers.retain_mut(|(number, answer)| {
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => {
                    taken.push((*number, result.is_ok()));
                    false
                }
                Poll::Pending => true,
            }
        });
        taken
    }

    pub(super) fn write(&mut self) {
        self.writer.write();
    }

    pub(super) fn sync(&mut self) {
        self.writer.sync();
    }

    pub(super) fn save_cursors(&mut self) {
        self.writer.save_cursors();
    }

    /// Folds what the log has got since, up to so many bytes; tells whether the disk has failed, so that it began again from a snapshot.
    pub(super) fn fold(&mut self, bytes_max: usize, snapshots: &Snapshots) -> bool {
        let progress = self.progress();
        let again = progress.failures != self.failures;
        if again {
            self.failures = progress.failures;
            self.pending_snapshot = None;
            let mut restored = restore(&self.log, snapshots, self.seed);
            restored.handle_told(&self.evaluator);
            self.evaluator = restored;
            self.take_up_replay();
        }
        if self.evaluator.position() < progress.appended {
            let frames = self.log.read(self.evaluator.position(), bytes_max).expect("memory does not fail");
            frames.iter().for_each(|frame| self.evaluator.handle_frame(frame));
        }
        self.evaluator.handle_durable(progress.durable);
        again
    }

    /// Does what the evaluator wants done, but for the messages to send; samples go to the series.
    pub(super) fn sends(&mut self, series: &mut AllSeries) -> Vec<Arc<Notification>> {
        let monotonic = self.clock.monotonic();
        let mut sends = Vec::new();
        while let Some(output) = self.evaluator.poll_output(monotonic) {
            match output {
                Output::Send(notification) => sends.push(notification),
                Output::Append(frame) => drop(self.log.append(frame)),
                Output::Sample(_, sample) => series.take(sample),
                Output::Fill(job) => self.fill = Some(job),
                Output::Transition(_) | Output::Replayed => {}
            }
        }
        let caught_up = self.evaluator.position() >= self.progress().appended;
        if let Some(frame) = caught_up.then(|| self.evaluator.clock_frame(self.log.now())).flatten() {
            drop(self.log.append(frame));
        }
        self.under_way += sends.len();
        sends
    }

    /// Reads on in the log for new rules; tells whether they are filled.
    pub(super) fn fill(&mut self) -> bool {
        let durable = self.progress().durable;
        let Some(mut job) = self.fill.take_if(|job| job.is_wanted()) else { return false };
        let is_done = job.step(&*self.log, durable).expect("memory does not fail");
        if is_done {
            self.evaluator.handle_fill(job);
        } else {
            self.fill = Some(job);
        }
        is_done
    }

    pub(super) fn handle_page_result(&mut self, key: &str, result: DeliveryResult) {
        self.under_way -= 1;
        if result.is_ok() {
            self.delivered.insert(key.to_owned());
        }
        self.evaluator.handle_result(key, result, self.clock.monotonic());
    }

    pub(super) fn snapshot(&mut self) {
        self.pending_snapshot = Some((self.evaluator.position(), self.evaluator.snapshot()));
    }

    /// Stores the snapshot that was taken, once the log is durable up to it.
    pub(super) fn store_snapshot(&mut self, snapshots: &mut Snapshots) {
        let durable = self.progress().durable;
        let Some(snapshot) = self.pending_snapshot.take_if(|(position, _)| *position <= durable) else { return };
        snapshots.0.push(snapshot);
        if snapshots.0.len() > SNAPSHOTS_KEPT {
            snapshots.0.remove(0);
            self.evaluated.commit(snapshots.0[0].0).expect("memory does not fail");
        }
    }

    /// What the export queue has to send.
    pub(super) fn exports(&mut self, bytes_max: usize) -> Vec<Request> {
        let now = self.now();
        self.queue.handle_timeout(now);
        if let Some((from, room)) = self.queue.poll_read() {
            let frames = self.log.read(from, room.min(bytes_max)).expect("memory does not fail");
            self.queue.handle_frames(frames);
        }
        if let Some(position) = self.queue.poll_commit() {
            self.exported.commit(position).expect("memory does not fail");
        }
        let sends: Vec<_> = std::iter::from_fn(|| self.queue.poll_send(now)).collect();
        self.under_way += sends.len();
        sends
    }

    pub(super) fn handle_export_result(&mut self, id: u64, result: SendResult) {
        self.under_way -= 1;
        self.queue.handle_result(id, result, self.now());
    }

    /// Whether nothing is left to do but wait for timers.
    pub(super) fn is_idle(&self) -> bool {
        let Progress { appended, durable, .. } = self.progress();
        appended == durable
            && self.evaluator.position() >= appended
            && self.answers.is_empty()
            && self.queue.is_idle()
            && self.evaluator.fill_progress().is_none()
            && self.under_way == 0
    }

    /// What [`is_idle`](Self::is_idle) waits for, for people.
    pub(super) fn waits_for(&self) -> String {
        format!(
            "{:?}, evaluated {:?} timer {:?}, {} answers, exported {:?}, {} under way, {:?}",
            self.progress(),
            self.evaluator.position(),
            self.evaluator.poll_clock_timeout(),
            self.answers.len(),
            self.exported.position(),
            self.under_way,
            self.evaluator.fill_progress()
        )
    }

    /// The payloads of all batches in the log.
    pub(super) fn batches(&self) -> Vec<Bytes> {
        let batches = self.frames().into_iter().filter(|frame| frame.kind == FrameKind::Batch);
        batches.map(|frame| frame.payload).collect()
    }

    /// Whether this process has learnt that the message was delivered, or the log says so and will say so after a crash.
    pub(super) fn knows_delivered(&self, key: &str) -> bool {
        if self.delivered.contains(key) {
            return true;
        }
        let durable = self.progress().durable;
        let frames = self.frames().into_iter().take_while(|frame| frame.position < durable);
        let mut outcomes = frames.filter(|frame| frame.kind == FrameKind::Outcome);
        outcomes.any(|frame| {
            let outcome = Outcome::from_bytes(&frame.payload).expect("our own outcome");
            outcome.key == key && outcome.delivered
        })
    }

    fn frames(&self) -> Vec<Frame> {
        let (mut from, mut all) = (Position::default(), Vec::new());
        loop {
            let frames = self.log.read(from, 1 << 20).expect("memory does not fail");
            let Some(last) = frames.last() else { return all };
            from = last.next;
            all.extend(frames);
        }
    }

    fn progress(&self) -> Progress {
        *self.log.progress().borrow()
    }

    /// What the export queue goes by.
    fn now(&self) -> Timestamp {
        Timestamp(0) + self.clock.monotonic()
    }

    fn take_up_replay(&mut self) {
        let progress = self.progress();
        self.evaluator.replay_until(progress.appended);
        self.evaluator.handle_durable(progress.durable);
    }
}

fn restore(log: &Arc<Wal<SimulatedDisk>>, snapshots: &Snapshots, seed: u64) -> Evaluator {
    let outbox = Outbox::new(OutboxConfig::default(), seed, outbox::Metrics::default());
    let evaluator = match snapshots.0.last() {
        Some((_, bytes)) => Evaluator::restore(bytes, log.clone(), outbox).expect("our own snapshot"),
        None => Evaluator::new(log.oldest(), log.clone(), outbox),
    };
    // Every new rule is filled aside, in small steps.
    evaluator.with_fill_limits(FillLimits { at_once_bytes_max: 0, together_bytes_max: 0, step_bytes_max: 500 })
}
