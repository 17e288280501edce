//! Values as text, printed as OpenTelemetry's `AsString` prints them, which is what Loki stores.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use watchbell_proto::otlp::common::{AnyValue, KeyValue};
use watchbell_proto::otlp::logs::LogRecord;

use crate::entry::LabelValue;

/// The body as a line; a body that is no string is printed, maps and arrays as JSON.
pub fn body_line<'a>(record: &LogRecord<'a>) -> Cow<'a, str> {
    record.body().map_or(Cow::Borrowed(""), |body| label_value(body).into_text())
}

/// An attribute's value as text.
pub fn attribute_text<'a>(attribute: KeyValue<'a>) -> Cow<'a, str> {
    label_value(attribute.value()).into_text()
}

/// OpenTelemetry's short name of a severity number: `ERROR`, `WARN2`; empty for 0 and for what is no severity.
pub fn severity_name(number: i32) -> &'static str {
    usize::try_from(number).ok().and_then(|number| SEVERITY_NAMES.get(number)).copied().unwrap_or_default()
}

pub(super) fn label_value(value: AnyValue<'_>) -> LabelValue<'_> {
    LabelValue::Text(match value {
        AnyValue::String(text) => Cow::Borrowed(text),
        AnyValue::Int(number) => return LabelValue::Int(number),
        AnyValue::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        AnyValue::Empty => Cow::Borrowed(""),
        AnyValue::Double(number) => Cow::Owned(float(number)),
        AnyValue::Bytes(bytes) => Cow::Owned(BASE64.encode(bytes)),
        AnyValue::StringIndex(index) => return LabelValue::Int(i64::from(index)),
        value @ (AnyValue::Array(_) | AnyValue::KeyValueList(_)) => Cow::Owned(json(value)),
    })
}

/// A map or an array as Go's `encoding/json` prints it; nothing where it holds a number that JSON has not.
fn json(value: AnyValue<'_>) -> String {
    let mut text = String::new();
    if put_json(&mut text, value) { text } else { String::new() }
}

/// Tells whether the value could be printed.
fn put_json(out: &mut String, value: AnyValue<'_>) -> bool {
    match value {
        AnyValue::Array(values) => put_list(out, ['[', ']'], values, put_json),
        AnyValue::KeyValueList(entries) => {
            // Sorted, and the last of equal keys counts.
            let entries: BTreeMap<_, _> = entries.map(|entry| (entry.key(), entry.value())).collect();
            put_list(out, ['{', '}'], entries, |out, (key, value)| {
                put_json_string(out, key);
                out.push(':');
                put_json(out, value)
            })
        }
        AnyValue::Double(number) if !number.is_finite() => false,
        AnyValue::Empty | AnyValue::Bytes(b"") => put(out, "null"),
        AnyValue::Double(number) => put(out, &float(number)),
        AnyValue::Bool(value) => put(out, if value { "true" } else { "false" }),
        AnyValue::Int(number) => put(out, &number.to_string()),
        AnyValue::StringIndex(index) => put(out, &index.to_string()),
        AnyValue::String(text) => put_json_string(out, text),
        AnyValue::Bytes(bytes) => put_json_string(out, &BASE64.encode(bytes)),
    }
}

fn put_list<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    put_item: impl Fn(&mut String, T) -> bool,
) -> bool {
    out.push(open);
    let mut all = true;
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        all &= put_item(out, item);
    }
    out.push(close);
    all
}

/// Go escapes the two line separators that JavaScript once did not allow in a string.
fn put_json_string(out: &mut String, text: &str) -> bool {
    let quoted = serde_json::Value::from(text).to_string();
    put(out, &quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

fn put(out: &mut String, text: &str) -> bool {
    out.push_str(text);
    true
}

/// A number as JavaScript prints it.
fn float(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let mut text = String::new();
        let _ = write!(text, "{number:e}"); // writing to a string cannot fail
        if size >= 1e21 { text.replace('e', "e+") } else { text }
    } else {
        number.to_string()
    }
}

const SEVERITY_NAMES: [&str; 25] = [
    "", "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4", "INFO", "INFO2", "INFO3",
    "INFO4", "WARN", "WARN2", "WARN3", "WARN4", "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2", "FATAL3",
    "FATAL4",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_loki_stores_them() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1e6, "1000000"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e21, "1.5e+21"),
            (123456789.125, "123456789.125"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}
