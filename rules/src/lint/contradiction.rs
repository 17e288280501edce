//! Matchers and filters that no record can pass together.

use super::Found;
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{LabelFilter, LabelMatcher, LineFilter, LineOp, LogExpr, MatchOp, Span, StageKind};
use crate::logql::regexp;

pub(super) fn lint(log: &LogExpr, found: &mut Found) {
    let mut matchers: Vec<Matcher<'_>> = Vec::new();
    for matcher in &log.selector.matchers {
        add_matcher(&mut matchers, Matcher { matcher, is_anchored: true }, found);
    }
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

#[derive(Clone, Copy)]
struct Matcher<'e> {
    matcher: &'e LabelMatcher,
    /// Whether a regular expression is for the whole value; Loki's label filters take some of them for a part of it.
    is_anchored: bool,
}

fn add_label_filter<'e>(matchers: &mut Vec<Matcher<'e>>, filter: &'e LabelFilter, found: &mut Found) {
    match filter {
        LabelFilter::String(matcher) => add_matcher(matchers, Matcher { matcher, is_anchored: false }, found),
        LabelFilter::And(parts) => parts.iter().for_each(|part| add_label_filter(matchers, part, found)),
        _ => {}
    }
}

fn add_matcher<'e>(matchers: &mut Vec<Matcher<'e>>, new: Matcher<'e>, found: &mut Found) {
    let matcher = new.matcher;
    lint_level(matcher, found);
    let excluding = |other: &&Matcher<'_>| other.matcher.name == matcher.name && exclude(**other, new);
    if let Some(Matcher { matcher: other, .. }) = matchers.iter().find(excluding) {
        let message = format!("no record has both `{other}` and `{matcher}`");
        let help = format!("of several values write `{}=~\"a|b\"`, or take one of them out", matcher.name);
        found.push(matcher.span, never(message, "never true").help(help));
    }
    matchers.push(new);
}

/// `detected_level` is written in lower case, whatever the record had.
fn lint_level(matcher: &LabelMatcher, found: &mut Found) {
    let value = &matcher.value;
    let folds_case = value.contains("(?i");
    // `\S` and the like are no letters of the value.
    if matcher.name != "detected_level" || folds_case || value.contains('\\') || *value == value.to_lowercase() {
        return;
    }
    let message = format!("`detected_level` is in lower case: no record has the capitals of `{matcher}`");
    let lower = LabelMatcher { value: value.to_lowercase(), ..matcher.clone() };
    found.push(matcher.span, Diagnostic::warning(codes::NEVER_FIRES, 0..0, message).help(format!("write `{lower}`")));
}

/// Whether no value passes both.
fn exclude(a: Matcher<'_>, b: Matcher<'_>) -> bool {
    match (a.matcher.op, b.matcher.op) {
        (MatchOp::Equal, _) => !may_pass(&a.matcher.value, b),
        (_, MatchOp::Equal) => !may_pass(&b.matcher.value, a),
        (MatchOp::Regex, MatchOp::NotRegex) | (MatchOp::NotRegex, MatchOp::Regex) => {
            a.matcher.value == b.matcher.value && a.is_anchored == b.is_anchored
        }
        _ => false,
    }
}

/// Whether the value passes, the expression being for the whole of it or, where that is not certain, for a part.
fn may_pass(value: &str, Matcher { matcher, is_anchored }: Matcher<'_>) -> bool {
    let fits_whole = || regexp::compile_anchored(&matcher.value).is_ok_and(|regex| regex.is_match(value));
    let fits_part = || regexp::compile(&matcher.value).is_ok_and(|regex| regex.is_match(value));
    match matcher.op {
        MatchOp::Equal => value == matcher.value,
        MatchOp::NotEqual => value != matcher.value,
        MatchOp::Regex => fits_whole() || !is_anchored && fits_part(),
        MatchOp::NotRegex => !fits_whole(),
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
