//! One HTTP client for both protocols: OTLP/gRPC is a POST over HTTP/2 with five bytes before the message and a status in the trailers.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "gzip")]
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::answer::Answer;
#[cfg(feature = "http-json")]
use super::json;
use crate::config::{Compression, Export, Protocol, Signal};
use crate::encode::ErrorChain;
use crate::tls::{self, Connector};

/// Most bytes of an answer that are read (64 KiB); a longer one counts as none.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// After how long without a sign of life during a request a gRPC connection is asked for one, and how long that is waited for (10 s): else
/// requests would go on to time out on a connection whose other end is gone.
#[cfg(feature = "grpc")]
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Sends requests to one endpoint.
pub(super) struct Transport {
    #[cfg(feature = "http-json")]
    signal: Signal,
    client: Client<Connector, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    protocol: Protocol,
    compression: Compression,
    timeout: Duration,
    export_timeout: Option<Duration>,
}

impl Transport {
    /// `Err` where the system's certificates cannot be read.
    #[cfg_attr(not(feature = "http-json"), expect(unused_variables))]
    pub(super) fn new(signal: Signal, export: Export) -> Result<Self, String> {
        let Export { uri, protocol, mut headers, tls, compression, timeout, export_timeout, .. } = export;
        let compressed = compression != Compression::None;
        for (name, value) in static_headers(protocol, compressed) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut client = Client::builder(TokioExecutor::new());
        client.timer(TokioTimer::new());
        #[cfg(feature = "grpc")]
        client
            .http2_only(protocol == Protocol::Grpc)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE);
        let client = client.build(tls.connector(&uri, http_connector(timeout), protocol)?);
        Ok(Self {
            #[cfg(feature = "http-json")]
            signal,
            client,
            uri,
            headers,
            protocol,
            compression,
            timeout,
            export_timeout,
        })
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// How long a message is tried altogether, if not until the shutdown.
    pub(super) fn export_timeout(&self) -> Option<Duration> {
        self.export_timeout
    }

    /// Sends a body once.
    pub(super) async fn send(&self, body: Bytes) -> Answer {
        match tokio::time::timeout(self.timeout, self.exchange(body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => Answer::unreachable(reason),
            Err(_) => Answer::unreachable(format!("no answer within {:?}", self.timeout)),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<Answer, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = self.client.request(request).await.map_err(|error| reason(&error))?;
        self.answer(response).await
    }

    async fn answer(&self, response: Response<Incoming>) -> Result<Answer, String> {
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body,
            // The status says it all, but for the status of gRPC, which comes after the body.
            Err(_) if self.protocol != Protocol::Grpc || !head.status.is_success() => {
                return Ok(Answer::of_http(head.status, &head.headers, &[]));
            }
            Err(error) => return Err(reason(&*error)),
        };
        let trailers = body.trailers().cloned().unwrap_or_default();
        let bytes = body.to_bytes();
        Ok(match self.protocol {
            Protocol::HttpProtobuf => Answer::of_http(head.status, &head.headers, &bytes),
            #[cfg(feature = "http-json")]
            Protocol::HttpJson => {
                Answer::of_http(head.status, &head.headers, &json::answer(self.signal, head.status, &bytes))
            }
            Protocol::Grpc if !head.status.is_success() => Answer::of_http(head.status, &head.headers, &[]),
            Protocol::Grpc => {
                let status = if head.headers.contains_key("grpc-status") { &head.headers } else { &trailers };
                Answer::of_grpc(status, bytes.get(GRPC_HEAD_BYTES..).unwrap_or_default())
            }
        })
    }

    /// The body of a request with this message: compressed, and framed for gRPC.
    pub(super) fn body(&self, message: Bytes) -> Bytes {
        #[cfg(feature = "http-json")]
        let message = match self.protocol {
            Protocol::HttpJson => json::request(self.signal, &message),
            Protocol::HttpProtobuf | Protocol::Grpc => message,
        };
        let message = match self.compression {
            Compression::None => message,
            #[cfg(feature = "gzip")]
            Compression::Gzip => gzip(&message),
        };
        match self.protocol {
            Protocol::HttpProtobuf => message,
            #[cfg(feature = "http-json")]
            Protocol::HttpJson => message,
            Protocol::Grpc => {
                let mut framed = Vec::with_capacity(GRPC_HEAD_BYTES + message.len());
                framed.push(u8::from(self.compression != Compression::None));
                framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
                framed.extend_from_slice(&message);
                framed.into()
            }
        }
    }
}

/// A flag for compression, then the message's length.
const GRPC_HEAD_BYTES: usize = 5;

fn static_headers(protocol: Protocol, compressed: bool) -> Vec<(http::HeaderName, &'static str)> {
    let mut headers = vec![(USER_AGENT, concat!("watchbell-rust/", env!("CARGO_PKG_VERSION")))];
    match protocol {
        Protocol::Grpc => {
            headers.extend([(CONTENT_TYPE, "application/grpc"), (TE, "trailers")]);
            headers.extend(compressed.then_some((http::HeaderName::from_static("grpc-encoding"), "gzip")));
        }
        Protocol::HttpProtobuf => {
            headers.push((CONTENT_TYPE, "application/x-protobuf"));
            headers.extend(compressed.then_some((CONTENT_ENCODING, "gzip")));
        }
        #[cfg(feature = "http-json")]
        Protocol::HttpJson => {
            headers.push((CONTENT_TYPE, "application/json"));
            headers.extend(compressed.then_some((CONTENT_ENCODING, "gzip")));
        }
    }
    headers
}

fn http_connector(timeout: Duration) -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(timeout));
    http
}

#[cfg(feature = "gzip")]
fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = std::io::Write::write_all(&mut encoder, bytes);
    written.and_then(|()| encoder.finish()).expect("a vector takes all that is written").into()
}

/// An error and its sources: hyper's own message alone says little.
fn reason(error: &(dyn Error + 'static)) -> String {
    let chain = ErrorChain(error).to_string();
    match tls::hint(error) {
        Some(hint) => format!("{chain}; {hint}"),
        None => chain,
    }
}
