//! `| json`: the line as a JSON object.
//!
//! Scalars become labels, those of nested objects by their path joined with `_`; arrays and nulls do not. A line is read as Loki's
//! parser reads it: what comes behind the object, and what cannot be seen by looking for quotes and brackets, is not looked at.

use std::borrow::Cow;
use std::ops::Range;

use super::extracted::{DUPLICATE_SUFFIX, Sink, Stop, push_label_name, push_valid};
use crate::entry::LogEntry;

/// Runs the stage.
pub(super) fn run<E: LogEntry>(sink: &mut Sink<'_, '_, E>) -> bool {
    if sink.is_complete() {
        return true;
    }
    let result = match sink
        .extracted
        .untouched(sink.record)
        .and_then(|record| record.json.get(|| Fields::read(record.line())))
    {
        Some(fields) => fields.add_to(sink),
        None => {
            let Sink { record, pipeline, extracted } = sink;
            extracted.with_line(record, |line, extracted| {
                object(line, &mut String::new(), 0, &mut Sink { record, pipeline, extracted })
            })
        }
    };
    match result {
        Ok(()) | Err(Halt::Stop(Stop::Complete)) => true,
        Err(Halt::Stop(Stop::Dropped)) => false,
        Err(Halt::Malformed(Malformed(details))) => sink.fail_parsing("JSONParserErr", Some(Cow::Borrowed(details))),
    }
}

/// Why reading ended.
enum Halt {
    Malformed(Malformed),
    Stop(Stop),
}

impl From<Malformed> for Halt {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Adds the fields of an object; `name` is the one that they begin with.
fn object<E: LogEntry>(text: &str, name: &mut String, depth: usize, sink: &mut Sink<'_, '_, E>) -> Result<(), Halt> {
    for entry in Entries::new(text)? {
        let (key, value) = entry?;
        let len = name.len();
        push_key(name, &key);
        let added = match value.kind {
            Kind::Object => {
                if depth < NESTING_MAX && sink.pipeline.asks_for_prefix(name) {
                    object(value.raw, name, depth + 1, sink)?;
                }
                name.truncate(len);
                continue;
            }
            Kind::String | Kind::Number | Kind::Bool if !name.is_empty() => {
                // Loki puts the suffix behind the key before it joins the keys.
                if depth > 0 && key.trim().is_empty() && sink.extracted.clashes(sink.record, name) {
                    name.push('_');
                    name.push_str(DUPLICATE_SUFFIX);
                }
                sink.add(name, |out| push_valid(out, &value.text()))
            }
            _ => Ok(()),
        };
        name.truncate(len);
        // As in Loki this goes before a filter that would drop the record already here.
        if sink.is_complete() {
            return Err(Stop::Complete.into());
        }
        added?;
    }
    Ok(())
}

fn push_key(name: &mut String, key: &str) {
    if key.trim().is_empty() {
        return;
    }
    if !name.is_empty() {
        name.push('_');
    }
    push_label_name(name, key);
}

/// The fields of a line, for all pipelines that ask for some: what [`object`] comes to, one after the other.
#[derive(Debug)]
pub(super) struct Fields {
    text: String,
    /// What may still be added to the text.
    budget: usize,
    items: Vec<Item>,
}

/// What stands in a line.
#[derive(Debug)]
enum Item {
    /// A value, and whether it is an inner one whose key is blank; name and value are in the text.
    Value { name: Range<usize>, value: Range<usize>, is_nameless: bool },
    /// An object, whose items follow; `behind` is the first that is not its own.
    Object { name: Range<usize>, behind: usize },
    /// The object around it ends here.
    Malformed(Malformed),
}

impl Fields {
    /// `None` where they are much longer than the line, as each name holds those around it: who reads the line itself need not
    /// keep them all.
    fn read(line: &str) -> Option<Self> {
        let mut fields = Self { text: String::new(), budget: 4 * line.len() + (64 << 10), items: Vec::new() };
        fields.object(line, &mut String::new(), 0)?;
        Some(fields)
    }

    /// `None` where the budget is spent.
    fn object(&mut self, text: &str, name: &mut String, depth: usize) -> Option<()> {
        let entries = match Entries::new(text) {
            Ok(entries) => entries,
            Err(malformed) => return self.malformed(malformed),
        };
        for entry in entries {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(malformed) => return self.malformed(malformed),
            };
            let len = name.len();
            push_key(name, &key);
            match value.kind {
                Kind::Object => self.inner(value.raw, name, depth)?,
                Kind::String | Kind::Number | Kind::Bool if !name.is_empty() => {
                    let is_nameless = depth > 0 && key.trim().is_empty();
                    let (name, value) = (self.keep(name)?, self.keep(&value.text())?);
                    self.items.push(Item::Value { name, value, is_nameless });
                }
                _ => {}
            }
            name.truncate(len);
        }
        Some(())
    }

    fn malformed(&mut self, malformed: Malformed) -> Option<()> {
        self.items.push(Item::Malformed(malformed));
        Some(())
    }

    fn inner(&mut self, raw: &str, name: &mut String, depth: usize) -> Option<()> {
        let at = self.items.len();
        let kept = self.keep(name)?;
        self.items.push(Item::Object { name: kept.clone(), behind: at });
        if depth < NESTING_MAX {
            self.object(raw, name, depth + 1)?;
        }
        self.items[at] = Item::Object { name: kept, behind: self.items.len() };
        Some(())
    }

    fn keep(&mut self, text: &str) -> Option<Range<usize>> {
        self.budget = self.budget.checked_sub(text.len())?;
        let start = self.text.len();
        push_valid(&mut self.text, text);
        Some(start..self.text.len())
    }

    fn add_to<E: LogEntry>(&self, sink: &mut Sink<'_, '_, E>) -> Result<(), Halt> {
        let mut at = 0;
        while let Some(item) = self.items.get(at) {
            at += 1;
            match item {
                Item::Malformed(malformed) => return Err((*malformed).into()),
                Item::Object { name, behind } if !sink.pipeline.asks_for_prefix(&self.text[name.clone()]) => {
                    at = *behind
                }
                Item::Object { .. } => {}
                Item::Value { name, value, is_nameless } => {
                    let (name, value) = (&self.text[name.clone()], &self.text[value.clone()]);
                    let added = if *is_nameless && sink.extracted.clashes(sink.record, name) {
                        sink.add(&format!("{name}_{DUPLICATE_SUFFIX}"), |out| out.push_str(value))
                    } else {
                        sink.add(name, |out| out.push_str(value))
                    };
                    if sink.is_complete() {
                        return Err(Stop::Complete.into());
                    }
                    added?;
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with a line, in the words that Loki has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

const MALFORMED: Malformed = Malformed("Malformed JSON error");
const MALFORMED_STRING: Malformed = Malformed("Value is string, but can't find closing '\"' symbol");
const MALFORMED_ARRAY: Malformed = Malformed("Value is array, but can't find closing ']' symbol");
const MALFORMED_OBJECT: Malformed = Malformed("Value looks like object, but can't find closing '}' symbol");
const UNKNOWN_VALUE: Malformed = Malformed("Unknown value type");
const BAD_ESCAPE: Malformed = Malformed("Encountered an invalid escape sequence in a string");

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
    pub(super) raw: &'a str,
}

/// Visits every value that is neither object nor in an array, with its path, front to back, as far as the line is well formed.
pub fn for_each_value(line: &str, visit: &mut dyn FnMut(&[Cow<'_, str>], Value<'_>)) -> Result<(), Malformed> {
    for_each_field(line, &mut Vec::new(), visit)
}

/// The label that `| json` makes of the value at a path, where the record has no other of that name.
pub fn label_of(path: &[Cow<'_, str>]) -> String {
    let mut name = String::new();
    path.iter().for_each(|key| push_key(&mut name, key));
    name
}

fn for_each_field<'a>(
    object: &'a str,
    path: &mut Vec<Cow<'a, str>>,
    visit: &mut dyn FnMut(&[Cow<'_, str>], Value<'_>),
) -> Result<(), Malformed> {
    for entry in Entries::new(object)? {
        let (key, value) = entry?;
        path.push(key);
        match value.kind {
            Kind::Object if path.len() < NESTING_MAX => for_each_field(value.raw, path, visit)?,
            _ => visit(path, value),
        }
        path.pop();
    }
    Ok(())
}

impl<'a> Value<'a> {
    /// The value as a label's text: a string unescaped, and empty where it cannot be; null empty.
    pub fn text(&self) -> Cow<'a, str> {
        match self.kind {
            Kind::String => unescape(self.raw).unwrap_or_default(),
            Kind::Null => Cow::Borrowed(""),
            _ => Cow::Borrowed(self.raw),
        }
    }

    /// A string without its escapes; `Err` says in Loki's words that one of them is none.
    pub(super) fn unescaped(&self) -> Result<Cow<'a, str>, &'static str> {
        unescape(self.raw).ok_or(BAD_ESCAPE.0)
    }

    /// The value that `text` begins with, and what comes after it.
    pub(super) fn parse(text: &'a str) -> Result<(Self, &'a str), Malformed> {
        let text = trim_start(text);
        let (kind, len) = match text.as_bytes().first() {
            None => return Err(MALFORMED),
            Some(b'"') => {
                let len = string_len(text).ok_or(MALFORMED_STRING)?;
                return Ok((Self { kind: Kind::String, raw: &text[1..len - 1] }, &text[len..]));
            }
            Some(b'{') => (Kind::Object, block_len(text, b'{', b'}').ok_or(MALFORMED_OBJECT)?),
            Some(b'[') => (Kind::Array, block_len(text, b'[', b']').ok_or(MALFORMED_ARRAY)?),
            Some(first) => {
                let len = text.find([' ', '\n', '\r', '\t', ',', '}', ']']).unwrap_or(text.len());
                let kind = match (first, &text[..len]) {
                    (_, "true" | "false") => Kind::Bool,
                    (_, "null") => Kind::Null,
                    (b'0'..=b'9' | b'-', _) => Kind::Number,
                    _ => return Err(UNKNOWN_VALUE),
                };
                (kind, len)
            }
        };
        Ok((Self { kind, raw: &text[..len] }, &text[len..]))
    }
}

/// The entries of an object that need not end.
pub(super) struct Entries<'a> {
    rest: &'a str,
    /// Whether the rest begins behind a value.
    is_behind_value: bool,
    is_done: bool,
}

impl<'a> Entries<'a> {
    /// The entries of the object that `text` begins with.
    pub(super) fn new(text: &'a str) -> Result<Self, Malformed> {
        let inside = trim_start(text).strip_prefix('{').ok_or(MALFORMED_OBJECT)?;
        let rest = trim_start(inside);
        if rest.is_empty() { Err(MALFORMED) } else { Ok(Self { rest, is_behind_value: false, is_done: false }) }
    }

    /// The next entry, or `None` at the object's end, where a comma too much is not minded.
    fn entry(&mut self) -> Result<Option<(Cow<'a, str>, Value<'a>)>, Malformed> {
        if self.is_behind_value {
            let rest = trim_start(self.rest);
            self.rest = match rest.as_bytes().first() {
                None => return Err(MALFORMED_ARRAY),
                Some(b',') => trim_start(&rest[1..]),
                Some(_) => rest,
            };
            if self.rest.is_empty() {
                return Err(MALFORMED_ARRAY);
            }
            if !rest.starts_with([',', '}']) {
                return Err(MALFORMED_OBJECT);
            }
        }
        match self.rest.as_bytes()[0] {
            b'}' => return Ok(None),
            b'"' => {}
            _ => return Err(MALFORMED_OBJECT),
        }
        let len = string_len(self.rest).ok_or(MALFORMED)?;
        let key = unescape(&self.rest[1..len - 1]).ok_or(BAD_ESCAPE)?;
        let behind = trim_start(&self.rest[len..]).strip_prefix(':').ok_or(MALFORMED)?;
        let (value, behind) = Value::parse(behind)?;
        self.rest = behind;
        self.is_behind_value = true;
        Ok(Some((key, value)))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Cow<'a, str>, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let entry = self.entry().transpose();
        self.is_done = !matches!(entry, Some(Ok(_)));
        entry
    }
}

pub(super) fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\n', '\r', '\t'])
}

/// Length of the string at the start of `text`, quotes included.
pub(super) fn string_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..)?) {
        at += found;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
    None
}

/// Length of the object or array at the start of `text`; of what is in it only strings and brackets of its own kind are looked at.
pub(super) fn block_len(text: &str, open: u8, close: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while let Some(found) = memchr::memchr3(b'"', open, close, bytes.get(at..)?) {
        at += found;
        match bytes[at] {
            b'"' => at += string_len(&text[at..])? - 1,
            byte if byte == open => depth += 1,
            _ => depth -= 1,
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The text without its escapes; `None` where one of them is none.
pub(super) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr::memchr(b'\\', raw.as_bytes()) else { return Some(Cow::Borrowed(raw)) };
    let (plain, mut rest) = raw.split_at(first);
    let mut out = String::with_capacity(raw.len());
    out.push_str(plain);
    while let Some(escape) = rest.strip_prefix('\\') {
        let (c, len) = match escape.as_bytes().first()? {
            b'u' => {
                let (c, len) = unicode_escape(rest)?;
                (c, len - 1)
            }
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            byte @ (b'"' | b'\\' | b'/') => (char::from(*byte), 1),
            _ => return None,
        };
        out.push(c);
        let behind = escape.get(len..)?;
        let next = memchr::memchr(b'\\', behind.as_bytes()).unwrap_or(behind.len());
        out.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    Some(Cow::Owned(out))
}

/// The character of `\u0041` or `\ud83d\ude00`, and how long that is.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let hex = |at: usize| {
        let digits = text.get(at..at + 4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = hex(2)?;
    if !(0xD800..0xE000).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = hex(8).filter(|second| *second >= 0xDC00)?;
    let code = (first.wrapping_sub(0xD800) << 10).wrapping_add(second - 0xDC00) + 0x1_0000;
    Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12))
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

    #[test]
    fn what_is_read_for_all_is_not_much_longer_than_the_line() {
        let kept = |leaves: usize| {
            let line = format!(r#"{{"{}":{{{}"b":1}}}}"#, "n".repeat(1_000), r#""a":1,"#.repeat(leaves));
            Fields::read(&line).map(|fields| fields.items.len())
        };
        assert_eq!(kept(10), Some(12));
        assert_eq!(kept(10_000), None);
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in r#"[{}\[\]":,a1\\ u\-.ntrfé]{0,40}"#) {
            let _ = values(&line);
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
}
