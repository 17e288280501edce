//! Chunks in a mapped file, so that what is in them outlives a process that is killed.
//!
//! # Layout
//!
//! Numbers are little-endian. A file is as long as it will be from the start, but for the table at its end:
//!
//! | bytes | |
//! |---|---|
//! | 8 | names the format; written last, once all else is in its place |
//! | 8 | how many units there are |
//! | | zeros up to 4 KiB |
//! | 16 for each unit | the order of the run that begins there (above two bits for its signal: 0 logs, 1 traces), and how many of its bytes count |
//! | | zeros up to a multiple of 4 KiB |
//! | 4 KiB for each unit | runs: entries one after the other, each its head, the CRC-32 of the run's order, head and record (4 bytes), the record |
//! | | the table: what the records of the file have in common, appended by `write` |
//!
//! An entry's head is the record's length (4 bytes), how many it counts as (2) and its scope's number (2). An entry of the table is the
//! number of a scope, or [`RESOURCE`] (2 bytes), zero (2), a length (4), the CRC-32 of its content (4), and the content: of a `ScopeLogs` with a scope and
//! no records, or of a `ResourceLogs` with the resource alone.
//!
//! # Why nothing is lost that a call has returned from
//!
//! The thread that logs copies head and record behind what its run has, and then stores the number of bytes that count: one store of 64 bits that the
//! compiler puts behind the copies (`Release`). A thread that is killed stops between two instructions, and what it has stored until then is in the page
//! cache, which belongs to the kernel and not to the process. So whoever reads the file when the process is gone sees either the old number, and then
//! nothing of the record counts, or the new one, and then all of it is there. A scope is in the table before the first record that names it is written, by a
//! `write` that has returned.
//!
//! A machine that loses its power is another matter: pages reach the disk in any order, if at all. Then the checksums tell which entries are whole; from the
//! first on that is not, a run is left out and told.
//!
//! A run ends, and none of its bytes count any more, once the requests with its records have been answered. While these are in the spool they do not
//! count either, so that nothing is found twice; should the spool drop one whose answer is still to come, they count again.
//!
//! # A disk that hangs
//!
//! A thread that writes to a page, or notes a scope, may wait for the disk, and so may who drops the last [`Origin`] of a run, which ends that by a write: the
//! export thread once a request was answered, or a call that has the oldest give way. No other call waits for these. Who waits for longer than [`NOTE_WAIT`]
//! to note another scope has chunks in memory alone, and so have all where the export thread has seen one held up for long ([`Arena::pause`]).

#[cfg_attr(not(target_os = "linux"), path = "mapped/no_map.rs")]
mod map;
mod recovery;
#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchbell_proto::wire::put_bytes_field;

use crate::callsite::{SCOPES_MAX, ScopeId};
use crate::chunk::{ENTRY_HEAD_BYTES, entry_head};
use crate::config::Signal;
use crate::{lock, lock_until};
use map::{Layout, Map, Run, UNIT_BYTES, UNIT_NUMBERS_BYTES};
pub(crate) use recovery::Left;

const MAGIC: &[u8; 8] = b"WBCHUNK1";
const HEADER_BYTES: usize = 4096;

/// What stands in the table where a scope's number would, for the resource.
const RESOURCE: u16 = u16::MAX;

const TABLE_HEAD_BYTES: usize = 12;

/// Bytes between an entry's head and its record.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// How long a thread that has a scope to note waits for one that does (20 ms).
const NOTE_WAIT: Duration = Duration::from_millis(20);

/// The mapped file of this process.
pub(crate) struct Arena {
    map: Arc<Map>,
    path: PathBuf,
    runs_begun: AtomicU64,
    /// Whose scopes are in the table, a bit for each.
    known: [AtomicU64; SCOPES_MAX / 64],
    file: File,
    /// Locked by who appends to the table.
    table: Mutex<()>,
    is_paused: AtomicBool,
}

impl Arena {
    /// A file with room for so many bytes of records at `path`, which must not be there. `resource` is the content of a `ResourceLogs`. It is there when the
    /// process has been killed, and locked until then.
    pub(crate) fn create(path: PathBuf, bytes: usize, resource: &[u8]) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.read(true).append(true).create_new(true).open(&path)?;
        // From the creation to the lock another may have found it with nothing in it, and removed it.
        if !crate::spool::try_lock(&file)? || !crate::spool::is_at(&file, &path) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process took the file over"));
        }
        let this = Self::begin_file(file, path.clone(), bytes, resource);
        this.inspect_err(|_| drop(fs::remove_file(path))) // the error that counts is the first
    }

    fn begin_file(file: File, path: PathBuf, bytes: usize, resource: &[u8]) -> io::Result<Self> {
        let units = bytes / UNIT_BYTES;
        let map = Map::new(&file, layout(units))?;
        let known = std::array::from_fn(|_| AtomicU64::new(0));
        let (map, runs_begun, is_paused) = (Arc::new(map), AtomicU64::new(0), AtomicBool::new(false));
        let this = Self { map, path, runs_begun, known, file, table: Mutex::default(), is_paused };
        this.append(RESOURCE, resource)?;
        this.map.set_header(1, (units as u64).to_le());
        this.map.set_header(0, u64::from_ne_bytes(*MAGIC));
        Ok(this)
    }

    /// Room for so many bytes of records, of which the first is of this scope; `None` where there is none, or the scope cannot be noted.
    pub(crate) fn begin(self: &Arc<Self>, signal: Signal, scope: ScopeId, bytes: usize) -> Option<Mapped> {
        if self.is_paused.load(Ordering::Relaxed) {
            return None;
        }
        if self.map.is_ours() && !self.knows(scope) {
            self.note(scope).ok()?;
        }
        let order = (self.runs_begun.fetch_add(1, Ordering::Relaxed) + 1) << 2 | signal as u64;
        Some(Mapped { run: self.map.begin(order, bytes)?, order, arena: Arc::clone(self) })
    }

    /// Whether nothing is begun, since the disk hangs.
    pub(crate) fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Leaves the file, with all that counts in it, to whichever process of the service comes next.
    pub(crate) fn leave(&self) {
        if self.map.is_ours() {
            self.map.leave();
            let _ = crate::spool::unlock(&self.file); // else it is this process's as long as it lives
        }
    }

    /// Removes the file: all that was in it has ended otherwise. A forked child leaves its parent's alone.
    pub(crate) fn end(&self) {
        if self.map.is_ours() {
            let _ = fs::remove_file(&self.path); // what is left there would be sent once more
        }
    }

    #[inline]
    fn knows(&self, scope: ScopeId) -> bool {
        let scope = usize::from(scope.to_u16());
        self.known[scope / 64].load(Ordering::Acquire) >> (scope % 64) & 1 == 1
    }

    #[cold]
    fn note(&self, scope: ScopeId) -> io::Result<()> {
        let (number, scope) = (scope.to_u16(), scope.scope());
        let mut content = Vec::new();
        put_bytes_field(&mut content, 1, &scope.message);
        put_bytes_field(&mut content, 3, scope.schema_url.as_bytes());
        self.append(number, &content)?;
        self.known[usize::from(number) / 64].fetch_or(1 << (number % 64), Ordering::Release);
        Ok(())
    }

    /// Appends to the table, in one write; what a failed one has left is cut off.
    fn append(&self, number: u16, content: &[u8]) -> io::Result<()> {
        let mut entry = vec![0; TABLE_HEAD_BYTES];
        entry[..2].copy_from_slice(&number.to_le_bytes());
        entry[4..8].copy_from_slice(&(content.len() as u32).to_le_bytes());
        entry[8..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        entry.extend_from_slice(content);
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "another thread is writing");
        let _table = lock_until(&self.table, Instant::now() + NOTE_WAIT).ok_or_else(busy)?;
        let end = self.file.metadata()?.len();
        (&self.file).write_all(&entry).inspect_err(|_| drop(self.file.set_len(end)))
    }
}

/// A process that is killed leaves the file, one that could not begin its export does not.
impl Drop for Arena {
    fn drop(&mut self) {
        self.end();
    }
}

fn layout(units: usize) -> Layout {
    let numbers_bytes = (units * UNIT_NUMBERS_BYTES).next_multiple_of(UNIT_BYTES);
    Layout { units, numbers_at: HEADER_BYTES, units_at: HEADER_BYTES + numbers_bytes }
}

fn table_at(layout: Layout) -> u64 {
    (layout.units_at + layout.units * UNIT_BYTES) as u64
}

/// Where a chunk's records are.
pub(crate) struct Mapped {
    run: Run,
    order: u64,
    arena: Arc<Arena>,
}

impl Mapped {
    /// Appends a record; false, and nothing is written, where it does not fit, its scope is new to the file, or this is a forked child.
    #[inline]
    pub(crate) fn push(&mut self, scope: ScopeId, records: u16, record: &[u8]) -> bool {
        if !self.arena.knows(scope) {
            return false;
        }
        let mut head = [0; ENTRY_HEAD_BYTES + CHECKSUM_BYTES];
        let (entry, checked) = head.split_at_mut(ENTRY_HEAD_BYTES);
        entry.copy_from_slice(&entry_head(scope, records, record.len()));
        checked.copy_from_slice(&checksum(self.order, entry, record));
        self.run.push(&head, record)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.run.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.run.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.run.bytes()
    }
}

/// Of the run's order, too: what an earlier run has left at the same place is whole, and not this one's.
fn checksum(order: u64, head: &[u8], record: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&order.to_le_bytes());
    hasher.update(head);
    hasher.update(record);
    hasher.finalize().to_le_bytes()
}

/// The mapped chunks that a request was made of: they stay in the file until all of their requests have been dropped, and count there as long as one needs that.
#[derive(Default)]
pub(crate) struct Origin {
    runs: Option<Arc<Runs>>,
    is_needed: bool,
}

struct Runs {
    mapped: Vec<Mapped>,
    needed_by: Mutex<usize>,
}

impl Origin {
    pub(crate) fn new(mapped: Vec<Mapped>) -> Self {
        let runs = (!mapped.is_empty()).then(|| Arc::new(Runs { mapped, needed_by: Mutex::new(1) }));
        Self { is_needed: runs.is_some(), runs }
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.runs.is_some()
    }

    /// Says whether the request's records are to be found there if the process is killed: not while they are elsewhere on the disk.
    pub(crate) fn set_needed(&mut self, is_needed: bool) {
        let Some(runs) = &self.runs else { return };
        if std::mem::replace(&mut self.is_needed, is_needed) == is_needed {
            return;
        }
        let mut needed_by = lock(&runs.needed_by);
        let before = *needed_by;
        *needed_by = if is_needed { before + 1 } else { before - 1 };
        if (before > 0) != (*needed_by > 0) {
            runs.mapped.iter().for_each(|mapped| mapped.run.set_counting(is_needed));
        }
    }
}

impl Clone for Origin {
    fn clone(&self) -> Self {
        let mut clone = Self { runs: self.runs.clone(), is_needed: false };
        clone.set_needed(self.is_needed);
        clone
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.set_needed(false);
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.runs.as_ref().map(|runs| runs.mapped.len())).finish()
    }
}
