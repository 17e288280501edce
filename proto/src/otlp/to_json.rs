//! OTLP/JSON out of protobuf, by the tables of `schema`.
//!
//! It is what the specification says of JSON: names in lower camel case, ids in hex, other bytes in base64, integers of 64 bits as strings, enums as
//! numbers. Fields that OTLP does not have are left out, and so is what is not protobuf.

use std::fmt::Write;

use super::Signal;
use super::schema::{Field, Kind, Label, Message};
use crate::wire::{Fields, NESTING_DEPTH_MAX, Reader, Value};

/// A request as OTLP/JSON; the reverse of [`to_protobuf`](super::json::to_protobuf).
pub fn to_json(signal: Signal, request: &[u8]) -> String {
    let mut out = String::with_capacity(3 * request.len());
    put_message(&mut out, Message::request(signal), request, NESTING_DEPTH_MAX);
    out
}

fn put_message(out: &mut String, message: &'static Message, raw: &[u8], depth_left: u32) {
    out.push('{');
    let mut is_first = true;
    let is_oneof = |number| message.field(number).is_some_and(|field| field.label == Label::Oneof);
    let chosen = Fields::new(raw).map(|(number, _)| number).filter(|number| is_oneof(*number)).last();
    for field in message.fields {
        if field.label == Label::Oneof && chosen != Some(field.number) {
            continue;
        }
        let mut values =
            Fields::new(raw).filter(|(number, _)| *number == field.number).map(|(_, value)| value).peekable();
        if values.peek().is_none() || depth_left == 0 {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        put_name(out, field.name);
        match field.label {
            Label::Many => put_all(out, field, values, depth_left - 1),
            Label::One | Label::Oneof => {
                if let Some(value) = values.last() {
                    put_value(out, field.kind, value, depth_left - 1);
                }
            }
        }
    }
    out.push('}');
}

/// `time_unix_nano` as `"timeUnixNano":`.
fn put_name(out: &mut String, name: &str) {
    out.push('"');
    let mut is_upper = false;
    for letter in name.chars() {
        match letter {
            '_' => is_upper = true,
            _ if std::mem::take(&mut is_upper) => out.push(letter.to_ascii_uppercase()),
            _ => out.push(letter),
        }
    }
    out.push_str("\":");
}

fn put_all<'a>(out: &mut String, field: &Field, values: impl Iterator<Item = Value<'a>>, depth_left: u32) {
    out.push('[');
    let mut is_first = true;
    let mut put = |value| {
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        put_value(out, field.kind, value, depth_left);
    };
    for value in values {
        match value {
            Value::Bytes(packed) if is_number(field.kind) => unpacked(field.kind, packed).for_each(&mut put),
            value => put(value),
        }
    }
    out.push(']');
}

fn is_number(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Id | Kind::Message(_))
}

fn unpacked(kind: Kind, packed: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut reader = Reader::new(packed);
    std::iter::from_fn(move || {
        if reader.rest().is_empty() {
            return None;
        }
        match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => reader.fixed64().ok().map(Value::Fixed64),
            Kind::Fixed32 => reader.fixed32().ok().map(Value::Fixed32),
            _ => reader.varint().ok().map(Value::Varint),
        }
    })
}

fn put_value(out: &mut String, kind: Kind, value: Value<'_>, depth_left: u32) {
    let written = match (kind, value) {
        (Kind::Message(message), Value::Bytes(raw)) => {
            put_message(out, message, raw, depth_left);
            Ok(())
        }
        (Kind::String, Value::Bytes(text)) => {
            put_text(out, &String::from_utf8_lossy(text));
            Ok(())
        }
        (Kind::Id, Value::Bytes(id)) => {
            out.push('"');
            id.iter().try_for_each(|byte| write!(out, "{byte:02x}")).map(|()| out.push('"'))
        }
        (Kind::Bytes, Value::Bytes(bytes)) => {
            put_base64(out, bytes);
            Ok(())
        }
        (Kind::Double, Value::Fixed64(bits)) => put_double(out, f64::from_bits(bits)),
        (Kind::Fixed64, Value::Fixed64(number)) => write!(out, "\"{number}\""),
        (Kind::Sfixed64, Value::Fixed64(number)) => write!(out, "\"{}\"", number as i64),
        (Kind::Int64, Value::Varint(number)) => write!(out, "\"{}\"", number as i64),
        (Kind::Uint64, Value::Varint(number)) => write!(out, "\"{number}\""),
        (Kind::Int32 | Kind::Enum(_), Value::Varint(number)) => write!(out, "{}", number as i32),
        (Kind::Uint32, Value::Varint(number)) => write!(out, "{}", number as u32),
        (Kind::Sint32, Value::Varint(number)) => {
            write!(out, "{}", (number as u32 >> 1) as i32 ^ -((number & 1) as i32))
        }
        (Kind::Fixed32, Value::Fixed32(number)) => write!(out, "{number}"),
        (Kind::Bool, Value::Varint(number)) => write!(out, "{}", number != 0),
        _ => {
            out.push_str("null"); // not what the field is: no value
            Ok(())
        }
    };
    debug_assert!(written.is_ok(), "a string takes all that is written");
}

fn put_double(out: &mut String, value: f64) -> std::fmt::Result {
    match value {
        _ if value.is_nan() => out.write_str("\"NaN\""),
        f64::INFINITY => out.write_str("\"Infinity\""),
        f64::NEG_INFINITY => out.write_str("\"-Infinity\""),
        _ => write!(out, "{value:?}"), // the shortest that reads as the same number
    }
}

/// Appends a string of JSON.
pub fn put_text(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate().filter(|(_, byte)| *byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.push_str(&text[plain..i]);
        plain = i + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                out.push_str("\\u00");
                out.push(HEX[usize::from(byte >> 4)].into());
                out.push(HEX[usize::from(byte & 15)].into());
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as a string in base64.
pub fn put_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { digit.into() } else { '=' });
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{generate, json, merge_repeated};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_reads_as_the_same_request(
            (signal, request) in generate::signal().prop_flat_map(|signal| (Just(signal), generate::request(signal)))
        ) {
            let merged = merge_repeated(signal, &request).unwrap();
            let text = to_json(signal, &merged);
            let again = json::to_protobuf(signal, text.as_bytes(), usize::MAX).unwrap();
            prop_assert_eq!(to_json(signal, &again), text);
        }
    }

    #[test]
    fn texts_and_bytes() {
        let text = |text: &str| {
            let mut out = String::new();
            put_text(&mut out, text);
            out
        };
        for sample in ["", "plain", "\"\\\n\r\t\u{0}\u{1f}é𝄞"] {
            assert_eq!(serde_json::from_str::<String>(&text(sample)).unwrap(), sample);
        }
        let base64 = |bytes: &[u8]| {
            let mut out = String::new();
            put_base64(&mut out, bytes);
            out
        };
        assert_eq!(
            [base64(b""), base64(b"a"), base64(b"ab"), base64(b"abc")],
            ["\"\"", "\"YQ==\"", "\"YWI=\"", "\"YWJj\""]
        );
    }
}
