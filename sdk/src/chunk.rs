//! Chunks of encoded records, and the pool they come from.
//!
//! A chunk is a run of entries: a number of 64 bits (the scope's number, how many the record counts as, its length), then the record as the content of
//! its OTLP message; in a [mapped](crate::mapped) chunk with a checksum between. A thread fills its chunk; the export thread copies the records into requests
//! and gives the chunk back at once.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::callsite::ScopeId;
use crate::config::Signal;
use crate::lock;
use crate::mapped::{Arena, CHECKSUM_BYTES, Mapped};

/// Bytes of a chunk (64 KiB), about two hundred records, so that fewer than one call in a hundred changes it. Of a small buffer a sixteenth.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of a record (16 KiB) from which it has a chunk of its own and of its size, so that no chunk is left half empty for it.
const LARGE_RECORD_BYTES: usize = CHUNK_BYTES / 4;

/// Bytes of a chunk (2 KiB) while the buffer fills with chunks: a thread may have but one line to say.
const SMALL_CHUNK_BYTES: usize = 2 * 1024;

/// Most empty chunks that are kept for use again (16, 1 MiB); more are freed.
const FREE_CHUNKS_MAX: usize = 16;

/// Most bytes of a request's records (1 MiB, and a sixteenth of the buffer, as four of a signal may be under way); the next takes the rest.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

pub(crate) const ENTRY_HEAD_BYTES: usize = 8;

/// Records of one thread.
#[derive(Default)]
pub(crate) struct Chunk {
    bytes: Bytes,
    records: u64,
    /// Most records that it may hold, beside its bytes.
    records_max: u64,
}

/// Where they are: only in this process, or also in a file.
enum Bytes {
    Heap(Vec<u8>),
    Mapped(Mapped),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Bytes {
    fn capacity(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Mapped(mapped) => mapped.capacity(),
        }
    }

    #[inline]
    fn push(&mut self, scope: ScopeId, records: u16, record: &[u8]) -> bool {
        let bytes = match self {
            Self::Heap(bytes) if bytes.len() + ENTRY_HEAD_BYTES + record.len() <= bytes.capacity() => bytes,
            Self::Heap(_) => return false,
            Self::Mapped(mapped) => return mapped.push(scope, records, record),
        };
        bytes.extend_from_slice(&entry_head(scope, records, record.len()));
        bytes.extend_from_slice(record);
        true
    }
}

/// What is before a record.
#[inline]
pub(crate) fn entry_head(scope: ScopeId, records: u16, len: usize) -> [u8; ENTRY_HEAD_BYTES] {
    (u64::from(scope.to_u16()) << 48 | u64::from(records) << 32 | len as u64).to_le_bytes()
}

/// What they say.
#[inline]
pub(crate) fn read_entry_head(head: &[u8; ENTRY_HEAD_BYTES]) -> (ScopeId, u16, usize) {
    let [a, b, c, d, e, f, g, h] = *head;
    (
        ScopeId::from_u16(u16::from_le_bytes([g, h])),
        u16::from_le_bytes([e, f]),
        u32::from_le_bytes([a, b, c, d]) as usize,
    )
}

impl Chunk {
    /// An empty one with room for so many bytes of entries, outside of any pool.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Bytes::Heap(Vec::with_capacity(bytes)), records: 0, records_max: u64::MAX }
    }

    /// Appends a record that counts as so many; false, and nothing is written, if it does not fit.
    #[inline]
    pub(crate) fn push(&mut self, scope: ScopeId, records: u16, record: &[u8]) -> bool {
        if self.records >= self.records_max || !self.bytes.push(scope, records, record) {
            return false;
        }
        self.records += u64::from(records);
        true
    }

    /// How many records it holds.
    #[inline]
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// How many bytes are written.
    pub(crate) fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.len(),
            Bytes::Mapped(mapped) => mapped.len(),
        }
    }

    /// How many bytes it takes of the cap.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether its records outlive the process.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// Its records in the order they came, each with what it counts as.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (ScopeId, u64, &[u8])> {
        let (mut rest, checksum_bytes) = match &self.bytes {
            Bytes::Heap(bytes) => (&bytes[..], 0),
            Bytes::Mapped(mapped) => (mapped.bytes(), CHECKSUM_BYTES),
        };
        std::iter::from_fn(move || {
            let (head, after) = rest.split_first_chunk::<ENTRY_HEAD_BYTES>()?;
            let (scope, records, len) = read_entry_head(head);
            let (record, after) = after.get(checksum_bytes..)?.split_at_checked(len)?;
            rest = after;
            Some((scope, u64::from(records), record))
        })
    }
}

/// Where chunks come from, under one cap over chunks and requests.
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    /// Bytes of a chunk that is kept for use again.
    usual_bytes: usize,
    /// Where chunks are that outlive the process, if there are such.
    pub(crate) arena: Option<Arc<Arena>>,
    chunk_bytes: AtomicUsize,
    request_bytes: AtomicUsize,
    buffer_bytes_max: usize,
    /// How many threads wait for room.
    waiting: AtomicUsize,
    /// How often there was room for them.
    room: Mutex<u64>,
    has_room: Condvar,
}

impl Pool {
    /// A pool that hands out at most `buffer_bytes_max` bytes.
    pub(crate) fn new(buffer_bytes_max: usize) -> Self {
        Self {
            free: Mutex::default(),
            usual_bytes: CHUNK_BYTES.min(buffer_bytes_max / 16),
            arena: None,
            chunk_bytes: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            buffer_bytes_max,
            waiting: AtomicUsize::new(0),
            room: Mutex::default(),
            has_room: Condvar::new(),
        }
    }

    /// Calls `again` whenever there may be room, until it gives something or the time is up.
    pub(crate) fn wait_for_room<R>(&self, deadline: Option<Instant>, again: impl Fn() -> Option<R>) -> Option<R> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // who makes room from here on tells of it
        let result = loop {
            let seen = *lock(&self.room);
            let result = again();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if result.is_some() || left.is_some_and(|left| left.is_zero()) {
                break result;
            }
            let is_same = |room: &mut u64| *room == seen;
            match left {
                Some(left) => drop(self.has_room.wait_timeout_while(lock(&self.room), left, is_same)),
                None => drop(self.has_room.wait_while(lock(&self.room), is_same)),
            }
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Tells threads that wait for room that there may be some.
    pub(crate) fn tell_of_room(&self) {
        fence(Ordering::SeqCst); // the room comes before the question who waits for it
        if self.waiting.load(Ordering::Relaxed) > 0 {
            *lock(&self.room) += 1;
            self.has_room.notify_all();
        }
    }

    /// An empty chunk with room for a record of `record_bytes`, and for so many records at most; `None` at the cap. If it is to be mapped, as far as there
    /// is room for that.
    pub(crate) fn acquire(
        &self,
        record_bytes: usize,
        records_max: u64,
        mapped_for: Option<(Signal, ScopeId)>,
    ) -> Option<Chunk> {
        let wanted = self.wanted_bytes(record_bytes, self.is_pressed());
        let before = self.chunk_bytes.fetch_add(wanted, Ordering::Relaxed);
        if before + wanted + self.request_bytes() > self.buffer_bytes_max {
            self.chunk_bytes.fetch_sub(wanted, Ordering::Relaxed);
            return None;
        }
        let mapped = self.arena.as_ref().zip(mapped_for);
        let mapped = mapped.and_then(|(arena, (signal, scope))| arena.begin(signal, scope, wanted));
        let bytes = mapped.map_or_else(|| Bytes::Heap(self.heap(wanted)), Bytes::Mapped);
        self.chunk_bytes.fetch_add(bytes.capacity() - wanted, Ordering::Relaxed);
        Some(Chunk { bytes, records: 0, records_max })
    }

    /// How large a chunk for a record is.
    fn wanted_bytes(&self, record_bytes: usize, is_pressed: bool) -> usize {
        match record_bytes + ENTRY_HEAD_BYTES + CHECKSUM_BYTES {
            bytes if Self::is_for_one(record_bytes) => bytes,
            bytes if is_pressed => bytes.max(SMALL_CHUNK_BYTES),
            bytes => bytes.max(self.usual_bytes),
        }
    }

    fn heap(&self, bytes: usize) -> Vec<u8> {
        let free = (bytes == self.usual_bytes).then(|| lock(&self.free).pop()).flatten();
        free.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Whether a chunk for a record of this size is for that record alone.
    pub(crate) fn is_for_one(record_bytes: usize) -> bool {
        record_bytes >= LARGE_RECORD_BYTES
    }

    /// Takes a chunk back; what of it is in a file stays there until what this returns is dropped.
    pub(crate) fn release(&self, chunk: Chunk) -> Option<Mapped> {
        self.chunk_bytes.fetch_sub(chunk.bytes.capacity(), Ordering::Relaxed);
        let mapped = match chunk.bytes {
            Bytes::Heap(bytes) => {
                self.keep(bytes);
                None
            }
            Bytes::Mapped(mapped) => Some(mapped),
        };
        self.tell_of_room();
        mapped
    }

    fn keep(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut free = lock(&self.free);
        if bytes.capacity() == self.usual_bytes && free.len() < FREE_CHUNKS_MAX {
            free.push(bytes);
        }
    }

    /// Counts bytes of a request, which may go beyond the cap by what it needs besides records.
    pub(crate) fn charge(&self, request_bytes: usize) {
        self.request_bytes.fetch_add(request_bytes, Ordering::Relaxed);
    }

    /// Counts bytes of a request as free again.
    pub(crate) fn refund(&self, request_bytes: usize) {
        self.request_bytes.fetch_sub(request_bytes, Ordering::Relaxed);
        self.tell_of_room();
    }

    /// Whether a record would find room if chunks and requests of so many bytes were not there.
    pub(crate) fn would_have_room(&self, record_bytes: usize, chunk_bytes: usize, request_bytes: usize) -> bool {
        let chunk_bytes = self.chunk_bytes.load(Ordering::Relaxed).saturating_sub(chunk_bytes);
        let request_bytes = self.request_bytes().saturating_sub(request_bytes);
        let wanted = self.wanted_bytes(record_bytes, self.are_much(chunk_bytes));
        chunk_bytes + wanted + request_bytes <= self.buffer_bytes_max
    }

    /// Whether chunks take up more than a quarter of the cap, so that they should be collected early: they may be nearly empty.
    pub(crate) fn is_pressed(&self) -> bool {
        self.are_much(self.chunk_bytes.load(Ordering::Relaxed))
    }

    fn are_much(&self, chunk_bytes: usize) -> bool {
        chunk_bytes > self.buffer_bytes_max / 4
    }

    /// Bytes of records after which a request is full.
    pub(crate) fn request_bytes_max(&self) -> usize {
        REQUEST_BYTES_MAX.min(self.buffer_bytes_max / 16)
    }

    /// Whether half of the cap is in use.
    pub(crate) fn is_half_full(&self) -> bool {
        self.used_bytes() > self.buffer_bytes_max / 2
    }

    /// How much of the cap is in use, in hundredths.
    pub(crate) fn hundredths(&self) -> usize {
        self.used_bytes().saturating_mul(100) / self.buffer_bytes_max.max(1)
    }

    /// How many bytes of the cap are in use.
    pub(crate) fn used_bytes(&self) -> usize {
        self.chunk_bytes.load(Ordering::Relaxed) + self.request_bytes()
    }

    fn request_bytes(&self) -> usize {
        self.request_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_chunk_is_used_again_whatever_its_size() {
        for buffer_bytes_max in [32 * 1024, 16 * 1024 * 1024] {
            let pool = Pool::new(buffer_bytes_max);
            let address = |chunk: &Chunk| match &chunk.bytes {
                Bytes::Heap(bytes) => bytes.as_ptr(),
                Bytes::Mapped(_) => unreachable!("there is no arena"),
            };
            let acquire = || pool.acquire(100, u64::MAX, None).unwrap();
            let first = acquire();
            let before = address(&first);
            assert!(pool.release(first).is_none());
            let other = vec![0; buffer_bytes_max / 4]; // the allocator may not give the same again
            assert_eq!(address(&acquire()), before, "{buffer_bytes_max}");
            drop(other);
        }
    }
}
