//! `sum`, `topk` and their like.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Element, LabelSet, Vector};
use crate::labels::Labels;
use crate::logql::ast::VectorOp;

/// `op(parameter, vector) by (...)`. An empty label makes a group of its own, but `without` leaves it out of the group's labels. Groups come sorted by labels; `topk`, `bottomk` and the sorts keep the elements' own labels and
/// order those of a group by value, `NaN` last. Of equal values `topk` and `bottomk` keep those that came first.
pub fn aggregate(op: VectorOp, parameter: Option<f64>, groups: &LabelSet, vector: Vector) -> Vector {
    let mut by_group: BTreeMap<Labels, Vector> = BTreeMap::new();
    for element in vector {
        let key = Labels::with_empty(element.labels.iter().filter(|(name, _)| groups.contains(name)));
        by_group.entry(key).or_default().push(element);
    }
    let labels = |key: Labels| if matches!(groups, LabelSet::Only(_)) { key } else { key.without_empty() };
    let count = parameter.unwrap_or(0.0) as usize;
    match op {
        VectorOp::Topk | VectorOp::ApproxTopk => ranked(by_group, descending, count),
        VectorOp::Bottomk => ranked(by_group, ascending, count),
        VectorOp::SortDesc => ranked(by_group, descending, usize::MAX),
        VectorOp::Sort => ranked(by_group, ascending, usize::MAX),
        _ => {
            by_group.into_iter().map(|(key, group)| Element { labels: labels(key), value: fold(op, &group) }).collect()
        }
    }
}

fn ranked(groups: BTreeMap<Labels, Vector>, order: fn(f64, f64) -> Ordering, count: usize) -> Vector {
    let best = |mut group: Vector| {
        group.sort_by(|a, b| order(a.value, b.value));
        group.truncate(count);
        group
    };
    groups.into_values().flat_map(best).collect()
}

fn ascending(a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

fn descending(a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then(b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

fn fold(op: VectorOp, group: &[Element]) -> f64 {
    let values = group.iter().map(|element| element.value);
    match op {
        VectorOp::Count => group.len() as f64,
        VectorOp::Avg => mean(values),
        VectorOp::Min => values.fold(f64::NAN, f64::min),
        VectorOp::Max => values.fold(f64::NAN, f64::max),
        VectorOp::Stdvar => variance(values),
        VectorOp::Stddev => variance(values).sqrt(),
        _ => values.sum(),
    }
}

/// The mean, value by value, so that it does not overflow where their sum would; an infinite one stays what it is until an infinity
/// of the other sign comes.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let mut mean = 0.0_f64;
    for (before, value) in values.enumerate() {
        let is_settled = mean.is_infinite() && (value.is_finite() || value == mean);
        match before {
            0 => mean = value,
            _ if is_settled => {}
            _ => mean += (value - mean) / (before + 1) as f64,
        }
    }
    mean
}

/// The population's variance, by Welford's method, which starts at the first value.
fn variance(mut values: impl Iterator<Item = f64>) -> f64 {
    let Some(mut mean) = values.next() else { return f64::NAN };
    let (mut count, mut squares) = (1.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(elements: &[(&str, &str, f64)]) -> Vector {
        let element =
            |(a, b, value): &(&str, &str, f64)| Element { labels: Labels::new([("a", *a), ("b", *b)]), value: *value };
        elements.iter().map(element).collect()
    }

    fn values(vector: &Vector) -> Vec<f64> {
        vector.iter().map(|element| element.value).collect()
    }

    fn by(name: &str) -> LabelSet {
        LabelSet::Only(vec![name.to_owned()])
    }

    #[test]
    fn aggregations_group() {
        let elements = vector(&[("1", "x", 2.0), ("1", "y", 4.0), ("2", "x", 9.0)]);
        let by_a = |op| values(&aggregate(op, None, &by("a"), elements.clone()));
        assert_eq!(by_a(VectorOp::Sum), [6.0, 9.0]);
        assert_eq!(by_a(VectorOp::Avg), [3.0, 9.0]);
        assert_eq!(by_a(VectorOp::Min), [2.0, 9.0]);
        assert_eq!(by_a(VectorOp::Max), [4.0, 9.0]);
        assert_eq!(by_a(VectorOp::Count), [2.0, 1.0]);
        assert_eq!(by_a(VectorOp::Stdvar), [1.0, 0.0]);
        assert_eq!(by_a(VectorOp::Stddev), [1.0, 0.0]);
        let without = aggregate(VectorOp::Sum, None, &LabelSet::AllBut(vec!["a".to_owned()]), elements);
        assert_eq!(values(&without), [11.0, 4.0]);
    }

    #[test]
    fn the_largest_come_first_and_what_is_no_number_last() {
        let all = LabelSet::Only(vec![]);
        let elements = vector(&[("1", "", 2.0), ("2", "", f64::NAN), ("3", "", 9.0), ("4", "", 2.0)]);
        let names = |op, k| {
            let best = aggregate(op, k, &all, elements.clone());
            best.iter().filter_map(|element| element.labels.get("a").map(str::to_owned)).collect::<String>()
        };
        assert_eq!(names(VectorOp::Topk, Some(2.0)), "31");
        assert_eq!(names(VectorOp::Topk, Some(9.0)), "3142");
        assert_eq!(names(VectorOp::Bottomk, Some(3.0)), "143");
        assert_eq!(names(VectorOp::SortDesc, None), "3142");
        assert_eq!(names(VectorOp::Sort, None), "1432");
    }

    #[test]
    fn an_empty_label_makes_a_group() {
        let element =
            |labels: &[(&str, &str)]| Element { labels: Labels::with_empty(labels.iter().copied()), value: 1.0 };
        let elements = vec![element(&[("a", "1"), ("b", "")]), element(&[("a", "1")])];
        let show = |groups| {
            let sums = aggregate(VectorOp::Sum, None, &groups, elements.clone());
            sums.iter().map(|element| element.labels.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(show(by("b")), ["{}", r#"{b=""}"#]);
        assert_eq!(show(LabelSet::AllBut(vec!["x".to_owned()])), [r#"{a="1"}"#, r#"{a="1"}"#]);
        assert_eq!(show(by("a")), [r#"{a="1"}"#]);
    }

    #[test]
    fn an_infinite_mean_stays() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert_eq!(mean([1.0, inf, 2.0, inf].into_iter()), inf);
        assert!(mean([inf, -inf].into_iter()).is_nan());
        assert!(mean([inf, nan].into_iter()).is_nan());
        assert_eq!(mean([f64::MAX, f64::MAX].into_iter()), f64::MAX);
    }

    proptest! {
        #[test]
        fn the_variance_is_the_mean_square_less_the_squared_mean(values in prop::collection::vec(-100..100i32, 1..30)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let count = values.len() as f64;
            let (sum, squares) = (values.iter().sum::<f64>(), values.iter().map(|value| value * value).sum::<f64>());
            let expected = squares / count - (sum / count).powi(2);
            prop_assert!((variance(values.iter().copied()) - expected).abs() < 1e-6);
            prop_assert!((mean(values.into_iter()) - sum / count).abs() < 1e-9);
        }
    }
}
