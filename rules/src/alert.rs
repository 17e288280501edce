//! The life of one alert: `Inactive`, `Pending` while the condition holds but not long enough, `Firing`.

use std::time::Duration;

use crate::time::Timestamp;
use crate::transition::AlertState;

/// How long a rule's alerts wait before they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// How long the condition must hold before the alert fires: the rule's `for`.
    pub hold: Duration,
    /// How long the condition must have been false before a firing alert is resolved: the longer of the group's `interval` and the
    /// rule's `keep_firing_for`.
    pub quiet: Duration,
    /// How long a late record may still make an instant true that looked false.
    pub settle: Duration,
    /// Until when it is not known whether the condition is false: nobody listened for a while.
    pub blind_until: Timestamp,
}

/// An alert's state, and the time in which its condition holds without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Phase {
    /// The state.
    pub state: AlertState,
    /// When the condition began to hold.
    pub active_at: Timestamp,
    /// The first instant at which it does not, as far as is known; `Timestamp::MAX` while no end is known.
    pub until: Timestamp,
}

impl Patience {
    /// When an alert has ended whose condition has been false for so long.
    fn ends(self, phase: Phase, after: Duration) -> Timestamp {
        (phase.until + after).max(self.blind_until)
    }
}

/// Decides what becomes of an alert at `now`; the same state means that nothing changes.
pub fn next(phase: Phase, patience: Patience, now: Timestamp) -> AlertState {
    let held = phase.until > phase.active_at + patience.hold;
    match phase.state {
        AlertState::Inactive if !patience.hold.is_zero() => AlertState::Pending,
        AlertState::Firing if now >= patience.ends(phase, patience.quiet) => AlertState::Inactive,
        AlertState::Inactive | AlertState::Pending if held && now >= phase.active_at + patience.hold => {
            AlertState::Firing
        }
        AlertState::Pending if now >= patience.ends(phase, patience.settle) => AlertState::Inactive,
        state => state,
    }
}

/// When an alert is to be looked at again after `now` if no record comes before.
pub fn due(phase: Phase, patience: Patience, now: Timestamp) -> Option<Timestamp> {
    let times = match phase.state {
        AlertState::Inactive => return None,
        AlertState::Pending => [phase.active_at + patience.hold, phase.until, patience.ends(phase, patience.settle)],
        AlertState::Firing => [phase.until, phase.until, patience.ends(phase, patience.quiet)],
    };
    times.into_iter().filter(|time| *time > now && *time < Timestamp::MAX).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertState::{Firing, Inactive, Pending};

    const PATIENCE: Patience = Patience {
        hold: Duration::from_nanos(10),
        quiet: Duration::from_nanos(60),
        settle: Duration::from_nanos(5),
        blind_until: Timestamp(0),
    };

    fn at(state: AlertState, until: i64, now: i64) -> AlertState {
        next(Phase { state, active_at: Timestamp(100), until: Timestamp(until) }, PATIENCE, Timestamp(now))
    }

    #[test]
    fn an_alert_waits_for_its_hold() {
        assert_eq!(at(Inactive, i64::MAX, 100), Pending);
        assert_eq!(at(Pending, i64::MAX, 109), Pending);
        assert_eq!(at(Pending, i64::MAX, 110), Firing);
        assert_eq!(at(Pending, 111, 110), Firing, "it held for the whole time");
        assert_eq!(at(Pending, 110, 110), Pending, "it fell at that instant, a late record may still mend that");
    }

    #[test]
    fn a_pending_alert_is_forgotten_when_its_gap_is_settled() {
        assert_eq!(at(Pending, 105, 109), Pending);
        assert_eq!(at(Pending, 105, 110), Inactive);
    }

    #[test]
    fn without_hold_it_fires_at_once() {
        let phase = Phase { state: Inactive, active_at: Timestamp(100), until: Timestamp(101) };
        assert_eq!(next(phase, Patience { hold: Duration::ZERO, ..PATIENCE }, Timestamp(100)), Firing);
    }

    #[test]
    fn a_firing_alert_resolves_after_a_quiet_time() {
        assert_eq!(at(Firing, 150, 150), Firing);
        assert_eq!(at(Firing, 150, 209), Firing);
        assert_eq!(at(Firing, 150, 210), Inactive);
        assert_eq!(at(Firing, i64::MAX, i64::MAX - 1), Firing);
    }

    #[test]
    fn it_does_not_end_while_it_is_not_known_whether_it_holds() {
        let patience = Patience { blind_until: Timestamp(300), ..PATIENCE };
        for (state, until) in [(Firing, 150), (Pending, 105)] {
            let phase = Phase { state, active_at: Timestamp(100), until: Timestamp(until) };
            assert_eq!(next(phase, patience, Timestamp(299)), state);
            assert_eq!(next(phase, patience, Timestamp(300)), Inactive);
            assert_eq!(due(phase, patience, Timestamp(200)), Some(Timestamp(300)));
        }
    }

    #[test]
    fn it_is_looked_at_when_something_can_change() {
        let due = |state, until, now| {
            due(Phase { state, active_at: Timestamp(100), until: Timestamp(until) }, PATIENCE, Timestamp(now))
                .map(|t| t.0)
        };
        assert_eq!(due(Pending, i64::MAX, 100), Some(110));
        assert_eq!(due(Pending, 105, 100), Some(105));
        assert_eq!(due(Pending, 105, 105), Some(110));
        assert_eq!(due(Firing, 150, 120), Some(150));
        assert_eq!(due(Firing, 150, 150), Some(210));
        assert_eq!(due(Firing, i64::MAX, 150), None);
    }
}
