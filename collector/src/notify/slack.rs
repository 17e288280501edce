//! `slack_configs`: a message to Slack's incoming webhook, or to what takes the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use watchbell_rules::alerting::config::NotSupported;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::template::{Escape, Template};
use watchbell_rules::time::Timestamp;

use super::webhook::{HttpConfig, check_target, secret};
use super::{DeliveryError, DeliveryResult, Global, Notifier, Origin, Tools, delivery_result, message, page};
use crate::http_client::{HttpClient, Protocol};
use crate::wal::BoxFuture;

/// One of a receiver's `slack_configs`. All texts of the message are templates.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "SlackConfig")]
pub struct Config {
    /// Slack's webhook URL, a secret. Default `global.slack_api_url`.
    #[schemars(with = "Option<String>")]
    pub api_url: Option<SecretString>,
    /// A file that holds it.
    pub api_url_file: Option<PathBuf>,
    /// A bot's token, a secret, in place of a webhook's URL. Default `global.slack_app_token`.
    #[schemars(with = "Option<String>")]
    pub app_token: Option<SecretString>,
    /// A file that holds it.
    pub app_token_file: Option<PathBuf>,
    /// Where messages with a token go. Default `global.slack_app_url`, which is `https://slack.com/api/chat.postMessage`.
    pub app_url: Option<String>,
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
    /// What stands above the attachment.
    pub pretext: String,
    /// What stands below the title. Default: each alert's annotations and the records behind it.
    pub text: Option<String>,
    /// The message's own text, outside of the attachment.
    pub message_text: String,
    /// Columns below the text.
    pub fields: Vec<Field>,
    /// Whether fields that do not say it are shown beside one another.
    pub short_fields: bool,
    /// The last line.
    pub footer: String,
    /// What clients show that cannot show attachments. Default: the title.
    pub fallback: Option<String>,
    /// What Slack calls an interactive message by.
    pub callback_id: String,
    /// An emoji for the sender: `:bell:`.
    pub icon_emoji: String,
    /// A picture for the sender.
    pub icon_url: String,
    /// A picture in the attachment.
    pub image_url: String,
    /// A small picture beside it.
    pub thumb_url: String,
    /// Whether `@names` and `#channels` become links.
    pub link_names: bool,
    /// Where Slack's markup is honoured. Default: fallback, pretext and text.
    pub mrkdwn_in: Vec<String>,
    /// Buttons below.
    pub actions: Vec<Action>,
    /// Refused: the ids of earlier messages are not kept.
    pub update_message: NotSupported,
    /// Whether resolved alerts are told, too. Default false, as in Alertmanager.
    pub send_resolved: bool,
    /// How long an answer may take. Default 10 s.
    #[serde(deserialize_with = "crate::config::duration::deserialize")]
    pub timeout: Duration,
    /// How to speak HTTP.
    pub http_config: HttpConfig,
}

/// One of `fields`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// What it is called.
    pub title: String,
    /// What it says.
    pub value: String,
    /// Whether it may stand beside another. Default `short_fields`.
    #[serde(default)]
    pub short: Option<bool>,
}

/// One of `actions`: a link where it has a `url`, else a button that Slack tells an app of.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Action {
    /// `button`
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    pub text: String,
    /// Where it leads.
    pub url: String,
    /// `primary` or `danger`.
    pub style: String,
    /// What the app knows it by.
    pub name: String,
    /// What the app is told.
    pub value: String,
    /// What is asked before.
    pub confirm: Option<Confirmation>,
}

/// `confirm` of an action.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The question.
    pub text: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// What yes is called.
    #[serde(default)]
    pub ok_text: String,
    /// What no is called.
    #[serde(default)]
    pub dismiss_text: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_url: None,
            api_url_file: None,
            app_token: None,
            app_token_file: None,
            app_url: None,
            channel: String::new(),
            username: "Watchbell".to_owned(),
            color: "{{ if eq .Status \"firing\" }}danger{{ else }}good{{ end }}".to_owned(),
            title: message::SUBJECT.to_owned(),
            title_link: "{{ .ExternalURL }}/api/v1/alerts".to_owned(),
            pretext: String::new(),
            text: None,
            message_text: String::new(),
            fields: Vec::new(),
            short_fields: false,
            footer: String::new(),
            fallback: None,
            callback_id: String::new(),
            icon_emoji: String::new(),
            icon_url: String::new(),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            mrkdwn_in: ["fallback", "pretext", "text"].map(str::to_owned).to_vec(),
            actions: Vec::new(),
            update_message: NotSupported,
            send_resolved: false,
            timeout: Duration::from_secs(10),
            http_config: HttpConfig::default(),
        }
    }
}

/// A webhook of Slack's, or a bot.
pub struct Slack {
    client: HttpClient,
    url: SecretString,
    authorization: Option<SecretString>,
    content: Content,
    timeout: Duration,
    tools: Tools,
}

/// What a message says.
pub(super) struct Content {
    /// The message, whose texts are templates; `text` of the attachment is absent where it is the default.
    message: Json,
    templates: BTreeMap<String, Template>,
}

impl Content {
    /// Parses the templates.
    ///
    /// # Errors
    /// One does not parse, or an action lacks something.
    pub(super) fn new(config: &Config, library: &Template) -> Result<Self, String> {
        let message = config.message()?;
        let mut templates = BTreeMap::new();
        add_templates(library, "", &message, &mut templates)?;
        Ok(Self { message, templates })
    }

    /// The message as Slack takes it.
    pub(super) fn message(
        &self,
        notification: &Notification,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Json, DeliveryError> {
        let data = message::data(notification, origin, now);
        let expand = |text: &str| match self.templates.get(text) {
            Some(template) => message::expand(template, &data, now, Escape::None),
            None => Ok(text.to_owned()),
        };
        let mut message = expanded(&self.message, &expand)?;
        let attachment = &mut message["attachments"][0];
        if attachment.get("fallback").is_none() {
            attachment["fallback"] = attachment["title"].clone();
        }
        if attachment.get("text").is_none() {
            attachment["text"] = default_text(notification, origin, now).into();
        }
        Ok(message)
    }
}

impl Slack {
    /// Reads the files it names and parses its templates.
    ///
    /// # Errors
    /// There is no URL, a file cannot be read, or a template does not parse.
    pub fn new(config: &Config, global: &Global, library: &Template, tools: &Tools) -> Result<Self, String> {
        let (url, token) = target(config, global)?;
        let own = config.http_config.authorization()?;
        if token.is_some() && own.is_some() {
            return Err("`app_token` and the authorization of `http_config` are both set; one is enough".to_owned());
        }
        let authorization = token.or(own);
        check_target("the URL", url.expose_secret(), authorization.as_ref())?;
        Ok(Self {
            client: HttpClient::new(&config.http_config.tls_config, Protocol::Any)?,
            url,
            authorization,
            content: Content::new(config, library)?,
            timeout: config.timeout,
            tools: tools.clone(),
        })
    }

    fn request(&self, notification: &Notification) -> Result<Request<Bytes>, DeliveryError> {
        let message = self.content.message(notification, &self.tools.origin, self.tools.clock.now())?;
        let body = serde_json::to_vec(&message).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        let mut request = Request::post(self.url.expose_secret()).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose_secret());
        }
        request.body(Bytes::from(body)).map_err(|error| DeliveryError::Permanent(error.to_string()))
    }
}

/// Each alert's annotations and the records behind it.
fn default_text(notification: &Notification, origin: &Origin, now: Timestamp) -> String {
    let mut text = String::new();
    for alert in &notification.alerts {
        for (name, annotation) in alert.annotations.iter() {
            text.push_str(&format!("*{name}*: {}\n", escaped(annotation)));
        }
        if alert.resolved_at.is_none() && !alert.samples.is_empty() {
            let evidence = page::evidence(alert, &origin.links, now);
            text.push_str(&format!("```\n{}```\n", escaped(&evidence.replace("```", "'''"))));
        }
    }
    text
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

/// Where messages go, and the `Authorization` header of a bot.
fn target(config: &Config, global: &Global) -> Result<(SecretString, Option<SecretString>), String> {
    let url = secret("api_url", config.api_url.as_ref(), config.api_url_file.as_ref())?;
    let token = secret("app_token", config.app_token.as_ref(), config.app_token_file.as_ref())?;
    let with_token = |token: SecretString| {
        let url = config.app_url.clone().unwrap_or_else(|| global.slack_app_url.clone());
        (url.into(), Some(format!("Bearer {}", token.expose_secret()).into()))
    };
    match (url, token) {
        (Some(_), Some(_)) => Err("`api_url` and `app_token` are both set; one is enough".to_owned()),
        (Some(url), None) => Ok((url, None)),
        (None, Some(token)) => Ok(with_token(token)),
        (None, None) => {
            let url = secret("slack_api_url", global.slack_api_url.as_ref(), global.slack_api_url_file.as_ref())?;
            let token =
                secret("slack_app_token", global.slack_app_token.as_ref(), global.slack_app_token_file.as_ref())?;
            let missing = "`api_url` or `api_url_file` is needed, or `global.slack_api_url`, or a bot's `app_token`";
            token.map(with_token).or(url.map(|url| (url, None))).ok_or_else(|| missing.to_owned())
        }
    }
}

impl Config {
    /// The message as Slack takes it, with templates for texts; what is empty is left out.
    fn message(&self) -> Result<Json, String> {
        let fields = self.fields.iter().map(|field| {
            let short = field.short.unwrap_or(self.short_fields);
            json!({"title": field.title, "value": field.value, "short": short})
        });
        let mut attachment = json!({
            "title": self.title, "title_link": self.title_link, "pretext": self.pretext, "color": self.color,
            "fallback": self.fallback.as_deref().unwrap_or_default(), "callback_id": self.callback_id,
            "footer": self.footer, "image_url": self.image_url, "thumb_url": self.thumb_url,
            "mrkdwn_in": self.mrkdwn_in, "fields": fields.collect::<Json>(),
            "actions": self.actions.iter().map(Action::message).collect::<Result<Json, String>>()?,
        });
        without_empty(&mut attachment);
        if let Some(text) = &self.text {
            attachment["text"] = text.as_str().into();
        }
        let mut message = json!({
            "channel": self.channel, "username": self.username, "icon_emoji": self.icon_emoji, "icon_url": self.icon_url,
            "text": self.message_text, "attachments": [attachment],
        });
        without_empty(&mut message);
        if self.link_names {
            message["link_names"] = true.into();
        }
        Ok(message)
    }
}

impl Action {
    fn message(&self) -> Result<Json, String> {
        if self.kind.is_empty() || self.text.is_empty() || (self.url.is_empty() && self.name.is_empty()) {
            return Err("`actions`: each needs a `type`, a `text`, and a `url` or a `name`".to_owned());
        }
        let mut action = json!({"type": self.kind, "text": self.text, "url": self.url, "style": self.style});
        if self.url.is_empty() {
            action["name"] = self.name.as_str().into();
            action["value"] = self.value.as_str().into();
            if let Some(Confirmation { text, title, ok_text, dismiss_text }) = &self.confirm {
                action["confirm"] =
                    json!({"text": text, "title": title, "ok_text": ok_text, "dismiss_text": dismiss_text});
                without_empty(&mut action["confirm"]);
            }
        }
        without_empty(&mut action);
        Ok(action)
    }
}

fn without_empty(message: &mut Json) {
    if let Some(entries) = message.as_object_mut() {
        entries.retain(|_, value| *value != json!("") && *value != json!([]));
    }
}

/// Parses the texts of the message that are templates.
fn add_templates(
    library: &Template,
    name: &str,
    message: &Json,
    templates: &mut BTreeMap<String, Template>,
) -> Result<(), String> {
    match message {
        Json::String(text) if text.contains("{{") => {
            templates.insert(text.clone(), message::parse(library, name, text)?);
            Ok(())
        }
        Json::Array(values) => values.iter().try_for_each(|value| add_templates(library, name, value, templates)),
        Json::Object(entries) => {
            entries.iter().try_for_each(|(name, value)| add_templates(library, name, value, templates))
        }
        _ => Ok(()),
    }
}

/// The message with its texts run through `expand`.
fn expanded(message: &Json, expand: &impl Fn(&str) -> Result<String, DeliveryError>) -> Result<Json, DeliveryError> {
    Ok(match message {
        Json::String(text) => expand(text)?.into(),
        Json::Array(values) => values.iter().map(|value| expanded(value, expand)).collect::<Result<Json, _>>()?,
        Json::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| Ok((name.clone(), expanded(value, expand)?)));
            Json::Object(entries.collect::<Result<_, DeliveryError>>()?)
        }
        other => other.clone(),
    })
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
