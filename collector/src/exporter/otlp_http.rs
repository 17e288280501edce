//! OTLP/HTTP onward, in protobuf: the log's bytes as they are, for any OTLP backend, Loki's and Prometheus's endpoints among them.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use watchbell_proto::otlp::Signal;
use watchbell_proto::otlp::service::{ExportResponse, Status};

use super::compression::Compression;
use super::headers::Headers;
use super::queue::{self, Request, SendResult};
use super::{Sender, SignalName, queue::RetryConfig};
use crate::config::duration;
use crate::http_client::{Answer, HttpClient, Protocol, SendError, TlsConfig};
use crate::wal::BoxFuture;

/// An `otlp_http` exporter, as the OpenTelemetry Collector spells it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OtlpHttpConfig")]
pub struct Config {
    /// The URL before `/v1/logs` and the like: `http://tempo:4318`, `http://loki:3100/otlp`, `http://prometheus:9090/api/v1/otlp`.
    pub endpoint: Option<String>,
    /// The whole URL for logs, in place of `endpoint` and its path.
    #[serde(default)]
    pub logs_endpoint: Option<String>,
    /// The whole URL for traces.
    #[serde(default)]
    pub traces_endpoint: Option<String>,
    /// The whole URL for metrics.
    #[serde(default)]
    pub metrics_endpoint: Option<String>,
    /// What is sent. Default all.
    #[serde(default = "SignalName::all")]
    pub signals: Vec<SignalName>,
    /// Sent with each request.
    #[serde(default)]
    pub headers: Headers,
    /// Certificates.
    #[serde(default)]
    pub tls: TlsConfig,
    /// How long one request may take. Default 30 s.
    #[serde(default = "default_timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// Default gzip.
    #[serde(default)]
    pub compression: Compression,
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
    /// Settings for that endpoint, all else by default.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: Some(endpoint.into()),
            logs_endpoint: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            signals: SignalName::all(),
            headers: Headers::default(),
            tls: TlsConfig::default(),
            timeout: default_timeout(),
            compression: Compression::default(),
            retry_on_failure: RetryConfig::default(),
            sending_queue: queue::Config::default(),
        }
    }

    fn url(&self, signal: Signal) -> Result<Uri, String> {
        let whole = match signal {
            Signal::Logs => &self.logs_endpoint,
            Signal::Traces => &self.traces_endpoint,
            Signal::Metrics => &self.metrics_endpoint,
        };
        let url = match (whole, &self.endpoint) {
            (Some(whole), _) => whole.clone(),
            (None, Some(endpoint)) => format!("{}/v1/{}", endpoint.trim_end_matches('/'), signal.name()),
            (None, None) => return Err(format!("it needs `endpoint`, or `{}_endpoint`", signal.name())),
        };
        parse_url(&url)
    }
}

/// A URL that can be sent to.
pub(super) fn parse_url(url: &str) -> Result<Uri, String> {
    match url.parse::<Uri>() {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() => Ok(uri),
        _ => Err(format!("`{url}` is no URL: write `http://host:port` or `https://host:port`")),
    }
}

/// Sends one signal's requests.
pub(super) struct OtlpHttp {
    client: HttpClient,
    url: Uri,
    pub(super) headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
    signal: Signal,
    pub(super) read_answer: fn(&Answer, Signal) -> SendResult,
}

impl OtlpHttp {
    pub(super) fn new(config: &Config, signal: Signal) -> Result<Self, String> {
        let mut headers = config.headers.read()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if let Some(name) = config.compression.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        Ok(Self {
            client: HttpClient::new(&config.tls, Protocol::Any)?,
            url: config.url(signal)?,
            headers,
            compression: config.compression,
            timeout: config.timeout,
            signal,
            read_answer,
        })
    }
}

impl Sender for OtlpHttp {
    fn send(self: Arc<Self>, request: Request) -> BoxFuture<SendResult> {
        Box::pin(async move {
            let pieces = request.payloads.into_iter().map(|payload| payload.bytes).collect();
            let mut request = http::Request::post(self.url.clone()).body(self.compression.compress(pieces)).expect(
                "a URI that was parsed is a request's URI", // the only part that could be wrong
            );
            *request.headers_mut() = self.headers.clone();
            match self.client.send_pieces(request, self.timeout).await {
                Ok(answer) => (self.read_answer)(&answer, self.signal),
                Err(error) => not_answered(&error),
            }
        })
    }
}

/// No answer: the endpoint is down, or the network is.
pub(super) fn not_answered(error: &SendError) -> SendResult {
    SendResult::Retryable { after: None, reason: error.to_string() }
}

fn read_answer(answer: &Answer, signal: Signal) -> SendResult {
    if answer.status.is_success() {
        return delivered(export_response(answer, signal).unwrap_or_default());
    }
    let reason = format!("the endpoint answered {}: {}", answer.status, message(answer));
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => SendResult::Retryable { after: answer.retry_after(), reason },
        StatusCode::PAYLOAD_TOO_LARGE => SendResult::Split { reason },
        _ => SendResult::Permanent { reason },
    }
}

/// Reads what an endpoint says of a request that it took.
pub(super) fn delivered(response: ExportResponse) -> SendResult {
    let partial_success = response.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial_success.rejected).unwrap_or(0);
    if !partial_success.error_message.is_empty() {
        tracing::warn!("an endpoint took all but {rejected} records: {}", partial_success.error_message);
    }
    SendResult::Delivered { rejected }
}

/// Servers that are not strict about their bodies have taken the request all the same.
fn export_response(answer: &Answer, signal: Signal) -> Option<ExportResponse> {
    match is_json(answer) {
        true => ExportResponse::from_json(signal, &answer.body).ok(),
        false => ExportResponse::from_protobuf(&answer.body).ok(),
    }
}

/// What an endpoint says of a refusal.
pub(super) fn message(answer: &Answer) -> String {
    let status = (!is_json(answer)).then(|| Status::from_protobuf(&answer.body).ok()).flatten();
    status.map(|status| status.message).filter(|message| !message.is_empty()).unwrap_or_else(|| answer.excerpt())
}

fn is_json(answer: &Answer) -> bool {
    answer.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}
