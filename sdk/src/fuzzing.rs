//! The way in for the fuzz targets in `fuzz/`: it is there where `cargo fuzz` builds, by `--cfg fuzzing`, and nowhere else.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::Builder;
use crate::callsite::ScopeId;
use crate::config::Signal;
use crate::mapped::Arena;
use crate::redact::Redaction;
use crate::sink::{Record, check_pattern};
use crate::spool::{Entry, Spool, Store};
use crate::tell::{self, Verbosity};

/// A record as it is encoded: the content of a `LogRecord`.
pub fn encoded<'r>(record: &Record<'r>) -> &'r [u8] {
    record.raw().1
}

/// A text without what looks like a secret.
pub fn scrubbed(redaction: &Redaction, text: &str) -> String {
    redaction.scrubbed(text).unwrap_or_else(|| text.to_owned())
}

/// What is wrong in a sink's pattern.
pub fn pattern(pattern: &str) -> Result<(), String> {
    check_pattern(pattern)
}

/// Reads all that is set, and starts nothing: what was not understood and left out, or why all is refused.
pub fn configured(builder: Builder) -> Result<Vec<String>, String> {
    builder.build(true).map(|(_, warnings)| warnings)
}

/// Says nothing on stderr from now on.
pub fn be_silent() {
    tell::set_verbosity(Verbosity::None);
}

/// Leaves these requests in a file of the spool in a folder, and these records in a mapped one, as a killed process does.
pub fn leave_behind(folder: &Path, requests: &[&'static [u8]], records: &[&[u8]]) {
    let mut store = Store::open(&Spool::in_dir(folder), SERVICE);
    for (number, body) in (0..).zip(requests) {
        let entry = Entry { signal: Signal::Logs, records: 1, number, body: (*body).into() };
        store.append(&entry, Instant::now()).expect("room on the disk");
    }
    let service = fs::read_dir(folder).expect("the folder").next().expect("the service's").expect("its name").path();
    let lives = folder.join("lives");
    let arena = Arc::new(Arena::create(lives.clone(), 16 * 1024, b"").expect("a file"));
    let scope = ScopeId::of_target("fuzz");
    let mapped = records.iter().map(|record| {
        let mut mapped = arena.begin(Signal::Logs, scope, record.len() + 32).expect("room in the file");
        assert!(mapped.push(scope, 1, record));
        mapped
    });
    let mapped: Vec<_> = mapped.collect(); // the end of one takes its record out
    fs::copy(lives, service.join("1.chunks")).expect("a copy");
    drop(mapped);
    arena.end();
}

/// The requests that a later process finds in that folder.
pub fn found(folder: &Path) -> Vec<Vec<u8>> {
    let mut store = Store::open(&Spool::in_dir(folder), SERVICE);
    let mut found = Vec::new();
    while let Some(entries) = store.adopt_next(|_| true) {
        found.extend(entries.iter().filter_map(|entry| store.read(entry.place)).map(|body| body.to_vec()));
    }
    found
}

const SERVICE: &str = "fuzz";
