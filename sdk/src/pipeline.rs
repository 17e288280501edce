//! What the layer, the span processor, the guard and the export thread share.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use tracing_core::Level;

use crate::baggage::Baggage;
use crate::callsite::ScopeId;
use crate::chunk::Pool;
use crate::config::{Config, Signal};
use crate::exit;
use crate::lane::{Lane, Local, Urgency};
use crate::ledger::Ledger;
use crate::levels::{Levels, Ways};
use crate::limits::Limits;
use crate::patch::Patches;
use crate::redact::Redaction;
use crate::restraint::Restraint;
use crate::sink::Sinks;
use crate::spool::Spool;
use crate::view::Record;

/// The buffer with its lanes, and the export thread's alarm.
pub(crate) struct Pipeline {
    pub(crate) pool: Arc<Pool>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) limits: Limits,
    pub(crate) baggage: Baggage,
    /// Which records are made, and where each goes.
    pub(crate) levels: Levels,
    pub(crate) sinks: Option<Sinks>,
    pub(crate) redaction: Option<Arc<Redaction>>,
    pub(crate) restraint: Restraint,
    patches: Patches,
    /// Whether log records go to the collector.
    exports_logs: bool,
    /// The process that it is of.
    forks: u32,
    logs: Lane,
    traces: Lane,
    metrics: Lane,
    this: Weak<Self>,
}

impl Pipeline {
    pub(crate) fn new(config: &Config, levels: Levels, sinks: Option<Sinks>) -> Arc<Self> {
        exit::count_forks();
        let mut pool = Pool::new(config.buffer_bytes_max);
        let is_mapped = config.spool.as_ref().is_some_and(Spool::is_mapped);
        pool.arena = config.spool.as_ref().and_then(|spool| spool.arena(config));
        let pool = Arc::new(pool);
        let wake = Arc::new(Notify::new());
        let lane = |signal| {
            let records_max = config.export(signal).map_or(u64::MAX, |export| export.queue_records_max);
            let lane = Lane::new(Arc::clone(&pool), Arc::clone(&wake), records_max, config.when_full);
            let is_mapped = is_mapped && signal != Signal::Metrics; // the next collection has all of them
            if is_mapped { lane.mapped(signal) } else { lane }
        };
        let [logs, traces, metrics] = Signal::ALL.map(lane);
        Arc::new_cyclic(|this| Self {
            logs,
            traces,
            metrics,
            pool,
            wake,
            limits: config.limits,
            baggage: Baggage::new(&config.baggage_attributes),
            levels,
            sinks,
            redaction: config.redaction.clone(),
            restraint: Restraint::new(config.restraint.clone()),
            patches: config.patches.clone(),
            exports_logs: config.export(Signal::Logs).is_some(),
            forks: exit::forks(),
            this: Weak::clone(this),
        })
    }

    /// For a thread that is not to keep it alive.
    pub(crate) fn itself(&self) -> Weak<Self> {
        Weak::clone(&self.this)
    }

    pub(crate) fn lane(&self, signal: Signal) -> &Lane {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }

    /// Whether this is a forked child of the process that it is of. There no lock of its may be waited for: a thread that held it is not there.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != exit::forks()
    }

    /// The process that it is of.
    #[cfg(feature = "otel-logs")]
    pub(crate) fn forks(&self) -> u32 {
        self.forks
    }

    /// Counts a record that a forked child has made as lost, and does nothing else.
    #[cold]
    pub(crate) fn drop_forked(&self, signal: Signal) {
        self.lane(signal).counters.add_forked(exit::forks());
    }

    /// How many log records were lost so.
    pub(crate) fn forked_logs(&self) -> u64 {
        self.logs.counters.forked(exit::forks())
    }

    /// Whether log records go anywhere.
    pub(crate) fn takes_logs(&self) -> bool {
        self.exports_logs || self.sinks.is_some()
    }

    /// Hands a log record over to all that it is for. `local` is this thread's, if it has any.
    #[inline]
    pub(crate) fn emit(&self, local: Option<&Local>, ways: Ways, scope: ScopeId, record: &[u8], urgency: Urgency) {
        if !self.patches.is_empty() {
            return self.emit_patched(local, ways, scope, record, urgency);
        }
        self.emit_as_it_is(local, ways, scope, record, urgency);
    }

    /// A record of another severity goes other ways.
    #[cold]
    fn emit_patched(&self, local: Option<&Local>, ways: Ways, scope: ScopeId, record: &[u8], urgency: Urgency) {
        let Some(patched) = self.patches.apply(scope, record, self.redaction.as_deref()) else { return };
        let [before, after] = [record, &patched].map(|record| Record::new(&[], record).level());
        let (ways, urgency) = match after {
            _ if before == after => (ways, urgency),
            Level::ERROR => (self.ways(scope, after), Urgency::Hurry),
            _ => (self.ways(scope, after), Urgency::Idle),
        };
        self.emit_as_it_is(local, ways, scope, &patched, urgency);
    }

    #[inline]
    fn emit_as_it_is(&self, local: Option<&Local>, ways: Ways, scope: ScopeId, record: &[u8], urgency: Urgency) {
        if let Some(sinks) = &self.sinks {
            self.emit_to_sinks(sinks, local, ways, scope, record);
        }
        if self.exports_logs && !ways.and(Ways::COLLECTOR).is_none() {
            if self.scrubs_in_call() {
                return self.emit_scrubbed(local, scope, record, urgency);
            }
            push(&self.logs, local, scope, record, urgency);
        }
    }

    /// A mapped chunk is on disk as it is written.
    #[inline(never)]
    fn emit_scrubbed(&self, local: Option<&Local>, scope: ScopeId, record: &[u8], urgency: Urgency) {
        let scrubbed = self.redaction.as_ref().and_then(|redaction| redaction.scrubbed_record(record));
        push(&self.logs, local, scope, scrubbed.as_deref().unwrap_or(record), urgency);
    }

    /// Whether log records are without secrets before they are in a chunk.
    pub(crate) fn scrubs_in_call(&self) -> bool {
        self.pool.arena.is_some()
    }

    fn emit_to_sinks(&self, sinks: &Sinks, local: Option<&Local>, ways: Ways, scope: ScopeId, record: &[u8]) {
        if sinks.has_in_call() {
            sinks.write_in_call(ways, scope, record, self.redaction.as_deref());
        }
        for lane in sinks.lanes(ways) {
            push(lane, local, scope, record, Urgency::Idle);
        }
    }

    /// The ways of a record whose target and level were not known before.
    pub(crate) fn ways(&self, scope: ScopeId, level: Level) -> Ways {
        scope.ways(&self.levels, level)
    }

    /// A forked child's begins anew: what its parent has made is its parent's.
    pub(crate) fn ledger(&self) -> Ledger {
        if self.is_forked() {
            let [logs, traces, metrics] =
                Signal::ALL.map(|signal| self.lane(signal).counters.account_of_forked(exit::forks()));
            return Ledger { logs, traces, metrics };
        }
        Ledger { logs: self.logs.account(), traces: self.traces.account(), metrics: self.metrics.account() }
    }
}

#[inline]
fn push(lane: &Lane, local: Option<&Local>, scope: ScopeId, record: &[u8], urgency: Urgency) {
    match local {
        Some(local) => lane.push(local, scope, record, urgency),
        None => lane.push_detached(scope, record, urgency),
    }
}
