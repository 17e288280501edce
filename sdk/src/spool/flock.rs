//! Whether another process uses a file.

// `File::try_lock` came with Rust 1.89, and the standard library has had no other lock.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// Locks the file until it is closed; false if another has it. A crash closes it.
#[cfg(unix)]
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    // SAFETY: takes the number of a file that is open as long as it is borrowed, and touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Gives the lock back before the file is closed: a mapping keeps it open.
#[cfg(unix)]
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // SAFETY: as above.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Without a lock there is no spool.
#[cfg(not(unix))]
pub(crate) fn try_lock(_: &File) -> io::Result<bool> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a spool needs Unix's file locks"))
}

#[cfg(not(unix))]
pub(crate) fn unlock(_: &File) -> io::Result<()> {
    Ok(())
}
