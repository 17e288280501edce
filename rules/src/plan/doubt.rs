//! Which windows may deceive a rule when nobody has listened for a while: records that were missed are no silence.

use std::time::Duration;

use super::{Eval, Node, Reading};
use crate::logql::ast::{BinaryOp, CompareOp, RangeOp, VectorOp};

/// A window that a rule is not sure of while records may be missing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) leaf: usize,
    pub(crate) offset: Duration,
    pub(crate) need: Need,
}

/// How much of a window has to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// All of it; but a record is enough to say that what is missed is back.
    Presence,
    /// All of it.
    Whole,
    /// Half of it: what it tells is a share, or an average.
    Half,
}

/// The windows that can make an alert of a rule hold though nothing but the listening has changed. `is_of_before` tells that it is compared
/// with what came before.
pub(super) fn doubts(eval: &Eval, is_of_before: bool) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    match eval {
        // What was heard can raise it and nothing else.
        Eval::Edge(_) => {}
        Eval::Steps { node, .. } if is_of_before => all(node, Need::Whole, &mut doubts),
        Eval::Steps { node, .. } => of_node(node, &mut doubts),
    }
    doubts
}

/// The windows that can make an alert of a rule end though nothing but the listening has changed: all, those of its [`doubts`] by what they
/// need.
pub(super) fn endings(eval: &Eval, doubts: &[Doubt]) -> Vec<Doubt> {
    let mut endings = Vec::new();
    match eval {
        Eval::Edge(edge) => {
            let whole = |leaf| Doubt { leaf, offset: Duration::ZERO, need: Need::Whole };
            endings.extend(edge.terms.iter().map(|term| whole(term.leaf)));
        }
        Eval::Steps { node, .. } => all(node, Need::Whole, &mut endings),
    }
    let is_known =
        |ending: &Doubt| doubts.iter().any(|doubt| (doubt.leaf, doubt.offset) == (ending.leaf, ending.offset));
    endings.retain(|ending| !is_known(ending));
    endings.extend(doubts);
    endings
}

fn of_node(node: &Node, doubts: &mut Vec<Doubt>) {
    match node {
        Node::Leaf(Reading::Absent { .. }) => all(node, Need::Presence, doubts),
        Node::Leaf(_) | Node::Number(_) | Node::Vector(_) => {}
        Node::Binary { op: BinaryOp::Unless, lhs, rhs, .. } => {
            of_node(lhs, doubts);
            all(rhs, Need::Presence, doubts);
        }
        Node::Binary { op: BinaryOp::Compare(op), lhs, rhs, .. } => match (&**lhs, &**rhs) {
            (value, Node::Number(_)) => of_comparison(value, *op, doubts),
            (Node::Number(_), value) => of_comparison(value, super::edge::turned(*op), doubts),
            _ => all(node, Need::Half, doubts),
        },
        Node::Binary { lhs, rhs, .. } => {
            of_node(lhs, doubts);
            of_node(rhs, doubts);
        }
        Node::Aggregate { expr, .. } | Node::LabelReplace { expr, .. } => of_node(expr, doubts),
        Node::Variants(variants) => variants.iter().for_each(|variant| of_node(variant, doubts)),
    }
}

fn of_comparison(value: &Node, op: CompareOp, doubts: &mut Vec<Doubt>) {
    use CompareOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
    match op {
        Greater | GreaterEqual if grows(value) => of_node(value, doubts),
        Less | LessEqual if super::edge::shrinks(value) => of_node(value, doubts),
        Less | LessEqual | Equal | NotEqual if grows(value) => all(value, Need::Presence, doubts),
        Greater | GreaterEqual if !super::edge::shrinks(value) => all(value, Need::Half, doubts),
        _ => all(value, Need::Whole, doubts),
    }
}

/// Whether a record can only raise the values of an expression, or add one.
fn grows(node: &Node) -> bool {
    match node {
        Node::Leaf(Reading::Count { .. }) | Node::Number(_) | Node::Vector(_) => true,
        Node::Leaf(Reading::Over { function, .. }) => function.op == RangeOp::MaxOverTime,
        Node::Leaf(Reading::Absent { .. }) => false,
        Node::Aggregate { op, expr, .. } => {
            matches!(op, VectorOp::Sum | VectorOp::Max | VectorOp::Count) && grows(expr)
        }
        Node::LabelReplace { expr, .. } => grows(expr),
        Node::Binary { op: BinaryOp::Add | BinaryOp::Or, lhs, rhs, .. } => grows(lhs) && grows(rhs),
        Node::Binary { .. } | Node::Variants(_) => false,
    }
}

fn all(node: &Node, need: Need, doubts: &mut Vec<Doubt>) {
    node.for_each_leaf(&mut |reading| {
        let (leaf, offset) = reading.window();
        let doubt = Doubt { leaf, offset, need };
        if !doubts.contains(&doubt) {
            doubts.push(doubt);
        }
    });
}
