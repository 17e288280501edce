//! Out: each exporter is a reader of the logs with a cursor of its own in each, so that a slow or dead one holds up nobody else.

pub mod compression;
pub mod headers;
mod metrics;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod queue;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use tokio::sync::watch;
use tokio::task::JoinSet;
use watchbell_proto::otlp::Signal;

pub use self::metrics::Metrics;

use self::queue::{Queue, Request, SendResult};
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
}

/// A signal, as `signals:` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are the signals' names")]
pub enum SignalName {
    Logs,
    Traces,
    Metrics,
}

/// The running exporters. Dropping it ends them at once; what they had not delivered is delivered after the next start.
pub struct Exporters {
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Exporters {
    /// Checks all settings, opens the cursors and begins to send; `log_of` gives a signal's log.
    pub fn start(
        config: &Config,
        log_of: impl Fn(Signal) -> Arc<dyn Log>,
        clock: SharedClock,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let mut exporters = Self { stop: watch::Sender::new(false), workers: JoinSet::new() };
        for (name, config) in &config.0 {
            let error = |why: String| StartError { exporter: name.clone(), why };
            for signal in config.signals() {
                let log = log_of(signal);
                let cursor = log.cursor(name).map_err(|why| error(format!("cannot open its cursor: {why}")))?;
                let (queue, retry) = config.queue();
                let queue = Queue::new(queue.clone(), retry.clone(), cursor.position(), fastrand::u64(..));
                let worker = Worker {
                    name: format!("{name} ({})", signal.name()),
                    log,
                    cursor,
                    queue,
                    sender: config.sender(signal).map_err(error)?,
                    clock: clock.clone(),
                    metrics: metrics.of(name, signal),
                };
                exporters.workers.spawn(worker.run(exporters.stop.subscribe()));
            }
        }
        Ok(exporters)
    }

    /// Lets them send what the logs hold by now, for at most so long; the rest is for the next start.
    pub async fn drain(mut self, deadline: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!("exporters did not catch up within {deadline:?}; they go on after the next start");
        }
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

impl ExporterConfig {
    fn signals(&self) -> Vec<Signal> {
        let names = match self {
            Self::OtlpGrpc(config) => &config.signals,
            Self::OtlpHttp(config) => &config.signals,
        };
        Signal::ALL.into_iter().filter(|signal| names.iter().any(|name| name.signal() == *signal)).collect()
    }

    fn queue(&self) -> (&queue::Config, &queue::RetryConfig) {
        match self {
            Self::OtlpGrpc(config) => (&config.sending_queue, &config.retry_on_failure),
            Self::OtlpHttp(config) => (&config.sending_queue, &config.retry_on_failure),
        }
    }

    fn sender(&self, signal: Signal) -> Result<Arc<dyn Sender>, String> {
        Ok(match self {
            Self::OtlpGrpc(config) => Arc::new(otlp_grpc::OtlpGrpc::new(config, signal)?),
            Self::OtlpHttp(config) => Arc::new(otlp_http::OtlpHttp::new(config, signal)?),
        })
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

fn unknown(exporter: &str) -> String {
    format!("there is no exporter `{exporter}`: there are `otlp_grpc` and `otlp_http`")
}

#[cfg(test)]
mod tests;
