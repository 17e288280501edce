//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use watchbell_rules::convert::Options;
use watchbell_rules::logql;

/// Watches log streams and rings when they go wrong.
///
/// `watchbell run` takes OpenTelemetry logs, traces and metrics by OTLP on 127.0.0.1:4317 (gRPC) and 127.0.0.1:4318 (HTTP), makes each
/// batch durable, judges every log record against the rules in ./rules/*.yaml the moment it arrives, and prints pages. Everything has a
/// default; a config file says where to forward, whom to page, and how.
#[derive(Debug, Parser)]
#[command(name = "watchbell", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the collector: receive, make durable, judge, page, forward
    ///
    /// SIGTERM and Ctrl-C drain: no new requests are taken, what is in hand is finished. SIGHUP and `POST /-/reload` load the config's rule
    /// files and alerting again; a file with a mistake never replaces a good running one. The exit status is 0 after a drain, 1 when it
    /// could not start, 2 when the command line or the config is wrong.
    Run(RunArguments),

    /// Check rule files and config files, and say what is wrong where
    ///
    /// Prints every mistake with its line, column and what was probably meant, and warns of what is legal but will surprise:
    /// docs/checks.md shows each with what to write instead. The exit status is 0 when all files are right (warnings allowed), 1 when one has
    /// a mistake, 2 when one cannot be read.
    Check(CheckArguments),

    /// Run the tests of rule files
    ///
    /// Tests stand under `tests:` in a rule file, or in a file of their own that names rule files under `rule_files:`; that may also be
    /// promtool's test file, with log records under `records:` as its input. Of a folder, the files that have tests are taken. A failure shows
    /// what was expected, what came, and what happened when. docs/testing.md has every key.
    ///
    /// The exit status is 0 when all tests pass, 1 when one fails, 2 when a file cannot be read or has mistakes.
    Test(TestArguments),

    /// Run rules over records of the past: what would have paged, how often, and for how long
    ///
    /// The clock is the records' own, and the replay goes as fast as it can. It tells the pages by rule and by day, how long each would have
    /// lasted, and which rules are the loudest; with --against, what another version of the rules changes.
    ///
    /// The past comes from files (bodies of Loki's push API in JSON, OTLP requests in JSON, lines that bear their time; compressed by gzip or
    /// zstd, if need be), from a folder of such, from stdin, from the `data_dir` of a collector that is not running, or from a Loki (`--from http://loki:3100`, with --selector, --start and --end;
    /// a bearer token is taken from WATCHBELL_LOKI_TOKEN).
    ///
    /// The exit status is 0, 1 with --fail-on-new when there are new pages, 2 when a file has mistakes or the past cannot be read.
    Replay(ReplayArguments),

    /// Tell why an alert did or did not fire: stage by stage, record by record
    ///
    /// For each range of the alert's expression it tells how many records entered and left each stage, with the last that was dropped there;
    /// then what the window holds at --at, the value of the expression and of its parts, and the states that its alerts went through. The
    /// past comes from where `watchbell replay` takes it.
    ///
    /// The exit status is 0, or 2 when there is no such alert, a file has mistakes or the past cannot be read.
    Explain(ExplainArguments),

    /// Make rule files of Grafana's alert rules over Loki, ElastAlert 2 rules or Sigma rules
    ///
    /// Prints one rule file, and on stderr, at its place in the source, what could not be carried over; that also stands as a comment above
    /// each rule. What a file is, is told by its content. docs/convert.md has what becomes of each field.
    ///
    /// The exit status is 0 when every rule was carried over (losses allowed), 1 when one was not, 2 when a file cannot be read.
    Convert(ConvertArguments),

    /// Evaluate a LogQL expression over files of records, as Loki's query API would
    ///
    /// With --at (or no time at all, which is now) it is an instant query, with --start, --end or --step a range query; its steps begin
    /// exactly at --start. Times are RFC 3339, seconds since 1970, with a fraction or without, or nanoseconds since 1970. Log queries
    /// (`{app="shop"} |= "refused"`) need a range of time.
    ///
    /// RECORDS are told by their content: bodies of Loki's push API (`{"streams": ...}`), OTLP requests in JSON (`{"resourceLogs": ...}`),
    /// several behind one another if need be, or plain lines. A plain line has the label `filename` and those of --label; its time is the
    /// first that it bears near its beginning, else that of the line before, and where no line bears one all came in right before --at or
    /// --end.
    ///
    /// The answer is that of Loki's API: `{"status":"success","data":{"resultType":"vector","result":[...]}}`. A mistake is
    /// `{"status":"error","errorType":"bad_data","error":"..."}`, with exit status 1; `execution` is the type of an error that the
    /// records cause. With --format table the answer is for people, and mistakes go to stderr.
    ///
    /// An example: `watchbell query --file app.log --at 2026-11-24T18:00:00Z 'sum(count_over_time({filename=~".+"} |= "refused" [5m]))'`
    Query(QueryArguments),
}

/// Arguments of `watchbell run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The config file; without one everything has its default
    #[arg(long, short, value_name = "FILE", env = "WATCHBELL_CONFIG")]
    pub config: Option<PathBuf>,

    /// What the collector says of itself on stderr: error, warn, info, debug, trace, or directives as in RUST_LOG
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WATCHBELL_LOG")]
    pub log_level: String,
}

/// Arguments of `watchbell check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Rule files, or folders of them (*.yaml, *.yml, also in folders below)
    #[arg(value_name = "FILE|DIR", required_unless_present = "config")]
    pub paths: Vec<PathBuf>,

    /// Check this config file, and the rule files that it names
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Warnings count as mistakes
    #[arg(long)]
    pub deny_warnings: bool,

    /// A warning that is not to be given; may be given several times. In a file, `# watchbell-ignore: CODE why` above a rule or behind a line says the same
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    pub allow: Vec<String>,

    /// A label of streams that are pushed by Loki's protocol: selectors can ask for it; may be given several times
    #[arg(long, value_name = "NAME")]
    pub index_label: Vec<String>,

    /// Tell also what Loki refuses, for files that its ruler reads too
    #[arg(long)]
    pub loki: bool,

    /// How what was found is written
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,
}

/// `--format` of `watchbell check`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// Commands of GitHub Actions, shown beside the lines of a pull request
    Github,
    /// SARIF 2.1.0, for code scanners
    Sarif,
}

/// Arguments of `watchbell test`.
#[derive(Debug, Args)]
pub struct TestArguments {
    /// Files with tests, or folders of them (*.yaml, *.yml, also in folders below)
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,

    /// Run the tests whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub run: Option<regex::Regex>,

    /// Take `alerting:`, `engine:` and external labels from this config; it goes before the one that a file names
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How the outcome is written
    #[arg(long, value_enum, default_value_t)]
    pub format: TestFormat,
}

/// `--format` of `watchbell test`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// JUnit's XML, which CI systems show
    Junit,
}

/// Arguments of `watchbell replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// Rule files, or folders of them (*.yaml, *.yml, also in folders below)
    #[arg(long, short, value_name = "FILE|DIR", required = true, num_args = 1..)]
    pub rules: Vec<PathBuf>,

    /// Another version of the rules, to be compared with the first
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    pub against: Vec<PathBuf>,

    /// End with exit status 1 when the other version has pages that the first does not have
    #[arg(long, requires = "against")]
    pub fail_on_new: bool,

    /// Where the records come from
    #[command(flatten)]
    pub history: HistoryArguments,

    /// How the outcome is written
    #[arg(long, value_enum, default_value_t)]
    pub format: ReplayFormat,
}

/// `--format` of `watchbell replay`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReplayFormat {
    /// For people
    #[default]
    Text,
    /// For programs, with every page
    Json,
}

/// Arguments of `watchbell explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The alert's name, or GROUP/ALERT
    #[arg(value_name = "ALERT")]
    pub alert: String,

    /// Rule files, or folders of them (*.yaml, *.yml, also in folders below)
    #[arg(long, short, value_name = "FILE|DIR", required = true)]
    pub rules: Vec<PathBuf>,

    /// When: RFC 3339, or seconds or nanoseconds since 1970; the end of the records unless given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<String>,

    /// Where the records come from
    #[command(flatten)]
    pub history: HistoryArguments,

    /// How the explanation is written
    #[arg(long, value_enum, default_value_t)]
    pub format: ExplainFormat,
}

/// `--format` of `watchbell explain`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people
    #[default]
    Text,
    /// For programs: a list with an entry for each alert of that name, with all values, states and records of the window
    Json,
}

/// Arguments of `watchbell convert`.
#[derive(Debug, Args)]
pub struct ConvertArguments {
    /// Files with rules, or folders of them (*.yaml, *.yml, *.json)
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,

    /// What the files are; told by their content unless given
    #[arg(long, value_enum)]
    pub source: Option<ConvertSource>,

    /// Which records the rules of ElastAlert and Sigma are about
    #[arg(long, value_name = "SELECTOR", default_value_t = Options::default().selector, value_parser = parse_selector)]
    pub selector: String,

    /// What makes labels of a line, where fields are in it rather than OTLP attributes
    #[arg(long, value_enum)]
    pub parser: Option<ConvertParser>,

    /// Label by which the alerts of Sigma rules are grouped; may be given several times
    #[arg(long, value_name = "LABEL", default_values_t = Options::default().by)]
    pub by: Vec<String>,

    /// Write the rules into this file rather than to stdout
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `--source`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConvertSource {
    /// Alert rules that Grafana manages, over queries to Loki
    Grafana,
    /// Rules of ElastAlert 2
    Elastalert,
    /// Sigma rules and correlations
    Sigma,
}

/// `--parser`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConvertParser {
    /// Lines are JSON
    Json,
    /// Lines are logfmt
    Logfmt,
}

/// Where `watchbell replay` and `watchbell explain` take records from.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// A file of records, a folder of them, stdin (`-`), a collector's `data_dir`, or a Loki's address; may be given several times
    #[arg(long, value_name = "FILE|DIR|URL", required = true)]
    pub from: Vec<String>,

    /// A label of plain lines; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,

    /// Which records of a Loki; `{service_name=~".+"}` unless given
    #[arg(long, value_name = "SELECTOR", value_parser = parse_selector)]
    pub selector: Option<String>,

    /// From when on; of a Loki a day before the end unless given, else the first record
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,

    /// Until when, that moment left out; of a Loki now unless given, else the last record
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,

    /// The tenant of a Loki with several (`X-Scope-OrgID`)
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,

    /// Take `engine:`, `alerting:` and external labels from this config
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `watchbell query`.
#[derive(Debug, Args)]
pub struct QueryArguments {
    /// The expression
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub expr: String,

    /// Records to evaluate it over, compressed or not: a file, a folder of them, or stdin (`-`); may be given several times
    #[arg(long = "file", short, value_name = "RECORDS", required = true)]
    pub files: Vec<PathBuf>,

    /// Evaluate once, at this time; now if no time is given
    #[arg(long, value_name = "TIME", conflicts_with_all = ["start", "end", "step"], allow_hyphen_values = true)]
    pub at: Option<String>,

    /// First step; an hour before the end (or before now, if that is earlier) unless given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,

    /// No step is behind it; now unless given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,

    /// From step to step, in seconds or as a duration (`1m`); a 250th of the range of time unless given
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub step: Option<String>,

    /// Records that a log query yields at most
    #[arg(long, value_name = "NUMBER", default_value = "100", allow_hyphen_values = true)]
    pub limit: String,

    /// Whether a log query begins with the newest records or the oldest
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    pub direction: QueryDirection,

    /// Series that an answer has at most; a query for more fails
    #[arg(long, value_name = "NUMBER", default_value_t = 500)]
    pub series_max: usize,

    /// What the records are
    #[arg(long, value_enum, default_value_t)]
    pub records: RecordsFormat,

    /// A label of plain lines; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,

    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
}

/// `--direction`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum QueryDirection {
    /// The oldest first
    Forward,
    /// The newest first
    #[default]
    Backward,
}

/// `--records`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RecordsFormat {
    /// What the content looks like
    #[default]
    Auto,
    /// Bodies of Loki's push API, in JSON
    Loki,
    /// OTLP requests, in JSON
    Otlp,
    /// A record a line
    Lines,
}

/// `--format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// As Loki's API writes it
    #[default]
    Json,
    /// For people
    Table,
}

/// A code of the list, so that a misspelt one is told.
fn parse_code(text: &str) -> Result<String, String> {
    let code = text.to_ascii_uppercase();
    let is_known = watchbell_rules::diagnostic::codes::ALL.iter().any(|(known, _)| known.to_string() == code);
    if is_known { Ok(code) } else { Err(format!("there is no code `{text}`: docs/checks.md lists them")) }
}

/// A selector, with stages behind it or without.
fn parse_selector(text: &str) -> Result<String, String> {
    match logql::parse(text) {
        Ok(logql::ast::Expr::Log(_)) => Ok(text.to_owned()),
        Ok(logql::ast::Expr::Metric(_)) => {
            Err("this is an expression: write a selector, `{service_name=\"x\"}`".to_owned())
        }
        Err(mistakes) => Err(mistakes.first().map_or_else(String::new, |mistake| mistake.message.clone())),
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    if !is_name || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!("`{name}` is no label's name: letters, digits and `_`, no digit first"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
