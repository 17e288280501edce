//! `/api/v1/rules` and `/api/v1/alerts`, as Prometheus answers them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use watchbell_rules::engine::{Health, RuleStatus};
use watchbell_rules::labels::Labels;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{Alert, AlertState};

use super::{Api, EVALUATOR_TIMEOUT};

/// `GET /api/v1/rules`; `type`, `rule_name[]`, `rule_group[]`, `file[]` and `exclude_alerts` choose, as in Prometheus.
pub(super) async fn rules(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query.as_deref().unwrap_or_default()) {
        Ok(filter) => filter,
        Err(error) => return failure(StatusCode::BAD_REQUEST, "bad_data", &error),
    };
    match statuses(&api).await {
        Some(statuses) => success(Groups { groups: groups(&statuses, &filter) }),
        None => unavailable(),
    }
}

/// `GET /api/v1/alerts`
pub(super) async fn alerts(State(api): State<Api>) -> Response {
    match statuses(&api).await {
        Some(statuses) => success(Alerts { alerts: statuses.iter().flat_map(alerts_of).collect() }),
        None => unavailable(),
    }
}

async fn statuses(api: &Api) -> Option<Vec<RuleStatus>> {
    tokio::time::timeout(EVALUATOR_TIMEOUT, api.collector.rules()).await.ok().flatten()
}

/// What a query asks for; an empty list asks for all.
#[derive(Debug, Default, PartialEq)]
struct Filter {
    kind: Option<String>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    exclude_alerts: bool,
}

impl Filter {
    fn parse(query: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "type" if value == "alert" || value == "record" => filter.kind = Some(value),
                "type" => return Err(format!("invalid parameter \"type\": not supported value {value:?}")),
                "rule_name[]" => filter.names.push(value),
                "rule_group[]" => filter.groups.push(value),
                "file[]" => filter.files.push(value),
                "exclude_alerts" => filter.exclude_alerts = value == "true" || value == "1",
                // Prometheus, too, passes over what it does not know.
                _ => {}
            }
        }
        Ok(filter)
    }

    fn wants(&self, status: &RuleStatus) -> bool {
        let among = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|name| name == value);
        let kind = if status.alerting.is_some() { "alert" } else { "record" };
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && among(&self.names, &status.name)
            && among(&self.groups, &status.group)
            && among(&self.files, &status.file)
    }
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: Arc<str>,
    file: Arc<str>,
    interval: f64,
    limit: usize,
    rules: Vec<Rule>,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Rule {
    Alerting(AlertingRule),
    Recording(RecordingRule),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertingRule {
    state: AlertState,
    name: Arc<str>,
    query: Arc<str>,
    /// Ours: the kind of `detect`, which the query follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    detector: Option<Arc<str>>,
    duration: f64,
    keep_firing_for: f64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Vec<ApiAlert>>,
    #[serde(flatten)]
    fares: Fares,
}

#[derive(Serialize)]
struct RecordingRule {
    name: Arc<str>,
    query: Arc<str>,
    labels: BTreeMap<String, String>,
    #[serde(flatten)]
    fares: Fares,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fares {
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Ours: that its quantiles are estimates, and how near.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<String>,
    /// Ours: how much of the past the rule has been filled with, from 0 to 1, where it is not in force yet for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    filled: Option<f64>,
    /// Ours: the rule tells nothing before.
    #[serde(skip_serializing_if = "Option::is_none")]
    warming_until: Option<String>,
    /// Ours: the rule's windows hold less than their ranges before.
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_until: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Serialize)]
struct Alerts {
    alerts: Vec<ApiAlert>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiAlert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    state: AlertState,
    active_at: String,
    value: String,
}

/// The rules that are asked for, by group, in the order of the files.
fn groups(statuses: &[RuleStatus], filter: &Filter) -> Vec<Group> {
    let wanted: Vec<&RuleStatus> = statuses.iter().filter(|status| filter.wants(status)).collect();
    wanted
        .chunk_by(|a, b| a.group == b.group && a.file == b.file)
        .map(|rules| Group {
            name: Arc::clone(&rules[0].group),
            file: Arc::clone(&rules[0].file),
            interval: rules[0].interval.as_secs_f64(),
            limit: rules[0].limit,
            rules: rules.iter().map(|status| rule(status, filter)).collect(),
            // Rules are judged as records arrive; there is no evaluation that would take its time.
            evaluation_time: 0.0,
            last_evaluation: time(rules.iter().filter_map(|status| status.last_evaluation).max()),
        })
        .collect()
}

fn rule(status: &RuleStatus, filter: &Filter) -> Rule {
    let (name, query) = (Arc::clone(&status.name), Arc::clone(&status.expr));
    let labels = status.labels.iter().cloned().collect();
    let fares = fares(status);
    match &status.alerting {
        None => Rule::Recording(RecordingRule { name, query, labels, fares }),
        Some(alerting) => Rule::Alerting(AlertingRule {
            state: alerting.state,
            name,
            query,
            detector: status.detector.clone(),
            duration: alerting.hold.as_secs_f64(),
            keep_firing_for: alerting.keep_firing_for.as_secs_f64(),
            labels,
            annotations: alerting.annotations.iter().cloned().collect(),
            alerts: (!filter.exclude_alerts).then(|| alerts_of(status).collect()),
            fares,
        }),
    }
}

fn fares(status: &RuleStatus) -> Fares {
    Fares {
        health: match status.health {
            Health::Unknown => "unknown",
            Health::Ok => "ok",
            Health::Err => "err",
        },
        last_error: status.last_error.clone(),
        estimate: status.estimate.clone(),
        filled: status.filled,
        warming_until: status.warming_until.map(|at| at.to_string()),
        partial_until: status.partial_until.map(|at| at.to_string()),
        evaluation_time: 0.0,
        last_evaluation: time(status.last_evaluation),
    }
}

fn alerts_of(status: &RuleStatus) -> impl Iterator<Item = ApiAlert> {
    status.alerting.iter().flat_map(|alerting| &alerting.alerts).map(|(state, alert)| api_alert(*state, alert))
}

fn api_alert(state: AlertState, alert: &Alert) -> ApiAlert {
    let map = |labels: &Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    ApiAlert {
        labels: map(&alert.labels),
        annotations: map(&alert.annotations),
        state,
        active_at: alert.active_at.to_string(),
        value: format!("{:e}", alert.value),
    }
}

/// Go's zero time where there is none, as Prometheus writes it.
fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

fn success(data: impl Serialize) -> Response {
    Json(serde_json::json!({"status": "success", "data": data})).into_response()
}

fn unavailable() -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the evaluator does not answer")
}

fn failure(status: StatusCode, kind: &str, error: &str) -> Response {
    (status, Json(serde_json::json!({"status": "error", "errorType": kind, "error": error}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_chooses() {
        let filter = Filter::parse("type=alert&rule_group%5B%5D=a&rule_group[]=b&exclude_alerts=true&other=1").unwrap();
        assert_eq!(filter.groups, ["a", "b"]);
        assert_eq!((filter.kind.as_deref(), filter.exclude_alerts), (Some("alert"), true));
        assert!(Filter::parse("type=x").unwrap_err().contains("not supported value \"x\""));
    }
}
