//! Tells of what goes wrong: on stderr, and of losses also to the collector, as a log record of the scope `watchbell`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::Uri;

use crate::callsite::ScopeId;
use crate::config::Signal;
use crate::encode;
use crate::lane::Urgency;
use crate::pipeline::Pipeline;
use crate::tell;

/// Least time between two reports of losses while the service runs.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What was told, so that it is not told again.
#[derive(Default)]
pub(super) struct Report {
    dropped: [u64; 2],
    last: Option<Instant>,
    refusal_told: [Option<Instant>; 2],
}

impl Report {
    /// Tells how many records were dropped since the last report.
    pub(super) fn tell_losses(&mut self, pipeline: &Pipeline, now: Instant) {
        if self.last.is_some_and(|last| now < last + REPORT_INTERVAL) {
            return;
        }
        for signal in Signal::ALL {
            let lane = pipeline.lane(signal);
            let dropped = lane.account().dropped_buffer_full;
            let new = dropped - std::mem::replace(&mut self.dropped[signal as usize], dropped);
            if new > 0 {
                self.last = Some(now);
                let text = format!("{new} {} lost: the buffer was full", signal.records_name());
                tell(format_args!("{text}"));
                tell_collector(pipeline, &text);
            }
        }
    }

    /// Tells that a collector took a request but for some records.
    pub(super) fn partial(&mut self, signal: Signal, rejected: u64, message: &str) {
        if rejected > 0 || !message.is_empty() {
            self.refused(signal, rejected, message);
        }
    }

    /// Tells that a collector refused records, once an interval.
    pub(super) fn refused(&mut self, signal: Signal, records: u64, reason: &str) {
        let told = &mut self.refusal_told[signal as usize];
        let now = Instant::now();
        if told.is_none_or(|told| now >= told + REPORT_INTERVAL) {
            *told = Some(now);
            tell(format_args!("the collector refused {records} {}: {reason}", signal.records_name()));
        }
    }

    /// Tells the whole account, if records were lost.
    pub(super) fn tell_end(&self, pipeline: &Pipeline) {
        let ledger = pipeline.ledger();
        if ledger.logs.lost() + ledger.traces.lost() > 0 {
            tell(format_args!("{ledger}"));
        }
    }
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
            tell(format_args!("cannot deliver {} to {uri}, trying again: {reason}", signal.records_name()));
        }
    }

    /// Tells its end.
    pub(super) fn is_over(&self, signal: Signal) {
        if self.0.swap(false, Ordering::Relaxed) {
            tell(format_args!("{} are delivered again", signal.records_name()));
        }
    }
}
