//! Loki, by its OTLP endpoint (the log's bytes as they are) or by its push API, for Lokis without one and for what else speaks it. Both
//! give a record the same labels.
//!
//! Compared with Loki at its commit 65e30f8 of August 2026: what it shows of records that came by either way, and its answers. It takes
//! the rest of a request whose single entries it refuses, answers 400 and says so for the last one only. A request larger than its
//! `ingestion_burst_size_mb` it refuses for ever with 429: `sending_queue.request_bytes_max` must be smaller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use watchbell_proto::loki::{labels_text, put_entry, put_stream};
use watchbell_proto::otlp::Signal;
use watchbell_proto::otlp::common::KeyValue;
use watchbell_proto::otlp::logs::{LogRecord, LogsRequest, ScopeLogs};
use watchbell_proto::snappy;
use watchbell_rules::entry::LogEntry;
use watchbell_rules::otlp_labels::{LabelConfig, OtlpEntry, ResourceLabels, ScopeLabels};
use watchbell_rules::time::Timestamp;

use super::Sender;
use super::headers::Headers;
use super::otlp_http::{self, OtlpHttp, message, not_answered, parse_url};
use super::queue::{self, Payload, Request, RetryConfig, SendResult};
use crate::config::duration;
use crate::http_client::{Answer, HttpClient, Protocol, TlsConfig};
use crate::wal::BoxFuture;

/// A `loki` exporter. It sends logs and nothing else.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LokiExporterConfig")]
pub struct Config {
    /// Loki's URL. With the path `/otlp` its OTLP endpoint is used, with `/loki/api/v1/push` or none its push API.
    pub endpoint: String,
    /// Sent as `X-Scope-OrgID`, where Loki has tenants.
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// Sent with each request.
    #[serde(default)]
    pub headers: Headers,
    /// Certificates.
    #[serde(default)]
    pub tls: TlsConfig,
    /// How long one request may take. Default 30 s.
    #[serde(default = "default_timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// Which resource attributes become index labels, by the push API; Loki's own list by default. The OTLP endpoint has Loki's settings.
    #[serde(default)]
    pub labels: LabelConfig,
    /// When and how often what failed is sent again.
    #[serde(default)]
    pub retry_on_failure: RetryConfig,
    /// How much is under way.
    #[serde(default)]
    pub sending_queue: queue::Config,
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

impl Config {
    /// Makes what sends to that endpoint.
    pub(super) fn sender(&self) -> Result<Arc<dyn Sender>, String> {
        let mut headers = self.headers.read()?;
        if let Some(tenant) = &self.tenant_id {
            let tenant = HeaderValue::try_from(tenant).map_err(|_| format!("`tenant_id` `{tenant}` is no header"))?;
            headers.insert(TENANT, tenant);
        }
        let url = parse_url(self.endpoint.trim_end_matches('/'))?;
        match url.path() {
            "/" => {
                let url = format!("{}{PUSH_PATH}", self.endpoint.trim_end_matches('/'));
                Ok(Arc::new(self.push(&url, headers)?))
            }
            path if path.ends_with(PUSH_PATH) => Ok(Arc::new(self.push(&self.endpoint, headers)?)),
            path if path.ends_with("/otlp") => Ok(Arc::new(self.otlp(&format!("{url}/v1/logs"), headers)?)),
            path if path.ends_with("/otlp/v1/logs") => Ok(Arc::new(self.otlp(&self.endpoint, headers)?)),
            path => Err(format!("`endpoint` has the path `{path}`: write `/otlp` or `{PUSH_PATH}`")),
        }
    }

    fn push(&self, url: &str, mut headers: HeaderMap) -> Result<Push, String> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        let (client, url) = (HttpClient::new(&self.tls, Protocol::Any)?, parse_url(url)?);
        Ok(Push { client, url, headers, timeout: self.timeout, labels: self.labels.clone() })
    }

    fn otlp(&self, url: &str, headers: HeaderMap) -> Result<OtlpHttp, String> {
        let config = otlp_http::Config {
            logs_endpoint: Some(url.to_owned()),
            tls: self.tls.clone(),
            timeout: self.timeout,
            ..otlp_http::Config::new(url)
        };
        let mut sender = OtlpHttp::new(&config, Signal::Logs)?;
        sender.headers.extend(headers);
        sender.read_answer = |answer, _| read_answer(answer);
        Ok(sender)
    }
}

/// Sends by the push API.
struct Push {
    client: HttpClient,
    url: Uri,
    headers: HeaderMap,
    timeout: Duration,
    labels: LabelConfig,
}

impl Sender for Push {
    fn send(self: Arc<Self>, request: Request) -> BoxFuture<SendResult> {
        Box::pin(async move {
            let mut waiting = vec![Streams::read(&request.payloads, &self.labels)];
            let (mut rejected, mut partly_refused) = (0, None);
            while let Some(streams) = waiting.pop() {
                match self.push(&streams).await {
                    SendResult::Delivered { .. } => {}
                    SendResult::PartlyRefused { reason } => partly_refused = Some(reason),
                    // What was delivered of it comes again with the rest: Loki takes an entry that it has as one.
                    SendResult::Split { .. } if streams.entries() > 1 => waiting.extend(streams.halves()),
                    SendResult::Split { .. } => rejected += 1,
                    other => return other,
                }
            }
            partly_refused.map_or(SendResult::Delivered { rejected }, |reason| SendResult::PartlyRefused { reason })
        })
    }
}

impl Push {
    async fn push(&self, streams: &Streams) -> SendResult {
        if streams.entries() == 0 {
            return SendResult::Delivered { rejected: 0 };
        }
        let body = Bytes::from(snappy::compress(&streams.encode()));
        let mut request = http::Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        match self.client.send(request, self.timeout).await {
            Ok(answer) => read_answer(&answer),
            Err(error) => not_answered(&error),
        }
    }
}

fn read_answer(answer: &Answer) -> SendResult {
    if answer.status.is_success() {
        return SendResult::Delivered { rejected: 0 };
    }
    let message = message(answer);
    let reason = format!("Loki answered {}: {message}", answer.status);
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => SendResult::Retryable { after: answer.retry_after(), reason },
        status if status.is_server_error() => SendResult::Retryable { after: answer.retry_after(), reason },
        StatusCode::PAYLOAD_TOO_LARGE => SendResult::Split { reason },
        StatusCode::BAD_REQUEST if ENTRY_ERRORS.iter().any(|error| message.contains(error)) => {
            SendResult::PartlyRefused { reason }
        }
        // It took nothing for one record that it cannot read, such as one with a name of which no label can be made.
        StatusCode::BAD_REQUEST => SendResult::Split { reason },
        _ => SendResult::Permanent { reason },
    }
}

/// What Loki says where it refuses single entries or streams, such as too old ones; it has taken the others and does not say how many.
const ENTRY_ERRORS: &[&str] = &[
    "ignored, reason:",
    "has timestamp too ",
    "max entry size ",
    " structured metadata",
    " label names; limit ",
    " has label name too long",
    " has label value too long",
    " has duplicate label name",
    "at least one label pair is required",
    "missing required labels",
    "error parsing labels",
];

/// Entries by their stream's labels, encoded one by one.
#[derive(Debug, Default, PartialEq)]
struct Streams(BTreeMap<String, Vec<(i64, Vec<u8>)>>);

impl Streams {
    /// The records of OTLP requests; one without any time is stamped as it was received, so that it is the same entry when it is sent again.
    fn read(payloads: &[Payload], labels: &LabelConfig) -> Self {
        let mut streams = Self::default();
        for payload in payloads {
            for resource_logs in LogsRequest::new(&payload.bytes).resource_logs() {
                let resource = ResourceLabels::of(&resource_logs, labels);
                let scopes = resource_logs.scope_logs();
                scopes.for_each(|scope_logs| streams.add_all(&resource, scope_logs, payload.received));
            }
        }
        streams.0.values_mut().for_each(|entries| entries.sort_by_key(|(time, _)| *time));
        streams
    }

    fn add_all(&mut self, resource: &ResourceLabels, scope_logs: ScopeLogs<'_>, received: Timestamp) {
        let scope = &ScopeLabels::new(scope_logs.scope());
        for record in scope_logs.log_records() {
            let attributes: &[KeyValue<'_>] = &record.attributes().collect::<Vec<_>>();
            self.add(&OtlpEntry { resource, scope, record, attributes }, received);
        }
    }

    fn add(&mut self, entry: &OtlpEntry<'_, '_>, received: Timestamp) {
        let (mut index, mut metadata) = (Vec::new(), Vec::new());
        entry.for_each_label(&mut |name, value| {
            let into = if entry.index_label(name).is_some() && index.len() < INDEX_LABELS_MAX {
                &mut index
            } else {
                &mut metadata
            };
            into.push((name.to_owned(), value.to_owned()));
        });
        index.sort();
        let time = time_of(&entry.record, received);
        let mut encoded = Vec::new();
        put_entry(&mut encoded, time, &entry.line(), pairs(&metadata));
        self.0.entry(labels_text(pairs(&index))).or_default().push((time, encoded));
    }

    fn entries(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (labels, entries) in &self.0 {
            put_stream(&mut body, labels, |body| entries.iter().for_each(|(_, entry)| body.extend_from_slice(entry)));
        }
        body
    }

    /// The same in two, the earlier half of all entries last, for that is sent first.
    fn halves(mut self) -> [Self; 2] {
        let mut left = self.entries() / 2;
        let mut second = Self::default();
        for (labels, entries) in &mut self.0 {
            let rest = entries.split_off(left.min(entries.len()));
            left -= entries.len();
            if !rest.is_empty() {
                second.0.insert(labels.clone(), rest);
            }
        }
        self.0.retain(|_, entries| !entries.is_empty());
        [second, self]
    }
}

fn pairs(labels: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// The time that Loki would give a record.
fn time_of(record: &LogRecord<'_>, received: Timestamp) -> i64 {
    let stamps = [record.time_unix_nano, record.observed_time_unix_nano];
    let stamp = stamps.into_iter().find(|stamp| *stamp != 0);
    stamp.map_or(received.nanos(), |stamp| i64::try_from(stamp).unwrap_or(i64::MAX))
}

const PUSH_PATH: &str = "/loki/api/v1/push";
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");
/// Loki refuses streams with more labels (`max_label_names_per_series`); what is over becomes structured metadata.
const INDEX_LABELS_MAX: usize = 15;
