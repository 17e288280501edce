use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;
use tower::ServiceExt;
use watchbell_rules::loki_push;
use watchbell_rules::query::batches::record_time;
use watchbell_rules::query::records::{self, Format, LineLabels};
use watchbell_rules::query::series::{Counting, SeriesQuery};
use watchbell_rules::query::{Direction, Limits, Query, When};
use watchbell_rules::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::clock::ManualClock;
use crate::memory_log::MemoryLog;
use crate::telemetry;
use crate::wal::{self, DataDir, FrameKind, NewFrame, Wal, WalConfig};

/// An API over a log of its own, whose segments are small.
struct Server {
    wal: Arc<Wal>,
    router: Router,
    clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

struct TestSource(Arc<Wal>, LabelConfig);

impl Source for TestSource {
    fn log(&self) -> Arc<dyn Log> {
        self.0.clone()
    }

    fn labels(&self) -> LabelConfig {
        self.1.clone()
    }
}

impl Server {
    fn start(config: LokiConfig, wal: WalConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();
        let clock = ManualClock::at(Timestamp(NOW));
        let metrics = telemetry::Metrics::default();
        let wal_metrics = metrics.register(wal::Metrics::register);
        let wal = Arc::new(Wal::open(&data_dir, "logs", wal, clock.clone(), &wal_metrics).unwrap());
        // No service name is made up: so the cases are about what was pushed.
        let labels = LabelConfig { discover_service_name: Vec::new(), ..LabelConfig::default() };
        let source = Arc::new(TestSource(Arc::clone(&wal), labels));
        let metrics = metrics.register(Metrics::register);
        let router = Loki::new(source, None, config, clock.clone(), metrics).router();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { wal, router, clock, runtime, _folder: folder }
    }

    fn small() -> Self {
        Self::start(
            LokiConfig::default(),
            WalConfig { segment_bytes: 16 << 10, bytes_max: 1 << 20, ..WalConfig::default() },
        )
    }

    fn push(&self, json: &str) {
        self.append(loki_push::from_json(json.as_bytes()).unwrap().request);
    }

    fn append(&self, request: Vec<u8>) {
        let times = watchbell_proto::otlp::logs::LogsRequest::new(&request);
        let times: Vec<_> = times.records().map(|(_, _, record)| record_time(&record, Timestamp(NOW))).collect();
        let frame = NewFrame {
            kind: FrameKind::Batch,
            hash: xxh3_64(&request),
            event_span: times.iter().min().copied().zip(times.iter().max().copied()),
            records: times.len() as u32,
            payload: request.into(),
        };
        self.runtime.block_on(self.wal.append(frame)).unwrap();
    }

    fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        self.runtime.block_on(async {
            let answer = self.router.clone().oneshot(request).await.unwrap();
            let (head, body) = answer.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn get(&self, path: &str) -> (StatusCode, String) {
        let (status, _, body) = self.ask(Request::get(path).body(Body::empty()).unwrap());
        (status, body)
    }
}

/// 1970-01-01T01:00:00Z: the hour that is asked for by default is all there is.
const NOW: i64 = 3_600_000_000_000;

/// A case is pushes, one a line, and behind an empty line a request: `GET` or `POST`, a path with spaces as they are, headers a line, and a form. It becomes the status,
/// the content type where it is not JSON, and the body; JSON's lists have a line an item.
#[test]
fn requests_are_answered_as_lokis_api_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/loki_api");
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let text = format!("\n{}", std::fs::read_to_string(&file).unwrap());
        let mut updated = String::new();
        for case in text.split("\n=== ").skip(1) {
            let (name, rest) = case.split_once('\n').unwrap();
            let (input, expected) = rest.split_once("----\n").unwrap_or((rest, ""));
            let answer = answer(input.trim());
            let is_update = std::env::var_os("UPDATE").is_some();
            assert!(is_update || answer == expected.trim(), "{}: {name}\n{answer}", file.display());
            updated.push_str(&format!("=== {name}\n{}\n----\n{answer}\n\n", input.trim()));
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, format!("{}\n", updated.trim_end())).unwrap();
        }
    }
}

fn answer(input: &str) -> String {
    let server = Server::small();
    let (pushes, asked) = input.rsplit_once("\n\n").unwrap_or(("", input));
    pushes.lines().for_each(|push| server.push(push));
    let (status, headers, body) = server.ask(request(asked));
    let content_type = headers.get("content-type").map_or("none", |value| value.to_str().unwrap());
    match serde_json::from_str::<Value>(&body) {
        Ok(mut json) if content_type.starts_with("application/json") => {
            if let Some(data) = json.get_mut("data").and_then(Value::as_object_mut) {
                let stats = data.remove("stats");
                assert!(stats.is_none_or(|stats| stats["summary"]["execTime"].is_f64() && are_whole(&stats)), "{body}");
            }
            let text = json.to_string();
            format!("{}\n{}", status.as_u16(), text.replace("},{", "},\n{"))
        }
        _ => format!("{} {content_type}\n{body}", status.as_u16()).trim_end().to_owned(),
    }
}

/// Whether all but the times in seconds are whole numbers: `logcli` refuses an answer with others.
fn are_whole(stats: &Value) -> bool {
    let fields = stats.as_object().unwrap().iter();
    fields.filter(|(name, _)| !matches!(name.as_str(), "execTime" | "queueTime")).all(|(_, value)| match value {
        Value::Object(_) => are_whole(value),
        value => value.is_u64(),
    })
}

fn request(asked: &str) -> Request<Body> {
    let mut lines = asked.lines();
    let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
    let mut headers = HeaderMap::new();
    let mut form = String::new();
    for line in lines {
        match line.split_once(": ") {
            Some((name, value)) => drop(
                headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()),
            ),
            None => form = encoded(line),
        }
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut request = Request::new(Body::from(form.clone()));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("{path}?{}", encoded(query)).parse().unwrap();
    *request.headers_mut() = headers;
    if !form.is_empty() {
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    request
}

/// `name=value&name=value`, with values as they are, encoded.
fn encoded(query: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    pairs.for_each(|(name, value)| {
        encoded.append_pair(name, value);
    });
    encoded.finish()
}

fn push_json(entries: &[(u8, i64, u8)]) -> String {
    let streams = entries
        .iter()
        .map(|(app, time, line)| format!(r#"{{"stream":{{"app":"{app}"}},"values":[["{time}","level={line}"]]}}"#));
    format!(r#"{{"streams":[{}]}}"#, streams.collect::<Vec<_>>().join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the order in which records came in, over however many segments: the answer is that over the sorted records.
    #[test]
    fn the_log_is_queried_as_if_it_were_sorted(
        batches in prop::collection::vec(prop::collection::vec((0..3u8, 1..60i64, 0..3u8), 1..6), 1..60),
        start in 0..60i64, length in 0..60i64, limit in 1..20usize, is_forward: bool,
    ) {
        let second = 1_000_000_000;
        let server = Server::small();
        let pushes: Vec<String> = batches.iter().map(|batch| {
            let entries: Vec<_> = batch.iter().map(|(app, time, line)| (*app, time * second, *line)).collect();
            push_json(&entries)
        }).collect();
        pushes.iter().for_each(|push| server.push(push));
        let entries = records::parse(pushes.join("\n").as_bytes(), Format::LokiPush, &LineLabels::default()).unwrap();
        let entries = records::sorted(entries);
        let (start, end) = (Timestamp(start * second), Timestamp((start + length) * second));
        let when = When::Range { start, end, step: Duration::from_secs(7) };
        let direction = if is_forward { Direction::Forward } else { Direction::Backward };
        for expr in [
            r#"{app=~"1|2"} | keep app"#,
            r#"{app="1"} |= "level=1" | keep app, level"#,
            r#"sum by (app) (count_over_time({app=~".+"} | logfmt | level != "2" [9s]))"#,
            r#"max_over_time({app=~"0|1"} | logfmt | unwrap level [20s] offset 3s) by (app)"#,
        ] {
            let mut query = Query::new(expr, when, Limits { limit, direction, ..Limits::default() }).unwrap();
            entries.iter().for_each(|entry| query.add(entry.time, entry).unwrap());
            let expected: Value = serde_json::from_str(&query.answer().unwrap().to_json()).unwrap();
            let direction = if is_forward { "forward" } else { "backward" };
            let path = format!(
                "/loki/api/v1/query_range?{}",
                encoded(&format!("query={expr}&start={}&end={}&step=7&limit={limit}&direction={direction}", start.seconds(), end.seconds()))
            );
            let (status, body) = server.get(&path);
            prop_assert_eq!(status, 200, "{}", body);
            let answer: Value = serde_json::from_str(&body).unwrap();
            let (answer, expected) = (&answer["data"]["result"], &expected["result"]);
            // Which of several records of one time a limit leaves out hangs on the order in which they came.
            if expr.starts_with('{') {
                prop_assert_eq!(times(answer), times(expected), "{}", expr);
            } else {
                prop_assert_eq!(answer, expected, "{}", expr);
            }
        }
    }
}

fn times(streams: &Value) -> Vec<String> {
    let entries = streams.as_array().unwrap().iter().flat_map(|stream| stream["values"].as_array().unwrap());
    let mut times: Vec<String> = entries.map(|entry| entry[0].as_str().unwrap().to_owned()).collect();
    times.sort();
    times
}

#[test]
fn logs_drilldown_is_told_limits_and_that_there_are_no_patterns() {
    let server = Server::start(LokiConfig { entries_max: 70, ..LokiConfig::default() }, WalConfig::default());
    let (status, body) = server.get("/loki/api/v1/drilldown-limits");
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["limits"]["max_entries_limit_per_query"], 70);
    assert_eq!(told["pattern_ingester_enabled"], false);
}

#[test]
fn what_the_log_has_let_go_of_is_not_found() {
    let server = Server::small();
    let line = "x".repeat(4000);
    for n in 1..=600 {
        server.push(&format!(r#"{{"streams":[{{"stream":{{"app":"a"}},"values":[["{n}000000000","{line}"]]}}]}}"#));
    }
    let (_, body) = server.get("/loki/api/v1/query?query=sum(count_over_time(%7Bapp=%22a%22%7D%5B1h%5D))");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let count: u64 = answer["data"]["result"][0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!((30..500).contains(&count), "{count}");
    let (_, body) = server.get("/loki/api/v1/query_range?query=%7Bapp=%22a%22%7D&limit=2");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(times(&answer["data"]["result"]), ["599000000000", "600000000000"]);
    let read = answer["data"]["stats"]["ingester"]["totalBatches"].as_u64().unwrap();
    assert!(read < 10, "{read} batches are read for the last two records");
}

#[test]
fn a_query_over_its_limit_is_told_which() {
    let config =
        LokiConfig { query_memory_bytes_max: 6000, query_bytes_max: 20_000, series_max: 2, ..LokiConfig::default() };
    let server = Server::start(config, WalConfig::default());
    let entries: Vec<_> = (1..=50).map(|n| (n as u8 % 3, n * 1_000_000_000, 1)).collect();
    server.push(&push_json(&entries));
    for (query, limit) in [
        ("query_range?query=%7Bapp=~%22.%2B%22%7D&limit=5000", "query_memory_bytes_max"),
        ("query_range?query=%7Bapp=~%22.%2B%22%7D&limit=5001", "entries_max"),
        ("query?query=rate(%7Bapp=~%22.%2B%22%7D%5B1h%5D)", "series_max"),
        ("query?query=%7Bapp=%221%22%7D", "an instant query is for numbers"),
        ("query_range?query=vector(1)&step=0.1", "QUERY_STEPS_MAX"),
    ] {
        let (status, body) = server.get(&format!("/loki/api/v1/{query}"));
        assert!(status == 400 && body.contains(limit), "{query}: {status} {body}");
    }
    (0..3).for_each(|_| server.push(&push_json(&entries)));
    let (status, body) = server.get("/loki/api/v1/series?start=0");
    assert!(status == 400 && body.contains("query_bytes_max"), "{body}");
}

#[test]
fn no_more_queries_wait_than_may_and_none_takes_too_long() {
    let config = LokiConfig {
        queries_max: 1,
        queries_waiting_max: 1,
        query_timeout: Duration::from_millis(50),
        ..LokiConfig::default()
    };
    let server = Server::start(config.clone(), WalConfig::default());
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let workshop = Workshop::new(&config, server.clock.clone(), metrics);
    let until_stopped = |stop: &work::Stop| {
        while !stop.is_set() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    };
    server.runtime.block_on(async {
        let (first, second, third) =
            tokio::join!(workshop.run(until_stopped), workshop.run(until_stopped), workshop.run(until_stopped));
        assert_eq!(first.unwrap_err().status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(second.unwrap_err().status, StatusCode::GATEWAY_TIMEOUT);
        assert!(third.unwrap_err().message.contains("queries_waiting_max"));
    });
}

#[test]
fn a_query_that_takes_too_long_makes_room_for_others() {
    let config = LokiConfig {
        queries_max: 1,
        queries_waiting_max: 1,
        query_timeout: Duration::from_secs(1),
        ..LokiConfig::default()
    };
    let server = Server::start(config, WalConfig::default());
    let mut random = fastrand::Rng::with_seed(7);
    let mut line = || (0..1_000).map(|_| if random.bool() { 'x' } else { 'y' }).collect::<String>();
    let lines: Vec<_> = (1..=10_000).map(|n| serde_json::json!([format!("{n}"), line()])).collect();
    server.push(&serde_json::json!({"streams": [{"stream": {"app": "1"}, "values": lines}]}).to_string());
    // Each record takes long, since an automaton would have more states than there is room for, and all are in one batch.
    let hostile = encoded(r#"query=sum(count_over_time({app="1"} |~ "x[xy]{300}[^xy]" [1h]))"#);
    for _ in 0..2 {
        let (status, body) = server.get(&format!("/loki/api/v1/query?{hostile}"));
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{body}");
    }
    let started = std::time::Instant::now();
    let is_answered =
        || server.get(&format!("/loki/api/v1/query?{}", encoded(r#"query=vector(1)"#))).0 == StatusCode::OK;
    while !is_answered() {
        assert!(started.elapsed() < Duration::from_secs(60), "the first ones still go on");
    }
}

#[test]
fn a_query_reads_nothing_while_a_commit_is_under_way() {
    let log = MemoryLog::new();
    let append = || {
        let payload = loki_push::from_json(push_json(&[(1, 1_000_000_000, 1)]).as_bytes()).unwrap().request.into();
        drop(log.append(NewFrame { kind: FrameKind::Batch, hash: 1, event_span: None, records: 1, payload }));
    };
    append();
    log.hold(true);
    append();
    let (reader, metrics) = (log.clone(), Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let look = move || {
        let (labels, stop) = (LabelConfig::default(), work::Stop::default());
        let mut series = SeriesQuery::new(&[], (Timestamp::MIN, Timestamp::MAX), Counting::No, 10).unwrap();
        let mut scan = scan::Scan::new(&reader, &labels, &stop, &metrics, u64::MAX);
        scan.series(&mut series).map_err(|failure| failure.message).unwrap();
        scan.batches
    };
    let thread = std::thread::spawn(look);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!thread.is_finished(), "it has read while the disk was busy with a commit");
    log.hold(false);
    assert_eq!(thread.join().unwrap(), 2);
}
