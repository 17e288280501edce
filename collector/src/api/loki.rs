//! Loki's API over what the log still holds.
//!
//! A request is read by [`parameters`], its work is done by [`work`] on a thread of its own, over the log as [`scan`] reads it, and what
//! came out is written by [`answer`]. What is served, and where it differs from Loki, is in `docs/loki-api.md`.

mod answer;
mod extras;
mod metrics;
mod parameters;
mod queries;
mod scan;
mod streams;
mod tail;
mod volume;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use serde::Deserialize;
use tokio::sync::Semaphore;
use watchbell_rules::otlp_labels::LabelConfig;
use watchbell_rules::query::{QueryError, QueryErrorKind};

pub use self::metrics::Metrics;

use self::work::Workshop;
use crate::clock::SharedClock;
use crate::config::{duration, range};
use crate::wal::{BoxFuture, Log};

/// `api.loki` in the config: what queries may use, so that none hurts what the collector is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LokiConfig {
    /// Queries that are worked on at one time, each on a thread that gives way to all others. Default 2.
    #[serde(deserialize_with = "range::positive")]
    pub queries_max: usize,
    /// Queries that wait for those; further ones are refused with 429. Default 64.
    pub queries_waiting_max: usize,
    /// How long a query may take, with its waiting; then it is answered 504 and stopped. Default 1 m.
    #[serde(deserialize_with = "duration::deserialize")]
    pub query_timeout: Duration,
    /// Bytes of the log that one query may read. Default 2 GiB.
    pub query_bytes_max: u64,
    /// Bytes of records, samples and labels that one query may hold. Default 256 MiB.
    pub query_memory_bytes_max: u64,
    /// Series of an answer. Default 500, as in Loki.
    pub series_max: usize,
    /// What `limit` may ask for of a log query. Default 5000, as in Loki.
    pub entries_max: usize,
    /// Streams that one look for labels, series or volumes may find. Default 100,000.
    pub streams_max: usize,
    /// Clients that follow the log at one time; further ones are refused with 429. Default 10, as in Loki.
    pub tails_max: usize,
}

impl Default for LokiConfig {
    fn default() -> Self {
        Self {
            queries_max: 2,
            queries_waiting_max: 64,
            query_timeout: Duration::from_secs(60),
            query_bytes_max: 2 << 30,
            query_memory_bytes_max: 256 << 20,
            series_max: 500,
            entries_max: 5000,
            streams_max: 100_000,
            tails_max: 10,
        }
    }
}

/// What the API asks of the collector.
pub trait Source: Send + Sync + 'static {
    /// The log of log records.
    fn log(&self) -> Arc<dyn Log>;

    /// What makes index labels of attributes, now.
    fn labels(&self) -> LabelConfig;
}

/// Takes pushes, with the limits and the token of the receiver.
pub trait Push: Send + Sync + 'static {
    /// Answers when the request is durable.
    fn push(&self, request: Request<Body>) -> BoxFuture<Response>;
}

/// Loki's API.
#[derive(Clone)]
pub struct Loki {
    source: Arc<dyn Source>,
    push: Option<Arc<dyn Push>>,
    clock: SharedClock,
    config: Arc<LokiConfig>,
    workshop: Workshop,
    tails: Arc<Semaphore>,
}

impl Loki {
    /// An API over a log; pushes go to `push`.
    pub fn new(
        source: Arc<dyn Source>,
        push: Option<Arc<dyn Push>>,
        config: LokiConfig,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        let workshop = Workshop::new(&config, Arc::clone(&clock), metrics);
        let tails = Arc::new(Semaphore::new(config.tails_max));
        Self { source, push, clock, config: Arc::new(config), workshop, tails }
    }

    /// Its paths.
    pub fn router(self) -> Router {
        Router::new()
            .route("/loki/api/v1/push", any(push))
            .route("/loki/api/v1/query", form(get(queries::instant).post(queries::instant)))
            .route("/loki/api/v1/query_range", form(get(queries::range).post(queries::range)))
            .route("/loki/api/v1/labels", form(get(streams::labels).post(streams::labels)))
            .route("/loki/api/v1/label", form(get(streams::labels).post(streams::labels)))
            .route("/loki/api/v1/label/{name}/values", form(get(streams::values).post(streams::values)))
            .route("/loki/api/v1/series", form(get(streams::series).post(streams::series)))
            .route("/loki/api/v1/index/stats", form(get(streams::stats).post(streams::stats)))
            .route("/loki/api/v1/index/volume", form(get(volume::instant).post(volume::instant)))
            .route("/loki/api/v1/index/volume_range", form(get(volume::range).post(volume::range)))
            .route("/loki/api/v1/detected_labels", form(get(streams::detected_labels).post(streams::detected_labels)))
            .route("/loki/api/v1/detected_fields", form(get(extras::detected_fields).post(extras::detected_fields)))
            .route(
                "/loki/api/v1/detected_field/{name}/values",
                form(get(extras::detected_values).post(extras::detected_values)),
            )
            .route("/loki/api/v1/patterns", form(get(extras::patterns).post(extras::patterns)))
            .route("/loki/api/v1/format_query", form(get(extras::format_query).post(extras::format_query)))
            .route("/loki/api/v1/status/buildinfo", get(extras::buildinfo))
            .route("/loki/api/v1/drilldown-limits", get(extras::drilldown_limits))
            .route("/loki/api/v1/tail", get(tail::tail))
            .route("/ready", get(ready))
            .route("/loki/{*path}", any(absent))
            .route("/api/prom/{*path}", any(absent))
            .with_state(self)
    }
}

/// Other methods are refused without a body, as by Loki.
fn form(router: MethodRouter<Loki>) -> MethodRouter<Loki> {
    router.fallback(any(|| async { StatusCode::METHOD_NOT_ALLOWED }))
}

/// What comes here comes to the receiver.
async fn push(State(loki): State<Loki>, request: Request<Body>) -> Response {
    match loki.push {
        Some(push) => push.push(request).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn ready() -> &'static str {
    "ready\n"
}

/// For who asks with `logcli delete`, say: it shows the text alone.
async fn absent(uri: Uri) -> Failure {
    let message = format!("`{}` is not among the paths of Loki's API that this collector has", uri.path());
    Failure { status: StatusCode::NOT_FOUND, message }
}

/// A request that has no answer but this.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let status = match error.kind {
            QueryErrorKind::BadData | QueryErrorKind::Execution => StatusCode::BAD_REQUEST,
            QueryErrorKind::Stopped => StatusCode::GATEWAY_TIMEOUT,
        };
        Self { status, message: error.message }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: format!("the log cannot be read: {error}") }
    }
}

/// Plain text, as Loki answers.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let headers = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")];
        (self.status, headers, self.message).into_response()
    }
}

#[cfg(test)]
mod tests;
