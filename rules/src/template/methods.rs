//! Methods of values: `.Alerts.Firing`, `.Labels.SortedPairs`, `.StartsAt.Format "15:04"`.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::time_format;
use super::value::{List, ListKind, Map, MapKind, Value};
use crate::time::Timestamp;

/// Calls the method of that name, if the value has it.
pub(super) fn call(value: &Value, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    match value {
        Value::Map(map) if map.kind == MapKind::Kv => kv(map, name, arguments),
        Value::List(list) => self::list(list, name, arguments),
        Value::Time(time, zone) => self::time(*time, zone, name, arguments),
        Value::Duration(nanos) => duration(*nanos, name, arguments),
        _ => None,
    }
}

type Called = Option<Result<Value, String>>;

fn without_arguments(arguments: &[Value], result: impl FnOnce() -> Value) -> Called {
    Some(match arguments.len() {
        0 => Ok(result()),
        count => Err(format!("wrong number of args: want 0 got {count}")),
    })
}

fn with_argument(arguments: &[Value], result: impl FnOnce(&Value) -> Result<Value, String>) -> Called {
    Some(match arguments {
        [argument] => result(argument),
        _ => Err(format!("wrong number of args: want 1 got {}", arguments.len())),
    })
}

fn kv(map: &Map, name: &str, arguments: &[Value]) -> Called {
    let pairs = || map.sorted_pairs().into_iter().map(|(name, value)| (name.clone(), value.clone()));
    match name {
        "SortedPairs" => without_arguments(arguments, || {
            let pair =
                |(name, value)| Value::structure("template.Pair", vec![("Name", Value::Str(name)), ("Value", value)]);
            Value::flat_list(ListKind::Pairs, pairs().map(pair).collect())
        }),
        "Names" => without_arguments(arguments, || Value::strings(pairs().map(|(name, _)| name))),
        "Values" => without_arguments(arguments, || {
            Value::flat_list(ListKind::Strings, pairs().map(|(_, value)| value).collect())
        }),
        "Remove" => with_argument(arguments, |argument| match argument {
            Value::List(list) if list.kind == ListKind::Strings => Ok(remove(map, list)),
            other => Err(format!("wrong type for value; expected []string; got {}", other.type_name())),
        }),
        _ => None,
    }
}

fn remove(map: &Map, names: &List) -> Value {
    let goes = |key: &str| names.items.iter().any(|item| matches!(item, Value::Str(name) if **name == *key));
    let mut kept = map.clone();
    kept.entries.retain(|key, _| !goes(key));
    Value::Map(Arc::new(kept))
}

fn list(list: &List, name: &str, arguments: &[Value]) -> Called {
    let field = |item: &Value, field| match item {
        Value::Struct(fields) => fields.get(field).cloned().unwrap_or(Value::Nil),
        _ => Value::Nil,
    };
    let with_status = |status: &str| {
        let has = |item: &&Value| matches!(field(item, "Status"), Value::Str(text) if *text == *status);
        Value::flat_list(ListKind::Alerts, list.items.iter().filter(has).cloned().collect())
    };
    let all = |name| Value::flat_list(ListKind::Strings, list.items.iter().map(|item| field(item, name)).collect());
    match (list.kind, name) {
        (ListKind::Alerts, "Firing") => without_arguments(arguments, || with_status("firing")),
        (ListKind::Alerts, "Resolved") => without_arguments(arguments, || with_status("resolved")),
        (ListKind::Pairs, "Names") => without_arguments(arguments, || all("Name")),
        (ListKind::Pairs, "Values") => without_arguments(arguments, || all("Value")),
        _ => None,
    }
}

fn time(time: Option<Timestamp>, zone: &TimeZone, name: &str, arguments: &[Value]) -> Called {
    let zoned = || time_format::zoned(time, zone);
    let int = |number: i64| without_arguments(arguments, || Value::Int(number));
    let int64 = |number: i64| without_arguments(arguments, || Value::Int64(number));
    let shifted =
        |nanos: i64| Value::Time(time.map(|time| Timestamp(time.nanos().saturating_add(nanos))), zone.clone());
    match name {
        "Format" => with_argument(arguments, |layout| match layout {
            Value::Str(layout) => Ok(Value::string(time_format::format(time, zone, layout))),
            other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        }),
        "String" => without_arguments(arguments, || Value::string(time_format::display(time, zone))),
        "UTC" | "Local" => without_arguments(arguments, || Value::time(time)),
        "IsZero" => without_arguments(arguments, || Value::Bool(time.is_none())),
        "Unix" => int64(zoned().timestamp().as_second()),
        "UnixMilli" => int64(zoned().timestamp().as_millisecond()),
        "Year" => int(zoned().year().into()),
        "Day" => int(zoned().day().into()),
        "Hour" => int(zoned().hour().into()),
        "Minute" => int(zoned().minute().into()),
        "Second" => int(zoned().second().into()),
        "Month" => without_arguments(arguments, || Value::string(time_format::format(time, zone, "January"))),
        "Weekday" => without_arguments(arguments, || Value::string(time_format::format(time, zone, "Monday"))),
        "Add" => with_argument(arguments, |by| match by {
            Value::Duration(nanos) | Value::Int(nanos) => Ok(shifted(*nanos)),
            other => Err(format!("wrong type for value; expected time.Duration; got {}", other.type_name())),
        }),
        "Sub" | "Before" | "After" | "Equal" => with_argument(arguments, |other| compare(time, name, other)),
        _ => None,
    }
}

fn compare(time: Option<Timestamp>, name: &str, other: &Value) -> Result<Value, String> {
    let Value::Time(other, _) = other else {
        return Err(format!("wrong type for value; expected time.Time; got {}", other.type_name()));
    };
    let nanos = |time: Option<Timestamp>| time.map_or(i64::MIN, Timestamp::nanos);
    Ok(match name {
        "Sub" => Value::Duration(nanos(time).saturating_sub(nanos(*other))),
        "Before" => Value::Bool(time < *other),
        "After" => Value::Bool(time > *other),
        _ => Value::Bool(time == *other),
    })
}

fn duration(nanos: i64, name: &str, arguments: &[Value]) -> Called {
    let float = |unit: f64| without_arguments(arguments, || Value::Float(nanos as f64 / unit));
    let int64 = |unit: i64| without_arguments(arguments, || Value::Int64(nanos / unit));
    match name {
        "Hours" => float(3.6e12),
        "Minutes" => float(6e10),
        "Seconds" => float(1e9),
        "Milliseconds" => int64(1_000_000),
        "Microseconds" => int64(1_000),
        "Nanoseconds" => int64(1),
        "String" => without_arguments(arguments, || Value::string(time_format::duration(nanos))),
        "Round" | "Truncate" => with_argument(arguments, |to| match to {
            Value::Duration(unit) | Value::Int(unit) if *unit > 0 => {
                let half = if name == "Round" { unit / 2 * nanos.signum() } else { 0 };
                Ok(Value::Duration(nanos.saturating_add(half) / unit * unit))
            }
            _ => Ok(Value::Duration(nanos)),
        }),
        _ => None,
    }
}
