//! One process a data directory.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A data directory that is ours as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory could not be had.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process has it, with that process id if it left one.
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        process: String,
    },
    /// It cannot be made or written to.
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl DataDir {
    /// Makes the directory where it is not there, and takes it for this process; it is free again when the process ends, however it does.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io_error = |error| DataDirError::Io { path: path.to_owned(), error };
        super::make_folder(path).map_err(io_error)?;
        let file = path.join("lock");
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(io_error)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut process = String::new();
                lock.read_to_string(&mut process).map_err(io_error)?;
                return Err(DataDirError::InUse { path: path.to_owned(), process });
            }
            Err(error) => return Err(io_error(error.into())),
        }
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(io_error)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, process } => write!(
                f,
                "data directory `{}` is used by another watchbell (process {process}): stop that one or set another `data_dir`",
                path.display()
            ),
            Self::Io { path, error } => write!(f, "data directory `{}` cannot be used: {error}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InUse { .. } => None,
            Self::Io { error, .. } => Some(error),
        }
    }
}
