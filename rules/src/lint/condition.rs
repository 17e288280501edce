//! Conditions that never hold, always hold, or cannot hold for long enough.

use std::time::Duration;

use super::{Found, for_each_operation};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{BinaryExpr, BinaryOp, CompareOp, MetricExpr, MetricKind, RangeOp, VectorOp};
use crate::rule_file::{Rule, RuleKind};
use crate::time::format_duration;

/// Where the values of a vector's elements lie: a series without records is not 0 but absent.
#[derive(Clone, Copy)]
struct Bounds {
    /// No value is smaller.
    min: f64,
    /// Nor is one as small as that.
    is_open: bool,
    /// Whether all are whole numbers.
    is_whole: bool,
}

pub(super) fn lint(rule: &Rule, found: &mut Found) {
    for_each_operation(&rule.expr, &mut |binary, whole| {
        if let (BinaryOp::Compare(op), false) = (binary.op, binary.return_bool) {
            lint_comparison(binary, op, whole, found);
        }
    });
    if rule.is_alert() {
        lint_alert(&rule.expr, found);
    }
}

/// An alert fires for every element, whatever its value.
fn lint_alert(expr: &MetricExpr, found: &mut Found) {
    let (message, help) = match &expr.kind {
        MetricKind::Binary(binary) if binary.return_bool => {
            let op = binary.op;
            let message = format!("`{op} bool` yields 0 or 1, and an alert fires for either");
            (message, format!("leave out `bool`: `{op}` alone keeps what it holds for"))
        }
        _ if always_has_value(expr) => {
            let message = "there is always a value, and an alert fires for every value".to_owned();
            let help =
                "compare it, `(... or vector(0)) < 1`; where a sign of life is meant, `--allow WB205` lets it pass";
            (message, help.to_owned())
        }
        _ => return,
    };
    let warning = Diagnostic::warning(codes::ALWAYS_FIRES, 0..0, message).label("the alert always fires");
    found.push(expr.span, warning.help(help));
}

fn always_has_value(expr: &MetricExpr) -> bool {
    match &expr.kind {
        MetricKind::VectorFn(_) => true,
        MetricKind::Vector(vector) => always_has_value(&vector.expr),
        MetricKind::LabelReplace { expr, .. } => always_has_value(expr),
        MetricKind::Binary(binary) => match binary.op {
            BinaryOp::Or => always_has_value(&binary.lhs) || always_has_value(&binary.rhs),
            BinaryOp::And | BinaryOp::Unless | BinaryOp::Compare(_) => false,
            _ if binary.lhs.is_scalar() => always_has_value(&binary.rhs),
            _ => binary.rhs.is_scalar() && always_has_value(&binary.lhs),
        },
        _ => false,
    }
}

fn lint_comparison(binary: &BinaryExpr, op: CompareOp, whole: &MetricExpr, found: &mut Found) {
    let (bounds, value, op, shown) = match (&binary.lhs.kind, &binary.rhs.kind) {
        (_, MetricKind::Number(value)) => (bounds(&binary.lhs), *value, op, format!("`{op} {value}`")),
        (MetricKind::Number(value), _) => (bounds(&binary.rhs), *value, flipped(op), format!("`{value} {op}`")),
        _ => return,
    };
    let Some(bounds) = bounds else { return };
    if never_holds(bounds, op, value) {
        let message = format!("{shown} never holds: where nothing is counted there is no value, rather than 0");
        let warning = Diagnostic::warning(codes::NEVER_FIRES, 0..0, message).label("the rule never fires");
        found.push(
            whole.span,
            warning.help(
                "to hear of silence write `absent_over_time({...} [5m])`, or give it a value, `(... or vector(0)) < 1`",
            ),
        );
    } else if always_holds(bounds, op, value) {
        let message = format!("{shown} holds for every value that there is");
        let warning = Diagnostic::warning(codes::ALWAYS_FIRES, 0..0, message);
        found.push(whole.span, warning.help("write `> 0`, if any record is to be told of, or a larger bound"));
    }
}

fn flipped(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterEqual => CompareOp::LessEqual,
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessEqual => CompareOp::GreaterEqual,
        other => other,
    }
}

fn never_holds(bounds: Bounds, op: CompareOp, value: f64) -> bool {
    let is_below = value < bounds.min || bounds.is_open && value <= bounds.min;
    match op {
        CompareOp::Less => value <= bounds.min,
        CompareOp::LessEqual => is_below,
        CompareOp::Equal => is_below || bounds.is_whole && value.fract() != 0.0,
        _ => false,
    }
}

/// What is said of every value on purpose, `> 0` and its like, is none.
fn always_holds(bounds: Bounds, op: CompareOp, value: f64) -> bool {
    match op {
        CompareOp::Greater => value < 0.0 && value < bounds.min,
        CompareOp::GreaterEqual => value <= 0.0 && value <= bounds.min,
        CompareOp::NotEqual => value < 0.0 && value < bounds.min,
        _ => false,
    }
}

fn bounds(expr: &MetricExpr) -> Option<Bounds> {
    match &expr.kind {
        MetricKind::Range(range) => match range.op {
            RangeOp::CountOverTime | RangeOp::AbsentOverTime => {
                Some(Bounds { min: 1.0, is_open: false, is_whole: true })
            }
            RangeOp::Rate if !range.range.log.stages.iter().any(is_unwrap) => {
                Some(Bounds { min: 0.0, is_open: true, is_whole: false })
            }
            RangeOp::BytesOverTime => Some(Bounds { min: 0.0, is_open: false, is_whole: true }),
            RangeOp::BytesRate => Some(Bounds { min: 0.0, is_open: false, is_whole: false }),
            _ => None,
        },
        MetricKind::Vector(vector) => match vector.op {
            VectorOp::Count => Some(Bounds { min: 1.0, is_open: false, is_whole: true }),
            VectorOp::Stddev | VectorOp::Stdvar => None,
            VectorOp::Avg => bounds(&vector.expr).map(|bounds| Bounds { is_whole: false, ..bounds }),
            _ => bounds(&vector.expr),
        },
        MetricKind::LabelReplace { expr, .. } => bounds(expr),
        MetricKind::Binary(binary) => match (binary.op, &binary.rhs.kind) {
            (BinaryOp::Mul, MetricKind::Number(factor)) if *factor > 0.0 => scaled(&binary.lhs, *factor),
            (BinaryOp::Div, MetricKind::Number(divisor)) if *divisor > 0.0 => scaled(&binary.lhs, 1.0 / divisor),
            (BinaryOp::And | BinaryOp::Unless, _) => bounds(&binary.lhs),
            (BinaryOp::Compare(_), _) if !binary.return_bool => bounds(&binary.lhs),
            _ => None,
        },
        _ => None,
    }
}

fn is_unwrap(stage: &crate::logql::ast::Stage) -> bool {
    matches!(stage.kind, crate::logql::ast::StageKind::Unwrap(_))
}

fn scaled(expr: &MetricExpr, factor: f64) -> Option<Bounds> {
    bounds(expr).map(|bounds| Bounds { min: bounds.min * factor, is_whole: false, ..bounds })
}

/// A rule that fires on a single record, but only if the next ones come within its range for as long as `for` says.
pub(super) fn lint_for(rule: &Rule) -> Option<Diagnostic> {
    let RuleKind::Alert { hold, .. } = &rule.kind else { return None };
    let range = held_by_one_record(&rule.expr)?;
    if *hold < range {
        return None;
    }
    let (hold, range) = (format_duration(*hold), format_duration(range));
    let message = format!("`for: {hold}` is no shorter than the {range} for which one record holds");
    Some(
        Diagnostic::warning(codes::FOR_TOO_LONG, 0..0, message).label("it fires only where records keep coming").help(
            format!("leave out `for`, make it shorter than `[{range}]`, or say how many records there are to be"),
        ),
    )
}

/// For how long a single record makes the condition true; `None` where one is not enough.
fn held_by_one_record(expr: &MetricExpr) -> Option<Duration> {
    match &expr.kind {
        MetricKind::Range(range) if matches!(range.op, RangeOp::CountOverTime | RangeOp::Rate) => {
            Some(range.range.range)
        }
        MetricKind::Vector(vector) if vector.op == VectorOp::Sum => held_by_one_record(&vector.expr),
        MetricKind::Binary(binary) => {
            let (BinaryOp::Compare(op), MetricKind::Number(value)) = (binary.op, &binary.rhs.kind) else { return None };
            let is_any = matches!((op, *value), (CompareOp::Greater, 0.0) | (CompareOp::NotEqual, 0.0));
            let is_one = op == CompareOp::GreaterEqual && *value == 1.0 && bounds(&binary.lhs)?.is_whole;
            (is_any || is_one).then(|| held_by_one_record(&binary.lhs)).flatten()
        }
        _ => None,
    }
}
