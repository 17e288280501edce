//! Tests that are texts: each case is an input and what comes of it, and `UPDATE=1 cargo test` writes the second.
//!
//! ```text
//! === the name of the case
//! input, of any number of lines
//! ----
//! output
//! ```

#![allow(clippy::disallowed_methods)] // reads and writes its cases

use std::fs;
use std::path::{Path, PathBuf};

/// The text with each of the edits made: from that byte on, about so many are replaced by that.
pub(crate) fn edited(text: &str, edits: &[(usize, usize, &str)]) -> String {
    let mut text = text.to_owned();
    for (start, len, replacement) in edits {
        let start = (0..=text.len().min(*start)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let end = (start + len..).find(|at| *at >= text.len() || text.is_char_boundary(*at)).unwrap();
        text.replace_range(start..end.min(text.len()), replacement);
    }
    text
}

/// Runs every case of `testdata/<folder>/*.test`.
pub(crate) fn run(folder: &str, evaluate: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    for file in files {
        run_file(&file, &evaluate);
    }
}

fn run_file(file: &Path, evaluate: &impl Fn(&str) -> String) {
    let text = format!("\n{}", fs::read_to_string(file).unwrap());
    let mut updated = String::new();
    let mut cases = text.split("\n=== ").skip(1).peekable();
    assert!(cases.peek().is_some(), "no cases in {}", file.display());
    for case in cases {
        let (name, rest) = case.split_once('\n').unwrap();
        let (input, expected) = rest.split_once("----\n").unwrap_or((rest, ""));
        let output = evaluate(input.trim_end_matches('\n'));
        let is_update = std::env::var_os("UPDATE").is_some();
        assert!(is_update || output.trim_end() == expected.trim_end(), "{}: {name}\n{output}", file.display());
        updated.push_str(&format!("=== {name}\n{}\n----\n{}\n\n", input.trim_end_matches('\n'), output.trim_end()));
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, format!("{}\n", updated.trim_end())).unwrap();
    }
}
