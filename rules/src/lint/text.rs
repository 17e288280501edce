//! Labels and annotations: templates that ask for what is not there, or fail.

use std::collections::BTreeSet;

use super::field;
use crate::diagnostic::{Diagnostic, codes};
use crate::labels::Labels;
use crate::logql::ast::{
    BinaryOp, Grouping, MatchCardinality, MatchOp, MetricExpr, MetricKind, RangeOp, Span, VectorOp,
};
use crate::record::EvidenceRecord;
use crate::rule_file::{Rule, RuleGroup};
use crate::template::{Links, RuleData, Template, expand_rule};
use crate::time::Timestamp;
use crate::yaml::{self, Node, NodeKind};

pub(super) fn lint(rule: &Rule, node: &Node, file_text: &str) -> Vec<Diagnostic> {
    ["labels", "annotations"].into_iter().flat_map(|part| lint_part(rule, node, part, file_text, None)).collect()
}

/// The labels that a group gives to all of its alerts; of what is wrong with one for several of them, the first is told.
pub(super) fn lint_group(group: &RuleGroup, node: &Node, file_text: &str) -> Vec<Diagnostic> {
    let alerts = group.rules.iter().filter(|rule| rule.is_alert());
    let warnings = alerts.flat_map(|rule| lint_part(rule, node, "labels", file_text, Some(rule.name())));
    let mut warnings: Vec<Diagnostic> = warnings.collect();
    warnings.sort_by_key(|warning| (warning.span.start, warning.code));
    warnings.dedup_by_key(|warning| (warning.span.start, warning.code));
    warnings
}

/// `node` is the rule, or its group, which `told` says: the name of the rule for which it is. Where the rule gives a label of the group
/// another value, the group's is none of its.
fn lint_part(rule: &Rule, node: &Node, part: &str, file_text: &str, told: Option<&str>) -> Vec<Diagnostic> {
    let Some(Node { kind: NodeKind::Mapping(entries), .. }) = field(node, part) else { return Vec::new() };
    let kept = labels_of(&rule.expr);
    let mut warnings = Vec::new();
    for (name, value) in entries {
        let NodeKind::Scalar(text) = &value.kind else { continue };
        if told.is_some() && !rule.labels.iter().any(|(own, own_value)| *own == name.name && own_value == text) {
            continue;
        }
        let Ok(template) = Template::parse(text) else { continue };
        let mut found = dropped(&template, kept.as_ref(), rule);
        found.extend(failing(&template, kept.as_ref()));
        let placed = |warning: Diagnostic| {
            let span = yaml::place(file_text, &value.span, text, warning.span.clone());
            let of_rule = told.map_or(String::new(), |rule| format!("for the alert `{rule}`: "));
            Diagnostic { span, help: warning.help.map(|help| of_rule + &help), ..warning }
        };
        warnings.extend(found.into_iter().map(placed));
    }
    warnings
}

/// Labels that the template asks for and the expression's elements do not have.
fn dropped(template: &Template, kept: Option<&BTreeSet<String>>, rule: &Rule) -> Vec<Diagnostic> {
    let Some(kept) = kept else { return taken_away(template, &rule.expr) };
    let strangers = template.labels_read().into_iter().filter(|(name, _)| !kept.contains(name));
    let warning = |(name, span): (String, Span)| {
        let names: Vec<String> = kept.iter().map(|name| format!("`{name}`")).collect();
        let is_own = rule.labels.iter().any(|(own, _)| *own == name);
        let help = match names.len() {
            _ if is_own => format!("`{name}` is a label of the rule: templates see those of the expression alone"),
            0 => format!("it has no labels at all: group by it, `sum by ({name}) (...)`"),
            _ => format!("it has {}: group by `{name}` too", names.join(", ")),
        };
        match crate::diagnostic::closest(&name, kept.iter().map(String::as_str)) {
            Some(_) => no_label(&name, span).suggest(&name, kept.iter().map(String::as_str)),
            None => no_label(&name, span).help(help),
        }
    };
    strangers.map(warning).collect()
}

/// The same where it is known only what they cannot have.
fn taken_away(template: &Template, expr: &MetricExpr) -> Vec<Diagnostic> {
    let gone = gone_from(expr);
    let read = template.labels_read().into_iter().filter(|(name, _)| gone.contains(name));
    read.map(|(name, span)| no_label(&name, span).help(format!("`without` takes `{name}` away"))).collect()
}

fn no_label(name: &str, span: Span) -> Diagnostic {
    let message = format!("the expression's result has no label `{name}`");
    Diagnostic::warning(codes::LABEL_DROPPED, span, message).label("always empty")
}

/// What goes wrong where the template is run over an alert as it may be.
fn failing(template: &Template, kept: Option<&BTreeSet<String>>) -> Option<Diagnostic> {
    let read = template.labels_read();
    let names = kept.into_iter().flatten().cloned().chain(read.into_iter().map(|(name, _)| name));
    let labels = Labels::new(names.map(|name| (name, "1")));
    let sample = EvidenceRecord {
        time: Timestamp(1_767_225_600_000_000_000),
        severity_number: 17,
        severity: "ERROR".to_owned(),
        body: "payment refused".to_owned(),
        attributes: vec![("service.name".to_owned(), "checkout".to_owned())],
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        span_id: "b7ad6b7169203331".to_owned(),
    };
    let data = RuleData {
        labels: &labels,
        value: 42.0,
        external_labels: &Labels::default(),
        external_url: "http://localhost",
        samples: std::slice::from_ref(&sample),
        links: &Links::default(),
        now: sample.time,
    };
    let error = expand_rule(template, &data).err()?;
    let warning =
        Diagnostic::warning(codes::TEMPLATE_FAILS, error.span, format!("the template fails: {}", error.message));
    Some(warning.help("it was run over an alert whose labels are all `1` and whose value is 42"))
}

/// The labels that an expression's elements have at most; `None` where that cannot be told.
pub(super) fn labels_of(expr: &MetricExpr) -> Option<BTreeSet<String>> {
    match &expr.kind {
        MetricKind::Number(_) | MetricKind::VectorFn(_) => Some(BTreeSet::new()),
        MetricKind::Range(range) if range.op == RangeOp::AbsentOverTime => {
            let matchers = range.range.log.selector.matchers.iter();
            Some(matchers.filter(|matcher| matcher.op == MatchOp::Equal).map(|matcher| matcher.name.clone()).collect())
        }
        MetricKind::Range(range) => by(range.grouping.as_ref()?),
        MetricKind::Vector(vector) => match (vector.op, &vector.grouping) {
            (op, _) if keeps_elements(op) => labels_of(&vector.expr),
            (_, Some(grouping)) => by(grouping),
            (_, None) => Some(BTreeSet::new()),
        },
        MetricKind::LabelReplace { expr, dst, .. } => {
            let mut labels = labels_of(expr)?;
            labels.insert(dst.text.clone());
            Some(labels)
        }
        MetricKind::Binary(binary) => {
            let (lhs, rhs) = (&binary.lhs, &binary.rhs);
            match (binary.op, &binary.matching) {
                _ if rhs.is_scalar() => labels_of(lhs),
                _ if lhs.is_scalar() => labels_of(rhs),
                (BinaryOp::And | BinaryOp::Unless, _) => labels_of(lhs),
                (BinaryOp::Or, _) => Some(labels_of(lhs)?.union(&labels_of(rhs)?).cloned().collect()),
                (_, None) => labels_of(lhs),
                (_, Some(matching)) => match matching.card {
                    MatchCardinality::OneToOne if matching.on => Some(matching.labels.iter().cloned().collect()),
                    MatchCardinality::OneToOne => labels_of(lhs),
                    MatchCardinality::ManyToOne => with(labels_of(lhs)?, &matching.include),
                    MatchCardinality::OneToMany => with(labels_of(rhs)?, &matching.include),
                },
            }
        }
        MetricKind::Variants { .. } => None,
    }
}

/// Whether the operator chooses or orders elements, which keep their labels.
pub(super) fn keeps_elements(op: VectorOp) -> bool {
    use VectorOp::{ApproxTopk, Bottomk, Sort, SortDesc, Topk};
    matches!(op, Topk | Bottomk | ApproxTopk | Sort | SortDesc)
}

fn by(grouping: &Grouping) -> Option<BTreeSet<String>> {
    (!grouping.without).then(|| grouping.labels.iter().cloned().collect())
}

fn with(mut labels: BTreeSet<String>, more: &[String]) -> Option<BTreeSet<String>> {
    labels.extend(more.iter().cloned());
    Some(labels)
}

/// Labels that none of an expression's elements has, as an aggregation takes them away.
fn gone_from(expr: &MetricExpr) -> BTreeSet<String> {
    let without = |grouping: &Option<Grouping>| {
        let grouping = grouping.iter().filter(|grouping| grouping.without);
        grouping.flat_map(|grouping| grouping.labels.iter().cloned()).collect::<BTreeSet<_>>()
    };
    match &expr.kind {
        MetricKind::Range(range) => without(&range.grouping),
        MetricKind::Vector(vector) if keeps_elements(vector.op) => gone_from(&vector.expr),
        MetricKind::Vector(vector) => &without(&vector.grouping) | &gone_from(&vector.expr),
        MetricKind::LabelReplace { expr, dst, .. } => {
            let mut gone = gone_from(expr);
            gone.remove(&dst.text);
            gone
        }
        MetricKind::Binary(binary) => {
            let (lhs, rhs) = (&binary.lhs, &binary.rhs);
            let gone_but = |side, include: &[String]| &gone_from(side) - &include.iter().cloned().collect();
            match (binary.op, &binary.matching) {
                _ if rhs.is_scalar() => gone_from(lhs),
                _ if lhs.is_scalar() => gone_from(rhs),
                (BinaryOp::Or, _) => &gone_from(lhs) & &gone_from(rhs),
                (_, Some(matching)) if matching.card == MatchCardinality::OneToMany => gone_but(rhs, &matching.include),
                (_, Some(matching)) => gone_but(lhs, &matching.include),
                (_, None) => gone_from(lhs),
            }
        }
        MetricKind::Number(_) | MetricKind::VectorFn(_) | MetricKind::Variants { .. } => BTreeSet::new(),
    }
}
