//! Any text is read as tests of rules or refused, with every mistake inside of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_rules::diagnostic::render_all;
use watchbell_rules::{rule_file, rule_test};

fuzz_target!(|text: &str| {
    let mistakes = match rule_test::parse("tests.yaml", text) {
        Ok(file) => {
            let rules: Vec<_> = rule_file::parse("tests.yaml", text).into_iter().collect();
            assert!(file.tests.iter().all(|test| text.get(test.span.clone()).is_some()));
            file.tests.iter().flat_map(|test| rule_test::unknown_names(test, &rules, None)).collect()
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            mistakes
        }
    };
    assert!(mistakes.iter().all(|mistake| text.get(mistake.span.clone()).is_some()));
    render_all(&mistakes, text);
});
