//! A real Prometheus.

use std::process::Command;

use serde_json::Value;

use super::certificates::Certificates;
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
        Self::start_on(free_port(), targets, &[], |port, server| {
            server.wait_ready(&format!("http://127.0.0.1:{port}/-/ready"));
        })
    }

    /// With a certificate for `localhost`; it asks for its clients' too.
    #[track_caller]
    pub(crate) fn start_with_tls(certificates: &Certificates) -> Self {
        let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.path(name));
        let config = certificates.path("ca.pem").with_file_name("web.yml");
        let tls = format!(
            "tls_server_config: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}', client_auth_type: RequireAndVerifyClientCert}}\n",
            certificate.display(),
            key.display(),
            ca.display()
        );
        std::fs::write(&config, tls).unwrap();
        Self::start_on(free_port(), &[], &[format!("--web.config.file={}", config.display())], |_, server| {
            until("Prometheus is ready", || server.log().contains("Server is ready").then_some(()));
        })
    }

    #[track_caller]
    fn start_on(port: u16, targets: &[u16], arguments: &[String], wait: impl FnOnce(u16, &mut Server)) -> Self {
        let targets: Vec<_> = targets.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: watchbell, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        let arguments = &[
            arguments,
            &[
                "--config.file=prometheus.yml".to_owned(),
                "--storage.tsdb.path=data".to_owned(),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--web.enable-otlp-receiver".to_owned(),
                "--scrape.discovery-reload-interval=200ms".to_owned(),
            ],
        ]
        .concat();
        let mut server = Server::start(&peer::program("prometheus", "prometheus"), arguments, |dir| {
            std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        });
        wait(port, &mut server);
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

    /// What `promtool` prints of a query, asked with the client's certificate.
    pub(crate) fn query_by_tls(&self, certificates: &Certificates, query: &str) -> String {
        let config = certificates.path("ca.pem").with_file_name("http.yml");
        std::fs::write(&config, format!("tls_config: {}\n", certificates.tls())).unwrap();
        let output = Command::new(peer::program("prometheus", "promtool"))
            .args(["query", "instant", "--http.config.file"])
            .arg(config)
            .args([&format!("https://localhost:{}", self.port), query])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
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
