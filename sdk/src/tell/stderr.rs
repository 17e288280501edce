//! Lines to stderr that hold nobody up: the export must not wait for a pipe that nobody reads.

// The standard library cannot ask whether a file takes bytes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Writes as much of a line as stderr takes. Not by `std::io::stderr`: whoever waits for a reader there holds its lock.
pub(super) fn write(line: &[u8]) -> io::Result<()> {
    let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    for piece in line.chunks(libc::PIPE_BUF) {
        if !is_ready(&stderr) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        stderr.write_all(piece)?; // a pipe that is ready takes as much at once
    }
    Ok(())
}

/// How long it is waited for (100 ms), once: until it takes something again it is only asked.
const TIMEOUT: Duration = Duration::from_millis(100);

fn is_ready(stderr: &File) -> bool {
    static IS_STUCK: AtomicBool = AtomicBool::new(false);
    let timeout = if IS_STUCK.load(Ordering::Relaxed) { Duration::ZERO } else { TIMEOUT };
    let mut asked = libc::pollfd { fd: stderr.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: it is one such structure, borrowed for the call.
    let is_ready = unsafe { libc::poll(&raw mut asked, 1, timeout.as_millis() as libc::c_int) } > 0;
    IS_STUCK.store(!is_ready, Ordering::Relaxed);
    is_ready
}
