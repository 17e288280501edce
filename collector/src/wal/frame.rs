//! The byte layout of a frame.

use std::time::Duration;

use watchbell_rules::time::Timestamp;

use super::{FrameKind, Position};

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 64;
/// Frames begin at offsets divisible by this.
pub(super) const ALIGN: usize = 64;
const MAGIC: [u8; 4] = *b"WBF1";
/// Three bytes: 194 days.
const AHEAD_SECONDS_MAX: u64 = (1 << 24) - 1;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) payload_crc: u32,
    pub(super) payload_bytes: u32,
    pub(super) records: u32,
    pub(super) kind: FrameKind,
    pub(super) records_before: u64,
    pub(super) received: Timestamp,
    pub(super) ahead: Duration,
    pub(super) hash: u64,
    pub(super) event_span: Option<(Timestamp, Timestamp)>,
}

impl Header {
    /// Its bytes at that position of a segment with that salt.
    pub(super) fn encode(&self, salt: u64, position: Position) -> [u8; HEADER_BYTES] {
        let (least, greatest) = span_to_wire(self.event_span);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.records.to_le_bytes());
        bytes[20] = self.kind as u8;
        bytes[21..24].copy_from_slice(&self.ahead.as_secs().to_le_bytes()[..3]);
        bytes[24..32].copy_from_slice(&self.records_before.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.received.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.hash.to_le_bytes());
        bytes[48..56].copy_from_slice(&least.to_le_bytes());
        bytes[56..64].copy_from_slice(&greatest.to_le_bytes());
        let crc = checksum(&bytes, salt, position);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header that begins `bytes`, if a good one of this place does.
    pub(super) fn decode(bytes: &[u8], salt: u64, position: Position) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[..4] != MAGIC || u32_at(bytes, 4) != checksum(bytes, salt, position) {
            return None;
        }
        Some(Self {
            payload_crc: u32_at(bytes, 8),
            payload_bytes: u32_at(bytes, 12),
            records: u32_at(bytes, 16),
            kind: kind_from_wire(bytes[20])?,
            records_before: u64_at(bytes, 24),
            received: Timestamp(u64_at(bytes, 32) as i64),
            ahead: Duration::from_secs(u64::from(u32_at(bytes, 20) >> 8)),
            hash: u64_at(bytes, 40),
            event_span: span_from_wire(u64_at(bytes, 48) as i64, u64_at(bytes, 56) as i64),
        })
    }

    /// Bytes from its beginning to the next frame's.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes as usize)
    }

    /// The frame's number of records and those before it.
    pub(super) fn records_after(&self) -> u64 {
        self.records_before.saturating_add(u64::from(self.records))
    }
}

/// As much of it as a header has room for: readers get the same from memory as from the disk.
pub(super) fn ahead_to_wire(ahead: Duration) -> Duration {
    Duration::from_secs(ahead.as_secs().min(AHEAD_SECONDS_MAX))
}

/// Bytes that a frame with such a payload takes.
pub(super) fn frame_bytes(payload_bytes: usize) -> u64 {
    (HEADER_BYTES + payload_bytes.next_multiple_of(ALIGN)) as u64
}

/// The largest payload whose frame takes at most so many bytes.
pub(super) fn payload_bytes_max(frame_bytes_max: u64) -> usize {
    (frame_bytes_max as usize).saturating_sub(HEADER_BYTES) / ALIGN * ALIGN
}

/// Event times as they are written: no times as a span that holds none.
pub(super) fn span_to_wire(span: Option<(Timestamp, Timestamp)>) -> (i64, i64) {
    span.map_or((i64::MAX, i64::MIN), |(least, greatest)| (least.0, greatest.0))
}

/// The inverse of [`span_to_wire`].
pub(super) fn span_from_wire(least: i64, greatest: i64) -> Option<(Timestamp, Timestamp)> {
    (least <= greatest).then_some((Timestamp(least), Timestamp(greatest)))
}

/// Little-endian, `at` within `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Little-endian, `at` within `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn kind_from_wire(kind: u8) -> Option<FrameKind> {
    use FrameKind::{Batch, Clock, Filled, Outcome, Rules, Started};
    [Batch, Clock, Rules, Outcome, Started, Filled].into_iter().find(|k| *k as u8 == kind)
}

fn checksum(header: &[u8; HEADER_BYTES], salt: u64, position: Position) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&position.0.to_le_bytes());
    crc.update(&header[8..]);
    crc.finalize()
}
