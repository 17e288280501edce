//! OpenTelemetry's declarative configuration, the file of `OTEL_CONFIG_FILE`: schema 1.0, in YAML.
//!
//! Where it is set it alone counts, but for `RUST_LOG`, which is not OpenTelemetry's. A mistake refuses the whole file, as the specification
//! wants; what the schema has and Watchbell has not is told with its place, and the rest counts.

mod own;
#[cfg(feature = "metrics")]
mod views;

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::{Array, KeyValue, StringValue, Value as AttributeValue};
use opentelemetry_sdk::trace::{ParentBasedSampler, Sampler, ShouldSample};

#[cfg(feature = "metrics")]
use super::MetricsConfig;
use super::env::Env;
use super::yaml::{self, Entry, Mistake, Node, Place, Value};
use super::{BatchSettings, ExportSettings, PerSignal, Propagator, Protocol, Settings, Signal, values};
use crate::limits::Limits;
use crate::resource::{self, Detector};
use crate::tell::Verbosity;
use crate::tls;

/// Reads the file at `path`; the text of an error has a line for each mistake and the place it is at.
pub(super) fn settings(path: &str, env: &mut Env) -> Result<Settings, String> {
    let source = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    let mut file = File { mistakes: Vec::new(), told: Vec::new() };
    let settings = match yaml::read(&source, |name| env.raw(name)) {
        Ok(yaml::Document { root, mistakes, unset }) => {
            file.mistakes = mistakes;
            let settings = file.settings(&root, env);
            file.mistakes.iter_mut().chain(&mut file.told).for_each(|mistake| mistake.tell_unset(&unset));
            file.tell_each_place_once();
            Some(settings)
        }
        Err(mistake) => {
            // What is no YAML may stand below `headers`, or beside it.
            file.mistakes.push(Mistake { is_secret: source.contains("header"), ..mistake });
            None
        }
    };
    env.warn(file.told.iter().map(|told| shown(path, &source, told)));
    match settings {
        Some(settings) if file.mistakes.is_empty() => Ok(settings),
        _ => Err(file.mistakes.iter().map(|mistake| shown(path, &source, mistake)).collect::<Vec<_>>().join("\n")),
    }
}

/// `otel.yaml:3:5: what is wrong`, the line, and a caret under the place. A line that may hold a secret (a header, an address with a password or a query) is not shown.
fn shown(path: &str, source: &str, mistake: &Mistake) -> String {
    let Mistake { place: Place { line, column }, text, is_secret } = mistake;
    let quoted = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if *is_secret || quoted.contains(['?', '@']) || [quoted, text.as_str()].iter().any(|text| text.contains("header")) {
        return format!("{path}:{line}:{column}: {text}");
    }
    let indent = " ".repeat(column.saturating_sub(1));
    format!("{path}:{line}:{column}: {text}\n    {quoted}\n    {indent}^")
}

/// What is wrong in a file, and what of it is not honoured.
struct File {
    mistakes: Vec<Mistake>,
    told: Vec<Mistake>,
}

/// A mapping's entries; an absent one has none.
type Map<'a> = &'a [Entry];

impl Mistake {
    /// A value that is wrong because a variable in it is not set.
    fn tell_unset(&mut self, unset: &[(Place, String)]) {
        for (_, name) in unset.iter().filter(|(place, _)| *place == self.place) {
            self.text += &format!("; `{name}` is not set");
        }
    }
}

impl File {
    /// A reference that names no variable is no number either: the first word on a place is enough. They are in the order of the file.
    fn tell_each_place_once(&mut self) {
        let mut places = Vec::new();
        self.mistakes.retain(|mistake| {
            let is_first = !places.contains(&mistake.place);
            places.push(mistake.place);
            is_first
        });
        self.mistakes.sort_by_key(|mistake| (mistake.place.line, mistake.place.column));
    }

    fn settings(&mut self, root: &Node, env: &mut Env) -> Settings {
        let map = self.map(Some(root));
        self.file_format(map, root.place);
        let providers = ["logger_provider", "tracer_provider", "meter_provider"];
        let other =
            ["file_format", "disabled", "log_level", "resource", "attribute_limits", "propagator", "distribution"];
        self.only(map, &[&providers[..], &other[..]].concat());
        let is_disabled = self.scalar(map, "disabled", boolean).unwrap_or(false);
        let limits = self.limits(map);
        let [logger, tracer, meter] = providers.map(|name| self.map(get(map, name)));
        self.only(logger, &["processors", "limits", "logger_configurator/development"]);
        let own = self.own(get(map, "distribution"), logger, env);
        self.only(tracer, &["processors", "limits", "sampler", "id_generator"]);
        self.only(meter, if cfg!(feature = "metrics") { &["readers", "views"] } else { &["readers"] });
        let (logs, console) = self.processors(Signal::Logs, logger);
        let (traces, _) = self.processors(Signal::Traces, tracer);
        let mut settings = Settings {
            is_disabled,
            verbosity: self.scalar(map, "log_level", verbosity).unwrap_or(Verbosity::Info),
            console,
            levels: own.levels,
            levels_file: own.levels_file,
            levels_url: own.levels_url,
            restraint: own.restraint,
            spool: own.spool,
            sinks: own.sinks,
            sampler: get(tracer, "sampler").map_or_else(default_sampler, |node| self.sampler(node)),
            propagators: self.propagators(get(map, "propagator")),
            limits,
            resource: self.resource(get(map, "resource")),
            own: own.settings,
            #[cfg(feature = "metrics")]
            metrics: MetricsConfig {
                temporality: Default::default(),
                has_exponential_histograms: false,
                views: self.views(get(meter, "views")),
            },
            exports: [logs, traces, None],
        };
        settings.exports[Signal::Metrics as usize] = self.readers(meter, &mut settings);
        if is_disabled {
            settings.exports = PerSignal::default();
        }
        settings
    }

    fn file_format(&mut self, map: Map<'_>, place: Place) {
        match get(map, "file_format").map(|node| (node.place, text(node))) {
            Some((_, Some(format))) if format == "1" || format.starts_with("1.") => {}
            Some((place, format)) => {
                let format = format.unwrap_or_default();
                self.wrong(place, &format!("`{format}` is not a `file_format` that is known; write `\"1.0\"`"));
            }
            None => self.wrong(place, "`file_format` is missing; write `file_format: \"1.0\"`"),
        }
    }

    fn limits(&mut self, root: Map<'_>) -> Limits {
        const COUNT: &str = "attribute_count_limit";
        const LENGTH: &str = "attribute_value_length_limit";
        let of_all = self.map(get(root, "attribute_limits"));
        self.only(of_all, &[COUNT, LENGTH]);
        let [logger, tracer] = ["logger_provider", "tracer_provider"].map(|name| self.map(get(root, name)));
        let of_records = self.map(get(logger, "limits"));
        self.only(of_records, &[COUNT, LENGTH]);
        let of_spans = self.map(get(tracer, "limits"));
        let counts =
            ["event_count_limit", "link_count_limit", "event_attribute_count_limit", "link_attribute_count_limit"];
        self.only(of_spans, &[&[COUNT, LENGTH], &counts[..]].concat());
        let mut limits = Limits::default();
        let mut set = |limit: &mut u32, places: &[(Map<'_>, &str)]| {
            let found = places.iter().find_map(|(map, name)| self.scalar(map, name, values::count));
            *limit = found.unwrap_or(*limit);
        };
        set(&mut limits.attributes_per_record_max, &[(of_records, COUNT), (of_all, COUNT)]);
        set(&mut limits.spans.max_attributes_per_span, &[(of_spans, COUNT), (of_all, COUNT)]);
        set(&mut limits.spans.max_attributes_per_event, &[(of_spans, counts[2]), (of_all, COUNT)]);
        set(&mut limits.spans.max_attributes_per_link, &[(of_spans, counts[3]), (of_all, COUNT)]);
        set(&mut limits.spans.max_events_per_span, &[(of_spans, counts[0])]);
        set(&mut limits.spans.max_links_per_span, &[(of_spans, counts[1])]);
        let mut length = |map| {
            let found = self.scalar(map, LENGTH, values::count).or_else(|| self.scalar(of_all, LENGTH, values::count));
            found.map_or(usize::MAX, |max| max as usize)
        };
        (limits.record_value_chars_max, limits.span_value_chars_max) = (length(of_records), length(of_spans));
        limits
    }

    /// What a provider's processors export by OTLP, and whether they write to the console.
    fn processors(&mut self, signal: Signal, provider: Map<'_>) -> (Option<ExportSettings>, bool) {
        let (mut otlp, mut console) = (None, false);
        for node in self.list(get(provider, "processors")) {
            let Some((kind, node)) = self.one_of(node) else { continue };
            let processor = self.map(Some(node));
            let batch = match kind.key.as_str() {
                "batch" => self.batch(processor),
                "simple" => {
                    self.only(processor, &["exporter"]);
                    BatchSettings { schedule_delay: Some(Duration::ZERO), ..BatchSettings::default() }
                }
                _ => {
                    self.tell(kind.place, "this processor is not known; write `batch` or `simple`");
                    continue;
                }
            };
            let Some((kind, exporter)) = self.exporter(processor, node.place) else { continue };
            match kind.key.as_str() {
                "console" if signal == Signal::Logs && cfg!(feature = "console") => console = true,
                _ if otlp.is_some() => {
                    self.tell(kind.place, "a signal has one exporter; this second one is not honoured")
                }
                _ => otlp = self.otlp(signal, kind, exporter, batch, &[]),
            }
        }
        (otlp, console)
    }

    fn batch(&mut self, map: Map<'_>) -> BatchSettings {
        self.only(map, &["schedule_delay", "export_timeout", "max_queue_size", "max_export_batch_size", "exporter"]);
        let batch = BatchSettings {
            schedule_delay: self.scalar(map, "schedule_delay", values::millis),
            export_timeout: self.scalar(map, "export_timeout", values::timeout),
            queue_records_max: self.scalar(map, "max_queue_size", values::positive),
            batch_records_max: self.scalar(map, "max_export_batch_size", values::positive),
        };
        if let (Some(queue), Some(records)) = (batch.queue_records_max, batch.batch_records_max)
            && records > queue
            && let Some(node) = get(map, "max_export_batch_size")
        {
            self.wrong(node.place, &format!("{records} is more than `max_queue_size`, {queue}"));
        }
        batch
    }

    /// The periodic reader's exporter.
    fn readers(&mut self, provider: Map<'_>, settings: &mut Settings) -> Option<ExportSettings> {
        let mut otlp = None;
        for node in self.list(get(provider, "readers")) {
            let Some((kind, node)) = self.one_of(node) else { continue };
            if kind.key != "periodic" || !cfg!(feature = "metrics") {
                self.tell(kind.place, "this reader is not known; write `periodic` (and have the feature `metrics`)");
                continue;
            }
            let reader = self.map(Some(node));
            self.only(reader, &["interval", "timeout", "exporter"]);
            let interval = self.scalar(reader, "interval", values::positive);
            let batch = BatchSettings {
                schedule_delay: interval.map(|millis| Duration::from_millis(u64::from(millis))),
                export_timeout: self.scalar(reader, "timeout", values::timeout),
                ..BatchSettings::default()
            };
            let Some((kind, exporter)) = self.exporter(reader, node.place) else { continue };
            if otlp.is_some() {
                self.tell(kind.place, "a signal has one exporter; this second one is not honoured");
                continue;
            }
            let more = ["temporality_preference", "default_histogram_aggregation"];
            otlp = self.otlp(Signal::Metrics, kind, exporter, batch, &more);
            let exporter = self.map(Some(exporter));
            self.aggregation(exporter, settings);
        }
        otlp
    }

    #[cfg(feature = "metrics")]
    fn aggregation(&mut self, exporter: Map<'_>, settings: &mut Settings) {
        let temporality = self.scalar(exporter, "temporality_preference", values::temporality);
        let is_exponential = self.scalar(exporter, "default_histogram_aggregation", values::is_exponential);
        settings.metrics.temporality = temporality.unwrap_or_default();
        settings.metrics.has_exponential_histograms = is_exponential.unwrap_or(false);
    }

    #[cfg(not(feature = "metrics"))]
    fn aggregation(&mut self, _: Map<'_>, _: &mut Settings) {}

    fn exporter<'n>(&mut self, map: Map<'n>, place: Place) -> Option<(&'n Entry, &'n Node)> {
        match get(map, "exporter") {
            Some(node) => self.one_of(node),
            None => {
                self.wrong(place, "`exporter` is missing");
                None
            }
        }
    }

    fn otlp(
        &mut self,
        signal: Signal,
        kind: &Entry,
        node: &Node,
        batch: BatchSettings,
        more: &[&str],
    ) -> Option<ExportSettings> {
        let (protocol, own) = match kind.key.as_str() {
            "otlp_http" => (Protocol::HttpProtobuf, "encoding"),
            "otlp_grpc" if cfg!(feature = "grpc") => (Protocol::Grpc, ""),
            _ => {
                self.tell(kind.place, "this exporter is not known here; write `otlp_http` or `otlp_grpc`");
                return None;
            }
        };
        let map = self.map(Some(node));
        let known = ["endpoint", "tls", "headers", "headers_list", "compression", "timeout", own];
        self.unshown(|file| file.only(map, &[&known[..], more].concat())); // it may be `headers` with a slip
        let protocol = self.scalar(map, "encoding", encoding).unwrap_or(protocol);
        let tls = self.map(get(map, "tls"));
        let (roots, identity, is_insecure) = self.tls(tls, protocol);
        let path = if protocol == Protocol::Grpc { signal.path(protocol) } else { "" };
        let uri = self.scalar(map, "endpoint", |endpoint| values::uri(endpoint, protocol, is_insecure, path));
        Some(ExportSettings {
            protocol,
            has_endpoint: uri.is_some(),
            is_apart: false,
            uri: uri.unwrap_or_else(|| signal.default_uri(protocol)),
            is_insecure,
            headers: self.unshown(|file| file.headers(map)),
            roots,
            identity,
            compression: self.scalar(map, "compression", str::parse),
            timeout: self.scalar(map, "timeout", values::timeout),
            batch,
        })
    }

    fn tls(&mut self, map: Map<'_>, protocol: Protocol) -> (Option<tls::Roots>, Option<tls::Identity>, bool) {
        let known = ["ca_file", "key_file", "cert_file", "insecure"];
        self.only(map, if protocol == Protocol::Grpc { &known } else { &known[..3] });
        let roots = self.scalar(map, "ca_file", tls::roots);
        let key = self.scalar(map, "key_file", |path| Ok(path.to_owned()));
        let identity = self.scalar(map, "cert_file", |certificate| match &key {
            Some(key) => tls::identity(certificate, key),
            None => Err("`key_file` is missing beside `cert_file`".to_owned()),
        });
        if let (Some(node), None) = (get(map, "key_file"), get(map, "cert_file")) {
            self.wrong(node.place, "`cert_file` is missing beside `key_file`");
        }
        (roots, identity, self.scalar(map, "insecure", boolean).unwrap_or(false))
    }

    /// The list in one string, then those one by one, which win.
    fn headers(&mut self, map: Map<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let listed = self.scalar(map, "headers_list", values::pairs).unwrap_or_default();
        let named = self.named(get(map, "headers"));
        let place = get(map, "headers").or(get(map, "headers_list")).map(|node| node.place);
        let named = named.into_iter().filter_map(|(name, node)| Some((name, text(node)?.to_owned())));
        for (name, value) in listed.into_iter().chain(named) {
            match (values::header(&name, &value), place) {
                (Ok((name, value)), _) => drop(headers.insert(name, value)),
                (Err(error), Some(place)) => self.wrong(place, &error),
                (Err(_), None) => {}
            }
        }
        headers
    }

    fn sampler(&mut self, node: &Node) -> Box<dyn ShouldSample> {
        let Some((kind, node)) = self.one_of(node) else { return default_sampler() };
        let map = self.map(Some(node));
        match kind.key.as_str() {
            "always_on" => Box::new(Sampler::AlwaysOn),
            "always_off" => Box::new(Sampler::AlwaysOff),
            "trace_id_ratio_based" => {
                self.only(map, &["ratio"]);
                Box::new(Sampler::TraceIdRatioBased(self.scalar(map, "ratio", values::ratio).unwrap_or(1.0)))
            }
            "parent_based" => Box::new(self.parent_based(map)),
            _ => {
                let wanted = "write `always_on`, `always_off`, `trace_id_ratio_based` or `parent_based`";
                self.tell(kind.place, &format!("this sampler is not known; {wanted}"));
                default_sampler()
            }
        }
    }

    /// A parent is followed, where nothing else is said.
    fn parent_based(&mut self, map: Map<'_>) -> ParentBasedSampler {
        type With = fn(ParentBasedSampler, Box<dyn ShouldSample>) -> ParentBasedSampler;
        let delegates: [(&str, With); 4] = [
            ("remote_parent_sampled", ParentBasedSampler::with_remote_parent_sampled),
            ("remote_parent_not_sampled", ParentBasedSampler::with_remote_parent_not_sampled),
            ("local_parent_sampled", ParentBasedSampler::with_local_parent_sampled),
            ("local_parent_not_sampled", ParentBasedSampler::with_local_parent_not_sampled),
        ];
        let root = get(map, "root")
            .map_or_else(|| Box::new(Sampler::AlwaysOn) as Box<dyn ShouldSample>, |node| self.sampler(node));
        delegates.into_iter().fold(ParentBasedSampler::new(root), |sampler, (name, with)| match get(map, name) {
            Some(node) => with(sampler, self.sampler(node)),
            None => sampler,
        })
    }

    fn propagators(&mut self, node: Option<&Node>) -> Vec<Propagator> {
        let map = self.map(node);
        self.only(map, &["composite", "composite_list"]);
        let mut names = Vec::new();
        for node in self.list(get(map, "composite")) {
            names.extend(self.one_of(node).map(|(kind, _)| (kind.key.clone(), kind.place)));
        }
        if let Some(node) = get(map, "composite_list") {
            names.extend(text(node).unwrap_or_default().split(',').map(|name| (name.trim().to_owned(), node.place)));
        }
        let list: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
        let list = list.join(",");
        let (propagators, unknown) = Propagator::listed(&list);
        for name in unknown {
            let place = names.iter().find(|(other, _)| other == name).map(|(_, place)| *place);
            let wanted = "write `tracecontext`, `baggage`, `b3` or `b3multi`";
            place.into_iter().for_each(|place| self.tell(place, &format!("`{name}` is not known; {wanted}")));
        }
        propagators
    }

    fn resource(&mut self, node: Option<&Node>) -> Vec<KeyValue> {
        let map = self.map(node);
        self.only(map, &["attributes", "attributes_list", "detection/development"]);
        let detection = self.map(get(map, "detection/development"));
        self.only(detection, &["detectors"]);
        let mut found = Vec::new();
        for node in self.list(get(detection, "detectors")) {
            let Some((kind, _)) = self.one_of(node) else { continue };
            match Detector::named(&kind.key) {
                Some(detector) => found.extend(detector.detect()),
                None => self.tell(kind.place, "this detector is not known"),
            }
        }
        found.extend(resource::strings(self.scalar(map, "attributes_list", values::pairs).unwrap_or_default()));
        for (node, (name, value)) in self.list(get(map, "attributes")).iter().zip(self.named(get(map, "attributes"))) {
            let kind = get(self.map(Some(node)), "type").and_then(text).unwrap_or("string");
            if matches!(value.value, Value::Null) {
                self.tell(value.place, &format!("the attribute `{name}` has no value"));
                continue;
            }
            match attribute(kind, value) {
                Some(value) => found.push(KeyValue::new(name, value)),
                None => self.wrong(value.place, &format!("is no `{kind}`")),
            }
        }
        found
    }

    /// A list of `{name, value}`.
    fn named<'n>(&mut self, node: Option<&'n Node>) -> Vec<(String, &'n Node)> {
        let mut named = Vec::new();
        for node in self.list(node) {
            let map = self.map(Some(node));
            match (get(map, "name").and_then(text), get(map, "value")) {
                (Some(name), Some(value)) => named.push((name.to_owned(), value)),
                _ => self.wrong(node.place, "`name` or `value` is missing"),
            }
        }
        named
    }

    /// A mapping's entries; none where there is nothing.
    fn map<'n>(&mut self, node: Option<&'n Node>) -> Map<'n> {
        match node.map(|node| (&node.value, node.place)) {
            Some((Value::Map(entries), _)) => entries,
            None | Some((Value::Null, _)) => &[],
            Some((_, place)) => {
                self.wrong(place, "is no mapping");
                &[]
            }
        }
    }

    fn list<'n>(&mut self, node: Option<&'n Node>) -> &'n [Node] {
        match node.map(|node| (&node.value, node.place)) {
            Some((Value::List(items), _)) => items,
            None | Some((Value::Null, _)) => &[],
            Some((_, place)) => {
                self.wrong(place, "is no list");
                &[]
            }
        }
    }

    /// The one entry of a mapping that says what it is: `batch: ...`.
    fn one_of<'n>(&mut self, node: &'n Node) -> Option<(&'n Entry, &'n Node)> {
        match self.map(Some(node)) {
            [entry] => Some((entry, &entry.node)),
            _ => {
                self.wrong(node.place, "is no mapping of one key");
                None
            }
        }
    }

    /// A scalar that `parse` takes; none where there is nothing, or null.
    fn scalar<T>(&mut self, map: Map<'_>, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let node = get(map, name).filter(|node| !matches!(node.value, Value::Null))?;
        let parsed = text(node).ok_or_else(|| "is no scalar".to_owned()).and_then(parse);
        parsed.map_err(|error| self.wrong(node.place, &error)).ok()
    }

    /// Tells what else is in a mapping.
    fn only(&mut self, map: Map<'_>, known: &[&str]) {
        for entry in map.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            self.tell(entry.place, &format!("`{}` is not honoured", entry.key));
        }
    }

    /// Has no line shown of what is wrong there: it may hold a secret.
    fn unshown<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let (mistakes, told) = (self.mistakes.len(), self.told.len());
        let found = read(self);
        let of_these = self.mistakes[mistakes..].iter_mut().chain(&mut self.told[told..]);
        of_these.for_each(|mistake| mistake.is_secret = true);
        found
    }

    fn tell(&mut self, place: Place, text: &str) {
        self.told.push(Mistake { place, text: text.to_owned(), is_secret: false });
    }

    fn wrong(&mut self, place: Place, text: &str) {
        self.mistakes.push(Mistake { place, text: text.to_owned(), is_secret: false });
    }
}

fn get<'n>(map: Map<'n>, name: &str) -> Option<&'n Node> {
    map.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Plain(text) | Value::Text(text) => Some(text),
        _ => None,
    }
}

fn encoding(name: &str) -> Result<Protocol, String> {
    match name {
        "protobuf" => Ok(Protocol::HttpProtobuf),
        "json" => "http/json".parse(),
        _ => Err(format!("`{name}` is not an encoding; write `protobuf` or `json`")),
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("`{value}` is not a boolean; write `true` or `false`")),
    }
}

/// The schema's levels are those of log records, each with three steps: `info2`.
fn verbosity(value: &str) -> Result<Verbosity, String> {
    Verbosity::named(value.trim_end_matches(['2', '3', '4']))
}

fn default_sampler() -> Box<dyn ShouldSample> {
    Box::new(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
}

/// An attribute's value of the type that the file names.
fn attribute(kind: &str, node: &Node) -> Option<AttributeValue> {
    let items = || match &node.value {
        Value::List(items) => Some(items.iter()),
        _ => None,
    };
    Some(match kind {
        "string" => text(node)?.to_owned().into(),
        "bool" => boolean(text(node)?).ok()?.into(),
        "int" => text(node)?.parse::<i64>().ok()?.into(),
        "double" => text(node)?.parse::<f64>().ok()?.into(),
        "string_array" => {
            let items: Option<Vec<_>> = items()?.map(|item| Some(StringValue::from(text(item)?.to_owned()))).collect();
            AttributeValue::Array(Array::String(items?))
        }
        "bool_array" => {
            AttributeValue::Array(Array::Bool(items()?.map(|item| boolean(text(item)?).ok()).collect::<Option<_>>()?))
        }
        "int_array" => {
            AttributeValue::Array(Array::I64(items()?.map(|item| text(item)?.parse().ok()).collect::<Option<_>>()?))
        }
        "double_array" => {
            AttributeValue::Array(Array::F64(items()?.map(|item| text(item)?.parse().ok()).collect::<Option<_>>()?))
        }
        _ => return None,
    })
}
