//! What a selector and the filters behind it let through.

use super::{Found, regex};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{LabelMatcher, LineFilter, LineOp, LogExpr, MatchOp, StageKind};
use crate::logql::check::matches_empty;

pub(super) fn lint(log: &LogExpr, is_index_label: &impl Fn(&str) -> bool, found: &mut Found) {
    for matcher in log.selector.matchers.iter().filter(|matcher| !is_index_label(&matcher.name)) {
        found.push(matcher.span, not_index_label(matcher));
    }
    for matcher in log.selector.matchers.iter().filter(|matcher| is_dashboard_variable(&matcher.value)) {
        let message =
            format!("`{}` is a variable of a Grafana dashboard: in a rule nothing takes its place", matcher.value);
        let warning = Diagnostic::warning(codes::NEVER_FIRES, 0..0, message).label("no label has this value");
        found.push(matcher.value_span, warning.help("write the value itself, or `=~\".+\"` and group by the label"));
    }
    let is_filtered = log.stages.iter().any(|stage| filters(&stage.kind));
    if log.selector.matchers.iter().all(matches_all) && !is_filtered {
        let warning = Diagnostic::warning(codes::MATCHES_ALL, 0..0, "the selector matches every record there is");
        found.push(
            log.selector.span,
            warning.help("name what is watched, `{service_name=\"checkout\"}`, or filter the records, `|= \"error\"`"),
        );
    }
    for stage in &log.stages {
        match &stage.kind {
            StageKind::Line(filter) => lint_line_filter(filter, found),
            StageKind::Label(filter) => regex::lint_label_filter(filter, found),
            _ => {}
        }
    }
}

fn not_index_label(matcher: &LabelMatcher) -> Diagnostic {
    let consequence = if matches_empty(matcher) { "lets all of them pass" } else { "finds none of them" };
    let message = format!("`{}` is no index label of OTLP records, so that it {consequence}", matcher.name);
    let label = if matches_empty(matcher) { "always true" } else { "never true" };
    Diagnostic::warning(codes::NOT_INDEX_LABEL, 0..0, message)
        .label(label)
        .help(format!(
            "ask behind the selector: `{{...}} | {matcher}`; where it is a label of pushed streams, check with `--index-label {}`",
            matcher.name
        ))
}

/// `$service`, `${service}`, `${service:regex}`; in a regular expression a `$` stands at the end.
fn is_dashboard_variable(value: &str) -> bool {
    let name = value.strip_prefix('$').map(|name| name.strip_prefix('{').unwrap_or(name));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// Whether the matcher lets pass whatever has the label.
fn matches_all(matcher: &LabelMatcher) -> bool {
    match matcher.op {
        MatchOp::Regex => ALL_REGEXES.contains(&matcher.value.as_str()),
        MatchOp::NotEqual => matcher.value.is_empty(),
        MatchOp::NotRegex => matcher.value.is_empty(),
        MatchOp::Equal => false,
    }
}

const ALL_REGEXES: &[&str] = &[".+", ".*", "^.+$", "^.*$", "(.+)", "(.*)"];

fn filters(stage: &StageKind) -> bool {
    match stage {
        StageKind::Line(filter) => !passes_all(filter),
        StageKind::Label(_) => true,
        _ => false,
    }
}

fn passes_all(filter: &LineFilter) -> bool {
    let is_all = |text: &str| match filter.op {
        LineOp::Contains => text.is_empty(),
        LineOp::Regex => text.is_empty() || text == ".*",
        _ => false,
    };
    filter.operands.iter().any(|operand| !operand.ip && is_all(&operand.text))
}

fn lint_line_filter(filter: &LineFilter, found: &mut Found) {
    if passes_all(filter)
        && let Some(operand) = filter.operands.first()
    {
        let warning = Diagnostic::warning(codes::MATCHES_ALL, 0..0, "the filter lets every line pass");
        found.push(operand.span, warning.help("say what the lines hold, or take the filter out"));
    }
    if matches!(filter.op, LineOp::Regex | LineOp::NotRegex) {
        for operand in filter.operands.iter().filter(|operand| !operand.ip) {
            regex::lint(&operand.text).into_iter().for_each(|warning| found.push(operand.span, warning));
        }
    }
}
