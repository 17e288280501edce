//! What the receiver tells of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The receiver's metrics; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) requests: Family<Outcome, Counter>,
    pub(super) records: Family<Outcome, Counter>,
    pub(super) bytes: Family<Source, Counter>,
    pub(super) refused: Family<Reason, Counter>,
    pub(super) duration: Family<Source, Histogram, fn() -> Histogram>,
    pub(super) bytes_in_flight: Gauge,
    pub(super) connections: Gauge,
}

/// By what way a request came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Source {
    pub(super) signal: &'static str,
    pub(super) transport: &'static str,
}

/// How it ended: `accepted`, `partial`, `duplicate`, `rejected` or `refused`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    pub(super) signal: &'static str,
    pub(super) transport: &'static str,
    pub(super) outcome: &'static str,
}

/// Why it was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) signal: &'static str,
    pub(super) transport: &'static str,
    pub(super) reason: &'static str,
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            records: Family::default(),
            bytes: Family::default(),
            refused: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            bytes_in_flight: Gauge::default(),
            connections: Gauge::default(),
        };
        let Self { requests, records, bytes, refused, duration, bytes_in_flight, connections } = metrics.clone();
        registry.register("watchbell_receiver_requests", "OTLP requests by how they ended", requests);
        registry.register(
            "watchbell_receiver_records",
            "Log records, spans and data points by how they ended",
            records,
        );
        registry.register("watchbell_receiver_bytes", "Bytes of request bodies as they came", bytes);
        registry.register("watchbell_receiver_refused", "OTLP requests refused, by reason", refused);
        registry.register(
            "watchbell_receiver_request_duration_seconds",
            "From a request's headers to its answer, which waits for the disk",
            duration,
        );
        registry.register(
            "watchbell_receiver_bytes_in_flight",
            "Memory of request bodies in flight; its limit is receiver_bytes_in_flight_max",
            bytes_in_flight,
        );
        registry.register(
            "watchbell_receiver_connections",
            "Open connections; their limit is receiver_connections_max a port",
            connections,
        );
        metrics
    }
}

const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
