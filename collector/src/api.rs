//! The API port: health, reload, metrics, and what Prometheus's API tells of rules and alerts.

pub mod levels;
pub mod loki;
mod prometheus;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::TcpListener;
use watchbell_rules::engine::RuleStatus;

use self::loki::{Loki, LokiConfig};
use crate::telemetry::{Metrics, OPENMETRICS, PROMETHEUS_TEXT};
use crate::wal::BoxFuture;

/// `api:` in the config.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Where to listen.
    pub endpoint: SocketAddr,
    /// Limits of Loki's API.
    pub loki: LokiConfig,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { endpoint: SocketAddr::from(([127, 0, 0, 1], 9430)), loki: LokiConfig::default() }
    }
}

/// What the API asks of the collector.
pub trait Collector: Send + Sync + 'static {
    /// Whether it takes records: `Err` says why not.
    fn ready(&self) -> Result<(), String>;

    /// Loads rule files and alerting again; tells which keys have changed that need a restart. The error is for the person who asked.
    fn reload(&self) -> BoxFuture<Result<Vec<&'static str>, String>>;

    /// Which records a service is to make, where something is said of it.
    fn levels_of(&self, service: &str) -> Option<String>;

    /// The rules as they stand now; `None` when the evaluator does not answer.
    fn rules(&self) -> BoxFuture<Option<Vec<RuleStatus>>>;
}

#[derive(Clone)]
struct Api {
    collector: Arc<dyn Collector>,
    metrics: Metrics,
}

/// Serves until `stopped` is ready.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    collector: Arc<dyn Collector>,
    metrics: Metrics,
    loki: Loki,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = router(Api { collector, metrics }).merge(loki.router());
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .route("/metrics", get(metrics))
        .route("/api/v1/levels/{service}", get(levels::levels))
        .route("/api/v1/rules", get(prometheus::rules))
        .route("/api/v1/alerts", get(prometheus::alerts))
        // Where Grafana looks for the rules of a data source of type Loki.
        .route("/prometheus/api/v1/rules", get(prometheus::rules))
        .route("/prometheus/api/v1/alerts", get(prometheus::alerts))
        .with_state(api)
}

async fn index() -> &'static str {
    INDEX
}

async fn healthy() -> &'static str {
    "Watchbell is healthy.\n"
}

async fn ready(State(api): State<Api>) -> Response {
    match api.collector.ready() {
        Ok(()) => "Watchbell is ready.\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("Watchbell is not ready: {reason}\n")).into_response(),
    }
}

async fn reload(State(api): State<Api>) -> Response {
    match api.collector.reload().await {
        Ok(left_out) if left_out.is_empty() => "Reloaded.\n".into_response(),
        Ok(left_out) => {
            format!("Reloaded, but for what needs a restart: `{}`.\n", left_out.join("`, `")).into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    }
}

/// As OpenMetrics where the client asks for it, which Prometheus does.
async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (content_type, text) = match accept.contains("application/openmetrics-text") {
        true => (OPENMETRICS, api.metrics.encode_openmetrics()),
        false => (PROMETHEUS_TEXT, api.metrics.encode_prometheus()),
    };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// How long an answer waits for the evaluator before it is 503.
const EVALUATOR_TIMEOUT: Duration = Duration::from_secs(5);

const INDEX: &str = "Watchbell\n
GET  /-/healthy       whether the process runs
GET  /-/ready         whether it takes records
POST /-/reload        loads rule files and alerting again
GET  /metrics         what the collector counts
GET  /api/v1/rules    the rules and their state, as Prometheus answers
GET  /api/v1/alerts   the alerts that are pending or firing, as Prometheus answers
GET  /api/v1/levels/SERVICE  which records a service is to make, for the SDK's `WATCHBELL_LEVELS_URL`
GET  /loki/api/v1/... what the log holds, as Loki answers: query, query_range, labels, label/NAME/values, series, index/stats
";
