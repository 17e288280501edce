//! What makes two errors the same error.

use std::error::Error;
use std::fmt;

use tracing_core::Metadata;

use super::{Frames, type_of};

/// Where an exception is told, as far as it stays the same over edits elsewhere.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// A callsite of `tracing`.
    Callsite(&'a Metadata<'a>),
    /// Where a panic began, with its message if that is a constant.
    Panic { file: &'a str, message: Option<&'a str> },
}

/// A number that is the same for the same error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of_error(error: &(dyn Error + 'static), backtrace: &Frames, place: Place<'_>) -> Self {
        let mut this = Self(OFFSET);
        let mut next = Some(error);
        while let Some(error) = next {
            this.add(type_of(error).as_deref().unwrap_or("?"));
            next = error.source();
        }
        this.add_origin(backtrace, place);
        this
    }

    pub(crate) fn of_panic(backtrace: &Frames, place: Place<'_>) -> Self {
        let mut this = Self(OFFSET);
        this.add("panic");
        this.add_origin(backtrace, place);
        this
    }

    fn add_origin(&mut self, backtrace: &Frames, place: Place<'_>) {
        let before = *self;
        backtrace.own().for_each(|function| self.add_function(function));
        if *self != before {
            return;
        }
        match place {
            Place::Callsite(metadata) => {
                self.add(metadata.target());
                self.add(metadata.file().unwrap_or_default());
                metadata.fields().iter().for_each(|field| self.add(field.name()));
            }
            Place::Panic { file, message } => {
                self.add(file);
                self.add(message.unwrap_or_default());
            }
        }
    }

    /// Numbers of closures change with each that is put before them.
    fn add_function(&mut self, function: &str) {
        let mut rest = function;
        while let Some((before, after)) = rest.split_once("{closure#") {
            self.add(before);
            rest = after.split_once('}').map_or("", |(_, after)| after);
        }
        self.add(rest);
    }

    /// FNV-1a, with a mark at the end of each text.
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0xFF]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
}

const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
