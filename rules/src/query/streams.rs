//! Log queries: which records, in which streams.

use std::collections::BTreeMap;
use std::ops;
use std::time::Duration;

use hashbrown::HashSet;
use watchbell_proto::loki::labels_text;
use xxhash_rust::xxh3::Xxh3;

use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::logql::ast::LogExpr;
use crate::otlp_labels::ResourceLabels;
use crate::pipeline::{Extracted, Record, Unsupported, Verdict};
use crate::time::Timestamp;

use super::answer::{Categories, Entry, Stream};
use super::range::Source;
use super::{Direction, Limits};

#[derive(Debug)]
pub(super) struct Streams {
    source: Source,
    span: ops::Range<Timestamp>,
    limit: usize,
    direction: Direction,
    interval: Duration,
    categorize: bool,
    extracted: Extracted,
    /// The first records of those seen so far, by time and by how they came.
    found: BTreeMap<(Timestamp, u64), Found>,
    /// What tells those from their copies.
    seen: HashSet<u128>,
    bytes: u64,
}

#[derive(Debug)]
struct Found {
    /// Of a record that counts once.
    identity: Option<u128>,
    labels: Labels,
    entry: Entry,
}

impl Streams {
    pub(super) fn new(log: &LogExpr, span: ops::Range<Timestamp>, limits: &Limits) -> Result<Self, Unsupported> {
        Ok(Self {
            source: Source::new(log, None)?,
            span,
            limit: limits.limit,
            direction: limits.direction,
            interval: limits.interval,
            categorize: limits.categorize,
            extracted: Extracted::default(),
            found: BTreeMap::new(),
            seen: HashSet::new(),
            bytes: 0,
        })
    }

    /// Takes a record, in any order of time; `order` tells those of one time apart. Tells whether the stages let it pass.
    pub(super) fn add<E: LogEntry>(&mut self, time: Timestamp, order: u64, entry: &E) -> bool {
        if !self.wants((time, order)) {
            return false;
        }
        let record = Record::new(entry, time, self.span.end);
        if self.source.run(&record, &mut self.extracted) == Verdict::Dropped {
            return false;
        }
        let (labels, categories) = self.labels(&record);
        let line = self.extracted.line(&record).to_owned();
        let identity = (!entry.repeats()).then(|| identity(time, entry, &labels, &categories, &line));
        if identity.is_none_or(|identity| self.seen.insert(identity)) {
            let categories = self.categorize.then_some(categories);
            self.keep((time, order), Found { identity, labels, entry: Entry { time, line, categories } });
        }
        true
    }

    /// Whether a record at that place can be in the answer.
    fn wants(&self, place: (Timestamp, u64)) -> bool {
        self.span.contains(&place.0)
            && (!self.is_full()
                || match self.direction {
                    Direction::Forward => self.found.last_key_value().is_some_and(|(last, _)| place < *last),
                    Direction::Backward => self.found.first_key_value().is_some_and(|(first, _)| place > *first),
                })
    }

    /// Whether any record from the one to the other time can be in the answer.
    pub(super) fn wants_any(&self, least: Timestamp, greatest: Timestamp) -> bool {
        greatest >= self.span.start
            && least < self.span.end
            && (!self.is_full()
                || match self.direction {
                    Direction::Forward => self.found.last_key_value().is_some_and(|(last, _)| least <= last.0),
                    Direction::Backward => self.found.first_key_value().is_some_and(|(first, _)| greatest >= first.0),
                })
    }

    /// Where records are left out for standing too near to others, which ones is only known in the end.
    fn is_full(&self) -> bool {
        self.interval.is_zero() && self.found.len() >= self.limit
    }

    fn keep(&mut self, place: (Timestamp, u64), found: Found) {
        self.bytes += found.bytes();
        self.found.insert(place, found);
        if self.interval.is_zero() && self.found.len() > self.limit {
            let left_out = match self.direction {
                Direction::Forward => self.found.pop_last(),
                Direction::Backward => self.found.pop_first(),
            };
            if let Some((_, found)) = left_out {
                self.bytes -= found.bytes();
                if let Some(identity) = found.identity {
                    self.seen.remove(&identity);
                }
            }
        }
    }

    /// What is left of a record's labels: those by which its stream is told, and all by where they are from.
    fn labels<E: LogEntry>(&self, record: &Record<'_, E>) -> (Labels, Categories) {
        let (mut stream, mut metadata, mut parsed) = (Vec::new(), Vec::new(), Vec::new());
        self.extracted.for_each_label(record, &mut |name, value| {
            let into = if !self.extracted.is_original(name) {
                &mut parsed
            } else if record.entry().index_label(name).is_some() {
                &mut stream
            } else {
                &mut metadata
            };
            into.push((name.to_owned(), value.to_owned()));
        });
        if self.categorize {
            let categories = Categories { metadata: Labels::with_empty(metadata), parsed: Labels::with_empty(parsed) };
            return (Labels::with_empty(stream), categories);
        }
        (Labels::with_empty(stream.into_iter().chain(metadata).chain(parsed)), Categories::default())
    }

    /// Whether a stream with these index labels is asked for.
    pub(super) fn selects(&self, stream: &ResourceLabels) -> bool {
        self.source.selects(stream)
    }

    /// When records are asked for.
    pub(super) fn span(&self) -> ops::Range<Timestamp> {
        self.span.clone()
    }

    /// The memory that the records take which were found, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The streams, sorted by their labels as text, the records of each in the direction that was asked for.
    pub(super) fn finish(mut self) -> Vec<Stream> {
        self.take()
    }

    /// The same, to go on.
    pub(super) fn take(&mut self) -> Vec<Stream> {
        let Self { direction, interval, limit, .. } = *self;
        let found = std::mem::take(&mut self.found);
        self.seen.clear();
        self.bytes = 0;
        let found: Vec<Found> = match direction {
            Direction::Forward => found.into_values().collect(),
            Direction::Backward => found.into_values().rev().collect(),
        };
        let mut last: Option<Timestamp> = None;
        let mut is_due = |time: Timestamp| {
            let is_due = last.is_none_or(|last| last.0.abs_diff(time.0) >= interval.as_nanos() as u64);
            last = if is_due { Some(time) } else { last };
            is_due
        };
        let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
        for Found { labels, entry, .. } in found.into_iter().filter(|found| is_due(found.entry.time)).take(limit) {
            let stream =
                streams.entry(labels_text(labels.iter())).or_insert_with(|| Stream { labels, entries: Vec::new() });
            stream.entries.push(entry);
        }
        streams.into_values().collect()
    }
}

impl Found {
    fn bytes(&self) -> u64 {
        let categories = self.entry.categories.as_ref();
        let categories = categories.map_or(0, |Categories { metadata, parsed }| metadata.bytes() + parsed.bytes());
        (size_of::<Self>() + NODE_BYTES + self.entry.line.len() + self.labels.bytes() + categories) as u64
    }
}

/// Of a stream's records that the stages have made the same, with one time, Loki yields one.
fn identity<E: LogEntry>(time: Timestamp, entry: &E, labels: &Labels, categories: &Categories, line: &str) -> u128 {
    let mut hash = Xxh3::new();
    let mut put = |text: &str| {
        hash.update(text.as_bytes());
        hash.update(&[0xFF]);
    };
    entry.for_each_label(&mut |name, value| {
        if entry.index_label(name).is_some() {
            put(name);
            put(value);
        }
    });
    for labels in [labels, &categories.metadata, &categories.parsed] {
        put("");
        labels.iter().for_each(|(name, value)| {
            put(name);
            put(value);
        });
    }
    put(line);
    hash.update(&time.0.to_le_bytes());
    hash.digest128()
}

/// What a record takes in the map and the set beside itself.
const NODE_BYTES: usize = 64;
