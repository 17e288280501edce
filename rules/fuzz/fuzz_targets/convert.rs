//! Any text is converted or refused, with every note inside of it; the rules that come out are rules.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_rules::convert::{self, Format, Options};
use watchbell_rules::diagnostic::render_all;
use watchbell_rules::rule_file;

fuzz_target!(|text: &str| {
    for format in [Format::Grafana, Format::Elastalert, Format::Sigma] {
        let (notes, rules) = match convert::convert("source", text, Some(format), &Options::default()) {
            Ok(conversion) => (conversion.notes.clone(), (conversion.rules() > 0).then(|| conversion.rule_file())),
            Err(mistakes) => (mistakes, None),
        };
        assert!(notes.iter().all(|note| text.get(note.span.clone()).is_some()), "{notes:?}");
        render_all(&notes, text);
        if let Some(rules) = rules {
            rule_file::parse("rules.yaml", &rules).unwrap_or_else(|mistakes| panic!("{rules}\n{mistakes:?}"));
        }
    }
});
