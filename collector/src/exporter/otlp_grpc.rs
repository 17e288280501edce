//! OTLP/gRPC onward, spoken on HTTP/2 directly: five bytes before the log's own, and a status behind the answer.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use watchbell_proto::otlp::Signal;
use watchbell_proto::otlp::service::{ExportResponse, Status};

use super::compression::Compression;
use super::headers::Headers;
use super::otlp_http::{delivered, not_answered, parse_url};
use super::queue::{self, Request, RetryConfig, SendResult};
use super::{Sender, SignalName};
use crate::config::duration;
use crate::grpc_code::Code;
use crate::http_client::{Answer, HttpClient, Protocol, TlsConfig};
use crate::wal::BoxFuture;

/// An `otlp_grpc` exporter, as the OpenTelemetry Collector spells it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OtlpGrpcConfig")]
pub struct Config {
    /// `host:port`, which is spoken to with TLS unless `tls.insecure` is set, or a URL whose scheme says so.
    pub endpoint: String,
    /// What is sent. Default all.
    #[serde(default = "SignalName::all")]
    pub signals: Vec<SignalName>,
    /// Metadata of each call.
    #[serde(default)]
    pub headers: Headers,
    /// Certificates, or `insecure: true` for none.
    #[serde(default)]
    pub tls: TlsConfig,
    /// How long one call may take. Default 5 s.
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
    Duration::from_secs(5)
}

impl Config {
    /// Settings for that endpoint, all else by default.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
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
        let endpoint = self.endpoint.trim_end_matches('/');
        let scheme = if self.tls.insecure { "http://" } else { "https://" };
        let scheme = if endpoint.contains("://") { "" } else { scheme };
        let service = match signal {
            Signal::Logs => "logs.v1.LogsService",
            Signal::Traces => "trace.v1.TraceService",
            Signal::Metrics => "metrics.v1.MetricsService",
        };
        parse_url(&format!("{scheme}{endpoint}/opentelemetry.proto.collector.{service}/Export"))
            .map_err(|_| format!("`endpoint` `{}` is none: write `host:port`", self.endpoint))
    }
}

/// Sends one signal's requests.
pub(super) struct OtlpGrpc {
    client: HttpClient,
    url: Uri,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
}

impl OtlpGrpc {
    pub(super) fn new(config: &Config, signal: Signal) -> Result<Self, String> {
        let mut headers = config.headers.read()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let timeout = format!("{}m", config.timeout.as_millis().clamp(1, 99_999_999));
        headers.insert(GRPC_TIMEOUT, HeaderValue::try_from(timeout).map_err(|error| error.to_string())?);
        if let Some(name) = config.compression.name() {
            headers.insert(GRPC_ENCODING, HeaderValue::from_static(name));
        }
        Ok(Self {
            client: HttpClient::new(&config.tls, Protocol::Http2)?,
            url: config.url(signal)?,
            headers,
            compression: config.compression,
            timeout: config.timeout,
        })
    }
}

impl Sender for OtlpGrpc {
    fn send(self: Arc<Self>, request: Request) -> BoxFuture<SendResult> {
        Box::pin(async move {
            let pieces = request.payloads.into_iter().map(|payload| payload.bytes).collect();
            let message = framed(self.compression.compress(pieces), self.compression != Compression::None);
            let mut request = http::Request::post(self.url.clone()).body(message).expect(
                "a URI that was parsed is a request's URI", // the only part that could be wrong
            );
            *request.headers_mut() = self.headers.clone();
            match self.client.send_pieces(request, self.timeout).await {
                Ok(answer) => read_answer(&answer),
                Err(error) => not_answered(&error),
            }
        })
    }
}

/// The message behind gRPC's prefix.
fn framed(mut pieces: Vec<Bytes>, compressed: bool) -> Vec<Bytes> {
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    let mut prefix = BytesMut::with_capacity(5);
    prefix.put_u8(u8::from(compressed));
    prefix.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    pieces.insert(0, prefix.freeze());
    pieces
}

fn read_answer(answer: &Answer) -> SendResult {
    // An error comes in the headers alone, or behind the answer.
    let ends = if answer.trailers.contains_key(GRPC_STATUS) { &answer.trailers } else { &answer.headers };
    let Some(number) = ends.get(GRPC_STATUS).and_then(|value| value.to_str().ok()?.parse().ok()) else {
        return no_grpc(answer);
    };
    let code = Code::from_number(number);
    if code == Code::Ok {
        // Behind the prefix; an answer that cannot be read says nothing against the request.
        let response = answer.body.get(5..).and_then(|message| ExportResponse::from_protobuf(message).ok());
        return delivered(response.unwrap_or_default());
    }
    let message = ends.get(GRPC_MESSAGE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let message = message.unwrap_or_default();
    let after = details(ends).and_then(|status| status.retry_delay());
    let reason = format!("the endpoint answered {code:?}: {message}");
    match code {
        // Servers answer so what is over their message size, and there a smaller one may pass.
        Code::ResourceExhausted if after.is_none() => SendResult::Split { reason },
        Code::OutOfRange if message.contains("too large") => SendResult::Split { reason },
        Code::ResourceExhausted => SendResult::Retryable { after, reason },
        code if code.is_retryable() => SendResult::Retryable { after, reason },
        _ => SendResult::Permanent { reason },
    }
}

/// An answer by something that is no gRPC server, such as a proxy before one; gRPC says what its statuses mean.
fn no_grpc(answer: &Answer) -> SendResult {
    let reason = format!("the endpoint answered {} and no gRPC: {}", answer.status, answer.excerpt());
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => SendResult::Retryable { after: answer.retry_after(), reason },
        _ => SendResult::Permanent { reason },
    }
}

fn details(ends: &HeaderMap) -> Option<Status> {
    let packed = BASE64.decode(ends.get(GRPC_STATUS_DETAILS)?.as_bytes()).ok()?;
    Status::from_protobuf(&packed).ok()
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
