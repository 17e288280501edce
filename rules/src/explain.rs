//! Why an alert did or did not fire: what became of the records at each stage, what the window held, what the expression's parts were
//! worth, and which states the alerts went through.

mod detector;
mod render;
pub mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::backtest::{Backtest, Event};
use crate::engine::AlertingStatus;
use crate::labels::Labels;
use crate::logql::ast::{LabelMatcher, LogRange, MetricExpr, MetricKind};
use crate::otlp_labels::LabelConfig;
use crate::pipeline::text_matcher::TextMatcher;
use crate::pipeline::{Extracted, Pipeline, Record, Unsupported, Verdict};
use crate::query::answer::Answer;
use crate::query::records::{OwnedEntry, from_otlp};
use crate::query::{Limits, Query, When};
use crate::rule_file::Rule;
use crate::time::Timestamp;
use crate::transition::{Alert, AlertState, Transition};
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
    warming_until: Option<Timestamp>,
    partial_until: Option<Timestamp>,
}

/// A range of the expression, and what became of the records at its stages.
#[derive(Debug)]
struct RangeWatch {
    text: String,
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
    /// The last record that came no further, from the window if one did there.
    dropped: Option<(bool, Timestamp, String)>,
}

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
        for range in log_ranges(&rule.expr) {
            ranges.push(RangeWatch::new(rule, range, at)?);
        }
        let (gated, entries, path, standing) = (Gated::default(), Vec::new(), Vec::new(), None);
        Ok(Self { rule, labels, at, backtest, ranges, gated, entries, path, standing })
    }

    /// Takes in a batch.
    pub fn handle_batch(&mut self, batch: &[u8], received: Timestamp) {
        if received > self.at {
            self.stand();
        } else {
            self.watch(batch, received);
        }
        self.backtest.handle_batch(batch, received);
        self.collect();
    }

    /// Nobody listened until now.
    pub fn handle_gap(&mut self, until: Timestamp) {
        if until > self.at {
            self.stand();
        }
        self.backtest.handle_gap(until);
        self.collect();
    }

    /// Ends at the last record.
    pub fn finish(&mut self, end: Timestamp) {
        self.stand();
        self.backtest.handle_timeout(end.max(self.backtest.clock()));
        self.collect();
    }

    fn watch(&mut self, batch: &[u8], received: Timestamp) {
        self.gated.watch(self.rule, self.backtest.engine().plan(), batch, received);
        let earliest = self.ranges.iter().map(|range| range.window.0).min().unwrap_or(self.at);
        for entry in from_otlp(batch, &self.labels, received) {
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
        let mut query = Query::new(text, When::At(self.at), Limits::default()).map_err(|error| error.message)?;
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
    fn new(rule: &Rule, range: &LogRange, at: Timestamp) -> Result<Self, Unsupported> {
        let text = |span: crate::logql::ast::Span| rule.expr_text[span.range()].trim().to_owned();
        let log = &range.log;
        let matcher = |matcher: &LabelMatcher| Ok((matcher.name.clone(), TextMatcher::compile(matcher)?));
        let matchers = log.selector.matchers.iter().map(matcher).collect::<Result<_, Unsupported>>()?;
        let selector = Step::new(text(log.selector.span), Pipeline::compile(&[], None)?, matchers);
        let mut steps = vec![selector];
        for (at, stage) in log.stages.iter().enumerate() {
            steps.push(Step::new(text(stage.span), Pipeline::compile(&log.stages[..=at], None)?, Vec::new()));
        }
        let end = Timestamp(at.0.saturating_sub(range.offset));
        Ok(Self {
            text: range.to_string(),
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
        for step in &mut self.steps {
            let is_selected =
                step.matchers.iter().all(|(name, matcher)| matcher.matches(entry.stream.get(name).unwrap_or_default()));
            let verdict = if is_selected { step.pipeline.run(&record, &mut extracted) } else { Verdict::Dropped };
            if verdict == Verdict::Dropped {
                return step.drop(entry, in_window);
            }
            step.left.add(in_window);
            if verdict == Verdict::Failed {
                step.failed.add(in_window);
            }
        }
        if in_window {
            self.content.entry(entry.stream.to_string()).or_default().push((entry.time, entry.line.clone()));
        }
    }
}

impl Step {
    fn new(text: String, pipeline: Pipeline, matchers: Vec<(String, TextMatcher)>) -> Self {
        Self { text, matchers, pipeline, left: Count::default(), failed: Count::default(), dropped: None }
    }

    fn drop(&mut self, entry: &OwnedEntry, in_window: bool) {
        if in_window || !self.dropped.as_ref().is_some_and(|(in_window, ..)| *in_window) {
            let told = format!("{} {}", entry.stream, entry.line);
            self.dropped = Some((in_window, entry.time, told));
        }
    }
}

/// The ranges that an expression reads, each once.
pub(crate) fn log_ranges(expr: &MetricExpr) -> Vec<&LogRange> {
    let mut ranges: Vec<&LogRange> = Vec::new();
    collect_ranges(expr, &mut ranges);
    ranges
}

fn collect_ranges<'e>(expr: &'e MetricExpr, ranges: &mut Vec<&'e LogRange>) {
    let mut add = |range: &'e LogRange| {
        if !ranges.iter().any(|other| other.to_string() == range.to_string()) {
            ranges.push(range);
        }
    };
    match &expr.kind {
        MetricKind::Range(range) => add(&range.range),
        MetricKind::Variants { of, .. } => add(of),
        MetricKind::Vector(vector) => collect_ranges(&vector.expr, ranges),
        MetricKind::LabelReplace { expr, .. } => collect_ranges(expr, ranges),
        MetricKind::Binary(binary) => {
            collect_ranges(&binary.lhs, ranges);
            collect_ranges(&binary.rhs, ranges);
        }
        MetricKind::Number(_) | MetricKind::VectorFn(_) => {}
    }
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
