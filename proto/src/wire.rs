//! Protobuf's wire format: a reader that borrows, and functions that append.
//!
//! The reader never panics and never reads beyond its slice. Groups, which proto3 does not have, are an error.

use std::fmt;

/// The greatest nesting of messages in messages that is read, as prost has it. Deeper input is an error.
pub const NESTING_DEPTH_MAX: u32 = 100;

/// Greatest number of bytes of a varint.
pub const VARINT_BYTES_MAX: usize = 10;

/// Bytes that are not a message, and where in them the mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Offset in bytes from the start of the outermost message.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The message ends inside a field.
    Truncated,
    /// A varint is longer than ten bytes or greater than 64 bits hold.
    Varint,
    /// A field number is 0 or above 2^29 - 1.
    FieldNumber,
    /// A wire type that does not exist, or a group.
    WireType,
    /// A field's wire type is not the one its type has.
    UnexpectedWireType,
    /// A string is not UTF-8.
    Utf8,
    /// Messages nest deeper than [`NESTING_DEPTH_MAX`].
    TooDeep,
    /// Large messages come in pieces on too many levels: putting them together would take many times their size.
    TooManyPieces,
}

impl DecodeErrorKind {
    /// The error of this kind at `offset`.
    pub fn at(self, offset: usize) -> DecodeError {
        DecodeError { offset, kind: self }
    }
}

impl DecodeError {
    /// The same error seen from the message that holds the erroneous one at `start`.
    pub fn within(self, start: usize) -> Self {
        Self { offset: self.offset + start, ..self }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DecodeErrorKind::Truncated => "the message ends inside a field",
            DecodeErrorKind::Varint => "a varint is too long",
            DecodeErrorKind::FieldNumber => "a field number is out of range",
            DecodeErrorKind::WireType => "a wire type is unknown, or a group",
            DecodeErrorKind::UnexpectedWireType => "a field has another wire type than its definition",
            DecodeErrorKind::Utf8 => "a string is not UTF-8",
            DecodeErrorKind::TooDeep => "messages nest too deeply",
            DecodeErrorKind::TooManyPieces => "messages come in pieces on too many levels",
        };
        write!(f, "invalid protobuf at byte {}: {what}", self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// A field's value as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `int32`, `int64`, `uint32`, `uint64`, `sint32`, `sint64`, `bool` or an enum.
    Varint(u64),
    /// `fixed64`, `sfixed64` or `double`.
    Fixed64(u64),
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// `fixed32`, `sfixed32` or `float`.
    Fixed32(u32),
}

/// Reads the fields of one message, front to back.
///
/// Its functions are inlined wherever they are called: their results are too large for registers, and a call that passes them through
/// memory costs more than the reading itself (`benches/decode.rs` takes two and a half times as long).
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a message's bytes.
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message, len: message.len() }
    }

    /// How many bytes have been read.
    #[inline]
    pub fn offset(&self) -> usize {
        self.len - self.rest.len()
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field's number and value; `None` at the end.
    #[inline(always)]
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.offset();
        let key = self.varint()?;
        let number = (key >> 3) as u32;
        if key > u64::from(u32::MAX) || number == 0 {
            return Err(DecodeErrorKind::FieldNumber.at(start));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.bytes()?),
            5 => Value::Fixed32(self.fixed32()?),
            _ => return Err(DecodeErrorKind::WireType.at(start)),
        };
        Ok(Some((number, value)))
    }

    /// A varint of up to 64 bits.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7F) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * i);
            if *byte < 0x80 {
                if i == VARINT_BYTES_MAX - 1 && *byte > 1 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        let kind =
            if self.rest.len() < VARINT_BYTES_MAX { DecodeErrorKind::Truncated } else { DecodeErrorKind::Varint };
        Err(kind.at(self.offset()))
    }

    /// A length and that many bytes.
    #[inline(always)]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.offset();
        let len = self.varint()?;
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (bytes, rest) = split.ok_or(DecodeErrorKind::Truncated.at(start))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Four bytes, least significant first.
    #[inline(always)]
    pub fn fixed32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeErrorKind::Truncated.at(self.offset()))?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// Eight bytes, least significant first.
    #[inline(always)]
    pub fn fixed64(&mut self) -> Result<u64, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeErrorKind::Truncated.at(self.offset()))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }
}

/// The fields of a message that was checked before: an iterator that simply ends where the bytes are no message.
#[derive(Clone, Debug)]
pub struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    /// The fields of a message's bytes.
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        Self(Reader::new(message))
    }

    /// What comes after the fields that were yielded.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.0.rest()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.field().ok().flatten()
    }
}

/// How many bytes `value` takes as a varint: 1 to 10.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field: `int32` and `int64` by sign extension (`value as i64 as u64`), `bool` as 0 or 1.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a `fixed64`, `sfixed64` (`as u64`) or `double` (`to_bits`) field.
#[inline]
pub fn put_fixed64_field(out: &mut Vec<u8>, number: u32, value: u64) {
    if number < 16 {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        return out.extend_from_slice(&[(number << 3 | 1) as u8, a, b, c, d, e, f, g, h]); // one piece, one look for room
    }
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `fixed32`, `sfixed32` or `float` field.
#[inline]
pub fn put_fixed32_field(out: &mut Vec<u8>, number: u32, value: u32) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string, bytes or a message that is already encoded.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_bytes_header(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the head of a length-delimited field whose `len` bytes the caller appends next.
#[inline]
pub fn put_bytes_header(out: &mut Vec<u8>, number: u32, len: usize) {
    if number < 16 && len < 0x80 {
        return out.extend_from_slice(&[(number << 3 | 2) as u8, len as u8]); // one piece, one look for room
    }
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, len as u64);
}

/// Appends a message field whose content `write` appends.
#[inline]
pub fn put_message_field<R>(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let open = begin_message_field(out, number);
    let result = write(out);
    end_message_field(out, open);
    result
}

/// A message field whose content is being appended.
#[derive(Debug)]
#[must_use = "`end_message_field` puts the length in"]
pub struct OpenMessage {
    /// Where the placeholder of the length is.
    start: usize,
}

impl OpenMessage {
    /// The message field whose length is the byte at `start`, a 0 yet, for who writes a field's first bytes in another way.
    #[inline]
    pub fn at(start: usize) -> Self {
        Self { start }
    }
}

/// Begins a message field; its content is what is appended until [`end_message_field`].
#[inline]
pub fn begin_message_field(out: &mut Vec<u8>, number: u32) -> OpenMessage {
    put_bytes_header(out, number, 0);
    OpenMessage { start: out.len() - 1 }
}

/// Ends a message field by putting its length in: a content of 128 bytes or more is moved up by a few bytes for that.
#[inline]
pub fn end_message_field(out: &mut Vec<u8>, OpenMessage { start }: OpenMessage) {
    let len = out.len() - start - 1;
    match len < 0x80 {
        true => out[start] = len as u8,
        false => put_long_length(out, start, len),
    }
}

#[inline(never)]
fn put_long_length(out: &mut Vec<u8>, start: usize, len: usize) {
    let extra = varint_len(len as u64) - 1;
    out.resize(out.len() + extra, 0);
    out.copy_within(start + 1..start + 1 + len, start + 1 + extra);
    let mut rest = len;
    for byte in &mut out[start..start + extra] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start + extra] = rest as u8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mistakes_are_told_with_their_place() {
        let error = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            loop {
                match reader.field() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no error in {bytes:x?}"),
                    Err(error) => return (error.offset, error.kind),
                }
            }
        };
        assert_eq!(error(&[0x08]), (1, DecodeErrorKind::Truncated));
        assert_eq!(error(&[0x08, 1, 0x12, 2, 0]), (3, DecodeErrorKind::Truncated));
        assert_eq!(error(&[0x09, 1, 2, 3]), (1, DecodeErrorKind::Truncated));
        assert_eq!(error(&[0x0D, 1, 2, 3]), (1, DecodeErrorKind::Truncated));
        assert_eq!(error(&[0x00, 1]), (0, DecodeErrorKind::FieldNumber));
        assert_eq!(error(&[0x80, 0x80, 0x80, 0x80, 0x10, 1]), (0, DecodeErrorKind::FieldNumber));
        assert_eq!(error(&[0x0B, 0x0C]), (0, DecodeErrorKind::WireType));
        assert_eq!(error(&[0x0E]), (0, DecodeErrorKind::WireType));
        assert_eq!(error(&[&[0x08], &[0xFF; 10][..]].concat()), (1, DecodeErrorKind::Varint));
        assert_eq!(error(&[&[0x08], &[0xFF; 9][..], &[2]].concat()), (1, DecodeErrorKind::Varint));
    }

    proptest! {
        #[test]
        fn varints_are_what_prost_makes_of_them(value: u64) {
            let value = value >> (value % 64);
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut expected = Vec::new();
            prost::encoding::encode_varint(value, &mut expected);
            prop_assert_eq!(&out, &expected);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(Reader::new(&out).varint(), Ok(value));
        }

        #[test]
        fn a_message_field_has_its_length(len in 0..70_000usize) {
            let content = vec![7; len];
            let (mut out, mut expected) = (vec![1], vec![1]);
            put_message_field(&mut out, 3, |out| out.extend_from_slice(&content));
            put_bytes_field(&mut expected, 3, &content);
            prop_assert_eq!(out, expected);
        }
    }
}
