//! Which windows have to be known whole before a rule tells what it finds: where the log does not reach back so far, records from before
//! could have told otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use super::edge::{shrinks, turned};
use super::{Node, Plan, Reading};
use crate::logql::ast::{BinaryOp, CompareOp, RangeOp, VectorOp};

/// Leaves, and by which `offset` each is read.
pub(super) type Windows = BTreeSet<(usize, Duration)>;

/// The windows of which a record that is not known could end an element of the expression: those right of `unless`, of what is to be below
/// a number or the same as one, of what something is to be above, and those from before that something is held against. What is absent is not
/// among them: that is not told before it is known anyway.
pub(super) fn must_be_whole(plan: &Plan, node: &Node) -> Windows {
    match node {
        Node::Leaf(_) | Node::Number(_) | Node::Vector(_) => Windows::new(),
        Node::Aggregate { expr, .. } | Node::LabelReplace { expr, .. } => must_be_whole(plan, expr),
        Node::Variants(variants) => variants.iter().flat_map(|variant| must_be_whole(plan, variant)).collect(),
        Node::Binary { op: BinaryOp::Compare(op), lhs, rhs, .. } => match (&**lhs, &**rhs) {
            (value, Node::Number(_)) => of_bound(plan, value, *op),
            (Node::Number(_), value) => of_bound(plan, value, turned(*op)),
            (lhs, rhs) => {
                let within = &must_be_whole(plan, lhs) | &must_be_whole(plan, rhs);
                &within | &of_comparison(lhs, rhs, *op)
            }
        },
        Node::Binary { op: BinaryOp::Unless, lhs, rhs, .. } => &must_be_whole(plan, lhs) | &all(rhs),
        Node::Binary { lhs, rhs, .. } => &must_be_whole(plan, lhs) | &must_be_whole(plan, rhs),
    }
}

/// Those of a value that is held against a number.
fn of_bound(plan: &Plan, value: &Node, op: CompareOp) -> Windows {
    use CompareOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
    match op {
        Greater | GreaterEqual if !shrinks(value) => {
            // A share, or an average, of what is known tells of that.
            let before = if is_of_one_time(plan, value) { Windows::new() } else { moves(value).lowers };
            &must_be_whole(plan, value) | &before
        }
        Less | LessEqual if shrinks(value) => must_be_whole(plan, value),
        Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual => all(value),
    }
}

fn of_comparison(lhs: &Node, rhs: &Node, op: CompareOp) -> Windows {
    match op {
        CompareOp::Greater | CompareOp::GreaterEqual => &moves(lhs).lowers | &moves(rhs).raises,
        CompareOp::Less | CompareOp::LessEqual => &moves(lhs).raises | &moves(rhs).lowers,
        CompareOp::Equal | CompareOp::NotEqual => &all(lhs) | &all(rhs),
    }
}

/// Whether all windows are of the same range and `offset`.
fn is_of_one_time(plan: &Plan, node: &Node) -> bool {
    let times: BTreeSet<_> = all(node).into_iter().map(|(leaf, offset)| (plan.leaves[leaf].range, offset)).collect();
    times.len() <= 1
}

/// Windows of which a record can change the value of an element.
#[derive(Default)]
struct Moves {
    raises: Windows,
    /// Or ends it.
    lowers: Windows,
}

impl Moves {
    fn either_way(windows: Windows) -> Self {
        Self { raises: windows.clone(), lowers: windows }
    }

    fn and(self, other: &Self) -> Self {
        Self { raises: &self.raises | &other.raises, lowers: &self.lowers | &other.lowers }
    }

    fn turned(self) -> Self {
        Self { raises: self.lowers, lowers: self.raises }
    }
}

fn moves(node: &Node) -> Moves {
    match node {
        Node::Number(_) | Node::Vector(_) => Moves::default(),
        Node::Leaf(Reading::Count { .. }) => Moves { raises: all(node), ..Moves::default() },
        Node::Leaf(Reading::Absent { .. }) => Moves { lowers: all(node), ..Moves::default() },
        Node::Leaf(Reading::Over { function, .. }) => match function.op {
            RangeOp::MaxOverTime => Moves { raises: all(node), ..Moves::default() },
            RangeOp::MinOverTime => Moves { lowers: all(node), ..Moves::default() },
            _ => Moves::either_way(all(node)),
        },
        Node::Aggregate { op: VectorOp::Sum | VectorOp::Max | VectorOp::Count, expr, .. }
        | Node::LabelReplace { expr, .. } => moves(expr),
        Node::Binary { op: BinaryOp::Add | BinaryOp::Or, lhs, rhs, .. } => moves(lhs).and(&moves(rhs)),
        Node::Binary { op: BinaryOp::Mul, lhs, rhs, .. } if !is_negative(lhs) && !is_negative(rhs) => {
            moves(lhs).and(&moves(rhs))
        }
        Node::Binary { op: BinaryOp::Sub | BinaryOp::Div, lhs, rhs, .. } if !is_negative(rhs) => {
            moves(lhs).and(&moves(rhs).turned())
        }
        Node::Aggregate { .. } | Node::Binary { .. } | Node::Variants(_) => Moves::either_way(all(node)),
    }
}

fn is_negative(node: &Node) -> bool {
    matches!(node, Node::Number(number) | Node::Vector(number) if *number < 0.0)
}

/// All that an expression reads.
pub(super) fn all(node: &Node) -> Windows {
    let mut windows = Windows::new();
    node.for_each_leaf(&mut |reading| _ = windows.insert(reading.window()));
    windows
}
