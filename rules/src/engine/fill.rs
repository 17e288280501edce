//! The windows of a rule that is new, filled from what the log still holds of the time before: the rule then judges as if it had
//! always been there.
//!
//! Where that is little it is read into the engine that judges, after [`replace`](Engine::replace). Where it is much, an engine of its own is
//! [filled](Engine::to_fill) aside, by the same code, and goes on reading until it has seen all that the one that judges has; that one is
//! then given the rules, and [adopts](Engine::adopt) the windows. Windows are never merged: each has been filled by one of the two alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::evidence::Batch;
use super::{Engine, LeafState, State};
use crate::matcher::{Matched, Run};
use crate::plan::{Eval, Plan};
use crate::time::{Received, Timestamp};

/// What a change of rules has brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fill {
    /// Leaves that no rule has read before, or none so far back, and up to when they want the past.
    pub(crate) leaves: BTreeMap<usize, Timestamp>,
    /// Rules that were not there before.
    pub(crate) rules: BTreeSet<usize>,
}

impl Engine {
    /// An engine that is to know, from `now` on and of the time before, what the windows of `plan` look at that an engine with the plan
    /// `known` does not know of, as far as they look back no further than so. It judges nothing.
    pub fn to_fill(plan: Arc<Plan>, known: &Plan, looks_back: Duration, now: Timestamp) -> Self {
        let leaves = plan.unknown_leaves(known).into_iter().filter(|leaf| plan.leaves[*leaf].wants() <= looks_back);
        let leaves = leaves.map(|leaf| (leaf, Timestamp::MAX)).collect();
        Self::new(plan, now).with_fill(Fill { leaves, rules: BTreeSet::new() })
    }

    /// Does without the past where it is wanted of a longer time than that: what such a window knows it goes on knowing.
    pub fn forgo_fill_beyond(&mut self, looks_back: Duration) {
        let leaves = &self.plan.leaves;
        self.fill.leaves.retain(|leaf, _| leaves[*leaf].wants() <= looks_back);
    }

    /// After [`replace`](Self::replace): since when the past is wanted, by [`handle_past_batch`](Self::handle_past_batch); `None` where
    /// no window is new, or is to reach further back.
    pub fn fills_since(&self) -> Option<Timestamp> {
        let leaves = self.fill.leaves.keys().map(|leaf| &self.plan.leaves[*leaf]);
        leaves.map(|leaf| self.state.clock - leaf.wants()).min()
    }

    /// Takes in a batch from before the change of rules, in the log's order. It goes into the new windows and is not judged.
    pub fn handle_past_batch(&mut self, matched: &Matched, batch: &[u8], received: impl Into<Received>) {
        let plan = self.plan.clone();
        let mut batch = Batch::new(batch, received.into(), &matched.services);
        self.note_failures(matched);
        for (feed, runs) in &matched.feeds {
            for leaf in &plan.feeds[*feed].leaves {
                let Some(until) = self.fill.leaves.get(leaf).copied() else { continue };
                runs.iter().for_each(|run| match plan.leaves[*leaf].gate {
                    None => self.fold_past(*leaf, until, run, &batch),
                    Some(_) if until == Timestamp::MAX => self.mine(*leaf, run, &mut batch, true),
                    Some(_) => {} // it has seen the past
                });
            }
        }
        self.fold_sequences(matched, &batch, true);
        for watermark in &mut self.state.watermarks {
            // Others are idle, and would take the places of those that are not.
            let active_since = self.state.clock - watermark.idle_timeout();
            let active = matched.sources.iter().filter(|(_, reached)| *reached > active_since);
            active.for_each(|(source, reached)| watermark.handle_source(*source, *reached));
        }
    }

    /// Of an engine [to fill](Self::to_fill): the past is known since `since`; what comes behind is no past, though it is not judged here.
    pub fn handle_past_known(&mut self, since: Timestamp) {
        for leaf in self.fill.leaves.keys() {
            self.state.leaves[*leaf].since = self.state.leaves[*leaf].since.min(since);
        }
    }

    /// Of an engine to fill: something is missing from before `since`, of the past or from behind it.
    pub fn handle_past_hole(&mut self, since: Timestamp) {
        for leaf in self.fill.leaves.keys() {
            self.state.leaves[*leaf].since = self.state.leaves[*leaf].since.max(since);
        }
    }

    /// Moves the clock of an engine to fill on, to when the next batch was received.
    pub fn handle_past_time(&mut self, received: Timestamp) {
        self.state.clock = self.state.clock.max(received);
        self.state.watermarks.iter_mut().for_each(|watermark| watermark.handle_timeout(received));
        self.sweep();
    }

    /// After [`replace`](Self::replace), in the place of [`handle_past_batch`](Self::handle_past_batch): takes over the windows of an engine
    /// that was filled up to now, where they reach further back than what is known here.
    pub fn adopt(&mut self, filled: Self) {
        let places: BTreeMap<String, usize> =
            self.plan.leaves.iter().enumerate().map(|(at, leaf)| (leaf.key.clone(), at)).collect();
        let (plan, mut fill) = (self.plan.clone(), std::mem::take(&mut self.fill));
        self.adopt_failures(&filled, &fill.rules);
        if let Some(widest) = filled.state.watermarks.iter().max_by_key(|watermark| watermark.idle_timeout()) {
            self.state.watermarks.iter_mut().for_each(|watermark| watermark.adopt_sources(widest));
        }
        let (from, filled_leaves) = (filled.plan, filled.fill.leaves);
        let mut adopted = Vec::new();
        for (leaf, state) in filled.state.leaves.into_iter().enumerate() {
            let place = places.get(&from.leaves[leaf].key).filter(|_| filled_leaves.contains_key(&leaf));
            let Some(at) = place.copied() else { continue };
            // What a gate has learned may be more than the log tells.
            let reaches_further = plan.leaves[at].gate.is_none() && state.since < self.state.leaves[at].since;
            if fill.leaves.remove(&at) == Some(Timestamp::MAX) || reaches_further {
                let known = std::mem::replace(&mut self.state.leaves[at], state.retained_for(&plan.leaves[at]));
                self.state.leaves[at].keep_looked_at(known);
                adopted.push(at);
            }
        }
        self.forget_evidence(&adopted);
        let state = std::mem::replace(&mut self.state, State::new(&plan, Timestamp::default()));
        let outputs = std::mem::take(&mut self.outputs);
        *self = Self { outputs, ..Self::with_state(plan, state).with_fill(fill) };
        adopted.into_iter().for_each(|leaf| self.evict(leaf));
    }

    /// Of before the windows' time: it depends on how far back was read whether that was seen.
    fn forget_evidence(&mut self, leaves: &[usize]) {
        for leaf in leaves {
            self.state.leaves[*leaf].forget_evidence(&self.plan.leaves[*leaf], self.state.clock);
        }
        self.state.evidence_bytes = self.state.leaves.iter().map(LeafState::evidence_bytes).sum();
    }

    fn adopt_failures(&mut self, filled: &Self, new: &BTreeSet<usize>) {
        let places: BTreeMap<&str, usize> =
            filled.plan.rules.iter().enumerate().map(|(at, rule)| (rule.key.as_str(), at)).collect();
        for rule in new {
            if let Some(at) = places.get(self.plan.rules[*rule].key.as_str()) {
                self.state.rules[*rule].adopt_failure(&filled.state.rules[*at]);
            }
        }
    }

    /// Ends the filling: the past is known since `since`. Until a new window's range has passed since then it is warming, and no absence
    /// is told by it. A new rule whose condition holds now begins to hold now.
    pub fn handle_filled(&mut self, since: Timestamp) {
        let fill = std::mem::take(&mut self.fill);
        for leaf in fill.leaves.keys() {
            self.state.leaves[*leaf].since = self.state.leaves[*leaf].since.min(since);
        }
        let filled: Vec<usize> = fill.leaves.into_keys().collect();
        self.forget_evidence(&filled);
        filled.into_iter().for_each(|leaf| self.evict(leaf)); // as where they are adopted
        self.run_deadlines();
        fill.rules.into_iter().for_each(|rule| self.judge_now(rule));
    }

    fn fold_past(&mut self, leaf: usize, until: Timestamp, run: &Run, batch: &Batch<'_>) {
        let plan = self.plan.clone();
        let planned = &plan.leaves[leaf];
        let oldest = self.state.clock - planned.retention;
        let is_wanted = |at: Timestamp| at > oldest && at <= until;
        if !run.times().any(is_wanted) {
            return;
        }
        let Some((key, group)) = self.group(leaf, &run.key) else { return };
        let cells_before = group.window.len();
        group.window.insert(run, is_wanted);
        if until == Timestamp::MAX {
            self.keep_evidence(leaf, &key, run.last_records(), batch, false); // a leaf that was there has later ones
        }
        self.compact(leaf, &key, cells_before);
    }

    fn judge_now(&mut self, rule: usize) {
        let Eval::Edge(edge) = &self.plan.rules[rule].eval else { return };
        let groups = self.state.leaves[edge.terms[0].leaf].iter();
        let keys: Vec<Box<[u8]>> = groups.map(|(key, _)| key.into()).collect();
        keys.iter().for_each(|key| self.judge_edge(rule, key, self.state.clock, None));
    }
}
