//! What gives way where the buffer is full.

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::{Lane, Local, Slot, Urgency};
use crate::callsite::ScopeId;
use crate::chunk::Chunk;
use crate::ledger::End;
use crate::lock;

/// What happens to a record that finds [`buffer_bytes_max`](crate::Builder::buffer_bytes_max) (or the queue's limit in records) reached. Set by
/// [`Builder::when_full`](crate::Builder::when_full), or by `WATCHBELL_WHEN_FULL`. A [spool](crate::spool) comes before that: it takes what waits once the
/// buffer is half full.
///
/// # What a burst does
///
/// Records leave as fast as the collector answers, and what comes faster waits in the buffer: a few hundred bytes each as a rule, so that the usual 16 MiB hold some
/// 50,000 to 100,000. BENCHMARKS.md has what becomes of that on two cores: 300,000 records a second arrive without a loss for as long as they come; of a million calls without a
/// pause, 2.8 million a second, nearly half are dropped, and counted, since by default no call waits. Who wants all of a burst has the choice of a larger buffer
/// ([`buffer_bytes_max`](crate::Builder::buffer_bytes_max)), and of [`Block`](Self::Block), by which such a loop runs at the collector's pace; a
/// [spool](crate::spool) is for outages, which last longer than any buffer.
///
/// ```
/// use std::time::Duration;
/// use watchbell::WhenFull;
///
/// let builder = watchbell::builder().when_full(WhenFull::Block(Duration::from_millis(50)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is dropped, and counted. `drop_newest`, the default: how an incident began is kept.
    #[default]
    DropNewest,
    /// The oldest of its signal that wait are dropped, and counted: a request (1 MiB), or a chunk of a thread (64 KiB). `drop_oldest`. Requests that are
    /// under way are kept, and take a quarter of the buffer at most; where nothing else waits, or all that does would not make room (another signal has
    /// filled the buffer, or the record is larger), it is dropped itself.
    DropOldest,
    /// The call waits for room, at most so long, and then the record is dropped, and counted. `block`, with `WATCHBELL_BLOCK_TIMEOUT` in milliseconds (100).
    /// While the collector is away each call may take that long, a task's worker among them. Nothing waits in a panic, in a forked child, in a thread
    /// that is about to end, or after the shutdown.
    Block(Duration),
}

impl FromStr for WhenFull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "drop_newest" => Ok(Self::DropNewest),
            "drop_oldest" => Ok(Self::DropOldest),
            "block" => Ok(Self::Block(BLOCK_TIMEOUT)),
            _ => Err(format!("`{text}` is no such policy; write `drop_newest`, `drop_oldest` or `block`")),
        }
    }
}

/// How long a call waits for room if nothing is said.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(100);

impl Lane {
    /// Hands a record over for which there was no room.
    #[cold]
    pub(super) fn push_when_full(&self, local: &Local, scope: ScopeId, record: &[u8]) -> Urgency {
        let with_chunk = |f: &dyn Fn(&Slot, &mut Chunk) -> Option<Urgency>| {
            local.with_slot(self, |slot| f(slot, &mut lock(&slot.chunk)))
        };
        let again = || with_chunk(&|slot, chunk| self.append(slot, chunk, scope, 1, record));
        let pushed = match self.when_full {
            WhenFull::DropNewest => None,
            WhenFull::DropOldest => {
                let drop_oldest = || self.drop_oldest_for(record.len());
                std::iter::repeat_with(drop_oldest).take_while(|is_dropped| *is_dropped).find_map(|_| again())
            }
            WhenFull::Block(timeout) => self.wait_for_room(timeout, again),
        };
        let dropped = || with_chunk(&|slot, _| Some(self.drop_newest(slot, 1)));
        pushed.or_else(dropped).unwrap_or(Urgency::Hurry)
    }

    /// Counts records as dropped, and says what is to be done about it.
    pub(super) fn drop_newest(&self, slot: &Slot, records: u16) -> Urgency {
        if slot.is_closed() {
            slot.has_dropped(records);
        } else {
            slot.has_emitted(records);
            self.counters.add(End::BufferFull, u64::from(records));
        }
        self.urgency_of_full()
    }

    fn urgency_of_full(&self) -> Urgency {
        if self.pool.is_pressed() { Urgency::Pressed } else { Urgency::Hurry }
    }

    /// Tries again whenever there may be room, until the time is up.
    fn wait_for_room(&self, timeout: Duration, again: impl Fn() -> Option<Urgency>) -> Option<Urgency> {
        let is_alone = self.process != std::process::id(); // a forked child, where nobody makes room
        if is_alone || std::thread::panicking() {
            return None;
        }
        self.request(self.urgency_of_full());
        self.pool.wait_for_room(Instant::now().checked_add(timeout), again)
    }
}
