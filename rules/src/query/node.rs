//! An expression as it is evaluated: operators over range aggregations.

use crate::entry::LogEntry;
use crate::labels::Labels;
use crate::logql::ast::{Grouping, MetricExpr, MetricKind, RangeAggregation, RangeOp, VectorAggregation, VectorOp};
use crate::pipeline::Unsupported;
use crate::time::Timestamp;
use crate::vector::node::Lower;
use crate::vector::{self, Element, ManyToMany, Operand, Vector};

use super::range::Range;
use super::{Limits, QueryError, When};

/// A metric expression.
pub(super) type Node = vector::node::Node<Leaf>;

/// What its leaves are; the numbers are indices into [`Ranges`].
#[derive(Debug)]
pub(super) enum Leaf {
    Range(usize),
    Absent { range: usize, labels: Labels },
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
        Node::lower(expr, self)
    }

    /// Takes a record, in any order of time; a second one of that identity is the same. Tells whether it became a sample.
    pub(super) fn add<E: LogEntry>(
        &mut self,
        time: Timestamp,
        identity: Option<u64>,
        entry: &E,
    ) -> Result<bool, QueryError> {
        let before = self.samples;
        for range in &mut self.all {
            self.samples += usize::from(range.add(time, identity, entry));
        }
        let max = self.samples_max;
        if self.samples > max {
            return Err(QueryError::execution(format!(
                "the query is over more than {max} samples, the maximum (`query_samples_max`): shorten its range of time, or select fewer records"
            )));
        }
        Ok(self.samples > before)
    }

    /// From now on records on which a stage fails are left out.
    pub(super) fn leave_out_failed(&mut self) {
        self.all.iter_mut().for_each(Range::leave_out_failed);
    }

    /// The range aggregations.
    pub(super) fn all(&self) -> &[Range] {
        &self.all
    }

    /// Puts the series in the order in which they are evaluated; to be called once, when all records are there.
    pub(super) fn sort(&mut self) {
        self.all.iter_mut().for_each(Range::sort);
    }

    /// The value at a time, which must not be before that of the last call. At each range aggregation `is_stopped` is asked whether to give up.
    pub(super) fn value(
        &mut self,
        node: &Node,
        time: Timestamp,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Operand, QueryError> {
        node.value(&mut |leaf| match leaf {
            _ if is_stopped() => Err(QueryError::stopped()),
            Leaf::Range(range) => self.range_vector(*range, time),
            Leaf::Absent { range, labels } => {
                let is_absent = self.range_vector(*range, time)?.is_empty();
                Ok(is_absent.then(|| Element { labels: labels.clone(), value: 1.0 }).into_iter().collect())
            }
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

impl Lower for Ranges {
    type Leaf = Leaf;

    fn range(&mut self, aggregation: &RangeAggregation, sum: Option<&VectorAggregation>) -> Result<Node, Unsupported> {
        let all = sum.map(|sum| Grouping { without: false, labels: Vec::new(), span: sum.op_span });
        let of_sum = sum.and_then(|sum| sum.grouping.as_ref().or(all.as_ref()));
        self.all.push(Range::new(aggregation, of_sum, self.when)?);
        let range = self.all.len() - 1;
        let leaf = Node::Leaf(match aggregation.op {
            RangeOp::AbsentOverTime => Leaf::Absent { range, labels: vector::absent_labels(&aggregation.range.log) },
            _ => Leaf::Range(range),
        });
        Ok(match sum {
            Some(sum) => Node::aggregate(sum, leaf),
            None => leaf,
        })
    }
}

impl From<ManyToMany> for QueryError {
    fn from(error: ManyToMany) -> Self {
        Self::execution(error.to_string())
    }
}
