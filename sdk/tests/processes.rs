//! What a whole process shows and sends, and what it sends when it ends otherwise than by dropping the guard: each case is a process
//! of its own, this program run again.

#[cfg(unix)]
#[path = "processes/abort.rs"]
mod abort;
#[cfg(all(target_os = "linux", feature = "files"))]
#[path = "processes/clock.rs"]
mod clock;
#[cfg(target_os = "linux")]
#[path = "processes/denied.rs"]
mod denied;
#[path = "processes/faults.rs"]
mod faults;
#[cfg(target_os = "linux")]
#[path = "processes/handler.rs"]
mod handler;
#[cfg(all(unix, feature = "files"))]
#[path = "processes/hanging.rs"]
mod hanging;
#[path = "processes/levels_url.rs"]
mod levels_url;
#[cfg(target_os = "linux")]
#[path = "processes/mapped.rs"]
mod mapped;
#[cfg(feature = "axum")]
#[path = "processes/propagators.rs"]
mod propagators;
#[path = "sdk/receiver.rs"]
#[allow(dead_code)]
mod receiver;
#[cfg(unix)]
#[path = "processes/spool.rs"]
mod spool;
#[path = "processes/stock.rs"]
mod stock;
#[cfg(target_os = "linux")]
#[path = "processes/terminal.rs"]
mod terminal;

use std::cell::RefCell;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use receiver::{Absent, Received, Receiver, Scripted};

#[test]
fn exit_sends_what_was_recorded() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        assert_eq!(run("exit", &receiver).code(), Some(7));
        assert_eq!(receiver.logs().iter().map(Received::body).collect::<Vec<_>>(), ["last words"]);
    }
}

#[test]
fn so_does_a_leaked_guard() {
    let receiver = Receiver::http();
    assert_eq!(run("leak", &receiver).code(), Some(0));
    receiver.log("last words");
}

#[test]
fn an_exit_without_a_collector_keeps_its_deadline() {
    let absent = Absent::new();
    let started = Instant::now();
    let status = child("exit in vain").env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()).status();
    assert_eq!(status.expect("this program").code(), Some(7));
    assert!(started.elapsed() < Duration::from_secs(10), "a deadline of one second is far exceeded");
}

#[test]
fn an_exit_may_wait_for_ever() {
    let receiver = Receiver::http();
    assert_eq!(run("exit at leisure", &receiver).code(), Some(7));
    receiver.log("last words");
}

/// A value that a thread keeps for itself is dropped when OpenTelemetry's context and our own locals are gone already.
#[test]
fn a_thread_that_ends_may_log_and_leave_its_span_and_make_another() {
    let receiver = Receiver::http();
    for console in ["otlp", "otlp,console"] {
        let output = command("thread ends", &receiver).env("OTEL_LOGS_EXPORTER", console).output();
        let output = output.expect("this program");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
    let expected = [
        "in the span",
        "while the thread ends",
        "after the span",
        "in a span that cannot be made",
        "panicked while the thread ends",
    ];
    assert_eq!(
        bodies.iter().filter(|body| expected.contains(&body.as_str())).count(),
        2 * expected.len(),
        "{bodies:?}"
    );
    assert_eq!(receiver.spans().len(), 2);
}

/// A value that logs when its thread ends, and then leaves the span that it has entered.
#[derive(Default)]
struct Ending(Option<tracing::span::EnteredSpan>);

impl Drop for Ending {
    fn drop(&mut self) {
        tracing::info!("while the thread ends");
        drop(self.0.take());
        tracing::info!("after the span");
        tracing::info_span!("made while the thread ends").in_scope(|| tracing::info!("in a span that cannot be made"));
        let _ = std::panic::catch_unwind(|| panic!("panicked while the thread ends"));
    }
}

thread_local!(static ENDING: RefCell<Ending> = RefCell::default());

#[test]
fn a_forked_child_ends_at_once_and_sends_nothing() {
    let receiver = Receiver::http();
    assert_eq!(run("fork", &receiver).code(), Some(0));
    let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
    assert_eq!(bodies, ["of the parent"]);
}

/// Nobody makes room in the child, so that its calls would wait for ever.
#[test]
fn nor_does_a_call_wait_for_room_in_a_forked_child() {
    let absent = Absent::new();
    let mut command = child("fork, full");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", absent.endpoint()).env("OTEL_TRACES_EXPORTER", "none");
    command.env("WATCHBELL_WHEN_FULL", "block").env("WATCHBELL_BLOCK_TIMEOUT", "3600000");
    assert_eq!(command.status().expect("this program").code(), Some(0));
}

#[test]
fn its_own_stack_stays_silent_at_its_loudest() {
    for receiver in [Receiver::http(), Receiver::grpc()] {
        receiver.script([Scripted::Unavailable]); // a retry makes the stack talk more
        let status =
            command("flush", &receiver).env("RUST_LOG", "trace,h2=trace,hyper=trace,hyper_util=trace").status();
        assert_eq!(status.expect("this program").code(), Some(0));
        let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
        assert_eq!(bodies, ["first", "second"]);
    }
}

#[test]
fn a_logger_that_feeds_tracing_is_as_good_as_our_own() {
    let receiver = Receiver::http();
    let output = command("captured before", &receiver).output().expect("this program");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    receiver.log("from log");
    let output = command("another logger", &receiver).output().expect("this program");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "watchbell: the `log` crate has a logger already: its records are not exported\n");
}

#[test]
fn a_panic_is_a_record_in_its_trace() {
    let receiver = Receiver::http();
    let output = command("panic", &receiver).output().expect("this program");
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains("the hook that was there: out of stock"), "{told}");
    let record = receiver.log("out of stock");
    assert_eq!((record.record.severity_number, record.scope.as_str()), (17, "panic"));
    assert_eq!(record.attribute("exception.type"), Some(Value::StringValue("panic".to_owned())));
    assert_eq!(record.attribute("exception.message"), Some(Value::StringValue("out of stock".to_owned())));
    assert_eq!(record.attribute("exception.stacktrace"), None);
    assert_eq!(record.attribute("code.file.path"), Some(Value::StringValue(file!().to_owned())));
    assert!(matches!(record.attribute("code.line.number"), Some(Value::IntValue(line)) if line > 0));
    assert_eq!(record.record.trace_id, receiver.span("request").trace_id);
}

#[test]
fn a_panics_backtrace_makes_its_fingerprint() {
    let told = |backtrace: &str| {
        let receiver = Receiver::http();
        command("panic", &receiver).env("RUST_BACKTRACE", backtrace).output().expect("this program");
        let record = receiver.log("out of stock");
        let text = |key| match record.attribute(key) {
            Some(Value::StringValue(text)) => text,
            other => format!("{other:?}"),
        };
        [text("watchbell.exception.fingerprint"), text("watchbell.exception.frames"), text("exception.stacktrace")]
    };
    let ([with, frames, stacktrace], [without, no_frames, _]) = (told("1"), told("0"));
    assert_eq!((with.len(), without.len()), (16, 16));
    assert_ne!(with, without);
    assert!(frames.contains("processes::") && !frames.contains("std::") && !frames.contains("watchbell::"), "{frames}");
    assert!(stacktrace.contains("std::"), "{stacktrace}");
    assert_eq!(no_frames, "None");
    assert_eq!(told("0")[0], without);
}

#[test]
fn a_patch_may_panic_over_a_panic() {
    let receiver = Receiver::http();
    let status = run("a patch panics", &receiver);
    assert!(status.success(), "{status}");
    let record = receiver.log("out of stock");
    assert_eq!(record.attribute("patched"), Some(Value::BoolValue(true)), "what the first patch did");
    assert!(receiver.logs().iter().any(|log| log.body() == "not of a panic"), "{:?}", receiver.logs());
}

#[test]
fn addresses_are_told_without_their_queries() {
    let absent = Absent::new();
    let endpoint = format!("{}?api-key=hunter2", absent.endpoint());
    let mut command = child("exit in vain");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).env("WATCHBELL_LEVELS_URL", &endpoint);
    command.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector/?api-key=hunter2");
    let told = String::from_utf8(command.output().expect("this program").stderr).expect("text");
    for expected in [
        "cannot deliver log records to http://",
        "the levels stay as they are: `http://",
        "`collector/` is not an endpoint",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn panics_can_be_left_alone() {
    let receiver = Receiver::http();
    assert_eq!(run("no panics", &receiver).code(), Some(0));
    assert!(receiver.logs().is_empty());
}

#[test]
fn the_console_is_readable() {
    let output = child("console").env("OTEL_LOGS_EXPORTER", "console").env("OTEL_TRACES_EXPORTER", "none").output();
    let told = String::from_utf8(output.expect("this program").stderr).expect("text");
    let lines: Vec<_> = told.lines().filter_map(|line| line.split_once('Z').map(|(_, line)| line)).collect();
    let (in_span, trace_id) = lines[0].split_once(" trace_id=").expect("a trace's id");
    assert_eq!(in_span, r#"  INFO processes: order placed order_id=17 upstream=payment ratio=0.5"#);
    assert!(trace_id.len() == 32 && trace_id.chars().all(|digit| digit.is_ascii_hexdigit()), "{trace_id}");
    assert_eq!(
        lines[1..],
        [
            r#" ERROR processes: cannot charge error="connection refused""#,
            "  WARN legacy: from log",
            r#"  INFO processes: a\n2026-11-24 ERROR forged: \u{1b}[31mb\u{9b}c shown="\r\u{1b}[2Jx""#,
        ]
    );
    assert_eq!(told.lines().count(), 4, "{told}");
    assert!(!told.contains('\x1b'), "colours are for terminals");
}

/// Both append whole lines and rotate, what was recorded is written when they exit, and it is told that they share the file. SIGHUP ends neither.
#[test]
#[cfg(feature = "files")]
fn two_processes_share_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shared.log");
    let spawn = || {
        let mut command = child("file");
        command
            .env("OTEL_LOGS_EXPORTER", "none")
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("OTEL_METRICS_EXPORTER", "none");
        command.env("LOG_FILE", &path).stderr(std::process::Stdio::piped()).spawn().expect("this program")
    };
    let children = [spawn(), spawn()];
    let mut told = vec![];
    for child in children {
        let output = child.wait_with_output().expect("its output");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{stderr}");
        told.push(stderr.matches("another process writes `").count());
    }
    assert!(
        told.contains(&1) && told.iter().all(|times| *times <= 1),
        "once a process, by those that saw it: {told:?}"
    );
    let is_log = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "log");
    let files = std::fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = files.filter(|path| is_log(path)).collect();
    assert!(files.len() > 3, "{files:?}");
    let texts = files.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect::<Vec<_>>();
    let lines: std::collections::BTreeSet<_> = texts.iter().flat_map(|text| text.lines()).collect();
    assert_eq!(lines.len(), 2 * FILE_LINES, "no line is lost, torn or there twice");
    assert!(lines.iter().all(|line| line.ends_with(&"x".repeat(80)) && line.len() < 100), "{lines:?}");
}

const FILE_LINES: usize = 2000;

/// Logs to the file that another process logs to at the same time.
#[cfg(feature = "files")]
fn log_to_a_file() {
    let path = std::path::PathBuf::from(std::env::var("LOG_FILE").expect("a path"));
    let process = std::process::id();
    let ready = |process: &str| path.with_extension(format!("{process}.ready"));
    std::fs::write(ready(&process.to_string()), "").expect("a file");
    let started = Instant::now();
    let both = || {
        let names = std::fs::read_dir(path.parent().expect("a folder")).expect("the folder");
        names
            .filter(|name| name.as_ref().is_ok_and(|name| name.path().extension().is_some_and(|end| end == "ready")))
            .count()
    };
    while both() < 2 {
        assert!(started.elapsed() < Duration::from_secs(120), "the other process has not come");
        std::thread::sleep(Duration::from_millis(5));
    }
    for i in 0..FILE_LINES {
        tracing::info!("{process} {i} {}", "x".repeat(80));
        if i % 100 == 0 {
            std::thread::sleep(Duration::from_millis(5)); // so that they take turns
        }
    }
    let status = Command::new("kill").args(["-HUP", &process.to_string()]).status();
    assert!(status.expect("a shell's tool").success());
}

/// By the process's limit of a file's size, which cuts a line as a full disk does, and is raised again.
#[test]
#[cfg(all(target_os = "linux", feature = "files"))]
fn a_file_goes_on_with_whole_lines_where_there_is_room_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = child("full file");
    command.env("OTEL_LOGS_EXPORTER", "none").env("OTEL_TRACES_EXPORTER", "none").env("OTEL_METRICS_EXPORTER", "none");
    let output = command.env("LOG_FILE", folder.path().join("log")).output().expect("this program");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.path().join("log")).expect("text");
    let lines: Vec<_> = text.lines().collect();
    let whole = lines.iter().filter(|line| line.ends_with(&"x".repeat(797))).count();
    assert_eq!((lines.len(), whole, lines.last().copied()), (14, 12, Some("room again")), "{text}");
}

/// A line of 800 bytes at a time, of which there is room for 12 and some bytes.
#[cfg(all(target_os = "linux", feature = "files"))]
fn fill_a_file(guard: watchbell::Guard) {
    let log = |text: &str| {
        tracing::info!("{text}");
        guard.flush(Duration::from_secs(60)).expect("a sink that answers");
    };
    limit_files(10_000);
    (0..15).for_each(|i| log(&format!("{i:02} {}", "x".repeat(797))));
    limit_files(libc::RLIM_INFINITY);
    log("room again");
    let sinks = guard.sinks();
    assert_eq!((sinks[0].written, sinks[0].failed), (13, 3), "{sinks:?}");
    drop(guard);
}

#[expect(unsafe_code)] // the standard library knows no limits
#[cfg(all(target_os = "linux", feature = "files"))]
fn limit_files(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: sets what becomes of a signal, and a limit of this process.
    let set = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
#[cfg(target_os = "linux")]
fn signals_change_the_levels() {
    let receiver = Receiver::http();
    assert_eq!(
        command("signals", &receiver).env("RUST_LOG", "warn,hyper=off").status().expect("this program").code(),
        Some(7)
    );
    let bodies: Vec<_> = receiver.logs().iter().map(Received::body).collect();
    assert_eq!(bodies, ["after one", "after two"]);
}

/// Logs at INFO and DEBUG after each signal to itself.
#[cfg(target_os = "linux")]
fn change_by_signals(levels: &watchbell::Levels) {
    use tracing::level_filters::LevelFilter;
    levels.heed_signals().expect("no other handlers");
    let send = |signal: &str, expected: &str, most_verbose: LevelFilter| {
        let status = Command::new("kill").args([signal, &std::process::id().to_string()]).status();
        assert!(status.expect("a shell's tool").success());
        let started = Instant::now();
        while levels.to_string() != expected || LevelFilter::current() != most_verbose {
            assert!(started.elapsed() < Duration::from_secs(120), "{levels}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    tracing::info!("before");
    send("-USR1", "info,hyper=off", LevelFilter::INFO);
    tracing::info!("after one");
    tracing::debug!("not yet");
    send("-USR1", "debug,hyper=off", LevelFilter::DEBUG);
    tracing::debug!("after two");
    send("-USR2", "warn,hyper=off", LevelFilter::INFO);
    tracing::info!("after the last");
}

#[test]
#[cfg(feature = "files")]
fn the_environment_names_sinks() {
    let folder = tempfile::tempdir().expect("a folder");
    let sinks = format!(
        "stderr levels=warn format=\"{{level}}: {{message}}\"; file={} format=logfmt",
        folder.path().join("log").display()
    );
    let output = child("console")
        .env("WATCHBELL_SINKS", sinks)
        .env("OTEL_LOGS_EXPORTER", "console")
        .env("OTEL_TRACES_EXPORTER", "none")
        .output();
    let told = String::from_utf8(output.expect("this program").stderr).expect("text");
    assert!(told.lines().any(|line| line == "ERROR: cannot charge") && !told.contains("order placed"), "{told}");
    let file = std::fs::read_to_string(folder.path().join("log")).expect("a file");
    assert!(file.contains("msg=\"order placed\"") && file.contains("msg=\"cannot charge\""), "{file}");
}

#[test]
fn a_disabled_sdk_sends_nothing() {
    let receiver = Receiver::http();
    let status = command("exit", &receiver).env("OTEL_SDK_DISABLED", "true").status().expect("this program");
    assert_eq!((status.code(), receiver.requests()), (Some(7), 0));
}

/// The count is the process's, so that it has one of its own.
#[test]
#[cfg(all(feature = "metrics", feature = "otel-logs"))]
fn what_is_cut_is_told_once_and_counted() {
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value as Point};
    let receiver = Receiver::http();
    let output = command("cut", &receiver).output().expect("this program");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(told.matches("a text was cut at 64 KiB").count(), 1, "{told}");
    let Some(Data::Sum(sum)) = receiver.metric("watchbell.sdk.texts.cut").data else { panic!("a sum") };
    assert_eq!(sum.data_points[0].value, Some(Point::AsInt(7)));
}

/// Seven values are too long, among others that are as long as may be.
#[cfg(feature = "otel-logs")]
fn log_what_is_cut(guard: watchbell::Guard) {
    use watchbell::opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider};
    let (exact, long) = ("é".repeat(32 * 1024), "é".repeat(32 * 1024 + 1));
    tracing::info!(exact, bytes = exact.as_bytes(), "{exact}");
    tracing::info!(long, "one");
    tracing::info!(value = ?long, "{long}"); // two
    tracing::info!(bytes = long.as_bytes(), "four");
    watchbell::context!(long = &*long).in_scope(|| tracing::info!("five, as the context is made"));
    let logger = guard.logger_provider().expect("logs are exported").logger("appender");
    let mut record = logger.create_log_record();
    let bytes = AnyValue::Bytes(Box::new(long.clone().into_bytes()));
    record.add_attribute("list", AnyValue::ListAny(Box::new(vec![exact.into(), long.into(), bytes]))); // six and seven
    logger.emit(record);
    guard.flush(Duration::from_secs(60)).expect("a receiver that answers");
    drop(guard); // with the metrics of after that
}

#[test]
fn what_is_not_understood_in_the_environment_is_told_once() {
    let output =
        child("console").env("OTEL_LOGS_EXPORTER", "none").env("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke").output();
    let told = String::from_utf8(output.expect("this program").stderr).expect("text");
    let expected = "watchbell: OTEL_EXPORTER_OTLP_PROTOCOL is ignored: `smoke` is not a protocol; write `grpc`, `http/protobuf` or `http/json`";
    assert_eq!(told.lines().filter(|line| *line == expected).count(), 1, "{told}");
}

/// The tests are built with the feature by which OpenTelemetry's crates tell by `tracing` that a provider is set, and the like.
#[test]
fn what_opentelemetry_says_of_itself_is_no_record_unless_a_directive_names_it() {
    let said = |levels: &str| {
        let receiver = Receiver::http();
        let output = command("stock says", &receiver).env("RUST_LOG", levels).output().expect("this program");
        let told = String::from_utf8(output.stderr).expect("text");
        let told: Vec<_> =
            told.lines().filter_map(|line| line.strip_prefix("watchbell: ")).map(str::to_owned).collect();
        (receiver.logs().iter().map(Received::body).collect::<Vec<_>>(), told)
    };
    let told = "opentelemetry-otlp: cannot export error=refused";
    assert_eq!(said("trace,hyper=off"), (vec!["of the service".to_owned()], vec![told.to_owned()]));
    let (bodies, told) = said("info,opentelemetry=info,opentelemetry-otlp=error");
    assert!(bodies.len() > 1 && told.is_empty(), "{bodies:?} {told:?}");
}

fn say_as_opentelemetry() {
    tracing::info!(target: "opentelemetry_sdk", name = "Provider.Set", "set");
    tracing::warn!(target: "opentelemetry-otlp", error = "refused", "cannot export");
    tracing::info!("of the service");
}

fn run(case: &str, receiver: &Receiver) -> ExitStatus {
    run_with(case, receiver, &[])
}

fn run_with(case: &str, receiver: &Receiver, variables: &[(&str, &str)]) -> ExitStatus {
    command(case, receiver).envs(variables.iter().copied()).status().expect("this program")
}

fn command(case: &str, receiver: &Receiver) -> Command {
    let mut command = child(case);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", receiver.protocol());
    command
}

fn child(case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    without_ours(&mut command);
    command.args(["the_process_that_ends", "--exact", "--ignored", "--nocapture"]).env("CASE", case);
    command.env("OTEL_LOGS_EXPORTER", "otlp");
    command.env("OTEL_BLRP_SCHEDULE_DELAY", "3600000"); // so that nothing leaves by itself
    command
}

/// Takes the variables away that the SDK reads.
fn without_ours(command: &mut Command) -> &mut Command {
    let is_ours = |name: &str| {
        let names = ["RUST_LOG", "NO_COLOR", "RUST_BACKTRACE"];
        name.starts_with("OTEL_") || name.starts_with("WATCHBELL_") || names.contains(&name)
    };
    for (name, _) in std::env::vars().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
}

#[test]
#[ignore = "the others run it"]
fn the_process_that_ends() {
    let Ok(case) = std::env::var("CASE") else { return };
    #[cfg(target_os = "linux")]
    if let Ok(call) = std::env::var("DENY") {
        denied::deny(&call);
    }
    if stock::run(&case) {
        return;
    }
    be_there_before(&case);
    let guard = builder(&case).init().expect("the only init of this process");
    match &*case {
        "console" => log_for_people(guard),
        "captured before" | "another logger" => log::warn!("from log"),
        #[cfg(feature = "otel-logs")]
        "cut" => log_what_is_cut(guard),
        "flush" => flush_between(guard),
        #[cfg(feature = "files")]
        "file" => {
            log_to_a_file();
            std::process::exit(7);
        }
        #[cfg(all(target_os = "linux", feature = "files"))]
        "full file" => fill_a_file(guard),
        #[cfg(target_os = "linux")]
        "signals" => {
            change_by_signals(&guard.levels());
            std::process::exit(7);
        }
        "thread ends" => end_a_thread(),
        #[cfg(all(unix, feature = "files"))]
        "hanging disk" | "hanging" | "catching up" => hanging::run(&case, guard),
        #[cfg(all(target_os = "linux", feature = "files"))]
        "clock" => clock::log_over_changes(guard),
        "fork, full" => fork_when_full(guard),
        #[cfg(target_os = "linux")]
        "handler" => handler::run(guard),
        #[cfg(feature = "axum")]
        "propagators" => propagators::call(guard),
        "forks" | "all panic" | "while unwinding" | "cannot unwind" => faults::run(&case, guard),
        "levels by url" => levels_url::log_until_killed(),
        #[cfg(target_os = "linux")]
        "levels end" => levels_url::end(guard),
        "stock says" => say_as_opentelemetry(),
        "a finder logs" => tracing::info!("paid with 4111 1111 1111 1111"),
        #[cfg(target_os = "linux")]
        "mapped" | "mapped, forked" => mapped::run(&case),
        #[cfg(unix)]
        "spool" => spool::log_until_killed(&guard),
        #[cfg(unix)]
        "spool and exit" => spool::log_and_exit(guard),
        "fork" => fork(guard),
        "exit" | "exit in vain" | "exit at leisure" => {
            tracing::info!("last words");
            std::process::exit(7);
        }
        "leak" => {
            tracing::info!("last words");
            std::mem::forget(guard);
        }
        _ => {
            let panic = || tracing::info_span!("request").in_scope(|| panic!("out of stock"));
            assert!(std::panic::catch_unwind(panic).is_err());
            drop(guard);
        }
    }
}

#[allow(clippy::print_stderr)] // what a hook does
fn be_there_before(case: &str) {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("the hook that was there: {}", info.payload().downcast_ref::<&str>().unwrap_or(&"?"));
    }));
    match case {
        #[cfg(target_os = "linux")]
        "handler" => handler::block_signals(),
        "captured before" => drop(watchbell::test::capture()),
        "another logger" => log::set_logger(&Nobody).expect("the first"),
        _ => {}
    }
}

fn builder(case: &str) -> watchbell::Builder {
    let timeout = match case {
        "exit in vain" => Duration::from_secs(1),
        "exit at leisure" => Duration::MAX,
        _ => Duration::from_secs(60),
    };
    let builder = watchbell::builder().panics(case != "no panics").shutdown_timeout(timeout);
    let builder = if case == "a patch panics" { with_patches(builder) } else { builder };
    let builder = match case {
        "handler" => builder.buffer_bytes_max(64 * 1024),
        "fork, full" => builder.buffer_bytes_max(64 * 1024).shutdown_timeout(Duration::ZERO),
        "mapped" => builder.redact(watchbell::redact::Redaction::usual()),
        "forks" => faults::with_sinks(builder),
        #[cfg(all(target_os = "linux", feature = "files"))]
        "catching up" => hanging::with_a_gate(builder),
        "all panic" => faults::with_panicking_functions(builder),
        "a finder logs" => builder.redact(watchbell::redact::Redaction::new().found_by(|text| {
            tracing::info_span!("looks").in_scope(|| tracing::info!("looks at {text}"));
            text.find("4111").map(|start| start..text.len())
        })),
        _ => builder,
    };
    match std::env::var("LOG_FILE") {
        #[cfg(feature = "files")]
        Ok(path) => {
            let file = watchbell::sink::file::File::new(path).rotate_at_bytes(50_000).heed_sighup();
            let format = watchbell::sink::Format::Pattern("{message}".to_owned());
            builder.sink(watchbell::sink::Sink::file(file).format(format))
        }
        _ => builder,
    }
}

/// One that marks each record, and one that panics with a panic's.
fn with_patches(builder: watchbell::Builder) -> watchbell::Builder {
    let panicking = |draft: &mut watchbell::patch::Draft<'_>| {
        assert!(draft.record().attribute("exception.type").is_none(), "not of a panic");
    };
    builder.patch(|draft| draft.set("patched", true)).patch(panicking)
}

fn log_for_people(guard: watchbell::Guard) {
    let refused = std::io::Error::other("connection refused");
    tracing::info_span!("request").in_scope(|| {
        tracing::info!(order_id = 17, upstream = "payment", ratio = 0.5, "order placed");
    });
    tracing::error!(error = &refused as &(dyn std::error::Error + 'static), "cannot charge");
    log::warn!(target: "legacy", "from log");
    tracing::info!(shown = %"\r\x1b[2Jx", "a\n2026-11-24 ERROR forged: \x1b[31mb\u{9b}c");
    guard.shutdown(Duration::ZERO);
}

fn flush_between(guard: watchbell::Guard) {
    tracing::info!("first");
    guard.flush(Duration::from_secs(60)).expect("a receiver that answers");
    tracing::info!("second");
}

fn end_a_thread() {
    let thread = std::thread::spawn(|| {
        ENDING.with_borrow_mut(|ending| ending.0 = Some(tracing::info_span!("entered").entered()));
        tracing::info!("in the span");
    });
    thread.join().expect("no panic");
}

#[expect(unsafe_code)] // the standard library does not fork
fn fork(guard: watchbell::Guard) {
    tracing::info!("of the parent");
    // SAFETY: the child logs, drops the guard and ends, as a service's child would; the parent waits for it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        tracing::info!("of the child");
        let started = Instant::now();
        assert!(guard.flush(Duration::from_secs(60)).is_err());
        assert_eq!((guard.ledger().logs.emitted, guard.ledger().logs.dropped_forked), (1, 1), "none of the parent's");
        drop(guard);
        let is_quick = started.elapsed() < Duration::from_secs(10);
        // SAFETY: ends the process and does nothing else.
        unsafe { libc::_exit(i32::from(!is_quick)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child, and writes its status.
    assert_eq!((unsafe { libc::waitpid(child, &raw mut status, 0) }, status), (child, 0));
    drop(guard);
}

/// Logs far more than the buffer holds, in a child.
#[expect(unsafe_code)] // as above
fn fork_when_full(guard: watchbell::Guard) {
    tracing::info!("of the parent");
    // SAFETY: the child logs and ends, as a service's child would; the parent waits for it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let started = Instant::now();
        (0..10_000).for_each(|i| tracing::info!("of the child {i}"));
        let account = guard.ledger().logs;
        let is_right = started.elapsed() < Duration::from_secs(60) && account.dropped_forked == 10_000;
        // SAFETY: ends the process and does nothing else.
        unsafe { libc::_exit(i32::from(!is_right)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child, and writes its status.
    assert_eq!((unsafe { libc::waitpid(child, &raw mut status, 0) }, status), (child, 0));
}

struct Nobody;

impl log::Log for Nobody {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}
