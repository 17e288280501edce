//! Who the records are from.

mod detect;

use opentelemetry::{KeyValue, Value};

pub(crate) use detect::Detector;

/// The resource's attributes; `service_name` wins over `OTEL_RESOURCE_ATTRIBUTES`, code over both, and these over what is detected.
pub(crate) fn attributes(
    detectors: &[Detector],
    service_name: Option<String>,
    from_env: Vec<(String, String)>,
    from_code: Vec<KeyValue>,
) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.name", "watchbell"),
        KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    detectors.iter().flat_map(|detector| detector.detect()).for_each(|found| set(&mut attributes, found));
    let named = service_name.map(|name| KeyValue::new("service.name", name));
    let from_env = from_env.into_iter().map(|(key, value)| KeyValue::new(key, value));
    from_env.chain(from_code).chain(named).for_each(|attribute| set(&mut attributes, attribute));
    if !attributes.iter().any(|attribute| attribute.key.as_str() == "service.name") {
        attributes.push(KeyValue::new("service.name", unknown_service()));
    }
    attributes
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
