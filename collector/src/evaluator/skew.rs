//! Services whose clocks are ahead: their records are stamped later than they were received, and judged at their receive time.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Records stamped more than `max_skew` after they were received, by service.
#[derive(Clone, Debug, Default)]
pub(super) struct Skew {
    records: Family<Vec<(String, String)>, Counter>,
    services: Services,
}

impl Skew {
    /// Registers the counter.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let skew = Self::default();
        let help = "Log records stamped more than max_skew after they were received, by service";
        registry.register("skewed_records", help, skew.records.clone());
        skew
    }

    /// Counts a batch's; a service is named in the log once.
    pub(super) fn count(&mut self, skewed: &BTreeMap<String, u64>) {
        for (service, records) in skewed {
            let (service, is_new) = self.services.name(service);
            if is_new {
                tracing::warn!(service, "its clock is ahead: records are judged at the time they were received");
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
        let skewed: BTreeMap<_, _> = (0..SERVICES_MAX as u64 + 5).map(|n| (format!("s{n:03}"), n)).collect();
        skew.count(&skewed);
        skew.count(&skewed.into_iter().take(2).collect());
        let of =
            |service: &str| skew.records.get_or_create(&vec![("service_name".to_owned(), service.to_owned())]).get();
        assert_eq!((of("s001"), of("s099"), of(OTHER)), (2, 99, 100 + 101 + 102 + 103 + 104));
    }
}
