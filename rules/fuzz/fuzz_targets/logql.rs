//! Any text is read as LogQL or refused, with spans inside of it; what is read is printed and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchbell_rules::logql;

fuzz_target!(|text: &str| match logql::parse(text) {
    Ok(expr) => {
        let printed = expr.to_string();
        match logql::parse(&printed) {
            Ok(again) => assert_eq!(again.to_string(), printed),
            Err(mistakes) => panic!("{text:?} became {printed:?}: {mistakes:?}"),
        }
    }
    Err(mistakes) => {
        assert!(!mistakes.is_empty());
        for mistake in mistakes {
            assert!(mistake.span.start <= mistake.span.end && mistake.span.end <= text.len());
            mistake.render(text);
        }
    }
});
