//! The account of every record: emitted = delivered + refused + dropped (by reason) + in flight.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lane::Tally;

/// What became of the log records, spans and metrics of this process.
///
/// It is exact after a [flush](crate::Guard::flush) and at shutdown; in between, what has not settled counts as in flight.
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// let ledger = guard.ledger();
/// assert_eq!(ledger.logs.lost(), 0);
/// println!("{ledger}"); // logs: 0 emitted = 0 delivered + 0 refused + 0 dropped + 0 in flight; traces: ...
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Log records.
    pub logs: Account,
    /// Spans that were sampled and have ended.
    pub traces: Account,
    /// Data points of metrics that were collected.
    pub metrics: Account,
}

/// What became of one signal's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Records that were made.
    pub emitted: u64,
    /// Records that a collector has acknowledged.
    pub delivered: u64,
    /// Records that a collector refused for good (a client error, or counted in `partial_success`), or whose sending broke off for a fault of our
    /// own.
    pub refused: u64,
    /// Records dropped because `buffer_bytes_max`, or `OTEL_BLRP_MAX_QUEUE_SIZE` or `OTEL_BSP_MAX_QUEUE_SIZE`, was reached.
    pub dropped_buffer_full: u64,
    /// Records that were tried for as long as `OTEL_BLRP_EXPORT_TIMEOUT` or `OTEL_BSP_EXPORT_TIMEOUT` says.
    pub dropped_at_export_timeout: u64,
    /// Records made after the shutdown.
    pub dropped_after_shutdown: u64,
    /// Records that were not delivered when the shutdown's deadline passed.
    pub dropped_at_deadline: u64,
    /// Records that wait, or are being sent.
    pub in_flight: u64,
}

impl Account {
    /// Records that nobody will ever see: refused or dropped.
    pub fn lost(&self) -> u64 {
        self.refused + self.dropped()
    }

    /// Records dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_buffer_full
            + self.dropped_at_export_timeout
            + self.dropped_after_shutdown
            + self.dropped_at_deadline
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logs: {}; traces: {}; metrics: {}", self.logs, self.traces, self.metrics)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { emitted, delivered, refused, in_flight, .. } = self;
        write!(f, "{emitted} emitted = {delivered} delivered + {refused} refused + {} dropped", self.dropped())?;
        let reasons = [
            ("buffer full", self.dropped_buffer_full),
            ("at the export's timeout", self.dropped_at_export_timeout),
            ("at the deadline", self.dropped_at_deadline),
            ("after shutdown", self.dropped_after_shutdown),
        ];
        let mut open = " (";
        for (reason, count) in reasons.into_iter().filter(|(_, count)| *count > 0) {
            write!(f, "{open}{count} {reason}")?;
            open = ", ";
        }
        if open == ", " {
            write!(f, ")")?;
        }
        write!(f, " + {in_flight} in flight")
    }
}

/// What has become of one signal's records, but for those that came after the shutdown.
#[derive(Default)]
pub(crate) struct Counters {
    delivered: AtomicU64,
    refused: AtomicU64,
    dropped_at_export_timeout: AtomicU64,
    dropped_buffer_full: AtomicU64,
    dropped_at_deadline: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    delivered: u64,
    refused: u64,
    dropped_at_export_timeout: u64,
    dropped_buffer_full: u64,
    dropped_at_deadline: u64,
}

impl Counters {
    pub(crate) fn add_delivered(&self, records: u64) {
        self.delivered.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn add_refused(&self, records: u64) {
        self.refused.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn add_dropped_at_export_timeout(&self, records: u64) {
        self.dropped_at_export_timeout.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn add_dropped_buffer_full(&self, records: u64) {
        self.dropped_buffer_full.fetch_add(records, Ordering::Relaxed);
    }

    /// How many records were dropped because the buffer was full.
    pub(crate) fn dropped_buffer_full(&self) -> u64 {
        self.dropped_buffer_full.load(Ordering::Relaxed)
    }

    pub(crate) fn add_dropped_at_deadline(&self, records: u64) {
        self.dropped_at_deadline.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn settled(&self) -> Settled {
        Settled {
            delivered: self.delivered.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            dropped_at_export_timeout: self.dropped_at_export_timeout.load(Ordering::Relaxed),
            dropped_buffer_full: self.dropped_buffer_full(),
            dropped_at_deadline: self.dropped_at_deadline.load(Ordering::Relaxed),
        }
    }
}

impl Settled {
    /// The account of `tally`, which was taken after these counters.
    pub(crate) fn account(self, tally: Tally) -> Account {
        let dropped_in_time = self.dropped_at_export_timeout + self.dropped_at_deadline;
        let dropped_at_once = self.dropped_buffer_full + tally.dropped_after_shutdown;
        let settled = self.delivered + self.refused + dropped_in_time + dropped_at_once;
        Account {
            emitted: tally.emitted,
            delivered: self.delivered,
            refused: self.refused,
            dropped_buffer_full: self.dropped_buffer_full,
            dropped_at_export_timeout: self.dropped_at_export_timeout,
            dropped_after_shutdown: tally.dropped_after_shutdown,
            dropped_at_deadline: self.dropped_at_deadline,
            in_flight: tally.emitted - settled.min(tally.emitted),
        }
    }
}
