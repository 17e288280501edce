//! Tells of what goes wrong: on stderr, and of losses also to the collector, as a log record of the scope `watchbell`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::Uri;
use tokio::sync::Notify;

use crate::callsite::ScopeId;
use crate::config::{PerSignal, Signal, without_query};
use crate::encode;
use crate::lane::Urgency;
use crate::ledger::{Account, End};
use crate::pipeline::Pipeline;
use crate::tell;

/// Least time between two reports of losses while the service runs.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What was told, so that it is not told again.
#[derive(Default)]
pub(super) struct Report {
    /// Whether log records are exported, so that losses can be told in one.
    has_logs: bool,
    on_stderr: Told,
    /// What the collector was told; it comes later, when there is room for it.
    in_band: Told,
    /// How many log records had been delivered when the collector was told last.
    delivered: u64,
    /// How many records it was told that each sink has lost. Stderr is told by the sinks.
    lost_by_sinks: Vec<u64>,
    answer_told: PerSignal<Option<Instant>>,
    is_unmapped_told: bool,
}

/// How many records were told as lost, for each reason of [`End::LOSSES`].
#[derive(Default)]
struct Told {
    last: Option<Instant>,
    lost: PerSignal<[u64; End::LOSSES.len()]>,
}

/// Losses that were not told yet.
struct Loss {
    records: u64,
    signal: Signal,
    end: End,
    reason: &'static str,
}

impl Report {
    pub(super) fn new(has_logs: bool) -> Self {
        Self { has_logs, ..Self::default() }
    }

    /// Tells how many records were lost since the last report. What a collector refused, or was too slow for, stderr was told with its own words.
    pub(super) fn tell_losses(&mut self, pipeline: &Pipeline, now: Instant, is_away: bool) {
        if self.on_stderr.is_due(now) {
            for loss in self.on_stderr.losses(pipeline, now, |end| why(end).is_some()) {
                tell::error(format_args!("{}", loss.text()));
            }
        }
        if !is_away && self.in_band.is_due(now) {
            self.tell_losses_in_band(pipeline, now);
        }
    }

    /// Tells, once, that the mapped file has no room, or hangs; that there is none was told at the start.
    pub(super) fn tell_unmapped(&mut self, pipeline: &Pipeline) {
        let is_unmapped = || Signal::ALL.iter().any(|signal| pipeline.lane(*signal).counters.unmapped() > 0);
        if !self.is_unmapped_told && pipeline.pool.arena.is_some() && is_unmapped() {
            self.is_unmapped_told = true;
            tell::warn(format_args!(
                "records wait in memory alone, where `kill -9` loses them: the mapped chunks have no room (raise `buffer_bytes_max`), or their disk hangs"
            ));
        }
    }

    /// Tells the collector, in log records, as far as there is room for them. One that takes nothing at all is not told what it refused: that would be refused, too.
    pub(super) fn tell_losses_in_band(&mut self, pipeline: &Pipeline, now: Instant) {
        let lane = pipeline.lane(Signal::Logs);
        if !self.has_logs || lane.is_half_full() {
            return;
        }
        let delivered = lane.counters.count(End::Delivered);
        let is_taking = delivered > self.delivered;
        for loss in self.in_band.losses(pipeline, now, |end| is_taking || why(end).is_some()) {
            self.delivered = delivered;
            let (mut record, now) = (Vec::new(), encode::unix_nano(SystemTime::now()));
            encode::put_loss(&mut record, now, &loss.text(), loss.records, loss.signal.name(), loss.reason);
            lane.push_detached(ScopeId::of_target("watchbell"), &record, Urgency::Scheduled);
        }
        self.tell_losses_of_sinks_in_band(pipeline, now);
    }

    fn tell_losses_of_sinks_in_band(&mut self, pipeline: &Pipeline, now: Instant) {
        let Some(sinks) = &pipeline.sinks else { return };
        for (i, (name, lost)) in sinks.lost().enumerate() {
            if i == self.lost_by_sinks.len() {
                self.lost_by_sinks.push(0);
            }
            let told = &mut self.lost_by_sinks[i];
            if lost > *told {
                self.in_band.last = Some(now);
                let (mut record, records) = (Vec::new(), lost - std::mem::replace(told, lost));
                let text = format!("{records} log records lost by the sink `{name}`");
                encode::put_loss_of_sink(&mut record, encode::unix_nano(SystemTime::now()), &text, records, name);
                pipeline.lane(Signal::Logs).push_detached(ScopeId::of_target("watchbell"), &record, Urgency::Scheduled);
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
        let lost = |account: &Account| account.lost() + account.taken_over.refused + account.taken_over.dropped;
        if [ledger.logs, ledger.traces, ledger.metrics].iter().map(lost).sum::<u64>() > 0 {
            tell::error(format_args!("{ledger}"));
        }
    }
}

impl Told {
    /// Whether an interval has passed since something was told.
    fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now >= last + REPORT_INTERVAL)
    }

    /// What is to be told now.
    fn losses(&mut self, pipeline: &Pipeline, now: Instant, is_wanted: impl Fn(End) -> bool) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (signal, told) in Signal::ALL.into_iter().zip(&mut self.lost) {
            for ((end, reason), told) in End::LOSSES.into_iter().zip(told) {
                let lost = pipeline.lane(signal).counters.count(end);
                if lost > *told && is_wanted(end) {
                    self.last = Some(now);
                    losses.push(Loss { records: lost - std::mem::replace(told, lost), signal, end, reason });
                }
            }
        }
        losses
    }
}

impl Loss {
    fn text(&self) -> String {
        let Self { records, signal, end, .. } = self;
        format!("{records} {} lost: {}", signal.records_name(), why(*end).unwrap_or("the collector did not take them"))
    }
}

/// The words for what may go on for long, so that it is told once an interval.
fn why(end: End) -> Option<&'static str> {
    match end {
        End::BufferFull => Some("the buffer was full"),
        End::SpoolFull => Some("the spool was full, and they were the oldest"),
        End::SpoolDamaged => Some("the spool is damaged"),
        End::Delivered | End::Refused | End::AtExportTimeout | End::AtDeadline => None,
    }
}

/// Whether a signal's collector is away.
pub(super) struct Outage {
    is_on: AtomicBool,
    /// How many tries have found nobody.
    in_vain: AtomicU64,
    has_answered: AtomicBool,
    end: Notify,
    /// Whether requests wait for those that are under way.
    others_wait: AtomicBool,
    /// Who wants to know of each failure.
    wake: Option<Arc<Notify>>,
}

impl Outage {
    pub(super) fn new(wake: Option<Arc<Notify>>) -> Self {
        Self {
            is_on: AtomicBool::new(false),
            in_vain: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
            end: Notify::new(),
            others_wait: AtomicBool::new(false),
            wake,
        }
    }

    /// Whether the last try failed.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// How many tries have found nobody.
    pub(super) fn in_vain(&self) -> u64 {
        self.in_vain.load(Ordering::Relaxed)
    }

    /// Whether requests wait for those that are under way.
    pub(super) fn others_wait(&self) -> bool {
        self.others_wait.load(Ordering::Relaxed)
    }

    pub(super) fn set_others_wait(&self, others_wait: bool) {
        self.others_wait.store(others_wait, Ordering::Relaxed);
    }

    /// Whether there has ever been an answer.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Takes note of a try that failed, and tells the beginning of an outage.
    pub(super) fn tell(&self, signal: Signal, uri: &Uri, reason: &str, is_away: bool) {
        self.in_vain.fetch_add(u64::from(is_away), Ordering::Relaxed);
        self.has_answered.fetch_or(!is_away, Ordering::Relaxed);
        let was_on = self.is_on.swap(true, Ordering::Relaxed);
        self.wake.iter().for_each(|wake| wake.notify_one());
        if !was_on {
            let (records, uri) = (signal.records_name(), uri.to_string());
            let uri = without_query(&uri);
            tell::warn(format_args!("cannot deliver {records} to {uri}, trying again: {reason}"));
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// Tells its end.
    pub(super) fn is_over(&self, signal: Signal) {
        self.has_answered.store(true, Ordering::Relaxed);
        if self.is_on.swap(false, Ordering::Relaxed) {
            self.end.notify_waiters();
            tell::info(format_args!("{} are delivered again", signal.records_name()));
        }
    }
}
