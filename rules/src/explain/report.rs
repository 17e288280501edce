//! The explanation as JSON, for programs. Times are RFC 3339, values texts as in Prometheus's API.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Count, Dropped, Explainer, RangeWatch, Step};
use crate::backtest::failing::FailingStage;
use crate::labels::Labels;
use crate::query::answer::value_text;
use crate::rule_file::RuleKind;
use crate::time::{Timestamp, format_duration};
use crate::transition::{AlertState, Transition};

/// What [`Explainer::render`] says, in full.
#[derive(Debug, Serialize)]
pub struct Explanation<'a> {
    alert: &'a str,
    expr: &'a str,
    #[serde(rename = "for")]
    hold: String,
    keep_firing_for: String,
    at: String,
    /// Those that are pending or fire.
    alerts: Vec<Standing<'a>>,
    /// Why there is none.
    inactive: Option<String>,
    error: Option<&'a str>,
    /// That its quantiles are estimates.
    estimate: Option<&'a str>,
    warming_until: Option<String>,
    failing_stages: Vec<FailingStage>,
    ranges: Vec<Range<'a>>,
    values: Vec<Part>,
    states: Vec<State<'a>>,
}

#[derive(Debug, Serialize)]
struct Standing<'a> {
    state: AlertState,
    labels: BTreeMap<&'a str, &'a str>,
    value: String,
    active_at: String,
    fired_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Range<'a> {
    range: &'a str,
    /// What reads it, where another part of the expression reads the same range otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    reader: Option<&'a str>,
    /// The window is later than the first, no later than the second.
    window: [String; 2],
    records: Count,
    /// The selector and the stages.
    steps: Vec<Left<'a>>,
    /// What is left in the window, by stream.
    content: BTreeMap<&'a str, Vec<Line<'a>>>,
}

#[derive(Debug, Serialize)]
struct Left<'a> {
    step: &'a str,
    left: Count,
    failed: Count,
    /// The records that came no further, up to [`DROPPED_RECORDS_MAX`](super::DROPPED_RECORDS_MAX) of the window and as many others, the last ones.
    dropped: Vec<DroppedLine<'a>>,
}

#[derive(Debug, Serialize)]
struct DroppedLine<'a> {
    time: String,
    /// The stream and the line.
    record: &'a str,
    in_window: bool,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    line: &'a str,
}

/// A part of the expression, and its elements or why it has none.
#[derive(Debug, Serialize)]
struct Part {
    expr: String,
    values: Vec<Value>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Value {
    labels: BTreeMap<String, String>,
    value: String,
}

#[derive(Debug, Serialize)]
struct State<'a> {
    at: String,
    from: AlertState,
    to: AlertState,
    labels: BTreeMap<&'a str, &'a str>,
    value: String,
    /// Whether a record caused it, rather than time.
    by_record: bool,
}

impl Explainer<'_> {
    /// All of it, for programs.
    pub fn report(&self) -> Explanation<'_> {
        let (hold, keep_firing_for) = match &self.rule.kind {
            RuleKind::Alert { hold, keep_firing_for, .. } => (*hold, *keep_firing_for),
            RuleKind::Record { .. } => Default::default(),
        };
        let standing = self.standing.as_ref();
        let alerts = standing.iter().flat_map(|standing| &standing.alerts).map(|(state, alert)| Standing {
            state: *state,
            labels: alert.labels.iter().collect(),
            value: value_text(alert.value),
            active_at: alert.active_at.to_string(),
            fired_at: text(alert.fired_at),
        });
        let alerts: Vec<Standing<'_>> = alerts.collect();
        Explanation {
            alert: self.rule.name(),
            expr: self.rule.expr_text.trim(),
            hold: format_duration(hold),
            keep_firing_for: format_duration(keep_firing_for),
            at: self.at.to_string(),
            inactive: alerts.is_empty().then(|| self.why_inactive()),
            alerts,
            error: standing.and_then(|standing| standing.last_error.as_deref()),
            estimate: standing.and_then(|standing| standing.estimate.as_deref()),
            warming_until: text(standing.and_then(|standing| standing.warming_until)),
            failing_stages: self.backtest.failing_stages(),
            ranges: self.ranges.iter().map(RangeWatch::report).collect(),
            values: self.values().into_iter().map(|(expr, values)| part(expr, values)).collect(),
            states: self.path.iter().map(state).collect(),
        }
    }
}

impl RangeWatch {
    fn report(&self) -> Range<'_> {
        Range {
            range: &self.text,
            reader: self.reader.as_deref(),
            window: [self.window.0.to_string(), self.window.1.to_string()],
            records: self.records,
            steps: self.steps.iter().map(Step::report).collect(),
            content: self.content.iter().map(|(stream, records)| (stream.as_str(), lines(records))).collect(),
        }
    }
}

impl Step {
    fn report(&self) -> Left<'_> {
        let Dropped { in_window, outside } = &self.dropped;
        let mut dropped: Vec<(Timestamp, &str, bool)> = Vec::new();
        dropped.extend(in_window.iter().map(|(time, record)| (*time, record.as_str(), true)));
        dropped.extend(outside.iter().map(|(time, record)| (*time, record.as_str(), false)));
        dropped.sort_by_key(|(time, ..)| *time);
        let line =
            |(time, record, in_window): (Timestamp, _, _)| DroppedLine { time: time.to_string(), record, in_window };
        let dropped = dropped.into_iter().map(line).collect();
        Left { step: &self.text, left: self.left, failed: self.failed, dropped }
    }
}

fn lines(lines: &[(Timestamp, String)]) -> Vec<Line<'_>> {
    lines.iter().map(|(time, line)| Line { time: time.to_string(), line }).collect()
}

fn part(expr: String, values: Result<Vec<(Labels, f64)>, String>) -> Part {
    let value = |(labels, value): (Labels, f64)| {
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Value { labels, value: value_text(value) }
    };
    match values {
        Ok(values) => Part { expr, values: values.into_iter().map(value).collect(), error: None },
        Err(error) => Part { expr, values: Vec::new(), error: Some(error) },
    }
}

fn state(transition: &Transition) -> State<'_> {
    State {
        at: transition.at.to_string(),
        from: transition.from,
        to: transition.to,
        labels: transition.alert.labels.iter().collect(),
        value: value_text(transition.alert.value),
        by_record: transition.cause.is_some(),
    }
}

fn text(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}
