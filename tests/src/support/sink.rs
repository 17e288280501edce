//! The far end of the collector's exporters: a real OpenTelemetry Collector that writes what it gets into a file.

use serde_json::Value;

use super::certificates::Certificates;
use super::peer::{self, Server};
use super::{free_port, until};

/// An OpenTelemetry Collector with an OTLP receiver and a file exporter.
pub(crate) struct Sink {
    server: Server,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
}

impl Sink {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_on([free_port(), free_port()], "")
    }

    /// With a certificate for `localhost`; it asks for its clients' too.
    #[track_caller]
    pub(crate) fn start_with_tls(certificates: &Certificates) -> Self {
        let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.path(name));
        let tls = format!(
            ", tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}'}}",
            certificate.display(),
            key.display(),
            ca.display()
        );
        Self::start_on([free_port(), free_port()], &tls)
    }

    /// On ports (gRPC, HTTP) that somebody knows beforehand, with further settings of both protocols.
    #[track_caller]
    pub(crate) fn start_on([grpc, http]: [u16; 2], settings: &str) -> Self {
        let health = free_port();
        let config = format!(
            "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'{settings}}}, http: {{endpoint: '127.0.0.1:{http}'{settings}}}}}}}}}
exporters: {{file: {{path: out.json, flush_interval: 50ms}}}}
extensions: {{health_check: {{endpoint: '127.0.0.1:{health}'}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [file]}}
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"
        );
        let mut server = Server::start(&peer::program("otelcol", "otelcol"), &["--config", "config.yaml"], |dir| {
            std::fs::write(dir.join("config.yaml"), config).unwrap();
        });
        server.wait_ready(&format!("http://127.0.0.1:{health}/"));
        Self { server, grpc, http }
    }

    /// The part of the collector's config that sends everything here.
    pub(crate) fn exporter(&self) -> String {
        format!("exporters: {{otlp_grpc: {{endpoint: 'http://127.0.0.1:{}', compression: none}}}}\n", self.grpc)
    }

    /// The requests that have come, each as OTLP/JSON.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.server.path().join("out.json")).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// All log records that have come, in order.
    pub(crate) fn records(&self) -> Vec<Value> {
        let below = |values: Vec<Value>, key: &str| -> Vec<Value> {
            values.iter().flat_map(|value| value[key].as_array().cloned().unwrap_or_default()).collect()
        };
        ["resourceLogs", "scopeLogs", "logRecords"].into_iter().fold(self.requests(), below)
    }

    /// Waits for that many log records at least.
    #[track_caller]
    pub(crate) fn wait_records(&self, number: usize) -> Vec<Value> {
        until(&format!("{number} records at the far end"), || {
            Some(self.records()).filter(|records| records.len() >= number)
        })
    }
}
