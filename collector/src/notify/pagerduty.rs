//! `pagerduty_configs`: PagerDuty's Events API, version 2. A group of alerts is one incident, by its dedup key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use watchbell_rules::alerting::config::NotSupported;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::template::value::Value;
use watchbell_rules::template::{Escape, Template};
use watchbell_rules::time::Timestamp;

use super::webhook::{HttpConfig, check_target, secret};
use super::{DeliveryError, DeliveryResult, Global, Notifier, Origin, Tools, delivery_result, message, page};
use crate::http_client::{HttpClient, Protocol};
use crate::wal::BoxFuture;

/// One of a receiver's `pagerduty_configs`. `description`, `severity`, `class`, `component`, `group`, `source`, `client`, `client_url` and the
/// values of `details` are templates.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PagerdutyConfig")]
pub struct Config {
    /// The integration key, a secret.
    #[schemars(with = "Option<String>")]
    pub routing_key: Option<SecretString>,
    /// A file that holds it.
    pub routing_key_file: Option<PathBuf>,
    /// Where to post. Default `global.pagerduty_url`.
    pub url: Option<String>,
    /// The incident's title; PagerDuty takes 1,024 characters, the rest is cut.
    pub description: String,
    /// `critical`, `error`, `warning` or `info`.
    pub severity: String,
    /// What kind of event it is.
    pub class: String,
    /// What is broken.
    pub component: String,
    /// What that belongs to.
    pub group: String,
    /// Who saw it.
    pub source: String,
    /// What the incident says it comes from.
    pub client: String,
    /// Where that leads.
    pub client_url: String,
    /// Further details, beside the alerts and the records behind them.
    pub details: BTreeMap<String, String>,
    /// Pictures; one whose `src` comes out empty is left out.
    pub images: Vec<Image>,
    /// Links, before those of the records; one whose `href` comes out empty is left out.
    pub links: Vec<Link>,
    /// Refused: the Events API, version 1, is not spoken; `routing_key` is version 2's.
    pub service_key: NotSupported,
    /// Refused as `service_key` is.
    pub service_key_file: NotSupported,
    /// Whether resolved alerts are told, too. Default true.
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
            routing_key: None,
            routing_key_file: None,
            url: None,
            description: message::SUBJECT.to_owned(),
            severity: "error".to_owned(),
            class: String::new(),
            component: String::new(),
            group: String::new(),
            source: "{{ .ExternalURL }}".to_owned(),
            client: "Watchbell".to_owned(),
            client_url: "{{ .ExternalURL }}".to_owned(),
            details: BTreeMap::new(),
            images: Vec::new(),
            links: Vec::new(),
            service_key: NotSupported,
            service_key_file: NotSupported,
            send_resolved: true,
            timeout: Duration::from_secs(10),
            http_config: HttpConfig::default(),
        }
    }
}

/// One of `images`; all are templates.
#[derive(Clone, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// The picture's URL.
    pub src: String,
    /// Where it leads.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub href: String,
    /// What it shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alt: String,
}

/// One of `links`; both are templates.
#[derive(Clone, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Where it leads.
    pub href: String,
    /// What it says.
    pub text: String,
}

/// A service of PagerDuty's.
pub struct PagerDuty {
    client: HttpClient,
    authorization: Option<SecretString>,
    url: String,
    routing_key: SecretString,
    content: Content,
    timeout: Duration,
    tools: Tools,
}

/// What an event says.
pub(super) struct Content {
    templates: BTreeMap<&'static str, Template>,
    details: Vec<(String, Template)>,
    /// `src`, `href` and `alt` of each.
    images: Vec<[Template; 3]>,
    /// `href` and `text` of each.
    links: Vec<[Template; 2]>,
}

#[derive(Serialize)]
pub(super) struct Event<'a> {
    routing_key: &'a str,
    event_action: &'static str,
    dedup_key: String,
    client: String,
    client_url: String,
    pub(super) payload: Payload,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
    links: Vec<Link>,
}

#[derive(Serialize)]
pub(super) struct Payload {
    pub(super) summary: String,
    source: String,
    severity: String,
    timestamp: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    component: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    pub(super) custom_details: BTreeMap<String, String>,
}

impl PagerDuty {
    /// Reads the files it names and parses its templates.
    ///
    /// # Errors
    /// There is no key, a file cannot be read, or a template does not parse.
    pub fn new(config: &Config, global: &Global, library: &Template, tools: &Tools) -> Result<Self, String> {
        let routing_key = secret("routing_key", config.routing_key.as_ref(), config.routing_key_file.as_ref())?
            .ok_or("`routing_key` or `routing_key_file` is needed")?;
        let url = config.url.clone().unwrap_or_else(|| global.pagerduty_url.clone());
        let authorization = config.http_config.authorization()?;
        check_target("url", &url, authorization.as_ref())?;
        Ok(Self {
            client: HttpClient::new(&config.http_config.tls_config, Protocol::Any)?,
            authorization,
            url,
            routing_key,
            content: Content::new(config, library)?,
            timeout: config.timeout,
            tools: tools.clone(),
        })
    }

    fn request(&self, notification: &Notification) -> Result<Request<Bytes>, DeliveryError> {
        let (origin, now) = (&self.tools.origin, self.tools.clock.now());
        let event = self.content.event(self.routing_key.expose_secret(), notification, origin, now)?;
        let body = serde_json::to_vec(&event).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        let mut request = Request::post(&self.url).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose_secret());
        }
        request.body(Bytes::from(body)).map_err(|error| DeliveryError::Permanent(error.to_string()))
    }
}

impl Content {
    /// Parses the templates.
    ///
    /// # Errors
    /// One does not parse.
    pub(super) fn new(config: &Config, library: &Template) -> Result<Self, String> {
        let mut templates = BTreeMap::new();
        for (name, text) in [
            ("description", &config.description),
            ("severity", &config.severity),
            ("class", &config.class),
            ("component", &config.component),
            ("group", &config.group),
            ("source", &config.source),
            ("client", &config.client),
            ("client_url", &config.client_url),
        ] {
            templates.insert(name, message::parse(library, name, text)?);
        }
        let details = config.details.iter();
        let details = details.map(|(name, text)| Ok((name.clone(), message::parse(library, name, text)?)));
        let parse = |name, text: &str| message::parse(library, name, text);
        let image =
            |image: &Image| Ok([parse("src", &image.src)?, parse("href", &image.href)?, parse("alt", &image.alt)?]);
        let link = |link: &Link| Ok([parse("href", &link.href)?, parse("text", &link.text)?]);
        Ok(Self {
            images: config.images.iter().map(image).collect::<Result<_, String>>()?,
            links: config.links.iter().map(link).collect::<Result<_, String>>()?,
            templates,
            details: details.collect::<Result<_, String>>()?,
        })
    }

    /// Runs the templates.
    pub(super) fn event<'a>(
        &self,
        routing_key: &'a str,
        notification: &Notification,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Event<'a>, DeliveryError> {
        let data = message::data(notification, origin, now);
        let text = |name: &str| match self.templates.get(name) {
            Some(template) => message::expand(template, &data, now, Escape::None),
            None => Ok(String::new()),
        };
        let mut event = Event {
            routing_key,
            event_action: if notification.is_firing() { "trigger" } else { "resolve" },
            dedup_key: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(notification.group_key.as_bytes())),
            client: text("client")?,
            client_url: text("client_url")?,
            payload: Payload {
                summary: truncated(&text("description")?, SUMMARY_CHARS_MAX),
                source: text("source")?,
                severity: text("severity")?,
                timestamp: notification.due.to_string(),
                class: text("class")?,
                component: text("component")?,
                group: text("group")?,
                custom_details: self.custom_details(notification, &data, now)?,
            },
            images: self.images(&data, now)?,
            links: self.links(notification, origin, &data, now)?,
        };
        let room = EVENT_BYTES_MAX.saturating_sub(json_bytes(&event));
        let fits = |text: &str| json_bytes(&text) <= room;
        let alerts = page::text_that_fits(notification, &origin.links, now, fits);
        event.payload.custom_details.entry("alerts".to_owned()).or_insert(alerts);
        Ok(event)
    }

    fn custom_details(
        &self,
        notification: &Notification,
        data: &Value,
        now: Timestamp,
    ) -> Result<BTreeMap<String, String>, DeliveryError> {
        let firing = notification.alerts.iter().filter(|alert| alert.resolved_at.is_none()).count();
        let mut details = BTreeMap::from([
            ("num_firing".to_owned(), firing.to_string()),
            ("num_resolved".to_owned(), (notification.alerts.len() - firing).to_string()),
        ]);
        for (name, template) in &self.details {
            details.insert(
                name.clone(),
                truncated(&message::expand(template, data, now, Escape::None)?, DETAIL_CHARS_MAX),
            );
        }
        Ok(details)
    }

    fn images(&self, data: &Value, now: Timestamp) -> Result<Vec<Image>, DeliveryError> {
        let expand = |template: &Template| message::expand(template, data, now, Escape::None);
        let image =
            |[src, href, alt]: &[Template; 3]| Ok(Image { src: expand(src)?, href: expand(href)?, alt: expand(alt)? });
        let mut images = self.images.iter().map(image).collect::<Result<Vec<_>, DeliveryError>>()?;
        images.retain(|image| !image.src.is_empty());
        Ok(images)
    }

    /// Those of the config, then those of the records behind the alerts, each once.
    fn links(
        &self,
        notification: &Notification,
        origin: &Origin,
        data: &Value,
        now: Timestamp,
    ) -> Result<Vec<Link>, DeliveryError> {
        let expand = |template: &Template| message::expand(template, data, now, Escape::None);
        let link = |[href, text]: &[Template; 2]| Ok(Link { href: expand(href)?, text: expand(text)? });
        let mut all = self.links.iter().map(link).collect::<Result<Vec<_>, DeliveryError>>()?;
        all.retain(|link| !link.href.is_empty());
        let records = notification.alerts.iter().flat_map(|alert| &alert.samples);
        let links = records.flat_map(|record| origin.links.expand(record, now));
        let by_href: BTreeMap<String, String> = links.map(|(text, href)| (href, text)).collect();
        all.extend(by_href.into_iter().take(LINKS_MAX).map(|(href, text)| Link { href, text }));
        Ok(all)
    }
}

impl Notifier for PagerDuty {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let (request, client, timeout) = (self.request(&notification), self.client.clone(), self.timeout);
        Box::pin(async move { delivery_result(client.send(request?, timeout).await) })
    }
}

fn truncated(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max - 1).chain(['…']).collect(),
    }
}

/// Its size as JSON.
fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

/// What PagerDuty takes of an event is 512 KB; a little is left for the key `alerts`.
const EVENT_BYTES_MAX: usize = 511_000;
/// What one of the config's `details` may be; the rest is for the alerts.
const DETAIL_CHARS_MAX: usize = 16 << 10;

/// What PagerDuty takes of a summary.
const SUMMARY_CHARS_MAX: usize = 1024;
/// Links of one event; more are left out, they stand in the details.
const LINKS_MAX: usize = 10;
