//! `alertmanagers:`: Alertmanagers that are told of every alert beside our own routing, as Prometheus does it: each change at once, what
//! fires again every minute with an `endsAt` some minutes ahead, so that an alert we forget of ends by itself, and what is resolved again
//! for a quarter of an hour, so that one that was away hears of it. `startsAt` is when the alert began to fire, after its `for`.
//!
//! While the log is replayed nothing is told: what an Alertmanager hears then is how things stand at the end of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use watchbell_rules::labels::Labels;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{Alert, AlertState, Transition};

use super::webhook::Authorization;
use super::{DeliveryError, Tools, delivery_result, message, page};
use crate::http_client::{HttpClient, Protocol, TlsConfig};

/// One of `alertmanagers:`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AlertmanagerConfig")]
pub struct Config {
    /// `http://host:9093`, with the path prefix if it has one.
    pub url: String,
    /// How long an answer may take. Default 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "crate::config::duration::deserialize")]
    pub timeout: Duration,
    /// The `Authorization` header.
    #[serde(default)]
    pub authorization: Option<Authorization>,
    /// TLS.
    #[serde(default)]
    pub tls_config: TlsConfig,
    /// Alerts that it is kept told of. At the limit one that is resolved is dropped for a new one, else the new one is; both are counted.
    /// Default 10,000.
    #[serde(default = "ten_thousand")]
    pub alerts_max: usize,
}

fn ten_thousand() -> usize {
    10_000
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// What one Alertmanager is to know, and a task that tells it.
pub struct Feed {
    client: HttpClient,
    url: String,
    authorization: Option<secrecy::SecretString>,
    timeout: Duration,
    alerts_max: usize,
    tools: Tools,
    alerts: Mutex<Alerts>,
    changed: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Alerts {
    by_labels: BTreeMap<Labels, Entry>,
    /// Whether the log is replayed.
    is_held: bool,
}

struct Entry {
    alert: Arc<Alert>,
    /// When it is told (again), by the monotonic clock; a failed try moves it on.
    due: Duration,
    is_told: bool,
    /// When it is forgotten, if it is resolved.
    until: Option<Duration>,
}

/// Alertmanager's `postableAlert`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

impl Feed {
    /// A feed of one Alertmanager, which does not run yet.
    ///
    /// # Errors
    /// The URL is none or holds a password, or a file cannot be read.
    pub fn new(config: &Config, tools: &Tools, metrics: &Metrics) -> Result<Self, String> {
        let url = url::Url::parse(&config.url).map_err(|error| format!("`{}` is no URL: {error}", config.url))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a user and a password in `url` would be shown in metrics: write `authorization`".to_owned());
        }
        let url = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self {
            client: HttpClient::new(&config.tls_config, Protocol::Any)?,
            counts: metrics.of(&url),
            url: format!("{url}/api/v2/alerts"),
            authorization: config.authorization.as_ref().map(Authorization::header).transpose()?,
            timeout: config.timeout,
            alerts_max: config.alerts_max,
            tools: tools.clone(),
            alerts: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// An alert has changed its state.
    pub fn handle_transition(&self, transition: &Transition) {
        if transition.from != AlertState::Firing && transition.to != AlertState::Firing {
            return;
        }
        let (alert, now) = (&transition.alert, self.now());
        let resolved_for = alert.resolved_at.map(|at| self.tools.clock.now().since(at));
        let until = resolved_for.map(|resolved_for| now + RESOLVED_KEPT.saturating_sub(resolved_for));
        let entry = Entry { alert: Arc::clone(alert), due: now, is_told: false, until };
        let mut alerts = self.alerts();
        if transition.from == transition.to
            && let Some(known) = alerts.by_labels.get_mut(&alert.labels)
        {
            known.alert = Arc::clone(alert); // it fires on with another value: told when its turn comes
            return;
        }
        if alerts.by_labels.len() >= self.alerts_max && !alerts.by_labels.contains_key(&alert.labels) {
            self.counts.dropped.inc();
            let resolved =
                alerts.by_labels.values().filter(|entry| entry.until.is_some()).min_by_key(|entry| entry.until);
            let Some(labels) = resolved.map(|entry| entry.alert.labels.clone()) else { return };
            alerts.by_labels.remove(&labels);
        }
        alerts.by_labels.insert(alert.labels.clone(), entry);
        self.counts.alerts.set(alerts.by_labels.len() as i64);
        self.changed.notify_one();
    }

    /// The log is replayed: what comes now is told when that is over.
    pub fn hold(&self) {
        self.alerts().is_held = true;
    }

    /// The replay is over.
    pub fn release(&self) {
        self.alerts().is_held = false;
        self.changed.notify_one();
    }

    /// Tells the Alertmanager until `stopped` is true.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut failures = 0;
        while !*stopped.borrow() {
            let now = self.now();
            let due = self.due_alerts(now);
            if due.is_empty() {
                let wait = self.next_due().map_or(RESEND_INTERVAL, |due| due.saturating_sub(now).min(RESEND_INTERVAL));
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                    _ = stopped.changed() => {}
                }
                continue;
            }
            match self.tell(&due, now).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.counts.failures.inc();
                    tracing::warn!(url = %self.url, %error, "an Alertmanager could not be told");
                    let pause = RETRY_INTERVAL * failures.min(RETRY_FACTOR_MAX);
                    let permanent = matches!(error, DeliveryError::Permanent(_));
                    self.postpone(&due, now + if permanent { RESEND_INTERVAL } else { pause });
                }
            }
        }
    }

    /// The next batch that is due; forgets what has been resolved for long.
    pub(super) fn due_alerts(&self, now: Duration) -> Vec<Arc<Alert>> {
        let mut alerts = self.alerts();
        if alerts.is_held {
            return Vec::new();
        }
        alerts.by_labels.retain(|_, entry| {
            let is_over = entry.until.is_some_and(|until| until <= now);
            self.counts.dropped.inc_by(u64::from(is_over && !entry.is_told));
            !is_over
        });
        self.counts.alerts.set(alerts.by_labels.len() as i64);
        let due = alerts.by_labels.values().filter(|entry| entry.due <= now);
        due.take(ALERTS_PER_REQUEST_MAX).map(|entry| Arc::clone(&entry.alert)).collect()
    }

    fn next_due(&self) -> Option<Duration> {
        let alerts = self.alerts();
        if alerts.is_held { None } else { alerts.by_labels.values().map(|entry| entry.due).min() }
    }

    async fn tell(&self, alerts: &[Arc<Alert>], now: Duration) -> Result<(), DeliveryError> {
        let wall = self.tools.clock.now();
        let body: Vec<PostableAlert> = alerts.iter().map(|alert| self.postable(alert, wall)).collect();
        let body = serde_json::to_vec(&body).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        let mut request = Request::post(&self.url).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, secrecy::ExposeSecret::expose_secret(authorization));
        }
        let request = request.body(Bytes::from(body)).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        delivery_result(self.client.send(request, self.timeout).await)?;
        self.counts.told.inc_by(alerts.len() as u64);
        self.told(alerts, now);
        Ok(())
    }

    /// What was told is told again later; what changed meanwhile stays due.
    pub(super) fn told(&self, told: &[Arc<Alert>], now: Duration) {
        self.put_off(told, |entry| {
            entry.due = now + RESEND_INTERVAL;
            entry.is_told = true;
        });
    }

    fn postpone(&self, untold: &[Arc<Alert>], due: Duration) {
        self.put_off(untold, |entry| entry.due = due);
    }

    fn put_off(&self, alerts: &[Arc<Alert>], put_off: impl Fn(&mut Entry)) {
        let mut entries = self.alerts();
        for alert in alerts {
            let entry = entries.by_labels.get_mut(&alert.labels);
            entry.filter(|entry| Arc::ptr_eq(&entry.alert, alert)).map(&put_off);
        }
    }

    fn postable(&self, alert: &Alert, now: Timestamp) -> PostableAlert {
        let map = |labels: &Labels| -> BTreeMap<String, String> {
            labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let mut annotations = map(&alert.annotations);
        if !alert.samples.is_empty() {
            annotations.insert(EVIDENCE.to_owned(), page::evidence(alert, &self.tools.origin.links, now));
        }
        let mut labels = (*self.tools.external_labels).clone();
        labels.extend(map(&alert.labels));
        PostableAlert {
            labels,
            annotations,
            starts_at: message::starts_at(alert).to_string(),
            ends_at: alert.resolved_at.unwrap_or(now + VALID_FOR).to_string(),
            generator_url: message::generator_url(alert, &self.tools.origin),
        }
    }

    fn now(&self) -> Duration {
        self.tools.clock.monotonic()
    }

    fn alerts(&self) -> MutexGuard<'_, Alerts> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the feeds count.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    told: Family<Url, Counter>,
    failures: Family<Url, Counter>,
    dropped: Family<Url, Counter>,
    alerts: Family<Url, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Url {
    alertmanager: String,
}

struct Counts {
    told: Counter,
    failures: Counter,
    dropped: Counter,
    alerts: Gauge,
}

impl Metrics {
    /// Registers all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("watchbell_alertmanager");
        registry.register("alerts_sent", "Alerts told to an Alertmanager", metrics.told.clone());
        registry.register("failures", "Requests that an Alertmanager did not take", metrics.failures.clone());
        let help = "Alerts that an Alertmanager was not told of: too many fired, or it was away until they had been resolved for long";
        registry.register("alerts_dropped", help, metrics.dropped.clone());
        registry.register("alerts", "Alerts that an Alertmanager is kept told of", metrics.alerts.clone());
        metrics
    }

    #[cfg(test)]
    pub(super) fn dropped(&self, url: &str) -> u64 {
        self.of(url).dropped.get()
    }

    fn of(&self, url: &str) -> Counts {
        let url = Url { alertmanager: url.to_owned() };
        Counts {
            told: self.told.get_or_create(&url).clone(),
            failures: self.failures.get_or_create(&url).clone(),
            dropped: self.dropped.get_or_create(&url).clone(),
            alerts: self.alerts.get_or_create(&url).clone(),
        }
    }
}

/// The annotation that the records behind an alert stand in.
const EVIDENCE: &str = "evidence";
/// How long a resolved alert is told again, as Prometheus has it.
const RESOLVED_KEPT: Duration = Duration::from_secs(15 * 60);
/// How often an alert is told again.
const RESEND_INTERVAL: Duration = Duration::from_secs(60);
/// How far ahead a firing alert's `endsAt` is: four times the interval, as Prometheus has it.
const VALID_FOR: Duration = Duration::from_secs(240);
/// The pause after a failure; it grows by itself with each further one, up to so many times.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_FACTOR_MAX: u32 = 30;
/// Alerts of one request, as Prometheus has it.
const ALERTS_PER_REQUEST_MAX: usize = 64;
