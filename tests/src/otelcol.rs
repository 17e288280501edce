//! The OpenTelemetry Collector before us and behind us: what it sends us, it gets back.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http;
use crate::support::otlp::{self, attribute};
use crate::support::peer::{self, Server};
use crate::support::sink::Sink;
use crate::support::watchbell::{Watchbell, binary};
use crate::support::{free_port, until};

#[test]
fn all_signals_pass_by_grpc() {
    check("otlp_grpc", "none");
    check("otlp_grpc", "gzip");
    check("otlp_grpc", "zstd");
}

#[test]
fn all_signals_pass_by_http() {
    check("otlp_http", "none");
    check("otlp_http", "gzip");
    check("otlp_http", "zstd");
}

/// A service with our SDK and the Collector alone.
#[test]
fn what_our_sdk_sends_is_taken() {
    let sink = Sink::start();
    for (protocol, compression, port) in [
        ("grpc", "gzip", sink.grpc),
        ("grpc", "none", sink.grpc),
        ("http/protobuf", "gzip", sink.http),
        ("http/json", "none", sink.http),
    ] {
        let name = format!("shop by {protocol} {compression}");
        let output = Command::new(binary().with_file_name("quickstart"))
            .env("OTEL_SERVICE_NAME", &name)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        let of_service = |request: &Value, signal: &str| {
            request[signal]
                .as_array()
                .is_some_and(|resources| resources.iter().any(|one| one.to_string().contains(&name)))
        };
        for signal in ["resourceLogs", "resourceSpans"] {
            until(&format!("{signal} of {name}"), || {
                sink.requests().iter().any(|request| of_service(request, signal)).then_some(())
            });
        }
    }
}

/// Sends each signal to a first Collector, which sends it to us, and we to a second one, which writes it down.
#[track_caller]
fn check(exporter: &str, compression: &str) {
    let sink = Sink::start();
    let port = if exporter == "otlp_grpc" { sink.grpc } else { sink.http };
    let config =
        format!("exporters: {{{exporter}: {{endpoint: 'http://127.0.0.1:{port}', compression: {compression}}}}}\n");
    let watchbell = Watchbell::start(&config, "groups: []\n");
    let source = Source::start(&watchbell, exporter, compression);

    for (signal, request) in [("logs", logs()), ("traces", traces()), ("metrics", metrics())] {
        let response = http::post(&source.url(signal), "application/json", request.to_string()).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        until(&format!("{signal} by {exporter} and {compression} at the far end"), || {
            sink.requests().iter().any(|got| same(got, &request)).then_some(())
        });
    }
    assert_eq!(sink.requests().len(), 3, "each once");
}

/// Whether `got` holds all that `sent` does; the Collector writes more keys than it was given.
fn same(got: &Value, sent: &Value) -> bool {
    match (got, sent) {
        (Value::Object(got), Value::Object(sent)) => {
            sent.iter().all(|(key, sent)| got.get(key).is_some_and(|got| same(got, sent)))
        }
        (Value::Array(got), Value::Array(sent)) => {
            got.len() == sent.len() && got.iter().zip(sent).all(|(g, s)| same(g, s))
        }
        _ => got == sent,
    }
}

fn logs() -> Value {
    let mut record = otlp::error("payment refused");
    record["attributes"] = json!([
        attribute("text", "ünïcode \u{1f514}"),
        {"key": "int", "value": {"intValue": "-9007199254740993"}},
        {"key": "double", "value": {"doubleValue": 0.5}},
        {"key": "bool", "value": {"boolValue": true}},
        {"key": "bytes", "value": {"bytesValue": "AAEC/w=="}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": [attribute("inner", "x")]}}},
    ]);
    record["flags"] = 1.into();
    record["eventName"] = "payment.refused".into();
    otlp::logs("checkout", [record])
}

fn traces() -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [attribute("service.name", "checkout")]},
        "scopeSpans": [{"scope": {"name": "tests"}, "spans": [{
            "traceId": otlp::TRACE_ID, "spanId": otlp::SPAN_ID, "name": "POST /pay", "kind": 2,
            "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000",
            "attributes": [attribute("http.route", "/pay")],
            "events": [{"name": "retry", "timeUnixNano": "1700000000500000000"}],
            "status": {"code": 2, "message": "refused"},
        }]}],
    }]})
}

fn metrics() -> Value {
    json!({"resourceMetrics": [{
        "resource": {"attributes": [attribute("service.name", "checkout")]},
        "scopeMetrics": [{"scope": {"name": "tests"}, "metrics": [
            {"name": "orders", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
                {"timeUnixNano": "1700000001000000000", "asInt": "7"}]}},
            {"name": "latency", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"timeUnixNano": "1700000001000000000", "count": "3", "sum": 1.5,
                 "bucketCounts": ["1", "2"], "explicitBounds": [0.5]}]}},
        ]}],
    }]})
}

/// A Collector that takes OTLP/HTTP and sends all of it to us.
struct Source {
    _server: Server,
    http: u16,
}

impl Source {
    #[track_caller]
    fn start(watchbell: &Watchbell, exporter: &str, compression: &str) -> Self {
        let [http, health] = [free_port(), free_port()];
        let port = if exporter == "otlp_grpc" { watchbell.grpc } else { watchbell.http };
        let config = format!(
            "
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}
exporters: {{{exporter}: {{endpoint: 'http://127.0.0.1:{port}', compression: {compression}, tls: {{insecure: true}}}}}}
extensions: {{health_check: {{endpoint: '127.0.0.1:{health}'}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [{exporter}]}}
    traces: {{receivers: [otlp], exporters: [{exporter}]}}
    metrics: {{receivers: [otlp], exporters: [{exporter}]}}
"
        );
        let mut server = Server::start(&peer::program("otelcol", "otelcol"), &["--config", "config.yaml"], |dir| {
            std::fs::write(dir.join("config.yaml"), config).unwrap();
        });
        server.wait_ready(&format!("http://127.0.0.1:{health}/"));
        Self { _server: server, http }
    }

    fn url(&self, signal: &str) -> String {
        format!("http://127.0.0.1:{}/v1/{signal}", self.http)
    }
}
