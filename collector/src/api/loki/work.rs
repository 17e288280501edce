//! Where queries are worked on: a few threads at a time, which give way to all others of the process, so that a query costs ingestion and
//! paging nothing but idle time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, oneshot};

use super::metrics::{Metrics, Outcome};
use super::{Failure, LokiConfig};
use crate::clock::SharedClock;
use crate::priority::give_way;

/// Takes queries in, works on some at a time, and lets the others wait.
#[derive(Clone)]
pub(super) struct Workshop {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    timeout: Duration,
    clock: SharedClock,
    metrics: Metrics,
}

/// Tells a query's work that nobody wants its answer any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets the stop when the one who waits is gone.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Workshop {
    pub(super) fn new(config: &LokiConfig, clock: SharedClock, metrics: Metrics) -> Self {
        Self {
            running: Arc::new(Semaphore::new(config.queries_max)),
            waiting: Arc::new(Semaphore::new(config.queries_max.saturating_add(config.queries_waiting_max))),
            timeout: config.query_timeout,
            clock,
            metrics,
        }
    }

    /// Does a query's work on a thread of its own, when it is its turn. Dropping the future stops the work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stop) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut told = Told { workshop: self, began: self.clock.monotonic(), outcome: "canceled".to_owned() };
        let result = match tokio::time::timeout(self.timeout, self.wait_and_work(work)).await {
            Ok(result) => result,
            Err(_) => Err(Failure {
                status: StatusCode::GATEWAY_TIMEOUT,
                message: format!(
                    "the query took longer than {:?} (`query_timeout`): shorten its range of time, or select fewer streams",
                    self.timeout
                ),
            }),
        };
        told.outcome = result.as_ref().map_or_else(|failure| failure.status.as_u16(), |_| 200).to_string();
        result
    }

    async fn wait_and_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stop) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Failure {
            status: StatusCode::TOO_MANY_REQUESTS,
            message: "too many queries wait (`queries_waiting_max`): ask again later".to_owned(),
        })?;
        let turn = {
            let _waiting = Counted::new(&self.metrics.waiting);
            Arc::clone(&self.running).acquire_owned().await
        };
        let stop = Stop::default();
        let _stop_on_drop = StopOnDrop(stop.clone());
        let (answer, answered) = oneshot::channel();
        let running = self.metrics.running.clone();
        let thread = move || {
            let _turn = (place, turn, Counted::new(&running));
            give_way();
            // Whoever asked may be gone.
            let _ = answer.send(work(&stop));
        };
        thread::Builder::new().name("query".to_owned()).spawn(thread).map_err(|error| internal(error.to_string()))?;
        answered.await.unwrap_or_else(|_| Err(internal("its thread ended".to_owned())))
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

fn internal(why: String) -> Failure {
    Failure { status: StatusCode::INTERNAL_SERVER_ERROR, message: format!("the query could not be worked on: {why}") }
}

/// Counts a query when it ends, also where it is dropped.
struct Told<'a> {
    workshop: &'a Workshop,
    began: Duration,
    outcome: String,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let metrics = &self.workshop.metrics;
        let took = self.workshop.clock.monotonic().saturating_sub(self.began);
        metrics.duration.observe(took.as_secs_f64());
        metrics.requests.get_or_create(&Outcome { outcome: std::mem::take(&mut self.outcome) }).inc();
    }
}

/// One more, as long as it is there.
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
