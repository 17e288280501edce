//! Records per CPU-second of the collector's process, 1,000-record batches of about 300 bytes a record.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Result;
use crate::load::{self, Report, Transport};
use crate::setup::{self, Collector, HUNDRED_RULES, Job};
use crate::sink::Sink;

pub(crate) async fn run(seconds: u64) -> Result<()> {
    let (sink, sink_address) = Sink::start().await?;
    let exporter = format!(
        "exporters: {{otlp_grpc: {{endpoint: 'http://{sink_address}', compression: none, signals: [logs], tls: {{insecure: true}}}}}}"
    );
    let without_rules = Job { rules: "groups: []".to_owned(), config: exporter.clone() };
    let with_rules = Job { rules: HUNDRED_RULES.to_owned(), config: exporter };
    let only_log = Job { rules: "groups: []".to_owned(), config: String::new() };

    println!("| collector | in | records/CPU-s | records/s | refused | ack p50 ms | ack p99 ms | memory MiB |");
    println!("|---|---|---|---|---|---|---|---|");
    for transport in [Transport::Grpc, Transport::Http] {
        row("watchbell, log only", transport, setup::watchbell(&only_log)?, &sink, seconds, 0).await?;
        row("watchbell, log → otlp_grpc", transport, setup::watchbell(&without_rules)?, &sink, seconds, 0).await?;
        row("watchbell, log, 100 rules → otlp_grpc", transport, setup::watchbell(&with_rules)?, &sink, seconds, 0)
            .await?;
        if let Some(otelcol) = setup::otelcol(&sink_address)? {
            row("OpenTelemetry Collector, memory only → otlp", transport, otelcol, &sink, seconds, 0).await?;
        } else {
            println!("| OpenTelemetry Collector | | not installed: `make peers` | | | | | |");
        }
    }
    let paced = setup::watchbell(&with_rules)?;
    println!("\nidle memory, 100 rules: {:.1} MiB", paced.process.memory_mib()?);
    row("watchbell, 100 rules → otlp_grpc, paced", Transport::Grpc, paced, &sink, seconds, 100_000).await
}

async fn row(
    name: &str,
    transport: Transport,
    collector: Collector,
    sink: &Sink,
    seconds: u64,
    records_per_second: u64,
) -> Result<()> {
    let address = match transport {
        Transport::Grpc => &collector.grpc,
        Transport::Http => &collector.http,
    };
    load::run(transport, address, CLIENTS, records_per_second, Duration::from_secs(1), BATCH_RECORDS).await?;
    let before = collector.process.cpu()?;
    let report =
        load::run(transport, address, CLIENTS, records_per_second, Duration::from_secs(seconds), BATCH_RECORDS).await?;
    settle(sink).await;
    let cpu = collector.process.cpu()?.saturating_sub(before);
    print_row(name, transport, &report, cpu, collector.process.memory_mib()?);
    Ok(())
}

/// Waits until nothing arrives at the far end any more: what was taken in is to be paid for.
async fn settle(sink: &Sink) {
    let mut last = u64::MAX;
    while last != sink.bytes.load(Ordering::Relaxed) {
        last = sink.bytes.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn print_row(name: &str, transport: Transport, report: &Report, cpu: Duration, memory_mib: f64) {
    let records = report.taken_records as f64;
    println!(
        "| {name} | {transport:?} | {:.0} k | {:.0} k | {:.1} % | {:.2} | {:.2} | {memory_mib:.1} |",
        records / cpu.as_secs_f64() / 1e3,
        records / report.seconds / 1e3,
        100.0 * report.refused_records as f64 / (records + report.refused_records as f64),
        report.quantile(0.5) * 1e3,
        report.quantile(0.99) * 1e3,
    );
}

const CLIENTS: usize = 8;
const BATCH_RECORDS: u64 = 1000;
