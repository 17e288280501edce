//! What the API tells of itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The API's metrics; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) requests: Family<Outcome, Counter>,
    pub(super) running: Gauge,
    pub(super) waiting: Gauge,
    pub(super) bytes: Counter<u64, AtomicU64>,
    pub(super) duration: Histogram,
    pub(super) tails: Gauge,
    pub(super) tail_dropped: Counter<u64, AtomicU64>,
}

/// How a query ended: the status that it was answered with, or `canceled` where nobody waited any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    pub(super) outcome: String,
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            bytes: Counter::default(),
            duration: Histogram::new(DURATION_BUCKETS),
            tails: Gauge::default(),
            tail_dropped: Counter::default(),
        };
        let Self { requests, running, waiting, bytes, duration, tails, tail_dropped } = metrics.clone();
        registry.register("watchbell_query_requests", "Queries of Loki's API by how they ended", requests);
        registry.register("watchbell_query_running", "Queries that are worked on; their limit is queries_max", running);
        registry.register("watchbell_query_waiting", "Queries that wait; their limit is queries_waiting_max", waiting);
        registry.register("watchbell_query_read_bytes", "Bytes of the log that queries read", bytes);
        registry.register("watchbell_query_duration_seconds", "From a query's coming to its answer", duration);
        registry.register("watchbell_tails", "Clients that follow the log; their limit is tails_max", tails);
        registry.register(
            "watchbell_tail_dropped_entries",
            "Entries that a client that follows the log did not take in time",
            tail_dropped,
        );
        metrics
    }
}

const DURATION_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
