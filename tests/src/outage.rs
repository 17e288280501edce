//! A collector that was away for longer than the windows of its rules: what it did not hear is no silence.

use std::time::Duration;

use serde_json::Value;
use watchbell_rules::query::parameters;
use watchbell_rules::time::Timestamp;

use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{http, otlp, until};

const WINDOW: Duration = Duration::from_secs(12);
/// Longer than the window.
const AWAY: Duration = Duration::from_secs(14);

const RULES: &str = "
groups:
  - name: outage
    interval: 1s
    rules:
      - alert: Silent
        expr: absent_over_time({service_name=`heart`} [12s])
      - alert: Quiet
        detect: {flatline: {where: '{service_name=~`shop|cart`}', window: 12s, forget_after: 1h}}
      - alert: Burst
        expr: sum by (service_name) (count_over_time({service_name=`shop`} |= `boom` [12s])) > 2
";

#[test]
fn after_an_outage_silence_pages_when_a_whole_window_of_it_was_heard_and_what_fires_is_held() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), RULES);
    beat(&watchbell, &["heart", "shop", "cart"]);
    watchbell.send(&otlp::logs("shop", (0..3).map(|n| otlp::error(&format!("boom {n}")))));
    webhook.wait_alert("Burst", "firing");
    let ports = watchbell.ports();
    let dir = watchbell.server.kill();
    std::thread::sleep(AWAY);

    let watchbell = Watchbell::start_in(dir, ports);
    let back = until("the gap in the metrics", || {
        let seconds = watchbell.metric("watchbell_evaluator_last_gap_end_timestamp_seconds", &[])?;
        (seconds > 0.0).then_some(Timestamp((seconds * 1e9) as i64))
    });
    assert!(watchbell.metric("watchbell_evaluator_last_gap_seconds", &[]) > Some(WINDOW.as_secs_f64()));
    assert!(watchbell.server.log().contains("nobody listened"), "{}", watchbell.server.log());
    until("the rules that wait", || {
        beat(&watchbell, &["cart"]);
        let rules = http::get(&watchbell.api_url("/api/v1/rules"))?.json();
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        let waiting = rules.iter().filter(|rule| !rule["warmingUntil"].is_null());
        let waiting: Vec<&str> = waiting.filter_map(|rule| rule["name"].as_str()).collect();
        (waiting == ["Silent", "Quiet"]).then_some(())
    });

    for (alert, status, time) in
        [("Silent", "firing", "startsAt"), ("Quiet", "firing", "startsAt"), ("Burst", "resolved", "endsAt")]
    {
        let told = until(&format!("{alert} is {status}"), || {
            beat(&watchbell, &["cart"]);
            alerts(&webhook).into_iter().find(|told| told["labels"]["alertname"] == alert && told["status"] == status)
        });
        let at = parameters::time(told[time].as_str().unwrap()).unwrap();
        // The metric is a number of seconds, with some digits behind the point.
        assert!(at > back + WINDOW - Duration::from_millis(1), "back since {back}: {told}");
    }
    let told = alerts(&webhook);
    let cart = told.iter().find(|told| told["labels"]["service_name"] == "cart");
    assert_eq!(cart, None, "it was heard all the time");
}

fn beat(watchbell: &Watchbell, services: &[&str]) {
    services.iter().for_each(|service| watchbell.send(&otlp::logs(service, [otlp::info("up")])));
}

fn alerts(webhook: &Webhook) -> Vec<Value> {
    let pages = webhook.deliveries();
    pages.iter().flat_map(|page| page.body["alerts"].as_array().cloned().unwrap_or_default()).collect()
}
