//! `eval: tick` is what a polling ruler does: ten thousand random series, and the alerts that there are of each at every tick.

use super::*;

const SERIES_PER_RULE: usize = 560;
const TICKS: u32 = 24;
const OPS: [&str; 2] = [">", "<="];
const HOLDS: [u32; 3] = [0, 1, 3];
const KEEPS: [u32; 3] = [0, 2, 5];

/// Every combination of these over series of its own. What Prometheus has as a sample's value at each tick, we get as the length of a record's
/// line half a tick earlier. The ticks at which an alert is in a state are told as the bits of one number.
#[test]
fn ticks_are_what_a_ruler_does() {
    let variants: Vec<Variant> = variants().collect();
    let series: Vec<Series> = variants.iter().flat_map(Variant::series).collect();
    assert!(series.len() >= 10_000);
    let expected = our_masks(&variants, &series);
    let is_in = |state: &str| expected.keys().filter(|labels| labels.contains(state)).count();
    assert!(is_in("firing") > 5_000 && is_in("pending") > 2_000, "a story in which nothing happens proves nothing");
    let input = series.iter().map(|series| {
        let values: Vec<_> = series.values.iter().map(usize::to_string).collect();
        json!({"series": format!("m{{service_name='{}'}}", series.name), "values": values.join(" ")})
    });
    let shards = variants.iter().flat_map(|variant| SHARDS.iter().map(|digits| shard(&expected, variant, digits)));
    let test = json!({
        "interval": "1m",
        "input_series": input.collect::<Vec<_>>(),
        "promql_expr_test": shards.collect::<Vec<_>>(),
    });
    let rules: Vec<_> =
        variants.iter().map(|variant| variant.rule(&format!("m{{service_name=~'{}-.+'}}", variant.name))).collect();
    promtool(&rules, &test);
}

/// Last digits of the services that one query is about: `promtool` refuses queries of more than 10,000 points.
const SHARDS: [&str; 5] = ["01", "23", "45", "67", "89"];

fn shard(expected: &BTreeMap<String, u64>, variant: &Variant, digits: &str) -> Value {
    let name = &variant.name;
    let is_in = |labels: &&String| digits.chars().any(|digit| labels.ends_with(&format!("{digit}\"}}")));
    let of_variant = |labels: &&String| labels.contains(&format!("alertname={name:?}"));
    let samples = expected.keys().filter(of_variant).filter(is_in);
    let samples: Vec<_> = samples.map(|labels| json!({"labels": labels, "value": expected[labels]})).collect();
    let alerts = format!("ALERTS{{alertname='{name}',service_name=~'.*[{digits}]'}}");
    json!({
        "expr": format!("sum_over_time(({alerts} * (2 ^ (time() / 60)))[{TICKS}m:1m])"),
        "eval_time": format!("{}m", TICKS - 1),
        "exp_samples": samples,
    })
}

struct Variant {
    name: String,
    op: &'static str,
    hold: u32,
    keep: u32,
}

struct Series {
    name: String,
    values: Vec<usize>,
}

fn variants() -> impl Iterator<Item = Variant> {
    let of_op = |op| HOLDS.into_iter().flat_map(move |hold| KEEPS.into_iter().map(move |keep| (op, hold, keep)));
    let name = |number| format!("v{number}");
    let variant = move |(number, (op, hold, keep))| Variant { name: name(number), op, hold, keep };
    OPS.into_iter().flat_map(of_op).enumerate().map(variant)
}

impl Variant {
    fn rule(&self, value: &str) -> Value {
        json!({
            "alert": self.name,
            "expr": format!("{value} {} 2", self.op),
            "for": format!("{}m", self.hold),
            "keep_firing_for": format!("{}m", self.keep),
        })
    }

    /// The same with `eval: tick`, on records.
    fn our_rule(&self) -> Value {
        let mut rule =
            self.rule(&format!("sum by (service_name) (bytes_over_time({{service_name=~`{}-.+`}}[1m]))", self.name));
        rule["watchbell"] = json!({"eval": "tick", "lateness": "0s"});
        rule
    }

    fn series(&self) -> impl Iterator<Item = Series> {
        let seed = self.name.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte));
        let mut random = Random::new(seed);
        let name = |number| format!("{}-s{number}", self.name);
        let series: Vec<_> =
            (0..SERIES_PER_RULE).map(|number| Series { name: name(number), values: values(&mut random) }).collect();
        series.into_iter()
    }
}

/// Values that stay on one side of the bound for some ticks.
fn values(random: &mut Random) -> Vec<usize> {
    let mut high = random.below(2) == 0;
    let mut value = || {
        high ^= random.below(10) < 3;
        1 + usize::try_from(random.below(2)).unwrap() + if high { 2 } else { 0 }
    };
    (0..TICKS).map(|_| value()).collect()
}

/// By the labels of an alert and its state: the ticks at which it is in it, as bits.
fn our_masks(variants: &[Variant], series: &[Series]) -> BTreeMap<String, u64> {
    let rules: Vec<_> = variants.iter().map(Variant::our_rule).collect();
    let file = json!({"groups": [{"name": "g", "interval": "1m", "rules": rules}]});
    let file = rule_file::parse("rules.yaml", &file.to_string()).unwrap();
    let plan = Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap());
    let start = Timestamp(3_600_000_000_000);
    let mut engine = Engine::new(plan.clone(), start - TICK);
    let (mut alerts, mut masks) = (BTreeMap::new(), BTreeMap::new());
    for tick in 0..=TICKS {
        // The records of a tick move the watermark beyond the tick before.
        let sent = start + TICK * tick - HALF_TICK;
        let batch = lines(series, usize::try_from(tick.min(TICKS - 1)).unwrap(), sent);
        advance(&mut engine, sent, &mut alerts);
        engine.handle_batch(plan.match_batch(&batch, sent), &batch, sent);
        advance(&mut engine, sent, &mut alerts);
        let bit = if tick == 0 { 0 } else { 1 << (tick - 1) };
        for (labels, state) in &alerts {
            let series = alerts_series(labels, *state);
            *masks.entry(series.trim_start_matches("ALERTS").to_owned()).or_default() |= bit;
        }
    }
    masks
}

/// A record of each series, as long as its value.
fn lines(series: &[Series], tick: usize, time: Timestamp) -> Vec<u8> {
    let resource_logs = series.iter().map(|series| {
        let text = |text: String| Some(AnyValue { value: Some(any_value::Value::StringValue(text)) });
        let name = KeyValue { key: "service.name".to_owned(), value: text(series.name.clone()), ..KeyValue::default() };
        let record = LogRecord {
            time_unix_nano: u64::try_from(time.0).unwrap(),
            body: text("x".repeat(series.values[tick])),
            ..LogRecord::default()
        };
        ResourceLogs {
            resource: Some(Resource { attributes: vec![name], ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
}
