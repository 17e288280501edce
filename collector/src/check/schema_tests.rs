//! `docs/schema/rules.json`, by which editors check rule files and their tests, says what the readers of these files say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use watchbell_rules::diagnostic::Diagnostic;
use watchbell_rules::{rule_file, rule_test};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/rules.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn mistakes(text: &str) -> Vec<String> {
    crate::config::schema::mistakes(&schema(), text)
}

#[test]
fn what_the_docs_show_the_schema_takes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let pages = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```yaml").skip(1) {
            let (_, block) = block.split_once('\n').unwrap();
            let block = block.split("```").next().unwrap();
            let is_right = match block.starts_with("rule_files:") {
                true => rule_test::parse("file", block).is_ok(),
                false => block.contains("groups:") && rule_file::parse("file", block).is_ok(),
            };
            if is_right {
                assert_eq!(mistakes(block), Vec::<String>::new(), "{}\n{block}", page.display());
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

/// Where each definition of the schema stands in a file: its place has the key `zzzzzz`, which nothing has.
const PLACES: &[(&str, &str)] = &[
    ("", "groups: []\nzzzzzz: 1"),
    ("", "rule_files: []\ntests: []\nzzzzzz: 1"),
    ("group", "groups: [{name: g, zzzzzz: 1}]"),
    ("rule", "groups: [{name: g, rules: [{zzzzzz: 1}]}]"),
    ("options", "groups: [{name: g, watchbell: {zzzzzz: 1}}]"),
    ("detect", "groups: [{name: g, rules: [{alert: A, detect: {zzzzzz: 1}}]}]"),
    ("detect/new_pattern", "groups: [{name: g, rules: [{alert: A, detect: {new_pattern: {zzzzzz: 1}}}]}]"),
    ("detect/sequence", "groups: [{name: g, rules: [{alert: A, detect: {sequence: {zzzzzz: 1}}}]}]"),
    ("detect/spike", "groups: [{name: g, rules: [{alert: A, detect: {spike: {zzzzzz: 1}}}]}]"),
    ("detect/flatline", "groups: [{name: g, rules: [{alert: A, detect: {flatline: {zzzzzz: 1}}}]}]"),
    ("detect/burn_rate", "groups: [{name: g, rules: [{alert: A, detect: {burn_rate: {zzzzzz: 1}}}]}]"),
    ("burn_window", "groups: [{name: g, rules: [{alert: A, detect: {burn_rate: {windows: [{zzzzzz: 1}]}}}]}]"),
    ("detect/distinct", "groups: [{name: g, rules: [{alert: A, detect: {distinct: {zzzzzz: 1}}}]}]"),
    ("test", "rule_files: []\ntests: [{zzzzzz: 1}]"),
    ("record", "rule_files: []\ntests: [{records: [{zzzzzz: 1}], expect: []}]"),
    ("expectation", "rule_files: []\ntests: [{expect: [{zzzzzz: 1}]}]"),
    ("expected_alert", "rule_files: []\ntests: [{expect: [{at: 1s, alert: A, firing: [{zzzzzz: 1}]}]}]"),
    ("expected_value", "rule_files: []\ntests: [{expect: [{at: 1s, record: a, values: [{zzzzzz: 1}]}]}]"),
    ("expected_message", "rule_files: []\ntests: [{expect: [{at: 1s, receiver: a, messages: [{zzzzzz: 1}]}]}]"),
    ("alert_rule_test", "rule_files: []\ntests: [{alert_rule_test: [{zzzzzz: 1}]}]"),
    (
        "exp_alert",
        "rule_files: []\ntests: [{alert_rule_test: [{eval_time: 1s, alertname: A, exp_alerts: [{zzzzzz: 1}]}]}]",
    ),
];

#[test]
fn the_schema_has_the_readers_keys() {
    let schema = schema();
    let mut in_files = BTreeSet::new();
    for (place, text) in PLACES {
        assert!(!mistakes(text).is_empty(), "{text}");
        let known = known_keys(text);
        let definition = match place.split_once('/') {
            Some((name, kind)) => &schema["$defs"][name]["properties"][kind],
            None if place.is_empty() => &schema,
            None => &schema["$defs"][place],
        };
        let has: BTreeSet<String> = definition["properties"].as_object().unwrap().keys().cloned().collect();
        if place.is_empty() {
            in_files.extend(known);
            assert!(in_files.is_subset(&has));
        } else {
            assert_eq!(has, known, "{place}");
        }
    }
    assert_eq!(schema["properties"].as_object().unwrap().len(), in_files.len());
    let of_schema = schema["$defs"].as_object().unwrap().iter().filter(|(_, one)| one.get("properties").is_some());
    let untold: Vec<_> = of_schema.filter(|(name, _)| !PLACES.iter().any(|(place, _)| place == name)).collect();
    assert!(untold.is_empty(), "{untold:?}");
}

/// The keys that a reader lists where it meets one that it does not know.
fn known_keys(text: &str) -> BTreeSet<String> {
    let of_rules = rule_file::parse("file", text).err();
    let of_tests = || rule_test::parse("file", text).err();
    let found: Vec<Diagnostic> =
        if text.starts_with("groups:") { of_rules } else { of_tests() }.expect("a key that nothing has is a mistake");
    let listed = found.iter().find_map(|mistake| mistake.help.as_ref().filter(|_| mistake.message.contains("zzzzzz")));
    let listed = listed.unwrap_or_else(|| panic!("{text}: {found:?}"));
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn what_the_readers_refuse_the_schema_refuses() {
    let rule = |detect: &str| format!("groups: [{{name: g, rules: [{{alert: A, detect: {detect}}}]}}]");
    let files = [
        rule("{spike: {window: 10}}"),
        rule("{spike: {factor: high}}"),
        rule("{distinct: {label: a, more_than: -1}}"),
        rule("{burn_rate: {objective: 99.9}}"),
        rule("{burn_rate: {windows: []}}"),
        rule("{sequence: {first: '{a=\"b\"}'}}"),
        rule("{spike: {}}, expr: '1'"),
        rule("{new_pattern: {max_new: 0}}"),
        "groups: [{name: g, interval: 5, rules: []}]".to_owned(),
    ];
    for text in files {
        assert!(rule_file::parse("file", &text).is_err(), "{text}");
        assert!(!mistakes(&text).is_empty(), "{text}");
    }
    for text in
        [rule("{spike: {window: 1.5h}}"), rule("{burn_rate: {objective: 99.9%}}"), rule("{spike: {factor: 2.5}}")]
            .into_iter()
            .chain([
                "groups: [{name: g, labels: {a: 1}, rules: [{alert: A, expr: 1, annotations: {b: true}}]}]".to_owned()
            ])
    {
        assert!(rule_file::parse("file", &text).is_ok(), "{text}");
        assert_eq!(mistakes(&text), Vec::<String>::new(), "{text}");
    }
}
