//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Prints every mistake with its line, column and what was probably meant, and warns of what is legal but will surprise. The exit
    /// status is 0 when all files are right (warnings allowed), 1 when one has a mistake, 2 when one cannot be read.
    Check(CheckArguments),

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
    /// Rule files, or folders of them (*.yaml, *.yml)
    #[arg(value_name = "FILE|DIR", required_unless_present = "config")]
    pub paths: Vec<PathBuf>,

    /// Check this config file, and the rule files that it names
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Warnings count as mistakes
    #[arg(long)]
    pub deny_warnings: bool,
}

/// Arguments of `watchbell query`.
#[derive(Debug, Args)]
pub struct QueryArguments {
    /// The expression
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub expr: String,

    /// Records to evaluate it over; `-` is stdin
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

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    if !is_name || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!("`{name}` is no label's name: letters, digits and `_`, no digit first"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
