//! What an error tells of itself, by OpenTelemetry's conventions for exceptions.

use std::error::Error;
use std::fmt::{self, Write};
use std::io;

/// Calls `put` with `exception.message`, `exception.type` if the error tells one, and `exception.stacktrace` if it has sources.
#[cold]
pub(super) fn tell(error: &(dyn Error + 'static), mut put: impl FnMut(&str, fmt::Arguments<'_>)) {
    put("exception.message", format_args!("{error}"));
    let debug = DebugHead::of(error);
    if let Some(name) = debug.type_name() {
        put("exception.type", format_args!("{name}"));
    }
    if error.source().is_some() {
        put("exception.stacktrace", format_args!("{}", Causes(error)));
    }
}

/// An error and its sources, a line each.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut head = "";
        while let Some(error) = next {
            f.write_str(head)?;
            if let Some(name) = DebugHead::of(error).type_name() {
                write!(f, "{name}: ")?;
            }
            write!(f, "{error}")?;
            next = error.source();
            head = "\nCaused by: ";
        }
        Ok(())
    }
}

/// What an error's `Debug` begins with: a derived one begins with the type's name, or with the variant's, as in `Refused`, `Refused(..)` or
/// `Refused { .. }`. Nothing else tells what is behind `dyn Error`.
struct DebugHead {
    bytes: [u8; DEBUG_HEAD_BYTES],
    len: usize,
}

/// Longest name of an error's type in bytes (64); a longer one is not told.
const TYPE_NAME_BYTES_MAX: usize = 64;

/// A name and what follows it.
const DEBUG_HEAD_BYTES: usize = TYPE_NAME_BYTES_MAX + " {".len();

impl DebugHead {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut head = Self { bytes: [0; DEBUG_HEAD_BYTES], len: 0 };
        let _ = match error.is::<io::Error>() {
            true => head.write_str("std::io::Error"), // its `Debug` begins with a variant of something within
            false => write!(head, "{error:?}"),       // an error is the head's end
        };
        head
    }

    /// The name, if it is one: the `Debug` that `anyhow` has, for one, is a text.
    fn type_name(&self) -> Option<&str> {
        let head = &self.bytes[..self.len];
        let end =
            head.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"_:".contains(byte)).unwrap_or(head.len());
        let (name, rest) = (str::from_utf8(&head[..end]).ok()?, &head[end..]);
        let is_type = name.rsplit("::").next()?.starts_with(|c: char| c.is_ascii_uppercase());
        let is_derived = rest.is_empty() || rest.starts_with(b"(") || rest == b" {" || rest.starts_with(b" { ");
        (is_type && is_derived && name.len() <= TYPE_NAME_BYTES_MAX).then_some(name)
    }
}

impl Write for DebugHead {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == DEBUG_HEAD_BYTES {
                return Err(fmt::Error);
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
