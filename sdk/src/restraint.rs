//! Holding records back where there are too many: by rate, by share, repeats, and under pressure. What is withheld is counted, and told.
//!
//! ```
//! use watchbell::tracing;
//!
//! let guard = watchbell::builder()
//!     .restrain("hyper=1/m,checkout=once/30s,debug:5%,adaptive")
//!     # .variables([("OTEL_SDK_DISABLED", "true")])
//!     # .sink(watchbell::sink::Sink::callback("none", |_| ()))
//!     .init()?;
//! for attempt in 0..100 {
//!     tracing::warn!(watchbell.limit = "3/h", attempt, "slow"); // this place alone
//! }
//! assert_eq!(guard.withheld().limit, 97);
//! # Ok::<(), watchbell::InitError>(())
//! ```
//!
//! What holds back is written as levels are, `target=what` or, for all targets, `what`, with commas between; the longest target that fits decides, of
//! each kind by itself. It is set by [`Builder::restrain`](crate::Builder::restrain), by `WATCHBELL_RESTRAIN`, or in the file of `OTEL_CONFIG_FILE` as
//! `distribution: {watchbell: {restrain: ...}}`.
//!
//! | what | what is let through |
//! |---|---|
//! | `10/s`, `100/m`, `5/30s` | of each place in the code so many in a time, at once or spread |
//! | `once/30s` | a record that is as the one before from its place (message and attributes) not again for that time |
//! | `5%` | the records of 5 % of the traces, whole traces, and 5 % of the records without one; WARN and ERROR always |
//! | `debug:5%` | the same of DEBUG and TRACE, all others always |
//! | `sampled`, `debug:sampled` | the records of the traces that are sampled, and those without a trace |
//! | `adaptive` | from where half of the [buffer](crate::Builder::buffer_bytes_max) is in use no DEBUG and TRACE, from three quarters no INFO, from nine tenths no WARN |
//!
//! A place sets its own rate by the field `watchbell.limit`, which is read once and is no attribute; it has to be a constant. Of records of the `log`
//! crate and of OpenTelemetry's API no place is known: those of one target and level are one. The share of traces is taken as by OpenTelemetry's
//! sampler by trace id, so that with the same share the traces that are sampled are those with records.
//!
//! # What is told
//!
//! The next record that its place lets through has the attribute `watchbell.withheld`, the number since the last one. Where none comes, a record of the same
//! place and level tells it, ten seconds later at most, at a [flush](crate::Guard::flush) or at the end. So a rule can count what was logged:
//!
//! ```logql
//!   sum(count_over_time({service_name="checkout"} [1m]))
//! + sum(sum_over_time({service_name="checkout"} | unwrap watchbell_withheld [1m]))
//! ```
//!
//! (A record that tells and is none of the service's counts as one too many, and a number is lost with its record.) [`Guard::withheld`](crate::Guard::withheld) has the
//! exact numbers since the start, as has the metric `watchbell.log.withheld`, by `watchbell.reason`. A withheld record goes to no sink either. It is not
//! written before that is decided, save for a repeat and for records of the `log` crate and of OpenTelemetry's API, for each of which the rules are looked
//! up, if there are any. A place that nothing holds back pays a look at that.

mod rules;
mod site;
mod teller;

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use tracing_core::Level;
use watchbell_proto::wire::{put_bytes_field, put_message_field, put_varint_field};

use crate::callsite::{Callsite, ScopeId, put_attribute, severity};
use crate::encode::unix_nano;
use crate::lane::Urgency;
use crate::pipeline::Pipeline;
use crate::record::{SpanIds, TIMES_BYTES, put_time_fields, put_times};

use rules::Share;
pub(crate) use rules::{Rate, Rules};
use site::Reason;
pub(crate) use site::Site;
use teller::Teller;

/// The attribute that tells how many records were withheld.
const WITHHELD: &str = "watchbell.withheld";

/// What holds a pipeline's records back.
pub(crate) struct Restraint {
    rules: Rules,
    has_rules: bool,
    number: u32,
    /// A forked child tells nothing: its parent does, and what locks it has found locked stay so.
    process: u32,
    sites: RwLock<HashMap<Place, &'static Site>>,
    totals: [AtomicU64; Reason::ALL.len()],
    is_closed: AtomicBool,
    teller: Teller,
}

/// Whose records are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// The callsite at this address.
    Callsite(usize),
    /// All callsites of a target with this severity: they are not known.
    Target(ScopeId, u64),
}

impl Restraint {
    pub(crate) fn new(rules: Rules) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self {
            has_rules: !rules.is_empty(),
            rules,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            process: std::process::id(),
            sites: RwLock::default(),
            totals: Default::default(),
            is_closed: AtomicBool::new(false),
            teller: Teller::default(),
        }
    }

    /// What is remembered of a callsite, if anything holds it back.
    #[inline]
    pub(crate) fn of_callsite(&self, callsite: &'static Callsite) -> Option<&'static Site> {
        if !self.has_rules && !callsite.has_limit() || callsite.is_log() {
            return None; // of the `log` crate's the target is not known yet
        }
        callsite.found().site(self.number, || {
            let place = Place::Callsite(std::ptr::from_ref(callsite).addr());
            let level = callsite.level();
            self.site(place, callsite.metadata().target(), callsite.scope(), level, Some(callsite))
        })
    }

    fn of_target(&self, scope: ScopeId, level: Level) -> Option<&'static Site> {
        if !self.has_rules {
            return None;
        }
        let known = scope.scope();
        known
            .found(level)
            .site(self.number, || self.site(Place::Target(scope, severity(level).0), known.name(), scope, level, None))
    }

    /// A site lives as long as the process, as a callsite does.
    #[cold]
    fn site(
        &self,
        place: Place,
        target: &str,
        scope: ScopeId,
        level: Level,
        callsite: Option<&'static Callsite>,
    ) -> Option<&'static Site> {
        let rules = self.rules.of(target, level);
        let has_limit = callsite.is_some_and(Callsite::has_limit);
        if rules == Default::default() && !has_limit {
            return None;
        }
        if let Some(site) = self.sites.read().unwrap_or_else(PoisonError::into_inner).get(&place) {
            return Some(site);
        }
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        let new = || &*Box::leak(Box::new(Site::new(rules, callsite, scope, level)));
        Some(*sites.entry(place).or_insert_with(new))
    }

    /// Whether a record that is to be made is let through; if not, it is counted.
    pub(crate) fn admits(&self, site: &Site, span: &SpanIds, now: u64, pipeline: &Pipeline) -> bool {
        let is_pressed = || site.rules.gives_way_at.is_some_and(|max| pipeline.pool.hundredths() >= usize::from(max));
        let is_out = || site.rules.share.is_some_and(|share| !share.takes(span));
        let reason = match site.limit() {
            _ if is_pressed() => Reason::Pressure,
            _ if is_out() => Reason::Sample,
            Some(rate) if !site.takes(rate, now) => Reason::Limit,
            _ => return true,
        };
        self.withhold(site, reason, pipeline);
        false
    }

    /// The same for one that is written, but for what ends with the `tail` bytes of its span. If it is let through, it tells how many were not.
    pub(crate) fn admits_written(
        &self,
        site: &Site,
        record: &mut Vec<u8>,
        tail: usize,
        now: u64,
        pipeline: &Pipeline,
    ) -> bool {
        site.takes_first(now);
        if let Some(nanos) = site.rules.once {
            let mut hasher = DefaultHasher::new();
            hasher.write(record.get(TIMES_BYTES..record.len() - tail).unwrap_or_default());
            if site.repeats(hasher.finish(), nanos, now) {
                self.withhold(site, Reason::Repeat, pipeline);
                return false;
            }
        }
        let withheld: u64 = site.take_withheld().iter().sum();
        if withheld > 0 {
            put_attribute(record, WITHHELD, |out| put_varint_field(out, 3, withheld));
        }
        true
    }

    /// Whether a record of which no more than target and level are known is let through.
    pub(crate) fn admits_target(
        &self,
        scope: ScopeId,
        level: Level,
        record: &mut Vec<u8>,
        span: &SpanIds,
        now: u64,
        pipeline: &Pipeline,
    ) -> bool {
        let Some(site) = self.of_target(scope, level) else { return true };
        self.admits(site, span, now, pipeline) && self.admits_written(site, record, span.len(), now, pipeline)
    }

    #[cold]
    fn withhold(&self, site: &Site, reason: Reason, pipeline: &Pipeline) {
        self.totals[reason as usize].fetch_add(1, Ordering::Relaxed);
        site.withhold(reason);
        if !self.is_closed.load(Ordering::Relaxed) {
            self.teller.wake(pipeline);
        }
    }

    /// How many were withheld since the start.
    pub(crate) fn withheld(&self) -> Withheld {
        let [limit, sample, repeat, pressure] =
            Reason::ALL.map(|reason| self.totals[reason as usize].load(Ordering::Relaxed));
        Withheld { limit, sample, repeat, pressure }
    }

    /// Makes a record for each place of which some were withheld that no other record has told.
    pub(crate) fn tell(&self, pipeline: &Pipeline) {
        if std::process::id() != self.process {
            return;
        }
        let sites: Vec<_> = self.sites.read().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
        for site in sites {
            let [limit, sample, repeat, pressure] = site.take_withheld();
            let withheld = Withheld { limit, sample, repeat, pressure };
            if withheld.total() > 0 {
                let ways = pipeline.ways(site.scope, site.level);
                pipeline.emit(None, ways, site.scope, &told(site, &withheld), Urgency::Idle);
            }
        }
    }

    /// Nothing more is told, since nothing more is sent.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.teller.end();
    }
}

/// The record that tells it.
fn told(site: &Site, withheld: &Withheld) -> Vec<u8> {
    let now = unix_nano(SystemTime::now());
    let mut record = Vec::new();
    match site.callsite {
        Some(callsite) => {
            record.extend_from_slice(callsite.head());
            if let Some(times) = record.first_chunk_mut() {
                put_times(times, now, now);
            }
        }
        None => {
            put_time_fields(&mut record, now);
            let (number, text) = severity(site.level);
            put_varint_field(&mut record, 2, number);
            put_bytes_field(&mut record, 3, text.as_bytes());
        }
    }
    let body = format!("{withheld} of the records of this place");
    put_message_field(&mut record, 5, |out| put_bytes_field(out, 1, body.as_bytes()));
    put_attribute(&mut record, WITHHELD, |out| put_varint_field(out, 3, withheld.total()));
    record
}

impl Share {
    /// Whether a record of this span is let through.
    fn takes(self, span: &SpanIds) -> bool {
        match (self, span.trace_bits()) {
            (Self::Sampled, bits) => bits.is_none() || span.is_sampled(),
            (Self::Below(bound), bits) => bits.unwrap_or_else(|| fastrand::u64(..) >> 1) < bound,
        }
    }
}

/// How many records were withheld since the start, and why. From [`Guard::withheld`](crate::Guard::withheld); the module
/// [`restraint`](crate::restraint) has an example.
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// let watchbell::restraint::Withheld { limit, repeat, .. } = guard.withheld();
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// Beyond the rate of their place: `10/s`.
    pub limit: u64,
    /// Not of the share that is let through: `5%`, `sampled`.
    pub sample: u64,
    /// As the one before: `once/30s`.
    pub repeat: u64,
    /// While the buffer was filling: `adaptive`.
    pub pressure: u64,
}

impl Withheld {
    /// All of them.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// assert_eq!(guard.withheld().total(), 0);
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn total(&self) -> u64 {
        self.limit + self.sample + self.repeat + self.pressure
    }

    /// Each reason, as metrics name it, with its number.
    pub(crate) fn by_reason(&self) -> [(&'static str, u64); Reason::ALL.len()] {
        let numbers = [self.limit, self.sample, self.repeat, self.pressure];
        std::array::from_fn(|i| (Reason::ALL[i].name(), numbers[i]))
    }
}

/// `37 withheld (30 limit, 7 repeat)`
impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} withheld", self.total())?;
        let mut open = " (";
        for (reason, number) in self.by_reason().into_iter().filter(|(_, number)| *number > 0) {
            write!(f, "{open}{number} {reason}")?;
            open = ", ";
        }
        if self.total() > 0 { f.write_str(")") } else { Ok(()) }
    }
}
