//! Contact points: how a notification reaches a person.
//!
//! `alerting:` is Alertmanager's own YAML. Routing is decided in `watchbell_rules::alerting`; here each integration turns a notification
//! into what its service takes, evidence included, and tells a failure that will pass from one that will not.

pub mod alertmanager;
pub mod email;
mod message;
mod page;
pub mod pagerduty;
pub mod preview;
pub mod slack;
pub mod stdout;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::watch;
use watchbell_rules::alerting::config::{
    IntegrationPolicy, NotSupported, PolicyConfig, ReceiverPolicy, RouteConfig, integration_name,
};
use watchbell_rules::alerting::notification::Notification;
pub use watchbell_rules::template::Links;
use watchbell_rules::template::Template;

use crate::clock::SharedClock;
use crate::http_client::{Answer, SendError, TlsConfig};
use crate::wal::BoxFuture;

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// It never will: trying again would end the same.
    Permanent(String),
    /// It may yet.
    Retryable {
        /// What happened.
        reason: String,
        /// When the service asked to be tried again.
        after: Option<Duration>,
    },
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent(reason) | Self::Retryable { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for DeliveryError {}

/// How sending ended.
pub type DeliveryResult = Result<(), DeliveryError>;

/// Sends a message to the integration that it is for.
pub trait Notifier: Send + Sync + 'static {
    /// Sends; the future is ready when the service has said what became of it.
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult>;
}

/// `alerting:` in the config, as in Alertmanager's own file.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertingConfig {
    /// What receivers leave out.
    #[serde(default)]
    pub global: Global,
    /// The routing tree.
    pub route: RouteConfig,
    /// The contact points that routes name.
    pub receivers: Vec<ContactPointConfig>,
    /// Files with templates to call by name (globs).
    #[serde(default)]
    pub templates: Vec<String>,
    /// Refused: not evaluated yet.
    #[serde(default)]
    pub inhibit_rules: NotSupported,
    /// Refused: not evaluated yet.
    #[serde(default)]
    pub time_intervals: NotSupported,
    /// Refused: not evaluated yet.
    #[serde(default)]
    pub mute_time_intervals: NotSupported,
    /// Refused: traces of ourselves are not made.
    #[serde(default)]
    pub tracing: NotSupported,
    /// Refused: the log holds what happened.
    #[serde(default)]
    pub event_recorder: NotSupported,
}

/// `alerting.global`
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    /// `host:port` of the mail server.
    pub smtp_smarthost: Option<String>,
    /// Who mail comes from.
    pub smtp_from: Option<String>,
    /// The name we give in EHLO.
    pub smtp_hello: Option<String>,
    /// For AUTH.
    pub smtp_auth_username: Option<String>,
    /// For AUTH.
    #[schemars(with = "Option<String>")]
    pub smtp_auth_password: Option<SecretString>,
    /// A file that holds it.
    pub smtp_auth_password_file: Option<PathBuf>,
    /// Whether a server without STARTTLS is refused. Default true.
    pub smtp_require_tls: bool,
    /// Slack's webhook URL.
    #[schemars(with = "Option<String>")]
    pub slack_api_url: Option<SecretString>,
    /// A file that holds it.
    pub slack_api_url_file: Option<PathBuf>,
    /// A Slack bot's token.
    #[schemars(with = "Option<String>")]
    pub slack_app_token: Option<SecretString>,
    /// A file that holds it.
    pub slack_app_token_file: Option<PathBuf>,
    /// Where messages with a token go. Default `https://slack.com/api/chat.postMessage`.
    pub slack_app_url: String,
    /// Refused: each integration has its own.
    pub http_config: NotSupported,
    /// TLS to mail servers, where an integration has no `tls_config` of its own.
    pub smtp_tls_config: TlsConfig,
    /// Whether TLS is spoken to mail servers from the first byte. Default: on port 465.
    pub smtp_force_implicit_tls: Option<bool>,
    /// Refused: only PLAIN and LOGIN are spoken.
    pub smtp_auth_secret: NotSupported,
    /// Refused: only PLAIN and LOGIN are spoken.
    pub smtp_auth_secret_file: NotSupported,
    /// Refused: nobody is spoken for but `smtp_auth_username`.
    pub smtp_auth_identity: NotSupported,
    /// Where PagerDuty's events go. Default `https://events.pagerduty.com/v2/enqueue`.
    pub pagerduty_url: String,
    /// Taken and not needed: our alerts say themselves when they are resolved.
    #[serde(deserialize_with = "crate::config::duration::option::deserialize")]
    pub resolve_timeout: Option<Duration>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            smtp_smarthost: None,
            smtp_from: None,
            smtp_hello: None,
            smtp_auth_username: None,
            smtp_auth_password: None,
            smtp_auth_password_file: None,
            smtp_require_tls: true,
            slack_api_url: None,
            slack_api_url_file: None,
            slack_app_token: None,
            slack_app_token_file: None,
            slack_app_url: "https://slack.com/api/chat.postMessage".to_owned(),
            http_config: NotSupported,
            smtp_tls_config: TlsConfig::default(),
            smtp_force_implicit_tls: None,
            smtp_auth_secret: NotSupported,
            smtp_auth_secret_file: NotSupported,
            smtp_auth_identity: NotSupported,
            pagerduty_url: "https://events.pagerduty.com/v2/enqueue".to_owned(),
            resolve_timeout: None,
        }
    }
}

/// One of `alerting.receivers`.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactPointConfig {
    /// What routes call it.
    pub name: String,
    /// Mail.
    #[serde(default)]
    pub email_configs: Vec<email::Config>,
    /// Messages in Slack.
    #[serde(default)]
    pub slack_configs: Vec<slack::Config>,
    /// Incidents in PagerDuty.
    #[serde(default)]
    pub pagerduty_configs: Vec<pagerduty::Config>,
    /// HTTP requests with Alertmanager's payload.
    #[serde(default)]
    pub webhook_configs: Vec<webhook::Config>,
    /// Pages on stdout.
    #[serde(default)]
    pub stdout_configs: Vec<stdout::Config>,
    /// Refused: nobody asks for them.
    #[serde(default)]
    pub labels: NotSupported,
    /// Refused: Discord is not spoken.
    #[serde(default)]
    pub discord_configs: NotSupported,
    /// Refused: incident.io is not spoken.
    #[serde(default)]
    pub incidentio_configs: NotSupported,
    /// Refused: Jira is not spoken.
    #[serde(default)]
    pub jira_configs: NotSupported,
    /// Refused: Mattermost is not spoken.
    #[serde(default)]
    pub mattermost_configs: NotSupported,
    /// Refused: Microsoft Teams is not spoken.
    #[serde(default)]
    pub msteams_configs: NotSupported,
    /// Refused: Microsoft Teams is not spoken.
    #[serde(default)]
    pub msteamsv2_configs: NotSupported,
    /// Refused: Opsgenie is not spoken.
    #[serde(default)]
    pub opsgenie_configs: NotSupported,
    /// Refused: Pushover is not spoken.
    #[serde(default)]
    pub pushover_configs: NotSupported,
    /// Refused: Rocket.Chat is not spoken.
    #[serde(default)]
    pub rocketchat_configs: NotSupported,
    /// Refused: Amazon SNS is not spoken.
    #[serde(default)]
    pub sns_configs: NotSupported,
    /// Refused: Telegram is not spoken.
    #[serde(default)]
    pub telegram_configs: NotSupported,
    /// Refused: VictorOps is not spoken.
    #[serde(default)]
    pub victorops_configs: NotSupported,
    /// Refused: Webex is not spoken.
    #[serde(default)]
    pub webex_configs: NotSupported,
    /// Refused: WeChat is not spoken.
    #[serde(default)]
    pub wechat_configs: NotSupported,
}

impl AlertingConfig {
    /// What the policy needs of it.
    ///
    /// # Errors
    /// A route names a receiver that there is not, or a setting is out of range.
    pub fn policy(&self) -> Result<PolicyConfig, String> {
        let receivers = self.receivers.iter().map(ContactPointConfig::policy).collect();
        let policy = PolicyConfig { route: self.route.clone(), receivers };
        match policy.check() {
            Ok(()) => Ok(policy),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }
}

impl ContactPointConfig {
    /// The contact point of a config without `alerting:`.
    fn default_stdout(policy: &PolicyConfig) -> Vec<Self> {
        let name = policy.route.receiver.clone().unwrap_or_default();
        vec![Self { name, stdout_configs: vec![stdout::Config::default()], ..Self::default() }]
    }

    fn policy(&self) -> ReceiverPolicy {
        let policy = |kind: &str, send_resolved| IntegrationPolicy { kind: kind.to_owned(), send_resolved };
        let mut integrations = Vec::new();
        integrations.extend(self.email_configs.iter().map(|config| policy("email", config.send_resolved)));
        integrations.extend(self.slack_configs.iter().map(|config| policy("slack", config.send_resolved)));
        integrations.extend(self.pagerduty_configs.iter().map(|config| policy("pagerduty", config.send_resolved)));
        integrations.extend(self.webhook_configs.iter().map(|config| policy("webhook", config.send_resolved)));
        integrations.extend(self.stdout_configs.iter().map(|config| policy("stdout", config.send_resolved)));
        ReceiverPolicy { name: self.name.clone(), integrations }
    }

    /// Its integrations by the names that the policy gives them; all mistakes at once.
    fn build(&self, global: &Global, library: &Template, tools: &Tools) -> Result<Integrations, Vec<String>> {
        let mut built = Building::default();
        for (i, config) in self.email_configs.iter().enumerate() {
            built.add("email", i, email::Email::new(config, global, library, tools));
        }
        for (i, config) in self.slack_configs.iter().enumerate() {
            built.add("slack", i, slack::Slack::new(config, global, library, tools));
        }
        for (i, config) in self.pagerduty_configs.iter().enumerate() {
            built.add("pagerduty", i, pagerduty::PagerDuty::new(config, global, library, tools));
        }
        for (i, config) in self.webhook_configs.iter().enumerate() {
            built.add("webhook", i, webhook::Webhook::new(config, tools));
        }
        for (i, config) in self.stdout_configs.iter().enumerate() {
            built.add("stdout", i, Ok(stdout::Stdout::new(config, tools)));
        }
        if built.errors.is_empty() { Ok(built.integrations) } else { Err(built.errors) }
    }
}

/// The integrations of one contact point, by name: `webhook[1]`.
type Integrations = BTreeMap<Arc<str>, Arc<dyn Notifier>>;

/// The integrations of one contact point, or what is wrong with them.
#[derive(Default)]
struct Building {
    integrations: Integrations,
    errors: Vec<String>,
}

impl Building {
    fn add<N: Notifier>(&mut self, kind: &str, at: usize, built: Result<N, String>) {
        match built {
            Ok(notifier) => _ = self.integrations.insert(integration_name(kind, at), Arc::new(notifier)),
            Err(error) => self.errors.push(format!("{kind}_configs[{at}]: {error}")),
        }
    }
}

/// What integrations are built with.
#[derive(Clone)]
pub struct Tools {
    /// The time.
    pub clock: SharedClock,
    /// Where what messages show leads.
    pub origin: Origin,
    /// Labels that alerts get on their way to an Alertmanager.
    pub external_labels: Arc<BTreeMap<String, String>>,
    /// What prints on stdout.
    pub stdout: stdout::Writer,
}

/// Where the links in messages lead.
#[derive(Clone)]
pub struct Origin {
    /// Those of a record.
    pub links: Arc<Links>,
    /// The address under which people reach this collector, for `externalURL`.
    pub external_url: Arc<str>,
}

/// All contact points of a config, and the policy that goes with them.
pub struct Notifiers {
    contact_points: BTreeMap<Arc<str>, Integrations>,
    policy: PolicyConfig,
}

impl Notifiers {
    /// The contact points of `alerting:`, or the one on stdout.
    ///
    /// # Errors
    /// A setting that cannot be used, or a file that cannot be read.
    pub fn new(config: Option<&AlertingConfig>, tools: &Tools) -> Result<Self, String> {
        let (policy, receivers, global, templates) = match config {
            Some(config) => {
                (config.policy()?, config.receivers.clone(), config.global.clone(), config.templates.as_slice())
            }
            None => {
                let policy = PolicyConfig::default();
                let receivers = ContactPointConfig::default_stdout(&policy);
                (policy, receivers, Global::default(), &[][..])
            }
        };
        let library = message::library(templates)?;
        let (mut contact_points, mut errors) = (BTreeMap::new(), Vec::new());
        for receiver in receivers {
            match receiver.build(&global, &library, tools) {
                Ok(built) => _ = contact_points.insert(receiver.name.into(), built),
                Err(wrong) => errors.extend(wrong.iter().map(|error| format!("receiver `{}`: {error}", receiver.name))),
            }
        }
        if !errors.is_empty() {
            return Err(errors.join("\n"));
        }
        Ok(Self { contact_points, policy })
    }

    /// Who is told of which alerts, as far as the contact points do not decide it.
    pub fn policy(&self) -> &PolicyConfig {
        &self.policy
    }
}

impl Notifier for Notifiers {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let integrations = self.contact_points.get(&notification.contact_point);
        match integrations.and_then(|integrations| integrations.get(&notification.integration)) {
            Some(integration) => integration.send(notification),
            // Made under a config that has been replaced since.
            None => Box::pin(async move {
                let Notification { contact_point, integration, .. } = &*notification;
                let reason = format!("the config has no `{integration}` of `{contact_point}` any more");
                Err(DeliveryError::Permanent(reason))
            }),
        }
    }
}

/// The contact points to send by. Those of a reload are used from when the policy that came with them is in force: no sooner, since
/// the messages of the policy before are theirs who it names, and no later.
pub struct CurrentNotifiers {
    current: Arc<Notifiers>,
    latest: watch::Receiver<Arc<Notifiers>>,
}

impl CurrentNotifiers {
    /// Those that are there, then those that come.
    pub fn new(latest: watch::Receiver<Arc<Notifiers>>) -> Self {
        let current = Arc::clone(&latest.borrow());
        Self { current, latest }
    }

    /// The contact points to send by while `policy` is in force.
    pub fn under(&mut self, policy: &PolicyConfig) -> Arc<Notifiers> {
        let latest = self.latest.borrow();
        if !Arc::ptr_eq(&latest, &self.current) && latest.policy() == policy {
            self.current = Arc::clone(&latest);
        }
        Arc::clone(&self.current)
    }
}

/// What an HTTP service's answer means: 2xx is taken, 429 and 5xx may pass, the rest will not.
pub(crate) fn delivery_result(answer: Result<Answer, SendError>) -> DeliveryResult {
    let answer = answer.map_err(|error| DeliveryError::Retryable { reason: error.to_string(), after: None })?;
    if answer.status.is_success() {
        return Ok(());
    }
    let reason = format!("{}: {}", answer.status, answer.excerpt());
    let passing = answer.status.is_server_error()
        || answer.status == StatusCode::TOO_MANY_REQUESTS
        || answer.status == StatusCode::REQUEST_TIMEOUT;
    Err(match passing {
        true => DeliveryError::Retryable { reason, after: answer.retry_after() },
        false => DeliveryError::Permanent(reason),
    })
}

#[cfg(test)]
mod answer_tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let result_of = |status: u16, retry_after: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(seconds) = retry_after {
                headers.insert("retry-after", http::HeaderValue::from_static(seconds));
            }
            let status = StatusCode::from_u16(status).unwrap();
            delivery_result(Ok(Answer { status, headers, body: Bytes::from("why\nnot"), trailers: HeaderMap::new() }))
        };
        assert_eq!(result_of(204, None), Ok(()));
        assert_eq!(result_of(404, None), Err(DeliveryError::Permanent("404 Not Found: why not".into())));
        let reason = "429 Too Many Requests: why not".to_owned();
        let after = Some(Duration::from_secs(7));
        assert_eq!(result_of(429, Some("7")), Err(DeliveryError::Retryable { reason, after }));
        assert!(matches!(result_of(502, None), Err(DeliveryError::Retryable { after: None, .. })));
    }
}
