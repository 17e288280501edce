//! Bytes of memory that a group takes, by the allocator's account: pods with so many records each, none of them kept as evidence.
//!
//! `cargo bench --package watchbell-rules --bench group_bytes`

#![allow(clippy::print_stdout)] // it answers a person
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::engine::Engine;
use watchbell_rules::plan::{EngineConfig, Plan};
use watchbell_rules::rule_file;
use watchbell_rules::time::Timestamp;

const START: Timestamp = Timestamp(1_767_225_600_000_000_000);

fn main() {
    println!("| rule | records a group | bytes a group |\n|---|---|---|");
    let rules = [
        ("a count over 5 m, bound 16", "sum by (k8s_pod_name) (count_over_time({service_name=\"shop\"}[5m])) > 16"),
        (
            "a ratio of two counts",
            "sum by (k8s_pod_name) (rate({service_name=\"shop\"} |= \"refused\" [5m])) / sum by (k8s_pod_name) (rate({service_name=\"shop\"}[5m])) > 2",
        ),
        ("a sum of samples", "sum by (k8s_pod_name) (sum_over_time({service_name=\"shop\"} | unwrap took [5m])) > 1e9"),
        ("a quantile", "quantile_over_time(0.99, {service_name=\"shop\"} | unwrap took [5m]) by (k8s_pod_name) > 1e9"),
    ];
    for (name, expr) in rules {
        for records in [1, 16, 1000, 4000] {
            println!("| {name} | {records} | {} |", bytes(expr, records));
        }
    }
}

/// What the engine holds once each group has had so many records, by groups.
fn bytes(expr: &str, records: usize) -> usize {
    let groups = if records > 100 { 500 } else { 10_000 };
    let text = format!("groups: [{{name: bench, rules: [{{alert: A, expr: '{expr}', watchbell: {{samples: 0}}}}]}}]");
    let file = rule_file::parse("bench.yaml", &text).unwrap();
    let plan = Arc::new(Plan::compile(&[file], &EngineConfig::default()).unwrap());
    let mut engine = Engine::new(plan.clone(), START);
    let before = ALLOCATED.load(Ordering::Relaxed);
    for n in 0..records {
        let received = START + Duration::from_secs(240) * n as u32 / records as u32;
        let batch = batch(groups, received);
        engine.handle_batch(plan.match_batch(&batch, received), &batch, received);
        while engine.poll_output().is_some() {}
    }
    (ALLOCATED.load(Ordering::Relaxed) - before) / groups
}

/// A record of each pod.
fn batch(groups: usize, at: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    for group in 0..groups {
        let pod = format!("shop-7f9c-{group:05}");
        let resource =
            encode::resource([("service.name", AnyValue::String("shop")), ("k8s.pod.name", AnyValue::String(&pod))]);
        encode::put_resource_logs(&mut out, &resource, |out| {
            encode::put_scope_logs(out, &[], |out| {
                encode::put_log_record(out, |out| {
                    out.time_unix_nano(at.0 as u64);
                    out.body(&AnyValue::String("payment refused"));
                    out.attribute("took", &AnyValue::Int(30));
                });
            });
        });
    }
    out
}

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts the bytes that are held.
struct Counting;

// SAFETY: each call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}
