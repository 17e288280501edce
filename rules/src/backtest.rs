//! Rules and the alerting policy over records of the past, by the records' own clock: what `watchbell test`, `replay` and `explain`
//! run on.
//!
//! A state machine like the engine. Timers run when they are due, and each message counts as delivered the moment it is sent.
//!
//! ```
//! use std::sync::Arc;
//! use watchbell_rules::alerting::config::PolicyConfig;
//! use watchbell_rules::backtest::records::Records;
//! use watchbell_rules::backtest::{Backtest, Event};
//! use watchbell_rules::plan::{EngineConfig, Plan};
//! use watchbell_rules::query::records::{Format, LineLabels};
//! use watchbell_rules::rule_file;
//!
//! let rules = r#"groups: [{name: g, rules: [{alert: Refused, expr: 'sum(count_over_time({app="shop"} |= "refused" [1m])) > 1'}]}]"#;
//! let push = br#"{"streams": [{"stream": {"app": "shop"}, "values": [["1000000000", "refused"], ["2000000000", "refused"]]}]}"#;
//! let mut records = Records::default();
//! records.read(push, Format::LokiPush, &LineLabels::default())?;
//!
//! let config = EngineConfig { labels: records.label_config(&Default::default()), ..EngineConfig::default() };
//! let plan = Arc::new(Plan::compile(&[rule_file::parse("rules.yaml", rules).unwrap()], &config).unwrap());
//! let mut backtest = Backtest::new(plan, PolicyConfig::default(), records.time(0));
//! for at in 0..records.len() {
//!     backtest.handle_batch(&records.batch(at..at + 1), records.received(at));
//! }
//! let Some(Event::Transition(fired)) = backtest.poll_event() else { panic!() };
//! assert_eq!((fired.alert.value, fired.at), (2.0, records.time(1)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod episodes;
pub mod failing;
pub mod records;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::alerting::Alerting;
use crate::alerting::config::PolicyConfig;
use crate::alerting::notification::Notification;
use crate::engine::{Engine, Output};
use crate::plan::Plan;
use crate::time::{Received, Timestamp};
use crate::transition::{Sample, Transition};
use failing::{FailingStage, Tallies, Unselecting};

/// What happens while time passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An alert changes its state.
    Transition(Transition),
    /// A computed series has a new point.
    Sample(Sample),
    /// Somebody is told.
    Notification(Notification),
}

/// The engine and the alerting policy under a clock that the caller moves.
#[derive(Debug)]
pub struct Backtest {
    engine: Engine,
    alerting: Alerting,
    tallies: Tallies,
    events: VecDeque<Event>,
}

impl Backtest {
    /// One that has seen nothing before `start`. The policy is a [checked](PolicyConfig::check) one.
    pub fn new(plan: Arc<Plan>, policy: PolicyConfig, start: Timestamp) -> Self {
        let (engine, alerting) = (Engine::new(plan, start), Alerting::new(policy));
        Self { engine, alerting, tallies: Tallies::default(), events: VecDeque::new() }
    }

    /// Lets time pass until a batch of records is received, and takes it in.
    pub fn handle_batch(&mut self, batch: &[u8], received: impl Into<Received>) {
        let received = received.into();
        self.handle_timeout(received.at);
        let received = Received { at: self.clock(), ..received };
        let matched = self.engine.plan().match_with_tallies(batch, received);
        self.tallies.add(&matched);
        self.engine.handle_batch(matched, batch, received);
        self.settle(received.at);
    }

    /// Nobody listened until now, since what was last told of.
    pub fn handle_gap(&mut self, until: Timestamp) {
        self.engine.handle_gap(self.clock(), until);
        self.settle(until);
    }

    /// Lets time pass without records; what falls due meanwhile happens when it is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(due) = self.poll_timeout().filter(|due| *due < now) {
            self.step(due.max(self.clock()));
        }
        self.step(now);
    }

    /// When something happens by itself.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.engine.poll_timeout().into_iter().chain(self.alerting.poll_timeout()).min()
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Stages that failed on every record that came to them so far.
    pub fn failing_stages(&self) -> Vec<FailingStage> {
        self.tallies.failing(self.engine.plan())
    }

    /// Rules of which a selector has found no record so far.
    pub fn unselecting(&self) -> Option<Unselecting> {
        self.tallies.unselecting(self.engine.plan())
    }

    /// The latest time that it was told.
    pub fn clock(&self) -> Timestamp {
        self.engine.clock()
    }

    /// The engine, to look into.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn step(&mut self, now: Timestamp) {
        self.engine.handle_timeout(now);
        self.settle(now);
    }

    fn settle(&mut self, now: Timestamp) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transition(transition) => {
                    self.alerting.handle_transition(&transition);
                    self.events.push_back(Event::Transition(transition));
                }
                Output::Sample(sample) => self.events.push_back(Event::Sample(sample)),
            }
        }
        self.alerting.handle_timeout(now);
        while let Some(notification) = self.alerting.poll_notification() {
            self.alerting.handle_outcome(&notification.key, true, now);
            self.events.push_back(Event::Notification(notification));
        }
    }
}
