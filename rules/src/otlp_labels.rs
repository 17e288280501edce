//! The labels of an OTLP record, as Loki's own OTLP ingestion gives them.
//!
//! Some resource attributes are index labels (which ones is Loki's default list, see [`LabelConfig`]); every other attribute of the
//! resource, the scope and the record is structured metadata, beside the record's fields: `severity_number`, `severity_text`,
//! `trace_id`, `span_id`, `flags`, `event_name`, `observed_timestamp`, `dropped_attributes_count`, `scope_name`, `scope_version`,
//! `scope_dropped_attributes_count` and `detected_level`. A name keeps letters and digits, any run of other characters becomes one
//! `_`, and `key_` goes before a leading digit. A map is flattened, its keys joined with `_`. Of two values for one name the scope's
//! counts before the resource's, that before the record's fields, those before the record's attributes.
//!
//! Compared record by record with Loki at its commit 65e30f8 of August 2026, over random attributes of every kind and name. It differs
//! where Loki itself is of two minds: of two values for one name Loki takes any where a record has more than twelve labels, and none
//! where one of them is empty. And Loki refuses a whole request for a name of which nothing is left, such as `日本`: here that label is
//! left out.

mod level;
mod name;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchbell_proto::otlp::common::{KeyValue, Scope};
use watchbell_proto::otlp::logs::{LogRecord, ResourceLogs};
use watchbell_proto::otlp::resource::Resource;

use crate::entry::{LabelValue, LogEntry};
use crate::labels::Labels;
use crate::loki_push::SCHEMA_URL;

pub use name::label_name;
pub use value::{attribute_text, body_line, severity_name};

/// Which resource attributes become index labels; the defaults are Loki's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelConfig {
    /// Resource attributes that become index labels.
    pub index_resource_attributes: Vec<String>,
    /// Index labels that stand in for a missing `service.name`, the first that is there; else it is `unknown_service`. An empty
    /// list sets no `service_name`.
    pub discover_service_name: Vec<String>,
}

impl Default for LabelConfig {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            index_resource_attributes: owned(INDEX_RESOURCE_ATTRIBUTES),
            discover_service_name: owned(DISCOVER_SERVICE_NAME),
        }
    }
}

/// The labels that all records of one resource share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceLabels {
    index: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
}

impl ResourceLabels {
    /// The labels of a resource, or of a stream that came by Loki's push API.
    pub fn of(resource_logs: &ResourceLogs<'_>, config: &LabelConfig) -> Self {
        match resource_logs.schema_url() {
            SCHEMA_URL => Self::of_stream(resource_logs.resource(), config),
            _ => Self::new(resource_logs.resource(), config),
        }
    }

    /// Its attributes are its labels, all of them of the index.
    fn of_stream(stream: Resource<'_>, config: &LabelConfig) -> Self {
        let mut labels = Self::default();
        for attribute in stream.attributes() {
            set(&mut labels.index, attribute.key(), value::label_value(attribute.value()));
        }
        labels.index.retain(|_, value| !value.is_empty());
        labels.discover_service_name(config);
        labels
    }

    /// The labels of `resource`.
    pub fn new(resource: Resource<'_>, config: &LabelConfig) -> Self {
        let mut labels = Self::default();
        for attribute in resource.attributes() {
            let indexed = config.index_resource_attributes.iter().any(|name| name.as_bytes() == attribute.key_bytes);
            let into = if indexed { &mut labels.index } else { &mut labels.metadata };
            name::for_each_label(attribute, &mut |name, value| set(into, name, value));
        }
        labels.index.retain(|_, value| !value.is_empty());
        labels.discover_service_name(config);
        labels
    }

    fn discover_service_name(&mut self, config: &LabelConfig) {
        if config.discover_service_name.is_empty() || self.index("service_name").is_some() {
            return;
        }
        let found = config.discover_service_name.iter().find_map(|name| self.index(name));
        let value = found.unwrap_or("unknown_service").to_owned();
        self.index.insert("service_name".to_owned(), value);
    }

    /// The value of an index label.
    pub fn index(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(String::as_str)
    }

    /// All index labels: what makes a stream.
    pub fn index_labels(&self) -> Labels {
        Labels::new(self.index.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }
}

fn set(labels: &mut BTreeMap<String, String>, name: &str, value: LabelValue<'_>) {
    let value = value.into_text().into_owned();
    match labels.get_mut(name) {
        Some(label) => *label = value,
        None => drop(labels.insert(name.to_owned(), value)),
    }
}

/// What all records of one scope share.
#[derive(Clone, Debug, Default)]
pub struct ScopeLabels<'a> {
    name: &'a str,
    version: &'a str,
    dropped_attributes_count: u32,
    /// The first and the last value that its attributes give to a name.
    attributes: BTreeMap<String, [LabelValue<'a>; 2]>,
}

impl<'a> ScopeLabels<'a> {
    /// The labels of `scope`.
    pub fn new(scope: Scope<'a>) -> Self {
        let mut attributes: BTreeMap<String, [LabelValue<'a>; 2]> = BTreeMap::new();
        for attribute in scope.attributes() {
            name::for_each_label(attribute, &mut |name, value| match attributes.get_mut(name) {
                Some([_, last]) => *last = value,
                None => drop(attributes.insert(name.to_owned(), [value.clone(), value])),
            });
        }
        let (name, version) = (scope.name(), scope.version());
        Self { name, version, dropped_attributes_count: scope.dropped_attributes_count(), attributes }
    }

    fn first(&self, name: &str) -> Option<LabelValue<'a>> {
        self.attributes.get(name).map(|[first, _]| first.clone())
    }

    fn last(&self, name: &str) -> Option<LabelValue<'a>> {
        self.attributes.get(name).map(|[_, last]| last.clone())
    }
}

/// An OTLP record where it lies, with the labels of its resource and its scope.
#[derive(Clone, Debug)]
pub struct OtlpEntry<'e, 'a> {
    /// What its resource gives.
    pub resource: &'e ResourceLabels,
    /// What its scope gives.
    pub scope: &'e ScopeLabels<'a>,
    /// The record.
    pub record: LogRecord<'a>,
    /// The record's attributes, found once for all who look for labels.
    pub attributes: &'e [KeyValue<'a>],
}

impl LogEntry for OtlpEntry<'_, '_> {
    fn line(&self) -> Cow<'_, str> {
        body_line(&self.record)
    }

    fn index_label(&self, name: &str) -> Option<&str> {
        self.resource.index(name)
    }

    fn metadata(&self, name: &str) -> Option<LabelValue<'_>> {
        let renamed = || name.strip_suffix(EXTRACTED).filter(|name| self.resource.index(name).is_some());
        self.own_metadata(name).or_else(|| self.own_metadata(renamed()?))
    }

    fn has_label(&self, name: &str) -> bool {
        name == "detected_level" || self.label(name).is_some()
    }

    fn for_each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
        let mut metadata: BTreeMap<String, String> = BTreeMap::new();
        for attribute in self.attributes {
            name::for_each_label(*attribute, &mut |name, value| set(&mut metadata, name, value));
        }
        let fields = |names: &'static [&'static str]| names.iter().copied();
        fields(RECORD_FIELDS)
            .filter_map(|name| Some((name, self.field(name)?)))
            .for_each(|(name, value)| set(&mut metadata, name, value));
        self.resource.metadata.iter().for_each(|(name, value)| drop(metadata.insert(name.clone(), value.clone())));
        self.scope.attributes.iter().for_each(|(name, [_, last])| set(&mut metadata, name, last.clone()));
        fields(SCOPE_FIELDS)
            .filter_map(|name| Some((name, self.scope_field(name)?)))
            .for_each(|(name, value)| set(&mut metadata, name, value));
        set(&mut metadata, "detected_level", LabelValue::Text(level::detected(self)));
        self.resource.index.iter().for_each(|(name, value)| visit(name, value));
        for (name, value) in &metadata {
            match self.resource.index(name) {
                Some(_) => {
                    let renamed = format!("{name}{EXTRACTED}");
                    if !metadata.contains_key(&renamed) {
                        visit(&renamed, value);
                    }
                }
                None => visit(name, value),
            }
        }
    }
}

impl<'e> OtlpEntry<'e, '_> {
    /// Metadata by the name it has where no index label has it too.
    fn own_metadata(&self, name: &str) -> Option<LabelValue<'e>> {
        match name {
            "detected_level" => Some(LabelValue::Text(level::detected(self))),
            _ => self.given_metadata(name),
        }
    }

    /// Metadata that came with the record: all but `detected_level`, which is concluded.
    fn given_metadata(&self, name: &str) -> Option<LabelValue<'e>> {
        let from_scope = || self.scope_field(name).or_else(|| self.scope.last(name));
        let from_resource = || self.resource.metadata(name).map(|value| LabelValue::Text(Cow::Borrowed(value)));
        let from_record = || self.field(name).or_else(|| attribute(self.attributes, name));
        from_scope().or_else(from_resource).or_else(from_record)
    }

    /// The first of what came with the record for a name, the record's own before its resource's and its scope's: a level is found there.
    fn first_metadata(&self, name: &str) -> Option<LabelValue<'e>> {
        let own = self.attributes.iter().find_map(|attribute| name::value_of(*attribute, name));
        let from_resource = || self.resource.metadata(name).map(|value| LabelValue::Text(Cow::Borrowed(value)));
        let from_scope = || self.scope.first(name).or_else(|| self.scope_field(name));
        own.or_else(|| self.field(name)).or_else(from_resource).or_else(from_scope)
    }

    fn field(&self, name: &str) -> Option<LabelValue<'e>> {
        let record = &self.record;
        match name {
            "severity_number" => number(i64::from(record.severity_number)),
            "severity_text" => text(record.severity_text()),
            "trace_id" => id(record.trace_id),
            "span_id" => id(record.span_id),
            "flags" => number(i64::from(record.flags)),
            "event_name" => text(record.event_name()),
            "observed_timestamp" if record.time_unix_nano != 0 => number(record.observed_time_unix_nano as i64),
            "dropped_attributes_count" => number(i64::from(record.dropped_attributes_count)),
            _ => None,
        }
    }

    fn scope_field(&self, name: &str) -> Option<LabelValue<'e>> {
        match name {
            "scope_name" => text(self.scope.name),
            "scope_version" => text(self.scope.version),
            "scope_dropped_attributes_count" => number(i64::from(self.scope.dropped_attributes_count)),
            _ => None,
        }
    }
}

/// The last of the attributes that give a label of that name counts.
fn attribute<'a>(attributes: &[KeyValue<'a>], name: &str) -> Option<LabelValue<'a>> {
    attributes.iter().rev().find_map(|attribute| name::value_of(*attribute, name))
}

fn number<'a>(number: i64) -> Option<LabelValue<'a>> {
    (number != 0).then_some(LabelValue::Int(number))
}

fn text(text: &str) -> Option<LabelValue<'_>> {
    (!text.is_empty()).then_some(LabelValue::Text(Cow::Borrowed(text)))
}

fn id(bytes: &[u8]) -> Option<LabelValue<'_>> {
    bytes.iter().any(|byte| *byte != 0).then_some(LabelValue::Hex(bytes))
}

/// What becomes an index label by default, as in Loki's `distributor.otlp.default_resource_attributes_as_index_labels`.
const INDEX_RESOURCE_ATTRIBUTES: &[&str] = &[
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

/// As in Loki's `validation.discover-service-name`.
const DISCOVER_SERVICE_NAME: &[&str] = &[
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// Whether the label is made of a record's or its scope's own fields, or of its level: no attribute and no parser need make it.
pub(crate) fn is_of_every_record(label: &str) -> bool {
    RECORD_FIELDS.contains(&label) || SCOPE_FIELDS.contains(&label) || label == "detected_level"
}

const RECORD_FIELDS: &[&str] = &[
    "observed_timestamp",
    "severity_number",
    "severity_text",
    "dropped_attributes_count",
    "flags",
    "trace_id",
    "span_id",
    "event_name",
];

/// Goes behind the name of metadata that is also the name of an index label.
const EXTRACTED: &str = "_extracted";

const SCOPE_FIELDS: &[&str] = &["scope_name", "scope_version", "scope_dropped_attributes_count"];

#[cfg(test)]
mod tests {
    use watchbell_proto::otlp::common::AnyValue;
    use watchbell_proto::otlp::encode::{self, put_key_value_field, put_log_record};
    use watchbell_proto::wire::put_bytes_field;

    use super::*;

    /// Labels as `name=value`, sorted; each can be asked for by its name.
    fn labels(resource: &[u8], scope: &[u8], record: &[u8]) -> Vec<String> {
        let resource = ResourceLabels::new(Resource { raw: resource }, &LabelConfig::default());
        let scope = ScopeLabels::new(Scope { raw: scope });
        let record = LogRecord::new(record);
        let attributes: Vec<_> = record.attributes().collect();
        let entry = OtlpEntry { resource: &resource, scope: &scope, record, attributes: &attributes };
        let mut labels = Vec::new();
        entry.for_each_label(&mut |name, value| {
            assert_eq!(entry.label(name).unwrap().into_text(), value, "{name}");
            labels.push(format!("{name}={value}"));
        });
        labels.sort();
        labels
    }

    fn record(write: impl FnOnce(&mut encode::LogRecordWriter<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut encode::LogRecordWriter::new(&mut out));
        out
    }

    fn map(entries: &[(&str, AnyValue<'_>)]) -> Vec<u8> {
        let (mut list, mut value) = (Vec::new(), Vec::new());
        entries.iter().for_each(|(key, value)| put_key_value_field(&mut list, 1, key, value));
        put_bytes_field(&mut value, 6, &list);
        value
    }

    #[test]
    fn a_record_has_the_labels_that_loki_gives_it() {
        let resource = encode::resource([
            ("service.name", AnyValue::String("checkout")),
            ("k8s.pod.name", AnyValue::String("checkout-7")),
            ("telemetry.sdk.language", AnyValue::String("rust")),
        ]);
        let inner = map(&[("id", AnyValue::Int(7)), ("deep key", AnyValue::Bool(true))]);
        let outer = map(&[("item", AnyValue::new(&inner)), ("empty", AnyValue::Empty)]);
        let record = record(|out| {
            out.time_unix_nano(5);
            out.observed_time_unix_nano(6);
            out.severity_number(17);
            out.severity_text("ERROR");
            out.attribute("http.status_code", &AnyValue::Int(503));
            out.attribute("ratio", &AnyValue::Double(0.5));
            out.attribute("order", &AnyValue::new(&outer));
            out.attribute("service.name", &AnyValue::String("another"));
            out.flags(1);
            out.trace_context(&[0xAB; 16], &[0; 8]);
            out.event_name("order.failed");
        });
        let expected = [
            "detected_level=error",
            "event_name=order.failed",
            "flags=1",
            "http_status_code=503",
            "k8s_pod_name=checkout-7",
            "observed_timestamp=6",
            "order_empty=",
            "order_item_deep_key=true",
            "order_item_id=7",
            "ratio=0.5",
            "scope_name=shop",
            "scope_version=1.2",
            "service_name=checkout",
            "service_name_extracted=another",
            "severity_number=17",
            "severity_text=ERROR",
            "telemetry_sdk_language=rust",
            "trace_id=abababababababababababababababab",
        ];
        assert_eq!(labels(&resource, &encode::scope("shop", "1.2"), &record), expected);
    }

    #[test]
    fn a_record_that_says_nothing_is_of_an_unknown_service_and_level() {
        assert_eq!(labels(b"", b"", &record(|_| {})), ["detected_level=unknown", "service_name=unknown_service"]);
        let container = encode::resource([("k8s.container.name", AnyValue::String("web"))]);
        let expected = ["detected_level=warn", "k8s_container_name=web", "service_name=web"];
        let body = |out: &mut encode::LogRecordWriter<'_>| out.body(&AnyValue::String("[warn] disk"));
        assert_eq!(labels(&container, b"", &record(body)), expected);
    }

    #[test]
    fn metadata_gives_way_to_the_index_label_of_its_name() {
        let resource = encode::resource([("service.name", AnyValue::String("a"))]);
        let labels = |keys: &[&str]| {
            let attributes = record(|out| keys.iter().for_each(|key| out.attribute(key, &AnyValue::String(key))));
            labels(&resource, b"", &attributes).split_off(1)
        };
        assert_eq!(labels(&["service.name"]), ["service_name=a", "service_name_extracted=service.name"]);
        let own = ["service_name=a", "service_name_extracted=service_name_extracted"];
        assert_eq!(labels(&["service_name_extracted", "service.name"]), own, "each name once");
        assert_eq!(labels(&["service_version_extracted"])[1], "service_version_extracted=service_version_extracted");
    }

    #[test]
    fn of_several_values_of_a_scope_the_last_counts_and_the_level_is_the_first() {
        let mut scope = encode::scope("", "");
        [("level", "warn"), ("Level", "x"), ("level", "info")]
            .iter()
            .for_each(|(key, value)| put_key_value_field(&mut scope, 3, key, &AnyValue::String(value)));
        let expected = ["Level=x", "detected_level=warn", "level=info", "service_name=unknown_service"];
        assert_eq!(labels(b"", &scope, &record(|_| {})), expected);
    }

    #[test]
    fn many_attributes_cost_each_the_same() {
        let names: Vec<String> = (0..200_000).map(|n| format!("a{n}")).collect();
        let entries: Vec<(&str, AnyValue<'_>)> = names.iter().map(|name| (name.as_str(), AnyValue::Int(1))).collect();
        let (map, mut scope) = (map(&entries), Vec::new());
        put_key_value_field(&mut scope, 3, "scope", &AnyValue::new(&map));
        let resource = encode::resource([("service.name", AnyValue::new(&map)), ("m", AnyValue::new(&map))]);
        let record = record(|out| out.attribute("r", &AnyValue::new(&map)));
        let resource = ResourceLabels::new(Resource { raw: &resource }, &LabelConfig::default());
        let (scope, record) = (ScopeLabels::new(Scope { raw: &scope }), LogRecord::new(&record));
        let attributes: Vec<_> = record.attributes().collect();
        let entry = OtlpEntry { resource: &resource, scope: &scope, record, attributes: &attributes };
        let mut count = 0;
        entry.for_each_label(&mut |_, _| count += 1);
        assert_eq!(count, 4 * names.len() + 2);
    }

    #[test]
    fn bodies_become_lines() {
        let line = |body: &AnyValue<'_>| {
            let mut out = Vec::new();
            put_log_record(&mut out, |out| out.body(body));
            let record = watchbell_proto::otlp::logs::ScopeLogs { raw: &out }.log_records().next().unwrap();
            body_line(&record).into_owned()
        };
        assert_eq!(line(&AnyValue::String("plain")), "plain");
        assert_eq!(line(&AnyValue::Int(-3)), "-3");
        assert_eq!(line(&AnyValue::Bytes(b"\0\xFF")), "AP8=");
        let map = map(&[("b", AnyValue::Double(1.5)), ("a", AnyValue::String("<&>\"")), ("c", AnyValue::Empty)]);
        assert_eq!(line(&AnyValue::new(&map)), r#"{"a":"<&>\"","b":1.5,"c":null}"#);
    }

    #[test]
    fn maps_are_printed_as_go_prints_json() {
        let printed = |value: &AnyValue<'_>| {
            let map = map(&[("v", value.clone())]);
            body_line(&LogRecord::new(&record(|out| out.body(&AnyValue::new(&map)))))
                .strip_prefix("{\"v\":")
                .map(|text| text.trim_end_matches('}').to_owned())
        };
        for (value, text) in [
            (AnyValue::Double(1e15), "1000000000000000"),
            (AnyValue::Double(1e20), "100000000000000000000"),
            (AnyValue::Double(1e21), "1e+21"),
            (AnyValue::Double(-0.0), "-0"),
            (AnyValue::Double(1e-6), "0.000001"),
            (AnyValue::Double(1e-7), "1e-7"),
            (AnyValue::Bytes(b""), "null"),
            (AnyValue::Empty, "null"),
            (AnyValue::String(""), "\"\""),
            (AnyValue::String("<\u{2028}\u{7f}\n\0>"), "\"<\\u2028\u{7f}\\n\\u0000>\""),
        ] {
            assert_eq!(printed(&value).as_deref(), Some(text), "{value:?}");
        }
        assert_eq!(
            printed(&AnyValue::Double(f64::NAN)),
            None,
            "Go prints nothing of a map that holds what JSON has not"
        );
    }

    #[test]
    fn the_record_s_own_level_counts_before_its_resource_s() {
        let resource = encode::resource([("severity", AnyValue::String("info"))]);
        let record = record(|out| out.attribute("severity", &AnyValue::String("err")));
        let labels = labels(&resource, b"", &record);
        assert_eq!(labels, ["detected_level=error", "service_name=unknown_service", "severity=info"]);
    }

    #[test]
    fn an_attribute_can_give_the_severity_number() {
        let level = |value: &AnyValue<'_>| {
            let labels = labels(b"", b"", &record(|out| out.attribute("severity.number", value)));
            labels.into_iter().find_map(|label| label.strip_prefix("detected_level=").map(str::to_owned)).unwrap()
        };
        assert_eq!(level(&AnyValue::Int(17)), "error");
        assert_eq!(level(&AnyValue::String("high")), "info");
        assert_eq!(level(&AnyValue::Int(0)), "unknown");
    }
}
