//! Values as text, printed as OpenTelemetry's `AsString` prints them, which is what Loki stores.

use std::borrow::Cow;
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
        value @ (AnyValue::Array(_) | AnyValue::KeyValueList(_)) => Cow::Owned(json(value).to_string()),
    })
}

/// A map's keys come out sorted, as Go prints a map.
fn json(value: AnyValue<'_>) -> serde_json::Value {
    match value {
        AnyValue::Array(values) => values.map(json).collect(),
        AnyValue::KeyValueList(entries) => {
            entries.map(|entry| (entry.key().to_owned(), json(entry.value()))).collect::<serde_json::Map<_, _>>().into()
        }
        AnyValue::String(text) => text.into(),
        AnyValue::Bool(value) => value.into(),
        AnyValue::Int(number) => number.into(),
        AnyValue::Double(number) if number.fract() == 0.0 && number.abs() < 1e15 => (number as i64).into(),
        AnyValue::Double(number) => number.into(),
        AnyValue::Bytes(bytes) => BASE64.encode(bytes).into(),
        AnyValue::Empty => serde_json::Value::Null,
        AnyValue::StringIndex(index) => index.into(),
    }
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
