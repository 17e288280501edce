//! A shop that logs by `tracing-subscriber`: to a console, and as JSON to a file a day in the folder of its argument.

use std::io::stderr;

use tracing::level_filters::LevelFilter;
use tracing::{debug, info, instrument, warn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let (file, _file_guard) = tracing_appender::non_blocking(tracing_appender::rolling::daily(folder, "shop.log"));
    tracing_subscriber::registry()
        .with(fmt::layer().with_writer(stderr).with_filter(EnvFilter::from_default_env()))
        .with(fmt::layer().json().with_writer(file).with_filter(LevelFilter::DEBUG))
        .init();
    (17..20).for_each(place);
}

#[instrument]
fn place(order_id: u64) {
    debug!(pieces = 2, "reserving");
    if order_id == 18 {
        warn!(left = 1, "stock is low");
    }
    info!(amount = 59.9, "order placed");
}
