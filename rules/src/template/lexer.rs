//! Splits a template into text and the tokens of its actions, as Go's `text/template` does.

use super::TemplateError;
use crate::logql::ast::Span;

/// A piece of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    pub(super) span: Span,
    /// Whether white space stands before it, which separates arguments.
    pub(super) spaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Outside of actions.
    Text,
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `name` or a keyword
    Word,
    /// `.Name`
    Field,
    /// `.`
    Dot,
    /// `$name` or `$`
    Variable,
    Number,
    /// `'x'`
    Char,
    /// `"x"` or a raw one in backquotes, with the quotes
    Str,
    LeftParen,
    RightParen,
    /// `|`
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    End,
}

/// All tokens of `text`, `End` last.
pub(super) fn lex(text: &str) -> Result<Vec<Token<'_>>, TemplateError> {
    let mut lexer = Lexer { text, at: 0, spaced: false, parens: Vec::new(), tokens: Vec::new() };
    while lexer.at < text.len() {
        lexer.text_until_action()?;
    }
    lexer.push(Kind::End, text.len());
    Ok(lexer.tokens)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    spaced: bool,
    parens: Vec<usize>,
    tokens: Vec<Token<'t>>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: Kind, end: usize) {
        let span = span(self.at, end);
        self.tokens.push(Token { kind, text: &self.text[self.at..end], span, spaced: self.spaced });
        self.at = end;
        self.spaced = false;
    }

    fn error<T>(&self, end: usize, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError { span: span(self.at, end), message: message.into() })
    }

    fn text_until_action(&mut self) -> Result<(), TemplateError> {
        let Some(open) = self.rest().find("{{").map(|offset| self.at + offset) else {
            self.push(Kind::Text, self.text.len());
            return Ok(());
        };
        let trim = has_left_trim(&self.text[open + 2..]);
        let end = if trim { self.at + trim_end(&self.text[self.at..open]).len() } else { open };
        if end > self.at {
            self.push(Kind::Text, end);
        }
        self.at = open;
        let inside = open + if trim { 4 } else { 2 };
        match self.text[inside..].strip_prefix("/*") {
            Some(_) => self.comment(inside),
            None => {
                self.push(Kind::Open, inside);
                self.action(open)
            }
        }
    }

    /// `{{/* ... */}}`: nothing may stand between the comment and the braces.
    fn comment(&mut self, inside: usize) -> Result<(), TemplateError> {
        let Some(length) = self.text[inside + 2..].find("*/") else {
            return self.error(inside + 2, "unclosed comment: end it with `*/}}`");
        };
        self.at = inside + 2 + length + 2;
        match close(self.rest()) {
            Some((length, trim)) => {
                self.at += length;
                self.after_close(trim);
                Ok(())
            }
            None => self.error(self.at, "a comment must fill its action: end it with `*/}}`"),
        }
    }

    fn action(&mut self, open: usize) -> Result<(), TemplateError> {
        loop {
            if let Some((length, trim)) = close(self.rest()) {
                if let Some(paren) = self.parens.pop() {
                    self.at = paren;
                    return self.error(paren + 1, "unclosed left parenthesis");
                }
                self.push(Kind::Close, self.at + length);
                self.after_close(trim);
                return Ok(());
            }
            match self.rest().chars().next() {
                None => {
                    self.at = open;
                    return self.error(open + 2, "unclosed action: end it with `}}`");
                }
                Some(c) if is_space(c) => {
                    self.at += 1;
                    self.spaced = true;
                }
                Some(c) => self.token(c)?,
            }
        }
    }

    fn after_close(&mut self, trim: bool) {
        if trim {
            self.at = self.text.len() - self.rest().trim_start_matches(is_space).len();
        }
    }

    fn token(&mut self, first: char) -> Result<(), TemplateError> {
        match first {
            '"' | '\'' => self.quoted(first),
            '`' => self.raw(),
            '(' => {
                self.parens.push(self.at);
                self.push(Kind::LeftParen, self.at + 1);
                Ok(())
            }
            ')' => {
                if self.parens.pop().is_none() {
                    return self.error(self.at + 1, "a right parenthesis without a left one");
                }
                self.push(Kind::RightParen, self.at + 1);
                Ok(())
            }
            '|' => self.single(Kind::Pipe),
            ',' => self.single(Kind::Comma),
            '=' => self.single(Kind::Assign),
            ':' if self.rest().starts_with(":=") => {
                self.push(Kind::Declare, self.at + 2);
                Ok(())
            }
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.name(Kind::Field, Kind::Dot),
            '$' => self.name(Kind::Variable, Kind::Variable),
            '+' | '-' | '.' => self.number(),
            c if c.is_ascii_digit() => self.number(),
            c if is_alphanumeric(c) => self.name(Kind::Word, Kind::Word),
            c => self.error(self.at + c.len_utf8(), format!("unexpected `{c}` in an action")),
        }
    }

    fn single(&mut self, kind: Kind) -> Result<(), TemplateError> {
        self.push(kind, self.at + 1);
        Ok(())
    }

    /// A word, or one behind `.` or `$`; `bare` if nothing stands behind the sign.
    fn name(&mut self, kind: Kind, bare: Kind) -> Result<(), TemplateError> {
        let sign = usize::from(kind != Kind::Word);
        let length = self.rest()[sign..].find(|c| !is_alphanumeric(c)).unwrap_or(self.rest().len() - sign);
        let end = self.at + sign + length;
        match self.text[end..].chars().next() {
            Some(c)
                if !(is_terminator(c) || self.text[end..].starts_with("}}") || bare == Kind::Dot && length == 0) =>
            {
                self.error(end + c.len_utf8(), format!("unexpected `{c}` behind `{}`", &self.text[self.at..end]))
            }
            _ => {
                self.push(if length == 0 { bare } else { kind }, end);
                Ok(())
            }
        }
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let bytes = self.rest().as_bytes();
        let mut length = usize::from(matches!(bytes[0], b'+' | b'-'));
        while let Some(byte) = bytes.get(length) {
            let exponent_sign =
                matches!(byte, b'+' | b'-') && length > 0 && matches!(bytes[length - 1], b'e' | b'E' | b'p' | b'P');
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || exponent_sign) {
                break;
            }
            length += 1;
        }
        self.push(Kind::Number, self.at + length);
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<(), TemplateError> {
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    let kind = if quote == '"' { Kind::Str } else { Kind::Char };
                    self.push(kind, self.at + offset + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.error(self.at + 1, format!("unterminated string: end it with `{quote}` on the same line"))
    }

    fn raw(&mut self) -> Result<(), TemplateError> {
        match self.rest()[1..].find('`') {
            Some(length) => {
                self.push(Kind::Str, self.at + length + 2);
                Ok(())
            }
            None => self.error(self.at + 1, "unterminated raw string: end it with a backquote"),
        }
    }
}

/// Bytes `start..end`.
pub(super) fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

/// Length of the closing braces at the start of `rest`, and whether they trim.
fn close(rest: &str) -> Option<(usize, bool)> {
    if rest.starts_with("}}") {
        return Some((2, false));
    }
    let behind = rest.strip_prefix(is_space)?;
    behind.starts_with("-}}").then_some((4, true))
}

fn has_left_trim(inside: &str) -> bool {
    inside.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space))
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_terminator(c: char) -> bool {
    is_space(c) || matches!(c, '.' | ',' | '|' | ':' | '(' | ')')
}
