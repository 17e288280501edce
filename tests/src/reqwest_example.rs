//! The example with reqwest, which is no part of the workspace: it is built here and run, and the SDK's page shows its lines.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::support::peer::target;
use crate::support::watchbell::Watchbell;
use crate::support::{http, root, until};

#[test]
fn reqwest_hands_the_trace_on() {
    let watchbell = Watchbell::start("", "groups: []\n");
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/items/7", upstream.local_addr().unwrap());
    let answering = std::thread::spawn(move || answer_one(&upstream));
    let output = Command::new("cargo")
        .args(["run", "--quiet", "--locked", "--manifest-path"])
        .arg(root().join("examples/reqwest/Cargo.toml"))
        .arg("--target-dir")
        .arg(target("reqwest-example"))
        .args(["--", &url])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", watchbell.http))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let traceparent = answering.join().unwrap();
    let trace = traceparent.split('-').nth(1).expect("a trace id");
    let query = http::encode(&format!(r#"{{service_name="shop"}} | trace_id = "{trace}""#));
    let url = watchbell.api_url(&format!("/loki/api/v1/query_range?direction=forward&query={query}"));
    let text = until("both lines", || Some(http::get_json(&url).to_string()).filter(|text| text.contains("fetched")));
    assert!(text.contains("GET 127.0.0.1 200"), "the line of the layer: {text}");
}

/// Answers one request; the `traceparent` that it brought.
fn answer_one(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let head =
        BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
    let traceparent =
        head.collect::<Vec<_>>().iter().find_map(|line| Some(line.strip_prefix("traceparent: ")?.to_owned()));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    traceparent.expect("a trace in the request's headers")
}

#[test]
fn the_page_shows_the_example() {
    let page = std::fs::read_to_string(root().join("sdk/src/middleware.rs")).unwrap();
    let example = std::fs::read_to_string(root().join("examples/reqwest/src/main.rs")).unwrap();
    let block = page.split("//! ```text\n").nth(1).unwrap().split("//! ```").next().unwrap();
    let shown: Vec<_> = block.lines().map(|line| line.trim_start_matches("//!").trim()).collect();
    let lines: Vec<_> = example.lines().map(str::trim).collect();
    assert!(lines.windows(shown.len()).any(|window| window == shown), "`middleware` shows other lines:\n{block}");
}
