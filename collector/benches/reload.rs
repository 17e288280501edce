//! How long a reload keeps what comes meanwhile from being judged: 10,000 rules that stay, and one that is new and looks back over all that the
//! log holds. Once with the log read at once, on the thread that judges, and once aside; and the 10,000 rules alone. Batches come
//! one behind the other all the time: told is how long the evaluator took for one at most, with what stood before it, and usually.
#![expect(clippy::print_stdout, reason = "the figures are the benchmark's answer")]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use watchbell_collector::clock::SystemClock;
use watchbell_collector::evaluator::filling::FillLimits;
use watchbell_collector::evaluator::rule_set::{Prepared, RuleFileText, RuleSet};
use watchbell_collector::evaluator::{Evaluator, Output, frame_of};
use watchbell_collector::outbox::{self, Outbox, OutboxConfig};
use watchbell_collector::wal::{DataDir, FrameKind, Log, Metrics, NewFrame, Wal, WalConfig};
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;

const LOG_BYTES: u64 = 512 << 20;
const RULES: usize = 10_000;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return; // `cargo test` runs it, too
    }
    // Not `/tmp`, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let data_dir = DataDir::open(folder.path()).expect("a data directory");
    let config = WalConfig { bytes_max: 4 << 30, ..WalConfig::default() };
    let wal = Wal::open(&data_dir, "logs", config, SystemClock::shared(), &Metrics::default()).expect("a log");
    let (wal, batch) = (Arc::new(wal), batch());
    for _ in 0..LOG_BYTES / batch.len() as u64 {
        append(&wal, FrameKind::Batch, batch.clone());
    }
    let at_once = FillLimits { at_once_bytes_max: u64::MAX, ..FillLimits::default() };
    println!("{RULES} rules, a log of {} MiB, batches of 1,000 records", LOG_BYTES >> 20);
    let new = "sum by (service_name) (count_over_time({service_name=~\"service-.+\"} |= \"order\" [7d])) > 1e12";
    for (name, limits, new) in [
        ("the same rules", FillLimits::default(), None),
        ("aside", FillLimits::default(), Some(new)),
        ("at once", at_once, Some(new)),
    ] {
        let pause = reload(&wal, &batch, limits, new);
        let ratio = pause.longest.as_secs_f64() / pause.median.as_secs_f64();
        println!(
            "{name}: longest {:?}, usual {:?}, ratio {ratio:.0}; in force after {:?}",
            pause.longest, pause.median, pause.until_in_force
        );
    }
}

struct Pause {
    longest: Duration,
    median: Duration,
    until_in_force: Duration,
}

/// Judges a batch behind the other, the reload among them, until the new rule is in force and for a while longer.
fn reload(wal: &Arc<Wal>, batch: &Bytes, limits: FillLimits, new: Option<&str>) -> Pause {
    let (log, prepared): (Arc<dyn Log>, _) = (wal.clone(), Prepared::default());
    let outbox = Outbox::new(OutboxConfig::default(), 7, outbox::Metrics::default());
    let mut evaluator = Evaluator::new(wal.end(), log, outbox)
        .with_prepared(prepared.clone())
        .with_fill_limits(FillLimits { at_once_bytes_max: u64::MAX, ..limits });
    let load = |rules: RuleSet| {
        let bytes = rules.to_bytes();
        prepared.put(&bytes, rules.compile().expect("good rules"));
        append(wal, FrameKind::Rules, bytes.into());
    };
    load(rules(None));
    // What these 10,000 look back is not measured.
    fold(&mut evaluator, wal);
    let mut evaluator = evaluator.with_fill_limits(limits);
    load(rules(new));
    let (begun, mut until_in_force) = (Instant::now(), Duration::ZERO);
    let (mut pauses, mut after) = (Vec::new(), 0);
    let (done, filled) = std::sync::mpsc::channel();
    while after < 200 {
        append(wal, FrameKind::Batch, batch.clone());
        let folding = Instant::now();
        fold(&mut evaluator, wal);
        pauses.push(folding.elapsed());
        if let Ok(job) = filled.try_recv() {
            evaluator.handle_fill(job);
        }
        while let Some(output) = evaluator.poll_output(Duration::ZERO) {
            match output {
                Output::Fill(mut job) => {
                    let (wal, done) = (wal.clone(), done.clone());
                    thread::spawn(move || {
                        while !job.step(&*wal, wal.progress().borrow().durable).expect("it reads") {}
                        done.send(job).expect("it waits");
                    });
                }
                Output::Append(frame) => append(wal, frame.kind, frame.payload),
                _ => {}
            }
        }
        if evaluator.fill_progress().is_none() {
            after += 1;
            if after == 1 {
                until_in_force = begun.elapsed();
            }
        }
    }
    pauses.sort();
    Pause { longest: pauses[pauses.len() - 1], median: pauses[pauses.len() / 2], until_in_force }
}

fn fold(evaluator: &mut Evaluator, wal: &Wal) {
    while evaluator.position() < wal.end() {
        let frames = wal.read(evaluator.position(), 4 << 20).expect("it reads");
        frames.iter().for_each(|frame| evaluator.handle_frame(frame));
    }
}

fn append(wal: &Wal, kind: FrameKind, payload: Bytes) {
    let frame = match kind {
        FrameKind::Batch => NewFrame { kind, hash: 0, event_span: None, records: 1_000, payload },
        kind => frame_of(kind, payload.to_vec()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(wal.append(frame)).expect("durable");
}

fn rules(new: Option<&str>) -> RuleSet {
    let rule = |n: usize| {
        format!(
            "{{alert: Rule{n}, expr: 'sum by (service_name) (count_over_time({{service_name=\"service-{}\"}} |= \"word {n}\" [5m])) > 5'}}",
            n % 100
        )
    };
    let new = new.map(|expr| format!("{{alert: New, expr: '{expr}'}}"));
    let rules: Vec<String> = (0..RULES).map(rule).chain(new).collect();
    let text = format!("groups: [{{name: g, rules: [{}]}}]", rules.join(", "));
    RuleSet { files: vec![RuleFileText { path: "rules.yaml".to_owned(), text }], ..RuleSet::default() }
}

/// 1,000 records of 100 services.
fn batch() -> Bytes {
    let mut out = Vec::new();
    for service in 0..100 {
        let name = format!("service-{service}");
        let resource = encode::resource([("service.name", AnyValue::String(&name))]);
        encode::put_resource_logs(&mut out, &resource, |out| {
            encode::put_scope_logs(out, &encode::scope("bench", ""), |out| {
                for n in 0..10 {
                    encode::put_log_record(out, |record| {
                        record.severity_number(9);
                        record.body_fmt(format_args!("order {service}-{n} was placed by customer {n}, paid by card, and is packed in the warehouse of Oslo"));
                    });
                }
            });
        });
    }
    out.into()
}
