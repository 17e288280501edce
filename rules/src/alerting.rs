//! The alerting policy, in Alertmanager's terms: who is told of which alerts, together with which, how often.
//!
//! [`Alerting`] is a state machine. Transitions go in; when [`Alerting::poll_timeout`] is not later than the log's clock,
//! [`Alerting::handle_timeout`] is to be called, and [`Alerting::poll_notification`] gives what is to be sent. Alerts of one
//! batch are told together even with `group_wait: 0s` if the timeout is handled after each frame of the log, not after each
//! transition. The same inputs give the same notifications with the same keys.
//!
//! Alertmanager looks at a group each whole `group_interval` after it began. Here `group_interval` is the least time between
//! two looks, and a change is told `group_wait` after it if that time is over: never later than Alertmanager would, and not
//! oftener.
//!
//! As in Alertmanager, an alert is known by its labels alone. Where alerts of several rules (or of one, by its `labels`) have the same,
//! they are one here: it fires while any of them does, shown as the one that has fired longest, and is resolved with the last.
//!
//! A message counts as told from when it is given out. [`Alerting::handle_outcome`] confirms that or takes it back; what was
//! not delivered is said again at the group's next interval.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::time::Timestamp;
use crate::transition::{Alert, AlertState, Transition};
use config::{PolicyConfig, ReceiverPolicy};
use dedup::{Told, decide};
use group::{Group, GroupId};
use notification::{Notification, NotifyReason};
use route::{Route, Tree};

pub mod config;
mod dedup;
mod group;
pub mod matcher;
pub mod notification;
mod route;

/// Groups that are kept; at it, an alert that would make a new one joins its route's group without labels, and is counted.
pub const GROUPS_MAX: usize = 100_000;

/// Who is told what, when.
#[derive(Clone, Debug)]
pub struct Alerting {
    tree: Tree,
    /// What fires, by labels; of several with the same labels the first is the one that the groups hold. The engine's limits bound it.
    firing: BTreeMap<Labels, Vec<Arc<Alert>>>,
    integrations: BTreeMap<Arc<str>, Vec<Integration>>,
    groups: BTreeMap<GroupId, Group>,
    timers: BTreeSet<(Timestamp, GroupId)>,
    log: BTreeMap<LogKey, LogEntry>,
    /// The entries that wait for the outcome of a message, by its key.
    pending: BTreeMap<String, LogKey>,
    output: VecDeque<Notification>,
    overflowed: u64,
}

#[derive(Clone, Debug)]
struct Integration {
    /// `webhook[1]`: the same while others come and go.
    name: Arc<str>,
    send_resolved: bool,
}

/// Whom an entry of the notification log is about, in this order so that a group's entries stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct LogKey {
    group: GroupId,
    contact_point: Arc<str>,
    integration: Arc<str>,
}

/// What an integration knows of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LogEntry {
    delivered: Option<Told>,
    /// A message whose outcome is not known yet, by its key.
    sent: Option<(String, Told)>,
}

impl LogEntry {
    fn last(&self) -> Option<&Told> {
        self.sent.as_ref().map(|(_, told)| told).or(self.delivered.as_ref())
    }
}

impl Default for Alerting {
    fn default() -> Self {
        Self::new(PolicyConfig::default())
    }
}

impl Alerting {
    /// A policy without alerts. The config is a [checked](PolicyConfig::check) one.
    pub fn new(config: PolicyConfig) -> Self {
        Self {
            tree: Tree::new(&config.route),
            firing: BTreeMap::new(),
            integrations: integrations(&config),
            groups: BTreeMap::new(),
            timers: BTreeSet::new(),
            log: BTreeMap::new(),
            pending: BTreeMap::new(),
            output: VecDeque::new(),
            overflowed: 0,
        }
    }

    /// Takes note of an alert that fires, or that did and is resolved. Gives what has changed for those who know an alert by its labels:
    /// nothing where another with the same labels goes on firing.
    pub fn handle_transition(&mut self, transition: &Transition) -> Option<Transition> {
        match (transition.from, transition.to) {
            (AlertState::Firing, AlertState::Firing) => self.handle_update(transition),
            (_, AlertState::Firing) => self.handle_fired(transition),
            (AlertState::Firing, AlertState::Inactive) => self.handle_resolved(transition),
            _ => Some(transition.clone()),
        }
    }

    fn handle_fired(&mut self, transition: &Transition) -> Option<Transition> {
        let alert = &transition.alert;
        let same_labels = self.firing.entry(alert.labels.clone()).or_default();
        same_labels.push(alert.clone());
        let is_first = same_labels.len() == 1;
        is_first.then(|| self.route(alert, transition.at))?;
        Some(transition.clone())
    }

    /// An alert fires on, with another value: what is said of it next is said with that.
    fn handle_update(&mut self, transition: &Transition) -> Option<Transition> {
        let alert = &transition.alert;
        let same_labels = self.firing.get_mut(&alert.labels)?;
        let at = same_labels.iter().position(|firing| is_same(firing, alert))?;
        same_labels[at] = alert.clone();
        if at > 0 {
            return None;
        }
        for id in self.group_ids(&alert.labels) {
            let overflow = GroupId { labels: Labels::default(), ..id.clone() };
            for id in [id, overflow] {
                let shown = self.groups.get_mut(&id).and_then(|group| group.alerts.get_mut(&alert.labels));
                shown.into_iter().for_each(|shown| *shown = alert.clone());
            }
        }
        Some(transition.clone())
    }

    fn handle_resolved(&mut self, transition: &Transition) -> Option<Transition> {
        let alert = &transition.alert;
        let same_labels = self.firing.entry(alert.labels.clone()).or_default();
        let at = same_labels.iter().position(|firing| is_same(firing, alert)).unwrap_or(0);
        if at < same_labels.len() {
            same_labels.remove(at);
        }
        match (same_labels.first().cloned(), at) {
            (None, _) => {
                self.firing.remove(&alert.labels);
                self.resolve(alert, transition.at);
                Some(transition.clone())
            }
            (Some(next), 0) => {
                self.route(&next, transition.at);
                Some(Transition { to: AlertState::Firing, alert: next, ..transition.clone() })
            }
            (Some(_), _) => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Looks at the groups that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((time, _)) = self.timers.first().filter(|(time, _)| *time <= now) {
            let time = *time;
            let Some((_, id)) = self.timers.pop_first() else { return };
            self.look(id, time);
        }
    }

    /// The next message to send, in the order they became due.
    pub fn poll_notification(&mut self) -> Option<Notification> {
        self.output.pop_front()
    }

    /// Takes note of how sending a message ended: it was delivered, or never will be. A message that a later one about the
    /// same group took the place of has no outcome, and a repeated or unknown key changes nothing.
    pub fn handle_outcome(&mut self, key: &str, delivered: bool, now: Timestamp) {
        let Some(log_key) = self.pending.remove(key) else { return };
        let Some((_, told)) = self.log.get_mut(&log_key).and_then(|entry| entry.sent.take()) else { return };
        // A notice that all is well, refused for good, is not tried again: nobody waits for it.
        if delivered || told.firing.is_empty() {
            self.log.entry(log_key.clone()).or_default().delivered = Some(told);
        } else if let Some(group) = self.groups.get_mut(&log_key.group) {
            group.changed = group.changed.or(Some(now));
        }
        self.settle(&log_key.group, now);
    }

    /// Takes another config. Alerts are routed anew; a group that is there before and after keeps its clock, and what
    /// was told under the same route, labels, receiver and integration stays told.
    pub fn replace(&mut self, config: PolicyConfig, now: Timestamp) {
        self.tree = Tree::new(&config.route);
        self.integrations = integrations(&config);
        let older = std::mem::take(&mut self.groups);
        self.timers.clear();
        let alerts: BTreeMap<&Labels, &Arc<Alert>> = older.values().flat_map(|group| &group.alerts).collect();
        for (labels, alert) in alerts {
            for id in self.group_ids(labels) {
                self.groups.entry(id).or_default().insert(alert.clone(), now);
            }
        }
        for (id, group) in &mut self.groups {
            older.get(id).into_iter().for_each(|older| group.resume(older));
        }
        self.forget_unreachable();
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        ids.iter().for_each(|id| self.set_timer(id));
    }

    /// What fires, each set of labels once.
    pub fn firing(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.firing.values().filter_map(|alerts| alerts.first())
    }

    /// How many groups there are; the limit is [`GROUPS_MAX`].
    pub fn groups_len(&self) -> usize {
        self.groups.len()
    }

    /// How many alerts joined a group without labels because of [`GROUPS_MAX`].
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// The state, to be given to [`restore`](Self::restore).
    pub fn snapshot(&self) -> Vec<u8> {
        let snapshot = Snapshot {
            version: SNAPSHOT_VERSION,
            groups: self.groups.iter().map(|(id, group)| (id.clone(), group.clone())).collect(),
            same_labels: self.firing.values().filter(|alerts| alerts.len() > 1).cloned().collect(),
            log: self.log.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect(),
            output: self.output.clone(),
            overflowed: self.overflowed,
        };
        serde_json::to_vec(&snapshot).expect("a snapshot has string keys only")
    }

    /// The state that [`snapshot`](Self::snapshot) gave, under the config of that time; a new one is given to
    /// [`replace`](Self::replace) then.
    pub fn restore(config: PolicyConfig, snapshot: &[u8]) -> Result<Self, RestoreError> {
        let snapshot: Snapshot = serde_json::from_slice(snapshot).map_err(RestoreError::Malformed)?;
        if snapshot.version != SNAPSHOT_VERSION {
            return Err(RestoreError::Version(snapshot.version));
        }
        let mut alerting = Self::new(config);
        alerting.groups = snapshot.groups.into_iter().collect();
        let shown = alerting.groups.values().flat_map(|group| group.alerts.values());
        let shown = shown.filter(|alert| alert.resolved_at.is_none()).map(|alert| vec![alert.clone()]);
        let firing = shown.chain(snapshot.same_labels).map(|alerts| (alerts[0].labels.clone(), alerts));
        alerting.firing = firing.collect();
        alerting.log = snapshot.log.into_iter().collect();
        alerting.output = snapshot.output;
        alerting.overflowed = snapshot.overflowed;
        let timers = alerting.groups.iter().filter_map(|(id, group)| Some((group.timer?, id.clone())));
        alerting.timers = timers.collect();
        let sent = alerting.log.iter().filter_map(|(key, entry)| Some((entry.sent.as_ref()?.0.clone(), key.clone())));
        alerting.pending = sent.collect();
        Ok(alerting)
    }

    /// The groups that alerts with these labels belong to.
    fn group_ids(&self, labels: &Labels) -> Vec<GroupId> {
        let id = |route: &Route| GroupId { route: route.id.clone(), labels: route.group_labels(labels) };
        self.tree.routes(labels).into_iter().map(id).collect()
    }

    fn route(&mut self, alert: &Arc<Alert>, now: Timestamp) {
        for mut id in self.group_ids(&alert.labels) {
            if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&id) {
                id.labels = Labels::default();
                self.overflowed += 1;
            }
            self.groups.entry(id.clone()).or_default().insert(alert.clone(), now);
            self.set_timer(&id);
        }
    }

    fn resolve(&mut self, alert: &Arc<Alert>, now: Timestamp) {
        for mut id in self.group_ids(&alert.labels) {
            let has = |groups: &BTreeMap<GroupId, Group>, id: &GroupId| {
                groups.get(id).is_some_and(|group| group.alerts.contains_key(&alert.labels))
            };
            if !has(&self.groups, &id) {
                id.labels = Labels::default(); // where it went if there were too many groups
            }
            if has(&self.groups, &id) {
                self.groups.entry(id.clone()).and_modify(|group| group.insert(alert.clone(), now));
                self.set_timer(&id);
            }
        }
    }

    /// Tells the integrations for which there is news of the group.
    fn look(&mut self, id: GroupId, at: Timestamp) {
        let Some(route) = self.tree.by_id(&id.route).cloned() else {
            self.forget(&id);
            return;
        };
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.timer = None;
        if group.alerts.is_empty() {
            self.forget(&id);
            return;
        }
        let now = group.look(at);
        let integrations = self.integrations.get(&route.receiver).map_or(&[][..], Vec::as_slice);
        for integration in integrations {
            let key = log_key(&id, &route, integration);
            let entry = self.log.entry(key.clone()).or_default();
            let Some(reason) = decide(entry.last(), &now, integration.send_resolved, route.repeat_interval) else {
                continue;
            };
            let alerts = group.shown(integration.send_resolved);
            if let Some((older, _)) = entry.sent.take() {
                self.pending.remove(&older);
            }
            if alerts.is_empty() {
                entry.delivered = Some(now.clone());
                continue;
            }
            let told_before = entry.last().map(|told| told.firing.clone()).unwrap_or_default();
            let message = Notification { told_before, ..notification(&route, &id, integration, reason, at, alerts) };
            entry.sent = Some((message.key.clone(), now.clone()));
            self.pending.insert(message.key.clone(), key);
            self.output.push_back(message);
        }
        self.settle(&id, at);
    }

    /// Forgets the resolved alerts that nobody is to be told of any more, and sets the group's timer.
    fn settle(&mut self, id: &GroupId, now: Timestamp) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let mut wanted = BTreeSet::new();
        if group.changed.is_some() {
            wanted.extend(group.alerts.keys().map(Labels::fingerprint));
        }
        for (_, entry) in entries(&self.log, id) {
            wanted.extend(entry.sent.iter().flat_map(|(_, told)| &told.resolved));
        }
        group.forget_resolved(&wanted, now);
        self.set_timer(id);
    }

    fn set_timer(&mut self, id: &GroupId) {
        let Some(route) = self.tree.by_id(&id.route) else { return };
        let Some(group) = self.groups.get_mut(id) else { return };
        let told = entries(&self.log, id).filter_map(|(_, entry)| entry.last());
        let due = group.due(route, told.filter(|told| !told.firing.is_empty()).map(|told| told.at));
        if let Some(timer) = group.timer.filter(|timer| due != Some(*timer)) {
            self.timers.remove(&(timer, id.clone()));
        }
        group.timer = due;
        self.timers.extend(due.map(|due| (due, id.clone())));
    }

    fn forget(&mut self, id: &GroupId) {
        self.groups.remove(id);
        let keys: Vec<LogKey> = entries(&self.log, id).map(|(key, _)| key.clone()).collect();
        for entry in keys.iter().filter_map(|key| self.log.remove(key)) {
            entry.sent.into_iter().for_each(|(key, _)| _ = self.pending.remove(&key));
        }
    }

    /// Forgets what was told about groups that are no more, or to integrations that are no more.
    fn forget_unreachable(&mut self) {
        let (groups, integrations) = (&self.groups, &self.integrations);
        self.log.retain(|key, _| {
            let known = integrations.get(&key.contact_point);
            groups.contains_key(&key.group)
                && known.is_some_and(|list| list.iter().any(|one| one.name == key.integration))
        });
        let log = &self.log;
        self.pending.retain(|_, key| log.contains_key(key));
    }
}

/// Why a snapshot cannot be taken up again.
#[derive(Debug)]
pub enum RestoreError {
    /// It is no snapshot.
    Malformed(serde_json::Error),
    /// It is of another version.
    Version(u32),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the snapshot of the alert groups cannot be read: {error}"),
            Self::Version(version) => {
                write!(
                    f,
                    "the snapshot of the alert groups has version {version}, this program reads {SNAPSHOT_VERSION}"
                )
            }
        }
    }
}

impl std::error::Error for RestoreError {}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    groups: Vec<(GroupId, Group)>,
    /// What fires beside another with the same labels, that one first.
    #[serde(default)]
    same_labels: Vec<Vec<Arc<Alert>>>,
    log: Vec<(LogKey, LogEntry)>,
    output: VecDeque<Notification>,
    overflowed: u64,
}

const SNAPSHOT_VERSION: u32 = 1;

/// Whether both are one alert of one rule, at different times.
fn is_same(a: &Alert, b: &Alert) -> bool {
    (&a.group, &a.expr, a.active_at, a.fired_at) == (&b.group, &b.expr, b.active_at, b.fired_at)
}

fn integrations(config: &PolicyConfig) -> BTreeMap<Arc<str>, Vec<Integration>> {
    let named = |receiver: &ReceiverPolicy| {
        let named = receiver.integrations().into_iter();
        named.map(|(name, policy)| Integration { name, send_resolved: policy.send_resolved }).collect()
    };
    config.receivers.iter().map(|receiver| (receiver.name.as_str().into(), named(receiver))).collect()
}

fn log_key(id: &GroupId, route: &Route, integration: &Integration) -> LogKey {
    LogKey { group: id.clone(), contact_point: route.receiver.clone(), integration: integration.name.clone() }
}

/// The log's entries about a group.
fn entries<'l>(
    log: &'l BTreeMap<LogKey, LogEntry>,
    id: &'l GroupId,
) -> impl Iterator<Item = (&'l LogKey, &'l LogEntry)> {
    let first = LogKey { group: id.clone(), contact_point: "".into(), integration: "".into() };
    log.range(first..).take_while(move |(key, _)| key.group == *id)
}

fn notification(
    route: &Route,
    id: &GroupId,
    integration: &Integration,
    reason: NotifyReason,
    due: Timestamp,
    alerts: Vec<Arc<Alert>>,
) -> Notification {
    let group_key = format!("{}:{}", route.key, id.labels);
    // The route's id tells routes of the same matchers apart, which the group key does not.
    let named = format!("{}\0{}\0{}\0{}", id.route, id.labels, route.receiver, integration.name);
    Notification {
        key: format!("{:016x}-{}", xxhash_rust::xxh3::xxh3_64(named.as_bytes()), due.nanos()),
        group_key,
        contact_point: route.receiver.clone(),
        integration: integration.name.clone(),
        reason,
        due,
        group_labels: id.labels.clone(),
        common_labels: common(alerts.iter().map(|alert| &alert.labels)),
        common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
        alerts,
        told_before: BTreeSet::new(),
    }
}

/// The labels that all sets share.
fn common<'l>(mut sets: impl Iterator<Item = &'l Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::default() };
    let mut shared: Vec<(&str, &str)> = first.iter().collect();
    for set in sets {
        shared.retain(|(name, value)| set.get(name) == Some(value));
    }
    Labels::new(shared)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::config::IntegrationPolicy;
    use super::*;
    use config::{ReceiverPolicy, RouteConfig};

    const SECOND: i64 = 1_000_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * SECOND)
    }

    fn alert(labels: &[(&str, &str)]) -> Alert {
        Alert {
            group: "g".into(),
            expr: "e".into(),
            labels: Labels::new(labels.iter().copied()),
            annotations: Labels::new([("summary", "s")]),
            value: f64::NAN,
            active_at: at(0),
            fired_at: Some(at(0)),
            ..Alert::default()
        }
    }

    fn fires(labels: &[(&str, &str)], seconds: i64) -> Transition {
        let (from, to) = (AlertState::Inactive, AlertState::Firing);
        Transition { from, to, alert: Arc::new(alert(labels)), at: at(seconds), cause: None }
    }

    fn resolves(labels: &[(&str, &str)], seconds: i64) -> Transition {
        let alert = Arc::new(Alert { resolved_at: Some(at(seconds)), ..alert(labels) });
        Transition { from: AlertState::Firing, to: AlertState::Inactive, alert, at: at(seconds), cause: None }
    }

    fn config(yaml: &str, receivers: &[(&str, &[(&str, bool)])]) -> PolicyConfig {
        let integration = |(kind, send_resolved): &(&str, bool)| IntegrationPolicy {
            kind: (*kind).into(),
            send_resolved: *send_resolved,
        };
        let receiver = |(name, list): &(&str, &[(&str, bool)])| ReceiverPolicy {
            name: (*name).into(),
            integrations: list.iter().map(integration).collect(),
        };
        let route: RouteConfig = serde_saphyr::from_str(yaml).unwrap();
        let config = PolicyConfig { route, receivers: receivers.iter().map(receiver).collect() };
        assert_eq!(config.check(), Ok(()));
        config
    }

    #[test]
    fn what_is_said_next_has_the_value_of_now() {
        let mut alerting =
            Alerting::new(config("{receiver: a, group_wait: 0s, repeat_interval: 1h}", &[("a", &[("webhook", true)])]));
        let fired = fires(&[("alertname", "A")], 0);
        let now = Arc::new(Alert { value: 7.0, ..alert(&[("alertname", "A")]) });
        alerting.handle_transition(&fired);
        alerting.handle_timeout(at(0));
        let first = alerting.poll_notification().unwrap();
        alerting.handle_outcome(&first.key, true, at(0));
        alerting.handle_transition(&Transition { from: AlertState::Firing, alert: now.clone(), ..fired });
        alerting.handle_timeout(at(600));
        assert_eq!(alerting.poll_notification(), None, "another value is no news");
        alerting.handle_timeout(at(3600));
        assert_eq!(alerting.poll_notification().unwrap().alerts, *std::slice::from_ref(&now));
        assert_eq!(alerting.firing().collect::<Vec<_>>(), [&now]);
    }

    /// Lets time pass to `seconds`; each message that comes due is delivered at once.
    fn run(alerting: &mut Alerting, seconds: i64) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(time) = alerting.poll_timeout().filter(|time| *time <= at(seconds)) {
            alerting.handle_timeout(time);
            while let Some(notification) = alerting.poll_notification() {
                sent.push(told(&notification));
                alerting.handle_outcome(&notification.key, true, time);
            }
        }
        sent
    }

    fn told(notification: &Notification) -> String {
        let alerts: Vec<String> = notification
            .alerts
            .iter()
            .map(|alert| {
                let sign = if alert.resolved_at.is_some() { "-" } else { "+" };
                format!("{sign}{}", alert.labels.get("a").unwrap_or("?"))
            })
            .collect();
        let Notification { due, contact_point, integration, reason, .. } = notification;
        format!("{}s {contact_point}/{integration} {reason:?} {}", due.nanos() / SECOND, alerts.join(" "))
    }

    #[test]
    fn without_a_config_it_pages_to_stdout_at_once() {
        let mut alerting = Alerting::default();
        alerting.handle_transition(&fires(&[("alertname", "X"), ("service_name", "s"), ("a", "1")], 7));
        alerting.handle_transition(&fires(&[("alertname", "X"), ("service_name", "s"), ("a", "2")], 7));
        assert_eq!(alerting.poll_timeout(), Some(at(7)));
        alerting.handle_timeout(at(7));
        let notification = alerting.poll_notification().unwrap();
        assert_eq!(told(&notification), "7s stdout/stdout[0] FirstNotification +1 +2");
        assert_eq!(notification.group_key, r#"{}:{alertname="X", service_name="s"}"#);
        assert_eq!(notification.common_labels, Labels::new([("alertname", "X"), ("service_name", "s")]));
        assert_eq!(notification.common_annotations, Labels::new([("summary", "s")]));
        alerting.handle_outcome(&notification.key, true, at(7));
        alerting.handle_transition(&resolves(&[("alertname", "X"), ("service_name", "s"), ("a", "1")], 8));
        alerting.handle_transition(&resolves(&[("alertname", "X"), ("service_name", "s"), ("a", "2")], 9));
        assert_eq!(run(&mut alerting, 60), ["17s stdout/stdout[0] AllAlertsResolved -1 -2"]);
        assert_eq!(alerting.groups_len(), 0);
        assert!(alerting.log.is_empty() && alerting.pending.is_empty());
    }

    #[test]
    fn waits_groups_and_reminds_as_the_route_says() {
        let yaml = "{receiver: r, group_by: [g], group_wait: 30s, group_interval: 5m, repeat_interval: 1h}";
        let mut alerting = Alerting::new(config(yaml, &[("r", &[("slack", false), ("webhook", true)])]));
        alerting.handle_transition(&fires(&[("a", "1")], 0));
        assert_eq!(run(&mut alerting, 20), [""; 0]);
        alerting.handle_transition(&fires(&[("a", "2")], 20));
        let first = ["30s r/slack[0] FirstNotification +1 +2", "30s r/webhook[0] FirstNotification +1 +2"];
        assert_eq!(run(&mut alerting, 100), first);
        alerting.handle_transition(&resolves(&[("a", "1")], 100));
        assert_eq!(run(&mut alerting, 400), ["330s r/webhook[0] NewResolvedAlerts +2 -1"]);
        let reminders = ["3630s r/slack[0] RepeatInterval +2", "3930s r/webhook[0] RepeatInterval +2"];
        assert_eq!(run(&mut alerting, 4000), reminders);
        alerting.handle_transition(&resolves(&[("a", "2")], 5000));
        assert_eq!(run(&mut alerting, 9000), ["5030s r/webhook[0] AllAlertsResolved -2"]);
        alerting.handle_transition(&fires(&[("a", "2")], 9000));
        alerting.handle_transition(&resolves(&[("a", "2")], 9010));
        assert_eq!(run(&mut alerting, 20_000), [""; 0], "fired and resolved within group_wait");
        assert_eq!((alerting.groups_len(), alerting.log.len()), (0, 0));
    }

    #[test]
    fn what_was_not_delivered_is_said_again_with_another_key() {
        let yaml = "{receiver: r, group_wait: 0s, group_interval: 1m}";
        let mut alerting = Alerting::new(config(yaml, &[("r", &[("webhook", true)])]));
        alerting.handle_transition(&fires(&[("a", "1")], 0));
        alerting.handle_timeout(at(0));
        let first = alerting.poll_notification().unwrap();
        alerting.handle_outcome(&first.key, false, at(5));
        alerting.handle_timeout(at(60));
        let second = alerting.poll_notification().unwrap();
        assert_eq!(told(&second), "60s r/webhook[0] FirstNotification +1");
        assert_ne!(first.key, second.key);
        alerting.handle_transition(&resolves(&[("a", "1")], 61));
        alerting.handle_timeout(at(120));
        let third = alerting.poll_notification().unwrap();
        assert_eq!(told(&third), "120s r/webhook[0] AllAlertsResolved -1");
        alerting.handle_outcome(&second.key, false, at(121));
        alerting.handle_outcome(&third.key, false, at(122));
        assert_eq!(run(&mut alerting, 9999), [""; 0], "a refused all-clear is not repeated");
        assert_eq!(alerting.groups_len(), 0);
    }

    #[test]
    fn a_reload_keeps_what_was_told_and_tells_new_receivers() {
        let yaml = "{receiver: r, group_wait: 10s, group_interval: 1m}";
        let mut alerting = Alerting::new(config(yaml, &[("r", &[("webhook", true)])]));
        alerting.handle_transition(&fires(&[("a", "1")], 0));
        assert_eq!(run(&mut alerting, 20), ["10s r/webhook[0] FirstNotification +1"]);
        alerting.replace(config(yaml, &[("r", &[("slack", true), ("webhook", true)])]), at(20));
        assert_eq!(run(&mut alerting, 100), ["70s r/slack[0] FirstNotification +1"], "the webhook knows already");
        let yaml = "{receiver: r, group_wait: 10s, group_interval: 1m, routes: [{receiver: s, matchers: [a=1]}]}";
        alerting.replace(config(yaml, &[("r", &[("webhook", true)]), ("s", &[("webhook", true)])]), at(200));
        assert_eq!(run(&mut alerting, 1000), ["210s s/webhook[0] FirstNotification +1"]);
    }

    #[test]
    fn alerts_with_the_same_labels_are_one_that_fires_while_any_does() {
        let of = |group: &str, transition: Transition| {
            let alert = Arc::new(Alert { group: group.into(), ..(*transition.alert).clone() });
            Transition { alert, ..transition }
        };
        let (a, restored) = ([("a", "1")], |alerting: Alerting| {
            Alerting::restore(
                config("{receiver: r, group_wait: 0s, group_interval: 1m}", &[("r", &[("webhook", true)])]),
                &alerting.snapshot(),
            )
            .unwrap()
        });
        let mut alerting = restored(Alerting::default());
        assert!(alerting.handle_transition(&of("one", fires(&a, 0))).is_some());
        assert!(alerting.handle_transition(&of("two", fires(&a, 1))).is_none());
        assert_eq!(run(&mut alerting, 10), ["0s r/webhook[0] FirstNotification +1"]);
        alerting = restored(alerting);
        let left = alerting.handle_transition(&of("one", resolves(&a, 100))).unwrap();
        assert_eq!((left.to, &*left.alert.group), (AlertState::Firing, "two"));
        assert!(alerting.handle_transition(&of("three", fires(&a, 200))).is_none());
        assert!(alerting.handle_transition(&of("three", resolves(&a, 300))).is_none());
        assert_eq!(run(&mut alerting, 900), [""; 0], "it fires as before");
        alerting = restored(alerting);
        let last = alerting.handle_transition(&of("two", resolves(&a, 1000))).unwrap();
        assert_eq!(last.to, AlertState::Inactive);
        assert_eq!(run(&mut alerting, 2000), ["1000s r/webhook[0] AllAlertsResolved -1"]);
        assert!(alerting.firing.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Fire(usize),
        Resolve(usize),
        Wait(i64),
        /// The outcome of the oldest message under way.
        Outcome(bool),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6usize).prop_map(Step::Fire),
            4 => (0..6usize).prop_map(Step::Resolve),
            4 => (1..400i64).prop_map(Step::Wait),
            4 => any::<bool>().prop_map(Step::Outcome),
            1 => Just(Step::Restart),
        ]
    }

    const MODEL_ROUTE: &str = r#"
{receiver: r, group_by: [g], group_wait: 20s, group_interval: 100s, repeat_interval: 1000s, routes: [
  {receiver: s, matchers: ['a=~"[01]"'], continue: true, group_wait: 0s}, {matchers: ['a="5"'], group_by: ['...']}]}"#;

    fn model_config() -> PolicyConfig {
        config(MODEL_ROUTE, &[("r", &[("slack", false), ("webhook", true)]), ("s", &[("webhook", true)])])
    }

    fn model_labels(n: usize) -> [(&'static str, &'static str); 2] {
        [("a", ["0", "1", "2", "3", "4", "5"][n]), ("g", ["x", "y"][n % 2])]
    }

    /// Runs the steps; with `restarts`, the state goes through a snapshot where a step says so.
    fn outputs(steps: &[Step], restarts: bool) -> Vec<Notification> {
        let mut alerting = Alerting::new(model_config());
        let (mut now, mut firing, mut outputs) = (0, [false; 6], Vec::<Notification>::new());
        let mut under_way = VecDeque::new();
        for step in steps {
            match step {
                Step::Fire(n) if !firing[*n] => {
                    firing[*n] = true;
                    alerting.handle_transition(&fires(&model_labels(*n), now));
                }
                Step::Resolve(n) if firing[*n] => {
                    firing[*n] = false;
                    alerting.handle_transition(&resolves(&model_labels(*n), now));
                }
                Step::Wait(seconds) => now += seconds,
                Step::Outcome(delivered) => {
                    let key: Option<String> = under_way.pop_front();
                    key.iter().for_each(|key| alerting.handle_outcome(key, *delivered, at(now)));
                }
                Step::Restart if restarts => {
                    alerting = Alerting::restore(model_config(), &alerting.snapshot()).unwrap();
                }
                _ => {}
            }
            alerting.handle_timeout(at(now));
            while let Some(notification) = alerting.poll_notification() {
                under_way.push_back(notification.key.clone());
                outputs.push(notification);
            }
        }
        outputs
    }

    /// What a receiver of all messages knows to fire, by group and integration.
    fn known(outputs: &[Notification]) -> BTreeMap<(String, Arc<str>, Arc<str>), BTreeSet<String>> {
        let mut known = BTreeMap::new();
        for output in outputs {
            let firing = output.alerts.iter().filter(|alert| alert.resolved_at.is_none());
            let firing: BTreeSet<String> = firing.map(|alert| alert.labels.to_string()).collect();
            known.insert((output.group_key.clone(), output.contact_point.clone(), output.integration.clone()), firing);
        }
        known
    }

    proptest! {
        #[test]
        fn a_restart_anywhere_changes_nothing(steps in prop::collection::vec(step(), 0..60)) {
            let told = |outputs: &[Notification]| outputs.iter().map(|n| (n.key.clone(), told(n))).collect::<Vec<_>>();
            prop_assert_eq!(told(&outputs(&steps, true)), told(&outputs(&steps, false)));
        }

        #[test]
        fn messages_keep_their_distance_and_have_keys_of_their_own(steps in prop::collection::vec(step(), 0..80)) {
            let outputs = outputs(&steps, false);
            let keys: BTreeSet<&String> = outputs.iter().map(|output| &output.key).collect();
            prop_assert_eq!(keys.len(), outputs.len());
            let mut last = BTreeMap::new();
            for output in &outputs {
                let firing = output.alerts.iter().any(|alert| alert.resolved_at.is_none());
                let channel = (&output.group_key, &output.contact_point, &output.integration);
                if let Some((before, was_firing)) = last.insert(channel, (output.due, firing)) {
                    let least = if was_firing { 100 } else { 30 };
                    prop_assert!(output.due >= before + Duration::from_secs(least), "{}", told(output));
                }
            }
        }

        /// Once all is delivered and quiet, every receiver knows exactly what fires, and once all is resolved nothing is left.
        #[test]
        fn in_the_end_all_know_what_fires(steps in prop::collection::vec(step(), 0..60)) {
            let mut alerting = Alerting::new(model_config());
            let (mut now, mut firing, mut outputs) = (0, [false; 6], Vec::new());
            let settle = |alerting: &mut Alerting, now: i64, outputs: &mut Vec<Notification>| {
                while let Some(time) = alerting.poll_timeout().filter(|time| *time <= at(now)) {
                    alerting.handle_timeout(time);
                    while let Some(notification) = alerting.poll_notification() {
                        alerting.handle_outcome(&notification.key, true, time);
                        outputs.push(notification);
                    }
                }
            };
            for step in &steps {
                match step {
                    Step::Fire(n) | Step::Resolve(n) => {
                        let transition = if firing[*n] { resolves(&model_labels(*n), now) } else { fires(&model_labels(*n), now) };
                        firing[*n] = !firing[*n];
                        alerting.handle_transition(&transition);
                    }
                    Step::Wait(seconds) => now += seconds,
                    Step::Outcome(_) | Step::Restart => {}
                }
                settle(&mut alerting, now, &mut outputs);
            }
            settle(&mut alerting, now + 200, &mut outputs);
            let tree = Tree::new(&model_config().route);
            let mut expected = BTreeMap::<(String, Arc<str>), BTreeSet<String>>::new();
            for n in (0..6).filter(|n| firing[*n]) {
                let labels = Labels::new(model_labels(n));
                for route in tree.routes(&labels) {
                    let group = format!("{}:{}", route.key, route.group_labels(&labels));
                    expected.entry((group, route.receiver.clone())).or_default().insert(labels.to_string());
                }
            }
            let known = known(&outputs);
            for ((group, receiver), labels) in &expected {
                let webhook = "webhook[0]".into(); // it is told of resolved alerts
                prop_assert_eq!(known.get(&(group.clone(), receiver.clone(), webhook)), Some(labels));
            }
            for ((group, receiver, integration), labels) in &known {
                prop_assert!(&**integration == "slack[0]" || labels.is_empty() || expected.contains_key(&(group.clone(), receiver.clone())));
            }
            for n in (0..6).filter(|n| firing[*n]) {
                alerting.handle_transition(&resolves(&model_labels(n), now + 200));
            }
            settle(&mut alerting, now + 5000, &mut outputs);
            prop_assert_eq!((alerting.groups_len(), alerting.log.len(), alerting.pending.len()), (0, 0, 0));
            prop_assert!(alerting.firing.is_empty());
            prop_assert!(alerting.poll_timeout().is_none());
        }
    }
}
