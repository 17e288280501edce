//! LogQL over a set of records, all at once: instant and range queries, as Loki's query API answers them.
//!
//! A [`Query`] is compiled, is given the records in the order of their times, and then answers:
//!
//! ```
//! use watchbell_rules::query::records::{self, Format};
//! use watchbell_rules::query::{Limits, Query, When};
//! use watchbell_rules::time::Timestamp;
//!
//! let push = br#"{"streams": [{"stream": {"app": "shop"}, "values": [["1000000000", "refused"], ["2000000000", "taken"]]}]}"#;
//! let mut query = Query::new(r#"count_over_time({app="shop"} |= "refused" [5s])"#, When::At(Timestamp(4_000_000_000)), Limits::default())?;
//! for record in records::sorted(records::parse(push, Format::LokiPush, &records::LineLabels::default())?) {
//!     query.add(record.time, &record)?;
//! }
//! assert_eq!(query.answer()?.to_json(), r#"{"resultType":"vector","result":[{"metric":{"app":"shop"},"value":[4,"1"]}]}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A range is `(t - r, t]`; the steps of a range query begin exactly at its start; a log query has its start in it and its end not.
//! A series is a set of labels: index labels, structured metadata and what the stages extracted. Where a stage failed on a record of a
//! window, a metric query fails as a whole, unless the expression asks for `__error__`.

pub mod answer;
pub mod batches;
mod node;
pub(crate) mod over_time;
pub mod parameters;
mod range;
pub mod records;
pub mod series;
pub(crate) mod stamp;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::entry::LogEntry;
use crate::logql::{self, ast};
use crate::otlp_labels::ResourceLabels;
use crate::pipeline::Unsupported;
use crate::time::Timestamp;
use crate::vector::{Element, Operand, Vector};
use answer::{Answer, Point, Series};
use node::{Node, Ranges};
use range::Range;
use streams::Streams;

/// When a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// An instant query: once, at this time.
    At(Timestamp),
    /// A range query: at `start` and every `step` behind it up to `end`, for log queries all of `start..end`.
    Range {
        /// The first step.
        start: Timestamp,
        /// No step is behind it.
        end: Timestamp,
        /// From step to step; above zero.
        step: Duration,
    },
}

impl When {
    fn start(self) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Range { start, .. } => start,
        }
    }

    /// The last time that is looked at.
    pub fn end(self) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Range { end, .. } => end,
        }
    }

    fn steps(self) -> impl Iterator<Item = Timestamp> {
        let (start, end, step) = match self {
            Self::At(time) => (time, time, Duration::from_nanos(1)),
            Self::Range { start, end, step } => (start, end, step),
        };
        std::iter::successors(Some(start), move |time| (*time < end).then_some(*time + step))
            .take_while(move |time| *time <= end)
    }
}

/// Which of the records a log query yields first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The oldest.
    Forward,
    /// The newest.
    #[default]
    Backward,
}

/// How much a query may yield and use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records that a log query yields.
    pub limit: usize,
    /// At which end of the span it begins with them.
    pub direction: Direction,
    /// Series of an answer; a query that would have more fails.
    pub series_max: usize,
    /// Samples that the windows of a query hold together; a query over more fails.
    pub query_samples_max: usize,
    /// Samples that are looked at, step by step, window by window; a query that would look at more fails.
    pub query_samples_visited_max: u64,
    /// Bytes of the records, samples and labels that a query holds, about; a query that would hold more fails.
    pub query_memory_bytes_max: u64,
    /// Of a log query's records one that is nearer than this to the one before it is left out; zero leaves out none.
    pub interval: Duration,
    /// Whether streams are told apart by index labels alone, the other labels standing beside each record.
    pub categorize: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            limit: 100,
            direction: Direction::Backward,
            series_max: 500,
            query_samples_max: 50_000_000,
            query_samples_visited_max: 10_000_000_000,
            query_memory_bytes_max: 4 << 30,
            interval: Duration::ZERO,
            categorize: false,
        }
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Whose fault it is.
    pub kind: QueryErrorKind,
    /// What is wrong, for a person.
    pub message: String,
}

/// Kinds of failure, called as in Prometheus's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryErrorKind {
    /// The expression, a parameter or the records are wrong.
    BadData,
    /// The expression is right, but fails on these records or at a limit.
    Execution,
    /// Nobody wants the answer any more.
    Stopped,
}

impl QueryErrorKind {
    /// `bad_data`, `execution` or `canceled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Stopped => "canceled",
        }
    }
}

impl QueryError {
    /// Something that was given is wrong.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self { kind: QueryErrorKind::BadData, message: message.into() }
    }

    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self { kind: QueryErrorKind::Execution, message: message.into() }
    }

    /// Nobody wants the answer any more.
    pub fn stopped() -> Self {
        Self { kind: QueryErrorKind::Stopped, message: "the query was stopped".to_owned() }
    }

    /// What is wrong with an expression, with the places.
    pub fn mistakes(mistakes: &[Diagnostic], text: &str) -> Self {
        let told: Vec<String> = mistakes
            .iter()
            .map(|mistake| {
                let (line, column) = mistake.line_column(text);
                let help = mistake.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
                format!("parse error at line {line}, col {column}: {}{help}", mistake.message)
            })
            .collect();
        Self::bad_data(told.join("\n"))
    }

    fn unsupported(unsupported: Unsupported, text: &str) -> Self {
        let mistake = Diagnostic::error(crate::diagnostic::codes::NOT_EVALUATED, unsupported.span, unsupported.message);
        Self::mistakes(&[mistake], text)
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}

/// A query that is given records.
#[derive(Debug)]
pub struct Query {
    when: When,
    limits: Limits,
    kind: Kind,
    /// Records that were added in order.
    added: u64,
}

/// Where a record is from that may come in any order, and more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of two records of one time the one with the less came first.
    pub order: u64,
    /// A record is there once, whose time and identity another has.
    pub identity: u64,
}

#[derive(Debug)]
enum Kind {
    Log(Box<Streams>),
    Metric {
        ranges: Box<Ranges>,
        node: Node,
        /// Whether a `sort` decides the order of an instant query's answer.
        is_sorted: bool,
    },
}

impl Query {
    /// Compiles an expression.
    pub fn new(text: &str, when: When, limits: Limits) -> Result<Self, QueryError> {
        let expr = logql::parse(text).map_err(|mistakes| QueryError::mistakes(&mistakes, text))?;
        let unsupported = |unsupported| QueryError::unsupported(unsupported, text);
        let kind = match &expr {
            ast::Expr::Log(log) => {
                let When::Range { start, end, .. } = when else { return Err(QueryError::bad_data(LOG_INSTANT)) };
                Kind::Log(Box::new(Streams::new(log, start..end, &limits).map_err(unsupported)?))
            }
            ast::Expr::Metric(metric) => {
                let mut ranges = Box::new(Ranges::new(when, &limits));
                let node = ranges.node(metric).map_err(unsupported)?;
                Kind::Metric { ranges, node, is_sorted: node::sorts(metric) }
            }
        };
        Ok(Self { when, limits, kind, added: 0 })
    }

    /// An expression at a time as a rule has it: records on which a stage fails are left out, and its series are not limited.
    pub(crate) fn in_rule(text: &str, at: Timestamp) -> Result<Self, QueryError> {
        let mut query = Self::new(text, When::At(at), Limits { series_max: usize::MAX, ..Limits::default() })?;
        if let Kind::Metric { ranges, .. } = &mut query.kind {
            ranges.leave_out_failed();
        }
        Ok(query)
    }

    /// How many records were left out because a stage failed on them, counted for each range aggregation.
    pub(crate) fn left_out(&self) -> u64 {
        match &self.kind {
            Kind::Log(_) => 0,
            Kind::Metric { ranges, .. } => ranges.all().iter().map(Range::left_out).sum(),
        }
    }

    /// Takes a record; records come in the order of their times, each once.
    pub fn add<E: LogEntry>(&mut self, time: Timestamp, entry: &E) -> Result<(), QueryError> {
        self.added += 1;
        match &mut self.kind {
            Kind::Log(streams) => drop(streams.add(time, self.added, entry)),
            Kind::Metric { ranges, .. } => drop(ranges.add(time, None, entry)?),
        }
        self.check_memory()
    }

    /// Takes a record that may come in any order of time, and again; one of two of the same time by `order`. Tells whether it counts.
    pub fn add_from<E: LogEntry>(&mut self, time: Timestamp, origin: Origin, entry: &E) -> Result<bool, QueryError> {
        let counts = match &mut self.kind {
            Kind::Log(streams) => streams.add(time, origin.order, entry),
            Kind::Metric { ranges, .. } => ranges.add(time, Some(origin.identity), entry)?,
        };
        self.check_memory()?;
        Ok(counts)
    }

    /// Whether records of a stream with these index labels can count.
    pub fn selects(&self, stream: &ResourceLabels) -> bool {
        match &self.kind {
            Kind::Log(streams) => streams.selects(stream),
            Kind::Metric { ranges, .. } => ranges.all().iter().any(|range| range.selects(stream)),
        }
    }

    /// Whether any record from the one to the other time can count, after those that were added.
    pub fn wants(&self, least: Timestamp, greatest: Timestamp) -> bool {
        let overlaps = |range: &Range| greatest.0 > range.window().0 && least.0 <= range.window().1;
        match &self.kind {
            Kind::Log(streams) => streams.wants_any(least, greatest),
            Kind::Metric { ranges, .. } => ranges.all().iter().any(overlaps),
        }
    }

    /// The least and the greatest time that a record can count at; `None` where no record does.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        match &self.kind {
            Kind::Log(streams) => {
                let span = streams.span();
                (span.start < span.end).then_some((span.start, Timestamp(span.end.0 - 1)))
            }
            Kind::Metric { ranges, .. } => {
                let least = ranges.all().iter().map(|range| range.window().0.saturating_add(1)).min()?;
                let greatest = ranges.all().iter().map(|range| range.window().1).max()?;
                Some((Timestamp(least), Timestamp(greatest)))
            }
        }
    }

    /// Whether it yields log lines.
    pub fn is_log(&self) -> bool {
        matches!(self.kind, Kind::Log(_))
    }

    /// Whether the newest records come first, and the others may not be needed.
    pub fn is_backward(&self) -> bool {
        self.is_log() && self.limits.direction == Direction::Backward
    }

    fn check_memory(&self) -> Result<(), QueryError> {
        let bytes = match &self.kind {
            Kind::Log(streams) => streams.bytes(),
            Kind::Metric { ranges, .. } => ranges.all().iter().map(Range::bytes).sum(),
        };
        let max = self.limits.query_memory_bytes_max;
        if bytes <= max {
            return Ok(());
        }
        Err(QueryError::execution(format!(
            "the query holds more than {max} bytes, the maximum (`query_memory_bytes_max`): shorten its range of time, select fewer records, or aggregate by fewer labels"
        )))
    }

    /// Of a log query, what was found since the last time, for who follows the log.
    pub fn take_streams(&mut self) -> Vec<answer::Stream> {
        match &mut self.kind {
            Kind::Log(streams) => streams.take(),
            Kind::Metric { .. } => Vec::new(),
        }
    }

    /// The answer over the records that were added.
    pub fn answer(self) -> Result<Answer, QueryError> {
        self.answer_unless(&|| false)
    }

    /// The same; `is_stopped` is asked again and again whether to give up.
    pub fn answer_unless(self, is_stopped: &dyn Fn() -> bool) -> Result<Answer, QueryError> {
        match self.kind {
            Kind::Log(streams) => Ok(Answer::Streams(streams.finish())),
            Kind::Metric { mut ranges, node, is_sorted } => {
                ranges.sort();
                match self.when {
                    When::At(time) => instant(&mut ranges, &node, time, is_sorted, &self.limits, is_stopped),
                    When::Range { .. } => matrix(&mut ranges, &node, self.when, &self.limits, is_stopped),
                }
            }
        }
    }
}

fn instant(
    ranges: &mut Ranges,
    node: &Node,
    time: Timestamp,
    is_sorted: bool,
    limits: &Limits,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Answer, QueryError> {
    let mut vector = match ranges.value(node, time, is_stopped)? {
        Operand::Scalar(value) => return Ok(Answer::Scalar(Point { millis: time.millis(), value })),
        Operand::Vector(vector) => vector,
    };
    if vector.len() > limits.series_max {
        return Err(too_many_series(limits));
    }
    if !is_sorted {
        vector.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    let series = |Element { labels, value }| Series { labels, points: vec![Point { millis: time.millis(), value }] };
    Ok(Answer::Vector(vector.into_iter().map(series).collect()))
}

fn matrix(
    ranges: &mut Ranges,
    node: &Node,
    when: When,
    limits: &Limits,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Answer, QueryError> {
    let mut all = BTreeMap::new();
    for time in when.steps() {
        if is_stopped() {
            return Err(QueryError::stopped());
        }
        let vector = match ranges.value(node, time, is_stopped)? {
            Operand::Scalar(value) => Vector::from([Element { labels: Default::default(), value }]),
            Operand::Vector(vector) => vector,
        };
        for Element { labels, value } in vector {
            let points: &mut Vec<Point> = all.entry(labels).or_default();
            points.push(Point { millis: time.millis(), value });
        }
        if all.len() > limits.series_max {
            return Err(too_many_series(limits));
        }
    }
    Ok(Answer::Matrix(all.into_iter().map(|(labels, points)| Series { labels, points }).collect()))
}

fn too_many_series(limits: &Limits) -> QueryError {
    let max = limits.series_max;
    QueryError::execution(format!(
        "the query has more than {max} series, the maximum (`series_max`): select fewer streams, or aggregate by fewer labels"
    ))
}

const LOG_INSTANT: &str =
    "an instant query is for numbers and this expression yields log lines: ask for a range of time, or count the lines";

#[cfg(test)]
mod tests;
