//! An expression as both evaluators read it: operators over range aggregations, which each of them has in its own way.

use super::{Element, Join, LabelReplace, LabelSet, ManyToMany, Operand, Vector, aggregate, binary};
use crate::labels::Labels;
use crate::logql::ast::{BinaryOp, MetricExpr, MetricKind, RangeAggregation, RangeOp, VectorAggregation, VectorOp};
use crate::pipeline::Unsupported;

/// A metric expression over leaves.
#[derive(Debug)]
pub enum Node<L> {
    /// A range aggregation.
    Leaf(L),
    /// `sum by (a) (...)`
    Aggregate {
        /// The function.
        op: VectorOp,
        /// `k` of `topk` and its like.
        parameter: Option<f64>,
        /// What is told apart.
        groups: LabelSet,
        /// Over what.
        expr: Box<Node<L>>,
    },
    /// `a + b`
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Whether a comparison yields 1 or 0.
        return_bool: bool,
        /// Which elements belong together.
        join: Join,
        /// Left.
        lhs: Box<Node<L>>,
        /// Right.
        rhs: Box<Node<L>>,
    },
    /// `label_replace(...)`
    LabelReplace {
        /// The arguments.
        replace: LabelReplace,
        /// Over what.
        expr: Box<Node<L>>,
    },
    /// `variants(...) of (...)`
    Variants(Vec<Node<L>>),
    /// `1`
    Number(f64),
    /// `vector(1)`
    Vector(f64),
}

/// Who makes leaves of range aggregations.
pub trait Lower {
    /// What they become.
    type Leaf;

    /// A range aggregation, or the sum over one that itself adds up: its series are told apart by the sum's labels from the start, so
    /// that a label that is unwrapped stays if the sum asks for it.
    fn range(
        &mut self,
        aggregation: &RangeAggregation,
        sum: Option<&VectorAggregation>,
    ) -> Result<Node<Self::Leaf>, Unsupported>;

    /// The aggregation in a simpler form that means the same to whoever makes the leaves.
    fn simplified(&self, _aggregation: &VectorAggregation) -> Option<VectorAggregation> {
        None
    }
}

impl<L> Node<L> {
    /// Compiles an expression, with all range aggregations in it.
    pub fn lower(expr: &MetricExpr, to: &mut impl Lower<Leaf = L>) -> Result<Self, Unsupported> {
        Ok(match &expr.kind {
            MetricKind::Range(range) => to.range(range, None)?,
            MetricKind::Vector(aggregation) => return Self::aggregation(aggregation, to),
            MetricKind::Binary(_) => return Self::chain(expr, to),
            MetricKind::LabelReplace { expr, dst, replacement, src, regex } => {
                let replace = LabelReplace::new(&dst.text, &replacement.text, &src.text, &regex.text)
                    .map_err(|error| Unsupported::new(regex.span, error.to_string()))?;
                Self::LabelReplace { replace, expr: Box::new(Self::lower(expr, to)?) }
            }
            MetricKind::Variants { variants, .. } => {
                Self::Variants(variants.iter().map(|variant| Self::lower(variant, to)).collect::<Result<_, _>>()?)
            }
            MetricKind::Number(number) => Self::Number(*number),
            MetricKind::VectorFn(number) => Self::Vector(*number),
        })
    }

    /// Operators of which each has those before it for its left operand: there may be many.
    fn chain(expr: &MetricExpr, to: &mut impl Lower<Leaf = L>) -> Result<Self, Unsupported> {
        let (first, operators) = expr.chain();
        let mut lhs = Self::lower(first, to)?;
        for binary in operators {
            let (join, rhs) = (Join::from(binary.matching.as_ref()), Self::lower(&binary.rhs, to)?);
            let (op, return_bool) = (binary.op, binary.return_bool);
            lhs = Self::Binary { op, return_bool, join, lhs: Box::new(lhs), rhs: Box::new(rhs) };
        }
        Ok(lhs)
    }

    fn aggregation(aggregation: &VectorAggregation, to: &mut impl Lower<Leaf = L>) -> Result<Self, Unsupported> {
        let simplified = to.simplified(aggregation);
        let aggregation = simplified.as_ref().unwrap_or(aggregation);
        match &aggregation.expr.kind {
            MetricKind::Range(range) if counts_by_sum(aggregation) => to.range(range, Some(aggregation)),
            _ => Ok(Self::aggregate(aggregation, Self::lower(&aggregation.expr, to)?)),
        }
    }

    /// The aggregation over a node.
    pub fn aggregate(aggregation: &VectorAggregation, expr: Self) -> Self {
        let groups = LabelSet::from(aggregation.grouping.as_ref());
        Self::Aggregate { op: aggregation.op, parameter: aggregation.parameter, groups, expr: Box::new(expr) }
    }

    /// The value, `leaf` being what tells the leaves'.
    pub fn value<E: From<ManyToMany>>(&self, leaf: &mut impl FnMut(&L) -> Result<Vector, E>) -> Result<Operand, E> {
        Ok(match self {
            Self::Number(number) => Operand::Scalar(*number),
            Self::Binary { op, return_bool, join, lhs, rhs } => {
                let (lhs, rhs) = (lhs.value(leaf)?, rhs.value(leaf)?);
                binary(*op, *return_bool, join, lhs, rhs)?
            }
            _ => Operand::Vector(self.vector(leaf)?),
        })
    }

    fn vector<E: From<ManyToMany>>(&self, leaf: &mut impl FnMut(&L) -> Result<Vector, E>) -> Result<Vector, E> {
        Ok(match self {
            Self::Leaf(own) => leaf(own)?,
            Self::Aggregate { op, parameter, groups, expr } => aggregate(*op, *parameter, groups, expr.vector(leaf)?),
            Self::LabelReplace { replace, expr } => replace.apply(expr.vector(leaf)?),
            Self::Variants(variants) => {
                let mut all = Vector::new();
                for (index, variant) in variants.iter().enumerate() {
                    all.extend(variant.vector(leaf)?.into_iter().map(|element| of_variant(element, index)));
                }
                all
            }
            Self::Vector(value) => Vector::from([Element { labels: Labels::default(), value: *value }]),
            Self::Number(_) | Self::Binary { .. } => match self.value(leaf)? {
                Operand::Vector(vector) => vector,
                Operand::Scalar(value) => Vector::from([Element { labels: Labels::default(), value }]),
            },
        })
    }

    /// Visits the leaves.
    pub fn for_each_leaf(&self, visit: &mut impl FnMut(&L)) {
        match self {
            Self::Leaf(leaf) => visit(leaf),
            Self::Number(_) | Self::Vector(_) => {}
            Self::Aggregate { expr, .. } | Self::LabelReplace { expr, .. } => expr.for_each_leaf(visit),
            Self::Binary { lhs, rhs, .. } => {
                lhs.for_each_leaf(visit);
                rhs.for_each_leaf(visit);
            }
            Self::Variants(variants) => variants.iter().for_each(|variant| variant.for_each_leaf(visit)),
        }
    }

    /// Visits the names of labels that operators make: no record need have them.
    pub fn for_each_made_label(&self, visit: &mut impl FnMut(&str)) {
        match self {
            Self::Leaf(_) | Self::Number(_) | Self::Vector(_) => {}
            Self::Aggregate { expr, .. } => expr.for_each_made_label(visit),
            Self::Binary { join, lhs, rhs, .. } => {
                join.include.iter().for_each(|name| visit(name));
                lhs.for_each_made_label(visit);
                rhs.for_each_made_label(visit);
            }
            Self::LabelReplace { replace, expr } => {
                visit(replace.dst());
                expr.for_each_made_label(visit);
            }
            Self::Variants(variants) => {
                visit(VARIANT_LABEL);
                variants.iter().for_each(|variant| variant.for_each_made_label(visit));
            }
        }
    }
}

fn of_variant(element: Element, index: usize) -> Element {
    let index = index.to_string();
    let labels = Labels::new(element.labels.iter().chain([(VARIANT_LABEL, index.as_str())]));
    Element { labels, ..element }
}

/// Whether it is a sum whose labels tell the series of the range aggregation in it apart from the start.
pub(crate) fn counts_by_sum(aggregation: &VectorAggregation) -> bool {
    let MetricKind::Range(range) = &aggregation.expr.kind else { return false };
    aggregation.op == VectorOp::Sum && range.grouping.is_none() && adds(range.op)
}

/// Whether a sum over the function's series is the function over the sum's.
const fn adds(op: RangeOp) -> bool {
    use RangeOp::*;
    matches!(op, CountOverTime | Rate | BytesOverTime | BytesRate | SumOverTime)
}

/// Tells which of the `variants` an element is of.
const VARIANT_LABEL: &str = "__variant__";
