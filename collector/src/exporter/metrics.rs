//! What the exporters tell of themselves. How far each is behind and what it lost to the logs' size cap, the logs tell, by cursor.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The exporters' metrics; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    sent: Family<Labels, Counter>,
    dropped: Family<Labels, Counter>,
    partly_refused: Family<Labels, Counter>,
    replayed: Family<Labels, Counter>,
    lost: Family<Labels, Counter>,
    waiting: Family<Labels, Gauge>,
    series: Family<Labels, Gauge>,
    retries: Family<Labels, Counter>,
    requests: Family<Outcome, Counter>,
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    queue_bytes: Family<Labels, Gauge>,
}

/// One exporter's, for one signal.
#[derive(Clone, Debug)]
pub(super) struct WorkerMetrics {
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) partly_refused: Counter,
    pub(super) replayed: Counter,
    pub(super) retries: Counter,
    pub(super) duration: Histogram,
    pub(super) queue_bytes: Gauge,
    requests: Family<Outcome, Counter>,
    labels: Labels,
}

/// One exporter's queue in memory.
#[derive(Clone, Debug)]
pub(super) struct QueueMetrics {
    pub(super) lost: Counter,
    pub(super) waiting: Gauge,
    pub(super) series: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    exporter: String,
    signal: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    exporter: String,
    signal: String,
    outcome: &'static str,
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            sent: Family::default(),
            dropped: Family::default(),
            partly_refused: Family::default(),
            replayed: Family::default(),
            lost: Family::default(),
            waiting: Family::default(),
            series: Family::default(),
            retries: Family::default(),
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            queue_bytes: Family::default(),
        };
        let Self {
            sent, dropped, partly_refused, lost, waiting, series, retries, requests, duration, queue_bytes, ..
        } = metrics.clone();
        registry.register("watchbell_exporter_sent_records", "Records that the endpoint took", sent);
        registry.register("watchbell_exporter_dropped_records", "Records given up: refused for good", dropped);
        registry.register(
            "watchbell_exporter_partly_refused_records",
            "Records of requests of which the endpoint refused some and did not say how many",
            partly_refused,
        );
        registry.register(
            "watchbell_exporter_replayed_records",
            "Samples that a restart computed again and that the endpoint had already",
            metrics.replayed.clone(),
        );
        registry.register(
            "watchbell_exporter_lost_records",
            "Samples lost to a full queue in memory (samples_max), or older than their series' last",
            lost,
        );
        registry.register(
            "watchbell_exporter_waiting_samples",
            "Samples in the queue in memory; the limit is samples_max",
            waiting,
        );
        registry.register("watchbell_exporter_series", "Series whose last stamp is remembered", series);
        registry.register("watchbell_exporter_retries", "Requests that failed and are sent again", retries);
        registry.register("watchbell_exporter_requests", "Requests by how they ended", requests);
        registry.register(
            "watchbell_exporter_request_duration_seconds",
            "From sending a request to its answer",
            duration,
        );
        registry.register(
            "watchbell_exporter_queue_bytes",
            "Read of the log and not yet delivered; the limit is sending_queue.queue_bytes_max",
            queue_bytes,
        );
        metrics
    }

    pub(super) fn of(&self, exporter: &str, signal: &str) -> WorkerMetrics {
        let labels = Labels { exporter: exporter.to_owned(), signal: signal.to_owned() };
        WorkerMetrics {
            sent: self.sent.get_or_create_owned(&labels),
            dropped: self.dropped.get_or_create_owned(&labels),
            partly_refused: self.partly_refused.get_or_create_owned(&labels),
            replayed: self.replayed.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            duration: self.duration.get_or_create_owned(&labels),
            queue_bytes: self.queue_bytes.get_or_create_owned(&labels),
            requests: self.requests.clone(),
            labels,
        }
    }

    /// Of a queue in memory.
    pub(super) fn of_queue(&self, exporter: &str, signal: &str) -> QueueMetrics {
        let labels = Labels { exporter: exporter.to_owned(), signal: signal.to_owned() };
        QueueMetrics {
            lost: self.lost.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            series: self.series.get_or_create_owned(&labels),
        }
    }
}

impl WorkerMetrics {
    pub(super) fn count_request(&self, outcome: &'static str) {
        let Labels { exporter, signal } = self.labels.clone();
        self.requests.get_or_create(&Outcome { exporter, signal, outcome }).inc();
    }
}

const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
