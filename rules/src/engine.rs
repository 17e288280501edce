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
use crate::window::Cell;
use alerts::Observation;
use evidence::Batch;

pub(crate) use alerts::RuleState;
pub(crate) use groups::LeafState;

pub use status::{Health, RuleStatus};

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
    outputs: VecDeque<Output>,
}

/// All that the future depends on; parallel to the plan's leaves and rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) clock: Timestamp,
    pub(crate) watermark: Watermark,
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
            watermark: Watermark::new(now, plan.config.idle_timeout),
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

    pub(crate) fn outputs_mut(&mut self) -> &mut VecDeque<Output> {
        &mut self.outputs
    }

    pub(crate) fn with_state(plan: Arc<Plan>, state: State) -> Self {
        let mut engine = Self { plan, state, timers: BTreeSet::new(), outputs: VecDeque::new() };
        engine.arm_all();
        engine
    }

    /// Takes in a batch, in the log's order. `matched` is what its plan made of it, `received` its frame's receive time.
    pub fn handle_batch(&mut self, matched: Matched, batch: &[u8], received: Timestamp) {
        self.handle_timeout(received);
        let plan = self.plan.clone();
        let batch = Batch { bytes: batch, received, services: &matched.services };
        for (feed, runs) in &matched.feeds {
            for leaf in &plan.feeds[*feed].leaves {
                runs.iter().for_each(|run| self.fold(*leaf, run, &batch));
            }
        }
        for (source, reached) in &matched.sources {
            self.state.watermark.handle_source(*source, *reached);
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
        let now = self.state.clock;
        let Some(group) = self.state.leaves[leaf].group(&plan, planned, &run.key) else { return };
        group.window.evict(now - planned.retention);
        let may_cross = planned.edges.iter().any(|rule| edge(&plan, *rule).holds(group.window.sum() + run.weight));
        let exact =
            (run.merged && may_cross).then(|| plan.rematch(batch.bytes, batch.received, planned.feed, &run.key));
        let cells = exact.flatten().map_or_else(|| run.cells.clone(), |run| run.cells);
        cells.iter().for_each(|cell| group.window.insert(*cell, planned.range));
        group.evidence.keep(run, batch, planned.samples, &plan.config);
        if may_cross {
            let key = group.key.clone();
            planned.edges.iter().for_each(|rule| self.judge_edge(*rule, leaf, &key, &cells, batch.received));
        }
    }

    /// Looks for the first time at which the condition holds thanks to the new cells.
    fn judge_edge(&mut self, rule: usize, leaf: usize, key: &[u8], cells: &[Cell], received: Timestamp) {
        let plan = self.plan.clone();
        let (edge, range, now) = (edge(&plan, rule), plan.leaves[leaf].range, self.state.clock);
        let Some(group) = self.state.leaves[leaf].get(key) else { return };
        let known = self.state.rules[rule].alerts.get(&group.labels);
        if known.is_some_and(|entry| entry.phase.until > now) {
            return; // it holds anyhow; how long is looked at when that time is over
        }
        let from = cells[0].at.max(now - plan.rules[rule].lateness);
        let Some((at, sum)) = group.window.first_holding(from, now, range, |sum| edge.holds(sum)) else { return };
        let until = group.window.falls_at(at, range, |sum| edge.holds(sum));
        let labels = group.labels.clone();
        let value = edge.scale.value(sum);
        let seen = Observation { held: at..until, judged: now, value, group: Some(key), cause: Some(received) };
        self.raise(rule, &labels, &seen);
    }
}

/// The edge of a rule that is listed with a leaf's edges.
fn edge(plan: &Plan, rule: usize) -> &Edge {
    match &plan.rules[rule].eval {
        Eval::Edge(edge) => edge,
        Eval::Steps { .. } => unreachable!("only edges are listed with a leaf"),
    }
}
