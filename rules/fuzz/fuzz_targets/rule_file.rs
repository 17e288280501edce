//! Any text is read as a rule file or refused, with every mistake inside of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_rules::diagnostic::render_all;
use watchbell_rules::{lint::lint, rule_file};

fuzz_target!(|text: &str| match rule_file::parse("rules.yaml", text) {
    Ok(file) => {
        render_all(&lint("rules.yaml", text, &file, |_| false), text);
    }
    Err(mistakes) => {
        assert!(mistakes.iter().all(|mistake| mistake.span.start <= mistake.span.end && mistake.span.end <= text.len()));
        render_all(&mistakes, text);
    }
});
