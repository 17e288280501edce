//! The JSON schema of the config, for editors: made from the types that read it. `docs/schema/config.json` holds it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Config;

/// The schema, in JSON Schema's draft 2020-12.
///
/// ```
/// let schema = watchbell_collector::config::schema::schema();
/// assert_eq!(schema["properties"]["data_dir"]["default"], "./data");
/// ```
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<Config>());
    schema["title"] = json!("Watchbell's config");
    adapt(&mut schema);
    schema
}

/// The types say what the program works with; the file may also say it in the ways that the reader takes.
fn adapt(value: &mut Value) {
    let Value::Object(object) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(adapt);
        }
        return;
    };
    if let Some(Value::Object(definitions)) = object.get_mut("$defs") {
        definitions.insert("Duration".to_owned(), duration());
        definitions.retain(|name, _| name != "NotSupported" && !name.starts_with("Foreign"));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.retain(|_, property| !is_refused(property));
    }
    object.values_mut().for_each(adapt);
    if let Some(Value::Object(values)) = object.get_mut("additionalProperties")
        && is_free_text(values)
    {
        values.insert("type".to_owned(), json!(TEXT));
    }
    match object.get("type").and_then(Value::as_str) {
        Some("integer") => or_text(object, &format!("{SIZE}|{ENVIRONMENT}")),
        Some("number" | "boolean") => or_text(object, ENVIRONMENT),
        Some("object") if !object.contains_key("required") => {
            object.insert("type".to_owned(), json!(["object", "null"])); // a block with nothing in it
        }
        _ => {}
    }
}

/// A text of which nothing is asked. Beside a name of the user's own a number or a truth value is one, too, as it is written; under a key of
/// ours it is more likely a mistake.
fn is_free_text(object: &Map<String, Value>) -> bool {
    let is_text = object.get("type").is_some_and(|kind| kind == "string");
    is_text && ["pattern", "enum", "const"].iter().all(|asked| !object.contains_key(*asked))
}

const TEXT: [&str; 3] = ["string", "number", "boolean"];

/// A key that is known for being refused.
fn is_refused(property: &Value) -> bool {
    let reference = property.get("$ref").and_then(Value::as_str).unwrap_or_default();
    *property == Value::Bool(false)
        || property.get("not").is_some()
        || reference.ends_with("/NotSupported")
        || reference.contains("/Foreign")
}

fn duration() -> Value {
    json!({
        "type": "string",
        "description": "A duration: `30s`, `1h30m`, `1d`.",
        "pattern": format!("^(0|([0-9.]+(ns|us|µs|ms|[smhdwy]))+)$|{ENVIRONMENT}"),
    })
}

/// What names a variable of the environment.
const ENVIRONMENT: &str = r"\$\{(env:)?[A-Za-z_]";

/// A number with a unit, `64MiB`.
const SIZE: &str = r"^[0-9.]+ ?[kKMGTPE]?i?[bB]?$";

/// The value may also stand as a text like that.
fn or_text(object: &mut Map<String, Value>, pattern: &str) {
    object.insert("type".to_owned(), json!([object["type"], "string"]));
    object.insert("pattern".to_owned(), json!(pattern));
    object.remove("format"); // of numbers: it tells no editor anything
}

/// What a schema has against a file.
#[cfg(test)]
pub(crate) fn mistakes(schema: &Value, text: &str) -> Vec<String> {
    let file: Value = serde_saphyr::from_str(text).unwrap();
    let validator = jsonschema::draft202012::new(schema).unwrap();
    validator.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::pages;

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/config.json");
        pages::compare(&path, &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"));
    }

    #[test]
    fn what_the_collector_takes_the_schema_takes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = fs::read_to_string(root.join("docs/config.md")).unwrap();
        let blocks = page.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
        let examples = fs::read_dir(root.join("examples/config")).unwrap().map(|entry| entry.unwrap().path());
        let examples = examples.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        let examples = examples.map(|path| fs::read_to_string(path).unwrap());
        let mut count = 0;
        for text in blocks.chain(examples).filter(|text| !text.starts_with("groups:")) {
            assert_eq!(mistakes(&schema(), &text), Vec::<String>::new(), "{text}");
            count += 1;
        }
        assert!(count > 5, "{count}");
        for text in [
            "api:\nwal: {segment_bytes: 16MiB}",
            "wal: {segment_bytes: 1048576}\nlimits: {record_bytes_max: 1.5 kB}",
            "drain_timeout: ${env:DRAIN}\nwal: {segment_bytes: '${env:BYTES}'}",
            "exporters: {otlp_grpc/eu: {endpoint: 'http://x:4317', timeout: 1m30s}, loki: {endpoint: 'http://x'}}",
            "external_labels: {a: 1, b: true}",
        ] {
            let variable = |name: &str| Some(if name == "DRAIN" { "30s" } else { "1048576" }.to_owned());
            Config::parse("c", text, variable).unwrap();
            assert_eq!(mistakes(&schema(), text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_the_collector_refuses_the_schema_refuses() {
        for text in [
            "data_dri: x",
            "api: {endpint: x}",
            "wal: {segment_bytes: 64 parsecs}",
            "wal: {segment_bytes: [1]}",
            "snapshot_interval: 5 years",
            "exporters: {splunk: {}}",
            "exporters: {loki: {}}",
            "exporters: {loki: {endpoint: x, compression: brotli}}",
            "service: {pipelines: {}}",
            "alerting: {receivers: []}",
            "alerting: {route: {receiver: a, mute_time_intervals: [b]}, receivers: [{name: a}]}",
            "alertmanagers: [{timeout: 10s}]",
        ] {
            assert!(Config::parse("c", text, |_| None).is_err(), "{text}");
            assert!(!mistakes(&schema(), text).is_empty(), "{text}");
        }
    }
}
