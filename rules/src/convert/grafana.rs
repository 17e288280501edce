//! Alert rules that Grafana manages, over queries to Loki: a provisioning file, or what Grafana's API answers.
//!
//! A rule there is a graph: queries, and expressions over them, of which one is the condition. Here it becomes one expression of LogQL.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::math::{self, Math};
use super::reader::{
    Notes, Refused, duration, field, fields, first_key, items, place, refuse, required, required_text, text, text_field,
};
use super::{Conversion, Group, Rule};
use crate::logql;
use crate::logql::ast::{BinaryOp, Expr, MatchCardinality, MetricExpr, MetricKind, VectorMatching};
use crate::template::Template;
use crate::time::format_duration;
use crate::yaml::{Node, NodeKind};

pub(super) fn convert(documents: &[Node]) -> Conversion {
    let mut notes = Notes::default();
    let mut groups: Vec<Group> = Vec::new();
    for Found { group, interval, folder, node } in documents.iter().flat_map(rules) {
        let name = if folder.is_empty() { group.to_owned() } else { format!("{folder}/{group}") };
        let at = groups.iter().position(|known| known.name == name).unwrap_or_else(|| {
            groups.push(Group { name, interval, rules: Vec::new() });
            groups.len() - 1
        });
        if text_field(definition(node), "isPaused").or(text_field(definition(node), "is_paused")) == Some("true") {
            let title = text_field(definition(node), "title").unwrap_or_default();
            notes.lose(&place(definition(node), "title"), format!("`{title}` is paused and left out"), "");
            notes.forget();
            continue;
        }
        let rule = Source { node: definition(node), outer: node }.rule(&mut notes);
        notes.finish(rule, &place(definition(node), "title"), &mut groups[at]);
    }
    Conversion { groups, notes: notes.notes }
}

/// Whether a document holds such rules.
pub(super) fn is_grafana(document: &Node) -> bool {
    rules(document).iter().any(|found| field(definition(found.node), "data").is_some())
}

/// A rule and the group that it is in.
struct Found<'n> {
    group: &'n str,
    interval: Option<Duration>,
    folder: &'n str,
    node: &'n Node,
}

/// The rules of a document: of a provisioning file (`groups:`), of an answer with rules alone, or with groups by folder.
fn rules(document: &Node) -> Vec<Found<'_>> {
    if let Some(groups) = field(document, "groups") {
        return items(groups).iter().flat_map(|group| rules_of(group, text_field(group, "folder"))).collect();
    }
    if field(document, "data").is_some() || matches!(document.kind, NodeKind::Sequence(_)) {
        let alone = |node| Found {
            group: text_field(node, "ruleGroup").unwrap_or("grafana"),
            interval: None,
            folder: "",
            node,
        };
        return items(document).iter().map(alone).collect();
    }
    if field(document, "rules").is_some() {
        return rules_of(document, None);
    }
    let folders = fields(document).iter().filter(|(_, groups)| matches!(groups.kind, NodeKind::Sequence(_)));
    folders
        .flat_map(|(folder, groups)| items(groups).iter().flat_map(|group| rules_of(group, Some(folder.name.as_str()))))
        .collect()
}

fn rules_of<'n>(group: &'n Node, folder: Option<&'n str>) -> Vec<Found<'n>> {
    let name = text_field(group, "name").or(text_field(group, "title")).unwrap_or("grafana");
    let interval = field(group, "interval").and_then(seconds);
    let found = |node| Found { group: name, interval, folder: folder.unwrap_or_default(), node };
    field(group, "rules").map(items).unwrap_or_default().iter().map(found).collect()
}

/// `1m`, or 60.
fn seconds(node: &Node) -> Option<Duration> {
    let number = text(node).and_then(|text| text.parse().ok());
    number.map(Duration::from_secs).or_else(|| duration(node)).filter(|duration| !duration.is_zero())
}

/// The rule itself; in one of the API's shapes it stands in another.
fn definition(node: &Node) -> &Node {
    field(node, "grafana_alert").unwrap_or(node)
}

struct Source<'a> {
    node: &'a Node,
    /// Where `for`, labels and annotations stand.
    outer: &'a Node,
}

impl<'a> Source<'a> {
    fn rule(&self, notes: &mut Notes) -> Result<Rule, Refused> {
        let title = required_text(self.node, "title")?;
        if let Some(record) = field(self.node, "record") {
            let expr = self.value(required_text(record, "from")?, notes, 0)?;
            let (name, labels) = (required_text(record, "metric")?.to_owned(), self.texts("labels"));
            return Ok(Rule { name, is_record: true, expr: tidy(&expr), labels, ..Rule::default() });
        }
        let condition = required_text(self.node, "condition")?;
        let expr = self.condition(condition, notes)?;
        self.tell_lost(notes);
        let duration = |name: &str| field(self.outer, name).and_then(seconds);
        Ok(Rule {
            name: title.to_owned(),
            expr: tidy(&expr),
            hold: duration("for").unwrap_or_default(),
            keep_firing_for: duration("keepFiringFor").or(duration("keep_firing_for")).unwrap_or_default(),
            labels: self.templates("labels", condition, notes),
            annotations: self.templates("annotations", condition, notes),
            ..Rule::default()
        })
    }

    /// What fires.
    fn condition(&self, name: &str, notes: &mut Notes) -> Result<String, Refused> {
        let query = self.query(name)?;
        match query.kind()? {
            Kind::Threshold { of, evaluator } => {
                if query.has_own_end() {
                    let help = "`keep_firing_for` holds an alert after its condition has gone";
                    notes.lose(&query.place(), "that the alert ends at another bound than it begins at", help);
                }
                compared(&self.value(of, notes, 0)?, evaluator)
            }
            Kind::Math(math) => math.condition(&mut |name| self.value(name, notes, 0)),
            Kind::Classic(conditions) => self.classic(conditions, notes),
            Kind::Loki { .. } | Kind::Same { .. } => Ok(format!("({}) != 0", self.value(name, notes, 0)?)),
        }
    }

    /// What a query yields.
    fn value(&self, name: &str, notes: &mut Notes, depth: usize) -> Result<String, Refused> {
        let query = self.query(name)?;
        if depth > CHAIN_MAX {
            return Err(Box::new(refuse(&query.place(), format!("the query `{name}` leads back to itself"))));
        }
        match query.kind()? {
            Kind::Loki { expr } => Ok(query.filled(expr, notes)),
            Kind::Same { of, reducer } => {
                let inner = self.value(of, notes, depth + 1)?;
                let is_range = self.query(of).is_ok_and(|of| of.is_range());
                if query.replaces_what_is_no_number() {
                    let help = "write `(...) or vector(0)` where silence is to have a value";
                    notes.lose(&query.place(), "that what is no number becomes one", help);
                }
                if let Some(reducer) = reducer.filter(|reducer| is_range && *reducer != "last") {
                    notes.lose(
                        &query.place(),
                        format!("the {reducer} of the points over time becomes their last"),
                        "let the expression look back as far as is meant, `[10m]`; or take `max_over_time` over `unwrap`",
                    );
                }
                Ok(inner)
            }
            Kind::Math(math) => math.value(&mut |name| self.value(name, notes, depth + 1)),
            Kind::Threshold { of, evaluator } => {
                let inner = self.value(of, notes, depth + 1)?;
                Ok(format!("(({}) * 0 + 1) or (({inner}) * 0)", compared(&inner, evaluator)?))
            }
            Kind::Classic(_) => {
                Err(Box::new(refuse(&query.place(), "classic conditions yield no value to go on with")))
            }
        }
    }

    /// Reduced queries, each compared, joined by `and` or `or`.
    fn classic(&self, conditions: &Node, notes: &mut Notes) -> Result<String, Refused> {
        notes.lose(&first_key(conditions), "classic conditions make one alert; here each series has its own", "");
        let mut out = String::new();
        for condition in items(conditions) {
            let query = required(condition, "query")?;
            let of = field(query, "params").and_then(|params| items(params).first()).and_then(text);
            let of = of.ok_or_else(|| refuse(&first_key(condition), "the condition names no query"))?;
            let reducer = field(condition, "reducer").and_then(|reducer| text_field(reducer, "type")).unwrap_or("last");
            if reducer != "last" && self.query(of).is_ok_and(|query| query.is_range()) {
                notes.lose(
                    &first_key(condition),
                    format!("the {reducer} of the points over time becomes their last"),
                    "",
                );
            }
            let compared = compared(&self.value(of, notes, 0)?, required(condition, "evaluator")?)?;
            let operator =
                field(condition, "operator").and_then(|operator| text_field(operator, "type")).unwrap_or("and");
            let joined = if operator == "or" { "or" } else { "and" };
            // From left to right.
            out = if out.is_empty() { format!("({compared})") } else { format!("({out}) {joined} ({compared})") };
        }
        Ok(out)
    }

    fn query(&self, name: &str) -> Result<Query<'a>, Refused> {
        let data = required(self.node, "data")?;
        let node = items(data).iter().find(|node| text_field(node, "refId") == Some(name));
        let node = node.ok_or_else(|| refuse(&place(self.node, "condition"), format!("there is no query `{name}`")))?;
        Ok(Query { node, model: required(node, "model")? })
    }

    fn tell_lost(&self, notes: &mut Notes) {
        self.tell_states(notes);
        for name in ["notification_settings", "notificationSettings"] {
            if field(self.node, name).is_some() {
                let help = "routes choose receivers by labels: add one to the rule and a route to `alerting:`";
                notes.lose(&place(self.node, name), "that the rule names its receiver", help);
            }
        }
        for name in ["missing_series_evals_to_resolve", "missingSeriesEvalsToResolve"] {
            if field(self.node, name).is_some() {
                let help = "`keep_firing_for` holds an alert after its condition has gone";
                notes.lose(
                    &place(self.node, name),
                    "how often a series must be missing before its alert resolves",
                    help,
                );
            }
        }
    }

    /// What Grafana tells of a query that yields nothing or fails: unless the rule says otherwise, both are alerts.
    fn tell_states(&self, notes: &mut Notes) {
        let state = |names: [&str; 2]| {
            let found = names.into_iter().find_map(|name| Some((place(self.node, name), text_field(self.node, name)?)));
            found.unwrap_or((place(self.node, "title"), ""))
        };
        let (at, no_data) = state(["noDataState", "no_data_state"]);
        let lost = match no_data {
            "Alerting" => "that no data is an alert, too",
            "NoData" | "" => "that no data is an alert of its own, `DatasourceNoData`",
            "KeepLast" => "that an alert stays as it is while there is no data",
            _ => "",
        };
        if !lost.is_empty() {
            notes.lose(&at, lost, "to hear of silence add a rule with `absent_over_time({...} [5m])`");
        }
        let (at, failing) = state(["execErrState", "exec_err_state"]);
        let lost = match failing {
            "Alerting" | "" => "that a query which fails is an alert, too",
            "Error" => "that a query which fails is an alert of its own, `DatasourceError`",
            _ => "", // what goes on as it is
        };
        if !lost.is_empty() {
            notes.lose(&at, lost, "the metric `watchbell_evaluator_rules_failing` counts rules that cannot be judged");
        }
    }

    fn texts(&self, name: &str) -> Vec<(String, String)> {
        let fields = field(self.outer, name).map(fields).unwrap_or_default();
        fields.iter().filter_map(|(key, value)| Some((key.name.clone(), text(value)?.to_owned()))).collect()
    }

    /// Labels or annotations; values of queries become the alert's where that is the same.
    fn templates(&self, name: &str, condition: &str, notes: &mut Notes) -> Vec<(String, String)> {
        let shown = self.shown(condition);
        let mut texts = Vec::new();
        for (key, text) in self.texts(name) {
            let text = shown.iter().fold(text, |text, query| with_value(&text, query));
            let fault = match Template::parse(&text) {
                _ if text.contains("$values") => Some("it reads a value that the alert does not have".to_owned()),
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            match fault {
                None => texts.push((key, text)),
                Some(fault) => {
                    notes.lose(
                        &self.place_of(name, &key),
                        format!("the text of `{key}`: {fault}"),
                        "`{{ $value }}` is the alert's value, `{{ $labels.name }}` a label",
                    );
                }
            }
        }
        texts
    }

    /// The queries whose value the alert has.
    fn shown(&self, condition: &str) -> Vec<&'a str> {
        let mut shown = Vec::new();
        let mut next = match self.query(condition).and_then(|query| query.kind()) {
            Ok(Kind::Threshold { of, .. }) => Some(of),
            Ok(Kind::Math(math)) => {
                math.shown().and_then(|name| self.query(name).ok()).and_then(|query| text_field(query.node, "refId"))
            }
            Ok(Kind::Loki { .. } | Kind::Same { .. }) => {
                self.query(condition).ok().and_then(|query| text_field(query.node, "refId"))
            }
            _ => None,
        };
        while let Some(name) = next.filter(|name| !shown.contains(name)) {
            shown.push(name);
            next = match self.query(name).and_then(|query| query.kind()) {
                Ok(Kind::Same { of, .. }) => Some(of),
                _ => None,
            };
        }
        shown
    }

    fn place_of(&self, name: &str, key: &str) -> Range<usize> {
        field(self.outer, name).map_or_else(|| first_key(self.node), |node| place(node, key))
    }
}

/// Queries that lead from one to another, at most.
const CHAIN_MAX: usize = 16;

/// `{{ $values.A.Value }}` in its spellings as `{{ $value }}`.
fn with_value(text: &str, query: &str) -> String {
    let spellings = [
        format!("(index $values \"{query}\").Value"),
        format!("index $values \"{query}\""),
        format!("$values.{query}.Value"),
        format!("$values.{query}"),
    ];
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    spellings.iter().fold(text.to_owned(), |text, spelling| {
        let mut parts = text.split(spelling.as_str());
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out += if part.starts_with(is_name) { spelling } else { "$value" }; // `$values.A` is none of `$values.A1`
            out += part;
        }
        out
    })
}

struct Query<'a> {
    node: &'a Node,
    model: &'a Node,
}

enum Kind<'a> {
    Loki {
        expr: &'a str,
    },
    /// What another yields, made one number a series.
    Same {
        of: &'a str,
        reducer: Option<&'a str>,
    },
    Threshold {
        of: &'a str,
        evaluator: &'a Node,
    },
    Math(Math),
    Classic(&'a Node),
}

impl<'a> Query<'a> {
    fn kind(&self) -> Result<Kind<'a>, Refused> {
        let uid =
            text_field(self.node, "datasourceUid").or(text_field(self.node, "datasource_uid")).unwrap_or_default();
        let is_expression = uid == "__expr__" || uid == "-100";
        if !is_expression {
            return self.loki();
        }
        match required_text(self.model, "type")? {
            "reduce" => Ok(Kind::Same { of: self.named()?, reducer: text_field(self.model, "reducer") }),
            "resample" => Ok(Kind::Same { of: self.named()?, reducer: None }),
            "threshold" => {
                let first = field(self.model, "conditions").and_then(|conditions| items(conditions).first());
                let first = first.ok_or_else(|| refuse(&self.place(), "the threshold has no condition"))?;
                Ok(Kind::Threshold { of: self.named()?, evaluator: required(first, "evaluator")? })
            }
            "math" => {
                let node = required(self.model, "expression")?;
                let parsed = math::parse(text(node).unwrap_or_default());
                parsed.map(Kind::Math).map_err(|reason| Box::new(refuse(&node.span, reason)))
            }
            "classic_conditions" => Ok(Kind::Classic(required(self.model, "conditions")?)),
            other => {
                Err(Box::new(refuse(&self.place(), format!("an expression of type `{other}` has no counterpart"))))
            }
        }
    }

    fn loki(&self) -> Result<Kind<'a>, Refused> {
        let source = field(self.model, "datasource").and_then(|source| text_field(source, "type"));
        if let Some(source) = source.filter(|source| *source != "loki") {
            return Err(Box::new(refuse(
                &self.place(),
                format!("it asks a data source of type `{source}`: only Loki's queries are about logs"),
            )));
        }
        let expr = required(self.model, "expr")?;
        let expr = text(expr).ok_or_else(|| refuse(&expr.span, "`expr` must be a text"))?;
        Ok(Kind::Loki { expr })
    }

    /// The query that an expression is over, `A` or `$A`.
    fn named(&self) -> Result<&'a str, Refused> {
        let name = required_text(self.model, "expression")?;
        Ok(name.trim().trim_start_matches('$').trim_matches(['{', '}']))
    }

    /// Whether a threshold has a second one, at which it ends.
    fn has_own_end(&self) -> bool {
        let first = field(self.model, "conditions").and_then(|conditions| items(conditions).first());
        first.is_some_and(|first| field(first, "unloadEvaluator").is_some())
    }

    /// Whether a reduction puts a number in the place of what is none.
    fn replaces_what_is_no_number(&self) -> bool {
        field(self.model, "settings").is_some_and(|settings| field(settings, "replaceWithValue").is_some())
    }

    fn is_range(&self) -> bool {
        let kind = text_field(self.model, "queryType").or(text_field(self.node, "queryType"));
        matches!(self.kind(), Ok(Kind::Loki { .. }))
            && kind != Some("instant")
            && text_field(self.model, "instant") != Some("true")
    }

    /// The expression without Grafana's variables.
    fn filled(&self, expr: &str, notes: &mut Notes) -> String {
        let range = field(self.node, "relativeTimeRange").or(field(self.node, "relative_time_range"));
        let number = |node: &Node, name: &str| text_field(node, name)?.parse::<u64>().ok();
        let from = range.and_then(|range| number(range, "from")).unwrap_or(600);
        let to = range.and_then(|range| number(range, "to")).unwrap_or(0);
        if to > 0 {
            let help = "write `offset` into the expression";
            notes.lose(&self.place(), format!("that it looks back from {to}s ago"), help);
        }
        let seconds = from.saturating_sub(to).max(1);
        let shown = format_duration(Duration::from_secs(seconds));
        let steps = ["$__auto", "$__rate_interval", "$__interval"];
        if let Some(step) = steps.iter().find(|step| self.is_range() && expr.contains(**step)) {
            let message =
                format!("that `{step}` is a step of the query: it becomes all of the {shown} that it looks back");
            notes.lose(&self.place(), message, "write the range that is meant into the expression, `[5m]`");
        }
        if range.is_none() && expr.contains("$__") {
            let message =
                format!("how far it looks back: it has no `relativeTimeRange`, and {shown} is Grafana's default");
            notes.lose(&self.place(), message, "write the range that is meant into the expression, `[5m]`");
        }
        let milliseconds = (seconds * 1000).to_string();
        let variables = [
            ("$__range_ms", milliseconds.as_str()),
            ("$__range_s", &seconds.to_string()),
            ("$__range", &shown),
            ("$__interval_ms", &milliseconds),
        ];
        let variables = variables.into_iter().chain(steps.into_iter().map(|step| (step, shown.as_str())));
        variables.fold(expr.to_owned(), |expr, (variable, text)| expr.replace(variable, text))
    }

    fn place(&self) -> Range<usize> {
        place(self.node, "refId")
    }
}

/// A value compared as an evaluator says.
fn compared(value: &str, evaluator: &Node) -> Result<String, Refused> {
    let kind = required_text(evaluator, "type")?;
    let params = field(evaluator, "params").map(items).unwrap_or_default();
    let params: Vec<f64> = params.iter().filter_map(text).filter_map(|text| text.parse().ok()).collect();
    let value = format!("({value})");
    let single = [("gt", ">"), ("lt", "<"), ("gte", ">="), ("lte", "<="), ("eq", "=="), ("ne", "!=")];
    let single = single.iter().find(|(name, _)| *name == kind).map(|(_, op)| *op);
    match (kind, single, &params[..]) {
        (_, Some(op), [bound, ..]) => Ok(format!("{value} {op} {bound}")),
        ("within_range", _, [low, high, ..]) => Ok(format!("({value} > {low}) < {high}")),
        ("within_range_included", _, [low, high, ..]) => Ok(format!("({value} >= {low}) <= {high}")),
        ("outside_range", _, [low, high, ..]) => Ok(format!("({value} < {low}) or ({value} > {high})")),
        ("outside_range_included", _, [low, high, ..]) => Ok(format!("({value} <= {low}) or ({value} >= {high})")),
        _ => Err(Box::new(refuse(&place(evaluator, "type"), format!("the evaluator `{kind}` has no counterpart")))),
    }
}

/// The expression without the parentheses that it does not need, if it can be read, and with what its operators match by.
fn tidy(expr: &str) -> String {
    match logql::parse(expr) {
        Ok(Expr::Metric(mut metric)) => {
            matched(&mut metric);
            metric.to_string()
        }
        Ok(other) => other.to_string(),
        Err(_) => expr.to_owned(),
    }
}

/// In Grafana a side without labels belongs to each series of the other.
fn matched(expr: &mut MetricExpr) {
    let MetricKind::Binary(binary) = &mut expr.kind else { return };
    let binary = Arc::make_mut(binary);
    matched(&mut binary.lhs);
    matched(&mut binary.rhs);
    let (lhs, rhs) = (grouping(&binary.lhs), grouping(&binary.rhs));
    let is_union = matches!(binary.op, BinaryOp::Or | BinaryOp::Unless);
    let (Some(lhs), Some(rhs), None, false) = (lhs, rhs, &binary.matching, is_union) else { return };
    let card = match (lhs.is_empty(), rhs.is_empty()) {
        (false, true) | (true, false) if binary.op == BinaryOp::And => MatchCardinality::OneToOne,
        (false, true) => MatchCardinality::ManyToOne,
        (true, false) => MatchCardinality::OneToMany,
        _ => return,
    };
    let span = binary.op_span;
    binary.matching = Some(VectorMatching { on: true, labels: Vec::new(), card, include: Vec::new(), span });
}

/// The labels that a result has, where that is known: of a number it is not.
fn grouping(expr: &MetricExpr) -> Option<Vec<String>> {
    match &expr.kind {
        MetricKind::Vector(vector) => match &vector.grouping {
            None => Some(Vec::new()),
            Some(grouping) if grouping.without => None,
            Some(grouping) => Some(grouping.labels.clone()),
        },
        MetricKind::Binary(binary) => {
            let (lhs, rhs) = (grouping(&binary.lhs), grouping(&binary.rhs));
            match (lhs, rhs) {
                (Some(lhs), Some(rhs)) => Some(if lhs.is_empty() { rhs } else { lhs }),
                (one, other) => one.or(other),
            }
        }
        _ => None,
    }
}
