//! What `OTEL_PROPAGATORS` says goes out of real clients' requests and into real servers' records: axum's and tonic's servers, hyper's and tonic's clients.

use axum::routing::get;
use http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tower::{Layer, ServiceExt};
use tracing::Instrument;
use watchbell::middleware::{ClientLayer, ServerLayer};
use watchbell::opentelemetry::KeyValue;
use watchbell::opentelemetry::baggage::BaggageExt;

use super::receiver::Receiver;
use super::{child, run_with};

const HANDLERS: [&str; 2] = ["in the handler", "in the service"];

#[test]
fn the_trace_and_the_baggage_go_by_the_propagators_that_are_set() {
    const B3_MULTI: &str = "x-b3-sampled x-b3-spanid x-b3-traceid";
    for (propagators, headers, has_baggage) in [
        ("", "baggage traceparent", true),
        ("tracecontext", "traceparent", false),
        ("b3", "b3", false),
        ("b3multi", B3_MULTI, false),
        ("b3multi,baggage,tracecontext", &format!("baggage traceparent {B3_MULTI}"), true),
    ] {
        let receiver = called(propagators);
        let trace = receiver.span("checkout").trace_id;
        for handler in HANDLERS {
            let log = receiver.log(handler);
            let text = |key| match log.attribute(key) {
                Some(Value::StringValue(text)) => Some(text),
                _ => None,
            };
            assert_eq!(text("headers").as_deref(), Some(headers), "{propagators}, {handler}");
            assert_eq!(text("tenant.id").is_some(), has_baggage, "{propagators}, {handler}");
            assert_eq!(log.record.trace_id, trace, "{propagators}, {handler}");
            let spans = receiver.spans();
            let of_server = spans.iter().find(|span| span.span_id == log.record.span_id).expect("the server's span");
            let of_client = spans.iter().find(|span| span.span_id == of_server.parent_span_id).expect("the client's");
            assert_eq!((of_server.kind, of_client.kind), (2, 3), "{propagators}, {handler}");
        }
    }
}

#[test]
fn nothing_goes_where_none_is_set() {
    let receiver = called("none");
    for handler in HANDLERS {
        let log = receiver.log(handler);
        assert_eq!(log.attribute("headers"), Some(Value::StringValue(String::new())));
        assert_ne!(log.record.trace_id, receiver.span("checkout").trace_id);
    }
}

/// By the specification propagators go on: else whoever switches one service's telemetry off cuts the traces of those around it.
#[test]
fn a_disabled_service_hands_its_callers_trace_on() {
    let mut service = child("propagators");
    service.env("CALLER", CALLER).env("OTEL_SDK_DISABLED", "true").env("WATCHBELL_SINKS", "stderr format=logfmt");
    let output = service.output().expect("this program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for handler in HANDLERS {
        let line = text.lines().find(|line| line.contains(handler)).expect("its record");
        assert!(line.contains(&format!("handed_on={CALLER}")) && line.contains("baggage traceparent"), "{line}");
    }
}

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn called(propagators: &str) -> Receiver {
    let receiver = Receiver::http();
    let variables = [("OTEL_PROPAGATORS", propagators), ("WATCHBELL_BAGGAGE_ATTRIBUTES", "tenant.id")];
    assert_eq!(run_with("propagators", &receiver, &variables).code(), Some(0), "{propagators}");
    receiver
}

/// Calls both servers, in a span and with a baggage.
pub(super) fn call(guard: watchbell::Guard) {
    let mut caller = HeaderMap::new();
    caller.extend(
        std::env::var("CALLER")
            .ok()
            .and_then(|caller| Some((http::HeaderName::from_static("traceparent"), caller.parse().ok()?))),
    );
    let _attached =
        watchbell::propagation::extract(&caller).with_baggage([KeyValue::new("tenant.id", "acme")]).attach();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = tonic::service::Routes::new(LogsServiceServer::new(Upstream)).into_axum_router();
        let app = routes.route("/cart", get(cart)).layer(ServerLayer::new());
        tokio::spawn(async { axum::serve(listener, app).await });
        call_both(url).instrument(tracing::info_span!("checkout")).await;
    });
    drop(runtime); // the connections end, and with them the last spans
    drop(guard);
}

async fn call_both(url: String) {
    let client = ClientLayer::new().layer(Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>());
    let request = http::Request::get(format!("{url}/cart")).body(Empty::new()).expect("a request");
    let response = client.oneshot(request).await.expect("a response");
    response.into_body().collect().await.expect("its body");
    let channel = tonic::transport::Endpoint::try_from(url).expect("an address").connect().await.expect("a server");
    let mut client = LogsServiceClient::new(ClientLayer::new().layer(channel));
    client.export(ExportLogsServiceRequest::default()).await.expect("a response");
}

async fn cart(headers: HeaderMap) -> &'static str {
    tokio::task::yield_now().await;
    tracing::info!(headers = propagating(&headers), handed_on = handed_on(), "in the handler");
    "a mug"
}

struct Upstream;

#[tonic::async_trait]
impl LogsService for Upstream {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        tracing::info!(headers = propagating(request.metadata().as_ref()), handed_on = handed_on(), "in the service");
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

/// The trace that a call to another service would have.
fn handed_on() -> Option<String> {
    let mut headers = HeaderMap::new();
    watchbell::propagation::inject(&mut headers);
    Some(headers.get("traceparent")?.to_str().ok()?.to_owned())
}

/// The names of the headers that propagators have written.
fn propagating(headers: &HeaderMap) -> String {
    let names = ["baggage", "traceparent", "b3", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid"];
    names.into_iter().filter(|name| headers.contains_key(*name)).collect::<Vec<_>>().join(" ")
}
