//! An idle service wakes no thread: a test that counts wake-ups needs a process of its own.
#![cfg(target_os = "linux")]

#[path = "sdk/receiver.rs"]
#[allow(dead_code)]
mod receiver;

use std::path::Path;
use std::time::Duration;

#[test]
fn an_idle_service_wakes_no_thread() {
    let receivers = [receiver::Receiver::http(), receiver::Receiver::grpc()];
    let guards = receivers.each_ref().map(|receiver| {
        let (layer, guard) = watchbell::builder()
            .variables([
                ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint().as_str()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol()),
                ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
            ])
            .layer()
            .expect("an export thread");
        let subscriber = tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), layer);
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("work").entered();
            tracing::info!("once");
        });
        guard.flush(Duration::from_secs(20)).expect("a receiver that answers");
        guard
    });
    assert!((0..4).any(|_| is_quiet_for_a_while()), "an export thread is woken again and again");
    drop(guards);
}

/// The connection's last frames may still come in at first, so that this is asked more than once; timers of up to 12 s are noticed, that which
/// asks a gRPC connection for a sign of life among them.
fn is_quiet_for_a_while() -> bool {
    let before = waits_of_export_threads();
    std::thread::sleep(Duration::from_secs(12)); // nothing should happen, so there is nothing to await
    !before.is_empty() && waits_of_export_threads() == before
}

/// How often each export thread has waited: a wait that ends is a wake-up.
fn waits_of_export_threads() -> Vec<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.filter(|task| name(task).starts_with("watchbell")).filter_map(|task| waits(&task)).collect()
}

fn name(task: &Path) -> String {
    std::fs::read_to_string(task.join("comm")).unwrap_or_default()
}

fn waits(task: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(task.join("status")).ok()?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}
