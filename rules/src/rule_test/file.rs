//! Reads test files, ours and promtool's.

use std::ops::Range;
use std::time::Duration;

use super::expect;
use super::{Expectation, Moment, REPEAT_MAX, RecordSource, Test, TestFile};
use crate::diagnostic::{Diagnostic, codes};
use crate::query::parameters;
use crate::time::{Timestamp, parse_duration};
use crate::yaml::reader::{Fields, Reader, missing};
use crate::yaml::{self, Node, NodeKind};

/// Reads the tests of a rule file, or a file of tests; `file` is its name. All mistakes are returned at once.
pub fn parse(file: &str, text: &str) -> Result<TestFile, Vec<Diagnostic>> {
    let mut reader = Reader::new(file, text);
    let test_file = match yaml::parse(text) {
        Ok(root) => test_file(&mut reader, &root),
        Err(mistake) => {
            reader.mistakes.push(mistake);
            None
        }
    };
    reader.finish(test_file)
}

/// Whether the file has anything under `tests`.
///
/// # Errors
/// It is no YAML.
pub fn has_tests(file: &str, text: &str) -> Result<bool, Diagnostic> {
    let root = yaml::parse(text).map_err(|mistake| Diagnostic { file: file.into(), ..mistake })?;
    Ok(matches!(&root.kind, NodeKind::Mapping(fields) if fields.iter().any(|(key, _)| key.name == "tests")))
}

/// Whether the file has tests of rules that stand elsewhere.
pub(crate) fn is_test_file(root: &Node) -> bool {
    let NodeKind::Mapping(fields) = &root.kind else { return false };
    let has = |name: &str| fields.iter().any(|(key, _)| key.name == name);
    has("rule_files") && !has("groups")
}

/// What may stand in a file of tests. promtool's `group_eval_order` holds anyway, since groups do not wait for one another, and so does its
/// `fuzzy_compare`: values that differ by less than a millionth count as equal.
const FILE_FIELDS: &[&str] =
    &["rule_files", "config", "evaluation_interval", "tests", "group_eval_order", "fuzzy_compare"];
/// What may stand in a rule file; what is wrong in the rest of it, its own reader tells.
const RULE_FILE_FIELDS: &[&str] = &["groups", "namespace", "tests"];
const TEST_FIELDS: &[&str] =
    &["name", "interval", "start", "labels", "records", "expect", "alert_rule_test", "external_labels", "external_url"];
const RECORD_FIELDS: &[&str] =
    &["at", "received", "labels", "metadata", "severity", "trace_id", "span_id", "line", "repeat", "every", "file"];

fn test_file(reader: &mut Reader, root: &Node) -> Option<TestFile> {
    let has_rules =
        matches!(&root.kind, NodeKind::Mapping(fields) if fields.iter().any(|(key, _)| key.name == "groups"));
    let what = if has_rules { "a rule file" } else { "a test file" };
    let fields =
        reader.fields_known(root, what, if has_rules { RULE_FILE_FIELDS } else { FILE_FIELDS }, PROMTOOL_FIELDS)?;
    if !has_rules && fields.key("rule_files").is_none() {
        reader.mistakes.push(missing("rule_files", what, &fields).help(
            "name the rule files under test, `rule_files: [rules.yaml]`, or write the tests under `tests` in the rule file",
        ));
    }
    if fields.key("tests").is_none() {
        reader.mistakes.push(missing("tests", "a file of tests", &fields));
    }
    let tests = fields.get("tests").map(|node| reader.sequence(node, "`tests`")).unwrap_or_default();
    let tests = tests.iter().enumerate().filter_map(|(at, node)| test(reader, at, node)).collect();
    Some(TestFile {
        rule_files: fields.get("rule_files").map(|node| names(reader, node, "`rule_files`")).unwrap_or_default(),
        has_rules,
        config: fields.get("config").and_then(|node| named(reader, node, "`config`")),
        evaluation_interval: reader.duration(&fields, "evaluation_interval").filter(|interval| !interval.is_zero()),
        tests,
    })
}

fn test(reader: &mut Reader, at: usize, node: &Node) -> Option<Test> {
    let fields = reader.fields_known(node, "a test", TEST_FIELDS, PROMTOOL_FIELDS)?;
    let name = fields.get("name").and_then(|node| Some(reader.string(node, "`name`")?.into()));
    let records = fields.get("records").map(|node| reader.sequence(node, "`records`")).unwrap_or_default();
    let expect = fields.get("expect").map(|node| reader.sequence(node, "`expect`")).unwrap_or_default();
    let promtool = fields.get("alert_rule_test").map(|node| reader.sequence(node, "`alert_rule_test`"));
    let mut expectations: Vec<Expectation> =
        expect.iter().filter_map(|node| expect::expectation(reader, node)).collect();
    let promtool = promtool.unwrap_or_default().iter();
    expectations.extend(promtool.filter_map(|node| expect::alert_rule_test(reader, node)));
    if fields.key("expect").is_none() && fields.key("alert_rule_test").is_none() {
        reader.mistakes.push(missing("expect", "a test", &fields));
    }
    let interval = reader.duration(&fields, "interval").unwrap_or_default();
    Some(Test {
        name: name.unwrap_or_else(|| format!("test {}", at + 1).into()),
        file: reader.file.clone(),
        span: node.span.clone(),
        start: fields.get("start").and_then(|node| absolute(reader, node)),
        labels: reader.labels(&fields, "labels"),
        external_labels: reader.labels(&fields, "external_labels"),
        external_url: fields
            .get("external_url")
            .and_then(|node| Some(reader.string(node, "`external_url`")?.to_owned())),
        records: records.iter().filter_map(|node| record(reader, node, interval)).collect(),
        expectations,
    })
}

fn record(reader: &mut Reader, node: &Node, interval: Duration) -> Option<RecordSource> {
    let fields = reader.fields(node, "a record", RECORD_FIELDS)?;
    let file = fields.get("file").and_then(|node| named(reader, node, "`file`"));
    let line = fields.get("line").and_then(|node| Some(reader.string(node, "`line`")?.to_owned()));
    match (&file, fields.key("line")) {
        (None, None) => reader.mistakes.push(missing("line", "a record", &fields)),
        (Some(_), _) => refuse_beside_file(reader, &fields),
        (None, Some(_)) => {}
    }
    Some(RecordSource {
        span: node.span.clone(),
        at: moment(reader, &fields, "at"),
        received: moment(reader, &fields, "received"),
        labels: reader.labels(&fields, "labels"),
        metadata: metadata(reader, &fields),
        line: line.unwrap_or_default(),
        repeat: repeat(reader, &fields),
        every: reader.duration(&fields, "every").unwrap_or(interval),
        file,
    })
}

/// The records of a file say themselves what they are.
fn refuse_beside_file(reader: &mut Reader, fields: &Fields<'_>) {
    for name in ["line", "metadata", "severity", "trace_id", "span_id", "repeat", "every", "received"] {
        if let Some(key) = fields.key(name) {
            let message = format!("`{name}` cannot stand beside `file`: its records say themselves what they are");
            reader.mistakes.push(Diagnostic::error(codes::FIELD_NOT_ALLOWED, key.span.clone(), message));
        }
    }
}

fn repeat(reader: &mut Reader, fields: &Fields<'_>) -> usize {
    let repeat = reader.count(fields, "repeat").unwrap_or(1);
    if repeat > REPEAT_MAX {
        let message = format!("`repeat` is at most {REPEAT_MAX}");
        let place = fields.get("repeat").map_or(0..0, |node| node.span.clone());
        reader.mistakes.push(Diagnostic::error(codes::VALUE, place, message));
        return 1;
    }
    repeat
}

/// `metadata:` and the fields of a record that are written beside it.
fn metadata(reader: &mut Reader, fields: &Fields<'_>) -> Vec<(String, String)> {
    let mut metadata = reader.labels(fields, "metadata");
    for name in ["trace_id", "span_id"] {
        let Some(node) = fields.get(name) else { continue };
        metadata.extend(reader.string(node, &format!("`{name}`")).map(|text| (name.to_owned(), text.to_owned())));
    }
    let Some(node) = fields.get("severity") else { return metadata };
    let Some(text) = reader.string(node, "`severity`") else { return metadata };
    match severity_number(text) {
        Some(number) => {
            metadata.push(("severity_number".to_owned(), number.to_string()));
            if text.parse::<u8>().is_err() {
                metadata.push(("severity_text".to_owned(), text.to_owned()));
            }
        }
        None => {
            let message = format!("`{text}` is no severity");
            let names = SEVERITIES.iter().map(|(name, _)| *name);
            let mistake = Diagnostic::error(codes::VALUE, node.span.clone(), message).suggest(text, names);
            let help = "severities are trace, debug, info, warn, error, fatal, or numbers from 1 to 24";
            reader.mistakes.push(if mistake.help.is_some() { mistake } else { mistake.help(help) });
        }
    }
    metadata
}

/// OTLP's number of a severity's name.
fn severity_number(text: &str) -> Option<u8> {
    let by_name = SEVERITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    by_name.or_else(|| text.parse().ok().filter(|number| (1..=24).contains(number)))
}

const SEVERITIES: &[(&str, u8)] =
    &[("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("warning", 13), ("error", 17), ("fatal", 21)];

/// A time as `10s`, from the test's start on, or as RFC 3339.
pub(super) fn moment(reader: &mut Reader, fields: &Fields<'_>, field: &str) -> Option<Moment> {
    let node = fields.get(field)?;
    let text = reader.string(node, &format!("`{field}`"))?;
    match (parse_duration(text), text.contains('-').then(|| parameters::time(text))) {
        (Ok(duration), _) => Some(Moment::After(duration)),
        (Err(_), Some(Ok(time))) => Some(Moment::At(time)),
        (Err(error), _) => {
            let mistake = Diagnostic::error(codes::DURATION, node.span.clone(), error.to_string());
            let help =
                format!("`{field}` counts from the test's start: `90s`; or it is a time: `2026-11-24T18:00:00Z`");
            reader.mistakes.push(mistake.help(help));
            None
        }
    }
}

pub(super) fn required_moment(reader: &mut Reader, fields: &Fields<'_>, field: &str, what: &str) -> Moment {
    if fields.get(field).is_none() {
        reader.mistakes.push(missing(field, what, fields));
    }
    moment(reader, fields, field).unwrap_or(Moment::After(Duration::ZERO))
}

fn absolute(reader: &mut Reader, node: &Node) -> Option<Timestamp> {
    let text = reader.string(node, "`start`")?;
    match parameters::time(text) {
        Ok(time) => Some(time),
        Err(error) => {
            reader.mistakes.push(Diagnostic::error(codes::VALUE, node.span.clone(), error.message));
            None
        }
    }
}

fn names(reader: &mut Reader, node: &Node, what: &str) -> Vec<(String, Range<usize>)> {
    let items = reader.sequence(node, what);
    items.iter().filter_map(|item| named(reader, item, what)).collect()
}

fn named(reader: &mut Reader, node: &Node, what: &str) -> Option<(String, Range<usize>)> {
    Some((reader.string(node, what)?.to_owned(), node.span.clone()))
}

/// What promtool has and a test over log records has not, and what to write instead; an empty help lets the field pass.
pub(super) const PROMTOOL_FIELDS: &[(&str, &str)] = &[
    ("input_series", "series of metrics are no input of log rules: write the log records under `records`"),
    ("promql_expr_test", "write `expect: [{at: 1m, expr: 'sum(count_over_time({...} [1m]))', value: 3}]`"),
    ("start_timestamp", "write `start: 2026-11-24T18:00:00Z`"),
];

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::sample::select;

    use super::*;
    use crate::diagnostic::render_all;
    use crate::rule_test::{Outside, Rendered, Setting, run};
    use crate::{datadriven, rule_file};

    proptest::proptest! {
        /// Whatever stands in a file, it is read and run, or refused with every mistake inside of it.
        #[test]
        fn any_file_is_run_or_refused(edits in vec((0..FILE.len(), 0..40_usize, select(FRAGMENTS)), 1..6)) {
            let text = datadriven::edited(FILE, &edits);
            match parse("rules.yaml", &text) {
                Ok(file) => run_all(&file, &text),
                Err(mistakes) => {
                    let is_inside = |mistake: &Diagnostic| {
                        mistake.span.start <= mistake.span.end && mistake.span.end <= text.len()
                    };
                    assert!(!mistakes.is_empty() && mistakes.iter().all(is_inside), "{text}");
                    render_all(&mistakes, &text);
                }
            }
        }
    }

    fn run_all(file: &TestFile, text: &str) {
        let Ok(rules) = rule_file::parse("rules.yaml", text) else { return };
        let setting = Setting { rules: &[rules], engine: Default::default(), policy: Default::default() };
        let outside = Outside { read: &|_| Err("no file".into()), render: &|_| Ok(Rendered::default()) };
        for test in &file.tests {
            match run(test, &setting, &outside) {
                Ok(result) => drop(result.render(text)),
                Err(mistakes) => drop(render_all(&mistakes, text)),
            }
        }
    }

    #[test]
    fn the_file_that_is_edited_is_sound() {
        let file = parse("rules.yaml", FILE).map_err(|mistakes| render_all(&mistakes, FILE)).unwrap();
        assert_eq!(file.tests.len(), 2);
    }

    const FILE: &str = r#"groups:
  - name: g
    rules:
      - {alert: A, expr: 'sum by (app) (count_over_time({app="a"}[1m])) > 2', for: 10s}
      - {record: r, expr: 'sum(count_over_time({app="a"}[1m]))'}
tests:
  - name: é
    labels: {app: a}
    start: 2026-11-24T18:00:00Z
    records:
      - {at: 1s, line: 'x ${n}', repeat: 5, every: 1s, severity: error, metadata: {b: c}}
      - {at: 9s, received: 12s, line: y}
    expect:
      - {at: 5s, alert: A, pending: 1, firing: 0}
      - at: 20s
        alert: A
        firing: [{labels: {app: a}, annotations: {}, value: 5, samples: [x]}]
      - {at: 20s, expr: 'sum(count_over_time({app="a"}[1m]))', value: 6}
      - {at: 1m, record: r, values: [{labels: {}, value: 6}]}
      - {at: 1m, receiver: stdout, messages: [{reason: first_notification, firing: 1, at: 13s, text: [x], alerts: [{value: 6}]}]}
  - alert_rule_test:
      - {eval_time: 5s, alertname: A, exp_alerts: []}
"#;

    const FRAGMENTS: &[&str] = &[
        "",
        " ",
        "\n",
        ":",
        ": ",
        "- ",
        "|",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        "é",
        "~",
        "5x",
        "0",
        "1h",
        "999y",
        "-1",
        "NaN",
        "*",
        "labels: {",
        "1e9",
        "\u{0}",
    ];
}
