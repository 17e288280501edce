//! `detected_level`, found as Loki finds it: in a label, in the severity number, or in the line.

use std::borrow::Cow;

use super::OtlpEntry;
use crate::entry::LogEntry;
use crate::pipeline::{json, logfmt};

/// The level of a record: `unknown` where nothing says it.
pub(super) fn detected<'e>(entry: &OtlpEntry<'e, '_>) -> Cow<'e, str> {
    let given = entry.given_metadata("detected_level");
    let index = || LEVEL_LABELS.iter().find_map(|name| entry.resource.index(name)).map(Cow::Borrowed);
    let metadata = || LEVEL_LABELS.iter().find_map(|name| entry.first_metadata(name)).map(|value| value.into_text());
    match given.map(|value| value.into_text()).or_else(index).or_else(metadata) {
        Some(text) => canonical(&text).map_or(text, Cow::Borrowed),
        None => Cow::Borrowed(by_number(entry).unwrap_or_else(|| in_line(&entry.line()))),
    }
}

/// By the label `severity_number`, which an attribute can give too; one that is no number means `info`.
fn by_number(entry: &OtlpEntry<'_, '_>) -> Option<&'static str> {
    let number = entry.first_metadata("severity_number")?.into_text();
    if number.is_empty() {
        return None;
    }
    Some(match number.parse::<i64>() {
        Ok(0) => "unknown",
        Ok(i64::MIN..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) | Err(_) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
        Ok(_) => "unknown",
    })
}

fn in_line(line: &str) -> &'static str {
    let trimmed = line.trim();
    let field = if trimmed.starts_with('{') && trimmed.ends_with('}') {
        json_field(line)
    } else if line.contains('=') {
        logfmt_field(line)
    } else {
        None
    };
    field.and_then(|level| canonical(&level)).unwrap_or_else(|| word_in_line(line))
}

/// The first string under one of the names, in the object or in one that it holds.
fn json_field(line: &str) -> Option<String> {
    let mut found = None;
    // A malformed line has said what it could before it went wrong.
    let _ = json::for_each_value(line, &mut |path, value| {
        let named = path.len() <= 2 && path.last().is_some_and(|key| LEVEL_LABELS.contains(&&**key));
        if found.is_none() && named && value.kind == json::Kind::String {
            found = Some(value.text().into_owned());
        }
    });
    found
}

fn logfmt_field(line: &str) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for (key, value) in logfmt::Pairs::new(line).flatten() {
        let rank = LEVEL_LABELS.iter().position(|name| name.eq_ignore_ascii_case(key));
        if let Some(rank) = rank.filter(|rank| best.as_ref().is_none_or(|(other, _)| rank < other)) {
            best = Some((rank, value.into_owned()));
        }
    }
    best.map(|(_, value)| value)
}

/// The word for a level that stands first in the line.
fn word_in_line(line: &str) -> &'static str {
    let line = line.to_lowercase();
    let found = WORDS.iter().filter_map(|(word, level)| Some((whole_word(&line, word)?, *level)));
    found.min_by_key(|(at, _)| *at).map_or("unknown", |(_, level)| level)
}

fn whole_word(line: &str, word: &str) -> Option<usize> {
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = at.checked_sub(1).map(|at| line.as_bytes()[at]);
        let after = line.as_bytes().get(at + word.len());
        before.is_none_or(|byte| b" \t\n[({\"'=|".contains(&byte))
            && after.is_none_or(|byte| b" \t\n[](){}:,!\"'=|".contains(byte))
    })
}

fn canonical(level: &str) -> Option<&'static str> {
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(level));
    LEVELS.iter().find(|(_, names)| is(names)).map(|(level, _)| *level)
}

const LEVELS: &[(&str, &[&str])] = &[
    ("trace", &["trace", "trc"]),
    ("debug", &["debug", "dbg"]),
    ("info", &["info", "inf", "information"]),
    ("warn", &["warn", "wrn", "warning"]),
    ("error", &["error", "err"]),
    ("critical", &["critical"]),
    ("fatal", &["fatal"]),
];

/// Of words at the same place the earlier one here counts.
const WORDS: &[(&str, &str)] = &[
    ("trace", "trace"),
    ("debug", "debug"),
    ("fatal", "fatal"),
    ("critical", "critical"),
    ("error", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("info", "info"),
];

/// As in Loki's `validation.log-level-fields`.
const LEVEL_LABELS: &[&str] = &[
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

#[cfg(test)]
mod tests {
    use super::in_line;

    #[test]
    fn levels_are_found_in_lines() {
        for (line, level) in [
            ("panic: error while reading", "error"),
            ("misc:error is no word", "unknown"),
            ("INFO: starting, no errors", "info"),
            ("[warn] disk, then error", "warn"),
            (r#"{"lvl": "WARNING", "msg": "error"}"#, "warn"),
            (r#"{"log": {"level": "fatal"}}"#, "fatal"),
            (r#"{"a": {"b": {"level": "dbg"}}}"#, "unknown"),
            ("ts=1 level=dbg msg=\"an error\"", "debug"),
            ("ts=1 msg=\"an error\"", "error"),
            ("", "unknown"),
        ] {
            assert_eq!(in_line(line), level, "{line}");
        }
    }
}
