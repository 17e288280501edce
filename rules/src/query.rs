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
mod node;
pub(crate) mod over_time;
pub mod parameters;
mod range;
pub mod records;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::entry::LogEntry;
use crate::logql::{self, ast};
use crate::pipeline::Unsupported;
use crate::time::Timestamp;
use crate::vector::{Element, Operand, Vector};
use answer::{Answer, Point, Series};
use node::{Node, Ranges};
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            limit: 100,
            direction: Direction::Backward,
            series_max: 500,
            query_samples_max: 50_000_000,
            query_samples_visited_max: 10_000_000_000,
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
}

impl QueryErrorKind {
    /// `bad_data` or `execution`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
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

    fn mistakes(mistakes: &[Diagnostic], text: &str) -> Self {
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
}

#[derive(Debug)]
enum Kind {
    Log(Streams),
    Metric {
        ranges: Ranges,
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
                Kind::Log(Streams::new(log, start..end, &limits).map_err(unsupported)?)
            }
            ast::Expr::Metric(metric) => {
                let mut ranges = Ranges::new(when, &limits);
                let node = ranges.node(metric).map_err(unsupported)?;
                Kind::Metric { ranges, node, is_sorted: node::sorts(metric) }
            }
        };
        Ok(Self { when, limits, kind })
    }

    /// Takes a record; records come in the order of their times.
    pub fn add<E: LogEntry>(&mut self, time: Timestamp, entry: &E) -> Result<(), QueryError> {
        match &mut self.kind {
            Kind::Log(streams) => streams.add(time, entry),
            Kind::Metric { ranges, .. } => ranges.add(time, entry)?,
        }
        Ok(())
    }

    /// The answer over the records that were added.
    pub fn answer(self) -> Result<Answer, QueryError> {
        match self.kind {
            Kind::Log(streams) => Ok(Answer::Streams(streams.finish())),
            Kind::Metric { mut ranges, node, is_sorted } => {
                ranges.sort();
                match self.when {
                    When::At(time) => instant(&mut ranges, &node, time, is_sorted, &self.limits),
                    When::Range { .. } => matrix(&mut ranges, &node, self.when, &self.limits),
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
) -> Result<Answer, QueryError> {
    let mut vector = match ranges.value(node, time)? {
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

fn matrix(ranges: &mut Ranges, node: &Node, when: When, limits: &Limits) -> Result<Answer, QueryError> {
    let mut all = BTreeMap::new();
    for time in when.steps() {
        let vector = match ranges.value(node, time)? {
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
