//! How fast `watchbell replay` goes: a million lines of JSON in a file, judged by ten rules on one thread.
//!
//! `cargo bench --package watchbell-collector --bench replay`

#![allow(clippy::print_stdout)] // it answers a person

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use watchbell_collector::cli::{Cli, Command, ReplayArguments};
use watchbell_collector::clock::SystemClock;
use watchbell_collector::replay::history::History;
use watchbell_rules::alerting::config::PolicyConfig;
use watchbell_rules::backtest::Backtest;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::shared();
    for (name, file) in [("lines", lines(LINES)), ("Loki push JSON", push(LINES)), ("OTLP JSON", otlp(LINES))] {
        let path = folder.path().join("history");
        fs::File::create(&path).unwrap().write_all(file.as_bytes()).unwrap();
        let arguments = arguments(&path.display().to_string());
        let began = clock.monotonic();
        let history = History::open(&arguments.history, &clock).unwrap();
        let read = clock.monotonic() - began;
        let config = EngineConfig { labels: history.label_config(&Default::default()), ..EngineConfig::default() };
        let rules = rule_file::parse("rules.yaml", &rules()).unwrap();
        let plan = Arc::new(Plan::compile(&[rules], &config).unwrap());
        let mut backtest = Backtest::new(plan, PolicyConfig::default(), history.start().unwrap());
        let mut pages = 0;
        history
            .for_each(&mut |batch| {
                backtest.handle_batch(batch.bytes, batch.received);
                while backtest.poll_event().is_some() {
                    pages += 1;
                }
            })
            .unwrap();
        let whole = clock.monotonic() - began;
        println!(
            "{name}: {:.2} M records/s together, {:.2} M read, {:.2} M judged; {pages} events",
            rate(whole),
            rate(read),
            rate(whole - read)
        );
    }
}

fn rate(took: Duration) -> f64 {
    LINES as f64 / took.as_secs_f64() / 1e6
}

fn arguments(from: &str) -> ReplayArguments {
    let line = ["watchbell", "replay", "--rules", "x", "--label", "service_name=checkout", "--from", from];
    let Command::Replay(arguments) = Cli::parse_from(line).command else { unreachable!() };
    arguments
}

/// A hundred records a second, one in a thousand an error, two in a hundred slow.
fn line(n: usize) -> String {
    let (level, msg) =
        if n.is_multiple_of(1000) { ("error", "payment refused by the bank") } else { ("info", "payment taken") };
    let took = if n.is_multiple_of(50) { 1200 } else { 30 };
    format!(r#"{{"level":"{level}","msg":"{msg}","order":{n},"took_ms":{took},"user":"u{}"}}"#, n % 977)
}

fn nanos(n: usize) -> u64 {
    1_764_000_000_000_000_000 + n as u64 * 10_000_000
}

fn lines(count: usize) -> String {
    let stamp = |n| watchbell_rules::time::Timestamp(nanos(n) as i64);
    (0..count).map(|n| format!("{} {}\n", stamp(n), line(n))).collect()
}

fn push(count: usize) -> String {
    let value = |n| format!("[\"{}\",{}]", nanos(n), serde_json::to_string(&line(n)).unwrap());
    let body = |from: usize| {
        let values: Vec<String> = (from..from + 1000).map(value).collect();
        format!(
            "{{\"streams\":[{{\"stream\":{{\"service_name\":\"checkout\"}},\"values\":[{}]}}]}}\n",
            values.join(",")
        )
    };
    (0..count).step_by(1000).map(body).collect()
}

fn otlp(count: usize) -> String {
    let record = |n| {
        let body = serde_json::to_string(&line(n)).unwrap();
        format!("{{\"timeUnixNano\":\"{}\",\"severityNumber\":9,\"body\":{{\"stringValue\":{body}}}}}", nanos(n))
    };
    let resource = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"checkout"}}]}"#;
    let request = |from: usize| {
        let records: Vec<String> = (from..from + 1000).map(record).collect();
        format!(
            "{{\"resourceLogs\":[{{\"resource\":{resource},\"scopeLogs\":[{{\"logRecords\":[{}]}}]}}]}}\n",
            records.join(",")
        )
    };
    (0..count).step_by(1000).map(request).collect()
}

/// Ten rules: literals, regular expressions, a parser, ratios and absence.
fn rules() -> String {
    let expressions = [
        r#"sum by (service_name) (count_over_time({service_name="checkout"} |= "refused" [5m])) > 20"#,
        r#"sum by (service_name) (rate({service_name="checkout"} |= "error" [1m])) > 5"#,
        r#"sum(count_over_time({service_name="checkout"} |~ "timeout|deadline exceeded" [5m])) > 0"#,
        r#"sum(count_over_time({service_name="checkout"} |= "panic" [5m])) > 0"#,
        r#"sum by (user) (count_over_time({service_name="checkout"} |= "refused" | json [5m])) > 3"#,
        r#"sum(count_over_time({service_name="checkout"} |= "\"took_ms\":1200" | json | took_ms > 1000 [1m])) > 100"#,
        r#"sum(rate({service_name="checkout"} |= "refused" [5m])) / sum(rate({service_name="checkout"} [5m])) > 0.05"#,
        r#"absent_over_time({service_name="checkout"} [5m])"#,
        r#"sum(count_over_time({service_name="cart"} [5m])) > 10"#,
        r#"sum by (service_name) (bytes_rate({service_name="checkout"} [1m])) > 1e9"#,
    ];
    let rules = expressions.iter().enumerate().map(|(n, expr)| format!("      - {{alert: A{n}, expr: '{expr}'}}\n"));
    format!("groups:\n  - name: g\n    rules:\n{}", rules.collect::<String>())
}

const LINES: usize = 1_000_000;
