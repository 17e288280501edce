//! What the logs tell of themselves.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of all logs, `watchbell_wal_*`, by `signal`.
#[derive(Clone, Debug)]
pub struct Metrics {
    frames: Counters,
    records: Counters,
    bytes: Counters,
    refused: Counters,
    damaged: Counters,
    failures: Counters,
    ahead: Family<Labels, Gauge>,
    fsync: Family<Labels, Histogram, fn() -> Histogram>,
    logs: Logs,
}

/// One log's part of [`Metrics`].
#[derive(Clone, Debug)]
pub(super) struct LogMetrics {
    pub(super) frames: Counter,
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) refused: Counter,
    pub(super) damaged: Counter,
    pub(super) failures: Counter,
    pub(super) ahead: Gauge,
    pub(super) fsync: Histogram,
}

impl LogMetrics {
    /// Tells by how much the log's clock is ahead, and says once when it begins to be.
    pub(super) fn handle_ahead(&self, signal: &str, ahead: Duration) {
        let seconds = i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX);
        if seconds > 0 && self.ahead.get() == 0 {
            tracing::warn!(
                signal,
                seconds,
                "the wall clock was set back: the log's clock runs at half the speed until it is there, and stamps are taken for as much later"
            );
        }
        self.ahead.set(seconds);
    }
}

/// How a log stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The log's signal.
    pub signal: String,
    /// Payload bytes that wait to be written.
    pub pending_bytes: u64,
    /// Payload bytes of the newest frames, kept in memory for readers.
    pub tail_cache_bytes: u64,
    /// Segments with frames.
    pub segments: u64,
    /// Bytes of all its files.
    pub disk_bytes: u64,
    /// The named readers.
    pub cursors: Vec<CursorReport>,
}

/// How a named reader stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorReport {
    /// Its name.
    pub name: String,
    /// Records it has not passed.
    pub lag_records: u64,
    /// Bytes of frames it has not passed.
    pub lag_bytes: u64,
    /// Records that the cap took before it came by.
    pub lost_records: u64,
}

/// Something that can tell how a log stands.
pub(super) trait Reports: Send + Sync {
    fn report(&self) -> Report;
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            frames: Counters::default(),
            records: Counters::default(),
            bytes: Counters::default(),
            refused: Counters::default(),
            damaged: Counters::default(),
            failures: Counters::default(),
            ahead: Family::default(),
            fsync: Family::new_with_constructor(fsync_histogram),
            logs: Logs::default(),
        }
    }
}

impl Metrics {
    /// Registers them; the logs join as they are opened.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let counters = [
            ("frames", "Frames appended", &metrics.frames),
            ("records", "Records appended", &metrics.records),
            ("payload_bytes", "Payload bytes appended", &metrics.bytes),
            ("refused", "Appends refused because the log is at a limit", &metrics.refused),
            ("damaged_frames", "Damaged places found and skipped", &metrics.damaged),
            ("disk_failures", "Writes and syncs that failed, each sealing a segment", &metrics.failures),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("watchbell_wal_{name}"), help, counter.clone());
        }
        let help = "By how much the log's clock is ahead of the wall clock, which was set back: stamps are taken for as much later";
        registry.register("watchbell_wal_clock_ahead_seconds", help, metrics.ahead.clone());
        let help = "Time that a group commit's sync took";
        registry.register_with_unit("watchbell_wal_fsync_duration", help, Unit::Seconds, metrics.fsync.clone());
        registry.register_collector(Box::new(metrics.logs.clone()));
        metrics
    }

    /// How each log stands.
    pub fn reports(&self) -> Vec<Report> {
        self.logs.reports()
    }

    pub(super) fn of(&self, signal: &str) -> LogMetrics {
        let labels = vec![("signal".to_owned(), signal.to_owned())];
        LogMetrics {
            frames: self.frames.get_or_create_owned(&labels),
            records: self.records.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
            damaged: self.damaged.get_or_create_owned(&labels),
            failures: self.failures.get_or_create_owned(&labels),
            ahead: self.ahead.get_or_create_owned(&labels),
            fsync: self.fsync.get_or_create_owned(&labels),
        }
    }

    pub(super) fn add(&self, log: Weak<dyn Reports>) {
        let mut logs = self.logs.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|log| log.strong_count() > 0);
        logs.push(log);
    }
}

type Labels = Vec<(String, String)>;
type Counters = Family<Labels, Counter>;

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<Weak<dyn Reports>>>>);

impl Logs {
    fn reports(&self) -> Vec<Report> {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        logs.iter().filter_map(Weak::upgrade).map(|log| log.report()).collect()
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

impl Collector for Logs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reports = self.reports();
        let mut log_gauge = |name: &str, help: &str, value: fn(&Report) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            reports.iter().try_for_each(|report| {
                let labels = [("signal", report.signal.as_str())];
                ConstGauge::new(value(report)).encode(family.encode_family(&labels)?)
            })
        };
        log_gauge("watchbell_wal_pending_bytes", "Payload bytes that wait to be written", |log| log.pending_bytes)?;
        let help = "Payload bytes of the newest frames, in memory for readers; the limit is tail_cache_bytes_max";
        log_gauge("watchbell_wal_tail_cache_bytes", help, |log| log.tail_cache_bytes)?;
        log_gauge("watchbell_wal_segments", "Segments with frames", |log| log.segments)?;
        log_gauge("watchbell_wal_disk_bytes", "Bytes of the log's segment files", |log| log.disk_bytes)?;

        let cursors =
            reports.iter().flat_map(|report| report.cursors.iter().map(|cursor| (report.signal.as_str(), cursor)));
        let mut cursor_metric = |name: &str, help: &str, kind: MetricType, value: fn(&CursorReport) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            cursors.clone().try_for_each(|(signal, cursor)| {
                let labels = [("signal", signal), ("cursor", cursor.name.as_str())];
                let metric = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value(cursor)).encode(metric),
                    _ => ConstGauge::new(value(cursor)).encode(metric),
                }
            })
        };
        let help = "Records that the cursor has not passed (the evaluator's stands at its older snapshot, behind what is judged)";
        cursor_metric("watchbell_wal_cursor_lag_records", help, MetricType::Gauge, |cursor| cursor.lag_records)?;
        let help = "Bytes of frames that the cursor has not passed (the evaluator's stands at its older snapshot, behind what is judged)";
        cursor_metric("watchbell_wal_cursor_lag_bytes", help, MetricType::Gauge, |cursor| cursor.lag_bytes)?;
        let help = "Records that the size cap took before the cursor came by";
        cursor_metric("watchbell_wal_cursor_lost_records", help, MetricType::Counter, |cursor| cursor.lost_records)
    }
}

/// 50 µs to 3 s.
fn fsync_histogram() -> Histogram {
    Histogram::new([50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 3.0])
}
