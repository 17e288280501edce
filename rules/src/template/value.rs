//! What a template computes with: Go's values, as far as templates see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use super::DEPTH_MAX;
use crate::labels::Labels;
use crate::time::Timestamp;

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: an absent key, or `nil`.
    Nil,
    /// `true` or `false`
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// An `int64`, which is no `int` to a function that asks for one.
    Int64(i64),
    /// A `float64`.
    Float(f64),
    /// A `string`.
    Str(Arc<str>),
    /// A string that is HTML already.
    Html(Arc<str>),
    /// A `time.Duration`, in nanoseconds.
    Duration(i64),
    /// A `time.Time`; `None` is Go's zero time.
    Time(Option<Timestamp>, TimeZone),
    /// A slice.
    List(Arc<List>),
    /// A map with string keys.
    Map(Arc<Map>),
    /// A struct.
    Struct(Arc<Struct>),
}

/// A slice.
#[derive(Clone, Debug)]
pub struct List {
    /// Which methods it has.
    pub kind: ListKind,
    /// The elements.
    pub items: Vec<Value>,
    depth: usize,
}

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Anything.
    Any,
    /// Strings.
    Strings,
    /// Alerts, with `.Firing` and `.Resolved`.
    Alerts,
    /// Pairs, with `.Names` and `.Values`.
    Pairs,
}

/// A map with string keys.
#[derive(Clone, Debug)]
pub struct Map {
    /// Which methods it has, and what an absent key yields.
    pub kind: MapKind,
    /// The entries.
    pub entries: BTreeMap<Arc<str>, Value>,
    depth: usize,
}

/// What a map is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Anything.
    Any,
    /// Strings: an absent key is the empty string.
    Strings,
    /// Strings, with Alertmanager's methods `.SortedPairs`, `.Names`, `.Values`, `.Remove`.
    Kv,
}

/// A struct.
#[derive(Clone, Debug)]
pub struct Struct {
    /// Go's name of it, for messages.
    pub name: &'static str,
    /// The fields in order.
    pub fields: Vec<(&'static str, Value)>,
}

impl Value {
    /// A string.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// A point in time, in UTC.
    pub fn time(time: Option<Timestamp>) -> Self {
        Self::Time(time, TimeZone::UTC)
    }

    /// A list of strings.
    pub fn strings<S: Into<Arc<str>>>(items: impl IntoIterator<Item = S>) -> Self {
        Self::flat_list(ListKind::Strings, items.into_iter().map(Self::string).collect())
    }

    /// A list whose elements are known not to nest deep.
    pub fn flat_list(kind: ListKind, items: Vec<Self>) -> Self {
        Self::List(Arc::new(List { kind, items, depth: 1 }))
    }

    /// A list of some of the elements of `other`, of its kind.
    pub(super) fn flat_list_like(other: &List, items: Vec<Self>) -> Self {
        Self::List(Arc::new(List { kind: other.kind, items, depth: other.depth }))
    }

    /// A list; `Err` where it would nest deeper than `depth_max`.
    pub fn list(items: Vec<Self>) -> Result<Self, String> {
        let depth = deeper(items.iter())?;
        Ok(Self::List(Arc::new(List { kind: ListKind::Any, items, depth })))
    }

    /// A map; `Err` where it would nest deeper than `depth_max`.
    pub fn map(entries: BTreeMap<Arc<str>, Self>) -> Result<Self, String> {
        let depth = deeper(entries.values())?;
        Ok(Self::Map(Arc::new(Map { kind: MapKind::Any, entries, depth })))
    }

    /// A map whose values are known not to nest.
    pub fn flat_map(kind: MapKind, entries: BTreeMap<Arc<str>, Self>) -> Self {
        Self::Map(Arc::new(Map { kind, entries, depth: 1 }))
    }

    /// A map of strings.
    pub fn string_map<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        kind: MapKind,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let entries = pairs.into_iter().map(|(name, value)| (name.into(), Self::string(value))).collect();
        Self::Map(Arc::new(Map { kind, entries, depth: 1 }))
    }

    /// A set of labels as such a map.
    pub fn labels(kind: MapKind, labels: &Labels) -> Self {
        Self::string_map(kind, labels.iter())
    }

    /// A struct.
    pub fn structure(name: &'static str, fields: Vec<(&'static str, Self)>) -> Self {
        Self::Struct(Arc::new(Struct { name, fields }))
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::Html(_) => "template.HTML",
            Self::Duration(_) => "time.Duration",
            Self::Time(..) => "time.Time",
            Self::List(list) => match list.kind {
                ListKind::Any => "[]interface {}",
                ListKind::Strings => "[]string",
                ListKind::Alerts => "template.Alerts",
                ListKind::Pairs => "template.Pairs",
            },
            Self::Map(map) => match map.kind {
                MapKind::Any => "map[string]interface {}",
                MapKind::Strings => "map[string]string",
                MapKind::Kv => "template.KV",
            },
            Self::Struct(value) => value.name,
        }
    }

    /// Whether `if` takes it for true: all but zero, the empty and nothing.
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Int64(value) | Self::Duration(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Html(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Time(..) | Self::Struct(_) => true,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(list) => list.depth,
            Self::Map(map) => map.depth,
            Self::Struct(_) => 3, // the deepest that is handed in: alerts of samples of attributes
            _ => 0,
        }
    }
}

impl Map {
    /// The value of `key`; an absent one is the zero value of the map's elements.
    pub fn get(&self, key: &str) -> Value {
        match (self.entries.get(key), self.kind) {
            (Some(value), _) => value.clone(),
            (None, MapKind::Any) => Value::Nil,
            (None, _) => Value::string(""),
        }
    }

    /// The entries as Alertmanager sorts them: `alertname` first, then by name.
    pub fn sorted_pairs(&self) -> Vec<(&Arc<str>, &Value)> {
        let mut pairs: Vec<_> = self.entries.iter().collect();
        pairs.sort_by_key(|(name, _)| (&***name != "alertname", *name));
        pairs
    }
}

impl Struct {
    /// The value of the field, if there is one of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// As Go's `encoding/json` writes it.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) | Self::Int64(value) | Self::Duration(value) => serializer.serialize_i64(*value),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => serializer.serialize_i64(*value as i64),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(text) | Self::Html(text) => serializer.serialize_str(text),
            Self::Time(Some(time), _) => serializer.collect_str(time),
            Self::Time(None, _) => serializer.serialize_str("0001-01-01T00:00:00Z"),
            Self::List(list) => serializer.collect_seq(&list.items),
            Self::Map(map) => serializer.collect_map(&map.entries),
            Self::Struct(value) => {
                serializer.collect_map(value.fields.iter().map(|(name, value)| (json_name(name), value)))
            }
        }
    }
}

/// `StartsAt` is `startsAt` in JSON, `TraceID` `traceID`.
fn json_name(field: &str) -> String {
    let mut chars = field.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn deeper<'v>(values: impl Iterator<Item = &'v Value>) -> Result<usize, String> {
    let depth = 1 + values.map(Value::depth).max().unwrap_or(0);
    if depth > DEPTH_MAX {
        return Err(format!("a value nested more than {DEPTH_MAX} levels deep (`depth_max`)"));
    }
    Ok(depth)
}
