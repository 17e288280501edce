//! Capturing records in tests, tested.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::Level;
use watchbell::test::{Capture, capture};

#[test]
fn fields_levels_and_traces() {
    let logs = capture();
    tracing::info_span!("request").in_scope(|| {
        tracing::warn!(id = 17_u64, ratio = 0.5, yes = true, text = "a", debug = ?Some(1), "slow {}", "answer");
    });
    log::error!(target: "legacy", "from log");
    let slow = logs.expect("slow answer");
    assert_eq!((slow.level, slow.target.as_str()), (Level::WARN, module_path!()));
    assert_eq!(slow.field("id"), Some(&17.into()));
    assert_eq!(slow.field("ratio"), Some(&0.5.into()));
    assert_eq!(slow.field("yes"), Some(&true.into()));
    assert_eq!((slow.field("text"), slow.field("debug")), (Some(&"a".into()), Some(&"Some(1)".into())));
    assert!(slow.is_in_trace());
    let legacy = logs.expect("from log");
    assert_eq!((legacy.level, legacy.target.as_str(), legacy.fields.len()), (Level::ERROR, "legacy", 0));
    assert!(!legacy.is_in_trace());
    assert_eq!(logs.records().len(), 2);
}

#[test]
fn a_record_may_name_its_parent() {
    let logs = capture();
    let (outer, other) = (tracing::info_span!("outer"), tracing::info_span!("other"));
    other.in_scope(|| tracing::info!("in the other"));
    outer.in_scope(|| {
        tracing::info!("here");
        tracing::info!(parent: &other, "of the other");
        tracing::info!(parent: None, "of none");
    });
    let of_other = logs.expect("of the other");
    of_other.expect_in_trace_of(&logs.expect("in the other"));
    assert_eq!(of_other.span_id, logs.expect("in the other").span_id);
    assert!(logs.expect("here").is_in_trace() && logs.expect("here").trace_id != of_other.trace_id);
    assert!(!logs.expect("of none").is_in_trace());
}

#[test]
fn a_field_of_log_hides_that_of_the_context() {
    let logs = capture();
    watchbell::context!(order_id = 17, user_id = 3).in_scope(|| log::info!(order_id = 18; "order placed"));
    let record = logs.expect("order placed");
    assert_eq!((record.field("order_id"), record.field("user_id")), (Some(&18.into()), Some(&3.into())));
    assert_eq!(record.fields.len(), 2, "{record}");
}

#[test]
fn what_came_instead_is_shown() {
    let logs = capture();
    tracing::info!(order_id = 17, "order placed");
    assert_eq!(panic_of(&logs, |logs| drop(logs.expect("order lost"))), expected("no record `order lost`"));
    logs.expect_none(Level::WARN);
    assert_eq!(panic_of(&logs, |logs| logs.expect_none(Level::INFO)), expected("there is a record of level INFO"));
}

#[test]
fn a_field_or_a_trace_that_is_another_is_shown() {
    let logs = capture();
    tracing::info_span!("request").in_scope(|| watchbell::fatal!(order_id = 17, "order lost"));
    tracing::info!("apart");
    let (lost, apart) = (logs.expect("order lost"), logs.expect("apart"));
    assert_eq!((lost.severity_number, apart.severity_number, lost.fields.len()), (21, 9, 1));
    lost.expect_field("order_id", 17).expect_in_trace_of(&lost);
    let place = module_path!();
    let shown = panic_of(&logs, |_| _ = lost.expect_field("order_id", 18));
    assert_eq!(shown, format!("`order_id` is `17`, not `18`, in\n    FATAL {place}: order lost order_id=17"));
    let shown = panic_of(&logs, |_| _ = lost.expect_field("user", "ada"));
    assert_eq!(shown, format!("there is no field `user` in\n    FATAL {place}: order lost order_id=17"));
    let shown = panic_of(&logs, |_| _ = apart.expect_in_trace_of(&lost));
    assert!(shown.starts_with("not of one trace:\n    00000000000000000000000000000000 INFO"), "{shown}");
}

fn expected(head: &str) -> String {
    format!("{head} among 1:\n    INFO {}: order placed order_id=17", module_path!())
}

fn panic_of(logs: &Capture, f: impl FnOnce(&Capture)) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| f(logs))).expect_err("a panic");
    *payload.downcast::<String>().expect("a text")
}

#[test]
fn tests_beside_each_other_see_their_own() {
    std::thread::scope(|scope| {
        for i in 0..8 {
            scope.spawn(move || {
                let logs = capture();
                (0..50).for_each(|_| tracing::info!(i, "mine"));
                assert!(logs.records().iter().all(|record| record.field("i") == Some(&i.into())));
                assert_eq!(logs.records().len(), 50);
            });
        }
    });
}
