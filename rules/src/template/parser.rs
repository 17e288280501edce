//! Tokens to the tree of a template.

use std::collections::BTreeMap;

use super::funcs::{self, Dialect};
use super::lexer::{Kind, Token, lex};
use super::value::Value;
use super::{DEPTH_MAX, TemplateError};
use crate::logql::ast::Span;

/// A template with the ones it defines.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) root: Vec<Node>,
    pub(super) defines: BTreeMap<String, Vec<Node>>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { name: String, pipe: Option<Pipe>, span: Span },
    Break,
    Continue,
}

/// `if`, `with` or `range` with what follows.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) list: Vec<Node>,
    pub(super) otherwise: Option<Vec<Node>>,
}

/// `$x := a | b`
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    /// Variables on the left, with their `$`.
    pub(super) variables: Vec<String>,
    /// Whether they are assigned to rather than declared.
    pub(super) assign: bool,
    pub(super) commands: Vec<Command>,
    pub(super) span: Span,
}

/// A first word and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Operand>,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) kind: OperandKind,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    /// A bool, number or string.
    Literal(Value),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`, the name with its `$`
    Variable(String, Vec<String>),
    /// `(...).A.B`
    Chain(Box<Operand>, Vec<String>),
    Function(&'static funcs::Function),
    Pipe(Box<Pipe>),
}

/// Parses `text`, with these variables declared beforehand.
pub(super) fn parse(text: &str, dialect: Dialect, variables: &[&str]) -> Result<Tree, TemplateError> {
    let mut parser = Parser {
        tokens: lex(text)?,
        at: 0,
        dialect,
        variables: std::iter::once("$").chain(variables.iter().copied()).map(String::from).collect(),
        ranges: 0,
        depth: 0,
        defines: BTreeMap::new(),
    };
    let (root, end) = parser.list()?;
    match end.kind {
        ListEnd::Eof => Ok(Tree { root, defines: parser.defines }),
        _ => error(end.span, "unexpected `end` or `else`: there is no `if`, `range`, `with` or `define` to end"),
    }
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    dialect: Dialect,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    defines: BTreeMap<String, Vec<Node>>,
}

/// How a list of nodes ended.
struct End {
    kind: ListEnd,
    span: Span,
}

#[derive(PartialEq)]
enum ListEnd {
    Eof,
    End,
    /// `{{else`, read up to what follows it.
    Else,
}

fn error<T>(span: Span, message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError { span, message: message.into() })
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.tokens[self.at]
    }

    fn next(&mut self) -> Token<'t> {
        let token = self.tokens[self.at];
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token<'t>, TemplateError> {
        let token = self.next();
        if token.kind == kind { Ok(token) } else { self.unexpected(token, context) }
    }

    fn unexpected<T>(&self, token: Token<'t>, context: &str) -> Result<T, TemplateError> {
        match token.kind {
            Kind::End => error(token.span, format!("unexpected end of the template in {context}")),
            _ => error(token.span, format!("unexpected `{}` in {context}", token.text)),
        }
    }

    fn deeper(&mut self, span: Span) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return error(span, format!("nested more than {DEPTH_MAX} levels deep (`depth_max`)"));
        }
        Ok(())
    }

    /// Nodes up to the `end`, `else` or end of the text that they do not own.
    fn list(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::End => return Ok((nodes, End { kind: ListEnd::Eof, span: token.span })),
                Kind::Text => nodes.push(Node::Text(token.text.into())),
                _ => match self.action(&mut nodes)? {
                    Some(end) => return Ok((nodes, end)),
                    None => continue,
                },
            }
        }
    }

    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<End>, TemplateError> {
        let token = self.peek();
        let keyword = if token.kind == Kind::Word { token.text } else { "" };
        if matches!(keyword, "if" | "with" | "range" | "define" | "block" | "template" | "end" | "else") {
            self.next();
        }
        match keyword {
            "if" => nodes.push(Node::If(self.branch("if", token.span)?)),
            "with" => nodes.push(Node::With(self.branch("with", token.span)?)),
            "range" => nodes.push(Node::Range(self.branch("range", token.span)?)),
            "template" => nodes.push(self.template(token.span)?),
            "define" => self.define(token.span)?,
            "block" => nodes.push(self.block(token.span)?),
            "break" | "continue" if self.is_bare_word() => nodes.push(self.jump(token)?),
            "end" => {
                self.expect(Kind::Close, "`end`")?;
                return Ok(Some(End { kind: ListEnd::End, span: token.span }));
            }
            "else" => return Ok(Some(End { kind: ListEnd::Else, span: token.span })),
            _ => {
                let pipe = self.pipe(Kind::Close, "an action", token.span)?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn is_bare_word(&self) -> bool {
        self.tokens[self.at + 1].kind == Kind::Close
    }

    fn jump(&mut self, token: Token<'t>) -> Result<Node, TemplateError> {
        self.next();
        self.next();
        match (self.ranges, token.text) {
            (0, word) => error(token.span, format!("`{word}` outside of `range`")),
            (_, "break") => Ok(Node::Break),
            _ => Ok(Node::Continue),
        }
    }

    /// What follows `if`, `with` or `range`, to its `end`.
    fn branch(&mut self, keyword: &'static str, span: Span) -> Result<Branch, TemplateError> {
        self.deeper(span)?;
        let scope = self.variables.len();
        let pipe = self.pipe(Kind::Close, keyword, span)?;
        self.ranges += usize::from(keyword == "range");
        let (list, end) = self.list()?;
        self.ranges -= usize::from(keyword == "range");
        let otherwise = match end.kind {
            ListEnd::End => None,
            ListEnd::Else => Some(self.otherwise(keyword, span)?),
            ListEnd::Eof => return error(span, format!("`{keyword}` has no `{{{{ end }}}}`")),
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Branch { pipe, list, otherwise })
    }

    /// What follows `else`: `if` and `with` go on without an `end` of their own.
    fn otherwise(&mut self, keyword: &'static str, span: Span) -> Result<Vec<Node>, TemplateError> {
        let token = self.next();
        if token.kind == Kind::Word && token.text == keyword && keyword != "range" {
            let branch = self.branch(keyword, token.span)?;
            return Ok(vec![if keyword == "if" { Node::If(branch) } else { Node::With(branch) }]);
        }
        if token.kind != Kind::Close {
            return self.unexpected(token, "`else`");
        }
        let (list, end) = self.list()?;
        match end.kind {
            ListEnd::End => Ok(list),
            ListEnd::Else => error(end.span, "a second `else`: `end` is expected"),
            ListEnd::Eof => error(span, format!("`{keyword}` has no `{{{{ end }}}}`")),
        }
    }

    fn template(&mut self, span: Span) -> Result<Node, TemplateError> {
        let (name, _) = self.template_name("template")?;
        if self.peek().kind == Kind::Close {
            self.next();
            return Ok(Node::Template { name, pipe: None, span });
        }
        let pipe = self.pipe(Kind::Close, "`template`", span)?;
        Ok(Node::Template { name, pipe: Some(pipe), span })
    }

    fn define(&mut self, span: Span) -> Result<(), TemplateError> {
        if self.depth > 0 {
            return error(span, "`define` must stand at the top level");
        }
        let (name, _) = self.template_name("define")?;
        self.expect(Kind::Close, "`define`")?;
        self.body("define", name, span)
    }

    fn block(&mut self, span: Span) -> Result<Node, TemplateError> {
        let (name, _) = self.template_name("block")?;
        let pipe = self.pipe(Kind::Close, "`block`", span)?;
        self.body("block", name.clone(), span)?;
        Ok(Node::Template { name, pipe: Some(pipe), span })
    }

    /// The nodes of a defined template, which sees no variables but `$`.
    fn body(&mut self, keyword: &str, name: String, span: Span) -> Result<(), TemplateError> {
        self.deeper(span)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (list, end) = self.list()?;
        (self.variables, self.ranges) = (variables, ranges);
        self.depth -= 1;
        if end.kind != ListEnd::End {
            return error(span, format!("`{keyword}` has no `{{{{ end }}}}`"));
        }
        self.defines.insert(name, list);
        Ok(())
    }

    fn template_name(&mut self, keyword: &str) -> Result<(String, Span), TemplateError> {
        let token = self.next();
        match token.kind {
            Kind::Str => Ok((unquote(token)?, token.span)),
            _ => error(token.span, format!("`{keyword}` needs the name of a template in quotes")),
        }
    }

    fn pipe(&mut self, end: Kind, context: &str, start: Span) -> Result<Pipe, TemplateError> {
        let (variables, assign) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            let (command, more) = self.command(end, context)?;
            let is_value = |word: &Operand| {
                matches!(
                    word.kind,
                    OperandKind::Literal(_) | OperandKind::Dot | OperandKind::Nil | OperandKind::Pipe(_)
                )
            };
            if !commands.is_empty() && is_value(&command.words[0]) {
                return error(command.span, "a value cannot take what is piped to it: a function must stand here");
            }
            commands.push(command);
            if !more {
                break;
            }
        }
        for variable in variables.iter().filter(|_| !assign) {
            self.variables.push(variable.clone());
        }
        let last: &Command = &commands[commands.len() - 1];
        let span = Span { start: start.start.min(commands[0].span.start), end: last.span.end };
        Ok(Pipe { variables, assign, commands, span })
    }

    /// `$x :=`, `$x =`, and in a `range` also `$i, $e :=`.
    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        let kind = |offset: usize| self.tokens.get(self.at + offset).map_or(Kind::End, |token| token.kind);
        let is_sign = |kind| matches!(kind, Kind::Declare | Kind::Assign);
        let (count, sign) = match (kind(0), kind(1), kind(2), kind(3)) {
            (Kind::Variable, sign, ..) if is_sign(sign) => (1, sign),
            (Kind::Variable, Kind::Comma, Kind::Variable, sign) if is_sign(sign) && context == "range" => (2, sign),
            _ => return Ok((Vec::new(), false)),
        };
        let assign = sign == Kind::Assign;
        let mut variables = Vec::new();
        for _ in 0..count {
            let token = self.next();
            self.next();
            if assign {
                self.check_variable(token.text, token.span)?;
            }
            variables.push(token.text.to_owned());
        }
        Ok((variables, assign))
    }

    fn check_variable(&self, name: &str, span: Span) -> Result<(), TemplateError> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        error(span, format!("undefined variable `{name}`"))
    }

    /// One command, and whether a `|` follows.
    fn command(&mut self, end: Kind, context: &str) -> Result<(Command, bool), TemplateError> {
        let start = self.peek().span.start;
        let mut words: Vec<Operand> = Vec::new();
        let more = loop {
            let token = self.peek();
            if token.kind == end || token.kind == Kind::Pipe {
                self.next();
                break token.kind == Kind::Pipe;
            }
            if !words.is_empty() && !token.spaced {
                return self.unexpected(token, &format!("{context}: a space must separate arguments"));
            }
            let operand = self.operand(context)?;
            words.push(operand);
        };
        let Some(last) = words.last() else {
            return error(self.tokens[self.at - 1].span, format!("missing value in {context}"));
        };
        let span = Span { start, end: last.span.end };
        constants_as_declared(&mut words);
        Ok((Command { words, span }, more))
    }

    /// A term and the fields that follow it without a space.
    fn operand(&mut self, context: &str) -> Result<Operand, TemplateError> {
        let term = self.term(context)?;
        let mut fields = Vec::new();
        let mut end = term.span.end;
        while self.peek().kind == Kind::Field && !self.peek().spaced {
            let token = self.next();
            fields.push(token.text[1..].to_owned());
            end = token.span.end;
        }
        if fields.is_empty() {
            return Ok(term);
        }
        let span = Span { start: term.span.start, end };
        let kind = match term.kind {
            OperandKind::Field(mut first) => {
                first.append(&mut fields);
                OperandKind::Field(first)
            }
            OperandKind::Variable(name, _) => OperandKind::Variable(name, fields),
            OperandKind::Literal(_) | OperandKind::Dot | OperandKind::Nil => {
                return error(span, "a field behind a value that has none");
            }
            _ => OperandKind::Chain(Box::new(term), fields),
        };
        Ok(Operand { kind, span })
    }

    fn term(&mut self, context: &str) -> Result<Operand, TemplateError> {
        let token = self.next();
        let kind = match token.kind {
            Kind::Word => self.word(token)?,
            Kind::Dot => OperandKind::Dot,
            Kind::Field => OperandKind::Field(vec![token.text[1..].into()]),
            Kind::Variable => {
                self.check_variable(token.text, token.span)?;
                OperandKind::Variable(token.text.into(), Vec::new())
            }
            Kind::Number => OperandKind::Literal(number(token)?),
            Kind::Char => OperandKind::Literal(char_constant(token)?),
            Kind::Str => OperandKind::Literal(Value::string(unquote(token)?)),
            Kind::LeftParen => {
                self.deeper(token.span)?;
                let pipe = self.pipe(Kind::RightParen, "parentheses", token.span)?;
                self.depth -= 1;
                let span = Span { start: token.span.start, end: self.tokens[self.at - 1].span.end };
                return Ok(Operand { kind: OperandKind::Pipe(Box::new(pipe)), span });
            }
            _ => return self.unexpected(token, context),
        };
        Ok(Operand { kind, span: token.span })
    }

    fn word(&self, token: Token<'t>) -> Result<OperandKind, TemplateError> {
        match token.text {
            "true" => Ok(OperandKind::Literal(Value::Bool(true))),
            "false" => Ok(OperandKind::Literal(Value::Bool(false))),
            "nil" => Ok(OperandKind::Nil),
            name => match funcs::find(self.dialect, name) {
                Ok(function) => Ok(OperandKind::Function(function)),
                Err(message) => error(token.span, message),
            },
        }
    }
}

/// A constant without a fraction is an `int` where a function wants one, though it is written `2.0`.
fn constants_as_declared(words: &mut [Operand]) {
    let Some((Operand { kind: OperandKind::Function(function), .. }, arguments)) = words.split_first_mut() else {
        return;
    };
    for (at, argument) in arguments.iter_mut().enumerate() {
        if let OperandKind::Literal(Value::Float(number)) = argument.kind
            && number.fract() == 0.0
            && number.abs() < 9e15
            && funcs::declares_int(function, at)
        {
            argument.kind = OperandKind::Literal(Value::Int(number as i64));
        }
    }
}

fn number(token: Token<'_>) -> Result<Value, TemplateError> {
    let bad = |why: &str| error(token.span, format!("`{}` {why}", token.text));
    let text = token.text.replace('_', "");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = match lower.get(..2) {
        Some("0x") => Some((16, &lower[2..])),
        Some("0b") => Some((2, &lower[2..])),
        Some("0o") => Some((8, &lower[2..])),
        _ if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) => {
            Some((8, &lower[1..]))
        }
        _ => None,
    };
    if let Some((radix, digits)) = radix {
        return match i128::from_str_radix(digits, radix) {
            Ok(number) => i64::try_from(sign * number).map(Value::Int).or_else(|_| bad("does not fit 64 bits")),
            Err(_) => bad("is not a number"),
        };
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(Value::Int).or_else(|_| bad("does not fit 64 bits"));
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || lower.contains(['i', 'n', 'f']) {
        return bad("is not a number");
    }
    text.parse().map(Value::Float).or_else(|_| bad("is not a number"))
}

fn char_constant(token: Token<'_>) -> Result<Value, TemplateError> {
    let inner = &token.text[1..token.text.len() - 1];
    let text = unescape(inner, '\'').filter(|text| text.chars().count() == 1);
    match text.and_then(|text| text.chars().next()) {
        Some(c) => Ok(Value::Int(i64::from(u32::from(c)))),
        None => error(token.span, format!("`{}` is not one character: text stands in double quotes", token.text)),
    }
}

fn unquote(token: Token<'_>) -> Result<String, TemplateError> {
    let inner = &token.text[1..token.text.len() - 1];
    if token.text.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    match unescape(inner, '"') {
        Some(text) => Ok(text),
        None => error(token.span, "an escape in this string is not one of Go's: double the backslash to mean itself"),
    }
}

/// Go's escapes: `\n`, `\"`, `\x41`, `\101`, `\u00e9`, ...
fn unescape(text: &str, quote: char) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next()?;
        rest = &rest[escape.len_utf8()..];
        let (digits, radix) = match escape {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => {
                rest = &text[text.len() - rest.len() - 1..];
                (3, 8)
            }
            _ => {
                bytes.push(simple_escape(escape, quote)?);
                continue;
            }
        };
        let code = u32::from_str_radix(rest.get(..digits)?, radix).ok()?;
        rest = &rest[digits..];
        match digits {
            2 | 3 => bytes.push(u8::try_from(code).ok()?),
            _ => bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn simple_escape(escape: char, quote: char) -> Option<u8> {
    Some(match escape {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        c if c == quote => c as u8,
        _ => return None,
    })
}
