//! `query` and `query_range`.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use watchbell_rules::query::answer::Answer;
use watchbell_rules::query::{Limits, Query, When, parameters};

use super::answer::{QueryData, Success, Work, json, to_json};
use super::parameters::Parameters;
use super::scan::Scan;
use super::work::Stop;
use super::{Failure, Loki};

/// `/loki/api/v1/query`: `query`, `time`.
pub(super) async fn instant(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let time = asked.time("time", loki.clock.now())?;
    answer(loki, asked, When::At(time)).await
}

/// `/loki/api/v1/query_range`: `query`, `start`, `end`, `since`, `step`, `interval`, `limit`, `direction`.
pub(super) async fn range(State(loki): State<Loki>, request: Request<Body>) -> Result<Response, Failure> {
    let asked = Parameters::read(request).await?;
    let (start, end) = asked.bounds(loki.clock.now())?;
    let step = asked.step(start, end)?;
    parameters::check_range(start, end, step)?;
    answer(loki, asked, When::Range { start, end, step }).await
}

async fn answer(loki: Loki, asked: Parameters, when: When) -> Result<Response, Failure> {
    let limits = Limits {
        limit: asked.limit("limit", Limits::default().limit)?,
        direction: asked.direction()?,
        interval: asked.duration("interval")?,
        series_max: loki.config.series_max,
        query_memory_bytes_max: loki.config.query_memory_bytes_max,
        categorize: asked.categorize,
        ..Limits::default()
    };
    let workshop = loki.workshop.clone();
    let asked_at = loki.clock.monotonic();
    let text = workshop.run(move |stop| {
        let seconds_waited = loki.clock.monotonic().saturating_sub(asked_at).as_secs_f64();
        let (answer, work) = evaluate(&loki, asked.get("query"), when, limits, stop)?;
        let work = Work { seconds_waited, ..work };
        Ok(to_json(&Success::new(QueryData::new(&answer, limits.categorize, &work))))
    });
    Ok(json(text.await?))
}

/// Evaluates over the log, on the thread of a query.
pub(super) fn evaluate(
    loki: &Loki,
    text: &str,
    when: When,
    limits: Limits,
    stop: &Stop,
) -> Result<(Answer, Work), Failure> {
    let began = loki.clock.monotonic();
    let mut query = Query::new(text, when, limits)?;
    let max = loki.config.entries_max;
    if query.is_log() && limits.limit > max {
        return Err(Failure::bad_request(format!(
            "`limit` {} is over {max}, the maximum (`entries_max`) of a log query",
            limits.limit
        )));
    }
    let (log, labels) = (loki.source.log(), loki.source.labels());
    let metrics = loki.workshop.metrics();
    let mut scan = Scan::new(&*log, &labels, stop, metrics, loki.config.query_bytes_max);
    let scanned = scan.query(&mut query)?;
    let (bytes, batches) = (scan.bytes, scan.batches);
    let answer = query.answer_unless(&|| stop.is_set())?;
    let seconds = loki.clock.monotonic().saturating_sub(began).as_secs_f64();
    Ok((answer, Work { scanned, bytes, batches, seconds, seconds_waited: 0.0 }))
}
