//! What can be set: by the `OTEL_*` environment names of the OpenTelemetry specification or its configuration file, and by the [`Builder`],
//! which wins.
//!
//! The environment, or the file, becomes [`Settings`], the builder's wishes are laid over them, and what comes out is the [`Config`].

mod builder;
mod env;
#[cfg(feature = "config-file")]
mod file;
#[cfg(all(test, feature = "config-file", feature = "metrics"))]
mod file_tests;
#[cfg(test)]
mod tests;
mod values;
#[cfg(feature = "config-file")]
mod yaml;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, Uri};
use opentelemetry::KeyValue;
#[cfg(feature = "metrics")]
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::trace::ShouldSample;
use tracing_core::LevelFilter;

use crate::lane::WhenFull;
use crate::levels::Directives;
use crate::limits::Limits;
#[cfg(feature = "metrics")]
use crate::metrics::View;
use crate::patch::Patches;
use crate::redact::Redaction;
use crate::restraint::Rules;
use crate::sink::Sink;
use crate::spool::Spool;
use crate::tell::Verbosity;
use crate::tls::{Identity, Roots, Tls};

pub use builder::Builder;
pub(crate) use values::{percent_decode, without_query};

/// How OTLP is spoken.
///
/// ```
/// use watchbell::Protocol;
///
/// # #[cfg(feature = "grpc")]
/// let builder = watchbell::builder().endpoint("http://collector:4317").protocol(Protocol::Grpc);
/// assert_eq!("http/protobuf".parse(), Ok(Protocol::HttpProtobuf)); // as `OTEL_EXPORTER_OTLP_PROTOCOL` has it
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// OTLP/gRPC, `grpc`; its usual port is 4317.
    Grpc,
    /// OTLP/HTTP with protobuf, `http/protobuf`, the default; its usual port is 4318.
    HttpProtobuf,
    /// OTLP/HTTP with JSON, `http/json`, for what takes nothing else: three times the bytes, and work for the export's thread.
    #[cfg(feature = "http-json")]
    HttpJson,
}

/// How requests are compressed.
///
/// ```
/// # #[cfg(feature = "gzip")]
/// let builder = watchbell::builder().compression(watchbell::Compression::Gzip);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// `none`, the default.
    None,
    /// `gzip`.
    #[cfg(feature = "gzip")]
    Gzip,
}

/// A signal that is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Logs,
    Traces,
    Metrics,
}

impl Signal {
    pub(crate) const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    fn env_name(self) -> &'static str {
        match self {
            Self::Logs => "LOGS",
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    fn http_path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }

    fn grpc_path(self) -> &'static str {
        match self {
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// Where it goes if nothing is set.
    fn default_uri(self, protocol: Protocol) -> Uri {
        let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
        let uri = format!("http://localhost:{port}{}", self.path(protocol));
        uri.parse().expect("a constant address and path")
    }

    /// What comes after the endpoint that all signals share.
    fn path(self, protocol: Protocol) -> &'static str {
        if protocol == Protocol::Grpc { self.grpc_path() } else { self.http_path() }
    }

    /// How long records are gathered, and how often metrics are collected, where nothing else is said.
    fn schedule_delay(self) -> Duration {
        match self {
            Self::Logs => Duration::from_secs(1),
            Self::Traces => Duration::from_secs(5),
            Self::Metrics => Duration::from_secs(60),
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What one record is called, in the plural.
    pub(crate) fn records_name(self) -> &'static str {
        match self {
            Self::Logs => "log records",
            Self::Traces => "spans",
            Self::Metrics => "data points",
        }
    }
}

/// One of something for each signal, by `signal as usize`.
pub(crate) type PerSignal<T> = [T; Signal::ALL.len()];

/// All that is set outside of the code.
struct Settings {
    is_disabled: bool,
    verbosity: Verbosity,
    console: bool,
    levels: Directives,
    levels_file: Option<PathBuf>,
    levels_url: Option<LevelsUrl>,
    restraint: Rules,
    spool: Option<Spool>,
    sinks: Vec<Sink>,
    sampler: Box<dyn ShouldSample>,
    propagators: Vec<Propagator>,
    limits: Limits,
    resource: Vec<KeyValue>,
    exports: PerSignal<Option<ExportSettings>>,
    own: OwnSettings,
    #[cfg(feature = "metrics")]
    metrics: MetricsConfig,
}

/// What of it is Watchbell's own, and need not be set at all.
struct OwnSettings {
    redaction: Option<Arc<Redaction>>,
    baggage_attributes: Vec<String>,
    buffer_bytes_max: Option<usize>,
    when_full: Option<WhenFull>,
    shutdown_timeout: Option<Duration>,
    panics: Option<bool>,
}

/// Who is asked for the levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LevelsUrl {
    pub(crate) uri: Uri,
    pub(crate) interval: Duration,
}

impl LevelsUrl {
    /// An interval if nothing is said.
    const INTERVAL: Duration = Duration::from_secs(30);

    fn new(url: &str, interval: Duration) -> Result<Self, String> {
        let uri = values::uri(url, Protocol::HttpProtobuf, false, "")?;
        Ok(Self { uri, interval })
    }
}

/// What is shown to a server, and trusted of it.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) headers: HeaderMap,
    pub(crate) tls: Tls,
}

/// How metrics are aggregated.
#[cfg(feature = "metrics")]
#[derive(Clone, Debug)]
pub(crate) struct MetricsConfig {
    pub(crate) temporality: Temporality,
    pub(crate) has_exponential_histograms: bool,
    pub(crate) views: Vec<View>,
}

/// What is set of one signal's way to the collector.
#[derive(Clone)]
struct ExportSettings {
    protocol: Protocol,
    uri: Uri,
    /// Whether an endpoint for gRPC that names no scheme is meant without TLS.
    is_insecure: bool,
    /// Whether the endpoint was set, and so who the headers are for.
    has_endpoint: bool,
    /// Whether the signal goes to a collector of its own, for which the headers of all others are not meant.
    is_apart: bool,
    headers: HeaderMap,
    roots: Option<Roots>,
    identity: Option<Identity>,
    compression: Option<Compression>,
    timeout: Option<Duration>,
    batch: BatchSettings,
}

/// What is set of a signal's batch processor.
#[derive(Clone, Default)]
struct BatchSettings {
    schedule_delay: Option<Duration>,
    export_timeout: Option<Duration>,
    queue_records_max: Option<u32>,
    batch_records_max: Option<u32>,
}

/// All that is set, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) is_disabled: bool,
    /// How much is told on stderr of the export itself.
    pub(crate) verbosity: Verbosity,
    pub(crate) levels: Directives,
    /// The file that the levels are read from, and read again when it changes.
    pub(crate) levels_file: Option<PathBuf>,
    pub(crate) levels_url: Option<LevelsUrl>,
    /// Levels of what goes to the collector, if they are other than the service's.
    pub(crate) collector_levels: Option<Directives>,
    /// What holds log records back.
    pub(crate) restraint: Rules,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) redaction: Option<Arc<Redaction>>,
    pub(crate) patches: Patches,
    pub(crate) sampler: Box<dyn ShouldSample>,
    pub(crate) propagators: Vec<Propagator>,
    pub(crate) limits: Limits,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) buffer_bytes_max: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) spool: Option<Spool>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) panics: bool,
    /// Whether an event of level ERROR is the failure of its span.
    pub(crate) error_events_to_status: bool,
    /// The keys of the baggage that becomes attributes.
    pub(crate) baggage_attributes: Vec<String>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: MetricsConfig,
    exports: PerSignal<Option<Export>>,
}

impl Config {
    /// Where and how a signal leaves, if it does.
    pub(crate) fn export(&self, signal: Signal) -> Option<&Export> {
        self.exports[signal as usize].as_ref()
    }

    /// What is set for the collector, for whatever else is at its host: its own API has another port than OTLP.
    pub(crate) fn access_to(&self, uri: &Uri) -> Access {
        let same = self.exports.iter().flatten().find(|export| place(&export.uri) == place(uri));
        same.map(|export| Access { headers: export.headers.clone(), tls: export.tls.clone() }).unwrap_or_default()
    }

    /// Who the records are from.
    pub(crate) fn service_name(&self) -> String {
        let name = self.resource.iter().find(|attribute| attribute.key.as_str() == "service.name");
        name.map(|name| name.value.as_str().into_owned()).unwrap_or_default()
    }

    #[cfg(test)]
    fn has_console(&self) -> bool {
        self.sinks.iter().any(Sink::is_console)
    }

    /// Levels of the ways that log records go: the collector's, which takes none where logs are not exported, then the sinks'.
    pub(crate) fn ways(&self) -> Result<Vec<Option<Directives>>, String> {
        let collector = match self.export(Signal::Logs) {
            Some(_) => self.collector_levels.clone(),
            None => Some(Directives::all(LevelFilter::OFF)),
        };
        std::iter::once(Ok(collector)).chain(self.sinks.iter().map(Sink::directives)).collect()
    }
}

/// Whose an endpoint is: whoever has a host has its ports.
fn place(uri: &Uri) -> (Option<Scheme>, Option<String>) {
    (uri.scheme().cloned(), uri.host().map(str::to_ascii_lowercase))
}

/// Where and how a signal leaves.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) uri: Uri,
    pub(crate) protocol: Protocol,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: Tls,
    pub(crate) compression: Compression,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
    /// How long a request is tried altogether; until the shutdown if nothing is set.
    pub(crate) export_timeout: Option<Duration>,
    pub(crate) schedule_delay: Duration,
    /// Most records that wait for the collector, beside the buffer's bound in bytes; beyond, the newest are dropped and counted.
    pub(crate) queue_records_max: u64,
    /// Most records of a request, beside its bound in bytes; more go into further requests.
    pub(crate) batch_records_max: u64,
}

/// How trace context passes between services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Propagator {
    TraceContext,
    Baggage,
    B3,
    B3Multi,
}

impl Propagator {
    /// What to write in the place of a name that is none.
    const WANTED: &str = "write `tracecontext`, `baggage`, `b3`, `b3multi` or `none`";

    /// Those of a comma-separated list, each once, and the names that are none.
    fn listed(list: &str) -> (Vec<Self>, Vec<&str>) {
        let (mut propagators, mut unknown) = (Vec::new(), Vec::new());
        for name in list.split(',').map(str::trim) {
            let propagator = match name.to_ascii_lowercase().as_str() {
                "tracecontext" => Self::TraceContext,
                "baggage" => Self::Baggage,
                "b3" => Self::B3,
                "b3multi" => Self::B3Multi,
                "none" | "" => continue,
                _ => {
                    unknown.push(name);
                    continue;
                }
            };
            if !propagators.contains(&propagator) {
                propagators.push(propagator);
            }
        }
        (propagators, unknown)
    }
}
