//! Tells of what goes wrong: on stderr, and of losses also to the collector, as a log record of the scope `watchbell`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::Uri;

use crate::callsite::ScopeId;
use crate::config::{PerSignal, Signal};
use crate::encode;
use crate::lane::Urgency;
use crate::pipeline::Pipeline;
use crate::tell;

/// Least time between two reports of losses while the service runs.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What was told, so that it is not told again.
#[derive(Default)]
pub(super) struct Report {
    /// Whether log records are exported, so that losses can be told in one.
    has_logs: bool,
    last: Option<Instant>,
    dropped: PerSignal<u64>,
    /// What the collector was told; it comes later, when there is room for it.
    dropped_in_band: PerSignal<u64>,
    answer_told: PerSignal<Option<Instant>>,
}

impl Report {
    pub(super) fn new(has_logs: bool) -> Self {
        Self { has_logs, ..Self::default() }
    }

    /// Tells how many records were dropped since the last report.
    pub(super) fn tell_losses(&mut self, pipeline: &Pipeline, now: Instant) {
        if self.last.is_some_and(|last| now < last + REPORT_INTERVAL) {
            return;
        }
        for signal in Signal::ALL {
            let (i, dropped) = (signal as usize, pipeline.lane(signal).counters.dropped_buffer_full());
            if dropped > self.dropped[i] {
                self.last = Some(now);
                tell::error(format_args!("{}", lost(dropped - self.dropped[i], signal)));
                self.dropped[i] = dropped;
            }
            if self.has_logs && dropped > self.dropped_in_band[i] && !pipeline.pool.is_half_full() {
                self.last = Some(now);
                tell_collector(pipeline, &lost(dropped - self.dropped_in_band[i], signal));
                self.dropped_in_band[i] = dropped;
            }
        }
    }

    /// Tells that a collector took a request but for some records, or with a warning.
    pub(super) fn partial(&mut self, signal: Signal, rejected: u64, message: &str) {
        if rejected > 0 {
            self.refused(signal, rejected, message);
        } else if !message.is_empty() && self.may_tell_answer(signal) {
            tell::warn(format_args!("the collector took all {}, and says: {message}", signal.records_name()));
        }
    }

    /// Tells that a collector refused records.
    pub(super) fn refused(&mut self, signal: Signal, records: u64, reason: &str) {
        self.lost(signal, format_args!("the collector refused {records} {}: {reason}", signal.records_name()));
    }

    /// Tells that records were tried for as long as they may.
    pub(super) fn timed_out(&mut self, signal: Signal, records: u64) {
        self.lost(signal, format_args!("{records} {} lost: the export's timeout is over", signal.records_name()));
    }

    fn lost(&mut self, signal: Signal, text: fmt::Arguments<'_>) {
        if self.may_tell_answer(signal) {
            tell::error(text);
        }
    }

    /// Whether an interval has passed since an answer was told.
    fn may_tell_answer(&mut self, signal: Signal) -> bool {
        let told = &mut self.answer_told[signal as usize];
        let now = Instant::now();
        let may_tell = told.is_none_or(|told| now >= told + REPORT_INTERVAL);
        if may_tell {
            *told = Some(now);
        }
        may_tell
    }

    /// Tells the whole account, if records were lost.
    pub(super) fn tell_end(&self, pipeline: &Pipeline) {
        let ledger = pipeline.ledger();
        if ledger.logs.lost() + ledger.traces.lost() + ledger.metrics.lost() > 0 {
            tell::error(format_args!("{ledger}"));
        }
    }
}

fn lost(count: u64, signal: Signal) -> String {
    format!("{count} {} lost: the buffer was full", signal.records_name())
}

fn tell_collector(pipeline: &Pipeline, text: &str) {
    let mut record = Vec::new();
    encode::put_report(&mut record, encode::unix_nano(SystemTime::now()), text);
    pipeline.lane(Signal::Logs).push_detached(ScopeId::of_target("watchbell"), &record, Urgency::Scheduled);
}

/// Whether a signal's collector is away.
#[derive(Default)]
pub(super) struct Outage(AtomicBool);

impl Outage {
    /// Tells the beginning of an outage.
    pub(super) fn tell(&self, signal: Signal, uri: &Uri, reason: &str) {
        if !self.0.swap(true, Ordering::Relaxed) {
            tell::warn(format_args!("cannot deliver {} to {uri}, trying again: {reason}", signal.records_name()));
        }
    }

    /// Tells its end.
    pub(super) fn is_over(&self, signal: Signal) {
        if self.0.swap(false, Ordering::Relaxed) {
            tell::info(format_args!("{} are delivered again", signal.records_name()));
        }
    }
}
