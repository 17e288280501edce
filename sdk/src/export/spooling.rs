//! What of the exporter has to do with the spool: what goes to disk, and what comes back.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::Id;

use super::queue::Spooled;
use super::{DISK_HANGS_AFTER, Ending, Exporter, LaneExporter, Sending};
use crate::config::Signal;
use crate::lane::MemoryRequest;
use crate::ledger::End;
use crate::mapped::Origin;
use crate::spool::{Entry, NoRoom, Oldest, Place, Store};

impl Exporter {
    /// Hands to the disk what has to be there by now.
    pub(super) fn spool_what_waits(&mut self, now: Instant) {
        if self.spool.is_none() {
            return;
        }
        for i in 0..self.lanes.len() {
            let (signal, is_away) = (self.lanes[i].signal, self.lanes[i].outage.is_on());
            let was_away = std::mem::replace(&mut self.lanes[i].was_away, is_away);
            if is_away || self.is_ending {
                self.spool_under_way(signal, now);
            }
            if is_away || self.is_ending || self.pipeline.pool.is_half_full() {
                self.spool_waiting(signal, now);
            }
            if was_away && !is_away {
                self.spool.iter_mut().for_each(Store::look_for_others); // they had no collector either
            }
        }
    }

    /// Puts a copy of what is under way there, so that it outlives the process.
    fn spool_under_way(&mut self, signal: Signal, now: Instant) {
        let is_wanted = |sending: &Sending| sending.signal == signal && sending.place.is_none();
        let sendings = self.under_way.iter().filter(|(_, sending)| is_wanted(sending));
        let mut numbers: Vec<(u64, Id)> = sendings.filter_map(|(id, sending)| Some((sending.number?, *id))).collect();
        numbers.sort_unstable_by_key(|(number, _)| *number);
        for (number, id) in numbers {
            let Some(Sending { records, body, .. }) = self.under_way.get(&id) else { continue };
            let entry = Entry { signal, records: *records, number, body: body.clone() };
            let Some(place) = self.write(&entry, now) else { return };
            self.under_way.entry(id).and_modify(|sending| {
                sending.place = Some(place);
                sending.origin.set_needed(false); // once on disk is enough
            });
        }
    }

    pub(super) fn spool_waiting(&mut self, signal: Signal, now: Instant) {
        let pipeline = Arc::clone(&self.pipeline);
        let lane = pipeline.lane(signal);
        while let Some(request) = lane.pop_request() {
            let MemoryRequest { number, records, body, .. } = &request;
            let entry = Entry { signal, records: *records, number: *number, body: body.clone() };
            let Some(place) = self.write(&entry, now) else { return lane.unpop_request(request) };
            self.spooled[signal as usize].push(Some(*number), *records, place);
            lane.unqueue(*records);
            pipeline.pool.refund(body.len());
        }
    }

    /// Writes a request, if need be in the place of older ones; `None` where there is no room for it.
    fn write(&mut self, entry: &Entry, now: Instant) -> Option<Place> {
        loop {
            match self.spool.as_mut()?.append(entry, now) {
                Ok(place) => {
                    self.pipeline.lane(entry.signal).counters.add_spooled(entry.records);
                    return Some(place);
                }
                Err(NoRoom::DropOldest) => self.drop_oldest_file(now)?,
                Err(NoRoom::Full | NoRoom::Disk) => return None,
            }
        }
    }

    fn drop_oldest_file(&mut self, now: Instant) -> Option<()> {
        let place = match self.spool.as_mut()?.oldest() {
            Oldest::Nothing => return None,
            Oldest::Unopened => {
                self.take_over_next(); // and drop it in the next round
                return Some(());
            }
            Oldest::Beside(place) => place,
        };
        let is_there = |other: &Place| other.is_beside(place);
        for sending in self.under_way.values_mut().filter(|sending| sending.place.as_ref().is_some_and(is_there)) {
            sending.origin.set_needed(true); // before the file is gone
        }
        for found in self.spool.as_mut()?.drop_file(place, now)? {
            let counters = &self.pipeline.lane(found.signal).counters;
            counters.add_taken_over(found.records);
            counters.add_taken_over_end(End::SpoolFull, found.records);
        }
        for signal in Signal::ALL {
            for spooled in self.spooled[signal as usize].drop_file(place) {
                self.settle(signal, spooled.number, Some(place), &[(End::SpoolFull, spooled.records)]);
            }
        }
        for sending in self.under_way.values_mut() {
            // It goes on, with its copy in memory.
            if let Some(place) = sending.place.take_if(|other| other.is_beside(place))
                && !place.is_taken_over()
            {
                self.pipeline.lane(sending.signal).counters.remove_spooled(sending.records);
            }
        }
        Some(())
    }

    /// Takes note of what is in the next file that another process left; false when there is none any more.
    pub(super) fn take_over_next(&mut self) -> bool {
        let is_ours = |signal| self.lanes.iter().any(|lane| lane.signal == signal);
        let Some(found) = self.spool.as_mut().and_then(|spool| spool.adopt_next(is_ours)) else { return false };
        for signal in Signal::ALL {
            let found = found.iter().filter(|found| found.signal == signal);
            self.pipeline.lane(signal).counters.add_taken_over(found.clone().map(|found| found.records).sum());
            self.spooled[signal as usize].take_over(found.map(|found| (found.records, found.place)));
        }
        true
    }

    /// Takes the next request of a signal to memory: what others have left goes first.
    pub(super) fn next_to_send(&mut self, signal: Signal) -> Option<Sending> {
        while !self.spooled[signal as usize].has_taken_over() && self.take_over_next() {}
        while let Some(Spooled { number, records, place }) = self.spooled[signal as usize].pop() {
            if let Some(body) = self.spool.as_mut()?.read(place) {
                self.pipeline.pool.charge(body.len());
                let (place, origin) = (Some(place), Origin::default());
                return Some(Sending {
                    signal,
                    number,
                    records,
                    body,
                    place,
                    origin,
                    is_queued: false,
                    deadline: None,
                });
            }
            self.settle(signal, number, Some(place), &[(End::SpoolDamaged, records)]);
        }
        let MemoryRequest { number, records, body, origin, deadline } = self.pipeline.lane(signal).pop_request()?;
        Some(Sending { signal, number: Some(number), records, body, place: None, origin, is_queued: true, deadline })
    }

    /// Has no more chunks begun in the mapped file while a thread has been held up there for long: from one look at it to another, since nobody looks while
    /// the collector is slow.
    pub(super) fn pause_mapping(&self) {
        let Some(arena) = &self.pipeline.pool.arena else { return };
        let held_up = |lane: &LaneExporter| lane.last_collection.zip(lane.held_up_since);
        let mut held_up = self.lanes.iter().filter_map(held_up);
        arena.pause(held_up.any(|(last, since)| last.saturating_duration_since(since) >= DISK_HANGS_AFTER));
    }

    /// Ends the mapped file, or leaves it to the next process where something is there alone: that counts as spooled. What a thread has that is held up is
    /// known to be left, but not how much it is. Nothing is left where earlier processes have left so much already that the spool is beyond its cap.
    pub(super) fn end_mapped(&self) {
        let Some(arena) = &self.pipeline.pool.arena else { return };
        if !self.spool.as_ref().is_some_and(Store::is_within_cap) {
            return arena.end();
        }
        let is_there_alone = |sending: &&Sending| sending.place.is_none() && sending.origin.is_mapped();
        let mut is_left = self.is_held_up();
        for signal in [Signal::Logs, Signal::Traces] {
            let under_way = self.under_way.values().filter(|sending| sending.signal == signal).filter(is_there_alone);
            let lane = self.pipeline.lane(signal);
            let left = under_way.map(|sending| sending.records).sum::<u64>() + lane.mapped_records();
            lane.counters.add_spooled(left);
            is_left |= left > 0;
        }
        if is_left { arena.leave() } else { arena.end() }
    }

    /// Whether what is left of each signal is on disk, and nobody was found there for it since the shutdown began.
    pub(super) fn is_left_to_others(&self, ending: &Ending) -> bool {
        self.spool.is_some() && self.lanes.iter().all(|lane| self.is_idle(lane) || self.is_lane_left(lane, ending))
    }

    fn is_lane_left(&self, lane: &LaneExporter, ending: &Ending) -> bool {
        let is_away = lane.outage.is_on() && lane.outage.in_vain() > ending.in_vain[lane.signal as usize];
        let mut under_way = self.under_way.values().filter(|sending| sending.signal == lane.signal);
        is_away && !self.pipeline.lane(lane.signal).has_requests() && under_way.all(|sending| sending.place.is_some())
    }
}
