//! What waits is on disk while the collector is away, and is sent once by whoever comes next.

use std::path::Path;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use watchbell::spool::Spool;
use watchbell::{Account, Builder, Guard};

use super::pipeline_of;
use super::receiver::{Absent, Received, Receiver, Scripted};

const LONG: Duration = Duration::from_secs(120);

fn builder(endpoint: &str, spool: Spool) -> Builder {
    let variables = [
        ("OTEL_SERVICE_NAME", "checkout"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    watchbell::builder().variables(variables).spool(spool)
}

/// Logs these numbers one by one, each in a request of its own.
fn log(dispatch: &tracing::Dispatch, guard: &Guard, numbers: std::ops::Range<usize>) {
    for i in numbers {
        tracing::dispatcher::with_default(dispatch, || tracing::info!("record {i}"));
        let _ = guard.flush(Duration::from_millis(1)); // so that it is collected; nobody answers
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn bodies(receiver: &Receiver) -> Vec<String> {
    receiver.logs().iter().map(Received::body).filter(|body| body.starts_with("record ")).collect()
}

fn records(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|i| format!("record {i}")).collect()
}

fn number(body: &str) -> usize {
    body.trim_start_matches("record ").parse().expect("a number")
}

/// How many of the numbers there are in the longest sequence that rises.
fn longest_rising(numbers: impl Iterator<Item = usize>) -> usize {
    let mut ends = Vec::new(); // the least end of a rising sequence of each length
    for number in numbers {
        let i = ends.partition_point(|end| *end < number);
        ends.splice(i..ends.len().min(i + 1), [number]);
    }
    ends.len()
}

fn is_exact(account: &Account) -> bool {
    let others = account.taken_over;
    let ended = others.delivered + others.refused + others.dropped + others.waiting;
    let own = account.delivered + account.refused + account.dropped() + account.spooled + account.in_flight;
    account.emitted == own && others.found == ended
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join("checkout")).expect("the service's folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// A process of the service that logs while the collector is away, and ends.
fn leave_behind(folder: &Path, numbers: std::ops::Range<usize>) {
    let count = numbers.len() as u64;
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), Spool::in_dir(folder)));
    log(&dispatch, &guard, numbers);
    let started = Instant::now();
    let account = guard.shutdown(LONG).logs;
    assert!(started.elapsed() < LONG / 2, "nobody waits for a collector that is away");
    assert_eq!((account.emitted, account.spooled, account.lost()), (count, count, 0), "{account}");
}

#[test]
fn a_later_process_delivers_all_in_order() {
    let folder = tempfile::tempdir().unwrap();
    leave_behind(folder.path(), 0..40);
    leave_behind(folder.path(), 40..60);
    let receiver = Receiver::http();
    receiver.script([Scripted::Unavailable]);
    let (dispatch, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("record 60"));
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.emitted, account.delivered, account.spooled), (1, 1, 0), "{account}");
    assert_eq!((account.taken_over.found, account.taken_over.delivered), (60, 60), "{account}");
    let mut came = bodies(&receiver);
    let in_order = longest_rising(came.iter().map(|body| number(body)));
    assert!(in_order > 30, "only {in_order} are in order (by chance it would be some 15): {came:?}");
    came.sort_by_key(|body| number(body));
    assert_eq!(came, records(0..61));
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
#[cfg(feature = "metrics")]
fn what_is_taken_over_is_a_metric() {
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value as Point};
    let folder = tempfile::tempdir().unwrap();
    leave_behind(folder.path(), 0..5);
    let receiver = Receiver::http();
    let endpoint = receiver.endpoint();
    let variables = [("OTEL_SERVICE_NAME", "checkout"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    let (_, guard) = pipeline_of(watchbell::builder().variables(variables).spool(Spool::in_dir(folder.path())));
    until("all is delivered", || guard.ledger().logs.taken_over.delivered == 5);
    guard.flush(LONG).unwrap();
    let Some(Data::Sum(sum)) = receiver.metric("watchbell.sdk.log.taken_over").data else { panic!("a sum") };
    let end = |i: usize| super::receiver::attributes(&sum.data_points[i].attributes).remove("watchbell.end").unwrap();
    let found: Vec<_> =
        (0..sum.data_points.len()).map(|i| (format!("{:?}", end(i)), sum.data_points[i].value.unwrap())).collect();
    let value = |name: &str| found.iter().find(|(end, _)| end.contains(name)).map(|(_, value)| *value);
    assert_eq!((value("delivered"), value("waiting")), (Some(Point::AsInt(5)), Some(Point::AsInt(0))), "{found:?}");
    assert_eq!((value("refused"), value("dropped")), (Some(Point::AsInt(0)), Some(Point::AsInt(0))), "{found:?}");
}

#[test]
fn the_same_process_delivers_when_the_collector_is_back() {
    for is_grpc in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let absent = Absent::new();
        let protocol = if is_grpc { watchbell::Protocol::Grpc } else { watchbell::Protocol::HttpProtobuf };
        let (dispatch, guard) =
            pipeline_of(builder(&absent.endpoint(), Spool::in_dir(folder.path())).protocol(protocol));
        log(&dispatch, &guard, 0..30);
        until("all is on disk", || guard.ledger().logs.spooled == 30);
        let account = guard.ledger().logs;
        assert!(is_exact(&account) && account.in_flight == 0, "{account}");
        let receiver = absent.come(is_grpc);
        guard.flush(LONG).expect("a receiver that answers");
        let account = guard.ledger().logs;
        assert_eq!((account.delivered, account.spooled, account.lost()), (30, 0, 0), "{account}");
        let mut came = bodies(&receiver);
        came.sort_by_key(|body| number(body));
        assert_eq!(came, records(0..30));
        assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
        drop(guard);
    }
}

#[test]
fn a_collector_that_is_there_costs_no_file() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::http());
    let (dispatch, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    log(&dispatch, &guard, 0..10);
    guard.flush(LONG).expect("a receiver that answers");
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(guard.shutdown(LONG).logs.delivered, 10);
}

/// It takes connections and never answers: no try has failed when the deadline comes.
#[test]
fn shortly_before_the_deadline_what_is_left_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (dispatch, guard) = pipeline_of(builder(&endpoint, Spool::in_dir(folder.path())));
    log(&dispatch, &guard, 0..10);
    let account = guard.shutdown(Duration::from_millis(400)).logs;
    assert_eq!((account.spooled, account.lost()), (10, 0), "{account}");
    let receiver = Receiver::http();
    drop(pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path()))));
    assert_eq!(receiver.logs().len(), 10);
}

#[test]
fn two_that_live_never_send_what_is_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Absent::new();
    let (dispatch, away) = pipeline_of(builder(&absent.endpoint(), Spool::in_dir(folder.path())));
    log(&dispatch, &away, 0..10);
    until("all is on disk", || away.ledger().logs.spooled == 10);
    let receiver = Receiver::http();
    let (_, other) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    let account = other.shutdown(LONG).logs;
    assert_eq!((account.taken_over.found, receiver.requests()), (0, 0), "{account}");
    let receiver = absent.come(false);
    assert_eq!(away.shutdown(LONG).logs.delivered, 10);
    assert_eq!(receiver.logs().len(), 10);
}

#[test]
fn services_have_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    leave_behind(folder.path(), 0..3);
    let receiver = Receiver::http();
    for name in ["..", "a/b", "", "checkout2"] {
        let other = builder(&receiver.endpoint(), Spool::in_dir(folder.path())).service_name(name);
        drop(pipeline_of(other));
    }
    assert_eq!((receiver.requests(), files(folder.path()).len()), (0, 1));
    let folders = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(folders, 5, "each is in the spool's folder");
}

#[test]
fn at_the_cap_the_oldest_give_way() {
    let (account, folder) = fill(|spool| spool.bytes_max(64 * 1024).drop_oldest());
    assert!(account.dropped_spool_full > 0 && account.dropped() == account.dropped_spool_full, "{account}");
    let receiver = Receiver::http();
    let (_, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    let taken_over = guard.shutdown(LONG).logs.taken_over;
    assert_eq!((taken_over.found, taken_over.delivered), (account.spooled, account.spooled), "{taken_over}");
    let came = bodies(&receiver);
    let last = FILLING - 1;
    assert!(came.contains(&format!("record {last}")), "{came:?}");
    let old = came.iter().filter(|body| (50..200).contains(&number(body)));
    assert_eq!(old.count(), 0, "{came:?}");
}

#[test]
fn or_the_newest_wait_in_memory() {
    let (account, folder) = fill(|spool| spool.bytes_max(64 * 1024).refuse_newest());
    assert_eq!(account.dropped(), account.dropped_at_deadline, "{account}");
    let receiver = Receiver::http();
    drop(pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path()))));
    let came = bodies(&receiver);
    assert!(came.contains(&"record 0".to_owned()) && receiver.logs().len() as u64 == account.spooled, "{came:?}");
}

const FILLING: usize = 600;

/// Logs more than a spool of 64 KiB holds, and ends.
fn fill(set: impl Fn(Spool) -> Spool) -> (Account, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), set(Spool::in_dir(folder.path()))));
    log(&dispatch, &guard, 0..FILLING);
    let account = guard.shutdown(Duration::from_secs(2)).logs;
    assert!(is_exact(&account) && account.in_flight == 0, "{account}");
    assert!(account.emitted as usize >= FILLING && account.spooled > 0, "{account}");
    let bytes: u64 = files(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= 64 * 1024 && bytes > 32 * 1024, "{bytes} bytes on disk");
    (account, folder)
}

#[test]
fn what_is_damaged_is_told_left_out_and_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    leave_behind(folder.path(), 0..10);
    let [path] = &files(folder.path())[..] else { panic!("one file") };
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let receiver = Receiver::http();
    let (_, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    let taken_over = guard.shutdown(LONG).logs.taken_over;
    assert!(taken_over.found < 10, "{taken_over}");
    assert_eq!((taken_over.delivered, receiver.logs().len() as u64), (taken_over.found, taken_over.found));
    let [aside] = &files(folder.path())[..] else { panic!("one file") };
    assert!(aside.extension().is_some_and(|extension| extension == "damaged"));
}

#[test]
fn what_the_collector_refuses_leaves_the_spool_too() {
    let folder = tempfile::tempdir().unwrap();
    (0..3).for_each(|i| leave_behind(folder.path(), i..i + 1));
    let receiver = Receiver::http();
    receiver.script([Scripted::Invalid, Scripted::Partial(1)]);
    let (_, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    let taken_over = guard.shutdown(LONG).logs.taken_over;
    assert_eq!((taken_over.found, taken_over.delivered, taken_over.refused), (3, 1, 2), "{taken_over}");
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn spans_and_metrics_are_spooled_too() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::in_dir(folder.path());
    let with_all = |endpoint: &str| {
        let variables = [("OTEL_SERVICE_NAME", "checkout"), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
        pipeline_of(watchbell::builder().variables(variables).spool(spool.clone()))
    };
    let (dispatch, guard) = with_all(&Absent::new().endpoint());
    let orders = watchbell::opentelemetry::metrics::MeterProvider::meter(guard.meter_provider().unwrap(), "shop");
    orders.u64_counter("orders").build().add(1, &[]);
    tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("request").in_scope(|| tracing::info!("m")));
    let ledger = guard.shutdown(LONG);
    assert_eq!((ledger.logs.spooled, ledger.traces.spooled), (1, 1), "{ledger}");
    assert!(ledger.metrics.spooled > 0 && ledger.metrics.lost() == 0, "{ledger}");
    let receiver = Receiver::http();
    drop(with_all(&receiver.endpoint()));
    receiver.log("m");
    receiver.span("request");
    receiver.metric("orders");
}

#[test]
fn a_process_that_exports_no_spans_leaves_them_to_one_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let with = |endpoint: &str, traces: &str| {
        let variables = [("OTEL_TRACES_EXPORTER", traces), ("OTEL_METRICS_EXPORTER", "none")];
        let of_all = [("OTEL_SERVICE_NAME", "checkout"), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
        let builder = watchbell::builder().variables(of_all.into_iter().chain(variables));
        pipeline_of(builder.spool(Spool::in_dir(folder.path())))
    };
    let (dispatch, guard) = with(&Absent::new().endpoint(), "otlp");
    tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("request").in_scope(|| tracing::info!("m")));
    assert_eq!(guard.shutdown(LONG).traces.spooled, 1);
    let receiver = Receiver::http();
    let (_, without_spans) = with(&receiver.endpoint(), "none");
    until("the log record is delivered", || without_spans.ledger().logs.taken_over.delivered == 1);
    let (_, guard) = with(&receiver.endpoint(), "otlp"); // while the other lives
    assert_eq!(guard.shutdown(LONG).traces.taken_over.delivered, 1);
    receiver.span("request");
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
    drop(without_spans);
}

/// What gives way first is what others left, and that is a loss too.
#[test]
fn the_loss_of_what_was_taken_over_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let spool = || Spool::in_dir(folder.path()).bytes_max(64 * 1024);
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), spool()));
    log(&dispatch, &guard, 0..100);
    let left = guard.shutdown(LONG).logs.spooled;
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), spool()));
    log(&dispatch, &guard, 100..FILLING);
    until("others' records gave way", || guard.ledger().logs.taken_over.dropped > 0);
    let receiver = absent.come(false);
    guard.flush(LONG).expect("a receiver that answers");
    let account = guard.shutdown(LONG).logs;
    assert!(is_exact(&account) && account.taken_over.dropped <= left, "{account}");
    let told = receiver.logs().into_iter().filter(|log| log.scope == "watchbell");
    let told: i64 = told.filter_map(|log| log.attribute("lost.records")).map(|records| int(&records)).sum();
    assert_eq!(told as u64, account.dropped_spool_full + account.taken_over.dropped, "{account}");
}

fn int(value: &Value) -> i64 {
    let Value::IntValue(int) = value else { panic!("{value:?}") };
    *int
}

#[test]
fn secrets_never_reach_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Absent::new().endpoint();
    let builder = builder(&endpoint, Spool::in_dir(folder.path())).header("authorization", "Bearer of-the-header");
    let (dispatch, guard) = pipeline_of(builder.redact(watchbell::redact::Redaction::usual()));
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!(password = "hunter2", "paid with 4111 1111 1111 1111");
    });
    assert_eq!(guard.shutdown(LONG).logs.spooled, 1);
    let [path] = &files(folder.path())[..] else { panic!("one file") };
    let bytes = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    assert!(bytes.contains("paid with [redacted]"), "{bytes}");
    for secret in ["hunter2", "4111", "of-the-header"] {
        assert!(!bytes.contains(secret), "{secret} in {bytes}");
    }
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777;
    assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn by_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let variables = [
        ("OTEL_SERVICE_NAME", "checkout"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &Absent::new().endpoint()),
        ("WATCHBELL_SPOOL_DIR", path),
        ("WATCHBELL_SPOOL_BYTES_MAX", "100000"),
        ("WATCHBELL_SPOOL_WHEN_FULL", "refuse_newest"),
    ];
    let (dispatch, guard) = pipeline_of(watchbell::builder().variables(variables));
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("kept"));
    assert_eq!(guard.shutdown(LONG).logs.spooled, 1);
}

/// A file stands where the folder should: as a disk that does not work.
#[test]
fn without_a_disk_it_goes_on_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let absent = Absent::new();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), Spool::in_dir(folder.path().join("file"))));
    log(&dispatch, &guard, 0..10);
    assert_eq!(guard.ledger().logs.in_flight, 10);
    let receiver = absent.come(false);
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.delivered, receiver.logs().len()), (10, 10), "{account}");
}

/// A file of that size has no room on any disk: it is refused, and not found out at a later write, which would end the process.
#[test]
#[cfg(target_os = "linux")]
fn without_room_for_mapped_chunks_records_wait_in_memory_and_are_counted() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let receiver = Receiver::http();
    let spool = Spool::in_dir(folder.path()).mapped();
    let (dispatch, guard) = pipeline_of(builder(&receiver.endpoint(), spool).buffer_bytes_max(1 << 44));
    log(&dispatch, &guard, 0..5);
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.delivered, account.unmapped), (5, 5), "{account}");
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
}

/// The collector answers none of the requests, so that their chunks stay in the file until that is full.
#[test]
#[cfg(target_os = "linux")]
fn mapped_chunks_run_out_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (dispatch, guard) =
        pipeline_of(builder(&endpoint, Spool::in_dir(folder.path()).mapped()).buffer_bytes_max(64 * 1024));
    log(&dispatch, &guard, 0..100); // a chunk for each
    let account = guard.ledger().logs;
    assert!(account.unmapped > 0 && account.unmapped < 100 && is_exact(&account), "{account}");
    let account = guard.shutdown(Duration::from_millis(400)).logs;
    assert_eq!((account.emitted, account.spooled + account.dropped()), (100, 100), "{account}");
    assert!(files(folder.path()).iter().all(|path| path.extension().unwrap() == "spool"), "the mapped file is gone");
}

/// The next one is of the same process here: it waits for nobody's end.
#[test]
#[cfg(target_os = "linux")]
fn what_a_full_spool_does_not_take_stays_in_the_mapped_file_for_the_next() {
    let (folder, absent, receiver) = (tempfile::tempdir().unwrap(), Absent::new(), Receiver::http());
    let spool = || Spool::in_dir(folder.path()).bytes_max(4 * 1024).refuse_newest().mapped();
    let (dispatch, guard) = pipeline_of(builder(&absent.endpoint(), spool()));
    log(&dispatch, &guard, 0..100);
    let account = guard.shutdown(Duration::from_millis(400)).logs;
    assert_eq!((account.emitted, account.spooled, account.lost()), (100, 100, 0), "{account}");
    assert!(spooled_bytes(folder.path()) <= 4 * 1024, "that is not all of it");
    let (_, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path())));
    let taken_over = guard.shutdown(LONG).logs.taken_over;
    assert_eq!((taken_over.found, taken_over.delivered), (100, 100), "{taken_over}");
    let mut came = bodies(&receiver);
    came.sort_by_key(|body| number(body));
    assert_eq!(came, records(0..100));
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
}

#[cfg(target_os = "linux")]
fn spooled_bytes(folder: &Path) -> u64 {
    let files = files(folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "spool"));
    files.map(|path| path.metadata().expect("a file").len()).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn with_mapped_chunks_all_is_as_without() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::http());
    let (dispatch, guard) = pipeline_of(builder(&receiver.endpoint(), Spool::in_dir(folder.path()).mapped()));
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let dispatch = &dispatch;
            threads.spawn(move || {
                (0..500).for_each(|i| {
                    let text = "x".repeat(i * 20); // some need a chunk of their own
                    tracing::dispatcher::with_default(dispatch, || tracing::info!(text, "record {}", thread * 500 + i));
                })
            });
        }
    });
    let account = guard.shutdown(LONG).logs;
    assert_eq!((account.delivered, account.unmapped, account.lost()), (2000, 0, 0), "{account}");
    let mut came = bodies(&receiver);
    came.sort_by_key(|body| number(body));
    assert_eq!(came, records(0..2000));
    assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
}
