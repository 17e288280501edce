//! The checkout itself: an order is reserved, then charged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::StatusCode;
use tracing::{Span, error, field, info, instrument};

use crate::payment::Provider;
use crate::web::Caller;

/// `POST /checkout`, `GET /healthz`, and the payment upstream's switch: `POST /demo/fail`, `POST /demo/heal`.
pub(crate) fn app(inventory: SocketAddr, payment: SocketAddr, provider: Arc<Provider>) -> Router {
    let shop = Shop { inventory, payment, caller: Caller::new(), next_order: AtomicU64::new(10_001) };
    let switch = Router::new().route("/demo/fail", post(fail)).route("/demo/heal", post(heal)).with_state(provider);
    let checkout = Router::new().route("/checkout", post(checkout)).with_state(Arc::new(shop));
    checkout.merge(switch).route("/healthz", get(async || StatusCode::NO_CONTENT))
}

struct Shop {
    inventory: SocketAddr,
    payment: SocketAddr,
    caller: Caller,
    next_order: AtomicU64,
}

#[derive(Clone, Copy)]
struct Order {
    order_id: u64,
    amount: f64,
}

async fn checkout(State(shop): State<Arc<Shop>>) -> StatusCode {
    let order_id = shop.next_order.fetch_add(1, Ordering::Relaxed);
    let amount = (order_id * 7919 % 20_000 + 499) as f64 / 100.0; // looks like prices, the same in each run
    shop.place(Order { order_id, amount }).await
}

async fn fail(State(provider): State<Arc<Provider>>) -> StatusCode {
    provider.fail();
    StatusCode::NO_CONTENT
}

async fn heal(State(provider): State<Arc<Provider>>) -> StatusCode {
    provider.heal();
    StatusCode::NO_CONTENT
}

impl Shop {
    #[instrument(name = "place_order", skip_all, fields(order_id = order.order_id, otel.status_code = field::Empty))]
    async fn place(&self, order: Order) -> StatusCode {
        let Order { order_id, amount } = order;
        let reserved = self.ask("inventory", self.inventory, "/reserve", order).await;
        let charged = match reserved {
            true => self.ask("payment", self.payment, "/charge", order).await,
            false => false,
        };
        if !charged {
            Span::current().record("otel.status_code", "ERROR");
            return StatusCode::BAD_GATEWAY;
        }
        info!(order_id, amount, "order placed");
        StatusCode::CREATED
    }

    /// Whether an upstream did what was asked for; if not, it is told.
    async fn ask(&self, upstream: &'static str, address: SocketAddr, what: &str, order: Order) -> bool {
        let Order { order_id, amount } = order;
        match self.caller.post(address, &format!("{what}/{order_id}")).await {
            Ok(status) if status.is_success() => return true,
            Ok(status) => {
                let status = status.as_u16();
                error!(order_id, amount, upstream, status, "{upstream} upstream answered {status}");
            }
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &*error;
                error!(order_id, amount, upstream, error, "{upstream} upstream did not answer");
            }
        }
        false
    }
}
