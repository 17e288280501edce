//! An OTLP receiver in a thread of its own: tonic for gRPC, axum for HTTP.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use watchbell_proto::otlp::Signal;
use watchbell_proto::otlp::json::to_protobuf;
use watchbell_proto::otlp::service::ExportResponse;

/// What the receiver answers next; when the script is at its end, it accepts.
#[derive(Clone, Debug)]
pub(crate) enum Scripted {
    /// 429 with `Retry-After`, or RESOURCE_EXHAUSTED with `RetryInfo`: this many seconds.
    Busy(u64),
    /// 503 or UNAVAILABLE.
    Unavailable,
    /// 400 or INVALID_ARGUMENT.
    Invalid,
    /// 400 with more text than anybody reads, or INVALID_ARGUMENT.
    InvalidAtLength,
    /// Accepted but for so many records.
    Partial(i64),
}

/// A log record with what it came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) resource: HashMap<String, Value>,
    pub(crate) scope: String,
    pub(crate) record: LogRecord,
}

impl Received {
    pub(crate) fn body(&self) -> String {
        self.record.body.as_ref().map(text).unwrap_or_default()
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<Value> {
        attributes(&self.record.attributes).remove(key)
    }
}

/// The address of a receiver that is not there: connections are refused, and nobody else gets the port.
pub(crate) struct Absent(TcpSocket);

impl Absent {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The receiver comes.
    pub(crate) fn come(self, is_grpc: bool) -> Receiver {
        Receiver::start(is_grpc, self.0)
    }
}

pub(crate) struct Receiver {
    address: SocketAddr,
    is_grpc: bool,
    state: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<All>,
    arrived: Condvar,
}

#[derive(Default)]
struct All {
    logs: Vec<Received>,
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    requests: usize,
    headers: Vec<HeaderMap>,
    script: VecDeque<Scripted>,
    never_taken: Option<&'static str>,
}

impl Receiver {
    pub(crate) fn http() -> Self {
        Absent::new().come(false)
    }

    pub(crate) fn grpc() -> Self {
        Absent::new().come(true)
    }

    fn start(is_grpc: bool, socket: TcpSocket) -> Self {
        let address = socket.local_addr().unwrap();
        let state = Arc::<Shared>::default();
        let (stop, stopped) = oneshot::channel();
        let (listens, is_listening) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = socket.listen(1024).unwrap();
                listens.send(()).unwrap();
                let app = if is_grpc { grpc(shared) } else { http_app(shared) };
                tokio::select! {
                    result = axum::serve(listener, app) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_listening.recv().unwrap();
        Self { address, is_grpc, state, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn protocol(&self) -> &'static str {
        if self.is_grpc { "grpc" } else { "http/protobuf" }
    }

    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Scripted>) {
        self.state.received.lock().unwrap().script.extend(answers);
    }

    /// Answers 503 to each request in which this text is.
    pub(crate) fn never_take(&self, text: &'static str) {
        self.state.received.lock().unwrap().never_taken = Some(text);
    }

    pub(crate) fn logs(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().logs.clone()
    }

    /// The one record whose body this is.
    pub(crate) fn log(&self, body: &str) -> Received {
        let mut found = self.logs().into_iter().filter(|received| received.body() == body).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "records with the body `{body}`");
        found.remove(0)
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state.received.lock().unwrap().spans.clone()
    }

    pub(crate) fn span(&self, name: &str) -> Span {
        self.spans().into_iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span `{name}`"))
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        self.state.received.lock().unwrap().metrics.clone()
    }

    /// The last that came of this name.
    pub(crate) fn metric(&self, name: &str) -> Metric {
        let found = self.metrics().into_iter().rfind(|metric| metric.name == name);
        found.unwrap_or_else(|| panic!("no metric `{name}`"))
    }

    /// Blocks until a metric of this name has come.
    pub(crate) fn wait_for_metric(&self, name: &str) {
        let received = self.state.received.lock().unwrap();
        let is_missing = |received: &mut All| !received.metrics.iter().any(|metric| metric.name == name);
        let _all = self.state.arrived.wait_while(received, is_missing).unwrap();
    }

    /// How many requests came, refused ones too.
    pub(crate) fn requests(&self) -> usize {
        self.state.received.lock().unwrap().requests
    }

    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.state.received.lock().unwrap().headers.clone()
    }

    /// Blocks until `count` records have come.
    pub(crate) fn wait_for_logs(&self, count: usize) {
        let (all, wanted) = (self.state.received.lock().unwrap(), |all: &mut All| all.logs.len() < count);
        let (all, waited) = self.state.arrived.wait_timeout_while(all, Duration::from_secs(60), wanted).unwrap();
        assert!(!waited.timed_out(), "{} of {count} records came", all.logs.len());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn next(&self, headers: &HeaderMap) -> Option<Scripted> {
        let mut all = self.received.lock().unwrap();
        all.requests += 1;
        all.headers.push(headers.clone());
        self.arrived.notify_all();
        all.script.pop_front()
    }

    fn is_never_taken(&self, body: &[u8]) -> bool {
        let never_taken = self.received.lock().unwrap().never_taken;
        never_taken.is_some_and(|text| body.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    fn add_logs(&self, request: ExportLogsServiceRequest) {
        let mut all = self.received.lock().unwrap();
        for resource_logs in request.resource_logs {
            let resource = attributes(&resource_logs.resource.unwrap().attributes);
            for scope_logs in resource_logs.scope_logs {
                let scope = scope_logs.scope.unwrap().name;
                all.logs.extend(scope_logs.log_records.into_iter().map(|record| Received {
                    resource: resource.clone(),
                    scope: scope.clone(),
                    record,
                }));
            }
        }
        self.arrived.notify_all();
    }

    fn add_spans(&self, request: ExportTraceServiceRequest) {
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.received.lock().unwrap().spans.extend(scopes.flat_map(|scope| scope.spans));
        self.arrived.notify_all();
    }
}

impl Shared {
    fn add_metrics(&self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        self.received.lock().unwrap().metrics.extend(scopes.flat_map(|scope| scope.metrics));
        self.arrived.notify_all();
    }
}

pub(crate) fn attributes(attributes: &[KeyValue]) -> HashMap<String, Value> {
    let pair = |kv: &KeyValue| Some((kv.key.clone(), kv.value.clone()?.value?));
    attributes.iter().filter_map(pair).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?} is not a string"),
    }
}

fn http_app(state: Arc<Shared>) -> axum::Router {
    axum::Router::new()
        .route("/v1/logs", axum::routing::post(http_logs))
        .route("/v1/traces", axum::routing::post(http_traces))
        .route("/v1/metrics", axum::routing::post(http_metrics))
        .with_state(state)
}

async fn http_logs(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let scripted = state.next(&headers);
    if let Some(refusal) = scripted.as_ref().and_then(http_refusal) {
        return refusal;
    }
    if state.is_never_taken(&body) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (is_json, request) = read(Signal::Logs, &headers, body);
    state.add_logs(ExportLogsServiceRequest::decode(request).expect("a log request"));
    answer(Signal::Logs, is_json, &response(scripted))
}

async fn http_traces(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let (is_json, request) = read(Signal::Traces, &headers, body);
    state.add_spans(ExportTraceServiceRequest::decode(request).expect("a trace request"));
    answer(Signal::Traces, is_json, &ExportTraceServiceResponse::default())
}

async fn http_metrics(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let (is_json, request) = read(Signal::Metrics, &headers, body);
    state.add_metrics(ExportMetricsServiceRequest::decode(request).expect("a metrics request"));
    answer(Signal::Metrics, is_json, &ExportMetricsServiceResponse::default())
}

/// Whether a request is of JSON, and what it is in protobuf.
fn read(signal: Signal, headers: &HeaderMap, body: Bytes) -> (bool, Bytes) {
    let is_json = headers["content-type"] == "application/json";
    assert!(is_json || headers["content-type"] == "application/x-protobuf", "{headers:?}");
    let body = decompressed(headers, body);
    match is_json {
        true => (true, to_protobuf(signal, &body, usize::MAX).expect("OTLP/JSON").into()),
        false => (false, body),
    }
}

fn decompressed(headers: &HeaderMap, body: Bytes) -> Bytes {
    match headers.get("content-encoding") {
        None => body,
        Some(encoding) => {
            assert_eq!(encoding, "gzip");
            let mut out = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut out).expect("gzip");
            out.into()
        }
    }
}

fn http_refusal(scripted: &Scripted) -> Option<Response> {
    match scripted {
        Scripted::Busy(seconds) => {
            Some((StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response())
        }
        Scripted::Unavailable => Some(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        Scripted::Invalid => Some(StatusCode::BAD_REQUEST.into_response()),
        Scripted::InvalidAtLength => Some((StatusCode::BAD_REQUEST, "no ".repeat(100_000)).into_response()),
        Scripted::Partial(_) => None,
    }
}

fn response(scripted: Option<Scripted>) -> ExportLogsServiceResponse {
    let partial_success = match scripted {
        Some(Scripted::Partial(rejected_log_records)) => {
            Some(ExportLogsPartialSuccess { rejected_log_records, error_message: "too long".to_owned() })
        }
        _ => None,
    };
    ExportLogsServiceResponse { partial_success }
}

fn answer(signal: Signal, is_json: bool, message: &impl Message) -> Response {
    if is_json {
        let response = ExportResponse::from_protobuf(&message.encode_to_vec()).expect("a response");
        return ([("content-type", "application/json")], response.to_json(signal)).into_response();
    }
    ([("content-type", "application/x-protobuf")], message.encode_to_vec()).into_response()
}

#[derive(Clone)]
struct Grpc(Arc<Shared>);

fn grpc(state: Arc<Shared>) -> axum::Router {
    let gzip = CompressionEncoding::Gzip;
    Routes::new(LogsServiceServer::new(Grpc(Arc::clone(&state))).accept_compressed(gzip))
        .add_service(TraceServiceServer::new(Grpc(Arc::clone(&state))).accept_compressed(gzip))
        .add_service(MetricsServiceServer::new(Grpc(state)).accept_compressed(gzip))
        .into_axum_router()
}

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let (metadata, _, request) = request.into_parts();
        let scripted = self.0.next(&metadata.into_headers());
        if let Some(status) = scripted.as_ref().and_then(grpc_refusal) {
            return Err(status);
        }
        self.0.add_logs(request);
        Ok(tonic::Response::new(response(scripted)))
    }
}

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.add_spans(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.add_metrics(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn grpc_refusal(scripted: &Scripted) -> Option<tonic::Status> {
    match scripted {
        Scripted::Busy(seconds) => {
            Some(tonic::Status::with_details(tonic::Code::ResourceExhausted, "busy", retry_info(*seconds).into()))
        }
        Scripted::Unavailable => Some(tonic::Status::unavailable("draining")),
        Scripted::Invalid | Scripted::InvalidAtLength => Some(tonic::Status::invalid_argument("not for me")),
        Scripted::Partial(_) => None,
    }
}

/// A `google.rpc.Status` with a `RetryInfo`, by hand.
fn retry_info(seconds: u64) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8][..], content].concat();
    let duration = [8, seconds as u8];
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &field(1, &duration))].concat();
    [&[8, 8][..], &field(2, b"busy"), &field(3, &any)].concat()
}
