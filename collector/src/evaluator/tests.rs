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
