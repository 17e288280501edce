//! What was found: for a person, as JSON, as commands of GitHub Actions, and as SARIF 2.1.0.

use std::fmt::Write as _;
use std::path::MAIN_SEPARATOR;

use serde::Serialize;
use serde_json::{Value, json};
use watchbell_rules::diagnostic::{Diagnostic, Severity, codes};

use super::{Findings, counts};

pub(super) fn text(findings: &[Findings], styled: bool) -> String {
    let mut out = String::new();
    for Findings { file, rules, detectors, tests, diagnostics } in findings {
        for diagnostic in diagnostics {
            let text = if styled { diagnostic.render_styled(&file.text) } else { diagnostic.render(&file.text) };
            let _ = writeln!(out, "{text}\n");
        }
        if diagnostics.is_empty() {
            let detectors =
                if detectors.is_empty() { String::new() } else { format!(" (detectors: {})", detectors.join(", ")) };
            let rules = (*rules > 0 || *tests == 0).then(|| counted(*rules, "rule") + &detectors);
            let tests = (*tests > 0).then(|| counted(*tests, "test"));
            let counts: Vec<String> = rules.into_iter().chain(tests).collect();
            let _ = writeln!(out, "{}: ok, {}", file.path, counts.join(", "));
        }
    }
    let (errors, warnings) = counts(findings);
    if errors + warnings > 0 {
        let more = if errors > 0 { " (files with mistakes are not looked over for more)" } else { "" };
        let _ = writeln!(out, "{}, {}{more}", counted(errors, "mistake"), counted(warnings, "warning"));
    }
    out
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[derive(Serialize)]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Found<'a>>,
}

/// A finding with its place: lines and columns from 1, columns in characters; the end is behind the last character.
#[derive(Serialize)]
struct Found<'a> {
    code: String,
    severity: &'static str,
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn new(file: &'a str, text: &str, diagnostic: &'a Diagnostic) -> Self {
        let (line, column) = diagnostic.line_column(text);
        let (end_line, end_column) = diagnostic.end_line_column(text);
        Self {
            code: diagnostic.code.to_string(),
            severity: severity(diagnostic),
            file,
            line,
            column,
            end_line,
            end_column,
            message: &diagnostic.message,
            label: &diagnostic.label,
            help: diagnostic.help.as_deref(),
        }
    }

    /// The message with its help, for those who show one text.
    fn whole_message(&self) -> String {
        match self.help {
            Some(help) => format!("{}\nhelp: {help}", self.message),
            None => self.message.to_owned(),
        }
    }
}

fn severity(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn all(findings: &[Findings]) -> impl Iterator<Item = Found<'_>> {
    findings.iter().flat_map(|Findings { file, diagnostics, .. }| {
        diagnostics.iter().map(|diagnostic| Found::new(&file.path, &file.text, diagnostic))
    })
}

pub(super) fn json(findings: &[Findings]) -> String {
    let (errors, warnings) = counts(findings);
    let report = Report { errors, warnings, diagnostics: all(findings).collect() };
    serde_json::to_string_pretty(&report).expect("a report has string keys alone")
}

/// `::error file=...,line=...::message`, which GitHub Actions show beside the line.
pub(super) fn github(findings: &[Findings]) -> String {
    let mut out = String::new();
    for found in all(findings) {
        let Found { severity, line, column, end_line, end_column, code, .. } = &found;
        let (file, message) = (escaped(found.file, true), escaped(&found.whole_message(), false));
        let _ = write!(out, "::{severity} file={file},line={line},col={column},endLine={end_line}");
        let _ = writeln!(out, ",endColumn={end_column},title={code}::{message}");
    }
    out
}

/// Text in a command of GitHub Actions; properties end at a comma.
fn escaped(text: &str, is_property: bool) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    if is_property { text.replace(':', "%3A").replace(',', "%2C") } else { text }
}

/// The format of code scanners; <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
pub(super) fn sarif(findings: &[Findings]) -> String {
    let results: Vec<Value> = all(findings).map(|found| sarif_result(&found)).collect();
    let rules =
        codes::ALL.iter().map(|(code, says)| json!({"id": code.to_string(), "shortDescription": {"text": says}}));
    let driver = json!({
        "name": "watchbell",
        "version": env!("CARGO_PKG_VERSION"),
        "rules": rules.collect::<Vec<_>>(),
    });
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    });
    serde_json::to_string_pretty(&log).expect("a log has string keys alone")
}

/// The path as a reference of a URI; a `:` in it would end a scheme.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.replace(MAIN_SEPARATOR, "/").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

fn sarif_result(found: &Found<'_>) -> Value {
    json!({
        "ruleId": found.code,
        "level": found.severity,
        "message": {"text": found.whole_message()},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(found.file)},
            "region": {
                "startLine": found.line,
                "startColumn": found.column,
                "endLine": found.end_line,
                "endColumn": found.end_column,
            },
        }}],
    })
}
