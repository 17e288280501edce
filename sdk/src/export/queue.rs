//! Requests of one signal in the spool, oldest first.

use std::collections::VecDeque;

use crate::spool::Place;

/// Those of other processes, then our own, then those that have given way to others.
#[derive(Default)]
pub(super) struct Queue(VecDeque<Spooled>);

/// A request that is on disk and not under way.
pub(super) struct Spooled {
    /// The order in which this process made it; none if another process did.
    pub(super) number: Option<u64>,
    pub(super) records: u64,
    pub(super) place: Place,
}

impl Queue {
    pub(super) fn push(&mut self, number: Option<u64>, records: u64, place: Place) {
        self.0.push_back(Spooled { number, records, place });
    }

    /// Puts what another process left behind what others have left, and before all of our own.
    pub(super) fn take_over(&mut self, found: impl Iterator<Item = (u64, Place)>) {
        let first_own = self.0.iter().position(|spooled| spooled.number.is_some());
        let own = self.0.split_off(first_own.unwrap_or(self.0.len()));
        self.0.extend(found.map(|(records, place)| Spooled { number: None, records, place }));
        self.0.extend(own);
    }

    pub(super) fn pop(&mut self) -> Option<Spooled> {
        self.0.pop_front()
    }

    /// Whether the next one is another process's.
    pub(super) fn has_taken_over(&self) -> bool {
        self.0.front().is_some_and(|spooled| spooled.number.is_none())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out what is in one file.
    pub(super) fn drop_file(&mut self, place: Place) -> VecDeque<Spooled> {
        let (dropped, kept) =
            std::mem::take(&mut self.0).into_iter().partition(|spooled| spooled.place.is_beside(place));
        self.0 = kept;
        dropped
    }
}
