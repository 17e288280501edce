//! A console that hangs: a pipe that nobody reads.

use std::process::Stdio;
use std::time::{Duration, Instant};

use watchbell::Guard;

use super::child;
use super::receiver::Absent;

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

/// Logs, and ends once it is told to, which is judged by its exit code: it has no stream to tell anything.
pub(crate) fn log_and_exit(guard: Guard) {
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
