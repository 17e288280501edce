//! Levels by signals: SIGUSR1 for more, SIGUSR2 for what was set at the start.

// The standard library handles no signals.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use super::{End, Shared};
use crate::tell;

/// Starts the thread that changes the levels, and sets the handlers.
pub(super) fn start(levels: &Arc<Shared>) -> io::Result<()> {
    let (told, tell) = UnixStream::pair()?;
    tell.set_nonblocking(true)?; // a handler never waits; a signal that does not fit into the socket is one of very many
    let (levels, end) = (Arc::downgrade(levels), Arc::clone(&levels.end));
    thread::Builder::new().name("watchbell-levels".to_owned()).spawn(move || follow(told, &levels, &end))?;
    TELL.store(tell.into_raw_fd(), Ordering::Relaxed); // open as long as the process lives, as the handlers are there
    [libc::SIGUSR1, libc::SIGUSR2].into_iter().try_for_each(handle)
}

/// Where the handlers write.
static TELL: AtomicI32 = AtomicI32::new(-1);

/// Has the thread look whether it is to end.
pub(super) fn wake() {
    on_signal(0);
}

/// Changes the levels with each signal that is told, until the end.
fn follow(mut told: UnixStream, levels: &Weak<Shared>, end: &End) {
    let mut signal = [0];
    while told.read_exact(&mut signal).is_ok()
        && !end.is_ended()
        && let Some(levels) = levels.upgrade()
    {
        match libc::c_int::from(signal[0]) {
            0 => continue,
            libc::SIGUSR1 => levels.change(|state| state.base.raise()),
            _ => levels.change(|state| state.base = levels.initial.clone()),
        }
        let state = levels.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        tell::info(format_args!("the levels are `{}`, by a signal", state.base));
    }
    std::mem::forget(told); // the handlers stay, and would find nobody at the other end
}

/// Sets a handler where none is.
fn handle(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the structures are plain, and all zeros are a valid value of them; the handler does nothing that is not safe at any time.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &raw mut before) != 0 {
            return Err(io::Error::last_os_error());
        }
        if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != on_signal as HandlerFn as usize {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the service has a handler for the signal itself",
            ));
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as HandlerFn as usize;
        action.sa_flags = libc::SA_RESTART;
        match libc::sigaction(signal, &raw const action, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

type HandlerFn = extern "C" fn(libc::c_int);

/// Writes the signal's number, which is all that a handler may do, and leaves `errno` as it was.
extern "C" fn on_signal(signal: libc::c_int) {
    let socket: RawFd = TELL.load(Ordering::Relaxed);
    let byte = signal as u8;
    // SAFETY: `write` is safe in a handler; the byte outlives the call, and `errno` is this thread's own.
    unsafe {
        let errno = errno();
        let before = *errno;
        let _ = libc::write(socket, (&raw const byte).cast(), 1); // nobody can be told here
        *errno = before;
    }
}

#[cfg(target_os = "linux")]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: it gives the place of this thread's own number, always.
    unsafe { libc::__errno_location() }
}

#[cfg(any(target_os = "macos", target_os = "freebsd"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: as above.
    unsafe { libc::__error() }
}
