//! Times in which nobody listened: the collector was away. Records of them may come late, or never, so that their silence tells nothing.
//!
//! - A rule that can be deceived by records that are missing (its [`Doubt`]s) begins no new alert while a gap hides more of its windows than
//!   it can do without, nor at any time within the gap.
//! - Alerts that there were are held as long: they neither end nor go on from pending to firing for what is missing. An absence or a
//!   count that was too low does end when a record of it comes.
//! - The time away does not count for `for`: a pending alert's beginning moves on by it, as Prometheus does at its restart.
//! - A `sequence ... without` whose time ran out in the gap, or soon after, waits for as long after the gap as the gap hid of it at most.
//! - Neither does it count as the time after which a pattern is new again, nor as time to learn.
//! - What records can only raise is judged as ever.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Engine, State};
use crate::labels::Labels;
use crate::plan::{Doubt, Eval, Gate, Need, Plan, STEP, SequenceGate};
use crate::time::Timestamp;
use crate::transition::AlertState;

/// Times away that are remembered. At the limit the two oldest are taken for one, with the time between them.
pub const GAPS_MAX: usize = 32;

/// Who was away for no longer is not said to have been: what comes so late is waited for anyway, by the default `lateness`.
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
}

impl Gap {
    /// How long it was.
    pub fn duration(&self) -> Duration {
        self.until.since(self.from)
    }

    /// When a window of that range no longer misses what is needed of it; `None` where it never did.
    fn ends(&self, range: Duration, need: Need) -> Option<Timestamp> {
        match need {
            Need::Half => (self.duration() > range / 2).then(|| self.until + range / 2),
            Need::Presence | Need::Whole => self.hides(range).then(|| self.until + range),
        }
    }

    /// Whether so long a time is not as good as known though this is missing from it.
    fn hides(&self, range: Duration) -> bool {
        self.duration() > range / PARTS
    }
}

impl Engine {
    /// Nobody listened from `from` until `until`, which is now. Comes in the place of [`handle_timeout`](Self::handle_timeout).
    pub fn handle_gap(&mut self, from: Timestamp, until: Timestamp) {
        let gap = Gap { from, until };
        if gap.duration() > GAP_MIN {
            remember(&mut self.state.gaps, gap);
            self.let_patterns_age(gap);
            self.let_pending_wait(gap.duration());
            self.arm_all();
        }
        self.handle_timeout(until);
    }

    /// The last time that nobody listened.
    pub fn last_gap(&self) -> Option<Gap> {
        self.state.gaps.back().copied()
    }

    fn let_pending_wait(&mut self, time: Duration) {
        let alerts = self.state.rules.iter_mut().flat_map(|rule| rule.alerts.values_mut());
        for entry in alerts.filter(|entry| entry.phase.state == AlertState::Pending) {
            entry.phase.active_at = entry.phase.active_at + time;
        }
    }

    fn let_patterns_age(&mut self, gap: Gap) {
        let State { leaves, .. } = &mut self.state;
        for (planned, leaf) in self.plan.leaves.iter().zip(leaves) {
            let Some(Gate::NewPattern(config)) = &planned.gate else { continue };
            leaf.patterns.handle_gap(gap.duration());
            if gap.from < leaf.since + config.learn {
                leaf.since = leaf.since + gap.duration();
            }
        }
    }

    /// Until when a rule that is judged at `time` begins no new alert, and holds those it has, because a gap hides what it looks at.
    pub(super) fn is_blind_until(&self, rule: usize, time: Timestamp) -> Option<Timestamp> {
        let hiding = self.state.gaps.iter().flat_map(|gap| hidden(&self.plan, rule, gap));
        hiding.filter(|(from, until)| *from < time && time < *until).map(|(_, until)| until).max()
    }

    /// From when on no gap that there was hides anything that a rule looks at.
    pub(super) fn sees_at(&self, rule: usize) -> Timestamp {
        let hidden = self.state.gaps.iter().flat_map(|gap| hidden(&self.plan, rule, gap));
        hidden.map(|(_, until)| until).max().unwrap_or(Timestamp::MIN)
    }

    /// Whether a record that came since the last gap began tells that an alert of an absence, or of too few records, has ended.
    pub(super) fn is_back(&self, rule: usize, labels: &Labels) -> bool {
        let (doubts, Some(gap)) = (&self.plan.rules[rule].doubts, self.last_gap()) else { return false };
        let holds_all = |a: &Labels, b: &Labels| b.iter().all(|(name, value)| a.get(name) == Some(value));
        let is_of_presence = doubts.iter().all(|doubt| doubt.need == Need::Presence);
        is_of_presence
            && doubts.iter().flat_map(|doubt| self.state.leaves[doubt.leaf].iter()).any(|group| {
                let is_behind = holds_all(&group.labels, labels) || holds_all(labels, &group.labels);
                is_behind && group.window.last().is_some_and(|last| last > gap.from)
            })
    }

    /// Before when no first record of a sequence has waited in vain, because a gap hides whether a second one came.
    pub(super) fn waits_until(&self, gate: &SequenceGate) -> Timestamp {
        let within = gate.pairing.within;
        let hiding = self.state.gaps.iter().filter(|gap| gap.hides(within));
        hiding.map(|gap| gap.until + gap.duration().min(within)).max().unwrap_or(Timestamp::MIN)
    }
}

/// The times at which a rule's windows miss what is needed of them.
fn hidden<'a>(plan: &'a Plan, rule: usize, gap: &'a Gap) -> impl Iterator<Item = (Timestamp, Timestamp)> + 'a {
    let planned = &plan.rules[rule];
    // What was not judged yet when the collector went away still waited for records.
    let waiting = planned.lateness + plan.idle_timeouts[planned.watermark] + STEP;
    let of_window = move |doubt: &Doubt| {
        let end = gap.ends(plan.leaves[doubt.leaf].range, doubt.need)?;
        Some((gap.from - waiting + doubt.offset, end + doubt.offset))
    };
    let is_in_doubt = !planned.doubts.is_empty() && matches!(planned.eval, Eval::Steps { .. });
    planned.doubts.iter().filter_map(of_window).chain(is_in_doubt.then_some((gap.from, gap.until)))
}

fn remember(gaps: &mut VecDeque<Gap>, gap: Gap) {
    gaps.push_back(gap);
    if gaps.len() > GAPS_MAX
        && let (Some(first), Some(second)) = (gaps.pop_front(), gaps.pop_front())
    {
        gaps.push_front(Gap { from: first.from, until: second.until });
    }
}
