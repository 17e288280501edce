//! `index/volume` and `index/volume_range`: how many bytes of lines there are, by labels.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use watchbell_rules::labels::Labels;
use watchbell_rules::query::answer::{Answer, Point, Series};
use watchbell_rules::query::parameters::check_range;
use watchbell_rules::query::series::{Amount, Counting, SeriesQuery, selector_names};
use watchbell_rules::time::Timestamp;

use super::answer::{QueryData, Success, Work, to_json};
use super::parameters::Parameters;
use super::{Failure, Loki};

/// `/loki/api/v1/index/volume`: `query`, `start`, `end`, `since`, `limit`, `targetLabels`, `aggregateBy`.
pub(super) async fn instant(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Asked::read(&loki, request).await?;
    let (selectors, span) = (asked.selectors.clone(), asked.span);
    let write = move |query: SeriesQuery| {
        let point = |bytes: u64| Point { millis: span.1.millis(), value: bytes as f64 };
        let volumes = asked.volumes(query.answer_by_step());
        let series =
            volumes.into_iter().map(|volume| Series { labels: volume.labels, points: vec![point(volume.bytes)] });
        written(&Answer::Vector(series.collect()))
    };
    loki.search(selectors, span, Counting::Yes, write).await
}

/// `/loki/api/v1/index/volume_range`: the same, and `step`.
pub(super) async fn range(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Asked::read(&loki, request).await?;
    let (selectors, (start, end), step) = (asked.selectors.clone(), asked.span, asked.step);
    check_range(start, end, step)?;
    let write = move |query: SeriesQuery| {
        // A step's bytes stand at its end, as those of a window do.
        let millis = |at: u64| (start + step * (at as u32 + 1)).min(end).millis();
        let volumes = asked.volumes(query.answer_by_step());
        let series = volumes.into_iter().map(|volume| {
            let points = volume.by_step.into_iter();
            let points = points.map(|(at, bytes)| Point { millis: millis(at), value: bytes as f64 });
            Series { labels: volume.labels, points: points.collect() }
        });
        written(&Answer::Matrix(series.collect()))
    };
    loki.search(selectors, (start, end), Counting::ByStep(step), write).await
}

struct Asked {
    selectors: Vec<String>,
    span: (Timestamp, Timestamp),
    step: Duration,
    limit: usize,
    /// The labels by which volumes are told apart; all of a stream's where it is empty.
    targets: Vec<String>,
    /// Whether a label's name alone tells them apart.
    by_name: bool,
}

/// What has the same labels.
struct Volume {
    labels: Labels,
    bytes: u64,
    by_step: BTreeMap<u64, u64>,
}

impl Asked {
    async fn read(loki: &Loki, request: Request<Body>) -> Result<Self, Failure> {
        let asked = Parameters::read(request).await?;
        let (start, end) = asked.span(loki.clock.now())?;
        let by_name = match asked.get("aggregateBy") {
            "" | "series" => false,
            "labels" => true,
            other => {
                return Err(Failure::bad_request(format!("`aggregateBy`: `{other}`: write `series` or `labels`")));
            }
        };
        let selector = asked.get("query");
        let is_any = matches!(selector, "" | "{}");
        let targets = asked.get("targetLabels").split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        let mut targets: Vec<String> = targets.collect();
        let names = if is_any { Vec::new() } else { selector_names(selector)? };
        if targets.is_empty() && !by_name {
            targets = names;
        }
        Ok(Self {
            selectors: if is_any { Vec::new() } else { vec![selector.to_owned()] },
            span: (start, end),
            step: asked.step(start, end)?,
            limit: asked.limit("limit", DEFAULT_LIMIT)?,
            targets,
            by_name,
        })
    }

    /// The largest volumes, the largest first.
    fn volumes(&self, found: BTreeMap<(u64, Labels), Amount>) -> Vec<Volume> {
        let mut volumes: BTreeMap<Labels, Volume> = BTreeMap::new();
        for ((at, stream), amount) in found {
            for labels in self.groups(&stream) {
                let new = || Volume { labels: labels.clone(), bytes: 0, by_step: BTreeMap::new() };
                let volume = volumes.entry(labels.clone()).or_insert_with(new);
                volume.bytes += amount.bytes;
                *volume.by_step.entry(at).or_default() += amount.bytes;
            }
        }
        let mut volumes: Vec<Volume> = volumes.into_values().collect();
        volumes.sort_by_key(|volume| std::cmp::Reverse(volume.bytes));
        volumes.truncate(self.limit);
        volumes
    }

    fn groups(&self, stream: &Labels) -> Vec<Labels> {
        let wanted = |name: &str| self.targets.is_empty() || self.targets.iter().any(|target| target == name);
        let labels = stream.iter().filter(|(name, _)| wanted(name));
        match self.by_name {
            true => labels.map(|(name, _)| Labels::with_empty([(name, "")])).collect(),
            // A stream without any of the labels that are asked for is not told of.
            false => Some(Labels::new(labels)).filter(|labels| !labels.is_empty()).into_iter().collect(),
        }
    }
}

fn written(answer: &Answer) -> String {
    to_json(&Success::new(QueryData::new(answer, false, &Work::default())))
}

/// As in Loki.
const DEFAULT_LIMIT: usize = 100;
