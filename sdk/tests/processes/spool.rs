//! The spool over the ends of processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use watchbell::Guard;

use super::receiver::{Absent, Received, Receiver};
use super::{child, command};

const LONG: Duration = Duration::from_secs(120);

/// Two processes are killed one after the other while they spool, one while it sends; the last delivers what they left, without a hole.
#[test]
fn kill_9_loses_nothing_of_what_is_on_disk() {
    let (folder, absent) = (tempfile::tempdir().expect("a folder"), Absent::new());
    let mut spoolers = Vec::new();
    for round in 0..2 {
        let mut spooling = spawn(child("spool").env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()), folder.path());
        until("the spool grows", || bytes_in(folder.path()) > 100_000 * (round + 1));
        spooling.kill().expect("a process");
        spooling.wait().expect("its end");
        spoolers.push(spooling.id().to_string());
    }
    let receiver = Receiver::http();
    let mut sending = spawn(&mut command("spool", &receiver), folder.path());
    receiver.wait_for_logs(1);
    sending.kill().expect("a process");
    sending.wait().expect("its end");
    let output = run("spool and exit", &receiver, folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let bodies: BTreeSet<_> = receiver.logs().iter().map(Received::body).collect();
    for process in spoolers {
        let own = bodies.iter().filter_map(|body| body.strip_prefix(&process)?.trim().parse::<usize>().ok());
        let own: BTreeSet<_> = own.collect();
        assert!(own.len() > 100, "{} records of a process that was killed", own.len());
        assert_eq!(own.len(), own.last().expect("one") + 1, "a hole in what it logged");
    }
    assert_eq!(bytes_in(folder.path()), 0);
}

#[test]
fn two_processes_share_a_spool() {
    let (folder, absent) = (tempfile::tempdir().expect("a folder"), Absent::new());
    let away = |case| {
        let mut command = child(case);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint());
        command
    };
    let left = [0, 1].map(|_| spawn(&mut away("spool and exit"), folder.path()));
    left.into_iter().for_each(|process| assert!(process.wait_with_output().expect("its output").status.success()));
    let receiver = Receiver::http();
    let sent = [0, 1].map(|_| spawn(&mut command("spool and exit", &receiver), folder.path()));
    sent.into_iter().for_each(|process| assert!(process.wait_with_output().expect("its output").status.success()));
    let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
    assert_eq!(bodies.len(), 4 * RECORDS, "no record is lost or there twice");
    assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), 4 * RECORDS);
    assert_eq!(bytes_in(folder.path()), 0);
}

/// The system lets no file grow over 32 KiB.
#[test]
fn a_full_disk_is_told_and_the_rest_waits_in_memory() {
    let (folder, absent) = (tempfile::tempdir().expect("a folder"), Absent::new());
    let plain = child("spool and exit");
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"ulimit -f 64; trap "" XFSZ; exec "$@""#, "sh"]);
    limited.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint());
    let output = spawn(&mut limited, folder.path()).wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("cannot write the spool in"), "{}", text(&output));
    let spooled = number_before(&text(&output), " spooled");
    let dropped = number_before(&text(&output), " at the deadline");
    assert!(spooled > 0 && dropped > 0 && spooled + dropped == RECORDS, "{}", text(&output));

    let receiver = Receiver::http();
    assert!(run("exit", &receiver, folder.path()).status.code() == Some(7));
    assert_eq!(receiver.logs().len(), spooled + 1);
}

/// The number that stands before these words.
fn number_before(text: &str, words: &str) -> usize {
    let before = text.split(words).next().unwrap_or_default();
    before.rsplit([' ', '(']).next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

pub(crate) const RECORDS: usize = 2000;

/// Logs until it is killed.
pub(crate) fn log_until_killed(guard: &Guard) {
    let started = Instant::now();
    for i in 0.. {
        tracing::info!("{} {i}", std::process::id());
        if i % 20 == 0 {
            let _ = guard.flush(Duration::from_millis(1)); // so that it is collected, whoever answers
        }
        assert!(started.elapsed() < LONG, "nobody has killed this process");
    }
}

/// Logs so many records, with the account checked.
pub(crate) fn log_and_exit(guard: Guard) {
    for i in 0..RECORDS {
        tracing::info!("{} {i}", std::process::id());
        if i % 20 == 0 {
            let _ = guard.flush(Duration::from_millis(1)); // as above
        }
    }
    let account = guard.shutdown(Duration::from_secs(5)).logs;
    let ended = account.delivered + account.refused + account.dropped() + account.spooled;
    assert_eq!((account.emitted, account.in_flight), (ended, 0), "{account}");
}

pub(crate) fn run(case: &str, receiver: &Receiver, folder: &Path) -> Output {
    spawn(&mut command(case, receiver), folder).wait_with_output().expect("its output")
}

pub(crate) fn spawn(command: &mut Command, folder: &Path) -> Child {
    command.env("OTEL_SERVICE_NAME", "checkout").env("OTEL_TRACES_EXPORTER", "none").env("WATCHBELL_SPOOL_DIR", folder);
    command.env("OTEL_METRICS_EXPORTER", "none").stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("this program")
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn bytes_in(folder: &Path) -> u64 {
    files(folder).iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Of the service.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(folder.join("checkout")) else { return Vec::new() };
    files.map(|file| file.expect("a file").path()).collect()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
