//! A real Alertmanager.

use serde_json::Value;

use super::peer::{self, Server};
use super::{free_port, http, until};

/// An Alertmanager that runs.
pub(crate) struct Alertmanager {
    server: Server,
    port: u16,
}

impl Alertmanager {
    #[track_caller]
    pub(crate) fn start(config: &str) -> Self {
        let port = free_port();
        let arguments = [
            format!("--config.file={CONFIG}"),
            "--storage.path=data".to_owned(),
            "--cluster.listen-address=".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let mut server = Server::start(&peer::program("alertmanager", "alertmanager"), &arguments, |dir| {
            std::fs::write(dir.join(CONFIG), config).unwrap();
        });
        server.wait_ready(&format!("http://127.0.0.1:{port}/-/ready"));
        Self { server, port }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The config by which our collector feeds it.
    pub(crate) fn feed(&self) -> String {
        format!("alertmanagers: [{{url: '{}'}}]\n", self.url(""))
    }

    /// Takes another config.
    #[track_caller]
    pub(crate) fn reload(&self, config: &str) {
        std::fs::write(self.server.path().join(CONFIG), config).unwrap();
        let answer = http::post(&self.url("/-/reload"), "text/plain", "").unwrap();
        assert!(answer.status.is_success(), "{}\n{config}", answer.text());
    }

    /// Tells it of alerts, in its own API's JSON.
    #[track_caller]
    pub(crate) fn post(&self, alerts: &Value) {
        let answer = http::post(&self.url("/api/v2/alerts"), "application/json", alerts.to_string()).unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    pub(crate) fn alerts(&self) -> Vec<Value> {
        http::get_json(&self.url("/api/v2/alerts")).as_array().unwrap().clone()
    }

    /// The groups as they stand.
    pub(crate) fn groups(&self) -> Vec<Value> {
        http::get_json(&self.url("/api/v2/alerts/groups")).as_array().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_alerts(&self, number: usize) -> Vec<Value> {
        until(&format!("{number} alerts in Alertmanager"), || {
            Some(self.alerts()).filter(|alerts| alerts.len() == number)
        })
    }
}

const CONFIG: &str = "alertmanager.yml";
