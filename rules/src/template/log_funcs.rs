//! Loki's functions, for `line_format` and `label_format`: its own, and those that it takes from the library sprig.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD as BASE64};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::decimal;
use super::format::quote;
use super::funcs::{Call, Function, MANY, escape_query, function, text, unescape_query, wrong_type};
use super::value::Value;
use super::{time_format, time_parse};
use crate::pipeline::convert;
use crate::time::Timestamp;

pub(super) static LOG: &[Function] = &[
    function("__line__", 0, 0, |call, _| Ok(Value::string(call.environment.line))),
    function("__timestamp__", 0, 0, |call, _| Ok(Value::time(Some(call.environment.at)))),
    function("ToLower", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.to_lowercase()))),
    function("ToUpper", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.to_uppercase()))),
    function("Replace", 4, 4, |_, a| {
        let (subject, old, new) = (text(&a[0])?, text(&a[1])?, text(&a[2])?);
        Ok(Value::string(match usize::try_from(int(&a[3])?) {
            Ok(count) => subject.replacen(old, new, count),
            Err(_) => subject.replace(old, new),
        }))
    }),
    function("Trim", 2, 2, |_, a| trimmed(&a[0], &a[1])),
    function("TrimLeft", 2, 2, |_, a| {
        let cut = text(&a[1])?;
        Ok(Value::string(text(&a[0])?.trim_start_matches(|c| cut.contains(c))))
    }),
    function("TrimRight", 2, 2, |_, a| {
        let cut = text(&a[1])?;
        Ok(Value::string(text(&a[0])?.trim_end_matches(|c| cut.contains(c))))
    }),
    function("TrimPrefix", 2, 2, |_, a| without_prefix(&a[0], &a[1])),
    function("TrimSuffix", 2, 2, |_, a| without_suffix(&a[0], &a[1])),
    function("TrimSpace", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.trim()))),
    function("regexReplaceAll", 3, 3, |call, a| {
        let regex = call.regex(text(&a[0])?)?;
        call.replaced(&regex, text(&a[2])?, text(&a[1])?)
    }),
    function("regexReplaceAllLiteral", 3, 3, |call, a| {
        let regex = call.regex(text(&a[0])?)?;
        call.replaced(&regex, &text(&a[2])?.replace('$', "$$"), text(&a[1])?)
    }),
    function("count", 2, 2, |call, a| Ok(Value::Int(call.regex(text(&a[0])?)?.find_iter(text(&a[1])?).count() as i64))),
    function("urldecode", 1, 1, |_, a| unescape_query(text(&a[0])?).map(Value::string)),
    function("urlencode", 1, 1, |_, a| Ok(Value::string(escape_query(text(&a[0])?)))),
    function("bytes", 1, 1, |_, a| convert::bytes(text(&a[0])?).map(|bytes| Value::Float(bytes as f64))),
    function("duration", 1, 1, |_, a| seconds(&a[0])),
    function("duration_seconds", 1, 1, |_, a| seconds(&a[0])),
    function("unixEpoch", 1, 1, |_, a| Ok(Value::string(nanos(&a[0])?.div_euclid(1_000_000_000).to_string()))),
    function("unixEpochMillis", 1, 1, |_, a| Ok(Value::string(nanos(&a[0])?.div_euclid(1_000_000).to_string()))),
    function("unixEpochNanos", 1, 1, |_, a| Ok(Value::string(nanos(&a[0])?.to_string()))),
    function("unixToTime", 1, 1, |_, a| unix_to_time(text(&a[0])?)),
    function("toDate", 2, 2, |_, a| Ok(time_parse::parse(text(&a[0])?, text(&a[1])?, &TimeZone::UTC))),
    function("toDateInZone", 3, 3, |_, a| {
        // The zones that were compiled in: the same answer on every machine.
        let zone = TimeZoneDatabase::bundled().get(text(&a[1])?).unwrap_or(TimeZone::UTC);
        Ok(time_parse::parse(text(&a[0])?, text(&a[2])?, &zone))
    }),
    function("date", 2, 2, |call, a| {
        let time = match &a[1] {
            Value::Time(time, zone) => return Ok(Value::string(time_format::format(*time, zone, text(&a[0])?))),
            Value::Int(seconds) | Value::Int64(seconds) => Timestamp(seconds.saturating_mul(1_000_000_000)),
            _ => call.now(),
        };
        Ok(Value::string(time_format::format(Some(time), &TimeZone::UTC, text(&a[0])?)))
    }),
    function("now", 0, 0, |call, _| Ok(Value::time(Some(call.now())))),
    function("alignLeft", 2, 2, |call, a| aligned(call, &a[0], &a[1], false)),
    function("alignRight", 2, 2, |call, a| aligned(call, &a[0], &a[1], true)),
    function("b64enc", 1, 1, |_, a| Ok(Value::string(BASE64.encode(text(&a[0])?)))),
    function("b64dec", 1, 1, |_, a| Ok(Value::string(base64_decoded(text(&a[0])?)))),
    function("lower", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.to_lowercase()))),
    function("upper", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.to_uppercase()))),
    function("title", 1, 1, |_, a| Ok(Value::string(title(text(&a[0])?)))),
    function("trunc", 2, 2, |_, a| truncated(int(&a[0])?, text(&a[1])?)),
    function("substr", 3, 3, |_, a| substring(int(&a[0])?, int(&a[1])?, text(&a[2])?)),
    function("contains", 2, 2, |_, a| Ok(Value::Bool(text(&a[1])?.contains(text(&a[0])?)))),
    function("hasPrefix", 2, 2, |_, a| Ok(Value::Bool(text(&a[1])?.starts_with(text(&a[0])?)))),
    function("hasSuffix", 2, 2, |_, a| Ok(Value::Bool(text(&a[1])?.ends_with(text(&a[0])?)))),
    function("indent", 2, 2, |call, a| indented(call, &a[0], &a[1]).map(Value::string)),
    function("nindent", 2, 2, |call, a| indented(call, &a[0], &a[1]).map(|text| Value::string(format!("\n{text}")))),
    function("replace", 3, 3, |_, a| Ok(Value::string(text(&a[2])?.replace(text(&a[0])?, text(&a[1])?)))),
    function("repeat", 2, 2, |call, a| {
        let text = text(&a[1])?;
        let count = usize::try_from(int(&a[0])?).map_err(|_| "strings: negative Repeat count".to_owned())?;
        call.check_length(text.len().saturating_mul(count))?;
        Ok(Value::string(text.repeat(count)))
    }),
    function("trim", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.trim()))),
    function("trimAll", 2, 2, |_, a| trimmed(&a[1], &a[0])),
    function("trimSuffix", 2, 2, |_, a| without_suffix(&a[1], &a[0])),
    function("trimPrefix", 2, 2, |_, a| without_prefix(&a[1], &a[0])),
    function("int", 1, 1, |_, a| Ok(Value::Int(to_int(&a[0])))),
    function("float64", 1, 1, |_, a| Ok(Value::Float(to_float(&a[0])))),
    function("add", 0, MANY, |_, a| Ok(Value::Int64(a.iter().map(to_int).fold(0, i64::wrapping_add)))),
    function("sub", 2, 2, |_, a| Ok(Value::Int64(to_int(&a[0]).wrapping_sub(to_int(&a[1]))))),
    function("mul", 1, MANY, |_, a| Ok(Value::Int64(a.iter().map(to_int).fold(1, i64::wrapping_mul)))),
    function("div", 2, 2, |_, a| divided(to_int(&a[0]), to_int(&a[1]), i64::wrapping_div)),
    function("mod", 2, 2, |_, a| divided(to_int(&a[0]), to_int(&a[1]), i64::wrapping_rem)),
    function("max", 1, MANY, |_, a| Ok(Value::Int64(a.iter().map(to_int).max().unwrap_or(0)))),
    function("min", 1, MANY, |_, a| Ok(Value::Int64(a.iter().map(to_int).min().unwrap_or(0)))),
    function("addf", 0, MANY, |_, a| folded(a, decimal::add)),
    function("subf", 1, MANY, |_, a| folded(a, decimal::subtract)),
    function("mulf", 1, MANY, |_, a| folded(a, decimal::multiply)),
    function("divf", 1, MANY, |_, a| folded(a, decimal::divide)),
    function("maxf", 1, MANY, |_, a| Ok(Value::Float(a.iter().map(to_float).fold(f64::NEG_INFINITY, larger)))),
    function("minf", 1, MANY, |_, a| {
        let negative = a.iter().map(|value| -to_float(value));
        Ok(Value::Float(-negative.fold(f64::NEG_INFINITY, larger)))
    }),
    function("ceil", 1, 1, |_, a| Ok(Value::Float(to_float(&a[0]).ceil()))),
    function("floor", 1, 1, |_, a| Ok(Value::Float(to_float(&a[0]).floor()))),
    function("round", 2, MANY, |_, a| {
        let up_from = a.get(2).map_or(0.5, to_float);
        Ok(Value::Float(rounded(to_float(&a[0]), int(&a[1])?, up_from)))
    }),
    function("fromJson", 1, 1, |_, a| {
        let parsed: Option<serde_json::Value> = serde_json::from_str(&without_lone_surrogates(text(&a[0])?)).ok();
        parsed.map_or(Ok(Value::Nil), |parsed| from_json(&parsed))
    }),
    function("default", 1, MANY, |_, a| {
        let given = a.get(1).filter(|given| given.truth());
        Ok(given.unwrap_or(&a[0]).clone())
    }),
];

/// An argument that Go declares as `int`.
fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        other => wrong_type("int", other),
    }
}

/// As the library cast makes whole numbers of anything: 0 of what is none.
fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(number) | Value::Int64(number) | Value::Duration(number) => *number,
        Value::Float(number) => *number as i64,
        Value::Bool(value) => i64::from(*value),
        Value::Str(text) | Value::Html(text) => int_of_text(text),
        _ => 0,
    }
}

/// `12`, `0x1f`, `010` (8), `0b11`, `1_000`; what stands behind a point is left out.
fn int_of_text(text: &str) -> i64 {
    let (is_negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(unsigned) => (text.starts_with('-'), unsigned),
        None => (false, text),
    };
    let whole = match unsigned.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        _ => unsigned,
    };
    let lower = whole.to_ascii_lowercase().replace('_', "");
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return 0;
    }
    let magnitude = i128::from_str_radix(digits, radix).unwrap_or(0);
    i64::try_from(if is_negative { -magnitude } else { magnitude }).unwrap_or(0)
}

/// As the library cast makes floats of anything: 0 of what is none.
fn to_float(value: &Value) -> f64 {
    match value {
        Value::Float(number) => *number,
        Value::Str(text) | Value::Html(text) => convert::float(text).unwrap_or(0.0),
        other => to_int(other) as f64,
    }
}

/// As Go's `math.Max`: infinity before all, then what is no number.
fn larger(a: f64, b: f64) -> f64 {
    match () {
        () if a == f64::INFINITY || b == f64::INFINITY => f64::INFINITY,
        () if a.is_nan() || b.is_nan() => f64::NAN,
        () => a.max(b),
    }
}

fn divided(a: i64, b: i64, divide: fn(i64, i64) -> i64) -> Result<Value, String> {
    if b == 0 { Err("runtime error: integer divide by zero".into()) } else { Ok(Value::Int64(divide(a, b))) }
}

/// Decimal, so that 0.1 and 0.2 are 0.3.
fn folded(arguments: &[Value], operate: fn(f64, f64) -> Result<f64, String>) -> Result<Value, String> {
    let mut numbers = arguments.iter().map(to_float);
    let first = numbers.next().unwrap_or(0.0);
    numbers.try_fold(first, operate).map(Value::Float)
}

/// The digit behind the last place decides, upwards from `up_from`; below zero always down.
fn rounded(number: f64, places: i64, up_from: f64) -> f64 {
    let power = 10f64.powi(places.clamp(-400, 400) as i32);
    let scaled = power * number;
    let whole = if scaled.fract() >= up_from { scaled.ceil() } else { scaled.floor() };
    whole / power
}

fn trimmed(subject: &Value, cut: &Value) -> Result<Value, String> {
    let cut = text(cut)?;
    Ok(Value::string(text(subject)?.trim_matches(|c| cut.contains(c))))
}

fn without_prefix(subject: &Value, prefix: &Value) -> Result<Value, String> {
    let subject = text(subject)?;
    Ok(Value::string(subject.strip_prefix(text(prefix)?).unwrap_or(subject)))
}

fn without_suffix(subject: &Value, suffix: &Value) -> Result<Value, String> {
    let subject = text(subject)?;
    Ok(Value::string(subject.strip_suffix(text(suffix)?).unwrap_or(subject)))
}

/// Bytes, not characters: what is left of a character that is cut is U+FFFD.
fn cut(text: &str, from: usize, to: usize) -> Value {
    Value::string(String::from_utf8_lossy(&text.as_bytes()[from..to]))
}

/// The first `count` bytes; the last ones where it is negative.
fn truncated(count: i64, text: &str) -> Result<Value, String> {
    let len = text.len();
    let magnitude = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX).min(len);
    Ok(if count < 0 { cut(text, len - magnitude, len) } else { cut(text, 0, magnitude) })
}

fn substring(start: i64, end: i64, text: &str) -> Result<Value, String> {
    let len = text.len() as i64;
    let (start, end) = match (start, end) {
        (..0, 0..) if end > len => {
            return Err(format!("runtime error: slice bounds out of range [:{end}] with length {len}"));
        }
        (..0, ..0) => return Err(format!("runtime error: slice bounds out of range [:{end}]")),
        (..0, _) => (0, end),
        (_, ..0) => (start, len),
        _ => (start, end.min(len)),
    };
    if start > end {
        return Err(format!("runtime error: slice bounds out of range [{start}:{end}]"));
    }
    Ok(cut(text, start as usize, end as usize))
}

/// Go's `strings.Title`: upper-cases what stands first, or behind anything but a letter, a digit or `_`.
fn title(text: &str) -> String {
    let mut is_in_word = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if is_in_word {
            titled.push(c)
        } else {
            titled.extend(c.to_uppercase())
        }
        is_in_word = c == '_' || c.is_alphanumeric() || !c.is_ascii() && !c.is_whitespace();
    }
    titled
}

fn indented(call: &Call<'_>, count: &Value, subject: &Value) -> Result<String, String> {
    let count = usize::try_from(int(count)?).map_err(|_| "strings: negative Repeat count".to_owned())?;
    let subject = text(subject)?;
    let lines = subject.matches('\n').count() + 1;
    call.check_length(subject.len().saturating_add(lines.saturating_mul(count)))?;
    let margin = " ".repeat(count);
    Ok(format!("{margin}{}", subject.replace('\n', &format!("\n{margin}"))))
}

/// The text filled up, or cut, to so many characters.
fn aligned(call: &Call<'_>, count: &Value, subject: &Value, is_right: bool) -> Result<Value, String> {
    let subject = text(subject)?;
    let len = subject.chars().count();
    let Ok(count) = usize::try_from(int(count)?) else { return Ok(Value::string(subject)) };
    call.check_length(count)?;
    Ok(Value::string(match (count.checked_sub(len), is_right) {
        (Some(missing), true) => format!("{}{subject}", " ".repeat(missing)),
        (Some(missing), false) => format!("{subject}{}", " ".repeat(missing)),
        (None, true) => subject.chars().skip(len - count).collect(),
        (None, false) => subject.chars().take(count).collect(),
    }))
}

/// The text, or what is wrong with it. Padding may be left out.
fn base64_decoded(text: &str) -> String {
    let missing = if text.len() % 4 > 1 { 4 - text.len() % 4 } else { 0 };
    let padded: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect::<String>() + &"=".repeat(missing);
    match LENIENT_BASE64.decode(&padded) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(base64::DecodeError::InvalidByte(at, _)) => format!("illegal base64 data at input byte {at}"),
        Err(_) => format!("illegal base64 data at input byte {}", padded.len() / 4 * 4),
    }
}

fn seconds(value: &Value) -> Result<Value, String> {
    convert::duration(text(value)?).map(|nanos| Value::Float(convert::seconds(nanos)))
}

fn nanos(value: &Value) -> Result<i64, String> {
    match value {
        Value::Time(Some(time), _) => Ok(time.nanos()),
        Value::Time(None, _) => Ok(GO_ZERO_NANOS),
        other => wrong_type("time.Time", other),
    }
}

/// Days, seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by how many digits there are.
fn unix_to_time(text: &str) -> Result<Value, String> {
    let wrong = |reason: &str| Err(format!("unable to parse time '{text}': {reason}"));
    let Ok(number) = text.parse::<i64>() else {
        return wrong(&format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text, false)));
    };
    let nanos = match text.len() {
        5 => number.saturating_mul(86_400_000_000_000),
        10 => number.saturating_mul(1_000_000_000),
        13 => number.saturating_mul(1_000_000),
        16 => number.saturating_mul(1_000),
        19 => number,
        _ => return wrong("%!w(<nil>)"),
    };
    Ok(Value::time(Some(Timestamp(nanos))))
}

/// As Go reads JSON: half of a surrogate pair is U+FFFD.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let unit = |escape: &str| u16::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        let low = escape.get(6..).and_then(unit).filter(|unit| (0xDC00..0xE000).contains(unit));
        let len = match (unit(escape), low) {
            (Some(0xD800..0xDC00), Some(_)) => 12,
            (Some(_), _) => 6,
            _ => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        let is_lone = len == 6 && matches!(unit(escape), Some(0xD800..0xE000));
        whole.push_str(before);
        whole.push_str(if is_lone { "\\ufffd" } else { &escape[..len] });
        rest = &escape[len..];
    }
    whole.push_str(rest);
    Cow::Owned(whole)
}

fn from_json(value: &serde_json::Value) -> Result<Value, String> {
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Value::string(text.as_str()),
        serde_json::Value::Array(items) => Value::list(items.iter().map(from_json).collect::<Result<_, _>>()?)?,
        serde_json::Value::Object(fields) => {
            let field =
                |(name, value): (&String, &serde_json::Value)| Ok((Arc::from(name.as_str()), from_json(value)?));
            Value::map(fields.iter().map(field).collect::<Result<_, String>>()?)?
        }
    })
}

/// Go does not look at the bits that are left over.
const LENIENT_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What `UnixNano` gives of Go's zero time, which overflows.
const GO_ZERO_NANOS: i64 = -6_795_364_578_871_345_152;
