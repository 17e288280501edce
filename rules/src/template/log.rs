//! Templates of LogQL's `line_format` and `label_format`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::funcs::Dialect;
use super::parser::{Branch, Node, Operand, OperandKind, Pipe, Tree, parse};
use super::value::{MapKind, Value};
use super::{Environment, LOG_OUTPUT_BYTES_MAX, TemplateError, exec};
use crate::time::Timestamp;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct LogTemplate {
    text: String,
    tree: Tree,
    names: Vec<String>,
    reads_all: bool,
}

/// What a template is run over, beside the labels.
#[derive(Clone, Copy, Debug)]
pub struct LogData<'a> {
    /// `__line__`
    pub line: &'a str,
    /// `__timestamp__`
    pub at: Timestamp,
    /// `now`
    pub now: Timestamp,
}

/// Labels as a template sees them.
pub type LogLabels = BTreeMap<Arc<str>, Value>;

/// The functions that such templates have beside Go's own.
pub fn functions() -> impl Iterator<Item = &'static str> {
    super::log_funcs::LOG.iter().map(|function| function.name)
}

impl LogTemplate {
    /// Parses a template with Loki's functions.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let tree = parse(text, Dialect::Log, &[])?;
        let mut reader = Reader::default();
        reader.nodes(&tree.root);
        let Reader { names, mut reads_all } = reader;
        let mut defined = Reader { reads_all, ..Reader::default() };
        tree.defines.values().for_each(|nodes| defined.nodes(nodes));
        reads_all |= defined.reads_all || !tree.defines.is_empty();
        Ok(Self { text: text.to_owned(), tree, names, reads_all })
    }

    /// The labels that it names, as Loki lists them: not those that it reaches by `$` or `index`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it may read labels that it does not name.
    pub fn reads_all(&self) -> bool {
        self.reads_all
    }

    /// The label, where the template is nothing but `{{ .label }}`.
    pub fn as_label(&self) -> Option<&str> {
        let [Node::Action(Pipe { commands, variables, .. })] = self.tree.root.as_slice() else { return None };
        match (commands.as_slice(), variables.as_slice()) {
            ([command], []) => match command.words.as_slice() {
                [Operand { kind: OperandKind::Field(names), .. }] if names.len() == 1 => Some(&names[0]),
                _ => None,
            },
            _ => None,
        }
    }

    /// Runs the template; an error is told in Go's words, `name` being what Loki calls the template.
    pub fn expand(&self, name: &str, labels: LogLabels, data: &LogData<'_>) -> Result<String, String> {
        let dot = Value::flat_map(MapKind::Strings, labels);
        let environment =
            Environment { line: data.line, at: data.at, ..Environment::new(data.now, LOG_OUTPUT_BYTES_MAX) };
        exec::run(&self.tree, &dot, Vec::new(), &environment).map_err(|error| self.in_words_of_go(name, &error))
    }

    fn in_words_of_go(&self, name: &str, error: &TemplateError) -> String {
        let (mut start, end) = (error.span.start as usize, error.span.end as usize);
        let mut place = &self.text[start..end];
        if error.message.starts_with("wrong number of args") {
            place = place.split_whitespace().next().unwrap_or(place);
        }
        // Of `.a.b` Go names the second field's place.
        if let Some(second) = place.strip_prefix('.').and_then(|fields| fields.find('.')) {
            start += second + 1;
        }
        let mut message = error.message.clone();
        if let ("error calling call: non-function of type", Some(("call", callee))) =
            (&message[..message.rfind(' ').unwrap_or(0)], place.split_once(' '))
        {
            message = message.replacen("of type", &format!("{callee} of type"), 1);
        }
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[..start].matches('\n').count() + 1;
        let column = start - line_start;
        format!("template: {name}:{line}:{column}: executing \"{name}\" at <{place}>: {message}")
    }
}

/// Finds what a template reads.
#[derive(Default)]
struct Reader {
    names: Vec<String>,
    reads_all: bool,
}

impl Reader {
    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Action(pipe) => self.pipe(pipe),
                Node::If(branch) | Node::With(branch) | Node::Range(branch) => self.branch(branch),
                Node::Template { pipe, .. } => self.reads_all |= pipe.is_some(),
                Node::Text(_) | Node::Break | Node::Continue => {}
            }
        }
    }

    fn branch(&mut self, branch: &Branch) {
        self.pipe(&branch.pipe);
        self.nodes(&branch.list);
        branch.otherwise.iter().for_each(|nodes| self.nodes(nodes));
    }

    fn pipe(&mut self, pipe: &Pipe) {
        pipe.commands.iter().flat_map(|command| &command.words).for_each(|word| self.operand(word));
    }

    fn operand(&mut self, operand: &Operand) {
        match &operand.kind {
            OperandKind::Field(names) => self.names.extend(names.iter().cloned()),
            OperandKind::Pipe(pipe) => self.pipe(pipe),
            OperandKind::Dot | OperandKind::Variable(..) | OperandKind::Chain(..) => self.reads_all = true,
            OperandKind::Nil | OperandKind::Literal(_) | OperandKind::Function(_) => {}
        }
    }
}
