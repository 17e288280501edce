//! What logging costs a whole service and what of it arrives, beside other ways of logging.
//!
//! Each figure is of a process of its own (this program run again), whose records go by OTLP/gRPC to a receiver in this one that counts
//! them; `tracing-subscriber` writes lines into a file, which are counted. Python is in the table if `make peers` has installed its
//! OpenTelemetry SDK. Run: `cargo bench -p watchbell --bench delivery`, and for some rows alone `-- PART_OF_THE_NAME`.

#[allow(dead_code)] // of other benchmarks
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::clock::{memory_kib, process_cpu_nanos};
use support::far_end::FarEnd;
use support::stacks;

/// Calls are this far apart where their time is taken: 100,000 a second.
const PACE: Duration = Duration::from_micros(10);
const PACED_CALLS: u64 = 300_000;
/// Of the load at 300,000 a second.
const PER_MILLISECOND: u64 = 300;
const MILLISECONDS: u64 = 4_000;
const FLAT_OUT_CALLS: u64 = 1_000_000;

const STACKS: [&str; 6] = [
    "watchbell",
    "watchbell, mapped chunks",
    "stock",
    "stock, a queue of 65,536",
    "emit",
    "tracing-subscriber's JSON, non-blocking, into a file",
];
const PYTHON: &str = "Python's logging, stock OpenTelemetry handler";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [run, stack, load, target] if run == "run" => run_one(stack, load, target),
        filter => table(filter.first().map_or("", String::as_str)),
    }
}

fn table(filter: &str) {
    let head = "| stack | paced at 100 k/s: ns a call, p50 | p99 | at 300 k/s: lost | CPU-s per million delivered | memory MiB | flat out: calls/s | lost |\n|---|---|---|---|---|---|---|---|\n";
    let mut text = head.to_owned();
    for stack in STACKS.into_iter().filter(|stack| stack.contains(filter)) {
        let paced = process(stack, "paced");
        let steady = process(stack, "steady");
        let flat_out = process(stack, "flat out");
        text += &format!(
            "| {stack} | {} | {} | {} | {:.2} | {:.1} | {:.0} k | {} |\n",
            paced.p50,
            paced.p99,
            steady.lost(),
            steady.cpu_seconds_per_million(),
            steady.memory_kib as f64 / 1024.0,
            flat_out.calls as f64 / flat_out.seconds / 1e3,
            flat_out.lost()
        );
    }
    let python = python();
    if python.exists() && PYTHON.contains(filter) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/delivery.py");
        let measured = measured(Command::new(&python).arg(script));
        text += &format!(
            "| {PYTHON} | {} | {} | | {:.2} | {:.1} | {:.0} k | {} |\n",
            measured.p50,
            measured.p99,
            measured.cpu_seconds_per_million(),
            measured.memory_kib as f64 / 1024.0,
            measured.calls as f64 / measured.seconds / 1e3,
            measured.lost()
        );
    }
    support::print(&text);
}

fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    let cache = std::env::var_os("WATCHBELL_CACHE").map_or_else(|| cache.join("watchbell"), PathBuf::from);
    let installed = std::fs::read_dir(cache.join("peers")).into_iter().flatten().flatten();
    let is_python = |name: &str| name.starts_with("python-client-") && !name.ends_with(".lock");
    let client = installed
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_python));
    client.unwrap_or_default().join("venv/bin/python")
}

/// What a process tells of itself, and how many of its records arrived.
struct Measured {
    calls: u64,
    /// From the first call to the last.
    seconds: f64,
    p50: u64,
    p99: u64,
    /// Of all threads, from the first call to the end of the shutdown.
    cpu_nanos: u64,
    /// The most, less what there was before logging was set up.
    memory_kib: u64,
    arrived: u64,
}

impl Measured {
    fn lost(&self) -> String {
        format!("{:.1} %", (self.calls.saturating_sub(self.arrived)) as f64 * 100.0 / self.calls as f64)
    }

    fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu_nanos as f64 / 1e9 / self.arrived.max(1) as f64 * 1e6
    }
}

fn process(stack: &str, load: &str) -> Measured {
    let program = std::env::current_exe().expect("this program");
    measured(Command::new(program).args(["run", stack, load]))
}

/// Runs the command with the receiver's endpoint as its last argument.
fn measured(command: &mut Command) -> Measured {
    let far_end = FarEnd::start();
    let output = command.arg(far_end.endpoint()).output().expect("a process");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).expect("text");
    let numbers: Vec<u64> = told.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let [calls, nanos, p50, p99, cpu_nanos, memory_kib, in_a_file] = numbers[..] else { panic!("not seven: {told}") };
    let arrived = far_end.records() + in_a_file;
    Measured { calls, seconds: nanos as f64 / 1e9, p50, p99, cpu_nanos, memory_kib, arrived }
}

fn run_one(stack: &str, load: &str, endpoint: &str) {
    let before = memory_kib("VmRSS");
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("lines");
    let call = if stack == "emit" { stacks::call_of_emit } else { stacks::call };
    let measure = || {
        let cpu = process_cpu_nanos();
        (cpu, make_calls(load, call))
    };
    let traced = |dispatch: &tracing::Dispatch| {
        tracing::dispatcher::with_default(dispatch, || tracing::info_span!("checkout").in_scope(measure))
    };
    let (cpu, Calls { calls, nanos, p50, p99 }) = match stack {
        "watchbell" | "watchbell, mapped chunks" => {
            let is_mapped = stack != "watchbell";
            let (dispatch, guard) = match is_mapped {
                true => stacks::ours_mapped(endpoint, "grpc", folder.path()),
                false => stacks::ours(endpoint, "grpc"),
            };
            let measured = traced(&dispatch);
            guard.shutdown(Duration::from_secs(30));
            measured
        }
        "emit" => {
            let flush = stacks::emit(endpoint);
            let measured = stacks::in_a_span_of_emit(measure);
            flush();
            measured
        }
        _ if stack.starts_with("stock") => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let _entered = runtime.enter();
            let queue = if stack == "stock" { 2_048 } else { 65_536 };
            let (dispatch, provider) = stacks::stock(stacks::stock_exporter(endpoint), queue);
            let measured = traced(&dispatch);
            provider.shutdown().expect("a receiver that answers");
            measured
        }
        _ => {
            let (dispatch, guard, _) = stacks::json(std::fs::File::create(&lines).expect("a file"));
            let measured = traced(&dispatch);
            drop(guard);
            measured
        }
    };
    let cpu = process_cpu_nanos() - cpu;
    let memory = memory_kib("VmHWM") - before;
    let in_a_file = std::fs::read(&lines).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count());
    support::print(&format!("{calls} {nanos} {p50} {p99} {cpu} {memory} {in_a_file}"));
}

struct Calls {
    calls: u64,
    nanos: u64,
    /// Nanoseconds a call, by the wall's clock, less that clock's own; 0 where no call's time is taken.
    p50: u64,
    p99: u64,
}

fn make_calls(load: &str, call: fn(u64)) -> Calls {
    let started = Instant::now();
    let done = |calls| Calls { calls, nanos: started.elapsed().as_nanos() as u64, p50: 0, p99: 0 };
    match load {
        "paced" => make_paced_calls(call),
        "steady" => {
            for millisecond in 0..MILLISECONDS {
                (0..PER_MILLISECOND).for_each(|i| call(millisecond * PER_MILLISECOND + i));
                let next = started + Duration::from_millis(millisecond + 1);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            done(MILLISECONDS * PER_MILLISECOND)
        }
        _ => {
            (0..FLAT_OUT_CALLS).for_each(call);
            done(FLAT_OUT_CALLS)
        }
    }
}

fn make_paced_calls(call: fn(u64)) -> Calls {
    let mut nanos = Vec::with_capacity(PACED_CALLS as usize);
    let started = Instant::now();
    let mut next = started;
    for i in 0..PACED_CALLS {
        next += PACE;
        let mut before = Instant::now();
        while before < next {
            std::hint::spin_loop();
            before = Instant::now();
        }
        call(i);
        nanos.push(before.elapsed().as_nanos() as u64);
    }
    let total = started.elapsed().as_nanos() as u64;
    nanos.sort_unstable();
    let clock = clocks_own_nanos();
    let percentile = |percent: usize| nanos[nanos.len() * percent / 100].saturating_sub(clock);
    Calls { calls: PACED_CALLS, nanos: total, p50: percentile(50), p99: percentile(99) }
}

fn clocks_own_nanos() -> u64 {
    let mut nanos: Vec<u64> = (0..10_001).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
    nanos.sort_unstable();
    nanos[nanos.len() / 2]
}
