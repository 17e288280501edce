//! One group of alerts: when it is looked at, and what there is to say about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dedup::Told;
use super::route::Route;
use crate::labels::Labels;
use crate::time::Timestamp;
use crate::transition::Alert;

/// What names a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct GroupId {
    /// Id of the route.
    pub(super) route: Arc<str>,
    /// The labels that the route groups by.
    pub(super) labels: Labels,
}

/// A group's alerts and its clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Firing ones, and resolved ones that somebody is still to be told of, by their labels.
    #[serde(with = "as_list")]
    pub(super) alerts: BTreeMap<Labels, Arc<Alert>>,
    /// When it first changed since it was last looked at.
    pub(super) changed: Option<Timestamp>,
    /// When it was last looked at.
    last: Option<Timestamp>,
    /// Since when it has had no alert.
    empty_since: Option<Timestamp>,
    /// The timer that is set for it.
    pub(super) timer: Option<Timestamp>,
}

impl Group {
    /// Takes an alert in its new state.
    pub(super) fn insert(&mut self, alert: Arc<Alert>, now: Timestamp) {
        self.changed = self.changed.or(Some(now));
        self.empty_since = None;
        self.alerts.insert(alert.labels.clone(), alert);
    }

    /// When it is to be looked at next: `group_wait` after a change or `repeat_interval` after an integration was told
    /// (the earliest of `told`), but no sooner than `group_interval` after the last look; when it is to be forgotten
    /// where it is empty.
    pub(super) fn due(&self, route: &Route, told: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
        if let Some(since) = self.empty_since {
            return Some(since + EMPTY_KEPT);
        }
        let wanted = match self.changed {
            Some(changed) => changed + route.group_wait,
            None => told.min()? + route.repeat_interval,
        };
        Some(self.last.map_or(wanted, |last| wanted.max(last + route.group_interval)))
    }

    /// The firing and the resolved alerts at a look at `at`.
    pub(super) fn look(&mut self, at: Timestamp) -> Told {
        self.changed = None;
        self.last = Some(at);
        let mut now = Told { at, ..Told::default() };
        for (labels, alert) in &self.alerts {
            let set = if alert.resolved_at.is_none() { &mut now.firing } else { &mut now.resolved };
            set.insert(labels.fingerprint());
        }
        now
    }

    /// The alerts as a message shows them: firing ones first, then by labels.
    pub(super) fn shown(&self, send_resolved: bool) -> Vec<Arc<Alert>> {
        let with = |resolved: bool| self.alerts.values().filter(move |alert| alert.resolved_at.is_some() == resolved);
        let mut alerts: Vec<Arc<Alert>> = with(false).cloned().collect();
        if send_resolved {
            alerts.extend(with(true).cloned());
        }
        alerts
    }

    /// Forgets the resolved alerts but those that `wanted` holds.
    pub(super) fn forget_resolved(&mut self, wanted: &BTreeSet<u64>, now: Timestamp) {
        self.alerts.retain(|labels, alert| alert.resolved_at.is_none() || wanted.contains(&labels.fingerprint()));
        if self.alerts.is_empty() {
            self.empty_since = self.empty_since.or(Some(now));
        }
    }

    /// Takes over when an older group of the same name was looked at.
    pub(super) fn resume(&mut self, older: &Self) {
        self.last = older.last;
        self.changed = older.changed.or(self.changed);
    }
}

/// A map with keys that JSON has no keys for, as the list of its values.
mod as_list {
    use super::{Alert, Arc, BTreeMap, Labels};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Labels, Arc<Alert>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Labels, Arc<Alert>>, D::Error> {
        let alerts = Vec::<Arc<Alert>>::deserialize(deserializer)?;
        Ok(alerts.into_iter().map(|alert| (alert.labels.clone(), alert)).collect())
    }
}

/// How long a group without alerts is kept: an alert that fires again within it waits for `group_interval`.
const EMPTY_KEPT: Duration = Duration::from_secs(30);
