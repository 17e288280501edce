//! Opening a log in whatever state a crash left it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, RwLock};

use tokio::sync::watch;
use watchbell_rules::time::Timestamp;

use super::cursor::Cursors;
use super::disk::{Disk, DiskFile, read_what_can_be};
use super::frame::HEADER_BYTES;
use super::log::{Queue, Segments, Shared, WalConfig};
use super::log_clock::LogClock;
use super::metrics::LogMetrics;
use super::reader::{Tail, read_batch};
use super::segment::{DATA_START, Index, Room, Segment, SegmentHeader};
use super::writer::{Start, WalWriter};
use super::{Position, Progress};
use crate::clock::SharedClock;

pub(super) type Opened<D> = (Arc<Shared<D>>, WalWriter<D>);

pub(super) fn open<D: Disk>(
    disk: D,
    signal: &str,
    config: WalConfig,
    clock: SharedClock,
    metrics: LogMetrics,
) -> io::Result<Opened<D>> {
    let mut cursors = Cursors::load(&disk)?;
    let files = Files::list(&disk)?;
    let disk_bytes = files.bytes();
    let next_name = files.next_name;
    let mut found = Found::default();
    let (segments, spares) = files.chain::<D>(cursors.durable, &mut found)?;
    let last = segments.values().next_back().cloned();
    // Of the last frame: a segment without any has been read by everyone who stands before it.
    let with_frames = segments.values().rev().find(|segment| segment.end() > DATA_START);
    let end = with_frames.map_or(Position::default(), |segment| segment.position(segment.end()));
    let was_durable = cursors.cursors.values().map(|state| state.position).fold(cursors.durable, Position::max);
    for state in cursors.cursors.values_mut() {
        state.position = state.position.min(end);
    }
    let next_sequence = last.as_ref().map_or(0, |segment| segment.header.sequence).max(was_durable.sequence()) + 1;
    // Rot took durable frames: positions must not come twice.
    let active = last.filter(|_| end >= was_durable);
    let opened_at = if active.is_some() { end } else { Position::new(next_sequence, 0) };
    let start = Start { next_sequence, active, spares, next_name };
    let log_clock = LogClock::new(found.received, clock.monotonic());
    let shared = Arc::new(Shared {
        signal: signal.to_owned(),
        tail: Mutex::new(Tail::new(end, config.tail_cache_bytes_max)),
        disk,
        config,
        clock,
        metrics,
        progress: watch::Sender::new(Progress { appended: end, durable: end, failures: 0 }),
        opened_at,
        wake: Condvar::new(),
        queue: Mutex::new(Queue {
            frames: VecDeque::new(),
            bytes: 0,
            clock: log_clock,
            closed: false,
            woken: false,
            blocked: false,
        }),
        segments: RwLock::new(segments),
        cursors: Mutex::new(cursors),
        records: AtomicU64::new(found.records),
        disk_bytes: AtomicU64::new(disk_bytes),
        damaged: Mutex::default(),
    });
    shared.count_damaged(&found.damaged);
    let writer = WalWriter::new(Arc::clone(&shared), start);
    Ok((shared, writer))
}

/// What going through the last segment told.
struct Found {
    records: u64,
    received: Timestamp,
    damaged: Vec<Position>,
}

impl Default for Found {
    fn default() -> Self {
        Self { records: 0, received: Timestamp::MIN, damaged: Vec::new() }
    }
}

/// The segment files, with what their headers say.
struct Files<F> {
    segments: BTreeMap<u32, (Room<F>, SegmentHeader)>,
    spares: Vec<Room<F>>,
    next_name: u64,
}

impl<F: DiskFile> Files<F> {
    fn list<D: Disk<File = F>>(disk: &D) -> io::Result<Self> {
        let mut files = Self { segments: BTreeMap::new(), spares: Vec::new(), next_name: 0 };
        for name in disk.list()? {
            let Some(number) = name.strip_suffix(".segment").and_then(|number| number.parse::<u64>().ok()) else {
                continue;
            };
            files.next_name = files.next_name.max(number + 1);
            let file = disk.open(&name)?;
            let mut bytes = vec![0; DATA_START as usize];
            let count = read_what_can_be(&file, &mut bytes, 0)?;
            let room = Room { bytes: file.bytes()?, name, file };
            match SegmentHeader::decode(&bytes[..count]) {
                Some(header) => files
                    .segments
                    .insert(header.sequence, (room, header))
                    .into_iter()
                    .for_each(|(twin, _)| files.spares.push(twin)),
                None => files.spares.push(room),
            }
        }
        Ok(files)
    }

    fn bytes(&self) -> u64 {
        let segments = self.segments.values().map(|(room, _)| room.bytes).sum::<u64>();
        segments + self.spares.iter().map(|room| room.bytes).sum::<u64>()
    }

    /// The segments from the newest back, each with the end that its follower names; those that no follower names are void.
    fn chain<D: Disk<File = F>>(
        mut self,
        durable: Position,
        found: &mut Found,
    ) -> io::Result<(Segments<D>, Vec<Room<F>>)> {
        let mut segments = Segments::<D>::new();
        let mut follower: Option<SegmentHeader> = None;
        while let Some((sequence, (room, header))) = self.segments.pop_last() {
            let named = follower.and_then(|follower| follower.previous);
            if follower.is_some() && named.is_none_or(|named| named.sequence < sequence) {
                self.spares.push(room);
                continue;
            }
            let segment = match named.filter(|named| named.sequence == sequence) {
                Some(named) => Segment::new(room, header, named.end, named.index),
                None => gone_through(room, header, durable, found, follower.is_none())?,
            };
            segments.insert(sequence, Arc::new(segment));
            follower = Some(header);
        }
        Ok((segments, self.spares))
    }
}

/// A segment whose end nobody names: it is where its last good frame ends. Torn frames lose their headers, so that who reads
/// headers alone does not take them for whole. What is not known to be durable is written again and synced: a killed process may have
/// left it in the system's memory alone, and after a failed sync another one would not store it.
fn gone_through<F: DiskFile>(
    room: Room<F>,
    header: SegmentHeader,
    durable: Position,
    found: &mut Found,
    is_last: bool,
) -> io::Result<Segment<F>> {
    let bytes = room.bytes;
    let segment = Segment::new(room, header, bytes, Index::default());
    let (mut end, mut last) = (DATA_START, None);
    let (mut at, mut in_damage, mut damaged) = (DATA_START, false, Vec::new());
    while at < bytes {
        let batch = read_batch(&segment, at, READ_BYTES, in_damage)?;
        (at, in_damage) = (batch.end, batch.ends_in_damage);
        damaged.extend(batch.damaged);
        for torn in batch.torn {
            segment.write(&[&[0; HEADER_BYTES]], torn.offset())?;
        }
        for frame in batch.frames {
            end = frame.next.offset();
            last = Some(frame.position);
            segment.index().add(frame.event_span);
        }
    }
    segment.set_end(end);
    write_again(&segment, if durable.sequence() == header.sequence { durable.offset() } else { DATA_START })?;
    segment.file.sync()?;
    found.damaged.extend(damaged.into_iter().filter(|position| position.offset() < end));
    if is_last {
        let last = last.map(|position| segment.header_at(position.offset())).transpose()?.flatten();
        found.records = last.map_or(header.records_before, |last| last.records_after());
        found.received = last.map_or(header.received, |last| last.received);
    }
    Ok(segment)
}

fn write_again<F: DiskFile>(segment: &Segment<F>, start: u64) -> io::Result<()> {
    let mut bytes = vec![0; READ_BYTES];
    let mut at = start.max(DATA_START);
    while at < segment.end() {
        let wanted = READ_BYTES.min((segment.end() - at) as usize);
        let count = read_what_can_be(&segment.file, &mut bytes[..wanted], at)?;
        segment.write(&[&bytes[..count]], at)?;
        at += wanted as u64;
    }
    Ok(())
}

const READ_BYTES: usize = 1 << 20;
