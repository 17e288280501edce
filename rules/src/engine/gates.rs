//! Leaves whose windows count what a gate finds: new patterns, and records that follow one another or do not.

use std::ops::Range;

use super::Engine;
use super::evidence::Batch;
use super::groups::GroupWindow;
use crate::detect::Wanted;
use crate::matcher::Run;
use crate::plan::{Gate, Plan, SequenceGate};
use crate::time::Timestamp;
use crate::window::Cell;

impl Engine {
    /// Takes in what fell into one group of a feed, and judges what the gate finds; of the past nothing is judged.
    pub(super) fn pass_gate(&mut self, leaf: usize, feed: usize, run: &Run, batch: &mut Batch<'_>, is_past: bool) {
        let plan = self.plan.clone();
        match &plan.leaves[leaf].gate {
            Some(Gate::NewPattern(config)) => {
                let groups_max = plan.config.groups_per_rule_max;
                let new = self.state.leaves[leaf].patterns.observe(run, config, groups_max, self.state.clock);
                if let Some((key, is_new)) = new {
                    self.fold_pattern(leaf, &key, is_new, run, batch, is_past);
                }
            }
            Some(Gate::Sequence(gate)) => self.fold_sequence(leaf, gate, feed, run, batch, is_past),
            None => {}
        }
    }

    /// Counts the records of a new pattern. `run` is the group's as it was matched, `key` the one that is told.
    fn fold_pattern(
        &mut self,
        leaf: usize,
        key: &[u8],
        is_new: Range<Timestamp>,
        run: &Run,
        batch: &mut Batch<'_>,
        is_past: bool,
    ) {
        let plan = self.plan.clone();
        let planned = &plan.leaves[leaf];
        let oldest = self.state.clock - planned.retention;
        let exact = run.is_cut().then(|| batch.exact(&plan, planned.feed));
        let run = exact.as_ref().and_then(|runs| runs.get(&run.key)).unwrap_or(run);
        let is_counted = |at: Timestamp| is_new.contains(&at) && at > oldest;
        if !run.times().any(is_counted) {
            return;
        }
        let Some(group) = self.group(leaf, key) else { return };
        let (key, cells_before) = (group.key.clone(), group.window.len());
        group.window.evict(oldest);
        group.window.insert(run, is_counted);
        if is_past {
            self.keep_evidence(leaf, &key, run.last_records(), batch, false);
        } else {
            self.judge(leaf, &key, run, batch, &planned.edges);
        }
        self.compact(leaf, &key, cells_before);
    }

    fn fold_sequence(
        &mut self,
        leaf: usize,
        gate: &SequenceGate,
        feed: usize,
        run: &Run,
        batch: &mut Batch<'_>,
        is_past: bool,
    ) {
        let (plan, received) = (self.plan.clone(), batch.received);
        let oldest = received - gate.lookback;
        let Some(group) = self.group(leaf, &run.key) else { return };
        let (key, cells_before) = (group.key.clone(), group.window.len());
        let GroupWindow::Sequence(sequence) = &mut group.window else { return };
        sequence.forget(oldest);
        // Whether a second one has come to a first that is so late is not known any more.
        let is_known = |cell: &&Cell| gate.pairing.wanted == Wanted::Then || cell.at >= oldest;
        let found: Vec<Cell> = match feed == plan.leaves[leaf].feed {
            true => run.cells.iter().filter(is_known).flat_map(|cell| sequence.handle_first(*cell)).collect(),
            false => run.cells.iter().flat_map(|cell| sequence.handle_second(*cell)).collect(),
        };
        found.iter().for_each(|cell| sequence.found.insert(*cell));
        let deadline = sequence.deadline().unwrap_or(Timestamp::MAX);
        let state = &mut self.state.leaves[leaf];
        state.deadline = state.deadline.min(deadline);
        self.keep_evidence(leaf, &key, run.last_records(), batch, !found.is_empty());
        if !is_past {
            self.judge_found(&plan, leaf, &key, &found, Some(received));
        }
        self.compact(leaf, &key, cells_before);
    }

    /// Finds the first records whose time is over, now that the watermark has passed it.
    pub(super) fn run_deadlines(&mut self) {
        let plan = self.plan.clone();
        for leaf in plan.waiting.iter().copied() {
            let Some(Gate::Sequence(gate)) = &plan.leaves[leaf].gate else { continue };
            let passed = self.state.watermarks[gate.watermark].low() - gate.lateness;
            if self.state.leaves[leaf].deadline > passed {
                continue;
            }
            let cells_before = self.state.leaves[leaf].cells;
            let found = self.state.leaves[leaf].handle_passed(passed);
            self.cells = self.cells + self.state.leaves[leaf].cells - cells_before;
            for (key, found) in found {
                self.judge_found(&plan, leaf, &key, &found, None);
            }
        }
    }

    /// When the watermark passes the next of them.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let next = self.plan.waiting.iter().filter_map(|leaf| {
            let Some(Gate::Sequence(gate)) = &self.plan.leaves[*leaf].gate else { return None };
            let deadline = Some(self.state.leaves[*leaf].deadline).filter(|deadline| *deadline < Timestamp::MAX)?;
            Some(self.state.watermarks[gate.watermark].reaches(deadline + gate.lateness))
        });
        next.min()
    }

    fn judge_found(&mut self, plan: &Plan, leaf: usize, key: &[u8], found: &[Cell], cause: Option<Timestamp>) {
        if let Some(earliest) = found.iter().map(|cell| cell.at).min() {
            plan.leaves[leaf].edges.iter().for_each(|rule| self.judge_edge(*rule, key, earliest, cause));
        }
    }
}
