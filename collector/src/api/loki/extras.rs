//! What Grafana asks beside queries: `detected_fields` and their values, `patterns`, `format_query` and `status/buildinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use watchbell_rules::labels::Labels;
use watchbell_rules::logql;
use watchbell_rules::pipeline::convert::kind;
use watchbell_rules::query::answer::{Answer, Entry};
use watchbell_rules::query::{Limits, QueryError, When};
use watchbell_rules::time::Timestamp;

use super::answer::{Success, json, to_json};
use super::parameters::Parameters;
use super::queries;
use super::work::Stop;
use super::{Failure, Loki};

/// `/loki/api/v1/detected_fields`: `query`, `start`, `end`, `since`, `limit`, `line_limit`. The fields are those of the newest lines.
pub(super) async fn detected_fields(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    detect(loki, request, |fields, limit| to_json(&fields.detected(limit))).await
}

/// `/loki/api/v1/detected_field/NAME/values`: the same.
pub(super) async fn detected_values(
    State(loki): State<Loki>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, Failure> {
    detect(loki, request, move |mut fields, limit| {
        let values = fields.0.remove(&name).unwrap_or_default().0.into_iter().take(limit).collect();
        to_json(&DetectedValues { values, limit })
    })
    .await
}

/// Reads fields, and writes of them at most as many as are wanted.
async fn detect(
    loki: Loki,
    request: Request<Body>,
    write: impl FnOnce(Fields, usize) -> String + Send + 'static,
) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let span = asked.span(loki.clock.now())?;
    let limit = asked.limit(if asked.get("limit").is_empty() { "field_limit" } else { "limit" }, FIELDS_LIMIT)?;
    let lines = asked.limit("line_limit", LINES_LIMIT)?.min(loki.config.entries_max);
    let workshop = loki.workshop.clone();
    let text = workshop.run(move |stop| {
        let mut fields = Fields::default();
        for (parser, stage) in [("", ""), ("json", "| json"), ("logfmt", "| logfmt")] {
            let text = format!("{}\n{stage}", asked.get("query"));
            entries(&loki, &text, span, lines, stop)?.iter().for_each(|entry| fields.add(parser, entry));
        }
        Ok(write(fields, limit))
    });
    Ok(json(text.await?))
}

/// The newest lines of a log query, with their labels by where they are from.
fn entries(
    loki: &Loki,
    text: &str,
    (start, end): (Timestamp, Timestamp),
    limit: usize,
    stop: &Stop,
) -> Result<Vec<Entry>, Failure> {
    let limits = Limits {
        limit,
        categorize: true,
        query_memory_bytes_max: loki.config.query_memory_bytes_max,
        ..Limits::default()
    };
    let when = When::Range { start, end, step: Duration::from_secs(1) };
    match queries::evaluate(loki, text, when, limits, stop)?.0 {
        Answer::Streams(streams) => Ok(streams.into_iter().flat_map(|stream| stream.entries).collect()),
        _ => Err(Failure::bad_request(format!("`{}` yields numbers: write a query for log lines", text.trim_end()))),
    }
}

/// The values of each field, and the parsers that found them.
#[derive(Default)]
struct Fields(BTreeMap<String, (BTreeSet<String>, BTreeSet<&'static str>)>);

impl Fields {
    fn add(&mut self, parser: &'static str, entry: &Entry) {
        let Some(categories) = &entry.categories else { return };
        let is_json = entry.line.trim_start().starts_with('{');
        let is_parsed = match parser {
            "json" => is_json,
            "logfmt" => !is_json && entry.line.contains('='),
            _ => false,
        };
        // A line that its parser cannot read has no fields; what the query itself extracts is there without another parser.
        let labels: &[&Labels] = match parser {
            "" => &[&categories.metadata, &categories.parsed],
            _ if is_parsed && categories.parsed.get("__error__").is_none() => &[&categories.parsed],
            _ => &[],
        };
        for (name, value) in labels.iter().flat_map(|labels| labels.iter()).filter(|(name, _)| !name.starts_with("__"))
        {
            let (values, parsers) = self.0.entry(name.to_owned()).or_default();
            values.insert(value.to_owned());
            parsers.extend(Some(parser).filter(|parser| !parser.is_empty()));
        }
    }

    fn detected(self, limit: usize) -> DetectedFields {
        let fields = self.0.into_iter().take(limit).map(|(label, (values, parsers))| DetectedField {
            kind: values.iter().map(|value| kind(value)).reduce(|a, b| if a == b { a } else { "string" }),
            label,
            cardinality: values.len(),
            parsers: Some(parsers).filter(|parsers| !parsers.is_empty()),
        });
        DetectedFields { fields: fields.collect(), limit }
    }
}

#[derive(Serialize)]
struct DetectedFields {
    fields: Vec<DetectedField>,
    limit: usize,
}

#[derive(Serialize)]
struct DetectedField {
    label: String,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    cardinality: usize,
    parsers: Option<BTreeSet<&'static str>>,
}

/// As in Loki's answer, which has no list where there is no value.
#[derive(Serialize)]
struct DetectedValues {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
    limit: usize,
}

/// `/loki/api/v1/patterns`: nothing mines patterns over the log, as in a Loki without its pattern ingester.
pub(super) async fn patterns(request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    logql::parse(asked.get("query")).map_err(|mistakes| QueryError::mistakes(&mistakes, asked.get("query")))?;
    Ok(json(to_json(&Success::new([(); 0]))))
}

/// `/loki/api/v1/format_query`: the expression with its parentheses and spaces set in one way.
pub(super) async fn format_query(request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let text = asked.get("query");
    Ok(match logql::parse(text) {
        Ok(expr) => json(to_json(&Success::new(expr.to_string()))),
        Err(mistakes) => {
            let error = QueryError::mistakes(&mistakes, text).message;
            let body = serde_json::json!({"status": "invalid-query", "error": error});
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    })
}

/// `/loki/api/v1/status/buildinfo`
pub(super) async fn buildinfo() -> Response {
    let info = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""});
    Json(info).into_response()
}

/// As in Loki.
const FIELDS_LIMIT: usize = 1000;
const LINES_LIMIT: usize = 100;
