//! Views of what all signals share: attributes, values, the scope.

use crate::wire::{Fields, Value};

/// A value of any kind. Nested values are read when they are iterated.
#[derive(Clone, Debug)]
pub enum AnyValue<'a> {
    /// No kind is set.
    Empty,
    /// `string_value`
    String(&'a str),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `array_value`
    Array(Values<'a>),
    /// `kvlist_value`
    KeyValueList(KeyValues<'a>),
    /// `bytes_value`
    Bytes(&'a [u8]),
    /// `string_value_strindex`: an index into a dictionary that only profiles have.
    StringIndex(i32),
}

impl<'a> AnyValue<'a> {
    /// Reads an `AnyValue` message; of several kinds the last counts.
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        let mut last = None;
        for field @ (number, _) in Fields::new(message) {
            if (1..=8).contains(&number) {
                last = Some(field);
            }
        }
        match last {
            Some((1, Value::Bytes(bytes))) => Self::String(text(bytes)),
            Some((2, Value::Varint(value))) => Self::Bool(value != 0),
            Some((3, Value::Varint(value))) => Self::Int(value as i64),
            Some((4, Value::Fixed64(bits))) => Self::Double(f64::from_bits(bits)),
            Some((5, Value::Bytes(bytes))) => Self::Array(Values::new(bytes)),
            Some((6, Value::Bytes(bytes))) => Self::KeyValueList(KeyValues::of_list(bytes)),
            Some((7, Value::Bytes(bytes))) => Self::Bytes(bytes),
            Some((8, Value::Varint(value))) => Self::StringIndex(value as i32),
            _ => Self::Empty,
        }
    }

    /// The string, where the value is one.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// The values of an array.
#[derive(Clone, Debug)]
pub struct Values<'a>(Fields<'a>);

impl<'a> Values<'a> {
    /// The values of an encoded `ArrayValue`.
    pub fn new(message: &'a [u8]) -> Self {
        Self(Fields::new(message))
    }

    /// The encoded `ArrayValue` of the values that were not iterated yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0.rest()
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = AnyValue<'a>;

    fn next(&mut self) -> Option<AnyValue<'a>> {
        self.0.find_map(|field| match field {
            (1, Value::Bytes(message)) => Some(AnyValue::new(message)),
            _ => None,
        })
    }
}

/// A key and its value.
#[derive(Clone, Copy, Debug)]
pub struct KeyValue<'a> {
    /// The key; compare it as bytes where that is enough, [`key`](Self::key) checks that it is UTF-8.
    pub key_bytes: &'a [u8],
    /// The encoded `AnyValue`, if there is one.
    pub value_bytes: Option<&'a [u8]>,
    /// The encoded `KeyValue`.
    pub raw: &'a [u8],
}

impl<'a> KeyValue<'a> {
    /// Reads a `KeyValue` message.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        let mut this = Self { key_bytes: b"", value_bytes: None, raw };
        for field in Fields::new(raw) {
            match field {
                (1, Value::Bytes(key)) => this.key_bytes = key,
                (2, Value::Bytes(value)) => this.value_bytes = Some(value),
                _ => {}
            }
        }
        this
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &'a str {
        text(self.key_bytes)
    }

    /// `key_strindex`: an index into a dictionary that only profiles have.
    pub fn key_strindex(&self) -> i32 {
        last_varint(self.raw, 3) as i32
    }

    /// The value; `Empty` where there is none.
    #[inline]
    pub fn value(&self) -> AnyValue<'a> {
        self.value_bytes.map_or(AnyValue::Empty, AnyValue::new)
    }
}

/// Attributes, or the entries of a `KeyValueList`, in the order they came.
#[derive(Clone, Debug)]
pub struct KeyValues<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> KeyValues<'a> {
    /// The fields with that number in a message.
    #[inline]
    pub(crate) fn new(message: &'a [u8], number: u32) -> Self {
        Self { fields: Fields::new(message), number }
    }

    /// The entries of an encoded `KeyValueList`.
    pub fn of_list(message: &'a [u8]) -> Self {
        Self::new(message, 1)
    }

    /// The value of the first entry with that key.
    #[inline]
    pub fn get(mut self, key: &str) -> Option<AnyValue<'a>> {
        self.find(|entry| entry.key_bytes == key.as_bytes()).map(|entry| entry.value())
    }
}

impl<'a> Iterator for KeyValues<'a> {
    type Item = KeyValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<KeyValue<'a>> {
        loop {
            match self.fields.next()? {
                (number, Value::Bytes(message)) if number == self.number => return Some(KeyValue::new(message)),
                _ => {}
            }
        }
    }
}

/// What made the telemetry: `InstrumentationScope`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
}

impl<'a> Scope<'a> {
    /// `name`
    pub fn name(&self) -> &'a str {
        last_text(self.raw, 1)
    }

    /// `version`
    pub fn version(&self) -> &'a str {
        last_text(self.raw, 2)
    }

    /// `attributes`
    pub fn attributes(&self) -> KeyValues<'a> {
        KeyValues::new(self.raw, 3)
    }

    /// `dropped_attributes_count`
    pub fn dropped_attributes_count(&self) -> u32 {
        last_varint(self.raw, 4) as u32
    }
}

/// A string of the wire; empty where it is not UTF-8, which checked bytes never are.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

/// The last string field with that number.
pub(crate) fn last_text(message: &[u8], number: u32) -> &str {
    let strings = Fields::new(message).filter_map(|field| match field {
        (n, Value::Bytes(bytes)) if n == number => Some(bytes),
        _ => None,
    });
    strings.last().map_or("", text)
}

/// The last varint field with that number.
pub(crate) fn last_varint(message: &[u8], number: u32) -> u64 {
    let values = Fields::new(message).filter_map(|field| match field {
        (n, Value::Varint(value)) if n == number => Some(value),
        _ => None,
    });
    values.last().unwrap_or_default()
}

/// The first message field with that number: the only one in a request that was admitted.
pub(crate) fn message(message: &[u8], number: u32) -> Option<&[u8]> {
    messages(message, number).next()
}

/// The message fields with that number.
#[inline]
pub(crate) fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> + Clone {
    Fields::new(message).filter_map(move |field| match field {
        (n, Value::Bytes(bytes)) if n == number => Some(bytes),
        _ => None,
    })
}
