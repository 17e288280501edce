//! What a whole process shows and sends, and what it sends when it ends otherwise than by dropping the guard: each case is a process
//! of its own, this program run again.

#[path = "sdk/receiver.rs"]
#[allow(dead_code)]
mod receiver;

use std::process::{Command, ExitStatus};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use receiver::{Received, Receiver};

#[test]
fn exit_sends_what_was_recorded() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        assert_eq!(run("exit", &receiver).code(), Some(7));
        assert_eq!(receiver.logs().iter().map(Received::body).collect::<Vec<_>>(), ["last words"]);
    }
}

#[test]
fn so_does_a_leaked_guard() {
    let receiver = Receiver::http();
    assert_eq!(run("leak", &receiver).code(), Some(0));
    receiver.log("last words");
}

#[test]
fn an_exit_without_a_collector_keeps_its_deadline() {
    let gone = Receiver::http().endpoint();
    let status = child("exit in vain").env("OTEL_EXPORTER_OTLP_ENDPOINT", gone).status().expect("this program");
    assert_eq!(status.code(), Some(7));
}

#[test]
fn a_panic_is_a_record_in_its_trace() {
    let receiver = Receiver::http();
    let output = command("panic", &receiver).output().expect("this program");
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains("the hook that was there: out of stock"), "{told}");
    let record = receiver.log("out of stock");
    assert_eq!((record.record.severity_number, record.scope.as_str()), (17, "panic"));
    assert_eq!(record.attribute("exception.type"), Some(Value::StringValue("panic".to_owned())));
    assert_eq!(record.attribute("exception.message"), Some(Value::StringValue("out of stock".to_owned())));
    assert_eq!(record.attribute("exception.stacktrace"), None);
    assert_eq!(record.attribute("code.file.path"), Some(Value::StringValue(file!().to_owned())));
    assert!(matches!(record.attribute("code.line.number"), Some(Value::IntValue(line)) if line > 0));
    assert_eq!(record.record.trace_id, receiver.span("request").trace_id);
}

#[test]
fn panics_can_be_left_alone() {
    let receiver = Receiver::http();
    assert_eq!(run("no panics", &receiver).code(), Some(0));
    assert!(receiver.logs().is_empty());
}

#[test]
fn the_console_is_readable() {
    let output = child("console").env("OTEL_LOGS_EXPORTER", "console").env("OTEL_TRACES_EXPORTER", "none").output();
    let told = String::from_utf8(output.expect("this program").stderr).expect("text");
    let lines: Vec<_> = told.lines().filter_map(|line| line.split_once('Z').map(|(_, line)| line)).collect();
    let (in_span, trace_id) = lines[0].split_once(" trace_id=").expect("a trace's id");
    assert_eq!(in_span, r#"  INFO processes: order placed order_id=17 upstream="payment" ratio=0.5"#);
    assert!(trace_id.len() == 32 && trace_id.chars().all(|digit| digit.is_ascii_hexdigit()), "{trace_id}");
    assert_eq!(
        lines[1..],
        [r#" ERROR processes: cannot charge error="connection refused""#, "  WARN legacy: from log",]
    );
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(!told.contains('\x1b'), "colours are for terminals");
}

#[test]
fn a_disabled_sdk_sends_nothing() {
    let receiver = Receiver::http();
    let status = command("exit", &receiver).env("OTEL_SDK_DISABLED", "true").status().expect("this program");
    assert_eq!((status.code(), receiver.requests()), (Some(7), 0));
}

#[test]
fn what_is_not_understood_in_the_environment_is_told_once() {
    let output =
        child("console").env("OTEL_LOGS_EXPORTER", "none").env("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke").output();
    let told = String::from_utf8(output.expect("this program").stderr).expect("text");
    let expected =
        "watchbell: OTEL_EXPORTER_OTLP_PROTOCOL is ignored: `smoke` is not a protocol; write `grpc` or `http/protobuf`";
    assert_eq!(told.lines().filter(|line| *line == expected).count(), 1, "{told}");
}

fn run(case: &str, receiver: &Receiver) -> ExitStatus {
    command(case, receiver).status().expect("this program")
}

fn command(case: &str, receiver: &Receiver) -> Command {
    let mut command = child(case);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol());
    command
}

fn child(case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["the_process_that_ends", "--exact", "--ignored", "--nocapture"]).env("CASE", case);
    command.env_remove("RUST_BACKTRACE").env("OTEL_LOGS_EXPORTER", "otlp");
    command.env("OTEL_BLRP_SCHEDULE_DELAY", "3600000"); // so that nothing leaves by itself
    command
}

#[test]
#[ignore = "the others run it"]
#[allow(clippy::print_stderr)] // what a hook does
fn the_process_that_ends() {
    let Ok(case) = std::env::var("CASE") else { return };
    std::panic::set_hook(Box::new(|info| {
        eprintln!("the hook that was there: {}", info.payload().downcast_ref::<&str>().unwrap_or(&"?"));
    }));
    let timeout = Duration::from_secs(if case == "exit in vain" { 1 } else { 60 });
    let builder = watchbell::builder().panics(case != "no panics").shutdown_timeout(timeout);
    let guard = builder.init().expect("the only init of this process");
    match &*case {
        "console" => {
            let refused = std::io::Error::other("connection refused");
            tracing::info_span!("request").in_scope(|| {
                tracing::info!(order_id = 17, upstream = "payment", ratio = 0.5, "order placed");
            });
            tracing::error!(error = &refused as &(dyn std::error::Error + 'static), "cannot charge");
            log::warn!(target: "legacy", "from log");
            guard.shutdown(Duration::ZERO);
        }
        "exit" | "exit in vain" => {
            tracing::info!("last words");
            std::process::exit(7);
        }
        "leak" => {
            tracing::info!("last words");
            std::mem::forget(guard);
        }
        _ => {
            let panic = || tracing::info_span!("request").in_scope(|| panic!("out of stock"));
            assert!(std::panic::catch_unwind(panic).is_err());
            drop(guard);
        }
    }
}
