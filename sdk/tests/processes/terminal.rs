//! The console on a terminal, a pseudo-terminal here.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

use super::child;

#[test]
fn levels_have_colours_on_a_terminal() {
    let text = console_of(&[]);
    assert!(text.contains("\x1b[32m") && text.contains("\x1b[1;31m"), "{text:?}");
    assert!(!text.contains("\x1b[2J"), "no record paints the screen itself: {text:?}");
}

/// <https://no-color.org>
#[test]
fn but_where_nobody_wants_them() {
    for variables in [[("NO_COLOR", "1")], [("WATCHBELL_SINKS", "stderr colors=false")]] {
        let text = console_of(&variables);
        assert!(text.contains("order placed") && !text.contains('\x1b'), "{variables:?}: {text:?}");
    }
}

#[test]
fn an_empty_no_color_is_none() {
    assert!(console_of(&[("NO_COLOR", "")]).contains("\x1b[32m"));
}

/// What a process that logs shows where its stderr is a terminal.
fn console_of(variables: &[(&str, &str)]) -> String {
    let (mut ours, theirs) = terminal();
    let mut command = child("console");
    command
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "console");
    let names_a_sink = variables.iter().any(|(name, _)| *name == "WATCHBELL_SINKS");
    if names_a_sink {
        command.env("OTEL_LOGS_EXPORTER", "none");
    }
    let mut process = command.envs(variables.iter().copied()).stderr(theirs).spawn().expect("this program");
    drop(command); // its end of the terminal
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = ours.read(&mut piece) {
        text.extend_from_slice(&piece[..read]);
    }
    assert!(process.wait().expect("its status").success());
    String::from_utf8(text).expect("text")
}

/// Both ends of a terminal.
#[expect(unsafe_code)] // the standard library makes none
fn terminal() -> (File, File) {
    let (mut ours, mut theirs) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: it writes the two numbers, and takes null for what it need not tell or set.
    let made = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, none, none.cast(), none.cast()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both are open, and nobody else's.
    unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) }
}
