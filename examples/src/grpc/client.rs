//! A gRPC client by tonic. One layer makes each call a span, hands the trace on to the server, and tells it in one line.
//!
//! `cargo run -p watchbell-examples --bin grpc-client -- http://127.0.0.1:50051 mug 2`, where `grpc-server` listens

use std::error::Error;

use tonic::transport::Endpoint;
use tower::Layer;
use tracing::{info, instrument};
use watchbell::middleware::ClientLayer;

use stock::ReserveRequest;
use stock::stock_client::StockClient;

#[allow(unreachable_pub)] // generated
mod stock {
    tonic::include_proto!("stock");
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(item), Some(pieces)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: grpc-client http://HOST:PORT ITEM PIECES".into());
    };
    let pieces = pieces.parse()?;
    let _guard = watchbell::builder().service_name("shop").init()?;
    tokio::runtime::Runtime::new()?.block_on(order(server, item, pieces))
}

#[instrument(skip(server))]
async fn order(server: String, item: String, pieces: u32) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(server)?.connect().await?;
    let mut client = StockClient::new(ClientLayer::new().layer(channel));
    let request = ReserveRequest { item, pieces };
    let reserved = watchbell::log_err!(client.reserve(request).await, "cannot reserve")?;
    info!(left = reserved.into_inner().left, "ordered");
    Ok(())
}
