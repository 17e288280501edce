//! A shop that is watched by Watchbell: logs, traces and metrics by OTLP/gRPC, and a console.

use tracing::{error, info, instrument};
use watchbell::opentelemetry::global;

fn main() -> Result<(), watchbell::InitError> {
    let _guard = watchbell::builder().service_name("shop").protocol(watchbell::Protocol::Grpc).init()?;
    (17..20).for_each(place);
    Ok(())
}

#[instrument]
fn place(order_id: u64) {
    if order_id == 18 {
        error!(upstream = "payment", status = 503, "payment upstream answered 503");
    }
    info!(amount = 59.9, "order placed");
    global::meter("shop").u64_counter("orders").build().add(1, &[]);
}
