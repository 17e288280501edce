//! What a rule file says that is hardly meant, though it can be used: the warnings of `watchbell check`. docs/checks.md shows each.

mod condition;
mod contradiction;
mod detector;
mod ignored;
mod join;
mod loki;
mod regex;
mod selector;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{
    BinaryExpr, BinaryOp, Grouping, MatchCardinality, MatchOp, MetricExpr, MetricKind, RangeAggregation, RangeOp, Span,
    StageKind, VectorOp,
};
use crate::logql::check::takes_grouping;
use crate::otlp_labels::{LabelConfig, label_name};
use crate::rule_file::{Rule, RuleFile};
use crate::yaml::{self, Node, NodeKind};
pub use ignored::ignored;
pub use loki::loki;

/// The warnings of a file, in its order, [`duplicates`] left out; `file` and `text` are its name and text. `is_index_label` tells of
/// which labels selectors can ask: [`index_labels`], and those of pushed streams.
pub fn lint(file: &str, text: &str, rule_file: &RuleFile, is_index_label: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
    let root = yaml::parse(text).ok();
    let mut warnings = Vec::new();
    for rule in rule_file.groups.iter().flat_map(|group| &group.rules) {
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

fn in_order(mut found: Vec<Diagnostic>, file: &str) -> Vec<Diagnostic> {
    found.iter_mut().for_each(|warning| warning.file = file.into());
    found.sort_by_key(|warning| (warning.span.start, warning.code));
    found
}

/// The labels of which selectors can ask where records are read so, those of pushed streams left out.
pub fn index_labels(config: &LabelConfig) -> BTreeSet<String> {
    let names = config.index_resource_attributes.iter().map(|attribute| label_name(attribute));
    let discovered = (!config.discover_service_name.is_empty()).then(|| "service_name".to_owned());
    names.chain(discovered).collect()
}

/// A file that was read: its name, its text and its rules.
pub type Checked<'f> = (&'f str, &'f str, &'f RuleFile);

/// What a rule makes: whether it is an alert, its name and its labels.
type Made<'r> = (bool, &'r str, &'r [(String, String)]);

/// Rules that make the same alerts or series as one before them, in any of the files. Each file is there once. Where files are by
/// service, `HighErrorRate` in each of them is another alert: across files the expressions are the same, too.
pub fn duplicates(files: &[Checked<'_>]) -> Vec<Diagnostic> {
    let mut before: BTreeMap<Made<'_>, Vec<(&str, String)>> = BTreeMap::new();
    let mut found = Vec::new();
    for (file, text, rule_file) in files {
        for rule in rule_file.groups.iter().flat_map(|group| &group.rules) {
            let expr = rule.expr.to_string();
            let same = before.entry((rule.is_alert(), rule.name(), &rule.labels)).or_default();
            if let Some((other, _)) = same.iter().find(|(other, other_expr)| other == file || *other_expr == expr) {
                let other = Some(*other).filter(|other| other != file);
                found.push(Diagnostic { file: (*file).into(), ..duplicate(rule, text, other) });
            } else {
                same.push((file, expr));
            }
        }
    }
    found
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

/// `other` is the file in which the first one stands, where it is not the same.
fn duplicate(rule: &Rule, text: &str, other: Option<&str>) -> Diagnostic {
    let place = other.map_or("there".to_owned(), |file| format!("in `{file}`"));
    let message = format!("a rule `{}` with the same labels is {place} already", rule.name());
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
            quantile_in_percent(range, found);
            if !is_folded && makes_many_series(range) {
                no_grouping(range, found);
            }
        }
        MetricKind::Vector(vector) => {
            if let (VectorOp::Sum, MetricKind::Range(range)) = (vector.op, &vector.expr.kind)
                && takes_grouping(range.op)
                && makes_many_series(range)
            {
                sum_of_single_records(range, found);
            }
            if let (MetricKind::Range(range), Some(grouping)) = (&vector.expr.kind, &vector.grouping)
                && range.op == RangeOp::AbsentOverTime
            {
                absent_by_label(range, grouping, found);
            }
            lint_metric(&vector.expr, is_folded || !text::keeps_elements(vector.op), is_index_label, found);
        }
        MetricKind::Binary(binary) => {
            idle_modifiers(binary, found);
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

/// Loki takes `bool` and matching where they say nothing.
fn idle_modifiers(binary: &BinaryExpr, found: &mut Found) {
    let op = binary.op;
    let mut tell = |code, span, message: String| found.push(span, Diagnostic::warning(code, 0..0, message));
    if binary.return_bool && !matches!(op, BinaryOp::Compare(_)) {
        tell(codes::BOOL, binary.op_span, format!("`bool` belongs to comparisons, `{op}` is none"));
    }
    match &binary.matching {
        Some(matching) if op.is_set() && matching.card != MatchCardinality::OneToOne => {
            tell(codes::MATCHING, matching.span, format!("`{op}` takes neither `group_left` nor `group_right`"));
        }
        Some(matching) if !op.is_set() && (binary.lhs.is_scalar() || binary.rhs.is_scalar()) => {
            tell(codes::MATCHING, matching.span, "a number has no labels to be matched by".to_owned());
        }
        _ => {}
    }
}

fn quantile_in_percent(range: &RangeAggregation, found: &mut Found) {
    let Some(quantile) = range.parameter.filter(|quantile| !(0.0..=1.0).contains(quantile)) else { return };
    let infinity = if quantile > 1.0 { "+Inf" } else { "-Inf" };
    let message = format!("a quantile lies between 0 and 1: of {quantile} the value is always {infinity}");
    let warning = Diagnostic::warning(codes::PARAMETER, 0..0, message);
    let is_percent = quantile > 1.0 && quantile <= 100.0;
    let help = if is_percent { format!("write `{}`", quantile / 100.0) } else { "write `0.99`, say".to_owned() };
    found.push(range.op_span, warning.help(help));
}

/// An absence has the labels that its selector names by `=`, and no others.
fn absent_by_label(range: &RangeAggregation, grouping: &Grouping, found: &mut Found) {
    let matchers = &range.range.log.selector.matchers;
    let has = |label: &String| matchers.iter().any(|matcher| matcher.op == MatchOp::Equal && matcher.name == *label);
    let Some(label) = grouping.labels.iter().find(|label| !grouping.without && !has(label)) else { return };
    let message = format!("an absence has the labels that its selector names by `=`: `{label}` is none of them");
    let warning = Diagnostic::warning(codes::LABEL_DROPPED, 0..0, message).label(format!("`{label}` is always empty"));
    let help =
        "who fell silent is not known by an expression: write a rule for each, or `detect: {flatline: {by: [...]}}`";
    found.push(range.op_span, warning.help(help));
}

fn makes_many_series(range: &RangeAggregation) -> bool {
    let keeps_few_labels = range.range.log.stages.iter().any(|stage| matches!(stage.kind, StageKind::Keep(_)));
    range.op != RangeOp::AbsentOverTime && range.grouping.is_none() && !keeps_few_labels
}

fn no_grouping(range: &RangeAggregation, found: &mut Found) {
    let message = format!("`{}` without grouping makes a series of every label, `trace_id` among them", range.op);
    let warning = Diagnostic::warning(codes::NO_GROUPING, 0..0, message)
        .label("one series for nearly every record")
        .help(match takes_grouping(range.op) {
            true => format!("write `{range} by (service_name)`, or group by what the alert is about"),
            false => format!("write `sum by (service_name) ({range})`, or group by what the alert is about"),
        });
    found.push(range.op_span, warning);
}

fn sum_of_single_records(range: &RangeAggregation, found: &mut Found) {
    let message =
        format!("`sum` adds up the `{}` of series that are a record each: it tells how many there are", range.op);
    let warning = Diagnostic::warning(codes::NO_GROUPING, 0..0, message)
        .label("one series for nearly every record")
        .help(format!("write `{range} by (service_name)`: the function groups by itself"));
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
                let known = index_labels(&LabelConfig::default());
                let mut found = lint("rules.yaml", text, &rule_file, |name| known.contains(name));
                found.extend(duplicates(&[("rules.yaml", text, &rule_file)]));
                found = in_order(ignored("rules.yaml", text, &rule_file, found), "rules.yaml");
                found.extend(loki("rules.yaml", text));
                render_all(&found, text)
            }
            Err(mistakes) => render_all(&mistakes, text),
        });
    }

    #[test]
    fn rules_of_two_files_may_be_the_same() {
        let text = |name: &str, kind: &str, expr: &str| {
            format!("groups: [{{name: g, rules: [{{{kind}: {name}, expr: {expr}}}]}}]")
        };
        let texts = [
            text("A", "alert", "vector(1)"),
            text("A", "record", "vector(1)"),
            text("B", "alert", "vector(1)"),
            text("A", "alert", "vector(2)"),
            text("A", "alert", "' vector(1)'"),
        ];
        let names = ["a.yaml", "b.yaml", "c.yaml", "other alerts.yaml", "d.yaml"];
        let files: Vec<RuleFile> =
            names.iter().zip(&texts).map(|(name, text)| rule_file::parse(name, text).unwrap()).collect();
        let checked: Vec<Checked<'_>> =
            files.iter().zip(names).zip(&texts).map(|((file, name), text)| (name, text.as_str(), file)).collect();
        let found: Vec<String> = duplicates(&checked).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["d.yaml: [WB203] a rule `A` with the same labels is in `a.yaml` already"]);
    }

    #[test]
    fn index_labels_are_those_that_the_config_has() {
        let config = LabelConfig {
            index_resource_attributes: vec!["team.name".into(), "app".into()],
            discover_service_name: Vec::new(),
        };
        assert_eq!(index_labels(&config).into_iter().collect::<Vec<_>>(), ["app", "team_name"]);
        assert!(index_labels(&LabelConfig::default()).contains("k8s_namespace_name"));
    }
}
