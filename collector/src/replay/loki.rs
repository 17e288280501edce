//! Records out of a Loki, by its query API, piece by piece and page by page.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use watchbell_rules::backtest::records::Records;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::records::OwnedEntry;
use watchbell_rules::time::Timestamp;

use super::history::Span;
use crate::cli::HistoryArguments;
use crate::clock::SharedClock;
use crate::http_client::{HttpClient, Protocol, TlsConfig};

/// Appends the records of `--selector` between `--start` and `--end`.
pub(super) fn read(
    url: &str,
    arguments: &HistoryArguments,
    clock: &SharedClock,
    records: &mut Records,
) -> Result<(), String> {
    let span = Span::of(arguments)?;
    let end = span.end.unwrap_or_else(|| clock.now());
    let mut start = span.start.unwrap_or(end - DEFAULT_SPAN);
    let client = HttpClient::new(&TlsConfig::default(), Protocol::Any)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the event loop: {error}"))?;
    let mut limit = PAGE_RECORDS_MAX;
    // Records of the time at which a page ends may be on the next one, too.
    let mut at_the_seam: Vec<OwnedEntry> = Vec::new();
    let (mut piece, mut piece_max) = (PIECE, PIECE_MAX);
    let mut piece_end = end.min(start + piece);
    loop {
        let page = match runtime.block_on(page(&client, url, arguments, start, piece_end, limit)) {
            Err(PageError::TooLarge) if limit > 1 => {
                limit /= 2;
                continue;
            }
            Err(PageError::Refused(_)) if piece > PIECE => {
                piece /= 2;
                piece_max = piece;
                piece_end = end.min(start + piece);
                continue;
            }
            Err(error) => return Err(format!("{url}: {}", error.message())),
            Ok(page) => page,
        };
        let (count, last) = (page.len(), page.iter().map(|entry| entry.time).max());
        page.iter().filter(|entry| !at_the_seam.contains(entry)).for_each(|entry| records.push(entry, entry.time));
        match last.filter(|_| count >= limit) {
            Some(last) if last == start => {
                return Err(format!(
                    "{url}: more than {limit} records at {last}: a page cannot hold them, name a narrower `--selector`"
                ));
            }
            Some(last) => {
                at_the_seam = page.into_iter().filter(|entry| entry.time == last).collect();
                start = last;
            }
            None if piece_end >= end => return Ok(()),
            None => {
                // No page holds a record of its end.
                at_the_seam.clear();
                piece = if count == 0 { piece_max.min(piece * 2) } else { PIECE };
                start = piece_end;
                piece_end = end.min(start + piece);
            }
        }
    }
}

/// What is asked for where `--selector` is not given.
const ALL: &str = r#"{service_name=~".+"}"#;

enum PageError {
    /// The answer is larger than one may be.
    TooLarge,
    /// The query is one that Loki does not run, perhaps because it reaches over too long a time.
    Refused(String),
    Other(String),
}

impl PageError {
    fn message(self) -> String {
        match self {
            Self::TooLarge => "a single record is larger than an answer may be".to_owned(),
            Self::Refused(message) | Self::Other(message) => message,
        }
    }
}

#[derive(Deserialize)]
struct Response {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    stream: BTreeMap<String, String>,
    values: Vec<Value>,
}

/// Time, line, and what Loki sorts apart when asked to.
#[derive(Deserialize)]
struct Value(String, String, #[serde(default)] Categories);

#[derive(Default, Deserialize)]
struct Categories {
    #[serde(default, rename = "structuredMetadata")]
    metadata: BTreeMap<String, String>,
    #[serde(default, rename = "parsed")]
    _parsed: Option<IgnoredAny>,
}

async fn page(
    client: &HttpClient,
    url: &str,
    arguments: &HistoryArguments,
    start: Timestamp,
    end: Timestamp,
    limit: usize,
) -> Result<Vec<OwnedEntry>, PageError> {
    let other = |message: String| PageError::Other(message);
    let mut address = url::Url::parse(url).map_err(|error| other(error.to_string()))?;
    address.set_path(&format!("{}/loki/api/v1/query_range", address.path().trim_end_matches('/')));
    address
        .query_pairs_mut()
        .append_pair("query", arguments.selector.as_deref().unwrap_or(ALL))
        .append_pair("start", &start.0.to_string())
        .append_pair("end", &end.0.to_string())
        .append_pair("limit", &limit.to_string())
        .append_pair("direction", "forward");
    let mut request = Request::get(address.as_str()).header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    if let Some(tenant) = &arguments.tenant {
        request = request.header("X-Scope-OrgID", tenant);
    }
    if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Bytes::new()).map_err(|error| other(error.to_string()))?;
    let answer = client.send(request, TIMEOUT).await.map_err(|error| match error.to_string() {
        text if text.contains("length limit exceeded") => PageError::TooLarge,
        text => other(text),
    })?;
    if answer.status != StatusCode::OK {
        let message = format!("{}: {}", answer.status, answer.excerpt());
        let is_refused = answer.status == StatusCode::BAD_REQUEST;
        return Err(if is_refused { PageError::Refused(message) } else { other(message) });
    }
    let response: Response =
        serde_json::from_slice(&answer.body).map_err(|error| other(format!("the answer is not Loki's: {error}")))?;
    entries(response).map_err(other)
}

fn entries(response: Response) -> Result<Vec<OwnedEntry>, String> {
    let mut entries = Vec::new();
    for Stream { stream, values } in response.data.result {
        let stream = Labels::new(stream);
        for Value(time, line, Categories { metadata, .. }) in values {
            let time = time.parse().map_err(|_| format!("the answer is not Loki's: `{time}` is no time"))?;
            entries.push(OwnedEntry::new(Timestamp(time), line, &stream, metadata));
        }
    }
    Ok(entries)
}

/// The bearer token that is sent, if there is one: it stands in no command line.
const TOKEN_VARIABLE: &str = "WATCHBELL_LOKI_TOKEN";

/// Records that a page holds.
const PAGE_RECORDS_MAX: usize = 2000;

/// How long a page may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is asked for at once where there are records.
const PIECE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is asked for at once at most, where there are none: Loki refuses a query over more than its `max_query_length`, 30 days by default.
const PIECE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How far back goes who does not say.
const DEFAULT_SPAN: Duration = Duration::from_secs(24 * 60 * 60);
