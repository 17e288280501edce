//! VictoriaLogs takes Loki's push API and OTLP: what we push is queried back.

use serde_json::Value;

use crate::support::peer::{self, Server};
use crate::support::watchbell::Watchbell;
use crate::support::{free_port, http, otlp, until};

#[test]
fn by_loki_push() {
    let victoria_logs = VictoriaLogs::start();
    let url = victoria_logs.url("/insert/loki/api/v1/push");
    let records = victoria_logs.check(&format!("exporters: {{loki: {{endpoint: '{url}'}}}}\n"));
    for record in records {
        assert!(record["_stream"].as_str().unwrap().contains("service_name=\"checkout\""), "{record}");
        assert_eq!(record["severity_text"], "ERROR", "{record}");
    }
}

#[test]
fn by_otlp() {
    let victoria_logs = VictoriaLogs::start();
    let url = victoria_logs.url("/insert/opentelemetry");
    victoria_logs.check(&format!("exporters: {{otlp_http: {{endpoint: '{url}', signals: [logs]}}}}\n"));
}

struct VictoriaLogs {
    _server: Server,
    port: u16,
}

impl VictoriaLogs {
    #[track_caller]
    fn start() -> Self {
        let port = free_port();
        let arguments = ["-storageDataPath=data".to_owned(), format!("-httpListenAddr=127.0.0.1:{port}")];
        let mut server = Server::start(&peer::program("victoria-logs", "victoria-logs"), &arguments, |_| ());
        server.wait_ready(&format!("http://127.0.0.1:{port}/health"));
        Self { _server: server, port }
    }

    /// Sends ten records through a collector with that config, in two requests out of order of time, and returns them as they are here.
    #[track_caller]
    fn check(&self, config: &str) -> Vec<Value> {
        let watchbell = Watchbell::start(config, "groups: []\n");
        let records: Vec<_> = (0..10).map(|n| otlp::error(&format!("refused {n}"))).collect();
        watchbell.send(&otlp::logs("checkout", records[5..].to_vec()));
        watchbell.send(&otlp::logs("checkout", records[..5].to_vec()));
        let mut found =
            until("ten records in VictoriaLogs", || Some(self.query("*")).filter(|found| found.len() >= 10));
        found.sort_by_key(|record| record["_msg"].to_string());
        let bodies: Vec<_> = found.iter().map(|record| record["_msg"].as_str().unwrap().to_owned()).collect();
        assert_eq!(bodies, (0..10).map(|n| format!("refused {n}")).collect::<Vec<_>>());
        for (n, record) in found.iter().enumerate() {
            assert_eq!(record["trace_id"], otlp::TRACE_ID, "{record}");
            assert_eq!(record["span_id"], otlp::SPAN_ID, "{record}");
            let sent: i64 = records[n]["timeUnixNano"].as_str().unwrap().parse().unwrap();
            let kept: jiff::Timestamp = record["_time"].as_str().unwrap().parse().unwrap();
            assert_eq!(i128::from(sent), kept.as_nanosecond(), "{record}");
        }
        found
    }

    fn query(&self, query: &str) -> Vec<Value> {
        let text = http::get(&self.url(&format!("/select/logsql/query?query={}", http::encode(query)))).unwrap().text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}
