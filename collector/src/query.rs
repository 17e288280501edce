//! `watchbell query`: LogQL over files of records, answered as Loki's query API does.

#![allow(clippy::print_stderr)] // it answers a person or a program

use std::ffi::OsString;
use std::process::ExitCode;

use serde::Serialize;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::answer::{Answer, Series, value_text};
use watchbell_rules::query::records::{self, Format, LineLabels, OwnedEntry};
use watchbell_rules::query::{Direction, Limits, Query, QueryError, When, parameters};
use watchbell_rules::time::Timestamp;

use crate::cli::{AnswerFormat, QueryArguments, QueryDirection, RecordsFormat};
use crate::clock::SystemClock;
use crate::inputs::Inputs;
use crate::print;

/// Evaluates and prints; the exit status is as the command's help says.
pub fn query(arguments: &QueryArguments) -> ExitCode {
    let answer = evaluate(arguments, SystemClock::shared().now());
    let text = match (&answer, arguments.format) {
        (Ok(answer), AnswerFormat::Table) => table(answer),
        (Err(error), AnswerFormat::Table) => {
            eprintln!("{}", error.message.trim_end());
            String::new()
        }
        (answer, AnswerFormat::Json) => json(answer) + "\n",
    };
    print::answer(&text, if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the command line is one of `watchbell query`.
pub fn is_asked(mut command_line: impl Iterator<Item = OsString>) -> bool {
    command_line.nth(1).is_some_and(|command| command == "query")
}

/// Answers a command line that cannot be read as it would answer a wrong argument; help is shown as ever.
pub fn refuse(error: &clap::Error, command_line: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = command_line.collect();
    let is_table = words.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "table")
        || words.iter().any(|word| word == "--format=table");
    if !error.use_stderr() || is_table {
        let _ = error.print();
        return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    print::answer(&(json(&Err(refusal(error))) + "\n"), ExitCode::FAILURE)
}

/// What clap says, without its frame.
fn refusal(error: &clap::Error) -> QueryError {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    QueryError::bad_data(text.split("\n\n").next().unwrap_or(text).trim_end())
}

fn evaluate(arguments: &QueryArguments, now: Timestamp) -> Result<Answer, QueryError> {
    let when = when(arguments, now)?;
    let limits = Limits {
        limit: limit(&arguments.limit)?,
        direction: match arguments.direction {
            QueryDirection::Forward => Direction::Forward,
            QueryDirection::Backward => Direction::Backward,
        },
        series_max: arguments.series_max,
        ..Limits::default()
    };
    let mut query = Query::new(&arguments.expr, when, limits)?;
    for entry in read_records(arguments, when)? {
        query.add(entry.time, &entry)?;
    }
    query.answer()
}

/// The times that the arguments tell, with the defaults of Loki's API: an hour up to now.
fn when(arguments: &QueryArguments, now: Timestamp) -> Result<When, QueryError> {
    let time = |text: &Option<String>| text.as_deref().map(parameters::time).transpose();
    if arguments.start.is_none() && arguments.end.is_none() && arguments.step.is_none() {
        return Ok(When::At(time(&arguments.at)?.unwrap_or(now)));
    }
    let end = time(&arguments.end)?.unwrap_or(now);
    let start = time(&arguments.start)?.unwrap_or(end.min(now) - DEFAULT_SPAN);
    let step = match &arguments.step {
        Some(step) => parameters::step(step)?,
        None => parameters::default_step(start, end),
    };
    parameters::check_range(start, end, step)?;
    Ok(When::Range { start, end, step })
}

fn limit(text: &str) -> Result<usize, QueryError> {
    let limit = text.parse().ok().filter(|limit| (1..=u32::MAX as usize).contains(limit));
    limit.ok_or_else(|| QueryError::bad_data(format!("`{text}` is no limit: write a whole number above 0")))
}

/// The records of all files, in the order of their times.
fn read_records(arguments: &QueryArguments, when: When) -> Result<Vec<OwnedEntry>, QueryError> {
    let mut inputs = Inputs::default();
    for path in &arguments.files {
        inputs.add(path).map_err(QueryError::bad_data)?;
    }
    let mut entries = Vec::new();
    for input in inputs.into_vec() {
        let (name, bytes) = (&input.name, input.read().map_err(QueryError::bad_data)?);
        let format = match arguments.records {
            RecordsFormat::Auto => Format::detect(&bytes),
            RecordsFormat::Loki => Format::LokiPush,
            RecordsFormat::Otlp => Format::Otlp,
            RecordsFormat::Lines => Format::Lines,
        };
        let labels = arguments.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let stream = Labels::new([("filename", name.as_str())].into_iter().chain(labels));
        let read = records::parse(&bytes, format, &LineLabels { stream, end: when.end() });
        entries.extend(read.map_err(|error| QueryError::bad_data(format!("{name}: {error}")))?);
    }
    Ok(records::sorted(entries))
}

#[derive(Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Response<'a> {
    Success {
        data: &'a Answer,
    },
    #[serde(rename_all = "camelCase")]
    Error {
        error_type: &'static str,
        error: &'a str,
    },
}

fn json(answer: &Result<Answer, QueryError>) -> String {
    let response = match answer {
        Ok(data) => Response::Success { data },
        Err(QueryError { kind, message }) => Response::Error { error_type: kind.name(), error: message },
    };
    serde_json::to_string(&response).expect("an answer has string keys alone")
}

/// The answer for a person: a stream's or a series' labels, and below them times with lines or values.
fn table(answer: &Answer) -> String {
    let rows = match answer {
        Answer::Scalar(point) => return format!("{}\n", value_text(point.value)),
        Answer::Vector(series) if series.is_empty() => return NOTHING.to_owned(),
        Answer::Vector(series) => return columns(series.iter().map(vector_row).collect()),
        Answer::Streams(streams) => streams
            .iter()
            .map(|stream| {
                let entries = stream.entries.iter().map(|entry| format!("  {}  {}\n", entry.time, entry.line));
                format!("{}\n{}", stream.labels, entries.collect::<String>())
            })
            .collect::<Vec<_>>(),
        Answer::Matrix(series) => series
            .iter()
            .map(|series| {
                let points = series.points.iter().map(|point| {
                    let time = Timestamp(point.millis.saturating_mul(1_000_000));
                    format!("  {time}  {}\n", value_text(point.value))
                });
                format!("{}\n{}", series.labels, points.collect::<String>())
            })
            .collect(),
    };
    if rows.is_empty() { NOTHING.to_owned() } else { rows.join("\n") }
}

/// What a table without rows shows.
const NOTHING: &str = "nothing\n";

fn vector_row(series: &Series) -> (String, String) {
    (series.labels.to_string(), value_text(series.points[0].value))
}

fn columns(rows: Vec<(String, String)>) -> String {
    let width = rows.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(left, right)| format!("{left:width$}  {right}\n")).collect()
}

/// How far back a range query goes that does not say, as in Loki's API.
const DEFAULT_SPAN: std::time::Duration = std::time::Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const PUSH: &str =
        r#"{"streams":[{"stream":{"app":"a"},"values":[["10000000000","x"],["12000000000","y \"z\""]]}]}"#;

    /// What `watchbell query --file FILE` prints, and whether it succeeds.
    fn run(records: &str, arguments: &[&str]) -> (String, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), records).unwrap();
        let path = file.path().display().to_string();
        let line = ["watchbell", "query", "--file", &path].into_iter().chain(arguments.iter().copied());
        let Command::Query(arguments) = Cli::try_parse_from(line).unwrap().command else { unreachable!() };
        let answer = evaluate(&arguments, Timestamp(20_000_000_000));
        let text = match arguments.format {
            AnswerFormat::Json => json(&answer),
            AnswerFormat::Table => {
                answer.as_ref().map_or_else(|error| format!("{}\n", error.message.trim_end()), table)
            }
        };
        (text.replace(&path, "FILE"), answer.is_ok())
    }

    #[test]
    fn answers_are_lokis_json() {
        let (text, good) = run(PUSH, &["--at", "1970-01-01T00:00:12.5Z", r#"count_over_time({app="a"}[5s])"#]);
        assert_eq!(
            text,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"app":"a"},"value":[12.5,"2"]}]}}"#
        );
        assert!(good);
        let (text, _) = run(PUSH, &["--start", "10", "--end", "12000000001", "--limit", "1", r#"{app="a"}"#]);
        assert_eq!(
            text,
            r#"{"status":"success","data":{"resultType":"streams","result":[{"stream":{"app":"a"},"values":[["12000000000","y \"z\""]]}]}}"#
        );
        let (text, _) = run(PUSH, &["--start", "10.5", "--end", "13", "--step", "2", r#"rate({app="a"}[2s])"#]);
        assert_eq!(
            text,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"app":"a"},"values":[[10.5,"0.5"],[12.5,"0.5"]]}]}}"#
        );
    }

    #[test]
    fn what_is_wrong_is_told_as_json() {
        let wrong = [
            (PUSH, vec!["--at", "1", "sum("], "parse error at line 1, col 5: "),
            (PUSH, vec!["--at", "now", "vector(1)"], "`now` is no time"),
            (
                PUSH,
                vec!["--start", "2", "--end", "1", "vector(1)"],
                "the end, 1970-01-01T00:00:01Z, is before the start",
            ),
            (PUSH, vec!["--limit", "0", r#"{app="a"}"#], "`0` is no limit"),
            (PUSH, vec![r#"{app="a"}"#], "an instant query is for numbers"),
            ("{\"streams\":[{]}", vec!["vector(1)"], "FILE: line 1, column 14: "),
            (PUSH, vec!["--file", "no such file", "vector(1)"], "cannot read `no such file`: "),
        ];
        for (records, arguments, expected) in wrong {
            let (text, good) = run(records, &arguments);
            let start = format!(r#"{{"status":"error","errorType":"bad_data","error":"{expected}"#);
            assert!(!good && text.starts_with(&start), "{text}");
        }
        let (text, _) = run(PUSH, &["--series-max", "0", r#"rate({app="a"}[2m])"#]);
        assert!(
            text.starts_with(r#"{"status":"error","errorType":"execution","error":"the query has more than 0 series"#),
            "{text}"
        );
    }

    #[test]
    fn a_command_line_that_cannot_be_read_is_told_as_json() {
        let refused = |arguments: &[&str]| {
            let line = ["watchbell", "query"].iter().chain(arguments);
            json(&Err(refusal(&Cli::try_parse_from(line).unwrap_err())))
        };
        let error = |text: &str| format!(r#"{{"status":"error","errorType":"bad_data","error":{text}}}"#);
        for (arguments, text) in [
            (
                &["--file", "x", "--direction", "sideways", "1"][..],
                r#""invalid value 'sideways' for '--direction <DIRECTION>'\n  [possible values: forward, backward]""#,
            ),
            (
                &["--file", "x", "--series-max", "x", "1"],
                r#""invalid value 'x' for '--series-max <NUMBER>': invalid digit found in string""#,
            ),
            (
                &["--file", "x", "--at", "1", "--start", "0", "1"],
                r#""the argument '--at <TIME>' cannot be used with '--start <TIME>'""#,
            ),
            (&["1"], r#""the following required arguments were not provided:\n  --file <RECORDS>""#),
            (&["--file", "x", "1", "y"], r#""unexpected argument 'y' found""#),
        ] {
            assert_eq!(refused(arguments), error(text));
        }
    }

    #[test]
    fn people_get_a_table() {
        let arguments = [
            "--format",
            "table",
            "--label",
            "app=shop",
            r#"sum by (app, filename) (count_over_time({app="shop"}[1s]))"#,
        ];
        assert_eq!(run("one\ntwo\n", &arguments).0, "{app=\"shop\", filename=\"FILE\"}  2\n");
        let (text, _) = run(PUSH, &["--format", "table", "--start", "0", "--end", "20", r#"{app="a"}"#]);
        assert_eq!(text, "{app=\"a\"}\n  1970-01-01T00:00:12Z  y \"z\"\n  1970-01-01T00:00:10Z  x\n");
        let (text, _) = run(PUSH, &["--format", "table", "--start", "10", "--end", "11", "--step", "1s", "vector(2)"]);
        assert_eq!(text, "{}\n  1970-01-01T00:00:10Z  2\n  1970-01-01T00:00:11Z  2\n");
        assert_eq!(run(PUSH, &["--format", "table", "1 + 1"]).0, "2\n");
    }

    /// Every expression of the page, over the page's records, is answered as the page says; `UPDATE=1` writes the answers.
    #[test]
    fn the_page_on_logql_tells_the_truth() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/logql.md");
        let page = fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("```json\n").unwrap();
        let (records, rest) = rest.split_once("\n```\n").unwrap();
        let mut examples = rest.split("```logql\n");
        let mut updated = format!("{before}```json\n{records}\n```\n{}", examples.next().unwrap());
        let mut count = 0;
        for example in examples {
            let (expr, rest) = example.split_once("\n```\n\n```text\n").unwrap();
            let (told, behind) = rest.split_once("```\n").unwrap();
            let is_log = matches!(watchbell_rules::logql::parse(expr), Ok(watchbell_rules::logql::ast::Expr::Log(_)));
            let times: &[&str] = match is_log || expr.starts_with("{") {
                true => &["--start", "2026-11-24T18:00:00Z", "--end", "2026-11-24T18:05:00Z"],
                false => &["--at", "2026-11-24T18:05:00Z"],
            };
            let (answer, _) = run(records, &[times, &["--format", "table", expr]].concat());
            assert!(std::env::var_os("UPDATE").is_some() || answer == told, "{expr}\n{answer}");
            updated.push_str(&format!("```logql\n{expr}\n```\n\n```text\n{answer}```\n{behind}"));
            count += 1;
        }
        assert!(count > 15, "{count} examples");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path, updated).unwrap();
        }
    }

    /// Each function that templates have stands in the page's table, and no other does.
    #[test]
    fn the_page_on_logql_names_every_function_of_templates() {
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/logql.md")).unwrap();
        let (_, section) = page.split_once("\n## Templates\n").unwrap();
        let (table, _) = section.split_once("```").unwrap();
        let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
        let mut named: Vec<&str> = first_cells.flat_map(|cell| cell.split(['`', ',', ' '])).collect();
        named.retain(|name| !name.is_empty());
        named.sort_unstable();
        let mut known: Vec<&str> = watchbell_rules::template::log::functions().collect();
        known.sort_unstable();
        assert_eq!(named, known);
    }
}
