//! Operators on instant vectors: small sets of labelled values at one time.
//!
//! They do what Loki's do, which are Prometheus's; a division by zero is `NaN`, though, not infinite. Each keeps the order in which
//! its elements came, so that what `sort` has ordered stays so.

mod aggregate;
mod label_replace;
pub mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::labels::Labels;
use crate::logql::ast::{BinaryOp, CompareOp, Grouping, LogExpr, MatchCardinality, MatchOp, VectorMatching};
use crate::pipeline::label_filter::compare;

pub use aggregate::aggregate;
pub use label_replace::LabelReplace;

/// One value and its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Its labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// A vector. Each label set is there once, unless `label_replace` has made several equal.
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

impl From<Option<&Grouping>> for LabelSet {
    /// Without grouping all elements are one group.
    fn from(grouping: Option<&Grouping>) -> Self {
        match grouping {
            None => Self::Only(Vec::new()),
            Some(grouping) if grouping.without => Self::AllBut(grouping.labels.clone()),
            Some(grouping) => {
                let names: BTreeSet<&String> = grouping.labels.iter().collect();
                Self::Only(names.into_iter().cloned().collect())
            }
        }
    }
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

impl From<Option<&VectorMatching>> for Join {
    /// Without `on` or `ignoring` elements with the same labels belong together.
    fn from(matching: Option<&VectorMatching>) -> Self {
        let Some(matching) = matching else {
            let labels = LabelSet::AllBut(Vec::new());
            return Self { labels, card: MatchCardinality::OneToOne, include: Vec::new() };
        };
        let labels = matching.labels.clone();
        let labels = if matching.on { LabelSet::Only(labels) } else { LabelSet::AllBut(labels) };
        Self { labels, card: matching.card, include: matching.include.clone() }
    }
}

/// What an absence is labelled with: the labels that its selector pins down.
pub fn absent_labels(log: &LogExpr) -> Labels {
    let matchers = &log.selector.matchers;
    let is_pinned = |name: &str| matchers.iter().filter(|other| other.name == name).count() == 1;
    let pinned = matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal && is_pinned(&matcher.name));
    Labels::new(pinned.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())))
}

/// Elements that belong together more than once, so that the result would not be a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyToMany(pub Labels);

impl fmt::Display for ManyToMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "several series match {}: by `on` or `ignoring` each must have one counterpart, by `group_left` and `group_right` on the other side",
            self.0
        )
    }
}

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
pub(crate) fn calculate(op: BinaryOp, a: f64, b: f64, return_bool: bool) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => power(a, b),
        BinaryOp::Compare(op) => return comparison(op, a, b, return_bool),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => return None,
    })
}

/// A power as Go reckons it, to the last bit: a whole one by squaring, a half one by the root.
fn power(base: f64, exponent: f64) -> f64 {
    let magnitude = match exponent.abs() {
        0.5 => base.sqrt(),
        whole if whole.fract() == 0.0 && whole <= WHOLE_EXPONENT_MAX => squared(base, whole as u32),
        _ => return base.powf(exponent),
    };
    match if exponent < 0.0 { 1.0 / magnitude } else { magnitude } {
        exact if exact.is_normal() => exact,
        _ => base.powf(exponent),
    }
}

fn squared(mut base: f64, mut exponent: u32) -> f64 {
    let mut power = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    power
}

/// Beyond it a power of what is not near 1 is no number of 64 bits.
const WHOLE_EXPONENT_MAX: f64 = 1024.0;

fn comparison(op: CompareOp, a: f64, b: f64, return_bool: bool) -> Option<f64> {
    match (compare(op, a, b), return_bool) {
        (holds, true) => Some(if holds { 1.0 } else { 0.0 }),
        (holds, false) => holds.then_some(a),
    }
}

fn set_operation(op: BinaryOp, on: &LabelSet, mut lhs: Vector, rhs: Vector) -> Vector {
    let keys = |vector: &Vector| vector.iter().map(|element| on.select(&element.labels)).collect::<Vec<_>>();
    let (left, right) = (keys(&lhs), keys(&rhs));
    if op == BinaryOp::Or {
        let taken: BTreeSet<&Labels> = left.iter().collect();
        lhs.extend(rhs.into_iter().zip(&right).filter(|(_, key)| !taken.contains(key)).map(|(element, _)| element));
    } else {
        let others: BTreeSet<&Labels> = right.iter().collect();
        let mut keep = left.iter().map(|key| others.contains(key) == (op == BinaryOp::And));
        lhs.retain(|_| keep.next().unwrap_or(false));
    }
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
    let mut taken: BTreeSet<Labels> = BTreeSet::new();
    let mut result = Vector::new();
    for element in many {
        let key = join.labels.select(&element.labels);
        let Some(one) = ones.get(&key) else { continue };
        let labels = result_labels(join, &element.labels, &one.labels, key);
        if !taken.insert(labels.clone()) {
            return Err(ManyToMany(labels));
        }
        let (a, b) = if swapped { (one.value, element.value) } else { (element.value, one.value) };
        result.extend(calculate(op, a, b, return_bool).map(|value| Element { labels, value }));
    }
    Ok(result)
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
    fn powers_are_gos() {
        // Each was asked of a real Loki; the last bit of the first two is another by the C library's `pow`.
        assert_eq!(power(1.2669923255026971, -3.0), 0.4916749103009911);
        assert_eq!(power(8.724077654368019, 4.0), 5792.660696777709);
        assert_eq!(power(2.0, 0.5), std::f64::consts::SQRT_2);
        assert_eq!((power(-2.0, 3.0), power(0.0, 0.0), power(0.0, -1.0)), (-8.0, 1.0, f64::INFINITY));
        assert_eq!((power(10.0, 400.0), power(10.0, -400.0)), (f64::INFINITY, 0.0));
        assert!(power(-2.0, 0.5).is_nan());
    }

    #[test]
    fn sets_are_made_of_label_sets() {
        let (a, b) = (|| vector(&[("1", "", 1.0), ("2", "", 2.0)]), || vector(&[("2", "", 20.0), ("3", "", 30.0)]));
        assert_eq!(show(binary(And, false, &one_to_one(), a(), b())), r#"{a="2"} 2"#);
        assert_eq!(show(binary(Unless, false, &one_to_one(), a(), b())), r#"{a="1"} 1"#);
        assert_eq!(show(binary(Or, false, &one_to_one(), a(), b())), r#"{a="1"} 1; {a="2"} 2; {a="3"} 30"#);
    }
}
