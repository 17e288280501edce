//! Out: each exporter is a reader of the logs with a cursor of its own in each, so that a slow or dead one holds up nobody else.

pub mod compression;
pub mod headers;
pub mod loki;
mod metrics;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod prometheus;
pub mod queue;
mod renewed;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use tokio::sync::watch;
use tokio::task::JoinSet;
use watchbell_proto::otlp::Signal;
use watchbell_rules::time::Timestamp;

pub use self::metrics::Metrics;
pub use self::prometheus::Samples;

use self::prometheus::Waiting;
use self::queue::{Queue, Request, SendResult};
use self::renewed::Renewed;
use self::worker::Worker;
use crate::clock::SharedClock;
use crate::wal::{BoxFuture, Log};

/// `exporters:` of the config file, by name: the type, or `type/name` where there are several of one type.
#[derive(Clone, Debug, Default)]
pub struct Config(pub BTreeMap<String, ExporterConfig>);

/// One exporter's settings; its name says which type it is.
#[derive(Clone, Debug)]
pub enum ExporterConfig {
    /// `otlp_grpc`, or `otlp`.
    OtlpGrpc(otlp_grpc::Config),
    /// `otlp_http`, or `otlphttp`.
    OtlpHttp(otlp_http::Config),
    /// `loki`.
    Loki(loki::Config),
    /// `prometheus_remote_write`, or `prometheusremotewrite`.
    PrometheusRemoteWrite(prometheus::Config),
}

/// A signal, as `signals:` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are the signals' names")]
pub enum SignalName {
    Logs,
    Traces,
    Metrics,
}

/// The running exporters. Dropping it ends them at once; what they had not delivered is delivered after the next start.
pub struct Exporters {
    clock: SharedClock,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
    samples: Samples,
}

impl Exporters {
    /// Checks all settings, opens the cursors and begins to send; `log_of` gives a signal's log.
    pub fn start(
        config: &Config,
        log_of: impl Fn(Signal) -> Arc<dyn Log>,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        config.check(&clock)?;
        let (stop, workers, samples) = (watch::Sender::new(false), JoinSet::new(), Samples::default());
        let mut exporters = Self { clock, metrics, stop, workers, samples };
        let mut waiting = Vec::new();
        for (name, config) in &config.0 {
            for signal in config.signals() {
                exporters.add(name, config, signal.name(), signal, log_of(signal))?;
            }
            if let ExporterConfig::PrometheusRemoteWrite(settings) = config {
                let samples = Waiting::new(settings, exporters.metrics.of_queue(name, SAMPLES));
                waiting.push(samples.clone());
                exporters.add(name, config, SAMPLES, Signal::Metrics, Arc::new(samples))?;
            }
        }
        exporters.samples = Samples::new(waiting);
        Ok(exporters)
    }

    /// Takes the samples that rules compute, for Prometheus.
    pub fn samples(&self) -> Samples {
        self.samples.clone()
    }

    fn add(
        &mut self,
        name: &str,
        config: &ExporterConfig,
        what: &str,
        signal: Signal,
        log: Arc<dyn Log>,
    ) -> Result<(), StartError> {
        let error = |why: String| StartError { exporter: name.to_owned(), why };
        let cursor = log.cursor(name).map_err(|why| error(format!("cannot open its cursor: {why}")))?;
        let (queue, retry) = config.queue();
        let queue = Queue::new(queue, retry, cursor.position(), fastrand::u64(..));
        let worker = Worker {
            name: format!("{name} ({what})"),
            log,
            queue: if what == SAMPLES { queue } else { queue.of(signal) },
            cursor,
            sender: self.sender(name, config, signal).map_err(error)?,
            clock: self.clock.clone(),
            metrics: self.metrics.of(name, what),
        };
        self.workers.spawn(worker.run(self.stop.subscribe()));
        Ok(())
    }

    fn sender(&self, name: &str, config: &ExporterConfig, signal: Signal) -> Result<Arc<dyn Sender>, String> {
        let started = self.clock.now();
        let files = config.files();
        if files.is_empty() {
            return config.sender(signal, started);
        }
        let (config, clock) = (config.clone(), self.clock.clone());
        Ok(Arc::new(Renewed::new(name.to_owned(), files, clock, move || config.sender(signal, started))?))
    }

    /// Lets them send what the logs hold by now, for at most so long; the rest is for the next start. Tells whether that was enough.
    pub async fn drain(mut self, deadline: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async { while self.workers.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(deadline, all).await.is_ok();
        if !ended {
            tracing::warn!("exporters did not catch up within {deadline:?}; they go on after the next start");
        }
        ended
    }
}

/// Why an exporter cannot be started.
#[derive(Debug)]
pub struct StartError {
    exporter: String,
    why: String,
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exporters.{}: {}", self.exporter, self.why)
    }
}

/// What sends requests to an endpoint. It holds what does not change between requests.
trait Sender: Send + Sync + 'static {
    /// Sends one request and says how that ended; never fails in another way.
    fn send(self: Arc<Self>, request: Request) -> BoxFuture<SendResult>;
}

impl Config {
    /// Whether all of it can be: URLs, headers, certificates.
    pub fn check(&self, clock: &SharedClock) -> Result<(), StartError> {
        for (name, config) in &self.0 {
            for signal in config.signals().into_iter().chain(config.sends_samples().then_some(Signal::Metrics)) {
                config.sender(signal, clock.now()).map_err(|why| StartError { exporter: name.clone(), why })?;
            }
        }
        Ok(())
    }
}

impl ExporterConfig {
    /// The signals whose logs it reads.
    fn signals(&self) -> Vec<Signal> {
        let names = match self {
            Self::OtlpGrpc(config) => &*config.signals,
            Self::OtlpHttp(config) => &*config.signals,
            Self::Loki(_) => &[SignalName::Logs],
            Self::PrometheusRemoteWrite(_) => &[],
        };
        Signal::ALL.into_iter().filter(|signal| names.iter().any(|name| name.signal() == *signal)).collect()
    }

    /// The files that hold its certificates, keys and headers.
    fn files(&self) -> Vec<PathBuf> {
        let (tls, headers) = match self {
            Self::OtlpGrpc(config) => (&config.tls, &config.headers),
            Self::OtlpHttp(config) => (&config.tls, &config.headers),
            Self::Loki(config) => (&config.tls, &config.headers),
            Self::PrometheusRemoteWrite(config) => (&config.tls, &config.headers),
        };
        tls.files().chain(headers.files()).collect()
    }

    fn sends_samples(&self) -> bool {
        matches!(self, Self::PrometheusRemoteWrite(_))
    }

    fn queue(&self) -> (queue::Config, queue::RetryConfig) {
        match self {
            Self::OtlpGrpc(config) => (config.sending_queue.clone(), config.retry_on_failure.clone()),
            Self::OtlpHttp(config) => (config.sending_queue.clone(), config.retry_on_failure.clone()),
            Self::Loki(config) => (config.sending_queue.clone(), config.retry_on_failure.clone()),
            Self::PrometheusRemoteWrite(config) => (config.sending_queue(), config.retry_on_failure.clone()),
        }
    }

    fn sender(&self, signal: Signal, started: Timestamp) -> Result<Arc<dyn Sender>, String> {
        match self {
            Self::OtlpGrpc(config) => Ok(Arc::new(otlp_grpc::OtlpGrpc::new(config, signal)?)),
            Self::OtlpHttp(config) => Ok(Arc::new(otlp_http::OtlpHttp::new(config, signal)?)),
            Self::Loki(config) => config.sender(),
            Self::PrometheusRemoteWrite(config) => config.sender(started),
        }
    }
}

impl SignalName {
    /// All of them: what an exporter sends where it is not told which.
    pub fn all() -> Vec<Self> {
        vec![Self::Logs, Self::Traces, Self::Metrics]
    }

    fn signal(self) -> Signal {
        match self {
            Self::Logs => Signal::Logs,
            Self::Traces => Signal::Traces,
            Self::Metrics => Signal::Metrics,
        }
    }
}

/// By hand, because the key says what the value is.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("exporters by name, such as `otlp_grpc: {endpoint: ...}`")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Config, E> {
                Ok(Config::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut exporters = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let config = match name.split('/').next().unwrap_or_default() {
                        "otlp_grpc" | "otlp" => ExporterConfig::OtlpGrpc(map.next_value()?),
                        "otlp_http" | "otlphttp" => ExporterConfig::OtlpHttp(map.next_value()?),
                        "loki" => ExporterConfig::Loki(map.next_value()?),
                        "prometheus_remote_write" | "prometheusremotewrite" => {
                            ExporterConfig::PrometheusRemoteWrite(map.next_value()?)
                        }
                        other => return Err(de::Error::custom(unknown(other))),
                    };
                    exporters.insert(name, config);
                }
                Ok(Config(exporters))
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

impl schemars::JsonSchema for Config {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Exporters".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "Exporters by name; behind a `/` a name of one's own tells two of a kind apart.",
            "patternProperties": {
                "^(otlp_grpc|otlp)(/.*)?$": generator.subschema_for::<otlp_grpc::Config>(),
                "^(otlp_http|otlphttp)(/.*)?$": generator.subschema_for::<otlp_http::Config>(),
                "^loki(/.*)?$": generator.subschema_for::<loki::Config>(),
                "^(prometheus_remote_write|prometheusremotewrite)(/.*)?$": generator.subschema_for::<prometheus::Config>(),
            },
            "additionalProperties": false,
        })
    }
}

/// What samples are called where signals stand.
const SAMPLES: &str = "samples";

fn unknown(exporter: &str) -> String {
    format!(
        "there is no exporter `{exporter}`: there are `otlp_grpc`, `otlp_http`, `loki` and `prometheus_remote_write`"
    )
}

#[cfg(test)]
mod tests;
