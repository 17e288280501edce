//! HTTP in and out, with the trace's context.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::{Method, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tracing::{Instrument, Span, field, info_span};

/// A free port on loopback.
pub(crate) const FREE_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// Serves an app, each request in a span of its caller's trace.
pub(crate) async fn serve(address: SocketAddr, app: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let app = app.layer(from_fn(in_span));
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(address)
}

async fn in_span(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let span = info_span!(
        "request",
        otel.name = format!("{} {route}", request.method()), // the route, not the path: names are to be few
        otel.kind = "server",
        http.request.method = %request.method(),
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = field::Empty,
        otel.status_code = field::Empty,
    );
    watchbell::propagation::set_parent(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    record_status(&span, response.status(), response.status().is_server_error());
    response
}

/// Calls other services; requests carry the current span's context.
#[derive(Clone)]
pub(crate) struct Caller(Client<HttpConnector, Empty<Bytes>>);

impl Caller {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Posts to a path of a route, in a span of its own.
    pub(crate) async fn post(&self, address: SocketAddr, route: &str, path: &str) -> Result<StatusCode, CallError> {
        let span = info_span!(
            "call",
            otel.name = format!("POST {route}"),
            otel.kind = "client",
            http.request.method = "POST",
            url.full = format!("http://{address}{path}"),
            http.response.status_code = field::Empty,
            otel.status_code = field::Empty,
        );
        let status = self.send(address, path).instrument(span.clone()).await?;
        record_status(&span, status, status.is_client_error() || status.is_server_error());
        Ok(status)
    }

    async fn send(&self, address: SocketAddr, path: &str) -> Result<StatusCode, CallError> {
        let uri = format!("http://{address}{path}");
        let mut request = http::Request::builder().method(Method::POST).uri(uri).body(Empty::new())?;
        watchbell::propagation::inject(request.headers_mut());
        Ok(self.0.request(request).await?.status())
    }
}

/// Why there was no answer.
pub(crate) type CallError = Box<dyn std::error::Error + Send + Sync>;

fn record_status(span: &Span, status: StatusCode, is_error: bool) {
    span.record("http.response.status_code", status.as_u16());
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}
