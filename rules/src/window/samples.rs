//! The numbers that one group's records had in a label, in the last minutes: for the functions over `unwrap`.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::sketch::{Bin, Sketches};
use super::{Mergeable, changes_after, compact, insert, inside};
use crate::query::over_time::{OverTime, Sample, Summary, quantile};
use crate::time::Timestamp;

/// Greatest number of samples in a window that a quantile is taken of. At the limit the older ones are summed up over grains of time
/// (`retention / 64`) and small ranges of values: for as long as a range reaches back to one of those, the quantile is an estimate, which
/// the rule's status says with how far it may be off. There is room for 32,768 ranges of values, some 256 to 345 a grain: that is 128 to a power of two (an
/// error of 0.8 %) where the values of a grain are within two of these, 32 or 64 (3.1 or 1.6 %) within five, 16 or 32 (6.3 or 3.1 %) within ten.
pub const WINDOW_SAMPLES_MAX: usize = 64 * 1024;

/// The same where all windows together have more cells than the engine's `window_cells_max`: of 2,048 ranges over grains of
/// `retention / 32` there are some 32 to 43 a grain. Within two powers of two the error is 6.3 %, within ten 25 or 50 %.
pub const WINDOW_SAMPLES_MAX_OVER_BUDGET: usize = 4 * 1024;

/// The samples of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) enum SampleWindow {
    /// One by one while there are few, summed up over grains of time when there are many, as the cells of counts are.
    Summaries(VecDeque<Summary>),
    /// For quantiles: one by one.
    Samples(#[serde(serialize_with = "with_forgotten")] VecDeque<Sample>),
    /// The same where there are too many: one by one the later ones.
    Estimated { samples: VecDeque<Sample>, earlier: Sketches },
}

/// As it stands in snapshots: beside samples until when others were forgotten, which is nothing any more, but was in older ones.
#[derive(Deserialize)]
enum Stored {
    Summaries(VecDeque<Summary>),
    Samples((VecDeque<Sample>, Timestamp)),
    Estimated { samples: VecDeque<Sample>, earlier: Sketches },
}

fn with_forgotten<S: Serializer>(samples: &VecDeque<Sample>, serializer: S) -> Result<S::Ok, S::Error> {
    (samples, Timestamp::MIN).serialize(serializer)
}

impl From<Stored> for SampleWindow {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Summaries(summaries) => Self::Summaries(summaries),
            Stored::Samples((samples, Timestamp::MIN)) => Self::Samples(samples),
            Stored::Samples((samples, forgotten)) => {
                Self::Estimated { samples, earlier: Sketches::of_forgotten(forgotten) }
            }
            Stored::Estimated { samples, earlier } => Self::Estimated { samples, earlier },
        }
    }
}

impl Mergeable for Summary {
    fn at(&self) -> Timestamp {
        Timestamp(self.last.at)
    }

    fn merge(&mut self, later: &Self) {
        self.join(later);
    }
}

impl Mergeable for Sample {
    fn at(&self) -> Timestamp {
        Timestamp(self.at)
    }

    fn merge(&mut self, later: &Self) {
        *self = *later;
    }
}

impl SampleWindow {
    /// An empty window of summaries.
    pub(crate) fn summaries() -> Self {
        Self::Summaries(VecDeque::new())
    }

    /// An empty window of samples.
    pub(crate) fn samples() -> Self {
        Self::Samples(VecDeque::new())
    }

    /// Adds a sample at its place in time. [`compact`](Self::compact) is to follow, once what came together is in.
    pub(crate) fn insert(&mut self, sample: Sample) {
        match self {
            Self::Summaries(summaries) => insert(summaries, sample.into()),
            Self::Samples(samples) | Self::Estimated { samples, .. } => insert(samples, sample),
        }
    }

    /// Keeps no more than the limit allows.
    pub(crate) fn compact(&mut self, retention: Duration, cells_max: usize, samples_max: usize) {
        if let Self::Samples(samples) = self
            && samples.len() > samples_max
        {
            *self = Self::Estimated { samples: std::mem::take(samples), earlier: Sketches::default() };
        }
        match self {
            Self::Summaries(summaries) => compact(summaries, retention, cells_max),
            Self::Estimated { samples, earlier } if samples.len() + earlier.len() > samples_max => {
                // A quarter of the room is for those to come: what is done here is not done for each.
                let excess = samples.len().saturating_sub(samples_max / 4);
                let cells_max = (cells_max / 8).max(SKETCHES_MIN);
                earlier.add(samples.drain(..excess), retention, cells_max, samples_max / 2);
            }
            Self::Samples(_) | Self::Estimated { .. } => {}
        }
    }

    /// Forgets what happened at or before `until`.
    pub(crate) fn evict(&mut self, until: Timestamp) {
        match self {
            Self::Summaries(summaries) => super::evict(summaries, until, |_| {}),
            Self::Samples(samples) => super::evict(samples, until, |_| {}),
            Self::Estimated { samples, earlier } => {
                super::evict(samples, until, |_| {});
                earlier.evict(until);
                if earlier.last().is_none() {
                    *self = Self::Samples(std::mem::take(samples));
                }
            }
        }
    }

    /// When the last record in it happened.
    pub(crate) fn last(&self) -> Option<Timestamp> {
        match self {
            Self::Summaries(summaries) => summaries.back().map(Mergeable::at),
            Self::Samples(samples) => samples.back().map(Mergeable::at),
            Self::Estimated { samples, earlier } => samples.back().map(Mergeable::at).max(earlier.last()),
        }
    }

    /// All that is in it, unless the samples are kept one by one.
    pub(crate) fn summed(&self) -> Option<&VecDeque<Summary>> {
        match self {
            Self::Summaries(summaries) => Some(summaries),
            Self::Samples(_) | Self::Estimated { .. } => None,
        }
    }

    /// The largest of all values, or the smallest: none at any time is further.
    pub(crate) fn furthest(&self, further: impl Fn(f64, f64) -> f64 + Copy) -> Option<f64> {
        let summaries = self.summed()?.iter(); // no edge is judged by a quantile
        summaries.map(|samples| further(samples.min, samples.max)).reduce(further)
    }

    /// How many cells of 16 bytes it takes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Summaries(summaries) => summaries.len() * size_of::<Summary>() / size_of::<super::Cell>(),
            Self::Samples(samples) => samples.len(),
            Self::Estimated { samples, earlier } => samples.len() + earlier.len(),
        }
    }

    /// By what part of it a quantile may be off; `None` where it is exact.
    pub(crate) fn error(&self) -> Option<f64> {
        match self {
            Self::Summaries(_) | Self::Samples(_) => None,
            Self::Estimated { earlier, .. } => Some(earlier.error()),
        }
    }

    /// Whether one is in `(t - range, t]`.
    pub(crate) fn has_samples(&self, t: Timestamp, range: Duration) -> bool {
        match self {
            Self::Summaries(summaries) => !inside(summaries, t, range).is_empty(),
            Self::Samples(samples) => !inside(samples, t, range).is_empty(),
            Self::Estimated { samples, earlier } => {
                !inside(samples, t, range).is_empty() || earlier.inside(t, range).next().is_some()
            }
        }
    }

    /// When after `t` others are in `(t - range, t]`.
    pub(crate) fn changes_after(&self, t: Timestamp, range: Duration) -> Option<Timestamp> {
        match self {
            Self::Summaries(summaries) => changes_after(summaries, t, range),
            Self::Samples(samples) => changes_after(samples, t, range),
            Self::Estimated { samples, earlier } => {
                [changes_after(samples, t, range), earlier.changes_after(t, range)].into_iter().flatten().min()
            }
        }
    }

    /// What a function makes of the samples in `(t - range, t]`, its own window ending at `end`; `None` where there is none.
    pub(crate) fn value(&self, t: Timestamp, range: Duration, function: &OverTime, end: Timestamp) -> Option<f64> {
        match self {
            Self::Summaries(summaries) => {
                let inside = summaries.range(inside(summaries, t, range));
                (inside.len() > 0).then(|| function.value(inside.copied(), end.0))
            }
            Self::Samples(samples) => {
                let inside = samples.range(inside(samples, t, range));
                (inside.len() > 0).then(|| function.value(inside.map(Summary::from), end.0))
            }
            Self::Estimated { samples, earlier } => {
                let later = samples.range(inside(samples, t, range)).map(Bin::from);
                let bins = earlier.inside(t, range).chain(later);
                let values: Vec<(f64, u64)> = bins.map(|bin| (bin.mean, bin.count)).collect();
                (!values.is_empty()).then(|| quantile(function.parameter, values))
            }
        }
    }
}

/// The fewest grains that samples are summed up over: `retention / 32`, and a whole second each for the last 16.
const SKETCHES_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logql::ast::RangeOp;
    use proptest::prelude::*;

    const RETENTION: Duration = Duration::from_secs(60);

    fn quantile_of(parameter: f64) -> OverTime {
        OverTime { op: RangeOp::QuantileOverTime, parameter, range: RETENTION }
    }

    /// The values beside a quantile, one by one.
    fn exact(function: &OverTime, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let rank = function.parameter * (values.len().checked_sub(1)?) as f64;
        Some((values[rank.floor() as usize], values[rank.ceil() as usize]))
    }

    /// The least and the most that a quantile can be of the samples in `(to - range, to]` and of some of those up to `grain` before.
    fn bounds(samples: &[Sample], function: &OverTime, to: i64, range: i64, grain: i64) -> Option<(f64, f64)> {
        let between = |from, to| samples.iter().filter(move |sample| sample.at > from && sample.at <= to);
        let mut more: Vec<f64> = between(to - range - grain, to - range).map(|sample| sample.value).collect();
        more.sort_by(f64::total_cmp);
        let with = |more: &[f64]| {
            exact(function, between(to - range, to).map(|sample| sample.value).chain(more.iter().copied()))
        };
        let all = (0..=more.len()).flat_map(|at| [with(&more[..at]), with(&more[at..])]).flatten();
        all.reduce(|(low, high), (lower, higher)| (low.min(lower), high.max(higher)))
    }

    proptest! {
        /// With few samples a quantile is exact; with many it is off by what the window says, of the samples in the range or up to a grain more.
        #[test]
        fn a_quantile_is_exact_or_off_by_what_is_told(
            given in prop::collection::vec((0..180_000i64, 0.01..100.0f64), 1..2000), parameter in 0.0..=1.0f64,
            samples_max in prop_oneof![Just(600usize), Just(1000)], batch in 1..200usize,
        ) {
            let samples: Vec<Sample> =
                given.iter().map(|(millis, value)| Sample { at: millis * 1_000_000, value: *value }).collect();
            let mut window = SampleWindow::samples();
            for batch in samples.chunks(batch) {
                batch.iter().for_each(|sample| window.insert(*sample));
                window.compact(3 * RETENTION, super::super::WINDOW_CELLS_MAX, samples_max);
                prop_assert!(window.len() <= samples_max + batch.len());
            }
            prop_assert!(samples.len() > samples_max || window.error().is_none());
            let (function, newest) = (quantile_of(parameter), samples.iter().map(|sample| sample.at).max().unwrap());
            let (range, grain) = (RETENTION.as_nanos() as i64, 3 * RETENTION.as_nanos() as i64 / 64);
            for later in [0, 7, 20, 45, 59] {
                let to = newest + later * 1_000_000_000;
                window.evict(Timestamp(to - 3 * range));
                let told = window.value(Timestamp(to), RETENTION, &function, Timestamp(to));
                let (error, grain) = window.error().map_or((1e-9, 0), |error| (error, grain));
                let bounds = bounds(&samples, &function, to, range, grain);
                match told.zip(bounds) {
                    Some((told, (low, high))) => {
                        let is_within = told >= low - low * error && told <= high + high * error;
                        prop_assert!(is_within, "{told} at {to}: {low} to {high}, {error}");
                    }
                    None => prop_assert!(told.is_none() && !samples.iter().any(|sample| sample.at > to - range)),
                }
            }
        }
    }

    #[test]
    fn what_a_snapshot_of_before_has_forgotten_makes_an_estimate_of_it() {
        let samples = VecDeque::from([Sample { at: 60_000_000_000, value: 7.0 }]);
        let stored = |forgotten| SampleWindow::from(Stored::Samples((samples.clone(), forgotten)));
        assert_eq!(stored(Timestamp::MIN).error(), None);
        let mut window = stored(Timestamp(50_000_000_000));
        assert_eq!(window.error(), Some(f64::INFINITY));
        window.evict(Timestamp(50_000_000_000));
        assert_eq!(window.error(), None);
        assert_eq!(window, SampleWindow::Samples(samples.clone()));
    }

    #[test]
    fn a_quantile_is_exact_again_when_the_many_have_left() {
        let mut window = SampleWindow::samples();
        for millis in 0..5_000 {
            window.insert(Sample { at: millis * 1_000_000, value: 7.0 });
        }
        window.compact(RETENTION, super::super::WINDOW_CELLS_MAX, 1000);
        (0..100).for_each(|n| window.insert(Sample { at: (70_000 + n) * 1_000_000, value: n as f64 }));
        let now = Timestamp(71_000_000_000);
        assert!(window.error().is_some());
        window.evict(now - RETENTION);
        assert_eq!(window.error(), None);
        assert_eq!(window.value(now, RETENTION, &quantile_of(0.5), now), Some(49.5));
    }
}
