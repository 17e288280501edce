//! The groups of a leaf and their windows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::patterns::Patterns;
use crate::detect::sequence::Sequence;
use crate::labels::Labels;
use crate::matcher::Run;
use crate::plan::{Gate, KEY_SEPARATOR, Keeps, Leaf, Plan, SequenceGate};
use crate::time::Timestamp;
use crate::vector::LabelSet;
use crate::window::{
    Cell, SampleWindow, WINDOW_CELLS_MAX_OVER_BUDGET, WINDOW_SAMPLES_MAX, WINDOW_SAMPLES_MAX_OVER_BUDGET, Window,
};

/// The windows of one leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeafState {
    /// Since when records are counted.
    pub(crate) since: Timestamp,
    /// How long the windows remember.
    retention: Duration,
    /// How often records of a batch found no place among the groups.
    pub(crate) refused: u64,
    /// When that last was.
    pub(crate) refused_at: Timestamp,
    /// How many cells the windows have together.
    pub(crate) cells: usize,
    /// What was seen, where new patterns are told.
    pub(super) patterns: Patterns,
    /// No first record's time is over before; `Timestamp::MAX` where none waits.
    pub(super) deadline: Timestamp,
    /// When empty groups are looked for.
    pub(crate) next_sweep: Timestamp,
    /// Boxed: a map keeps places for more than it has.
    groups: BTreeMap<Box<[u8]>, Box<Group>>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) key: Box<[u8]>,
    pub(crate) labels: Labels,
    pub(crate) window: GroupWindow,
    pub(crate) evidence: Evidence,
    /// Alerts that look at the window; it is kept as long as there is one.
    pub(crate) alerts: u32,
}

/// What a group's records add up to, or which samples they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum GroupWindow {
    Counts(Window),
    Samples(SampleWindow),
    Sequence(Box<Sequence>),
}

impl GroupWindow {
    fn new(leaf: &Leaf) -> Self {
        match (&leaf.gate, leaf.keeps) {
            (Some(Gate::Sequence(SequenceGate { pairing, .. })), _) => {
                Self::Sequence(Box::new(Sequence::new(pairing.wanted, pairing.within)))
            }
            (_, Keeps::Counts) => Self::Counts(Window::default()),
            (_, Keeps::Summaries) => Self::Samples(SampleWindow::summaries()),
            (_, Keeps::Samples) => Self::Samples(SampleWindow::samples()),
        }
    }

    /// The window, where it counts.
    pub(crate) fn counts(&self) -> Option<&Window> {
        match self {
            Self::Counts(window) => Some(window),
            Self::Sequence(sequence) => Some(&sequence.found),
            Self::Samples(_) => None,
        }
    }

    /// The window, where it holds samples.
    pub(crate) fn samples(&self) -> Option<&SampleWindow> {
        if let Self::Samples(window) = self { Some(window) } else { None }
    }

    /// Whether a record is in `(t - range, t]`.
    pub(crate) fn has_records(&self, t: Timestamp, range: Duration) -> bool {
        self.counts().is_some_and(|window| window.value(t, range).is_some())
            || self.samples().is_some_and(|window| window.has_samples(t, range))
    }

    /// Adds what a run has in these times; a sequence takes its records another way.
    pub(crate) fn insert(&mut self, run: &Run, is_wanted: impl Fn(Timestamp) -> bool) {
        match self {
            Self::Sequence(_) => {}
            Self::Counts(window) => {
                run.cells.iter().filter(|cell| is_wanted(cell.at)).for_each(|cell| window.insert(*cell));
            }
            Self::Samples(window) => {
                let samples = run.samples.iter().filter(|sample| is_wanted(Timestamp(sample.at)));
                samples.for_each(|sample| window.insert(*sample));
            }
        }
    }

    /// Keeps no more than the limits allow.
    pub(crate) fn compact(&mut self, retention: Duration, cells_max: usize, is_over_budget: bool) {
        let (cells_max, samples_max) = match is_over_budget {
            false => (cells_max, WINDOW_SAMPLES_MAX),
            true => (cells_max.min(WINDOW_CELLS_MAX_OVER_BUDGET), WINDOW_SAMPLES_MAX_OVER_BUDGET),
        };
        match self {
            Self::Counts(window) => window.compact(retention, cells_max),
            Self::Samples(window) => window.compact(retention, cells_max, samples_max),
            Self::Sequence(sequence) => sequence.found.compact(retention, cells_max),
        }
    }

    /// Forgets what happened at or before `until`.
    pub(crate) fn evict(&mut self, until: Timestamp) {
        match self {
            Self::Counts(window) => window.evict(until),
            Self::Samples(window) => window.evict(until),
            Self::Sequence(sequence) => sequence.found.evict(until),
        }
    }

    /// How many cells of 16 bytes it takes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Counts(window) => window.len(),
            Self::Samples(window) => window.len(),
            Self::Sequence(sequence) => sequence.len(),
        }
    }

    /// When the last record in it happened; `None` where nothing is in it.
    pub(crate) fn last(&self) -> Option<Timestamp> {
        match self {
            Self::Counts(window) => window.last(),
            Self::Samples(window) => window.last(),
            Self::Sequence(sequence) => sequence.last(),
        }
    }
}

impl LeafState {
    pub(crate) fn new(leaf: &Leaf, now: Timestamp) -> Self {
        Self {
            since: now,
            retention: leaf.retention,
            refused: 0,
            refused_at: Timestamp::MIN,
            cells: 0,
            patterns: Patterns::default(),
            deadline: Timestamp::MAX,
            next_sweep: now,
            groups: BTreeMap::new(),
        }
    }

    /// Makes the group of that key if there is room, else the overflow group; without grouping none. Yields the key of what was made.
    pub(crate) fn make(
        &mut self,
        plan: &Plan,
        leaf: &Leaf,
        key: &[u8],
        has_room: bool,
        now: Timestamp,
    ) -> Option<Box<[u8]>> {
        let feed = &plan.feeds[leaf.feed];
        let mut key: Box<[u8]> = key.into();
        if !has_room {
            self.refused += 1;
            self.refused_at = now;
            key = overflow_key(&feed.groups).filter(|_| !matches!(leaf.gate, Some(Gate::Sequence(_))))?;
        }
        let labels = feed.labels(&key);
        let window = GroupWindow::new(leaf);
        let new = Group { key: key.clone(), labels, window, evidence: Evidence::default(), alerts: 0 };
        self.groups.entry(key.clone()).or_insert_with(|| Box::new(new));
        Some(key)
    }

    /// Remembers as long as the leaf asks for from now on; yields up to when the past is wanted where that is longer than before. What
    /// the windows happen to hold of that time goes: it comes with the rest of it.
    pub(crate) fn retain_for(&mut self, leaf: &Leaf, now: Timestamp) -> Option<Timestamp> {
        let before = std::mem::replace(&mut self.retention, leaf.retention);
        if leaf.retention <= before {
            return None;
        }
        self.since = self.since.max(now - before);
        self.groups.values_mut().for_each(|group| group.window.evict(self.since));
        self.cells = self.groups.values().map(|group| group.window.len()).sum();
        Some(self.since)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Group> {
        self.groups.get(key).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(key).map(Box::as_mut)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(Box::as_ref)
    }

    /// The first records that have waited up to `passed` in vain, by their groups; none is told of before `earliest`.
    pub(super) fn handle_passed(&mut self, passed: Timestamp, earliest: Timestamp) -> Vec<(Box<[u8]>, Vec<Cell>)> {
        let mut all = Vec::new();
        self.deadline = Timestamp::MAX;
        for group in self.groups.values_mut() {
            let GroupWindow::Sequence(sequence) = &mut group.window else { continue };
            let (mut found, before) = (sequence.handle_passed(passed), sequence.len());
            found.iter_mut().for_each(|cell| cell.at = cell.at.max(earliest));
            found.iter().for_each(|cell| sequence.found.insert(*cell));
            self.cells = self.cells + sequence.len() - before - found.len();
            self.deadline = self.deadline.min(sequence.deadline().unwrap_or(Timestamp::MAX));
            if !found.is_empty() {
                all.push((group.key.clone(), found));
            }
        }
        all
    }

    /// Forgets what is older than the leaf remembers, and groups of which nothing is left; yields the bytes of their evidence.
    pub(crate) fn evict(&mut self, leaf: &Leaf, now: Timestamp) -> usize {
        let mut bytes = 0;
        if let Some(Gate::NewPattern(config)) = &leaf.gate {
            self.patterns.forget(config, now);
        }
        self.groups.retain(|_, group| {
            group.window.evict(now - leaf.retention);
            if let (GroupWindow::Sequence(sequence), Some(Gate::Sequence(gate))) = (&mut group.window, &leaf.gate) {
                sequence.forget(now - gate.lookback);
            }
            let keep = group.window.last().is_some() || group.alerts > 0;
            bytes += if keep { 0 } else { group.evidence.bytes() };
            keep
        });
        self.cells = self.groups.values().map(|group| group.window.len()).sum();
        self.next_sweep = now + leaf.range / 4;
        bytes
    }

    /// As if no alert looked at any group.
    pub(crate) fn forget_alerts(&mut self) {
        self.groups.values_mut().for_each(|group| group.alerts = 0);
    }

    /// What the groups' evidence takes.
    pub(crate) fn evidence_bytes(&self) -> usize {
        self.groups.values().map(|group| group.evidence.bytes()).sum()
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether no window has a record later than `time`.
    pub(crate) fn is_empty_after(&self, time: Timestamp) -> bool {
        self.groups.values().all(|group| group.window.last().is_none_or(|last| last <= time))
    }
}

fn overflow_key(groups: &LabelSet) -> Option<Box<[u8]>> {
    match groups {
        LabelSet::Only(names) if !names.is_empty() => {
            let part = [OVERFLOW.as_bytes(), &[KEY_SEPARATOR]].concat();
            Some([part.repeat(names.len()), vec![KEY_SEPARATOR]].concat().into())
        }
        _ => None,
    }
}

/// Value of every label of the group that takes what finds no place.
pub(super) const OVERFLOW: &str = "__overflow__";
