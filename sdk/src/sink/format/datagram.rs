//! A record as a message: for syslog by RFC 5424, and for systemd's journal by its native protocol.

use std::io::Write;
use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId};

use super::text::Utc;
use super::{of_resource, syslog_severity};
use crate::limits::beginning;
use crate::view::{Record, Value};

/// `<14>1 2026-11-24T12:34:56.789012Z till-1 checkout 17 - [otel@32473 order_id="17"] order placed`; no text of it has more bytes than `bytes_max`.
pub(crate) fn put_syslog(out: &mut Vec<u8>, record: &Record<'_>, resource: &[KeyValue], bytes_max: usize) {
    const FACILITY_USER: u8 = 1;
    let priority = FACILITY_USER * 8 + syslog_severity(record);
    let time = Utc { nanos: record.time_unix_nano(), digits: 6 };
    let header = |text: Option<String>, max| printable(&text.unwrap_or_default(), max);
    let host = header(host_name(resource), 255);
    let service = header(of_resource(resource, "service.name"), 48);
    let event = header(record.event_name().map(str::to_owned), 32);
    put(out, format_args!("<{priority}>1 {time} {host} {service} {} {event} [otel@32473", std::process::id()));
    put_parameter(out, "target", record.target());
    if record.trace_id() != TraceId::INVALID {
        put_parameter(out, "trace_id", &record.trace_id().to_string());
        put_parameter(out, "span_id", &record.span_id().to_string());
    }
    record.attributes().for_each(|(key, value)| put_parameter(out, key, beginning(&value.to_string(), bytes_max)));
    out.extend_from_slice(b"] ");
    put_one_line(out, beginning(&record.message(), bytes_max));
}

fn host_name(resource: &[KeyValue]) -> Option<String> {
    static OF_MACHINE: LazyLock<Option<String>> =
        LazyLock::new(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let known = || OF_MACHINE.clone();
    of_resource(resource, "host.name").or_else(known).map(|name| name.trim().to_owned())
}

/// A part of the head: printable, without blanks, of limited length; `-` where there is none.
fn printable(text: &str, max: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(max).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

fn put_parameter(out: &mut Vec<u8>, key: &str, value: &str) {
    let is_allowed = |c: &char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    let name: String = key.chars().map(|c| if is_allowed(&c) { c } else { '_' }).take(32).collect();
    put(out, format_args!(" {name}=\""));
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    put_one_line(out, &escaped);
    out.push(b'"');
}

/// Daemons split at newlines, and show what is in a message.
fn put_one_line(out: &mut Vec<u8>, text: &str) {
    let mut line = String::new();
    super::text::put_text(&mut line, text);
    out.extend_from_slice(line.as_bytes());
}

#[cfg_attr(not(unix), expect(dead_code))]
/// `MESSAGE=order placed`, `PRIORITY=6`, `ORDER_ID=17`, a line each; no text of it has more bytes than `bytes_max`.
pub(crate) fn put_journal_entry(out: &mut Vec<u8>, record: &Record<'_>, resource: &[KeyValue], bytes_max: usize) {
    let put_entry_field = |out: &mut Vec<u8>, name: &str, text: &str| {
        put_entry_field(out, name, beginning(text, bytes_max));
    };
    put_entry_field(out, "MESSAGE", &record.message());
    put_entry_field(out, "PRIORITY", &syslog_severity(record).to_string());
    if let Some(service) = of_resource(resource, "service.name") {
        put_entry_field(out, "SYSLOG_IDENTIFIER", &service);
    }
    put_entry_field(out, "TARGET", record.target());
    if record.trace_id() != TraceId::INVALID {
        put_entry_field(out, "TRACE_ID", &record.trace_id().to_string());
    }
    if record.span_id() != SpanId::INVALID {
        put_entry_field(out, "SPAN_ID", &record.span_id().to_string());
    }
    for (key, value) in record.attributes() {
        match (key, value) {
            ("code.file.path", value) => put_entry_field(out, "CODE_FILE", &value.to_string()),
            ("code.line.number", value) => put_entry_field(out, "CODE_LINE", &value.to_string()),
            (key, Value::String(text)) => put_entry_field(out, &journal_name(key), text),
            (key, value) => put_entry_field(out, &journal_name(key), &value.to_string()),
        }
    }
}

/// Upper-case letters, digits and underscores, beginning with a letter, at most 64; one of the names above gets `F_` before it.
fn journal_name(key: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = key.chars().map(upper).collect();
    let name = name.trim_start_matches('_');
    let is_taken = matches!(name, "MESSAGE" | "PRIORITY" | "SYSLOG_IDENTIFIER" | "TARGET" | "TRACE_ID" | "SPAN_ID");
    let is_odd = name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty();
    let name = if is_taken || is_odd { format!("F_{name}") } else { name.to_owned() };
    name.chars().take(64).collect()
}

fn put_entry_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // a vector takes all that is written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_journal() {
        for (key, name) in
            [("order.id", "ORDER_ID"), ("_x", "X"), ("7up", "F_7UP"), ("message", "F_MESSAGE"), ("é", "F_")]
        {
            assert_eq!(journal_name(key), name);
        }
        assert_eq!(journal_name(&"a".repeat(70)).len(), 64);
    }
}
