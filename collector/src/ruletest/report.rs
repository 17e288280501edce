//! What came of the tests: for a person, as JSON, and as JUnit's XML, which CI systems read.

use std::fmt::Write as _;

use serde::Serialize;

use super::Ran;

/// A line a test, what failed, and how many did.
pub(super) fn text(results: &[Ran], styled: bool) -> String {
    let mut out = String::new();
    for Ran { file, text, line, result } in results {
        if result.passed() {
            let _ = writeln!(out, "PASS  {file}:{line}  {}", result.name);
            continue;
        }
        let shown = if styled { result.render_styled(text) } else { result.render(text) };
        let _ = writeln!(out, "FAIL  {file}:{line}  {}\n\n{shown}", result.name);
    }
    let failed = results.iter().filter(|result| !result.result.passed()).count();
    if !results.is_empty() {
        let _ = writeln!(out, "{} passed, {failed} failed", results.len() - failed);
    }
    out
}

#[derive(Serialize)]
struct Report<'a> {
    passed: usize,
    failed: usize,
    /// What kept tests from being run, as a person is told it.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    tests: Vec<TestReport<'a>>,
}

#[derive(Serialize)]
struct TestReport<'a> {
    name: &'a str,
    file: &'a str,
    line: usize,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<FailureReport<'a>>,
    /// What a person is shown.
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
}

#[derive(Serialize)]
struct FailureReport<'a> {
    line: usize,
    column: usize,
    message: &'a str,
    diff: &'a [String],
}

pub(super) fn json(results: &[Ran], errors: &[String]) -> String {
    let failed = results.iter().filter(|ran| !ran.result.passed()).count();
    let tests = results.iter().map(test_report).collect();
    let report = Report { passed: results.len() - failed, failed, errors, tests };
    serde_json::to_string_pretty(&report).expect("a report has string keys alone")
}

fn test_report(Ran { file, text, line, result }: &Ran) -> TestReport<'_> {
    let failures = result.failures.iter().map(|failure| {
        let (line, column) = failure.diagnostic.line_column(text);
        FailureReport { line, column, message: &failure.diagnostic.message, diff: &failure.diff }
    });
    let passed = result.passed();
    TestReport {
        name: &result.name,
        file,
        line: *line,
        status: if passed { "passed" } else { "failed" },
        failures: failures.collect(),
        output: if passed { String::new() } else { result.render(text) },
    }
}

pub(super) fn junit(results: &[Ran], errors: &[String]) -> String {
    let failed = results.iter().filter(|ran| !ran.result.passed()).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{failed}\" errors=\"{}\">\n",
        results.len() + errors.len(),
        errors.len()
    );
    for of_file in results.chunk_by(|a, b| a.file == b.file) {
        let failed = of_file.iter().filter(|ran| !ran.result.passed()).count();
        let name = escaped(&of_file[0].file);
        let _ = writeln!(out, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", of_file.len());
        of_file.iter().for_each(|ran| out.push_str(&junit_case(ran)));
        out.push_str("  </testsuite>\n");
    }
    if !errors.is_empty() {
        let count = errors.len();
        let _ = writeln!(out, "  <testsuite name=\"not run\" tests=\"{count}\" failures=\"0\" errors=\"{count}\">");
        errors.iter().for_each(|error| out.push_str(&junit_error(error)));
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// A file that could not be read, or has mistakes: CI systems show it as a test that broke.
fn junit_error(error: &str) -> String {
    let message = escaped(error.lines().next().unwrap_or_default());
    let error = escaped(error);
    format!("    <testcase name=\"{message}\">\n      <error message=\"{message}\">{error}</error>\n    </testcase>\n")
}

fn junit_case(Ran { file, text, line, result }: &Ran) -> String {
    let (name, file) = (escaped(&result.name), escaped(file));
    let head = format!("    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{line}\"");
    if result.passed() {
        return format!("{head}/>\n");
    }
    let message = result.failures.first().map_or("", |failure| &failure.diagnostic.message);
    let (message, output) = (escaped(message), escaped(&result.render(text)));
    format!("{head}>\n      <failure message=\"{message}\">{output}</failure>\n    </testcase>\n")
}

/// Text in XML; characters that XML cannot hold are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
