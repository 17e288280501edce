//! Who the records are from.

mod detect;

use opentelemetry::{KeyValue, Value};

pub(crate) use detect::Detector;

/// The resource's attributes: of two with one key, the later counts. What the specification wants in any case is added.
pub(crate) fn complete(found: impl IntoIterator<Item = KeyValue>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.name", "watchbell"),
        KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    found.into_iter().for_each(|attribute| set(&mut attributes, attribute));
    if !attributes.iter().any(|attribute| attribute.key.as_str() == "service.name") {
        attributes.push(KeyValue::new("service.name", unknown_service()));
    }
    attributes
}

/// Attributes of pairs of text.
pub(crate) fn strings(pairs: Vec<(String, String)>) -> impl Iterator<Item = KeyValue> {
    pairs.into_iter().map(|(key, value)| KeyValue::new(key, value))
}

fn set(attributes: &mut Vec<KeyValue>, attribute: KeyValue) {
    match attributes.iter_mut().find(|other| other.key == attribute.key) {
        Some(other) => *other = attribute,
        None => attributes.push(attribute),
    }
}

/// What the specification says for a service without a name.
fn unknown_service() -> Value {
    let program = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    program.map_or("unknown_service".into(), |program| format!("unknown_service:{program}").into())
}
