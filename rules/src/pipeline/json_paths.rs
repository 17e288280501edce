//! `| json method="request.method", first="items[0]"`: what stands at paths in the line, objects and arrays as their text.
//!
//! The line is scanned token by token, as Loki's parser does it: the first value at a path counts, and a line that is malformed
//! elsewhere is none the less read.

use std::borrow::Cow;

use super::Unsupported;
use super::extracted::{Sink, push_valid};
use super::json::{Entries, Kind, Malformed, Value, block_len, string_len, trim_start, unescape};
use crate::entry::LogEntry;
use crate::logql::ast::LabelExtraction;

/// The compiled stage.
#[derive(Debug)]
pub struct JsonPaths {
    paths: Vec<(String, Vec<Step>)>,
}

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl JsonPaths {
    /// Compiles the stage.
    pub fn compile(labels: &[LabelExtraction]) -> Result<Self, Unsupported> {
        let path = |label: &LabelExtraction| match parse_path(&label.expression) {
            Some(path) => Ok((label.name.clone(), path)),
            None => Err(Unsupported::new(label.span, format!("`{}` is no path into JSON", label.expression))),
        };
        Ok(Self { paths: labels.iter().map(path).collect::<Result<_, _>>()? })
    }

    pub(super) fn run<E: LogEntry>(&self, sink: &mut Sink<'_, '_, E>) -> bool {
        if sink.is_complete() {
            return true;
        }
        let Sink { record, pipeline, extracted } = sink;
        extracted.with_line(record, |line, extracted| {
            let mut sink = Sink { record, pipeline, extracted };
            match line.as_bytes().first() {
                None => {}
                Some(b'"' | b'{' | b'[') => self.scan(line, &mut sink),
                Some(_) => _ = sink.fail_parsing("JSONParserErr", None),
            }
        });
        true
    }

    fn scan<E: LogEntry>(&self, line: &str, sink: &mut Sink<'_, '_, E>) {
        let mut scan = Scan {
            paths: &self.paths,
            is_found: vec![false; self.paths.len()],
            matches: 0,
            keys: Vec::new(),
            level: 0,
            sink,
        };
        // Where the scan cannot go on, what it has found stays.
        let _ = scan.run(line);
        if scan.matches < self.paths.len() {
            for (name, _) in &self.paths {
                if sink.extracted.value(sink.record, name).is_none() {
                    sink.extracted.set(sink.pipeline, name, |_| {});
                }
            }
        }
    }
}

struct Scan<'p, 's, 'r, 'e, 'l, E> {
    paths: &'p [(String, Vec<Step>)],
    is_found: Vec<bool>,
    /// Values that were found and could be read.
    matches: usize,
    /// The keys that lead to where the scan is.
    keys: Vec<Cow<'l, str>>,
    level: usize,
    sink: &'s mut Sink<'r, 'e, E>,
}

impl<'l, E: LogEntry> Scan<'_, '_, '_, '_, 'l, E> {
    fn run(&mut self, line: &'l str) -> Option<()> {
        let mut at = 0;
        while let Some(found) = line[at..].find(['"', '{', '}', '[', ']']) {
            at += found;
            match line.as_bytes()[at] {
                b'"' => at = self.string(line, at)?,
                b'{' => self.level += 1,
                b'}' | b']' => self.level = self.level.checked_sub(1)?,
                _ => {
                    at = self.array(line, at)?;
                    continue;
                }
            }
            at += 1;
        }
        Some(())
    }

    /// At a string: where it is a key that ends paths, their value is read. Yields the last byte that is done with.
    fn string(&mut self, line: &'l str, at: usize) -> Option<usize> {
        let len = string_len(&line[at..])?;
        let behind = trim_start(&line[at + len..]);
        let Some(value) = behind.strip_prefix(':') else {
            return if behind.is_empty() { None } else { Some(at + len - 1) };
        };
        let key = unescape(&line[at + 1..at + len - 1])?;
        let Some(parents) = self.level.checked_sub(1) else {
            self.sink.fail_parsing("JSONParserErr", Some(Cow::Borrowed("Malformed JSON error")));
            return None;
        };
        self.keys.truncate(parents);
        self.keys.resize(parents, Cow::Borrowed(""));
        self.keys.push(key);
        for (index, (_, path)) in self.paths.iter().enumerate() {
            if !self.is_found[index] && path.len() == self.level && self.leads_to(path) {
                self.is_found[index] = true;
                self.take(index, Value::parse(value).map(|(value, _)| value));
            }
        }
        if self.is_found.iter().all(|found| *found) { None } else { Some(line.len() - value.len() - 1) }
    }

    /// At an array: takes the elements that paths ask for, else goes behind it.
    fn array(&mut self, line: &'l str, at: usize) -> Option<usize> {
        let level = self.level;
        let len = block_len(&line[at..], b'[', b']');
        let wanted: Vec<(usize, usize)> = self
            .paths
            .iter()
            .enumerate()
            .filter_map(|(index, (_, path))| {
                let Some(Step::Index(element)) = path.get(level) else { return None };
                (!self.is_found[index] && self.leads_to(&path[..level])).then_some((index, *element))
            })
            .collect();
        if !wanted.is_empty() {
            for (n, element) in elements(&line[at..]).enumerate() {
                for (index, _) in wanted.iter().filter(|(_, element)| *element == n) {
                    self.is_found[*index] = true;
                    if let Some(found) = descend(element, &self.paths[*index].1[level + 1..]) {
                        self.take(*index, found);
                    }
                }
            }
            if self.is_found.iter().all(|found| *found) {
                return None;
            }
        }
        Some(at + len?)
    }

    /// Whether the keys that lead here are those of the path.
    fn leads_to(&self, path: &[Step]) -> bool {
        path.iter().enumerate().all(|(at, step)| match (step, self.keys.get(at)) {
            (Step::Key(key), Some(other)) => key == other,
            _ => false,
        })
    }

    fn take(&mut self, index: usize, value: Result<Value<'_>, Malformed>) {
        let value = match value {
            Ok(value) => value,
            Err(Malformed(details)) => {
                self.sink.fail_parsing("JSONParserErr", Some(Cow::Borrowed(details)));
                return;
            }
        };
        self.sink.force(&self.paths[index].0, |out| match value.kind {
            Kind::Null => {}
            Kind::Object => out.push_str(value.raw),
            _ => push_valid(out, &unescape(value.raw).unwrap_or_default()),
        });
        self.matches += 1;
    }
}

/// The elements of the array that `text` begins with, as far as they are well formed.
fn elements(text: &str) -> impl Iterator<Item = Value<'_>> {
    let mut rest = trim_start(&text[1..]);
    std::iter::from_fn(move || {
        if rest.starts_with(']') {
            return None;
        }
        let (value, behind) = Value::parse(rest).ok()?;
        let behind = trim_start(behind);
        rest = behind.strip_prefix(',').unwrap_or(if behind.starts_with(']') { behind } else { "" });
        Some(value)
    })
}

/// What stands at a path in an element; `None` where there is nothing.
fn descend<'a>(mut value: Value<'a>, path: &[Step]) -> Option<Result<Value<'a>, Malformed>> {
    for step in path {
        value = match step {
            Step::Key(key) => {
                let mut entries = Entries::new(value.raw).ok().filter(|_| value.kind == Kind::Object)?.flatten();
                entries.find(|(name, _)| name == key)?.1
            }
            Step::Index(index) if value.kind == Kind::Array => elements(value.raw).nth(*index)?,
            Step::Index(_) => return None,
        };
    }
    Some(Ok(value))
}

/// `a.b[0]["c d"]`; `None` where it is no path.
pub(crate) fn parse_path(text: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), trim_blank(text));
    while !rest.is_empty() {
        let (step, behind) = match rest.strip_prefix('[') {
            Some(inside) => bracket(trim_blank(inside))?,
            None if steps.is_empty() => field(rest)?,
            None => field(trim_blank(rest.strip_prefix('.')?))?,
        };
        steps.push(step);
        rest = trim_blank(behind);
    }
    (!steps.is_empty()).then_some(steps)
}

/// `0]` or `"key"]`, and what stands behind.
fn bracket(text: &str) -> Option<(Step, &str)> {
    let (step, behind) = match text.strip_prefix('"') {
        Some(quoted) => {
            let (key, behind) = quoted.split_once('"')?;
            (Step::Key(key.to_owned()), behind)
        }
        None => {
            let len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            (Step::Index(text[..len].parse().ok()?), &text[len..])
        }
    };
    Some((step, trim_blank(behind).strip_prefix(']')?))
}

fn field(text: &str) -> Option<(Step, &str)> {
    let len = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (name, behind) = text.split_at(len);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| (Step::Key(name.to_owned()), behind))
}

fn trim_blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(parse_path(r#" a.b [ 0 ] ["c d"]"#), Some(vec![key("a"), key("b"), Step::Index(0), key("c d")]));
        assert_eq!(parse_path("[1]"), Some(vec![Step::Index(1)]));
        for wrong in ["", "a..b", "a[x]", "a[", "a[-1]", "1a", "a b", "a-b", "a[1.5]"] {
            assert_eq!(parse_path(wrong), None, "{wrong}");
        }
    }
}
