//! Two kinds of records with one key: which of the second came in time behind one of the first, or which of the first saw none come.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::window::{Cell, Window};

/// Greatest number of times of one key that wait for the other kind. At the limit first ones of which it is to be told that no
/// second came wait together where they lie nearest to one another, for as long as the later one; of the others the oldest is forgotten,
/// which makes no difference while records come in order.
pub const SEQUENCE_TIMES_MAX: usize = 64;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wanted {
    /// A second record, at most so long behind a first.
    Then,
    /// A first record with no second one so long.
    Without,
}

/// The records of one key, and what they have come to. In which order they come makes no difference while none is later than what is
/// [forgotten](Self::forget).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// What was found: a second record at its time, a first without one at the end of its patience.
    pub(crate) found: Window,
    wanted: Wanted,
    within: Duration,
    /// The first ones that wait, sorted by time.
    firsts: VecDeque<Cell>,
    /// The second ones that a first may yet come before, sorted by time.
    seconds: VecDeque<Cell>,
}

impl Sequence {
    pub(crate) fn new(wanted: Wanted, within: Duration) -> Self {
        let (firsts, seconds) = (VecDeque::new(), VecDeque::new());
        Self { found: Window::default(), wanted, within, firsts, seconds }
    }

    /// Takes in records of the first kind; yields the seconds that they come before.
    pub(crate) fn handle_first(&mut self, first: Cell) -> Vec<Cell> {
        let end = first.at + self.within;
        let is_behind = |second: &Cell| second.at >= first.at && second.at <= end;
        if self.wanted == Wanted::Without {
            if !self.seconds.iter().any(is_behind) {
                put(&mut self.firsts, first);
                join_nearest(&mut self.firsts);
            }
            return Vec::new();
        }
        put(&mut self.firsts, first);
        drop_oldest(&mut self.firsts);
        let found = self.seconds.iter().copied().filter(is_behind).collect();
        self.seconds.retain(|second| !is_behind(second));
        found
    }

    /// Takes in records of the second kind; yields them if a first is before them.
    pub(crate) fn handle_second(&mut self, second: Cell) -> Vec<Cell> {
        let start = second.at - self.within;
        let is_before = |first: &Cell| first.at >= start && first.at <= second.at;
        match self.wanted {
            Wanted::Then if self.firsts.iter().any(is_before) => return vec![second],
            Wanted::Then => {}
            Wanted::Without => self.firsts.retain(|first| !is_before(first)),
        }
        put(&mut self.seconds, second);
        drop_oldest(&mut self.seconds);
        Vec::new()
    }

    /// No record up to `passed` comes any more; yields the firsts that have waited in vain.
    pub(crate) fn handle_passed(&mut self, passed: Timestamp) -> Vec<Cell> {
        let mut found = Vec::new();
        while let Some(first) = self.firsts.front().filter(|first| first.at + self.within <= passed) {
            found.push(Cell { at: first.at + self.within, weight: first.weight });
            self.firsts.pop_front();
        }
        found
    }

    /// When a first will have waited in vain.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let first = self.firsts.front().filter(|_| self.wanted == Wanted::Without)?;
        Some(first.at + self.within)
    }

    /// The first records that wait for a second one, or that one may still follow.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = Timestamp> {
        self.firsts.iter().map(|first| first.at)
    }

    /// Whether a record of that time waits, or may be behind what was found.
    pub(crate) fn is_behind(&self, at: Timestamp) -> bool {
        let mut waiting = self.firsts.iter().chain(&self.seconds);
        waiting.any(|cell| cell.at == at)
            || self.found.value(at + self.within, self.within + Duration::from_nanos(1)).is_some()
    }

    /// Forgets what no record from `since` on, of either kind, can be of interest to, and what was found up to `found_until`.
    pub(crate) fn forget(&mut self, since: Timestamp, found_until: Timestamp) {
        self.found.evict(found_until);
        if self.wanted == Wanted::Then {
            drop_before(&mut self.firsts, since - self.within);
        }
        drop_before(&mut self.seconds, since);
    }

    /// Up to when there is something to remember.
    pub(crate) fn last(&self) -> Option<Timestamp> {
        let first = self.firsts.back().map(|first| first.at + self.within);
        let second = self.seconds.back().map(|second| second.at);
        first.into_iter().chain(second).chain(self.found.last()).max()
    }

    /// How many cells it has.
    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.firsts.len() + self.seconds.len()
    }
}

fn put(cells: &mut VecDeque<Cell>, cell: Cell) {
    let at = cells.partition_point(|other| other.at < cell.at);
    match cells.get_mut(at) {
        Some(other) if other.at == cell.at => other.weight += cell.weight,
        _ => cells.insert(at, cell),
    }
}

fn drop_oldest(cells: &mut VecDeque<Cell>) {
    if cells.len() > SEQUENCE_TIMES_MAX {
        cells.pop_front();
    }
}

/// Leaves out the one whose neighbours are nearest to one another; the first and the last keep their times.
fn join_nearest(cells: &mut VecDeque<Cell>) {
    let distance = |at: &usize| cells[at + 1].at.since(cells[at - 1].at);
    let nearest = (1..cells.len().saturating_sub(1)).min_by_key(distance);
    if let Some(at) = nearest.filter(|_| cells.len() > SEQUENCE_TIMES_MAX) {
        cells[at + 1].weight += cells[at].weight;
        cells.remove(at);
    }
}

fn drop_before(cells: &mut VecDeque<Cell>, since: Timestamp) {
    while cells.front().is_some_and(|cell| cell.at < since) {
        cells.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const WITHIN: i64 = 5;

    /// What the sorted records come to, each pair looked at.
    fn naive(records: &[(i64, bool)], wanted: Wanted) -> Vec<i64> {
        let of = |kind| records.iter().filter(move |(_, is_first)| *is_first == kind).map(|(at, _)| *at);
        let mut found: Vec<i64> = match wanted {
            Wanted::Then => of(false).filter(|b| of(true).any(|a| a <= *b && *b <= a + WITHIN)).collect(),
            Wanted::Without => {
                of(true).filter(|a| !of(false).any(|b| *a <= b && b <= a + WITHIN)).map(|a| a + WITHIN).collect()
            }
        };
        found.sort_unstable();
        found
    }

    fn found(records: &[(i64, bool)], wanted: Wanted, lateness: i64) -> Vec<i64> {
        let mut sequence = Sequence::new(wanted, Duration::from_nanos(WITHIN as u64));
        let (mut found, mut clock) = (Vec::new(), i64::MIN / 2);
        for (at, is_first) in records {
            clock = clock.max(*at);
            let passed = Timestamp(clock - lateness);
            found.extend(sequence.handle_passed_if(wanted, passed));
            sequence.forget(passed, Timestamp::MIN);
            let cell = Cell { at: Timestamp(*at), weight: 1 };
            found.extend(if *is_first { sequence.handle_first(cell) } else { sequence.handle_second(cell) });
        }
        found.extend(sequence.handle_passed_if(wanted, Timestamp(i64::MAX)));
        let each = found.into_iter().flat_map(|cell| (0..cell.weight).map(move |_| cell.at.0));
        let mut each: Vec<i64> = each.collect();
        each.sort_unstable();
        each
    }

    impl Sequence {
        fn handle_passed_if(&mut self, wanted: Wanted, passed: Timestamp) -> Vec<Cell> {
            if wanted == Wanted::Without { self.handle_passed(passed) } else { Vec::new() }
        }
    }

    proptest! {
        /// Records that come late, by no more than is waited for, are found as if they had come in order.
        #[test]
        fn what_is_found_is_what_looking_at_each_pair_finds(
            steps in vec((0..4i64, 0..8i64, any::<bool>()), 0..40),
            wanted in prop::sample::select(vec![Wanted::Then, Wanted::Without]),
        ) {
            let mut clock = 0;
            let late = |(step, late, is_first): (i64, i64, bool)| {
                clock += step;
                (clock - late, is_first)
            };
            let records: Vec<_> = steps.into_iter().map(late).collect();
            prop_assert_eq!(found(&records, wanted, 8), naive(&records, wanted));
        }
    }

    #[test]
    fn none_that_waits_is_lost_at_the_limit() {
        let within = 3 * SEQUENCE_TIMES_MAX as i64;
        let mut sequence = Sequence::new(Wanted::Without, Duration::from_nanos(within as u64));
        let mut found = Vec::new();
        for at in 0..10 * within {
            sequence.handle_first(Cell { at: Timestamp(at), weight: 1 });
            found.extend(sequence.handle_passed(Timestamp(at)));
        }
        assert_eq!(found[0], Cell { at: Timestamp(within), weight: 1 }, "the oldest keeps its time");
        found.extend(sequence.handle_passed(Timestamp::MAX));
        let farthest = found.windows(2).map(|two| two[1].at.0 - two[0].at.0).max();
        assert!(farthest <= Some(within / 16), "something is told of all the time: {farthest:?}");
        assert_eq!(found.iter().map(|cell| cell.weight).sum::<u64>(), 10 * within as u64);
    }

    #[test]
    fn a_second_one_needs_but_the_latest_of_many_firsts() {
        let many = SEQUENCE_TIMES_MAX as i64 + 3;
        let records: Vec<_> = (0..many).map(|at| (at, true)).chain([(many, false)]).collect();
        assert_eq!(found(&records, Wanted::Then, many), [many]);
    }
}
