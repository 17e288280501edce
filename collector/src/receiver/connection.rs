//! Connections to a port, and what a call has in common in both protocols.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use watchbell_proto::otlp::{self, Signal};

use super::answer::{Accepted, Body, Refusal};
use super::decompress::Encoding;
use super::keys::PortKeys;
use super::memory::Hold;
use super::metrics::{Outcome, Reason, Source};
use super::{Intake, grpc, http as otlp_http, off_the_event_loop};

/// What all connections to one port share.
pub(super) struct Port {
    pub(super) intake: Arc<Intake>,
    pub(super) keys: Arc<PortKeys>,
    pub(super) bytes_max: usize,
}

/// Answers on the port until told to stop, then finishes the requests that are there.
pub(super) async fn serve(listener: TcpListener, port: Arc<Port>, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(port.intake.limits.receiver_connections_max));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (port, tls, watcher) = (port.clone(), port.keys.get().tls, graceful.watcher());
                tokio::spawn(async move {
                    let connections = port.intake.metrics.connections.clone();
                    connections.inc();
                    connect(stream, tls, port, watcher).await;
                    connections.dec();
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: others must close before another try is worth it.
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn connect(stream: TcpStream, tls: Option<TlsAcceptor>, port: Arc<Port>, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => converse(stream, port, watcher).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, port, watcher).await,
            Ok(Err(error)) => tracing::debug!("TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
        },
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, port: Arc<Port>, watcher: Watcher) {
    let (begun, mut has_begun) = watch::channel(false);
    let service = service_fn(move |request| {
        begun.send_replace(true);
        let port = port.clone();
        async move {
            let is_grpc = grpc::is_grpc(request.headers());
            Ok::<http::Response<Body>, Infallible>(match is_grpc {
                true => grpc::answer(&port, request).await,
                false => otlp_http::answer(&port, request).await,
            })
        }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let silence = async {
        // hyper has no deadline before it knows which HTTP is spoken.
        let has_begun = tokio::time::timeout(IDLE_TIMEOUT, has_begun.wait_for(|begun| *begun)).await.is_ok();
        if has_begun {
            std::future::pending().await
        }
        tracing::debug!("connection closed: no request within {IDLE_TIMEOUT:?}");
    };
    tokio::select! {
        ended = watcher.watch(connection) => {
            if let Err(error) = ended {
                tracing::debug!("connection ended: {error}");
            }
        }
        () = silence => {}
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

impl Port {
    /// Whether a request with these headers may go on.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.keys.get().token.is_some_and(|token| !token.admits(headers)) {
            return Err(Refusal::Unauthenticated);
        }
        if self.is_draining() { Err(Refusal::Draining) } else { Ok(()) }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.intake.state.borrow().draining
    }

    /// Begins to account for a request.
    pub(super) fn call(&self, transport: Transport, version: http::Version, signal: Option<Signal>) -> Call {
        let (signal, transport) = (signal.map_or("unknown", Signal::name), transport.name());
        Call {
            source: Source { signal, transport },
            intake: self.intake.clone(),
            hold: self.intake.memory.hold(),
            started: self.intake.clock.monotonic(),
            version,
        }
    }
}

/// Which protocol a request came by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport {
    Grpc,
    Http,
    /// By Loki's push API.
    Loki,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Loki => "loki",
        }
    }
}

/// A body as it comes in.
pub(super) trait RequestBody: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin {}

impl<B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin> RequestBody for B {}

/// One request: its memory until it is answered, and its figures.
pub(super) struct Call {
    source: Source,
    intake: Arc<Intake>,
    pub(super) hold: Hold,
    started: Duration,
    version: http::Version,
}

impl Call {
    /// Reads a body of at most `bytes_max`. One that comes in a single piece is not copied.
    pub(super) async fn read<B: RequestBody>(&mut self, mut body: B, bytes_max: usize) -> Result<Bytes, Refusal> {
        if body.size_hint().lower() > bytes_max as u64 {
            self.discard(body).await;
            return Err(Refusal::TooLarge { bytes_max });
        }
        let read = tokio::time::timeout(BODY_TIMEOUT, self.read_pieces(&mut body, bytes_max)).await;
        let outcome = read.unwrap_or(Err(Refusal::TimedOut));
        if matches!(outcome, Err(Refusal::TooLarge { .. } | Refusal::MemoryFull)) {
            self.discard(body).await;
        }
        outcome
    }

    async fn read_pieces(&mut self, body: &mut impl RequestBody, bytes_max: usize) -> Result<Bytes, Refusal> {
        let bytes_counter = self.intake.metrics.bytes.get_or_create_owned(&self.source);
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::Disconnected(error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            bytes_counter.inc_by(piece.len() as u64);
            if whole.len() + piece.len() > bytes_max {
                return Err(Refusal::TooLarge { bytes_max });
            }
            self.hold.grow(piece.len())?;
            if whole.is_empty() {
                if body.is_end_stream() {
                    return Ok(piece);
                }
                whole.reserve(expected_bytes(&piece, body).min(RESERVE_BYTES_MAX));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// Reads what is left of a refused request over HTTP/1 and throws it away: a client that is still writing would otherwise see
    /// its connection reset, not our answer.
    pub(super) async fn discard(&self, mut body: impl RequestBody) {
        if self.version >= http::Version::HTTP_2 {
            return; // a stream can be ended without harm to its connection
        }
        let mut left = DISCARD_BYTES_MAX;
        let all = async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
    }

    pub(super) fn decompress(&mut self, encoding: Encoding, body: Bytes, bytes_max: usize) -> Result<Bytes, Refusal> {
        if encoding == Encoding::Identity && body.len() > bytes_max {
            return Err(Refusal::TooLarge { bytes_max });
        }
        let decompressed_bytes = body.len().saturating_mul(GUESSED_RATIO);
        off_the_event_loop(decompressed_bytes, || encoding.decompress(body, bytes_max, &mut self.hold))
    }

    /// Turns OTLP/JSON into the protobuf bytes of the same request.
    pub(super) fn transcode(&mut self, signal: Signal, json: &[u8], bytes_max: usize) -> Result<Bytes, Refusal> {
        // Short numbers become eight bytes each: the same request may be longer in protobuf, but mostly it is not.
        self.hold.grow(json.len())?;
        let request =
            off_the_event_loop(json.len(), || otlp::json::to_protobuf(signal, json, bytes_max)).map_err(|error| {
                match error.is_too_large {
                    true => Refusal::TooLarge { bytes_max },
                    false => Refusal::Malformed(error.to_string()),
                }
            })?;
        self.hold.grow(request.len().saturating_sub(json.len()))?;
        Ok(request.into())
    }

    /// Counts how the request ended.
    pub(super) fn finish(&self, outcome: &Result<Accepted, Refusal>) {
        let metrics = &self.intake.metrics;
        let Source { signal, transport } = self.source;
        let name = outcome.as_ref().map_or("refused", Accepted::outcome);
        metrics.requests.get_or_create(&Outcome { signal, transport, outcome: name }).inc();
        match outcome {
            Ok(accepted) => {
                let outcome = if accepted.duplicate { "duplicate" } else { "accepted" };
                metrics.records.get_or_create(&Outcome { signal, transport, outcome }).inc_by(accepted.records);
                if let Some((rejected, _)) = accepted.rejected {
                    metrics.records.get_or_create(&Outcome { signal, transport, outcome: "rejected" }).inc_by(rejected);
                }
            }
            Err(refusal) => {
                let reason = refusal.reason();
                metrics.refused.get_or_create(&Reason { signal, transport, reason }).inc();
            }
        }
        let took = self.intake.clock.monotonic().saturating_sub(self.started);
        metrics.duration.get_or_create(&self.source).observe(took.as_secs_f64());
    }
}

/// How long a body will be, from its headers or, for gRPC, which has no such header, from its first bytes.
fn expected_bytes(first: &[u8], rest: &impl RequestBody) -> usize {
    let hinted = first.len() + usize::try_from(rest.size_hint().lower()).unwrap_or(0);
    match *first {
        [0 | 1, a, b, c, d, ..] if hinted == first.len() => 5 + u32::from_be_bytes([a, b, c, d]) as usize,
        _ => hinted,
    }
}

/// What an HTTP/2 client may send on one stream before we read: a batch of a thousand records in one go.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// The largest HTTP/2 frame: fewer, larger pieces cost less, but each connection may hold one that is not yet accounted for.
const FRAME_BYTES_MAX: u32 = 128 << 10;
/// Calls at one time on one HTTP/2 connection; a client waits for an answer before it sends more.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Headers of one HTTP/2 request; a client with more is refused by the connection.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Set aside on a client's word for a body that has not yet come.
const RESERVE_BYTES_MAX: usize = 1 << 20;
/// Logs compress about so well; only where to decompress depends on it.
const GUESSED_RATIO: usize = 8;
/// What is read of a refused body before the connection is closed all the same.
const DISCARD_BYTES_MAX: usize = 128 << 20;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection waits for its first request, and one of HTTP/1 for each: longer than the minute after which clients send metrics.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a body may take to come in; until then it holds memory.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
