use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use watchbell_proto::loki::PushRequest;
use watchbell_proto::otlp::service::{ExportResponse, Status};
use watchbell_rules::labels::Labels;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::Sample;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::memory_log::MemoryLog;
use crate::wal::{FrameKind, NewFrame, Position};

#[tokio::test]
async fn the_log_s_bytes_arrive_joined_and_the_cursor_follows() {
    for kind in [Kind::Grpc, Kind::Http] {
        for compression in ["none", "gzip", "zstd"] {
            let endpoint = Endpoint::start(kind, []).await;
            let log = MemoryLog::new();
            log.push(&b"first "[..], 2);
            log.push(&b"second"[..], 3);
            let exporter = endpoint.exporter(&log, &format!("compression: {compression}"));
            let request = endpoint.request(1).await;
            assert_eq!(request.body, "first second", "{kind:?} {compression}");
            assert_eq!(request.path, kind.path());
            log.push(&b"third"[..], 1);
            assert_eq!(endpoint.request(2).await.body, "third");
            exporter.stop().await;
            assert_eq!(log.committed(NAME), Some(Position(3)));
            exporter.assert_counted("sent_records", 6);
        }
    }
}

#[tokio::test]
async fn what_may_pass_is_sent_again_after_the_endpoint_s_wait() {
    let http = |status: u16| Reply { status, headers: vec![("retry-after", "0".to_owned())], ..Reply::default() };
    let grpc = |code: i32| Reply { code, ..Reply::default() };
    let exhausted = Status::new(8, "full").with_retry_delay(Duration::from_millis(1));
    let exhausted = Reply { code: 8, details: Some(exhausted), ..Reply::default() };
    let cases = [
        (Kind::Http, vec![http(429), http(502), http(503), http(504), Reply::hang_up()]),
        (
            Kind::Grpc,
            vec![grpc(14), grpc(1), grpc(4), grpc(10), grpc(11), grpc(15), exhausted, http(503), Reply::hang_up()],
        ),
    ];
    for (kind, replies) in cases {
        let failures = replies.len();
        let endpoint = Endpoint::start(kind, replies).await;
        let log = MemoryLog::new();
        log.push(&b"batch"[..], 1);
        let exporter = endpoint.exporter(&log, FAST_RETRY);
        for n in 1..=failures + 1 {
            assert_eq!(endpoint.request(n).await.body, "batch", "{kind:?}");
        }
        exporter.stop().await;
        assert_eq!(log.committed(NAME), Some(Position(1)), "{kind:?}");
        exporter.assert_counted("retries", failures as u64);
        exporter.assert_counted("sent_records", 1);
    }
}

#[tokio::test]
async fn what_will_never_be_taken_is_counted_and_passed_by() {
    let partial = Bytes::from(ExportResponse::partial(2, "too old").to_protobuf());
    for (kind, refusal) in
        [(Kind::Http, Reply { status: 400, ..Reply::default() }), (Kind::Grpc, Reply { code: 3, ..Reply::default() })]
    {
        let endpoint = Endpoint::start(kind, [refusal, Reply { body: partial.clone(), ..Reply::default() }]).await;
        let log = MemoryLog::new();
        log.push(&b"bad"[..], 5);
        let exporter = endpoint.exporter(&log, FAST_RETRY);
        endpoint.request(1).await;
        log.push(&b"half bad"[..], 3);
        endpoint.request(2).await;
        exporter.stop().await;
        assert_eq!(log.committed(NAME), Some(Position(2)));
        exporter.assert_counted("dropped_records", 7);
        exporter.assert_counted("sent_records", 1);
    }
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_halves() {
    for (kind, refusal) in
        [(Kind::Http, Reply { status: 413, ..Reply::default() }), (Kind::Grpc, Reply { code: 8, ..Reply::default() })]
    {
        let endpoint = Endpoint::start(kind, [refusal]).await;
        let log = MemoryLog::new();
        log.push(&b"left"[..], 1);
        log.push(&b"right"[..], 1);
        let exporter = endpoint.exporter(&log, "sending_queue: {num_consumers: 1}");
        endpoint.request(3).await;
        assert_eq!(endpoint.bodies(), ["leftright", "left", "right"]);
        exporter.stop().await;
        exporter.assert_counted("sent_records", 2);
    }
}

#[tokio::test]
async fn only_what_is_durable_is_passed_on() {
    let endpoint = Endpoint::start(Kind::Http, []).await;
    let log = MemoryLog::new();
    log.push(&b"durable"[..], 1);
    log.hold(true);
    log.push(&b"not yet"[..], 1);
    let exporter = endpoint.exporter(&log, "");
    assert_eq!(endpoint.request(1).await.body, "durable");
    log.hold(false);
    assert_eq!(endpoint.request(2).await.body, "not yet");
    exporter.stop().await;
}

#[tokio::test]
async fn a_slow_endpoint_gets_as_many_requests_as_it_may_and_no_more() {
    let slow = Reply { waits: true, ..Reply::default() };
    let endpoint = Endpoint::start(Kind::Http, vec![slow; 8]).await;
    let log = MemoryLog::new();
    for _ in 0..8 {
        log.push(vec![b'x'; 100], 1);
    }
    let exporter =
        endpoint.exporter(&log, "sending_queue: {num_consumers: 2, request_bytes_max: 100, queue_bytes_max: 300}");
    endpoint.request(2).await;
    assert_eq!((endpoint.bodies().len(), endpoint.open()), (2, 2));
    exporter.assert_counted("queue_bytes", 300);
    endpoint.go_on();
    endpoint.request(8).await;
    exporter.stop().await;
    assert_eq!((endpoint.most_open(), log.committed(NAME)), (2, Some(Position(8))));
}

#[tokio::test]
async fn an_exporter_that_was_dead_goes_on_where_it_was() {
    let endpoint = Endpoint::start(Kind::Grpc, [Reply { waits: true, ..Reply::default() }]).await;
    let log = MemoryLog::new();
    log.push(&b"lost in flight"[..], 1);
    let exporter = endpoint.exporter(&log, "");
    endpoint.request(1).await;
    drop(exporter);
    assert_eq!(log.committed(NAME), Some(Position(0)));
    endpoint.go_on();
    let exporter = endpoint.exporter(&log, "");
    assert_eq!(endpoint.request(2).await.body, "lost in flight");
    exporter.stop().await;
    assert_eq!(log.committed(NAME), Some(Position(1)));
}

#[tokio::test]
async fn loki_gets_streams_sorted_by_time_with_their_metadata() {
    let endpoint = Endpoint::start(Kind::Loki, [Reply { status: 204, ..Reply::default() }]).await;
    let log = MemoryLog::new();
    log.push(logs("checkout", &[(3, "third"), (1, "first")]), 2);
    log.push(logs("payment", &[(2, "other")]), 1);
    log.push(logs("checkout", &[(2, "second")]), 1);
    let exporter = endpoint.exporter(&log, "tenant_id: team-a");
    let request = endpoint.request(1).await;
    exporter.stop().await;
    assert_eq!(
        request.body,
        r#"{service_name="checkout"} 1 first {detected_level=error,severity_number=17,span_id=0202020202020202,trace_id=01010101010101010101010101010101,zone=a}
{service_name="checkout"} 2 second {detected_level=error,severity_number=17,span_id=0202020202020202,trace_id=01010101010101010101010101010101,zone=a}
{service_name="checkout"} 3 third {detected_level=error,severity_number=17,span_id=0202020202020202,trace_id=01010101010101010101010101010101,zone=a}
{service_name="payment"} 2 other {detected_level=error,severity_number=17,span_id=0202020202020202,trace_id=01010101010101010101010101010101,zone=a}
"#
    );
    assert_eq!(
        (request.path.as_str(), &request.headers["x-scope-orgid"]),
        ("/loki/api/v1/push", &"team-a".parse().unwrap())
    );
    exporter.assert_counted("sent_records", 4);
}

/// So that it is the same entry when it is sent again.
#[tokio::test]
async fn a_record_without_a_time_gets_the_time_of_its_arrival() {
    let endpoint = Endpoint::start(Kind::Loki, [Reply { status: 204, ..Reply::default() }]).await;
    let log = MemoryLog::new();
    log.push(logs("checkout", &[(7, "stamped")]), 1);
    log.push(logs("checkout", &[(0, "not stamped")]), 1);
    assert_eq!(log.frames()[1].received, Timestamp(1));
    let exporter = endpoint.exporter(&log, "");
    let body = endpoint.request(1).await.body;
    exporter.stop().await;
    let stamps: Vec<_> = body.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(stamps, ["1", "7"]);
}

#[tokio::test]
async fn loki_s_answers_are_understood() {
    let body = Bytes::from("entry for stream '{a=\"b\"}' has timestamp too old: 2026-11-14T16:14:03Z");
    let status = |status| Reply {
        status,
        body: body.clone(),
        headers: vec![("retry-after", "0".to_owned())],
        ..Reply::default()
    };
    let endpoint = Endpoint::start(Kind::Loki, [429, 500, 503, 400].map(status)).await;
    let log = MemoryLog::new();
    log.push(logs("checkout", &[(1, "too old"), (2, "fine")]), 2);
    let exporter = endpoint.exporter(&log, FAST_RETRY);
    endpoint.request(4).await;
    exporter.stop().await;
    exporter.assert_counted("retries", 3);
    exporter.assert_counted("partly_refused_records", 2);
    exporter.assert_counted("dropped_records", 0);
    assert_eq!(log.committed(NAME), Some(Position(1)));
}

#[tokio::test]
async fn loki_gets_what_is_too_large_in_halves_and_one_entry_alone_is_lost() {
    let status = |status| Reply { status, ..Reply::default() };
    let endpoint = Endpoint::start(Kind::Loki, [413, 204, 413, 204, 413].map(status)).await;
    let log = MemoryLog::new();
    log.push(logs("checkout", &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]), 4);
    let exporter = endpoint.exporter(&log, "");
    endpoint.request(5).await;
    exporter.stop().await;
    let lines: Vec<String> = endpoint
        .bodies()
        .iter()
        .map(|body| body.lines().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect())
        .collect();
    assert_eq!(lines, ["abcd", "ab", "cd", "c", "d"]);
    exporter.assert_counted("sent_records", 3);
    exporter.assert_counted("dropped_records", 1);
}

/// By either way, Loki takes nothing of a request that holds one record of which it can make no labels.
#[tokio::test]
async fn a_record_that_loki_cannot_read_takes_no_other_with_it() {
    let refusal = Status::new(0, "symbolizer lookup: label name is empty").to_protobuf();
    let refused = Reply { status: 400, body: refusal.into(), ..Reply::default() };
    let taken = Reply { status: 204, ..Reply::default() };
    for kind in [Kind::Loki, Kind::LokiOtlp] {
        let replies = [&refused, &taken, &refused, &refused, &taken].map(Clone::clone);
        let endpoint = Endpoint::start(kind, replies).await;
        let log = MemoryLog::new();
        log.push(logs("checkout", &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]), 4);
        let exporter = endpoint.exporter(&log, "");
        endpoint.request(5).await;
        exporter.stop().await;
        exporter.assert_counted("sent_records", 3);
        exporter.assert_counted("dropped_records", 1);
        exporter.assert_counted("partly_refused_records", 0);
    }
}

#[tokio::test]
async fn samples_go_to_prometheus_by_series_and_never_back_in_time() {
    let slow = Reply { waits: true, ..Reply::default() };
    let endpoint = Endpoint::start(Kind::RemoteWrite, [slow]).await;
    let exporter = endpoint.exporter(&MemoryLog::new(), "external_labels: {cluster: eu}");
    let samples = exporter.samples();
    samples.send(&sample("up", 1, 1.0));
    endpoint.request(1).await;
    for (name, seconds, value) in [("b", 1, 5.0), ("a", 2, 6.0), ("b", 2, 7.0), ("b", 2, 8.0), ("up", 1, 9.0)] {
        samples.send(&sample(name, seconds, value));
    }
    samples.send(&Sample { value: Sample::stale_marker(), ..sample("b", 3, 0.0) });
    endpoint.go_on();
    let second = endpoint.request(2).await;
    exporter.stop().await;
    assert_eq!(endpoint.bodies()[0], "__name__=up,cluster=eu 1000:1\n");
    assert_eq!(
        second.body,
        "__name__=b,cluster=eu 1000:5\n__name__=a,cluster=eu 2000:6\n__name__=b,cluster=eu 2000:7\n__name__=b,cluster=eu 3000:stale\n"
    );
    assert_eq!(second.headers["x-prometheus-remote-write-version"], "0.1.0");
    exporter.assert_counted("lost_records", 2);
    exporter.assert_counted("sent_records", 5);
}

#[tokio::test]
async fn samples_wait_for_a_dead_prometheus_up_to_their_limit() {
    let endpoint =
        Endpoint::start(Kind::RemoteWrite, [503, 429].map(|status| Reply { status, ..Reply::default() })).await;
    let exporter = endpoint.exporter(&MemoryLog::new(), &format!("samples_max: 3\n  {FAST_RETRY}"));
    for seconds in 1..=5 {
        exporter.samples().send(&sample("up", seconds, 1.0));
    }
    endpoint.request(3).await;
    exporter.stop().await;
    assert_eq!(endpoint.bodies(), vec!["__name__=up 3000:1\n__name__=up 4000:1\n__name__=up 5000:1\n"; 3]);
    exporter.assert_counted("lost_records", 2);
}

#[tokio::test]
async fn samples_that_prometheus_refuses_take_no_new_one_with_them() {
    for (why, counted) in [("out of order sample", "replayed_records"), ("label name is invalid", "dropped_records")] {
        let waits = Reply { waits: true, ..Reply::default() };
        let status = |status| Reply { status, body: why.into(), ..Reply::default() };
        let replies = [waits].into_iter().chain([400, 400, 400, 204, 204].map(status));
        let endpoint = Endpoint::start(Kind::RemoteWrite, replies).await;
        let exporter = endpoint.exporter(&MemoryLog::new(), FAST_RETRY);
        exporter.samples().send(&sample("first", 1, 1.0));
        endpoint.request(1).await;
        for seconds in 2..=5 {
            exporter.samples().send(&sample("up", seconds, 1.0));
        }
        endpoint.go_on();
        endpoint.request(6).await;
        exporter.stop().await;
        let stamps: Vec<String> =
            endpoint.bodies()[1..].iter().map(|body| body.replace("__name__=up ", "").replace("000:1\n", "")).collect();
        assert_eq!(stamps, ["2345", "23", "2", "3", "45"]);
        for name in ["replayed_records", "dropped_records"] {
            exporter.assert_counted(name, u64::from(name == counted));
        }
    }
}

#[tokio::test]
async fn a_dead_endpoint_does_not_hold_up_the_end() {
    let endpoint = Endpoint::start(Kind::Http, [Reply { status: 503, ..Reply::default() }]).await;
    let log = MemoryLog::new();
    log.push(&b"batch"[..], 1);
    let exporter = endpoint.exporter(&log, "retry_on_failure: {initial_interval: 1h, max_interval: 1h}");
    endpoint.request(1).await;
    exporter.stop().await;
    assert_eq!((endpoint.bodies().len(), log.committed(NAME)), (1, Some(Position(0))));
}

#[tokio::test]
async fn headers_and_timeouts_go_along() {
    let endpoint = Endpoint::start(Kind::Grpc, []).await;
    let log = MemoryLog::new();
    log.push(&b"batch"[..], 1);
    let exporter = endpoint.exporter(&log, "headers: {X-Scope-OrgID: tenant}\n  timeout: 2s");
    let headers = endpoint.request(1).await.headers;
    exporter.stop().await;
    assert_eq!(
        (&headers["x-scope-orgid"], &headers["grpc-timeout"]),
        (&"tenant".parse().unwrap(), &"2000m".parse().unwrap())
    );
    assert_eq!((&headers["te"], &headers["grpc-encoding"]), (&"trailers".parse().unwrap(), &"gzip".parse().unwrap()));
}

#[tokio::test]
async fn a_token_that_is_written_anew_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer first").unwrap();
    let endpoint = Endpoint::start(Kind::Http, []).await;
    let (log, clock) = (MemoryLog::new(), ManualClock::at(Timestamp(0)));
    let settings = format!("headers: {{Authorization_file: '{}'}}", token.display());
    let exporter = endpoint.exporter_at(&log, &settings, clock.clone());
    let mut requests = 0;
    let mut sent = async |after: Duration| {
        clock.advance(after);
        log.push(&b"batch"[..], 1);
        requests += 1;
        endpoint.request(requests).await.headers["authorization"].to_str().unwrap().to_owned()
    };
    assert_eq!(sent(Duration::ZERO).await, "Bearer first");
    std::fs::write(&token, "Bearer of the next hour").unwrap();
    assert_eq!(sent(Duration::from_secs(10)).await, "Bearer of the next hour");
    std::fs::remove_file(&token).unwrap();
    assert_eq!(
        sent(Duration::from_secs(10)).await,
        "Bearer of the next hour",
        "what cannot be read takes nothing away"
    );
    std::fs::write(&token, "").unwrap();
    assert_eq!(sent(Duration::from_secs(10)).await, "Bearer of the next hour", "it may be being written");
    std::fs::write(&token, "Bearer of the last").unwrap();
    assert_eq!(sent(Duration::from_secs(10)).await, "Bearer of the last");
    exporter.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_refused_for_a_token_of_before_is_sent_again_with_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer first").unwrap();
    let refusals = [true, false].map(|waits| Reply { status: 401, waits, ..Reply::default() });
    let endpoint = Endpoint::start(Kind::Http, refusals).await;
    let log = MemoryLog::new();
    log.push(&b"batch"[..], 1);
    let settings = format!("headers: {{Authorization_file: '{}'}}\n  {FAST_RETRY}", token.display());
    let exporter = endpoint.exporter(&log, &settings);
    assert_eq!(endpoint.request(1).await.headers["authorization"], "Bearer first");
    std::fs::write(&token, "Bearer of the next hour").unwrap();
    endpoint.go_on();
    assert_eq!(endpoint.request(2).await.headers["authorization"], "Bearer of the next hour");
    log.push(&b"another"[..], 1);
    assert_eq!(endpoint.request(3).await.body, "another", "what is refused with the token of now is given up");
    exporter.stop().await;
    exporter.assert_counted("dropped_records", 1);
    exporter.assert_counted("sent_records", 1);
}

#[test]
fn the_config_is_the_collector_s() {
    let read = |yaml: &str| serde_saphyr::from_str::<Config>(yaml);
    let config = read(
        "otlp_grpc/tempo: {endpoint: 'tempo:4317', signals: [traces], tls: {insecure: true}, headers: {a: b}, timeout: 1s, \
         compression: zstd, retry_on_failure: {enabled: false}, sending_queue: {num_consumers: 2}}\n\
         otlp: {endpoint: 'http://x:4317'}\notlphttp: {endpoint: 'http://y:4318'}\notlp_http/loki: {logs_endpoint: 'http://z/otlp/v1/logs', signals: [logs]}",
    )
    .unwrap();
    assert_eq!(config.0.keys().collect::<Vec<_>>(), ["otlp", "otlp_grpc/tempo", "otlp_http/loki", "otlphttp"]);
    assert!(read("").unwrap().0.is_empty());
    for (yaml, expected) in [
        ("kafka: {}", "there is no exporter `kafka`"),
        ("otlp: {}", "endpoint"),
        ("otlp: {endpoint: x, signals: [log]}", "log"),
        ("otlp: {endpoint: x, compression: snappy}", "snappy"),
        ("otlp: {endpoint: x, retry_on_failure: {max_interval: soon}}", "soon"),
    ] {
        let error = read(yaml).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_are_told_with_the_exporter_s_name() {
    for (yaml, expected) in [
        ("otlp_http/a: {endpoint: 'loki:3100'}", "exporters.otlp_http/a: `loki:3100/v1/logs` is no URL"),
        ("otlp_http: {}", "it needs `endpoint`, or `logs_endpoint`"),
        ("otlp: {endpoint: 'a b'}", "exporters.otlp: `endpoint` `a b` is none"),
        ("otlp: {endpoint: 'a:1', headers: {'a b': c}}", "`a b` is no name of a header"),
    ] {
        let config = serde_saphyr::from_str::<Config>(yaml).unwrap();
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
        let metrics = Metrics::register(&mut Registry::default());
        let error = Exporters::start(&config, |_| log.clone(), SystemClock::shared(), metrics).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

const NAME: &str = "under_test";
const FAST_RETRY: &str = "retry_on_failure: {initial_interval: 1ms, max_interval: 2ms}";

/// A server that answers as told and keeps what it was sent.
#[derive(Clone)]
struct Endpoint(Arc<Shared>);

struct Shared {
    kind: Kind,
    address: SocketAddr,
    replies: Mutex<VecDeque<Reply>>,
    requests: watch::Sender<Vec<Received>>,
    /// Whether replies that wait may go.
    goes_on: watch::Sender<bool>,
    /// Requests that are open now, and the most that were at one time.
    open: Mutex<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Http,
    Loki,
    LokiOtlp,
    RemoteWrite,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Grpc => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Http => "/v1/logs",
            Self::Loki => "/loki/api/v1/push",
            Self::LokiOtlp => "/otlp/v1/logs",
            Self::RemoteWrite => "/api/v1/write",
        }
    }

    fn settings(self, address: SocketAddr) -> String {
        match self {
            Self::Grpc => format!("otlp_grpc:\n  signals: [logs]\n  endpoint: http://{address}"),
            Self::Http => format!("otlp_http:\n  signals: [logs]\n  endpoint: http://{address}"),
            Self::Loki => format!("loki:\n  endpoint: http://{address}"),
            Self::LokiOtlp => format!("loki:\n  endpoint: http://{address}/otlp"),
            Self::RemoteWrite => format!("prometheus_remote_write:\n  endpoint: http://{address}/api/v1/write"),
        }
    }
}

#[derive(Clone)]
struct Received {
    path: String,
    headers: HeaderMap,
    /// Decompressed, without gRPC's prefix.
    body: String,
}

/// An answer; the default is a plain success.
#[derive(Clone)]
struct Reply {
    status: u16,
    code: i32,
    headers: Vec<(&'static str, String)>,
    details: Option<Status>,
    body: Bytes,
    waits: bool,
    hangs_up: bool,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: 200, code: 0, headers: vec![], details: None, body: Bytes::new(), waits: false, hangs_up: false }
    }
}

impl Reply {
    fn hang_up() -> Self {
        Self { hangs_up: true, ..Self::default() }
    }
}

impl Endpoint {
    async fn start(kind: Kind, replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared {
            kind,
            address: listener.local_addr().unwrap(),
            replies: Mutex::new(replies.into_iter().collect()),
            requests: watch::Sender::default(),
            goes_on: watch::Sender::new(false),
            open: Mutex::default(),
        };
        let endpoint = Self(Arc::new(shared));
        let served = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let endpoint = served.clone();
                let service = service_fn(move |request| endpoint.clone().answer(request));
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        endpoint
    }

    async fn answer(self, request: http::Request<Incoming>) -> Result<Response<Frames>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let encoding = head.headers.get("content-encoding").or(head.headers.get("grpc-encoding"));
        let compressed = if self.0.kind == Kind::Grpc { &body[5..] } else { &body[..] };
        let body = match self.0.kind {
            Kind::Loki => loki_text(compressed),
            Kind::RemoteWrite => remote_write_text(compressed),
            _ => decompress(encoding.map_or("", |value| value.to_str().unwrap()), compressed),
        };
        let reply = self.0.replies.lock().unwrap().pop_front().unwrap_or_default();
        self.count_open(1);
        let received = Received { path: head.uri.path().to_owned(), headers: head.headers, body };
        self.0.requests.send_modify(|requests| requests.push(received));
        if reply.waits {
            let _ = self.0.goes_on.subscribe().wait_for(|goes_on| *goes_on).await;
        }
        self.count_open(-1);
        if reply.hangs_up { Err(std::io::Error::other("told to hang up")) } else { Ok(self.response(&reply)) }
    }

    fn response(&self, reply: &Reply) -> Response<Frames> {
        let mut response = Response::builder().status(reply.status);
        for (name, value) in &reply.headers {
            response = response.header(*name, value);
        }
        let mut frames = Vec::new();
        if self.0.kind == Kind::Grpc && reply.status == 200 {
            response = response.header("content-type", "application/grpc");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", reply.code.into());
            if let Some(details) = &reply.details {
                use base64::Engine;
                let packed = base64::engine::general_purpose::STANDARD.encode(details.to_protobuf());
                trailers.insert("grpc-status-details-bin", packed.parse().unwrap());
            }
            let length = (reply.body.len() as u32).to_be_bytes();
            frames.push(Frame::data([&[0][..], &length, &reply.body].concat().into()));
            frames.push(Frame::trailers(trailers));
        } else {
            frames.push(Frame::data(reply.body.clone()));
        }
        response.body(Frames(frames.into())).unwrap()
    }

    fn count_open(&self, change: isize) {
        let mut open = self.0.open.lock().unwrap();
        open.0 = open.0.checked_add_signed(change).unwrap();
        open.1 = open.1.max(open.0);
    }

    fn open(&self) -> usize {
        self.0.open.lock().unwrap().0
    }

    fn most_open(&self) -> usize {
        self.0.open.lock().unwrap().1
    }

    fn go_on(&self) {
        self.0.goes_on.send_replace(true);
    }

    /// The n-th request, from 1, when it has come.
    async fn request(&self, n: usize) -> Received {
        let mut requests = self.0.requests.subscribe();
        let requests = requests.wait_for(|requests| requests.len() >= n);
        tokio::time::timeout(Duration::from_secs(120), requests).await.expect("no request").unwrap()[n - 1].clone()
    }

    fn bodies(&self) -> Vec<String> {
        self.0.requests.borrow().iter().map(|request| request.body.clone()).collect()
    }

    /// An exporter of logs to here, with these settings beside.
    fn exporter(&self, log: &MemoryLog, settings: &str) -> Running {
        self.exporter_at(log, settings, SystemClock::shared())
    }

    fn exporter_at(&self, log: &MemoryLog, settings: &str, clock: SharedClock) -> Running {
        let yaml = format!("{}\n  {settings}\n", self.0.kind.settings(self.0.address));
        let config = serde_saphyr::from_str::<Config>(&yaml).unwrap();
        let config = Config(config.0.into_values().map(|config| (NAME.to_owned(), config)).collect());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let log: Arc<dyn Log> = Arc::new(log.clone());
        let exporters = Exporters::start(&config, |_| log.clone(), clock, metrics).unwrap();
        Running { exporters: Mutex::new(Some(exporters)), registry }
    }
}

/// A Loki push as lines.
fn loki_text(body: &[u8]) -> String {
    let body = watchbell_proto::snappy::decompress(body, 1 << 20).unwrap();
    let mut text = String::new();
    for stream in PushRequest::validate(&body).unwrap().streams() {
        for entry in stream.entries() {
            let mut metadata: Vec<_> =
                entry.structured_metadata().map(|(name, value)| format!("{name}={value}")).collect();
            metadata.sort();
            let (labels, time, line) = (stream.labels(), entry.time_unix_nano(), entry.line());
            text += &format!("{labels} {time} {line} {{{}}}\n", metadata.join(","));
        }
    }
    text
}

/// A remote write as lines.
fn remote_write_text(body: &[u8]) -> String {
    let body = watchbell_proto::snappy::decompress(body, 1 << 20).unwrap();
    let mut text = String::new();
    for series in WriteRequest::decode(&*body).unwrap().timeseries {
        let labels: Vec<_> = series.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
        text += &labels.join(",");
        for sample in series.samples {
            let stale = sample.value.to_bits() == Sample::STALE_BITS;
            let value = if stale { "stale".to_owned() } else { sample.value.to_string() };
            text += &format!(" {}:{value}", sample.timestamp);
        }
        text.push('\n');
    }
    text
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<WireSample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

fn sample(name: &str, seconds: i64, value: f64) -> Sample {
    Sample { labels: Labels::new([("__name__", name)]), time: Timestamp(seconds * 1_000_000_000), value }
}

/// Error records of one service, in a trace.
fn logs(service: &str, records: &[(u64, &str)]) -> Vec<u8> {
    let text = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    let attribute =
        |key: &str, value: &str| KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() };
    let record = |(time, body): &(u64, &str)| LogRecord {
        time_unix_nano: *time,
        severity_number: 17,
        body: text(body),
        attributes: vec![attribute("zone", "a")],
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: records.iter().map(record).collect(), ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() });
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

struct Running {
    exporters: Mutex<Option<Exporters>>,
    registry: Registry,
}

impl Running {
    fn samples(&self) -> Samples {
        self.exporters.lock().unwrap().as_ref().unwrap().samples()
    }

    async fn stop(&self) {
        let exporters = self.exporters.lock().unwrap().take().unwrap();
        assert!(exporters.drain(Duration::from_secs(120)).await, "did not end");
    }

    fn assert_counted(&self, what: &str, expected: u64) {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("watchbell_exporter_{what}")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        assert_eq!(value, Some(expected), "{what} in\n{text}");
    }
}

struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn decompress(encoding: &str, body: &[u8]) -> String {
    let mut bytes = vec![];
    match encoding {
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut bytes).unwrap()),
        "zstd" => drop(zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut bytes).unwrap()),
        _ => bytes.extend_from_slice(body),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl MemoryLog {
    /// Puts a batch in, as a receiver would.
    fn push(&self, payload: impl Into<Bytes>, records: u32) {
        let payload = payload.into();
        drop(self.append(NewFrame { kind: FrameKind::Batch, hash: 0, event_span: None, records, payload }));
    }
}
