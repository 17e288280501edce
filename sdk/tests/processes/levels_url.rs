//! Levels that a server is asked for.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use super::command;
use super::receiver::{Received, Receiver};

const LONG: Duration = Duration::from_secs(120);

/// What the server answers, and what it was asked.
#[derive(Default)]
struct Script {
    status: u16,
    text: &'static str,
    tag: &'static str,
    /// The tags that the questions named.
    asked: Vec<String>,
    /// What it was shown with each.
    shown: Vec<HeaderMap>,
}

type Shared = Arc<Mutex<Script>>;

async fn answer(
    State(script): State<Shared>,
    headers: HeaderMap,
) -> (StatusCode, [(&'static str, &'static str); 1], &'static str) {
    let mut script = script.lock().unwrap();
    let known = headers.get("if-none-match").map(|tag| tag.to_str().unwrap().to_owned()).unwrap_or_default();
    let is_known = !known.is_empty() && known == script.tag;
    script.asked.push(known);
    script.shown.push(headers);
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::from_u16(script.status).unwrap() };
    (status, [("etag", script.tag)], if is_known { "" } else { script.text })
}

fn serve() -> (String, Shared) {
    let script = Shared::default();
    let app = Router::new().route("/levels", get(answer)).with_state(Arc::clone(&script));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/levels", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await.unwrap();
        });
    });
    (url, script)
}

#[test]
fn a_server_changes_the_levels_and_its_troubles_are_told_once() {
    let ((url, script), receiver) = (serve(), Receiver::http());
    let say = |status, text, tag| {
        let mut script = script.lock().unwrap();
        (script.status, script.text, script.tag) = (status, text, tag);
        script.asked.clear();
    };
    let until_asked = |what: &str, is_so: &dyn Fn(&[String]) -> bool| {
        until(what, || is_so(&script.lock().unwrap().asked));
    };
    say(200, "info # tonight\nprocesses=debug\n", "\"a\"");
    let mut service = command("levels by url", &receiver);
    service.env("WATCHBELL_LEVELS_URL", &url).env("WATCHBELL_LEVELS_INTERVAL", "1000").env("RUST_LOG", "warn");
    service.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame");
    let mut service =
        service.env("OTEL_BLRP_SCHEDULE_DELAY", "20").stderr(Stdio::piped()).spawn().expect("this program");
    let has_come = |text: &str| receiver.logs().iter().any(|log: &Received| log.body() == text);
    until("details come", || has_come("a detail"));
    until_asked("it names the tag", &|asked| asked.last().is_some_and(|tag| tag == "\"a\""));
    assert!(script.lock().unwrap().shown.iter().all(|shown| shown["authorization"] == "Bearer sesame"));
    say(503, "", "");
    until_asked("it asks three times", &|asked| asked.len() > 2);
    say(200, "processes=loud", "\"b\"");
    until_asked("it asks again", &|asked| asked.len() > 1);
    say(204, "", "");
    until_asked("it asks again", &|asked| asked.len() > 1);
    service.kill().expect("a process");
    let told = service.wait_with_output().expect("its output");
    let told: Vec<_> =
        std::str::from_utf8(&told.stderr).unwrap().lines().filter(|line| line.contains("levels")).collect();
    let (set, kept) = ("watchbell: the levels are", format!("watchbell: the levels stay as they are: `{url}`:"));
    let expected = [
        format!("{set} `info,processes=debug`, as `{url}` says"),
        format!("{kept} the server answers 503 Service Unavailable"),
        format!("{kept} `loud` is not a level; write `off`, `error`, `warn`, `info`, `debug` or `trace`"),
        format!("{set} `warn`, as `{url}` says"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    told.iter().zip(&expected).for_each(|(told, expected)| assert!(told.starts_with(expected), "{told:#?}"));
}

/// Those of a server, of a file and of signals.
#[test]
#[cfg(target_os = "linux")]
fn the_threads_of_levels_end_with_the_guard() {
    let ((url, _), receiver, file) = (serve(), Receiver::http(), tempfile::NamedTempFile::new().unwrap());
    let mut service = command("levels end", &receiver);
    let service = service.env("WATCHBELL_LEVELS_URL", &url).env("LEVELS_FILE", file.path()).output();
    let output = service.expect("this program");
    assert!(output.status.success(), "{} {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[cfg(target_os = "linux")]
pub(crate) fn end(guard: watchbell::Guard) {
    let levels = guard.levels();
    levels.watch_file(std::env::var("LEVELS_FILE").expect("a path"));
    levels.heed_signals().expect("no other handlers");
    until("there are three threads", || threads() == 3);
    drop(guard);
    until("they have ended", || threads() == 0);
}

/// How many threads change levels.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("comm"));
    tasks.filter(|name| std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("watchbell-level"))).count()
}

pub(crate) fn log_until_killed() {
    let started = Instant::now();
    loop {
        tracing::debug!("a detail");
        std::thread::sleep(Duration::from_millis(10));
        assert!(started.elapsed() < LONG, "nobody has killed this process");
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONG, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
