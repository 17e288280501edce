use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chunk::Chunk;

/// What threads, and the export that takes their chunks, do by turns.
#[derive(Clone, Debug)]
enum Step {
    /// A run for records of one signal, with a first one of so many bytes.
    Begin(Signal, usize),
    /// A record into one of the runs.
    Push(usize, usize),
    /// One of the runs ends.
    End(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let signal = prop_oneof![Just(Signal::Logs), Just(Signal::Traces)];
    let step = prop_oneof![
        2 => (signal, 0..9000usize).prop_map(|(signal, bytes)| Step::Begin(signal, bytes)),
        8 => (0..20usize, 0..900usize).prop_map(|(run, bytes)| Step::Push(run, bytes)),
        1 => (0..20usize).prop_map(Step::End),
    ];
    prop::collection::vec(step, 1..80)
}

/// A run, with the records that are in it.
type Live = (Signal, Mapped, Vec<Vec<u8>>);

/// Does the steps in a new file of 64 KiB: what lives at the end, with the file, which goes with its owner.
fn done(path: PathBuf, steps: Vec<Step>) -> (Arc<Arena>, Vec<Live>) {
    let arena = Arc::new(Arena::create(path, 64 * 1024, b"resource").unwrap());
    let mut live: Vec<Live> = Vec::new();
    for (number, step) in (0u64..).zip(steps) {
        let record = |bytes: usize| [&number.to_le_bytes()[..], &vec![number as u8; bytes]].concat();
        let scope = |signal| ScopeId::of_target(&format!("mapped::{}::{}", signal as usize, number % 3));
        match step {
            Step::Begin(signal, bytes) => {
                let (record, scope) = (record(bytes), scope(signal));
                let begun = arena.begin(signal, scope, record.len() + ENTRY_HEAD_BYTES + CHECKSUM_BYTES);
                let Some(mut mapped) = begun else { continue };
                assert!(mapped.push(scope, 1, &record), "a run is for its first record at least");
                live.push((signal, mapped, vec![record]));
            }
            Step::Push(run, bytes) if !live.is_empty() => {
                let run = run % live.len();
                let (signal, mapped, records) = &mut live[run];
                let record = record(bytes);
                if mapped.push(scope(*signal), 1, &record) {
                    records.push(record);
                }
            }
            Step::End(run) if !live.is_empty() => drop(live.remove(run % live.len())),
            Step::Push(..) | Step::End(_) => {}
        }
    }
    (arena, live)
}

fn read(path: &std::path::Path) -> (Left, Vec<(Signal, Chunk)>) {
    let mut left = Left::read(File::open(path).unwrap()).unwrap();
    let chunks = std::iter::from_fn(|| left.next_chunk().unwrap()).collect();
    (left, chunks)
}

/// All records by signal, as they were found or as they should be.
fn found(chunks: &[(Signal, Chunk)]) -> BTreeMap<usize, Vec<Vec<u8>>> {
    let mut found = BTreeMap::<usize, Vec<Vec<u8>>>::new();
    for (signal, chunk) in chunks {
        found.entry(*signal as usize).or_default().extend(chunk.entries().map(|(_, _, record)| record.to_vec()));
    }
    found
}

proptest! {
    #[test]
    fn what_counts_is_found_and_nothing_else(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.chunks");
        let (_arena, live) = done(path.clone(), steps);
        let (left, chunks) = read(&path); // as if the process had ended here
        prop_assert_eq!((&left.resource[..], left.torn_bytes), (&b"resource"[..], 0));
        let mut expected = BTreeMap::<usize, Vec<Vec<u8>>>::new();
        live.iter().for_each(|(signal, _, records)| expected.entry(*signal as usize).or_default().extend_from_slice(records));
        prop_assert_eq!(found(&chunks), expected, "in the order in which runs were begun");
        for (_, chunk) in &chunks {
            for (id, _, record) in chunk.entries() {
                let number = u64::from_le_bytes(record[..8].try_into().unwrap());
                let scope = format!("::{}", number % 3);
                prop_assert!(id.scope().name().ends_with(&scope));
            }
        }
    }

    /// A disk, or a machine without power, that did not keep a byte.
    #[test]
    fn a_changed_byte_costs_records_and_never_gives_another(steps in steps(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.chunks");
        let (_arena, live) = done(path.clone(), steps);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let changed = folder.path().join("b.chunks");
        std::fs::write(&changed, bytes).unwrap();
        let Ok(mut left) = Left::read(File::open(&changed).unwrap()) else { return Ok(()) }; // its header
        let mut written: Vec<_> = live.iter().flat_map(|(_, _, records)| records).collect();
        while let Ok(Some((_, chunk))) = left.next_chunk() {
            for (_, _, record) in chunk.entries() {
                let known = written.iter().position(|known| *known == record);
                prop_assert!(known.is_some(), "byte {}: a record that nobody wrote, or twice", at);
                written.swap_remove(known.unwrap());
            }
        }
    }
}

#[test]
fn a_file_that_was_not_wholly_begun_has_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [0, 1, 15, 16, 4096, 100_000] {
        let path = folder.path().join("a.chunks");
        std::fs::write(&path, vec![0; bytes]).unwrap();
        assert!(read(&path).1.is_empty());
    }
}

#[test]
fn there_is_no_more_room_than_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let arena = Arc::new(Arena::create(folder.path().join("a.chunks"), 64 * 1024, b"").unwrap());
    let scope = ScopeId::of_target("mapped");
    let runs: Vec<_> = std::iter::from_fn(|| arena.begin(Signal::Logs, scope, 16 * 1024)).collect();
    assert_eq!(runs.len(), 4);
    drop(runs);
    assert!(arena.begin(Signal::Logs, scope, 64 * 1024).is_some());
    arena.end();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
