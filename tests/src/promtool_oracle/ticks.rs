//! `eval: tick` is what a polling ruler does: ten thousand random series that come and go, and the alerts that there are of each at every tick.

use super::*;

const SERIES_PER_RULE: usize = 190;
const TICKS: u32 = 24;
const COMPARISONS: [&str; 6] = [">", ">=", "<", "<=", "==", "!="];
const HOLDS: [u32; 3] = [0, 1, 3];
const KEEPS: [u32; 3] = [0, 2, 5];
/// Ticks at which the values of alerts are compared, too.
const VALUE_TICKS: [u32; 4] = [5, 11, 17, 22];

/// Every combination of these over series of its own. What Prometheus has as a sample's value at each tick, we get from records half a
/// tick earlier, by another function for each rule; where a series has no sample, there is no record. The ticks at which an alert is in a
/// state are told as the bits of one number.
#[test]
fn ticks_are_what_a_ruler_does() {
    let variants: Vec<Variant> = variants().collect();
    let series: Vec<Series> = variants.iter().flat_map(Variant::series).collect();
    assert!(series.len() >= 10_000);
    let told = told(&variants, &series);
    assert!(
        told.is_in("firing") > 5_000 && told.is_in("pending") > 2_000,
        "a story in which nothing happens proves nothing"
    );
    compare(&variants, &series, &told);
}

/// Rules whose labels make one alert of two series, of which the one is there when the other is not. (Where both are, a ruler's evaluation fails, and
/// `promtool` with it.)
#[test]
fn an_alert_goes_on_with_another_series() {
    let of_round = |round| {
        variants().map(move |variant| Variant { name: format!("c{round}{}", variant.name), hides: true, ..variant })
    };
    let variants: Vec<Variant> = (0..4).flat_map(of_round).collect();
    let series: Vec<Series> = variants.iter().flat_map(Variant::series).collect();
    let told = told(&variants, &series);
    assert!(told.is_in("firing") > 50 && told.is_in("pending") > 50, "a story in which nothing happens proves nothing");
    compare(&variants, &series, &told);
}

fn compare(variants: &[Variant], series: &[Series], Told { masks, firing }: &Told) {
    let input = series.iter().map(|series| {
        let value = |value: &Option<usize>| value.map_or("stale".to_owned(), |value| value.to_string());
        let values: Vec<_> = series.values.iter().map(value).collect();
        json!({"series": format!("m{{service_name='{}'}}", series.name), "values": values.join(" ")})
    });
    let shards = variants.iter().flat_map(|variant| SHARDS.iter().map(|digits| shard(masks, variant, digits)));
    let values = variants.iter().flat_map(|variant| VALUE_TICKS.map(|tick| variant.alerts(firing, tick)));
    let test = json!({
        "interval": "1m",
        "input_series": input.collect::<Vec<_>>(),
        "promql_expr_test": shards.collect::<Vec<_>>(),
        "alert_rule_test": values.collect::<Vec<_>>(),
    });
    let rules: Vec<_> = variants.iter().map(Variant::gos_rule).collect();
    promtool(&rules, &test);
}

/// Last digits of the services that one query is about: `promtool` refuses queries of more than 10,000 points.
const SHARDS: [&str; 2] = ["01234", "56789"];

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

/// How records make a number.
#[derive(Clone, Copy)]
enum Function {
    Bytes,
    Count,
    Rate,
    Sum,
    Max,
    Mean,
}

const FUNCTIONS: [Function; 6] =
    [Function::Bytes, Function::Count, Function::Rate, Function::Sum, Function::Max, Function::Mean];

impl Function {
    /// Of records of the last minute, by service.
    fn expr(self, selector: &str) -> String {
        let unwrapped = |function: &str| format!("{function}({selector} | logfmt | unwrap v [1m])");
        match self {
            Self::Bytes => format!("sum by (service_name) (bytes_over_time({selector}[1m]))"),
            Self::Count => format!("sum by (service_name) (count_over_time({selector}[1m]))"),
            Self::Rate => format!("sum by (service_name) (rate({selector}[1m]))"),
            Self::Sum => format!("sum by (service_name) ({})", unwrapped("sum_over_time")),
            Self::Max => format!("{} by (service_name)", unwrapped("max_over_time")),
            Self::Mean => format!("{} by (service_name)", unwrapped("avg_over_time")),
        }
    }

    /// The lines of which it makes the number.
    fn lines(self, value: usize) -> Vec<String> {
        let numbers = |numbers: [usize; 2]| numbers.map(|number| format!("v={number}")).to_vec();
        match self {
            Self::Bytes => vec!["x".repeat(value)],
            Self::Count | Self::Rate => vec!["x".to_owned(); value],
            Self::Sum => numbers([1, value - 1]),
            Self::Max => numbers([0, value]),
            Self::Mean => numbers([value - 1, value + 1]),
        }
    }

    /// What it makes of `m`, by another name.
    fn of_samples(self, samples: &str) -> String {
        if let Self::Rate = self { format!("{samples} / 60") } else { samples.to_owned() }
    }
}

struct Variant {
    name: String,
    comparison: &'static str,
    hold: u32,
    keep: u32,
    function: Function,
    /// In seconds; the records come so late that the rule has to wait for them.
    lateness: u32,
    /// Whether its alerts have their value among their labels: each value is another alert.
    is_labelled: bool,
    /// Whether it takes the label from its series that tells them apart.
    hides: bool,
}

struct Series {
    name: String,
    function: Function,
    is_late: bool,
    values: Vec<Option<usize>>,
}

fn variants() -> impl Iterator<Item = Variant> {
    let of_comparison =
        |op| HOLDS.into_iter().flat_map(move |hold| KEEPS.into_iter().map(move |keep| (op, hold, keep)));
    COMPARISONS.into_iter().flat_map(of_comparison).enumerate().map(|(number, (comparison, hold, keep))| Variant {
        name: format!("v{number}"),
        comparison,
        hold,
        keep,
        // Neither number is a divisor of the nine combinations, so that each comes with each.
        function: FUNCTIONS[(number + number / 6) % 6],
        lateness: [0, 5, 20][(number + number / 9) % 3],
        is_labelled: number % 4 == 1,
        hides: false,
    })
}

impl Variant {
    fn rule(&self, value: &str, bound: &str) -> Value {
        let mut labels = serde_json::Map::new();
        if self.is_labelled {
            labels.insert("got".to_owned(), json!("{{ $value }}"));
        }
        if self.hides {
            labels.insert("service_name".to_owned(), json!(format!("{}-all0", self.name)));
        }
        json!({
            "alert": self.name,
            "labels": labels,
            "expr": format!("{value} {} {bound}", self.comparison),
            "for": format!("{}m", self.hold),
            "keep_firing_for": format!("{}m", self.keep),
            "annotations": {"value": "{{ $value }} {{ printf \"%.3f\" $value }}"},
        })
    }

    fn bound(&self) -> String {
        self.function.of_samples("2").replace("2 / 60", "(2 / 60)")
    }

    fn gos_rule(&self) -> Value {
        self.rule(&self.function.of_samples(&format!("m{{service_name=~'{}-.+'}}", self.name)), &self.bound())
    }

    /// The same with `eval: tick`, on records.
    fn our_rule(&self) -> Value {
        let mut rule = self.rule(&self.function.expr(&format!("{{service_name=~`{}-.+`}}", self.name)), &self.bound());
        rule["watchbell"] = json!({"eval": "tick", "lateness": format!("{}s", self.lateness)});
        rule
    }

    fn series(&self) -> impl Iterator<Item = Series> {
        let seed = self.name.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte));
        let mut random = Random::new(seed);
        let one = |number| Series {
            name: format!("{}-s{number}", self.name),
            function: self.function,
            is_late: self.lateness > 0,
            values: values(&mut random),
        };
        let mut series: Vec<_> = (0..if self.hides { 2 } else { SERIES_PER_RULE }).map(one).collect();
        if self.hides {
            let (first, second) = series.split_at_mut(1);
            let both = second[0].values.iter_mut().zip(&first[0].values).filter(|(_, other)| other.is_some());
            both.for_each(|(value, _)| *value = None);
        }
        series.into_iter()
    }

    /// Those that fire at a tick, with their values.
    fn alerts(&self, firing: &BTreeMap<(u32, String), Vec<Value>>, tick: u32) -> Value {
        let alerts = firing.get(&(tick, self.name.clone())).cloned().unwrap_or_default();
        json!({"eval_time": format!("{tick}m"), "alertname": self.name, "exp_alerts": alerts})
    }
}

/// Values that stay on one side of the bound for some ticks, and now and then are not there.
fn values(random: &mut Random) -> Vec<Option<usize>> {
    let (mut high, mut there) = (random.below(2) == 0, random.below(4) > 0);
    let mut value = || {
        high ^= random.below(10) < 3;
        there ^= random.below(10) < if there { 1 } else { 4 };
        let value = 1 + usize::try_from(random.below(2)).unwrap() + if high { 2 } else { 0 };
        there.then_some(value)
    };
    (0..TICKS).map(|_| value()).collect()
}

/// What we tell of the alerts.
#[derive(Default)]
struct Told {
    /// By the labels of an alert and its state: the ticks at which it is in it, as bits.
    masks: BTreeMap<String, u64>,
    /// By tick and rule: the labels and annotations of those that fire.
    firing: BTreeMap<(u32, String), Vec<Value>>,
}

fn told(variants: &[Variant], series: &[Series]) -> Told {
    let rules: Vec<_> = variants.iter().map(Variant::our_rule).collect();
    let file = json!({"groups": [{"name": "g", "interval": "1m", "rules": rules}]});
    let file = rule_file::parse("rules.yaml", &file.to_string()).unwrap();
    let plan = Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap());
    let start = Timestamp(3_600_000_000_000);
    let mut engine = Engine::new(plan.clone(), start - TICK);
    let (mut alerts, mut told) = (BTreeMap::new(), Told::default());
    for tick in 0..=TICKS {
        // The records of a tick move the watermark beyond the tick before.
        let sent = start + TICK * tick - HALF_TICK;
        advance(&mut engine, sent, &mut alerts);
        if tick > 0 {
            told.hear(tick - 1, &engine, &alerts);
        }
        for (is_late, received) in [(false, sent), (true, sent + HALF_TICK + LATE)] {
            let of_then = series.iter().filter(|series| series.is_late == is_late);
            let batch = records(of_then, usize::try_from(tick.min(TICKS - 1)).unwrap(), sent);
            advance(&mut engine, received, &mut alerts);
            engine.handle_batch(plan.match_batch(&batch, received), &batch, received);
        }
    }
    told
}

/// How long after their tick late records come.
const LATE: Duration = Duration::from_secs(3);

impl Told {
    fn is_in(&self, state: &str) -> usize {
        self.masks.keys().filter(|labels| labels.contains(state)).count()
    }

    fn hear(&mut self, tick: u32, engine: &Engine, alerts: &BTreeMap<Labels, AlertState>) {
        for (labels, state) in alerts {
            let series = alerts_series(labels, *state);
            *self.masks.entry(series.trim_start_matches("ALERTS").to_owned()).or_default() |= 1 << tick;
        }
        if VALUE_TICKS.contains(&tick) {
            for rule in engine.rules() {
                let alerts = rule.alerting.into_iter().flat_map(|alerting| alerting.alerts);
                let firing = alerts.filter(|(state, _)| *state == AlertState::Firing).map(|(_, alert)| {
                    let labels: BTreeMap<_, _> = alert.labels.iter().filter(|(name, _)| *name != "alertname").collect();
                    json!({"exp_labels": labels, "exp_annotations": alert.annotations.iter().collect::<BTreeMap<_, _>>()})
                });
                self.firing.insert((tick, rule.name.to_string()), firing.collect());
            }
        }
    }
}

/// The records of which each series' value is made.
fn records<'a>(series: impl Iterator<Item = &'a Series>, tick: usize, time: Timestamp) -> Vec<u8> {
    let resource_logs = series.filter_map(|series| {
        let text = |text: String| Some(AnyValue { value: Some(any_value::Value::StringValue(text)) });
        let name = KeyValue { key: "service.name".to_owned(), value: text(series.name.clone()), ..KeyValue::default() };
        let lines = series.function.lines(series.values[tick]?).into_iter();
        let record = |line| LogRecord {
            time_unix_nano: u64::try_from(time.0).unwrap(),
            body: text(line),
            ..LogRecord::default()
        };
        Some(ResourceLogs {
            resource: Some(Resource { attributes: vec![name], ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records: lines.map(record).collect(), ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        })
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
}
