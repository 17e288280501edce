//! Makes files of the spool of what killed processes have left in their [mapped](crate::mapped) ones.
//!
//! The new file is written under another name and then takes the place of the mapped one, in one step: whenever this is broken off, the next process finds
//! either the one or the other. Only then it gets the name of a file of the spool.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::segment::{self, DAMAGED, Entry, Segment, open_left};
use super::store::{SPOOL, files, ignore_not_found, new_path};
use crate::export::{Size, requests};
use crate::mapped::Left;
use crate::tell;

/// What a mapped file's name ends with.
pub(super) const MAPPED: &str = "chunks";

/// What the name of the file ends with that is to take its place.
const UNFINISHED: &str = "unfinished";

/// Bytes of a request's records (1 MiB).
const REQUEST_BYTES: usize = 1024 * 1024;

/// Recovers what it can; the first error, if there is one.
pub(super) fn recover(folder: &Path) -> io::Result<()> {
    let recovered = files(folder, MAPPED)?.into_iter().map(|(path, _)| recover_file(folder, &path));
    recovered.fold(Ok(()), Result::and)
}

fn recover_file(folder: &Path, path: &Path) -> io::Result<()> {
    let Some(mut file) = open_left(path)? else { return Ok(()) }; // whose it is lives, or another was quicker
    if !is_segment(&mut file)? {
        let unfinished = path.with_extension(UNFINISHED);
        fs::remove_file(&unfinished).or_else(ignore_not_found)?;
        let Some(segment) = Segment::create(unfinished.clone())? else { return Ok(()) };
        let left = match Left::read(file.try_clone()?) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return put_aside(path, &unfinished, &error),
            left => left?,
        };
        let filled = fill(segment, left, path);
        match filled.inspect_err(|_| drop(fs::remove_file(&unfinished)))? {
            0 => return fs::remove_file(&unfinished).and_then(|()| fs::remove_file(path)),
            _ => fs::rename(&unfinished, path)?,
        }
    }
    fs::rename(path, new_path(folder, SPOOL)).or_else(ignore_not_found) // another may have seen it by now, and done the same
}

fn put_aside(path: &Path, unfinished: &Path, error: &io::Error) -> io::Result<()> {
    tell::error(format_args!("`{}` is damaged, it is kept as `.{DAMAGED}`: {error}", path.display()));
    fs::remove_file(unfinished)?;
    fs::rename(path, path.with_extension(DAMAGED))
}

/// Whether an earlier recovery got so far.
fn is_segment(file: &mut File) -> io::Result<bool> {
    let mut begins = Vec::new();
    file.take(segment::MAGIC.len() as u64).read_to_end(&mut begins)?;
    Ok(begins == segment::MAGIC)
}

/// Writes requests of all records that are whole; how many these are.
fn fill(mut segment: Segment, mut left: Left, path: &Path) -> io::Result<u64> {
    let mut all = 0;
    let size = Size { bytes: REQUEST_BYTES, records: u64::MAX };
    let mut numbers = 0..;
    while let Some((signal, chunk)) = left.next_chunk()? {
        for (request, number) in requests(&left.resource, &[chunk], size, None).into_iter().zip(&mut numbers) {
            all += request.records;
            segment.append(&Entry { signal, records: request.records, number, body: request.body })?;
        }
    }
    if left.torn_bytes > 0 {
        let (path, bytes) = (path.display(), left.torn_bytes);
        tell::warn(format_args!(
            "`{path}` has records that are not whole: {bytes} bytes are lost, the others are sent"
        ));
    }
    Ok(all)
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::callsite::ScopeId;
    use crate::config::Signal;
    use crate::mapped::Arena;

    /// A mapped file with three records, as a process leaves it that is killed.
    fn leave_behind(folder: &Path) -> PathBuf {
        let (path, left) = (folder.join("lives"), folder.join("a.chunks"));
        let arena = Arc::new(Arena::create(path.clone(), 64 * 1024, b"").unwrap());
        let scope = ScopeId::of_target("test");
        let mut mapped = arena.begin(Signal::Logs, scope, 100).unwrap();
        (0..3).for_each(|_| assert!(mapped.push(scope, 1, b"record")));
        fs::copy(&path, &left).unwrap();
        arena.end();
        left
    }

    /// How many records wait in the files of a spool.
    fn recovered(folder: &Path) -> Vec<u64> {
        let adopted =
            files(folder, SPOOL).unwrap().into_iter().map(|(path, _)| Segment::adopt(&path).unwrap().unwrap().1);
        adopted.map(|heads| heads.iter().map(|head| head.records).sum()).collect()
    }

    #[test]
    fn a_recovery_that_was_broken_off_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        leave_behind(folder);
        fs::write(folder.join("a.unfinished"), "WBSPOOL1 and a beginning").unwrap(); // before it took the other's place
        recover(folder).unwrap();
        assert_eq!(recovered(folder), [3]);
        let [(path, _)] = &files(folder, SPOOL).unwrap()[..] else { panic!("one file") };
        fs::rename(path, folder.join("a.chunks")).unwrap(); // before it got its name
        recover(folder).unwrap();
        assert_eq!(recovered(folder), [3]);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_says_nonsense_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = leave_behind(folder.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes[8..16].fill(0xFF); // the number of units
        fs::write(&path, bytes).unwrap();
        recover(folder.path()).unwrap();
        assert_eq!(recovered(folder.path()), Vec::<u64>::new());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a.damaged"]);
    }
}
