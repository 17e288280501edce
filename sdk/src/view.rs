//! Log records as they are in a chunk, read without copying.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, TraceId};
use tracing_core::Level;
use watchbell_proto::wire::{Fields, Value as Wire};

/// A log record, as a sink's filter and a callback see it: OpenTelemetry's fields. [`Sink::callback`](crate::sink::Sink::callback) has an example.
///
/// ```
/// let sink = watchbell::sink::Sink::callback("alarm", |record| {
///     println!("{record}"); // INFO checkout: order placed order_id=17
/// });
/// ```
#[derive(Clone, Copy)]
pub struct Record<'a> {
    scope: &'a [u8],
    target: &'a str,
    raw: &'a [u8],
    time_unix_nano: u64,
    severity_number: u8,
    severity_text: &'a str,
    event_name: &'a str,
    body: Option<Value<'a>>,
    trace_id: TraceId,
    span_id: SpanId,
}

impl<'a> Record<'a> {
    /// Reads the contents of an `InstrumentationScope` and of a `LogRecord`.
    pub(crate) fn new(scope: &'a [u8], raw: &'a [u8]) -> Self {
        let mut this = Self {
            scope,
            target: messages(scope, 1).next().map_or("", text),
            raw,
            time_unix_nano: 0,
            severity_number: 0,
            severity_text: "",
            event_name: "",
            body: None,
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
        };
        for field in Fields::new(raw) {
            match field {
                (1, Wire::Fixed64(time)) => this.time_unix_nano = time,
                (2, Wire::Varint(number)) => this.severity_number = number as u8,
                (3, Wire::Bytes(bytes)) => this.severity_text = text(bytes),
                (5, Wire::Bytes(bytes)) => this.body = Some(Value::new(bytes)),
                (9, Wire::Bytes(bytes)) => {
                    this.trace_id = bytes.try_into().map_or(TraceId::INVALID, TraceId::from_bytes)
                }
                (10, Wire::Bytes(bytes)) => this.span_id = bytes.try_into().map_or(SpanId::INVALID, SpanId::from_bytes),
                (12, Wire::Bytes(bytes)) => this.event_name = text(bytes),
                _ => {}
            }
        }
        this
    }

    /// The encoded `InstrumentationScope` and `LogRecord`.
    pub(crate) fn raw(&self) -> (&'a [u8], &'a [u8]) {
        (self.scope, self.raw)
    }

    /// When it was made, in nanoseconds since 1970.
    pub(crate) fn time_unix_nano(&self) -> u64 {
        self.time_unix_nano
    }

    /// When it was made.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::callback("alarm", |record| {
    ///     println!("{:?} old", record.time().elapsed());
    /// });
    /// ```
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.time_unix_nano)
    }

    /// Where it comes from: the module, if nothing else was said.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.target() == "audit");
    /// ```
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// Its level; that of a severity between two levels is the less severe of them.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.level() == tracing::Level::WARN);
    /// ```
    pub fn level(&self) -> Level {
        level(self.severity_number)
    }

    /// OpenTelemetry's number, 1 (`TRACE`) to 24 (`FATAL4`); 0 where none is set.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.severity_number() >= 21); // FATAL
    /// ```
    pub fn severity_number(&self) -> u8 {
        self.severity_number
    }

    /// The severity's name: `INFO`.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.severity_text() == "NOTICE");
    /// ```
    pub fn severity_text(&self) -> &'a str {
        if self.severity_text.is_empty() { self.level().as_str() } else { self.severity_text }
    }

    /// The event's name, if it was given one.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.event_name() == Some("order.placed"));
    /// ```
    pub fn event_name(&self) -> Option<&'a str> {
        Some(self.event_name).filter(|name| !name.is_empty())
    }

    /// Its message; empty where there is none.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| !record.message().starts_with("GET /healthz"));
    /// ```
    pub fn message(&self) -> Cow<'a, str> {
        match self.body {
            None => Cow::Borrowed(""),
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(other) => Cow::Owned(other.to_string()),
        }
    }

    /// Its attributes with their keys, in the order they were given.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::callback("alarm", |record| {
    ///     record.attributes().for_each(|(key, value)| println!("{key}={value}"));
    /// });
    /// ```
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        key_values(self.raw, ATTRIBUTES)
    }

    /// An attribute's value.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.attribute("audit").is_some());
    /// ```
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        attribute(self.raw, key).map(|found| key_value(found).1)
    }

    /// The trace that it belongs to; invalid (zero) if it belongs to none.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::callback("alarm", |record| {
    ///     println!("https://traces.example.com/trace/{}", record.trace_id());
    /// });
    /// ```
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span in that trace.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::callback("alarm", |record| {
    ///     println!("{}-{}", record.trace_id(), record.span_id());
    /// });
    /// ```
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }
}

/// `INFO checkout: order placed order_id=17`
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity_text(), self.target, self.message())?;
        self.attributes().try_for_each(|(key, value)| write!(f, " {key}={value:?}"))
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&format_args!("{self}")).finish()
    }
}

/// The value of an attribute.
///
/// ```
/// use watchbell::sink::{Sink, Value};
///
/// let sink = Sink::stdout().filter(|record| matches!(record.attribute("status"), Some(Value::Int(500..))));
/// ```
#[derive(Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Nothing.
    Empty,
    /// A text, cut at 64 KiB.
    String(&'a str),
    /// A truth value.
    Bool(bool),
    /// A number without fraction.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Several values.
    Array(Values<'a>),
    /// Values with keys.
    Map(Entries<'a>),
}

/// The values of an array.
///
/// ```
/// use watchbell::sink::{Sink, Value};
///
/// let sink = Sink::callback("tags", |record| {
///     if let Some(Value::Array(tags)) = record.attribute("tags") {
///         tags.iter().for_each(|tag| println!("{tag}"));
///     }
/// });
/// ```
#[derive(Clone, Copy, PartialEq)]
pub struct Values<'a>(&'a [u8]);

/// The values of a map.
///
/// ```
/// use watchbell::sink::{Sink, Value};
///
/// let sink = Sink::callback("tags", |record| {
///     if let Some(Value::Map(entries)) = record.attribute("headers") {
///         entries.iter().for_each(|(name, value)| println!("{name}: {value}"));
///     }
/// });
/// ```
#[derive(Clone, Copy, PartialEq)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Reads the content of an `AnyValue`.
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        let value = |field| {
            Some(match field {
                (1, Wire::Bytes(bytes)) => Self::String(text(bytes)),
                (2, Wire::Varint(value)) => Self::Bool(value != 0),
                (3, Wire::Varint(value)) => Self::Int(value as i64),
                (4, Wire::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Wire::Bytes(bytes)) => Self::Array(Values(bytes)),
                (6, Wire::Bytes(bytes)) => Self::Map(Entries(bytes)),
                (7, Wire::Bytes(bytes)) => Self::Bytes(bytes),
                _ => return None,
            })
        };
        Fields::new(raw).find_map(value).unwrap_or(Self::Empty)
    }

    /// The text, where it is one.
    ///
    /// ```
    /// let sink = watchbell::sink::Sink::stdout().filter(|record| record.attribute("user").and_then(|user| user.as_str()) == Some("ada"));
    /// ```
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> Values<'a> {
    /// The values one by one.
    ///
    /// ```
    /// use watchbell::sink::{Sink, Value};
    ///
    /// let sink = Sink::callback("tags", |record| {
    ///     if let Some(Value::Array(tags)) = record.attribute("tags") {
    ///         println!("{} tags", tags.iter().count());
    ///     }
    /// });
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        messages(self.0, 1).map(Value::new)
    }
}

impl<'a> Entries<'a> {
    /// The values one by one, with their keys.
    ///
    /// ```
    /// use watchbell::sink::{Sink, Value};
    ///
    /// let sink = Sink::callback("tags", |record| {
    ///     if let Some(Value::Map(entries)) = record.attribute("headers") {
    ///         println!("{} headers", entries.iter().count());
    ///     }
    /// });
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        key_values(self.0, 1)
    }
}

/// A text as it is; everything else as it is written in JSON, more or less.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

/// The same with a text in quotes, its control characters escaped.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("null"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Array(values) => f.debug_list().entries(values.iter()).finish(),
            Self::Map(entries) => f.debug_map().entries(entries.iter()).finish(),
        }
    }
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The number of a `LogRecord`'s field.
pub(crate) const ATTRIBUTES: u32 = 6;

/// Key and value of a `KeyValue` message.
pub(crate) fn key_value(raw: &[u8]) -> (&str, Value<'_>) {
    let (mut key, mut value) = ("", Value::Empty);
    for field in Fields::new(raw) {
        match field {
            (1, Wire::Bytes(bytes)) => key = text(bytes),
            (2, Wire::Bytes(bytes)) => value = Value::new(bytes),
            _ => {}
        }
    }
    (key, value)
}

/// The `KeyValue`s that are in a field.
pub(crate) fn key_values(raw: &[u8], number: u32) -> impl Iterator<Item = (&str, Value<'_>)> {
    messages(raw, number).map(key_value)
}

/// The attribute of that name among a `LogRecord`'s fields, as a `KeyValue`. Only keys are read: a value may be long.
pub(crate) fn attribute<'r>(fields: &'r [u8], key: &str) -> Option<&'r [u8]> {
    messages(fields, ATTRIBUTES).find(|raw| messages(raw, 1).next().unwrap_or_default() == key.as_bytes())
}

/// The level of one of OpenTelemetry's severities.
pub(crate) fn level(severity_number: u8) -> Level {
    match severity_number {
        1..=4 => Level::TRACE,
        5..=8 => Level::DEBUG,
        0 | 9..=12 => Level::INFO,
        13..=16 => Level::WARN,
        _ => Level::ERROR,
    }
}

pub(crate) fn messages(raw: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(raw).filter_map(move |field| match field {
        (number, Wire::Bytes(content)) if number == wanted => Some(content),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}
