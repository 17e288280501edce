//! A new rule for which more of the log is to be read than is read at once: it is filled aside, and then knows the past to the record.

use serde_json::Value;

use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{http, otlp, until};

const RULES: &str = "
groups:
  - name: checkout
    rules:
      - alert: Refused
        expr: sum(count_over_time({service_name=`checkout`} |= `refused` [1h])) > 0
";

const LATER: &str = "
      - alert: Many
        expr: sum(count_over_time({service_name=~`.+`} |= `order` [7d])) > 0
      - alert: Silent
        expr: absent_over_time({service_name=`heart`} [7d])
";

const BATCHES: usize = 10;
const RECORDS: usize = 64;

#[test]
fn a_rule_that_looks_far_back_is_filled_aside_and_counts_every_record() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), RULES);
    let body = format!("order {}", "x".repeat(16 << 10));
    for _ in 0..BATCHES {
        watchbell.send(&otlp::logs("shop", (0..RECORDS).map(|_| otlp::info(&body))));
    }
    std::fs::write(watchbell.server.path().join("rules.yaml"), format!("{RULES}{LATER}")).unwrap();
    assert!(http::post(&watchbell.api_url("/-/reload"), "text/plain", "").unwrap().status.is_success());
    watchbell.send(&otlp::logs("checkout", [otlp::error("payment refused, order 4711")]));
    webhook.wait_alert("Refused", "firing");
    let many = watchbell.wait_alert("Many", "firing");
    assert_eq!(many["value"].as_str().unwrap().parse::<f64>().unwrap(), (BATCHES * RECORDS + 1) as f64, "{many}");
    assert!(watchbell.server.log().contains("are filled from the log"), "{}", watchbell.server.log());
    let rules = http::get_json(&watchbell.api_url("/api/v1/rules"));
    let rule = |name: &str| -> Value {
        let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["name"] == name).cloned().unwrap()
    };
    assert!(rule("Many")["filled"].is_null() && rule("Many")["partialUntil"].is_string(), "{rules}");
    assert!(rule("Silent")["warmingUntil"].is_string(), "the log does not reach back a week: {rules}");
    until("the metrics", || {
        let filling = watchbell.metric("watchbell_evaluator_rules_filling", &[])?;
        (filling == 0.0 && watchbell.metric("watchbell_evaluator_fill_ratio", &[])? == 1.0).then_some(())
    });
}
