//! Sigma rules and correlations: <https://sigmahq.io/sigma-specification/>.

mod condition;
mod correlation;
mod detection;
mod encoded;

use std::time::Duration;

use super::predicate::{Predicate, Test};
use super::reader::{
    Notes, Refused, duration, field, fields, first_key, group_name, grouped, items, label_name, place, refuse,
    required, required_text, text, text_field, texts,
};
use super::{Conversion, Group, Options, Rule};
use crate::time::format_duration;
use crate::yaml::Node;
use correlation::Correlated;

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
        let correlated = match field(node, "correlation") {
            Some(correlation) => self.correlation(correlation, notes)?,
            None => Correlated::Expr(self.single(node, notes)?),
        };
        let (expr, sequence) = match correlated {
            Correlated::Expr(expr) => (expr, None),
            Correlated::Sequence(sequence) => (String::new(), Some(sequence)),
        };
        let labels = text_field(node, "level").map(|level| ("severity".to_owned(), level.to_owned()));
        let (labels, annotations) = (labels.into_iter().collect(), annotations(node));
        Ok(Rule { name, expr, sequence, labels, annotations, ..Rule::default() })
    }

    fn single(&self, node: &Node, notes: &mut Notes) -> Result<String, Refused> {
        self.tell_logsource(node, notes);
        let detection = required(node, "detection")?;
        let condition = detection::condition(detection)?;
        let records = condition.records;
        match condition.aggregation {
            None => Ok(format!("{} > 0", self.counted(&self.options.by, records, &[], ANY_RANGE))),
            Some(condition::Aggregation { field: counted, by, op, number }) => {
                let timeframe = field(detection, "timeframe");
                let range = timeframe.and_then(duration).ok_or_else(|| {
                    Box::new(refuse(&first_key(detection), "a count in a condition needs `timeframe`"))
                })?;
                let by: Vec<String> = by.iter().map(|name| label_name(name)).collect();
                let value = match counted {
                    Some(counted) => self.distinct(&by, &counted, records, &[], range),
                    None => self.counted(&by, records, &[], range),
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

    fn counted(&self, by: &[String], records: Predicate, aliases: &[(String, String)], range: Duration) -> String {
        grouped("sum", by, &self.count_over_time(records, aliases, range, *by != self.options.by))
    }

    fn distinct(
        &self,
        by: &[String],
        field: &str,
        records: Predicate,
        aliases: &[(String, String)],
        range: Duration,
    ) -> String {
        let field = label_name(field);
        let own = aliases.iter().find(|(alias, _)| *alias == field).map_or(&field, |(_, own)| own);
        let records = Predicate::All(vec![records, Predicate::Field(own.clone(), Test::Exists)]);
        let inner: Vec<String> = by.iter().cloned().chain([field]).collect();
        grouped("count", by, &grouped("sum", &inner, &self.count_over_time(records, aliases, range, true)))
    }

    fn count_over_time(
        &self,
        records: Predicate,
        aliases: &[(String, String)],
        range: Duration,
        needs_parser: bool,
    ) -> String {
        let stages = self.stages(records, aliases, needs_parser);
        format!("count_over_time({}{stages} [{}])", self.options.selector, format_duration(range))
    }

    /// The records, and the labels that they have under another name.
    fn stages(&self, records: Predicate, aliases: &[(String, String)], needs_parser: bool) -> String {
        let stages = records.pipeline(self.options.parser.as_deref(), needs_parser || !aliases.is_empty());
        let copies: Vec<String> = aliases.iter().map(|(alias, field)| format!("{alias}=`{{{{.{field}}}}}`")).collect();
        if copies.is_empty() { stages } else { format!("{stages} | label_format {}", copies.join(", ")) }
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
