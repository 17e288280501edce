//! What one group's records add up to in the last minutes.
//!
//! A window holds cells, sorted by time: a record each while there are few, sums over a grain of time when there are many. Its
//! value at `t` is the sum over `(t - range, t]`.

mod cells;
mod samples;
mod sketch;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logql::ast::RangeOp;
use crate::plan::Formula;
use crate::query::over_time::{OverTime, Summary};
use crate::time::Timestamp;
use cells::Cells;

pub(crate) use samples::SampleWindow;
pub use samples::{WINDOW_SAMPLES_MAX, WINDOW_SAMPLES_MAX_OVER_BUDGET};

/// Greatest number of cells in a window. At the limit neighbours are merged into sums over a grain of `retention / 512` (the range, and
/// how far back it may still be asked for); a sum comes and leaves with its last record, so that an earlier one is counted for up to a
/// grain too long. None is counted too short at a whole second of the last 256 s: no sum reaches over one. A rule that is judged
/// further behind the clock than that (by a long `lateness` or `offset`) may find a record up to a grain too late.
pub const WINDOW_CELLS_MAX: usize = 1024;

/// By how much a window with an `offset` may have more cells, so that the grain is `range / 512` for it too: up to an `offset` of some 15 ranges.
/// Beyond, the grain grows with the `offset`: 11 s for `[5m] offset 1d`, 74 s for `[5m] offset 1w`.
pub const WINDOW_FINENESS_MAX: usize = 16;

/// The cells of a window that stands for a `detect:`, which looks back far and over many groups, and need not be so fine: a record counts for up to
/// `retention / 32` too long, and up to that too late for what is judged more than 16 s behind. As many times more with an `offset` as for others.
pub const WINDOW_CELLS_MAX_DETECT: usize = 64;

/// The same where all windows together have more cells than the engine's `window_cells_max`: the grain is then `retention / 64`, and
/// no sum reaches over a whole second of the last 32 s.
pub const WINDOW_CELLS_MAX_OVER_BUDGET: usize = 128;

/// Weight that fell at one time: a number of records, or their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// When; of several records, the last one's time.
    pub at: Timestamp,
    /// How much.
    pub weight: u64,
}

/// The cells of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    cells: Cells,
    sum: u64,
}

impl Window {
    /// Adds a cell at its place in time. [`compact`](Self::compact) is to follow, once what came together is in.
    pub fn insert(&mut self, cell: Cell) {
        self.sum += cell.weight;
        self.cells.insert(cell);
    }

    /// Merges cells where there are more than `cells_max`.
    pub fn compact(&mut self, retention: Duration, cells_max: usize) {
        if self.cells.len() > cells_max {
            self.cells.edit(|cells| compact(cells, retention, cells_max));
        }
    }

    /// Forgets what happened at or before `until`.
    pub fn evict(&mut self, until: Timestamp) {
        let sum = &mut self.sum;
        self.cells.evict(until, |cell| *sum -= cell.weight);
    }

    /// The sum over all cells: no value at any time is greater.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// When the last record in it happened.
    pub fn last(&self) -> Option<Timestamp> {
        self.cells.last()
    }

    /// How many cells it has.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `t`; `None` where no record is in `(t - range, t]`.
    pub fn value(&self, t: Timestamp, range: Duration) -> Option<u64> {
        match &self.cells {
            Cells::Packed(cells) => {
                let inside = cells.iter().filter(|cell| cell.at > t - range && cell.at <= t);
                inside.map(|cell| cell.weight).reduce(|a, b| a + b)
            }
            Cells::Many(_) => Sweep::new(self, t, range).value(),
        }
    }

    /// When after `t` others are in `(t - range, t]`; `None` where they never are.
    pub(crate) fn changes_after(&self, t: Timestamp, range: Duration) -> Option<Timestamp> {
        changes_after(&self.cells.all(), t, range)
    }
}

/// What fell at one time, or over a grain of time.
trait Mergeable {
    /// When; of several records, the last one's time.
    fn at(&self) -> Timestamp;

    /// Takes in what comes behind it; its time is that one's from then on.
    fn merge(&mut self, later: &Self);
}

impl Mergeable for Cell {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn merge(&mut self, later: &Self) {
        *self = Self { at: later.at, weight: self.weight + later.weight };
    }
}

/// Puts a cell behind those of its time.
fn insert<C: Mergeable>(cells: &mut VecDeque<C>, cell: C) {
    if cells.is_empty() {
        cells.reserve_exact(1); // not four: many groups have no more
    }
    match cells.back() {
        Some(last) if last.at() > cell.at() => {
            cells.insert(cells.partition_point(|other| other.at() <= cell.at()), cell);
        }
        _ => cells.push_back(cell),
    }
}

/// Merges neighbours where there are more than `cells_max`.
fn compact<C: Mergeable>(cells: &mut VecDeque<C>, retention: Duration, cells_max: usize) {
    let Some(last) = cells.back().filter(|_| cells.len() > cells_max) else { return };
    let grains = Grains::new(retention, cells_max, last.at());
    let mut merged: VecDeque<C> = VecDeque::with_capacity(cells_max);
    for cell in std::mem::take(cells) {
        match merged.back_mut() {
            Some(last) if grains.of(last.at()) == grains.of(cell.at()) => last.merge(&cell),
            _ => merged.push_back(cell),
        }
    }
    *cells = merged;
}

/// The times between which cells are merged: fine ones while these are new, coarse ones later.
struct Grains {
    nanos: i64,
    settled: Timestamp,
}

impl Grains {
    fn new(retention: Duration, cells_max: usize, last: Timestamp) -> Self {
        let nanos = (retention.as_nanos() as i64 / (cells_max as i64 / 2)).max(1);
        Self { nanos, settled: last - SECOND * (cells_max as u32 / 4) }
    }

    fn of(&self, at: Timestamp) -> (i64, i64) {
        if at > self.settled { bucket(at, self.nanos) } else { (i64::MIN, (at.0 - 1).div_euclid(self.nanos)) }
    }
}

/// Those in `(t - range, t]`.
fn inside<C: Mergeable>(cells: &VecDeque<C>, t: Timestamp, range: Duration) -> Range<usize> {
    let start = cells.partition_point(|cell| cell.at() <= t - range);
    start..cells.partition_point(|cell| cell.at() <= t).max(start)
}

/// When after `t` others are in `(t - range, t]`.
fn changes_after<C: Mergeable>(cells: &VecDeque<C>, t: Timestamp, range: Duration) -> Option<Timestamp> {
    let inside = inside(cells, t, range);
    let leaves = cells.get(inside.start).filter(|_| !inside.is_empty()).map(|cell| cell.at() + range);
    leaves.into_iter().chain(cells.get(inside.end).map(Mergeable::at)).min()
}

/// Forgets what happened at or before `until`, and gives back the memory of what were many once.
fn evict<C: Mergeable>(cells: &mut VecDeque<C>, until: Timestamp, mut forget: impl FnMut(&C)) {
    while let Some(cell) = cells.front().filter(|cell| cell.at() <= until) {
        forget(cell);
        cells.pop_front();
    }
    if cells.len() < cells.capacity() / 4 {
        cells.shrink_to(2 * cells.len());
    }
}

/// Times between which records may be merged, of no more than `grain` nanoseconds and within a second. The last instant of a whole
/// second is its own: a value at that time includes it.
pub(crate) fn bucket(at: Timestamp, grain: i64) -> (i64, i64) {
    let second = SECOND.as_nanos() as i64;
    let before = at.0 - 1;
    (before.div_euclid(second), before.rem_euclid(second) / grain)
}

const SECOND: Duration = Duration::from_secs(1);

/// A window as a term of a formula.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// What it counts in the range, by the divisor.
    Count { window: &'a Window, range: Duration, divisor: f64 },
    /// The largest sample in the range, or the smallest.
    Over { summaries: &'a VecDeque<Summary>, range: Duration, furthest: Furthest },
}

/// Which sample of a range is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Furthest {
    Largest,
    Smallest,
}

impl Furthest {
    /// What the function looks for, if it is one of the two.
    pub(crate) fn of(function: &OverTime) -> Option<Self> {
        match function.op {
            RangeOp::MaxOverTime => Some(Self::Largest),
            RangeOp::MinOverTime => Some(Self::Smallest),
            _ => None,
        }
    }

    fn value(self, samples: &Summary) -> f64 {
        match self {
            Self::Largest => samples.max,
            Self::Smallest => samples.min,
        }
    }

    fn is_further(self, value: f64, other: f64) -> bool {
        match self {
            Self::Largest => value > other,
            Self::Smallest => value < other,
        }
    }
}

/// A formula over the windows of one group.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) formula: &'a Formula,
}

impl Terms<'_> {
    /// The value at `t`; `None` where a term has none.
    pub(crate) fn value(&self, t: Timestamp) -> Option<f64> {
        self.sweep(t).value(self.formula)
    }

    /// The first time in `[from, to]` at which the value holds, and what it is then.
    pub(crate) fn first_holding(
        &self,
        from: Timestamp,
        to: Timestamp,
        holds: impl Fn(f64) -> bool,
    ) -> Option<(Timestamp, f64)> {
        let mut sweeps = self.sweep(from);
        let mut t = from;
        loop {
            if let Some(value) = sweeps.value(self.formula).filter(|value| holds(*value)) {
                return Some((t, value));
            }
            t = sweeps.next_in().filter(|at| *at <= to)?;
            sweeps.advance(t);
        }
    }

    /// The first time at or after `from` at which the value does not hold, if no further record comes.
    pub(crate) fn falls_at(&self, from: Timestamp, holds: impl Fn(f64) -> bool) -> Timestamp {
        let mut sweeps = self.sweep(from);
        let mut t = from;
        while sweeps.value(self.formula).is_some_and(&holds) {
            t = sweeps.next_out();
            sweeps.advance(t);
        }
        t
    }

    fn sweep(&self, t: Timestamp) -> Sweeps<'_> {
        Sweeps(self.parts.iter().map(|part| PartSweep::new(*part, t)).collect())
    }
}

/// Ranges that move together over their windows.
struct Sweeps<'a>(Vec<PartSweep<'a>>);

impl Sweeps<'_> {
    fn value(&self, formula: &Formula) -> Option<f64> {
        formula.value(&|term| self.0[term].value())
    }

    fn advance(&mut self, t: Timestamp) {
        self.0.iter_mut().for_each(|sweep| sweep.advance(t));
    }

    /// When the next record comes into a range.
    fn next_in(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(PartSweep::next_in).min()
    }

    /// When the next record leaves a range; each has one.
    fn next_out(&self) -> Timestamp {
        self.0.iter().filter_map(PartSweep::next_out).min().unwrap_or(Timestamp::MAX)
    }
}

/// A range that moves over the window of a part.
enum PartSweep<'a> {
    Count(Sweep<'a>, f64),
    Over(FurthestSweep<'a>),
}

impl<'a> PartSweep<'a> {
    fn new(part: Part<'a>, t: Timestamp) -> Self {
        match part {
            Part::Count { window, range, divisor } => Self::Count(Sweep::new(window, t, range), divisor),
            Part::Over { summaries, range, furthest } => Self::Over(FurthestSweep::new(summaries, range, furthest, t)),
        }
    }

    fn value(&self) -> Option<f64> {
        match self {
            Self::Count(sweep, divisor) => sweep.value().map(|sum| sum as f64 / divisor),
            Self::Over(sweep) => sweep.value(),
        }
    }

    fn advance(&mut self, to: Timestamp) {
        match self {
            Self::Count(sweep, _) => sweep.advance(to),
            Self::Over(sweep) => sweep.advance(to),
        }
    }

    fn next_in(&self) -> Option<Timestamp> {
        match self {
            Self::Count(sweep, _) => Some(sweep.cells.get(sweep.end)?.at),
            Self::Over(sweep) => Some(sweep.summaries.get(sweep.end)?.at()),
        }
    }

    fn next_out(&self) -> Option<Timestamp> {
        match self {
            Self::Count(sweep, _) => Some(sweep.cells.get(sweep.start)?.at + sweep.range),
            Self::Over(sweep) => Some(sweep.summaries.get(sweep.start)?.at() + sweep.range),
        }
    }
}

/// A range that moves over samples and knows the furthest of them: each comes and leaves once, however many there are.
struct FurthestSweep<'a> {
    summaries: &'a VecDeque<Summary>,
    range: Duration,
    furthest: Furthest,
    start: usize,
    end: usize,
    /// Those in the range behind which none is as far: the first is the furthest. What is no number is none of them.
    candidates: VecDeque<usize>,
}

impl<'a> FurthestSweep<'a> {
    fn new(summaries: &'a VecDeque<Summary>, range: Duration, furthest: Furthest, t: Timestamp) -> Self {
        let start = summaries.partition_point(|samples| samples.at() <= t - range);
        let mut sweep = Self { summaries, range, furthest, start, end: start, candidates: VecDeque::new() };
        sweep.advance(t);
        sweep
    }

    fn advance(&mut self, t: Timestamp) {
        let summaries = self.summaries;
        while let Some(samples) = summaries.get(self.end).filter(|samples| samples.at() <= t) {
            self.push(self.furthest.value(samples));
            self.end += 1;
        }
        let is_left = |at: usize| summaries[at].at() <= t - self.range;
        while self.start < self.end && is_left(self.start) {
            if self.candidates.front() == Some(&self.start) {
                self.candidates.pop_front();
            }
            self.start += 1;
        }
    }

    /// The value of the next one comes into the range.
    fn push(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let is_as_far = |at: &usize| !self.furthest.is_further(self.furthest.value(&self.summaries[*at]), value);
        while self.candidates.back().is_some_and(is_as_far) {
            self.candidates.pop_back();
        }
        self.candidates.push_back(self.end);
    }

    fn value(&self) -> Option<f64> {
        let furthest = self.candidates.front().map_or(f64::NAN, |at| self.furthest.value(&self.summaries[*at]));
        (self.start < self.end).then_some(furthest)
    }
}

/// A range that moves over the cells of a window.
struct Sweep<'a> {
    cells: Cow<'a, VecDeque<Cell>>,
    range: Duration,
    start: usize,
    end: usize,
    sum: u64,
}

impl<'a> Sweep<'a> {
    fn new(window: &'a Window, t: Timestamp, range: Duration) -> Self {
        let cells = window.cells.all();
        let start = cells.partition_point(|cell| cell.at <= t - range);
        let mut sweep = Self { cells, range, start, end: start, sum: 0 };
        sweep.advance(t);
        sweep
    }

    fn advance(&mut self, t: Timestamp) {
        let cells = &*self.cells;
        while let Some(cell) = cells.get(self.end).filter(|cell| cell.at <= t) {
            self.sum += cell.weight;
            self.end += 1;
        }
        while let Some(cell) = cells.get(self.start).filter(|cell| self.start < self.end && cell.at <= t - self.range) {
            self.sum -= cell.weight;
            self.start += 1;
        }
    }

    fn value(&self) -> Option<u64> {
        (self.start < self.end).then_some(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logql::ast::BinaryOp;
    use crate::query::over_time::Sample;
    use proptest::prelude::*;

    const RANGE: Duration = Duration::from_nanos(50);

    fn window(cells: &[(i64, u64)]) -> Window {
        let mut window = Window::default();
        for (at, weight) in cells {
            window.insert(Cell { at: Timestamp(*at), weight: *weight });
            window.compact(RANGE, WINDOW_CELLS_MAX);
        }
        window
    }

    fn naive(cells: &[(i64, u64)], t: i64) -> Option<u64> {
        let inside = cells.iter().filter(|(at, _)| *at > t - 50 && *at <= t);
        inside.map(|(_, weight)| *weight).reduce(|a, b| a + b)
    }

    proptest! {
        #[test]
        fn values_and_edges_are_what_looking_at_every_instant_finds(
            cells in prop::collection::vec((0..200i64, 0..4u64), 0..60), from in 0..200i64, bound in 0..12u64,
        ) {
            let window = window(&cells);
            for t in 0..260 {
                prop_assert_eq!(window.value(Timestamp(t), RANGE), naive(&cells, t));
            }
            let parts = vec![Part::Count { window: &window, range: RANGE, divisor: 1.0 }];
            let terms = Terms { parts, formula: &Formula::Term(0) };
            check_edges(&terms, from, bound, |t| naive(&cells, t).map(|value| value as f64))?;
        }

        #[test]
        fn a_sum_of_windows_is_judged_as_one(
            a in prop::collection::vec((0..200i64, 0..4u64), 0..30), b in prop::collection::vec((0..200i64, 0..4u64), 0..30),
            from in 0..200i64, bound in 0..20u64,
        ) {
            let (one, other) = (window(&a), window(&b));
            let part = |window| Part::Count { window, range: RANGE, divisor: 1.0 };
            let binary = |op, a, b| Formula::Binary(op, Box::new(a), Box::new(b));
            let twice = binary(BinaryOp::Mul, Formula::Number(2.0), Formula::Term(1));
            let formula = binary(BinaryOp::Add, Formula::Term(0), twice);
            let terms = Terms { parts: vec![part(&one), part(&other)], formula: &formula };
            check_edges(&terms, from, bound, |t| Some((naive(&a, t)? + 2 * naive(&b, t)?) as f64))?;
        }

        #[test]
        fn the_largest_sample_is_judged_as_counts_are(
            cells in prop::collection::vec((0..200i64, 0..12u64), 0..40), from in 0..200i64, bound in 0..12u64,
        ) {
            let mut window = SampleWindow::summaries();
            cells.iter().for_each(|(at, value)| window.insert(Sample { at: *at, value: *value as f64 }));
            let function = OverTime { op: RangeOp::MaxOverTime, parameter: 0.0, range: RANGE };
            let parts = vec![Part::Over {
                summaries: window.summed().unwrap(),
                range: RANGE,
                furthest: Furthest::of(&function).unwrap(),
            }];
            let terms = Terms { parts, formula: &Formula::Term(0) };
            let inside = |t: i64| cells.iter().filter(move |(at, _)| *at > t - 50 && *at <= t);
            check_edges(&terms, from, bound, |t| inside(t).map(|(_, value)| *value as f64).reduce(f64::max))?;
        }

        #[test]
        fn eviction_forgets_what_is_old_and_nothing_else(cells in prop::collection::vec((0..200i64, 0..4u64), 0..60), until in 0..200i64) {
            let mut window = window(&cells);
            window.evict(Timestamp(until));
            let kept: Vec<_> = cells.into_iter().filter(|(at, _)| *at > until).collect();
            prop_assert_eq!(window.sum(), kept.iter().map(|(_, weight)| weight).sum::<u64>());
            prop_assert_eq!(window.value(Timestamp(220), Duration::from_nanos(300)), naive_all(&kept));
        }
    }

    fn check_edges(
        terms: &Terms<'_>,
        from: i64,
        bound: u64,
        naive: impl Fn(i64) -> Option<f64>,
    ) -> Result<(), TestCaseError> {
        let is_over = |value: f64| value > bound as f64;
        let holds = |t: i64| naive(t).is_some_and(is_over);
        let first = (from..=200).find(|t| holds(*t)).map(|t| (Timestamp(t), naive(t).unwrap()));
        prop_assert_eq!(terms.first_holding(Timestamp(from), Timestamp(200), is_over), first);
        let falls = (from..400).find(|t| !holds(*t)).unwrap();
        prop_assert_eq!(terms.falls_at(Timestamp(from), is_over), Timestamp(falls));
        Ok(())
    }

    fn naive_all(cells: &[(i64, u64)]) -> Option<u64> {
        cells.iter().map(|(_, weight)| *weight).reduce(|a, b| a + b)
    }

    proptest! {
        #[test]
        fn merged_cells_count_too_long_and_never_too_short(
            times in prop::collection::vec(0..400_000i64, 1..3000), retention in 10..2000u64, over_budget: bool,
        ) {
            let cells_max = if over_budget { WINDOW_CELLS_MAX_OVER_BUDGET } else { WINDOW_CELLS_MAX };
            let (range, retention) = (Duration::from_secs(retention / 2), Duration::from_secs(retention));
            let millis = |at: i64| Timestamp(at * 1_000_000);
            let mut window = Window::default();
            let newest = times.iter().max().unwrap();
            for at in times.iter().filter(|at| millis(**at) > millis(*newest) - retention) {
                window.insert(Cell { at: millis(*at), weight: 1 });
                window.compact(retention, cells_max);
            }
            prop_assert!(window.cells.len() <= cells_max);
            let naive = |from: Timestamp, to: Timestamp| times.iter().filter(|at| millis(**at) > from && millis(**at) <= to).count();
            let exact = (cells_max as i64 / 4).min(range.as_secs() as i64) - 2;
            for t in (newest / 1000 - exact..newest / 1000 + 60).map(|second| millis(second * 1000)) {
                let value = window.value(t, range).unwrap_or(0) as usize;
                let grain = retention / (cells_max as u32 / 2);
                prop_assert!((naive(t - range, t)..=naive(t - range - grain, t)).contains(&value), "{value} at {t:?}");
            }
        }
    }

    #[test]
    fn many_records_become_sums_that_leave_at_most_a_grain_late() {
        let range = Duration::from_secs(60);
        let mut window = Window::default();
        let step = Duration::from_millis(1);
        let last = (0..60_000).fold(Timestamp(0), |t, _| {
            window.insert(Cell { at: t, weight: 1 });
            window.compact(range, WINDOW_CELLS_MAX);
            t + step
        });
        assert!(window.cells.len() <= WINDOW_CELLS_MAX);
        assert_eq!(window.sum(), 60_000);
        let half_gone = window.value(last + Duration::from_secs(30), range).unwrap();
        assert!((29_999..=29_999 + 60_000 / 512 + 1).contains(&half_gone), "{half_gone}");
    }
}
