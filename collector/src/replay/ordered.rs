//! Records of several sources in the order of their times, of which only a part is in memory.
//!
//! Each input is read twice. The first time tells which labels its records have, and of each piece the earliest time in it and in those
//! behind it: its *floor*. The second time a piece is read when all records before its floor have been shown, and goes when its own have.
//! So of inputs in order a piece or two of each that goes on at that time is in memory; of one that runs backwards, all of it is.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use watchbell_rules::backtest::records::Records;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::records::Format;
use watchbell_rules::time::Timestamp;

use super::history::{Batch, Span};
use super::pieces::Pieces;
use crate::inputs::Input;

/// Records that come when they happen.
#[derive(Debug, Default)]
pub struct Ordered {
    sources: Vec<Source>,
    span: Span,
    /// The labels that their streams have.
    pub(super) index_labels: BTreeSet<String>,
    /// How many there are, and how many of them in the span.
    pub(super) all: u64,
    pub(super) records: u64,
    /// The times of the first and the last in the span, if there is one.
    pub(super) ends: Option<(Timestamp, Timestamp)>,
}

#[derive(Debug)]
enum Source {
    Input(IndexedInput),
    Held(Records),
}

#[derive(Debug)]
struct IndexedInput {
    input: Input,
    /// Of lines.
    stream: Labels,
    /// Of lines: the first time that one bears.
    first: Timestamp,
    /// How many bytes it had: what is written behind them meanwhile is left out.
    len: u64,
    /// Of each piece, up to the last that has a record in the span.
    floors: Vec<Timestamp>,
}

impl Ordered {
    pub(super) fn new(span: Span) -> Self {
        Self { span, ..Self::default() }
    }

    /// Adds an input, having looked through it; lines belong to `stream`.
    pub(super) fn add(
        &mut self,
        input: Input,
        stream: Labels,
        read: &Rc<Cell<u64>>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), String> {
        let mut pieces = Pieces::open(&input, u64::MAX, read)?;
        let format = pieces.format();
        let first = match format {
            Format::Lines => Pieces::open(&input, u64::MAX, &Rc::default())?.first_stamp()?,
            _ => None,
        };
        let (first, mut floors, mut untimed) = (first.unwrap_or_default(), Vec::new(), 0);
        let mut last = first;
        while let Some(mut records) = pieces.next(&stream, &mut last)? {
            untimed += (0..records.len()).filter(|at| records.time(*at).0 <= 0).count();
            floors.push(self.take_note(&mut records).unwrap_or(NEVER));
            progress(self.all);
        }
        if untimed > 0 {
            return Err(untimed_records(&input.name, format, untimed));
        }
        for at in (1..floors.len()).rev() {
            floors[at - 1] = floors[at - 1].min(floors[at]);
        }
        floors.truncate(floors.partition_point(|floor| *floor < NEVER));
        let len = pieces.len();
        self.sources.push(Source::Input(IndexedInput { input, stream, first, len, floors }));
        Ok(())
    }

    /// Adds records that are in memory already.
    pub(super) fn hold(&mut self, mut records: Records) {
        self.take_note(&mut records);
        records.sort();
        self.sources.push(Source::Held(records));
    }

    /// Leaves those in the span, takes note of them, and tells the earliest.
    fn take_note(&mut self, records: &mut Records) -> Option<Timestamp> {
        self.all += records.len() as u64;
        records.retain(|time| self.span.contains(time));
        self.records += records.len() as u64;
        if self.index_labels.len() != records.index_labels().len() || self.index_labels != *records.index_labels() {
            self.index_labels.extend(records.index_labels().iter().cloned());
        }
        let times = || (0..records.len()).map(|at| records.received(at));
        let (first, last) = (times().min()?, times().max()?);
        let (earliest, latest) = self.ends.unwrap_or((first, last));
        self.ends = Some((earliest.min(first), latest.max(last)));
        Some(first)
    }

    /// Shows them, those that are near in time together, as from an exporter that waits for more.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(Batch<'_>)) -> Result<(), String> {
        let mut readers: Vec<Reader<'_>> = self.sources.iter().map(Reader::new).collect();
        // By time, then by source and piece: what a piece has next, or that the piece must be read.
        let mut due = BinaryHeap::new();
        due.extend(readers.iter().enumerate().filter_map(|(number, reader)| reader.due(number)).map(Reverse));
        let mut gathered = Gathered::new(self.records, visit);
        while let Some(Reverse((_, number, piece))) = due.pop() {
            let reader = &mut readers[number];
            if piece == reader.read_next {
                due.extend(reader.read(self.span)?.map(|time| Reverse((time, number, piece))));
                due.extend(reader.due(number).map(Reverse));
                continue;
            }
            let Entry::Occupied(mut held) = reader.held.entry(piece) else { continue };
            let (records, at) = held.get_mut();
            let is_next = |time| due.peek().is_none_or(|Reverse(other)| (time, number, piece) < *other);
            *at += gathered.take(records, *at, is_next);
            match *at < records.len() {
                true => due.push(Reverse((records.received(*at), number, piece))),
                false => drop(held.remove()),
            }
        }
        gathered.show();
        Ok(())
    }
}

/// A source while it is shown.
struct Reader<'a> {
    source: &'a Source,
    pieces: Option<Pieces<'a>>,
    /// The time of the last line read.
    last: Timestamp,
    /// The number of the next piece to be read.
    read_next: usize,
    /// Pieces that have records to show, and how many of them were shown.
    held: BTreeMap<usize, (Cow<'a, Records>, usize)>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source) -> Self {
        let last = if let Source::Input(input) = source { input.first } else { Timestamp::default() };
        Self { source, pieces: None, last, read_next: 0, held: BTreeMap::new() }
    }

    /// When its next piece must have been read, and that piece's number; an input that is not due is not open.
    fn due(&self, number: usize) -> Option<(Timestamp, usize, usize)> {
        let floor = match self.source {
            Source::Input(input) => *input.floors.get(self.read_next)?,
            Source::Held(records) if self.read_next == 0 && !records.is_empty() => records.received(0),
            Source::Held(_) => return None,
        };
        Some((floor, number, self.read_next))
    }

    /// Reads the next piece; the time of its first record in the span, if it has one.
    fn read(&mut self, span: Span) -> Result<Option<Timestamp>, String> {
        let records = match self.source {
            Source::Held(records) => Cow::Borrowed(records),
            Source::Input(IndexedInput { input, stream, len, .. }) => {
                let pieces = match &mut self.pieces {
                    Some(pieces) => pieces,
                    None => self.pieces.insert(Pieces::open(input, *len, &Rc::default())?),
                };
                let next = pieces.next(stream, &mut self.last)?;
                let mut records = next.ok_or_else(|| format!("`{}` became shorter while it was read", input.name))?;
                records.retain(|time| span.contains(time));
                records.sort();
                Cow::Owned(records)
            }
        };
        let first = (!records.is_empty()).then(|| records.received(0));
        if first.is_some() {
            self.held.insert(self.read_next, (records, 0));
        }
        self.read_next += 1;
        if self.due(0).is_none() {
            self.pieces = None;
        }
        Ok(first)
    }
}

/// Records of a batch.
struct Gathered<'v> {
    visit: &'v mut dyn FnMut(Batch<'_>),
    bytes: Vec<u8>,
    count: usize,
    /// When the last is received.
    received: Timestamp,
    /// Records before that come with the first.
    until: Timestamp,
    shown: u64,
    total: u64,
}

impl<'v> Gathered<'v> {
    fn new(total: u64, visit: &'v mut dyn FnMut(Batch<'_>)) -> Self {
        let (received, until) = Default::default();
        Self { visit, bytes: Vec::new(), count: 0, received, until, shown: 0, total }
    }

    /// Takes records from `at` on while they are next; how many.
    fn take(&mut self, records: &Records, at: usize, is_next: impl Fn(Timestamp) -> bool) -> usize {
        if self.count == BATCH_RECORDS_MAX || records.received(at) >= self.until {
            self.show();
            self.until = Timestamp(records.received(at).0.saturating_add(BATCH_NANOS_MAX));
        }
        let room = records.len().min(at + BATCH_RECORDS_MAX - self.count);
        let belongs = |at: &usize| records.received(*at) < self.until && is_next(records.received(*at));
        let count = 1 + (at + 1..room).take_while(belongs).count();
        records.put_batch(at..at + count, &mut self.bytes);
        self.received = records.received(at + count - 1);
        self.count += count;
        count
    }

    fn show(&mut self) {
        if self.count == 0 {
            return;
        }
        self.shown += self.count as u64;
        (self.visit)(Batch {
            bytes: &self.bytes,
            received: self.received,
            ahead: Duration::ZERO,
            records: self.count as u64,
            is_start: false,
            progress: self.shown as f64 / self.total as f64,
        });
        self.bytes.clear();
        self.count = 0;
    }
}

fn untimed_records(name: &str, format: Format, untimed: usize) -> String {
    match format {
        Format::Lines => {
            format!("{name}: no line bears a time near its beginning, so that it is not known when they came")
        }
        _ => {
            format!("{name}: it is not known when {untimed} of its records came: they bear no time, or one before 1970")
        }
    }
}

/// The floor of a piece behind which there is no record in the span.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// Records that come together, at most.
const BATCH_RECORDS_MAX: usize = 1000;

/// Time within which records come together.
const BATCH_NANOS_MAX: i64 = 1_000_000_000;
