//! `{time} {level:5} {message}`: a pattern of one's own.

use std::fmt::Write;

use opentelemetry::trace::{SpanId, TraceId};

use super::text::{Quoted, Utc, put_fields, put_text};
use crate::meant::meant;
use crate::view::{Record, Value};

pub(super) struct Pattern(Vec<Part>);

enum Part {
    Text(String),
    Item { item: Item, width: usize, is_right: bool },
}

enum Item {
    Time,
    Level,
    Target,
    Message,
    Fields,
    TraceId,
    SpanId,
    Event,
    Attribute(String),
}

/// Names that stand for something, with it.
const NAMES: [&str; 12] = [
    "time", "level", "target", "module", "message", "fields", "file", "line", "thread", "trace_id", "span_id", "event",
];

impl Item {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "time" => Self::Time,
            "level" => Self::Level,
            "target" | "module" => Self::Target,
            "message" => Self::Message,
            "fields" => Self::Fields,
            "trace_id" => Self::TraceId,
            "span_id" => Self::SpanId,
            "event" => Self::Event,
            "file" => Self::Attribute("code.file.path".to_owned()),
            "line" => Self::Attribute("code.line.number".to_owned()),
            "thread" => Self::Attribute("thread.name".to_owned()),
            _ => Self::Attribute(name.strip_prefix("field.").filter(|key| !key.is_empty())?.to_owned()),
        })
    }

    fn put(&self, out: &mut String, record: &Record<'_>) {
        match self {
            Self::Time => put(out, Utc { nanos: record.time_unix_nano(), digits: 3 }),
            Self::Level => put_text(out, record.severity_text()),
            Self::Target => put_text(out, record.target()),
            Self::Message => put_text(out, &record.message()),
            Self::Fields => {
                let before = out.len();
                put_fields(out, record, "", "");
                if out[before..].starts_with(' ') {
                    out.remove(before);
                }
            }
            Self::TraceId if record.trace_id() != TraceId::INVALID => put(out, record.trace_id()),
            Self::SpanId if record.span_id() != SpanId::INVALID => put(out, record.span_id()),
            Self::Event => put_text(out, record.event_name().unwrap_or_default()),
            Self::TraceId | Self::SpanId => {}
            Self::Attribute(key) => match record.attribute(key) {
                Some(Value::String(text)) => put(out, Quoted(text)),
                Some(value) => put(out, value),
                None => {}
            },
        }
    }
}

impl Pattern {
    /// The error shows the pattern, and where in it the mistake is.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        let at = |rest: &str| pattern.len() - rest.len();
        while !rest.is_empty() {
            let plain = rest.find(['{', '}']).unwrap_or(rest.len());
            push_text(&mut parts, &rest[..plain]);
            rest = &rest[plain..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                push_text(&mut parts, &rest[..1]);
                rest = after;
            } else if rest.starts_with('}') {
                return Err(shown(pattern, at(rest), 1, "`}` closes nothing; write `}}` for a brace"));
            } else if let Some(inner) = rest.strip_prefix('{') {
                let Some(end) = inner.find('}') else {
                    return Err(shown(pattern, at(rest), 1, "`{` is not closed; write `{{` for a brace"));
                };
                let part = item(&inner[..end]).map_err(|error| shown(pattern, at(rest), end + 2, &error))?;
                parts.push(part);
                rest = &inner[end + 1..];
            }
        }
        Ok(Self(parts))
    }

    pub(super) fn put(&self, out: &mut String, record: &Record<'_>) {
        let mut has_blank = false;
        for part in &self.0 {
            match part {
                Part::Text(text) => {
                    out.push_str(text);
                    has_blank = text.ends_with(' ');
                }
                Part::Item { item, width, is_right } => {
                    let before = out.len();
                    item.put(out, record);
                    if std::mem::take(&mut has_blank)
                        && matches!(item, Item::Fields)
                        && out.len() == before
                        && *width == 0
                    {
                        out.pop(); // what would have set them apart
                        continue;
                    }
                    let missing = width.saturating_sub(out[before..].chars().count());
                    let at = if *is_right { before } else { out.len() };
                    out.insert_str(at, &" ".repeat(missing));
                }
            }
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn item(inner: &str) -> Result<Part, String> {
    let (name, spec) = inner.split_once(':').unwrap_or((inner, ""));
    let (digits, is_right) = match spec.strip_prefix('>') {
        Some(digits) => (digits, true),
        None => (spec.strip_prefix('<').unwrap_or(spec), false),
    };
    let width = if digits.is_empty() { Ok(0) } else { digits.parse::<u16>() };
    let width = width.map_err(|_| format!("`{spec}` is not a width; write `5` or `>5`"))?;
    let item = Item::named(name).ok_or_else(|| {
        let near = meant(name, NAMES, 2);
        let hint = near.map_or_else(
            || format!("write one of `{}` or `field.KEY`", NAMES.join("`, `")),
            |near| format!("did you mean `{near}`?"),
        );
        format!("`{name}` is not known in a pattern; {hint}")
    })?;
    Ok(Part::Item { item, width: usize::from(width), is_right })
}

fn shown(pattern: &str, at: usize, len: usize, error: &str) -> String {
    let indent = pattern[..at].chars().count();
    let carets = pattern[at..at + len].chars().count();
    format!("{error}\n    {pattern}\n    {}{}", " ".repeat(indent), "^".repeat(carets))
}

fn put(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}"); // a string takes all that is written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_shown() {
        let error = |pattern| Pattern::parse(pattern).err().unwrap();
        assert_eq!(error("é {time"), "`{` is not closed; write `{{` for a brace\n    é {time\n      ^");
        assert_eq!(error("a}b"), "`}` closes nothing; write `}}` for a brace\n    a}b\n     ^");
        assert!(error("{level:x}").starts_with("`x` is not a width"));
        assert!(error("{lvl}").contains("did you mean `level`?"));
        assert!(error("{}").contains("write one of"));
        assert!(error("{field.}").contains("is not known"));
    }
}
