//! `webhook_configs`: an HTTP POST with Alertmanager's payload, version 4, and the records behind each alert beside it.
//!
//! The header `Idempotency-Key` names the message: a restart may send one again that was on its way, with the same key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use watchbell_rules::alerting::config::NotSupported;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::record::EvidenceRecord;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::Alert;

use super::{DeliveryResult, Links, Notifier, Origin, Tools, delivery_result, message};
use crate::http_client::{HttpClient, Protocol, TlsConfig};
use crate::wal::BoxFuture;

/// One of a receiver's `webhook_configs`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WebhookConfig")]
pub struct Config {
    /// Where to post; may hold a secret.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub url: Option<SecretString>,
    /// A file that holds the URL.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Whether resolved alerts are told, too. Default true.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// At most so many alerts in a message; `truncatedAlerts` says how many were left out. 0, the default, is no limit.
    #[serde(default)]
    pub max_alerts: usize,
    /// How long an answer may take. Default 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "crate::config::duration::deserialize")]
    pub timeout: Duration,
    /// How to speak HTTP.
    #[serde(default)]
    pub http_config: HttpConfig,
    /// Refused: the payload is Alertmanager's version 4, with our samples.
    #[serde(default)]
    pub payload: NotSupported,
}

/// `http_config`, the part of Alertmanager's that is honoured here.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Another `Authorization` header.
    pub authorization: Option<Authorization>,
    /// TLS.
    pub tls_config: TlsConfig,
    /// Refused: `authorization` is its newer name.
    pub bearer_token: NotSupported,
    /// Refused: `authorization` is its newer name.
    pub bearer_token_file: NotSupported,
    /// Refused: requests go straight to the server.
    pub proxy_url: NotSupported,
    /// Refused: requests go straight to the server.
    pub no_proxy: NotSupported,
    /// Refused: requests go straight to the server.
    pub proxy_from_environment: NotSupported,
    /// Refused: requests go straight to the server.
    pub proxy_connect_header: NotSupported,
    /// Refused: a server's redirect is a failure.
    pub follow_redirects: NotSupported,
    /// Refused: what the server speaks decides.
    pub enable_http2: NotSupported,
    /// Refused: no token is fetched.
    pub oauth2: NotSupported,
    /// Refused: `authorization` is the only header to set.
    pub http_headers: NotSupported,
}

/// `basic_auth`.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password.
    #[schemars(with = "Option<String>")]
    pub password: Option<SecretString>,
    /// A file that holds it.
    pub password_file: Option<PathBuf>,
}

/// `authorization`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// Default `Bearer`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// What stands behind the type.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub credentials: Option<SecretString>,
    /// A file that holds it.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// A URL to post to.
pub struct Webhook {
    client: HttpClient,
    url: SecretString,
    authorization: Option<SecretString>,
    config: Config,
    tools: Tools,
}

impl Webhook {
    /// Reads the files it names.
    ///
    /// # Errors
    /// There is no URL or it is none, or a file cannot be read.
    pub fn new(config: &Config, tools: &Tools) -> Result<Self, String> {
        let url =
            secret("url", config.url.as_ref(), config.url_file.as_ref())?.ok_or("`url` or `url_file` is needed")?;
        let parsed = url::Url::parse(url.expose_secret()).map_err(|error| format!("`url` is no URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("`url` begins with `{}:`, not with `http:` or `https:`", parsed.scheme()));
        }
        let authorization = config.http_config.authorization()?;
        check_target("url", url.expose_secret(), authorization.as_ref())?;
        let client = HttpClient::new(&config.http_config.tls_config, Protocol::Any)?;
        Ok(Self { client, url, authorization, config: config.clone(), tools: tools.clone() })
    }

    fn request(&self, notification: &Notification) -> Result<Request<Bytes>, String> {
        let payload = Payload::new(notification, self.config.max_alerts, &self.tools.origin, self.tools.clock.now());
        let body = serde_json::to_vec(&payload).map_err(|error| error.to_string())?;
        let mut request = Request::post(self.url.expose_secret())
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", &notification.key);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose_secret());
        }
        request.body(Bytes::from(body)).map_err(|error| error.to_string())
    }
}

impl Notifier for Webhook {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let (request, client, timeout) = (self.request(&notification), self.client.clone(), self.config.timeout);
        Box::pin(async move {
            let request = request.map_err(super::DeliveryError::Permanent)?;
            delivery_result(client.send(request, timeout).await)
        })
    }
}

impl HttpConfig {
    /// The value of the `Authorization` header.
    pub(super) fn authorization(&self) -> Result<Option<SecretString>, String> {
        match (&self.basic_auth, &self.authorization) {
            (Some(_), Some(_)) => Err("`basic_auth` and `authorization` are both set; one is enough".to_owned()),
            (Some(basic), None) => basic.header().map(Some),
            (None, other) => other.as_ref().map(Authorization::header).transpose(),
        }
    }
}

impl BasicAuth {
    fn header(&self) -> Result<SecretString, String> {
        let password = secret("password", self.password.as_ref(), self.password_file.as_ref())?.unwrap_or_default();
        let pair = format!("{}:{}", self.username, password.expose_secret());
        Ok(format!("Basic {}", BASE64_STANDARD.encode(pair)).into())
    }
}

impl Authorization {
    pub(super) fn header(&self) -> Result<SecretString, String> {
        let credentials = secret("credentials", self.credentials.as_ref(), self.credentials_file.as_ref())?;
        let credentials = credentials.ok_or("`authorization` needs `credentials` or `credentials_file`")?;
        let kind = self.kind.as_deref().unwrap_or("Bearer");
        Ok(format!("{kind} {}", credentials.expose_secret()).into())
    }
}

/// Checks what every request to a contact point has in common, so that a mistake is told at the start and not by the first page. What is
/// wrong may be a secret: it is not shown.
///
/// # Errors
/// It is no URL to post to, or its authorization is no header.
pub(super) fn check_target(key: &str, url: &str, authorization: Option<&SecretString>) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("`{key}` is no URL: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("`{key}` does not begin with `http://` or `https://`"));
    }
    let is_header = |value: &SecretString| http::HeaderValue::try_from(value.expose_secret()).is_ok();
    match authorization {
        Some(value) if !is_header(value) => Err("a token or password holds a character that no header may".to_owned()),
        _ => Ok(()),
    }
}

/// A secret that stands in the config or in a file beside it.
///
/// # Errors
/// It is given twice, or the file cannot be read.
pub(crate) fn secret(
    name: &str,
    value: Option<&SecretString>,
    file: Option<&PathBuf>,
) -> Result<Option<SecretString>, String> {
    match (value, file) {
        (Some(_), Some(_)) => Err(format!("`{name}` and `{name}_file` are both set; one is enough")),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read `{name}_file` `{}`: {error}", path.display()))?;
            Ok(Some(text.trim_end().to_owned().into()))
        }
        (None, None) => Ok(None),
    }
}

/// Alertmanager's payload, version 4; `samples` is ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
    status: &'static str,
    receiver: &'a str,
    group_labels: LabelMap<'a>,
    common_labels: LabelMap<'a>,
    common_annotations: LabelMap<'a>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<PayloadAlert<'a>>,
}

type LabelMap<'a> = std::collections::BTreeMap<&'a str, &'a str>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: LabelMap<'a>,
    annotations: LabelMap<'a>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
    value: f64,
    samples: Vec<PayloadSample<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadSample<'a> {
    time: String,
    severity: &'a str,
    severity_number: i32,
    body: &'a str,
    attributes: LabelMap<'a>,
    trace_id: &'a str,
    span_id: &'a str,
    links: std::collections::BTreeMap<String, String>,
}

impl<'a> Payload<'a> {
    pub(super) fn new(notification: &'a Notification, max_alerts: usize, origin: &'a Origin, now: Timestamp) -> Self {
        let total = notification.alerts.len();
        let shown = if max_alerts == 0 { total } else { total.min(max_alerts) };
        let alerts = notification.alerts[..shown].iter();
        Self {
            version: "4",
            group_key: &notification.group_key,
            truncated_alerts: total - shown,
            status: message::status(notification.is_firing()),
            receiver: &notification.contact_point,
            group_labels: notification.group_labels.iter().collect(),
            common_labels: notification.common_labels.iter().collect(),
            common_annotations: notification.common_annotations.iter().collect(),
            external_url: &origin.external_url,
            alerts: alerts.map(|alert| PayloadAlert::new(alert, origin, now)).collect(),
        }
    }
}

impl<'a> PayloadAlert<'a> {
    fn new(alert: &'a Alert, origin: &Origin, now: Timestamp) -> Self {
        Self {
            status: message::status(alert.resolved_at.is_none()),
            labels: alert.labels.iter().collect(),
            annotations: alert.annotations.iter().collect(),
            starts_at: message::starts_at(alert).to_string(),
            // The zero time is how Alertmanager says that there is no end yet.
            ends_at: alert.resolved_at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string()),
            generator_url: message::generator_url(alert, origin),
            fingerprint: message::fingerprint(&alert.labels),
            value: alert.value,
            samples: alert.samples.iter().map(|record| PayloadSample::new(record, &origin.links, now)).collect(),
        }
    }
}

impl<'a> PayloadSample<'a> {
    fn new(record: &'a EvidenceRecord, links: &Links, now: Timestamp) -> Self {
        Self {
            time: record.time.to_string(),
            severity: &record.severity,
            severity_number: record.severity_number,
            body: &record.body,
            attributes: record.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            trace_id: &record.trace_id,
            span_id: &record.span_id,
            links: links.expand(record, now),
        }
    }
}
