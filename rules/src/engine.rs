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
mod gaps;
mod gates;
mod groups;
mod patterns;
mod status;
mod steps;

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::matcher::{Matched, RecordRef, Run};
use crate::plan::{Edge, Eval, Plan, Reads, Term};
use crate::time::{Received, Timestamp};
use crate::transition::{Sample, Transition};
use crate::watermark::Watermark;
use crate::window::{Furthest, Part, Terms};
use alerts::Observation;
use evidence::{Batch, Evidence};
use gaps::HiddenUntil;

pub(crate) use alerts::RuleState;
pub(crate) use fill::Fill;
use groups::Group;
pub(crate) use groups::{GroupWindow, LeafState};

pub use gaps::{GAP_MIN, GAPS_MAX, Gap};
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
#[derive(Clone, Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    state: State,
    timers: BTreeSet<(Timestamp, Due)>,
    /// How many cells all windows have.
    cells: usize,
    /// How many groups have one.
    groups: usize,
    /// By rule.
    hidden_until: Vec<HiddenUntil>,
    /// What is to be filled from the log.
    fill: Fill,
    outputs: VecDeque<Output>,
    /// How often a rule was evaluated at a step.
    evaluations: u64,
    /// Whether steps at which nothing changes are passed over: else they are taken one by one, with the same outcome.
    leaps: bool,
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
    /// When nobody listened, oldest first.
    pub(crate) gaps: VecDeque<Gap>,
}

impl State {
    fn new(plan: &Plan, now: Timestamp) -> Self {
        Self {
            clock: now,
            watermarks: plan.idle_timeouts.iter().map(|idle_timeout| Watermark::new(now, *idle_timeout)).collect(),
            evidence_bytes: 0,
            leaves: plan.leaves.iter().map(|leaf| LeafState::new(leaf, now)).collect(),
            rules: plan.rules.iter().map(|rule| RuleState::new(rule, now)).collect(),
            gaps: VecDeque::new(),
        }
    }
}

/// What is due at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// An alert of a rule may change.
    Alert(usize, Labels),
    /// A rule's `ALERTS` are to be sampled.
    Sample(usize),
}

/// A rule, a group's key, and from when on it is to be judged.
type ToJudge = (usize, Box<[u8]>, Timestamp);

impl Engine {
    /// An engine that has seen nothing before `now`.
    pub fn new(plan: Arc<Plan>, now: Timestamp) -> Self {
        let state = State::new(&plan, now);
        Self::with_state(plan, state)
    }

    /// The same, taking one by one also the steps at which nothing changes: what it says is the same, as tests see to.
    pub fn without_leaps(self) -> Self {
        Self { leaps: false, ..self }
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
        let cells = state.leaves.iter().map(|leaf| leaf.cells).sum();
        let groups = state.leaves.iter().map(LeafState::len).sum();
        let (timers, hidden_until) = (BTreeSet::new(), Vec::new());
        let (fill, outputs) = (Fill::default(), VecDeque::new());
        let (evaluations, leaps) = (0, true);
        let mut engine = Self { plan, state, timers, cells, groups, hidden_until, fill, outputs, evaluations, leaps };
        engine.count_alerts();
        engine.look_at_gaps();
        engine.arm_all();
        engine
    }

    /// Takes in a batch, in the log's order. `matched` is what the plan made of it, `received` when its frame was. What another
    /// plan made of it (the rules were replaced meanwhile) is made anew.
    pub fn handle_batch(&mut self, matched: Matched, batch: &[u8], received: impl Into<Received>) {
        let received = received.into();
        self.handle_timeout(received.at);
        let plan = self.plan.clone();
        let matched = if matched.plan == plan.id { matched } else { plan.match_batch(batch, received) };
        let mut batch = Batch::new(batch, received, &matched.services);
        self.sweep();
        self.note_failures(&matched);
        let mut sums = Vec::new();
        for (feed, runs) in &matched.feeds {
            for leaf in &plan.feeds[*feed].leaves {
                runs.iter().for_each(|run| match plan.leaves[*leaf].gate {
                    None => self.fold(*leaf, run, &mut batch, &mut sums),
                    Some(_) => self.mine(*leaf, run, &mut batch, false),
                });
            }
        }
        self.judge_sums(sums, received.at);
        self.fold_sequences(&matched, &batch, false);
        for watermark in &mut self.state.watermarks {
            matched.sources.iter().for_each(|(source, reached)| watermark.handle_source(*source, *reached));
        }
        self.follow_watermark();
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
        self.follow_watermark();
    }

    /// Looks for what can only be told when no record can change it any more.
    fn follow_watermark(&mut self) {
        self.state.watermarks.iter_mut().for_each(|watermark| watermark.handle_timeout(self.state.clock));
        self.run_deadlines();
        self.run_steps();
    }

    /// When the clock has to be moved on if no batch comes before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(time, _)| *time);
        timer.into_iter().chain(self.next_step()).chain(self.next_deadline()).min()
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

    /// Adds what fell into one group to its window, and judges the rules that a record can make true; those that read several leaves are
    /// for later.
    fn fold(&mut self, leaf: usize, run: &Run, batch: &mut Batch<'_>, sums: &mut Vec<ToJudge>) {
        let plan = self.plan.clone();
        let planned = &plan.leaves[leaf];
        let oldest = self.state.clock - planned.retention;
        let Some((key, group)) = self.group(leaf, &run.key) else { return };
        let cells_before = group.window.len();
        group.window.evict(oldest);
        let may_hold = |rule: &usize| {
            let edge = edge(&plan, *rule);
            self.furthest(edge, leaf, &key, run).is_some_and(|value| edge.holds(value))
        };
        let rules: Vec<usize> = planned.edges.iter().copied().filter(may_hold).collect();
        let may_cross = rules.iter().any(|rule| !self.holds(*rule, leaf, &key));
        let exact = (run.is_cut() && may_cross).then(|| batch.exact(&plan, planned.feed));
        let run = exact.as_ref().and_then(|runs| runs.get(&run.key)).unwrap_or(run);
        let Some(group) = self.state.leaves[leaf].get_mut(&key) else { return };
        group.window.insert(run, |_| true);
        if may_cross {
            self.judge(leaf, &key, run, batch, &rules);
        } else {
            self.keep_evidence(leaf, &key, run.last_records(), batch, false);
        }
        let of_several = rules.into_iter().filter(|rule| edge(&plan, *rule).terms.len() > 1);
        sums.extend(of_several.map(|rule| (rule, (*key).into(), run.earliest())));
        self.compact(leaf, &key, cells_before);
    }

    /// The group of that key, made if it is new. Where there are too many, the overflow group; without grouping none.
    fn group<'k>(&mut self, leaf: usize, key: &'k [u8]) -> Option<(Cow<'k, [u8]>, &mut Group)> {
        let key = if self.state.leaves[leaf].get(key).is_some() { key.into() } else { self.make_group(leaf, key)? };
        let group = self.state.leaves[leaf].get_mut(&key)?;
        Some((key, group))
    }

    fn make_group<'k>(&mut self, leaf: usize, key: &'k [u8]) -> Option<Cow<'k, [u8]>> {
        let config = &self.plan.config;
        let state = &mut self.state.leaves[leaf];
        let before = state.len();
        let share = (config.groups_max / self.plan.leaves.len()).max(1);
        let has_room = before < config.groups_per_rule_max && (self.groups < config.groups_max || before < share);
        let key = state.make(&self.plan, &self.plan.leaves[leaf], key, has_room, self.state.clock)?;
        self.groups += state.len() - before;
        Some(key)
    }

    /// Remembers which rules have records in their windows on which a stage failed, and which are not counted for that.
    fn note_failures(&mut self, matched: &Matched) {
        for (filter, failure) in &matched.failures {
            for (rule, range) in &self.plan.filters[*filter].readers {
                self.state.rules[*rule].note_failure(failure, *range);
            }
        }
    }

    /// Judges the rules that read this leaf alone, in the order in which they cross their bounds: what is kept as evidence for each are the
    /// records up to its crossing.
    fn judge(&mut self, leaf: usize, key: &[u8], run: &Run, batch: &Batch<'_>, rules: &[usize]) {
        let plan = self.plan.clone();
        let of_one = rules.iter().filter(|rule| edge(&plan, **rule).terms.len() == 1);
        let crossing = |rule: &usize| Some((self.crossing(*rule, key, run.earliest())?.0, *rule));
        let mut crossings: Vec<(Timestamp, usize)> = of_one.filter_map(crossing).collect();
        crossings.sort_unstable();
        let mut records: Vec<&RecordRef> = run.last_records().collect();
        records.sort_by_key(|record| record.at);
        let mut rest = &records[..];
        for (at, rule) in crossings {
            let (before, after) = rest.split_at(rest.partition_point(|record| record.at <= at));
            self.keep_evidence(leaf, key, before.iter().copied(), batch, true);
            self.judge_edge(rule, key, run.earliest(), Some(batch.received.at));
            rest = after;
        }
        self.keep_evidence(leaf, key, rest.iter().copied(), batch, true);
    }

    /// Judges sums, when all that they read has come in.
    fn judge_sums(&mut self, mut sums: Vec<ToJudge>, received: Timestamp) {
        sums.sort();
        sums.dedup_by(|later, first| (later.0, &later.1) == (first.0, &first.1));
        for (rule, key, earliest) in sums {
            self.judge_edge(rule, &key, earliest, Some(received));
        }
    }

    /// A value that no time goes beyond, `run` being about to come into the window of `leaf`; `None` where a window is missing.
    fn furthest(&self, edge: &Edge, leaf: usize, key: &[u8], run: &Run) -> Option<f64> {
        let furthest = |term: &Term| {
            let is_new = term.leaf == leaf;
            let group = self.state.leaves[term.leaf].get(key);
            match (term.reads, &group?.window) {
                (Reads::Count { divisor }, GroupWindow::Counts(window)) => {
                    Some((window.sum() + if is_new { run.weight } else { 0 }) as f64 / divisor)
                }
                (Reads::Over(_), GroupWindow::Samples(window)) => {
                    let new = run.samples.iter().map(|sample| sample.value).filter(|_| is_new);
                    let known = window.furthest(|a, b| edge.furthest(a, b));
                    new.chain(known).reduce(|a, b| edge.furthest(a, b))
                }
                _ => None,
            }
        };
        edge.formula.value(&|term| furthest(&edge.terms[term]))
    }

    /// The windows that an edge reads, of one group; `None` where one is missing.
    fn terms<'a>(&'a self, edge: &'a Edge, key: &[u8]) -> Option<Terms<'a>> {
        let part = |term: &'a Term| {
            let range = self.plan.leaves[term.leaf].range;
            match (&term.reads, &self.state.leaves[term.leaf].get(key)?.window) {
                (Reads::Count { divisor }, window) => {
                    Some(Part::Count { window: window.counts()?, range, divisor: *divisor })
                }
                (Reads::Over(function), window) => {
                    let summaries = window.samples()?.summed()?;
                    Some(Part::Over { summaries, range, furthest: Furthest::of(function)? })
                }
            }
        };
        let parts = edge.terms.iter().map(part).collect::<Option<_>>()?;
        Some(Terms { parts, formula: &edge.formula })
    }

    fn compact(&mut self, leaf: usize, key: &[u8], cells_before: usize) {
        let is_over_budget = self.cells > self.plan.config.window_cells_max;
        let state = &mut self.state.leaves[leaf];
        let Some(group) = state.get_mut(key) else { return };
        let planned = &self.plan.leaves[leaf];
        group.window.compact(planned.retention, planned.cells_max, is_over_budget);
        let len = group.window.len();
        state.cells = state.cells + len - cells_before;
        self.cells = self.cells + len - cells_before;
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
        let state = &mut self.state.leaves[leaf];
        self.cells -= state.cells;
        self.groups -= state.len();
        self.state.evidence_bytes -= state.evict(&self.plan.leaves[leaf], self.state.clock);
        self.cells += state.cells;
        self.groups += state.len();
    }

    fn keep_evidence<'r>(
        &mut self,
        leaf: usize,
        key: &[u8],
        records: impl Iterator<Item = &'r RecordRef> + Clone,
        batch: &Batch<'_>,
        may_cross: bool,
    ) {
        let (config, samples) = (&self.plan.config, self.plan.leaves[leaf].samples);
        let Some(group) = self.state.leaves[leaf].get_mut(key) else { return };
        let before = group.evidence_bytes();
        let may_keep = may_cross || group.alerts() > 0 || self.state.evidence_bytes < config.evidence_bytes_max;
        if may_keep && samples > 0 {
            group.edit_extras(|extras| extras.evidence.keep(records, batch, samples, config));
        } else if !may_keep && before > 0 {
            group.edit_extras(|extras| extras.evidence = Evidence::default());
        }
        self.state.evidence_bytes = self.state.evidence_bytes + group.evidence_bytes() - before;
    }

    /// Whether the rule's alert for that group is known to hold beyond the clock.
    fn holds(&self, rule: usize, leaf: usize, key: &[u8]) -> bool {
        let alerts = &self.state.rules[rule].alerts;
        if alerts.is_empty() {
            return false;
        }
        let entry = alerts.get(&edge(&self.plan, rule).labels(self.plan.labels(leaf, key)));
        entry.is_some_and(|entry| entry.phase.until > self.state.clock)
    }

    /// When the condition begins to hold thanks to new cells, the first of them at `earliest`, and the value then; `None` where it is known to hold.
    fn crossing(&self, rule: usize, key: &[u8], earliest: Timestamp) -> Option<(Timestamp, f64)> {
        let (edge, now) = (edge(&self.plan, rule), self.state.clock);
        if self.holds(rule, edge.terms[0].leaf, key) {
            return None; // how much longer is looked at when that time is over
        }
        let from = earliest.max(now - self.plan.rules[rule].lateness);
        self.terms(edge, key)?.first_holding(from, now, |value| edge.holds(value))
    }

    /// Looks for the times at which the condition holds thanks to new cells, the first of them at `earliest`. `cause` is the receive time of
    /// the batch that brought them.
    fn judge_edge(&mut self, rule: usize, key: &[u8], earliest: Timestamp, cause: Option<Timestamp>) {
        let plan = self.plan.clone();
        let (edge, now) = (edge(&plan, rule), self.state.clock);
        let leaf = edge.terms[0].leaf;
        let mut from = earliest;
        while from <= now {
            let Some((at, value)) = self.crossing(rule, key, from) else { return };
            let Some(terms) = self.terms(edge, key) else { return };
            let until = terms.falls_at(at, |value| edge.holds(value));
            let labels = edge.labels(plan.labels(leaf, key));
            let group = edge.furthest_of.is_none().then_some(key);
            let seen = Observation { held: at..until, judged: now, value, group, cause };
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
