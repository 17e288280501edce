//! Any file of OTEL_CONFIG_FILE is taken or refused with its mistakes, each with its place.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use watchbell::fuzzing::configured;

static PATH: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("otel.yaml");
    (folder, path)
});

fuzz_target!(|text: &str| {
    std::fs::write(&PATH.1, text).unwrap();
    let variables = [("OTEL_CONFIG_FILE", PATH.1.to_str().unwrap()), ("NAME", "of: \"a variable\"")];
    if let Err(error) = configured(watchbell::builder().variables(variables)) {
        assert!(error.contains("otel.yaml:") || error.starts_with("there are "), "{error}");
    }
});
