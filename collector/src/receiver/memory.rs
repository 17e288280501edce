//! How much memory requests may have together: a count that every body is held against while it is read and until it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

use super::answer::Refusal;

/// The memory of all requests in flight.
#[derive(Debug)]
pub(super) struct Memory {
    used: AtomicUsize,
    bytes_max: usize,
    gauge: Gauge,
}

impl Memory {
    pub(super) fn new(bytes_max: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bytes_max, gauge })
    }

    /// A request's part of it, empty at first.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        Hold { memory: self.clone(), bytes: 0 }
    }
}

/// One request's part of the memory; given back when dropped.
#[derive(Debug)]
pub(super) struct Hold {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Hold {
    /// Takes so many bytes more, or refuses: for a while where others hold the memory, for good where this request alone is too large.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let bytes_max = self.memory.bytes_max;
        if self.bytes + bytes > bytes_max {
            return Err(Refusal::TooLarge { bytes_max });
        }
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= bytes_max);
        match self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Err(_) => Err(Refusal::MemoryFull),
            Ok(_) => {
                self.bytes += bytes;
                self.memory.gauge.inc_by(bytes as i64);
                Ok(())
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.gauge.dec_by(self.bytes as i64);
    }
}
