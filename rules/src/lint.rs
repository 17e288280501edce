//! What a rule file says that is hardly meant, though it can be used: the warnings of `watchbell check`.

use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{
    LabelMatcher, LogExpr, MetricExpr, MetricKind, RangeAggregation, RangeOp, Span, StageKind, VectorOp,
};
use crate::logql::check::matches_empty;
use crate::otlp_labels::LabelConfig;
use crate::rule_file::{Rule, RuleFile, RuleKind};

/// The warnings of a file, in its order; `file` and `text` are its name and text. `is_index_label` tells of which labels
/// selectors can ask: [`is_default_index_label`], unless the collector is configured otherwise.
pub fn lint(file: &str, text: &str, rule_file: &RuleFile, is_index_label: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
    let rules: Vec<&Rule> = rule_file.groups.iter().flat_map(|group| &group.rules).collect();
    let mut warnings = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        if rules[..i].iter().any(|other| makes_the_same(other, rule)) {
            warnings.push(duplicate(rule, text));
        }
        let mut found = Vec::new();
        lint_metric(&rule.expr, false, &is_index_label, &mut found);
        let placed = |(span, warning): (Span, Diagnostic)| Diagnostic { span: rule.place(text, span), ..warning };
        warnings.extend(found.into_iter().map(placed));
    }
    warnings.iter_mut().for_each(|warning| warning.file = file.into());
    warnings.sort_by_key(|warning| (warning.span.start, warning.code));
    warnings
}

/// Whether the label is made from a resource attribute that Loki, and we, index by default.
pub fn is_default_index_label(name: &str) -> bool {
    let attributes = LabelConfig::default().index_resource_attributes;
    attributes.iter().any(|attribute| attribute.replace('.', "_") == name)
}

fn makes_the_same(a: &Rule, b: &Rule) -> bool {
    let are_of_one_kind = matches!(
        (&a.kind, &b.kind),
        (RuleKind::Alert { .. }, RuleKind::Alert { .. }) | (RuleKind::Record { .. }, RuleKind::Record { .. })
    );
    are_of_one_kind && a.name() == b.name() && a.labels == b.labels
}

fn duplicate(rule: &Rule, text: &str) -> Diagnostic {
    let start = rule.span.start;
    let line_len = text[start..].lines().next().map_or(0, |line| line.trim_end().len());
    let message = format!("a rule `{}` with the same labels is there already", rule.name());
    Diagnostic::warning(codes::DUPLICATE_RULE, start..start + line_len, message)
        .help("give one of them another name or other labels, else their alerts cannot be told apart")
}

/// `is_folded` tells whether an aggregation around the expression makes few series of many.
fn lint_metric(
    expr: &MetricExpr,
    is_folded: bool,
    is_index_label: &impl Fn(&str) -> bool,
    found: &mut Vec<(Span, Diagnostic)>,
) {
    match &expr.kind {
        MetricKind::Range(range) => {
            lint_selector(&range.range.log, is_index_label, found);
            if !is_folded && makes_many_series(range) {
                found.push(no_grouping(range));
            }
        }
        MetricKind::Vector(vector) => {
            let keeps_series =
                matches!(vector.op, VectorOp::Topk | VectorOp::Bottomk | VectorOp::Sort | VectorOp::SortDesc);
            lint_metric(&vector.expr, is_folded || !keeps_series, is_index_label, found);
        }
        MetricKind::Binary(binary) => {
            lint_metric(&binary.lhs, is_folded, is_index_label, found);
            lint_metric(&binary.rhs, is_folded, is_index_label, found);
        }
        MetricKind::LabelReplace { expr, .. } => lint_metric(expr, is_folded, is_index_label, found),
        MetricKind::Variants { of, .. } => lint_selector(&of.log, is_index_label, found),
        MetricKind::Number(_) | MetricKind::VectorFn(_) => {}
    }
}

fn lint_selector(log: &LogExpr, is_index_label: &impl Fn(&str) -> bool, found: &mut Vec<(Span, Diagnostic)>) {
    let strangers = log.selector.matchers.iter().filter(|matcher| !is_index_label(&matcher.name));
    found.extend(strangers.map(|matcher| (matcher.span, not_index_label(matcher))));
}

fn not_index_label(matcher: &LabelMatcher) -> Diagnostic {
    let consequence = if matches_empty(matcher) { "lets all of them pass" } else { "finds none of them" };
    let message = format!("`{}` is no index label of OTLP records, so that it {consequence}", matcher.name);
    let label = if matches_empty(matcher) { "always true" } else { "never true" };
    Diagnostic::warning(codes::NOT_INDEX_LABEL, 0..0, message)
        .label(label)
        .help(format!("ask behind the selector: `{{...}} | {matcher}`"))
}

fn makes_many_series(range: &RangeAggregation) -> bool {
    let keeps_few_labels = range.range.log.stages.iter().any(|stage| matches!(stage.kind, StageKind::Keep(_)));
    range.op != RangeOp::AbsentOverTime && range.grouping.is_none() && !keeps_few_labels
}

fn no_grouping(range: &RangeAggregation) -> (Span, Diagnostic) {
    let message = format!("`{}` without grouping makes a series of every label, `trace_id` among them", range.op);
    let warning = Diagnostic::warning(codes::NO_GROUPING, 0..0, message)
        .label("one series for nearly every record")
        .help(format!("write `sum by (service_name) ({range})`, or group by what the alert is about"));
    (range.op_span, warning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::render_all;
    use crate::{datadriven, rule_file};

    #[test]
    fn warnings() {
        datadriven::run("lint", |text| match rule_file::parse("rules.yaml", text) {
            Ok(rule_file) => render_all(&lint("rules.yaml", text, &rule_file, is_default_index_label), text),
            Err(mistakes) => render_all(&mistakes, text),
        });
    }
}
