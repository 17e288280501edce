//! What is remembered of a place that is restrained: its tokens, its last record, and how many were withheld.

use std::sync::atomic::{AtomicU64, Ordering};

use super::rules::{Rate, SiteRules};
use crate::callsite::{Callsite, ScopeId};
use tracing_core::Level;

/// Why a record is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Limit,
    Sample,
    Repeat,
    Pressure,
}

impl Reason {
    pub(crate) const ALL: [Self; 4] = [Self::Limit, Self::Sample, Self::Repeat, Self::Pressure];

    /// As metrics and records name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Sample => "sample",
            Self::Repeat => "repeat",
            Self::Pressure => "pressure",
        }
    }
}

/// A callsite; of records whose callsite is not known, those of one scope and level.
pub(crate) struct Site {
    pub(crate) rules: SiteRules,
    pub(crate) callsite: Option<&'static Callsite>,
    pub(crate) scope: ScopeId,
    pub(crate) level: Level,
    /// When, in nanoseconds since 1970, all that was let through would have come at the limit's own pace.
    paid_until: AtomicU64,
    last_hash: AtomicU64,
    last_told: AtomicU64,
    withheld: [AtomicU64; Reason::ALL.len()],
}

impl Site {
    pub(crate) fn new(rules: SiteRules, callsite: Option<&'static Callsite>, scope: ScopeId, level: Level) -> Self {
        let [paid_until, last_hash, last_told] = [const { AtomicU64::new(0) }; 3];
        Self { rules, callsite, scope, level, paid_until, last_hash, last_told, withheld: Default::default() }
    }

    /// The rate that the callsite sets, else that of its target.
    pub(crate) fn limit(&self) -> Option<Rate> {
        self.callsite.and_then(Callsite::limit).or(self.rules.limit)
    }

    /// The record that tells the callsite's own rate takes a token, too.
    pub(crate) fn takes_first(&self, now: u64) {
        if let Some(rate) = self.callsite.and_then(Callsite::limit)
            && self.paid_until.load(Ordering::Relaxed) == 0
        {
            self.takes(rate, now);
        }
    }

    /// Takes a token of the bucket: it holds as many as the rate has, and fills at the rate's pace.
    pub(crate) fn takes(&self, rate: Rate, now: u64) -> bool {
        let cost = (rate.nanos / u64::from(rate.records)).max(1);
        let pay = |paid_until: u64| {
            let burst = rate.nanos.max(cost);
            let is_from_before = paid_until > now.saturating_add(burst); // the clock was set back
            let start = if is_from_before { now } else { paid_until.max(now) };
            let paid = start.saturating_add(cost);
            (paid - now <= burst).then_some(paid)
        };
        self.paid_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }

    /// Whether the record with this hash was told less than `nanos` ago, with none other after it.
    pub(crate) fn repeats(&self, hash: u64, nanos: u64, now: u64) -> bool {
        let is_same = self.last_hash.swap(hash, Ordering::Relaxed) == hash;
        let told = self.last_told.load(Ordering::Relaxed);
        if is_same && now.abs_diff(told) < nanos {
            return true;
        }
        self.last_told.store(now, Ordering::Relaxed);
        false
    }

    pub(crate) fn withhold(&self, reason: Reason) {
        self.withheld[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were withheld since it was last asked, by reason.
    pub(crate) fn take_withheld(&self) -> [u64; Reason::ALL.len()] {
        Reason::ALL.map(|reason| match self.withheld[reason as usize].load(Ordering::Relaxed) {
            0 => 0, // nothing is written where nothing has changed
            _ => self.withheld[reason as usize].swap(0, Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn site() -> Site {
        Site::new(SiteRules::default(), None, ScopeId::of_target("test"), Level::INFO)
    }

    #[test]
    fn a_repeat_is_the_same_record_again_within_the_time() {
        let site = site();
        let told: Vec<_> = [(1, 10), (1, 11), (2, 12), (1, 13), (1, 112), (1, 113)]
            .map(|(hash, now)| !site.repeats(hash, 100, now))
            .into();
        assert_eq!(told, [true, false, true, true, false, true]);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody() {
        const HOUR: u64 = 3600 * 1_000_000_000;
        let (site, rate) = (site(), Rate { records: 2, nanos: 1_000_000_000 });
        let taken: Vec<_> = [2 * HOUR, 2 * HOUR, 2 * HOUR, HOUR, HOUR, HOUR].map(|now| site.takes(rate, now)).into();
        assert_eq!(taken, [true, true, false, true, true, false]);
        let told: Vec<_> = [2 * HOUR, HOUR, HOUR].map(|now| !site.repeats(1, 1_000_000_000, now)).into();
        assert_eq!(told, [true, true, false]);
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_come_through(records in 1..20u32, steps in prop::collection::vec(0..30u64, 1..200)) {
            let (rate, site) = (Rate { records, nanos: 100 }, site());
            let (mut now, mut taken) = (1_000, Vec::new());
            for step in steps {
                now += step;
                if site.takes(rate, now) {
                    taken.push(now);
                }
            }
            prop_assert!(!taken.is_empty(), "the first comes through");
            for (i, start) in taken.iter().enumerate() {
                let within = taken[i..].iter().filter(|at| *at - start < 100).count();
                prop_assert!(within <= 2 * records as usize, "a burst, then what has come in meanwhile");
            }
            let span = now - 1_000;
            let most = u64::from(records) + span / (100 / u64::from(records)).max(1) + 1;
            prop_assert!(taken.len() as u64 <= most, "{} in {span}", taken.len());
        }
    }
}
