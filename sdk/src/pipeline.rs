//! What the layer, the span processor, the guard and the export thread share.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::chunk::Pool;
use crate::config::Signal;
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::limits::Limits;

/// The buffer with its lanes, and the export thread's alarm.
pub(crate) struct Pipeline {
    pub(crate) pool: Arc<Pool>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) limits: Limits,
    logs: Lane,
    traces: Lane,
}

impl Pipeline {
    pub(crate) fn new(buffer_bytes_max: usize, limits: Limits) -> Self {
        let pool = Arc::new(Pool::new(buffer_bytes_max));
        let wake = Arc::new(Notify::new());
        let lane = || Lane::new(Arc::clone(&pool), Arc::clone(&wake));
        Self { logs: lane(), traces: lane(), pool, wake, limits }
    }

    pub(crate) fn lane(&self, signal: Signal) -> &Lane {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger { logs: self.logs.account(), traces: self.traces.account() }
    }
}
