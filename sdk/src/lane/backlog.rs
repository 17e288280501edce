//! What of a lane waits in memory, beside what threads are filling: full chunks, and requests made of such.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::Lane;
use crate::chunk::Chunk;
use crate::export::Size;
use crate::ledger::End;
use crate::lock;
use crate::mapped::Origin;

/// A request that is neither under way nor on disk.
#[derive(Debug)]
pub(crate) struct MemoryRequest {
    /// The order in which the process made it.
    pub(crate) number: u64,
    pub(crate) records: u64,
    pub(crate) body: Bytes,
    /// Where its records are until it has settled, if they outlive the process.
    pub(crate) origin: Origin,
    /// When it is given up; none before it is sent, or if that may take any time.
    pub(crate) deadline: Option<Instant>,
}

/// Oldest first, the requests before the chunks.
#[derive(Default)]
pub(super) struct Backlog {
    requests: VecDeque<MemoryRequest>,
    chunks: VecDeque<Chunk>,
    chunks_bytes: usize,
    /// Numbers of requests that gave way to newer records.
    dropped: Vec<u64>,
    is_closed: bool,
}

impl Backlog {
    /// The bytes of all full chunks with this one.
    pub(super) fn push_chunk(&mut self, chunk: Chunk) -> usize {
        self.chunks_bytes += chunk.len();
        self.chunks.push_back(chunk);
        self.chunks_bytes
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn take_chunks(&mut self, chunks_max: usize, size: Size) -> Vec<Chunk> {
        let (mut taken, mut kept) = (Vec::<Chunk>::new(), Vec::new());
        let (mut bytes, mut records) = (0, 0);
        for _ in 0..chunks_max {
            let Some(chunk) = self.chunks.pop_front() else { break };
            if taken.first().is_some_and(|first| first.is_mapped() != chunk.is_mapped()) {
                kept.push(chunk);
                continue;
            }
            (bytes, records) = (bytes + chunk.len(), records + chunk.records());
            if !taken.is_empty() && (bytes > size.bytes || chunk.is_mapped() && records > size.records) {
                bytes -= chunk.len();
                kept.push(chunk);
                break;
            }
            taken.push(chunk);
        }
        kept.into_iter().rev().for_each(|chunk| self.chunks.push_front(chunk));
        self.chunks_bytes -= bytes;
        taken
    }

    /// From here on nothing gives way.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }
}

impl Lane {
    /// Takes what makes a request, or one chunk, of so many of the oldest: only mapped ones, or only others, as the very oldest is. Mapped ones are no more
    /// than the request may have records, so that it ends where they do and nobody else's are in them; others are divided at a record.
    pub(crate) fn take_chunks(&self, chunks_max: usize, size: Size) -> Vec<Chunk> {
        lock(&self.backlog).take_chunks(chunks_max, size)
    }

    /// Lets a request wait.
    pub(crate) fn push_request(&self, request: MemoryRequest) {
        lock(&self.backlog).requests.push_back(request);
    }

    /// Takes the oldest request that waits.
    pub(crate) fn pop_request(&self) -> Option<MemoryRequest> {
        lock(&self.backlog).requests.pop_front()
    }

    /// Puts it back.
    pub(crate) fn unpop_request(&self, request: MemoryRequest) {
        lock(&self.backlog).requests.push_front(request);
    }

    /// Whether a request waits.
    pub(crate) fn has_requests(&self) -> bool {
        !lock(&self.backlog).requests.is_empty()
    }

    /// How many records wait that are in the mapped file.
    pub(crate) fn mapped_records(&self) -> u64 {
        let backlog = lock(&self.backlog);
        let requests = backlog.requests.iter().filter(|request| request.origin.is_mapped());
        let chunks = backlog.chunks.iter().filter(|chunk| chunk.is_mapped());
        requests.map(|request| request.records).sum::<u64>() + chunks.map(Chunk::records).sum::<u64>()
    }

    /// Numbers of requests that have given way since this was asked last.
    pub(crate) fn take_dropped(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.backlog).dropped)
    }

    /// Makes room for a record by dropping the oldest that waits; false if there is nothing, or if all of it together would not make room: what is under way
    /// does not give way, nor what threads are filling, nor what other signals have.
    pub(super) fn drop_oldest_for(&self, record_bytes: usize) -> bool {
        let mut backlog = lock(&self.backlog);
        if backlog.is_closed || !self.would_have_room(&backlog, record_bytes) {
            return false;
        }
        if let Some(request) = backlog.requests.pop_front() {
            backlog.dropped.push(request.number);
            self.counters.add(End::BufferFull, request.records);
            drop(backlog); // before what is in a file ends, for which a disk may be waited for
            self.pool.refund(request.body.len());
            self.unqueue(request.records);
        } else if let Some(chunk) = backlog.chunks.pop_front() {
            backlog.chunks_bytes -= chunk.len();
            let records = chunk.records();
            self.counters.add(End::BufferFull, records);
            drop(backlog); // as above
            drop(self.pool.release(chunk));
            self.unqueue(records);
        } else {
            return false;
        }
        true
    }

    /// Whether a record would find room if nothing waited.
    fn would_have_room(&self, backlog: &Backlog, record_bytes: usize) -> bool {
        let chunk_bytes = backlog.chunks.iter().map(Chunk::capacity).sum();
        let request_bytes = backlog.requests.iter().map(|request| request.body.len()).sum();
        let records =
            backlog.chunks.iter().map(Chunk::records).chain(backlog.requests.iter().map(|request| request.records));
        let others = self.queued_records.load(Ordering::Relaxed).saturating_sub(records.sum());
        others < self.queue_records_max && self.pool.would_have_room(record_bytes, chunk_bytes, request_bytes)
    }
}
