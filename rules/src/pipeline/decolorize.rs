//! `| decolorize`: the line without the sequences by which terminals colour it.

use std::sync::LazyLock;

use regex::Regex;

use super::extracted::{Extracted, Record};
use crate::entry::LogEntry;

/// Runs the stage.
pub(super) fn run<E: LogEntry>(record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
    let plain = extracted.with_line(record, |line, _| {
        if !line.contains(['\u{1b}', '\u{9b}']) {
            return None;
        }
        Some(SEQUENCE.replace_all(line, "").into_owned())
    });
    if let Some(plain) = plain {
        extracted.set_line(plain);
    }
    true
}

/// A control sequence as ECMA-48 has it, or one that a bell ends; the expression is that of the npm package ansi-regex 2 to 4 (MIT),
/// which Loki uses too.
static SEQUENCE: LazyLock<Regex> = LazyLock::new(|| {
    let expression = concat!(
        r"[\x{1B}\x{9B}][\[\]()#;?]*(?:",
        r"(?:(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\x07)",
        r"|(?:(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~])",
        r")"
    );
    Regex::new(expression).expect("the expression is right")
});
