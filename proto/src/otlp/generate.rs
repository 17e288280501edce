//! Requests for the tests, made by the schema from random bytes: legal ones of every shape that the wire allows, and broken ones.

use proptest::prelude::*;

use super::Signal;
use super::schema::{Field, Kind, Label, Message};
use crate::wire::*;

/// Legal requests; unknown fields, fields in any order, messages in pieces, unpacked numbers and overlong strings of zeros among them.
pub(crate) fn request(signal: Signal) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600).prop_map(move |entropy| {
        let mut out = Vec::new();
        let mut source = Source { entropy: &entropy };
        while !source.entropy.is_empty() {
            source.message(Message::request(signal), 12, &mut out);
        }
        out
    })
}

/// Requests with some bytes changed, cut off or put in.
pub(crate) fn broken_request(signal: Signal) -> impl Strategy<Value = Vec<u8>> {
    let mutations = proptest::collection::vec((any::<proptest::sample::Index>(), 0..3u8, any::<u8>()), 1..4);
    (request(signal), mutations).prop_map(|(mut bytes, mutations)| {
        for (index, what, byte) in mutations {
            let at = index.index(bytes.len() + 1);
            match what {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                _ if at < bytes.len() => bytes[at] ^= byte,
                _ => bytes.push(byte),
            }
        }
        bytes
    })
}

/// Any of the signals.
pub(crate) fn signal() -> impl Strategy<Value = Signal> {
    proptest::sample::select(&Signal::ALL[..])
}

struct Source<'a> {
    entropy: &'a [u8],
}

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.entropy.split_first() else { return 0 };
        self.entropy = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..128 => u64::from(byte),
            byte @ 128..192 => u64::MAX - u64::from(byte),
            byte => (0..8).fold(u64::from(byte), |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    fn text(&mut self) -> &'static str {
        const TEXTS: [&str; 6] =
            ["", "a", "service.name", "ünïcode ✓", "\0\n", "a text that is longer than most others are"];
        TEXTS[usize::from(self.byte()) % TEXTS.len()]
    }

    fn message(&mut self, message: &'static Message, depth: u32, out: &mut Vec<u8>) {
        let count = if depth == 0 { 0 } else { self.byte() % 6 };
        for _ in 0..count {
            match self.byte() {
                0..8 => put_varint_field(out, 900, self.number()),
                8..16 => put_bytes_field(out, 17, self.text().as_bytes()),
                byte => self.field(&message.fields[usize::from(byte) % message.fields.len()], depth - 1, out),
            }
        }
    }

    fn field(&mut self, field: &'static Field, depth: u32, out: &mut Vec<u8>) {
        let number = field.number;
        match field.kind {
            Kind::Message(child) => put_message_field(out, number, |out| self.message(child, depth, out)),
            Kind::String | Kind::Bytes | Kind::Id => put_bytes_field(out, number, self.text().as_bytes()),
            kind if field.label == Label::Many && self.byte().is_multiple_of(2) => {
                put_message_field(out, number, |out| {
                    for _ in 0..self.byte() % 4 {
                        match kind {
                            Kind::Double | Kind::Fixed64 => out.extend_from_slice(&self.number().to_le_bytes()),
                            _ => put_varint(out, self.number()),
                        }
                    }
                })
            }
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => put_fixed64_field(out, number, self.number()),
            Kind::Fixed32 => put_fixed32_field(out, number, self.number() as u32),
            _ => put_varint_field(out, number, self.number()),
        }
    }
}

#[test]
fn requests_are_rich_enough_to_prove_something() {
    use super::{Limits, validate};
    use proptest::strategy::ValueTree;
    for signal in Signal::ALL {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let (mut records, mut pieces) = (0, 0);
        for _ in 0..300 {
            let bytes = request(signal).new_tree(&mut runner).unwrap().current();
            let walked = validate(signal, &bytes, &Limits::NONE).unwrap();
            records += walked.records;
            pieces += u32::from(walked.repeated_messages);
        }
        assert!(
            records > 300 && pieces > 50,
            "{signal:?}: {records} records, {pieces} requests with messages in pieces"
        );
    }
}
