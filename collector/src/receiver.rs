//! OTLP in, by gRPC and HTTP, both on each port, and Loki's push API. A request is read within limits, checked whole, cut where single records are over a
//! limit, appended to its signal's log as protobuf bytes, and answered when these are on disk.

mod answer;
pub mod auth;
mod connection;
mod decompress;
mod grpc;
mod http;
mod keys;
mod loki;
mod memory;
mod metrics;
pub mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use watchbell_proto::otlp;
use watchbell_proto::otlp::Signal;
use watchbell_rules::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

pub use self::metrics::Metrics;

use self::answer::{Accepted, Refusal};
use self::connection::Port;
pub use self::keys::Keys;
use self::keys::PortKeys;
use self::memory::Memory;
use crate::clock::SharedClock;
use crate::dedup::Door;
use crate::wal::{AppendError, FrameKind, NewFrame};

/// `receivers:` of the config file.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Receivers")]
pub struct Config {
    /// The one receiver there is.
    pub otlp: OtlpConfig,
}

/// `receivers.otlp`.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// The ports.
    #[serde(deserialize_with = "or_default")]
    pub protocols: Protocols,
}

/// `receivers.otlp.protocols`. Where the block is there, a protocol that it does not name has no port, as in the OpenTelemetry
/// Collector; each port that there is speaks both protocols all the same.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Protocols {
    /// The port whose default is 4317.
    #[serde(default, deserialize_with = "present")]
    pub grpc: Option<GrpcConfig>,
    /// The port whose default is 4318.
    #[serde(default, deserialize_with = "present")]
    pub http: Option<HttpConfig>,
}

impl Default for Protocols {
    fn default() -> Self {
        Self { grpc: Some(GrpcConfig::default()), http: Some(HttpConfig::default()) }
    }
}

/// `receivers.otlp.protocols.grpc`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Where to listen, `host:port`. Default `127.0.0.1:4317`; port 0 takes a free one.
    pub endpoint: String,
    /// TLS; without it the port is in clear.
    pub tls: Option<tls::Config>,
    /// What clients must show; without it anyone may send.
    pub auth: Option<auth::Config>,
    /// The largest request in MiB, after decompression; a larger one is refused for good. Default 64.
    pub max_recv_msg_size_mib: usize,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:4317".to_owned(), tls: None, auth: None, max_recv_msg_size_mib: 64 }
    }
}

/// `receivers.otlp.protocols.http`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen, `host:port`. Default `127.0.0.1:4318`; port 0 takes a free one.
    pub endpoint: String,
    /// TLS; without it the port is in clear.
    pub tls: Option<tls::Config>,
    /// What clients must show; without it anyone may send.
    pub auth: Option<auth::Config>,
    /// The largest request in bytes, after decompression; a larger one is refused for good. Default 64 MiB.
    pub max_request_body_size: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:4318".to_owned(), tls: None, auth: None, max_request_body_size: 64 << 20 }
    }
}

/// The receiver's part of `limits:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest record, span or metric in bytes: larger ones are cut out of their request and told in `partial_success`; so are
    /// those of a larger resource or scope. Default 1 MiB.
    pub record_bytes_max: usize,
    /// The most attributes that a record may have: ones with more are cut out of their request. Default 512.
    pub attributes_per_record_max: usize,
    /// The most attributes that a resource or a scope may have: the records of one with more are cut out of their request.
    /// Default 512.
    pub attributes_per_resource_max: usize,
    /// Memory of all request bodies in flight, compressed and decompressed. At the limit requests are answered `429` or
    /// `RESOURCE_EXHAUSTED` and are to come again. Default 256 MiB.
    pub receiver_bytes_in_flight_max: usize,
    /// Connections to one port. At the limit new ones wait until another closes. Default 1024.
    #[serde(deserialize_with = "crate::config::range::positive")]
    pub receiver_connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes_max: 1 << 20,
            attributes_per_record_max: 512,
            attributes_per_resource_max: 512,
            receiver_bytes_in_flight_max: 256 << 20,
            receiver_connections_max: 1024,
        }
    }
}

/// One log a signal, each behind its check for copies.
#[derive(Clone)]
#[expect(missing_docs, reason = "they are the signals' names")]
pub struct Doors {
    pub logs: Door,
    pub traces: Door,
    pub metrics: Door,
}

impl Doors {
    /// The way to this signal's log.
    pub fn of(&self, signal: Signal) -> &Door {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }
}

/// The listening ports. Dropping it leaves them running until the process ends; call [`drain`](Self::drain).
pub struct Receiver {
    intake: Arc<Intake>,
    stop: watch::Sender<bool>,
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    push: Option<PushDoor>,
    servers: Vec<JoinHandle<()>>,
}

/// Takes requests of Loki's push API that came by another port than the receiver's own, with its limits and its token.
#[derive(Clone)]
pub struct PushDoor(Arc<Port>);

impl PushDoor {
    /// Answers when the request is durable.
    pub async fn answer<B>(
        &self,
        request: ::http::Request<B>,
    ) -> ::http::Response<impl http_body::Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + use<B>>
    where
        B: http_body::Body<Data = bytes::Bytes, Error: fmt::Display> + Unpin,
    {
        loki::answer(&self.0, request).await
    }
}

impl Receiver {
    /// Binds the ports and answers on them from now on.
    pub async fn start(
        config: &Config,
        keys: &Keys,
        limits: &Limits,
        doors: Doors,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let memory = Memory::new(limits.receiver_bytes_in_flight_max, metrics.bytes_in_flight.clone());
        let intake =
            Arc::new(Intake { doors, limits: *limits, memory, clock, metrics, state: watch::Sender::default() });
        let mut receiver =
            Self { intake, stop: watch::Sender::new(false), grpc: None, http: None, push: None, servers: Vec::new() };
        let protocols = &config.otlp.protocols;
        if let (Some(port), Some(keys)) = (&protocols.grpc, &keys.grpc) {
            let bytes_max = port.max_recv_msg_size_mib.saturating_mul(1 << 20);
            receiver.grpc = Some(receiver.listen(&port.endpoint, keys, bytes_max).await?);
        }
        if let (Some(port), Some(keys)) = (&protocols.http, &keys.http) {
            receiver.http = Some(receiver.listen(&port.endpoint, keys, port.max_request_body_size).await?);
        }
        Ok(receiver)
    }

    /// Where `protocols.grpc` listens.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where `protocols.http` listens.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What takes Loki's pushes as `protocols.http` does, or, where that is not there, `protocols.grpc`.
    pub fn push_door(&self) -> Option<PushDoor> {
        self.push.clone()
    }

    /// Goes down in order: refuses what comes from now on (`503`, `UNAVAILABLE`), waits for the batches that are being written,
    /// answers them, and closes the ports. What is not done by `deadline` is cut off.
    pub async fn drain(self, deadline: Duration) {
        self.intake.state.send_modify(|state| state.draining = true);
        let aborts: Vec<_> = self.servers.iter().map(JoinHandle::abort_handle).collect();
        let finish = async {
            let _ = self.intake.state.subscribe().wait_for(|state| state.appending == 0).await;
            self.stop.send_replace(true);
            for server in self.servers {
                let _ = server.await;
            }
        };
        if tokio::time::timeout(deadline, finish).await.is_err() {
            tracing::warn!("receivers were not drained within {deadline:?}, connections are cut off");
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }

    async fn listen(
        &mut self,
        endpoint: &str,
        keys: &Arc<PortKeys>,
        bytes_max: usize,
    ) -> Result<SocketAddr, StartError> {
        let bind_error = |error| StartError::Bind { endpoint: endpoint.to_owned(), error };
        let listener = bind(endpoint).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let port = Arc::new(Port { intake: self.intake.clone(), keys: keys.clone(), bytes_max });
        self.push = Some(PushDoor(port.clone()));
        self.servers.push(tokio::spawn(connection::serve(listener, port, self.stop.subscribe())));
        Ok(address)
    }
}

/// Why the receiver did not start.
#[derive(Debug)]
pub enum StartError {
    /// A file or a setting is wrong; the text says which.
    Config(String),
    /// The port could not be had.
    Bind {
        /// As configured.
        endpoint: String,
        /// The system's reason.
        error: std::io::Error,
    },
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => write!(f, "receivers.otlp: {why}"),
            Self::Bind { endpoint, error } => write!(f, "receivers.otlp: cannot listen on `{endpoint}`: {error}"),
        }
    }
}

/// The way of a request into its log, the same for all ports and protocols.
struct Intake {
    doors: Doors,
    limits: Limits,
    memory: Arc<Memory>,
    clock: SharedClock,
    metrics: Metrics,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    draining: bool,
    /// Batches that are handed to the log and not yet durable.
    appending: usize,
}

impl Intake {
    /// Takes an uncompressed protobuf request; ready when it is durable.
    async fn take(&self, signal: Signal, request: bytes::Bytes) -> Result<Accepted, Refusal> {
        let limits = otlp::Limits {
            record_bytes_max: self.limits.record_bytes_max,
            attributes_per_record_max: self.limits.attributes_per_record_max,
            attributes_per_resource_max: self.limits.attributes_per_resource_max,
        };
        let admitted = off_the_event_loop(request.len(), || otlp::admit(signal, request, &limits))
            .map_err(|error| Refusal::Malformed(format!("the request is no OTLP {}: {error}", signal.name())))?;
        let rejected =
            (admitted.cut.records() > 0).then(|| (admitted.cut.records(), admitted.cut.reason(signal, &limits)));
        let records = admitted.walked.records;
        let duplicate = records > 0 && self.append(signal, new_frame(admitted)).await?;
        Ok(Accepted { records, rejected, duplicate })
    }

    /// Ready when the frame is durable; tells whether it was already.
    async fn append(&self, signal: Signal, frame: NewFrame) -> Result<bool, Refusal> {
        let _appending = self.begin_append()?;
        self.doors.of(signal).append(frame).await.map(|appended| appended.duplicate).map_err(|error| match error {
            AppendError::Full => Refusal::LogFull,
            AppendError::Closed => Refusal::Draining,
            AppendError::Failed(why) => Refusal::LogFailed(why.to_string()),
            AppendError::TooLarge { bytes_max } => Refusal::TooLarge { bytes_max },
        })
    }

    /// Counts an append in, unless we are draining; dropping what it gives counts it out.
    fn begin_append(&self) -> Result<Appending<'_>, Refusal> {
        let begun = self.state.send_if_modified(|state| {
            state.appending += usize::from(!state.draining);
            !state.draining
        });
        begun.then(|| Appending(&self.state)).ok_or(Refusal::Draining)
    }
}

struct Appending<'a>(&'a watch::Sender<State>);

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.appending -= 1);
    }
}

fn new_frame(admitted: otlp::Admitted) -> NewFrame {
    let otlp::Walked { records, event_span, every_record_timed, .. } = admitted.walked;
    let timestamp = |nanos: u64| Timestamp(i64::try_from(nanos).unwrap_or(i64::MAX));
    NewFrame {
        kind: FrameKind::Batch,
        // Without times of their own two batches that look alike may well be two.
        hash: if every_record_timed { xxh3_64(&admitted.bytes) } else { 0 },
        event_span: event_span.map(|(first, last)| (timestamp(first), timestamp(last))),
        records: u32::try_from(records).unwrap_or(u32::MAX),
        payload: admitted.bytes,
    }
}

/// Does work on so many bytes, without holding up the event loop's other tasks where that would take milliseconds.
fn off_the_event_loop<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    if bytes >= EVENT_LOOP_BYTES_MAX && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// What is checked or decompressed on the event loop; at some hundred MB/s this takes a few milliseconds at most.
const EVENT_LOOP_BYTES_MAX: usize = 1 << 20;

/// Binds the first address of `host:port` that can be had, IPv4 first: a client that is told `localhost` tries that, too.
async fn bind(endpoint: &str) -> std::io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(endpoint).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    TcpListener::bind(&*addresses).await
}

/// A block with nothing in it has its defaults.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A protocol that is named without settings (`grpc:`) has its defaults.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<T>::deserialize(deserializer).map(|config| Some(config.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
