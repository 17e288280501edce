//! Records on stderr, to be read by people: time, level, target, message, fields, and the trace's id.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{TraceContextExt, TraceId};
use tracing_core::field::{Field, Visit};
use tracing_core::{Event, Level, Subscriber};
#[cfg(feature = "log")]
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::encode::ErrorChain;
use crate::lane::map_current_context;
use crate::one_line::OneLine;

/// Writes each event as one line, at once and in the calling thread, so that the last lines before a crash are there. Control characters in what
/// an event tells are escaped, newlines too: whoever can put a text into a message can neither forge a line nor command the terminal.
pub(crate) struct Console {
    colors: bool,
}

impl Console {
    /// With colours if stderr is a terminal and `NO_COLOR` is not set.
    pub(crate) fn stderr() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colors: std::io::stderr().is_terminal() && !is_unwanted }
    }

    fn line(&self, line: &mut String, event: &Event<'_>, time: SystemTime, trace_id: TraceId) -> fmt::Result {
        #[cfg(feature = "log")]
        let normalized = event.normalized_metadata();
        #[cfg(not(feature = "log"))]
        let normalized: Option<tracing_core::Metadata<'_>> = None;
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let (dim, reset) = if self.colors { (DIM, RESET) } else { ("", "") };
        let level = if self.colors { color(*metadata.level()) } else { "" };
        write!(line, "{dim}{}{reset} {level}{:>5}{reset} ", Utc(time), metadata.level())?;
        line.push_str(dim);
        write!(OneLine(line), "{}:", metadata.target())?;
        line.push_str(reset);
        event.record(&mut Message(line));
        event.record(&mut Fields { line, dim, reset, is_log: normalized.is_some() });
        if trace_id != TraceId::INVALID {
            write!(line, " {dim}trace_id={trace_id}{reset}")?;
        }
        line.push('\n');
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for Console {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local!(static LINE: Cell<String> = const { Cell::new(String::new()) });
        let trace_id = map_current_context(|context| {
            (!context.is_telemetry_suppressed()).then(|| context.span().span_context().trace_id())
        });
        let Some(trace_id) = trace_id.unwrap_or(Some(TraceId::INVALID)) else { return }; // none where the thread is ending
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        let _ = self.line(&mut line, event, SystemTime::now(), trace_id); // a faulty `Debug` cuts its line short
        let _ = std::io::stderr().write_all(line.as_bytes()); // there is nowhere to tell it
        if line.capacity() <= LINE_BYTES_MAX {
            let _ = LINE.try_with(|kept| kept.set(line));
        }
    }
}

/// Most bytes of a line's buffer that a thread keeps between calls (8 KiB); a longer line's is freed.
const LINE_BYTES_MAX: usize = 8 * 1024;

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(OneLine(self.0), " {value:?}");
        }
    }
}

struct Fields<'a> {
    line: &'a mut String,
    dim: &'static str,
    reset: &'static str,
    is_log: bool,
}

impl Visit for Fields<'_> {
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &ErrorChain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if name != "message" && !(self.is_log && name.starts_with("log.")) {
            let Self { dim, reset, .. } = self;
            let _ = write!(self.line, " {dim}{name}={reset}");
            let _ = write!(OneLine(self.line), "{value:?}");
        }
    }
}

/// A time as RFC 3339 in UTC, to the millisecond.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
    }
}

/// Year, month and day of a day since 1970, by Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // days since 0000-03-01, where each era of 400 years begins
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_rfc_3339() {
        let utc = |seconds, millis: u32| Utc(UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000)).to_string();
        assert_eq!(utc(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(utc(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_523_696, 999), "2026-11-24T12:34:56.999Z");
    }
}
