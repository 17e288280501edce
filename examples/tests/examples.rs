//! The examples run, and what a receiver gets of them is what they promise.

#[path = "../../sdk/tests/sdk/receiver.rs"]
#[allow(dead_code)]
mod receiver;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use receiver::Receiver;

fn command(program: &str, receiver: &Receiver) -> Command {
    let mut command = Command::new(program);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol());
    command
}

#[test]
fn quickstart() {
    let receiver = Receiver::grpc();
    let status = command(env!("CARGO_BIN_EXE_quickstart"), &receiver).status().expect("the program");
    assert!(status.success());
    let (placed, failed) = (receiver.log("order placed"), receiver.log("payment upstream answered 503"));
    assert_eq!(placed.record.trace_id, receiver.span("place_order").trace_id);
    assert_eq!(failed.attribute("status"), Some(Value::IntValue(503)));
}

#[test]
fn a_tool_tells_people_little_and_the_collector_all() {
    let receiver = Receiver::http();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let run = |program: &mut Command, arguments: &[&str]| program.args(arguments).output().expect("the program");
    let good = run(&mut command(env!("CARGO_BIN_EXE_linecount"), &receiver), &[manifest]);
    assert!(good.status.success() && good.stderr.is_empty(), "{}", String::from_utf8_lossy(&good.stderr));
    let lines = std::fs::read_to_string(manifest).expect("the manifest").lines().count();
    assert_eq!(String::from_utf8_lossy(&good.stdout), format!("{lines}\n"));
    assert_eq!(receiver.log("counted").attribute("lines"), Some(Value::IntValue(lines as i64)));

    // Without a collector nothing waits for one.
    let bad = run(&mut Command::new(env!("CARGO_BIN_EXE_linecount")), &["-v", manifest, "/nowhere/x"]);
    let told = String::from_utf8_lossy(&bad.stderr);
    assert_eq!(bad.status.code(), Some(1));
    assert!(told.contains("counted") && told.contains("cannot count the lines"), "{told}");
}

#[test]
fn a_worker_keeps_its_own_log() {
    let receiver = Receiver::http();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path");
    let run = command(env!("CARGO_BIN_EXE_worker"), &receiver).args([path, "1000"]).output().expect("the program");
    assert!(run.status.success());
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
        .collect();
    // They are compressed a second later, by a worker that lives so long.
    assert!(names.iter().filter(|name| name.starts_with("worker.2")).count() > 5, "{names:?}");
    let current = std::fs::read_to_string(folder.path().join("worker.log")).expect("the log");
    let last = current.lines().last().expect("a line");
    assert!(last.contains(r#""body":"ended""#) && last.contains(r#""job":1000"#), "{last}");
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert_eq!(stderr.lines().filter(|line| line.contains("gave up")).count(), 10, "{stderr}");
    assert_eq!(receiver.logs().iter().filter(|log| log.body() == "ended").count(), 1000);
}

#[test]
fn a_library_logs_without_knowing_where_to() {
    let receiver = Receiver::http();
    assert!(command(env!("CARGO_BIN_EXE_library"), &receiver).status().expect("the program").success());
    let closed = receiver.log("the shop is closed");
    assert_eq!(closed.attribute("exception.message"), Some(Value::StringValue("2 wanted, 1 left".to_owned())));
    assert_eq!(receiver.log("nearly sold out").attribute("left"), Some(Value::IntValue(1)));
    assert_eq!(receiver.logs().iter().filter(|log| log.body() == "taken").count(), 1);
}

#[test]
fn a_failing_upstream_is_an_error_in_the_trace_of_its_order() {
    let receiver = Receiver::http();
    let (mut checkout, address) = open(&receiver);
    assert_eq!(post(&address, "/checkout"), 201);
    assert_eq!(post(&address, "/demo/fail"), 204);
    assert_eq!(post(&address, "/checkout"), 502);
    assert_eq!(post(&address, "/demo/heal"), 204);
    assert_eq!(post(&address, "/checkout"), 201);
    let terminated = Command::new("kill").arg(checkout.id().to_string()).status().expect("the command kill");
    assert!(terminated.success() && checkout.wait().expect("the program's end").success());

    let failed = receiver.log("payment upstream answered 503");
    assert_eq!(failed.attribute("upstream"), Some(Value::StringValue("payment".to_owned())));
    assert_eq!(failed.attribute("order_id"), Some(Value::IntValue(10_002)));
    assert_eq!(receiver.logs().iter().filter(|log| log.body() == "order placed").count(), 2);

    let trace: Vec<Span> =
        receiver.spans().into_iter().filter(|span| span.trace_id == failed.record.trace_id).collect();
    let way = way_to_the_root(&trace, "POST /charge/{order_id}", 2); // from the payment upstream's own span
    assert_eq!(way, ["POST /charge/{order_id}", "POST /charge/{order_id}", "place_order", "POST /checkout"]);
    assert_eq!(failed.record.span_id, span(&trace, "place_order", 1).span_id);
}

/// Starts the checkout without customers, and waits until it tells its address.
fn open(receiver: &Receiver) -> (Child, String) {
    let mut command = command(env!("CARGO_BIN_EXE_checkout"), receiver);
    command.args(["--rate", "0", "--console"]).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let told =
        lines.find_map(|line| Some(line.expect("text").split_once("address=")?.1.to_owned())).expect("an address");
    std::thread::spawn(move || lines.for_each(drop)); // so that the pipe never fills up
    (child, told)
}

fn post(address: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// The names of a span of this name and kind (2: server) and of those above it.
fn way_to_the_root(trace: &[Span], name: &str, kind: i32) -> Vec<String> {
    let mut way = vec![span(trace, name, kind)];
    while let Some(parent) = trace.iter().find(|span| span.span_id == way.last().expect("a span").parent_span_id) {
        way.push(parent);
    }
    way.into_iter().map(|span| span.name.clone()).collect()
}

fn span<'a>(trace: &'a [Span], name: &str, kind: i32) -> &'a Span {
    trace.iter().find(|span| span.name == name && span.kind == kind).unwrap_or_else(|| panic!("no span `{name}`"))
}
