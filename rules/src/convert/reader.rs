//! What all formats need: fields of a tree, and notes of what is lost.

use std::ops::Range;
use std::time::Duration;

use super::{Group, Rule};
use crate::diagnostic::{Diagnostic, codes};
use crate::rule_file;
use crate::time::parse_duration;
use crate::yaml::{Key, Node, NodeKind};

/// A rule that cannot be carried over.
pub(super) type Refused = Box<Diagnostic>;

/// The rules that were made, and what is told of them.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) notes: Vec<Diagnostic>,
    /// What was lost of the rule at hand, and where its notes begin.
    lost: Vec<String>,
    start: usize,
}

impl Notes {
    /// Something of the rule at hand has no counterpart.
    pub(super) fn lose(&mut self, span: &Range<usize>, message: impl Into<String>, help: &str) {
        let message = message.into();
        let note = Diagnostic::warning(codes::LOST, span.clone(), format!("lost: {message}"));
        let note = if help.is_empty() { note } else { note.help(help) };
        // A query that is read twice loses it once.
        if !self.notes[self.start..].contains(&note) {
            self.lost.push(message);
            self.notes.push(note);
        }
    }

    /// The rule at hand is left out.
    pub(super) fn forget(&mut self) {
        self.lost.clear();
        self.start = self.notes.len();
    }

    /// The rule at hand is read: takes it into the group if it is one that can be used.
    pub(super) fn finish(&mut self, rule: Result<Rule, Refused>, place: &Range<usize>, group: &mut Group) {
        let lost = std::mem::take(&mut self.lost);
        match rule.and_then(|rule| checked(Rule { lost, ..rule }, place)) {
            Ok(rule) => group.rules.push(rule),
            Err(refused) => {
                self.notes.truncate(self.start); // of a rule that does not come, nothing is lost
                self.notes.push(*refused);
            }
        }
        self.start = self.notes.len();
    }

    /// Fields that have no counterpart, each with the reason.
    pub(super) fn lose_fields(&mut self, node: &Node, known: &[&str], reasons: &[(&str, &str)]) {
        for (key, value) in fields(node) {
            let reason = reasons.iter().find(|(name, _)| *name == key.name).map(|(_, reason)| *reason);
            match reason {
                _ if known.contains(&key.name.as_str()) || value.kind == NodeKind::Null => {}
                Some("") => {}
                reason => self.lose(&key.span, format!("`{}` has no counterpart", key.name), reason.unwrap_or("")),
            }
        }
    }
}

/// The rule, if it can be read back.
fn checked(mut rule: Rule, place: &Range<usize>) -> Result<Rule, Refused> {
    rule.name = rule.name.trim().to_owned();
    let group = Group { name: "group".to_owned(), interval: None, rules: vec![rule.clone()] };
    match rule_file::parse("", &super::output::file(&[group])) {
        Ok(_) => Ok(rule),
        Err(mistakes) => {
            let mistake = mistakes.into_iter().next().expect("a file is refused for a mistake");
            let refused = refuse(place, format!("`{}` does not become a rule: {}", rule.name, mistake.message));
            Err(Box::new(refused.help(mistake.help.unwrap_or_else(|| format!("the expression is `{}`", rule.expr)))))
        }
    }
}

/// The rule cannot be carried over, for this.
pub(super) fn refuse(span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(codes::NOT_CONVERTED, span.clone(), message)
}

pub(super) fn unknown_format(file: &str) -> Diagnostic {
    let message = "this is no rule of Grafana, ElastAlert or Sigma";
    let note = Diagnostic::error(codes::NOT_CONVERTED, 0..0, message);
    let help =
        "say what it is with `--source grafana|elastalert|sigma`; rule files of Prometheus and Loki need no conversion";
    Diagnostic { file: file.into(), ..note.help(help) }
}

pub(super) fn fields(node: &Node) -> &[(Key, Node)] {
    match &node.kind {
        NodeKind::Mapping(fields) => fields,
        _ => &[],
    }
}

/// A field that has a value.
pub(super) fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let (_, value) = fields(node).iter().find(|(key, _)| key.name == name)?;
    Some(value).filter(|value| value.kind != NodeKind::Null)
}

pub(super) fn key<'n>(node: &'n Node, name: &str) -> Option<&'n Key> {
    fields(node).iter().find(|(key, _)| key.name == name).map(|(key, _)| key)
}

/// The text of a scalar.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar(text) => Some(text),
        _ => None,
    }
}

pub(super) fn text_field<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    field(node, name).and_then(text)
}

pub(super) fn required<'n>(node: &'n Node, name: &str) -> Result<&'n Node, Refused> {
    field(node, name).ok_or_else(|| Box::new(refuse(&first_key(node), format!("`{name}` is missing"))))
}

pub(super) fn required_text<'n>(node: &'n Node, name: &str) -> Result<&'n str, Refused> {
    let value = required(node, name)?;
    text(value).ok_or_else(|| Box::new(refuse(&value.span, format!("`{name}` must be a text"))))
}

pub(super) fn required_number(node: &Node, name: &str) -> Result<f64, Refused> {
    let text = required_text(node, name)?;
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| {
        Box::new(refuse(&required(node, name).map_or(0..0, |node| node.span.clone()), format!("`{text}` is no number")))
    })
}

/// The elements of a list; of anything else that alone.
pub(super) fn items(node: &Node) -> &[Node] {
    match &node.kind {
        NodeKind::Sequence(items) => items,
        NodeKind::Null => &[],
        _ => std::slice::from_ref(node),
    }
}

pub(super) fn texts(node: &Node) -> Vec<String> {
    items(node).iter().filter_map(text).map(str::to_owned).collect()
}

/// `5m`, or `{minutes: 5}` as ElastAlert has it.
pub(super) fn duration(node: &Node) -> Option<Duration> {
    if let Some(text) = text(node) {
        return parse_duration(text).ok();
    }
    let seconds = fields(node).iter().map(|(unit, number)| {
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit.name)?;
        Some(text(number)?.parse::<f64>().ok()? * seconds)
    });
    let seconds = seconds.sum::<Option<f64>>()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

const UNITS: &[(&str, f64)] = &[
    ("milliseconds", 0.001),
    ("seconds", 1.0),
    ("minutes", 60.0),
    ("hours", 3600.0),
    ("days", 86_400.0),
    ("weeks", 604_800.0),
];

/// Where a mapping begins, to stand for the whole.
pub(super) fn first_key(node: &Node) -> Range<usize> {
    fields(node).first().map_or(node.span.clone(), |(key, _)| key.span.clone())
}

/// The place of a field, key and all, or where the mapping begins.
pub(super) fn place(node: &Node, name: &str) -> Range<usize> {
    key(node, name).map_or_else(|| first_key(node), |key| key.span.clone())
}

/// The label that a field is over OTLP.
pub(super) fn label_name(field: &str) -> String {
    let field = field.strip_suffix(".keyword").or(field.strip_suffix(".raw")).unwrap_or(field);
    let mut name: String = field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// What a file's rules are called together: its name without folder and ending.
pub(super) fn group_name(file: &str) -> String {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(name, _)| name).to_owned()
}

/// `sum by (a, b) (...)`.
pub(super) fn grouped(operator: &str, by: &[String], inner: &str) -> String {
    match by.is_empty() {
        true => format!("{operator}({inner})"),
        false => format!("{operator} by ({}) ({inner})", by.join(", ")),
    }
}
