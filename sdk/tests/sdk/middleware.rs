//! Requests as spans: real servers and clients, each its own service.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tower::{Layer, Service, ServiceExt};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use watchbell::middleware::{ClientLayer, ServerLayer};

use super::receiver::{Receiver, attributes};
use super::{builder, pipeline};

const LONG: Duration = Duration::from_secs(20);

/// Runs a service and its client, both logging to `receiver`, also in tasks that the servers start.
fn run(receiver: &Receiver, work: impl Future<Output = ()>) {
    watchbell_propagation();
    let (dispatch, guard) = pipeline(receiver);
    let of_workers = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&of_workers)))
        .build()
        .unwrap();
    tracing::dispatcher::with_default(&dispatch, || runtime.block_on(work));
    drop(runtime); // the connections end, and with them the last spans
    let ledger = guard.shutdown(LONG);
    assert_eq!(ledger.logs.lost() + ledger.traces.lost(), 0, "{ledger}");
}

/// `Builder::layer` leaves the process's propagators alone, so that this is the test's own.
fn watchbell_propagation() {
    use watchbell::opentelemetry::global::set_text_map_propagator;
    set_text_map_propagator(opentelemetry_sdk::propagation::TraceContextPropagator::new());
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

fn shop() -> Router {
    let cart = get(|| async {
        tracing::info!("in the handler");
        "a mug"
    });
    Router::new()
        .route("/cart/{id}", cart)
        .route("/broken", post(|| async { http::StatusCode::SERVICE_UNAVAILABLE }))
        .layer(ServerLayer::axum())
}

async fn call(address: SocketAddr, method: &str, path: &str) -> http::StatusCode {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut client = ClientLayer::new().layer(client);
    let request = http::Request::builder().method(method).uri(format!("http://{address}{path}")).body(Empty::new());
    let response = client.ready().await.unwrap().call(request.unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    body.collect().await.unwrap();
    head.status
}

fn spans(receiver: &Receiver, name: &str, kind: i32) -> Span {
    let found = receiver.spans().into_iter().find(|span| span.name == name && span.kind == kind);
    found.unwrap_or_else(|| panic!("no span `{name}` of kind {kind} in {:#?}", receiver.spans()))
}

fn string(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[test]
fn an_axum_server_and_a_hyper_client_share_a_trace() {
    let receiver = Receiver::http();
    run(&receiver, async {
        let address = serve(shop()).await;
        let outer = tracing::info_span!("checkout");
        let status = tracing::Instrument::instrument(call(address, "GET", "/cart/17?token=s3cret"), outer).await;
        assert_eq!(status, 200);
    });
    let (client, server) = (spans(&receiver, "GET", 3), spans(&receiver, "GET /cart/{id}", 2));
    assert_eq!(client.parent_span_id, receiver.span("checkout").span_id);
    assert_eq!((&server.trace_id, &server.parent_span_id), (&client.trace_id, &client.span_id));
    let told = attributes(&server.attributes);
    assert_eq!(told["http.request.method"], string("GET"));
    assert_eq!((&told["http.route"], &told["url.path"]), (&string("/cart/{id}"), &string("/cart/17")));
    assert_eq!(
        (&told["http.response.status_code"], &told["network.protocol.version"]),
        (&Value::IntValue(200), &string("1.1"))
    );
    assert_eq!(told["server.address"], string("127.0.0.1"));
    assert_eq!((told.get("error.type"), server.status.unwrap().code), (None, 0));
    let told = attributes(&client.attributes);
    assert!(matches!(&told["url.full"], Value::StringValue(url) if url.ends_with("/cart/17")), "{told:?}");
    assert!(matches!(told["server.port"], Value::IntValue(port) if port > 0));

    let handler = receiver.log("in the handler").record;
    assert_eq!(handler.span_id, server.span_id);
    let line = receiver.log("GET /cart/{id} 200");
    assert_eq!((line.scope.as_str(), line.record.severity_number), ("watchbell::access", 9));
    assert_eq!(line.record.span_id, server.span_id);
    assert_eq!(line.attribute("http.request.method"), Some(string("GET")));
    assert_eq!(line.attribute("http.route"), Some(string("/cart/{id}")));
    assert_eq!(line.attribute("http.response.status_code"), Some(Value::IntValue(200)));
    assert_eq!(line.attribute("rpc.service"), None);
    assert!(matches!(line.attribute("duration"), Some(Value::DoubleValue(seconds)) if seconds > 0.0));
    assert_eq!(receiver.log("GET 127.0.0.1 200").record.span_id, client.span_id);
}

#[test]
fn faults_are_told_by_whose_they_are() {
    let receiver = Receiver::http();
    run(&receiver, async {
        let address = serve(shop()).await;
        assert_eq!(call(address, "POST", "/broken").await, 503);
        assert_eq!(call(address, "GET", "/absent").await, 404);
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let request = http::Request::get(format!("http://{gone}/")).body(Empty::new()).unwrap();
        assert!(ClientLayer::new().layer(client).oneshot(request).await.is_err());
    });
    let broken = spans(&receiver, "POST /broken", 2);
    assert_eq!(attributes(&broken.attributes)["error.type"], string("503"));
    assert_eq!(broken.status.unwrap().code, 2);
    assert_eq!(receiver.log("POST /broken 503").record.severity_number, 13);
    let absent = spans(&receiver, "GET", 2);
    assert_eq!(
        (attributes(&absent.attributes).get("error.type"), absent.status.unwrap().code),
        (None, 0),
        "the caller's"
    );
    assert_eq!(receiver.log("GET 127.0.0.1 failed").attribute("error.type"), Some(string("_OTHER")));
    let (of_client, of_server) = (receiver.log("GET 127.0.0.1 404"), receiver.log("GET /absent 404"));
    assert_eq!((of_client.record.severity_number, of_server.record.severity_number), (13, 9));
    assert_eq!(of_server.attribute("url.path"), Some(string("/absent")));
    assert_eq!(of_client.attribute("server.address"), Some(string("127.0.0.1")));
    assert!(matches!(of_client.attribute("server.port"), Some(Value::IntValue(port)) if port > 0));
}

/// Any service of gRPC will do: this one takes what is empty and is unavailable for all else.
struct Upstream;

#[tonic::async_trait]
impl LogsService for Upstream {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        tracing::info!("in the service");
        match request.into_inner().resource_logs.is_empty() {
            true => Ok(tonic::Response::new(ExportLogsServiceResponse::default())),
            false => Err(tonic::Status::unavailable("draining")),
        }
    }
}

#[test]
fn a_tonic_pair_shares_a_trace_and_its_status_is_in_the_trailers() {
    let receiver = Receiver::http();
    run(&receiver, async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = tonic::service::Routes::new(LogsServiceServer::new(Upstream)).into_axum_router();
        tokio::spawn(async { axum::serve(listener, routes.layer(ServerLayer::new())).await });
        let channel = tonic::transport::Endpoint::try_from(endpoint).unwrap().connect().await.unwrap();
        let mut client = LogsServiceClient::new(ClientLayer::new().layer(channel));
        client.export(ExportLogsServiceRequest::default()).await.unwrap();
        let refused = ExportLogsServiceRequest { resource_logs: vec![Default::default()] };
        client.export(refused).await.unwrap_err();
    });
    const NAME: &str = "opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let named = |kind| receiver.spans().into_iter().filter(move |span| span.name == NAME && span.kind == kind);
    for kind in [2, 3] {
        let mut statuses: Vec<_> = named(kind).map(|span| attributes(&span.attributes)).collect();
        statuses.sort_by_key(|told| format!("{:?}", told["rpc.grpc.status_code"]));
        let [taken, refused] = &statuses[..] else { panic!("{statuses:?}") };
        assert_eq!((&taken["rpc.grpc.status_code"], taken.get("error.type")), (&Value::IntValue(0), None));
        assert_eq!((&refused["rpc.grpc.status_code"], &refused["error.type"]), (&Value::IntValue(14), &string("14")));
        assert_eq!((&taken["rpc.system"], &taken["rpc.method"]), (&string("grpc"), &string("Export")));
        assert_eq!(taken["rpc.service"], string("opentelemetry.proto.collector.logs.v1.LogsService"));
    }
    for server in named(2) {
        let client = named(3).find(|client| client.span_id == server.parent_span_id).expect("the caller's span");
        assert_eq!(client.trace_id, server.trace_id);
        assert!(
            receiver.logs().iter().any(|log| log.body() == "in the service" && log.record.span_id == server.span_id)
        );
    }
    let lines =
        |body: &str| receiver.logs().iter().filter(|log| log.body() == format!("{NAME} gRPC status {body}")).count();
    assert_eq!((lines("0"), lines("14")), (2, 2));
}

/// A handler's future has to be one that can be sent to another thread, with all that it waits for within.
#[test]
fn a_handler_calls_by_grpc_in_a_context() {
    async fn reserve(
        axum::extract::State(channel): axum::extract::State<tonic::transport::Channel>,
    ) -> http::StatusCode {
        let mut client = LogsServiceClient::new(ClientLayer::new().layer(channel));
        let item = "mug";
        let reserved = watchbell::context! { %item, count = 1, state = ?Some(2) }
            .scope(async {
                watchbell::log_err!(client.export(ExportLogsServiceRequest::default()).await, "cannot reserve")
            })
            .await;
        if reserved.is_ok() { http::StatusCode::OK } else { http::StatusCode::BAD_GATEWAY }
    }
    let receiver = Receiver::http();
    run(&receiver, async {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let channel = tonic::transport::Endpoint::try_from(format!("http://{gone}")).unwrap().connect_lazy();
        let app = Router::new().route("/reserve", get(reserve)).with_state(channel).layer(ServerLayer::axum());
        assert_eq!(call(serve(app).await, "GET", "/reserve").await, 502);
    });
    let told = receiver.log("cannot reserve");
    assert_eq!((told.attribute("item"), told.attribute("state")), (Some(string("mug")), Some(string("Some(2)"))));
    assert_eq!(told.record.trace_id, spans(&receiver, "GET /reserve", 2).trace_id);
}

#[test]
fn a_response_that_nobody_waits_for_the_end_of_is_told() {
    let receiver = Receiver::http();
    run(&receiver, async {
        let app = Router::new().route("/numbers", get(|| async { "1 2 3" })).layer(ServerLayer::axum());
        let request = http::Request::get("/numbers").body(axum::body::Body::empty()).unwrap();
        drop(app.oneshot(request).await.unwrap()); // as a server does whose client is gone
    });
    let line = receiver.log("GET /numbers 200, broken off");
    assert_eq!(line.attribute("error.type"), None, "that is no fault of the server's");
    assert_eq!(line.attribute("http.response.status_code"), Some(Value::IntValue(200)));
}

/// Its body does not know that it is at its end, and hyper does not ask.
#[test]
fn a_response_of_a_known_length_is_whole() {
    struct Numbers(Option<Bytes>);
    impl hyper::body::Body for Numbers {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.take().map(|data| Ok(hyper::body::Frame::data(data))))
        }
    }
    let receiver = Receiver::http();
    run(&receiver, async {
        let numbers = || async {
            let body = axum::body::Body::new(Numbers(Some(Bytes::from_static(b"1 2 3"))));
            ([("content-length", "5")], body)
        };
        let address = serve(Router::new().route("/numbers", get(numbers)).layer(ServerLayer::axum())).await;
        assert_eq!(call(address, "GET", "/numbers").await, 200);
    });
    receiver.log("GET /numbers 200");
}

#[test]
fn a_method_that_is_unknown_is_no_value_of_its_own() {
    let receiver = Receiver::http();
    run(&receiver, async {
        assert_eq!(call(serve(shop()).await, "BREW", "/absent").await, 404);
    });
    for kind in [2, 3] {
        let told = attributes(&spans(&receiver, "HTTP", kind).attributes);
        assert_eq!(told["http.request.method"], string("_OTHER"));
        assert_eq!(told["http.request.method_original"], string("BREW"));
    }
    let line = receiver.log("HTTP /absent 404");
    assert_eq!(line.attribute("http.request.method"), Some(string("_OTHER")));
    assert_eq!(line.attribute("http.request.method_original"), Some(string("BREW")));
}

/// By HTTP/1 a request has the path alone.
#[test]
fn a_servers_scheme_and_port_are_always_there() {
    for (headers, scheme, port) in [
        (vec![("host", "shop.example")], "http", 80),
        (vec![("host", "shop.example:8080")], "http", 8080),
        (vec![("host", "shop.example"), ("x-forwarded-proto", "HTTPS, http")], "https", 443),
        (vec![("host", "shop.example"), ("x-forwarded-proto", "gopher")], "http", 80),
    ] {
        let receiver = Receiver::http();
        run(&receiver, async {
            let request = headers
                .iter()
                .fold(http::Request::get("/cart/17"), |request, (name, value)| request.header(*name, *value));
            shop().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        });
        let told = attributes(&spans(&receiver, "GET /cart/{id}", 2).attributes);
        assert_eq!(
            (&told["url.scheme"], &told["server.port"]),
            (&string(scheme), &Value::IntValue(port)),
            "{headers:?}"
        );
        assert_eq!(told["server.address"], string("shop.example"));
    }
}

#[test]
fn a_handler_that_panics_is_no_client_that_left() {
    let receiver = Receiver::http();
    run(&receiver, async {
        let out_of_mugs = || async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "out of mugs");
        };
        let app = Router::new().route("/mug", get(out_of_mugs)).layer(ServerLayer::axum());
        let request = http::Request::get("/mug").body(axum::body::Body::empty()).unwrap();
        assert!(tokio::spawn(app.oneshot(request)).await.unwrap_err().is_panic());
    });
    let line = receiver.log("GET /mug panicked");
    assert_eq!((line.attribute("error.type"), line.record.severity_number), (Some(string("panic")), 13));
    let span = spans(&receiver, "GET /mug", 2);
    assert_eq!((&attributes(&span.attributes)["error.type"], span.status.unwrap().code), (&string("panic"), 2));
}

#[test]
fn a_request_that_nobody_waits_for_is_told() {
    let receiver = Receiver::http();
    run(&receiver, async {
        let app = Router::new().route("/slow", get(std::future::pending::<()>)).layer(ServerLayer::axum());
        let request = http::Request::get("/slow").body(axum::body::Body::empty()).unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(20), app.oneshot(request)).await;
        assert!(answer.is_err());
    });
    let line = receiver.log("GET /slow cancelled");
    assert_eq!(line.attribute("error.type"), Some(string("cancelled")));
    assert_eq!(line.record.span_id, spans(&receiver, "GET /slow", 2).span_id);
}

#[test]
fn the_callers_trace_goes_on_where_a_filter_leaves_the_servers_span_out() {
    watchbell_propagation();
    let receiver = Receiver::http();
    let (layer, guard) = builder(&receiver).layer().unwrap();
    let layer = layer.with_filter(FilterFn::new(|metadata| !metadata.is_span()));
    let of_another = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let subscriber = tracing_subscriber::registry().with(layer).with(of_another);
    let handler = tower::service_fn(|_: http::Request<Empty<Bytes>>| async {
        tracing::info!("in the handler");
        Ok::<_, std::convert::Infallible>(http::Response::new(Empty::<Bytes>::new()))
    });
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = http::Request::get("/cart").header("traceparent", caller).body(Empty::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(ServerLayer::new().layer(handler).oneshot(request)).unwrap();
    });
    assert_eq!(guard.shutdown(LONG).traces.emitted, 0);
    let record = receiver.log("in the handler").record;
    assert_eq!(record.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
}
