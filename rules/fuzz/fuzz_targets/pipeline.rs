//! Any stages run over any line, to the same end each time, and without one that is kept where the batch's and the stream's ways
//! of running them differ.

#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use watchbell_rules::entry::{LabelValue, LogEntry};
use watchbell_rules::logql::{self, ast::Expr};
use watchbell_rules::pipeline::{Extracted, Pipeline, Record};
use watchbell_rules::time::Timestamp;

struct Entry<'l>(&'l str);

impl LogEntry for Entry<'_> {
    fn line(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn index_label(&self, name: &str) -> Option<&str> {
        (name == "a").then_some("1")
    }

    fn metadata(&self, name: &str) -> Option<LabelValue<'_>> {
        (name == "b").then_some(LabelValue::Int(2))
    }

    fn for_each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
        visit("a", "1");
        visit("b", "2");
    }
}

fuzz_target!(|input: (&str, &str)| {
    let (stages, line) = input;
    let Ok(Expr::Log(log)) = logql::parse(&format!("{{a=\"1\"}} {stages}")) else { return };
    let (entry, now) = (Entry(line), Timestamp(1_700_000_000_000_000_000));
    let record = Record::new(&entry, now, now);
    for wanted in [None, Some(&[][..]), Some(&["a".to_owned(), "c".to_owned()][..])] {
        let Ok(pipeline) = Pipeline::compile(&log.stages, wanted) else { return };
        let mut extracted = Extracted::default();
        let first = (pipeline.run(&record, &mut extracted), shown(&record, &extracted));
        let again = (pipeline.run(&record, &mut extracted), shown(&record, &extracted));
        assert_eq!(first, again);
        let literals = pipeline.required_literals();
        assert!(first.0 == watchbell_rules::pipeline::Verdict::Dropped
            || literals.is_empty()
            || literals.iter().any(|literal| line.contains(literal)));
    }
});

fn shown(record: &Record<'_, Entry<'_>>, extracted: &Extracted) -> String {
    let mut shown = extracted.line(record).to_owned();
    extracted.for_each_label(record, &mut |name, value| shown += &format!(" {name}={value}"));
    shown
}
