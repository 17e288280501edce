//! From the last byte of the request that holds the crossing record to the first byte of the webhook request, under load.

use std::io::Write;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use watchbell_proto::otlp::common::AnyValue;

use crate::Result;
use crate::batch::Batch;
use crate::load::{self, Sender, Transport};
use crate::setup::{self, Job};
use crate::sink::Sink;

pub(crate) async fn run(seconds: u64) -> Result<()> {
    let (sink, sink_address) = Sink::start().await?;
    let collector = setup::watchbell(&job(&sink_address))?;
    let fsync = fsync_seconds(collector.dir.path())?;
    let grpc = collector.grpc.clone();
    let background = tokio::spawn(async move {
        let duration = Duration::from_secs_f64(PAGES as f64 / PAGES_PER_SECOND as f64 + seconds as f64 / 2.0);
        load::run(Transport::Grpc, &grpc, 4, 50_000, duration, 500).await
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = send_crossing_records(&collector.grpc).await?;
    let report = background.await??;
    let pages = sink.pages.lock().unwrap_or_else(PoisonError::into_inner);
    let mut latencies: Vec<f64> = sent
        .iter()
        .enumerate()
        .filter_map(|(page, sent)| Some(pages.get(&page.to_string())?.duration_since(*sent).as_secs_f64()))
        .collect();
    latencies.sort_by(f64::total_cmp);
    println!(
        "\npage latency at {:.0} records/s, {} of {PAGES} pages: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms; fdatasync of {FSYNC_BYTES} bytes beside it: p50 {:.2} ms, p99 {:.2} ms",
        report.taken_records as f64 / report.seconds,
        latencies.len(),
        load::quantile(&latencies, 0.5) * 1e3,
        load::quantile(&latencies, 0.9) * 1e3,
        load::quantile(&latencies, 0.99) * 1e3,
        load::quantile(&latencies, 0.999) * 1e3,
        load::quantile(&fsync, 0.5) * 1e3,
        load::quantile(&fsync, 0.99) * 1e3,
    );
    Ok(())
}

/// One alert a value of `page`, each its own message.
fn job(sink: &str) -> Job {
    Job {
        rules: RULES.to_owned(),
        config: format!(
            "alerting:\n  route: {{receiver: sink, group_by: [page], group_wait: 0s}}\n  \
             receivers: [{{name: sink, webhook_configs: [{{url: 'http://{sink}/page', send_resolved: false}}]}}]\n"
        ),
    }
}

/// Sends a request for each page at a steady pace, and notes when each was handed to the socket.
async fn send_crossing_records(address: &str) -> Result<Vec<Instant>> {
    let sender = Sender::new(Transport::Grpc, address);
    let pace = Duration::from_secs_f64(1.0 / PAGES_PER_SECOND as f64);
    let mut next = Instant::now();
    let mut sent = Vec::with_capacity(PAGES);
    let mut tasks = Vec::with_capacity(PAGES);
    for page in 0..PAGES {
        tokio::time::sleep_until(next.into()).await;
        next += pace;
        let name = page.to_string();
        let batch = Batch::with_record(PAGER, 1, |_, record| record.attribute("page", &AnyValue::String(&name)));
        let request = batch.stamped(load::now_nanos());
        sent.push(Instant::now());
        let sender = sender.clone();
        tasks.push(tokio::spawn(async move { sender.send(request).await }));
    }
    for task in tasks {
        if !task.await?? {
            return Err("a crossing record was refused".into());
        }
    }
    Ok(sent)
}

/// How long the disk takes to make a write durable, sorted.
fn fsync_seconds(dir: &std::path::Path) -> Result<Vec<f64>> {
    let mut file = std::fs::File::create(dir.join("fsync"))?;
    let block = vec![0x5a; FSYNC_BYTES];
    let mut seconds = Vec::new();
    for _ in 0..200 {
        file.write_all(&block)?;
        let start = Instant::now();
        file.sync_data()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

const PAGES: usize = 10_000;
const PAGES_PER_SECOND: u64 = 250;
const PAGER: usize = 4711;
const FSYNC_BYTES: usize = 64 << 10;
const RULES: &str = r#"
groups:
  - name: pages
    interval: 1s
    rules:
      - alert: Page
        expr: sum by (page) (count_over_time({service_name="service-4711"} | page != "" [5s])) > 0
"#;
