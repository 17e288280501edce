//! Reads what a test expects.

use std::ops::Range;

use super::file::{PROMTOOL_FIELDS, moment, required_moment};
use super::{
    AlertName, Expectation, Expected, ExpectedAlert, ExpectedMessage, ExpectedState, ExpectedText, ExpectedValue,
    TextPart, Wanted, WantedKind,
};
use crate::diagnostic::{Diagnostic, codes};
use crate::logql;
use crate::logql::ast;
use crate::yaml::reader::{Fields, Reader, missing};
use crate::yaml::{self, Node, NodeKind};

const KINDS: &[&str] = &["alert", "expr", "record", "receiver"];
const ALERT_FIELDS: &[&str] = &["at", "alert", "pending", "firing", "resolved"];
const VALUE_FIELDS: &[&str] = &["at", "expr", "record", "value", "values"];
const RECEIVER_FIELDS: &[&str] = &["at", "receiver", "messages"];
const ALL_FIELDS: &[&str] =
    &["at", "alert", "pending", "firing", "resolved", "expr", "record", "value", "values", "receiver", "messages"];

/// An entry under `expect`.
pub(super) fn expectation(reader: &mut Reader, node: &Node) -> Option<Expectation> {
    let kinds: Vec<&str> = match &node.kind {
        NodeKind::Mapping(fields) => {
            KINDS.iter().copied().filter(|kind| fields.iter().any(|(key, _)| key.name == *kind)).collect()
        }
        _ => Vec::new(),
    };
    let [kind] = kinds[..] else {
        let fields = reader.fields(node, "an expectation", ALL_FIELDS)?;
        let place = fields.fields.first().map_or(node.span.clone(), |(key, _)| key.span.clone());
        let message = "an expectation has one of `alert`, `expr`, `record` and `receiver`";
        reader.mistakes.push(Diagnostic::error(codes::MISSING_FIELD, place, message));
        return None;
    };
    let allowed = match kind {
        "alert" => ALERT_FIELDS,
        "receiver" => RECEIVER_FIELDS,
        _ => VALUE_FIELDS,
    };
    let fields = reader.fields(node, &format!("an expectation of `{kind}`"), allowed)?;
    let at = required_moment(reader, &fields, "at", "an expectation");
    let what = match kind {
        "alert" => alert(reader, &fields),
        "expr" => expr(reader, &fields),
        "record" => record(reader, &fields),
        _ => receiver(reader, &fields),
    };
    Some(Expectation { at, span: node.span.clone(), what: what? })
}

fn alert(reader: &mut Reader, fields: &Fields<'_>) -> Option<Expected> {
    let name = reader.string(fields.get("alert")?, "`alert`")?.to_owned();
    let mut states = Vec::new();
    for state in [ExpectedState::Pending, ExpectedState::Firing, ExpectedState::Resolved] {
        let field = state.name();
        states.extend(wanted(reader, fields, field, expected_alert).map(|wanted| (state, wanted)));
    }
    if !["pending", "firing", "resolved"].iter().any(|field| fields.key(field).is_some()) {
        let mistake = missing("firing", "an expectation of `alert`", fields);
        reader.mistakes.push(mistake.help("say how many alerts there are, `firing: 1`, or which: `firing: [{labels: {...}}]`; `pending` and `resolved` likewise"));
    }
    Some(Expected::Alert { name: AlertName { group: None, name }, states })
}

fn expr(reader: &mut Reader, fields: &Fields<'_>) -> Option<Expected> {
    let node = fields.get("expr")?;
    let expr = reader.string(node, "`expr`")?.to_owned();
    match logql::parse(&expr) {
        Ok(ast::Expr::Metric(_)) => {}
        Ok(ast::Expr::Log(log)) => {
            let message = "the expression yields log lines, an expectation needs numbers";
            let mistake = Diagnostic::error(codes::NOT_A_METRIC, log.span, message);
            push_placed(reader, node, &expr, mistake.help("count the lines: `sum(count_over_time({...} [5m]))`"));
        }
        Err(mistakes) => mistakes.into_iter().for_each(|mistake| push_placed(reader, node, &expr, mistake)),
    }
    let values = values(reader, fields)?;
    Some(Expected::Expr { expr, expr_span: node.span.clone(), values })
}

fn push_placed(reader: &mut Reader, node: &Node, text: &str, mistake: Diagnostic) {
    let span = yaml::place(&reader.text, &node.span, text, mistake.span.clone());
    reader.mistakes.push(Diagnostic { span, ..mistake });
}

fn record(reader: &mut Reader, fields: &Fields<'_>) -> Option<Expected> {
    let name = reader.string(fields.get("record")?, "`record`")?.to_owned();
    Some(Expected::Record { name, values: values(reader, fields)? })
}

/// `value: 3` for one element whatever its labels, `values` for each.
fn values(reader: &mut Reader, fields: &Fields<'_>) -> Option<Wanted<ExpectedValue>> {
    match (fields.key("value"), fields.key("values")) {
        (Some(key), None) => {
            let node = fields.get("value")?;
            let value = number(reader, node)?;
            let span = key.span.start..node.span.end;
            let one = ExpectedValue { span: span.clone(), labels: Vec::new(), value };
            Some(Wanted { span, kind: WantedKind::Each(vec![one]) })
        }
        (None, Some(_)) => wanted(reader, fields, "values", expected_value),
        (Some(key), Some(_)) => {
            let message = "`value` and `values` cannot stand together";
            reader.mistakes.push(Diagnostic::error(codes::FIELD_NOT_ALLOWED, key.span.clone(), message));
            None
        }
        (None, None) => {
            let mistake = missing("value", "the expectation", fields);
            reader.mistakes.push(mistake.help(
                "write `value: 3`, or `values: [{labels: {...}, value: 3}]`; `values: []` where nothing is expected",
            ));
            None
        }
    }
}

fn receiver(reader: &mut Reader, fields: &Fields<'_>) -> Option<Expected> {
    let name = reader.string(fields.get("receiver")?, "`receiver`")?.to_owned();
    if fields.key("messages").is_none() {
        reader.mistakes.push(missing("messages", "an expectation of `receiver`", fields));
    }
    let messages = wanted(reader, fields, "messages", expected_message)?;
    Some(Expected::Receiver { name, messages })
}

/// A number of things, or a list of them.
fn wanted<T>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    field: &str,
    read: impl Fn(&mut Reader, &Node) -> Option<T>,
) -> Option<Wanted<T>> {
    let (key, node) = (fields.key(field)?, fields.get(field));
    let Some(node) = node else {
        let message = format!("`{field}` is empty");
        let mistake = Diagnostic::error(codes::MISSING_FIELD, key.span.clone(), message);
        reader.mistakes.push(mistake.help(format!("write how many there are, `{field}: 0`, or a list")));
        return None;
    };
    let kind = match &node.kind {
        NodeKind::Sequence(items) => WantedKind::Each(items.iter().filter_map(|item| read(reader, item)).collect()),
        _ => WantedKind::Count(reader.count(fields, field)?),
    };
    let line = &reader.text[key.span.start..];
    let end = key.span.start + line.lines().next().map_or(0, |line| line.trim_end().len());
    Some(Wanted { span: key.span.start..node.span.end.min(end).max(key.span.end), kind })
}

fn expected_alert(reader: &mut Reader, node: &Node) -> Option<ExpectedAlert> {
    let fields = reader.fields(node, "an alert", &["labels", "annotations", "value", "samples"])?;
    let samples = fields.get("samples").map(|node| reader.sequence(node, "`samples`")).unwrap_or_default();
    Some(ExpectedAlert {
        span: first_line(&fields, node, &reader.text),
        labels: reader.labels(&fields, "labels"),
        annotations: reader.labels(&fields, "annotations"),
        value: fields.get("value").and_then(|node| number(reader, node)),
        samples: samples.iter().filter_map(|node| Some(reader.string(node, "a sample")?.to_owned())).collect(),
        is_exact: false,
    })
}

fn expected_value(reader: &mut Reader, node: &Node) -> Option<ExpectedValue> {
    let fields = reader.fields(node, "a value", &["labels", "value"])?;
    let Some(value) = fields.get("value") else {
        reader.mistakes.push(missing("value", "an element of `values`", &fields));
        return None;
    };
    Some(ExpectedValue {
        span: first_line(&fields, node, &reader.text),
        labels: reader.labels(&fields, "labels"),
        value: number(reader, value)?,
    })
}

fn expected_message(reader: &mut Reader, node: &Node) -> Option<ExpectedMessage> {
    let fields = reader.fields(node, "a message", MESSAGE_FIELDS)?;
    let reason = fields.get("reason").and_then(|node| Some((node, reader.string(node, "`reason`")?)));
    if let Some((node, text)) = reason.filter(|(_, text)| !REASONS.contains(text)) {
        let mistake = Diagnostic::error(codes::VALUE, node.span.clone(), format!("`{text}` is no reason"));
        let mistake = mistake.suggest(text, REASONS.iter().copied());
        let all = format!("reasons are `{}`", REASONS.join("`, `"));
        reader.mistakes.push(if mistake.help.is_some() { mistake } else { mistake.help(all) });
    }
    let integration = fields.get("integration");
    let integration =
        integration.and_then(|node| Some((node.span.clone(), reader.string(node, "`integration`")?.to_owned())));
    let alerts = fields.get("alerts").map(|node| reader.sequence(node, "`alerts`"));
    let texts = TextPart::ALL.into_iter().filter_map(|part| Some((part, expected_text(reader, &fields, part)?)));
    Some(ExpectedMessage {
        texts: texts.collect(),
        alerts: alerts.map(|alerts| alerts.iter().filter_map(|alert| expected_alert(reader, alert)).collect()),
        group_labels: fields.key("group_labels").map(|_| reader.labels(&fields, "group_labels")),
        integration,
        span: first_line(&fields, node, &reader.text),
        at: moment(reader, &fields, "at"),
        reason: reason.map(|(_, text)| text.to_owned()),
        firing: reader.count(&fields, "firing"),
        resolved: reader.count(&fields, "resolved"),
        labels: reader.labels(&fields, "labels"),
        annotations: reader.labels(&fields, "annotations"),
    })
}

/// `text: ...` for the whole, `text: [...]` for what it holds.
fn expected_text(reader: &mut Reader, fields: &Fields<'_>, part: TextPart) -> Option<ExpectedText> {
    let (node, what) = (fields.get(part.name())?, format!("`{}`", part.name()));
    Some(match &node.kind {
        NodeKind::Sequence(items) => {
            let texts = items.iter().filter_map(|item| reader.string(item, &format!("each text of {what}")));
            ExpectedText::Holding(texts.map(str::to_owned).collect())
        }
        _ => ExpectedText::Whole(reader.string(node, &what)?.to_owned()),
    })
}

const MESSAGE_FIELDS: &[&str] = &[
    "integration",
    "at",
    "reason",
    "firing",
    "resolved",
    "labels",
    "annotations",
    "group_labels",
    "alerts",
    "subject",
    "text",
    "body",
];

const REASONS: &[&str] =
    &["first_notification", "new_alerts_in_group", "new_resolved_alerts", "all_alerts_resolved", "repeat_interval"];

/// An entry under promtool's `alert_rule_test`: the alerts that fire, all of them, with all of their labels and annotations.
pub(super) fn alert_rule_test(reader: &mut Reader, node: &Node) -> Option<Expectation> {
    let allowed = ["eval_time", "alertname", "groupname", "exp_alerts"];
    let fields = reader.fields_known(node, "an entry of `alert_rule_test`", &allowed, PROMTOOL_FIELDS)?;
    let at = required_moment(reader, &fields, "eval_time", "an entry of `alert_rule_test`");
    let name = reader.required_string(&fields, "alertname", "an entry of `alert_rule_test`")?;
    let (span, alerts) = match (fields.key("exp_alerts"), fields.get("exp_alerts")) {
        (Some(key), Some(node)) => {
            let items = reader.sequence(node, "`exp_alerts`");
            let alerts = items.iter().filter_map(|item| promtool_alert(reader, item, &name)).collect();
            (key.span.clone(), alerts)
        }
        _ => (first_line(&fields, node, &reader.text), Vec::new()),
    };
    let wanted = Wanted { span, kind: WantedKind::Each(alerts) };
    let group = fields.get("groupname").and_then(|node| Some(reader.string(node, "`groupname`")?.to_owned()));
    let name = AlertName { group, name: name.to_string() };
    let what = Expected::Alert { name, states: vec![(ExpectedState::Firing, wanted)] };
    Some(Expectation { at, span: node.span.clone(), what })
}

fn promtool_alert(reader: &mut Reader, node: &Node, name: &str) -> Option<ExpectedAlert> {
    let fields = reader.fields(node, "an alert of `exp_alerts`", &["exp_labels", "exp_annotations"])?;
    let mut labels = reader.labels(&fields, "exp_labels");
    if !labels.iter().any(|(label, _)| label == "alertname") {
        labels.push(("alertname".to_owned(), name.to_owned()));
        labels.sort();
    }
    Some(ExpectedAlert {
        span: first_line(&fields, node, &reader.text),
        labels,
        annotations: reader.labels(&fields, "exp_annotations"),
        is_exact: true,
        ..ExpectedAlert::default()
    })
}

/// From the mapping's first key to the end of that line, to stand for the whole.
fn first_line(fields: &Fields<'_>, node: &Node, text: &str) -> Range<usize> {
    let start = fields.fields.first().map_or(node.span.start, |(key, _)| key.span.start);
    start..start + text[start..].lines().next().map_or(0, |line| line.trim_end().len())
}

/// As Prometheus writes numbers: `3`, `0.5`, `1e6`, `+Inf`, `NaN`.
fn number(reader: &mut Reader, node: &Node) -> Option<f64> {
    let text = reader.string(node, "a value")?;
    let number = text.parse().ok();
    if number.is_none() {
        let message = format!("`{text}` is no number");
        reader.mistakes.push(Diagnostic::error(codes::WRONG_TYPE, node.span.clone(), message));
    }
    number
}
