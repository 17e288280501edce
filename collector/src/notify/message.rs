//! What notification templates are run over: Alertmanager's data, and our `.Samples` on each alert.

use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::labels::Labels;
use watchbell_rules::template::value::{ListKind, MapKind, Value};
use watchbell_rules::template::{self, Escape, Template};
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::Alert;

use super::{DeliveryError, Origin};

/// The subject of a message, as Alertmanager's own templates have it.
pub(super) const SUBJECT: &str = "[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}] \
    {{ .GroupLabels.SortedPairs.Values | join \" \" }}\
    {{ if gt (len .CommonLabels) (len .GroupLabels) }} ({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \" \" }}{{ end }}){{ end }}";

/// The templates that settings can call by name: those of the files, and our own where no file has one of that name.
///
/// # Errors
/// A file cannot be read or does not parse.
pub(super) fn library(globs: &[String]) -> Result<Template, String> {
    let mut library = parse_file("", "")?;
    for pattern in globs {
        let paths = glob::glob(pattern).map_err(|error| format!("`templates`: `{pattern}`: {error}"))?;
        for path in paths.flatten() {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
            library.include(&parse_file(&name, &text)?);
        }
    }
    library.include(&parse_file("the built-in templates", include_str!("default.tmpl"))?);
    Ok(library)
}

fn parse_file(name: &str, text: &str) -> Result<Template, String> {
    Template::parse_notification(text).map_err(|error| {
        let line = 1 + text[..error.span.start as usize].matches('\n').count();
        format!("`{name}`, line {line}: {error}")
    })
}

/// A setting that is a template, and may call those of the library.
///
/// # Errors
/// It does not parse.
pub(super) fn parse(library: &Template, name: &str, text: &str) -> Result<Template, String> {
    let template = Template::parse_notification(text);
    let mut template = template.map_err(|error| format!("`{name}` is no template: {error}"))?;
    template.include(library);
    Ok(template)
}

/// Runs a template over a message.
///
/// # Errors
/// It fails on this message; it would fail again.
pub(super) fn expand(
    template: &Template,
    data: &Value,
    now: Timestamp,
    escape: Escape,
) -> Result<String, DeliveryError> {
    template.expand(data, now, escape).map_err(|error| DeliveryError::Permanent(format!("template: {error}")))
}

/// The data of a message.
pub(super) fn data(notification: &Notification, origin: &Origin, now: Timestamp) -> Value {
    let alerts = notification.alerts.iter().map(|alert| alert_data(alert, origin, now)).collect();
    Value::structure(
        "template.Data",
        vec![
            ("Receiver", Value::string(&*notification.contact_point)),
            ("Status", Value::string(status(notification.is_firing()))),
            ("Alerts", Value::flat_list(ListKind::Alerts, alerts)),
            ("GroupLabels", Value::labels(MapKind::Kv, &notification.group_labels)),
            ("CommonLabels", Value::labels(MapKind::Kv, &notification.common_labels)),
            ("CommonAnnotations", Value::labels(MapKind::Kv, &notification.common_annotations)),
            ("ExternalURL", Value::string(&*origin.external_url)),
        ],
    )
}

fn alert_data(alert: &Alert, origin: &Origin, now: Timestamp) -> Value {
    Value::structure(
        "template.Alert",
        vec![
            ("Status", Value::string(status(alert.resolved_at.is_none()))),
            ("Labels", Value::labels(MapKind::Kv, &alert.labels)),
            ("Annotations", Value::labels(MapKind::Kv, &alert.annotations)),
            ("StartsAt", Value::time(Some(starts_at(alert)))),
            ("EndsAt", Value::time(alert.resolved_at)),
            ("GeneratorURL", Value::string(generator_url(alert, origin))),
            ("Fingerprint", Value::string(fingerprint(&alert.labels))),
            ("Value", Value::Float(alert.value)),
            ("Bound", Value::string(bound(alert))),
            ("Expr", Value::string(&*alert.expr)),
            ("Samples", template::samples(&alert.samples, &origin.links, now)),
        ],
    )
}

/// `> 20`; empty where the rule compares with no number.
fn bound(alert: &Alert) -> String {
    alert.bound.as_ref().map(|(operator, bound)| format!("{operator} {bound}")).unwrap_or_default()
}

/// `firing` or `resolved`.
pub(super) fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

/// When an alert began to fire, after its `for`: what Prometheus and Alertmanager call its start.
pub(super) fn starts_at(alert: &Alert) -> Timestamp {
    alert.fired_at.unwrap_or(alert.active_at)
}

/// Alertmanager's name for a set of labels: FNV-1a over `name 0xFF value 0xFF`.
pub(super) fn fingerprint(labels: &Labels) -> String {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    let bytes = labels.iter().flat_map(|(name, value)| name.bytes().chain([0xFF]).chain(value.bytes()).chain([0xFF]));
    format!("{:016x}", bytes.fold(FNV_OFFSET_BASIS, hash))
}

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Where to look at an alert's rule.
pub(super) fn generator_url(alert: &Alert, origin: &Origin) -> String {
    let group = url::form_urlencoded::byte_serialize(alert.group.as_bytes()).collect::<String>();
    format!("{}/api/v1/rules?rule_group[]={group}", origin.external_url)
}
