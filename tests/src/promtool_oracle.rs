//! `promtool test rules` as the oracle: the same templates over the same values give the same text, and over the same random series
//! the same alerts are pending and firing at the same ticks.

mod ticks;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};
use watchbell_rules::engine::{Engine, Output};
use watchbell_rules::labels::Labels;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::template::{Links, RuleData, Template, expand_annotation};
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::AlertState;

use crate::support::peer::program;
use crate::support::random::Random;

const TEMPLATES: &[&str] = &[
    "{{ $value }}",
    "{{ .Value }}",
    "{{ $labels.service }} of {{ $labels.missing }}|",
    "{{ .Labels.service }}",
    "{{ printf \"%.2f\" $value }}",
    "{{ $value | printf \"%.0f\" }}",
    "{{ printf \"%e %g %v\" $value $value $value }}",
    "{{ printf \"%8.3f|%-8.3f|%+.1f|%08.2f\" $value $value $value $value }}",
    "{{ printf \"%s|%q|%10s|%-10s|%x\" $labels.service $labels.service $labels.service $labels.service $labels.service }}",
    "{{ printf \"%d\" 42 }} {{ printf \"%5d|%-5d|%05d\" 42 42 42 }} {{ printf \"%t\" true }} {{ printf \"%%\" }}",
    "{{ printf \"%d\" $value }}",
    "{{ printf \"%s\" 1 2 }}",
    "{{ humanize $value }}",
    "{{ humanize1024 $value }}",
    "{{ humanizeDuration $value }}",
    "{{ humanizePercentage $value }}",
    "{{ $value | humanize }}{{- \" trimmed\" -}}   !",
    "{{ if gt $value 10.0 }}big{{ else if gt $value 1.0 }}middling{{ else }}small{{ end }}",
    "{{ if and (gt $value 1.0) (lt $value 100.0) }}between{{ end }}{{ if or (eq $labels.service \"a\") (ne $labels.service \"b\") }}or{{ end }}",
    "{{ if not $labels.missing }}empty{{ end }}{{ with $labels.service }}{{ . }}{{ else }}none{{ end }}",
    "{{ range $name, $value := $labels }}{{ $name }}={{ $value }};{{ end }}",
    "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}",
    "{{ title \"hello world\" }} {{ toUpper $labels.service }} {{ toLower \"ABC\" }}",
    "{{ reReplaceAll \"(.)a\" \"$1_\" \"banana\" }} {{ match \"^b.*a$\" \"banana\" }}",
    "{{ $externalLabels.cluster }} {{ $externalURL }}",
    "{{ args 1 2 | len }} {{ (args 1 2).arg1 }}",
    "{{ len $labels.service }} {{ index $labels \"service\" }} {{ slice \"banana\" 1 3 }}",
    "{{ stripPort \"host:80\" }} {{ stripDomain \"host.example.org:80\" }} {{ parseDuration \"1h30m\" }}",
    "{{ print 1 2 \"a\" \"b\" 3 }} {{ println \"x\" }} {{ html \"<a>\" }} {{ js \"'\" }} {{ urlquery \"a b&c\" }}",
    "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" $value }}{{ template \"t\" $labels.service }}",
    "{{ humanizeTimestamp 1435065584.128 }} {{ (1435065584.128 | toTime).Year }}",
    "{{/* a comment */ -}} {{ `raw \\n` }} {{ '\\n' }} {{ 0x10 }} {{ 1e3 }} {{ 1_000 }}",
    "{{ range $i, $s := args \"a\" \"b\" \"c\" }}{{ if eq $s \"b\" }}{{ continue }}{{ end }}{{ $s }}{{ end }}",
    "{{ eq 1 1 }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 2 1 }} {{ ge 1 2 }} {{ eq \"a\" \"b\" \"a\" }}",
    "{{ $value | printf \"%.3g\" | printf \"[%6s]\" }}",
    "ünïcode 🔔 {{ $labels.service | toUpper }} {{ \"\\u00e9\" }} {{ len \"é\" }}",
    "{{ $labels }}",
];

const VALUES: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    0.1,
    3.0,
    20.0,
    1e3,
    1234.5678,
    1e6,
    1e20,
    1e21,
    1e22,
    1.5e-5,
    1e-7,
    123456789.0,
    -42.5,
    59.9,
    60.0,
    3661.0,
    90061.5,
    1024.0,
    1048576.0,
    0.001,
    0.0001,
    1e-10,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN_POSITIVE,
    0.9999999,
    2.5,
];

#[test]
fn templates_give_the_same_text() {
    let mut random = Random::new(7);
    let mut values = VALUES.to_vec();
    values.extend((0..40).map(|_| random.float()));
    let mut rules = vec![];
    let mut expected = vec![];
    for (t, text) in TEMPLATES.iter().enumerate() {
        let name = format!("T{t}");
        let expr = if text.contains("humanizeDuration") { COUNTABLE } else { "m * 1" };
        let has = |value: &f64| expr != COUNTABLE || value.abs() < 9e15;
        rules.push(json!({"alert": name, "expr": expr, "labels": {"rule": "r"}, "annotations": {"text": text}}));
        let values = values.iter().enumerate().filter(|(_, value)| has(value));
        let alerts: Vec<_> = values.map(|(v, value)| alert(v, expand(text, v, *value))).collect();
        expected.push(json!({"eval_time": "0s", "alertname": name, "exp_alerts": alerts}));
    }
    let series = values
        .iter()
        .enumerate()
        .map(|(v, value)| json!({"series": format!("m{{service=\"service-{v}\"}}"), "values": go_float(*value)}));
    let test = json!({
        "interval": "1m",
        "external_labels": {"cluster": "c1"},
        "external_url": "http://example.org/x",
        "input_series": series.collect::<Vec<_>>(),
        "alert_rule_test": expected,
    });
    promtool(&rules, &test);
}

/// What Go turns into an integer beyond this depends on the machine.
const COUNTABLE: &str = "m * 1 < 9e15 > -9e15";

fn alert(number: usize, text: String) -> Value {
    json!({"exp_labels": {"service": format!("service-{number}"), "rule": "r"}, "exp_annotations": {"text": text}})
}

fn expand(text: &str, number: usize, value: f64) -> String {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expand_annotation(
        &template,
        &RuleData {
            labels: &Labels::new([("service", format!("service-{number}"))]),
            value,
            external_labels: &Labels::new([("cluster", "c1")]),
            external_url: "http://example.org/x",
            samples: &[],
            links: &Links::default(),
            now: Timestamp(0),
        },
    )
}

fn go_float(value: f64) -> String {
    format!("{value:e}").replace("inf", "Inf")
}

#[track_caller]
fn promtool(rules: &[Value], test: &Value) {
    let rules = json!({"groups": [{"name": "g", "rules": rules}]});
    let tests = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yaml"), rules.to_string()).unwrap();
    std::fs::write(dir.path().join("tests.yaml"), tests.to_string()).unwrap();
    let output = Command::new(program("prometheus", "promtool"))
        .args(["test", "rules", "tests.yaml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{complaints}");
}

const TICKS: usize = 120;
const SERVICES: usize = 6;
const TICK: Duration = Duration::from_secs(60);
const HALF_TICK: Duration = Duration::from_secs(30);

/// Every combination of these `for` and `keep_firing_for` over random series of counts. Where Prometheus has a sample at each tick, we get
/// as many records half a tick earlier: the window of one tick then holds just them, from half a tick before to half a tick after.
/// `keep_firing_for` is a second longer for us, since its end would otherwise meet the next records at the same nanosecond.
#[test]
fn alerts_are_pending_and_firing_at_the_same_ticks() {
    for seed in 1..=2 {
        let counts = random_counts(seed);
        let expected = our_alerts(&counts).into_iter().enumerate().map(|(tick, alerts)| {
            let samples = alerts.iter().map(|alert| json!({"labels": alert, "value": 1}));
            json!({"expr": "ALERTS", "eval_time": format!("{tick}m"), "exp_samples": samples.collect::<Vec<_>>()})
        });
        let test = json!({
            "interval": "1m",
            "input_series": samples(&counts),
            "promql_expr_test": expected.collect::<Vec<_>>(),
        });
        promtool(&rules("m > 2", Duration::ZERO), &test);
    }
}

/// The counts as `promtool` reads them.
fn samples(counts: &[Vec<u64>]) -> Vec<Value> {
    let series = |(service, counts): (usize, &Vec<u64>)| {
        let values: Vec<_> = counts.iter().map(u64::to_string).collect();
        json!({"series": format!("m{{service_name='s{service}'}}"), "values": values.join(" ")})
    };
    counts.iter().enumerate().map(series).collect()
}

fn rules(expr: &str, keep_longer: Duration) -> Vec<Value> {
    let mut rules = vec![];
    for hold in [0, 1, 3] {
        for keep in [0, 2, 5] {
            let keep_for = if keep == 0 { Duration::ZERO } else { keep * TICK + keep_longer };
            rules.push(json!({
                "alert": format!("For{hold}Keep{keep}"),
                "expr": expr,
                "for": format!("{hold}m"),
                "keep_firing_for": format!("{}s", keep_for.as_secs()),
                "labels": {"severity": "page"},
            }));
        }
    }
    rules
}

/// Counts that stay for some ticks, so that alerts get to fire.
fn random_counts(seed: u64) -> Vec<Vec<u64>> {
    let mut random = Random::new(seed);
    let mut series = || {
        let mut high = false;
        let mut count = || {
            high ^= random.below(10) < 3;
            random.below(3) + if high { 3 } else { 0 }
        };
        (0..TICKS).map(|_| count()).collect()
    };
    (0..SERVICES).map(|_| series()).collect()
}

/// The `ALERTS` series that there are at each tick.
fn our_alerts(counts: &[Vec<u64>]) -> Vec<Vec<String>> {
    let expr = "sum by (service_name) (count_over_time({service_name=~`.+`}[1m])) > 2";
    let file = json!({"groups": [{"name": "g", "interval": "1s", "rules": rules(expr, Duration::from_secs(1))}]});
    let file = rule_file::parse("rules.yaml", &file.to_string()).unwrap();
    let plan = Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap());
    let start = Timestamp(3_600_000_000_000);
    let mut engine = Engine::new(plan.clone(), start - TICK);
    let mut alerts = BTreeMap::new();
    let mut at_ticks = vec![];
    for tick in 0..TICKS {
        let now = start + TICK * u32::try_from(tick).unwrap();
        let sent = now - HALF_TICK;
        let batch = batch(counts, tick, sent);
        advance(&mut engine, sent, &mut alerts);
        engine.handle_batch(plan.match_batch(&batch, sent), &batch, sent);
        advance(&mut engine, now, &mut alerts);
        at_ticks.push(alerts.iter().map(|(labels, state)| alerts_series(labels, *state)).collect());
    }
    at_ticks
}

/// Moves the clock on from timer to timer, as the collector does.
fn advance(engine: &mut Engine, to: Timestamp, alerts: &mut BTreeMap<Labels, AlertState>) {
    loop {
        while let Some(output) = engine.poll_output() {
            let Output::Transition(transition) = output else { continue };
            match transition.to {
                AlertState::Inactive => alerts.remove(&transition.alert.labels),
                state => alerts.insert(transition.alert.labels.clone(), state),
            };
        }
        match engine.poll_timeout().filter(|time| *time <= to && *time > engine.clock()) {
            Some(time) => engine.handle_timeout(time),
            None if engine.clock() < to => engine.handle_timeout(to),
            None => return,
        }
    }
}

fn alerts_series(labels: &Labels, state: AlertState) -> String {
    let state = if state == AlertState::Firing { "firing" } else { "pending" };
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("ALERTS{{alertstate=\"{state}\", {}}}", labels.join(", "))
}

fn batch(counts: &[Vec<u64>], tick: usize, time: Timestamp) -> Vec<u8> {
    let record = LogRecord { time_unix_nano: u64::try_from(time.0).unwrap(), ..LogRecord::default() };
    let resource_logs = counts.iter().enumerate().map(|(service, counts)| {
        let name = any_value::Value::StringValue(format!("s{service}"));
        let value = Some(AnyValue { value: Some(name) });
        let attributes = vec![KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() }];
        let log_records = vec![record.clone(); usize::try_from(counts[tick]).unwrap()];
        ResourceLogs {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
}
