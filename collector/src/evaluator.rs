//! Folds the log of log records into alerts, alerts into notifications, and notifications into sends: one state machine over the
//! engine, the alerting policy and the outbox, which a thread, a replay and a simulation drive alike.
//!
//! What happened is decided by the log's frames alone: a batch, a clock frame when a timer was due and nothing arrived, a change of
//! rules, that new ones were filled, the outcome of a send, a start. Judging may run ahead of durability, its outputs may not: each waits here until the log is durable
//! up to the frame that caused it.

pub mod filling;
mod fullness;
mod history;
mod losses;
pub mod rule_set;
pub mod runner;
mod skew;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use watchbell_rules::alerting::Alerting;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::engine::{Engine, EngineStats, GAP_MIN, Gap, Output as Judged, RuleStatus};
use watchbell_rules::matcher::Matched;
use watchbell_rules::plan::Plan;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{AlertState, Sample, Transition};

use self::filling::{Fill, FillJob, FillLimits, FillProgress, Filling, Waiting};
use self::rule_set::{Compiled, Prepared, RuleSet};
use crate::notify::DeliveryResult;
use crate::outbox::{Outbox, Outcome};
use crate::wal::{Frame, FrameKind, Log, NewFrame, Position};

/// What an evaluator wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this message, then tell [`Evaluator::handle_result`] how it ended.
    Send(Arc<Notification>),
    /// An alert has changed its state: for an Alertmanager beside our own routing.
    Transition(Transition),
    /// What fires has been told, as transitions from firing to firing: the log has been folded as far as it reached at the start.
    Replayed,
    /// A point of a computed series, and the frame's position that it follows from.
    Sample(Position, Sample),
    /// Append this to the log.
    Append(NewFrame),
    /// Let this read the log up to where that is durable, then give it to [`Evaluator::handle_fill`].
    Fill(Box<FillJob>),
}

/// The state machine. Same frames, same outputs.
pub struct Evaluator {
    rules: RuleSet,
    /// Those of the rules that are in force, with those that stay until others are.
    plan: Arc<Plan>,
    engine: Engine,
    prepared: Prepared,
    filling: Option<Filling>,
    fill_limits: FillLimits,
    /// Where rules last came into force that were filled aside.
    filled_at: Position,
    alerting: Alerting,
    outbox: Outbox,
    /// The log that the frames are of: new rules are filled from it.
    log: Arc<dyn Log>,
    /// End of the last frame that was folded in.
    position: Position,
    /// Nothing is sent before the log has been folded up to here: what follows might tell that it was sent already.
    replay_until: Position,
    /// Whether what fires has been told since then.
    is_announced: bool,
    durable: Position,
    /// The log's clock.
    clock: Timestamp,
    /// Up to when somebody has listened: the last batch, timer or start. The outcome of a send may be written while no request is taken.
    heard: Timestamp,
    /// Effects of frames that may not be durable yet, in log order.
    waiting: VecDeque<(Position, Effect)>,
    outputs: VecDeque<Output>,
    /// The timer for which a clock frame is on its way.
    clock_frame_for: Option<Timestamp>,
}

#[derive(Debug)]
enum Effect {
    Notify(Notification),
    Transition(Transition),
    Sample(Sample),
    /// The outcome of the message with this key is in the log.
    Outcome(String),
    Replayed,
}

impl Evaluator {
    /// One that has seen nothing: it stands at `position` of the log, with no rules until a frame brings some.
    pub fn new(position: Position, log: Arc<dyn Log>, outbox: Outbox) -> Self {
        let plan = Arc::new(Plan::default());
        Self {
            rules: RuleSet::default(),
            engine: Engine::new(Arc::clone(&plan), Timestamp::default()),
            plan,
            prepared: Prepared::default(),
            filling: None,
            fill_limits: FillLimits::default(),
            filled_at: Position::default(),
            alerting: Alerting::default(),
            outbox,
            log,
            position,
            replay_until: position,
            is_announced: true,
            durable: position,
            clock: Timestamp::default(),
            heard: Timestamp::default(),
            waiting: VecDeque::new(),
            outputs: VecDeque::new(),
            clock_frame_for: None,
        }
    }

    /// The same, with rules at hand that were compiled elsewhere.
    pub fn with_prepared(self, prepared: Prepared) -> Self {
        Self { prepared, ..self }
    }

    /// The same with other limits.
    pub fn with_fill_limits(self, fill_limits: FillLimits) -> Self {
        Self { fill_limits, ..self }
    }

    /// Says that the log reaches to `end` already: until that is folded in, nothing is sent.
    pub fn replay_until(&mut self, end: Position) {
        self.replay_until = end;
        self.is_announced = false;
        self.announce_firing();
        self.release();
    }

    /// End of the last frame that was folded in.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The log's clock: the receive time of the last frame.
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// The rules that the next batch is to be matched by, with [`Plan::match_batch`].
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The rules that were loaded last, as text.
    pub fn rule_set(&self) -> &RuleSet {
        &self.rules
    }

    /// The rules as they stand, those among them that are not in force yet.
    pub fn status(&self) -> Vec<RuleStatus> {
        let mut rules = self.engine.rules();
        if let Some(filling) = &self.filling {
            filling.add_waiting(&mut rules);
        }
        rules
    }

    /// How far those are that are not in force yet.
    pub fn fill_progress(&self) -> Option<FillProgress> {
        self.filling.as_ref().map(Filling::progress)
    }

    /// Where rules last came into force that were filled aside: a snapshot behind that saves a restart from filling them again.
    pub fn filled_at(&self) -> Position {
        self.filled_at
    }

    /// How full the engine is.
    pub fn engine_stats(&self) -> EngineStats {
        self.engine.stats()
    }

    /// The last time that nobody listened.
    pub fn last_gap(&self) -> Option<Gap> {
        self.engine.last_gap()
    }

    /// The alerting policy, to look into.
    pub fn alerting(&self) -> &Alerting {
        &self.alerting
    }

    /// The outbox, to look into.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Folds in the next batch, which was matched by [`plan`](Self::plan).
    pub fn handle_batch(&mut self, frame: &Frame, matched: Matched) {
        self.look_for_gap(frame);
        self.engine.handle_batch(matched, &frame.payload, frame.receipt());
        self.settle(frame);
    }

    /// Folds in the next frame, of any kind.
    pub fn handle_frame(&mut self, frame: &Frame) {
        match frame.kind {
            FrameKind::Batch => {
                let matched = self.plan.match_batch(&frame.payload, frame.receipt());
                return self.handle_batch(frame, matched);
            }
            FrameKind::Clock => {
                self.look_for_gap(frame);
                self.engine.handle_timeout(frame.received);
            }
            FrameKind::Started if self.clock == Timestamp::default() => self.engine.handle_timeout(frame.received),
            FrameKind::Started => self.handle_gap(self.heard, frame.received),
            FrameKind::Rules => self.handle_rules(frame),
            FrameKind::Filled => self.handle_filled(frame),
            FrameKind::Outcome => self.handle_outcome(frame),
        }
        self.settle(frame);
    }

    /// Where something was due and nothing was written, nothing could be, as on a full disk: what came meanwhile was refused.
    fn look_for_gap(&mut self, frame: &Frame) {
        let due = self.engine.poll_timeout().filter(|due| *due > self.heard);
        if let Some(due) = due.filter(|due| frame.received.since(*due) > GAP_MIN) {
            self.handle_gap(due, frame.received);
        }
    }

    fn handle_gap(&mut self, from: Timestamp, now: Timestamp) {
        let before = self.engine.last_gap();
        self.engine.handle_gap(from, now);
        if let Some(gap) = self.engine.last_gap().filter(|gap| Some(*gap) != before) {
            let (from, until, seconds) = (gap.from, gap.until, gap.missing.as_secs_f64());
            tracing::warn!(%from, %until, seconds, "nobody listened: what is missing from that time is no silence, alerts are held until enough has been seen again");
        }
    }

    /// A frame that this version cannot read leaves the rules as they are: it was checked before it was appended.
    fn handle_rules(&mut self, frame: &Frame) {
        self.look_for_gap(frame);
        let rules = RuleSet::from_bytes(&frame.payload);
        if self.filling.is_some() && rules.as_ref().is_ok_and(|rules| *rules == self.rules) {
            return self.engine.handle_timeout(frame.received); // what is being filled goes on
        }
        let prepared = self.prepared.take(&frame.payload);
        match rules.and_then(|rules| Ok((prepared.map_or_else(|| rules.compile(), Ok)?, rules))) {
            Ok((compiled, rules)) => self.take_rules(rules, compiled, frame),
            Err(error) => {
                tracing::error!(%error, "the log holds rules that cannot be read; those before stay in force")
            }
        }
    }

    fn take_rules(&mut self, rules: RuleSet, Compiled { plan, policy }: Compiled, frame: &Frame) {
        let now = frame.received;
        let at_once = self.at_once(&plan, frame);
        let beyond = plan.new_rules(&self.plan).into_iter().filter(|(_, looks_back)| *looks_back > at_once);
        let waiting = beyond.map(|(key, _)| key.to_owned()).collect();
        self.put_in_force((frame.position, Some(at_once)), &rules, plan, waiting, now);
        self.engine.forgo_fill_beyond(at_once);
        self.fill(frame.position, now);
        self.alerting.replace(policy, now);
        self.rules = rules;
    }

    /// How far back rules may look that are filled when their frame is folded. Where it was folded before, those that waited then wait again.
    fn at_once(&self, plan: &Plan, frame: &Frame) -> Duration {
        let is_replay = frame.next < self.replay_until && !plan.looks_back(&self.plan).is_empty();
        let told = if is_replay { Fill::at_once(&*self.log, frame, self.replay_until) } else { Ok(None) };
        let told = told.unwrap_or_else(|error| {
            tracing::error!(%error, "the log cannot be read ahead: it does not tell which rules waited");
            None
        });
        told.unwrap_or_else(|| self.fill_limits.at_once(&*self.log, plan, &self.plan, frame))
    }

    /// Puts rules in force that the frame at `brought` has brought, all but those that wait: what they are to replace stays.
    fn put_in_force(
        &mut self,
        (brought, at_once): (Position, Option<Duration>),
        rules: &RuleSet,
        full: Arc<Plan>,
        waiting: BTreeSet<String>,
        now: Timestamp,
    ) {
        let former = self.filling.take();
        self.plan = Arc::clone(&full);
        if !waiting.is_empty() {
            let former_files = former.iter().flat_map(|filling| filling.waiting().former_files());
            let files = self.rules.files.iter().chain(former_files).cloned().collect();
            let before = RuleSet { files, ..self.rules.clone() };
            let waiting = Waiting::new(brought, waiting, &full, self.engine.plan(), &before).beyond(at_once);
            match waiting.in_force(rules, &full) {
                Ok(plan) => (self.plan, self.filling) = (plan, Some(Filling::new(waiting, full))),
                Err(error) => {
                    tracing::error!(%error, "rules that are to be replaced do not stay until others are filled: all come into force now");
                }
            }
        }
        self.engine.replace(Arc::clone(&self.plan), now);
    }

    /// Rules that were filled aside come into force.
    fn handle_filled(&mut self, frame: &Frame) {
        self.look_for_gap(frame);
        let now = frame.received;
        let fill = Fill::from_bytes(&frame.payload).ok();
        let of_waiting = |filling: &Filling| fill.as_ref().is_some_and(|fill| filling.is_told_of_by(fill));
        let (Some(fill), Some(filling)) = (&fill, self.filling.as_mut().filter(|filling| of_waiting(filling))) else {
            return self.engine.handle_timeout(now); // others were loaded meanwhile
        };
        let of = (&self.rules, &*self.plan);
        let filled = filling.filled(fill, &*self.log, of, frame.position, &self.fill_limits);
        let (full, waiting) = (Arc::clone(filling.full()), filling.waiting_beyond(fill.looks_back, &self.plan));
        let (rules, brought) = (self.rules.clone(), (fill.rules(), filling.waiting().at_once()));
        self.put_in_force(brought, &rules, full, waiting, now);
        match filled {
            Ok(filled) => self.engine.adopt(filled),
            Err(error) => tracing::error!(%error, "the log cannot be read back; new rules are warming"),
        }
        self.engine.handle_filled(now);
        self.filled_at = frame.next;
        tracing::info!("rules that look far back are filled, and in force");
    }

    /// Fills what is new in the rules from the log before `until`: a function of what the log holds then, so that a replay does the same
    /// unless the size cap has taken of it meanwhile.
    fn fill(&mut self, until: Position, now: Timestamp) {
        let Some(since) = self.engine.fills_since() else { return self.engine.handle_filled(now) };
        let (plan, engine) = (&self.plan, &mut self.engine);
        let filled = history::batches(&*self.log, since, until, &mut |frame| {
            let matched = plan.match_batch(&frame.payload, frame.receipt());
            engine.handle_past_batch(&matched, &frame.payload, frame.receipt());
        });
        let reaches = filled.unwrap_or_else(|error| {
            tracing::error!(%error, "the log cannot be read back; new rules are warming");
            None
        });
        self.engine.handle_filled(reaches.unwrap_or(now));
    }

    fn handle_outcome(&mut self, frame: &Frame) {
        match Outcome::from_bytes(&frame.payload) {
            Ok(outcome) => {
                self.waiting.retain(|(_, effect)| !matches!(effect, Effect::Notify(n) if n.key == outcome.key));
                self.outbox.handle_outcome(&outcome);
                self.alerting.handle_outcome(&outcome.key, outcome.delivered, frame.received);
                self.waiting.push_back((frame.next, Effect::Outcome(outcome.key)));
            }
            Err(error) => {
                tracing::error!(%error, "the log holds an outcome that cannot be read; its message is sent again")
            }
        }
    }

    /// Collects what a frame has caused, and lets out what is durable already.
    fn settle(&mut self, frame: &Frame) {
        self.position = frame.next;
        self.clock = frame.received;
        if matches!(frame.kind, FrameKind::Batch | FrameKind::Clock | FrameKind::Started) {
            self.heard = frame.received;
        }
        self.clock_frame_for = None;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Judged::Transition(transition) => {
                    let change = self.alerting.handle_transition(&transition).map(Effect::Transition);
                    self.waiting.extend(change.map(|change| (self.position, change)));
                }
                Judged::Sample(sample) => self.waiting.push_back((self.position, Effect::Sample(sample))),
            }
        }
        self.alerting.handle_timeout(self.clock);
        while let Some(notification) = self.alerting.poll_notification() {
            self.waiting.push_back((self.position, Effect::Notify(notification)));
        }
        self.announce_firing();
        self.release();
    }

    /// Tells once, when the replay is over, what fires: an Alertmanager forgets what it is not told again.
    fn announce_firing(&mut self) {
        if self.is_announced || self.position < self.replay_until {
            return;
        }
        self.is_announced = true;
        let (from, to) = (AlertState::Firing, AlertState::Firing);
        for alert in self.alerting.firing() {
            let transition = Transition { from, to, alert: Arc::clone(alert), at: self.clock, cause: None };
            self.waiting.push_back((self.position, Effect::Transition(transition)));
        }
        self.waiting.push_back((self.position, Effect::Replayed));
    }

    /// Says how far the log is durable.
    pub fn handle_durable(&mut self, durable: Position) {
        self.durable = self.durable.max(durable);
        self.release();
    }

    fn release(&mut self) {
        while self.waiting.front().is_some_and(|(position, _)| *position <= self.durable) {
            let Some((position, effect)) = self.waiting.pop_front() else { return };
            match effect {
                Effect::Notify(notification) => self.outbox.handle_notification(notification),
                Effect::Transition(transition) => self.outputs.push_back(Output::Transition(transition)),
                Effect::Sample(sample) => self.outputs.push_back(Output::Sample(position, sample)),
                Effect::Replayed => self.outputs.push_back(Output::Replayed),
                Effect::Outcome(key) => self.outbox.handle_outcome_durable(&key),
            }
        }
    }

    /// Takes what a job has filled: the rules come into force when the log says so.
    pub fn handle_fill(&mut self, job: Box<FillJob>) {
        if let Some(fill) = self.filling.as_mut().and_then(|filling| filling.handle_done(job)) {
            self.outputs.push_back(Output::Append(frame_of(FrameKind::Filled, fill.to_bytes())));
        }
    }

    /// Takes over from the evaluator before a disk failure how messages ended that this one may make again.
    pub fn handle_told(&mut self, before: &Self) {
        before.outbox.told().for_each(|outcome| self.outbox.handle_told(outcome.clone()));
    }

    /// Says how sending a message ended. `now` is the monotonic clock's.
    pub fn handle_result(&mut self, key: &str, result: DeliveryResult, now: Duration) {
        self.outbox.handle_result(key, result, now);
    }

    /// What is to be done next. `now` is the monotonic clock's.
    pub fn poll_output(&mut self, now: Duration) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if let Some(outcome) = self.outbox.poll_outcome() {
            return Some(Output::Append(frame_of(FrameKind::Outcome, outcome.to_bytes())));
        }
        if self.position < self.replay_until {
            return None;
        }
        self.poll_fill(now).or_else(|| self.outbox.poll_send(now).map(Output::Send))
    }

    fn poll_fill(&mut self, monotonic: Duration) -> Option<Output> {
        let place = (self.position, self.clock);
        let filling = self.filling.as_mut()?;
        filling.begin(&*self.log, (&self.rules, &self.plan), place, &self.fill_limits, monotonic).map(Output::Fill)
    }

    /// When a clock frame is due unless another frame comes first, by the log's clock.
    pub fn poll_clock_timeout(&self) -> Option<Timestamp> {
        let due = earliest(self.engine.poll_timeout(), self.alerting.poll_timeout())?;
        (self.clock_frame_for != Some(due)).then_some(due)
    }

    /// When a message is to be tried again, by the monotonic clock.
    pub fn poll_send_timeout(&self) -> Option<Duration> {
        self.outbox.poll_timeout()
    }

    /// The clock frame that a timer asks for, once for each timer. `now` is the log's clock.
    pub fn clock_frame(&mut self, now: Timestamp) -> Option<NewFrame> {
        let due = self.poll_clock_timeout().filter(|due| *due <= now)?;
        self.clock_frame_for = Some(due);
        Some(frame_of(FrameKind::Clock, Vec::new()))
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A frame that holds no records.
pub fn frame_of(kind: FrameKind, payload: Vec<u8>) -> NewFrame {
    NewFrame { kind, hash: 0, event_span: None, records: 0, payload: Bytes::from(payload) }
}
