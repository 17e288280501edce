//! A function that changes records before they leave, and severities beyond the levels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use watchbell::redact::Redaction;

use super::receiver::{Received, Receiver};
use super::{builder, pipeline_of};

fn logged(builder: impl FnOnce(watchbell::Builder) -> watchbell::Builder, f: impl FnOnce()) -> Vec<Received> {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(builder_of(&receiver)));
    tracing::dispatcher::with_default(&dispatch, f);
    let ledger = guard.shutdown(Duration::from_secs(20));
    assert_eq!(ledger.logs.delivered, ledger.logs.emitted, "{ledger}");
    receiver.logs()
}

fn builder_of(receiver: &Receiver) -> watchbell::Builder {
    builder(receiver)
}

fn string(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.to_owned()))
}

#[test]
fn what_a_patch_does_is_what_leaves() {
    let builder = |builder: watchbell::Builder| {
        builder.redact(Redaction::usual()).patch(|draft| {
            if draft.record().message() == "unwanted" {
                return draft.discard();
            }
            let total = draft.record().attribute("total").map(|total| format!("{total} EUR"));
            draft.set("build", 7);
            draft.set("api_token", "hunter2");
            draft.set("said", "Bearer abcdefgh12345678");
            draft.remove("order_id");
            if let Some(total) = total {
                draft.set("total", total);
                draft.set_message("paid");
                draft.set_severity(10, "NOTICE");
            }
        })
    };
    let logs = logged(builder, || {
        let _span = tracing::info_span!("request").entered();
        tracing::info!(order_id = 1, total = 5, password = "x", "order placed");
        tracing::error!("unwanted");
        log_by_the_other_door();
    });
    let [log] = &logs[..] else { panic!("{logs:?}") };
    assert_eq!(log.body(), "paid");
    assert_eq!((log.record.severity_number, log.record.severity_text.as_str()), (10, "NOTICE"));
    let attributes = ["total", "build", "api_token", "said", "password", "order_id"].map(|key| log.attribute(key));
    let redacted = string("[redacted]");
    let expected =
        [string("5 EUR"), Some(Value::IntValue(7)), redacted.clone(), string("Bearer [redacted]"), redacted, None];
    assert_eq!(attributes, expected);
    assert_eq!(log.record.trace_id.len(), 16, "what it leaves alone stays");
    assert!(log.attribute("code.line.number").is_some() && log.record.time_unix_nano > 0);
}

/// A record that no sink and no level would take.
fn log_by_the_other_door() {
    tracing::info!("unwanted");
}

#[test]
fn a_record_of_another_severity_goes_other_ways() {
    let logs = logged(
        |builder| builder.collector_levels("warn").patch(|draft| draft.set_severity(5, "DEBUG")),
        || tracing::error!("harmless"),
    );
    assert!(logs.is_empty(), "{logs:?}");
}

#[test]
fn a_patch_may_log_and_may_panic() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let logs = logged(
        |builder| {
            builder.patch(move |draft| {
                counted.fetch_add(1, Ordering::Relaxed);
                tracing::info!("of the patch");
                draft.set("half", true);
                assert!(draft.record().message() != "odd", "as asked");
            })
        },
        || {
            tracing::info!("odd");
            tracing::info!("even");
        },
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let of = |body: &str| logs.iter().find(|log| log.body() == body).unwrap_or_else(|| panic!("{body} in {logs:?}"));
    assert_eq!((of("odd").attribute("half"), of("even").attribute("half")), (None, Some(Value::BoolValue(true))));
}

#[test]
fn severities_beyond_the_levels() {
    let logs = logged(
        |builder| builder,
        || {
            watchbell::notice!(shop_id = 3, "the shop is {}", "open");
            watchbell::fatal!("no database");
            tracing::warn!(first = 1, watchbell.severity = 14, last = 2, "the queue grows");
            tracing::error!(watchbell.severity = "Emergency", "on fire");
            tracing::info!(watchbell.severity = "loud", "misspelt");
            tracing::info!(watchbell.severity = 25, "out of range");
            tracing::info!(name: "shop.closed", { watchbell.severity = "info4" }, "named");
        },
    );
    let seen: Vec<_> = logs
        .iter()
        .map(|log| (log.record.severity_number, log.record.severity_text.as_str(), log.attribute("watchbell.severity")))
        .collect();
    assert_eq!(seen[..4], [(10, "NOTICE", None), (21, "FATAL", None), (14, "WARN2", None), (21, "EMERGENCY", None)]);
    assert_eq!(seen[4..], [(9, "INFO", string("loud")), (9, "INFO", string("25")), (12, "INFO4", None)]);
    assert_eq!(logs[0].attribute("shop_id"), Some(Value::IntValue(3)));
    assert_eq!(
        (logs[2].attribute("first"), logs[2].attribute("last")),
        (Some(Value::IntValue(1)), Some(Value::IntValue(2)))
    );
    assert_eq!(logs[6].record.event_name, "shop.closed");
    assert!(logs.iter().all(|log| log.attribute("code.file.path").is_some()));
}

#[test]
fn a_lazy_field_is_computed_where_its_record_is_made() {
    let computed = AtomicU32::new(0);
    let logs = logged(
        |builder| builder,
        || {
            for _ in 0..9 {
                let compute = || computed.fetch_add(1, Ordering::Relaxed) + 40;
                tracing::info!(watchbell.limit = "1/h", size = watchbell::lazy(compute), "limited");
            }
        },
    );
    assert_eq!(computed.load(Ordering::Relaxed), 1);
    let limited = logs.iter().find(|log| log.body() == "limited").expect("the one that is made");
    assert_eq!(limited.attribute("size"), string("40"));
}

#[test]
fn a_hash_is_the_same_for_the_same_value() {
    let receiver = Receiver::http();
    let redaction = Redaction::usual().hash_key("user.*", b"k1").hash_key("password", b"k1");
    let (dispatch, guard) = pipeline_of(builder(&receiver).redact(redaction));
    tracing::dispatcher::with_default(&dispatch, || {
        let _span = tracing::info_span!("request", user.id = 17).entered();
        let _context = watchbell::context!(user.mail = "ada@example.com").enter();
        tracing::info!(user.id = 17, user.name = %"ada", password = "hunter2", "first");
        tracing::info!(user.id = 18, user.name = "ada", "second");
    });
    guard.shutdown(Duration::from_secs(20));
    let (first, second) = (receiver.log("first"), receiver.log("second"));
    let hash = |log: &Received, key| match log.attribute(key) {
        Some(Value::StringValue(hash)) if hash.starts_with("hmac:") && hash.len() == 5 + 32 => hash,
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(hash(&first, "user.name"), hash(&second, "user.name"));
    assert_eq!(hash(&first, "user.mail"), hash(&second, "user.mail"));
    assert_ne!(hash(&first, "user.id"), hash(&second, "user.id"));
    assert_eq!(first.attribute("password"), string("[redacted]"), "what is masked stays so");
    let of_span = super::receiver::attributes(&receiver.span("request").attributes)["user.id"].clone();
    assert_eq!(Some(of_span), first.attribute("user.id"));
}

#[test]
fn redactions_of_one_origin_go_each_by_its_own_keys() {
    let base = Redaction::default();
    for (redaction, masked) in [(base.clone().key("first"), "first"), (base.key("second"), "second")] {
        let logs = logged(|builder| builder.redact(redaction), log_both);
        let shown = ["first", "second"].map(|key| (key == masked, logs[0].attribute(key)));
        for (is_masked, value) in shown {
            assert_eq!(value, string(if is_masked { "[redacted]" } else { "said" }));
        }
    }
}

fn log_both() {
    tracing::info!(first = "said", second = "said", "both");
}

#[test]
fn under_an_empty_secret_a_value_is_masked() {
    let logs = logged(
        |builder| builder.redact(Redaction::new().hash_key("user.mail", b"")),
        || tracing::info!(user.mail = "ada@example.com", "logged in"),
    );
    assert_eq!(logs[0].attribute("user.mail"), string("[redacted]"));
}

#[test]
fn a_canary_that_leaves_is_found() {
    let canary = watchbell::test::canary();
    let secret = canary.text().to_owned();
    let builder = || watchbell::builder().redact(Redaction::usual());
    canary.stays(builder(), || {
        let _span = tracing::info_span!("log_in", password = secret).entered();
        tracing::info!(password = secret, "logged in");
        log::info!(password = secret.as_str(); "and by the other door");
    });
    let card = watchbell::test::Canary::of("4111 1111 1111 1111");
    card.stays(builder(), || tracing::info!("paid by {card}"));
    for (leak, told) in [
        (Box::new(|| tracing::trace!("it is {secret}")) as Box<dyn Fn()>, "the canary leaves in a record: TRACE"),
        (Box::new(|| tracing::info!(pass = secret.to_uppercase(), "logged in")), "the canary leaves in a record: INFO"),
        (Box::new(|| ()), "neither a record nor a span came"),
        (
            Box::new(|| drop(tracing::info_span!("log_in", pass = secret))),
            "the canary leaves in a request to /v1/traces",
        ),
    ] {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| canary.stays(builder(), leak)));
        let panic = caught.unwrap_err();
        let text = panic.downcast_ref::<String>().cloned();
        let message = text.unwrap_or_else(|| panic.downcast_ref::<&str>().copied().unwrap_or_default().to_owned());
        assert!(message.starts_with(told), "{message}");
    }
}
