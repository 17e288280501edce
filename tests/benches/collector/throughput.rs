//! Records per CPU-second of the collector's process, 1,000-record batches of about 300 bytes a record.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Result;
use crate::load::{self, Report, Transport};
use crate::setup::{self, Collector, HUNDRED_RULES, Job};
use crate::sink::Sink;

pub(crate) async fn run(seconds: u64, rows: &str) -> Result<()> {
    let (sink, address) = Sink::start().await?;
    println!("| collector | in | records/CPU-s | records/s | refused | ack p50 ms | ack p99 ms | peak memory MiB |");
    println!("|---|---|---|---|---|---|---|---|");
    for transport in [Transport::Grpc, Transport::Http] {
        for row in [LOG_ONLY, FORWARDED, JUDGED, OTELCOL, ROTEL].into_iter().filter(|row| row.name.contains(rows)) {
            run_row(&row, transport, &sink, &address, seconds).await?;
        }
    }
    if PACED.name.contains(rows) {
        run_row(&PACED, Transport::Grpc, &sink, &address, seconds).await?;
    }
    Ok(())
}

/// A line of the table.
struct Row {
    name: &'static str,
    under_test: UnderTest,
    forwards: bool,
    /// 0: as fast as they are answered.
    records_per_second: u64,
}

#[derive(Clone, Copy)]
enum UnderTest {
    /// Ours, by that rule file.
    Watchbell(&'static str),
    OpenTelemetryCollector,
    Rotel,
}

const NO_RULES: &str = "groups: []";
const LOG_ONLY: Row = Row {
    name: "watchbell, log only",
    under_test: UnderTest::Watchbell(NO_RULES),
    forwards: false,
    records_per_second: 0,
};
const FORWARDED: Row = Row {
    name: "watchbell, log → otlp_grpc",
    under_test: UnderTest::Watchbell(NO_RULES),
    forwards: true,
    records_per_second: 0,
};
const JUDGED: Row = Row {
    name: "watchbell, log, 100 rules → otlp_grpc",
    under_test: UnderTest::Watchbell(HUNDRED_RULES),
    forwards: true,
    records_per_second: 0,
};
const OTELCOL: Row = Row {
    name: "OpenTelemetry Collector, memory only → otlp",
    under_test: UnderTest::OpenTelemetryCollector,
    forwards: true,
    records_per_second: 0,
};
const ROTEL: Row = Row { name: "Rotel, memory only → otlp", under_test: UnderTest::Rotel, ..OTELCOL };
const PACED: Row = Row { name: "watchbell, 100 rules → otlp_grpc, paced", records_per_second: 100_000, ..JUDGED };

async fn run_row(row: &Row, transport: Transport, sink: &Sink, sink_address: &str, seconds: u64) -> Result<()> {
    let collector = match row.under_test {
        UnderTest::Watchbell(rules) => Some(setup::watchbell(&Job {
            rules: rules.to_owned(),
            config: if row.forwards { exporter(sink_address) } else { String::new() },
        })?),
        UnderTest::OpenTelemetryCollector => setup::otelcol(sink_address)?,
        UnderTest::Rotel => setup::rotel(sink_address)?,
    };
    let Some(collector) = collector else {
        println!("| {} | | not installed: `make peers` | | | | | |", row.name);
        return Ok(());
    };
    let idle = collector.process.memory_mib()?;
    load(row, transport, collector, sink, seconds).await?;
    if row.records_per_second > 0 {
        println!("\nidle memory of the last row: {idle:.1} MiB");
    }
    Ok(())
}

fn exporter(address: &str) -> String {
    format!(
        "exporters: {{otlp_grpc: {{endpoint: 'http://{address}', compression: none, signals: [logs], tls: {{insecure: true}}}}}}"
    )
}

async fn load(row: &Row, transport: Transport, collector: Collector, sink: &Sink, seconds: u64) -> Result<()> {
    let Row { name, records_per_second, .. } = *row;
    let address = match transport {
        Transport::Grpc => &collector.grpc,
        Transport::Http => &collector.http,
    };
    load::run(transport, address, CLIENTS, records_per_second, Duration::from_secs(1), BATCH_RECORDS).await?;
    let before = collector.process.cpu()?;
    let run = load::run(transport, address, CLIENTS, records_per_second, Duration::from_secs(seconds), BATCH_RECORDS);
    tokio::pin!(run);
    let mut peak_mib: f64 = 0.0;
    let report = loop {
        tokio::select! {
            report = &mut run => break report?,
            () = tokio::time::sleep(MEMORY_INTERVAL) => peak_mib = peak_mib.max(collector.process.memory_mib()?),
        }
    };
    settle(sink).await;
    let cpu = collector.process.cpu()?.saturating_sub(before);
    print_row(name, transport, &report, cpu, peak_mib);
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

/// How often the memory is looked at; the most that was seen is told.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);
const CLIENTS: usize = 8;
const BATCH_RECORDS: u64 = 1000;
