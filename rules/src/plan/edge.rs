//! Expressions that a record can only make true: what they are made of, and how they are told from others.

use super::{BATCH_CELLS, Edge, Formula, Measure, Node, Plan, Reading, Reads, Term};
use crate::logql::ast::{BinaryOp, CompareOp, MatchCardinality, MetricExpr, MetricKind, RangeOp, VectorOp};
use crate::vector::{Join, LabelSet};

/// The expression as one that a record can only make true; `bound` is what it is compared with.
pub(super) fn edge(plan: &Plan, bound: Option<(CompareOp, f64)>, node: &Node) -> Option<Edge> {
    let (value, furthest) = match (node, bound) {
        (Node::Binary { lhs, rhs, .. }, Some((op, _))) => {
            let furthest = match op {
                CompareOp::Greater | CompareOp::GreaterEqual => VectorOp::Max,
                CompareOp::Less | CompareOp::LessEqual => VectorOp::Min,
                CompareOp::Equal | CompareOp::NotEqual => return None,
            };
            (if matches!(**lhs, Node::Number(_)) { &**rhs } else { &**lhs }, furthest)
        }
        _ => (node, VectorOp::Max),
    };
    let (value, furthest_of) = match value {
        Node::Aggregate { op, groups, expr, .. } if *op == furthest => (&**expr, Some(groups.clone())),
        value => (value, None),
    };
    let mut terms = Vec::new();
    let formula = formula(plan, value, furthest, &mut terms)?;
    (!terms.is_empty()).then_some(Edge { terms, formula, bound, furthest_of })
}

/// A node as a formula that records can only make larger (or smaller, where `furthest` is the minimum).
fn formula(plan: &Plan, node: &Node, furthest: VectorOp, terms: &mut Vec<Term>) -> Option<Formula> {
    match node {
        Node::Number(number) => Some(Formula::Number(*number)),
        Node::Leaf(reading) => {
            terms.push(term(reading, furthest)?);
            Some(Formula::Term(terms.len() - 1))
        }
        Node::Binary { op, join, lhs, rhs, .. } => {
            let before = terms.len();
            let left = formula(plan, lhs, furthest, terms)?;
            let between = terms.len();
            let right = formula(plan, rhs, furthest, terms)?;
            let of_left = (between > before).then(|| terms[before]);
            let of_right = (terms.len() > between).then(|| terms[between]);
            let keeps_order = match (op, &left, &right) {
                (BinaryOp::Add, ..) => of_left.zip(of_right).is_none_or(|(a, b)| belong_together(plan, a, b, join)),
                (BinaryOp::Sub, _, Formula::Number(_)) => true,
                (BinaryOp::Mul, Formula::Number(number), _) => *number > 0.0,
                (BinaryOp::Mul | BinaryOp::Div, _, Formula::Number(number)) => *number > 0.0,
                _ => false,
            };
            keeps_order.then(|| Formula::Binary(*op, Box::new(left), Box::new(right)))
        }
        _ => None,
    }
}

/// Whether elements are joined where all their labels are the same.
fn belong_together(plan: &Plan, a: Term, b: Term, join: &Join) -> bool {
    let (a, b) = (plan.feed_of(a.leaf), plan.feed_of(b.leaf));
    let are_all_labels = join.labels == b.groups && !a.apart.errors && !b.apart.errors;
    let by_all_labels = join.labels == LabelSet::AllBut(Vec::new()) || are_all_labels;
    let by_key = a.groups == b.groups && !a.apart.empty && !b.apart.empty;
    by_key && by_all_labels && join.card == MatchCardinality::OneToOne
}

/// Sees to it that a batch keeps as many stamps of a group apart as the bound needs.
pub(super) fn keep_apart(plan: &mut Plan, edge: &Edge) {
    for (index, term) in edge.terms.iter().enumerate() {
        let Reads::Count { divisor } = term.reads else { continue };
        let of_this = |count| move |other| Some(if other == index { count / divisor } else { 0.0 });
        let (Some(none), Some(one)) = (edge.formula.value(&of_this(0.0)), edge.formula.value(&of_this(1.0))) else {
            continue;
        };
        let feed = &mut plan.feeds[plan.leaves[term.leaf].feed];
        let wanted = edge.bound.map_or(1.0, |(_, bound)| (bound - none) / (one - none) + 1.0);
        if matches!(feed.measure, Measure::Records | Measure::Patterns) && wanted <= *BATCH_CELLS.end() as f64 {
            feed.cells_max = feed.cells_max.max(wanted.max(0.0) as usize);
        }
    }
}

/// The comparison with a literal that the expression is, turned so that the literal stands right.
pub(super) fn bound(expr: &MetricExpr) -> Option<(CompareOp, f64)> {
    let MetricKind::Binary(binary) = &expr.kind else { return None };
    let BinaryOp::Compare(op) = binary.op else { return None };
    match (&binary.lhs.kind, &binary.rhs.kind) {
        _ if binary.return_bool => None,
        (_, MetricKind::Number(bound)) => Some((op, *bound)),
        (MetricKind::Number(bound), _) => Some((turned(op), *bound)),
        _ => None,
    }
}

pub(super) fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterEqual => CompareOp::LessEqual,
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessEqual => CompareOp::GreaterEqual,
        CompareOp::Equal | CompareOp::NotEqual => op,
    }
}

/// Whether a record can only lower the values of an expression, or add one.
pub(super) fn shrinks(node: &Node) -> bool {
    match node {
        Node::Leaf(Reading::Over { function, .. }) => function.op == RangeOp::MinOverTime,
        Node::Aggregate { op: VectorOp::Min, expr, .. } | Node::LabelReplace { expr, .. } => shrinks(expr),
        _ => false,
    }
}

/// A leaf as a term of what can only get larger, or smaller.
fn term(reading: &Reading, furthest: VectorOp) -> Option<Term> {
    let is_edge =
        |op| matches!((op, furthest), (RangeOp::MaxOverTime, VectorOp::Max) | (RangeOp::MinOverTime, VectorOp::Min));
    match reading {
        Reading::Count { leaf, divisor, offset } if offset.is_zero() && furthest == VectorOp::Max => {
            Some(Term { leaf: *leaf, reads: Reads::Count { divisor: *divisor } })
        }
        Reading::Over { leaf, function, offset, .. } if offset.is_zero() && is_edge(function.op) => {
            Some(Term { leaf: *leaf, reads: Reads::Over(*function) })
        }
        _ => None,
    }
}
