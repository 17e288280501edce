//! Whether there is news for a receiver, and why: Alertmanager's dedup stage.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notification::NotifyReason;
use crate::time::Timestamp;

/// What an integration was told of a group, alerts by the fingerprints of their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) firing: BTreeSet<u64>,
    pub(super) resolved: BTreeSet<u64>,
    pub(super) at: Timestamp,
}

/// Why an integration that was told `before` is to be told `now`; `None` where there is no news for it.
///
/// That all alerts are resolved is a reason also where `send_resolved` is off: nothing is sent then, but what was told is cleared.
pub(super) fn decide(before: Option<&Told>, now: &Told, send_resolved: bool, repeat: Duration) -> Option<NotifyReason> {
    let Some(before) = before.filter(|before| !before.firing.is_empty()) else {
        return (!now.firing.is_empty()).then_some(NotifyReason::FirstNotification);
    };
    if !now.firing.is_subset(&before.firing) {
        return Some(NotifyReason::NewAlertsInGroup);
    }
    if now.firing.is_empty() {
        return Some(NotifyReason::AllAlertsResolved);
    }
    if send_resolved && !now.resolved.is_subset(&before.resolved) {
        return Some(NotifyReason::NewResolvedAlerts);
    }
    (now.at >= before.at + repeat).then_some(NotifyReason::RepeatInterval)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(firing: &[u64], resolved: &[u64], at: i64) -> Told {
        Told {
            firing: firing.iter().copied().collect(),
            resolved: resolved.iter().copied().collect(),
            at: Timestamp(at),
        }
    }

    #[test]
    fn gives_alertmanagers_reasons() {
        use NotifyReason::*;
        let hour = Duration::from_nanos(100);
        for (before, now, send_resolved, reason) in [
            (None, told(&[1], &[], 0), true, Some(FirstNotification)),
            (None, told(&[], &[1], 0), true, None),
            (Some(told(&[], &[1], 0)), told(&[1], &[], 9), true, Some(FirstNotification)),
            (Some(told(&[], &[1], 0)), told(&[], &[1], 500), true, None),
            (Some(told(&[1], &[], 0)), told(&[1, 2], &[], 9), true, Some(NewAlertsInGroup)),
            (Some(told(&[1, 2], &[], 0)), told(&[1], &[2], 9), true, Some(NewResolvedAlerts)),
            (Some(told(&[1, 2], &[], 0)), told(&[1], &[2], 9), false, None),
            (Some(told(&[1, 2], &[], 0)), told(&[], &[1, 2], 9), false, Some(AllAlertsResolved)),
            (Some(told(&[1], &[], 0)), told(&[1], &[], 99), true, None),
            (Some(told(&[1], &[], 0)), told(&[1], &[], 100), true, Some(RepeatInterval)),
        ] {
            assert_eq!(decide(before.as_ref(), &now, send_resolved, hour), reason, "{before:?} {now:?}");
        }
    }
}
