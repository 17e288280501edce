//! A Python service with the standard `logging` module pages: the example that users copy, run as it is.

use std::process::Command;

use crate::support::otlp;
use crate::support::peer::folder;
use crate::support::root;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;

const RULES: &str = "
groups:
  - name: checkout
    rules:
      - alert: PaymentRefused
        expr: sum by (service_name) (count_over_time({service_name=`checkout`} |= `payment refused` [1m])) >= 3
        annotations: {summary: '{{ $value }} payments refused'}
";

#[test]
fn standard_logging_pages() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), RULES);
    let output = Command::new(folder("python-client").join("venv/bin/python"))
        .arg(root().join("examples/python/checkout.py"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", watchbell.grpc))
        .env("OTEL_SERVICE_NAME", "checkout")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let page = webhook.wait_alert("PaymentRefused", "firing").body;
    let alert = &page["alerts"][0];
    assert_eq!(alert["annotations"]["summary"], "3 payments refused", "{page}");
    let text = page.to_string();
    for evidence in ["payment refused for order 3", "ValueError: card expired"] {
        assert!(text.contains(evidence), "no `{evidence}` in {page}");
    }
    assert!(!text.contains(otlp::TRACE_ID), "the trace is the service's own");
}

#[test]
fn node_example_pages() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), RULES);
    // The example's imports are looked up from where it lies.
    let dir = tempfile::tempdir_in(folder("node-client")).unwrap();
    let example = dir.path().join("checkout.mjs");
    std::fs::copy(root().join("examples/node/checkout.mjs"), &example).unwrap();
    let output = Command::new("node")
        .arg(example)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", watchbell.http))
        .env("OTEL_SERVICE_NAME", "checkout")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    webhook.wait_alert("PaymentRefused", "firing");
}
