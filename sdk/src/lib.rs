//! Three lines, and a service's log records and traces reach a collector, each record with the ids of the span it was made in:
//!
//! ```no_run
//! fn main() -> Result<(), watchbell::InitError> {
//!     let _guard = watchbell::init()?;
//!     tracing::info!(order_id = 17, "order placed");
//!     Ok(())
//! }
//! ```
//!
//! From here on `tracing`'s macros and the `log` crate's are all that is needed. By default records go to `http://localhost:4318` by
//! OTLP/HTTP and, readable, to stderr.
//!
//! # What it promises
//!
//! - A call costs about as much as formatting its message: it allocates nothing, shares no lock with other threads, and never waits.
//! - A record carries `trace_id`, `span_id` and flags whenever it belongs to a span: in spawned tasks that are instrumented, under
//!   `parent: &span`, and also where the trace is not sampled.
//! - The export has a thread of its own: [`Guard::flush`], [`Guard::shutdown`] and the guard's drop keep their deadline in every
//!   runtime and in none. Its own HTTP stack's telemetry is never exported.
//! - No record is lost silently. The [`Ledger`] says what became of each: delivered, refused, dropped and why, or in flight.
//! - While the collector is away, the service runs on: up to [`buffer_bytes_max`](Builder::buffer_bytes_max) bytes wait for it.
//!
//! # What can be set
//!
//! | name | default | |
//! |---|---|---|
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | `unknown_service:<program>` | who the records are from |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4318`, or `:4317` by gRPC | the collector |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf` | or `grpc` |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | | `key=value,key=value`, percent-encoded |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | 10000 | milliseconds of one attempt |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION` | `none` | or `gzip` |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE` | the system's | PEM file of the authorities that the collector's certificate must come from |
//! | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `OTEL_EXPORTER_OTLP_CLIENT_KEY` | | PEM files, for a collector that asks for a certificate |
//! | `OTEL_EXPORTER_OTLP_INSECURE` | `false` | whether an endpoint for gRPC without `http://` or `https://` is meant without TLS |
//! | `OTEL_EXPORTER_OTLP_{LOGS,TRACES}_...` | | each of these nine for one signal; an endpoint for HTTP is then used as it is |
//! | `OTEL_LOGS_EXPORTER` | `otlp,console` | or `otlp`, `console`, `none` |
//! | `OTEL_TRACES_EXPORTER` | `otlp` | or `none`: records still carry the ids |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `parentbased_always_on` | |
//! | `OTEL_BLRP_SCHEDULE_DELAY`, `OTEL_BSP_SCHEDULE_DELAY` | 1000, 5000 | milliseconds that records and spans are gathered; a record of severity ERROR leaves at once |
//! | `OTEL_PROPAGATORS` | `tracecontext,baggage` | or `none` |
//! | `OTEL_SDK_DISABLED` | `false` | `true`: nothing is exported |
//! | `RUST_LOG` | `info` | `info,checkout=debug,hyper=off` |
//!
//! The [`Builder`] sets the same in code, and wins. A value that is not understood is told on stderr and ignored.
//!
//! # A subscriber of one's own
//!
//! [`init`] installs the process's subscriber. [`Builder::layer`] makes a layer for one that the service builds itself:
//!
//! ```
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! let (layer, guard) = watchbell::builder().service_name("checkout").layer()?;
//! let subscriber = tracing_subscriber::registry().with(layer).with(tracing_subscriber::fmt::layer());
//! # drop((subscriber, guard.shutdown(std::time::Duration::ZERO)));
//! # Ok::<(), watchbell::InitError>(())
//! ```

mod callsite;
mod chunk;
mod config;
mod console;
mod encode;
mod export;
mod guard;
mod lane;
mod layer;
mod ledger;
mod levels;
mod pipeline;
pub mod propagation;
mod record;
mod resource;
mod span;
mod tls;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, global};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_core::{Dispatch, Subscriber};
use tracing_log::{AsLog, LogTracer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};

pub use config::{Builder, Compression, Protocol};
pub use guard::{FlushError, Guard};
pub use layer::WatchbellLayer;
pub use ledger::{Account, Ledger};
pub use opentelemetry;
pub use opentelemetry_sdk::trace::Sampler;
pub use tracing;
pub use tracing_opentelemetry::OpenTelemetrySpanExt;

use config::{Config, Signal};
use console::Console;
use pipeline::Pipeline;
use span::PipelineSpanProcessor;

/// Starts logging and tracing as the environment says; everything has a default.
///
/// ```no_run
/// let _guard = watchbell::init()?;
/// tracing::error!(upstream = "payment", status = 503, "payment upstream answered 503");
/// # Ok::<(), watchbell::InitError>(())
/// ```
pub fn init() -> Result<Guard, InitError> {
    builder().init()
}

/// Starts setting up in code.
pub fn builder() -> Builder {
    Builder::default()
}

impl Builder {
    /// Installs the process's `tracing` subscriber, its `log` logger, the tracer provider and the propagators, and starts the export.
    pub fn init(self) -> Result<Guard, InitError> {
        let (config, warnings) = self.build().map_err(InitError::Config)?;
        let (layer, guard) = start::<tracing_subscriber::layer::Layered<levels::Levels, Registry>>(&config)?;
        let console = config.console.then(Console::stderr);
        let subscriber = tracing_subscriber::registry().with(config.levels.clone()).with(layer).with(console);
        tracing::dispatcher::set_global_default(Dispatch::new(subscriber)).map_err(|_| InitError::AlreadySet)?;
        if LogTracer::builder().with_max_level(config.levels.events_max().as_log()).init().is_err() {
            tell(format_args!("the `log` crate has a logger already: its records are not exported"));
        }
        if let Some(provider) = guard.provider() {
            global::set_tracer_provider(provider.clone());
        }
        propagation::install(&config.propagators);
        warnings.iter().for_each(|warning| tell(format_args!("{warning}")));
        Ok(guard)
    }

    /// Starts the export and makes a layer for a subscriber of one's own. Levels and console are that subscriber's; the `log` crate,
    /// the global tracer provider and propagators are left as they are.
    pub fn layer<S>(self) -> Result<(WatchbellLayer<S>, Guard), InitError>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let (config, warnings) = self.build().map_err(InitError::Config)?;
        warnings.iter().for_each(|warning| tell(format_args!("{warning}")));
        start(&config)
    }
}

fn start<S>(config: &Config) -> Result<(WatchbellLayer<S>, Guard), InitError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let pipeline = Arc::new(Pipeline::new(config.buffer_bytes_max));
    let has_export = Signal::ALL.iter().any(|signal| config.export(*signal).is_some());
    let commands = has_export.then(|| export::spawn(Arc::clone(&pipeline), config)).transpose();
    let commands = commands.map_err(InitError::Export)?;
    let scope = InstrumentationScope::builder("watchbell").with_version(env!("CARGO_PKG_VERSION")).build();
    let provider = (!config.is_disabled).then(|| provider(&pipeline, config, &scope));
    let tracer = provider.as_ref().map(|provider| provider.tracer_with_scope(scope));
    let layer = WatchbellLayer::new(tracer, config.logs.is_some().then(|| Arc::clone(&pipeline)));
    Ok((layer, Guard::new(pipeline, commands, provider, config.shutdown_timeout)))
}

fn provider(pipeline: &Arc<Pipeline>, config: &Config, scope: &InstrumentationScope) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_sampler(config.sampler.clone());
    match config.traces {
        Some(_) => builder.with_span_processor(PipelineSpanProcessor::new(Arc::clone(pipeline), scope.clone())).build(),
        None => builder.build(),
    }
}

/// Why nothing was started.
#[derive(Debug)]
pub enum InitError {
    /// Something that was set in code is not valid.
    Config(String),
    /// The export thread could not be started.
    Export(String),
    /// The process has a `tracing` subscriber already; [`Builder::layer`] makes a layer for it.
    AlreadySet,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) | Self::Export(error) => f.write_str(error),
            Self::AlreadySet => f.write_str("the process has a `tracing` subscriber already; use `Builder::layer`"),
        }
    }
}

impl std::error::Error for InitError {}

/// Says something on stderr: the one place where the telemetry's own troubles can be told.
fn tell(text: fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "watchbell: {text}");
}

/// Locks, whether or not another thread panicked: what the locks guard here is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
