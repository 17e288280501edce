//! `LIMITS.md` names every limit of the sources, and with it the metric that tells how near it is; a running collector has each.

use std::collections::BTreeSet;
use std::fs;

use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{http, otlp, root, until};

const RULES: &str = "
groups:
  - name: checkout
    rules:
      - alert: ErrorBurst
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1h])) > 2
";

#[test]
fn every_limit_is_told() {
    let text = fs::read_to_string(root().join("LIMITS.md")).unwrap();
    let told: BTreeSet<_> = rows(&text).flat_map(|row| quoted(row.split('|').nth(1).unwrap())).collect();
    let limits = limits_of_the_sources();
    assert!(limits.len() > 50, "{limits:?}");
    let untold: Vec<_> = limits.difference(&told).collect();
    assert!(untold.is_empty(), "say in LIMITS.md what happens at {untold:?}, and which metric tells it");
    let gone: Vec<_> = told.difference(&limits).filter(|name| name.as_str() != "num_consumers").collect();
    assert!(gone.is_empty(), "LIMITS.md tells of {gone:?}, which the sources do not have");
}

#[test]
fn every_metric_of_a_limit_is_there() {
    let text = fs::read_to_string(root().join("LIMITS.md")).unwrap();
    let filling = text.split("\n## ").nth(1).unwrap();
    for row in rows(filling) {
        assert!(!quoted(row.split('|').nth(4).unwrap()).is_empty(), "no metric: {row}");
    }
    let metrics: BTreeSet<_> = rows(filling).flat_map(|row| quoted(row.split('|').nth(4).unwrap())).collect();
    let webhook = Webhook::start();
    webhook.answer_next(&[400]);
    let endpoint = Webhook::start();
    let config = format!(
        "exporters:\n  otlp_http: {{endpoint: 'http://127.0.0.1:{0}'}}\n  \
         prometheus_remote_write: {{endpoint: 'http://127.0.0.1:{0}/'}}\n\
         alertmanagers: [{{url: 'http://127.0.0.1:{0}'}}]\n{1}",
        endpoint.port,
        webhook.alerting()
    );
    let watchbell = Watchbell::start(&config, RULES);
    watchbell.send(&otlp::logs("checkout", (0..3).map(|n| otlp::error(&format!("refused {n}")))));
    let refused = http::post(&watchbell.http_url("/v1/logs"), "application/x-protobuf", "garbage").unwrap();
    assert_eq!(refused.status, 400);
    for metric in metrics {
        until(&format!("a series of {metric}"), || {
            let text = http::get(&watchbell.api_url("/metrics"))?.text();
            let mut series = text.lines().filter_map(|line| line.strip_prefix(&metric));
            series.any(|rest| rest.starts_with(['{', ' '])).then_some(())
        });
    }
}

/// The rows of tables, without their heads.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| `"))
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names of fields that end in `_max` and are seen beyond their file, and of constants with `_MAX`.
fn limits_of_the_sources() -> BTreeSet<String> {
    let folders =
        ["collector", "rules", "proto", "sdk"].map(|krate| root().join(krate).join("src").display().to_string());
    let files = folders.iter().flat_map(|folder| glob::glob(&format!("{folder}/**/*.rs")).unwrap());
    let texts = files.map(|path| fs::read_to_string(path.unwrap()).unwrap());
    texts.flat_map(|text| text.lines().filter_map(limit_of).collect::<Vec<_>>()).collect()
}

fn limit_of(line: &str) -> Option<String> {
    let (before, _) = line.trim_start().split_once(':')?;
    let mut words = before.split(' ').rev();
    let (name, kind) = (words.next()?, words.next()?);
    let is_limit = match kind {
        "const" => name.ends_with("_MAX") || name.contains("_MAX_"),
        kind => kind.starts_with("pub") && name.ends_with("_max"),
    };
    is_limit.then(|| name.to_owned())
}
