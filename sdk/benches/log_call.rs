//! What a log call costs the thread that makes it: nanoseconds and allocations, beside other ways of logging.
//!
//! An event with a `u64`, an `f64` and a string attribute and a formatted message, inside an active span. All hand their records to a
//! receiver in the same process that throws them away. Each figure is the best of many batches, in nanoseconds of the calling
//! thread's own processor time; between batches everything is flushed. Run: `cargo bench -p watchbell --bench log_call`, and for some rows
//! alone `-- PART_OF_THE_NAME`.

#![allow(unsafe_code)] // an allocator that counts

#[allow(dead_code)] // of other benchmarks
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::logs::LoggerProvider;
use support::clock::thread_cpu_nanos;
use support::far_end::FarEnd;
use support::stacks::{self, TARGETS, call};
use tracing::Dispatch;

const CALLS_PER_BATCH: u32 = 2_000;
const BATCHES: u32 = 400;
/// Between two flushes the stock queue loses nothing.
const STOCK_QUEUE: usize = 65_536;

static LOGGER: OnceLock<watchbell::logs::Logger> = OnceLock::new();

fn main() {
    let far_end = FarEnd::start();
    let (ours, guard) = stacks::ours(far_end.endpoint(), "http/protobuf");
    let (stock, logger_provider) = stacks::stock(stacks::Discard, STOCK_QUEUE);
    let (json, _writer, _) = stacks::json(std::io::sink());
    let folder = tempfile::tempdir().expect("a folder");
    let (with_file, file_guard) = stacks::ours_with_a_file(far_end.endpoint(), folder.path());
    let (mapped, mapped_guard) = stacks::ours_mapped(far_end.endpoint(), "http/protobuf", folder.path());
    LOGGER.get_or_init(|| guard.logger_provider().expect("logs are exported").logger("bench"));
    let flush_emit = stacks::emit(far_end.endpoint());
    let none = Dispatch::none();

    let flush_ours = || guard.flush(Duration::from_secs(10)).expect("a receiver that answers");
    let flush_file = || file_guard.flush(Duration::from_secs(10)).expect("a receiver that answers");
    let flush_mapped = || mapped_guard.flush(Duration::from_secs(10)).expect("a receiver that answers");
    let flush_stock = || logger_provider.force_flush().expect("an exporter that always succeeds");
    let ours = Stack { dispatch: &ours, flush: &flush_ours };
    let stock = Stack { dispatch: &stock, flush: &flush_stock };
    let json = Stack { dispatch: &json, flush: &|| {} };
    let with_file = Stack { dispatch: &with_file, flush: &flush_file };
    let mapped = Stack { dispatch: &mapped, flush: &flush_mapped };
    let emit = Stack { dispatch: &none, flush: &flush_emit };
    let visited = Stack { dispatch: &stacks::visited(), flush: &|| {} };

    let mut table = Table::new();
    table.row("watchbell, in a span", &ours, call);
    table.row_of_two("watchbell, in a span, by two threads at once", &ours, call);
    table.row("stock appender and batch processor, in a span", &stock, call);
    table.row_of_two("stock appender and batch processor, in a span, by two threads at once", &stock, call);
    table.row("tracing-subscriber's JSON, non-blocking, in a span", &json, call);
    table.row_of_two("tracing-subscriber's JSON, non-blocking, in a span, by two threads at once", &json, call);
    stacks::in_a_span_of_emit(|| table.row("emit over gRPC, in a span", &emit, stacks::call_of_emit));
    table.row("watchbell with a JSON file besides, in a span", &with_file, call);
    table.row("watchbell with mapped chunks, in a span", &mapped, call);
    table.row("watchbell by OpenTelemetry's logs API, in a span", &ours, call_of_our_api);
    table.row_of_two(
        "watchbell by OpenTelemetry's logs API, in a span, by two threads at once",
        &ours,
        call_of_our_api,
    );
    let api_of_many = |i| call_of_our_api_for(TARGETS[i as usize % TARGETS.len()], i);
    table.row("watchbell by OpenTelemetry's logs API, of forty targets by turns", &ours, api_of_many);
    drop(watchbell::test::capture()); // leaves a logger, which makes events of the `log` crate's records
    table.row(
        "watchbell by the log crate, of forty targets by turns",
        &ours,
        |i| log::info!(target: TARGETS[i as usize % TARGETS.len()], order_id = i, amount = 9.75; "order {i} placed"),
    );
    table.row("watchbell, without attributes", &ours, |_| tracing::info!("order placed"));
    table.row("watchbell, disabled level", &ours, |i| tracing::debug!(i, "order {}", i));
    table.row("watchbell, `enabled!` of a disabled level", &ours, |_| {
        std::hint::black_box(tracing::enabled!(tracing::Level::DEBUG));
    });
    table.row("watchbell, withheld by a rate", &ours, |i| tracing::info!(watchbell.limit = "1/h", i, "order {}", i));
    table.row("tracing alone, fields visited and formatted", &visited, call);
    table.row("a look at the clock", &ours, |_| {
        std::hint::black_box(std::time::SystemTime::now());
    });
    table.row("an empty call: what all rows have in common", &ours, |i| {
        std::hint::black_box((i, 9.75, "payment"));
    });
    let ledger = guard.shutdown(Duration::from_secs(10));
    support::print(&format!("{}\n{ledger}\n", table.text));
    assert_eq!(ledger.logs.lost(), 0);
}

fn call_of_our_api(i: u64) {
    stacks::call_of_the_api(LOGGER.get().expect("set at the start"), None, i);
}

fn call_of_our_api_for(target: &'static str, i: u64) {
    stacks::call_of_the_api(LOGGER.get().expect("set at the start"), Some(target), i);
}

struct Stack<'a> {
    dispatch: &'a Dispatch,
    flush: &'a (dyn Fn() + Sync),
}

struct Table {
    text: String,
    filter: String,
}

impl Table {
    fn new() -> Self {
        let text = "| path | CPU ns a call, best | median | allocations a call |\n|---|---|---|---|\n".to_owned();
        let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
        Self { text, filter }
    }

    fn row(&mut self, name: &str, stack: &Stack<'_>, call: fn(u64)) {
        if name.contains(&self.filter) {
            self.tell(name, &measure(stack, call));
        }
    }

    /// Of two threads that log all the time; the figures are of one of them.
    fn row_of_two(&mut self, name: &str, stack: &Stack<'_>, call: fn(u64)) {
        if name.contains(&self.filter) {
            let figures = std::thread::scope(|scope| {
                let other = scope.spawn(|| measure(stack, call));
                let figures = measure(stack, call);
                other.join().expect("no panic");
                figures
            });
            self.tell(name, &figures);
        }
    }

    fn tell(&mut self, name: &str, Figures { best, median, allocations }: &Figures) {
        self.text += &format!("| {name} | {best:.0} | {median:.0} | {allocations:.2} |\n");
    }
}

struct Figures {
    best: f64,
    median: f64,
    allocations: f64,
}

fn measure(stack: &Stack<'_>, call: fn(u64)) -> Figures {
    tracing::dispatcher::with_default(stack.dispatch, || {
        let _span = tracing::info_span!("checkout").entered();
        let mut nanos = Vec::new();
        let mut allocations = 0;
        for batch in 0..BATCHES {
            let (clock, allocated) = (thread_cpu_nanos(), ALLOCATIONS.get());
            (0..u64::from(CALLS_PER_BATCH)).for_each(|i| call(std::hint::black_box(i)));
            nanos.push((thread_cpu_nanos() - clock) as f64 / f64::from(CALLS_PER_BATCH));
            let is_warm = batch > BATCHES / 4;
            allocations += if is_warm { ALLOCATIONS.get() - allocated } else { 0 };
            (stack.flush)();
        }
        nanos.sort_by(f64::total_cmp);
        let warm_calls = f64::from((BATCHES - BATCHES / 4 - 1) * CALLS_PER_BATCH);
        Figures { best: nanos[0], median: nanos[nanos.len() / 2], allocations: allocations as f64 / warm_calls }
    })
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

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
