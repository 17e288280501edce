//! Which labels a rule's template asks for.

use super::Template;
use super::parser::{Branch, Node, Operand, OperandKind, Pipe};
use super::value::Value;
use crate::logql::ast::Span;

impl Template {
    /// The labels that an annotation or label reads of `$labels`, by `$labels.x`, `.Labels.x` or `index $labels "x"`, and where.
    pub fn labels_read(&self) -> Vec<(String, Span)> {
        let mut found = Vec::new();
        self.tree.root.iter().chain(self.tree.defines.values().flatten()).for_each(|node| in_node(node, &mut found));
        found
    }
}

fn in_node(node: &Node, found: &mut Vec<(String, Span)>) {
    match node {
        Node::Action(pipe) => in_pipe(pipe, found),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            let Branch { pipe, list, otherwise } = branch;
            in_pipe(pipe, found);
            list.iter().chain(otherwise.iter().flatten()).for_each(|node| in_node(node, found));
        }
        Node::Template { pipe, .. } => pipe.iter().for_each(|pipe| in_pipe(pipe, found)),
        Node::Text(_) | Node::Break | Node::Continue => {}
    }
}

fn in_pipe(pipe: &Pipe, found: &mut Vec<(String, Span)>) {
    for command in &pipe.commands {
        if let [function, map, key] = &command.words[..]
            && matches!(&function.kind, OperandKind::Function(function) if function.name == "index")
            && is_labels(map)
            && let OperandKind::Literal(Value::Str(name)) = &key.kind
        {
            found.push((name.to_string(), key.span));
        }
        command.words.iter().for_each(|word| in_operand(word, found));
    }
}

fn in_operand(operand: &Operand, found: &mut Vec<(String, Span)>) {
    match &operand.kind {
        OperandKind::Pipe(pipe) => in_pipe(pipe, found),
        OperandKind::Chain(operand, _) => in_operand(operand, found),
        _ => {
            if let ["Labels", name] = path(operand)[..] {
                found.push((name.to_owned(), operand.span));
            }
        }
    }
}

fn is_labels(operand: &Operand) -> bool {
    matches!(path(operand)[..], ["Labels"])
}

/// A path from the root of the data, `$labels.x` being `.Labels.x`.
fn path(operand: &Operand) -> Vec<&str> {
    match &operand.kind {
        OperandKind::Variable(variable, fields) => {
            let root = match variable.as_str() {
                "$labels" => Some("Labels"),
                "$" => None,
                _ => return Vec::new(),
            };
            root.into_iter().chain(fields.iter().map(String::as_str)).collect()
        }
        OperandKind::Field(fields) => fields.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}
