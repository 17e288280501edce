//! Sigma's searches: fields with modifiers, and keywords.

use super::super::predicate::{Pattern, Predicate, Relation, Test};
use super::super::reader::{Refused, fields, items, label_name, refuse, required, text};
use super::condition::{self, Condition};
use super::encoded::Encoding;
use crate::logql::ast::CompareOp;
use crate::yaml::{Key, Node, NodeKind};

/// The condition of a `detection`, over its searches.
pub(super) fn condition(detection: &Node) -> Result<Condition, Refused> {
    let is_search = |name: &str| name != "condition" && name != "timeframe";
    let searches = fields(detection).iter().filter(|(key, _)| is_search(&key.name));
    let searches =
        searches.map(|(key, node)| Ok((key.name.clone(), search(node)?))).collect::<Result<Vec<_>, Refused>>()?;
    let node = required(detection, "condition")?;
    let mut parts = Vec::new();
    for node in items(node) {
        let words = text(node).ok_or_else(|| Box::new(refuse(&node.span, "`condition` must be a text")))?;
        parts.push(condition::parse(words, &searches).map_err(|reason| Box::new(refuse(&node.span, reason)))?);
    }
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => {
            let records = parts.into_iter().map(|part| part.records).collect();
            Ok(Condition { records: Predicate::Any(records), aggregation: None })
        }
    }
}

/// A mapping's fields must all be so, of a list's elements one.
fn search(node: &Node) -> Result<Predicate, Refused> {
    match &node.kind {
        NodeKind::Mapping(fields) => {
            Ok(Predicate::All(fields.iter().map(|(key, value)| field_test(key, value)).collect::<Result<_, _>>()?))
        }
        NodeKind::Sequence(items) => Ok(Predicate::Any(items.iter().map(search).collect::<Result<_, _>>()?)),
        NodeKind::Scalar(keyword) => Ok(Predicate::Line(Pattern::wildcard(keyword, true))),
        NodeKind::Null => Err(Box::new(refuse(&node.span, "an empty search"))),
    }
}

/// `field|modifier|modifier: value`, or one of several values.
fn field_test(key: &Key, value: &Node) -> Result<Predicate, Refused> {
    let (name, modifiers) = key.name.split_once('|').unwrap_or((&key.name, ""));
    let modifiers = Modifiers::read(modifiers).map_err(|reason| Box::new(refuse(&key.span, reason)))?;
    let values: Vec<Option<&str>> = match &value.kind {
        NodeKind::Null => vec![None],
        NodeKind::Sequence(items) => items.iter().map(text).collect(),
        NodeKind::Scalar(text) => vec![Some(text)],
        NodeKind::Mapping(_) => {
            return Err(Box::new(refuse(&value.span, format!("`{name}` must be a text or a list"))));
        }
    };
    let each = |value: Option<&str>| modifiers.test(name, value).map_err(|reason| Box::new(refuse(&key.span, reason)));
    let tests = values.into_iter().map(each).collect::<Result<Vec<_>, _>>()?;
    let tests = if modifiers.all { Predicate::All(tests) } else { Predicate::Any(tests) };
    Ok(if modifiers.not { tests.not() } else { tests })
}

/// What stands behind a field's name.
#[derive(Default)]
struct Modifiers {
    all: bool,
    not: bool,
    has_case: bool,
    has_dashes: bool,
    encoding: Encoding,
    is_field: bool,
    kind: Kind,
}

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Whole,
    Contains,
    StartsWith,
    EndsWith,
    Regex(String),
    Cidr,
    Compares(CompareOp),
    Exists,
}

impl Modifiers {
    fn read(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for modifier in text.split('|').filter(|modifier| !modifier.is_empty()) {
            match (modifier, &mut read.kind) {
                (modifier, _) if read.encoding.read(modifier) => {}
                ("all", _) => read.all = true,
                ("fieldref", _) => read.is_field = true,
                ("expand", _) => {
                    return Err("`expand` takes values from outside of the rule: write them in place of the `%name%`"
                        .to_owned());
                }
                ("neq" | "not", _) => read.not = true,
                ("cased", _) => read.has_case = true,
                ("windash", _) => read.has_dashes = true,
                ("i" | "m" | "s", Kind::Regex(flags)) => flags.push_str(modifier),
                ("contains", kind) => *kind = Kind::Contains,
                ("startswith", kind) => *kind = Kind::StartsWith,
                ("endswith", kind) => *kind = Kind::EndsWith,
                ("re", kind) => *kind = Kind::Regex(String::new()),
                ("cidr", kind) => *kind = Kind::Cidr,
                ("exists", kind) => *kind = Kind::Exists,
                ("gt", kind) => *kind = Kind::Compares(CompareOp::Greater),
                ("gte", kind) => *kind = Kind::Compares(CompareOp::GreaterEqual),
                ("lt", kind) => *kind = Kind::Compares(CompareOp::Less),
                ("lte", kind) => *kind = Kind::Compares(CompareOp::LessEqual),
                (other, _) => return Err(format!("the modifier `{other}` has no counterpart")),
            }
        }
        Ok(read)
    }

    fn test(&self, name: &str, value: Option<&str>) -> Result<Predicate, String> {
        let Some(value) = value else { return Ok(Predicate::Field(label_name(name), Test::Exists).not()) };
        if self.is_field {
            return self.relation(name, value);
        }
        if let Some(texts) = self.encoding.of(value)? {
            // A letter's case is a part of what it stands for.
            let plain = Self { has_case: true, encoding: Encoding::default(), kind: self.kind.clone(), ..*self };
            let tests = texts.iter().map(|text| plain.test(name, Some(text)));
            return Ok(Predicate::Any(tests.collect::<Result<_, _>>()?));
        }
        let is = |pattern| match name {
            "" => Predicate::Line(pattern),
            name => Predicate::field(name, Test::Is(pattern)),
        };
        let on_line = matches!(is(Pattern::Exact(String::new())), Predicate::Line(_));
        // A part of the line is looked for anyway; of a field the whole is.
        let affixes = match (&self.kind, on_line) {
            (Kind::StartsWith, true) => ("^", ""),
            (Kind::EndsWith, true) => ("", "$"),
            (Kind::Contains, false) => (".*", ".*"),
            (Kind::StartsWith, false) => ("", ".*"),
            (Kind::EndsWith, false) => (".*", ""),
            _ => ("", ""),
        };
        Ok(match &self.kind {
            Kind::Whole if value.is_empty() => {
                Predicate::Field(label_name(name), Test::Is(Pattern::Exact(String::new())))
            }
            Kind::Whole | Kind::Contains | Kind::StartsWith | Kind::EndsWith => is(self.pattern(affixes, value)),
            Kind::Regex(flags) if on_line => is(Pattern::Regex(format!("(?{flags}:{value})"))),
            Kind::Regex(flags) => is(Pattern::Regex(format!("(?s:.*)(?{flags}:{value})(?s:.*)"))),
            Kind::Cidr => Predicate::Field(label_name(name), Test::InRange(value.to_owned())),
            Kind::Exists if value.eq_ignore_ascii_case("true") => Predicate::Field(label_name(name), Test::Exists),
            Kind::Exists => Predicate::Field(label_name(name), Test::Exists).not(),
            Kind::Compares(op) => {
                let number = value.parse().map_err(|_| format!("`{value}` is no number"))?;
                Predicate::Field(label_name(name), Test::Compares(*op, number))
            }
        })
    }

    /// How the field stands to another one.
    fn relation(&self, name: &str, other: &str) -> Result<Predicate, String> {
        let relation = match self.kind {
            Kind::Whole => Relation::Equals,
            Kind::Contains => Relation::Contains,
            Kind::StartsWith => Relation::StartsWith,
            Kind::EndsWith => Relation::EndsWith,
            _ => return Err("`fieldref` goes with `contains`, `startswith` and `endswith` alone".to_owned()),
        };
        let is_line = |name: &str| {
            name.is_empty()
                || matches!(Predicate::field(name, Test::Is(Pattern::Exact(String::new()))), Predicate::Line(_))
        };
        if is_line(name) || is_line(other) {
            return Err("`fieldref` compares two fields, and this is the line".to_owned());
        }
        let other = label_name(other);
        Ok(Predicate::Field(label_name(name), Test::Relates { relation, other, ignores_case: !self.has_case }))
    }

    fn pattern(&self, (before, after): (&str, &str), text: &str) -> Pattern {
        let pattern = Pattern::affixed(before, text, after, !self.has_case);
        match pattern {
            Pattern::Regex(regex) if self.has_dashes => Pattern::Regex(with_dashes(&regex)),
            pattern => pattern,
        }
    }
}

/// A dash that begins an option may be any of those that Windows takes for one.
fn with_dashes(regex: &str) -> String {
    let option = regex::Regex::new(r"(^|[ )^]|\.\*)\\-").expect("a constant expression");
    option.replace_all(regex, "$1[-/–—―]").into_owned()
}
