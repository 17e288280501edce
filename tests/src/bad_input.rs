//! Truncated, oversized, mislabelled and random input on every endpoint: refused with the right status, nothing of it gets behind the
//! door, and the collector goes on.

use std::io::Write;
use std::net::TcpStream;

use ::http::{Method, Request};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;

use crate::support::http::Response;
use crate::support::random::Random;
use crate::support::sink::Sink;
use crate::support::watchbell::Watchbell;
use crate::support::{DEADLINE, RUNTIME, http, otlp};

const PATHS: [&str; 3] = ["/v1/logs", "/v1/traces", "/v1/metrics"];
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

#[test]
fn otlp_http_refuses_what_will_never_decode() {
    with_collector(|watchbell| {
        let good = good_request();
        for path in PATHS {
            for end in (1..good.len()).step_by(7) {
                refuses(watchbell, path, PROTOBUF, None, &good[..end], 400);
            }
            for seed in 0..50 {
                refuses(watchbell, path, PROTOBUF, None, &[&[0xff], random(seed, 300).as_slice()].concat(), 400);
                refuses(watchbell, path, JSON, None, &random(seed, 300), 400);
                refuses(watchbell, path, PROTOBUF, Some("gzip"), &random(seed, 300), 400);
                refuses(watchbell, path, PROTOBUF, Some("zstd"), &random(seed, 300), 400);
            }
            let zipped = gzip(&good);
            refuses(watchbell, path, PROTOBUF, Some("gzip"), &zipped[..zipped.len() / 2], 400);
            refuses(
                watchbell,
                path,
                JSON,
                None,
                b"{\"resourceLogs\": 1, \"resourceSpans\": 1, \"resourceMetrics\": 1}",
                400,
            );
            refuses(watchbell, path, JSON, None, "[".repeat(100_000).as_bytes(), 400);
        }
        let mut not_utf8 = good.clone();
        let at = not_utf8.windows(7).position(|bytes| bytes == b"payment").unwrap();
        not_utf8[at] = 0xff;
        refuses(watchbell, "/v1/logs", PROTOBUF, None, &not_utf8, 400);
    });
}

#[test]
fn otlp_http_refuses_mislabelled_requests() {
    with_collector(|watchbell| {
        let good = good_request();
        for path in PATHS {
            refuses(watchbell, path, "text/plain", None, &good, 415);
            refuses(watchbell, path, JSON, None, &good, 400);
            refuses(watchbell, path, PROTOBUF, None, b"{\"resourceLogs\": []}", 400);
            refuses(watchbell, path, PROTOBUF, Some("br"), &good, 415);
            let get = Request::get(watchbell.http_url(path)).body(Full::default()).unwrap();
            assert_eq!(http::send(get).unwrap().status, 405);
        }
        for path in ["/", "/v1/profiles", "/v1/logs/", "/%ff", "/../etc/passwd"] {
            assert_eq!(post(watchbell, path, PROTOBUF, None, &good).status, 404, "{path}");
        }
    });
}

#[test]
fn otlp_http_refuses_what_is_too_large() {
    with_collector(|watchbell| {
        let bomb = gzip(&vec![0; 65 << 20]);
        assert!(bomb.len() < 1 << 20);
        for path in PATHS {
            refuses(watchbell, path, PROTOBUF, Some("gzip"), &bomb, 413);
        }
        // The length is refused before the body is sent.
        let mut stream = TcpStream::connect(("127.0.0.1", watchbell.http)).unwrap();
        write!(
            stream,
            "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
            65 << 20
        )
        .unwrap();
        assert!(first_line(stream).contains(" 413 "));
    });
}

#[test]
fn otlp_grpc_refuses_what_will_never_decode() {
    with_collector(|watchbell| {
        let good = good_request();
        for service in ["logs.v1.Logs", "trace.v1.Trace", "metrics.v1.Metrics"] {
            let method = format!("/opentelemetry.proto.collector.{service}Service/Export");
            let invalid = "3";
            assert_eq!(
                grpc(watchbell, &method, None, &frame(0, &good[..good.len() / 2])),
                invalid,
                "truncated message"
            );
            assert_eq!(
                grpc(watchbell, &method, None, &frame(0, &[&[0xff], random(1, 200).as_slice()].concat())),
                invalid
            );
            for (what, encoding, body) in [
                ("a frame that ends early", None, frame(0, &good)[..20].to_vec()),
                ("a frame's head that ends early", None, vec![0, 0, 0]),
                ("compressed without saying how", None, frame(1, &gzip(&good))),
                ("not gzip", Some("gzip"), frame(1, &random(2, 200))),
                ("an unknown encoding", Some("br"), frame(1, &good)),
                ("an unknown flag", None, frame(9, &good)),
                ("no message at all", None, vec![]),
                ("a bomb", Some("gzip"), frame(1, &gzip(&vec![0; 65 << 20]))),
                ("a length over the limit", None, [&[0, 0xff, 0xff, 0xff, 0xff], good.as_slice()].concat()),
            ] {
                assert_ne!(grpc(watchbell, &method, encoding, &body), "0", "{what}");
            }
        }
        assert_eq!(grpc(watchbell, "/opentelemetry.proto.collector.logs.v1.LogsService/Import", None, &[]), "12");
    });
}

#[test]
fn no_port_minds_noise() {
    with_collector(|watchbell| {
        for port in watchbell.ports() {
            let mut idle = vec![];
            for seed in 0..50 {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let start: &[u8] = match seed % 4 {
                    0 => b"POST /v1/logs HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n",
                    1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    2 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                    _ => b"",
                };
                // The collector may hang up at any byte.
                let _ = stream.write_all(start).and_then(|()| stream.write_all(&random(seed, 2000)));
                idle.push(stream);
            }
            assert_eq!(http::get(&watchbell.api_url("/-/healthy")).unwrap().status, 200);
        }
    });
}

#[test]
fn the_api_refuses_nonsense() {
    with_collector(|watchbell| {
        for path in [
            "/",
            "/-/healthy",
            "/-/ready",
            "/metrics",
            "/api/v1/rules",
            "/api/v1/alerts",
            "/-/reload",
            "/nonsense",
            "/%ff%00",
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
                if (method.as_str(), path) == ("POST", "/-/reload") {
                    continue;
                }
                let request = Request::builder().method(method.clone()).uri(watchbell.api_url(path));
                let status = http::send(request.body(Full::from(random(3, 5000))).unwrap()).unwrap().status;
                assert!(status.is_client_error(), "{method} {path}: {status}");
            }
        }
        for query in ["type=nonsense", "%ff", "a=b=c&&&", "type=alert&rule_name[]=%00"] {
            let status = http::get(&watchbell.api_url(&format!("/api/v1/rules?{query}"))).unwrap().status;
            assert!(!status.is_server_error(), "{query}: {status}");
        }
    });
}

/// Runs `test` on a collector, then sees that it still works and that the far end has the one good request alone.
#[track_caller]
fn with_collector(test: impl FnOnce(&Watchbell)) {
    let sink = Sink::start();
    let watchbell = Watchbell::start(&sink.exporter(), "groups: []\n");
    test(&watchbell);
    assert_eq!(http::get(&watchbell.api_url("/-/healthy")).unwrap().status, 200);
    watchbell.send(&otlp::logs("checkout", [otlp::error("the good one")]));
    let records = sink.wait_records(1);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["body"]["stringValue"], "the good one");
    assert_eq!(sink.requests().len(), 1, "nothing but logs came");
}

/// A refusal has the right status, and a `google.rpc.Status` in the request's own encoding.
#[track_caller]
fn refuses(watchbell: &Watchbell, path: &str, content_type: &str, encoding: Option<&str>, body: &[u8], status: u16) {
    let response = post(watchbell, path, content_type, encoding, body);
    assert_eq!(response.status, status, "{path} {content_type} {encoding:?}: {}", response.text());
    match content_type {
        JSON => assert!(response.json()["message"].is_string(), "{}", response.text()),
        PROTOBUF => {
            assert_eq!(response.headers["content-type"], PROTOBUF);
            let status = RpcStatus::decode(response.body.clone()).unwrap();
            assert!(!status.message.is_empty(), "{status:?}");
        }
        _ => (),
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[track_caller]
fn post(watchbell: &Watchbell, path: &str, content_type: &str, encoding: Option<&str>, body: &[u8]) -> Response {
    let mut request = Request::post(watchbell.http_url(path)).header("content-type", content_type);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    http::send(request.body(Full::from(body.to_vec())).unwrap()).unwrap_or_else(|| panic!("{path}: no answer"))
}

/// Sends a body to a gRPC method; returns the status, or how the stream ended.
fn grpc(watchbell: &Watchbell, method: &str, encoding: Option<&str>, body: &[u8]) -> String {
    let url = format!("http://127.0.0.1:{}{method}", watchbell.grpc);
    let mut request = Request::post(url).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let answer = RUNTIME.block_on(async {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let (head, body) = client.request(request).await.map_err(|error| error.to_string())?.into_parts();
        let trailers = body.collect().await.map_err(|error| error.to_string())?.trailers().cloned();
        let status = trailers.unwrap_or_default().get("grpc-status").or(head.headers.get("grpc-status")).cloned();
        status.map(|status| status.to_str().unwrap().to_owned()).ok_or_else(|| format!("HTTP {}", head.status))
    });
    answer.unwrap_or_else(|how| how)
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), message].concat()
}

#[track_caller]
fn first_line(mut stream: TcpStream) -> String {
    use std::io::Read;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn good_request() -> Vec<u8> {
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        severity_number: 17,
        body: Some(AnyValue { value: Some(Value::StringValue("payment refused".to_owned())) }),
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record; 3], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn random(seed: u64, length: usize) -> Vec<u8> {
    Random::new(seed).bytes(length)
}
