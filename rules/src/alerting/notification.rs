//! What one contact point is to be told at one time.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::time::Timestamp;
use crate::transition::Alert;

/// One message to one integration of one contact point about one group of alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Names this message; a replay of the log makes the same key again, so that a receiver can tell a copy.
    pub key: String,
    /// Alertmanager's group key, `{}/{severity="page"}:{alertname="X"}`: the same for every message about the group.
    pub group_key: String,
    /// Name of the receiver in `alerting.receivers`.
    pub contact_point: Arc<str>,
    /// Which of its integrations, as Alertmanager names it: `webhook[1]`, the second of the receiver's `webhook_configs`. Integrations of
    /// other kinds come and go without changing it.
    pub integration: Arc<str>,
    /// Why it is sent.
    pub reason: NotifyReason,
    /// When it became due, by the log's clock.
    pub due: Timestamp,
    /// The labels that the group is made by.
    pub group_labels: Labels,
    /// Labels that all alerts share.
    pub common_labels: Labels,
    /// Annotations that all alerts share.
    pub common_annotations: Labels,
    /// The alerts, firing ones first, then by labels.
    pub alerts: Vec<Arc<Alert>>,
    /// Fingerprints of the labels of those that the message before told to fire.
    #[serde(default)]
    pub told_before: BTreeSet<u64>,
}

impl Notification {
    /// Whether the message before told that the alert fires.
    pub fn is_told_before(&self, alert: &Alert) -> bool {
        self.told_before.contains(&alert.labels.fingerprint())
    }

    /// Whether any alert in it is firing (else all are resolved).
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|alert| alert.resolved_at.is_none())
    }
}

/// Why a group's contact point is told, in the words of Alertmanager's dedup stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyReason {
    /// Nothing was sent about the group yet.
    FirstNotification,
    /// An alert fires that the last message did not name.
    NewAlertsInGroup,
    /// An alert is resolved that the last message named as firing.
    NewResolvedAlerts,
    /// No alert of the group fires any more.
    AllAlertsResolved,
    /// `repeat_interval` has passed.
    RepeatInterval,
}

impl NotifyReason {
    /// As messages and tests write it: `first_notification`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstNotification => "first_notification",
            Self::NewAlertsInGroup => "new_alerts_in_group",
            Self::NewResolvedAlerts => "new_resolved_alerts",
            Self::AllAlertsResolved => "all_alerts_resolved",
            Self::RepeatInterval => "repeat_interval",
        }
    }
}
