//! The account of every record: emitted = delivered + refused + dropped (by reason) + spooled + in flight.

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
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// let watchbell::Account { emitted, delivered, .. } = guard.ledger().logs;
/// # Ok::<(), watchbell::InitError>(())
/// ```
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
    /// Records that a forked child made, in the ledger of that child: nothing is sent there, and none of its parent's records is counted.
    pub dropped_forked: u64,
    /// Records that a signal's handler made while its thread was handing another over, for which it would have waited for ever. The metrics have them with the `error.type`
    /// `reentrant`; neither stderr before the shutdown nor the collector's loss records tell of them.
    pub dropped_reentrant: u64,
    /// Records dropped because the [spool](crate::spool)'s `bytes_max` was reached and they were the oldest.
    pub dropped_spool_full: u64,
    /// Records of which the disk gave back something else than was written.
    pub dropped_spool_damaged: u64,
    /// Records in the [spool](crate::spool), for this process or a later one to deliver.
    pub spooled: u64,
    /// Records that wait in memory, or are being sent and are not spooled.
    pub in_flight: u64,
    /// Records, counted elsewhere too, that were in memory alone although [`Spool::mapped`](crate::spool::Spool::mapped) was asked for: the file could not be
    /// had, had no room, or was on a disk that hung. The metrics `watchbell.sdk.{log,span}.unmapped` are this.
    pub unmapped: u64,
    /// Records of other processes, none of which is counted above.
    pub taken_over: TakenOver,
}

/// What became of records that other processes of the service left in the [spool](crate::spool), and this one took over:
/// found = delivered + refused + dropped + waiting.
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// let watchbell::TakenOver { found, waiting, .. } = guard.ledger().logs.taken_over;
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TakenOver {
    /// Records that were there.
    pub found: u64,
    /// Records that a collector has acknowledged.
    pub delivered: u64,
    /// Records that a collector refused for good.
    pub refused: u64,
    /// Records dropped because the spool was full and they were the oldest, or because they were damaged.
    pub dropped: u64,
    /// Records that are still in the spool.
    pub waiting: u64,
}

impl Account {
    /// Records that nobody will ever see: refused or dropped.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// assert_eq!(guard.ledger().traces.lost(), 0);
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn lost(&self) -> u64 {
        self.refused + self.dropped()
    }

    /// Records dropped, for whatever reason.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// assert_eq!(guard.ledger().logs.dropped(), 0);
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn dropped(&self) -> u64 {
        self.dropped_buffer_full
            + self.dropped_at_export_timeout
            + self.dropped_after_shutdown
            + self.dropped_at_deadline
            + self.dropped_forked
            + self.dropped_reentrant
            + self.dropped_spool_full
            + self.dropped_spool_damaged
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logs: {}; traces: {}; metrics: {}", self.logs, self.traces, self.metrics)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { emitted, delivered, refused, spooled, in_flight, taken_over, .. } = self;
        write!(f, "{emitted} emitted = {delivered} delivered + {refused} refused + {} dropped", self.dropped())?;
        let reasons = [
            ("buffer full", self.dropped_buffer_full),
            ("at the export's timeout", self.dropped_at_export_timeout),
            ("at the deadline", self.dropped_at_deadline),
            ("after shutdown", self.dropped_after_shutdown),
            ("in a forked child", self.dropped_forked),
            ("reentrant", self.dropped_reentrant),
            ("spool full", self.dropped_spool_full),
            ("spool damaged", self.dropped_spool_damaged),
        ];
        let mut open = " (";
        for (reason, count) in reasons.into_iter().filter(|(_, count)| *count > 0) {
            write!(f, "{open}{count} {reason}")?;
            open = ", ";
        }
        if open == ", " {
            write!(f, ")")?;
        }
        if *spooled > 0 {
            write!(f, " + {spooled} spooled")?;
        }
        write!(f, " + {in_flight} in flight")?;
        if self.unmapped > 0 {
            write!(f, ", of all these {} unmapped", self.unmapped)?;
        }
        if taken_over.found > 0 {
            write!(f, ", and of earlier processes {taken_over}")?;
        }
        Ok(())
    }
}

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, delivered, refused, dropped, waiting } = self;
        write!(f, "{found} found = {delivered} delivered + {refused} refused + {dropped} dropped + {waiting} waiting")
    }
}

/// What has become of one signal's records, but for those that came after the shutdown.
#[derive(Default)]
pub(crate) struct Counters {
    ends: [AtomicU64; End::COUNT],
    spooled: AtomicU64,
    unmapped: AtomicU64,
    taken_over: AtomicU64,
    taken_over_ends: [AtomicU64; End::COUNT],
    /// Records that a forked child made, and above them which child: its own children begin anew.
    forked: AtomicU64,
    reentrant: AtomicU64,
}

/// Below which bit the records of a forked child are counted.
const FORKED_BITS: u32 = 40;

/// What becomes of a record that was not made too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Refused,
    BufferFull,
    AtExportTimeout,
    AtDeadline,
    SpoolFull,
    SpoolDamaged,
}

impl End {
    const COUNT: usize = 7;

    /// Those that are losses and can be told while the export goes on, by the names that the collector is told.
    pub(crate) const LOSSES: [(Self, &str); 5] = [
        (Self::BufferFull, "buffer_full"),
        (Self::SpoolFull, "spool_full"),
        (Self::SpoolDamaged, "spool_damaged"),
        (Self::Refused, "refused"),
        (Self::AtExportTimeout, "export_timeout"),
    ];
}

/// The counters at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    ends: [u64; End::COUNT],
    spooled: u64,
    unmapped: u64,
    reentrant: u64,
    taken_over: TakenOver,
}

impl Counters {
    pub(crate) fn add(&self, end: End, records: u64) {
        self.ends[end as usize].fetch_add(records, Ordering::Release);
    }

    /// How many records have ended so, those that were taken over among them.
    pub(crate) fn count(&self, end: End) -> u64 {
        [&self.ends, &self.taken_over_ends].iter().map(|ends| ends[end as usize].load(Ordering::Acquire)).sum()
    }

    /// Records are on disk from here on.
    pub(crate) fn add_spooled(&self, records: u64) {
        self.spooled.fetch_add(records, Ordering::Relaxed);
    }

    /// Spooled records are not, or need not be, on disk any more: they count as in flight until they are counted elsewhere.
    pub(crate) fn remove_spooled(&self, records: u64) {
        self.spooled.fetch_sub(records, Ordering::Relaxed);
    }

    /// Records are in memory alone that should not be.
    pub(crate) fn add_unmapped(&self, records: u64) {
        self.unmapped.fetch_add(records, Ordering::Relaxed);
    }

    /// How many are or were.
    pub(crate) fn unmapped(&self) -> u64 {
        self.unmapped.load(Ordering::Relaxed)
    }

    /// Records of another process were found.
    pub(crate) fn add_taken_over(&self, records: u64) {
        self.taken_over.fetch_add(records, Ordering::Relaxed);
    }

    /// Records of another process have ended so.
    pub(crate) fn add_taken_over_end(&self, end: End, records: u64) {
        self.taken_over_ends[end as usize].fetch_add(records, Ordering::Release);
    }

    /// A forked child made a record. Takes no lock.
    pub(crate) fn add_forked(&self, forks: u32) {
        let next = |forked| Some((u64::from(forks) << FORKED_BITS) + forked_of(forked, forks) + 1);
        let _ = self.forked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// A record came while its own thread handed another over: nothing else may be touched.
    #[cold]
    pub(crate) fn add_reentrant(&self) {
        self.reentrant.fetch_add(1, Ordering::Relaxed);
    }

    /// How many it has made.
    pub(crate) fn forked(&self, forks: u32) -> u64 {
        forked_of(self.forked.load(Ordering::Relaxed), forks)
    }

    pub(crate) fn account_of_forked(&self, forks: u32) -> Account {
        let forked = self.forked(forks);
        Account { emitted: forked, dropped_forked: forked, ..Account::default() }
    }

    pub(crate) fn settled(&self) -> Settled {
        let load = |ends: &[AtomicU64; End::COUNT]| std::array::from_fn(|i| ends[i].load(Ordering::Acquire));
        let ends = load(&self.ends);
        let spooled = self.spooled.load(Ordering::Relaxed); // after the ends, so that no record is in both
        let taken_over = taken_over(load(&self.taken_over_ends), self.taken_over.load(Ordering::Relaxed));
        let reentrant = self.reentrant.load(Ordering::Relaxed);
        Settled { ends, spooled, unmapped: self.unmapped(), reentrant, taken_over }
    }
}

fn forked_of(forked: u64, forks: u32) -> u64 {
    if forked >> FORKED_BITS == u64::from(forks) { forked & ((1 << FORKED_BITS) - 1) } else { 0 }
}

fn taken_over(ends: [u64; End::COUNT], found: u64) -> TakenOver {
    let [delivered, refused, dropped @ ..] = ends;
    let dropped = dropped.iter().sum();
    let ended: u64 = delivered + refused + dropped;
    TakenOver { found, delivered, refused, dropped, waiting: found - ended.min(found) }
}

impl Settled {
    /// The account of `tally`, which was taken after these counters.
    pub(crate) fn account(self, tally: Tally) -> Account {
        let of = |end: End| self.ends[end as usize];
        let settled = self.ends.iter().sum::<u64>() + tally.dropped_after_shutdown + self.spooled;
        Account {
            emitted: tally.emitted + self.reentrant, // of no tally
            delivered: of(End::Delivered),
            refused: of(End::Refused),
            dropped_buffer_full: of(End::BufferFull),
            dropped_at_export_timeout: of(End::AtExportTimeout),
            dropped_after_shutdown: tally.dropped_after_shutdown,
            dropped_at_deadline: of(End::AtDeadline),
            dropped_forked: 0,
            dropped_reentrant: self.reentrant,
            dropped_spool_full: of(End::SpoolFull),
            dropped_spool_damaged: of(End::SpoolDamaged),
            spooled: self.spooled,
            in_flight: tally.emitted - settled.min(tally.emitted),
            unmapped: self.unmapped,
            taken_over: self.taken_over,
        }
    }
}
