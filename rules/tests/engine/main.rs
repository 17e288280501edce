//! The engine as a whole: cases as text, and properties against a model that knows no shortcuts.

#![allow(clippy::disallowed_methods)] // the cases are files; the crate itself reads none

mod batch;
mod model;
mod page;
mod records;
mod script;

use std::path::Path;

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
