//! OpenTelemetry's own SDKs send to us, over every protocol they have; what leaves us again is what they sent.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::otlp::{SPAN_ID, TRACE_ID};
use crate::support::peer::folder;
use crate::support::root;
use crate::support::sink::Sink;
use crate::support::watchbell::Watchbell;

#[test]
fn python() {
    check("python", &["grpc", "http/protobuf", "http/json"], |protocol| {
        let peer = if protocol == "http/json" { "python-json-client" } else { "python-client" };
        let mut command = Command::new(folder(peer).join("venv/bin/python"));
        command.arg(root().join("tests/foreign/python/send.py"));
        command
    });
}

#[test]
fn node() {
    check("node", &["grpc", "http/protobuf", "http/json"], |_| {
        let mut command = Command::new("node");
        command.arg(folder("node-client").join("send.mjs"));
        command
    });
}

#[test]
fn go() {
    check("go", &["grpc", "http/protobuf"], |_| Command::new(folder("go-client").join("bin/send")));
}

#[test]
fn java() {
    check("java", &["grpc", "http/protobuf"], |_| {
        let folder = folder("java-client");
        let mut command = Command::new("java");
        command.args(["-cp", &format!("{0}/classes:{0}/jars/*", folder.display()), "Send"]);
        command
    });
}

/// Runs a client over each protocol, plain and compressed, and looks at what comes out at the far end.
#[track_caller]
fn check(language: &str, protocols: &[&str], client: impl Fn(&str) -> Command) {
    let sink = Sink::start();
    let watchbell = Watchbell::start(&sink.exporter(), "groups: []\n");
    let mut runs = 0;
    for protocol in protocols {
        for compression in ["none", "gzip"] {
            let port = if *protocol == "grpc" { watchbell.grpc } else { watchbell.http };
            let mut client = client(protocol);
            client.args([protocol, format!("http://127.0.0.1:{port}").as_str(), compression]);
            let output = client.output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{language} {protocol} {compression}: {stderr}");
            runs += 1;
            let records = sink.wait_records(3 * runs);
            assert_eq!(records.len(), 3 * runs, "{language} {protocol} {compression}: sent once, came twice; {stderr}");
            for (attempt, record) in records[3 * runs - 3..].iter().enumerate() {
                check_record(record, attempt);
            }
        }
    }
    let resource = &sink.requests()[0]["resourceLogs"][0]["resource"]["attributes"];
    let name = json!({"key": "service.name", "value": {"stringValue": format!("foreign-{language}")}});
    assert!(resource.as_array().unwrap().contains(&name), "{resource}");
}

fn check_record(record: &Value, attempt: usize) {
    assert_eq!(record["body"]["stringValue"], format!("payment refused, attempt {attempt}"), "{record}");
    assert_eq!(record["severityNumber"], 17, "{record}");
    assert_eq!((&record["traceId"], &record["spanId"]), (&json!(TRACE_ID), &json!(SPAN_ID)), "{record}");
    assert_ne!(record["timeUnixNano"], Value::Null, "{record}");
    let attributes = record["attributes"].as_array().unwrap();
    for expected in [
        json!({"key": "user.id", "value": {"stringValue": "42"}}),
        json!({"key": "attempt", "value": {"intValue": attempt.to_string()}}),
        json!({"key": "ratio", "value": {"doubleValue": 0.5}}),
        json!({"key": "retried", "value": {"boolValue": true}}),
    ] {
        assert!(attributes.contains(&expected), "{expected} in {record}");
    }
}
