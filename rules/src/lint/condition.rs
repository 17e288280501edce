//! Conditions that never hold, always hold, or cannot hold for long enough.

use std::time::Duration;

use super::{Found, for_each_operation};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{BinaryExpr, BinaryOp, CompareOp, MetricExpr, MetricKind, RangeOp, Stage, StageKind, VectorOp};
use crate::rule_file::{Rule, RuleKind};
use crate::time::format_duration;

/// Where the values of a vector's elements lie: a series without records is not 0 but absent.
#[derive(Clone, Copy)]
struct Bounds {
    /// No value is smaller.
    min: f64,
    /// Nor is one as small as that.
    is_min_open: bool,
    /// No value is larger.
    max: f64,
    /// Nor is one as large as that.
    is_max_open: bool,
    /// Whether all are whole numbers.
    is_whole: bool,
}

/// Any number.
const ALL: Bounds =
    Bounds { min: f64::NEG_INFINITY, is_min_open: false, max: f64::INFINITY, is_max_open: false, is_whole: false };

pub(super) fn lint(rule: &Rule, found: &mut Found) {
    for_each_operation(&rule.expr, &mut |binary, whole| match binary.op {
        BinaryOp::Compare(op) if !binary.return_bool => lint_comparison(binary, op, whole, found),
        BinaryOp::And => lint_and(binary, whole, found),
        _ => {}
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
    let Some((compared, op, value)) = with_number(binary, op) else { return };
    let shown = match binary.lhs.kind {
        MetricKind::Number(_) => format!("`{value} {}`", flipped(op)),
        _ => format!("`{op} {value}`"),
    };
    let bounds = bounds(compared);
    if bounds.and(op, value).is_empty() {
        let (reason, help) = reason(compared, op, value);
        let message = format!("{shown} never holds: {reason}");
        let warning = Diagnostic::warning(codes::NEVER_FIRES, 0..0, message).label("the rule never fires");
        found.push(whole.span, if help.is_empty() { warning } else { warning.help(help) });
    } else if always_holds(bounds, op, value) {
        let message = format!("{shown} holds for every value that there is");
        let warning = Diagnostic::warning(codes::ALWAYS_FIRES, 0..0, message);
        found.push(whole.span, warning.help("write `> 0`, if any record is to be told of, or a larger bound"));
    }
}

/// What is compared with a number, the number being on the right.
fn with_number(binary: &BinaryExpr, op: CompareOp) -> Option<(&MetricExpr, CompareOp, f64)> {
    match (&binary.lhs.kind, &binary.rhs.kind) {
        (_, MetricKind::Number(value)) => Some((&binary.lhs, op, *value)),
        (MetricKind::Number(value), _) => Some((&binary.rhs, flipped(op), *value)),
        _ => None,
    }
}

/// Why no value is so, and what to write instead.
fn reason(compared: &MetricExpr, op: CompareOp, value: f64) -> (String, &'static str) {
    let own = bounds(uncompared(compared));
    if !own.and(op, value).is_empty() {
        return ("no value for which the other comparison holds is so".to_owned(), "take one of them out");
    }
    if value > own.max || matches!(op, CompareOp::Greater) {
        return (format!("no value is larger than {}", own.max), "");
    }
    let help = "to hear of silence write `absent_over_time({...} [5m])`, or give it a value, `(... or vector(0)) < 1`";
    ("where nothing is counted there is no value, rather than 0".to_owned(), help)
}

/// The expression whose elements it keeps, without comparisons with numbers.
fn uncompared(expr: &MetricExpr) -> &MetricExpr {
    match &expr.kind {
        MetricKind::Binary(binary) => match binary.op {
            BinaryOp::Compare(op) if !binary.return_bool => {
                with_number(binary, op).map_or(expr, |(compared, ..)| uncompared(compared))
            }
            _ => expr,
        },
        _ => expr,
    }
}

/// Comparisons of the same value that exclude one another.
fn lint_and(binary: &BinaryExpr, whole: &MetricExpr, found: &mut Found) {
    let (lhs, rhs) = (uncompared(&binary.lhs), uncompared(&binary.rhs));
    if binary.matching.is_some() || lhs.is_scalar() || lhs.to_string() != rhs.to_string() {
        return;
    }
    let (left, right) = (bounds(&binary.lhs), bounds(&binary.rhs));
    if !left.is_empty() && !right.is_empty() && left.meet(right).is_empty() {
        let message = "no value is as both sides of `and` want it".to_owned();
        let warning = Diagnostic::warning(codes::NEVER_FIRES, 0..0, message).label("the rule never fires");
        found.push(whole.span, warning.help("write `or`, or take one of them out"));
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

impl Bounds {
    /// Of those values that a comparison keeps.
    fn and(self, op: CompareOp, value: f64) -> Self {
        self.meet(match op {
            CompareOp::Greater => Self { min: value, is_min_open: true, ..ALL },
            CompareOp::GreaterEqual => Self { min: value, ..ALL },
            CompareOp::Less => Self { max: value, is_max_open: true, ..ALL },
            CompareOp::LessEqual => Self { max: value, ..ALL },
            CompareOp::Equal => Self { min: value, max: value, ..ALL },
            CompareOp::NotEqual => ALL,
        })
    }

    /// Of values that lie in both.
    fn meet(self, other: Self) -> Self {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        let is_open =
            |bounds: &Self| (bounds.min == min && bounds.is_min_open, bounds.max == max && bounds.is_max_open);
        let (a, b) = (is_open(&self), is_open(&other));
        Self { min, is_min_open: a.0 || b.0, max, is_max_open: a.1 || b.1, is_whole: self.is_whole || other.is_whole }
    }

    fn is_empty(self) -> bool {
        let Self { mut min, mut max, .. } = self;
        if self.is_whole {
            min = if self.is_min_open { min.floor() + 1.0 } else { min.ceil() };
            max = if self.is_max_open { max.ceil() - 1.0 } else { max.floor() };
        }
        min > max || !self.is_whole && min == max && (self.is_min_open || self.is_max_open)
    }

    fn times(self, factor: f64) -> Self {
        Self { min: self.min * factor, max: self.max * factor, is_whole: false, ..self }
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

fn bounds(expr: &MetricExpr) -> Bounds {
    match &expr.kind {
        MetricKind::Range(range) => match range.op {
            RangeOp::CountOverTime => Bounds { min: 1.0, is_whole: true, ..ALL },
            RangeOp::AbsentOverTime => Bounds { min: 1.0, max: 1.0, is_whole: true, ..ALL },
            RangeOp::Rate if !range.range.log.stages.iter().any(is_unwrap) => {
                Bounds { min: 0.0, is_min_open: true, ..ALL }
            }
            RangeOp::BytesOverTime => Bounds { min: 0.0, is_whole: true, ..ALL },
            RangeOp::BytesRate => Bounds { min: 0.0, ..ALL },
            _ => ALL,
        },
        MetricKind::Vector(vector) => {
            let inner = bounds(&vector.expr);
            match vector.op {
                VectorOp::Count => Bounds { min: 1.0, is_whole: true, ..ALL },
                VectorOp::Stddev | VectorOp::Stdvar => ALL,
                VectorOp::Avg => Bounds { is_whole: false, ..inner },
                VectorOp::Sum if inner.min >= 0.0 => Bounds { max: f64::INFINITY, is_max_open: false, ..inner },
                VectorOp::Sum => ALL,
                _ => inner,
            }
        }
        MetricKind::LabelReplace { expr, .. } => bounds(expr),
        MetricKind::Binary(binary) => match (binary.op, &binary.rhs.kind) {
            (BinaryOp::Mul, MetricKind::Number(factor)) if *factor > 0.0 => bounds(&binary.lhs).times(*factor),
            (BinaryOp::Div, MetricKind::Number(divisor)) if *divisor > 0.0 => bounds(&binary.lhs).times(1.0 / divisor),
            (BinaryOp::And | BinaryOp::Unless, _) => bounds(&binary.lhs),
            (BinaryOp::Compare(op), _) if !binary.return_bool => match with_number(binary, op) {
                Some((compared, op, value)) => bounds(compared).and(op, value),
                None => bounds(&binary.lhs),
            },
            _ => ALL,
        },
        _ => ALL,
    }
}

fn is_unwrap(stage: &Stage) -> bool {
    matches!(stage.kind, StageKind::Unwrap(_))
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
    let MetricKind::Binary(binary) = &expr.kind else { return raised_by_one_record(expr) };
    let BinaryOp::Compare(op) = binary.op else { return None };
    let (compared, op, value) = with_number(binary, op)?;
    let is_any = matches!((op, value), (CompareOp::Greater, 0.0) | (CompareOp::NotEqual, 0.0));
    let is_one = op == CompareOp::GreaterEqual && value == 1.0 && bounds(compared).is_whole;
    if is_any || is_one { raised_by_one_record(compared) } else { None }
}

/// For how long a single record makes a value of nothing, one that is more than 0.
fn raised_by_one_record(expr: &MetricExpr) -> Option<Duration> {
    use RangeOp::{BytesOverTime, BytesRate, CountOverTime, Rate};
    match &expr.kind {
        MetricKind::Range(range) if matches!(range.op, CountOverTime | Rate | BytesOverTime | BytesRate) => {
            Some(range.range.range)
        }
        MetricKind::Vector(vector) if matches!(vector.op, VectorOp::Sum | VectorOp::Max) => {
            raised_by_one_record(&vector.expr)
        }
        MetricKind::LabelReplace { expr, .. } => raised_by_one_record(expr),
        _ => None,
    }
}
