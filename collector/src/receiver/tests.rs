use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, Version};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prometheus_client::registry::Registry;
use prost::Message;
use watchbell_proto::otlp::service::Status;

use super::*;
use crate::clock::SystemClock;
use crate::dedup::DedupConfig;
use crate::memory_log::MemoryLog;

#[tokio::test]
async fn protobuf_reaches_the_log_as_it_came() {
    let server = Server::start().await;
    let answer = server.post("/v1/logs", PROTOBUF, &[], logs(3)).await;
    assert_eq!(answer.told(), (200, PROTOBUF, String::new()));
    assert_eq!(server.logs.payloads(), [logs(3)]);
    let frame = &server.logs.frames()[0];
    assert_eq!((frame.records, frame.event_span), (3, Some((Timestamp(1), Timestamp(3)))));
    assert_ne!(frame.hash, 0);
}

#[tokio::test]
async fn each_signal_has_its_log() {
    let server = Server::start().await;
    let spans = spans(4);
    assert_eq!(server.post("/v1/traces", PROTOBUF, &[], spans.clone()).await.status, 200);
    assert_eq!(server.call(TRACES, &[], framed(&spans, 0)).await.grpc().0, 0);
    assert_eq!(server.traces.payloads(), [spans], "a copy counts once, whatever way it comes");
    let points = points(2);
    assert_eq!(server.post("/v1/metrics", PROTOBUF, &[], points.clone()).await.status, 200);
    assert_eq!(server.call(METRICS, &[], framed(&points, 0)).await.grpc().0, 0);
    assert_eq!(server.metrics.payloads(), [points]);
    assert_eq!((server.traces.frames()[0].records, server.metrics.frames()[0].records), (4, 2));
    assert!(server.logs.payloads().is_empty());
}

#[tokio::test]
async fn both_ports_speak_both_protocols() {
    let server = Server::start().await;
    for address in [server.grpc, server.http] {
        let (status, message) = server.call_at(address, LOGS, &[], framed(&untimed(), 0)).await.grpc();
        assert_eq!((status, message.as_str()), (0, ""));
        let answer = server.send(address, Version::HTTP_11, "/v1/logs", PROTOBUF, &[], untimed()).await;
        assert_eq!(answer.status, 200);
        let answer = server.send(address, Version::HTTP_2, "/v1/logs", PROTOBUF, &[], untimed()).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.logs.payloads(), vec![untimed(); 6]);
}

#[tokio::test]
async fn json_becomes_the_same_bytes_and_is_answered_in_json() {
    let server = Server::start().await;
    let answer = server.post("/v1/logs", "application/json; charset=utf-8", &[], JSON).await;
    assert_eq!(answer.told(), (200, "application/json", "{}".to_owned()));
    let request = ExportLogsServiceRequest::decode(server.logs.payloads()[0].clone()).unwrap();
    assert_eq!(request.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano, 1);
}

#[tokio::test]
async fn json_may_have_the_names_of_the_proto_files() {
    let server = Server::start().await;
    let json = r#"{"resource_logs": [{"scope_logs": [{"log_records": [{"time_unix_nano": "1", "body": {"string_value": "x"}}]}]}]}"#;
    assert_eq!(server.post("/v1/logs", "application/json", &[], json).await.status, 200);
    let request = ExportLogsServiceRequest::decode(server.logs.payloads()[0].clone()).unwrap();
    assert_eq!(request.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano, 1);
}

#[tokio::test]
async fn what_a_push_by_hand_gets_wrong_is_told() {
    let server = Server::start().await;
    let push = |stamp: &str| format!(r#" {{"streams": [{{"stream": {{"app": "a"}}, "values": [["{stamp}", "x"]]}}]}}"#);
    let form = "application/x-www-form-urlencoded";
    for (content_type, stamp, status, told) in [
        (
            form,
            "1764000000000000000",
            400,
            "its content type is `application/x-www-form-urlencoded`: send `Content-Type: application/json`",
        ),
        (
            "application/json",
            "1764000000",
            400,
            "1 entries were refused, the others taken: an entry's time is in nanoseconds since 1970, and `1764000000` is in seconds: write `1764000000000000000`",
        ),
        ("application/json", "1764000000000000000", 204, ""),
    ] {
        let answer = server.post("/loki/api/v1/push", content_type, &[], push(stamp)).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(answer.status == status && text.contains(told), "{}: {text}", answer.status);
    }
    let answer = server.post("/v1/logs", form, &[], "{}").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(answer.status == 415 && text.contains("send `Content-Type: application/json`"), "{text}");
}

#[tokio::test]
async fn compressed_bodies_are_stored_plain() {
    let server = Server::start().await;
    for (name, body) in [("gzip", gzip(&untimed())), ("zstd", zstd::encode_all(&untimed()[..], 3).unwrap())] {
        let answer = server.post("/v1/logs", PROTOBUF, &[("content-encoding", name)], body.clone()).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.status().message);
        let called = server.call(LOGS, &[("grpc-encoding", name)], framed(&body, 1)).await;
        assert_eq!(called.grpc().0, 0, "{name}");
        // The flag counts, not the header.
        let called = server.call(LOGS, &[("grpc-encoding", name)], framed(&untimed(), 0)).await;
        assert_eq!(called.grpc().0, 0, "{name}");
    }
    assert_eq!(server.logs.payloads(), vec![untimed(); 6]);
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_status_in_the_request_s_format() {
    let server = Server::start().await;
    let cases: &[(&str, Method, &str, Headers<'_>, Bytes, u16, i32)] = &[
        ("garbage", Method::POST, PROTOBUF, &[], Bytes::from_static(b"\xff\xff\xff"), 400, 3),
        ("truncated", Method::POST, PROTOBUF, &[], logs(3).slice(..20), 400, 3),
        ("not UTF-8", Method::POST, PROTOBUF, &[], body_of_bytes(b"\xff\xfe"), 400, 3),
        ("JSON as protobuf", Method::POST, PROTOBUF, &[], Bytes::from_static(JSON.as_bytes()), 400, 3),
        ("protobuf as JSON", Method::POST, "application/json", &[], logs(1), 400, 3),
        ("no gzip", Method::POST, PROTOBUF, &[("content-encoding", "gzip")], logs(1), 400, 3),
        ("no zstd", Method::POST, PROTOBUF, &[("content-encoding", "zstd")], logs(1), 400, 3),
        (
            "half a gzip",
            Method::POST,
            PROTOBUF,
            &[("content-encoding", "gzip")],
            Bytes::from(gzip(&logs(9))).slice(..30),
            400,
            3,
        ),
        ("snappy", Method::POST, PROTOBUF, &[("content-encoding", "snappy")], logs(1), 415, 12),
        ("text", Method::POST, "text/plain", &[], logs(1), 415, 12),
        ("gRPC over HTTP/1", Method::POST, "application/grpc-web", &[], logs(1), 415, 12),
        ("GET", Method::GET, PROTOBUF, &[], Bytes::new(), 405, 12),
        ("PUT", Method::PUT, "application/json", &[], Bytes::from_static(JSON.as_bytes()), 405, 12),
    ];
    for (name, method, content_type, headers, body, http_status, code) in cases {
        let answer = server
            .request(server.http, Version::HTTP_11, method, "/v1/logs", content_type, headers, body.clone())
            .await;
        assert_eq!(answer.status, *http_status, "{name}");
        let expected_type = if *content_type == PROTOBUF { PROTOBUF } else { "application/json" };
        assert_eq!(answer.headers["content-type"], expected_type, "{name}");
        assert_eq!(answer.code(), *code, "{name}");
    }
    let answer = server.post("/v1/profiles", PROTOBUF, &[], logs(1)).await;
    assert_eq!((answer.status, answer.code()), (404, 12));
    assert!(server.logs.payloads().is_empty());
}

#[tokio::test]
async fn what_is_wrong_in_a_call_is_told_in_trailers() {
    let server = Server::start().await;
    let cases: &[(&str, &str, Headers<'_>, Bytes, i32)] = &[
        ("garbage", LOGS, &[], framed(b"\xff\xff\xff", 0), 3),
        ("truncated message", LOGS, &[], framed(&logs(3)[..20], 0), 3),
        ("nothing", LOGS, &[], Bytes::new(), 3),
        ("half a prefix", LOGS, &[], Bytes::from_static(b"\0\0"), 3),
        ("less than the prefix says", LOGS, &[], framed(&logs(3), 0).slice(..30), 3),
        ("two messages", LOGS, &[], [framed(&logs(1), 0), framed(&logs(1), 0)].concat().into(), 3),
        ("a wrong flag", LOGS, &[], framed(&logs(1), 7), 3),
        ("compressed, but how", LOGS, &[], framed(&logs(1), 1), 3),
        ("no gzip", LOGS, &[("grpc-encoding", "gzip")], framed(&logs(1), 1), 3),
        ("unknown encoding", LOGS, &[("grpc-encoding", "snappy")], framed(&logs(1), 1), 12),
        ("unknown service", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[], framed(b"", 0), 12),
    ];
    for (name, path, headers, body, code) in cases {
        let answer = server.call(path, headers, body.clone()).await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.headers["content-type"], "application/grpc", "{name}");
        assert_eq!(answer.grpc().0, *code, "{name}: {}", answer.grpc().1);
        assert_eq!(answer.grpc_details().code, *code, "{name}");
    }
    assert!(server.logs.payloads().is_empty());
}

#[tokio::test]
async fn random_bytes_never_get_behind_the_door() {
    let server = Server::start().await;
    let mut random = fastrand::Rng::with_seed(1);
    for i in 0..300 {
        // A first byte of field 0 is never protobuf; the rest is anything.
        let body: Vec<u8> = std::iter::once(0x07).chain((0..random.usize(0..200)).map(|_| random.u8(..))).collect();
        let (content_type, encoding) = ([PROTOBUF, "application/json"][i % 2], ["identity", "gzip", "zstd"][i % 3]);
        let path = ["/v1/logs", "/v1/traces", "/v1/metrics"][i % 3];
        let answer = server.post(path, content_type, &[("content-encoding", encoding)], body.clone()).await;
        assert_eq!(answer.status, 400);
        let path = [LOGS, TRACES, METRICS][i % 3];
        assert_eq!(server.call(path, &[("grpc-encoding", encoding)], framed(&body, 1)).await.grpc().0, 3);
    }
    assert!(server.logs.payloads().is_empty() && server.traces.payloads().is_empty());
}

#[tokio::test]
async fn an_empty_request_is_fine_and_leaves_nothing() {
    let server = Server::start().await;
    assert_eq!(server.post("/v1/logs", PROTOBUF, &[], "").await.told(), (200, PROTOBUF, String::new()));
    assert_eq!(server.post("/v1/metrics", "application/json", &[], "{}").await.status, 200);
    assert_eq!(server.call(TRACES, &[], framed(b"", 0)).await.grpc().0, 0);
    assert!(server.logs.payloads().is_empty());
}

#[tokio::test]
async fn records_over_a_limit_are_cut_out_and_told() {
    let limits = Limits { record_bytes_max: 200, attributes_per_record_max: 2, ..Limits::default() };
    let server = Server::with(&Config::ephemeral(), &limits).await;
    let batch = request(vec![record("good", 1), record(&"x".repeat(300), 0), record("many", 3)]);
    let answer = server.post("/v1/logs", PROTOBUF, &[], batch.clone()).await;
    let (rejected, message) = answer.partial_success();
    assert_eq!(rejected, 2);
    assert!(message.contains("record_bytes_max") && message.contains("attributes_per_record_max"), "{message}");
    assert_eq!(server.logs.payloads(), [request(vec![record("good", 1)])]);

    let answer = server.call(LOGS, &[], framed(&batch, 0)).await;
    assert_eq!((answer.grpc().0, answer.partial_success().0), (0, 2));

    let only_bad = JSON.replace(r#""x""#, &format!("{:?}", "y".repeat(300)));
    let answer = server.post("/v1/logs", "application/json", &[], only_bad).await;
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["partialSuccess"]["rejectedLogRecords"], "1");
    assert_eq!(server.logs.payloads().len(), 2);
}

#[tokio::test]
async fn what_is_too_large_is_refused_for_good() {
    let mut config = Config::ephemeral();
    config.otlp.protocols.http.as_mut().unwrap().max_request_body_size = 1 << 20;
    config.otlp.protocols.grpc.as_mut().unwrap().max_recv_msg_size_mib = 1;
    let server = Server::with(&config, &Limits::default()).await;
    let large = request(vec![record(&"x".repeat(8 << 20), 0)]);
    for (encoding, body) in
        [("identity", large.to_vec()), ("gzip", gzip(&large)), ("zstd", zstd::encode_all(&large[..], 3).unwrap())]
    {
        let answer = server.post("/v1/logs", PROTOBUF, &[("content-encoding", encoding)], body.clone()).await;
        assert_eq!((answer.status, answer.code()), (413, 8), "{encoding}");
        let flag = u8::from(encoding != "identity");
        let answer = server.call(LOGS, &[("grpc-encoding", encoding)], framed(&body, flag)).await;
        assert_eq!((answer.grpc().0, answer.grpc_details().retry_delay()), (8, None), "{encoding}");
    }
    assert!(server.logs.payloads().is_empty());
}

#[tokio::test]
async fn at_a_limit_clients_are_told_when_to_come_again() {
    let server = Server::start().await;
    server.logs.refuse(Some(AppendError::Full));
    assert_comes_again(&server, logs(1)).await;

    let limits = Limits { receiver_bytes_in_flight_max: 100_000, ..Limits::default() };
    let server = Server::with(&Config::ephemeral(), &limits).await;
    server.logs.hold(true);
    let first = tokio::spawn(server.clone().post_logs(request(vec![record(&"x".repeat(60_000), 0)])));
    server.appended(1).await;
    let second = request(vec![record(&"y".repeat(60_000), 0)]);
    assert_comes_again(&server, second.clone()).await;
    server.logs.hold(false);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(server.clone().post_logs(second).await.status, 200);
    // A request that could never fit is not to come again.
    assert_eq!(server.clone().post_logs(request(vec![record(&"z".repeat(200_000), 0)])).await.status, 413);
}

async fn assert_comes_again(server: &Server, batch: Bytes) {
    let answer = server.post("/v1/logs", PROTOBUF, &[], batch.clone()).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(answer.status().retry_delay(), Some(Duration::from_secs(1)));
    let answer = server.call(LOGS, &[], framed(&batch, 0)).await;
    assert_eq!((answer.grpc().0, answer.grpc_details().retry_delay()), (8, Some(Duration::from_secs(1))));
}

#[tokio::test]
async fn a_failed_disk_is_unavailable_and_a_frame_too_large_is_not() {
    let server = Server::start().await;
    let too_large = AppendError::TooLarge { bytes_max: 4096 };
    let cases = [(AppendError::Failed("EIO".into()), 503, 14), (AppendError::Closed, 503, 14), (too_large, 413, 8)];
    for (error, http_status, code) in cases {
        server.logs.refuse(Some(error));
        let answer = server.post("/v1/logs", PROTOBUF, &[], logs(1)).await;
        assert_eq!((answer.status, answer.code()), (http_status, code));
        assert_eq!(server.call(LOGS, &[], framed(&logs(1), 0)).await.grpc().0, code);
    }
}

#[tokio::test]
async fn the_answer_waits_for_the_disk_and_draining_waits_for_the_answer() {
    let server = Server::start().await;
    server.logs.hold(true);
    let mut waiting = tokio::spawn(server.clone().post_logs(logs(1)));
    server.appended(1).await;
    assert!(!waiting.is_finished());

    let receiver = server.receiver.lock().await.take().unwrap();
    let draining = tokio::spawn(receiver.drain(Duration::from_secs(30)));
    server.until_draining().await;
    let answer = server.post("/v1/logs", PROTOBUF, &[], logs(2)).await;
    assert_eq!((answer.status, answer.code()), (503, 14));
    assert_eq!(server.call(LOGS, &[], framed(&logs(2), 0)).await.grpc().0, 14);
    assert!(server.intake.begin_append().is_err(), "one that passed the first check before");
    assert_eq!(server.intake.state.borrow().appending, 1, "the one that waits");
    assert!(!draining.is_finished() && !waiting.is_finished());

    server.logs.hold(false);
    assert_eq!((&mut waiting).await.unwrap().status, 200);
    draining.await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.http).await.is_err());
    assert_eq!(server.logs.payloads(), [logs(1)]);
}

#[tokio::test]
async fn draining_is_cut_off_at_its_deadline() {
    let server = Server::start().await;
    server.logs.hold(true);
    let waiting = tokio::spawn(server.clone().post_logs(logs(1)));
    server.appended(1).await;
    let receiver = server.receiver.lock().await.take().unwrap();
    receiver.drain(Duration::from_millis(1)).await;
    waiting.abort();
}

#[tokio::test]
async fn a_token_is_asked_for_on_every_path() {
    let mut config = Config::ephemeral();
    let auth = Some(auth::Config { bearer_token: Some("s3cret".to_owned().into()), bearer_token_file: None });
    config.otlp.protocols.http.as_mut().unwrap().auth = auth.clone();
    config.otlp.protocols.grpc.as_mut().unwrap().auth = auth;
    let server = Server::with(&config, &Limits::default()).await;
    for (token, http_status, code) in
        [(None, 401, 16), (Some("Bearer wrong"), 401, 16), (Some("Bearer s3cret"), 200, 0)]
    {
        let headers: Vec<_> = token.iter().map(|token| ("authorization", *token)).collect();
        assert_eq!(server.post("/v1/logs", PROTOBUF, &headers, logs(1)).await.status, http_status);
        assert_eq!(server.call(LOGS, &headers, framed(&logs(1), 0)).await.grpc().0, code);
    }
    let answer = server.post("/v1/logs", PROTOBUF, &[], logs(1)).await;
    assert_eq!((&answer.headers["www-authenticate"], answer.code()), (&"Bearer".parse().unwrap(), 16));
}

#[tokio::test]
async fn certificates_and_tokens_are_replaced_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first").unwrap();
    let (tls, first_ca) = certificates(folder.path());
    let mut config = Config::ephemeral();
    config.otlp.protocols.http.as_mut().unwrap().auth =
        Some(auth::Config { bearer_token: None, bearer_token_file: Some(token.clone()) });
    config.otlp.protocols.grpc.as_mut().unwrap().tls = Some(tls);
    let server = Server::with(&config, &Limits::default()).await;
    let status =
        async |token: &str| server.post("/v1/logs", PROTOBUF, &[("authorization", token)], logs(1)).await.status;
    assert_eq!((status("Bearer first").await, status("Bearer second").await), (200, 401));

    std::fs::write(&token, "second").unwrap();
    let (_, second_ca) = certificates(folder.path());
    server.keys.read_again().unwrap();
    assert_eq!((status("Bearer first").await, status("Bearer second").await), (401, 200));
    assert!(!trusts(server.grpc, first_ca).await && trusts(server.grpc, second_ca.clone()).await);

    std::fs::write(folder.path().join("token"), " ").unwrap();
    assert!(server.keys.read_again().unwrap_err().to_string().contains("the bearer token in `auth` is empty"));
    assert_eq!(status("Bearer second").await, 200, "what cannot be read replaces nothing");
    assert!(trusts(server.grpc, second_ca).await);
}

/// Whether a TLS handshake with the port succeeds for a client that trusts that authority alone.
async fn trusts(address: SocketAddr, ca: rustls::pki_types::CertificateDer<'static>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.is_ok()
}

#[tokio::test]
async fn a_probe_asks_grpc_health() {
    let server = Server::start().await;
    let answer = server.call("/grpc.health.v1.Health/Check", &[], framed(b"", 0)).await;
    assert_eq!((answer.grpc().0, &answer.body[5..]), (0, &[8, 1][..]));
}

#[tokio::test]
async fn its_metrics_tell_how_requests_ended() {
    let limits = Limits { record_bytes_max: 200, ..Limits::default() };
    let server = Server::with(&Config::ephemeral(), &limits).await;
    server.call(LOGS, &[], framed(&logs(3), 0)).await;
    server.call(LOGS, &[], framed(&logs(3), 0)).await;
    server.post("/v1/logs", PROTOBUF, &[], request(vec![record("a", 0), record(&"x".repeat(300), 0)])).await;
    server.post("/v1/traces", PROTOBUF, &[], "garbage").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.registry).unwrap();
    for line in [
        r#"watchbell_receiver_requests_total{signal="logs",transport="grpc",outcome="accepted"} 1"#,
        r#"watchbell_receiver_requests_total{signal="logs",transport="grpc",outcome="duplicate"} 1"#,
        r#"watchbell_receiver_requests_total{signal="logs",transport="http",outcome="partial"} 1"#,
        r#"watchbell_receiver_requests_total{signal="traces",transport="http",outcome="refused"} 1"#,
        r#"watchbell_receiver_refused_total{signal="traces",transport="http",reason="malformed"} 1"#,
        r#"watchbell_receiver_records_total{signal="logs",transport="grpc",outcome="accepted"} 3"#,
        r#"watchbell_receiver_records_total{signal="logs",transport="http",outcome="rejected"} 1"#,
        r#"watchbell_receiver_bytes_total{signal="traces",transport="http"} 7"#,
        r#"watchbell_receiver_request_duration_seconds_count{signal="logs",transport="grpc"} 2"#,
        "watchbell_receiver_bytes_in_flight 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
    }
}

#[tokio::test]
async fn a_real_grpc_client_is_understood_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, ca) = certificates(folder.path());
    let mut config = Config::ephemeral();
    config.otlp.protocols.grpc.as_mut().unwrap().tls = Some(tls);
    let server = Server::with(&config, &Limits::default()).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let client_config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let https =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(client_config).https_only().enable_all_versions();
    let channel = tonic::transport::Endpoint::from_shared(format!("https://localhost:{}", server.grpc.port())).unwrap();
    // Tonic's own TLS is not compiled in: the connector brings it.
    let channel = tonic::transport::Endpoint::connect_with_connector(&channel, https.build()).await.unwrap();
    let answer = export(channel, ExportLogsServiceRequest::decode(logs(5)).unwrap()).await.unwrap();
    assert_eq!(answer.partial_success, None);
    assert_eq!(server.logs.payloads(), [logs(5)]);

    let in_clear = tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
    assert!(export(in_clear.connect_lazy(), ExportLogsServiceRequest::default()).await.is_err());
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = certificates(folder.path());
    let mut config = Config::ephemeral();
    let client_ca_file = Some(tls.cert_file.clone());
    let server_tls = tls::Config { client_ca_file, min_version: Some("1.3".to_owned()), ..tls.clone() };
    config.otlp.protocols.http.as_mut().unwrap().tls = Some(server_tls);
    let server = Server::with(&config, &Limits::default()).await;

    let client_tls = |identity: bool| crate::http_client::TlsConfig {
        ca_file: Some(tls.cert_file.clone()),
        cert_file: identity.then(|| tls.cert_file.clone()),
        key_file: identity.then(|| tls.key_file.clone()),
        ..crate::http_client::TlsConfig::default()
    };
    for (identity, served) in [(true, true), (false, false)] {
        let client =
            crate::http_client::HttpClient::new(&client_tls(identity), crate::http_client::Protocol::Any).unwrap();
        let url = format!("https://localhost:{}/v1/logs", server.http.port());
        let request = Request::post(url).header("content-type", PROTOBUF).body(untimed()).unwrap();
        let answer = client.send(request, Duration::from_secs(20)).await;
        assert_eq!(answer.is_ok_and(|answer| answer.status == 200), served, "with identity: {identity}");
    }
    assert_eq!(server.logs.payloads().len(), 1);
}

#[test]
fn wrong_tls_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = certificates(folder.path());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let read = |tls: tls::Config| tls.read().err().unwrap();
    assert!(read(tls::Config { cert_file: "/no/cert.pem".into(), ..tls.clone() }).contains("/no/cert.pem"));
    assert!(read(tls::Config { key_file: "/no/key.pem".into(), ..tls.clone() }).contains("/no/key.pem"));
    assert!(read(tls::Config { client_ca_file: Some(empty.clone()), ..tls.clone() }).contains("holds no certificate"));
    assert!(read(tls::Config { min_version: Some("1.1".to_owned()), ..tls }).contains("`1.1`"));
}

#[tokio::test]
async fn a_real_grpc_client_reads_our_errors() {
    let server = Server::start().await;
    server.logs.refuse(Some(AppendError::Full));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
    let error = export(channel.connect_lazy(), ExportLogsServiceRequest::decode(logs(1)).unwrap()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted);
    assert_eq!(Status::decode(error.details()).unwrap().retry_delay(), Some(Duration::from_secs(1)));
}

#[test]
fn the_config_is_the_collector_s() {
    let read = |yaml: &str| serde_saphyr::from_str::<Config>(yaml).map(|config| config.otlp.protocols);
    let both = read("{}").unwrap();
    assert_eq!(both.grpc.unwrap().endpoint, "127.0.0.1:4317");
    assert_eq!(both.http.unwrap().endpoint, "127.0.0.1:4318");
    let one = read("otlp:\n  protocols:\n    http:\n").unwrap();
    assert_eq!((one.grpc.is_some(), one.http.unwrap().endpoint.as_str()), (false, "127.0.0.1:4318"));
    let full = read(
        "otlp: {protocols: {grpc: {endpoint: '[::]:1', tls: {cert_file: c, key_file: k, client_ca_file: a, min_version: '1.3'}, \
         auth: {bearer_token: secret}, max_recv_msg_size_mib: 8}}}",
    );
    assert_eq!(full.unwrap().grpc.unwrap().max_recv_msg_size_mib, 8);
    assert!(read("otlp: {protocols: {gprc: {}}}").is_err());
}

const PROTOBUF: &str = "application/x-protobuf";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const JSON: &str =
    r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"x"},"new":null}]}]}]}"#;

/// A receiver on free ports, with logs in memory.
#[derive(Clone)]
struct Server {
    receiver: Arc<tokio::sync::Mutex<Option<Receiver>>>,
    intake: Arc<Intake>,
    logs: MemoryLog,
    traces: MemoryLog,
    metrics: MemoryLog,
    keys: Keys,
    grpc: SocketAddr,
    http: SocketAddr,
    clients: [HttpClient; 2],
    registry: Arc<Registry>,
}

type Headers<'a> = &'a [(&'a str, &'a str)];

type HttpClient = Client<HttpConnector, Full<Bytes>>;

impl Server {
    async fn start() -> Self {
        Self::with(&Config::ephemeral(), &Limits::default()).await
    }

    async fn with(config: &Config, limits: &Limits) -> Self {
        let (logs, traces, metrics) = (MemoryLog::new(), MemoryLog::new(), MemoryLog::new());
        let door = |log: &MemoryLog| Door::open(Arc::new(log.clone()), DedupConfig::default(), SystemClock::shared());
        let all =
            Doors { logs: door(&logs).unwrap(), traces: door(&traces).unwrap(), metrics: door(&metrics).unwrap() };
        let mut registry = Registry::default();
        let counters = Metrics::register(&mut registry);
        let keys = Keys::read(config).unwrap();
        let receiver = Receiver::start(config, &keys, limits, all, SystemClock::shared(), counters).await.unwrap();
        let (grpc, http) = (receiver.grpc_address().unwrap(), receiver.http_address().unwrap());
        let intake = receiver.intake.clone();
        Self {
            keys,
            receiver: Arc::new(Some(receiver).into()),
            intake,
            logs,
            traces,
            metrics,
            grpc,
            http,
            clients: [false, true].map(client),
            registry: registry.into(),
        }
    }

    async fn post(&self, path: &str, content_type: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> Answer {
        self.send(self.http, Version::HTTP_11, path, content_type, headers, body.into()).await
    }

    async fn post_logs(self, body: Bytes) -> Answer {
        self.post("/v1/logs", PROTOBUF, &[], body).await
    }

    async fn call(&self, path: &str, headers: Headers<'_>, body: Bytes) -> Answer {
        self.call_at(self.grpc, path, headers, body).await
    }

    async fn call_at(&self, address: SocketAddr, path: &str, headers: Headers<'_>, body: Bytes) -> Answer {
        self.send(address, Version::HTTP_2, path, "application/grpc", headers, body).await
    }

    async fn send(
        &self,
        address: SocketAddr,
        version: Version,
        path: &str,
        content_type: &str,
        headers: Headers<'_>,
        body: Bytes,
    ) -> Answer {
        self.request(address, version, &Method::POST, path, content_type, headers, body).await
    }

    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    async fn request(
        &self,
        address: SocketAddr,
        version: Version,
        method: &Method,
        path: &str,
        content_type: &str,
        headers: Headers<'_>,
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        request = request.version(version).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client = &self.clients[usize::from(version == Version::HTTP_2)];
        let response = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        Answer { status: head.status.as_u16(), headers: head.headers, trailers, body: body.to_bytes() }
    }

    async fn appended(&self, frames: u64) {
        let mut progress = crate::wal::Log::progress(&self.logs);
        progress.wait_for(|progress| progress.appended.0 >= frames).await.unwrap();
    }

    async fn until_draining(&self) {
        self.intake.state.subscribe().wait_for(|state| state.draining).await.unwrap();
    }
}

impl Config {
    fn ephemeral() -> Self {
        let mut config = Self::default();
        config.otlp.protocols.grpc.as_mut().unwrap().endpoint = "127.0.0.1:0".to_owned();
        config.otlp.protocols.http.as_mut().unwrap().endpoint = "127.0.0.1:0".to_owned();
        config
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    body: Bytes,
}

impl Answer {
    fn told(&self) -> (u16, &str, String) {
        let content_type = self.headers["content-type"].to_str().unwrap();
        (self.status, content_type, String::from_utf8(self.body.to_vec()).unwrap())
    }

    /// The body as a `google.rpc.Status`.
    fn status(&self) -> Status {
        Status::decode(self.body.clone()).unwrap()
    }

    fn code(&self) -> i32 {
        if self.headers["content-type"] == "application/json" {
            let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
            return json["code"].as_i64().unwrap() as i32;
        }
        self.status().code
    }

    fn grpc(&self) -> (i32, String) {
        let ends =
            self.trailers.as_ref().filter(|trailers| trailers.contains_key("grpc-status")).unwrap_or(&self.headers);
        let text = |name: &str| ends.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (text("grpc-status").parse().unwrap(), text("grpc-message"))
    }

    fn grpc_details(&self) -> Status {
        use base64::Engine;
        let packed = &self.headers["grpc-status-details-bin"];
        Status::decode(&*base64::engine::general_purpose::STANDARD_NO_PAD.decode(packed).unwrap()).unwrap()
    }

    fn partial_success(&self) -> (i64, String) {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
        let message = if self.headers["content-type"] == "application/grpc" { &self.body[5..] } else { &self.body };
        let partial_success = ExportLogsServiceResponse::decode(message).unwrap().partial_success.unwrap();
        (partial_success.rejected_log_records, partial_success.error_message)
    }
}

async fn export(
    channel: tonic::transport::Channel,
    request: ExportLogsServiceRequest,
) -> Result<opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_secs(20));
    let codec = tonic_prost::ProstCodec::default();
    client.unary(request, ::http::uri::PathAndQuery::from_static(LOGS), codec).await.map(tonic::Response::into_inner)
}

fn certificates(folder: &std::path::Path) -> (tls::Config, rustls::pki_types::CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    (tls::Config { cert_file, key_file, ..tls::Config::default() }, cert.der().clone())
}

/// A batch that is never taken for a copy.
fn untimed() -> Bytes {
    request(vec![record("it happened", 2)])
}

fn logs(records: u64) -> Bytes {
    request((0..records).map(|i| LogRecord { time_unix_nano: i + 1, ..record("it happened", 2) }).collect())
}

fn spans(records: usize) -> Bytes {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    let span = Span { name: "GET /".to_owned(), start_time_unix_nano: 1, ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span; records], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

fn points(records: usize) -> Bytes {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
    };
    let point = NumberDataPoint { time_unix_nano: 1, ..NumberDataPoint::default() };
    let data = Some(metric::Data::Gauge(Gauge { data_points: vec![point; records] }));
    let metrics = vec![Metric { name: "requests".to_owned(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into()
}

fn record(body: &str, attributes: usize) -> LogRecord {
    let text = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    let attributes =
        (0..attributes).map(|i| KeyValue { key: format!("key{i}"), value: text("value"), ..KeyValue::default() });
    LogRecord { body: text(body), attributes: attributes.collect(), ..LogRecord::default() }
}

/// A log record whose body claims to be text.
fn body_of_bytes(bytes: &[u8]) -> Bytes {
    let marker = "x".repeat(bytes.len());
    let mut request = request(vec![record(&marker, 0)]).to_vec();
    let at = request.windows(marker.len()).rposition(|window| window == marker.as_bytes()).unwrap();
    request[at..at + bytes.len()].copy_from_slice(bytes);
    request.into()
}

fn request(log_records: Vec<LogRecord>) -> Bytes {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

fn client(http2: bool) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(http2).build(connector)
}

fn framed(message: &[u8], flag: u8) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(flag);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
