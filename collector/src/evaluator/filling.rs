//! New rules that look far back: filled from the log aside, while the others are judged.
//!
//! A rules frame may bring rules that want to know the past. Where the log holds little of it, that is read at once, and they are in force
//! from the frame on. Where it is more than [`FILL_AT_ONCE_BYTES_MAX`], these rules wait, and those of the same names that they replace stay in
//! force. A [`FillJob`] reads the log into an engine of its own, and goes on until it has caught up with what is appended; then a
//! `Filled` frame is written, at which the rules come into force and take that engine's windows over. The frame says how they were filled:
//! a replay that has none at hand fills them again, in the same way, before it goes on. A new change of rules begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watchbell_rules::engine::{Engine, RuleStatus};
use watchbell_rules::plan::{Plan, RuleName};
use watchbell_rules::time::Timestamp;

use super::rule_set::{RuleFileText, RuleSet, RuleSetError};
use crate::wal::{Frame, FrameKind, Log, Part, Position};

/// Bytes of the log that are read for new rules before anything else is judged. Rules that need more wait, and are filled aside.
pub const FILL_AT_ONCE_BYTES_MAX: u64 = 4 << 20;

/// Bytes of the log for which rules are filled together: those that need more are filled behind the others, which so need not wait for them.
pub const FILL_TOGETHER_BYTES_MAX: u64 = 256 << 20;

/// How much of the log is read for new rules.
#[derive(Clone, Copy, Debug)]
pub struct FillLimits {
    /// Before anything else is judged.
    pub at_once_bytes_max: u64,
    /// For rules that come into force together.
    pub together_bytes_max: u64,
    /// By one step of a job.
    pub step_bytes_max: usize,
}

impl Default for FillLimits {
    fn default() -> Self {
        Self {
            at_once_bytes_max: FILL_AT_ONCE_BYTES_MAX,
            together_bytes_max: FILL_TOGETHER_BYTES_MAX,
            step_bytes_max: 4 << 20,
        }
    }
}

impl FillLimits {
    /// How far back rules may look that are filled at a rules frame, those of `known` being in force before.
    pub(super) fn at_once(&self, log: &dyn Log, plan: &Plan, known: &Plan, frame: &Frame) -> Duration {
        let looks_back = plan.looks_back(known);
        furthest(log, &looks_back, frame.received, frame.position, self.at_once_bytes_max).unwrap_or_default()
    }

    /// How far back rules may look that are filled next: the one that needs the least is among them.
    fn together(&self, log: &dyn Log, looks_back: &BTreeSet<Duration>, now: Timestamp, until: Position) -> Duration {
        let least = looks_back.first().copied().unwrap_or_default();
        let bytes_max = self.together_bytes_max.max(bytes(log, log.seek(now - least), until));
        furthest(log, looks_back, now, until, bytes_max).unwrap_or(least)
    }
}

/// The longest of the times for which no more than that is to be read.
fn furthest(
    log: &dyn Log,
    times: &BTreeSet<Duration>,
    now: Timestamp,
    until: Position,
    bytes_max: u64,
) -> Option<Duration> {
    times.iter().rev().copied().find(|time| bytes(log, log.seek(now - *time), until) <= bytes_max)
}

/// Bytes that the log holds between two places.
fn bytes(log: &dyn Log, from: Position, until: Position) -> u64 {
    // Within a part places are as far apart as their bytes.
    let inside = |part: Part| until.min(part.end).0.saturating_sub(from.max(part.start).0);
    log.parts().into_iter().map(inside).sum()
}

/// Rules that are not in force yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Where the rules frame stands that brought them.
    frame: Position,
    /// Their keys.
    rules: BTreeSet<String>,
    /// Rule files of before, with the rules that they are to replace.
    former_files: Vec<RuleFileText>,
    /// The keys of those, which are in force meanwhile.
    former_rules: BTreeSet<String>,
    /// How far back those of the frame look that did not wait; not in snapshots of before.
    #[serde(default)]
    at_once: Option<Duration>,
}

impl Waiting {
    /// `rules` of `full` wait, which is what the frame brought; `in_force` is from the files of `before`.
    pub(super) fn new(
        frame: Position,
        rules: BTreeSet<String>,
        full: &Plan,
        in_force: &Plan,
        before: &RuleSet,
    ) -> Self {
        let called = |rule: &RuleName<'_>| (rule.group.to_owned(), rule.name.to_owned());
        let waiting: BTreeSet<_> =
            full.rules().filter(|rule| rules.contains(rule.key)).map(|rule| called(&rule)).collect();
        let stays: BTreeSet<&str> = full.rules().map(|rule| rule.key).collect();
        let is_former = |rule: &RuleName<'_>| !stays.contains(rule.key) && waiting.contains(&called(rule));
        let former: Vec<RuleName<'_>> = in_force.rules().filter(is_former).collect();
        let former_rules: BTreeSet<String> = former.iter().map(|rule| rule.key.to_owned()).collect();
        let mut former_files: Vec<RuleFileText> = Vec::new();
        for file in before.files.iter().filter(|file| former.iter().any(|rule| rule.file == file.path)) {
            if !former_files.contains(file) && before.has_rules(file, &former_rules) {
                former_files.push(file.clone());
            }
        }
        Self { frame, rules, former_files, former_rules, at_once: None }
    }

    /// The same, where it is known how far back those look that do not wait.
    pub(super) fn beyond(self, at_once: Option<Duration>) -> Self {
        Self { at_once, ..self }
    }

    pub(super) fn at_once(&self) -> Option<Duration> {
        self.at_once
    }

    /// Files with rules that are in force, beside those of the rule set.
    pub(super) fn former_files(&self) -> &[RuleFileText] {
        &self.former_files
    }

    /// Compiles what is in force: the rules of the set that do not wait, and those that are to be replaced.
    pub(super) fn in_force(&self, rules: &RuleSet, full: &Plan) -> Result<Arc<Plan>, RuleSetError> {
        let keys: BTreeSet<&str> = full.rules().map(|rule| rule.key).collect();
        let keeps = |key: &str| self.former_rules.contains(key) || (keys.contains(key) && !self.rules.contains(key));
        // Two files of the same path are no matter here: of each the rules with the kept keys alone are compiled, and a key stands for all
        // that a rule says. A rule that stands in both is the same in both.
        let files = rules.files.iter().chain(&self.former_files).cloned().collect();
        let rules = RuleSet { files, ..rules.clone() };
        Ok(rules.compile_some(&keeps)?.plan)
    }
}

/// The filling of rules that wait.
pub(super) struct Filling {
    waiting: Waiting,
    /// All rules of the frame, those among them.
    full: Arc<Plan>,
    /// How those that wait are shown.
    shown: Vec<RuleStatus>,
    begun: Option<Begun>,
    /// Not before then, by the monotonic clock, is a filling that has died begun again.
    again_at: Duration,
    /// What has been filled, until the log says so.
    done: Option<Box<FillJob>>,
}

struct Begun {
    fill: Fill,
    /// Shared with the job, which ends when nobody else has it.
    progress: Arc<Progress>,
}

/// What a job tells of itself.
#[derive(Debug, Default)]
struct Progress {
    /// How much of the past has been read, in parts of [`READ_ALL`].
    read: AtomicU64,
    /// Bytes of the log that are yet to be read.
    left_bytes: AtomicU64,
}

impl Begun {
    /// Whether the job is gone: its thread was not started, or has panicked.
    fn is_dead(&self) -> bool {
        Arc::strong_count(&self.progress) == 1
    }
}

/// How far the filling of new rules is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FillProgress {
    /// Rules that wait for it.
    pub rules: usize,
    /// How much of what those that are filled now need has been read, from 0 to 1.
    pub ratio: f64,
    /// Bytes of the log that are yet to be read for them, what has come since among them.
    pub left_bytes: u64,
}

impl Filling {
    pub(super) fn new(waiting: Waiting, full: Arc<Plan>) -> Self {
        let shown = RuleStatus::of_waiting(&full, &waiting.rules, 0.0);
        Self { waiting, full, shown, begun: None, again_at: Duration::ZERO, done: None }
    }

    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    pub(super) fn full(&self) -> &Arc<Plan> {
        &self.full
    }

    /// Begins to fill the next of the rules that wait, unless that has begun and goes on.
    pub(super) fn begin(
        &mut self,
        log: &dyn Log,
        (rules, in_force): (&RuleSet, &Plan),
        (from, clock): (Position, Timestamp),
        limits: &FillLimits,
        monotonic: Duration,
    ) -> Option<Box<FillJob>> {
        if self.begun.as_ref().is_some_and(Begun::is_dead) {
            tracing::error!(
                "filling new rules has ended before its time, and begins again in a minute; where no other message says why, that is a fault of ours: please report it"
            );
            self.begun = None;
            self.again_at = monotonic + AGAIN_PAUSE;
        }
        if self.begun.is_some() || monotonic < self.again_at {
            return None;
        }
        let looks_back = self.looks_back(in_force).into_values().collect();
        let looks_back = limits.together(log, &looks_back, clock, from);
        let fill = Fill { rules: self.waiting.frame, from, clock, looks_back, at_once: self.waiting.at_once };
        let plan = self.to_fill(rules, in_force, looks_back);
        let job = FillJob::new(fill.clone(), plan, in_force, log, limits.step_bytes_max);
        let (rules, megabytes) = (self.waiting.rules.len(), job.bytes >> 20);
        tracing::info!(
            rules,
            ?looks_back,
            megabytes,
            "rules that look far back are filled from the log; until they are in force the others are judged, and those that they replace"
        );
        self.begun = Some(Begun { fill, progress: Arc::clone(&job.progress) });
        Some(Box::new(job))
    }

    /// The rules alone that wait and look back no further than so.
    fn to_fill(&self, rules: &RuleSet, in_force: &Plan, looks_back: Duration) -> Arc<Plan> {
        let wanted = self.looks_back(in_force);
        let compiled = rules.compile_some(&|key| wanted.get(key).is_some_and(|other| *other <= looks_back));
        // Among all others they have been compiled.
        compiled.map_or_else(|_| Arc::clone(&self.full), |compiled| compiled.plan)
    }

    /// How far back each of the rules that wait looks.
    fn looks_back(&self, in_force: &Plan) -> BTreeMap<&str, Duration> {
        let mut rules = self.full.new_rules(in_force);
        rules.retain(|key, _| self.waiting.rules.contains(*key));
        rules
    }

    /// Takes what has been filled, if it was for these rules, and yields what the log is to say of it.
    pub(super) fn handle_done(&mut self, job: Box<FillJob>) -> Option<Fill> {
        let begun = self.begun.as_ref().filter(|begun| Arc::ptr_eq(&begun.progress, &job.progress))?;
        self.done = Some(job);
        Some(begun.fill.clone())
    }

    /// Whether a frame tells of these rules.
    pub(super) fn is_told_of_by(&self, fill: &Fill) -> bool {
        self.waiting.frame == fill.rules
    }

    /// The engine whose windows were filled like that, up to `until`: the one at hand, else one that is filled now.
    pub(super) fn filled(
        &mut self,
        fill: &Fill,
        log: &dyn Log,
        (rules, in_force): (&RuleSet, &Plan),
        until: Position,
        limits: &FillLimits,
    ) -> io::Result<Engine> {
        let mut job = match self.done.take().filter(|job| job.fill == *fill) {
            Some(job) => *job,
            None => {
                let plan = self.to_fill(rules, in_force, fill.looks_back);
                FillJob::new(fill.clone(), plan, in_force, log, limits.step_bytes_max)
            }
        };
        while !job.step(log, until)? {}
        Ok(job.finish())
    }

    /// The keys of the rules that still wait when those are in force that look back no further than so.
    pub(super) fn waiting_beyond(&self, looks_back: Duration, in_force: &Plan) -> BTreeSet<String> {
        let rules = self.looks_back(in_force).into_iter();
        rules.filter(|(_, other)| *other > looks_back).map(|(key, _)| key.to_owned()).collect()
    }

    pub(super) fn progress(&self) -> FillProgress {
        let told = |of: fn(&Progress) -> &AtomicU64| {
            self.begun.as_ref().map_or(0, |begun| of(&begun.progress).load(Ordering::Relaxed))
        };
        let ratio = told(|progress| &progress.read) as f64 / READ_ALL as f64;
        FillProgress { rules: self.waiting.rules.len(), ratio, left_bytes: told(|progress| &progress.left_bytes) }
    }

    /// Adds those that wait to the rules in force, in the order of the files.
    pub(super) fn add_waiting(&self, rules: &mut Vec<RuleStatus>) {
        let filled = Some(self.progress().ratio);
        rules.extend(self.shown.iter().cloned().map(|rule| RuleStatus { filled, ..rule }));
        let mut places = BTreeMap::new();
        for (place, rule) in self.full.rules().enumerate() {
            places.entry((rule.file, rule.group)).or_insert(place);
        }
        let place = |rule: &RuleStatus| places.get(&(&*rule.file, &*rule.group)).copied().unwrap_or(usize::MAX);
        rules.sort_by_key(place);
    }
}

/// How new rules were filled: what a `Filled` frame says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// Where the rules frame stands that brought them.
    rules: Position,
    /// Where the evaluator stood when it began, and the log's clock there: what stands before is the past.
    from: Position,
    clock: Timestamp,
    /// The rules that look back no further than so were filled.
    pub(super) looks_back: Duration,
    /// How far back those look that were filled when the rules frame was folded; not in frames of before.
    #[serde(default)]
    at_once: Option<Duration>,
}

impl Fill {
    /// How far back rules of a rules frame looked that did not wait, where the log tells of others that did: what it still holds of the time
    /// before does not tell any more, once the size cap has taken of it.
    pub(super) fn at_once(log: &dyn Log, frame: &Frame, until: Position) -> io::Result<Option<Duration>> {
        let mut from = frame.next;
        while from < until {
            let frames = log.read(from, READ_BYTES_MAX)?;
            let Some(last) = frames.last() else { break };
            from = last.next;
            for later in &frames {
                match later.kind {
                    FrameKind::Rules if later.payload != frame.payload => return Ok(None),
                    FrameKind::Filled => match Self::from_bytes(&later.payload) {
                        Ok(fill) if fill.rules == frame.position => return Ok(fill.at_once),
                        _ => {}
                    },
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    pub(super) fn rules(&self) -> Position {
        self.rules
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // A struct of numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

/// Fills new rules with what the log holds, step by step, on whatever thread it is driven.
#[derive(Debug)]
pub struct FillJob {
    fill: Fill,
    /// The rules that are filled.
    pub(super) plan: Arc<Plan>,
    engine: Engine,
    /// From when on batches are of interest.
    since: Timestamp,
    /// From when on those that were read are all there were.
    reaches: Option<Timestamp>,
    /// Where the size cap was faster than the job: from when on nothing is missing behind the last such hole.
    hole: Option<Timestamp>,
    start: Position,
    next: Position,
    /// Whether all of the past has been read.
    knows_past: bool,
    step_bytes_max: usize,
    /// Bytes of the past, about.
    bytes: u64,
    /// Bytes that came while it was read, and have been read since.
    read_behind: u64,
    /// At how many of them it is told next that there is no end to them.
    tells_at: u64,
    progress: Arc<Progress>,
}

impl FillJob {
    fn new(fill: Fill, plan: Arc<Plan>, in_force: &Plan, log: &dyn Log, step_bytes_max: usize) -> Self {
        let engine = Engine::to_fill(Arc::clone(&plan), in_force, fill.looks_back, fill.clock);
        let since = engine.fills_since().unwrap_or(fill.clock);
        let start = log.seek(since);
        let bytes = bytes(log, start, fill.from);
        Self {
            plan,
            engine,
            since,
            reaches: (start > log.oldest()).then_some(since),
            hole: None,
            start,
            next: start,
            knows_past: false,
            step_bytes_max,
            bytes,
            read_behind: 0,
            tells_at: bytes.max(TOLD_BEHIND_BYTES_MIN),
            progress: Arc::default(),
            fill,
        }
    }

    /// Whether the evaluator still waits for it.
    pub fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.progress) > 1
    }

    /// Reads on in the log; tells whether it has come to `until`, or to the end.
    ///
    /// # Errors
    /// The log cannot be read; the step can be tried again.
    pub fn step(&mut self, log: &dyn Log, until: Position) -> io::Result<bool> {
        if self.next >= until {
            return Ok(true);
        }
        let frames = log.read(self.next, self.step_bytes_max)?;
        let Some(first) = frames.first() else { return Ok(true) };
        if first.position > self.next && log.oldest() > self.next {
            self.hole = Some(first.received);
        }
        // The frame at `until` may be the first of its segment: then no frame ends there.
        let (wanted, behind): (Vec<_>, Vec<_>) = frames.iter().partition(|frame| frame.position < until);
        wanted.into_iter().for_each(|frame| self.take(frame));
        self.tell_progress(log);
        Ok(self.next >= until || !behind.is_empty())
    }

    fn take(&mut self, frame: &Frame) {
        if frame.position >= self.fill.from {
            self.end_past();
            self.engine.handle_past_time(frame.received);
            self.read_behind += frame.payload.len() as u64;
        }
        self.next = frame.next;
        self.reaches.get_or_insert(frame.received.max(self.since));
        if frame.kind == FrameKind::Batch && frame.received >= self.since {
            let matched = self.plan.match_batch(&frame.payload, frame.receipt());
            self.engine.handle_past_batch(&matched, &frame.payload, frame.receipt());
        }
    }

    fn end_past(&mut self) {
        if !std::mem::replace(&mut self.knows_past, true) {
            self.engine.handle_past_known(self.reaches.unwrap_or(self.fill.clock));
        }
    }

    fn tell_progress(&mut self, log: &dyn Log) {
        let read = bytes(log, self.start, self.next.min(self.fill.from)).min(self.bytes);
        let parts = if self.knows_past { READ_ALL } else { read * READ_ALL / self.bytes.max(1) };
        let left_bytes = bytes(log, self.next, log.end());
        self.progress.left_bytes.store(left_bytes, Ordering::Relaxed);
        let before = self.progress.read.swap(parts, Ordering::Relaxed);
        if before / TOLD_PARTS != parts / TOLD_PARTS {
            tracing::info!(percent = parts * 100 / READ_ALL, "filling rules from the log");
        }
        if self.read_behind >= self.tells_at {
            self.tells_at = 2 * self.read_behind;
            let (megabytes, megabytes_left) = (self.read_behind >> 20, left_bytes >> 20);
            tracing::warn!(
                megabytes,
                megabytes_left,
                "filling rules from the log hardly catches up with what is appended meanwhile: until it does they are not in force"
            );
        }
    }

    fn finish(mut self) -> Engine {
        self.end_past();
        if let Some(since) = self.hole {
            self.engine.handle_past_hole(since);
        }
        self.engine
    }
}

/// How long a filling that has died is left alone.
const AGAIN_PAUSE: Duration = Duration::from_secs(60);
/// Payload that is read at once where it is looked for what was filled.
const READ_BYTES_MAX: usize = 4 << 20;
/// Of so many parts of the past a job tells how many it has read.
const READ_ALL: u64 = 1000;
/// After how many of them it logs that.
const TOLD_PARTS: u64 = 250;
/// A job that has read less of what came meanwhile does not complain.
const TOLD_BEHIND_BYTES_MIN: u64 = 64 << 20;
