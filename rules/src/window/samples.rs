//! The numbers that one group's records had in a label, in the last minutes: for the functions over `unwrap`.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Mergeable, compact, insert};
use crate::query::over_time::{OverTime, Sample, Summary};
use crate::time::Timestamp;

/// Greatest number of samples in a window that a quantile is taken of. At the limit the oldest are forgotten, and the rule fails, with
/// this limit's name, for as long as its range reaches back to one of them.
pub const WINDOW_SAMPLES_MAX: usize = 64 * 1024;

/// The same where all windows together have more cells than the engine's `window_cells_max`.
pub const WINDOW_SAMPLES_MAX_OVER_BUDGET: usize = 4 * 1024;

/// The samples of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum SampleWindow {
    /// One by one while there are few, summed up over grains of time when there are many, as the cells of counts are.
    Summaries(VecDeque<Summary>),
    /// One by one: no summary tells a quantile.
    Samples { samples: VecDeque<Sample>, forgotten: Timestamp },
}

/// A range that reaches back to samples that were forgotten because there were too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManySamples;

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
        Self::Samples { samples: VecDeque::new(), forgotten: Timestamp::MIN }
    }

    /// Adds a sample at its place in time. [`compact`](Self::compact) is to follow, once what came together is in.
    pub(crate) fn insert(&mut self, sample: Sample) {
        match self {
            Self::Summaries(summaries) => insert(summaries, sample.into()),
            Self::Samples { samples, forgotten } if sample.at > forgotten.0 => insert(samples, sample),
            Self::Samples { .. } => {}
        }
    }

    /// Keeps no more than the limit allows.
    pub(crate) fn compact(&mut self, retention: Duration, cells_max: usize, samples_max: usize) {
        match self {
            Self::Summaries(summaries) => compact(summaries, retention, cells_max),
            Self::Samples { samples, forgotten } => {
                let excess = samples.len().saturating_sub(samples_max);
                if let Some(last) = samples.drain(..excess).next_back() {
                    *forgotten = Timestamp(last.at);
                }
            }
        }
    }

    /// Forgets what happened at or before `until`.
    pub(crate) fn evict(&mut self, until: Timestamp) {
        match self {
            Self::Summaries(summaries) => super::evict(summaries, until, |_| {}),
            Self::Samples { samples, .. } => super::evict(samples, until, |_| {}),
        }
    }

    /// When the last record in it happened.
    pub(crate) fn last(&self) -> Option<Timestamp> {
        match self {
            Self::Summaries(summaries) => summaries.back().map(Mergeable::at),
            Self::Samples { samples, .. } => samples.back().map(Mergeable::at),
        }
    }

    /// All that is in it, unless the samples are kept one by one.
    pub(crate) fn summed(&self) -> Option<&VecDeque<Summary>> {
        match self {
            Self::Summaries(summaries) => Some(summaries),
            Self::Samples { .. } => None,
        }
    }

    /// The largest of all values, or the smallest: none at any time is further.
    pub(crate) fn furthest(&self, further: impl Fn(f64, f64) -> f64 + Copy) -> Option<f64> {
        match self {
            Self::Summaries(summaries) => {
                summaries.iter().map(|samples| further(samples.min, samples.max)).reduce(further)
            }
            Self::Samples { samples, .. } => samples.iter().map(|sample| sample.value).reduce(further),
        }
    }

    /// How many cells of 16 bytes it takes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Summaries(summaries) => summaries.len() * size_of::<Summary>() / size_of::<super::Cell>(),
            Self::Samples { samples, .. } => samples.len(),
        }
    }

    /// Whether one is in `(t - range, t]`.
    pub(crate) fn has_samples(&self, t: Timestamp, range: Duration) -> bool {
        match self {
            Self::Summaries(summaries) => !inside(summaries, t, range).is_empty(),
            Self::Samples { samples, .. } => !inside(samples, t, range).is_empty(),
        }
    }

    /// What a function makes of the samples in `(t - range, t]`, its own window ending at `end`; `None` where there is none.
    pub(crate) fn value(
        &self,
        t: Timestamp,
        range: Duration,
        function: &OverTime,
        end: Timestamp,
    ) -> Result<Option<f64>, TooManySamples> {
        match self {
            Self::Summaries(summaries) => {
                let inside = summaries.range(inside(summaries, t, range));
                Ok((inside.len() > 0).then(|| function.value(inside.copied(), end.0)))
            }
            Self::Samples { forgotten, .. } if t - range < *forgotten => Err(TooManySamples),
            Self::Samples { samples, .. } => {
                let inside = samples.range(inside(samples, t, range));
                Ok((inside.len() > 0).then(|| function.value(inside.map(Summary::from), end.0)))
            }
        }
    }
}

fn inside<C: Mergeable>(cells: &VecDeque<C>, t: Timestamp, range: Duration) -> Range<usize> {
    let start = cells.partition_point(|cell| cell.at() <= t - range);
    start..cells.partition_point(|cell| cell.at() <= t).max(start)
}
