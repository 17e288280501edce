//! `email_configs`: mail by SMTP, with STARTTLS or TLS, as text and HTML.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use watchbell_rules::alerting::config::NotSupported;
use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::template::{Escape, Template};
use watchbell_rules::time::Timestamp;

use super::webhook::secret;
use super::{DeliveryError, DeliveryResult, Global, Notifier, Origin, Tools, message, page};
use crate::http_client::TlsConfig;
use crate::wal::BoxFuture;

/// One of a receiver's `email_configs`; what is left out comes from `global`.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "EmailConfig")]
pub struct Config {
    /// Who is told: addresses, with commas between them.
    pub to: String,
    /// Who it comes from. Default `global.smtp_from`.
    pub from: Option<String>,
    /// `host:port` of the mail server. Port 465 speaks TLS from the first byte. Default `global.smtp_smarthost`.
    pub smarthost: Option<String>,
    /// The name we give in EHLO. Default `global.smtp_hello`, else this machine's.
    pub hello: Option<String>,
    /// Default `global.smtp_auth_username`.
    pub auth_username: Option<String>,
    /// Default `global.smtp_auth_password`.
    #[schemars(with = "Option<String>")]
    pub auth_password: Option<SecretString>,
    /// A file that holds it.
    pub auth_password_file: Option<PathBuf>,
    /// Whether a server without STARTTLS is refused. Default `global.smtp_require_tls`, which is true.
    pub require_tls: Option<bool>,
    /// Whether TLS is spoken from the first byte. Default `global.smtp_force_implicit_tls`, else on port 465.
    #[serde(default)]
    pub force_implicit_tls: Option<bool>,
    /// TLS, with our own certificate where it has `cert_file` and `key_file`. Default `global.smtp_tls_config`.
    pub tls_config: Option<TlsConfig>,
    /// Refused: PLAIN and LOGIN are spoken, CRAM-MD5 is not.
    pub auth_secret: NotSupported,
    /// Refused as `auth_secret` is.
    pub auth_secret_file: NotSupported,
    /// Refused: nobody is spoken for but `auth_username`.
    pub auth_identity: NotSupported,
    /// Refused: the ids of earlier mails are not kept.
    pub threading: NotSupported,
    /// Further headers; values are templates. `Subject` replaces the default one.
    pub headers: BTreeMap<String, String>,
    /// The HTML part, a template. Default: the text in a fixed-width font.
    pub html: Option<String>,
    /// The text part, a template. Default: each alert with the records behind it.
    pub text: Option<String>,
    /// Whether resolved alerts are told, too. Default false, as in Alertmanager.
    pub send_resolved: bool,
}

/// A mail server and who is told through it.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    content: Content,
    tools: Tools,
}

/// What a mail says.
pub(super) struct Content {
    subject: Template,
    headers: Vec<(HeaderName, Template)>,
    html: Option<Template>,
    text: Option<Template>,
}

/// What a mail says of one notification.
pub(super) struct Mail {
    pub(super) subject: String,
    headers: Vec<HeaderValue>,
    pub(super) html: String,
    pub(super) text: String,
}

impl Content {
    /// Parses the templates.
    ///
    /// # Errors
    /// One does not parse, or a header has no name.
    pub(super) fn new(config: &Config, library: &Template) -> Result<Self, String> {
        let mut headers = Vec::new();
        let mut subject = message::parse(library, "Subject", message::SUBJECT)?;
        for (name, text) in &config.headers {
            let template = message::parse(library, name, text)?;
            if name.eq_ignore_ascii_case("subject") {
                subject = template;
            } else {
                let name =
                    HeaderName::new_from_ascii(name.clone()).map_err(|_| format!("`{name}` is no header's name"))?;
                headers.push((name, template));
            }
        }
        let part = |name: &str, text: Option<&String>| text.map(|text| message::parse(library, name, text)).transpose();
        let (html, text) = (part("html", config.html.as_ref())?, part("text", config.text.as_ref())?);
        Ok(Self { subject, headers, html, text })
    }

    /// Runs the templates.
    pub(super) fn mail(
        &self,
        notification: &Notification,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Mail, DeliveryError> {
        let data = message::data(notification, origin, now);
        let expand = |template: &Template, escape| message::expand(template, &data, now, escape);
        let page = || page::text(notification, &page::Style::PLAIN, &origin.links, now);
        let header = |(name, template): &(HeaderName, Template)| {
            Ok(HeaderValue::new(name.clone(), one_line(&expand(template, Escape::None)?)))
        };
        Ok(Mail {
            subject: one_line(&expand(&self.subject, Escape::None)?),
            headers: self.headers.iter().map(header).collect::<Result<_, DeliveryError>>()?,
            html: self.html.as_ref().map_or_else(|| Ok(preformatted(&page())), |html| expand(html, Escape::Html))?,
            text: self.text.as_ref().map_or_else(|| Ok(page()), |text| expand(text, Escape::None))?,
        })
    }
}

impl Email {
    /// Reads the files it names and parses addresses and templates.
    ///
    /// # Errors
    /// Something needed is missing or cannot be read.
    pub fn new(config: &Config, global: &Global, library: &Template, tools: &Tools) -> Result<Self, String> {
        let from =
            config.from.as_ref().or(global.smtp_from.as_ref()).ok_or("`from` is needed, or `global.smtp_from`")?;
        Ok(Self {
            transport: transport(config, global)?,
            from: mailbox("from", from)?,
            to: config.to.split(',').map(|to| mailbox("to", to)).collect::<Result<_, _>>()?,
            content: Content::new(config, library)?,
            tools: tools.clone(),
        })
    }

    fn message(&self, notification: &Notification) -> Result<Message, DeliveryError> {
        let Mail { subject, headers, html, text } =
            self.content.mail(notification, &self.tools.origin, self.tools.clock.now())?;
        let mut builder = Message::builder().from(self.from.clone()).subject(subject);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        // The same message sent again after a restart has the same id, so that mail programs show it once.
        let id = format!("<{}@watchbell>", notification.key.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let mut mail = builder
            .message_id(Some(id))
            .multipart(MultiPart::alternative_plain_html(text, html))
            .map_err(|error| DeliveryError::Permanent(error.to_string()))?;
        headers.into_iter().for_each(|header| mail.headers_mut().insert_raw(header));
        Ok(mail)
    }
}

impl Notifier for Email {
    fn send(&self, notification: Arc<Notification>) -> BoxFuture<DeliveryResult> {
        let (mail, transport) = (self.message(&notification), self.transport.clone());
        Box::pin(async move {
            let sent = transport.send(mail?).await;
            sent.map(|_| ()).map_err(|error| match error.is_permanent() {
                true => DeliveryError::Permanent(error.to_string()),
                false => DeliveryError::Retryable { reason: chain(&error), after: None },
            })
        })
    }
}

fn transport(config: &Config, global: &Global) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let smarthost = config.smarthost.as_ref().or(global.smtp_smarthost.as_ref());
    let smarthost = smarthost.ok_or("`smarthost` is needed, or `global.smtp_smarthost`")?;
    let (host, port) =
        smarthost.rsplit_once(':').ok_or_else(|| format!("`smarthost` `{smarthost}` is not `host:port`"))?;
    let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    let tls = tls_parameters(host, config.tls_config.as_ref().unwrap_or(&global.smtp_tls_config))?;
    let is_implicit = config.force_implicit_tls.or(global.smtp_force_implicit_tls).unwrap_or(port == 465);
    let tls = match (is_implicit, config.require_tls.unwrap_or(global.smtp_require_tls)) {
        (true, _) => Tls::Wrapper(tls),
        (_, true) => Tls::Required(tls),
        (_, false) => Tls::Opportunistic(tls),
    };
    let mut builder =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls).timeout(Some(TIMEOUT));
    if let Some(name) = config.hello.as_ref().or(global.smtp_hello.as_ref()) {
        builder = builder.hello_name(lettre::transport::smtp::extension::ClientId::Domain(name.clone()));
    }
    if let Some(username) = config.auth_username.as_ref().or(global.smtp_auth_username.as_ref()) {
        let password =
            password(config, global)?.ok_or("`auth_username` needs `auth_password` or `auth_password_file`")?;
        builder = builder.credentials(Credentials::new(username.clone(), password.expose_secret().to_owned()));
    }
    Ok(builder.build())
}

fn password(config: &Config, global: &Global) -> Result<Option<SecretString>, String> {
    match secret("auth_password", config.auth_password.as_ref(), config.auth_password_file.as_ref())? {
        Some(password) => Ok(Some(password)),
        None => {
            secret("smtp_auth_password", global.smtp_auth_password.as_ref(), global.smtp_auth_password_file.as_ref())
        }
    }
}

fn tls_parameters(host: &str, config: &TlsConfig) -> Result<TlsParameters, String> {
    let host = config.server_name_override.as_deref().unwrap_or(host);
    let mut builder =
        TlsParameters::builder(host.to_owned()).dangerous_accept_invalid_certs(config.insecure_skip_verify);
    let unusable = |path: &Path, error: &dyn Display| format!("cannot use `{}`: {error}", path.display());
    let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &error));
    if let Some(path) = &config.ca_file {
        let certificate = Certificate::from_pem(&read(path)?).map_err(|error| unusable(path, &error))?;
        // Instead of the system's authorities, as for all that speaks HTTP.
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => {
            let identity = Identity::from_pem(&read(cert)?, &read(key)?).map_err(|error| unusable(cert, &error))?;
            builder = builder.identify_with(identity);
        }
        (None, None) => {}
        _ => return Err("`tls_config`: `cert_file` and `key_file` go together".to_owned()),
    }
    builder.build().map_err(|error| format!("tls_config: {error}"))
}

fn mailbox(name: &str, text: &str) -> Result<Mailbox, String> {
    text.trim().parse().map_err(|error| format!("`{name}`: `{}` is no mail address: {error}", text.trim()))
}

/// Text for a header: a line break would begin another one.
fn one_line(text: &str) -> String {
    text.split(['\r', '\n']).collect::<Vec<_>>().join(" ")
}

fn preformatted(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<html><body><pre style=\"font-family: monospace\">{}</pre></body></html>", linked(&escaped))
}

/// Makes the words that are URLs lead there.
fn linked(escaped: &str) -> String {
    let link = |word: &str| match word.starts_with("https://") || word.starts_with("http://") {
        true => format!("<a href=\"{}\">{word}</a>", word.replace('"', "&quot;")),
        false => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(link).collect::<Vec<_>>().join(" ");
    escaped.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// How long the mail server may take for each step.
const TIMEOUT: Duration = Duration::from_secs(30);
