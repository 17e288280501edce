//! Every exporter by TLS to a real server whose authority is private, and which asks for a certificate where it can.

use serde_json::Value;

use crate::support::certificates::Certificates;
use crate::support::peer::{self, Server};
use crate::support::prometheus::Prometheus;
use crate::support::sink::Sink;
use crate::support::watchbell::Watchbell;
use crate::support::{free_port, http, otlp, until};

const RULES: &str = "
groups:
  - name: checkout
    interval: 1s
    rules:
      - alert: AnyError
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1h])) > 0
";

#[test]
fn otlp_with_a_certificate_of_our_own() {
    let certificates = Certificates::new();
    let sink = Sink::start_with_tls(&certificates);
    for (n, (exporter, port, compression)) in [
        ("otlp_grpc", sink.grpc, "gzip"),
        ("otlp_grpc", sink.grpc, "zstd"),
        ("otlp_http", sink.http, "gzip"),
        ("otlp_http", sink.http, "zstd"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = format!(
            "exporters: {{{exporter}: {{endpoint: 'https://localhost:{port}', compression: {compression}, tls: {}}}}}\n",
            certificates.tls()
        );
        let watchbell = Watchbell::start(&config, "groups: []\n");
        watchbell.send(&otlp::logs("checkout", [otlp::error(compression)]));
        assert_eq!(sink.wait_records(n + 1)[n]["body"]["stringValue"], compression, "{exporter}");
    }
}

/// Without our certificate, and where we do not know the authority, nothing is sent; nothing is lost either, for a new config may mend it.
#[test]
fn otlp_goes_to_nobody_that_is_not_believed() {
    let certificates = Certificates::new();
    let sink = Sink::start_with_tls(&certificates);
    for tls in [certificates.tls_without_certificate(), Certificates::new().tls(), "{}".to_owned()] {
        let config = format!(
            "exporters:\n  otlp_grpc: {{endpoint: 'localhost:{}', tls: {tls}}}\n  \
             otlp_http: {{endpoint: 'https://localhost:{}', tls: {tls}}}\n",
            sink.grpc, sink.http
        );
        let watchbell = Watchbell::start(&config, "groups: []\n");
        watchbell.send(&otlp::logs("checkout", [otlp::error("a secret")]));
        for exporter in ["otlp_grpc", "otlp_http"] {
            let exporter = format!("exporter=\"{exporter}\"");
            until("it is tried again", || {
                watchbell.metric("watchbell_exporter_retries_total", &[&exporter]).filter(|retries| *retries >= 1.0)
            });
        }
        assert_eq!(watchbell.metric("watchbell_exporter_dropped_records_total", &[]), Some(0.0));
    }
    assert_eq!(sink.records(), Vec::<Value>::new());
}

/// An endpoint that comes up later gets everything, by the waits of `retry_on_failure`.
#[test]
fn an_endpoint_that_comes_up_later_gets_everything() {
    let ports = [free_port(), free_port()];
    let retry = "timeout: 10s, retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}";
    let config = format!(
        "exporters:\n  otlp_grpc: {{endpoint: 'http://127.0.0.1:{}', {retry}}}\n  \
         otlp_http: {{endpoint: 'http://127.0.0.1:{}', {retry}}}\n",
        ports[0], ports[1]
    );
    let watchbell = Watchbell::start(&config, "groups: []\n");
    watchbell.send(&otlp::logs("checkout", [otlp::error("early")]));
    for exporter in ["exporter=\"otlp_grpc\"", "exporter=\"otlp_http\""] {
        until("some tries", || {
            watchbell.metric("watchbell_exporter_retries_total", &[exporter]).filter(|retries| *retries >= 3.0)
        });
    }
    let sink = Sink::start_on(ports, "");
    assert_eq!(sink.wait_records(2).len(), 2, "by each exporter once");
}

#[test]
fn samples_to_a_prometheus_that_asks_for_a_certificate() {
    let certificates = Certificates::new();
    let prometheus = Prometheus::start_with_tls(&certificates);
    let config = format!(
        "exporters: {{prometheus_remote_write: {{endpoint: 'https://localhost:{}/api/v1/write', tls: {}}}}}\n",
        prometheus.port,
        certificates.tls()
    );
    let watchbell = Watchbell::start(&config, RULES);
    watchbell.send(&otlp::logs("checkout", [otlp::error("refused")]));
    until("an alert in Prometheus", || {
        prometheus.query_by_tls(&certificates, "ALERTS").contains("alertname=\"AnyError\"").then_some(())
    });
}

/// VictoriaLogs asks for no certificate in the version that is free; it tells tenants by headers.
#[test]
fn loki_push_with_headers() {
    let certificates = Certificates::new();
    let [tls, plain] = [free_port(), free_port()];
    let arguments = [
        "-storageDataPath=data".to_owned(),
        format!("-httpListenAddr=127.0.0.1:{tls}"),
        format!("-httpListenAddr=127.0.0.1:{plain}"),
        "-tls=true,false".to_owned(),
        format!("-tlsCertFile={}", certificates.path("server.pem").display()),
        format!("-tlsKeyFile={}", certificates.path("server.key").display()),
    ];
    let mut server = Server::start(&peer::program("victoria-logs", "victoria-logs"), &arguments, |_| ());
    server.wait_ready(&format!("http://127.0.0.1:{plain}/health"));
    let config = format!(
        "exporters: {{loki: {{endpoint: 'https://localhost:{tls}/insert/loki/api/v1/push', tls: {}, headers: {{AccountID: '7'}}}}}}\n",
        certificates.tls_without_certificate()
    );
    let watchbell = Watchbell::start(&config, "groups: []\n");
    watchbell.send(&otlp::logs("checkout", [otlp::error("refused")]));
    let query = |account: &str| {
        let url = format!("http://127.0.0.1:{plain}/select/logsql/query?query={}", http::encode("*"));
        let request = ::http::Request::get(url).header("AccountID", account).body(Default::default()).unwrap();
        http::send(request).unwrap().text()
    };
    until("the record in the account", || query("7").contains("refused").then_some(()));
    assert_eq!(query("0"), "");
}
