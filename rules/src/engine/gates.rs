//! Leaves whose windows count what a gate finds: new patterns, and records that follow one another or do not.

use std::collections::BTreeMap;

use super::Engine;
use super::evidence::Batch;
use super::groups::GroupWindow;
use super::patterns::Counted;
use crate::detect::Wanted;
use crate::detect::miner::News;
use crate::detect::sequence::Sequence;
use crate::labels::Labels;
use crate::matcher::{Matched, Run};
use crate::plan::{Gate, SequenceGate};
use crate::time::Timestamp;
use crate::window::Cell;

impl Engine {
    /// What was made of the pattern of a run's key, for who explains it.
    pub(crate) fn news(&self, leaf: usize, key: &[u8]) -> Option<News> {
        self.state.leaves[leaf].patterns.news(key)
    }

    /// The sequences of a leaf by their keys, for who explains them.
    pub(crate) fn sequences(&self, leaf: usize) -> impl Iterator<Item = (Labels, &Sequence)> {
        self.state.leaves[leaf].iter().filter_map(move |(key, group)| match &group.window {
            GroupWindow::Sequence(sequence) => Some((self.plan.labels(leaf, key), &**sequence)),
            GroupWindow::Counts(_) | GroupWindow::Samples(_) => None,
        })
    }

    /// Takes in the records of a group's pattern, and counts and judges them if it is new; of the past nothing is judged.
    pub(super) fn mine(&mut self, leaf: usize, run: &Run, batch: &mut Batch<'_>, is_past: bool) {
        let plan = self.plan.clone();
        let Some(Gate::NewPattern(config)) = &plan.leaves[leaf].gate else { return };
        let (state, groups_max) = (&mut self.state.leaves[leaf], plan.config.groups_per_rule_max);
        let learns_until = state.since + config.learn;
        let new = state.patterns.observe(run, config, learns_until, groups_max, self.state.clock);
        if let Some(counted) = new {
            self.fold_pattern(leaf, &counted, run, batch, is_past);
        }
    }

    /// Counts a new pattern. `run` is its group's as it was matched.
    fn fold_pattern(&mut self, leaf: usize, counted: &Counted, run: &Run, batch: &mut Batch<'_>, is_past: bool) {
        let plan = self.plan.clone();
        let planned = &plan.leaves[leaf];
        let oldest = self.state.clock - planned.retention;
        let exact = run.is_cut().then(|| batch.exact(&plan, planned.feed));
        let run = exact.as_ref().and_then(|runs| runs.get(&run.key)).unwrap_or(run);
        let is_counted = |at: Timestamp| counted.times.contains(&at) && at > oldest;
        // However late a record comes, it is now that its pattern is withheld.
        let withheld_at = if is_past { run.earliest() } else { self.state.clock };
        let is_any_counted = if counted.as_one { withheld_at > oldest } else { run.times().any(is_counted) };
        if !is_any_counted {
            return;
        }
        let Some((key, group)) = self.group(leaf, &counted.key) else { return };
        let cells_before = group.window.len();
        group.window.evict(oldest);
        match &mut group.window {
            GroupWindow::Counts(window) if counted.as_one => window.insert(Cell { at: withheld_at, weight: 1 }),
            window => window.insert(run, is_counted),
        }
        if is_past {
            self.keep_evidence(leaf, &key, run.last_records(), batch, false);
        } else {
            self.judge(leaf, &key, run, batch, &planned.edges);
        }
        self.compact(leaf, &key, cells_before);
    }

    /// Takes in the records of sequences, both kinds together and in order: of which feed a batch tells first makes no difference.
    pub(super) fn fold_sequences(&mut self, matched: &Matched, batch: &Batch<'_>, is_past: bool) {
        let plan = self.plan.clone();
        for leaf in plan.sequences.iter().copied() {
            let Some(Gate::Sequence(gate)) = &plan.leaves[leaf].gate else { continue };
            if is_past && self.fill.leaves.get(&leaf).is_none_or(|until| *until != Timestamp::MAX) {
                continue; // it has seen the past
            }
            let mut keys: BTreeMap<&[u8], [Option<&Run>; 2]> = BTreeMap::new();
            for (kind, feed) in [plan.leaves[leaf].feed, gate.second].into_iter().enumerate() {
                let runs = matched.feeds.iter().filter(|(other, _)| *other == feed).flat_map(|(_, runs)| runs);
                runs.for_each(|run| keys.entry(&run.key).or_default()[kind] = Some(run));
            }
            for (key, runs) in keys {
                self.fold_sequence(leaf, gate, key, runs, batch, is_past);
            }
        }
    }

    fn fold_sequence(
        &mut self,
        leaf: usize,
        gate: &SequenceGate,
        key: &[u8],
        runs: [Option<&Run>; 2],
        batch: &Batch<'_>,
        is_past: bool,
    ) {
        let oldest = batch.received.at - gate.lookback;
        let Some((_, group)) = self.group(leaf, key) else { return };
        let (cells_before, evidence_before) = (group.window.len(), group.evidence_bytes());
        group.forget(oldest, oldest - gate.pairing.window);
        let evidence_bytes = group.evidence_bytes();
        let GroupWindow::Sequence(sequence) = &mut group.window else { return };
        let cells =
            |kind: usize| runs[kind].into_iter().flat_map(move |run| run.cells.iter().map(move |cell| (*cell, kind)));
        let mut cells: Vec<(Cell, usize)> = cells(0).chain(cells(1)).collect();
        cells.sort_by_key(|(cell, kind)| (cell.at, *kind));
        let mut found = Vec::new();
        for (cell, kind) in cells {
            match (kind, gate.pairing.wanted) {
                // Whether a second one has come to a first that is so late is not known any more.
                (0, Wanted::Without) if cell.at < oldest => {}
                (0, _) => found.extend(sequence.handle_first(cell)),
                _ => found.extend(sequence.handle_second(cell)),
            }
        }
        found.iter().for_each(|cell| sequence.found.insert(*cell));
        let deadline = sequence.deadline().unwrap_or(Timestamp::MAX);
        self.state.evidence_bytes = self.state.evidence_bytes + evidence_bytes - evidence_before;
        let state = &mut self.state.leaves[leaf];
        state.deadline = state.deadline.min(deadline);
        let records = runs.iter().flatten().flat_map(|run| run.last_records());
        self.keep_evidence(leaf, key, records, batch, !found.is_empty());
        if !is_past {
            self.judge_found(leaf, key, &found, Some(batch.received.at));
        }
        self.compact(leaf, key, cells_before);
    }

    /// Finds the first records whose time is over, now that the watermark has passed it.
    pub(super) fn run_deadlines(&mut self) {
        let plan = self.plan.clone();
        for leaf in plan.waiting.iter().copied() {
            let Some(Gate::Sequence(gate)) = &plan.leaves[leaf].gate else { continue };
            let passed = self.state.watermarks[gate.watermark].low() - gate.lateness;
            let waits_until = self.waits_until(gate);
            if self.state.leaves[leaf].deadline.max(waits_until) > passed {
                continue;
            }
            let cells_before = self.state.leaves[leaf].cells;
            let found = self.state.leaves[leaf].handle_passed(passed, waits_until);
            self.cells = self.cells + self.state.leaves[leaf].cells - cells_before;
            for (key, found) in found {
                self.judge_found(leaf, &key, &found, None);
            }
        }
    }

    /// When the watermark passes the next of them.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let next = self.plan.waiting.iter().filter_map(|leaf| {
            let Some(Gate::Sequence(gate)) = &self.plan.leaves[*leaf].gate else { return None };
            let deadline = Some(self.state.leaves[*leaf].deadline).filter(|deadline| *deadline < Timestamp::MAX)?;
            let deadline = deadline.max(self.waits_until(gate));
            Some(self.state.watermarks[gate.watermark].reaches(deadline + gate.lateness))
        });
        next.min()
    }

    fn judge_found(&mut self, leaf: usize, key: &[u8], found: &[Cell], cause: Option<Timestamp>) {
        let plan = self.plan.clone();
        if let Some(earliest) = found.iter().map(|cell| cell.at).min() {
            plan.leaves[leaf].edges.iter().for_each(|rule| self.judge_edge(*rule, key, earliest, cause));
        }
    }
}
