//! The provisioned dashboards: every query gives something on a real Prometheus that scraped a collector at work and took its samples.

use std::fs;

use serde_json::Value;
use watchbell_rules::logql;

use crate::support::prometheus::Prometheus;
use crate::support::sink::Sink;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{free_port, http, otlp, root, until};

const RULES: &str = "
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: ErrorBurst
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1h])) > 2
      - alert: SlowBurn
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1h])) > 2
        for: 1h
";

#[test]
fn every_query_of_the_dashboards_gives_something() {
    let api = free_port();
    let prometheus = Prometheus::start(&[api]);
    let sink = Sink::start();
    let webhook = Webhook::start();
    webhook.answer_next(&[500, 400]);
    let refusing = Webhook::start();
    refusing.answer_next(&[400]);
    let config = format!(
        "{}  otlp_grpc: {{endpoint: 'http://127.0.0.1:{}'}}\n  otlp_http: {{endpoint: 'http://127.0.0.1:{}'}}\n{}",
        prometheus.exporter(),
        sink.grpc,
        refusing.port,
        webhook.alerting()
    );
    let watchbell = Watchbell::start_with_ports(&config, RULES, [free_port(), free_port(), api]);

    let refused = http::post(&watchbell.http_url("/v1/logs"), "application/x-protobuf", "garbage").unwrap();
    assert_eq!(refused.status, 400);

    let queries = promql_queries();
    assert!(queries.len() > 20, "{queries:?}");
    let mut sent = 0;
    for (panel, query) in queries {
        // Everything that is counted has happened, so no name that is wrong can hide behind a zero.
        let query = query.replace(" or vector(0)", "");
        let query = query.replace("$__rate_interval", "4m").replace("$__range", "4m");
        until(&format!("{panel} has data: {query}"), || {
            sent += 1;
            watchbell
                .send(&otlp::logs(&format!("service-{sent}"), (0..3).map(|n| otlp::error(&format!("refused {n}")))));
            let answer = prometheus.query(&query).unwrap_or_else(|error| panic!("{panel}: {query}: {error}"));
            (!answer.is_empty()).then_some(())
        });
    }
}

#[test]
fn the_provisioned_data_sources_are_the_ones_that_panels_and_links_name() {
    let text = fs::read_to_string(root().join("examples/grafana/provisioning/datasources/watchbell.yaml")).unwrap();
    let provisioned: Value = serde_saphyr::from_str(&text).unwrap();
    let sources = provisioned["datasources"].as_array().unwrap();
    let uids: Vec<_> = sources.iter().map(|source| source["uid"].as_str().unwrap()).collect();
    assert_eq!(uids, ["prometheus", "loki", "tempo", "alertmanager"]);
    for named in text.lines().filter(|line| line.contains("Uid:")) {
        let uid = named.rsplit(' ').next().unwrap();
        assert!(uids.contains(&uid), "{named}");
    }
    for panel in all_panels() {
        assert!(uids.contains(&panel["datasource"]["uid"].as_str().unwrap()), "{panel}");
        assert_ne!(panel["title"], "", "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], panel["datasource"], "{panel}");
        }
    }
}

/// What is asked of Loki is LogQL, and selects by index labels alone.
#[test]
fn queries_of_logs_are_logql() {
    let queries: Vec<_> = all_panels().into_iter().filter(|panel| panel["datasource"]["uid"] == "loki").collect();
    assert_eq!(queries.len(), 2);
    for target in queries.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expr = target["expr"].as_str().unwrap().replace("$service", ".+").replace("$__auto", "1m");
        logql::parse(&expr).unwrap_or_else(|mistakes| panic!("{expr}: {mistakes:?}"));
    }
}

/// Each query of Prometheus with the title of its panel.
fn promql_queries() -> Vec<(String, String)> {
    let panels = all_panels().into_iter().filter(|panel| panel["datasource"]["uid"] == "prometheus");
    let queries = |panel: Value| {
        let targets = panel["targets"].as_array().unwrap().clone();
        let title = panel["title"].as_str().unwrap().to_owned();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    };
    panels.flat_map(queries).collect()
}

fn all_panels() -> Vec<Value> {
    ["alerts", "collector"].into_iter().flat_map(dashboard_panels).collect()
}

fn dashboard_panels(dashboard: &str) -> Vec<Value> {
    let path = root().join(format!("examples/grafana/dashboards/{dashboard}.json"));
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}
