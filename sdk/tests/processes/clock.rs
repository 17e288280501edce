//! A wall clock that is set while the process runs: a library in front of the system's own adds what a file says.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::command;
use super::receiver::{Received, Receiver};

const HOUR: i64 = 3600;

/// The linker of Rust's own programs compiles C, too.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static int file = -1;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock != CLOCK_REALTIME || result) return result;
    if (file < 0) file = open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
    char text[24] = {0};
    if (file >= 0 && pread(file, text, sizeof text - 1, 0) > 0) now->tv_sec += atol(text);
    return 0;
}
"#;

fn build(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SHIM).expect("a file");
    let mut compiler = Command::new("cc");
    let status = compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(status.expect("a C compiler").success());
    library
}

/// An hour back, then a day and an hour on: nothing that is limited by time stays so for that hour, a file is rotated, and all is delivered.
#[test]
fn a_clock_that_is_set_holds_nothing_up() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
    let (clock, log) = (folder.path().join("offset"), folder.path().join("log"));
    set(&clock, 0);
    let mut service = command("clock", &receiver);
    service.env("LD_PRELOAD", build(folder.path())).env("CLOCK_FILE", &clock);
    service.env("WATCHBELL_RESTRAIN", "processes=5/s").env("OTEL_BLRP_SCHEDULE_DELAY", "20");
    service.env("WATCHBELL_SPOOL_DIR", folder.path()).env("WATCHBELL_SPOOL_MAPPED", "true");
    service.env("WATCHBELL_SINKS", format!("file={} rotate=daily", log.display()));
    let output = service.stderr(Stdio::piped()).output().expect("this program");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let hours = |logged: &str| -> Vec<i64> {
        let logs = receiver.logs();
        let logs = logs.iter().filter(|log: &&Received| log.body().starts_with(logged));
        logs.map(|log| hours_from_now(log.record.time_unix_nano)).collect()
    };
    for (logged, hour) in [("before", 0), ("an hour back", -1), ("a day on", 24)] {
        let hours = hours(logged);
        assert!(hours.len() >= 5 && hours.len() <= 20, "{logged}: {} records of 5 a second", hours.len());
        assert!(hours.iter().all(|came| *came == hour), "{logged}: {hours:?}");
    }
    let files = std::fs::read_dir(folder.path()).expect("the folder").map(|file| file.expect("a file").file_name());
    let files: Vec<_> = files.filter(|name| name.to_string_lossy().starts_with("log")).collect();
    assert_eq!(files.len(), 2, "{files:?}");
}

fn set(file: &Path, seconds: i64) {
    std::fs::write(file, format!("{seconds:<20}")).expect("a file");
}

fn hours_from_now(unix_nano: u64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    ((unix_nano / 1_000_000_000) as i64 - now + HOUR / 2).div_euclid(HOUR)
}

pub(crate) fn log_over_changes(guard: watchbell::Guard) {
    let clock = std::env::var("CLOCK_FILE").expect("a path");
    for (logged, seconds) in [("before", 0), ("an hour back", -HOUR), ("a day on", 24 * HOUR)] {
        set(Path::new(&clock), seconds);
        let started = Instant::now();
        let mut i = 0;
        while started.elapsed() < Duration::from_millis(1500) {
            tracing::info!("{logged} {i}");
            std::thread::sleep(Duration::from_millis(5));
            i += 1;
        }
        guard.flush(Duration::from_secs(60)).expect("a receiver that answers");
    }
    let account = guard.shutdown(Duration::from_secs(60)).logs;
    assert_eq!((account.emitted, account.lost()), (account.delivered, 0), "{account}");
}
