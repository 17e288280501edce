//! Times in which nobody listened: the collector was away. Records of them may come late, or never, so that their silence tells nothing.
//!
//! - A rule that can be deceived by records that are missing (its [`Doubt`]s) begins no new alert while gaps hide more of its windows than
//!   it can do without, all of them together, nor at any time within a gap.
//! - Alerts that there were are held as long: they neither end nor go on from pending to firing for what is missing. An absence or a
//!   count that was too low does end when a record of it comes. What records can only raise is judged as ever, but does not end either.
//! - The time away does not count for `for`: a pending alert's beginning moves on by it, as Prometheus does at its restart; but not by
//!   what is known of it, as the windows of a rule that is judged at the record reach into the gap.
//! - A `sequence ... without` whose time ran out in the gap, or soon after, waits for as long after the gap as the gap hid of it at most.
//! - Neither does it count as the time after which a pattern is new again, nor as time to learn.
//! - Who was back for a moment only has heard nothing: the gap goes on.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Engine, State};
use crate::alert::Phase;
use crate::labels::Labels;
use crate::plan::{Doubt, Eval, Gate, Need, STEP, SequenceGate};
use crate::time::Timestamp;
use crate::transition::AlertState;

/// Times away that are remembered. At the limit the two that are nearest to each other are taken for one, and what is missing from them for
/// spread over it.
pub const GAPS_MAX: usize = 32;

/// Who was away for no longer is not said to have been: what comes so late is waited for anyway, by the default `lateness`. Nor has who was
/// back for less been back.
pub const GAP_MIN: Duration = Duration::from_secs(5);

/// A window is as good as whole where no more than this part of it is hidden.
const PARTS: u32 = 100;

/// A time in which nobody listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last time that is known of before.
    pub from: Timestamp,
    /// From when on there was somebody again.
    pub until: Timestamp,
    /// For how long of that nobody listened: all of it, unless several were taken for one.
    pub missing: Duration,
}

impl Gap {
    fn new(from: Timestamp, until: Timestamp) -> Self {
        Self { from, until, missing: until.since(from) }
    }

    /// Whether it is one, and no short break that what comes late bridges.
    fn is_long(&self) -> bool {
        self.missing > GAP_MIN
    }

    /// Whether so long a time is not as good as known though this is missing from it.
    fn hides(&self, range: Duration) -> bool {
        self.missing > range / PARTS
    }

    /// Since when so much of it was missing.
    fn since(&self, missing: Duration) -> Timestamp {
        let nanos = missing.as_nanos() * self.until.since(self.from).as_nanos() / self.missing.as_nanos().max(1);
        self.until - Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Until when gaps that there were hide anything of what a rule looks at: by its doubts, and by its endings.
#[derive(Clone, Copy, Debug)]
pub(super) struct HiddenUntil {
    doubts: Timestamp,
    endings: Timestamp,
}

impl Engine {
    /// Nobody listened from `from` until `until`, which is now. Comes in the place of [`handle_timeout`](Self::handle_timeout).
    pub fn handle_gap(&mut self, from: Timestamp, until: Timestamp) {
        let new = remember(&mut self.state.gaps, from, until);
        self.look_at_gaps();
        if let Some(new) = new {
            self.let_patterns_age(new);
            self.let_pending_wait(new);
            self.arm_all();
        }
        self.handle_timeout(until);
    }

    /// The last time that nobody listened.
    pub fn last_gap(&self) -> Option<Gap> {
        self.state.gaps.iter().rev().find(|gap| gap.is_long()).copied()
    }

    fn let_pending_wait(&mut self, gap: Gap) {
        for (planned, rule) in self.plan.rules.iter().zip(&mut self.state.rules) {
            let pending = rule.alerts.values_mut().filter(|entry| entry.phase.state == AlertState::Pending);
            for Phase { active_at, until, .. } in pending.map(|entry| &mut entry.phase) {
                let known = match planned.eval {
                    Eval::Edge(_) => (*until).clamp(gap.from, gap.until),
                    Eval::Steps { .. } => gap.from,
                };
                *active_at = *active_at + gap.until.since(known);
            }
        }
    }

    fn let_patterns_age(&mut self, gap: Gap) {
        let State { leaves, .. } = &mut self.state;
        for (planned, leaf) in self.plan.leaves.iter().zip(leaves) {
            let Some(Gate::NewPattern(config)) = &planned.gate else { continue };
            leaf.patterns.handle_gap(gap.missing);
            if gap.from < leaf.since + config.learn {
                leaf.since = leaf.since + gap.missing;
            }
        }
    }

    /// Looks up to when gaps matter to each rule: it is asked for at each batch, of all rules.
    pub(super) fn look_at_gaps(&mut self) {
        let until =
            |rule, doubts: &[Doubt]| self.hidden(rule, doubts).map(|(_, until)| until).max().unwrap_or(Timestamp::MIN);
        let rules = self.plan.rules.iter().enumerate();
        let hidden_until =
            rules.map(|(at, rule)| HiddenUntil { doubts: until(at, &rule.doubts), endings: until(at, &rule.endings) });
        self.hidden_until = hidden_until.collect();
    }

    /// Until when a rule that is judged at `time` begins no new alert, because gaps hide what it looks at.
    pub(super) fn is_blind_until(&self, rule: usize, time: Timestamp) -> Option<Timestamp> {
        let may_be = time < self.hidden_until[rule].doubts;
        may_be.then(|| self.is_hidden_until(rule, &self.plan.rules[rule].doubts, time)).flatten()
    }

    /// Whether a rule that is judged at `time` ends no alert, because gaps hide what it looks at.
    pub(super) fn holds_alerts(&self, rule: usize, time: Timestamp) -> bool {
        let may_be = time < self.hidden_until[rule].endings;
        may_be && self.is_hidden_until(rule, &self.plan.rules[rule].endings, time).is_some()
    }

    fn is_hidden_until(&self, rule: usize, doubts: &[Doubt], time: Timestamp) -> Option<Timestamp> {
        let hiding = self.hidden(rule, doubts).filter(|(from, until)| *from < time && time < *until);
        hiding.map(|(_, until)| until).max()
    }

    /// From when on no gap that there was hides anything that a rule looks at.
    pub(super) fn sees_at(&self, rule: usize) -> Timestamp {
        self.hidden_until[rule].endings
    }

    /// The times at which windows of a rule miss what is needed of them.
    pub(super) fn hidden(&self, rule: usize, doubts: &[Doubt]) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let planned = &self.plan.rules[rule];
        // What was not judged yet when the collector went away still waited for records.
        let waiting = planned.lateness + self.plan.idle_timeouts[planned.watermark] + STEP;
        let is_within = !doubts.is_empty() && matches!(planned.eval, Eval::Steps { .. });
        let gaps = self.state.gaps.iter().enumerate().filter(|(_, gap)| gap.is_long());
        gaps.flat_map(move |(at, gap)| {
            let up_to_this = self.state.gaps.range(..=at);
            let of_window = move |doubt: &Doubt| {
                let end = ends(up_to_this.clone(), self.plan.leaves[doubt.leaf].range, doubt.need)?;
                Some((gap.from - waiting + doubt.offset, end + doubt.offset))
            };
            doubts.iter().filter_map(of_window).chain(is_within.then_some((gap.from, gap.until)))
        })
    }

    /// Whether a record that came since the last gap began, and is in the window of `time`, tells that an alert of an absence, or of too few
    /// records, has ended.
    pub(super) fn is_back(&self, rule: usize, labels: &Labels, time: Timestamp) -> bool {
        let (doubts, Some(gap)) = (&self.plan.rules[rule].doubts, self.last_gap()) else { return false };
        let labels = &self.plan.rules[rule].element(labels);
        let is_of_presence = doubts.iter().all(|doubt| doubt.need == Need::Presence);
        is_of_presence
            && doubts.iter().any(|doubt| {
                let end = time - doubt.offset;
                let range = self.plan.leaves[doubt.leaf].range.min(end.since(gap.from));
                let feed = self.plan.feed_of(doubt.leaf);
                self.state.leaves[doubt.leaf].iter().any(|(key, group)| {
                    let is_behind = feed.has_all(key, labels) || feed.is_within(key, labels);
                    is_behind && group.window.has_records(end, range)
                })
            })
    }

    /// Before when no first record of a sequence has waited in vain, because a gap hides whether a second one came.
    pub(super) fn waits_until(&self, gate: &SequenceGate) -> Timestamp {
        let within = gate.pairing.within;
        let hiding = self.state.gaps.iter().filter(|gap| gap.is_long() && gap.hides(within));
        hiding.map(|gap| gap.until + gap.missing.min(within)).max().unwrap_or(Timestamp::MIN)
    }
}

/// When a window of that range no longer misses what is needed of it, by the last of these gaps and those before; `None` where at the end of
/// the last it did not.
fn ends<'a>(gaps: impl DoubleEndedIterator<Item = &'a Gap> + Clone, range: Duration, need: Need) -> Option<Timestamp> {
    let until = gaps.clone().next_back()?.until;
    let part = if need == Need::Half { range / 2 } else { range / PARTS };
    let too_much_since = newest(gaps, part).filter(|since| *since + range > until)?;
    Some(if need == Need::Half { too_much_since + range } else { until + range })
}

/// What begins before this misses more than so much.
fn newest<'a>(gaps: impl DoubleEndedIterator<Item = &'a Gap>, mut missing: Duration) -> Option<Timestamp> {
    for gap in gaps.rev() {
        if gap.missing > missing {
            return Some(gap.since(missing));
        }
        missing -= gap.missing;
    }
    None
}

/// Takes note that nobody listened. Yields what of that was not known before; `None` where it is too short to be a gap. A short one stays as
/// the last until it is known whether it goes on.
fn remember(gaps: &mut VecDeque<Gap>, from: Timestamp, until: Timestamp) -> Option<Gap> {
    let (mut gap, mut new) = (Gap::new(from, until), Gap::new(from, until));
    if let Some(last) = gaps.back().copied() {
        let goes_on = from.since(last.until) < GAP_MIN;
        if goes_on {
            gap = Gap::new(last.from, until);
            new = if last.is_long() { Gap::new(last.until, until) } else { gap };
        }
        if goes_on || !last.is_long() {
            gaps.pop_back();
        }
    }
    gaps.push_back(gap);
    if gaps.len() > GAPS_MAX {
        merge_nearest(gaps);
    }
    gap.is_long().then_some(new)
}

/// Takes two for one; not the last, which may go on.
fn merge_nearest(gaps: &mut VecDeque<Gap>) {
    let between = |at: &usize| gaps[at + 1].from.since(gaps[*at].until);
    let Some(at) = (0..gaps.len().saturating_sub(2)).min_by_key(between) else { return };
    let Some(later) = gaps.remove(at + 1) else { return };
    let gap = &mut gaps[at];
    (gap.until, gap.missing) = (later.until, gap.missing + later.missing);
}
