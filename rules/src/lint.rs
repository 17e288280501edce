//! What a rule file says that is hardly meant, though it can be used: the warnings of `watchbell check`. docs/checks.md shows each.

mod condition;
mod contradiction;
mod detector;
mod join;
mod regex;
mod selector;
mod text;

use std::ops::Range;

use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{BinaryExpr, MetricExpr, MetricKind, RangeAggregation, RangeOp, Span, StageKind, VectorOp};
use crate::otlp_labels::LabelConfig;
use crate::rule_file::{Rule, RuleFile, RuleKind};
use crate::rule_test::is_test_file;
use crate::yaml::{self, Node, NodeKind};

/// The warnings of a file, in its order; `file` and `text` are its name and text. `is_index_label` tells of which labels
/// selectors can ask: [`is_default_index_label`], unless the collector is configured otherwise.
pub fn lint(file: &str, text: &str, rule_file: &RuleFile, is_index_label: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
    let root = yaml::parse(text).ok();
    let mut warnings = Vec::new();
    let rules: Vec<&Rule> = rule_file.groups.iter().flat_map(|group| &group.rules).collect();
    for (i, rule) in rules.iter().enumerate() {
        if rules[..i].iter().any(|other| makes_the_same(other, rule)) {
            warnings.push(duplicate(rule, text));
        }
        warnings.extend(expression(rule, text, &is_index_label));
    }
    for (group, node) in rule_file.groups.iter().zip(root.iter().flat_map(|root| items(root, "groups"))) {
        if group.rules.is_empty() {
            warnings.push(dead_group(&group.name, node, text));
        }
        warnings.extend(text::lint_group(group, node, text));
        for (rule, node) in group.rules.iter().zip(items(node, "rules")) {
            warnings.extend(rule.is_alert().then(|| alert(rule, node, text)).into_iter().flatten());
        }
    }
    in_order(warnings, file)
}

/// What Loki refuses in a file that Watchbell takes.
pub fn loki(file: &str, text: &str) -> Vec<Diagnostic> {
    let Ok(root) = yaml::parse(text) else { return Vec::new() };
    if is_test_file(&root) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let own = |node: &Node, names: &[&str], found: &mut Vec<Diagnostic>| {
        let NodeKind::Mapping(fields) = &node.kind else { return };
        let own = fields.iter().map(|(key, _)| key).filter(|key| names.contains(&&*key.name));
        found.extend(own.map(|key| refused_by_loki(&key.name, key.span.clone())));
    };
    own(&root, &["tests"], &mut found);
    for group in items(&root, "groups") {
        own(group, &["watchbell"], &mut found);
        items(group, "rules").iter().for_each(|rule| own(rule, &["watchbell", "detect"], &mut found));
    }
    in_order(found, file)
}

fn refused_by_loki(name: &str, span: Range<usize>) -> Diagnostic {
    let help = match name {
        "tests" => "put the tests into a file of their own, with `rule_files:`",
        "watchbell" => "set it for all rules in the collector's config, under `engine:`",
        _ => "keep this rule in a file that Loki does not read",
    };
    Diagnostic::error(codes::LOKI, span, format!("Loki refuses a file with the key `{name}`")).help(help)
}

fn in_order(mut found: Vec<Diagnostic>, file: &str) -> Vec<Diagnostic> {
    found.iter_mut().for_each(|warning| warning.file = file.into());
    found.sort_by_key(|warning| (warning.span.start, warning.code));
    found
}

/// Whether the label is made from a resource attribute that Loki, and we, index by default.
pub fn is_default_index_label(name: &str) -> bool {
    let attributes = LabelConfig::default().index_resource_attributes;
    attributes.iter().any(|attribute| attribute.replace('.', "_") == name)
}

/// What can be said of an expression alone, placed in the file.
fn expression(rule: &Rule, text: &str, is_index_label: &impl Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut found = Found(Vec::new());
    lint_metric(&rule.expr, false, is_index_label, &mut found);
    match &rule.detect {
        None => {
            condition::lint(rule, &mut found);
            join::lint(&rule.expr, &mut found);
        }
        Some(detect) => detector::lint(rule, detect, is_index_label, &mut found),
    }
    let placed = |(span, warning): (Span, Diagnostic)| Diagnostic { span: rule.place(text, span), ..warning };
    let mut placed: Vec<Diagnostic> = found.0.into_iter().map(placed).collect();
    if rule.detect.is_some() {
        // A selector stands in the expression several times, and to watch all records is what detectors are for.
        placed.retain(|warning| warning.code != codes::MATCHES_ALL);
        placed.sort_by_key(|warning| (warning.span.start, warning.code));
        placed.dedup();
    }
    placed
}

/// Warnings, and where they stand in an expression.
pub(crate) struct Found(Vec<(Span, Diagnostic)>);

impl Found {
    fn push(&mut self, span: Span, warning: Diagnostic) {
        self.0.push((span, warning));
    }
}

/// What can be said of an alert's other fields.
fn alert(rule: &Rule, node: &Node, file_text: &str) -> Vec<Diagnostic> {
    let mut warnings = text::lint(rule, node, file_text);
    if !rule.labels.iter().any(|(name, _)| name == "severity") {
        let message = format!("the alert `{}` has no label `severity`", rule.name());
        let warning = Diagnostic::warning(codes::NO_SEVERITY, first_line(rule.span.start, file_text), message);
        warnings.push(warning.help("say how urgent it is, `labels: {severity: page}`: receivers are chosen by it"));
    }
    warnings.extend(condition::lint_for(rule).map(|warning| {
        let span = field(node, "for").map_or(rule.span.clone(), |node| node.span.clone());
        Diagnostic { span, ..warning }
    }));
    warnings
}

fn makes_the_same(a: &Rule, b: &Rule) -> bool {
    let are_of_one_kind = matches!(
        (&a.kind, &b.kind),
        (RuleKind::Alert { .. }, RuleKind::Alert { .. }) | (RuleKind::Record { .. }, RuleKind::Record { .. })
    );
    are_of_one_kind && a.name() == b.name() && a.labels == b.labels
}

fn duplicate(rule: &Rule, text: &str) -> Diagnostic {
    let message = format!("a rule `{}` with the same labels is there already", rule.name());
    Diagnostic::warning(codes::DUPLICATE_RULE, first_line(rule.span.start, text), message)
        .help("give one of them another name or other labels, else their alerts cannot be told apart")
}

fn dead_group(name: &str, node: &Node, text: &str) -> Diagnostic {
    let message = format!("the group `{name}` has no rules");
    Diagnostic::warning(codes::DEAD_GROUP, first_line(node.span.start, text), message)
        .help("write its rules under `rules`, or take it out")
}

fn first_line(start: usize, text: &str) -> Range<usize> {
    start..start + text[start..].lines().next().map_or(0, |line| line.trim_end().len())
}

/// The value of a field of a mapping.
fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let NodeKind::Mapping(fields) = &node.kind else { return None };
    fields.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
}

/// The elements of a list in a field of a mapping.
fn items<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    match field(node, name) {
        Some(Node { kind: NodeKind::Sequence(items), .. }) => items,
        _ => &[],
    }
}

/// Calls `visit` with each operation of two operands and the expression that it is, the inner ones first.
fn for_each_operation(expr: &MetricExpr, visit: &mut impl FnMut(&BinaryExpr, &MetricExpr)) {
    match &expr.kind {
        MetricKind::Vector(vector) => for_each_operation(&vector.expr, visit),
        MetricKind::LabelReplace { expr, .. } => for_each_operation(expr, visit),
        MetricKind::Binary(binary) => {
            for_each_operation(&binary.lhs, visit);
            for_each_operation(&binary.rhs, visit);
            visit(binary, expr);
        }
        _ => {}
    }
}

/// `is_folded` tells whether an aggregation around the expression makes few series of many.
fn lint_metric(expr: &MetricExpr, is_folded: bool, is_index_label: &impl Fn(&str) -> bool, found: &mut Found) {
    match &expr.kind {
        MetricKind::Range(range) => {
            selector::lint(&range.range.log, is_index_label, found);
            contradiction::lint(&range.range.log, found);
            if !is_folded && makes_many_series(range) {
                no_grouping(range, found);
            }
        }
        MetricKind::Vector(vector) => {
            let keeps_series = matches!(
                vector.op,
                VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk | VectorOp::Sort | VectorOp::SortDesc
            );
            lint_metric(&vector.expr, is_folded || !keeps_series, is_index_label, found);
        }
        MetricKind::Binary(binary) => {
            lint_metric(&binary.lhs, is_folded, is_index_label, found);
            lint_metric(&binary.rhs, is_folded, is_index_label, found);
        }
        MetricKind::LabelReplace { expr, .. } => lint_metric(expr, is_folded, is_index_label, found),
        MetricKind::Variants { of, .. } => {
            selector::lint(&of.log, is_index_label, found);
            contradiction::lint(&of.log, found);
        }
        MetricKind::Number(_) | MetricKind::VectorFn(_) => {}
    }
}

fn makes_many_series(range: &RangeAggregation) -> bool {
    let keeps_few_labels = range.range.log.stages.iter().any(|stage| matches!(stage.kind, StageKind::Keep(_)));
    range.op != RangeOp::AbsentOverTime && range.grouping.is_none() && !keeps_few_labels
}

fn no_grouping(range: &RangeAggregation, found: &mut Found) {
    let message = format!("`{}` without grouping makes a series of every label, `trace_id` among them", range.op);
    let warning = Diagnostic::warning(codes::NO_GROUPING, 0..0, message)
        .label("one series for nearly every record")
        .help(format!("write `sum by (service_name) ({range})`, or group by what the alert is about"));
    found.push(range.op_span, warning);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::render_all;
    use crate::{datadriven, rule_file};

    #[test]
    fn warnings() {
        datadriven::run("lint", |text| match rule_file::parse("rules.yaml", text) {
            Ok(rule_file) => {
                let mut found = lint("rules.yaml", text, &rule_file, is_default_index_label);
                found.extend(loki("rules.yaml", text));
                render_all(&found, text)
            }
            Err(mistakes) => render_all(&mistakes, text),
        });
    }
}
