//! Whatever is done to the files that a killed process left, the next one finds nothing in them that was not written.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;

const REQUESTS: [&[u8]; 4] = [b"first", b"", b"a third request, which is longer", b"last"];
/// `time_unix_nano` is 1, 2, 3.
const RECORDS: [&[u8]; 3] = [&[9, 1, 0, 0, 0, 0, 0, 0, 0], &[9, 2, 0, 0, 0, 0, 0, 0, 0], &[9, 3, 0, 0, 0, 0, 0, 0, 0]];

/// The files by their place in the folder, as they were left.
static LEFT: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    watchbell::fuzzing::be_silent();
    let folder = folder();
    watchbell::fuzzing::leave_behind(folder.path(), &REQUESTS, &RECORDS);
    let service = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let files = fs::read_dir(service).unwrap().map(|file| file.unwrap().path());
    let left = |file: PathBuf| (file.strip_prefix(folder.path()).unwrap().to_owned(), fs::read(&file).unwrap());
    let mut left: Vec<_> = files.map(left).collect();
    left.sort_by_key(|(_, bytes)| bytes.len()); // the spool's own, the mapped one
    let [spool, mapped] = &left[..] else { panic!("two files") };
    assert!(spool.1.len() < 1024 && mapped.1.len() > 16 * 1024);
    assert_eq!(read(folder.path()), (4, 3), "all of it, if nothing is done");
    left
});

// Each four bytes: a file and what is done to it, an offset, a mask or a length.
fuzz_target!(|damage: &[u8]| {
    let mut files: Vec<_> = LEFT.iter().cloned().collect();
    for change in damage.chunks_exact(4) {
        let bytes = &mut files[usize::from(change[0] & 1)].1;
        let at = usize::from(u16::from_le_bytes([change[1], change[2]]));
        match change[0] >> 1 & 3 {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(&change[1..]),
            2 if at < bytes.len() => {
                let from = usize::from(change[3]).min(bytes.len());
                let moved = bytes[from..].iter().copied().take(32).collect::<Vec<_>>();
                let end = (at + moved.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&moved[..end - at]);
            }
            _ if at < bytes.len() => bytes[at] ^= change[3],
            _ => {}
        }
    }
    let folder = folder();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    read(folder.path());
});

/// How many requests and recovered records there are; panics if one was not written.
fn read(folder: &Path) -> (usize, usize) {
    let (mut requests, mut records) = (0, 0);
    for found in watchbell::fuzzing::found(folder) {
        if REQUESTS.contains(&&found[..]) {
            requests += 1;
            continue;
        }
        let recovered = ExportLogsServiceRequest::decode(&found[..]).expect("a request");
        let scopes = recovered.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        for record in scopes.flat_map(|scope| &scope.log_records) {
            assert!(RECORDS.contains(&&record.encode_to_vec()[..]), "{record:?}");
            records += 1;
        }
    }
    (requests, records)
}

/// In memory, where there is such a place.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
