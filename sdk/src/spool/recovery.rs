//! Makes files of the spool of what killed processes have left in their [mapped](crate::mapped) ones.
//!
//! The new file is written under another name and then takes the place of the mapped one, in one step: whenever this is broken off, the next process finds
//! either the one or the other. Only then it gets the name of a file of the spool.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::segment::{self, Entry, Segment, open_left};
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
        let filled = fill(segment, Left::read(file.try_clone()?)?, path);
        match filled.inspect_err(|_| drop(fs::remove_file(&unfinished)))? {
            0 => return fs::remove_file(&unfinished).and_then(|()| fs::remove_file(path)),
            _ => fs::rename(&unfinished, path)?,
        }
    }
    fs::rename(path, new_path(folder, SPOOL))
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
