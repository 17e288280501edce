//! The points of computed series, as an exporter gets them from one process after another.

use std::collections::BTreeMap;

use watchbell_rules::labels::Labels;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::Sample;

/// All series, and all that was ever said of them.
#[derive(Default)]
pub(super) struct AllSeries {
    points: BTreeMap<Labels, BTreeMap<Timestamp, u64>>,
    /// The last point that the present process told of each.
    last: BTreeMap<Labels, Timestamp>,
}

impl AllSeries {
    /// Stamps only grow, unless the state was folded again: then the same points come again.
    pub(super) fn take(&mut self, sample: Sample) {
        let Sample { labels, time, value } = sample;
        let last = self.last.insert(labels.clone(), time);
        assert!(last.is_none_or(|last| last < time), "{labels} goes back from {last:?} to {time:?}");
        let points = self.points.entry(labels.clone()).or_default();
        let told = points.insert(time, value.to_bits());
        assert!(told.is_none_or(|bits| bits == value.to_bits()), "{labels} at {time:?} has become {value}");
    }

    /// The state is folded again, by this process or the next.
    pub(super) fn fold_again(&mut self) {
        self.last.clear();
    }

    /// Nothing fires any more and no record is in a window: every series has come to its end.
    pub(super) fn check_ended(&self, seed: u64) {
        for (labels, points) in &self.points {
            let last = points.values().next_back();
            assert_eq!(last, Some(&Sample::STALE_BITS), "seed {seed}: {labels} goes on for ever");
        }
    }

    /// How many points there are.
    pub(super) fn len(&self) -> u64 {
        self.points.values().map(|points| points.len() as u64).sum()
    }
}
