//! The way of one signal's records from the threads that make them to the export thread.
//!
//! Each thread has a slot with its chunk. The lock of that is taken by the thread for each record and by the export thread once a batch, for
//! the time of a swap: nobody waits. Full chunks go to a queue; the export thread collects them together with what the slots hold.
//!
//! A thread that writes to a mapped chunk may be held up by the disk, with its chunk locked. No other thread waits for it then: nobody holds a lock that
//! is shared while a chunk is written to, and who collects passes over a chunk that stays locked and comes back for it.

mod backlog;
mod full;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use opentelemetry::Context as OtelContext;
use sharded_slab::Slab;
use tokio::sync::Notify;

use crate::callsite::CallsiteCache;
use crate::callsite::ScopeId;
use crate::chunk::{Chunk, Pool};
use crate::config::Signal;
#[cfg(test)]
use crate::export::Size;
use crate::ledger::{Account, Counters};
use crate::{lock, lock_until};
use backlog::Backlog;
pub(crate) use backlog::MemoryRequest;
pub use full::WhenFull;

/// Bytes in full chunks at which they are sent without waiting for the schedule delay (256 KiB).
const FULL_BYTES_HURRY: usize = 256 * 1024;

/// Slots of a lane from which on those of threads that have ended are looked for as new ones come (64).
const SLOTS_PRUNED_FROM: usize = 64;

/// How long a collection waits for mapped chunks that threads are writing to (20 ms): a thread may have lost its processor, or a disk hangs.
const MAPPED_WAIT: Duration = Duration::from_millis(20);

/// One signal's slots, queue and counters.
pub(crate) struct Lane {
    id: u64,
    pool: Arc<Pool>,
    wake: Arc<Notify>,
    urgency: AtomicU8,
    slots: Mutex<Slots>,
    backlog: Mutex<Backlog>,
    when_full: WhenFull,
    /// Whose chunks are to outlive the process, if any.
    mapped: Option<Signal>,
    process: u32,
    /// Records in full chunks and in requests.
    queued_records: AtomicU64,
    queue_records_max: u64,
    pub(crate) counters: Counters,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Arc<Slot>>,
    /// How many there were when those of ended threads were last taken out.
    pruned: usize,
    gone: Tally,
    is_closed: bool,
}

/// What one thread has for one signal.
#[derive(Default)]
struct Slot {
    lane: u64,
    chunk: Mutex<Chunk>,
    /// Records before the shutdown, and those after it. Written by who has the chunk locked, and read without that.
    emitted: AtomicU64,
    dropped_after_shutdown: AtomicU64,
    is_closed: AtomicBool,
    /// The write that the last collection passed over.
    passed_over: Mutex<Option<PassedOver>>,
}

/// A write that was under way when the chunk was to be collected.
#[derive(Clone, Copy)]
struct PassedOver {
    since: Instant,
    /// How many records came before it, by which it is told from others.
    records: u64,
}

impl Slot {
    fn new(lane: u64, is_closed: bool) -> Self {
        Self { lane, is_closed: AtomicBool::new(is_closed), ..Self::default() }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    #[inline]
    fn has_emitted(&self, records: u16) {
        add(&self.emitted, records);
    }

    /// The same of records that came after the shutdown.
    fn has_dropped(&self, records: u16) {
        add(&self.dropped_after_shutdown, records);
    }

    /// Each count is read once, so that none of the dropped ones is ever in flight.
    fn tally(&self) -> Tally {
        let dropped_after_shutdown = self.dropped_after_shutdown.load(Ordering::Relaxed);
        Tally { emitted: self.emitted.load(Ordering::Relaxed) + dropped_after_shutdown, dropped_after_shutdown }
    }

    /// The chunk of a thread that the disk may hold up; or, where it stays locked until then, since when it was found so again and again in the same write.
    /// That is waited for once.
    fn lock_mapped(&self, now: Instant, deadline: Instant) -> Result<MutexGuard<'_, Chunk>, Instant> {
        let mut passed_over = lock(&self.passed_over);
        let records = self.tally().emitted;
        let known = passed_over.filter(|write| write.records == records);
        *passed_over = None;
        let deadline = if known.is_some() { Instant::now() } else { deadline };
        lock_until(&self.chunk, deadline).ok_or_else(|| {
            let records = self.tally().emitted;
            let same = known.filter(|write| write.records == records);
            passed_over.insert(same.unwrap_or(PassedOver { since: now, records })).since
        })
    }
}

/// Cheaper than `fetch_add`, where there is one writer.
#[inline]
fn add(count: &AtomicU64, records: u16) {
    count.store(count.load(Ordering::Relaxed) + u64::from(records), Ordering::Relaxed);
}

/// What a thread has emitted, and what of it came after the shutdown.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) emitted: u64,
    pub(crate) dropped_after_shutdown: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.emitted += other.emitted;
        self.dropped_after_shutdown += other.dropped_after_shutdown;
    }
}

/// What a collection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gathered {
    /// How many full chunks there are.
    pub(crate) chunks: usize,
    /// If these are not all: since when a thread has been held up in the midst of a write.
    pub(crate) held_up_since: Option<Instant>,
}

/// How soon the export thread should collect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Urgency {
    /// There is nothing to collect.
    Idle,
    /// After the schedule delay.
    Scheduled,
    /// Now: a page may be waiting for it, or there is enough for a request.
    Hurry,
    /// At once, and all lanes: the buffer fills with chunks, which may be nearly empty.
    Pressed,
}

impl Lane {
    /// A lane of at most `queue_records_max` records, and of what the pool has bytes for: beyond either, `when_full` says what gives way. A
    /// thread's chunk is let go over the former, and counts once it is handed over.
    pub(crate) fn new(pool: Arc<Pool>, wake: Arc<Notify>, queue_records_max: u64, when_full: WhenFull) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            pool,
            wake,
            urgency: AtomicU8::new(Urgency::Idle as u8),
            slots: Mutex::default(),
            backlog: Mutex::default(),
            when_full,
            mapped: None,
            process: std::process::id(),
            queued_records: AtomicU64::new(0),
            queue_records_max,
            counters: Counters::default(),
        }
    }

    /// The same for a signal whose chunks are to outlive the process.
    pub(crate) fn mapped(mut self, signal: Signal) -> Self {
        self.mapped = Some(signal);
        self
    }

    /// Hands a record over. Blocks only where the buffer is full and that was asked for.
    #[inline]
    pub(crate) fn push(&self, local: &Local, scope: ScopeId, record: &[u8], urgency: Urgency) {
        let Some(_pushing) = local.pushing() else { return self.counters.add_reentrant() };
        let wanted = local.with_slot(self, |slot| self.append(slot, &mut lock(&slot.chunk), scope, 1, record));
        let wanted = wanted.unwrap_or_else(|| self.push_when_full(local, scope, record));
        self.request(wanted.max(urgency));
    }

    /// The same for a thread whose locals are gone already, and for the export thread's own records. Never blocks.
    pub(crate) fn push_detached(&self, scope: ScopeId, record: &[u8], urgency: Urgency) {
        let wanted = self.append_detached(scope, 1, record);
        self.request(wanted.max(urgency));
    }

    /// The same for a record that counts as so many, and is collected by whoever asked for it.
    #[cfg(feature = "metrics")]
    pub(crate) fn push_points(&self, scope: ScopeId, points: u16, record: &[u8]) {
        self.append_detached(scope, points, record);
    }

    fn append_detached(&self, scope: ScopeId, records: u16, record: &[u8]) -> Urgency {
        loop {
            let slot = Slot::new(self.id, lock(&self.slots).is_closed);
            let mut chunk = Chunk::default();
            let wanted = self.append(&slot, &mut chunk, scope, records, record); // under no lock
            if wanted.is_none() && self.when_full == WhenFull::DropOldest && self.drop_oldest_for(record.len()) {
                continue;
            }
            let mut slots = lock(&self.slots);
            if slots.is_closed && chunk.records() > 0 {
                let late = u64::from(records); // closed meanwhile: nobody collects it any more
                slots.gone.add(Tally { emitted: late, dropped_after_shutdown: late });
                drop(slots);
                drop(self.pool.release(chunk));
                return Urgency::Idle;
            }
            let wanted = wanted.unwrap_or_else(|| self.drop_newest(&slot, records));
            slots.gone.add(slot.tally());
            return wanted.max(self.push_full(chunk));
        }
    }

    /// Tells the export thread, unless it was told already.
    #[inline]
    pub(crate) fn request(&self, urgency: Urgency) {
        let urgency = urgency as u8;
        if self.urgency.load(Ordering::Relaxed) < urgency && self.urgency.fetch_max(urgency, Ordering::AcqRel) < urgency
        {
            self.wake.notify_one();
        }
    }

    /// What was asked for since the last collection.
    pub(crate) fn urgency(&self) -> Urgency {
        match self.urgency.load(Ordering::Acquire) {
            0 => Urgency::Idle,
            1 => Urgency::Scheduled,
            2 => Urgency::Hurry,
            _ => Urgency::Pressed,
        }
    }

    /// All records so far, chunk by chunk.
    #[cfg(test)]
    pub(crate) fn collect(&self) -> Vec<Chunk> {
        let chunks = self.gather(Instant::now()).chunks;
        self.take_chunks(chunks, Size { bytes: usize::MAX, records: u64::MAX })
    }

    /// Puts what threads have in their chunks to the full ones. The urgency falls first: who writes afterwards asks anew.
    pub(crate) fn gather(&self, now: Instant) -> Gathered {
        self.urgency.store(Urgency::Idle as u8, Ordering::SeqCst);
        let mut slots = lock(&self.slots);
        slots.prune(|chunk| {
            self.push_full(chunk);
        });
        let slots = slots.slots.clone(); // so that they are not locked while one is waited for
        let deadline = Instant::now() + MAPPED_WAIT;
        let mut held_up_since: Option<Instant> = None;
        for slot in &slots {
            let chunk = if self.mapped.is_some() { slot.lock_mapped(now, deadline) } else { Ok(lock(&slot.chunk)) };
            match chunk {
                Ok(mut chunk) => drop(self.push_full(std::mem::take(&mut chunk))),
                Err(since) => held_up_since = Some(held_up_since.map_or(since, |other| other.min(since))),
            }
        }
        Gathered { chunks: lock(&self.backlog).chunks(), held_up_since }
    }

    /// Whether half of what may wait does.
    pub(crate) fn is_half_full(&self) -> bool {
        let queued = self.queued_records.load(Ordering::Relaxed);
        self.pool.is_half_full() || queued > self.queue_records_max / 2
    }

    /// Counts records of a request that has settled as queued no more.
    pub(crate) fn unqueue(&self, records: u64) {
        self.queued_records.fetch_sub(records, Ordering::Relaxed);
        self.pool.tell_of_room();
    }

    /// From here on each record is counted as dropped after the shutdown.
    pub(crate) fn close(&self) {
        let slots = {
            let mut slots = lock(&self.slots);
            slots.is_closed = true;
            slots.slots.iter().for_each(|slot| slot.is_closed.store(true, Ordering::Relaxed));
            slots.slots.clone()
        };
        let deadline = Instant::now() + MAPPED_WAIT;
        for slot in &slots {
            // Who is writing a record has counted it then, unless the disk holds it up.
            if self.mapped.is_some() { drop(lock_until(&slot.chunk, deadline)) } else { drop(lock(&slot.chunk)) }
        }
        lock(&self.backlog).close();
        self.pool.tell_of_room(); // nobody need wait for it any more
    }

    /// What became of the records so far; what has not settled counts as in flight. Waits for no thread that is held up.
    pub(crate) fn account(&self) -> Account {
        let slots = lock(&self.slots);
        let settled = self.counters.settled(); // before the tally, so that it is never ahead of it
        let mut tally = slots.gone;
        slots.slots.iter().for_each(|slot| tally.add(slot.tally()));
        settled.account(tally)
    }

    /// Appends a record to the slot's chunk; `None`, and nothing is counted, where the buffer is full.
    #[inline]
    fn append(&self, slot: &Slot, chunk: &mut Chunk, scope: ScopeId, records: u16, record: &[u8]) -> Option<Urgency> {
        let is_first = chunk.records() == 0;
        if !slot.is_closed() && chunk.push(scope, records, record) {
            slot.has_emitted(records);
            return Some(if is_first { Urgency::Scheduled } else { Urgency::Idle });
        }
        self.append_to_new(slot, chunk, scope, records, record)
    }

    #[cold]
    fn append_to_new(
        &self,
        slot: &Slot,
        chunk: &mut Chunk,
        scope: ScopeId,
        records: u16,
        record: &[u8],
    ) -> Option<Urgency> {
        if slot.is_closed() {
            slot.has_dropped(records);
            return Some(Urgency::Idle);
        }
        let waiting = self.queued_records.load(Ordering::Relaxed) + chunk.records();
        let room = self.queue_records_max.saturating_sub(waiting);
        let mapped_for = self.mapped.map(|signal| (signal, scope));
        let new = if room > 0 { self.pool.acquire(record.len(), room, mapped_for) } else { None };
        let is_pressed = self.pool.is_pressed();
        let Some(mut new) = new else {
            self.push_full(std::mem::take(chunk)); // so that it counts as queued for other threads, too
            return None;
        };
        new.push(scope, records, record);
        slot.has_emitted(records);
        let is_beside = Pool::is_for_one(record.len()) && chunk.records() > 0; // the thread's own has room yet
        let full = if is_beside { new } else { std::mem::replace(chunk, new) };
        Some(self.push_full(full).max(if is_pressed { Urgency::Pressed } else { Urgency::Scheduled }))
    }

    fn push_full(&self, chunk: Chunk) -> Urgency {
        if chunk.records() == 0 {
            return Urgency::Idle;
        }
        if self.mapped.is_some() && !chunk.is_mapped() {
            self.counters.add_unmapped(chunk.records());
        }
        let queued = self.queued_records.fetch_add(chunk.records(), Ordering::Relaxed) + chunk.records();
        let full_bytes = lock(&self.backlog).push_chunk(chunk);
        let is_much = full_bytes >= FULL_BYTES_HURRY || queued > self.queue_records_max / 2;
        if is_much { Urgency::Hurry } else { Urgency::Scheduled }
    }
}

impl Slots {
    /// Takes out what ended threads have left; their chunks are handed to `collect`.
    fn prune(&mut self, mut collect: impl FnMut(Chunk)) {
        let Self { slots, gone, .. } = self;
        slots.retain(|slot| {
            let is_gone = Arc::strong_count(slot) == 1;
            if is_gone {
                let chunk = std::mem::take(&mut *lock(&slot.chunk));
                gone.add(slot.tally());
                if chunk.records() > 0 {
                    collect(chunk);
                }
            }
            !is_gone
        });
        self.pruned = self.slots.len();
    }
}

/// What a thread keeps between calls.
pub(crate) struct Local {
    pub(crate) callsites: CallsiteCache,
    scratch: RefCell<Vec<u8>>,
    slots: RefCell<Vec<Arc<Slot>>>,
    /// Whether a record is being handed over: a signal's handler that logs would wait for its own thread's locks.
    is_pushing: AtomicBool,
}

/// Most bytes of scratch that a thread keeps between calls (8 KiB); a larger record's is freed.
pub(crate) const SCRATCH_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    static LOCAL: Local = Local::new();
}

/// Calls `f` with OpenTelemetry's current context; `None` in a thread that is ending and has none any more: asking for it there would panic,
/// which in the destructor of a thread's local value aborts the process.
#[inline]
pub(crate) fn map_current_context<R>(f: impl FnOnce(&OtelContext) -> R) -> Option<R> {
    Local::with(|_| OtelContext::map_current(f))
}

impl Local {
    /// A thread's locals are dropped in the opposite order to that in which they were made, so OpenTelemetry's context, and the thread's number in the
    /// registries of spans, are there as long as these are.
    fn new() -> Self {
        static NUMBERED: LazyLock<Slab<()>> = LazyLock::new(Slab::new);
        OtelContext::map_current(|_| ());
        if let Some(entry) = NUMBERED.insert(()) {
            NUMBERED.remove(entry);
        }
        Self {
            callsites: CallsiteCache::new(),
            scratch: RefCell::default(),
            slots: RefCell::default(),
            is_pushing: AtomicBool::new(false),
        }
    }

    /// Calls `f` with this thread's locals; `None` in a thread that is ending and has dropped them.
    #[inline]
    pub(crate) fn with<R>(f: impl FnOnce(&Local) -> R) -> Option<R> {
        LOCAL.try_with(f).ok()
    }

    /// Whether there are any, and a span can be made: in a thread that has dropped them it would abort the process.
    #[inline]
    pub(crate) fn are_there() -> bool {
        Self::with(|_| ()).is_some()
    }

    /// Calls `f` with an empty buffer. A call within a call (a `Debug` that logs) has a new one.
    #[inline]
    pub(crate) fn with_scratch<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let Ok(mut scratch) = self.scratch.try_borrow_mut() else { return f(&mut Vec::new()) };
        scratch.clear();
        let result = f(&mut scratch);
        if scratch.capacity() > SCRATCH_BYTES_MAX {
            *scratch = Vec::new();
        }
        result
    }

    /// An empty buffer, to be given back.
    #[cfg(feature = "otel-logs")]
    pub(crate) fn take_scratch(&self) -> Vec<u8> {
        let mut scratch =
            self.scratch.try_borrow_mut().map(|mut scratch| std::mem::take(&mut *scratch)).unwrap_or_default();
        scratch.clear();
        scratch
    }

    #[cfg(feature = "otel-logs")]
    pub(crate) fn give_scratch(&self, scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH_BYTES_MAX
            && let Ok(mut kept) = self.scratch.try_borrow_mut()
        {
            *kept = scratch;
        }
    }

    /// That this thread hands a record over, until it is dropped; `None` where it does so already.
    #[inline]
    fn pushing(&self) -> Option<Pushing<'_>> {
        if self.is_pushing.load(Ordering::Relaxed) {
            return None;
        }
        self.is_pushing.store(true, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst); // a handler sees what its own thread has done, in the order of the instructions
        Some(Pushing(&self.is_pushing))
    }

    #[inline]
    fn with_slot<R>(&self, lane: &Lane, f: impl FnOnce(&Slot) -> R) -> R {
        loop {
            if let Some(slot) = self.slots.borrow().iter().find(|slot| slot.lane == lane.id) {
                return f(slot);
            }
            self.add_slot(lane);
        }
    }

    #[cold]
    fn add_slot(&self, lane: &Lane) {
        let mut slots = lock(&lane.slots);
        let slot = Arc::new(Slot::new(lane.id, slots.is_closed));
        if slots.slots.len() >= SLOTS_PRUNED_FROM.max(2 * slots.pruned) {
            slots.prune(|chunk| {
                lane.push_full(chunk);
            });
        }
        slots.slots.push(Arc::clone(&slot));
        let mut own = self.slots.borrow_mut();
        own.retain(|slot| Arc::strong_count(slot) > 1); // the others' lanes are gone
        own.push(slot);
    }
}

struct Pushing<'l>(&'l AtomicBool);

impl Drop for Pushing<'_> {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst); // as above
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Lane {
    /// Has all threads that have logged so far be in the midst of a write, as where the disk holds up what is written to a mapped page, while `f` runs.
    pub(crate) fn with_threads_held_up<R>(&self, f: impl FnOnce() -> R) -> R {
        let slots = lock(&self.slots).slots.clone();
        let _held: Vec<_> = slots.iter().map(|slot| lock(&slot.chunk)).collect();
        f()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::End;
    use crate::mapped::Origin;
    use proptest::prelude::*;

    /// As of a signal's handler.
    #[test]
    fn a_record_that_comes_while_another_is_handed_over_is_counted_and_waits_for_nothing() {
        let lane = Lane::new(Arc::new(Pool::new(1024 * 1024)), Arc::default(), u64::MAX, WhenFull::DropNewest);
        let log = |local: &Local| lane.push(local, ScopeId::of_target("test"), b"record", Urgency::Idle);
        Local::with(|local| {
            log(local);
            let _pushing = local.pushing().unwrap();
            local.with_slot(&lane, |slot| {
                let _held = lock(&slot.chunk);
                log(local);
            });
        });
        Local::with(log);
        let account = lane.account();
        assert_eq!((account.emitted, account.dropped_reentrant, account.in_flight), (3, 1, 2), "{account}");
    }

    #[test]
    fn threads_that_have_ended_leave_no_slots() {
        let lane = Lane::new(Arc::new(Pool::new(1024 * 1024)), Arc::default(), u64::MAX, WhenFull::DropNewest); // nobody collects
        let scope = ScopeId::of_target("test");
        std::thread::scope(|threads| {
            for _ in 0..1000 {
                let log = || Local::with(|local| lane.push(local, scope, b"record", Urgency::Idle));
                threads.spawn(log).join().unwrap();
            }
        });
        assert!(lock(&lane.slots).slots.len() <= SLOTS_PRUNED_FROM);
        let account = lane.account();
        assert_eq!((account.emitted, account.in_flight), (1000, 1000 - account.dropped_buffer_full));
        let collected: u64 = lane.collect().iter().map(Chunk::records).sum();
        assert_eq!(collected, account.in_flight);
    }

    #[test]
    fn a_thousand_threads_that_logged_once_are_within_the_cap_and_hold_nothing_afterwards() {
        const CAP: usize = 4 * 1024 * 1024; // a quarter of what as many whole chunks would take
        let pool = Arc::new(Pool::new(CAP));
        let lane = Lane::new(Arc::clone(&pool), Arc::default(), u64::MAX, WhenFull::DropNewest);
        let scope = ScopeId::of_target("test");
        let (have_logged, may_end) = (std::sync::Barrier::new(1001), std::sync::Barrier::new(1001));
        std::thread::scope(|threads| {
            for _ in 0..1000 {
                threads.spawn(|| {
                    Local::with(|local| lane.push(local, scope, b"record", Urgency::Idle));
                    have_logged.wait();
                    may_end.wait();
                });
            }
            have_logged.wait();
            assert!(pool.used_bytes() <= CAP);
            let chunks = lane.collect();
            assert_eq!(chunks.iter().map(Chunk::records).sum::<u64>(), 1000, "none was dropped");
            chunks.into_iter().for_each(|chunk| drop(pool.release(chunk)));
            assert_eq!(pool.used_bytes(), 0);
            may_end.wait();
        });
    }

    #[test]
    fn a_thread_that_its_chunk_holds_up_holds_up_no_other() {
        let lane = Lane::new(Arc::new(Pool::new(1024 * 1024)), Arc::default(), u64::MAX, WhenFull::DropNewest);
        let lane = Arc::new(lane.mapped(Signal::Logs));
        let scope = ScopeId::of_target("test");
        let log = move |lane: &Lane| Local::with(|local| lane.push(local, scope, b"record", Urgency::Idle));
        log(&lane);
        let (tell, told) = std::sync::mpsc::channel();
        lane.with_threads_held_up(|| {
            let lane = Arc::clone(&lane);
            std::thread::spawn(move || {
                log(&lane);
                lane.push_detached(scope, b"record", Urgency::Idle);
                let now = Instant::now();
                let first = lane.gather(now);
                let second = lane.gather(now + Duration::from_secs(1));
                lane.close();
                tell.send((first.chunks, second == first && first.held_up_since == Some(now), lane.account().emitted))
            });
            let told = told.recv_timeout(Duration::from_secs(120)).expect("nobody waits");
            assert_eq!(told, (2, true, 3));
        });
        assert_eq!(lane.gather(Instant::now()), Gathered { chunks: 3, held_up_since: None });
        log(&lane);
        lane.push_detached(scope, b"record", Urgency::Idle);
        assert_eq!(lane.account().dropped_after_shutdown, 2);
    }

    #[test]
    fn a_thread_that_was_found_writing_twice_was_not_held_up_all_the_while() {
        let lane = Lane::new(Arc::new(Pool::new(1024 * 1024)), Arc::default(), u64::MAX, WhenFull::DropNewest);
        let lane = lane.mapped(Signal::Logs);
        let log = || Local::with(|local| lane.push(local, ScopeId::of_target("test"), b"record", Urgency::Idle));
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let held_up_since = |at| lane.with_threads_held_up(|| lane.gather(at).held_up_since);
        log();
        assert_eq!(held_up_since(now), Some(now));
        log();
        assert_eq!(held_up_since(later), Some(later));
        lane.gather(later);
        assert_eq!(held_up_since(now), Some(now));
    }

    /// A few steps, which `make miri` runs in many orders; the last collections and the shutdown come while threads log.
    #[test]
    fn whatever_the_order_each_record_is_collected_or_dropped_and_counted() {
        let lane = |pool: &Arc<Pool>| Lane::new(Arc::clone(pool), Arc::default(), 6, WhenFull::DropOldest);
        for set in [|lane| lane, |lane: Lane| lane.mapped(Signal::Logs)] {
            let pool = Arc::new(Pool::new(8 * 1024)); // four chunks are all there is room for
            each_is_collected_or_dropped_and_counted(&pool, &set(lane(&pool)));
        }
    }

    fn each_is_collected_or_dropped_and_counted(pool: &Pool, lane: &Lane) {
        let scope = ScopeId::of_target("test");
        let collect = || {
            let chunks = lane.collect();
            let records = chunks.iter().map(Chunk::records).sum::<u64>();
            lane.unqueue(records);
            lane.counters.add(End::Delivered, records);
            chunks.into_iter().for_each(|chunk| drop(pool.release(chunk)));
        };
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let log = || Local::with(|local| lane.push(local, scope, b"record", Urgency::Idle));
                    (0..5).for_each(|_| log().expect("a thread that lives"));
                });
            }
            (0..2).for_each(|_| collect());
            lane.close();
            if lane.mapped.is_none() {
                // Nobody was passed over, so that these are all.
                lane.counters.add(End::AtDeadline, lane.account().in_flight);
                let chunks = lane.collect(); // too late
                lane.unqueue(chunks.iter().map(Chunk::records).sum());
                chunks.into_iter().for_each(|chunk| drop(pool.release(chunk)));
            }
        });
        collect();
        let account = lane.account();
        assert_eq!((account.emitted, account.in_flight), (10, 0), "{account}");
        assert_eq!(account.delivered + account.dropped(), 10, "{account}");
        assert_eq!((pool.used_bytes(), lane.queued_records.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn what_comes_after_the_shutdown_is_never_in_flight() {
        let lane = Lane::new(Arc::new(Pool::new(1024 * 1024)), Arc::default(), u64::MAX, WhenFull::DropNewest);
        let scope = ScopeId::of_target("test");
        lane.close();
        let are_done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let log = || Local::with(|local| lane.push(local, scope, b"record", Urgency::Idle));
                (0..if cfg!(miri) { 20 } else { 300_000 }).for_each(|_| log().expect("a thread that lives"));
                are_done.store(true, Ordering::Relaxed);
            });
            while !are_done.load(Ordering::Relaxed) {
                let account = lane.account();
                assert_eq!((account.in_flight, account.emitted), (0, account.dropped_after_shutdown), "{account}");
            }
        });
    }

    #[test]
    fn the_oldest_do_not_give_way_in_vain() {
        let pool = Arc::new(Pool::new(128 * 1024));
        let lane = Lane::new(Arc::clone(&pool), Arc::default(), 100, WhenFull::DropOldest);
        let scope = ScopeId::of_target("test");
        let log = |bytes: usize| Local::with(|local| lane.push(local, scope, &vec![0; bytes], Urgency::Idle)).unwrap();
        (0..30).for_each(|_| log(1000));
        lane.gather(Instant::now());
        let is_lost = |log: &dyn Fn()| {
            let before = lane.account();
            log();
            let after = lane.account();
            assert_eq!((after.emitted, after.in_flight), (before.emitted + 1, before.in_flight), "{after}");
            after.dropped_buffer_full == before.dropped_buffer_full + 1
        };
        assert!(is_lost(&|| log(200 * 1024)), "larger than the buffer");
        assert!(is_lost(&|| lane.push_detached(scope, &vec![0; 200 * 1024], Urgency::Idle)), "the same");
        pool.charge(127 * 1024);
        assert!(is_lost(&|| log(1000)), "others have filled it");
        pool.refund(127 * 1024);
        lane.queued_records.fetch_add(100, Ordering::Relaxed);
        assert!(is_lost(&|| log(1000)), "what is under way is as much as may be queued");
        lane.queued_records.fetch_sub(100, Ordering::Relaxed);
        log(1000);
        assert_eq!(lane.account().dropped_buffer_full, 4);
    }

    /// What a thread and the export thread do by turns.
    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        /// Makes requests of what is there, or of so many chunks.
        Collect(usize),
        /// Sends so many of them, which ends well.
        Send(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..3000usize).prop_map(Step::Push),
            1 => (1..4usize).prop_map(Step::Collect),
            1 => (1..4usize).prop_map(Step::Send),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn the_oldest_give_way_and_each_is_counted(steps in steps(), records_max in prop_oneof![Just(u64::MAX), 1..60u64]) {
            let pool = Arc::new(Pool::new(128 * 1024));
            let lane = Lane::new(Arc::clone(&pool), Arc::default(), records_max, WhenFull::DropOldest);
            let (scope, mut made, mut sent) = (ScopeId::of_target("test"), 0u64, 0);
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        let record = [&made.to_le_bytes()[..], &vec![0; bytes]].concat();
                        Local::with(|local| lane.push(local, scope, &record, Urgency::Idle));
                        made += 1;
                    }
                    Step::Collect(chunks) => {
                        lane.gather(Instant::now());
                        for chunk in lane.take_chunks(chunks, Size { bytes: usize::MAX, records: u64::MAX }) {
                            let numbers = chunk.entries().flat_map(|(_, _, record)| record[..8].to_vec());
                            let body: bytes::Bytes = numbers.collect::<Vec<_>>().into();
                            let records = chunk.records();
                            pool.release(chunk);
                            pool.charge(body.len());
                            lane.push_request(MemoryRequest {
                                number: 0,
                                records,
                                body,
                                origin: Origin::default(),
                                deadline: None,
                            });
                        }
                    }
                    Step::Send(requests) => {
                        for request in (0..requests).map_while(|_| lane.pop_request()) {
                            pool.refund(request.body.len());
                            lane.unqueue(request.records);
                            lane.counters.add(End::Delivered, request.records);
                            sent += request.records;
                        }
                    }
                }
                let account = lane.account();
                prop_assert_eq!((account.emitted, account.delivered), (made, sent));
            }
            let account = lane.account();
            let requests = std::iter::from_fn(|| lane.pop_request()).flat_map(|request| request.body.to_vec());
            let chunks = lane.collect();
            let chunks = chunks.iter().flat_map(Chunk::entries).flat_map(|(_, _, record)| record[..8].to_vec());
            let left: Vec<u8> = requests.chain(chunks).collect();
            let newest: Vec<u8> = (made - account.in_flight..made).flat_map(u64::to_le_bytes).collect();
            prop_assert_eq!(left, newest, "what is left is the newest, in order");
        }
    }
}
