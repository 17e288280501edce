//! What a record must be, whatever is logged: a naive model beside the encoder. The property test and the fuzz target (`sdk/fuzz`) take both by the same bytes.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use tracing::field::DebugValue;
use watchbell::context::Context;
use watchbell::logs::Logger;
use watchbell::opentelemetry::logs as api;
use watchbell::opentelemetry::logs::{LogRecord as _, Logger as _};

/// As in LIMITS.md.
const RECORD_BYTES_MAX: usize = 256 * 1024;
const VALUE_BYTES_MAX: usize = 64 * 1024;
const CONTEXT_BYTES_MAX: usize = 64 * 1024;
const VALUE_DEPTH_MAX: usize = 32;

/// Bytes of a record of OpenTelemetry's API that attributes and body may fill.
const API_BYTES_MAX: usize = RECORD_BYTES_MAX - 64;

/// Bytes of a record of `tracing` or `log` from which on an attribute may have no room: what is left is for a value's end and the body.
const ROOM_BYTES: usize = RECORD_BYTES_MAX - 2 * VALUE_BYTES_MAX - 64;

/// The attribute limits of OpenTelemetry's specification.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) attributes_max: usize,
    pub(crate) chars_max: usize,
}

impl Limits {
    /// Those that count for a body, too.
    const OF_BYTES: Self = Self { attributes_max: 0, chars_max: usize::MAX };

    /// The usual ones, and such as meet with what is logged.
    pub(crate) const INTERESTING: [Self; 8] = [
        Self { attributes_max: 128, chars_max: u32::MAX as usize },
        Self { attributes_max: 100_000, chars_max: u32::MAX as usize },
        Self { attributes_max: 0, chars_max: 1 },
        Self { attributes_max: 1, chars_max: 0 },
        Self { attributes_max: 2, chars_max: 10 },
        Self { attributes_max: 5, chars_max: 3 },
        Self { attributes_max: 30, chars_max: 16_384 },
        Self { attributes_max: 128, chars_max: 65_535 },
    ];

    /// As the environment says them.
    pub(crate) fn variables(self) -> [(&'static str, String); 2] {
        [
            ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", self.attributes_max.to_string()),
            ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", self.chars_max.to_string()),
        ]
    }

    fn kept(self, text: &str) -> String {
        let mut kept: String = text.chars().take(self.chars_max).collect();
        while kept.len() > VALUE_BYTES_MAX {
            kept.pop();
        }
        kept
    }
}

/// The bytes that decide what is logged.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Short ones of any characters, and long ones whose bytes end near a limit, within a character perhaps.
    pub(crate) fn text(&mut self) -> String {
        let c = ['a', 'é', '€', '𝄞'][self.below(4)];
        match self.below(8) {
            0 => c.to_string().repeat(usize::from(self.byte()) << 8 | usize::from(self.byte())),
            1 => {
                let odd = "x".repeat(self.below(4));
                odd + &c.to_string().repeat(VALUE_BYTES_MAX / c.len_utf8() + self.below(8) - 4)
            }
            _ => {
                let bytes: Vec<u8> = (0..self.below(24)).map(|_| self.byte()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    fn key(&mut self) -> String {
        match self.below(64) {
            63 => format!("k{}", self.text()),
            name => format!("k{}", name % 40),
        }
    }
}

/// Writes its text in pieces, and goes on after an error, as a faulty `Debug` does.
pub(crate) struct Pieces(String, usize);

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut written) = (self.0.as_str(), Ok(()));
        while !rest.is_empty() {
            let end =
                (self.1.min(rest.len())..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
            written = written.and(f.write_str(&rest[..end]));
            rest = &rest[end..];
        }
        written
    }
}

/// A value of a field.
enum Field {
    Int(i64),
    Unsigned(u64),
    Wide(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Bytes(Box<[u8]>),
    Debug(DebugValue<Pieces>, String),
}

impl Field {
    fn read(input: &mut Input<'_>) -> Option<Self> {
        Some(match input.below(10) {
            0 => Self::Int(input.number() as i64),
            1 => Self::Unsigned(input.number()),
            2 => Self::Wide(i128::from(input.number()) << input.below(64)),
            3 => Self::Float(f64::from_bits(input.number())),
            4 => Self::Bool(input.byte() > 127),
            5 | 6 => Self::Text(input.text()),
            7 => Self::Bytes(input.text().into_bytes().into()),
            8 => {
                let (text, piece) = (input.text(), 1 + input.below(2) * 4000 + input.below(9));
                Self::Debug(tracing::field::debug(Pieces(text.clone(), piece)), text)
            }
            _ => return None,
        })
    }

    fn value(&self) -> &dyn tracing::Value {
        match self {
            Self::Int(value) => value,
            Self::Unsigned(value) => value,
            Self::Wide(value) => value,
            Self::Float(value) => value,
            Self::Bool(value) => value,
            Self::Text(value) => value,
            Self::Bytes(value) => value,
            Self::Debug(value, _) => value,
        }
    }

    /// OTLP has no integers but those of 64 signed bits: others are text, whole.
    fn expected(&self, limits: Limits) -> AnyValue {
        let int = |value: i128| {
            i64::try_from(value)
                .map_or_else(|_| text(limits.kept(&value.to_string())), |value| any(Kind::IntValue(value)))
        };
        match self {
            Self::Int(value) => int(i128::from(*value)),
            Self::Unsigned(value) => int(i128::from(*value)),
            Self::Wide(value) => int(*value),
            Self::Float(value) => any(Kind::DoubleValue(*value)),
            Self::Bool(value) => any(Kind::BoolValue(*value)),
            Self::Text(value) | Self::Debug(_, value) => text(limits.kept(value)),
            Self::Bytes(value) => {
                any(Kind::BytesValue(value[..value.len().min(VALUE_BYTES_MAX).min(limits.chars_max)].to_vec()))
            }
        }
    }
}

/// What becomes of a call.
pub(crate) struct Expected {
    severity_number: i32,
    body: Option<AnyValue>,
    /// As far as their number allows.
    attributes: Vec<KeyValue>,
    dropped: usize,
    /// Bytes of a record from which on an attribute may have no room.
    room: usize,
}

/// Logs whatever the bytes say; the records that have to come of it, in their order.
pub(crate) fn log(input: &mut Input<'_>, limits: Limits, logger: &Logger, has_log_crate: bool) -> Vec<Expected> {
    let mut expected = Vec::new();
    while !input.0.is_empty() && expected.len() < 20 {
        let within = Within::read(input);
        expected.push(within.context.in_scope(|| match input.below(if has_log_crate { 3 } else { 2 }) {
            0 => event(input, limits, &within),
            1 => api_record(input, limits, &within, logger),
            _ => log_record(input, limits, &within),
        }));
    }
    expected
}

/// A context, and what is in it.
struct Within {
    context: Context,
    fields: Vec<KeyValue>,
    left_out: usize,
}

impl Within {
    fn read(input: &mut Input<'_>) -> Self {
        let mut this = Self { context: Context::default(), fields: Vec::new(), left_out: 0 };
        for _ in 0..input.below(6) {
            let key = input.key();
            let (context, value) = match input.below(4) {
                0 => (this.context.clone().with(&key, -3), any(Kind::IntValue(-3))),
                1 => (this.context.clone().with(&key, 0.5), any(Kind::DoubleValue(0.5))),
                _ => {
                    let said = input.text();
                    (this.context.clone().with(&key, &*said), text(Limits::OF_BYTES.kept(&said)))
                }
            };
            let mut fields: Vec<_> = this.fields.iter().filter(|field| field.key != key).cloned().collect();
            fields.push(key_value(&key, value));
            match fields.iter().map(field_bytes).sum::<usize>() > CONTEXT_BYTES_MAX {
                true => this.left_out += 1,
                false => this.fields = fields,
            }
            this.context = context;
        }
        this
    }

    /// Its fields that the record has not itself, cut as the record's.
    fn beside<'a>(&'a self, own: &'a [String], limits: Limits) -> impl Iterator<Item = KeyValue> + 'a {
        let other = self.fields.iter().filter(|field| !own.contains(&field.key));
        other.map(move |field| match field.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Kind::StringValue(said)) => key_value(&field.key, text(limits.kept(said))),
            _ => field.clone(),
        })
    }
}

macro_rules! event {
    ($line:ident, $fields:ident, $message:expr, $($name:ident $index:literal)*) => {{
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        let value = |i: usize| $fields[i].as_ref().map(Field::value);
        $line = line!();
        tracing::warn!($($name = value($index),)* "{:?}", $message);
        NAMES
    }};
}

fn event(input: &mut Input<'_>, limits: Limits, within: &Within) -> Expected {
    let fields: [Option<Field>; 30] = std::array::from_fn(|_| Field::read(input));
    let (said, piece) = (input.text(), 1 + input.below(9));
    let line;
    let names = event!(line, fields, Pieces(said.clone(), piece), k0 0 k1 1 k2 2 k3 3 k4 4 k5 5 k6 6 k7 7 k8 8 k9 9 k10 10 k11 11 k12 12 k13 13 k14 14
        k15 15 k16 16 k17 17 k18 18 k19 19 k20 20 k21 21 k22 22 k23 23 k24 24 k25 25 k26 26 k27 27 k28 28 k29 29);
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let place = [
        key_value("code.file.path", text(file!().to_owned())),
        key_value("code.line.number", any(Kind::IntValue(i64::from(line)))),
    ];
    let has_place = limits.attributes_max >= 2; // both or none
    let of_event =
        names.iter().zip(&fields).filter_map(|(name, field)| Some(key_value(name, field.as_ref()?.expected(limits))));
    let attributes = place.into_iter().filter(|_| has_place).chain(of_event).chain(within.beside(&names, limits));
    Expected {
        severity_number: 13,
        body: Some(text(Limits::OF_BYTES.kept(&said))),
        attributes: attributes.collect(),
        dropped: within.left_out + if has_place { 0 } else { 2 },
        room: ROOM_BYTES,
    }
}

fn log_record(input: &mut Input<'_>, limits: Limits, within: &Within) -> Expected {
    let (said, mut attributes) = (input.text(), Vec::new());
    let pairs: Vec<(String, Option<Field>)> = (0..input.below(250))
        .map(|i| match input.byte() {
            0..=63 => (input.key(), Field::read(input)),
            other => (format!("n{i}"), Some(Field::Int(i64::from(other)))), // many of them for few bytes
        })
        .collect();
    let key_values: Vec<_> = pairs.iter().map(|(key, field)| (key.as_str(), as_log(field))).collect();
    log::logger().log(
        &log::Record::builder()
            .args(format_args!("{said}"))
            .level(log::Level::Error)
            .target("model")
            .key_values(&&key_values[..])
            .build(),
    );
    for (key, field) in &pairs {
        let value = match field {
            None => AnyValue::default(),
            Some(Field::Bytes(_)) => any(Kind::IntValue(1)),
            Some(other) => other.expected(limits),
        };
        attributes.push(key_value(key, value));
    }
    attributes.extend(within.beside(&[], limits));
    Expected {
        severity_number: 17,
        body: Some(text(Limits::OF_BYTES.kept(&said))),
        attributes,
        dropped: within.left_out,
        room: ROOM_BYTES,
    }
}

fn as_log(field: &Option<Field>) -> log::kv::Value<'_> {
    match field {
        None => log::kv::Value::null(),
        Some(Field::Int(value)) => log::kv::Value::from(*value),
        Some(Field::Unsigned(value)) => log::kv::Value::from(*value),
        Some(Field::Wide(value)) => log::kv::Value::from(*value),
        Some(Field::Float(value)) => log::kv::Value::from(*value),
        Some(Field::Bool(value)) => log::kv::Value::from(*value),
        Some(Field::Text(value)) => log::kv::Value::from(value.as_str()),
        Some(Field::Debug(value, _)) => log::kv::Value::from_debug(value),
        Some(Field::Bytes(_)) => log::kv::Value::from(1), // it has none
    }
}

fn api_record(input: &mut Input<'_>, limits: Limits, within: &Within, logger: &Logger) -> Expected {
    let mut record = logger.create_log_record();
    let mut expected = Expected {
        severity_number: 0,
        body: None,
        attributes: Vec::new(),
        dropped: within.left_out,
        room: API_BYTES_MAX,
    };
    let mut bytes = 18; // both times
    if input.below(2) == 0 {
        let value = value(input);
        let mut body = shown(&value, Limits::OF_BYTES, VALUE_DEPTH_MAX);
        if bytes + field_bytes(&body) > API_BYTES_MAX {
            body = text("(a body larger than a record may be)".to_owned());
        }
        bytes += field_bytes(&body);
        expected.body = Some(body);
        record.set_body(value);
    }
    for i in 0..input.below(40) {
        if input.below(12) == 0 {
            for n in 0..input.below(200) {
                let key = format!("n{i}.{n}");
                record.add_attribute(key.clone(), 1);
                expected.add(key_value(&key, any(Kind::IntValue(1))), limits, &mut bytes);
            }
        } else {
            let (key, value) = (input.key(), value(input));
            expected.add(key_value(&key, shown(&value, limits, VALUE_DEPTH_MAX)), limits, &mut bytes);
            record.add_attribute(key, value);
        }
    }
    logger.emit(record);
    let own: Vec<_> = expected.attributes.iter().map(|attribute| attribute.key.clone()).collect();
    within.beside(&own, limits).for_each(|field| expected.add(field, limits, &mut bytes));
    expected
}

fn value(input: &mut Input<'_>) -> api::AnyValue {
    let innermost = match input.below(8) {
        0 => api::AnyValue::Int(input.number() as i64),
        1 => api::AnyValue::Double(f64::from_bits(input.number())),
        2 => api::AnyValue::Boolean(true),
        3 => api::AnyValue::Bytes(Box::new(input.text().into_bytes())),
        4 => api::AnyValue::ListAny(Box::new((0..input.below(6)).map(|_| api::AnyValue::from(input.text())).collect())),
        _ => api::AnyValue::from(input.text()),
    };
    let depth = if input.below(4) == 0 { input.below(40) } else { 0 };
    (0..depth).fold(innermost, |within, level| match level % 2 {
        0 => api::AnyValue::ListAny(Box::new(vec![within, 1.into()])),
        _ => api::AnyValue::Map(Box::new([("within".into(), within), ("beside".into(), "ééééééé".into())].into())),
    })
}

/// What is to be seen of a value.
fn shown(value: &api::AnyValue, limits: Limits, depth_left: usize) -> AnyValue {
    let within = |value: &api::AnyValue| shown(value, limits, depth_left - 1);
    any(match value {
        api::AnyValue::Int(value) => Kind::IntValue(*value),
        api::AnyValue::Double(value) => Kind::DoubleValue(*value),
        api::AnyValue::Boolean(value) => Kind::BoolValue(*value),
        api::AnyValue::String(text) => Kind::StringValue(limits.kept(text.as_str())),
        api::AnyValue::Bytes(bytes) => {
            Kind::BytesValue(bytes[..bytes.len().min(VALUE_BYTES_MAX).min(limits.chars_max)].to_vec())
        }
        api::AnyValue::ListAny(_) if depth_left == 0 => Kind::ArrayValue(ArrayValue::default()),
        api::AnyValue::ListAny(items) => Kind::ArrayValue(ArrayValue { values: items.iter().map(within).collect() }),
        api::AnyValue::Map(_) if depth_left == 0 => Kind::KvlistValue(KeyValueList::default()),
        api::AnyValue::Map(entries) => Kind::KvlistValue(KeyValueList {
            values: entries.iter().map(|(key, value)| key_value(key.as_str(), within(value))).collect(),
        }),
        other => panic!("{other:?}"),
    })
}

impl Expected {
    /// An attribute of OpenTelemetry's API: the last value of a name counts.
    fn add(&mut self, attribute: KeyValue, limits: Limits, bytes: &mut usize) {
        if let Some(i) = self.attributes.iter().position(|known| known.key == attribute.key) {
            *bytes -= field_bytes(&self.attributes.remove(i));
        }
        if self.attributes.len() >= limits.attributes_max || *bytes + field_bytes(&attribute) > API_BYTES_MAX {
            self.dropped += 1;
        } else {
            *bytes += field_bytes(&attribute);
            self.attributes.push(attribute);
        }
    }

    /// Panics if the record is another. An attribute is missing only where there are too many, or the record is too long for it, and is counted then.
    pub(crate) fn check(mut self, mut record: LogRecord, limits: Limits) {
        let bytes = record.encoded_len();
        assert!(bytes <= RECORD_BYTES_MAX, "{bytes} bytes");
        assert_eq!(record.severity_number, self.severity_number);
        assert_eq!(comparable(record.body.take()), comparable(self.body.take()));
        let mut found =
            record.attributes.into_iter().map(|attribute| (attribute.key, comparable(attribute.value))).peekable();
        let mut kept = Vec::new();
        for attribute in self.attributes {
            if kept.contains(&attribute.key) {
                continue; // the first of a name counts
            }
            let needed = field_bytes(&attribute);
            let wanted = (attribute.key, comparable(attribute.value));
            if found.next_if_eq(&wanted).is_some() {
                kept.push(wanted.0);
            } else {
                self.dropped += 1;
                let has_room = kept.len() < limits.attributes_max && bytes + needed < self.room;
                assert!(!has_room, "{wanted:?} is missing; {:?} is there", found.peek());
            }
        }
        assert!(kept.len() <= limits.attributes_max);
        assert_eq!((found.next(), record.dropped_attributes_count as usize), (None, self.dropped));
    }
}

fn any(value: Kind) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn text(text: String) -> AnyValue {
    any(Kind::StringValue(text))
}

fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// How many bytes a message is as a field.
fn field_bytes(message: &impl Message) -> usize {
    1 + prost::length_delimiter_len(message.encoded_len()) + message.encoded_len()
}

/// Its bytes, with the entries of maps in order: a hash map has none, and a number that is none is not even equal to itself.
fn comparable(value: Option<AnyValue>) -> Vec<u8> {
    fn sort(value: &mut AnyValue) {
        match &mut value.value {
            Some(Kind::ArrayValue(array)) => array.values.iter_mut().for_each(sort),
            Some(Kind::KvlistValue(map)) => {
                map.values.sort_by(|a, b| a.key.cmp(&b.key));
                map.values.iter_mut().filter_map(|entry| entry.value.as_mut()).for_each(sort);
            }
            _ => {}
        }
    }
    let mut value = value.unwrap_or_default();
    sort(&mut value);
    value.encode_to_vec()
}
