//! Properties: against a model that looks at every second and every record, and between two ways to the same end.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use watchbell_rules::engine::{Engine, Output, RuleStatus};
use watchbell_rules::labels::Labels;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::{AlertState, Transition};

use crate::records::{START, TestRecord, after, batch};

const RANGE: u64 = 10;
const INTERVAL: u64 = 15;
const LATENESS: u64 = 5;
const END: u64 = 200;

/// When records happened, and when they were received: seconds.
fn arrivals() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let record = (1..100u64, prop_oneof![3 => Just(0), 2 => 0..5u64, 1 => 0..20u64]);
    prop::collection::vec(record.prop_map(|(time, delay)| (time, time + delay)), 0..60)
}

fn edge_rule(bound: usize, hold: u64) -> Arc<Plan> {
    plan(&format!(
        r#"groups: [{{name: g, interval: {INTERVAL}s, rules: [{{alert: A, for: {hold}s, watchbell: {{lateness: {LATENESS}s}},
        expr: 'sum(count_over_time({{service_name="a"}}[{RANGE}s])) > {bound}'}}]}}]"#
    ))
}

fn plan(text: &str) -> Arc<Plan> {
    let file = rule_file::parse("rules.yaml", text).unwrap();
    Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap())
}

/// Records in batches, one a second, by the time they are received.
fn batches(arrivals: &[(u64, u64)]) -> Vec<(Timestamp, Vec<u8>)> {
    (0..END)
        .filter_map(|second| {
            let here = arrivals.iter().filter(|(_, received)| *received == second);
            let records: Vec<_> = here.map(|(time, _)| record("a", *time, 9)).collect();
            (!records.is_empty()).then(|| (after(Duration::from_secs(second)), batch(&records)))
        })
        .collect()
}

fn record(service: &str, second: u64, severity: i32) -> TestRecord {
    let (service, body) = (service.to_owned(), format!("n={second}"));
    TestRecord { time: after(Duration::from_secs(second)), service, severity, body, ..TestRecord::default() }
}

/// Feeds batches, with the clock frames that the engine asks for in between.
fn feed(engine: &mut Engine, batches: &[(Timestamp, Vec<u8>)]) -> Vec<Output> {
    let mut outputs = Vec::new();
    for (received, bytes) in batches {
        run_timers(engine, *received, &mut outputs);
        let matched = engine.plan().match_batch(bytes, *received);
        engine.handle_batch(matched, bytes, *received);
        outputs.extend(std::iter::from_fn(|| engine.poll_output()));
    }
    outputs
}

fn run_timers(engine: &mut Engine, until: Timestamp, outputs: &mut Vec<Output>) {
    while let Some(due) = engine.poll_timeout().filter(|due| *due < until) {
        engine.handle_timeout(due.max(engine.clock()));
        outputs.extend(std::iter::from_fn(|| engine.poll_output()));
    }
}

fn finish(engine: &mut Engine) -> Vec<Output> {
    let mut outputs = Vec::new();
    run_timers(engine, after(Duration::from_secs(2 * END)), &mut outputs);
    outputs
}

/// State, second, and second since which it is active.
type Change = (AlertState, u64, u64);

fn changes(outputs: &[Output]) -> Vec<Change> {
    let second = |time: Timestamp| time.since(START).as_secs();
    let transitions =
        outputs.iter().filter_map(|output| if let Output::Transition(t) = output { Some(t) } else { None });
    let transitions = transitions.filter(|transition| transition.from != transition.to);
    transitions.map(|transition| (transition.to, second(transition.at), second(transition.alert.active_at))).collect()
}

/// The condition at every second, as it was judged when that second, or one of the next few, was the present.
struct Model<'a> {
    arrivals: &'a [(u64, u64)],
    bound: usize,
    hold: u64,
    truth: Vec<bool>,
    state: AlertState,
    active_at: u64,
    changes: Vec<Change>,
}

impl<'a> Model<'a> {
    fn run(arrivals: &'a [(u64, u64)], bound: usize, hold: u64) -> Vec<Change> {
        let truth = vec![false; END as usize + 1];
        let mut model =
            Self { arrivals, bound, hold, truth, state: AlertState::Inactive, active_at: 0, changes: Vec::new() };
        for now in 0..END {
            model.judge(now, now, false);
            let new = arrivals.iter().filter(|(_, received)| *received == now).map(|(time, _)| *time).min();
            if let Some(new) = new {
                model.judge(new.max(now.saturating_sub(LATENESS)), now, true);
            }
        }
        model.changes
    }

    /// Judges the seconds from `from` on by what is known at `now`, with or without what is received then.
    fn judge(&mut self, from: u64, now: u64, arrived: bool) {
        let known = self.arrivals.iter().filter(|(_, received)| *received < now || arrived && *received == now);
        let known: Vec<u64> = known.map(|(time, _)| *time).collect();
        for t in from..=now {
            let count = known.iter().filter(|time| **time <= t && **time + RANGE > t).count();
            self.truth[t as usize] |= count > self.bound;
        }
        while let Some((state, active_at)) = self.next(from, now, arrived) {
            self.active_at = active_at;
            if state != self.state {
                self.state = state;
                self.changes.push((state, now, active_at));
            }
        }
    }

    fn next(&self, from: u64, now: u64, arrived: bool) -> Option<(AlertState, u64)> {
        let first_true = |from: u64| (from..=now).find(|t| self.truth[*t as usize]);
        let first_false = |from: u64| (from..=now).find(|t| !self.truth[*t as usize]).unwrap_or(u64::MAX / 2);
        match self.state {
            AlertState::Inactive if !arrived => None,
            AlertState::Inactive => {
                let state = if self.hold == 0 { AlertState::Firing } else { AlertState::Pending };
                first_true(from).map(|at| (state, at))
            }
            AlertState::Pending => {
                let (fires, falls) = (self.active_at + self.hold, first_false(self.active_at));
                match first_true(falls) {
                    _ if now >= fires && falls > fires => Some((AlertState::Firing, self.active_at)),
                    Some(again) => Some((AlertState::Pending, again)),
                    None => (now >= falls + LATENESS).then_some((AlertState::Inactive, self.active_at)),
                }
            }
            AlertState::Firing => {
                let last = (0..=now).rev().find(|t| self.truth[*t as usize])?;
                (now > last + INTERVAL).then_some((AlertState::Inactive, self.active_at))
            }
        }
    }
}

/// Alerts of all kinds and recording rules, over two services.
static MIXED: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    plan(
        r#"
groups:
  - name: g
    interval: 15s
    rules:
      - {alert: Count, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[10s])) > 2', for: 3s, annotations: {v: '{{ $value }}'}}
      - {alert: Rate, expr: 'sum(rate({service_name=~".+"} | severity_number >= 17 [20s])) >= 0.2', keep_firing_for: 20s}
      - {alert: Bytes, expr: 'sum(bytes_over_time({service_name="a"}[10s])) > 10'}
      - {alert: Few, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[10s])) < 2', for: 2s}
      - {alert: Silent, expr: 'absent_over_time({service_name="b"}[8s])', watchbell: {idle_timeout: 20s}}
      - {alert: Ratio, expr: 'sum(count_over_time({service_name="a"}[10s])) / sum(count_over_time({service_name=~".+"}[10s])) > 0.6'}
      - {alert: Ticked, expr: 'sum(count_over_time({service_name="a"}[10s])) > 1', watchbell: {eval: tick}}
      - {record: r, expr: 'avg(sum by (service_name) (count_over_time({service_name=~".+"}[10s])))'}
"#,
    )
});

/// Rules that are judged at steps, of all kinds that a time away matters to.
static AWAY: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    plan(
        r#"
groups:
  - name: g
    interval: 15s
    rules:
      - {alert: Few, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[10s])) < 2', for: 30s}
      - {alert: Silent, expr: 'absent_over_time({service_name="b"}[8s])', watchbell: {idle_timeout: 20s}}
      - {alert: Back, expr: 'absent_over_time({service_name="b"}[8s] offset 40s)', keep_firing_for: 1m}
      - {alert: Ratio, expr: 'sum by (service_name) (count_over_time({service_name=~".+"} | severity_number >= 17 [1m])) / sum by (service_name) (count_over_time({service_name=~".+"}[1m])) > 0.4', for: 5s}
      - {alert: Gone, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[2m])) unless sum by (service_name) (count_over_time({service_name=~".+"}[10s]))', for: 20s}
      - {alert: Both, expr: 'sum(rate({service_name="a"}[1m])) > 0 and sum(rate({service_name="b"}[40s])) > 0', for: 20s}
      - {alert: Later, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[10s] offset 50s)) > 1', watchbell: {lateness: 20s}}
      - {alert: Sums, expr: 'sum(sum by (service_name) (rate({service_name=~".+"}[30s]))) > 0.1'}
      - {alert: Odd, expr: 'topk(1, sum by (service_name) (count_over_time({service_name=~".+"}[20s]))) != 2'}
      - {alert: Slow, expr: 'quantile_over_time(0.5, {service_name=~".+"} | logfmt | unwrap n [30s]) by (service_name) > 40'}
      - {alert: Counter, expr: 'rate_counter({service_name=~".+"} | logfmt | unwrap n [30s]) > 0.5'}
      - {alert: Ticked, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[50s])) > 1', watchbell: {eval: tick}, labels: {v: '{{ $value }}'}}
      - {record: r, expr: 'avg(sum by (service_name) (count_over_time({service_name=~".+"}[10s])))'}
      - {record: o, expr: 'sum by (service_name) (count_over_time({service_name=~".+"}[10s] offset 1m))'}
"#,
    )
});

/// Conditions that could hold because records from before are not known.
fn not_whole() -> impl Strategy<Value = String> {
    const A: &str = r#"sum by (service_name) (count_over_time({service_name=~".+"}"#;
    prop::sample::select(vec![
        format!("{A}[10s])) unless {A}[30s] offset 10s))"),
        format!("{A}[30s])) > 1 unless {A} | severity_number >= 17 [20s])) > 1"),
        format!("{A}[10s])) >= 2 * {A}[10s] offset 10s))"),
        format!("{A}[20s])) == 2"),
        format!("{A}[20s])) != 2"),
        format!("2 > {A}[20s]))"),
        format!("{A}[5s])) / {A}[30s])) > 0.5"),
        format!("{A}[5s])) - {A}[30s] offset 5s)) > 0"),
        format!("{A}[10s])) < 2 or ({A}[40s])) unless {A}[10s])))"),
        format!("{A}[10s])) unless ({A}[30s] offset 10s)) < 3)"),
        format!("topk(1, {A}[10s])) > -1 * {A}[20s])) + 5)"),
        format!("{A}[10s])) >= 2 and {A}[20s])) <= 3"),
        r#"min_over_time({service_name=~".+"} | logfmt | unwrap n [20s]) by (service_name) > 40"#.to_owned(),
        r#"max_over_time({service_name=~".+"} | logfmt | unwrap n [5s]) by (service_name) > max_over_time({service_name=~".+"} | logfmt | unwrap n [20s] offset 5s) by (service_name)"#.to_owned(),
        r#"avg_over_time({service_name=~".+"} | logfmt | unwrap n [5s]) by (service_name) / avg_over_time({service_name=~".+"} | logfmt | unwrap n [40s]) by (service_name) > 1.2"#.to_owned(),
    ])
}

/// From when until when alerts fired that wait for nothing.
fn firing(outputs: &[Output]) -> Vec<(Labels, Timestamp, Timestamp)> {
    let mut all: Vec<(Labels, Timestamp, Timestamp)> = Vec::new();
    for output in outputs {
        let Output::Transition(Transition { from, to, alert, at, .. }) = output else { continue };
        match (from, to) {
            (AlertState::Inactive, AlertState::Firing) => {
                all.push((alert.labels.clone(), alert.active_at, Timestamp::MAX));
            }
            (AlertState::Firing, AlertState::Inactive) => {
                let open = all.iter_mut().rfind(|(labels, ..)| *labels == alert.labels);
                open.into_iter().for_each(|(.., until)| *until = *at);
            }
            _ => {}
        }
    }
    all
}

/// What is said when nobody listens for a while, some seconds after one another and each time for so long.
fn feed_away(engine: &mut Engine, arrivals: &[(u64, u64, bool, bool)], away: &[(u64, u64)]) -> Vec<Output> {
    let mut outputs = Vec::new();
    let (mut batches, mut gone) = (mixed_batches(arrivals), Duration::ZERO);
    for (heard, seconds) in away {
        let until = START + gone + Duration::from_secs(*heard);
        let behind = batches.iter().position(|(received, _)| *received + gone > until).unwrap_or(batches.len());
        let mut heard: Vec<_> = batches.drain(..behind).collect();
        heard.iter_mut().for_each(|(received, _)| *received = *received + gone);
        outputs.extend(feed(engine, &heard));
        run_timers(engine, until, &mut outputs);
        let from = until.max(engine.clock());
        engine.handle_gap(from, from + Duration::from_secs(*seconds));
        outputs.extend(std::iter::from_fn(|| engine.poll_output()));
        gone += Duration::from_secs(*seconds);
    }
    batches.iter_mut().for_each(|(received, _)| *received = *received + gone);
    outputs.extend(feed(engine, &batches));
    run_timers(engine, after(gone + Duration::from_secs(2 * END)), &mut outputs);
    outputs
}

fn mixed_batches(arrivals: &[(u64, u64, bool, bool)]) -> Vec<(Timestamp, Vec<u8>)> {
    let mut batches = Vec::new();
    for second in 0..END {
        let here = arrivals.iter().filter(|(time, delay, ..)| time + delay == second);
        let records: Vec<_> = here
            .map(|(time, _, b, error)| record(if *b { "b" } else { "a" }, *time, if *error { 17 } else { 9 }))
            .collect();
        if !records.is_empty() {
            batches.push((after(Duration::from_secs(second)), batch(&records)));
        }
    }
    batches
}

fn mixed_arrivals(delay_max: u64) -> impl Strategy<Value = Vec<(u64, u64, bool, bool)>> {
    prop::collection::vec((1..100u64, 0..=delay_max, any::<bool>(), any::<bool>()), 0..80)
}

/// Stale markers are not equal to themselves, so outputs are compared as text.
fn first_difference(a: &[Output], b: &[Output]) -> Option<(String, String)> {
    let lines = |outputs: &[Output]| outputs.iter().map(|output| format!("{output:?}")).collect::<Vec<_>>();
    let (a, b) = (lines(a), lines(b));
    let at = (0..a.len().max(b.len())).find(|at| a.get(*at) != b.get(*at))?;
    let (a, b) = (a.get(at).cloned().unwrap_or_default(), b.get(at).cloned().unwrap_or_default());
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count().saturating_sub(100);
    Some((a.chars().skip(same).take(300).collect(), b.chars().skip(same).take(300).collect()))
}

/// What does not depend on when records were received: samples of recording rules, and each alert's path. The values that a firing
/// alert passes through are seen by the clock.
fn essence(outputs: &[Output]) -> Vec<String> {
    let mut lines: Vec<String> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Transition(t)
                if t.from != t.to
                    && !["Count", "Rate", "Bytes"].contains(&t.alert.labels.get("alertname").unwrap()) =>
            {
                Some(format!("{} {:?} {:?} {}", t.alert.labels, t.alert.active_at, t.to, t.alert.value))
            }
            Output::Sample(sample) if sample.labels.get("__name__") == Some("r") => Some(format!("{sample:?}")),
            _ => None,
        })
        .collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn edges_are_what_looking_at_every_second_finds(arrivals in arrivals(), bound in 0..4usize, hold in 0..8u64) {
        let mut engine = Engine::new(edge_rule(bound, hold), START);
        let mut outputs = feed(&mut engine, &batches(&arrivals));
        outputs.extend(finish(&mut engine));
        prop_assert_eq!(changes(&outputs), Model::run(&arrivals, bound, hold));
    }

    #[test]
    fn late_records_change_nothing_that_is_judged_behind_the_watermark(arrivals in mixed_arrivals(4)) {
        let in_time: Vec<_> = arrivals.iter().map(|(time, _, b, error)| (*time, 0, *b, *error)).collect();
        let run = |arrivals: &[(u64, u64, bool, bool)]| {
            let mut engine = Engine::new(MIXED.clone(), START);
            let mut outputs = feed(&mut engine, &mixed_batches(arrivals));
            outputs.extend(finish(&mut engine));
            essence(&outputs)
        };
        prop_assert_eq!(run(&arrivals), run(&in_time));
    }

    #[test]
    fn a_restart_anywhere_changes_no_output(arrivals in mixed_arrivals(20), cut in 0.0..1.0) {
        let (plan, batches) = (MIXED.clone(), mixed_batches(&arrivals));
        let mut whole = Engine::new(plan.clone(), START);
        let mut expected = feed(&mut whole, &batches);
        expected.extend(finish(&mut whole));

        let (before, rest) = batches.split_at((batches.len() as f64 * cut) as usize);
        let mut engine = Engine::new(plan.clone(), START);
        let mut outputs = feed(&mut engine, before);
        let mut engine = Engine::restore(plan, &engine.snapshot()).unwrap();
        outputs.extend(feed(&mut engine, rest));
        outputs.extend(finish(&mut engine));
        prop_assert_eq!(first_difference(&outputs, &expected), None);
        prop_assert_eq!(whole.snapshot(), engine.snapshot());
    }

    #[test]
    fn after_a_time_away_all_is_as_if_each_step_were_taken(arrivals in mixed_arrivals(20), away in prop::collection::vec((1..100u64, 4..300u64), 1..3)) {
        let plan = AWAY.clone();
        let (mut leaping, mut stepping) = (Engine::new(plan.clone(), START), Engine::new(plan, START).without_leaps());
        let (outputs, expected) = (feed_away(&mut leaping, &arrivals, &away), feed_away(&mut stepping, &arrivals, &away));
        prop_assert_eq!(first_difference(&outputs, &expected), None);
        let statuses = |engine: &Engine| {
            // A rule that sleeps is not evaluated.
            let statuses = engine.rules().into_iter().map(|status| RuleStatus { last_evaluation: None, ..status });
            statuses.collect::<Vec<_>>()
        };
        prop_assert_eq!(statuses(&leaping), statuses(&stepping));
        prop_assert!(leaping.stats().evaluations <= stepping.stats().evaluations);
    }

    #[test]
    fn what_is_told_of_a_log_that_begins_late_is_true_of_a_whole_one(arrivals in mixed_arrivals(0), expr in not_whole(), begins in 0..90u64) {
        let text = format!("groups: [{{name: g, interval: 1s, rules: [{{alert: A, expr: '{expr}'}}]}}]");
        let (plan, batches, begins) = (plan(&text), mixed_batches(&arrivals), after(Duration::from_secs(begins)));
        let heard: Vec<_> = batches.iter().filter(|(received, _)| *received > begins).cloned().collect();
        let told = |engine: &mut Engine, batches: &[_]| {
            let mut outputs = feed(engine, batches);
            outputs.extend(finish(engine));
            firing(&outputs)
        };
        let whole = told(&mut Engine::new(plan.clone(), START), &batches);
        for (labels, from, until) in told(&mut Engine::new(plan, begins), &heard) {
            let is_true = whole.iter().any(|(other, since, to)| *other == labels && *since <= from && from < *to);
            prop_assert!(is_true, "{expr}: {labels} from {from} until {until}, but {whole:?}");
        }
    }

    #[test]
    fn matching_hangs_on_no_hash_seed(arrivals in mixed_arrivals(0)) {
        let plan = MIXED.clone();
        let records: Vec<_> = arrivals.iter().map(|(time, _, b, _)| record(if *b { "b" } else { "a" }, *time, 9)).collect();
        let (bytes, received) = (batch(&records), after(Duration::from_secs(END)));
        prop_assert_eq!(plan.match_batch(&bytes, received), plan.match_batch(&bytes, received));
    }
}

#[test]
fn a_batch_that_was_matched_by_rules_since_replaced_is_judged_by_the_new_ones() {
    let other =
        plan("groups: [{name: g, rules: [{alert: B, expr: 'sum(count_over_time({service_name=\"b\"}[1m])) > 0'}]}]");
    let (bytes, received) = (batch(&[record("a", 1, 9)]), after(Duration::from_secs(1)));
    let mut engine = Engine::new(other.clone(), START);
    engine.replace(edge_rule(0, 0), START);
    engine.handle_batch(other.match_batch(&bytes, received), &bytes, received);
    let outputs: Vec<_> = std::iter::from_fn(|| engine.poll_output()).collect();
    assert_eq!(changes(&outputs), [(AlertState::Firing, 1, 1)]);
}

#[test]
fn a_damaged_snapshot_is_refused() {
    use watchbell_rules::snapshot::SnapshotError;
    let snapshot = Engine::new(MIXED.clone(), START).snapshot();
    for at in 0..snapshot.len() {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 1;
        let expected = if at < 4 { SnapshotError::Format } else { SnapshotError::Checksum };
        assert_eq!(Engine::restore(MIXED.clone(), &damaged).unwrap_err(), expected);
        assert!(Engine::restore(MIXED.clone(), &snapshot[..at]).is_err());
    }
}

/// It is the same but for the gaps, which stand behind the rest.
#[test]
fn a_snapshot_from_before_gaps_were_known_of_is_taken_up() {
    let mut engine = Engine::new(MIXED.clone(), START);
    let (bytes, received) = (batch(&[record("a", 1, 9)]), after(Duration::from_secs(1)));
    engine.handle_batch(MIXED.match_batch(&bytes, received), &bytes, received);
    let snapshot = engine.snapshot();
    let state = snapshot[12..].strip_suffix(&[0]).expect("no gaps");
    let before = [b"WBE7", &xxhash_rust::xxh3::xxh3_64(state).to_le_bytes()[..], state].concat();
    assert_eq!(Engine::restore(MIXED.clone(), &before).unwrap().snapshot(), snapshot);
}
