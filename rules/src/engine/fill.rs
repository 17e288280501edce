//! The windows of a rule that is new, filled from what the log still holds of the time before: the rule then judges as if it had
//! always been there.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use super::evidence::Batch;
use crate::matcher::{Matched, Run};
use crate::plan::Eval;
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
            matched.sources.iter().for_each(|(source, reached)| watermark.handle_source(*source, *reached));
        }
    }

    /// Ends the filling: the past is known since `since`. Until a new window's range has passed since then it is warming, and no absence
    /// is told by it. A new rule whose condition holds now begins to hold now.
    pub fn handle_filled(&mut self, since: Timestamp) {
        let fill = std::mem::take(&mut self.fill);
        for leaf in fill.leaves.into_keys() {
            self.state.leaves[leaf].since = self.state.leaves[leaf].since.min(since);
        }
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
