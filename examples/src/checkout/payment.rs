//! The payment upstream: it works until it is made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use http::StatusCode;
use tracing::debug;

/// The bank behind the payment upstream.
#[derive(Default)]
pub(crate) struct Provider {
    is_down: AtomicBool,
}

impl Provider {
    /// From now on nothing can be charged.
    pub(crate) fn fail(&self) {
        self.is_down.store(true, Ordering::Relaxed);
    }

    /// From now on all is well.
    pub(crate) fn heal(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }
}

/// `POST /charge/{order_id}`.
pub(crate) fn app(provider: Arc<Provider>) -> Router {
    Router::new().route("/charge/{order_id}", post(charge)).with_state(provider)
}

async fn charge(State(provider): State<Arc<Provider>>, Path(order_id): Path<u64>) -> StatusCode {
    if provider.is_down() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    debug!(order_id, "charged");
    StatusCode::NO_CONTENT
}
