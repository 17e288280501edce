//! The log's clock: the wall clock while that goes forward. It never goes back and never stands still: when the wall clock has been set
//! back, it runs on at half the speed until the wall clock has come up with it.

use std::time::Duration;

use watchbell_rules::time::Timestamp;

/// A clock that shows at least what it has shown before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogClock {
    shown: Timestamp,
    /// The monotonic time at which it was shown.
    at: Duration,
}

impl LogClock {
    /// One that has shown `shown`, and goes on from there: what passed before a restart is not known.
    pub(crate) fn new(shown: Timestamp, monotonic: Duration) -> Self {
        Self { shown, at: monotonic }
    }

    /// What it last showed.
    pub(crate) fn shown(&self) -> Timestamp {
        self.shown
    }

    /// What it shows.
    pub(crate) fn now(&self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        wall.max(self.shown + monotonic.saturating_sub(self.at) / AHEAD_SLOWDOWN)
    }

    /// Shows it.
    pub(crate) fn show(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        *self = Self { shown: self.now(wall, monotonic), at: monotonic };
        self.shown
    }
}

/// How much slower than real time it runs while it is ahead of the wall clock.
const AHEAD_SLOWDOWN: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_runs_on_slowly_until_the_wall_clock_is_there() {
        let at = |seconds: i64| Timestamp(seconds * 1_000_000_000);
        let mut clock = LogClock::new(Timestamp::MIN, Duration::ZERO);
        assert_eq!(clock.show(at(1_000), Duration::from_secs(10)), at(1_000));
        assert_eq!(clock.show(at(904), Duration::from_secs(14)), at(1_002), "set back by 100 s");
        assert_eq!(clock.show(at(1_090), Duration::from_secs(200)), at(1_095));
        assert_eq!(clock.show(at(1_100), Duration::from_secs(210)), at(1_100));
        assert_eq!(clock.show(at(1_110), Duration::from_secs(220)), at(1_110));
    }

    proptest! {
        /// However the wall clock steps, and however often somebody looks.
        #[test]
        fn it_never_goes_back_and_never_stands(steps in prop::collection::vec((1..1_000u64, -5_000..5_000i64), 1..50)) {
            let (mut wall, mut monotonic) = (Timestamp(1_000_000), Duration::ZERO);
            let mut clock = LogClock::new(wall, monotonic);
            for (passed, step) in steps {
                let before = clock.shown();
                let passed = Duration::from_nanos(2 * passed);
                monotonic += passed;
                wall = Timestamp((wall + passed).0 + step);
                prop_assert_eq!(clock.now(wall, monotonic), clock.show(wall, monotonic));
                prop_assert!(clock.shown() >= before + passed / 2 && clock.shown() >= wall);
            }
        }
    }
}
