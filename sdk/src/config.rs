//! What can be set: by the `OTEL_*` environment names of the OpenTelemetry specification, and by the [`Builder`], which wins.
//!
//! An empty value counts as unset. A value that cannot be understood is told once on stderr and then counts as unset, as the
//! specification says.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;
use tracing_subscriber::filter::Targets;

use crate::levels::Levels;
use crate::limits::Limits;
use crate::resource::{self, Detector};
use crate::tls::{self, Identity, Tls};

/// How OTLP is spoken; [`Builder`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC, `grpc`; its usual port is 4317.
    Grpc,
    /// OTLP/HTTP with protobuf, `http/protobuf`, the default; its usual port is 4318.
    HttpProtobuf,
}

/// How requests are compressed.
///
/// ```
/// # #[cfg(feature = "gzip")]
/// let builder = watchbell::builder().compression(watchbell::Compression::Gzip);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Signal {
    pub(crate) const ALL: [Self; 2] = [Self::Logs, Self::Traces];

    fn env_name(self) -> &'static str {
        match self {
            Self::Logs => "LOGS",
            Self::Traces => "TRACES",
        }
    }

    fn http_path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Traces => "/v1/traces",
        }
    }

    fn grpc_path(self) -> &'static str {
        match self {
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }

    /// What one record is called, in the plural.
    pub(crate) fn records_name(self) -> &'static str {
        match self {
            Self::Logs => "log records",
            Self::Traces => "spans",
        }
    }
}

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
#[derive(Clone, Debug, Default)]
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
    sampler: Option<Sampler>,
    schedule_delay: Option<Duration>,
    buffer_bytes_max: Option<usize>,
    shutdown_timeout: Option<Duration>,
    panics: Option<bool>,
    variables: Option<HashMap<String, String>>,
}

impl Builder {
    /// Names the service, as `OTEL_SERVICE_NAME` does. Without either it is `unknown_service:<program>`.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Adds an attribute to the resource, as `OTEL_RESOURCE_ATTRIBUTES` does.
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<opentelemetry::Value>) -> Self {
        self.resource_attributes.push(KeyValue::new(key.into(), value));
        self
    }

    /// Where the collector is, for all signals, as `OTEL_EXPORTER_OTLP_ENDPOINT`: `http://host:4318`, `https://host:4317`. Over HTTP
    /// `/v1/logs` and `/v1/traces` are appended.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// How OTLP is spoken, as `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// How requests are compressed, as `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Adds a header to each request, as `OTEL_EXPORTER_OTLP_HEADERS`: `header("authorization", "Bearer ...")`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The PEM file of the authorities that the collector's certificate must come from, as `OTEL_EXPORTER_OTLP_CERTIFICATE`. The system's,
    /// if neither is set.
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

    /// How long one request may take, as `OTEL_EXPORTER_OTLP_TIMEOUT` (10 s). It is then tried again.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether records are also written to stderr, readable. On, unless `OTEL_LOGS_EXPORTER` is set and does not list `console`.
    #[cfg(feature = "console")]
    pub fn console(mut self, on: bool) -> Self {
        self.console = Some(on);
        self
    }

    /// Which records are made, as `RUST_LOG`: `info,checkout=debug,hyper=off`. `info` if neither is set.
    pub fn levels(mut self, directives: impl Into<String>) -> Self {
        self.levels = Some(directives.into());
        self
    }

    /// Which traces are sampled, as `OTEL_TRACES_SAMPLER`. Log records carry their trace's ids also where it is not sampled.
    ///
    /// ```
    /// use watchbell::Sampler;
    ///
    /// let builder = watchbell::builder().sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.1))));
    /// ```
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// How long records are gathered before they are sent, as `OTEL_BLRP_SCHEDULE_DELAY` (1 s) and `OTEL_BSP_SCHEDULE_DELAY` (5 s). Records of
    /// severity ERROR do not wait.
    pub fn schedule_delay(mut self, delay: Duration) -> Self {
        self.schedule_delay = Some(delay);
        self
    }

    /// Most bytes that wait for the collector, of all signals together (16 MiB). At the limit the newest records are dropped and counted.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = Some(bytes);
        self
    }

    /// Whether [`init`](Self::init) sets a panic hook, which records each panic with the trace it happened in and then calls the hook that
    /// was set before. On by default.
    pub fn panics(mut self, on: bool) -> Self {
        self.panics = Some(on);
        self
    }

    /// How long dropping the [`Guard`](crate::Guard), or the process's exit without that, may take (5 s).
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// Reads these variables instead of the process's environment.
    pub fn variables<K: Into<String>, V: Into<String>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.variables = Some(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
        self
    }

    /// The configuration, and what in the environment was not understood.
    pub(crate) fn build(self) -> Result<(Config, Vec<String>), String> {
        let mut env = Env { variables: self.variables.clone(), warnings: Vec::new() };
        let is_disabled = env.parse("OTEL_SDK_DISABLED", boolean).unwrap_or(false);
        let logs = env.exporters(Signal::Logs);
        let traces = env.exporters(Signal::Traces);
        let mut export = |signal, on: bool| match on && !is_disabled {
            true => self.export(signal, &mut env).map(Some),
            false => Ok(None),
        };
        let config = Config {
            is_disabled,
            logs: export(Signal::Logs, logs.otlp)?,
            traces: export(Signal::Traces, traces.otlp)?,
            console: self.console.unwrap_or(logs.console),
            levels: self.wanted_levels(&mut env)?,
            sampler: self.sampler.clone().unwrap_or_else(|| env.sampler()),
            propagators: env.propagators(),
            limits: env.limits(),
            resource: resource::attributes(
                &env.detectors(),
                self.service_name.clone().or_else(|| env.get("OTEL_SERVICE_NAME")),
                env.pairs("OTEL_RESOURCE_ATTRIBUTES"),
                self.resource_attributes.clone(),
            ),
            buffer_bytes_max: self.buffer_bytes_max.unwrap_or(BUFFER_BYTES_MAX),
            shutdown_timeout: self.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT),
            panics: self.panics.unwrap_or(true),
        };
        let mut told = HashSet::new(); // a variable for all signals is read for each
        env.warnings.retain(|warning| told.insert(warning.clone()));
        Ok((config, env.warnings))
    }

    fn wanted_levels(&self, env: &mut Env) -> Result<Levels, String> {
        if let Some(directives) = &self.levels {
            let targets = directives.parse::<Targets>();
            return targets
                .map(Levels::new)
                .map_err(|error| format!("the levels `{directives}` are not understood: {error}"));
        }
        let directives = env.get("RUST_LOG").unwrap_or_default();
        Ok(Levels::new(env.directives(&directives)))
    }

    fn export(&self, signal: Signal, env: &mut Env) -> Result<Export, String> {
        #[cfg(not(feature = "grpc"))]
        if self.protocol == Some(Protocol::Grpc) {
            return Err(GRPC_ABSENT.to_owned());
        }
        let protocol = self.protocol.or_else(|| env.signal_parse(signal, "PROTOCOL", str::parse));
        let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
        let delay_name = ["OTEL_BLRP_SCHEDULE_DELAY", "OTEL_BSP_SCHEDULE_DELAY"][signal as usize];
        let delay_default = [Duration::from_secs(1), Duration::from_secs(5)][signal as usize];
        Ok(Export {
            uri: self.uri(signal, protocol, env)?,
            protocol,
            headers: self.headers(signal, env)?,
            tls: self.tls(signal, env)?,
            compression: self
                .compression
                .or_else(|| env.signal_parse(signal, "COMPRESSION", str::parse))
                .unwrap_or(Compression::None),
            timeout: self.timeout.or_else(|| env.signal_parse(signal, "TIMEOUT", millis)).unwrap_or(EXPORT_TIMEOUT),
            schedule_delay: self.schedule_delay.or_else(|| env.parse(delay_name, millis)).unwrap_or(delay_default),
        })
    }

    fn uri(&self, signal: Signal, protocol: Protocol, env: &mut Env) -> Result<Uri, String> {
        let is_insecure = env.signal_parse(signal, "INSECURE", boolean).unwrap_or(false);
        let uri = |endpoint: &str, path: &str| match protocol {
            Protocol::Grpc if is_insecure && !endpoint.contains("://") => uri(&format!("http://{endpoint}"), path),
            Protocol::Grpc if !endpoint.contains("://") => uri(&format!("https://{endpoint}"), path),
            _ => uri(endpoint, path),
        };
        if let Some(endpoint) = &self.endpoint {
            return uri(endpoint, base_path(signal, protocol));
        }
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.env_name());
        let own_path = match protocol {
            Protocol::Grpc => signal.grpc_path(),
            Protocol::HttpProtobuf => "", // the specification: used as it is
        };
        let shared_path = base_path(signal, protocol);
        let found = env.parse(&own, |value| uri(value, own_path));
        let found = found.or_else(|| env.parse("OTEL_EXPORTER_OTLP_ENDPOINT", |value| uri(value, shared_path)));
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        };
        found.map_or_else(|| uri(default, shared_path), Ok)
    }

    fn tls(&self, signal: Signal, env: &mut Env) -> Result<Tls, String> {
        Ok(Tls {
            roots: match &self.certificate {
                Some(path) => Some(tls::roots(path)?),
                None => env.signal_parse(signal, "CERTIFICATE", tls::roots),
            },
            identity: match &self.client_certificate {
                Some((certificate, key)) => Some(tls::identity(certificate, key)?),
                None => env.identity(signal),
            },
        })
    }

    fn headers(&self, signal: Signal, env: &mut Env) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let own = format!("OTEL_EXPORTER_OTLP_{}_HEADERS", signal.env_name());
        for (name, value) in env.pairs("OTEL_EXPORTER_OTLP_HEADERS").into_iter().chain(env.pairs(&own)) {
            match header(&name, &value) {
                Ok((name, value)) => drop(headers.insert(name, value)),
                Err(error) => env.warnings.push(error),
            }
        }
        for (name, value) in &self.headers {
            let (name, value) = header(name, value)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

#[cfg(not(feature = "grpc"))]
const GRPC_ABSENT: &str = "gRPC cannot be spoken: this program is built without the feature `grpc` of `watchbell`";

const BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// All that is set, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) is_disabled: bool,
    pub(crate) logs: Option<Export>,
    pub(crate) traces: Option<Export>,
    #[cfg_attr(not(feature = "console"), expect(dead_code))]
    pub(crate) console: bool,
    pub(crate) levels: Levels,
    pub(crate) sampler: Sampler,
    pub(crate) propagators: Vec<Propagator>,
    pub(crate) limits: Limits,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) buffer_bytes_max: usize,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) panics: bool,
}

impl Config {
    /// Where and how a signal leaves, if it does.
    pub(crate) fn export(&self, signal: Signal) -> Option<&Export> {
        match signal {
            Signal::Logs => self.logs.as_ref(),
            Signal::Traces => self.traces.as_ref(),
        }
    }
}

/// Where and how a signal leaves.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) uri: Uri,
    pub(crate) protocol: Protocol,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: Tls,
    pub(crate) compression: Compression,
    pub(crate) timeout: Duration,
    pub(crate) schedule_delay: Duration,
}

/// How trace context passes between services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Propagator {
    TraceContext,
    Baggage,
    B3,
    B3Multi,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            #[cfg(feature = "grpc")]
            "grpc" => Ok(Self::Grpc),
            #[cfg(not(feature = "grpc"))]
            "grpc" => Err(GRPC_ABSENT.to_owned()),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            _ => Err(format!("`{text}` is not a protocol; write `grpc` or `http/protobuf`")),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            #[cfg(feature = "gzip")]
            "gzip" => Ok(Self::Gzip),
            #[cfg(not(feature = "gzip"))]
            "gzip" => Err("this program is built without the feature `gzip` of `watchbell`".to_owned()),
            "none" => Ok(Self::None),
            _ => Err(format!("`{text}` is not a compression; write `gzip` or `none`")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        })
    }
}

/// The environment, and what was wrong in it.
struct Env {
    variables: Option<HashMap<String, String>>,
    warnings: Vec<String>,
}

struct Exporters {
    otlp: bool,
    console: bool,
}

impl Env {
    fn get(&self, name: &str) -> Option<String> {
        let value = match &self.variables {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok(),
        };
        value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(&self.get(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.warnings.push(format!("{name} is ignored: {error}"));
                None
            }
        }
    }

    /// The signal's own variable, else the one for all signals.
    fn signal_parse<T>(&mut self, signal: Signal, what: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let own = self.parse(&format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.env_name()), &parse);
        own.or_else(|| self.parse(&format!("OTEL_EXPORTER_OTLP_{what}"), &parse))
    }

    /// The variable's name and value, the signal's own if it is set.
    fn signal_get(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.env_name());
        let names = [own, format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// The client certificate; one variable of the two alone is told and ignored.
    fn identity(&mut self, signal: Signal) -> Option<Identity> {
        let certificate = self.signal_get(signal, "CLIENT_CERTIFICATE");
        let key = self.signal_get(signal, "CLIENT_KEY");
        let (name, read) = match (certificate, key) {
            (None, None) => return None,
            (Some((name, certificate)), Some((_, key))) => (name, tls::identity(&certificate, &key)),
            (Some((name, _)), None) => (name, Err("`OTEL_EXPORTER_OTLP_CLIENT_KEY` is missing".to_owned())),
            (None, Some((name, _))) => (name, Err("`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` is missing".to_owned())),
        };
        read.map_err(|error| self.warnings.push(format!("{name} is ignored: {error}"))).ok()
    }

    /// `key=value,key=value`, percent-encoded; one mistake discards the whole, as the specification wants.
    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        self.parse(name, pairs).unwrap_or_default()
    }

    fn exporters(&mut self, signal: Signal) -> Exporters {
        let name = format!("OTEL_{}_EXPORTER", signal.env_name());
        let Some(list) = self.get(&name) else {
            return Exporters { otlp: true, console: signal == Signal::Logs };
        };
        let mut exporters = Exporters { otlp: false, console: false };
        for exporter in list.split(',').map(str::trim) {
            match exporter {
                "otlp" => exporters.otlp = true,
                "console" if signal == Signal::Logs && cfg!(feature = "console") => exporters.console = true,
                "none" | "" => {}
                _ => self
                    .warnings
                    .push(format!("{name}: the exporter `{exporter}` is not known; write `otlp` or `none`")),
            }
        }
        exporters
    }

    fn propagators(&mut self) -> Vec<Propagator> {
        let mut propagators = Vec::new();
        let list = self.get("OTEL_PROPAGATORS").unwrap_or_else(|| "tracecontext,baggage".to_owned());
        for name in list.split(',').map(str::trim) {
            match name {
                "tracecontext" => propagators.push(Propagator::TraceContext),
                "baggage" => propagators.push(Propagator::Baggage),
                "b3" => propagators.push(Propagator::B3),
                "b3multi" => propagators.push(Propagator::B3Multi),
                "none" => {}
                _ => {
                    let wanted = "write `tracecontext`, `baggage`, `b3` or `b3multi`";
                    self.warnings.push(format!("OTEL_PROPAGATORS: `{name}` is not known; {wanted}"));
                }
            }
        }
        let mut seen = HashSet::new(); // the specification wants duplicates gone
        propagators.retain(|propagator| seen.insert(*propagator));
        propagators
    }

    /// The list of other languages' SDKs, under the name that Python's gave it: the specification has none.
    fn detectors(&mut self) -> Vec<Detector> {
        let name = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS";
        let list = self.get(name).unwrap_or_default();
        let mut detectors = Vec::new();
        for wanted in list.split(',').map(str::trim) {
            match (wanted, Detector::named(wanted)) {
                (_, Some(detector)) => detectors.push(detector),
                ("*", _) => detectors.extend(Detector::ALL),
                ("" | "otel" | "none", _) => {} // what is always there
                _ => {
                    let known = "write `process`, `host`, `os`, `container` or `*`";
                    self.warnings.push(format!("{name}: `{wanted}` is not known; {known}"));
                }
            }
        }
        detectors
    }

    fn limits(&mut self) -> Limits {
        let mut limits = Limits::default();
        let mut first = |names: &[&str]| names.iter().find_map(|name| self.parse(name, count));
        let mut set = |limit: &mut u32, names: &[&str]| *limit = first(names).unwrap_or(*limit);
        set(&mut limits.attributes_per_record_max, &["OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTE_COUNT]);
        set(&mut limits.spans.max_attributes_per_span, &["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTE_COUNT]);
        set(&mut limits.spans.max_attributes_per_event, &["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTE_COUNT]);
        set(&mut limits.spans.max_attributes_per_link, &["OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTE_COUNT]);
        set(&mut limits.spans.max_events_per_span, &["OTEL_SPAN_EVENT_COUNT_LIMIT"]);
        set(&mut limits.spans.max_links_per_span, &["OTEL_SPAN_LINK_COUNT_LIMIT"]);
        let mut set =
            |limit: &mut usize, name| *limit = first(&[name, VALUE_LENGTH]).map_or(*limit, |max| max as usize);
        set(&mut limits.record_value_chars_max, "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT");
        set(&mut limits.span_value_chars_max, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT");
        limits
    }

    fn sampler(&mut self) -> Sampler {
        let always_on = || Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else { return always_on() };
        let mut ratio = || Sampler::TraceIdRatioBased(self.parse("OTEL_TRACES_SAMPLER_ARG", ratio).unwrap_or(1.0));
        match name.as_str() {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => ratio(),
            "parentbased_always_on" => always_on(),
            "parentbased_always_off" => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
            "parentbased_traceidratio" => Sampler::ParentBased(Box::new(ratio())),
            _ => {
                let wanted =
                    "write `always_on`, `always_off`, `traceidratio` or one of these with `parentbased_` before it";
                self.warnings.push(format!("OTEL_TRACES_SAMPLER is ignored: `{name}` is not known; {wanted}"));
                always_on()
            }
        }
    }

    /// `RUST_LOG`; a directive that is not understood is left out, the others count.
    fn directives(&mut self, directives: &str) -> Targets {
        let mut targets = Targets::new();
        let mut default = None;
        for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match directive.parse::<Targets>() {
                Ok(parsed) => {
                    default = parsed.default_level().or(default);
                    targets.extend(parsed);
                }
                Err(error) => self.warnings.push(format!("RUST_LOG: the directive `{directive}` is ignored: {error}")),
            }
        }
        match default {
            None if targets.iter().next().is_none() => targets.with_default(tracing_core::Level::INFO),
            None => targets,
            Some(level) => targets.with_default(level),
        }
    }
}

const ATTRIBUTE_COUNT: &str = "OTEL_ATTRIBUTE_COUNT_LIMIT";
const VALUE_LENGTH: &str = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";

fn count(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("`{value}` is not a number of 0 or more"))
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{value}` is not a boolean; write `true` or `false`")),
    }
}

fn millis(value: &str) -> Result<Duration, String> {
    let millis = value.parse().map_err(|_| format!("`{value}` is not a number of milliseconds"))?;
    Ok(Duration::from_millis(millis))
}

fn ratio(value: &str) -> Result<f64, String> {
    match value.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("`{value}` is not a ratio from 0 to 1")),
    }
}

fn base_path(signal: Signal, protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => signal.grpc_path(),
        Protocol::HttpProtobuf => signal.http_path(),
    }
}

/// An endpoint with `path` after its own.
fn uri(endpoint: &str, path: &str) -> Result<Uri, String> {
    let wrong = || format!("`{endpoint}` is not an endpoint; write `http://host:port` or `https://host:port`");
    let base = endpoint.parse::<Uri>().map_err(|_| wrong())?;
    if !matches!(base.scheme_str(), Some("http" | "https")) || base.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    match path {
        "" => Ok(base),
        _ => format!("{}{path}", endpoint.trim_end_matches('/')).parse().map_err(|_| wrong()),
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong_name = |_| format!("`{name}` is not a header's name");
    let parsed_name = name.to_ascii_lowercase().parse::<HeaderName>().map_err(wrong_name)?;
    let mut value =
        value.parse::<HeaderValue>().map_err(|_| format!("the value of the header `{name}` is not valid"))?;
    value.set_sensitive(true);
    Ok((parsed_name, value))
}

fn pairs(list: &str) -> Result<Vec<(String, String)>, String> {
    list.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn pair(pair: &str) -> Result<(String, String), String> {
    let (key, value) = pair.split_once('=').ok_or_else(|| "it is not a list of `key=value,key=value`".to_owned())?;
    Ok((percent_decode(key.trim())?, percent_decode(value.trim())?))
}

/// Text with `%` and two hex digits for a byte.
pub(crate) fn percent_decode(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.ok_or_else(|| "a `%` is not followed by two hex digits".to_owned())?);
        decoded.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(decoded).map_err(|_| "it is not UTF-8 once percent-decoded".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
        watchbell_builder(variables).build().expect("the environment alone is never an error")
    }

    fn watchbell_builder(variables: &[(&str, &str)]) -> Builder {
        Builder::default().variables(variables.iter().copied())
    }

    const OS: &str = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };

    fn attribute(config: &Config, key: &str) -> String {
        let found = config.resource.iter().find(|attribute| attribute.key.as_str() == key);
        found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
    }

    #[test]
    fn everything_has_a_default() {
        let (config, warnings) = built(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
        let (logs, traces) = (config.logs.as_ref().unwrap(), config.traces.as_ref().unwrap());
        assert_eq!(logs.uri, "http://localhost:4318/v1/logs");
        assert_eq!(traces.uri, "http://localhost:4318/v1/traces");
        assert_eq!((logs.protocol, logs.compression), (Protocol::HttpProtobuf, Compression::None));
        assert_eq!((logs.schedule_delay, traces.schedule_delay), (Duration::from_secs(1), Duration::from_secs(5)));
        assert_eq!(logs.timeout, Duration::from_secs(10));
        assert!(config.console && !config.is_disabled);
        assert_eq!(config.propagators, [Propagator::TraceContext, Propagator::Baggage]);
        assert_eq!(config.buffer_bytes_max, 16 * 1024 * 1024);
        assert!(attribute(&config, "service.name").starts_with("unknown_service:"));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn endpoints() {
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const LOGS: &str = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT";
        const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let uri = |variables: &[(&str, &str)]| built(variables).0.logs.unwrap().uri.to_string();
        const SERVICE: &str = "opentelemetry.proto.collector.logs.v1.LogsService/Export";
        assert_eq!(uri(&[GRPC]), format!("http://localhost:4317/{SERVICE}"));
        assert_eq!(uri(&[GRPC, (ALL, "https://c:4317")]), format!("https://c:4317/{SERVICE}"));
        assert_eq!(uri(&[GRPC, (LOGS, "http://c:1/")]), format!("http://c:1/{SERVICE}"));
        assert_eq!(uri(&[(ALL, "http://c:1")]), "http://c:1/v1/logs");
        assert_eq!(uri(&[(ALL, "http://c:1/base/")]), "http://c:1/base/v1/logs");
        assert_eq!(uri(&[(ALL, "http://c:1"), (LOGS, "http://d:2/own")]), "http://d:2/own");
        assert_eq!(uri(&[(LOGS, "http://d:2")]), "http://d:2/");
        assert_eq!(uri(&[GRPC, (ALL, "c:4317")]), format!("https://c:4317/{SERVICE}"));
        const INSECURE: (&str, &str) = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
        assert_eq!(uri(&[GRPC, INSECURE, (ALL, "c:4317")]), format!("http://c:4317/{SERVICE}"));
        assert_eq!(uri(&[GRPC, INSECURE, (ALL, "https://c:4317")]), format!("https://c:4317/{SERVICE}"));
        let own = ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "false");
        assert_eq!(uri(&[GRPC, INSECURE, own, (ALL, "c:4317")]), format!("https://c:4317/{SERVICE}"));
        assert_eq!(uri(&[(ALL, "http://c:1"), (LOGS, "nonsense")]), "http://c:1/v1/logs");
    }

    #[test]
    fn a_signals_own_variable_wins() {
        let (config, warnings) = built(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x-tenant = all "),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-tenant=logs"),
            ("OTEL_BSP_SCHEDULE_DELAY", "7"),
        ]);
        let (logs, traces) = (config.logs.unwrap(), config.traces.unwrap());
        assert_eq!((logs.protocol, traces.protocol), (Protocol::Grpc, Protocol::HttpProtobuf));
        assert_eq!((logs.compression, traces.compression), (Compression::Gzip, Compression::None));
        assert_eq!(logs.timeout, Duration::from_millis(2500));
        assert_eq!(
            (&logs.headers["api-key"], &logs.headers["x-tenant"]),
            (&"a b".parse().unwrap(), &"logs".parse().unwrap())
        );
        assert_eq!(traces.headers["x-tenant"], "all");
        assert_eq!(traces.schedule_delay, Duration::from_millis(7));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn certificates() {
        const ROOTS: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
        const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, empty) = (&write("cert.pem", &pair.cert.pem()), &write("empty.pem", ""));
        let key = &write("key.pem", &pair.signing_key.serialize_pem());
        let other_key = &write("other.pem", &other.signing_key.serialize_pem());

        let (config, warnings) = built(&[(ROOTS, certificate), (CERTIFICATE, certificate), (KEY, key)]);
        assert!(warnings.is_empty(), "{warnings:?}");
        let tls = config.traces.unwrap().tls;
        assert!(tls.roots.is_some() && tls.identity.is_some());
        let http = hyper_util::client::legacy::connect::HttpConnector::new();
        assert!(tls.connector(&Uri::from_static("https://c:1"), http, Protocol::Grpc).is_ok());
        let (config, _) = built(&[("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", certificate)]);
        assert!(config.logs.unwrap().tls.roots.is_some() && config.traces.unwrap().tls.roots.is_none());

        let wrong: [(&[(&str, &str)], &str); 6] = [
            (&[(ROOTS, "/no/ca.pem")], "cannot read certificates from `/no/ca.pem`"),
            (&[(ROOTS, empty)], "holds no certificate"),
            (&[(KEY, key)], "`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` is missing"),
            (&[(CERTIFICATE, certificate)], "`OTEL_EXPORTER_OTLP_CLIENT_KEY` is missing"),
            (&[(CERTIFICATE, certificate), (KEY, empty)], "cannot read a private key from"),
            (&[(CERTIFICATE, certificate), (KEY, other_key)], "do not go together"),
        ];
        for (variables, told) in wrong {
            let (_, warnings) = built(variables);
            let [warning] = &warnings[..] else { panic!("{warnings:?}") };
            assert!(warning.contains("is ignored: ") && warning.contains(told), "{warning}");
        }
        assert!(Builder::default().certificate("/no/ca.pem").build().unwrap_err().contains("/no/ca.pem"));
        assert!(Builder::default().client_certificate(certificate, empty).build().is_err());
    }

    #[test]
    fn the_resource() {
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=env,deployment.environment.name=pr%C3%BCf,a=1");
        let (config, _) = built(&[attributes]);
        assert_eq!(attribute(&config, "service.name"), "env");
        assert_eq!(attribute(&config, "deployment.environment.name"), "prüf");
        let (config, _) = built(&[attributes, ("OTEL_SERVICE_NAME", "named")]);
        assert_eq!(attribute(&config, "service.name"), "named");
        let builder = watchbell_builder(&[attributes]).service_name("code").resource_attribute("a", 2);
        let (config, _) = builder.build().unwrap();
        assert_eq!((attribute(&config, "service.name"), attribute(&config, "a")), ("code".to_owned(), "2".to_owned()));
        assert_eq!(config.resource.iter().filter(|attribute| attribute.key.as_str() == "a").count(), 1);
    }

    #[test]
    fn what_is_detected_of_the_resource() {
        const NAME: &str = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS";
        assert_eq!(attribute(&built(&[]).0, "process.pid"), "");
        let (config, _) = built(&[(NAME, "otel, process,os")]);
        assert_eq!(attribute(&config, "process.pid"), std::process::id().to_string());
        assert_eq!((attribute(&config, "os.type").as_str(), attribute(&config, "host.arch").as_str()), (OS, ""));
        let (config, _) = built(&[(NAME, "*"), ("OTEL_RESOURCE_ATTRIBUTES", "host.arch=own")]);
        assert_eq!(attribute(&config, "host.arch"), "own");
        let (_, warnings) = built(&[(NAME, "process,k8s")]);
        assert!(warnings.len() == 1 && warnings[0].contains("`k8s` is not known"), "{warnings:?}");
    }

    #[test]
    fn exporters_and_switches() {
        let (config, _) = built(&[("OTEL_SDK_DISABLED", "TRUE")]);
        assert!(config.is_disabled && config.logs.is_none() && config.traces.is_none());
        let (config, _) = built(&[("OTEL_LOGS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none")]);
        assert!(config.logs.is_none() && config.traces.is_none() && !config.console);
        let (config, _) = built(&[("OTEL_LOGS_EXPORTER", "console")]);
        assert!(config.logs.is_none() && config.traces.is_some() && config.console);
        let (config, _) = watchbell_builder(&[("OTEL_LOGS_EXPORTER", "otlp")]).console(true).build().unwrap();
        assert!(config.logs.is_some() && config.console);
    }

    #[test]
    fn limits() {
        let all = [("OTEL_ATTRIBUTE_COUNT_LIMIT", "5"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7")];
        let (config, _) = built(&[all[0], all[1], ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3")]);
        let Limits { attributes_per_record_max, record_value_chars_max, span_value_chars_max, spans } = config.limits;
        assert_eq!((attributes_per_record_max, record_value_chars_max, span_value_chars_max), (3, 7, 7));
        assert_eq!(
            (spans.max_attributes_per_span, spans.max_attributes_per_link, spans.max_events_per_span),
            (5, 5, 128)
        );
        let (config, warnings) = built(&[("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1"), ("OTEL_SPAN_EVENT_COUNT_LIMIT", "0")]);
        assert_eq!((config.limits.attributes_per_record_max, config.limits.spans.max_events_per_span), (128, 0));
        assert!(warnings.len() == 1 && warnings[0].contains("`-1` is not a number"), "{warnings:?}");
    }

    #[test]
    fn propagators() {
        let (config, warnings) = built(&[("OTEL_PROPAGATORS", "b3multi, tracecontext,b3,b3")]);
        assert_eq!(config.propagators, [Propagator::B3Multi, Propagator::TraceContext, Propagator::B3]);
        let (none, _) = built(&[("OTEL_PROPAGATORS", "none")]);
        assert!(none.propagators.is_empty() && warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn samplers() {
        let sampler = |name, argument| {
            let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            let (config, warnings) = built(&variables);
            (format!("{:?}", config.sampler), warnings.len())
        };
        assert_eq!(sampler("always_off", ""), ("AlwaysOff".to_owned(), 0));
        assert_eq!(sampler("traceidratio", "0.25"), ("TraceIdRatioBased(0.25)".to_owned(), 0));
        assert_eq!(sampler("traceidratio", "2"), ("TraceIdRatioBased(1.0)".to_owned(), 1));
        assert_eq!(sampler("parentbased_traceidratio", "0.5"), ("ParentBased(TraceIdRatioBased(0.5))".to_owned(), 0));
        assert_eq!(sampler("parentbased_always_off", ""), ("ParentBased(AlwaysOff)".to_owned(), 0));
        assert_eq!(sampler("xray", ""), ("ParentBased(AlwaysOn)".to_owned(), 1));
    }

    #[test]
    fn what_is_not_understood_is_told_once_and_ignored() {
        let cases = [
            (
                "OTEL_SDK_DISABLED",
                "yes",
                "OTEL_SDK_DISABLED is ignored: `yes` is not a boolean; write `true` or `false`",
            ),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json", "`http/json` is not a protocol; write `grpc` or"),
            ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "br", "`br` is not a compression; write `gzip` or `none`"),
            (
                "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
                "collector:4318",
                "`collector:4318` is not an endpoint; write `http://",
            ),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "10s", "`10s` is not a number of milliseconds"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key", "it is not a list of `key=value,key=value`"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "a `%` is not followed by two hex digits"),
            ("OTEL_LOGS_EXPORTER", "otlp,kafka", "the exporter `kafka` is not known; write `otlp` or `none`"),
            (
                "OTEL_PROPAGATORS",
                "tracecontext,xray",
                "`xray` is not known; write `tracecontext`, `baggage`, `b3` or `b3multi`",
            ),
            ("RUST_LOG", "info,checkout=loud", "the directive `checkout=loud` is ignored"),
        ];
        for (name, value, told) in cases {
            let (_, warnings) = built(&[(name, value)]);
            assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
            assert!(warnings[0].starts_with(name) && warnings[0].contains(told), "{warnings:?}");
        }
    }

    #[test]
    fn a_variable_for_all_signals_is_told_once() {
        let (_, warnings) = built(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"), ("OTEL_EXPORTER_OTLP_HEADERS", "x")]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn what_is_wrong_in_code_is_an_error() {
        let error = |builder: Builder| builder.variables([("", "")]).build().expect_err("an error");
        assert!(error(Builder::default().endpoint("localhost:4317")).contains("is not an endpoint"));
        assert!(error(Builder::default().levels("a=b=c")).contains("`a=b=c`"));
        assert!(error(Builder::default().header("a b", "c")).contains("`a b` is not a header's name"));
    }

    #[test]
    fn levels() {
        use tracing_core::Level;
        let enabled = |directives: &str, target: &str| {
            let mut env = Env { variables: None, warnings: Vec::new() };
            let targets = env.directives(directives);
            let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
            levels.into_iter().filter(|level| targets.would_enable(target, level)).count()
        };
        assert_eq!(enabled("", "any"), 3);
        assert_eq!((enabled("warn", "any"), enabled("off", "any")), (2, 0));
        assert_eq!((enabled("info,checkout=debug", "checkout::cart"), enabled("info,checkout=debug", "hyper")), (4, 3));
        assert_eq!((enabled("checkout", "checkout"), enabled("checkout", "hyper")), (5, 0));
        assert_eq!((enabled("loud=x", "any"), enabled("warn,loud=x", "any")), (3, 2));
    }
}
