//! The collector under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::peer::Server;
use super::{free_port, http, otlp, root, until};

/// A collector that runs.
pub(crate) struct Watchbell {
    pub(crate) server: Server,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    pub(crate) api: u16,
}

impl Watchbell {
    /// Starts a collector with `rules` as its only rule file and the config's other parts (`exporters`, `alerting`, ...) as given.
    #[track_caller]
    pub(crate) fn start(config: &str, rules: &str) -> Self {
        Self::start_with_ports(config, rules, [free_port(), free_port(), free_port()])
    }

    /// As [`start`](Self::start), where somebody must know the ports (gRPC, HTTP, API) beforehand.
    #[track_caller]
    pub(crate) fn start_with_ports(config: &str, rules: &str, ports: [u16; 3]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [grpc, http, api] = ports;
        let head = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}\n\
             api: {{endpoint: '127.0.0.1:{api}'}}\n\
             data_dir: data\n\
             rule_files: [rules.yaml]\n"
        );
        std::fs::write(dir.path().join("config.yaml"), head + config).unwrap();
        std::fs::write(dir.path().join("rules.yaml"), rules).unwrap();
        Self::start_in(dir, ports)
    }

    /// Starts a collector again on what another left behind, on the same ports.
    #[track_caller]
    pub(crate) fn start_in(dir: TempDir, ports: [u16; 3]) -> Self {
        let server = Server::start_in(dir, &binary(), &["run", "--config", "config.yaml"]);
        let [grpc, http, api] = ports;
        let mut watchbell = Self { server, grpc, http, api };
        let ready = watchbell.api_url("/-/ready");
        watchbell.server.wait_ready(&ready);
        watchbell
    }

    pub(crate) fn ports(&self) -> [u16; 3] {
        [self.grpc, self.http, self.api]
    }

    pub(crate) fn api_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api)
    }

    pub(crate) fn http_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// Sends an OTLP/JSON log request; fails where it is not acknowledged.
    #[track_caller]
    pub(crate) fn send(&self, request: &Value) {
        let response = otlp::send(self.http, request).expect("the collector answers");
        assert_eq!(response.status, 200, "{}", response.text());
    }

    /// The sum of a metric's series whose text contains all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = http::get(&self.api_url("/metrics"))?.text();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the API shows an alert of that name in that state, and returns it.
    #[track_caller]
    pub(crate) fn wait_alert(&self, name: &str, state: &str) -> Value {
        until(&format!("alert {name} is {state}"), || {
            let alerts = http::get(&self.api_url("/api/v1/alerts"))?.json();
            let alerts = alerts["data"]["alerts"].as_array()?.clone();
            alerts.into_iter().find(|alert| alert["labels"]["alertname"] == name && alert["state"] == state)
        })
    }
}

/// Runs the collector's program to its end: success, and what it wrote.
pub(crate) fn run(arguments: &[&str], dir: &std::path::Path) -> (bool, String) {
    let output = Command::new(binary()).args(arguments).current_dir(dir).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The collector's program: WATCHBELL_BIN, or built once from this tree.
pub(crate) fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("WATCHBELL_BIN").map_or_else(build, PathBuf::from)).clone()
}

/// Builds the whole workspace: one package alone would have its dependencies built with other features.
fn build() -> PathBuf {
    let output = Command::new("cargo").args(["build", "--workspace", "--bins"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("watchbell")
}
