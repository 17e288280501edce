//! The inventory: it always works, and grumbles now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use http::StatusCode;
use tracing::{debug, warn};

/// `POST /reserve/{order_id}`.
pub(crate) fn app() -> Router {
    Router::new().route("/reserve/{order_id}", post(reserve))
}

async fn reserve(Path(order_id): Path<u64>) -> StatusCode {
    static RESERVED: AtomicU64 = AtomicU64::new(0);
    let reserved = RESERVED.fetch_add(1, Ordering::Relaxed);
    let left = 500 - reserved % 500;
    if left == 10 {
        warn!(order_id, sku = "mug-blue", left, "stock is low");
    }
    debug!(order_id, left, "stock reserved");
    StatusCode::NO_CONTENT
}
