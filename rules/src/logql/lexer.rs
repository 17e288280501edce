//! Text to tokens.
//!
//! Words are told apart as Loki does it: a function's name is one only where `(`, `by (` or `without (` follows, so that
//! `rate` can also be a label; the other keywords are never labels. Letter case of both does not matter.

use std::time::Duration;

use super::ast::{RangeOp, Span, UnwrapConversion, VectorOp};
use crate::diagnostic::{Diagnostic, codes};
use crate::pipeline::convert;
use crate::time::parse_duration;

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A label's name, or a word that means nothing.
    Word,
    /// One of [`KEYWORDS`], in lower case.
    Keyword(&'static str),
    /// One of the functions, in lower case; what can be its arguments follows.
    Function(&'static str),
    /// One of [`SYMBOLS`].
    Symbol(&'static str),
    /// `--strict` or `--keep-empty`
    Flag(&'static str),
    Number(f64),
    Duration(Duration),
    Bytes(u64),
    String(String),
    /// `[5m]`
    Range(Duration),
    End,
}

/// Words that are never labels.
const KEYWORDS: &[&str] = &[
    "and",
    "bool",
    "by",
    "decolorize",
    "drop",
    "group_left",
    "group_right",
    "ignoring",
    "json",
    "keep",
    "label_format",
    "line_format",
    "logfmt",
    "offset",
    "on",
    "or",
    "pattern",
    "regexp",
    "unless",
    "unpack",
    "unwrap",
    "without",
];

/// Functions beside the aggregations and conversions.
const OTHER_FUNCTIONS: &[&str] = &["ip", "label_replace", "variants", "vector"];

/// The longer before the shorter.
const SYMBOLS: &[&str] = &[
    "!=", "=~", "!~", "!>", "|=", "|~", "|>", "==", ">=", "<=", "=", "|", ">", "<", ",", ".", "{", "}", "(", ")", "+",
    "-", "*", "/", "%", "^",
];

const FLAGS: &[&str] = &["--strict", "--keep-empty"];

/// Units of sizes; those of 1024 have an `i`.
const BYTE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("p", 1_000_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
    ("pi", 1 << 50),
];

/// The tokens of `text`, [`TokenKind::End`] last; stops at the first that cannot be read.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Diagnostic> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == TokenKind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

/// Every function's name.
pub(crate) fn function_names() -> impl Iterator<Item = &'static str> {
    let range_ops = RangeOp::ALL.iter().map(|op| op.name());
    let vector_ops = VectorOp::ALL.iter().map(|op| op.name());
    let conversions = UnwrapConversion::ALL.iter().map(|conversion| conversion.name());
    range_ops.chain(vector_ops).chain(conversions).chain(OTHER_FUNCTIONS.iter().copied())
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<Token, Diagnostic> {
        self.skip_blanks()?;
        let start = self.at;
        let kind = match self.rest().chars().next() {
            None => TokenKind::End,
            Some('"' | '`') => self.string()?,
            Some('[') => self.range()?,
            Some(c) if c == '_' || c.is_alphabetic() => self.word(),
            Some(c) if c.is_ascii_digit() => self.number()?,
            Some('.') if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            Some(c) => self.symbol(c)?,
        };
        Ok(Token { kind, span: span(start, self.at) })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips white space and comments: from `#` or `//` to the end of the line, and `/* ... */`.
    fn skip_blanks(&mut self) -> Result<(), Diagnostic> {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            let rest = self.rest();
            let len = if rest.starts_with('#') || rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(inside) = rest.strip_prefix("/*") {
                inside.find("*/").ok_or_else(|| self.unclosed_comment())? + 4
            } else {
                return Ok(());
            };
            self.at += len;
        }
    }

    fn unclosed_comment(&self) -> Diagnostic {
        let message = "the comment has no closing `*/`";
        Diagnostic::error(codes::TOKEN, self.at..self.at + 2, message)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn word(&mut self) -> TokenKind {
        let word = self.take_while(|c| c == '_' || c.is_alphanumeric()).to_lowercase();
        if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == word) {
            return TokenKind::Keyword(keyword);
        }
        match function_names().find(|name| *name == word) {
            Some(name) if self.arguments_follow() => TokenKind::Function(name),
            _ => TokenKind::Word,
        }
    }

    fn arguments_follow(&self) -> bool {
        let rest = self.rest().trim_start();
        let behind_grouping = ["without", "by"].iter().find_map(|keyword| {
            let (word, rest) = rest.split_at_checked(keyword.len())?;
            word.eq_ignore_ascii_case(keyword).then(|| rest.trim_start())
        });
        rest.starts_with('(') || behind_grouping.is_some_and(|rest| rest.starts_with('('))
    }

    fn symbol(&mut self, first: char) -> Result<TokenKind, Diagnostic> {
        let rest = self.rest();
        let flag_len = rest.find(|c: char| c != '-' && !c.is_alphabetic()).unwrap_or(rest.len());
        if let Some(flag) = FLAGS.iter().find(|flag| **flag == &rest[..flag_len]) {
            self.at += flag.len();
            return Ok(TokenKind::Flag(flag));
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(TokenKind::Symbol(symbol));
        }
        let place = self.at..self.at + first.len_utf8();
        let diagnostic = Diagnostic::error(codes::TOKEN, place, format!("`{first}` means nothing in LogQL"));
        Err(match first {
            '\'' => diagnostic.help("strings stand in `\"...\"` or in backticks"),
            '!' => diagnostic.help("write `!=`, `!~` or `!>`"),
            '&' => diagnostic.help("write `and`"),
            _ => diagnostic,
        })
    }

    /// `[5m]`
    fn range(&mut self) -> Result<TokenKind, Diagnostic> {
        let start = self.at;
        let Some(len) = self.rest().find(']') else {
            let place = start..start + 1;
            return Err(Diagnostic::error(codes::RANGE, place, "`[` is never closed").help("write a range like `[5m]`"));
        };
        self.at += len + 1;
        let inner = &self.text[start + 1..start + len];
        let place = start..self.at;
        match parse_duration(inner) {
            _ if inner.contains('.') => {
                Err(Diagnostic::error(codes::RANGE, place, format!("the range `{inner}` has a fraction"))
                    .help("write whole units, like `[1h30m]`"))
            }
            Ok(Duration::ZERO) => Err(Diagnostic::error(codes::RANGE, place, "a range must be longer than 0")),
            Ok(range) => Ok(TokenKind::Range(range)),
            Err(error) => Err(Diagnostic::error(codes::RANGE, place, error.to_string())),
        }
    }

    /// A number, a duration or a size.
    fn number(&mut self) -> Result<TokenKind, Diagnostic> {
        let start = self.at;
        let mut text = self.take_while(|c| c == '.' || c == '_' || c.is_alphanumeric());
        if has_open_exponent(text) && self.rest().starts_with(['+', '-']) {
            self.at += 1;
            self.take_while(|c| c == '_' || c.is_ascii_digit());
            text = &self.text[start..self.at];
        }
        let place = start..self.at;
        if let Ok(number) = convert::float(text) {
            return Ok(TokenKind::Number(number));
        }
        // Units in order, or else, as in Loki, what Go's `time.ParseDuration` reads: `30m1h`, `1m1m`.
        let gos = || convert::duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
        if let Some(duration) = parse_duration(text).ok().or_else(gos) {
            return Ok(TokenKind::Duration(duration));
        }
        if let Some(bytes) = parse_bytes(text) {
            return Ok(TokenKind::Bytes(bytes));
        }
        let diagnostic = Diagnostic::error(codes::TOKEN, place, format!("`{text}` is no number, duration or size"));
        let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
        Err(match hex.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(number) => diagnostic.help(format!("Loki takes no hexadecimal integers, write `{number}`")),
            None => diagnostic.help("write `10`, `1.5e3`, `1h30m` or `5MiB`, say"),
        })
    }

    fn string(&mut self) -> Result<TokenKind, Diagnostic> {
        let start = self.at;
        let quote = self.rest().chars().next().unwrap_or('"');
        self.at += 1;
        let Some(len) = closing_quote(self.rest(), quote) else {
            let line_end = self.rest().find('\n').map_or(self.text.len(), |len| self.at + len);
            let diagnostic = Diagnostic::error(
                codes::TOKEN,
                start..line_end,
                format!("the string has no closing {}", quote_name(quote)),
            );
            return Err(match quote {
                '"' => diagnostic.help("a string in `\"...\"` ends on its line, one in backticks need not"),
                _ => diagnostic,
            });
        };
        let inner = &self.text[self.at..self.at + len];
        let inner_start = self.at;
        self.at += len + 1;
        match quote {
            '`' => Ok(TokenKind::String(inner.to_owned())),
            _ => unescape(inner, inner_start, quote).map(TokenKind::String),
        }
    }
}

fn quote_name(quote: char) -> &'static str {
    if quote == '`' { "backtick" } else { "`\"`" }
}

/// Where the string ends.
pub(super) fn closing_quote(text: &str, quote: char) -> Option<usize> {
    if quote == '`' {
        return text.find('`');
    }
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at),
            '\n' => return None,
            _ => {}
        }
    }
    None
}

/// Go's escapes in a string between two of `quote`; `inner_start` is where the text stands in the expression.
pub(super) fn unescape(inner: &str, inner_start: usize, quote: char) -> Result<String, Diagnostic> {
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape_start = inner_start + inner.len() - rest.len() + at;
        let (len, escaped) = unescape_one(&rest[at + 1..], quote).ok_or_else(|| {
            let word: String = rest[at..].chars().take(2).collect();
            let help = match word.as_str() {
                "\\'" => "in `\"...\"` a `'` stands for itself",
                _ => "write `\\\\` for a backslash, or the string in backticks",
            };
            Diagnostic::error(codes::TOKEN, escape_start..escape_start + word.len(), format!("`{word}` is no escape"))
                .help(help)
        })?;
        bytes.extend_from_slice(&escaped);
        rest = &rest[at + 1 + len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes)
        .map_err(|_| Diagnostic::error(codes::TOKEN, inner_start..inner_start + inner.len(), "the string is not UTF-8"))
}

/// Length of what stands behind the backslash, and the bytes that it means.
fn unescape_one(text: &str, quote: char) -> Option<(usize, Vec<u8>)> {
    let first = text.chars().next()?;
    let simple = match first {
        'a' => Some(0x07),
        'b' => Some(0x08),
        'f' => Some(0x0C),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(0x0B),
        '\\' => Some(b'\\'),
        '"' | '\'' if first == quote => Some(first as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        return Some((1, vec![byte]));
    }
    let digits = |from: usize, len: usize, radix: u32| {
        let digits = text.get(from..from + len).filter(|digits| digits.chars().all(|c| c.is_digit(radix)))?;
        u32::from_str_radix(digits, radix).ok()
    };
    let character = |code: u32| Some(char::from_u32(code)?.to_string().into_bytes());
    match first {
        'x' => Some((3, vec![u8::try_from(digits(1, 2, 16)?).ok()?])),
        'u' => Some((5, character(digits(1, 4, 16)?)?)),
        'U' => Some((9, character(digits(1, 8, 16)?)?)),
        _ => Some((3, vec![u8::try_from(digits(0, 3, 8)?).ok()?])),
    }
}

/// Whether `1e` or `0x1p` stands there, so that a sign still belongs to the number.
fn has_open_exponent(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(digits) => {
            digits.strip_suffix('p').is_some_and(|d| d.chars().all(|c| c.is_ascii_hexdigit() || c == '.' || c == '_'))
        }
        None => lower.strip_suffix('e').is_some_and(|d| d.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '_')),
    }
}

/// `10KB`, `1.5MiB`; letters as Loki takes them, exabytes not.
fn parse_bytes(text: &str) -> Option<u64> {
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_start);
    if !unit.chars().all(|c| matches!(c, 'B' | 'i' | 'k' | 'K' | 'M' | 'G' | 'T' | 'P')) {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let unit = if unit.len() > 1 { unit.strip_suffix('b').unwrap_or(&unit) } else { &unit };
    let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let bytes = number.parse::<f64>().ok()? * *factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}
