//! The `alerting:` block, as far as it decides who is told what: the routing tree and what the receivers consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::matcher::Matchers;
use crate::time::{deserialize_duration_option, format_duration};

/// Who is told what. The default pages to stdout at once, grouped by alert name and service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The root of the routing tree.
    pub route: RouteConfig,
    /// The receivers it names.
    pub receivers: Vec<ReceiverPolicy>,
}

/// A receiver, as far as the policy must know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiverPolicy {
    /// Its name.
    pub name: String,
    /// Its integrations, in the order email, slack, pagerduty, webhook, stdout.
    pub integrations: Vec<IntegrationPolicy>,
}

impl ReceiverPolicy {
    /// Its integrations by the names that messages and the log of what was told have for them.
    pub fn integrations(&self) -> Vec<(Arc<str>, &IntegrationPolicy)> {
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut named = Vec::new();
        for integration in &self.integrations {
            let count = counts.entry(&integration.kind).or_default();
            named.push((integration_name(&integration.kind, *count), integration));
            *count += 1;
        }
        named
    }
}

/// One way in which a receiver is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntegrationPolicy {
    /// `email`, `slack`, `pagerduty`, `webhook`, `stdout`: an integration is known by this and its index among those of its kind.
    pub kind: String,
    /// Whether it is told of resolved alerts.
    pub send_resolved: bool,
}

/// How an integration is named in messages and in the log of what was told: `webhook[1]`, the second of its receiver's
/// `webhook_configs`, as Alertmanager does it.
pub fn integration_name(kind: &str, at: usize) -> Arc<str> {
    format!("{kind}[{at}]").into()
}

/// A node of the routing tree, in Alertmanager's spelling. What is absent is as in the parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Name of the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// Labels that alerts are grouped by; `...` is every label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// Which alerts take this route: all must hold.
    #[schemars(with = "Vec<String>")]
    pub matchers: Vec<Matchers>,
    /// Alertmanager's older spelling of `name="value"`.
    pub r#match: BTreeMap<String, String>,
    /// Alertmanager's older spelling of `name=~"value"`.
    pub match_re: BTreeMap<String, String>,
    /// Whether an alert that took this route also tries its later siblings.
    pub r#continue: bool,
    /// How long a new group waits for more alerts; 30 s at the root.
    #[serde(deserialize_with = "deserialize_duration_option", serialize_with = "serialize_duration")]
    pub group_wait: Option<Duration>,
    /// How long a group that was told of waits before it is told of again; 5 m at the root.
    #[serde(deserialize_with = "deserialize_duration_option", serialize_with = "serialize_duration")]
    pub group_interval: Option<Duration>,
    /// After how long a group that still fires is told of again; 4 h at the root.
    #[serde(deserialize_with = "deserialize_duration_option", serialize_with = "serialize_duration")]
    pub repeat_interval: Option<Duration>,
    /// Routes below, tried in order.
    pub routes: Vec<RouteConfig>,
    /// Refused: not evaluated yet.
    #[serde(skip_serializing)]
    pub mute_time_intervals: NotSupported,
    /// Refused: not evaluated yet.
    #[serde(skip_serializing)]
    pub active_time_intervals: NotSupported,
    /// Refused.
    #[serde(skip_serializing)]
    pub labels: NotSupported,
}

/// A key of Alertmanager's that is refused, because to ignore it would page other people than it says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotSupported;

impl<'de> Deserialize<'de> for NotSupported {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(
            "a key of Alertmanager's that is not supported: take it out, or let an Alertmanager route these alerts (`alertmanagers:`)",
        ))
    }
}

impl schemars::JsonSchema for NotSupported {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NotSupported".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        false.into() // no value is allowed
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            route: RouteConfig {
                receiver: Some("stdout".into()),
                group_by: Some(vec!["alertname".into(), "service_name".into()]),
                group_wait: Some(Duration::ZERO),
                group_interval: Some(Duration::from_secs(10)),
                ..RouteConfig::default()
            },
            receivers: vec![ReceiverPolicy {
                name: "stdout".into(),
                integrations: vec![IntegrationPolicy { kind: "stdout".into(), send_resolved: true }],
            }],
        }
    }
}

impl PolicyConfig {
    /// What cannot be in it, with the places.
    pub fn check(&self) -> Result<(), Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut names = BTreeSet::new();
        for (i, receiver) in self.receivers.iter().enumerate() {
            if !names.insert(receiver.name.as_str()) {
                errors.push(error(
                    format!("receivers[{i}].name"),
                    format!("a second receiver named `{}`", receiver.name),
                ));
            }
        }
        let root = &self.route;
        if root.receiver.is_none() {
            errors.push(error("route.receiver".into(), "the root route must name a receiver"));
        }
        if !(root.matchers.is_empty() && root.r#match.is_empty() && root.match_re.is_empty()) {
            errors.push(error(
                "route.matchers".into(),
                "the root route takes every alert: put the matchers on a route below",
            ));
        }
        if root.r#continue {
            errors.push(error("route.continue".into(), "the root route has no sibling to continue with"));
        }
        check_route(root, "route", &names, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// What is wrong with the `alerting:` block, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `route.routes[1].receiver`
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for ConfigError {}

fn error(path: String, message: impl Into<String>) -> ConfigError {
    ConfigError { path, message: message.into() }
}

fn check_route(route: &RouteConfig, path: &str, receivers: &BTreeSet<&str>, errors: &mut Vec<ConfigError>) {
    if let Some(name) = route.receiver.as_deref().filter(|name| !receivers.contains(name)) {
        let known: Vec<String> = receivers.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("no receiver is named `{name}`: there are {}", known.join(", "));
        errors.push(error(format!("{path}.receiver"), message));
    }
    let group_by = route.group_by.as_deref().unwrap_or_default();
    let distinct: BTreeSet<&str> = group_by.iter().map(String::as_str).collect();
    if distinct.len() < group_by.len() {
        errors.push(error(format!("{path}.group_by"), "a label stands twice"));
    }
    if distinct.contains("...") && distinct.len() > 1 {
        errors.push(error(format!("{path}.group_by"), "`...` means every label: nothing can stand beside it"));
    }
    for (key, value) in [("group_interval", route.group_interval), ("repeat_interval", route.repeat_interval)] {
        if value == Some(Duration::ZERO) {
            errors.push(error(format!("{path}.{key}"), "it cannot be zero"));
        }
    }
    for (name, value) in &route.match_re {
        if let Err(message) = super::matcher::Matcher::new(name, crate::logql::ast::MatchOp::Regex, value) {
            errors.push(error(format!("{path}.match_re.{name}"), message));
        }
    }
    for (i, child) in route.routes.iter().enumerate() {
        check_route(child, &format!("{path}.routes[{i}]"), receivers, errors);
    }
}

fn serialize_duration<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(format_duration).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let config: PolicyConfig = serde_saphyr::from_str(text).unwrap();
        config.check().unwrap_err().iter().map(ConfigError::to_string).collect()
    }

    #[test]
    fn names_every_mistake_and_its_place() {
        let text = r#"
route:
  continue: true
  matchers: ['a="b"']
  routes:
    - receiver: pager
      group_by: [a, a]
    - receiver: team
      group_by: ['...', b]
      group_interval: 0s
      match_re: {a: '('}
receivers:
  - {name: team, integrations: []}
  - {name: team, integrations: []}
"#;
        let errors = errors(text);
        let starts = [
            "receivers[1].name: a second receiver named `team`",
            "route.receiver: the root route must name a receiver",
            "route.matchers: the root route takes every alert: put the matchers on a route below",
            "route.continue: the root route has no sibling to continue with",
            "route.routes[0].receiver: no receiver is named `pager`: there are `team`",
            "route.routes[0].group_by: a label stands twice",
            "route.routes[1].group_by: `...` means every label: nothing can stand beside it",
            "route.routes[1].group_interval: it cannot be zero",
            "route.routes[1].match_re.a: `(` is not a regular expression",
        ];
        assert_eq!(errors.len(), starts.len(), "{errors:#?}");
        for (error, start) in errors.iter().zip(starts) {
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn a_wrong_matcher_and_an_unsupported_key_are_told_with_their_line() {
        let error = |text: &str| serde_saphyr::from_str::<RouteConfig>(text).unwrap_err().to_string();
        let matcher = error("receiver: a\nmatchers:\n  - severity\n");
        assert!(matcher.contains("line 3") && matcher.contains("no operator behind `severity`"), "{matcher}");
        let muted = error("receiver: a\nmute_time_intervals: [nights]\n");
        assert!(muted.contains("line 2") && muted.contains("not supported:"), "{muted}");
        let wait = error("receiver: a\ngroup_wait: 30\n");
        assert!(wait.contains("line 2") && wait.contains("no unit"), "{wait}");
    }

    #[test]
    fn the_default_is_in_order_and_survives_a_round() {
        let config = PolicyConfig::default();
        assert_eq!(config.check(), Ok(()));
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<PolicyConfig>(&text).unwrap(), config);
    }
}
