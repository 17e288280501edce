//! How far event time has surely got: what can fall is judged no later than that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Greatest number of sources that the watermark waits for. It does not wait for a source that comes when there are so many.
pub const SOURCES_MAX: usize = 4096;

/// The sources of records (a source is what has one resource), and the event time that each has reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watermark {
    reached: BTreeMap<u64, Timestamp>,
    low: Timestamp,
    idle_timeout: Duration,
}

impl Watermark {
    /// A watermark that begins at `now`. A source that is behind the clock by `idle_timeout` is not waited for.
    pub fn new(now: Timestamp, idle_timeout: Duration) -> Self {
        Self { reached: BTreeMap::new(), low: now, idle_timeout }
    }

    /// The same with another `idle_timeout`.
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// Takes note that a source has reached an event time.
    pub fn handle_source(&mut self, source: u64, reached: Timestamp) {
        if let Some(known) = self.reached.get_mut(&source) {
            *known = reached.max(*known);
        } else if self.reached.len() < SOURCES_MAX {
            self.reached.insert(source, reached);
        }
    }

    /// Takes note of what another knows of sources.
    pub(crate) fn adopt_sources(&mut self, other: &Self) {
        other.reached.iter().for_each(|(source, reached)| self.handle_source(*source, *reached));
    }

    /// Moves on to `now`; the watermark never goes back.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let idle_timeout = self.idle_timeout;
        self.reached.retain(|_, reached| *reached + idle_timeout > now);
        let low = self.reached.values().min().copied().unwrap_or(now).min(now);
        self.low = self.low.max(low);
    }

    /// The event time that every active source has reached.
    pub fn low(&self) -> Timestamp {
        self.low
    }

    /// By how much a source may be behind the clock.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// How many sources it waits for.
    pub fn sources(&self) -> usize {
        self.reached.len()
    }

    /// When the watermark will be at `time` if no record comes before.
    pub fn reaches(&self, time: Timestamp) -> Timestamp {
        let behind = self.reached.values().filter(|reached| **reached < time);
        behind.map(|reached| *reached + self.idle_timeout).max().map_or(time, |leaves| leaves.max(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_slowest_source_until_that_is_idle() {
        let mut watermark = Watermark::new(Timestamp(0), Duration::from_nanos(10));
        watermark.handle_source(1, Timestamp(5));
        watermark.handle_source(2, Timestamp(3));
        watermark.handle_timeout(Timestamp(6));
        assert_eq!(watermark.low(), Timestamp(3));
        assert_eq!(watermark.reaches(Timestamp(4)), Timestamp(13));
        watermark.handle_timeout(Timestamp(13));
        assert_eq!(watermark.low(), Timestamp(5));
        watermark.handle_timeout(Timestamp(15));
        assert_eq!(watermark.low(), Timestamp(15));
        assert_eq!(watermark.reaches(Timestamp(16)), Timestamp(16));
        watermark.handle_source(3, Timestamp(14));
        watermark.handle_timeout(Timestamp(15));
        assert_eq!(watermark.low(), Timestamp(15), "it never goes back");
    }
}
