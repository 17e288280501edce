//! What notification templates are run over: Alertmanager's data, and our `.Samples` on each alert.

use watchbell_rules::alerting::notification::Notification;
use watchbell_rules::template::value::{ListKind, MapKind, Value};
use watchbell_rules::template::{self, Escape, Template};
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::Alert;

use super::{DeliveryError, Tools};

/// The subject of a message, as Alertmanager's own templates have it.
pub(super) const SUBJECT: &str = "[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}] \
    {{ .GroupLabels.SortedPairs.Values | join \" \" }}\
    {{ if gt (len .CommonLabels) (len .GroupLabels) }} ({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \" \" }}{{ end }}){{ end }}";

/// A setting that is a template.
///
/// # Errors
/// It does not parse.
pub(super) fn parse(name: &str, text: &str) -> Result<Template, String> {
    Template::parse_notification(text).map_err(|error| format!("`{name}` is no template: {error}"))
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
pub(super) fn data(notification: &Notification, tools: &Tools, now: Timestamp) -> Value {
    let alerts = notification.alerts.iter().map(|alert| alert_data(alert, tools, now)).collect();
    Value::structure(
        "template.Data",
        vec![
            ("Receiver", Value::string(&*notification.contact_point)),
            ("Status", Value::string(status(notification.is_firing()))),
            ("Alerts", Value::flat_list(ListKind::Alerts, alerts)),
            ("GroupLabels", Value::labels(MapKind::Kv, &notification.group_labels)),
            ("CommonLabels", Value::labels(MapKind::Kv, &notification.common_labels)),
            ("CommonAnnotations", Value::labels(MapKind::Kv, &notification.common_annotations)),
            ("ExternalURL", Value::string(&*tools.external_url)),
        ],
    )
}

fn alert_data(alert: &Alert, tools: &Tools, now: Timestamp) -> Value {
    Value::structure(
        "template.Alert",
        vec![
            ("Status", Value::string(status(alert.resolved_at.is_none()))),
            ("Labels", Value::labels(MapKind::Kv, &alert.labels)),
            ("Annotations", Value::labels(MapKind::Kv, &alert.annotations)),
            ("StartsAt", Value::time(Some(alert.active_at))),
            ("EndsAt", Value::time(alert.resolved_at)),
            ("GeneratorURL", Value::string(generator_url(alert, tools))),
            ("Fingerprint", Value::string(format!("{:016x}", alert.labels.fingerprint()))),
            ("Value", Value::Float(alert.value)),
            ("Samples", template::samples(&alert.samples, &tools.links, now)),
        ],
    )
}

/// `firing` or `resolved`.
pub(super) fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

/// Where to look at an alert's rule.
pub(super) fn generator_url(alert: &Alert, tools: &Tools) -> String {
    let group = url::form_urlencoded::byte_serialize(alert.group.as_bytes()).collect::<String>();
    format!("{}/api/v1/rules?rule_group[]={group}", tools.external_url)
}
