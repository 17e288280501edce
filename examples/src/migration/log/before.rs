//! A shop that logs by `log` and `env_logger`.

use log::{debug, info, warn};

fn main() {
    env_logger::init();
    (17..20).for_each(place);
}

fn place(order_id: u64) {
    debug!(order_id; "reserving");
    if order_id == 18 {
        warn!(order_id, left = 1; "stock is low");
    }
    info!("order {order_id} placed");
}
