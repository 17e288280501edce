//! A gRPC server by tonic. One layer makes each request a span in its caller's trace, with gRPC's status, and tells it in one line.
//!
//! `cargo run -p watchbell-examples --bin grpc-server -- 127.0.0.1:50051`, then `... --bin grpc-client -- http://127.0.0.1:50051 mug 2`

use std::error::Error;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::info;
use watchbell::middleware::ServerLayer;

use stock::stock_server::{Stock, StockServer};
use stock::{ReserveRequest, ReserveResponse};

#[allow(unreachable_pub)] // generated
mod stock {
    tonic::include_proto!("stock");
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let _guard = watchbell::builder().service_name("stock").init()?;
    tokio::runtime::Runtime::new()?.block_on(serve(&address))
}

async fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let terminated = async move { _ = terminate.recv().await };
    info!(address = %listener.local_addr()?, "the stock is open");

    let server = Server::builder().layer(ServerLayer::new()).add_service(StockServer::new(Shelves));
    server.serve_with_incoming_shutdown(TcpIncoming::from(listener), terminated).await?;
    Ok(())
}

struct Shelves;

#[tonic::async_trait]
impl Stock for Shelves {
    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>, Status> {
        let ReserveRequest { item, pieces } = request.into_inner();
        let there = pieces_of(&item)?;
        let left = there.checked_sub(pieces).ok_or_else(|| {
            Status::failed_precondition(format!("{pieces} of `{item}` are wanted, {there} are there"))
        })?;
        info!(item, pieces, left, "reserved");
        Ok(Response::new(ReserveResponse { left }))
    }
}

/// A status says whose fault it is: the line of a caller's mistake is INFO here and WARN there, that of our own fault WARN in both.
fn pieces_of(item: &str) -> Result<u32, Status> {
    match item {
        "mug" => Ok(12),
        "lamp" => Err(Status::unavailable("the shelf of lamps is being moved")),
        _ => Err(Status::not_found(format!("there is no `{item}`"))),
    }
}
