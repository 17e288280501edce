//! Rules that are evaluated at steps of event time: alerts that can fall, and recording rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::alerts::{Entry, Observation};
use super::{Engine, GAP_MIN, Output};
use crate::alert;
use crate::labels::Labels;
use crate::plan::{Eval, Node, Reading, RuleKind};
use crate::query::over_time::OverTime;
use crate::time::Timestamp;
use crate::transition::{AlertState, Sample};
use crate::vector::{Element, ManyToMany, Operand, Vector};

const NANOSECOND: Duration = Duration::from_nanos(1);

/// Why an expression has no value at a time.
#[derive(Clone, Debug, PartialEq)]
enum EvalError {
    ManyToMany(ManyToMany),
    SameLabels(Labels),
}

impl From<ManyToMany> for EvalError {
    fn from(error: ManyToMany) -> Self {
        Self::ManyToMany(error)
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManyToMany(error) => error.fmt(f),
            Self::SameLabels(labels) => write!(f, "several elements have the labels {labels}: none is judged"),
        }
    }
}

/// The operand, empty labels left out, unless elements of it have the same labels, as `label_replace` can make them: a ruler has no answer
/// then either.
fn with_labels_of_their_own(operand: Operand) -> Result<Operand, EvalError> {
    let Operand::Vector(mut vector) = operand else { return Ok(operand) };
    vector.iter_mut().for_each(|element| element.labels = element.labels.without_empty());
    let mut seen = BTreeSet::new();
    match vector.iter().find(|element| !seen.insert(&element.labels)) {
        Some(element) => Err(EvalError::SameLabels(element.labels.clone())),
        None => Ok(Operand::Vector(vector)),
    }
}

impl Engine {
    /// Evaluates what the watermark has passed.
    pub(super) fn run_steps(&mut self) {
        let plan = self.plan.clone();
        for index in plan.steps.iter().copied() {
            let rule = &plan.rules[index];
            let Eval::Steps { node, .. } = &rule.eval else { continue };
            let passed = self.state.watermarks[rule.watermark].low() - rule.lateness;
            while self.state.rules[index].next_step <= passed {
                if self.is_dormant(index) {
                    self.state.rules[index].next_step = rule.next_step(passed);
                    break;
                }
                let time = self.state.rules[index].next_step;
                self.evaluate(index, node, time);
                self.state.rules[index].next_step = rule.next_step(time);
                if passed.since(time) > GAP_MIN && self.leaps {
                    self.leap(index, time, passed);
                }
            }
        }
    }

    /// Passes over the steps up to `passed` at which a rule that was evaluated at `time` would find the same and change nothing: after hours
    /// away there are very many.
    fn leap(&mut self, rule: usize, time: Timestamp, passed: Timestamp) {
        let Eval::Steps { step, .. } = &self.plan.rules[rule].eval else { return };
        let until = self.changes_after(rule, time).min(passed + NANOSECOND);
        let next = self.plan.rules[rule].next_step(until - NANOSECOND);
        if next > self.state.rules[rule].next_step {
            let last = next - *step;
            let seen_empty = self.has_no_records(rule, last);
            let state = &mut self.state.rules[rule];
            (state.next_step, state.last_evaluation, state.seen_empty) = (next, Some(last), seen_empty);
        }
    }

    /// Before when a rule that was evaluated at `time` finds the same and changes nothing, if no record comes.
    fn changes_after(&self, rule: usize, time: Timestamp) -> Timestamp {
        let (planned, state) = (&self.plan.rules[rule], &self.state.rules[rule]);
        let Eval::Steps { node, .. } = &planned.eval else { return time };
        if !state.series.is_empty() {
            return time; // what a recording rule finds it writes at each step
        }
        if let Some(blind_until) = self.is_blind_until(rule, time).filter(|_| state.alerts.is_empty()) {
            return blind_until;
        }
        let whole = planned.leaves.iter().map(|(leaf, offset)| self.whole_at(*leaf, *offset));
        let hidden = self.hidden(rule, &planned.doubts).chain(self.hidden(rule, &planned.endings));
        let due = |(labels, entry): (_, &Entry)| alert::due(entry.phase, self.patience(rule, labels), time);
        let turns = hidden.flat_map(|(from, until)| [from + NANOSECOND, until]);
        let turns = turns.chain(whole).chain(state.alerts.iter().filter_map(due));
        let mut next = turns.filter(|at| *at > time).min().unwrap_or(Timestamp::MAX);
        node.for_each_leaf(&mut |reading| next = next.min(self.window_changes_after(reading, time, state.next_step)));
        next
    }

    /// The same of the windows behind a leaf; it does not matter which of the times up to `soon` it is.
    fn window_changes_after(&self, reading: &Reading, time: Timestamp, soon: Timestamp) -> Timestamp {
        let (leaf, offset) = reading.window();
        let (time, range) = (time - offset, self.plan.leaves[leaf].range);
        let mut next = Timestamp::MAX;
        for (_, group) in self.state.leaves[leaf].iter() {
            next = next.min(group.window.changes_after(time, range).unwrap_or(Timestamp::MAX));
            if reading.slides() && group.window.has_records(time, range) {
                next = time;
            }
            if next + offset <= soon {
                break;
            }
        }
        next + offset
    }

    /// When the watermark passes the next step of a rule that can change by that.
    pub(super) fn next_step(&self) -> Option<Timestamp> {
        let steps = self.plan.steps.iter().filter(|index| !self.is_dormant(**index));
        let mut first: Vec<Option<Timestamp>> = vec![None; self.state.watermarks.len()];
        for index in steps.copied() {
            let rule = &self.plan.rules[index];
            let time = self.state.rules[index].next_step + rule.lateness;
            let first = &mut first[rule.watermark];
            *first = Some(first.map_or(time, |other| other.min(time)));
        }
        let watermarks = first.into_iter().zip(&self.state.watermarks);
        watermarks.filter_map(|(time, watermark)| Some(watermark.reaches(time?))).min()
    }

    /// Whether no step can change anything until a record comes.
    fn is_dormant(&self, rule: usize) -> bool {
        let state = &self.state.rules[rule];
        let is_settled =
            |phase: crate::alert::Phase| phase.state == AlertState::Firing && phase.until == Timestamp::MAX;
        state.seen_empty
            && state.series.is_empty()
            && state.last_evaluation.is_some_and(|last| last >= self.warm_at(rule).max(self.sees_at(rule)))
            && state.alerts.values().all(|entry| is_settled(entry.phase))
            && self.has_no_records(rule, state.next_step)
    }

    /// Whether nothing is left at `time` that the rule looks at.
    fn has_no_records(&self, rule: usize, time: Timestamp) -> bool {
        let leaves = &self.plan.rules[rule].leaves;
        leaves.keys().all(|leaf| self.state.leaves[*leaf].is_empty_after(time - self.plan.leaves[*leaf].retention))
    }

    /// From when on all of a rule's windows are known whole.
    pub(super) fn warm_at(&self, rule: usize) -> Timestamp {
        let leaves = self.plan.rules[rule].leaves.iter();
        leaves.map(|(leaf, offset)| self.whole_at(*leaf, *offset)).max().unwrap_or(Timestamp::MIN)
    }

    /// From when on a rule tells what it tells: one that does not wait does from the start.
    pub(super) fn tells_at(&self, rule: usize) -> Timestamp {
        let warm_at = match &self.plan.rules[rule].eval {
            Eval::Steps { whole, absent, .. } => {
                let whole = whole.iter().chain(absent).map(|(leaf, offset)| self.whole_at(*leaf, *offset));
                whole.max().unwrap_or(Timestamp::MIN)
            }
            Eval::Edge(_) => return Timestamp::MIN,
        };
        self.is_blind_until(rule, self.state.clock).map_or(warm_at, |sees_at| sees_at.max(warm_at))
    }

    fn whole_at(&self, leaf: usize, offset: Duration) -> Timestamp {
        self.state.leaves[leaf].since + self.plan.leaves[leaf].range + offset
    }

    fn evaluate(&mut self, rule: usize, node: &Node, time: Timestamp) {
        self.evaluations += 1;
        let result = node.value(&mut |reading| self.reading(reading, time)).and_then(with_labels_of_their_own);
        let seen_empty = self.has_no_records(rule, time);
        let state = &mut self.state.rules[rule];
        state.last_evaluation = Some(time);
        state.seen_empty = seen_empty;
        state.last_error = result.as_ref().err().map(EvalError::to_string);
        let Ok(result) = result else { return };
        let vector = match result {
            Operand::Scalar(value) => vec![Element { labels: Labels::default(), value }],
            Operand::Vector(_) if self.waits(rule, time) => Vector::new(),
            Operand::Vector(vector) => vector,
        };
        match &self.plan.rules[rule].kind {
            RuleKind::Alert { .. } if self.plan.rules[rule].is_tick() => match self.identified(rule, &vector) {
                Ok(vector) => self.judge_vector(rule, &vector, time),
                Err(error) => self.state.rules[rule].last_error = Some(error),
            },
            RuleKind::Alert { .. } => self.judge_vector(rule, &vector, time),
            RuleKind::Record => self.record(rule, &vector, time),
        }
    }

    /// Whether there may be records that the rule's windows do not know of, and would change its mind.
    fn waits(&self, rule: usize, time: Timestamp) -> bool {
        let Eval::Steps { whole, .. } = &self.plan.rules[rule].eval else { return false };
        whole.iter().any(|(leaf, offset)| time < self.whole_at(*leaf, *offset))
    }

    fn judge_vector(&mut self, rule: usize, vector: &Vector, time: Timestamp) {
        let holds_alerts = self.holds_alerts(rule, time);
        let mut holding: BTreeMap<&Labels, f64> =
            vector.iter().map(|element| (&element.labels, element.value)).collect();
        let known: Vec<Labels> = self.state.rules[rule].alerts.keys().cloned().collect();
        for labels in known.iter().filter(|labels| !holding.contains_key(labels)) {
            if holds_alerts && !self.is_back(rule, labels, time) {
                continue;
            }
            if let Some(entry) = self.state.rules[rule].alerts.get_mut(labels) {
                entry.phase.until = entry.phase.until.min(time);
            }
            self.proceed(rule, labels, time, None, None);
        }
        if self.is_blind_until(rule, time).is_some() {
            holding.retain(|labels, _| self.is_firing(rule, labels));
        }
        if self.is_over_limit(rule, &holding) {
            return self.end_alerts(rule);
        }
        for (labels, value) in holding {
            let held = time..Timestamp::MAX;
            self.raise(rule, labels, &Observation { held, judged: time, value, group: None, cause: None });
        }
        if self.plan.rules[rule].is_tick() {
            self.refresh_all(rule);
        }
    }

    fn is_firing(&self, rule: usize, labels: &Labels) -> bool {
        self.state.rules[rule].alerts.get(labels).is_some_and(|entry| entry.phase.state == AlertState::Firing)
    }

    /// Whether there would be more alerts than a ruler allows: it then has none of the rule's.
    fn is_over_limit(&self, rule: usize, holding: &BTreeMap<&Labels, f64>) -> bool {
        let (planned, alerts) = (&self.plan.rules[rule], &self.state.rules[rule].alerts);
        let new = holding.keys().filter(|labels| !alerts.contains_key(**labels)).count();
        planned.is_tick() && planned.limit > 0 && alerts.len() + new > planned.limit
    }

    fn record(&mut self, rule: usize, vector: &Vector, time: Timestamp) {
        let planned = &self.plan.rules[rule];
        if planned.limit > 0 && vector.len() > planned.limit {
            let error = format!("{} series, `limit` is {}: none is written", vector.len(), planned.limit);
            self.state.rules[rule].last_error = Some(error);
            return self.record(rule, &Vector::new(), time);
        }
        let given = planned.labels.0.iter().map(|(name, value, _)| (name.as_str(), value.as_str()));
        let given: Vec<_> = given.chain([("__name__", &*planned.name)]).collect();
        let series = |element: &Element| Labels::new(element.labels.iter().chain(given.iter().copied()));
        let samples: BTreeMap<Labels, f64> = vector.iter().map(|element| (series(element), element.value)).collect();
        if samples.len() < vector.len() {
            let error = "the rule's labels make one series of several elements: none is written";
            self.state.rules[rule].last_error = Some(error.to_owned());
            return self.record(rule, &Vector::new(), time);
        }
        let written: BTreeSet<Labels> = samples.keys().cloned().collect();
        let before = std::mem::replace(&mut self.state.rules[rule].series, written);
        let ended = before
            .into_iter()
            .filter(|labels| !samples.contains_key(labels))
            .map(|labels| (labels, Sample::stale_marker()));
        let ended: Vec<_> = ended.collect();
        for (labels, value) in samples.into_iter().chain(ended) {
            self.outputs.push_back(Output::Sample(Sample { labels, time, value }));
        }
    }

    fn reading(&self, reading: &Reading, time: Timestamp) -> Result<Vector, EvalError> {
        let mut vector: Vector = match reading {
            Reading::Count { leaf, divisor, offset } => {
                let element = |(labels, sum)| Element { labels, value: sum as f64 / *divisor };
                self.leaf_values(*leaf, time - *offset).map(element).collect()
            }
            Reading::Over { leaf, function, offset, ahead } => {
                let (time, end) = (time - *offset, time - *offset + *ahead);
                self.sample_values(*leaf, function, time, end).collect()
            }
            Reading::Absent { leaf, labels, offset } => self.absent(*leaf, labels, time - *offset),
        };
        // The order of labels decides between equals (`topk`), and in which order numbers are added up.
        vector.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(vector)
    }

    fn leaf_values(&self, leaf: usize, time: Timestamp) -> impl Iterator<Item = (Labels, u64)> {
        let range: Duration = self.plan.leaves[leaf].range;
        self.state.leaves[leaf].iter().filter_map(move |(key, group)| {
            let value = group.window.counts()?.value(time, range)?; // labels are made of what there is alone
            Some((self.plan.labels(leaf, key), value))
        })
    }

    fn sample_values(
        &self,
        leaf: usize,
        function: &OverTime,
        time: Timestamp,
        end: Timestamp,
    ) -> impl Iterator<Item = Element> {
        let range: Duration = self.plan.leaves[leaf].range;
        let groups = self.state.leaves[leaf].iter();
        groups.filter_map(move |(key, group)| {
            let value = group.window.samples()?.value(time, range, function, end)?;
            Some(Element { labels: self.plan.labels(leaf, key), value })
        })
    }

    fn absent(&self, leaf: usize, labels: &Labels, time: Timestamp) -> Vector {
        let is_warm = time >= self.state.leaves[leaf].since + self.plan.leaves[leaf].range;
        if !is_warm || self.leaf_values(leaf, time).next().is_some() {
            return Vector::new();
        }
        vec![Element { labels: labels.clone(), value: 1.0 }]
    }
}
