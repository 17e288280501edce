//! SIGHUP, by which `logrotate` asks for files to be opened anew.

// The standard library handles no signals.
#![allow(unsafe_code)]

use std::sync::Once;

/// Keeps SIGHUP from ending the process. A handler that is there already stays.
pub(super) fn let_pass() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // SAFETY: the structures are plain, and all zeros are a valid value of them; the handler does nothing, which is safe at any time. It is not
        // `SIG_IGN`, since programs that the process starts would inherit that.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            let is_known = libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut before) == 0;
            if is_known && before.sa_sigaction == libc::SIG_DFL {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(libc::SIGHUP, &raw const action, std::ptr::null_mut());
            }
        }
    });
}

extern "C" fn nothing(_: libc::c_int) {}
