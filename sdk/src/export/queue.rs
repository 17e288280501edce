//! Requests of one signal that wait for the collector, oldest first.

use std::collections::VecDeque;

use bytes::Bytes;

use super::request::Request;
use crate::spool::Place;

/// Those of other processes, then our own. Each is in memory or in the spool.
#[derive(Default)]
pub(super) struct Queue(VecDeque<Waiting>);

/// A request that is not under way.
pub(super) struct Waiting {
    /// The order in which this process made it; none if another process did.
    pub(super) number: Option<u64>,
    pub(super) records: u64,
    pub(super) body: Body,
}

pub(super) enum Body {
    Memory(Bytes),
    Spooled(Place),
}

impl Queue {
    pub(super) fn push(&mut self, number: u64, request: Request) {
        let Request { records, body } = request;
        self.0.push_back(Waiting { number: Some(number), records, body: Body::Memory(body) });
    }

    /// Puts what another process left behind what others have left, and before all of our own.
    pub(super) fn take_over(&mut self, found: impl Iterator<Item = (u64, Place)>) {
        let own = self.0.split_off(self.0.partition_point(|waiting| waiting.number.is_none()));
        self.0.extend(found.map(|(records, place)| Waiting { number: None, records, body: Body::Spooled(place) }));
        self.0.extend(own);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.0.pop_front()
    }

    /// Whether the next one is another process's.
    pub(super) fn has_taken_over(&self) -> bool {
        self.0.front().is_some_and(|waiting| waiting.number.is_none())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest in memory, if any: what is spooled is older than that.
    pub(super) fn first_in_memory(&self) -> Option<(u64, u64, &Bytes)> {
        match self.0.get(self.spooled())? {
            Waiting { number: Some(number), records, body: Body::Memory(body) } => Some((*number, *records, body)),
            _ => None,
        }
    }

    /// That one is in the spool from here on.
    pub(super) fn set_first_spooled(&mut self, place: Place) {
        let i = self.spooled();
        if let Some(waiting) = self.0.get_mut(i) {
            waiting.body = Body::Spooled(place);
        }
    }

    /// Takes out what is in one file of the spool.
    pub(super) fn drop_file(&mut self, place: Place) -> VecDeque<Waiting> {
        let is_there = |waiting: &Waiting| matches!(waiting.body, Body::Spooled(other) if other.is_beside(place));
        let (dropped, kept) = std::mem::take(&mut self.0).into_iter().partition(is_there);
        self.0 = kept;
        dropped
    }

    fn spooled(&self) -> usize {
        self.0.partition_point(|waiting| matches!(waiting.body, Body::Spooled(_)))
    }
}
