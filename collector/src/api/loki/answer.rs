//! Answers as Loki's API writes them.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use watchbell_rules::query::answer::Answer;
use watchbell_rules::query::batches::Scanned;

use super::parameters::CATEGORIZE_LABELS;

/// `{"status":"success","data":...}`
#[derive(Serialize)]
pub(super) struct Success<T> {
    status: &'static str,
    data: T,
}

impl<T: Serialize> Success<T> {
    pub(super) fn new(data: T) -> Self {
        Self { status: "success", data }
    }
}

/// `data` of a query's answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryData<'a> {
    /// First, since Grafana reads the result by what it has read before.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_flags: Option<[&'static str; 1]>,
    #[serde(flatten)]
    pub(super) answer: &'a Answer,
    stats: Stats,
}

impl<'a> QueryData<'a> {
    pub(super) fn new(answer: &'a Answer, categorize: bool, work: &Work) -> Self {
        let has_labels_apart = categorize && matches!(answer, Answer::Streams(_));
        let encoding_flags = has_labels_apart.then_some([CATEGORIZE_LABELS]);
        Self { encoding_flags, answer, stats: Stats::new(answer, work) }
    }
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) scanned: Scanned,
    /// Bytes of the log that were read.
    pub(super) bytes: u64,
    pub(super) batches: u64,
    pub(super) seconds: f64,
    pub(super) seconds_waited: f64,
}

/// What Grafana and `logcli --stats` show of it.
#[derive(Serialize)]
struct Stats {
    summary: Summary,
    querier: Reader,
    ingester: Ingester,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    bytes_processed_per_second: u64,
    lines_processed_per_second: u64,
    total_bytes_processed: u64,
    total_lines_processed: u64,
    exec_time: f64,
    queue_time: f64,
    subqueries: u64,
    total_entries_returned: usize,
    splits: u64,
    shards: u64,
    total_post_filter_lines: u64,
    total_structured_metadata_bytes_processed: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ingester {
    total_reached: u64,
    total_chunks_matched: u64,
    total_batches: u64,
    total_lines_sent: u64,
    #[serde(flatten)]
    reader: Reader,
}

#[derive(Default, Serialize)]
struct Reader {
    store: Store,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    total_chunks_ref: u64,
    total_chunks_downloaded: u64,
    /// Nanoseconds; `logcli` reads a whole number only.
    chunks_download_time: u64,
    chunk: Chunk,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    head_chunk_bytes: u64,
    head_chunk_lines: u64,
    decompressed_bytes: u64,
    decompressed_lines: u64,
    compressed_bytes: u64,
    total_duplicates: u64,
    post_filter_lines: u64,
}

impl Stats {
    fn new(answer: &Answer, work: &Work) -> Self {
        let Scanned { lines, bytes, passed } = work.scanned;
        let per_second = |amount: u64| if work.seconds > 0.0 { (amount as f64 / work.seconds) as u64 } else { 0 };
        let chunk = Chunk {
            decompressed_bytes: bytes,
            decompressed_lines: lines,
            compressed_bytes: work.bytes,
            post_filter_lines: passed,
            ..Chunk::default()
        };
        Self {
            summary: Summary {
                bytes_processed_per_second: per_second(bytes),
                lines_processed_per_second: per_second(lines),
                total_bytes_processed: bytes,
                total_lines_processed: lines,
                exec_time: work.seconds,
                queue_time: work.seconds_waited,
                subqueries: 0,
                total_entries_returned: returned(answer),
                splits: 0,
                shards: 0,
                total_post_filter_lines: passed,
                total_structured_metadata_bytes_processed: 0,
            },
            querier: Reader::default(),
            ingester: Ingester {
                total_reached: 1,
                total_chunks_matched: work.batches,
                total_batches: work.batches,
                total_lines_sent: passed,
                reader: Reader { store: Store { total_chunks_ref: work.batches, chunk, ..Store::default() } },
            },
        }
    }
}

fn returned(answer: &Answer) -> usize {
    match answer {
        Answer::Streams(streams) => streams.iter().map(|stream| stream.entries.len()).sum(),
        Answer::Scalar(_) => 1,
        Answer::Vector(series) => series.len(),
        Answer::Matrix(series) => series.iter().map(|series| series.points.len()).sum(),
    }
}

/// JSON as a query's thread has written it.
pub(super) fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=UTF-8")], text).into_response()
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("an answer has string keys alone");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_result_is_read_by_stands_before_it() {
        let answer = Answer::Streams(Vec::new());
        let json = to_json(&QueryData::new(&answer, true, &Work::default()));
        let beginning = r#"{"encodingFlags":["categorize-labels"],"resultType":"streams","result":[],"stats":"#;
        assert!(json.starts_with(beginning), "{json}");
    }
}
