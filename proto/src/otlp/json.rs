//! OTLP/JSON to protobuf bytes, for requests of all signals.
//!
//! As the specification has it: ids are hex in either case, other bytes are base64, 64-bit integers are strings or numbers, enums
//! are numbers, doubles may be `"NaN"`, `"Infinity"`, `"-Infinity"`, unknown fields are ignored. Beyond it, as protobuf's own JSON:
//! `null` is the default everywhere, enums may be names, fields may have their names from the `.proto` files.
//! Values nest as deep as `serde_json` goes: 128 levels of JSON.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Signal;
use super::schema::{Field, Kind, Label, Message};
use crate::wire::*;

/// JSON that is not the signal's request, and where in it the mistake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1; 0 where the mistake is at the end of the line before.
    pub column: usize,
    /// What is wrong there; what it shows of the request is cut.
    pub message: String,
    /// Whether the request is well so far, but larger in protobuf than it may be.
    pub is_too_large: bool,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid OTLP/JSON at line {} column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for JsonError {}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let message = excerpt(text.strip_suffix(&place).unwrap_or(&text)).into_owned();
        Self { line, column, message, is_too_large: false }
    }
}

/// The request's protobuf bytes. They pass [`validate`](super::validate()), but may be larger than the JSON: `[1,2]` is numbers of
/// eight bytes.
///
/// # Errors
/// It is no request, or larger than `bytes_max` in protobuf.
pub fn to_protobuf(signal: Signal, json: &[u8], bytes_max: usize) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity((json.len() / 2).min(bytes_max));
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let seed = MessageSeed { message: Message::request(signal), out: &mut out, bytes_max };
    let read = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(JsonError::from);
    let is_too_large = out.len() > bytes_max;
    match read {
        Ok(()) if is_too_large => Err(JsonError::from(serde_json::Error::custom(too_large(bytes_max)))),
        read => read.map(|()| out),
    }
    .map_err(|error| JsonError { is_too_large, ..error })
}

fn too_large(bytes_max: usize) -> String {
    format!("the request is larger than {bytes_max} bytes in protobuf")
}

/// The beginning of a text from outside that is to be shown.
fn excerpt(text: &str) -> Cow<'_, str> {
    if text.len() <= EXCERPT_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = (0..=EXCERPT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

const EXCERPT_BYTES_MAX: usize = 256;

/// Reads an object and appends the content of a message.
struct MessageSeed<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.message.name.rsplit('.').next().unwrap_or_default();
        write!(f, "an object for `{name}`")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed(self.message))? {
            match field {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(field) => map.next_value_seed(FieldSeed { field, out: self.out, bytes_max: self.bytes_max })?,
            }
        }
        Ok(())
    }
}

/// Finds the field of a key.
struct KeySeed(&'static Message);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|field| key == field.name || is_lower_camel_case(key, field.name)))
    }
}

/// Whether `key` is `name`, which is in snake case, in lower camel case.
fn is_lower_camel_case(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    let mut upper = false;
    let same = name.bytes().all(|byte| match byte {
        b'_' => {
            upper = true;
            true
        }
        byte => {
            let expected = if std::mem::take(&mut upper) { byte.to_ascii_uppercase() } else { byte };
            key.next() == Some(expected)
        }
    });
    same && key.next().is_none()
}

/// Reads a field's value and appends the field; of repeated fields the whole array.
struct FieldSeed<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match (self.field.label, self.field.kind) {
            (Label::Many, _) => deserializer.deserialize_any(ArrayVisitor(self)),
            (_, Kind::Message(child)) => deserializer.deserialize_option(OptionalMessage { child, seed: self }),
            _ => deserializer.deserialize_any(ScalarVisitor { field: self.field, null: Null::Absent, out: self.out }),
        }
    }
}

/// An array, or `null` for an empty one.
struct ArrayVisitor<'o>(FieldSeed<'o>);

impl<'de> Visitor<'de> for ArrayVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array for `{}`", self.0.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let FieldSeed { field, out, bytes_max } = self.0;
        if field.kind.is_packed() {
            return put_message_field(out, field.number, |out| {
                while seq.next_element_seed(ElementSeed { field, out, bytes_max })?.is_some() {}
                Ok(())
            });
        }
        while seq.next_element_seed(ElementSeed { field, out, bytes_max })?.is_some() {}
        Ok(())
    }
}

/// One value of a repeated field.
struct ElementSeed<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, out, bytes_max } = self;
        if out.len() > bytes_max {
            return Err(D::Error::custom(too_large(bytes_max)));
        }
        match field.kind {
            Kind::Message(message) => put_message_field(out, field.number, |out| {
                MessageSeed { message, out, bytes_max }.deserialize(deserializer)
            }),
            _ => deserializer.deserialize_any(ScalarVisitor { field, null: Null::Default, out }),
        }
    }
}

/// A message that a field holds once: `null` for none.
struct OptionalMessage<'o> {
    child: &'static Message,
    seed: FieldSeed<'o>,
}

impl<'de> Visitor<'de> for OptionalMessage<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object for `{}`", self.seed.field.name)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let FieldSeed { field, out, bytes_max } = self.seed;
        let message = self.child;
        put_message_field(out, field.number, |out| MessageSeed { message, out, bytes_max }.deserialize(deserializer))
    }
}

/// What `null` stands for.
#[derive(Clone, Copy)]
enum Null {
    /// A field that is not there.
    Absent,
    /// An array's element that is 0 or empty.
    Default,
}

/// A value that is no message. Numbers of repeated fields are appended without a tag.
struct ScalarVisitor<'o> {
    field: &'static Field,
    null: Null,
    out: &'o mut Vec<u8>,
}

impl ScalarVisitor<'_> {
    fn number<E: Error>(self, number: Number) -> Result<(), E> {
        let tag = (self.field.label != Label::Many).then_some(self.field.number);
        let Some(value) = number.encoded(self.field.kind) else {
            return Err(E::custom(format_args!(
                "{number} is out of range for `{}`, which is {}",
                self.field.name, self.field.kind
            )));
        };
        match (value, tag) {
            (Value::Varint(value), Some(tag)) => put_varint_field(self.out, tag, value),
            (Value::Varint(value), None) => put_varint(self.out, value),
            (Value::Fixed64(value), Some(tag)) => put_fixed64_field(self.out, tag, value),
            (Value::Fixed64(value), None) => self.out.extend_from_slice(&value.to_le_bytes()),
            (Value::Fixed32(value), Some(tag)) => put_fixed32_field(self.out, tag, value),
            (Value::Fixed32(value), None) => self.out.extend_from_slice(&value.to_le_bytes()),
            (Value::Bytes(_), _) => unreachable!("no number is encoded as bytes"),
        }
        Ok(())
    }

    fn mismatch<E: Error>(&self, found: fmt::Arguments<'_>) -> E {
        E::custom(format_args!("`{}` is {}, not {found}", self.field.name, self.field.kind))
    }

    fn hex<E: Error>(self, digits: &str) -> Result<(), E> {
        let Some(bytes) = decode_hex(digits) else {
            return Err(E::custom(format_args!("`{}` is hex digits, not `{}`", self.field.name, excerpt(digits))));
        };
        put_bytes_header(self.out, self.field.number, digits.len() / 2);
        self.out.extend(bytes);
        Ok(())
    }

    fn base64<E: Error>(self, text: &str) -> Result<(), E> {
        match BASE64.decode(text).or_else(|_| BASE64_URL.decode(text)) {
            Ok(bytes) => put_bytes_field(self.out, self.field.number, &bytes),
            Err(_) => return Err(E::custom(format_args!("`{}` is base64, not `{}`", self.field.name, excerpt(text)))),
        }
        Ok(())
    }
}

impl Visitor<'_> for ScalarVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for `{}`", self.field.kind, self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match (self.null, self.field.kind) {
            (Null::Absent, _) => Ok(()),
            (Null::Default, Kind::String | Kind::Bytes | Kind::Id) => self.visit_str(""),
            (Null::Default, _) => self.number(Number::Integer(0)),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => put_varint_field(self.out, self.field.number, u64::from(value)),
            _ => return Err(self.mismatch(format_args!("`{value}`"))),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.field.kind {
            kind if kind.is_number() => self.number(Number::Integer(i128::from(value))),
            _ => Err(self.mismatch(format_args!("`{value}`"))),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.field.kind {
            kind if kind.is_number() => self.number(Number::Integer(i128::from(value))),
            _ => Err(self.mismatch(format_args!("`{value}`"))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            kind if kind.is_number() => self.number(Number::Float(value)),
            _ => Err(self.mismatch(format_args!("`{value}`"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::String => {
                put_bytes_field(self.out, self.field.number, text.as_bytes());
                Ok(())
            }
            Kind::Id => self.hex(text),
            Kind::Bytes => self.base64(text),
            kind => match Number::parse(kind, text) {
                Some(number) => self.number(number),
                None => Err(self.mismatch(format_args!("`{:?}`", excerpt(text)))),
            },
        }
    }
}

/// A JSON number, or a string that stands for one.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// The number that a string stands for in a field of that kind.
    fn parse(kind: Kind, text: &str) -> Option<Self> {
        match (kind, text) {
            (Kind::Bool, _) => return None,
            (Kind::Enum(names), _) => {
                if let Some(value) = names.names.iter().position(|name| *name == text) {
                    return Some(Self::Integer(value as i128));
                }
            }
            (Kind::Double, "NaN") => return Some(Self::Float(f64::NAN)),
            (Kind::Double, "Infinity") => return Some(Self::Float(f64::INFINITY)),
            (Kind::Double, "-Infinity") => return Some(Self::Float(f64::NEG_INFINITY)),
            _ => {}
        }
        // Rust reads more than JSON writes: `+1`, `inf`, `nan`.
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        text.parse().map(Self::Integer).or_else(|_| text.parse().map(Self::Float)).ok()
    }

    /// As the wire has it in a field of that kind; `None` where it is out of range or has a fraction that it must not have.
    fn encoded(self, kind: Kind) -> Option<Value<'static>> {
        Some(match kind {
            Kind::Double => Value::Fixed64(self.as_f64().to_bits()),
            Kind::Fixed32 => Value::Fixed32(self.as_integer()?),
            Kind::Fixed64 => Value::Fixed64(self.as_integer()?),
            Kind::Sfixed64 => Value::Fixed64(self.as_integer::<i64>()? as u64),
            Kind::Int32 | Kind::Enum(_) => Value::Varint(i64::from(self.as_integer::<i32>()?) as u64),
            Kind::Int64 => Value::Varint(self.as_integer::<i64>()? as u64),
            Kind::Uint32 => Value::Varint(u64::from(self.as_integer::<u32>()?)),
            Kind::Uint64 => Value::Varint(self.as_integer()?),
            Kind::Sint32 => Value::Varint(u64::from(zigzag(self.as_integer()?))),
            Kind::Bool | Kind::String | Kind::Bytes | Kind::Id | Kind::Message(_) => return None,
        })
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    fn as_integer<T: TryFrom<i128>>(self) -> Option<T> {
        let integer = match self {
            Self::Integer(value) => value,
            Self::Float(value) if value.fract() == 0.0 => value as i128,
            Self::Float(_) => return None,
        };
        T::try_from(integer).ok()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

impl Kind {
    /// Whether JSON's numbers are read for it.
    fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::String | Self::Bytes | Self::Id | Self::Message(_))
    }

    /// Whether the values of a repeated field stand one after the other in one piece.
    fn is_packed(self) -> bool {
        self.is_number() || matches!(self, Self::Bool)
    }
}

/// What a user is told to write.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Double => "a number",
            Self::Int32 | Self::Sint32 => "an integer of 32 bits",
            Self::Int64 | Self::Sfixed64 => "an integer of 64 bits",
            Self::Uint32 | Self::Fixed32 => "an unsigned integer of 32 bits",
            Self::Uint64 | Self::Fixed64 => "an unsigned integer of 64 bits",
            Self::Bool => "`true` or `false`",
            Self::String => "a string",
            Self::Bytes => "a base64 string",
            Self::Id => "a string of hex digits",
            Self::Enum(_) => "the number or the name of an enum value",
            Self::Message(_) => "an object",
        })
    }
}

fn zigzag(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
}

fn decode_hex(digits: &str) -> Option<impl Iterator<Item = u8>> {
    let digits = digits.as_bytes();
    let legal = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    let nibble = |digit: u8| (digit as char).to_digit(16).unwrap_or_default() as u8;
    legal.then(|| digits.chunks_exact(2).map(move |pair| nibble(pair[0]) << 4 | nibble(pair[1])))
}

const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT_PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT_PADDING);
const LENIENT_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

#[cfg(test)]
mod tests;
