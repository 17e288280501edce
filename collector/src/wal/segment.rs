//! A segment: its header, and what is known of it while the log is open.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use watchbell_rules::time::Timestamp;

use super::Position;
use super::disk::DiskFile;
use super::frame::{self, Header, span_from_wire, span_to_wire, u32_at, u64_at};

/// Where the frames begin.
pub(super) const DATA_START: u64 = 8192;
/// Where the copies of the header stand.
const HEADER_COPIES: [usize; 2] = [0, 4096];
const HEADER_BYTES: usize = 88;
const MAGIC: [u8; 8] = *b"WBWALSEG";
const VERSION: u32 = 1;

impl Position {
    pub(super) fn new(sequence: u32, offset: u64) -> Self {
        Self(u64::from(sequence) << 32 | offset)
    }

    pub(super) fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn offset(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

/// What a segment says of itself and of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) sequence: u32,
    pub(super) salt: u64,
    pub(super) records_before: u64,
    pub(super) received: Timestamp,
    pub(super) previous: Option<Sealed>,
}

/// What is known of a closed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) sequence: u32,
    pub(super) end: u64,
    pub(super) index: Index,
}

/// What the durable frames of a segment hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) frames: u64,
    pub(super) event_span: Option<(Timestamp, Timestamp)>,
}

impl Index {
    /// Counts one more frame.
    pub(super) fn add(&mut self, span: Option<(Timestamp, Timestamp)>) {
        self.frames += 1;
        self.event_span = match (self.event_span, span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }
}

impl SegmentHeader {
    /// All that stands before the frames.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = [0; HEADER_BYTES];
        let previous = self.previous.unwrap_or(Sealed { sequence: 0, end: 0, index: Index::default() });
        let (least, greatest) = span_to_wire(previous.index.event_span);
        copy[..8].copy_from_slice(&MAGIC);
        copy[12..16].copy_from_slice(&VERSION.to_le_bytes());
        let fields = [
            u64::from(self.sequence),
            self.salt,
            self.records_before,
            self.received.0 as u64,
            u64::from(previous.sequence),
            previous.end,
            previous.index.frames,
            least as u64,
            greatest as u64,
        ];
        for (field, bytes) in fields.iter().zip(copy[16..].chunks_exact_mut(8)) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&copy[12..]);
        copy[8..12].copy_from_slice(&crc.to_le_bytes());
        let mut bytes = vec![0; DATA_START as usize];
        for at in HEADER_COPIES {
            bytes[at..at + HEADER_BYTES].copy_from_slice(&copy);
        }
        bytes
    }

    /// The header in the first [`DATA_START`] bytes of a file; of two good copies the newer.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        HEADER_COPIES.iter().filter_map(|at| Self::decode_copy(bytes.get(*at..)?)).max_by_key(|header| header.sequence)
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let good = bytes[..8] == MAGIC && u32_at(bytes, 8) == crc32fast::hash(&bytes[12..]);
        if !good || u32_at(bytes, 12) != VERSION {
            return None;
        }
        let field = |index: usize| u64_at(bytes, 16 + 8 * index);
        let index = Index { frames: field(6), event_span: span_from_wire(field(7) as i64, field(8) as i64) };
        let previous = Sealed { sequence: u32::try_from(field(4)).ok()?, end: field(5), index };
        Some(Self {
            sequence: u32::try_from(field(0)).ok()?,
            salt: field(1),
            records_before: field(2),
            received: Timestamp(field(3) as i64),
            previous: (previous.sequence != 0).then_some(previous),
        })
    }
}

/// An open segment. One thread writes, any read.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) name: String,
    pub(super) file: F,
    /// Size of the file.
    pub(super) bytes: u64,
    pub(super) header: SegmentHeader,
    end: AtomicU64,
    failed: AtomicBool,
    index: Mutex<Index>,
}

impl<F: DiskFile> Segment<F> {
    pub(super) fn new(room: Room<F>, header: SegmentHeader, end: u64, index: Index) -> Self {
        let Room { name, file, bytes } = room;
        let (end, failed, index) = (AtomicU64::new(end), AtomicBool::new(false), Mutex::new(index));
        Self { name, file, bytes, header, end, failed, index }
    }

    /// Where the frames that readers may see end.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Whether the disk failed it: its file is not used again.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sealed(&self) -> Sealed {
        Sealed { sequence: self.header.sequence, end: self.end(), index: *self.index() }
    }

    pub(super) fn position(&self, offset: u64) -> Position {
        Position::new(self.header.sequence, offset)
    }

    /// The header at an offset, if a good one stands there.
    pub(super) fn header_at(&self, offset: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; frame::HEADER_BYTES];
        let count = self.file.read_at(&mut bytes, offset)?;
        Ok(Header::decode(&bytes[..count], self.header.salt, self.position(offset)))
    }

    /// Writes parts at an offset; with the first frame goes the header.
    pub(super) fn write(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let header = if offset == DATA_START { self.header.encode() } else { Vec::new() };
        let header = Some(header.as_slice()).filter(|bytes| !bytes.is_empty());
        let start = if header.is_some() { 0 } else { offset };
        let mut slices: Vec<_> = header.iter().chain(parts).map(|part| IoSlice::new(part)).collect();
        self.file.write_at(&mut slices, start)
    }
}

/// A file that a segment can be made in.
#[derive(Debug)]
pub(super) struct Room<F> {
    pub(super) name: String,
    pub(super) file: F,
    pub(super) bytes: u64,
}
