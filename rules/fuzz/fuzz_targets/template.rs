//! Any text is a template or is refused inside of it, and any template ends within its limits: those of rules, and those of LogQL.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_rules::labels::Labels;
use watchbell_rules::record::EvidenceRecord;
use watchbell_rules::template::log::{LogData, LogLabels, LogTemplate};
use watchbell_rules::template::value::Value;
use watchbell_rules::template::{LOG_OUTPUT_BYTES_MAX, Links, RULE_OUTPUT_BYTES_MAX, RuleData, Template, expand_rule};
use watchbell_rules::time::Timestamp;

fuzz_target!(|text: &str| {
    let (labels, links) = (Labels::new([("a", "x"), ("b", "y")]), Links::default());
    let samples = [EvidenceRecord::default()];
    let data = RuleData {
        labels: &labels,
        value: 20.5,
        external_labels: &labels,
        external_url: "http://x/y",
        samples: &samples,
        links: &links,
        now: Timestamp(1_700_000_000_000_000_000),
    };
    match Template::parse(text).and_then(|template| expand_rule(&template, &data)) {
        Ok(output) => assert!(output.len() <= RULE_OUTPUT_BYTES_MAX),
        Err(error) => assert!(text.get(error.span.start as usize..error.span.end as usize).is_some()),
    }
    let now = Timestamp(1_700_000_000_000_000_000);
    let labels: LogLabels = [("a".into(), Value::string("x")), ("b".into(), Value::string("7"))].into_iter().collect();
    match LogTemplate::parse(text) {
        Ok(template) => {
            let data = LogData { line: r#"{"c": [1, "y"]}"#, at: now, now };
            let line = template.expand("line", labels, &data).unwrap_or_default();
            assert!(line.len() <= LOG_OUTPUT_BYTES_MAX);
        }
        Err(error) => assert!(text.get(error.span.start as usize..error.span.end as usize).is_some()),
    }
});
