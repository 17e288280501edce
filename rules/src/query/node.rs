//! An expression as it is evaluated: operators over range aggregations.

use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::logql::ast::{
    BinaryOp, Grouping, LogRange, MetricExpr, MetricKind, RangeAggregation, RangeOp, VectorAggregation, VectorOp,
};
use crate::pipeline::Unsupported;
use crate::time::Timestamp;
use crate::vector::{self, Element, Join, LabelReplace, LabelSet, ManyToMany, Operand, Vector};

use super::range::Range;
use super::{Limits, QueryError, When};

/// A metric expression; its leaves are indices into [`Ranges`].
#[derive(Debug)]
pub(super) enum Node {
    Range(usize),
    Absent { range: usize, labels: Labels },
    Aggregate { op: VectorOp, parameter: Option<f64>, groups: LabelSet, expr: Box<Node> },
    Binary { op: BinaryOp, return_bool: bool, join: Join, lhs: Box<Node>, rhs: Box<Node> },
    LabelReplace { replace: LabelReplace, expr: Box<Node> },
    Variants(Vec<Node>),
    Number(f64),
    Vector(f64),
}

/// Whether a `sort` or `sort_desc` stands anywhere in an expression: then the order of its elements is left as it is.
pub(super) fn sorts(expr: &MetricExpr) -> bool {
    match &expr.kind {
        MetricKind::Vector(aggregation) => {
            matches!(aggregation.op, VectorOp::Sort | VectorOp::SortDesc) || sorts(&aggregation.expr)
        }
        MetricKind::Binary(binary) => sorts(&binary.lhs) || sorts(&binary.rhs),
        MetricKind::LabelReplace { expr, .. } => sorts(expr),
        MetricKind::Range(_) | MetricKind::Number(_) | MetricKind::VectorFn(_) | MetricKind::Variants { .. } => false,
    }
}

/// The range aggregations of an expression.
#[derive(Debug)]
pub(super) struct Ranges {
    when: When,
    all: Vec<Range>,
    samples: usize,
    samples_max: usize,
    visited: u64,
    visited_max: u64,
}

impl Ranges {
    pub(super) fn new(when: When, limits: &Limits) -> Self {
        Self {
            when,
            all: Vec::new(),
            samples: 0,
            samples_max: limits.query_samples_max,
            visited: 0,
            visited_max: limits.query_samples_visited_max,
        }
    }

    /// Compiles an expression, with all range aggregations in it.
    pub(super) fn node(&mut self, expr: &MetricExpr) -> Result<Node, Unsupported> {
        Ok(match &expr.kind {
            MetricKind::Range(aggregation) => self.range(aggregation, None)?,
            MetricKind::Vector(aggregation) => self.aggregation(aggregation)?,
            MetricKind::Binary(binary) => Node::Binary {
                op: binary.op,
                return_bool: binary.return_bool,
                join: Join::from(binary.matching.as_ref()),
                lhs: Box::new(self.node(&binary.lhs)?),
                rhs: Box::new(self.node(&binary.rhs)?),
            },
            MetricKind::LabelReplace { expr, dst, replacement, src, regex } => {
                let replace = LabelReplace::new(&dst.text, &replacement.text, &src.text, &regex.text)
                    .map_err(|error| Unsupported::new(regex.span, error.to_string()))?;
                Node::LabelReplace { replace, expr: Box::new(self.node(expr)?) }
            }
            MetricKind::Variants { variants, .. } => {
                Node::Variants(variants.iter().map(|variant| self.node(variant)).collect::<Result<_, _>>()?)
            }
            MetricKind::Number(number) => Node::Number(*number),
            MetricKind::VectorFn(number) => Node::Vector(*number),
        })
    }

    /// Series that a sum adds up are told apart by the sum's labels from the start, where the function itself adds up: a label that is
    /// unwrapped stays if the sum asks for it.
    fn aggregation(&mut self, aggregation: &VectorAggregation) -> Result<Node, Unsupported> {
        let expr = match &aggregation.expr.kind {
            MetricKind::Range(range)
                if aggregation.op == VectorOp::Sum && range.grouping.is_none() && adds(range.op) =>
            {
                let all = Grouping { without: false, labels: Vec::new(), span: aggregation.op_span };
                self.range(range, Some(aggregation.grouping.as_ref().unwrap_or(&all)))?
            }
            _ => self.node(&aggregation.expr)?,
        };
        let groups = LabelSet::from(aggregation.grouping.as_ref());
        Ok(Node::Aggregate { op: aggregation.op, parameter: aggregation.parameter, groups, expr: Box::new(expr) })
    }

    fn range(&mut self, aggregation: &RangeAggregation, of_sum: Option<&Grouping>) -> Result<Node, Unsupported> {
        self.all.push(Range::new(aggregation, of_sum, self.when)?);
        let range = self.all.len() - 1;
        let LogRange { log, .. } = &aggregation.range;
        Ok(match aggregation.op {
            RangeOp::AbsentOverTime => Node::Absent { range, labels: vector::absent_labels(log) },
            _ => Node::Range(range),
        })
    }

    /// Takes a record.
    pub(super) fn add<E: LogEntry>(&mut self, time: Timestamp, entry: &E) -> Result<(), QueryError> {
        for range in &mut self.all {
            self.samples += usize::from(range.add(time, entry));
        }
        let max = self.samples_max;
        if self.samples > max {
            return Err(QueryError::execution(format!(
                "the query is over more than {max} samples, the maximum (`query_samples_max`): shorten its range of time, or select fewer records"
            )));
        }
        Ok(())
    }

    /// Puts the series in the order in which they are evaluated; to be called once, when all records are there.
    pub(super) fn sort(&mut self) {
        self.all.iter_mut().for_each(Range::sort);
    }

    /// The value at a time, which must not be before that of the last call.
    pub(super) fn value(&mut self, node: &Node, time: Timestamp) -> Result<Operand, QueryError> {
        Ok(match node {
            Node::Number(number) => Operand::Scalar(*number),
            Node::Binary { op, return_bool, join, lhs, rhs } => {
                let (lhs, rhs) = (self.value(lhs, time)?, self.value(rhs, time)?);
                vector::binary(*op, *return_bool, join, lhs, rhs).map_err(many_to_many)?
            }
            _ => Operand::Vector(self.vector(node, time)?),
        })
    }

    fn vector(&mut self, node: &Node, time: Timestamp) -> Result<Vector, QueryError> {
        Ok(match node {
            Node::Range(range) => self.range_vector(*range, time)?,
            Node::Absent { range, labels } => {
                let is_absent = self.range_vector(*range, time)?.is_empty();
                is_absent.then(|| Element { labels: labels.clone(), value: 1.0 }).into_iter().collect()
            }
            Node::Aggregate { op, parameter, groups, expr } => {
                vector::aggregate(*op, *parameter, groups, self.vector(expr, time)?)
            }
            Node::LabelReplace { replace, expr } => replace.apply(self.vector(expr, time)?),
            Node::Variants(variants) => {
                let mut all = Vector::new();
                for (index, variant) in variants.iter().enumerate() {
                    let name = index.to_string();
                    let vector = self.vector(variant, time)?;
                    all.extend(vector.into_iter().map(|element| Element {
                        labels: Labels::new(element.labels.iter().chain([(VARIANT_LABEL, name.as_str())])),
                        ..element
                    }));
                }
                all
            }
            Node::Vector(value) => Vector::from([Element { labels: Labels::default(), value: *value }]),
            Node::Number(_) | Node::Binary { .. } => match self.value(node, time)? {
                Operand::Vector(vector) => vector,
                Operand::Scalar(value) => Vector::from([Element { labels: Labels::default(), value }]),
            },
        })
    }

    fn range_vector(&mut self, range: usize, time: Timestamp) -> Result<Vector, QueryError> {
        let vector = self.all[range].vector(time, &mut self.visited)?;
        let max = self.visited_max;
        if self.visited > max {
            return Err(QueryError::execution(format!(
                "the query's windows hold more than {max} samples together, the maximum (`query_samples_visited_max`): take longer steps or a shorter range"
            )));
        }
        Ok(vector)
    }
}

/// Whether a sum over the function's series is the function over the sum's.
const fn adds(op: RangeOp) -> bool {
    use RangeOp::*;
    matches!(op, CountOverTime | Rate | BytesOverTime | BytesRate | SumOverTime)
}

fn many_to_many(ManyToMany(labels): ManyToMany) -> QueryError {
    QueryError::execution(format!(
        "several series match {labels}: by `on` or `ignoring` each must have one counterpart, by `group_left` and `group_right` on the other side"
    ))
}

/// Tells which of the `variants` an element is of.
const VARIANT_LABEL: &str = "__variant__";
