//! Lines for people, and logfmt.

use std::fmt::{self, Write};

use opentelemetry::trace::{SpanId, TraceId};
use tracing_core::Level;

use crate::one_line::OneLine;
use crate::view::{Record, Value};

pub(super) fn put_pretty(out: &mut String, record: &Record<'_>, colors: bool) {
    let (dim, reset) = if colors { (DIM, RESET) } else { ("", "") };
    let level = if colors { color(record.level()) } else { "" };
    let time = Utc { nanos: record.time_unix_nano(), digits: 3 };
    put(out, format_args!("{dim}{time}{reset} {level}{:>5}{reset} {dim}", record.severity_text()));
    put_text(out, record.target());
    put(out, format_args!(":{reset} "));
    put_text(out, &record.message());
    put_fields(out, record, dim, reset);
    if record.trace_id() != TraceId::INVALID {
        put(out, format_args!(" {dim}trace_id={}{reset}", record.trace_id()));
    }
}

pub(super) fn put_compact(out: &mut String, record: &Record<'_>, colors: bool) {
    let (dim, reset) = if colors { (DIM, RESET) } else { ("", "") };
    let level = if colors { color(record.level()) } else { "" };
    let time = Utc { nanos: record.time_unix_nano(), digits: 3 }.to_string();
    let letter = record.severity_text().chars().next().unwrap_or('?');
    put(out, format_args!("{dim}{}{reset} {level}{letter}{reset} ", &time["2026-11-24T".len()..time.len() - 1]));
    put_text(out, &record.message());
    put_fields(out, record, dim, reset);
}

pub(super) fn put_logfmt(out: &mut String, record: &Record<'_>) {
    let time = Utc { nanos: record.time_unix_nano(), digits: 9 };
    let level = record.severity_text().to_ascii_lowercase();
    put(out, format_args!("time={time} level={level} target={} msg=", Quoted(record.target())));
    put(out, format_args!("{}", Quoted(&record.message())));
    for (key, value) in record.attributes() {
        put_field(out, key, value);
    }
    if record.trace_id() != TraceId::INVALID {
        put(out, format_args!(" trace_id={}", record.trace_id()));
    }
    if record.span_id() != SpanId::INVALID {
        put(out, format_args!(" span_id={}", record.span_id()));
    }
}

/// The attributes, but for the place in the code and for what of an exception another attribute tells already.
pub(super) fn put_fields(out: &mut String, record: &Record<'_>, dim: &str, reset: &str) {
    let exception = record.attribute("exception.message").and_then(|value| value.as_str());
    let is_told = exception.is_some_and(|exception| is_told(record, exception));
    for (key, value) in record.attributes() {
        let is_place = matches!(key, "code.file.path" | "code.line.number");
        let is_for_machines = key.starts_with("watchbell.exception.");
        if !(is_place || is_for_machines || is_told && key.starts_with("exception.")) {
            out.push(' ');
            put(out, format_args!("{dim}"));
            put_key(out, key);
            put(out, format_args!("={reset}"));
            put_value(out, value);
        }
    }
}

fn is_told(record: &Record<'_>, exception: &str) -> bool {
    let mut others = record.attributes().filter(|(key, _)| !key.contains("exception."));
    record.message() == exception
        || others.any(|(_, value)| value.as_str().is_some_and(|text| text.starts_with(exception)))
}

fn put_field(out: &mut String, key: &str, value: Value<'_>) {
    out.push(' ');
    put_key(out, key);
    out.push('=');
    put_value(out, value);
}

/// A key may be anything, since it may come from anywhere: what would make two of it is replaced.
fn put_key(out: &mut String, key: &str) {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '=' | '"');
    let key = if key.is_empty() { "_" } else { key };
    out.extend(key.chars().map(|c| if is_odd(c) { '_' } else { c }));
}

fn put_value(out: &mut String, value: Value<'_>) {
    match value {
        Value::String(text) => put(out, format_args!("{}", Quoted(text))),
        other => put(out, format_args!("{other}")),
    }
}

/// Appends a text on one line.
pub(super) fn put_text(out: &mut String, text: &str) {
    let _ = OneLine(out).write_str(text); // a string takes all that is written
}

fn put(out: &mut String, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // as above
}

/// A text in quotes, if it needs them to be one value.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '=' | '"' | '\\');
        let Self(text) = self;
        if text.is_empty() || text.contains(is_odd) { write!(f, "{text:?}") } else { f.write_str(text) }
    }
}

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// A time as RFC 3339 in UTC, with so many digits of the second's fraction, 9 at most.
pub(in crate::sink) struct Utc {
    pub(in crate::sink) nanos: u64,
    pub(in crate::sink) digits: usize,
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.nanos / 1_000_000_000, self.nanos % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (digits, fraction) = (self.digits, nanos / 10u64.pow(9 - self.digits as u32));
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if digits > 0 {
            write!(f, ".{fraction:0digits$}")?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day of a day since 1970, by Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // days since 0000-03-01, where each era of 400 years begins
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let utc = |seconds: u64, millis: u64| {
            Utc { nanos: seconds * 1_000_000_000 + millis * 1_000_000, digits: 3 }.to_string()
        };
        assert_eq!(utc(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(utc(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_523_696, 999), "2026-11-24T12:34:56.999Z");
    }
}
