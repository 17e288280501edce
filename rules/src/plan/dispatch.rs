//! Which selectors can match a resource, found by its labels: most selectors name a service, and most resources are of another.

use std::collections::BTreeMap;

use super::Selector;
use crate::otlp_labels::ResourceLabels;

/// Selectors by a label that they ask for.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    /// By the name and the value of a label that has to be equal.
    by_label: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    /// Those without such a label.
    rest: Vec<usize>,
}

impl Dispatch {
    pub(crate) fn new(selectors: &[Selector]) -> Self {
        let mut dispatch = Self::default();
        for (at, selector) in selectors.iter().enumerate() {
            let equal = selector.matchers.iter().find_map(|(name, matcher)| Some((name, matcher.only_text()?)));
            match equal.filter(|(_, value)| !value.is_empty()) {
                Some((name, value)) => {
                    dispatch.by_label.entry(name.clone()).or_default().entry(value.to_owned()).or_default().push(at);
                }
                None => dispatch.rest.push(at),
            }
        }
        dispatch
    }

    /// The filters of the selectors that match, in their order.
    pub(crate) fn filters(&self, selectors: &[Selector], labels: &ResourceLabels) -> Vec<u32> {
        let of_label =
            |(name, values): (&String, &BTreeMap<String, Vec<usize>>)| values.get(labels.index(name)?).cloned();
        let named = self.by_label.iter().filter_map(of_label).flatten();
        let matching = named.chain(self.rest.iter().copied()).filter(|at| selectors[*at].matches(labels));
        let mut filters: Vec<u32> = matching.flat_map(|at| selectors[at].filters.iter().copied()).collect();
        filters.sort_unstable();
        filters
    }
}
