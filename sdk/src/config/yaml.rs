//! YAML as a tree in which each node knows its place, with the environment put in where the file asks for it.

use std::cell::RefCell;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Most nodes of a file (10,000), with those that aliases repeat; a file of more is refused.
const NODES_MAX: usize = 10_000;

/// Deepest nesting of a file (64); a deeper one is refused.
const DEPTH_MAX: usize = 64;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) place: Place,
    pub(super) text: String,
    /// Whether the line may hold a secret, and is not shown.
    pub(super) is_secret: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    /// A scalar without quotes: what it is depends on who reads it.
    Plain(String),
    /// A scalar with quotes is text.
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// A file's document.
pub(super) struct Document {
    pub(super) root: Node,
    /// References that name no variable.
    pub(super) mistakes: Vec<Mistake>,
    /// Variables that are named and are not set, with the place of the value that they are in.
    pub(super) unset: Vec<(Place, String)>,
}

/// Reads a file of one document; `variable` is what the environment says.
pub(super) fn read(source: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Document, Mistake> {
    let (mistakes, unset) = Default::default();
    let mut tree = Tree { open: Vec::new(), anchors: Vec::new(), root: None, nodes: 0, variable, mistakes, unset };
    for next in Parser::new_from_str(source) {
        let (event, span) = next.map_err(|error| {
            let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
            wrong(place, &error.info())
        })?;
        tree.handle(event, span)?;
    }
    let beginning = Place { line: 1, column: 1 };
    let root = tree.root.ok_or(wrong(beginning, "the file is empty"))?;
    Ok(Document { root, mistakes: tree.mistakes, unset: tree.unset })
}

struct Tree<F> {
    /// The collections that have begun and not ended, outermost first.
    open: Vec<Open>,
    anchors: Vec<(usize, Node)>,
    root: Option<Node>,
    nodes: usize,
    variable: F,
    mistakes: Vec<Mistake>,
    unset: Vec<(Place, String)>,
}

struct Open {
    anchor: usize,
    node: Node,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
}

impl<F: Fn(&str) -> Option<String>> Tree<F> {
    fn handle(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = self.scalar(&text, style == ScalarStyle::Plain, place);
                self.add(Node { place, value }, anchor)
            }
            Event::Alias(id) => {
                let found = self.anchors.iter().rfind(|(anchor, _)| *anchor == id);
                let node = found.map(|(_, node)| node.clone()).ok_or_else(|| wrong(place, "an alias of nothing"))?;
                self.nodes += nodes_within(&node); // those of other collections were counted as they came
                self.add(Node { place, ..node }, 0)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(place, Value::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.begin(place, Value::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(ended) => self.add(ended.node, ended.anchor),
                None => Ok(()),
            },
            Event::DocumentStart(..) if self.root.is_some() => Err(wrong(place, "a second document is not read")),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, value: Value, anchor: usize) -> Result<(), Mistake> {
        if self.open.len() >= DEPTH_MAX {
            return Err(wrong(place, &format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(Open { anchor, node: Node { place, value }, key: None });
        Ok(())
    }

    /// Keys stay as they are: the environment is for values alone.
    fn scalar(&mut self, text: &str, is_plain: bool, place: Place) -> Value {
        let is_key =
            self.open.last().is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none());
        if is_key {
            return Value::Text(text.to_owned());
        }
        let unset = RefCell::new(Vec::new());
        let variable = |name: &str| {
            let value = (self.variable)(name).filter(|value| !value.is_empty());
            if value.is_none() {
                unset.borrow_mut().push((place, name.to_owned()));
            }
            value
        };
        let text = substitute(text, variable).unwrap_or_else(|error| {
            self.mistakes.push(wrong(place, &error));
            text.to_owned()
        });
        self.unset.extend(unset.into_inner());
        match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" if is_plain => Value::Null,
            _ if is_plain => Value::Plain(text),
            _ => Value::Text(text),
        }
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(wrong(node.place, &format!("the file has more than {NODES_MAX} nodes")));
        }
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        let Some(Open { node: parent, key, .. }) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.value, key.take(), node.value) {
            (Value::List(items), _, value) => items.push(Node { value, ..node }),
            (Value::Map(entries), None, Value::Text(name)) => {
                if entries.iter().any(|entry| entry.key == name) {
                    return Err(wrong(node.place, &format!("`{name}` is there twice")));
                }
                *key = Some((name, node.place));
            }
            (Value::Map(_), None, _) => return Err(wrong(node.place, "a key is text")),
            (Value::Map(entries), Some((key, place)), value) => {
                entries.push(Entry { key, place, node: Node { value, ..node } });
            }
            _ => {}
        }
        Ok(())
    }
}

fn wrong(place: Place, text: &str) -> Mistake {
    Mistake { place, text: text.to_owned(), is_secret: false }
}

fn nodes_within(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => items.iter().map(|item| 1 + nodes_within(item)).sum(),
        Value::Map(entries) => entries.iter().map(|entry| 1 + nodes_within(&entry.node)).sum(),
        _ => 0,
    }
}

/// The text with `${NAME}`, `${env:NAME}` and `${NAME:-default}` replaced and `$$` as `$`. What comes in is not looked at again.
pub(super) fn substitute(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        let after = &rest[at + 1..];
        rest = match (after.strip_prefix('$'), after.strip_prefix('{').and_then(|inner| inner.split_once('}'))) {
            (Some(after), _) => {
                out.push('$');
                after
            }
            (None, Some((reference, after))) => {
                out += &referenced(reference, &variable)?;
                after
            }
            (None, None) => {
                out.push('$');
                after
            }
        };
    }
    Ok(out + rest)
}

fn referenced(reference: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, default),
        None => (reference, ""),
    };
    let name = name.strip_prefix("env:").unwrap_or(name);
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name || default.contains('\n') {
        return Err(format!(
            "`${{{reference}}}` names no variable; write `${{NAME}}`, `${{env:NAME}}` or `${{NAME:-default}}`"
        ));
    }
    Ok(variable(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned()))
}
