//! The streaming engine: batches in, transitions and samples out.
//!
//! A state machine in the crate's grammar. Its clock is the log's: the latest receive time that it was given. Rules whose value a
//! record can only raise (`count_over_time(...) > 5`) are judged at the record that crosses the bound, late or not. What can also fall
//! (absence, `<`, ratios) is judged at whole seconds of event time, once the watermark has passed them, so that the order in which
//! records came does not matter.
//!
//! ```
//! use std::sync::Arc;
//! use watchbell_rules::engine::{Engine, Output};
//! use watchbell_rules::plan::{EngineConfig, Plan};
//! use watchbell_rules::time::Timestamp;
//!
//! let file = watchbell_rules::rule_file::parse("rules.yaml", "groups: []").unwrap();
//! let plan = Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap());
//! let mut engine = Engine::new(plan.clone(), Timestamp(0));
//! let (batch, received) = (&b""[..], Timestamp(1_000_000_000));
//! engine.handle_batch(plan.match_batch(batch, received), batch, received);
//! while let Some(output) = engine.poll_output() {
//!     match output {
//!         Output::Transition(transition) => println!("{:?}", transition.alert.labels),
//!         Output::Sample(sample) => println!("{} {}", sample.labels, sample.value),
//!     }
//! }
//! ```

mod alerts;
mod evidence;
mod fill;
mod groups;
mod status;
mod steps;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::matcher::{Matched, Run};
use crate::plan::{Edge, Eval, Plan};
use crate::time::Timestamp;
use crate::transition::{Sample, Transition};
use crate::watermark::Watermark;
use crate::window::{WINDOW_CELLS_MAX, WINDOW_CELLS_MAX_OVER_BUDGET};
use alerts::Observation;
use evidence::{Batch, Evidence};

pub(crate) use alerts::RuleState;
pub(crate) use fill::Fill;
pub(crate) use groups::LeafState;

pub use status::{AlertingStatus, EngineStats, Health, RuleStatus};

/// What the engine says.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// An alert changed its state.
    Transition(Transition),
    /// A computed series has a new point.
    Sample(Sample),
}

/// Judges what a log holds, in its order. The same calls give the same outputs, to the nanosecond.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    state: State,
    timers: BTreeSet<(Timestamp, Due)>,
    /// What is to be filled from the log.
    fill: Fill,
    outputs: VecDeque<Output>,
}

/// All that the future depends on; parallel to the plan's leaves and rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) clock: Timestamp,
    /// One for each of the plan's `idle_timeouts`.
    pub(crate) watermarks: Vec<Watermark>,
    /// What the groups' evidence takes together.
    pub(crate) evidence_bytes: usize,
    pub(crate) leaves: Vec<LeafState>,
    pub(crate) rules: Vec<RuleState>,
}

/// What is due at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// An alert of a rule may change.
    Alert(usize, Labels),
    /// A rule's `ALERTS` are to be sampled.
    Sample(usize),
}

impl Engine {
    /// An engine that has seen nothing before `now`.
    pub fn new(plan: Arc<Plan>, now: Timestamp) -> Self {
        let state = State {
            clock: now,
            watermarks: plan.idle_timeouts.iter().map(|idle_timeout| Watermark::new(now, *idle_timeout)).collect(),
            evidence_bytes: 0,
            leaves: plan.leaves.iter().map(|_| LeafState::new(now)).collect(),
            rules: plan.rules.iter().map(|rule| RuleState::new(rule, now)).collect(),
        };
        Self::with_state(plan, state)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn into_state(self) -> State {
        self.state
    }

    pub(crate) fn with_fill(self, fill: Fill) -> Self {
        Self { fill, ..self }
    }

    pub(crate) fn outputs_mut(&mut self) -> &mut VecDeque<Output> {
        &mut self.outputs
    }

    pub(crate) fn with_state(plan: Arc<Plan>, state: State) -> Self {
        let mut engine = Self { plan, state, timers: BTreeSet::new(), fill: Fill::default(), outputs: VecDeque::new() };
        engine.count_alerts();
        engine.arm_all();
        engine
    }

    /// Takes in a batch, in the log's order. `matched` is what the plan made of it, `received` its frame's receive time. What another
    /// plan made of it (the rules were replaced meanwhile) is made anew.
    pub fn handle_batch(&mut self, matched: Matched, batch: &[u8], received: Timestamp) {
        self.handle_timeout(received);
        let plan = self.plan.clone();
        let matched = if matched.plan == plan.id { matched } else { plan.match_batch(batch, received) };
        let batch = Batch { bytes: batch, received, services: &matched.services };
        self.sweep();
        for (feed, runs) in &matched.feeds {
            for leaf in &plan.feeds[*feed].leaves {
                runs.iter().for_each(|run| self.fold(*leaf, run, &batch));
            }
        }
        for watermark in &mut self.state.watermarks {
            matched.sources.iter().for_each(|(source, reached)| watermark.handle_source(*source, *reached));
        }
        self.run_steps();
    }

    /// Moves the clock on: to a batch's receive time, or to that of a clock frame.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((time, due)) = self.timers.first().filter(|(time, _)| *time <= now).cloned() {
            self.timers.pop_first();
            self.state.clock = self.state.clock.max(time);
            match due {
                Due::Alert(rule, labels) => self.handle_due_alert(rule, &labels),
                Due::Sample(rule) => self.sample_alerts(rule),
            }
        }
        self.state.clock = self.state.clock.max(now);
        self.run_steps();
    }

    /// When the clock has to be moved on if no batch comes before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(time, _)| *time);
        timer.into_iter().chain(self.next_step()).min()
    }

    /// The next thing to say.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The latest time that the engine was told.
    pub fn clock(&self) -> Timestamp {
        self.state.clock
    }

    /// The compiled rules.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Adds what fell into one group to its window, and judges the rules that a record can make true.
    fn fold(&mut self, leaf: usize, run: &Run, batch: &Batch<'_>) {
        let plan = self.plan.clone();
        let planned = &plan.leaves[leaf];
        let Some(group) = self.state.leaves[leaf].group(&plan, planned, &run.key) else { return };
        let cells_before = group.window.len();
        group.window.evict(self.state.clock - planned.retention);
        let (key, sum) = (group.key.clone(), group.window.sum() + run.weight);
        let rules: Vec<usize> = planned.edges.iter().copied().filter(|rule| edge(&plan, *rule).holds(sum)).collect();
        let may_cross = rules.iter().any(|rule| !self.holds(*rule, leaf, &key));
        let exact =
            (run.merged && may_cross).then(|| plan.rematch(batch.bytes, batch.received, planned.feed, &run.key));
        let exact = exact.flatten();
        let cells = exact.as_ref().map_or(&run.cells, |run| &run.cells);
        let Some(group) = self.state.leaves[leaf].get_mut(&key) else { return };
        cells.iter().for_each(|cell| group.window.insert(*cell));
        self.keep_evidence(leaf, &key, run, batch, may_cross);
        rules.iter().for_each(|rule| self.judge_edge(*rule, leaf, &key, cells[0].at, Some(batch.received)));
        self.compact(leaf, &key, cells_before);
    }

    fn compact(&mut self, leaf: usize, key: &[u8], cells_before: usize) {
        let cells: usize = self.state.leaves.iter().map(|leaf| leaf.cells).sum();
        let is_over = cells > self.plan.config.window_cells_max;
        let cells_max = if is_over { WINDOW_CELLS_MAX_OVER_BUDGET } else { WINDOW_CELLS_MAX };
        let state = &mut self.state.leaves[leaf];
        let Some(group) = state.get_mut(key) else { return };
        group.window.compact(self.plan.leaves[leaf].range, cells_max);
        let len = group.window.len();
        state.cells = state.cells + len - cells_before;
    }

    /// Looks for groups of which nothing is left, now and then; at batches alone, so that it does not matter how often the clock moves.
    fn sweep(&mut self) {
        for leaf in 0..self.state.leaves.len() {
            if self.state.leaves[leaf].next_sweep <= self.state.clock {
                self.evict(leaf);
            }
        }
    }

    fn evict(&mut self, leaf: usize) {
        self.state.evidence_bytes -= self.state.leaves[leaf].evict(&self.plan.leaves[leaf], self.state.clock);
    }

    fn keep_evidence(&mut self, leaf: usize, key: &[u8], run: &Run, batch: &Batch<'_>, may_cross: bool) {
        let (config, samples) = (&self.plan.config, self.plan.leaves[leaf].samples);
        let Some(group) = self.state.leaves[leaf].get_mut(key) else { return };
        let before = group.evidence.bytes();
        if may_cross || group.alerts > 0 || self.state.evidence_bytes < config.evidence_bytes_max {
            group.evidence.keep(run, batch, samples, config);
        } else {
            group.evidence = Evidence::default();
        }
        self.state.evidence_bytes = self.state.evidence_bytes + group.evidence.bytes() - before;
    }

    /// Whether the rule's alert for that group is known to hold beyond the clock.
    fn holds(&self, rule: usize, leaf: usize, key: &[u8]) -> bool {
        let labels = self.state.leaves[leaf].get(key).map(|group| &group.labels);
        let entry = labels.and_then(|labels| self.state.rules[rule].alerts.get(labels));
        entry.is_some_and(|entry| entry.phase.until > self.state.clock)
    }

    /// Looks for the times at which the condition holds thanks to new cells, the first of them at `earliest`. `cause` is the receive time of
    /// the batch that brought them.
    fn judge_edge(&mut self, rule: usize, leaf: usize, key: &[u8], earliest: Timestamp, cause: Option<Timestamp>) {
        let plan = self.plan.clone();
        let (edge, range, now) = (edge(&plan, rule), plan.leaves[leaf].range, self.state.clock);
        let mut from = earliest.max(now - plan.rules[rule].lateness);
        while from <= now {
            let Some(group) = self.state.leaves[leaf].get(key) else { return };
            if self.holds(rule, leaf, key) {
                return; // how much longer is looked at when that time is over
            }
            let Some((at, sum)) = group.window.first_holding(from, now, range, |sum| edge.holds(sum)) else { return };
            let until = group.window.falls_at(at, range, |sum| edge.holds(sum));
            let (labels, value) = (group.labels.clone(), edge.scale.value(sum));
            let seen = Observation { held: at..until, judged: now, value, group: Some(key), cause };
            self.raise(rule, &labels, &seen);
            from = until;
        }
    }
}

/// The edge of a rule that is listed with a leaf's edges.
fn edge(plan: &Plan, rule: usize) -> &Edge {
    match &plan.rules[rule].eval {
        Eval::Edge(edge) => edge,
        Eval::Steps { .. } => unreachable!("only edges are listed with a leaf"),
    }
}
