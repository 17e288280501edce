//! Rotated files: their names, which of them are kept, and their compression.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime};

#[cfg(any(feature = "gzip", feature = "zstd"))]
use rustix::fs::{FlockOperation, flock};
#[cfg(any(feature = "gzip", feature = "zstd"))]
use rustix::io::Errno;

use super::{Compression, File, Keep};
use crate::sink::format::Utc;
use crate::tell;

/// How long a file is left alone after a rotation, and after it was written (1 s): another process may be about to append to it, or to begin with it.
const COMPRESSION_DELAY: Duration = Duration::from_secs(1);

/// How long after it was looked for rotated files that need not be kept it is looked again, with the next record (1 h).
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Most bytes of rotated files that are compressed as a file is opened (1 MiB), for processes that end before the thread has done so; the rest is left to that.
const LEFT_OVER_BYTES_MAX: u64 = 1024 * 1024;

/// The names of a file's rotated ones: `checkout.20261124T033000Z.log`.
pub(super) struct Names {
    folder: PathBuf,
    stem: String,
    /// With its point, or empty.
    extension: String,
}

/// A rotated file, in the order of time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rotated {
    time: String,
    number: u64,
    path: PathBuf,
    is_compressed: bool,
}

impl Names {
    pub(super) fn new(path: &Path) -> Self {
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { folder: folder.to_owned(), stem: text(path.file_stem()), extension: extension.unwrap_or_default() }
    }

    /// A name of that time that is not taken.
    pub(super) fn free(&self, now: u64) -> io::Result<PathBuf> {
        let time: String = Utc { nanos: now, digits: 0 }.to_string().replace(['-', ':', '.'], "");
        let Self { folder, stem, extension } = self;
        let taken: Vec<_> = self.rotated()?.into_iter().filter(|rotated| rotated.time == time).collect();
        let number = taken.iter().map(|rotated| rotated.number).max().map_or(1, |last| last + 1);
        let number = if number == 1 { String::new() } else { format!(".{number}") };
        Ok(folder.join(format!("{stem}.{time}{number}{extension}")))
    }

    /// All that there are, the oldest first.
    fn rotated(&self) -> io::Result<Vec<Rotated>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            found.extend(path.file_name().and_then(OsStr::to_str).and_then(|name| self.parse(name, &path)));
        }
        found.sort();
        Ok(found)
    }

    fn parse(&self, name: &str, path: &Path) -> Option<Rotated> {
        let rest = name.strip_prefix(&self.stem)?.strip_prefix('.')?;
        let uncompressed = rest.strip_suffix(".gz").or_else(|| rest.strip_suffix(".zst"));
        let rest = uncompressed.unwrap_or(rest).strip_suffix(&self.extension)?;
        let (time, number) = rest.split_once('.').map_or((rest, Some(1)), |(time, number)| (time, number.parse().ok()));
        let is_time = time.len() == "20261124T033000Z".len()
            && time.bytes().enumerate().all(|(i, byte)| match i {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        let (time, path, is_compressed) = (time.to_owned(), path.to_owned(), uncompressed.is_some());
        is_time.then_some(Rotated { time, number: number?, path, is_compressed })
    }
}

/// Removes what is not to be kept at once, and compresses in a thread of its own.
pub(super) struct Keeper {
    requests: Option<Sender<()>>,
    asked: Instant,
}

impl Keeper {
    pub(super) fn new(file: &File) -> Self {
        let requests = (file.compression != Compression::None).then(|| start(file.clone())).flatten();
        Self { requests, asked: Instant::now() }
    }

    /// Takes up what processes have left that ended before they had compressed it, so far as that takes no time.
    pub(super) fn begin(&self, file: &File) {
        if self.requests.is_some() {
            let mut bytes_left = LEFT_OVER_BYTES_MAX;
            let is_soon_done = |metadata: &Metadata| match bytes_left.checked_sub(metadata.len()) {
                Some(left) if !is_fresh(metadata) => {
                    bytes_left = left;
                    true
                }
                _ => false,
            };
            told(file, compress_all(file, is_soon_done));
        }
    }

    /// Removes, and asks for the rest.
    pub(super) fn tidy(&mut self, file: &File, now: Instant) {
        self.asked = now;
        told(file, remove_superfluous(file));
        if let Some(requests) = &self.requests {
            let _ = requests.send(()); // the thread ends only after the keeper
        }
    }

    /// Does so where that is long ago: files grow old, too, where none is rotated.
    pub(super) fn tidy_now_and_then(&mut self, file: &File, now: Instant) {
        if now.saturating_duration_since(self.asked) >= INTERVAL {
            self.tidy(file, now);
        }
    }
}

fn told(file: &File, done: io::Result<()>) {
    if let Err(error) = done {
        tell::warn(format_args!("cannot tidy up behind `{}`: {error}", file.path.display()));
    }
}

fn start(file: File) -> Option<Sender<()>> {
    let (requests, received) = channel();
    let run = move || {
        while let Ok(()) = received.recv() {
            while let Ok(()) = received.try_recv() {} // before the wait: what is rotated meanwhile is for the next time
            std::thread::sleep(COMPRESSION_DELAY);
            // A file just begun may be one that another process is about to let the link point to.
            told(&file, compress_all(&file, |metadata| !is_fresh(metadata)));
            told(&file, remove_superfluous(&file));
        }
    };
    let thread = std::thread::Builder::new().name("watchbell-files".to_owned()).spawn(run);
    thread.map_err(|error| tell::warn(format_args!("rotated files are not tidied: {error}"))).ok()?;
    Some(requests)
}

fn is_fresh(metadata: &Metadata) -> bool {
    metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < COMPRESSION_DELAY))
}

/// Compresses the rotated files that are wanted, the oldest first. Another process may be doing the same.
fn compress_all(file: &File, mut is_wanted: impl FnMut(&Metadata) -> bool) -> io::Result<()> {
    for Rotated { path, .. } in rotated(file)?.iter().filter(|rotated| !rotated.is_compressed) {
        if fs::metadata(path).is_ok_and(|metadata| is_wanted(&metadata)) {
            compress(path, file.compression).or_else(unless_gone)?;
        }
    }
    Ok(())
}

fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn remove_superfluous(file: &File) -> io::Result<()> {
    let Keep { files, age, bytes } = file.keep;
    if files.is_none() && age.is_none() && bytes.is_none() {
        return Ok(());
    }
    for path in superfluous(&rotated(file)?, &file.keep, SystemTime::now()) {
        fs::remove_file(path).or_else(unless_gone)?;
        let _ = fs::remove_file(with(path, "tmp")); // there is one if a process ended as it compressed it
    }
    Ok(())
}

/// The rotated files but for the one that is written.
fn rotated(file: &File) -> io::Result<Vec<Rotated>> {
    let current = fs::canonicalize(&file.path).ok();
    let mut rotated = Names::new(&file.path).rotated()?;
    rotated.retain(|rotated| fs::canonicalize(&rotated.path).ok() != current);
    Ok(rotated)
}

/// The files that are not to be kept.
fn superfluous<'a>(rotated: &'a [Rotated], keep: &Keep, now: SystemTime) -> Vec<&'a Path> {
    let (mut files, mut bytes, mut found) = (0, 0, Vec::new());
    for Rotated { path, .. } in rotated.iter().rev() {
        let metadata = fs::metadata(path).ok();
        let age = metadata.as_ref().and_then(|metadata| now.duration_since(metadata.modified().ok()?).ok());
        files += 1;
        bytes += metadata.map_or(0, |metadata| metadata.len());
        let is_kept = keep.files.is_none_or(|max| files <= max)
            && keep.bytes.is_none_or(|max| bytes <= max)
            && keep.age.is_none_or(|max| age.is_none_or(|age| age <= max));
        if !is_kept {
            found.push(&**path);
        }
    }
    found
}

/// Makes the compressed file under another name, so that a half one never has the right name, and removes the original.
#[cfg_attr(not(any(feature = "gzip", feature = "zstd")), expect(unused_variables))]
fn compress(path: &Path, compression: Compression) -> io::Result<()> {
    match compression {
        Compression::None => Ok(()),
        #[cfg(feature = "gzip")]
        Compression::Gzip => in_place_of(path, "gz", |mut from, to| {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()
        }),
        #[cfg(feature = "zstd")]
        Compression::Zstd => in_place_of(path, "zst", |from, to| {
            zstd::stream::copy_encode(from, &to, 0)?;
            Ok(to)
        }),
    }
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn in_place_of(
    path: &Path,
    extension: &str,
    encode: impl FnOnce(fs::File, fs::File) -> io::Result<fs::File>,
) -> io::Result<()> {
    let (from, temporary) = (fs::File::open(path)?, with(path, "tmp"));
    let metadata = from.metadata()?;
    let is_locked = flock(&from, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK);
    if !is_locked || fs::metadata(path)?.ino() != metadata.ino() {
        return Ok(()); // another process compresses it, or has done so
    }
    let private = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let to = encode(from, private)?;
    to.set_permissions(metadata.permissions())?;
    to.set_modified(metadata.modified()?)?;
    fs::rename(temporary, with(path, extension))?;
    fs::remove_file(path)
}

/// The path with an extension behind all that it has.
fn with(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{extension}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its permissions come when it is whole.
    #[test]
    #[cfg(feature = "gzip")]
    fn what_is_half_compressed_is_for_nobody_else() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkout.20261124T123456Z.log");
        fs::write(&path, "order placed").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mode = |file: &fs::File| file.metadata().unwrap().permissions().mode() & 0o777;
        let encode = |_, to| {
            assert_eq!(mode(&to), 0o600);
            Ok(to)
        };
        in_place_of(&path, "gz", encode).unwrap();
        assert_eq!(mode(&fs::File::open(with(&path, "gz")).unwrap()), 0o640);
    }

    #[test]
    fn names_have_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkout.log");
        let names = Names::new(&path);
        let now = 1_795_523_696_000_000_000;
        let free = || names.free(now).unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(free(), "checkout.20261124T123456Z.log");
        fs::write(folder.path().join(free()), "1").unwrap();
        assert_eq!(free(), "checkout.20261124T123456Z.2.log");
        fs::write(folder.path().join("checkout.20261124T123456Z.10.log.gz"), "10").unwrap();
        assert_eq!(free(), "checkout.20261124T123456Z.11.log");
        for other in
            ["checkout.log", "checkout.20261124.log", "checkout.20261124T123456Z.log.tmp", "other.20261124T123456Z.log"]
        {
            fs::write(folder.path().join(other), "").unwrap();
        }
        let found: Vec<_> =
            names.rotated().unwrap().into_iter().map(|rotated| (rotated.number, rotated.is_compressed)).collect();
        assert_eq!(found, [(1, false), (10, true)]);
    }

    #[test]
    fn the_oldest_are_superfluous() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::new(&folder.path().join("a"));
        let now = SystemTime::now();
        for (day, days_old) in [(1, 3), (2, 2), (3, 1)] {
            let path = folder.path().join(format!("a.2026110{day}T000000Z"));
            fs::write(&path, "0123456789").unwrap();
            let modified = now - Duration::from_secs(days_old * 86_400);
            fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        }
        let rotated = names.rotated().unwrap();
        let left = |keep: Keep| 3 - superfluous(&rotated, &keep, now).len();
        assert_eq!(left(Keep::default()), 3);
        assert_eq!(left(Keep { files: Some(2), ..Keep::default() }), 2);
        assert_eq!(left(Keep { files: Some(0), ..Keep::default() }), 0);
        assert_eq!(left(Keep { bytes: Some(29), ..Keep::default() }), 2);
        assert_eq!(left(Keep { age: Some(Duration::from_secs(36 * 3600)), ..Keep::default() }), 1);
        let first = superfluous(&rotated, &Keep { files: Some(2), ..Keep::default() }, now);
        assert!(first[0].ends_with("a.20261101T000000Z"));
    }

    #[test]
    fn what_was_just_begun_is_not_fit_to_be_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let about = |modified: SystemTime| {
            let file = fs::File::create(folder.path().join("a.20261101T000000Z")).unwrap();
            file.set_modified(modified).unwrap();
            file.metadata().unwrap()
        };
        let hour = Duration::from_secs(3600);
        assert!(!is_fresh(&about(SystemTime::now() - COMPRESSION_DELAY)));
        assert!(
            !is_fresh(&about(SystemTime::now() + hour)),
            "a clock that was wrong is no reason to leave it for ever"
        );
        let (begun, metadata) = (Instant::now(), about(SystemTime::now()));
        assert!(is_fresh(&metadata) || begun.elapsed() >= COMPRESSION_DELAY);
    }

    #[test]
    fn files_grow_old_without_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("a.20261101T000000Z");
        let file = File::new(folder.path().join("a")).keep_age(Duration::ZERO);
        let mut keeper = Keeper::new(&file);
        fs::write(&old, "1").unwrap();
        let started = Instant::now();
        keeper.tidy_now_and_then(&file, started + INTERVAL / 2);
        assert!(old.exists());
        keeper.tidy_now_and_then(&file, started + 2 * INTERVAL);
        assert!(!old.exists());
    }
}
