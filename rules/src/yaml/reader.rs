//! Reads what a person wrote in YAML, field by field, and collects all mistakes on the way.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{Key, Node, NodeKind};
use crate::diagnostic::{Diagnostic, codes};
use crate::time::parse_duration;

/// Goes through the tree and collects mistakes. What cannot be read is `None`, and has been told.
pub(crate) struct Reader {
    pub(crate) file: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) mistakes: Vec<Diagnostic>,
}

/// The fields of a mapping, each once.
pub(crate) struct Fields<'a> {
    pub(crate) fields: Vec<(&'a Key, &'a Node)>,
    pub(crate) span: Range<usize>,
}

impl<'a> Fields<'a> {
    /// A field that has a value.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        let (_, node) = self.fields.iter().find(|(key, _)| key.name == name)?;
        Some(*node).filter(|node| node.kind != NodeKind::Null)
    }

    pub(crate) fn key(&self, name: &str) -> Option<&'a Key> {
        Some(self.fields.iter().find(|(key, _)| key.name == name)?.0)
    }
}

impl Reader {
    /// A reader of the file of that name, which says `text`.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        Self { file: file.into(), text: text.into(), mistakes: Vec::new() }
    }

    /// What was read, or all mistakes, in the order of the file.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, Vec<Diagnostic>> {
        let Self { file, mut mistakes, .. } = self;
        if let (Some(read), true) = (read, mistakes.is_empty()) {
            return Ok(read);
        }
        mistakes.iter_mut().for_each(|mistake| mistake.file = file.clone());
        mistakes.sort_by_key(|mistake| (mistake.span.start, mistake.code));
        mistakes.dedup();
        Err(mistakes)
    }

    pub(crate) fn required_string(&mut self, fields: &Fields<'_>, field: &str, what: &str) -> Option<Arc<str>> {
        let Some(node) = fields.get(field) else {
            self.mistakes.push(missing(field, what, fields));
            return None;
        };
        let text = self.string(node, &format!("`{field}`"))?;
        if text.is_empty() {
            let message = format!("`{field}` is empty");
            self.mistakes.push(Diagnostic::error(codes::MISSING_FIELD, node.span.clone(), message));
            return None;
        }
        Some(text.into())
    }

    pub(crate) fn duration(&mut self, fields: &Fields<'_>, field: &str) -> Option<Duration> {
        let node = fields.get(field)?;
        let text = self.string(node, &format!("`{field}`"))?;
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                let mistake = Diagnostic::error(codes::DURATION, node.span.clone(), error.to_string());
                self.mistakes.push(mistake);
                None
            }
        }
    }

    pub(crate) fn count(&mut self, fields: &Fields<'_>, field: &str) -> Option<usize> {
        let node = fields.get(field)?;
        let text = self.string(node, &format!("`{field}`"))?;
        let count = text.parse().ok();
        if count.is_none() {
            let message = format!("`{field}` is a whole number, 0 or more, not `{text}`");
            self.mistakes.push(Diagnostic::error(codes::WRONG_TYPE, node.span.clone(), message));
        }
        count
    }

    /// Names with texts, sorted by name.
    pub(crate) fn labels(&mut self, fields: &Fields<'_>, field: &str) -> Vec<(String, String)> {
        let Some(node) = fields.get(field) else { return Vec::new() };
        let mut labels = Vec::new();
        for (key, value) in self.mapping(node, &format!("`{field}`")) {
            if key.name.is_empty() || field == "labels" && key.name == "__name__" {
                let message = format!("`{}` cannot be set in `{field}`", key.name);
                self.mistakes.push(Diagnostic::error(codes::LABEL_NAME, key.span.clone(), message));
            }
            let text = match value.kind {
                NodeKind::Null => Some(""),
                _ => self.string(value, &format!("`{}`", key.name)),
            };
            labels.extend(text.map(|text| (key.name.clone(), text.to_owned())));
        }
        labels.sort();
        labels
    }

    pub(crate) fn string<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.kind {
            NodeKind::Scalar(text) => Some(text),
            _ => {
                self.wrong_type(node, what, "a text");
                None
            }
        }
    }

    pub(crate) fn sequence<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            NodeKind::Sequence(items) => items,
            _ => {
                self.wrong_type(node, what, "a list");
                &[]
            }
        }
    }

    pub(crate) fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n Key, &'n Node)> {
        let NodeKind::Mapping(fields) = &node.kind else {
            self.wrong_type(node, what, "a mapping of names to values");
            return Vec::new();
        };
        let mut once: Vec<(&Key, &Node)> = Vec::new();
        for (key, value) in fields {
            if once.iter().any(|(other, _)| other.name == key.name) {
                let message = format!("`{}` stands twice in {what}", key.name);
                self.mistakes.push(Diagnostic::error(codes::DUPLICATE, key.span.clone(), message));
            } else {
                once.push((key, value));
            }
        }
        once
    }

    /// A mapping with these fields at most.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, what: &str, allowed: &[&str]) -> Option<Fields<'n>> {
        self.fields_known(node, what, allowed, &[])
    }

    /// The same; of the fields in `refused` it is known what is to be written instead.
    pub(crate) fn fields_known<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        allowed: &[&str],
        refused: &[(&str, &str)],
    ) -> Option<Fields<'n>> {
        let fields = self.mapping(node, what);
        for (key, _) in fields.iter().filter(|(key, _)| !allowed.contains(&&*key.name)) {
            let known = refused.iter().find(|(name, _)| *name == key.name).map(|(_, help)| *help);
            self.mistakes.push(unknown(&key.name, key.span.clone(), what, allowed, known));
        }
        let is_mapping = matches!(node.kind, NodeKind::Mapping(_));
        is_mapping.then(|| Fields { fields, span: node.span.clone() })
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str) {
        let found = match node.kind {
            NodeKind::Null => "nothing",
            NodeKind::Scalar(_) => "a text",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a mapping",
        };
        let message = format!("{what} must be {wanted}, this is {found}");
        self.mistakes.push(Diagnostic::error(codes::WRONG_TYPE, node.span.clone(), message));
    }
}

/// A field that must be there is not.
pub(crate) fn missing(field: &str, what: &str, fields: &Fields<'_>) -> Diagnostic {
    let place = match fields.fields.first() {
        Some((key, _)) => key.span.clone(),
        None => fields.span.start..fields.span.start,
    };
    Diagnostic::error(codes::MISSING_FIELD, place, format!("{what} needs `{field}`"))
        .label(format!("`{field}` is missing"))
}

fn unknown(name: &str, span: Range<usize>, what: &str, allowed: &[&str], help: Option<&str>) -> Diagnostic {
    let mistake = Diagnostic::error(codes::UNKNOWN_FIELD, span, format!("unknown field `{name}` in {what}"));
    if let Some(help) = help {
        return mistake.help(help);
    }
    let mistake = mistake.suggest(name, allowed.iter().copied());
    if mistake.help.is_some() { mistake } else { mistake.help(format!("fields are {}", quoted(allowed))) }
}

pub(crate) fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
