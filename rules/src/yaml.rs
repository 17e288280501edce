//! A YAML file as a tree whose every node knows its bytes, so that all mistakes of a file can be shown where they stand.

pub(crate) mod reader;

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Diagnostic, codes};

/// Larger files are refused.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Mappings and sequences in one another; deeper ones are refused.
const DEPTH_MAX: usize = 32;

/// Nodes that aliases may make out of a file; more are refused.
const ALIAS_NODES_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub kind: NodeKind,
    /// Its bytes in the file.
    pub span: Range<usize>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// `null`, `~` or nothing.
    Null,
    /// Text, a number or a truth value, as it is written.
    Scalar(String),
    /// `[a, b]`.
    Sequence(Vec<Node>),
    /// In the order of the file; keys may stand twice.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// As text.
    pub name: String,
    /// Its bytes in the file.
    pub span: Range<usize>,
}

impl Node {
    /// Moves all places on by so many bytes: the text stands behind others in a file.
    pub(crate) fn shift(&mut self, bytes: usize) {
        let shift = |span: &mut Range<usize>| *span = span.start + bytes..span.end + bytes;
        shift(&mut self.span);
        match &mut self.kind {
            NodeKind::Null | NodeKind::Scalar(_) => {}
            NodeKind::Sequence(items) => items.iter_mut().for_each(|item| item.shift(bytes)),
            NodeKind::Mapping(fields) => {
                for (key, value) in fields {
                    shift(&mut key.span);
                    value.shift(bytes);
                }
            }
        }
    }
}

/// The tree of the file's only document.
///
/// # Errors
/// It is no YAML, has more than [`FILE_BYTES_MAX`] bytes, or is nested or repeated by aliases without measure; the place is told.
pub fn parse(text: &str) -> Result<Node, Diagnostic> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", text.len());
        return Err(Diagnostic::error(codes::YAML, 0..0, message));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_NODES_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        emit_comments: false,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Option<Raw>>(text, options) {
        Ok(Some(raw)) => Ok(raw.into_node(text)),
        Ok(None) => Ok(Node { kind: NodeKind::Null, span: 0..0 }),
        Err(error) => {
            let span = error.location().map_or(0..0, |location| byte_range(location, text));
            Err(Diagnostic::error(codes::YAML, span, message(&error)))
        }
    }
}

/// The error without its place, which stands elsewhere.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.find(" at line ").map_or(line, |at| &line[..at]);
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.find(": ").filter(|_| line.starts_with("line ")).map_or(line, |at| &line[at + 2..]).to_owned()
}

/// Where `inner`, bytes of a scalar's text, stands in the file; `span` is the whole scalar there. Where the two cannot be laid
/// beside one another (a scalar with a tag, say) that is the scalar.
pub(crate) fn place(file: &str, span: &Range<usize>, text: &str, inner: Range<usize>) -> Range<usize> {
    let Some(offsets) = file.get(span.clone()).and_then(|source| offsets(source, text)) else { return span.clone() };
    let at = |byte: usize| span.start + offsets[byte.min(text.len())];
    let end = if inner.is_empty() { at(inner.start) } else { at(inner.end - 1) + 1 };
    at(inner.start)..end.min(span.end).max(at(inner.start))
}

/// For each byte of `text`, and for its end, where it stands in `source`, the scalar as the file has it.
fn offsets(source: &str, text: &str) -> Option<Vec<usize>> {
    let mut aligner = Aligner::new(source);
    let mut offsets = Vec::with_capacity(text.len() + 1);
    for c in text.chars() {
        let at = if c.is_whitespace() { aligner.blank(c) } else { aligner.character(c)? };
        offsets.extend((0..c.len_utf8()).map(|i| at + i));
    }
    offsets.push(aligner.at.min(source.len()));
    Some(offsets)
}

/// Goes through a scalar's source beside its text. What is not white space stands in both in the same order; white space is
/// folded and indented by rules that need not be known.
struct Aligner<'a> {
    source: &'a str,
    at: usize,
    quote: Option<char>,
}

impl<'a> Aligner<'a> {
    fn new(source: &'a str) -> Self {
        let (at, quote) = match source.chars().next() {
            Some(quote @ ('"' | '\'')) => (1, Some(quote)),
            Some('|' | '>') => (source.find('\n').map_or(source.len(), |at| at + 1), None),
            _ => (0, None),
        };
        Self { source, at, quote }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn character(&mut self, wanted: char) -> Option<usize> {
        self.skip_blanks();
        let at = self.at;
        match self.rest().chars().next()? {
            '\\' if self.quote == Some('"') => self.at += escape_len(self.rest()),
            '\'' if self.quote == Some('\'') => self.at += 2,
            found if found == wanted => self.at += found.len_utf8(),
            _ => return None,
        }
        Some(at)
    }

    fn blank(&mut self, wanted: char) -> usize {
        let at = self.at;
        match self.rest().chars().next() {
            Some('\\') if self.quote == Some('"') && !self.rest().starts_with("\\\n") => {
                self.at += escape_len(self.rest())
            }
            Some(found) if found == wanted || wanted == ' ' && found == '\n' => self.at += 1,
            _ => {}
        }
        at
    }

    fn skip_blanks(&mut self) {
        loop {
            self.at = self.source.len() - self.rest().trim_start().len();
            let line_is_continued = self.quote == Some('"') && self.rest().starts_with("\\\n");
            if !line_is_continued {
                return;
            }
            self.at += 2;
        }
    }
}

/// Length of an escape in double quotes.
fn escape_len(text: &str) -> usize {
    let len = match text.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => 6,
        Some(b'U') => 10,
        _ => 1 + text[1..].chars().next().map_or(0, char::len_utf8),
    };
    len.min(text.len())
}

/// A node before its plain scalars are read from the file's text.
struct Raw(Spanned<RawKind>);

enum RawKind {
    Null,
    /// A number or a truth value, which the file's text has as it was written.
    Plain,
    Text(String),
    Sequence(Vec<Raw>),
    Mapping(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn into_node(self, text: &str) -> Node {
        let mut span = byte_range(self.0.defined, text);
        let kind = match self.0.value {
            RawKind::Null => NodeKind::Null,
            RawKind::Plain => NodeKind::Scalar(text[span.clone()].to_owned()),
            RawKind::Text(text) => NodeKind::Scalar(text),
            RawKind::Sequence(items) => {
                let items: Vec<Node> = items.into_iter().map(|item| item.into_node(text)).collect();
                span = flow_sequence(&span, &items, text).unwrap_or(span);
                NodeKind::Sequence(items)
            }
            RawKind::Mapping(fields) => NodeKind::Mapping(
                fields
                    .into_iter()
                    .map(|(key, value)| {
                        let span = byte_range(key.referenced, text);
                        (Key { name: key.value, span }, value.into_node(text))
                    })
                    .collect(),
            ),
        };
        Node { kind, span }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawKind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawKind, E> {
        Ok(RawKind::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawKind, E> {
        Ok(RawKind::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawKind, E> {
        Ok(RawKind::Plain)
    }

    fn visit_i128<E>(self, _: i128) -> Result<RawKind, E> {
        Ok(RawKind::Plain)
    }

    fn visit_u128<E>(self, _: u128) -> Result<RawKind, E> {
        Ok(RawKind::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawKind, E> {
        Ok(RawKind::Plain)
    }

    fn visit_str<E>(self, text: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<RawKind, E> {
        Ok(RawKind::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawKind::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(RawKind::Mapping(fields))
    }
}

/// All of a sequence between brackets in a line: the library tells the place of the first alone.
fn flow_sequence(span: &Range<usize>, items: &[Node], text: &str) -> Option<Range<usize>> {
    let line = text.get(span.start..)?.lines().next().filter(|line| line.starts_with('['))?;
    // An alias stands where its anchor does.
    let last = items.last().map_or(0, |item| item.span.end.saturating_sub(span.start));
    let end = last + line.get(last..)?.find(']')? + 1;
    Some(span.start..span.start + end)
}

/// The bytes of a place; one character where the library knows no bytes.
fn byte_range(location: Location, text: &str) -> Range<usize> {
    let (Some(start), Some(len)) = (location.span().byte_offset(), location.span().byte_len()) else {
        return character_range(location.line() as usize, location.column() as usize, text);
    };
    let start = (start as usize).min(text.len());
    let end = (start + len as usize).min(text.len());
    if text.is_char_boundary(start) && text.is_char_boundary(end) { start..end } else { 0..0 }
}

fn character_range(line: usize, column: usize, text: &str) -> Range<usize> {
    let Some(content) = text.split('\n').nth(line.saturating_sub(1)) else { return 0..0 };
    let line_start = content.as_ptr() as usize - text.as_ptr() as usize;
    let (at, c) = content.char_indices().nth(column.saturating_sub(1)).unwrap_or((content.len(), '\n'));
    line_start + at..(line_start + at + c.len_utf8()).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expr(text: &str) -> Node {
        let node = parse(text).unwrap();
        let NodeKind::Mapping(mut fields) = node.kind else { panic!("{node:?}") };
        fields.remove(0).1
    }

    /// Where each word of the scalar stands in the file must be where the file has that word.
    #[test]
    fn scalars_are_found_in_every_style() {
        for text in [
            "e: aa bb # comment\n",
            "e: aa bb\n   cc\n\n   dd\nf: x\n",
            "e: 'aa ''b'' cc'\n",
            "e: \"aa \\\"b\\\" \\u0041\\tcc\\\n   dd\n   ee\"\n",
            "e: |\n  aa\n    bb\n\n  cc\n",
            "e: |2-\n    aa\n   bb\n",
            "e: >-\n  aa\n  bb\n\n  cc\n",
            "e: > # comment\n  aä\n   bb\n  cc\nf: x\n",
            "e: &anchor\n  aa\n",
            "e:\n  - aa\n",
        ] {
            let node = expr(text);
            let node = match node.kind {
                NodeKind::Sequence(mut items) => items.remove(0),
                _ => node,
            };
            let NodeKind::Scalar(scalar) = &node.kind else { panic!("{node:?}") };
            for word in ["aa", "bb", "cc", "dd", "ee", "aä"] {
                let Some(at) = scalar.find(word) else { continue };
                let place = place(text, &node.span, scalar, at..at + word.len());
                assert_eq!(text.get(place.clone()), Some(word), "{text:?} {place:?}");
            }
        }
    }

    #[test]
    fn sequences_are_where_their_brackets_are() {
        for text in ["e: []", "e: [a, b]", "e: [ [a], [] ]"] {
            assert_eq!(&text[expr(text).span], &text[3..], "{text:?}");
        }
        assert_eq!(expr("e: [\n  a,\n  b\n]").span, 3..4, "the first bracket stands for many lines");
        for text in ["a: &x k\nb: [y]\nc: [*x]", "a: &x [k]\nb: [*x, *x]", "a: &x\n  - k\nb: [*x]", "a: [&x k, *x]"] {
            assert!(parse(text).is_ok(), "{text:?}");
        }
        let NodeKind::Sequence(items) = expr("e: [ [a], [] ]").kind else { panic!() };
        assert_eq!(items.iter().map(|item| item.span.clone()).collect::<Vec<_>>(), [5..8, 10..12]);
        assert_eq!(expr("e:\n  - a\n  - b\n").span.start, 5);
    }

    #[test]
    fn numbers_keep_their_spelling() {
        assert_eq!(expr("e: 007").kind, NodeKind::Scalar("007".into()));
        assert_eq!(expr("e: .nan").kind, NodeKind::Scalar(".nan".into()));
        assert_eq!(expr("e: yes").kind, NodeKind::Scalar("yes".into()));
        assert_eq!(expr("e: ~").kind, NodeKind::Null);
    }

    #[test]
    fn broken_files_say_where() {
        for (text, line_column) in [("a: [", (1, 4)), ("a: b: c", (1, 5)), ("x: y\na: *x", (2, 4)), ("a: 'x", (1, 4))] {
            assert_eq!(parse(text).unwrap_err().line_column(text), line_column, "{text}");
        }
    }
}
