use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clap::Parser;
use proptest::collection::vec;
use watchbell_proto::otlp::common::AnyValue;
use watchbell_proto::otlp::encode;
use watchbell_rules::query::records::from_otlp;
use watchbell_rules::time::Timestamp;

use super::*;
use crate::cli::{Cli, Command};
use crate::clock::{Clock, ManualClock};
use crate::wal::{self, DataDir, FrameKind, Log, NewFrame, Wal, WalConfig};
use crate::{explain, pages};

fn outcome(folder: &Path, arguments: &[&str]) -> Result<Outcome, String> {
    let line = ["watchbell", "replay"].into_iter().chain(arguments.iter().copied());
    let Command::Replay(mut arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
    let join = |paths: &mut Vec<PathBuf>| paths.iter_mut().for_each(|path| *path = folder.join(&path));
    join(&mut arguments.rules);
    join(&mut arguments.against);
    for from in arguments.history.from.iter_mut().filter(|from| !from.contains("://")) {
        *from = folder.join(&from).display().to_string();
    }
    let clock: SharedClock = ManualClock::at(Timestamp(0));
    run(&arguments, &clock)
}

/// Each folder of `testdata/replay` holds files, `arguments` and what comes of them; `UPDATE=1` writes that.
#[test]
fn folders_of_histories() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/replay");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 3);
    for folder in folders {
        let arguments = fs::read_to_string(folder.join("arguments")).unwrap();
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let json = arguments.contains(&"json");
        let told = match outcome(&folder, &arguments) {
            Ok(outcome) if json => report::json(&outcome) + "\n",
            Ok(outcome) => report::text(&outcome),
            Err(error) => error + "\n",
        };
        let told = told.replace(&format!("{}/", folder.display()), "");
        pages::compare(&folder.join("expected.txt"), &told);
    }
}

/// In CI, where a change of rules is not to page more than they did.
#[test]
fn new_pages_can_fail_a_replay() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/replay/against");
    let has_new = |rules: &str, against: &str| {
        let arguments = ["--rules", rules, "--from", "history.json", "--fail-on-new", "--against", against];
        outcome(&folder, &arguments).unwrap().has_new()
    };
    assert!(has_new("stricter.yaml", "rules.yaml"));
    assert!(!has_new("rules.yaml", "stricter.yaml"));
    assert!(Cli::try_parse_from("watchbell replay --rules a --from b --fail-on-new".split(' ')).is_err());
}

fn explained(folder: &Path, arguments: &[&str]) -> String {
    let line = ["watchbell", "explain"].into_iter().chain(arguments.iter().copied());
    let Command::Explain(mut arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
    arguments.rules.iter_mut().for_each(|path| *path = folder.join(&path));
    arguments.history.from.iter_mut().for_each(|from| *from = folder.join(&from).display().to_string());
    let clock: SharedClock = ManualClock::at(Timestamp(0));
    explain::explanation(&arguments, &clock).unwrap_or_else(|error| error)
}

#[test]
fn the_page_on_replay_tells_the_truth() {
    pages::check("replay.md", |folder, command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let told = match words[1] {
            "replay" => outcome(folder, &words[2..]).map_or_else(|error| error, |outcome| report::text(&outcome)),
            "explain" => explained(folder, &words[2..]),
            other => panic!("the page is not about {other}"),
        };
        told.replace(&format!("{}/", folder.display()), "")
    });
}

#[test]
fn selectors_that_find_nothing_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let alert =
        |name: &str, label: &str| format!("{{alert: {name}, expr: 'sum(count_over_time({{{label}=\"a\"}}[1m])) > 9'}}");
    let rules = format!("groups: [{{name: g, rules: [{}, {}]}}]", alert("Found", "app"), alert("Lost", "pod"));
    fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    fs::write(folder.path().join("push"), push(0, "x")).unwrap();
    let outcome = outcome(folder.path(), &["--rules", "rules.yaml", "--from", "push"]).unwrap();
    let told = report::text(&outcome);
    let expected = "selectors that found nothing\n  g/Lost: a selector found none of the records, whose index labels are: app, service_name (";
    assert!(told.contains(expected), "{told}");
    let report: serde_json::Value = serde_json::from_str(&report::json(&outcome)).unwrap();
    assert_eq!(
        report["unselecting"],
        serde_json::json!({"rules": ["g/Lost"], "index_labels": ["app", "service_name"]})
    );
}

#[test]
fn an_explanation_for_programs_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "groups: [{name: g, rules: [{alert: A, expr: 'sum by (status) (count_over_time({app=\"a\"} |= \"x\" | json [1m])) > 1', for: 10s}]}]";
    fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    fs::write(folder.path().join("push"), (0..3).map(|second| push(second, "x")).collect::<String>()).unwrap();
    let told = explained(folder.path(), &["A", "--rules", "rules.yaml", "--from", "push", "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let alert = &told[0];
    assert_eq!((told.as_array().unwrap().len(), &alert["alert"], &alert["for"]), (1, &"A".into(), &"10s".into()));
    assert_eq!(alert["at"], "2025-11-24T16:00:02Z");
    assert!(alert["inactive"].as_str().unwrap().starts_with("`| json` failed on every record of"), "{alert:#}");
    assert_eq!(alert["failing_stages"][0]["records"], 3);
    let range = &alert["ranges"][0];
    assert_eq!(
        range["steps"][2],
        serde_json::json!({"step": "| json", "left": {"all": 3, "in_window": 3}, "failed": {"all": 3, "in_window": 3}, "dropped": []})
    );
    assert_eq!(range["content"], serde_json::json!({}), "what failed is not counted");
}

/// What stages extract, and which of them run, hangs on who reads them. Told are the last stage, and how many records it left and failed on.
#[test]
fn the_stages_are_explained_as_the_rule_runs_them() {
    let folder = tempfile::tempdir().unwrap();
    for (rule, line, left, failed) in [
        // A sum without grouping asks a parser for nothing: it does not run, and cannot fail.
        (r#"expr: 'sum(count_over_time({app="a"} | json [1m])) > 0'"#, "plain", 1, 0),
        (r#"expr: 'sum by (b) (count_over_time({app="a"} | json [1m])) > 0'"#, "plain", 1, 1),
        (r#"expr: 'sum by (b) (absent_over_time({app="a"} | json [1m])) > 0'"#, "plain", 1, 0),
        // A parser asks filters at once, also those behind what sets the label anew; where records are grouped it does not.
        (
            r#"expr: 'sum(count_over_time({app="a"} | json | label_format n="1" | n="1" | z="" [1m])) > 0'"#,
            r#"{"n": 3}"#,
            0,
            0,
        ),
        (
            r#"expr: 'sum by (b) (count_over_time({app="a"} | json | label_format n="1" | n="1" | z="" [1m])) > 0'"#,
            r#"{"n": 3}"#,
            1,
            0,
        ),
        // Two sums of counts are one; what is no sum of its own reads all labels.
        (r#"expr: 'sum by (b) (sum by (b, c) (count_over_time({app="a"} | json [1m]))) > 0'"#, r#"{"b": 1, x"#, 1, 0),
        (r#"expr: 'sum(max_over_time({app="a"} | json | unwrap b [1m])) > 0'"#, r#"{"b": 1, x"#, 1, 1),
        // Patterns are those of the line as it was formatted.
        (r#"expr: 'sum(count_over_time({app="a"} | line_format "{{ div 1 0 }}" [1m])) > 0'"#, "plain", 1, 0),
        (r#"detect: {new_pattern: {where: '{app="a"} | line_format "{{ div 1 0 }}"'}}"#, "plain", 1, 1),
    ] {
        fs::write(folder.path().join("rules.yaml"), format!("groups: [{{name: g, rules: [{{alert: A, {rule}}}]}}]"))
            .unwrap();
        fs::write(folder.path().join("push"), push(0, &line.replace('"', "\\\""))).unwrap();
        let told = explained(folder.path(), &["A", "--rules", "rules.yaml", "--from", "push", "--format", "json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{rule}: {told}"));
        let range = &told[0]["ranges"][0];
        let last = range["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["left"]["all"], &last["failed"]["all"]), (&left.into(), &failed.into()), "{rule}: {range}");
        let content = if left > failed { 1 } else { 0 };
        assert_eq!(range["content"].as_object().unwrap().len(), content, "{rule}: what failed is not counted");
    }
}

/// A detector's expression holds where nothing is new, or nothing followed: that is what is said then.
#[test]
fn a_detector_that_did_not_fire_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), DETECTORS).unwrap();
    let push = r#"{"streams": [{"stream": {"service_name": "shop"}, "values": [["1764000000000000000", "placed"]]}]}"#;
    fs::write(folder.path().join("push.json"), push).unwrap();
    let explained = |alert| explained(folder.path(), &["--rules", "rules.yaml", "--from", "push.json", alert]);
    for (alert, why) in [
        ("New", "inactive: no pattern of these records is new"),
        (
            "Then",
            "inactive: no record of `{service_name=\"shop\"} |= \"shipped\" | service_name!=\"\" [5m]` in the window is left",
        ),
        (
            "Without",
            "inactive: first records still have time for a second one (1), the earliest until 2025-11-24T16:05:00Z",
        ),
    ] {
        assert!(explained(alert).contains(why), "{}", explained(alert));
    }
}

const DETECTORS: &str = r#"
groups:
  - name: shop
    rules:
      - {alert: New, detect: {new_pattern: {where: '{service_name="shop"}'}}}
      - {alert: Then, detect: {sequence: {first: '{service_name="shop"} |= "placed"', then: '{service_name="shop"} |= "shipped"'}}}
      - {alert: Without, detect: {sequence: {first: '{service_name="shop"} |= "placed"', without: '{service_name="shop"} |= "shipped"'}}}
"#;

#[test]
fn an_alert_is_explained_by_its_group_and_apart_from_others_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let rule = |group: &str, bound: u32| {
        format!(
            "  - {{name: {group}, rules: [{{alert: Same, expr: 'count_over_time({{service_name=\"a\"}}[1m]) > {bound}'}}]}}\n"
        )
    };
    fs::write(folder.path().join("rules.yaml"), format!("groups:\n{}{}", rule("low", 0), rule("high", 100))).unwrap();
    let history = r#"{"streams": [{"stream": {"service_name": "a"}, "values": [["1764000000000000000", "x"]]}]}"#;
    fs::write(folder.path().join("history.json"), history).unwrap();
    let told = |alert: &str| explained(folder.path(), &[alert, "--rules", "rules.yaml", "--from", "history.json"]);
    let (low, high) = (told("low/Same"), told("high/Same"));
    assert!(low.contains("firing") && !high.contains("firing"), "{low}\n{high}");
    assert_eq!(told("Same"), format!("{low}\n{high}"));
    assert_eq!(told("middle/Same"), "no alert is named `middle/Same`: there are Same");
}

/// A replay of the collector's own log judges what it took in, as it came.
#[test]
fn a_collectors_own_log_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
    let clock = ManualClock::at(Timestamp(1_764_000_000_000_000_000));
    let (log, wal) = own_log(folder.path(), &clock);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        let payload = Bytes::from(refusal(clock.now()));
        let frame = NewFrame { kind: FrameKind::Batch, hash: 0, event_span: None, records: 1, payload };
        runtime.block_on(wal.append(frame)).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let arguments = ["--rules", "rules.yaml", "--from", "data"];
    assert!(outcome(folder.path(), &arguments).is_err(), "a collector is running on it");
    wal.close();
    drop((wal, log));
    let span = ["--start", "2025-11-24T16:00:01Z", "--end", "2025-11-24T16:00:02Z"];
    assert_eq!(outcome(folder.path(), &[&arguments[..], &span[..]].concat()).unwrap().records, 1);
    let outcome = outcome(folder.path(), &arguments).unwrap();
    assert_eq!((outcome.records, outcome.run.episodes.len()), (3, 1));
    assert_eq!(outcome.run.episodes[0].fired_at, Timestamp(1_764_000_002_000_000_000));
}

#[test]
fn a_time_at_which_nobody_listened_is_explained_by_what_came_after_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), SILENT).unwrap();
    let clock = ManualClock::at(Timestamp(1_764_000_000_000_000_000));
    let (log, wal) = own_log(folder.path(), &clock);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (kind, payload) in [(FrameKind::Batch, refusal(clock.now())), (FrameKind::Started, Vec::new())] {
        let frame = NewFrame { kind, hash: 0, event_span: None, records: 0, payload: payload.into() };
        runtime.block_on(wal.append(frame)).unwrap();
        clock.advance(Duration::from_secs(600));
    }
    wal.close();
    drop((wal, log));
    let at = ["--at", "2025-11-24T16:05:00Z"];
    let told =
        explained(folder.path(), &[&["Silent", "--rules", "rules.yaml", "--from", "data"][..], &at[..]].concat());
    assert!(told.contains("warming until 2025-11-24T16:11:00Z") && !told.contains("firing since"), "{told}");
}

/// The log of a collector whose data is in `data`.
fn own_log(folder: &Path, clock: &Arc<ManualClock>) -> (DataDir, Wal) {
    let data = DataDir::open(&folder.join("data")).unwrap();
    let metrics = wal::Metrics::register(&mut prometheus_client::registry::Registry::default());
    let wal = Wal::open(&data, "logs", WalConfig::default(), clock.clone(), &metrics).unwrap();
    (data, wal)
}

const SILENT: &str = r#"
groups:
  - name: shop
    rules:
      - alert: Silent
        expr: absent_over_time({service_name="shop"} [1m])
"#;

fn refusal(at: Timestamp) -> Vec<u8> {
    let resource = encode::resource([("service.name", AnyValue::String("shop"))]);
    let mut request = Vec::new();
    encode::put_resource_logs(&mut request, &resource, |out| {
        encode::put_scope_logs(out, &[], |out| {
            encode::put_log_record(out, |record| {
                record.time_unix_nano(at.0 as u64);
                record.body(&AnyValue::String("refused"));
            });
        });
    });
    request
}

const RULES: &str = r#"
groups:
  - name: shop
    rules:
      - alert: Refused
        expr: sum by (service_name) (count_over_time({service_name="shop"} |= "refused" [1m])) > 2
"#;

/// Answers as Loki's `query_range` does, with a record a second from [`LOKI_START`] on; counts the pages.
struct Loki {
    port: u16,
    pages: Arc<AtomicUsize>,
}

impl Loki {
    fn start(records: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, pages) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&pages);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                answer(stream.unwrap(), records);
            }
        });
        Self { port, pages }
    }
}

fn answer(mut stream: TcpStream, records: i64) {
    let mut head = String::new();
    let mut reader = BufReader::new(&stream);
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let head = head.to_lowercase();
    let parameter = |name: &str| -> i64 {
        let (_, rest) = head.split_once(&format!("{name}=")).unwrap();
        rest.split(['&', ' ']).next().unwrap().parse().unwrap()
    };
    let (start, end) = (parameter("start"), parameter("end"));
    let (status, body) = match head.contains("x-scope-orgid: shop") {
        false => ("401 Unauthorized", "no org id".to_owned()),
        true if end - start > 10 * DAY => ("400 Bad Request", "the query time range exceeds the limit".to_owned()),
        true => ("200 OK", page(start, end, parameter("limit"), records)),
    };
    assert!(head.contains("x-loki-response-encoding-flags: categorize-labels"), "{head}");
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
}

fn page(start: i64, end: i64, limit: i64, records: i64) -> String {
    let times = (0..records).map(|n| LOKI_START + n * 1_000_000_000);
    let values = times.filter(|time| (start..end).contains(time)).take(limit as usize);
    let values: Vec<String> = values
        .map(|time| format!(r#"["{time}","refused",{{"structuredMetadata":{{"tenant":"a"}},"parsed":{{}}}}]"#))
        .collect();
    let values = values.join(",");
    format!(
        r#"{{"status":"success","data":{{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[{{"stream":{{"service_name":"shop"}},"values":[{values}]}}]}}}}"#
    )
}

/// Pages join without a record lost or taken twice, and a refusal is told.
#[test]
fn a_loki_is_read_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
    let loki = Loki::start(4500);
    let url = format!("http://127.0.0.1:{}", loki.port);
    let end = (LOKI_START + 4400 * 1_000_000_000).to_string();
    let start = LOKI_START.to_string();
    let arguments = ["--rules", "rules.yaml", "--from", &url, "--start", &start, "--end", &end];
    let refused = outcome(folder.path(), &arguments).err().unwrap();
    assert!(refused.contains("401 Unauthorized: no org id"), "{refused}");
    let outcome = outcome(folder.path(), &[&arguments[..], &["--tenant", "shop"]].concat()).unwrap();
    assert_eq!((outcome.records, outcome.run.episodes.len()), (4400, 1));
    assert_eq!(loki.pages.load(Ordering::SeqCst), 1 + 3);
}

/// Where there are no records a piece is twice as long as the one before it, up to what Loki answers: here 1 + 2 + 4 + 8 days, 16 in vain,
/// three times 8, and the rest.
#[test]
fn a_long_time_is_read_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
    let loki = Loki::start(4500);
    let url = format!("http://127.0.0.1:{}", loki.port);
    let (start, end) = ((LOKI_START - 45 * DAY).to_string(), (LOKI_START + 4400 * 1_000_000_000).to_string());
    let arguments = ["--rules", "rules.yaml", "--from", &url, "--start", &start, "--end", &end, "--tenant", "shop"];
    assert_eq!(outcome(folder.path(), &arguments).unwrap().records, 4400);
    assert_eq!(loki.pages.load(Ordering::SeqCst), 4 + 1 + 3 + 3);
}

const LOKI_START: i64 = 1_764_000_000_000_000_000;

const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

fn history(arguments: &[&str]) -> Result<History, String> {
    let line = ["watchbell", "replay", "--rules", "x"].into_iter().chain(arguments.iter().copied());
    let Command::Replay(arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
    let clock: SharedClock = ManualClock::at(Timestamp(0));
    History::open(&arguments.history, &clock)
}

/// Second and line of each record, in the order in which they are shown.
fn shown(history: &History) -> Vec<(i64, String)> {
    let mut shown = Vec::new();
    let (mut clock, mut count) = (i64::MIN, 0);
    history
        .for_each(&mut |batch| {
            assert!(clock < batch.received.0 || shown.is_empty(), "batches that could be one");
            clock = batch.received.0;
            count += batch.records;
            assert!((0.0..=1.0).contains(&batch.progress));
            shown.extend(from_otlp(batch.bytes, &Default::default(), Timestamp(0)).into_iter().map(|entry| {
                assert!(entry.time <= batch.received);
                ((entry.time.0 - LOKI_START) / 1_000_000_000, entry.line)
            }));
        })
        .unwrap();
    assert_eq!(count, shown.len() as u64);
    shown
}

fn line(second: i64, text: &str) -> String {
    format!("{} {text}", Timestamp(LOKI_START + second * 1_000_000_000))
}

/// As a body of Loki's push API.
fn push(second: i64, text: &str) -> String {
    let time = LOKI_START + second * 1_000_000_000;
    format!(r#"{{"streams": [{{"stream": {{"app": "a"}}, "values": [["{time}", "{text}"]]}}]}}"#)
}

proptest::proptest! {
    /// However the times of files go, their records come in the order of their times, those of one time in the order of the files.
    #[test]
    fn files_are_shown_in_the_order_of_their_times(
        files in vec((proptest::bool::ANY, vec((0..60_i64, 1..90_usize), 0..30)), 1..4),
        span in (0..30_i64, 30..60_i64),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for (number, (is_push, records)) in files.iter().enumerate() {
            let mut text = String::new();
            for (at, (second, length)) in records.iter().enumerate() {
                let said = format!("{number}/{at} {}", "x".repeat(*length));
                let (second, record) = match (*is_push, at % 5) {
                    (true, _) => (*second, push(*second, &said)),
                    (false, 4) => (expected.last().map_or(0, |(second, _)| *second), said.clone()), // as the line before
                    (false, _) => (*second, line(*second, &said)),
                };
                text.push_str(&format!("{record}\n"));
                let told = if *is_push || at % 5 == 4 { said } else { record };
                expected.push((second, told));
            }
            fs::write(folder.path().join(number.to_string()), text).unwrap();
        }
        expected.retain(|(second, _)| (span.0..span.1).contains(second));
        expected.sort_by_key(|(second, _)| *second);
        let at = |second: i64| (LOKI_START + second * 1_000_000_000).to_string();
        let (start, end) = (at(span.0), at(span.1));
        match history(&["--from", folder.path().to_str().unwrap(), "--start", &start, "--end", &end]) {
            Ok(history) => {
                proptest::prop_assert_eq!(shown(&history), expected.clone());
                proptest::prop_assert_eq!(shown(&history), expected, "a second time");
            }
            Err(error) => proptest::prop_assert!(expected.is_empty(), "{}", error),
        }
    }
}

/// Files in folders of a folder, compressed or not, each once; what two files hold counts twice.
#[test]
fn a_folder_of_rotated_files_is_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("shop/old/.hidden")).unwrap();
    fs::write(path("shop/app.log"), line(7, "g") + "\n" + &line(8, "h")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all((line(1, "a") + "\n").as_bytes()).unwrap();
    let mut members = gzip.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(line(2, "b").as_bytes()).unwrap();
    members.extend(gzip.finish().unwrap());
    fs::write(path("shop/old/app.log.2.gz"), members).unwrap();
    fs::write(path("shop/old/app.log.1"), zstd::encode_all(push(5, "c").as_bytes(), 1).unwrap()).unwrap();
    fs::write(path("shop/old/copy.log"), line(8, "h")).unwrap();
    fs::write(path("shop/old/empty.log"), "").unwrap();
    fs::write(path("shop/old/.hidden/x"), "no time").unwrap();
    std::os::unix::fs::symlink(path("shop"), path("shop/old/back")).unwrap();
    let (from, again) = (path("shop").display().to_string(), path("shop/app.log").display().to_string());
    let told: Vec<i64> =
        shown(&history(&["--from", &from, "--from", &again]).unwrap()).into_iter().map(|(second, _)| second).collect();
    assert_eq!(told, [1, 2, 5, 7, 8, 8]);
}

#[test]
fn what_comes_by_a_pipe_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, line(1, "a") + "\n" + &line(2, "b")).unwrap()
    });
    let history = history(&["--from", pipe.to_str().unwrap()]).unwrap();
    writer.join().unwrap();
    assert_eq!((shown(&history).len(), shown(&history).len()), (2, 2));
}

#[test]
fn what_is_written_to_a_file_after_it_was_looked_through_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    let lines = |seconds: std::ops::Range<i64>| seconds.map(|second| line(second, "x") + "\n").collect::<String>();
    fs::write(&path, lines(0..10)).unwrap();
    let history = history(&["--from", path.to_str().unwrap()]).unwrap();
    fs::write(&path, lines(0..20)).unwrap();
    assert_eq!(shown(&history).len(), 10);
    fs::write(&path, "").unwrap();
    assert!(history.for_each(&mut |_| {}).unwrap_err().contains("became shorter"));
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name).display().to_string();
        fs::write(&path, bytes).unwrap();
        history(&["--from", &path]).err().unwrap_or_default().replace(&format!("{}/", folder.path().display()), "")
    };
    let pushes: String = (0..9).map(|second| push(second, "x") + "\n").collect();
    assert_eq!(
        told("a", (pushes.clone() + r#"{"streams": [{]}"#).as_bytes()),
        "a: line 10, column 15: key must be a string"
    );
    let cut = &pushes.as_bytes()[..pushes.len() - 3];
    assert_eq!(told("b", cut), "b: line 9, column 79: EOF while parsing a list");
    assert_eq!(
        told("c", br#"{"streams": [{"stream": {}, "values": [["0", "x"]]}]}"#),
        "c: it is not known when 1 of its records came: they bear no time, or one before 1970"
    );
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
    assert_eq!(told("d", &gzip[..gzip.len() - 4]), "cannot read `d`: unexpected end of file");
    assert_eq!(
        told("e", "\u{feff}x\n".repeat(100).as_bytes()),
        "e: no line bears a time near its beginning, so that it is not known when they came"
    );
}
