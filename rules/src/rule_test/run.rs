//! Runs a test: records come in as time passes, and what is expected is looked at when its time has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::compare::{Expect, Message, diff};
use super::records::collect;
use super::timeline::{Moment, What, relative};
use super::{
    AlertName, Expectation, Expected, ExpectedAlert, ExpectedMessage, ExpectedState, Failure, Outside, Setting,
};
use super::{Test, TestResult, Wanted, WantedKind};
use crate::alerting::config::PolicyConfig;
use crate::alerting::notification::Notification;
use crate::backtest::records::Records;
use crate::backtest::{Backtest, Event};
use crate::diagnostic::{Diagnostic, codes};
use crate::engine::AlertingStatus;
use crate::explain::without_keys;
use crate::labels::Labels;
use crate::otlp_labels::LabelConfig;
use crate::plan::{EngineConfig, Plan};
use crate::query::Query;
use crate::query::answer::Answer;
use crate::rule_file::RuleFile;
use crate::time::Timestamp;
use crate::transition::{Alert, AlertState, Sample};

/// Runs a test.
///
/// # Errors
/// The rules cannot be compiled, records cannot be read, or an expectation is about a rule or receiver that does not exist.
pub fn run(test: &Test, setting: &Setting<'_>, outside: &Outside<'_>) -> Result<TestResult, Vec<Diagnostic>> {
    let (records, start) = collect(test, outside)?;
    let config = engine_config(test, setting, &records);
    let plan = Arc::new(Plan::compile(setting.rules, &config)?);
    let unknown = unknown_names(test, setting.rules, Some(&setting.policy));
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let labels = config.labels;
    let backtest = Backtest::new(plan, setting.policy.clone(), start);
    let (rules, seen) = (setting.rules, Seen::default());
    let mut runner = Runner { test, outside, rules, records: &records, labels, start, backtest, next: 0, seen };
    let mut expectations: Vec<&Expectation> = test.expectations.iter().collect();
    expectations.sort_by_key(|expectation| expectation.at.time(start));
    let mut failures = Vec::new();
    for expectation in expectations {
        let at = expectation.at.time(start);
        runner.advance(at);
        for failure in runner.check(expectation, at) {
            runner.seen.push(Moment { at, what: What::Failure(failure.diagnostic.message.clone()) });
            failures.push(failure);
        }
    }
    if !failures.is_empty() {
        runner.advance(runner.backtest.clock() + AFTERMATH); // what comes too late
    }
    let failing_stages = runner.backtest.failing_stages();
    Ok(TestResult { name: test.name.clone(), failures, failing_stages, timeline: runner.seen.timeline, start })
}

fn engine_config(test: &Test, setting: &Setting<'_>, records: &Records) -> EngineConfig {
    let mut config = setting.engine.clone();
    config.labels = records.label_config(&config.labels);
    config.external_labels.extend(test.external_labels.iter().cloned());
    config.external_url = test.external_url.clone().unwrap_or(config.external_url);
    config
}

/// Expectations of alerts, series and receivers that do not exist: one of nothing would be met by a name that is misspelt. Where receivers are
/// not known, none is looked for.
pub fn unknown_names(test: &Test, rules: &[RuleFile], policy: Option<&PolicyConfig>) -> Vec<Diagnostic> {
    let groups = || rules.iter().flat_map(|file| &file.groups);
    let names = |is_alert: bool, group: Option<&str>| -> Vec<&str> {
        let groups = groups().filter(|known| group.is_none_or(|group| *known.name == *group));
        let rules = groups.flat_map(|group| &group.rules);
        rules.filter(|rule| rule.is_alert() == is_alert).map(|rule| rule.name()).collect()
    };
    let receivers: Option<Vec<&str>> =
        policy.map(|policy| policy.receivers.iter().map(|receiver| receiver.name.as_str()).collect());
    let mut mistakes = Vec::new();
    for expectation in &test.expectations {
        let (what, name, known) = match (&expectation.what, &receivers) {
            (Expected::Alert { name: AlertName { group, name }, .. }, _) => (
                if group.is_some() { "alert of that group" } else { "alerting rule" },
                name,
                names(true, group.as_deref()),
            ),
            (Expected::Record { name, .. }, _) => ("recording rule", name, names(false, None)),
            (Expected::Receiver { name, .. }, Some(receivers)) => ("receiver", name, receivers.clone()),
            (Expected::Receiver { .. }, None) | (Expected::Expr { .. }, _) => continue,
        };
        if !known.contains(&name.as_str()) {
            let message = format!("no {what} is named `{name}`");
            let span = expectation.span.start..expectation.span.start;
            let mut mistake =
                Diagnostic::error(codes::UNKNOWN_NAME, span, message).suggest(name, known.iter().copied());
            mistake.file = test.file.clone();
            mistakes.push(mistake);
        }
    }
    mistakes.extend(policy.into_iter().flat_map(|policy| unknown_integrations(test, policy)));
    mistakes
}

/// Integrations that a message is expected of and its receiver does not have.
fn unknown_integrations(test: &Test, policy: &PolicyConfig) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for expectation in &test.expectations {
        let Expected::Receiver { name, messages: Wanted { kind: WantedKind::Each(messages), .. } } = &expectation.what
        else {
            continue;
        };
        let Some(receiver) = policy.receivers.iter().find(|receiver| receiver.name == *name) else { continue };
        let known: Vec<Arc<str>> = receiver.integrations().into_iter().map(|(name, _)| name).collect();
        let named = messages.iter().filter_map(|message: &ExpectedMessage| message.integration.as_ref());
        for (span, integration) in named.filter(|(_, integration)| !known.contains(&integration.as_str().into())) {
            let message = format!("`{name}` has no integration `{integration}`");
            let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            let help = format!("its integrations are {}", known.join(", "));
            let mistake = Diagnostic::error(codes::UNKNOWN_NAME, span.clone(), message).help(help);
            mistakes.push(Diagnostic { file: test.file.clone(), ..mistake });
        }
    }
    mistakes
}

struct Runner<'a> {
    test: &'a Test,
    outside: &'a Outside<'a>,
    rules: &'a [RuleFile],
    records: &'a Records,
    labels: LabelConfig,
    start: Timestamp,
    backtest: Backtest,
    /// The first record that has not come yet.
    next: usize,
    seen: Seen,
}

/// What has happened so far.
#[derive(Default)]
struct Seen {
    timeline: Vec<Moment>,
    /// Alerts that fired and do no more.
    resolved: BTreeMap<Labels, Arc<Alert>>,
    /// The last value of each series that goes on.
    series: BTreeMap<Labels, f64>,
    messages: Vec<Notification>,
}

impl Seen {
    fn push(&mut self, moment: Moment) {
        if !self.timeline.last_mut().is_some_and(|last| last.absorb(&moment)) {
            self.timeline.push(moment);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Transition(transition) => {
                let labels = &transition.alert.labels;
                match (transition.from, transition.to) {
                    (AlertState::Firing, AlertState::Inactive) => {
                        self.resolved.insert(labels.clone(), transition.alert.clone());
                    }
                    (_, AlertState::Firing) => drop(self.resolved.remove(labels)),
                    _ => {}
                }
                Moment::of_transition(&transition).into_iter().for_each(|moment| self.push(moment));
            }
            Event::Sample(sample) if sample.value.to_bits() == Sample::STALE_BITS => {
                self.series.remove(&sample.labels);
            }
            Event::Sample(sample) => drop(self.series.insert(sample.labels, sample.value)),
            Event::Notification(notification) => {
                self.push(Moment::of_notification(&notification));
                self.messages.push(notification);
            }
        }
    }
}

impl Runner<'_> {
    /// Lets time pass; the records that come meanwhile come one moment after another.
    fn advance(&mut self, to: Timestamp) {
        while self.next < self.records.len() && self.records.received(self.next) <= to {
            let (first, received) = (self.next, self.records.received(self.next));
            while self.next < self.records.len() && self.records.received(self.next) == received {
                self.next += 1;
            }
            self.backtest.handle_timeout(received);
            self.collect();
            for entry in self.records.entries(first..self.next, &self.labels) {
                self.seen.push(Moment::of_record(&entry, received));
            }
            self.backtest.handle_batch(&self.records.batch(first..self.next), received);
            self.collect();
        }
        self.backtest.handle_timeout(to);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.backtest.poll_event() {
            self.seen.handle(event);
        }
    }

    fn check(&self, expectation: &Expectation, at: Timestamp) -> Vec<Failure> {
        match &expectation.what {
            Expected::Alert { name, states } => {
                states.iter().filter_map(|(state, wanted)| self.check_alerts(name, *state, wanted, at)).collect()
            }
            Expected::Expr { expr, expr_span, values } => match self.value(expr, at) {
                Ok((got, left_out)) => {
                    let failure = self.compare(values, &got, at, &format!("elements of `{expr}`"));
                    failure.map(|failure| with_left_out(failure, left_out)).into_iter().collect()
                }
                Err(error) => {
                    let message = format!("at {}: the expression has no value", relative(at, self.start));
                    let diagnostic = Diagnostic::error(codes::EXPECTATION, expr_span.clone(), message).label(error);
                    vec![self.failure(at, diagnostic, Vec::new())]
                }
            },
            Expected::Record { name, values } => {
                let got: Vec<(Labels, f64)> = self.series_of(name).collect();
                self.compare(values, &got, at, &format!("series of `{name}`")).into_iter().collect()
            }
            Expected::Receiver { name, messages } => {
                let to_receiver = self.seen.messages.iter().filter(|message| *message.contact_point == **name);
                let got: Vec<Message> = to_receiver.map(|message| self.message(message)).collect();
                self.compare(messages, &got, at, &format!("messages to `{name}`")).into_iter().collect()
            }
        }
    }

    fn message(&self, notification: &Notification) -> Message {
        Message { notification: notification.clone(), rendered: (self.outside.render)(notification) }
    }

    fn check_alerts(
        &self,
        name: &AlertName,
        state: ExpectedState,
        wanted: &Wanted<ExpectedAlert>,
        at: Timestamp,
    ) -> Option<Failure> {
        let got = self.alerts(name, state);
        let mut failure = self.compare(wanted, &got, at, &format!("{} `{name}`", state.name()))?;
        failure.diagnostic.help = self.explain(name, state);
        Some(failure)
    }

    fn compare<E: Expect + Clone>(
        &self,
        wanted: &Wanted<E>,
        got: &[E::Got],
        at: Timestamp,
        what: &str,
    ) -> Option<Failure> {
        let (expected, diff) = match &wanted.kind {
            WantedKind::Count(count) if *count == got.len() => return None,
            WantedKind::Count(count) => {
                (*count, got.iter().map(|got| format!("+ {}", E::show_got(got, self.start))).collect())
            }
            WantedKind::Each(expected) => (expected.len(), diff(expected, got, self.start)),
        };
        let at_time = relative(at, self.start);
        let message = match got.len() {
            _ if diff.is_empty() && expected == got.len() => return None,
            len if len == expected => format!("at {at_time}: {what}: not as expected"),
            len => format!("at {at_time}: {what}: {len}, expected {expected}"),
        };
        let label = match got.len() {
            0 => "there is none".to_owned(),
            1 => "there is one".to_owned(),
            len => format!("there are {len}"),
        };
        let diagnostic = Diagnostic::error(codes::EXPECTATION, wanted.span.clone(), message);
        let diagnostic = if got.len() == expected { diagnostic } else { diagnostic.label(label) };
        Some(self.failure(at, diagnostic, diff))
    }

    fn failure(&self, at: Timestamp, diagnostic: Diagnostic, diff: Vec<String>) -> Failure {
        Failure { at, diagnostic: Diagnostic { file: self.test.file.clone(), ..diagnostic }, diff }
    }

    /// Why an alert is not in the state in which it was expected, if it is in another.
    fn explain(&self, name: &AlertName, state: ExpectedState) -> Option<String> {
        if !self.alerts(name, state).is_empty() {
            return None;
        }
        let time = |at: Timestamp| relative(at, self.start);
        let pending = self.alerts(name, ExpectedState::Pending);
        let firing = self.alerts(name, ExpectedState::Firing);
        let resolved = self.alerts(name, ExpectedState::Resolved);
        if let (Some(alert), true) = (pending.first(), state == ExpectedState::Firing) {
            let due = time(alert.active_at + alert.hold);
            return Some(format!("it is pending since {} and fires at {due} if it still holds", time(alert.active_at)));
        }
        if let Some(at) = firing.first().and_then(|alert| alert.fired_at) {
            return Some(format!("it fires since {}", time(at)));
        }
        if let Some(at) = resolved.first().and_then(|alert| alert.resolved_at) {
            return Some(format!("it was resolved at {}", time(at)));
        }
        let rule = self.backtest.engine().rules().into_iter().find(|rule| name.is_of(&rule.group, &rule.name))?;
        match (rule.last_error.or_else(|| self.without_keys(name)), rule.warming_until) {
            (Some(error), _) => Some(error),
            (None, Some(until)) => Some(format!(
                "the rule is warming until {}: what was before the test's start is not known, and nothing is told before",
                time(until)
            )),
            (None, None) => None,
        }
    }

    /// That no record has a label that the rule's detector asks for.
    fn without_keys(&self, name: &AlertName) -> Option<String> {
        let groups = self.rules.iter().flat_map(|file| &file.groups);
        let mut rules = groups.flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let (_, rule) = rules.find(|(group, rule)| name.is_of(&group.name, rule.name()) && rule.detect.is_some())?;
        without_keys(rule, &self.records.entries(0..self.next, &self.labels))
    }

    fn alerts(&self, name: &AlertName, state: ExpectedState) -> Vec<Arc<Alert>> {
        let wanted = match state {
            ExpectedState::Resolved => {
                let is_named =
                    |alert: &&Arc<Alert>| name.is_of(&alert.group, alert.labels.get("alertname").unwrap_or_default());
                return self.seen.resolved.values().filter(is_named).cloned().collect();
            }
            ExpectedState::Pending => AlertState::Pending,
            ExpectedState::Firing => AlertState::Firing,
        };
        let rules = self.backtest.engine().rules();
        let rules =
            rules.into_iter().filter(|rule| name.is_of(&rule.group, &rule.name)).filter_map(|rule| rule.alerting);
        let alerts = rules.flat_map(|AlertingStatus { alerts, .. }| alerts);
        alerts.filter(|(state, _)| *state == wanted).map(|(_, alert)| alert).collect()
    }

    fn series_of(&self, name: &str) -> impl Iterator<Item = (Labels, f64)> {
        let series = self.seen.series.iter().filter(move |(labels, _)| labels.get("__name__") == Some(name));
        series.map(|(labels, value)| (Labels::new(labels.iter().filter(|(name, _)| *name != "__name__")), *value))
    }

    /// The value of an expression over the records that have come, as a rule would have it, and how many records are left out.
    fn value(&self, expr: &str, at: Timestamp) -> Result<(Vec<(Labels, f64)>, u64), String> {
        let mut query = Query::in_rule(expr, at).map_err(|error| error.message)?;
        let mut entries = self.records.entries(0..self.next, &self.labels);
        entries.sort_by_key(|entry| entry.time);
        for entry in &entries {
            query.add(entry.time, entry).map_err(|error| error.message)?;
        }
        let left_out = query.left_out();
        let values = match query.answer().map_err(|error| error.message)? {
            Answer::Scalar(point) => vec![(Labels::default(), point.value)],
            Answer::Vector(series) => series.into_iter().map(|s| (s.labels, s.points[0].value)).collect(),
            Answer::Matrix(_) | Answer::Streams(_) => return Err("the expression yields no numbers".to_owned()),
        };
        Ok((values, left_out))
    }
}

/// Says of a value that is not as expected what it leaves out.
fn with_left_out(failure: Failure, left_out: u64) -> Failure {
    let records = match left_out {
        0 => return failure,
        1 => "1 record is".to_owned(),
        count => format!("{count} records are"),
    };
    let help = format!("{records} left out, as in a rule: a stage failed");
    Failure { diagnostic: failure.diagnostic.help(help), ..failure }
}

/// How long a failed test goes on, to show what came too late.
const AFTERMATH: Duration = Duration::from_secs(5 * 60);
