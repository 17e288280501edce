//! A real Alertmanager is told of our alerts, groups them, and hears when they resolve.

use serde_json::Value;

use crate::support::alertmanager::Alertmanager;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{otlp, until};

/// Fires until the service says that it has healed: nothing resolves before it was looked at. For half a minute it waits, since a service may have
/// said so before the collector was there.
const RULES: &str = "
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: ErrorBurst
        expr: |
          sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1h])) > 2
            unless sum by (service_name) (count_over_time({service_name=~`.+`} |= `healed` [30s])) > 0
        labels: {severity: page}
        annotations: {summary: '{{ $labels.service_name }}: {{ $value }} errors'}
";

#[test]
fn alerts_arrive_are_grouped_and_resolve() {
    let webhook = Webhook::start();
    let alertmanager = Alertmanager::start(&format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 2s, group_interval: 1s}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
        webhook.url()
    ));
    let watchbell = Watchbell::start(&alertmanager.feed(), RULES);
    for service in ["checkout", "payment"] {
        watchbell.send(&otlp::logs(service, (0..3).map(|n| otlp::error(&format!("refused {n}")))));
    }

    let alerts = alertmanager.wait_alerts(2);
    let checkout = alerts.iter().find(|alert| alert["labels"]["service_name"] == "checkout").unwrap();
    assert_eq!(checkout["labels"]["severity"], "page", "{checkout}");
    assert_eq!(checkout["annotations"]["summary"], "checkout: 3 errors", "{checkout}");
    let groups = alertmanager.groups();
    assert_eq!(groups.len(), 1, "one group of both services: {groups:?}");

    let page = webhook.wait("both in one page", |body| status_count(body, "firing") == 2);
    assert_eq!(page.body["groupLabels"]["alertname"], "ErrorBurst");

    for service in ["checkout", "payment"] {
        watchbell.send(&otlp::logs(service, [otlp::info("healed")]));
    }
    // Alertmanager may look at the group between the two: then each has a page of its own.
    for service in ["checkout", "payment"] {
        webhook.wait(&format!("{service} resolved"), |body| is_resolved(body, service));
    }
    until("Alertmanager has no alert", || alertmanager.alerts().is_empty().then_some(()));
}

fn status_count(body: &Value, status: &str) -> usize {
    body["alerts"].as_array().map_or(0, |alerts| alerts.iter().filter(|alert| alert["status"] == status).count())
}

fn is_resolved(body: &Value, service: &str) -> bool {
    body["alerts"].as_array().is_some_and(|alerts| {
        alerts.iter().any(|alert| alert["status"] == "resolved" && alert["labels"]["service_name"] == service)
    })
}
