//! `| json`: the line as a JSON object.
//!
//! Scalars become labels, those of nested objects by their path joined with `_`; arrays and nulls do not. With expressions
//! (`| json method="request.method", first="items[0]"`) only what they name is taken, objects and arrays as their text.

use std::borrow::Cow;

use super::{Extracted, Record, Unsupported, push_label_name};
use crate::entry::LogEntry;
use crate::logql::ast::LabelExtraction;

/// The compiled stage.
#[derive(Debug)]
pub struct JsonStage {
    expressions: Vec<(String, Vec<Step>)>,
    asked: Option<Vec<String>>,
}

/// One step of a path.
#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl JsonStage {
    /// Compiles the stage; `asked` are the labels that anybody reads, all where it is `None`.
    pub fn compile(expressions: &[LabelExtraction], asked: Option<&[String]>) -> Result<Self, Unsupported> {
        let path = |label: &LabelExtraction| {
            let path = parse_path(&label.expression);
            let path = path.ok_or_else(|| {
                Unsupported::new(label.span, format!("`{}` is no JSON path: write `a.b[0]`", label.expression))
            });
            Ok((label.name.clone(), path?))
        };
        Ok(Self {
            expressions: expressions.iter().map(path).collect::<Result<_, _>>()?,
            asked: asked.map(<[String]>::to_vec),
        })
    }

    pub(super) fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        if !self.asked.as_ref().is_some_and(Vec::is_empty) {
            let result =
                if self.expressions.is_empty() { self.all(record, extracted) } else { self.some(record, extracted) };
            if result.is_err() {
                extracted.fail("JSONParserErr");
            }
        }
        true
    }

    fn all<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> Result<(), Malformed> {
        let mut name = String::new();
        for_each_value(record.line(), &mut |path, value| {
            if !matches!(value.kind, Kind::String | Kind::Number | Kind::Bool) {
                return;
            }
            name.clear();
            for key in path.iter().filter(|key| !key.trim().is_empty()) {
                if !name.is_empty() {
                    name.push('_');
                }
                push_label_name(&mut name, key);
            }
            if !name.is_empty() {
                extracted.set(record, self.asked.as_deref(), &name, &value.text());
            }
        })
    }

    fn some<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> Result<(), Malformed> {
        let (whole, _) = Value::parse(record.line())?;
        for (name, path) in &self.expressions {
            let found = path.iter().try_fold(whole, |value, step| value.step(step))?;
            extracted.set(record, self.asked.as_deref(), name, &found.text());
        }
        Ok(())
    }
}

/// Text that is not JSON, or not where an object is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What a value is.
#[allow(missing_docs)] // JSON's own words
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    Bool,
    Null,
    Object,
    Array,
}

/// A value where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text; a string's is without the quotes, escapes as they are.
    raw: &'a str,
}

/// Visits every value that is neither object nor in an array, with its path, front to back, as far as the line is well formed.
pub fn for_each_value(line: &str, visit: &mut dyn FnMut(&[Cow<'_, str>], Value<'_>)) -> Result<(), Malformed> {
    let (whole, _) = Value::parse_object(line)?;
    for_each_entry(whole, &mut Vec::new(), visit)
}

fn for_each_entry<'a>(
    object: &'a str,
    path: &mut Vec<Cow<'a, str>>,
    visit: &mut dyn FnMut(&[Cow<'_, str>], Value<'_>),
) -> Result<(), Malformed> {
    for entry in Items::object(object) {
        let (key, value) = entry?;
        path.push(key);
        match value.kind {
            Kind::Object if path.len() < NESTING_MAX => for_each_entry(value.raw, path, visit)?,
            _ => visit(path, value),
        }
        path.pop();
    }
    Ok(())
}

impl<'a> Value<'a> {
    /// The value as a label's text: a string unescaped, null empty.
    pub fn text(&self) -> Cow<'a, str> {
        match self.kind {
            Kind::String => unescape(self.raw),
            Kind::Null => Cow::Borrowed(""),
            _ => Cow::Borrowed(self.raw),
        }
    }

    fn step(self, step: &Step) -> Result<Self, Malformed> {
        const MISSING: Value<'static> = Value { kind: Kind::Null, raw: "" };
        let mut items = Items::of(self);
        let found = match step {
            Step::Key(key) => items.find(|item| item.as_ref().map_or(true, |(name, _)| name == key)),
            Step::Index(index) if self.kind == Kind::Array => items.nth(*index),
            Step::Index(_) => None,
        };
        found.transpose().map(|item| item.map_or(MISSING, |(_, value)| value))
    }

    /// The value that `text` begins with, and what comes after it.
    fn parse(text: &'a str) -> Result<(Self, &'a str), Malformed> {
        let text = text.trim_start();
        let (kind, len) = match text.as_bytes().first() {
            Some(b'"') => {
                let len = string_len(text)?;
                return Ok((Self { kind: Kind::String, raw: &text[1..len - 1] }, &text[len..]));
            }
            Some(b'{') => (Kind::Object, nested_len(text)?),
            Some(b'[') => (Kind::Array, nested_len(text)?),
            Some(b't') if text.starts_with("true") => (Kind::Bool, 4),
            Some(b'f') if text.starts_with("false") => (Kind::Bool, 5),
            Some(b'n') if text.starts_with("null") => (Kind::Null, 4),
            Some(b'-' | b'0'..=b'9') => (Kind::Number, number_len(text)),
            _ => return Err(Malformed),
        };
        Ok((Self { kind, raw: &text[..len] }, &text[len..]))
    }

    /// The object that `text` begins with, even one that does not end, and what comes after it.
    fn parse_object(text: &'a str) -> Result<(&'a str, &'a str), Malformed> {
        let text = text.trim_start();
        if text.starts_with('{') { Ok((text, "")) } else { Err(Malformed) }
    }
}

/// Entries of an object, or elements of an array under an empty key.
struct Items<'a> {
    rest: &'a str,
    keyed: bool,
    first: bool,
    done: bool,
}

impl<'a> Items<'a> {
    fn object(raw: &'a str) -> Self {
        Self { rest: &raw[1..], keyed: true, first: true, done: false }
    }

    fn of(value: Value<'a>) -> Self {
        match value.kind {
            Kind::Object => Self::object(value.raw),
            Kind::Array => Self { keyed: false, ..Self::object(value.raw) },
            _ => Self { rest: "", keyed: false, first: true, done: true },
        }
    }

    fn item(&mut self) -> Result<Option<(Cow<'a, str>, Value<'a>)>, Malformed> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with(if self.keyed { '}' } else { ']' }) {
            return Ok(None);
        }
        if !self.first {
            self.rest = self.rest.strip_prefix(',').ok_or(Malformed)?;
        }
        self.first = false;
        let mut key = Cow::Borrowed("");
        if self.keyed {
            let (name, rest) = Value::parse(self.rest)?;
            self.rest = rest.trim_start().strip_prefix(':').filter(|_| name.kind == Kind::String).ok_or(Malformed)?;
            key = name.text();
        }
        let (value, rest) = Value::parse(self.rest)?;
        self.rest = rest;
        Ok(Some((key, value)))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(Cow<'a, str>, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.item().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Length of the string at the start of `text`, quotes included.
fn string_len(text: &str) -> Result<usize, Malformed> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).ok_or(Malformed)?) {
        at += found;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(Malformed)
}

/// Length of the object or array at the start of `text`. What is in it is not looked at beyond brackets and strings.
fn nested_len(text: &str) -> Result<usize, Malformed> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => at += string_len(&text[at..])? - 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(Malformed)
}

fn number_len(text: &str) -> usize {
    text.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(text.len())
}

fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    // Once in a while a line has escapes; there is no need for an unescaper of our own.
    Cow::Owned(serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_default())
}

/// `a.b[0]["c d"]`
fn parse_path(text: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = parse_bracket(inner)?;
            steps.push(step);
            rest = after;
        } else {
            let name = if steps.is_empty() { rest } else { rest.strip_prefix('.')? };
            let end = name.find(['.', '[']).unwrap_or(name.len());
            steps.push(Step::Key(name[..end].to_owned()).non_empty()?);
            rest = &name[end..];
        }
    }
    (!steps.is_empty()).then_some(steps)
}

fn parse_bracket(inner: &str) -> Option<(Step, &str)> {
    let (step, rest) = if inner.starts_with('"') {
        let len = string_len(inner).ok()?;
        (Step::Key(unescape(&inner[1..len - 1]).into_owned()), &inner[len..])
    } else {
        let end = inner.find(']')?;
        (Step::Index(inner[..end].trim().parse().ok()?), &inner[end..])
    };
    Some((step, rest.strip_prefix(']')?))
}

impl Step {
    fn non_empty(self) -> Option<Self> {
        match &self {
            Self::Key(key) if key.is_empty() => None,
            _ => Some(self),
        }
    }
}

/// Objects in objects are entered to this depth; a deeper one gives no labels.
const NESTING_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(line: &str) -> (String, bool) {
        let mut out = Vec::new();
        let result = for_each_value(line, &mut |path, value| out.push(format!("{}={}", path.join("."), value.text())));
        (out.join(" "), result.is_ok())
    }

    #[test]
    fn values_come_with_their_paths() {
        let line = r#" {"a": 1.50, "b": {"c": "x\ny", "d": {"e": true}}, "f": [1, {"g": 2}], "h": null} trailing"#;
        assert_eq!(values(line), ("a=1.50 b.c=x\ny b.d.e=true f=[1, {\"g\": 2}] h=".to_owned(), true));
        assert_eq!(values("{}"), (String::new(), true));
        assert_eq!(values(r#"{"\u00e9\"": "\ud83d\ude00"}"#), ("é\"=😀".to_owned(), true));
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in r#"[{}\[\]":,a1\\ u\-.ntrfé]{0,40}"#) {
            let _ = values(&line);
            let _ = parse_path(&line);
        }

        #[test]
        fn objects_are_read_as_serde_json_reads_them(fields in prop::collection::btree_map("[a-z\"\\\\é]{1,6}", ".{0,8}", 0..5)) {
            let expected: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
            prop_assert_eq!(values(&serde_json::to_string(&fields).unwrap()), (expected.join(" "), true));
        }
    }

    #[test]
    fn a_malformed_line_says_what_it_can() {
        assert_eq!(values(r#"{"a": 1, "b": "#), ("a=1".to_owned(), false));
        assert_eq!(values(r#"{"a": 1 "b": 2}"#), ("a=1".to_owned(), false));
        assert_eq!(values(r#"{"a": tru}"#), (String::new(), false));
        assert_eq!(values(r#"["a"]"#), (String::new(), false));
        assert_eq!(values(r#"{"a": "\"#), (String::new(), false));
        assert_eq!(values(""), (String::new(), false));
    }

    #[test]
    fn paths_lead_to_values() {
        let at = |path: &str| {
            let (whole, _) = Value::parse(r#"{"a": {"b c": [10, {"d": "x"}]}, "e": 1}"#).unwrap();
            parse_path(path).map(|path| path.iter().try_fold(whole, |value, step| value.step(step)).unwrap().text())
        };
        assert_eq!(at(r#"a["b c"][1].d"#).as_deref(), Some("x"));
        assert_eq!(at("a").as_deref(), Some(r#"{"b c": [10, {"d": "x"}]}"#));
        assert_eq!(at("a.nothing[3]").as_deref(), Some(""));
        assert_eq!(at("e").as_deref(), Some("1"));
        assert_eq!(at("a..b"), None);
        assert_eq!(at("a[x]"), None);
    }
}
