//! Programs that end by themselves.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::receiver::Receiver;
use super::{command, string};

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
    assert_eq!(closed.attribute("exception.message"), string("2 wanted, 1 left"));
    assert_eq!(receiver.log("nearly sold out").attribute("left"), Some(Value::IntValue(1)));
    assert_eq!(receiver.logs().iter().filter(|log| log.body() == "taken").count(), 1);
}
