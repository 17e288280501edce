//! What a collector costs: records per CPU-second of its process, with our collector and others under the same load, and how long a page
//! takes from the crossing record to the webhook.
//!
//! `make bench` builds what is needed and runs it. `-- throughput` or `-- latency` runs one half; `--seconds N` sets how long each row loads,
//! `--rows TEXT` leaves out the rows whose name is without that text.

#![allow(clippy::print_stdout)] // it prints tables

mod batch;
mod latency;
mod load;
mod process;
mod setup;
mod sink;
mod throughput;

use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let seconds = option("--seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    let rows = option("--rows").unwrap_or_default();
    let wants = |half: &str| {
        let named = |name: &&str| arguments.iter().any(|argument| argument == name);
        named(&half) || !["throughput", "latency"].iter().any(named)
    };
    setup::leave_first_core()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if wants("throughput") {
        runtime.block_on(throughput::run(seconds, &rows))?;
    }
    if wants("latency") {
        runtime.block_on(latency::run(seconds))?;
    }
    Ok(())
}
