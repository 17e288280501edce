//! Records in files: rotation by size and by time, retention, compression, and the company of other processes.
//!
//! ```
//! use std::time::Duration;
//! use watchbell::sink::Sink;
//! use watchbell::sink::file::{Compression, File, Rotation, Zone};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("checkout.log");
//! let file = File::new(&path)
//!     .rotate_at_bytes(100 << 20)
//!     .rotate(Rotation::Daily { hour: 3, minute: 30 }, Zone::Named("Europe/Berlin".to_owned()))
//!     .compress(Compression::Gzip)
//!     .keep_files(30)
//!     .keep_age(Duration::from_secs(90 * 24 * 60 * 60))
//!     .keep_bytes(10 << 30);
//! let guard = watchbell::builder().sink(Sink::file(file)).init()?;
//! # drop(guard.shutdown(std::time::Duration::from_secs(5)));
//! # assert!(path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Names
//!
//! Records are in the file of the name that was given, and a rotation gives what was there the time of the rotation: `checkout.log`,
//! `checkout.20261124T033000Z.log`, `checkout.20261124T033000Z.2.log` of the same second, `.gz` or `.zst` where it is compressed. With [`File::symlink`] it is the other
//! way around: the name that was given is a link to the current file, which has the time of its start in its name, and nothing is renamed.
//!
//! # Other processes
//!
//! - **`logrotate`** and whoever else renames or removes the file: with the next records a new one is made under the old name. `copytruncate` works, too.
//!   One that signals SIGHUP needs [`File::heed_sighup`], since a process without a handler for it ends.
//! - **Two processes on one path**: both append whole lines, as far as the file system appends in one piece (local ones do), so that none is torn.
//!   Whichever finds the file long or old enough rotates it, under a lock, and the others go on with the new one. The file may grow over its bound by what
//!   each writes at a time.
//! - **A full disk** loses the records that do not fit, and they are counted; a line that was cut off is ended before the next begins.

mod hangup;
mod open;
mod retention;
mod schedule;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Record;
use super::format::Formatter;
use super::output::{LINES_BYTES, Output};
use open::Current;
use retention::Keeper;
use schedule::Schedule;
pub use schedule::{Rotation, Zone};

/// A file with all that is to happen to it; the [module](self) has an example.
///
/// ```
/// use watchbell::sink::file::File;
/// use watchbell::sink::Sink;
///
/// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20).keep_files(5);
/// let builder = watchbell::builder().sink(Sink::file(file));
/// ```
#[derive(Clone, Debug)]
pub struct File {
    pub(super) path: PathBuf,
    bytes_max: Option<u64>,
    rotation: Option<(Rotation, Zone)>,
    compression: Compression,
    keep: Keep,
    is_symlink: bool,
    mode: Option<u32>,
    heeds_sighup: bool,
}

/// How rotated files are compressed, in a thread of its own.
///
/// ```
/// use watchbell::sink::file::{Compression, File};
///
/// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20).compress(Compression::Gzip);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// They stay as they are.
    #[default]
    None,
    /// By gzip, `.gz`.
    #[cfg(feature = "gzip")]
    Gzip,
    /// By zstd, `.zst`.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// Which rotated files are kept.
#[derive(Clone, Copy, Debug, Default)]
struct Keep {
    files: Option<usize>,
    age: Option<Duration>,
    bytes: Option<u64>,
}

impl File {
    /// A file that grows for ever. Its folder is made if it is not there.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log");
    /// ```
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            bytes_max: None,
            rotation: None,
            compression: Compression::None,
            keep: Keep::default(),
            is_symlink: false,
            mode: None,
            heeds_sighup: false,
        }
    }

    /// Rotates before the file grows over so many bytes; a line that is longer has a file of its own.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20);
    /// ```
    pub fn rotate_at_bytes(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// Rotates at these times, with the first record from then on; also a file that an earlier process left from before.
    ///
    /// ```
    /// use watchbell::sink::file::{File, Rotation, Zone};
    ///
    /// let file = File::new("/var/log/checkout.log").rotate(Rotation::Daily { hour: 0, minute: 0 }, Zone::Local);
    /// ```
    pub fn rotate(mut self, rotation: Rotation, zone: Zone) -> Self {
        self.rotation = Some((rotation, zone));
        self
    }

    /// Compresses rotated files, in the background. What the process's end breaks off is taken up by the next process.
    ///
    /// ```
    /// use watchbell::sink::file::{Compression, File};
    ///
    /// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20).compress(Compression::Gzip);
    /// ```
    pub fn compress(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Keeps at most so many rotated files; the oldest are removed.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20).keep_files(5);
    /// ```
    pub fn keep_files(mut self, files: usize) -> Self {
        self.keep.files = Some(files);
        self
    }

    /// Removes rotated files that were last written longer ago. It is looked for them when a file is opened or rotated, and with the first record after an hour: a
    /// service that says nothing is not woken for it.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20).keep_age(std::time::Duration::from_secs(14 * 86_400));
    /// ```
    pub fn keep_age(mut self, age: Duration) -> Self {
        self.keep.age = Some(age);
        self
    }

    /// Keeps at most so many bytes of rotated files; the oldest are removed.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log").rotate_at_bytes(100 << 20).keep_bytes(1 << 30);
    /// ```
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep.bytes = Some(bytes);
        self
    }

    /// Makes the path a symbolic link to the current file, which has the time of its start in its name.
    ///
    /// ```
    /// # use watchbell::sink::file::File;
    /// let file = File::new("/var/log/checkout.log").symlink(); // -> checkout.20261124T123456Z.log
    /// ```
    pub fn symlink(mut self) -> Self {
        self.is_symlink = true;
        self
    }

    /// The permissions of new files, `0o640`; what the process's umask leaves of `0o666` if nothing is said.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log").mode(0o640);
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Lets SIGHUP pass, which would end the process, unless the service handles it already: with the next records the file is opened anew if it was
    /// renamed, with or without a signal.
    ///
    /// ```
    /// use watchbell::sink::file::File;
    ///
    /// let file = File::new("/var/log/checkout.log").heed_sighup();
    /// ```
    pub fn heed_sighup(mut self) -> Self {
        self.heeds_sighup = true;
        self
    }
}

impl<P: AsRef<Path>> From<P> for File {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

/// The file, open.
pub(super) struct Rolling {
    file: File,
    formatter: Formatter,
    schedule: Option<Schedule>,
    current: Option<Current>,
    keeper: Keeper,
    lines: String,
    /// The line of the record that is about to be taken.
    line: String,
    /// Whether a rotation comes before it.
    is_rotation_due: bool,
    is_told_to_be_shared: bool,
}

impl Rolling {
    pub(super) fn open(file: File, formatter: Formatter) -> Result<Self, String> {
        let path = file.path.display().to_string();
        if file.heeds_sighup {
            hangup::let_pass();
        }
        let schedule = file.rotation.clone().map(|(rotation, zone)| Schedule::new(rotation, zone)).transpose()?;
        let current = Current::open(&file).map_err(|error| format!("cannot open `{path}`: {error}"))?;
        let keeper = Keeper::new(&file);
        let (lines, line) = (String::new(), String::new());
        let mut this = Self {
            file,
            formatter,
            schedule,
            current: None,
            keeper,
            lines,
            line,
            is_rotation_due: false,
            is_told_to_be_shared: false,
        };
        this.keeper.begin(&this.file);
        this.take_up(current);
        this.rotate_what_is_old();
        Ok(this)
    }

    /// Goes on with a file; its next rotation is counted from its last change.
    fn take_up(&mut self, current: Current) {
        if let Some(schedule) = &mut self.schedule {
            schedule.begin(current.changed_unix_nano());
        }
        self.keeper.tidy(&self.file, Instant::now());
        self.current = Some(current);
    }

    /// A file that an earlier process left.
    fn rotate_what_is_old(&mut self) {
        if self.schedule.as_ref().is_some_and(|schedule| schedule.is_due(now())) {
            self.rotate();
        }
    }

    /// Whether the line is for a new file, by its size or by the time of its record.
    fn is_due(&self, time: u64) -> bool {
        let is_due = |time| self.schedule.as_ref().is_some_and(|schedule| schedule.is_due(time));
        let is_due = is_due(time) && is_due(now()); // a record's own time may be far in the future
        let before = self.current.as_ref().map_or(0, Current::bytes) + self.lines.len() as u64;
        let is_over = |max: u64| before > 0 && before + self.line.len() as u64 > max;
        is_due || self.file.bytes_max.is_some_and(is_over)
    }

    /// Gives what was written a name of its own and begins anew, if there is anything and no other process has done that.
    fn rotate(&mut self) {
        let is_open = self.open_current().is_ok(); // an error is told with the next records
        let now = now();
        if !is_open || !self.is_due(now) {
            return;
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.begin(now);
        }
        let Some(current) = self.current.as_mut().filter(|current| current.bytes() > 0) else { return };
        match current.rotate(&self.file, now) {
            Ok(true) => self.keeper.tidy(&self.file, Instant::now()),
            Ok(false) => {} // the new one is taken up with the next records
            Err(error) => {
                crate::tell::error(format_args!("cannot rotate `{}`, it grows on: {error}", self.file.path.display()));
            }
        }
    }

    /// Opens the file anew where its name is another's by now.
    fn open_current(&mut self) -> io::Result<()> {
        match self.current.take().filter(|current| current.is_still_there(&self.file)) {
            Some(current) => self.current = Some(current),
            None => {
                let current = Current::open(&self.file)?;
                self.take_up(current);
            }
        }
        let is_shared = self.current.as_mut().map_or(Ok(false), Current::look)?;
        if is_shared && !std::mem::replace(&mut self.is_told_to_be_shared, true) {
            crate::tell::warn(format_args!(
                "another process writes `{}`, too: each line is whole, and one of them rotates it; a file for each is easier to read",
                self.file.path.display()
            ));
        }
        Ok(())
    }
}

fn now() -> u64 {
    crate::encode::unix_nano(std::time::SystemTime::now())
}

impl Output for Rolling {
    fn prepare(&mut self, record: &Record<'_>) -> bool {
        self.line.clear();
        self.formatter.put_line(&mut self.line, record);
        self.is_rotation_due = self.is_due(record.time_unix_nano());
        self.is_rotation_due
    }

    fn write(&mut self, _: &Record<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.is_rotation_due) {
            self.rotate();
        }
        self.lines.push_str(&self.line);
        self.line.shrink_to(LINES_BYTES);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= LINES_BYTES
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.lines);
        let opened = self.open_current();
        let written = opened.and_then(|()| match &mut self.current {
            Some(current) => current.append(lines.as_bytes()),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        lines.clear();
        lines.shrink_to(LINES_BYTES);
        self.lines = lines;
        self.keeper.tidy_now_and_then(&self.file, Instant::now());
        written
    }
}
