//! The export thread: collects records, makes requests of them and sends these until the collector has answered.
//!
//! It has a runtime of its own and suppresses telemetry in it, so that it neither depends on the service's runtime nor hears itself.
//! A request is tried again, with a growing delay, until it is accepted or refused for good; while that goes on what follows goes to the spool, if
//! there is one, else the buffer fills up to its cap, where the newest records are dropped and counted. An idle service wakes it never.

mod answer;
mod collection;
#[cfg(feature = "http-json")]
mod json;
mod queue;
mod report;
mod request;
mod spooling;
mod transport;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use tokio::sync::{Notify, mpsc::UnboundedReceiver, mpsc::UnboundedSender, mpsc::unbounded_channel};
use tokio::task::{Id, JoinError, JoinSet};

use crate::config::{Config, Export, PerSignal, Signal};
use crate::lane::{Gathered, MemoryRequest, Urgency};
use crate::ledger::End;
use crate::mapped::Origin;
use crate::pipeline::Pipeline;
use crate::spool::{Place, Store};
use answer::Answer;
pub(crate) use collection::Collect;
use collection::Collection;
use queue::Queue;
use report::{Outage, Report};
use request::Request;
pub(crate) use request::{Size, requests, resource};
use transport::Transport;

/// Most requests of one signal that are under way at a time (4); more wait in the buffer.
const REQUESTS_IN_FLIGHT_MAX: usize = 4;

/// Least time between two collections in a hurry: what comes meanwhile goes together. While the collector is away it is [`RETRY_DELAY`].
const HURRY_INTERVAL: Duration = Duration::from_millis(10);

/// Delay before the first retry; it doubles up to [`RETRY_DELAY_MAX`], each time with a random part taken off. A chunk that a thread was writing to when it
/// was to be collected is looked for again so much later.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Longest delay between retries (5 s), unless the collector asks for more.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// How long before the shutdown's deadline what is left goes to the spool (500 ms), at most a quarter of the time there is.
const SPOOL_BEFORE_DEADLINE: Duration = Duration::from_millis(500);

/// How long the shutdown waits for a collector that has never answered and refuses each connection (1 s); one that did is waited for until the deadline.
const NOBODY_THERE_AFTER: Duration = Duration::from_secs(1);

/// How long a thread is held up in a write to a mapped chunk when that counts as a disk that hangs (1 s): chunks are in memory alone then, until it is over.
const DISK_HANGS_AFTER: Duration = Duration::from_secs(1);

/// How often a request is sent before it gives way to others that wait (16), in about a minute: it may be one that the collector never takes. It goes on behind them.
const TRIES_BEFORE_OTHERS: u32 = 16;

/// Longest delay that a collector can ask for (5 min): beyond, it is asked again all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What the guard asks of the export thread.
pub(crate) enum Command {
    /// Send all that was emitted before; the reply comes when it has settled.
    Flush(mpsc::Sender<()>),
    /// The same, until the deadline if there is one; what is left then is dropped, and the thread ends.
    Shutdown(Option<Instant>, mpsc::Sender<()>),
}

/// How long a flush by OpenTelemetry's own API waits (5 s); the guard's has a deadline of one's own.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the export thread.
#[derive(Clone, Debug)]
pub(crate) struct ExportThread {
    commands: UnboundedSender<Command>,
    process: u32,
}

impl ExportThread {
    /// Starts the thread; `Err` if there is no thread, runtime or TLS to be had. `collect` hands over the metrics, if they are exported.
    pub(crate) fn spawn(pipeline: Arc<Pipeline>, config: &Config, collect: Option<Collect>) -> Result<Self, String> {
        let exports = Signal::ALL.iter().map(|signal| Some((*signal, config.export(*signal)?.clone())));
        let wake = config.spool.as_ref().map(|_| Arc::clone(&pipeline.wake));
        let lanes = exports.flatten().map(|(signal, export)| LaneExporter::new(signal, export, wake.clone()));
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        let (commands, receiver) = unbounded_channel();
        let resource = request::resource(&config.resource);
        let spool = config.spool.clone().map(|spool| (spool, config.service_name()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_keep_alive(Duration::from_millis(1)) // a helper that waits would wake up to end
            .build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        let run = move || {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            let runtime = runtime; // so that it, too, ends in silence
            let spool = spool.map(|(spool, service_name)| Store::open(&spool, &service_name));
            runtime.block_on(Exporter::new(pipeline, resource, lanes, collect, spool).run(receiver));
            runtime.shutdown_background(); // a collection of metrics may hang in the service's own code
        };
        let thread = std::thread::Builder::new().name("watchbell-export".to_owned()).spawn(run);
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { commands, process: std::process::id() })
    }

    /// Whether there is a thread to take the command: a forked child has none.
    pub(crate) fn ask(&self, command: Command) -> bool {
        self.process == std::process::id() && self.commands.send(command).is_ok()
    }

    /// What `force_flush` is of OpenTelemetry's providers.
    pub(crate) fn force_flush(&self) -> OTelSdkResult {
        self.flush(FLUSH_TIMEOUT)
    }

    /// Sends all that was emitted before, and waits until it has settled. After the shutdown, and in a forked child, nobody does.
    pub(crate) fn flush(&self, timeout: Duration) -> OTelSdkResult {
        let (reply, settled) = mpsc::channel();
        if !self.ask(Command::Flush(reply)) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        settled.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => OTelSdkError::Timeout(timeout),
            RecvTimeoutError::Disconnected => OTelSdkError::AlreadyShutdown, // it ended meanwhile
        })
    }
}

struct Exporter {
    pipeline: Arc<Pipeline>,
    resource: Vec<u8>,
    lanes: Vec<LaneExporter>,
    spool: Option<Store>,
    /// What is in the spool and not under way.
    spooled: PerSignal<Queue>,
    collection: Option<Collection>,
    /// Whether a lane asked for all chunks, because they fill the buffer.
    is_pressed: bool,
    /// Answers; none if a request's time was up before.
    sends: JoinSet<Option<Answer>>,
    under_way: HashMap<Id, Sending>,
    next_number: u64,
    /// Numbers of requests that wait or are under way.
    unsettled: BTreeSet<u64>,
    flushes: Vec<(u64, mpsc::Sender<()>)>,
    /// Flushes to which belongs what could not be collected yet.
    early_flushes: Vec<mpsc::Sender<()>>,
    ending: Option<Ending>,
    /// Whether the deadline is so near that what is left goes to the spool.
    is_ending: bool,
    retry: Arc<Retry>,
    report: Report,
}

/// One signal's part of the exporter.
struct LaneExporter {
    signal: Signal,
    transport: Arc<Transport>,
    outage: Arc<Outage>,
    schedule_delay: Duration,
    /// Most records of a request.
    batch_records_max: u64,
    /// When to collect next.
    due: Option<Instant>,
    last_collection: Option<Instant>,
    /// Since when, as far as the last collection could tell, a thread has been held up in a write to its chunk, so that this could not be collected.
    held_up_since: Option<Instant>,
    in_flight: usize,
    was_away: bool,
}

/// A request that is under way.
struct Sending {
    signal: Signal,
    /// The order in which this process made it; none if another process did.
    number: Option<u64>,
    records: u64,
    body: Bytes,
    /// Where it is in the spool, if it is there.
    place: Option<Place>,
    /// Where its records are until it has settled, if they outlive the process.
    origin: Origin,
    /// Whether its records count for the queue's limit.
    is_queued: bool,
    /// When it is given up, however often it has given way to others until then.
    deadline: Option<Instant>,
}

/// Told so that requests that wait for a retry try at once.
#[derive(Default)]
struct Retry {
    /// At a flush; a collector that has asked for time has it all the same.
    now: Notify,
    /// At the shutdown.
    for_the_last_time: Notify,
}

/// What is asked for at the end.
struct Ending {
    deadline: Option<Instant>,
    /// When what is left goes to the spool.
    spool_at: Option<Instant>,
    /// When it is given up where nobody has ever answered.
    give_up_at: Option<Instant>,
    /// How many tries had found nobody before.
    in_vain: PerSignal<u64>,
    reply: mpsc::Sender<()>,
}

impl LaneExporter {
    /// `wake` is told of each try that fails.
    fn new(signal: Signal, export: Export, wake: Option<Arc<Notify>>) -> Result<Self, String> {
        Ok(Self {
            signal,
            schedule_delay: export.schedule_delay,
            batch_records_max: export.batch_records_max,
            outage: Arc::new(Outage::new(wake)),
            transport: Arc::new(Transport::new(signal, export)?),
            due: None,
            last_collection: None,
            held_up_since: None,
            in_flight: 0,
            was_away: false,
        })
    }
}

impl Exporter {
    fn new(
        pipeline: Arc<Pipeline>,
        resource: Vec<u8>,
        lanes: Vec<LaneExporter>,
        collect: Option<Collect>,
        spool: Option<Store>,
    ) -> Self {
        let interval = lanes.iter().find(|lane| lane.signal == Signal::Metrics).map(|lane| lane.schedule_delay);
        let collection = collect.zip(interval);
        let collection =
            collection.map(|(collect, interval)| Collection::new(collect, Arc::clone(&pipeline), interval));
        let has_logs = lanes.iter().any(|lane| lane.signal == Signal::Logs);
        Self {
            pipeline,
            resource,
            lanes,
            spool,
            spooled: PerSignal::default(),
            collection,
            is_pressed: false,
            sends: JoinSet::new(),
            under_way: HashMap::new(),
            next_number: 0,
            unsettled: BTreeSet::new(),
            flushes: Vec::new(),
            early_flushes: Vec::new(),
            ending: None,
            is_ending: false,
            retry: Arc::default(),
            report: Report::new(has_logs),
        }
    }

    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            let now = Instant::now();
            self.handle_timeout(now);
            self.spool_what_waits(now);
            self.send_waiting();
            self.forget_dropped();
            self.answer_flushes();
            if self.is_done(now) {
                return self.finish();
            }
            let timeout = self.poll_timeout(now);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return self.finish(), // the guard is leaked and the subscriber gone
                },
                () = self.pipeline.wake.notified() => {}
                Some(answer) = self.sends.join_next_with_id() => self.handle_answer(answer),
                () = Collection::ended(&mut self.collection) => self.handle_collected(),
                () = sleep_until(timeout) => {}
            }
            self.schedule(Instant::now());
        }
    }

    /// Reads what the lanes ask for.
    fn schedule(&mut self, now: Instant) {
        let urgency = |lane: &LaneExporter| self.pipeline.lane(lane.signal).urgency();
        self.is_pressed = self.lanes.iter().any(|lane| urgency(lane) == Urgency::Pressed);
        for lane in &mut self.lanes {
            let interval = if lane.outage.is_on() { RETRY_DELAY } else { HURRY_INTERVAL };
            let hurry = lane.last_collection.map_or(now, |last| now.max(last + interval));
            let due = match self.pipeline.lane(lane.signal).urgency() {
                Urgency::Idle => None,
                _ if self.is_pressed => Some(now),
                Urgency::Scheduled => lane.due.or_else(|| now.checked_add(lane.schedule_delay)),
                Urgency::Hurry | Urgency::Pressed => Some(lane.due.map_or(hurry, |due| due.min(hurry))),
            };
            let retry = lane.held_up_since.and(lane.last_collection).map(|last| last + RETRY_DELAY);
            lane.due = due.into_iter().chain(retry).min();
        }
    }

    fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let due = self.lanes.iter().filter(|lane| self.may_collect(lane)).filter_map(|lane| lane.due);
        let collection = self.collection.as_ref().and_then(Collection::poll_timeout);
        let ending = self.ending.iter().filter_map(|ending| {
            let give_up_at = ending.give_up_at.map(|at| at.max(now + RETRY_DELAY / 2)); // once it is past it is looked again
            give_up_at.into_iter().chain(ending.spool_at.or(ending.deadline)).min()
        });
        due.chain(collection).chain(ending).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        for i in 0..self.lanes.len() {
            if self.lanes[i].due.is_some_and(|due| due <= now) && self.may_collect(&self.lanes[i]) {
                self.collect(i, now);
            }
        }
        if let Some(collection) = &mut self.collection {
            collection.handle_timeout(now);
        }
        self.pause_mapping();
        self.report.tell_unmapped(&self.pipeline);
        let is_away = self.lanes.iter().any(|lane| lane.signal == Signal::Logs && lane.outage.is_on());
        let Some(ending) = &mut self.ending else { return self.report.tell_losses(&self.pipeline, now, is_away) };
        if ending.spool_at.take_if(|at| *at <= now).is_some() {
            self.is_ending = true;
            self.spool.iter_mut().for_each(Store::try_again);
        }
    }

    /// Records stay in their chunks while all requests are under way, unless these chunks take up much of the buffer, or are for the disk.
    fn may_collect(&self, lane: &LaneExporter) -> bool {
        let is_for_disk = self.spool.is_some() && lane.outage.is_on();
        lane.in_flight < REQUESTS_IN_FLIGHT_MAX || self.is_pressed || is_for_disk
    }

    fn collect(&mut self, i: usize, now: Instant) {
        let lane = &mut self.lanes[i];
        lane.due = None;
        lane.last_collection = Some(now);
        let is_clean = lane.signal != Signal::Logs || self.pipeline.scrubs_in_call(); // spans are without secrets already
        let redaction = self.pipeline.redaction.as_deref().filter(|_| !is_clean);
        let size = request::Size { bytes: self.pipeline.pool.request_bytes_max(), records: lane.batch_records_max };
        let (pool, lane) = (&self.pipeline.pool, self.pipeline.lane(lane.signal));
        let Gathered { chunks: mut left, held_up_since } = lane.gather(now);
        self.lanes[i].held_up_since = held_up_since;
        while left > 0 {
            let chunks = lane.take_chunks(left, size); // piece by piece: what is in nobody's hands can give way
            left = if chunks.is_empty() { 0 } else { left - chunks.len() };
            let requests = request::requests(&self.resource, &chunks, size, redaction);
            let mapped = chunks.into_iter().filter_map(|chunk| pool.release(chunk)); // before the requests are charged: the bytes moved
            let origin = Origin::new(mapped.collect());
            for Request { records, body } in requests {
                pool.charge(body.len());
                self.unsettled.insert(self.next_number);
                let (number, origin) = (self.next_number, origin.clone());
                lane.push_request(MemoryRequest { number, records, body, origin, deadline: None });
                self.next_number += 1;
            }
        }
    }

    fn send_waiting(&mut self) {
        for i in 0..self.lanes.len() {
            while self.lanes[i].in_flight < REQUESTS_IN_FLIGHT_MAX {
                let Some(sending) = self.next_to_send(self.lanes[i].signal) else { break };
                self.send(i, sending);
            }
            self.lanes[i].outage.set_others_wait(self.has_waiting(self.lanes[i].signal));
        }
    }

    fn send(&mut self, i: usize, mut sending: Sending) {
        let lane = &mut self.lanes[i];
        lane.in_flight += 1;
        let (signal, transport, outage) = (lane.signal, Arc::clone(&lane.transport), Arc::clone(&lane.outage));
        let (body, retry) = (sending.body.clone(), Arc::clone(&self.retry));
        let timeout = transport.export_timeout().filter(|_| self.spool.is_none()); // else its cap is the limit
        sending.deadline = sending.deadline.or_else(|| Instant::now().checked_add(timeout?));
        let task = self.sends.spawn(deliver(signal, transport, body, retry, outage, sending.deadline));
        self.under_way.insert(task.id(), sending);
    }

    /// Whether requests of a signal wait, that are not under way.
    fn has_waiting(&self, signal: Signal) -> bool {
        self.pipeline.lane(signal).has_requests() || !self.spooled[signal as usize].is_empty()
    }

    fn handle_answer(&mut self, answer: Result<(Id, Option<Answer>), JoinError>) {
        let (id, answer) = answer.unwrap_or_else(|error| {
            let reason = format!("a fault of the export: {error}");
            (error.id(), Some(Answer::Refused { reason }))
        });
        let Some(sending) = self.under_way.remove(&id) else { return };
        let Some(i) = self.lanes.iter().position(|lane| lane.signal == sending.signal) else { return };
        self.lanes[i].in_flight -= 1;
        if let Some(Answer::Retry { .. }) = answer {
            return self.let_others_go_first(i, sending);
        }
        self.forget_body(&sending);
        let Sending { signal, number, records, place, .. } = sending;
        match answer {
            Some(Answer::Accepted { rejected, message }) => {
                let rejected = rejected.min(records);
                let ends = [(End::Refused, rejected), (End::Delivered, records - rejected)];
                self.settle(signal, number, place, &ends);
                self.report.partial(signal, rejected, &message);
            }
            Some(Answer::Refused { reason }) => {
                self.settle(signal, number, place, &[(End::Refused, records)]);
                self.report.refused(signal, records, &reason);
            }
            Some(Answer::Retry { .. }) => {} // as above
            None => {
                self.settle(signal, number, place, &[(End::AtExportTimeout, records)]);
                self.report.timed_out(signal, records);
            }
        }
    }

    /// Puts a request behind those that wait: on disk if it is there, else in memory.
    fn let_others_go_first(&mut self, i: usize, sending: Sending) {
        if let Some(place) = sending.place {
            self.forget_body(&sending);
            return self.spooled[sending.signal as usize].push(sending.number, sending.records, place);
        }
        let number = sending.number.filter(|_| sending.is_queued);
        let Some(number) = number else { return self.send(i, sending) }; // it was on disk, and its file is gone
        let Sending { signal, records, body, origin, deadline, .. } = sending;
        self.pipeline.lane(signal).push_request(MemoryRequest { number, records, body, origin, deadline });
    }

    /// A request is in memory no more.
    fn forget_body(&self, sending: &Sending) {
        self.pipeline.pool.refund(sending.body.len());
        if sending.is_queued {
            self.pipeline.lane(sending.signal).unqueue(sending.records);
        }
    }

    /// Counts what became of the records of a request, which need not be on disk any more.
    fn settle(&mut self, signal: Signal, number: Option<u64>, place: Option<Place>, ends: &[(End, u64)]) {
        let counters = &self.pipeline.lane(signal).counters;
        if let Some((spool, place)) = self.spool.as_mut().zip(place) {
            spool.mark_done(place);
            if number.is_some() {
                counters.remove_spooled(ends.iter().map(|(_, records)| records).sum());
            }
        }
        let add = |(end, records): &(End, u64)| match number {
            Some(_) => counters.add(*end, *records),
            None => counters.add_taken_over_end(*end, *records),
        };
        ends.iter().for_each(add);
        if let Some(number) = number {
            self.unsettled.remove(&number);
        }
    }

    fn handle_command(&mut self, command: Command) {
        if let Command::Shutdown(..) = command {
            self.report.tell_losses_in_band(&self.pipeline, Instant::now());
            [Signal::Logs, Signal::Traces].iter().for_each(|signal| self.pipeline.lane(*signal).close());
        }
        let now = Instant::now();
        (0..self.lanes.len()).for_each(|i| self.collect(i, now));
        self.retry.now.notify_waiters();
        match (command, &mut self.collection) {
            (Command::Flush(reply), None) => self.early_flushes.push(reply),
            (Command::Flush(reply), Some(collection)) => collection.ask(Some(reply)),
            (Command::Shutdown(deadline, reply), collection) => {
                self.retry.for_the_last_time.notify_waiters();
                collection.iter_mut().for_each(|collection| collection.ask(None));
                self.ending = Some(self.ending(deadline, now, reply));
            }
        }
    }

    fn ending(&self, deadline: Option<Instant>, now: Instant, reply: mpsc::Sender<()>) -> Ending {
        let before = |deadline: Instant| SPOOL_BEFORE_DEADLINE.min(deadline.saturating_duration_since(now) / 4);
        let mut in_vain = PerSignal::default();
        self.lanes.iter().for_each(|lane| in_vain[lane.signal as usize] = lane.outage.in_vain());
        let spool_at = deadline.map(|deadline| deadline - before(deadline));
        let give_up_at = deadline.filter(|_| self.spool.is_none()).map(|_| now + NOBODY_THERE_AFTER);
        Ending { deadline, spool_at, give_up_at, in_vain, reply }
    }

    /// The metrics are in their lane: sends them, and lets whoever waits wait for that.
    fn handle_collected(&mut self) {
        let now = Instant::now();
        if let Some(i) = self.lanes.iter().position(|lane| lane.signal == Signal::Metrics) {
            self.collect(i, now);
        }
        let replies = self.collection.as_mut().map(Collection::handle_end).unwrap_or_default();
        self.early_flushes.extend(replies);
    }

    /// Whether a thread is held up in a write to a mapped chunk.
    fn is_held_up(&self) -> bool {
        self.lanes.iter().any(|lane| lane.held_up_since.is_some())
    }

    /// Nobody need wait for requests that have given way to newer ones.
    fn forget_dropped(&mut self) {
        let dropped = Signal::ALL.iter().flat_map(|signal| self.pipeline.lane(*signal).take_dropped());
        dropped.for_each(|number| {
            self.unsettled.remove(&number);
        });
    }

    fn answer_flushes(&mut self) {
        if !self.is_held_up() {
            let number = self.next_number;
            self.flushes.extend(self.early_flushes.drain(..).map(|reply| (number, reply)));
        }
        let oldest = self.unsettled.first().copied().unwrap_or(u64::MAX);
        self.flushes.retain(|(until, reply)| {
            let is_settled = oldest >= *until;
            if is_settled {
                let _ = reply.send(()); // who asked may have given up
            }
            !is_settled
        });
    }

    fn is_done(&self, now: Instant) -> bool {
        let Some(ending) = &self.ending else { return false };
        let is_collecting = self.collection.as_ref().is_some_and(Collection::is_running);
        let is_over = ending.deadline.is_some_and(|deadline| deadline <= now);
        let is_in_vain = || ending.give_up_at.is_some_and(|at| at <= now) && self.is_in_vain(ending);
        is_over || !is_collecting && (self.is_settled() || self.is_left_to_others(ending) || is_in_vain())
    }

    /// Whether all that is left is for one who has never answered, nor since the shutdown began.
    fn is_in_vain(&self, ending: &Ending) -> bool {
        let is_nobody_there = |lane: &LaneExporter| {
            let is_away = lane.outage.is_on() && lane.outage.in_vain() > ending.in_vain[lane.signal as usize];
            is_away && !lane.outage.has_answered()
        };
        self.lanes.iter().all(|lane| self.is_idle(lane) || is_nobody_there(lane))
    }

    /// Whether nothing waits or is under way.
    fn is_settled(&self) -> bool {
        self.lanes.iter().all(|lane| self.is_idle(lane))
    }

    fn is_idle(&self, lane: &LaneExporter) -> bool {
        lane.in_flight == 0 && !self.has_waiting(lane.signal) && lane.held_up_since.is_none()
    }

    fn finish(mut self) {
        while let Some(answer) = self.sends.try_join_next_with_id() {
            self.handle_answer(answer);
        }
        self.is_ending = true;
        self.spool.iter_mut().for_each(Store::try_again);
        self.spool_what_waits(Instant::now());
        self.end_mapped();
        for lane in Signal::ALL.map(|signal| self.pipeline.lane(signal)) {
            lane.close();
            lane.counters.add(End::AtDeadline, lane.account().in_flight);
        }
        self.report.tell_end(&self.pipeline);
        self.spool = None; // whoever comes after the reply may take its files over
        if let Some(Ending { reply, .. }) = self.ending {
            let _ = reply.send(()); // who asked may have given up
        }
    }
}

/// Sends a request until the collector has accepted or refused it, or its time is up.
async fn deliver(
    signal: Signal,
    transport: Arc<Transport>,
    message: Bytes,
    retry: Arc<Retry>,
    outage: Arc<Outage>,
    deadline: Option<Instant>,
) -> Option<Answer> {
    let answer = answer(signal, &transport, message, &retry, &outage);
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), answer).await.ok(),
        None => Some(answer.await),
    }
}

/// The answer that is no request to try again; or one that is, where the request has been tried so often that others are to go first.
async fn answer(signal: Signal, transport: &Transport, message: Bytes, retry: &Retry, outage: &Outage) -> Answer {
    let body = transport.body(message);
    let mut delay = RETRY_DELAY;
    let mut may_hurry = true;
    let mut tries = 0;
    loop {
        tries = TRIES_BEFORE_OTHERS.min(tries + 1);
        let answer = transport.send(body.clone()).await;
        let Answer::Retry { after, reason, is_away } = &answer else {
            outage.is_over(signal);
            return answer;
        };
        outage.tell(signal, transport.uri(), reason, *is_away);
        let wait = wait_before_retry(delay, *after);
        delay = (delay * 2).min(RETRY_DELAY_MAX);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = retry.now.notified(), if after.is_none() => {}
            () = retry.for_the_last_time.notified() => {}
            // Another was taken: older ones should not come last. Once, since this may be one that never will be.
            () = outage.ended(), if may_hurry && after.is_none() => may_hurry = false,
        }
        if tries >= TRIES_BEFORE_OTHERS && !is_away && outage.others_wait() {
            return answer;
        }
    }
}

/// The delay with a random part taken off, or what the collector asks for if that is more.
fn wait_before_retry(delay: Duration, after: Option<Duration>) -> Duration {
    let wait = delay.mul_f64(1.0 - 0.5 * fastrand::f64());
    after.map_or(wait, |after| after.clamp(wait, RETRY_AFTER_MAX))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::ScopeId;
    use crate::levels::Levels;

    #[test]
    fn a_collector_may_ask_for_more_patience_but_not_for_ever() {
        let waits =
            |after: u64| (0..100).map(move |_| wait_before_retry(RETRY_DELAY, Some(Duration::from_secs(after))));
        assert!(waits(0).all(|wait| wait >= RETRY_DELAY / 2), "no retry follows at once");
        assert!(waits(7).all(|wait| wait == Duration::from_secs(7)));
        assert!(waits(u64::MAX).all(|wait| wait == RETRY_AFTER_MAX));
    }

    /// Runs `f` with an exporter of logs, and what it exports.
    fn with_exporter(builder: crate::Builder, f: impl AsyncFnOnce(&Arc<Pipeline>, Exporter)) {
        let (config, _) = builder.variables([("OTEL_SERVICE_NAME", "checkout")]).build(false).unwrap();
        let pipeline = Pipeline::new(&config, Levels::new(config.levels.clone(), config.ways().unwrap(), false), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lane = LaneExporter::new(Signal::Logs, config.export(Signal::Logs).unwrap().clone(), None).unwrap();
            let spool = config.spool.as_ref().map(|spool| Store::open(spool, "checkout"));
            f(&pipeline, Exporter::new(Arc::clone(&pipeline), Vec::new(), vec![lane], None, spool)).await;
        });
    }

    #[test]
    fn a_fault_of_the_export_is_an_end_too() {
        with_exporter(crate::builder(), async |pipeline, mut exporter| {
            pipeline.lane(Signal::Logs).push_detached(ScopeId::of_target("test"), b"record", Urgency::Idle);
            let (reply, settled) = mpsc::channel();
            exporter.handle_command(Command::Flush(reply));
            exporter.send_waiting();
            exporter.answer_flushes();
            assert!(settled.try_recv().is_err());
            exporter.sends.abort_all(); // ends the task with a `JoinError`, as a panic does
            let answer = exporter.sends.join_next_with_id().await.unwrap();
            assert!(answer.is_err());
            exporter.handle_answer(answer);
            exporter.answer_flushes();
            assert_eq!((settled.try_recv(), exporter.lanes[0].in_flight), (Ok(()), 0));
            let account = pipeline.ledger().logs;
            assert_eq!((account.emitted, account.refused, account.in_flight), (1, 1, 0));
        });
    }

    #[cfg(target_os = "linux")]
    mod mapped {
        use std::path::Path;

        use super::*;
        use crate::lane::Local;
        use crate::mapped::Left;
        use crate::spool::Spool;

        fn log(pipeline: &Pipeline) {
            let scope = ScopeId::of_target("test");
            Local::with(|local| pipeline.lane(Signal::Logs).push(local, scope, &[0x2A, 0], Urgency::Idle));
        }

        /// How many records the next process would find in the mapped file, if this one were killed now; none where there is no such file.
        fn left(folder: &Path) -> Option<usize> {
            let files = std::fs::read_dir(folder.join("checkout")).unwrap().map(|entry| entry.unwrap().path());
            let path =
                files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "chunks"))?;
            let mut left = Left::read(std::fs::File::open(path).unwrap()).unwrap();
            let chunks = std::iter::from_fn(|| left.next_chunk().unwrap());
            Some(chunks.map(|(_, chunk)| chunk.entries().count()).sum())
        }

        /// Time passes by an argument, so that a disk that hangs for a second costs the test none.
        #[test]
        fn a_flush_and_the_end_do_not_pass_over_a_thread_that_is_held_up() {
            let folder = tempfile::tempdir().unwrap();
            let builder = crate::builder().spool(Spool::in_dir(folder.path()).mapped());
            with_exporter(builder, async |pipeline, mut exporter| {
                let arena = pipeline.pool.arena.as_ref().unwrap();
                let begins = || arena.begin(Signal::Logs, ScopeId::of_target("test"), 100).is_some();
                log(pipeline);
                let (reply, settled) = mpsc::channel();
                pipeline.lane(Signal::Logs).with_threads_held_up(|| {
                    exporter.handle_command(Command::Flush(reply));
                    exporter.answer_flushes();
                    assert!(settled.try_recv().is_err() && !exporter.is_settled());
                });
                let looked = exporter.lanes[0].last_collection.unwrap();
                exporter.handle_timeout(looked + 2 * DISK_HANGS_AFTER);
                assert!(begins(), "nobody looked a second time");
                pipeline.lane(Signal::Logs).with_threads_held_up(|| {
                    exporter.schedule(looked);
                    assert_eq!(exporter.poll_timeout(looked), Some(looked + RETRY_DELAY));
                    exporter.handle_timeout(looked + DISK_HANGS_AFTER);
                    assert!(!begins(), "others have their chunks in memory");
                });
                exporter.schedule(looked);
                exporter.handle_timeout(looked + 3 * DISK_HANGS_AFTER);
                assert!(begins());
                exporter.answer_flushes();
                assert!(settled.try_recv().is_err(), "it is a request by now");
                assert_eq!(pipeline.lane(Signal::Logs).pop_request().map(|request| request.records), Some(1));
            });
        }

        /// Logs records that have a chunk each.
        fn log_large(pipeline: &Pipeline, records: usize) {
            let scope = ScopeId::of_target("test");
            (0..records).for_each(|_| pipeline.lane(Signal::Logs).push_detached(scope, &[0x2A; 5000], Urgency::Idle));
        }

        #[test]
        fn each_request_has_its_own_part_of_the_mapped_file() {
            let folder = tempfile::tempdir().unwrap();
            with_exporter(
                crate::builder().spool(Spool::in_dir(folder.path()).mapped()),
                async |pipeline, mut exporter| {
                    exporter.lanes[0].batch_records_max = 2;
                    log_large(pipeline, 5);
                    exporter.collect(0, Instant::now());
                    let left_after = std::iter::from_fn(|| pipeline.lane(Signal::Logs).pop_request()).map(|settled| {
                        drop(settled);
                        left(folder.path())
                    });
                    assert_eq!(left_after.collect::<Vec<_>>(), [Some(3), Some(1), Some(0)]);
                },
            );
        }

        #[test]
        fn chunks_that_are_mapped_by_turns_make_no_small_requests() {
            let folder = tempfile::tempdir().unwrap();
            with_exporter(
                crate::builder().spool(Spool::in_dir(folder.path()).mapped()),
                async |pipeline, mut exporter| {
                    for turn in 0..6 {
                        pipeline.pool.arena.as_ref().unwrap().pause(turn % 2 == 1);
                        log_large(pipeline, 1);
                    }
                    exporter.collect(0, Instant::now());
                    let requests = std::iter::from_fn(|| pipeline.lane(Signal::Logs).pop_request());
                    let requests: Vec<_> =
                        requests.map(|request| (request.records, request.origin.is_mapped())).collect();
                    assert_eq!(requests, [(3, true), (3, false)]);
                },
            );
        }

        /// A service whose collector is away for long, and that is shut down and started again.
        #[test]
        fn what_shutdowns_leave_is_under_the_cap() {
            const BUFFER_BYTES: usize = 64 * 1024;
            let folder = tempfile::tempdir().unwrap();
            let spool = Spool::in_dir(folder.path()).mapped().bytes_max(32 * 1024).refuse_newest();
            for _ in 0..8 {
                let builder = crate::builder().spool(spool.clone()).buffer_bytes_max(BUFFER_BYTES);
                with_exporter(builder, async |pipeline, mut exporter| {
                    log_large(pipeline, 10);
                    exporter.collect(0, Instant::now());
                    exporter.finish();
                    let account = pipeline.ledger().logs;
                    assert_eq!((account.emitted, account.in_flight), (10, 0), "{account}");
                    assert_eq!(account.spooled + account.dropped(), 10, "{account}");
                });
            }
            let left = std::fs::read_dir(folder.path().join("checkout")).unwrap();
            let bytes: u64 = left.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            assert!(bytes <= 32 * 1024 + BUFFER_BYTES as u64, "{bytes}");
        }

        /// The requests are under way, and their copies in the spool give way to newer ones.
        #[test]
        fn what_is_under_way_stays_in_the_mapped_file_unless_the_spool_has_it() {
            let folder = tempfile::tempdir().unwrap();
            let spool = Spool::in_dir(folder.path()).mapped().bytes_max(8 * 64).drop_oldest();
            with_exporter(crate::builder().spool(spool), async |pipeline, mut exporter| {
                let now = Instant::now();
                log(pipeline);
                exporter.collect(0, now);
                exporter.send_waiting();
                assert_eq!((exporter.under_way.len(), left(folder.path())), (1, Some(1)));
                exporter.is_ending = true; // so that it goes to disk
                exporter.spool_what_waits(now);
                assert_eq!(left(folder.path()), Some(0), "once is enough");
                for _ in 0..20 {
                    log(pipeline);
                    exporter.collect(0, now);
                }
                exporter.spool_waiting(Signal::Logs, now);
                assert!(exporter.under_way.values().all(|sending| sending.place.is_none()), "it was the oldest");
                assert_eq!(left(folder.path()), Some(1));
                exporter.finish();
                let account = pipeline.ledger().logs;
                assert_eq!((account.emitted, account.dropped_at_deadline, account.in_flight), (21, 0, 0), "{account}");
            });
        }
    }
}
