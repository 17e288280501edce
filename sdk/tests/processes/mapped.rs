//! Mapped chunks: what a call has returned from outlives `kill -9`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tracing_subscriber::Registry;
use watchbell::spool::Spool;
use watchbell::{Account, Guard, WatchbellLayer};

use super::receiver::{Absent, Received, Receiver};
use super::spool::files;
use super::{child, command};

const LONG: Duration = Duration::from_secs(120);
const THREADS: usize = 3;

/// It is killed after some milliseconds, at whatever it is doing then. Where its collector answers, what had been answered may come twice.
#[test]
fn kill_9_at_any_moment_loses_no_record_whose_call_had_returned() {
    let mut all_returned = 0;
    for seed in 0..16u64 {
        let folder = tempfile::tempdir().expect("a folder");
        let (absent, receiver) = (Absent::new(), Receiver::http());
        let is_away = seed % 2 == 0;
        let endpoint = if is_away { absent.endpoint() } else { receiver.endpoint() };
        let mut killed = child("mapped");
        killed.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        if seed % 4 < 2 {
            killed.env("OTEL_BLRP_SCHEDULE_DELAY", "15"); // it collects, sends and spools all the time
        }
        let returned = kill_after(&mut killed, folder.path(), Duration::from_millis(1 + seed * 37 % 101));
        all_returned += returned.iter().sum::<usize>();
        let taken_over = take_over(folder.path(), &receiver);
        let came = numbers(&receiver);
        for (thread, returned) in returned.iter().enumerate() {
            let missing: Vec<_> = (0..*returned).filter(|i| !came.contains_key(&(thread, *i))).collect();
            assert!(
                missing.is_empty(),
                "seed {seed}: {returned} calls of thread {thread} returned, missing: {missing:?}"
            );
        }
        let begun: usize = returned.iter().map(|returned| returned + 1).sum();
        assert!(came.len() <= begun, "seed {seed}: {} records of at most {begun}", came.len());
        if is_away {
            assert_eq!(taken_over.taken_over.found as usize, came.values().sum::<usize>(), "seed {seed}: {taken_over}");
        }
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new(), "seed {seed}");
    }
    assert!(all_returned > 0, "each was killed before its first call had returned");
}

/// Both have written when they are killed, and two start anew at the same time.
#[test]
fn two_processes_have_files_of_their_own() {
    let (folder, absent, receiver) = (tempfile::tempdir().expect("a folder"), Absent::new(), Receiver::http());
    let mut both = [0, 1].map(|_| spawn_away("mapped", &absent, folder.path()));
    let begun = both.each_mut().map(|child| counted(child, 200));
    both.iter_mut().for_each(|child| child.kill().expect("a process"));
    let returned: usize =
        both.each_mut().iter_mut().map(|child| rest(child)).sum::<usize>() + begun.iter().sum::<usize>();
    let heirs = [0, 1].map(|_| spawn(&mut command("exit", &receiver), folder.path()));
    heirs.into_iter().for_each(|mut heir| assert_eq!(heir.wait().expect("its end").code(), Some(7)));
    let came = came_of_killed(&receiver);
    assert!(came >= returned && came <= returned + 2 * THREADS, "{came} records of {returned}");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

/// It has the parent's memory, and would write into the parent's file.
#[test]
fn a_forked_child_leaves_its_parents_chunks_alone() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
    let absent = Absent::new();
    let mut parent = spawn_away("mapped, forked", &absent, folder.path());
    counted(&mut parent, 1);
    parent.kill().expect("a process");
    parent.wait().expect("its end");
    take_over(folder.path(), &receiver);
    let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
    assert_eq!(bodies, ["parent 0", "parent 1", "parent 2", "parent 3"]);
}

#[test]
fn what_looks_like_a_secret_never_reaches_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let absent = Absent::new();
    let mut killed = spawn_away("mapped", &absent, folder.path());
    assert_eq!(counted(&mut killed, 50), 50);
    killed.kill().expect("a process");
    killed.wait().expect("its end");
    let written: Vec<u8> = files(folder.path()).iter().flat_map(|path| std::fs::read(path).expect("a file")).collect();
    let has = |text: &[u8]| written.windows(text.len()).any(|window| window == text);
    assert!(has(b"paid with [redacted]"));
    assert!(!has(b"4111"));
}

/// It is called within the call, there and for the console, and logs through the process's own subscriber.
#[test]
fn what_a_finder_of_secrets_logs_itself_goes_nowhere() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
    let mut service = command("a finder logs", &receiver);
    let output = spawn(service.env("OTEL_LOGS_EXPORTER", "otlp,console"), folder.path()).wait_with_output();
    let output = output.expect("its output");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {told}", output.status);
    assert_eq!(receiver.logs().iter().map(Received::body).collect::<Vec<_>>(), ["paid with [redacted]"]);
    assert!(told.contains("paid with [redacted]") && !told.contains("looks at"), "{told}");
}

#[test]
fn a_file_with_damage_is_sent_up_to_there_and_told() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::http());
    let absent = Absent::new();
    let mut killed = spawn_away("mapped, forked", &absent, folder.path());
    counted(&mut killed, 1);
    killed.kill().expect("a process");
    killed.wait().expect("its end");
    let [path] = &files(folder.path())[..] else { panic!("one file") };
    let mut bytes = std::fs::read(path).expect("a file");
    let at = bytes.windows(8).position(|window| window == b"parent 2").expect("a record");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("a file");
    let output = spawn(&mut command("exit", &receiver), folder.path()).wait_with_output().expect("its output");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("has records that are not whole"), "{told}");
    let mut bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
    bodies.sort();
    assert_eq!(bodies, ["last words", "parent 0", "parent 1"], "what follows in the chunk is lost");
}

/// Without what those say that take over.
fn came_of_killed(receiver: &Receiver) -> usize {
    receiver.logs().iter().filter(|log| log.body() != "last words").count()
}

/// What the process of a case does.
pub(crate) fn run(case: &str) {
    if case == "mapped" { log_and_report() } else { log_and_fork() }
}

/// As a service does whose threads log flat out: each tells by a byte that a call has returned.
fn log_and_report() {
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            threads.spawn(move || {
                let started = Instant::now();
                for i in 0.. {
                    tracing::info!(order_id = i, "{thread} {i} paid with 4111 1111 1111 1111");
                    report(thread as u8);
                    assert!(started.elapsed() < LONG, "nobody has killed this process");
                }
            });
        }
    });
}

fn report(byte: u8) {
    let written = std::io::stdout().write_all(&[byte]).and_then(|()| std::io::stdout().flush());
    written.expect("a parent that reads");
}

/// The child fills the chunk that it has from its parent, ends, and then the parent goes on.
#[expect(unsafe_code)] // the standard library does not fork
fn log_and_fork() {
    (0..2).for_each(|i| tracing::info!("parent {i}"));
    // SAFETY: the child logs and ends, as a service's child would; the parent waits for it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        (0..100).for_each(|i| tracing::info!("child {i}"));
        // SAFETY: ends the process and does nothing else.
        unsafe { libc::_exit(0) };
    }
    let mut status = -1;
    // SAFETY: waits for the child, and writes its status.
    assert_eq!((unsafe { libc::waitpid(child, &raw mut status, 0) }, status), (child, 0));
    (2..4).for_each(|i| tracing::info!("parent {i}"));
    report(0);
    std::thread::sleep(LONG);
}

/// A case whose collector is not there.
fn spawn_away(case: &str, absent: &Absent, folder: &Path) -> Child {
    spawn(child(case).env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()), folder)
}

fn spawn(command: &mut Command, folder: &Path) -> Child {
    let all = [("OTEL_SERVICE_NAME", "checkout"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
    command.envs(all).env("WATCHBELL_SPOOL_DIR", folder).env("WATCHBELL_SPOOL_MAPPED", "true");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("this program")
}

/// How many calls of each thread had returned when it was killed.
fn kill_after(command: &mut Command, folder: &Path, time: Duration) -> [usize; THREADS] {
    let mut child = spawn(command, folder);
    let mut reports = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut returned = Vec::new();
        reports.read_to_end(&mut returned).expect("a pipe");
        returned
    });
    let started = Instant::now();
    while files(folder).is_empty() {
        assert!(started.elapsed() < LONG, "it never begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(time);
    child.kill().expect("a process");
    child.wait().expect("its end");
    let mut returned = [0; THREADS];
    // What a test's harness says itself is text.
    let bytes = reader.join().expect("no panic").into_iter().filter(|byte| usize::from(*byte) < THREADS);
    bytes.for_each(|byte| returned[usize::from(byte)] += 1);
    returned
}

/// Reads reports until there are so many; how many it were.
#[expect(clippy::unbuffered_bytes)] // what comes behind the last one is for the next call
fn counted(child: &mut Child, reports: usize) -> usize {
    let pipe = child.stdout.as_mut().expect("a pipe");
    let is_report = |byte: &std::io::Result<u8>| usize::from(*byte.as_ref().expect("a pipe")) < THREADS;
    pipe.bytes().filter(is_report).take(reports).count()
}

/// Those that are left when it is dead.
fn rest(child: &mut Child) -> usize {
    counted(child, usize::MAX)
}

/// The next process of the service.
fn take_over(folder: &Path, receiver: &Receiver) -> Account {
    let endpoint = receiver.endpoint();
    let variables = [
        ("OTEL_SERVICE_NAME", "checkout"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let builder = watchbell::builder().variables(variables).spool(Spool::in_dir(folder));
    let (_layer, guard): (WatchbellLayer<Registry>, Guard) = builder.layer().expect("an export thread");
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.taken_over.waiting, account.taken_over.found), (0, account.taken_over.delivered), "{account}");
    account
}

/// How often each record of each thread came.
fn numbers(receiver: &Receiver) -> BTreeMap<(usize, usize), usize> {
    let mut numbers = BTreeMap::new();
    for body in receiver.logs().iter().map(Received::body) {
        let mut words = body.split(' ').map_while(|word| word.parse::<usize>().ok());
        let number = words.next().zip(words.next()).unwrap_or_else(|| panic!("{body}"));
        assert!(body.ends_with(" paid with [redacted]"), "{body}");
        *numbers.entry(number).or_default() += 1;
    }
    numbers
}
