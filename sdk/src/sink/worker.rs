//! A sink's thread: collects records as the export thread does, and writes them.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::output::panicked;
use super::{Open, Queued, Record};
use crate::callsite::ScopeId;
use crate::caught::caught;
use crate::chunk::Chunk;
use crate::export::Size;
use crate::lock;
use crate::pipeline::Pipeline;
use crate::redact::Redaction;
use crate::tell;

/// Least time between two batches: what comes meanwhile is written together.
const INTERVAL: Duration = Duration::from_millis(10);

/// How much is written at a time, in the order of time.
const PIECE: Size = Size { bytes: 1024 * 1024, records: u64::MAX };

enum Command {
    /// Write all that was emitted before; the reply comes when that is done.
    Flush(mpsc::Sender<()>),
    /// The same, and the end.
    Shutdown(mpsc::Sender<()>),
}

/// The way to a sink's thread.
#[derive(Clone)]
pub(crate) struct SinkThread {
    commands: UnboundedSender<Command>,
    process: u32,
}

impl SinkThread {
    /// Starts a thread for each sink that wants one.
    pub(crate) fn spawn_all(pipeline: &Arc<Pipeline>) -> Result<Vec<Self>, String> {
        let queued = pipeline.sinks.iter().flat_map(|sinks| &sinks.queued);
        queued.filter_map(|queued| Some(Self::spawn(pipeline, queued, lock(&queued.open).take()?))).collect()
    }

    fn spawn(pipeline: &Arc<Pipeline>, queued: &Arc<Queued>, sink: Open) -> Result<Self, String> {
        let (commands, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        let worker = Worker { queued: Arc::clone(queued), redaction: pipeline.redaction.clone(), sink };
        let run = move || {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            runtime.block_on(worker.run(receiver));
        };
        let thread = std::thread::Builder::new().name("watchbell-sink".to_owned()).spawn(run);
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { commands, process: std::process::id() })
    }

    /// Asks for all to be written that was emitted before, and to be told then.
    pub(crate) fn flush(&self) -> mpsc::Receiver<()> {
        self.ask(Command::Flush)
    }

    /// The same, and ends the thread.
    pub(crate) fn shut_down(&self) -> mpsc::Receiver<()> {
        self.ask(Command::Shutdown)
    }

    /// A forked child has no such thread: the other end of what it waits for is gone at once.
    fn ask(&self, command: impl FnOnce(mpsc::Sender<()>) -> Command) -> mpsc::Receiver<()> {
        let (reply, done) = mpsc::channel();
        if self.process == std::process::id() {
            let _ = self.commands.send(command(reply)); // if the thread has ended, so has the other end
        }
        done
    }
}

struct Worker {
    queued: Arc<Queued>,
    redaction: Option<Arc<Redaction>>,
    sink: Open,
}

impl Worker {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            let command = tokio::select! {
                command = commands.recv() => Some(command),
                () = self.queued.wake.notified() => None,
            };
            let started = Instant::now();
            if let Some(None | Some(Command::Shutdown(_))) = command {
                self.queued.lane.close();
            }
            self.write_all(started);
            match command {
                Some(Some(Command::Flush(reply))) => {
                    let _ = reply.send(()); // who asked may have given up
                }
                Some(Some(Command::Shutdown(reply))) => {
                    drop(self); // ends what the sink does in the background
                    let _ = reply.send(()); // as above
                    return;
                }
                Some(None) => return, // the guard is leaked and the subscriber gone
                None => tokio::time::sleep_until((started + INTERVAL).into()).await,
            }
        }
    }

    /// Piece by piece, so that what is written makes room, and little is in memory twice.
    fn write_all(&mut self, now: Instant) {
        let mut left = self.queued.lane.gather(now).chunks;
        while left > 0 {
            let chunks = self.queued.lane.take_chunks(left, PIECE);
            left = if chunks.is_empty() { 0 } else { left - chunks.len() };
            self.write_chunks(&chunks);
            self.queued.settle(chunks);
        }
    }

    fn write_chunks(&mut self, chunks: &[Chunk]) {
        let redaction = self.redaction.as_deref();
        let scrubbed = |record| redaction.and_then(|redaction| redaction.scrubbed_record(record)).map(Cow::Owned);
        let entries = chunks.iter().flat_map(Chunk::entries);
        let entry =
            |(scope, _, record): (ScopeId, _, _)| (scope.scope(), scrubbed(record).unwrap_or(Cow::Borrowed(record)));
        let records: Vec<_> = entries.map(entry).collect();
        let mut records: Vec<_> = records.iter().map(|(scope, record)| Record::new(&scope.message, record)).collect();
        records.sort_by_key(Record::time_unix_nano); // each thread's records keep their order
        records.iter().for_each(|record| self.sink.write(record));
        self.sink.flush();
    }
}

impl Open {
    pub(super) fn write_at_once(&mut self, record: &Record<'_>) {
        self.write(record);
        self.flush();
    }

    fn write(&mut self, record: &Record<'_>) {
        match self.filter.as_ref().map_or(Some(true), |filter| caught(|| filter(record))) {
            Some(true) => {}
            Some(false) => {
                self.counters.withheld.fetch_add(1, Ordering::Relaxed);
                return;
            }
            None => return self.has_failed(1, &panicked()),
        }
        if self.output.prepare(record) {
            self.flush();
        }
        match self.output.write(record) {
            Ok(()) => self.taken += 1,
            Err(error) => self.has_failed(1, &error),
        }
        if self.output.is_full() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        match self.output.flush() {
            Ok(()) => self.has_written(taken),
            Err(error) => self.has_failed(taken, &error),
        }
    }

    fn has_written(&mut self, records: u64) {
        self.counters.written.fetch_add(records, Ordering::Relaxed);
        if records > 0 && std::mem::take(&mut self.is_failing) {
            let failed = self.counters.failed.load(Ordering::Relaxed);
            tell::info(format_args!("the sink `{}` is written again; {failed} records were lost", self.name));
        }
    }

    fn has_failed(&mut self, records: u64, error: &io::Error) {
        if records == 0 {
            return;
        }
        self.counters.failed.fetch_add(records, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            tell::error(format_args!("the sink `{}` cannot be written, its records are lost: {error}", self.name));
        }
    }
}
