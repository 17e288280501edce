//! A shop that logs by `log` and Watchbell.

use log::{debug, info, warn};
use watchbell::sink::{Format, Sink};

fn main() -> Result<(), watchbell::InitError> {
    let pattern = "[{time} {level:5} {target}] {message} {fields}".to_owned(); // lines as they were
    let _guard = watchbell::builder().sink(Sink::stderr().format(Format::Pattern(pattern))).init()?;
    (17..20).for_each(place);
    Ok(())
}

fn place(order_id: u64) {
    debug!(order_id; "reserving");
    if order_id == 18 {
        warn!(order_id, left = 1; "stock is low");
    }
    info!("order {order_id} placed");
}
