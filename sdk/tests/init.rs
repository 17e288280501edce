//! `init` installs itself for the whole process, so that this test has a process of its own.

#[path = "sdk/receiver.rs"]
#[allow(dead_code)]
mod receiver;

use std::fmt;
use std::time::Duration;

use receiver::{Received, Receiver, Scripted};

#[test]
fn init_takes_tracing_and_log_records_and_its_own_stack_stays_silent() {
    let receiver = Receiver::http();
    receiver.script([Scripted::Unavailable]); // a retry makes the HTTP stack talk more
    let guard = watchbell::builder()
        .variables([
            ("OTEL_SERVICE_NAME", "checkout"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint().as_str()),
            ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
            ("RUST_LOG", "init=trace,legacy=info,quiet=warn,hyper_util::client=trace"), // the export's client at its loudest
        ])
        .console(false) // each sink formats a value for itself
        .init()
        .expect("the only init of this process");

    let line = line!() + 4;
    tracing::info_span!("request").in_scope(|| {
        tracing::info!("from tracing");
        tracing::info!(target: "quiet", "not wanted");
        log::warn!(target: "legacy", order_id = 17, upstream = "payment", ratio = 0.5, ok = true, big = u64::MAX, shown:? = Some(1); "from log {}", 1);
        log::info!(target: "quiet", "not wanted");
        tracing::info!(value = ?Chatty, "outer");
    });
    guard.flush(Duration::from_secs(20)).expect("a receiver that answers");
    let ours = receiver.logs();
    let bodies: Vec<_> = ours.iter().map(Received::body).collect();
    assert_eq!(bodies, ["from tracing", "inner", "outer", "from log 1"], "by scope, in order");

    let legacy = &ours[3];
    assert_eq!((legacy.scope.as_str(), legacy.record.severity_number), ("legacy", 13));
    assert_eq!(legacy.attribute("code.file.path"), Some(text(file!())));
    assert_eq!(legacy.attribute("code.line.number"), Some(int(i64::from(line))));
    assert_eq!(legacy.attribute("log.target"), None);
    assert_eq!(legacy.attribute("order_id"), Some(int(17)));
    assert_eq!(legacy.attribute("upstream"), Some(text("payment")));
    assert_eq!(legacy.attribute("ratio"), Some(Value::DoubleValue(0.5)));
    assert_eq!(legacy.attribute("ok"), Some(Value::BoolValue(true)));
    assert_eq!(legacy.attribute("big"), Some(text("18446744073709551615")));
    assert_eq!(legacy.attribute("shown"), Some(text("Some(1)")));
    assert_eq!(legacy.record.span_id, receiver.span("request").span_id);
    assert_eq!(legacy.record.event_name, "");

    assert!(watchbell::init().is_err_and(|error| error.to_string().contains("already")));
    guard.shutdown(Duration::from_secs(20));
    let after = receiver.requests();
    tracing::info!("too late");
    assert_eq!(receiver.requests(), after);
}

struct Chatty;

impl fmt::Debug for Chatty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tracing::info!("inner");
        f.write_str("chatty")
    }
}

use opentelemetry_proto::tonic::common::v1::any_value::Value;

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn int(int: i64) -> Value {
    Value::IntValue(int)
}
