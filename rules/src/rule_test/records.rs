//! From what a test writes to the records that come in.

use super::{Moment, Outside, RecordSource, START, Test};
use crate::backtest::records::Records;
use crate::diagnostic::{Diagnostic, codes};
use crate::labels::Labels;
use crate::query::records::{Format, LineLabels, OwnedEntry};
use crate::time::Timestamp;

/// The test's records in the order in which they are received, and when the test begins.
pub(super) fn collect(test: &Test, outside: &Outside<'_>) -> Result<(Records, Timestamp), Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let mut records = Records::default();
    let mut placed = Vec::new();
    for source in test.records.iter() {
        let Some((name, span)) = &source.file else { continue };
        let before = records.len();
        match read_file(test, source, name, outside, &mut records) {
            Ok(()) => placed.push((before..records.len(), source.at)),
            Err(message) => mistakes.push(Diagnostic::error(codes::RECORDS, span.clone(), message)),
        }
    }
    let unmoved = placed.iter().filter(|(_, at)| at.is_none()).flat_map(|(range, _)| range.clone());
    let earliest = unmoved.map(|at| records.time(at)).min();
    let start = test.start.or(earliest).unwrap_or(START);
    for (range, at) in placed {
        at.into_iter().for_each(|at| records.move_to(range.clone(), at.time(start)));
    }
    let inline = test.records.iter().filter(|source| source.file.is_none());
    inline.for_each(|source| push_inline(test, source, start, &mut records));
    records.sort();
    let file = &test.file;
    mistakes.iter_mut().for_each(|mistake| mistake.file = file.clone());
    if mistakes.is_empty() { Ok((records, start)) } else { Err(mistakes) }
}

fn read_file(
    test: &Test,
    source: &RecordSource,
    name: &str,
    outside: &Outside<'_>,
    records: &mut Records,
) -> Result<(), String> {
    let bytes = (outside.read)(name)?;
    let stream = Labels::new([("filename", name)].into_iter().chain(labels(test, source)));
    let lines = LineLabels { stream, end: test.start.unwrap_or(START) };
    records.read(&bytes, Format::detect(&bytes), &lines).map_err(|error| format!("`{name}`: {error}"))
}

/// The test's labels and, over them, the record's.
fn labels<'a>(test: &'a Test, source: &'a RecordSource) -> impl Iterator<Item = (&'a str, &'a str)> {
    test.labels.iter().chain(&source.labels).map(|(name, value)| (name.as_str(), value.as_str()))
}

fn push_inline(test: &Test, source: &RecordSource, start: Timestamp, records: &mut Records) {
    let time = |moment: Option<Moment>| moment.map(|moment| moment.time(start));
    let (mut at, mut received) = (time(source.at).unwrap_or(start), time(source.received));
    for n in 1..=source.repeat {
        let text = |text: &str| if source.repeat > 1 { text.replace("${n}", &n.to_string()) } else { text.to_owned() };
        let stream = Labels::new(labels(test, source).map(|(name, value)| (name, text(value))));
        let metadata = source.metadata.iter().map(|(name, value)| (name, text(value)));
        records.push(&OwnedEntry::new(at, text(&source.line), &stream, metadata), received.unwrap_or(at).max(start));
        (at, received) = (at + source.every, received.map(|received| received + source.every));
    }
}
