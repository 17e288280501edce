//! The groups of a leaf and their windows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// One group. There may be very many: its labels are not kept, for its key tells them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) window: GroupWindow,
    /// `None` where it would be as it is by default.
    extras: Option<Box<Extras>>,
}

/// What many groups do without.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Extras {
    pub(crate) evidence: Evidence,
    /// Alerts that look at the window; it is kept as long as there is one.
    pub(crate) alerts: u32,
}

/// What a group's records add up to, or which samples they are. Boxed where that is more than counts need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum GroupWindow {
    Counts(Window),
    Samples(Box<SampleWindow>),
    Sequence(Box<Sequence>),
}

impl Group {
    /// Changes them, and keeps them only where they are not as by default.
    pub(crate) fn edit_extras(&mut self, edit: impl FnOnce(&mut Extras)) {
        let mut extras = self.extras.take().unwrap_or_default();
        edit(&mut extras);
        self.extras = (*extras != Extras::default()).then_some(extras);
    }

    pub(crate) fn alerts(&self) -> u32 {
        self.extras.as_ref().map_or(0, |extras| extras.alerts)
    }

    pub(crate) fn evidence(&self) -> Option<&Evidence> {
        Some(&self.extras.as_ref()?.evidence)
    }

    pub(crate) fn evidence_bytes(&self) -> usize {
        self.evidence().map_or(0, Evidence::bytes)
    }

    /// Of a sequence: forgets what is of no interest to records from `since` on, and what was found up to `found_until`.
    pub(super) fn forget(&mut self, since: Timestamp, found_until: Timestamp) {
        if let GroupWindow::Sequence(sequence) = &mut self.window {
            sequence.forget(since, found_until);
            self.forget_evidence_of_nothing();
        }
    }

    /// Forgets the records of a sequence that neither wait nor are behind what was found, unless an alert shows them: of a group of which
    /// nothing is left none would be here, and it depends on when it is looked for whether it is.
    fn forget_evidence_of_nothing(&mut self) {
        let GroupWindow::Sequence(sequence) = &self.window else { return };
        if let Some(extras) = self.extras.as_mut().filter(|extras| extras.alerts == 0) {
            extras.evidence.retain(|at| sequence.is_behind(at));
        }
    }
}

/// Snapshots of before had the key and the labels in the first two places, which are empty now.
impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let evidence = self.evidence().map_or_else(Cow::default, Cow::Borrowed);
        ("", Labels::default(), &self.window, evidence, self.alerts()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (_, _, window, evidence, alerts): (Box<[u8]>, Labels, _, _, _) = Deserialize::deserialize(deserializer)?;
        let mut group = Self { window, extras: None };
        group.edit_extras(|extras| *extras = Extras { evidence, alerts });
        Ok(group)
    }
}

impl GroupWindow {
    fn new(leaf: &Leaf) -> Self {
        match (&leaf.gate, leaf.keeps) {
            (Some(Gate::Sequence(SequenceGate { pairing, .. })), _) => {
                Self::Sequence(Box::new(Sequence::new(pairing.wanted, pairing.within)))
            }
            (_, Keeps::Counts) => Self::Counts(Window::default()),
            (_, Keeps::Summaries) => Self::Samples(SampleWindow::summaries().into()),
            (_, Keeps::Samples) => Self::Samples(SampleWindow::samples().into()),
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

    /// When after `t` other records are in `(t - range, t]`; `None` where they never are.
    pub(crate) fn changes_after(&self, t: Timestamp, range: Duration) -> Option<Timestamp> {
        match self {
            Self::Samples(window) => window.changes_after(t, range),
            Self::Counts(_) | Self::Sequence(_) => self.counts()?.changes_after(t, range),
        }
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

    /// How many cells of 16 bytes it takes; packed ones take less.
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
    pub(crate) fn make<'k>(
        &mut self,
        plan: &Plan,
        leaf: &Leaf,
        key: &'k [u8],
        has_room: bool,
        now: Timestamp,
    ) -> Option<Cow<'k, [u8]>> {
        let mut key = Cow::Borrowed(key);
        if !has_room {
            self.refused += 1;
            self.refused_at = now;
            let overflow = overflow_key(&plan.feeds[leaf.feed].groups);
            key = overflow.filter(|_| !matches!(leaf.gate, Some(Gate::Sequence(_))))?.into();
        }
        let new = || Box::new(Group { window: GroupWindow::new(leaf), extras: None });
        self.groups.entry((*key).into()).or_insert_with(new);
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

    /// The same, remembering as long as the leaf asks for.
    pub(super) fn retained_for(self, leaf: &Leaf) -> Self {
        Self { retention: leaf.retention, ..self }
    }

    /// Takes over the groups of `known` that an alert looks at and that are not here: nothing else may be left of them.
    pub(super) fn keep_looked_at(&mut self, known: Self) {
        for (key, group) in known.groups.into_iter().filter(|(_, group)| group.alerts() > 0) {
            self.groups.entry(key).or_insert(group);
        }
        self.cells = self.groups.values().map(|group| group.window.len()).sum();
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Group> {
        self.groups.get(key).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(key).map(Box::as_mut)
    }

    /// The groups by their keys, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(key, group)| (&**key, &**group))
    }

    /// The first records that have waited up to `passed` in vain, by their groups; none is told of before `earliest`.
    pub(super) fn handle_passed(&mut self, passed: Timestamp, earliest: Timestamp) -> Vec<(Box<[u8]>, Vec<Cell>)> {
        let mut all = Vec::new();
        self.deadline = Timestamp::MAX;
        for (key, group) in &mut self.groups {
            let GroupWindow::Sequence(sequence) = &mut group.window else { continue };
            let (mut found, before) = (sequence.handle_passed(passed), sequence.len());
            found.iter_mut().for_each(|cell| cell.at = cell.at.max(earliest));
            found.iter().for_each(|cell| sequence.found.insert(*cell));
            self.cells = self.cells + sequence.len() - before - found.len();
            self.deadline = self.deadline.min(sequence.deadline().unwrap_or(Timestamp::MAX));
            if !found.is_empty() {
                all.push((key.clone(), found));
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
        let mut is_left = |group: &mut Group| {
            group.window.evict(now - leaf.retention);
            if let (GroupWindow::Sequence(sequence), Some(Gate::Sequence(gate))) = (&mut group.window, &leaf.gate) {
                sequence.forget(now - gate.lookback, now - gate.lookback - gate.pairing.window);
            }
            let keep = group.window.last().is_some() || group.alerts() > 0;
            bytes += if keep { 0 } else { group.evidence_bytes() };
            keep
        };
        // Made anew, as a map that grew key by key has twice the places that it needs.
        let groups = std::mem::take(&mut self.groups).into_iter();
        self.groups = groups.filter_map(|(key, mut group)| is_left(&mut group).then_some((key, group))).collect();
        self.cells = self.groups.values().map(|group| group.window.len()).sum();
        self.next_sweep = now + leaf.range / 4;
        bytes
    }

    /// As if no alert looked at any group.
    pub(crate) fn forget_alerts(&mut self) {
        let looked_at = self.groups.values_mut().filter(|group| group.alerts() > 0);
        looked_at.for_each(|group| group.edit_extras(|extras| extras.alerts = 0));
    }

    /// Forgets evidence that is older than the leaf remembers.
    pub(super) fn forget_evidence(&mut self, leaf: &Leaf, now: Timestamp) {
        let with_evidence = self.groups.values_mut().filter(|group| group.evidence_bytes() > 0);
        with_evidence.for_each(|group| group.edit_extras(|extras| extras.evidence.forget(now - leaf.retention)));
    }

    /// What the groups' evidence takes.
    pub(crate) fn evidence_bytes(&self) -> usize {
        self.groups.values().map(|group| group.evidence_bytes()).sum()
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

fn overflow_key(groups: &LabelSet) -> Option<Vec<u8>> {
    match groups {
        LabelSet::Only(names) if !names.is_empty() => {
            let part = [OVERFLOW.as_bytes(), &[KEY_SEPARATOR]].concat();
            Some([part.repeat(names.len()), vec![KEY_SEPARATOR]].concat())
        }
        _ => None,
    }
}

/// Value of every label of the group that takes what finds no place.
pub(super) const OVERFLOW: &str = "__overflow__";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_small() {
        assert_eq!(size_of::<Group>(), 56);
    }

    #[test]
    fn a_group_of_a_snapshot_that_has_its_labels_is_read() {
        let mut window = Window::default();
        window.insert(Cell { at: Timestamp(7), weight: 1 });
        let window = GroupWindow::Counts(window);
        let (key, labels) = (b"shop\xFF".to_vec(), Labels::new([("service_name", "shop")]));
        let before = postcard::to_stdvec(&(key, labels, &window, Evidence::default(), 2_u32)).unwrap();
        let group = Group { window, extras: Some(Box::new(Extras { alerts: 2, ..Extras::default() })) };
        assert_eq!(postcard::from_bytes::<Group>(&before).unwrap(), group);
        assert_eq!(postcard::from_bytes::<Group>(&postcard::to_stdvec(&group).unwrap()).unwrap(), group);
    }
}
