//! Runs a template over its data.

use super::format::{self, Output};
use super::funcs::{self, Call};
use super::lexer::span;
use super::methods;
use super::parser::{Branch, Command, Node, Operand, OperandKind, Pipe, Tree};
use super::value::{Map, MapKind, Value};
use super::{DEPTH_MAX, Environment, Escape, TemplateError};
use crate::logql::ast::Span;

/// Runs `tree` with `dot` as its data and `variables` declared.
pub(super) fn run(
    tree: &Tree,
    dot: &Value,
    variables: Vec<(&str, Value)>,
    environment: &Environment<'_>,
) -> Result<String, TemplateError> {
    let mut state = State {
        tree,
        output: Output::new(environment.output_bytes_max),
        variables: vec![("$".into(), dot.clone())],
        depth: 0,
        call: Call::new(environment),
        escape: environment.escape,
    };
    state.variables.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
    state.list(dot, &tree.root)?;
    Ok(state.output.text)
}

struct State<'t> {
    tree: &'t Tree,
    output: Output,
    variables: Vec<(String, Value)>,
    depth: usize,
    call: Call<'t>,
    escape: Escape,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

fn error<T>(span: Span, message: impl Into<String>) -> Result<T> {
    Err(TemplateError { span, message: message.into() })
}

impl<'t> State<'t> {
    fn step(&mut self, span: Span) -> Result<()> {
        self.call.charge(1).or_else(|message| error(span, message))
    }

    fn deeper(&mut self, span: Span) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return error(span, format!("nested more than {DEPTH_MAX} levels deep (`depth_max`)"));
        }
        Ok(())
    }

    fn list(&mut self, dot: &Value, nodes: &'t [Node]) -> Result<Flow> {
        for node in nodes {
            let flow = self.node(dot, node)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, dot: &Value, node: &'t Node) -> Result<Flow> {
        match node {
            Node::Text(text) => self.output.push(text).or_else(|message| error(span(0, 0), message))?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(&value, pipe.span)?;
                }
            }
            Node::If(branch) => return self.branch(dot, branch, false),
            Node::With(branch) => return self.branch(dot, branch, true),
            Node::Range(branch) => return self.range(dot, branch),
            Node::Template { name, pipe, span } => self.template(dot, name, pipe.as_ref(), *span)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value, span: Span) -> Result<()> {
        let mut text = Output::new(self.output.bytes_left());
        match (value, self.escape) {
            (Value::Nil, Escape::Html) => Ok(()),
            (Value::Nil, Escape::None) => text.push("<no value>"),
            _ => format::sprint(&mut text, std::slice::from_ref(value)),
        }
        .and_then(|()| match (value, self.escape) {
            (Value::Html(_), _) | (_, Escape::None) => self.output.push(&text.text),
            _ => self.output.push(&funcs::escape_html(&text.text)),
        })
        .or_else(|message| error(span, message))
    }

    fn branch(&mut self, dot: &Value, branch: &'t Branch, with: bool) -> Result<Flow> {
        self.deeper(branch.pipe.span)?;
        let scope = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let flow = match (value.truth(), &branch.otherwise) {
            (true, _) => self.list(if with { &value } else { dot }, &branch.list)?,
            (false, Some(otherwise)) => self.list(dot, otherwise)?,
            (false, None) => Flow::Next,
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Result<Flow> {
        let span = branch.pipe.span;
        self.deeper(span)?;
        let scope = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let mut any = false;
        let mut each = |state: &mut Self, key: Value, item: &Value| {
            any = true;
            state.iteration(branch, key, item)
        };
        match &value {
            Value::Nil => {}
            Value::Int(_) | Value::Int64(_) if branch.pipe.variables.len() > 1 => {
                return error(span, "a number is ranged over with one variable at most");
            }
            Value::Int(count) | Value::Int64(count) => {
                let number = if let Value::Int(_) = value { Value::Int } else { Value::Int64 };
                let mut i = 0;
                while i < *count && each(self, Value::Nil, &number(i))? != Flow::Break {
                    i += 1;
                }
            }
            Value::List(list) => {
                for (i, item) in list.items.iter().enumerate() {
                    if each(self, Value::Int(i as i64), item)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, item) in &map.entries {
                    if each(self, Value::Str(key.clone()), item)? == Flow::Break {
                        break;
                    }
                }
            }
            other => {
                let mut text = Output::new(self.output.bytes_left());
                format::sprint(&mut text, std::slice::from_ref(other)).or_else(|message| error(span, message))?;
                return error(last_word(&branch.pipe), format!("range can't iterate over {}", text.text));
            }
        }
        let flow = match &branch.otherwise {
            Some(otherwise) if !any => self.list(dot, otherwise)?,
            _ => Flow::Next,
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(flow)
    }

    fn iteration(&mut self, branch: &'t Branch, key: Value, item: &Value) -> Result<Flow> {
        self.step(branch.pipe.span)?;
        let Pipe { variables, span, .. } = &branch.pipe;
        let values = match variables.len() {
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (name, value) in variables.iter().zip(values) {
            // Declared ones stand on the stack since the pipe was evaluated, just below the body's own.
            self.set(name, value, *span)?;
        }
        let scope = self.variables.len();
        let flow = self.list(item, &branch.list)?;
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn template(&mut self, dot: &Value, name: &str, pipe: Option<&'t Pipe>, span: Span) -> Result<()> {
        let tree = self.tree;
        let Some(body) = tree.defines.get(name) else {
            return error(span, format!("template `{name}` is not defined"));
        };
        self.deeper(span)?;
        self.step(span)?;
        let dot = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Nil,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".into(), dot.clone())]);
        self.list(&dot, body)?;
        self.variables = variables;
        self.depth -= 1;
        Ok(())
    }

    fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value> {
        self.step(pipe.span)?;
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(dot, command, piped)?);
        }
        let value = piped.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assign {
                self.set(name, value.clone(), pipe.span)?;
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn set(&mut self, name: &str, value: Value, span: Span) -> Result<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => error(span, format!("undefined variable `{name}`")),
        }
    }

    /// A first word with its arguments and what was piped to it.
    fn command(&mut self, dot: &Value, command: &'t Command, piped: Option<Value>) -> Result<Value> {
        let (first, arguments) = command.words.split_first().expect("a command has a first word");
        match &first.kind {
            OperandKind::Function(function) => self.function(dot, command.span, function, arguments, piped),
            OperandKind::Field(names) => self.fields(dot, dot.clone(), names, first.span, arguments, piped),
            OperandKind::Chain(inner, names) => {
                let value = self.operand(dot, inner)?;
                self.fields(dot, value, names, first.span, arguments, piped)
            }
            OperandKind::Variable(name, names) if !names.is_empty() => {
                let value = self.variable(name, first.span)?;
                self.fields(dot, value, names, first.span, arguments, piped)
            }
            _ if !arguments.is_empty() || piped.is_some() => {
                error(first.span, "can't give an argument to what is no function")
            }
            OperandKind::Nil => error(first.span, "nil is not a command"),
            _ => self.operand(dot, first),
        }
    }

    fn operand(&mut self, dot: &Value, operand: &'t Operand) -> Result<Value> {
        match &operand.kind {
            OperandKind::Dot => Ok(dot.clone()),
            OperandKind::Nil => Ok(Value::Nil),
            OperandKind::Literal(value) => Ok(value.clone()),
            OperandKind::Field(names) => self.fields(dot, dot.clone(), names, operand.span, &[], None),
            OperandKind::Variable(name, names) => {
                let value = self.variable(name, operand.span)?;
                self.fields(dot, value, names, operand.span, &[], None)
            }
            OperandKind::Chain(inner, names) => {
                let value = self.operand(dot, inner)?;
                self.fields(dot, value, names, operand.span, &[], None)
            }
            OperandKind::Function(function) => self.function(dot, operand.span, function, &[], None),
            OperandKind::Pipe(pipe) => {
                self.deeper(operand.span)?;
                let value = self.pipe(dot, pipe)?;
                self.depth -= 1;
                Ok(value)
            }
        }
    }

    fn variable(&self, name: &str, span: Span) -> Result<Value> {
        match self.variables.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => error(span, format!("undefined variable `{name}`")),
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        span: Span,
        function: &'static funcs::Function,
        arguments: &'t [Operand],
        piped: Option<Value>,
    ) -> Result<Value> {
        self.step(span)?;
        if matches!(function.name, "and" | "or") && (!arguments.is_empty() || piped.is_some()) {
            return self.short_circuit(dot, function.name == "or", arguments, piped);
        }
        let values = self.arguments(dot, arguments, piped)?;
        self.call.function(function, &values).or_else(|message| match funcs::is_misfit(&message) {
            true => Err(misfit(span, function.name, arguments, &values, message)),
            false => error(span, message),
        })
    }

    /// `and` and `or` evaluate no more arguments than they need.
    fn short_circuit(
        &mut self,
        dot: &Value,
        or: bool,
        arguments: &'t [Operand],
        piped: Option<Value>,
    ) -> Result<Value> {
        let mut value = Value::Nil;
        for argument in arguments {
            value = self.operand(dot, argument)?;
            if value.truth() == or {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }

    fn arguments(&mut self, dot: &Value, arguments: &'t [Operand], piped: Option<Value>) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push(self.operand(dot, argument)?);
        }
        values.extend(piped);
        Ok(values)
    }

    /// `.A.B`: the last may be a method, which takes the arguments.
    fn fields(
        &mut self,
        dot: &Value,
        mut value: Value,
        names: &[String],
        span: Span,
        arguments: &'t [Operand],
        piped: Option<Value>,
    ) -> Result<Value> {
        let Some((last, path)) = names.split_last() else {
            return Ok(value);
        };
        for name in path {
            value = self.field(&value, name, span, Vec::new())?;
        }
        // As in Go, which looks at arguments only where they are called for.
        if matches!(&value, Value::Map(map) if map.kind != MapKind::Kv) && (!arguments.is_empty() || piped.is_some()) {
            return error(span, format!("{last} is not a method but has arguments"));
        }
        let arguments = self.arguments(dot, arguments, piped)?;
        self.field(&value, last, span, arguments)
    }

    fn field(&mut self, value: &Value, name: &str, span: Span, arguments: Vec<Value>) -> Result<Value> {
        if let Some(result) = methods::call(value, name, &arguments) {
            return result.or_else(|message| error(span, format!("error calling {name}: {message}")));
        }
        if !arguments.is_empty() {
            return error(span, format!("{name} is not a method but has arguments"));
        }
        match value {
            Value::Nil => Ok(Value::Nil),
            Value::Map(map) => Ok(Map::get(map, name)),
            Value::Struct(fields) if fields.get(name).is_some() => Ok(fields.get(name).cloned().unwrap_or(Value::Nil)),
            other => error(span, format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }
}

/// An argument of a wrong type as Go tells of it: at the argument, or where it was last before what was piped came in.
fn misfit(span: Span, name: &str, arguments: &[Operand], values: &[Value], message: String) -> TemplateError {
    let is_misfit = |value: &Value| match value {
        Value::Nil => message.starts_with("invalid value"),
        value => message.ends_with(&format!("; got {}", value.type_name())),
    };
    let expected = message.split("expected ").nth(1).and_then(|text| text.split(';').next()).unwrap_or_default();
    let has_number_first =
        matches!(name, "alignLeft" | "alignRight" | "indent" | "nindent" | "repeat" | "substr" | "trunc");
    let at = match has_number_first && expected == "string" {
        true => values.iter().rposition(is_misfit),
        false => values.iter().position(is_misfit),
    };
    let argument = at.and_then(|at| arguments.get(at));
    let message = match argument.map(|argument| &argument.kind) {
        Some(OperandKind::Nil) => format!("cannot assign nil to {expected}"),
        Some(OperandKind::Literal(value)) => misfit_literal(expected, value),
        _ => message,
    };
    let span = match argument.or(arguments.last()) {
        Some(argument) => last_place(argument),
        None => Span { end: span.start + name.len() as u32, ..span },
    };
    TemplateError { span, message }
}

fn misfit_literal(expected: &str, value: &Value) -> String {
    let literal = match value {
        Value::Str(text) => format::quote(text, false),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => other.type_name().to_owned(),
    };
    match expected {
        "int" => format!("expected integer; found {literal}"),
        "string" => format!("expected string; found {literal}"),
        expected => format!("can't handle {literal} for arg of type {expected}"),
    }
}

fn last_place(operand: &Operand) -> Span {
    if let OperandKind::Pipe(pipe) = &operand.kind { last_word(pipe) } else { operand.span }
}

fn last_word(pipe: &Pipe) -> Span {
    pipe.commands.last().and_then(|command| command.words.last()).map_or(pipe.span, last_place)
}
