//! Log queries: which records, in which streams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops;

use watchbell_proto::loki::labels_text;

use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::logql::ast::LogExpr;
use crate::pipeline::{Extracted, Record, Unsupported, Verdict};
use crate::time::Timestamp;

use super::answer::Stream;
use super::range::Source;
use super::{Direction, Limits};

#[derive(Debug)]
pub(super) struct Streams {
    source: Source,
    span: ops::Range<Timestamp>,
    limit: usize,
    direction: Direction,
    extracted: Extracted,
    /// What was found, in the order of time.
    found: VecDeque<(Labels, Timestamp, String)>,
    newest: Option<Timestamp>,
    /// Of that time: the records' streams, and what was found of them.
    seen: BTreeSet<(Labels, Labels, String)>,
}

impl Streams {
    pub(super) fn new(log: &LogExpr, span: ops::Range<Timestamp>, limits: &Limits) -> Result<Self, Unsupported> {
        Ok(Self {
            source: Source::new(log, None)?,
            span,
            limit: limits.limit,
            direction: limits.direction,
            extracted: Extracted::default(),
            found: VecDeque::new(),
            newest: None,
            seen: BTreeSet::new(),
        })
    }

    pub(super) fn add<E: LogEntry>(&mut self, time: Timestamp, entry: &E) {
        let is_full = self.found.len() >= self.limit;
        if !self.span.contains(&time) || is_full && self.direction == Direction::Forward {
            return;
        }
        let record = Record::new(entry, time, self.span.end);
        if self.source.run(&record, &mut self.extracted) == Verdict::Dropped {
            return;
        }
        let (mut labels, mut stream) = (Vec::new(), Vec::new());
        self.extracted.for_each_label(&record, &mut |name, value| labels.push((name.to_owned(), value.to_owned())));
        entry.for_each_label(&mut |name, value| {
            if entry.index_label(name).is_some() {
                stream.push((name.to_owned(), value.to_owned()));
            }
        });
        let (labels, line) = (Labels::with_empty(labels), self.extracted.line(&record).to_owned());
        if self.is_new(time, (Labels::new(stream), labels.clone(), line.clone())) || entry.repeats() {
            if is_full {
                self.found.pop_front();
            }
            self.found.push_back((labels, time, line));
        }
    }

    /// Of a stream's records that the stages have made the same, with one time, Loki yields one.
    fn is_new(&mut self, time: Timestamp, found: (Labels, Labels, String)) -> bool {
        if self.newest != Some(time) {
            self.newest = Some(time);
            self.seen.clear();
        }
        self.seen.insert(found)
    }

    /// The streams, sorted by their labels as text, the records of each in the direction that was asked for.
    pub(super) fn finish(self) -> Vec<Stream> {
        let mut found: Vec<_> = self.found.into();
        if self.direction == Direction::Backward {
            found.reverse();
        }
        let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
        for (labels, time, line) in found {
            let stream =
                streams.entry(labels_text(labels.iter())).or_insert_with(|| Stream { labels, entries: Vec::new() });
            stream.entries.push((time, line));
        }
        streams.into_values().collect()
    }
}
