//! Sinks on real files, sockets and beside a collector that is away.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::dispatcher::with_default;
use watchbell::Guard;
use watchbell::sink::file::{Compression, File, Rotation, Zone};
use watchbell::sink::{Format, Sink};

use crate::receiver::{Absent, Receiver};
use crate::{builder, pipeline_of};

const DEADLINE: Duration = Duration::from_secs(120);

fn only(sink: Sink) -> (tracing::Dispatch, Guard) {
    let off = [("OTEL_LOGS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
    pipeline_of(watchbell::builder().service_name("checkout").variables(off).sink(sink))
}

fn lines(path: &Path) -> Vec<Value> {
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    BufReader::new(file).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// The names in a folder, times as `TIME`.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    let is_time = |part: &&str| part.len() == 16 && part.ends_with('Z');
    let names =
        names.iter().map(|name| name.split('.').map(|part| if is_time(&part) { "TIME" } else { part }).collect());
    names.map(|parts: Vec<_>| parts.join(".")).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_sink_has_its_own_levels_filter_and_format() {
    let receiver = Receiver::http();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (dispatch, guard) = pipeline_of(
        builder(&receiver)
            .collector_levels("info")
            .sink(Sink::file(path("all")))
            .sink(Sink::file(path("warn")).levels("warn,loud=debug").format(Format::Logfmt))
            .sink(
                Sink::file(path("audit")).filter(|record| record.attribute("audit").is_some()).format(Format::Compact),
            ),
    );
    with_default(&dispatch, || {
        let _span = tracing::info_span!("request").entered();
        tracing::debug!("details");
        tracing::debug!(target: "loud::part", "loud details");
        tracing::debug!(target: "louder", "is another");
        tracing::info!(audit = true, order_id = 17, "order placed");
        tracing::warn!("stock is low");
    });
    guard.flush(DEADLINE).unwrap();
    let bodies: Vec<_> = lines(&path("all")).iter().map(|line| line["body"].as_str().unwrap().to_owned()).collect();
    assert_eq!(bodies, ["details", "loud details", "is another", "order placed", "stock is low"]);
    let placed = &lines(&path("all"))[3];
    let span = receiver.log("order placed");
    assert_eq!(placed["attributes"]["order_id"], 17);
    assert_eq!(placed["resource"]["service.name"], "checkout");
    let hex: String = span.record.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(placed["trace_id"], hex);
    let text = fs::read_to_string(path("warn")).unwrap();
    let messages: Vec<_> =
        text.lines().map(|line| line.split("msg=").nth(1).unwrap().split(" code.").next().unwrap()).collect();
    assert_eq!(messages, ["\"loud details\"", "\"stock is low\""]);
    let audit = fs::read_to_string(path("audit")).unwrap();
    assert!(audit.ends_with(" I order placed audit=true order_id=17\n") && audit.lines().count() == 1, "{audit}");
    assert_eq!(receiver.logs().len(), 2, "the collector has levels of its own, too");
    let accounts: Vec<_> = guard.sinks().iter().map(|sink| (sink.written, sink.failed, sink.dropped)).collect();
    assert_eq!(accounts, [(5, 0, 0), (2, 0, 0), (1, 0, 0)]);
}

#[test]
fn levels_change_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (all, file) = (folder.path().join("all"), folder.path().join("levels"));
    let (dispatch, guard) = only(Sink::file(&all).format(Format::Pattern("{message}".to_owned())));
    let log = |i: u32| with_default(&dispatch, || tracing::debug!("debug {i}"));
    log(1);
    guard.levels().set("info").unwrap();
    log(2);
    guard.levels().set_target("sdk::sinks", tracing::level_filters::LevelFilter::DEBUG);
    log(3);
    fs::write(&file, "warn # quiet\n").unwrap();
    guard.levels().watch_file(&file);
    log(4);
    fs::write(&file, "sdk=trace\n").unwrap();
    until("the file's change", || guard.levels().to_string() == "off,sdk=trace");
    log(5);
    fs::write(&file, "sdk=loud\n").unwrap();
    guard.levels().reset();
    log(6);
    guard.flush(DEADLINE).unwrap();
    assert_eq!(fs::read_to_string(all).unwrap(), "debug 1\ndebug 3\ndebug 5\ndebug 6\n");
}

#[test]
fn sinks_go_on_while_the_collector_is_away() {
    let (absent, folder) = (Absent::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("log");
    let (dispatch, guard) = pipeline_of(
        watchbell::builder()
            .variables([("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint())])
            .buffer_bytes_max(64 * 1024)
            .sink(Sink::file(&path).format(Format::Compact)),
    );
    with_default(&dispatch, || (0..5_000).for_each(|i| tracing::info!(i, "order placed")));
    until("all lines", || fs::read_to_string(&path).unwrap().lines().count() == 5_000);
    let ledger = guard.shutdown(Duration::ZERO);
    assert!(ledger.logs.dropped_buffer_full > 0, "{ledger}");
}

#[test]
fn records_of_all_threads_are_in_order_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (dispatch, guard) = only(Sink::file(File::new(&path).rotate_at_bytes(40_000)));
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let dispatch = &dispatch;
            threads.spawn(move || with_default(dispatch, || (0..500).for_each(|i| tracing::info!(thread, i, "x"))));
        }
    });
    guard.flush(DEADLINE).unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 5, "{files:?}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 40_000));
    let mut records: Vec<_> = files.iter().flat_map(|file| lines(file)).collect();
    assert_eq!(records.len(), 2_000);
    records.sort_by_key(|record| record["timestamp"].as_str().unwrap().to_owned());
    for thread in 0..4 {
        let of_thread =
            records.iter().map(|record| &record["attributes"]).filter(|attributes| attributes["thread"] == thread);
        let numbers: Vec<_> = of_thread.map(|attributes| attributes["i"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    }
}

#[test]
fn rotated_files_are_compressed_and_the_oldest_removed() {
    for (compression, extension) in [(Compression::Gzip, "gz"), (Compression::Zstd, "zst")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkout.log");
        let file = File::new(&path).rotate_at_bytes(400).compress(compression).keep_files(2).mode(0o640);
        let (dispatch, guard) = only(Sink::file(file).format(Format::Compact));
        for i in 0..40 {
            with_default(&dispatch, || tracing::info!(i, "order placed"));
            guard.flush(DEADLINE).unwrap();
        }
        let compressed = |names: &[String]| names.iter().filter(|name| name.ends_with(extension)).count();
        until("two compressed files and the current one", || {
            let names = names(folder.path());
            names.len() == 3 && compressed(&names) == 2 && names.contains(&"checkout.log".to_owned())
        });
        for file in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640, "{file:?}");
        }
        let last = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().unwrap() == extension)
            .max();
        let bytes = fs::read(last.unwrap()).unwrap();
        let mut text = String::new();
        match compression {
            Compression::Gzip => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap()),
            _ => text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap(),
        }
        assert!(text.lines().all(|line| line.contains("I order placed i=")) && text.lines().count() > 2, "{text}");
    }
}

/// As two processes do: each has the file open for itself.
#[test]
fn whoever_finds_the_file_over_its_bound_rotates_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let open =
        || only(Sink::file(File::new(&path).rotate_at_bytes(10_000)).format(Format::Pattern("{message}".to_owned())));
    let ((idle, idle_guard), (busy, busy_guard)) = (open(), open());
    let log = |dispatch, guard: &Guard, text: &str| {
        with_default(dispatch, || tracing::info!("{text}"));
        guard.flush(DEADLINE).unwrap();
    };
    log(&idle, &idle_guard, "the idle one's first");
    (0..100).for_each(|_| log(&busy, &busy_guard, &"x".repeat(999)));
    log(&idle, &idle_guard, "the idle one's last");
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let texts: Vec<_> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(texts.iter().all(|text| text.len() <= 10_000), "{files:?}");
    assert_eq!(texts.iter().map(|text| text.lines().count()).sum::<usize>(), 102);
    assert!(fs::read_to_string(&path).unwrap().contains("the idle one's last"));
}

/// A process that ends before its thread has compressed anything leaves that to the next, and removes what is too much all the same.
#[test]
#[cfg(feature = "gzip")]
fn what_short_processes_leave_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkout.log");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for i in 1..=8 {
        let rotated = folder.path().join(format!("checkout.2026110{i}T000000Z.log"));
        fs::write(&rotated, "order placed\n").unwrap();
        fs::File::options().append(true).open(&rotated).unwrap().set_modified(long_ago).unwrap();
    }
    let file = File::new(&path).rotate_at_bytes(1).compress(Compression::Gzip).keep_files(3);
    let (dispatch, guard) = only(Sink::file(file).format(Format::Compact));
    assert_eq!(
        names(folder.path()),
        ["checkout.TIME.log.gz", "checkout.TIME.log.gz", "checkout.TIME.log.gz", "checkout.log"]
    );
    (0..5).for_each(|i| with_default(&dispatch, || tracing::info!(i, "order placed")));
    drop(guard);
    until("three rotated files and the current one", || names(folder.path()).len() == 4); // the thread may be at one
}

#[test]
fn a_file_that_cannot_be_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::write(&file, "").unwrap();
    let builder = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]);
    let builder = builder.sink(Sink::file(&pipe)).sink(Sink::file(file.join("x.log")));
    let error = builder.layer::<tracing_subscriber::Registry>().err().unwrap().to_string();
    assert!(error.contains("it is a named pipe that nobody reads"), "{error}");
    assert!(error.contains(&format!("`{}` is no folder", file.display())), "{error}");
}

#[test]
fn a_file_of_yesterday_is_rotated_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkout.log");
    fs::write(&path, "yesterday\n").unwrap();
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    fs::File::options().append(true).open(&path).unwrap().set_modified(yesterday).unwrap();
    let daily = File::new(&path).rotate(Rotation::Daily { hour: 0, minute: 0 }, Zone::Local);
    let (dispatch, guard) = only(Sink::file(daily.clone()).format(Format::Compact));
    with_default(&dispatch, || tracing::info!("today"));
    drop(guard);
    assert_eq!(names(folder.path()), ["checkout.TIME.log", "checkout.log"]);
    assert!(fs::read_to_string(&path).unwrap().ends_with("I today\n"));
    drop(only(Sink::file(daily)).1);
    assert_eq!(names(folder.path()).len(), 2, "today's is not rotated");
}

#[test]
fn time_rotates_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::new(folder.path().join("log")).rotate(Rotation::Every(Duration::from_secs(1)), Zone::Utc);
    let (dispatch, guard) = only(Sink::file(file));
    until("three files", || {
        with_default(&dispatch, || tracing::info!("tick"));
        guard.flush(DEADLINE).unwrap();
        names(folder.path()).len() >= 3
    });
    for file in fs::read_dir(folder.path()).unwrap() {
        let second = |line: &Value| line["timestamp"].as_str().unwrap()[..19].to_owned();
        let seconds: std::collections::BTreeSet<_> = lines(&file.unwrap().path()).iter().map(second).collect();
        assert_eq!(seconds.len(), 1, "{seconds:?}");
    }
}

#[test]
fn a_link_shows_the_current_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkout.log");
    let (dispatch, guard) = only(Sink::file(File::new(&path).symlink().rotate_at_bytes(100)).format(Format::Compact));
    for i in 0..4 {
        with_default(&dispatch, || tracing::info!(i, "{}", "x".repeat(60)));
    }
    guard.flush(DEADLINE).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("i=3"));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    let dated = names(folder.path()).iter().filter(|name| name.starts_with("checkout.TIME")).count();
    assert_eq!(dated, 4);
    drop(guard);
    let (dispatch, guard) = only(Sink::file(File::new(&path).symlink()).format(Format::Compact));
    with_default(&dispatch, || tracing::info!("again"));
    drop(guard);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "the next process goes on with it");
}

/// `logrotate` renames the file (`create`), or copies and truncates it (`copytruncate`).
#[test]
fn logrotate_may_come() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let (dispatch, guard) = only(Sink::file(&path).format(Format::Pattern("{message}".to_owned())));
    let log = |text: &str| {
        with_default(&dispatch, || tracing::info!("{text}"));
        guard.flush(DEADLINE).unwrap();
    };
    log("one");
    fs::rename(&path, &moved).unwrap();
    log("two");
    assert_eq!(
        (fs::read_to_string(&moved).unwrap(), fs::read_to_string(&path).unwrap()),
        ("one\n".into(), "two\n".into())
    );
    fs::copy(&path, &moved).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    log("three");
    assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    fs::remove_file(&path).unwrap();
    fs::remove_file(&moved).unwrap();
    log("four");
    assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
    assert_eq!(guard.sinks()[0].written, 4);
}

/// `/dev/full` takes no byte; the other sink goes on.
#[test]
fn a_full_disk_loses_its_own_records_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (full, fine) = (folder.path().join("full"), folder.path().join("fine"));
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let off = [("OTEL_LOGS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
    let (dispatch, guard) =
        pipeline_of(watchbell::builder().variables(off).sink(Sink::file(&full)).sink(Sink::file(&fine)));
    with_default(&dispatch, || (0..10).for_each(|i| tracing::info!(i, "order placed")));
    guard.flush(DEADLINE).unwrap();
    assert_eq!(lines(&fine).len(), 10);
    let accounts: Vec<_> = guard.sinks().iter().map(|sink| (sink.written, sink.failed)).collect();
    assert_eq!(accounts, [(0, 10), (10, 0)]);
}

#[test]
fn a_callback_may_log_and_panic() {
    let told = Arc::new(Mutex::new(Vec::new()));
    for in_call in [false, true] {
        let told = Arc::clone(&told);
        let callback = Sink::callback("alarm", move |record| {
            tracing::info!("comes to nobody");
            told.lock().unwrap().push(record.to_string());
            assert!(record.message() != "panic", "as asked");
        });
        let (dispatch, guard) = only(if in_call { callback.in_call() } else { callback });
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        with_default(&dispatch, || {
            tracing::info!(order_id = 17, "order placed");
            tracing::info!("panic");
            tracing::warn!("goes on");
        });
        guard.flush(DEADLINE).unwrap();
        std::panic::set_hook(hook);
        let account = &guard.sinks()[0];
        assert_eq!((account.written, account.failed), (2, 1));
    }
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 6, "{told:?}");
    assert!(told[0].starts_with("INFO sdk::sinks: order placed") && told[0].ends_with("order_id=17"), "{}", told[0]);
}

#[test]
fn a_format_where_there_is_one_already_is_refused() {
    for sink in [Sink::callback("told", |_| {}), Sink::syslog("/nowhere")] {
        let built = watchbell::builder().sink(sink.format(Format::Json)).layer::<tracing_subscriber::Registry>();
        let error = built.err().expect("an error").to_string();
        assert!(error.contains("it has a format of its own; leave `format` out"), "{error}");
    }
}

#[test]
fn syslog_and_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    let path = socket.to_str().unwrap();
    let receive = |sink: Sink, listener: &UnixDatagram| {
        let (dispatch, guard) = only(sink);
        with_default(&dispatch, || tracing::warn!(target: "web", { order.id = 17, said = "a ]\"\n" }, "two\nlines"));
        guard.flush(DEADLINE).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let len = listener.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let line = receive(Sink::syslog(path), &listener);
    let head = line.strip_prefix("<12>1 ").unwrap_or_else(|| panic!("{line}"));
    let parts: Vec<_> = head.splitn(6, ' ').collect();
    assert_eq!((parts[2], parts[3], parts[4]), ("checkout", &*std::process::id().to_string(), "-"));
    assert!(parts[5].starts_with("[otel@32473 target=\"web\" "), "{line}");
    assert!(parts[5].ends_with(" order.id=\"17\" said=\"a \\]\\\"\\n\"] two\\nlines"), "{line}");
    let entry = receive(Sink::journald_at(path), &listener);
    let expected =
        "MESSAGE\n\u{9}\0\0\0\0\0\0\0two\nlines\nPRIORITY=4\nSYSLOG_IDENTIFIER=checkout\nTARGET=web\nCODE_FILE=";
    assert!(entry.starts_with(expected), "{entry:?}");
    assert!(entry.contains("\nORDER_ID=17\nSAID\n\u{5}\0\0\0\0\0\0\0a ]\"\n\n"), "{entry:?}");

    let (dispatch, guard) = only(Sink::syslog(path));
    let log = || {
        with_default(&dispatch, || tracing::info!("x"));
        guard.flush(DEADLINE).unwrap();
        (guard.sinks()[0].written, guard.sinks()[0].failed)
    };
    assert_eq!(log(), (1, 0));
    drop(listener);
    fs::remove_file(&socket).unwrap();
    assert_eq!(log(), (1, 1), "nobody listens");
    let _again = UnixDatagram::bind(&socket).unwrap();
    assert_eq!(log(), (2, 1), "a syslog that was started again");
}

/// Some 200 KiB for a local socket, 64 KiB for UDP.
#[test]
fn a_record_of_more_than_the_socket_takes_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixDatagram::bind(&socket).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    udp.set_read_timeout(Some(DEADLINE)).unwrap();
    let send = |sink: Sink, receive: &dyn Fn(&mut [u8]) -> usize| {
        let (dispatch, guard) = only(sink);
        let long = "x".repeat(60_000);
        with_default(&dispatch, || tracing::info!(a = long, b = long, c = long, d = long, "large"));
        guard.flush(DEADLINE).unwrap();
        assert_eq!((guard.sinks()[0].written, guard.sinks()[0].failed), (1, 0));
        let mut buffer = vec![0; 256 * 1024];
        let len = receive(&mut buffer);
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let entry = send(Sink::journald_at(socket.to_str().unwrap()), &|buffer| listener.recv(buffer).unwrap());
    assert!(entry.starts_with("MESSAGE=large\n") && entry.contains("\nD=xxx"), "{}", &entry[..99]);
    assert_eq!(entry.matches("xx").count(), 4 * 4 * 1024);
    let line = send(Sink::syslog_udp(&udp.local_addr().unwrap().to_string()), &|buffer| udp.recv(buffer).unwrap());
    assert!(line.ends_with("] large") && line.contains(" d=\"xxx"), "{}", &line[..99]);
}

#[test]
fn what_a_sink_loses_the_collector_is_told() {
    let receiver = Receiver::http();
    let (dispatch, guard) = pipeline_of(builder(&receiver).sink(Sink::callback("alarm", |_| panic!("out of order"))));
    with_default(&dispatch, || (0..3).for_each(|i| tracing::info!(i)));
    guard.flush(DEADLINE).unwrap();
    guard.shutdown(DEADLINE);
    let told: Vec<_> = receiver.logs().into_iter().filter(|log| log.scope == "watchbell").collect();
    let lost = told.iter().map(|log| match log.attribute("lost.sink.records") {
        Some(opentelemetry_proto::tonic::common::v1::any_value::Value::IntValue(lost)) => lost,
        other => panic!("{other:?}"),
    });
    assert_eq!(lost.sum::<i64>(), 3);
    assert!(told.iter().all(|log| log.body().ends_with("log records lost by the sink `alarm`")), "{told:?}");
}

#[test]
fn syslog_over_udp() {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = listener.local_addr().unwrap();
    for sink in [Sink::syslog_udp(&address.to_string()), format!("syslog=udp://{address}").parse().unwrap()] {
        let (dispatch, guard) = only(sink);
        with_default(&dispatch, || {
            ["one", "two"].map(|text| tracing::error!(target: "web", { order.id = 17 }, "{text}\nline"))
        });
        guard.flush(DEADLINE).unwrap();
        for text in ["one", "two"] {
            let mut buffer = vec![0; 64 * 1024];
            let len = listener.recv(&mut buffer).unwrap();
            let datagram = std::str::from_utf8(&buffer[..len]).unwrap();
            assert!(
                datagram.starts_with("<11>1 20") && datagram.ends_with(&format!(" order.id=\"17\"] {text}\\nline")),
                "{datagram}"
            );
        }
        assert_eq!((guard.sinks()[0].written, guard.sinks()[0].failed), (2, 0));
    }
}

/// The messages of a connection, by their lengths; the other end says something, too, which is nothing to us.
fn framed(connection: TcpStream, count: usize) -> Vec<String> {
    (&connection).write_all(b"220 hello").unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = BufReader::new(connection);
    let message = |_| {
        let mut len = Vec::new();
        reader.read_until(b' ', &mut len).unwrap();
        let mut message = vec![0; std::str::from_utf8(&len).unwrap().trim().parse().unwrap()];
        reader.read_exact(&mut message).unwrap();
        String::from_utf8(message).unwrap()
    };
    (0..count).map(message).collect()
}

#[test]
fn syslog_over_tcp_counts_octets_and_connects_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for sink in [Sink::syslog_tcp(&address.to_string()), format!("syslog=tcp://{address}").parse().unwrap()] {
        let (dispatch, guard) = only(sink);
        for _ in 0..2 {
            with_default(&dispatch, || {
                tracing::warn!("é\n2 lines");
                tracing::warn!("{}", "x".repeat(60_000));
                tracing::warn!("last");
            });
            guard.flush(DEADLINE).unwrap();
            assert_eq!(guard.sinks()[0].failed, 0);
            let messages = framed(listener.accept().unwrap().0, 3); // and closes it
            let ends: Vec<_> = messages.iter().map(|message| message.rsplit_once("] ").unwrap().1.to_owned()).collect();
            assert_eq!(ends, ["é\\n2 lines".to_owned(), "x".repeat(60_000), "last".to_owned()]);
            assert!(messages.iter().all(|message| message.starts_with("<12>1 20")), "{messages:?}");
        }
        assert_eq!((guard.sinks()[0].written, guard.sinks()[0].failed), (6, 0));
    }
    drop(listener);
    let (dispatch, guard) = only(Sink::syslog_tcp(&address.to_string()));
    with_default(&dispatch, || tracing::warn!("to nobody"));
    guard.flush(DEADLINE).unwrap();
    assert_eq!((guard.sinks()[0].written, guard.sinks()[0].failed), (0, 1));
    let error = watchbell::builder().sink(Sink::syslog_tcp("logs")).layer::<tracing_subscriber::Registry>();
    assert!(error.err().unwrap().to_string().contains("`logs` is no address; write `HOST:PORT`"));
    let sink = Sink::syslog_tcp(&address.to_string()).in_call();
    let error = watchbell::builder().sink(sink).layer::<tracing_subscriber::Registry>();
    assert!(error.err().unwrap().to_string().contains("whoever logs would wait for the network; leave `in_call` out"));
}

#[test]
fn a_symlink_where_a_file_is_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, "").unwrap();
    let error =
        watchbell::builder().sink(Sink::file(File::new(&path).symlink())).layer::<tracing_subscriber::Registry>();
    assert!(error.err().unwrap().to_string().contains("it is a file, where a link is to be"));
    let error = watchbell::builder().sink(Sink::file("/proc/nowhere/log")).layer::<tracing_subscriber::Registry>();
    assert!(error.err().unwrap().to_string().contains("cannot open `/proc/nowhere/log`"));
    assert_eq!(fs::metadata(&path).unwrap().size(), 0);
}
