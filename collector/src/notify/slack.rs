//! `slack_configs`: a message to Slack's incoming webhook, or to what takes the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::template::{Escape, Template};

use super::webhook::{HttpConfig, secret};
use super::{DeliveryError, DeliveryResult, Global, Notifier, Tools, delivery_result, message, page};
use crate::http_client::{HttpClient, Protocol};
use crate::wal::BoxFuture;

/// One of a receiver's `slack_configs`. `channel`, `username`, `color`, `title`, `title_link` and `text` are templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Slack's webhook URL, a secret. Default `global.slack_api_url`.
    pub api_url: Option<SecretString>,
    /// A file that holds it.
    pub api_url_file: Option<PathBuf>,
    /// Where the message goes; the webhook's own channel where it is empty.
    pub channel: String,
    /// Who it comes from.
    pub username: String,
    /// The bar beside the message.
    pub color: String,
    /// The first line.
    pub title: String,
    /// Where it leads.
    pub title_link: String,
    /// What stands below. Default: each alert's annotations and the records behind it.
    pub text: Option<String>,
    /// Whether resolved alerts are told, too. Default false, as in Alertmanager.
    pub send_resolved: bool,
    /// How long an answer may take. Default 10 s.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub timeout: Duration,
    /// How to speak HTTP.
    pub http_config: HttpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_url: None,
            api_url_file: None,
            channel: String::new(),
            username: "Watchbell".to_owned(),
            color: "{{ if eq .Status \"firing\" }}danger{{ else }}good{{ end }}".to_owned(),
            title: message::SUBJECT.to_owned(),
            title_link: "{{ .ExternalURL }}/api/v1/alerts".to_owned(),
            text: None,
            send_resolved: false,
            timeout: Duration::from_secs(10),
            http_config: HttpConfig::default(),
        }
    }
}

/// A webhook of Slack's.
pub struct Slack {
    client: HttpClient,
    api_url: SecretString,
    authorization: Option<SecretString>,
    templates: Templates,
    timeout: Duration,
    tools: Tools,
}

struct Templates {
    channel: Template,
    username: Template,
    color: Template,
    title: Template,
    title_link: Template,
    text: Option<Template>,
}

#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "String::is_empty")]
    channel: String,
    username: String,
    attachments: [Attachment; 1],
}

#[derive(Serialize)]
struct Attachment {
    title: String,
    title_link: String,
    text: String,
    fallback: String,
    color: String,
    mrkdwn_in: [&'static str; 2],
}

impl Slack {
    /// Reads the files it names and parses its templates.
    ///
    /// # Errors
    /// There is no URL, a file cannot be read, or a template does not parse.
    pub fn new(config: &Config, global: &Global, library: &Template, tools: &Tools) -> Result<Self, String> {
        let own = secret("api_url", config.api_url.as_ref(), config.api_url_file.as_ref())?;
        let api_url = match own {
            Some(url) => url,
            None => secret("slack_api_url", global.slack_api_url.as_ref(), global.slack_api_url_file.as_ref())?
                .ok_or("`api_url` or `api_url_file` is needed, or `global.slack_api_url`")?,
        };
        let templates = Templates {
            channel: message::parse(library, "channel", &config.channel)?,
            username: message::parse(library, "username", &config.username)?,
            color: message::parse(library, "color", &config.color)?,
            title: message::parse(library, "title", &config.title)?,
            title_link: message::parse(library, "title_link", &config.title_link)?,
            text: config.text.as_deref().map(|text| message::parse(library, "text", text)).transpose()?,
        };
        let client = HttpClient::new(&config.http_config.tls_config, Protocol::Any)?;
        let authorization = config.http_config.authorization()?;
        Ok(Self { client, authorization, api_url, templates, timeout: config.timeout, tools: tools.clone() })
    }

    fn request(&self, notification: &Notification) -> Result<Request<Bytes>, DeliveryError> {
        let now = self.tools.clock.now();
        let data = message::data(notification, &self.tools, now);
        let expand = |template: &Template| message::expand(template, &data, now, Escape::None);
        let title = expand(&self.templates.title)?;
        let text = match &self.templates.text {
            Some(template) => expand(template)?,
            None => self.default_text(notification),
        };
        let message = Message {
            channel: expand(&self.templates.channel)?,
            username: expand(&self.templates.username)?,
            attachments: [Attachment {
                fallback: title.clone(),
                title,
                title_link: expand(&self.templates.title_link)?,
                text,
                color: expand(&self.templates.color)?,
                mrkdwn_in: ["fallback", "text"],
            }],
        };
        let body = serde_json::to_vec(&message).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        let mut request = Request::post(self.api_url.expose_secret()).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose_secret());
        }
        request.body(Bytes::from(body)).map_err(|error| DeliveryError::Permanent(error.to_string()))
    }

    fn default_text(&self, notification: &Notification) -> String {
        let now = self.tools.clock.now();
        let mut text = String::new();
        for alert in &notification.alerts {
            for (name, annotation) in alert.annotations.iter() {
                text.push_str(&format!("*{name}*: {}\n", escaped(annotation)));
            }
            if alert.resolved_at.is_none() && !alert.samples.is_empty() {
                let evidence = page::evidence(alert, &self.tools.links, now);
                text.push_str(&format!("```\n{}```\n", escaped(&evidence.replace("```", "'''"))));
            }
        }
        text
    }
}

impl Notifier for Slack {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let (request, client, timeout) = (self.request(&notification), self.client.clone(), self.timeout);
        Box::pin(async move {
            let answer = client.send(request?, timeout).await;
            let refused = answer.as_ref().ok().and_then(|answer| refusal(&answer.body));
            delivery_result(answer)?;
            refused.map_or(Ok(()), |reason| Err(DeliveryError::Permanent(reason)))
        })
    }
}

/// `chat.postMessage` answers 200 also where it refuses.
fn refusal(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let reason = answer.get("error").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
    (answer.get("ok")? == false).then(|| format!("Slack refused it: {reason}"))
}

/// What Slack's markup needs escaped.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
