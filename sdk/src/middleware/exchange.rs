//! One request and its response, by OpenTelemetry's conventions for HTTP and RPC spans. Numbers are signed: `tracing-opentelemetry` makes text of
//! others.

use std::borrow::Cow;
use std::fmt;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use opentelemetry::{Context, ContextGuard};
use tracing::span::EnteredSpan;
use tracing::{Span, field, info_span};

use crate::propagation;

/// What is known of a request until its end, which is told when this is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    span: Span,
    /// What a server's caller is in, where the span does not have it.
    caller: Option<Context>,
    started: Instant,
    is_server: bool,
    kind: Kind,
    place: Place,
    outcome: Outcome,
    /// Whether the service is at work at it: if it is dropped then, that has panicked.
    is_within: bool,
    /// Whether the response has been sent, or read, to its end.
    is_whole: bool,
    /// Bytes of its body that are still to come, where their number is known.
    left: Option<u64>,
}

/// What is asked for.
#[derive(Debug)]
enum Kind {
    Http { method: HttpMethod, route: Option<String> },
    Rpc { service: String, method: String },
}

impl Kind {
    fn of<B>(request: &Request<B>, route: Option<String>) -> Self {
        match rpc(request) {
            Some((service, method)) => Self::Rpc { service: service.to_owned(), method: method.to_owned() },
            None => Self::Http { method: HttpMethod::of(request.method()), route },
        }
    }
}

/// What it is called: `GET /cart/{id}`, `shop.Cart/Add`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { method, route: None } => f.write_str(method.in_name()),
            Self::Http { method, route: Some(route) } => write!(f, "{} {route}", method.in_name()),
            Self::Rpc { service, method } => write!(f, "{service}/{method}"),
        }
    }
}

/// Names and values are to be few, and anybody can send any method.
#[derive(Debug)]
enum HttpMethod {
    Usual(&'static str),
    Other(String),
}

impl HttpMethod {
    fn of(method: &Method) -> Self {
        const USUAL: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        let usual = USUAL.into_iter().find(|usual| *usual == method.as_str());
        usual.map_or_else(|| Self::Other(method.as_str().to_owned()), Self::Usual)
    }

    fn in_name(&self) -> &'static str {
        if let Self::Usual(usual) = self { usual } else { "HTTP" }
    }

    /// `http.request.method`
    fn name(&self) -> &'static str {
        if let Self::Usual(usual) = self { usual } else { "_OTHER" }
    }

    /// `http.request.method_original`
    fn original(&self) -> Option<&str> {
        if let Self::Other(method) = self { Some(method) } else { None }
    }
}

/// Where it is asked for, for the line alone: names of spans are to be few.
#[derive(Debug, Default)]
struct Place {
    /// Of a request to this server for which there is no route.
    path: Option<String>,
    /// Of a client's request.
    address: Option<String>,
    port: Option<i64>,
}

#[derive(Debug)]
enum Outcome {
    /// There is no response: nobody waits any more.
    Cancelled,
    /// There is none, or none that is whole.
    Failed,
    /// The service panicked over it.
    Panicked,
    Http(u16),
    Grpc(u16),
}

impl Exchange {
    pub(super) fn of_server<B>(request: &Request<B>, route: Option<String>) -> Self {
        let kind = Kind::of(request, route);
        let name = kind.to_string();
        let span = match &kind {
            Kind::Rpc { service, method } => rpc_span("server", &name, service, method),
            Kind::Http { method, route } => server_span(request, method, &name, route.as_deref()),
        };
        let caller = propagation::take_parent(&span, request.headers());
        let (started, is_whole) = (Instant::now(), request.method() == Method::HEAD);
        let has_route = !matches!(kind, Kind::Http { route: None, .. });
        let place = Place { path: (!has_route).then(|| request.uri().path().to_owned()), ..Place::default() };
        let outcome = Outcome::Cancelled;
        let is_within = false;
        Self { span, caller, started, is_server: true, kind, place, outcome, is_within, is_whole, left: None }
    }

    pub(super) fn of_client<B>(request: &Request<B>) -> Self {
        let kind = Kind::of(request, None);
        let span = match &kind {
            Kind::Rpc { service, method } => rpc_span("client", &kind.to_string(), service, method),
            Kind::Http { method, .. } => client_span(request, method),
        };
        let (address, port) = server(request);
        span.record("server.address", address.as_deref());
        span.record("server.port", port);
        // Who wants the head alone reads no further: that is no fault.
        let (started, outcome) = (Instant::now(), Outcome::Cancelled);
        let place = Place { address, port, path: None };
        let (is_within, is_whole) = (false, true);
        Self { span, caller: None, started, is_server: false, kind, place, outcome, is_within, is_whole, left: None }
    }

    /// What the service does and says in `f` belongs to the request.
    pub(super) fn within<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let entered = self.enter();
        self.is_within = true;
        let done = f();
        self.is_within = false;
        drop(entered);
        done
    }

    fn enter(&self) -> (Option<ContextGuard>, EnteredSpan) {
        let entered = self.span.clone().entered();
        (self.caller.clone().map(Context::attach), entered)
    }

    pub(super) fn handle_response<B: Body>(&mut self, response: &Response<B>) {
        let length = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        self.left = response.body().size_hint().exact().or_else(length);
        self.is_whole |= response.body().is_end_stream();
        self.is_whole |= matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.outcome = Outcome::Http(response.status().as_u16());
        self.span.record("http.response.status_code", i64::from(response.status().as_u16()));
        self.handle_trailers(response.headers()); // gRPC's status may come at once
    }

    pub(super) fn handle_trailers(&mut self, trailers: &HeaderMap) {
        let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
        if let Some(status) = status {
            self.outcome = Outcome::Grpc(status);
            self.span.record("rpc.grpc.status_code", i64::from(status));
        }
    }

    /// A server takes no more of a body than its length says, and does not ask whether that was all.
    pub(super) fn handle_data(&mut self, bytes: usize) {
        self.left = self.left.map(|left| left.saturating_sub(bytes as u64));
        self.is_whole |= self.left == Some(0);
    }

    /// There is no more of the response than there was.
    pub(super) fn handle_end(&mut self) {
        self.is_whole = true;
    }

    pub(super) fn handle_failure(&mut self) {
        self.outcome = Outcome::Failed;
    }

    /// Why it counts as an error, by the conventions: of a server its own faults, of a client whatever did not succeed.
    fn error_type(&self) -> Option<String> {
        match self.outcome {
            Outcome::Failed => Some("_OTHER".to_owned()),
            Outcome::Panicked => Some("panic".to_owned()),
            Outcome::Cancelled => Some("cancelled".to_owned()),
            Outcome::Http(status) => (status >= 500 || !self.is_server && status >= 400).then(|| status.to_string()),
            Outcome::Grpc(status) => {
                let is_own_fault = matches!(status, 2 | 4 | 12 | 13 | 14 | 15);
                (is_own_fault || !self.is_server && status != 0).then(|| status.to_string())
            }
        }
    }
}

impl Drop for Exchange {
    /// The one line.
    fn drop(&mut self) {
        if self.is_within {
            self.outcome = Outcome::Panicked;
        }
        let error = self.error_type();
        if let Some(error) = &error {
            self.span.record("error.type", error);
            self.span.record("otel.status_code", "ERROR");
        }
        let mut status = match self.outcome {
            Outcome::Cancelled => "cancelled".to_owned(),
            Outcome::Failed => "failed".to_owned(),
            Outcome::Panicked => "panicked".to_owned(),
            Outcome::Http(status) => status.to_string(),
            Outcome::Grpc(status) => format!("gRPC status {status}"),
        };
        if !self.is_whole && !matches!(self.outcome, Outcome::Cancelled | Outcome::Failed | Outcome::Panicked) {
            status += ", broken off";
        }
        let _entered = self.enter();
        self.tell(&status, error.as_deref());
    }
}

impl Exchange {
    fn tell(&self, status: &str, error: Option<&str>) {
        let kind = &self.kind;
        let micros = self.started.elapsed().as_micros().max(1); // more digits say nothing
        let duration = micros as f64 / 1e6;
        let Place { path, address, port } = &self.place;
        let (method, route, service, rpc_method) = match kind {
            Kind::Http { method, route } => (Some(method), route.as_deref(), None, None),
            Kind::Rpc { service, method } => (None, None, Some(service.as_str()), Some(method.as_str())),
        };
        let (http_status, grpc_status) = match self.outcome {
            Outcome::Http(status) => (Some(i64::from(status)), None),
            Outcome::Grpc(status) => (None, Some(i64::from(status))),
            _ => (None, None),
        };
        let what = match (kind, path.as_ref().or(address.as_ref())) {
            (Kind::Http { route: None, .. }, Some(place)) => format!("{kind} {place}"),
            _ => kind.to_string(),
        };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "watchbell::access",
                    {
                        http.request.method = method.map(HttpMethod::name),
                        http.request.method_original = method.and_then(HttpMethod::original),
                        http.route = route,
                        url.path = path,
                        server.address = address,
                        server.port = port,
                        http.response.status_code = http_status,
                        rpc.service = service,
                        rpc.method = rpc_method,
                        rpc.grpc.status_code = grpc_status,
                        error.r#type = error,
                        duration
                    },
                    "{what} {status}"
                )
            };
        }
        if error.is_some() { line!(warn) } else { line!(info) }
    }
}

/// Service and method of a request of gRPC, whose path is `/package.Service/Method`.
fn rpc<B>(request: &Request<B>) -> Option<(&str, &str)> {
    let content_type = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    if !content_type.starts_with("application/grpc") {
        return None;
    }
    request.uri().path().strip_prefix('/')?.split_once('/')
}

fn rpc_span(kind: &str, name: &str, service: &str, method: &str) -> Span {
    info_span!(
        "request",
        otel.name = name,
        otel.kind = kind,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = field::Empty,
        http.response.status_code = field::Empty,
        server.address = field::Empty,
        server.port = field::Empty,
        error.r#type = field::Empty,
        otel.status_code = field::Empty,
    )
}

fn server_span<B>(request: &Request<B>, method: &HttpMethod, name: &str, route: Option<&str>) -> Span {
    let (address, port) = server(request);
    info_span!(
        "request",
        otel.name = name,
        otel.kind = "server",
        http.request.method = method.name(),
        http.request.method_original = method.original(),
        http.route = route,
        url.path = request.uri().path(),
        url.scheme = &*scheme(request),
        server.address = address,
        server.port = port,
        user_agent.original = header(request.headers(), USER_AGENT),
        network.protocol.version = version(request.version()),
        http.response.status_code = field::Empty,
        rpc.grpc.status_code = field::Empty,
        error.r#type = field::Empty,
        otel.status_code = field::Empty,
    )
}

fn client_span<B>(request: &Request<B>, method: &HttpMethod) -> Span {
    let uri = request.uri();
    let (address, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    // without user, password and query: there may be secrets in these
    let url = format!("{}://{address}{port}{}", uri.scheme_str().unwrap_or("http"), uri.path());
    info_span!(
        "request",
        otel.name = method.in_name(),
        otel.kind = "client",
        http.request.method = method.name(),
        http.request.method_original = method.original(),
        url.full = url,
        server.address = field::Empty,
        server.port = field::Empty,
        http.response.status_code = field::Empty,
        rpc.grpc.status_code = field::Empty,
        error.r#type = field::Empty,
        otel.status_code = field::Empty,
    )
}

/// That of the address; by HTTP/1 a server is sent the path alone, and what stands before it (TLS, a proxy) tells it in a header at best.
fn scheme<B>(request: &Request<B>) -> Cow<'_, str> {
    let forwarded = || {
        let forwarded = header(request.headers(), http::HeaderName::from_static("x-forwarded-proto"))?;
        let first = forwarded.split(',').next()?.trim().to_ascii_lowercase();
        matches!(&*first, "http" | "https").then_some(first)
    };
    match request.uri().scheme_str() {
        Some(scheme) => Cow::Borrowed(scheme),
        None => forwarded().map_or(Cow::Borrowed("http"), Cow::Owned),
    }
}

/// The server's name and port as the client wrote them.
fn server<B>(request: &Request<B>) -> (Option<String>, Option<i64>) {
    let host = header(request.headers(), HOST).and_then(|host| host.parse::<http::uri::Authority>().ok());
    let authority = request.uri().authority().cloned().or(host);
    let port = authority.as_ref().and_then(http::uri::Authority::port_u16);
    let usual = match &*scheme(request) {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    (authority.map(|authority| authority.host().to_owned()), port.or(usual).map(i64::from))
}

fn header(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}
