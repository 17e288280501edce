//! Operands of which no two elements have the same labels.

use std::collections::BTreeSet;

use super::text::labels_of;
use super::{Found, for_each_operation};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{BinaryExpr, BinaryOp, MetricExpr, MetricKind};

pub(super) fn lint(expr: &MetricExpr, found: &mut Found) {
    for_each_operation(expr, &mut |binary, _| {
        unjoined(binary).into_iter().for_each(|warning| found.push(binary.op_span, warning));
    });
}

fn unjoined(binary: &BinaryExpr) -> Option<Diagnostic> {
    let (lhs, rhs) = (&binary.lhs, &binary.rhs);
    let keeps_unjoined = matches!(binary.op, BinaryOp::Or | BinaryOp::Unless);
    if keeps_unjoined || lhs.is_scalar() || rhs.is_scalar() || varies(lhs) || varies(rhs) {
        return None;
    }
    let joined = |labels: BTreeSet<String>| -> BTreeSet<String> {
        let is_joined = |name: &String| {
            binary.matching.as_ref().is_none_or(|matching| matching.labels.contains(name) == matching.on)
        };
        labels.into_iter().filter(is_joined).collect()
    };
    let (left, right) = (joined(labels_of(lhs)?), joined(labels_of(rhs)?));
    if left == right {
        return None;
    }
    let op = binary.op;
    let message =
        format!("`{op}` joins nothing: on its left elements have {}, on its right {}", named(&left), named(&right));
    let common: Vec<&str> = left.intersection(&right).map(String::as_str).collect();
    let help = match op {
        BinaryOp::And => format!("group both sides alike, or name what to join by: `{op} on ({})`", common.join(", ")),
        _ => format!(
            "group both sides alike, or name what to join by, and which side has more elements: `{op} on ({}) group_left`",
            common.join(", ")
        ),
    };
    Some(
        Diagnostic::warning(codes::NEVER_FIRES, 0..0, message)
            .label("no value, but of records that have none of these labels")
            .help(help),
    )
}

/// Its elements need not all have the same labels: those of `or` come from two sides, and a replaced label may come out empty.
fn varies(expr: &MetricExpr) -> bool {
    match &expr.kind {
        MetricKind::LabelReplace { .. } => true,
        MetricKind::Vector(vector) => vector.grouping.is_none() && varies(&vector.expr),
        MetricKind::Binary(binary) => binary.op == BinaryOp::Or || varies(&binary.lhs) || varies(&binary.rhs),
        _ => false,
    }
}

fn named(labels: &BTreeSet<String>) -> String {
    let names: Vec<String> = labels.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no labels".to_owned() } else { names.join(", ") }
}
