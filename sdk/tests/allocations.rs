//! A log call allocates nothing once it is warm: an allocator that counts needs a process of its own.

#![allow(unsafe_code)] // the counting allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry_sdk::logs::{LogProcessor, SdkLoggerProvider};
use tracing_subscriber::layer::SubscriberExt;

#[test]
fn a_warm_call_allocates_nothing() {
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("WATCHBELL_RESTRAIN", "elsewhere=1/s,adaptive")];
    let builder = watchbell::builder().variables(variables);
    let (layer, guard) = builder.layer().expect("an export thread");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let span = tracing::info_span!("checkout");
        let _entered = span.enter();
        drop(watchbell::test::capture()); // leaves a logger, which makes events of the `log` crate's records
        let call = |order_id: u64| {
            log::info!(target: "legacy", "order {order_id} placed");
            tracing::info!(order_id, amount = 9.75, upstream = "payment", "order {} placed", order_id);
            tracing::info!(watchbell.limit = "3/h", order_id, "of these a few");
            tracing::debug!(parent: None, yes = true, debug = ?Some(order_id), "no span");
        };
        (0..5).for_each(call); // until some are withheld, for which a thread starts
        let before = ALLOCATIONS.get();
        assert!(before > 0, "the allocator counts");
        (5..20).for_each(call); // fewer than fill the chunk
        assert_eq!(ALLOCATIONS.get() - before, 0);
    });
    let withheld = guard.withheld();
    assert_eq!(withheld.limit, 17, "{withheld}");
    assert_eq!(guard.shutdown(Duration::ZERO).logs.emitted, 60 + 3 + 1); // one that tells what was withheld
}

/// More than a thread could remember by a look at each.
const TARGETS: [&str; 40] = {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut targets = [LETTERS; 40];
    let mut i = 0;
    while i < targets.len() {
        targets[i] = LETTERS.split_at(i).1.split_at(3).0;
        i += 1;
    }
    targets
};

#[test]
fn nor_does_a_record_of_the_log_crate_or_of_opentelemetrys_api_by_any_of_many_targets() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "3600000"), // nobody takes the chunk
        ("WATCHBELL_RESTRAIN", "abc=1000/s"),
    ];
    let (layer, guard) = watchbell::builder().variables(variables).layer().expect("an export thread");
    let (logger, processor) = (guard.logger_provider(), guard.log_processor());
    let (logger, processor) = (logger.expect("logs are exported").logger("api"), processor.expect("likewise"));
    let scopes = ["first", "second"].map(|name| InstrumentationScope::builder(name).with_version("1").build());
    let mut stock = SdkLoggerProvider::builder().build().logger("stock").create_log_record();
    stock.set_body("order placed".into());
    drop(watchbell::test::capture()); // as above
    let mut call = |i: usize| {
        let target = TARGETS[i % TARGETS.len()];
        log::info!(target: target, order_id = i, who = "ada"; "order {i} placed");
        let mut record = logger.create_log_record();
        record.set_target(target);
        record.set_severity_number(Severity::Info);
        record.add_attribute("order_id", i as i64);
        record.set_body("order placed".into());
        logger.emit(record);
        processor.emit(&mut stock, &scopes[i % 2]);
    };
    let calls = TARGETS.len();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        (0..calls).for_each(&mut call);
        let before = ALLOCATIONS.get();
        (0..calls).for_each(call); // fewer than fill the chunk
        assert_eq!(ALLOCATIONS.get() - before, 0);
    });
    assert_eq!(guard.shutdown(Duration::ZERO).logs.emitted, 2 * 3 * calls as u64);
}

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

struct Counting;

// SAFETY: all is left to the system's allocator; the count is a thread-local number without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
