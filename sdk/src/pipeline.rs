//! What the layer, the span processor, the guard and the export thread share.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::baggage::Baggage;
use crate::chunk::Pool;
use crate::config::{Config, Signal};
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::limits::Limits;

/// The buffer with its lanes, and the export thread's alarm.
pub(crate) struct Pipeline {
    pub(crate) pool: Arc<Pool>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) limits: Limits,
    pub(crate) baggage: Baggage,
    /// Whether log records leave at all.
    #[cfg(feature = "otel-logs")]
    pub(crate) exports_logs: bool,
    logs: Lane,
    traces: Lane,
    metrics: Lane,
}

impl Pipeline {
    pub(crate) fn new(config: &Config) -> Self {
        let pool = Arc::new(Pool::new(config.buffer_bytes_max));
        let wake = Arc::new(Notify::new());
        let lane = |signal| {
            let records_max = config.export(signal).map_or(u64::MAX, |export| export.queue_records_max);
            Lane::new(Arc::clone(&pool), Arc::clone(&wake), records_max)
        };
        let [logs, traces, metrics] = Signal::ALL.map(lane);
        Self {
            logs,
            traces,
            metrics,
            pool,
            wake,
            limits: config.limits,
            baggage: Baggage::new(&config.baggage_attributes),
            #[cfg(feature = "otel-logs")]
            exports_logs: config.export(Signal::Logs).is_some(),
        }
    }

    pub(crate) fn lane(&self, signal: Signal) -> &Lane {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger { logs: self.logs.account(), traces: self.traces.account(), metrics: self.metrics.account() }
    }
}
