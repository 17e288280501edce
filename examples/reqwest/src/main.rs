//! reqwest's client with Watchbell's layer: each call is a span, the trace goes along in its headers, and one line tells its outcome.
//!
//! `cargo run --manifest-path examples/reqwest/Cargo.toml -- http://127.0.0.1:8080/items/7`

use std::error::Error;

use tower::{Layer, ServiceExt};
use watchbell::middleware::ClientLayer;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: reqwest URL")?;
    let _guard = watchbell::builder().service_name("shop").init()?;
    tokio::runtime::Runtime::new()?.block_on(fetch(&url))
}

#[tracing::instrument]
async fn fetch(url: &str) -> Result<(), Box<dyn Error>> {
    let reqwest = reqwest::Client::new();
    let send = tower::service_fn(move |request: http::Request<reqwest::Body>| {
        let client = reqwest.clone();
        async move { Ok::<_, reqwest::Error>(http::Response::from(client.execute(request.try_into()?).await?)) }
    });
    let client = ClientLayer::new().layer(send);
    let stock = client.oneshot(http::Request::get(url).body(reqwest::Body::from(""))?).await?;
    tracing::info!(status = stock.status().as_u16(), "fetched");
    Ok(())
}
