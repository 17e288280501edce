//! Reading the log for a query: only the batches whose times it asks for, a piece at a time.
//!
//! A query has no cursor: it holds back no segment. What the log lets go of while a query reads it is not in the answer, as if the query
//! had come later; a segment's file is kept open, and not used again, for the one read that is under way.

use std::cmp::Reverse;
use std::time::Duration;

use watchbell_proto::otlp::logs::LogsRequest;
use watchbell_rules::otlp_labels::LabelConfig;
use watchbell_rules::query::batches::{Batch, Scanned};
use watchbell_rules::query::series::SeriesQuery;
use watchbell_rules::query::{Query, QueryError};
use watchbell_rules::time::Timestamp;

use super::Failure;
use super::metrics::Metrics;
use super::work::Stop;
use crate::wal::{Frame, FrameKind, Log, Part, Position, Progress};

/// A log as a query reads it.
pub(super) struct Scan<'a> {
    log: &'a dyn Log,
    labels: &'a LabelConfig,
    stop: &'a Stop,
    metrics: &'a Metrics,
    /// Payload that may be read.
    bytes_max: u64,
    /// Only what stands before this is read.
    until: Position,
    /// Payload that was read.
    pub(super) bytes: u64,
    /// Batches that were read.
    pub(super) batches: u64,
}

/// Where a batch stands, and the times that its records may have.
#[derive(Clone, Copy)]
struct Place {
    position: Position,
    next: Position,
    times: (Timestamp, Timestamp),
}

impl<'a> Scan<'a> {
    /// A look at the log that reads so much of it at most.
    pub(super) fn new(
        log: &'a dyn Log,
        labels: &'a LabelConfig,
        stop: &'a Stop,
        metrics: &'a Metrics,
        bytes_max: u64,
    ) -> Self {
        Self { log, labels, stop, metrics, bytes_max, until: Position(u64::MAX), bytes: 0, batches: 0 }
    }

    /// The same, of what stands before that position.
    pub(super) fn until(self, until: Position) -> Self {
        Self { until, ..self }
    }

    /// Gives a query the records that it asks for. One that wants the newest first reads from the end, as far back as it must.
    pub(super) fn query(&mut self, query: &mut Query) -> Result<Scanned, Failure> {
        let mut scanned = Scanned::default();
        let Some(span) = query.span() else { return Ok(scanned) };
        let mut parts = self.parts(span);
        let is_backward = query.is_backward();
        if is_backward {
            parts.reverse();
        }
        for part in parts {
            if !query.wants(part.times.0, part.times.1) {
                continue;
            }
            let mut places = self.places(&part, span)?;
            if is_backward {
                places.sort_by_key(|place| Reverse(place.times.1));
            }
            let (labels, stop) = (self.labels, self.stop);
            self.read(
                &places,
                query,
                |query, times| query.wants(times.0, times.1),
                |query, batch| query.add_batch(batch, labels, &mut scanned, &|| stop.is_set()),
            )?;
        }
        Ok(scanned)
    }

    /// Gives a search for streams the batches of the times that it asks for.
    pub(super) fn series(&mut self, series: &mut SeriesQuery) -> Result<(), Failure> {
        let span = series.span();
        let labels = self.labels;
        for part in self.parts(span) {
            let places = self.places(&part, span)?;
            self.read(&places, series, |_, _| true, |series, batch| series.add_batch(batch, labels))?;
        }
        Ok(())
    }

    fn parts(&self, span: (Timestamp, Timestamp)) -> Vec<Part> {
        self.log.parts().into_iter().filter(|part| overlaps(part.times, span)).collect()
    }

    /// The batches of a part that may have records of the span, as they stand.
    fn places(&self, part: &Part, span: (Timestamp, Timestamp)) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        self.log.part_headers(part, &mut |frame| {
            if frame.position >= self.until {
                return false;
            }
            let times = frame.times();
            if frame.kind == FrameKind::Batch && overlaps(times, span) {
                places.push(Place { position: frame.position, next: frame.next, times });
            }
            !self.stop.is_set()
        })?;
        Ok(places)
    }

    /// Shows the batches at those places, as far as they are wanted when it is their turn. What stands together is read together.
    fn read<T>(
        &mut self,
        places: &[Place],
        target: &mut T,
        wants: impl Fn(&T, (Timestamp, Timestamp)) -> bool,
        mut take: impl FnMut(&mut T, &Batch<'_>) -> Result<(), QueryError>,
    ) -> Result<(), Failure> {
        let mut at = 0;
        while at < places.len() {
            if self.stop.is_set() {
                return Err(QueryError::stopped().into());
            }
            if !wants(target, places[at].times) {
                at += 1;
                continue;
            }
            self.let_commit_pass()?;
            let run = together(&places[at..]);
            for frame in self.frames(&places[at..at + run])? {
                self.count(&frame)?;
                let request = LogsRequest::new(&frame.payload);
                let batch = Batch { request, received: frame.received, position: frame.position.0 };
                take(target, &batch)?;
            }
            at += run;
        }
        Ok(())
    }

    /// Waits until what is being made durable now is: so a query makes the commit of a batch later by one read at most, however much it reads.
    fn let_commit_pass(&self) -> Result<(), Failure> {
        let progress = self.log.progress();
        let before = *progress.borrow();
        let passed = |now: Progress| now.durable >= before.appended || now.failures != before.failures;
        while !passed(*progress.borrow()) {
            if self.stop.is_set() {
                return Err(QueryError::stopped().into());
            }
            std::thread::sleep(COMMIT_POLL);
        }
        Ok(())
    }

    /// The frames at places that stand together, as far as they are still there; one read may give only the first of them.
    fn frames(&self, places: &[Place]) -> Result<Vec<Frame>, Failure> {
        let mut frames = Vec::with_capacity(places.len());
        let end = places[places.len() - 1].next;
        let mut from = places[0].position;
        while from < end {
            let read = self.log.read(from, READ_BYTES_MAX)?;
            let Some(last) = read.last() else { break };
            from = last.next;
            frames.extend(read.into_iter().filter(|frame| frame.position < end && frame.kind == FrameKind::Batch));
        }
        Ok(frames)
    }

    fn count(&mut self, frame: &Frame) -> Result<(), Failure> {
        let bytes = frame.payload.len() as u64;
        self.bytes += bytes;
        self.batches += 1;
        self.metrics.bytes.inc_by(bytes);
        if self.bytes > self.bytes_max {
            return Err(Failure::bad_request(format!(
                "the query reads more than {} bytes of the log, the maximum (`query_bytes_max`): shorten its range of time",
                self.bytes_max
            )));
        }
        Ok(())
    }
}

/// How many of the first places stand one behind the other and are small enough to be read with one call.
fn together(places: &[Place]) -> usize {
    let fits = |pair: &&[Place]| {
        pair[0].next == pair[1].position && pair[1].next.0 - places[0].position.0 <= READ_BYTES_MAX as u64
    };
    1 + places.windows(2).take_while(fits).count()
}

fn overlaps(a: (Timestamp, Timestamp), b: (Timestamp, Timestamp)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// How often it is looked whether a commit is through.
const COMMIT_POLL: Duration = Duration::from_micros(500);

/// Payload that is read at once.
const READ_BYTES_MAX: usize = 1 << 20;
