//! The stream against the batch: at any time a rule's expression has the value that a query at that time has, whatever the expression.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use watchbell_proto::otlp::{Signal, json};
use watchbell_rules::engine::{Engine, Output};
use watchbell_rules::labels::Labels;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::query::answer::Answer;
use watchbell_rules::query::records::{self, Format, LineLabels, OwnedEntry};
use watchbell_rules::query::{Limits, Query, QueryErrorKind, When};
use watchbell_rules::rule_file;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{AlertState, Sample};

use crate::records::{START, after};

/// Steps at which stream and batch are compared, in seconds; before the first no absence is told in the stream.
const STEP: u64 = 3;
const WARM: u64 = 27;
const END: u64 = 99;

/// A record: when it happened, how much later it came, and what it says.
#[derive(Clone, Debug)]
struct Arrival {
    time: u64,
    delay: u64,
    service: &'static str,
    region: &'static str,
    line: String,
    code: i64,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let words = (select(vec!["a", "b"]), select(vec!["eu", "us"]), select(vec!["ann", "bob", "eve"]));
    let number = prop_oneof![
        6 => (0..2000i32).prop_map(|n| format!("{}", f64::from(n) / 8.0)),
        2 => (-50..50i32).prop_map(|n| n.to_string()),
        1 => select(vec!["0.1", "1e3", "NaN", "+Inf", "soon", "1_000", "0x1.8p3", "0x_fp-2", "1__0"]).prop_map(str::to_owned),
    ];
    let took = select(vec!["80ms", "1.5s", "2m", "3s", "700us", "long", "-5s", "1m1h"]);
    let size = select(vec!["12KB", "1MiB", "900", "3kb", "-", "1.5 KiB"]);
    let fields = (number, took, size, 0..40i64);
    let record = (1..90_000u64, 0..4000u64, words, fields, 0..12u8).prop_map(|(time, delay, words, fields, kind)| {
        let ((service, region, user), (lat, took, size, code)) = (words, fields);
        let line = match kind {
            0 => format!("lat={lat} user=\"{user}"),
            1 => format!("took={took} user={user}"),
            2 => format!(r#"{{"_entry": "lat={lat} took={took} ctr={code}", "user": "{user}", "n": {code}}}"#),
            3..5 => format!(r#"{{"lat": "{lat}", "took": "{took}", "user": "{user}", "ctr": {code}}}"#),
            5 => format!("\u{1b}[31mlat={lat}\u{1b}[0m user={user} from=10.0.{code}.1"),
            _ => format!("lat={lat} took={took} size={size} user={user} ctr={code}"),
        };
        Arrival { time, delay, service, region, line, code }
    });
    prop::collection::vec(record, 0..60)
}

/// An OTLP request in JSON; no two records have one time, so that their order is theirs alone.
fn request(arrivals: &[(usize, &Arrival)]) -> String {
    let text = |name: &str, value: &str| serde_json::json!({"key": name, "value": {"stringValue": value}});
    let resource_logs = |(index, arrival): &(usize, &Arrival)| {
        let time = happened(*index, arrival).0;
        let code = serde_json::json!({"key": "code", "value": {"intValue": arrival.code.to_string()}});
        let record = serde_json::json!({"timeUnixNano": time.to_string(), "severityNumber": 9 + index % 2 * 8,
            "body": {"stringValue": arrival.line}, "attributes": [text("region", arrival.region), code]});
        serde_json::json!({"resource": {"attributes": [text("service.name", arrival.service)]}, "scopeLogs": [{"logRecords": [record]}]})
    };
    serde_json::json!({"resourceLogs": arrivals.iter().map(resource_logs).collect::<Vec<_>>()}).to_string()
}

fn happened(index: usize, arrival: &Arrival) -> Timestamp {
    after(Duration::from_millis(arrival.time) + Duration::from_nanos(index as u64))
}

/// Batches by the second in which their records are received.
fn batches(arrivals: &[Arrival]) -> Vec<(Timestamp, Vec<u8>)> {
    let mut by_second: BTreeMap<u64, Vec<(usize, &Arrival)>> = BTreeMap::new();
    for (index, arrival) in arrivals.iter().enumerate() {
        by_second.entry((arrival.time + arrival.delay) / 1000 + 1).or_default().push((index, arrival));
    }
    let encoded = |(second, records): (u64, Vec<_>)| {
        let bytes = json::to_protobuf(Signal::Logs, request(&records).as_bytes(), usize::MAX).unwrap();
        (after(Duration::from_secs(second)), bytes)
    };
    by_second.into_iter().map(encoded).collect()
}

fn entries(arrivals: &[Arrival]) -> Vec<OwnedEntry> {
    let all: Vec<_> = arrivals.iter().enumerate().collect();
    let lines = LineLabels { end: after(Duration::from_secs(1000)), ..LineLabels::default() };
    records::sorted(records::parse(request(&all).as_bytes(), Format::Otlp, &lines).unwrap())
}

fn stages() -> impl Strategy<Value = String> {
    let plain = select(vec!["", "", "", r#" |= "user""#, r#" != "eve""#, r#" |~ "ann|bob""#]);
    let odd = select(vec![
        r#" |= "ann" or "bob""#,
        r#" !~ "ann" or "took=[0-9]+ms""#,
        r#" |> "<_>took=<_> <_>""#,
        r#" !> "<_>eve<_>" or "lat=<_> user=bob<_>""#,
        r#" |= ip("10.0.16.0/20")"#,
        r#" != ip("10.0.0.1-10.0.9.1") or "ann""#,
    ]);
    let line = prop_oneof![3 => plain, 1 => odd];
    let common = select(vec![" | logfmt", " | logfmt", " | json", "", r#" | regexp "user=(?P<user>\\w+)""#]);
    let rare = select(vec![
        r#" | pattern "<_>lat=<lat> <_> user=<user> <_>""#,
        " | unpack",
        " | unpack | logfmt",
        " | decolorize | logfmt",
        " | logfmt --strict",
        r#" | logfmt --keep-empty user, lat, much="ctr""#,
        r#" | logfmt --strict --keep-empty"#,
        r#" | json user, lat="lat", whole="[\"took\"]""#,
        " | logfmt | json",
        r#" | json | logfmt | drop __error__"#,
    ]);
    let parser = prop_oneof![3 => common, 2 => rare];
    let filter = select(vec![
        "",
        "",
        "",
        r#" | region="eu""#,
        " | lat > 20",
        r#" | user=~"ann|bob""#,
        " | code >= 10 or lat < 5",
        " | took > 1s",
        " | took <= 80ms or took >= 30m1h",
        " | size >= 3KB",
        r#" | size != 900B and size < 1MiB or region="eu""#,
        r#" | from=ip("10.0.16.0/20")"#,
        r#" | from!=ip("10.0.0.1-10.0.9.1")"#,
        r#" | from=ip("10.0.7.1") or ctr == 0x1p3 | user!="""#,
    ]);
    let change = select(vec![
        "",
        "",
        "",
        r#" | label_format who="{{.user}}-{{.region}}""#,
        " | drop region",
        r#" | drop user="eve", lat=~"1.*""#,
        r#" | keep user=~"ann|bob", region, lat, code"#,
        " | decolorize",
        " | keep user, region, lat, took, size, ctr, code",
        r#" | line_format "{{.user}} {{.code}}""#,
    ]);
    let checked = select(vec![r#" | __error__="""#, r#" | __error__="""#, ""]);
    (line, parser, filter, change, checked).prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat())
}

fn window() -> impl Strategy<Value = String> {
    let offset = select(vec!["", "", "", " offset 5s", " offset 2s", " offset -4s", " offset -30s"]);
    (select(vec!["1s", "5s", "8s", "20s"]), offset).prop_map(|(range, offset)| format!("[{range}]{offset}"))
}

fn selector() -> impl Strategy<Value = &'static str> {
    select(vec![r#"{service_name=~".+"}"#, r#"{service_name=~".+"}"#, r#"{service_name="a"}"#])
}

fn grouping() -> impl Strategy<Value = String> {
    let names = subsequence(vec!["service_name", "region", "user", "who", "code"], 0..3);
    (names, any::<bool>(), 0..4u8).prop_map(|(names, without, given)| match given {
        0 => String::new(),
        _ if without => format!(" without ({})", names.join(", ")),
        _ => format!(" by ({})", names.join(", ")),
    })
}

fn unwrap() -> impl Strategy<Value = String> {
    let label = select(vec!["lat", "lat", "code", "ctr", "duration(took)", "bytes(size)", "duration_seconds(took)"]);
    let behind = select(vec![r#" | __error__="""#, r#" | __error__="""#, r#" | __error__="""#, "", " | lat > 3"]);
    (label, behind).prop_map(|(label, behind)| format!(" | unwrap {label}{behind}"))
}

fn range_aggregation() -> impl Strategy<Value = String> {
    let counting = select(vec!["count_over_time", "rate", "bytes_over_time", "bytes_rate", "absent_over_time"]);
    let counted = (counting, selector(), stages(), window())
        .prop_map(|(function, selector, stages, window)| format!("{function}({selector}{stages} {window})"));
    let measuring = select(vec![
        "sum",
        "avg",
        "min",
        "max",
        "stddev",
        "stdvar",
        "quantile",
        "first",
        "last",
        "rate",
        "rate_counter",
        "absent",
    ]);
    let measured = (measuring, selector(), stages(), unwrap(), window(), grouping(), 0..11u8).prop_map(
        |(function, selector, stages, unwrap, window, grouping, quantile)| match function {
            "rate" | "rate_counter" => format!("{function}({selector}{stages}{unwrap} {window})"),
            "sum" | "absent" => format!("{function}_over_time({selector}{stages}{unwrap} {window})"),
            "quantile" => {
                let quantile = f64::from(quantile) / 10.0;
                format!("quantile_over_time({quantile}, {selector}{stages}{unwrap} {window}){grouping}")
            }
            _ => format!("{function}_over_time({selector}{stages}{unwrap} {window}){grouping}"),
        },
    );
    prop_oneof![2 => counted, 3 => measured]
}

fn expression() -> impl Strategy<Value = String> {
    let aggregated = (select(vec!["sum", "sum", "sum", "max", "count"]), grouping(), range_aggregation())
        .prop_map(|(operator, grouping, expr)| format!("{operator}{grouping} ({expr})"));
    let leaf = prop_oneof![1 => range_aggregation(), 3 => aggregated];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let folding = select(vec!["sum", "avg", "min", "max", "count", "stddev", "stdvar"]);
        let ranking = select(vec!["topk", "bottomk", "sort", "sort_desc", "approx_topk"]);
        let arithmetic = select(vec!["+", "-", "*", "/", "%", "^", ">", "<=", "==", "!= bool", "> bool"]);
        let numbers = select(vec!["2", "0.5", "10", "-1", "vector(1)", "0"]);
        let matching = select(vec![
            "",
            "on (service_name) ",
            "ignoring (user) ",
            "on (region) group_left (user) ",
            "on () group_right () ",
        ]);
        let joining = select(vec!["+", "-", "/", ">", "<=", "and", "or", "unless"]);
        prop_oneof![
            (folding, grouping(), inner.clone()).prop_map(|(op, grouping, expr)| format!("{op}{grouping} ({expr})")),
            (ranking, 1..4u8, inner.clone()).prop_map(|(op, k, expr)| match op {
                "sort" | "sort_desc" => format!("{op}({expr})"),
                _ => format!("{op}({k}, {expr})"),
            }),
            (inner.clone(), arithmetic.clone(), numbers.clone()).prop_map(|(a, op, b)| format!("({a}) {op} {b}")),
            (numbers, arithmetic, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} ({b})")),
            (inner.clone(), joining, matching, inner.clone()).prop_map(|(a, op, matching, b)| {
                let is_set = matches!(op, "and" | "or" | "unless");
                let matching = if is_set && matching.contains("group") { "on (region) " } else { matching };
                format!("({a}) {op} {matching}({b})")
            }),
            (inner, label_replace()).prop_map(|(expr, arguments)| format!("label_replace({expr}, {arguments})")),
        ]
    })
}

fn label_replace() -> impl Strategy<Value = String> {
    let replacement = select(vec!["$1-team", "${1}", "", "fixed", "$2$1", "$9", "$$1"]);
    let regex = select(vec!["(.*)", "(a)|(b)", "a", "(?P<x>.)(.+)", "", "no.+match", "(?i)(EU|BOB)"]);
    let (from, to) =
        (select(vec!["service_name", "region", "user", "none"]), select(vec!["team", "team", "region", "user"]));
    (to, replacement, from, regex)
        .prop_map(|(to, replacement, from, regex)| format!(r#""{to}", "{replacement}", "{from}", "{regex}""#))
}

fn expressions() -> impl Strategy<Value = String> {
    let variants = (expression(), expression())
        .prop_map(|(a, b)| format!(r#"variants({a}, {b}) of ({{service_name=~".+"}} [5s])"#));
    prop_oneof![15 => expression(), 1 => variants]
}

fn plan(expr: &str) -> Arc<Plan> {
    let text =
        format!("groups: [{{name: g, interval: {STEP}s, rules: [{{record: r, expr: {}}}]}}]", serde_json::json!(expr));
    compiled(&text)
}

fn compiled(text: &str) -> Arc<Plan> {
    let file = rule_file::parse("rules.yaml", text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
    let plan = Plan::compile(&[file], &EngineConfig::default());
    Arc::new(plan.unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}")))
}

type Values = BTreeMap<Labels, f64>;

/// What happens to the engine on its way.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Restart,
    /// The rule comes with a reload, and is filled from the log.
    Reload,
    /// The same, filled aside by an engine of its own, of which this part of the log was the past when it began.
    Aside(f64),
}

fn turns() -> impl Strategy<Value = Turn> {
    prop_oneof![Just(Turn::Restart), Just(Turn::Reload), (0.0..1.0).prop_map(Turn::Aside)]
}

/// What the stream has told.
#[derive(Default)]
struct Told {
    /// Since when it has the rule.
    since: u64,
    by_step: BTreeMap<u64, Values>,
    errors: BTreeSet<String>,
}

impl Told {
    fn hear(&mut self, engine: &mut Engine) {
        while let Some(output) = engine.poll_output() {
            if let Output::Sample(sample) = output
                && sample.value.to_bits() != Sample::stale_marker().to_bits()
            {
                let labels = sample.labels.iter().filter(|(name, _)| *name != "__name__");
                let step = sample.time.since(START).as_secs();
                self.by_step.entry(step).or_default().insert(Labels::new(labels), sample.value);
            }
        }
        self.errors.extend(engine.rules().into_iter().filter_map(|rule| rule.last_error));
    }

    fn run_timers(&mut self, engine: &mut Engine, until: Timestamp) {
        while let Some(due) = engine.poll_timeout().filter(|due| *due < until) {
            engine.handle_timeout(due.max(engine.clock()));
            self.hear(engine);
        }
    }
}

fn stream(expr: &str, arrivals: &[Arrival], cut: f64, turn: Turn) -> Told {
    let (plan, batches) = (plan(expr), batches(arrivals));
    let cut = (batches.len() as f64 * cut) as usize;
    let nothing = || Arc::new(Plan::compile(&[], &EngineConfig::default()).unwrap());
    let first = if matches!(turn, Turn::Restart) { plan.clone() } else { nothing() };
    let (mut engine, mut told) = (Engine::new(first, START), Told::default());
    for (index, (received, bytes)) in batches.iter().enumerate() {
        if index == cut {
            turn_engine(&mut engine, &plan, &batches[..index], turn);
            told.since = engine.clock().since(START).as_secs();
        }
        told.run_timers(&mut engine, *received);
        let matched = engine.plan().match_batch(bytes, *received);
        engine.handle_batch(matched, bytes, *received);
        told.hear(&mut engine);
    }
    if cut >= batches.len() {
        turn_engine(&mut engine, &plan, &batches, turn);
        told.since = engine.clock().since(START).as_secs();
    }
    told.run_timers(&mut engine, after(Duration::from_secs(2 * END)));
    told
}

fn turn_engine(engine: &mut Engine, plan: &Arc<Plan>, log: &[(Timestamp, Vec<u8>)], turn: Turn) {
    match turn {
        Turn::Restart => *engine = Engine::restore(plan.clone(), &engine.snapshot()).unwrap(),
        Turn::Reload => {
            engine.replace(plan.clone(), engine.clock());
            let since = engine.fills_since().map_or(START, |since| since.max(START));
            for (received, bytes) in log.iter().filter(|(received, _)| *received >= since) {
                engine.handle_past_batch(&plan.match_batch(bytes, *received), bytes, *received);
            }
            engine.handle_filled(since);
        }
        Turn::Aside(begun) => {
            let filled = filled_aside(engine, plan, log, (log.len() as f64 * begun) as usize);
            engine.replace(plan.clone(), engine.clock());
            engine.adopt(filled);
            engine.handle_filled(engine.clock());
        }
    }
}

fn filled_aside(engine: &Engine, plan: &Arc<Plan>, log: &[(Timestamp, Vec<u8>)], begun: usize) -> Engine {
    let clock = log[..begun].last().map_or(START, |(received, _)| *received);
    let mut filled = Engine::to_fill(plan.clone(), engine.plan(), Duration::MAX, clock);
    let since = filled.fills_since().map_or(START, |since| since.max(START));
    for (index, (received, bytes)) in log.iter().enumerate().filter(|(_, (received, _))| *received >= since) {
        if index >= begun {
            filled.handle_past_known(since);
            filled.handle_past_time(*received);
        }
        filled.handle_past_batch(&plan.match_batch(bytes, *received), bytes, *received);
    }
    filled.handle_past_known(since);
    filled
}

/// What a query has.
enum Answered {
    Values(Values),
    /// A stage failed on a record.
    Failed,
    /// Elements that differ in an empty label alone. In the stream such groups are one where each is judged.
    OfEmpty,
}

/// What a query at a time has, of the records up to that time. Where it fails otherwise, or has elements that are one series, it has nothing.
fn batch(expr: &str, entries: &[OwnedEntry], time: Timestamp) -> Answered {
    let mut query =
        Query::new(expr, When::At(time), Limits::default()).unwrap_or_else(|error| panic!("{expr}: {error}"));
    entries.iter().filter(|entry| entry.time <= time).for_each(|entry| query.add(entry.time, entry).unwrap());
    let answer = match query.answer() {
        Ok(answer) => answer,
        Err(error) if error.kind == QueryErrorKind::Execution && error.message.starts_with("pipeline error") => {
            return Answered::Failed;
        }
        Err(_) => return Answered::Values(Values::new()),
    };
    let Answer::Vector(series) = answer else { panic!("{expr} is a vector") };
    let values: Values = series.iter().map(|series| (series.labels.without_empty(), series.points[0].value)).collect();
    let told_apart = series.iter().map(|series| &series.labels).collect::<BTreeSet<_>>().len();
    match () {
        _ if values.len() == series.len() => Answered::Values(values),
        _ if values.len() < told_apart => Answered::OfEmpty,
        _ => Answered::Values(Values::new()),
    }
}

fn is_same(a: &Values, b: &Values) -> bool {
    let is_equal = |a: f64, b: f64| a.to_bits() == b.to_bits() || a == b || a.is_nan() && b.is_nan();
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && is_equal(*a.1, *b.1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_stream_has_what_a_query_at_that_time_has(
        expr in expressions(), arrivals in arrivals(), cut in 0.0..1.2, turn in turns(),
    ) {
        let (told, entries) = (stream(&expr, &arrivals, cut, turn), entries(&arrivals));
        let begin = match turn {
            Turn::Restart => WARM,
            Turn::Reload | Turn::Aside(_) => WARM.max(told.since + 1).next_multiple_of(STEP),
        };
        for step in (begin..END).step_by(STEP as usize) {
            let told_then = told.by_step.get(&step).cloned().unwrap_or_default();
            match batch(&expr, &entries, after(Duration::from_secs(step))) {
                Answered::OfEmpty => {}
                Answered::Failed => prop_assert!(!told.errors.is_empty(), "a stage failed, and nobody is told: {expr}"),
                Answered::Values(expected) => prop_assert!(
                    is_same(&told_then, &expected), "{expr}\nat {step}s the stream has {told_then:?}\nand the batch {expected:?}"
                ),
            }
        }
    }
}

/// Rules that are judged at the record; their ranges are of three and of five seconds.
fn edges() -> impl Strategy<Value = &'static str> {
    select(vec![
        r#"max_over_time({service_name=~".+"} | logfmt | unwrap lat | __error__="" [5s]) by (user) > 100"#,
        r#"min_over_time({service_name=~".+"} | logfmt | unwrap lat | __error__="" [3s]) by (service_name) <= 40"#,
        r#"max by (region) (sum by (region, user) (count_over_time({service_name=~".+"} |= "user" [5s]))) >= 2"#,
        r#"max(max_over_time({service_name="a"} | logfmt | unwrap code | __error__="" [5s]) by (user)) > 20"#,
        r#"min by (user) (min_over_time({service_name=~".+"} | unwrap code [5s]) by (region, user)) < 10"#,
        r#"sum by (service_name) (sum by (user, service_name) (count_over_time({service_name=~".+"} | logfmt | __error__="" [5s]))) > 2"#,
        r#"7 < 1 + 2 * (sum by (region) (count_over_time({service_name=~".+"} [5s])) + sum by (region) (count_over_time({service_name="a"} [3s])))"#,
        r#"max_over_time({service_name=~".+"} | unwrap code [3s]) by (region) - 5 + sum by (region) (rate({service_name=~".+"} [5s])) > 30"#,
        r#"sum by (user) (bytes_over_time({service_name=~".+"} | logfmt | __error__="" [5s]))"#,
    ])
}

/// From when until when the expression has an element, by its labels; a gap shorter than the rule's interval is none.
fn holding(expr: &str, entries: &[OwnedEntry]) -> BTreeSet<(Labels, Timestamp, Timestamp)> {
    let ranges = [0, 3, 5].map(Duration::from_secs);
    let changes: BTreeSet<Timestamp> =
        entries.iter().flat_map(|entry| ranges.map(|range| entry.time + range)).collect();
    let mut open: BTreeMap<Labels, (Timestamp, Timestamp)> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (at, next) in changes.iter().zip(changes.iter().skip(1)) {
        let Answered::Values(values) = batch(expr, entries, *at) else { panic!("{expr}") };
        for labels in values.into_keys() {
            match open.get_mut(&labels) {
                Some((_, until)) if at.since(*until) < INTERVAL => *until = *next,
                _ => {
                    let before = open.insert(labels.clone(), (*at, *next));
                    all.extend(before.map(|(from, until)| (labels, from, until)));
                }
            }
        }
    }
    all.extend(open.into_iter().map(|(labels, (from, until))| (labels, from, until)));
    all
}

const INTERVAL: Duration = Duration::from_secs(1);

/// The same as alerts tell it, where each record comes when it happens.
fn firing(expr: &str, arrivals: &[Arrival]) -> BTreeSet<(Labels, Timestamp, Timestamp)> {
    let text = format!("groups: [{{name: g, interval: 1s, rules: [{{alert: A, expr: {}}}]}}]", serde_json::json!(expr));
    let mut engine = Engine::new(compiled(&text), START);
    let mut order: Vec<_> = arrivals.iter().enumerate().collect();
    order.sort_by_key(|(index, arrival)| (arrival.time, *index));
    let mut all = BTreeSet::new();
    let mut hear = |engine: &mut Engine| {
        while let Some(output) = engine.poll_output() {
            let Output::Transition(transition) = output else { continue };
            let labels = transition.alert.labels.iter().filter(|(name, _)| *name != "alertname");
            match (transition.from, transition.to) {
                (AlertState::Inactive, AlertState::Firing) => assert_eq!(transition.at, transition.alert.active_at),
                (AlertState::Firing, AlertState::Inactive) => {
                    _ = all.insert((Labels::new(labels), transition.alert.active_at, transition.at - INTERVAL));
                }
                _ => {}
            }
        }
    };
    let mut run_timers = |engine: &mut Engine, until: Timestamp| {
        while let Some(due) = engine.poll_timeout().filter(|due| *due < until) {
            engine.handle_timeout(due.max(engine.clock()));
            hear(engine);
        }
    };
    for (index, arrival) in order {
        let received = happened(index, arrival);
        run_timers(&mut engine, received);
        let bytes = json::to_protobuf(Signal::Logs, request(&[(index, arrival)]).as_bytes(), usize::MAX).unwrap();
        let matched = engine.plan().match_batch(&bytes, received);
        engine.handle_batch(matched, &bytes, received);
    }
    run_timers(&mut engine, after(Duration::from_secs(2 * END)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn an_edge_holds_from_the_record_that_makes_it_true_until_it_is_false(expr in edges(), arrivals in arrivals()) {
        prop_assert_eq!(firing(expr, &arrivals), holding(expr, &entries(&arrivals)), "{}", expr);
    }
}

/// Rules whose windows a fill has to make, of each kind.
fn filled_rules() -> impl Strategy<Value = &'static str> {
    select(vec![
        r#"{alert: A, expr: 'sum by (service_name, region) (count_over_time({service_name=~".+"} [20s])) > 2'}"#,
        r#"{alert: A, for: 3s, expr: 'max_over_time({service_name=~".+"} | unwrap code [20s]) by (region) > 20'}"#,
        r#"{alert: A, expr: 'quantile_over_time(0.5, {service_name=~".+"} | unwrap code [20s]) by (service_name) > 20'}"#,
        r#"{alert: A, expr: 'absent_over_time({service_name="a"} [5s]) or sum(count_over_time({service_name="b"}[8s] offset 8s)) < 3'}"#,
        r#"{alert: A, expr: 'count by (region) (count_over_time({service_name=~".+"} | logfmt [20s])) > 3'}"#,
        r#"{alert: A, detect: {distinct: {where: '{service_name=~".+"} | logfmt', label: user, by: [region], more_than: 2, window: 20s}}}"#,
        r#"{alert: A, detect: {sequence: {first: '{service_name="a"}', then: '{service_name="b"}', by: [region], within: 5s, window: 20s}}}"#,
        r#"{alert: A, detect: {sequence: {first: '{service_name="a"}', without: '{service_name="b"}', by: [region], within: 5s, window: 20s}}}"#,
    ])
}

/// All that the engine says whose rule comes with the turn, as text: a stale marker is equal to none.
fn said(rule: &str, arrivals: &[Arrival], cut: f64, turn: Turn) -> Vec<String> {
    // No group has more records than are kept as evidence: which those are would hang on how far back was read.
    let plan = compiled(&format!("groups: [{{name: g, interval: 1s, watchbell: {{samples: 100}}, rules: [{rule}]}}]"));
    let (batches, mut outputs) = (batches(arrivals), Vec::new());
    let cut = (batches.len() as f64 * cut) as usize;
    let mut engine = Engine::new(Arc::new(Plan::compile(&[], &EngineConfig::default()).unwrap()), START);
    for (index, (received, bytes)) in batches.iter().enumerate() {
        if index == cut {
            turn_engine(&mut engine, &plan, &batches[..index], turn);
        }
        let matched = engine.plan().match_batch(bytes, *received);
        engine.handle_batch(matched, bytes, *received);
        outputs.extend(std::iter::from_fn(|| engine.poll_output()));
    }
    while let Some(due) = engine.poll_timeout().filter(|due| *due < after(Duration::from_secs(2 * END))) {
        engine.handle_timeout(due.max(engine.clock()));
        outputs.extend(std::iter::from_fn(|| engine.poll_output()));
    }
    outputs.iter().map(|output| format!("{output:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_that_was_filled_aside_says_what_one_says_that_is_filled_at_once(
        rule in filled_rules(), arrivals in arrivals(), cut in 0.0..1.0, begun in 0.0..1.0,
    ) {
        prop_assert_eq!(said(rule, &arrivals, cut, Turn::Aside(begun)), said(rule, &arrivals, cut, Turn::Reload));
    }
}
