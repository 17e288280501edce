//! The labels of an OTLP record, as Loki's own OTLP ingestion gives them.
//!
//! Some resource attributes are index labels (which ones is Loki's default list, see [`LabelConfig`]); every other attribute of the
//! resource, the scope and the record is structured metadata, beside the record's fields: `severity_number`, `severity_text`,
//! `trace_id`, `span_id`, `flags`, `event_name`, `observed_timestamp`, `dropped_attributes_count`, `scope_name`, `scope_version`,
//! `scope_dropped_attributes_count` and `detected_level`. A name keeps letters and digits, any run of other characters becomes one
//! `_`, and `key_` goes before a leading digit. A map is flattened, its keys joined with `_`. Of two values for one name the scope's
//! counts before the resource's, that before the record's fields, those before the record's attributes.

mod level;
mod name;
mod value;

use std::borrow::Cow;

use serde::Deserialize;
use watchbell_proto::otlp::common::{KeyValue, Scope};
use watchbell_proto::otlp::logs::LogRecord;
use watchbell_proto::otlp::resource::Resource;

use crate::entry::{LabelValue, LogEntry};

pub use value::{attribute_text, body_line, severity_name};

/// Which resource attributes become index labels; the defaults are Loki's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    index: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
}

impl ResourceLabels {
    /// The labels of `resource`.
    pub fn new(resource: Resource<'_>, config: &LabelConfig) -> Self {
        let mut labels = Self::default();
        for attribute in resource.attributes() {
            let indexed = config.index_resource_attributes.iter().any(|name| name.as_bytes() == attribute.key_bytes);
            let into = if indexed { &mut labels.index } else { &mut labels.metadata };
            name::for_each_label(attribute, &mut |name, value| set(into, name, value.into_text().into_owned()));
        }
        labels.index.retain(|(_, value)| !value.is_empty());
        labels.discover_service_name(config);
        labels
    }

    fn discover_service_name(&mut self, config: &LabelConfig) {
        if config.discover_service_name.is_empty() || self.index("service_name").is_some() {
            return;
        }
        let found = config.discover_service_name.iter().find_map(|name| self.index(name));
        let value = found.unwrap_or("unknown_service").to_owned();
        self.index.push(("service_name".to_owned(), value));
    }

    /// The value of an index label.
    pub fn index(&self, name: &str) -> Option<&str> {
        find(&self.index, name)
    }

    fn metadata(&self, name: &str) -> Option<&str> {
        find(&self.metadata, name)
    }
}

fn find<'a>(labels: &'a [(String, String)], name: &str) -> Option<&'a str> {
    labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn set(labels: &mut Vec<(String, String)>, name: &str, value: String) {
    match labels.iter_mut().find(|(other, _)| other == name) {
        Some(label) => label.1 = value,
        None => labels.push((name.to_owned(), value)),
    }
}

/// An OTLP record where it lies, with the labels of its resource.
#[derive(Clone, Debug)]
pub struct OtlpEntry<'a> {
    /// What its resource gives.
    pub resource: &'a ResourceLabels,
    /// Its scope.
    pub scope: Scope<'a>,
    /// The record.
    pub record: LogRecord<'a>,
}

impl LogEntry for OtlpEntry<'_> {
    fn line(&self) -> Cow<'_, str> {
        body_line(&self.record)
    }

    fn index_label(&self, name: &str) -> Option<&str> {
        self.resource.index(name)
    }

    fn metadata(&self, name: &str) -> Option<LabelValue<'_>> {
        if name == "detected_level" {
            return Some(LabelValue::Text(level::detected(self)));
        }
        self.given_metadata(name)
    }

    fn for_each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
        let mut metadata: Vec<(String, String)> = Vec::new();
        for attribute in self.record.attributes() {
            name::for_each_label(attribute, &mut |name, value| {
                set(&mut metadata, name, value.into_text().into_owned())
            });
        }
        for name in RECORD_FIELDS {
            if let Some(value) = self.field(name) {
                set(&mut metadata, name, value.into_text().into_owned());
            }
        }
        self.resource.metadata.iter().for_each(|(name, value)| set(&mut metadata, name, value.clone()));
        for attribute in self.scope.attributes() {
            name::for_each_label(attribute, &mut |name, value| {
                set(&mut metadata, name, value.into_text().into_owned())
            });
        }
        for name in SCOPE_FIELDS {
            if let Some(value) = self.scope_field(name) {
                set(&mut metadata, name, value.into_text().into_owned());
            }
        }
        set(&mut metadata, "detected_level", level::detected(self).into_owned());
        self.resource.index.iter().for_each(|(name, value)| visit(name, value));
        for (name, value) in metadata {
            match self.resource.index(&name) {
                Some(_) => visit(&format!("{name}_extracted"), &value),
                None => visit(&name, &value),
            }
        }
    }
}

impl<'a> OtlpEntry<'a> {
    /// Metadata that came with the record: all but `detected_level`, which is concluded.
    fn given_metadata(&self, name: &str) -> Option<LabelValue<'a>> {
        let from_scope = || self.scope_field(name).or_else(|| attribute(self.scope.attributes(), name));
        let from_resource = || self.resource.metadata(name).map(|value| LabelValue::Text(Cow::Borrowed(value)));
        let from_record = || self.field(name).or_else(|| attribute(self.record.attributes(), name));
        from_scope().or_else(from_resource).or_else(from_record)
    }

    fn field(&self, name: &str) -> Option<LabelValue<'a>> {
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

    fn scope_field(&self, name: &str) -> Option<LabelValue<'a>> {
        match name {
            "scope_name" => text(self.scope.name()),
            "scope_version" => text(self.scope.version()),
            "scope_dropped_attributes_count" => number(i64::from(self.scope.dropped_attributes_count())),
            _ => None,
        }
    }
}

fn attribute<'a>(attributes: impl Iterator<Item = KeyValue<'a>>, name: &str) -> Option<LabelValue<'a>> {
    attributes.filter_map(|attribute| name::value_of(attribute, name)).last()
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

const SCOPE_FIELDS: &[&str] = &["scope_name", "scope_version", "scope_dropped_attributes_count"];
