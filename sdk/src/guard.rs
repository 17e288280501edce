//! The guard that flushes and ends the export.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::global;
#[cfg(feature = "metrics")]
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::config::Propagator;
use crate::exit;
use crate::ledger::Ledger;
use crate::levels::Levels;
use crate::panic;
use crate::pipeline::Pipeline;
use crate::propagation;
use crate::restraint::Withheld;
use crate::sink::SinkAccount;
use crate::threads::Threads;

/// How much longer than a deadline the export thread's answer is waited for.
const GRACE: Duration = Duration::from_millis(200);

/// Keeps the export going; when it is dropped, what was recorded is sent, for at most
/// [`shutdown_timeout`](crate::Builder::shutdown_timeout).
///
/// It works in and outside of any runtime, also within a task: the export has a thread of its own, and the guard waits for that.
///
/// A forked child has no such thread: what it logs is never sent, nor written by a sink that has a thread (as the console has where stderr is no terminal), a flush fails at once, and the guard's drop does not wait. A service that
/// forks does so before `init`, which each process then calls.
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// tracing::info!("the last record");
/// let ledger = guard.shutdown(std::time::Duration::from_secs(2));
/// assert_eq!(ledger.logs.in_flight, 0);
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[must_use = "dropping the guard ends the export"]
pub struct Guard {
    pipeline: Arc<Pipeline>,
    threads: Threads,
    providers: Providers,
    globals: Globals,
    shutdown_timeout: Duration,
}

/// What is made of the whole process.
pub(crate) struct Globals {
    pub(crate) propagators: Vec<Propagator>,
    /// Whether panics become records.
    pub(crate) panics: bool,
    pub(crate) are_installed: AtomicBool,
}

/// OpenTelemetry's providers of what is exported.
#[derive(Default)]
pub(crate) struct Providers {
    pub(crate) tracer: Option<SdkTracerProvider>,
    #[cfg(feature = "metrics")]
    pub(crate) meter: Option<SdkMeterProvider>,
}

impl Providers {
    /// Makes them the process's.
    pub(crate) fn set_global(&self) {
        if let Some(provider) = &self.tracer {
            global::set_tracer_provider(provider.clone());
        }
        #[cfg(feature = "metrics")]
        if let Some(provider) = &self.meter {
            global::set_meter_provider(provider.clone());
        }
    }

    /// Ends them; that they may have ended already is no fault here.
    fn shut_down(self) {
        self.tracer.iter().for_each(|provider| drop(provider.shutdown()));
        #[cfg(feature = "metrics")]
        self.meter.iter().for_each(|provider| drop(provider.shutdown()));
    }
}

impl Guard {
    pub(crate) fn new(
        pipeline: Arc<Pipeline>,
        threads: Threads,
        providers: Providers,
        globals: Globals,
        shutdown_timeout: Duration,
    ) -> Self {
        Self { pipeline, threads, providers, globals, shutdown_timeout }
    }

    /// Does for the process what [`init`](crate::init) does beside the subscriber, for one of one's own: the global tracer and meter provider; the propagators
    /// of `OTEL_PROPAGATORS`, without which [`middleware`](crate::middleware) and [`propagation`](crate::propagation) hand no trace on; panics as records;
    /// and that what was recorded is sent when the process exits. A second call, or one after `init`, does nothing. The `log` crate's logger and levels
    /// from a file or an address are that subscriber's own affair.
    ///
    /// ```
    /// use tracing_subscriber::layer::SubscriberExt;
    /// use tracing_subscriber::util::SubscriberInitExt;
    ///
    /// let (layer, guard) = watchbell::builder().service_name("checkout").layer()?;
    /// tracing_subscriber::registry().with(layer).init();
    /// guard.install_globals();
    ///
    /// let mut request = http::Request::new(());
    /// tracing::info_span!("upstream").in_scope(|| watchbell::propagation::inject(request.headers_mut()));
    /// assert!(request.headers().contains_key("traceparent"));
    /// # drop(guard.shutdown(std::time::Duration::ZERO));
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn install_globals(&self) {
        if self.globals.are_installed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.providers.set_global();
        propagation::install(&self.globals.propagators);
        exit::flush_at_exit(Arc::clone(&self.pipeline), self.threads.clone(), self.shutdown_timeout);
        if self.globals.panics && self.pipeline.takes_logs() {
            panic::install(Arc::clone(&self.pipeline), self.threads.clone(), self.shutdown_timeout);
        }
    }

    /// Sends what was recorded before the call, and waits until the collector has answered, at most `timeout`.
    ///
    /// It blocks the thread. Records of a span that has not ended are sent, the span itself is not. In a forked child, where nothing can be sent, it fails at once.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// if let Err(error) = guard.flush(std::time::Duration::from_secs(2)) {
    ///     eprintln!("{error}"); // not everything was delivered in time: logs: 17 emitted = 12 delivered + ...
    /// }
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        if self.pipeline.is_forked() {
            return Err(FlushError { ledger: Box::new(self.ledger()) });
        }
        self.pipeline.restraint.tell(&self.pipeline);
        match self.threads.flush(timeout) {
            true => Ok(()),
            false => Err(FlushError { ledger: Box::new(self.ledger()) }),
        }
    }

    /// Sends what was recorded, ends the export, and says what became of all records. What is not delivered within `timeout` is
    /// dropped and counted. It blocks the thread. A collector that is there, or was since the start, is waited for as long as that, since it may be restarting; one that has
    /// never answered and cannot be reached is given up after a second, unless the timeout is `Duration::MAX` or there is a [spool](crate::spool), which keeps what
    /// is left at once.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// let ledger = guard.shutdown(std::time::Duration::from_secs(2));
    /// assert_eq!(ledger.logs.lost(), 0, "{ledger}");
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn shutdown(mut self, timeout: Duration) -> Ledger {
        self.shut_down(timeout);
        self.ledger()
    }

    /// What has become of all records so far.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// println!("{}", guard.ledger().logs); // 17 emitted = 12 delivered + 0 refused + 0 dropped + 5 in flight
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn ledger(&self) -> Ledger {
        self.pipeline.ledger()
    }

    /// What has become of each sink's records so far; of those that wait for a sink's thread nothing is said yet.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// let failed: u64 = guard.sinks().iter().map(|sink| sink.failed).sum();
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn sinks(&self) -> Vec<SinkAccount> {
        let forked = self.pipeline.is_forked().then(|| self.pipeline.forked_logs());
        self.pipeline.sinks.as_ref().map(|sinks| sinks.accounts(forked)).unwrap_or_default()
    }

    /// The levels, to be changed while the service runs; [`Levels`] has an example. After [`Builder::layer`](crate::Builder::layer) they
    /// take away from what the service's own subscriber lets through.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// guard.levels().set("info,checkout=debug").expect("levels");
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn levels(&self) -> Levels {
        self.pipeline.levels.clone()
    }

    /// How many log records were withheld so far, and why: the module [`restraint`](crate::restraint) has an example. They are not among those of the
    /// [`ledger`](Self::ledger), since they were not made.
    ///
    /// ```
    /// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
    /// println!("{}", guard.withheld()); // 37 withheld (30 limit, 7 repeat)
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn withheld(&self) -> Withheld {
        self.pipeline.restraint.withheld()
    }

    /// The provider of spans, for code that makes them by OpenTelemetry's own API; [`init`](crate::init) makes it the global one. None where
    /// `OTEL_SDK_DISABLED` is set.
    ///
    /// ```
    /// use watchbell::opentelemetry::trace::{Tracer, TracerProvider};
    ///
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// if let Some(provider) = guard.tracer_provider() {
    ///     provider.tracer("checkout").in_span("place_order", |_| tracing::info!("order placed"));
    /// }
    /// # drop(guard.shutdown(std::time::Duration::ZERO));
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn tracer_provider(&self) -> Option<&SdkTracerProvider> {
        self.providers.tracer.as_ref()
    }

    /// The provider of meters; [`init`](crate::init) makes it the global one. None where metrics are not exported.
    ///
    /// ```
    /// use watchbell::opentelemetry::metrics::MeterProvider;
    ///
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// if let Some(provider) = guard.meter_provider() {
    ///     let orders = provider.meter("checkout").u64_counter("orders").build();
    ///     orders.add(1, &[]);
    /// }
    /// # drop(guard.shutdown(std::time::Duration::ZERO));
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    #[cfg(feature = "metrics")]
    pub fn meter_provider(&self) -> Option<&SdkMeterProvider> {
        self.providers.meter.as_ref()
    }

    /// The provider of loggers for appenders that speak OpenTelemetry's logs API; the module [`logs`](crate::logs) has an example. None where
    /// logs are not exported.
    ///
    /// ```
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// let appender = guard.logger_provider().map(|provider| {
    ///     opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge::new(&provider) // or another crate's
    /// });
    /// # drop((appender, guard.shutdown(std::time::Duration::ZERO)));
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    #[cfg(feature = "otel-logs")]
    pub fn logger_provider(&self) -> Option<crate::logs::LoggerProvider> {
        self.has_logs().then(|| crate::logs::LoggerProvider { pipeline: Arc::clone(&self.pipeline) })
    }

    /// What takes the place of the batch processor in a provider of `opentelemetry_sdk`. None where logs are not exported.
    ///
    /// ```
    /// use watchbell::opentelemetry_sdk::logs::SdkLoggerProvider;
    ///
    /// # let (_layer, guard) = watchbell::builder().layer::<tracing_subscriber::Registry>()?;
    /// let processor = guard.log_processor().expect("logs are exported");
    /// let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    /// # drop((provider, guard.shutdown(std::time::Duration::ZERO)));
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    #[cfg(feature = "otel-logs")]
    pub fn log_processor(&self) -> Option<crate::logs::LogProcessor> {
        let thread = self.threads.export.clone().filter(|_| self.has_logs())?;
        Some(crate::logs::LogProcessor { pipeline: Arc::clone(&self.pipeline), thread })
    }

    #[cfg(feature = "otel-logs")]
    fn has_logs(&self) -> bool {
        self.pipeline.takes_logs()
    }

    fn shut_down(&mut self, timeout: Duration) {
        if self.pipeline.is_forked() {
            // Its parent's: to end, or only to drop, them may wait for a lock for ever.
            std::mem::forget((std::mem::take(&mut self.threads), std::mem::take(&mut self.providers)));
            return;
        }
        self.pipeline.restraint.tell(&self.pipeline);
        self.pipeline.restraint.close();
        self.pipeline.levels.end();
        std::mem::take(&mut self.threads).shut_down(timeout, GRACE);
        exit::has_flushed(&self.pipeline);
        std::mem::take(&mut self.providers).shut_down();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shut_down(self.shutdown_timeout);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("ledger", &self.ledger()).finish_non_exhaustive()
    }
}

/// A flush's timeout passed before the collector had answered for every record. [`Guard::flush`] has an example.
///
/// ```
/// # let guard = watchbell::builder().variables([("OTEL_SDK_DISABLED", "true")]).init()?;
/// if let Err(watchbell::FlushError { ledger, .. }) = guard.flush(std::time::Duration::from_secs(2)) {
///     eprintln!("{} records wait", ledger.logs.in_flight);
/// }
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlushError {
    /// What became of the records until then.
    pub ledger: Box<Ledger>,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not everything was delivered in time: {}", self.ledger)
    }
}

impl std::error::Error for FlushError {}
