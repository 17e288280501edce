//! Alternatives of a line filter's regular expression that find more than was meant.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{AssertionKind, Ast};

use crate::diagnostic::{Diagnostic, codes};

/// A line filter looks anywhere in the line, and `|` binds weaker than everything else.
pub(super) fn lint(expression: &str) -> Option<Diagnostic> {
    let Ok(Ast::Alternation(ref alternation)) = Parser::new().parse(expression) else { return None };
    let alternatives = &alternation.asts;
    let anchored = |is_anchor: &dyn Fn(&Ast) -> bool| alternatives.iter().filter(|a| is_anchor(a)).count();
    for (is_anchor, sign) in [(&begins_line as &dyn Fn(&Ast) -> bool, '^'), (&ends_line, '$')] {
        let count = anchored(is_anchor);
        if count > 0 && count < alternatives.len() {
            return Some(half_anchored(expression, sign));
        }
    }
    let is_number = |ast: &Ast| matches!(literal(ast), Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()));
    alternatives.iter().all(is_number).then(|| numbers(expression))
}

fn half_anchored(expression: &str, sign: char) -> Diagnostic {
    let inner = expression.trim_start_matches('^').trim_end_matches('$');
    let (start, end) = (expression.starts_with('^'), expression.ends_with('$'));
    let whole = format!("{}(?:{inner}){}", if start { "^" } else { "" }, if end { "$" } else { "" });
    let message = format!("`{sign}` holds for one of the alternatives alone, the others are found anywhere");
    Diagnostic::warning(codes::UNANCHORED, 0..0, message).help(format!("put parentheses around them: `{whole}`"))
}

fn numbers(expression: &str) -> Diagnostic {
    let message = "the numbers are found inside of longer ones, too";
    Diagnostic::warning(codes::UNANCHORED, 0..0, message).help(format!(
        "let them stand alone: `\\b(?:{expression})\\b`, or ask a label: `| json | status=~\"{expression}\"`"
    ))
}

fn begins_line(ast: &Ast) -> bool {
    let first = match ast {
        Ast::Concat(concat) => concat.asts.first(),
        other => Some(other),
    };
    matches!(first, Some(Ast::Assertion(assertion)) if matches!(assertion.kind, AssertionKind::StartLine | AssertionKind::StartText))
}

fn ends_line(ast: &Ast) -> bool {
    let last = match ast {
        Ast::Concat(concat) => concat.asts.last(),
        other => Some(other),
    };
    matches!(last, Some(Ast::Assertion(assertion)) if matches!(assertion.kind, AssertionKind::EndLine | AssertionKind::EndText))
}

fn literal(ast: &Ast) -> Option<String> {
    match ast {
        Ast::Literal(literal) => Some(literal.c.to_string()),
        Ast::Concat(concat) => concat.asts.iter().map(literal).collect(),
        _ => None,
    }
}
