//! What an error tells of itself, by OpenTelemetry's conventions for exceptions.

use std::error::Error;
use std::fmt::{self, Write};
use std::io;

use super::put_text_field;
use crate::callsite::put_attribute;

/// Appends `exception.message`, `exception.type` if the error tells one, and `exception.stacktrace` if it has sources; how many these are.
#[cold]
pub(super) fn put(out: &mut Vec<u8>, error: &(dyn Error + 'static), chars_max: usize) -> u32 {
    let mut count = 0;
    let mut put = |key: &str, text: fmt::Arguments<'_>| {
        put_attribute(out, key, |out| put_text_field(out, text, chars_max));
        count += 1;
    };
    put("exception.message", format_args!("{error}"));
    let name = TypeName::of(error);
    if !name.as_str().is_empty() {
        put("exception.type", format_args!("{}", name.as_str()));
    }
    if error.source().is_some() {
        put("exception.stacktrace", format_args!("{}", Causes(error)));
    }
    count
}

/// An error and its sources, a line each.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut head = "";
        while let Some(error) = next {
            let name = TypeName::of(error);
            let colon = if name.as_str().is_empty() { "" } else { ": " };
            write!(f, "{head}{}{colon}{error}", name.as_str())?;
            next = error.source();
            head = "\nCaused by: ";
        }
        Ok(())
    }
}

/// The name that an error's `Debug` begins with: a derived one begins with the type's name, or with the variant's. Nothing else tells what is
/// behind `dyn Error`.
struct TypeName {
    bytes: [u8; TYPE_NAME_BYTES_MAX],
    len: usize,
}

/// Longest name of an error's type in bytes (64); a longer one is cut off.
const TYPE_NAME_BYTES_MAX: usize = 64;

impl TypeName {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut name = Self { bytes: [0; TYPE_NAME_BYTES_MAX], len: 0 };
        let _ = match error.is::<io::Error>() {
            true => name.write_str("std::io::Error"), // its `Debug` begins with a variant of something within
            false => write!(name, "{error:?}"),       // an error is the name's end
        };
        name
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for TypeName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let is_name = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
            if !is_name || self.len == TYPE_NAME_BYTES_MAX {
                return Err(fmt::Error);
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
