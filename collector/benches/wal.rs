//! Durable appends of 64 KiB by eight tasks, beside one task's plain loop of write and fdatasync on the same disk: how many times as many
//! group commit makes of them.
#![expect(clippy::print_stderr, reason = "the ratio is the benchmark's answer")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use watchbell_collector::clock::SystemClock;
use watchbell_collector::wal::{DataDir, FrameKind, Log, Metrics, NewFrame, Wal, WalConfig};

const PAYLOAD_BYTES: usize = 64 << 10;
const TASKS: u64 = 8;

fn durable_appends(criterion: &mut Criterion) {
    // Not `/tmp`, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let wal = open(&folder);
    let file = preallocated(&folder);
    let mut group = criterion.benchmark_group("durable_64KiB");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("wal_8_tasks", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(append_from_tasks(&wal, count)));
    });
    group.bench_function("write_fdatasync_loop", |bencher| bencher.iter_custom(|count| write_and_sync(&file, count)));
    group.finish();
    let (appends, writes) = (runtime.block_on(append_from_tasks(&wal, 20_000)), write_and_sync(&file, 4_000));
    let (appends, writes) = (20_000.0 / appends.as_secs_f64(), 4_000.0 / writes.as_secs_f64());
    eprintln!("wal {appends:.0}/s, plain loop {writes:.0}/s, ratio {:.1}", appends / writes);
}

/// A log in the state that it is mostly in: at its cap, so that segments are used again.
fn open(folder: &tempfile::TempDir) -> Arc<Wal> {
    let data_dir = DataDir::open(folder.path()).expect("a data directory");
    let config = WalConfig { bytes_max: 256 << 20, ..WalConfig::default() };
    let wal = Wal::open(&data_dir, "logs", config, SystemClock::shared(), &Metrics::default()).expect("a log");
    Arc::new(wal)
}

async fn append_from_tasks(wal: &Arc<Wal>, count: u64) -> Duration {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let start = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let (wal, payload) = (Arc::clone(wal), payload.clone());
        let share = count / TASKS + u64::from(task < count % TASKS);
        tokio::spawn(async move {
            for _ in 0..share {
                let kind = FrameKind::Batch;
                let frame = NewFrame { kind, hash: 0, event_span: None, records: 1, payload: payload.clone() };
                wal.append(frame).await.expect("durable");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a task");
    }
    start.elapsed()
}

const FILE_BYTES: u64 = 64 << 20;

/// A file whose blocks are written already, as a segment's that is used again.
fn preallocated(folder: &tempfile::TempDir) -> File {
    let file = File::create(folder.path().join("plain")).expect("a file");
    file.write_all_at(&vec![1; FILE_BYTES as usize], 0).and_then(|()| file.sync_all()).expect("written");
    file
}

fn write_and_sync(file: &File, count: u64) -> Duration {
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let start = Instant::now();
    for i in 0..count {
        file.write_all_at(&payload, i * PAYLOAD_BYTES as u64 % FILE_BYTES).expect("written");
        file.sync_data().expect("synced");
    }
    start.elapsed()
}

criterion_group!(benches, durable_appends);
criterion_main!(benches);
