//! HTTP in and out: each request is a span of its caller's trace, and one record when it has ended.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use axum::Router;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use watchbell::middleware::{ClientLayer, ClientService, ServerLayer};

/// A free port on loopback.
pub(crate) const FREE_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// Serves an app.
pub(crate) async fn serve(address: SocketAddr, app: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let app = app.layer(ServerLayer::axum());
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(address)
}

/// Calls other services.
#[derive(Clone)]
pub(crate) struct Caller(ClientService<Client<HttpConnector, Empty<Bytes>>>);

impl Caller {
    pub(crate) fn new() -> Self {
        Self(ClientLayer::new().layer(Client::builder(TokioExecutor::new()).build_http()))
    }

    pub(crate) async fn post(&self, address: SocketAddr, path: &str) -> Result<StatusCode, CallError> {
        let request = Request::post(format!("http://{address}{path}")).body(Empty::new())?;
        Ok(self.0.clone().oneshot(request).await?.status())
    }
}

/// Why there was no answer.
pub(crate) type CallError = Box<dyn std::error::Error + Send + Sync>;
