//! The file that is written at present.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;

use super::File;
use super::retention::Names;
use crate::encode::unix_nano;

/// How often a file is opened that another process renames at the same time (10).
const ATTEMPTS_MAX: usize = 10;

pub(super) struct Current {
    file: fs::File,
    path: PathBuf,
    bytes: u64,
    changed_unix_nano: u64,
    /// Whether the last line was cut off.
    is_torn: bool,
}

impl Current {
    /// Opens the file, or makes it.
    pub(super) fn open(file: &File) -> io::Result<Self> {
        for _ in 0..ATTEMPTS_MAX {
            let path = if file.is_symlink { linked(file)? } else { file.path.clone() };
            let current = Self::open_at(path, file)?;
            if current.is_still_there(file) {
                return Ok(current);
            }
        }
        Err(io::Error::other("others rename it again and again"))
    }

    fn open_at(path: PathBuf, file: &File) -> io::Result<Self> {
        make_folder(&path)?;
        let mut options = OpenOptions::new();
        options.append(true).create(true).custom_flags(OFlags::NONBLOCK.bits() as i32); // a named pipe would wait for a reader
        if let Some(mode) = file.mode {
            options.mode(mode);
        }
        let open =
            options.open(&path).map_err(|error| match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
                true => {
                    io::Error::other("it is a named pipe that nobody reads; start its reader first, or name a file")
                }
                false => error,
            })?;
        fcntl_setfl(&open, fcntl_getfl(&open)? - OFlags::NONBLOCK)?;
        let metadata = open.metadata()?;
        let changed_unix_nano = unix_nano(metadata.modified().unwrap_or_else(|_| SystemTime::now()));
        let is_torn = false;
        Ok(Self { file: open, path, bytes: metadata.len(), changed_unix_nano, is_torn })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn changed_unix_nano(&self) -> u64 {
        self.changed_unix_nano
    }

    /// Whether the file's name is still that of this file.
    pub(super) fn is_still_there(&self, file: &File) -> bool {
        let here = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (fs::metadata(&file.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => here(named) == here(open),
            _ => false,
        }
    }

    /// Looks how long it is by now; true if that is more than was written here, so that another process writes it, too.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        let ours = std::mem::replace(&mut self.bytes, self.file.metadata()?.len());
        Ok(self.bytes > ours)
    }

    /// Appends lines, in one piece where the file system does.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let ended = self.is_torn.then(|| [b"\n", lines].concat());
        let mut rest = ended.as_deref().unwrap_or(lines);
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.bytes += written as u64;
                    self.is_torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.is_torn = false;
        Ok(())
    }

    /// Takes the place of the file with a new one, and what was written keeps, or gets, a name with a time; false if another process is doing so, or has done it.
    pub(super) fn rotate(&mut self, file: &File, now: u64) -> io::Result<bool> {
        let is_locked = flock(&self.file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK);
        if !is_locked || !self.is_still_there(file) {
            return Ok(false);
        }
        let begun = self.begin_next(file, now);
        if begun.is_err() {
            let _ = flock(&self.file, FlockOperation::Unlock); // another may have more luck; else the lock ends with the file
        }
        begun.map(|()| true)
    }

    fn begin_next(&mut self, file: &File, now: u64) -> io::Result<()> {
        let names = Names::new(&file.path);
        let next = if file.is_symlink {
            let path = names.free(now)?;
            let next = Self::open_at(path, file)?;
            link(file, &next.path)?;
            next
        } else {
            fs::rename(&file.path, names.free(now)?)?;
            Self::open(file)?
        };
        *self = Self { changed_unix_nano: now, ..next };
        Ok(())
    }
}

/// Makes the folder that a file is to be in.
fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|error| {
        match folder.ancestors().find(|above| above.exists() && !above.is_dir()) {
            Some(file) => io::Error::new(io::ErrorKind::NotADirectory, format!("`{}` is no folder", file.display())),
            None => error,
        }
    })
}

/// What the link points to; a new file, and the link to it, if there is none.
fn linked(file: &File) -> io::Result<PathBuf> {
    match fs::symlink_metadata(&file.path) {
        Ok(metadata) if !metadata.is_symlink() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is a file, where a link is to be"));
        }
        Ok(_) => {
            if let Ok(path) = fs::canonicalize(&file.path) {
                return Ok(path);
            }
        }
        Err(_) => {}
    }
    make_folder(&file.path)?;
    let path = Names::new(&file.path).free(unix_nano(SystemTime::now()))?;
    Current::open_at(path.clone(), file)?;
    link(file, &path)?;
    Ok(path)
}

/// Lets the link point to the file, from one moment to the next.
fn link(file: &File, path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut temporary = file.path.clone().into_os_string();
    temporary.push(format!(".{}.link", std::process::id()));
    let _ = fs::remove_file(&temporary); // of a process that ended between these lines
    symlink(name, &temporary)?;
    fs::rename(&temporary, &file.path)
}
