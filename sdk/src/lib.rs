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
//! From here on `tracing`'s macros and the `log` crate's are all that is needed; what else one may want, task by task, is in the [`cookbook`]. By default records go to `http://localhost:4318` by
//! OTLP/HTTP and, readable, to stderr.
//!
//! # What it promises
//!
//! - A call costs about as much as formatting its message, allocates nothing once its thread is warm, and never waits for the network. It takes its
//!   thread's own lock, and every two hundred records or so, when a chunk is full, one that all threads share. Nor does it wait for the console, which has a thread
//!   of its own, unless stderr is a terminal: there each line is written at once, one thread at a time. [`Builder::console`] or `OTEL_LOGS_EXPORTER=otlp` switch it off.
//! - A record carries `trace_id`, `span_id` and flags whenever it belongs to a span: in spawned tasks that are instrumented, under
//!   `parent: &span`, and also where the trace is not sampled.
//! - The export has a thread of its own: [`Guard::flush`], [`Guard::shutdown`] and the guard's drop keep their deadline in every
//!   runtime and in none. Its own HTTP stack's telemetry is never exported.
//! - No record is lost silently. The [`Ledger`] says what became of each: delivered, refused, dropped and why, spooled, or in flight.
//! - While the collector is away, the service runs on: up to [`buffer_bytes_max`](Builder::buffer_bytes_max) bytes wait for it in memory, and with a
//!   [`spool`] far more on disk, for this process or a later one to deliver. [`WhenFull`] says what gives way then: the newest records, the oldest, or a caller's time.
//!
//! # What can be set
//!
//! The [`Builder`] sets in code what the `OTEL_*` names set in the environment; [`environment`] has all of them. The usual ones:
//!
//! | name | default | |
//! |---|---|---|
//! | `OTEL_SERVICE_NAME` | `unknown_service:<program>` | who the records are from |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://localhost:4318`, or `:4317` by gRPC | the collector |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf` | or `grpc` |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | | `key=value,key=value`, percent-encoded |
//! | `OTEL_TRACES_SAMPLER` | `parentbased_always_on` | |
//! | `RUST_LOG` | `info` | `info,checkout=debug,hyper=off` |
//! | `WATCHBELL_SPOOL_DIR` | | a folder for what waits while the collector is away |
//!
//! A collector that asks for patience (`Retry-After`, `RetryInfo`) is left alone for as long as it says, five minutes at most.
//!
//! On the console a record is one line: control characters are escaped, the newlines of a stack trace too. The collector gets them as they are.
//!
//! Records of the `log` crate come with their level, target, message, place and key-values (`log::info!(order_id = 17; "...")`).
//!
//! # Elsewhere, too
//!
//! [`sink`] has files that rotate, JSON by four conventions, logfmt, patterns, syslog, the journal and functions of one's own, each with its own levels;
//! [`Guard::levels`] changes levels while the service runs: by a call, by a file that is watched, by signals; or a server is asked for them ([`Builder::levels_url`]).
//!
//! # Fields for a scope, and secrets
//!
//! [`context!`] puts fields on every record inside of a scope, across `await`, and on those of an object that keeps it, as a bound logger does. A field's expression
//! is computed where its record is made and nowhere else, so that `debug!(state = ?state())` costs nothing while it is off, and that of a [`lazy`] one only where
//! the record goes somewhere. [`redact`] takes secrets out by key, by looks and by type, before a record is written or sent; [`test::canary`] asserts that one
//! never leaves. [`Builder::patch`] shows each record to a function that may change it or leave it out. [`severity`] has `NOTICE`, `FATAL` and the other severities of OpenTelemetry.
//!
//! # Holding back
//!
//! [`Builder::restrain`] and `WATCHBELL_RESTRAIN` limit how many records come of a place, take a share of the traces, withhold repeats, and let the less severe
//! give way while the buffer fills; `warn!(watchbell.limit = "10/s", ...)` limits one place. What is withheld is counted and told: the module [`restraint`].
//!
//! # Correlation
//!
//! A record is in the span that is current, or that its `parent:` names. `tokio::spawn` and `std::thread::spawn` leave the span behind: what they start has
//! neither its trace nor its context, unless a task is started by [`task::spawn`], and a thread's function is [`task::carried`]; to
//! another worker one sends the `tracing::Span` along. [`propagation`] takes the trace from a request's headers and writes it into them, and
//! [`Builder::baggage_attributes`] makes attributes of chosen entries of the baggage.
//!
//! # The process's end
//!
//! | how it ends | what is sent |
//! |---|---|
//! | the guard is dropped: `main` returns, or a panic unwinds it | all, for at most [`shutdown_timeout`](Builder::shutdown_timeout) |
//! | `std::process::exit`; `main` returns while the guard is leaked or in a static | the same, after [`init`] (after [`Builder::layer`] with [`Guard::install_globals`]) |
//! | a panic that ends the process: with `panic = "abort"`, in a destructor while another panic unwinds, out of an `extern "C"` function | the same, and the panic, before the process is aborted |
//! | `std::process::abort`, a signal that nobody handles, `kill -9` | what was sent until then, and what a sink with a thread has written, which is all but the last milliseconds: an ERROR leaves after some 10 ms, the rest after the schedule delay; and later what is in the [`spool`] by then, all of it with [mapped chunks](spool::Spool::mapped) |
//!
//! A forked child has no threads of ours, and may find any lock held by a thread that it has not: what it logs is counted in a ledger of its own
//! ([`dropped_forked`](Account::dropped_forked)), and neither sent nor shown. A service that forks (a daemon, workers before
//! they serve) forks first and calls [`init`] in each process: a second `init` in a child fails.
//!
//! A signal's handler had better not log: formatting may allocate, and the first record of a line of code takes locks of `tracing`'s, so that a handler that interrupts
//! its own thread in the allocator, in these, or in a sink [in the call](sink::Sink::in_call) waits for ever. Where it interrupts the handing over of another record it
//! does not: its own is counted as [`dropped_reentrant`](Account::dropped_reentrant). Let it set a flag, or write to a pipe, and log from a thread (`tokio::signal`).
//!
//! A service that is stopped by SIGTERM handles it (`tokio::signal`) and returns from `main`.
//!
//! # Errors and panics
//!
//! [`err!`] makes a field of any error, `anyhow`'s and `eyre`'s too: its type, its message, all its sources, its backtrace if it has one, and a
//! fingerprint by which the collector groups. [`log_err!`] logs a result that is an error, [`catch`](macro@catch) whatever error a function or a task ends with:
//!
//! ```
//! #[watchbell::catch("cannot charge")]
//! async fn charge(order_id: u64) -> Result<(), std::io::Error> {
//!     if let Err(error) = std::fs::read("rates") {
//!         tracing::warn!(err = watchbell::err!(error), order_id, "charging by yesterday's rates");
//!     }
//!     Err(std::io::Error::other("refused"))
//! }
//! # drop(charge(1));
//! ```
//!
//! A field that is recorded as `&e as &dyn Error` tells the same, but for a backtrace, and the type only as far as the error's `Debug` begins with it. `error = %error`
//! and `error = ?error` are plain attributes: text is all that `tracing` has of them. The module [`exception`](mod@exception) has the attributes.
//!
//! A panic is a record of severity ERROR in the
//! scope `panic`, with `exception.type` (`panic`), `exception.message`, its place, its fingerprint, and a backtrace if `RUST_BACKTRACE` asks for one; the
//! hook that was set before is called then. [`Builder::panics`] switches that off.
//!
//! # Features
//!
//! On by default: `grpc`, `tls`, `gzip`, `log` (records of the `log` crate), `console`, `metrics`, `config-file` (`OTEL_CONFIG_FILE`),
//! `otel-logs` (OpenTelemetry's logs API), `macros` (`#[catch]`, `#[derive(Redact)]`) and
//! `hashed` (fields by their hash under a key). OTLP/HTTP is always there; one HTTP stack, hyper's, serves both protocols. With all of these 88
//! crates are compiled, itself and procedural macros counted in; with `default-features = false` 58. `grpc` adds 6, `tls` 17, `config-file` 2,
//! `macros` 1, `hashed` what `tls` brings anyway, `metrics` and `otel-logs` none.
//!
//! To be asked for: `http-json` (OTLP/HTTP with JSON), `files`, sinks that write files (the module `sink::file`), and `zstd` for them; `tower`, the module `middleware` with layers for servers and clients of axum, tonic and hyper: a span, its status and one line
//! for each request, the trace's context in and out; and `axum`, which names spans by the route that matched.
//!
//! # Metrics
//!
//! OpenTelemetry's own API makes them; [`init`] sets the global meter provider, and the export thread collects once an
//! `OTEL_METRIC_EXPORT_INTERVAL` (the only thing that wakes it in an idle service; `OTEL_METRICS_EXPORTER=none` ends that, too):
//!
//! ```
//! # #[cfg(feature = "metrics")] {
//! use watchbell::opentelemetry::{KeyValue, global};
//!
//! let orders = global::meter("checkout").u64_counter("orders").build();
//! orders.add(1, &[KeyValue::new("upstream", "payment")]);
//! # }
//! ```
//!
//! The [`Ledger`] is among them, by OpenTelemetry's names: `otel.sdk.log.created`, `otel.sdk.processor.{log,span}.processed`,
//! `otel.sdk.exporter.{log,span,metric_data_point}.{exported,inflight}`; what was lost has an `error.type`. What is on disk is
//! `watchbell.sdk.{log,span,metric_data_point}.spooled`, and what earlier processes left there `.taken_over`, by `watchbell.end`. What became of records at each [`sink`] is `watchbell.sdk.sink.log.{processed,withheld}`.
//!
//! Losses are told to the collector as log records of the scope `watchbell`, too, at most once a minute and at the shutdown, each with `lost.records` (how
//! many since), `lost.signal` (`logs`, `traces`, `metrics`) and `lost.reason` (`buffer_full`, `spool_full`, `spool_damaged`, `refused`,
//! `export_timeout`). Watchbell's collector counts them by service in `watchbell_evaluator_sdk_lost_records_total`, and a rule alerts on them
//! (`examples/rules/losses.yaml`). What a [`sink`] has lost is told so, too, with `lost.sink.records` and `lost.sink.name`. What is lost at the shutdown's
//! deadline, or made after the shutdown, only stderr and the [`Ledger`] tell: there is nobody left to send it. Nor is a record of these that a signal's handler loses
//! ([`dropped_reentrant`](Account::dropped_reentrant)), which the metrics, the [`Ledger`] and stderr at the shutdown have.
//!
//! # Three doors
//!
//! What `tracing` and the `log` crate say, what an appender says to our [`logs::LoggerProvider`], and what passes a stock provider with our
//! [`logs::LogProcessor`] in the place of its batch processor goes into one buffer and one account. The OpenTelemetry crates that fit are
//! re-exported: [`opentelemetry`], [`opentelemetry_sdk`].
//!
//! # Coming from elsewhere
//!
//! [`coming_from`] has the words of Python's `logging`, Loguru, `env_logger` and `tracing-subscriber` beside ours.
//!
//! # In tests
//!
//! [`test::capture`] takes what a test logs, so that it can be asserted on.
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

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::undocumented_unsafe_blocks)]

mod baggage;
mod callsite;
mod caught;
mod chunk;
#[doc = include_str!("../COMING_FROM.md")]
pub mod coming_from {}
mod config;
pub mod context;
#[doc = include_str!("../COOKBOOK.md")]
pub mod cookbook {}
mod encode;
#[doc = include_str!("../ENVIRONMENT.md")]
pub mod environment {}
pub mod exception;
mod exit;
mod export;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod lane;
mod layer;
mod lazy;
mod ledger;
mod levels;
mod limits;
#[cfg(feature = "log")]
mod log_crate;
#[cfg(feature = "otel-logs")]
pub mod logs;
mod mapped;
mod meant;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tower")]
pub mod middleware;
mod one_line;
mod panic;
pub mod patch;
mod pipeline;
pub mod propagation;
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
mod record;
pub mod redact;
mod resource;
pub mod restraint;
pub mod severity;
pub mod sink;
mod span;
pub mod spool;
mod stock;
pub mod task;
mod tell;
pub mod test;
mod threads;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod view;

use std::fmt;
#[cfg(feature = "metrics")]
use std::sync::OnceLock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider;
#[cfg(feature = "metrics")]
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_core::{Dispatch, Subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};

pub use config::{Builder, Compression, Protocol};
pub use guard::{FlushError, Guard};
pub use http;
pub use lane::WhenFull;
pub use layer::WatchbellLayer;
pub use lazy::{Lazy, lazy};
pub use ledger::{Account, Ledger, TakenOver};
pub use levels::{Levels, LevelsError};
pub use opentelemetry;
pub use opentelemetry_sdk;
pub use opentelemetry_sdk::trace::Sampler;
pub use tracing;
pub use tracing_opentelemetry::OpenTelemetrySpanExt;
/// Logs the error that a function returns, with the function's name, its sources and its backtrace, and hands it on; the function may be `async`.
///
/// ```
/// # use watchbell::tracing;
/// #[watchbell::catch]
/// fn charge(order_id: u64) -> Result<(), std::io::Error> {
///     Err(std::io::Error::other("refused"))
/// }
///
/// #[watchbell::catch("cannot settle", level = "warn", panics)]
/// async fn settle() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     charge(17)?;
///     Ok(())
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let logs = watchbell::test::capture();
/// let settled = watchbell::task::spawn(settle()); // `charge` failed ...; cannot settle ...
/// # assert!(settled.await.unwrap().is_err());
/// # let log = logs.expect("`charge` failed");
/// # assert_eq!(log.field("exception.type"), Some(&"std::io::Error".into()));
/// # assert!(log.field("code.function.name").unwrap().as_str().ends_with("::charge"));
/// # assert_eq!(logs.expect("cannot settle").level, tracing::Level::WARN);
/// # });
/// ```
///
/// | argument | |
/// |---|---|
/// | a text | the message, in place of `` `charge` failed `` |
/// | `level = "warn"` | the level, in place of ERROR |
/// | `panics` | a panic that leaves the function is told in the same way, and goes on. [`init`] records each panic where it happens, so that this is for services without it, and for the function's own word |
///
/// Every function with the attribute that an error passes through tells it: it belongs where errors are dealt with, or where they leave a task. What the
/// attributes [`exception`](mod@exception) says; [`log_err!`] does the same to an expression.
#[cfg(feature = "macros")]
pub use watchbell_macros::catch;

use config::{Config, Signal};
use export::ExportThread;
use guard::{Globals, Providers};
use pipeline::Pipeline;
use sink::{SinkThread, Sinks};
use span::PipelineSpanProcessor;
use threads::Threads;

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

/// Starts setting up in code; [`Builder`] has an example.
///
/// ```
/// let _guard = watchbell::builder().service_name("checkout").levels("info,hyper=warn")
///     # .variables([("OTEL_SDK_DISABLED", "true")])
///     .init()?;
/// # Ok::<(), watchbell::InitError>(())
/// ```
pub fn builder() -> Builder {
    Builder::default()
}

impl Builder {
    /// Installs the process's `tracing` subscriber, its `log` logger, the tracer provider and the propagators, and starts the export.
    ///
    /// ```
    /// let _guard = watchbell::builder().service_name("checkout")
    ///     # .variables([("OTEL_SDK_DISABLED", "true")])
    ///     .init()?;
    /// assert!(watchbell::init().is_err(), "once a process");
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn init(self) -> Result<Guard, InitError> {
        let (config, warnings) = self.build(true).map_err(InitError::Config)?;
        let (layer, guard) = start::<tracing_subscriber::layer::Layered<levels::LevelsLayer, Registry>>(&config, true)?;
        let levels = guard.levels();
        config.levels_file.iter().for_each(|path| levels.watch_file(path));
        config
            .levels_url
            .iter()
            .for_each(|source| levels.poll_url(source.uri.clone(), source.interval, config.access_to(&source.uri)));
        let subscriber = tracing_subscriber::registry().with(levels::LevelsLayer(levels.clone())).with(layer);
        tracing::dispatcher::set_global_default(Dispatch::new(subscriber)).map_err(|_| InitError::AlreadySet)?;
        #[cfg(feature = "log")]
        if !log_crate::install(levels.events_max()) {
            tell::warn(format_args!("the `log` crate has a logger already: its records are not exported"));
        }
        guard.install_globals();
        warnings.iter().for_each(|warning| tell::warn(format_args!("{warning}")));
        Ok(guard)
    }

    /// Starts the export and makes a layer for a subscriber of one's own. Levels (but for those set here) and the console are that subscriber's, sinks
    /// that were added here are there; the `log` crate is left as it is, and so are the global tracer provider and the propagators until [`Guard::install_globals`].
    ///
    /// ```
    /// use tracing_subscriber::layer::SubscriberExt;
    ///
    /// let (layer, guard) = watchbell::builder().service_name("checkout").layer()?;
    /// let subscriber = tracing_subscriber::registry().with(layer);
    /// # drop((subscriber, guard.shutdown(std::time::Duration::ZERO)));
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn layer<S>(self) -> Result<(WatchbellLayer<S>, Guard), InitError>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let (config, warnings) = self.build(false).map_err(InitError::Config)?;
        let started = start(&config, false)?;
        warnings.iter().for_each(|warning| tell::warn(format_args!("{warning}")));
        Ok(started)
    }
}

fn start<S>(config: &Config, is_global: bool) -> Result<(WatchbellLayer<S>, Guard), InitError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tell::set_verbosity(config.verbosity);
    let sinks = Sinks::open(config.sinks.clone(), &config.resource).map_err(InitError::Config)?;
    let levels = Levels::new(config.levels.clone(), config.ways().map_err(InitError::Config)?, is_global);
    let pipeline = Pipeline::new(config, levels, sinks);
    let has_export = Signal::ALL.iter().any(|signal| config.export(*signal).is_some());
    #[cfg(feature = "metrics")]
    let export_thread = Arc::default();
    #[cfg(feature = "metrics")]
    let (meter_provider, collect) = meter_provider(&pipeline, config, &export_thread);
    #[cfg(not(feature = "metrics"))]
    let collect = None;
    let thread = has_export.then(|| ExportThread::spawn(Arc::clone(&pipeline), config, collect)).transpose();
    let thread = thread.map_err(InitError::Export)?;
    #[cfg(feature = "metrics")]
    thread.iter().for_each(|thread| drop(export_thread.set(thread.clone())));
    let threads =
        Threads { export: thread.clone(), sinks: SinkThread::spawn_all(&pipeline).map_err(InitError::Export)? };
    let scope = InstrumentationScope::builder("watchbell").with_version(env!("CARGO_PKG_VERSION")).build();
    let provider = (!config.is_disabled).then(|| provider(&pipeline, config, thread, &scope));
    let tracer = provider.as_ref().map(|provider| provider.tracer_with_scope(scope));
    let layer = WatchbellLayer::new(
        tracer,
        pipeline.takes_logs().then(|| Arc::clone(&pipeline)),
        config.error_events_to_status,
    );
    let providers = Providers {
        tracer: provider,
        #[cfg(feature = "metrics")]
        meter: meter_provider,
    };
    let globals =
        Globals { propagators: config.propagators.clone(), panics: config.panics, are_installed: false.into() };
    Ok((layer, Guard::new(pipeline, threads, providers, globals, config.shutdown_timeout)))
}

/// The provider, and what the export thread calls to have its metrics.
#[cfg(feature = "metrics")]
fn meter_provider(
    pipeline: &Arc<Pipeline>,
    config: &Config,
    thread: &Arc<OnceLock<ExportThread>>,
) -> (Option<SdkMeterProvider>, Option<export::Collect>) {
    if config.export(Signal::Metrics).is_none() {
        return (None, None);
    }
    let (provider, collector) = metrics::provider(pipeline, &config.metrics, thread);
    (Some(provider), Some(Arc::new(move |pipeline: &Pipeline| collector.collect_into(pipeline))))
}

fn provider(
    pipeline: &Arc<Pipeline>,
    config: &Config,
    thread: Option<ExportThread>,
    scope: &InstrumentationScope,
) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder();
    let builder = builder.with_sampler(config.sampler.clone()).with_span_limits(config.limits.spans);
    match thread.filter(|_| config.export(Signal::Traces).is_some()) {
        Some(thread) => {
            let processor = PipelineSpanProcessor::new(Arc::clone(pipeline), thread, scope.clone());
            builder.with_span_processor(processor).build()
        }
        None => builder.build(),
    }
}

/// Why nothing was started.
///
/// ```
/// use watchbell::InitError;
///
/// let error = watchbell::builder().endpoint("collector").init().unwrap_err();
/// assert!(matches!(&error, InitError::Config(text) if text.contains("write `http://host:port`")));
/// assert_eq!(format!("{error:?}"), error.to_string()); // as a `main` that returns it shows it
/// ```
#[non_exhaustive]
pub enum InitError {
    /// Something that was set in code, or in the file of `OTEL_CONFIG_FILE`, is not valid, or a sink cannot be as it is written, in `WATCHBELL_SINKS` too. What
    /// else is wrong in the environment is told on stderr instead, and never keeps a service from starting.
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

/// `main` shows an error that it returns so: lines and carets are to stay what they are.
impl fmt::Debug for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for InitError {}

/// Locks, whether or not another thread panicked: what the locks guard here is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same; `None` where another thread has it locked until then.
fn lock_until<T>(mutex: &Mutex<T>, deadline: Instant) -> Option<MutexGuard<'_, T>> {
    for tries in 0.. {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => break,
            Err(TryLockError::WouldBlock) if tries < 10 => std::thread::yield_now(), // it takes a copy's time, as a rule
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}
