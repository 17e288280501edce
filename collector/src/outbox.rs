//! Messages that are due and not known to be sent. A state machine: it decides what is sent when, and tried again when; sending is
//! for whoever polls it.
//!
//! That a message is due follows from the log, so a restart makes it again; only its [`Outcome`] is written, as a frame of its own. Until
//! that is durable the outbox knows of it, and the message is not sent again though a replay makes it again. The log takes each outcome that
//! it is given, or the disk fails under it: then the outbox that takes over by [`handle_told`](Outbox::handle_told) gives it again.
//!
//! Time is monotonic here: a wall clock that is set delays nothing and gives nothing up.
//!
//! Messages to one contact point about one group never overtake one another: there is one on its way at a time. A newer one takes the
//! place of one that still waits where it tells all that the older would have. That an alert is resolved does not tell that it fired: who
//! could not be reached in the meantime hears of both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use watchbell_rules::alerting::notification::Notification;

use crate::notify::{DeliveryError, DeliveryResult};

/// `outbox:` in the config.
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// Messages that wait or are on their way. At the limit the oldest that waits is given up, counted and logged. Default 10,000.
    pub outbox_notifications_max: usize,
    /// Messages on their way to one integration at the same time; more wait. Default 16.
    #[serde(deserialize_with = "crate::config::range::positive")]
    pub sending_per_integration_max: usize,
    /// Pause after the first failed try; it doubles with each further one, with a jitter of a fifth. Default 1 s.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub retry_initial_interval: Duration,
    /// The longest pause, also where the service asks for a longer one. Default 1 m.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub retry_max_interval: Duration,
    /// How long a message is tried before it is given up. Default 1 h.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub retry_max_elapsed_time: Duration,
    /// Outcomes that the log has not got yet. At the limit nothing more is sent until it has some; what is given up then is not
    /// written, and due again after a restart. Default 10,000.
    #[serde(deserialize_with = "crate::config::range::positive")]
    pub unwritten_outcomes_max: usize,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            outbox_notifications_max: 10_000,
            sending_per_integration_max: 16,
            retry_initial_interval: Duration::from_secs(1),
            retry_max_interval: Duration::from_secs(60),
            retry_max_elapsed_time: Duration::from_secs(3600),
            unwritten_outcomes_max: 10_000,
        }
    }
}

/// How sending a message ended, as it is written into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The message's key.
    pub key: String,
    /// Whether it has arrived.
    pub delivered: bool,
    /// Why not, where it has not.
    pub reason: String,
}

impl Outcome {
    /// The payload of an outcome frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Two strings and a truth value always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the payload of an outcome frame.
    ///
    /// # Errors
    /// It is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Outbox {
    config: OutboxConfig,
    entries: BTreeMap<u64, Entry>,
    by_key: BTreeMap<String, u64>,
    integrations: BTreeMap<Address, Integration>,
    told: BTreeMap<String, Told>,
    /// Keys of outcomes that are to be appended, in the order of the ends.
    unwritten: VecDeque<String>,
    next_number: u64,
    random: fastrand::Rng,
    metrics: Metrics,
}

/// The names of a contact point and of one of its integrations.
type Address = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Entry {
    notification: Arc<Notification>,
    tries: u32,
    first_try: Option<Duration>,
    /// When it is sent (again); `None` while it is on its way.
    due: Option<Duration>,
}

/// How a message ended, until that is durable.
#[derive(Debug)]
struct Told {
    outcome: Outcome,
    /// Whether the log holds it, though it may not be durable.
    is_in_log: bool,
}

#[derive(Debug, Default)]
struct Integration {
    /// The messages that wait for their time: the first of each group that has none on its way.
    waiting: BTreeSet<(Duration, u64)>,
    /// How many messages are on their way.
    sending: usize,
    /// All messages, by group, in order.
    groups: BTreeMap<String, VecDeque<u64>>,
}

impl Outbox {
    /// An empty one; `seed` is for the jitter.
    pub fn new(config: OutboxConfig, seed: u64, metrics: Metrics) -> Self {
        Self {
            config,
            entries: BTreeMap::new(),
            by_key: BTreeMap::new(),
            integrations: BTreeMap::new(),
            told: BTreeMap::new(),
            unwritten: VecDeque::new(),
            next_number: 0,
            random: fastrand::Rng::with_seed(seed),
            metrics,
        }
    }

    /// A message is due. One whose key is here already is the same one.
    pub fn handle_notification(&mut self, notification: Notification) {
        if self.by_key.contains_key(&notification.key) || self.told.contains_key(&notification.key) {
            return;
        }
        self.supersede(&notification);
        if self.entries.len() >= self.config.outbox_notifications_max {
            self.give_up_oldest();
        }
        let number = self.next_number;
        self.next_number += 1;
        self.by_key.insert(notification.key.clone(), number);
        let integration = self.integrations.entry(address(&notification)).or_default();
        let group = integration.groups.entry(notification.group_key.clone()).or_default();
        group.push_back(number);
        if group.len() == 1 {
            integration.waiting.insert((Duration::ZERO, number));
        }
        let entry =
            Entry { notification: Arc::new(notification), tries: 0, first_try: None, due: Some(Duration::ZERO) };
        self.entries.insert(number, entry);
        self.count_waiting();
    }

    /// The next message to send now; [`handle_result`](Self::handle_result) is to follow.
    pub fn poll_send(&mut self, now: Duration) -> Option<Arc<Notification>> {
        if self.told.len() >= self.config.unwritten_outcomes_max {
            return None;
        }
        for integration in self.integrations.values_mut() {
            if integration.sending >= self.config.sending_per_integration_max {
                continue;
            }
            let Some(next) = integration.waiting.first().copied().filter(|(due, _)| *due <= now) else { continue };
            integration.waiting.remove(&next);
            let entry = self.entries.get_mut(&next.1)?;
            entry.due = None;
            entry.first_try.get_or_insert(now);
            integration.sending += 1;
            return Some(Arc::clone(&entry.notification));
        }
        None
    }

    /// Says how a try ended, also one of before a disk failure: the replay that makes its message again may be under way.
    pub fn handle_result(&mut self, key: &str, result: DeliveryResult, now: Duration) {
        let Some(&number) = self.by_key.get(key) else {
            if result.is_ok() && !self.told.contains_key(key) {
                self.handle_told(Outcome { key: key.to_owned(), delivered: true, reason: String::new() });
            }
            return;
        };
        match result {
            Ok(()) => self.finish(number, true, String::new()),
            Err(DeliveryError::Permanent(reason)) => self.give_up(number, reason),
            Err(DeliveryError::Retryable { reason, after }) => self.try_again(number, reason, after, now),
        }
    }

    /// Reads an outcome out of the log: that message needs nothing more, once the log is durable up to there.
    pub fn handle_outcome(&mut self, outcome: &Outcome) {
        if let Some(&number) = self.by_key.get(&outcome.key) {
            self.remove(number);
        }
        if let Some(told) = self.told.get_mut(&outcome.key) {
            told.is_in_log = true;
        }
    }

    /// The log is durable up to the outcome of that message.
    pub fn handle_outcome_durable(&mut self, key: &str) {
        self.told.remove(key);
        self.count_told();
    }

    /// Takes over how a message ended that the log may not tell.
    pub fn handle_told(&mut self, outcome: Outcome) {
        if let Some(&number) = self.by_key.get(&outcome.key) {
            self.remove(number);
        }
        self.unwritten.push_back(outcome.key.clone());
        self.told.insert(outcome.key.clone(), Told { outcome, is_in_log: false });
        self.count_told();
    }

    /// The next outcome to write into the log. Each is given once: while the log takes none they wait in its queue.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        let to_write = |key| self.told.get(&key).filter(|told| !told.is_in_log);
        std::iter::from_fn(|| self.unwritten.pop_front()).find_map(to_write).map(|told| told.outcome.clone())
    }

    /// When a message is to be tried again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.next_send().filter(|_| self.told.len() < self.config.unwritten_outcomes_max)
    }

    fn next_send(&self) -> Option<Duration> {
        let free = |integration: &&Integration| integration.sending < self.config.sending_per_integration_max;
        let first = |integration: &Integration| integration.waiting.first().map(|(due, _)| *due);
        self.integrations.values().filter(free).filter_map(first).min()
    }

    /// The messages that are not known to be sent, oldest first.
    pub fn undelivered(&self) -> impl Iterator<Item = Arc<Notification>> {
        self.entries.values().map(|entry| Arc::clone(&entry.notification))
    }

    /// How messages ended of which the log does not tell it yet.
    pub fn unwritten(&self) -> impl Iterator<Item = &Outcome> {
        self.told.values().filter(|told| !told.is_in_log).map(|told| &told.outcome)
    }

    /// How messages ended of which the log may not tell it after a disk failure.
    pub fn told(&self) -> impl Iterator<Item = &Outcome> {
        self.told.values().map(|told| &told.outcome)
    }

    /// Takes out what still waits about the same group for the same integration and need not be told any more.
    fn supersede(&mut self, newer: &Notification) {
        let integration = self.integrations.get(&address(newer));
        let Some(group) = integration.and_then(|integration| integration.groups.get(&newer.group_key)) else { return };
        let is_told = |number: &u64| {
            let entry = &self.entries[number];
            entry.due.is_some() && tells_all_of(newer, &entry.notification)
        };
        let older: Vec<u64> = group.iter().copied().filter(is_told).collect();
        older.into_iter().for_each(|number| self.replace(number));
    }

    fn replace(&mut self, number: u64) {
        self.metrics.of(&self.entries[&number].notification, |metrics| &metrics.superseded).inc();
        self.finish(number, false, "a newer message about the group took its place".to_owned());
    }

    /// Whether a message that waits behind this one tells all that this one would.
    fn is_told_behind(&self, number: u64) -> bool {
        let notification = &self.entries[&number].notification;
        let integration = self.integrations.get(&address(notification));
        let group = integration.and_then(|integration| integration.groups.get(&notification.group_key));
        let mut behind = group.into_iter().flatten().filter(|other| **other != number);
        behind.any(|other| tells_all_of(&self.entries[other].notification, notification))
    }

    fn try_again(&mut self, number: u64, reason: String, after: Option<Duration>, now: Duration) {
        // One that waits already was made again meanwhile: the try that failed was of a former life.
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.due.is_none()) else { return };
        let tried_for = entry.first_try.map_or(Duration::ZERO, |first| now.saturating_sub(first));
        if tried_for >= self.config.retry_max_elapsed_time {
            return self.give_up(number, format!("given up after {tried_for:?}: {reason}"));
        }
        entry.tries += 1;
        if self.is_told_behind(number) {
            return self.replace(number);
        }
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let pause = match after {
            Some(after) => after.min(self.config.retry_max_interval),
            None => backoff(&self.config, entry.tries, self.random.f64()),
        };
        let due = now + pause;
        entry.due = Some(due);
        let notification = &entry.notification;
        tracing::warn!(contact_point = %notification.contact_point, group = %notification.group_key, %reason, again_in = ?pause, "a message could not be delivered");
        self.metrics.of(notification, |metrics| &metrics.retries).inc();
        if let Some(integration) = self.integrations.get_mut(&address(notification)) {
            integration.sending -= 1;
            integration.waiting.insert((due, number));
        }
    }

    fn give_up_oldest(&mut self) {
        let oldest = self.entries.iter().find(|(_, entry)| entry.due.is_some()).map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.give_up(
                number,
                format!("`outbox_notifications_max` ({}) is reached", self.config.outbox_notifications_max),
            );
        }
    }

    fn give_up(&mut self, number: u64, reason: String) {
        let notification = &self.entries[&number].notification;
        tracing::error!(contact_point = %notification.contact_point, group = %notification.group_key, %reason, "a message is lost");
        self.metrics.of(notification, |metrics| &metrics.lost).inc();
        self.finish(number, false, reason);
    }

    fn finish(&mut self, number: u64, delivered: bool, reason: String) {
        if let Some(entry) = self.remove(number) {
            if delivered {
                self.metrics.of(&entry.notification, |metrics| &metrics.delivered).inc();
            }
            if self.told.len() < self.config.unwritten_outcomes_max {
                self.handle_told(Outcome { key: entry.notification.key.clone(), delivered, reason });
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.by_key.remove(&entry.notification.key);
        let address = address(&entry.notification);
        if let Some(integration) = self.integrations.get_mut(&address) {
            match entry.due {
                Some(due) => drop(integration.waiting.remove(&(due, number))),
                None => integration.sending -= 1,
            }
            let Some(group) = integration.groups.get_mut(&entry.notification.group_key) else { return Some(entry) };
            group.retain(|other| *other != number);
            match group.front() {
                // Where it was not the first, or on its way, the first is there already.
                Some(first) => integration.waiting.extend(self.entries[first].due.map(|due| (due, *first))),
                None => drop(integration.groups.remove(&entry.notification.group_key)),
            }
            if integration.groups.is_empty() {
                self.integrations.remove(&address);
            }
        }
        self.count_waiting();
        Some(entry)
    }

    fn count_waiting(&self) {
        self.metrics.notifications.set(self.entries.len() as i64);
    }

    fn count_told(&self) {
        self.metrics.unwritten_outcomes.set(self.told.len() as i64);
    }
}

fn address(notification: &Notification) -> Address {
    (Arc::clone(&notification.contact_point), Arc::clone(&notification.integration))
}

/// Whether who gets the newer message misses nothing of the older: it has all of its alerts, and none that fires there is over here.
fn tells_all_of(newer: &Notification, older: &Notification) -> bool {
    older.alerts.iter().all(|alert| {
        let now = newer.alerts.iter().find(|other| other.labels == alert.labels);
        now.is_some_and(|now| now.resolved_at.is_none() || alert.resolved_at.is_some())
    })
}

/// Twice the pause for each try, at most the longest, a fifth more or less.
fn backoff(config: &OutboxConfig, tries: u32, random: f64) -> Duration {
    doubled(config.retry_initial_interval, tries).min(config.retry_max_interval).mul_f64(0.8 + 0.4 * random)
}

fn doubled(pause: Duration, tries: u32) -> Duration {
    pause.saturating_mul(1 << tries.saturating_sub(1).min(20))
}

/// What the outbox counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    notifications: Gauge,
    unwritten_outcomes: Gauge,
    delivered: Family<ContactPoint, Counter>,
    lost: Family<ContactPoint, Counter>,
    retries: Family<ContactPoint, Counter>,
    superseded: Family<ContactPoint, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContactPoint {
    contact_point: String,
    integration: String,
}

impl Metrics {
    /// Registers all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("watchbell_outbox");
        registry.register("notifications", "Messages that wait or are on their way", metrics.notifications.clone());
        let help = "Messages whose end the log does not hold durably yet";
        registry.register("unwritten_outcomes", help, metrics.unwritten_outcomes.clone());
        registry.register("delivered", "Messages that arrived", metrics.delivered.clone());
        registry.register("lost", "Messages that were given up", metrics.lost.clone());
        registry.register("retries", "Tries that failed and were repeated", metrics.retries.clone());
        registry.register("superseded", "Messages that a newer one took the place of", metrics.superseded.clone());
        metrics
    }

    fn of(&self, notification: &Notification, family: impl Fn(&Self) -> &Family<ContactPoint, Counter>) -> Counter {
        let contact_point = notification.contact_point.to_string();
        family(self)
            .get_or_create(&ContactPoint { contact_point, integration: notification.integration.to_string() })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use watchbell_rules::alerting::notification::NotifyReason;
    use watchbell_rules::labels::Labels;
    use watchbell_rules::time::Timestamp;
    use watchbell_rules::transition::Alert;

    use super::*;

    fn message(key: &str, group: &str) -> Notification {
        Notification {
            key: key.to_owned(),
            group_key: group.to_owned(),
            contact_point: "team".into(),
            integration: "webhook[0]".into(),
            reason: NotifyReason::FirstNotification,
            due: Timestamp(0),
            group_labels: Labels::default(),
            common_labels: Labels::default(),
            common_annotations: Labels::default(),
            alerts: Vec::new(),
            told_before: Default::default(),
        }
    }

    fn outbox(config: OutboxConfig) -> Outbox {
        Outbox::new(config, 7, Metrics::default())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn sent(outbox: &mut Outbox, now: Duration) -> Vec<String> {
        std::iter::from_fn(|| outbox.poll_send(now)).map(|sent| sent.key.clone()).collect()
    }

    fn outcome(key: &str, delivered: bool, reason: &str) -> Outcome {
        Outcome { key: key.to_owned(), delivered, reason: reason.to_owned() }
    }

    fn passing() -> DeliveryResult {
        Err(DeliveryError::Retryable { reason: "down".to_owned(), after: None })
    }

    #[test]
    fn a_message_is_sent_once_and_its_outcome_written() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        outbox.handle_notification(message("a", "g"));
        assert_eq!(sent(&mut outbox, at(0)), ["a"]);
        outbox.handle_result("a", Ok(()), at(1));
        assert_eq!(outbox.poll_outcome(), Some(outcome("a", true, "")));
        assert_eq!(outbox.undelivered().count(), 0);
        outbox.handle_outcome(&outcome("a", true, ""));
        assert_eq!(outbox.poll_timeout(), None);
    }

    #[test]
    fn a_failure_from_before_the_state_was_folded_again_changes_nothing() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        outbox.handle_result("a", passing(), at(0));
        assert_eq!(sent(&mut outbox, at(0)), ["a"]);
        outbox.handle_result("a", Ok(()), at(1));
        assert_eq!((sent(&mut outbox, Duration::MAX), outbox.undelivered().count()), (vec![], 0));
    }

    #[test]
    fn a_passing_failure_is_tried_again_after_a_growing_pause_until_time_is_up() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        let mut now = at(0);
        let mut pauses = Vec::new();
        while outbox.undelivered().count() > 0 {
            assert_eq!(sent(&mut outbox, now), ["a"]);
            outbox.handle_result("a", passing(), now);
            if let Some(due) = outbox.next_send() {
                assert!(sent(&mut outbox, due - Duration::from_nanos(1)).is_empty());
                pauses.push((due - now).as_secs_f64());
                now = due;
            }
        }
        assert!((0.8..1.2).contains(&pauses[0]) && (1.6..2.4).contains(&pauses[1]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 72.0), "{pauses:?}");
        let outcome = outbox.poll_outcome().unwrap();
        assert!(!outcome.delivered && outcome.reason.starts_with("given up after"), "{outcome:?}");
    }

    #[test]
    fn a_service_that_asks_for_a_day_is_tried_again_after_the_longest_pause() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        sent(&mut outbox, at(0));
        let after = Some(Duration::from_secs(86_400));
        outbox.handle_result("a", Err(DeliveryError::Retryable { reason: "503".into(), after }), at(0));
        assert_eq!(outbox.poll_timeout(), Some(at(60)));
    }

    #[test]
    fn a_permanent_failure_is_given_up_at_once() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        sent(&mut outbox, at(0));
        outbox.handle_result("a", Err(DeliveryError::Permanent("400".into())), at(0));
        assert_eq!(outbox.poll_outcome(), Some(outcome("a", false, "400")));
    }

    #[test]
    fn messages_about_one_group_keep_their_order_and_newer_ones_replace_waiting_ones() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        assert_eq!(sent(&mut outbox, at(0)), ["a"]);
        outbox.handle_notification(message("b", "g"));
        outbox.handle_notification(message("c", "g"));
        outbox.handle_notification(message("d", "other"));
        assert_eq!(sent(&mut outbox, at(0)), ["d"], "`b` is replaced by `c`, which waits for `a`");
        assert_eq!(outbox.poll_outcome().map(|outcome| outcome.key), Some("b".to_owned()));
        outbox.handle_result("a", Ok(()), at(1));
        assert_eq!(sent(&mut outbox, at(1)), ["c"]);
    }

    fn about(key: &str, firing: &[&str], resolved: &[&str]) -> Notification {
        let alert = |name: &&str, resolved_at: Option<Timestamp>| {
            Arc::new(Alert { labels: Labels::new([("alertname", *name)]), resolved_at, ..Alert::default() })
        };
        let firing = firing.iter().map(|name| alert(name, None));
        let resolved = resolved.iter().map(|name| alert(name, Some(Timestamp(1))));
        Notification { alerts: firing.chain(resolved).collect(), ..message(key, "g") }
    }

    #[test]
    fn who_was_not_reached_while_an_alert_fired_hears_of_that_and_of_its_end() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(about("fires", &["A"], &[]));
        assert_eq!(sent(&mut outbox, at(0)), ["fires"]);
        outbox.handle_result("fires", passing(), at(0));
        outbox.handle_notification(about("ends", &[], &["A"]));
        assert_eq!(sent(&mut outbox, at(0)), Vec::<String>::new(), "the end waits for the beginning");
        assert_eq!(sent(&mut outbox, at(2)), ["fires"]);
        outbox.handle_result("fires", Ok(()), at(2));
        assert_eq!(sent(&mut outbox, at(2)), ["ends"]);
    }

    #[test]
    fn an_alert_that_comes_and_goes_while_nobody_is_reached_is_told_of_once() {
        let mut outbox = outbox(OutboxConfig::default());
        for (fires, ends) in [("f1", "e1"), ("f2", "e2"), ("f3", "e3")] {
            outbox.handle_notification(about(fires, &["A"], &[]));
            outbox.handle_notification(about(ends, &[], &["A"]));
        }
        let waiting: Vec<String> = outbox.undelivered().map(|waiting| waiting.key.clone()).collect();
        assert_eq!(waiting, ["f3", "e3"]);
    }

    #[test]
    fn what_failed_is_not_sent_again_where_a_newer_message_tells_it() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(about("one", &["A"], &[]));
        assert_eq!(sent(&mut outbox, at(0)), ["one"]);
        outbox.handle_notification(about("both", &["A", "B"], &[]));
        outbox.handle_result("one", passing(), at(0));
        assert_eq!(sent(&mut outbox, at(0)), ["both"]);
        outbox.handle_result("both", Ok(()), at(1));
        assert_eq!((sent(&mut outbox, Duration::MAX), outbox.undelivered().count()), (vec![], 0));
    }

    #[test]
    fn limits_hold_and_say_what_they_cost() {
        let config = OutboxConfig { outbox_notifications_max: 3, sending_per_integration_max: 1, ..Default::default() };
        let mut outbox = outbox(config);
        for key in ["a", "b", "c"] {
            outbox.handle_notification(message(key, key));
        }
        assert_eq!(sent(&mut outbox, at(0)), ["a"]);
        outbox.handle_notification(message("d", "d"));
        let outcome = outbox.poll_outcome().unwrap();
        assert_eq!((outcome.key.as_str(), outcome.delivered), ("b", false), "the oldest that waits goes");
        assert_eq!(outbox.undelivered().count(), 3);
    }

    #[test]
    fn an_outcome_from_the_log_takes_the_message_out() {
        let mut outbox = outbox(OutboxConfig::default());
        outbox.handle_notification(message("a", "g"));
        outbox.handle_outcome(&outcome("a", true, ""));
        assert_eq!(sent(&mut outbox, at(0)), Vec::<String>::new());
        assert_eq!(outbox.poll_outcome(), None);
    }

    #[test]
    fn an_outcome_is_given_once_however_long_the_log_takes_none() {
        let mut before = outbox(OutboxConfig::default());
        before.handle_notification(message("a", "g"));
        sent(&mut before, at(0));
        before.handle_result("a", Ok(()), at(0));
        assert_eq!((before.poll_outcome(), before.poll_outcome()), (Some(outcome("a", true, "")), None));
        assert_eq!((before.poll_timeout(), before.unwritten().count()), (None, 1), "it waits in the log's queue");

        let mut after = outbox(OutboxConfig::default());
        before.told().cloned().for_each(|outcome| after.handle_told(outcome));
        assert_eq!(after.poll_outcome(), Some(outcome("a", true, "")), "the disk has failed under it");
    }

    #[test]
    fn what_was_told_is_known_until_that_is_durable() {
        let mut before = outbox(OutboxConfig::default());
        before.handle_notification(message("a", "g"));
        sent(&mut before, at(0));
        before.handle_result("a", Ok(()), at(0));
        before.handle_outcome(&outcome("a", true, ""));
        assert_eq!((before.unwritten().count(), before.told().count()), (0, 1), "the log holds it, but not durably");

        let mut after = outbox(OutboxConfig::default());
        before.told().cloned().for_each(|outcome| after.handle_told(outcome));
        after.handle_notification(message("a", "g"));
        assert_eq!(sent(&mut after, at(9)), Vec::<String>::new(), "made again by a replay, not sent again");
        assert_eq!(after.poll_outcome(), Some(outcome("a", true, "")));
        after.handle_outcome(&outcome("a", true, ""));
        after.handle_outcome_durable("a");
        assert_eq!(after.told().count(), 0);
    }

    #[test]
    fn while_the_log_takes_no_outcomes_nothing_more_is_sent() {
        let mut outbox = outbox(OutboxConfig { unwritten_outcomes_max: 1, ..Default::default() });
        outbox.handle_notification(message("a", "g"));
        outbox.handle_notification(message("b", "h"));
        assert_eq!(outbox.poll_send(at(0)).map(|sent| sent.key.clone()), Some("a".to_owned()));
        outbox.handle_result("a", Ok(()), at(0));
        assert_eq!(sent(&mut outbox, at(0)), Vec::<String>::new());
        outbox.handle_outcome(&outcome("a", true, ""));
        outbox.handle_outcome_durable("a");
        assert_eq!(sent(&mut outbox, at(0)), ["b"]);
    }
}
