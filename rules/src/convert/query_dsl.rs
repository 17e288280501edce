//! The filters of ElastAlert: Elasticsearch's query DSL.

use super::lucene;
use super::predicate::{Pattern, Predicate, Test};
use super::reader::{Refused, field, fields, items, label_name, refuse, text, text_field};
use crate::logql::ast::CompareOp;
use crate::yaml::{Key, Node, NodeKind};

/// All of the filters in a list must hold.
pub(super) fn filters(node: &Node) -> Result<Predicate, Refused> {
    Ok(Predicate::All(items(node).iter().map(filter).collect::<Result<_, _>>()?))
}

fn filter(node: &Node) -> Result<Predicate, Refused> {
    let parts = fields(node).iter().map(|(key, value)| clause(key, value)).collect::<Result<Vec<_>, _>>()?;
    if parts.is_empty() {
        return Err(Box::new(refuse(&node.span, "a filter is a mapping, `term: {level: error}`")));
    }
    Ok(Predicate::All(parts))
}

fn clause(key: &Key, value: &Node) -> Result<Predicate, Refused> {
    let each = |is: fn(&str, &str) -> Predicate| {
        let of = |(field, value): &(Key, Node)| {
            let texts: Vec<&str> = items(inner(value)).iter().filter_map(text).collect();
            if texts.is_empty() {
                return Err(Box::new(refuse(&value.span, format!("`{}` needs a text", field.name))));
            }
            Ok(Predicate::Any(texts.into_iter().map(|text| is(&field.name, text)).collect()))
        };
        fields(value).iter().map(of).collect::<Result<_, _>>().map(Predicate::All)
    };
    match key.name.as_str() {
        "query" | "filter" | "must" | "and" | "constant_score" => filters(value),
        "should" | "or" => Ok(Predicate::Any(items(value).iter().map(filter).collect::<Result<_, _>>()?)),
        "must_not" | "not" => Ok(Predicate::Any(items(value).iter().map(filter).collect::<Result<_, _>>()?).not()),
        "bool" => bool(value),
        "query_string" | "simple_query_string" => query_string(key, value),
        "term" | "terms" => each(|name, text| Predicate::text(Some(name), &escaped(text))),
        "match" => each_word(value),
        "match_phrase" => each(|name, text| Predicate::words(name, &escaped(text))),
        "wildcard" => each(|name, text| Predicate::text(Some(name), text)),
        "prefix" => each(|name, text| Predicate::text(Some(name), &format!("{}*", escaped(text)))),
        "regexp" => each(|name, text| Predicate::field(name, Test::Is(Pattern::Regex(text.to_owned())))),
        "exists" => match text_field(value, "field") {
            Some(name) => Ok(Predicate::Field(label_name(name), Test::Exists)),
            None => Err(Box::new(refuse(&value.span, "`exists` needs `field`"))),
        },
        "range" => Ok(Predicate::All(fields(value).iter().map(range).collect::<Result<_, _>>()?)),
        "match_all" => Ok(Predicate::All(Vec::new())),
        other => Err(Box::new(refuse(&key.span, format!("the filter `{other}` has no counterpart")))),
    }
}

/// `match: {agent: curl wget}`: one of the words is in the text, or with `operator: and` all.
fn each_word(value: &Node) -> Result<Predicate, Refused> {
    let of = |(field, value): &(Key, Node)| {
        let words = text(inner(value)).ok_or_else(|| refuse(&value.span, format!("`{}` needs a text", field.name)))?;
        let words = words.split_whitespace().map(|word| Predicate::words(&field.name, &escaped(word))).collect();
        let are_all = text_field(value, "operator").is_some_and(|operator| operator.eq_ignore_ascii_case("and"));
        Ok(if are_all { Predicate::All(words) } else { Predicate::Any(words) })
    };
    Ok(Predicate::All(fields(value).iter().map(of).collect::<Result<_, Refused>>()?))
}

/// With alternatives of which one must hold only where nothing else must, as in Elasticsearch.
fn bool(node: &Node) -> Result<Predicate, Refused> {
    let is_strict = fields(node).iter().any(|(key, _)| key.name == "must" || key.name == "filter");
    let has_minimum = text_field(node, "minimum_should_match").is_some();
    let counts = |key: &Key| match key.name.as_str() {
        "minimum_should_match" | "boost" => false,
        "should" => !is_strict || has_minimum,
        _ => true,
    };
    let parts = fields(node).iter().filter(|(key, _)| counts(key)).map(|(key, value)| clause(key, value));
    Ok(Predicate::All(parts.collect::<Result<_, _>>()?))
}

fn query_string(key: &Key, node: &Node) -> Result<Predicate, Refused> {
    let query = field(node, "query").and_then(|query| Some((text(query)?, &query.span)));
    let (query, place) = query.ok_or_else(|| refuse(&key.span, "`query_string` needs `query`"))?;
    let joins_all = text_field(node, "default_operator").is_some_and(|operator| operator.eq_ignore_ascii_case("and"));
    lucene::parse(query, joins_all).map_err(|reason| Box::new(refuse(place, reason)))
}

fn range((field, bounds): &(Key, Node)) -> Result<Predicate, Refused> {
    let bound = |(key, value): &(Key, Node)| {
        let op = match key.name.as_str() {
            "gt" | "from" => CompareOp::Greater,
            "gte" => CompareOp::GreaterEqual,
            "lt" | "to" => CompareOp::Less,
            "lte" => CompareOp::LessEqual,
            other => return Err(Box::new(refuse(&key.span, format!("`{other}` has no counterpart")))),
        };
        let number = text(value).and_then(|text| text.parse().ok());
        let number =
            number.ok_or_else(|| refuse(&value.span, "a range of something else than numbers has no counterpart"))?;
        Ok(Predicate::field(&field.name, Test::Compares(op, number)))
    };
    Ok(Predicate::All(fields(bounds).iter().map(bound).collect::<Result<_, Refused>>()?))
}

/// `level: error`, or `level: {value: error}`.
fn inner(node: &Node) -> &Node {
    let is_value = |key: &str| ["value", "query", "wildcard", "prefix"].contains(&key);
    match &node.kind {
        NodeKind::Mapping(fields) => {
            fields.iter().find(|(key, _)| is_value(&key.name)).map_or(node, |(_, value)| value)
        }
        _ => node,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?")
}
