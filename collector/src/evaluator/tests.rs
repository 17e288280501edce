//! What is known of a message that was sent, over snapshots and disk failures.

use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::plan::EngineConfig;

use super::rule_set::RuleFileText;
use super::snapshot::SnapshotStore;
use super::*;
use crate::memory_log::MemoryLog;
use crate::notify::DeliveryError;
use crate::outbox::{Metrics, OutboxConfig};
use crate::wal::AppendError;

const RULES: &str = r#"
groups:
  - name: g
    rules: [{alert: Boom, expr: 'sum by (service_name) (count_over_time({service_name="s"} |= "boom" [1h])) > 0'}]
"#;

fn outbox() -> Outbox {
    Outbox::new(OutboxConfig::default(), 7, Metrics::default())
}

fn frame(at: u64, kind: FrameKind, payload: Bytes) -> Frame {
    let received = Timestamp(1_700_000_000_000_000_000 + at as i64);
    Frame {
        position: Position(at),
        next: Position(at + 1),
        kind,
        received,
        ahead: Duration::ZERO,
        hash: at,
        event_span: None,
        records: 1,
        payload,
    }
}

fn boom() -> Bytes {
    let resource = encode::resource([("service.name", AnyValue::String("s"))]);
    let mut out = Vec::new();
    encode::put_resource_logs(&mut out, &resource, |out| {
        encode::put_scope_logs(out, &encode::scope("test", ""), |out| {
            encode::put_log_record(out, |record| {
                record.time_unix_nano(1_700_000_000_000_000_000);
                record.body_fmt(format_args!("boom"));
            });
        });
    });
    out.into()
}

/// An evaluator that has a message to send, and the message.
fn paging() -> (Evaluator, Arc<Notification>) {
    let files = vec![RuleFileText { path: "rules.yaml".to_owned(), text: RULES.to_owned() }];
    let rules = RuleSet { files, ..RuleSet::default() };
    let mut evaluator = Evaluator::new(Position(0), Arc::new(MemoryLog::new()), outbox());
    evaluator.handle_frame(&frame(0, FrameKind::Rules, rules.to_bytes().into()));
    evaluator.handle_frame(&frame(1, FrameKind::Batch, boom()));
    evaluator.handle_durable(Position(2));
    let sent = outputs(&mut evaluator).into_iter().find_map(|output| match output {
        Output::Send(notification) => Some(notification),
        _ => None,
    });
    (evaluator, sent.expect("the burst pages"))
}

fn outputs(evaluator: &mut Evaluator) -> Vec<Output> {
    std::iter::from_fn(|| evaluator.poll_output(Duration::ZERO)).collect()
}

fn restored(snapshot: &[u8]) -> Evaluator {
    Evaluator::restore(snapshot, Arc::new(MemoryLog::new()), outbox()).unwrap()
}

/// The outcomes that are to be appended; nothing else may be due.
fn appended(evaluator: &mut Evaluator) -> Vec<Outcome> {
    let outcome = |output| match output {
        Output::Append(frame) => Outcome::from_bytes(&frame.payload).unwrap(),
        other => panic!("{other:?}"),
    };
    outputs(evaluator).into_iter().map(outcome).collect()
}

#[test]
fn a_snapshot_between_a_result_and_its_frame_loses_neither() {
    for result in [Ok(()), Err(DeliveryError::Permanent("400".to_owned()))] {
        let (mut evaluator, sent) = paging();
        evaluator.handle_result(&sent.key, result.clone(), Duration::ZERO);
        let mut after = restored(&evaluator.snapshot());
        let outcomes = appended(&mut after);
        let told: Vec<_> = outcomes.iter().map(|outcome| (&outcome.key, outcome.delivered)).collect();
        assert_eq!(told, [(&sent.key, result.is_ok())]);
        after.handle_frame(&frame(2, FrameKind::Outcome, outcomes[0].to_bytes().into()));
        after.handle_durable(Position(3));
        assert_eq!(after.outbox().told().count(), 0);
        after.handle_frame(&frame(600_000_000_000, FrameKind::Clock, Bytes::new()));
        after.handle_durable(after.position());
        let again = outputs(&mut after).iter().filter(|output| matches!(output, Output::Send(_))).count();
        assert_eq!(again, usize::from(result.is_err()), "ten minutes later, a refused page is said again");
    }
}

#[test]
fn what_was_told_is_not_sent_again_when_the_state_is_folded_again() {
    let (mut evaluator, sent) = paging();
    let before = evaluator.snapshot();
    evaluator.handle_result(&sent.key, Ok(()), Duration::ZERO);
    let outcome = appended(&mut evaluator).remove(0);
    evaluator.handle_frame(&frame(2, FrameKind::Outcome, outcome.to_bytes().into()));
    // The disk fails under the outcome's frame.
    let mut again = restored(&before);
    again.handle_told(&evaluator);
    assert_eq!(appended(&mut again), [outcome]);
}

/// Its evaluator would pass over what is appended up to there.
#[test]
fn a_snapshot_of_another_log_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(&folder.path().join("a/b")).unwrap();
    let (evaluator, _) = paging();
    store.store(Position(2), &evaluator.snapshot()).unwrap();
    let load = |end| {
        let restore = |bytes: &[u8]| Evaluator::restore(bytes, Arc::new(MemoryLog::new()), outbox());
        store.load(Position(end), restore).unwrap().map(|evaluator| evaluator.position())
    };
    assert_eq!(load(2), Some(Position(2)));
    assert_eq!(load(1), None);
    assert_eq!(load(9), None, "though the log has grown past it");
    let names: Vec<_> =
        std::fs::read_dir(folder.path().join("a/b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["00000000000000000002.of-another-log"]);
}

/// However long that has grown.
#[test]
fn a_snapshot_goes_with_the_log_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(folder.path()).unwrap();
    let log = |identity| Arc::new(MemoryLog::with_identity(identity));
    let load = |identity| {
        let restore = |bytes: &[u8]| Evaluator::restore(bytes, log(identity), outbox());
        store.load(Position(9), restore).unwrap().map(|evaluator| evaluator.position())
    };
    let mut evaluator = Evaluator::new(Position(0), log(Some(7)), outbox());
    evaluator.handle_frame(&frame(1, FrameKind::Clock, Bytes::new()));
    store.store(Position(2), &evaluator.snapshot()).unwrap();
    assert_eq!(load(Some(7)), Some(Position(2)));
    assert_eq!(load(None), Some(Position(2)), "the log has nothing there any more");
    assert_eq!(load(Some(8)), None);
    assert_eq!(load(Some(7)), None, "it was put aside");
    store.store(Position(2), &paging().0.snapshot()).unwrap();
    assert_eq!(load(Some(8)), Some(Position(2)), "of which log it is was not asked yet");
}

#[test]
fn the_log_says_how_its_rules_are_judged() {
    let files = vec![RuleFileText { path: "rules.yaml".to_owned(), text: RULES.to_owned() }];
    let engine = EngineConfig { interval: Duration::from_secs(7), ..EngineConfig::default() };
    let rules = RuleSet { files, engine, ..RuleSet::default() };
    let mut evaluator = Evaluator::new(Position(0), Arc::new(MemoryLog::new()), outbox());
    evaluator.handle_frame(&frame(0, FrameKind::Rules, rules.to_bytes().into()));
    for evaluator in [restored(&evaluator.snapshot()), evaluator] {
        assert_eq!(evaluator.status()[0].interval, Duration::from_secs(7));
    }
}

#[test]
fn a_rules_frame_holds_every_setting_and_one_of_before_is_read() {
    let text = r#"{"labels": {"index_resource_attributes": ["a.b"], "discover_service_name": []}, "external_url": "http://x", "external_labels": {"a": "b"},
        "links": {"trace": "http://x/{{ .TraceID }}"}, "interval": "1m30s", "lateness": "1ms", "idle_timeout": "1h", "max_age": "2d",
        "max_skew": "0s", "samples": 1, "groups_per_rule_max": 2, "groups_max": 6, "window_cells_max": 3, "evidence_body_bytes_max": 4,
        "evidence_bytes_max": 5}"#;
    let engine: EngineConfig = serde_json::from_str(text).unwrap();
    let rules = RuleSet { engine, ..RuleSet::default() };
    assert_eq!(RuleSet::from_bytes(&rules.to_bytes()).unwrap(), rules);
    let mut before: serde_json::Value = serde_json::from_slice(&rules.to_bytes()).unwrap();
    before.as_object_mut().unwrap().remove("engine");
    let read = RuleSet::from_bytes(before.to_string().as_bytes()).unwrap();
    assert_eq!(read, RuleSet::default());
}

#[test]
fn what_fires_is_told_when_the_replay_is_over_and_durable() {
    let (evaluator, _) = paging();
    let mut after = restored(&evaluator.snapshot());
    after.handle_durable(Position(2));
    after.replay_until(Position(4));
    assert!(outputs(&mut after).is_empty());
    after.handle_frame(&frame(2, FrameKind::Clock, Bytes::new()));
    after.handle_frame(&frame(3, FrameKind::Clock, Bytes::new()));
    after.handle_durable(Position(3));
    let told = |outputs: Vec<Output>| -> Vec<Option<AlertState>> {
        let told = |output| match output {
            Output::Transition(transition) => Some(Some(transition.from)),
            Output::Replayed => Some(None),
            _ => None,
        };
        outputs.into_iter().filter_map(told).collect()
    };
    assert_eq!(told(outputs(&mut after)), []);
    after.handle_durable(Position(4));
    assert_eq!(told(outputs(&mut after)), [Some(AlertState::Firing), None]);
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn the_outcome_of_a_send_does_not_tell_that_somebody_listened() {
    let (mut evaluator, sent) = paging();
    evaluator.handle_frame(&frame(10 * SECOND, FrameKind::Clock, Bytes::new()));
    evaluator.handle_result(&sent.key, Ok(()), Duration::ZERO);
    let outcome = appended(&mut evaluator).remove(0);
    evaluator.handle_frame(&frame(40 * SECOND, FrameKind::Outcome, outcome.to_bytes().into()));
    for mut evaluator in [restored(&evaluator.snapshot()), evaluator] {
        evaluator.handle_frame(&frame(70 * SECOND, FrameKind::Started, Bytes::new()));
        assert_eq!(evaluator.last_gap().unwrap().missing, Duration::from_secs(60));
    }
}

/// As on a full disk: the clock's frame, and all batches, wait until there is room.
#[test]
fn a_timer_that_is_told_of_late_is_the_end_of_a_gap() {
    for kind in [FrameKind::Clock, FrameKind::Batch] {
        let (mut evaluator, _) = paging();
        evaluator.handle_frame(&frame(SECOND, FrameKind::Clock, Bytes::new()));
        let due = evaluator.engine.poll_timeout().unwrap();
        let in_time = due.0 as u64 - 1_700_000_000_000_000_000 + SECOND;
        evaluator.handle_frame(&frame(in_time, kind, Bytes::new()));
        assert_eq!(evaluator.last_gap(), None);
        let due = evaluator.engine.poll_timeout().unwrap();
        let outcome = Outcome { key: "of another".to_owned(), delivered: true, reason: String::new() };
        let written_first = frame(in_time + 599 * SECOND, FrameKind::Outcome, outcome.to_bytes().into());
        evaluator.handle_frame(&written_first);
        evaluator.handle_frame(&frame(in_time + 600 * SECOND, kind, Bytes::new()));
        let gap = evaluator.last_gap().unwrap();
        assert_eq!((gap.from, gap.until), (due, evaluator.clock()));
    }
}

#[test]
fn a_start_that_the_disk_failed_under_is_said_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let log = MemoryLog::new();
    log.refuse(Some(AppendError::Failed("full of holes".into())));
    let started = log.append(frame_of(FrameKind::Started, Vec::new()));
    log.refuse(None);
    runtime.block_on(super::runner::say_started(Arc::new(log.clone()), started));
    let kinds: Vec<_> = log.frames().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [FrameKind::Started]);
}

/// The evaluator has folded all that the log holds.
fn fold(evaluator: &mut Evaluator, log: &MemoryLog) {
    log.read(evaluator.position(), usize::MAX).unwrap().iter().for_each(|frame| evaluator.handle_frame(frame));
}

#[test]
fn a_new_rule_is_filled_from_the_log_also_when_that_is_folded_again() {
    let log = MemoryLog::new();
    let append = |kind, payload: Bytes| drop(log.append(frame_of(kind, payload.to_vec())));
    let mut evaluator = Evaluator::new(Position(0), Arc::new(log.clone()), outbox());
    append(FrameKind::Rules, RuleSet::default().to_bytes().into());
    append(FrameKind::Batch, boom());
    fold(&mut evaluator, &log);
    let before = evaluator.snapshot();
    let files = vec![RuleFileText { path: "rules.yaml".to_owned(), text: RULES.to_owned() }];
    append(FrameKind::Rules, RuleSet { files, ..RuleSet::default() }.to_bytes().into());
    fold(&mut evaluator, &log);
    let status = evaluator.status().remove(0);
    assert_eq!(status.alerting.unwrap().alerts.len(), 1, "the record from before the rule");
    assert_eq!((status.warming_until, evaluator.engine_stats().warming), (None, 0), "it tells what it counts");
    assert_eq!(status.partial_until, Some(Timestamp(3_600_000_000_000)));
    let mut again = Evaluator::restore(&before, Arc::new(log.clone()), outbox()).unwrap();
    fold(&mut again, &log);
    assert_eq!(again.snapshot(), evaluator.snapshot());
}

/// Counts `boom`s over an hour, and pages beyond so many.
fn booms(alert: &str, beyond: u32, range: &str) -> String {
    format!(
        r#"{{alert: {alert}, expr: 'sum by (service_name) (count_over_time({{service_name="s"}} |= "boom" [{range}])) > {beyond}'}}"#
    )
}

fn rule_set(rules: &[String]) -> RuleSet {
    let text = format!("groups: [{{name: g, rules: [{}]}}]", rules.join(", "));
    RuleSet { files: vec![RuleFileText { path: "rules.yaml".to_owned(), text }], ..RuleSet::default() }
}

/// A log, and an evaluator that reads nothing of it at once.
struct Aside {
    log: MemoryLog,
    evaluator: Evaluator,
    jobs: Vec<FillJob>,
}

impl Aside {
    fn new() -> Self {
        let log = MemoryLog::new();
        let evaluator = Self::slow(Evaluator::new(Position(0), Arc::new(log.clone()), outbox()));
        Self { log, evaluator, jobs: Vec::new() }
    }

    fn slow(evaluator: Evaluator) -> Evaluator {
        evaluator.with_fill_limits(FillLimits { at_once_bytes_max: 0, together_bytes_max: 0, step_bytes_max: 1 })
    }

    fn append(&mut self, kind: FrameKind, payload: impl Into<Vec<u8>>) {
        drop(self.log.append(frame_of(kind, payload.into())));
        self.fold();
    }

    fn load(&mut self, rules: &[String]) {
        self.append(FrameKind::Rules, rule_set(rules).to_bytes());
    }

    fn fold(&mut self) {
        fold(&mut self.evaluator, &self.log);
        let mut appended = false;
        for output in outputs(&mut self.evaluator) {
            match output {
                Output::Fill(job) => self.jobs.push(*job),
                Output::Append(frame) if frame.kind == FrameKind::Filled => {
                    appended = true;
                    drop(self.log.append(frame));
                }
                _ => {}
            }
        }
        if appended {
            self.fold();
        }
    }

    /// The jobs read what the log holds, and what they have filled comes into force.
    fn fill(&mut self) {
        for mut job in std::mem::take(&mut self.jobs) {
            while !job.step(&self.log, self.log.end()).unwrap() {}
            self.evaluator.handle_fill(Box::new(job));
        }
        self.fold();
    }

    /// Names of the rules, and how much they have been filled where they are not in force.
    fn rules(&self) -> Vec<(String, Option<f64>)> {
        self.evaluator.status().iter().map(|rule| (rule.name.to_string(), rule.filled)).collect()
    }

    /// Alerts that fire, with their values.
    fn firing(&self) -> Vec<(String, f64)> {
        let firing = self.evaluator.alerting().firing();
        firing.map(|alert| (alert.labels.get("alertname").unwrap().to_owned(), alert.value)).collect()
    }

    fn restart(&mut self, snapshot: &[u8]) {
        self.jobs.clear();
        let restored = Evaluator::restore(snapshot, Arc::new(self.log.clone()), outbox()).unwrap();
        self.evaluator = Self::slow(restored);
        self.evaluator.replay_until(self.log.end());
        self.fold();
    }
}

#[test]
fn rules_are_judged_while_others_are_filled_and_those_count_what_comes_meanwhile() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    let (one, many) = (booms("One", 0, "1m"), booms("Many", 2, "7d"));
    aside.load(std::slice::from_ref(&one));
    assert_eq!(aside.rules(), [("One".to_owned(), Some(0.0))]);
    aside.fill();
    aside.load(&[many, one]);
    assert_eq!(aside.rules(), [("One".to_owned(), None), ("Many".to_owned(), Some(0.0))]);
    aside.append(FrameKind::Batch, boom());
    assert_eq!(aside.firing(), [("One".to_owned(), 1.0)]);
    aside.append(FrameKind::Batch, boom());
    let before = aside.evaluator.snapshot();
    aside.fill();
    assert_eq!(aside.rules(), [("Many".to_owned(), None), ("One".to_owned(), None)]);
    assert_eq!(aside.firing(), [("Many".to_owned(), 3.0), ("One".to_owned(), 1.0)]);
    assert_eq!(aside.evaluator.fill_progress(), None);
    // A replay that has nothing at hand fills them again, and comes to the same.
    let after = aside.evaluator.snapshot();
    for snapshot in [before, Aside::new().evaluator.snapshot()] {
        aside.restart(&snapshot);
        assert_eq!(aside.evaluator.snapshot(), after);
        assert!(aside.jobs.is_empty());
    }
}

#[test]
fn a_replay_lets_rules_wait_that_waited_though_little_is_left_to_fill_them_from() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    let snapshot = aside.evaluator.snapshot();
    aside.load(&[booms("Many", 0, "7d")]);
    aside.append(FrameKind::Batch, boom());
    aside.append(FrameKind::Batch, boom());
    aside.fill();
    let since = |aside: &Aside| aside.evaluator.alerting().firing().map(|alert| alert.active_at).collect::<Vec<_>>();
    let before = since(&aside);
    assert_eq!(before.len(), 1);
    aside.log.drop_before(Position(1));
    aside.restart(&snapshot);
    assert_eq!(since(&aside), before);
}

#[test]
fn only_the_rules_that_are_filled_are_matched_by() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    aside.load(&[booms("One", 0, "1m")]);
    aside.fill();
    aside.load(&[booms("One", 0, "1m"), booms("Many", 0, "7d"), booms("Most", 0, "8d")]);
    let rules = |aside: &Aside| aside.jobs[0].plan.rules().map(|rule| rule.name.to_owned()).collect::<Vec<_>>();
    assert_eq!(rules(&aside), ["Many", "Most"]);
    aside.fill();
    let names = aside.firing().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names, ["Many", "Most", "One"]);
}

#[test]
fn how_much_is_left_to_read_is_told() {
    let mut aside = Aside::new();
    (0..3).for_each(|_| aside.append(FrameKind::Batch, boom()));
    aside.load(&[booms("Many", 0, "7d")]);
    (0..2).for_each(|_| aside.append(FrameKind::Batch, boom()));
    let mut left = Vec::new();
    while !aside.jobs[0].step(&aside.log, aside.log.end()).unwrap() {
        left.push(aside.evaluator.fill_progress().unwrap().left_bytes);
    }
    assert!(left.is_sorted_by(|a, b| a > b) && left.len() > 3, "{left:?}");
    assert_eq!(aside.evaluator.fill_progress().unwrap().left_bytes, 0);
}

#[test]
fn a_crash_in_the_middle_of_filling_begins_it_anew() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    aside.load(&[booms("Many", 1, "7d")]);
    aside.jobs[0].step(&aside.log, aside.log.end()).unwrap();
    let snapshot = aside.evaluator.snapshot();
    aside.append(FrameKind::Batch, boom());
    aside.restart(&snapshot);
    assert_eq!(aside.rules(), [("Many".to_owned(), Some(0.0))]);
    assert_eq!(aside.firing(), []);
    aside.fill();
    assert_eq!(aside.firing(), [("Many".to_owned(), 2.0)]);
}

#[test]
fn what_is_to_be_replaced_stays_until_the_other_is_filled() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    aside.load(&[booms("A", 0, "1h"), booms("B", 0, "1h")]);
    aside.fill();
    let firing = |alert: &str| (alert.to_owned(), 1.0);
    assert_eq!(aside.firing(), [firing("A"), firing("B")]);
    aside.load(&[booms("A", 0, "2h")]);
    assert_eq!(
        aside.rules(),
        [("A".to_owned(), None), ("A".to_owned(), Some(0.0))],
        "that of before, and the one to come"
    );
    assert_eq!(aside.firing(), [firing("A")], "a removed one goes at once");
    aside.load(&[booms("A", 0, "3h"), booms("C", 9, "1h")]);
    let names = |rules: Vec<(String, Option<f64>)>| {
        rules.into_iter().map(|(name, filled)| (name, filled.is_none())).collect::<Vec<_>>()
    };
    let all = [("C".to_owned(), true), ("A".to_owned(), true), ("A".to_owned(), false)];
    assert_eq!(names(aside.rules()), all, "the windows of C are those of A before");
    let snapshot = aside.evaluator.snapshot();
    aside.restart(&snapshot);
    assert_eq!(aside.firing(), [firing("A")]);
    while !aside.jobs.is_empty() {
        aside.fill();
    }
    assert_eq!(names(aside.rules()), [("A".to_owned(), true), ("C".to_owned(), true)]);
    assert_eq!(aside.firing(), [firing("A")]);
}

#[test]
fn the_same_rules_once_more_do_not_begin_the_filling_anew() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    let many = booms("Many", 0, "7d");
    aside.load(std::slice::from_ref(&many));
    aside.load(&[many]);
    assert_eq!(aside.jobs.len(), 1);
    aside.fill();
    assert_eq!(aside.firing(), [("Many".to_owned(), 1.0)]);
    aside.load(&[booms("Many", 0, "6d")]);
    aside.load(&[booms("Other", 0, "5d")]);
    assert_eq!(aside.jobs.len(), 2);
    assert_eq!(aside.jobs.iter().map(|job| job.is_wanted()).collect::<Vec<_>>(), [false, true]);
    aside.fill();
    assert_eq!(aside.rules(), [("Other".to_owned(), None)], "what the first has filled is of no use");
}

#[test]
fn a_filling_that_dies_begins_again_after_a_pause() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    aside.load(&[booms("Many", 0, "7d")]);
    aside.jobs.clear();
    aside.fold();
    assert!(aside.jobs.is_empty(), "not at once");
    assert!(aside.evaluator.poll_output(Duration::from_secs(59)).is_none());
    let again = aside.evaluator.poll_output(Duration::from_secs(60));
    let Some(Output::Fill(job)) = again else { panic!("{again:?}") };
    aside.jobs.push(*job);
    aside.fill();
    assert_eq!(aside.firing(), [("Many".to_owned(), 1.0)]);
}

#[test]
fn what_the_size_cap_takes_while_rules_are_filled_is_told_as_missing() {
    // Of the past, from behind it, and from both.
    for (read, oldest) in [(1, 2), (4, 5), (2, 5)] {
        let mut aside = Aside::new();
        (0..3).for_each(|_| aside.append(FrameKind::Batch, boom()));
        aside.load(&[booms("Many", 0, "7d")]);
        (0..2).for_each(|_| aside.append(FrameKind::Batch, boom()));
        while !aside.jobs[0].step(&aside.log, Position(read)).unwrap() {}
        aside.log.drop_before(Position(oldest));
        aside.fill();
        // The log's clock counts nanoseconds here, and this is told in whole seconds: without a hole it were seven days.
        let whole_from = Timestamp((7 * 86_400 + 1) * 1_000_000_000);
        assert_eq!(aside.evaluator.status()[0].partial_until, Some(whole_from), "read {read}, oldest {oldest}");
    }
}

#[test]
fn of_replaced_rules_no_more_files_are_kept_than_define_them() {
    let mut aside = Aside::new();
    aside.append(FrameKind::Batch, boom());
    aside.load(&[booms("A", 0, "1h")]);
    aside.fill();
    for days in 1..9 {
        aside.load(&[booms("A", 0, &format!("{days}d"))]);
        assert_eq!(aside.evaluator.filling.as_ref().unwrap().waiting().former_files().len(), 1);
    }
}
