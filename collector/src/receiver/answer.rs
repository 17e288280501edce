//! What a request is answered, in the terms of both protocols.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use watchbell_proto::otlp::Signal;
use watchbell_proto::otlp::service::{ExportResponse, Status};

use super::decompress::Encoding;
use crate::grpc_code::Code;

/// The batch is on disk, or there was nothing in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Records taken.
    pub(super) records: u64,
    /// Records cut out, with the reason.
    pub(super) rejected: Option<(u64, String)>,
    /// Whether the batch was taken already and counts once.
    pub(super) duplicate: bool,
}

/// The batch is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It will never decode.
    Malformed(String),
    /// A push without a single entry, which Loki, too, refuses.
    NoEntries,
    /// The bearer token is missing or wrong.
    Unauthenticated,
    /// No such path or service.
    NotFound(String),
    /// OTLP is sent by POST.
    MethodNotAllowed,
    /// The body did not come in time.
    TimedOut,
    /// The client went away before its body was whole.
    Disconnected(String),
    /// The body, or what it decompresses to, is over the limit.
    TooLarge {
        bytes_max: usize,
    },
    UnsupportedMediaType(String),
    UnsupportedEncoding(String),
    /// The requests in flight hold all the memory they may have.
    MemoryFull,
    /// More waits to be written than may.
    LogFull,
    /// We are going down.
    Draining,
    /// The disk failed: whether the batch survives is unknown.
    LogFailed(String),
}

/// The content types of OTLP/HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

impl Accepted {
    /// What it is called in the metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match (&self.rejected, self.duplicate) {
            (_, true) => "duplicate",
            (Some(_), _) => "partial",
            (None, _) => "accepted",
        }
    }

    pub(super) fn to_http(&self, signal: Signal, format: Format) -> Response<Body> {
        let body = match format {
            Format::Protobuf => self.response().to_protobuf().into(),
            Format::Json => self.response().to_json(signal).into(),
        };
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(CONTENT_TYPE, format.content_type());
        response
    }

    pub(super) fn to_grpc(&self) -> Response<Body> {
        grpc_message(&self.response().to_protobuf())
    }

    /// Where single entries were refused, Loki answers 400, and has taken the others.
    pub(super) fn to_loki(&self) -> Response<Body> {
        match &self.rejected {
            None => {
                let mut response = Response::new(Body::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Some((rejected, reason)) => {
                text(StatusCode::BAD_REQUEST, &format!("{rejected} entries were refused, the others taken: {reason}"))
            }
        }
    }

    fn response(&self) -> ExportResponse {
        match &self.rejected {
            None => ExportResponse::success(),
            Some((rejected, reason)) => ExportResponse::partial(*rejected, reason),
        }
    }
}

impl Refusal {
    /// What it is called in the metrics.
    pub(super) fn reason(&self) -> &'static str {
        self.terms().2
    }

    pub(super) fn to_http(&self, format: Format) -> Response<Body> {
        let status = self.status();
        let body = match format {
            Format::Protobuf => status.to_protobuf().into(),
            Format::Json => status.to_json().into(),
        };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = self.terms().0;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, format.content_type());
        match self {
            Self::Unauthenticated => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Self::MethodNotAllowed => headers.insert(ALLOW, HeaderValue::from_static("POST")),
            Self::UnsupportedEncoding(_) => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(Encoding::ACCEPTED))
            }
            _ => self.retry_after().and_then(|after| headers.insert(RETRY_AFTER, after.as_secs().max(1).into())),
        };
        response
    }

    /// As plain text.
    pub(super) fn to_loki(&self) -> Response<Body> {
        let (status, message) = match self {
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "logs are pushed by POST".to_owned()),
            Self::UnsupportedEncoding(got) => {
                let message = format!("encoding `{got}` is not understood: send snappy, gzip, deflate or zstd");
                (StatusCode::BAD_REQUEST, message)
            }
            other => (other.terms().0, other.message()),
        };
        let mut response = text(status, &message);
        let headers = response.headers_mut();
        match self {
            Self::Unauthenticated => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::MethodNotAllowed => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            _ => drop(self.retry_after().map(|after| headers.insert(RETRY_AFTER, after.as_secs().max(1).into()))),
        }
        response
    }

    /// Trailers alone, which HTTP/2 sends as its only headers.
    pub(super) fn to_grpc(&self) -> Response<Body> {
        let status = self.status();
        let mut response = Response::new(Body::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(GRPC_STATUS, status.code.into());
        headers.insert(GRPC_MESSAGE, percent_encoded(&status.message));
        if let Ok(details) = HeaderValue::try_from(STANDARD_NO_PAD.encode(status.to_protobuf())) {
            headers.insert(GRPC_STATUS_DETAILS, details);
        }
        if matches!(self, Self::UnsupportedEncoding(_)) {
            headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(Encoding::ACCEPTED));
        }
        response
    }

    fn status(&self) -> Status {
        let status = Status::new(self.terms().1 as i32, self.message());
        match self.retry_after() {
            Some(delay) => status.with_retry_delay(delay),
            None => status,
        }
    }

    fn terms(&self) -> (StatusCode, Code, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "malformed"),
            Self::NoEntries => (StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidArgument, "no_entries"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated, "unauthenticated"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, Code::Unimplemented, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "method_not_allowed"),
            // Not 408: OTLP/HTTP clients try only 429, 502, 503 and 504 again.
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, Code::DeadlineExceeded, "timed_out"),
            Self::Disconnected(_) => (StatusCode::BAD_REQUEST, Code::Cancelled, "disconnected"),
            // gRPC calls both limits exhausted; without a `RetryInfo` nobody tries again.
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, "too_large"),
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "unsupported_media_type")
            }
            Self::UnsupportedEncoding(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "unsupported_encoding")
            }
            Self::MemoryFull => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "memory_full"),
            Self::LogFull => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "log_full"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "draining"),
            Self::LogFailed(_) => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "log_failed"),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Malformed(why) => why.clone(),
            Self::NoEntries => "the push has no entry".to_owned(),
            Self::Unauthenticated => "a bearer token is needed: send `Authorization: Bearer <token>`".to_owned(),
            Self::NotFound(path) => {
                format!("nothing is at `{path}`: OTLP is taken at /v1/logs, /v1/traces and /v1/metrics, and by gRPC")
            }
            Self::MethodNotAllowed => "OTLP is sent by POST".to_owned(),
            Self::TimedOut => "the body did not come in time".to_owned(),
            Self::Disconnected(why) => format!("the body ended early: {why}"),
            Self::TooLarge { bytes_max } => format!("the request is over {bytes_max} bytes: send smaller batches"),
            Self::UnsupportedMediaType(got) => {
                format!(
                    "content type `{got}` is not understood: send `Content-Type: application/json` or `application/x-protobuf`"
                )
            }
            Self::UnsupportedEncoding(got) => {
                format!("encoding `{got}` is not understood: send {}", Encoding::ACCEPTED)
            }
            Self::MemoryFull => {
                "requests in flight hold `receiver_bytes_in_flight_max`: send it again later".to_owned()
            }
            Self::LogFull => "the log is as far behind as it may be: send it again later".to_owned(),
            Self::Draining => "the collector is going down: send it again later, or elsewhere".to_owned(),
            Self::LogFailed(why) => format!("the log could not be written: {why}"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::MemoryFull | Self::LogFull | Self::Draining).then_some(RETRY_AFTER_FULL)
    }
}

impl Format {
    /// Reads `Content-Type`; parameters do not matter.
    pub(super) fn parse(header: Option<&HeaderValue>) -> Result<Self, Refusal> {
        let header = header.map_or("", |value| value.to_str().unwrap_or("?"));
        let essence = header.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-protobuf") {
            Ok(Self::Protobuf)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else {
            Err(Refusal::UnsupportedMediaType(header.to_owned()))
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }
}

/// A line of plain text.
fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(format!("{message}\n").into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer of one gRPC message that ends well.
pub(super) fn grpc_message(message: &[u8]) -> Response<Body> {
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut response = Response::new(Body { data: Some(framed.into()), trailers: Some(trailers) });
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A body of one piece, and trailers where gRPC wants them.
#[derive(Debug, Default)]
pub(super) struct Body {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body {
    fn new(data: Bytes) -> Self {
        Self { data: Some(data).filter(|data| !data.is_empty()), trailers: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = self.data.take().map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

/// How long a client is asked to wait when we are full: group commits take milliseconds, so a second empties any queue that can be emptied.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// As gRPC writes a message into a header: printable ASCII but `%` stays.
fn percent_encoded(message: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
}
