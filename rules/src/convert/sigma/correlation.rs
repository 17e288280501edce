//! Sigma's correlations: how many, how many different, both, or one after another.

use std::time::Duration;

use super::super::Sequence;
use super::super::predicate::Predicate;
use super::super::reader::{
    Notes, Refused, duration, field, fields, label_name, place, refuse, required, required_text, text, texts,
};
use super::{Sources, detection, is_named};
use crate::yaml::Node;

/// What a correlation becomes.
pub(super) enum Correlated {
    Expr(String),
    Sequence(Sequence),
}

/// A rule that a correlation names: its records, and the fields that have other names in the correlation, as `(alias, field)`.
struct Part {
    records: Predicate,
    aliases: Vec<(String, String)>,
}

impl Sources<'_> {
    pub(super) fn correlation(&self, node: &Node, notes: &mut Notes) -> Result<Correlated, Refused> {
        let names = texts(required(node, "rules")?);
        let sources = names.iter().filter_map(|name| self.documents.iter().find(|node| is_named(node, name)));
        sources.for_each(|source| self.tell_logsource(source, notes));
        let parts = names.iter().map(|name| self.part(name, node)).collect::<Result<Vec<_>, _>>()?;
        let by = field(node, "group-by").map(texts).unwrap_or_default();
        let by: Vec<String> = by.iter().map(|name| label_name(name)).collect();
        let timespan = required(node, "timespan")?;
        let range =
            duration(timespan).ok_or_else(|| Box::new(refuse(&timespan.span, "this is no time: write `5m`")))?;
        Ok(Correlated::Expr(match required_text(node, "type")? {
            "event_count" => {
                let Part { records, aliases } = any(parts, node)?;
                self.bounded(node, self.counted(&by, records, &aliases, range))?
            }
            "value_count" => {
                let counted = required_text(required(node, "condition")?, "field")?;
                let Part { records, aliases } = any(parts, node)?;
                self.bounded(node, self.distinct(&by, counted, records, &aliases, range))?
            }
            "temporal" => {
                let counts = parts.into_iter().map(|part| self.counted(&by, part.records, &part.aliases, range));
                counts.collect::<Vec<_>>().join(" and ")
            }
            "temporal_ordered" => return self.ordered(parts, by, range, node).map(Correlated::Sequence),
            other => {
                let message = format!("correlations of type `{other}` are not carried over");
                return Err(Box::new(refuse(&place(node, "type"), message)));
            }
        }))
    }

    fn part(&self, name: &str, correlation: &Node) -> Result<Part, Refused> {
        let found = self.documents.iter().find(|node| is_named(node, name));
        let found = found.ok_or_else(|| {
            refuse(&place(correlation, "rules"), format!("there is no rule `{name}` in this file"))
                .help("put the rules that a correlation names into one file with it, `---` between them")
        })?;
        let records = detection::condition(required(found, "detection")?)?.records;
        let aliases = field(correlation, "aliases").map(fields).unwrap_or_default();
        let of_part = aliases.iter().filter_map(|(alias, by_rule)| {
            let (_, field) = fields(by_rule).iter().find(|(rule, _)| is_named(found, &rule.name))?;
            Some((label_name(&alias.name), label_name(text(field)?)))
        });
        Ok(Part { records, aliases: of_part.collect() })
    }

    fn ordered(&self, parts: Vec<Part>, by: Vec<String>, within: Duration, node: &Node) -> Result<Sequence, Refused> {
        let count = parts.len();
        let [first, then] = <[Part; 2]>::try_from(parts).map_err(|_| {
            let message =
                format!("a `temporal_ordered` of {count} rules has no counterpart: `detect: sequence` is of two");
            let help = "write a correlation for each pair of them that follow one another";
            Box::new(refuse(&place(node, "rules"), message).help(help))
        })?;
        let records = |part: Part| {
            format!("{}{}", self.options.selector, self.stages(part.records, &part.aliases, !by.is_empty()))
        };
        Ok(Sequence { first: records(first), then: records(then), by: by.clone(), within })
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
}

/// The records of any of them, which are counted together: one alias is one field then.
fn any(parts: Vec<Part>, node: &Node) -> Result<Part, Refused> {
    let aliases = parts.first().map(|part| part.aliases.clone()).unwrap_or_default();
    if parts.iter().any(|part| part.aliases != aliases) {
        let message = "`aliases` that are another field in each rule have no counterpart where their records are counted together";
        let help = "name the fields alike, or write a correlation for each rule; in `temporal` and `temporal_ordered` they are carried over";
        return Err(Box::new(refuse(&place(node, "aliases"), message).help(help)));
    }
    Ok(Part { records: Predicate::Any(parts.into_iter().map(|part| part.records).collect()), aliases })
}
