//! What we compute is written to a real Prometheus and queried back; it scrapes us too.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::peer::program;
use crate::support::prometheus::Prometheus;
use crate::support::watchbell::Watchbell;
use crate::support::{http, otlp, until};

const RULES: &str = "
groups:
  - name: checkout
    interval: 1s
    labels: {team: shop}
    rules:
      - record: service:errors:count3s
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [3s]))
      - alert: ErrorBurst
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [3s])) > 4
        labels: {severity: page}
      - alert: SlowBurn
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [3s])) > 4
        for: 1h
";

#[test]
fn what_is_computed_is_written_and_goes_stale() {
    let prometheus = Prometheus::start(&[]);
    let watchbell = Watchbell::start(&prometheus.exporter(), RULES);
    let start = (otlp::now_nanos() / 1_000_000_000) as f64; // as `ALERTS_FOR_STATE` counts
    watchbell.send(&otlp::logs("checkout", (0..5).map(|n| otlp::error(&format!("refused {n}")))));

    // The alerts last some seconds only: each series may have its stale marker before it is asked for.
    let firing = prometheus.wait("last_over_time(ALERTS{alertname='ErrorBurst', alertstate='firing'}[5m])");
    assert_eq!(firing["metric"]["service_name"], "checkout", "{firing}");
    assert_eq!(firing["metric"]["severity"], "page", "{firing}");
    assert_eq!(firing["value"][1], "1", "{firing}");
    prometheus.wait("last_over_time(ALERTS{alertname='SlowBurn', alertstate='pending'}[5m])");
    let since = prometheus.wait("last_over_time(ALERTS_FOR_STATE{alertname='SlowBurn'}[5m])");
    let since: f64 = since["value"][1].as_str().unwrap().parse().unwrap();
    let now = otlp::now_nanos() as f64 / 1e9;
    assert!((start..=now).contains(&since), "{since} is not between {start} and {now}");

    let recorded = prometheus.wait("max_over_time(service:errors:count3s{service_name='checkout'}[5m]) == 5");
    assert_eq!(recorded["metric"]["team"], "shop", "{recorded}");
    for gone in ["ALERTS", "ALERTS_FOR_STATE", "service:errors:count3s"] {
        prometheus.wait_gone(gone);
    }
    assert!(!prometheus.log().contains("out of order"), "{}", prometheus.log());
}

/// After a kill the same samples are computed again: Prometheus refuses them, and they are not counted as lost.
#[test]
fn what_a_replay_computes_again_is_no_loss() {
    let prometheus = Prometheus::start(&[]);
    let watchbell = Watchbell::start(&prometheus.exporter(), &RULES.replace("[3s]", "[1h]"));
    watchbell.send(&otlp::logs("checkout", (0..5).map(|n| otlp::error(&format!("refused {n}")))));
    prometheus.wait("ALERTS{alertname='ErrorBurst', alertstate='firing'}");
    prometheus.wait("count_over_time(service:errors:count3s[5m]) > 1");
    let ports = watchbell.ports();
    let watchbell = Watchbell::start_in(watchbell.server.kill(), ports);
    until("samples are computed again", || {
        watchbell.metric("watchbell_exporter_replayed_records_total", &[]).filter(|records| *records >= 1.0)
    });
    let end = otlp::now_nanos() / 1_000_000_000 + 1;
    prometheus.wait(&format!("timestamp(ALERTS{{alertname='ErrorBurst'}}) > {end}"));
    assert_eq!(watchbell.metric("watchbell_exporter_dropped_records_total", &[]), Some(0.0));
}

#[test]
fn clients_metrics_reach_prometheus_by_otlp() {
    let prometheus = Prometheus::start(&[]);
    let watchbell = Watchbell::start(
        &format!(
            "exporters: {{otlp_http: {{endpoint: 'http://127.0.0.1:{}/api/v1/otlp', signals: [metrics]}}}}\n",
            prometheus.port
        ),
        "groups: []\n",
    );
    let request = serde_json::json!({"resourceMetrics": [{
        "resource": {"attributes": [otlp::attribute("service.name", "checkout")]},
        "scopeMetrics": [{"metrics": [{"name": "orders", "sum": {
            "aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [{"timeUnixNano": otlp::now_nanos().to_string(), "asInt": "7"}],
        }}]}],
    }]});
    let response = http::post(&watchbell.http_url("/v1/metrics"), "application/json", request.to_string()).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let orders = prometheus.wait("orders_total");
    assert_eq!((&orders["metric"]["job"], &orders["value"][1]), (&"checkout".into(), &"7".into()), "{orders}");
}

#[test]
fn scrapes_us() {
    let watchbell = Watchbell::start("", "groups: []\n");
    let prometheus = Prometheus::start(&[watchbell.api]);
    prometheus.wait("up{job='watchbell'} == 1");
    watchbell.send(&otlp::logs("checkout", [otlp::info("hello")]));
    prometheus.wait("sum(watchbell_receiver_records_total) >= 1");
}

#[test]
fn metrics_follow_prometheus_conventions() {
    let watchbell = Watchbell::start("", "groups: []\n");
    watchbell.send(&otlp::logs("checkout", [otlp::info("hello")]));
    let metrics = http::get(&watchbell.api_url("/metrics")).unwrap();
    let mut promtool = Command::new(program("prometheus", "promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{complaints}\n{}", metrics.text());
}
