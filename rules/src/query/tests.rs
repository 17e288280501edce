use proptest::prelude::*;

use super::records::{Format, LineLabels, OwnedEntry};
use super::*;
use crate::datadriven;
use crate::labels::Labels;

/// A case is records, a blank line, what is asked (`at TIME`, or `from TIME to TIME step DURATION`, with `limit N`, `forward` or
/// `series_max N` behind it), and an expression; it becomes the answer, a series or a stream a line.
#[test]
fn queries_answer_as_lokis_do() {
    datadriven::run("query", run);
}

fn run(text: &str) -> String {
    let (records, asked) = text.rsplit_once("\n\n").unwrap_or(("", text));
    let (parameters, expr) = asked.split_once('\n').unwrap();
    let (when, limits) = parse_parameters(parameters);
    match answer(records, expr, when, limits) {
        Ok(answer) => show(&answer),
        Err(error) => format!("{}: {error}", error.kind.name()),
    }
}

fn answer(records: &str, expr: &str, when: When, limits: Limits) -> Result<Answer, QueryError> {
    let mut query = Query::new(expr, when, limits)?;
    let lines = LineLabels { stream: Labels::new([("filename", "app.log")]), end: when.end() };
    let format = Format::detect(records.as_bytes());
    let entries = records::parse(records.as_bytes(), format, &lines);
    for entry in records::sorted(entries.map_err(|error| QueryError::bad_data(error.to_string()))?) {
        query.add(entry.time, &entry)?;
    }
    query.answer()
}

fn parse_parameters(text: &str) -> (When, Limits) {
    let words: Vec<&str> = text.split(' ').collect();
    let behind = |word: &str| words.iter().position(|other| *other == word).map(|at| words[at + 1]);
    let when = match behind("at") {
        Some(time) => When::At(parameters::time(time).unwrap()),
        None => When::Range {
            start: parameters::time(behind("from").unwrap()).unwrap(),
            end: parameters::time(behind("to").unwrap()).unwrap(),
            step: parameters::step(behind("step").unwrap_or("1s")).unwrap(),
        },
    };
    let mut limits = Limits::default();
    limits.limit = behind("limit").map_or(limits.limit, |limit| limit.parse().unwrap());
    limits.series_max = behind("series_max").map_or(limits.series_max, |max| max.parse().unwrap());
    if words.contains(&"forward") {
        limits.direction = Direction::Forward;
    }
    (when, limits)
}

fn show(answer: &Answer) -> String {
    let json: serde_json::Value = serde_json::from_str(&answer.to_json()).unwrap();
    let result = &json["result"];
    let items: Vec<String> = match result.as_array() {
        Some(items) if !matches!(answer, Answer::Scalar(_)) => items.iter().map(ToString::to_string).collect(),
        _ => vec![result.to_string()],
    };
    format!("{}\n{}", answer.type_name(), items.join("\n"))
}

/// Counts in windows, found by looking at every record at every step.
fn naive(times: &[i64], start: i64, end: i64, step: i64, range: i64, offset: i64) -> Vec<(i64, usize)> {
    let count = |t: i64| times.iter().filter(|at| **at > t - offset - range && **at <= t - offset).count();
    (start..=end).step_by(step as usize).map(|t| (t, count(t))).filter(|(_, count)| *count > 0).collect()
}

const MILLI: i64 = 1_000_000;

proptest! {
    #[test]
    fn windows_hold_what_a_look_at_every_record_finds(
        mut times in prop::collection::vec(0..100i64, 0..50), start in 0..100i64, length in 0..100i64, step in 1..20i64,
        range in 1..50i64, offset in -30..30i64,
    ) {
        let (when_start, when_end) = (Timestamp(start * MILLI), Timestamp((start + length) * MILLI));
        let when = When::Range { start: when_start, end: when_end, step: Duration::from_millis(step as u64) };
        let offset_text = if offset < 0 { format!("-{}ms", -offset) } else { format!("{offset}ms") };
        let expr = format!(r#"count_over_time({{a="1"}}[{range}ms] offset {offset_text})"#);
        let mut query = Query::new(&expr, when, Limits::default()).unwrap();
        times.sort_unstable();
        for (index, at) in times.iter().enumerate() {
            let stream = Labels::new([("a", "1")]);
            let entry = OwnedEntry::new(Timestamp(at * MILLI), index.to_string(), &stream, Vec::<(&str, String)>::new());
            query.add(entry.time, &entry).unwrap();
        }
        let Answer::Matrix(series) = query.answer().unwrap() else { panic!("a range query yields a matrix") };
        let points = series.first().map(|series| &series.points[..]).unwrap_or_default();
        let counted: Vec<_> = points.iter().map(|point| (point.millis, point.value as usize)).collect();
        prop_assert_eq!(counted, naive(&times, start, start + length, step, range, offset));
    }

    #[test]
    fn no_bytes_make_the_reader_of_records_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200usize) {
        let push = br#"{"streams":[{"stream":{"a":"1"},"values":[["1","x",{"b":"2"}]]}]} {"streams":[]}"#;
        let cut_push = [&push[..cut.min(push.len())], &bytes[..]].concat();
        for text in [&bytes, &cut_push] {
            for format in [Format::LokiPush, Format::Otlp, Format::Lines, Format::detect(text)] {
                let _ = records::parse(text, format, &LineLabels::default());
            }
        }
    }
}
