//! How far a replay has got, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::clock::SharedClock;

/// A line on stderr that is written again and again; nothing where that is no terminal.
pub(super) struct Progress<'a> {
    what: &'static str,
    clock: &'a SharedClock,
    began: Duration,
    shown: Option<Duration>,
    is_terminal: bool,
}

impl<'a> Progress<'a> {
    /// Of what is done.
    pub(super) fn new(what: &'static str, clock: &'a SharedClock) -> Self {
        Self { what, clock, began: clock.monotonic(), shown: None, is_terminal: io::stderr().is_terminal() }
    }

    /// Shows the part that is done, a few times a second.
    pub(super) fn show(&mut self, part: f64, records: u64) {
        if !self.is_terminal {
            return;
        }
        let now = self.clock.monotonic();
        if self.shown.is_some_and(|shown| now < shown + EVERY) {
            return;
        }
        self.shown = Some(now);
        let rate = records as f64 / now.saturating_sub(self.began).as_secs_f64().max(1e-9);
        let line = format!("{}  {}", self.what, bar(part, records, rate));
        let _ = write!(io::stderr().lock(), "\r{line}\x1b[K"); // a terminal that is gone needs no bar
    }

    /// Takes the line away.
    pub(super) fn finish(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn bar(part: f64, records: u64, rate: f64) -> String {
    let full = (part.clamp(0.0, 1.0) * WIDTH as f64) as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full));
    format!("{bar} {:3.0} %  {records} records, {:.1} M/s", part * 100.0, rate / 1e6)
}

const WIDTH: usize = 30;
const EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_fills() {
        assert_eq!(
            super::bar(0.5, 10, 1_500_000.0),
            format!("{}{}  50 %  10 records, 1.5 M/s", "█".repeat(15), "░".repeat(15))
        );
    }
}
