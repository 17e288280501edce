//! Writing: group commit, the turn of the segments, and what happens when the disk fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::disk::{Disk, DiskFile, RealDisk};
use super::frame::{HEADER_BYTES, Header, frame_bytes};
use super::log::{Queued, Shared};
use super::reader::frame;
use super::segment::{DATA_START, Index, Room, Segment, SegmentHeader};
use super::{AppendError, Frame, Position};

/// The log's one writer: [`write`](Self::write), then [`sync`](Self::sync), and again. It waits for nothing but the disk.
pub struct WalWriter<D: Disk = RealDisk> {
    shared: Arc<Shared<D>>,
    /// The segment that is written to, if there is one.
    active: Option<Arc<Segment<D::File>>>,
    /// Files that hold nothing.
    spares: Vec<Room<D::File>>,
    /// Makes a spare file.
    preparing: Option<JoinHandle<io::Result<Room<D::File>>>>,
    next_sequence: u32,
    next_name: u64,
    /// Written, not synced.
    group: Vec<Waiting>,
    /// Records up to the durable position.
    durable_records: u64,
    /// As the segment's index will be when the group is durable.
    index: Index,
}

#[derive(Debug)]
struct Waiting {
    position: Position,
    done: oneshot::Sender<Result<Position, AppendError>>,
}

/// What a recovery hands to the writer.
pub(super) struct Start<F> {
    pub(super) active: Option<Arc<Segment<F>>>,
    pub(super) spares: Vec<Room<F>>,
    pub(super) next_sequence: u32,
    pub(super) next_name: u64,
}

impl<D: Disk> WalWriter<D> {
    pub(super) fn new(shared: Arc<Shared<D>>, start: Start<D::File>) -> Self {
        let Start { active, spares, next_sequence, next_name } = start;
        let index = active.as_ref().map(|segment| *segment.index()).unwrap_or_default();
        let durable_records = shared.records();
        let (preparing, group) = (None, Vec::new());
        Self { shared, active, spares, preparing, next_sequence, next_name, group, durable_records, index }
    }

    pub(super) fn shared(&self) -> &Arc<Shared<D>> {
        &self.shared
    }

    /// Writes what is queued, as far as it fits the segment, and shows it to readers. `false` when nothing waits to be synced.
    pub fn write(&mut self) -> bool {
        let Some(first) = self.shared.queue().frames.front().map(|queued| frame_bytes(queued.frame.payload.len()))
        else {
            return false;
        };
        if !self.group.is_empty() && !self.fits(first) {
            // The next segment begins when this one is synced.
            return true;
        }
        let segment = match self.segment_for(first) {
            Ok(segment) => segment,
            Err(error) => {
                self.refuse_queued(&error);
                return false;
            }
        };
        let group = self.take_group(segment.bytes - segment.end());
        match self.write_group(&segment, group) {
            Ok(()) => true,
            Err(error) => {
                self.handle_failure(&error);
                false
            }
        }
    }

    /// Syncs what was written, and tells those who wait for it.
    pub fn sync(&mut self) {
        let Some(segment) = self.active.clone().filter(|_| !self.group.is_empty()) else { return };
        let start = self.shared.clock.monotonic();
        let result = segment.file.sync();
        let took = self.shared.clock.monotonic().saturating_sub(start);
        self.shared.metrics.fsync.observe(took.as_secs_f64());
        match result {
            Ok(()) => self.handle_synced(&segment),
            Err(error) => self.handle_failure(&error),
        }
    }

    /// Saves the cursors' positions if they moved. The log does without if the disk fails: cursors then stand further back after a restart.
    pub fn save_cursors(&mut self) {
        let mut cursors = self.shared.cursors();
        if !cursors.dirty {
            return;
        }
        let copy = cursors.begin_save(self.shared.progress.borrow().durable);
        drop(cursors);
        if let Err(error) = copy.save(&self.shared.disk) {
            tracing::warn!(signal = self.shared.signal, %error, "cursors not saved");
            self.shared.cursors().handle_not_saved(&copy);
        }
    }

    /// Has the next segment's file made aside when this one's is half full, so that no append waits for that.
    pub(super) fn prepare_next(&mut self) {
        let half_full = self.active.as_ref().is_some_and(|segment| segment.end() > segment.bytes / 2);
        let bytes = self.shared.config.segment_bytes(0);
        if !half_full || self.preparing.is_some() || !self.spares.is_empty() || !self.has_room_for(bytes) {
            return;
        }
        let (shared, name) = (Arc::clone(&self.shared), self.new_name());
        let thread = std::thread::Builder::new().name("wal-prepare".to_owned());
        let create = move || shared.disk.create(&name, bytes).map(|file| Room { name, file, bytes });
        self.preparing = thread.spawn(create).ok();
    }

    /// Waits for the file that is being made, if one is. If that fails, the next one to need a file finds out why.
    pub(super) fn finish_preparing(&mut self) {
        if let Some(Ok(Ok(room))) = self.preparing.take().map(JoinHandle::join) {
            self.shared.disk_bytes.fetch_add(room.bytes, Ordering::Relaxed);
            self.spares.push(room);
        }
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.shared.disk_bytes.load(Ordering::Relaxed) + bytes <= self.shared.config.bytes_max()
    }

    fn new_name(&mut self) -> String {
        self.next_name += 1;
        format!("{:08}.segment", self.next_name - 1)
    }

    fn take_group(&self, room: u64) -> Vec<Queued> {
        let mut queue = self.shared.queue();
        let mut bytes = 0;
        let fit = queue.frames.iter().take_while(|queued| {
            bytes += frame_bytes(queued.frame.payload.len());
            bytes <= room
        });
        let count = fit.count();
        let group: Vec<_> = queue.frames.drain(..count).collect();
        queue.bytes -= group.iter().map(|queued| queued.frame.payload.len()).sum::<usize>();
        group
    }

    fn write_group(&mut self, segment: &Segment<D::File>, group: Vec<Queued>) -> io::Result<()> {
        let start = segment.end();
        let mut end = start;
        let mut records = self.shared.records();
        let mut headers = Vec::with_capacity(group.len());
        let mut frames = Vec::with_capacity(group.len());
        for Queued { frame: new, payload_crc, received, ahead, done } in group {
            let header = Header {
                payload_crc,
                payload_bytes: new.payload.len() as u32,
                records: new.records,
                kind: new.kind,
                records_before: records,
                received,
                ahead,
                hash: new.hash,
                event_span: new.event_span,
            };
            let position = segment.position(end);
            headers.push(header.encode(segment.header.salt, position));
            frames.push(frame(position, &header, new.payload));
            self.group.push(Waiting { position, done });
            self.index.add(header.event_span);
            records = header.records_after();
            end += header.frame_bytes();
        }
        segment.write(&parts(&headers, &frames), start)?;
        self.show(segment, end, records, frames);
        Ok(())
    }

    fn show(&self, segment: &Segment<D::File>, end: u64, records: u64, frames: Vec<Frame>) {
        let metrics = &self.shared.metrics;
        metrics.frames.inc_by(frames.len() as u64);
        metrics.records.inc_by(records - self.shared.records());
        metrics.bytes.inc_by(frames.iter().map(|frame| frame.payload.len() as u64).sum());
        segment.set_end(end);
        self.shared.records.store(records, Ordering::Release);
        let mut tail = self.shared.tail();
        frames.into_iter().for_each(|frame| tail.push(frame));
        drop(tail);
        self.shared.progress.send_modify(|progress| progress.appended = segment.position(end));
    }

    fn handle_synced(&mut self, segment: &Segment<D::File>) {
        *segment.index() = self.index;
        self.durable_records = self.shared.records();
        self.shared.progress.send_modify(|progress| progress.durable = progress.appended);
        for waiting in self.group.drain(..) {
            let _ = waiting.done.send(Ok(waiting.position));
        }
    }

    /// Seals the segment at the durable position: what is behind it is void.
    fn handle_failure(&mut self, error: &io::Error) {
        tracing::error!(signal = self.shared.signal, %error, "the disk failed: appends since the last sync are refused, a new segment begins");
        self.shared.metrics.failures.inc();
        let durable = self.shared.progress.borrow().durable;
        if let Some(segment) = self.active.take() {
            self.seal(&segment, durable);
        }
        self.shared.tail().truncate(durable);
        self.shared.records.store(self.durable_records, Ordering::Release);
        self.shared.progress.send_modify(|progress| {
            progress.appended = durable;
            progress.failures += 1;
        });
        let error = AppendError::Failed(error.to_string().into());
        for waiting in self.group.drain(..) {
            let _ = waiting.done.send(Err(error.clone()));
        }
    }

    fn seal(&self, segment: &Segment<D::File>, durable: Position) {
        segment.set_failed();
        if durable.sequence() == segment.header.sequence {
            segment.set_end(durable.offset());
            return;
        }
        segment.set_end(DATA_START);
        self.shared.segments_mut().remove(&segment.header.sequence);
        self.remove(&segment.name, segment.bytes);
    }

    fn refuse_queued(&self, error: &AppendError) {
        let refused = self.shared.queue().take_batches();
        self.shared.metrics.refused.inc_by(refused.len() as u64);
        for queued in refused {
            let _ = queued.done.send(Err(error.clone()));
        }
    }

    /// The active segment if the frame fits it, else the next.
    fn segment_for(&mut self, frame_bytes: u64) -> Result<Arc<Segment<D::File>>, AppendError> {
        if let Some(segment) = self.active.as_ref().filter(|_| self.fits(frame_bytes)) {
            return Ok(Arc::clone(segment));
        }
        let previous = self.shared.segments().values().next_back().map(|segment| segment.sealed());
        // Without it the active segment stays: what it has room for can still be written.
        let room = self.room(self.shared.config.segment_bytes(frame_bytes))?;
        let header = SegmentHeader {
            sequence: self.next_sequence,
            salt: fastrand::u64(..),
            records_before: self.shared.records(),
            received: self.shared.queue().clock.shown(),
            previous,
        };
        self.next_sequence += 1;
        self.index = Index::default();
        let segment = Arc::new(Segment::new(room, header, DATA_START, self.index));
        self.shared.segments_mut().insert(header.sequence, Arc::clone(&segment));
        self.active = Some(Arc::clone(&segment));
        Ok(segment)
    }

    fn fits(&self, frame_bytes: u64) -> bool {
        self.active.as_ref().is_some_and(|segment| segment.end() + frame_bytes <= segment.bytes)
    }

    /// A file for the next segment: a spare one, the oldest segment's if the log is at its cap, or a new one.
    fn room(&mut self, bytes: u64) -> Result<Room<D::File>, AppendError> {
        self.finish_preparing();
        loop {
            while let Some(spare) = self.spares.pop() {
                if spare.bytes == bytes {
                    return Ok(spare);
                }
                self.remove(&spare.name, spare.bytes);
            }
            if self.has_room_for(bytes) || !self.drop_oldest()? {
                break;
            }
        }
        let name = self.new_name();
        let file = self.shared.disk.create(&name, bytes).map_err(|error| {
            tracing::error!(signal = self.shared.signal, %error, "no new segment: appends are refused");
            AppendError::Failed(error.to_string().into())
        })?;
        self.shared.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Room { name, file, bytes })
    }
}

impl<D: Disk> WalWriter<D> {
    /// Takes the oldest segment out of the log; its file is spare then, or gone. `false` where there is none.
    fn drop_oldest(&mut self) -> Result<bool, AppendError> {
        let (oldest, next) = {
            let segments = self.shared.segments();
            let mut oldest = segments.values().cloned();
            (oldest.next(), oldest.next())
        };
        let Some(oldest) = oldest else { return Ok(false) };
        if self.shared.cursors().held().is_some_and(|held| held < oldest.position(oldest.end())) {
            return Err(AppendError::Full);
        }
        match next {
            Some(next) => self.count_lost(next.position(DATA_START), next.header.records_before),
            None => self.count_lost(oldest.position(oldest.end()), self.shared.records()),
        }
        self.shared.segments_mut().remove(&oldest.header.sequence);
        self.active.take_if(|active| active.header.sequence == oldest.header.sequence);
        let (name, bytes, failed) = (oldest.name.clone(), oldest.bytes, oldest.failed());
        match Arc::try_unwrap(oldest) {
            Ok(Segment { name, file, bytes, .. }) if !failed => self.spares.push(Room { name, file, bytes }),
            // A reader is in it and keeps it open, or the disk failed it.
            _ => self.remove(&name, bytes),
        }
        Ok(true)
    }

    /// Moves the cursors up to `position`, the new oldest, and counts what they had not read of the records before it.
    fn count_lost(&self, position: Position, records: u64) {
        let mut cursors = self.shared.cursors();
        cursors.dirty = true;
        cursors.cursors.retain(|_, state| state.open || state.position >= position);
        for (name, state) in cursors.cursors.iter_mut().filter(|(_, state)| state.position < position) {
            let read = self.shared.records_before(state.position).unwrap_or(records);
            let lost = records.saturating_sub(read);
            if lost > 0 {
                tracing::warn!(
                    signal = self.shared.signal,
                    cursor = name,
                    records = lost,
                    "log at `wal.bytes_max`: records lost to a cursor"
                );
            }
            state.lost += lost;
            state.position = position;
        }
    }

    fn remove(&self, name: &str, bytes: u64) {
        self.shared.disk_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Err(error) = self.shared.disk.remove(name) {
            tracing::warn!(signal = self.shared.signal, file = name, %error, "old segment not removed");
        }
    }
}

/// Headers, payloads and the zeros between, in their order.
fn parts<'a>(headers: &'a [[u8; HEADER_BYTES]], frames: &'a [Frame]) -> Vec<&'a [u8]> {
    static ZEROS: [u8; HEADER_BYTES] = [0; HEADER_BYTES];
    let frames = headers.iter().zip(frames).flat_map(|(header, frame)| {
        let padding = frame.payload.len().next_multiple_of(HEADER_BYTES) - frame.payload.len();
        [&header[..], &frame.payload, &ZEROS[..padding]]
    });
    frames.filter(|part| !part.is_empty()).collect()
}
