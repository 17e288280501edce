//! How many instructions a log call takes, which no other load on the machine changes: valgrind counts them.
//!
//! Run: `make instructions`. It fails where a call of ours takes more than the recorded number and a tenth
//! ([`RECORDED`]), and where ours takes more than six tenths of what the stock appender does.

#[allow(dead_code)] // of other benchmarks
mod support;

use std::process::Command;
use std::sync::OnceLock;

use opentelemetry::logs::LoggerProvider;
use support::stacks::{self, call};
use tracing::Dispatch;

/// Before the counted ones, until everything that a callsite and a thread need is there.
const WARM_UP: u64 = 1_000;
const CALLS: u64 = 1_000;

/// Name, call, and instructions a call as last recorded; none for a stack that is not ours, and differs from run to run.
type Row = (&'static str, fn() -> Dispatch, fn(u64), Option<u64>);

const RECORDED: [Row; 7] = [
    ("watchbell, in a span", ours, call, Some(1653)),
    ("watchbell, without attributes", ours, |_| tracing::info!("order placed"), Some(950)),
    ("watchbell, disabled level", ours, |i| tracing::debug!(i, "order {}", i), Some(14)),
    (STOCK, || stacks::stock(stacks::Discard, 65_536).0, call, None),
    ("watchbell by OpenTelemetry's logs API, in a span", with_logger, call_of_our_api, None),
    ("watchbell by the log crate, of forty targets by turns, in a span", of_the_log_crate, call_of_the_log_crate, None),
    ("tracing alone, fields visited and formatted", stacks::visited, call, None),
];
const STOCK: &str = "stock appender and batch processor, in a span";

/// Nothing is sent: what leaves is not what is counted.
fn ours() -> Dispatch {
    ours_and_its_guard().0
}

fn ours_and_its_guard() -> (Dispatch, &'static watchbell::Guard) {
    let (dispatch, guard) = stacks::ours("http://127.0.0.1:9", "http/protobuf");
    (dispatch, Box::leak(Box::new(guard)))
}

static LOGGER: OnceLock<watchbell::logs::Logger> = OnceLock::new();

fn with_logger() -> Dispatch {
    let (dispatch, guard) = ours_and_its_guard();
    LOGGER.get_or_init(|| guard.logger_provider().expect("logs are exported").logger("bench"));
    dispatch
}

fn call_of_our_api(i: u64) {
    stacks::call_of_the_api(LOGGER.get().expect("set at the start"), None, i);
}

fn of_the_log_crate() -> Dispatch {
    drop(watchbell::test::capture()); // leaves a logger, which makes events of the `log` crate's records
    ours()
}

fn call_of_the_log_crate(i: u64) {
    log::info!(target: stacks::TARGETS[i as usize % stacks::TARGETS.len()], "order {i} placed");
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next() {
        Some(name) => calls(RECORDED.iter().find(|row| row.0 == name).expect("a row's name")),
        None => table(),
    }
}

fn calls((_, dispatch, call, _): &Row) {
    tracing::dispatcher::with_default(&dispatch(), || {
        let _span = tracing::info_span!("checkout").entered();
        (0..WARM_UP).for_each(call);
        counted_calls(*call);
    });
}

/// Valgrind counts what happens in here, by this name.
#[inline(never)]
fn counted_calls(call: fn(u64)) {
    (0..CALLS).for_each(|i| call(std::hint::black_box(i)));
}

fn table() {
    let mut text = String::from("| path | instructions a call | recorded |\n|---|---|---|\n");
    let mut is_more = false;
    let counts = RECORDED.map(|(name, _, _, recorded)| {
        let count = instructions(name);
        is_more |= recorded.is_some_and(|recorded| count * 10 > recorded * 11);
        let recorded = recorded.map(|recorded| recorded.to_string()).unwrap_or_default();
        text += &format!("| {name} | {count} | {recorded} |\n");
        count
    });
    support::print(&text);
    assert!(!is_more, "a call takes a tenth more than recorded: mend it, or record the new number with the reason");
    assert!(counts[0] * 10 <= counts[3] * 6, "ours is to take six tenths of what stock does");
}

fn instructions(name: &str) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_calls*"]);
    let output = valgrind.arg(program).arg(name).output();
    let output = output.expect("`valgrind` on the PATH: apt-get install valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    collected.unwrap_or_else(|| panic!("valgrind does not tell how many: {told}")) / CALLS
}
