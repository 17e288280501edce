//! What is asked about the rules: Prometheus's `/api/v1/rules` and `/api/v1/alerts`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::alerts::next_multiple;
use super::{Engine, LeafState};
use crate::labels::Labels;
use crate::plan::{Eval, Keeps, Plan, RuleKind, STEP};
use crate::time::{Timestamp, format_duration};
use crate::transition::{Alert, AlertState};
use crate::watermark::Watermark;

/// A rule, and how it fares.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleStatus {
    /// Name of its file.
    pub file: Arc<str>,
    /// Name of its group.
    pub group: Arc<str>,
    /// The group's interval.
    pub interval: Duration,
    /// The group's limit.
    pub limit: usize,
    /// Name of the alert or the series.
    pub name: Arc<str>,
    /// The expression as the file has it, or as it follows from `detect`.
    pub expr: Arc<str>,
    /// The kind of its detector (`flatline`), if it has one.
    pub detector: Option<Arc<str>>,
    /// As the file has them, the group's among them.
    pub labels: Vec<(String, String)>,
    /// What only alerting rules have.
    pub alerting: Option<AlertingStatus>,
    /// Whether its last evaluation went well.
    pub health: Health,
    /// Why not.
    pub last_error: Option<String>,
    /// That its quantiles are estimates, and how far these may be off.
    pub estimate: Option<String>,
    /// How much of the past it has been filled with, from 0 to 1, where it is not in force yet because that is much.
    pub filled: Option<f64>,
    /// Until when it tells nothing, because what it tells of (an absence, too few records, a change) hangs on the whole of its windows, and the
    /// log did not reach back so far when the rule came.
    pub warming_until: Option<Timestamp>,
    /// Until when its windows hold less than their ranges, for the same reason, though it tells what it finds in them.
    pub partial_until: Option<Timestamp>,
    /// When it was last evaluated: for a rule that is judged at each record, the clock.
    pub last_evaluation: Option<Timestamp>,
}

/// What only alerting rules have.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertingStatus {
    /// `for`
    pub hold: Duration,
    /// `keep_firing_for`
    pub keep_firing_for: Duration,
    /// Templates, as the file has them.
    pub annotations: Vec<(String, String)>,
    /// The furthest state of its alerts.
    pub state: AlertState,
    /// Pending and firing ones.
    pub alerts: Vec<(AlertState, Arc<Alert>)>,
}

/// In Prometheus's words: `unknown`, `ok`, `err`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not evaluated yet.
    Unknown,
    /// It was evaluated.
    Ok,
    /// It could not be evaluated, or only in part.
    Err,
}

/// How full the engine is: for its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Groups with a window.
    pub groups: usize,
    /// How often records of a batch found no place under `groups_per_rule_max`, since the rules were loaded.
    pub groups_refused: u64,
    /// Cells of all windows; above `window_cells_max` each keeps fewer.
    pub window_cells: usize,
    /// Windows with so many samples that their quantiles are estimates.
    pub windows_estimated: usize,
    /// Bytes of evidence that groups keep; at most about `evidence_bytes_max`.
    pub evidence_bytes: usize,
    /// Patterns that rules remember; of one at most [`PATTERNS_MAX`](crate::detect::PATTERNS_MAX).
    pub patterns: usize,
    /// New patterns that were told together with others for `max_new`, since the rules were loaded.
    pub patterns_withheld: u64,
    /// Sources that the watermark waits for; at most [`SOURCES_MAX`](crate::watermark::SOURCES_MAX).
    pub sources: usize,
    /// How often a rule was evaluated at a step, since the rules were loaded.
    pub evaluations: u64,
    /// The event time that every active source has reached; the clock where no rule waits for it.
    pub watermark: Timestamp,
    /// Rules that tell nothing yet, because their windows are not known whole.
    pub warming: usize,
    /// Rules that could not be evaluated, or only in part.
    pub failing: usize,
    /// Alerts that are pending.
    pub pending: usize,
    /// Alerts that are firing.
    pub firing: usize,
}

impl RuleStatus {
    /// Those of the plan's rules that are not in force yet, by their keys: `filled` (from 0 to 1) tells how far they are.
    pub fn of_waiting(plan: &Arc<Plan>, waiting: &BTreeSet<String>, filled: f64) -> Vec<Self> {
        let nothing = Engine::new(Arc::clone(plan), Timestamp::default());
        let rules = plan.rules.iter().enumerate().filter(|(_, rule)| waiting.contains(&rule.key));
        let as_waiting = |status: Self| Self {
            filled: Some(filled),
            health: Health::Unknown,
            warming_until: None,
            partial_until: None,
            last_evaluation: None,
            ..status
        };
        rules.map(|(at, _)| as_waiting(nothing.rule_status(at))).collect()
    }
}

impl Engine {
    /// How full the engine is.
    pub fn stats(&self) -> EngineStats {
        let leaves = &self.state.leaves;
        let alerts = self.state.rules.iter().flat_map(|rule| rule.alerts.values());
        let firing = alerts.clone().filter(|entry| entry.phase.state == AlertState::Firing).count();
        EngineStats {
            groups: leaves.iter().map(LeafState::len).sum(),
            groups_refused: leaves.iter().map(|leaf| leaf.refused).sum(),
            window_cells: self.cells,
            windows_estimated: (0..leaves.len()).map(|leaf| self.estimates(leaf).count()).sum(),
            evidence_bytes: self.state.evidence_bytes,
            patterns: leaves.iter().map(|leaf| leaf.patterns.len()).sum(),
            patterns_withheld: leaves.iter().map(|leaf| leaf.patterns.withheld).sum(),
            sources: self.state.watermarks.iter().map(Watermark::sources).max().unwrap_or_default(),
            evaluations: self.evaluations,
            watermark: self.state.watermarks.iter().map(Watermark::low).min().unwrap_or(self.state.clock),
            warming: (0..self.plan.rules.len()).filter(|rule| self.tells_at(*rule) > self.state.clock).count(),
            failing: (0..self.plan.rules.len()).filter(|rule| self.rule_error(*rule).is_some()).count(),
            pending: alerts.count() - firing,
            firing,
        }
    }

    /// Every rule, in the order of the files.
    pub fn rules(&self) -> Vec<RuleStatus> {
        (0..self.plan.rules.len()).map(|rule| self.rule_status(rule)).collect()
    }

    fn rule_status(&self, rule: usize) -> RuleStatus {
        let (planned, state) = (&self.plan.rules[rule], &self.state.rules[rule]);
        let last_error = self.rule_error(rule);
        let later = |at: Timestamp| Some(whole_second(at)).filter(|_| at > self.state.clock);
        let warming_until = later(self.tells_at(rule));
        let last_evaluation = match planned.eval {
            Eval::Edge(_) => Some(self.state.clock),
            Eval::Steps { .. } => state.last_evaluation,
        };
        RuleStatus {
            file: planned.file.clone(),
            group: planned.group.clone(),
            interval: planned.interval,
            limit: planned.limit,
            name: planned.name.clone(),
            expr: planned.expr.clone(),
            detector: planned.detector.clone(),
            labels: planned.labels.raw(),
            alerting: self.alerting_status(rule),
            health: match (&last_error, last_evaluation) {
                (Some(_), _) => Health::Err,
                (None, Some(_)) => Health::Ok,
                (None, None) => Health::Unknown,
            },
            last_error,
            estimate: self.estimate(rule),
            filled: None,
            partial_until: later(self.warm_at(rule)).filter(|_| warming_until.is_none()),
            warming_until,
            last_evaluation,
        }
    }

    /// Whose window has more samples than are kept one by one; of several the one that may be furthest off.
    fn estimate(&self, rule: usize) -> Option<String> {
        let leaves = self.plan.rules[rule].leaves.keys();
        let errors = leaves.flat_map(|leaf| self.estimates(*leaf).map(move |(error, labels)| (error, labels, *leaf)));
        let (error, labels, leaf) = errors.max_by(|(a, ..), (b, ..)| a.total_cmp(b))?;
        let how_far = match error.is_finite() {
            // Half as many grains are kept where all windows are over budget.
            true => format!(
                "off by {:.1} % at most, over a window of up to {} longer",
                error * 100.0,
                format_duration(Duration::from_secs(1 + (self.plan.leaves[leaf].retention / 32).as_secs()))
            ),
            false => "and how far it is off is not known".to_owned(),
        };
        Some(format!(
            "the window of {labels} has more samples than are kept one by one (`WINDOW_SAMPLES_MAX`): its quantile is an estimate, {how_far}"
        ))
    }

    /// The windows of a leaf whose quantiles are estimates, and by what part of it the value may be off.
    fn estimates(&self, leaf: usize) -> impl Iterator<Item = (f64, Labels)> {
        let is_exact = self.plan.leaves[leaf].keeps != Keeps::Samples;
        let groups = self.state.leaves[leaf].iter().filter(move |_| !is_exact);
        groups.filter_map(move |(key, group)| Some((group.window.samples()?.error()?, self.plan.labels(leaf, key))))
    }

    fn alerting_status(&self, rule: usize) -> Option<AlertingStatus> {
        let RuleKind::Alert { hold, keep_firing_for, annotations } = &self.plan.rules[rule].kind else { return None };
        let entries = self.state.rules[rule].alerts.values();
        let alerts: Vec<_> = entries.map(|entry| (entry.phase.state, entry.alert.clone())).collect();
        Some(AlertingStatus {
            hold: *hold,
            keep_firing_for: *keep_firing_for,
            annotations: annotations.raw(),
            state: alerts.iter().map(|(state, _)| *state).max().unwrap_or_default(),
            alerts,
        })
    }
}

/// What waits for a time is judged at the next whole second.
fn whole_second(at: Timestamp) -> Timestamp {
    next_multiple(at - Duration::from_nanos(1), STEP)
}
