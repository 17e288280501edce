//! Functions over the samples of one series in one window.

use std::time::Duration;

use crate::logql::ast::RangeOp;

/// A record's weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Nanoseconds since 1970.
    pub(super) at: i64,
    pub(super) value: f64,
}

/// The function's value over samples, of which there is one at least, sorted by time; the window ends at `end` and is `range` long.
pub(super) fn value(op: RangeOp, parameter: f64, samples: &[Sample], end: i64, range: Duration) -> f64 {
    use RangeOp::*;
    let values = || samples.iter().map(|sample| sample.value);
    let seconds = range.as_secs_f64();
    match op {
        CountOverTime => samples.len() as f64,
        BytesOverTime | SumOverTime => values().fold(0.0, |sum, value| sum + value),
        Rate | BytesRate => values().fold(0.0, |sum, value| sum + value) / seconds,
        RateCounter => counter_rate(samples, end, range),
        AvgOverTime => mean(values()),
        MinOverTime => values().fold(f64::NAN, f64::min),
        MaxOverTime => values().fold(f64::NAN, f64::max),
        StdvarOverTime => variance(values()),
        StddevOverTime => variance(values()).sqrt(),
        QuantileOverTime => quantile(parameter, values().collect()),
        FirstOverTime => samples[0].value,
        LastOverTime => samples[samples.len() - 1].value,
        AbsentOverTime => 1.0,
    }
}

/// The mean, value by value, so that it does not overflow; an infinite one stays what it is until an infinity of the other sign comes.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count) = (0.0_f64, 0.0);
    for value in values {
        count += 1.0;
        let is_settled = mean.is_infinite() && (value.is_finite() || value == mean);
        if !is_settled {
            mean += value / count - mean / count;
        }
    }
    mean
}

/// The population's variance, by Welford's method.
fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut count, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

/// The quantile, between two values by their weighted mean; `NaN` is less than all numbers. Infinite for one outside of 0 to 1.
fn quantile(quantile: f64, mut values: Vec<f64>) -> f64 {
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let rank = quantile * (values.len() - 1) as f64;
    let weight = rank - rank.floor();
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// How fast a counter grows, as Prometheus's `rate` reckons: a fall is a restart at zero, and the growth between the first sample and
/// the last is extended to the window's edges where those are near, by half the samples' mean distance where not, yet never to before
/// the counter was zero. 0 for a single sample.
fn counter_rate(samples: &[Sample], end: i64, range: Duration) -> f64 {
    let [first, .., last] = samples else { return 0.0 };
    let start = end - range.as_nanos() as i64;
    let mut growth = last.value - first.value;
    let mut before = 0.0;
    for sample in samples {
        if sample.value < before {
            growth += before;
        }
        before = sample.value;
    }
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1e9;
    let sampled = seconds(first.at, last.at);
    let distance = sampled / (samples.len() - 1) as f64;
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
