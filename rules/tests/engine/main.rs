//! The engine as a whole: cases as text, and properties against a model that knows no shortcuts.

#![allow(clippy::disallowed_methods)] // the cases are files; the crate itself reads none

mod batch;
mod model;
mod page;
mod records;
mod script;

use std::path::Path;

use watchbell_rules::logql::OPERATORS_MAX;
use watchbell_rules::query::{Limits, Query, When};
use watchbell_rules::{lint, rule_file};

use records::START;

/// Runs `testdata/eval/*.test`; `UPDATE=1` writes what comes out into them.
#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/eval");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let failed: Vec<_> = files.iter().filter_map(|file| script::check(file).err()).collect();
    assert!(failed.is_empty(), "run again with UPDATE=1 if this is right:\n{}", failed.join("\n"));
}

/// Whatever walks the tree of an expression goes as deep as its longest chain of operators; a thread has 2 MiB.
#[test]
fn the_longest_chain_leaves_some_of_the_stack() {
    let count = r#"sum by (n) (count_over_time({service_name="a"} [1m]))"#;
    for op in ["+", "or", "> bool", "unless on (n)"] {
        let chain = format!("{count}{}", format!(" {op} {count}").repeat(OPERATORS_MAX - 1));
        let expr = format!("{}{chain}{}", format!("{count} {op} (").repeat(60), ")".repeat(60));
        let walk = move || {
            let rules = format!(
                "groups: [{{name: g, rules: [{{alert: A, expr: '{expr}', for: 1m}}, {{record: a, expr: '{expr}'}}]}}]"
            );
            let file = rule_file::parse("rules.yaml", &rules).expect("a chain may be as long");
            assert!(file == file.clone() && format!("{}", file.groups[0].rules[0].expr).len() > 1);
            lint::lint("rules.yaml", &rules, &file, |_| true);
            lint::loki("rules.yaml", &rules);
            let mut runner = script::Runner::default();
            for block in [
                &*format!("rules\n{rules}\n----"),
                "records\n1s x2/1s a INFO | one | n=1\n----",
                "clock 3m\n----",
                "restart\n----",
            ] {
                runner.block(block);
            }
            let query = Query::new(&expr, When::At(START), Limits::default()).expect("a chain may be as long");
            let _ = query.answer();
        };
        std::thread::Builder::new().stack_size(3 << 19).spawn(walk).unwrap().join().unwrap();
    }
}
