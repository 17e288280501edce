//! `| logfmt`: the line as `key=value key="quoted value" key`.

use std::borrow::Cow;
use std::ops::Range;

use super::extracted::{Sink, Stop, push_label_name, push_valid};
use super::{ERROR_LABEL, json};
use crate::entry::LogEntry;
use crate::logql::ast::LabelExtraction;

/// The compiled stage.
#[derive(Debug)]
pub struct LogfmtStage {
    strict: bool,
    keep_empty: bool,
    /// Label and key.
    keys: Vec<(String, String)>,
}

impl LogfmtStage {
    /// The stage; of two expressions for one label the last one counts.
    pub fn new(strict: bool, keep_empty: bool, labels: &[LabelExtraction]) -> Self {
        let is_last = |at: usize| labels[at + 1..].iter().all(|other| other.name != labels[at].name);
        let last = labels.iter().enumerate().filter(|(at, _)| is_last(*at));
        let keys = last.map(|(_, label)| (label.name.clone(), key_of(&label.expression).to_owned())).collect();
        Self { strict, keep_empty, keys }
    }

    pub(super) fn run<E: LogEntry>(&self, sink: &mut Sink<'_, '_, E>) -> bool {
        if sink.is_complete() {
            return true;
        }
        let shared = sink.extracted.untouched(sink.record);
        let result = match shared.and_then(|record| record.logfmt.get(|| Some(ReadPairs::read(record.line())))) {
            Some(read) => self.add(&mut read.source(), sink),
            None => {
                let Sink { record, pipeline, extracted } = sink;
                extracted.with_line(record, |line, extracted| {
                    self.add(&mut Source::line(line), &mut Sink { record, pipeline, extracted })
                })
            }
        };
        match result {
            Err(Halt::Stop(Stop::Dropped)) => false,
            Ok(()) | Err(Halt::Stop(Stop::Complete)) => true,
            Err(Halt::Malformed(error)) => {
                sink.fail_parsing("LogfmtParserErr", Some(Cow::Owned(error.to_string())));
                !self.keys.is_empty() || !sink.pipeline.drops_early(sink.record, sink.extracted, ERROR_LABEL)
            }
        }
    }

    fn add<E: LogEntry>(&self, pairs: &mut Source<'_>, sink: &mut Sink<'_, '_, E>) -> Result<(), Halt> {
        if self.keys.is_empty() { self.all(pairs, sink) } else { self.some(pairs, sink) }
    }

    fn all<E: LogEntry>(&self, pairs: &mut Source<'_>, sink: &mut Sink<'_, '_, E>) -> Result<(), Halt> {
        while let Some(pair) = pairs.next() {
            let (name, value) = match pair {
                Ok(pair) => pair,
                Err(error) if self.strict => return Err(Halt::Malformed(error)),
                Err(_) => continue,
            };
            if value.is_empty() && !self.keep_empty || name.is_empty() {
                continue;
            }
            sink.add(name, |out| push_valid(out, value))?;
            if sink.is_complete() {
                return Err(Stop::Complete.into());
            }
        }
        Ok(())
    }

    /// Of two values for one label the last one counts. As in Loki a label is also set by a key of its own name, and one that nobody
    /// else asks for is not looked for in the line.
    fn some<E: LogEntry>(&self, pairs: &mut Source<'_>, sink: &mut Sink<'_, '_, E>) -> Result<(), Halt> {
        for (label, _) in &self.keys {
            if !sink.extracted.clashes(sink.record, label) {
                sink.extracted.set(sink.pipeline, label, |_| {});
            }
        }
        while let Some(pair) = pairs.next() {
            let (name, value) = match pair {
                Ok(pair) => pair,
                Err(error) if self.strict => return Err(Halt::Malformed(error)),
                Err(_) => continue,
            };
            let is_label = self.keys.iter().any(|(label, _)| label == name);
            if !is_label && (!sink.pipeline.asks_for(name) || sink.extracted.was_set(name)) {
                continue;
            }
            let label = match self.keys.iter().find(|(_, key)| key == name) {
                Some((label, _)) => label,
                None if is_label => name,
                None => continue,
            };
            let clashes = sink.extracted.clashes(sink.record, label);
            if clashes && sink.name_for(label).is_none() {
                return Err(Stop::Complete.into());
            }
            let value = if value.contains(char::REPLACEMENT_CHARACTER) { "" } else { value };
            sink.force(label, |out| out.push_str(value));
            if sink.is_complete() {
                return Err(Stop::Complete.into());
            }
        }
        Ok(())
    }
}

/// Why reading ended.
enum Halt {
    Stop(Stop),
    Malformed(PairError),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// The pairs of a line, for all pipelines that ask for some.
#[derive(Debug, Default)]
pub(super) struct ReadPairs {
    text: String,
    pairs: Vec<Result<ReadPair, PairError>>,
}

/// The label's name and the value, in the text.
type ReadPair = (Range<usize>, Range<usize>);

impl ReadPairs {
    fn read(line: &str) -> Self {
        let mut read = Self::default();
        let mut source = Source::line(line);
        while let Some(pair) = source.next() {
            let kept = pair.map(|(name, value)| (read.keep(name), read.keep(value)));
            read.pairs.push(kept);
        }
        read
    }

    fn keep(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    fn source(&self) -> Source<'_> {
        Source::Read { read: self, at: 0 }
    }
}

/// Where pairs come from.
enum Source<'a> {
    Line { pairs: Pairs<'a>, name: String, value: Cow<'a, str> },
    Read { read: &'a ReadPairs, at: usize },
}

impl<'a> Source<'a> {
    fn line(line: &'a str) -> Self {
        Self::Line { pairs: Pairs::new(line), name: String::new(), value: Cow::Borrowed("") }
    }

    /// The next label's name and value.
    fn next(&mut self) -> Option<Result<(&str, &str), PairError>> {
        Some(match self {
            Self::Line { pairs, name, value } => match pairs.next()? {
                Ok((key, found)) => {
                    name.clear();
                    push_label_name(name, key);
                    *value = found;
                    Ok((name, value))
                }
                Err(error) => Err(error),
            },
            Self::Read { read, at } => {
                let pair = read.pairs.get(*at)?.clone();
                *at += 1;
                pair.map(|(name, value)| (&read.text[name], &read.text[value]))
            }
        })
    }
}

/// A key may stand in quotes once more: `a="\"b\""`.
fn key_of(expression: &str) -> &str {
    let key = expression.trim();
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

/// Whether it is a key that Loki takes: a name, or something in quotes.
pub(crate) fn is_key(expression: &str) -> bool {
    let key = expression.trim();
    let is_name = |key: &str| {
        key.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) && !key.starts_with(|c: char| c.is_ascii_digit())
    };
    !key.is_empty() && (key.len() > 1 && key.starts_with('"') && key.ends_with('"') || is_name(key))
}

/// What is wrong with a pair, and at which byte of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairError {
    at: usize,
    kind: PairErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PairErrorKind {
    Unexpected(u8),
    InvalidKey,
    Unterminated,
    InvalidQuote,
}

impl std::fmt::Display for PairError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "logfmt syntax error at pos {} : ", self.at + 1)?;
        match self.kind {
            PairErrorKind::Unexpected(byte) => write!(f, "unexpected '{}'", char::from(byte)),
            PairErrorKind::InvalidKey => f.write_str("invalid key"),
            PairErrorKind::Unterminated => f.write_str("unterminated quoted value"),
            PairErrorKind::InvalidQuote => f.write_str("invalid quoted value"),
        }
    }
}

/// The pairs of a line, front to back. After a malformed one reading goes on behind the next space.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Pairs<'a> {
    /// The pairs of `line`.
    pub fn new(line: &'a str) -> Self {
        Self { line, at: 0 }
    }

    fn pair(&mut self) -> Result<(&'a str, Cow<'a, str>), PairErrorKind> {
        let key = self.take_until(|byte| byte == b'=' || byte == b'"' || byte <= b' ');
        match self.peek() {
            Some(b'=') if key.contains(char::REPLACEMENT_CHARACTER) => Err(PairErrorKind::InvalidKey),
            Some(b'=') if !key.is_empty() => {
                self.at += 1;
                Ok((key, self.value()?))
            }
            Some(byte @ (b'=' | b'"')) => Err(PairErrorKind::Unexpected(byte)),
            _ if key.contains(char::REPLACEMENT_CHARACTER) => Err(PairErrorKind::InvalidKey),
            _ => Ok((key, Cow::Borrowed(""))),
        }
    }

    fn value(&mut self) -> Result<Cow<'a, str>, PairErrorKind> {
        if self.peek() == Some(b'"') {
            return self.quoted();
        }
        let value = self.take_until(|byte| byte == b'=' || byte == b'"' || byte <= b' ');
        match self.peek() {
            Some(byte @ (b'=' | b'"')) => Err(PairErrorKind::Unexpected(byte)),
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, PairErrorKind> {
        let rest = &self.line[self.at..];
        let Some(len) = json::string_len(rest) else {
            self.at = self.line.len();
            return Err(PairErrorKind::Unterminated);
        };
        self.at += len;
        unquote(&rest[1..len - 1]).ok_or(PairErrorKind::InvalidQuote)
    }

    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn take_until(&mut self, stop: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.line[self.at..];
        let len = rest.bytes().position(stop).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, Cow<'a, str>), PairError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take_until(|byte| byte > b' ');
        self.peek()?;
        let pair = self.pair().map_err(|kind| PairError { at: self.at, kind });
        if let Err(error) = pair
            && error.kind != PairErrorKind::InvalidQuote
        {
            self.take_until(|byte| byte <= b' ');
        }
        Some(pair)
    }
}

/// A quoted value's inside as Go's `encoding/json` reads a string, except that line ends may stand in it.
fn unquote(inside: &str) -> Option<Cow<'_, str>> {
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (c, len) = match *rest.as_bytes().get(at + 1)? {
            b'u' => unicode(&rest[at..])?,
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            byte @ (b'"' | b'\\' | b'/' | b'\'') => (char::from(byte), 2),
            _ => return None,
        };
        out.push(c);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// The character of `\u0041` or of a pair of surrogates, and how long that is; half a pair is U+FFFD.
fn unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..).filter(|text| text.starts_with("\\u"))?.get(2..6)?;
        if digits.starts_with('+') { None } else { u32::from_str_radix(digits, 16).ok() }
    };
    let first = unit(0)?;
    let pair = || {
        let second = unit(6).filter(|second| (0xDC00..0xE000).contains(second))?;
        if (0xD800..0xDC00).contains(&first) {
            char::from_u32(((first - 0xD800) << 10) + (second - 0xDC00) + 0x1_0000)
        } else {
            None
        }
    };
    match (char::from_u32(first), pair()) {
        (Some(c), _) => Some((c, 6)),
        (None, Some(c)) => Some((c, 12)),
        (None, None) => Some((char::REPLACEMENT_CHARACTER, 6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(line: &str) -> String {
        let show = |pair: Result<(&str, Cow<'_, str>), PairError>| {
            pair.map_or("!".to_owned(), |(key, value)| format!("{key}:{value}"))
        };
        Pairs::new(line).map(show).collect::<Vec<_>>().join("|")
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in r#"[a= "\\é\x01u0-9]{0,40}"#) {
            let _ = pairs(&line);
        }
    }

    #[test]
    fn pairs_are_read_as_go_logfmt_reads_them() {
        assert_eq!(pairs(r#"level=error msg="no \"stock\"" flag n=1"#), r#"level:error|msg:no "stock"|flag:|n:1"#);
        assert_eq!(pairs("a= b=2"), "a:|b:2");
        assert_eq!(pairs(r#"a=1=2 b=3"#), "!|b:3");
        assert_eq!(pairs(r#"=1 b=3"#), "!|b:3");
        assert_eq!(pairs(r#"a="open"#), "!");
        assert_eq!(pairs(r#"a"b c=1"#), "!|c:1");
        assert_eq!(pairs(r#"a="\x"b c="\u00e9\ud83d\ude00\ud83d""#), "!|b:|c:é😀\u{FFFD}");
        assert_eq!(pairs("  "), "");
        assert_eq!(pairs("grüße=ö"), "grüße:ö");
    }
}
