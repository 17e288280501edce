//! Go's `text/template`, as Prometheus's rules, Alertmanager's notifications and LogQL's `line_format` use it.
//!
//! A template is parsed once and run over data many times. A run takes no more than [`STEPS_MAX`] steps, nests no deeper than
//! [`DEPTH_MAX`] and prints no more than its `output_bytes_max`: at a limit it ends with an error that names the limit.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::labels::Labels;
use crate::logql::ast::Span;
use crate::record::EvidenceRecord;
use crate::time::Timestamp;
use funcs::Dialect;
use value::{ListKind, MapKind, Value};

mod decimal;
mod exec;
pub(crate) mod format;
mod funcs;
mod humanize;
mod lexer;
pub mod log;
mod log_funcs;
mod methods;
mod parser;
mod reads;
mod time_format;
mod time_parse;
pub mod value;

/// Steps (actions, calls, turns of a `range`) that a run may take; at it the run ends with an error.
pub const STEPS_MAX: usize = 100_000;

/// How deep blocks, templates, parentheses and values may nest; at it parsing or the run ends with an error.
pub const DEPTH_MAX: usize = 60;

/// Bytes that an annotation or label may become; at it the run ends with an error.
pub const RULE_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Bytes that a line or a label may become in `line_format` and `label_format`; at it the stage fails with `TemplateFormatErr`.
pub const LOG_OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Bytes that a part of a notification may become; at it the run ends with an error.
pub const NOTIFICATION_OUTPUT_BYTES_MAX: usize = 1 << 20;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    tree: parser::Tree,
}

impl Template {
    /// Parses an annotation's or label's template: Prometheus's functions, and the variables `$labels`, `$value`,
    /// `$externalLabels`, `$externalURL`, `$samples`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { tree: parser::parse(text, Dialect::Rule, &RULE_VARIABLES)? })
    }

    /// The same as Loki's ruler tries it before it takes a rule: with fewer variables.
    pub(crate) fn parse_in_loki(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { tree: parser::parse(text, Dialect::Rule, &LOKI_VARIABLES)? })
    }

    /// Parses a notification's template: Alertmanager's functions.
    pub fn parse_notification(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { tree: parser::parse(text, Dialect::Notification, &[])? })
    }

    /// The text, where the template is nothing but text.
    pub fn as_text(&self) -> Option<&str> {
        match self.tree.root.as_slice() {
            [] => Some(""),
            [parser::Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Makes the templates that `other` defines known to this one, which keeps its own of the same name.
    pub fn include(&mut self, other: &Self) {
        for (name, nodes) in &other.tree.defines {
            self.tree.defines.entry(name.clone()).or_insert_with(|| nodes.clone());
        }
    }

    /// Runs a notification's template over its data.
    pub fn expand(&self, data: &Value, now: Timestamp, escape: Escape) -> Result<String, TemplateError> {
        let output_bytes_max = NOTIFICATION_OUTPUT_BYTES_MAX;
        let environment = Environment { escape, ..Environment::new(now, output_bytes_max) };
        exec::run(&self.tree, data, Vec::new(), &environment)
    }
}

/// What a rule's template is run over.
#[derive(Clone, Copy, Debug)]
pub struct RuleData<'a> {
    /// `$labels`: the labels of the expression's element.
    pub labels: &'a Labels,
    /// `$value`: its value.
    pub value: f64,
    /// `$externalLabels`
    pub external_labels: &'a Labels,
    /// `$externalURL`
    pub external_url: &'a str,
    /// `$samples`: the last records behind the alert, oldest first.
    pub samples: &'a [EvidenceRecord],
    /// Links that a record gets.
    pub links: &'a Links,
    /// The log's clock.
    pub now: Timestamp,
}

/// Runs a rule's template.
pub fn expand_rule(template: &Template, data: &RuleData<'_>) -> Result<String, TemplateError> {
    if let Some(text) = template.as_text() {
        return Ok(text.into());
    }
    let labels = Value::labels(MapKind::Strings, data.labels);
    let external_labels = Value::labels(MapKind::Strings, data.external_labels);
    let external_url = Value::string(data.external_url);
    let value = Value::Float(data.value);
    let samples = samples(data.samples, data.links, data.now);
    let dot = Value::structure(
        "template.AlertData",
        vec![
            ("Labels", labels.clone()),
            ("ExternalLabels", external_labels.clone()),
            ("ExternalURL", external_url.clone()),
            ("Value", value.clone()),
            ("Samples", samples.clone()),
        ],
    );
    let variables = RULE_VARIABLES.into_iter().zip([labels, external_labels, external_url, value, samples]).collect();
    let environment =
        Environment { external_url: data.external_url, ..Environment::new(data.now, RULE_OUTPUT_BYTES_MAX) };
    exec::run(&template.tree, &dot, variables, &environment)
}

/// Runs an annotation's template; what goes wrong becomes the text, as Prometheus does it.
pub fn expand_annotation(template: &Template, data: &RuleData<'_>) -> String {
    expand_rule(template, data).unwrap_or_else(|error| format!("<error expanding template: {error}>"))
}

/// Records as templates see them: `.Time .Severity .SeverityNumber .Body .Attributes .TraceID .SpanID .Link .Links`.
pub fn samples(records: &[EvidenceRecord], links: &Links, now: Timestamp) -> Value {
    Value::flat_list(ListKind::Any, records.iter().map(|record| sample(record, links, now)).collect())
}

fn sample(record: &EvidenceRecord, links: &Links, now: Timestamp) -> Value {
    let expanded = links.expand(record, now);
    let first = expanded.get("trace").or_else(|| expanded.values().next()).cloned().unwrap_or_default();
    let mut fields = record_fields(record);
    fields.push(("Link", Value::string(first)));
    fields.push(("Links", Value::string_map(MapKind::Strings, expanded)));
    Value::structure("template.Sample", fields)
}

fn record_fields(record: &EvidenceRecord) -> Vec<(&'static str, Value)> {
    let attributes = record.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    vec![
        ("Time", Value::time(Some(record.time))),
        ("Severity", Value::string(record.severity.as_str())),
        ("SeverityNumber", Value::Int(record.severity_number.into())),
        ("Body", Value::string(record.body.as_str())),
        ("Attributes", Value::string_map(MapKind::Kv, attributes)),
        ("TraceID", Value::string(record.trace_id.as_str())),
        ("SpanID", Value::string(record.span_id.as_str())),
    ]
}

/// Links that a record gets, by name: `{trace: 'https://tempo.example/trace/{{ .TraceID }}'}`.
#[derive(Clone, Debug, Default)]
pub struct Links(BTreeMap<String, Link>);

/// A template, and its text.
#[derive(Clone, Debug)]
struct Link {
    text: String,
    template: Template,
}

impl Links {
    /// The links of these names and templates.
    pub fn new<'a>(links: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, TemplateError> {
        let link = |text: &str| Ok(Link { text: text.to_owned(), template: Template::parse_notification(text)? });
        links.into_iter().map(|(name, text)| Ok((name.to_owned(), link(text)?))).collect::<Result<_, _>>().map(Self)
    }

    /// The record's links; a record without a trace has none. One whose template fails says so.
    pub fn expand(&self, record: &EvidenceRecord, now: Timestamp) -> BTreeMap<String, String> {
        if self.0.is_empty() || record.trace_id.is_empty() {
            return BTreeMap::new();
        }
        let data = Value::structure("template.Record", record_fields(record));
        let expand = |template: &Template| {
            let text = template.expand(&data, now, Escape::None);
            text.unwrap_or_else(|error| format!("<error expanding template: {error}>"))
        };
        self.0.iter().map(|(name, link)| (name.clone(), expand(&link.template))).collect()
    }

    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, link)| (name.as_str(), link.text.as_str()))
    }
}

impl PartialEq for Links {
    fn eq(&self, other: &Self) -> bool {
        self.texts().eq(other.texts())
    }
}

impl Serialize for Links {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.texts())
    }
}

impl<'de> Deserialize<'de> for Links {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let links = Self::new(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        links.map_err(serde::de::Error::custom)
    }
}

/// Whether what actions print is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// It is not.
    None,
    /// `&`, `<`, `>` and quotes are, except in what `safeHtml` made.
    Html,
}

/// Why a template cannot be parsed or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Where in the template's text.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// What a run knows beside its data.
struct Environment<'e> {
    now: Timestamp,
    external_url: &'e str,
    escape: Escape,
    output_bytes_max: usize,
    /// `__line__`
    line: &'e str,
    /// `__timestamp__`
    at: Timestamp,
}

impl Environment<'_> {
    fn new(now: Timestamp, output_bytes_max: usize) -> Self {
        Self { now, external_url: "", escape: Escape::None, output_bytes_max, line: "", at: now }
    }
}

const LOKI_VARIABLES: [&str; 3] = ["$labels", "$externalLabels", "$value"];

const RULE_VARIABLES: [&str; 5] = ["$labels", "$externalLabels", "$externalURL", "$value", "$samples"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases as text: `name`, `---`, template, `---`, output or `error: ...` (with the marked place), `===`.
    #[test]
    #[allow(clippy::disallowed_methods)] // the cases are files
    fn expands_as_the_cases_say() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/template");
        for file in ["rule.test", "notification.test"] {
            let path = format!("{folder}/{file}");
            let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
            let rewritten: Vec<String> = text.split("===\n").map(|case| rewritten(case, file == "rule.test")).collect();
            let rewritten = rewritten.join("===\n");
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &rewritten).unwrap();
                continue;
            }
            let (was, is) = text.lines().zip(rewritten.lines()).find(|(was, is)| was != is).unwrap_or(("", ""));
            assert_eq!(is, was, "{file}: run with UPDATE=1 to take the new output");
            assert_eq!(rewritten.len(), text.len(), "{file}: run with UPDATE=1 to take the new output");
        }
    }

    /// What Go's own `text/template` says: `go.test` is filled in by `testdata/template/oracle`. Of errors only that there is one.
    #[test]
    #[allow(clippy::disallowed_methods)] // the cases are a file
    fn expands_as_go_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/template/go.test");
        let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        let mut differ = Vec::new();
        for case in text.split("===\n") {
            let (template, expected) = case.split_once("---\n").unwrap();
            let (template, expected) = (template.strip_suffix('\n').unwrap(), expected.strip_suffix('\n').unwrap());
            let ours = expanded_as_go(template).unwrap_or_else(|_| "error".into());
            if ours != expected {
                differ.push(format!("{template}\n  go   {expected}\n  ours {ours}"));
            }
        }
        assert!(differ.is_empty(), "{}", differ.join("\n"));
    }

    fn expanded_as_go(text: &str) -> Result<String, TemplateError> {
        let sample =
            |body, n| Value::structure("main.sample", vec![("Body", Value::string(body)), ("N", Value::Int(n))]);
        let labels = Value::string_map(MapKind::Strings, [("a", "x"), ("b", "<y> & 'z'")]);
        let fields = vec![
            ("Labels", labels.clone()),
            ("Value", Value::Float(20.5)),
            ("Samples", Value::flat_list(ListKind::Any, vec![sample("first", 1), sample("second", 2)])),
            ("Names", Value::strings(["n1", "n 2"])),
            ("Start", Value::time(Some(Timestamp(1_700_000_000_120_000_000)))),
            ("Took", Value::Duration(90_500_000_000)),
        ];
        let tree = parser::parse(text, Dialect::Rule, &["$labels", "$value"])?;
        let environment = Environment::new(Timestamp(0), RULE_OUTPUT_BYTES_MAX);
        let variables = vec![("$labels", labels), ("$value", Value::Float(20.5))];
        exec::run(&tree, &Value::structure("main.data", fields), variables, &environment)
    }

    fn rewritten(case: &str, rule: bool) -> String {
        let (template, _) = case.split_once("---\n").unwrap_or((case, ""));
        let text = template.strip_suffix('\n').unwrap_or(template);
        let output = match if rule { expanded_rule(text) } else { expanded_notification(text) } {
            Ok(output) => output,
            Err(error) => {
                let (start, end) = (error.span.start as usize, error.span.end as usize);
                format!("error at `{}`: {}", &text[start..end], error.message)
            }
        };
        format!("{template}---\n{output}\n")
    }

    fn expanded_rule(text: &str) -> Result<String, TemplateError> {
        let labels =
            Labels::new([("alertname", "Burst"), ("instance", "10.0.0.1:9100"), ("service_name", "check<out>")]);
        let external_labels = Labels::new([("cluster", "eu-1")]);
        let links = Links::new([("trace", "https://tempo.example/t/{{ .TraceID }}")]).unwrap();
        let samples = [record("payment failed", "a1b2"), record("timeout", "")];
        let data = RuleData {
            labels: &labels,
            value: 20.5,
            external_labels: &external_labels,
            external_url: "https://watchbell.example/ops/",
            samples: &samples,
            links: &links,
            now: Timestamp(1_700_000_000_123_000_000),
        };
        expand_rule(&Template::parse(text)?, &data)
    }

    fn expanded_notification(text: &str) -> Result<String, TemplateError> {
        let labels = Value::string_map(MapKind::Kv, [("severity", "page"), ("alertname", "Burst"), ("b", "2")]);
        let alert = |status: &str, name: &str| {
            let fields = vec![
                ("Status", Value::string(status)),
                ("Labels", Value::string_map(MapKind::Kv, [("alertname", name)])),
                ("StartsAt", Value::time(Some(Timestamp(1_700_000_000_123_000_000)))),
                ("EndsAt", Value::time(None)),
            ];
            Value::structure("template.Alert", fields)
        };
        let alerts = vec![alert("firing", "A"), alert("resolved", "B"), alert("firing", "C")];
        let data = Value::structure(
            "template.Data",
            vec![("CommonLabels", labels), ("Alerts", Value::flat_list(ListKind::Alerts, alerts))],
        );
        let escape = if text.starts_with("<html>") { Escape::Html } else { Escape::None };
        Template::parse_notification(text)?.expand(&data, Timestamp(1_700_000_090_123_000_000), escape)
    }

    fn record(body: &str, trace_id: &str) -> EvidenceRecord {
        EvidenceRecord {
            time: Timestamp(1_700_000_000_000_000_000),
            severity_number: 17,
            severity: "ERROR".into(),
            body: body.into(),
            attributes: vec![("order".into(), "17".into())],
            trace_id: trace_id.into(),
            span_id: String::new(),
        }
    }

    #[test]
    fn ends_at_each_limit_and_names_it() {
        for (text, limit) in [
            (r#"{{ range 1000000000 }}{{ end }}"#, "steps_max"),
            (r#"{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}"#, "depth_max"),
            (r#"{{ $x := "0123456789" }}{{ range 30 }}{{ $x = print $x $x }}{{ end }}"#, "output_bytes_max"),
            (r#"{{ printf "%999999d" 1 }}"#, "output_bytes_max"),
            (r#"{{ $x := args 1 }}{{ range 1000 }}{{ $x = args $x $x }}{{ end }}"#, "depth_max"),
            (r#"{{ $x := args 1 }}{{ range 50 }}{{ $x = args $x $x }}{{ end }}{{ $x }}"#, "output_bytes_max"),
            (r#"{{ range 200 }}{{ match (print . "a{1,9}") "b" }}{{ end }}"#, "steps_max"),
            (r#"{{ reReplaceAll "" "0123456789" (printf "%60000d" 1) }}"#, "output_bytes_max"),
        ] {
            let error = expanded_rule(text).unwrap_err();
            assert!(error.message.contains(limit), "{text}: {error}");
        }
        let nested = format!("{}1{}", "{{ if 1 }}".repeat(2000), "{{ end }}".repeat(2000));
        assert!(Template::parse(&nested).unwrap_err().message.contains("depth_max"));
        let nested = format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000));
        assert!(Template::parse(&nested).unwrap_err().message.contains("depth_max"));
    }

    /// Pieces of templates, right and wrong ones, to be put together at random.
    const PIECES: &[&str] = &[
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "{{/* ",
        "*/}}",
        " ",
        "é",
        "\n",
        ".",
        ".Value",
        ".Labels.a",
        "$",
        "$x",
        "$value",
        "$samples",
        ":=",
        "=",
        "|",
        ",",
        "(",
        ")",
        "if ",
        "else ",
        "end",
        "range ",
        "with ",
        "break",
        "continue",
        "define ",
        "template ",
        "block ",
        "\"t\"",
        "\"\\x4\"",
        "'é'",
        "`r`",
        "1",
        "-1",
        "9223372036854775807",
        "1e308",
        "0x",
        "0.5",
        "nil",
        "true",
        "printf ",
        "\"%v %[2]*.[1]*d %q\"",
        "print ",
        "len ",
        "index ",
        "slice ",
        "eq ",
        "lt ",
        "and ",
        "or ",
        "not ",
        "html ",
        "match ",
        "reReplaceAll ",
        "humanize ",
        "humanizeDuration ",
        "humanizeTimestamp ",
        "toTime ",
        "toDuration ",
        "args ",
        "first ",
        "title ",
        "stripDomain ",
        ".Round ",
        ".Add ",
        ".Format ",
        ".SortedPairs",
        "{{ end }}",
        "{{ else }}",
        "{{ range 3 }}",
        "{{ if 1 }}",
    ];

    proptest::proptest! {
        #[test]
        fn any_text_is_expanded_or_refused_inside_of_it(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
            let text: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
            let wrapped = format!("{{{{ {text} }}}}");
            for text in [&text, &wrapped] {
                if let Err(error) = expanded_rule(text) {
                    let place = text.get(error.span.start as usize..error.span.end as usize);
                    proptest::prop_assert!(place.is_some(), "{:?} in {}", error, text);
                }
            }
        }
    }

    #[test]
    fn an_annotation_says_what_went_wrong() {
        let template = Template::parse("{{ .Nope }}").unwrap();
        let links = Links::default();
        let labels = Labels::default();
        let data = RuleData {
            labels: &labels,
            value: 0.0,
            external_labels: &labels,
            external_url: "",
            samples: &[],
            links: &links,
            now: Timestamp(0),
        };
        let text = expand_annotation(&template, &data);
        assert_eq!(text, "<error expanding template: can't evaluate field Nope in type template.AlertData>");
    }
}
