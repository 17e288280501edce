//! Records on disk while the collector is away.
//!
//! ```
//! use watchbell::spool::Spool;
//!
//! # let folder = tempfile::tempdir()?;
//! let guard = watchbell::builder()
//!     .service_name("checkout")
//!     .spool(Spool::in_dir(folder.path()).bytes_max(1 << 30).refuse_newest())
//!     # .variables([("OTEL_SDK_DISABLED", "true")])
//!     .init()?;
//! # drop(guard);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! or `WATCHBELL_SPOOL_DIR`, `WATCHBELL_SPOOL_BYTES_MAX`, `WATCHBELL_SPOOL_WHEN_FULL` (`drop_oldest`, `refuse_newest`) and `WATCHBELL_SPOOL_MAPPED`.
//!
//! # When
//!
//! As soon as a request has failed once, it and all that waits behind it go to disk, and what is recorded from then on follows once it has been
//! gathered (`OTEL_BLRP_SCHEDULE_DELAY`; an ERROR for a quarter of a second at most); so does what waits while the buffer is half full. At the shutdown the collector is tried
//! once more where nobody was there to answer; what it has not taken then, or shortly before the deadline, is on disk. A service whose collector answers writes
//! nothing.
//!
//! # `kill -9`
//!
//! With [`Spool::mapped`], `WATCHBELL_SPOOL_MAPPED=true` or `mapped: true`, a log record or span is in a file of the spool's folder when its call returns: the chunk
//! that its thread fills is mapped from there. When the process is killed, the next one of the service (or one that lives and whose collector comes back)
//! delivers what was not answered, and counts it as [taken over](crate::Account::taken_over). Off by default, since it has its price:
//!
//! - **At least once**, not exactly once: what the collector had answered in the last moment before the kill may be sent again, and in other requests than
//!   before, so that Watchbell's collector does not notice.
//! - A call takes longer: it computes a checksum, and the first one on each page of the file has a fault, where the file system may have it wait now and then.
//!   A disk that hangs may hold up such a call, one a thread. No other thread's call waits for that, unless it drops the oldest that wait. Once a thread has been found held up for a second all
//!   chunks that are begun are in memory, until it is over. The export may wait, too, when it notes in the file what has been answered; a flush and the
//!   shutdown keep their deadlines all the same. On tmpfs nobody waits, and a restart of the machine loses what waits.
//! - [What looks like a secret](crate::redact) is masked in the call, before the record is written.
//! - The file takes [`buffer_bytes_max`](crate::Builder::buffer_bytes_max) of the disk for each process that lives, beside the spool's own bytes. All of it is
//!   reserved at the start, so that a disk that fills up later harms nobody, and only where the file system keeps such a promise: on ext4, XFS or tmpfs, on
//!   Linux. Where there is none, or no room, or the disk hangs, records wait in memory as they do without, one warning says so, and [`unmapped`](crate::Account::unmapped) counts
//!   them.
//! - A disk that breaks, or somebody who cuts the file off, may end the process by SIGBUS, as with any mapped file; so may one that fills up once somebody has made
//!   a copy of the file by reflink on XFS.
//! - A shutdown that reaches its deadline with the collector away and the spool full leaves the file, with what is left, to the next process. That counts as
//!   [spooled](crate::Account::spooled). Where the spool is beyond `bytes_max` by that already, nothing is left, and the records count as
//!   [dropped at the deadline](crate::Account::dropped_at_deadline).
//! - What is recovered is one file of the spool, as large as the buffer at most, and is written whether or not there is room below `bytes_max`: the next
//!   request that is spooled finds the spool full. A service that is killed again and again before that, or whose spool refuses the newest, goes beyond by as many files.
//! - A request ends where a chunk does, so that what was answered is not sent again after an orderly shutdown. Where the limit of records in a request
//!   (`OTEL_BLRP_MAX_EXPORT_BATCH_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`) is below what a chunk holds (64 KiB, about two hundred records), a chunk is divided, and may be sent again as a whole.
//!
//! A power cut loses what the kernel had not written yet; what is not whole then is recognised by checksums and left out. A forked child takes no such chunks
//! unless it calls `init` itself. Metrics are not in it: the next collection has them all.
//!
//! # Whose
//!
//! Each service has a folder of its own, by `service.name`, and each process files of its own in it, locked for as long as it lives. What a process
//! leaves is sent, and then removed, by the next one that starts, or by one that lives and whose collector comes back. Two never send one file, and
//! the [`Ledger`](crate::Ledger) counts what was taken over [apart](crate::Account::taken_over).
//!
//! # In which order
//!
//! The oldest first: what earlier processes left, file by file as they were begun, then what is spooled, then what is in memory. Up to four requests of a
//! signal are under way at a time, and one that the collector is slow to take, or asks to be sent again, is overtaken by others; signals do not wait for
//! each other. What is under way is not dropped when the oldest give way: it is in memory, too.
//!
//! # What is promised
//!
//! If chunks are not mapped, `kill -9` loses what had not been handed to the disk yet: what a thread gathers, and requests that wait for the collector's first answer. Files are
//! not synced, so that a power cut may cost the last seconds, too. A request whose answer was lost with the process is sent again, byte for byte, which
//! Watchbell's collector notices. Each entry has a checksum: one that was cut off by a crash or is damaged is told on stderr and left out; a file that is
//! damaged in its midst is kept beside the others, as `.damaged`.
//!
//! A disk that is full or fails is told; the service goes on with what it has in memory. Writing takes the export thread's time, no other's: a disk that
//! hangs holds up the export, and neither a deadline nor, where chunks are not mapped, a call. What the spool holds has been [redacted](crate::redact), and only the user that runs the
//! service may read it; headers of requests are not in it. A child that a process forked, and that outlives it, keeps the parent's files locked.

mod flock;
mod recovery;
mod segment;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::config::{Config, Signal};
use crate::export;
use crate::mapped::Arena;
use crate::tell;
pub(crate) use flock::{try_lock, unlock};
pub(crate) use segment::{Entry, is_at};
pub(crate) use store::{NoRoom, Oldest, Place, Store};

/// A folder for what waits while the collector is away; the [module](self) has an example. Set by [`Builder::spool`](crate::Builder::spool).
///
/// ```
/// use watchbell::spool::Spool;
///
/// let builder = watchbell::builder().spool(Spool::in_dir("/var/lib/checkout"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    at_cap: AtCap,
    is_mapped: bool,
}

/// What gives way in a full spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtCap {
    DropOldest,
    RefuseNewest,
}

impl FromStr for AtCap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "drop_oldest" => Ok(Self::DropOldest),
            "refuse_newest" => Ok(Self::RefuseNewest),
            _ => Err(format!("`{text}` is nothing that a spool does; write `drop_oldest` or `refuse_newest`")),
        }
    }
}

impl Spool {
    /// A spool in this folder, which is made if it is not there. It should outlive the process: a volume, not a container's own file system.
    ///
    /// ```
    /// use watchbell::spool::Spool;
    ///
    /// let spool = Spool::in_dir("/var/lib/checkout");
    /// ```
    pub fn in_dir(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_owned(),
            bytes_max: SPOOL_BYTES_MAX,
            at_cap: AtCap::DropOldest,
            is_mapped: false,
        }
    }

    /// Most bytes of what waits in the service's folder (256 MiB). Several processes that write at the same time may go beyond it, each by an eighth of it or 4 MiB,
    /// whichever is less; so does, by the [buffer](crate::Builder::buffer_bytes_max) of each process, what is recovered from [mapped chunks](self#kill--9), whose files
    /// are not counted while a process lives.
    ///
    /// ```
    /// use watchbell::spool::Spool;
    ///
    /// let spool = Spool::in_dir("/var/lib/checkout").bytes_max(1 << 30);
    /// ```
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Makes room by dropping the oldest file of the spool, an eighth of it or 4 MiB, whichever is less; its records count as
    /// [`dropped_spool_full`](crate::Account::dropped_spool_full). The default.
    ///
    /// ```
    /// use watchbell::spool::Spool;
    ///
    /// let spool = Spool::in_dir("/var/lib/checkout").drop_oldest();
    /// ```
    pub fn drop_oldest(self) -> Self {
        self.at_cap(AtCap::DropOldest)
    }

    /// Keeps what it holds: what comes newly waits in memory, and is dropped there once the buffer is full, too. Where it is full of a signal that nobody exports any
    /// more, its files have to be removed by hand.
    ///
    /// ```
    /// use watchbell::spool::Spool;
    ///
    /// let spool = Spool::in_dir("/var/lib/checkout").refuse_newest();
    /// ```
    pub fn refuse_newest(self) -> Self {
        self.at_cap(AtCap::RefuseNewest)
    }

    /// Has log records and spans wait in a file that is mapped into memory, as `WATCHBELL_SPOOL_MAPPED=true` does: what a call has returned from then outlives
    /// `kill -9`, an abort, and the kernel's killing for want of memory. The [module](self#kill--9) says what it promises and costs.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use watchbell::spool::Spool;
    ///
    /// let builder = watchbell::builder().spool(Spool::in_dir(folder.path()).mapped());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn mapped(mut self) -> Self {
        self.is_mapped = true;
        self
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.is_mapped
    }

    /// The mapped file of this process, if one is wanted and to be had; what is in the way is told.
    pub(crate) fn arena(&self, config: &Config) -> Option<Arc<Arena>> {
        let is_used = [Signal::Logs, Signal::Traces].iter().any(|signal| config.export(*signal).is_some());
        if !self.is_mapped || !is_used {
            return None;
        }
        let folder = store::service_folder(&self.folder, &config.service_name());
        let resource = export::resource(&config.resource);
        let create = || Arena::create(store::new_path(&folder, recovery::MAPPED), config.buffer_bytes_max, &resource);
        let made = store::make_folder(&folder).and_then(|()| {
            loop {
                match create() {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {} // under another name
                    made => return made,
                }
            }
        });
        let told = |error| {
            let folder = folder.display();
            tell::warn(format_args!(
                "chunks are not mapped, so that `kill -9` loses what waits in memory: no file for them in `{folder}`: {error}"
            ));
        };
        made.map(Arc::new).map_err(told).ok()
    }

    pub(crate) fn at_cap(mut self, at_cap: AtCap) -> Self {
        self.at_cap = at_cap;
        self
    }
}

/// Most bytes of a service's spool if nothing is said (256 MiB); beyond, the oldest file is dropped.
const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
