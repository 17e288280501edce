//! What services say that they have lost: the SDK tells its losses in log records of the scope `watchbell`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use watchbell_proto::otlp::common::{AnyValue, KeyValues};
use watchbell_proto::otlp::logs::LogsRequest;

use super::skew::Services;

/// Records that an SDK could not deliver, by service, signal and reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    records: Family<Vec<(String, String)>, Counter>,
    services: Services,
}

impl Losses {
    /// Registers the counter.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let losses = Self::default();
        let help = "Records that a service's SDK says it lost before they came here, by service, signal and reason";
        registry.register("sdk_lost_records", help, losses.records.clone());
        losses
    }

    /// Counts what a batch of log records tells; only those of the SDK's own scope are looked at.
    pub(super) fn count(&mut self, batch: &[u8]) {
        for resource_logs in LogsRequest::new(batch).resource_logs() {
            for scope_logs in resource_logs.scope_logs().filter(|scope_logs| scope_logs.scope().name() == "watchbell") {
                let service = resource_logs.resource().attributes().get("service.name");
                let service = service.as_ref().and_then(AnyValue::as_str).unwrap_or("unknown_service");
                scope_logs.log_records().for_each(|record| self.count_record(service, &record.attributes()));
            }
        }
    }

    fn count_record(&mut self, service: &str, attributes: &KeyValues<'_>) {
        let Some(AnyValue::Int(records @ 1..)) = attributes.clone().get("lost.records") else { return };
        let known = |key, known: &[&'static str]| {
            let value = attributes.clone().get(key);
            known
                .iter()
                .copied()
                .find(|known| value.as_ref().and_then(AnyValue::as_str) == Some(known))
                .unwrap_or("other")
        };
        let (service, _) = self.services.name(service);
        let labels = [
            ("service_name", service),
            ("signal", known("lost.signal", &SIGNALS)),
            ("reason", known("lost.reason", &REASONS)),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        self.records.get_or_create(&labels).inc_by(records as u64);
    }
}

/// What is counted apart, so that a client's words make no series.
const SIGNALS: [&str; 3] = ["logs", "traces", "metrics"];
const REASONS: [&str; 5] = ["buffer_full", "spool_full", "spool_damaged", "refused", "export_timeout"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::skew::{OTHER, SERVICES_MAX};
    use watchbell_proto::otlp::encode;

    /// A batch with one record of this scope.
    fn batch(service: &str, scope: &str, attributes: &[(&str, AnyValue<'_>)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode::put_resource_logs(&mut out, &encode::resource([("service.name", AnyValue::String(service))]), |out| {
            encode::put_scope_logs(out, &encode::scope(scope, ""), |out| {
                encode::put_log_record(out, |record| {
                    attributes.iter().for_each(|(key, value)| record.attribute(key, value));
                });
            });
        });
        out
    }

    fn counted(losses: &Losses) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register("lost", "", losses.records.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        series.sort();
        series
    }

    #[test]
    fn losses_are_counted_by_service_signal_and_reason() {
        let mut losses = Losses::default();
        let lost = |records, signal, reason| {
            [
                ("lost.records", AnyValue::Int(records)),
                ("lost.signal", AnyValue::String(signal)),
                ("lost.reason", AnyValue::String(reason)),
            ]
        };
        losses.count(&batch("checkout", "watchbell", &lost(17, "logs", "buffer_full")));
        losses.count(&batch("checkout", "watchbell", &lost(3, "logs", "buffer_full")));
        losses.count(&batch("shop", "watchbell", &lost(1, "smoke", "signals")));
        losses.count(&batch("shop", "another", &lost(1, "logs", "buffer_full")));
        losses.count(&batch("shop", "watchbell", &lost(-1, "logs", "buffer_full")));
        losses.count(&batch("shop", "watchbell", &[]));
        losses.count(b"no batch");
        assert_eq!(
            counted(&losses),
            [
                r#"lost_total{service_name="checkout",signal="logs",reason="buffer_full"} 20"#,
                r#"lost_total{service_name="shop",signal="other",reason="other"} 1"#,
            ]
        );
    }

    #[test]
    fn services_beyond_the_limit_are_counted_together() {
        let mut losses = Losses::default();
        for n in 0..SERVICES_MAX + 5 {
            losses.count(&batch(&format!("s{n}"), "watchbell", &[("lost.records", AnyValue::Int(2))]));
        }
        let counted = counted(&losses);
        assert_eq!(counted.len(), SERVICES_MAX + 1);
        assert!(counted.contains(&format!(r#"lost_total{{service_name="{OTHER}",signal="other",reason="other"}} 10"#)));
    }
}
