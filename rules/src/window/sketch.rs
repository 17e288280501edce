//! What is kept of samples of which there are too many, so that a quantile of them can still be told: how many lie in each of many small
//! ranges of values, and their mean there (the ranges are those of DDSketch, Masson et al. 2019, with powers of two for its logarithm).
//!
//! A range is all numbers that begin with the same bits: sign, exponent and the first bits of the mantissa. The mean of those in one is
//! off from each of them by less than 2^-n of that, where n is how many bits of the mantissa; whoever merges two sketches, in whatever order, counts the same.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Grains, Mergeable, compact};
use crate::query::over_time::Sample;
use crate::time::Timestamp;

/// Sketches over grains of time, sorted by it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sketches {
    grains: VecDeque<Sketch>,
    /// Bits of the mantissa that new grains leave out of account; [`UNUSED_BITS`] and more.
    unused_bits: u32,
}

/// The samples of one grain; of several times the last one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sketch {
    at: Timestamp,
    unused_bits: u32,
    /// Sorted by value.
    bins: Vec<Bin>,
}

/// Samples that are nearly the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bin {
    pub(super) mean: f64,
    pub(super) count: u64,
}

impl Sketches {
    /// Takes in samples, sorted by time, which may be of times that are there already; and keeps no more than `cells_max` grains and
    /// `bins_max` bins, which the values' precision makes room for.
    pub(super) fn add(
        &mut self,
        samples: impl Iterator<Item = Sample>,
        retention: Duration,
        cells_max: usize,
        bins_max: usize,
    ) {
        if self.len() < bins_max / 4 {
            self.unused_bits = self.unused_bits.saturating_sub(1); // values of very different sizes have left
        }
        self.unused_bits = self.unused_bits.max(UNUSED_BITS);
        samples.for_each(|sample| self.push(sample, retention, cells_max));
        compact(&mut self.grains, retention, cells_max);
        while self.len() > bins_max && self.unused_bits < UNUSED_BITS_MAX {
            self.unused_bits += 1;
            self.grains.iter_mut().for_each(|sketch| sketch.coarsen(self.unused_bits));
        }
    }

    fn push(&mut self, sample: Sample, retention: Duration, cells_max: usize) {
        let at = Timestamp(sample.at);
        let grains = Grains::new(retention, cells_max, self.last().map_or(at, |last| last.max(at)));
        let behind = self.grains.partition_point(|sketch| sketch.at < at);
        let is_its_own = |sketch: &Sketch| grains.of(sketch.at) == grains.of(at);
        if self.grains.get(behind).is_some_and(is_its_own) {
            self.grains[behind].insert(sample.value);
        } else if behind > 0 && is_its_own(&self.grains[behind - 1]) {
            self.grains[behind - 1].insert(sample.value);
            self.grains[behind - 1].at = at;
        } else {
            let bins = vec![Bin { mean: sample.value, count: 1 }];
            self.grains.insert(behind, Sketch { at, unused_bits: self.unused_bits, bins });
        }
    }

    /// Forgets what happened at or before `until`.
    pub(super) fn evict(&mut self, until: Timestamp) {
        super::evict(&mut self.grains, until, |_| {});
    }

    /// When the last sample in them happened.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.grains.back().map(|sketch| sketch.at)
    }

    /// Of a window of which some samples, the last of them at `at`, are not known any more: nothing is known of how far it is off.
    pub(super) fn of_forgotten(at: Timestamp) -> Self {
        let forgotten = Sketch { at, unused_bits: UNUSED_BITS_MAX, bins: Vec::new() };
        Self { grains: VecDeque::from([forgotten]), unused_bits: UNUSED_BITS }
    }

    /// How many bins there are.
    pub(super) fn len(&self) -> usize {
        self.grains.iter().map(|sketch| sketch.bins.len()).sum()
    }

    /// By what part of it a value may be off.
    pub(super) fn error(&self) -> f64 {
        let unused_bits = self.grains.iter().map(|sketch| sketch.unused_bits).max().unwrap_or(UNUSED_BITS);
        match unused_bits.checked_sub(MANTISSA_BITS) {
            None | Some(0) => (f64::from(unused_bits) - f64::from(MANTISSA_BITS)).exp2(),
            // A range is of several powers of two.
            Some(bits) => f64::from(1 << bits).exp2() - 1.0,
        }
    }

    /// When after `t` others are in `(t - range, t]`.
    pub(super) fn changes_after(&self, t: Timestamp, range: Duration) -> Option<Timestamp> {
        super::changes_after(&self.grains, t, range)
    }

    /// The bins of the samples in `(t - range, t]`.
    pub(super) fn inside(&self, t: Timestamp, range: Duration) -> impl Iterator<Item = Bin> {
        self.grains.range(super::inside(&self.grains, t, range)).flat_map(|sketch| sketch.bins.iter().copied())
    }
}

impl Sketch {
    fn insert(&mut self, value: f64) {
        self.add(Bin { mean: value, count: 1 });
    }

    fn add(&mut self, bin: Bin) {
        let key = key(bin.mean, self.unused_bits);
        match self.bins.binary_search_by_key(&key, |other| self::key(other.mean, self.unused_bits)) {
            Ok(at) => self.bins[at].join(bin),
            Err(at) => self.bins.insert(at, bin),
        }
    }

    fn coarsen(&mut self, unused_bits: u32) {
        if unused_bits <= self.unused_bits {
            return;
        }
        self.unused_bits = unused_bits;
        for bin in std::mem::take(&mut self.bins) {
            self.add(bin);
        }
    }
}

impl Mergeable for Sketch {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn merge(&mut self, later: &Self) {
        self.at = later.at;
        self.coarsen(later.unused_bits);
        later.bins.iter().for_each(|bin| self.add(*bin));
    }
}

impl Bin {
    fn join(&mut self, other: Self) {
        self.count += other.count;
        let (low, high) = (self.mean.min(other.mean), self.mean.max(other.mean));
        // Of infinities, and of what is no number, there is no difference.
        if low < high {
            let mean = self.mean + (other.mean - self.mean) * (other.count as f64 / self.count as f64);
            self.mean = mean.clamp(low, high);
        }
    }
}

impl From<&Sample> for Bin {
    fn from(sample: &Sample) -> Self {
        Self { mean: sample.value, count: 1 }
    }
}

/// Which range of values one is in; ranges are numbered from the least. Infinities are ranges of their own, and so is `NaN`.
fn key(value: f64, unused_bits: u32) -> i64 {
    if value.is_nan() {
        return i64::MIN;
    }
    if value.is_infinite() {
        return if value > 0.0 { i64::MAX } else { i64::MIN + 1 };
    }
    let bits = value.to_bits() as i64;
    // As `f64::total_cmp` has it: the order of the numbers is that of these.
    let ordered = bits ^ (((bits >> 63) as u64) >> 1) as i64;
    ordered >> unused_bits
}

/// Bits of the mantissa that a number has.
const MANTISSA_BITS: u32 = 52;
/// Of which seven are looked at, where there is room: a value is off by less than a 128th.
const UNUSED_BITS: u32 = MANTISSA_BITS - 7;
/// So many leave ranges by the sign and whether a number is more than 2.
const UNUSED_BITS_MAX: u32 = 62;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::over_time::order;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the numbers and the room, what is told of a quantile is off by no more than the error that is told.
        #[test]
        fn a_quantile_is_off_by_no_more_than_is_told(
            values in prop::collection::vec(prop_oneof![
                4 => 0.001..1000.0f64, 1 => -1000.0..1000.0f64, 1 => prop::num::f64::NORMAL | prop::num::f64::ZERO,
                1 => (0..300u32).prop_map(f64::from),
            ], 1..500),
            bins_max in 8..400usize, quantile in 0.0..=1.0f64,
        ) {
            let mut sketches = Sketches::default();
            for part in values.chunks(50) {
                let samples = part.iter().enumerate().map(|(at, value)| Sample { at: 1 + at as i64, value: *value });
                sketches.add(samples, RANGE, 16, bins_max);
            }
            prop_assert!(sketches.len() <= bins_max);
            let mut bins: Vec<Bin> = sketches.inside(Timestamp(1000), RANGE).collect();
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
            bins.sort_by(|a, b| order(a.mean, b.mean));
            let mut sorted = values.clone();
            sorted.sort_by(|a, b| order(*a, *b));
            let rank = (quantile * (values.len() - 1) as f64) as u64;
            let (exact, mut before) = (sorted[rank as usize], 0);
            let told = bins.iter().find(|bin| { before += bin.count; before > rank }).unwrap().mean;
            let error = sketches.error();
            // Of numbers beside zero only how small they are is known.
            let allowed = error * exact.abs().max(told.abs()).max(f64::MIN_POSITIVE);
            prop_assert!((told - exact).abs() <= allowed, "{told} for {exact}, error {error}");
        }

        /// In which order samples come makes no difference to how many are in a bin.
        #[test]
        fn order_makes_no_difference_to_the_counts(values in prop::collection::vec(-100.0..100.0f64, 1..200)) {
            let counts = |values: &[f64]| {
                let mut sketches = Sketches::default();
                sketches.add(values.iter().map(|value| Sample { at: 1, value: *value }), RANGE, 16, 10_000);
                let bins: Vec<_> = sketches.inside(Timestamp(1), RANGE).map(|bin| (key(bin.mean, UNUSED_BITS), bin.count)).collect();
                bins
            };
            let reversed: Vec<f64> = values.iter().rev().copied().collect();
            prop_assert_eq!(counts(&values), counts(&reversed));
        }
    }

    #[test]
    fn whole_numbers_that_come_often_and_what_is_no_number_stay_what_they_are() {
        let mut sketches = Sketches::default();
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 500.0, f64::INFINITY, 500.0, f64::NAN];
        sketches.add(values.iter().map(|value| Sample { at: 1, value: *value }), RANGE, 16, 100);
        let mut bins: Vec<Bin> = sketches.inside(Timestamp(1), RANGE).collect();
        bins.sort_by(|a, b| order(a.mean, b.mean));
        let shown: Vec<String> = bins.iter().map(|bin| format!("{} x{}", bin.mean, bin.count)).collect();
        assert_eq!(shown, ["NaN x2", "-inf x1", "-0 x1", "500 x2", "inf x2"]);
    }

    const RANGE: Duration = Duration::from_nanos(5_000);
}
