//! A shop that logs by `tracing` and Watchbell: to a console, and as JSON to a file a day in the folder of its argument.

use std::path::Path;

use tracing::{debug, info, instrument, warn};
use watchbell::sink::Sink;
use watchbell::sink::file::{File, Rotation, Zone};

fn main() -> Result<(), watchbell::InitError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let file = File::new(Path::new(&folder).join("shop.log")).rotate(Rotation::Daily { hour: 0, minute: 0 }, Zone::Utc);
    let _guard = watchbell::builder().sink(Sink::stderr()).sink(Sink::file(file).levels("debug")).init()?;
    (17..20).for_each(place);
    Ok(())
}

#[instrument]
fn place(order_id: u64) {
    let _context = watchbell::context!(order_id).enter(); // a span's fields are the span's; these are each record's
    debug!(pieces = 2, "reserving");
    if order_id == 18 {
        warn!(left = 1, "stock is low");
    }
    info!(amount = 59.9, "order placed");
}
