//! A service with our SDK and a collector speak TLS, by gRPC and by HTTP, with a certificate on either side and a bearer token.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::watchbell::{Watchbell, binary};
use crate::support::{free_port, until};

#[test]
fn a_certificate_on_either_side_and_a_token() {
    let tls = Tls::start();
    for (protocol, port) in [("grpc", tls.collector.grpc), ("http/protobuf", tls.collector.http)] {
        // On a busy machine the service may end before it has delivered.
        until(&format!("a service delivers by {protocol}"), || {
            let told = tls.quickstart(protocol, port, &[]);
            (!told.contains("watchbell: ")).then_some(())
        });
    }
    assert!(tls.accepted_records() >= 4.0);
}

#[test]
fn of_a_wrong_certificate_the_service_tells_once_and_runs_on() {
    let tls = Tls::start();
    let wrong = [
        (("OTEL_EXPORTER_OTLP_CERTIFICATE", "client-ca.pem"), "`OTEL_EXPORTER_OTLP_CERTIFICATE` is the file of"),
        (("OTEL_EXPORTER_OTLP_CLIENT_KEY", ""), "`OTEL_EXPORTER_OTLP_CLIENT_KEY` is missing"),
    ];
    std::thread::scope(|scope| {
        for (protocol, port) in [("grpc", tls.collector.grpc), ("http/protobuf", tls.collector.http)] {
            for (variable, expected) in wrong {
                let tls = &tls;
                scope.spawn(move || {
                    let told = until(&format!("a service by {protocol} tells `{expected}`"), || {
                        let told = tls.quickstart(protocol, port, &[variable]);
                        (told.contains(expected) && told.contains("cannot deliver log records")).then_some(told)
                    });
                    assert_eq!(told.matches("cannot deliver log records").count(), 1, "{protocol}: {told}");
                    let account = "logs: 2 emitted = 0 delivered + 0 refused + 2 dropped (2 at the deadline)";
                    assert!(told.contains(account), "{protocol}: {told}");
                });
            }
        }
    });
    assert_eq!(tls.accepted_records(), 0.0);
}

struct Tls {
    collector: Watchbell,
}

impl Tls {
    /// A collector whose certificate comes from `server-ca.pem` and that wants one from `client-ca.pem`.
    #[track_caller]
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path(), "server");
        certificate(dir.path(), "client");
        let ports @ [grpc, http, api] = [free_port(), free_port(), free_port()];
        let rest = "tls: {cert_file: server.pem, key_file: server.key, client_ca_file: client-ca.pem}, auth: {bearer_token: hunter2}";
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}', {rest}}}, http: {{endpoint: '127.0.0.1:{http}', {rest}}}}}}}}}\n\
             api: {{endpoint: '127.0.0.1:{api}'}}\n"
        );
        std::fs::write(dir.path().join("config.yaml"), config).unwrap();
        Self { collector: Watchbell::start_in(dir, ports) }
    }

    #[track_caller]
    fn accepted_records(&self) -> f64 {
        self.collector.metric("watchbell_receiver_records_total", &["logs", "accepted"]).expect("the metrics")
    }

    /// Runs a service that logs two records; what it wrote to stderr.
    #[track_caller]
    fn quickstart(&self, protocol: &str, port: u16, other: &[(&str, &str)]) -> String {
        let mut command = Command::new(program());
        command
            .current_dir(self.collector.server.path())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://localhost:{port}"))
            .env("OTEL_EXPORTER_OTLP_CERTIFICATE", "server-ca.pem")
            .env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "client.pem")
            .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", "client.key")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2")
            .envs(other.iter().copied());
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        told
    }
}

/// The example, built beside the collector.
fn program() -> PathBuf {
    binary().with_file_name("quickstart")
}

/// Writes `NAME-ca.pem` and, signed by it, `NAME.pem` and `NAME.key` for localhost.
fn certificate(folder: &Path, name: &str) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (file, text) in [
        (format!("{name}-ca.pem"), authority_pem),
        (format!("{name}.pem"), certificate.pem()),
        (format!("{name}.key"), key.serialize_pem()),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
}
