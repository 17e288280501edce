//! Pages by mail: a real SMTP server that insists on TLS and a password, and the mail read back from it.

use serde_json::Value;

use crate::support::peer::{self, Server};
use crate::support::watchbell::Watchbell;
use crate::support::{free_port, http, otlp, until};

const RULES: &str = "
groups:
  - name: checkout
    rules:
      - alert: ErrorBurst
        expr: sum by (service_name) (count_over_time({service_name=~`.+`} | severity_number >= 17 [1m])) > 2
        annotations: {summary: '{{ $labels.service_name }}: {{ $value }} errors'}
";

#[test]
fn starttls() {
    check("--smtp-require-starttls", "require_tls: true");
}

#[test]
fn implicit_tls() {
    check("--smtp-require-tls", "force_implicit_tls: true");
}

/// A wrong password is a failure that no repetition mends: it is told, and no mail arrives.
#[test]
fn a_wrong_password_is_a_permanent_failure() {
    let mailpit = Mailpit::start("--smtp-require-starttls");
    let watchbell = Watchbell::start(&mailpit.alerting("require_tls: true", "wrong"), RULES);
    watchbell.send(&otlp::logs("checkout", (0..3).map(|n| otlp::error(&format!("refused {n}")))));
    until("the failure is counted", || {
        watchbell.metric("watchbell_outbox_lost_total", &["mail"]).filter(|n| *n >= 1.0)
    });
    assert_eq!(mailpit.messages(), Vec::<Value>::new());
    assert!(!watchbell.server.log().contains("wrong\""), "the password is in the log");
}

#[track_caller]
fn check(mailpit_tls: &str, our_tls: &str) {
    let mailpit = Mailpit::start(mailpit_tls);
    let watchbell = Watchbell::start(&mailpit.alerting(our_tls, "secret"), RULES);
    watchbell.send(&otlp::logs("checkout", (0..3).map(|n| otlp::error(&format!("payment refused {n}")))));

    let message = until("a mail", || mailpit.messages().into_iter().next());
    assert_eq!(message["To"][0]["Address"], "oncall@example.org", "{message}");
    assert_eq!(message["From"]["Address"], "watchbell@example.org", "{message}");
    assert!(message["Subject"].as_str().unwrap().contains("ErrorBurst"), "{message}");
    let id = message["ID"].as_str().unwrap();
    let message = http::get_json(&mailpit.url(&format!("/api/v1/message/{id}")));
    for part in ["Text", "HTML"] {
        let text = message[part].as_str().unwrap();
        for evidence in ["checkout: 3 errors", "payment refused 2", otlp::TRACE_ID] {
            assert!(text.contains(evidence), "no `{evidence}` in {part}:\n{text}");
        }
    }
    assert!(message["HTML"].as_str().unwrap().contains(&format!("https://traces.example.org/{}", otlp::TRACE_ID)));
}

struct Mailpit {
    server: Server,
    smtp: u16,
    http: u16,
}

impl Mailpit {
    #[track_caller]
    fn start(tls: &str) -> Self {
        let [smtp, http] = [free_port(), free_port()];
        let arguments = [
            tls.to_owned(),
            "--smtp-tls-cert=cert.pem".to_owned(),
            "--smtp-tls-key=key.pem".to_owned(),
            "--smtp-auth-file=users".to_owned(),
            "--disable-version-check".to_owned(),
            format!("--smtp=127.0.0.1:{smtp}"),
            format!("--listen=127.0.0.1:{http}"),
        ];
        let mut server = Server::start(&peer::program("mailpit", "mailpit"), &arguments, |dir| {
            let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(dir.join("cert.pem"), certificate.cert.pem()).unwrap();
            std::fs::write(dir.join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
            std::fs::write(dir.join("users"), "watchbell:secret\n").unwrap();
        });
        server.wait_ready(&format!("http://127.0.0.1:{http}/readyz"));
        Self { server, smtp, http }
    }

    fn alerting(&self, tls: &str, password: &str) -> String {
        let certificate = self.server.path().join("cert.pem");
        format!(
            "
links: {{trace: 'https://traces.example.org/{{{{ .TraceID }}}}'}}
alerting:
  route: {{receiver: mail, group_by: [alertname], group_wait: 0s}}
  receivers:
    - name: mail
      email_configs:
        - to: oncall@example.org
          from: watchbell@example.org
          smarthost: 'localhost:{}'
          auth_username: watchbell
          auth_password: {password}
          {tls}
          tls_config: {{ca_file: '{}'}}
",
            self.smtp,
            certificate.display()
        )
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    fn messages(&self) -> Vec<Value> {
        http::get_json(&self.url("/api/v1/messages"))["messages"].as_array().unwrap().clone()
    }
}
