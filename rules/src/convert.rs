//! Makes rule files of what alerted on logs before: Grafana's alert rules over Loki, ElastAlert 2 rules, Sigma rules.
//!
//! What cannot be carried over is told rule by rule, at its place in the source and as a comment in the result. Every rule that comes
//! out has been read back by [`rule_file`](crate::rule_file). docs/convert.md has what becomes of each field.
//!
//! ```
//! use watchbell_rules::convert::{self, Options};
//! let sigma = "
//! title: Root logins
//! logsource: {product: linux, service: auth}
//! detection:
//!   login: {user: root}
//!   condition: login
//! level: high
//! ";
//! let converted = convert::convert("root.yml", sigma, None, &Options::default()).unwrap();
//! assert_eq!(converted.groups[0].rules[0].name, "Root logins");
//! assert!(converted.rule_file().contains(r#"user=~"(?is)root""#));
//! ```

mod elastalert;
mod grafana;
mod lucene;
mod math;
mod output;
mod predicate;
mod query_dsl;
mod reader;
mod sigma;

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Severity};
use crate::yaml::{self, Node};

/// What is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Alert rules that Grafana manages: a provisioning file, or what its API answers, in YAML or JSON.
    Grafana,
    /// A rule of ElastAlert 2.
    Elastalert,
    /// Sigma rules and correlations.
    Sigma,
}

/// What a source does not say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which records the rules of ElastAlert and Sigma are about.
    pub selector: String,
    /// A stage that makes labels of a line, `json` or `logfmt`, where fields are not OTLP attributes.
    pub parser: Option<String>,
    /// What alerts are grouped by where the source does not say.
    pub by: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { selector: r#"{service_name=~".+"}"#.to_owned(), parser: None, by: vec!["service_name".to_owned()] }
    }
}

/// What came of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    /// The rules.
    pub groups: Vec<Group>,
    /// Rules that could not be carried over (errors) and what was lost of others (warnings), in the order of the file.
    pub notes: Vec<Diagnostic>,
}

/// A group of rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How often the source looked.
    pub interval: Option<Duration>,
    /// In the order of the source.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The alert's or the series' name.
    pub name: String,
    /// Whether it records a series.
    pub is_record: bool,
    /// In LogQL; empty where there is a sequence.
    pub expr: String,
    /// `detect: {sequence: ...}`, in place of the expression.
    pub sequence: Option<Sequence>,
    /// `for`.
    pub hold: Duration,
    /// `keep_firing_for`.
    pub keep_firing_for: Duration,
    /// In the order of the source.
    pub labels: Vec<(String, String)>,
    /// In the order of the source.
    pub annotations: Vec<(String, String)>,
    /// What was lost of it.
    pub lost: Vec<String>,
}

/// Records of one kind, and then of another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// A selector with its stages.
    pub first: String,
    /// The same of what follows.
    pub then: String,
    /// Labels that both have alike.
    pub by: Vec<String>,
    /// How long after the first.
    pub within: Duration,
}

impl Conversion {
    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.groups.iter().map(|group| group.rules.len()).sum()
    }

    /// Takes in what came of another file; groups of one name become one.
    pub fn append(&mut self, other: Self) {
        for group in other.groups {
            match self.groups.iter_mut().find(|known| known.name == group.name) {
                Some(known) => known.rules.extend(group.rules),
                None => self.groups.push(group),
            }
        }
        self.notes.extend(other.notes);
    }

    /// How many rules could not be carried over.
    pub fn refused(&self) -> usize {
        self.notes.iter().filter(|note| note.severity == Severity::Error).count()
    }
}

/// Makes rules of a file; its format is told by its content where none is given.
///
/// # Errors
/// It is no YAML or JSON, or of no format that is known.
pub fn convert(
    file: &str,
    text: &str,
    format: Option<Format>,
    options: &Options,
) -> Result<Conversion, Vec<Diagnostic>> {
    let documents = documents(file, text)?;
    let known = || documents.iter().find_map(detect);
    let Some(format) = format.or_else(known) else { return Err(vec![reader::unknown_format(file)]) };
    let mut conversion = match format {
        Format::Grafana => grafana::convert(&documents),
        Format::Elastalert => elastalert::convert(file, &documents, options),
        Format::Sigma => sigma::convert(file, &documents, options),
    };
    conversion.notes.iter_mut().for_each(|note| note.file = file.into());
    conversion.notes.sort_by_key(|note| note.span.start);
    Ok(conversion)
}

/// The file's documents; Sigma's correlations stand behind one another, `---` between them.
fn documents(file: &str, text: &str) -> Result<Vec<Node>, Vec<Diagnostic>> {
    let mut documents = Vec::new();
    let mut start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    for end in text.match_indices("\n---").map(|(at, _)| at + 1).chain([text.len()]) {
        let mut document = yaml::parse(&text[start.min(end)..end]).map_err(|mistake| {
            let span = mistake.span.start + start..mistake.span.end + start;
            vec![Diagnostic { file: file.into(), span, ..mistake }]
        })?;
        document.shift(start);
        documents.extend(Some(document).filter(|document| document.kind != yaml::NodeKind::Null));
        start = text[end..].find('\n').map_or(text.len(), |at| end + at);
    }
    Ok(documents)
}

/// The format that a document is in.
fn detect(document: &Node) -> Option<Format> {
    let has = |name: &str| reader::field(document, name).is_some();
    if has("detection") || has("correlation") {
        return Some(Format::Sigma);
    }
    if has("type") && (has("index") || has("filter") || has("alert") || has("timeframe")) {
        return Some(Format::Elastalert);
    }
    grafana::is_grafana(document).then_some(Format::Grafana)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::sample::select;

    use super::*;
    use crate::datadriven;
    use crate::diagnostic::render_all;

    fn told(text: &str) -> String {
        match convert("source.yaml", text, None, &Options::default()) {
            Ok(conversion) => {
                let notes = render_all(&conversion.notes, text);
                [conversion.rule_file(), notes].join("\n")
            }
            Err(mistakes) => render_all(&mistakes, text),
        }
    }

    #[test]
    fn rules_of_others() {
        datadriven::run("convert", told);
    }

    proptest::proptest! {
        /// Whatever stands in a file, it is converted or refused, and what comes out is a rule file.
        #[test]
        fn any_file_is_converted_or_refused(
            source in select(SOURCES),
            edits in vec((0..600_usize, 0..30_usize, select(FRAGMENTS)), 0..5),
        ) {
            let text = datadriven::edited(source, &edits);
            if let Ok(conversion) = convert("source.yaml", &text, None, &Options::default()) {
                let file = conversion.rule_file();
                let read = crate::rule_file::parse("rules.yaml", &file);
                assert!(read.is_ok(), "{text}\n{file}\n{}", render_all(&read.unwrap_err(), &file));
                render_all(&conversion.notes, &text);
            }
        }
    }

    const FRAGMENTS: &[&str] =
        &["", "\n", ": ", "- ", "'", "\"", "{", "[", "*", "(", ")", " or ", "not ", "|", "5x", "é", "-1", "\\", "`"];

    const SOURCES: &[&str] = &[
        "title: t\nlogsource: {product: linux}\ndetection:\n  a: {user|contains: [x, y]}\n  b: [one, 'two*']\n  \
         condition: (a or b) and not 1 of c*\n  c1: {n|gt: 5}\nlevel: high\ntags: [attack.t1]\n---\ntitle: c\n\
         correlation: {type: event_count, rules: [t], group-by: [user], timespan: 5m, condition: {gte: 3}}\n",
        "name: n\ntype: frequency\nindex: i\nnum_events: 5\ntimeframe: {minutes: 5}\nquery_key: [a, b]\nfilter:\n- query:\n    \
         query_string: {query: 'level:error AND NOT (a:\"x y\" OR b:[1 TO 5])'}\n- term: {c: d}\nalert: [email]\n",
        "groups:\n- name: g\n  folder: f\n  interval: 1m\n  rules:\n  - title: T\n    condition: C\n    for: 5m\n    data:\n    \
         - {refId: A, datasourceUid: x, model: {expr: 'sum(rate({a=\"b\"}[5m]))', queryType: instant}}\n    \
         - {refId: C, datasourceUid: __expr__, model: {type: math, expression: '$A * 2 > 5 && $A < 9'}}\n",
    ];
}
