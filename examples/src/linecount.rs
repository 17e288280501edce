//! A command-line tool: people read short lines on stderr, `-v` shows more of them, and a collector gets all if there is one.
//!
//! `cargo run -p watchbell-examples --bin linecount -- -v README.md missing.md`

#![allow(clippy::print_stdout, clippy::print_stderr)] // it answers a person

use std::fs;
use std::io;
use std::process::ExitCode;

use tracing::debug;
use watchbell::sink::{Format, Sink};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, paths): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|word| word == "-v");
    let levels = if options.is_empty() { "warn" } else { "debug" };
    let console = Sink::stderr().levels(levels).format(Format::Compact);
    let mut builder = watchbell::builder().service_name("linecount").levels("debug").sink(console);
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        let none = ["LOGS", "TRACES", "METRICS"].map(|signal| (format!("OTEL_{signal}_EXPORTER"), "none".to_owned()));
        builder = builder.variables(none); // most machines that run a tool have no collector
    }
    let guard = match builder.init() {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let counts: Vec<Option<usize>> = paths.iter().map(|path| count(path).ok()).collect();
    println!("{}", counts.iter().flatten().sum::<usize>());
    drop(guard); // what was told is written, and sent, before the status says that all is done
    if counts.contains(&None) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[watchbell::catch("cannot count the lines", level = "warn")]
fn count(path: &str) -> io::Result<usize> {
    let lines = fs::read_to_string(path)?.lines().count();
    debug!(path, lines, "counted");
    Ok(lines)
}
