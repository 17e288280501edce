//! What hangs: a console whose pipe nobody reads, and a disk.

use std::process::Stdio;
use std::time::{Duration, Instant};

use watchbell::Guard;

use super::receiver::{Absent, Receiver};
#[cfg(target_os = "linux")]
use super::spool;
use super::{child, command};

const LONG: Duration = Duration::from_secs(120);

/// Some hundred kilobytes of lines, of which a pipe takes sixty-four.
const RECORDS: usize = 3000;

const SHUTDOWN: Duration = Duration::from_secs(1);

/// The collector comes late, so that the export has something to tell on stderr, too.
#[test]
fn a_console_that_nobody_reads_stops_neither_a_file_nor_the_export() {
    for console in ["stdout", "stderr"] {
        let (folder, absent) = (tempfile::tempdir().expect("a folder"), Absent::new());
        let path = folder.path().join("log");
        let mut command = child("hanging");
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()).env("OTEL_BLRP_SCHEDULE_DELAY", "20");
        command.env("WATCHBELL_SINKS", format!("{console}; file={} format={{message}}", path.display()));
        let mut hanging = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("this program");
        until(&format!("all is in the file beside {console}"), || {
            std::fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == RECORDS)
        });
        let receiver = absent.come(false);
        receiver.wait_for_logs(RECORDS);
        std::fs::write(folder.path().join("end"), "").expect("a file");
        let asked = Instant::now();
        let status = hanging.wait().expect("its end");
        assert_eq!(status.code(), Some(7), "{console}: all but the console's records are written, in time");
        assert!(asked.elapsed() < LONG / 2, "{console}: the shutdown has a deadline of {SHUTDOWN:?}");
    }
}

/// A sink that hangs holds what it may, and as much again in no moment when it goes on.
#[test]
#[cfg(target_os = "linux")]
fn a_sink_that_catches_up_stays_within_its_bound() {
    let mut service = child("catching up");
    service.env("OTEL_LOGS_EXPORTER", "none").env("OTEL_TRACES_EXPORTER", "none").env("OTEL_METRICS_EXPORTER", "none");
    let output = service.output().expect("this program");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(target_os = "linux")]
const CATCHING_UP_BYTES_MAX: usize = 16 << 20;

/// What the sink waits for.
#[cfg(target_os = "linux")]
static GATE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Each record has a secret, so that its copy without that is another's.
#[cfg(target_os = "linux")]
pub(crate) fn with_a_gate(builder: watchbell::Builder) -> watchbell::Builder {
    let sink = watchbell::sink::Sink::callback("gate", |_| drop(GATE.lock()));
    builder.sink(sink.bytes_max(CATCHING_UP_BYTES_MAX)).redact(watchbell::redact::Redaction::usual())
}

#[cfg(target_os = "linux")]
fn catch_up(guard: Guard) {
    let closed = GATE.lock();
    let text = "x".repeat(1000);
    (0..2 * CATCHING_UP_BYTES_MAX / text.len())
        .for_each(|_| tracing::info!(password = "hunter2", "4111111111111111 {text}"));
    let before = memory("VmRSS");
    drop(closed);
    guard.flush(LONG).expect("the gate is open");
    let (more, account) = (memory("VmHWM").saturating_sub(before), &guard.sinks()[0]);
    let held = account.written as usize * text.len();
    let is_bounded = held > CATCHING_UP_BYTES_MAX / 2 && held < CATCHING_UP_BYTES_MAX && account.dropped > 0;
    assert!(is_bounded && more < CATCHING_UP_BYTES_MAX / 3, "{more} bytes more than {before}, {account}");
    std::process::exit(7);
}

/// Bytes of this process, by that line of its status.
#[cfg(target_os = "linux")]
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("that line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// Whoever opens a file on which another has a lease waits until that is given back: as long as a disk may take that has gone to sleep.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_hangs_holds_up_neither_calls_nor_a_deadline() {
    let (folder, absent, receiver) = (tempfile::tempdir().expect("a folder"), Absent::new(), Receiver::http());
    let mut away = child("spool and exit");
    away.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint());
    assert!(spool::spawn(&mut away, folder.path()).wait().expect("its end").success());
    let lease = Lease::on(&spool::files(folder.path())[0]);
    let started = Instant::now();
    let hanging = spool::spawn(&mut command("hanging disk", &receiver), folder.path()).wait_with_output();
    let hanging = hanging.expect("its output");
    assert_eq!(hanging.status.code(), Some(7), "{}", spool::text(&hanging));
    assert!(started.elapsed() < LONG / 4, "the lease would be broken by then");
    assert_eq!(receiver.requests(), 0, "what was left is the first to be sent");
    drop(lease);
    assert_eq!(spool::run("exit", &receiver, folder.path()).status.code(), Some(7));
    assert_eq!(receiver.logs().len(), spool::RECORDS + 1);
}

/// Nobody else opens the file meanwhile.
#[cfg(target_os = "linux")]
struct Lease(std::fs::File);

#[cfg(target_os = "linux")]
impl Lease {
    #[expect(unsafe_code)] // the standard library has no leases
    fn on(path: &std::path::Path) -> Self {
        use std::os::fd::AsRawFd;

        let file = std::fs::File::options().read(true).write(true).open(path).expect("a file");
        // SAFETY: both take numbers alone. The signal says that somebody waits, and would end this process.
        let set = unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(set, 0, "no lease: {}", std::io::Error::last_os_error());
        Self(file)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Lease {
    #[expect(unsafe_code)] // as above
    fn drop(&mut self) {
        use std::os::fd::AsRawFd;

        // SAFETY: takes numbers alone.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

/// What the process of a case does.
pub(crate) fn run(case: &str, guard: Guard) {
    match case {
        "hanging" => log_and_exit(guard),
        #[cfg(target_os = "linux")]
        "catching up" => catch_up(guard),
        _ => log_beside_a_disk(guard),
    }
}

/// Logs, asks for all to be sent, and ends; whether all of that was in time is its exit code.
fn log_beside_a_disk(guard: Guard) {
    let started = Instant::now();
    (0..1000).for_each(|i| tracing::info!("{i}"));
    let is_quick = started.elapsed() < 5 * SHUTDOWN;
    let is_waiting = guard.flush(SHUTDOWN / 2).is_err();
    let account = guard.shutdown(SHUTDOWN).logs;
    let is_in_time = started.elapsed() < 10 * SHUTDOWN && account.delivered == 0;
    std::process::exit(if is_quick && is_waiting && is_in_time { 7 } else { 1 });
}

/// Logs, and ends once it is told to, which is judged by its exit code: it has no stream to tell anything.
fn log_and_exit(guard: Guard) {
    let sinks = std::env::var("WATCHBELL_SINKS").expect("two sinks");
    let path = sinks.split('=').nth(1).and_then(|rest| rest.strip_suffix("/log format")).expect("a path");
    (0..RECORDS).for_each(|i| tracing::info!("{i} {}", "x".repeat(100)));
    until("the end", || std::path::Path::new(path).join("end").exists());
    let [console, file] = &guard.sinks()[..] else { std::process::exit(1) };
    let is_hanging = console.written < RECORDS as u64 && file.written == RECORDS as u64 && file.dropped == 0;
    let started = Instant::now();
    let account = guard.shutdown(SHUTDOWN).logs;
    let is_in_time = started.elapsed() >= SHUTDOWN && started.elapsed() < 20 * SHUTDOWN;
    let is_delivered = account.delivered == RECORDS as u64;
    std::process::exit(if is_hanging && is_in_time && is_delivered { 7 } else { 1 });
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
