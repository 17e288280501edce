//! Requests as spans: layers for [tower](https://docs.rs/tower) services over HTTP, so for axum, tonic and hyper, servers and clients.
//!
//! A request is a span by OpenTelemetry's conventions for HTTP, or for RPC where it is gRPC: its names, its status, its error. A server's is a part of
//! the caller's trace, a client hands its own on. When the response has ended (its trailers have come, or nobody reads on) one record tells
//! method, route, status and duration in seconds, in that span: `GET /cart/{id} 200`. Where no route is known it tells the path without its query, `GET /absent 404`, and a
//! client's the server, `GET stock.example 200`.
//!
//! ```
//! use watchbell::middleware::{ClientLayer, ServerLayer};
//! # use axum::{Router, routing::get};
//! # use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! # use tower::Layer;
//!
//! let app: Router = Router::new().route("/cart/{id}", get(|| async { "a mug" })).layer(ServerLayer::axum());
//! # let client: Client<_, axum::body::Body> = Client::builder(TokioExecutor::new()).build_http();
//! let client = ClientLayer::new().layer(client); // hyper's, or a channel of tonic's
//! ```
//!
//! A handler that calls another service, with fields on all that is said meanwhile:
//!
//! ```
//! use axum::extract::{Path, State};
//! use tonic::transport::Channel;
//! use watchbell::middleware::{ClientLayer, ServerLayer};
//! use watchbell::{context, log_err};
//! # use axum::{Router, http::StatusCode, routing::post};
//! # use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest as Order, logs_service_client::LogsServiceClient as StockClient};
//! # use tower::Layer;
//!
//! async fn order(Path(sku): Path<String>, State(channel): State<Channel>) -> StatusCode {
//!     let mut stock = StockClient::new(ClientLayer::new().layer(channel)); // what tonic has generated
//!     let reserved = context! { %sku }
//!         .scope(async { log_err!(stock.export(Order::default()).await, "cannot reserve") })
//!         .await;
//!     if reserved.is_ok() { StatusCode::CREATED } else { StatusCode::BAD_GATEWAY }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let channel = tonic::transport::Endpoint::from_static("http://stock:50051").connect_lazy();
//! let app: Router = Router::new().route("/order/{sku}", post(order)).with_state(channel).layer(ServerLayer::axum());
//! # });
//! ```
//!
//! reqwest's client is no tower service over HTTP's own types; a function makes one of it. Its crate is not among ours, so that this is compiled and run
//! elsewhere, in `examples/reqwest`:
//!
//! ```text
//! let reqwest = reqwest::Client::new();
//! let send = tower::service_fn(move |request: http::Request<reqwest::Body>| {
//!     let client = reqwest.clone();
//!     async move { Ok::<_, reqwest::Error>(http::Response::from(client.execute(request.try_into()?).await?)) }
//! });
//! let client = ClientLayer::new().layer(send);
//! let stock = client.oneshot(http::Request::get(url).body(reqwest::Body::from(""))?).await?;
//! ```
//!
//! Where that is too much, [`propagation::inject`](crate::propagation::inject) writes the trace's context into a request's headers.

mod exchange;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{Extensions, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use exchange::Exchange;

/// Makes a span of each request that a server takes.
///
/// ```
/// use watchbell::middleware::ServerLayer;
///
/// let server = tonic::transport::Server::builder().layer(ServerLayer::new());
/// ```
#[derive(Clone, Copy)]
pub struct ServerLayer {
    route: Route,
}

/// Finds the route that a request matched, which a framework leaves in its extensions.
type Route = fn(&Extensions) -> Option<String>;

impl ServerLayer {
    /// For a server whose routes are not known: a span has the method's name alone, since paths are too many for names. gRPC's paths are few.
    ///
    /// ```
    /// use watchbell::middleware::ServerLayer;
    ///
    /// let layer = ServerLayer::new(); // `tonic::transport::Server::builder().layer(layer)`
    /// ```
    pub fn new() -> Self {
        Self { route: |_| None }
    }

    /// For axum, by `Router::layer`: a span's name has the route that matched, `GET /cart/{id}`.
    ///
    /// ```
    /// use watchbell::middleware::ServerLayer;
    ///
    /// let app: axum::Router = axum::Router::new().route("/", axum::routing::get(|| async { "a mug" })).layer(ServerLayer::axum());
    /// ```
    #[cfg(feature = "axum")]
    pub fn axum() -> Self {
        let route = |extensions: &Extensions| {
            extensions.get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned())
        };
        Self { route }
    }
}

impl Default for ServerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService { inner, route: self.route }
    }
}

/// What [`ServerLayer`] makes.
///
/// ```
/// use tower::{Layer, service_fn};
/// use watchbell::middleware::{ServerLayer, ServerService};
///
/// let service = service_fn(async |_: http::Request<String>| Ok::<_, std::convert::Infallible>(http::Response::new("a mug".to_owned())));
/// let service: ServerService<_> = ServerLayer::new().layer(service);
/// ```
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
    route: Route,
}

impl<S, B, R> Service<Request<B>> for ServerService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut exchange = Exchange::of_server(&request, (self.route)(request.extensions()));
        let future = exchange.within(|| self.inner.call(request));
        ResponseFuture { future, exchange: Some(exchange) }
    }
}

/// Makes a span of each request that a client sends, and hands the trace on in its headers.
///
/// ```
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::Layer;
/// use watchbell::middleware::ClientLayer;
///
/// let client = ClientLayer::new().layer(Client::builder(TokioExecutor::new()).build_http::<String>());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLayer {}

impl ClientLayer {
    /// For any client that is a tower service over HTTP.
    ///
    /// ```
    /// let layer = watchbell::middleware::ClientLayer::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService { inner }
    }
}

/// What [`ClientLayer`] makes.
///
/// ```
/// use hyper_util::client::legacy::{Client, connect::HttpConnector};
/// use watchbell::middleware::ClientService;
///
/// /// A part of the service that calls another.
/// struct Stock {
///     client: ClientService<Client<HttpConnector, String>>,
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ClientService<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ClientService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut exchange = Exchange::of_client(&request);
        let future = exchange.within(|| {
            crate::propagation::inject(request.headers_mut());
            self.inner.call(request)
        });
        ResponseFuture { future, exchange: Some(exchange) }
    }
}

/// Calls `f` within the exchange, until that has ended.
fn within<T>(exchange: &mut Option<Exchange>, f: impl FnOnce() -> T) -> T {
    match exchange {
        Some(exchange) => exchange.within(f),
        None => f(),
    }
}

pin_project! {
    /// A response to come.
    ///
    /// ```
    /// use tower::{Layer, Service};
    /// use watchbell::middleware::{ClientLayer, ResponseFuture};
    ///
    /// # let answer = async |_: http::Request<String>| Ok::<_, std::convert::Infallible>(http::Response::new("a mug".to_owned()));
    /// let mut client = ClientLayer::new().layer(tower::service_fn(answer));
    /// let response: ResponseFuture<_> = client.call(http::Request::new(String::new()));
    /// ```
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        exchange: Option<Exchange>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(within(this.exchange, || this.future.poll(context)));
        let mut exchange = this.exchange.take();
        match (&result, &mut exchange) {
            (Ok(response), Some(exchange)) => exchange.handle_response(response),
            (Err(_), Some(exchange)) => exchange.handle_failure(),
            (_, None) => {}
        }
        Poll::Ready(result.map(|response| response.map(|body| ResponseBody { body, exchange })))
    }
}

pin_project! {
    /// A response's body; its end is the request's.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt};
    /// use watchbell::middleware::{ClientLayer, ResponseBody};
    ///
    /// # let answer = async |_: http::Request<String>| Ok::<_, std::convert::Infallible>(http::Response::new("a mug".to_owned()));
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let client = ClientLayer::new().layer(tower::service_fn(answer));
    /// let body: ResponseBody<String> = client.oneshot(http::Request::new(String::new())).await.unwrap().into_body();
    /// drop(body); // the request has ended
    /// # });
    /// ```
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        body: B,
        exchange: Option<Exchange>,
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(within(this.exchange, || this.body.as_mut().poll_frame(context)));
        match (&frame, this.exchange.as_mut()) {
            (None, exchange) => {
                exchange.map(Exchange::handle_end);
                drop(this.exchange.take());
            }
            (Some(Err(_)), Some(exchange)) => exchange.handle_failure(),
            (Some(Ok(frame)), Some(exchange)) => {
                if let Some(data) = frame.data_ref() {
                    exchange.handle_data(data.remaining());
                }
                if let Some(trailers) = frame.trailers_ref() {
                    exchange.handle_trailers(trailers);
                }
                if frame.is_trailers() || this.body.is_end_stream() {
                    exchange.handle_end();
                }
            }
            (_, None) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self { body: B::default(), exchange: None }
    }
}
