//! The explanation as a person reads it.

use std::fmt::Write as _;

use super::{Explainer, RangeWatch, Standing, Step};
use crate::detect::{Detect, Gate, Wanted};
use crate::query::answer::value_text;
use crate::rule_file::RuleKind;
use crate::time::format_duration;
use crate::transition::AlertState;

impl Explainer<'_> {
    /// All of it: the state first, then what led to it.
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", self.rule.name());
        if let Some(detect) = &self.rule.detect {
            let _ = writeln!(out, "  detector {}, as an expression:", detect.kind);
        }
        let _ = writeln!(out, "  {}", self.rule.expr_text.trim().replace('\n', "\n  "));
        let RuleKind::Alert { hold, keep_firing_for, .. } = &self.rule.kind else { return out };
        let mut patience = format!("for: {}", format_duration(*hold));
        if !keep_firing_for.is_zero() {
            let _ = write!(patience, ", keep_firing_for: {}", format_duration(*keep_firing_for));
        }
        let _ = writeln!(out, "  {patience}\n\nat {}", self.at);
        self.standing.iter().for_each(|standing| self.put_standing(standing, &mut out));
        self.put_detector(&mut out);
        self.ranges.iter().for_each(|range| range.put(&mut out));
        // Of what stands behind a gate the expression knows nothing; what a spike compares was shown.
        let is_told = |detect: &Detect| detect.gate.is_some() || detect.comparison.is_some();
        if !self.rule.detect.as_ref().is_some_and(is_told) {
            self.put_values(&mut out);
        }
        self.put_path(&mut out);
        out
    }

    fn put_standing(&self, standing: &Standing, out: &mut String) {
        for (state, alert) in &standing.alerts {
            let since = match (state, alert.fired_at) {
                (AlertState::Firing, Some(fired)) => format!("firing since {fired}"),
                _ => format!(
                    "pending since {}, fires at {} if it still holds",
                    alert.active_at,
                    alert.active_at + alert.hold
                ),
            };
            let _ = writeln!(out, "  {since}  {} value {}", alert.labels, value_text(alert.value));
        }
        if standing.alerts.is_empty() && standing.warming_until.is_none() {
            let _ = writeln!(out, "  inactive: {}", self.why_inactive());
        }
        for stage in self.backtest.failing_stages() {
            let _ = writeln!(out, "  {stage}");
        }
        if let Some(error) = &standing.last_error {
            let _ = writeln!(out, "  the rule has an error: {error}");
        }
        if let Some(estimate) = &standing.estimate {
            let _ = writeln!(out, "  {estimate}");
        }
        if let Some(until) = standing.warming_until {
            let _ = writeln!(
                out,
                "  warming until {until}: what was before the first record, or while nobody listened, is not known, and nothing is told before"
            );
        }
        if let Some(until) = standing.partial_until {
            let _ = writeln!(
                out,
                "  its windows are whole from {until} on: until then they hold what came from the first record on, and it is judged by that"
            );
        }
    }

    /// What the records and values say, in a sentence.
    pub(super) fn why_inactive(&self) -> String {
        let gate = self.rule.detect.as_ref().and_then(|detect| detect.gate.as_ref());
        if let Some(said) = self.ranges.iter().find_map(|range| range.without_keys(self.rule)) {
            return said;
        }
        // Of a sequence that a second record may fail to come to it is no reason that none did.
        let is_of_failing = matches!(gate, Some(Gate::Sequence(pairing)) if pairing.wanted == Wanted::Without);
        if let Some(said) =
            self.why_gated_inactive().filter(|_| is_of_failing || self.ranges.iter().all(RangeWatch::has_any))
        {
            return said;
        }
        for range in &self.ranges {
            if let Some(step) = range.steps.iter().find(|step| step.left.in_window == 0) {
                return format!("no record of `{}` in the window is left behind `{}`", range.text, step.text);
            }
            if let Some(step) = range.steps.iter().find(|step| step.failed.in_window == step.left.in_window) {
                return format!("`{}` failed on every record of `{}` in the window", step.text, range.text);
            }
        }
        if gate.is_some() {
            return "no pattern of these records is new: their group has had each before, or learns it".to_owned();
        }
        match self.value(&self.rule.expr.to_string()) {
            Ok(values) if values.is_empty() => "the condition does not hold".to_owned(),
            Ok(_) => {
                "the condition holds over the records up to then, but that was not known yet: see the states".to_owned()
            }
            Err(error) => error,
        }
    }

    fn put_values(&self, out: &mut String) {
        out.push_str("\nvalues\n");
        for (part, values) in self.values() {
            let _ = writeln!(out, "  {part}");
            match values {
                Err(error) => _ = writeln!(out, "    fails: {error}"),
                Ok(values) if values.is_empty() => out.push_str("    nothing\n"),
                Ok(values) => {
                    for (labels, value) in values.iter().take(VALUES_SHOWN_MAX) {
                        let _ = writeln!(out, "    {labels} {}", value_text(*value));
                    }
                    put_more(values.len(), VALUES_SHOWN_MAX, out);
                }
            }
        }
    }

    fn put_path(&self, out: &mut String) {
        out.push_str("\nstates\n");
        if self.path.is_empty() {
            out.push_str("  none: the condition never held\n");
        }
        let asked = format!("> {}  asked about\n", self.at);
        let later = self.path.partition_point(|transition| transition.at <= self.at);
        let (first, end) = (later.saturating_sub(STATES_SHOWN_MAX), self.path.len().min(later + STATES_SHOWN_MAX));
        if first > 0 {
            let _ = writeln!(out, "  and {first} before");
        }
        for (at, transition) in self.path.iter().enumerate().take(end).skip(first) {
            if at == later {
                out.push_str(&asked);
            }
            let state = match (transition.from, transition.to) {
                (AlertState::Firing, AlertState::Inactive) => "resolved",
                (_, AlertState::Inactive) => "forgotten",
                (_, AlertState::Pending) => "pending",
                (_, AlertState::Firing) => "firing",
            };
            let alert = &transition.alert;
            let cause = match transition.cause {
                Some(_) => "by a record",
                None => "by time",
            };
            let value = value_text(alert.value);
            let _ = writeln!(out, "  {}  {state:9} {} value {value}, {cause}", transition.at, alert.labels);
        }
        if later == self.path.len() {
            out.push_str(&asked);
        }
        if end < self.path.len() {
            let _ = writeln!(out, "  and {} behind", self.path.len() - end);
        }
    }
}

impl RangeWatch {
    /// Whether a record in the window came through all stages.
    fn has_any(&self) -> bool {
        self.steps.last().is_some_and(|step| step.left.in_window > 0)
    }

    fn put(&self, out: &mut String) {
        let (from, to) = self.window;
        let _ = writeln!(out, "\n{}", self.text);
        if let Some(reader) = &self.reader {
            let _ = writeln!(out, "  as `{reader}` reads it");
        }
        let _ = writeln!(out, "  window ({from}, {to}]\n");
        let width = self.steps.iter().map(|step| step.text.chars().count()).max().unwrap_or(0).max("records".len());
        let _ = writeln!(out, "  {:width$}  {:>9}  {:>9}", "", "all", "in window");
        let _ = writeln!(out, "  {:width$}  {:>9}  {:>9}", "records", self.records.all, self.records.in_window);
        self.steps.iter().for_each(|step| step.put(width, out));
        if !self.content.is_empty() {
            out.push_str("\n  in the window\n");
        }
        for (stream, records) in self.content.iter().take(STREAMS_SHOWN_MAX) {
            let _ = writeln!(out, "    {stream}: {}", records.len());
            let skipped = records.len().saturating_sub(RECORDS_SHOWN_MAX);
            for (time, line) in &records[skipped..] {
                let _ = writeln!(out, "      {time}  {}", shortened(line));
            }
        }
        put_more(self.content.len(), STREAMS_SHOWN_MAX, out);
    }
}

impl Step {
    fn put(&self, width: usize, out: &mut String) {
        let _ = write!(out, "  {:width$}  {:>9}  {:>9}", self.text, self.left.all, self.left.in_window);
        if self.failed.all > 0 {
            let _ = write!(out, "  {} with an error", self.failed.all);
        }
        if let Some((time, told)) = self.dropped.last() {
            let _ = write!(out, "  dropped: {time} {}", shortened(told));
        }
        out.push('\n');
    }
}

pub(super) fn put_more(len: usize, shown: usize, out: &mut String) {
    if len > shown {
        let _ = writeln!(out, "    and {} more", len - shown);
    }
}

pub(super) fn shortened(line: &str) -> String {
    let one_line = line.replace(['\n', '\r', '\t'], " ");
    match one_line.char_indices().nth(LINE_CHARS_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

/// Streams of a window, and the last records of each, that are shown.
const STREAMS_SHOWN_MAX: usize = 10;
const RECORDS_SHOWN_MAX: usize = 5;

/// Changes of state before and behind the time that is asked about that are shown.
const STATES_SHOWN_MAX: usize = 10;

/// Elements of a value that are shown.
pub(super) const VALUES_SHOWN_MAX: usize = 10;

/// Characters of a line that are shown.
const LINE_CHARS_SHOWN_MAX: usize = 100;
