//! The functions that templates call: Go's own, Prometheus's for rules, Alertmanager's for notifications. Loki's are in [`log_funcs`].

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::tz::TimeZoneDatabase;
use regex::Regex;

use super::format::{self, Output};
use super::humanize;
use super::log_funcs::LOG;
use super::value::{ListKind, Value};
use super::{Environment, STEPS_MAX, time_format};
use crate::logql::regexp;
use crate::time::{Timestamp, parse_duration};

/// Whose functions a template may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Prometheus's, in rule files.
    Rule,
    /// Alertmanager's, in notifications.
    Notification,
    /// Loki's, in `line_format` and `label_format`.
    Log,
}

/// A function by its name.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    arguments_min: usize,
    arguments_max: usize,
    run: fn(&mut Call<'_>, &[Value]) -> Result<Value, String>,
}

/// The function of that name, or why there is none.
pub(super) fn find(dialect: Dialect, name: &str) -> Result<&'static Function, String> {
    let among = |table: &'static [Function]| table.iter().find(|function| function.name == name);
    let own: &[&'static [Function]] = match dialect {
        Dialect::Rule => &[RULE, ALERTING, GO],
        Dialect::Notification => &[NOTIFICATION, ALERTING, GO],
        Dialect::Log => &[LOG, GO],
    };
    if let Some(function) = own.iter().find_map(|table| among(table)) {
        return Ok(function);
    }
    if name == "query" && dialect != Dialect::Log {
        return Err("`query` is not supported: there is no database to ask, a template sees its own alert only".into());
    }
    let others = [(RULE, "rule files"), (NOTIFICATION, "notifications"), (ALERTING, "alerts"), (LOG, "LogQL")];
    Err(match others.iter().find(|(table, _)| among(table).is_some()) {
        Some((_, place)) => format!("function `{name}` is defined in {place} only"),
        None => format!("function `{name}` is not defined"),
    })
}

/// What functions may ask of the run they are called in.
pub(super) struct Call<'e> {
    pub(super) environment: &'e Environment<'e>,
    steps: usize,
    regexes: BTreeMap<Arc<str>, Regex>,
}

impl<'e> Call<'e> {
    pub(super) fn new(environment: &'e Environment<'e>) -> Self {
        Self { environment, steps: 0, regexes: BTreeMap::new() }
    }

    /// Counts steps, up to `steps_max`.
    pub(super) fn charge(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            return Err(format!("it takes more than {STEPS_MAX} steps (`steps_max`)"));
        }
        Ok(())
    }

    pub(super) fn function(&mut self, function: &Function, arguments: &[Value]) -> Result<Value, String> {
        let Function { name, arguments_min, arguments_max, run } = function;
        let (count, range) = (arguments.len(), *arguments_min..=*arguments_max);
        if !range.contains(&count) {
            let least = if arguments_max > arguments_min { "at least " } else { "" };
            return Err(format!("wrong number of args for {name}: want {least}{arguments_min} got {count}"));
        }
        let bytes: usize = arguments.iter().map(text_bytes).sum();
        self.charge(bytes / 256)?;
        let value = run(self, arguments).map_err(|message| match is_misfit(&message) {
            true => message,
            false => format!("error calling {name}: {message}"),
        })?;
        if text_bytes(&value) > self.environment.output_bytes_max {
            return Err(format!("error calling {name}: the text is longer than `output_bytes_max` allows"));
        }
        Ok(value)
    }

    /// Text that `write` prints, no longer than the output may be.
    fn printed(&self, write: impl FnOnce(&mut Output) -> Result<(), String>) -> Result<Value, String> {
        let mut output = Output::new(self.environment.output_bytes_max);
        write(&mut output)?;
        Ok(Value::string(output.text))
    }

    /// `Err` where a text of so many bytes is longer than the output may be.
    pub(super) fn check_length(&self, bytes: usize) -> Result<(), String> {
        if bytes > self.environment.output_bytes_max {
            return Err("the text is longer than `output_bytes_max` allows".into());
        }
        Ok(())
    }

    pub(super) fn replaced(&self, regex: &Regex, with: &str, text: &str) -> Result<Value, String> {
        replace_all(regex, with, text, self.environment.output_bytes_max)
    }

    pub(super) fn regex(&mut self, pattern: &str) -> Result<Regex, String> {
        if let Some(regex) = self.regexes.get(pattern) {
            return Ok(regex.clone());
        }
        self.charge(REGEX_STEPS)?;
        let regex = regexp::compile_within(pattern, REGEX_BYTES_MAX).map_err(|error| error.to_string())?;
        self.regexes.insert(pattern.into(), regex.clone());
        Ok(regex)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.environment.now
    }
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Str(text) | Value::Html(text) => text.len(),
        Value::List(list) => list.items.len() * 64,
        Value::Map(map) => map.entries.len() * 64,
        _ => 0,
    }
}

pub(super) const fn function(
    name: &'static str,
    arguments_min: usize,
    arguments_max: usize,
    run: fn(&mut Call<'_>, &[Value]) -> Result<Value, String>,
) -> Function {
    Function { name, arguments_min, arguments_max, run }
}

/// Whether Go's function has declared that argument an `int`, so that a constant like `2.0` is one.
pub(super) fn declares_int(function: &Function, argument: usize) -> bool {
    matches!(
        (function.name, argument),
        ("trunc" | "repeat" | "indent" | "nindent" | "alignLeft" | "alignRight" | "substr", 0)
            | ("substr" | "round", 1)
            | ("Replace", 3)
    )
}

pub(super) const MANY: usize = usize::MAX;

/// What compiling a regular expression counts as, against `steps_max`.
const REGEX_STEPS: usize = 1_000;

/// A regular expression that compiles to more is refused.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Go's.
static GO: &[Function] = &[
    function("and", 1, MANY, |_, a| Ok(a[0].clone())), // both are evaluated by the interpreter, which stops early
    function("or", 1, MANY, |_, a| Ok(a[0].clone())),
    function("not", 1, 1, |_, a| Ok(Value::Bool(!a[0].truth()))),
    function("eq", 1, MANY, |_, a| eq(&a[0], &a[1..]).map(Value::Bool)),
    function("ne", 2, 2, |_, a| eq(&a[0], &a[1..]).map(|equal| Value::Bool(!equal))),
    function("lt", 2, 2, |_, a| order(&a[0], &a[1]).map(|order| Value::Bool(order == Some(Ordering::Less)))),
    function("le", 2, 2, |_, a| order(&a[0], &a[1]).map(|order| Value::Bool(at_most(order)))),
    function("gt", 2, 2, |_, a| order(&a[0], &a[1]).map(|order| Value::Bool(!at_most(order)))),
    function("ge", 2, 2, |_, a| order(&a[0], &a[1]).map(|order| Value::Bool(order != Some(Ordering::Less)))),
    function("len", 1, 1, |_, a| length(&a[0])),
    function("index", 1, MANY, |_, a| index(a)),
    function("slice", 1, 4, |_, a| slice(a)),
    function("print", 0, MANY, |call, a| call.printed(|output| format::sprint(output, a))),
    function("println", 0, MANY, |call, a| call.printed(|output| format::sprintln(output, a))),
    function("printf", 1, MANY, |call, a| {
        let format = text(&a[0])?;
        call.printed(|output| format::sprintf(output, format, &a[1..]))
    }),
    function("html", 1, MANY, |call, a| escaped(call, a, escape_html)),
    function("js", 1, MANY, |call, a| escaped(call, a, escape_js)),
    function("urlquery", 1, MANY, |call, a| escaped(call, a, escape_query)),
    function("call", 1, MANY, |_, a| Err(format!("non-function of type {}", a[0].type_name()))),
];

/// Prometheus's and Alertmanager's.
static ALERTING: &[Function] = &[
    function("toUpper", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.to_uppercase()))),
    function("toLower", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.to_lowercase()))),
    function("match", 2, 2, |call, a| Ok(Value::Bool(call.regex(text(&a[0])?)?.is_match(text(&a[1])?)))),
    function("reReplaceAll", 3, 3, |call, a| {
        let (regex, with, text) = (call.regex(text(&a[0])?)?, text(&a[1])?, text(&a[2])?);
        replace_all(&regex, with, text, call.environment.output_bytes_max)
    }),
    function("safeHtml", 1, 1, |_, a| Ok(Value::Html(text(&a[0])?.into()))),
    function("humanizeDuration", 1, 1, |_, a| Ok(Value::string(humanize::duration(float(&a[0])?)))),
];

/// A duration in Prometheus's spelling: of whole numbers, perhaps negative.
fn parse_seconds(text: &str) -> Result<f64, String> {
    let (sign, positive) = text.strip_prefix('-').map_or((1.0, text), |positive| (-1.0, positive));
    if positive.contains('.') {
        return Err(format!("`{text}` is no duration of whole numbers: write `1h30m`, say, for `1.5h`"));
    }
    let duration = parse_duration(positive).map_err(|error| error.to_string())?;
    Ok(sign * duration.as_secs_f64())
}

/// Prometheus's.
static RULE: &[Function] = &[
    function("title", 1, 1, |_, a| Ok(Value::string(title(text(&a[0])?, false)))),
    function("humanize", 1, 1, |_, a| Ok(Value::string(humanize::decimal(float(&a[0])?)))),
    function("humanize1024", 1, 1, |_, a| Ok(Value::string(humanize::binary(float(&a[0])?)))),
    function("humanizePercentage", 1, 1, |_, a| Ok(Value::string(humanize::percentage(float(&a[0])?)))),
    function("humanizeTimestamp", 1, 1, |_, a| humanize::timestamp(float(&a[0])?).map(Value::string)),
    function("toTime", 1, 1, |_, a| humanize::time(float(&a[0])?).map(|time| Value::time(Some(time)))),
    function("toDuration", 1, 1, |_, a| humanize::nanos(float(&a[0])?).map(Value::Duration)),
    function("now", 0, 0, |call, _| Ok(Value::Float(call.now().millis() as f64 / 1000.0))),
    function("parseDuration", 1, 1, |_, a| parse_seconds(text(&a[0])?).map(Value::Float)),
    function("stripPort", 1, 1, |_, a| Ok(Value::string(host_and_port(text(&a[0])?).0))),
    function("stripDomain", 1, 1, |_, a| Ok(Value::string(strip_domain(text(&a[0])?)))),
    function("urlQueryEscape", 1, 1, |_, a| Ok(Value::string(escape_query(text(&a[0])?)))),
    function("graphLink", 1, 1, |_, a| {
        Ok(Value::string(format!("/graph?g0.expr={}&g0.tab=0", escape_query(text(&a[0])?))))
    }),
    function("tableLink", 1, 1, |_, a| {
        Ok(Value::string(format!("/graph?g0.expr={}&g0.tab=1", escape_query(text(&a[0])?))))
    }),
    function("externalURL", 0, 0, |call, _| Ok(Value::string(call.environment.external_url))),
    function("pathPrefix", 0, 0, |call, _| Ok(Value::string(path_of(call.environment.external_url)))),
    function("args", 0, MANY, |_, a| {
        Value::map(a.iter().enumerate().map(|(i, value)| (format!("arg{i}").into(), value.clone())).collect())
    }),
    function("first", 1, 1, |_, a| match &a[0] {
        Value::List(list) => {
            list.items.first().cloned().ok_or_else(|| "first() called on vector with no elements".into())
        }
        other => wrong_type("a list", other),
    }),
    function("label", 2, 2, |_, a| label(&a[1], text(&a[0])?)),
    function("value", 1, 1, |_, a| field(&a[0], "Value")),
    function("strvalue", 1, 1, |_, a| label(&a[0], "__value__")),
    function("sortByLabel", 2, 2, |_, a| sort_by_label(text(&a[0])?, &a[1])),
];

/// Alertmanager's.
static NOTIFICATION: &[Function] = &[
    function("title", 1, 1, |_, a| Ok(Value::string(title(text(&a[0])?, true)))),
    function("trimSpace", 1, 1, |_, a| Ok(Value::string(text(&a[0])?.trim()))),
    function("join", 2, 2, |_, a| join(text(&a[0])?, &a[1])),
    function("safeUrl", 1, 1, |_, a| Ok(Value::Html(text(&a[0])?.into()))),
    function("urlUnescape", 1, 1, |_, a| unescape_query(text(&a[0])?).map(Value::string)),
    function("stringSlice", 0, MANY, |_, a| {
        let texts: Result<Vec<&str>, String> = a.iter().map(text).collect();
        Ok(Value::strings(texts?))
    }),
    function("date", 2, 2, |_, a| match &a[1] {
        Value::Time(time, zone) => Ok(Value::string(time_format::format(*time, zone, text(&a[0])?))),
        other => wrong_type("time.Time", other),
    }),
    function("tz", 2, 2, |_, a| match &a[1] {
        Value::Time(time, _) => {
            // The zones that were compiled in: the same answer on every machine.
            let zone = TimeZoneDatabase::bundled().get(text(&a[0])?).map_err(|error| error.to_string())?;
            Ok(Value::Time(*time, zone))
        }
        other => wrong_type("time.Time", other),
    }),
    function("since", 1, 1, |call, a| match &a[0] {
        Value::Time(Some(time), _) => Ok(Value::Duration(call.now().nanos().saturating_sub(time.nanos()))),
        Value::Time(None, _) => Ok(Value::Duration(i64::MAX)),
        other => wrong_type("time.Time", other),
    }),
    function("list", 0, MANY, |_, a| Value::list(a.to_vec())),
    function("append", 1, MANY, |_, a| match &a[0] {
        Value::List(list) => Value::list(list.items.iter().chain(&a[1..]).cloned().collect()),
        Value::Nil => Value::list(a[1..].to_vec()),
        other => wrong_type("a list", other),
    }),
    function("dict", 0, MANY, |_, a| dict(a)),
    function("toJson", 1, 1, |call, a| {
        call.printed(|output| output.push(&serde_json::to_string(&a[0]).map_err(|error| error.to_string())?))
    }),
];

pub(super) fn wrong_type<T>(expected: &str, got: &Value) -> Result<T, String> {
    Err(match got {
        Value::Nil => format!("invalid value; expected {expected}"),
        got => format!("wrong type for value; expected {expected}; got {}", got.type_name()),
    })
}

/// Whether an argument is of a type that the function does not declare: Go sees that before it calls.
pub(super) fn is_misfit(message: &str) -> bool {
    message.starts_with("wrong type for value; ") || message.starts_with("invalid value; ")
}

pub(super) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Str(text) | Value::Html(text) => Ok(text),
        other => wrong_type("string", other),
    }
}

/// Prometheus takes numbers, durations and texts that are numbers.
fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Int(number) | Value::Int64(number) => Ok(*number as f64),
        Value::Duration(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Str(text) | Value::Html(text) => text.parse().map_err(|_| format!("`{text}` is not a number")),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn eq(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Time(a, _), Value::Time(b, _)) => Ok(a == b),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) | (Value::Struct(_), Value::Struct(_)) => {
            Err(format!("non-comparable type {}", a.type_name()))
        }
        _ => Ok(order(a, b)? == Some(Ordering::Equal)),
    }
}

/// `None` where one of them is NaN.
fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (
            Value::Int(a) | Value::Int64(a) | Value::Duration(a),
            Value::Int(b) | Value::Int64(b) | Value::Duration(b),
        ) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Str(a) | Value::Html(a), Value::Str(b) | Value::Html(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(_), Value::Int(number) | Value::Int64(number))
        | (Value::Int(number) | Value::Int64(number), Value::Float(_)) => Err(format!(
            "incompatible types for comparison: {} and {}: write `{number}.0`",
            a.type_name(),
            b.type_name()
        )),
        _ if is_basic(a) && is_basic(b) && a.type_name() != b.type_name() => {
            Err(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name()))
        }
        _ => Err("invalid type for comparison".into()),
    }
}

fn is_basic(value: &Value) -> bool {
    !matches!(value, Value::Nil | Value::List(_) | Value::Map(_) | Value::Struct(_) | Value::Time(..))
}

fn at_most(order: Option<Ordering>) -> bool {
    matches!(order, Some(Ordering::Less | Ordering::Equal))
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Str(text) | Value::Html(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        Value::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut item = arguments[0].clone();
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".into());
    }
    for index in &arguments[1..] {
        item = match &item {
            Value::List(list) => {
                let at = checked_index(index, list.items.len())?;
                list.items.get(at).cloned().ok_or("reflect: slice index out of range")?
            }
            Value::Str(text) => {
                let byte = text.as_bytes().get(checked_index(index, text.len())?);
                Value::Int(i64::from(*byte.ok_or("reflect: string index out of range")?))
            }
            Value::Map(map) => map.get(text(index)?),
            Value::Nil => return Err("index of nil pointer".into()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

/// An index up to `length`, which it may also be itself.
fn checked_index(value: &Value, length: usize) -> Result<usize, String> {
    let (Value::Int(number) | Value::Int64(number)) = value else {
        return Err(format!("cannot index slice/array with type {}", value.type_name()));
    };
    match usize::try_from(*number) {
        Ok(index) if index <= length => Ok(index),
        _ => Err(format!("index out of range: {number}")),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let (item, indexes) = (&arguments[0], &arguments[1..]);
    let length = match item {
        Value::Str(_) if indexes.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Value::Str(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Nil => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, length, length];
    for (bound, value) in bounds.iter_mut().zip(indexes) {
        *bound = checked_index(value, length)?;
    }
    let [start, end, cap] = bounds;
    if start > end || end > cap {
        return Err(format!(
            "invalid slice index: {} > {}",
            if start > end { start } else { end },
            if start > end { end } else { cap }
        ));
    }
    match item {
        Value::List(list) => Ok(Value::flat_list_like(list, list.items[start..end].to_vec())),
        _ => Ok(Value::string(String::from_utf8_lossy(&text(item)?.as_bytes()[start..end]))),
    }
}

fn escaped(call: &Call<'_>, values: &[Value], escape: fn(&str) -> String) -> Result<Value, String> {
    call.printed(|output| {
        let mut plain = Output::new(output.bytes_left());
        match values {
            [Value::Nil] => plain.push("<no value>")?,
            _ => format::sprint(&mut plain, values)?,
        }
        output.push(&escape(&plain.text))
    })
}

/// `template.HTMLEscapeString`.
pub(super) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => escaped.push('\u{fffd}'),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `template.JSEscapeString`.
fn escape_js(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\'' => escaped.push_str("\\'"),
            '"' => escaped.push_str("\\\""),
            '<' | '>' | '&' | '=' => escaped.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 => escaped.push_str(&format!("\\u{:04X}", c as u32)),
            c if !c.is_ascii() && !format::is_printable(c) => escaped.push_str(&format!("\\u{:04X}", c as u32)),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `url.QueryEscape`.
pub(super) fn escape_query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
            byte if byte.is_ascii_alphanumeric() => escaped.push(byte as char),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

pub(super) fn unescape_query(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
                let wrong = || String::from_utf8_lossy(&rest[..rest.len().min(2)]).into_owned();
                bytes.push(code.ok_or_else(|| format!("invalid URL escape \"%{}\"", wrong()))?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn replace_all(regex: &Regex, with: &str, text: &str, bytes_max: usize) -> Result<Value, String> {
    let mut replaced = String::new();
    let mut behind = 0;
    for captures in regex.captures_iter(text) {
        let whole = captures.get_match();
        replaced.push_str(&text[behind..whole.start()]);
        captures.expand(with, &mut replaced);
        behind = whole.end();
        if replaced.len() > bytes_max {
            return Err("the text is longer than `output_bytes_max` allows".into());
        }
    }
    replaced.push_str(&text[behind..]);
    Ok(Value::string(replaced))
}

/// Upper-cases the first letter of each word; Alertmanager also lower-cases the others.
fn title(text: &str, lower: bool) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_word = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c.is_alphanumeric(), in_word) {
            (true, false) => result.extend(c.to_uppercase()),
            (true, true) if lower => result.extend(c.to_lowercase()),
            _ => result.push(c),
        }
        let joins = matches!(c, '\'' | '\u{2019}' | '.' | '_' | ':')
            && in_word
            && chars.peek().is_some_and(|c| c.is_alphanumeric());
        in_word = c.is_alphanumeric() || joins || c == '_';
    }
    result
}

/// `host:port` to both; the whole and nothing where that is not its form.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let Some(inside) = text.strip_prefix('[') {
        return match inside.split_once("]:") {
            Some((host, port)) if !port.contains([':', '[', ']']) => (host, Some(port)),
            _ => (text, None),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') && !host.contains([']', '[']) => (host, Some(port)),
        _ => (text, None),
    }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = host_and_port(text);
    if host.parse::<IpAddr>().is_ok() {
        return text.into();
    }
    let host = host.split('.').next().unwrap_or(host);
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    }
}

fn path_of(url: &str) -> &str {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let path = behind.find('/').map_or("", |at| &behind[at..]);
    path.split(['?', '#']).next().unwrap_or(path)
}

fn field(value: &Value, name: &str) -> Result<Value, String> {
    match value {
        Value::Struct(fields) => fields.get(name).cloned().ok_or_else(|| format!("{} has no {name}", fields.name)),
        other => wrong_type("a sample", other),
    }
}

fn label(sample: &Value, name: &str) -> Result<Value, String> {
    match field(sample, "Labels")? {
        Value::Map(labels) => Ok(labels.get(name)),
        other => wrong_type("a sample", &other),
    }
}

fn sort_by_label(name: &str, value: &Value) -> Result<Value, String> {
    let Value::List(list) = value else { return wrong_type("a list", value) };
    let mut keyed = Vec::with_capacity(list.items.len());
    for item in &list.items {
        keyed.push((label(item, name)?, item.clone()));
    }
    keyed.sort_by(|(a, _), (b, _)| order(a, b).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(Value::flat_list_like(list, keyed.into_iter().map(|(_, item)| item).collect()))
}

fn join(separator: &str, value: &Value) -> Result<Value, String> {
    match value {
        Value::List(list) if list.kind == ListKind::Strings => {
            let texts: Result<Vec<&str>, String> = list.items.iter().map(text).collect();
            Ok(Value::string(texts?.join(separator)))
        }
        other => wrong_type("[]string", other),
    }
}

fn dict(arguments: &[Value]) -> Result<Value, String> {
    if !arguments.len().is_multiple_of(2) {
        return Err("dict expects even number of arguments".into());
    }
    let mut entries = BTreeMap::new();
    for pair in arguments.chunks(2) {
        entries.insert(Arc::from(text(&pair[0])?), pair[1].clone());
    }
    Value::map(entries)
}
