//! Says something on stderr: the one place where the telemetry's own troubles can be told. `OTEL_LOG_LEVEL` says how much.

#[cfg(unix)]
mod stderr;

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::one_line::OneLine;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Verbosity {
    /// Nothing.
    None,
    /// That records are lost.
    Error,
    /// What was not understood, and that the collector is away.
    Warn,
    /// That it is there again.
    Info,
}

impl Verbosity {
    /// The one of a level's name; nothing here is more detailed than `info`.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "none" | "off" => Ok(Self::None),
            "fatal" | "error" => Ok(Self::Error),
            "warn" | "warning" => Ok(Self::Warn),
            "info" | "debug" | "trace" => Ok(Self::Info),
            _ => Err(format!("`{name}` is not a level; write `none`, `error`, `warn`, `info`, `debug` or `trace`")),
        }
    }
}

static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Info as u8);

/// Sets how much the whole process is told.
pub(crate) fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

pub(crate) fn error(text: fmt::Arguments<'_>) {
    tell(Verbosity::Error, text);
}

pub(crate) fn warn(text: fmt::Arguments<'_>) {
    tell(Verbosity::Warn, text);
}

pub(crate) fn info(text: fmt::Arguments<'_>) {
    tell(Verbosity::Info, text);
}

fn tell(verbosity: Verbosity, text: fmt::Arguments<'_>) {
    if verbosity as u8 <= VERBOSITY.load(Ordering::Relaxed) {
        let _ = write(lines(&text.to_string()).as_bytes()); // there is nowhere to tell that it failed
    }
}

/// The text as it is told. Further lines of it, such as carets under what is wrong, stay lines where they are indented; all else is escaped, since a
/// collector's words may be in it: no such word can begin a line of its own.
fn lines(text: &str) -> String {
    let mut lines = "watchbell: ".to_owned();
    for (i, line) in text.split(INDENTED).enumerate() {
        lines.push_str(if i > 0 { INDENTED } else { "" });
        let _ = fmt::Write::write_str(&mut OneLine(&mut lines), line); // a string takes all
    }
    lines.push('\n');
    lines
}

const INDENTED: &str = "\n    ";

#[cfg(unix)]
use stderr::write;

#[cfg(not(unix))]
fn write(line: &[u8]) -> std::io::Result<()> {
    std::io::Write::write_all(&mut std::io::stderr(), line)
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_that_are_indented_stay_lines() {
        let error = "info,a=loud".parse::<crate::levels::Directives>().unwrap_err();
        assert_eq!(lines(&error).lines().nth(2), Some("           ^^^^"));
        assert_eq!(lines("it says \nwatchbell: \r\x1b[2J"), "watchbell: it says \\nwatchbell: \\r\\u{1b}[2J\n");
    }
}
