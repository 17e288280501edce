//! What is set in code, laid over what is set outside.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::ShouldSample;
use tracing_core::LevelFilter;

use super::env::Env;
use super::{
    Compression, Config, Export, ExportSettings, LevelsUrl, PerSignal, Propagator, Protocol, Settings, Signal, place,
    values,
};
use crate::lane::WhenFull;
use crate::levels::{Directives, SINKS_MAX};
use crate::limits::Limits;
use crate::patch::{Draft, Patches};
use crate::redact::Redaction;
use crate::resource;
use crate::sink::Sink;
use crate::spool::Spool;
use crate::tls::{self, Tls};

/// Sets up Watchbell in code; what is not set here comes from the environment.
///
/// ```
/// let guard = watchbell::builder()
///     .service_name("checkout")
///     .resource_attribute("deployment.environment.name", "prod")
///     .endpoint("http://collector:4317")
///     .protocol(watchbell::Protocol::Grpc)
///     .levels("info,checkout=debug")
///     .init()?;
/// # drop(guard.shutdown(std::time::Duration::ZERO));
/// # Ok::<(), watchbell::InitError>(())
/// ```
#[derive(Clone, Default)]
pub struct Builder {
    service_name: Option<String>,
    resource_attributes: Vec<KeyValue>,
    endpoint: Option<String>,
    protocol: Option<Protocol>,
    compression: Option<Compression>,
    headers: Vec<(String, String)>,
    certificate: Option<String>,
    client_certificate: Option<(String, String)>,
    timeout: Option<Duration>,
    console: Option<bool>,
    levels: Option<String>,
    levels_url: Option<(String, Duration)>,
    collector_levels: Option<String>,
    restrain: Option<String>,
    sinks: Vec<Sink>,
    redaction: Option<Arc<Redaction>>,
    patches: Patches,
    sampler: Option<Box<dyn ShouldSample>>,
    propagators: Option<String>,
    exported: PerSignal<Option<bool>>,
    attributes_max: Option<u32>,
    attribute_chars_max: Option<usize>,
    schedule_delay: Option<Duration>,
    metric_interval: Option<Duration>,
    baggage_attributes: Vec<String>,
    buffer_bytes_max: Option<usize>,
    when_full: Option<WhenFull>,
    spool: Option<Spool>,
    shutdown_timeout: Option<Duration>,
    panics: Option<bool>,
    error_events_to_status: Option<bool>,
    variables: Option<HashMap<String, String>>,
}

impl Builder {
    /// Names the service, as `OTEL_SERVICE_NAME` does. Without either it is `unknown_service:<program>`.
    ///
    /// ```
    /// let builder = watchbell::builder().service_name("checkout");
    /// ```
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Adds an attribute to the resource, as `OTEL_RESOURCE_ATTRIBUTES` does.
    ///
    /// ```
    /// let builder = watchbell::builder().resource_attribute("deployment.environment.name", "prod").resource_attribute("shard", 3);
    /// ```
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<opentelemetry::Value>) -> Self {
        self.resource_attributes.push(KeyValue::new(key.into(), value));
        self
    }

    /// Where the collector is, for all signals, as `OTEL_EXPORTER_OTLP_ENDPOINT`: `http://host:4318`, `https://host:4317`. Over HTTP
    /// `/v1/logs` and `/v1/traces` are appended.
    ///
    /// ```
    /// let builder = watchbell::builder().endpoint("http://collector:4318");
    /// ```
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// How OTLP is spoken, as `OTEL_EXPORTER_OTLP_PROTOCOL`.
    ///
    /// ```
    /// let builder = watchbell::builder().endpoint("http://collector:4317").protocol(watchbell::Protocol::Grpc);
    /// ```
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// How requests are compressed, as `OTEL_EXPORTER_OTLP_COMPRESSION`.
    ///
    /// ```
    /// let builder = watchbell::builder().compression(watchbell::Compression::Gzip);
    /// ```
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Adds a header to each request, as `OTEL_EXPORTER_OTLP_HEADERS`: `header("authorization", "Bearer ...")`.
    ///
    /// A token for one host is nobody else's: a signal whose own variable sends it elsewhere than `OTEL_EXPORTER_OTLP_ENDPOINT`, or which has an endpoint and headers of its
    /// own there, has only those. In turn [`endpoint`](Self::endpoint) leaves behind the headers of an endpoint at another host that it takes the place of.
    ///
    /// ```
    /// let builder = watchbell::builder().header("authorization", "Bearer ...");
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The PEM file of the authorities that the collector's certificate must come from, as `OTEL_EXPORTER_OTLP_CERTIFICATE`. The system's,
    /// if neither is set.
    ///
    /// ```
    /// let builder = watchbell::builder().endpoint("https://collector:4318").certificate("/etc/tls/ca.pem");
    /// ```
    pub fn certificate(mut self, path: impl Into<String>) -> Self {
        self.certificate = Some(path.into());
        self
    }

    /// The PEM files of our own certificate and its private key, for a collector that asks for one, as
    /// `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and `OTEL_EXPORTER_OTLP_CLIENT_KEY`.
    ///
    /// ```no_run
    /// let _guard = watchbell::builder()
    ///     .endpoint("https://collector:4318")
    ///     .certificate("/etc/tls/ca.pem")
    ///     .client_certificate("/etc/tls/checkout.pem", "/etc/tls/checkout.key")
    ///     .header("authorization", "Bearer ...")
    ///     .init()?;
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn client_certificate(mut self, certificate_path: impl Into<String>, key_path: impl Into<String>) -> Self {
        self.client_certificate = Some((certificate_path.into(), key_path.into()));
        self
    }

    /// How long one request may take, as `OTEL_EXPORTER_OTLP_TIMEOUT` (10 s); zero is no limit. It is then tried again.
    ///
    /// ```
    /// let builder = watchbell::builder().timeout(std::time::Duration::from_secs(3));
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(values::no_limit_for_zero(timeout));
        self
    }

    /// Whether records are also written to stderr, readable: in the call where that is a terminal, by a thread of its own where it is not. On, unless `OTEL_LOGS_EXPORTER` is set and does not list `console`.
    ///
    /// ```
    /// let builder = watchbell::builder().console(false);
    /// ```
    #[cfg(feature = "console")]
    pub fn console(mut self, on: bool) -> Self {
        self.console = Some(on);
        self
    }

    /// Which records are made, as `RUST_LOG`: `info,checkout=debug,hyper=off`. `info` if neither is set.
    ///
    /// ```
    /// let builder = watchbell::builder().levels("info,checkout=debug,hyper=off");
    /// ```
    pub fn levels(mut self, directives: impl Into<String>) -> Self {
        self.levels = Some(directives.into());
        self
    }

    /// Asks an HTTP server which records are made, now and once an interval (a second at least) until the shutdown, as `WATCHBELL_LEVELS_URL` and `WATCHBELL_LEVELS_INTERVAL` do; nobody
    /// is asked if neither is set. For [`init`](Self::init).
    ///
    /// It is a GET whose answer is text: directives as [`levels`](Self::levels) has them, on one line or several, with `#` before remarks; any server of files is good for
    /// it, and so is Watchbell's collector, at `/api/v1/levels/checkout` of its API, with what its config says under `levels:`. They take the place of the levels that were set at the start, until it answers without any, or `204 No Content`. An `ETag` is heeded (`304 Not Modified`). Any
    /// other status, a mistake in the text, or no answer within 10 s is told once on stderr, and leaves the levels as they are.
    ///
    /// At the host of a signal's endpoint, at any port of that host and by the same scheme, it is asked with what is set for that: its headers, its authorities and the
    /// client's certificate.
    /// Any other server is asked without headers, and trusted by the system's authorities: a token for the collector is nobody else's.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = watchbell::builder().levels_url("https://config.example.com/levels/checkout", Duration::from_secs(30));
    /// ```
    pub fn levels_url(mut self, url: impl Into<String>, interval: Duration) -> Self {
        self.levels_url = Some((url.into(), interval));
        self
    }

    /// Which records go to the collector, if others than [`levels`](Self::levels) says: more of them, or fewer.
    ///
    /// ```
    /// let builder = watchbell::builder().levels("debug").collector_levels("info,hyper=warn");
    /// ```
    pub fn collector_levels(mut self, directives: impl Into<String>) -> Self {
        self.collector_levels = Some(directives.into());
        self
    }

    /// What holds log records back, as `WATCHBELL_RESTRAIN`; the module [`restraint`](crate::restraint) has the words and an example.
    ///
    /// ```
    /// let builder = watchbell::builder().restrain("hyper=1/m,debug:5%");
    /// ```
    pub fn restrain(mut self, rules: impl Into<String>) -> Self {
        self.restrain = Some(rules.into());
        self
    }

    /// Writes records elsewhere, too; the module [`sink`](crate::sink) has an example. There may be 31 of them. One to stderr or stdout takes the place
    /// of the usual console, unless [`console`](Self::console) says that this is to stay.
    ///
    /// ```
    /// let builder = watchbell::builder().sink(watchbell::sink::Sink::stdout().levels("warn"));
    /// ```
    pub fn sink(mut self, sink: Sink) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Takes secrets out of log records and spans before they are written or sent, instead of those of `WATCHBELL_REDACT`; the module [`redact`](crate::redact) has an example.
    ///
    /// ```
    /// let builder = watchbell::builder().redact(watchbell::redact::Redaction::usual());
    /// ```
    pub fn redact(mut self, redaction: Redaction) -> Self {
        self.redaction = Some(Arc::new(redaction.renumbered()));
        self
    }

    /// Has each log record shown to a function, which may change it or leave it out; the module [`patch`](mod@crate::patch) has an example. Of several each sees
    /// what the one before has left.
    ///
    /// ```
    /// let builder = watchbell::builder().patch(|draft| draft.set("region", "eu-1"));
    /// ```
    pub fn patch(mut self, patch: impl Fn(&mut Draft<'_>) + Send + Sync + 'static) -> Self {
        self.patches.add(patch);
        self
    }

    /// Which traces are sampled, as `OTEL_TRACES_SAMPLER`. Log records carry their trace's ids also where it is not sampled.
    ///
    /// ```
    /// use watchbell::Sampler;
    ///
    /// let builder = watchbell::builder().sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.1))));
    /// ```
    pub fn sampler(mut self, sampler: impl Into<Box<dyn ShouldSample>>) -> Self {
        self.sampler = Some(sampler.into());
        self
    }

    /// How trace context passes between services, as `OTEL_PROPAGATORS`: `tracecontext,baggage` if neither is set, or `b3`, `b3multi`, `none`. For
    /// [`init`](Self::init) and [`Guard::install_globals`](crate::Guard::install_globals).
    ///
    /// ```
    /// let builder = watchbell::builder().propagators("tracecontext,baggage,b3");
    /// let error = watchbell::builder().propagators("b4").init().unwrap_err();
    /// assert_eq!(error.to_string(), "the propagator `b4` is not known; write `tracecontext`, `baggage`, `b3`, `b3multi` or `none`");
    /// ```
    pub fn propagators(mut self, list: impl Into<String>) -> Self {
        self.propagators = Some(list.into());
        self
    }

    /// Whether log records go to the collector, as `OTEL_LOGS_EXPORTER` says by `otlp` or `none`; the console and other sinks have theirs all the same. On, if neither is set.
    /// Where there is a file of `OTEL_CONFIG_FILE`, it says what is exported, and this can but switch that off; so it is with spans and metrics.
    ///
    /// ```
    /// let builder = watchbell::builder().export_logs(false).sink(watchbell::sink::Sink::stdout());
    /// ```
    pub fn export_logs(self, on: bool) -> Self {
        self.exporting(Signal::Logs, on)
    }

    /// Whether spans go to the collector, as `OTEL_TRACES_EXPORTER` says; log records carry their ids all the same. On, if neither is set.
    ///
    /// ```
    /// let builder = watchbell::builder().export_traces(false);
    /// ```
    pub fn export_traces(self, on: bool) -> Self {
        self.exporting(Signal::Traces, on)
    }

    /// Whether metrics go to the collector, as `OTEL_METRICS_EXPORTER` says. On, if neither is set.
    ///
    /// ```
    /// let builder = watchbell::builder().export_metrics(false);
    /// ```
    #[cfg(feature = "metrics")]
    pub fn export_metrics(self, on: bool) -> Self {
        self.exporting(Signal::Metrics, on)
    }

    fn exporting(mut self, signal: Signal, on: bool) -> Self {
        self.exported[signal as usize] = Some(on);
        self
    }

    /// Most attributes of a log record, and of a span, an event and a link each (128), as `OTEL_ATTRIBUTE_COUNT_LIMIT`; further ones are dropped, and counted in it.
    ///
    /// ```
    /// let builder = watchbell::builder().attributes_max(64);
    /// ```
    pub fn attributes_max(mut self, attributes: u32) -> Self {
        self.attributes_max = Some(attributes);
        self
    }

    /// Longest text of an attribute in characters, and longest byte array in bytes, as `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`: the rest is cut off. No limit but 64 KiB, if neither is set.
    ///
    /// ```
    /// let builder = watchbell::builder().attribute_chars_max(4096);
    /// ```
    pub fn attribute_chars_max(mut self, chars: usize) -> Self {
        self.attribute_chars_max = Some(chars);
        self
    }

    /// How long records are gathered before they are sent, as `OTEL_BLRP_SCHEDULE_DELAY` (1 s) and `OTEL_BSP_SCHEDULE_DELAY` (5 s). Records of
    /// severity ERROR do not wait.
    ///
    /// ```
    /// let builder = watchbell::builder().schedule_delay(std::time::Duration::from_millis(200));
    /// ```
    pub fn schedule_delay(mut self, delay: Duration) -> Self {
        self.schedule_delay = Some(delay);
        self
    }

    /// Makes attributes of the entries of OpenTelemetry's baggage that have these keys, on each record and span; of all other entries none: what
    /// comes from a caller need not be meant for a log; `WATCHBELL_BAGGAGE_ATTRIBUTES` adds to them. The limits of attributes count for them, too.
    ///
    /// ```
    /// let builder = watchbell::builder().baggage_attributes(["tenant.id", "session.id"]);
    /// ```
    pub fn baggage_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.baggage_attributes.extend(keys.into_iter().map(Into::into));
        self
    }

    /// How often metrics are collected and sent, as `OTEL_METRIC_EXPORT_INTERVAL` (60 s).
    ///
    /// ```
    /// let builder = watchbell::builder().metric_interval(std::time::Duration::from_secs(15));
    /// ```
    #[cfg(feature = "metrics")]
    pub fn metric_interval(mut self, interval: Duration) -> Self {
        self.metric_interval = Some(interval);
        self
    }

    /// Most bytes that wait for the collector, of all signals together (16 MiB), as `WATCHBELL_BUFFER_BYTES_MAX`. At the limit the newest records are dropped and counted, or what
    /// [`when_full`](Self::when_full) says. Copies of requests that are under way, four of each signal at most and each a sixteenth of this, are not counted: framed for
    /// gRPC they are as large again, by gzip smaller, as JSON some three times as large.
    ///
    /// ```
    /// let builder = watchbell::builder().buffer_bytes_max(64 << 20);
    /// ```
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = Some(bytes);
        self
    }

    /// What gives way where the buffer is full, as `WATCHBELL_WHEN_FULL`; [`WhenFull`] has an example. The newest records, if nothing is said.
    ///
    /// ```
    /// let builder = watchbell::builder().when_full(watchbell::WhenFull::DropOldest);
    /// ```
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = Some(when_full);
        self
    }

    /// Keeps what waits for the collector on disk while that is away, as `WATCHBELL_SPOOL_DIR`; the module [`spool`](crate::spool) has an example.
    ///
    /// ```
    /// let builder = watchbell::builder().spool(watchbell::spool::Spool::in_dir("/var/lib/checkout"));
    /// ```
    pub fn spool(mut self, spool: Spool) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Leaves alone what earlier processes have left on disk.
    pub(crate) fn without_spool(mut self) -> Self {
        self.spool = None;
        self
    }

    /// Whether [`init`](Self::init) sets a panic hook, which records each panic with the trace it happened in and then calls the hook that
    /// was set before, as `WATCHBELL_PANICS`. On by default.
    ///
    /// ```
    /// let builder = watchbell::builder().panics(false);
    /// ```
    pub fn panics(mut self, on: bool) -> Self {
        self.panics = Some(on);
        self
    }

    /// Whether a `tracing` event of level ERROR gives its span the status `Error`, `#[instrument(err)]`'s among them, with the message of the event's error as its
    /// description if it has one; a span whose status is `Ok` keeps that. On by default.
    ///
    /// ```
    /// let builder = watchbell::builder().error_events_to_status(false);
    /// ```
    pub fn error_events_to_status(mut self, on: bool) -> Self {
        self.error_events_to_status = Some(on);
        self
    }

    /// How long dropping the [`Guard`](crate::Guard), or the process's exit without that, may take (5 s), as `WATCHBELL_SHUTDOWN_TIMEOUT`.
    ///
    /// ```
    /// let builder = watchbell::builder().shutdown_timeout(std::time::Duration::from_secs(2));
    /// ```
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// Reads these variables instead of the process's environment.
    ///
    /// ```
    /// let guard = watchbell::builder().variables([("OTEL_SERVICE_NAME", "checkout"), ("OTEL_SDK_DISABLED", "true")]).init()?;
    /// # Ok::<(), watchbell::InitError>(())
    /// ```
    pub fn variables<K: Into<String>, V: Into<String>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.variables = Some(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
        self
    }

    /// The configuration, and what outside of the code was not understood.
    pub(crate) fn build(self, is_global: bool) -> Result<(Config, Vec<String>), String> {
        #[cfg(not(feature = "grpc"))]
        if self.protocol == Some(Protocol::Grpc) {
            return Err(values::GRPC_ABSENT.to_owned());
        }
        let mut env = Env::new(self.variables.clone());
        let settings = match env.config_file() {
            None => env.settings(self.protocol, self.exported),
            #[cfg(feature = "config-file")]
            Some(path) => {
                let settings = super::file::settings(&path, &mut env)?;
                env.warn(self.exported_by_code_alone(&settings));
                settings
            }
            #[cfg(not(feature = "config-file"))]
            Some(_) => {
                return Err(
                    "OTEL_CONFIG_FILE: this program is built without the feature `config-file` of `watchbell`".into()
                );
            }
        };
        let own = &settings.own;
        let baggage_attributes = [&self.baggage_attributes[..], &own.baggage_attributes].concat();
        let config = Config {
            is_disabled: settings.is_disabled,
            verbosity: settings.verbosity,
            levels: match directives("levels", self.levels.as_deref())? {
                Some(levels) => levels,
                None if is_global => settings.levels.clone(),
                None => Directives::all(LevelFilter::TRACE), // what the service's own subscriber lets through
            },
            collector_levels: directives("collector's levels", self.collector_levels.as_deref())?,
            restraint: match &self.restrain {
                Some(rules) => rules.parse().map_err(|error| format!("what holds back is not understood: {error}"))?,
                None => settings.restraint.clone(),
            },
            redaction: self.redaction.clone().or(own.redaction.clone()),
            patches: self.patches.clone(),
            sinks: self.wanted_sinks(settings.sinks.clone(), is_global && settings.console)?,
            levels_file: settings.levels_file.clone(),
            levels_url: match &self.levels_url {
                Some((url, interval)) => Some(LevelsUrl::new(url, *interval)?),
                None => settings.levels_url.clone(),
            },
            sampler: self.sampler.clone().unwrap_or_else(|| settings.sampler.clone()),
            propagators: match &self.propagators {
                Some(list) => propagators(list)?,
                None => settings.propagators.clone(),
            },
            limits: self.limits(settings.limits),
            resource: self.resource(settings.resource.clone()),
            buffer_bytes_max: self.buffer_bytes_max.or(own.buffer_bytes_max).unwrap_or(BUFFER_BYTES_MAX),
            when_full: self.when_full.or(own.when_full).unwrap_or_default(),
            spool: self.spool.clone().or(settings.spool.clone()),
            shutdown_timeout: self.shutdown_timeout.or(own.shutdown_timeout).unwrap_or(SHUTDOWN_TIMEOUT),
            panics: self.panics.or(own.panics).unwrap_or(true),
            error_events_to_status: self.error_events_to_status.unwrap_or(true),
            baggage_attributes,
            #[cfg(feature = "metrics")]
            metrics: settings.metrics.clone(),
            exports: self.exports(settings)?,
        };
        env.mistakes()?;
        env.check_names();
        Ok((config, env.warnings()))
    }

    /// Tells what the code wants exported, and the file, which says where to, does not.
    #[cfg(feature = "config-file")]
    fn exported_by_code_alone(&self, settings: &Settings) -> impl Iterator<Item = String> {
        let is_absent = |signal: Signal| {
            self.exported[signal as usize] == Some(true) && settings.exports[signal as usize].is_none()
        };
        let absent = Signal::ALL.into_iter().filter(move |signal| !settings.is_disabled && is_absent(*signal));
        absent.map(|signal| {
            let name = signal.name();
            format!("`export_{name}(true)` is not honoured: the file of OTEL_CONFIG_FILE has no exporter of {name}; write one there")
        })
    }

    /// Those that are set outside of the code, those that were added, and the console, unless one of them is in its place.
    fn wanted_sinks(&self, mut sinks: Vec<Sink>, has_console: bool) -> Result<Vec<Sink>, String> {
        sinks.extend(self.sinks.iter().cloned());
        if self.console.unwrap_or(has_console && !sinks.iter().any(Sink::is_console)) {
            let console = Sink::stderr().name("console");
            // A person sees each line at once; a pipe that nobody reads holds nobody up.
            sinks.push(if io::stderr().is_terminal() { console.in_call() } else { console });
        }
        if sinks.len() > SINKS_MAX {
            return Err(format!("there are {} sinks; there can be {SINKS_MAX}", sinks.len()));
        }
        Ok(sinks)
    }

    fn resource(&self, found: Vec<KeyValue>) -> Vec<KeyValue> {
        let named = self.service_name.iter().map(|name| KeyValue::new("service.name", name.clone()));
        resource::complete(found.into_iter().chain(self.resource_attributes.iter().cloned()).chain(named))
    }

    fn limits(&self, mut limits: Limits) -> Limits {
        if let Some(max) = self.attributes_max {
            limits.attributes_per_record_max = max;
            limits.spans.max_attributes_per_span = max;
            limits.spans.max_attributes_per_event = max;
            limits.spans.max_attributes_per_link = max;
        }
        if let Some(max) = self.attribute_chars_max {
            (limits.record_value_chars_max, limits.span_value_chars_max) = (max, max);
        }
        limits
    }

    fn exports(&self, settings: Settings) -> Result<PerSignal<Option<Export>>, String> {
        let mut exports = PerSignal::<Option<Export>>::default();
        for (signal, settings) in Signal::ALL.into_iter().zip(settings.exports) {
            let settings = settings.filter(|_| self.exported[signal as usize] != Some(false));
            exports[signal as usize] = settings.map(|settings| self.export(signal, settings)).transpose()?;
        }
        Ok(exports)
    }

    fn export(&self, signal: Signal, settings: ExportSettings) -> Result<Export, String> {
        let protocol = self.protocol.unwrap_or(settings.protocol);
        let batch = &settings.batch;
        let uri = self.uri(signal, protocol, &settings)?;
        Ok(Export {
            headers: self.headers(&uri, &settings)?,
            uri,
            protocol,
            compression: self.compression.or(settings.compression).unwrap_or(Compression::None),
            timeout: self.timeout.or(settings.timeout).unwrap_or(EXPORT_TIMEOUT),
            export_timeout: batch.export_timeout,
            schedule_delay: match signal {
                Signal::Metrics => self.metric_interval,
                Signal::Logs | Signal::Traces => self.schedule_delay,
            }
            .or(batch.schedule_delay)
            .unwrap_or(signal.schedule_delay()),
            queue_records_max: batch.queue_records_max.map_or(u64::MAX, u64::from),
            batch_records_max: batch.batch_records_max.map_or(u64::MAX, u64::from),
            tls: Tls {
                roots: self.certificate.as_deref().map(tls::roots).transpose()?.or(settings.roots),
                identity: match &self.client_certificate {
                    Some((certificate, key)) => Some(tls::identity(certificate, key)?),
                    None => settings.identity,
                },
            },
        })
    }

    fn uri(&self, signal: Signal, protocol: Protocol, settings: &ExportSettings) -> Result<Uri, String> {
        let kept = match settings.uri.authority() {
            Some(authority) if protocol != settings.protocol => {
                format!("{}://{authority}", settings.uri.scheme_str().unwrap_or("http"))
            }
            _ => String::new(),
        };
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint,
            None if kept.is_empty() => return Ok(settings.uri.clone()),
            None => &kept, // a path of another protocol means nothing to this one
        };
        values::uri(endpoint, protocol, settings.is_insecure, signal.path(protocol))
    }

    /// A token for one collector is nobody else's: what is set outside stays with the endpoint that is set there, what is set in code with that of all signals.
    fn headers(&self, uri: &Uri, settings: &ExportSettings) -> Result<HeaderMap, String> {
        let is_redirected = settings.has_endpoint && place(uri) != place(&settings.uri);
        let mut headers = if is_redirected { HeaderMap::new() } else { settings.headers.clone() };
        let is_for_it = self.endpoint.is_some() || !settings.is_apart;
        for (name, value) in self.headers.iter().filter(|_| is_for_it) {
            let (name, value) = values::header(name, value)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

fn directives(what: &str, text: Option<&str>) -> Result<Option<Directives>, String> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|error: String| format!("the {what} are not understood: {error}"))
}

fn propagators(list: &str) -> Result<Vec<Propagator>, String> {
    let (propagators, unknown) = Propagator::listed(list);
    match unknown.first() {
        Some(name) => Err(format!("the propagator `{name}` is not known; {}", Propagator::WANTED)),
        None => Ok(propagators),
    }
}

/// What it is set to may be secret: headers, and variables with them.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        let mut debug = f.debug_struct("Builder");
        debug.field("service_name", &self.service_name).field("protocol", &self.protocol).field("headers", &names);
        debug.finish_non_exhaustive()
    }
}

const BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
