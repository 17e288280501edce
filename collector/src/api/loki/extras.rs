//! What Grafana asks beside queries: `detected_fields` and their values, `patterns`, `format_query`, `status/buildinfo` and
//! `drilldown-limits`.

use std::borrow::Cow;
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
use watchbell_rules::pipeline::json;
use watchbell_rules::query::answer::{Answer, Entry};
use watchbell_rules::query::{Limits, QueryError, When};
use watchbell_rules::time::Timestamp;

use super::answer::{self, Success, to_json};
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
        let values = fields.found.remove(&name).unwrap_or_default().values.into_iter().take(limit).collect();
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
            // The query may end in a comment; without a stage it stays as it was written, since its mistakes are told from that.
            let text = [asked.get("query"), stage].join(if stage.is_empty() { "" } else { "\n" });
            entries(&loki, &text, span, lines, stop)?.iter().for_each(|entry| fields.add(parser, entry));
        }
        Ok(write(fields, limit))
    });
    Ok(answer::json(text.await?))
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

/// What is found of fields, by their names.
#[derive(Default)]
struct Fields {
    found: BTreeMap<String, Field>,
    /// Where in its line a value stands whose label `| json` makes.
    json_paths: BTreeMap<String, Vec<String>>,
}

/// The values of a field, and the parsers that found them.
#[derive(Default)]
struct Field {
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
}

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
            let field = self.found.entry(name.to_owned()).or_default();
            field.values.insert(value.to_owned());
            field.parsers.extend(Some(parser).filter(|parser| !parser.is_empty()));
        }
        if parser == "json" && is_parsed {
            self.add_json_paths(&entry.line);
        }
    }

    fn add_json_paths(&mut self, line: &str) {
        let mut add = |path: &[Cow<'_, str>], _: json::Value<'_>| {
            let path_owned = || path.iter().map(|key| key.clone().into_owned()).collect();
            self.json_paths.entry(json::label_of(path)).or_insert_with(path_owned);
        };
        // Of a line that ends early it is told by then what there is.
        let _ = json::for_each_value(line, &mut add);
    }

    fn detected(self, limit: usize) -> DetectedFields {
        let paths = &self.json_paths;
        let path = |label: &str| paths.get(label).or_else(|| paths.get(label.strip_suffix("_extracted")?));
        let fields = self.found.into_iter().take(limit).map(|(label, Field { values, parsers })| DetectedField {
            kind: values.iter().map(|value| kind(value)).reduce(|a, b| if a == b { a } else { "string" }),
            cardinality: values.len(),
            json_path: path(&label).filter(|_| parsers.contains("json")).cloned(),
            parsers: Some(parsers).filter(|parsers| !parsers.is_empty()),
            label,
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
    /// By which Logs Drilldown names it to `| json`.
    #[serde(rename = "jsonPath", skip_serializing_if = "Option::is_none")]
    json_path: Option<Vec<String>>,
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
    Ok(answer::json(to_json(&Success::new([(); 0]))))
}

/// `/loki/api/v1/format_query`: the expression with its parentheses and spaces set in one way.
pub(super) async fn format_query(request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let text = asked.get("query");
    Ok(match logql::parse(text) {
        Ok(expr) => answer::json(to_json(&Success::new(expr.to_string()))),
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

/// `/loki/api/v1/drilldown-limits`: what Grafana's Logs Drilldown goes by. Without it that offers a page of patterns that is always empty.
pub(super) async fn drilldown_limits(State(loki): State<Loki>) -> Response {
    let limits = serde_json::json!({
        "discover_service_name": loki.source.labels().discover_service_name,
        "max_entries_limit_per_query": loki.config.entries_max,
        "max_query_series": loki.config.series_max,
        "volume_enabled": true,
    });
    let answer = serde_json::json!({
        "limits": limits,
        "pattern_ingester_enabled": false,
        "version": env!("CARGO_PKG_VERSION"),
    });
    Json(answer).into_response()
}

/// As in Loki.
const FIELDS_LIMIT: usize = 1000;
const LINES_LIMIT: usize = 100;
