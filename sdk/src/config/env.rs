//! The environment, as the OpenTelemetry specification reads it.
//!
//! An empty value counts as unset, names of a set (a protocol, a sampler) are read in any case, and a boolean of OpenTelemetry's is true only where it says
//! `true`. What cannot be understood is told once on stderr and then counts as unset, but for sinks, without which the service does not start.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;

#[cfg(feature = "metrics")]
use super::MetricsConfig;
use super::{
    BatchSettings, ExportSettings, LevelsUrl, OwnSettings, PerSignal, Propagator, Protocol, Settings, Signal, place,
    values,
};
use crate::lane::WhenFull;
use crate::levels::{Directives, parts};
use crate::limits::Limits;
use crate::meant::meant;
use crate::redact::{self, Redaction};
use crate::resource::{self, Detector};
use crate::restraint::Rules;
use crate::sink::{self, Sink};
use crate::spool::Spool;
use crate::tell::Verbosity;
use crate::tls::{self, Identity};

/// The environment, and what was wrong in it.
pub(super) struct Env {
    variables: Option<HashMap<String, String>>,
    warnings: Vec<String>,
    /// What is so wrong that the service is not to start.
    mistakes: Vec<String>,
}

#[derive(Clone, Copy)]
struct Exporters {
    otlp: bool,
    console: bool,
}

impl Env {
    /// These variables, or the process's.
    pub(super) fn new(variables: Option<HashMap<String, String>>) -> Self {
        Self { variables, warnings: Vec::new(), mistakes: Vec::new() }
    }

    /// All that it says; a protocol that was set in code decides how endpoints are read, and what is exported by the code's word is read of.
    pub(super) fn settings(&mut self, protocol: Option<Protocol>, exported: PerSignal<Option<bool>>) -> Settings {
        let is_disabled = self.boolean("OTEL_SDK_DISABLED").unwrap_or(false);
        let exporters = Signal::ALL.map(|signal| self.exporters(signal));
        let mut exports = PerSignal::<Option<ExportSettings>>::default();
        for signal in Signal::ALL {
            let is_on = exported[signal as usize].unwrap_or(exporters[signal as usize].otlp) && !is_disabled;
            exports[signal as usize] = is_on.then(|| self.export(signal, protocol));
        }
        Settings {
            is_disabled,
            verbosity: self.parse("OTEL_LOG_LEVEL", Verbosity::named).unwrap_or(Verbosity::Info),
            exports,
            console: exporters[Signal::Logs as usize].console,
            levels: self.levels(),
            levels_file: None,
            levels_url: self.levels_url(),
            restraint: self.restraint(),
            spool: self.spool(),
            sinks: self.sinks(),
            sampler: Box::new(self.sampler()),
            propagators: self.propagators(),
            limits: self.limits(),
            resource: self.resource(),
            own: self.own(),
            #[cfg(feature = "metrics")]
            metrics: self.metrics(),
        }
    }

    /// The file that alone counts where it is set.
    pub(super) fn config_file(&mut self) -> Option<String> {
        self.get("OTEL_CONFIG_FILE").or_else(|| self.get("OTEL_EXPERIMENTAL_CONFIG_FILE"))
    }

    /// Which records are made.
    pub(super) fn levels(&mut self) -> Directives {
        let directives = self.get("RUST_LOG").unwrap_or_default();
        self.directives(&directives)
    }

    /// Who is asked for the levels. Not OpenTelemetry's.
    pub(super) fn levels_url(&mut self) -> Option<LevelsUrl> {
        let interval = self.parse("WATCHBELL_LEVELS_INTERVAL", values::millis).unwrap_or(LevelsUrl::INTERVAL);
        self.parse("WATCHBELL_LEVELS_URL", |url| LevelsUrl::new(url, interval))
    }

    /// What holds log records back.
    pub(super) fn restraint(&mut self) -> Rules {
        let rules = self.get("WATCHBELL_RESTRAIN").unwrap_or_default();
        Rules::lenient(&rules, |part, error| {
            self.warnings.push(format!("WATCHBELL_RESTRAIN: `{part}` is not understood: {error}"));
        })
    }

    /// Where what waits is kept while the collector is away. Not OpenTelemetry's either.
    pub(super) fn spool(&mut self) -> Option<Spool> {
        let bytes_max = self.parse("WATCHBELL_SPOOL_BYTES_MAX", values::bytes);
        let at_cap = self.parse("WATCHBELL_SPOOL_WHEN_FULL", str::parse);
        let is_mapped = self.parse("WATCHBELL_SPOOL_MAPPED", values::boolean).unwrap_or(false);
        let mut spool = Spool::in_dir(self.get("WATCHBELL_SPOOL_DIR")?);
        spool = bytes_max.into_iter().fold(spool, Spool::bytes_max);
        spool = at_cap.into_iter().fold(spool, Spool::at_cap);
        Some(if is_mapped { spool.mapped() } else { spool })
    }

    /// What is our own beside what has a place among OpenTelemetry's.
    pub(super) fn own(&mut self) -> OwnSettings {
        OwnSettings {
            redaction: self.redaction(),
            baggage_attributes: self.baggage_attributes(),
            buffer_bytes_max: self.buffer_bytes_max(),
            when_full: self.when_full(),
            shutdown_timeout: self.parse("WATCHBELL_SHUTDOWN_TIMEOUT", values::millis),
            panics: self.parse("WATCHBELL_PANICS", values::boolean),
        }
    }

    /// What gives way where the buffer is full.
    fn when_full(&mut self) -> Option<WhenFull> {
        let timeout = self.parse("WATCHBELL_BLOCK_TIMEOUT", values::millis);
        match self.parse("WATCHBELL_WHEN_FULL", str::parse)? {
            WhenFull::Block(default) => Some(WhenFull::Block(timeout.unwrap_or(default))),
            other => Some(other),
        }
    }

    /// What is secret, and what becomes of it.
    fn redaction(&mut self) -> Option<Arc<Redaction>> {
        let list = self.get("WATCHBELL_REDACT")?;
        let hash_key = self.hash_key();
        let (redaction, wrong) = redact::listed(&list, hash_key.as_deref().map(str::as_bytes));
        self.warnings.extend(wrong.into_iter().map(|wrong| format!("WATCHBELL_REDACT: {wrong}")));
        Some(Arc::new(redaction))
    }

    /// What values are hashed under.
    pub(super) fn hash_key(&mut self) -> Option<String> {
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"));
        let of_file = self.parse("WATCHBELL_REDACT_HASH_KEY_FILE", read).map(|key| key.trim_end().to_owned());
        of_file.or_else(|| self.get("WATCHBELL_REDACT_HASH_KEY"))
    }

    /// Most bytes that wait for the collector.
    fn buffer_bytes_max(&mut self) -> Option<usize> {
        let bytes = self.parse("WATCHBELL_BUFFER_BYTES_MAX", values::bytes)?;
        usize::try_from(bytes).ok()
    }

    /// Which entries of the baggage become attributes.
    fn baggage_attributes(&mut self) -> Vec<String> {
        let list = self.get("WATCHBELL_BAGGAGE_ATTRIBUTES").unwrap_or_default();
        parts(&list).map(str::to_owned).collect()
    }

    /// Where records go beside the collector. Not OpenTelemetry's; a service that starts without a log that it was told to write would lose it in silence.
    pub(super) fn sinks(&mut self) -> Vec<Sink> {
        let list = self.get("WATCHBELL_SINKS").unwrap_or_default();
        let (sinks, wrong): (Vec<_>, Vec<_>) = sink::listed(&list).partition(Result::is_ok);
        let wrong = wrong.into_iter().filter_map(Result::err);
        self.mistakes.extend(wrong.map(|error| format!("WATCHBELL_SINKS: {error}")));
        sinks.into_iter().flatten().collect()
    }

    /// Names that begin as ours do, are none of ours, and look like one.
    pub(super) fn check_names(&mut self) {
        let names: Vec<String> = match &self.variables {
            Some(variables) => variables.keys().cloned().collect(),
            None => std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect(),
        };
        let is_odd = |name: &&String| name.starts_with("WATCHBELL_") && !NAMES.contains(&name.as_str());
        for name in names.iter().filter(is_odd) {
            if let Some(meant) = meant(name, NAMES, 2) {
                self.warnings.push(format!("{name} is not known: did you mean `{meant}`?"));
            }
        }
    }

    #[cfg(feature = "config-file")]
    pub(super) fn is_set(&mut self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A variable as it is.
    #[cfg(feature = "config-file")]
    pub(super) fn raw(&self, name: &str) -> Option<String> {
        match &self.variables {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok(),
        }
    }

    /// Tells what is wrong elsewhere.
    #[cfg(feature = "config-file")]
    pub(super) fn warn(&mut self, warnings: impl Iterator<Item = String>) {
        self.warnings.extend(warnings);
    }

    /// All that keeps the service from starting, a line each.
    pub(super) fn mistakes(&self) -> Result<(), String> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(self.mistakes.join("\n")) }
    }

    /// What was wrong: a variable for all signals is read for each, and told once.
    pub(super) fn warnings(mut self) -> Vec<String> {
        let mut told = HashSet::new();
        self.warnings.retain(|warning| told.insert(warning.clone()));
        self.warnings
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = match &self.variables {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var_os(name)?.into_string().map_err(|_| self.ignored(name, "it is not UTF-8")).ok(),
        };
        value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn ignored(&mut self, name: &str, why: &str) {
        self.warnings.push(format!("{name} is ignored: {why}"));
    }

    fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        parse(&self.get(name)?).map_err(|error| self.ignored(name, &error)).ok()
    }

    /// Whatever is not `true` is false, as the specification wants.
    fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        let is_true = value.eq_ignore_ascii_case("true");
        if !is_true && !value.eq_ignore_ascii_case("false") {
            let wanted = "is not a boolean; write `true` or `false`";
            self.warnings.push(format!("{name} counts as `false`: `{value}` {wanted}"));
        }
        Some(is_true)
    }

    fn export(&mut self, signal: Signal, protocol: Option<Protocol>) -> ExportSettings {
        let protocol = protocol.or_else(|| self.signal_parse(signal, "PROTOCOL", str::parse));
        let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
        let is_insecure = own_name(signal, "INSECURE");
        let is_insecure = self.boolean(&is_insecure).or_else(|| self.boolean("OTEL_EXPORTER_OTLP_INSECURE"));
        let is_insecure = is_insecure.unwrap_or(false);
        let (own, shared) = self.uris(signal, protocol, is_insecure);
        let is_elsewhere = |own| shared.as_ref().is_some_and(|shared| place(own) != place(shared));
        let has_own_headers = self.get(&own_name(signal, "HEADERS")).is_some();
        ExportSettings {
            protocol,
            has_endpoint: own.is_some() || shared.is_some(),
            is_apart: own.as_ref().is_some_and(|own| has_own_headers || is_elsewhere(own)),
            uri: own.or(shared).unwrap_or_else(|| signal.default_uri(protocol)),
            is_insecure,
            headers: self.headers(signal),
            roots: self.signal_parse(signal, "CERTIFICATE", tls::roots),
            identity: self.identity(signal),
            compression: self.signal_parse(signal, "COMPRESSION", str::parse),
            timeout: self.signal_parse(signal, "TIMEOUT", values::timeout),
            batch: match signal {
                Signal::Logs => self.batch("OTEL_BLRP"),
                Signal::Traces => self.batch("OTEL_BSP"),
                Signal::Metrics => self.periodic(),
            },
        }
    }

    fn batch(&mut self, prefix: &str) -> BatchSettings {
        let mut batch = BatchSettings {
            schedule_delay: self.parse(&format!("{prefix}_SCHEDULE_DELAY"), values::millis),
            export_timeout: self.parse(&format!("{prefix}_EXPORT_TIMEOUT"), values::timeout),
            queue_records_max: self.parse(&format!("{prefix}_MAX_QUEUE_SIZE"), values::positive),
            batch_records_max: self.parse(&format!("{prefix}_MAX_EXPORT_BATCH_SIZE"), values::positive),
        };
        if let (Some(queue), Some(records)) = (batch.queue_records_max, batch.batch_records_max)
            && records > queue
        {
            let name = format!("{prefix}_MAX_EXPORT_BATCH_SIZE");
            self.ignored(&name, &format!("{records} is more than `{prefix}_MAX_QUEUE_SIZE`, {queue}"));
            batch.batch_records_max = None;
        }
        batch
    }

    /// What the specification sets of a reader that exports periodically.
    fn periodic(&mut self) -> BatchSettings {
        let interval = self.parse("OTEL_METRIC_EXPORT_INTERVAL", values::positive);
        BatchSettings {
            schedule_delay: interval.map(|millis| Duration::from_millis(u64::from(millis))),
            export_timeout: self.parse("OTEL_METRIC_EXPORT_TIMEOUT", values::timeout),
            ..BatchSettings::default()
        }
    }

    #[cfg(feature = "metrics")]
    fn metrics(&mut self) -> MetricsConfig {
        let temporality = self.parse("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", values::temporality);
        let histogram = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        MetricsConfig {
            temporality: temporality.unwrap_or_default(),
            has_exponential_histograms: self.parse(histogram, values::is_exponential).unwrap_or(false),
            views: Vec::new(),
        }
    }

    /// The signal's own endpoint, and that for all signals.
    fn uris(&mut self, signal: Signal, protocol: Protocol, is_insecure: bool) -> (Option<Uri>, Option<Uri>) {
        let own_path = match protocol {
            Protocol::Grpc => signal.path(protocol),
            _ => "", // the specification: used as it is
        };
        let shared_path = signal.path(protocol);
        let uri = |value: &str, path| values::uri(value, protocol, is_insecure, path);
        let own = self.parse(&own_name(signal, "ENDPOINT"), |value| uri(value, own_path));
        (own, self.parse("OTEL_EXPORTER_OTLP_ENDPOINT", |value| uri(value, shared_path)))
    }

    /// The signal's own variable, else the one for all signals.
    fn signal_parse<T>(&mut self, signal: Signal, what: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let own = self.parse(&own_name(signal, what), &parse);
        own.or_else(|| self.parse(&format!("OTEL_EXPORTER_OTLP_{what}"), &parse))
    }

    /// The variable's name and value, the signal's own if it is set.
    fn signal_get(&mut self, signal: Signal, what: &str) -> Option<(String, String)> {
        let names = [own_name(signal, what), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// A signal's own stand for all, even where they are not understood: a token for one backend is not to go to another.
    fn headers(&mut self, signal: Signal) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((variable, _)) = self.signal_get(signal, "HEADERS") else { return headers };
        for (name, value) in self.parse(&variable, values::pairs).unwrap_or_default() {
            match values::header(&name, &value) {
                Ok((name, value)) => drop(headers.insert(name, value)),
                Err(error) => self.warnings.push(format!("{variable}: {error}, and is not sent")),
            }
        }
        headers
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
        read.map_err(|error| self.ignored(&name, &error)).ok()
    }

    fn exporters(&mut self, signal: Signal) -> Exporters {
        let name = format!("OTEL_{}_EXPORTER", signal.env_name());
        let has_console = signal == Signal::Logs && cfg!(feature = "console");
        let has_otlp = signal != Signal::Metrics || cfg!(feature = "metrics");
        let usual = Exporters { otlp: has_otlp, console: has_console };
        let Some(list) = self.get(&name) else { return usual };
        let (mut exporters, mut is_known) = (Exporters { otlp: false, console: false }, false);
        for exporter in list.split(',').map(str::trim) {
            let exporter_name = exporter.to_ascii_lowercase();
            // Another exporter is meant by the last three, which there is not here: no reason to send by OTLP.
            is_known |= matches!(exporter_name.as_str(), "otlp" | "none" | "console" | "prometheus" | "zipkin");
            match exporter_name.as_str() {
                "otlp" if has_otlp => exporters.otlp = true,
                "otlp" => self.ignored(&name, "this program is built without the feature `metrics` of `watchbell`"),
                "console" if has_console => exporters.console = true,
                "none" | "" => {}
                _ => {
                    let known = if has_console { "`otlp`, `console` or `none`" } else { "`otlp` or `none`" };
                    self.warnings.push(format!("{name}: the exporter `{exporter}` is not known; write {known}"));
                }
            }
        }
        // By the specification a value that is misspelt is as none at all.
        if is_known { exporters } else { usual }
    }

    fn propagators(&mut self) -> Vec<Propagator> {
        let list = self.get("OTEL_PROPAGATORS").unwrap_or_else(|| PROPAGATORS.to_owned());
        let (mut propagators, unknown) = Propagator::listed(&list);
        if propagators.is_empty() && !unknown.is_empty() {
            propagators = Propagator::listed(PROPAGATORS).0; // as if it were not set
        }
        let wanted = Propagator::WANTED;
        let told = unknown.into_iter().map(|name| format!("OTEL_PROPAGATORS: `{name}` is not known; {wanted}"));
        self.warnings.extend(told);
        propagators
    }

    fn resource(&mut self) -> Vec<KeyValue> {
        let listed = self.parse("OTEL_RESOURCE_ATTRIBUTES", values::pairs).unwrap_or_default();
        let named = self.get("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name));
        let detected = self.detectors().into_iter().flat_map(Detector::detect);
        detected.chain(resource::strings(listed)).chain(named).collect()
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
                    let known = "write `process`, `host`, `os`, `container`, `k8s`, `service` or `*`";
                    self.warnings.push(format!("{name}: `{wanted}` is not known; {known}"));
                }
            }
        }
        detectors
    }

    fn limits(&mut self) -> Limits {
        let mut limits = Limits::default();
        let mut first = |names: &[&str]| names.iter().find_map(|name| self.parse(name, values::count));
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
        let mut ratio =
            || Sampler::TraceIdRatioBased(self.parse("OTEL_TRACES_SAMPLER_ARG", values::ratio).unwrap_or(1.0));
        match name.to_ascii_lowercase().as_str() {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => ratio(),
            "parentbased_always_on" => always_on(),
            "parentbased_always_off" => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
            "parentbased_traceidratio" => Sampler::ParentBased(Box::new(ratio())),
            _ => {
                let wanted =
                    "write `always_on`, `always_off`, `traceidratio` or one of these with `parentbased_` before it";
                self.ignored("OTEL_TRACES_SAMPLER", &format!("`{name}` is not known; {wanted}"));
                always_on()
            }
        }
    }

    /// `RUST_LOG`; a directive that is not understood is left out, the others count.
    pub(super) fn directives(&mut self, directives: &str) -> Directives {
        if let Some((target, meant)) = Directives::doubtful(directives) {
            let written = format!("write `{target}=trace` if it is one");
            self.warnings
                .push(format!("RUST_LOG: `{target}` is taken for a target: did you mean `{meant}`? ({written})"));
        }
        Directives::lenient(directives, |directive, error| {
            self.warnings.push(format!("RUST_LOG: the directive `{directive}` is ignored: {error}"));
        })
    }
}

fn own_name(signal: Signal, what: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.env_name())
}

/// The names that are Watchbell's own.
pub(super) const NAMES: [&str; 17] = [
    "WATCHBELL_BAGGAGE_ATTRIBUTES",
    "WATCHBELL_BLOCK_TIMEOUT",
    "WATCHBELL_BUFFER_BYTES_MAX",
    "WATCHBELL_LEVELS_INTERVAL",
    "WATCHBELL_LEVELS_URL",
    "WATCHBELL_PANICS",
    "WATCHBELL_REDACT_HASH_KEY_FILE",
    "WATCHBELL_REDACT_HASH_KEY",
    "WATCHBELL_REDACT",
    "WATCHBELL_RESTRAIN",
    "WATCHBELL_SHUTDOWN_TIMEOUT",
    "WATCHBELL_SINKS",
    "WATCHBELL_SPOOL_BYTES_MAX",
    "WATCHBELL_SPOOL_DIR",
    "WATCHBELL_SPOOL_MAPPED",
    "WATCHBELL_SPOOL_WHEN_FULL",
    "WATCHBELL_WHEN_FULL",
];

const PROPAGATORS: &str = "tracecontext,baggage";
const ATTRIBUTE_COUNT: &str = "OTEL_ATTRIBUTE_COUNT_LIMIT";
const VALUE_LENGTH: &str = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";
