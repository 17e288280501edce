//! The shortest service: its records and traces go to the collector on this machine, and to the console.
//!
//! `OTEL_SERVICE_NAME=quickstart cargo run -p watchbell-examples --bin quickstart`

use tracing::{error, info, info_span};

fn main() -> Result<(), watchbell::InitError> {
    let _guard = watchbell::init()?;

    let _span = info_span!("place_order", order_id = 17).entered();
    info!(items = 3, amount = 59.90, "order placed");
    error!(upstream = "payment", status = 503, "payment upstream answered 503");
    Ok(())
}
