//! Rules over ten thousand groups: folding a batch with a record of each, evaluating a ratio at a step, and restoring them. And what the
//! gaps that are remembered cost a thousand rules at a step, and an edge's alerts; and what a day away costs them.
//!
//! `cargo bench --package watchbell-rules --bench groups`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Bencher, Criterion, criterion_group, criterion_main};
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::engine::{Engine, GAPS_MAX};
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::time::Timestamp;

const GROUPS: u64 = 10_000;
const START: Timestamp = Timestamp(1_767_225_600_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("groups");
    group.sample_size(20);
    let plan = plan(&[COUNT.to_owned()]);
    group.bench_function("fold", |bencher| {
        let (engine, at) = filled(&plan);
        fold(bencher, &plan, engine, at);
    });
    let sets = [
        ("a ratio", vec![ratio(1)]),
        ("1000 rules", (1..=1000).map(few_groups).collect()),
        ("1000 rules without records", (1..=1000).map(no_groups).collect()),
    ];
    for (name, rules) in sets {
        for gaps in [0, GAPS_MAX] {
            let plan = self::plan(&rules);
            group.bench_function(format!("step, {name}, {gaps} gaps"), |bencher| {
                let (mut engine, at) = filled(&plan);
                let mut at = with_gaps(&mut engine, at, gaps);
                bencher.iter(|| {
                    at = at + SECOND;
                    engine.handle_timeout(at);
                    black_box(engine.poll_timeout());
                    drain(&mut engine);
                });
            });
        }
    }
    group.bench_function("alerts, 32 gaps", |bencher| {
        let plan = self::plan(&[ALERTING.to_owned()]);
        let (mut engine, at) = filled(&plan);
        let at = with_gaps(&mut engine, at, GAPS_MAX);
        fold(bencher, &plan, engine, at);
    });
    group.bench_function("first step after a day away, 1000 ratios of 100 groups", |bencher| {
        let plan = self::plan(&(1..=1000).map(shelves).collect::<Vec<_>>());
        let (engine, at) = filled(&plan);
        let away = |mut engine: Engine| {
            engine.handle_gap(at, at + SECOND * 24 * 3600);
            drain(&mut engine);
            engine
        };
        bencher.iter_batched(|| engine.clone(), away, BatchSize::PerIteration);
    });
    group.bench_function("snapshot", |bencher| {
        let (engine, _) = filled(&plan);
        bencher.iter(|| black_box(engine.snapshot()));
    });
    group.finish();
}

/// A batch a second, matched beforehand.
fn fold(bencher: &mut Bencher<'_>, plan: &Arc<Plan>, mut engine: Engine, mut at: Timestamp) {
    let next = || {
        at = at + SECOND;
        let batch = batch(at);
        (plan.match_batch(&batch, at), batch, at)
    };
    bencher.iter_batched(
        next,
        |(matched, batch, at)| {
            engine.handle_batch(matched, &batch, at);
            drain(&mut engine);
        },
        BatchSize::PerIteration,
    );
}

const COUNT: &str = r#"sum by (order_id) (count_over_time({service_name="shop"}[5m])) > 1e9"#;
const ALERTING: &str = r#"sum by (order_id) (count_over_time({service_name="shop"}[5m])) > 0"#;

fn ratio(bound: u64) -> String {
    format!(
        r#"sum by (order_id) (rate({{service_name="shop"}} |= "refused" [2h])) / sum by (order_id) (rate({{service_name="shop"}}[2h])) > {bound}"#
    )
}

/// Judged at steps, over ten groups.
fn few_groups(bound: u64) -> String {
    format!(
        r#"sum by (shelf) (count_over_time({{service_name="shop"}}[2h])) < {bound} and sum by (shelf) (count_over_time({{service_name="shop"}}[4h])) > 1e9"#
    )
}

/// The same, over records that do not come.
fn no_groups(bound: u64) -> String {
    few_groups(bound).replace("shop", "wharf")
}

/// Of a hundred groups, over a quarter of an hour.
fn shelves(bound: u64) -> String {
    format!(
        r#"sum by (place) (count_over_time({{service_name="shop"}} |= "refused" [15m])) / sum by (place) (count_over_time({{service_name="shop"}}[15m])) > {bound}"#
    )
}

fn plan(rules: &[String]) -> Arc<Plan> {
    let mut text = "groups:\n  - name: bench\n    rules:\n".to_owned();
    for (n, rule) in rules.iter().enumerate() {
        text +=
            &format!("      - alert: Alert{n}\n        expr: |\n          {rule}\n        watchbell: {{samples: 0}}\n");
    }
    let file = rule_file::parse("bench.yaml", &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let config = EngineConfig { groups_per_rule_max: GROUPS as usize, ..EngineConfig::default() };
    Arc::new(Plan::compile(&[file], &config).unwrap())
}

/// An engine of which each group has sixteen records, and when the last came.
fn filled(plan: &Arc<Plan>) -> (Engine, Timestamp) {
    let mut engine = Engine::new(plan.clone(), START);
    for n in 0..16 {
        let at = START + SECOND * (1 + 15 * n);
        let batch = batch(at);
        engine.handle_batch(plan.match_batch(&batch, at), &batch, at);
        drain(&mut engine);
    }
    (engine, START + SECOND * 256)
}

/// The same after so many times away, each of six seconds.
fn with_gaps(engine: &mut Engine, at: Timestamp, gaps: usize) -> Timestamp {
    (0..gaps).fold(at, |at, _| {
        let back = at + SECOND * 6;
        engine.handle_gap(at, back);
        engine.handle_timeout(back + SECOND * 14);
        drain(engine);
        back + SECOND * 14
    })
}

fn drain(engine: &mut Engine) {
    while let Some(output) = engine.poll_output() {
        black_box(output);
    }
}

/// A record of each group.
fn batch(at: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    let resource = encode::resource([("service.name", AnyValue::String("shop"))]);
    encode::put_resource_logs(&mut out, &resource, |out| {
        encode::put_scope_logs(out, &[], |out| {
            for group in 0..GROUPS {
                encode::put_log_record(out, |out| {
                    out.time_unix_nano(at.0 as u64);
                    out.body(&AnyValue::String("payment refused"));
                    // As orders of all times come together: in no order.
                    out.attribute("order.id", &AnyValue::Int((group * 7919 % GROUPS) as i64 + 1_000_000));
                    out.attribute("place", &AnyValue::Int((group % 100) as i64));
                    out.attribute("shelf", &AnyValue::Int((group % 10) as i64));
                });
            }
        });
    });
    out
}

criterion_group!(benches, bench);
criterion_main!(benches);
