//! What streams there are: `labels`, `label/NAME/values`, `series` and `index/stats`.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Request;
use axum::response::Response;
use serde::Serialize;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::series::{Amount, Counting, SeriesQuery, selector_names};

use super::answer::{Success, json, to_json};
use super::parameters::Parameters;
use super::scan::Scan;
use super::{Failure, Loki};
use watchbell_rules::time::Timestamp;

/// `/loki/api/v1/labels`: `start`, `end`, `since`, `query`.
pub(super) async fn labels(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let selectors = given(asked.get("query"))?;
    let names = |found: BTreeMap<Labels, Amount>| {
        let names = found.keys().flat_map(Labels::iter).map(|(name, _)| name.to_owned());
        to_json(&Listed::new(names.collect::<BTreeSet<_>>()))
    };
    loki.find(&asked, selectors, Counting::No, names).await
}

/// `/loki/api/v1/label/NAME/values`: `start`, `end`, `since`, `query`.
pub(super) async fn values(
    State(loki): State<Loki>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let selectors = given(asked.get("query"))?;
    let values = move |found: BTreeMap<Labels, Amount>| {
        let values = found.keys().filter_map(|labels| labels.get(&name)).map(str::to_owned);
        to_json(&Listed::new(values.collect::<BTreeSet<_>>()))
    };
    loki.find(&asked, selectors, Counting::No, values).await
}

/// `/loki/api/v1/series`: `match[]`, `start`, `end`, `since`.
pub(super) async fn series(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    // Here alone Loki takes selectors that leave no stream out.
    let selectors = ["match[]", "match"].iter().flat_map(|name| asked.all(name));
    let selectors = selectors.filter(|text| !text.is_empty()).map(str::to_owned).collect();
    let series = |found: BTreeMap<Labels, Amount>| {
        let maps = found.keys().map(|labels| labels.iter().collect::<BTreeMap<_, _>>()).collect::<Vec<_>>();
        to_json(&Success::new(maps))
    };
    loki.find(&asked, selectors, Counting::No, series).await
}

/// `/loki/api/v1/detected_labels`: `query`, `start`, `end`, `since`.
pub(super) async fn detected_labels(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    asked.span(loki.clock.now())?;
    let selectors = given(asked.get("query"))?;
    let detected = |found: BTreeMap<Labels, Amount>| {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, value) in found.keys().flat_map(Labels::iter) {
            values.entry(name).or_default().insert(value);
        }
        values.retain(|name, values| ALWAYS_DETECTED.contains(name) || !are_ids(values));
        let labels = values.into_iter().map(|(label, values)| DetectedLabel { label, cardinality: values.len() });
        to_json(&DetectedLabels { detected_labels: labels.collect() })
    };
    loki.find(&asked, selectors, Counting::No, detected).await
}

/// Whether all values are numbers or UUIDs, by which nobody tells streams apart; as in Loki `0` and `1` alone may say yes and no.
fn are_ids(values: &BTreeSet<&str>) -> bool {
    let is_uuid = |value: &str| {
        let digits = value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        value.len() == 36 && digits
    };
    let is_flag = values.iter().all(|value| matches!(*value, "0" | "1"));
    !is_flag && values.iter().all(|&value| value.parse::<f64>().is_ok() || is_uuid(value))
}

/// Labels that Loki tells of whatever their values are.
const ALWAYS_DETECTED: [&str; 4] = ["cluster", "namespace", "instance", "pod"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DetectedLabels<'a> {
    detected_labels: Vec<DetectedLabel<'a>>,
}

#[derive(Serialize)]
struct DetectedLabel<'a> {
    label: &'a str,
    cardinality: usize,
}

/// `/loki/api/v1/index/stats`: `query`, `start`, `end`, `since`.
pub(super) async fn stats(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    asked.span(loki.clock.now())?;
    selector_names(asked.get("query"))?;
    let stats = |found: BTreeMap<Labels, Amount>| {
        let sum = |part: fn(&Amount) -> u64| found.values().map(part).sum();
        let chunks = sum(|amount| amount.batches);
        let (bytes, entries) = (sum(|amount| amount.bytes), sum(|amount| amount.entries));
        to_json(&IndexStats { streams: found.len(), chunks, bytes, entries })
    };
    loki.find(&asked, vec![asked.get("query").to_owned()], Counting::Yes, stats).await
}

#[derive(Serialize)]
struct IndexStats {
    streams: usize,
    chunks: u64,
    bytes: u64,
    entries: u64,
}

/// Names or values; where there is none, Loki's answer has no `data`.
#[derive(Serialize)]
struct Listed {
    status: &'static str,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    data: BTreeSet<String>,
}

impl Listed {
    fn new(data: BTreeSet<String>) -> Self {
        Self { status: "success", data }
    }
}

/// The selector, if there is one: an empty one asks for nothing.
fn given(text: &str) -> Result<Vec<String>, Failure> {
    if matches!(text, "" | "{}") {
        return Ok(Vec::new());
    }
    selector_names(text)?;
    Ok(vec![text.to_owned()])
}

impl Loki {
    /// Looks for streams and writes what it finds, on a thread of its own.
    pub(super) async fn find(
        self,
        asked: &Parameters,
        selectors: Vec<String>,
        counting: Counting,
        write: impl FnOnce(BTreeMap<Labels, Amount>) -> String + Send + 'static,
    ) -> Result<Response, Failure> {
        let span = asked.bounds(self.clock.now())?;
        self.search(selectors, span, counting, |query| write(query.answer())).await
    }

    pub(super) async fn search(
        self,
        selectors: Vec<String>,
        span: (Timestamp, Timestamp),
        counting: Counting,
        write: impl FnOnce(SeriesQuery) -> String + Send + 'static,
    ) -> Result<Response, Failure> {
        let workshop = self.workshop.clone();
        let text = workshop.run(move |stop| {
            let mut query = SeriesQuery::new(&selectors, span, counting, self.config.streams_max)?;
            let (log, labels) = (self.source.log(), self.source.labels());
            let bytes_max = self.config.query_bytes_max;
            Scan::new(&*log, &labels, stop, self.workshop.metrics(), bytes_max).series(&mut query)?;
            Ok(write(query))
        });
        Ok(json(text.await?))
    }
}
