//! Why an alert did or did not fire: what became of the records at each stage, what the window held, what the expression's parts were
//! worth, and which states the alerts went through.

mod detector;
mod render;
pub mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::backtest::{Backtest, Event};
use crate::detect::Gate;
use crate::engine::AlertingStatus;
use crate::labels::Labels;
use crate::logql::ast::{
    LabelMatcher, LogRange, MetricExpr, MetricKind, RangeAggregation, RangeOp, StageKind, VectorAggregation,
};
use crate::otlp_labels::LabelConfig;
use crate::pipeline::text_matcher::TextMatcher;
use crate::pipeline::{Extracted, Pipeline, Record, Unsupported, Verdict};
use crate::plan::sum_of_sums;
use crate::query::Query;
use crate::query::answer::Answer;
use crate::query::records::{OwnedEntry, from_otlp};
use crate::rule_file::Rule;
use crate::time::{Received, Timestamp};
use crate::transition::{Alert, AlertState, Transition};
use crate::vector::LabelSet;
use crate::vector::node::counts_by_sum;
use detector::Gated;

pub(crate) use detector::without_keys;

/// Looks on while records pass, and tells at the end.
#[derive(Debug)]
pub struct Explainer<'a> {
    rule: &'a Rule,
    labels: LabelConfig,
    /// The time that is asked about.
    at: Timestamp,
    backtest: Backtest,
    ranges: Vec<RangeWatch>,
    gated: Gated,
    /// Records that a window at `at` may hold.
    entries: Vec<OwnedEntry>,
    path: Vec<Transition>,
    /// The alerts at `at`, once that is reached.
    standing: Option<Standing>,
}

/// How the rule's alerts stood at the time that is asked about.
#[derive(Debug)]
struct Standing {
    alerts: Vec<(AlertState, Arc<Alert>)>,
    last_error: Option<String>,
    estimate: Option<String>,
    warming_until: Option<Timestamp>,
    partial_until: Option<Timestamp>,
}

/// A range of the expression, and what became of the records at its stages.
#[derive(Debug)]
struct RangeWatch {
    text: String,
    /// What reads it, where another part of the expression reads the same and wants something else of it.
    reader: Option<String>,
    /// The window at the time that is asked about: later than the first, no later than the second.
    window: (Timestamp, Timestamp),
    records: Count,
    steps: Vec<Step>,
    /// What is left in the window, by stream.
    content: BTreeMap<String, Vec<(Timestamp, String)>>,
}

/// The selector or a stage.
#[derive(Debug)]
struct Step {
    text: String,
    /// The selector's.
    matchers: Vec<(String, TextMatcher)>,
    /// The stages up to and with this one; none for the selector.
    pipeline: Pipeline,
    left: Count,
    failed: Count,
    /// The last records that came no further.
    dropped: Dropped,
}

/// Records that came no further than a step: the last [`DROPPED_RECORDS_MAX`] in the window and the last outside of it.
#[derive(Debug, Default)]
struct Dropped {
    in_window: VecDeque<(Timestamp, String)>,
    outside: VecDeque<(Timestamp, String)>,
}

impl Dropped {
    fn push(&mut self, entry: &OwnedEntry, in_window: bool) {
        let records = if in_window { &mut self.in_window } else { &mut self.outside };
        if records.len() == DROPPED_RECORDS_MAX {
            records.pop_front();
        }
        records.push_back((entry.time, format!("{} {}", entry.stream, entry.line)));
    }

    /// The one that tells most: the last in the window, if one was there.
    fn last(&self) -> Option<&(Timestamp, String)> {
        self.in_window.back().or(self.outside.back())
    }
}

/// Records that are remembered of those that a step drops, in the window and outside of it; of more the last are told.
pub const DROPPED_RECORDS_MAX: usize = 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Count {
    all: usize,
    in_window: usize,
}

impl Count {
    fn add(&mut self, in_window: bool) {
        self.all += 1;
        self.in_window += usize::from(in_window);
    }
}

/// The elements of a vector.
type Values = Vec<(Labels, f64)>;

impl<'a> Explainer<'a> {
    /// Explains `rule`, which is one of those that the backtest judges, under the labels of its plan.
    ///
    /// # Errors
    /// The expression has a part that is not evaluated.
    pub fn new(rule: &'a Rule, labels: LabelConfig, at: Timestamp, backtest: Backtest) -> Result<Self, Unsupported> {
        let mut ranges = Vec::new();
        let reads = reads_of(&rule.expr);
        for read in &reads {
            let is_twice = reads.iter().filter(|other| other.range.to_string() == read.range.to_string()).count() > 1;
            let reader = is_twice.then(|| read.reader.to_string());
            ranges.push(RangeWatch { reader, ..RangeWatch::new(rule, read, at)? });
        }
        let (gated, entries, path, standing) = (Gated::default(), Vec::new(), Vec::new(), None);
        Ok(Self { rule, labels, at, backtest, ranges, gated, entries, path, standing })
    }

    /// Takes in a batch.
    pub fn handle_batch(&mut self, batch: &[u8], received: impl Into<Received>) {
        let received = received.into();
        if received.at > self.at {
            self.stand();
        } else {
            self.watch(batch, received);
        }
        self.backtest.handle_batch(batch, received);
        self.collect();
    }

    /// Nobody listened until now.
    pub fn handle_gap(&mut self, until: Timestamp) {
        // First: what was not known at a time within the gap is not judged.
        self.backtest.handle_gap(until);
        if until > self.at {
            self.stand();
        }
        self.collect();
    }

    /// Ends at the last record.
    pub fn finish(&mut self, end: Timestamp) {
        self.stand();
        self.backtest.handle_timeout(end.max(self.backtest.clock()));
        self.collect();
    }

    fn watch(&mut self, batch: &[u8], received: Received) {
        self.gated.watch(self.rule, self.backtest.engine().plan(), batch, received);
        let earliest = self.ranges.iter().map(|range| range.window.0).min().unwrap_or(self.at);
        for entry in from_otlp(batch, &self.labels, received.at) {
            self.ranges.iter_mut().for_each(|range| range.watch(&entry));
            if entry.time > earliest && entry.time <= self.at {
                self.entries.push(entry.repeating());
            }
        }
    }

    /// Looks at the alerts at the time that is asked about.
    fn stand(&mut self) {
        if self.standing.is_some() {
            return;
        }
        self.backtest.handle_timeout(self.at.max(self.backtest.clock()));
        self.collect();
        let name = self.rule.name();
        let status = self.backtest.engine().rules().into_iter().find(|status| *status.name == *name);
        self.standing = status.map(|status| Standing {
            alerts: status.alerting.map(|AlertingStatus { alerts, .. }| alerts).unwrap_or_default(),
            last_error: status.last_error,
            estimate: status.estimate,
            warming_until: status.warming_until,
            partial_until: status.partial_until,
        });
        self.gated.stand(self.backtest.engine());
        self.entries.sort_by_key(|entry| entry.time);
    }

    fn collect(&mut self) {
        while let Some(event) = self.backtest.poll_event() {
            let Event::Transition(transition) = event else { continue };
            let is_news = (transition.from, transition.to) != (AlertState::Firing, AlertState::Firing);
            if is_news && transition.alert.labels.get("alertname") == Some(self.rule.name()) {
                self.path.push(transition);
            }
        }
    }

    /// The expression and its parts, each with what it was worth: those that the records decide.
    fn values(&self) -> Vec<(String, Result<Values, String>)> {
        let mut parts = Vec::new();
        parts_of(&self.rule.expr, &mut parts);
        parts.into_iter().map(|part| (part.to_string(), self.value(&part.to_string()))).collect()
    }

    fn value(&self, text: &str) -> Result<Values, String> {
        let mut query = Query::in_rule(text, self.at).map_err(|error| error.message)?;
        for entry in &self.entries {
            query.add(entry.time, entry).map_err(|error| error.message)?;
        }
        Ok(match query.answer().map_err(|error| error.message)? {
            Answer::Scalar(point) => vec![(Labels::default(), point.value)],
            Answer::Vector(series) => {
                series.into_iter().map(|series| (series.labels, series.points[0].value)).collect()
            }
            Answer::Matrix(_) | Answer::Streams(_) => Vec::new(),
        })
    }
}

impl RangeWatch {
    fn new(rule: &Rule, read: &Read<'_>, at: Timestamp) -> Result<Self, Unsupported> {
        let range = read.range;
        let text = |span: crate::logql::ast::Span| rule.expr_text[span.range()].trim().to_owned();
        let log = &range.log;
        let matcher = |matcher: &LabelMatcher| Ok((matcher.name.clone(), TextMatcher::compile(matcher)?));
        let matchers = log.selector.matchers.iter().map(matcher).collect::<Result<_, Unsupported>>()?;
        let selector = Step::new(text(log.selector.span), Pipeline::compile(&[], None)?, matchers);
        let is_read =
            read.line || matches!(rule.detect.as_ref().and_then(|d| d.gate.as_ref()), Some(Gate::NewPattern(_)));
        let due = if is_read { log.stages.clone() } else { Pipeline::without_idle(&log.stages) };
        let whole = Pipeline::compile(&due, read.wanted.as_deref())?;
        let mut steps = vec![selector];
        for stage in &log.stages {
            let up_to = due.partition_point(|other| other.span.start <= stage.span.start);
            steps.push(Step::new(text(stage.span), Pipeline::compile_part(&due[..up_to], &whole)?, Vec::new()));
        }
        let end = Timestamp(at.0.saturating_sub(range.offset));
        Ok(Self {
            text: range.to_string(),
            reader: None,
            window: (end - range.range, end),
            records: Count::default(),
            steps,
            content: BTreeMap::new(),
        })
    }
}

impl RangeWatch {
    fn watch(&mut self, entry: &OwnedEntry) {
        let in_window = entry.time > self.window.0 && entry.time <= self.window.1;
        self.records.add(in_window);
        let mut extracted = Extracted::default();
        let record = Record::new(entry, entry.time, entry.time);
        let mut has_failed = false;
        for step in &mut self.steps {
            let is_selected =
                step.matchers.iter().all(|(name, matcher)| matcher.matches(entry.stream.get(name).unwrap_or_default()));
            let verdict = if is_selected { step.pipeline.run(&record, &mut extracted) } else { Verdict::Dropped };
            if verdict == Verdict::Dropped {
                return step.dropped.push(entry, in_window);
            }
            step.left.add(in_window);
            has_failed = verdict == Verdict::Failed;
            if has_failed {
                step.failed.add(in_window);
            }
        }
        if in_window && !has_failed {
            self.content.entry(entry.stream.to_string()).or_default().push((entry.time, entry.line.clone()));
        }
    }
}

impl Step {
    fn new(text: String, pipeline: Pipeline, matchers: Vec<(String, TextMatcher)>) -> Self {
        Self { text, matchers, pipeline, left: Count::default(), failed: Count::default(), dropped: Dropped::default() }
    }
}

/// A range, and what is wanted of its records: what the stages do hangs on it.
struct Read<'e> {
    range: &'e LogRange,
    /// The part of the expression that wants it.
    reader: &'e MetricExpr,
    /// The labels, sorted; all where it is `None`.
    wanted: Option<Vec<String>>,
    /// Whether it is the line's length.
    line: bool,
}

/// The ranges that an expression reads, each once.
pub(crate) fn log_ranges(expr: &MetricExpr) -> Vec<&LogRange> {
    let mut ranges: Vec<&LogRange> = Vec::new();
    for read in reads_of(expr) {
        if !ranges.iter().any(|other| other.to_string() == read.range.to_string()) {
            ranges.push(read.range);
        }
    }
    ranges
}

/// What an expression reads; one range several times where different things are wanted of it.
fn reads_of(expr: &MetricExpr) -> Vec<Read<'_>> {
    let mut reads: Vec<Read<'_>> = Vec::new();
    collect_reads(expr, (expr, None), &mut |read| {
        let is_same = |other: &Read<'_>| {
            (&other.wanted, other.line) == (&read.wanted, read.line)
                && other.range.to_string() == read.range.to_string()
        };
        if !reads.iter().any(is_same) {
            reads.push(read);
        }
    });
    reads
}

/// `around` is the whole of the aggregations around the expression, and the sum right around it.
fn collect_reads<'e>(
    expr: &'e MetricExpr,
    around: (&'e MetricExpr, Option<&VectorAggregation>),
    add: &mut impl FnMut(Read<'e>),
) {
    let (reader, sum) = around;
    match &expr.kind {
        MetricKind::Range(range) => {
            let line = matches!(range.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
            add(Read { range: &range.range, reader, wanted: wanted(range, sum), line });
        }
        MetricKind::Variants { of, .. } => add(Read { range: of, reader, wanted: None, line: true }),
        MetricKind::Vector(vector) => {
            let joined = sum_of_sums(vector);
            let mut inside = &*vector.expr;
            while joined.is_some()
                && let MetricKind::Vector(inner) = &inside.kind
            {
                inside = &inner.expr;
            }
            let sum = joined.as_ref().unwrap_or(vector);
            collect_reads(inside, (reader, Some(sum).filter(|sum| counts_by_sum(sum))), add);
        }
        MetricKind::LabelReplace { expr, .. } => collect_reads(expr, (reader, None), add),
        MetricKind::Binary(binary) => {
            collect_reads(&binary.lhs, (&binary.lhs, None), add);
            collect_reads(&binary.rhs, (&binary.rhs, None), add);
        }
        MetricKind::Number(_) | MetricKind::VectorFn(_) => {}
    }
}

/// The labels by which records are grouped, and the one that is unwrapped.
fn wanted(aggregation: &RangeAggregation, sum: Option<&VectorAggregation>) -> Option<Vec<String>> {
    let grouping = sum.map_or(aggregation.grouping.as_ref(), |sum| sum.grouping.as_ref());
    let names = match grouping.map(|grouping| LabelSet::from(Some(grouping))) {
        _ if aggregation.op == RangeOp::AbsentOverTime => Vec::new(),
        Some(LabelSet::Only(names)) => names,
        None if sum.is_some() => Vec::new(),
        _ => return None,
    };
    let unwrapped = aggregation.range.log.stages.iter().filter_map(|stage| match &stage.kind {
        StageKind::Unwrap(unwrap) => Some(unwrap.label.clone()),
        _ => None,
    });
    let wanted: BTreeSet<String> = names.into_iter().chain(unwrapped).collect();
    Some(wanted.into_iter().collect())
}

/// The operands of operators, innermost first, and the whole: what one looks at to see where a value went. Numbers say it themselves.
fn parts_of<'e>(expr: &'e MetricExpr, parts: &mut Vec<&'e MetricExpr>) {
    match &expr.kind {
        MetricKind::Binary(binary) => {
            parts_of(&binary.lhs, parts);
            parts_of(&binary.rhs, parts);
        }
        MetricKind::Number(_) => return,
        _ => {}
    }
    parts.push(expr);
}
