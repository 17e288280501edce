//! `| pattern "<ip> - <_> <path>"`, and the patterns of the line filters `|>` and `!>`.

use memchr::memmem::Finder;

use super::Unsupported;
use super::extracted::Sink;
use crate::entry::LogEntry;
use crate::logql::ast::StringArg;

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// `<name>`, or `<_>`
    Capture(&'a str),
    /// What must stand there.
    Literal(&'a str),
}

impl<'a> Part<'a> {
    /// The name of a capture that is kept.
    pub(crate) fn name(&self) -> Option<&'a str> {
        match self {
            Self::Capture(name) if *name != "_" => Some(name),
            _ => None,
        }
    }
}

/// The pieces of a pattern; what is no `<name>` is literal.
pub(crate) fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < pattern.len() {
        let Some(name) = capture_name(&pattern[at..]) else {
            at += pattern[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if start < at {
            parts.push(Part::Literal(&pattern[start..at]));
        }
        parts.push(Part::Capture(name));
        at += name.len() + 2;
        start = at;
    }
    if start < at {
        parts.push(Part::Literal(&pattern[start..]));
    }
    parts
}

/// The name of a `<name>` at the start.
fn capture_name(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('<')?.split_once('>')?;
    let is_name = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    (is_name && name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())).then_some(name)
}

/// The compiled stage.
#[derive(Debug)]
pub struct PatternStage {
    /// What the line begins with.
    start: String,
    captures: Vec<Capture>,
}

/// A capture, and the text that ends it: the rest of the line where there is none.
#[derive(Debug)]
struct Capture {
    name: Option<String>,
    end: Option<Finder<'static>>,
}

impl PatternStage {
    /// Compiles the stage.
    pub fn compile(pattern: &StringArg) -> Result<Self, Unsupported> {
        let mut stage = Self { start: String::new(), captures: Vec::new() };
        for part in parts(&pattern.text) {
            match (part, stage.captures.last_mut()) {
                (Part::Capture(_), Some(Capture { end: None, .. })) => {
                    let message = "the pattern has two captures with nothing between them";
                    return Err(Unsupported::new(pattern.span, message));
                }
                (Part::Capture(_), _) => {
                    stage.captures.push(Capture { name: part.name().map(String::from), end: None });
                }
                (Part::Literal(text), None) => stage.start = text.to_owned(),
                (Part::Literal(text), Some(capture)) => capture.end = Some(Finder::new(text).into_owned()),
            }
        }
        Ok(stage)
    }

    pub(super) fn run<E: LogEntry>(&self, sink: &mut Sink<'_, '_, E>) -> bool {
        if sink.is_complete() {
            return true;
        }
        let Sink { record, pipeline, extracted } = sink;
        extracted.with_line(record, |line, extracted| {
            let mut sink = Sink { record, pipeline, extracted };
            self.captured(line, &mut |name, value| sink.add(name, |out| out.push_str(value)).is_ok())
        })
    }

    /// Visits what is captured until `visit` says no, and yields what it said. Where the text behind a capture is missing, the
    /// capture takes the rest of the line and is the last.
    fn captured(&self, line: &str, visit: &mut dyn FnMut(&str, &str) -> bool) -> bool {
        let Some(mut rest) = line.strip_prefix(&self.start).filter(|_| !line.is_empty()) else { return true };
        for Capture { name, end } in &self.captures {
            let found = end.as_ref().and_then(|end| Some((end.find(rest.as_bytes())?, end.needle().len())));
            let (value, behind) = match found {
                Some((at, len)) => (&rest[..at], Some(&rest[at + len..])),
                None => (rest, None),
            };
            if let Some(name) = name
                && !visit(name, value)
            {
                return false;
            }
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        true
    }
}

/// A pattern that a whole line must follow, each `<_>` of it standing for something.
#[derive(Debug)]
pub(super) struct LinePattern {
    literals: Vec<Finder<'static>>,
    starts_with_literal: bool,
    ends_with_capture: bool,
}

impl LinePattern {
    pub(super) fn new(pattern: &str) -> Self {
        let parts = parts(pattern);
        let literals = parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(Finder::new(text).into_owned()),
            Part::Capture(_) => None,
        });
        Self {
            literals: literals.collect(),
            starts_with_literal: matches!(parts.first(), Some(Part::Literal(_))),
            ends_with_capture: matches!(parts.last(), Some(Part::Capture(_))),
        }
    }

    /// As in Loki, text before a pattern that starts with text is not minded.
    pub(super) fn matches(&self, line: &str) -> bool {
        if self.literals.is_empty() && !self.ends_with_capture {
            return line.is_empty();
        }
        let mut rest = line.as_bytes();
        for (at, literal) in self.literals.iter().enumerate() {
            let Some(found) = literal.find(rest) else { return false };
            if found == 0 && (at > 0 || !self.starts_with_literal) {
                return false;
            }
            rest = &rest[found + literal.needle().len()..];
        }
        !line.is_empty() && self.ends_with_capture != rest.is_empty()
    }

    /// The longest text that a matching line holds.
    pub(super) fn literal(&self) -> Option<String> {
        let longest = self.literals.iter().max_by_key(|literal| literal.needle().len())?;
        String::from_utf8(longest.needle().to_vec()).ok()
    }
}
