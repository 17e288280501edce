//! Each migration is a pair of programs: what comes out of the second is what came out of the first, but for what is said here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Status;
use serde_json::{Map, Value};

use super::command;
use super::receiver::{Received, Receiver, attributes};

#[test]
fn the_lines_of_env_logger_are_the_same_but_for_milliseconds() {
    let receiver = Receiver::http();
    let before = lines(command(env!("CARGO_BIN_EXE_log-before"), &receiver).env("RUST_LOG", "debug"));
    let after = lines(command(env!("CARGO_BIN_EXE_log-after"), &receiver).env("RUST_LOG", "debug"));
    let line = |line: &String| {
        let (time, rest) = line.split_once(' ').expect("a time");
        (time.len(), rest.trim_end().replace("log_before", "log_after"))
    };
    let (before, after): (Vec<_>, Vec<_>) = (before.iter().map(line).collect(), after.iter().map(line).collect());
    assert_eq!(before.len(), 7, "{before:?}");
    for ((time, line), (finer, same)) in before.iter().zip(&after) {
        assert_eq!((time + ".000".len(), line), (*finer, same));
    }
    // And the collector has them, with their key-values.
    let low = receiver.log("stock is low");
    assert_eq!((low.attribute("order_id"), low.attribute("left")), (Some(Any::IntValue(18)), Some(Any::IntValue(1))));
    assert_eq!(receiver.logs().len(), 7);
}

#[test]
fn the_records_of_tracing_subscriber_are_the_same_by_other_names() {
    let receiver = Receiver::http();
    let [before, after] = [env!("CARGO_BIN_EXE_tracing-before"), env!("CARGO_BIN_EXE_tracing-after")].map(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let console = lines(command(program, &receiver).env("RUST_LOG", "warn").arg(folder.path()));
        assert!(console.len() == 1 && console[0].contains("stock is low"), "{console:?}");
        let file = fs::read_dir(folder.path()).expect("the folder").next().expect("a file").expect("its name").path();
        let text = fs::read_to_string(file).expect("the file");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    });
    let before: Vec<_> = before.iter().map(of_subscriber).collect();
    assert_eq!(before.len(), 7);
    assert_eq!(before, after.iter().map(of_ours).collect::<Vec<_>>());
    assert!(after.iter().all(|record| record["trace_id"].is_string()), "what is told in a span is in a trace");
}

/// Level, target, message and fields of a line of JSON: those of the span stand apart.
fn of_subscriber(line: &Value) -> (Value, String, Value, Map<String, Value>) {
    let mut fields = line["fields"].as_object().expect("fields").clone();
    let message = fields.remove("message").expect("a message");
    fields.extend(line["span"].as_object().expect("a span").clone().into_iter().filter(|(key, _)| key != "name"));
    let target = line["target"].as_str().expect("a target").replace("tracing_before", "tracing_after");
    (line["level"].clone(), target, message, fields)
}

/// The same by OpenTelemetry's names; the place in the code is there as well.
fn of_ours(line: &Value) -> (Value, String, Value, Map<String, Value>) {
    let mut fields = line["attributes"].as_object().expect("attributes").clone();
    fields.retain(|key, _| !key.starts_with("code."));
    let target = line["scope"].as_str().expect("a scope").to_owned();
    (line["severity_text"].clone(), target, line["body"].clone(), fields)
}

#[test]
fn the_records_of_opentelemetry_are_the_same_with_what_they_lacked() {
    let [before, after] =
        [env!("CARGO_BIN_EXE_opentelemetry-before"), env!("CARGO_BIN_EXE_opentelemetry-after")].map(|program| {
            let receiver = Receiver::grpc();
            assert_eq!(lines(&mut command(program, &receiver)).len(), 4, "the console");
            receiver
        });
    assert_eq!(seen(&before), seen(&after));
    for record in before.logs().iter().map(|log| &log.record) {
        assert!(record.time_unix_nano == 0 && record.event_name.starts_with("event examples/src/"), "{record:?}");
    }
    for record in after.logs().iter().map(|log| &log.record) {
        assert!(record.time_unix_nano != 0 && record.event_name.is_empty(), "{record:?}");
    }
    let events = |receiver: &Receiver| receiver.spans().iter().map(|span| span.events.len()).sum::<usize>();
    assert_eq!((events(&before), events(&after)), (4, 0), "each record also was an event of its span");
}

/// What came of logs, each as a text, the status of each span, and how many metrics.
fn seen(receiver: &Receiver) -> (Vec<String>, Vec<Option<Status>>, usize) {
    let spans = receiver.spans();
    let record = |log: &Received| {
        assert_eq!(log.resource.get("service.name"), Some(&Any::StringValue("shop".to_owned())));
        assert!(
            spans.iter().any(|span| span.span_id == log.record.span_id && span.name == "place"),
            "its span is there"
        );
        let fields: BTreeMap<_, _> =
            attributes(&log.record.attributes).into_iter().filter(|(key, _)| !key.starts_with("code.")).collect();
        format!("{} {} {} {fields:?}", log.record.severity_number, log.record.severity_text, log.body())
    };
    let orders = receiver.metrics().iter().filter(|metric| metric.name == "orders").count();
    let statuses = spans.iter().map(|span| span.status.clone());
    (receiver.logs().iter().map(record).collect(), statuses.collect(), orders)
}

/// What a program writes to stderr.
fn lines(command: &mut Command) -> Vec<String> {
    let output = command.output().expect("the program");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// MIGRATING.md shows each pair as its difference; `UPDATE=1` writes them anew.
#[test]
fn the_page_shows_the_pairs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(folder.join("MIGRATING.md")).expect("the page");
    let mut shown = page.clone();
    for pair in ["log", "tracing", "opentelemetry"] {
        let begin = format!("```diff {pair}\n");
        let from = shown.find(&begin).unwrap_or_else(|| panic!("the page has no block `{begin}`")) + begin.len();
        let to = from + shown[from..].find("```").expect("the block's end");
        shown.replace_range(from..to, &difference(&folder.join("src/migration").join(pair)));
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(folder.join("MIGRATING.md"), &shown).expect("the page can be written");
    }
    assert!(std::env::var_os("UPDATE").is_some() || page == shown, "MIGRATING.md is old: run this test with UPDATE=1");
}

fn difference(pair: &Path) -> String {
    let mut diff = Command::new("diff");
    let output =
        diff.arg("-U1000").args(["before.rs", "after.rs"]).current_dir(pair).output().expect("the command diff");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_inclusive('\n').skip(3).collect() // without the names and the place
}
