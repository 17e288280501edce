//! Matchers and filters that no record can pass together.

use super::Found;
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{LabelFilter, LabelMatcher, LineFilter, LineOp, LogExpr, MatchOp, Span, StageKind};
use crate::logql::regexp;

pub(super) fn lint(log: &LogExpr, found: &mut Found) {
    let mut matchers: Vec<&LabelMatcher> = Vec::new();
    log.selector.matchers.iter().for_each(|matcher| add_matcher(&mut matchers, matcher, found));
    let mut filters: Vec<(&LineFilter, Span)> = Vec::new();
    for stage in &log.stages {
        match &stage.kind {
            StageKind::Line(filter) => add_filter(&mut filters, (filter, stage.span), found),
            StageKind::Label(filter) => add_label_filter(&mut matchers, filter, found),
            // Labels and lines may be others behind it.
            _ => {
                matchers.clear();
                filters.clear();
            }
        }
    }
}

fn add_label_filter<'e>(matchers: &mut Vec<&'e LabelMatcher>, filter: &'e LabelFilter, found: &mut Found) {
    match filter {
        LabelFilter::String(matcher) => add_matcher(matchers, matcher, found),
        LabelFilter::And(a, b) => [a, b].into_iter().for_each(|filter| add_label_filter(matchers, filter, found)),
        _ => {}
    }
}

fn add_matcher<'e>(matchers: &mut Vec<&'e LabelMatcher>, matcher: &'e LabelMatcher, found: &mut Found) {
    if let Some(other) = matchers.iter().find(|other| other.name == matcher.name && exclude(other, matcher)) {
        let message = format!("no record has both `{other}` and `{matcher}`");
        let help = format!("of several values write `{}=~\"a|b\"`, or take one of them out", matcher.name);
        found.push(matcher.span, never(message, "never true").help(help));
    }
    matchers.push(matcher);
}

/// Whether no value passes both.
fn exclude(a: &LabelMatcher, b: &LabelMatcher) -> bool {
    match (a.op, b.op) {
        (MatchOp::Equal, _) => !passes(&a.value, b),
        (_, MatchOp::Equal) => !passes(&b.value, a),
        (MatchOp::Regex, MatchOp::NotRegex) | (MatchOp::NotRegex, MatchOp::Regex) => a.value == b.value,
        _ => false,
    }
}

fn passes(value: &str, matcher: &LabelMatcher) -> bool {
    let fits = || regexp::compile_anchored(&matcher.value).map(|regex| regex.is_match(value));
    match matcher.op {
        MatchOp::Equal => value == matcher.value,
        MatchOp::NotEqual => value != matcher.value,
        MatchOp::Regex => fits().unwrap_or(true),
        MatchOp::NotRegex => !fits().unwrap_or(false),
    }
}

fn add_filter<'e>(filters: &mut Vec<(&'e LineFilter, Span)>, new: (&'e LineFilter, Span), found: &mut Found) {
    let (filter, span) = new;
    if filters.iter().any(|(other, _)| excludes(filter, other) || excludes(other, filter)) {
        let message = "no line passes this filter and those before it";
        found.push(
            span,
            never(message.to_owned(), "never true").help("take one of them out, or let it ask for another text"),
        );
    }
    filters.push(new);
}

/// Whether each line that `wants` lets pass has something that `refuses` does not.
fn excludes(refuses: &LineFilter, wants: &LineFilter) -> bool {
    let is_refused: fn(&str, &str) -> bool = match (wants.op, refuses.op) {
        (LineOp::Contains, LineOp::NotContains) => |wanted, refused| wanted.contains(refused),
        (LineOp::Regex, LineOp::NotRegex) | (LineOp::Pattern, LineOp::NotPattern) => {
            |wanted, refused| wanted == refused
        }
        _ => return false,
    };
    let refused = || refuses.operands.iter().filter(|operand| !operand.ip);
    wants.operands.iter().all(|wanted| !wanted.ip && refused().any(|refused| is_refused(&wanted.text, &refused.text)))
}

fn never(message: String, label: &str) -> Diagnostic {
    Diagnostic::warning(codes::NEVER_FIRES, 0..0, message).label(label)
}
