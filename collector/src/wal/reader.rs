//! Reading frames: from the tail cache, else from the segments.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use watchbell_rules::time::Timestamp;

use super::disk::{Disk, DiskFile, is_unreadable, next_page, read_what_can_be};
use super::frame::{ALIGN, HEADER_BYTES, Header};
use super::log::Shared;
use super::segment::{DATA_START, Segment};
use super::{Frame, Part, Position};

impl<D: Disk> Shared<D> {
    pub(super) fn read(&self, from: Position, bytes_max: usize) -> io::Result<Vec<Frame>> {
        let from = from.max(self.oldest());
        if let Some(frames) = self.tail().read(from, bytes_max) {
            return Ok(frames);
        }
        let mut place = self.locate(from);
        let mut in_damage = false;
        while let Some((segment, start)) = place {
            let batch = read_batch(&segment, start, bytes_max, in_damage)?;
            self.count_damaged(&batch.damaged);
            if !batch.frames.is_empty() {
                return Ok(batch.frames);
            }
            in_damage = batch.ends_in_damage;
            place = self.locate(segment.position(batch.end));
        }
        Ok(Vec::new())
    }

    /// Shows the headers of the frames from `from` on, until `visit` says `false`.
    pub(super) fn walk(&self, from: Position, visit: &mut dyn FnMut(Position, Header) -> bool) -> io::Result<()> {
        let mut place = self.locate(from);
        while let Some((segment, start)) = place {
            let next = match segment.header_at(start) {
                Ok(Some(header)) if !visit(segment.position(start), header) => break,
                Ok(Some(header)) => start + header.frame_bytes(),
                Ok(None) => start + ALIGN as u64,
                Err(error) if is_unreadable(&error) => next_page(start),
                Err(error) => return Err(error),
            };
            place = self.locate(segment.position(next));
        }
        Ok(())
    }

    /// The records before that position.
    pub(super) fn records_before(&self, position: Position) -> io::Result<u64> {
        let mut records = self.records();
        self.walk(position, &mut |_, header| {
            records = header.records_before;
            false
        })?;
        Ok(records)
    }

    /// Bytes of frames from that position on.
    pub(super) fn bytes_from(&self, position: Position) -> u64 {
        let segments = self.segments();
        let from = segments.range(position.sequence()..);
        from.map(|(sequence, segment)| segment.end().saturating_sub(start_in(*sequence, position))).sum()
    }

    /// The segment that begins last of those that begin before anything received at or after `since`.
    pub(super) fn seek(&self, since: Timestamp) -> Position {
        let segments = self.segments();
        let before = segments.values().rev().find(|segment| segment.header.received < since);
        before.or_else(|| segments.values().next()).map_or(Position::default(), |segment| segment.position(DATA_START))
    }

    /// The segments, as parts that are there or gone as a whole. The times of the last one are not known yet.
    pub(super) fn parts(&self) -> Vec<Part> {
        let segments = self.segments();
        let followers = segments.values().skip(1).map(|next| Some(next.header.received));
        let part = |(segment, received_until): (&Arc<Segment<D::File>>, Option<Timestamp>)| {
            let times = received_until.map_or((Timestamp::MIN, Timestamp::MAX), |until| {
                let (least, greatest) = segment.index().event_span.unwrap_or((until, until));
                (least.min(segment.header.received), greatest.max(until))
            });
            Part { start: segment.position(DATA_START), end: segment.position(segment.end()), times }
        };
        segments.values().zip(followers.chain([None])).map(part).collect()
    }

    /// The segment and the offset in it where the first frame at or after that position may stand.
    fn locate(&self, from: Position) -> Option<(Arc<Segment<D::File>>, u64)> {
        let segments = self.segments();
        segments.range(from.sequence()..).find_map(|(sequence, segment)| {
            let start = start_in(*sequence, from);
            (start < segment.end()).then(|| (Arc::clone(segment), start))
        })
    }
}

/// The last frames, in memory, so that readers that keep up do not read from the disk.
#[derive(Debug)]
pub(super) struct Tail {
    /// Every frame at or after this is in `frames`.
    start: Position,
    frames: VecDeque<Frame>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(super) fn new(start: Position, bytes_max: usize) -> Self {
        Self { start, frames: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Payload bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += cost(&frame);
        self.frames.push_back(frame);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= cost(&oldest);
            self.start = oldest.next;
        }
    }

    /// Forgets the frames at or after that position: they are void.
    pub(super) fn truncate(&mut self, end: Position) {
        while self.frames.back().is_some_and(|frame| frame.position >= end)
            && let Some(last) = self.frames.pop_back()
        {
            self.bytes -= cost(&last);
        }
    }

    /// `None` where it does not reach back so far.
    fn read(&self, from: Position, bytes_max: usize) -> Option<Vec<Frame>> {
        if from < self.start {
            return None;
        }
        let first = self.frames.partition_point(|frame| frame.position < from);
        let mut bytes = 0;
        let batch = self.frames.range(first..).take_while(|frame| {
            let fits = bytes == 0 || bytes + frame.payload.len() <= bytes_max;
            bytes += frame.payload.len().max(1);
            fits
        });
        Some(batch.cloned().collect())
    }
}

/// What one read of a file gave.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<Frame>,
    /// Where each run of damage begins.
    pub(super) damaged: Vec<Position>,
    /// Where a good header stands before a payload that is not.
    pub(super) torn: Vec<Position>,
    /// Whether it ended where no good header stands.
    pub(super) ends_in_damage: bool,
    /// Where it ended.
    pub(super) end: u64,
}

/// The frames from an offset before the segment's end on; the batch ends behind the offset.
pub(super) fn read_batch<F: DiskFile>(
    segment: &Segment<F>,
    start: u64,
    bytes_max: usize,
    in_damage: bool,
) -> io::Result<Batch> {
    let rest = segment.end() - start;
    let mut wanted = (bytes_max.next_multiple_of(ALIGN).max(READ_BYTES_MIN) as u64).min(rest);
    loop {
        let mut chunk = BytesMut::zeroed(wanted as usize);
        let count = read_what_can_be(&segment.file, &mut chunk, start)?;
        chunk.truncate(count);
        // A file that is shorter than it was ends the segment.
        let rest = if (count as u64) < wanted { count as u64 } else { rest };
        match parse(segment, start, rest, &chunk.freeze(), in_damage) {
            Parsed::Batch(batch) => return Ok(batch),
            Parsed::Short(bytes) => wanted = bytes,
        }
    }
}

/// Less is not worth a call.
const READ_BYTES_MIN: usize = 4096;

enum Parsed {
    Batch(Batch),
    /// The first frame alone has so many bytes.
    Short(u64),
}

fn parse<F: DiskFile>(segment: &Segment<F>, start: u64, rest: u64, chunk: &Bytes, in_damage: bool) -> Parsed {
    let mut batch = Batch { end: start, ends_in_damage: in_damage, ..Batch::default() };
    let mut at = 0;
    while at < chunk.len() {
        let position = segment.position(start + at as u64);
        let header = Header::decode(&chunk[at..], segment.header.salt, position);
        let fitting = header.filter(|header| at as u64 + header.frame_bytes() <= rest);
        let end = at + fitting.map_or(0, |header| header.frame_bytes() as usize);
        if end > chunk.len() {
            if at == 0 {
                return Parsed::Short(end as u64);
            }
            break;
        }
        if let Some(frame) = fitting.and_then(|header| whole_frame(position, &header, chunk.slice(at..end))) {
            batch.frames.push(frame);
            batch.ends_in_damage = false;
            at = end;
        } else {
            if !batch.ends_in_damage {
                batch.damaged.push(position);
            }
            batch.torn.extend(header.map(|_| position));
            batch.ends_in_damage = true;
            at += ALIGN;
        }
    }
    batch.end = if at == 0 { segment.end() } else { start + at as u64 };
    Parsed::Batch(batch)
}

/// The frame, if its payload is good.
fn whole_frame(position: Position, header: &Header, bytes: Bytes) -> Option<Frame> {
    let payload = bytes.slice(HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize);
    (crc32fast::hash(&payload) == header.payload_crc).then(|| frame(position, header, payload))
}

/// The frame that a header begins.
pub(super) fn frame(position: Position, header: &Header, payload: Bytes) -> Frame {
    Frame {
        position,
        next: Position(position.0 + header.frame_bytes()),
        kind: header.kind,
        received: header.received,
        ahead: header.ahead,
        hash: header.hash,
        event_span: header.event_span,
        records: header.records,
        payload,
    }
}

/// Where to begin in a segment to read from a position at or before its end.
fn start_in(sequence: u32, from: Position) -> u64 {
    let offset = if sequence == from.sequence() { from.offset() } else { 0 };
    offset.next_multiple_of(ALIGN as u64).max(DATA_START)
}

/// Memory that a frame in the cache takes.
fn cost(frame: &Frame) -> usize {
    frame.payload.len() + size_of::<Frame>()
}
