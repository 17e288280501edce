//! Services whose clocks are wrong: their records are stamped later than they were received, or very long before.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use watchbell_rules::matcher::Matched;

/// Records that were not judged by their own stamps.
#[derive(Clone, Debug, Default)]
pub(super) struct Skew {
    /// Stamped more than `max_skew` after they were received.
    skewed: Clamped,
    /// Stamped more than `max_age` before.
    ancient: Clamped,
}

/// Records counted by service.
#[derive(Clone, Debug, Default)]
struct Clamped {
    records: Family<Vec<(String, String)>, Counter>,
    services: Services,
}

impl Skew {
    /// Registers the counters.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let skew = Self::default();
        let help = "Log records stamped more than max_skew after they were received, by service";
        registry.register("skewed_records", help, skew.skewed.records.clone());
        let help =
            "Log records stamped more than max_age before they were received, and judged by another time, by service";
        registry.register("ancient_records", help, skew.ancient.records.clone());
        skew
    }

    /// Counts a batch's; a service is named in the log once for each.
    pub(super) fn count(&mut self, matched: &Matched) {
        self.skewed.count(&matched.skewed, |service| {
            tracing::warn!(service, "its clock is ahead: records are judged at the time they were received");
        });
        self.ancient.count(&matched.ancient, |service| {
            tracing::warn!(
                service,
                "it sends records that are older than `engine.max_age`: they are judged at the time they were observed, else received"
            );
        });
    }
}

impl Clamped {
    fn count(&mut self, records: &BTreeMap<String, u64>, tell: impl Fn(&str)) {
        for (service, records) in records {
            let (service, is_new) = self.services.name(service);
            if is_new {
                tell(service);
            }
            self.records.get_or_create(&vec![("service_name".to_owned(), service.to_owned())]).inc_by(*records);
        }
    }
}

/// The services that a metric counts apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Services(BTreeSet<String>);

impl Services {
    /// Under which name a service is counted, and whether that name is new.
    pub(super) fn name<'s>(&mut self, service: &'s str) -> (&'s str, bool) {
        if self.0.contains(service) {
            return (service, false);
        }
        let name = if self.0.len() < SERVICES_MAX { service } else { OTHER };
        (name, self.0.insert(name.to_owned()))
    }
}

/// Services that are counted apart; further ones are counted together as [`OTHER`].
pub(super) const SERVICES_MAX: usize = 100;
pub(super) const OTHER: &str = "__overflow__";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_beyond_the_limit_are_counted_together() {
        let mut skew = Skew::default();
        let records: BTreeMap<_, _> = (0..SERVICES_MAX as u64 + 5).map(|n| (format!("s{n:03}"), n)).collect();
        let first = records.iter().take(2).map(|(service, n)| (service.clone(), *n)).collect();
        let mut matched = Matched::default();
        matched.skewed = records.clone();
        skew.count(&matched);
        (matched.skewed, matched.ancient) = (first, records);
        skew.count(&matched);
        let of = |clamped: &Clamped, service: &str| {
            clamped.records.get_or_create(&vec![("service_name".to_owned(), service.to_owned())]).get()
        };
        let others = 100 + 101 + 102 + 103 + 104;
        assert_eq!(["s001", "s099", OTHER].map(|service| of(&skew.skewed, service)), [2, 99, others]);
        assert_eq!(["s001", "s099", OTHER].map(|service| of(&skew.ancient, service)), [1, 99, others]);
    }
}
