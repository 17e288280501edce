//! The groups of a leaf and their windows.

use std::collections::BTreeMap;

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
    /// Batches' runs that found no place among the groups.
    pub(crate) refused: u64,
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
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { since: now, refused: 0, groups: BTreeMap::new() }
    }

    /// The group of that key, made if it is new. Where there are too many, the overflow group; without grouping none.
    pub(crate) fn group(&mut self, plan: &Plan, leaf: &Leaf, key: &[u8]) -> Option<&mut Group> {
        let groups_max = plan.config.groups_per_rule_max;
        let feed = &plan.feeds[leaf.feed];
        let mut key = key.to_vec();
        if self.groups.len() >= groups_max && !self.groups.contains_key(&*key) {
            self.refused += 1;
            key = overflow_key(&feed.groups)?;
        }
        let new = |key: &[u8]| Group {
            key: key.into(),
            labels: feed.labels(key),
            window: Window::default(),
            evidence: Evidence::default(),
            alerts: 0,
        };
        let group = new(&key);
        Some(self.groups.entry(key.into()).or_insert(group))
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

    /// Forgets what happened at or before `until`, and groups of which nothing is left.
    pub(crate) fn evict(&mut self, until: Timestamp) {
        self.groups.retain(|_, group| {
            group.window.evict(until);
            !group.window.is_empty() || group.alerts > 0
        });
    }

    /// Whether no window has a record.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.values().all(|group| group.window.is_empty())
    }
}

fn overflow_key(groups: &LabelSet) -> Option<Vec<u8>> {
    match groups {
        LabelSet::Only(names) if !names.is_empty() => {
            let part = [OVERFLOW.as_bytes(), &[KEY_SEPARATOR]].concat();
            Some(part.repeat(names.len()))
        }
        _ => None,
    }
}

/// Value of every label of the group that takes what finds no place.
const OVERFLOW: &str = "__overflow__";
