//! The groups of a leaf and their windows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use crate::labels::Labels;
use crate::plan::{KEY_SEPARATOR, Leaf, Plan};
use crate::time::Timestamp;
use crate::vector::LabelSet;
use crate::window::Window;

/// The windows of one leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeafState {
    /// Since when records are counted.
    pub(crate) since: Timestamp,
    /// How long the windows remember.
    retention: Duration,
    /// How often records of a batch found no place among the groups.
    pub(crate) refused: u64,
    /// How many cells the windows have together.
    pub(crate) cells: usize,
    /// When empty groups are looked for.
    pub(crate) next_sweep: Timestamp,
    groups: BTreeMap<Box<[u8]>, Group>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) key: Box<[u8]>,
    pub(crate) labels: Labels,
    pub(crate) window: Window,
    pub(crate) evidence: Evidence,
    /// Alerts that look at the window; it is kept as long as there is one.
    pub(crate) alerts: u32,
}

impl LeafState {
    pub(crate) fn new(leaf: &Leaf, now: Timestamp) -> Self {
        Self { since: now, retention: leaf.retention, refused: 0, cells: 0, next_sweep: now, groups: BTreeMap::new() }
    }

    /// The group of that key, made if it is new. Where there are too many, the overflow group; without grouping none.
    pub(crate) fn group(&mut self, plan: &Plan, leaf: &Leaf, key: &[u8]) -> Option<&mut Group> {
        let feed = &plan.feeds[leaf.feed];
        if self.groups.contains_key(key) {
            return self.groups.get_mut(key);
        }
        let mut key: Box<[u8]> = key.into();
        if self.groups.len() >= plan.config.groups_per_rule_max {
            self.refused += 1;
            key = overflow_key(&feed.groups)?;
        }
        let labels = feed.labels(&key);
        let new =
            Group { key: key.clone(), labels, window: Window::default(), evidence: Evidence::default(), alerts: 0 };
        Some(self.groups.entry(key).or_insert(new))
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
        self.groups.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Forgets what is older than the leaf remembers, and groups of which nothing is left; yields the bytes of their evidence.
    pub(crate) fn evict(&mut self, leaf: &Leaf, now: Timestamp) -> usize {
        let mut bytes = 0;
        self.groups.retain(|_, group| {
            group.window.evict(now - leaf.retention);
            let keep = !group.window.is_empty() || group.alerts > 0;
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
            Some(part.repeat(names.len()).into())
        }
        _ => None,
    }
}

/// Value of every label of the group that takes what finds no place.
const OVERFLOW: &str = "__overflow__";
