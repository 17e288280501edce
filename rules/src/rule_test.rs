//! Tests of rules: records go in, and what the rules make of them is compared with what the author expects.
//!
//! Tests stand under `tests:` in the rule file, or in a file of their own that names rule files, which may also be written as promtool's
//! test files are. docs/testing.md has every key.
//!
//! ```
//! let text = r#"
//! groups:
//!   - name: checkout
//!     rules:
//!       - alert: Refused
//!         expr: sum by (service_name) (count_over_time({service_name="checkout"} |= "refused" [1m])) > 2
//! tests:
//!   - name: three refusals in a minute page
//!     records:
//!       - {at: 0s, labels: {service_name: checkout}, line: payment refused, repeat: 3, every: 10s}
//!     expect:
//!       - {at: 10s, alert: Refused, firing: 0}
//!       - {at: 20s, alert: Refused, firing: [{labels: {service_name: checkout}, value: 3}]}
//! "#;
//! use watchbell_rules::{rule_file, rule_test};
//! let rules = [rule_file::parse("rules.yaml", text).unwrap()];
//! let file = rule_test::parse("rules.yaml", text).unwrap();
//! let setting = rule_test::Setting { rules: &rules, engine: Default::default(), policy: Default::default() };
//! let outside = rule_test::Outside {
//!     read: &|_| Err("there are no files here".into()),
//!     render: &|_| Err("there are no integrations here".into()),
//! };
//! let results = rule_test::run(&file.tests[0], &setting, &outside).unwrap();
//! assert!(results.failures.is_empty(), "{}", results.render(text));
//! ```

mod compare;
mod expect;
mod file;
mod records;
mod report;
mod run;
mod timeline;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::alerting::config::PolicyConfig;
use crate::alerting::notification::Notification;
use crate::backtest::failing::FailingStage;
use crate::diagnostic::Diagnostic;
use crate::plan::EngineConfig;
use crate::rule_file::RuleFile;
use crate::time::Timestamp;

pub(crate) use file::is_test_file;
pub use file::{has_tests, parse};
pub use run::{run, unknown_names};

/// A file with tests.
#[derive(Clone, Debug, PartialEq)]
pub struct TestFile {
    /// Rule files under test, as the file names them, and where it does. None where the rules stand in the file itself.
    pub rule_files: Vec<(String, Range<usize>)>,
    /// Whether the rules stand in the file itself.
    pub has_rules: bool,
    /// The config whose `alerting:`, `engine:` and external labels hold, and where the file names it.
    pub config: Option<(String, Range<usize>)>,
    /// The groups' `interval` where they do not say.
    pub evaluation_interval: Option<Duration>,
    /// In the order of the file.
    pub tests: Vec<Test>,
}

/// What happens, and what is expected to come of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// For the report; `test 1` and so on where the file gives none.
    pub name: Arc<str>,
    /// Name of the file it stands in.
    pub file: Arc<str>,
    /// Bytes of the test in the file.
    pub span: Range<usize>,
    /// When it begins; where nothing says, at [`START`], or with the records of its files.
    pub start: Option<Timestamp>,
    /// Labels of the records that do not say otherwise.
    labels: Vec<(String, String)>,
    external_labels: Vec<(String, String)>,
    /// The collector's address, in place of the config's.
    pub external_url: Option<String>,
    records: Vec<RecordSource>,
    expectations: Vec<Expectation>,
}

/// One entry under `records`.
#[derive(Clone, Debug, PartialEq)]
struct RecordSource {
    span: Range<usize>,
    at: Option<Moment>,
    received: Option<Moment>,
    labels: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
    line: String,
    repeat: usize,
    every: Duration,
    /// The file that the records are in, and where it is named.
    file: Option<(String, Range<usize>)>,
}

/// A time, as a test tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// So long after the test's start.
    After(Duration),
    At(Timestamp),
}

impl Moment {
    fn time(self, start: Timestamp) -> Timestamp {
        match self {
            Self::After(duration) => start + duration,
            Self::At(time) => time,
        }
    }
}

/// One entry under `expect`, or under promtool's `alert_rule_test`.
#[derive(Clone, Debug, PartialEq)]
struct Expectation {
    at: Moment,
    span: Range<usize>,
    what: Expected,
}

#[derive(Clone, Debug, PartialEq)]
enum Expected {
    /// Of the alerts of that name those in each state that is named.
    Alert { name: AlertName, states: Vec<(ExpectedState, Wanted<ExpectedAlert>)> },
    /// The value of an expression over the records so far.
    Expr { expr: String, expr_span: Range<usize>, values: Wanted<ExpectedValue> },
    /// The last values of a recording rule.
    Record { name: String, values: Wanted<ExpectedValue> },
    /// The messages to a receiver from the start on.
    Receiver { name: String, messages: Wanted<ExpectedMessage> },
}

/// Names alerts by their rule, in a group or in any.
#[derive(Clone, Debug, PartialEq)]
struct AlertName {
    group: Option<String>,
    name: String,
}

impl AlertName {
    fn is_of(&self, group: &str, name: &str) -> bool {
        self.name == name && self.group.as_ref().is_none_or(|own| own == group)
    }
}

impl fmt::Display for AlertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.iter().try_for_each(|group| write!(f, "{group}/"))?;
        f.write_str(&self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedState {
    Pending,
    Firing,
    Resolved,
}

impl ExpectedState {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// How many there are to be, or each of them; and where the file says so.
#[derive(Clone, Debug, PartialEq)]
struct Wanted<T> {
    span: Range<usize>,
    kind: WantedKind<T>,
}

#[derive(Clone, Debug, PartialEq)]
enum WantedKind<T> {
    Count(usize),
    Each(Vec<T>),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ExpectedAlert {
    span: Range<usize>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    value: Option<f64>,
    /// Texts that the lines of its samples hold, one each.
    samples: Vec<String>,
    /// Whether it has no other labels and annotations, as in promtool.
    is_exact: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct ExpectedValue {
    span: Range<usize>,
    labels: Vec<(String, String)>,
    value: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ExpectedMessage {
    span: Range<usize>,
    /// Where the integration is named, and its name.
    integration: Option<(Range<usize>, String)>,
    at: Option<Moment>,
    reason: Option<String>,
    firing: Option<usize>,
    resolved: Option<usize>,
    /// Of the labels that all its alerts share.
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    /// All labels that its alerts are grouped by.
    group_labels: Option<Vec<(String, String)>>,
    alerts: Option<Vec<ExpectedAlert>>,
    texts: Vec<(TextPart, ExpectedText)>,
}

/// A part of what an integration sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextPart {
    Subject,
    Text,
    Body,
}

impl TextPart {
    const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Body];

    fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Body => "body",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum ExpectedText {
    /// The whole of it, but for blanks around it.
    Whole(String),
    /// Texts that it holds.
    Holding(Vec<String>),
}

/// What an integration sends, but for secrets; what its service has no place for is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// A mail's subject, the title of a message in Slack, the summary of an incident.
    pub subject: Option<String>,
    /// What a person reads.
    pub text: Option<String>,
    /// What is sent: JSON, or a mail's HTML.
    pub body: Option<String>,
}

/// What a test asks of the world around it.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// The content of a file that the test names.
    pub read: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// What the integration that a message is for sends, or why it cannot.
    pub render: &'a dyn Fn(&Notification) -> Result<Rendered, String>,
}

/// What a test is run with.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// The rules under test.
    pub rules: &'a [RuleFile],
    /// How they are judged.
    pub engine: EngineConfig,
    /// Who is told; a [checked](PolicyConfig::check) one.
    pub policy: PolicyConfig,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// The test's name.
    pub name: Arc<str>,
    /// What was expected and did not come; empty where the test passes.
    pub failures: Vec<Failure>,
    /// Stages that failed on every record that came to them.
    pub failing_stages: Vec<FailingStage>,
    /// What happened, in order.
    timeline: Vec<timeline::Moment>,
    start: Timestamp,
}

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// When it was looked at.
    pub at: Timestamp,
    /// What is wrong, at the place of the expectation.
    pub diagnostic: Diagnostic,
    /// What was expected and what came, side by side: lines that begin with `- `, `+ ` or two spaces.
    pub diff: Vec<String>,
}

/// When a test begins that does not say, as its records do not either: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// Records that one entry may stand for; a test with more is refused.
pub const REPEAT_MAX: usize = 1_000_000;
