//! A real Prometheus.

use serde_json::Value;

use super::peer::{self, Server};
use super::{free_port, http, until};

/// A Prometheus that takes remote writes and scrapes the targets it is given.
pub(crate) struct Prometheus {
    server: Server,
    pub(crate) port: u16,
}

impl Prometheus {
    /// `targets` are ports on loopback.
    #[track_caller]
    pub(crate) fn start(targets: &[u16]) -> Self {
        let port = free_port();
        let targets: Vec<_> = targets.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: watchbell, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        let arguments = [
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--web.enable-otlp-receiver".to_owned(),
            "--scrape.discovery-reload-interval=200ms".to_owned(),
        ];
        let mut server = Server::start(&peer::program("prometheus", "prometheus"), &arguments, |dir| {
            std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        });
        server.wait_ready(&format!("http://127.0.0.1:{port}/-/ready"));
        Self { server, port }
    }

    /// The part of the collector's config that writes what it computes here.
    pub(crate) fn exporter(&self) -> String {
        format!("exporters:\n  prometheus_remote_write: {{endpoint: 'http://127.0.0.1:{}/api/v1/write'}}\n", self.port)
    }

    /// The instant vector that a query gives, or why it cannot be asked.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query?query={}", self.port, http::encode(query));
        let answer = http::get_json(&url);
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"].as_array().unwrap().clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// Waits until a query gives something, and returns the first series.
    #[track_caller]
    pub(crate) fn wait(&self, query: &str) -> Value {
        until(&format!("Prometheus has {query}"), || self.query(query).unwrap().into_iter().next())
    }

    /// Waits until a query gives nothing more.
    #[track_caller]
    pub(crate) fn wait_gone(&self, query: &str) {
        until(&format!("Prometheus has no {query}"), || self.query(query).unwrap().is_empty().then_some(()));
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }
}
