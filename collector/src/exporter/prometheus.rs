//! Prometheus remote write 1.0: the samples that rules compute. They wait in memory, for they can be computed again; what waits is read
//! like a log, so that the same queue sends it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::watch;
use watchbell_proto::prometheus::{CONTENT_TYPE_V1, Sample as WireSample, put_time_series};
use watchbell_proto::snappy;
use watchbell_rules::labels::Labels;
use watchbell_rules::time::Timestamp;
use watchbell_rules::transition::Sample;

use super::Sender;
use super::headers::Headers;
use super::metrics::QueueMetrics;
use super::otlp_http::{not_answered, parse_url};
use super::queue::{self, Request, RetryConfig, SendResult};
use crate::config::duration;
use crate::http_client::{Answer, HttpClient, Protocol, TlsConfig};
use crate::wal::{AppendError, BoxFuture, Cursor, Frame, FrameKind, Log, NewFrame, Position, Progress};

/// A `prometheus_remote_write` exporter: recording rules' results, `ALERTS` and `ALERTS_FOR_STATE`. Clients' OTLP metrics go to
/// Prometheus's OTLP endpoint by an `otlp_http` exporter.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PrometheusRemoteWriteConfig")]
pub struct Config {
    /// The URL, such as `http://prometheus:9090/api/v1/write`.
    pub endpoint: String,
    /// Added to each series; labels that it has already stay.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
    /// Sent with each request.
    #[serde(default)]
    pub headers: Headers,
    /// Certificates.
    #[serde(default)]
    pub tls: TlsConfig,
    /// How long one request may take. Default 5 s.
    #[serde(default = "default_timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// When and how often what failed is sent again.
    #[serde(default)]
    pub retry_on_failure: RetryConfig,
    /// Samples that wait. At the limit the oldest are lost and counted. Default 100,000.
    #[serde(default = "default_samples_max")]
    pub samples_max: usize,
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_samples_max() -> usize {
    100_000
}

impl Config {
    /// One request at a time, or samples of a series would overtake one another.
    pub(super) fn sending_queue(&self) -> queue::Config {
        queue::Config { num_consumers: 1, ..queue::Config::default() }
    }

    /// Makes what sends to that endpoint.
    pub(super) fn sender(&self, started: Timestamp) -> Result<Arc<dyn Sender>, String> {
        let mut headers = self.headers.read()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_V1));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(VERSION, HeaderValue::from_static("0.1.0"));
        let (client, url) = (HttpClient::new(&self.tls, Protocol::Any)?, parse_url(&self.endpoint)?);
        Ok(Arc::new(RemoteWrite { client, url, headers, timeout: self.timeout, started }))
    }
}

/// Takes samples for all remote-write exporters; clones are the same.
#[derive(Clone, Default)]
pub struct Samples(Arc<[Waiting]>);

impl Samples {
    pub(super) fn new(waiting: Vec<Waiting>) -> Self {
        Self(waiting.into())
    }

    /// Hands a sample over; never waits.
    pub fn send(&self, sample: &Sample) {
        self.0.iter().for_each(|waiting| waiting.push(sample.clone()));
    }
}

struct RemoteWrite {
    client: HttpClient,
    url: Uri,
    headers: HeaderMap,
    timeout: Duration,
    /// Older samples are computed from what was judged before.
    started: Timestamp,
}

impl Sender for RemoteWrite {
    fn send(self: Arc<Self>, request: Request) -> BoxFuture<SendResult> {
        Box::pin(async move {
            let is_replayed = matches!(&*request.payloads, [payload] if payload.received < self.started);
            let body: Vec<u8> = request.payloads.iter().flat_map(|payload| payload.bytes.iter().copied()).collect();
            let mut request = http::Request::new(Bytes::from(snappy::compress(&body)));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = self.url.clone();
            *request.headers_mut() = self.headers.clone();
            match self.client.send(request, self.timeout).await {
                Ok(answer) if is_replayed && is_known(&answer) => SendResult::Replayed,
                Ok(answer) => read_answer(&answer),
                Err(error) => not_answered(&error),
            }
        })
    }
}

/// Whether Prometheus refuses what it has a later sample of.
fn is_known(answer: &Answer) -> bool {
    let says = |text| answer.excerpt().contains(text);
    answer.status == StatusCode::BAD_REQUEST && (says("out of order sample") || says("duplicate sample"))
}

fn read_answer(answer: &Answer) -> SendResult {
    if answer.status.is_success() {
        return SendResult::Delivered { rejected: 0 };
    }
    let reason = format!("the endpoint answered {}: {}", answer.status, answer.excerpt());
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => SendResult::Retryable { after: answer.retry_after(), reason },
        status if status.is_server_error() => SendResult::Retryable { after: answer.retry_after(), reason },
        // Prometheus takes back a whole request for one sample that it does not like, such as one that a replay computes again.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::BAD_REQUEST => SendResult::Split { reason },
        _ => SendResult::Permanent { reason },
    }
}

/// The samples that wait for one exporter. As a log its positions count samples, and its frames are `WriteRequest`s, one a stamp: should
/// Prometheus refuse what is older than what it has, the rest gets through.
#[derive(Clone)]
pub(super) struct Waiting(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    external_labels: BTreeMap<String, String>,
    samples_max: usize,
    metrics: QueueMetrics,
}

#[derive(Default)]
struct State {
    samples: VecDeque<Sample>,
    /// Position of the first of them.
    oldest: u64,
    /// Latest stamp of each series in milliseconds.
    latest: HashMap<Labels, i64>,
    lost: u64,
}

impl Waiting {
    pub(super) fn new(config: &Config, metrics: QueueMetrics) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            progress: watch::Sender::default(),
            external_labels: config.external_labels.clone(),
            samples_max: config.samples_max.max(1),
            metrics,
        }))
    }

    fn push(&self, sample: Sample) {
        let mut state = self.state();
        if !state.goes_forward(&sample) {
            self.lose(&mut state, 1);
            return;
        }
        state.samples.push_back(sample);
        let over = state.samples.len().saturating_sub(self.0.samples_max);
        state.samples.drain(..over);
        state.oldest += over as u64;
        self.lose(&mut state, over as u64);
        self.0.metrics.waiting.set(state.samples.len() as i64);
        self.0.metrics.series.set(state.latest.len() as i64);
        let end = Position(state.oldest + state.samples.len() as u64);
        drop(state);
        self.0.progress.send_modify(|progress| (progress.appended, progress.durable) = (end, end));
    }

    fn lose(&self, state: &mut State, samples: u64) {
        state.lost += samples;
        self.0.metrics.lost.inc_by(samples);
    }

    /// The samples as a `WriteRequest`, by series.
    fn encode(&self, samples: &[&Sample]) -> Bytes {
        let mut series: BTreeMap<&Labels, Vec<WireSample>> = BTreeMap::new();
        for sample in samples {
            let wire = WireSample { timestamp_ms: sample.time.millis(), value: sample.value };
            series.entry(&sample.labels).or_default().push(wire);
        }
        let mut body = Vec::new();
        for (labels, samples) in series {
            let mut pairs: BTreeMap<&str, &str> =
                self.0.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            pairs.extend(labels.iter());
            put_time_series(&mut body, pairs, samples);
        }
        body.into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a sample is later than its series' last, to the millisecond: Prometheus would refuse it otherwise.
    fn goes_forward(&mut self, sample: &Sample) -> bool {
        let stamp = sample.time.millis();
        if self.latest.get(&sample.labels).is_some_and(|latest| *latest >= stamp) {
            return false;
        }
        if self.latest.len() >= SERIES_MAX {
            self.latest.clear();
        }
        self.latest.insert(sample.labels.clone(), stamp);
        true
    }
}

impl Log for Waiting {
    /// Samples come by [`Samples::send`].
    fn append(&self, _: NewFrame) -> BoxFuture<Result<Position, AppendError>> {
        Box::pin(std::future::ready(Err(AppendError::Closed)))
    }

    /// The last sample's time.
    fn now(&self) -> watchbell_rules::time::Timestamp {
        self.state().samples.back().map_or(watchbell_rules::time::Timestamp::MIN, |sample| sample.time)
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    fn oldest(&self) -> Position {
        Position(self.state().oldest)
    }

    fn read(&self, from: Position, _: usize) -> std::io::Result<Vec<Frame>> {
        let state = self.state();
        let position = from.0.max(state.oldest);
        let samples: Vec<&Sample> =
            state.samples.iter().skip((position - state.oldest) as usize).take(SAMPLES_PER_REQUEST_MAX).collect();
        let mut next = position;
        let frame = |samples: &[&Sample]| {
            let position = next;
            next += samples.len() as u64;
            Frame {
                position: Position(position),
                next: Position(next),
                kind: FrameKind::Batch,
                received: samples[0].time,
                ahead: Duration::ZERO,
                hash: 0,
                event_span: None,
                records: samples.len() as u32,
                payload: self.encode(samples),
            }
        };
        Ok(samples.chunk_by(|a, b| a.time.millis() == b.time.millis()).map(frame).collect())
    }

    fn cursor(&self, _: &str) -> std::io::Result<Box<dyn Cursor>> {
        Ok(Box::new(WaitingCursor(self.clone())))
    }
}

/// Forgets what is delivered.
struct WaitingCursor(Waiting);

impl Cursor for WaitingCursor {
    fn position(&self) -> Position {
        self.0.oldest()
    }

    fn commit(&mut self, position: Position) -> std::io::Result<()> {
        let mut state = self.0.state();
        let done = position.0.saturating_sub(state.oldest).min(state.samples.len() as u64);
        state.samples.drain(..done as usize);
        state.oldest += done;
        self.0.0.metrics.waiting.set(state.samples.len() as i64);
        Ok(())
    }

    fn lost(&self) -> u64 {
        self.0.state().lost
    }
}

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
/// As many as Prometheus itself sends at a time.
const SAMPLES_PER_REQUEST_MAX: usize = 2000;
/// Series whose last stamp is remembered; at the limit all are forgotten, and Prometheus itself refuses what goes back.
const SERIES_MAX: usize = 100_000;
