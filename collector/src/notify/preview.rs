//! What the contact points of a config would send, for tests of rules: nothing is sent, and no secret is needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use watchbell_rules::alerting::config::integration_name;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::rule_test::Rendered;
use watchbell_rules::template::Template;

use super::page::{self, Style};
use super::webhook::Payload;
use super::{AlertingConfig, ContactPointConfig, DeliveryError, Origin, email, message, pagerduty, slack};

/// The integrations of all contact points, by the names of both; what is not among them prints on stdout.
pub struct Previews(BTreeMap<(Arc<str>, Arc<str>), Preview>);

enum Preview {
    Email(email::Content),
    Slack(slack::Content),
    PagerDuty(pagerduty::Content),
    Webhook { max_alerts: usize },
}

impl Previews {
    /// Parses the templates of `alerting:`.
    ///
    /// # Errors
    /// A template does not parse, or a file of templates cannot be read.
    pub fn new(config: Option<&AlertingConfig>) -> Result<Self, String> {
        let mut previews = BTreeMap::new();
        let Some(config) = config else { return Ok(Self(previews)) };
        let library = message::library(&config.templates)?;
        for receiver in &config.receivers {
            for (kind, at, preview) in of_receiver(receiver, &library) {
                let of = || format!("receiver `{}`: {kind}_configs[{at}]", receiver.name);
                let preview = preview.map_err(|error| format!("{}: {error}", of()))?;
                previews.insert((receiver.name.as_str().into(), integration_name(kind, at)), preview);
            }
        }
        Ok(Self(previews))
    }

    /// What is sent for a notification, as if it left when it was due.
    ///
    /// # Errors
    /// A template fails on it.
    pub fn render(&self, notification: &Notification, origin: &Origin) -> Result<Rendered, String> {
        let name = (Arc::clone(&notification.contact_point), Arc::clone(&notification.integration));
        let rendered = match self.0.get(&name) {
            None => Ok(printed(notification, origin)),
            Some(preview) => preview.render(notification, origin),
        };
        rendered.map_err(|error| error.to_string())
    }
}

/// A receiver's integrations: of which kind, the how manieth of that, and what it sends.
fn of_receiver(
    receiver: &ContactPointConfig,
    library: &Template,
) -> Vec<(&'static str, usize, Result<Preview, String>)> {
    let mut all = Vec::new();
    let emails = receiver.email_configs.iter().map(|config| email::Content::new(config, library).map(Preview::Email));
    let slacks = receiver.slack_configs.iter().map(|config| slack::Content::new(config, library).map(Preview::Slack));
    let pagers = receiver.pagerduty_configs.iter();
    let pagers = pagers.map(|config| pagerduty::Content::new(config, library).map(Preview::PagerDuty));
    let hooks = receiver.webhook_configs.iter().map(|config| Ok(Preview::Webhook { max_alerts: config.max_alerts }));
    all.extend(emails.enumerate().map(|(at, preview)| ("email", at, preview)));
    all.extend(slacks.enumerate().map(|(at, preview)| ("slack", at, preview)));
    all.extend(pagers.enumerate().map(|(at, preview)| ("pagerduty", at, preview)));
    all.extend(hooks.enumerate().map(|(at, preview)| ("webhook", at, preview)));
    all
}

impl Preview {
    fn render(&self, notification: &Notification, origin: &Origin) -> Result<Rendered, DeliveryError> {
        let now = notification.due;
        Ok(match self {
            Self::Email(content) => {
                let mail = content.mail(notification, origin, now)?;
                Rendered { subject: Some(mail.subject), text: Some(mail.text), body: Some(mail.html) }
            }
            Self::Slack(content) => {
                let message = content.message(notification, origin, now)?;
                let of_attachment = |name| message["attachments"][0][name].as_str().map(str::to_owned);
                Rendered { subject: of_attachment("title"), text: of_attachment("text"), body: Some(json(&message)) }
            }
            Self::PagerDuty(content) => {
                let event = content.event("<secret>", notification, origin, now)?;
                let (summary, alerts) = (&event.payload.summary, event.payload.custom_details.get("alerts"));
                Rendered { subject: Some(summary.clone()), text: alerts.cloned(), body: Some(json(&event)) }
            }
            Self::Webhook { max_alerts } => {
                let payload = Payload::new(notification, *max_alerts, origin, now);
                Rendered { body: Some(json(&payload)), ..Rendered::default() }
            }
        })
    }
}

fn printed(notification: &Notification, origin: &Origin) -> Rendered {
    let text = page::text(notification, &Style::PLAIN, &origin.links, notification.due);
    Rendered { text: Some(text), ..Rendered::default() }
}

/// With a line a value, so that differences are seen.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("what is sent has string keys alone")
}
