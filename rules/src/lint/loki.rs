//! What Loki's ruler refuses in a file that Watchbell takes. It reads a rule file strictly, names as they were before Prometheus 3,
//! durations in whole units, and tries each template of a rule with three variables only.

mod expression;

use std::ops::Range;

use super::{field, in_order, items};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql::ast::{Expr, MetricExpr, MetricKind};
use crate::logql::{self, ast::Span};
use crate::rule_test::is_test_file;
use crate::template::Template;
use crate::time::{is_prometheus_duration, parse_duration};
use crate::yaml::{self, Node, NodeKind};

/// What Loki refuses in a file that Watchbell takes.
pub fn loki(file: &str, text: &str) -> Vec<Diagnostic> {
    let Ok(root) = yaml::parse(text) else { return Vec::new() };
    if is_test_file(&root) {
        return Vec::new();
    }
    let mut found = keys(&root, &["tests", "namespace"]);
    for group in items(&root, "groups") {
        found.extend(keys(group, &["watchbell"]));
        found.extend(durations(group, &["interval", "query_offset"]));
        for rule in items(group, "rules") {
            found.extend(keys(rule, &["watchbell", "detect"]));
            found.extend(record_name(rule));
            found.extend(durations(rule, &["for", "keep_firing_for"]));
            found.extend(expression(rule, text));
            found.extend(variants(rule, text));
            let is_alert = field(rule, "alert").is_some();
            for (name, value) in ["labels", "annotations"].into_iter().flat_map(|part| entries(rule, part)) {
                found.extend(label_name(name));
                found.extend(value.filter(|_| is_alert).and_then(|(value, span)| template(value, span, text)));
            }
        }
    }
    in_order(found, file)
}

/// Those of the mapping's keys that only Watchbell has.
fn keys(node: &Node, own: &[&str]) -> Vec<Diagnostic> {
    let NodeKind::Mapping(fields) = &node.kind else { return Vec::new() };
    let own = fields.iter().map(|(key, _)| key).filter(|key| own.contains(&&*key.name));
    own.map(|key| refused_key(&key.name, key.span.clone())).collect()
}

fn refused_key(name: &str, span: Range<usize>) -> Diagnostic {
    let help = match name {
        "tests" => "put the tests into a file of their own, with `rule_files:`",
        "watchbell" => "set it for all rules in the collector's config, under `engine:`",
        "namespace" => "leave it out: `lokitool` takes it, the ruler that reads the file does not",
        _ => "keep this rule in a file that Loki does not read",
    };
    refused(span, format!("Loki refuses a file with the key `{name}`")).help(help)
}

fn refused(span: Range<usize>, message: String) -> Diagnostic {
    Diagnostic::error(codes::LOKI, span, message)
}

type Entry<'n> = (&'n yaml::Key, Option<(&'n str, &'n Range<usize>)>);

/// The entries of a mapping in a field of the node, with the values that are texts.
fn entries<'n>(node: &'n Node, part: &str) -> Vec<Entry<'n>> {
    let Some(Node { kind: NodeKind::Mapping(entries), .. }) = field(node, part) else { return Vec::new() };
    entries.iter().map(|(name, value)| (name, scalar(value))).collect()
}

fn scalar(node: &Node) -> Option<(&str, &Range<usize>)> {
    match &node.kind {
        NodeKind::Scalar(text) => Some((text, &node.span)),
        _ => None,
    }
}

/// Those of the fields whose durations Prometheus does not read.
fn durations(node: &Node, fields: &[&str]) -> Vec<Diagnostic> {
    let refusal = |name: &&str| {
        let (text, span) = scalar(field(node, name)?)?;
        let duration = parse_duration(text).ok().filter(|_| !is_prometheus_duration(text))?;
        let message = format!("Loki takes no `{name}: {text}`");
        Some(refused(span.clone(), message).help(format!("write `{}`", expression::in_millis(duration))))
    };
    fields.iter().filter_map(refusal).collect()
}

fn expression(rule: &Node, file_text: &str) -> Vec<Diagnostic> {
    let Some((expr, span)) = field(rule, "expr").and_then(scalar) else { return Vec::new() };
    let placed = |found: expression::Refused| {
        refused(yaml::place(file_text, span, expr, found.place), found.message).help(found.help)
    };
    expression::refused(expr).into_iter().map(placed).collect()
}

fn label_name(name: &yaml::Key) -> Option<Diagnostic> {
    let refusal = || {
        refused(name.span.clone(), format!("Loki takes no label or annotation with the name `{}`", name.name))
            .help("write letters, digits and `_`, no digit first")
    };
    (!is_name(&name.name, "_")).then(refusal)
}

fn record_name(rule: &Node) -> Option<Diagnostic> {
    let (name, span) = scalar(field(rule, "record")?)?;
    let refusal = || {
        refused(span.clone(), format!("Loki takes no series with the name `{name}`"))
            .help("write letters, digits, `_` and `:`, no digit first")
    };
    (!is_name(name, "_:")).then(refusal)
}

fn is_name(name: &str, more: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    name.chars().all(is_of_name) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// A template that Watchbell reads and Loki does not.
fn template(template: &str, span: &Range<usize>, file_text: &str) -> Option<Diagnostic> {
    Template::parse(template).ok()?;
    let error = Template::parse_in_loki(template).err()?;
    let span = yaml::place(file_text, span, template, error.span.into());
    let help = "Loki's ruler has `$labels`, `$externalLabels` and `$value`";
    Some(refused(span, format!("Loki refuses the template: {}", error.message)).help(help))
}

fn variants(rule: &Node, file_text: &str) -> Option<Diagnostic> {
    let (expr, span) = scalar(field(rule, "expr")?)?;
    let Ok(Expr::Metric(metric)) = logql::parse(expr) else { return None };
    let place = yaml::place(file_text, span, expr, variants_in(&metric)?.range());
    let message = "Loki has `variants` in few versions only, behind the limit `enable_multi_variant_queries`";
    Some(refused(place, message.to_owned()).help("write a rule for each of them"))
}

fn variants_in(expr: &MetricExpr) -> Option<Span> {
    match &expr.kind {
        MetricKind::Variants { .. } => Some(expr.span),
        MetricKind::Vector(vector) => variants_in(&vector.expr),
        MetricKind::LabelReplace { expr, .. } => variants_in(expr),
        MetricKind::Binary(binary) => variants_in(&binary.lhs).or_else(|| variants_in(&binary.rhs)),
        MetricKind::Range(_) | MetricKind::Number(_) | MetricKind::VectorFn(_) => None,
    }
}
