//! Sigma rules and correlations: <https://sigmahq.io/sigma-specification/>.

mod condition;
mod detection;

use std::time::Duration;

use super::predicate::{Predicate, Test};
use super::reader::{
    Notes, Refused, duration, field, fields, first_key, group_name, grouped, items, label_name, place, refuse,
    required, required_text, text, text_field, texts,
};
use super::{Conversion, Group, Options, Rule};
use crate::time::format_duration;
use crate::yaml::Node;

pub(super) fn convert(file: &str, documents: &[Node], options: &Options) -> Conversion {
    let mut notes = Notes::default();
    let mut group = Group { name: group_name(file), ..Group::default() };
    let sources = Sources { documents, options };
    for node in documents.iter().filter(|node| !sources.is_part(node)) {
        let rule = sources.rule(node, &mut notes);
        notes.finish(rule, &place(node, "title"), &mut group);
    }
    Conversion { groups: vec![group], notes: notes.notes }
}

/// The rules of a file, of which correlations name others.
struct Sources<'a> {
    documents: &'a [Node],
    options: &'a Options,
}

impl Sources<'_> {
    /// Whether it is a rule that only a correlation tells of.
    fn is_part(&self, node: &Node) -> bool {
        let correlations = self.documents.iter().filter_map(|other| field(other, "correlation"));
        let mut named = correlations
            .filter(|correlation| text_field(correlation, "generate") != Some("true"))
            .flat_map(|correlation| field(correlation, "rules").map(texts).unwrap_or_default());
        named.any(|name| is_named(node, &name))
    }

    fn rule(&self, node: &Node, notes: &mut Notes) -> Result<Rule, Refused> {
        let name = required_text(node, "title")?.to_owned();
        let expr = match field(node, "correlation") {
            Some(correlation) => self.correlation(correlation, notes)?,
            None => self.single(node, notes)?,
        };
        let labels = text_field(node, "level").map(|level| ("severity".to_owned(), level.to_owned()));
        Ok(Rule { name, expr, labels: labels.into_iter().collect(), annotations: annotations(node), ..Rule::default() })
    }

    fn single(&self, node: &Node, notes: &mut Notes) -> Result<String, Refused> {
        self.tell_logsource(node, notes);
        let detection = required(node, "detection")?;
        let condition = detection::condition(detection)?;
        let records = condition.records;
        match condition.aggregation {
            None => Ok(format!("{} > 0", self.counted(&self.options.by, records, ANY_RANGE))),
            Some(condition::Aggregation { field: counted, by, op, number }) => {
                let timeframe = field(detection, "timeframe");
                let range = timeframe.and_then(duration).ok_or_else(|| {
                    Box::new(refuse(&first_key(detection), "a count in a condition needs `timeframe`"))
                })?;
                let by: Vec<String> = by.iter().map(|name| label_name(name)).collect();
                let value = match counted {
                    Some(counted) => self.distinct(&by, &counted, records, range),
                    None => self.counted(&by, records, range),
                };
                Ok(format!("{value} {op} {number}"))
            }
        }
    }

    fn tell_logsource(&self, node: &Node, notes: &mut Notes) {
        let Some(source) = field(node, "logsource") else { return };
        if self.options.selector != Options::default().selector || fields(source).is_empty() {
            return; // it was said which records are meant
        }
        let parts: Vec<String> =
            fields(source).iter().filter_map(|(key, value)| Some(format!("{}={}", key.name, text(value)?))).collect();
        notes.lose(
            &place(node, "logsource"),
            format!("records of all services are looked at, not those of {}", parts.join(", ")),
            "say which are meant: `--selector '{service_name=\"auditd\"}'`",
        );
    }

    fn correlation(&self, node: &Node, notes: &mut Notes) -> Result<String, Refused> {
        if field(node, "aliases").is_some() {
            return Err(Box::new(refuse(
                &place(node, "aliases"),
                "`aliases` have no counterpart: name the fields alike",
            )));
        }
        let names = texts(required(node, "rules")?);
        let parts = names.iter().filter_map(|name| self.documents.iter().find(|node| is_named(node, name)));
        parts.for_each(|part| self.tell_logsource(part, notes));
        let records = names.iter().map(|name| self.records_of(name, node)).collect::<Result<Vec<_>, _>>()?;
        let by: Vec<String> =
            field(node, "group-by").map(texts).unwrap_or_default().iter().map(|name| label_name(name)).collect();
        let timespan = required(node, "timespan")?;
        let range =
            duration(timespan).ok_or_else(|| Box::new(refuse(&timespan.span, "this is no time: write `5m`")))?;
        match required_text(node, "type")? {
            "event_count" => self.bounded(node, self.counted(&by, Predicate::Any(records), range)),
            "value_count" => {
                let condition = required(node, "condition")?;
                let counted = required_text(condition, "field")?;
                self.bounded(node, self.distinct(&by, counted, Predicate::Any(records), range))
            }
            "temporal" => {
                let counts = records.into_iter().map(|records| self.counted(&by, records, range));
                Ok(counts.collect::<Vec<_>>().join(" and "))
            }
            other => {
                let refused =
                    refuse(&place(node, "type"), format!("correlations of type `{other}` are not carried over"));
                let help = "of `temporal_ordered`, `detect: {sequence: ...}` says the same: docs/detect.md";
                Err(Box::new(refused.help(help)))
            }
        }
    }

    fn records_of(&self, name: &str, correlation: &Node) -> Result<Predicate, Refused> {
        let found = self.documents.iter().find(|node| is_named(node, name));
        let found = found.ok_or_else(|| {
            refuse(&place(correlation, "rules"), format!("there is no rule `{name}` in this file"))
                .help("put the rules that a correlation names into one file with it, `---` between them")
        })?;
        Ok(detection::condition(required(found, "detection")?)?.records)
    }

    /// The value, compared as `condition: {gte: 10}` says.
    fn bounded(&self, node: &Node, value: String) -> Result<String, Refused> {
        let condition = required(node, "condition")?;
        let ops = [("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<="), ("eq", "=="), ("neq", "!=")];
        let mut bounded = value;
        for (key, bound) in fields(condition).iter().filter(|(key, _)| key.name != "field") {
            let op = ops.iter().find(|(name, _)| *name == key.name).map(|(_, op)| *op);
            let number = text(bound).and_then(|text| text.parse::<f64>().ok());
            let (Some(op), Some(number)) = (op, number) else {
                return Err(Box::new(refuse(&key.span, format!("the condition `{}` has no counterpart", key.name))));
            };
            bounded = format!("{bounded} {op} {number}");
        }
        Ok(bounded)
    }

    fn counted(&self, by: &[String], records: Predicate, range: Duration) -> String {
        grouped("sum", by, &self.count_over_time(records, range, *by != self.options.by))
    }

    fn distinct(&self, by: &[String], field: &str, records: Predicate, range: Duration) -> String {
        let field = label_name(field);
        let records = Predicate::All(vec![records, Predicate::Field(field.clone(), Test::Exists)]);
        let inner: Vec<String> = by.iter().cloned().chain([field]).collect();
        grouped("count", by, &grouped("sum", &inner, &self.count_over_time(records, range, true)))
    }

    fn count_over_time(&self, records: Predicate, range: Duration, needs_parser: bool) -> String {
        let pipeline = records.pipeline(self.options.parser.as_deref(), needs_parser);
        format!("count_over_time({}{pipeline} [{}])", self.options.selector, format_duration(range))
    }
}

fn is_named(node: &Node, name: &str) -> bool {
    ["name", "id", "title"].iter().any(|field| text_field(node, field) == Some(name))
}

fn annotations(node: &Node) -> Vec<(String, String)> {
    let text = |name: &str, field: &str| Some((name.to_owned(), text_field(node, field)?.trim().to_owned()));
    let list = |name: &str| {
        let list = field(node, name).map(items)?.iter().filter_map(self::text).collect::<Vec<_>>();
        (!list.is_empty()).then(|| (name.to_owned(), list.join(", ")))
    };
    [
        text("description", "description"),
        text("sigma_id", "id"),
        list("tags"),
        list("references"),
        list("falsepositives"),
    ]
    .into_iter()
    .flatten()
    .map(|(name, text)| (name, text.replace("{{", "{{ `{{` }}")))
    .collect()
}

/// How long one record is told of.
const ANY_RANGE: Duration = Duration::from_secs(60);
