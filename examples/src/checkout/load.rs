//! Customers: so many orders a second, whether or not the earlier ones are through.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::web::Caller;

/// Places orders for ever; none at a rate of 0.
pub(crate) async fn run(shop: SocketAddr, orders_per_second: u32) {
    if orders_per_second == 0 {
        return;
    }
    let caller = Caller::new();
    let mut ticks = interval(Duration::from_secs(1) / orders_per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let caller = caller.clone();
        tokio::spawn(async move {
            if let Err(error) = caller.post(shop, "/checkout").await {
                let error: &(dyn std::error::Error + 'static) = &*error;
                tracing::warn!(error, "an order could not be sent");
            }
        });
    }
}
