//! Regular expressions of line and label filters that find more than was meant.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{AssertionKind, Ast};

use super::Found;
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{LabelFilter, LabelMatcher, MatchOp};
use crate::pipeline::regex_label::found_anywhere;

/// A line filter looks anywhere in the line, and `|` binds weaker than everything else.
pub(super) fn lint(expression: &str) -> Option<Diagnostic> {
    let Ok(Ast::Alternation(ref alternation)) = Parser::new().parse(expression) else { return None };
    let alternatives = &alternation.asts;
    // Who anchors one in the middle, or several, knows what it is for.
    let only = |anchor: &dyn Fn(&Ast) -> Option<&Ast>, at: usize| {
        alternatives.iter().enumerate().all(|(n, alternative)| anchor(alternative).is_some() == (n == at))
    };
    for (is_half, sign) in [(only(&begin, 0), '^'), (only(&end, alternatives.len() - 1), '$')] {
        if is_half {
            return Some(half_anchored(expression, alternatives, sign));
        }
    }
    let is_number = |ast: &Ast| matches!(literal(ast), Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()));
    alternatives.iter().all(is_number).then(|| numbers(expression))
}

/// A label filter matches the whole value, but where Loki makes a plain search of the expression, and loses its anchors.
pub(super) fn lint_label_filter(filter: &LabelFilter, found: &mut Found) {
    match filter {
        LabelFilter::String(matcher) => {
            lint_label(matcher).into_iter().for_each(|warning| found.push(matcher.span, warning));
        }
        LabelFilter::And(parts) | LabelFilter::Or(parts) => {
            parts.iter().for_each(|part| lint_label_filter(part, found));
        }
        _ => {}
    }
}

fn lint_label(matcher: &LabelMatcher) -> Option<Diagnostic> {
    let consequence = match matcher.op {
        MatchOp::Regex => "holds for",
        MatchOp::NotRegex => "keeps out",
        MatchOp::Equal | MatchOp::NotEqual => return None,
    };
    let text = found_anywhere(&matcher.value)?;
    let value = match matcher.value.contains('|') {
        true => format!("^(?:{})$", matcher.value),
        false => format!("^{}$", matcher.value),
    };
    let message = format!("`{matcher}` {consequence} every value with `{text}` anywhere in it");
    let whole = LabelMatcher { value, ..matcher.clone() };
    Some(Diagnostic::warning(codes::FOUND_ANYWHERE, 0..0, message).help(format!("write the anchors: `{whole}`")))
}

fn half_anchored(expression: &str, alternatives: &[Ast], sign: char) -> Diagnostic {
    let inner = |alternative: &Ast| {
        let start = begin(alternative).map_or(alternative.span().start, |anchor| anchor.span().end);
        let end = end(alternative).map_or(alternative.span().end, |anchor| anchor.span().start);
        expression[start.offset..end.offset.max(start.offset)].to_owned()
    };
    let inner: Vec<String> = alternatives.iter().map(inner).collect();
    let start = if alternatives.iter().any(|alternative| begin(alternative).is_some()) { "^" } else { "" };
    let end = if alternatives.iter().any(|alternative| end(alternative).is_some()) { "$" } else { "" };
    let message = format!("`{sign}` holds for one of the alternatives alone, the others are found anywhere");
    Diagnostic::warning(codes::UNANCHORED, 0..0, message)
        .help(format!("put parentheses around them: `{start}(?:{}){end}`", inner.join("|")))
}

fn numbers(expression: &str) -> Diagnostic {
    let message = "the numbers are found inside of longer ones, too";
    Diagnostic::warning(codes::UNANCHORED, 0..0, message).help(format!(
        "let them stand alone: `\\b(?:{expression})\\b`, or ask a label: `| json | status=~\"{expression}\"`"
    ))
}

/// The anchor that it begins with.
fn begin(ast: &Ast) -> Option<&Ast> {
    let first = if let Ast::Concat(concat) = ast { concat.asts.first()? } else { ast };
    let is_anchor = |kind: &AssertionKind| matches!(kind, AssertionKind::StartLine | AssertionKind::StartText);
    Some(first).filter(|first| matches!(first, Ast::Assertion(assertion) if is_anchor(&assertion.kind)))
}

/// The anchor that it ends with.
fn end(ast: &Ast) -> Option<&Ast> {
    let last = if let Ast::Concat(concat) = ast { concat.asts.last()? } else { ast };
    let is_anchor = |kind: &AssertionKind| matches!(kind, AssertionKind::EndLine | AssertionKind::EndText);
    Some(last).filter(|last| matches!(last, Ast::Assertion(assertion) if is_anchor(&assertion.kind)))
}

fn literal(ast: &Ast) -> Option<String> {
    match ast {
        Ast::Literal(literal) => Some(literal.c.to_string()),
        Ast::Concat(concat) => concat.asts.iter().map(literal).collect(),
        _ => None,
    }
}
