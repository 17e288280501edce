//! Functions over the samples of one series in one window, as batch and stream evaluate them.
//!
//! They read summaries: of one sample each, which is exact, or, in the windows of rules, of neighbours in time that have been merged.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logql::ast::RangeOp;

/// A record's weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Nanoseconds since 1970.
    pub(crate) at: i64,
    pub(crate) value: f64,
}

/// What the functions need to know of some samples that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The squares of what lies between the samples and their mean.
    squares: f64,
    first: Sample,
    pub(crate) last: Sample,
    /// What a counter had reached when it began anew, summed up.
    restarts: f64,
}

impl From<Sample> for Summary {
    fn from(sample: Sample) -> Self {
        let value = sample.value;
        let (sum, min, max) = (value, value, value);
        Self { count: 1, sum, min, max, squares: 0.0, first: sample, last: sample, restarts: 0.0 }
    }
}

impl From<&Sample> for Summary {
    fn from(sample: &Sample) -> Self {
        (*sample).into()
    }
}

impl Summary {
    /// Takes in the samples behind its own.
    pub(crate) fn join(&mut self, later: &Self) {
        let (ours, theirs) = (self.count as f64, later.count as f64);
        let delta = later.mean() - self.mean();
        self.squares += later.squares + delta * delta * ours * theirs / (ours + theirs);
        self.restarts += later.restarts + if later.first.value < self.last.value { self.last.value } else { 0.0 };
        self.count += later.count;
        self.sum += later.sum;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.last = later.last;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// A function over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OverTime {
    pub(crate) op: RangeOp,
    /// The quantile.
    pub(crate) parameter: f64,
    /// The window's length.
    pub(crate) range: Duration,
}

impl OverTime {
    /// The value over a window of which there is one sample at least, sorted by time; it ends at `end`. A quantile is that of the
    /// summaries' means: exact where each is of one sample.
    pub(crate) fn value(&self, mut window: impl DoubleEndedIterator<Item = Summary> + Clone, end: i64) -> f64 {
        use RangeOp::*;
        let seconds = self.range.as_secs_f64();
        match self.op {
            CountOverTime => window.map(|samples| samples.count).sum::<u64>() as f64,
            BytesOverTime | SumOverTime => sum(window),
            Rate | BytesRate => sum(window) / seconds,
            RateCounter => counter_rate(window, end, self.range),
            AvgOverTime => mean(window),
            MinOverTime => window.map(|samples| samples.min).fold(f64::NAN, f64::min),
            MaxOverTime => window.map(|samples| samples.max).fold(f64::NAN, f64::max),
            StdvarOverTime => variance(window),
            StddevOverTime => variance(window).sqrt(),
            QuantileOverTime => {
                quantile(self.parameter, window.map(|samples| (samples.mean(), samples.count)).collect())
            }
            FirstOverTime => window.next().map_or(f64::NAN, |samples| samples.first.value),
            LastOverTime => window.next_back().map_or(f64::NAN, |samples| samples.last.value),
            AbsentOverTime => 1.0,
        }
    }
}

fn sum(window: impl Iterator<Item = Summary>) -> f64 {
    window.fold(0.0, |sum, samples| sum + samples.sum)
}

/// The mean, value by value, so that it does not overflow; an infinite one stays what it is until an infinity of the other sign comes.
fn mean(window: impl Iterator<Item = Summary>) -> f64 {
    let (mut mean, mut count) = (0.0_f64, 0.0);
    for samples in window {
        let (value, new) = (samples.mean(), samples.count as f64);
        count += new;
        let is_settled = mean.is_infinite() && (value.is_finite() || value == mean);
        if !is_settled {
            mean += value * new / count - mean * new / count;
        }
    }
    mean
}

/// The population's variance, by Welford's method.
fn variance(window: impl Iterator<Item = Summary>) -> f64 {
    let (mut mean, mut count, mut squares) = (0.0, 0.0, 0.0);
    for samples in window {
        let (value, new) = (samples.mean(), samples.count as f64);
        count += new;
        let delta = value - mean;
        mean += delta * new / count;
        squares += samples.squares + delta * (value - mean) * new;
    }
    squares / count
}

/// The quantile of values, each so many times there: between two of them by their weighted mean. `NaN` is less than all numbers. Infinite for
/// one outside of 0 to 1.
pub(crate) fn quantile(quantile: f64, mut values: Vec<(f64, u64)>) -> f64 {
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|(a, _), (b, _)| order(*a, *b));
    let mut count = 0;
    for (_, upto) in &mut values {
        count += *upto;
        *upto = count;
    }
    let at = |rank: u64| values[values.partition_point(|(_, upto)| *upto <= rank)].0;
    let rank = quantile * (count - 1) as f64;
    let weight = rank - rank.floor();
    let lower = rank.floor() as u64;
    let upper = (lower + 1).min(count - 1);
    at(lower) * (1.0 - weight) + at(upper) * weight
}

/// As quantiles have it: `NaN` is less than all numbers.
pub(crate) fn order(a: f64, b: f64) -> Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(&b))
}

/// How fast a counter grows, as Prometheus's `rate` reckons: a fall is a restart at zero, and the growth between the first sample and
/// the last is extended to the window's edges where those are near, by half the samples' mean distance where not, yet never to before
/// the counter was zero. 0 for a single sample.
fn counter_rate(window: impl DoubleEndedIterator<Item = Summary> + Clone, end: i64, range: Duration) -> f64 {
    let (Some(first), Some(last)) = (window.clone().next(), window.clone().next_back()) else { return 0.0 };
    let (first, last) = (first.first, last.last);
    let start = end - range.as_nanos() as i64;
    let mut growth = last.value - first.value;
    let (mut before, mut count) = (first.value, 0);
    for samples in window {
        if samples.first.value < before {
            growth += before;
        }
        growth += samples.restarts;
        before = samples.last.value;
        count += samples.count;
    }
    if count < 2 {
        return 0.0;
    }
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1e9;
    let sampled = seconds(first.at, last.at);
    let distance = sampled / (count - 1) as f64;
    let near = distance * 1.1;
    let mut ahead = seconds(start, first.at);
    if ahead >= near {
        ahead = distance / 2.0;
    }
    let to_zero = if growth > 0.0 && first.value >= 0.0 { sampled * (first.value / growth) } else { ahead };
    if to_zero < ahead {
        ahead = to_zero;
    }
    let mut behind = seconds(last.at, end);
    if behind >= near {
        behind = distance / 2.0;
    }
    growth * ((sampled + ahead + behind) / sampled) / range.as_secs_f64()
}
