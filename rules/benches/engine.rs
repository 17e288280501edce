//! Records a second that one thread judges: matching, and matching with folding, without rules, with one, and with a hundred, a thousand and
//! ten thousand of which ten match every record; with one that mines patterns; with rules that all parse every line; and how long such
//! rules take to be read.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::engine::Engine;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::time::Timestamp;

const RECORDS: u64 = 1000;
const START: Timestamp = Timestamp(1_767_225_600_000_000_000);
const BATCH_GAP: Duration = Duration::from_millis(10);

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(RECORDS));
    let batches: Vec<Vec<u8>> = (0..100).map(batch).collect();
    let sets = [
        ("0 rules", file_text(&[])),
        ("1 rule", file_text(&match_all(1))),
        ("100 rules", file_text(&many_rules(100))),
        ("1000 rules", file_text(&many_rules(1000))),
        ("10000 rules", file_text(&many_rules(10_000))),
        ("new_pattern", NEW_PATTERN.to_owned()),
    ];
    for (name, text) in sets {
        let plan = plan(&text);
        group.bench_function(format!("match/{name}"), |bencher| {
            let mut batches = batches.iter().cycle();
            bencher.iter(|| black_box(plan.match_batch(batches.next().unwrap(), START + Duration::from_secs(3600))));
        });
        group.bench_function(format!("judge/{name}"), |bencher| {
            let mut engine = Engine::new(plan.clone(), START);
            let mut n = 0;
            let next = || {
                n += 1;
                (batch(n), START + BATCH_GAP * (n as u32 + 1))
            };
            bencher.iter_batched(next, |(batch, received)| judge(&mut engine, &batch, received), BatchSize::LargeInput);
        });
    }
    let lines: Vec<Vec<u8>> = (0..100).map(|n| batch_of(n, json_line)).collect();
    for count in [1, 100, 1000] {
        let plan = plan(&file_text(&parsing(count)));
        group.bench_function(format!("match/json, {count} rules"), |bencher| {
            let mut batches = lines.iter().cycle();
            bencher.iter(|| black_box(plan.match_batch(batches.next().unwrap(), START + Duration::from_secs(3600))));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    let text = file_text(&many_rules(10_000));
    group.bench_function("10000 rules", |bencher| {
        bencher.iter(|| {
            let file = rule_file::parse("bench.yaml", &text).unwrap();
            black_box(Plan::compile(&[file], &EngineConfig::default()).unwrap())
        });
    });
    group.finish();
}

fn judge(engine: &mut Engine, batch: &[u8], received: Timestamp) {
    let matched = engine.plan().match_batch(batch, received);
    engine.handle_batch(matched, batch, received);
    while let Some(output) = engine.poll_output() {
        black_box(output);
    }
}

/// A rule that mines the pattern of every record.
const NEW_PATTERN: &str = r#"groups:
  - name: bench
    rules:
      - {alert: NewPattern, detect: {new_pattern: {where: '{service_name=~".+"}'}}}
"#;

fn plan(text: &str) -> Arc<Plan> {
    let file = rule_file::parse("bench.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap())
}

fn file_text(rules: &[String]) -> String {
    let mut text = "groups:\n  - name: bench\n    rules:\n".to_owned();
    for (n, rule) in rules.iter().enumerate() {
        text += &format!("      - alert: Alert{n}\n        expr: |\n          {rule}\n");
    }
    if rules.is_empty() { "groups: []".to_owned() } else { text }
}

/// Rules that count every record.
fn match_all(count: usize) -> Vec<String> {
    let rules = [
        r#"sum by (service_name) (count_over_time({service_name=~".+"}[5m])) > 1e9"#,
        r#"sum by (service_name) (rate({service_name=~".+"}[1m])) > 1e9"#,
        r#"sum(count_over_time({service_name=~".+"}[1m])) > 1e9"#,
        r#"sum by (k8s_pod_name) (count_over_time({service_name=~".+"}[10m])) > 1e9"#,
        r#"sum by (severity_text) (count_over_time({service_name=~".+"}[1m])) > 1e9"#,
        r#"sum by (service_name, severity_text) (count_over_time({service_name=~".+"}[5m])) > 1e9"#,
        r#"sum by (http_route) (count_over_time({service_name=~".+"}[1m])) > 1e9"#,
        r#"sum by (http_route, http_response_status_code) (count_over_time({service_name=~".+"}[5m])) > 1e9"#,
        r#"sum by (service_name) (bytes_rate({service_name=~".+"}[1m])) > 1e12"#,
        r#"sum by (scope_name) (count_over_time({service_name=~".+"}[1m])) > 1e9"#,
    ];
    rules.iter().take(count).map(|rule| (*rule).to_owned()).collect()
}

/// Ten that match every record, the others of the kinds that people write, ten a service.
fn many_rules(count: usize) -> Vec<String> {
    let mut rules = match_all(10);
    let services = (count / 10).max(20);
    for n in 0..(count - 10) / 3 {
        rules.push(format!(
            r#"sum by (http_route) (count_over_time({{service_name="service-{}"}} | severity_number >= {} [{}m])) > 20"#,
            n % services,
            13 + 4 * (n % 2),
            1 + n % 5
        ));
        rules.push(format!(
            r#"sum by (service_name) (count_over_time({{service_name=~".+"}} |= "{}" [5m])) > 5"#,
            literal(n)
        ));
        rules.push(match n % 3 {
            0 => format!(r#"sum by (service_name) (count_over_time({{service_name=~"service-.*"}} |= "duration=" | logfmt | duration > {}s [5m])) > 5"#, n + 1),
            1 => format!(r#"sum(count_over_time({{service_name="service-{n}"}} |~ "(?i)fatal error {n}" [5m])) > 0"#),
            _ => format!(r#"sum by (service_name) (count_over_time({{service_name="service-{n}"}} | http_response_status_code >= 500 [1m])) > {n}"#),
        });
    }
    rules
}

/// Rules that parse every line, and count those that no line is.
fn parsing(count: usize) -> Vec<String> {
    let rule = |n| {
        format!(
            r#"sum by (service_name) (count_over_time({{service_name=~".+"}} | json | status >= {} [5m])) > 5"#,
            600 + n
        )
    };
    (0..count).map(rule).collect()
}

fn json_line(record: u64) -> String {
    format!(
        r#"{{"time": "2026-11-24T18:01:00.123Z", "level": "info", "request": {{"method": "POST", "path": "/orders/{record}", "host": "shop.example"}}, "status": 200, "took": "{} ms", "user": "customer-{}"}}"#,
        record % 90,
        record * 7
    )
}

/// What thirty rules look for; the rules beyond them each look for something of their own.
fn literal(n: usize) -> String {
    let text = LITERALS[n % LITERALS.len()].replace('#', &n.to_string());
    if n < 30 { text } else { format!("{text} ({n})") }
}

const LITERALS: &[&str] = &[
    "panicked at",
    "OutOfMemoryError",
    "connection refused #",
    "deadlock detected",
    "certificate expired",
    "no space left #",
    "segfault at #",
    "timed out after #",
    "too many open files",
    "failed to acquire lock #",
];

fn text_line(record: u64) -> String {
    format!(
        "order {record} of customer {} has been processed by the checkout pipeline in {} ms, total {}.99 EUR",
        record * 7,
        record % 90,
        record % 500
    )
}

/// A thousand records of some 300 bytes, of four services.
fn batch(n: u64) -> Vec<u8> {
    batch_of(n, text_line)
}

fn batch_of(n: u64, line: fn(u64) -> String) -> Vec<u8> {
    let mut out = Vec::new();
    for service in 0..4 {
        let (name, pod) = (format!("service-{service}"), format!("service-{service}-7f9c-{}", n % 3));
        let resource = encode::resource([
            ("service.name", AnyValue::String(&name)),
            ("k8s.pod.name", AnyValue::String(&pod)),
            ("telemetry.sdk.language", AnyValue::String("rust")),
        ]);
        encode::put_resource_logs(&mut out, &resource, |out| {
            encode::put_scope_logs(out, &encode::scope("shop::checkout", "1.2.0"), |out| {
                (0..RECORDS / 4).for_each(|record| put_record(out, n, service * 250 + record, line));
            });
        });
    }
    out
}

fn put_record(out: &mut Vec<u8>, batch: u64, record: u64, line: fn(u64) -> String) {
    let time = START + BATCH_GAP * (batch as u32) + Duration::from_micros(10) * record as u32;
    let (severity, name) = match record % 100 {
        0 => (17, "ERROR"),
        1..4 => (13, "WARN"),
        _ => (9, "INFO"),
    };
    encode::put_log_record(out, |out| {
        out.time_unix_nano(time.0 as u64);
        out.observed_time_unix_nano(time.0 as u64 + 1000);
        out.severity_number(severity);
        out.severity_text(name);
        out.body(&AnyValue::String(&line(record)));
        out.attribute("http.request.method", &AnyValue::String("POST"));
        out.attribute(
            "http.route",
            &AnyValue::String(["/pay", "/cart", "/orders/{id}", "/login"][record as usize % 4]),
        );
        out.attribute("http.response.status_code", &AnyValue::Int(if record.is_multiple_of(100) { 503 } else { 200 }));
        out.attribute("order.id", &AnyValue::Int(record as i64 + 1_000_000));
        out.trace_context(&[record as u8 | 1; 16], &[batch as u8 | 1; 8]);
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
