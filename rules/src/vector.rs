//! Operators on instant vectors: small sets of labelled values at one time.
//!
//! They do what Loki's do, which are Prometheus's; a division by zero is `NaN`, though, not infinite.

use std::collections::BTreeMap;

use crate::labels::Labels;
use crate::logql::ast::{BinaryOp, CompareOp, MatchCardinality, VectorOp};
use crate::pipeline::label_filter::compare;

/// One value and its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Its labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// A vector, sorted by labels, each label set once.
pub type Vector = Vec<Element>;

/// What a node of an expression yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// One number.
    Scalar(f64),
    /// A vector.
    Vector(Vector),
}

/// Which labels make a group, or make two elements belong together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelSet {
    /// These: `by (...)`, `on (...)`.
    Only(Vec<String>),
    /// All but these: `without (...)`, `ignoring (...)`.
    AllBut(Vec<String>),
}

impl LabelSet {
    /// The labels of `labels` that are in the set.
    pub fn select(&self, labels: &Labels) -> Labels {
        Labels::new(labels.iter().filter(|(name, _)| self.contains(name)))
    }

    /// Whether the set has a label of that name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.iter().any(|other| other == name),
            Self::AllBut(names) => !names.iter().any(|other| other == name),
        }
    }
}

/// `op by (...) (vector)`
pub fn aggregate(op: VectorOp, groups: &LabelSet, vector: Vector) -> Vector {
    let mut values: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for element in vector {
        values.entry(groups.select(&element.labels)).or_default().push(element.value);
    }
    values.into_iter().map(|(labels, values)| Element { labels, value: fold(op, &values) }).collect()
}

fn fold(op: VectorOp, values: &[f64]) -> f64 {
    let sum = || values.iter().sum::<f64>();
    match op {
        VectorOp::Count => values.len() as f64,
        VectorOp::Avg => sum() / values.len() as f64,
        VectorOp::Min => values.iter().copied().fold(f64::NAN, f64::min),
        VectorOp::Max => values.iter().copied().fold(f64::NAN, f64::max),
        _ => sum(),
    }
}

/// How a binary operator joins vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// Labels that must be equal.
    pub labels: LabelSet,
    /// Which side may have several elements for one of the other.
    pub card: MatchCardinality,
    /// Labels taken from the side that has one.
    pub include: Vec<String>,
}

/// Elements that belong together more than once, so that the result would not be a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyToMany(pub Labels);

/// `lhs op rhs`
pub fn binary(op: BinaryOp, return_bool: bool, join: &Join, lhs: Operand, rhs: Operand) -> Result<Operand, ManyToMany> {
    use Operand::{Scalar, Vector};
    Ok(match (lhs, rhs) {
        (Scalar(a), Scalar(b)) => Scalar(calculate(op, a, b, true).unwrap_or(0.0)),
        (Vector(vector), Scalar(b)) => {
            Vector(with_scalar(vector, |a| calculate(op, a, b, return_bool), op, return_bool))
        }
        (Scalar(a), Vector(vector)) => {
            Vector(with_scalar(vector, |b| calculate(op, a, b, return_bool), op, return_bool))
        }
        (Vector(a), Vector(b)) if op.is_set() => Vector(set_operation(op, &join.labels, a, b)),
        (Vector(a), Vector(b)) => Vector(joined(op, return_bool, join, a, b)?),
    })
}

/// A comparison keeps the vector's own value, not the number it was compared with.
fn with_scalar(vector: Vector, calculate: impl Fn(f64) -> Option<f64>, op: BinaryOp, return_bool: bool) -> Vector {
    let filters = matches!(op, BinaryOp::Compare(_)) && !return_bool;
    let value = |element: &Element| calculate(element.value).map(|value| if filters { element.value } else { value });
    vector.into_iter().filter_map(|element| Some(Element { value: value(&element)?, ..element })).collect()
}

/// `None` where a comparison does not hold and drops the element.
fn calculate(op: BinaryOp, a: f64, b: f64, return_bool: bool) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Compare(op) => return comparison(op, a, b, return_bool),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => return None,
    })
}

fn comparison(op: CompareOp, a: f64, b: f64, return_bool: bool) -> Option<f64> {
    match (compare(op, a, b), return_bool) {
        (holds, true) => Some(if holds { 1.0 } else { 0.0 }),
        (holds, false) => holds.then_some(a),
    }
}

fn set_operation(op: BinaryOp, on: &LabelSet, mut lhs: Vector, rhs: Vector) -> Vector {
    let keys = |vector: &Vector| vector.iter().map(|element| on.select(&element.labels)).collect::<Vec<_>>();
    let (left, right) = (keys(&lhs), keys(&rhs));
    match op {
        BinaryOp::Or => {
            lhs.extend(rhs.into_iter().zip(right).filter(|(_, key)| !left.contains(key)).map(|(element, _)| element))
        }
        _ => {
            let mut keep = left.iter().map(|key| right.contains(key) == (op == BinaryOp::And));
            lhs.retain(|_| keep.next().unwrap_or(false));
        }
    }
    lhs.sort_by(|a, b| a.labels.cmp(&b.labels));
    lhs
}

fn joined(op: BinaryOp, return_bool: bool, join: &Join, lhs: Vector, rhs: Vector) -> Result<Vector, ManyToMany> {
    let swapped = join.card == MatchCardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let mut ones: BTreeMap<Labels, Element> = BTreeMap::new();
    for element in one {
        if let Some(double) = ones.insert(join.labels.select(&element.labels), element) {
            return Err(ManyToMany(double.labels));
        }
    }
    let mut result: BTreeMap<Labels, f64> = BTreeMap::new();
    for element in many {
        let key = join.labels.select(&element.labels);
        let Some(one) = ones.get(&key) else { continue };
        let (a, b) = if swapped { (one.value, element.value) } else { (element.value, one.value) };
        let Some(value) = calculate(op, a, b, return_bool) else { continue };
        let labels = result_labels(join, &element.labels, &one.labels, key);
        if result.insert(labels.clone(), value).is_some() {
            return Err(ManyToMany(labels));
        }
    }
    Ok(result.into_iter().map(|(labels, value)| Element { labels, value }).collect())
}

fn result_labels(join: &Join, many: &Labels, one: &Labels, key: Labels) -> Labels {
    if join.card == MatchCardinality::OneToOne {
        return key;
    }
    let included = join.include.iter().map(|name| (name.as_str(), one.get(name).unwrap_or_default()));
    Labels::new(many.iter().chain(included))
}

#[cfg(test)]
mod tests {
    use super::*;
    use BinaryOp::{Add, And, Compare, Div, Or, Unless};

    fn vector(elements: &[(&str, &str, f64)]) -> Operand {
        let element =
            |(a, b, value): &(&str, &str, f64)| Element { labels: Labels::new([("a", *a), ("b", *b)]), value: *value };
        Operand::Vector(elements.iter().map(element).collect())
    }

    fn show(result: Result<Operand, ManyToMany>) -> String {
        match result {
            Err(ManyToMany(labels)) => format!("many to many at {labels}"),
            Ok(Operand::Scalar(value)) => value.to_string(),
            Ok(Operand::Vector(vector)) => vector
                .iter()
                .map(|element| format!("{} {}", element.labels, element.value))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }

    fn join(card: MatchCardinality, on: &[&str], include: &[&str]) -> Join {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Join { labels: LabelSet::Only(owned(on)), card, include: owned(include) }
    }

    fn one_to_one() -> Join {
        Join { labels: LabelSet::AllBut(vec![]), card: MatchCardinality::OneToOne, include: vec![] }
    }

    #[test]
    fn aggregations_group() {
        let Operand::Vector(elements) = vector(&[("1", "x", 2.0), ("1", "y", 4.0), ("2", "x", 9.0)]) else {
            unreachable!()
        };
        let by = |op| {
            let result = aggregate(op, &LabelSet::Only(vec!["a".to_owned()]), elements.clone());
            result.iter().map(|element| element.value).collect::<Vec<_>>()
        };
        assert_eq!(by(VectorOp::Sum), [6.0, 9.0]);
        assert_eq!(by(VectorOp::Avg), [3.0, 9.0]);
        assert_eq!(by(VectorOp::Min), [2.0, 9.0]);
        assert_eq!(by(VectorOp::Max), [4.0, 9.0]);
        assert_eq!(by(VectorOp::Count), [2.0, 1.0]);
        let without = aggregate(VectorOp::Sum, &LabelSet::AllBut(vec!["a".to_owned()]), elements.clone());
        assert_eq!(without.iter().map(|element| element.value).collect::<Vec<_>>(), [11.0, 4.0]);
    }

    #[test]
    fn comparisons_filter_or_yield_bools() {
        let v = || vector(&[("1", "", 2.0), ("2", "", 9.0)]);
        let greater = Compare(CompareOp::Greater);
        assert_eq!(show(binary(greater, false, &one_to_one(), v(), Operand::Scalar(5.0))), r#"{a="2"} 9"#);
        assert_eq!(show(binary(greater, false, &one_to_one(), Operand::Scalar(5.0), v())), r#"{a="1"} 2"#);
        assert_eq!(show(binary(greater, true, &one_to_one(), v(), Operand::Scalar(5.0))), r#"{a="1"} 0; {a="2"} 1"#);
        assert_eq!(show(binary(greater, false, &one_to_one(), Operand::Scalar(5.0), Operand::Scalar(6.0))), "0");
    }

    #[test]
    fn vectors_join_on_their_labels() {
        let errors = || vector(&[("1", "", 2.0), ("2", "", 9.0)]);
        let all = || vector(&[("1", "", 4.0), ("2", "", 0.0), ("3", "", 1.0)]);
        assert_eq!(show(binary(Div, false, &one_to_one(), errors(), all())), r#"{a="1"} 0.5; {a="2"} NaN"#);
        let parts = || vector(&[("1", "x", 1.0), ("1", "y", 3.0)]);
        let on_a = join(MatchCardinality::OneToOne, &["a"], &[]);
        assert_eq!(show(binary(Add, false, &on_a, errors(), parts())), r#"many to many at {a="1", b="x"}"#);
        let left = join(MatchCardinality::ManyToOne, &["a"], &[]);
        assert_eq!(show(binary(Div, false, &left, parts(), errors())), r#"{a="1", b="x"} 0.5; {a="1", b="y"} 1.5"#);
        let right = join(MatchCardinality::OneToMany, &["a"], &[]);
        assert_eq!(
            show(binary(Div, false, &right, errors(), parts())),
            r#"{a="1", b="x"} 2; {a="1", b="y"} 0.6666666666666666"#
        );
    }

    #[test]
    fn sets_are_made_of_label_sets() {
        let (a, b) = (|| vector(&[("1", "", 1.0), ("2", "", 2.0)]), || vector(&[("2", "", 20.0), ("3", "", 30.0)]));
        assert_eq!(show(binary(And, false, &one_to_one(), a(), b())), r#"{a="2"} 2"#);
        assert_eq!(show(binary(Unless, false, &one_to_one(), a(), b())), r#"{a="1"} 1"#);
        assert_eq!(show(binary(Or, false, &one_to_one(), a(), b())), r#"{a="1"} 1; {a="2"} 2; {a="3"} 30"#);
    }
}
