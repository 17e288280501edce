//! A real Alertmanager as the oracle of our alerting policy: over the same random routing trees and alerts it makes the same groups, and
//! over the same alerts of our own collector it sends the same pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use watchbell_rules::alerting::Alerting;
use watchbell_rules::alerting::config::{IntegrationPolicy, PolicyConfig, ReceiverPolicy, RouteConfig};
use watchbell_rules::labels::Labels;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{Alert, AlertState, Transition};

use crate::support::alertmanager::Alertmanager;
use crate::support::random::Random;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{http, otlp, until, until_equal};

/// A group: its receiver, its labels, the alerts in it.
type Group = (String, String, BTreeSet<String>);

const TREES: u64 = 40;
const ALERTS: usize = 60;
/// Names of labels; the last is one that matchers must quote.
const NAMES: [&str; 4] = ["a", "b", "c", "sérvice name"];
const VALUES: [&str; 7] = ["x", "y", "xy", "x y", "say \"x\"", "back\\slash", "two\nlines"];

#[test]
fn random_trees_route_and_group_as_alertmanager_does() {
    let random = &mut Random::new(1);
    let alerts: BTreeSet<Labels> = (0..ALERTS).map(|_| random_labels(random)).collect();
    let alertmanager =
        Alertmanager::start(&json!({"route": {"receiver": "r"}, "receivers": [{"name": "r"}]}).to_string());
    alertmanager
        .post(&alerts.iter().map(|labels| json!({"labels": map(labels), "endsAt": "2100-01-01T00:00:00Z"})).collect());
    let mut groups_in_all = 0;
    for _ in 0..TREES {
        let mut receivers = Vec::new();
        let tree = random_route(random, 0, &mut receivers);
        let named: Vec<Value> = receivers.iter().map(|name| json!({"name": name})).collect();
        alertmanager.reload(&json!({"route": tree, "receivers": named}).to_string());
        let ours = our_groups(&tree, &receivers, &alerts);
        groups_in_all += ours.len();
        // The groups of the tree before may stand for a moment.
        until_equal(&format!("the groups of {tree}"), &ours, || their_groups(&alertmanager));
    }
    assert!(groups_in_all > 20 * TREES as usize, "trees that make no groups prove nothing: {groups_in_all}");
}

fn their_groups(alertmanager: &Alertmanager) -> Vec<Group> {
    let group = |group: &Value| {
        let alerts = group["alerts"].as_array().unwrap().iter().map(|alert| labels_of(&alert["labels"]).to_string());
        let receiver = group["receiver"]["name"].as_str().unwrap().to_owned();
        (receiver, labels_of(&group["labels"]).to_string(), alerts.collect())
    };
    let mut groups: Vec<Group> = alertmanager.groups().iter().map(group).collect();
    groups.sort();
    groups
}

fn our_groups(tree: &Value, receivers: &[String], alerts: &BTreeSet<Labels>) -> Vec<Group> {
    let webhook = || vec![IntegrationPolicy { kind: "webhook".into(), send_resolved: true }];
    let route: RouteConfig = serde_json::from_value(tree.clone()).unwrap_or_else(|error| panic!("{error}: {tree}"));
    let receivers = receivers.iter().map(|name| ReceiverPolicy { name: name.clone(), integrations: webhook() });
    let config = PolicyConfig { route, receivers: receivers.collect() };
    assert_eq!(config.check(), Ok(()), "{tree}");
    let mut alerting = Alerting::new(config);
    for labels in alerts {
        let (from, to) = (AlertState::Inactive, AlertState::Firing);
        let alert = Arc::new(firing(labels));
        alerting.handle_transition(&Transition { from, to, alert, at: Timestamp(0), cause: None });
    }
    alerting.handle_timeout(Timestamp(0) + Duration::from_secs(3600));
    let sent = std::iter::from_fn(|| alerting.poll_notification());
    let mut groups: Vec<Group> = sent
        .map(|sent| {
            let alerts = sent.alerts.iter().map(|alert| alert.labels.to_string()).collect();
            (sent.contact_point.to_string(), sent.group_labels.to_string(), alerts)
        })
        .collect();
    groups.sort();
    groups
}

fn firing(labels: &Labels) -> Alert {
    Alert {
        group: "g".into(),
        expr: "e".into(),
        labels: labels.clone(),
        value: 1.0,
        fired_at: Some(Timestamp(0)),
        ..Alert::default()
    }
}

fn random_labels(random: &mut Random) -> Labels {
    let mut labels = vec![("alertname", ["Burst", "Silence"][random.below(2) as usize])];
    for name in NAMES {
        if random.below(4) > 0 {
            labels.push((name, VALUES[random.below(VALUES.len() as u64) as usize]));
        }
    }
    Labels::new(labels)
}

/// A node with all below it; its receiver, if it has one of its own, is a new one.
fn random_route(random: &mut Random, depth: u64, receivers: &mut Vec<String>) -> Value {
    let mut route = Map::new();
    if depth == 0 || random.below(4) > 0 {
        receivers.push(format!("r{}", receivers.len()));
        route.insert("receiver".into(), receivers.last().unwrap().as_str().into());
    }
    if random.below(2) > 0 {
        let group_by =
            [json!([]), json!(["a"]), json!(["alertname", "b"]), json!(["..."]), json!(["sérvice name", "c"])];
        route.insert("group_by".into(), group_by[random.below(5) as usize].clone());
    }
    if depth > 0 {
        add_random_matchers(random, &mut route);
        route.insert("continue".into(), (random.below(3) == 0).into());
    }
    let children = if depth < 3 { random.below(4 - depth) + u64::from(depth == 0) } else { 0 };
    let children: Vec<Value> = (0..children).map(|_| random_route(random, depth + 1, receivers)).collect();
    if !children.is_empty() {
        route.insert("routes".into(), children.into());
    }
    route.into()
}

fn add_random_matchers(random: &mut Random, route: &mut Map<String, Value>) {
    let name = |random: &mut Random| NAMES[random.below(3) as usize];
    match random.below(6) {
        0 => _ = route.insert("match".into(), json!({name(random): VALUES[random.below(7) as usize]})),
        1 => _ = route.insert("match_re".into(), json!({name(random): random_regex(random)})),
        _ => {
            let count = 1 + random.below(2);
            let matchers: Vec<String> = (0..count).map(|_| random_matcher(random)).collect();
            let matchers = match random.below(3) {
                0 => vec![format!("{{{}}}", matchers.join(", "))],
                1 => vec![matchers.join(",")],
                _ => matchers,
            };
            route.insert("matchers".into(), matchers.into());
        }
    }
}

fn random_matcher(random: &mut Random) -> String {
    let name = NAMES[random.below(4) as usize];
    let name = if name.contains(' ') || random.below(4) == 0 { format!("\"{name}\"") } else { name.to_owned() };
    let (op, value) = match random.below(4) {
        0 => ("=", VALUES[random.below(7) as usize]),
        1 => ("!=", VALUES[random.below(7) as usize]),
        2 => ("=~", random_regex(random)),
        _ => ("!~", random_regex(random)),
    };
    let is_word = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric());
    let space = [" ", ""][random.below(2) as usize];
    match is_word && random.below(2) == 0 {
        true => format!("{name}{space}{op}{space}{value}"),
        false => format!("{name}{space}{op}{space}{}", quoted(value)),
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn random_regex(random: &mut Random) -> &'static str {
    ["x|y", "x.*", ".*", ".+", "", "[xy]+", "two.lines", ".*\\\\.*", "(x y|y)"][random.below(9) as usize]
}

fn labels_of(json: &Value) -> Labels {
    Labels::new(json.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())))
}

fn map(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

/// A tree with what decides who is told how. `$` is where pages go.
const ALERTING: &str = "
route:
  receiver: rest
  group_by: [kind]
  group_wait: 1s
  group_interval: 1s
  routes:
    - {receiver: audit, matchers: ['severity=~\"page|ticket\"'], group_by: ['...'], continue: true}
    - receiver: pager
      matchers: [severity=page]
      group_by: [team]
      routes:
        - {receiver: cut, matchers: ['team!=\"front end\"', 'team!~\"x.*\"'], group_by: [severity], continue: true}
        - {matchers: ['{team=\"front end\"}'], group_by: [alertname]}
    - {receiver: quiet, match: {severity: ticket}}
receivers:
  - {name: rest, webhook_configs: [{url: '$'}]}
  - {name: audit, webhook_configs: [{url: '$'}]}
  - {name: pager, webhook_configs: [{url: '$'}]}
  - {name: cut, webhook_configs: [{url: '$', max_alerts: 2}]}
  - {name: quiet, webhook_configs: [{url: '$', send_resolved: false}]}
";

const RULES: &str = "
groups:
  - name: orders
    interval: 1s
    rules:
      - alert: OrderLost
        expr: sum by (team, severity) (count_over_time({service_name=`orders`} | team != `` [1h])) > 0
        labels: {kind: lost}
        annotations: {summary: '{{ $labels.team }} loses orders'}
";

const ALERTS_SENT: [(&str, &str); 9] = [
    ("front end", "page"),
    ("back end", "page"),
    ("carts", "page"),
    ("stock", "page"),
    ("xray", "page"),
    ("front end", "ticket"),
    ("carts", "ticket"),
    ("carts", "info"),
    ("stock", "info"),
];

/// One collector sends pages by its own tree, and feeds an Alertmanager that has the same.
#[test]
fn pages_say_what_alertmanagers_say() {
    let (ours, theirs) = (Webhook::start(), Webhook::start());
    let alertmanager = Alertmanager::start(&ALERTING.replace('$', &theirs.url()));
    let own = ALERTING.replace('$', &ours.url()).replace('\n', "\n  ");
    let watchbell = Watchbell::start(&format!("{}alerting:{own}\n", alertmanager.feed()), RULES);
    let record = |(team, severity): (&str, &str)| {
        let mut record = otlp::error("lost");
        record["attributes"] = json!([otlp::attribute("team", team), otlp::attribute("severity", severity)]);
        record
    };
    watchbell.send(&otlp::logs("orders", ALERTS_SENT.map(record)));
    let told = until("we page of all that fires", || Some(last_pages(&ours)).filter(is_complete));
    until_equal("Alertmanager's pages of what fires", &told, || last_pages(&theirs));

    std::fs::write(watchbell.server.path().join("rules.yaml"), "groups: []\n").unwrap();
    assert!(http::post(&watchbell.api_url("/-/reload"), "text/plain", "").unwrap().status.is_success());
    let is_over = |ends: &BTreeMap<_, End>| {
        ends.iter().all(|((receiver, _), end)| receiver == "quiet" || end.status == "resolved")
    };
    let told = until("we page that all is over", || Some(ends(&ours)).filter(is_over));
    until_equal("Alertmanager's pages that all is over", &told, || ends(&theirs));
}

/// Seven groups of `audit`, one of `cut`, two of `pager`, one of `quiet`, one of the rest.
fn is_complete(pages: &Pages) -> bool {
    pages.len() == 12
}

/// The last page about each group, by receiver and group key.
type Pages = BTreeMap<(String, String), Page>;

/// What a page says that does not depend on when it was sent.
#[derive(Clone, Debug, PartialEq)]
struct Page {
    status: String,
    truncated: u64,
    common: [Value; 3],
    /// Labels, annotations, whether it fires, when it began; and its fingerprint.
    alerts: Vec<[Value; 5]>,
}

/// What remains of a group.
#[derive(Clone, Debug, Default, PartialEq)]
struct End {
    status: String,
    /// What was ever said to be resolved; not of `cut`, which says it of the first two alone, whichever these are.
    resolved: BTreeSet<String>,
}

/// How each group ended. Alertmanager may tell the resolved alerts in several pages, as they come to it.
fn ends(webhook: &Webhook) -> BTreeMap<(String, String), End> {
    let mut ends = BTreeMap::<_, End>::new();
    for (group, page) in pages(webhook) {
        let end = ends.entry(group.clone()).or_default();
        end.status = page.status;
        let resolved = page.alerts.iter().filter(|alert| alert[2] == "resolved" && group.0 != "cut");
        end.resolved.extend(resolved.map(|alert| alert[0].to_string()));
    }
    ends
}

fn last_pages(webhook: &Webhook) -> Pages {
    pages(webhook).collect()
}

/// All pages in the order in which they came.
fn pages(webhook: &Webhook) -> impl Iterator<Item = ((String, String), Page)> {
    webhook.deliveries().into_iter().map(|delivery| {
        let body = &delivery.body;
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name} in {body}")).to_owned();
        let page = Page {
            status: text("status"),
            truncated: body["truncatedAlerts"].as_u64().unwrap(),
            common: ["groupLabels", "commonLabels", "commonAnnotations"].map(|name| without_evidence(&body[name])),
            alerts: body["alerts"].as_array().unwrap().iter().map(alert).collect(),
        };
        ((text("receiver"), text("groupKey")), page)
    })
}

fn alert(alert: &Value) -> [Value; 5] {
    let annotations = without_evidence(&alert["annotations"]);
    // Alertmanager's API has milliseconds.
    let begun = alert["startsAt"].as_str().unwrap().trim_end_matches('Z');
    let (seconds, fraction) = begun.split_once('.').unwrap_or((begun, ""));
    let begun = format!("{seconds}.{:0<3.3}", fraction);
    [alert["labels"].clone(), annotations, alert["status"].clone(), begun.into(), alert["fingerprint"].clone()]
}

/// Annotations without the one that only a fed Alertmanager has.
fn without_evidence(annotations: &Value) -> Value {
    let mut annotations = annotations.clone();
    annotations.as_object_mut().unwrap().remove("evidence");
    annotations
}
