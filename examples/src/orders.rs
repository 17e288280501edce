//! A service in the midst of a trace: axum in, hyper's client out, a layer at each side. `examples/node` calls it, and it calls `examples/python`.
//!
//! `cargo run -p watchbell-examples --bin orders -- 127.0.0.1:8081 http://127.0.0.1:8082 http://127.0.0.1:8083`: its own address, the stock's and the payment's

use std::error::Error;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::{Layer, ServiceExt};
use tracing::{error, info};
use watchbell::middleware::{ClientLayer, ClientService, ServerLayer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(stock), Some(payment)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: orders IP:PORT STOCK_URL PAYMENT_URL".into());
    };
    let _guard = watchbell::builder().service_name("orders").init()?;
    tokio::runtime::Runtime::new()?.block_on(serve(&address, Orders::new(stock, payment)))
}

async fn serve(address: &str, orders: Orders) -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/orders/{id}", post(place)).layer(ServerLayer::axum()).with_state(orders);
    let listener = TcpListener::bind(address).await?;
    info!(address = %listener.local_addr()?, "orders are taken");
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, app).with_graceful_shutdown(async move { _ = terminate.recv().await }).await?;
    Ok(())
}

async fn place(State(orders): State<Orders>, Path(id): Path<u64>) -> StatusCode {
    let in_order = watchbell::context!(order.id = id); // on each record from here on
    in_order.scope(orders.place(id)).await
}

#[derive(Clone)]
struct Orders {
    client: ClientService<Client<HttpConnector, Empty<Bytes>>>,
    stock: String,
    payment: String,
}

impl Orders {
    fn new(stock: String, payment: String) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client: ClientLayer::new().layer(client), stock, payment }
    }

    async fn place(&self, id: u64) -> StatusCode {
        for url in [format!("{}/reserve/{id}", self.stock), format!("{}/charge/{id}", self.payment)] {
            match self.post(&url).await {
                Ok(status) if status.is_success() => {}
                Ok(status) => {
                    error!(upstream = url, status = status.as_u16(), "the order is refused");
                    return status;
                }
                Err(error) => {
                    error!(upstream = url, err = watchbell::err!(error), "an upstream does not answer");
                    return StatusCode::BAD_GATEWAY;
                }
            }
        }
        info!("order placed");
        StatusCode::CREATED
    }

    async fn post(&self, url: &str) -> Result<StatusCode, Box<dyn Error + Send + Sync>> {
        let request = Request::post(url).body(Empty::new())?;
        Ok(self.client.clone().oneshot(request).await?.status())
    }
}
